//! Bundles, and a container driven as conmon drives it.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use ftl_ci::place::{self, Scratch};
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};

/// Longest time for anything here: only a hang takes it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a trial says of itself.
pub type Done = Result<(), String>;

/// An error with what was being done.
pub fn at<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String {
    move |e| format!("{what}: {e}")
}

/// Fails with these words unless it holds.
pub fn that(holds: bool, why: impl FnOnce() -> String) -> Done {
    if holds { Ok(()) } else { Err(why()) }
}

/// A bundle with busybox, and the state directory of a runtime.
pub struct Bundle {
    scratch: Scratch,
    /// config.json, not yet written.
    pub config: Value,
}

/// One that has been created.
pub struct Container<'a> {
    bundle: &'a Bundle,
    /// Its id.
    pub id: String,
    /// Its first process, which is this test's child by now.
    pub pid: i32,
}

const APPLETS: [&str; 16] = [
    "sh", "cat", "echo", "id", "ls", "sleep", "kill", "touch", "stat", "tty", "env", "hostname", "mkdir",
    "true", "pwd", "rm",
];

/// A root with a static busybox.
pub fn busybox(root: &Path) -> io::Result<()> {
    for dir in ["bin", "etc", "tmp"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for name in APPLETS {
        symlink("busybox", root.join("bin").join(name))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")
}

impl Bundle {
    /// Runs `sh -c script`.
    pub fn new(script: &str) -> Result<Bundle, String> {
        Bundle::of(&["/bin/sh", "-c", script])
    }

    /// Runs this.
    pub fn of(args: &[&str]) -> Result<Bundle, String> {
        let scratch = Scratch::new().map_err(at("scratch"))?;
        busybox(&scratch.cwd().join("rootfs")).map_err(at("busybox"))?;
        let all = json!([
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_KILL",
            "CAP_SETGID",
            "CAP_SETUID"
        ]);
        let mut config = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "hostname": "box",
            "process": {
                "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/", "env": ["PATH=/bin:/usr/bin", "A=b c"],
                "capabilities": {"bounding": all, "effective": all, "permitted": all},
            },
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}]},
        });
        if !root() {
            // As a plain user: with a user namespace in which that user is root.
            let me = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
            config["linux"]["uidMappings"] = me(rustix::process::getuid().as_raw());
            config["linux"]["gidMappings"] = me(rustix::process::getgid().as_raw());
            let list = config["linux"]["namespaces"].as_array_mut();
            list.into_iter().for_each(|l| l.push(json!({"type": "user"})));
        }
        Ok(Bundle { scratch, config })
    }

    /// The container's root.
    pub fn rootfs(&self) -> PathBuf {
        self.dir().join("rootfs")
    }

    /// The bundle.
    pub fn dir(&self) -> PathBuf {
        self.scratch.cwd()
    }

    /// A path of the test's own.
    pub fn side(&self, name: &str) -> PathBuf {
        self.scratch.side().join(name)
    }

    /// The runtime with this verb.
    pub fn command(&self, args: &[&str]) -> Result<Command, String> {
        let mut c = Command::new(place::ftvm_oci()?);
        c.arg("--root").arg(self.side("state")).args(args);
        Ok(c)
    }

    /// Its output.
    pub fn oci(&self, args: &[&str]) -> Result<Output, String> {
        let mut c = self.command(args)?;
        c.stdin(Stdio::null()).output().map_err(at("ftvm-oci"))
    }

    /// Its standard output; it must succeed.
    pub fn good(&self, args: &[&str]) -> Result<String, String> {
        let out = self.oci(args)?;
        let err = String::from_utf8_lossy(&out.stderr);
        that(out.status.success(), || format!("{args:?}: {err}"))?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// It must fail, with these words.
    pub fn refused(&self, args: &[&str], words: &str) -> Done {
        let out = self.oci(args)?;
        let err = String::from_utf8_lossy(&out.stderr);
        that(!out.status.success() && err.contains(words), || {
            format!("{args:?}: {}: {err:?} lacks {words:?}", out.status)
        })
    }

    /// `status` of `state`.
    pub fn status(&self, id: &str) -> Result<String, String> {
        let state: Value = serde_json::from_str(&self.good(&["state", id])?).map_err(at("state"))?;
        Ok(state["status"].as_str().unwrap_or_default().to_string())
    }

    /// Writes config.json.
    pub fn write(&self) -> Done {
        fs::write(self.dir().join("config.json"), self.config.to_string()).map_err(at("config.json"))
    }

    /// `create` (or `restore`) with these streams; output goes to the file `out` at the side.
    pub fn make(&self, verb: &[&str], id: &str, stdin: Stdio) -> Result<Container<'_>, String> {
        self.make_by(self.command(verb)?, id, stdin)
    }

    /// The same by a command that is begun.
    pub fn make_by(&self, mut c: Command, id: &str, stdin: Stdio) -> Result<Container<'_>, String> {
        self.write()?;
        let pid_file = self.side(&format!("{id}.pid"));
        let out = fs::File::create(self.side("out")).map_err(at("out"))?;
        let err = self.side("err");
        c.arg("--bundle")
            .arg(self.dir())
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(id);
        c.stdin(stdin)
            .stdout(out)
            .stderr(fs::File::create(&err).map_err(at("err"))?);
        let status = c.status().map_err(at("ftvm-oci"))?;
        let said = fs::read_to_string(&err).unwrap_or_default();
        that(status.success(), || format!("{c:?}: {said}"))?;
        let pid = fs::read_to_string(&pid_file).map_err(at("pid file"))?;
        let pid = pid.parse().map_err(at("pid file"))?;
        Ok(Container {
            bundle: self,
            id: id.to_string(),
            pid,
        })
    }

    /// A process that has become this test's child: the first one of a `create` that was ended, a hook.
    pub fn left_over(&self, pid: i32) -> Container<'_> {
        Container {
            bundle: self,
            id: format!("process {pid}"),
            pid,
        }
    }

    /// Creates, starts, waits for the end, deletes: exit code and output.
    pub fn run(&self, stdin: Stdio) -> Result<(i32, String), String> {
        let c = self.make(&["create"], "one", stdin)?;
        self.good(&["start", "one"])?;
        let code = c.wait()?;
        self.good(&["delete", "one"])?;
        Ok((code, self.out()))
    }

    /// What the container has printed.
    pub fn out(&self) -> String {
        fs::read_to_string(self.side("out")).unwrap_or_default()
    }

    /// What it has said on standard error.
    pub fn err(&self) -> String {
        let text = fs::read_to_string(self.side("err")).unwrap_or_default();
        let most = text.len().saturating_sub(4000);
        String::from_utf8_lossy(&text.as_bytes()[most..]).into_owned()
    }

    /// Waits until the container has printed this.
    pub fn until(&self, words: &str) -> Done {
        wait(|| self.out().contains(words))
            .map_err(|_| format!("no {words:?} in {:?}; stderr {:?}", self.out(), self.err()))
    }
}

