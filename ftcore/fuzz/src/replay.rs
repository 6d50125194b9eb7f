//! Runs all properties over files: inputs that a fuzzer found, or any others. `--seeds DIR` writes inputs to start from.

use ftl_core::snap::{Snapshot, forge};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, dir] = args.as_slice()
        && flag == "--seeds"
    {
        let full = forge::sample(false, None);
        let root = *Snapshot::open(Box::new(full.clone())).expect("whole").root();
        for (name, file) in [
            ("full", full),
            ("packed", forge::sample(true, None)),
            ("change", forge::sample(false, Some(root))),
        ] {
            std::fs::write(format!("{dir}/{name}"), file).unwrap_or_else(|why| panic!("{dir}: {why}"));
        }
        return;
    }
    for path in args {
        let data = std::fs::read(&path).unwrap_or_else(|why| panic!("{path}: {why}"));
        ftl_core_fuzz::snapshot(&data);
        ftl_core_fuzz::chain(&data);
        ftl_core_fuzz::link::frames(&data);
        ftl_core_fuzz::link::machines(&data);
        println!("{path}: ok");
    }
}
