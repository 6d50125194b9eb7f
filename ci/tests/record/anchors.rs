//! Logs with snapshots in them: a replay may start at each, and is the same from there on.

use super::{ftvm, replay, run};
use ftl_ci::bounded::Outcome;
use ftl_ci::place::{self, Scratch};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Subshells, pipes and clock readings.
const SCRIPT: &str = "n=0; while [ $n -lt 150 ]; do n=$((n+1)); echo $n $EPOCHREALTIME $RANDOM; \
    [ $((n % 30)) = 0 ] && (echo sub; sleep 0.01; echo end | cat); done; exit 3";

/// Numbers and entries of a log's anchors, by their names.
pub fn anchors(log: &Path) -> Vec<(u32, u64)> {
    let list = std::fs::read_dir(log.join("anchors"))
        .into_iter()
        .flatten()
        .flatten();
    let mut all: Vec<(u32, u64)> = list
        .filter_map(|f| {
            let name = f.file_name().into_string().ok()?;
            let mut parts = name.split('.');
            let number = parts.next()?.parse().ok()?;
            Some((number, parts.next()?.strip_prefix('e')?.parse().ok()?))
        })
        .collect();
    all.sort_unstable();
    all
}

fn crashes(scratch: &Scratch) -> PathBuf {
    guest_of_ours(scratch, "crashes.c")
}

fn guest_of_ours(scratch: &Scratch, source: &str) -> PathBuf {
    let from = place::repository().join("ci/tests/record").join(source);
    let to = scratch.side().join(source.trim_end_matches(".c"));
    let cc = Command::new("gcc")
        .args(["-std=gnu11", "-O0", "-g", "-pthread", "-o"])
        .args([&to, &from])
        .status();
    assert!(cc.is_ok_and(|s| s.success()), "compiling {source}");
    to
}

fn record(scratch: &Scratch, log: &Path, how: &[&str], command: &[&dyn AsRef<OsStr>]) -> Outcome {
    let mut c = ftvm(scratch, &[&"record", &"-o", &log]);
    c.args(how).arg("--").args(command.iter().map(|a| a.as_ref()));
    run(c)
}

fn said(o: &Outcome) -> String {
    String::from_utf8_lossy(&o.stderr).into_owned()
}

/// Replays from every anchor to the end, with all that the log has to compare; what is printed is the rest.
pub fn from_each(scratch: &Scratch, log: &Path, recorded: &Outcome) {
    let all = anchors(log);
    assert!(all.len() >= 3, "{all:?}");
    let mut shorter = 0;
    for (number, _) in &all {
        let number = number.to_string();
        let again = run(ftvm(scratch, &[&"replay", &"--anchor", &number, &log]));
        assert_eq!(again.code, 0, "from anchor {number}: {}", again.tail());
        assert!(
            recorded.stdout.ends_with(&again.stdout),
            "from anchor {number}: {}",
            again.tail()
        );
        shorter += usize::from(again.stdout.len() < recorded.stdout.len());
    }
    assert!(shorter > 1, "every replay printed everything");
}

#[test]
fn a_replay_starts_at_each_anchor() {
    let scratch = Scratch::new().expect("a directory");
    let log = scratch.side().join("log");
    let how = ["--check-memory", "--check", "50", "--anchor-every", "event:200"];
    let recorded = record(&scratch, &log, &how, &[&"bash", &"-c", &SCRIPT]);
    assert_eq!(recorded.code, 3, "{}", recorded.tail());
    from_each(&scratch, &log, &recorded);
    let whole = replay(&scratch, &log);
    assert_eq!(
        (whole.code, &whole.stdout),
        (0, &recorded.stdout),
        "{}",
        whole.tail()
    );

    let info = run(ftvm(&scratch, &[&"log", &"info", &"--json", &log]));
    let info: String = String::from_utf8_lossy(&info.stdout).into_owned();
    for (number, entries) in anchors(&log) {
        let row = format!("{{\"number\":{number},\"entries\":{entries},");
        assert!(info.contains(&row), "no {row} in {info}");
    }
}

