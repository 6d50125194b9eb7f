//! epoll (fs/eventpoll.c).
//!
//! An item listens on its file's queue and puts itself on the ready list when it is notified, so a
//! wait costs the number of ready items, not of watched ones. Whether an item is really ready is
//! asked of the file when events are collected. Level-triggered items go back to the end of the
//! list and leave it when a later look finds them idle.
//!
//! An item belongs to a file description, not to a descriptor, and holds it weakly: when the last
//! descriptor is gone the item is dead, and is taken out when somebody next comes across it.

use crate::anon::{DEV_ANON, Inode};
use ftl_core::errno::Errno;
use ftl_core::file::{File, FileRef};
use ftl_core::io::{Io, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use ftl_core::wait::{Listener, Poll, URING_WAKE, WaitQueue};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

/// Behaviour bits of epoll_event.events.
#[allow(missing_docs)]
pub mod flag {
    pub const EXCLUSIVE: u32 = 1 << 28;
    pub const WAKEUP: u32 = 1 << 29;
    pub const ONESHOT: u32 = 1 << 30;
    pub const ET: u32 = 1 << 31;
    /// All of them (EP_PRIVATE_BITS).
    pub const PRIVATE: u32 = EXCLUSIVE | WAKEUP | ONESHOT | ET;
}

/// EP_MAX_NESTS
const MAX_NESTS: usize = 4;
const ALWAYS: u32 = Poll::ERR.bits() | Poll::HUP.bits();
const READABLE: Poll = Poll::IN.union(Poll::RDNORM);

/// Takes event number n: its bits and its data.
pub type Emit<'a> = dyn FnMut(&mut Env<'_>, usize, u32, u64) -> Result<(), Errno> + 'a;

/// An open file description, as epoll sees it.
pub trait Description: Any {
    /// The object.
    fn file(&self) -> &FileRef;
}

struct Item {
    key: (i32, u64),
    desc: Weak<dyn Description>,
    /// The file's queue, to leave it.
    source: WaitQueue,
    events: Cell<u32>,
    data: Cell<u64>,
    /// On the ready list.
    queued: Cell<bool>,
    /// Taken out of the set; may still be on the ready list.
    removed: Cell<bool>,
    owner: Weak<Epoll>,
    me: Weak<Item>,
}

impl Listener for Item {
    fn notify(&self, _key: u64, mask: u32) {
        if mask & self.events.get() & !flag::PRIVATE == 0 {
            return;
        }
        if let (Some(ep), Some(me)) = (self.owner.upgrade(), self.me.upgrade()) {
            ep.make_ready(me, mask & URING_WAKE);
        }
    }
    fn takes(&self, mask: u32) -> bool {
        let waited_for = self.owner.upgrade().is_some_and(|ep| !ep.queue.is_empty());
        waited_for && mask & self.events.get() & !flag::PRIVATE != 0
    }
}

impl Item {
    fn ready(&self, env: &mut Env<'_>, file: &FileRef) -> u32 {
        file.poll(env).bits() & self.events.get()
    }
    fn leave(&self) {
        self.removed.set(true);
        let me: Weak<dyn Listener> = self.me.clone();
        self.source.forget(&me, self.key.1);
    }
}

/// An epoll instance.
pub struct Epoll {
    me: Weak<Epoll>,
    items: RefCell<BTreeMap<(i32, u64), Rc<Item>>>,
    ready: RefCell<VecDeque<Rc<Item>>>,
    next: Cell<u64>,
    queue: WaitQueue,
    /// Instances that watch this one.
    above: RefCell<Vec<Weak<Epoll>>>,
    inode: Inode,
}

impl Drop for Epoll {
    fn drop(&mut self) {
        for item in self.items.get_mut().values() {
            item.leave();
        }
    }
}

impl Epoll {
    /// The open files that are watched under descriptor `fd`, in the order of their addition (KCMP_EPOLL_TFD).
    pub fn targets_of(&self, fd: i32) -> Vec<Rc<dyn Description>> {
        let items = self.items.borrow();
        let of_fd = items.range((fd, 0)..=(fd, u64::MAX));
        of_fd.filter_map(|(_, i)| i.desc.upgrade()).collect()
    }

