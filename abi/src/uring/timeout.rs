//! IORING_OP_TIMEOUT, LINK_TIMEOUT, TIMEOUT_REMOVE.

use super::job::{Job, State};
use super::num::{Sqe, cqe, op, sqe};
use super::ops::Out;
use super::ring::Ring;
use super::{engine, engine::Ended};
use crate::args::Ptr;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::platform::Ns;
use ftl_core::wait::Wake;
use std::rc::Rc;

const ABS: u32 = 1;
const UPDATE: u32 = 2;
const BOOTTIME: u32 = 4;
const REALTIME: u32 = 8;
const LINK_UPDATE: u32 = 16;
const ETIME_SUCCESS: u32 = 32;
const MULTISHOT: u32 = 64;

fn invalid(bad: bool) -> Result<(), Errno> {
    if bad { Err(Errno::EINVAL) } else { Ok(()) }
}

/// The time at `addr` under `flags`: for an absolute one, on the monotonic clock.
fn time(cx: &mut Cx<'_>, addr: u64, flags: u32) -> Result<(Ns, bool), Errno> {
    let ns = crate::event::time::timespec(cx, Ptr(addr))?;
    if flags & ABS == 0 {
        return Ok((ns, false));
    }
    let clock = &cx.core.clock;
    let offset = match flags & (BOOTTIME | REALTIME) {
        REALTIME => clock.real_offset.get() as i64,
        BOOTTIME => clock.boot_offset.get() as i64,
        _ => 0,
    };
    let at = i128::from(ns) - i128::from(offset);
    Ok((Ns::try_from(at.max(0)).unwrap_or(Ns::MAX), true))
}

/// Checks an entry. `alone`: it does not follow an entry that links.
pub fn prepare(cx: &mut Cx<'_>, job: &Job, s: &Sqe, alone: bool) -> Result<(), Errno> {
    let linked = s.opcode == op::LINK_TIMEOUT;
    invalid(s.buf != 0 || s.len != 1 || s.file_index != 0)?;
    invalid(s.off != 0 && linked)?;
    invalid(s.op_flags & !(ABS | BOOTTIME | REALTIME | ETIME_SUCCESS | MULTISHOT) != 0)?;
    invalid(s.op_flags & (BOOTTIME | REALTIME) == BOOTTIME | REALTIME)?;
    invalid(s.op_flags & MULTISHOT != 0 && (s.op_flags & ABS != 0 || linked))?;
    job.time.set(time(cx, s.addr, s.op_flags)?);
    invalid(linked && alone)
}

/// Starts a timeout, or ends it: its time has come.
pub fn run(cx: &mut Cx<'_>, ring: &Ring, job: &Rc<Job>) -> Out {
    let s = job.sqe.get();
    if job.wake.get() == Wake::Fresh {
        let (ns, absolute) = job.time.get();
        let at = if absolute { ns } else { cx.now().saturating_add(ns) };
        if s.opcode == op::TIMEOUT && s.off != 0 && s.op_flags & MULTISHOT == 0 {
            job.target.set(Some(ring.sequence()));
            ring.counted.set(ring.counted.get() + 1);
        }
        ring.alarm(&cx.core.timers, job, at);
        return Out::Armed;
    }
    if s.op_flags & MULTISHOT != 0 {
        // off counts how often, 0 for ever.
        let last = s.off == 1;
        if !last {
            let c = super::num::Cqe {
                user_data: job.user_data.get(),
                res: -Errno::ETIME.raw(),
                flags: cqe::MORE,
            };
            if ring.post_more(cx.env.plat, c) {
                let mut next = s;
                next.off = s.off.saturating_sub(1);
                job.sqe.set(next);
                let at = cx.core.clock.last().saturating_add(job.time.get().0);
                ring.alarm(&cx.core.timers, job, at);
                return Out::Armed;
            }
        }
    }
    ring.timeouts.set(ring.timeouts.get().wrapping_add(1));
    let res = -i64::from(Errno::ETIME.raw());
    Out::Done(res, 0, s.op_flags & ETIME_SUCCESS == 0)
}

