//! Run state: two directories per named run, 0700.
//!
//! Under the user's runtime folder, which does not outlive the session:
//! * `lock`: locked (fcntl) by the supervisor while the image lives. The lock also tells its pid, so
//!   no pid is stored that could have become somebody else's. Until orders are served all of it is locked, then the first byte.
//! * `log`: what a detached run printed.
//!
//! Under the user's state folder, until `ftvm rm`:
//! * `info.json`: name, command, start. `status`: how it ended.
//! * `args`: directory and arguments for `ftvm start`, each with a NUL behind it.
//! * `image`: identity of a protected image. `app`: the cluster's app that it is (`cluster`).
//! * `layer`: what the run wrote outside its volumes (`platform::layer`).
//! * `volumes`: volumes of a snapshot that it was restored from, a directory each, and their map (`snap::volumes`).

use super::options::reason;
use super::say;
use crate::platform::layer;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Version of `info.json` and of `--json` answers.
pub const SCHEMA: u64 = 1;

/// Where an OCI runtime keeps the state of the one run of a container, instead of the user's folders: its environment
/// is the container's, so the other variables would be the guest's.
const GIVEN: &str = "FTVM_INTERNAL_STATE";

fn given(which: &str) -> Option<PathBuf> {
    std::env::var_os(GIVEN)
        .filter(|d| !d.is_empty())
        .map(|d| PathBuf::from(d).join(which))
}

fn base_place() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(d) if !d.is_empty() => PathBuf::from(d).join("ftvm"),
        _ => PathBuf::from(format!("/tmp/ftvm-{}", uid())),
    }
}

fn uid() -> u32 {
    // SAFETY: a plain query.
    unsafe { libc::getuid() }
}

/// `$XDG_RUNTIME_DIR/ftvm`, else `/tmp/ftvm-UID`; made if missing, refused if others could write it.
pub fn base() -> Result<PathBuf, String> {
    match given("now") {
        Some(dir) => Ok(dir),
        None => private(base_place(), "XDG_RUNTIME_DIR", uid()),
    }
}

fn kept_base_place() -> Result<PathBuf, String> {
    let var = |name| std::env::var_os(name).filter(|d| !d.is_empty());
    let dir = match (var("XDG_STATE_HOME"), var("HOME")) {
        (Some(d), _) => PathBuf::from(d),
        (None, Some(home)) => PathBuf::from(home).join(".local/state"),
        (None, None) => return Err("run state: neither XDG_STATE_HOME nor HOME is set".to_string()),
    };
    Ok(dir.join("ftvm"))
}

/// `$XDG_STATE_HOME/ftvm`, else `~/.local/state/ftvm`; the same rules.
fn kept_base() -> Result<PathBuf, String> {
    match given("kept") {
        Some(dir) => Ok(dir),
        None => private(kept_base_place()?, "XDG_STATE_HOME", uid()),
    }
}

/// Where state of runs is, if there is any: nothing is made.
pub fn places() -> Vec<PathBuf> {
    let now = given("now").unwrap_or_else(base_place);
    let kept = given("kept").or_else(|| kept_base_place().ok());
    std::iter::once(now).chain(kept).collect()
}

/// Where registers of migrations to this host are (`migrate::register`).
pub fn moves() -> Result<PathBuf, String> {
    Ok(kept_base()?.join(".moves"))
}

/// Where files of other hosts are that images of theirs have open (`protect::tree`).
pub fn trees() -> Result<PathBuf, String> {
    Ok(kept_base()?.join(".trees"))
}

/// Makes the directory if it is missing; refused if others could write it.
fn private(dir: PathBuf, var: &str, uid: u32) -> Result<PathBuf, String> {
    let bad = |e: std::io::Error| format!("run state {}: {}; set {var}", dir.display(), reason(&e));
    std::fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(&dir)
        .map_err(bad)?;
    let meta = std::fs::symlink_metadata(&dir).map_err(bad)?;
    if !meta.is_dir() || meta.uid() != uid || meta.mode() & 0o077 != 0 {
        return Err(format!(
            "run state {}: not a directory that only you can enter; remove it or set {var}",
            dir.display()
        ));
    }
    Ok(dir)
}

