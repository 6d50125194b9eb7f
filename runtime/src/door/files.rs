//! Host files that a recorded image maps: their identity is in the log, their contents only where they
//! may change (what the image can write, and all of them after `log pack`), as `files/HASH` beside
//! the segments.

use crate::link::vectors::Keeper;
use crate::snap::wide::Hasher;
use crate::sys::sys;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Path, size and content hash, as a log names a file.
pub type Identity = (Vec<u8>, u64, [u8; 32]);

/// Device, inode, size, times of last change: while these stay, so do the contents.
pub type Version = (u64, u64, u64, i64, i64);

/// Of a file.
pub fn version_of(m: &std::fs::Metadata) -> Version {
    use std::os::unix::fs::MetadataExt;
    (
        m.dev(),
        m.ino(),
        m.size(),
        m.mtime_nsec() ^ m.mtime(),
        m.ctime_nsec() ^ m.ctime(),
    )
}

/// What is known of files while recording or replaying.
#[derive(Default)]
pub struct Files {
    log: PathBuf,
    known: BTreeMap<Version, [u8; 32]>,
    /// Where contents can be opened, whatever is at their paths by now.
    held: BTreeMap<[u8; 32], PathBuf>,
    /// Host directories that the image may write: contents of files there are copied.
    pub writable: Vec<Vec<u8>>,
}

/// Folder of copies in a log.
fn folder(log: &Path) -> PathBuf {
    log.join("files")
}

/// What a copy of a file is called.
pub fn name_of(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

impl Files {
    /// For the log in `dir`.
    pub fn new(dir: &Path) -> Files {
        Files {
            log: std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf()),
            known: BTreeMap::new(),
            held: BTreeMap::new(),
            writable: Vec::new(),
        }
    }

    /// This version of a file has these contents.
    pub fn know(&mut self, version: Version, hash: [u8; 32]) {
        self.known.insert(version, hash);
    }

    /// These contents can be opened there.
    pub fn is_at(&mut self, hash: [u8; 32], at: PathBuf) {
        self.held.insert(hash, at);
    }

    /// Identity of an open file that is about to be mapped; its contents are kept if they may change. `breathe` is called now
    /// and then: a large file takes long.
    pub fn mapped(&mut self, fd: i32, breathe: &mut dyn FnMut()) -> Option<Identity> {
        let link = PathBuf::from(format!("/proc/self/fd/{fd}"));
        let path = std::fs::read_link(&link).ok()?.as_os_str().as_bytes().to_vec();
        let may_change = path.ends_with(b" (deleted)") || self.writable.iter().any(|d| path.starts_with(d));
        let (size, hash) = self.hash(&link, !may_change, breathe)?;
        if may_change {
            // A full disk: the replay will miss it, the run goes on.
            let _ = keep(&self.log, &link, &hash);
        }
        Some((crate::platform::root::named(path), size, hash))
    }

    /// Opens what was mapped: the log's copy, or the file itself if it is as it was.
    pub fn open(&mut self, identity: &Identity) -> Result<i32, String> {
        let (path, size, hash) = identity;
        let copy = folder(&self.log).join(name_of(hash));
        let (original, root_missing) = match crate::platform::root::on_host(path) {
            Ok(p) => (Some(p), None),
            Err(why) => (None, Some(why)),
        };
        let mut found = false;
        let held = self.held.get(hash).cloned();
        for candidate in std::iter::once(copy).chain(held).chain(original) {
            match self.hash(&candidate, true, &mut || {}) {
                Some((s, h)) if s == *size && h == *hash => {
                    if let Some(fd) = open(&candidate) {
                        return Ok(fd);
                    }
                }
                Some(_) => found = true,
                None => {}
            }
        }
        let why = match root_missing {
            _ if found => "has other contents than when it was recorded".to_string(),
            Some(why) => format!("is missing: {why}"),
            None => "is missing".to_string(),
        };
        Err(format!("mapped file {} {why}", String::from_utf8_lossy(path)))
    }

    /// Size and content hash of a file; taken as known while its times and size stay.
    pub fn identity(&mut self, path: &Path) -> Option<(u64, [u8; 32])> {
        self.identity_breathing(path, &mut || {})
    }

    /// The same; `breathe` is called now and then.
    pub fn identity_breathing(&mut self, path: &Path, breathe: &mut dyn FnMut()) -> Option<(u64, [u8; 32])> {
        self.hash(path, true, breathe)
    }

    fn hash(&mut self, path: &Path, cached: bool, breathe: &mut dyn FnMut()) -> Option<(u64, [u8; 32])> {
        let m = std::fs::metadata(path).ok()?;
        let version = version_of(&m);
        if let Some(h) = self.known.get(&version).filter(|_| cached) {
            return Some((m.len(), *h));
        }
        let (size, hash) = match hash_file(path, breathe) {
            Ok(found) => found,
            Err(e) => {
                if e.kind() != std::io::ErrorKind::NotFound {
                    crate::talk::note(&format!("{}: {e}: a replay cannot map it", path.display()));
                }
                return None;
            }
        };
        if cached {
            self.known.insert(version, hash);
        }
        Some((size, hash))
    }
}

fn open(path: &Path) -> Option<i32> {
    let c = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: a C string.
    let fd = unsafe { sys!(libc::SYS_open, c.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    fd.ok().map(|f| f as i32)
}

fn hash_file(path: &Path, breathe: &mut dyn FnMut()) -> std::io::Result<(u64, [u8; 32])> {
    use std::io::Read;
    let mut file = std::fs::File::open(path)?;
    // Programs of a hundred megabytes are mapped, and a guest's vector state may be live.
    let (mut hash, mut vectors) = (Hasher::new(), Keeper::new());
    let mut buf = vec![0u8; 256 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut buf) {
            Ok(0) => return Ok((size, vectors.keep(|| hash.finish()))),
            Ok(n) => {
                size += n as u64;
                vectors.keep(|| hash.update(&buf[..n]));
                breathe();
            }
            // The watchdog's tick.
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Copies a file into a log under the name of its contents.
pub fn keep(log: &Path, from: &Path, hash: &[u8; 32]) -> std::io::Result<()> {
    let folder = folder(log);
    let to = folder.join(name_of(hash));
    if to.exists() {
        return Ok(());
    }
    let _ = std::fs::DirBuilder::new().mode(0o700).create(&folder);
    let part = folder.join(format!("{}.part", name_of(hash)));
    let mut source = std::fs::File::open(from)?;
    let mut target = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    std::io::copy(&mut source, &mut target)?;
    std::fs::rename(part, to)
}

/// Copies a mapped file into the log. `Ok(false)`: it was there already.
pub fn pack(log: &Path, identity: &Identity) -> Result<bool, String> {
    let (path, size, hash) = identity;
    if folder(log).join(name_of(hash)).exists() {
        return Ok(false);
    }
    let from = crate::platform::root::on_host(path)?;
    match hash_file(&from, &mut || {}) {
        Ok((s, h)) if s == *size && h == *hash => {
            keep(log, &from, hash).map_err(|e| format!("{}: {e}", from.display()))?;
            Ok(true)
        }
        Ok(_) => Err(format!(
            "{}: other contents than when it was recorded",
            from.display()
        )),
        Err(e) => Err(format!("{}: {e}", from.display())),
    }
}

/// The same as a message, for the guest's process.
pub fn refuse(why: &str) -> ! {
    crate::alloc::set(crate::alloc::Side::System);
    let code = super::replay::EXIT_INCOMPATIBLE;
    crate::talk::error(crate::talk::code_of(code), code, why);
    crate::run::die(code)
}
