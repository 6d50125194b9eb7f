//! Host directories that the image may change: the working directory at start, `-v HOST:GUEST[:ro]`.
//!
//! Every change is an output at once. Only shared writable mappings need more (PROTOCOL §7): their
//! pages are the image's own, filled from the file when they are mapped and written back at msync,
//! fsync, close and exit; what the host changed meanwhile is seen at open, fstat and read of pages
//! that are not mapped.

use super::inode::{Body, Inode};
use super::pages::{Data, FileId, PageStore, Resized};
use super::perm::mode;
use super::{DirFile, Fs, HostFile, How, Link, Loc, StatFs, guard, perm};
use crate::cx::Cx;
use crate::fdtable::oflag;
use ftl_core::errno::Errno;
use ftl_core::file::{FileRef, SetAttr};
use ftl_core::io::{Io, Stop, err};
use ftl_core::kcore::HostRef;
use ftl_core::layout::PAGE;
use ftl_core::platform::{Backing, DirEntry, Handle, Platform, Stat, Xattr};
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

type Dying = Rc<RefCell<Vec<Rc<Inner>>>>;

/// A volume.
pub struct Volume {
    me: Weak<Volume>,
    root: HostRef,
    pages: Rc<PageStore>,
    shared: RefCell<BTreeMap<(u64, u64), Weak<Shared>>>,
    dying: Dying,
    /// Stand-ins for sockets and FIFOs that live here, by st_dev and st_ino.
    special: RefCell<BTreeMap<(u64, u64), Rc<Inode>>>,
}

struct Inner {
    id: FileId,
    data: Data,
    host: Rc<HostRef>,
    /// Pages that were filled, with a hash of what the host has.
    loaded: RefCell<BTreeMap<u64, u64>>,
}

/// Pages of one host file that mappings share.
pub struct Shared {
    inner: Rc<Inner>,
    dying: Dying,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.dying.borrow_mut().push(self.inner.clone());
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for c in bytes.chunks(8) {
        let mut w = [0; 8];
        w[..c.len()].copy_from_slice(c);
        h = (h ^ u64::from_le_bytes(w))
            .wrapping_mul(0x0100_0000_01b3)
            .rotate_left(23);
    }
    h
}

impl Inner {
    fn page(&self, plat: &mut dyn Platform, page: u64) -> Vec<u8> {
        let mut buf = vec![0; PAGE as usize];
        let n = self.data.read(plat, page * PAGE, &mut buf);
        buf.truncate(n);
        buf
    }

    fn write_back(&self, plat: &mut dyn Platform) {
        let mut loaded = self.loaded.borrow_mut();
        for (page, old) in loaded.iter_mut() {
            let bytes = self.page(plat, *page);
            let h = hash(&bytes);
            if h != *old && !bytes.is_empty() {
                // A full disk here is the host's failure; the page stays changed and is tried again.
                if plat.host_pwrite(self.host.handle, page * PAGE, &bytes).is_ok() {
                    *old = h;
                }
            }
        }
    }

    fn load(&self, plat: &mut dyn Platform, page: u64) -> Io<()> {
        let mut buf = vec![0; PAGE as usize];
        let n = plat.host_pread(self.host.handle, page * PAGE, &mut buf, None)?.n;
        let n = n.min(self.data.size().saturating_sub(page * PAGE) as usize);
        self.data.write(plat, page * PAGE, &buf[..n])?;
        self.loaded.borrow_mut().insert(page, hash(&buf[..n]));
        Ok(())
    }
}

impl Shared {
    /// Backing of a mapping; the file has `size` bytes.
    pub fn map(
        &self,
        plat: &mut dyn Platform,
        offset: u64,
        len: u64,
        size: u64,
        shared: bool,
    ) -> Io<Vec<(u64, Backing)>> {
        let i = &self.inner;
        i.data.grow(size);
        let end = (offset + len).min(size).div_ceil(PAGE);
        for page in offset / PAGE..end {
            if !i.loaded.borrow().contains_key(&page) {
                i.load(plat, page)?;
            }
        }
        Ok(i.data.map(plat, Some(i.id), offset, len, shared)?)
    }

