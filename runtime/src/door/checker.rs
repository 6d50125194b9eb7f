//! `record --check-sampled`: one interval in N, from anchor to anchor, is replayed beside the run and compared
//! (PROTOCOL §8). It finds what the log lacks on the day that the hole is made, not on that of a takeover.
//!
//! A thread of the supervisor runs `ftvm replay` with hidden options; for kernel objects twice for each interval
//! ([`super::compare`] says why). The processes are in a group of their own, so that the supervisor does not take them for the image's.

use super::anchor;
use super::replay::EXIT_INCOMPATIBLE;
use std::collections::VecDeque;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Some interval was not the same.
static FOUND: AtomicBool = AtomicBool::new(false);

/// Some interval was not the same in a replay, or could not be compared.
pub fn found() -> bool {
    FOUND.load(Ordering::Acquire)
}

/// A run that was to be checked and is not does not end as one that was.
pub fn nothing_is_checked() {
    FOUND.store(true, Ordering::Release);
}

/// Intervals that wait, beyond which samples are left out: the run is faster than its replays.
const MOST_WAITING: usize = 4;

/// What is to be done.
#[derive(Default)]
struct Work {
    /// Anchors at which the intervals begin; 0 is the log's beginning.
    waiting: VecDeque<u32>,
    /// The interval that is being compared.
    now: Option<u32>,
    /// Anchors that were looked at.
    seen: u32,
    /// Files of the log were deleted, or rewritten for that, so often.
    cuts: u64,
    over: bool,
}

