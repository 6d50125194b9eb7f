//! inotify(7): what the image itself does to names and contents. Changes made by others on the host
//! are not noticed.

use super::Place;
use super::walk::{self, AT_FDCWD};
use crate::args::{Fd, Path};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use crate::kernel::Kernel;
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::io::{Dst, Io, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use ftl_core::wait::{Poll, WaitQueue};
use ftl_ipc::anon::{DEV_ANON, FIONREAD, Inode, put_int};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

/// Event bits.
#[allow(missing_docs)]
pub mod event {
    pub const MODIFY: u32 = 2;
    pub const ATTRIB: u32 = 4;
    pub const CLOSE_WRITE: u32 = 8;
    pub const CLOSE_NOWRITE: u32 = 0x10;
    pub const OPEN: u32 = 0x20;
    pub const MOVED_FROM: u32 = 0x40;
    pub const MOVED_TO: u32 = 0x80;
    pub const CREATE: u32 = 0x100;
    pub const DELETE: u32 = 0x200;
    pub const DELETE_SELF: u32 = 0x400;
    pub const MOVE_SELF: u32 = 0x800;
    pub const Q_OVERFLOW: u32 = 0x4000;
    pub const IGNORED: u32 = 0x8000;
    pub const ISDIR: u32 = 0x4000_0000;
}

const ALL_EVENTS: u32 = 0xfff;
const ONLYDIR: u32 = 0x100_0000;
const DONT_FOLLOW: u32 = 0x200_0000;
const MASK_CREATE: u32 = 0x1000_0000;
const MASK_ADD: u32 = 0x2000_0000;
const ONESHOT: u32 = 0x8000_0000;
/// fs.inotify.max_queued_events
const MAX_QUEUED: usize = 16384;

struct Watch {
    place: Rc<Place>,
    mask: u32,
}

/// An inotify instance.
pub struct Inotify {
    inode: Inode,
    watches: RefCell<BTreeMap<i32, Watch>>,
    next: Cell<i32>,
    events: RefCell<VecDeque<Vec<u8>>>,
    queue: WaitQueue,
}

/// All instances of an image.
#[derive(Default)]
pub struct Instances {
    list: RefCell<Vec<Weak<Inotify>>>,
    cookie: Cell<u32>,
}

impl Instances {
    /// Somebody watches something.
    pub fn any(&self) -> bool {
        let list = self.list.borrow();
        !list.is_empty()
            && list
                .iter()
                .filter_map(Weak::upgrade)
                .any(|i| !i.watches.borrow().is_empty())
    }
}

impl Inotify {
    fn push(&self, wd: i32, mask: u32, cookie: u32, name: &[u8]) {
        let mut e = Vec::new();
        e.extend_from_slice(&wd.to_le_bytes());
        e.extend_from_slice(&mask.to_le_bytes());
        e.extend_from_slice(&cookie.to_le_bytes());
        let len = if name.is_empty() {
            0
        } else {
            (name.len() + 1).next_multiple_of(16)
        };
        e.extend_from_slice(&(len as u32).to_le_bytes());
        e.extend_from_slice(name);
        e.resize(16 + len, 0);
        let mut q = self.events.borrow_mut();
        // An event like the last one is not told twice.
        if q.back() == Some(&e) {
            return;
        }
        match q.len() {
            n if n < MAX_QUEUED => q.push_back(e),
            MAX_QUEUED => {
                let mut o = vec![0; 16];
                o[..4].copy_from_slice(&(-1i32).to_le_bytes());
                o[4..8].copy_from_slice(&event::Q_OVERFLOW.to_le_bytes());
                q.push_back(o);
            }
            _ => return,
        }
        drop(q);
        self.queue.notify(Poll::IN | Poll::RDNORM);
    }

    fn remove(&self, wd: i32) -> bool {
        let gone = self.watches.borrow_mut().remove(&wd).is_some();
        if gone {
            self.push(wd, event::IGNORED, 0, b"");
        }
        gone
    }
}

impl File for Inotify {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:inotify".to_vec()
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        let mut done = 0;
        loop {
            let Some(e) = self.events.borrow().front().cloned() else {
                return if done > 0 { Ok(done) } else { err(Errno::EAGAIN) };
            };
            if e.len() as u64 > dst.remaining() {
                return if done > 0 { Ok(done) } else { err(Errno::EINVAL) };
            }
            match dst.put(env.plat, &e) {
                Ok(_) => done += e.len() as u64,
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return err(e),
            }
            self.events.borrow_mut().pop_front();
        }
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        if self.events.borrow().is_empty() {
            Poll::empty()
        } else {
            Poll::IN | Poll::RDNORM
        }
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.inode.stat(DEV_ANON, 0o600))
    }
    fn ioctl(&self, env: &mut Env<'_>, cmd: u64, arg: u64) -> Io<u64> {
        if cmd != FIONREAD {
            return err(Errno::ENOTTY);
        }
        put_int(env, arg, self.events.borrow().iter().map(Vec::len).sum())
    }
}

