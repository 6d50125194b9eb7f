//! POSIX message queues (ipc/mqueue.c).

use crate::anon::Inode;
use ftl_core::errno::Errno;
use ftl_core::file::{File, FileRef};
use ftl_core::io::Io;
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use ftl_core::wait::{Entity, Poll, State, Tid, WaitQueue};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

/// Limits without and with CAP_SYS_RESOURCE, and defaults (fs.mqueue).
pub const MSG_MAX: i64 = 10;
/// See [`MSG_MAX`].
pub const MSGSIZE_MAX: i64 = 8192;
/// See [`MSG_MAX`].
pub const HARD_MSG_MAX: i64 = 65_536;
/// See [`MSG_MAX`].
pub const HARD_MSGSIZE_MAX: i64 = 16 << 20;
/// Most queues.
pub const QUEUES_MAX: usize = 256;
/// Priorities are below this.
pub const PRIO_MAX: u32 = 32_768;
const DEV_MQUEUE: u64 = 20;
const S_IFREG: u32 = 0o100_000;
const READABLE: Poll = Poll::IN.union(Poll::RDNORM);
const WRITABLE: Poll = Poll::OUT.union(Poll::WRNORM);

/// Who is told when a message comes to an empty queue.
#[derive(Clone)]
pub struct Notify {
    /// Process.
    pub pid: u32,
    /// Signal; 0 for SIGEV_NONE.
    pub signo: u32,
    /// sigev_value
    pub value: u64,
    /// SIGEV_THREAD: the socket that a thread of the process reads, and what it gets there.
    pub thread: Option<(FileRef, [u8; 32])>,
}

/// A queue.
pub struct MQueue {
    /// Most messages.
    pub max: i64,
    /// Largest message.
    pub size: i64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub inode: Inode,
    /// By priority; the highest is taken first, and first in, first out within one.
    list: RefCell<BTreeMap<u32, VecDeque<Vec<u8>>>>,
    count: Cell<i64>,
    receivers: RefCell<BTreeMap<Tid, Weak<Entity>>>,
    notify: RefCell<Option<Notify>>,
    queue: WaitQueue,
}

impl MQueue {
    /// Empty.
    pub fn new(inode: Inode, mode: u32, max: i64, size: i64) -> MQueue {
        MQueue {
            max,
            size,
            mode,
            inode,
            list: RefCell::default(),
            count: Cell::new(0),
            receivers: RefCell::default(),
            notify: RefCell::new(None),
            queue: WaitQueue::new(),
        }
    }

    /// Messages in it.
    pub fn count(&self) -> i64 {
        self.count.get()
    }

    /// Receivers wait for IN, senders for OUT.
    pub fn waiters(&self) -> &WaitQueue {
        &self.queue
    }

    fn receiver_waits(&self) -> bool {
        let mut r = self.receivers.borrow_mut();
        r.retain(|_, e| e.upgrade().is_some_and(|e| e.state.get() == State::Blocked));
        !r.is_empty()
    }

    /// The task waits for a message: then nobody is notified of one.
    pub fn begin_receive(&self, who: &Rc<Entity>) {
        self.receivers.borrow_mut().insert(who.tid, Rc::downgrade(who));
    }

    /// EAGAIN if it is full; else whom to notify.
    pub fn send(&self, bytes: Vec<u8>, prio: u32) -> Result<Option<Notify>, Errno> {
        if self.count.get() >= self.max {
            return Err(Errno::EAGAIN);
        }
        let tell = self.count.get() == 0 && !self.receiver_waits();
        self.list.borrow_mut().entry(prio).or_default().push_back(bytes);
        self.count.set(self.count.get() + 1);
        self.queue.notify(READABLE);
        Ok(if tell {
            self.notify.borrow_mut().take()
        } else {
            None
        })
    }

    /// Takes the first message of the highest priority. EAGAIN if there is none.
    pub fn receive(&self) -> Result<(Vec<u8>, u32), Errno> {
        let mut list = self.list.borrow_mut();
        let mut top = list.last_entry().ok_or(Errno::EAGAIN)?;
        let prio = *top.key();
        let m = top.get_mut().pop_front();
        if top.get().is_empty() {
            top.remove();
        }
        drop(list);
        self.count.set(self.count.get() - 1);
        self.queue.notify(WRITABLE);
        Ok((m.ok_or(Errno::EAGAIN)?, prio))
    }

    /// mq_notify(3): sets, or with `None` removes the caller's own and returns it.
    pub fn set_notify(&self, pid: u32, n: Option<Notify>) -> Result<Option<Notify>, Errno> {
        let mut now = self.notify.borrow_mut();
        match (n, &*now) {
            (None, Some(old)) if old.pid == pid => Ok(now.take()),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(Errno::EBUSY),
            (n, None) => {
                *now = n;
                Ok(None)
            }
        }
    }

    /// The process that is to be notified, if any.
    pub fn notified(&self) -> Option<u32> {
        self.notify.borrow().as_ref().map(|n| n.pid)
    }
}

/// An open queue.
pub struct MqFile {
    /// What is open.
    pub mq: Rc<MQueue>,
    /// Its name.
    pub name: Vec<u8>,
}

impl File for MqFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        [b"/", &self.name[..]].concat()
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        let mut p = Poll::empty();
        if self.mq.count() > 0 {
            p |= READABLE;
        }
        if self.mq.count() < self.mq.max {
            p |= WRITABLE;
        }
        p
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.mq.queue.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        let mut st = self.mq.inode.stat(DEV_MQUEUE, S_IFREG | self.mq.mode);
        // FILENT_SIZE
        st.size = 80;
        Ok(st)
    }
}

/// The named queues of an image.
#[derive(Default)]
pub struct MQueues(pub RefCell<BTreeMap<Vec<u8>, Rc<MQueue>>>);
