//! Application images: built, pushed to a real registry, pulled, verified, run; and what must not go through.
//!
//! `cargo test -p ftl-ci --test images [FILTER]`. Environment: `FTVM_BIN`. Every trial has a store, a state folder and, if it
//! needs one, a registry (docker-registry, on loopback) of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use ftl_ci::bounded;
use ftl_ci::place::{self, Scratch};
use libtest_mimic::{Arguments, Trial};

type Done<T = ()> = Result<T, String>;

/// A host: its folders, and the servers that end with it.
struct Host {
    scratch: Scratch,
    data: PathBuf,
    servers: Vec<Child>,
}

/// What a command said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn good(self) -> Done<String> {
        match self.code {
            0 => Ok(self.out.trim().to_string()),
            code => Err(format!("exit code {code}\n{}\n{}", self.out, self.err)),
        }
    }

    fn refused(self, code: i32, part: &str) -> Done {
        match self.code == code && self.err.contains(part) {
            true => Ok(()),
            false => Err(format!(
                "expected exit code {code} and {part:?}, got {}\n{}\n{}",
                self.code, self.out, self.err
            )),
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, a: T, b: T) -> Done {
    match a == b {
        true => Ok(()),
        false => Err(format!("{what}: {a:?} is not {b:?}")),
    }
}

fn io<T>(r: std::io::Result<T>) -> Done<T> {
    r.map_err(|e| e.to_string())
}

impl Host {
    fn new() -> Done<Host> {
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
    fn elsewhere(&mut self) {
        self.data = self.scratch.side().join("elsewhere");
    }

    fn back(&mut self) {
        self.data = self.scratch.side().join("data");
    }

    fn cwd(&self) -> PathBuf {
        self.scratch.cwd()
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut c = Command::new(program);
        c.current_dir(self.cwd())
            .env("XDG_DATA_HOME", &self.data)
            .env("XDG_STATE_HOME", self.scratch.side().join("state"))
            .env("XDG_RUNTIME_DIR", self.scratch.side().join("run"))
            .env_remove("SOURCE_DATE_EPOCH")
            .env("LC_ALL", "C");
        c
    }

    fn ask(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Done<Said> {
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

    fn ftvm(&self, args: &[&str]) -> Done<Said> {
        self.ask(place::ftvm()?, args)
    }

    /// `ftvm run -d`: leaves processes, whose output goes to its log.
    fn detached(&self, args: &[&str]) -> Done {
        let mut c = self.command(place::ftvm()?);
        c.args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let done = io(c.output())?;
        match done.status.success() {
            true => Ok(()),
            false => Err(format!("{args:?}: {}", String::from_utf8_lossy(&done.stderr))),
        }
    }

    fn write(&self, name: &str, text: &str) -> Done {
        io(fs::write(self.cwd().join(name), text))
    }

    /// A registry of its own. Its name for images.
    fn registry(&mut self) -> Done<String> {
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
    fn small(&self, name: &str, line: &str) -> Done<String> {
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

    fn names(&self) -> Done<usize> {
        Ok(self.ftvm(&["image", "ls"])?.good()?.lines().count())
    }

    /// Files in the registry's folder that hold blobs, largest first.
    fn registry_blobs(&self) -> Vec<PathBuf> {
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

fn free_port() -> Done<u16> {
    let l = io(TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(io(l.local_addr())?.port())
}

/// Waits until somebody listens.
fn up(port: u16) -> Done {
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
fn dying(upstream: &str, bytes: i64) -> Done<String> {
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

/// The same input gives the same digest, whoever builds it where; skopeo reads what is built, as a layout and as a file.
fn build() -> Done {
    let mut h = Host::new()?;
    let first = h.small("small:1", "hello")?;
    same("the same again", &h.small("small:2", "hello")?, &first)?;
    h.elsewhere();
    same("in another store", &h.small("small:1", "hello")?, &first)?;
    h.back();
    same(
        "run",
        h.ftvm(&["run", "--image", "small:1"])?.good()?,
        "hello".into(),
    )?;
    h.ftvm(&["image", "save", "-o", "small.tar", "small:1"])?.good()?;
    let seen = h
        .ask(
            "skopeo",
            &["inspect", "--format", "{{.Digest}}", "oci-archive:small.tar"],
        )?
        .good()?;
    same("skopeo of the file", seen, first.clone())?;
    h.elsewhere();
    h.ftvm(&["image", "rm", "small:1"])?.good()?;
    h.ftvm(&["run", "--image", "small:1"])?
        .refused(3, "ftvm image pull small:1")?;
    h.ftvm(&["image", "load", "-i", "small.tar"])?.good()?;
    same(
        "run what was loaded",
        h.ftvm(&["run", "--image", "small:1"])?.good()?,
        "hello".into(),
    )?;
    // Another builder's image, with zstd and gzip layers, and our configuration over it.
    h.ask(
        "skopeo",
        &[
            "copy",
            "-q",
            "--dest-compress-format",
            "zstd",
            "oci-archive:small.tar",
            "oci:other:x",
        ],
    )?
    .good()?;
    h.write("over.toml", "version = 1\ncommand = [\"/usr/bin/dash\", \"-c\", \"echo over $A\"]\nenvironment = { A = \"it\" }\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "over.toml",
        "--from",
        "other",
        "-t",
        "over:1",
    ])?
    .good()?;
    same(
        "run over another",
        h.ftvm(&["run", "--image", "over:1"])?.good()?,
        "over it".into(),
    )?;
    // A name of a file in another directory does not matter, an unknown key does.
    h.write("bad.toml", "version = 1\ncomand = [\"x\"]\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "bad.toml",
        "--from",
        "/usr/bin/dash",
        "-t",
        "bad:1",
    ])?
    .refused(1, "bad.toml, line 2: unknown key comand; did you mean command?")?;
    h.write("hooks.toml", "version = 1\n[hooks]\nx = 1\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "hooks.toml",
        "--from",
        "/usr/bin/dash",
        "-t",
        "bad:1",
    ])?
    .refused(1, "hooks.toml, line 2: hooks: ")
}

/// A directory as root: links, hard links, modes, whole directories; the image's layer is what a run writes.
fn tree() -> Done {
    let h = Host::new()?;
    h.write(
        "small.toml",
        "version = 1\ncommand = [\"/usr/bin/dash\"]\nworkdir = \"/work\"\n",
    )?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "small.toml",
        "--from",
        "/usr/bin/dash",
        "--include",
        "/usr/bin/stat",
        "-t",
        "base:1",
    ])?
    .good()?;
    let tree = h.cwd().join("tree");
    io(fs::create_dir_all(tree.join("a/b")))?;
    io(fs::write(tree.join("a/one"), "one"))?;
    io(fs::hard_link(tree.join("a/one"), tree.join("a/two")))?;
    io(std::os::unix::fs::symlink("/a/one", tree.join("a/b/link")))?;
    io(fs::copy("/usr/bin/busybox", tree.join("sh")))?;
    h.write("tree.toml", "version = 1\ncommand = [\"/sh\", \"-c\", \"cat /a/b/link; echo more > /a/one; cat /a/two /a/one; id -u; pwd\"]\nuser = \"7:8\"\nworkdir = \"/a\"\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "tree.toml",
        "--from",
        "tree",
        "-t",
        "tree:1",
    ])?
    .good()?;
    let said = h.ftvm(&["run", "--image", "tree:1", "--user", "root"])?.good()?;
    // A hard link on the frozen root stays one in the layer: Linux shows the same through both names.
    if !said.starts_with("one") || !said.ends_with("0\n/a") {
        return Err(format!("printed {said}"));
    }
    same(
        "the root is as it was",
        h.ftvm(&[
            "run",
            "--image",
            "tree:1",
            "--user",
            "root",
            "--",
            "-c",
            "cat /a/one",
        ])?
        .good()?,
        "one".into(),
    )
}

/// To a real registry and back, with a signature; what is not signed, or by another key, does not run.
fn registry() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    let name = format!("{r}/some/app:1");
    let digest = h.small(&name, "hello")?;
    h.ftvm(&["image", "keygen", "-o", "key"])?.good()?;
    h.ftvm(&["image", "keygen", "-o", "other"])?.good()?;
    h.ftvm(&["image", "verify", "-k", "key.pub", &name])?
        .refused(1, "has no signature here")?;
    h.ftvm(&["run", "--image", &name, "--verify-key", "key.pub"])?
        .refused(125, "has no signature here")?;
    h.ftvm(&["image", "sign", "-k", "key", &name])?.good()?;
    h.ftvm(&["image", "push", &name])?.good()?;
    let seen = h
        .ask(
            "skopeo",
            &[
                "inspect",
                "--tls-verify=false",
                "--format",
                "{{.Digest}}",
                &format!("docker://{name}"),
            ],
        )?
        .good()?;
    same("skopeo in the registry", seen, digest.clone())?;
    h.elsewhere();
    h.ftvm(&["image", "pull", "--verify-key", "other.pub", &name])?
        .refused(1, "none of its 1 signatures is by the key")?;
    same("names after a refused pull", h.names()?, 0)?;
    same(
        "pulled",
        h.ftvm(&["image", "pull", "--verify-key", "key.pub", &name])?
            .good()?,
        digest.clone(),
    )?;
    same(
        "run",
        h.ftvm(&["run", "--image", &name, "--verify-key", "key.pub"])?
            .good()?,
        "hello".into(),
    )?;
    h.ftvm(&["run", "--image", &name, "--verify-key", "other.pub"])?
        .refused(125, "none of its 1 signatures")?;
    // The signature of another image is none of this one.
    let second = format!("{r}/some/app:2");
    h.small(&second, "another")?;
    let inspected = h.ftvm(&["image", "inspect", &name])?.good()?;
    let artifact = inspected
        .split("\"signatures\": [")
        .nth(1)
        .and_then(|s| s.split('"').nth(1))
        .ok_or("no signature")?;
    let manifest = io(fs::read_to_string(
        h.data.join("ftvm/images/blobs/sha256").join(&artifact[7..]),
    ))?;
    let layer = manifest
        .split("\"layers\":[{\"digest\":\"sha256:")
        .nth(1)
        .and_then(|s| s.get(..64))
        .ok_or("no layer")?;
    io(fs::copy(
        h.data.join("ftvm/images/blobs/sha256").join(layer),
        h.cwd().join("stolen.minisig"),
    ))?;
    h.ftvm(&["image", "sign", "--signature", "stolen.minisig", &second])?
        .good()?;
    h.ftvm(&["image", "verify", "-k", "key.pub", &second])?
        .refused(1, "none of its 1 signatures is by the key")?;
    h.ftvm(&["image", "verify", "-k", "key.pub", &name])?
        .good()
        .map(drop)
}

/// A layer that is damaged in the registry; a manifest that is; media types that nobody knows.
fn damaged() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    let name = format!("{r}/app:1");
    h.small(&name, "hello")?;
    h.ftvm(&["image", "push", &name])?.good()?;
    let blobs = h.registry_blobs();
    let layer = blobs.first().ok_or("no blobs in the registry")?;
    let good = io(fs::read(layer))?;
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    io(fs::write(layer, &bad))?;
    h.elsewhere();
    h.ftvm(&["image", "pull", &name])?
        .refused(1, "they are thrown away")?;
    same("names after a damaged layer", h.names()?, 0)?;
    h.ftvm(&["run", "--image", &name])?
        .refused(3, "ftvm image pull")?;
    io(fs::write(layer, &good))?;
    h.ftvm(&["image", "pull", &name])?.good()?;
    same("run", h.ftvm(&["run", "--image", &name])?.good()?, "hello".into())?;
    // Damaged in the store behind our back: found when it is unpacked.
    h.ftvm(&["image", "rm", &name])?.good()?;
    h.ftvm(&["image", "pull", &name])?.good()?;
    let stored = h.data.join("ftvm/images/blobs/sha256");
    let largest = io(fs::read_dir(&stored))?
        .flatten()
        .max_by_key(|e| e.metadata().map_or(0, |m| m.len()))
        .ok_or("no blobs")?;
    let mut bytes = io(fs::read(largest.path()))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    io(fs::write(largest.path(), bytes))?;
    h.ftvm(&["run", "--image", &name])?.refused(125, "unpacking")?;
    same(
        "roots",
        io(fs::read_dir(h.data.join("ftvm/images/roots")))?.count(),
        0,
    )
}

/// The registry dies in the middle of a layer: an error, no image; the next pull goes on where it was.
fn dies() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    h.small(&format!("{r}/app:1"), "hello")?;
    h.ftvm(&["image", "push", &format!("{r}/app:1")])?.good()?;
    h.elsewhere();
    let way = dying(&r, 600_000)?;
    h.ftvm(&["image", "pull", &format!("{way}/app:1")])?
        .refused(1, "tried 4 times")?;
    same("names", h.names()?, 0)?;
    let ingest = h.data.join("ftvm/images/ingest");
    let part = io(fs::read_dir(&ingest))?
        .flatten()
        .find(|e| e.file_name().to_string_lossy().ends_with(".part"))
        .ok_or("nothing was kept")?;
    let kept = io(part.metadata())?.len();
    if kept == 0 {
        return Err("the part that was fetched is empty".into());
    }
    // What is left would not do for the layer from its beginning: the part must be used.
    let size = h
        .registry_blobs()
        .first()
        .and_then(|b| fs::metadata(b).ok())
        .map_or(0, |m| m.len());
    let way = dying(&r, (size - kept) as i64 + 500_000)?;
    match size > size - kept + 500_000 {
        true => {}
        false => {
            return Err(format!(
                "only {kept} of {size} bytes were kept: this shows nothing"
            ));
        }
    }
    h.ftvm(&["image", "pull", &format!("{way}/app:1")])?.good()?;
    same(
        "run",
        h.ftvm(&["run", "--image", &format!("{way}/app:1")])?.good()?,
        "hello".into(),
    )
}

/// A full disk during pull and during unpacking: a small file system in a namespace of our own.
fn full() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    let name = format!("{r}/app:1");
    h.small(&name, "hello")?;
    h.ftvm(&["image", "push", &name])?.good()?;
    h.elsewhere();
    io(fs::create_dir_all(&h.data))?;
    let ftvm = place::ftvm()?;
    for (size, verb, why) in [
        ("1m", "image pull", "No space left"),
        ("3m", "run", "No space left"),
    ] {
        let data = h.data.display();
        let script = format!(
            "mount -t tmpfs -o size={size},mode=700 tmpfs {data} || exit 99; f={}; \
             case '{verb}' in run) $f image pull {name} >&2 || exit 98; $f run --image {name} && exit 97;; \
             *) $f image pull {name} && exit 97;; esac; \
             ls {data}/ftvm/images/roots | grep -v lock; $f image ls | wc -l",
            ftvm.display()
        );
        let said = h.ask("unshare", &["-Urm", "sh", "-c", &script])?;
        let names = if verb == "run" { "1" } else { "0" };
        if !said.err.contains(why) || said.out.trim() != names || said.code != 0 {
            return Err(format!(
                "{verb}: exit code {}\n{}\n{}",
                said.code, said.out, said.err
            ));
        }
    }
    Ok(())
}

/// redis: an image that is pulled, run, checkpointed, and restored where the image has to be pulled first.
fn redis() -> Done {
    let mut h = Host::new()?;
    let r = h.registry()?;
    let name = format!("{r}/kv:1");
    h.write("kv.toml", "version = 1\ncommand = [\"/usr/bin/redis-server\", \"--save\", \"\"]\nworkdir = \"/data\"\nexpose = [\"6379\"]\n[[volumes]]\npath = \"/data\"\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "kv.toml",
        "--from",
        "/usr/bin/redis-server",
        "-t",
        &name,
    ])?
    .good()?;
    h.ftvm(&["image", "push", &name])?.good()?;
    let port = free_port()?;
    let p = port.to_string();
    h.detached(&[
        "run", "-d", "--name", "kv", "--image", &name, "--", "--save", "", "--port", &p,
    ])?;
    up(port)?;
    same(
        "set",
        h.ask("redis-cli", &["-p", &p, "set", "a", "b"])?.good()?,
        "OK".into(),
    )?;
    h.ftvm(&["checkpoint", "kv", "-o", "kv.ftsnap"])?.good()?;
    h.ftvm(&["rm", "--force", "kv"])?.good()?;
    h.elsewhere();
    h.ftvm(&["restore", "kv.ftsnap"])?.refused(3, "ftvm image pull")?;
    h.ftvm(&["image", "pull", &name])?.good()?;
    h.detached(&["restore", "-d", "--name", "kv", "kv.ftsnap"])?;
    up(port)?;
    same(
        "get",
        h.ask("redis-cli", &["-p", &p, "get", "a"])?.good()?,
        "b".into(),
    )?;
    // Its root stays while it runs.
    h.ftvm(&["image", "rm", &name])?.good()?;
    same(
        "get again",
        h.ask("redis-cli", &["-p", &p, "get", "a"])?.good()?,
        "b".into(),
    )?;
    h.ftvm(&["stop", "kv"])?.good().map(drop)
}

