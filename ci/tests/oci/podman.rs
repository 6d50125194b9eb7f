//! Trials under podman and its conmon, with images made here: no registry, no cgroups, storage of the test's own.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ftl_ci::bounded::{self, Outcome};
use ftl_ci::place::{self, Scratch};

use crate::bundle::{Done, at, busybox, root, that, wait};

/// Name and body.
pub const ALL: &[(&str, fn(&Podman) -> Done)] = &[
    ("run", run),
    ("stdin", stdin),
    ("terminal", terminal),
    ("detached", detached),
    ("writes-stay", writes_stay),
    ("volumes", volumes),
    ("read-only", read_only),
    ("networks", networks),
    ("errors", errors),
    ("exec", exec),
    ("health", health),
];

/// podman of one user.
#[derive(Clone)]
pub struct Podman {
    scratch: Arc<Scratch>,
    /// To be run as this user; as whoever we are otherwise.
    other: Option<&'static str>,
    runtime: PathBuf,
}

/// Root and a plain user if we are root, else whoever we are.
pub fn users() -> Vec<(&'static str, Podman)> {
    let list: &[(&str, Option<&'static str>)] = match root() {
        true => &[("root", None), ("rootless", Some("nobody"))],
        false => &[("rootless", None)],
    };
    let all = list.iter().map(|(who, other)| Ok((*who, Podman::new(*other)?)));
    all.collect::<Result<_, String>>().unwrap_or_else(|why| {
        eprintln!("oci: {why}");
        Vec::new()
    })
}

const IMAGE: &str = "localhost/busybox:1";

impl Podman {
    fn new(other: Option<&'static str>) -> Result<Podman, String> {
        let scratch = Scratch::new().map_err(at("scratch"))?;
        let top = scratch.cwd();
        let bin = top.join("bin");
        for dir in ["bin", "home", "run", "tmp"] {
            fs::create_dir(top.join(dir)).map_err(at(dir))?;
        }
        // Where the other user can reach them.
        for (from, name) in [(place::ftvm()?, "ftvm"), (place::ftvm_oci()?, "ftvm-oci")] {
            fs::copy(&from, bin.join(name)).map_err(at(name))?;
        }
        let conf = "[engine]\nruntime_supports_json = [\"ftvm-oci\", \"crun\", \"runc\"]\n";
        fs::write(top.join("containers.conf"), conf).map_err(at("containers.conf"))?;
        if let Some(user) = other {
            let dirs = ["home", "run", "tmp"].map(|d| top.join(d));
            let status = Command::new("chown")
                .arg(user)
                .args(&dirs)
                .status()
                .map_err(at("chown"))?;
            that(status.success(), || format!("chown {user}"))?;
        }
        Ok(Podman {
            scratch: Arc::new(scratch),
            other,
            runtime: bin.join("ftvm-oci"),
        })
    }

    fn command(&self, args: &[&str]) -> Command {
        let top = self.scratch.cwd();
        let mut c = match self.other {
            Some(user) => {
                let mut c = Command::new("setpriv");
                c.args([
                    "--reuid",
                    user,
                    "--regid",
                    "nogroup",
                    "--clear-groups",
                    "--inh-caps=-all",
                    "podman",
                ]);
                c
            }
            None => Command::new("podman"),
        };
        c.current_dir(top.join("home"));
        c.env("HOME", top.join("home"))
            .env("XDG_RUNTIME_DIR", top.join("run"))
            .env("TMPDIR", top.join("tmp"));
        c.env("CONTAINERS_CONF", top.join("containers.conf"))
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME");
        c.arg("--root")
            .arg(top.join("home/storage"))
            .arg("--runroot")
            .arg(top.join("run/storage"));
        c.args([
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
            "--runtime",
        ]);
        c.arg(&self.runtime).args(args);
        c
    }

    fn with(&self, args: &[&str], stdin: Option<&str>) -> Result<Outcome, String> {
        bounded::run(self.command(args), stdin, Duration::from_secs(120)).map_err(at("podman"))
    }

    /// Standard output; it must succeed.
    fn good(&self, args: &[&str]) -> Result<String, String> {
        let done = self.with(args, None)?;
        that(done.code == 0, || format!("podman {args:?}: {}", done.tail()))?;
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Exit code and output of a container that is removed afterwards.
    fn run(&self, options: &[&str], script: &str, code: i32, out: &str) -> Done {
        let args: Vec<&str> = ["run", "--rm", "--network", "none"]
            .iter()
            .chain(options)
            .chain(&[IMAGE, "sh", "-c", script])
            .copied()
            .collect();
        let done = self.with(&args, None)?;
        let got = String::from_utf8_lossy(&done.stdout).into_owned();
        that(done.code == code && got == out, || {
            format!("{script}: {}: {got:?}; {}", done.code, done.tail())
        })
    }

    /// podman is there and can make an image: everything but the runtime under test.
    pub fn works(&self) -> Result<(), String> {
        let there = Command::new("podman")
            .arg("--version")
            .output()
            .map_err(at("podman"))?;
        that(there.status.success(), || {
            String::from_utf8_lossy(&there.stderr).into_owned()
        })?;
        let top = self.scratch.cwd();
        busybox(&top.join("image")).map_err(at("busybox"))?;
        let tar = top.join("image.tar");
        let made = Command::new("tar")
            .args(["--owner=0", "--group=0", "--numeric-owner", "-cf"])
            .arg(&tar)
            .arg("-C")
            .arg(top.join("image"))
            .arg(".")
            .status();
        that(made.is_ok_and(|s| s.success()), || "tar".to_string())?;
        self.good(&["import", &tar.display().to_string(), IMAGE])
            .map(drop)
    }
}

fn run(p: &Podman) -> Done {
    p.run(
        &["--hostname", "box", "-e", "A=b c", "-w", "/tmp"],
        "echo $A; pwd; hostname; id -u; cat /proc/self/comm; exit 3",
        3,
        "b c\n/tmp\nbox\n0\ncat\n",
    )?;
    p.run(&[], "kill -TERM $$", 143, "")
}

fn stdin(p: &Podman) -> Done {
    let text = "line\n".repeat(20_000);
    let done = p.with(
        &["run", "-i", "--rm", "--network", "none", IMAGE, "cat"],
        Some(&text),
    )?;
    that(done.code == 0 && done.stdout == text.as_bytes(), || {
        format!("{}: {}", done.code, done.tail())
    })
}

/// A terminal of script(1) around podman; the container has one of its own behind conmon.
fn terminal(p: &Podman) -> Done {
    let inner = p.command(&[
        "run",
        "-it",
        "--rm",
        "--network",
        "none",
        IMAGE,
        "sh",
        "-c",
        "tty; read x; echo got $x; exit 5",
    ]);
    let words: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|w| format!("'{}'", w.to_string_lossy()))
        .collect();
    let mut c = Command::new("script");
    c.args(["-qec", &words.join(" "), "/dev/null"]);
    c.envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
    c.current_dir(inner.get_current_dir().unwrap_or(std::path::Path::new("/")));
    c.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut child = c.spawn().map_err(at("script"))?;
    let (mut input, output) = (child.stdin.take(), child.stdout.take());
    let mut output = output.ok_or("no output")?;
    crate::bundle::read_until(&mut output, "/dev/")?;
    if let Some(i) = &mut input {
        i.write_all(b"hello\n").map_err(at("terminal"))?;
    }
    crate::bundle::read_until(&mut output, "got hello")?;
    let status = child.wait().map_err(at("script"))?;
    that(status.code() == Some(5), || status.to_string())
}

fn detached(p: &Podman) -> Done {
    let done = detached_once(p);
    // Whatever went wrong, nothing runs on.
    let _ = p.with(&["rm", "-f", "-t", "0", "detached"], None);
    done
}

fn detached_once(p: &Podman) -> Done {
    let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    let name = "detached";
    p.good(&[
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "none",
        IMAGE,
        "sh",
        "-c",
        script,
    ])?;
    let said = |words: &str| p.good(&["logs", name]).is_ok_and(|l| l.contains(words));
    wait(|| said("up"))?;
    let is = |want: &str| {
        let s = p.good(&[
            "inspect",
            name,
            "--format",
            "{{.State.Status}} {{.State.ExitCode}}",
        ])?;
        that(s.trim() == want, || format!("{s}, not {want}"))
    };
    is("running 0")?;
    let paused = p.with(&["pause", name], None)?;
    let why = String::from_utf8_lossy(&paused.stderr).into_owned();
    match paused.code {
        0 => {
            is("paused 0")?;
            p.good(&["unpause", name])?;
        }
        // podman itself asks for cgroups first.
        _ if why.contains("cgroup V1") => eprintln!("podman does not pause here: {}", why.trim()),
        _ => return Err(why),
    }
    is("running 0")?;
    p.good(&["stop", "-t", "60", name])?;
    is("exited 7")?;
    wait(|| said("bye"))?;
    p.good(&["rm", name])?;
    let rest = p.good(&["ps", "-aq", "--filter", "name=detached"])?;
    that(rest.is_empty(), || rest)
}

/// A container that stays, for as long as the body needs it.
fn with_sleeper(p: &Podman, name: &str, options: &[&str], body: impl FnOnce() -> Done) -> Done {
    let args: Vec<&str> = ["run", "-d", "--name", name, "--network", "none"]
        .iter()
        .chain(options)
        .chain(&[IMAGE, "sleep", "1000"])
        .copied()
        .collect();
    let done = p.good(&args).and_then(|_| body());
    // Whatever went wrong, nothing runs on.
    let _ = p.with(&["rm", "-f", "-t", "0", name], None);
    done
}

fn exec(p: &Podman) -> Done {
    with_sleeper(p, "execs", &["-e", "A=container"], || {
        let is = |args: &[&str], input: Option<&str>, code: i32, out: &str| {
            let all: Vec<&str> = std::iter::once("exec").chain(args.iter().copied()).collect();
            let done = p.with(&all, input)?;
            let got = String::from_utf8_lossy(&done.stdout).into_owned();
            that(done.code == code && got == out, || {
                format!("{args:?}: {}: {got:?}; {}", done.code, done.tail())
            })
        };
        let name = "execs";
        is(&[name, "sh", "-c", "echo $A; exit 4"], None, 4, "container\n")?;
        is(
            &["-e", "A=own", "-w", "/tmp", name, "sh", "-c", "echo $A; pwd"],
            None,
            0,
            "own\n/tmp\n",
        )?;
        is(
            &["-u", "7:8", name, "sh", "-c", "id -u; id -g"],
            None,
            0,
            "7\n8\n",
        )?;
        let text = "line\n".repeat(20_000);
        is(&["-i", name, "cat"], Some(&text), 0, &text)?;
        is(&[name, "sh", "-c", "kill -TERM $$"], None, 143, "")?;
        // What one process writes, the others see.
        is(&[name, "sh", "-c", "echo x > /tmp/shared"], None, 0, "")?;
        is(&[name, "cat", "/tmp/shared"], None, 0, "x\n")?;
        is(
            &["-t", name, "sh", "-c", "test -t 0 && test -t 1 && echo tty"],
            None,
            0,
            "tty\r\n",
        )?;
        for (command, code) in [("no-such", 127), ("/no/such", 127), ("/etc/passwd", 126)] {
            let done = p.with(&["exec", name, command], None)?;
            that(done.code == code, || {
                format!("{command}: {}: {}", done.code, done.tail())
            })?;
        }
        p.good(&["exec", "-d", name, "sh", "-c", "sleep 0.1; echo y > /tmp/later"])?;
        wait(|| {
            p.good(&["exec", name, "cat", "/tmp/later"])
                .is_ok_and(|t| t == "y\n")
        })
    })
}

fn health(p: &Podman) -> Done {
    let check = "test ! -e /tmp/ill";
    with_sleeper(
        p,
        "health",
        &["--health-cmd", check, "--health-interval", "disable"],
        || {
            let run = |code: i32| {
                let done = p.with(&["healthcheck", "run", "health"], None)?;
                that(done.code == code, || {
                    format!("healthcheck: {}: {}", done.code, done.tail())
                })
            };
            run(0)?;
            p.good(&["exec", "health", "touch", "/tmp/ill"])?;
            run(1)
        },
    )
}

/// The root is written through: a second start of a container, and a commit, find what the first wrote.
fn writes_stay(p: &Podman) -> Done {
    let script = "echo x >> /tmp/count; cat /tmp/count";
    p.good(&[
        "create",
        "--name",
        "stays",
        "--network",
        "none",
        IMAGE,
        "sh",
        "-c",
        script,
    ])?;
    let first = p.good(&["start", "-a", "stays"])?;
    let second = p.good(&["start", "-a", "stays"])?;
    that(first == "x\n" && second == "x\nx\n", || {
        format!("{first:?} {second:?}")
    })?;
    let changed = p.good(&["diff", "stays"])?;
    that(changed.contains("A /tmp/count"), || changed)?;
    p.good(&["rm", "stays"]).map(drop)
}

fn volumes(p: &Podman) -> Done {
    let dir = p.scratch.cwd().join("home/data");
    // Made by podman's user.
    let made = match p.other {
        Some(user) => Command::new("install")
            .args(["-d", "-o", user])
            .arg(&dir)
            .status(),
        None => Command::new("install").arg("-d").arg(&dir).status(),
    };
    that(made.is_ok_and(|s| s.success()), || "install".to_string())?;
    let (rw, ro) = (
        format!("{}:/data", dir.display()),
        format!("{}:/ro:ro", dir.display()),
    );
    p.run(
        &["-v", &rw, "-v", &ro],
        "echo w > /data/w; cat /ro/w; echo x > /ro/x; ls /data",
        0,
        "w\nw\n",
    )?;
    let w = fs::read_to_string(dir.join("w")).map_err(at("w"))?;
    that(w == "w\n", || w)
}

fn read_only(p: &Podman) -> Done {
    p.run(
        &["--read-only"],
        "echo x > /x; echo t > /tmp/t && cat /tmp/t; echo $?",
        0,
        "t\n0\n",
    )
}

fn networks(p: &Podman) -> Done {
    // The host's name file and network, and none.
    let done = p.with(
        &["run", "--rm", "--network", "host", IMAGE, "cat", "/etc/hosts"],
        None,
    )?;
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    that(done.code == 0 && out.contains("localhost"), || done.tail())?;
    p.run(
        &[],
        "cat /etc/hosts >/dev/null && cat /etc/hostname >/dev/null && echo there",
        0,
        "there\n",
    )
}

fn errors(p: &Podman) -> Done {
    let code = |args: &[&str], code: i32, words: &str| {
        let all: Vec<&str> = ["run", "--rm", "--network", "none"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let done = p.with(&all, None)?;
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        that(done.code == code && err.contains(words), || {
            format!("{args:?}: {}: {err}", done.code)
        })
    };
    code(&[IMAGE, "nonesuch"], 127, "executable file not found in $PATH")?;
    code(&[IMAGE, "/etc/passwd"], 126, "permission denied")
}
