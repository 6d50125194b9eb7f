//! Bringing things from the layer below into memory.

use super::{Found, Tree};
use crate::cx::Cx;
use crate::fs::inode::{Body, Dir, Entry, Inode};
use crate::fs::pages::Data;
use crate::fs::perm::mode;
use crate::fs::{join, perm, split};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::platform::Stat;
use std::rc::Rc;

const CHUNK: usize = 1 << 18;

impl Tree {
    /// The directory at `path`, in memory.
    pub(super) fn dir_up(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Rc<Inode>> {
        match self.find(cx, path)? {
            Found::Mem(n) => match &n.body {
                Body::Dir(_) => return Ok(n),
                Body::Link(_) => return err(Errno::ELOOP),
                _ => return err(Errno::ENOTDIR),
            },
            Found::Lower(p) => {
                let st = self.ask(cx, &p)?;
                if perm::is_link(&st) {
                    return err(Errno::ELOOP);
                }
                if !perm::is_dir(&st) {
                    return err(Errno::ENOTDIR);
                }
            }
        }
        // Each level that is not there yet becomes a transparent directory.
        let mut node = self.root.clone();
        for comp in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            let dir = node.dir().ok_or(Errno::ENOTDIR)?;
            let known = match dir.entries.borrow().get(comp) {
                Some(Entry::Node(n, _)) => Some(n.clone()),
                Some(Entry::Whiteout) => return err(Errno::ENOENT),
                None => None,
            };
            let next = match known {
                Some(n) => n,
                None => {
                    let lower = dir
                        .lower
                        .borrow()
                        .as_ref()
                        .map(|l| join(l, comp))
                        .ok_or(Errno::ENOENT)?;
                    let st = self.ask(cx, &lower)?;
                    let n = transparent(lower, &st);
                    dir.entries
                        .borrow_mut()
                        .insert(comp.to_vec(), Entry::Node(n.clone(), true));
                    n
                }
            };
            node = next;
        }
        Ok(node)
    }

    /// The inode at `path` with attributes of its own.
    pub(super) fn changeable(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Rc<Inode>> {
        let node = match self.find(cx, path)? {
            Found::Mem(n) => n,
            Found::Lower(_) => self.copy_up(cx, path, true)?,
        };
        self.own(cx, &node)?;
        Ok(node)
    }

    /// A transparent directory gets attributes of its own.
    pub(super) fn own(&self, cx: &mut Cx<'_>, node: &Inode) -> Io<()> {
        if let Some(d) = node.dir()
            && d.transparent.get()
        {
            let st = self.node_stat(cx, node)?;
            node.adopt(&st);
            node.nlink.set(st.nlink);
            d.transparent.set(false);
        }
        Ok(())
    }

    /// Copies what the layer below has at `path` into memory, in place.
    pub(super) fn copy_up(&self, cx: &mut Cx<'_>, path: &[u8], contents: bool) -> Io<Rc<Inode>> {
        let (dir_path, name) = split(path);
        let dir = self.dir_up(cx, dir_path)?;
        let d = dir.dir().ok_or(Errno::ENOTDIR)?;
        let lower = d
            .lower
            .borrow()
            .as_ref()
            .map(|l| join(l, name))
            .ok_or(Errno::ENOENT)?;
        let st = self.ask(cx, &lower)?;
        let node = self.lift(cx, lower, &st, contents)?;
        d.entries
            .borrow_mut()
            .insert(name.to_vec(), Entry::Node(node.clone(), true));
        Ok(node)
    }

    /// An inode with the contents and attributes of `lower`, in no directory yet.
    pub(super) fn lift(&self, cx: &mut Cx<'_>, lower: Vec<u8>, st: &Stat, contents: bool) -> Io<Rc<Inode>> {
        let h = self.lower.ok_or(Errno::ENOENT)?;
        let body = match st.mode & mode::FMT {
            mode::DIR => return Ok(transparent(lower, st)),
            mode::LNK => Body::Link(cx.env.plat.host_readlink_at(h, &lower)?),
            mode::REG => {
                let data = Data::new(&cx.k.fs.pages);
                if contents && st.size > 0 {
                    let new = cx.core.new_handle();
                    cx.env
                        .plat
                        .host_open(h, &lower, super::NOFOLLOW_OPEN, 0, true, new, None)?;
                    let host = cx.core.own(new);
                    let mut buf = vec![0; CHUNK];
                    let mut at = 0;
                    loop {
                        let n = cx.env.plat.host_pread(host.handle, at, &mut buf, None)?.n;
                        if n == 0 {
                            break;
                        }
                        data.write(cx.env.plat, at, &buf[..n])?;
                        at += n as u64;
                    }
                }
                Body::File(data)
            }
            _ => Body::Special,
        };
        let n = Inode::new(
            (st.dev, st.ino),
            st.mode,
            (st.uid, st.gid),
            st.rdev,
            st.mtime,
            body,
        );
        n.adopt(st);
        Ok(n)
    }
}

fn transparent(lower: Vec<u8>, st: &Stat) -> Rc<Inode> {
    let dir = Dir::default();
    *dir.lower.borrow_mut() = Some(lower);
    dir.transparent.set(true);
    let n = Inode::new(
        (st.dev, st.ino),
        st.mode,
        (st.uid, st.gid),
        0,
        st.mtime,
        Body::Dir(dir),
    );
    n.adopt(st);
    n
}

impl Tree {
    /// Brings the directory at `path` into memory: something is mounted there.
    pub fn pin(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<()> {
        self.dir_up(cx, path).map(drop)
    }

    /// Makes a directory without asking who wants it (mount points, /dev).
    pub fn force_dir(&self, cx: &mut Cx<'_>, path: &[u8], bits: u32) -> Io<()> {
        self.force(cx, path, mode::DIR | bits, 0, Body::Dir(Dir::default()))
    }

    /// Puts a regular file at `path`.
    pub fn force_file(
        &self,
        cx: &mut Cx<'_>,
        path: &[u8],
        bits: u32,
        owner: (u32, u32),
        bytes: &[u8],
    ) -> Io<()> {
        let data = Data::new(&cx.k.fs.pages);
        data.write(cx.env.plat, 0, bytes)?;
        self.force(cx, path, mode::REG | bits, 0, Body::File(data))?;
        if let Found::Mem(n) = self.find(cx, path)? {
            n.uid.set(owner.0);
            n.gid.set(owner.1);
        }
        Ok(())
    }

    /// Puts an inode of root's at `path`.
    pub fn force(&self, cx: &mut Cx<'_>, path: &[u8], m: u32, rdev: u64, body: Body) -> Io<()> {
        let (dir, name) = split(path);
        let dir = self.dir_up(cx, dir)?;
        let now = cx.env.realtime();
        let n = Inode::new(self.new_id(), m, (0, 0), rdev, now, body);
        if let Some(d) = dir.dir() {
            d.entries
                .borrow_mut()
                .insert(name.to_vec(), Entry::Node(n, false));
        }
        Ok(())
    }
}
