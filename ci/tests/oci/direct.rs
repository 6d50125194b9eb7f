//! Trials that drive the runtime themselves.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use ftl_ci::bounded::input;
use serde_json::{Value, json};

use crate::bundle::{Bundle, Done, at, bring, read_until, that, wait};

/// Name and body.
pub const ALL: &[(&str, fn() -> Done)] = &[
    ("process", process),
    ("stdin", stdin),
    ("signalled", signalled),
    ("terminal", terminal),
    ("states", states),
    ("kill", kill),
    ("pause", pause),
    ("checkpoint", checkpoint),
    ("checkpoint-leave-running", checkpoint_leave_running),
    ("hooks", hooks),
    ("hooks-that-fail", hooks_that_fail),
    ("mounts", mounts),
    ("root-readonly", root_readonly),
    ("refused", refused),
    ("log", log),
    ("told", told),
    ("limits", limits),
    ("user", user),
    ("user-namespace", user_namespace),
    ("network-namespace", network_namespace),
    ("redis", redis),
    ("nginx", nginx),
];

/// Those that a plain user cannot have.
pub const NEEDS_ROOT: &[&str] = &["user", "user-namespace", "network-namespace"];

/// Exit code and output are these.
pub fn same(got: &(i32, String), code: i32, out: &str) -> Done {
    that(got.0 == code && got.1 == out, || {
        format!("{got:?} instead of {:?}", (code, out))
    })
}

fn process() -> Done {
    let mut b =
        Bundle::new("echo $A; pwd; hostname; id -u; cat /proc/sys/kernel/hostname; echo >/made; exit 3")?;
    b.config["process"]["cwd"] = "/not/there".into();
    b.config["hostname"] = "box_1".into();
    same(&b.run(Stdio::null())?, 3, "b c\n/not/there\nbox_1\n0\nbox_1\n")?;
    that(b.rootfs().join("made").is_file(), || {
        "what it wrote is not in its root".to_string()
    })?;
    that(!b.side("state").join("one").exists(), || {
        "its state is left behind".to_string()
    })
}

fn stdin() -> Done {
    let b = Bundle::of(&["cat"])?;
    let text = "x".repeat(200_000) + "\nend\n";
    same(&b.run(input(&text).map_err(at("pipe"))?.into())?, 0, &text)
}

fn signalled() -> Done {
    let b = Bundle::new("kill -9 $$")?;
    same(&b.run(Stdio::null())?, 137, "")
}

/// The master of the terminal that comes over the console socket.
fn master(listener: &UnixListener) -> Result<OwnedFd, String> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let (conn, _) = listener.accept().map_err(at("accept"))?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let mut data = [std::io::IoSliceMut::new(&mut name)];
    recvmsg(&conn, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC).map_err(at("recvmsg"))?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            return fds.next().ok_or("no descriptor".to_string());
        }
    }
    Err("no descriptor came".to_string())
}

fn terminal() -> Done {
    let mut b = Bundle::new("tty; read line; echo got $line; exit 4")?;
    b.config["process"]["terminal"] = true.into();
    let path = b.side("console");
    let listener = UnixListener::bind(&path).map_err(at("console socket"))?;
    b.write()?;
    b.refused(
        &["create", "--bundle", &b.dir().display().to_string(), "one"],
        "console-socket",
    )?;
    let socket = path.display().to_string();
    let c = b.make(&["create", "--console-socket", &socket], "one", Stdio::null())?;
    let mut terminal = fs::File::from(master(&listener)?);
    b.good(&["start", "one"])?;
    let said = read_until(&mut terminal, "\n")?;
    that(said.contains("/dev/"), || said)?;
    terminal.write_all(b"hello\n").map_err(at("terminal"))?;
    read_until(&mut terminal, "got hello")?;
    let code = c.wait()?;
    that(code == 4, || format!("exit code {code}"))
}

