//! Trials of what goes wrong around a container, and of what it must not be able to do.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use ftl_ci::bounded::input;
use serde_json::{Value, json};

use crate::bundle::{Bundle, Done, at, root, that, wait};
use crate::direct::{COUNTS, hook, in_user_namespace, same};

/// Name and body.
pub const ALL: &[(&str, fn() -> Done)] = &[
    ("create-aborted", create_aborted),
    ("private-state", private_state),
    ("user-namespace-joined", user_namespace_joined),
    ("restore-in-foreground", restore_in_foreground),
    ("restore-that-fails", restore_that_fails),
    ("below-mnt", below_mnt),
    ("mounts-recursive", mounts_recursive),
];

/// Those that a plain user cannot have.
pub const NEEDS_ROOT: &[&str] = &["user-namespace-joined", "below-mnt"];

fn create_aborted() -> Done {
    let mut b = Bundle::new("echo program")?;
    let dir = b.dir().display().to_string();
    let spawn = |b: &Bundle, more: &[&str]| {
        let mut c = b.command(&["create", "--bundle", &dir])?;
        c.args(more).arg("one");
        c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        c.spawn().map_err(at("create"))
    };
    let end = |mut creator: std::process::Child| {
        creator.kill().map_err(at("kill"))?;
        creator.wait().map_err(at("wait"))
    };
    // In a hook: the id shows whom it waits for.
    let mark = b.side("hook");
    let script = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600",
        mark.display()
    );
    b.config["hooks"]["createRuntime"] = json!([{
        "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]);
    b.write()?;
    let creator = spawn(&b, &[])?;
    wait(|| mark.exists())?;
    let state: Value = serde_json::from_str(&b.good(&["state", "one"])?).map_err(at("state"))?;
    that(state["status"] == "creating", || state.to_string())?;
    b.refused(&["start", "one"], "creating")?;
    let first = state["pid"].as_i64().ok_or("no pid")? as i32;
    end(creator)?;
    let hook = fs::read_to_string(&mark).map_err(at("hook"))?;
    let hook = b.left_over(hook.trim().parse().map_err(at("hook"))?);
    let pid = rustix::process::Pid::from_raw(hook.pid).ok_or("no hook")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).map_err(at("hook"))?;
    hook.wait()?;
    b.left_over(first).wait()?;
    b.good(&["delete", "one"])?;
    // When all is ready but the file for its id: nobody opens this one.
    b.config["hooks"] = json!({});
    b.write()?;
    let made = Command::new("mkfifo").arg(b.side("pid.new")).status();
    that(made.is_ok_and(|s| s.success()), || "mkfifo".to_string())?;
    let creator = spawn(&b, &["--pid-file", &b.side("pid").display().to_string()])?;
    let created = || {
        b.oci(&["state", "one"])
            .is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("\"created\""))
    };
    wait(created)?;
    let state: Value = serde_json::from_str(&b.good(&["state", "one"])?).map_err(at("state"))?;
    let first = state["pid"].as_i64().ok_or("no pid")? as i32;
    end(creator)?;
    b.left_over(first).wait()?;
    b.good(&["delete", "--force", "one"])?;
    // Before there is a state.
    let place = b.side("state").join("one");
    fs::create_dir(&place).map_err(at("directory"))?;
    b.refused(&["create", "--bundle", &dir, "one"], "already exists")?;
    b.refused(&["delete", "one"], "does not exist")?;
    b.good(&["delete", "--force", "one"])?;
    that(!place.exists(), || "its directory is left".to_string())?;
    same(&b.run(Stdio::null())?, 0, "program\n")
}

