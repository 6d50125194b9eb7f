//! Creating, removing and renaming names.

use super::{Child, Tree, parent_of};
use crate::cx::Cx;
use crate::fdtable::oflag;
use crate::fs::inode::{Body, Dir, Entry, Inode};
use crate::fs::memfile::MemFile;
use crate::fs::pages::Data;
use crate::fs::perm::{self, W, X, mode};
use crate::fs::{How, Loc, is_within};
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};
use std::rc::Rc;

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

/// The layer below has a name here too, seen or hidden.
fn covers(dir: &Dir, name: &[u8], child: &Option<Child>) -> bool {
    match child {
        Some(Child::Mem(_, over)) => *over,
        Some(Child::Lower(..)) => true,
        None => matches!(dir.entries.borrow().get(name), Some(Entry::Whiteout)),
    }
}

fn put(dir: &Dir, name: &[u8], entry: Option<Entry>) {
    let mut e = dir.entries.borrow_mut();
    match entry {
        Some(v) => e.insert(name.to_vec(), v),
        None => e.remove(name),
    };
}

/// Takes `name` out of `dir`.
fn take(dir: &Dir, name: &[u8], over: bool) {
    put(dir, name, over.then_some(Entry::Whiteout));
}

impl Tree {
    /// Adds a new inode under a free name.
    pub(super) fn add(&self, cx: &mut Cx<'_>, path: &[u8], m: u32, rdev: u64, body: Body) -> Io<Rc<Inode>> {
        let (dir_path, name) = match parent_of(path) {
            Ok(p) => p,
            Err(_) => return err(Errno::EEXIST),
        };
        let dir = self.dir_up(cx, dir_path)?;
        let d = dir.dir().ok_or(Errno::ENOTDIR)?;
        let child = self.child(cx, d, name)?;
        if child.is_some() {
            return err(Errno::EEXIST);
        }
        let over = covers(d, name, &child);
        let dst = self.node_stat(cx, &dir)?;
        let (node, is_dir) = {
            let creds = cx.task.creds.borrow().clone();
            perm::check(&creds, &dst, W | X)?;
            if dst.nlink == 0 {
                return err(Errno::ENOENT);
            }
            let is_dir = m & mode::FMT == mode::DIR;
            let mut m = m;
            let mut gid = creds.fsgid;
            if dst.mode & mode::SGID != 0 {
                gid = dst.gid;
                if is_dir {
                    m |= mode::SGID;
                }
            }
            let now = cx.env.realtime();
            let n = Inode::new(self.new_id(), m, (creds.fsuid, gid), rdev, now, body);
            (n, is_dir)
        };
        self.own(cx, &dir)?;
        put(d, name, Some(Entry::Node(node.clone(), over)));
        dir.touch(&mut cx.env);
        if is_dir {
            dir.nlink.set(dir.nlink.get() + 1);
        }
        Ok(node)
    }

    pub(super) fn create_open(&self, cx: &mut Cx<'_>, loc: &Loc, how: &How) -> Io<FileRef> {
        if loc.mount.ro.get() {
            return err(Errno::EROFS);
        }
        let body = Body::File(Data::new(&cx.k.fs.pages));
        let n = self.add(cx, &loc.path, mode::REG | how.mode & 0o7777, 0, body)?;
        // The new file's mode does not bind its creator.
        let acc = how.flags & oflag::O_ACCMODE;
        Ok(MemFile::new(n, loc.full(), acc != oflag::O_RDONLY))
    }

    pub(super) fn tmpfile(&self, cx: &mut Cx<'_>, loc: &Loc, how: &How) -> Io<FileRef> {
        let st = crate::fs::Fs::stat(self, cx, &loc.path)?;
        if perm::is_link(&st) {
            return err(Errno::ELOOP);
        }
        if !perm::is_dir(&st) {
            return err(Errno::ENOTDIR);
        }
        let acc = how.flags & oflag::O_ACCMODE;
        if acc == oflag::O_RDONLY {
            return err(Errno::EINVAL);
        }
        if loc.mount.ro.get() {
            return err(Errno::EROFS);
        }
        let creds = cx.task.creds.borrow().clone();
        perm::check(&creds, &st, W | X)?;
        let now = cx.env.realtime();
        let id = self.new_id();
        let body = Body::File(Data::new(&cx.k.fs.pages));
        let n = Inode::new(
            id,
            mode::REG | how.mode & 0o7777,
            (creds.fsuid, creds.fsgid),
            0,
            now,
            body,
        );
        n.nlink.set(0);
        n.linkable.set(how.flags & oflag::O_EXCL == 0);
        let mut path = loc.full();
        path.extend_from_slice(format!("/#{}", id.1).as_bytes());
        Ok(MemFile::new(n, path, true))
    }

