//! Where things are: the repository, the build's output, the binary under test, a fresh directory per run.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, io};

/// The top of the repository that this test was built from.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder `target/<profile>` that the running test lies in.
fn profile_dir() -> PathBuf {
    let exe = env::current_exe().unwrap_or_default();
    exe.parent()
        .and_then(Path::parent)
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// Where compiled guests are cached: `target/guests`.
pub fn guest_cache() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target
        .unwrap_or_else(|| repository().join("target"))
        .join("guests")
}

/// Where cargo has unpacked the crates that this repository is built with: `REGISTRY/CRATE-VERSION`. Some hold the C code of a
/// real project.
pub fn crates() -> PathBuf {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"));
    home.join("registry/src")
}

/// The ftvm under test: `FTVM_BIN`, else the one beside this test's profile.
pub fn ftvm() -> Result<PathBuf, String> {
    let path = match env::var_os("FTVM_BIN") {
        Some(p) => PathBuf::from(p),
        None => profile_dir().join("ftvm"),
    };
    match path.is_file() {
        true => Ok(path),
        false => Err(format!(
            "no ftvm at {}: run `cargo build -p ftvm` or set FTVM_BIN",
            path.display()
        )),
    }
}

/// The OCI runtime under test: beside that ftvm.
pub fn ftvm_oci() -> Result<PathBuf, String> {
    let path = ftvm()?.with_file_name("ftvm-oci");
    match path.is_file() {
        true => Ok(path),
        false => Err(format!(
            "no ftvm-oci at {}: run `cargo build -p ftvm-oci`",
            path.display()
        )),
    }
}

/// Starts this program again without the descriptors it was given beyond the standard three, and with no signal ignored:
/// programs under test print descriptor numbers and are interrupted, and what they inherit must not depend on who called
/// cargo (a shell ignores SIGINT and SIGQUIT for what it starts in the background, nohup SIGHUP).
pub fn shed_descriptors() -> io::Result<()> {
    const MARK: &str = "FTL_SHED";
    let open: Vec<String> = fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter(|e| fs::read_link(e.path()).is_ok()) // not the one that reads this directory
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.parse::<u32>().is_ok_and(|n| n > 2))
        .collect();
    if env::var_os(MARK).is_some() {
        return Ok(());
    }
    let closes: String = open.iter().map(|n| format!("exec {n}>&-; ")).collect();
    let script = format!("{closes} exec env --default-signal \"$@\"");
    let mut bash = Command::new("bash");
    bash.args(["-c", &script, "shed"])
        .args(env::args_os())
        .env(MARK, "1");
    Err(bash.exec())
}

/// A directory of one test's own, removed when dropped. `cwd()` is where the program runs; `side()` is for the runner.
pub struct Scratch {
    top: PathBuf,
}

impl Scratch {
    /// Makes one under the system's temporary folder.
    pub fn new() -> io::Result<Scratch> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let top = env::temp_dir().join(format!("ftl-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        fs::create_dir_all(top.join("cwd"))?;
        fs::create_dir_all(top.join("side"))?;
        Ok(Scratch { top })
    }

    /// The program's working directory, empty at first.
    pub fn cwd(&self) -> PathBuf {
        self.top.join("cwd")
    }

    /// What the program is not meant to see: logs, ftvm's run state.
    pub fn side(&self) -> PathBuf {
        self.top.join("side")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

/// Where a program is, by the search path.
pub fn on_path(program: &str) -> Result<String, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|d| d.join(program))
        .find(|p| p.is_file())
        .map(|p| p.to_string_lossy().into_owned())
        .ok_or_else(|| format!("{program}: not found: ci/install installs it"))
}
