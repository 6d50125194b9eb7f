//! eventfd(2) (fs/eventfd.c).

use crate::anon::{DEV_ANON, Inode};
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use ftl_core::wait::{Poll, WaitQueue};
use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;

/// A counter that can be waited for.
pub struct EventFd {
    count: Cell<u64>,
    semaphore: bool,
    queue: WaitQueue,
    inode: Inode,
}

impl EventFd {
    /// With a first value; `semaphore`: each read takes one (EFD_SEMAPHORE).
    pub fn new(env: &mut Env<'_>, count: u32, semaphore: bool) -> Rc<EventFd> {
        Rc::new(EventFd {
            count: Cell::new(u64::from(count)),
            semaphore,
            queue: WaitQueue::new(),
            inode: Inode::new(env, 0, 0),
        })
    }

    /// Counts one up, unless it is full (eventfd_signal).
    pub fn signal(&self) {
        self.signal_as(0);
    }

    /// Same, and who waits knows of the wake what `passed` says beside readiness.
    pub fn signal_as(&self, passed: u32) {
        if self.count.get() < u64::MAX {
            self.count.set(self.count.get() + 1);
        }
        self.queue.wake(1, (Poll::IN | Poll::RDNORM).bits() | passed);
    }

    /// The counter, for /proc/self/fdinfo.
    pub fn count(&self) -> u64 {
        self.count.get()
    }
}

impl File for EventFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventfd]".to_vec()
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        if dst.remaining() < 8 {
            return err(Errno::EINVAL);
        }
        let have = self.count.get();
        if have == 0 {
            return err(Errno::EAGAIN);
        }
        let take = if self.semaphore { 1 } else { have };
        self.count.set(have - take);
        // As in Linux the count is taken even if storing it faults.
        let stored = dst.put(env.plat, &take.to_le_bytes());
        self.queue.notify(Poll::OUT | Poll::WRNORM);
        if self.count.get() > 0 && !self.queue.is_empty() {
            self.queue.wake_n(1, (Poll::IN | Poll::RDNORM).bits());
        }
        stored?;
        Ok(8)
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        if src.remaining() < 8 {
            return err(Errno::EINVAL);
        }
        let mut raw = [0; 8];
        src.get(env.plat, &mut raw)?;
        let add = u64::from_le_bytes(raw);
        if add == u64::MAX {
            return err(Errno::EINVAL);
        }
        let have = self.count.get();
        if u64::MAX - have <= add {
            return err(Errno::EAGAIN);
        }
        self.count.set(have + add);
        self.queue.notify(Poll::IN | Poll::RDNORM);
        Ok(8)
    }
    fn whole_writes(&self) -> bool {
        true
    }
    fn seek(&self, _: &mut Env<'_>, pos: u64, _: i64, _: i32) -> Io<u64> {
        // noop_llseek
        Ok(pos)
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        let mut p = Poll::empty();
        if self.count.get() > 0 {
            p |= Poll::IN;
        }
        if self.count.get() < u64::MAX - 1 {
            p |= Poll::OUT;
        }
        p
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.inode.stat(DEV_ANON, 0o600))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftl_core::testing::{BASE, World};

    fn write(w: &mut World, f: &EventFd, v: u64) -> bool {
        let mut src = Src::kernel(v.to_le_bytes().to_vec());
        f.write(&mut w.env(), 0, &mut src).is_ok()
    }

    fn read(w: &mut World, f: &EventFd) -> Option<u64> {
        let mut dst = Dst::user(BASE, 8);
        f.read(&mut w.env(), 0, &mut dst).ok()?;
        Some(u64::from_le_bytes(std::array::from_fn(|i| w.plat.mem[i])))
    }

    #[test]
    fn counts() {
        let mut w = World::new(64);
        let f = EventFd::new(&mut w.env(), 3, false);
        assert!(write(&mut w, &f, 4));
        assert_eq!(read(&mut w, &f), Some(7));
        assert_eq!(read(&mut w, &f), None);
        assert!(write(&mut w, &f, u64::MAX - 1));
        assert!(!write(&mut w, &f, 1));
        assert!(write(&mut w, &f, 0));
        assert!(!write(&mut w, &f, u64::MAX));
        assert_eq!(f.poll(&mut w.env()), Poll::IN);
    }

    #[test]
    fn semaphore_takes_one() {
        let mut w = World::new(64);
        let f = EventFd::new(&mut w.env(), 2, true);
        assert_eq!(read(&mut w, &f), Some(1));
        assert_eq!(read(&mut w, &f), Some(1));
        assert_eq!(read(&mut w, &f), None);
    }
}
