//! A sample of the fault campaign: `SERVER/FAULT/N`, each with a seed of its own. One that fails is repeated by
//! `ci/faults --one SEED --server SERVER --fault FAULT`.
//!
//! `cargo test -p ftl-ci --test faults [FILTER]`. Environment: `FTVM_BIN`.

use ftl_ci::faults::Fault;
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::{Command, ExitCode};

const CAMPAIGN: &str = env!("CARGO_BIN_EXE_faults");

/// One trial in a process of its own.
fn trial(seed: u64, server: &str, fault: Fault) -> Result<(), Failed> {
    let mut c = Command::new(CAMPAIGN);
    c.args([
        "--one",
        &seed.to_string(),
        "--server",
        server,
        "--fault",
        fault.name(),
    ]);
    if let Ok(ftvm) = ftl_ci::place::ftvm() {
        c.env("FTVM_BIN", ftvm);
    }
    let out = c.output()?;
    if out.status.success() {
        return Ok(());
    }
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Err(format!("seed {seed}: {}\n{}", text(&out.stdout), text(&out.stderr)).into())
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Trials measure time: one after the other.
    args.test_threads = Some(1);
    let probe = Command::new(CAMPAIGN).arg("--probe").output();
    let possible = probe.as_ref().is_ok_and(|o| o.status.success());
    if !possible {
        let why = probe.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        eprintln!(
            "fault trials are skipped: {}",
            why.unwrap_or_else(|e| e.to_string())
        );
    }
    let servers = ["memcached", "redis"];
    let sample = Fault::ALL
        .into_iter()
        .enumerate()
        .map(|(n, f)| (servers[n % 2], f));
    // Images of several processes.
    let trees = ["nginx-workers", "postgres"].map(|s| (s, Fault::Kill));
    let trials = sample.chain(trees).enumerate().map(|(n, (server, fault))| {
        let seed = 0xf7 + n as u64;
        Trial::test(format!("{server}/{}/{n}", fault.name()), move || {
            trial(seed, server, fault)
        })
        .with_ignored_flag(!possible)
    });
    libtest_mimic::run(&args, trials.collect()).exit_code()
}
