//! The command line from outside: exit codes, messages, run state. `docs/errors.md` is what it checks.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("ftvm-cli-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        Place(dir)
    }

    fn ftvm(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ftvm"))
            .args(args)
            .current_dir(&self.0)
            .env("XDG_RUNTIME_DIR", &self.0)
            .env("XDG_STATE_HOME", self.0.join("state"))
            .output()
            .unwrap()
    }

    fn file(&self, name: &str, bytes: &[u8], mode: u32) {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Exit code and one line on stderr with these words.
    fn refused(&self, args: &[&str], code: i32, words: &str) {
        let out = self.ftvm(args);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
        assert!(
            err.starts_with("ftvm: ") && err.lines().count() == 1,
            "{args:?}: {err}"
        );
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until it is so.
fn wait(why: &str, so: &mut dyn FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "{why}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// CPU time of a run with all its processes, and how long it took, s; the run as words behind `ftvm`.
fn cpu_of(p: &Place, words: &[&str]) -> (f64, f64) {
    let start = Instant::now();
    let mut c = Command::new(env!("CARGO_BIN_EXE_ftvm"));
    c.args(words)
        .current_dir(&p.0)
        .env("XDG_RUNTIME_DIR", &p.0)
        .env("XDG_STATE_HOME", p.0.join("state"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    #[expect(clippy::zombie_processes, reason = "wait4 follows")]
    let child = c.spawn().unwrap();
    // SAFETY: all zero is a value of it.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: our own child, which nobody else waits for.
    let got = unsafe { libc::wait4(child.id() as i32, std::ptr::null_mut(), 0, &mut used) };
    assert_eq!(got, child.id() as i32);
    let s = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    (s(used.ru_utime) + s(used.ru_stime), start.elapsed().as_secs_f64())
}

/// Programs that want all of the CPU for some seconds. What a limited one has used is compared with how long it took, so that a busy host,
/// which makes that longer, decides nothing.
const BUSY: [(&str, &[&str]); 3] = [
    ("computes", &["sh", "-c", "while :; do :; done"]),
    ("calls", &["dd", "if=/dev/zero", "of=/dev/null", "bs=1"]),
    ("forks", &["sh", "-c", "while :; do /bin/true; done"]),
];
/// Share of the CPU; what starting may take beside it, s.
const SHARE: f64 = 0.25;
const STARTING: f64 = 1.2;

fn limited(verb: &[&'static str], program: &[&'static str]) -> Vec<&'static str> {
    let until = ["--cpus", "0.25", "--", "timeout", "-s", "KILL", "5"];
    [verb, &until, program].concat()
}

#[test]
fn cpu_time_is_limited() {
    let p = Place::new("cpus");
    for (what, program) in BUSY {
        let (used, took) = cpu_of(&p, &limited(&["run"], program));
        assert!(
            took > 4.0 && used <= SHARE * took + STARTING,
            "{what}: {used} s in {took} s"
        );
    }
}

/// Standing still is nothing that the image does: the log does not hold it, and the replay does not do it.
#[test]
fn cpu_time_is_limited_while_a_log_is_written() {
    let p = Place::new("cpus-record");
    for (n, (what, program)) in BUSY.into_iter().enumerate() {
        let log = ["a", "b", "c"][n];
        let (used, took) = cpu_of(&p, &limited(&["record", "-o", log], program));
        assert!(
            took > 4.0 && used <= SHARE * took + STARTING,
            "{what}: {used} s in {took} s"
        );
        let out = p.ftvm(&["replay", log]);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{what}: {err}");
    }
}

/// One thread computes and makes no call, the other waits for what comes from outside. No timer is set, and nobody else could run.
const COMPUTES: &str = r#"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>
static volatile int go, up;
static void *computes(void *arg) { up = 1; while (!go) ; return arg; }
int main(void) {
    pthread_t t;
    char c;
    pthread_create(&t, NULL, computes, NULL);
    while (!up) sched_yield();
    puts("waits");
    fflush(stdout);
    int n = read(0, &c, 1);
    go = 1;
    pthread_join(t, NULL);
    printf("read %d\n", n);
    return 0;
}
"#;

#[test]
fn input_is_noticed_beside_a_thread_that_only_computes() {
    let p = Place::new("computes");
    p.file("c.c", COMPUTES.as_bytes(), 0o600);
    let done = Command::new("gcc")
        .args(["-O1", "-pthread", "-o", "c", "c.c"])
        .current_dir(&p.0)
        .status();
    assert!(done.unwrap().success());
    for how in [&["run"][..], &["record", "-o", "log"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ftvm"))
            .args([how, &["--", "./c"]].concat())
            .current_dir(&p.0)
            .env("XDG_RUNTIME_DIR", &p.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut input, mut out) = (
            child.stdin.take().unwrap(),
            BufReader::new(child.stdout.take().unwrap()),
        );
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "waits\n");
        // It computes by now, or it will a moment later: both have to do.
        std::thread::sleep(Duration::from_millis(100));
        input.write_all(b"x").unwrap();
        wait("the program ends", &mut || child.try_wait().unwrap().is_some());
        line.clear();
        out.read_to_string(&mut line).unwrap();
        assert_eq!(line, "read 1\n", "{how:?}");
    }
    let out = p.ftvm(&["replay", "log"]);
    assert!(
        out.status.success() && out.stdout == b"waits\nread 1\n",
        "{out:?}"
    );
}

/// A header of an x86-64 program with one program header that loads nothing.
fn elf() -> Vec<u8> {
    let mut b = vec![0u8; 120];
    b[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    b[16] = 2;
    b[18] = 62;
    b[20] = 1;
    b[24..32].copy_from_slice(&0x40_0000u64.to_le_bytes());
    b[32] = 64;
    b[52] = 64;
    b[54] = 56;
    b[56] = 1;
    b
}

#[test]
fn what_is_no_program_is_126_with_one_line() {
    let p = Place::new("elf");
    let with = |at: usize, v: u8| {
        let mut b = elf();
        b[at] = v;
        b
    };
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty", Vec::new(), "truncated"),
        ("text", b"hello\n".to_vec(), "not an ELF file"),
        (
            "short",
            elf()[..40].to_vec(),
            "truncated: ELF file header ends at byte 64",
        ),
        ("headers", elf()[..80].to_vec(), "truncated"),
        ("arm", with(18, 183), "aarch64"),
        ("i386", with(4, 1), "32-bit"),
        ("object", with(16, 1), "relocatable object file"),
        ("nothing", elf(), "no loadable segment"),
    ];
    for (name, bytes, words) in cases {
        p.file(name, &bytes, 0o755);
        p.refused(&["run", &format!("./{name}")], 126, words);
    }
    p.file("plain", &elf(), 0o644);
    p.refused(&["run", "./plain"], 126, "permission denied");
    p.file("script", b"#!/no/such/interpreter\n", 0o755);
    p.refused(&["run", "./script"], 127, "/no/such/interpreter: no such file");
}

#[test]
fn what_is_not_there_is_127() {
    let p = Place::new("none");
    p.refused(&["run", "./nope"], 127, "./nope: no such file");
    p.refused(&["run", "ftvm-has-no-such-command"], 127, "not found");
}

#[test]
fn options_are_checked_before_anything_runs() {
    let p = Place::new("options");
    p.refused(&["run", "-v", "/usr", "true"], 125, "write HOST:GUEST");
    p.refused(
        &["run", "-v", "/no/such:/x", "true"],
        125,
        "/no/such: No such file",
    );
    p.refused(&["run", "--rootfs", "/no/such", "true"], 125, "--rootfs /no/such");
    p.refused(&["run", "-w", "/no/such", "true"], 126, "directory /no/such");
    for args in [
        &["run", "--nope", "true"][..],
        &["run"],
        &["run", "--memory", "1x", "true"],
        &["run", "--cpus", "0", "true"],
        &["run", "--cpus", "half", "true"],
    ] {
        assert_eq!(p.ftvm(args).status.code(), Some(125), "{args:?}");
    }
    assert_eq!(p.ftvm(&["nope"]).status.code(), Some(2));
    assert_eq!(p.ftvm(&["compat"]).status.code(), Some(2));
    // What would be written nowhere is not taken.
    let protect = [
        "--protect",
        "127.0.0.1:7",
        "--arbiter",
        "file:arbiter",
        "/bin/true",
    ];
    // Nobody is there to back it up, and nobody is needed once it is over: its output and its code come.
    let arbiter = format!("file:{}", p.0.join("arbiter").display());
    let short = [
        "run",
        "--net",
        "none",
        "--no-cwd",
        "--insecure",
        "--protect",
        "127.0.0.1:7",
        "--arbiter",
        &arbiter,
    ];
    let out = p.ftvm(&[&short[..], &["--", "sh", "-c", "echo over; exit 3"]].concat());
    assert_eq!((out.status.code(), &out.stdout[..]), (Some(3), &b"over\n"[..]));
    let record = [&["record", "-o", "log"][..], &protect].concat();
    p.refused(&record, 7, "goes to its backup");
    assert!(!p.0.join("log").exists());
}

#[test]
fn the_status_is_the_programs() {
    let p = Place::new("status");
    assert_eq!(p.ftvm(&["run", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(
        p.ftvm(&["run", "sh", "-c", "kill -TERM $$"]).status.code(),
        Some(143)
    );
    let out = p.ftvm(&[
        "run",
        "-e",
        "A=b",
        "-w",
        "/usr",
        "--hostname",
        "foo",
        "sh",
        "-c",
        "echo $A $PWD; uname -n",
    ]);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "b /usr\nfoo\n");
    let out = p.ftvm(&["run", "sh", "-c", "echo kept > here; echo lost > /ftvm-test-lost"]);
    let err = String::from_utf8_lossy(&out.stderr);
    if out.status.success() {
        assert!(err.contains("1 file written outside"), "{err}");
    }
    assert_eq!(std::fs::read_to_string(p.0.join("here")).unwrap(), "kept\n");
    assert!(!PathBuf::from("/ftvm-test-lost").exists());
}

#[test]
fn named_runs_are_listed_stopped_and_removed() {
    let p = Place::new("named");
    let text = |o: &Output| String::from_utf8_lossy(&o.stdout).into_owned();
    assert_eq!(
        text(&p.ftvm(&["run", "-d", "--name", "one", "sh", "-c", "echo hi; sleep 100"])),
        "one\n"
    );
    p.refused(&["run", "-d", "--name", "one", "true"], 125, "in use");
    p.refused(&["rm", "one"], 1, "is running");
    wait("it has printed", &mut || {
        text(&p.ftvm(&["logs", "one"])) == "hi\n"
    });
    assert_eq!(text(&p.ftvm(&["logs", "one"])), "hi\n");
    assert!(text(&p.ftvm(&["ps"])).contains("one "));
    assert_eq!(p.ftvm(&["stop", "-t", "60", "one"]).status.code(), Some(0));
    assert!(!text(&p.ftvm(&["ps"])).contains("one "));
    assert!(text(&p.ftvm(&["ps", "-a"])).contains("exited (143)"));
    p.refused(&["kill", "one"], 1, "not running");
    assert_eq!(p.ftvm(&["rm", "one"]).status.code(), Some(0));
    p.refused(&["logs", "one"], 1, "no run is named one");
}

/// Writes in two directories of the image; says what an earlier start left. `$1` is a path that is no volume.
const COUNTS: &str = r#"
d=$1; n=$(cat $d/n 2>/dev/null || echo 0); echo "start $n"; echo $((n + 1)) > $d/n
if [ $n = 0 ]; then
    mkdir $d/sub; echo text > $d/sub/f; ln $d/sub/f $d/hard; ln -s sub/f $d/soft; mkfifo $d/fifo; chmod 640 $d/hard
    touch -d 2001-02-03 $d/hard; truncate -s 200000 $d/sparse; rm $d/below; mv $d/moved $d/elsewhere; : > $d/elsewhere/new
fi
cd $d; stat -c '%n %f %h %s' hard sub/f soft fifo sparse sub; stat -c %Y hard; cat soft; ls . elsewhere
"#;

#[test]
fn a_named_run_keeps_what_it_wrote_until_rm() {
    let p = Place::new("layer");
    let text = |o: &Output| String::from_utf8_lossy(&o.stdout).into_owned();
    // Outside the working directory, which is written through.
    let below = Place::new("below");
    std::fs::create_dir(below.0.join("moved")).unwrap();
    below.file("moved/old", b"", 0o600);
    below.file("below", b"", 0o600);
    let dir = below.0.to_str().unwrap();
    let first = p.ftvm(&["run", "--name", "kept", "bash", "-c", COUNTS, "bash", dir]);
    assert!(text(&first).starts_with("start 0\n"), "{first:?}");
    assert_eq!(String::from_utf8_lossy(&first.stderr), "", "nothing is dropped");
    let second = p.ftvm(&["start", "-a", "kept"]);
    assert_eq!(
        text(&second).replace("start 1", "start 0"),
        text(&first),
        "{second:?}"
    );
    p.refused(&["run", "--name", "kept", "true"], 125, "ftvm start kept");
    assert_eq!(text(&p.ftvm(&["start", "kept"])), "kept\n");
    wait("it ends", &mut || text(&p.ftvm(&["ps"])).lines().count() == 1);
    assert!(text(&p.ftvm(&["logs", "kept"])).starts_with("start 2\n"));
    let layer = p.0.join("state/ftvm/kept/layer");
    let mut bytes = std::fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&layer, bytes).unwrap();
    p.refused(&["start", "-a", "kept"], 125, "damaged");
    assert_eq!(p.ftvm(&["rm", "kept"]).status.code(), Some(0));
    p.refused(&["start", "kept"], 1, "no run is named kept");
    let again = p.ftvm(&["run", "--rm", "--name", "kept", "bash", "-c", COUNTS, "bash", dir]);
    assert_eq!(text(&again), text(&first));
    assert!(
        !text(&p.ftvm(&["ps", "-a"])).contains("kept"),
        "--rm leaves nothing"
    );
    assert!(below.0.join("below").exists() && !below.0.join("n").exists());
}

#[test]
fn a_kept_layer_is_part_of_the_log() {
    let p = Place::new("layer-log");
    let below = Place::new("below-log");
    let script = "cat $0/n; echo more >> $0/n";
    let dir = below.0.to_str().unwrap();
    let text = |o: &Output| String::from_utf8_lossy(&o.stdout).into_owned();
    let recorded = p.ftvm(&["record", "-o", "log", "--name", "x", "sh", "-c", script, dir]);
    assert_eq!(text(&recorded), "", "{recorded:?}");
    std::fs::rename(p.0.join("log"), p.0.join("first")).unwrap();
    let recorded = p.ftvm(&["start", "-a", "x"]);
    assert_eq!(text(&recorded), "more\n", "{recorded:?}");
    p.ftvm(&["rm", "x"]);
    let replayed = p.ftvm(&["replay", "log"]);
    assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
    assert_eq!(String::from_utf8_lossy(&replayed.stdout), "more\n");
}

#[test]
fn json_lines_have_stable_codes() {
    let p = Place::new("json");
    let lines = |args: &[&str]| -> Vec<serde_json::Value> {
        let out = p.ftvm(args);
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        let parse = |l: &str| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"));
        err.lines().map(parse).collect()
    };
    let l = lines(&["run", "--json", "no-such-command"]);
    assert_eq!((&l[0]["code"], &l[0]["exit"]), (&"not-found".into(), &127.into()));
    assert_eq!((&l[1]["kind"], &l[1]["exit"]), (&"exit".into(), &127.into()));
    let l = lines(&["run", "--json", "--rootfs", "/no/such", "true"]);
    assert_eq!(l[0]["code"], "setup");
    let other = Place::new("json-other");
    let script = "echo lost > $0/file; kill -SEGV $$";
    let l = lines(&[
        "record",
        "-o",
        "log",
        "--json",
        "sh",
        "-c",
        script,
        other.0.to_str().unwrap(),
    ]);
    assert_eq!(l[0]["kind"], "note", "what was dropped");
    assert_eq!(l[1]["exit"], 139);
}

#[test]
fn an_image_that_takes_no_sigterm_dies_of_the_second() {
    let p = Place::new("deaf");
    let pids = |of: u32| -> Vec<u32> {
        let list = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
        list.split_whitespace().filter_map(|n| n.parse().ok()).collect()
    };
    let kill = |pid: u32, sig: i32| {
        // SAFETY: processes that this test has started.
        assert_eq!(unsafe { libc::kill(pid as i32, sig) }, 0);
    };
    // Computing without a call is no reason: the first one ends it.
    for (script, stop) in [
        ("echo up > up; while :; do :; done", false),
        ("echo up > up; sleep 100", true),
    ] {
        let _ = std::fs::remove_file(p.0.join("up"));
        let mut run = Command::new(env!("CARGO_BIN_EXE_ftvm"))
            .args(["run", "bash", "-c", script])
            .current_dir(&p.0)
            .spawn()
            .unwrap();
        wait("it starts", &mut || p.0.join("up").exists());
        if stop {
            // As if it hung in the host's kernel.
            for pid in pids(run.id()) {
                kill(pid, libc::SIGSTOP);
            }
            kill(run.id(), libc::SIGTERM);
            std::thread::sleep(std::time::Duration::from_millis(700));
            assert_eq!(run.try_wait().unwrap(), None);
        }
        kill(run.id(), libc::SIGTERM);
        let mut status = None;
        let mut asked = Instant::now();
        wait("it ends", &mut || {
            // One counts that comes half a second after the first was taken, and that may have been late.
            if stop && asked.elapsed() > Duration::from_secs(2) {
                // SAFETY: our own child, which nobody has waited for.
                unsafe { libc::kill(run.id() as i32, libc::SIGTERM) };
                asked = Instant::now();
            }
            status = run.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(143));
    }
}

#[test]
fn completions_and_man_pages() {
    let p = Place::new("made");
    let out = p.ftvm(&["completion", "bash"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("-F _ftvm"), "{text}");
    assert_eq!(p.ftvm(&["man", "pages"]).status.code(), Some(0));
    let page = std::fs::read_to_string(p.0.join("pages/ftvm-run.1")).unwrap();
    assert!(page.contains("rootfs"), "{page}");
}

#[test]
fn compat_reads_strace() {
    let p = Place::new("compat");
    p.file(
        "log",
        b"7 read(0, \"\", 1) = 0\n7 modify_ldt(0, 0x1, 0) = 0\n",
        0o600,
    );
    let out = p.ftvm(&["compat", "--strace-log", "log"]);
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "what libraries do without: {text}");
    assert!(
        text.contains("do without: modify_ldt") && text.contains("supported: read"),
        "{text}"
    );
    p.file("log", b"7 read(0, \"\", 1) = 0\n7 frobnicate(1) = 0\n", 0o600);
    let out = p.ftvm(&["compat", "--strace-log", "log"]);
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(7), "a call that nobody knows: {text}");
    assert!(text.contains("frobnicate"), "{text}");
}

/// The test is the supervisor of a run that takes long to begin.
#[test]
fn an_order_waits_for_a_run_that_begins() {
    let p = Place::new("begins");
    for dir in ["ftvm", "ftvm/x", "state", "state/ftvm", "state/ftvm/x"] {
        let made = std::fs::DirBuilder::new().mode(0o700).create(p.0.join(dir));
        made.unwrap();
    }
    let place = p.0.join("ftvm/x");
    let file = std::fs::File::create(place.join("lock")).unwrap();
    let lock = |kind: i32, from: i64| {
        use std::os::fd::AsRawFd;
        // SAFETY: all zero is a valid value, and the struct is valid for the call.
        let done = unsafe {
            let mut l: libc::flock = std::mem::zeroed();
            (l.l_type, l.l_start) = (kind as i16, from);
            libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const l)
        };
        assert_eq!(done, 0);
    };
    lock(libc::F_WRLCK, 0);
    let mut asks = Command::new(env!("CARGO_BIN_EXE_ftvm"))
        .args(["status", "--json", "x"])
        .env("XDG_RUNTIME_DIR", &p.0)
        .env("XDG_STATE_HOME", p.0.join("state"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(asks.try_wait().unwrap(), None, "it has not waited");
    let listener = std::os::unix::net::UnixListener::bind(place.join("orders")).unwrap();
    let (conn, _) = listener.accept().unwrap();
    let mut order = String::new();
    BufReader::new(&conn).read_line(&mut order).unwrap();
    assert!(order.contains("\"status\""), "{order}");
    (&conn).write_all(b"{\"role\":\"none\"}\n").unwrap();
    let out = asks.wait_with_output().unwrap();
    assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("\"none\""));
    // One that will not take any says so by its lock.
    drop(listener);
    std::fs::remove_file(place.join("orders")).unwrap();
    lock(libc::F_UNLCK, 1);
    p.refused(&["status", "x"], 1, "x: its supervisor: ");
}

#[test]
fn links_that_do_not_show_whose_they_are_are_bounded() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = free.local_addr().unwrap().to_string();
    drop(free);
    let mut agent = Command::new(env!("CARGO_BIN_EXE_ftvm"))
        .args(["agent", "--insecure", "--listen", &at])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(agent.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains("agent listening"), "{first}");
    let mut links: Vec<_> = (0..80)
        .map(|_| std::net::TcpStream::connect(&at).unwrap())
        .collect();
    let line = lines.next().unwrap().unwrap();
    let said =
        "agent: links: 1 closed, the last from 127.0.0.1: 64 other links have not shown yet whose they are";
    assert!(line.contains(said), "{line}");
    let children = format!("/proc/{0}/task/{0}/children", agent.id());
    wait("no more than 64 processes", &mut || {
        std::fs::read_to_string(&children)
            .unwrap()
            .split_whitespace()
            .count()
            <= 64
    });
    // The first to come are the first to go.
    assert_eq!(links[0].read(&mut [0]).unwrap_or(0), 0);
    agent.kill().unwrap();
    agent.wait().unwrap();
}