/// Variables of a program are nobody else's, although its user gets through the state directory.
fn private_state() -> Done {
    let mut b = Bundle::new("cat /etc/secret && echo nothing")?;
    fs::write(b.rootfs().join("etc/secret"), "hidden\n").map_err(at("secret"))?;
    if root() {
        in_user_namespace(&mut b)?;
    }
    b.config["linux"]["maskedPaths"] = json!(["/etc/secret"]);
    let c = b.make(&["create"], "one", Stdio::null())?;
    let modes = || -> Done {
        let place = b.side("state").join("one");
        for name in ["config.json", "state.json"] {
            let meta = fs::metadata(place.join(name)).map_err(at(name))?;
            let mode = meta.permissions().mode() & 0o7777;
            that(mode == 0o600, || format!("{name}: {mode:o}"))?;
        }
        Ok(())
    };
    modes()?;
    b.good(&["start", "one"])?;
    modes()?;
    same(&(c.wait()?, b.out()), 0, "nothing\n")
}

/// `restore` in the foreground, as somebody's child.
fn foreground(b: &Bundle, place: &str) -> Result<std::process::Child, String> {
    let dir = b.dir().display().to_string();
    let mut c = b.command(&["restore", "--image-path", place, "--bundle", &dir, "two"])?;
    let out = fs::File::create(b.side("out")).map_err(at("out"))?;
    c.stdin(Stdio::null()).stdout(out);
    let child = c.spawn().map_err(at("restore"))?;
    let running = || {
        let state = b.oci(&["state", "two"]);
        state.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("\"running\""))
    };
    wait(running)?;
    b.until("tick\n")?;
    Ok(child)
}

fn restore_in_foreground() -> Done {
    let b = Bundle::new("trap 'echo bye; exit 9' TERM; echo up; while :; do echo tick; sleep 0.05; done")?;
    let c = b.make(&["create"], "one", Stdio::null())?;
    b.good(&["start", "one"])?;
    b.until("up")?;
    let place = b.side("snapshot").display().to_string();
    b.good(&["checkpoint", "--image-path", &place, "one"])?;
    c.wait()?;
    // A signal is the program's, and its exit code is ours.
    let gone = |code: Option<i32>, want: i32| {
        that(code == Some(want), || {
            format!("{code:?}, not {want}: {:?}", b.out())
        })?;
        that(!b.side("state").join("two").exists(), || "it is left".to_string())
    };
    let mut verb = foreground(&b, &place)?;
    let pid = rustix::process::Pid::from_child(&verb);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(at("kill"))?;
    let status = verb.wait().map_err(at("restore"))?;
    gone(status.code(), 9)?;
    that(b.out().ends_with("bye\n"), || b.out())?;
    let mut verb = foreground(&b, &place)?;
    b.good(&["kill", "two", "KILL"])?;
    let status = verb.wait().map_err(at("restore"))?;
    gone(status.code(), 137)
}

fn restore_that_fails() -> Done {
    let mut b = Bundle::new(COUNTS)?;
    let place = b.side("snapshot").display().to_string();
    fs::create_dir(&place).map_err(at("snapshot"))?;
    fs::write(b.side("snapshot").join("image.ftsnap"), "").map_err(at("snapshot"))?;
    if let Some(c) = b.config.as_object_mut() {
        c.remove("process");
    }
    b.config["hooks"]["poststop"] = json!([hook(&b, "poststop")]);
    b.write()?;
    let dir = b.dir().display().to_string();
    for how in [&[][..], &["--detach"]] {
        let args = ["restore", "--image-path", &place, "--bundle", &dir];
        let all: Vec<&str> = args.iter().chain(how).chain(&["two"]).copied().collect();
        b.refused(&all, "no process")?;
        that(!b.side("state").join("two").exists(), || {
            format!("{how:?}: it is left")
        })?;
    }
    let order = fs::read_to_string(b.side("order")).map_err(at("order"))?;
    that(order == "poststop\npoststop\n", || order)
}

