//! How a migration ended, at its target: a file that is made once. Whoever makes it decides.
//!
//! The target makes it `committed` when COMMIT has come, before the image runs. The source's question makes it `refused` if
//! it is not there yet. `link(2)` of a finished file is the compare-and-swap: one of the two succeeds.

use super::MoveId;
use crate::cli::state;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The image is the target's.
    Committed,
    /// It never runs at the target.
    Refused,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Committed => "committed\n",
            Verdict::Refused => "refused\n",
        }
    }
}

/// Identity of this host's registers, made with the first of them: whoever asks about a migration knows by it that it asks
/// the host that it migrated to, and not another that has its address now.
pub fn registrar() -> io::Result<u64> {
    let dir = state::moves().map_err(io::Error::other)?;
    fs::DirBuilder::new().mode(0o700).recursive(true).create(&dir)?;
    registrar_in(&dir)
}

fn registrar_in(dir: &Path) -> io::Result<u64> {
    let path = dir.join("registrar");
    loop {
        match fs::read_to_string(&path) {
            Ok(text) => {
                return u64::from_str_radix(text.trim(), 16)
                    .map_err(|_| io::Error::other(format!("{}: damaged", path.display())));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let id = crate::protect::standby::random();
        let new = dir.join(format!("registrar.{:016x}", crate::protect::standby::random()));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let made = file
            .write_all(format!("{id:016x}\n").as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&new, &path));
        let _ = fs::remove_file(&new);
        match made {
            Ok(()) => fs::File::open(dir)?.sync_all()?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// Proposals that a dead process has left are removed when they are older than this. Registers never are: a clock that jumps
/// would make two copies of an image, and one is a few bytes.
const OLD: Duration = Duration::from_secs(30 * 24 * 3600);

/// A proposal how a migration ended, on the disk already: what is left to do takes no time.
#[derive(Debug)]
pub struct Proposal {
    dir: PathBuf,
    new: PathBuf,
    id: MoveId,
    verdict: Verdict,
}

impl Proposal {
    /// Writes it down, without effect.
    pub fn new(id: MoveId, verdict: Verdict) -> io::Result<Proposal> {
        let dir = state::moves().map_err(io::Error::other)?;
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&dir)?;
        sweep(&dir);
        Proposal::new_in(&dir, id, verdict)
    }

    fn new_in(dir: &Path, id: MoveId, verdict: Verdict) -> io::Result<Proposal> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Relaxed);
        let new = dir.join(format!("{id:016x}.{}-{n}", std::process::id()));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(verdict.word().as_bytes())?;
        file.sync_all()?;
        Ok(Proposal {
            dir: dir.to_path_buf(),
            new,
            id,
            verdict,
        })
    }

    /// Makes it, unless there is another already; returns how the migration ended. An error: that is not known.
    pub fn decide(&self) -> io::Result<Verdict> {
        let path = self.dir.join(format!("{:016x}", self.id));
        match fs::hard_link(&self.new, &path) {
            Ok(()) => Ok(self.verdict),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => read(&path),
            Err(e) => Err(e),
        }
    }

    /// The register survives a loss of power. It need not before the image runs: a target that loses power has no copy
    /// that runs.
    pub fn settle(&self) {
        let _ = fs::File::open(&self.dir).and_then(|d| d.sync_all());
    }
}

impl Drop for Proposal {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.new);
    }
}

/// How a migration ended, if need be by refusing it.
pub fn refuse(id: MoveId) -> io::Result<Verdict> {
    let p = Proposal::new(id, Verdict::Refused)?;
    let verdict = p.decide()?;
    p.settle();
    Ok(verdict)
}

fn read(path: &PathBuf) -> io::Result<Verdict> {
    let text = fs::read_to_string(path)?;
    [Verdict::Committed, Verdict::Refused]
        .into_iter()
        .find(|v| v.word() == text)
        .ok_or_else(|| io::Error::other("a register of a migration is damaged"))
}

/// A target that has committed and knows that the image has not run here, and never will, gives it back.
pub fn give_back(id: MoveId) -> io::Result<()> {
    let dir = state::moves().map_err(io::Error::other)?;
    let new = dir.join(format!("{id:016x}.back"));
    let mut file = fs::File::create(&new)?;
    file.write_all(Verdict::Refused.word().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, dir.join(format!("{id:016x}")))?;
    fs::File::open(&dir)?.sync_all()
}

fn sweep(dir: &Path) {
    let now = SystemTime::now();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().contains(&b'.') {
            continue;
        }
        let age = entry.metadata().and_then(|m| m.modified());
        if age.is_ok_and(|t| now.duration_since(t).is_ok_and(|d| d > OLD)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_identity() {
        let dir = std::env::temp_dir().join(format!("ftl-registrar-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let all: Vec<_> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..8).map(|_| s.spawn(|| registrar_in(&dir))).collect();
            threads
                .into_iter()
                .map(|t| t.join().expect("a thread").expect("an identity"))
                .collect()
        });
        assert!(all.windows(2).all(|w| w[0] == w[1]), "{all:?}");
        fs::write(dir.join("registrar"), "what").expect("written");
        assert!(registrar_in(&dir).is_err());
        let _ = fs::remove_dir_all(&dir);
    }

    #[test]
    fn no_clock_forgets_how_a_migration_ended() {
        let dir = std::env::temp_dir().join(format!("ftl-moves-old-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let decided = Proposal::new_in(&dir, 7, Verdict::Committed).and_then(|p| p.decide());
        assert_eq!(decided.expect("made"), Verdict::Committed);
        std::mem::forget(Proposal::new_in(&dir, 8, Verdict::Refused).expect("written"));
        for entry in fs::read_dir(&dir).expect("read").flatten() {
            let file = fs::File::open(entry.path()).expect("opened");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("an old file");
        }
        sweep(&dir);
        assert_eq!(
            fs::read_dir(&dir).expect("read").count(),
            1,
            "what a dead process left is gone"
        );
        let asked = Proposal::new_in(&dir, 7, Verdict::Refused).and_then(|p| p.decide());
        assert_eq!(asked.expect("known"), Verdict::Committed);
        let _ = fs::remove_dir_all(&dir);
    }

    #[test]
    fn the_first_proposal_counts() {
        let dir = std::env::temp_dir().join(format!("ftl-moves-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let decide_in = |dir: &Path, id, v| Proposal::new_in(dir, id, v).and_then(|p| p.decide());
        assert_eq!(
            decide_in(&dir, 1, Verdict::Committed).expect("decided"),
            Verdict::Committed
        );
        assert_eq!(
            decide_in(&dir, 1, Verdict::Refused).expect("decided"),
            Verdict::Committed
        );
        assert_eq!(
            decide_in(&dir, 2, Verdict::Refused).expect("decided"),
            Verdict::Refused
        );
        assert_eq!(
            decide_in(&dir, 2, Verdict::Committed).expect("decided"),
            Verdict::Refused
        );
        // Many at once: all hear the same.
        let all: Vec<_> = std::thread::scope(|s| {
            let one = |n: u32| {
                let (dir, decide_in) = (&dir, &decide_in);
                let v = if n % 2 == 0 {
                    Verdict::Committed
                } else {
                    Verdict::Refused
                };
                s.spawn(move || decide_in(dir, 3, v))
            };
            let threads: Vec<_> = (0..8).map(one).collect();
            threads
                .into_iter()
                .map(|t| t.join().expect("a thread").expect("decided"))
                .collect()
        });
        assert!(all.windows(2).all(|w| w[0] == w[1]), "{all:?}");
        let _ = fs::remove_dir_all(&dir);
    }
}
