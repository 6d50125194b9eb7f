//! Message queues (ipc/msg.c).

use super::{Object, Perm};
use ftl_core::errno::Errno;
use ftl_core::wait::WaitQueue;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Largest message, default bytes of a queue.
pub const MSGMAX: usize = 8192;
/// See [`MSGMAX`].
pub const MSGMNB: usize = 16_384;
/// Cut a long message.
pub const MSG_NOERROR: i32 = 0o10000;
/// Any type but the one given.
pub const MSG_EXCEPT: i32 = 0o20000;
/// Peek; only with checkpoint/restore support.
pub const MSG_COPY: i32 = 0o40000;

struct Message {
    kind: i64,
    bytes: Vec<u8>,
}

/// A queue.
pub struct Queue {
    perm: Perm,
    list: RefCell<VecDeque<Message>>,
    bytes: Cell<usize>,
    /// msg_qbytes
    pub limit: Cell<usize>,
    /// Times of the last send, receive and change, seconds.
    pub times: Cell<(i64, i64, i64)>,
    /// Pids of the last send and receive.
    pub pids: Cell<(u32, u32)>,
    /// Woken by every change.
    pub queue: WaitQueue,
}

impl Object for Queue {
    fn perm(&self) -> &Perm {
        &self.perm
    }
}

impl Queue {
    /// Empty.
    pub fn new(perm: Perm, now: i64) -> Queue {
        Queue {
            perm,
            list: RefCell::default(),
            bytes: Cell::new(0),
            limit: Cell::new(MSGMNB),
            times: Cell::new((0, 0, now)),
            pids: Cell::new((0, 0)),
            queue: WaitQueue::new(),
        }
    }

    /// Number of messages and of bytes.
    pub fn used(&self) -> (usize, usize) {
        (self.list.borrow().len(), self.bytes.get())
    }

    /// Appends; gives the bytes back if there is no room.
    pub fn send(&self, kind: i64, bytes: Vec<u8>, pid: u32, now: i64) -> Result<(), Vec<u8>> {
        let (n, used) = self.used();
        if used + bytes.len() > self.limit.get() || n + 1 > self.limit.get() {
            return Err(bytes);
        }
        self.bytes.set(used + bytes.len());
        self.list.borrow_mut().push_back(Message { kind, bytes });
        let t = self.times.get();
        self.times.set((now, t.1, t.2));
        self.pids.set((pid, self.pids.get().1));
        self.queue.wake_all();
        Ok(())
    }

    fn choose(&self, want: i64, except: bool) -> Option<usize> {
        let list = self.list.borrow();
        match want {
            0 => (!list.is_empty()).then_some(0),
            1.. => list.iter().position(|m| (m.kind == want) != except),
            _ => {
                let most = want.checked_neg().unwrap_or(i64::MAX);
                let low = list.iter().map(|m| m.kind).filter(|k| *k <= most).min()?;
                list.iter().position(|m| m.kind == low)
            }
        }
    }

    /// Takes the message that `want` chooses: its type and bytes. ENOMSG if there is none.
    pub fn receive(
        &self,
        want: i64,
        room: usize,
        flags: i32,
        pid: u32,
        now: i64,
    ) -> Result<(i64, Vec<u8>), Errno> {
        let i = self.choose(want, flags & MSG_EXCEPT != 0).ok_or(Errno::ENOMSG)?;
        let long = self.list.borrow()[i].bytes.len() > room;
        if long && flags & MSG_NOERROR == 0 {
            return Err(Errno::E2BIG);
        }
        let mut m = self.list.borrow_mut().remove(i).ok_or(Errno::ENOMSG)?;
        self.bytes.set(self.bytes.get() - m.bytes.len());
        m.bytes.truncate(room);
        let t = self.times.get();
        self.times.set((t.0, now, t.2));
        self.pids.set((self.pids.get().0, pid));
        self.queue.wake_all();
        Ok((m.kind, m.bytes))
    }
}