/// One run's directories.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// Its directory while the session lasts.
    pub dir: PathBuf,
    /// Its directory until `ftvm rm`.
    pub kept: PathBuf,
}

/// How a named run begins and ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// In the background, output to the log.
    pub detach: bool,
    /// Nothing is kept behind its end.
    pub remove: bool,
    /// It was there before: set by `ftvm start`.
    pub again: bool,
    /// In the background: wait until its image lives, and tell why if it does not.
    pub wait: bool,
}

/// Whose run it is: what a cluster's node must know of it even when its etcd does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The app.
    pub app: String,
    /// Identity of its image.
    pub image: u64,
    /// Identity of the cluster; 0: of one that this node has left.
    pub cluster: u64,
    /// Revision of the store in which the app was known.
    pub revision: u64,
    /// Seconds that its program has for its end.
    pub stop_s: u64,
}

impl Run {
    /// The run of that name.
    pub fn find(name: &str) -> Result<Run, String> {
        let run = Run::named(&super::options::run_name(name)?)?;
        if !run.exists() {
            return Err(format!("no run is named {name}; ftvm ps -a lists them"));
        }
        Ok(run)
    }

    fn named(name: &str) -> Result<Run, String> {
        Ok(Run {
            name: name.to_string(),
            dir: base()?.join(name),
            kept: kept_base()?.join(name),
        })
    }

    fn exists(&self) -> bool {
        self.dir.is_dir() || self.kept.is_dir()
    }

    /// All runs, by name.
    pub fn all() -> Result<Vec<Run>, String> {
        let mut names = std::collections::BTreeSet::new();
        for base in [base()?, kept_base()?] {
            let list = std::fs::read_dir(&base)
                .map_err(|e| format!("run state {}: {}", base.display(), reason(&e)))?;
            let named = |e: &std::fs::DirEntry| !e.file_name().as_bytes().starts_with(b".");
            let dirs = list.flatten().filter(|e| named(e) && e.path().is_dir());
            names.extend(dirs.map(|e| e.file_name().to_string_lossy().into_owned()));
        }
        names.iter().map(|n| Run::named(n)).collect()
    }

