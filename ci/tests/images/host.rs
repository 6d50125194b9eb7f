//! A host of its own for a trial: folders, a registry, ftvm; and a way to a registry that dies.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use ftl_ci::bounded;
use ftl_ci::place::{self, Scratch};

/// Done, or why not.
pub type Done<T = ()> = Result<T, String>;

/// Builds `a:1` from busybox by the file a.toml.
pub const BUILD: [&str; 8] = [
    "image",
    "build",
    "-f",
    "a.toml",
    "--from",
    "/usr/bin/busybox",
    "-t",
    "a:1",
];

/// A host: its folders, and the servers that end with it.
pub struct Host {
    pub scratch: Scratch,
    pub data: PathBuf,
    pub servers: Vec<Child>,
}

/// What a command said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn good(self) -> Done<String> {
        match self.code {
            0 => Ok(self.out.trim().to_string()),
            code => Err(format!("exit code {code}\n{}\n{}", self.out, self.err)),
        }
    }

    pub fn refused(self, code: i32, part: &str) -> Done {
        match self.code == code && self.err.contains(part) {
            true => Ok(()),
            false => Err(format!(
                "expected exit code {code} and {part:?}, got {}\n{}\n{}",
                self.code, self.out, self.err
            )),
        }
    }
}

pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, a: T, b: T) -> Done {
    match a == b {
        true => Ok(()),
        false => Err(format!("{what}: {a:?} is not {b:?}")),
    }
}

pub fn io<T>(r: std::io::Result<T>) -> Done<T> {
    r.map_err(|e| e.to_string())
}

impl Host {
    pub fn new() -> Done<Host> {
        let scratch = io(Scratch::new())?;
        let data = scratch.side().join("data");
        for dir in ["data", "state", "run"] {
            io(fs::create_dir_all(scratch.side().join(dir)))?;
        }
        let mut open = io(fs::metadata(scratch.side().join("run")))?.permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut open, 0o700);
        io(fs::set_permissions(scratch.side().join("run"), open))?;
        Ok(Host {
            scratch,
            data,
            servers: Vec::new(),
        })
    }

    /// The same host with another user's data: nothing of the first store is there.
    pub fn elsewhere(&mut self) {
        self.data = self.scratch.side().join("elsewhere");
    }

    pub fn back(&mut self) {
        self.data = self.scratch.side().join("data");
    }

    pub fn cwd(&self) -> PathBuf {
        self.scratch.cwd()
    }

    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut c = Command::new(program);
        c.current_dir(self.cwd())
            .env("XDG_DATA_HOME", &self.data)
            .env("XDG_STATE_HOME", self.scratch.side().join("state"))
            .env("XDG_RUNTIME_DIR", self.scratch.side().join("run"))
            .env_remove("SOURCE_DATE_EPOCH")
            .env("LC_ALL", "C");
        c
    }

    pub fn ask(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Done<Said> {
        let mut c = self.command(program);
        c.args(args);
        let o = io(bounded::run(c, None, Duration::from_secs(120)))?;
        if o.timed_out {
            return Err(format!("{args:?}: not done in time\n{}", o.tail()));
        }
        Ok(Said {
            code: o.code,
            out: String::from_utf8_lossy(&o.stdout).into_owned(),
            err: String::from_utf8_lossy(&o.stderr).into_owned(),
        })
    }

    pub fn ftvm(&self, args: &[&str]) -> Done<Said> {
        self.ask(place::ftvm()?, args)
    }

    /// `ftvm run -d`: leaves processes, whose output goes to its log. What it told before.
    pub fn detached(&self, args: &[&str]) -> Done<String> {
        let mut c = self.command(place::ftvm()?);
        c.args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let done = io(c.output())?;
        let told = String::from_utf8_lossy(&done.stderr).trim().to_string();
        match done.status.success() {
            true => Ok(told),
            false => Err(format!("{args:?}: {told}")),
        }
    }

    pub fn write(&self, name: &str, text: &str) -> Done {
        io(fs::write(self.cwd().join(name), text))
    }

    /// A registry of its own. Its name for images.
    pub fn registry(&mut self) -> Done<String> {
        let port = free_port()?;
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
            self.scratch.side().join("registry").display()
        );
        let config = self.scratch.side().join("registry.yml");
        io(fs::write(&config, text))?;
        let mut c = Command::new("docker-registry");
        c.arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.servers
            .push(c.spawn().map_err(|e| format!("docker-registry: {e}"))?);
        up(port)?;
        Ok(format!("127.0.0.1:{port}"))
    }

    /// An image of a shell that prints a line, at this name.
    pub fn small(&self, name: &str, line: &str) -> Done<String> {
        let toml = format!("version = 1\ncommand = [\"/usr/bin/dash\", \"-c\", \"echo {line}\"]\n");
        self.write("small.toml", &toml)?;
        self.ftvm(&[
            "image",
            "build",
            "-f",
            "small.toml",
            "--from",
            "/usr/bin/dash",
            "-t",
            name,
        ])?
        .good()
    }

    pub fn names(&self) -> Done<usize> {
        Ok(self.ftvm(&["image", "ls"])?.good()?.lines().count())
    }

    /// Files in the registry's folder that hold blobs, largest first.
    pub fn registry_blobs(&self) -> Vec<PathBuf> {
        fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
            for e in fs::read_dir(dir).into_iter().flatten().flatten() {
                match e.path() {
                    p if p.is_dir() => walk(&p, out),
                    p if p.ends_with("data") => out.push(p),
                    _ => {}
                }
            }
        }
        let mut out = Vec::new();
        walk(&self.scratch.side().join("registry"), &mut out);
        out.sort_by_key(|p| std::cmp::Reverse(fs::metadata(p).map_or(0, |m| m.len())));
        out
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Ok(said) = self.ftvm(&["ps"]) {
            for name in said
                .out
                .lines()
                .skip(1)
                .filter_map(|l| l.split_whitespace().next())
            {
                let _ = self.ftvm(&["rm", "--force", name]);
            }
        }
        for s in &mut self.servers {
            let _ = s.kill();
            let _ = s.wait();
        }
    }
}

