//! Trials that are processes of their own: hosts in network namespaces do not share a process with a test runner.

use crate::place;
use std::process::Command;

/// Runs one: its output is the error.
pub fn run(mut trial: Command) -> Result<(), String> {
    if let Ok(ftvm) = place::ftvm() {
        trial.env("FTVM_BIN", ftvm);
    }
    let out = trial.output().map_err(|e| e.to_string())?;
    if out.status.success() {
        return Ok(());
    }
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Err(format!("{}\n{}", text(&out.stdout), text(&out.stderr)))
}

/// This host can have them, by the word of the `faults` program; if not, says that `what` are skipped and why.
pub fn are_possible(faults: &str, what: &str) -> bool {
    let probe = Command::new(faults).arg("--probe").output();
    let possible = probe.as_ref().is_ok_and(|o| o.status.success());
    if !possible {
        let why = probe.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        eprintln!("{what} are skipped: {}", why.unwrap_or_else(|e| e.to_string()));
    }
    possible
}
