//! The waiting process of `create`: takes the container's namespaces, mounts and terminal, waits for `start`, and becomes
//! ftvm's supervisor. Its standard streams are the container's.

use crate::state::{RUN, RUN_STATE, at};
use crate::{Why, hooks, log, mounts, plan};
use oci_spec::runtime::{LinuxNamespaceType as Kind, Process, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of the hidden verb.
#[derive(clap::Args)]
pub struct InitArgs {
    /// Descriptor of the socket on which `create` waits
    #[arg(long)]
    sync: Option<i32>,
    /// Run a program in this root instead
    #[arg(long)]
    chroot: Option<PathBuf>,
    /// That program
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// What `create` tells the waiting process. One line of JSON.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Order {
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root.
    pub rootfs: PathBuf,
    /// The configuration's text.
    pub config: String,
    /// The FIFO.
    pub fifo: PathBuf,
    /// The container's `ftvm` state directory.
    pub run_state: PathBuf,
    /// The container's directory.
    pub dir: PathBuf,
    /// Where the terminal's master goes.
    pub console: Option<PathBuf>,
    /// Descriptors above the standard three that the program gets.
    pub preserve: u32,
    /// State of the specification, for hooks.
    pub state: Value,
    /// A snapshot to go on from, instead of the program.
    pub snapshot: Option<PathBuf>,
}

/// The socket between the two: words, one a line.
pub struct Talk {
    out: UnixStream,
    input: BufReader<UnixStream>,
}

impl Talk {
    /// On a connected socket.
    pub fn new(conn: UnixStream) -> Result<Talk, Why> {
        let input = conn.try_clone().map_err(|e| e.to_string())?;
        Ok(Talk {
            out: conn,
            input: BufReader::new(input),
        })
    }

    /// Says a line.
    pub fn say(&mut self, line: &str) -> Result<(), Why> {
        writeln!(self.out, "{line}").map_err(|e| format!("the other process has ended: {e}"))
    }

    /// Hears a line; an error that the other side tells is ours.
    pub fn hear(&mut self) -> Result<String, Why> {
        let mut line = String::new();
        let n = self.input.read_line(&mut line).map_err(|e| e.to_string())?;
        let line = line.trim_end_matches('\n');
        match line.strip_prefix("error ") {
            Some(why) => Err(serde_json::from_str(why).unwrap_or_else(|_| why.to_string())),
            None if n == 0 => Err("the container's first process has ended".to_string()),
            None => Ok(line.to_string()),
        }
    }

    /// Tells an error.
    pub fn fail(&mut self, why: &str) {
        let _ = self.say(&format!("error {}", Value::from(why)));
    }
}

/// The hidden verb.
pub fn main(args: &InitArgs) -> Result<(), Why> {
    if let Some(root) = &args.chroot {
        rustix::process::chroot(root).map_err(|e| format!("{}: {e}", root.display()))?;
        std::env::set_current_dir("/").map_err(|e| e.to_string())?;
        let Some((program, rest)) = args.command.split_first() else {
            return Err("no program".to_string());
        };
        return Err(Command::new(program).args(rest).exec().to_string());
    }
    let fd = args.sync.filter(|fd| *fd > 2).ok_or("for ftvm-oci itself only")?;
    // SAFETY: `create` opened it for us; nobody else in this process knows it.
    let conn = unsafe { <UnixStream as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    let mut talk = Talk::new(conn)?;
    let order: Order = serde_json::from_str(&talk.hear()?).map_err(|e| e.to_string())?;
    let ready = match prepare(&order, &mut talk) {
        Ok(r) => r,
        Err(why) => {
            talk.fail(&why);
            // `create` tells it.
            std::process::exit(1);
        }
    };
    talk.say("ready")?;
    // Before its state is saved nobody else could let it start, or end it.
    talk.hear()
        .map_err(|_| "create has ended before the container was made".to_string())?;
    drop(talk);
    Err(ready.wait_and_go())
}

/// All is done but the program.
struct Ready {
    spec: Spec,
    fifo: OwnedFd,
    ftvm: OwnedFd,
    root: PathBuf,
    order: Order,
}

fn prepare(order: &Order, talk: &mut Talk) -> Result<Ready, Why> {
    let spec = plan::parse(&order.config)?;
    let sys = |what: &'static str| {
        move |e: rustix::io::Errno| format!("{what}: {}", crate::state::reason(&e.into()))
    };
    close_rest(order.preserve)?;
    // Its path may mean another file, or none, when the container's root and user are ours.
    log::hold();
    rustix::process::setsid().map_err(sys("setsid"))?;
    let place = OFlags::PATH | OFlags::CLOEXEC;
    let fifo = rustix::fs::open(&order.fifo, place, Mode::empty()).map_err(sys("the start FIFO"))?;
    let program = ftvm()?;
    let ftvm = rustix::fs::open(&program, place, Mode::empty()).map_err(sys("ftvm"))?;
    let console = match (
        &order.console,
        spec.process().as_ref().and_then(Process::terminal),
    ) {
        (Some(path), Some(true)) => Some(UnixStream::connect(path).map_err(at(path))?),
        (None, Some(true)) => return Err("process.terminal without --console-socket".to_string()),
        (Some(_), _) => return Err("--console-socket without process.terminal".to_string()),
        (None, _) => None,
    };
    if let Some(adj) = spec.process().as_ref().and_then(Process::oom_score_adj)
        && let Err(e) = std::fs::write("/proc/self/oom_score_adj", adj.to_string())
    {
        log::warn(&format!(
            "process.oomScoreAdj {adj}: {}",
            crate::state::reason(&e)
        ));
    }
    namespaces(&spec, talk)?;
    talk.say("namespaces")?;
    talk.hear()?;
    let program = std::fs::canonicalize(&program).unwrap_or(program);
    mounts::apply(&spec, &order.bundle, &order.rootfs, &order.dir)?;
    // Before the root moves, as others run them before they pivot into it: they find the host's files, and what they
    // mount below the root moves too.
    let hook = spec.hooks().as_ref().and_then(|h| h.create_container().as_ref());
    hooks::run("createContainer", hook, &order.state, None)?;
    let snapshot = order.snapshot.as_deref();
    let (root, snapshot) = mounts::settle(&order.rootfs, &order.dir, &program, snapshot)?;
    if let Some(p) = spec.process() {
        if order.snapshot.is_none() {
            plan::find_program(&root, p)?;
        }
        if let Some(conn) = console {
            take_terminal(terminal(&conn, p.console_size())?)?;
        }
    }
    Ok(Ready {
        spec,
        fifo,
        ftvm,
        root,
        order: Order {
            snapshot,
            ..order.clone()
        },
    })
}

/// Descriptors that the caller happened to have open are not the program's.
fn close_rest(preserve: u32) -> Result<(), Why> {
    let list = std::fs::read_dir("/proc/self/fd").map_err(|e| e.to_string())?;
    let open: Vec<i32> = list
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    for n in 3..3 + preserve as i32 {
        if !open.contains(&n) {
            return Err(format!("--preserve-fds {preserve}: descriptor {n} is not open"));
        }
    }
    for n in open.into_iter().filter(|n| *n >= 3 + preserve as i32) {
        // SAFETY: the descriptor was just seen; if it was the listing's own, EBADF is all that comes of it.
        let fd = unsafe { BorrowedFd::borrow_raw(n) };
        let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
    Ok(())
}

/// Beside us, or what `FTVM` names.
fn ftvm() -> Result<PathBuf, Why> {
    if let Some(path) = std::env::var_os("FTVM").filter(|p| !p.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().map_err(|e| format!("/proc/self/exe: {e}"))?;
    let beside = own.with_file_name("ftvm");
    match beside.is_file() {
        true => Ok(beside),
        false => Err(format!(
            "{}: not there; ftvm and ftvm-oci belong into one directory",
            beside.display()
        )),
    }
}

fn namespaces(spec: &Spec, talk: &mut Talk) -> Result<(), Why> {
    let failed =
        |kind: Kind, e: rustix::io::Errno| format!("{kind} namespace: {}", crate::state::reason(&e.into()));
    let enter = |kind: Kind, which: LinkNameSpaceType, path: &Path| {
        let fd = std::fs::File::open(path).map_err(at(path))?;
        rustix::thread::move_into_link_name_space(fd.as_fd(), Some(which)).map_err(|e| failed(kind, e))
    };
    // SAFETY: one thread, and no descriptor table or memory is taken apart.
    let leave =
        |kind: Kind, flags| unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(|e| failed(kind, e));
    // The others are the user namespace's.
    match plan::namespace(spec, Kind::User) {
        Some(Some(path)) => {
            enter(Kind::User, LinkNameSpaceType::User, &path)?;
            become_root()?;
        }
        Some(None) => {
            leave(Kind::User, UnshareFlags::NEWUSER)?;
            talk.say("map")?;
            talk.hear()?;
            become_root()?;
        }
        None => {}
    }
    match plan::namespace(spec, Kind::Network) {
        Some(Some(path)) => enter(Kind::Network, LinkNameSpaceType::Network, &path)?,
        Some(None) => {
            leave(Kind::Network, UnshareFlags::NEWNET)?;
            loopback_up()?;
        }
        None => {}
    }
    // The image has a name of its own; in a namespace that others share it has theirs.
    if let Some(Some(path)) = plan::namespace(spec, Kind::Uts) {
        enter(Kind::Uts, LinkNameSpaceType::HostNameAndNISDomainName, &path)?;
    }
    match plan::namespace(spec, Kind::Mount) {
        Some(Some(path)) => {
            enter(Kind::Mount, LinkNameSpaceType::Mount, &path)?;
            leave(Kind::Mount, UnshareFlags::NEWNS)?;
        }
        // Without one the mounts would be the host's.
        Some(None) | None => leave(Kind::Mount, UnshareFlags::NEWNS)?,
    }
    sysctls(spec);
    Ok(())
}

fn become_root() -> Result<(), Why> {
    let bad = |e: rustix::io::Errno| {
        format!(
            "user namespace: becoming its root: {}",
            crate::state::reason(&e.into())
        )
    };
    // One whose setgroups is denied keeps its groups.
    let _ = rustix::thread::set_thread_groups(&[]);
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(bad)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(bad)?;
    // So that our own files below /proc are ours.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).map_err(bad)
}

/// 127.0.0.1 of a new network namespace.
fn loopback_up() -> Result<(), Why> {
    // iproute2 need not be there: an interface flag is set by one call that rustix lacks.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let bad = |e: rustix::io::Errno| format!("network namespace: lo: {}", crate::state::reason(&e.into()));
    let sock = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(bad)?;
    const UP: i16 = 1;
    const RUNNING: i16 = 0x40;
    let mut r = Request {
        name: [0; 16],
        flags: UP | RUNNING,
        rest: [0; 22],
    };
    r.name[..2].copy_from_slice(b"lo");
    const SIOCSIFFLAGS: rustix::ioctl::Opcode = 0x8914;
    // SAFETY: the request has the layout of `struct ifreq` for this call, which only reads it.
    unsafe {
        let call = rustix::ioctl::Updater::<SIOCSIFFLAGS, Request>::new(&mut r);
        rustix::ioctl::ioctl(&sock, call).map_err(bad)
    }
}

/// Those of the network are the namespace's; all others are the image's own.
fn sysctls(spec: &Spec) {
    let all = spec.linux().as_ref().and_then(|l| l.sysctl().as_ref());
    let own_net = plan::namespace(spec, Kind::Network).is_some();
    for (key, value) in all.into_iter().flatten() {
        let why = match key.starts_with("net.") {
            true if own_net => {
                let path = format!("/proc/sys/{}", key.replace('.', "/"));
                std::fs::write(path, value)
                    .err()
                    .map(|e| crate::state::reason(&e))
            }
            true => Some("the network is the host's".to_string()),
            false => Some("an image has values of its own".to_string()),
        };
        if let Some(why) = why {
            log::warn(&format!("linux.sysctl {key}: not set: {why}"));
        }
    }
}

fn bad(e: rustix::io::Errno) -> Why {
    format!("terminal: {}", crate::state::reason(&e.into()))
}

/// A new terminal, whose master goes over the socket.
pub fn terminal(conn: &UnixStream, size: Option<oci_spec::runtime::Box>) -> Result<OwnedFd, Why> {
    use rustix::pty::OpenptFlags;
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map_err(bad)?;
    rustix::pty::unlockpt(&master).map_err(bad)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(bad)?;
    if let Some(size) = size {
        let size = rustix::termios::Winsize {
            ws_row: size.height() as u16,
            ws_col: size.width() as u16,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&slave, size).map_err(bad)?;
    }
    let name = rustix::pty::ptsname(&master, Vec::new()).map_err(bad)?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds));
    let data = [IoSlice::new(name.as_bytes())];
    rustix::net::sendmsg(conn, &data, &mut control, rustix::net::SendFlags::empty()).map_err(bad)?;
    Ok(slave)
}

/// The terminal is ours from now on.
fn take_terminal(slave: OwnedFd) -> Result<(), Why> {
    rustix::process::ioctl_tiocsctty(&slave).map_err(bad)?;
    rustix::stdio::dup2_stdin(&slave).map_err(bad)?;
    rustix::stdio::dup2_stdout(&slave).map_err(bad)?;
    rustix::stdio::dup2_stderr(&slave).map_err(bad)
}

impl Ready {
    /// Waits for `start`. Returns only why the program could not be started.
    fn wait_and_go(self) -> Why {
        match self.go() {
            Ok(never) => match never {},
            Err(why) => why,
        }
    }

    fn go(&self) -> Result<std::convert::Infallible, Why> {
        let fifo = PathBuf::from(format!("/proc/self/fd/{}", self.fifo.as_raw_fd()));
        let mut open = std::fs::OpenOptions::new()
            .write(true)
            .open(&fifo)
            .map_err(at(&fifo))?;
        open.write_all(b"0").map_err(at(&fifo))?;
        drop(open);
        let hook = self
            .spec
            .hooks()
            .as_ref()
            .and_then(|h| h.start_container().as_ref());
        hooks::run("startContainer", hook, &self.order.state, Some(&self.root))?;
        std::env::set_current_dir("/").map_err(at(Path::new("/")))?;
        // Its path may be hidden by now.
        let mut command = Command::new(format!("/proc/self/fd/{}", self.ftvm.as_raw_fd()));
        command
            .arg0("ftvm")
            .env_clear()
            .env(RUN_STATE, &self.order.run_state);
        match (&self.order.snapshot, self.spec.process()) {
            (Some(file), _) => {
                command.args(["restore", "--name", RUN]).arg(file);
            }
            (None, Some(p)) => {
                rustix::process::umask(Mode::from_raw_mode(p.user().umask().unwrap_or(0o022)));
                for entry in p.env().iter().flatten() {
                    if entry.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
                        log::warn(&format!("process.env: {entry:?} is not NAME=VALUE"));
                    }
                }
                command.envs(plan::environment(p).filter(|(name, _)| !plan::is_ours(name)));
                command.args(plan::arguments(&self.spec, p, &self.root));
            }
            (None, None) => return Err("the configuration has no process".to_string()),
        }
        Err(format!("ftvm: {}", crate::state::reason(&command.exec())))
    }
}
