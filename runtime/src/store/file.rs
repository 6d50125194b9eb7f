//! Files: read at offsets, and written so that they appear whole or not at all.

use crate::cli::reason;
use ftl_core::snap::ReadAt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// An open file of fixed length.
#[derive(Debug)]
pub struct HostFile {
    file: File,
    len: u64,
}

impl HostFile {
    /// Opens a regular file for reading.
    pub fn open(path: &Path) -> Result<HostFile, String> {
        let name = |why: &str| format!("{}: {why}", path.display());
        // A FIFO must not make us wait.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|e| name(&reason(&e)))?;
        let meta = file.metadata().map_err(|e| name(&reason(&e)))?;
        if !meta.is_file() {
            return Err(name("not a file; name a snapshot's file"));
        }
        Ok(HostFile {
            file,
            len: meta.len(),
        })
    }

    /// The file, to map it.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl ReadAt for HostFile {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), String> {
        self.file.read_exact_at(buf, offset).map_err(|e| reason(&e))
    }
}

/// Makes the names in the folder of `path` durable: behind a power cut a file that was renamed, and even synced, may have its old name
/// else (fsync(2)).
pub fn sync_names(path: &Path) -> std::io::Result<()> {
    match File::open(folder(path)) {
        Ok(dir) => dir.sync_all(),
        // One may write where one may not list.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Err(e) => Err(e),
    }
}

const SUFFIX: &str = ".part";

/// A file that is being written: 0600, under a name that [`sweep`] knows, locked while its writer lives.
pub struct Unpublished {
    file: File,
    part: PathBuf,
    to: PathBuf,
}

impl Unpublished {
    /// Starts the file that will be `to`. What a dead writer of the same folder left is removed.
    pub fn create(to: &Path) -> Result<Unpublished, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = folder(to);
        sweep(dir);
        let wrong = |e: &std::io::Error| format!("writing {}: {}", to.display(), reason(e));
        let name = to
            .file_name()
            .ok_or_else(|| format!("{}: not the name of a file", to.display()))?;
        loop {
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            let mut part = std::ffi::OsString::from(".ftvm-");
            part.push(name);
            part.push(format!(".{}-{n}{SUFFIX}", std::process::id()));
            let part = dir.join(part);
            let made = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&part);
            let file = match made {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(|e| wrong(&e))?,
            };
            file.lock().map_err(|e| wrong(&e))?;
            // Somebody may have swept it before it was locked.
            if file.metadata().map_err(|e| wrong(&e))?.nlink() == 1 {
                return Ok(Unpublished {
                    file,
                    part,
                    to: to.to_path_buf(),
                });
            }
        }
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.file.write_all(bytes).map_err(|e| {
            format!(
                "writing {}: {}; nothing was changed",
                self.to.display(),
                reason(&e)
            )
        })
    }

    /// Puts bytes at its beginning.
    pub fn write_head(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.file.write_all_at(bytes, 0).map_err(|e| {
            format!(
                "writing {}: {}; nothing was changed",
                self.to.display(),
                reason(&e)
            )
        })
    }

    /// Makes the file durable and gives it its name, in the place of what had it.
    pub fn publish(self) -> Result<(), String> {
        let to = self.to.clone();
        self.publish_as(&to)
    }

    /// The same with another name in the same folder.
    pub fn publish_as(self, to: &Path) -> Result<(), String> {
        let wrong = |e: std::io::Error| format!("writing {}: {}", to.display(), reason(&e));
        self.file.sync_all().map_err(wrong)?;
        std::fs::rename(&self.part, to).map_err(wrong)?;
        sync_names(to).map_err(wrong)
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        // Already renamed, or not wanted.
        let _ = std::fs::remove_file(&self.part);
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Removes what dead writers left in a folder; how many files.
pub fn sweep(dir: &Path) -> u32 {
    let mut removed = 0;
    let Ok(items) = std::fs::read_dir(dir) else {
        return 0;
    };
    for item in items.flatten() {
        let name = item.file_name();
        let name = name.as_encoded_bytes();
        if !name.starts_with(b".ftvm-") || !name.ends_with(SUFFIX.as_bytes()) {
            continue;
        }
        // A live writer holds its lock.
        let path = item.path();
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        if let Ok(file) = open
            && file.try_lock().is_ok()
            && std::fs::remove_file(&path).is_ok()
        {
            removed += 1;
        }
    }
    removed
}
