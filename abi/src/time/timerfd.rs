//! timerfd_create(2) and its relatives (fs/timerfd.c).
//!
//! After an expiry a periodic one rests until it is read; the read counts what was missed.

use super::anon_stat;
use super::clocks::ClockId;
use super::itimer::next_after;
use super::types::Itimerspec;
use crate::args::{Fd, Ptr};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::io::{Dst, Io, err};
use ftl_core::kcore::{Core, Env};
use ftl_core::platform::{Ns, Stat};
use ftl_core::timer::{TimerKey, TimerTarget, Timers};
use ftl_core::wait::{Poll, WaitQueue};
use std::any::Any;
use std::cell::Cell;
use std::rc::{Rc, Weak};

const TFD_TIMER_ABSTIME: i32 = 1;
const TFD_TIMER_CANCEL_ON_SET: i32 = 2;
/// TFD_IOC_SET_TICKS
const SET_TICKS: u64 = 0x4008_5400;
const CAP_WAKE_ALARM: u32 = 35;

/// A timerfd.
pub struct TimerFd {
    me: Weak<TimerFd>,
    /// Its clock's offset from the monotonic one.
    offset: i64,
    interval: Cell<Ns>,
    /// Next or last expiry on the monotonic clock; `None` while disarmed.
    at: Cell<Option<Ns>>,
    /// Has expired and was not read since.
    expired: Cell<bool>,
    ticks: Cell<u64>,
    key: Cell<Option<TimerKey>>,
    queue: WaitQueue,
}

impl TimerTarget for TimerFd {
    fn expired(&self, _: &Timers, _: Ns, _: u64) {
        self.key.set(None);
        self.expired.set(true);
        self.ticks.set(self.ticks.get() + 1);
        self.queue.notify(Poll::IN | Poll::RDNORM);
    }
}

impl TimerFd {
    fn start(&self, timers: &Timers, at: Ns) {
        let target: Weak<dyn TimerTarget> = self.me.clone();
        self.at.set(Some(at));
        self.key.set(Some(timers.call_at(at, target, 0)));
    }

    /// An expired periodic timer goes on from where it would be.
    fn catch_up(&self, core: &Core, now: Ns) {
        if !self.expired.get() || self.interval.get() == 0 {
            return;
        }
        let Some(at) = self.at.get() else { return };
        let (next, missed) = next_after(at, self.interval.get(), now);
        self.expired.set(false);
        self.ticks.set(self.ticks.get().saturating_add(missed));
        self.start(&core.timers, next);
    }

    fn setting(&self, now: Ns) -> Itimerspec {
        Itimerspec {
            interval: self.interval.get(),
            value: self.at.get().map_or(0, |at| at.saturating_sub(now)),
        }
    }
}

impl File for TimerFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[timerfd]".to_vec()
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        if dst.remaining() < 8 {
            return err(Errno::EINVAL);
        }
        if self.ticks.get() == 0 {
            return err(Errno::EAGAIN);
        }
        let now = env.now();
        self.catch_up(env.core, now);
        self.expired.set(false);
        let n = self.ticks.replace(0);
        dst.put(env.plat, &n.to_le_bytes())?;
        Ok(8)
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        if self.ticks.get() > 0 {
            Poll::IN | Poll::RDNORM
        } else {
            Poll::empty()
        }
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }
    /// noop_llseek
    fn seek(&self, _: &mut Env<'_>, pos: u64, _: i64, _: i32) -> Io<u64> {
        Ok(pos)
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(anon_stat())
    }
    fn ioctl(&self, env: &mut Env<'_>, cmd: u64, arg: u64) -> Io<u64> {
        if cmd != SET_TICKS {
            return err(Errno::ENOTTY);
        }
        let n: u64 = env.get(arg)?;
        if n == 0 {
            return err(Errno::EINVAL);
        }
        self.ticks.set(n);
        self.queue.notify(Poll::IN | Poll::RDNORM);
        Ok(0)
    }
}

/// timerfd_create(2)
pub fn sys_timerfd_create(cx: &mut Cx<'_>, clock: i32, flags: i32) -> Io<u64> {
    if flags & !(oflag::O_CLOEXEC | oflag::O_NONBLOCK) != 0 || !matches!(clock, 0 | 1 | 7 | 8 | 9) {
        return err(Errno::EINVAL);
    }
    if matches!(clock, 8 | 9) && !cx.task.creds.borrow().capable(CAP_WAKE_ALARM) {
        return err(Errno::EPERM);
    }
    let ClockId::Wall(offset) = ClockId::of(cx, clock)? else {
        return err(Errno::EINVAL);
    };
    let file = Rc::new_cyclic(|me| TimerFd {
        me: me.clone(),
        offset,
        interval: Cell::new(0),
        at: Cell::new(None),
        expired: Cell::new(false),
        ticks: Cell::new(0),
        key: Cell::new(None),
        queue: WaitQueue::new(),
    });
    let open = OpenFile::new(file, oflag::O_RDWR | (flags & oflag::O_NONBLOCK));
    Ok(cx.new_fd(open, flags & oflag::O_CLOEXEC != 0)? as u64)
}

fn with<T>(cx: &mut Cx<'_>, fd: Fd, f: impl FnOnce(&mut Cx<'_>, &TimerFd) -> Io<T>) -> Io<T> {
    let open = cx.task.files().get(fd.0)?;
    match open.file.as_any().downcast_ref::<TimerFd>() {
        Some(t) => f(cx, t),
        None => err(Errno::EINVAL),
    }
}

/// timerfd_settime(2)
pub fn sys_timerfd_settime(cx: &mut Cx<'_>, fd: Fd, flags: i32, new: Ptr, old: Ptr) -> Io<u64> {
    let set = Itimerspec::read(cx, new.0)?;
    if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
        return err(Errno::EINVAL);
    }
    with(cx, fd, |cx, t| {
        let now = cx.now();
        t.catch_up(cx.core, now);
        let was = t.setting(now);
        if let Some(key) = t.key.take() {
            cx.core.timers.cancel(key);
        }
        t.expired.set(false);
        t.ticks.set(0);
        t.at.set(None);
        t.interval.set(set.interval);
        if set.value > 0 {
            let at = if flags & TFD_TIMER_ABSTIME != 0 {
                ClockId::Wall(t.offset).to_monotonic(set.value).unwrap_or(0)
            } else {
                now.saturating_add(set.value)
            };
            t.start(&cx.core.timers, at);
        }
        if !old.is_null() {
            was.write(cx, old.0)?;
        }
        Ok(0)
    })
}

/// timerfd_gettime(2)
pub fn sys_timerfd_gettime(cx: &mut Cx<'_>, fd: Fd, out: Ptr) -> Io<u64> {
    with(cx, fd, |cx, t| {
        let now = cx.now();
        t.catch_up(cx.core, now);
        t.setting(now).write(cx, out.0)?;
        Ok(0)
    })
}
