//! Health checks of a run (`--health-cmd`): a thread of the supervisor starts the command in the image now and then, as
//! `ftvm exec` would, and notes what came of it in the run's directory, where `ftvm ps` and `ftvm status` find it.
//!
//! States are podman's: `starting` until the first success, or the first failure behind the start period's end that makes
//! `retries` in a row; then `healthy` or `unhealthy`.

use ftl_core::door::ExecOrder;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// File in a run's directory.
const FILE: &str = "health.json";
/// Checks that are kept.
const KEPT: usize = 5;
/// Bytes of output that are kept of each.
const MOST_OUTPUT: usize = 500;

/// What is checked, and how.
#[derive(Clone, Debug)]
pub struct Health {
    /// Program and arguments.
    pub argv: Vec<Vec<u8>>,
    /// Time between two checks.
    pub interval: Duration,
    /// One that has not ended by then is killed, and has failed.
    pub timeout: Duration,
    /// Failures count from so long after the start on.
    pub start_period: Duration,
    /// So many failures in a row make it unhealthy.
    pub retries: u32,
}

static WANTED: OnceLock<Health> = OnceLock::new();

/// The run is to be checked; before the supervisor starts.
pub fn set(h: Health) {
    let _ = WANTED.set(h);
}

/// As podman reads `--health-cmd`: a JSON array, whose first word says what the rest is, or a line for the shell. `None`: no check.
pub fn command(text: &str) -> Result<Option<Vec<Vec<u8>>>, String> {
    let shell = |line: &str| {
        let words = ["/bin/sh", "-c", line].map(|w| w.as_bytes().to_vec());
        Some(words.to_vec())
    };
    if text == "none" {
        return Ok(None);
    }
    if !text.trim_start().starts_with('[') {
        return Ok(shell(text));
    }
    let words: Vec<String> =
        serde_json::from_str(text).map_err(|e| format!("{text}: not a JSON array of words: {e}"))?;
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["NONE"] => Ok(None),
        ["CMD-SHELL", line] => Ok(shell(line)),
        ["CMD", _, ..] => Ok(Some(words[1..].iter().map(|w| w.clone().into_bytes()).collect())),
        _ => Err(format!(
            r#"{text}: write ["CMD", "PROGRAM", "ARG", ...] or ["CMD-SHELL", "LINE"]"#
        )),
    }
}