/// nginx with files of the host that it asks for by name.
fn nginx() -> Done {
    let h = Host::new()?;
    let port = free_port()?;
    io(fs::create_dir_all(h.cwd().join("etc")))?;
    let conf = format!(
        "daemon off; master_process off; pid /run/nginx.pid; error_log stderr; events {{}} \
         http {{ access_log off; server {{ listen 127.0.0.1:{port}; root /var/www/html; }} }}"
    );
    // Its configuration comes by a second build over the first: another layer.
    h.write("nginx.toml", "version = 1\ncommand = [\"/usr/sbin/nginx\", \"-c\", \"/etc/ftl.conf\"]\n[[volumes]]\npath = \"/var/log/nginx\"\n[[volumes]]\npath = \"/var/lib/nginx\"\n[[volumes]]\npath = \"/run\"\n")?;
    let include = ["--include", "/etc/passwd", "--include", "/etc/group"];
    let mut words = vec![
        "image",
        "build",
        "-f",
        "nginx.toml",
        "--from",
        "/usr/sbin/nginx",
        "-t",
        "web:1",
    ];
    words.extend(include);
    h.ftvm(&words)?.good()?;
    io(fs::create_dir_all(h.cwd().join("www")))?;
    h.write("www/index.html", "it is nginx\n")?;
    io(fs::write(h.cwd().join("etc/ftl.conf"), conf))?;
    let (etc, www) = (h.cwd().join("etc/ftl.conf"), h.cwd().join("www"));
    let conf = format!("{}:/conf:ro", etc.parent().ok_or("no folder")?.display());
    let www = format!("{}:/var/www/html:ro", www.display());
    h.detached(&[
        "run",
        "-d",
        "--name",
        "web",
        "--image",
        "web:1",
        "-v",
        &conf,
        "-v",
        &www,
        "--",
        "-c",
        "/conf/ftl.conf",
    ])?;
    up(port).map_err(|e| {
        format!(
            "{e}\n{}",
            h.ftvm(&["logs", "web"]).map(|s| s.out).unwrap_or_default()
        )
    })?;
    same(
        "page",
        h.ask("curl", &["-s", &format!("http://127.0.0.1:{port}/")])?
            .good()?,
        "it is nginx".into(),
    )?;
    h.ftvm(&["stop", "web"])?.good().map(drop)
}