    pub(super) fn remove(&self, cx: &mut Cx<'_>, path: &[u8], want_dir: bool) -> Io<()> {
        let (dir_path, name) = parent_of(path)?;
        let dir = self.dir_up(cx, dir_path)?;
        let d = dir.dir().ok_or(Errno::ENOTDIR)?;
        let child = self.child(cx, d, name)?;
        let Some(c) = &child else {
            return err(Errno::ENOENT);
        };
        let st = self.child_stat(cx, c)?;
        let dst = self.node_stat(cx, &dir)?;
        perm::may_remove(&cx.task.creds.borrow(), &dst, &st)?;
        if want_dir && !perm::is_dir(&st) {
            return err(Errno::ENOTDIR);
        }
        if !want_dir && perm::is_dir(&st) {
            return err(Errno::EISDIR);
        }
        if want_dir && !self.is_empty(cx, c)? {
            return err(Errno::ENOTEMPTY);
        }
        let over = covers(d, name, &child);
        self.own(cx, &dir)?;
        take(d, name, over);
        dir.touch(&mut cx.env);
        if want_dir {
            dir.nlink.set(dir.nlink.get().saturating_sub(1));
        }
        self.dropped(cx, c);
        Ok(())
    }

    /// One name less.
    fn dropped(&self, cx: &mut Cx<'_>, c: &Child) {
        if let Child::Mem(n, _) = c {
            let left = if n.dir().is_some() {
                0
            } else {
                n.nlink.get().saturating_sub(1)
            };
            n.nlink.set(left);
            n.touch_ctime(&mut cx.env);
        }
    }

    fn is_empty(&self, cx: &mut Cx<'_>, c: &Child) -> Io<bool> {
        match c {
            Child::Mem(n, _) => match n.dir() {
                Some(d) => Ok(self.merged(cx, d)?.is_empty()),
                None => Ok(true),
            },
            Child::Lower(p, _) => {
                let h = self.lower.ok_or(Errno::ENOENT)?;
                Ok(cx.env.plat.host_list_at(h, p)?.is_empty())
            }
        }
    }

    fn raise(&self, cx: &mut Cx<'_>, c: &Child) -> Io<Rc<Inode>> {
        match c {
            Child::Mem(n, _) => Ok(n.clone()),
            Child::Lower(p, st) => self.lift(cx, p.clone(), st, true),
        }
    }

