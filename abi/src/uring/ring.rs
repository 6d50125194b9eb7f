//! A ring: memory that it shares with the guest, completions, and what is under way.

use super::job::{Job, State};
use super::num::{Cqe, SQE_LEN, Sqe, setup, sqf};
use super::rsrc::{Group, Restrictions, Table};
use crate::fdtable::OpenFile;
use crate::fs::pages::Data;
use crate::task::Creds;
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::io::{Io, err};
use ftl_core::kcore::Env;
use ftl_core::platform::{Backing, Ns, Platform, Stat};
use ftl_core::timer::{TimerTarget, Timers};
use ftl_core::wait::{Listener, Poll, SpaceId, Tid, URING_WAKE, WaitQueue, Wake};
use ftl_ipc::anon::{DEV_ANON, Inode};
use ftl_ipc::eventfd::EventFd;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

/// Offsets in the rings' memory, as Linux 6.18 has them (struct io_rings).
pub mod at {
    #![allow(missing_docs)]
    pub const SQ_HEAD: u64 = 0;
    pub const SQ_TAIL: u64 = 4;
    pub const CQ_HEAD: u64 = 8;
    pub const CQ_TAIL: u64 = 12;
    pub const SQ_MASK: u64 = 16;
    pub const CQ_MASK: u64 = 20;
    pub const SQ_ENTRIES: u64 = 24;
    pub const CQ_ENTRIES: u64 = 28;
    pub const SQ_DROPPED: u64 = 32;
    pub const SQ_FLAGS: u64 = 36;
    pub const CQ_FLAGS: u64 = 40;
    pub const CQ_OVERFLOW: u64 = 44;
    pub const CQES: u64 = 64;
}

/// IORING_OFF_*
const OFF_CQ_RING: u64 = 0x800_0000;
const OFF_SQES: u64 = 0x1000_0000;
const OFF_MASK: u64 = 0xf800_0000;

/// Work that waits for its place: the kernel goes through it before any guest code runs again.
#[derive(Default)]
pub struct Rings {
    pub(super) all: RefCell<Vec<Weak<Ring>>>,
    pub(super) ready: RefCell<VecDeque<(Weak<Ring>, u64)>>,
    /// The last request's number.
    next: Cell<u64>,
    /// The space whose memory can be reached: requests of others wait for theirs.
    pub(super) here: Cell<Option<SpaceId>>,
    /// IORING_REGISTER_RING_FDS, by task.
    pub(super) registered: RefCell<BTreeMap<Tid, Vec<Option<Rc<OpenFile>>>>>,
}