fn bytes_in(dir: &Path) -> u64 {
    let list = std::fs::read_dir(dir).into_iter().flatten().flatten();
    list.filter_map(|e| e.metadata().ok().filter(|m| m.is_file()))
        .map(|m| m.len())
        .sum()
}

#[test]
fn the_tail_of_a_log_is_exact() {
    let scratch = Scratch::new().expect("a directory");
    let log = scratch.side().join("log");
    let how = [
        "--check-memory",
        "--check",
        "50",
        "--anchor-every",
        "event:60",
        "--keep",
        "3mb",
    ];
    let recorded = record(&scratch, &log, &how, &[&"bash", &"-c", &SCRIPT]);
    assert_eq!(recorded.code, 3, "{}", recorded.tail());
    let first = anchors(&log).first().expect("an anchor").0;
    assert!(first > 1, "nothing was deleted: {:?}", anchors(&log));
    assert!(!log.join("000000.ftlog").exists());
    let bytes = bytes_in(&log) + bytes_in(&log.join("anchors"));
    assert!(bytes <= 3 << 20, "{bytes} bytes are left");
    from_each(&scratch, &log, &recorded);
    // Without a word the replay begins where the log does.
    let tail = replay(&scratch, &log);
    assert!(
        tail.code == 0
            && recorded.stdout.ends_with(&tail.stdout)
            && tail.stdout.len() < recorded.stdout.len(),
        "{}",
        tail.tail()
    );
    let before = run(ftvm(&scratch, &[&"replay", &"--at", &"event:1", &log]));
    assert!(
        before.code == 1 && said(&before).contains("before what is kept"),
        "{}",
        before.tail()
    );
    for wrong in ["10", "x", "5q"] {
        let other = scratch.side().join("other");
        let refused = record(&scratch, &other, &["--keep", wrong], &[&"true"]);
        assert_eq!(refused.code, 125, "{}", refused.tail());
    }
}

#[test]
fn chaos_is_the_same_from_each_anchor() {
    let scratch = Scratch::new().expect("a directory");
    let program = crashes(&scratch);
    let log = scratch.side().join("log");
    let how = [
        "--chaos",
        "--seed",
        "7",
        "--check",
        "40",
        "--anchor-every",
        "event:60",
    ];
    let recorded = record(&scratch, &log, &how, &[&program]);
    assert_eq!(recorded.code, 139, "{}", recorded.tail());
    from_each(&scratch, &log, &recorded);
}

#[test]
fn a_replay_stops_where_it_is_told() {
    let scratch = Scratch::new().expect("a directory");
    let program = crashes(&scratch);
    let log = scratch.side().join("log");
    let how = ["--check-memory", "--anchor-every", "event:100"];
    let recorded = record(&scratch, &log, &how, &[&program]);
    assert_eq!(recorded.code, 139, "{}", recorded.tail());
    let last = anchors(&log).last().expect("an anchor").1;

    let at = |place: &str| run(ftvm(&scratch, &[&"replay", &"--at", &place, &log]));
    let stopped = at(&format!("event:{}", last + 10));
    assert_eq!(stopped.code, 0, "{}", stopped.tail());
    assert!(
        said(&stopped).contains(&format!("stopped after entry {}", last + 10)),
        "{}",
        said(&stopped)
    );
    // It began at the last anchor: nothing of before is printed.
    assert!(!stopped.stdout.starts_with(b"line 0\n"), "{}", stopped.tail());

    let stopped = at("event:30");
    assert!(
        stopped.code == 0 && said(&stopped).contains("stopped after entry 30,"),
        "{}",
        stopped.tail()
    );
    let stopped = at("time:1ms");
    assert!(
        stopped.code == 0 && said(&stopped).contains("stopped after entry"),
        "{}",
        stopped.tail()
    );
    let crash = at("crash");
    assert_eq!(crash.code, 0, "{}", crash.tail());
    assert!(said(&crash).contains("crashes, fall+"), "{}", said(&crash));
    assert!(crash.stdout.ends_with(b"total 600\n"), "{}", crash.tail());
    let end = at("end");
    assert!(
        end.code == 0 && recorded.stdout.ends_with(&end.stdout) && end.stdout.len() < recorded.stdout.len(),
        "{}",
        end.tail()
    );

    // A log whose writer died ends where it ends.
    let segments = std::fs::read_dir(&log)
        .expect("the log")
        .flatten()
        .map(|e| e.path());
    let newest = segments
        .filter(|p| p.extension().is_some_and(|e| e == "ftlog"))
        .max();
    let newest = newest.expect("a segment");
    let bytes = std::fs::read(&newest).expect("its bytes");
    std::fs::write(&newest, &bytes[..bytes.len() - 10]).expect("torn");
    let torn = at("crash");
    assert!(
        torn.code == 0 && said(&torn).contains("stopped after entry"),
        "{}",
        torn.tail()
    );

    let good = scratch.side().join("good");
    let recorded = record(&scratch, &good, &[], &[&"true"]);
    assert_eq!(recorded.code, 0, "{}", recorded.tail());
    let none = run(ftvm(&scratch, &[&"replay", &"--at", &"crash", &good]));
    assert!(
        none.code == 1 && said(&none).contains("no signal ended the image"),
        "{}",
        none.tail()
    );
    let wrong = run(ftvm(&scratch, &[&"replay", &"--at", &"noon", &good]));
    assert_eq!(wrong.code, 2, "{}", wrong.tail());
}

