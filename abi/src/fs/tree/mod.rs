//! The image's own file system: tmpfs, and, with a host directory below it, the writable layer.
//!
//! Only what differs from the layer below is in memory: new and copied-up files, removed names
//! (whiteouts), and the directories on the way to them. A directory in memory that only leads
//! somewhere is *transparent*: its attributes are still asked of the host. A renamed directory keeps
//! the path of its lower one ([`Dir::lower`]), so nothing below it is copied.

mod change;
mod layer;
mod up;

use super::inode::{Body, Dir, Entry, Inode};
use super::memfile::MemFile;
use super::perm::{self, R, W, X, mode};
use super::{DirFile, Fs, How, Link, Loc, StatFs, join, split};
use crate::cx::Cx;
use crate::fdtable::oflag;
use ftl_core::errno::Errno;
use ftl_core::file::{FileRef, SetAttr};
use ftl_core::io::{Io, Stop, err};
use ftl_core::platform::{DirEntry, Handle, Stat, Xattr};
use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// See the module.
pub struct Tree {
    kind: &'static str,
    dev: Cell<u64>,
    root: Rc<Inode>,
    /// The directory below.
    lower: Option<Handle>,
    next_ino: Rc<Cell<u64>>,
}

/// Where a path is.
enum Found {
    Mem(Rc<Inode>),
    /// Untouched by the image: a path from the lower root.
    Lower(Vec<u8>),
}

/// A name in a directory.
enum Child {
    /// In memory; true: the layer below has the name too.
    Mem(Rc<Inode>, bool),
    Lower(Vec<u8>, Stat),
}

const NOFOLLOW_OPEN: i32 = oflag::O_NONBLOCK | oflag::O_NOCTTY | oflag::O_NOFOLLOW | oflag::O_CLOEXEC;

impl Tree {
    /// A tmpfs whose root has this mode and owner.
    pub fn tmpfs(k: &crate::kernel::Kernel, bits: u32, owner: (u32, u32), now: i128) -> Rc<Tree> {
        let dev = k.fs.new_dev();
        let body = Body::Dir(Dir::default());
        Rc::new(Tree {
            kind: "tmpfs",
            dev: Cell::new(dev),
            root: Inode::new((dev, 1), mode::DIR | bits, owner, 0, now, body),
            lower: None,
            next_ino: k.fs.next_ino.clone(),
        })
    }

    /// The writable layer over the host directory `lower`, which is `st`.
    pub fn overlay(k: &crate::kernel::Kernel, lower: Handle, st: &Stat) -> Rc<Tree> {
        let dir = Dir::default();
        *dir.lower.borrow_mut() = Some(Vec::new());
        dir.transparent.set(true);
        Rc::new(Tree {
            kind: "overlay",
            dev: Cell::new(st.dev),
            root: Inode::new((st.dev, st.ino), st.mode, (st.uid, st.gid), 0, 0, Body::Dir(dir)),
            lower: Some(lower),
            next_ino: k.fs.next_ino.clone(),
        })
    }

    fn new_id(&self) -> (u64, u64) {
        let n = self.next_ino.get();
        self.next_ino.set(n + 1);
        (self.dev.get(), n)
    }

