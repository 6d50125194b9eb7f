//! Starting requests, running them again, and ending them: completions, chains, drains.
//!
//! Nothing here recurses over requests: what one end sets off is put on lists that [`settle`] goes through.

use super::job::{Job, State};
use super::num::{Cqe, cqe, needs_file, op};
use super::ops::{self, Out};
use super::ring::Ring;
use super::timeout;
use crate::cx::Cx;
use crate::kernel::Kernel;
use ftl_core::errno::Errno;
use ftl_core::io::{Restart, Stop};
use ftl_core::kcore::Env;
use ftl_core::platform::Platform;
use ftl_core::wait::{SpaceId, URING_WAKE, Wake};
use std::rc::Rc;

/// How a request ends.
#[derive(Clone, Copy)]
pub struct Ended {
    res: i32,
    flags: u32,
    failed: bool,
}

impl Ended {
    /// With a result.
    pub fn of(res: i32, flags: u32, failed: bool) -> Ended {
        Ended { res, flags, failed }
    }
    /// With an error, which breaks the chain.
    pub fn error(e: Errno) -> Ended {
        Ended::of(-e.raw(), 0, true)
    }
}

/// The request ends as cancelled, after what is running now.
pub fn cancel(cx: &mut Cx<'_>, ring: &Ring, job: &Rc<Job>) {
    ring.disarm(&cx.core.timers, job);
    job.preset.set(Some(-Errno::ECANCELED.raw()));
    job.state.set(State::Ready);
    if job.sqe.get().opcode == op::TIMEOUT {
        ring.timeouts.set(ring.timeouts.get().wrapping_add(1));
    }
    ring.started.borrow_mut().push_back(job.clone());
}

/// It waits in a system call's handler.
pub fn runs_handler(job: &Job) -> bool {
    !matches!(
        job.sqe.get().opcode,
        op::POLL_ADD | op::TIMEOUT | op::LINK_TIMEOUT
    )
}

/// The handler's last run, as if a signal had come.
pub fn unwind(cx: &mut Cx<'_>, ring: &Ring, job: &Rc<Job>) -> Ended {
    ring.disarm(&cx.core.timers, job);
    job.wake.set(Wake::Signal);
    job.state.set(State::Runs);
    match job.run(cx, |cx| ops::run(cx, ring, job)) {
        Out::Done(res, flags, failed) if res != -i64::from(Errno::EINTR.raw()) => {
            Ended::of(res as i32, flags, failed)
        }
        Out::More(res, flags) => Ended::of(res, flags, false),
        _ => Ended::error(Errno::ECANCELED),
    }
}

/// Starts a request whose turn it is, or ends it as it is preset.
pub fn start(cx: &mut Cx<'_>, ring: &Ring, job: &Rc<Job>) {
    if job.state.get() == State::Done {
        return;
    }
    ring.jobs.borrow_mut().insert(job.id, job.clone());
    if job.task.dead.get() && job.preset.get().is_none() {
        // Nobody is left to run it.
        job.preset.set(Some(-Errno::ECANCELED.raw()));
    }
    // One that waits in its handler is told there that it is over: what it has done so far counts.
    let unwinds = job.begun.get() && job.preset.get().is_some() && !job.task.dead.get() && runs_handler(job);
    if (job.preset.get().is_none() || unwinds) && Some(job.task.entity.space.get()) != cx.k.uring.here.get() {
        ring.ready_elsewhere(job);
        return;
    }
    if unwinds {
        let how = unwind(cx, ring, job);
        end(cx, ring, job, how);
        return;
    }
    job.begun.set(true);
    if let Some(res) = job.preset.get() {
        end(cx, ring, job, Ended::of(res, 0, true));
        return;
    }
    if job.files.borrow()[0].is_none()
        && needs_file(job.sqe.get().opcode)
        && let Err(e) = ops::take_files(ring, job)
    {
        end(cx, ring, job, Ended::error(e));
        return;
    }
    run(cx, ring, job);
    // A limit of its time runs beside it.
    let limit = job
        .link
        .borrow()
        .clone()
        .filter(|l| l.sqe.get().opcode == op::LINK_TIMEOUT);
    if let Some(limit) = limit
        && job.state.get() != State::Done
        && job.partner.borrow().is_none()
        && limit.preset.get().is_none()
    {
        *job.link.borrow_mut() = limit.link.borrow_mut().take();
        *job.partner.borrow_mut() = Some(limit.clone());
        *limit.partner.borrow_mut() = Some(job.clone());
        ring.jobs.borrow_mut().insert(limit.id, limit.clone());
        run(cx, ring, &limit);
    }
}

