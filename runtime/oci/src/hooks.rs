//! Hooks of the specification: programs of the host that hear the container's state on their standard input.

use crate::Why;
use crate::log;
use oci_spec::runtime::Hook;
use serde_json::Value;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs them in order; the first that fails ends it.
pub fn run(kind: &str, hooks: Option<&Vec<Hook>>, state: &Value, root: Option<&Path>) -> Result<(), Why> {
    for hook in hooks.into_iter().flatten() {
        one(hook, state, root).map_err(|why| format!("{kind} hook {}: {why}", hook.path().display()))?;
    }
    Ok(())
}

/// Runs them all; what fails is logged.
pub fn run_all(kind: &str, hooks: Option<&Vec<Hook>>, state: &Value) {
    for hook in hooks.into_iter().flatten() {
        if let Err(why) = one(hook, state, None) {
            log::warn(&format!("{kind} hook {}: {why}", hook.path().display()));
        }
    }
}

fn one(hook: &Hook, state: &Value, root: Option<&Path>) -> Result<(), Why> {
    let bad = |e: std::io::Error| crate::state::reason(&e);
    let mut command = match root {
        // In the container's root: by a second copy of ourselves, which enters it.
        Some(root) => {
            let mut c = Command::new("/proc/self/exe");
            c.arg("init").arg("--chroot").arg(root).arg("--").arg(hook.path());
            c
        }
        None => Command::new(hook.path()),
    };
    if let Some([name, rest @ ..]) = hook.args().as_deref() {
        if root.is_none() {
            command.arg0(name);
        }
        command.args(rest);
    }
    command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    for entry in hook.env().iter().flatten() {
        if let Some((k, v)) = entry.split_once('=') {
            command.env(k, v);
        }
    }
    let mut child = command.spawn().map_err(bad)?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read it has its reasons.
        let _ = input.write_all(state.to_string().as_bytes());
    }
    let limit = hook
        .timeout()
        .filter(|t| *t > 0)
        .map(|t| Duration::from_secs(t as u64));
    if let Some(limit) = limit {
        let end = Instant::now() + limit;
        while child.try_wait().map_err(bad)?.is_none() {
            if Instant::now() >= end {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("took longer than {} s", limit.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let out = child.wait_with_output().map_err(bad)?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{}: {}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        )),
    }
}
