//! nanosleep(2), clock_nanosleep(2).
//!
//! A sleep keeps its absolute deadline over signals that run no handler (ERESTART_RESTARTBLOCK), and
//! says what was left when one did.

use super::{ClockId, Timespec};
use crate::args::Ptr;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, Stop, err};
use ftl_core::platform::Ns;

const TIMER_ABSTIME: i32 = 1;

/// nanosleep(2)
pub fn sys_nanosleep(cx: &mut Cx<'_>, req: Ptr, rem: Ptr) -> Io<u64> {
    let ns = Timespec::read(cx, req.0)?.ns()?;
    relative(cx, ns, rem)
}

/// clock_nanosleep(2)
pub fn sys_clock_nanosleep(cx: &mut Cx<'_>, id: i32, flags: i32, req: Ptr, rem: Ptr) -> Io<u64> {
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    const CAP_WAKE_ALARM: u32 = 35;
    let clock = ClockId::of(cx, id)?;
    match id {
        // RAW and the coarse clocks cannot be slept on.
        4..=6 => return err(Errno::EOPNOTSUPP),
        CLOCK_THREAD_CPUTIME_ID => return err(Errno::EOPNOTSUPP),
        _ => {}
    }
    let ns = Timespec::read(cx, req.0)?.ns()?;
    if matches!(id, 8 | 9) && !cx.task.creds.borrow().capable(CAP_WAKE_ALARM) {
        return err(Errno::EPERM);
    }
    let absolute = flags & TIMER_ABSTIME != 0;
    match clock.to_monotonic(ns) {
        Some(at) if absolute => {
            let at = cx.deadline_at(at);
            until(cx, at, None)
        }
        Some(_) => relative(cx, ns, rem),
        None => cpu_sleep(cx, &clock, ns, absolute),
    }
}

fn relative(cx: &mut Cx<'_>, ns: Ns, rem: Ptr) -> Io<u64> {
    if ns == 0 {
        cx.k.yield_now();
        return Ok(0);
    }
    let at = cx.deadline_in(ns);
    until(cx, at, (!rem.is_null()).then_some(rem))
}

fn until(cx: &mut Cx<'_>, at: Ns, rem: Option<Ptr>) -> Io<u64> {
    let now = cx.now();
    if cx.timed_out() || now >= at {
        return Ok(0);
    }
    let stop = cx.wait_until(Vec::new(), Some(at), Restart::NoHandler);
    if let (Stop::Interrupted(_), Some(rem)) = (&stop, rem) {
        Timespec::from_ns(at - now).write(cx, rem.0)?;
    }
    Err(stop)
}

/// Sleeps until a process has used so much CPU time.
fn cpu_sleep(cx: &mut Cx<'_>, clock: &ClockId, ns: Ns, absolute: bool) -> Io<u64> {
    if matches!(clock, ClockId::Thread(t) if t.tid == cx.task.tid) {
        return err(Errno::EINVAL);
    }
    let now = cx.now();
    cx.k.charge();
    let used = clock.used();
    // The goal is kept where other calls keep their deadline: it lives as long as the call.
    let goal = cx
        .task
        .entity
        .deadline
        .get()
        .unwrap_or(if absolute { ns } else { used.saturating_add(ns) });
    cx.task.entity.deadline.set(Some(goal));
    if used >= goal {
        return Ok(0);
    }
    let earliest = now.saturating_add(goal - used);
    Err(cx.wait_until(Vec::new(), Some(earliest), Restart::NoHandler))
}
