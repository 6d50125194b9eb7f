//! Layers become a root directory.
//!
//! A layer is hostile input. Its names are walked by the host kernel below the new root (openat2 with RESOLVE_IN_ROOT), so that no
//! symlink, whoever made it, leads out; names with `..` and absolute names are refused. What it unpacks to is bounded by what it
//! weighs. A file is never written in place: files of the layers below are shared with other roots by hard links.
//!
//! A plain user cannot make everything: owners, devices and attributes of the system stay in the layer only, and
//! [`Lost`] counts them. The layer itself is kept as it is.

use crate::digest::{Digest, Hashed};
use crate::entries::{Entries, Entry};
use crate::image::{Compression, Image, chain_of};
use crate::store::Store;
use crate::tree::{remove_at, remove_tree};
use crate::{Result, reason};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A layer may always unpack to so many bytes.
pub const BOMB_FLOOR: u64 = 256 << 20;
/// Beyond, it may unpack to so many times its own size. Text packs 10 times; deflate cannot pack more than 1032 times.
pub const BOMB_RATIO: u64 = 100;
/// Most entries of a layer.
pub const MAX_ENTRIES: u64 = 10_000_000;
/// Longest name.
const MAX_NAME: usize = 4096;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What of the layers this user cannot have on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Files whose owner is another.
    pub owners: u64,
    /// Device nodes.
    pub devices: u64,
    /// Extended attributes.
    pub attributes: u64,
}

/// The root of an image: unpacked now if it is not there yet. What was lost is told only then.
pub fn root(store: &Store, image: &Image) -> Result<(PathBuf, Option<Lost>)> {
    let path = store.root_path(&image.chain());
    if path.is_dir() {
        return Ok((path, None));
    }
    let temp = store.ingest()?;
    let made = unpack(store, image, &temp).and_then(|lost| {
        let dir = File::open(&temp).map_err(|e| reason(&e))?;
        rustix::fs::syncfs(&dir).map_err(|e| reason(&e.into()))?;
        match std::fs::rename(&temp, &path) {
            Ok(()) => Ok(lost),
            // Somebody else was faster.
            Err(_) if path.is_dir() => {
                let _ = remove_tree(&temp);
                Ok(lost)
            }
            Err(e) => Err(reason(&e)),
        }
    });
    match made {
        Ok(lost) => Ok((path, Some(lost))),
        Err(why) => {
            let _ = remove_tree(&temp);
            Err(format!("unpacking {}: {why}", image.manifest_blob.digest))
        }
    }
}

fn unpack(store: &Store, image: &Image, temp: &Path) -> Result<Lost> {
    let io = |e: std::io::Error| reason(&e);
    std::fs::create_dir(temp).map_err(io)?;
    // The longest chain that is there is the beginning.
    let diffs: Vec<Digest> = image.layers.iter().map(|(_, _, d)| *d).collect();
    let below = (1..diffs.len())
        .rev()
        .find(|n| store.root_path(&chain_of(diffs[..*n].iter())).is_dir());
    let mut tree = Tree::new(temp)?;
    if let Some(n) = below {
        let from = store.root_path(&chain_of(diffs[..n].iter()));
        tree.link_all(&from, Path::new(""))?;
    }
    for (blob, compression, diff) in &image.layers[below.unwrap_or(0)..] {
        let file = store.blob(&blob.digest)?;
        if file.metadata().map_err(io)?.len() != blob.size {
            return Err(format!(
                "layer {}: not {} bytes long; pull the image again",
                blob.digest, blob.size
            ));
        }
        if let Err(why) = tree.layer(file, blob.size, *compression, diff) {
            store.check(&blob.digest)?;
            return Err(format!("layer {}: {why}", blob.digest));
        }
    }
    tree.finish()?;
    Ok(tree.lost)
}

/// The bytes of a tar behind its compression.
pub fn decompress<'a>(src: impl Read + 'a, compression: Compression) -> std::io::Result<Box<dyn Read + 'a>> {
    let src = std::io::BufReader::with_capacity(1 << 16, src);
    Ok(match compression {
        Compression::None => Box::new(src),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(src)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(src)?),
    })
}

/// Bytes that may not become too many.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| std::io::Error::other(too_much()))?;
        Ok(n)
    }
}

fn too_much() -> String {
    format!(
        "unpacks to more than {} MiB and {BOMB_RATIO} times its own size",
        BOMB_FLOOR >> 20
    )
}

