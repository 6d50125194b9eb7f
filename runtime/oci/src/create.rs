//! `create` and `start`.

use crate::init::{Order, Talk};
use crate::plan::{self, Bundle};
use crate::state::{Container, Root, Saved, Status, at, outside, start_of, write};
use crate::{Why, hooks, log};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType as Kind};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// Options of `create`.
#[derive(clap::Args)]
pub struct CreateArgs {
    /// Directory of the bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Socket to which the terminal's master is sent
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File for the id of the container's first process
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Descriptors from 3 on that the program gets
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Accepted: the root is not pivoted into
    #[arg(long)]
    no_pivot: bool,
    /// Accepted: an image has no keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// The container's id
    id: String,
}

/// What of the options `restore` has too.
#[derive(Default)]
pub struct How {
    /// `--console-socket`
    pub console: Option<PathBuf>,
    /// `--pid-file`
    pub pid_file: Option<PathBuf>,
    /// `--preserve-fds`
    pub preserve: u32,
    /// A snapshot instead of the program.
    pub snapshot: Option<PathBuf>,
}

/// `create`
pub fn create(root: &Root, args: &CreateArgs) -> Result<(), Why> {
    let how = How {
        console: args.console_socket.clone(),
        pid_file: args.pid_file.clone(),
        preserve: args.preserve_fds,
        snapshot: None,
    };
    make(root, &args.id, &args.bundle, &how).map(drop)
}

/// Makes a container. Returns its first process.
pub fn make(root: &Root, id: &str, bundle: &Path, how: &How) -> Result<Child, Why> {
    let bundle = plan::load(bundle)?;
    plan::tell_what_is_missing(&bundle.spec);
    let foreign = plan::namespace(&bundle.spec, Kind::User).is_some();
    let c = root.make(id, foreign)?;
    let mut first = None;
    let made = fill(&c, id, &bundle, how, &mut first);
    match (made, first) {
        (Ok(()), Some(child)) => Ok(child),
        (done, first) => {
            if let Some(mut child) = first {
                let _ = child.kill();
                let _ = child.wait();
            }
            let _ = c.remove();
            Err(done.err().unwrap_or_else(|| "no process".to_string()))
        }
    }
}

fn fill(c: &Container, id: &str, bundle: &Bundle, how: &How, first: &mut Option<Child>) -> Result<(), Why> {
    // The first process hears the configuration over the socket. What is bound over a masked file is read by anyone.
    write(&c.dir.join("config.json"), bundle.text.as_bytes(), 0o600)?;
    write(&c.dir.join("empty"), b"", 0o444)?;
    let fifo = c.fifo();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o622),
        0,
    )
    .map_err(|e| at(&fifo)(e.into()))?;
    // Whatever the umask: the container's root may be nobody here.
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o622);
    std::fs::set_permissions(&fifo, all).map_err(at(&fifo))?;
    let run = c.run_state();
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(&run)
        .map_err(at(&run))?;
    if how.snapshot.is_some() {
        let seen = c.dir.join("snapshot");
        std::fs::create_dir(&seen).map_err(at(&seen))?;
    }
    let (ours, theirs) = UnixStream::pair().map_err(|e| e.to_string())?;
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).map_err(|e| e.to_string())?;
    let own = std::env::current_exe().map_err(|e| format!("/proc/self/exe: {e}"))?;
    let mut command = Command::new(own);
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    // The options before the verb say where to log.
    let log_options = log_options(&args);
    let child = command
        .args(log_options)
        .arg("init")
        .arg(format!("--sync={}", theirs.as_raw_fd()))
        .spawn();
    drop(theirs);
    let child = first.insert(child.map_err(|e| format!("starting the container's first process: {e}"))?);
    let pid = child.id() as i32;
    let mut talk = Talk::new(ours)?;
    let annotations = bundle.spec.annotations().clone().unwrap_or_default();
    let mut saved = Saved {
        id: id.to_string(),
        version: bundle.spec.version().clone(),
        pid,
        started: start_of(pid).ok_or("the container's first process has ended")?,
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs.clone(),
        created: log::now(),
        annotations: annotations.into_iter().collect(),
        paused: false,
        creating: true,
    };
    // Whoever ends this process, `delete --force` finds the first one.
    c.save(&saved)?;
    let creating = saved.json("creating", pid);
    let absolute = |p: &PathBuf| std::path::absolute(p).map_err(at(p));
    let order = Order {
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs.clone(),
        config: bundle.text.clone(),
        fifo,
        run_state: run.clone(),
        dir: c.dir.clone(),
        console: how.console.as_ref().map(absolute).transpose()?,
        preserve: how.preserve,
        state: creating.clone(),
        snapshot: how.snapshot.clone(),
    };
    talk.say(&serde_json::to_string(&order).map_err(|e| e.to_string())?)?;
    let mut heard = talk.hear()?;
    if heard == "map" {
        map_ids(bundle, pid)?;
        talk.say("mapped")?;
        heard = talk.hear()?;
    }
    if heard != "namespaces" {
        return Err(format!("unexpected: {heard}"));
    }
    if plan::namespace(&bundle.spec, Kind::User).is_some() {
        give(&run, pid)?;
    }
    let h = bundle.spec.hooks().as_ref();
    #[allow(deprecated, reason = "configurations still have them")]
    let prestart = h.and_then(|h| h.prestart().as_ref());
    hooks::run("prestart", prestart, &creating, None)?;
    hooks::run(
        "createRuntime",
        h.and_then(|h| h.create_runtime().as_ref()),
        &creating,
        None,
    )?;
    talk.say("go")?;
    talk.hear()?;
    saved.creating = false;
    c.save(&saved)?;
    if let Some(file) = &how.pid_file {
        // A reader sees all of it or nothing.
        let new = file.with_extension("new");
        std::fs::write(&new, pid.to_string()).map_err(at(&new))?;
        std::fs::rename(&new, file).map_err(at(file))?;
    }
    talk.say("saved")
}