    pub(super) fn do_rename(&self, cx: &mut Cx<'_>, from: &[u8], to: &[u8], flags: u32) -> Io<()> {
        let (dir1, name1) = parent_of(from)?;
        let (dir2, name2) = parent_of(to)?;
        let dir1 = self.dir_up(cx, dir1)?;
        let dir2 = self.dir_up(cx, dir2)?;
        let (d1, d2) = (
            dir1.dir().ok_or(Errno::ENOTDIR)?,
            dir2.dir().ok_or(Errno::ENOTDIR)?,
        );
        let Some(c1) = self.child(cx, d1, name1)? else {
            return err(Errno::ENOENT);
        };
        let c2 = self.child(cx, d2, name2)?;
        if flags & NOREPLACE != 0 && c2.is_some() {
            return err(Errno::EEXIST);
        }
        if flags & EXCHANGE != 0 && c2.is_none() {
            return err(Errno::ENOENT);
        }
        if from != to && is_within(to, from) {
            return err(Errno::EINVAL);
        }
        if from != to && is_within(from, to) {
            return err(if flags & EXCHANGE != 0 {
                Errno::EINVAL
            } else {
                Errno::ENOTEMPTY
            });
        }
        let creds = cx.task.creds.borrow().clone();
        let st1 = self.child_stat(cx, &c1)?;
        let dst1 = self.node_stat(cx, &dir1)?;
        let dst2 = self.node_stat(cx, &dir2)?;
        if from == to {
            return Ok(());
        }
        if let Some(Child::Mem(b, _)) = &c2
            && let Child::Mem(a, _) = &c1
            && Rc::ptr_eq(a, b)
        {
            return Ok(());
        }
        perm::may_remove(&creds, &dst1, &st1)?;
        match &c2 {
            Some(c2) => {
                let st2 = self.child_stat(cx, c2)?;
                perm::may_remove(&creds, &dst2, &st2)?;
                if flags & EXCHANGE == 0 {
                    match (perm::is_dir(&st1), perm::is_dir(&st2)) {
                        (true, false) => return err(Errno::ENOTDIR),
                        (false, true) => return err(Errno::EISDIR),
                        (true, true) if !self.is_empty(cx, c2)? => return err(Errno::ENOTEMPTY),
                        _ => {}
                    }
                }
            }
            None => perm::check(&creds, &dst2, W | X)?,
        }
        let over2 = covers(d2, name2, &c2);
        let over1 = match &c1 {
            Child::Mem(_, over) => *over,
            Child::Lower(..) => true,
        };
        let node1 = self.raise(cx, &c1)?;
        self.own(cx, &dir1)?;
        self.own(cx, &dir2)?;
        if flags & EXCHANGE != 0 {
            let Some(c2) = &c2 else { return err(Errno::ENOENT) };
            let node2 = self.raise(cx, c2)?;
            node2.touch_ctime(&mut cx.env);
            put(d1, name1, Some(Entry::Node(node2, over1)));
        } else {
            take(d1, name1, over1);
            if let Some(c2) = &c2 {
                self.dropped(cx, c2);
            }
            if perm::is_dir(&st1) {
                dir1.nlink.set(dir1.nlink.get().saturating_sub(1));
                if c2.is_none() {
                    dir2.nlink.set(dir2.nlink.get() + 1);
                }
            }
        }
        if !perm::is_dir(&st1) {
            node1.touch_ctime(&mut cx.env);
        }
        put(d2, name2, Some(Entry::Node(node1, over2)));
        dir1.touch(&mut cx.env);
        dir2.touch(&mut cx.env);
        Ok(())
    }

    pub(super) fn do_link(&self, cx: &mut Cx<'_>, from: &[u8], to: &[u8]) -> Io<()> {
        let st = crate::fs::Fs::stat(self, cx, from)?;
        if perm::is_dir(&st) {
            return err(Errno::EPERM);
        }
        // A name that is taken is told before anything is copied.
        match crate::fs::Fs::stat(self, cx, to) {
            Ok(_) => return err(Errno::EEXIST),
            Err(ftl_core::io::Stop::Errno(Errno::ENOENT)) => {}
            Err(e) => return Err(e),
        }
        let node = self.changeable(cx, from)?;
        self.link_inode(cx, &node, to)
    }

    pub(super) fn link_inode(&self, cx: &mut Cx<'_>, node: &Rc<Inode>, to: &[u8]) -> Io<()> {
        let (dir_path, name) = match parent_of(to) {
            Ok(p) => p,
            Err(_) => return err(Errno::EEXIST),
        };
        let dir = self.dir_up(cx, dir_path)?;
        let d = dir.dir().ok_or(Errno::ENOTDIR)?;
        let child = self.child(cx, d, name)?;
        if child.is_some() {
            return err(Errno::EEXIST);
        }
        if node.nlink.get() == 0 && !node.linkable.get() {
            return err(Errno::ENOENT);
        }
        let dst = self.node_stat(cx, &dir)?;
        perm::check(&cx.task.creds.borrow(), &dst, W | X)?;
        let over = covers(d, name, &child);
        self.own(cx, &dir)?;
        node.nlink.set(node.nlink.get() + 1);
        node.touch_ctime(&mut cx.env);
        put(d, name, Some(Entry::Node(node.clone(), over)));
        dir.touch(&mut cx.env);
        Ok(())
    }
}