impl Rings {
    /// Some request could go on.
    pub fn has_work(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    pub(super) fn live(&self) -> Vec<Rc<Ring>> {
        let mut all = self.all.borrow_mut();
        all.retain(|r| r.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

/// An instance of io_uring.
pub struct Ring {
    me: Weak<Ring>,
    pub(super) rings: Rc<Rings>,
    inode: Inode,
    /// IORING_SETUP_*
    pub(super) flags: u32,
    pub(super) sq_entries: u32,
    pub(super) cq_entries: u32,
    memory: Data,
    sqes: Data,
    sq_head: Cell<u32>,
    cq_tail: Cell<u32>,
    sq_flags: Cell<u32>,
    overflow: RefCell<VecDeque<Cqe>>,
    /// Completions since the last [`Ring::commit`].
    dirty: Cell<bool>,
    pub(super) queue: WaitQueue,
    /// Requests that were started and have not ended.
    pub(super) jobs: RefCell<BTreeMap<u64, Rc<Job>>>,
    /// With SETUP_DEFER_TASKRUN: what could go on waits for io_uring_enter.
    pub(super) put_off: RefCell<VecDeque<u64>>,
    /// Requests whose turn has come with the end of the one before them.
    pub(super) started: RefCell<VecDeque<Rc<Job>>>,
    /// Requests that end with a number of completions.
    pub(super) counted: Cell<u32>,
    /// Chains that wait for what was submitted before them (IOSQE_IO_DRAIN).
    pub(super) drain: RefCell<VecDeque<Rc<Job>>>,
    /// The next chain drains too: the one before had such a request in its middle.
    pub(super) drain_next: Cell<bool>,
    /// An entry has asked for no completion.
    pub(super) skips: Cell<bool>,
    /// Timeouts that have ended; waiters look whether it changed.
    pub(super) timeouts: Cell<u32>,
    pub(super) files: RefCell<Option<Table<Rc<OpenFile>>>>,
    /// Where IORING_FILE_INDEX_ALLOC may look: first, end.
    pub(super) alloc_range: Cell<(u32, u32)>,
    pub(super) buffers: RefCell<Option<Table<(u64, u64)>>>,
    pub(super) groups: RefCell<BTreeMap<u16, Group>>,
    /// Counts completions; `true`: only those of workers (IORING_REGISTER_EVENTFD_ASYNC).
    pub(super) eventfd: RefCell<Option<(Rc<OpenFile>, bool)>>,
    /// A request ended that Linux gives to a worker (IOSQE_ASYNC).
    pub(super) worker: Cell<bool>,
    pub(super) personalities: RefCell<BTreeMap<u16, Rc<Creds>>>,
    pub(super) restrictions: RefCell<Option<Restrictions>>,
    pub(super) disabled: Cell<bool>,
    /// With SETUP_SINGLE_ISSUER: who.
    pub(super) issuer: Cell<Option<Tid>>,
}

/// What io_uring_setup has decided.
pub(super) struct Shape {
    pub flags: u32,
    pub sq_entries: u32,
    pub cq_entries: u32,
}

impl Shape {
    fn cqe_len(&self) -> u64 {
        if self.flags & setup::CQE32 != 0 { 32 } else { 16 }
    }
    fn sqe_len(&self) -> u64 {
        if self.flags & setup::SQE128 != 0 {
            2 * SQE_LEN
        } else {
            SQE_LEN
        }
    }
    /// Offset of the index array, and bytes of the whole.
    pub fn array(&self) -> (u64, u64) {
        let at = (at::CQES + u64::from(self.cq_entries) * self.cqe_len()).next_multiple_of(64);
        if self.flags & setup::NO_SQARRAY != 0 {
            return (at, at);
        }
        (at, at + 4 * u64::from(self.sq_entries))
    }
}

fn filled(data: Data, plat: &mut dyn Platform, len: u64) -> Result<Data, Errno> {
    data.allocate(plat, 0, len)?;
    data.grow(len);
    Ok(data)
}

impl Ring {
    pub(super) fn new(
        env: &mut Env<'_>,
        pages: &Rc<crate::fs::pages::PageStore>,
        rings: &Rc<Rings>,
        shape: &Shape,
        issuer: Option<Tid>,
    ) -> Result<Rc<Ring>, Errno> {
        let memory = filled(Data::new(pages), env.plat, shape.array().1)?;
        let sqes = filled(
            Data::new(pages),
            env.plat,
            u64::from(shape.sq_entries) * shape.sqe_len(),
        )?;
        let inode = Inode::new(env, 0, 0);
        let sq_flags = if shape.flags & setup::SQPOLL != 0 {
            // There is no thread that polls: every submission has to be announced.
            sqf::NEED_WAKEUP
        } else {
            0
        };
        let ring = Rc::new_cyclic(|me| Ring {
            me: me.clone(),
            rings: rings.clone(),
            inode,
            flags: shape.flags,
            sq_entries: shape.sq_entries,
            cq_entries: shape.cq_entries,
            memory,
            sqes,
            sq_head: Cell::new(0),
            cq_tail: Cell::new(0),
            sq_flags: Cell::new(sq_flags),
            overflow: RefCell::default(),
            dirty: Cell::new(false),
            queue: WaitQueue::new(),
            jobs: RefCell::default(),
            put_off: RefCell::default(),
            started: RefCell::default(),
            counted: Cell::new(0),
            drain: RefCell::default(),
            drain_next: Cell::new(false),
            skips: Cell::new(false),
            timeouts: Cell::new(0),
            files: RefCell::default(),
            alloc_range: Cell::new((0, u32::MAX)),
            buffers: RefCell::default(),
            groups: RefCell::default(),
            eventfd: RefCell::default(),
            worker: Cell::new(false),
            personalities: RefCell::default(),
            restrictions: RefCell::default(),
            disabled: Cell::new(shape.flags & setup::R_DISABLED != 0),
            issuer: Cell::new(issuer),
        });
        let plat = &mut *env.plat;
        for (at, v) in [
            (at::SQ_MASK, shape.sq_entries - 1),
            (at::CQ_MASK, shape.cq_entries - 1),
            (at::SQ_ENTRIES, shape.sq_entries),
            (at::CQ_ENTRIES, shape.cq_entries),
            (at::SQ_FLAGS, sq_flags),
        ] {
            ring.store(plat, at, v);
        }
        rings.all.borrow_mut().push(Rc::downgrade(&ring));
        Ok(ring)
    }

    /// The ring behind a description.
    pub fn of(open: &OpenFile) -> Option<&Ring> {
        open.file.as_any().downcast_ref::<Ring>()
    }

    pub(super) fn shared(&self) -> Rc<Ring> {
        self.me.upgrade().unwrap_or_else(|| unreachable!("a method runs"))
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn load(&self, plat: &mut dyn Platform, at: u64) -> u32 {
        let mut b = [0; 4];
        self.memory.read(plat, at, &mut b);
        u32::from_le_bytes(b)
    }

    fn store(&self, plat: &mut dyn Platform, at: u64, v: u32) {
        // The whole of the memory was allocated when the ring was made.
        let _ = self.memory.write(plat, at, &v.to_le_bytes());
    }

    fn set_sq_flags(&self, plat: &mut dyn Platform, set: u32, clear: u32) {
        let flags = (self.sq_flags.get() | set) & !clear;
        if self.sq_flags.replace(flags) != flags {
            self.store(plat, at::SQ_FLAGS, flags);
        }
    }

    fn shape(&self) -> Shape {
        Shape {
            flags: self.flags,
            sq_entries: self.sq_entries,
            cq_entries: self.cq_entries,
        }
    }

    /// Entries that wait to be taken.
    pub(super) fn submitted(&self, plat: &mut dyn Platform) -> u32 {
        self.load(plat, at::SQ_TAIL)
            .wrapping_sub(self.sq_head.get())
            .min(self.sq_entries)
    }

    /// Takes the next entry; `None`: its index leads nowhere, and it is dropped.
    pub(super) fn take(&self, plat: &mut dyn Platform) -> Option<Sqe> {
        let head = self.sq_head.get();
        let mut index = head & (self.sq_entries - 1);
        if !self.has(setup::NO_SQARRAY) {
            index = self.load(plat, self.shape().array().0 + u64::from(index) * 4);
        }
        self.sq_head.set(head.wrapping_add(1));
        if index >= self.sq_entries {
            let dropped = self.load(plat, at::SQ_DROPPED).wrapping_add(1);
            self.store(plat, at::SQ_DROPPED, dropped);
            return None;
        }
        let mut b = [0; SQE_LEN as usize];
        self.sqes
            .read(plat, u64::from(index) * self.shape().sqe_len(), &mut b);
        Some(Sqe::parse(&b))
    }

    /// Tells the guest how far its entries were taken.
    pub(super) fn taken(&self, plat: &mut dyn Platform) {
        self.store(plat, at::SQ_HEAD, self.sq_head.get());
    }

    /// Completions that the guest has not taken.
    pub(super) fn available(&self, plat: &mut dyn Platform) -> u32 {
        self.cq_tail.get().wrapping_sub(self.load(plat, at::CQ_HEAD))
    }

    /// Same without those that did not fit.
    pub(super) fn is_empty(&self, plat: &mut dyn Platform) -> bool {
        self.available(plat) == 0
    }

    fn push(&self, plat: &mut dyn Platform, c: &Cqe) -> bool {
        if self.available(plat).min(self.cq_entries) == self.cq_entries {
            return false;
        }
        let tail = self.cq_tail.get();
        let len = self.shape().cqe_len();
        let mut b = [0; 32];
        b[..8].copy_from_slice(&c.user_data.to_le_bytes());
        b[8..12].copy_from_slice(&c.res.to_le_bytes());
        b[12..16].copy_from_slice(&c.flags.to_le_bytes());
        let slot = u64::from(tail & (self.cq_entries - 1));
        let _ = self.memory.write(plat, at::CQES + slot * len, &b[..len as usize]);
        self.cq_tail.set(tail.wrapping_add(1));
        self.store(plat, at::CQ_TAIL, self.cq_tail.get());
        true
    }

    /// Puts a completion into the ring, or beside it until there is room.
    pub(super) fn post(&self, plat: &mut dyn Platform, c: Cqe) {
        self.dirty.set(true);
        if self.overflow.borrow().is_empty() && self.push(plat, &c) {
            return;
        }
        self.overflow.borrow_mut().push_back(c);
        self.set_sq_flags(plat, sqf::CQ_OVERFLOW, 0);
    }

    /// Same for one that others will follow: false, and nothing is done, if there is no room.
    pub(super) fn post_more(&self, plat: &mut dyn Platform, c: Cqe) -> bool {
        if !self.overflow.borrow().is_empty() || !self.push(plat, &c) {
            return false;
        }
        self.dirty.set(true);
        true
    }

    /// Completions that did not fit go into the ring as far as there is room.
    pub(super) fn flush_overflow(&self, plat: &mut dyn Platform) {
        loop {
            let Some(c) = self.overflow.borrow().front().copied() else {
                break;
            };
            if !self.push(plat, &c) {
                return;
            }
            self.dirty.set(true);
            self.overflow.borrow_mut().pop_front();
        }
        self.set_sq_flags(plat, 0, sqf::CQ_OVERFLOW);
    }

    /// Completions that are not of timeouts, as sequence of IORING_OP_TIMEOUT counts them.
    pub(super) fn sequence(&self) -> u32 {
        self.cq_tail
            .get()
            .wrapping_add(self.overflow.borrow().len() as u32)
            .wrapping_sub(self.timeouts.get())
    }

    /// Wakes whoever waits for completions, if there are new ones.
    pub(super) fn commit(&self, plat: &mut dyn Platform) {
        if !self.dirty.replace(false) {
            return;
        }
        self.queue.wake(1, (Poll::IN | Poll::RDNORM).bits() | URING_WAKE);
        self.tell_eventfd(plat);
    }

    fn tell_eventfd(&self, plat: &mut dyn Platform) {
        const EVENTFD_DISABLED: u32 = 1;
        let worker = self.worker.take();
        if self.eventfd.borrow().is_none() || self.load(plat, at::CQ_FLAGS) & EVENTFD_DISABLED != 0 {
            return;
        }
        let open = match &*self.eventfd.borrow() {
            Some((o, only_async)) if worker || !only_async => Some(o.clone()),
            _ => None,
        };
        if let Some(e) = open
            .as_ref()
            .and_then(|o| o.file.as_any().downcast_ref::<EventFd>())
        {
            e.signal_as(URING_WAKE);
        }
    }

    /// A number for a request.
    pub(super) fn new_id(&self) -> u64 {
        self.rings.next.set(self.rings.next.get() + 1);
        self.rings.next.get()
    }

    /// The request is told when the queue is woken.
    pub(super) fn listen(&self, job: &Job, queue: &WaitQueue, mask: u32, exclusive: bool) {
        let me: Weak<dyn Listener> = self.me.clone();
        queue.listen(me, job.id, mask, exclusive);
        job.waits.borrow_mut().push(queue.clone());
    }

    /// The request goes on at `at` at the latest.
    pub(super) fn alarm(&self, timers: &Timers, job: &Job, at: Ns) {
        let me: Weak<dyn TimerTarget> = self.me.clone();
        job.timer.set(Some(timers.call_at(at, me, job.id)));
    }

    /// The request waits for nothing any more; what is left of its timer is the caller's.
    fn forget(&self, job: &Job) {
        let me: Weak<dyn Listener> = self.me.clone();
        for q in std::mem::take(&mut *job.waits.borrow_mut()) {
            q.forget(&me, job.id);
        }
    }

    /// Same, and its timer is cancelled.
    pub(super) fn disarm(&self, timers: &Timers, job: &Job) {
        self.forget(job);
        if let Some(key) = job.timer.take() {
            timers.cancel(key);
        }
    }

    fn ready(&self, job: &Rc<Job>, why: Wake) {
        self.forget(job);
        job.wake.set(why);
        job.state.set(State::Ready);
        self.rings.ready.borrow_mut().push_back((self.me.clone(), job.id));
    }

    /// The request begins in the space of the task that submitted it.
    pub(super) fn ready_elsewhere(&self, job: &Rc<Job>) {
        job.state.set(State::Ready);
        self.rings.ready.borrow_mut().push_back((self.me.clone(), job.id));
    }

    /// With SETUP_DEFER_TASKRUN: the request waits for io_uring_enter, and the guest may see that it does.
    pub(super) fn put_off(&self, plat: &mut dyn Platform, id: u64) {
        self.put_off.borrow_mut().push_back(id);
        self.show_put_off(plat);
        self.tell_eventfd(plat);
        self.queue.wake(1, (Poll::IN | Poll::RDNORM).bits() | URING_WAKE);
    }

    /// Keeps IORING_SQ_TASKRUN up to date.
    pub(super) fn show_put_off(&self, plat: &mut dyn Platform) {
        if self.has(setup::TASKRUN_FLAG) {
            let (set, clear) = match self.put_off.borrow().is_empty() {
                true => (0, sqf::TASKRUN),
                false => (sqf::TASKRUN, 0),
            };
            self.set_sq_flags(plat, set, clear);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // A request and the limit of its time hold each other.
        for job in self.jobs.borrow().values() {
            job.partner.borrow_mut().take();
        }
    }
}

impl Listener for Ring {
    // Nothing is completed in here: see `Rings`.
    fn notify(&self, key: u64, mask: u32) {
        let job = self.jobs.borrow().get(&key).cloned();
        if let Some(job) = job.filter(|j| j.state.get() == State::Armed) {
            job.woken.set(job.woken.get() | mask);
            self.ready(&job, Wake::Event);
        }
    }
}

impl TimerTarget for Ring {
    fn expired(&self, _: &Timers, _: Ns, tag: u64) {
        let job = self.jobs.borrow().get(&tag).cloned();
        if let Some(job) = job {
            job.timer.set(None);
            if job.state.get() == State::Armed {
                self.ready(&job, Wake::Timeout);
            }
        }
    }
}

impl File for Ring {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[io_uring]".to_vec()
    }
    fn poll(&self, env: &mut Env<'_>) -> Poll {
        let mut p = Poll::empty();
        let plat = &mut *env.plat;
        if self.submitted(plat) < self.sq_entries {
            p |= Poll::OUT | Poll::WRNORM;
        }
        let more = !self.overflow.borrow().is_empty() || !self.put_off.borrow().is_empty();
        if more || !self.is_empty(plat) {
            p |= Poll::IN | Poll::RDNORM;
        }
        p
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.inode.stat(DEV_ANON, 0o600))
    }
    fn map(
        &self,
        env: &mut Env<'_>,
        offset: u64,
        len: u64,
        shared: bool,
        _: bool,
    ) -> Io<Vec<(u64, Backing)>> {
        let (data, size) = match offset & OFF_MASK {
            0 | OFF_CQ_RING => (&self.memory, self.shape().array().1),
            OFF_SQES => (&self.sqes, u64::from(self.sq_entries) * self.shape().sqe_len()),
            _ => return err(Errno::EINVAL),
        };
        let size = size.next_multiple_of(ftl_core::layout::PAGE);
        if offset & !OFF_MASK != 0 || !shared {
            return err(Errno::EINVAL);
        }
        let mut parts = data.map(env.plat, None, 0, len.min(size), true)?;
        if len > size {
            parts.push((len - size, Backing::Beyond));
        }
        Ok(parts)
    }
}
