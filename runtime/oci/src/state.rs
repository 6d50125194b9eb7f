//! State of containers: one directory each below `--root`.
//!
//! * `config.json`: the bundle's, as it was at `create`. `state.json`: [`Saved`]. Both are its owner's alone, as the program's
//!   variables are in the first: with a user namespace every local user gets through the directory.
//! * `empty`: what is bound over masked files. `snapshot`: where the folder of a snapshot is seen that `/mnt` would hide.
//! * `start`: a FIFO on which the waiting process hangs until `start`; gone afterwards.
//! * `run/now/container`: the run's directory of ftvm, with its socket for orders; `run/kept`: what else ftvm keeps.

use crate::Why;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
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
    /// `create` is at work: hooks run, or the first process is not yet ready.
    #[serde(default)]
    pub creating: bool,
}

/// States of the specification, and `paused` as runc has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// `create` is at work.
    Creating,
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
            Status::Creating => "creating",
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

/// Writes a file of a container's directory, with this mode whatever the umask.
pub fn write(path: &Path, text: &[u8], mode: u32) -> Result<(), Why> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode & 0o600);
    let mut file = options.open(path).map_err(at(path))?;
    let exact = std::os::unix::fs::PermissionsExt::from_mode(mode);
    file.set_permissions(exact).map_err(at(path))?;
    file.write_all(text).map_err(at(path))
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

    /// Removes what an aborted `create` may leave: the directory of an id, without a state. Whether there is no such
    /// container now; one whose state cannot be read stays.
    pub fn forget(&self, id: &str) -> Result<bool, Why> {
        let c = Container { dir: self.place(id)? };
        if c.dir.join("state.json").exists() {
            return Ok(false);
        }
        match c.dir.exists() {
            true => c.remove().map(|()| true),
            false => Ok(true),
        }
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

/// What an id of a user namespace is outside it, by the namespace's uid_map or gid_map (user_namespaces(7)) as we read
/// it: `None` if it is nobody here.
pub fn outside(map: &str, inside: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().filter_map(|n| n.parse::<u32>().ok());
        let (first, out, size) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let n = inside.checked_sub(first).filter(|n| *n < size)?;
        // An id that our own namespace lacks is shown as the highest.
        out.checked_add(n).filter(|id| out != u32::MAX && *id != u32::MAX)
    })
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
        write(&new, &text, 0o600)?;
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
            () if saved.creating => Status::Creating,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_as_the_namespace_says() {
        let map = "         0     200000       1000\n      2000       5000          1\n";
        for (inside, want) in [
            (0, Some(200_000)),
            (999, Some(200_999)),
            (1000, None),
            (2000, Some(5000)),
        ] {
            assert_eq!(outside(map, inside), want, "{inside}");
        }
        assert_eq!(outside("0 4294967295 1\n", 0), None);
        assert_eq!(outside("0 0 4294967295\n", 0), Some(0));
        assert_eq!(outside("", 0), None);
    }

    #[test]
    fn files_of_a_container_have_the_mode_that_they_should() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("ftvm-oci-state-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for mode in [0o600, 0o444] {
            let path = dir.join(format!("{mode:o}"));
            write(&path, b"text", mode).unwrap();
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
                mode
            );
            assert_eq!(std::fs::read(&path).unwrap(), b"text");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
