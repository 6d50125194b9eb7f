//! Runs all properties over files: inputs that a fuzzer found, or any others.

use ftl_loader_fuzz::check;

fn main() {
    for path in std::env::args().skip(1) {
        let data = std::fs::read(&path).unwrap_or_else(|why| panic!("{path}: {why}"));
        check::elf(&data);
        check::script(&data);
        check::patch(&data);
        println!("{path}: ok");
    }
}