    /// Forgets it.
    pub fn remove(&self) -> Result<(), String> {
        for dir in [&self.dir, &self.kept] {
            // Volumes may have directories that even their owner may not enter.
            match ftl_images::tree::remove_tree(dir).map(drop) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{}: {}", dir.display(), reason(&e)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Directory and arguments that it was started with.
    pub fn args(&self) -> Result<(PathBuf, Vec<OsString>), String> {
        let path = self.kept.join("args");
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {}", path.display(), reason(&e)))?;
        let mut parts = bytes
            .split(|b| *b == 0)
            .map(|p| OsString::from_vec(p.to_vec()))
            .collect::<Vec<_>>();
        parts.pop();
        if parts.is_empty() {
            return Err(format!("{}: damaged", path.display()));
        }
        Ok((PathBuf::from(parts.remove(0)), parts))
    }

    /// The image goes on at another host: its name may come back from there.
    pub fn note_moved(&self, to: &str) {
        // Without it the name counts as in use here.
        let _ = std::fs::write(self.kept.join("moved"), format!("{to}\n"));
    }

    /// Where it has gone, if it has ended by a migration.
    pub fn moved(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.kept.join("moved")).ok()?;
        Some(text.trim().to_string())
    }

    /// Identity of the image, if it is a protected one.
    pub fn image(&self) -> Option<u64> {
        let text = std::fs::read_to_string(self.kept.join("image")).ok()?;
        u64::from_str_radix(text.trim(), 16).ok()
    }

    /// The run is a cluster's app: the node looks after it, and removes it with the app.
    pub fn note_app(&self, claim: &Claim) -> Result<(), String> {
        let path = self.kept.join("app");
        let v = json!({
            "app": claim.app,
            "image": claim.image,
            "cluster": claim.cluster,
            "revision": claim.revision,
            "stop_s": claim.stop_s,
        });
        std::fs::write(&path, format!("{v}\n")).map_err(|e| format!("{}: {}", path.display(), reason(&e)))
    }

    /// The app that it is of, if it is a cluster's.
    pub fn app(&self) -> Option<Claim> {
        let text = std::fs::read(self.kept.join("app")).ok()?;
        let v: Value = serde_json::from_slice(&text).ok()?;
        Some(Claim {
            app: v["app"].as_str()?.to_string(),
            image: v["image"].as_u64()?,
            cluster: v["cluster"].as_u64()?,
            revision: v["revision"].as_u64()?,
            stop_s: v["stop_s"].as_u64()?,
        })
    }

    fn write_status(&self, code: i32) {
        // Nothing depends on it but what `ps -a` shows.
        let _ = std::fs::write(self.kept.join("status"), format!("{code}\n"));
    }

    /// Pid of the supervisor while the image lives.
    pub fn pid(&self) -> Option<i32> {
        let file = File::open(self.dir.join("lock")).ok()?;
        let mut lock = whole_file();
        // SAFETY: the struct is valid for the call.
        let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
        (rc == 0 && i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid)
    }

    /// What was started, and when.
    pub fn info(&self) -> Value {
        std::fs::read(self.kept.join("info.json"))
            .ok()
            .and_then(|b| serde_json::from_slice(&b).ok())
            .unwrap_or(Value::Null)
    }

    /// Exit code, when it has ended in order.
    pub fn status(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.kept.join("status")).ok()?;
        text.trim().parse().ok()
    }

    /// Where a detached run's output goes.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Sends a signal to the supervisor. False if the run is over.
    pub fn signal(&self, signo: i32) -> Result<bool, String> {
        let Some(pid) = self.pid() else {
            return Ok(false);
        };
        // SAFETY: plain calls; the descriptor is closed below.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
        if fd < 0 {
            return Ok(false);
        }
        // The descriptor is of the process that holds the lock only if it still holds it.
        let same = self.pid() == Some(pid);
        // SAFETY: as above.
        let rc = unsafe {
            let none = std::ptr::null::<libc::siginfo_t>();
            let rc = if same {
                libc::syscall(libc::SYS_pidfd_send_signal, fd, signo, none, 0)
            } else {
                -1
            };
            libc::close(fd);
            rc
        };
        match rc {
            0 => Ok(true),
            _ if !same => Ok(false),
            _ => Err(format!(
                "{}: signal {signo}: {}",
                self.name,
                reason(&std::io::Error::last_os_error())
            )),
        }
    }

