//! A sample of the fault campaign: `SERVER/FAULT/N`, each with a seed of its own. One that fails is repeated by
//! `ci/faults --one SEED --server SERVER --fault FAULT`.
//!
//! `cargo test -p ftl-ci --test faults [FILTER]`. Environment: `FTVM_BIN`.

use ftl_ci::faults::{COMMITS, Fault};
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::{Command, ExitCode};

const CAMPAIGN: &str = env!("CARGO_BIN_EXE_faults");

/// One trial in a process of its own.
fn trial(seed: u64, server: &str, fault: Fault, commit: &str, strict: bool) -> Result<(), Failed> {
    let mut c = Command::new(CAMPAIGN);
    c.args([
        "--one",
        &seed.to_string(),
        "--server",
        server,
        "--fault",
        fault.name(),
        "--commit",
        commit,
    ]);
    if strict {
        c.arg("--strict");
    }
    ftl_ci::trials::run(c).map_err(|why| format!("seed {seed}: {why}").into())
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Trials measure time: one after the other.
    args.test_threads = Some(1);
    let possible = ftl_ci::trials::are_possible(CAMPAIGN, "fault trials");
    let servers = ["memcached", "redis"];
    // Minutes on a busy machine: `ci/test --full` only.
    let full = std::env::var_os("FTL_FULL").is_some();
    // One in three of the ways to the arbiter, which are much alike.
    let ways = Fault::ALL.into_iter().filter(|f| matches!(f, Fault::Way(_)));
    let ways: Vec<Fault> = ways.step_by(if full { 1 } else { 3 }).collect();
    let sample = Fault::ALL
        .into_iter()
        .filter(|f| full || *f != Fault::Idle)
        .filter(|f| !matches!(f, Fault::Way(_)) || ways.contains(f))
        .enumerate()
        .map(|(n, f)| (servers[n % 2], f));
    // Images of several processes, one that is a client itself, one that speaks by turns.
    let trees = ["nginx-workers", "postgres", "nginx-proxy", "websocket"].map(|s| (s, Fault::Kill));
    // Its backends write tens of MB between two looks, and both sides must hear each other meanwhile: a backup that takes over by
    // itself leaves nothing to hand over. On a machine that stands still now and then that shows nothing of ours.
    let much = [("postgres", Fault::Switchover)];
    let product = sample.chain(trees).chain(much).map(|(s, f)| (s, f, COMMITS[0]));
    let controls = COMMITS[1..].iter().map(|c| (servers[0], Fault::Kill, *c));
    let trials = product
        .chain(controls)
        .enumerate()
        .map(|(n, (server, fault, commit))| {
            let seed = 0xf7 + n as u64;
            let how = if commit == COMMITS[0] {
                String::new()
            } else {
                format!("-{commit}")
            };
            let name = format!("{server}/{}{how}/{n}", fault.name());
            let strict = full && fault == Fault::Switchover;
            Trial::test(name, move || trial(seed, server, fault, commit, strict)).with_ignored_flag(!possible)
        });
    libtest_mimic::run(&args, trials.collect()).exit_code()
}
