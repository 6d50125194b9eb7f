//! Health checks of a run (`--health-cmd`): a thread of the supervisor starts the command in the image now and then, as
//! `ftvm exec` would, and notes what came of it in the run's directory, where `ftvm ps` and `ftvm status` find it.
//!
//! States are podman's: `starting` until the first success, or the first failure behind the start period's end that makes
//! `retries` in a row; then `healthy` or `unhealthy`.

use serde_json::{Value, json};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// File in a run's directory.
const FILE: &str = "health.json";
/// Checks that are kept.
const KEPT: usize = 5;

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
            let (code, output) = crate::command::run(&h.argv, h.timeout).unwrap_or_else(|why| (125, why));
            let entry = json!({"start": begun, "end": seconds(), "exit": code, "output": output});
            state.note(h, code, state.begun.elapsed(), entry);
            state.write(dir);
        }
    });
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
}