    /// Replaces bytes read from the host by those of mapped pages.
    pub fn overlay(&self, plat: &mut dyn Platform, offset: u64, buf: &mut [u8]) {
        self.inner.data.grow(offset + buf.len() as u64);
        let mut at = 0;
        while at < buf.len() {
            let pos = offset + at as u64;
            let n = (buf.len() - at).min((PAGE - pos % PAGE) as usize);
            if self.inner.loaded.borrow().contains_key(&(pos / PAGE)) {
                self.inner.data.read(plat, pos, &mut buf[at..at + n]);
            }
            at += n;
        }
    }

    /// The file was written at `offset`.
    pub fn wrote(&self, plat: &mut dyn Platform, offset: u64, bytes: &[u8]) {
        let i = &self.inner;
        i.data.grow(offset + bytes.len() as u64);
        let mut at = 0;
        while at < bytes.len() {
            let pos = offset + at as u64;
            let n = (bytes.len() - at).min((PAGE - pos % PAGE) as usize);
            if i.loaded.borrow().contains_key(&(pos / PAGE)) {
                // The rest of the page may hold changes that the host has not: its hash stays.
                let _ = i.data.write(plat, pos, &bytes[at..at + n]);
            }
            at += n;
        }
    }

    /// The file has this size now.
    pub fn resized(&self, plat: &mut dyn Platform, size: u64) {
        if size < self.inner.data.size() {
            self.inner.data.truncate(plat, size);
            self.inner.loaded.borrow_mut().retain(|p, _| p * PAGE < size);
        } else {
            self.inner.data.grow(size);
        }
    }

    /// What mappings changed goes to the host.
    pub fn write_back(&self, plat: &mut dyn Platform) {
        self.inner.write_back(plat);
    }

    /// The host's contents changed under the mapping by our own doing.
    pub fn reload(&self, plat: &mut dyn Platform) {
        if let Ok(st) = plat.host_stat(self.inner.host.handle) {
            self.resized(plat, st.size);
        }
        let pages: Vec<u64> = self.inner.loaded.borrow().keys().copied().collect();
        for p in pages {
            let _ = self.inner.load(plat, p);
        }
    }
}

/// Fields as [`ftl_core::platform::HostFs::host_statfs`] gives them.
pub fn statfs(v: [u64; 9]) -> StatFs {
    StatFs {
        kind: v[0],
        bsize: v[1],
        blocks: v[2],
        bfree: v[3],
        bavail: v[4],
        files: v[5],
        ffree: v[6],
        namelen: v[7],
        frsize: v[8],
    }
}

impl Volume {
    /// The host directory behind `root`.
    pub fn new(k: &crate::kernel::Kernel, root: HostRef) -> Rc<Volume> {
        let v = Rc::new_cyclic(|me| Volume {
            me: me.clone(),
            root,
            pages: k.fs.pages.clone(),
            shared: RefCell::default(),
            dying: Dying::default(),
            special: RefCell::default(),
        });
        k.fs.volumes.borrow_mut().push(v.clone());
        v
    }

    fn h(&self) -> Handle {
        self.root.handle
    }

    /// The host directory.
    pub fn dir(&self) -> Handle {
        self.root.handle
    }