/// node, natively and in its image, run and recorded and replayed.
fn node() -> Done {
    let h = Host::new()?;
    let node = h.ask("sh", &["-c", "readlink -f $(command -v node)"])?.good()?;
    let script = "console.log(process.versions.node, [1,2,3].map(x => x * x).join())";
    let native = h.ask(&node, &["-e", script])?.good()?;
    h.write("node.toml", "version = 1\n")?;
    h.ftvm(&[
        "image",
        "build",
        "-f",
        "node.toml",
        "--from",
        &node,
        "-t",
        "node:1",
        "--compress",
        "zstd",
    ])?
    .good()?;
    same(
        "run",
        h.ftvm(&["run", "--image", "node:1", "--", "-e", script])?
            .good()?,
        native.clone(),
    )?;
    same(
        "record",
        h.ftvm(&["record", "-o", "log", "--image", "node:1", "--", "-e", script])?
            .good()?,
        native.clone(),
    )?;
    same("replay", h.ftvm(&["replay", "log"])?.good()?, native)
}

/// The command line wins over the image, and a named run stays with the image that it was made of.
fn options() -> Done {
    let h = Host::new()?;
    let toml = |line: &str| {
        format!(
            "version = 1\ncommand = [\"/usr/bin/busybox\", \"sh\", \"-c\", \"echo {line} $A $(hostname) $(id -u)\"]\n\
             hostname = \"inside\"\nenvironment = {{ A = \"1\" }}\n"
        )
    };
    h.write("a.toml", &toml("old"))?;
    let words = [
        "image",
        "build",
        "-f",
        "a.toml",
        "--from",
        "/usr/bin/busybox",
        "-t",
        "a:1",
    ];
    h.ftvm(&words)?.good()?;
    same(
        "image",
        h.ftvm(&["run", "--image", "a:1"])?.good()?,
        "old 1 inside 0".into(),
    )?;
    let given = [
        "run",
        "--image",
        "a:1",
        "-e",
        "A=2",
        "--hostname",
        "outside",
        "--user",
        "5",
    ];
    same("options", h.ftvm(&given)?.good()?, "old 2 outside 5".into())?;
    same(
        "named",
        h.ftvm(&["run", "--name", "n", "--image", "a:1"])?.good()?,
        "old 1 inside 0".into(),
    )?;
    h.write("a.toml", &toml("new"))?;
    h.ftvm(&words)?.good()?;
    same(
        "new",
        h.ftvm(&["run", "--image", "a:1"])?.good()?,
        "new 1 inside 0".into(),
    )?;
    h.ftvm(&["run", "--image", "a:1", "--rootfs", "/"])?
        .refused(125, "cannot be used with")?;
    h.ftvm(&["image", "rm", "nothing:1"])?
        .refused(1, "no image nothing:1 is here")
}