fn states() -> Done {
    let b = Bundle::new("read line")?;
    b.refused(&["state", "one"], "does not exist")?;
    b.refused(&["start", "one"], "does not exist")?;
    b.refused(&["kill", "one", "TERM"], "does not exist")?;
    b.refused(&["delete", "one"], "does not exist")?;
    b.refused(&["state", "../one"], "not a container id")?;
    b.good(&["delete", "--force", "one"])?;
    let (reader, writer) = std::io::pipe().map_err(at("pipe"))?;
    let c = b.make(&["create"], "one", reader.into())?;
    let is = |want: &str| {
        let s = b.status("one")?;
        that(s == want, || format!("{s}, not {want}"))
    };
    is("created")?;
    let dir = b.dir().display().to_string();
    b.refused(&["create", "--bundle", &dir, "one"], "already exists")?;
    b.refused(&["delete", "one"], "not stopped")?;
    b.refused(&["pause", "one"], "created")?;
    b.refused(&["checkpoint", "one"], "created")?;
    b.good(&["start", "one"])?;
    is("running")?;
    b.refused(&["start", "one"], "running")?;
    b.refused(&["delete", "one"], "not stopped")?;
    b.refused(&["resume", "one"], "running")?;
    let listed = b.good(&["exec", "one", "ls", "/"])?;
    that(listed.contains("bin\n"), || listed)?;
    drop(writer);
    let code = c.wait()?;
    that(code == 1, || format!("exit code {code}"))?;
    is("stopped")?;
    let state: Value = serde_json::from_str(&b.good(&["state", "one"])?).map_err(at("state"))?;
    that(state["pid"] == 0 && state["bundle"] == dir.as_str(), || {
        state.to_string()
    })?;
    b.refused(&["start", "one"], "stopped")?;
    b.refused(&["kill", "one", "TERM"], "not running")?;
    b.refused(&["pause", "one"], "stopped")?;
    b.good(&["delete", "one"])?;
    b.refused(&["delete", "one"], "does not exist")?;
    // The id is free again, and one that was never started can go.
    let c = b.make(&["create"], "one", Stdio::null())?;
    b.good(&["delete", "--force", "one"])?;
    let code = c.wait()?;
    that(code == 137, || format!("killed while it waited: {code}"))
}

fn kill() -> Done {
    let b = Bundle::new(
        "trap 'echo got usr1' USR1; trap 'echo got rt' 37; trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.05; done",
    )?;
    let c = b.make(&["create"], "one", Stdio::null())?;
    b.good(&["start", "one"])?;
    b.until("up")?;
    b.refused(&["kill", "one", "NOSUCH"], "unknown signal")?;
    b.good(&["kill", "one", "SIGUSR1"])?;
    b.until("got usr1")?;
    // One that ftvm's supervisor does not take by itself.
    b.good(&["kill", "one", "RTMIN+3"])?;
    b.until("got rt")?;
    b.good(&["kill", "one"])?;
    let code = c.wait()?;
    that(code == 9 && b.out().ends_with("bye\n"), || {
        format!("{code}: {}", b.out())
    })?;
    b.good(&["delete", "one"])?;
    let c = b.make(&["create"], "two", Stdio::null())?;
    b.good(&["start", "two"])?;
    b.good(&["kill", "two", "KILL"])?;
    let code = c.wait()?;
    that(code == 137, || format!("KILL: {code}"))
}

/// States of the image's host processes.
fn host_states(pid: i32) -> Vec<char> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let state = |p: &str| {
        let text = fs::read_to_string(format!("/proc/{p}/stat")).ok()?;
        text[text.rfind(')')? + 2..].chars().next()
    };
    children.split_whitespace().filter_map(state).collect()
}

