//! The image's own TCP/IP against the Linux kernel's as peer, in network namespaces: one trial per scenario of
//! `ci/wire/lab.py`. Needs no root: a user namespace of our own.
//!
//! `cargo test -p ftl-ci --test wire [FILTER]`. Environment: `FTVM_BIN`.

use std::process::{Command, ExitCode};
use std::time::Duration;

use ftl_ci::{bounded, place};
use libtest_mimic::{Arguments, Trial};

/// Name, arguments of lab.py, seconds that it may take, on the slowest machine that counts.
const SCENARIOS: &[(&str, &[&str], u64)] = &[
    ("conform/v4", &["conform", "4"], 400),
    ("conform/v6", &["conform", "6"], 400),
    // Seed; loss, repetition, late ones in parts of 1000; delay in us.
    (
        "conform/bad-link",
        &["conform-bad", "4", "5", "20", "20", "20", "200"],
        600,
    ),
    ("tap", &["tap"], 400),
    ("replay", &["replay"], 400),
    ("loss/clean", &["loss", "30000000", "1", "0", "0", "0", "0"], 400),
    ("loss/mild", &["loss", "20000000", "7", "5", "5", "5", "100"], 600),
    (
        "loss/heavy",
        &["loss", "3000000", "9", "30", "10", "20", "100"],
        600,
    ),
    ("idle", &["idle", "1000"], 400),
    ("load", &["load"], 400),
    ("flood", &["flood", "10000"], 400),
    ("stalled", &["stalled"], 400),
];

fn lab(args: &[&str], seconds: u64) -> Result<(), String> {
    let script = place::repository().join("ci/wire/lab.py");
    let mut c = Command::new("unshare");
    c.args(["-Urn", "/usr/bin/python3"]).arg(script).args(args);
    c.env("FTVM_BIN", place::ftvm()?);
    let done = bounded::run(c, None, Duration::from_secs(seconds)).map_err(|e| format!("unshare: {e}"))?;
    match done.code {
        0 if !done.timed_out => Ok(()),
        code if done.timed_out => Err(format!("not done in {seconds} s (code {code})\n{}", done.tail())),
        code => Err(format!("exit code {code}\n{}", done.tail())),
    }
}

/// A network namespace of our own with a veth pair in it can be had here.
fn possible() -> bool {
    let mut c = Command::new("unshare");
    c.args([
        "-Urn", "ip", "link", "add", "va", "type", "veth", "peer", "name", "vb",
    ]);
    c.output().is_ok_and(|o| o.status.success())
}

/// So can a TAP device.
fn tap_possible() -> bool {
    let mut c = Command::new("unshare");
    c.args(["-Urn", "ip", "tuntap", "add", "dev", "va", "mode", "tap"]);
    c.output().is_ok_and(|o| o.status.success())
}

fn main() -> ExitCode {
    if let Err(e) = place::shed_descriptors() {
        eprintln!("wire: cannot start without inherited descriptors: {e}");
        return ExitCode::FAILURE;
    }
    let mut args = Arguments::from_args();
    // They measure patience against real timers: one at a time.
    args.test_threads = Some(1);
    let there = possible();
    if !there {
        eprintln!(
            "wire: no network namespace can be made here (user namespaces are off, or iproute2 is missing): ignored"
        );
    }
    let tap = there && tap_possible();
    if there && !tap {
        eprintln!("wire: no TAP device can be made here (/dev/net/tun): run/wire/tap is ignored");
    }
    let trials = SCENARIOS
        .iter()
        .map(|(name, words, seconds)| {
            Trial::test(format!("run/wire/{name}"), || Ok(lab(words, *seconds)?))
                .with_ignored_flag(!there || *name == "tap" && !tap)
        })
        .collect();
    libtest_mimic::run(&args, trials).exit_code()
}