/// Processes that take turns: which one held the CPU at an anchor, and how much of its slice was left, is part of it.
const TURNS: &str = "for i in $(seq 4); do (echo $i | cat | cat) & ls / | wc -l; done; wait";

#[test]
fn intervals_are_compared_beside_the_run() {
    let scratch = Scratch::new().expect("a directory");
    let log = scratch.side().join("log");
    let how = ["--check-sampled=1", "--anchor-every", "event:150"];
    let good = record(&scratch, &log, &how, &[&"bash", &"-c", &TURNS]);
    assert_eq!((good.code, said(&good).as_str()), (0, ""), "{}", good.tail());
    assert!(anchors(&log).len() >= 3, "{:?}", anchors(&log));
    let left = std::fs::read_dir(&log).expect("the log").flatten();
    let left: Vec<_> = left
        .map(|e| e.file_name())
        .filter(|n| n.to_string_lossy().starts_with("check."))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // Code that is made where other code was executed before is a hole (docs/determinism.md): its rdtsc is the CPU's.
    let hole = guest_of_ours(&scratch, "hole.c");
    let log = scratch.side().join("other");
    let bad = record(&scratch, &log, &how, &[&hole]);
    assert_eq!(bad.code, 4, "{}", bad.tail());
    let text = said(&bad);
    for want in [
        "a replay is not the same",
        "is kept",
        "diverged before anchor",
        "memory of process 0",
    ] {
        assert!(text.contains(want), "no {want:?} in {text}");
    }
    assert!(log.join("000000.ftlog").exists());
}

/// Ends a named run, also when its test has failed.
struct Named<'a>(&'a Scratch);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        let _ = run(ftvm(self.0, &[&"kill", &"web"]));
    }
}