fn pause() -> Done {
    let b = Bundle::new("sleep 600 & while read line; do echo $line; done")?;
    let (reader, mut writer) = std::io::pipe().map_err(at("pipe"))?;
    let c = b.make(&["create"], "one", reader.into())?;
    b.good(&["start", "one"])?;
    writer.write_all(b"first\n").map_err(at("pipe"))?;
    b.until("first\n")?;
    wait(|| host_states(c.pid).len() == 2)?;
    // A pause that nobody could find stops nothing.
    let new = b.side("state").join("one/state.json.new");
    fs::create_dir(&new).map_err(at("state.json.new"))?;
    b.refused(&["pause", "one"], "state.json.new")?;
    fs::remove_dir(&new).map_err(at("state.json.new"))?;
    let all = host_states(c.pid);
    that(all.len() == 2 && !all.contains(&'T'), || format!("{all:?}"))?;
    let s = b.status("one")?;
    that(s == "running", || s)?;
    b.good(&["pause", "one"])?;
    let s = b.status("one")?;
    that(s == "paused", || s)?;
    let all = host_states(c.pid);
    that(all.len() == 2 && all.iter().all(|s| *s == 'T'), || {
        format!("{all:?}")
    })?;
    b.refused(&["pause", "one"], "paused")?;
    writer.write_all(b"second\n").map_err(at("pipe"))?;
    b.good(&["resume", "one"])?;
    b.until("second\n")?;
    b.good(&["pause", "one"])?;
    b.good(&["kill", "one", "KILL"])?;
    let code = c.wait()?;
    that(code == 137, || format!("KILL of a paused one: {code}"))
}

/// Counts and prints lines until the end of its input.
pub const COUNTS: &str = "n=0; while read line; do n=$((n+1)); echo $n $line; done; echo end";

fn checkpoint() -> Done {
    let b = Bundle::new(COUNTS)?;
    let (reader, mut writer) = std::io::pipe().map_err(at("pipe"))?;
    let c = b.make(&["create"], "one", reader.into())?;
    b.good(&["start", "one"])?;
    writer.write_all(b"a\nb\n").map_err(at("pipe"))?;
    b.until("2 b\n")?;
    let place = b.side("snapshot").display().to_string();
    b.refused(
        &["checkpoint", "--image-path", &place, "--pre-dump", "one"],
        "--pre-dump",
    )?;
    b.good(&["checkpoint", "--image-path", &place, "one"])?;
    c.wait()?;
    let s = b.status("one")?;
    that(s == "stopped", || s)?;
    b.good(&["delete", "one"])?;
    let text = input("c\n").map_err(at("pipe"))?;
    let c = b.make(
        &["restore", "--detach", "--image-path", &place],
        "two",
        text.into(),
    )?;
    let code = c.wait()?;
    that(code == 0 && b.out() == "3 c\nend\n", || {
        format!("{code}: {:?}; {}", b.out(), b.err())
    })
}

fn checkpoint_leave_running() -> Done {
    let b = Bundle::new(COUNTS)?;
    let (reader, mut writer) = std::io::pipe().map_err(at("pipe"))?;
    let c = b.make(&["create"], "one", reader.into())?;
    b.good(&["start", "one"])?;
    writer.write_all(b"a\n").map_err(at("pipe"))?;
    b.until("1 a\n")?;
    let place = b.side("snapshot").display().to_string();
    b.good(&["checkpoint", "--leave-running", "--image-path", &place, "one"])?;
    writer.write_all(b"b\n").map_err(at("pipe"))?;
    drop(writer);
    let code = c.wait()?;
    that(code == 0 && b.out() == "1 a\n2 b\nend\n", || {
        format!("{code}: {:?}", b.out())
    })
}

/// A hook that appends its name, and the state that it is told, to a file.
pub fn hook(b: &Bundle, name: &str) -> Value {
    let script = format!("cat > {0}/{name}; echo {name} >> {0}/order", b.side("").display());
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 30})
}

