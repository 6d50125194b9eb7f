//! Recordings whose processes are killed at random moments.

use super::{LIMIT, Random, count, ftvm, replay, run};
use ftl_ci::place::Scratch;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

/// What is recorded: processes that come and go, threads that are preempted, much output, reading.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("bash", &["-c", "while :; do /bin/true; ls / | wc -l; done"]),
    ("bash", &["-c", "while :; do (echo a; (echo b)) & wait; done"]),
    ("python3", &["-c", THREADS]),
    ("bash", &["-c", FIND]),
];
/// Has enough to look at to be killed before its end, whatever the machine does meanwhile.
const FIND: &str =
    "p=(); for i in {1..1000}; do p+=(/usr/share /usr/lib); done; exec find \"${p[@]}\" -type f -size +1";
const THREADS: &str = "
import threading
def spin(n):
    x = n
    while True:
        x = (x * 1103515245 + 12345) % 2147483648
        if x % 50000 == 0: print(n, x, flush=True)
for n in range(3): threading.Thread(target=spin, args=(n,)).start()
";

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// The first frame has been written: a recording from which something can be replayed.
fn has_begun(log: &Path) -> bool {
    // With --keep the first segment may be gone already.
    std::fs::metadata(log.join("000000.ftlog")).is_ok_and(|m| m.len() > 64) || log.join("anchors").exists()
}

fn wait_until(what: &str, limit: Duration, mut cond: impl FnMut() -> bool) {
    let start = Instant::now();
    while !cond() {
        assert!(start.elapsed() < limit, "{what} did not come");
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// One of the image's processes: a child of the supervisor.
fn guest_process(supervisor: u32, random: &mut Random) -> Option<Pid> {
    let list = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
    let list: Vec<i32> = list.split_whitespace().filter_map(|p| p.parse().ok()).collect();
    list.get(random.below(list.len())).and_then(|p| Pid::from_raw(*p))
}

#[test]
fn logs_of_killed_recorders_replay() {
    let mut random = Random::new("kills");
    for i in 0..count("FTL_KILLS", 100, 12) {
        let scratch = Scratch::new().expect("a directory");
        let log = scratch.side().join("log");
        let (program, args) = PROGRAMS[i % PROGRAMS.len()];
        let mut command = ftvm(&scratch, &[&"record", &"-o", &log]);
        // Every second round has snapshots in it, and only its tail is kept.
        if i / PROGRAMS.len() % 2 == 1 {
            command.args(["--anchor-every", "event:200", "--keep", "5mb"]);
        }
        command
            .arg("--")
            .arg(program)
            .args(args)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("ftvm starts");
        let group = pid(&child);
        wait_until("the log", LIMIT, || has_begun(&log));
        // Short ones meet the start: forks, execs, many first-time calls.
        let most_us = [3_000, 60_000, 500_000][random.below(3)];
        let after = Duration::from_micros(random.below(most_us) as u64);
        std::thread::sleep(after);
        // One in four loses a process of the image instead of the supervisor.
        let victim = if i % 4 == 3 {
            guest_process(child.id(), &mut random)
        } else {
            None
        };
        let what = format!("trial {i}: {program} {args:?}, killed after {after:?}, guest {victim:?}");
        kill_process(victim.unwrap_or(group), Signal::KILL).ok();
        let ended = child.wait().expect("it ends");
        if victim.is_some() {
            assert!(!ended.success(), "{what}: a lost image is not a success");
        }
        // Nothing of the image outlives it: a process that did would go on for ever.
        let start = Instant::now();
        while test_kill_process_group(group).is_ok() {
            if start.elapsed() > LIMIT {
                let _ = kill_process_group(group, Signal::KILL);
                panic!("{what}: processes were left behind");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let info = run(ftvm(&scratch, &[&"log", &"info", &"--json", &log]));
        let info_text = String::from_utf8_lossy(&info.stdout).into_owned();
        assert!(
            info.code == 0 && info_text.contains("\"whole\":false"),
            "{what}: {info_text}"
        );
        let again = replay(&scratch, &log);
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(
            !again.timed_out
                && !again.left_behind
                && again.code == 0
                && said.contains("replayed up to there"),
            "{what}: code {}{}\n{}",
            again.code,
            if again.timed_out { ", out of time" } else { "" },
            again.tail()
        );
    }
}
