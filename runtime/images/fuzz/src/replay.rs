//! Runs all properties over files: inputs that a fuzzer found, or any others. `--seeds DIR` writes inputs to start from, a directory
//! for each target.

use ftl_images_fuzz::{check, seeds};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, dir] = args.as_slice()
        && flag == "--seeds"
    {
        let layer = [&[0][..], &seeds::tar()].concat();
        for (target, seed) in [
            ("layer", layer),
            ("image", seeds::image()),
            ("archive", seeds::file()),
            ("config", seeds::CONFIG.into()),
        ] {
            let dir = format!("{dir}/{target}");
            std::fs::create_dir_all(&dir).unwrap_or_else(|why| panic!("{dir}: {why}"));
            std::fs::write(format!("{dir}/seed"), seed).unwrap_or_else(|why| panic!("{dir}: {why}"));
        }
        return;
    }
    for path in args {
        let data = std::fs::read(&path).unwrap_or_else(|why| panic!("{path}: {why}"));
        check::layer(&data);
        check::image(&data);
        check::archive(&data);
        check::config(&data);
        println!("{path}: ok");
    }
}