#[test]
fn a_running_image_is_recorded() {
    let scratch = Scratch::new().expect("a directory");
    let script =
        "n=0; while :; do n=$((n+1)); echo $n $EPOCHREALTIME; [ -e end$n ] && exit 3; (sleep 0.01); done";
    let start = |how: &[&dyn AsRef<OsStr>]| {
        let mut c = ftvm(&scratch, &[&"run", &"-d", &"--name", &"web"]);
        c.args(how.iter().map(|a| a.as_ref()));
        let started = run(c);
        assert_eq!(started.code, 0, "{}", started.tail());
    };
    let _ends = Named(&scratch);
    let printed = || run(ftvm(&scratch, &[&"logs", &"web"])).stdout;
    let prints_more = |than: usize| {
        let begun = std::time::Instant::now();
        while printed().len() < than + 200 {
            assert!(begun.elapsed() < super::LIMIT, "the run does not go on");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        printed().len()
    };
    start(&[&"--recordable", &"--", &"bash", &"-c", &script]);
    prints_more(0);
    let log = scratch.side().join("log");
    let begin = |log: &Path| run(ftvm(&scratch, &[&"record", &"start", &"web", &"-o", &log]));
    let end = || run(ftvm(&scratch, &[&"record", &"stop", &"web"]));
    let begun = begin(&log);
    assert_eq!(begun.code, 0, "{}", begun.tail());
    let again = begin(&scratch.side().join("other"));
    assert!(
        again.code == 1 && said(&again).contains("recorded, replayed or protected"),
        "{}",
        again.tail()
    );
    prints_more(printed().len());
    let ended = end();
    assert_eq!(ended.code, 0, "{}", ended.tail());
    assert_eq!(end().code, 1);
    prints_more(printed().len());

    let replayed = replay(&scratch, &log);
    assert!(
        replayed.code == 0 && said(&replayed).contains("replayed up to there"),
        "{}",
        replayed.tail()
    );
    let all = printed();
    let part = &replayed.stdout;
    assert!(part.len() >= 200 && !all.starts_with(part), "{}", replayed.tail());
    assert!(all.windows(part.len()).any(|w| w == part), "{}", replayed.tail());

    // A second time, to the image's end, and compared.
    let second = scratch.side().join("second");
    assert_eq!(begin(&second).code, 0);
    prints_more(printed().len());
    let last = printed();
    let last = String::from_utf8_lossy(&last);
    let n: u64 = last
        .lines()
        .last()
        .and_then(|l| l.split(' ').next()?.parse().ok())
        .expect("a number");
    // It looks for one of these a little later.
    for n in n..n + 1000 {
        std::fs::write(scratch.cwd().join(format!("end{n}")), "").expect("a file");
    }
    let begun = std::time::Instant::now();
    let mut replayed = replay(&scratch, &second);
    while !said(&replayed).is_empty() && begun.elapsed() < super::LIMIT {
        replayed = replay(&scratch, &second);
    }
    assert_eq!(
        (replayed.code, said(&replayed).as_str()),
        (0, ""),
        "{}",
        replayed.tail()
    );
    assert!(printed().ends_with(&replayed.stdout), "{}", replayed.tail());
    // Its log has come to its end; the run does a moment later.
    let begun = std::time::Instant::now();
    while String::from_utf8_lossy(&run(ftvm(&scratch, &[&"ps"])).stdout).contains("web") {
        assert!(begun.elapsed() < super::LIMIT, "the run does not end");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(run(ftvm(&scratch, &[&"rm", &"web"])).code, 0);

    start(&[&"--", &"bash", &"-c", &script.replace("end", "never")]);
    let refused = begin(&scratch.side().join("third"));
    assert!(
        refused.code == 1 && said(&refused).contains("--recordable"),
        "{}",
        refused.tail()
    );
}

#[test]
fn an_anchor_alone_is_refused() {
    let scratch = Scratch::new().expect("a directory");
    let log = scratch.side().join("log");
    let recorded = record(
        &scratch,
        &log,
        &["--anchor-every", "event:200"],
        &[&"bash", &"-c", &SCRIPT],
    );
    assert_eq!(recorded.code, 3, "{}", recorded.tail());
    let list = std::fs::read_dir(log.join("anchors")).expect("anchors").flatten();
    let first = list.map(|e| e.path()).min().expect("an anchor");
    let alone = run(ftvm(&scratch, &[&"restore", &first]));
    assert!(
        alone.code == 3 && said(&alone).contains("an anchor of a log"),
        "{}",
        alone.tail()
    );
    // Damage is found, by whoever needs it.
    let mut bytes = std::fs::read(&first).expect("its bytes");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&first, bytes).expect("damaged");
    let bad = run(ftvm(&scratch, &[&"replay", &"--anchor", &"1", &log]));
    assert_eq!(bad.code, 3, "{}", bad.tail());
    let whole = replay(&scratch, &log);
    assert_eq!(
        (whole.code, &whole.stdout),
        (0, &recorded.stdout),
        "{}",
        whole.tail()
    );
}