    /// Watches nothing.
    pub fn new(env: &mut Env<'_>) -> Rc<Epoll> {
        let inode = Inode::new(env, 0, 0);
        Rc::new_cyclic(|me| Epoll {
            me: me.clone(),
            items: RefCell::default(),
            ready: RefCell::default(),
            next: Cell::new(0),
            queue: WaitQueue::new(),
            above: RefCell::default(),
            inode,
        })
    }

    /// What a waiter waits on.
    pub fn waiters(&self) -> &WaitQueue {
        &self.queue
    }

    /// `passed`: what those above must know of the wake.
    fn make_ready(&self, item: Rc<Item>, passed: u32) {
        if !item.queued.replace(true) {
            self.ready.borrow_mut().push_back(item);
        }
        self.queue.wake(1, READABLE.bits() | passed);
    }

    /// The live item for a description under `fd`; dead ones under that number are taken out.
    fn find(&self, fd: i32, desc: &Rc<dyn Description>) -> Option<Rc<Item>> {
        let under: Vec<Rc<Item>> = {
            let items = self.items.borrow();
            items
                .range((fd, 0)..=(fd, u64::MAX))
                .map(|(_, i)| i.clone())
                .collect()
        };
        let mut found = None;
        for item in under {
            match item.desc.upgrade() {
                Some(d) if Rc::ptr_eq(&d, desc) => found = Some(item),
                Some(_) => {}
                None => self.remove(&item),
            }
        }
        found
    }

    fn remove(&self, item: &Rc<Item>) {
        self.items.borrow_mut().remove(&item.key);
        item.leave();
    }

    /// Most epoll instances below this one; `None` if `me` is among them.
    fn depth_below(&self, me: &Epoll, level: usize) -> Option<usize> {
        if std::ptr::eq(self, me) || level > MAX_NESTS {
            return None;
        }
        let below: Vec<Rc<dyn Description>> = {
            let items = self.items.borrow();
            items.values().filter_map(|i| i.desc.upgrade()).collect()
        };
        let mut most = 0;
        for d in below {
            if let Some(ep) = d.file().as_any().downcast_ref::<Epoll>() {
                most = most.max(1 + ep.depth_below(me, level + 1)?);
            }
        }
        Some(most)
    }

    fn depth_above(&self) -> usize {
        let mut above = self.above.borrow_mut();
        above.retain(|w| w.strong_count() > 0);
        let list: Vec<Rc<Epoll>> = above.iter().filter_map(Weak::upgrade).collect();
        drop(above);
        list.iter().map(|e| 1 + e.depth_above()).max().unwrap_or(0)
    }

    /// EPOLL_CTL_ADD
    pub fn add(
        &self,
        env: &mut Env<'_>,
        fd: i32,
        desc: &Rc<dyn Description>,
        events: u32,
        data: u64,
    ) -> Result<(), Errno> {
        let inner = desc.file().as_any().downcast_ref::<Epoll>();
        if let Some(inner) = inner {
            let below = inner.depth_below(self, 0).ok_or(Errno::ELOOP)?;
            if below + 1 + self.depth_above() > MAX_NESTS {
                return Err(Errno::ELOOP);
            }
        }
        if self.find(fd, desc).is_some() {
            return Err(Errno::EEXIST);
        }
        let source = desc.file().queue().ok_or(Errno::EPERM)?;
        let n = self.next.get();
        self.next.set(n + 1);
        let item = Rc::new_cyclic(|me| Item {
            key: (fd, n),
            desc: Rc::downgrade(desc),
            source: source.clone(),
            events: Cell::new(events | ALWAYS),
            data: Cell::new(data),
            queued: Cell::new(false),
            removed: Cell::new(false),
            owner: self.me.clone(),
            me: me.clone(),
        });
        if let Some(inner) = inner {
            inner.above.borrow_mut().push(self.me.clone());
        }
        self.items.borrow_mut().insert(item.key, item.clone());
        let listener: Rc<dyn Listener> = item.clone();
        // The mask may change later (EPOLL_CTL_MOD), so the item filters for itself.
        source.listen(
            Rc::downgrade(&listener),
            n,
            u32::MAX,
            events & flag::EXCLUSIVE != 0,
        );
        if item.ready(env, desc.file()) != 0 {
            self.make_ready(item, 0);
        }
        Ok(())
    }