/// A name of the layer as the components below the root; refused if it would lead out.
pub fn components(name: &[u8]) -> Result<Vec<&[u8]>> {
    let show = || String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned();
    if name.len() > MAX_NAME || name.contains(&0) {
        return Err(format!("{}: not a name", show()));
    }
    if name.first() == Some(&b'/') {
        return Err(format!("{}: an absolute name", show()));
    }
    let mut out = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(format!("{}: a name that leads out of its directory", show())),
            p if p.len() > 255 => return Err(format!("{}: a name that is too long", show())),
            p => out.push(p),
        }
    }
    Ok(out)
}

/// A root that is being made.
pub struct Tree {
    root: OwnedFd,
    /// Modes and times of directories, set when nothing is written to them any more.
    dirs: BTreeMap<Vec<u8>, (u32, Timespec)>,
    /// Names that the current layer has made: its whiteouts are not for those.
    own: BTreeSet<Vec<u8>>,
    is_root: bool,
    /// What could not be made.
    pub lost: Lost,
}

fn os(e: rustix::io::Errno) -> String {
    reason(&std::io::Error::from(e))
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&b'/')
}

impl Tree {
    /// In an empty directory.
    pub fn new(dir: &Path) -> Result<Tree> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(Tree {
            root: rustix::fs::openat(CWD, dir, flags, Mode::empty()).map_err(os)?,
            dirs: BTreeMap::from([(
                Vec::new(),
                (
                    0o755,
                    Timespec {
                        tv_sec: 0,
                        tv_nsec: 0,
                    },
                ),
            )]),
            own: BTreeSet::new(),
            is_root: rustix::process::geteuid().is_root(),
            lost: Lost::default(),
        })
    }

    /// The directory that these components mean, as a process in the root would find it.
    fn dir(&self, parts: &[&[u8]]) -> std::result::Result<OwnedFd, rustix::io::Errno> {
        let path = if parts.is_empty() {
            b".".to_vec()
        } else {
            join(parts)
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(
            &self.root,
            OsStr::from_bytes(&path),
            flags,
            Mode::empty(),
            resolve,
        )
    }

    /// The same; missing ones are made.
    fn make_dir(&mut self, parts: &[&[u8]]) -> Result<OwnedFd> {
        match self.dir(parts) {
            Err(rustix::io::Errno::NOENT) if !parts.is_empty() => {}
            r => return r.map_err(|e| format!("{}: {}", String::from_utf8_lossy(&join(parts)), os(e))),
        }
        let (last, above) = parts.split_last().ok_or("no directory")?;
        let above_fd = self.make_dir(above)?;
        deep_enough(&above_fd, last)?;
        match rustix::fs::mkdirat(&above_fd, OsStr::from_bytes(last), Mode::from_raw_mode(0o700)) {
            Ok(()) => {
                self.dirs.insert(
                    join(parts),
                    (
                        0o755,
                        Timespec {
                            tv_sec: 0,
                            tv_nsec: 0,
                        },
                    ),
                );
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(os(e)),
        }
        // A dangling symlink is there: it stays, and nothing can be below it.
        self.dir(parts)
            .map_err(|e| format!("{}: {}", String::from_utf8_lossy(&join(parts)), os(e)))
    }

    /// A root that is there already, by hard links; it is on this disk.
    fn link_all(&mut self, from: &Path, rel: &Path) -> Result<()> {
        let io = |e: std::io::Error| reason(&e);
        let source = from.join(rel);
        let meta = source.symlink_metadata().map_err(io)?;
        let time = Timespec {
            tv_sec: meta.mtime(),
            tv_nsec: meta.mtime_nsec(),
        };
        self.dirs
            .insert(rel.as_os_str().as_bytes().to_vec(), (meta.mode() & 0o7777, time));
        let here = if rel.as_os_str().is_empty() {
            Path::new(".")
        } else {
            rel
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = rustix::fs::openat(&self.root, here, flags, Mode::empty()).map_err(os)?;
        if self.is_root {
            rustix::fs::fchown(
                &dir,
                Some(rustix::fs::Uid::from_raw(meta.uid())),
                Some(rustix::fs::Gid::from_raw(meta.gid())),
            )
            .map_err(os)?;
        }
        let source_dir = File::open(&source).map_err(io)?;
        let all = attributes_of(&source_dir).map_err(os)?;
        self.attributes(&dir, &all)?;
        for item in std::fs::read_dir(&source).map_err(io)? {
            let item = item.map_err(io)?;
            let name = item.file_name();
            if item.file_type().map_err(io)?.is_dir() {
                rustix::fs::mkdirat(&dir, &name, Mode::from_raw_mode(0o700)).map_err(os)?;
                self.link_all(from, &rel.join(&name))?;
            } else {
                rustix::fs::linkat(&source_dir, &name, &dir, &name, AtFlags::empty()).map_err(os)?;
            }
        }
        Ok(())
    }

    /// Puts a layer over what is there.
    pub fn layer(
        &mut self,
        src: impl Read,
        size: u64,
        compression: Compression,
        diff: &Digest,
    ) -> Result<()> {
        let io = |e: std::io::Error| reason(&e);
        let limit = size.saturating_mul(BOMB_RATIO).max(BOMB_FLOOR);
        let stream = decompress(src, compression).map_err(io)?;
        let mut stream = Hashed::new(Bounded {
            inner: stream,
            left: limit,
        });
        self.own.clear();
        self.entries(&mut stream, limit)
            .map_err(|why| crate::plain(&why))?;
        // What follows the end of the archive belongs to the digest.
        std::io::copy(&mut stream, &mut std::io::sink()).map_err(io)?;
        let found = std::mem::take(&mut stream.hasher).finish();
        if found != *diff {
            return Err(format!("holds {found}, not {diff} as the configuration says"));
        }
        Ok(())
    }

    fn entries(&mut self, stream: impl Read, limit: u64) -> Result<()> {
        let mut budget = limit;
        let mut entries = Entries::new(stream);
        let mut count = 0;
        while let Some(entry) = entries.next()? {
            count += 1;
            if count > MAX_ENTRIES {
                return Err(format!("more than {MAX_ENTRIES} entries"));
            }
            self.entry(&mut entries, &entry, &mut budget)?;
        }
        Ok(())
    }

    fn entry(&mut self, entries: &mut Entries<impl Read>, entry: &Entry, budget: &mut u64) -> Result<()> {
        let shown = String::from_utf8_lossy(&entry.path).into_owned();
        self.one(entries, entry, budget)
            .map_err(|why| match why.starts_with(&shown) {
                true => why,
                false => format!("{shown}: {why}"),
            })
    }

    fn one(&mut self, entries: &mut Entries<impl Read>, entry: &Entry, budget: &mut u64) -> Result<()> {
        use tar::EntryType as T;
        let io = |e: std::io::Error| reason(&e);
        let parts = components(&entry.path)?;
        let kind = entry.header.entry_type();
        let mode = entry.header.mode().map_err(io)? & 0o7777;
        let mut attributes: Vec<(String, Vec<u8>)> = Vec::new();
        let mut time = Timespec {
            tv_sec: entry.header.mtime().map_err(io)?.try_into().unwrap_or(0),
            tv_nsec: 0,
        };
        let (mut uid, mut gid) = (entry.header.uid().map_err(io)?, entry.header.gid().map_err(io)?);
        for (key, value) in &entry.records {
            let number = || {
                std::str::from_utf8(value)
                    .ok()
                    .and_then(|v| v.parse::<u64>().ok())
            };
            match key.as_str() {
                "mtime" => time = pax_time(value).ok_or("mtime: not a time")?,
                "uid" => uid = number().ok_or("uid: not a number")?,
                "gid" => gid = number().ok_or("gid: not a number")?,
                _ => {
                    if let Some(a) = key.strip_prefix("SCHILY.xattr.") {
                        attributes.push((a.to_string(), value.clone()));
                    }
                }
            }
        }
        let owner = (
            u32::try_from(uid).unwrap_or(u32::MAX - 1),
            u32::try_from(gid).unwrap_or(u32::MAX - 1),
        );
        let Some((last, above)) = parts.split_last() else {
            // The root itself.
            if kind.is_dir() {
                self.dirs.insert(Vec::new(), (mode, time));
            }
            return Ok(());
        };
        let dir = self.make_dir(above)?;
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            return self.whiteout(&dir, above, last, hidden);
        }
        let full = join(&parts);
        let leaf = OsStr::from_bytes(last);
        let old = rustix::fs::statat(&dir, leaf, AtFlags::SYMLINK_NOFOLLOW).ok();
        let old_dir = old.is_some_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_dir());
        if old.is_some() && !(old_dir && kind.is_dir()) {
            self.remove(&dir, last, &full)?;
        }
        match kind {
            T::Directory => {
                if !old_dir {
                    deep_enough(&dir, last)?;
                    rustix::fs::mkdirat(&dir, leaf, Mode::from_raw_mode(0o700)).map_err(os)?;
                }
                self.dirs.insert(full.clone(), (mode, time));
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let fd = rustix::fs::openat(&dir, leaf, flags, Mode::empty()).map_err(os)?;
                self.own(&dir, last, owner)?;
                self.attributes(&fd, &attributes)?;
            }
            T::Regular | T::Continuous | T::GNUSparse => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let fd = rustix::fs::openat(&dir, leaf, flags, Mode::from_raw_mode(0o600)).map_err(os)?;
                let expected = entry.size;
                let mut file = File::from(fd);
                let n = copy(&mut entries.contents(entry), &mut file, budget)?;
                if n != expected {
                    return Err(format!(
                        "ends after {n} of {expected} bytes: the layer is cut short"
                    ));
                }
                // A new owner takes capabilities and set-id bits from a file: those come after.
                let owned = self.own(&dir, last, owner)?;
                self.attributes(&file, &attributes)?;
                // A program of another user's must not become one of ours with its rights.
                let mode = if owned { mode } else { mode & !0o6000 | 0o400 };
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(os)?;
                set_time(&dir, last, time)?;
            }
            T::Symlink => {
                let target = entry.link.as_deref().ok_or("a symlink to nothing")?;
                if target.is_empty() || target.len() > 4095 || target.contains(&0) {
                    return Err("not the target of a symlink".to_string());
                }
                rustix::fs::symlinkat(OsStr::from_bytes(target), &dir, leaf).map_err(os)?;
                self.own(&dir, last, owner)?;
                // Nothing here that is opened could take them.
                self.lost.attributes += attributes.len() as u64;
                set_time(&dir, last, time)?;
            }
            T::Link => {
                let target = entry.link.as_deref().ok_or("a hard link to nothing")?;
                let to = components(target)?;
                let (to_last, to_above) = to.split_last().ok_or("a hard link to the root")?;
                let from = self.dir(to_above).map_err(os)?;
                let what = rustix::fs::statat(&from, OsStr::from_bytes(to_last), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|e| {
                    format!("a hard link to {}: {}", String::from_utf8_lossy(target), os(e))
                })?;
                if rustix::fs::FileType::from_raw_mode(what.st_mode).is_dir() {
                    return Err("a hard link to a directory".to_string());
                }
                rustix::fs::linkat(&from, OsStr::from_bytes(to_last), &dir, leaf, AtFlags::empty())
                    .map_err(os)?;
            }
            T::Fifo => {
                let m = Mode::from_raw_mode(mode);
                rustix::fs::mknodat(&dir, leaf, rustix::fs::FileType::Fifo, m, 0).map_err(os)?;
                self.own(&dir, last, owner)?;
                self.lost.attributes += attributes.len() as u64;
            }
            // /dev is the image's own; the node stays in the layer.
            T::Char | T::Block => self.lost.devices += 1,
            other => {
                return Err(format!(
                    "an entry of the unknown kind {:?}",
                    other.as_byte() as char
                ));
            }
        }
        self.own.insert(full);
        Ok(())
    }

    fn whiteout(&mut self, dir: &OwnedFd, above: &[&[u8]], last: &[u8], hidden: &[u8]) -> Result<()> {
        let at = |name: &[u8]| {
            let mut parts = above.to_vec();
            parts.push(name);
            join(&parts)
        };
        if last == OPAQUE {
            return self.hide(dir, above);
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err("a whiteout of nothing".to_string());
        }
        let full = at(hidden);
        if self.own.contains(&full) {
            return Ok(());
        }
        match rustix::fs::statat(dir, OsStr::from_bytes(hidden), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => self.remove(dir, hidden, &full),
            Err(_) => Ok(()),
        }
    }

    /// Takes what the layers below have in a directory, and in those in it that the current layer has made or filled before.
    fn hide(&mut self, dir: &OwnedFd, parts: &[&[u8]]) -> Result<()> {
        let names: Vec<Vec<u8>> = rustix::fs::Dir::read_from(dir)
            .map_err(os)?
            .filter_map(|e| e.ok().map(|e| e.file_name().to_bytes().to_vec()))
            .filter(|n| n != b"." && n != b"..")
            .collect();
        for name in names {
            let mut parts = parts.to_vec();
            parts.push(&name);
            let full = join(&parts);
            let filled = self.has_own_below(&full);
            if !filled && !self.own.contains(&full) {
                self.remove(dir, &name, &full)?;
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match rustix::fs::openat(dir, OsStr::from_bytes(&name), flags, Mode::empty()) {
                Ok(below) => self.hide(&below, &parts)?,
                // A file of this layer, or a link.
                Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {}
                Err(e) => return Err(os(e)),
            }
        }
        Ok(())
    }

    fn has_own_below(&self, full: &[u8]) -> bool {
        let below = [full, b"/"].concat();
        self.own
            .range(below.clone()..)
            .next()
            .is_some_and(|n| n.starts_with(&below))
    }

    fn remove(&mut self, dir: &OwnedFd, name: &[u8], full: &[u8]) -> Result<()> {
        remove_at(dir, OsStr::from_bytes(name)).map_err(|e| reason(&e))?;
        self.dirs.remove(full);
        self.own.remove(full);
        let below = [full, b"/"].concat();
        while let Some(k) = self
            .dirs
            .range(below.clone()..)
            .next()
            .map(|(k, _)| k.clone())
            .filter(|k| k.starts_with(&below))
        {
            self.dirs.remove(&k);
        }
        while let Some(k) = self
            .own
            .range(below.clone()..)
            .next()
            .cloned()
            .filter(|k| k.starts_with(&below))
        {
            self.own.remove(&k);
        }
        Ok(())
    }

    /// Gives what was just made to its owner: true if it has it now.
    fn own(&mut self, dir: &OwnedFd, name: &[u8], (uid, gid): (u32, u32)) -> Result<bool> {
        use rustix::process::{getegid, geteuid};
        if self.is_root {
            let (u, g) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            let leaf = OsStr::from_bytes(name);
            match rustix::fs::chownat(dir, leaf, Some(u), Some(g), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) => return Ok(true),
                // Root of a user namespace without that id.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
                Err(e) => return Err(os(e)),
            }
        } else if uid == geteuid().as_raw() && gid == getegid().as_raw() {
            return Ok(true);
        }
        self.lost.owners += 1;
        Ok(false)
    }

    fn attributes(&mut self, fd: &impl std::os::fd::AsFd, all: &[(String, Vec<u8>)]) -> Result<()> {
        use rustix::io::Errno;
        for (name, value) in all {
            match rustix::fs::fsetxattr(fd, name.as_str(), value, rustix::fs::XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS) => self.lost.attributes += 1,
                Err(e) => return Err(format!("attribute {name}: {}", os(e))),
            }
        }
        Ok(())
    }

    /// Directories get their modes and times, the deepest first.
    pub fn finish(&mut self) -> Result<()> {
        for (path, (mode, time)) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let parts = components(&path)?;
            let Ok(dir) = self.dir(&parts) else { continue };
            let mode = if self.is_root { mode } else { mode | 0o500 };
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode)).map_err(os)?;
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            rustix::fs::futimens(&dir, &times).map_err(os)?;
        }
        Ok(())
    }
}

