// What the benchmarks `parts` of the crates share (included by path: the crates have no common place for it). Each
// part is a closure that does one unit of work, always the same.
//
//   cargo bench -p CRATE --bench parts            criterion: times
//   ... --count PART N                            does the unit N times and ends: for ci/bench-gate, which counts
//                                                 its instructions
//   ... --parts                                   their names

/// One part: its name, and what makes the closure.
pub struct Part(pub &'static str, pub fn() -> Box<dyn FnMut()>);

/// Does what the command line says.
pub fn main(parts: &[Part]) {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|a| a == "--parts") {
        parts.iter().for_each(|p| println!("{}", p.0));
        return;
    }
    if let Some(at) = args.iter().position(|a| a == "--count") {
        let name = args.get(at + 1).expect("--count PART N");
        let n: u64 = args
            .get(at + 2)
            .and_then(|n| n.parse().ok())
            .expect("--count PART N");
        let part = parts.iter().find(|p| p.0 == name).expect("a part of --parts");
        let mut work = part.1();
        for _ in 0..n {
            work();
        }
        return;
    }
    let mut c = criterion::Criterion::default().configure_from_args();
    for Part(name, make) in parts {
        let mut work = make();
        c.bench_function(name, |b| b.iter(&mut work));
    }
    c.final_summary();
}