/// Runs a request until it ends or waits.
fn run(cx: &mut Cx<'_>, ring: &Ring, job: &Rc<Job>) {
    if job.sqe.get().opcode == op::LINK_TIMEOUT && job.wake.get() == Wake::Timeout {
        timeout::expire(cx, ring, job);
        return;
    }
    loop {
        job.state.set(State::Runs);
        let out = job.run(cx, |cx| ops::run(cx, ring, job));
        match out {
            Out::Done(res, flags, failed) => {
                end(cx, ring, job, Ended::of(res as i32, flags, failed));
                return;
            }
            Out::More(res, flags) => {
                let c = Cqe {
                    user_data: job.user_data.get(),
                    res,
                    flags: flags | cqe::MORE,
                };
                if !ring.post_more(cx.env.plat, c) {
                    // No room: the last of them is kept with those that wait for it.
                    end(cx, ring, job, Ended::of(res, flags, false));
                    return;
                }
                job.again();
            }
            Out::Block(b) => {
                job.state.set(State::Armed);
                // A request that waits to read or write shares the wake, as in Linux: it may end without having
                // taken anything, and then nobody else would be woken.
                let alone = matches!(job.sqe.get().opcode, op::ACCEPT | op::POLL_ADD);
                for on in &b.on {
                    ring.listen(job, &on.queue, on.mask, on.exclusive && alone);
                }
                if let Some(at) = b.deadline {
                    ring.alarm(&cx.core.timers, job, at);
                }
                return;
            }
            Out::Armed => {
                if job.state.get() == State::Runs {
                    job.state.set(State::Armed);
                }
                return;
            }
        }
    }
}

/// A request is over: its completion, its time limit, the rest of its chain.
pub fn end(cx: &mut Cx<'_>, ring: &Ring, job: &Rc<Job>, how: Ended) {
    if job.state.replace(State::Done) == State::Done {
        return;
    }
    ring.jobs.borrow_mut().remove(&job.id);
    ring.disarm(&cx.core.timers, job);
    job.files.take();
    if job.sqe.get().has(super::num::sqe::ASYNC) {
        ring.worker.set(true);
    }
    if job.target.take().is_some() {
        ring.counted.set(ring.counted.get() - 1);
    }
    if !job.skip.get() || how.failed {
        let c = Cqe {
            user_data: job.user_data.get(),
            res: how.res,
            flags: how.flags,
        };
        ring.post(cx.env.plat, c);
    }
    // What limits it, or what it limits, stands alone from here on.
    if job.sqe.get().opcode == op::LINK_TIMEOUT {
        if let Some(limited) = job.partner.borrow_mut().take() {
            limited.partner.borrow_mut().take();
        }
    } else {
        timeout::lift(cx, ring, job);
    }
    let Some(next) = job.link.borrow_mut().take() else {
        return;
    };
    let broken = how.failed && (job.wrong.get() || job.sqe.get().flags & super::num::sqe::HARDLINK == 0);
    if broken {
        let silent = job.skip.get();
        let mut rest = Some(next);
        while let Some(j) = rest {
            rest = j.link.borrow_mut().take();
            j.state.set(State::Done);
            ring.disarm(&cx.core.timers, &j);
            ring.jobs.borrow_mut().remove(&j.id);
            j.files.take();
            if !silent {
                let c = Cqe {
                    user_data: j.user_data.get(),
                    res: j.preset.get().unwrap_or(-Errno::ECANCELED.raw()),
                    flags: 0,
                };
                ring.post(cx.env.plat, c);
            }
        }
        return;
    }
    // An unused limit of this request's time goes with it.
    let mut next = Some(next);
    while let Some(limit) = next
        .clone()
        .filter(|n| n.sqe.get().opcode == op::LINK_TIMEOUT && n.preset.get().is_none())
    {
        next = limit.link.borrow_mut().take();
        limit.state.set(State::Done);
        if !limit.skip.get() {
            let c = Cqe {
                user_data: limit.user_data.get(),
                res: -Errno::ECANCELED.raw(),
                flags: 0,
            };
            ring.post(cx.env.plat, c);
        }
    }
    if let Some(next) = next {
        ring.started.borrow_mut().push_back(next);
    }
}