fn hooks() -> Done {
    let mut b = Bundle::new("echo program")?;
    let host = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ];
    for name in host {
        b.config["hooks"][name] = json!([hook(&b, name)]);
    }
    // In the container's root: busybox is there, and the host's files are not.
    let inside = json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat > /told; test ! -e /usr"]}]);
    b.config["hooks"]["startContainer"] = inside;
    let done = b.run(Stdio::null())?;
    same(&done, 0, "program\n")?;
    let order = fs::read_to_string(b.side("order")).map_err(at("order"))?;
    let want: String = host.iter().map(|n| format!("{n}\n")).collect();
    that(order == want, || order)?;
    let status = |path: std::path::PathBuf| -> Result<Value, String> {
        let text = fs::read_to_string(&path).map_err(at(&path.display().to_string()))?;
        let v: Value = serde_json::from_str(&text).map_err(at(&text))?;
        that(v["id"] == "one", || text)?;
        Ok(v["status"].clone())
    };
    for (name, want) in [
        ("prestart", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        let s = status(b.side(name))?;
        that(s == want, || format!("{name}: {s}"))?;
    }
    status(b.rootfs().join("told")).map(drop)
}

fn hooks_that_fail() -> Done {
    for name in ["prestart", "createRuntime", "createContainer"] {
        let mut b = Bundle::new("echo program")?;
        b.config["hooks"][name] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo no such luck >&2; exit 1"]}]);
        b.write()?;
        let dir = b.dir().display().to_string();
        b.refused(&["create", "--bundle", &dir, "one"], "no such luck")?;
        b.refused(&["state", "one"], "does not exist")?;
        that(!b.side("state").join("one").exists(), || {
            format!("{name}: state is left")
        })?;
    }
    let mut b = Bundle::new("echo program")?;
    for name in ["poststart", "poststop"] {
        b.config["hooks"][name] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exit 1"]}]);
    }
    same(&b.run(Stdio::null())?, 0, "program\n")
}

fn mounts() -> Done {
    let mut b = Bundle::new(
        "cat /data/f /etc/one; echo w > /data/w; echo x > /ro/w; echo x > /etc/one; test -e /tmp/under && echo under; echo t > /tmp/t; cat /etc/secret; \
         echo x > /etc/fixed; ls /etc/dir; echo done",
    )?;
    let (data, one) = (b.side("data"), b.side("file"));
    fs::create_dir(&data).map_err(at("data"))?;
    fs::write(data.join("f"), "bound\n").map_err(at("data"))?;
    fs::write(&one, "one\n").map_err(at("file"))?;
    for name in ["secret", "fixed"] {
        fs::write(b.rootfs().join("etc").join(name), "hidden\n").map_err(at(name))?;
    }
    fs::create_dir(b.rootfs().join("etc/dir")).map_err(at("dir"))?;
    fs::write(b.rootfs().join("etc/dir/inner"), "").map_err(at("dir"))?;
    fs::write(b.rootfs().join("tmp/under"), "").map_err(at("under"))?;
    // A link in the root leads nowhere outside it.
    let outside = b.side("outside");
    fs::create_dir(&outside).map_err(at("outside"))?;
    std::os::unix::fs::symlink(&outside, b.rootfs().join("escape")).map_err(at("escape"))?;
    let bind = |to: &str, from: &std::path::Path, more: &[&str]| {
        let options: Vec<&str> = ["rbind", "rprivate"].iter().chain(more).copied().collect();
        json!({"destination": to, "source": from, "type": "bind", "options": options})
    };
    b.config["mounts"] = json!([
        bind("/data", &data, &[]),
        bind("/ro", &data, &["ro"]),
        bind("/etc/one", &one, &["ro"]),
        bind("/escape/in", &one, &[]),
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=1m", "tmpcopyup"]},
    ]);
    b.config["linux"]["maskedPaths"] = json!(["/etc/secret", "/etc/dir", "/proc/kcore", "/etc/none"]);
    b.config["linux"]["readonlyPaths"] = json!(["/etc/fixed", "/proc/sys"]);
    same(&b.run(Stdio::null())?, 0, "bound\none\nunder\ndone\n")?;
    let err = b.err();
    let lines = err
        .lines()
        .filter(|l| l.contains("Read-only file system"))
        .count();
    that(lines == 3, || err)?;
    let w = fs::read_to_string(data.join("w")).map_err(at("data/w"))?;
    that(w == "w\n", || w)?;
    that(!b.rootfs().join("tmp/t").exists(), || {
        "the tmpfs is the root's".to_string()
    })?;
    let none = fs::read_dir(&outside).map_err(at("outside"))?.count();
    that(none == 0, || "a link led out of the root".to_string())?;
    let mounted = fs::read_to_string("/proc/self/mountinfo").map_err(at("mountinfo"))?;
    let dir = b.dir().display().to_string();
    that(!mounted.contains(&dir), || {
        "mounts of the container are the host's".to_string()
    })
}

