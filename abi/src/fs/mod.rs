//! Files: the mount tree, path walk, and the file systems of an image.
//!
//! A place in the tree is a mount and a path inside it ([`Loc`]), without `.`, `..` and symlinks: no
//! directory entry is cached, so a path that the writable layer does not touch costs one question to
//! the host ([`walk`]). What stays open over calls (working directories, directory descriptors) is a
//! [`Place`], which renames in the image move along. File systems answer for such paths through
//! [`Fs`]; an answer of ELOOP means "a symlink is in the way", and the walk then expands it.

pub mod aio;
pub mod calls;
mod console;
pub mod dev;
mod dirfile;
pub mod fifo;
mod guard;
mod hostfile;
pub mod hostlocks;
pub mod inode;
pub mod inotify;
pub mod locks;
pub mod memfile;
mod mount;
pub mod pages;
pub mod perm;
pub mod proc;
mod tree;
pub(crate) mod volume;
pub mod walk;

pub use console::Console;
pub use dirfile::{DirFile, PathFile};
pub use hostfile::HostFile;
pub use mount::{Mount, VolumeConfig};
pub use tree::Tree;

use crate::cx::Cx;
use crate::fdtable::OpenFile;
use ftl_core::errno::Errno;
use ftl_core::file::{FileRef, SetAttr};
use ftl_core::io::{Io, err};
use ftl_core::kcore::Env;
use ftl_core::platform::{DirEntry, Handle, Platform, Stat, Xattr};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// Handle of the directory that is the image's root, opened by the runtime at start.
pub const HOST_ROOT: Handle = Handle(8);
/// Handle of the host's own root: where the host side of volumes is looked up.
pub const HOST_TOP: Handle = Handle(9);

/// A place in the tree. The path has no leading slash, no empty and no dot components; empty is the
/// mount's root.
#[derive(Clone)]
pub struct Loc {
    /// Which mount.
    pub mount: Rc<Mount>,
    /// Where in it.
    pub path: Vec<u8>,
}

impl Loc {
    /// Same place?
    pub fn same(&self, other: &Loc) -> bool {
        Rc::ptr_eq(&self.mount, &other.mount) && self.path == other.path
    }

    /// Its file system.
    pub fn fs(&self) -> Rc<dyn Fs> {
        self.mount.fs.clone()
    }

    /// Absolute path in the image.
    pub fn full(&self) -> Vec<u8> {
        let mut out = match &self.mount.at {
            Some(at) => at.full(),
            None => b"/".to_vec(),
        };
        if !self.path.is_empty() {
            if out.last() != Some(&b'/') {
                out.push(b'/');
            }
            out.extend_from_slice(&self.path);
        }
        out
    }

    /// Parent directory and last component; `None` for the root of a mount.
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.path.is_empty() {
            None
        } else {
            Some(split(&self.path))
        }
    }
}

/// Directory and last component of a path inside a mount.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(i) => (&path[..i], &path[i + 1..]),
        None => (b"", path),
    }
}

/// `dir/name`.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut p = dir.to_vec();
    if !p.is_empty() && !name.is_empty() {
        p.push(b'/');
    }
    p.extend_from_slice(name);
    p
}

/// True if `path` is `dir` or lies below it.
pub fn is_within(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.starts_with(dir) && (path.len() == dir.len() || path[dir.len()] == b'/')
}

/// A [`Loc`] that is kept: working directory, root, directory descriptor.
pub struct Place {
    mount: Rc<Mount>,
    path: RefCell<Vec<u8>>,
    /// The directory was removed.
    pub gone: Cell<bool>,
    /// What it was when it was removed.
    pub last: Cell<Option<Stat>>,
}

impl Place {
    /// Where it is now.
    pub fn loc(&self) -> Loc {
        Loc {
            mount: self.mount.clone(),
            path: self.path.borrow().clone(),
        }
    }
}