const TRIALS: &[(&str, fn() -> Done, &[&str])] = &[
    ("build", build, &["skopeo", "dash"]),
    ("tree", tree, &["busybox"]),
    ("options", options, &["busybox"]),
    ("registry", registry, &["docker-registry", "skopeo"]),
    ("damaged", damaged, &["docker-registry"]),
    ("dies", dies, &["docker-registry"]),
    ("full", full, &["docker-registry"]),
    ("redis", redis, &["docker-registry", "redis-server", "redis-cli"]),
    ("nginx", nginx, &["nginx", "curl"]),
    ("node", node, &["node"]),
];

/// The program is on the search path, or where Debian puts servers.
fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path)
        .chain(more)
        .any(|d| d.join(program).is_file())
}

fn main() -> ExitCode {
    if let Err(e) = place::shed_descriptors() {
        eprintln!("images: cannot start without inherited descriptors: {e}");
        return ExitCode::FAILURE;
    }
    let args = Arguments::from_args();
    let trials = TRIALS
        .iter()
        .map(|(name, trial, needs)| {
            let missing: Vec<&&str> = needs.iter().filter(|n| !have(n)).collect();
            if !missing.is_empty() {
                eprintln!("images/{name}: ignored, missing: {missing:?} (ci/install)");
            }
            Trial::test(format!("images/{name}"), || Ok(trial()?)).with_ignored_flag(!missing.is_empty())
        })
        .collect();
    libtest_mimic::run(&args, trials).exit_code()
}