    /// Makes the node of a socket by `bind`, under the checks of mknod.
    pub fn bind_socket(
        &self,
        cx: &mut Cx<'_>,
        path: &[u8],
        bind: impl FnOnce(&mut Cx<'_>) -> Io<()>,
    ) -> Io<()> {
        if path.is_empty() {
            return err(Errno::EEXIST);
        }
        self.may_add(cx, path)?;
        bind(cx)?;
        self.give_to_caller(cx, path);
        Ok(())
    }

    /// Pages that mappings of the file share.
    pub fn mapped(&self, id: (u64, u64)) -> Option<Rc<Shared>> {
        let shared = self.shared.borrow();
        if shared.is_empty() {
            return None;
        }
        shared.get(&id)?.upgrade()
    }

    /// The image maps the file by the host's own pages.
    pub fn watch(&self, id: FileId) {
        self.pages.watch(id);
    }

    /// The image has set the file's size, or written up to there.
    pub fn note_size(&self, id: FileId, size: u64, at_least: bool) {
        self.pages.note_size(Resized { id, size, at_least });
    }

    /// Starts sharing pages of the file.
    pub fn new_shared(&self, id: (u64, u64), host: Rc<HostRef>) -> Rc<Shared> {
        let s = Rc::new(Shared {
            inner: Rc::new(Inner {
                id,
                data: Data::new(&self.pages),
                host,
                loaded: RefCell::default(),
            }),
            dying: self.dying.clone(),
        });
        let mut shared = self.shared.borrow_mut();
        shared.retain(|_, w| w.strong_count() > 0);
        shared.insert(id, Rc::downgrade(&s));
        s
    }

    /// Writes back what nobody maps any more.
    pub fn settle(&self, plat: &mut dyn Platform) {
        if self.dying.borrow().is_empty() {
            return;
        }
        for inner in std::mem::take(&mut *self.dying.borrow_mut()) {
            inner.write_back(plat);
        }
    }

    /// Writes back everything.
    pub fn write_back_all(&self, plat: &mut dyn Platform) {
        self.settle(plat);
        let live: Vec<_> = self.shared.borrow().values().filter_map(Weak::upgrade).collect();
        for s in live {
            s.write_back(plat);
        }
    }

    fn stand_in(&self, cx: &mut Cx<'_>, st: &Stat) -> Rc<Inode> {
        let _ = &cx;
        let n = self
            .special
            .borrow_mut()
            .entry((st.dev, st.ino))
            .or_insert_with(|| {
                Inode::new(
                    (st.dev, st.ino),
                    st.mode,
                    (st.uid, st.gid),
                    st.rdev,
                    st.ctime,
                    Body::Special,
                )
            })
            .clone();
        n.adopt(st);
        n
    }

    fn ask(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Stat> {
        Ok(if path.is_empty() {
            cx.env.plat.host_stat(self.h())?
        } else {
            cx.env.stat_again(self.h(), path)?
        })
    }

    /// Checks for a caller whose ids the host does not know.
    fn may_search(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<()> {
        if guard::is_foreign(cx) {
            guard::search(cx, path, |cx, p| self.ask(cx, p))?;
        }
        Ok(())
    }

    fn may_add(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<()> {
        if guard::is_foreign(cx) {
            guard::add(cx, path, |cx, p| self.ask(cx, p))?;
        }
        Ok(())
    }

    fn may_remove(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<()> {
        if guard::is_foreign(cx) {
            guard::remove(cx, path, |cx, p| self.ask(cx, p))?;
        }
        Ok(())
    }

    fn may_rename(&self, cx: &mut Cx<'_>, from: &[u8], to: &[u8]) -> Io<()> {
        if guard::is_foreign(cx) {
            self.may_remove(cx, from)?;
            match self.ask(cx, to) {
                Ok(_) => self.may_remove(cx, to)?,
                Err(_) => self.may_add(cx, to)?,
            }
        }
        Ok(())
    }

    /// What such a caller made is its own, as far as the host lets us say so.
    fn give_to_caller(&self, cx: &mut Cx<'_>, path: &[u8]) {
        if guard::is_foreign(cx) {
            let (uid, gid) = {
                let c = cx.task.creds.borrow();
                (c.fsuid, c.fsgid)
            };
            let _ = cx.env.plat.host_chown_at(self.h(), path, uid, gid);
        }
    }

    /// Checks of open for such a caller. True: a file will be made.
    fn may_open(&self, cx: &mut Cx<'_>, path: &[u8], how: &How) -> Io<bool> {
        if !guard::is_foreign(cx) {
            return Ok(false);
        }
        self.may_search(cx, path)?;
        let mut want =
            [perm::R, perm::W, perm::R | perm::W, perm::R | perm::W][(how.flags & oflag::O_ACCMODE) as usize];
        if how.flags & oflag::O_TRUNC != 0 {
            want |= perm::W;
        }
        match self.ask(cx, path) {
            Ok(st) if perm::is_link(&st) => Ok(false),
            Ok(st) => {
                perm::check(&cx.task.creds.borrow(), &st, want)?;
                Ok(false)
            }
            Err(Stop::Errno(Errno::ENOENT)) if how.flags & oflag::O_CREAT != 0 => {
                self.may_add(cx, path)?;
                Ok(true)
            }
            Err(e) => Err(e),
        }
    }

    fn special(&self, cx: &mut Cx<'_>, st: &Stat, how: &How, loc: &Loc) -> Io<FileRef> {
        if !matches!(st.mode & mode::FMT, mode::FIFO | mode::SOCK) {
            return err(Errno::ENXIO);
        }
        let n = self.stand_in(cx, st);
        super::calls::open::special(cx, &n, st.rdev, how, loc)
    }
}

impl Fs for Volume {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn kind(&self) -> &'static str {
        "volume"
    }
    fn stat(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Stat> {
        self.may_search(cx, path)?;
        self.ask(cx, path)
    }
    fn readlink(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Link> {
        if path.is_empty() {
            return err(Errno::EINVAL);
        }
        self.may_search(cx, path)?;
        Ok(Link::Text(cx.env.plat.host_readlink_at(self.h(), path)?))
    }
    fn open(&self, cx: &mut Cx<'_>, loc: &Loc, how: &How) -> Io<FileRef> {
        let write = how.flags & oflag::O_ACCMODE != 0 || how.flags & oflag::O_TRUNC != 0;
        let creat = how.flags & oflag::O_CREAT != 0;
        if loc.mount.ro.get() && (write || creat) {
            match self.stat(cx, &loc.path) {
                Ok(_) if creat && how.flags & oflag::O_EXCL != 0 => return err(Errno::EEXIST),
                Ok(st) if super::perm::is_link(&st) => return err(Errno::ELOOP),
                Ok(st) if super::perm::is_dir(&st) => return err(Errno::EISDIR),
                Ok(_) if write => return err(Errno::EROFS),
                Ok(_) => {}
                Err(Stop::Errno(Errno::ENOENT)) if creat => return err(Errno::EROFS),
                Err(e) => return Err(e),
            }
        }
        // O_ASYNC, O_DIRECT, O_NOATIME make no difference that the guest could see.
        const KEEP: i32 = oflag::O_ACCMODE
            | oflag::O_CREAT
            | oflag::O_EXCL
            | oflag::O_TRUNC
            | oflag::O_TMPFILE
            | oflag::O_DSYNC
            | oflag::O_SYNC;
        let keep = if loc.mount.ro.get() {
            KEEP & !oflag::O_CREAT
        } else {
            KEEP
        };
        let flags =
            how.flags & keep | oflag::O_NONBLOCK | oflag::O_NOCTTY | oflag::O_NOFOLLOW | oflag::O_CLOEXEC;
        let made = self.may_open(cx, &loc.path, how)?;
        let new = cx.core.new_handle();
        let path: &[u8] = if loc.path.is_empty() { b"." } else { &loc.path };
        let st = match cx.env.open_again(self.h(), path, flags, how.mode, new) {
            Err(Errno::ENXIO) => {
                let st = self.stat(cx, &loc.path)?;
                return self.special(cx, &st, how, loc);
            }
            r => r?,
        };
        let host = cx.core.own(new);
        if made {
            self.give_to_caller(cx, &loc.path);
        }
        match st.mode & mode::FMT {
            mode::DIR => Ok(DirFile::new(cx.k.fs.hold(loc), st)),
            mode::REG => {
                if flags & oflag::O_TRUNC != 0 {
                    let id = (st.dev, st.ino);
                    if let Some(s) = self.mapped(id) {
                        s.resized(cx.env.plat, st.size);
                    }
                    self.note_size(id, st.size, false);
                }
                Ok(HostFile::new(&cx.env, host, &st, loc.full(), self.me.upgrade()))
            }
            _ => self.special(cx, &st, how, loc),
        }
    }
    fn list(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Vec<DirEntry>> {
        Ok(cx.env.plat.host_list_at(self.h(), path)?)
    }
    fn mkdir(&self, cx: &mut Cx<'_>, path: &[u8], bits: u32) -> Io<()> {
        if path.is_empty() {
            return err(Errno::EEXIST);
        }
        self.may_add(cx, path)?;
        cx.env.plat.host_mkdir_at(self.h(), path, bits)?;
        self.give_to_caller(cx, path);
        Ok(())
    }
    fn mknod(&self, cx: &mut Cx<'_>, path: &[u8], m: u32, dev: u64) -> Io<()> {
        if path.is_empty() {
            return err(Errno::EEXIST);
        }
        self.may_add(cx, path)?;
        cx.env.plat.host_mknod_at(self.h(), path, m, dev)?;
        self.give_to_caller(cx, path);
        Ok(())
    }
    fn symlink(&self, cx: &mut Cx<'_>, target: &[u8], path: &[u8]) -> Io<()> {
        if path.is_empty() {
            return err(Errno::EEXIST);
        }
        self.may_add(cx, path)?;
        cx.env.plat.host_symlink_at(target, self.h(), path)?;
        self.give_to_caller(cx, path);
        Ok(())
    }
    fn unlink(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<()> {
        if path.is_empty() {
            return err(Errno::EISDIR);
        }
        self.may_remove(cx, path)?;
        if !self.special.borrow().is_empty()
            && let Ok(st) = self.stat(cx, path)
        {
            cx.env.plat.host_unlink_at(self.h(), path, false)?;
            if st.nlink <= 1 {
                self.special.borrow_mut().remove(&(st.dev, st.ino));
            }
            return Ok(());
        }
        Ok(cx.env.plat.host_unlink_at(self.h(), path, false)?)
    }
    fn rmdir(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<()> {
        if path.is_empty() {
            return err(Errno::EBUSY);
        }
        self.may_remove(cx, path)?;
        Ok(cx.env.plat.host_unlink_at(self.h(), path, true)?)
    }
    fn rename(&self, cx: &mut Cx<'_>, from: &[u8], to: &[u8], flags: u32) -> Io<()> {
        if from.is_empty() || to.is_empty() {
            return err(Errno::EBUSY);
        }
        self.may_rename(cx, from, to)?;
        Ok(cx.env.plat.host_rename_at(self.h(), from, self.h(), to, flags)?)
    }
    fn link(&self, cx: &mut Cx<'_>, from: &[u8], to: &[u8]) -> Io<()> {
        if from.is_empty() {
            return err(Errno::EPERM);
        }
        if to.is_empty() {
            return err(Errno::EEXIST);
        }
        self.may_add(cx, to)?;
        Ok(cx.env.plat.host_link_at(self.h(), from, self.h(), to)?)
    }
    fn link_open(&self, cx: &mut Cx<'_>, file: &FileRef, to: &[u8]) -> Io<()> {
        match file.as_any().downcast_ref::<HostFile>() {
            Some(f) => Ok(cx.env.plat.host_link_open(f.host.handle, self.h(), to)?),
            None => err(Errno::EXDEV),
        }
    }
    fn set_attr(&self, cx: &mut Cx<'_>, path: &[u8], a: &SetAttr) -> Io<()> {
        let h = self.h();
        if a.uid.is_some() || a.gid.is_some() {
            cx.env
                .plat
                .host_chown_at(h, path, a.uid.unwrap_or(u32::MAX), a.gid.unwrap_or(u32::MAX))?;
        }
        if let Some(m) = a.mode {
            cx.env.plat.host_chmod_at(h, path, m)?;
        }
        if a.atime.is_some() || a.mtime.is_some() {
            cx.env.plat.host_utimens_at(h, path, a.atime, a.mtime)?;
        }
        Ok(())
    }
    fn statfs(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<StatFs> {
        Ok(statfs(cx.env.plat.host_statfs_at(self.h(), path)?))
    }
    fn xattr(&self, cx: &mut Cx<'_>, path: &[u8], op: &Xattr<'_>) -> Io<Vec<u8>> {
        Ok(cx.env.plat.host_xattr_at(self.h(), path, op)?)
    }
    fn inode(&self, cx: &mut Cx<'_>, path: &[u8], _make: bool) -> Io<Option<Rc<Inode>>> {
        let st = self.stat(cx, path)?;
        Ok(match st.mode & mode::FMT {
            mode::FIFO | mode::SOCK => Some(self.stand_in(cx, &st)),
            _ => None,
        })
    }
}
