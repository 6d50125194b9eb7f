//! The contents of volumes go into a snapshot: what is in the directories, while the image stands.
//!
//! Much of it is copied before, while the image runs ([`Copied::ahead`]). What was copied so is used if nothing about the file has changed
//! since, its time of change was old when it was read, so that a later change has another one.

use super::{Policy, Volume, map_of, shown, title};
use crate::cli::{reason, state};
use crate::platform::moved::{Map, below};
use crate::snap::Sink;
use crate::snap::file::ToFile;
use crate::snap::state::HostState;
use crate::snap::travel::{Fate, Note};
use ftl_core::layout::PAGE;
use ftl_core::snap::tree::{Name, Node, NodeKind, Top, Tree};
use ftl_core::snap::{MAX_PAGE, Object};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Most pages with contents: an index has 32 bytes for each (`ftl_core::snap` reads 1 GiB of it), and the image's own are in it too.
pub const MOST_PAGES: u64 = 64 << 30 >> 12;
/// Most bytes of names and attributes: manifests of more than 256 MiB are not read.
const MOST_TREE: usize = 128 << 20;
/// A file that others change while it is read is read so often.
const TRIES: u32 = 3;
/// Why one is not held that changed each time.
const CHANGES: &str = "somebody outside the image changes it: it cannot be held as it was at one moment";
const LOOK: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// No name leads out of a directory, nor into what is mounted in it.
const WITHIN: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);
/// Times of change are no finer than a tick of the host's kernel; this is much more.
const OLD: Duration = Duration::from_millis(500);

/// Why something is not in a snapshot that should be.
struct Problem {
    fate: Fate,
    kind: &'static str,
    path: PathBuf,
    why: String,
}

impl Problem {
    fn note(self) -> Note {
        Note {
            fate: self.fate,
            kind: self.kind,
            name: self.path.display().to_string(),
            why: self.why,
        }
    }
}

/// What a file was when it was read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    size: i64,
    mtime: (i64, u64),
    ctime: (i64, u64),
}

fn version(st: &Stat) -> Version {
    Version {
        size: st.st_size,
        mtime: (st.st_mtime, st.st_mtime_nsec),
        ctime: (st.st_ctime, st.st_ctime_nsec),
    }
}

/// A file whose contents are in the snapshot's file already.
struct Part {
    version: Version,
    first: u64,
    /// With its holes.
    pages: u64,
    /// Without them.
    filled: u64,
    /// A later change has another time.
    settled: bool,
    /// It was met again.
    used: bool,
}

/// What was copied, by the host's device and inode number.
#[derive(Default)]
pub struct Copied {
    parts: BTreeMap<(u64, u64), Part>,
    /// The next free page.
    next: u64,
}

impl Copied {
    /// What was copied of a file counts no more. Returns its pages, which nothing is in then: the first, and how many.
    fn forget(&mut self, sink: Option<&mut dyn Sink>, key: (u64, u64)) -> Result<Option<(u64, u64)>, String> {
        let old = self.parts.remove(&key).filter(|p| p.pages > 0);
        if let (Some(old), Some(sink)) = (&old, sink) {
            sink.gone(Object::Volumes, old.first, old.pages)?;
        }
        Ok(old.map(|p| (p.first, p.pages)))
    }
}

/// A walk through all held directories.
struct Walk<'a> {
    /// Contents go there; none: they are only counted.
    sink: Option<&'a mut dyn Sink>,
    copied: &'a mut Copied,
    /// What the image calls its files.
    ids: &'a Map,
    tree: Tree,
    /// All that is no directory, by the host's device and inode number: it may have another name, or be reached by another way.
    linked: BTreeMap<(u64, u64), (u32, Version)>,
    /// Directories and files that are ftvm's own.
    own: BTreeSet<(u64, u64)>,
    held: &'a [&'a Volume],
    /// Directories of volumes that were not met so far.
    unmet: BTreeSet<&'a [u8]>,
    /// Pages with contents so far.
    pages: u64,
    problems: Vec<Problem>,
    buf: Vec<u8>,
}

