//! Clock numbers and reading them (kernel/time/posix-timers.c, posix-cpu-timers.c).

use super::{NSEC, Timespec, cpu};
use crate::args::Ptr;
use crate::cx::Cx;
use crate::task::{Process, Task};
use ftl_core::errno::Errno;
use ftl_core::io::Io;
use ftl_core::platform::Ns;
use ftl_core::wait::Tid;
use std::rc::Rc;

/// Resolution of the coarse clocks: a tick at CONFIG_HZ=250, as Debian builds it.
const COARSE_NS: u64 = 4_000_000;

/// A clock that a number names.
#[derive(Clone)]
pub enum ClockId {
    /// CLOCK_MONOTONIC and those that tick with it; the number is its offset from it.
    Wall(i64),
    /// CPU time of a thread.
    Thread(Rc<Task>),
    /// CPU time of a process.
    Process(Rc<Process>),
}

#[allow(missing_docs)]
mod id {
    pub const REALTIME: i32 = 0;
    pub const MONOTONIC: i32 = 1;
    pub const PROCESS_CPUTIME: i32 = 2;
    pub const THREAD_CPUTIME: i32 = 3;
    pub const MONOTONIC_RAW: i32 = 4;
    pub const REALTIME_COARSE: i32 = 5;
    pub const MONOTONIC_COARSE: i32 = 6;
    pub const BOOTTIME: i32 = 7;
    pub const REALTIME_ALARM: i32 = 8;
    pub const BOOTTIME_ALARM: i32 = 9;
    pub const TAI: i32 = 11;
}

impl ClockId {
    /// The clock with number `id` as the calling task sees it; EINVAL.
    pub fn of(cx: &Cx<'_>, id: i32) -> Result<ClockId, Errno> {
        let c = cx.core.clock;
        Ok(match id {
            // TAI's offset is 0 until someone sets it; nobody can.
            id::REALTIME | id::REALTIME_COARSE | id::REALTIME_ALARM | id::TAI => {
                ClockId::Wall(c.real_offset.get() as i64)
            }
            id::MONOTONIC | id::MONOTONIC_RAW | id::MONOTONIC_COARSE => ClockId::Wall(0),
            id::BOOTTIME | id::BOOTTIME_ALARM => ClockId::Wall(c.boot_offset.get() as i64),
            id::PROCESS_CPUTIME => ClockId::Process(cx.task.process()),
            id::THREAD_CPUTIME => ClockId::Thread(cx.task.clone()),
            i32::MIN..0 => return dynamic(cx, id),
            _ => return Err(Errno::EINVAL),
        })
    }

    /// Its value.
    pub fn read(&self, cx: &mut Cx<'_>) -> Timespec {
        let now = cx.now();
        match self {
            ClockId::Wall(offset) => Timespec::from_wide(i128::from(now) + i128::from(*offset)),
            _ => {
                cx.k.charge();
                Timespec::from_ns(self.used())
            }
        }
    }

    /// CPU time as charged so far; 0 for a wall clock.
    pub fn used(&self) -> Ns {
        match self {
            ClockId::Wall(_) => 0,
            ClockId::Thread(t) => t.cpu_ns.get(),
            ClockId::Process(p) => cpu::of_process(p),
        }
    }

    /// An absolute time of this clock on the monotonic one. CPU clocks have none.
    pub fn to_monotonic(&self, at: Ns) -> Option<Ns> {
        match self {
            ClockId::Wall(offset) => {
                let m = i128::from(at) - i128::from(*offset);
                Some(u64::try_from(m.max(0)).unwrap_or(u64::MAX))
            }
            _ => None,
        }
    }
}

/// Clocks of pids and tids: `~pid << 3`, a bit for threads, and which time.
fn dynamic(cx: &Cx<'_>, id: i32) -> Result<ClockId, Errno> {
    const PER_THREAD: i32 = 4;
    const WHICH: i32 = 3;
    const CLOCKFD: i32 = 3;
    // PROF, VIRT and SCHED are one: the image knows no system time.
    if id & WHICH == CLOCKFD {
        return Err(Errno::EINVAL);
    }
    let pid = Tid(!(id >> 3) as u32);
    let own = cx.task.process();
    if id & PER_THREAD != 0 {
        if pid.0 == 0 {
            return Ok(ClockId::Thread(cx.task.clone()));
        }
        let t = own.threads.borrow().get(&pid).cloned();
        return t.map(ClockId::Thread).ok_or(Errno::EINVAL);
    }
    if pid.0 == 0 {
        return Ok(ClockId::Process(own));
    }
    let p = cx.k.procs.borrow().get(&pid).cloned();
    p.map(ClockId::Process).ok_or(Errno::EINVAL)
}

/// clock_gettime(2)
pub fn sys_clock_gettime(cx: &mut Cx<'_>, id: i32, out: Ptr) -> Io<u64> {
    let clock = ClockId::of(cx, id)?;
    clock.read(cx).write(cx, out.0)?;
    Ok(0)
}

/// clock_getres(2)
pub fn sys_clock_getres(cx: &mut Cx<'_>, id: i32, out: Ptr) -> Io<u64> {
    ClockId::of(cx, id)?;
    let ns = match id {
        id::REALTIME_COARSE | id::MONOTONIC_COARSE => COARSE_NS,
        _ => 1,
    };
    if !out.is_null() {
        Timespec::from_ns(ns).write(cx, out.0)?;
    }
    Ok(0)
}

/// gettimeofday(2). The time zone is UTC, as on any machine that does not set the kernel's.
pub fn sys_gettimeofday(cx: &mut Cx<'_>, tv: Ptr, tz: Ptr) -> Io<u64> {
    if !tv.is_null() {
        let t = Timespec::from_wide(cx.realtime());
        cx.put(tv.0, &[t.sec, t.nsec / 1000])?;
    }
    if !tz.is_null() {
        cx.put(tz.0, &[0i32, 0])?;
    }
    Ok(0)
}

/// time(2)
pub fn sys_time(cx: &mut Cx<'_>, out: Ptr) -> Io<u64> {
    let sec = cx.realtime().div_euclid(i128::from(NSEC)) as i64;
    if !out.is_null() {
        cx.put(out.0, &sec)?;
    }
    Ok(sec as u64)
}