/// What the last checks of the run in `dir` said; null if it has none.
pub fn read(dir: &Path) -> Value {
    let bytes = std::fs::read(dir.join(FILE)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

/// Where the run stands.
#[derive(Debug)]
struct State {
    begun: Instant,
    status: &'static str,
    failing: u32,
    log: Vec<Value>,
}

impl State {
    fn note(&mut self, h: &Health, code: i32, since_start: Duration, entry: Value) {
        if code == 0 {
            (self.status, self.failing) = ("healthy", 0);
        } else if self.status != "starting" || since_start >= h.start_period {
            self.failing += 1;
            if self.failing >= h.retries {
                self.status = "unhealthy";
            }
        }
        if self.log.len() == KEPT {
            self.log.remove(0);
        }
        self.log.push(entry);
    }

    fn write(&self, dir: &Path) {
        let text = json!({"status": self.status, "failing_streak": self.failing, "log": self.log});
        let new = dir.join("health.json.new");
        // A full directory must not end the run: the file then says what it said before.
        let _ = std::fs::write(&new, text.to_string()).and_then(|()| std::fs::rename(&new, dir.join(FILE)));
    }
}

fn seconds() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs_f64()
}

/// Starts to check as [`set`] says, in the supervisor.
pub fn look_after() {
    let (Some(h), Some(dir)) = (WANTED.get(), crate::orders::place()) else {
        return;
    };
    std::thread::spawn(move || {
        let mut state = State {
            begun: Instant::now(),
            status: "starting",
            failing: 0,
            log: Vec::new(),
        };
        state.write(dir);
        loop {
            std::thread::sleep(h.interval);
            let begun = seconds();
            let (code, output) = check(h).unwrap_or_else(|why| (125, why));
            let entry = json!({"start": begun, "end": seconds(), "exit": code, "output": output});
            state.note(h, code, state.begun.elapsed(), entry);
            state.write(dir);
        }
    });
}

/// Runs the command once. Exit code, and how its output begins.
fn check(h: &Health) -> Result<(i32, String), String> {
    let order = ExecOrder {
        argv: h.argv.clone(),
        ..ExecOrder::default()
    };
    let bad = |e: std::io::Error| format!("starting it: {e}");
    let (near, far) = crate::exec::ends().map_err(bad)?;
    let mut gifts = vec![crate::exec::pack(&order).map_err(bad)?];
    gifts.extend(far);
    crate::orders::start_process(gifts)?;
    let end = Instant::now() + h.timeout;
    let mut control = near.control;
    let mut outs = near.out.map(Some);
    let mut heard = Vec::new();
    let mut output = Vec::new();
    loop {
        if let Some(done) = ended(&heard) {
            let (code, why) = done;
            output.truncate(MOST_OUTPUT);
            output.extend_from_slice(why.as_bytes());
            return Ok((code, String::from_utf8_lossy(&output).into_owned()));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let _ = control.write_all(b"signal 9\n");
            return Ok((
                -1,
                format!("no answer within {} ms: killed", h.timeout.as_millis()),
            ));
        }
        let fd = |f: &Option<std::fs::File>| f.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut rows = [control.as_raw_fd(), fd(&outs[0]), fd(&outs[1])].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        let ms = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
        // SAFETY: the array is valid for the call.
        unsafe { libc::poll(rows.as_mut_ptr(), 3, ms) };
        let mut buf = [0; 4096];
        for (i, out) in outs.iter_mut().enumerate() {
            let Some(f) = out.as_mut().filter(|_| rows[1 + i].revents != 0) else {
                continue;
            };
            match f.read(&mut buf) {
                Ok(0) => *out = None,
                // Only the beginning is kept, but all is read: it must not wait for us.
                Ok(n) if output.len() < MOST_OUTPUT => output.extend_from_slice(&buf[..n]),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => *out = None,
            }
        }
        if rows[0].revents != 0 {
            match control.read(&mut buf) {
                Ok(0) => return Err("the image has ended".to_string()),
                Ok(n) => heard.extend_from_slice(&buf[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(bad(e)),
            }
        }
    }
}

/// What was heard says how it ended: its code, and why it could not be started.
fn ended(heard: &[u8]) -> Option<(i32, String)> {
    let text = String::from_utf8_lossy(heard);
    let whole = &text[..=text.rfind('\n')?];
    whole.lines().find_map(|line| {
        let mut words = line.splitn(3, ' ');
        let (verb, n) = (words.next()?, words.next()?.parse::<i32>().ok()?);
        match verb {
            "exit" => Some((n, String::new())),
            "signal" => Some((128 + n, String::new())),
            "failed" => Some((n, words.next().unwrap_or_default().to_string())),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_podman_does() {
        let words = |list: &[&str]| {
            Ok(Some(
                list.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>(),
            ))
        };
        assert_eq!(command("none"), Ok(None));
        assert_eq!(command(r#"["NONE"]"#), Ok(None));
        assert_eq!(command("test -e x"), words(&["/bin/sh", "-c", "test -e x"]));
        assert_eq!(command(r#"["CMD","a","b c"]"#), words(&["a", "b c"]));
        assert_eq!(
            command(r#"["CMD-SHELL","a b"]"#),
            words(&["/bin/sh", "-c", "a b"])
        );
        for bad in ["[", r#"["a"]"#, r#"["CMD"]"#, r#"["CMD-SHELL"]"#] {
            assert!(command(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy() {
        let h = Health {
            argv: Vec::new(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            start_period: Duration::from_secs(10),
            retries: 3,
        };
        let mut s = State {
            begun: Instant::now(),
            status: "starting",
            failing: 0,
            log: Vec::new(),
        };
        let mut seen = |code, at| {
            s.note(&h, code, Duration::from_secs(at), json!(code));
            (s.status, s.failing, s.log.len())
        };
        assert_eq!(seen(1, 1), ("starting", 0, 1));
        assert_eq!(seen(1, 10), ("starting", 1, 2));
        assert_eq!(seen(0, 11), ("healthy", 0, 3));
        assert_eq!(seen(1, 12), ("healthy", 1, 4));
        assert_eq!(seen(-1, 13), ("healthy", 2, 5));
        assert_eq!(seen(1, 14), ("unhealthy", 3, 5));
        assert_eq!(seen(0, 15), ("healthy", 0, 5));
    }

    #[test]
    fn the_end_is_heard_whole() {
        assert_eq!(ended(b"started 4\nexit 3 0"), None);
        assert_eq!(ended(b"started 4\nexit 3 0 0\n"), Some((3, String::new())));
        assert_eq!(ended(b"signal 9 0 0\n"), Some((137, String::new())));
        assert_eq!(
            ended(b"failed 127 x: not found\n"),
            Some((127, "x: not found".to_string()))
        );
    }
}
