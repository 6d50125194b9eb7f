//! Run state: one directory per named run under the user's runtime folder, 0700.
//!
//! * `lock`: locked (fcntl) by the supervisor while the image lives. The lock also tells its pid, so
//!   no pid is stored that could have become somebody else's.
//! * `info.json`: name, command, start. `log`: what a detached run printed. `status`: how it ended.

use super::options::reason;
use super::say;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Version of `info.json` and of `--json` answers.
pub const SCHEMA: u64 = 1;

/// `$XDG_RUNTIME_DIR/ftvm`, else `/tmp/ftvm-UID`; made if missing, refused if others could write it.
pub fn base() -> Result<PathBuf, String> {
    // SAFETY: a plain query.
    let uid = unsafe { libc::getuid() };
    let dir = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(d) if !d.is_empty() => PathBuf::from(d).join("ftvm"),
        _ => PathBuf::from(format!("/tmp/ftvm-{uid}")),
    };
    let bad = |e: std::io::Error| format!("run state {}: {}; set XDG_RUNTIME_DIR", dir.display(), reason(&e));
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(bad(e)),
        _ => {}
    }
    let meta = std::fs::symlink_metadata(&dir).map_err(bad)?;
    if !meta.is_dir() || meta.uid() != uid || meta.mode() & 0o077 != 0 {
        return Err(format!(
            "run state {}: not a directory that only you can enter; remove it or set XDG_RUNTIME_DIR",
            dir.display()
        ));
    }
    Ok(dir)
}

/// One run's directory.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
}

impl Run {
    /// The run of that name.
    pub fn find(name: &str) -> Result<Run, String> {
        let name = super::options::run_name(name)?;
        let dir = base()?.join(&name);
        if !dir.is_dir() {
            return Err(format!("no run is named {name}; ftvm ps -a lists them"));
        }
        Ok(Run { name, dir })
    }

    /// All runs, by name.
    pub fn all() -> Result<Vec<Run>, String> {
        let base = base()?;
        let list =
            std::fs::read_dir(&base).map_err(|e| format!("run state {}: {}", base.display(), reason(&e)))?;
        let mut runs: Vec<Run> = list
            .flatten()
            .filter(|e| e.path().is_dir())
            .map(|e| Run {
                name: e.file_name().to_string_lossy().into_owned(),
                dir: e.path(),
            })
            .collect();
        runs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(runs)
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
        std::fs::read(self.dir.join("info.json"))
            .ok()
            .and_then(|b| serde_json::from_slice(&b).ok())
            .unwrap_or(Value::Null)
    }

    /// Exit code, when it has ended in order.
    pub fn status(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.dir.join("status")).ok()?;
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

    /// Waits until the run is over; false if it is not after `limit`.
    pub fn wait_end(&self, limit: Duration) -> bool {
        let end = std::time::Instant::now() + limit;
        while self.pid().is_some() {
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

/// Takes the run's lock for the life of this process.
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
    // A close would drop the lock.
    std::mem::forget(file);
    Ok(())
}

fn make(name: Option<&str>, command: &[OsString]) -> Result<Run, String> {
    let base = base()?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = match name {
        Some(n) => n.to_string(),
        None => format!("run-{:x}-{:x}", since.as_secs() & 0xff_ffff, std::process::id()),
    };
    let dir = base.join(&name);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("the name {name} is in use; choose another, or ftvm rm {name}")
            }
            _ => format!("run state {}: {}", dir.display(), reason(&e)),
        })?;
    let words: Vec<String> = command.iter().map(|c| c.to_string_lossy().into_owned()).collect();
    let info = json!({"version": SCHEMA, "name": name, "command": words, "started": since.as_secs()});
    std::fs::write(dir.join("info.json"), format!("{info}\n"))
        .map_err(|e| format!("run state {}: {}", dir.display(), reason(&e)))?;
    Ok(Run { name, dir })
}

/// The run of an image that this process keeps for another host: its directory, locked for the life of
/// this process, with orders served and output going to its log. A name that is in use gets a suffix.
pub fn adopt(name: &str) -> Result<(), String> {
    let command = [OsString::from("(standby)")];
    let run = make(Some(name), &command)
        .or_else(|_| make(Some(&format!("{name}-standby")), &command))
        .or_else(|_| make(Some(&format!("{name}-standby-{}", std::process::id())), &command))?;
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
pub fn adopted_ended(code: i32, ran: bool) {
    let Some(dir) = crate::orders::place() else { return };
    if ran {
        let _ = std::fs::write(dir.join("status"), format!("{code}\n"));
    } else {
        let _ = std::fs::remove_dir_all(dir);
    }
}

/// Runs `image` as a named run, in the background if `detach`. Returns an exit code.
pub fn run(name: Option<&str>, detach: bool, command: &[OsString], image: fn() -> i32) -> i32 {
    let started = make(name, command).and_then(|r| {
        if detach {
            background(&r, image)
        } else {
            foreground(&r, image)
        }
    });
    started.unwrap_or_else(|why| {
        say(&why);
        crate::run::EXIT_FAILED
    })
}

fn foreground(run: &Run, image: fn() -> i32) -> Result<i32, String> {
    lock(&run.dir).map_err(|e| format!("run state {}: {}", run.dir.display(), reason(&e)))?;
    crate::orders::set_place(&run.dir);
    let code = image();
    // Nothing depends on it but what `ps -a` shows.
    let _ = std::fs::write(run.dir.join("status"), format!("{code}\n"));
    Ok(code)
}

fn background(run: &Run, image: fn() -> i32) -> Result<i32, String> {
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
            let _ = std::fs::write(run.dir.join("status"), format!("{code}\n"));
            std::process::exit(code);
        }
        _ => {
            drop(tell);
            let mut why = String::new();
            let _ = ready.read_to_string(&mut why);
            if !why.is_empty() {
                return Err(why);
            }
            println!("{}", run.name);
            Ok(0)
        }
    }
}