    /// Whether a process of the image is there still, also one whose supervisor was killed: it may have the ports of the host that the next
    /// one wants.
    fn lingers(&self) -> bool {
        let Ok(file) = File::open(self.dir.join("lock")) else {
            return false;
        };
        // SAFETY: a plain call on an open descriptor, with which the lock goes.
        let rc = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) };
        rc != 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock
    }

    /// Waits until the run is over, and all of its processes are; false if it is not after `limit`.
    pub fn wait_end(&self, limit: Duration) -> bool {
        let end = std::time::Instant::now() + limit;
        let first = self.pid();
        // Somebody may have started the next one meanwhile.
        let next = |pid: Option<i32>| pid.is_some() && pid != first;
        while !next(self.pid()) && (self.pid().is_some() || self.lingers()) {
            if std::time::Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

fn whole_file() -> libc::flock {
    // SAFETY: all-zero is a valid flock: the whole file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock
}

/// How long processes of an image whose supervisor was killed may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Takes the run's lock for the life of this process; and another, for as long as any process has the descriptor, which those of the image
/// inherit: it tells that they have gone ([`Run::wait_end`]).
fn lock(dir: &Path) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"))?;
    let mut l = whole_file();
    // SAFETY: the struct is valid for the call.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw mut l) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // Those that the run has left when its supervisor was killed are on their way out. One that hangs in the host's kernel is not waited for.
    let end = std::time::Instant::now() + GONE_WITHIN;
    // SAFETY: a plain call on an open descriptor.
    while unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0
        && std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock
        && std::time::Instant::now() < end
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    // A close would drop the locks.
    if let Err(file) = LOCK.set(file) {
        std::mem::forget(file);
    }
    Ok(())
}

/// The run's lock, in the process that holds it.
static LOCK: OnceLock<File> = OnceLock::new();

/// All of the lock's file but its first byte: locked too until orders are served.
fn unserved() -> libc::flock {
    libc::flock {
        l_start: 1,
        ..whole_file()
    }
}

/// From here on orders are served, or never will be.
pub fn serves_orders() {
    let Some(file) = LOCK.get() else { return };
    let mut l = unserved();
    l.l_type = libc::F_UNLCK as libc::c_short;
    // SAFETY: the struct is valid for the call.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw mut l) };
}

/// The run in this directory has begun, and does not serve orders yet. Not for the process that holds the lock.
pub fn begins(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join("lock")) else {
        return false;
    };
    let mut l = unserved();
    // SAFETY: as above.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut l) };
    rc == 0 && i32::from(l.l_type) != libc::F_UNLCK
}

/// How `ftvm start` says that the run was there before: `attached` or `detached`.
pub const AGAIN: &str = "FTVM_AGAIN";

fn mkdir(dir: &Path) -> Result<(), String> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(dir)
        .map_err(|e| format!("run state {}: {}", dir.display(), reason(&e)))
}

fn make(name: Option<&str>, command: &[OsString], manner: Manner) -> Result<Run, String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let made_up = format!("run-{:x}-{:x}", since.as_secs() & 0xff_ffff, std::process::id());
    let run = Run::named(name.unwrap_or(&made_up))?;
    let name = &run.name;
    if run.exists() && !manner.again {
        return Err(format!(
            "the name {name} is in use; ftvm start {name} runs it again, ftvm rm {name} removes it"
        ));
    }
    mkdir(&run.dir)?;
    mkdir(&run.kept)?;
    let bad = |e: std::io::Error| format!("run state {}: {}", run.kept.display(), reason(&e));
    let words: Vec<String> = command.iter().map(|c| c.to_string_lossy().into_owned()).collect();
    let info = json!({"version": SCHEMA, "name": name, "command": words, "started": since.as_secs()});
    std::fs::write(run.kept.join("info.json"), format!("{info}\n")).map_err(bad)?;
    let _ = std::fs::remove_file(run.kept.join("status"));
    let _ = std::fs::remove_file(run.kept.join("moved"));
    if !manner.again {
        std::fs::write(run.kept.join("args"), own_args(name)).map_err(bad)?;
    }
    Ok(run)
}

/// Our directory and arguments, the name among them, as `start` needs them.
fn own_args(name: &str) -> Vec<u8> {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut named = args.iter().take_while(|a| *a != "--");
    if !named.any(|a| a == "--name" || a.as_bytes().starts_with(b"--name=")) {
        args.splice(1..1, ["--name".into(), name.into()]);
    }
    super::from_image::pin(&mut args);
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let mut out = Vec::new();
    for part in std::iter::once(here.into_os_string()).chain(args) {
        out.extend_from_slice(part.as_bytes());
        out.push(0);
    }
    out
}

/// The named run is this image's: where it has died, its name is free for the image itself (`adopt`).
pub fn note_image(name: &str, image: u64) {
    // Without it an adopted run gets a suffix.
    if let Ok(run) = Run::named(name) {
        let _ = std::fs::write(run.kept.join("image"), format!("{image:x}\n"));
    }
}

