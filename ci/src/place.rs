//! Where things are: the repository, the build's output, the binary under test, a fresh directory per run.

use std::path::{Path, PathBuf};
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
