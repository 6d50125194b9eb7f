//! State of containers: one directory each below `--root`.
//!
//! * `config.json`: the bundle's, as it was at `create`. `state.json`: [`Saved`].
//! * `start`: a FIFO on which the waiting process hangs until `start`; gone afterwards.
//! * `run/now/container`: the run's directory of ftvm, with its socket for orders; `run/kept`: what else ftvm keeps.

use crate::Why;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The name of every container's run of ftvm, in a state directory of its own.
pub const RUN: &str = "container";
/// Variable with the state directory of that run. ftvm does not show it to the program.
pub const RUN_STATE: &str = "FTVM_INTERNAL_STATE";

/// `--root`.
#[derive(Debug)]
pub struct Root(PathBuf);

/// `state.json`.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Saved {
    /// The container's id.
    pub id: String,
    /// `ociVersion` of its configuration.
    pub version: String,
    /// Its first process: waits, and then is ftvm's supervisor.
    pub pid: i32,
    /// Start of that process, in clock ticks since boot: tells it from a later one with the same id.
    pub started: u64,
    /// Absolute path.
    pub bundle: PathBuf,
    /// Absolute path.
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// The configuration's annotations.
    pub annotations: BTreeMap<String, String>,
    /// `pause` was the last.
    pub paused: bool,
}

/// States of the specification, and `paused` as runc has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Waits for `start`.
    Created,
    /// Runs.
    Running,
    /// Stands still.
    Paused,
    /// Has ended.
    Stopped,
}

impl Status {
    /// As the specification writes it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container's directory.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its directory below `--root`.
    pub dir: PathBuf,
}

/// What an I/O error says, without "(os error 2)".
pub fn reason(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}

/// An error about a path.
pub fn at(path: &Path) -> impl Fn(std::io::Error) -> Why {
    move |e| format!("{}: {}", path.display(), reason(&e))
}

impl Root {
    /// The given one, else /run/ftvm-oci for the real root, else one below XDG_RUNTIME_DIR.
    pub fn new(given: Option<PathBuf>) -> Result<Root, Why> {
        if let Some(dir) = given {
            return std::path::absolute(&dir).map(Root).map_err(at(&dir));
        }
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let initial = map.split_whitespace().eq(["0", "0", "4294967295"]);
        if initial && rustix::process::geteuid().is_root() {
            return Ok(Root("/run/ftvm-oci".into()));
        }
        match std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty()) {
            Some(dir) => Ok(Root(PathBuf::from(dir).join("ftvm-oci"))),
            None => Err(
                "no directory for the state of containers: give --root, or set XDG_RUNTIME_DIR".to_string(),
            ),
        }
    }

    /// Ids of all containers.
    pub fn ids(&self) -> Vec<String> {
        let list = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut ids: Vec<String> = list
            .filter(|e| e.path().join("state.json").is_file())
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        ids.sort();
        ids
    }

    fn place(&self, id: &str) -> Result<PathBuf, Why> {
        let good = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
        if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(good) {
            return Err(format!(
                "{id:?} is not a container id: letters, digits, _ . + and - only"
            ));
        }
        Ok(self.0.join(id))
    }

    /// Takes the id. `open`: the container's user must get through to what is below, but cannot list it.
    pub fn make(&self, id: &str, open: bool) -> Result<Container, Why> {
        let dir = self.place(id)?;
        let mode = if open { 0o711 } else { 0o700 };
        let build = |d: &Path, deep: bool| {
            std::fs::DirBuilder::new()
                .mode(mode)
                .recursive(deep)
                .create(d)
                .map_err(at(d))
        };
        build(&self.0, true)?;
        if open {
            let all = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            std::fs::set_permissions(&self.0, all).map_err(at(&self.0))?;
        }
        if dir.exists() {
            return Err(format!("container with id {id} already exists"));
        }
        build(&dir, false)?;
        Ok(Container { dir })
    }

    /// The container with that id.
    pub fn find(&self, id: &str) -> Result<(Container, Saved), Why> {
        let c = Container { dir: self.place(id)? };
        let text =
            std::fs::read(c.dir.join("state.json")).map_err(|_| format!("container {id} does not exist"))?;
        let saved = serde_json::from_slice(&text).map_err(|e| format!("container {id}: state.json: {e}"))?;
        Ok((c, saved))
    }
}