fn log_options(args: &[std::ffi::OsString]) -> Vec<std::ffi::OsString> {
    let mut out = Vec::new();
    let mut rest = args.iter();
    while let Some(a) = rest.next() {
        let text = a.to_string_lossy();
        match text.as_ref() {
            "--log" | "--log-format" => {
                out.push(a.clone());
                out.extend(rest.next().cloned());
            }
            "--debug" => out.push(a.clone()),
            t if t.starts_with("--log=") || t.starts_with("--log-format=") => out.push(a.clone()),
            // What follows is the verb's.
            t if !t.starts_with('-') && t != "--root" => break,
            "--root" | "--rootless" | "--criu" => drop(rest.next()),
            _ => {}
        }
    }
    out
}

/// Writes the maps of a new user namespace, by newuidmap and newgidmap where we may not ourselves.
fn map_ids(bundle: &Bundle, pid: i32) -> Result<(), Why> {
    let Some(linux) = bundle.spec.linux() else {
        return Ok(());
    };
    let lists = [
        ("uid", linux.uid_mappings().clone().unwrap_or_default()),
        ("gid", linux.gid_mappings().clone().unwrap_or_default()),
    ];
    let has_root = |maps: &[LinuxIdMapping]| maps.iter().any(|m| m.container_id() == 0 && m.size() > 0);
    if !lists.iter().all(|(_, maps)| has_root(maps)) {
        return Err("linux: uidMappings and gidMappings have no id 0 in the container".to_string());
    }
    for (which, maps) in &lists {
        let path = PathBuf::from(format!("/proc/{pid}/{which}_map"));
        let line = |m: &LinuxIdMapping| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size());
        let text: String = maps.iter().map(line).collect();
        if std::fs::write(&path, &text).is_ok() {
            continue;
        }
        // One's own id alone may be mapped without privilege, once setgroups is denied.
        if maps.len() == 1 && maps[0].size() == 1 {
            let deny = PathBuf::from(format!("/proc/{pid}/setgroups"));
            if *which == "gid" {
                std::fs::write(&deny, "deny").map_err(at(&deny))?;
            }
            if std::fs::write(&path, &text).is_ok() {
                continue;
            }
        }
        let tool = format!("new{which}map");
        let numbers = text.split_whitespace();
        let out = Command::new(&tool).arg(pid.to_string()).args(numbers).output();
        let out = out.map_err(|e| format!("{tool}: {}", crate::state::reason(&e)))?;
        if !out.status.success() {
            return Err(format!("{tool}: {}", String::from_utf8_lossy(&out.stderr).trim()));
        }
    }
    Ok(())
}

/// Gives the run's directory to the root of the user namespace that the first process has made or joined.
fn give(run: &Path, pid: i32) -> Result<(), Why> {
    let root = |which: &str| {
        let path = PathBuf::from(format!("/proc/{pid}/{which}_map"));
        let text = std::fs::read_to_string(&path).map_err(at(&path))?;
        outside(&text, 0).ok_or_else(|| format!("user namespace: its root is nobody here, by {which}_map"))
    };
    let (uid, gid) = (root("uid")?, root("gid")?);
    let me = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if (uid, gid) != me {
        std::os::unix::fs::chown(run, Some(uid), Some(gid)).map_err(at(run))?;
    }
    Ok(())
}

/// `start`
pub fn start(root: &Root, id: &str) -> Result<(), Why> {
    let (c, saved) = root.find(id)?;
    match c.status(&saved) {
        Status::Created => {}
        s => {
            return Err(format!(
                "cannot start container {id}: it is {}, not created",
                s.word()
            ));
        }
    }
    let path = c.dir.join("config.json");
    let spec = plan::parse(&std::fs::read_to_string(&path).map_err(at(&path))?)?;
    if spec.process().is_none() {
        return Err(format!(
            "cannot start container {id}: its configuration has no process"
        ));
    }
    // One of several starts gets it.
    let taken = c.dir.join("starting");
    std::fs::rename(c.fifo(), &taken)
        .map_err(|_| format!("cannot start container {id}: it has been started"))?;
    let fifo = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblock())
        .open(&taken);
    let mut fifo = fifo.map_err(at(&taken))?;
    let mut byte = [0];
    loop {
        match fifo.read(&mut byte) {
            Ok(1) => break,
            // Nobody writes yet: it is on its way, or has ended.
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(at(&taken)(e)),
        }
        if !saved.alive() {
            return Err(format!(
                "cannot start container {id}: its first process has ended"
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = std::fs::remove_file(&taken);
    // From here on signals are the image's.
    while saved.alive() && !c.orders().exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let hook = spec.hooks().as_ref().and_then(|h| h.poststart().as_ref());
    hooks::run_all("poststart", hook, &saved.json("running", saved.pid));
    Ok(())
}

fn nonblock() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits() as i32
}