/// The run that this image was here before it died.
fn of_old(name: &str, image: u64) -> Option<Run> {
    let run = Run::named(name).ok().filter(|r| r.pid().is_none())?;
    (run.image() == Some(image)).then_some(run)
}

/// The run of an image that this process keeps for another host: its directory, locked for the life of
/// this process, with orders served and output going to its log. A name that is in use gets a suffix. True: it was this
/// image's before, and stays when the image does not come.
pub fn adopt(name: &str, image: u64) -> Result<(Run, bool), String> {
    let command = [OsString::from("(standby)")];
    let old = of_old(name, image);
    let was = old.is_some();
    let manner = Manner {
        again: was,
        ..Manner::default()
    };
    let run = make(Some(name), &command, manner)
        .or_else(|_| make(Some(&format!("{name}-standby")), &command, manner))
        .or_else(|_| {
            make(
                Some(&format!("{name}-standby-{}", std::process::id())),
                &command,
                manner,
            )
        })?;
    note_image(&run.name, image);
    take_in(&run, was)?;
    Ok((run, was))
}

/// The run of an image that comes from another host, under its own name; `command` as [`Run::info`] has it there. One that
/// had gone from here comes back; then where it had gone is returned too.
pub fn adopt_moved(name: &str, image: u64, command: &[OsString]) -> Result<(Run, Option<String>), String> {
    let name = &super::options::run_name(name)?;
    if let Ok(old) = Run::named(name)
        && old.image() == Some(image)
        && old.moved().is_some()
    {
        // It says so before its last process has ended, and the image may come back at once. The source has less patience than the
        // host may need for one that hangs.
        if !old.wait_end(GONE_WITHIN / 2) {
            return Err(format!(
                "the run {name} that was here before has not ended yet; try again"
            ));
        }
    }
    // Another image of that name has gone from here: its files are not this one's.
    let back = of_old(name, image).and_then(|run| run.moved());
    let manner = Manner {
        again: back.is_some(),
        ..Manner::default()
    };
    let run = make(Some(name), command, manner)?;
    note_image(name, image);
    take_in(&run, false)?;
    let path = run.kept.join("layer");
    layer::check(&path).map_err(|e| format!("{}: {}", path.display(), reason(&e)))?;
    // SAFETY: nobody else looks at the environment yet.
    unsafe { std::env::set_var(layer::PLACE, &path) };
    Ok((run, back))
}

/// An adopted run whose image never came: as it was before.
pub fn never_came(run: &Run, back: Option<&str>) {
    match back {
        Some(to) => {
            run.write_status(0);
            run.note_moved(to);
        }
        None => adopted_ended(run, 1, false),
    }
}

/// This process is the run's: its directory is locked for its life, orders are served, output goes to its log.
/// `was`: it was started here, and can be again.
fn take_in(run: &Run, was: bool) -> Result<(), String> {
    if !was {
        // It has no arguments of its own to be started again with.
        let _ = std::fs::remove_file(run.kept.join("args"));
    }
    let bad = |e: std::io::Error| format!("run state {}: {}", run.dir.display(), reason(&e));
    lock(&run.dir).map_err(bad)?;
    let log = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(run.log())
        .map_err(bad)?;
    let null = File::open("/dev/null").map_err(bad)?;
    // SAFETY: plain calls on open descriptors.
    unsafe {
        libc::dup2(null.as_raw_fd(), 0);
        libc::dup2(log.as_raw_fd(), 1);
        libc::dup2(log.as_raw_fd(), 2);
    }
    crate::orders::set_place(&run.dir);
    crate::orders::listen(&run.dir);
    Ok(())
}

/// Writes how the adopted run ended, or removes it if its image never ran here.
pub fn adopted_ended(run: &Run, code: i32, ran: bool) {
    let manner = Manner {
        detach: true,
        remove: !ran,
        ..Manner::default()
    };
    ended(run, manner, code);
}

static HERE: OnceLock<PathBuf> = OnceLock::new();