    /// EPOLL_CTL_MOD
    pub fn modify(
        &self,
        env: &mut Env<'_>,
        fd: i32,
        desc: &Rc<dyn Description>,
        events: u32,
        data: u64,
    ) -> Result<(), Errno> {
        let item = self.find(fd, desc).ok_or(Errno::ENOENT)?;
        if item.events.get() & flag::EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        item.events.set(events | ALWAYS);
        item.data.set(data);
        if item.ready(env, desc.file()) != 0 {
            self.make_ready(item, 0);
        }
        Ok(())
    }

    /// EPOLL_CTL_DEL
    pub fn delete(&self, fd: i32, desc: &Rc<dyn Description>) -> Result<(), Errno> {
        let item = self.find(fd, desc).ok_or(Errno::ENOENT)?;
        if let Some(inner) = desc.file().as_any().downcast_ref::<Epoll>() {
            let mut above = inner.above.borrow_mut();
            if let Some(i) = above.iter().position(|w| Weak::ptr_eq(w, &self.me)) {
                above.remove(i);
            }
        }
        self.remove(&item);
        Ok(())
    }

    /// Takes the next item off the ready list, with its file, unless it is dead.
    fn next_ready(&self) -> Option<(Rc<Item>, Rc<dyn Description>)> {
        let item = self.ready.borrow_mut().pop_front()?;
        item.queued.set(false);
        if item.removed.get() {
            return None;
        }
        let desc = item.desc.upgrade();
        if desc.is_none() {
            self.remove(&item);
        }
        Some((item, desc?))
    }

    fn requeue(&self, item: Rc<Item>, front: bool) {
        if !item.queued.replace(true) {
            let mut ready = self.ready.borrow_mut();
            if front {
                ready.push_front(item);
            } else {
                ready.push_back(item);
            }
        }
    }

    /// Collects at most `max` events, each handed to `emit(env, index, events, data)`. The number;
    /// 0 if nothing is ready. A fault ends it, and is returned if it was the first.
    pub fn collect(&self, env: &mut Env<'_>, max: usize, emit: &mut Emit<'_>) -> Result<usize, Errno> {
        let mut looks = self.ready.borrow().len();
        let mut n = 0;
        while looks > 0 && n < max {
            looks -= 1;
            let Some((item, desc)) = self.next_ready() else {
                continue;
            };
            let events = item.ready(env, desc.file());
            if events == 0 {
                continue;
            }
            if let Err(e) = emit(env, n, events, item.data.get()) {
                self.requeue(item, true);
                return if n > 0 { Ok(n) } else { Err(e) };
            }
            n += 1;
            let bits = item.events.get();
            if bits & flag::ONESHOT != 0 {
                item.events.set(bits & flag::PRIVATE);
            } else if bits & flag::ET == 0 {
                self.requeue(item, false);
            }
        }
        if n > 0 && !self.queue.is_empty() && !self.ready.borrow().is_empty() {
            // Level-triggered events are everybody's: the next waiter looks for itself.
            self.queue.wake_n(1, READABLE.bits());
        }
        Ok(n)
    }

    /// What is watched, for /proc/self/fdinfo: descriptor, events, data.
    pub fn watched(&self) -> Vec<(i32, u32, u64)> {
        let items = self.items.borrow();
        let live = items.values().filter(|i| i.desc.strong_count() > 0);
        live.map(|i| (i.key.0, i.events.get(), i.data.get())).collect()
    }
}

impl File for Epoll {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventpoll]".to_vec()
    }
    fn poll(&self, env: &mut Env<'_>) -> Poll {
        // Items that are not ready any more leave the list here too.
        while !self.ready.borrow().is_empty() {
            let Some((item, desc)) = self.next_ready() else {
                continue;
            };
            if item.ready(env, desc.file()) != 0 {
                self.requeue(item, true);
                return READABLE;
            }
        }
        Poll::empty()
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }
    fn seek(&self, _: &mut Env<'_>, pos: u64, _: i64, _: i32) -> Io<u64> {
        // noop_llseek
        Ok(pos)
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.inode.stat(DEV_ANON, 0o600))
    }
    fn ioctl(&self, _: &mut Env<'_>, _: u64, _: u64) -> Io<u64> {
        err(Errno::EINVAL)
    }
}

#[cfg(test)]
#[path = "epoll_tests.rs"]
mod tests;