/// The supervisor's end of the thread.
pub struct Checker {
    work: Arc<(Mutex<Work>, Condvar)>,
    every: u32,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Checker {
    /// Compares one interval in `every` of the log in `dir`.
    /// Kernel objects are compared too if `objects` says so.
    pub fn start(dir: &Path, every: u32, objects: bool) -> Checker {
        let work: Arc<(Mutex<Work>, Condvar)> = Arc::default();
        let (own, dir) = (work.clone(), dir.to_path_buf());
        let thread = std::thread::Builder::new()
            .spawn(move || check(&dir, every, objects, &own))
            .inspect_err(|e| {
                nothing_is_checked();
                tracing::warn!("check-sampled: nothing is compared: a thread for it: {e}");
            })
            .ok();
        Checker { work, every, thread }
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        self.work.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Anchors up to this one are there.
    pub fn tell(&self, anchors: u32) {
        let mut w = self.work();
        while w.seen < anchors {
            let from = w.seen;
            w.seen += 1;
            // All were asked for, or there is time for one more.
            if from % self.every == 0 && (self.every == 1 || w.waiting.len() < MOST_WAITING) {
                w.waiting.push_back(from);
            }
        }
        self.work.1.notify_one();
    }

    /// Files before the tail are about to be deleted: a replay that is opening the log may miss them.
    pub fn cuts(&self) {
        self.work().cuts += 1;
    }

    /// The first anchor that is still needed; what was found is kept whole.
    pub fn needs(&self) -> Option<u32> {
        if found() {
            return Some(0);
        }
        let w = self.work();
        w.now.or(w.waiting.front().copied())
    }

    /// The run is over: waits until all that is waiting was compared.
    pub fn end(mut self) {
        self.work().over = true;
        self.work.1.notify_one();
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

fn check(dir: &Path, every: u32, objects: bool, work: &(Mutex<Work>, Condvar)) {
    loop {
        let (from, last) = {
            let mut w = work.0.lock().unwrap_or_else(|e| e.into_inner());
            w.now = None;
            loop {
                if let Some(from) = w.waiting.pop_front() {
                    w.now = Some(from);
                    break (from, false);
                }
                if w.over {
                    break (w.seen, true);
                }
                w = work.1.wait(w).unwrap_or_else(|e| e.into_inner());
            }
        };
        if last && !from.is_multiple_of(every) {
            return;
        }
        let cuts = || work.0.lock().unwrap_or_else(|e| e.into_inner()).cuts;
        let same = loop {
            let before = cuts();
            let same = match last {
                true => to_end(dir, from),
                false => interval(dir, from, objects),
            };
            match same {
                Err(Differs { opened: false, .. }) if cuts() != before => {}
                same => break same,
            }
        };
        if let Err(Differs { lines, .. }) = same {
            FOUND.store(true, Ordering::Release);
            let end = match last {
                true => "the end".to_string(),
                false => format!("anchor {}", from + 1),
            };
            let begin = match from {
                0 => "the start".to_string(),
                n => format!("anchor {n}"),
            };
            tracing::error!(
                "check-sampled: from {begin} to {end} a replay is not the same; the log {} is kept",
                dir.display()
            );
            for line in lines {
                tracing::error!("{line}");
            }
            return;
        }
        if last {
            return;
        }
    }
}

/// A replay that was not the same.
struct Differs {
    /// What it said.
    lines: Vec<String>,
    /// It found all files that it needs.
    opened: bool,
}

impl From<Vec<String>> for Differs {
    fn from(lines: Vec<String>) -> Differs {
        Differs { lines, opened: true }
    }
}

type Same = Result<(), Differs>;

/// Compares what happened from anchor `from` to the next one.
fn interval(dir: &Path, from: u32, objects: bool) -> Same {
    let all = anchor::list(dir);
    let at = |n: u32| all.iter().find(|a| a.number == n);
    let Some(until) = at(from + 1) else { return Ok(()) };
    let since = match at(from) {
        Some(a) => a.ns,
        // It could not be taken: there is nothing to begin from.
        None if from > 0 => return Ok(()),
        None => 0,
    };
    let (candidates, probe) = (dir.join("check.words"), dir.join("check.probe"));
    let mut same = Ok(());
    let passes: &[Option<&str>] = match objects {
        true => &[Some("1"), Some("2")],
        false => &[None],
    };
    for pass in passes {
        let _ = std::fs::remove_file(&probe);
        let mut c = replay(dir, from);
        c.args(["--until", &until.number.to_string(), "--probe"])
            .arg(&probe);
        if let Some(poison) = pass {
            c.args(["--poison", poison, "--candidates"]).arg(&candidates);
        }
        same = run(c, dir, until.ns - since, &|_| probe.exists());
        if same.is_err() {
            break;
        }
    }
    for file in [candidates, probe] {
        let _ = std::fs::remove_file(file);
    }
    same
}

/// Compares what was put out from anchor `from` to the end, and memory if the log has its hash.
fn to_end(dir: &Path, from: u32) -> Same {
    let there = from == 0 || anchor::list(dir).iter().any(|a| a.number == from);
    match there {
        true => run(replay(dir, from), dir, 60_000_000_000, &|status| status.success()),
        false => Ok(()),
    }
}

fn replay(dir: &Path, from: u32) -> Command {
    let mut c = Command::new("/proc/self/exe");
    c.args(["replay", "--anchor", &from.to_string()]).arg(dir);
    c
}

fn run(mut command: Command, dir: &Path, ns: u64, good: &dyn Fn(&ExitStatus) -> bool) -> Same {
    let said = dir.join("check.said");
    let failed = |e: std::io::Error| vec![format!("starting the replay: {e}")];
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&said)
        .map_err(failed)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .process_group(0);
    // SAFETY: two plain system calls in the new process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            // The signals that the supervisor waits for.
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            Ok(())
        });
    }
    let child = command.spawn().map_err(failed)?;
    let limit = Duration::from_secs(60) + Duration::from_nanos(ns) * 20;
    let ended = wait(child, limit);
    let lines = lines_of(&said);
    let _ = std::fs::remove_file(&said);
    match ended {
        Ok(Some(status)) if good(&status) => Ok(()),
        Ok(Some(status)) => {
            let mut lines = lines;
            if lines.is_empty() {
                lines.push(format!("the replay ended with {status} and said nothing"));
            }
            let opened = status.code() != Some(EXIT_INCOMPATIBLE);
            Err(Differs { lines, opened })
        }
        Ok(None) => Err(vec![format!("the replay does not come to its end in {limit:?}")].into()),
        Err(e) => Err(vec![format!("waiting for the replay: {e}")].into()),
    }
}

fn wait(mut child: Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Our own lines among those that the program wrote too.
fn lines_of(said: &PathBuf) -> Vec<String> {
    let text = std::fs::read(said).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .filter_map(|l| l.strip_prefix("ftvm:"))
        .map(|l| format!(" {l}"))
        .collect()
}