/// A directory whose path on this host would be too long is refused. Names through symlinks make trees of any depth, which no
/// program could name, and no tool could remove.
fn deep_enough(dir: &OwnedFd, name: &[u8]) -> Result<()> {
    const PATH_MAX: usize = 4096;
    // The root's last place has a longer path than this one.
    const MOVE: usize = 128;
    let path = rustix::fs::readlinkat(CWD, format!("/proc/self/fd/{}", dir.as_raw_fd()), Vec::new());
    match path {
        Ok(p) if p.as_bytes().len() + 1 + name.len() + MOVE < PATH_MAX => Ok(()),
        Ok(_) | Err(rustix::io::Errno::NAMETOOLONG) => {
            Err("nested too deep: its path would be longer than this host allows".to_string())
        }
        Err(e) => Err(os(e)),
    }
}

/// Extended attributes of a directory that an image has given it.
fn attributes_of(dir: &File) -> std::result::Result<Vec<(String, Vec<u8>)>, rustix::io::Errno> {
    use rustix::io::Errno;
    // Linux's limits of a list and of a value.
    let mut buf = vec![0; 64 << 10];
    let n = match rustix::fs::flistxattr(dir, &mut buf[..]) {
        Ok(n) => n,
        Err(Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(e),
    };
    let names: Vec<String> = buf[..n]
        .split(|b| *b == 0)
        .filter_map(|name| std::str::from_utf8(name).ok())
        // SELinux's label is of the place, not of the image.
        .filter(|name| !name.is_empty() && *name != "security.selinux")
        .map(str::to_string)
        .collect();
    let mut out = Vec::new();
    for name in names {
        let n = rustix::fs::fgetxattr(dir, name.as_str(), &mut buf[..])?;
        out.push((name, buf[..n].to_vec()));
    }
    Ok(out)
}

fn set_time(dir: &OwnedFd, name: &[u8], time: Timespec) -> Result<()> {
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(dir, OsStr::from_bytes(name), &times, AtFlags::SYMLINK_NOFOLLOW).map_err(os)
}

/// `SECONDS[.FRACTION]`
fn pax_time(text: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let tv_sec: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let tv_nsec: i64 = digits.parse().ok()?;
    // A negative time counts its fraction the other way.
    match whole.starts_with('-') && tv_nsec > 0 {
        true => Some(Timespec {
            tv_sec: tv_sec - 1,
            tv_nsec: 1_000_000_000 - tv_nsec,
        }),
        false => Some(Timespec { tv_sec, tv_nsec }),
    }
}

/// Contents; zeros become holes.
fn copy(src: &mut impl Read, file: &mut File, budget: &mut u64) -> Result<u64> {
    use std::io::{Seek, SeekFrom};
    let mut buf = vec![0; 1 << 16];
    let (mut n, mut at_hole) = (0, false);
    loop {
        let mut fill = 0;
        while fill < buf.len() {
            match src.read(&mut buf[fill..]) {
                Ok(0) => break,
                Ok(k) => fill += k,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(reason(&e)),
            }
        }
        if fill == 0 {
            break;
        }
        *budget = budget.checked_sub(fill as u64).ok_or_else(too_much)?;
        n += fill as u64;
        at_hole = fill == buf.len() && buf.iter().all(|b| *b == 0);
        let done = match at_hole {
            true => file.seek(SeekFrom::Current(fill as i64)).map(drop),
            false => file.write_all(&buf[..fill]),
        };
        done.map_err(|e| reason(&e))?;
    }
    if at_hole {
        file.set_len(n).map_err(|e| reason(&e))?;
    }
    Ok(n)
}

fn open_in(root: &Path, path: &[u8], flags: OFlags) -> std::result::Result<OwnedFd, rustix::io::Errno> {
    let dir = rustix::fs::openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(
        &dir,
        OsStr::from_bytes(path),
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )
}

/// A regular file is at this path, for a process in the root.
pub fn is_file_in(root: &Path, path: &[u8]) -> bool {
    let found = open_in(root, path, OFlags::PATH).and_then(rustix::fs::fstat);
    found.is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_file())
}

