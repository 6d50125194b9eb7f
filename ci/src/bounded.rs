//! Runs a command in a process group of its own, with a hard limit on time and on output.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// Output beyond this is dropped; no test prints as much.
const OUTPUT_LIMIT: u64 = 8 << 20;
/// How long children that outlive the program may take to go away before they count as left behind: the host may be busy elsewhere.
const GRACE: Duration = Duration::from_secs(30);

/// How a run ended and what it said.
pub struct Outcome {
    /// Exit code; 128+n for death by signal n.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// The limit was hit and the group was killed.
    pub timed_out: bool,
    /// Processes of the group were still there after the program's end, and were killed.
    pub left_behind: bool,
}

impl Outcome {
    /// The end of both streams, for a failure's message.
    pub fn tail(&self) -> String {
        format!(
            "stdout ends:\n{}\nstderr ends:\n{}",
            tail(&self.stdout),
            tail(&self.stderr)
        )
    }
}

/// The last lines of `bytes`.
pub fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Runs `command` to its end, or kills its group after `limit`.
pub fn run(command: Command, stdin: Option<&str>, limit: Duration) -> io::Result<Outcome> {
    let stdin = match stdin {
        Some(text) => input(text)?.into(),
        None => Stdio::null(),
    };
    run_from(command, stdin, limit)
}

/// The reading end of a pipe with `text` in it.
pub fn input(text: &str) -> io::Result<io::PipeReader> {
    let (reader, mut writer) = io::pipe()?;
    let text = text.to_owned();
    thread::spawn(move || writer.write_all(text.as_bytes()));
    Ok(reader)
}

/// [`run`] with an input that others may read on from.
pub fn run_from(command: Command, stdin: Stdio, limit: Duration) -> io::Result<Outcome> {
    run_within(command, stdin, limit, GRACE)
}

fn run_within(mut command: Command, stdin: Stdio, limit: Duration, grace: Duration) -> io::Result<Outcome> {
    command
        .process_group(0)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // It holds ends of pipes that others wait for.
    drop(command);
    let group = Pid::from_child(&child);
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());

    let (status, timed_out) = wait_bounded(&mut child, group, limit)?;
    let left_behind = !timed_out && !group_gone(group, grace);
    if left_behind {
        let _ = kill_process_group(group, Signal::KILL);
    }
    Ok(Outcome {
        code: code(status),
        stdout: stdout.recv_timeout(GRACE).unwrap_or_default(),
        stderr: stderr.recv_timeout(GRACE).unwrap_or_default(),
        timed_out,
        left_behind,
    })
}

/// A command in a process group of its own that goes on while it is looked at.
pub struct Group {
    child: Child,
    pid: Pid,
}

impl Group {
    /// Starts it; its streams are the caller's choice.
    pub fn start(mut command: Command) -> io::Result<Group> {
        let child = command.process_group(0).spawn()?;
        let pid = Pid::from_child(&child);
        Ok(Group { child, pid })
    }

    /// Exit code, as in [`Outcome`], if it has ended.
    pub fn ended(&mut self) -> io::Result<Option<i32>> {
        Ok(self.child.try_wait()?.map(code))
    }

    /// Waits for its end. `None`: it took longer than `limit`, and the group was killed.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<i32>> {
        let (status, timed_out) = wait_bounded(&mut self.child, self.pid, limit)?;
        Ok((!timed_out).then(|| code(status)))
    }

    /// Kills all of it with SIGKILL and waits until nothing is left.
    pub fn kill(&mut self) -> io::Result<()> {
        let _ = kill_process_group(self.pid, Signal::KILL);
        self.child.wait()?;
        match group_gone(self.pid, GRACE) {
            true => Ok(()),
            false => Err(io::Error::other("processes that SIGKILL does not end")),
        }
    }

    /// Whether processes have outlived the first one, which has ended. They are killed.
    pub fn left_behind(&mut self) -> bool {
        let left = !group_gone(self.pid, GRACE);
        if left {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        left
    }
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Reads a pipe to its end on a thread of its own.
fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = (&mut pipe).take(OUTPUT_LIMIT).read_to_end(&mut all);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        let _ = send.send(all);
    });
    receive
}

fn wait_bounded(child: &mut Child, group: Pid, limit: Duration) -> io::Result<(ExitStatus, bool)> {
    let start = Instant::now();
    let mut nap = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        if start.elapsed() > limit {
            let _ = kill_process_group(group, Signal::KILL);
            return Ok((child.wait()?, true));
        }
        thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(10));
    }
}

fn group_gone(group: Pid, grace: Duration) -> bool {
    let start = Instant::now();
    while test_kill_process_group(group).is_ok() {
        if start.elapsed() > grace {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn tells_output_code_and_signal() {
        let done = run(sh("cat; echo err >&2; exit 3"), Some("in"), LONG).unwrap();
        assert_eq!(
            (done.code, done.stdout.as_slice(), done.stderr.as_slice()),
            (3, &b"in"[..], &b"err\n"[..])
        );
        assert!(!done.timed_out && !done.left_behind);
        assert_eq!(run(sh("kill -SEGV $$"), None, LONG).unwrap().code, 139);
    }

    #[test]
    fn a_hung_group_is_killed_whole() {
        let done = run(sh("sleep 100 & sleep 100"), None, Duration::from_millis(200)).unwrap();
        assert!(done.timed_out);
        assert_eq!(done.code, 137);
        // Its time begins to matter once it has both.
        let (reader, writer) = io::pipe().unwrap();
        let mut command = sh("sleep 100 & echo before; sleep 100; echo after");
        command.stdout(writer);
        let mut group = Group::start(command).unwrap();
        let mut said = [0; 7];
        (&reader).read_exact(&mut said).unwrap();
        assert_eq!(group.wait(Duration::from_millis(1)).unwrap(), None);
        let mut rest = Vec::new();
        (&reader).read_to_end(&mut rest).unwrap();
        // The end comes when nobody of the group has the pipe any more.
        assert_eq!((&said, rest.as_slice()), (b"before\n", &b""[..]));
    }

    #[test]
    fn what_stays_behind_is_seen_and_killed() {
        let script = sh("sleep 100 > /dev/null 2>&1 & echo started");
        let done = run_within(script, Stdio::null(), LONG, Duration::from_millis(300)).unwrap();
        assert!(done.left_behind);
        assert_eq!(done.code, 0);
    }
}
