//! The contents of volumes go into a snapshot: what is in the directories, while the image stands.
//!
//! Much of it is copied before, while the image runs ([`Copied::ahead`]). What was copied so is used if nothing about the file has changed
//! since, its time of change was old when it was read, so that a later change has another one.

use super::{Policy, Volume, shown, title};
use crate::cli::{reason, state};
use crate::platform::moved::{Map, below};
use crate::snap::Sink;
use crate::snap::file::ToFile;
use crate::snap::state::HostState;
use crate::snap::travel::{Fate, Note};
use ftl_core::layout::PAGE;
use ftl_core::snap::Object;
use ftl_core::snap::tree::{Name, Node, NodeKind, Top, Tree};
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
    pages: u64,
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
    /// Pages with contents so far.
    pages: u64,
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
    linked: BTreeMap<(u64, u64), u32>,
    /// Directories and files that are ftvm's own.
    own: BTreeSet<(u64, u64)>,
    /// Directories that are walked for themselves.
    tops: Vec<(Vec<u8>, Vec<u8>)>,
    problems: Vec<Problem>,
    buf: Vec<u8>,
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

/// Directories that are held, without those that are in another one on the same file system.
///
/// Each with where it is, and where it was at the start.
fn tops(held: &[&Volume]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
    let mut all: BTreeMap<&[u8], &Volume> = BTreeMap::new();
    all.extend(held.iter().map(|v| (v.now.as_slice(), *v)));
    let mut out: Vec<(&[u8], &Volume, OwnedFd)> = Vec::new();
    for (path, v) in all {
        // A walk gets there if nothing is mounted between.
        let reached = out.iter().any(|(o, _, fd)| {
            let rest = below(path, o).and_then(|rest| rest.strip_prefix(b"/"));
            rest.is_some_and(|rest| rustix::fs::openat2(fd, rest, LOOK, Mode::empty(), WITHIN).is_ok())
        });
        if !reached {
            let fd = rustix::fs::open(path, LOOK, Mode::empty())
                .map_err(|e| format!("volume {}: {}", title(v), reason(&e.into())))?;
            out.push((path, v, fd));
        }
    }
    Ok(out
        .into_iter()
        .map(|(path, v, _)| (path.to_vec(), v.host.clone()))
        .collect())
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
    /// `own`: a file that is not held, as it grows with what is.
    fn new(
        sink: Option<&'a mut dyn Sink>,
        own: Option<(u64, u64)>,
        copied: &'a mut Copied,
        ids: &'a Map,
        tops: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Walk<'a> {
        let own = own_places().into_iter().chain(own).collect();
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
            tops,
            problems: Vec::new(),
            buf: vec![0; CHUNK],
        }
    }

    fn all(&mut self) -> Result<(), String> {
        for (at, host) in self.tops.clone() {
            let path = PathBuf::from(OsStr::from_bytes(&at));
            let fd = rustix::fs::open(&path, LOOK, Mode::empty())
                .map_err(|e| format!("volume {}: {}", path.display(), reason(&e.into())))?;
            let st = rustix::fs::fstat(&fd).map_err(|e| reason(&e.into()))?;
            let xattrs = self.xattrs(&fd, c".", &path)?;
            let root = self.node(&path, &st, NodeKind::Directory, xattrs)?;
            self.tree.tops.push(Top { at, host, root });
            self.directory(&fd, &path, root)?;
        }
        Ok(())
    }

    /// Everything below a directory.
    fn directory(&mut self, top: &OwnedFd, path: &Path, root: u32) -> Result<(), String> {
        let mut left: Vec<(PathBuf, u32)> = vec![(PathBuf::new(), root)];
        while let Some((rel, node)) = left.pop() {
            let here = path.join(&rel);
            let name = match rel.as_os_str().is_empty() {
                true => Path::new("."),
                false => &rel,
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
                    // What is mounted there is held for itself, or not at all.
                    if !self.tops.iter().any(|(t, _)| t == here.as_os_str().as_bytes()) {
                        let why = "another file system is mounted there, which is not held with the one around it: make it a volume \
                                   of its own (-v), or write --volumes share";
                        self.problem(Fate::Refused, "mount", here, why.to_string());
                    }
                    continue;
                }
                Err(e) => {
                    self.unreadable(here, e);
                    continue;
                }
            };
            let mut names: Vec<CString> = Vec::new();
            let list = rustix::fs::Dir::read_from(&dir).map_err(|e| failed(&here, e))?;
            for item in list {
                let item = item.map_err(|e| failed(&here, e))?;
                if item.file_name() != c"." && item.file_name() != c".." {
                    names.push(item.file_name().to_owned());
                }
            }
            // One content has one encoding.
            names.sort_unstable();
            for name in names {
                if let Some(found) = self.entry(&dir, &here, &name, node)? {
                    left.push((rel.join(OsStr::from_bytes(name.as_bytes())), found));
                }
            }
        }
        Ok(())
    }

    /// One name. A directory's node is returned: it is still to be looked into.
    fn entry(&mut self, dir: &OwnedFd, here: &Path, name: &CStr, parent: u32) -> Result<Option<u32>, String> {
        let path = || here.join(OsStr::from_bytes(name.to_bytes()));
        let st = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(st) => st,
            // Somebody outside removed it.
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(failed(&path(), e)),
        };
        if self.own.contains(&id(&st)) {
            let why = "ftvm's own files are not held".to_string();
            self.problem(Fate::Lost, "directory", path(), why);
            return Ok(None);
        }
        let kind = FileType::from_raw_mode(st.st_mode);
        if !kind.is_dir()
            && let Some(node) = self.linked.get(&id(&st))
        {
            let node = *node;
            self.name(parent, name, node);
            return Ok(None);
        }
        let what = match kind {
            FileType::Directory => NodeKind::Directory,
            FileType::RegularFile => match self.file(dir, name, &path())? {
                Some(kind) => kind,
                None => return Ok(None),
            },
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|e| failed(&path(), e))?;
                NodeKind::Symlink(to.into_bytes())
            }
            FileType::Fifo => NodeKind::Fifo,
            FileType::Socket => NodeKind::Socket,
            _ => {
                self.problem(
                    Fate::Lost,
                    "device",
                    path(),
                    "device nodes are not held".to_string(),
                );
                return Ok(None);
            }
        };
        let xattrs = self.xattrs(dir, name, &path())?;
        // Of a file: as it is behind the reading, which may have set its time of access.
        let dirs = matches!(what, NodeKind::Directory);
        let node = self.node(&path(), &st, what, xattrs)?;
        if !dirs {
            self.linked.insert(id(&st), node);
        }
        self.name(parent, name, node);
        Ok(dirs.then_some(node))
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
        let why = format!("it cannot be read ({}): it cannot be held", reason(&e.into()));
        self.problem(Fate::Refused, "file", path, why);
    }

    fn name(&mut self, parent: u32, name: &CStr, node: u32) {
        self.tree.names.push(Name {
            parent,
            name: name.to_bytes().to_vec(),
            node,
        });
    }

    fn node(
        &mut self,
        path: &Path,
        st: &Stat,
        kind: NodeKind,
        xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<u32, String> {
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

    /// Extended attributes of a name in a directory.
    fn xattrs(&self, dir: &OwnedFd, name: &CStr, path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
        use rustix::io::Errno;
        if self.sink.is_none() {
            return Ok(Vec::new());
        }
        // There is no call by directory descriptor before Linux 6.13.
        let mut by = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        by.extend_from_slice(name.to_bytes());
        let mut buf = vec![0; 65536];
        let names = match rustix::fs::llistxattr(by.as_slice(), buf.as_mut_slice()) {
            Ok(0) | Err(Errno::NOTSUP | Errno::NOENT) => return Ok(Vec::new()),
            Ok(n) => buf[..n].to_vec(),
            Err(e) => return Err(failed(path, e)),
        };
        let mut out = Vec::new();
        for attr in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
            match rustix::fs::lgetxattr(by.as_slice(), attr, buf.as_mut_slice()) {
                Ok(n) => out.push((attr.to_vec(), buf[..n].to_vec())),
                Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {}
                Err(e) => return Err(failed(path, e)),
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    /// The contents of a regular file. `None`: it cannot be had, which was noted.
    fn file(&mut self, dir: &OwnedFd, name: &CStr, path: &Path) -> Result<Option<NodeKind>, String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Only its owner may read a file without a trace.
        let open = |more| rustix::fs::openat(dir, name, flags | more, Mode::empty());
        let file = match open(OFlags::NOATIME).or_else(|_| open(OFlags::empty())) {
            Ok(f) => File::from(f),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => {
                self.unreadable(path.to_path_buf(), e);
                return Ok(None);
            }
        };
        for _ in 0..TRIES {
            // From before the reading, which may take long: a change in the same tick as the last one is not seen.
            let begun = SystemTime::now();
            let before = rustix::fs::fstat(&file).map_err(|e| failed(path, e))?;
            let key = id(&before);
            let len = before.st_size as u64;
            let now = version(&before);
            if let Some(part) = self.copied.parts.get_mut(&key)
                && part.settled
                && part.version == now
            {
                part.used = true;
                let first = part.first;
                return Ok(Some(NodeKind::File { len, first }));
            }
            self.forget(key)?;
            let first = self.copied.next;
            let pages = len.div_ceil(PAGE);
            // Also of one that turns out to have changed: its pages are not used again.
            self.copied.next += pages;
            self.contents(&file, len, first, path)?;
            let settled = begun.duration_since(UNIX_EPOCH).is_ok_and(|t| {
                t > OLD && ns(before.st_ctime, before.st_ctime_nsec) < (t - OLD).as_nanos() as i128
            });
            let part = Part {
                version: now,
                first,
                pages,
                settled,
                used: true,
            };
            self.copied.parts.insert(key, part);
            let after = rustix::fs::fstat(&file).map_err(|e| failed(path, e))?;
            if version(&after) == now || self.sink.is_none() {
                return Ok(Some(NodeKind::File { len, first }));
            }
        }
        let why =
            "somebody outside the image changes it: it cannot be held as it was at one moment".to_string();
        self.problem(Fate::Refused, "file", path.to_path_buf(), why);
        Ok(None)
    }

    /// What was copied of a file counts no more.
    fn forget(&mut self, key: (u64, u64)) -> Result<(), String> {
        if let Some(old) = self.copied.parts.remove(&key)
            && old.pages > 0
            && let Some(sink) = &mut self.sink
        {
            sink.gone(Object::Volumes, old.first, old.pages)?;
        }
        Ok(())
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
                self.copied.pages += whole as u64 / PAGE;
                if self.copied.pages > MOST_PAGES {
                    return Err(format!(
                        "volumes: more than {} GiB of contents, too much for a snapshot; leave some out with --volumes GUEST=share",
                        (MOST_PAGES * PAGE) >> 30
                    ));
                }
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

fn ids_of(state: &HostState) -> Map {
    match state.moved_map.is_empty() {
        true => Map::default(),
        // Files whose numbers are not known any more have the host's.
        false => Map::load(Path::new(OsStr::from_bytes(&state.moved_map))).unwrap_or_default(),
    }
}

/// The file that is being written.
fn identity(sink: &ToFile<'_>) -> Option<(u64, u64)> {
    rustix::fs::fstat(sink.file()).ok().map(|st| id(&st))
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
        let own = identity(sink);
        Walk::new(Some(sink), own, self, &ids, tops(&held)?).all()
    }

    /// Copies the rest while the image stands.
    pub fn hold(
        &mut self,
        state: &HostState,
        all: &[(&Volume, Policy)],
        sink: &mut ToFile<'_>,
    ) -> Result<Tree, String> {
        let ids = ids_of(state);
        let held = held(all);
        check_places(state, &held)?;
        let own = identity(sink);
        let mut walk = Walk::new(Some(sink), own, self, &ids, tops(&held)?);
        walk.all()?;
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
            if let Some(old) = self.parts.remove(&key).filter(|p| p.pages > 0) {
                sink.gone(Object::Volumes, old.first, old.pages)?;
            }
        }
        let bytes = tree.encode().len();
        if bytes > MOST_TREE {
            return Err(format!(
                "volumes: {} files, too many for a snapshot; leave some out with --volumes GUEST=share",
                tree.nodes.len()
            ));
        }
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
    if let Err(why) = check_places(state, &held) {
        return vec![refused(why)];
    }
    let ids = Map::default();
    for v in &held {
        let mut copied = Copied::default();
        let tops = match tops(&held) {
            Ok(t) => t,
            Err(why) => return vec![refused(why)],
        };
        let mut walk = Walk::new(None, None, &mut copied, &ids, tops);
        walk.tops.retain(|(t, _)| *t == v.now);
        if let Err(why) = walk.all() {
            out.push(refused(why));
        }
        let Walk { tree, problems, .. } = walk;
        let sockets = tree.nodes.iter().filter(|n| n.kind == NodeKind::Socket).count();
        out.push(Note {
            fate: Fate::Held,
            kind: "volume",
            name: title(v),
            why: format!(
                "{} files of {} bytes, in the snapshot: a restore gives the image a directory of its own",
                tree.nodes.len().saturating_sub(1),
                tree.bytes()
            ),
        });
        if sockets > 0 {
            out.push(Note {
                fate: Fate::Lost,
                kind: "UNIX sockets",
                name: shown(&v.guest),
                why: format!(
                    "{sockets} are held as names: nobody outside the image listens there after a restore"
                ),
            });
        }
        out.extend(problems.into_iter().map(Problem::note));
    }
    out
}