/// Fields 3 (state) and 22 (start) of /proc/PID/stat.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = &text[text.rfind(')')? + 1..];
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// When a process was started, in ticks since boot; `None` if it has ended.
pub fn start_of(pid: i32) -> Option<u64> {
    stat(pid).filter(|(s, _)| !matches!(s, 'Z' | 'X')).map(|(_, t)| t)
}

impl Saved {
    /// The first process is there.
    pub fn alive(&self) -> bool {
        start_of(self.pid) == Some(self.started)
    }

    /// What the specification calls the state, as JSON, with what runc adds.
    pub fn json(&self, status: &str, pid: i32) -> Value {
        json!({
            "ociVersion": self.version, "id": self.id, "status": status, "pid": pid, "bundle": self.bundle,
            "rootfs": self.rootfs, "created": self.created, "annotations": self.annotations,
        })
    }
}

impl Container {
    /// Writes `state.json`, whole or not at all.
    pub fn save(&self, saved: &Saved) -> Result<(), Why> {
        let (path, new) = (self.dir.join("state.json"), self.dir.join("state.json.new"));
        let text = serde_json::to_vec(saved).map_err(|e| e.to_string())?;
        std::fs::write(&new, text).map_err(at(&new))?;
        std::fs::rename(&new, &path).map_err(at(&path))
    }

    /// The FIFO of the waiting process.
    pub fn fifo(&self) -> PathBuf {
        self.dir.join("start")
    }

    /// State directory of its run of ftvm.
    pub fn run_state(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The socket that takes orders while the image runs.
    pub fn orders(&self) -> PathBuf {
        self.run_state().join("now").join(RUN).join("orders")
    }

    /// Where it stands.
    pub fn status(&self, saved: &Saved) -> Status {
        match () {
            () if !saved.alive() => Status::Stopped,
            () if self.fifo().exists() => Status::Created,
            () if saved.paused => Status::Paused,
            () => Status::Running,
        }
    }

    /// Gives the supervisor an order and returns its answer.
    pub fn order(&self, order: &Value) -> Result<(), Why> {
        let path = self.orders();
        // Through a descriptor of its directory: the path may be longer than a socket's address.
        let dir = self.run_state().join("now").join(RUN);
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let dir =
            rustix::fs::open(&dir, flags, rustix::fs::Mode::empty()).map_err(|e| at(&path)(e.into()))?;
        let short = format!("/proc/self/fd/{}/orders", dir.as_raw_fd());
        let mut conn = UnixStream::connect(&short).map_err(at(&path))?;
        writeln!(conn, "{order}").map_err(at(&path))?;
        let mut line = String::new();
        BufReader::new(&conn).read_line(&mut line).map_err(at(&path))?;
        let answer: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        match answer["ok"] == true {
            true => Ok(()),
            false => Err(answer["why"]
                .as_str()
                .unwrap_or("the image has ended")
                .to_string()),
        }
    }

    /// Forgets it.
    pub fn remove(&self) -> Result<(), Why> {
        std::fs::remove_dir_all(&self.dir).map_err(at(&self.dir))
    }
}

/// Host processes of a container: its supervisor, which is first, and the image's, which are all the supervisor's
/// children.
pub fn processes(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    for task in tasks {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|p| p.parse::<i32>().ok()));
    }
    all
}

/// Whether a host process is stopped, has ended, or neither.
pub fn stands(pid: i32) -> bool {
    stat(pid).is_none_or(|(s, _)| matches!(s, 'T' | 't' | 'Z' | 'X'))
}

/// A process id for rustix.
pub fn pid(n: i32) -> Result<Pid, Why> {
    Pid::from_raw(n).ok_or_else(|| format!("{n} is not a process id"))
}
