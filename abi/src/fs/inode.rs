//! Inodes that live in the image: the writable layer, tmpfs, memfds.

use super::pages::Data;
use super::perm::mode;
use ftl_core::errno::Errno;
use ftl_core::file::SetAttr;
use ftl_core::io::{Io, err};
use ftl_core::kcore::Env;
use ftl_core::platform::{Stat, Xattr};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A name in a directory of the image.
#[derive(Clone)]
pub enum Entry {
    /// An inode; true: the layer below has this name too.
    Node(Rc<Inode>, bool),
    /// The layer below has it, and it was removed.
    Whiteout,
}

/// A directory's own part.
#[derive(Default)]
pub struct Dir {
    /// Names that differ from the layer below.
    pub entries: RefCell<BTreeMap<Vec<u8>, Entry>>,
    /// The directory below that shows through, as a path from the lower root.
    pub lower: RefCell<Option<Vec<u8>>>,
    /// Attributes are those of the directory below.
    pub transparent: Cell<bool>,
}

/// What an inode holds.
#[allow(missing_docs)]
pub enum Body {
    File(Data),
    Link(Vec<u8>),
    Dir(Dir),
    /// FIFO, socket, device.
    Special,
}

/// An inode.
pub struct Inode {
    /// st_dev and st_ino.
    pub id: (u64, u64),
    /// Type and permission bits.
    pub mode: Cell<u32>,
    /// Owner.
    pub uid: Cell<u32>,
    /// Group.
    pub gid: Cell<u32>,
    /// Names.
    pub nlink: Cell<u64>,
    /// Device number.
    pub rdev: u64,
    /// atime, mtime, ctime, btime.
    pub times: [Cell<i128>; 4],
    /// Contents.
    pub body: Body,
    /// Extended attributes.
    pub xattrs: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// The FIFO or socket that the name stands for, put there by its owner.
    pub attached: RefCell<Option<Rc<dyn Any>>>,
    /// F_SEAL_*; F_SEAL_SEAL for all that is no memfd.
    pub seals: Cell<u32>,
    /// May get a name though it has none (O_TMPFILE without O_EXCL).
    pub linkable: Cell<bool>,
    /// Open for writing / running as a program (ETXTBSY).
    pub writers: Cell<i32>,
}

impl Inode {
    /// A new inode with one name.
    pub fn new(id: (u64, u64), mode: u32, owner: (u32, u32), rdev: u64, now: i128, body: Body) -> Rc<Inode> {
        Rc::new(Inode {
            id,
            nlink: Cell::new(if mode & mode::FMT == mode::DIR { 2 } else { 1 }),
            mode: Cell::new(mode),
            uid: Cell::new(owner.0),
            gid: Cell::new(owner.1),
            rdev,
            times: [Cell::new(now), Cell::new(now), Cell::new(now), Cell::new(now)],
            body,
            xattrs: RefCell::default(),
            attached: RefCell::default(),
            seals: Cell::new(1),
            linkable: Cell::new(false),
            writers: Cell::new(0),
        })
    }

    /// Takes over what the layer below says.
    pub fn adopt(&self, st: &Stat) {
        self.mode.set(st.mode);
        self.uid.set(st.uid);
        self.gid.set(st.gid);
        for (c, v) in self.times.iter().zip([st.atime, st.mtime, st.ctime, st.btime]) {
            c.set(v);
        }
    }

    /// As a directory.
    pub fn dir(&self) -> Option<&Dir> {
        match &self.body {
            Body::Dir(d) => Some(d),
            _ => None,
        }
    }

    /// As a regular file.
    pub fn data(&self) -> Option<&Data> {
        match &self.body {
            Body::File(d) => Some(d),
            _ => None,
        }
    }

    /// Its own attributes.
    pub fn stat(&self) -> Stat {
        let (size, blocks) = match &self.body {
            Body::File(d) => (d.size(), d.allocated() / 512),
            Body::Link(t) => (t.len() as u64, 0),
            Body::Dir(d) => (4096.max(d.entries.borrow().len() as u64 * 20), 8),
            Body::Special => (0, 0),
        };
        Stat {
            dev: self.id.0,
            ino: self.id.1,
            mode: self.mode.get(),
            nlink: self.nlink.get(),
            uid: self.uid.get(),
            gid: self.gid.get(),
            rdev: self.rdev,
            size,
            blksize: 4096,
            blocks,
            atime: self.times[0].get(),
            mtime: self.times[1].get(),
            ctime: self.times[2].get(),
            btime: self.times[3].get(),
        }
    }

    /// Contents or entries changed.
    pub fn touch(&self, env: &mut Env<'_>) {
        let now = env.realtime();
        self.times[1].set(now);
        self.times[2].set(now);
    }

    /// Attributes changed.
    pub fn touch_ctime(&self, env: &mut Env<'_>) {
        self.times[2].set(env.realtime());
    }

    /// Applies a change that was allowed.
    pub fn set_attr(&self, env: &mut Env<'_>, a: &SetAttr) {
        if let Some(m) = a.mode {
            self.mode.set(self.mode.get() & mode::FMT | m & 0o7777);
        }
        if let Some(u) = a.uid {
            self.uid.set(u);
        }
        if let Some(g) = a.gid {
            self.gid.set(g);
        }
        if let Some(t) = a.atime {
            self.times[0].set(t);
        }
        if let Some(t) = a.mtime {
            self.times[1].set(t);
        }
        self.touch_ctime(env);
    }

    /// An operation on extended attributes.
    pub fn xattr(&self, env: &mut Env<'_>, op: &Xattr<'_>) -> Io<Vec<u8>> {
        let mut map = self.xattrs.borrow_mut();
        match op {
            Xattr::Get(name) => return map.get(*name).cloned().ok_or(Errno::ENODATA.into()),
            Xattr::List => {
                let mut out = Vec::new();
                for name in map.keys() {
                    out.extend_from_slice(name);
                    out.push(0);
                }
                return Ok(out);
            }
            Xattr::Set(name, value, flags) => {
                match (flags, map.contains_key(*name)) {
                    (1, true) => return err(Errno::EEXIST),
                    (2, false) => return err(Errno::ENODATA),
                    _ => {}
                }
                map.insert(name.to_vec(), value.to_vec());
            }
            Xattr::Remove(name) => {
                if map.remove(*name).is_none() {
                    return err(Errno::ENODATA);
                }
            }
        }
        drop(map);
        self.touch_ctime(env);
        Ok(Vec::new())
    }
}