/// Extended attributes: name, value.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A directory that is walked for itself: where it is, and where it was at the start.
type Begin<'a> = (&'a [u8], &'a [u8]);

/// What a name in a directory turned out to be.
enum Met {
    /// Something that is held, or said of, by now. A directory's node: it is still to be looked into.
    Is(Option<u32>),
    /// Nothing: somebody outside has removed it.
    Gone,
    /// Another thing at the second look than at the first.
    Other,
}

fn id(st: &Stat) -> (u64, u64) {
    (st.st_dev, st.st_ino)
}

fn ns(s: i64, ns: u64) -> i128 {
    i128::from(s) * 1_000_000_000 + i128::from(ns)
}

/// Directories that hold what ftvm keeps of runs and snapshots: they change with every snapshot, and hold volumes of other runs.
fn own_places() -> BTreeSet<(u64, u64)> {
    let stored = crate::store::default_dir().ok();
    let stored = stored.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let all = state::places().into_iter().chain(stored);
    let ids = all.filter_map(|dir| rustix::fs::stat(&dir).ok());
    ids.map(|st| id(&st)).collect()
}

/// A walk of the directory `top` gets to what is at `rest` in it: nothing is mounted between, and nothing on the way is ftvm's own.
fn reached(top: &OwnedFd, rest: &[u8], own: &BTreeSet<(u64, u64)>) -> bool {
    const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    let mut ends = (1..=rest.len()).filter(|n| rest.get(*n).is_none_or(|b| *b == b'/'));
    ends.all(|n| {
        let found = rustix::fs::openat2(top, &rest[..n], PLACE, Mode::empty(), WITHIN);
        let st = found.and_then(|fd| rustix::fs::fstat(&fd));
        st.is_ok_and(|st| !own.contains(&id(&st)))
    })
}

/// Directories that are held, without those that a walk of another one gets to.
fn tops<'a>(held: &[&'a Volume], own: &BTreeSet<(u64, u64)>) -> Result<Vec<Begin<'a>>, String> {
    let mut all: BTreeMap<&[u8], &Volume> = BTreeMap::new();
    all.extend(held.iter().map(|v| (v.now.as_slice(), *v)));
    let mut out: Vec<(&[u8], &Volume, OwnedFd)> = Vec::new();
    for (path, v) in all {
        let found = out.iter().any(|(o, _, fd)| {
            let rest = below(path, o).and_then(|rest| rest.strip_prefix(b"/"));
            rest.is_some_and(|rest| reached(fd, rest, own))
        });
        if !found {
            let fd = rustix::fs::open(path, LOOK, Mode::empty())
                .map_err(|e| format!("volume {}: {}", title(v), reason(&e.into())))?;
            out.push((path, v, fd));
        }
    }
    Ok(out
        .into_iter()
        .map(|(path, v, _)| (path, v.host.as_slice()))
        .collect())
}

/// The image reaches what is mounted on the host at `at` by way of a held volume around it, and there is no volume at that place of the
/// image: a restored one, which has that volume as a directory, would find nothing there. Returns the place, and the volume around it.
fn uncovered<'a>(held: &[&'a Volume], at: &[u8]) -> Option<(Vec<u8>, &'a Volume)> {
    held.iter().enumerate().find_map(|(n, v)| {
        let rest = below(at, &v.now).filter(|rest| !rest.is_empty())?;
        let guest = [v.guest.strip_suffix(b"/").unwrap_or(&v.guest), rest].concat();
        // They are mounted in this order, but for the root.
        let later = &held[if v.guest == b"/" { 0 } else { n + 1 }..];
        let covered = later.iter().any(|w| w.now == at && w.guest == guest);
        (!covered).then_some((guest, *v))
    })
}

/// The directory at a volume's path is the one that the image has.
fn check_places(state: &HostState, held: &[&Volume]) -> Result<(), String> {
    for v in held.iter().filter(|v| v.guest != b"/") {
        if !state.files.iter().any(|r| r.path == v.now) {
            return Err(format!(
                "volume {}: the directory was moved or replaced since the image has it: its contents cannot be held",
                title(v)
            ));
        }
    }
    Ok(())
}

