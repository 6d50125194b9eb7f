//! An agent on B, a protected image on A, and what befalls them.

use crate::etcd::{Direction, Etcd};
use crate::net::{A_LINK, B_LINK, Host, IMAGE, Network, PREFIX};
use crate::now_ns;
use crate::relay::Relay;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Ports of the agent, and of the relay before it.
const AGENT: u16 = 7100;
const RELAY: u16 = 7101;

/// One of the two hosts that can run the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Where it starts.
    A,
    /// Where it can go on.
    B,
}

impl Side {
    /// The one that it is not.
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Side::A => "a",
            Side::B => "b",
        }
    }
}

/// See the module. All processes end with it.
#[derive(Debug)]
pub struct Cluster {
    /// The hosts.
    pub net: Network,
    home: PathBuf,
    ftvm: PathBuf,
    agents: [Option<Child>; 2],
    image: Option<Child>,
    relay: Option<Relay>,
    etcd: Option<Etcd>,
    /// Further options of `ftvm run --protect`.
    pub options: String,
}

fn path(p: &Path) -> io::Result<CString> {
    CString::new(p.as_os_str().as_bytes()).map_err(io::Error::other)
}

impl Cluster {
    /// Hosts without processes. `home` is a new directory, removed in the end.
    pub fn new(net: Network, ftvm: &Path, home: &Path) -> io::Result<Cluster> {
        let mut make = fs::DirBuilder::new();
        make.recursive(true).mode(0o700);
        for d in [
            "arbiter",
            "files",
            "a/arbiter",
            "a/run",
            "a/state",
            "b/arbiter",
            "b/run",
            "b/state",
            "a/own",
            "b/own",
            "own",
            "real",
        ] {
            make.create(home.join(d))?;
        }
        let c = Cluster {
            net,
            home: home.to_path_buf(),
            ftvm: ftvm.to_path_buf(),
            agents: [None, None],
            image: None,
            relay: None,
            etcd: None,
            options: String::new(),
        };
        c.arbiter(Side::A, true)?;
        c.arbiter(Side::B, true)?;
        Ok(c)
    }

    /// Directory for the server's files.
    pub fn files(&self) -> PathBuf {
        self.home.join("files")
    }

    fn host(&self, side: Side) -> &Host {
        match side {
            Side::A => &self.net.a,
            Side::B => &self.net.b,
        }
    }

    /// Directory of files that a host has and the other has not; for programs of the host it is at [`Cluster::own_at`].
    pub fn own(&self, side: Side) -> PathBuf {
        self.home.join(side.name()).join("own")
    }

    /// Nothing is left of those of A.
    pub fn lose_own(&self) -> io::Result<()> {
        for file in fs::read_dir(self.own(Side::A))? {
            let path = file?.path();
            match path.is_dir() {
                true => fs::remove_dir_all(path)?,
                false => fs::remove_file(path)?,
            }
        }
        Ok(())
    }

    /// Where a host's programs find the files that the other has not.
    pub fn own_at(&self) -> PathBuf {
        self.home.join("own")
    }

    /// Files of a host's tree that a host keeps for images of the other.
    pub fn copies(&self, side: Side) -> usize {
        let trees = fs::read_dir(self.home.join(side.name()).join("state/ftvm/.trees"));
        let copies = |tree: fs::DirEntry| fs::read_dir(tree.path().join("files")).map_or(0, Iterator::count);
        trees.into_iter().flatten().flatten().map(copies).sum()
    }