fn root_readonly() -> Done {
    let mut b = Bundle::new(
        "echo x > /x; mkdir /y; echo x > /etc/passwd; rm /bin/ls; echo t > /run/t && cat /run/t",
    )?;
    b.config["root"]["readonly"] = true.into();
    b.config["mounts"] = json!([{"destination": "/run", "type": "tmpfs", "source": "tmpfs"}]);
    same(&b.run(Stdio::null())?, 0, "t\n")?;
    let err = b.err();
    let lines = err
        .lines()
        .filter(|l| l.contains("Read-only file system"))
        .count();
    that(lines == 4, || err)
}

fn refused() -> Done {
    let mut b = Bundle::new("true")?;
    let good = b.config.clone();
    let dir = b.dir().display().to_string();
    let mut no = |words: &str, change: &dyn Fn(&mut Value)| {
        b.config = good.clone();
        change(&mut b.config);
        b.write()?;
        b.refused(&["create", "--bundle", &dir, "one"], words)?;
        that(!b.side("state").join("one").exists(), || {
            format!("{words}: state is left")
        })
    };
    no("ociVersion", &|c| c["ociVersion"] = "0.1.0".into())?;
    no("pid namespace", &|c| {
        c["linux"]["namespaces"] = json!([{"type": "pid", "path": "/proc/self/ns/pid"}])
    })?;
    no("not absolute", &|c| {
        c["mounts"] = json!([{"destination": "x", "source": "/tmp", "type": "bind"}])
    })?;
    no(
        "No such file",
        &|c| c["mounts"] = json!([{"destination": "/x", "source": "/no/such", "type": "bind"}]),
    )?;
    for option in ["idmap", "rnosymfollow", "secure"] {
        no(&format!("mount /x: option {option}: "), &|c| {
            c["mounts"] = json!([
                {"destination": "/x", "source": "/tmp", "type": "bind", "options": ["rbind", "ro", option]}])
        })?;
    }
    no("mount /x: uidMappings", &|c| {
        let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
        c["mounts"] = json!([
            {"destination": "/x", "source": "/tmp", "type": "bind", "uidMappings": map, "gidMappings": map}])
    })?;
    no("executable file not found in $PATH", &|c| {
        c["process"]["args"] = json!(["nonesuch"])
    })?;
    no("no such file or directory", &|c| {
        c["process"]["args"] = json!(["/bin/nonesuch"])
    })?;
    no("permission denied", &|c| {
        c["process"]["args"] = json!(["/etc/passwd"])
    })?;
    no("rootfs2", &|c| c["root"]["path"] = "rootfs2".into())?;
    no("network namespace", &|c| {
        c["linux"]["namespaces"] = json!([{"type": "network", "path": "/proc/self/ns/uts"}])
    })
    .or_else(|why| {
        if why.contains("net namespace") {
            Ok(())
        } else {
            Err(why)
        }
    })?;
    b.config = good.clone();
    if let Some(c) = b.config.as_object_mut() {
        c.remove("process");
    }
    b.make(&["create"], "one", Stdio::null())?;
    b.refused(&["start", "one"], "no process")
}