/// Something happened to `name` in the directory `dir` (absolute paths of the image).
pub fn tell(k: &Kernel, dir: &[u8], name: &[u8], mask: u32, cookie: u32) {
    let mut own = dir.to_vec();
    if own.last() != Some(&b'/') {
        own.push(b'/');
    }
    own.extend_from_slice(name);
    let self_mask = match mask & ALL_EVENTS {
        event::DELETE => event::DELETE_SELF,
        event::MOVED_FROM => event::MOVE_SELF,
        event::CREATE | event::MOVED_TO => 0,
        m => m,
    };
    let list: Vec<_> =
        k.fs.inotify
            .list
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
    for i in list {
        let mut gone = Vec::new();
        let hits: Vec<(i32, u32, bool)> = {
            let watches = i.watches.borrow();
            watches
                .iter()
                .filter_map(|(wd, w)| {
                    let at = w.place.loc().full();
                    if at == dir && w.mask & mask & ALL_EVENTS != 0 {
                        Some((*wd, w.mask, true))
                    } else if at == own {
                        Some((*wd, w.mask, false))
                    } else {
                        None
                    }
                })
                .collect()
        };
        for (wd, want, child) in hits {
            if child {
                i.push(wd, mask, cookie, name);
            } else if want & self_mask != 0 {
                i.push(wd, self_mask | mask & event::ISDIR, 0, b"");
            }
            if !child && self_mask == event::DELETE_SELF || want & ONESHOT != 0 {
                gone.push(wd);
            }
        }
        for wd in gone {
            i.remove(wd);
        }
    }
}

/// Something happened to the file at `path`.
pub fn tell_path(k: &Kernel, path: &[u8], mask: u32) {
    if path.first() == Some(&b'/') {
        let cut = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let dir = if cut == 0 { &b"/"[..] } else { &path[..cut] };
        tell(k, dir, &path[cut + 1..], mask, 0);
    }
}

/// A rename; both names get one cookie.
pub fn renamed(k: &Kernel, from: &[u8], to: &[u8], dir: bool) {
    k.fs.inotify.cookie.set(k.fs.inotify.cookie.get() + 1);
    let cookie = k.fs.inotify.cookie.get();
    let isdir = if dir { event::ISDIR } else { 0 };
    for (path, mask) in [(from, event::MOVED_FROM), (to, event::MOVED_TO)] {
        let cut = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let parent = if cut == 0 { &b"/"[..] } else { &path[..cut] };
        tell(k, parent, &path[cut + 1..], mask | isdir, cookie);
    }
}

/// The last descriptor of an open file went.
pub fn closed(k: &Kernel, open: &OpenFile) {
    if !k.fs.inotify.any() || open.flags.get() & oflag::O_PATH != 0 {
        return;
    }
    let mask = if open.writable() {
        event::CLOSE_WRITE
    } else {
        event::CLOSE_NOWRITE
    };
    tell_path(k, &open.file.describe(), mask);
}

/// inotify_init1(2)
pub fn sys_inotify_init1(cx: &mut Cx<'_>, flags: i32) -> Io<u64> {
    if flags & !(oflag::O_CLOEXEC | oflag::O_NONBLOCK) != 0 {
        return err(Errno::EINVAL);
    }
    let (uid, gid) = {
        let c = cx.task.creds.borrow();
        (c.fsuid, c.fsgid)
    };
    let i = Rc::new(Inotify {
        inode: Inode::new(&mut cx.env, uid, gid),
        watches: RefCell::default(),
        next: Cell::new(1),
        events: RefCell::default(),
        queue: WaitQueue::new(),
    });
    let fd = cx.new_fd(
        OpenFile::new(i.clone(), flags & oflag::O_NONBLOCK),
        flags & oflag::O_CLOEXEC != 0,
    )?;
    let mut list = cx.k.fs.inotify.list.borrow_mut();
    list.retain(|w| w.strong_count() > 0);
    list.push(Rc::downgrade(&i));
    Ok(fd as u64)
}

/// inotify_init(2)
pub fn sys_inotify_init(cx: &mut Cx<'_>) -> Io<u64> {
    sys_inotify_init1(cx, 0)
}

/// inotify_add_watch(2)
pub fn sys_inotify_add_watch(cx: &mut Cx<'_>, fd: Fd, path: Path, mask: u32) -> Io<u64> {
    if mask & ALL_EVENTS == 0 || mask & (MASK_ADD | MASK_CREATE) == MASK_ADD | MASK_CREATE {
        return err(Errno::EINVAL);
    }
    let open = cx.task.files().get(fd.0)?;
    let Some(i) = open.file.as_any().downcast_ref::<Inotify>() else {
        return err(Errno::EINVAL);
    };
    let p = cx.path(path.0)?;
    let loc = walk::with(cx, AT_FDCWD, &p, mask & DONT_FOLLOW == 0, |cx, t| {
        let st = t.stat(cx)?;
        if mask & ONLYDIR != 0 && !super::perm::is_dir(&st) {
            return err(Errno::ENOTDIR);
        }
        super::perm::check(&cx.task.creds.borrow(), &st, super::perm::R)?;
        Ok(t.loc.clone())
    })?;
    let mut watches = i.watches.borrow_mut();
    if let Some((wd, w)) = watches.iter_mut().find(|(_, w)| w.place.loc().same(&loc)) {
        if mask & MASK_CREATE != 0 {
            return err(Errno::EEXIST);
        }
        w.mask = if mask & MASK_ADD != 0 { w.mask | mask } else { mask };
        return Ok(*wd as u64);
    }
    let wd = i.next.get();
    i.next.set(wd + 1);
    let place = cx.k.fs.hold(&loc);
    watches.insert(wd, Watch { place, mask });
    Ok(wd as u64)
}

/// inotify_rm_watch(2)
pub fn sys_inotify_rm_watch(cx: &mut Cx<'_>, fd: Fd, wd: i32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let Some(i) = open.file.as_any().downcast_ref::<Inotify>() else {
        return err(Errno::EINVAL);
    };
    if i.remove(wd) { Ok(0) } else { err(Errno::EINVAL) }
}