    fn ask(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Stat> {
        if super::guard::is_foreign(cx) {
            super::guard::search(cx, path, |cx, p| self.ask_plain(cx, p))?;
        }
        self.ask_plain(cx, path)
    }

    fn ask_plain(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Stat> {
        let h = self.lower.ok_or(Errno::ENOENT)?;
        Ok(cx.env.stat_again(h, path)?)
    }

    fn find(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Found> {
        let mut node = self.root.clone();
        let mut rest = path;
        while !rest.is_empty() {
            let (comp, tail) = match rest.iter().position(|b| *b == b'/') {
                Some(i) => (&rest[..i], &rest[i + 1..]),
                None => (rest, &b""[..]),
            };
            let next = {
                let dir = match &node.body {
                    Body::Dir(d) => d,
                    Body::Link(_) => return err(Errno::ELOOP),
                    _ => return err(Errno::ENOTDIR),
                };
                if !dir.transparent.get() {
                    perm::check(&cx.task.creds.borrow(), &node.stat(), X)?;
                }
                match dir.entries.borrow().get(comp) {
                    Some(Entry::Node(n, _)) => n.clone(),
                    Some(Entry::Whiteout) => return err(Errno::ENOENT),
                    None => match &*dir.lower.borrow() {
                        Some(l) => return Ok(Found::Lower(join(l, rest))),
                        None => return err(Errno::ENOENT),
                    },
                }
            };
            node = next;
            rest = tail;
        }
        Ok(Found::Mem(node))
    }

    /// Attributes of a node, asking the host for a transparent directory.
    fn node_stat(&self, cx: &mut Cx<'_>, node: &Inode) -> Io<Stat> {
        if let Some(d) = node.dir()
            && d.transparent.get()
        {
            let lower = d.lower.borrow().clone().unwrap_or_default();
            if let Ok(st) = self.ask(cx, &lower) {
                return Ok(st);
            }
        }
        Ok(node.stat())
    }

    fn child(&self, cx: &mut Cx<'_>, dir: &Dir, name: &[u8]) -> Io<Option<Child>> {
        match dir.entries.borrow().get(name) {
            Some(Entry::Node(n, over)) => return Ok(Some(Child::Mem(n.clone(), *over))),
            Some(Entry::Whiteout) => return Ok(None),
            None => {}
        }
        let Some(path) = dir.lower.borrow().as_ref().map(|l| join(l, name)) else {
            return Ok(None);
        };
        match self.ask(cx, &path) {
            Ok(st) => Ok(Some(Child::Lower(path, st))),
            Err(Stop::Errno(Errno::ENOENT)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn child_stat(&self, cx: &mut Cx<'_>, c: &Child) -> Io<Stat> {
        match c {
            Child::Mem(n, _) => self.node_stat(cx, n),
            Child::Lower(_, st) => Ok(*st),
        }
    }

    /// Names in a directory in memory, merged with those below.
    fn merged(&self, cx: &mut Cx<'_>, dir: &Dir) -> Io<Vec<DirEntry>> {
        let mut all = BTreeMap::new();
        let lower = dir.lower.borrow().clone();
        if let (Some(h), Some(path)) = (self.lower, lower) {
            for e in cx.env.plat.host_list_at(h, &path)? {
                all.insert(e.name.clone(), e);
            }
        }
        for (name, e) in dir.entries.borrow().iter() {
            match e {
                Entry::Whiteout => {
                    all.remove(name);
                }
                Entry::Node(n, _) => {
                    let e = DirEntry {
                        ino: n.id.1,
                        kind: (n.mode.get() >> 12) as u8 & 15,
                        name: name.clone(),
                    };
                    all.insert(name.clone(), e);
                }
            }
        }
        Ok(all.into_values().collect())
    }

    fn open_node(&self, cx: &mut Cx<'_>, loc: &Loc, node: Rc<Inode>, how: &How) -> Io<FileRef> {
        let acc = how.flags & oflag::O_ACCMODE;
        let mut want = [R, W, R | W, R | W][acc as usize];
        if how.flags & oflag::O_TRUNC != 0 {
            want |= W;
        }
        let st = self.node_stat(cx, &node)?;
        match &node.body {
            Body::Link(_) => return err(Errno::ELOOP),
            Body::Dir(_) => {
                if want & W != 0 || how.flags & oflag::O_CREAT != 0 {
                    return err(Errno::EISDIR);
                }
                perm::check(&cx.task.creds.borrow(), &st, want)?;
                return Ok(DirFile::new(cx.k.fs.hold(loc), st));
            }
            _ if how.flags & oflag::O_DIRECTORY != 0 => return err(Errno::ENOTDIR),
            _ => {}
        }
        perm::check(&cx.task.creds.borrow(), &st, want)?;
        match &node.body {
            Body::File(data) => {
                if want & W != 0 && loc.mount.ro.get() {
                    return err(Errno::EROFS);
                }
                if want & W != 0 && node.writers.get() < 0 {
                    return err(Errno::ETXTBSY);
                }
                if how.flags & oflag::O_TRUNC != 0 {
                    data.truncate(cx.env.plat, 0);
                    node.touch(&mut cx.env);
                }
                Ok(MemFile::new(node.clone(), loc.full(), acc != oflag::O_RDONLY))
            }
            _ => super::calls::open::special(cx, &node, st.rdev, how, loc),
        }
    }

    fn open_lower(&self, cx: &mut Cx<'_>, loc: &Loc, path: &[u8], how: &How) -> Io<Option<FileRef>> {
        let h = self.lower.ok_or(Errno::ENOENT)?;
        if super::guard::is_foreign(cx) {
            let st = self.ask(cx, path)?;
            if !perm::is_link(&st) {
                perm::check(&cx.task.creds.borrow(), &st, R)?;
            }
        }
        let new = cx.core.new_handle();
        let flags = NOFOLLOW_OPEN | how.flags & oflag::O_DIRECTORY;
        let st = cx.env.open_again(h, path, flags, 0, new)?;
        let host = cx.core.own(new);
        match st.mode & mode::FMT {
            mode::DIR if how.flags & oflag::O_CREAT != 0 => err(Errno::EISDIR),
            mode::DIR => Ok(Some(DirFile::new(cx.k.fs.hold(loc), st))),
            mode::REG => Ok(Some(super::HostFile::new(&cx.env, host, &st, loc.full(), None))),
            _ => err(Errno::ENXIO),
        }
    }

    /// Regular files that the image wrote and that are in no other place.
    pub fn count_written(&self) -> usize {
        fn walk(n: &Inode) -> usize {
            match &n.body {
                Body::Dir(d) => d
                    .entries
                    .borrow()
                    .values()
                    .map(|e| match e {
                        Entry::Node(n, _) => walk(n),
                        Entry::Whiteout => 0,
                    })
                    .sum(),
                Body::File(_) | Body::Link(_) => 1,
                Body::Special => 0,
            }
        }
        if self.lower.is_some() { walk(&self.root) } else { 0 }
    }
}

impl Fs for Tree {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn stat(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Stat> {
        match self.find(cx, path)? {
            Found::Mem(n) => self.node_stat(cx, &n),
            Found::Lower(p) => self.ask(cx, &p),
        }
    }
    fn readlink(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Link> {
        match self.find(cx, path)? {
            Found::Mem(n) => match &n.body {
                Body::Link(t) => Ok(Link::Text(t.clone())),
                _ => err(Errno::EINVAL),
            },
            Found::Lower(p) => {
                let h = self.lower.ok_or(Errno::ENOENT)?;
                Ok(Link::Text(cx.env.plat.host_readlink_at(h, &p)?))
            }
        }
    }
    fn open(&self, cx: &mut Cx<'_>, loc: &Loc, how: &How) -> Io<FileRef> {
        if how.flags & oflag::O_TMPFILE & !oflag::O_DIRECTORY != 0 {
            return self.tmpfile(cx, loc, how);
        }
        let creat = how.flags & oflag::O_CREAT != 0;
        let excl = creat && how.flags & oflag::O_EXCL != 0;
        let write = how.flags & oflag::O_ACCMODE != oflag::O_RDONLY || how.flags & oflag::O_TRUNC != 0;
        let found = match self.find(cx, &loc.path) {
            Err(Stop::Errno(Errno::ENOENT)) if creat => return self.create_open(cx, loc, how),
            f => f?,
        };
        match found {
            Found::Mem(_) if excl => err(Errno::EEXIST),
            Found::Mem(n) => self.open_node(cx, loc, n, how),
            Found::Lower(p) if !write && !excl => match self.open_lower(cx, loc, &p, how) {
                Ok(Some(f)) => Ok(f),
                Err(Stop::Errno(Errno::ENOENT)) if creat => self.create_open(cx, loc, how),
                Ok(None) => err(Errno::ENXIO),
                Err(e) => Err(e),
            },
            Found::Lower(p) => {
                let st = match self.ask(cx, &p) {
                    Err(Stop::Errno(Errno::ENOENT)) if creat => return self.create_open(cx, loc, how),
                    st => st?,
                };
                if excl {
                    return err(Errno::EEXIST);
                }
                match st.mode & mode::FMT {
                    mode::LNK => return err(Errno::ELOOP),
                    mode::DIR => return err(Errno::EISDIR),
                    mode::REG => {}
                    _ => return err(Errno::ENXIO),
                }
                if how.flags & oflag::O_DIRECTORY != 0 {
                    return err(Errno::ENOTDIR);
                }
                if loc.mount.ro.get() {
                    return err(Errno::EROFS);
                }
                let want = [R, W, R | W, R | W][(how.flags & oflag::O_ACCMODE) as usize];
                perm::check(
                    &cx.task.creds.borrow(),
                    &st,
                    want | if how.flags & oflag::O_TRUNC != 0 { W } else { 0 },
                )?;
                let n = self.copy_up(cx, &loc.path, how.flags & oflag::O_TRUNC == 0)?;
                self.open_node(cx, loc, n, how)
            }
        }
    }
    fn list(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Vec<DirEntry>> {
        match self.find(cx, path)? {
            Found::Mem(n) => match n.dir() {
                Some(d) => self.merged(cx, d),
                None => err(Errno::ENOTDIR),
            },
            Found::Lower(p) => {
                let h = self.lower.ok_or(Errno::ENOENT)?;
                Ok(cx.env.plat.host_list_at(h, &p)?)
            }
        }
    }
    fn mkdir(&self, cx: &mut Cx<'_>, path: &[u8], bits: u32) -> Io<()> {
        self.add(cx, path, mode::DIR | bits, 0, Body::Dir(Dir::default()))
            .map(drop)
    }
    fn mknod(&self, cx: &mut Cx<'_>, path: &[u8], m: u32, dev: u64) -> Io<()> {
        let body = if m & mode::FMT == mode::REG {
            Body::File(super::pages::Data::new(&cx.k.fs.pages))
        } else {
            Body::Special
        };
        self.add(cx, path, m, dev, body).map(drop)
    }
    fn symlink(&self, cx: &mut Cx<'_>, target: &[u8], path: &[u8]) -> Io<()> {
        self.add(cx, path, mode::LNK | 0o777, 0, Body::Link(target.to_vec()))
            .map(drop)
    }
    fn unlink(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<()> {
        self.remove(cx, path, false)
    }
    fn rmdir(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<()> {
        self.remove(cx, path, true)
    }
    fn rename(&self, cx: &mut Cx<'_>, from: &[u8], to: &[u8], flags: u32) -> Io<()> {
        self.do_rename(cx, from, to, flags)
    }
    fn link(&self, cx: &mut Cx<'_>, from: &[u8], to: &[u8]) -> Io<()> {
        self.do_link(cx, from, to)
    }
    fn link_open(&self, cx: &mut Cx<'_>, file: &FileRef, to: &[u8]) -> Io<()> {
        match file.as_any().downcast_ref::<MemFile>() {
            Some(m) if m.inode.id.0 == self.dev.get() => self.link_inode(cx, &m.inode.clone(), to),
            _ => err(Errno::EXDEV),
        }
    }
    fn set_attr(&self, cx: &mut Cx<'_>, path: &[u8], attr: &SetAttr) -> Io<()> {
        let node = self.changeable(cx, path)?;
        node.set_attr(&mut cx.env, attr);
        Ok(())
    }
    fn statfs(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<StatFs> {
        let lower = match self.find(cx, path)? {
            Found::Lower(p) => Some(p),
            Found::Mem(n) => n.dir().and_then(|d| d.lower.borrow().clone()),
        };
        match (self.lower, lower) {
            (Some(h), Some(p)) => Ok(super::volume::statfs(cx.env.plat.host_statfs_at(h, &p)?)),
            (Some(h), None) => Ok(super::volume::statfs(cx.env.plat.host_statfs_at(h, b"")?)),
            _ => Ok(StatFs {
                kind: 0x0102_1994,
                bsize: 4096,
                blocks: cx.k.config.ram() / 8192,
                bfree: (cx.k.config.ram() / 8192).saturating_sub(cx.k.fs.pages.used.get()),
                bavail: (cx.k.config.ram() / 8192).saturating_sub(cx.k.fs.pages.used.get()),
                files: 1 << 20,
                ffree: 1 << 20,
                namelen: 255,
                frsize: 4096,
            }),
        }
    }
    fn xattr(&self, cx: &mut Cx<'_>, path: &[u8], op: &Xattr<'_>) -> Io<Vec<u8>> {
        let node = match (self.find(cx, path)?, op) {
            (Found::Mem(n), _) => n,
            (Found::Lower(p), Xattr::Get(_) | Xattr::List) => {
                let h = self.lower.ok_or(Errno::ENOENT)?;
                return Ok(cx.env.plat.host_xattr_at(h, &p, op)?);
            }
            (Found::Lower(_), _) => self.changeable(cx, path)?,
        };
        node.xattr(&mut cx.env, op)
    }
    fn inode(&self, cx: &mut Cx<'_>, path: &[u8], make: bool) -> Io<Option<Rc<Inode>>> {
        if make {
            return self.changeable(cx, path).map(Some);
        }
        Ok(match self.find(cx, path)? {
            Found::Mem(n) => Some(n),
            Found::Lower(_) => None,
        })
    }
}

fn parent_of(path: &[u8]) -> Io<(&[u8], &[u8])> {
    if path.is_empty() {
        err(Errno::EBUSY)
    } else {
        Ok(split(path))
    }
}
