//! Pipes (fs/pipe.c).
//!
//! A pipe is a ring of page-sized slots. Linux' rules for filling them are kept, because a program
//! can see them: a write that fits into the last slot is merged, so "full" means that all slots are
//! taken, not that all bytes are. A write of at most PIPE_BUF bytes needs one slot, which is why it
//! is atomic.
//!
//! Wakes: readers are woken when the pipe was empty, or at every write once somebody has polled it
//! (edge-triggered epoll on pipes relies on that); writers when it was full.

use crate::anon::{DEV_PIPE, FIONREAD, Inode, S_IFIFO, put_int};
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use ftl_core::wait::{Poll, WaitQueue};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Bytes of a slot.
pub const SLOT: usize = 4096;
/// Slots of a new pipe (PIPE_DEF_BUFFERS).
pub const DEFAULT_SLOTS: usize = 16;
/// fs.pipe-max-size
pub const MAX_SIZE: u64 = 1 << 20;
/// O_DIRECT: packet mode.
const O_DIRECT: i32 = 0o40000;
/// Empty pages that a pipe keeps for its next writes.
const SPARE: usize = 16;

struct Slot {
    page: Box<[u8]>,
    start: usize,
    end: usize,
    packet: bool,
}

/// The part that both ends share.
pub struct Pipe {
    ring: RefCell<VecDeque<Slot>>,
    spare: RefCell<Vec<Box<[u8]>>>,
    slots: Cell<usize>,
    pub(crate) readers: Cell<usize>,
    pub(crate) writers: Cell<usize>,
    /// How often it was opened for reading and for writing.
    pub(crate) opens: Cell<(u64, u64)>,
    polled: Cell<bool>,
    /// Readers wait on the first, writers on the second, as rd_wait and wr_wait: an end that asks
    /// epoll for both is told of its own side only. An end that is both is on the first.
    queues: (WaitQueue, WaitQueue),
    /// Ends that are both.
    both: Cell<usize>,
    inode: Inode,
}

/// A FIFO's place in a file system.
pub trait Place {
    /// stat of the inode.
    fn stat(&self, env: &mut Env<'_>) -> Io<Stat>;
    /// Path, for messages.
    fn describe(&self) -> Vec<u8>;
}

/// One end, or with a FIFO opened O_RDWR both.
pub struct PipeEnd {
    pub(crate) pipe: Rc<Pipe>,
    reads: bool,
    writes: bool,
    packets: Cell<bool>,
    /// Number of writers so far when this end was opened before any: no hang-up until one came.
    pub(crate) unseen: Cell<Option<u64>>,
    place: Option<Rc<dyn Place>>,
}

const READABLE: Poll = Poll::IN.union(Poll::RDNORM);
const WRITABLE: Poll = Poll::OUT.union(Poll::WRNORM);

impl Pipe {
    /// An empty pipe without ends.
    pub fn new(inode: Inode) -> Rc<Pipe> {
        Rc::new(Pipe {
            ring: RefCell::default(),
            spare: RefCell::default(),
            slots: Cell::new(DEFAULT_SLOTS),
            readers: Cell::new(0),
            writers: Cell::new(0),
            opens: Cell::default(),
            polled: Cell::new(false),
            queues: Default::default(),
            both: Cell::new(0),
            inode,
        })
    }

    /// Bytes that wait to be read.
    pub fn len(&self) -> usize {
        self.ring.borrow().iter().map(|s| s.end - s.start).sum()
    }

    /// True if nothing waits to be read.
    pub fn is_empty(&self) -> bool {
        self.ring.borrow().is_empty()
    }

    /// A copy of the first bytes that wait, at most `max`: for tee and splice, which must not take
    /// what they cannot pass on.
    pub fn peek(&self, max: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for s in self.ring.borrow().iter() {
            let n = (s.end - s.start).min(max - out.len());
            out.extend_from_slice(&s.page[s.start..s.start + n]);
            if out.len() == max {
                break;
            }
        }
        out
    }

    fn full(&self) -> bool {
        self.ring.borrow().len() >= self.slots.get()
    }

    /// F_GETPIPE_SZ
    pub fn size(&self) -> u64 {
        (self.slots.get() * SLOT) as u64
    }