/// Goes on with what ends have set off: chains, drains, counted timeouts; then wakes who waits.
pub fn settle(cx: &mut Cx<'_>, ring: &Ring) {
    loop {
        let next = ring.started.borrow_mut().pop_front();
        if let Some(job) = next {
            start(cx, ring, &job);
            continue;
        }
        timeout::count(cx, ring);
        let ready = {
            let drain = ring.drain.borrow();
            drain
                .front()
                .is_some_and(|j| !super::submit::drains(j) || ring.jobs.borrow().is_empty())
        };
        if ready && let Some(job) = ring.drain.borrow_mut().pop_front() {
            ring.started.borrow_mut().push_back(job);
            continue;
        }
        if ring.started.borrow().is_empty() {
            break;
        }
    }
    ring.commit(cx.env.plat);
}

/// Runs a request that could go on again.
fn resume(cx: &mut Cx<'_>, ring: &Ring, id: u64) {
    let job = ring.jobs.borrow().get(&id).cloned();
    let Some(job) = job.filter(|j| j.state.get() == State::Ready) else {
        return;
    };
    if !job.begun.get() || job.preset.get().is_some() {
        start(cx, ring, &job);
        return;
    }
    let timed_out = job.wake.get() == Wake::Timeout;
    if !timed_out && let Some(key) = job.timer.take() {
        cx.core.timers.cancel(key);
    }
    if job.sqe.get().opcode != op::POLL_ADD {
        job.woken.set(job.woken.get() & URING_WAKE);
    }
    run(cx, ring, &job);
}

/// With SETUP_DEFER_TASKRUN: runs what could go on, as io_uring_enter wants it.
pub fn run_put_off(cx: &mut Cx<'_>, ring: &Ring) {
    loop {
        let id = ring.put_off.borrow_mut().pop_front();
        let Some(id) = id else { break };
        resume(cx, ring, id);
    }
    ring.show_put_off(cx.env.plat);
    settle(cx, ring);
}

/// Runs what could go on in the space that runs now. `Some`: another space has work to do.
pub fn serve(k: &Kernel, plat: &mut dyn Platform, here: SpaceId) -> Option<SpaceId> {
    k.uring.here.set(Some(here));
    loop {
        let next = k.uring.ready.borrow().front().cloned();
        let (ring, id) = next?;
        let found = ring.upgrade().and_then(|r| {
            let job = r.jobs.borrow().get(&id).cloned()?;
            Some((r, job))
        });
        let Some((ring, job)) = found else {
            k.uring.ready.borrow_mut().pop_front();
            continue;
        };
        if ring.has(super::num::setup::DEFER_TASKRUN) {
            k.uring.ready.borrow_mut().pop_front();
            ring.put_off(plat, id);
            continue;
        }
        let space = job.task.entity.space.get();
        if job.task.dead.get() {
            k.uring.ready.borrow_mut().pop_front();
            let env = Env { plat, core: &k.core };
            let task = k.current.borrow().clone().unwrap_or_else(|| job.task.clone());
            let mut cx = Cx { env, k, task };
            if matches!(job.sqe.get().opcode, op::TIMEOUT | op::LINK_TIMEOUT) {
                resume(&mut cx, &ring, id);
            } else {
                end(&mut cx, &ring, &job, Ended::error(Errno::ECANCELED));
            }
            settle(&mut cx, &ring);
            continue;
        }
        if space != here {
            return Some(space);
        }
        k.uring.ready.borrow_mut().pop_front();
        crate::mm::catch_up(k, plat, &job.task.mm());
        let mut cx = Cx {
            env: Env { plat, core: &k.core },
            k,
            task: job.task.clone(),
        };
        resume(&mut cx, &ring, id);
        settle(&mut cx, &ring);
    }
}

/// For the wait in io_uring_enter.
pub fn wait(cx: &mut Cx<'_>, ring: &Ring, deadline: Option<ftl_core::platform::Ns>) -> Stop {
    cx.wait_until(vec![ring.queue.on()], deadline, Restart::Never)
}