fn log() -> Done {
    let b = Bundle::new("true")?;
    let (text, lines) = (b.side("text"), b.side("json"));
    for (file, format) in [(&text, "text"), (&lines, "json")] {
        let mut c = b.command(&[
            "--log",
            &file.display().to_string(),
            "--log-format",
            format,
            "state",
            "one",
        ])?;
        let out = c.output().map_err(at("ftvm-oci"))?;
        that(out.status.code() == Some(1), || format!("{}", out.status))?;
    }
    let said = fs::read_to_string(&text).map_err(at("log"))?;
    that(
        said.contains("level=error msg=\"container one does not exist\""),
        || said,
    )?;
    let said = fs::read_to_string(&lines).map_err(at("log"))?;
    let v: Value = serde_json::from_str(&said).map_err(at(&said))?;
    that(
        v["level"] == "error" && v["msg"] == "container one does not exist" && v["time"].is_string(),
        || said,
    )?;
    // What is asked for and not so is told.
    let mut b = Bundle::new("true")?;
    b.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    b.config["linux"]["devices"] = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
    let file = b.side("log").display().to_string();
    let c = b.make(&["--log", &file, "create"], "one", Stdio::null())?;
    b.good(&["start", "one"])?;
    c.wait()?;
    let said = fs::read_to_string(&file).map_err(at("log"))?;
    that(said.contains("seccomp") && said.contains("/dev/fuse"), || said)
}

fn told() -> Done {
    let mut b = Bundle::new("sleep 600 & read line")?;
    b.config["annotations"] = json!({"a.b": "c"});
    let version = b.good(&["--version"])?;
    that(
        version.starts_with("ftvm-oci version ") && version.contains("\nspec: 1."),
        || version,
    )?;
    let features: Value = serde_json::from_str(&b.good(&["features"])?).map_err(at("features"))?;
    that(features["linux"]["seccomp"]["enabled"] == false, || {
        features.to_string()
    })?;
    let (reader, writer) = std::io::pipe().map_err(at("pipe"))?;
    let c = b.make(&["create"], "one", reader.into())?;
    b.refused(&["events", "--stats", "one"], "created")?;
    b.good(&["start", "one"])?;
    wait(|| host_states(c.pid).len() == 2)?;
    let list: Value = serde_json::from_str(&b.good(&["list", "--format", "json"])?).map_err(at("list"))?;
    that(
        list[0]["id"] == "one" && list[0]["pid"] == c.pid && list[0]["annotations"]["a.b"] == "c",
        || list.to_string(),
    )?;
    let ids = b.good(&["list", "-q"])?;
    that(ids == "one\n", || ids)?;
    let ps: Vec<i32> =
        serde_json::from_str(&b.good(&["ps", "--format", "json", "one"])?).map_err(at("ps"))?;
    that(ps.len() == 3 && ps[0] == c.pid, || format!("{ps:?}"))?;
    let stats: Value = serde_json::from_str(&b.good(&["events", "--stats", "one"])?).map_err(at("events"))?;
    that(stats["data"]["pids"]["current"] == 3, || stats.to_string())?;
    drop(writer);
    c.wait().map(drop)
}