/// The directory, kept until `ftvm rm`, of the run that this process starts.
pub fn kept_here() -> Option<&'static Path> {
    HERE.get().map(PathBuf::as_path)
}

/// Runs `image` as a named run. Returns an exit code.
pub fn run(name: Option<&str>, command: &[OsString], mut manner: Manner, image: impl FnOnce() -> i32) -> i32 {
    if let Some(how) = std::env::var_os(AGAIN) {
        manner.again = true;
        manner.detach = how == "detached";
        // SAFETY: no other thread.
        unsafe { std::env::remove_var(AGAIN) };
    }
    let started = make(name, command, manner).and_then(|r| {
        let _ = HERE.set(r.kept.clone());
        crate::talk::set_run(&r.name);
        let path = r.kept.join("layer");
        layer::check(&path).map_err(|e| format!("{}: {}", path.display(), reason(&e)))?;
        // SAFETY: no other thread.
        unsafe { std::env::set_var(layer::PLACE, &path) };
        if manner.detach {
            background(&r, manner, image)
        } else {
            foreground(&r, manner, image)
        }
    });
    started.unwrap_or_else(|why| {
        crate::talk::error("run-state", crate::run::EXIT_FAILED, &why);
        crate::run::EXIT_FAILED
    })
}

/// The run is over.
fn ended(run: &Run, manner: Manner, code: i32) {
    run.write_status(code);
    if manner.remove
        && let Err(why) = run.remove()
    {
        say(&why);
    }
}

fn foreground(run: &Run, manner: Manner, image: impl FnOnce() -> i32) -> Result<i32, String> {
    lock(&run.dir).map_err(|e| format!("run state {}: {}", run.dir.display(), reason(&e)))?;
    crate::orders::set_place(&run.dir);
    let code = image();
    ended(run, manner, code);
    Ok(code)
}

/// Waits until the image of a run that was just started lives. False: it has ended before.
fn lives(run: &Run) -> bool {
    let order = serde_json::json!({"verb": "lives"});
    // Its supervisor holds the lock until it has written how it ended.
    while run.pid().is_some() {
        if crate::orders::send(&run.dir, &order).is_ok_and(|answer| answer["ok"] == true) {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // One that ended in order has lived, however shortly.
    run.status() == Some(0)
}

fn background(run: &Run, manner: Manner, image: impl FnOnce() -> i32) -> Result<i32, String> {
    let bad = |e: std::io::Error| format!("starting in the background: {}", reason(&e));
    let log = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(run.log())
        .map_err(bad)?;
    let null = File::open("/dev/null").map_err(bad)?;
    let (mut ready, mut tell) = std::io::pipe().map_err(bad)?;
    // SAFETY: one thread.
    match unsafe { libc::fork() } {
        -1 => Err(bad(std::io::Error::last_os_error())),
        0 => {
            drop(ready);
            // SAFETY: plain calls in the new process, on descriptors that are open.
            unsafe {
                libc::setsid();
                libc::dup2(null.as_raw_fd(), 0);
                libc::dup2(log.as_raw_fd(), 1);
                libc::dup2(log.as_raw_fd(), 2);
            }
            drop((null, log));
            if let Err(e) = lock(&run.dir) {
                let _ = tell.write_all(bad(e).as_bytes());
                std::process::exit(crate::run::EXIT_FAILED);
            }
            drop(tell);
            crate::orders::set_place(&run.dir);
            let code = image();
            ended(run, manner, code);
            std::process::exit(code);
        }
        _ => {
            drop(tell);
            let mut why = String::new();
            let _ = ready.read_to_string(&mut why);
            if !why.is_empty() {
                return Err(why);
            }
            if manner.wait && !lives(run) {
                // It has said why in its log.
                let said = std::fs::read(run.log()).unwrap_or_default();
                let _ = std::io::stderr().write_all(&said);
                return Ok(run.status().unwrap_or(crate::run::EXIT_FAILED));
            }
            println!("{}", run.name);
            Ok(0)
        }
    }
}
