//! `checkpoint --volumes snapshot` from outside: what an image has on the host is in its snapshots, and each that is made from one has it
//! for itself.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Moves one unit from one account to the other, again and again, and prints how often; the sum stays.
const TRANSFERS: &str = "(echo 'PRAGMA synchronous=NORMAL;'; while :; do echo 'BEGIN; UPDATE a SET v=v-1 WHERE id=1; UPDATE a SET v=v+1 \
     WHERE id=2; INSERT INTO log VALUES(NULL); COMMIT; SELECT max(n) FROM log;'; done) | sqlite3 /data/db";
const SUM: u64 = 1_000_000_000;

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("ftvm-vols-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for d in ["", "state", "data", "cwd"] {
            fs::DirBuilder::new().mode(0o700).create(dir.join(d)).unwrap();
        }
        std::os::unix::fs::symlink("state", dir.join("link")).unwrap();
        Place(dir.canonicalize().unwrap())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_ftvm"));
        c.args(args)
            .current_dir(self.path("cwd"))
            .env("XDG_RUNTIME_DIR", &self.0)
            // By a symlink: what is open is known by its real path.
            .env("XDG_STATE_HOME", self.0.join("link"))
            .env("XDG_DATA_HOME", &self.0)
            .stdin(Stdio::null());
        c
    }

    /// A snapshot that holds all volumes; the image goes on.
    fn held(&self, name: &str, file: &str) -> String {
        self.good(&[
            "checkpoint",
            name,
            "-o",
            file,
            "--volumes",
            "snapshot",
            "--leave-running",
        ])
    }

    fn good(&self, args: &[&str]) -> String {
        let out = self.command(args).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{args:?}: {err}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn refused(&self, args: &[&str], code: i32, words: &str) {
        let out: Output = self.command(args).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Where a restored run has its volumes.
    fn volume(&self, run: &str, n: u32) -> PathBuf {
        self.path(&format!("state/ftvm/{run}/volumes/{n}"))
    }

    fn log(&self, run: &str) -> String {
        fs::read_to_string(self.path(&format!("ftvm/{run}/log"))).unwrap_or_default()
    }

    fn last(&self, run: &str) -> u64 {
        let log = self.log(run);
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().last().and_then(|l| l.parse().ok()).unwrap_or(0)
    }

    /// Waits until the run has printed something that satisfies `is`.
    fn wait(&self, run: &str, is: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let log = self.log(run);
            if is(&log) {
                return log;
            }
            assert!(Instant::now() < end, "{run} has printed: {}", tail(&log));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn counts_past(&self, run: &str, n: u64) -> u64 {
        self.wait(run, |_| self.last(run) > n);
        self.last(run)
    }

    /// A run with a database in its volume, at work.
    fn transfers(&self, run: &str) {
        let db = self.path("data/db");
        sql(
            &db,
            &format!(
                "PRAGMA journal_mode=WAL; CREATE TABLE log(n INTEGER PRIMARY KEY); CREATE TABLE a(id INTEGER PRIMARY KEY, v \
                 INTEGER); INSERT INTO a VALUES(1,{SUM}),(2,0);"
            ),
        );
        let volume = format!("{}:/data", self.path("data").display());
        self.good(&[
            "run", "-d", "--no-cwd", "--name", run, "-v", &volume, "--", "/bin/sh", "-c", TRANSFERS,
        ]);
        self.counts_past(run, 300);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let list = self.command(&["ps", "--json"]).output().unwrap();
        if let Ok(list) = serde_json::from_slice::<serde_json::Value>(&list.stdout) {
            for run in list["runs"].as_array().into_iter().flatten() {
                let name = run["name"].as_str().unwrap_or_default();
                let _ = self.command(&["kill", name]).output();
            }
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tail(text: &str) -> &str {
    text.get(text.len().saturating_sub(1000)..).unwrap_or(text)
}

fn sql(db: &Path, text: &str) -> String {
    let out = Command::new("sqlite3").arg(db).arg(text).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}: {err}");
    String::from_utf8(out.stdout).unwrap()
}

/// The database is whole, and says how many transfers it has seen.
fn transfers_in(db: &Path) -> u64 {
    let said = sql(
        db,
        "PRAGMA integrity_check; SELECT sum(v) FROM a; SELECT count(*) FROM log; SELECT v FROM a WHERE id=2;",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(&lines[..2], ["ok", &SUM.to_string()], "{said}");
    assert_eq!(lines[2], lines[3], "{said}");
    lines[2].parse().unwrap()
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (p.clone(), fs::read(p).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_database_goes_on_from_the_cut_whatever_became_of_its_directory() {
    let p = Place::new("db");
    p.transfers("a");
    p.refused(&["checkpoint", "a", "-o", "a.ftsnap"], 1, "--volumes snapshot");
    p.held("a", "a.ftsnap");
    // It goes on, and its directory with it.
    let at = p.last("a");
    p.counts_past("a", at + 100);
    p.good(&["stop", "a"]);
    let cut = p.path("data");
    let newer = transfers_in(&cut.join("db"));
    fs::write(cut.join("db"), b"not a database any more").unwrap();
    fs::remove_file(cut.join("db-wal")).unwrap_or_default();
    fs::write(cut.join("new"), b"newer data").unwrap();
    let altered = contents(&cut);
    p.good(&["restore", "-d", "--name", "b", "a.ftsnap"]);
    let first: u64 = p
        .wait("b", |log| log.lines().count() > 200)
        .lines()
        .next()
        .and_then(|l| l.parse().ok())
        .unwrap();
    assert!(
        first < newer,
        "{first}: it goes on from the cut, not from {newer}"
    );
    // Again from there, as a change of nothing, packed, and while it runs.
    fs::write(p.path("cwd/words"), "correct horse\n").unwrap();
    p.good(&[
        "checkpoint",
        "b",
        "-o",
        "b.ftsnap",
        "--volumes",
        "snapshot",
        "--compress",
        "--encrypt",
        "words",
    ]);
    let told = p.last("b");
    let seen = transfers_in(&p.volume("b", 0).join("db"));
    // What was committed and not yet printed is a few at most: the image stood.
    assert!(seen >= told, "{seen} {told}");
    fs::rename(&cut, p.path("away")).unwrap();
    p.good(&[
        "restore",
        "-d",
        "--name",
        "c",
        "--passphrase-file",
        "words",
        "b.ftsnap",
    ]);
    p.counts_past("c", seen);
    p.good(&["stop", "c"]);
    assert!(transfers_in(&p.volume("c", 0).join("db")) > seen);
    // Nobody has touched what was there, nor the volume of the run before.
    fs::rename(p.path("away"), &cut).unwrap();
    assert_eq!(contents(&cut), altered);
    assert_eq!(transfers_in(&p.volume("b", 0).join("db")), seen);
    // It cannot be restored over what it has written; under another name it can.
    p.refused(&["start", "--attach", "c"], 3, "another restore would lose");
    p.good(&["rm", "b", "c"]);
    assert!(!p.path("state/ftvm/b").exists() && !p.path("state/ftvm/c").exists());
}

#[test]
fn each_clone_has_a_volume_of_its_own() {
    let p = Place::new("clones");
    p.transfers("a");
    p.good(&["checkpoint", "a", "-o", "a.ftsnap", "--volumes", "snapshot"]);
    let cut = p.last("a");
    let before = contents(&p.path("data"));
    p.good(&["clone", "-d", "-n", "3", "--name", "k", "a.ftsnap"]);
    for k in ["k-1", "k-2", "k-3"] {
        p.counts_past(k, cut + 50);
    }
    for k in ["k-1", "k-2", "k-3"] {
        p.good(&["stop", k]);
        let seen = transfers_in(&p.volume(k, 0).join("db"));
        assert!(seen >= p.last(k), "{k}");
    }
    assert_eq!(contents(&p.path("data")), before);
}

#[test]
fn a_chain_holds_its_last_volumes() {
    let p = Place::new("chain");
    p.transfers("a");
    let take = |file: &str| {
        p.good(&[
            "checkpoint",
            "a",
            "-o",
            file,
            "--volumes",
            "snapshot",
            "--leave-running",
            "--incremental",
        ]);
        p.last("a")
    };
    let mut cut = 0;
    for file in ["a1.ftsnap", "a2.ftsnap", "a3.ftsnap"] {
        cut = take(file);
        p.counts_past("a", cut + 50);
    }
    p.good(&["stop", "a"]);
    assert!(
        p.good(&["snapshot", "inspect", "a3.ftsnap"])
            .contains("parent    ")
    );
    p.good(&["snapshot", "verify", "a3.ftsnap"]);
    p.good(&["snapshot", "squash", "a3.ftsnap", "-o", "s.ftsnap"]);
    p.good(&["snapshot", "add", "a3.ftsnap"]);
    p.good(&["snapshot", "gc"]);
    fs::remove_dir_all(p.path("data")).unwrap();
    let list: serde_json::Value = serde_json::from_str(&p.good(&["snapshot", "ls", "--json"])).unwrap();
    let stored = list["snapshots"][0]["root"].as_str().unwrap().to_string();
    for (run, from) in [("x", "a3.ftsnap"), ("y", "s.ftsnap"), ("z", &stored)] {
        p.good(&["restore", "-d", "--name", run, from]);
        let past = p.counts_past(run, cut.saturating_sub(50) + 100);
        p.good(&["stop", run]);
        assert!(transfers_in(&p.volume(run, 0).join("db")) >= past, "{run}");
    }
}

/// A program that has a file of every kind open, and says after each line on its standard input what it finds.
const LOOKER: &str = r#"
use strict; use Fcntl qw(:flock :seek SEEK_SET O_RDWR O_CREAT);
chdir "/data";
open(my $f, "+<", "file"); seek($f, 5, SEEK_SET);
open(my $gone, "+<", "gone"); unlink "gone"; sysseek($gone, 3, SEEK_SET);
sysopen(my $ro, "sealed", O_RDWR|O_CREAT, 0444); syswrite($ro, "abc");
open(my $app, ">>", "log"); open(my $lock, "+<", "locked"); flock($lock, LOCK_EX) or die;
opendir(my $d, "."); open(my $ro_vol, "<", "/ro/r"); sysread($ro_vol, my $skip, 2);
my @st = stat $f;
$| = 1; print "ready\n";
my $n = 0;
while (1) {
    select(undef, undef, undef, 0.02);
    next unless -e "/data/go$n";
    $n++;
    my ($a, $b, $c);
    seek($f, 5, SEEK_SET); read($f, $a, 4); sysseek($gone, 3, SEEK_SET); sysread($gone, $b, 4);
    syswrite($ro, "x$n"); syswrite($app, "line $n\n");
    sysseek($ro_vol, 2, SEEK_SET); sysread($ro_vol, $c, 3);
    my @now = stat $f; my @named = stat "file"; my @link = stat "hard";
    my $same = "$st[0]:$st[1]" eq "$now[0]:$now[1]" && "$st[0]:$st[1]" eq "$named[0]:$named[1]" && $named[1] == $link[1];
    # The lock is held still: a child's is another's.
    my $held = 0;
    if (!fork) { open(my $l, "+<", "locked"); exit(flock($l, LOCK_EX|LOCK_NB) ? 1 : 0); }
    wait; $held = $? == 0;
    open(my $new, ">", "new$n"); my @new = stat $new; my @newname = stat "new$n";
    my $fresh = $new[1] == $newname[1] && $new[1] != $st[1] && $new[0] == $st[0];
    opendir(my $dir, "."); my @list = sort grep { !/^\./ } readdir $dir;
    print "$n: $a $b $c same=$same held=$held fresh=$fresh link=", readlink("sym"), " ", (-p "pipe" ? "fifo" : "no fifo"),
        " @list\n";
}
"#;

#[test]
fn open_files_locks_and_numbers_are_as_they_were() {
    let p = Place::new("open");
    let data = p.path("data");
    for (name, text) in [
        ("file", "0123456789"),
        ("gone", "deleted-file"),
        ("locked", ""),
        ("log", ""),
    ] {
        fs::write(data.join(name), text).unwrap();
    }
    fs::hard_link(data.join("file"), data.join("hard")).unwrap();
    std::os::unix::fs::symlink("../out/of/it", data.join("sym")).unwrap();
    let fifo = std::ffi::CString::new(data.join("pipe").into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: a C string.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    fs::create_dir(p.path("ro")).unwrap();
    fs::write(p.path("ro/r"), "read-only").unwrap();
    let volumes = [
        format!("{}:/data", data.display()),
        format!("{}:/ro:ro", p.path("ro").display()),
    ];
    p.good(&[
        "run",
        "-d",
        "--no-cwd",
        "--name",
        "a",
        "-v",
        &volumes[0],
        "-v",
        &volumes[1],
        "--",
        "perl",
        "-e",
        LOOKER,
    ]);
    p.wait("a", |log| log.contains("ready\n"));
    fs::write(data.join("go0"), "").unwrap();
    let said = p.wait("a", |log| log.contains("1: ") && log.ends_with('\n'));
    let line = "1: 5678 eted ad- same=1 held=1 fresh=1 link=../out/of/it fifo file go0 hard locked log new1 pipe sealed sym\n";
    assert!(said.ends_with(line), "{said}");
    let rules = ["--volumes", "snapshot", "--volumes", "/ro=snapshot"];
    let report = p.good(&[&["checkpoint", "a", "--dry-run", "--json"], &rules[..]].concat());
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let held: Vec<&str> = report["notes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|n| n["fate"] == "held")
        .filter_map(|n| n["name"].as_str())
        .collect();
    assert_eq!(held.len(), 2, "{report}");
    assert!(
        held[0].starts_with("/data (") && held[1].starts_with("/ro ("),
        "{held:?}"
    );
    assert_eq!(report["possible"], true);
    p.good(&[&["checkpoint", "a", "-o", "a.ftsnap"], &rules[..]].concat());
    fs::remove_dir_all(&data).unwrap();
    fs::remove_dir_all(p.path("ro")).unwrap();
    // Three times over, each from the one before.
    let mut from = "a.ftsnap".to_string();
    for n in 1..4 {
        let run = format!("r{n}");
        p.good(&["restore", "-d", "--name", &run, &from]);
        fs::write(p.volume(&run, 0).join(format!("go{n}")), "").unwrap();
        let m = n + 1;
        let said = p.wait(&run, |log| log.contains(&format!("{m}: ")) && log.ends_with('\n'));
        let go: Vec<String> = (0..=n).map(|i| format!("go{i}")).collect();
        let new: Vec<String> = (1..=m).map(|i| format!("new{i}")).collect();
        let line = format!(
            "{m}: 5678 eted ad- same=1 held=1 fresh=1 link=../out/of/it fifo file {} hard locked log {} pipe sealed sym\n",
            go.join(" "),
            new.join(" ")
        );
        assert!(said.ends_with(&line), "{said}\n{line}");
        let log = fs::read_to_string(p.volume(&run, 0).join("log")).unwrap();
        assert!(log.ends_with(&format!("line {n}\nline {m}\n")), "{log}");
        let next = format!("r{n}.ftsnap");
        p.good(&[&["checkpoint", &run, "-o", &next], &rules[..]].concat());
        from = next;
    }
    // Shared, a restore finds them where the one before had put them.
    p.good(&["restore", "-d", "--name", "s1", &from]);
    p.good(&["checkpoint", "s1", "-o", "s.ftsnap", "--volumes", "share"]);
    p.good(&["restore", "-d", "--name", "s2", "s.ftsnap"]);
    fs::write(p.volume("s1", 0).join("go4"), "").unwrap();
    let said = p.wait("s2", |log| log.contains("5: ") && log.ends_with('\n'));
    assert!(said.contains("5: 5678 eted ad- same=1 held=1 fresh=1 "), "{said}");
    assert!(!p.volume("s2", 0).exists());
    let sealed = fs::read_to_string(p.volume("r3", 0).join("sealed")).unwrap();
    assert_eq!(sealed, "abcx1x2x3x4");
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_overwritten() {
    let p = Place::new("wrong");
    p.transfers("a");
    fs::write(p.path("data/marked"), "only in a volume").unwrap();
    p.refused(
        &["checkpoint", "a", "-o", "a.ftsnap", "--volumes", "keep"],
        2,
        "write fail, share or snapshot",
    );
    p.refused(
        &["checkpoint", "a", "-o", "a.ftsnap", "--volumes", "/no=snapshot"],
        1,
        "no volume there, but at: /data",
    );
    p.refused(
        &["migrate", "a", "192.0.2.1", "--insecure", "--volumes", "snapshot"],
        1,
        "a migration does not send",
    );
    p.held("a", "a.ftsnap");
    let data = p.path("data");
    fs::rename(&data, p.path("elsewhere")).unwrap();
    fs::create_dir(&data).unwrap();
    p.refused(
        &[
            "checkpoint",
            "a",
            "-o",
            "b.ftsnap",
            "--volumes",
            "snapshot",
            "--leave-running",
        ],
        1,
        "moved or replaced",
    );
    assert!(!p.path("cwd/b.ftsnap").exists());
    p.good(&[
        "checkpoint",
        "a",
        "-o",
        "c.ftsnap",
        "--volumes",
        "share",
        "--leave-running",
    ]);
    p.good(&["stop", "a"]);
    p.refused(
        &["restore", "--volumes-to", "x", "c.ftsnap"],
        3,
        "it holds no volumes",
    );
    // Where there is something, nothing of the volume is put.
    fs::write(data.join("mine"), "newer").unwrap();
    p.refused(
        &["restore", "-d", "--name", "b", "--volumes-to", "/", "a.ftsnap"],
        3,
        "nothing is overwritten",
    );
    assert_eq!(contents(&data), [(data.join("mine"), b"newer".to_vec())]);
    fs::remove_file(data.join("mine")).unwrap();
    p.good(&["rm", "b"]);
    // Into an empty directory it is, and stays when the run is removed.
    p.good(&["restore", "-d", "--name", "b", "--volumes-to", "/", "a.ftsnap"]);
    let at = p.counts_past("b", 10);
    // So does what a snapshot needs that shares it.
    p.good(&["checkpoint", "b", "-o", "shared.ftsnap", "--volumes", "share"]);
    p.good(&["rm", "b"]);
    p.good(&["restore", "-d", "--name", "s", "shared.ftsnap"]);
    let at = p.counts_past("s", at);
    p.held("s", "s.ftsnap");
    p.good(&["rm", "-f", "s"]);
    assert!(transfers_in(&data.join("db")) >= at);
    p.good(&["restore", "-d", "--name", "t", "s.ftsnap"]);
    p.counts_past("t", at);
    p.good(&["rm", "-f", "t"]);
    // A damaged page of a volume, wherever it is.
    let good = fs::read(p.path("cwd/a.ftsnap")).unwrap();
    let mut bad = good.clone();
    let head = good.windows(16).rposition(|w| w == b"only in a volume").unwrap();
    bad[head] ^= 1;
    fs::write(p.path("cwd/bad.ftsnap"), &bad).unwrap();
    for verb in [["restore", "-d"], ["clone", "-d"]] {
        p.refused(
            &[&verb[..], &["--name", "c", "bad.ftsnap"]].concat(),
            3,
            "of the volumes is damaged",
        );
    }
    p.refused(
        &["snapshot", "verify", "bad.ftsnap"],
        3,
        "of the volumes is damaged",
    );
    assert!(!p.volume("c", 0).exists() && !p.volume("c-1", 0).exists());
}

/// The working directory is a volume too, and holds the snapshot that is being written and the state of runs.
#[test]
fn the_working_directory_is_held_without_ftvms_own_files() {
    let p = Place::new("cwd");
    let run = |args: &[&str]| -> Output { p.command(args).current_dir(&p.0).output().unwrap() };
    let script = "exec 3>>mine; n=0; while :; do n=$((n+1)); echo $n; echo $n >&3; sleep 0.01; done";
    assert!(
        run(&["run", "-d", "--name", "a", "--", "/bin/sh", "-c", script])
            .status
            .success()
    );
    p.counts_past("a", 3);
    let out = run(&[
        "checkpoint",
        "a",
        "-o",
        "a.ftsnap",
        "--volumes",
        "snapshot",
        "--leave-running",
    ]);
    assert!(out.status.success(), "{out:?}");
    let out = run(&["checkpoint", "a", "-o", "b.ftsnap", "--volumes", "snapshot"]);
    assert!(out.status.success(), "{out:?}");
    let cut = p.last("a");
    fs::write(p.path("mine"), "newer\n").unwrap();
    let out = run(&["restore", "-d", "--name", "b", "b.ftsnap"]);
    assert!(out.status.success(), "{out:?}");
    p.counts_past("b", cut + 3);
    p.good(&["stop", "b"]);
    let copy = p.volume("b", 0);
    let mut names: Vec<_> = fs::read_dir(&copy)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a.ftsnap", "cwd", "data", "link", "mine", "state"]);
    assert_eq!(fs::read_dir(copy.join("state")).unwrap().count(), 0);
    let mine = fs::read_to_string(copy.join("mine")).unwrap();
    let lines: Vec<u64> = mine.lines().map(|l| l.parse().unwrap()).collect();
    assert!(
        lines.iter().zip(1..).all(|(l, n)| *l == n) && lines.len() as u64 > cut,
        "{cut} {}",
        lines.len()
    );
    assert_eq!(fs::read_to_string(p.path("mine")).unwrap(), "newer\n");
}

impl Place {
    /// A shell script as a run of that name, with these volumes; it has printed "ready".
    fn script(&self, run: &str, volumes: &[&str], script: &str) {
        let mut args = vec!["run", "-d", "--no-cwd", "--name", run];
        args.extend(volumes.iter().flat_map(|v| ["-v", v]));
        args.extend(["--", "/bin/sh", "-c", script]);
        self.good(&args);
        self.wait(run, |log| log.contains("ready\n"));
    }

    /// Names of all runs, those that are over too.
    fn runs(&self) -> Vec<String> {
        let list: serde_json::Value = serde_json::from_str(&self.good(&["ps", "-a", "--json"])).unwrap();
        let names = list["runs"].as_array().unwrap().iter();
        names.map(|r| r["name"].as_str().unwrap().to_string()).collect()
    }
}

#[test]
fn a_restore_that_does_not_begin_leaves_no_volumes() {
    use std::os::unix::fs::PermissionsExt;
    let p = Place::new("begin");
    let (data, outside) = (p.path("data"), p.path("outside"));
    fs::write(data.join("f"), "from the cut\n").unwrap();
    fs::write(&outside, "").unwrap();
    let script = format!(
        "exec 4<{}; echo ready; while ! [ -e /data/go ]; do sleep 0.02; done; cat /data/f; sleep 1000",
        outside.display()
    );
    p.script("a", &[&format!("{}:/data", data.display())], &script);
    p.good(&["checkpoint", "a", "-o", "a.ftsnap", "--volumes", "snapshot"]);
    // What the image has open is missed when its volumes are there already.
    fs::rename(&outside, p.path("away")).unwrap();
    let why = "which the image has open";
    p.refused(&["restore", "-d", "--name", "b", "a.ftsnap"], 3, why);
    assert!(!p.path("state/ftvm/b/volumes").exists());
    fs::remove_file(data.join("f")).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
    p.refused(
        &["restore", "-d", "--name", "c", "--volumes-to", "/", "a.ftsnap"],
        3,
        why,
    );
    assert_eq!(contents(&data), []);
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o7777, 0o750);
    // One without a name leaves no run either.
    p.refused(&["restore", "a.ftsnap"], 3, why);
    assert_eq!(p.runs(), ["a", "b", "c"]);
    fs::rename(p.path("away"), &outside).unwrap();
    p.good(&["start", "b"]);
    fs::write(p.volume("b", 0).join("go"), "").unwrap();
    p.wait("b", |log| log.contains("from the cut\n"));
    p.good(&["stop", "b"]);
}

#[test]
fn a_volume_in_a_held_directory_is_held_with_it() {
    let p = Place::new("nested");
    let data = p.path("data");
    for d in ["sub", "ro"] {
        fs::create_dir(data.join(d)).unwrap();
        fs::write(data.join(d).join("word"), format!("of {d}\n")).unwrap();
    }
    let volumes = [
        format!("{}:/data", data.display()),
        format!("{}:/sub", data.join("sub").display()),
        format!("{}:/ro:ro", data.join("ro").display()),
    ];
    let script = "echo ready; while ! [ -e /sub/go ]; do sleep 0.02; done; echo more >>/sub/word; cat /data/sub/word /ro/word; sleep 1000";
    p.script("a", &volumes.each_ref().map(String::as_str), script);
    let words = "its directory is in that of /data, which is to be held";
    let rules = ["--volumes", "snapshot", "--volumes", "/sub=share"];
    p.refused(
        &[&["checkpoint", "a", "-o", "a.ftsnap"], &rules[..]].concat(),
        1,
        words,
    );
    let report = [&["checkpoint", "a", "--dry-run", "--json"], &rules[..]].concat();
    let report = p.command(&report).output().unwrap();
    assert_eq!(report.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&report.stdout).contains(words));
    p.good(&["checkpoint", "a", "-o", "a.ftsnap", "--volumes", "snapshot"]);
    fs::remove_dir_all(&data).unwrap();
    p.good(&["restore", "-d", "--name", "b", "a.ftsnap"]);
    fs::write(p.volume("b", 0).join("sub/go"), "").unwrap();
    p.wait("b", |log| log.contains("of sub\nmore\nof ro\n"));
    p.good(&["stop", "b"]);
    assert!(!p.volume("b", 1).exists());
}

/// A volume is in ftvm's own state behind a restore, and that may be in the working directory.
#[test]
fn a_volume_in_ftvms_state_is_held_beside_the_one_around_it() {
    let p = Place::new("state");
    let run = |args: &[&str]| {
        let out = p.command(args).current_dir(&p.0).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {err}");
    };
    let volume = format!("{}:/data", p.path("data").display());
    let script = "n=0; while :; do n=$((n+1)); echo $n >>/data/n; echo $n >>mine; echo $n; sleep 0.01; done";
    run(&[
        "run", "-d", "--name", "a", "-v", &volume, "--", "/bin/sh", "-c", script,
    ]);
    p.counts_past("a", 3);
    let rules = ["--volumes", "share", "--volumes", "/data=snapshot"];
    run(&[&["checkpoint", "a", "-o", "a.ftsnap"], &rules[..]].concat());
    run(&["restore", "-d", "--name", "b", "a.ftsnap"]);
    let at = p.last("a");
    p.counts_past("b", at + 3);
    run(&["checkpoint", "b", "-o", "b.ftsnap", "--volumes", "snapshot"]);
    let cut = p.last("b");
    // Nothing of the run before is needed.
    p.good(&["rm", "b"]);
    run(&["restore", "-d", "--name", "c", "b.ftsnap"]);
    p.counts_past("c", cut + 3);
    // The image knows the files of both by their numbers, and there is one map of them.
    let one = [&["checkpoint", "c", "-o", "c.ftsnap"], &rules[..]].concat();
    p.refused(&one, 1, "both have to be");
    p.good(&["stop", "c"]);
    for copy in [p.volume("c", 0).join("mine"), p.volume("c", 1).join("n")] {
        let text = fs::read_to_string(&copy).unwrap();
        let lines: Vec<u64> = text.lines().map(|l| l.parse().unwrap()).collect();
        assert!(lines.iter().zip(1..).all(|(l, n)| *l == n), "{copy:?}: {text}");
        assert!(lines.len() as u64 >= cut + 3, "{copy:?}: {text}");
    }
}

/// The file of them that a restore has made goes with its run; a snapshot that shares the directories does not need it.
#[test]
fn the_numbers_of_files_are_in_each_snapshot() {
    let p = Place::new("map");
    fs::write(p.path("data/f"), "").unwrap();
    let volume = format!("{}:/data", p.path("data").display());
    let script = "n=$(stat -c %d:%i /data/f); exec 5>>/data/f; echo ready; while :; do echo x >&5; \
                  if [ $(stat -c %d:%i /data/f) = $n ]; then echo same; else echo other; fi; sleep 0.02; done";
    p.script("a", &[&volume], script);
    p.wait("a", |log| log.contains("same\n"));
    let snapshot = |run: &str, file: &str, policy: &str| {
        p.good(&["checkpoint", run, "-o", file, "--volumes", policy]);
    };
    snapshot("a", "a.ftsnap", "snapshot");
    p.good(&["restore", "-d", "--name", "b", "a.ftsnap"]);
    fs::remove_file(p.path("state/ftvm/b/volumes/map")).unwrap();
    p.held("b", "b.ftsnap");
    snapshot("b", "s.ftsnap", "share");
    p.good(&["restore", "-d", "--name", "c", "s.ftsnap"]);
    p.wait("c", |log| log.contains("same\n"));
    snapshot("c", "c.ftsnap", "snapshot");
    p.good(&["restore", "-d", "--name", "d", "c.ftsnap"]);
    p.good(&["restore", "-d", "--name", "e", "b.ftsnap"]);
    for run in ["b", "c", "d", "e"] {
        let log = p.wait(run, |log| log.contains("same\n"));
        assert!(!log.contains("other"), "{run}: {log}");
    }
}
