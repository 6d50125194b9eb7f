//! `ftvm exec`: further processes in running images, on the caller's streams.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("ftvm-exec-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for d in [dir.clone(), dir.join("state"), dir.join("now")] {
            fs::DirBuilder::new().mode(0o700).create(d).unwrap();
        }
        Place(dir)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_ftvm"));
        c.args(args)
            .current_dir(&self.0)
            .env("XDG_RUNTIME_DIR", self.0.join("now"))
            .env("XDG_STATE_HOME", self.0.join("state"))
            .env("XDG_DATA_HOME", &self.0)
            .stdin(Stdio::null());
        c
    }

    /// A run that is there until the place goes.
    fn sleeper(&self, name: &str) {
        let out = self
            .command(&["run", "-d", "--name", name, "--", "sleep", "1000"])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Two sessions in a run, both begun: a script that says in the files `eof` and `write` of `dir` what becomes of its streams
    /// when its caller is gone, and a terminal whose process leaves `hup` there.
    fn attached(&self, run: &str, dir: &str) -> (Child, Screen) {
        let reads = format!(
            "trap '' PIPE; echo up; cat; echo eof > {dir}eof; echo lost || echo $? > {dir}write; sleep 900"
        );
        let mut child = self
            .command(&["exec", "-i", run, "--", "sh", "-c", &reads])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        let hup = format!("trap 'echo hup > {dir}hup' HUP; echo up; while :; do sleep 0.05; done");
        let mut s = Screen::open(
            self.command(&["exec", "-it", run, "--", "sh", "-c", &hup]),
            24,
            80,
        );
        s.until("up\r\n");
        (child, s)
    }

    fn exec(&self, args: &[&str]) -> Output {
        let mut all = vec!["exec"];
        all.extend(args);
        self.command(&all).output().unwrap()
    }

    /// What a script in the image prints; it must succeed.
    fn sh(&self, run: &str, script: &str) -> String {
        let out = self.exec(&[run, "--", "sh", "-c", script]);
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{script}: {err}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(name)).ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Ok(list) = self.command(&["ps", "--json"]).output() {
            let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
            for run in list["runs"].as_array().into_iter().flatten() {
                let name = run["name"].as_str().unwrap_or_default();
                let _ = self.command(&["kill", "-s", "KILL", name]).output();
            }
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "{what}: did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn streams_and_exit_codes_are_the_callers() {
    let p = Place::new("streams");
    p.sleeper("x");
    let out = p.exec(&["x", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(out.status.code(), Some(7), "{out:?}");
    assert_eq!((&out.stdout[..], &out.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    let out = p.exec(&["x", "sh", "-c", "kill -9 $$"]);
    assert_eq!(out.status.code(), Some(137));
    // More than any pipe holds, both ways at once.
    let mut child = p
        .command(&["exec", "-i", "x", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text: Vec<u8> = (0..300_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let (mut to, sent) = (child.stdin.take().unwrap(), text.clone());
    let writer = std::thread::spawn(move || to.write_all(&sent));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(out.stdout == text && out.status.success());
    // Without -i there is no input.
    assert_eq!(p.sh("x", "cat; echo end"), "end\n");
    // No process of the image is the parent, and none has to wait for it.
    assert_eq!(p.sh("x", "echo $PPID"), "0\n");
    // The process's own child keeps its output open: the process's end is what counts.
    assert_eq!(p.sh("x", "sleep 900 & echo done"), "done\n");
    // No pipeline: another process of the shell's own would be one of that name until it has executed, as the one above may still be.
    wait("the shell that asks is the only one left", || {
        let left = p.sh("x", "grep -l '^Name:.sh$' /proc/[0-9]*/status; true");
        left.lines().count() == 1
    });
}

#[test]
fn environment_directory_and_user_are_as_told() {
    let p = Place::new("who");
    let out = p
        .command(&[
            "run", "-d", "--name", "x", "-e", "A=first", "--user", "root", "--", "sleep", "1000",
        ])
        .output()
        .unwrap();
    assert!(out.status.success());
    let out = p.exec(&[
        "-e",
        "B=own",
        "-w",
        "/",
        "x",
        "--",
        "sh",
        "-c",
        "echo $A $B; pwd; id -u",
    ]);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "first own\n/\n0\n");
    let out = p.exec(&[
        "-u",
        "77:88",
        "-w",
        "/",
        "x",
        "--",
        "sh",
        "-c",
        "id -u; id -g; grep CapEff /proc/self/status",
    ]);
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "77\n88\nCapEff:\t0000000000000000\n"
    );
    // Debian's base files have him.
    let out = p.exec(&[
        "-u",
        "daemon",
        "-w",
        "/",
        "x",
        "--",
        "sh",
        "-c",
        "id -u; echo $HOME",
    ]);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "1\n/usr/sbin\n");
    let out = p.exec(&["-w", "/nowhere", "x", "--", "true"]);
    assert_eq!(out.status.code(), Some(126));
    let out = p.exec(&["-u", "nobody-of-that-name", "x", "--", "true"]);
    assert_eq!(out.status.code(), Some(125));
}

#[test]
fn what_cannot_be_started_is_told_by_the_exit_code() {
    let p = Place::new("cannot");
    p.sleeper("x");
    let script = p.0.join("plain");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
    let code = |args: &[&str]| {
        let out = p.exec(args);
        (
            out.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    let told = |args: &[&str], wanted: i32, words: &str| {
        let (code, why) = code(args);
        assert!(code == wanted && why.contains(words), "{args:?}: {code}: {why}");
    };
    told(&["x", "--", "no-such-program"], 127, "not found on PATH");
    told(&["x", "--", "/no/such/program"], 127, "no such file");
    told(&["x", "--", "/etc/passwd"], 126, "permission denied");
    told(&["x", "--", script.to_str().unwrap()], 126, "permission denied");
    told(&["x", "--", "/etc"], 126, "");
    told(&["x"], 125, "no command");
    told(&["none", "--", "true"], 125, "no run is named none");
    // It goes on all the same.
    assert_eq!(p.sh("x", "echo here"), "here\n");
    p.command(&["stop", "x"]).output().unwrap();
    told(&["x", "--", "true"], 125, "not running");
}

#[test]
fn many_at_once() {
    let p = Place::new("many");
    p.sleeper("x");
    let all: Vec<(i32, Child)> = (1..=20)
        .map(|n| {
            let script = format!("echo {n}; exit {n}");
            let child = p
                .command(&["exec", "x", "--", "sh", "-c", &script])
                .stdout(Stdio::piped())
                .spawn();
            (n, child.unwrap())
        })
        .collect();
    for (n, child) in all {
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(n));
        assert_eq!(String::from_utf8_lossy(&out.stdout), format!("{n}\n"));
    }
}

#[test]
fn signals_are_passed_on_and_the_images_end_ends_it() {
    let p = Place::new("signals");
    p.sleeper("x");
    let start = |script: &str| {
        let child = p
            .command(&["exec", "x", "--", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        child
    };
    for (signo, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let mut child = start("echo up; exec sleep 900");
        // SAFETY: our own child.
        unsafe { libc::kill(child.id() as i32, signo) };
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
    let mut child = start("trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done");
    // SAFETY: our own child.
    unsafe { libc::kill(child.id() as i32, libc::SIGUSR1) };
    assert_eq!(child.wait().unwrap().code(), Some(9));
    // A caller that is killed: writes find nobody.
    let mut child =
        start("echo up; while echo x; do sleep 0.02; done 2>/dev/null; echo $? > broken; sleep 900");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(child);
    let mut child =
        start("trap '' PIPE; echo up; while echo x; do sleep 0.02; done 2>/dev/null; echo gone > gone");
    child.kill().unwrap();
    child.wait().unwrap();
    wait("a write that fails", || {
        p.file("gone").is_some_and(|t| t == "gone\n")
    });
    assert_eq!(p.file("broken"), None, "SIGPIPE has killed it");
    // Detached, it goes on without a caller.
    let out = p.exec(&[
        "-d",
        "x",
        "--",
        "sh",
        "-c",
        "echo lost; sleep 0.2; echo there > detached",
    ]);
    assert!(out.status.success() && out.stdout.ends_with(b"\n"), "{out:?}");
    wait("a detached process' end", || {
        p.file("detached").is_some_and(|t| t == "there\n")
    });
    // The image ends, and with it all that were started in it.
    let mut child = start("echo up; exec sleep 900");
    p.command(&["stop", "x"]).output().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(137));
}

/// A terminal, and a command on it.
struct Screen {
    master: fs::File,
    child: Child,
    seen: String,
}

impl Screen {
    fn open(mut command: Command, rows: u16, cols: u16) -> Screen {
        let (mut master, mut slave) = (0, 0);
        let size = libc::winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: room for two descriptors, which are new and ours.
        let (master, slave) = unsafe {
            let null = std::ptr::null_mut();
            assert_eq!(
                libc::openpty(
                    &raw mut master,
                    &raw mut slave,
                    null,
                    std::ptr::null(),
                    &raw const size
                ),
                0
            );
            (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
        };
        let again = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(again()).stdout(again()).stderr(again());
        // SAFETY: plain calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        Screen {
            master: master.into(),
            child,
            seen: String::new(),
        }
    }

    fn resize(&self, rows: u16, cols: u16) {
        let size = [rows, cols, 0, 0];
        // SAFETY: the kernel's struct winsize.
        unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, size.as_ptr()) };
    }

    fn keys(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `words` have come since the last call.
    fn until(&mut self, words: &str) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        let mut buf = [0; 4096];
        while !self.seen.contains(words) {
            let mut p = libc::pollfd {
                fd: self.master.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one valid pollfd.
            let n = unsafe { libc::poll(&raw mut p, 1, 1000) };
            assert!(Instant::now() < end, "{words:?} did not come: {:?}", self.seen);
            if n <= 0 {
                continue;
            }
            match self.master.read(&mut buf) {
                Ok(n) => self.seen.push_str(&String::from_utf8_lossy(&buf[..n])),
                Err(e) => panic!("{words:?} did not come: {:?}: {e}", self.seen),
            }
        }
        std::mem::take(&mut self.seen)
    }
}

#[test]
fn a_terminal_has_size_keys_and_jobs() {
    let p = Place::new("tty");
    p.sleeper("x");
    let mut s = Screen::open(p.command(&["exec", "-it", "x", "--", "sh"]), 33, 101);
    s.keys("PS1=; stty -echo; echo re''ady\n");
    s.until("ready\r\n");
    s.keys("tty; stty size\n");
    assert_eq!(s.until("101\r\n"), "/dev/pts/0\r\n33 101\r\n");
    s.resize(40, 90);
    // It comes beside the keys.
    s.keys("until stty size | grep '40 90'; do sleep 0.05; done\n");
    s.until("40 90\r\n");
    // Ctrl-C reaches the job and not the shell.
    s.keys("sh -c 'echo st''art; exec sleep 900'\n");
    s.until("start\r\n");
    s.keys("\x03");
    s.keys("echo code $?\n");
    s.until("code 130\r\n");
    s.keys("exit 5\n");
    assert_eq!(s.child.wait().unwrap().code(), Some(5));
    // The caller's terminal goes: the session hangs up.
    let script = "trap 'echo hup > hup; exit' HUP; echo up; while :; do sleep 0.05; done";
    let mut s = Screen::open(p.command(&["exec", "-it", "x", "--", "sh", "-c", script]), 24, 80);
    s.until("up\r\n");
    s.child.kill().unwrap();
    s.child.wait().unwrap();
    wait("SIGHUP", || p.file("hup").is_some_and(|t| t == "hup\n"));
}

#[test]
fn a_recorded_image_replays_with_what_was_started_in_it() {
    let p = Place::new("record");
    // It ends by what the second process of the image does.
    let script = "echo begin; while [ ! -e stop ]; do sleep 0.02; done; cat stop; echo end";
    let mut run = p
        .command(&["record", "--name", "r", "-o", "log", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begun = [0; 6];
    run.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    let mut child = p
        .command(&[
            "exec",
            "-i",
            "r",
            "--",
            "sh",
            "-c",
            "cat > got; wc -c < got; date +%N; od -An -N8 -x /dev/urandom",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&vec![b'x'; 200_000])
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.stdout.starts_with(b"200000\n"), "{out:?}");
    assert_eq!(p.exec(&["r", "--", "no-such-program"]).status.code(), Some(127));
    let mut s = Screen::open(
        p.command(&[
            "exec",
            "-it",
            "r",
            "--",
            "sh",
            "-c",
            "stty size; read x; echo $x > stop.new; mv stop.new stop",
        ]),
        20,
        70,
    );
    s.until("20 70\r\n");
    s.keys("typed\n");
    let mut rest = String::new();
    run.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "typed\nend\n");
    assert!(run.wait().unwrap().success());
    s.child.wait().unwrap();
    let replay = p.command(&["replay", "log"]).output().unwrap();
    let err = String::from_utf8_lossy(&replay.stderr);
    assert_eq!(replay.status.code(), Some(0), "{err}");
    assert_eq!(String::from_utf8_lossy(&replay.stdout), "begin\ntyped\nend\n");
    let log = p.command(&["log", "follow", "log"]).output().unwrap();
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(log.contains("exec sh -c"), "{log}");
}

#[test]
fn a_snapshot_has_the_processes_and_not_their_callers() {
    let p = Place::new("snapshot");
    p.sleeper("x");
    let counts = "n=0; trap '' PIPE; while :; do n=$((n+1)); echo $n > count.new; mv count.new count; sleep 0.02; done";
    let out = p.exec(&["-d", "x", "--", "sh", "-c", counts]);
    assert!(out.status.success());
    let (mut child, mut s) = p.attached("x", "");
    let done = p
        .command(&["checkpoint", "--volumes", "share", "x", "-o", "x.ftsnap"])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(child.wait().unwrap().code(), Some(125));
    assert_eq!(s.child.wait().unwrap().code(), Some(125));
    assert_eq!((p.file("eof"), p.file("hup")), (None, None));
    let _ = fs::remove_file(p.0.join("count"));
    let mut restored = p
        .command(&["restore", "--name", "y", "x.ftsnap"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for name in ["count", "eof", "write", "hup"] {
        wait(name, || p.file(name).is_some_and(|t| t.ends_with('\n')));
    }
    // And others can be started.
    assert_eq!(p.sh("y", "echo again"), "again\n");
    p.command(&["kill", "y"]).output().unwrap();
    restored.wait().unwrap();
}

#[test]
fn checks_tell_whether_a_run_is_well() {
    let p = Place::new("health");
    let how = [
        "--health-cmd",
        "test ! -e ill",
        "--health-interval",
        "50ms",
        "--health-retries",
        "2",
    ];
    let args: Vec<&str> = ["run", "-d", "--name", "x"]
        .iter()
        .chain(&how)
        .chain(&["--", "sleep", "1000"])
        .copied()
        .collect();
    let out = p.command(&args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let is = |how: &str| {
        let list = p.command(&["ps"]).output().unwrap();
        String::from_utf8_lossy(&list.stdout).contains(&format!("running ({how})"))
    };
    wait("healthy", || is("healthy"));
    fs::write(p.0.join("ill"), "").unwrap();
    wait("unhealthy", || is("unhealthy"));
    let told = p.command(&["status", "--json", "x"]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert!(told["health"]["failing_streak"].as_u64().unwrap() >= 2, "{told}");
    fs::remove_file(p.0.join("ill")).unwrap();
    wait("healthy again", || is("healthy"));
    // One that does not end is killed, and counts.
    p.command(&["rm", "-f", "x"]).output().unwrap();
    let args: Vec<&str> = [
        "run",
        "-d",
        "--name",
        "y",
        "--health-cmd",
        r#"["CMD", "sleep", "900"]"#,
    ]
    .iter()
    .chain(&[
        "--health-interval",
        "50ms",
        "--health-timeout",
        "200ms",
        "--health-retries",
        "1",
    ])
    .chain(&["--", "sleep", "1000"])
    .copied()
    .collect();
    assert!(p.command(&args).output().unwrap().status.success());
    wait("unhealthy by time", || is("unhealthy"));
    let out = p
        .command(&["run", "--health-cmd", "true", "--", "true"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(125), "a run without a name");
}

/// The network of an image is one for all of its processes.
#[test]
fn a_client_reaches_the_server_of_its_image() {
    let p = Place::new("redis");
    let server = [
        "--bind",
        "127.0.0.1",
        "--port",
        "6379",
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    let args: Vec<&str> = ["run", "-d", "--name", "x", "--net", "none", "--", "redis-server"]
        .iter()
        .chain(&server)
        .copied()
        .collect();
    let out = p.command(&args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let cli = |words: &[&str]| {
        let all: Vec<&str> = ["x", "--", "redis-cli"].iter().chain(words).copied().collect();
        p.exec(&all)
    };
    wait("the server", || cli(&["ping"]).stdout == b"PONG\n");
    assert_eq!(cli(&["set", "key", "value"]).stdout, b"OK\n");
    let mut child = p
        .command(&["exec", "-i", "x", "--", "redis-cli", "--pipe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sets: String = (0..5000).map(|n| format!("SET k{n} {n}\r\n")).collect();
    child.stdin.take().unwrap().write_all(sets.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("errors: 0, replies: 5000"), "{said}");
    assert_eq!(cli(&["get", "key"]).stdout, b"value\n");
    assert_eq!(cli(&["dbsize"]).stdout, b"5001\n");
    assert_eq!(cli(&["-p", "1", "ping"]).status.code(), Some(1));
}

/// Two hosts on one machine: directories of their own each, an agent on loopback, a file as arbiter.
#[test]
fn a_takeover_has_the_processes_and_not_their_callers() {
    let (a, b) = (Place::new("primary"), Place::new("backup"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = port.local_addr().unwrap().to_string();
    drop(port);
    let mut agent = b
        .command(&["agent", "--listen", &addr, "--insecure"])
        .spawn()
        .unwrap();
    wait("the agent", || std::net::TcpStream::connect(&addr).is_ok());
    let arbiter = format!("file:{}", b.0.join("arbiter").display());
    let args = [
        "--net",
        "none",
        "--no-cwd",
        "--insecure",
        "--protect",
        &addr,
        "--arbiter",
        &arbiter,
        // A takeover only when it is meant, however slow the machine is.
        "--detect-after",
        "5s",
    ];
    let args: Vec<&str> = ["run", "-d", "--name", "x"]
        .iter()
        .chain(&args)
        .chain(&["--", "sleep", "1000"])
        .copied()
        .collect();
    let out = a.command(&args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let status = |p: &Place| -> serde_json::Value {
        let out = p.command(&["status", "--json", "x"]).output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    };
    wait("protected", || status(&a)["protected"] == true);
    // Its output and its exit code pass the gate.
    let out = a.exec(&["x", "--", "sh", "-c", "seq 1 20000; exit 3"]);
    let all: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    let why = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(3), "{why}");
    assert!(
        out.stdout == all.as_bytes(),
        "{} of {} bytes; {why}",
        out.stdout.len(),
        all.len()
    );
    let (mut child, mut s) = a.attached("x", "/dev/shm/");
    let list = a.command(&["ps", "--json"]).output().unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    let pid = list["runs"][0]["pid"].as_i64().unwrap() as i32;
    // SAFETY: the run's supervisor, which this test has started.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    assert_eq!(child.wait().unwrap().code(), Some(125));
    assert_eq!(s.child.wait().unwrap().code(), Some(125));
    wait("the takeover", || status(&b)["role"] == "primary");
    for file in ["eof", "write", "hup"] {
        let path = format!("/dev/shm/{file}");
        // With what is in it: it is made a moment before.
        wait(file, || {
            b.exec(&["x", "--", "cat", &path]).stdout.ends_with(b"\n")
        });
    }
    let out = b.exec(&["x", "--", "sh", "-c", "cat /dev/shm/write; exit 4"]);
    assert_eq!((out.status.code(), &out.stdout[..]), (Some(4), &b"1\n"[..]));
    b.command(&["kill", "x"]).output().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
}