/// Waits until it holds.
pub fn wait(holds: impl Fn() -> bool) -> Done {
    let end = Instant::now() + LIMIT;
    while !holds() {
        that(Instant::now() < end, || {
            format!("not within {} s", LIMIT.as_secs())
        })?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

impl Container<'_> {
    /// Its exit code, 128+n for a signal; it must end.
    pub fn wait(&self) -> Result<i32, String> {
        let pid = Pid::from_raw(self.pid).ok_or("no pid")?;
        let end = Instant::now() + LIMIT;
        loop {
            if let Some((_, s)) = waitpid(Some(pid), WaitOptions::NOHANG).map_err(at("waitpid"))? {
                let code = s.exit_status().or(s.terminating_signal().map(|n| 128 + n));
                return code.ok_or_else(|| format!("{s:?}"));
            }
            that(Instant::now() < end, || {
                format!(
                    "{} has not ended; output {:?}, stderr {:?}",
                    self.id,
                    self.bundle.out(),
                    self.bundle.err()
                )
            })?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for id in ["one", "two"] {
            let _ = self.oci(&["delete", "--force", id]);
        }
    }
}

/// This test runs as root.
pub fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Copies a program and the libraries that it is linked with.
pub fn bring(root: &Path, program: &str) -> Done {
    let out = Command::new("ldd").arg(program).output().map_err(at("ldd"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let libraries = text.split_whitespace().filter(|w| w.starts_with('/'));
    for file in libraries.chain([program]) {
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap_or(root)).map_err(at(file))?;
        fs::copy(file, &to).map_err(at(file))?;
    }
    Ok(())
}

/// Reads until `words` have come.
pub fn read_until(from: &mut impl Read, words: &str) -> Result<String, String> {
    let (mut all, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if text.contains(words) {
            return Ok(text);
        }
        let n = from.read(&mut buf).map_err(|e| format!("{e} after {text:?}"))?;
        that(n > 0, || format!("no {words:?} in {text:?}"))?;
        all.extend_from_slice(&buf[..n]);
    }
}
