//! Hooks of the specification: programs of the host that hear the container's state on their standard input.

use crate::Why;
use crate::log;
use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// So many bytes of what a hook says on its standard error are kept.
const KEPT: usize = 64 << 10;

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
    let bad = |e: io::Error| crate::state::reason(&e);
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
    let limit = hook
        .timeout()
        .filter(|t| *t > 0)
        .map(|t| Duration::from_secs(t as u64));
    let end = limit.map(|l| Instant::now() + l);
    let mut child = command.spawn().map_err(bad)?;
    let said = attend(&mut child, state.to_string().as_bytes(), end);
    if !matches!(said, Ok(Some(_))) {
        // One that has just ended cannot be killed.
        let _ = child.kill();
    }
    let status = child.wait().map_err(bad)?;
    match said.map_err(bad)? {
        None => Err(format!(
            "took longer than {} s",
            limit.unwrap_or_default().as_secs()
        )),
        Some(_) if status.success() => Ok(()),
        Some(said) => Err(format!("{status}: {}", String::from_utf8_lossy(&said).trim())),
    }
}

/// Gives a hook its input and hears its standard error until it ends: what it said, or `None` when `end` has come.
/// Nothing is waited for that the hook need not do: it may leave its input, and leave others with its standard error.
/// No threads: the waiting process of `create` is here too.
fn attend(child: &mut Child, mut text: &[u8], end: Option<Instant>) -> io::Result<Option<Vec<u8>>> {
    let process = rustix::process::Pid::from_child(child);
    let process = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())?;
    let (mut input, mut output) = (child.stdin.take(), child.stderr.take());
    // The flag is of our ends alone.
    input
        .as_ref()
        .map_or(Ok(()), |f| rustix::io::ioctl_fionbio(f, true))?;
    output
        .as_ref()
        .map_or(Ok(()), |f| rustix::io::ioctl_fionbio(f, true))?;
    let mut said = Vec::new();
    loop {
        let left = end.map(|e| e.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(None);
        }
        let mut fds = vec![PollFd::new(&process, PollFlags::IN)];
        fds.extend(output.as_ref().map(|f| PollFd::new(f, PollFlags::IN)));
        fds.extend(input.as_ref().map(|f| PollFd::new(f, PollFlags::OUT)));
        let left = left.and_then(|l| Timespec::try_from(l).ok());
        match poll(&mut fds, left.as_ref()) {
            Err(Errno::INTR) => continue,
            done => done?,
        };
        let ended = !fds[0].revents().is_empty();
        if let Some(mut file) = input.take() {
            match file.write(text) {
                Ok(n) => text = &text[n..],
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                // One that does not read it has its reasons.
                Err(_) => text = &[],
            }
            input = Some(file).filter(|_| !text.is_empty());
        }
        if let Some(file) = output.take() {
            output = hear(file, &mut said)?;
        }
        if ended {
            return Ok(Some(said));
        }
    }
}

/// Reads what is there, and no more than a pipe holds: more may come all the time. `None` at its end.
fn hear<F: Read>(mut file: F, said: &mut Vec<u8>) -> io::Result<Option<F>> {
    let mut buf = [0; 4096];
    for _ in 0..KEPT / buf.len() {
        match file.read(&mut buf) {
            Ok(0) => return Ok(None),
            Ok(n) => said.extend_from_slice(&buf[..n.min(KEPT - said.len())]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(script: &str, timeout: i64) -> Vec<Hook> {
        let hook = serde_json::json!({
            "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": timeout});
        vec![serde_json::from_value(hook).unwrap()]
    }

    /// More than a pipe holds.
    fn long() -> Value {
        serde_json::json!({"id": "one", "annotations": {"a": "x".repeat(300_000)}})
    }

    #[test]
    fn a_hook_need_not_read_its_input() {
        run("x", Some(&of("exec <&-; exit 0", 600)), &long(), None).unwrap();
        let why = run("x", Some(&of("exec sleep 600", 1)), &long(), None).unwrap_err();
        assert!(why.contains("longer than 1 s"), "{why}");
    }

    #[test]
    fn a_hook_reads_all_of_its_input() {
        let want = long().to_string().len();
        let script = format!("test $(wc -c) = {want}");
        run("x", Some(&of(&script, 0)), &long(), None).unwrap();
    }

    #[test]
    fn a_hook_may_say_more_than_a_pipe_holds() {
        let much = "head -c 1000000 /dev/zero | tr '\\0' e >&2";
        run("x", Some(&of(much, 600)), &Value::Null, None).unwrap();
        let why = run("x", Some(&of(&format!("{much}; exit 1"), 0)), &Value::Null, None).unwrap_err();
        assert!(why.len() > 60_000 && why.len() < 70_000, "{}", why.len());
    }

    #[test]
    fn a_hook_may_leave_a_daemon_with_its_standard_error() {
        let pid = std::env::temp_dir().join(format!("ftvm-oci-hook-{}", std::process::id()));
        let script = format!(
            "sleep 600 & echo $! > {}; echo last words >&2; exit 3",
            pid.display()
        );
        let why = run("x", Some(&of(&script, 0)), &Value::Null, None).unwrap_err();
        let daemon = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        std::fs::remove_file(&pid).unwrap();
        // Still there: nobody has waited for its end.
        rustix::process::kill_process(crate::state::pid(daemon).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        assert!(why.contains("last words"), "{why}");
    }
}