    /// F_SETPIPE_SZ: rounded up to a power of two of pages; returns the new size.
    pub fn set_size(&self, want: u64, privileged: bool) -> Result<u64, Errno> {
        if want > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let size = want.max(SLOT as u64).next_power_of_two();
        let slots = size as usize / SLOT;
        if slots > self.slots.get() && size > MAX_SIZE && !privileged {
            return Err(Errno::EPERM);
        }
        if slots < self.ring.borrow().len() {
            return Err(Errno::EBUSY);
        }
        let was_full = self.full();
        self.slots.set(slots);
        if was_full && !self.full() {
            self.tell_writers();
        }
        Ok(size)
    }

    fn tell_writers(&self) {
        self.queues.1.notify(WRITABLE);
        if self.both.get() > 0 {
            self.queues.0.notify(WRITABLE);
        }
    }

    /// Tells everybody on both sides.
    pub(crate) fn tell_all(&self, mask: Poll) {
        self.queues.0.wake(usize::MAX, mask.bits());
        self.queues.1.wake(usize::MAX, mask.bits());
    }

    /// What one side waits on.
    pub(crate) fn queue(&self, reads: bool) -> &WaitQueue {
        if reads { &self.queues.0 } else { &self.queues.1 }
    }

    fn page(&self) -> Box<[u8]> {
        let spare = self.spare.borrow_mut().pop();
        spare.unwrap_or_else(|| vec![0; SLOT].into_boxed_slice())
    }

    fn recycle(&self, page: Box<[u8]>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE {
            spare.push(page);
        }
    }

    /// Moves bytes to `dst`; stops at the end of a packet.
    fn take(&self, env: &mut Env<'_>, dst: &mut Dst) -> Result<u64, Errno> {
        let mut done = 0u64;
        while dst.remaining() > 0 {
            let Some(mut slot) = self.ring.borrow_mut().pop_front() else {
                break;
            };
            let want = (slot.end - slot.start).min(dst.remaining() as usize);
            let got = dst.put(env.plat, &slot.page[slot.start..slot.start + want]);
            let n = *got.as_ref().unwrap_or(&0);
            done += n as u64;
            slot.start += n;
            let spent = slot.start == slot.end || (slot.packet && got.is_ok());
            let packet = slot.packet;
            if spent {
                self.recycle(slot.page);
            } else {
                self.ring.borrow_mut().push_front(slot);
            }
            match got {
                Err(e) if done == 0 => return Err(e),
                Ok(n) if n == want && !packet => {}
                _ => break,
            }
        }
        Ok(done)
    }

    /// Fills the last slot if the odd part of the write fits there whole.
    fn merge(&self, env: &mut Env<'_>, src: &mut Src) -> Result<u64, Errno> {
        let odd = src.remaining() as usize % SLOT;
        let mut ring = self.ring.borrow_mut();
        match ring.back_mut() {
            Some(last) if odd > 0 && !last.packet && last.end + odd <= SLOT => {
                let n = src.get(env.plat, &mut last.page[last.end..last.end + odd])?;
                last.end += n;
                Ok(n as u64)
            }
            _ => Ok(0),
        }
    }

    /// Moves bytes from `src` as long as a slot is free.
    fn give(&self, env: &mut Env<'_>, src: &mut Src, packets: bool) -> Result<u64, Errno> {
        let mut done = if packets { 0 } else { self.merge(env, src)? };
        while src.remaining() > 0 && !self.full() {
            let mut page = self.page();
            let want = (src.remaining() as usize).min(SLOT);
            let n = match src.get(env.plat, &mut page[..want]) {
                Ok(n) => n,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            };
            self.ring.borrow_mut().push_back(Slot {
                page,
                start: 0,
                end: n,
                packet: packets,
            });
            done += n as u64;
            if n < want {
                break;
            }
        }
        Ok(done)
    }

    fn read(&self, env: &mut Env<'_>, dst: &mut Dst) -> Io<u64> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        if self.is_empty() {
            return if self.writers.get() == 0 {
                Ok(0)
            } else {
                err(Errno::EAGAIN)
            };
        }
        let was_full = self.full();
        let n = self.take(env, dst);
        if was_full && !self.full() {
            self.tell_writers();
        }
        if !self.queues.0.is_empty() && !self.is_empty() {
            // Another blocked reader, not an epoll instance: nothing has arrived.
            self.queues.0.wake_n(1, READABLE.bits());
        }
        Ok(n?)
    }

