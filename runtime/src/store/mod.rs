//! Snapshots on this host's disk: files of their own, and the page store that snapshots, chains and clones share.
//!
//! The page store is `$XDG_DATA_HOME/ftvm/store` (else `~/.local/share/ftvm/store`), 0700:
//!
//! * `packs/ID.pack`: pages, each once by its BLAKE3 hash, each at a multiple of 4096, so that many restores map
//!   the same clean pages of the host's page cache ([`pack`]).
//! * `refs/ROOT.ftsnap`: snapshots whose pages are named by hash only. A page lives while one of them names it.
//! * `lock`: held shared (flock) by whoever adds or opens, exclusively by [`gc`].
//!
//! Every file appears whole or not at all ([`file::Unpublished`]): a writer that dies leaves a temporary file, which
//! whoever comes next removes, and what was there before it is as it was.
//!
//! All of this runs in processes or at moments without guest state: it allocates, and its libraries use AVX.

pub mod crypt;
pub mod file;
pub mod gc;
pub mod open;
pub mod pack;
#[cfg(test)]
mod tests;
pub mod write;

use crate::cli::reason;
use file::HostFile;
use ftl_core::snap::{Root, Snapshot, hex};
use pack::Packs;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The page store, locked shared while this value lives.
pub struct Store {
    dir: PathBuf,
    lock: File,
}

/// A snapshot in the store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Identity, by its file's name.
    pub root: Root,
    /// Its file.
    pub path: PathBuf,
    /// Last change of the file, seconds since 1970.
    pub added_s: i64,
}

fn bad(dir: &Path, e: &std::io::Error) -> String {
    format!(
        "page store {}: {}; set XDG_DATA_HOME to a folder of yours",
        dir.display(),
        reason(e)
    )
}

/// Where the store of this user is.
pub fn default_dir() -> Result<PathBuf, String> {
    let data = match std::env::var_os("XDG_DATA_HOME") {
        Some(d) if !d.is_empty() => PathBuf::from(d),
        _ => match std::env::var_os("HOME") {
            Some(h) if !h.is_empty() => PathBuf::from(h).join(".local/share"),
            _ => return Err("page store: neither XDG_DATA_HOME nor HOME is set; set one".into()),
        },
    };
    Ok(data.join("ftvm/store"))
}

impl Store {
    /// Opens this user's store; made if missing, refused if others could write it.
    pub fn open() -> Result<Store, String> {
        Self::open_at(&default_dir()?)
    }

    /// Opens the store in a directory.
    pub fn open_at(dir: &Path) -> Result<Store, String> {
        let mut make = std::fs::DirBuilder::new();
        make.recursive(true).mode(0o700);
        for sub in ["packs", "refs"] {
            make.create(dir.join(sub)).map_err(|e| bad(dir, &e))?;
        }
        let meta = std::fs::symlink_metadata(dir).map_err(|e| bad(dir, &e))?;
        // SAFETY: a plain query.
        let uid = unsafe { libc::getuid() };
        if !meta.is_dir() || meta.uid() != uid || meta.mode() & 0o077 != 0 {
            return Err(format!(
                "page store {}: not a directory that only you can enter; chmod 700 it, or set XDG_DATA_HOME",
                dir.display()
            ));
        }
        let lock = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(|e| bad(dir, &e))?;
        lock.lock_shared().map_err(|e| bad(dir, &e))?;
        let store = Store {
            dir: dir.to_path_buf(),
            lock,
        };
        for sub in ["packs", "refs"] {
            file::sweep(&store.dir.join(sub));
        }
        Ok(store)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All snapshots in it, by identity.
    pub fn list(&self) -> Result<Vec<Entry>, String> {
        let dir = self.dir.join("refs");
        let mut all = Vec::new();
        for item in std::fs::read_dir(&dir).map_err(|e| bad(&dir, &e))? {
            let path = item.map_err(|e| bad(&dir, &e))?.path();
            let root = path
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(|n| n.strip_suffix(".ftsnap"))
                .and_then(unhex);
            let Some(root) = root else {
                continue;
            };
            let meta = std::fs::metadata(&path).map_err(|e| bad(&path, &e))?;
            all.push(Entry {
                root,
                path,
                added_s: meta.mtime(),
            });
        }
        all.sort_by_key(|e| e.root);
        Ok(all)
    }

    /// The one snapshot whose identity begins with these hexadecimal digits.
    pub fn find(&self, prefix: &str) -> Result<Entry, String> {
        let mut found = self
            .list()?
            .into_iter()
            .filter(|e| hex(&e.root).starts_with(prefix));
        match (found.next(), found.next()) {
            (Some(e), None) if prefix.len() >= 4 => Ok(e),
            (None, _) => Err(format!(
                "no snapshot {prefix} is in the page store; ftvm snapshot ls lists them"
            )),
            _ => Err(format!(
                "{prefix} does not name one snapshot; write more digits (ftvm snapshot ls)"
            )),
        }
    }

    /// Where the snapshot with this identity is, or would be.
    pub fn path_of(&self, root: &Root) -> PathBuf {
        self.dir.join("refs").join(format!("{}.ftsnap", hex(root)))
    }

    /// Opens a snapshot of the store.
    pub fn snapshot(&self, root: &Root, packs: &Rc<Packs>) -> Result<Snapshot, String> {
        let path = self.path_of(root);
        let src = HostFile::open(&path)?;
        Snapshot::open_with(Box::new(src), None, Some(Box::new(packs.clone())))
            .and_then(|s| match s.root() == root {
                true => Ok(s),
                false => Err(ftl_core::snap::SnapError::Root {
                    found: *s.root(),
                    said: *root,
                }),
            })
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Removes a snapshot. Its pages stay until they are collected.
    pub fn remove(&self, root: &Root) -> Result<(), String> {
        let path = self.path_of(root);
        std::fs::remove_file(&path).map_err(|e| format!("{}: {}", path.display(), reason(&e)))
    }
}

/// The identity that 64 hexadecimal digits name.
pub fn unhex(text: &str) -> Option<Root> {
    if text.len() != 64 || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    blake3::Hash::from_hex(text).ok().map(Into::into)
}
