//! Locks on files of volumes, as the rest of the host sees them.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("ftvm-locks-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for d in ["", "state", "data", "cwd"] {
            fs::DirBuilder::new().mode(0o700).create(dir.join(d)).unwrap();
        }
        Place(dir.canonicalize().unwrap())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_ftvm"));
        c.args(args)
            .current_dir(self.0.join("cwd"))
            .env("XDG_RUNTIME_DIR", &self.0)
            .env("XDG_STATE_HOME", self.0.join("state"))
            .env("XDG_DATA_HOME", &self.0)
            .stdin(Stdio::null());
        c
    }

    fn good(&self, args: &[&str]) {
        let out = self.command(args).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{args:?}: {err}");
    }

    /// A program with the directory of data as a volume, at work.
    fn run(&self, name: &str, how: &str, program: &str) {
        let volume = format!("{}:/data{how}", self.0.join("data").display());
        self.good(&[
            "run", "-d", "--no-cwd", "--name", name, "-v", &volume, "--", "perl", "-e", program,
        ]);
    }

    /// Waits until the run has printed this.
    fn wait(&self, run: &str, words: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let log = fs::read_to_string(self.0.join(format!("ftvm/{run}/log"))).unwrap_or_default();
            if log.contains(words) {
                return;
            }
            assert!(Instant::now() < end, "{run} has printed: {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for name in ["a", "b"] {
            let _ = self.command(&["kill", name]).output();
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Somebody outside gets such a lock of the file, and lets go of it.
fn gets_whole(path: &Path, op: i32) -> bool {
    let file = fs::File::open(path).unwrap();
    // SAFETY: plain calls. Not by its end: a process that another test has just made may have a copy of it.
    unsafe {
        let had = libc::flock(file.as_raw_fd(), op | libc::LOCK_NB) == 0;
        libc::flock(file.as_raw_fd(), libc::LOCK_UN);
        had
    }
}

/// The same of its first bytes.
fn gets_range(path: &Path, kind: i32) -> bool {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    // SAFETY: all zero is a valid value, and the struct is valid for the call.
    unsafe {
        let mut l: libc::flock = std::mem::zeroed();
        l.l_type = kind as i16;
        l.l_len = 10;
        let had = libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const l) == 0;
        l.l_type = libc::F_UNLCK as i16;
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const l);
        had
    }
}

/// What the programs use of fcntl(2).
const LOCKS: &str = r#"
use strict; use Fcntl qw(:flock F_SETLK F_RDLCK F_WRLCK); $| = 1;
sub range { my ($f, $kind) = @_; fcntl($f, F_SETLK, pack("ssx4qqix4", $kind, 0, 0, 10, 0)) or die "fcntl: $!\n"; }
"#;

#[test]
fn a_lock_of_a_file_that_cannot_be_written_does_not_stand_in_the_way() {
    let p = Place::new("ro");
    let file = p.0.join("data/f");
    fs::write(&file, "only read\n").unwrap();
    let program = r#"
open(my $f, "<", "/data/f") or die; flock($f, LOCK_SH) or die; flock($f, LOCK_EX) or die;
open(my $g, "<", "/data/f") or die; range($g, F_RDLCK);
eval { range($g, F_WRLCK) }; print "refused: $@";
print "has them\n"; sleep 1 while 1;
"#;
    p.run("a", ":ro", &format!("{LOCKS}{program}"));
    p.wait("a", "has them\n");
    p.wait("a", "refused: fcntl: Bad file descriptor\n");
    let bound = || {
        assert!(!gets_whole(&file, libc::LOCK_SH), "an exclusive lock is held");
        assert!(!gets_range(&file, libc::F_WRLCK), "a reader's lock is held");
        assert!(gets_range(&file, libc::F_RDLCK), "it is a reader's");
    };
    bound();
    p.good(&["checkpoint", "a", "-o", "a.ftsnap"]);
    assert!(gets_whole(&file, libc::LOCK_EX) && gets_range(&file, libc::F_WRLCK));
    p.good(&["restore", "-d", "--name", "b", "a.ftsnap"]);
    bound();
    p.good(&["stop", "b"]);
    assert!(gets_whole(&file, libc::LOCK_EX) && gets_range(&file, libc::F_WRLCK));
}

#[test]
fn a_reader_that_becomes_a_writer_lets_nobody_in_between() {
    let p = Place::new("up");
    let file = p.0.join("data/f");
    fs::write(&file, "read and written\n").unwrap();
    let program = r#"
open(my $r, "<", "/data/f") or die; range($r, F_RDLCK); print "reads\n";
select(undef, undef, undef, 0.01) until -e "/data/go";
open(my $w, "+<", "/data/f") or die; range($w, F_WRLCK); print "writes\n";
select(undef, undef, undef, 0.01) until -e "/data/stop";
range($w, F_RDLCK); print "reads again\n"; sleep 1 while 1;
"#;
    p.run("a", "", &format!("{LOCKS}{program}"));
    p.wait("a", "reads\n");
    assert!(gets_range(&file, libc::F_RDLCK));
    fs::write(p.0.join("data/go"), "").unwrap();
    let log = p.0.join("ftvm/a/log");
    let end = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(&log).unwrap_or_default().contains("writes\n") {
        assert!(!gets_range(&file, libc::F_WRLCK), "it was let in");
        assert!(Instant::now() < end);
    }
    assert!(!gets_range(&file, libc::F_RDLCK), "a writer's lock is held");
    fs::write(p.0.join("data/stop"), "").unwrap();
    p.wait("a", "reads again\n");
    assert!(gets_range(&file, libc::F_RDLCK) && !gets_range(&file, libc::F_WRLCK));
}