    fn write(&self, env: &mut Env<'_>, src: &mut Src, packets: bool) -> Io<u64> {
        if src.remaining() == 0 {
            return Ok(0);
        }
        if self.readers.get() == 0 {
            return err(Errno::EPIPE);
        }
        let was_empty = self.is_empty();
        let n = self.give(env, src, packets)?;
        if n == 0 {
            return err(Errno::EAGAIN);
        }
        if was_empty || self.polled.get() {
            self.queues.0.notify(READABLE);
        } else if !self.queues.0.is_empty() {
            self.queues.0.wake_n(1, READABLE.bits());
        }
        if !self.queues.1.is_empty() && !self.full() {
            self.queues.1.wake_n(1, WRITABLE.bits());
        }
        Ok(n)
    }
}

impl PipeEnd {
    /// Opens an end of `pipe` with O_* `flags` (access mode and O_DIRECT count).
    pub fn open(pipe: &Rc<Pipe>, flags: i32, place: Option<Rc<dyn Place>>) -> Rc<PipeEnd> {
        let (reads, writes) = (flags & 3 != 1, flags & 3 != 0);
        let (r, w) = pipe.opens.get();
        pipe.opens.set((r + u64::from(reads), w + u64::from(writes)));
        pipe.readers.set(pipe.readers.get() + usize::from(reads));
        pipe.writers.set(pipe.writers.get() + usize::from(writes));
        pipe.both.set(pipe.both.get() + usize::from(reads && writes));
        Rc::new(PipeEnd {
            pipe: pipe.clone(),
            reads,
            writes,
            packets: Cell::new(flags & O_DIRECT != 0),
            unseen: Cell::new(None),
            place,
        })
    }

    /// The pipe behind it.
    pub fn pipe(&self) -> &Rc<Pipe> {
        &self.pipe
    }

    /// Another end of the same pipe (/proc/self/fd/N), without waiting for the other side.
    pub fn reopen(&self, flags: i32) -> Rc<PipeEnd> {
        PipeEnd::open(&self.pipe, flags, self.place.clone())
    }

    /// pipe2(2): read end and write end.
    pub fn pair(env: &mut Env<'_>, flags: i32, uid: u32, gid: u32) -> (Rc<PipeEnd>, Rc<PipeEnd>) {
        let pipe = Pipe::new(Inode::new(env, uid, gid));
        let flags = flags & !3;
        (
            PipeEnd::open(&pipe, flags, None),
            PipeEnd::open(&pipe, flags | 1, None),
        )
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let p = &self.pipe;
        p.readers.set(p.readers.get() - usize::from(self.reads));
        p.writers.set(p.writers.get() - usize::from(self.writes));
        p.both.set(p.both.get() - usize::from(self.reads && self.writes));
        if p.readers.get() == 0 && p.writers.get() == 0 {
            p.ring.borrow_mut().clear();
        } else if (p.readers.get() == 0) != (p.writers.get() == 0) {
            let mask = READABLE | WRITABLE | Poll::HUP | Poll::ERR;
            p.tell_all(mask);
        }
    }
}

impl File for PipeEnd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        match &self.place {
            Some(p) => p.describe(),
            None => format!("pipe:[{}]", self.pipe.inode.ino).into_bytes(),
        }
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        self.pipe.read(env, dst)
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        self.pipe.write(env, src, self.packets.get())
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        let p = &self.pipe;
        p.polled.set(true);
        let mut r = Poll::empty();
        if self.reads {
            if !p.is_empty() {
                r |= READABLE;
            }
            if p.writers.get() == 0 && self.unseen.get() != Some(p.opens.get().1) {
                r |= Poll::HUP;
            }
        }
        if self.writes {
            if !p.full() {
                r |= WRITABLE;
            }
            if p.readers.get() == 0 {
                r |= Poll::ERR;
            }
        }
        r
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.pipe.queue(self.reads).clone())
    }
    fn stat(&self, env: &mut Env<'_>) -> Io<Stat> {
        match &self.place {
            Some(p) => p.stat(env),
            None => Ok(self.pipe.inode.stat(DEV_PIPE, S_IFIFO | 0o600)),
        }
    }
    fn ioctl(&self, env: &mut Env<'_>, cmd: u64, arg: u64) -> Io<u64> {
        match cmd {
            FIONREAD => put_int(env, arg, self.pipe.len()),
            _ => err(Errno::ENOTTY),
        }
    }
    fn set_flags(&self, _: &mut Env<'_>, flags: i32) {
        self.packets.set(flags & O_DIRECT != 0);
    }
}

#[cfg(test)]
#[path = "pipe_tests.rs"]
mod tests;
