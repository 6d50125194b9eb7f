//! Snapshots of running images from outside: written, restored, cloned; what a killed writer and a damaged file do.
//!
//! `FTL_FULL=1` takes the numbers that the issue names instead of samples.

mod clones;
mod leaks;
mod redis;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Counts on standard output, which is the run's log: nothing of a volume is open at any moment.
const COUNTER: &str = "n=0; while [ $n -lt 100000 ]; do n=$((n+1)); echo $n; sleep 0.01; done";

fn often(sample: u32, full: u32) -> u32 {
    if std::env::var_os("FTL_FULL").is_some() {
        full
    } else {
        sample
    }
}

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        // Two tests of a name must not have one place.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("ftvm-cp-{name}-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(dir.join("state"))
            .unwrap();
        Place(dir)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_ftvm"));
        c.args(args)
            .current_dir(&self.0)
            .env("XDG_RUNTIME_DIR", &self.0)
            .env("XDG_STATE_HOME", self.0.join("state"))
            .env("XDG_DATA_HOME", &self.0);
        c
    }

    fn ftvm(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn good(&self, args: &[&str]) -> String {
        let out = self.ftvm(args);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{args:?}: {err}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn refused(&self, args: &[&str], code: i32, words: &str) {
        let out = self.ftvm(args);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The highest number that some run has counted to.
    fn count(&self) -> u64 {
        let runs = fs::read_dir(self.path("ftvm")).into_iter().flatten().flatten();
        let logs = runs.map(|r| fs::read_to_string(r.path().join("log")).unwrap_or_default());
        let last = logs.filter_map(|l| numbers(&l).last().copied());
        last.max().unwrap_or(0)
    }

    /// Waits until the run has printed a number, and returns the first.
    fn first(&self, name: &str) -> u64 {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let log = fs::read_to_string(log_of(&self.0, name)).unwrap_or_default();
            if let Some(n) = numbers(&log).first() {
                return *n;
            }
            assert!(Instant::now() < end, "{name} has printed {log:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the counter has passed `n`.
    fn counts_past(&self, n: u64) -> u64 {
        let end = Instant::now() + Duration::from_secs(60);
        while self.count() <= n {
            assert!(Instant::now() < end, "the counter stands at {}", self.count());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.count()
    }

    fn start(&self, name: &str) {
        self.start_with(name, &[]);
        self.counts_past(3);
    }

    fn start_with(&self, name: &str, options: &[&str]) {
        let command = ["--", "/bin/sh", "-c", COUNTER];
        self.good(&[&["run", "-d", "--name", name], options, &command].concat());
    }
}

/// The numbers in a log that may be being written: whole lines only.
fn numbers(log: &str) -> Vec<u64> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole.lines().filter_map(|l| l.trim().parse().ok()).collect()
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whatever a failed test has left.
        if let Ok(list) = serde_json::from_slice::<serde_json::Value>(&self.ftvm(&["ps", "--json"]).stdout) {
            for run in list["runs"].as_array().into_iter().flatten() {
                let _ = self.ftvm(&["kill", "-s", "KILL", run["name"].as_str().unwrap_or_default()]);
            }
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn supervisor(p: &Place, name: &str) -> u32 {
    let list: serde_json::Value = serde_json::from_str(&p.good(&["ps", "--json"])).unwrap();
    let runs = list["runs"].as_array().unwrap();
    let run = runs.iter().find(|r| r["name"] == name).unwrap();
    run["pid"].as_u64().unwrap() as u32
}

/// An order may come before the image's process has its signal handlers.
#[test]
fn an_order_in_the_first_moments_harms_nobody() {
    let p = Place::new("early");
    for n in 0..often(15, 100) {
        let name = format!("r{n}");
        p.good(&["run", "-d", "--name", &name, "--", "/bin/sh", "-c", COUNTER]);
        let report = p.ftvm(&["checkpoint", &name, "--dry-run"]);
        assert!(matches!(report.status.code(), Some(0 | 3)), "{report:?}");
        assert!(
            p.good(&["ps"]).contains(&name),
            "{name} has ended: {}",
            p.good(&["logs", &name])
        );
        p.good(&["kill", "-s", "KILL", &name]);
    }
}

#[test]
fn an_image_goes_on_where_it_was() {
    let p = Place::new("goes-on");
    p.start("a");
    let report = p.good(&["checkpoint", "a", "--dry-run", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(report["possible"] == true && report["version"] == 1, "{report}");
    p.good(&["checkpoint", "a", "-o", "a.ftsnap"]);
    let at = p.count();
    p.good(&["restore", "-d", "--name", "b", "a.ftsnap"]);
    assert_eq!(p.first("b"), at + 1);
    let later = p.counts_past(at);
    p.good(&[
        "checkpoint",
        "b",
        "-o",
        "b.ftsnap",
        "--leave-running",
        "--compress",
    ]);
    p.counts_past(later);
    p.good(&["stop", "b"]);
    p.good(&["restore", "-d", "--name", "c", "b.ftsnap"]);
    p.counts_past(later);
    fs::write(p.path("words"), "correct horse\n").unwrap();
    p.good(&["checkpoint", "c", "-o", "c.ftsnap", "--encrypt", "words"]);
    p.refused(&["restore", "c.ftsnap"], 3, "encrypted");
    let at = p.count();
    p.good(&[
        "restore",
        "-d",
        "--name",
        "d",
        "--passphrase-file",
        "words",
        "c.ftsnap",
    ]);
    p.counts_past(at);
}

#[test]
fn what_cannot_be_had_is_named() {
    let p = Place::new("missing");
    fs::write(p.path("kept"), "1\n").unwrap();
    let script = "exec 3>>kept; exec 4<gone; rm gone; echo x > seen; while :; do sleep 0.02; done";
    fs::write(p.path("gone"), "deleted, and read later").unwrap();
    p.good(&["run", "-d", "--name", "a", "--", "/bin/sh", "-c", script]);
    let end = Instant::now() + Duration::from_secs(60);
    while !fs::read(p.path("seen")).is_ok_and(|text| text == b"x\n") {
        assert!(Instant::now() < end, "it has not begun");
        std::thread::sleep(Duration::from_millis(10));
    }
    p.refused(
        &["checkpoint", "a", "-o", "a.ftsnap"],
        1,
        "kept: open for writing",
    );
    let report = p.ftvm(&["checkpoint", "a", "--dry-run"]);
    assert_eq!(report.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&report.stdout).contains("refused   volume"));
    assert!(!p.path("a.ftsnap").exists());
    p.good(&["checkpoint", "a", "-o", "a.ftsnap", "--volumes", "share"]);
    fs::remove_file(p.path("kept")).unwrap();
    p.refused(&["restore", "a.ftsnap"], 3, "kept, which the image has open");
    p.refused(&["restore", "none.ftsnap"], 125, "none.ftsnap");
    // In the background too, and before the name is printed.
    let out = p.ftvm(&["restore", "-d", "--name", "b", "a.ftsnap"]);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(3), 0), "{out:?}");
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(err.contains("kept, which the image has open"), "{err}");
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let p = Place::new("damaged");
    p.start("a");
    p.good(&["checkpoint", "a", "-o", "a.ftsnap"]);
    let good = fs::read(p.path("a.ftsnap")).unwrap();
    let mut at = 12_345usize;
    for n in 0..often(25, 400) {
        at = at
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut bad = good.clone();
        let (byte, bit) = ((at >> 16) % bad.len(), n % 8);
        bad[byte] ^= 1 << bit;
        fs::write(p.path("bad.ftsnap"), &bad).unwrap();
        let out = p.ftvm(&["restore", "bad.ftsnap"]);
        let err = String::from_utf8_lossy(&out.stderr);
        // The header has room that means nothing yet; all else is hashed.
        assert_eq!(out.status.code(), Some(3), "bit {bit} of byte {byte}: {err}");
        assert!(err.contains("bad.ftsnap"), "{err}");
    }
    for len in [0, 1, 4096, good.len() / 2, good.len() - 1] {
        fs::write(p.path("bad.ftsnap"), &good[..len]).unwrap();
        p.refused(&["restore", "bad.ftsnap"], 3, "bad.ftsnap");
    }
}

#[test]
fn a_killed_writer_leaves_the_last_snapshot() {
    let p = Place::new("killed");
    p.start("a0");
    p.good(&["checkpoint", "a0", "-o", "a.ftsnap"]);
    let mut wait_us = 300;
    for n in 1..=often(6, 100) {
        let name = format!("a{n}");
        p.good(&["restore", "-d", "--name", &name, "a.ftsnap"]);
        let before = p.count();
        p.counts_past(before);
        let pid = supervisor(&p, &name);
        let mut writer = p
            .command(&["checkpoint", &name, "-o", "a.ftsnap", "--leave-running"])
            .spawn()
            .unwrap();
        wait_us = wait_us * 7 % 60_000;
        std::thread::sleep(Duration::from_micros(wait_us));
        // SAFETY: the supervisor of our own run; its death ends the image's processes.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        let _ = writer.wait();
        // Whether it was this one or the one before: it is whole.
        p.good(&["snapshot", "verify", "a.ftsnap"]);
    }
    p.good(&["restore", "-d", "--name", "last", "a.ftsnap"]);
    let at = p.count();
    p.counts_past(at);
}

#[test]
fn snapshots_are_written_at_intervals() {
    let p = Place::new("every");
    p.start_with(
        "a",
        &["--checkpoint-every", "1s", "--checkpoint-file", "e.ftsnap"],
    );
    let end = Instant::now() + Duration::from_secs(60);
    while !p.path("e.ftsnap.1").exists() {
        assert!(Instant::now() < end, "no second snapshot");
        std::thread::sleep(Duration::from_millis(20));
    }
    // It writes no more when this returns.
    p.good(&["stop", "a"]);
    let at = p.count();
    for file in ["e.ftsnap", "e.ftsnap.1"] {
        p.good(&["snapshot", "verify", file]);
    }
    p.good(&["restore", "-d", "--name", "b", "e.ftsnap"]);
    p.counts_past(at);
}

#[test]
fn snapshots_at_intervals_may_be_changes_of_one_another() {
    let p = Place::new("changes");
    p.start_with(
        "a",
        &[
            "--checkpoint-every",
            "100ms",
            "--checkpoint-changes",
            "2",
            "--checkpoint-file",
            "e",
        ],
    );
    let files = || -> Vec<String> {
        let all = fs::read_dir(&p.0).unwrap().flatten();
        let names = all.filter_map(|e| e.file_name().into_string().ok());
        names.filter(|n| n.ends_with(".ftsnap")).collect()
    };
    // What users order among them has no part in them: they may remove it.
    fs::create_dir(p.path("own")).unwrap();
    // Each of them is there for a moment only.
    let reached = |n: u32| {
        let number = |f: &String| f.strip_prefix("e.")?.strip_suffix(".ftsnap")?.parse::<u32>().ok();
        let end = Instant::now() + Duration::from_secs(60);
        while !files().iter().filter_map(number).any(|m| m >= n) {
            assert!(Instant::now() < end, "{:?}", files());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    reached(1);
    let order = [
        "checkpoint",
        "a",
        "--incremental",
        "--leave-running",
        "--json",
        "-o",
        "own/o.ftsnap",
    ];
    let told: serde_json::Value = serde_json::from_str(&p.good(&order)).unwrap();
    assert!(told["parent"].is_null(), "{told}");
    reached(3);
    p.good(&["snapshot", "verify", "own/o.ftsnap"]);
    fs::remove_file(p.path("own/o.ftsnap")).unwrap();
    reached(8);
    // It writes no more, nor removes what nobody needs, when this returns.
    p.good(&["stop", "a"]);
    let at = p.count();
    let left = files();
    // What two chains of three are made of, at most; one more where the image ended between two steps.
    assert!((1..=7).contains(&left.len()), "{left:?}");
    let (mut whole, mut changes) = (0, 0);
    for file in left.iter().map(String::as_str).chain(["e"]) {
        p.good(&["snapshot", "verify", file]);
        let told: serde_json::Value =
            serde_json::from_str(&p.good(&["snapshot", "inspect", "--json", file])).unwrap();
        match told["parent"].is_null() {
            true => whole += 1,
            false => changes += 1,
        }
    }
    assert!(
        whole >= 1 && changes >= 1,
        "{left:?}: {whole} whole, {changes} changes"
    );
    p.good(&["restore", "-d", "--name", "b", "e"]);
    p.counts_past(at);
}

/// Holds locks of every kind on files of the current directory.
const LOCKER: &str = r#"
use strict; use Fcntl qw(:flock SEEK_SET F_SETLK F_WRLCK F_RDLCK);
sub range { my ($f, $kind, $start, $len) = @_; fcntl($f, F_SETLK, pack("s s x4 q q l x4", $kind, SEEK_SET, $start, $len, 0)) or die "lock: $!"; }
open(my $all, "+<", "whole"); flock($all, LOCK_EX) or die;
open(my $some, "+<", "ranges"); range($some, F_WRLCK, 10, 10); range($some, F_RDLCK, 50, 10);
open(my $read, "<", "read"); flock($read, LOCK_SH) or die;
$| = 1; print "ready\n";
select(undef, undef, undef, 0.02) until -e "go";
close $some; print "let go\n";
select(undef, undef, undef, 0.02) while 1;
"#;

/// An open file of which somebody else may hold locks.
struct Other(fs::File);

impl Other {
    fn of(p: &Place, name: &str) -> Other {
        Other(
            fs::File::options()
                .read(true)
                .write(true)
                .open(p.path(name))
                .unwrap(),
        )
    }
    /// Whether it can be had as a whole; it is let go then.
    fn whole(&self, exclusive: bool) -> bool {
        let op = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
        // SAFETY: plain calls on an open file.
        unsafe {
            let had = libc::flock(self.0.as_raw_fd(), op | libc::LOCK_NB) == 0;
            libc::flock(self.0.as_raw_fd(), libc::LOCK_UN);
            had
        }
    }
    /// Whether a byte is free for a lock of this kind.
    fn byte(&self, kind: i32, at: i64) -> bool {
        // SAFETY: all-zero is a valid flock; the struct is valid for the call.
        unsafe {
            let mut l: libc::flock = std::mem::zeroed();
            (l.l_type, l.l_start, l.l_len) = (kind as libc::c_short, at, 1);
            let done = libc::fcntl(self.0.as_raw_fd(), libc::F_OFD_GETLK, &raw mut l);
            assert_eq!(done, 0);
            i32::from(l.l_type) == libc::F_UNLCK
        }
    }
}

#[test]
fn locks_on_files_of_the_host_are_taken_again() {
    let p = Place::new("locks");
    for name in ["whole", "ranges", "read"] {
        fs::write(p.path(name), "").unwrap();
    }
    let says = |run: &str, what: &str| {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let log = fs::read_to_string(log_of(&p.0, run)).unwrap_or_default();
            if log.contains(what) {
                return;
            }
            assert!(Instant::now() < end, "{run}: no {what}: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let (whole, ranges, read) = (
        Other::of(&p, "whole"),
        Other::of(&p, "ranges"),
        Other::of(&p, "read"),
    );
    let (r, w) = (libc::F_RDLCK, libc::F_WRLCK);
    let seen = || {
        let of_whole = [
            whole.whole(true),
            whole.whole(false),
            read.whole(true),
            read.whole(false),
        ];
        let bytes = [(r, 12), (w, 12), (r, 55), (w, 55), (w, 30)];
        (of_whole, bytes.map(|(kind, at)| ranges.byte(kind, at)))
    };
    let held = ([false, false, false, true], [false, false, true, false, true]);
    p.good(&["run", "-d", "--name", "a", "--", "perl", "-e", LOCKER]);
    says("a", "ready");
    assert_eq!(seen(), held);
    p.good(&["checkpoint", "a", "-o", "a.ftsnap", "--volumes", "share"]);
    assert_eq!(seen(), ([true; 4], [true; 5]));
    p.good(&["restore", "-d", "--name", "b", "a.ftsnap"]);
    assert_eq!(seen(), held);
    // Two cannot have them.
    p.refused(&["restore", "-d", "--name", "c", "a.ftsnap"], 3, "somebody else");
    p.refused(&["clone", "-d", "--name", "d", "a.ftsnap"], 3, "somebody else");
    // They go with what holds them.
    fs::write(p.path("go"), "").unwrap();
    says("b", "let go");
    assert_eq!(seen(), (held.0, [true; 5]));
    p.good(&["kill", "b"]);
    let end = Instant::now() + Duration::from_secs(60);
    while seen().0 != [true; 4] {
        assert!(Instant::now() < end, "{:?}", seen());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Compiles a guest program.
fn guest(p: &Place, source: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let to = p.path("guest");
    let done = Command::new("gcc")
        .args(["-O1", "-pthread", "-o"])
        .arg(&to)
        .arg(root.join("guests/c").join(source))
        .status()
        .unwrap();
    assert!(done.success(), "{source}");
    to.to_str().unwrap().to_string()
}

/// Starts a program that writes its memory without rest, as the run `a`.
fn churning(p: &Place) {
    let churn = guest(p, "memory/churn.c");
    p.good(&["run", "-d", "--name", "a", "--", &churn, "100000000", "20"]);
    let log = || fs::read_to_string(log_of(&p.0, "a")).unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(60);
    while !log().contains("ok 1000") {
        assert!(Instant::now() < end, "{}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What was copied in rounds while the image ran is what one copy of the same moment has, page by page.
#[test]
fn rounds_give_what_stop_and_copy_gives() {
    let p = Place::new("rounds");
    churning(&p);
    let mut looked = 0;
    for _ in 0..often(12, 100) {
        let told = p.good(&[
            "checkpoint",
            "a",
            "--json",
            "--leave-running",
            "-o",
            "a.ftsnap",
            "--compare",
            "b.ftsnap",
        ]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        looked += told["rounds"].as_u64().unwrap();
        p.good(&["snapshot", "compare", "a.ftsnap", "b.ftsnap"]);
    }
    // Snapshots need Linux 6.7 (README), where changes can be followed.
    assert!(looked > 0, "no round while the image ran");
    p.good(&["stop", "a"]);
    p.good(&["restore", "-d", "--name", "b", "a.ftsnap"]);
    let log = || fs::read_to_string(log_of(&p.0, "b")).unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(60);
    while log().matches("ok ").count() < 2 {
        assert!(Instant::now() < end && !log().contains("FAIL"), "{}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
    // An image that was restored is copied in rounds like any other.
    p.good(&[
        "checkpoint",
        "b",
        "--leave-running",
        "-o",
        "a.ftsnap",
        "--compare",
        "b.ftsnap",
    ]);
    p.good(&["snapshot", "compare", "a.ftsnap", "b.ftsnap"]);
    assert!(!log().contains("FAIL"), "{}", log());
}

/// Snapshots that are changes of one another: each is what one copy of its moment has, whoever has looked in between.
#[test]
fn changes_give_what_stop_and_copy_gives() {
    let p = Place::new("series");
    churning(&p);
    let take = |n: u32, more: &[&str]| {
        let file = format!("{n}.ftsnap");
        let always = ["checkpoint", "a", "--json", "--incremental", "-o", &file];
        let told = p.good(&[&always[..], more].concat());
        serde_json::from_str::<serde_json::Value>(&told).unwrap()
    };
    let both = ["--leave-running", "--compare", "all.ftsnap"];
    let mut last = serde_json::Value::Null;
    for n in 0..often(8, 60) {
        let told = take(n, &both);
        assert_eq!(told["parent"], last, "{told}");
        last = told["root"].clone();
        p.good(&["snapshot", "compare", &format!("{n}.ftsnap"), "all.ftsnap"]);
        fs::remove_file(p.path("all.ftsnap")).unwrap();
    }
    p.refused(
        &[
            "checkpoint",
            "a",
            "-o",
            "0.ftsnap",
            "--incremental",
            "--leave-running",
        ],
        1,
        "name a new file",
    );
    // Packed, it is of the same chain.
    fs::write(p.path("words"), "correct horse\n").unwrap();
    let told = take(100, &["--leave-running", "--compress"]);
    assert_eq!(told["parent"], last, "{told}");
    p.good(&["snapshot", "verify", "100.ftsnap"]);
    // Somebody else has looked: the next is whole.
    p.good(&["checkpoint", "a", "-o", "other.ftsnap", "--leave-running"]);
    let told = take(101, &both);
    assert_eq!(told["parent"], serde_json::Value::Null, "{told}");
    p.good(&["snapshot", "compare", "101.ftsnap", "all.ftsnap"]);
    // One that was to be packed and is not there is nobody's parent.
    take(102, &["--leave-running", "--compress"]);
    fs::remove_file(p.path("102.ftsnap")).unwrap();
    assert_eq!(take(103, &both)["parent"], serde_json::Value::Null);
    // The last ends the image.
    let told = take(104, &["--encrypt", "words"]);
    assert!(told["parent"].is_string() && told["pause_us"].is_null(), "{told}");
    assert!(!p.good(&["ps"]).contains("running"));
    let restore = [
        "restore",
        "-d",
        "--name",
        "b",
        "104.ftsnap",
        "--passphrase-file",
        "words",
    ];
    fs::rename(p.path("103.ftsnap"), p.path("103")).unwrap();
    p.refused(&restore, 3, "its parent");
    fs::rename(p.path("103"), p.path("103.ftsnap")).unwrap();
    p.good(&["rm", "b"]);
    p.good(&restore);
    let log = || fs::read_to_string(log_of(&p.0, "b")).unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(60);
    while log().matches("ok ").count() < 2 {
        assert!(Instant::now() < end && !log().contains("FAIL"), "{}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A build of another version: this one with another word in it.
fn another_build(p: &Place) -> PathBuf {
    let mut program = fs::read(env!("CARGO_BIN_EXE_ftvm")).unwrap();
    // What `door::record::build_id` makes the identity from.
    let word = concat!(env!("CARGO_PKG_VERSION"), " ").as_bytes();
    let mut found = 0;
    for at in 0..program.len() - word.len() {
        if program[at..].starts_with(word) {
            program[at] ^= 1;
            found += 1;
        }
    }
    assert!(found > 0, "no version in it");
    // Written by another process: a child that another test starts meanwhile would have the file open for writing until it executes, and
    // nobody could execute it.
    let (from, to) = (p.path("bytes"), p.path("ftvm-of-before"));
    fs::write(&from, program).unwrap();
    let copied = Command::new("install")
        .args(["-m", "700"])
        .args([&from, &to])
        .status();
    assert!(copied.unwrap().success());
    fs::remove_file(&from).unwrap();
    to
}

#[test]
fn a_snapshot_of_another_build_is_refused_unless_it_carries_it() {
    let p = Place::new("builds");
    let before = another_build(&p);
    let old = |args: &[&str]| {
        let mut c = Command::new(&before);
        let like = p.command(args);
        c.args(args).current_dir(&p.0);
        c.envs(like.get_envs().filter_map(|(k, v)| Some((k, v?))));
        let out = c.output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{args:?}: {out:?}");
    };
    old(&["run", "-d", "--name", "a", "--", "/bin/sh", "-c", COUNTER]);
    p.counts_past(3);
    old(&["checkpoint", "a", "-o", "bare.ftsnap", "--leave-running"]);
    old(&["checkpoint", "a", "-o", "a.ftsnap", "--with-runtime"]);
    let version = format!("written by another build of ftvm ({})", env!("CARGO_PKG_VERSION"));
    p.refused(&["restore", "bare.ftsnap"], 3, &version);
    p.refused(&["clone", "bare.ftsnap"], 3, &version);
    p.good(&["snapshot", "verify", "a.ftsnap"]);
    let at = p.count();
    p.good(&["restore", "-d", "--name", "b", "a.ftsnap"]);
    let at = p.counts_past(at);
    p.good(&["stop", "b"]);
    // What this build has squashed carries the other one still.
    fs::write(p.path("words"), "correct horse\n").unwrap();
    p.good(&[
        "snapshot",
        "squash",
        "a.ftsnap",
        "-o",
        "s.ftsnap",
        "--compress",
        "--encrypt",
        "words",
    ]);
    p.good(&["clone", "s.ftsnap", "-d", "--passphrase-file", "words"]);
    p.counts_past(at);
    // A snapshot that lies about its build does not make one runtime start another for ever.
    let out = p
        .command(&["restore", "a.ftsnap"])
        .env("FTVM_FROM_SNAPSHOT", "1")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(3), "{out:?}");
}

/// A host port that nobody has, from a listener that is gone again.
fn a_port() -> u16 {
    let l = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    l.local_addr().unwrap().port()
}

fn log_of(runtime: &Path, name: &str) -> PathBuf {
    runtime.join("ftvm").join(name).join("log")
}

/// An image with much private memory goes on before its pages were read: whatever is wanted of it then waits for them.
#[test]
fn a_large_image_goes_on_before_it_is_read() {
    let p = Place::new("lazy");
    let pages = guest(&p, "memory/many_pages.c");
    p.good(&["run", "-d", "--name", "a", "--", &pages, "100000000", "2000"]);
    let mut at = p.counts_past(100);
    p.good(&["checkpoint", "a", "-o", "0.ftsnap"]);
    for n in 0..often(4, 40) {
        let (from, to) = (format!("{n}.ftsnap"), format!("{}.ftsnap", n + 1));
        let name = format!("b{n}");
        // By need: until the snapshot is wanted nothing is read that the program does not touch.
        let how: &[&str] = if n % 2 == 0 { &["--by-need"] } else { &[] };
        p.good(&[&["restore", "-d", "--name", &name], how, &[&from]].concat());
        at = p.counts_past(at + u64::from(n % 3) * 5);
        p.good(&[
            "checkpoint",
            &name,
            "-o",
            &to,
            "--leave-running",
            "--compare",
            "all.ftsnap",
        ]);
        p.good(&["snapshot", "compare", "--zero-is-absent", &to, "all.ftsnap"]);
        fs::remove_file(p.path("all.ftsnap")).unwrap();
        at = p.counts_past(at);
        let log = fs::read_to_string(log_of(&p.0, &name)).unwrap();
        assert!(!log.contains("FAIL"), "{log}");
        p.good(&["stop", &name]);
    }
}

/// A damaged page of such an image ends it when it is met, and before it has been seen; or is met first, if that is wanted.
#[test]
fn a_damaged_page_ends_a_large_image() {
    let p = Place::new("met");
    let pages = guest(&p, "memory/many_pages.c");
    p.good(&["run", "-d", "--name", "a", "--", &pages, "100000000", "2000"]);
    p.counts_past(20);
    p.good(&["checkpoint", "a", "-o", "a.ftsnap"]);
    let mut bad = fs::read(p.path("a.ftsnap")).unwrap();
    // A page of the guest's: the 17 MB of the file are such pages for the most part.
    let at = bad.len() / 2;
    bad[at] ^= 4;
    fs::write(p.path("bad.ftsnap"), &bad).unwrap();
    let whole = p.ftvm(&["restore", "--whole", "bad.ftsnap"]);
    assert_eq!(
        (whole.status.code(), whole.stdout.len()),
        (Some(3), 0),
        "{whole:?}"
    );
    for how in [&[][..], &["--by-need"]] {
        let met = p.ftvm(&[&["restore"], how, &["bad.ftsnap"]].concat());
        let err = String::from_utf8_lossy(&met.stderr);
        assert_eq!(met.status.code(), Some(3), "{err}");
        assert!(
            err.contains("bad.ftsnap") && err.contains("the image has ended"),
            "{err}"
        );
        assert!(!String::from_utf8_lossy(&met.stdout).contains("FAIL"), "{met:?}");
    }
}