fn limits() -> Done {
    let mut b = Bundle::new(
        "ulimit -n; ulimit -Hn; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; umask; true & true & true & wait; echo end",
    )?;
    std::os::unix::fs::symlink("busybox", b.rootfs().join("bin/grep")).map_err(at("grep"))?;
    // More than the host may give: the image keeps them itself.
    b.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 777, "hard": 3000000}]);
    b.config["process"]["noNewPrivileges"] = true.into();
    b.config["process"]["user"]["umask"] = 0o27.into();
    b.config["linux"]["resources"] = json!({"pids": {"limit": 100}, "memory": {"limit": 100 << 20}});
    let caps = "CapEff:\t00000000000000eb\nCapBnd:\t00000000000000eb\nNoNewPrivs:\t1\n";
    same(
        &b.run(Stdio::null())?,
        0,
        &format!("777\n3000000\n{caps}0027\nend\n"),
    )?;
    // A quota of CPU time is kept without a cgroup; what else there is of the CPU is told.
    for (shares, told) in [(None, false), (Some(512), true)] {
        let mut b = Bundle::new("echo up; read line")?;
        b.config["linux"]["resources"] = json!({"cpu": {"quota": 50_000, "period": 200_000}});
        if let Some(n) = shares {
            b.config["linux"]["resources"]["cpu"]["shares"] = json!(n);
        }
        let file = b.side("log").display().to_string();
        let (reader, writer) = std::io::pipe().map_err(at("pipe"))?;
        let c = b.make(&["--log", &file, "create"], "one", reader.into())?;
        b.good(&["start", "one"])?;
        b.until("up")?;
        let line = fs::read(format!("/proc/{}/cmdline", c.pid)).map_err(at("cmdline"))?;
        let line = String::from_utf8_lossy(&line).into_owned();
        that(line.contains("--cpus\x000.25\x00"), || line)?;
        drop(writer);
        c.wait()?;
        let said = fs::read_to_string(&file).unwrap_or_default();
        that(said.contains("of cpu its quota is kept") == told, || said)?;
    }
    let mut b = Bundle::new("sleep 9 & sleep 9 & echo never")?;
    b.config["linux"]["resources"] = json!({"pids": {"limit": 2}});
    let done = b.run(Stdio::null())?;
    that(
        done.0 == 2 && !done.1.contains("never") && b.err().contains("can't fork"),
        || format!("{done:?} {}", b.err()),
    )
}

fn user() -> Done {
    let mut b =
        Bundle::new("id; echo x > /tmp/mine; cat /etc/shadow; echo x > /not; stat -c '%u %g %a' /tmp/mine")?;
    let shadow = b.rootfs().join("etc/shadow");
    fs::write(&shadow, "secret\n").map_err(at("shadow"))?;
    fs::set_permissions(&shadow, fs::Permissions::from_mode(0o600)).map_err(at("shadow"))?;
    b.config["process"]["user"] = json!({"uid": 999, "gid": 998, "additionalGids": [7, 8], "umask": 0o77});
    same(
        &b.run(Stdio::null())?,
        0,
        "uid=999 gid=998 groups=7,8\n999 998 600\n",
    )?;
    let m = fs::metadata(b.rootfs().join("tmp/mine")).map_err(at("mine"))?;
    that((m.uid(), m.gid()) == (999, 998), || {
        format!("{}:{}", m.uid(), m.gid())
    })?;
    let err = b.err();
    that(err.matches("Permission denied").count() == 2, || err)
}

fn user_namespace() -> Done {
    let mut b = Bundle::new("id -u; touch /tmp/a /tmp/b; stat -c %u /tmp/a")?;
    in_user_namespace(&mut b)?;
    same(&b.run(Stdio::null())?, 0, "0\n0\n")?;
    let m = fs::metadata(b.rootfs().join("tmp/a")).map_err(at("a"))?;
    that(m.uid() == 200_000, || m.uid().to_string())
}

/// With a user namespace whose root is another user here, who has the root.
pub fn in_user_namespace(b: &mut Bundle) -> Done {
    let map = json!([{"containerID": 0, "hostID": 200000, "size": 1000}]);
    b.config["linux"]["namespaces"]
        .as_array_mut()
        .into_iter()
        .for_each(|n| n.push(json!({"type": "user"})));
    b.config["linux"]["uidMappings"] = map.clone();
    b.config["linux"]["gidMappings"] = map;
    let chown = Command::new("chown")
        .args(["-R", "200000:200000"])
        .arg(b.rootfs())
        .status();
    that(chown.is_ok_and(|s| s.success()), || "chown".to_string())
}