impl<'a> Walk<'a> {
    /// `own`: directories and files that are not held.
    fn new(
        sink: Option<&'a mut dyn Sink>,
        own: BTreeSet<(u64, u64)>,
        copied: &'a mut Copied,
        ids: &'a Map,
        held: &'a [&'a Volume],
    ) -> Walk<'a> {
        for part in copied.parts.values_mut() {
            part.used = false;
        }
        Walk {
            sink,
            copied,
            ids,
            tree: Tree::default(),
            linked: BTreeMap::new(),
            own,
            held,
            unmet: held.iter().map(|v| v.now.as_slice()).collect(),
            pages: 0,
            problems: Vec::new(),
            buf: vec![0; CHUNK],
        }
    }

    fn all(&mut self, tops: &[Begin<'_>]) -> Result<(), String> {
        for top in tops {
            self.top(*top)?;
        }
        // Somebody outside has moved it, or mounted something, since we looked for the tops.
        for at in std::mem::take(&mut self.unmet) {
            let path = PathBuf::from(OsStr::from_bytes(at));
            self.problem(Fate::Refused, "volume", path, CHANGES.to_string());
        }
        Ok(())
    }

    fn top(&mut self, (at, host): Begin<'_>) -> Result<(), String> {
        let path = PathBuf::from(OsStr::from_bytes(at));
        let fd = rustix::fs::open(&path, LOOK, Mode::empty())
            .map_err(|e| format!("volume {}: {}", path.display(), reason(&e.into())))?;
        let st = rustix::fs::fstat(&fd).map_err(|e| failed(&path, e))?;
        let xattrs = self.xattrs(&fd, c".", &path)?.unwrap_or_default();
        let root = self.node(&path, &st, NodeKind::Directory, xattrs)?;
        let (at, host) = (at.to_vec(), host.to_vec());
        self.tree.tops.push(Top { at, host, root });
        self.directory(&fd, &path, root)
    }

    /// Everything below a directory.
    fn directory(&mut self, top: &OwnedFd, path: &Path, root: u32) -> Result<(), String> {
        let mut left: Vec<(PathBuf, u32)> = vec![(PathBuf::new(), root)];
        while let Some((rel, node)) = left.pop() {
            let (here, name) = match rel.as_os_str().is_empty() {
                true => (path.to_path_buf(), Path::new(".")),
                false => (path.join(&rel), rel.as_path()),
            };
            let open = |flags| rustix::fs::openat2(top, name, flags, Mode::empty(), WITHIN);
            // Only its owner may read it without a trace.
            let opened = match open(LOOK | OFlags::NOATIME) {
                Err(rustix::io::Errno::PERM) => open(LOOK),
                opened => opened,
            };
            let dir = match opened {
                Ok(d) => d,
                Err(rustix::io::Errno::XDEV) => {
                    self.mounted(here);
                    continue;
                }
                Err(e) => {
                    self.unreadable(here, e);
                    continue;
                }
            };
            self.unmet.remove(here.as_os_str().as_bytes());
            let mut names: Vec<CString> = Vec::new();
            let list = rustix::fs::Dir::read_from(&dir).map_err(|e| failed(&here, e))?;
            for item in list {
                let item = item.map_err(|e| failed(&here, e))?;
                if item.file_name() != c"." && item.file_name() != c".." {
                    names.push(item.file_name().to_owned());
                }
            }
            // One content has one encoding. A directory that somebody changes meanwhile may list a name twice.
            names.sort_unstable();
            names.dedup();
            for name in names {
                if let Some(found) = self.entry(&dir, &here, &name, node)? {
                    left.push((rel.join(OsStr::from_bytes(name.as_bytes())), found));
                }
            }
        }
        Ok(())
    }

    /// What is mounted there is held for itself, or not at all.
    fn mounted(&mut self, here: PathBuf) {
        let at = here.as_os_str().as_bytes();
        if let Some((guest, around)) = uncovered(self.held, at) {
            let (guest, around) = (shown(&guest), shown(&around.guest));
            let why = format!(
                "another file system is mounted there, which is not held with the one around it, and a restored image would find nothing \
                 at {guest}: make it a volume of its own there (-v {}:{guest}), or write --volumes {around}=share",
                here.display()
            );
            self.problem(Fate::Refused, "mount", here, why);
        }
    }

    /// One name. A directory's node is returned: it is still to be looked into.
    fn entry(&mut self, dir: &OwnedFd, here: &Path, name: &CStr, parent: u32) -> Result<Option<u32>, String> {
        let path = here.join(OsStr::from_bytes(name.to_bytes()));
        for _ in 0..TRIES {
            match self.look(dir, &path, name, parent)? {
                Met::Is(node) => return Ok(node),
                Met::Gone => return Ok(None),
                Met::Other => {}
            }
        }
        self.problem(Fate::Refused, "file", path, CHANGES.to_string());
        Ok(None)
    }

    fn look(&mut self, dir: &OwnedFd, path: &Path, name: &CStr, parent: u32) -> Result<Met, String> {
        use rustix::io::Errno;
        let st = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(st) => st,
            Err(Errno::NOENT) => return Ok(Met::Gone),
            Err(e) => return Err(failed(path, e)),
        };
        if self.own.contains(&id(&st)) {
            let why = "ftvm's own files are not held".to_string();
            self.problem(Fate::Lost, "directory", path.to_path_buf(), why);
            return Ok(Met::Is(None));
        }
        let kind = FileType::from_raw_mode(st.st_mode);
        if !kind.is_dir()
            && let Some((node, was)) = self.linked.get(&id(&st))
        {
            // Another file may have the number of one that was removed.
            if self.sink.is_some() && *was != version(&st) {
                return Ok(Met::Other);
            }
            let node = *node;
            self.name(parent, name, node);
            return Ok(Met::Is(None));
        }
        let what = match kind {
            FileType::Directory => NodeKind::Directory,
            FileType::RegularFile => match self.file(dir, name, path, id(&st))? {
                Ok(kind) => kind,
                Err(met) => return Ok(met),
            },
            FileType::Symlink => match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(to) => NodeKind::Symlink(to.into_bytes()),
                Err(Errno::NOENT) => return Ok(Met::Gone),
                // It is none any more.
                Err(Errno::INVAL) => return Ok(Met::Other),
                Err(e) => return Err(failed(path, e)),
            },
            FileType::Fifo => NodeKind::Fifo,
            FileType::Socket => NodeKind::Socket,
            _ => {
                let why = "device nodes are not held".to_string();
                self.problem(Fate::Lost, "device", path.to_path_buf(), why);
                return Ok(Met::Is(None));
            }
        };
        let Some(xattrs) = self.xattrs(dir, name, path)? else {
            // Nothing in the tree has its contents.
            if let Some(part) = self.copied.parts.get_mut(&id(&st)) {
                part.used = false;
            }
            return Ok(Met::Gone);
        };
        let dirs = matches!(what, NodeKind::Directory);
        let node = self.node(path, &st, what, xattrs)?;
        if !dirs {
            self.linked.insert(id(&st), (node, version(&st)));
        }
        self.name(parent, name, node);
        Ok(Met::Is(dirs.then_some(node)))
    }

    fn problem(&mut self, fate: Fate, kind: &'static str, path: PathBuf, why: String) {
        self.problems.push(Problem {
            fate,
            kind,
            path,
            why,
        });
    }

    fn unreadable(&mut self, path: PathBuf, e: rustix::io::Errno) {
        let why = match e {
            rustix::io::Errno::NAMETOOLONG => {
                "its path in the volume has 4096 bytes or more: it cannot be held".to_string()
            }
            // A directory, which may be elsewhere with all that is in it.
            rustix::io::Errno::NOENT => CHANGES.to_string(),
            e => format!("it cannot be read ({}): it cannot be held", reason(&e.into())),
        };
        self.problem(Fate::Refused, "file", path, why);
    }

    fn name(&mut self, parent: u32, name: &CStr, node: u32) {
        self.tree.names.push(Name {
            parent,
            name: name.to_bytes().to_vec(),
            node,
        });
    }

    fn node(&mut self, path: &Path, st: &Stat, kind: NodeKind, xattrs: Xattrs) -> Result<u32, String> {
        let n = u32::try_from(self.tree.nodes.len()).map_err(|_| "volumes: too many files".to_string())?;
        self.tree.nodes.push(Node {
            id: self.ids.id_at(path.as_os_str().as_bytes(), id(st)),
            kind,
            mode: st.st_mode & 0o7777,
            owner: (st.st_uid, st.st_gid),
            atime: ns(st.st_atime, st.st_atime_nsec),
            mtime: ns(st.st_mtime, st.st_mtime_nsec),
            xattrs,
        });
        Ok(n)
    }

    /// Extended attributes of a name in a directory. `None`: it is not there any more.
    fn xattrs(&self, dir: &OwnedFd, name: &CStr, path: &Path) -> Result<Option<Xattrs>, String> {
        use rustix::io::Errno;
        if self.sink.is_none() {
            return Ok(Some(Vec::new()));
        }
        // There is no call by directory descriptor before Linux 6.13.
        let mut by = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        by.extend_from_slice(name.to_bytes());
        let mut buf = vec![0; 65536];
        let names = match rustix::fs::llistxattr(by.as_slice(), buf.as_mut_slice()) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Some(Vec::new())),
            Ok(n) => buf[..n].to_vec(),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(failed(path, e)),
        };
        let mut out = Vec::new();
        for attr in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
            match rustix::fs::lgetxattr(by.as_slice(), attr, buf.as_mut_slice()) {
                Ok(n) => out.push((attr.to_vec(), buf[..n].to_vec())),
                Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {}
                Err(Errno::NOENT) => return Ok(None),
                Err(e) => return Err(failed(path, e)),
            }
        }
        out.sort_unstable();
        Ok(Some(out))
    }

    /// The contents of a regular file, which was `key` when it was looked at.
    fn file(
        &mut self,
        dir: &OwnedFd,
        name: &CStr,
        path: &Path,
        key: (u64, u64),
    ) -> Result<Result<NodeKind, Met>, String> {
        use rustix::io::Errno;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Only its owner may read a file without a trace.
        let open = |more| rustix::fs::openat2(dir, name, flags | more, Mode::empty(), WITHIN);
        let file = match open(OFlags::NOATIME).or_else(|_| open(OFlags::empty())) {
            Ok(f) => File::from(f),
            Err(Errno::NOENT) => return Ok(Err(Met::Gone)),
            // A symlink, or a socket.
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Err(Met::Other)),
            Err(Errno::XDEV) => {
                self.mounted(path.to_path_buf());
                return Ok(Err(Met::Is(None)));
            }
            Err(e) => {
                self.unreadable(path.to_path_buf(), e);
                return Ok(Err(Met::Is(None)));
            }
        };
        let begun_with = self.pages;
        for _ in 0..TRIES {
            // From before the reading, which may take long: a change in the same tick as the last one is not seen.
            let begun = SystemTime::now();
            let before = rustix::fs::fstat(&file).map_err(|e| failed(path, e))?;
            if id(&before) != key {
                return Ok(Err(Met::Other));
            }
            let len = before.st_size as u64;
            let now = version(&before);
            if let Some(part) = self.copied.parts.get_mut(&key)
                && part.settled
                && part.version == now
            {
                part.used = true;
                let (first, filled) = (part.first, part.filled);
                self.count(filled)?;
                return Ok(Ok(NodeKind::File { len, first }));
            }
            self.pages = begun_with;
            let pages = len.div_ceil(PAGE);
            let sink = self.sink.as_mut().map(|s| &mut **s as &mut dyn Sink);
            let first = match self.copied.forget(sink, key)? {
                Some((first, room)) if pages <= room => first,
                _ => {
                    let first = self.copied.next;
                    let end = first.checked_add(pages).filter(|end| *end <= MAX_PAGE);
                    let Some(end) = end else {
                        let why = format!(
                            "it has {len} bytes with its holes, and a snapshot numbers the pages of {} TiB of files: it cannot be held",
                            (MAX_PAGE * PAGE) >> 40
                        );
                        self.problem(Fate::Refused, "file", path.to_path_buf(), why);
                        return Ok(Err(Met::Is(None)));
                    };
                    self.copied.next = end;
                    first
                }
            };
            self.contents(&file, len, first, path)?;
            let settled = begun.duration_since(UNIX_EPOCH).is_ok_and(|t| {
                t > OLD && ns(before.st_ctime, before.st_ctime_nsec) < (t - OLD).as_nanos() as i128
            });
            let part = Part {
                version: now,
                first,
                pages,
                filled: self.pages - begun_with,
                settled,
                used: true,
            };
            self.copied.parts.insert(key, part);
            let after = rustix::fs::fstat(&file).map_err(|e| failed(path, e))?;
            if version(&after) == now || self.sink.is_none() {
                return Ok(Ok(NodeKind::File { len, first }));
            }
        }
        self.problem(Fate::Refused, "file", path.to_path_buf(), CHANGES.to_string());
        Ok(Err(Met::Is(None)))
    }

    /// So many pages with contents more.
    fn count(&mut self, pages: u64) -> Result<(), String> {
        self.pages += pages;
        match self.pages > MOST_PAGES {
            true => Err(format!(
                "volumes: more than {} GiB of contents, too much for a snapshot; leave some out with --volumes GUEST=share",
                (MOST_PAGES * PAGE) >> 30
            )),
            false => Ok(()),
        }
    }

    fn contents(&mut self, file: &File, len: u64, first: u64, path: &Path) -> Result<(), String> {
        use rustix::fs::{SeekFrom, seek};
        let mut at = 0;
        while at < len {
            // A hole is pages that are not there.
            let data = match seek(file, SeekFrom::Data(at)) {
                Ok(data) if data < len => data,
                Ok(_) | Err(rustix::io::Errno::NXIO) => break,
                Err(e) => return Err(failed(path, e)),
            };
            let hole = seek(file, SeekFrom::Hole(data)).map_err(|e| failed(path, e))?;
            at = at.max(data / PAGE * PAGE);
            let end = hole.next_multiple_of(PAGE).min(len);
            while at < end {
                let n = (end - at).min(CHUNK as u64) as usize;
                let whole = n.next_multiple_of(PAGE as usize);
                self.count(whole as u64 / PAGE)?;
                if let Some(sink) = &mut self.sink {
                    self.buf[n..whole].fill(0);
                    match file.read_exact_at(&mut self.buf[..n], at) {
                        Ok(()) => {}
                        // It was cut off meanwhile: its time of change tells.
                        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                        Err(e) => return Err(format!("{}: {}", path.display(), reason(&e))),
                    }
                    sink.pages(Object::Volumes, first + at / PAGE, &self.buf[..whole])?;
                }
                at += n as u64;
            }
        }
        Ok(())
    }
}