pub fn free_port() -> Done<u16> {
    let l = io(TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(io(l.local_addr())?.port())
}

/// Waits until somebody listens.
pub fn up(port: u16) -> Done {
    let limit = Instant::now() + Duration::from_secs(60);
    while Instant::now() < limit {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("nobody listens at {port}"))
}

/// A way to a registry that dies after so many bytes of answers: from then on it cuts and accepts nothing.
pub fn dying(upstream: &str, bytes: i64) -> Done<String> {
    let listener = io(TcpListener::bind(("127.0.0.1", 0)))?;
    let name = format!("127.0.0.1:{}", io(listener.local_addr())?.port());
    let left = Arc::new(AtomicI64::new(bytes));
    let upstream = upstream.to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if left.load(Ordering::Relaxed) <= 0 {
                return;
            }
            let (left, upstream) = (left.clone(), upstream.clone());
            std::thread::spawn(move || -> std::io::Result<()> {
                let server = TcpStream::connect(upstream)?;
                let (mut c, mut s) = (client.try_clone()?, server.try_clone()?);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut c, &mut s);
                    let _ = s.shutdown(Shutdown::Write);
                });
                let (mut c, mut s) = (client, server);
                let mut buf = [0; 4096];
                loop {
                    let n = s.read(&mut buf)?;
                    let allowed = left.fetch_sub(n as i64, Ordering::Relaxed);
                    if n == 0 || allowed <= 0 {
                        return c.shutdown(Shutdown::Both);
                    }
                    c.write_all(&buf[..n.min(allowed as usize)])?;
                }
            });
        }
    });
    Ok(name)
}