fn network_namespace() -> Done {
    // A server in the container's network is not met in the host's.
    let mut b = Bundle::new(
        "nc -l -p 7 < /etc/passwd & while ! nc 127.0.0.1 7 < /dev/null; do sleep 0.05; done; wait",
    )?;
    std::os::unix::fs::symlink("busybox", b.rootfs().join("bin/nc")).map_err(at("nc"))?;
    b.config["linux"]["namespaces"]
        .as_array_mut()
        .into_iter()
        .for_each(|n| n.push(json!({"type": "network"})));
    let done = b.run(Stdio::null())?;
    that(done.0 == 0 && done.1.contains("root:x:0:0"), || {
        format!("{done:?} {}", b.err())
    })
}

fn free_port() -> Result<u16, String> {
    let l = TcpListener::bind("127.0.0.1:0").map_err(at("bind"))?;
    Ok(l.local_addr().map_err(at("bind"))?.port())
}

fn ask(port: u16, text: &str, until: &str) -> Result<String, String> {
    wait(|| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
    let mut conn = TcpStream::connect(("127.0.0.1", port)).map_err(at("connect"))?;
    conn.write_all(text.as_bytes()).map_err(at("send"))?;
    read_until(&mut conn, until)
}

fn redis() -> Done {
    let port = free_port()?;
    let number = port.to_string();
    let args = [
        "/usr/bin/redis-server",
        "--port",
        &number,
        "--dir",
        "/data",
        "--save",
        "",
    ];
    let b = Bundle::of(&args)?;
    bring(&b.rootfs(), args[0])?;
    fs::create_dir(b.rootfs().join("data")).map_err(at("data"))?;
    let c = b.make(&["create"], "one", Stdio::null())?;
    b.good(&["start", "one"])?;
    let said = ask(port, "SET k value\r\nGET k\r\nSAVE\r\n", "value\r\n+OK\r\n")?;
    that(said.starts_with("+OK\r\n$5\r\nvalue"), || said)?;
    b.good(&["kill", "one", "TERM"])?;
    let code = c.wait()?;
    that(code == 0 && b.rootfs().join("data/dump.rdb").is_file(), || {
        format!("{code}: {}", b.out())
    })
}

fn nginx() -> Done {
    let port = free_port()?;
    let b = Bundle::of(&["/usr/sbin/nginx", "-p", "/srv", "-c", "/srv/nginx.conf"])?;
    bring(&b.rootfs(), "/usr/sbin/nginx")?;
    for dir in ["srv", "var/log/nginx", "var/lib/nginx", "run"] {
        fs::create_dir_all(b.rootfs().join(dir)).map_err(at(dir))?;
    }
    let conf = format!(
        "daemon off; worker_processes 2; user root; error_log /dev/stderr; pid /run/nginx.pid;
        events {{ worker_connections 64; }}
        http {{ access_log off; server {{ listen 127.0.0.1:{port}; root /srv; }} }}"
    );
    fs::write(b.rootfs().join("srv/nginx.conf"), conf).map_err(at("nginx.conf"))?;
    fs::write(b.rootfs().join("srv/page"), "a page of the bundle\n").map_err(at("page"))?;
    let c = b.make(&["create"], "one", Stdio::null())?;
    b.good(&["start", "one"])?;
    let said = ask(port, "GET /page HTTP/1.0\r\n\r\n", "a page of the bundle\n")
        .map_err(|e| format!("{e}; {}", b.err()))?;
    that(said.starts_with("HTTP/1.1 200"), || said)?;
    b.good(&["kill", "one", "QUIT"])?;
    let code = c.wait()?;
    that(code == 0, || format!("{code}: {}", b.err()))
}