    /// Starts `ftvm` on a host. Each host sees its own way to the arbiter at the same path, and files of its own.
    fn start(&self, side: Side, log: &str, args: &[String]) -> io::Result<Child> {
        let own = self.home.join(side.name());
        let bound = ["arbiter", "own"].map(|d| Ok((path(&own.join(d))?, path(&self.home.join(d))?)));
        let bound = bound.into_iter().collect::<io::Result<Vec<_>>>()?;
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.join(log))?;
        let host = self.host(side);
        let mut c = Command::new(&self.ftvm);
        c.args(args)
            .env("XDG_RUNTIME_DIR", own.join("run"))
            .env("XDG_STATE_HOME", own.join("state"))
            .env("XDG_DATA_HOME", own.join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir(self.files());
        let mount = move || -> io::Result<()> {
            let (none, flags) = (std::ptr::null(), libc::MS_BIND);
            // SAFETY: plain calls with valid strings, in a child that has one thread.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::unshare(libc::CLONE_NEWNS) != 0 {
                    return Err(io::Error::last_os_error());
                }
                for (from, at) in &bound {
                    if libc::mount(from.as_ptr(), at.as_ptr(), none, flags, none.cast()) != 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
            }
            Ok(())
        };
        let fd = host.fd();
        // SAFETY: only system calls between fork and exec.
        unsafe {
            c.pre_exec(move || {
                mount()?;
                match libc::setns(fd, libc::CLONE_NEWNET) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        c.spawn()
    }

    /// Starts the agent of a host.
    pub fn start_agent(&mut self, side: Side) -> io::Result<()> {
        let at = match side {
            Side::A => A_LINK,
            Side::B => B_LINK,
        };
        let args = format!("agent --listen {at}:{AGENT} --insecure --net eth0");
        let args: Vec<String> = args.split(' ').map(str::to_string).collect();
        let log = format!("{}.log", side.name());
        self.agents[side as usize] = Some(self.start(side, &log, &args)?);
        self.wait_for(side, "agent listening", Duration::from_secs(60))
    }

    /// An image that is started after this reaches the agent through a [`Relay`].
    pub fn relay(&mut self) -> io::Result<()> {
        self.relay = Some(Relay::start(&self.net.b, (B_LINK, RELAY), (B_LINK, AGENT))?);
        Ok(())
    }

    /// The same, through one that holds everything for `delay` in each direction.
    pub fn slow_relay(&mut self, delay: std::time::Duration) -> io::Result<()> {
        let (from, to) = ((B_LINK, RELAY), (B_LINK, AGENT));
        self.relay = Some(Relay::start_slow(&self.net.b, from, to, delay)?);
        Ok(())
    }

    /// An image that is started after this has an etcd as its arbiter, `relayed` or not.
    pub fn use_etcd(&mut self, relayed: bool, seed: u64) -> io::Result<()> {
        self.etcd = Some(Etcd::start(&self.home.join("etcd"), relayed, seed)?);
        Ok(())
    }

    /// That etcd.
    pub fn etcd(&self) -> io::Result<&Etcd> {
        self.etcd
            .as_ref()
            .ok_or_else(|| io::Error::other("no etcd was started"))
    }

    /// Packets of one direction of a host's way to that etcd pass, or vanish.
    pub fn etcd_passes(&self, side: Side, direction: Direction, pass: bool) -> io::Result<()> {
        self.etcd()?.passes(side, (self.host(side), direction), pass)
    }

    /// Resets the connections that go through the relay.
    pub fn reset_link(&self) {
        if let Some(r) = &self.relay {
            r.reset();
        }
    }

    /// Packs a program of this host with its libraries as an image in A's store, and nowhere else. `command` is how it is run.
    pub fn pack(&mut self, name: &str, command: &[String]) -> io::Result<()> {
        let words: Vec<String> = command.iter().map(|w| format!("{w:?}")).collect();
        let file = self.files().join("ftvm.toml");
        fs::write(&file, format!("version = 1\ncommand = [{}]\n", words.join(", ")))?;
        let words = format!(
            "image build -f {} --from {} -t {name}",
            file.display(),
            command[0]
        );
        self.verb(Side::A, &words)
    }

    /// Nothing is left of a host's images.
    pub fn lose_disk(&self, side: Side) -> io::Result<()> {
        fs::remove_dir_all(self.home.join(side.name()).join("data"))
    }

    /// A host has the root of an image in its store.
    pub fn has_root(&self, side: Side) -> bool {
        let roots = self.home.join(side.name()).join("data/ftvm/images/roots");
        let entries = fs::read_dir(roots).into_iter().flatten().flatten();
        entries.into_iter().any(|e| e.path().is_dir())
    }

    /// Starts an image of A's store on A, protected at B.
    pub fn start_packed(&mut self, name: &str) -> io::Result<()> {
        let protection = format!("{} --image {name}", self.protection());
        self.start_run(&protection, &[])
    }

    /// Starts a program on A, protected at B, in a root that is a directory of A's with the program and its libraries.
    pub fn start_root(&mut self, command: &[String]) -> io::Result<()> {
        let needs = Command::new("ldd").arg(&command[0]).output()?;
        let needs = String::from_utf8_lossy(&needs.stdout).into_owned();
        let libraries = needs.split_whitespace().filter(|w| w.starts_with('/'));
        for file in std::iter::once(command[0].as_str()).chain(libraries) {
            let to = self.own(Side::A).join("root").join(file.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap_or(&to))?;
            fs::copy(file, to)?;
        }
        let root = self.own_at().join("root");
        let protection = format!("{} --rootfs {}", self.protection(), root.display());
        self.start_run(&protection, command)
    }

    /// Starts the image on A, protected at B.
    pub fn start_image(&mut self, command: &[String]) -> io::Result<()> {
        let protection = self.protection();
        self.start_run(&protection, command)
    }

    fn protection(&self) -> String {
        let port = if self.relay.is_some() { RELAY } else { AGENT };
        let file = || format!("file:{}", self.home.join("arbiter/way/register").display());
        let arbiter = self.etcd.as_ref().map_or_else(file, Etcd::url);
        format!(
            " --protect {B_LINK}:{port} --insecure --arbiter {arbiter} {}",
            self.options
        )
    }

    /// Starts the same image on A without a backup: what protection costs is measured against it.
    pub fn start_alone(&mut self, command: &[String]) -> io::Result<()> {
        self.start_run("", command)
    }

    fn start_run(&mut self, protection: &str, command: &[String]) -> io::Result<()> {
        let mac = crate::watch::MAC.map(|b| format!("{b:02x}")).join(":");
        let args = format!("run --name lab --net eth0,ip={IMAGE}/{PREFIX},mac={mac}{protection}");
        let mut args: Vec<String> = args.split_whitespace().map(str::to_string).collect();
        if !command.is_empty() {
            args.push("--".to_string());
            args.extend_from_slice(command);
        }
        self.image = Some(self.start(Side::A, "a.log", &args)?);
        Ok(())
    }

    /// What was printed on a host, by its processes and in the logs of its runs.
    pub fn log(&self, side: Side) -> String {
        let mut text = fs::read(self.home.join(format!("{}.log", side.name()))).unwrap_or_default();
        for place in ["run/ftvm", "state/ftvm"] {
            let runs = fs::read_dir(self.home.join(side.name()).join(place));
            for run in runs.into_iter().flatten().flatten() {
                text.extend(fs::read(run.path().join("log")).unwrap_or_default());
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits until a host has printed something.
    pub fn wait_for(&mut self, side: Side, words: &str, patience: Duration) -> io::Result<()> {
        let end = now_ns() + patience.as_nanos() as u64;
        while !self.log(side).contains(words) {
            // On A there is no second agent before the image there is to end.
            let image_ended = self.agents[Side::A as usize].is_none()
                && self
                    .image
                    .as_mut()
                    .is_some_and(|c| matches!(c.try_wait(), Ok(Some(_))));
            if now_ns() > end || image_ended {
                let ended = if image_ended {
                    ", and the image has ended"
                } else {
                    ""
                };
                let why = format!(
                    "host {} never said {words:?}{ended}\n--- A:\n{}--- B:\n{}",
                    side.name(),
                    self.log(Side::A),
                    self.log(Side::B)
                );
                return Err(io::Error::other(why));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until B could take over.
    pub fn wait_ready(&mut self, patience: Duration) -> io::Result<()> {
        self.wait_for(Side::B, "ready to take over", patience)
    }

    /// Waits until the image on a host says that it is protected, and not any more that it is not.
    pub fn wait_protected(&mut self, side: Side, patience: Duration) -> io::Result<()> {
        let end = now_ns() + patience.as_nanos() as u64;
        while now_ns() < end {
            let log = self.log(side);
            if log.rfind("ftvm: protected") > log.rfind("ftvm: UNPROTECTED") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(io::Error::other(format!("not protected:\n{}", self.log(side))))
    }

    /// Every process of a host.
    pub fn processes(&self, side: Side) -> Vec<i32> {
        let image = self.image.as_ref().filter(|_| side == Side::A);
        let all = self.agents[side as usize].iter().chain(image);
        all.flat_map(|c| tree(c.id())).collect()
    }

    /// Bytes of memory that the processes of a host use: what is their own, and memory files, each once.
    pub fn memory(&self, side: Side) -> u64 {
        let (mut bytes, mut files) = (0, BTreeMap::new());
        for pid in self.processes(side) {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let own = text.lines().find_map(|l| l.strip_prefix("Pss_Anon:"));
            let kib = own.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
            bytes += kib.unwrap_or(0) << 10;
            let open = fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten();
            for fd in open.map(|e| e.path()) {
                let is_memory =
                    fs::read_link(&fd).is_ok_and(|to| to.as_os_str().as_bytes().starts_with(b"/memfd:"));
                if let (true, Ok(m)) = (is_memory, fs::metadata(&fd)) {
                    files.insert((m.dev(), m.ino()), m.blocks() * 512);
                }
            }
        }
        bytes + files.values().sum::<u64>()
    }

    /// Sends a signal to every process of a host.
    pub fn signal(&self, side: Side, signal: i32) {
        for pid in self.processes(side) {
            // SAFETY: processes that we started, and theirs.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// The image gets a new backup: it runs on this host, its backup is to be on the other.
    pub fn protect_again(&mut self, side: Side) -> io::Result<()> {
        let to = match side {
            Side::A => B_LINK,
            Side::B => A_LINK,
        };
        self.verb(side, &format!("protect lab --wait 60 --backup {to}:{AGENT}"))
    }

    /// Runs a verb of `ftvm` on a host.
    pub fn verb(&mut self, side: Side, words: &str) -> io::Result<()> {
        let args: Vec<String> = words.split(' ').map(str::to_string).collect();
        match self.start(side, "verbs.log", &args)?.wait()? {
            s if s.success() => Ok(()),
            s => {
                let said = fs::read_to_string(self.home.join("verbs.log")).unwrap_or_default();
                Err(io::Error::other(format!("ftvm {words}: {s}: {said}")))
            }
        }
    }

    /// Gives an order to the image on a host, without waiting for what comes of it.
    pub fn begin_verb(&self, side: Side, words: &str) -> io::Result<Order> {
        static GIVEN: AtomicU32 = AtomicU32::new(0);
        let log = format!("order.{}", GIVEN.fetch_add(1, Ordering::Relaxed));
        let args: Vec<String> = words.split(' ').map(str::to_string).collect();
        Ok(Order {
            words: words.to_string(),
            child: Ended(self.start(side, &log, &args)?),
            log: self.home.join(log),
        })
    }

    /// The image's exit status on A, if it ends in time.
    pub fn image_end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = now_ns() + patience.as_nanos() as u64;
        loop {
            match self.image.as_mut()?.try_wait() {
                Ok(Some(status)) => return Some(status),
                Err(_) => return None,
                Ok(None) if now_ns() > end => return None,
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Holds the arbiter's registers: it answers nobody until the result is dropped, and then does all that it was
    /// asked in the meantime.
    pub fn hold_arbiter(&self) -> io::Result<Vec<fs::File>> {
        let mut held = Vec::new();
        for f in fs::read_dir(self.home.join("real"))? {
            let f = fs::File::open(f?.path())?;
            f.lock()?;
            held.push(f);
        }
        Ok(held)
    }

    /// Lets a host reach the arbiter, or not: its questions then fail.
    pub fn arbiter(&self, side: Side, reachable: bool) -> io::Result<()> {
        let dir = self.home.join(side.name()).join("arbiter");
        let target = self.home.join(if reachable { "real" } else { "nowhere" });
        let new = dir.join("new");
        symlink(target, &new)?;
        fs::rename(new, dir.join("way"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for side in [Side::A, Side::B] {
            self.signal(side, libc::SIGKILL);
        }
        for c in self.agents.iter_mut().chain([&mut self.image]).flatten() {
            let _ = c.wait();
        }
        // It writes there.
        self.etcd = None;
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// A verb of `ftvm` that was given.
#[derive(Debug)]
pub struct Order {
    words: String,
    child: Ended,
    log: PathBuf,
}

impl Order {
    /// What it was, with which status it has ended, and what it said. It is an error if it does not end in time.
    pub fn end(mut self, patience: Duration) -> io::Result<(String, ExitStatus, String)> {
        let end = now_ns() + patience.as_nanos() as u64;
        loop {
            if let Some(status) = self.child.0.try_wait()? {
                let said = fs::read(&self.log)?;
                return Ok((self.words, status, String::from_utf8_lossy(&said).into_owned()));
            }
            if now_ns() > end {
                return Err(io::Error::other(format!("ftvm {}: it hangs", self.words)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A process and all that came from it.
pub fn tree(pid: u32) -> Vec<i32> {
    fn grow(pid: i32, all: &mut Vec<i32>) {
        all.push(pid);
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            return;
        };
        for t in tasks.flatten() {
            let list = fs::read_to_string(t.path().join("children")).unwrap_or_default();
            for child in list.split_whitespace().filter_map(|p| p.parse().ok()) {
                grow(child, all);
            }
        }
    }
    let mut all = Vec::new();
    grow(pid as i32, &mut all);
    all
}

/// Ends a child and all that came from it.
pub fn end(child: &mut Child) {
    for pid in tree(child.id()) {
        // SAFETY: processes that we started, and theirs.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    let _ = child.wait();
}

/// A child that ends when this value does, with all that came from it.
#[derive(Debug)]
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}