fn failed(path: &Path, e: rustix::io::Errno) -> String {
    format!("volume: {}: {}", path.display(), reason(&e.into()))
}

/// What is ftvm's own, and the file that is being written: it grows with what is held.
fn own_with(sink: &ToFile<'_>) -> BTreeSet<(u64, u64)> {
    let file = rustix::fs::fstat(sink.file()).ok().map(|st| id(&st));
    own_places().into_iter().chain(file).collect()
}

fn held<'a>(all: &[(&'a Volume, Policy)]) -> Vec<&'a Volume> {
    let held = all.iter().filter(|(_, p)| *p == Policy::Snapshot);
    held.map(|(v, _)| *v).collect()
}

impl Copied {
    /// Copies what is there while the image runs, so that less is left for the moment at which it stands. Trouble is left for then, too.
    pub fn ahead(
        &mut self,
        state: &HostState,
        all: &[(&Volume, Policy)],
        sink: &mut ToFile<'_>,
    ) -> Result<(), String> {
        let ids = Map::default();
        let held = held(all);
        check_places(state, &held)?;
        let own = own_with(sink);
        let tops = tops(&held, &own)?;
        Walk::new(Some(sink), own, self, &ids, &held).all(&tops)
    }

    /// Copies the rest while the image stands.
    pub fn hold(
        &mut self,
        state: &HostState,
        all: &[(&Volume, Policy)],
        sink: &mut ToFile<'_>,
    ) -> Result<Tree, String> {
        let ids = map_of(state)?;
        let held = held(all);
        check_places(state, &held)?;
        let own = own_with(sink);
        let tops = tops(&held, &own)?;
        let mut walk = Walk::new(Some(sink), own, self, &ids, &held);
        walk.all(&tops)?;
        let Walk { tree, problems, .. } = walk;
        let problems: Vec<Note> = problems.into_iter().map(Problem::note).collect();
        if let Some(why) = crate::snap::travel::refusal(&problems) {
            return Err(why);
        }
        // What was copied ahead and has gone meanwhile.
        let gone: Vec<(u64, u64)> = self
            .parts
            .iter()
            .filter(|(_, p)| !p.used)
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.forget(Some(sink), key)?;
        }
        let bytes = tree.encode();
        if bytes.len() > MOST_TREE {
            return Err(format!(
                "volumes: {} files, too many for a snapshot; leave some out with --volumes GUEST=share",
                tree.nodes.len()
            ));
        }
        // As whoever opens the snapshot will: what it would say then is said now.
        Tree::decode(&bytes).map_err(|why| format!("volumes: the snapshot could not be opened: {why}"))?;
        Ok(tree)
    }
}