/// Working directory, root and umask.
pub struct FsInfo {
    /// Working directory.
    pub cwd: RefCell<Rc<Place>>,
    /// Root directory (chroot).
    pub root: RefCell<Rc<Place>>,
    /// umask(2)
    pub umask: Cell<u32>,
}

impl FsInfo {
    /// A copy for a task that does not share it (clone without CLONE_FS).
    pub fn duplicate(&self) -> FsInfo {
        FsInfo {
            cwd: RefCell::new(self.cwd.borrow().clone()),
            root: RefCell::new(self.root.borrow().clone()),
            umask: self.umask.clone(),
        }
    }

    /// Absolute path of the working directory as the task sees it.
    pub fn cwd_path(&self) -> Vec<u8> {
        self.seen(&self.cwd.borrow().loc())
    }

    /// `loc` as seen from this root.
    pub fn seen(&self, loc: &Loc) -> Vec<u8> {
        let full = loc.full();
        let root = self.root.borrow().loc().full();
        if root == b"/" {
            return full;
        }
        if full == root {
            return b"/".to_vec();
        }
        if is_within(&full, &root) {
            return full[root.len()..].to_vec();
        }
        let mut out = b"(unreachable)".to_vec();
        out.extend_from_slice(&full);
        out
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// O_* without O_CLOEXEC.
    pub flags: i32,
    /// Permission bits of a new file, the umask applied.
    pub mode: u32,
}

/// What a symlink leads to.
pub enum Link {
    /// Text to walk on with.
    Text(Vec<u8>),
    /// A place that has no text (/proc/PID/cwd).
    Place(Loc, Vec<u8>),
    /// An open file (/proc/PID/fd/N of what has no path); the text is for readlink.
    Open(FileRef, Vec<u8>),
}

/// statfs(2).
#[derive(Clone, Copy, Default, Debug)]
#[allow(missing_docs)]
pub struct StatFs {
    pub kind: u64,
    pub bsize: u64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub namelen: u64,
    pub frsize: u64,
}

/// A file system. Paths are those of [`Loc`]; an intermediate symlink is ELOOP, the last component
/// is never followed. Permissions are the file system's to check.
#[allow(missing_docs, unused_variables)]
pub trait Fs: Any {
    fn as_any(&self) -> &dyn Any;
    /// Type as /proc/mounts shows it.
    fn kind(&self) -> &'static str;
    /// lstat.
    fn stat(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Stat>;
    /// Target of a symlink; EINVAL for what is none.
    fn readlink(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Link>;
    /// Opens or creates; ELOOP for a symlink. `loc` is for [`Place`]s and descriptions.
    fn open(&self, cx: &mut Cx<'_>, loc: &Loc, how: &How) -> Io<FileRef>;
    /// Entries without `.` and `..`, in a stable order. The directory was opened for it.
    fn list(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Vec<DirEntry>>;
    fn mkdir(&self, cx: &mut Cx<'_>, path: &[u8], mode: u32) -> Io<()> {
        err(Errno::EPERM)
    }
    fn mknod(&self, cx: &mut Cx<'_>, path: &[u8], mode: u32, dev: u64) -> Io<()> {
        err(Errno::EPERM)
    }
    fn symlink(&self, cx: &mut Cx<'_>, target: &[u8], path: &[u8]) -> Io<()> {
        err(Errno::EPERM)
    }
    fn unlink(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<()> {
        err(Errno::EPERM)
    }
    fn rmdir(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<()> {
        err(Errno::EPERM)
    }
    fn rename(&self, cx: &mut Cx<'_>, from: &[u8], to: &[u8], flags: u32) -> Io<()> {
        err(Errno::EPERM)
    }
    fn link(&self, cx: &mut Cx<'_>, from: &[u8], to: &[u8]) -> Io<()> {
        err(Errno::EPERM)
    }
    /// Names an open file that may have none (O_TMPFILE).
    fn link_open(&self, cx: &mut Cx<'_>, file: &FileRef, to: &[u8]) -> Io<()> {
        err(Errno::EXDEV)
    }
    /// Allowed by the caller.
    fn set_attr(&self, cx: &mut Cx<'_>, path: &[u8], attr: &SetAttr) -> Io<()> {
        err(Errno::EPERM)
    }
    fn statfs(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<StatFs>;
    /// The image's inode at `path` with its attributes kept in the image: for sockets, FIFOs and
    /// extended attributes. `make` copies it up from the layer below.
    fn inode(&self, cx: &mut Cx<'_>, path: &[u8], make: bool) -> Io<Option<Rc<inode::Inode>>> {
        Ok(None)
    }
    /// Extended attributes of a file that exists; names were checked.
    fn xattr(&self, cx: &mut Cx<'_>, path: &[u8], op: &Xattr<'_>) -> Io<Vec<u8>> {
        err(Errno::EOPNOTSUPP)
    }
}

/// The kernel's file state.
pub struct Vfs {
    /// Space for contents.
    pub pages: Rc<pages::PageStore>,
    mounts: RefCell<Vec<Rc<Mount>>>,
    places: RefCell<Vec<Weak<Place>>>,
    next_ino: Rc<Cell<u64>>,
    next_dev: Cell<u64>,
    /// /proc/sys/kernel/random/boot_id, once somebody has asked.
    pub boot_id: Cell<[u8; 16]>,
    /// inotify instances.
    pub inotify: inotify::Instances,
    /// Record locks.
    pub locks: locks::Locks,
    /// Volumes with mapped files.
    volumes: RefCell<Vec<Rc<volume::Volume>>>,
}

impl Default for Vfs {
    fn default() -> Vfs {
        Vfs {
            pages: Rc::default(),
            mounts: RefCell::default(),
            places: RefCell::default(),
            // Above what host file systems use in practice, so that the two kinds can share a device.
            next_ino: Rc::new(Cell::new(1 << 48)),
            next_dev: Cell::new(0x20),
            boot_id: Cell::default(),
            inotify: Default::default(),
            locks: Default::default(),
            volumes: RefCell::default(),
        }
    }
}

impl Vfs {
    /// A number for an inode that is in no mounted tree (memfd).
    pub fn new_ino(&self) -> u64 {
        let n = self.next_ino.get();
        self.next_ino.set(n + 1);
        n
    }

    /// A device number for a file system without a device: major 0.
    pub fn new_dev(&self) -> u64 {
        let n = self.next_dev.get();
        self.next_dev.set(n + 1);
        n
    }

    /// Keeps a place over renames.
    pub fn hold(&self, loc: &Loc) -> Rc<Place> {
        let p = Rc::new(Place {
            mount: loc.mount.clone(),
            path: RefCell::new(loc.path.clone()),
            gone: Cell::new(false),
            last: Cell::new(None),
        });
        let mut places = self.places.borrow_mut();
        if places.len() >= 64 && places.len().is_power_of_two() {
            places.retain(|p| p.strong_count() > 0);
        }
        places.push(Rc::downgrade(&p));
        p
    }

    fn each_place(&self, mount: &Rc<Mount>, f: impl Fn(&Place)) {
        for p in self.places.borrow().iter().filter_map(Weak::upgrade) {
            if Rc::ptr_eq(&p.mount, mount) && !p.gone.get() {
                f(&p);
            }
        }
    }

    /// A directory moved.
    pub fn moved(&self, mount: &Rc<Mount>, from: &[u8], to: &[u8]) {
        self.each_place(mount, |p| {
            let mut path = p.path.borrow_mut();
            if is_within(&path, from) {
                let mut new = to.to_vec();
                new.extend_from_slice(&path[from.len()..]);
                *path = new;
            }
        });
    }

    /// Two directories changed places.
    pub fn exchanged(&self, mount: &Rc<Mount>, a: &[u8], b: &[u8]) {
        self.each_place(mount, |p| {
            let mut path = p.path.borrow_mut();
            let (from, to) = if is_within(&path, a) {
                (a, b)
            } else if is_within(&path, b) {
                (b, a)
            } else {
                return;
            };
            let mut new = to.to_vec();
            new.extend_from_slice(&path[from.len()..]);
            *path = new;
        });
    }

    /// A directory is no more.
    pub fn removed(&self, mount: &Rc<Mount>, path: &[u8], st: Option<Stat>) {
        self.each_place(mount, |p| {
            if *p.path.borrow() == path {
                p.gone.set(true);
                p.last.set(st.map(|s| Stat { nlink: 0, ..s }));
            }
        });
    }

    /// Somebody keeps this very directory.
    pub fn is_held(&self, loc: &Loc) -> bool {
        let places = self.places.borrow();
        places
            .iter()
            .filter_map(Weak::upgrade)
            .any(|p| Rc::ptr_eq(&p.mount, &loc.mount) && *p.path.borrow() == loc.path)
    }

    /// All mounts in the order in which they were made.
    pub fn mounts(&self) -> Vec<Rc<Mount>> {
        self.mounts.borrow().clone()
    }

    /// Gives back what has no owner any more. Called at kernel exits.
    pub fn settle(&self, plat: &mut dyn Platform) {
        for v in self.volumes.borrow().iter() {
            v.settle(plat);
        }
        self.pages.settle(plat);
        self.locks.settle_host(plat);
    }

    /// What shared mappings of volume files hold goes to the host.
    pub fn write_back(&self, plat: &mut dyn Platform) {
        for v in self.volumes.borrow().iter() {
            v.write_back_all(plat);
        }
    }

    /// The image ends: what shared mappings of volume files hold goes to the host. Returns how many
    /// files of the writable layer are dropped.
    pub fn finish(&self, plat: &mut dyn Platform) -> usize {
        self.write_back(plat);
        let mounts = self.mounts.borrow();
        mounts
            .iter()
            .filter_map(|m| m.fs.as_any().downcast_ref::<Tree>())
            .map(Tree::count_written)
            .sum()
    }
}

/// Opens a path for the kernel itself (execve): a regular file that the caller may execute.
pub fn open_for_exec(cx: &mut Cx<'_>, path: &[u8]) -> Io<Rc<OpenFile>> {
    calls::open::for_exec(cx, walk::AT_FDCWD, path, true)
}

/// Memory for MAP_SHARED|MAP_ANONYMOUS.
pub fn anon_shared(cx: &mut Cx<'_>, len: u64) -> Io<FileRef> {
    let data = pages::Data::new(&cx.k.fs.pages);
    data.grow(len);
    let inode = unnamed(cx, perm::mode::REG | 0o600, inode::Body::File(data));
    Ok(memfile::MemFile::new(
        inode,
        b"/dev/zero (deleted)".to_vec(),
        true,
    ))
}

/// An inode that is in no directory.
pub fn unnamed(cx: &mut Cx<'_>, mode: u32, body: inode::Body) -> Rc<inode::Inode> {
    let now = cx.env.realtime();
    let owner = {
        let c = cx.task.creds.borrow();
        (c.fsuid, c.fsgid)
    };
    let ino = cx.k.fs.new_ino();
    inode::Inode::new((1, ino), mode, owner, 0, now, body)
}

/// Fresh attributes of an open file: directories and O_PATH files are asked by path.
pub fn fstat(cx: &mut Cx<'_>, file: &FileRef) -> Io<Stat> {
    if let Some(d) = file.as_any().downcast_ref::<DirFile>() {
        return d.fresh(cx);
    }
    if let Some(p) = file.as_any().downcast_ref::<PathFile>() {
        return p.fresh(cx);
    }
    file.stat(&mut cx.env)
}

pub use mount::{populate, save_layer};

/// The mount tree of a new image, and the place that its first process starts in.
pub fn start(k: &crate::kernel::Kernel, env: &mut Env<'_>) -> Option<FsInfo> {
    mount::start(k, env)
}