/// Ends the timeouts for which enough has been completed.
pub fn count(cx: &mut Cx<'_>, ring: &Ring) {
    while ring.counted.get() > 0 {
        let seq = ring.sequence();
        let due = ring.jobs.borrow().values().find_map(|j| {
            let got = seq.wrapping_sub(j.target.get()?);
            (j.state.get() == State::Armed && got >= j.sqe.get().off as u32).then(|| j.clone())
        });
        let Some(job) = due else { return };
        ring.timeouts.set(ring.timeouts.get().wrapping_add(1));
        engine::end(cx, ring, &job, Ended::of(0, 0, false));
    }
}

/// Checks IORING_OP_TIMEOUT_REMOVE.
pub fn prepare_remove(cx: &mut Cx<'_>, job: &Job, s: &Sqe) -> Result<(), Errno> {
    invalid(s.has(sqe::FIXED_FILE | sqe::BUFFER_SELECT))?;
    invalid(s.buf != 0 || s.len != 0 || s.file_index != 0)?;
    if s.op_flags & (UPDATE | LINK_UPDATE) != 0 {
        invalid(s.op_flags & !(ABS | UPDATE | BOOTTIME | REALTIME | LINK_UPDATE) != 0)?;
        invalid(s.op_flags & (BOOTTIME | REALTIME) == BOOTTIME | REALTIME)?;
        job.time.set(time(cx, s.off, s.op_flags)?);
    } else {
        invalid(s.op_flags != 0)?;
    }
    Ok(())
}

/// IORING_OP_TIMEOUT_REMOVE
pub fn remove(cx: &mut Cx<'_>, ring: &Ring, job: &Job, s: &Sqe) -> Out {
    let kind = match s.op_flags & LINK_UPDATE {
        0 => op::TIMEOUT,
        _ => op::LINK_TIMEOUT,
    };
    let found = ring
        .jobs
        .borrow()
        .values()
        .find(|j| j.sqe.get().opcode == kind && j.user_data.get() == s.addr && j.preset.get().is_none())
        .cloned();
    let Some(old) = found else {
        return Out::Done(-i64::from(Errno::ENOENT.raw()), 0, true);
    };
    if old.state.get() != State::Armed {
        return Out::Done(-i64::from(Errno::EALREADY.raw()), 0, true);
    }
    if s.op_flags & (UPDATE | LINK_UPDATE) != 0 {
        ring.disarm(&cx.core.timers, &old);
        let (ns, absolute) = job.time.get();
        let at = if absolute { ns } else { cx.now().saturating_add(ns) };
        if old.target.take().is_some() {
            ring.counted.set(ring.counted.get() - 1);
        }
        ring.alarm(&cx.core.timers, &old, at);
        return Out::Done(0, 0, false);
    }
    engine::cancel(cx, ring, &old);
    Out::Done(0, 0, false)
}

/// The limit of `job`, which has ended, is over too.
pub fn lift(cx: &mut Cx<'_>, ring: &Ring, job: &Job) {
    let limit = job.partner.borrow_mut().take();
    if let Some(limit) = limit
        && limit.state.get() != State::Done
    {
        limit.partner.borrow_mut().take();
        engine::end(cx, ring, &limit, Ended::of(-Errno::ECANCELED.raw(), 0, false));
    }
}

/// The time of a limit has come: the request it limits is cancelled.
pub fn expire(cx: &mut Cx<'_>, ring: &Ring, limit: &Rc<Job>) {
    let job = limit.partner.borrow_mut().take();
    let res = match job {
        Some(job) if job.state.get() != State::Done => {
            job.partner.borrow_mut().take();
            // What it has moved so far counts.
            let waits = job.begun.get() && !job.task.dead.get() && engine::runs_handler(&job);
            let how = match waits {
                true => engine::unwind(cx, ring, &job),
                false => Ended::error(Errno::ECANCELED),
            };
            engine::end(cx, ring, &job, how);
            Errno::ETIME
        }
        _ => Errno::ENOENT,
    };
    engine::end(cx, ring, limit, Ended::of(-res.raw(), 0, false));
}