/// What holding them would find, for a dry run: how much there is, and what stands against it.
pub fn survey(state: &HostState, all: &[(&Volume, Policy)]) -> Vec<Note> {
    let held = held(all);
    let mut out = Vec::new();
    let refused = |why: String| Note {
        fate: Fate::Refused,
        kind: "volume",
        name: String::new(),
        why,
    };
    let own = own_places();
    let ids = map_of(state);
    let tops = check_places(state, &held).and_then(|()| tops(&held, &own));
    let (ids, tops) = match ids.and_then(|ids| Ok((ids, tops?))) {
        Ok(found) => found,
        Err(why) => return vec![refused(why)],
    };
    let mut copied = Copied::default();
    let mut walk = Walk::new(None, own, &mut copied, &ids, &held);
    for (n, v) in held.iter().enumerate() {
        let note = |fate, kind, name, why| Note {
            fate,
            kind,
            name,
            why,
        };
        let top = tops.iter().find(|(at, _)| *at == v.now);
        // In that of another one: it was counted, or will be.
        let same = held[..n].iter().find(|w| w.now == v.now);
        let around = held
            .iter()
            .filter(|w| w.now != v.now && below(&v.now, &w.now).is_some());
        let around = same.or_else(|| around.max_by_key(|w| w.now.len()).filter(|_| top.is_none()));
        if let Some(around) = around {
            let why = format!("in the snapshot, with {}", shown(&around.guest));
            out.push(note(Fate::Held, "volume", title(v), why));
        } else if let Some(top) = top {
            let begun_with = walk.tree.nodes.len();
            if let Err(why) = walk.top(*top) {
                out.push(refused(why));
            }
            let new = &walk.tree.nodes[begun_with..];
            let why = format!(
                "{} files of {} bytes, in the snapshot: a restore gives the image a directory of its own",
                new.len().saturating_sub(1),
                new.iter().map(|n| n.kind.bytes()).sum::<u64>()
            );
            out.push(note(Fate::Held, "volume", title(v), why));
            let sockets = new.iter().filter(|n| n.kind == NodeKind::Socket).count();
            if sockets > 0 {
                let why = format!(
                    "{sockets} are held as names: nobody outside the image listens there after a restore"
                );
                out.push(note(Fate::Lost, "UNIX sockets", shown(&v.guest), why));
            }
            out.extend(walk.problems.drain(..).map(Problem::note));
        }
    }
    out
}

#[cfg(test)]
mod tests;