/// A user of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub uid: u32,
    /// Its group's.
    pub gid: u32,
    /// Its home directory.
    pub home: String,
}

/// What OCI's `User` means in a root: nothing (root), `UID`, `NAME`, and with `:GID` or `:GROUP`.
pub fn user_in(root: &Path, text: &str) -> Result<User> {
    const MOST: u64 = 4 << 20;
    let table = |path: &str| {
        let mut text = Vec::new();
        if let Ok(fd) = open_in(root, path.as_bytes(), OFlags::RDONLY | OFlags::NONBLOCK) {
            let _ = File::from(fd).take(MOST).read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    let (user, group) = match text.split_once(':') {
        Some((u, g)) => (u, Some(g)),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let passwd = table("/etc/passwd");
    let fields = passwd
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .filter(|f| f.len() >= 7);
    let row = fields
        .clone()
        .find(|f| f[0] == user || (user.parse::<u32>().is_ok() && f[2] == user));
    let number = |t: &str| t.parse::<u32>().ok().filter(|n| *n != u32::MAX);
    let uid = match &row {
        Some(f) => number(f[2]),
        None => number(user).or((user == "root").then_some(0)),
    };
    let uid = uid.ok_or_else(|| format!("the user {user:?} is not in the image's /etc/passwd"))?;
    let gid = match group {
        None => row.as_ref().map_or(Some(0), |f| number(f[3])),
        Some(g) => {
            let groups = table("/etc/group");
            let by_name = groups
                .lines()
                .map(|l| l.split(':').collect::<Vec<_>>())
                .find(|f| f.len() >= 3 && f[0] == g);
            by_name.map_or_else(|| number(g), |f| number(f[2]))
        }
    };
    let gid =
        gid.ok_or_else(|| format!("the group of the user {text:?} is not in the image's /etc/group"))?;
    let home = row.map_or(if uid == 0 { "/root" } else { "/" }, |f| f[5]);
    Ok(User {
        uid,
        gid,
        home: if home.is_empty() { "/" } else { home }.to_string(),
    })
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
