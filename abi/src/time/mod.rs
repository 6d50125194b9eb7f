//! Time: clocks, sleeping, interval timers, POSIX timers, timerfd, CPU time.
//!
//! Everything counts on the image's virtual clock ([`ftl_core::clock`]): CLOCK_MONOTONIC is its value,
//! CLOCK_REALTIME and CLOCK_BOOTTIME are it plus an offset that was fixed at start and never steps.
//! CPU time is the virtual time that passed while a task was the current one, charged when the
//! scheduler switches ([`cpu`]).

mod adjust;
mod clocks;
pub mod cpu;
mod itimer;
mod posix;
mod sleep;
mod timerfd;
mod types;
mod usage;

pub use adjust::{sys_adjtimex, sys_clock_adjtime, sys_clock_settime, sys_settimeofday};
pub use clocks::{ClockId, sys_clock_getres, sys_clock_gettime, sys_gettimeofday, sys_time};
pub use itimer::{sys_alarm, sys_getitimer, sys_setitimer};
pub use posix::{
    sys_timer_create, sys_timer_delete, sys_timer_getoverrun, sys_timer_gettime, sys_timer_settime,
};
pub use sleep::{sys_clock_nanosleep, sys_nanosleep};
pub use timerfd::{sys_timerfd_create, sys_timerfd_gettime, sys_timerfd_settime};
pub use types::{Itimerspec, NSEC, Timespec, Timeval, USER_HZ};
pub use usage::{sys_getrusage, sys_times};

use crate::signal::{SigInfo, code, sig};
use crate::task::Process;
use ftl_core::kcore::Core;

/// The timers of a process.
#[derive(Default)]
pub struct ProcTimers {
    itimers: itimer::Itimers,
    posix: posix::PosixTimers,
    /// What waits for the process's CPU time.
    pub cpu: cpu::CpuTimers,
}

/// A signal was taken from a queue: the timer that it came from goes on, and what it missed
/// meanwhile is its overrun count (posixtimer_rearm).
pub fn signal_taken(core: &Core, proc: &Process, info: &mut SigInfo) {
    if info.signo == sig::SIGALRM && info.code == code::SI_KERNEL {
        proc.timers.itimers.real_taken(core);
    } else if info.code == code::SI_TIMER {
        proc.timers.posix.taken(core, info);
    }
}

/// execve ends POSIX timers; interval timers go on.
pub fn on_exec(proc: &Process) {
    proc.timers.posix.clear(proc);
}

/// The process has ended: a zombie's timers must not go on.
pub fn on_end(core: &Core, proc: &Process) {
    proc.timers.posix.clear(proc);
    proc.timers.itimers.clear(core);
    proc.timers.cpu.clear();
}

/// Stat of a file object that has no place in a file system.
pub fn anon_stat() -> ftl_core::platform::Stat {
    ftl_core::platform::Stat {
        dev: ftl_ipc::anon::DEV_ANON,
        ino: 1,
        mode: 0o600,
        nlink: 1,
        blksize: 4096,
        ..Default::default()
    }
}