/// The runtime where /mnt is the test's own directory: a snapshot, a log and a hook are there, and the container's root
/// is seen there later.
fn below_mnt() -> Done {
    let mut b = Bundle::new(COUNTS)?;
    let wrapped = |b: &Bundle, args: &[&str]| -> Result<Command, String> {
        let inner = b.command(&[])?;
        let mut c = Command::new("unshare");
        c.args([
            "-m",
            "sh",
            "-c",
            "mount --bind \"$1\" /mnt && shift && exec \"$@\"",
            "sh",
        ]);
        c.arg(b.side(""))
            .arg(inner.get_program())
            .args(["--log", "/mnt/log"]);
        c.args(inner.get_args()).args(args);
        Ok(c)
    };
    let hooked = b.side("hooked");
    fs::write(b.side("hook"), format!("#!/bin/sh\n: > {}\n", hooked.display())).map_err(at("hook"))?;
    fs::set_permissions(b.side("hook"), fs::Permissions::from_mode(0o755)).map_err(at("hook"))?;
    b.config["hooks"]["createContainer"] = json!([{"path": "/mnt/hook"}]);
    b.config["process"]["env"] = json!(["PATH=/bin", "NOTHING"]);
    let (reader, mut writer) = std::io::pipe().map_err(at("pipe"))?;
    let c = b.make_by(wrapped(&b, &["create"])?, "one", reader.into())?;
    that(hooked.exists(), || "the hook did not run".to_string())?;
    b.good(&["start", "one"])?;
    writer.write_all(b"a\n").map_err(at("pipe"))?;
    b.until("1 a\n")?;
    let said = fs::read_to_string(b.side("log")).map_err(at("log"))?;
    that(
        said.contains("NOTHING") && !b.rootfs().join("log").exists(),
        || said,
    )?;
    let place = b.side("snapshot").display().to_string();
    b.good(&["checkpoint", "--image-path", &place, "one"])?;
    c.wait()?;
    b.good(&["delete", "one"])?;
    let dir = b.dir().display().to_string();
    let args = [
        "restore",
        "--image-path",
        "/mnt/snapshot",
        "--bundle",
        &dir,
        "two",
    ];
    let mut c = wrapped(&b, &args)?;
    let out = c
        .stdin(input("b\n").map_err(at("pipe"))?)
        .output()
        .map_err(at("restore"))?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    that(out.status.code() == Some(0) && said == "2 b\nend\n", || {
        format!("{out:?}")
    })
}

/// `rro` holds for what is mounted below, too.
fn mounts_recursive() -> Done {
    let script = "echo x > /a/f; echo x > /a/sub/f; echo x > /top/f; echo x > /top/sub/g; echo x > /all/f; echo x > /all/sub/g; \
        ls /a/sub";
    let mut b = Bundle::new(script)?;
    let from = b.rootfs().join("a");
    b.config["mounts"] = json!([
        {"destination": "/a", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/a/sub", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/top", "type": "bind", "source": from, "options": ["rbind", "ro"]},
        {"destination": "/all", "type": "bind", "source": from, "options": ["rbind", "rro"]},
    ]);
    same(&b.run(Stdio::null())?, 0, "f\ng\n")?;
    let err = b.err();
    let denied: Vec<&str> = err
        .lines()
        .filter(|l| l.contains("Read-only file system"))
        .collect();
    let all = |name: &str| denied.iter().any(|l| l.contains(name));
    that(
        denied.len() == 3 && all("/top/f") && all("/all/f") && all("/all/sub/g"),
        || err.clone(),
    )
}

/// The second container of a pod: its user namespace is the first one's.
fn user_namespace_joined() -> Done {
    let mut b = Bundle::new("echo up; read line; touch /tmp/a; stat -c %u /tmp/a")?;
    in_user_namespace(&mut b)?;
    let (reader, writer) = std::io::pipe().map_err(at("pipe"))?;
    let one = b.make(&["create"], "one", reader.into())?;
    let path = format!("/proc/{}/ns/user", one.pid);
    b.good(&["start", "one"])?;
    b.until("up")?;
    let mut second = Bundle::new("id -u; touch /tmp/a; stat -c %u /tmp/a")?;
    in_user_namespace(&mut second)?;
    second.config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "user", "path": path}]);
    same(&second.run(Stdio::null())?, 0, "0\n0\n").map_err(|why| format!("{why}; {}", second.err()))?;
    let m = fs::metadata(second.rootfs().join("tmp/a")).map_err(at("a"))?;
    that(m.uid() == 200_000, || m.uid().to_string())?;
    drop(writer);
    one.wait().map(drop)
}
