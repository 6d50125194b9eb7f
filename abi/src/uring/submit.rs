//! io_uring_enter(2): taking entries, and waiting for completions.

use super::engine;
use super::job::Job;
use super::num::{self, Sqe, enter, op, setup, sqe};
use super::ops;
use super::ring::Ring;
use crate::args::{Bits, Fd, Ptr};
use crate::cx::Cx;
use crate::event::sigmask::with_mask;
use crate::fdtable::OpenFile;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Stop, err};
use std::rc::Rc;

/// The request waits for all that was submitted before it.
pub fn drains(job: &Job) -> bool {
    job.sqe.get().has(sqe::DRAIN)
}

/// A chain that is being put together.
#[derive(Default)]
struct Chain {
    head: Option<Rc<Job>>,
    last: Option<Rc<Job>>,
}

impl Chain {
    fn append(&mut self, job: &Rc<Job>) {
        match &self.last {
            Some(last) => *last.link.borrow_mut() = Some(job.clone()),
            None => self.head = Some(job.clone()),
        }
        self.last = Some(job.clone());
    }
}

/// What is checked before an operation's own checks (io_init_req).
fn check(ring: &Ring, s: &Sqe) -> Result<(), Errno> {
    if s.opcode >= op::LAST || s.flags & !sqe::KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if s.has(sqe::BUFFER_SELECT) && !num::selects_buffer(s.opcode) {
        return Err(Errno::EOPNOTSUPP);
    }
    if s.has(sqe::CQE_SKIP) {
        // What drains counts completions.
        ring.skips.set(true);
    }
    if s.has(sqe::DRAIN) && ring.skips.get() {
        return Err(Errno::EOPNOTSUPP);
    }
    if let Some(r) = &*ring.restrictions.borrow()
        && !r.allows(s.opcode, s.flags)
    {
        return Err(Errno::EACCES);
    }
    if s.ioprio != 0 && !num::uses_ioprio(s.opcode) || !num::supported(s.opcode) {
        return Err(Errno::EINVAL);
    }
    if ring.has(setup::IOPOLL) {
        // No file of an image can be polled for completions.
        return Err(match s.opcode {
            op::READV | op::WRITEV | op::READ | op::WRITE | op::READ_FIXED | op::WRITE_FIXED => {
                Errno::EOPNOTSUPP
            }
            op::NOP | op::PROVIDE_BUFFERS | op::REMOVE_BUFFERS | op::FILES_UPDATE | op::MSG_RING => {
                return Ok(());
            }
            _ => Errno::EINVAL,
        });
    }
    Ok(())
}

/// Takes one entry. False: nothing is taken after it.
fn submit_one(cx: &mut Cx<'_>, ring: &Ring, chain: &mut Chain, s: Sqe) -> bool {
    let mut checked = check(ring, &s);
    let creds = match s.personality {
        0 => None,
        p => {
            let found = ring.personalities.borrow().get(&p).cloned();
            if found.is_none() {
                checked = checked.and(Err(Errno::EINVAL));
            }
            found
        }
    };
    let job = Job::new(ring, s, &cx.task, creds);
    job.skip.set(s.has(sqe::CQE_SKIP));
    if checked.is_ok() {
        let alone = match &chain.last {
            Some(l) => l.sqe.get().opcode == op::LINK_TIMEOUT,
            None => true,
        };
        checked = ops::prepare(cx, &job, alone);
    }
    if ring.drain_next.get() && chain.head.is_none() {
        ring.drain_next.set(false);
        let mut s = job.sqe.get();
        s.flags |= sqe::DRAIN;
        job.sqe.set(s);
    }
    if s.has(sqe::DRAIN)
        && let Some(head) = &chain.head
    {
        let mut first = head.sqe.get();
        first.flags |= sqe::DRAIN;
        head.sqe.set(first);
        ring.drain_next.set(true);
    }
    if let Err(e) = checked {
        job.preset.set(Some(-e.raw()));
        job.wrong.set(true);
        if let Some(head) = &chain.head {
            head.wrong.set(true);
            if head.preset.get().is_none() {
                head.preset.set(Some(-Errno::ECANCELED.raw()));
            }
        }
    }
    chain.append(&job);
    if s.links() && s.flags & !sqe::KNOWN == 0 {
        return true;
    }
    finish(cx, ring, chain);
    checked.is_ok()
}

/// The chain is complete.
fn finish(cx: &mut Cx<'_>, ring: &Ring, chain: &mut Chain) {
    let Some(head) = std::mem::take(chain).head else {
        return;
    };
    let idle = ring.jobs.borrow().is_empty() && ring.started.borrow().is_empty();
    if !ring.drain.borrow().is_empty() || drains(&head) && !idle {
        ring.drain.borrow_mut().push_back(head);
        return;
    }
    engine::start(cx, ring, &head);
}

/// Takes at most `n` entries; how many.
fn submit(cx: &mut Cx<'_>, ring: &Ring, n: u32) -> u32 {
    let n = n.min(ring.submitted(cx.env.plat));
    let mut chain = Chain::default();
    let mut done = 0;
    while done < n {
        let Some(s) = ring.take(cx.env.plat) else { break };
        done += 1;
        if !submit_one(cx, ring, &mut chain, s) && !ring.has(setup::SUBMIT_ALL) {
            break;
        }
    }
    finish(cx, ring, &mut chain);
    ring.taken(cx.env.plat);
    engine::settle(cx, ring);
    done
}

/// The description of a ring by descriptor, or by what the task has registered: EBADF, EOPNOTSUPP.
pub fn find(cx: &Cx<'_>, fd: i32, registered: bool) -> Result<Rc<OpenFile>, Errno> {
    let open = if registered {
        let all = cx.k.uring.registered.borrow();
        let mine = all.get(&cx.task.tid).ok_or(Errno::EINVAL)?;
        let slot = usize::try_from(fd).ok().and_then(|i| mine.get(i));
        slot.ok_or(Errno::EINVAL)?.clone().ok_or(Errno::EBADF)?
    } else {
        cx.task.files().get(fd)?
    };
    match Ring::of(&open) {
        Some(_) => Ok(open),
        None => Err(Errno::EOPNOTSUPP),
    }
}

/// struct io_uring_getevents_arg: signal mask, its size, timeout.
fn arguments(cx: &mut Cx<'_>, flags: u32, arg: Ptr, size: u64) -> Result<(u64, u64, u64), Errno> {
    if flags & enter::EXT_ARG == 0 {
        return Ok((arg.0, size, 0));
    }
    if size != 24 {
        return Err(Errno::EINVAL);
    }
    let [mask, sizes, time]: [u64; 3] = cx.get(arg.0)?;
    if sizes >> 32 != 0 {
        return Err(Errno::EINVAL);
    }
    Ok((mask, sizes, time))
}

/// Waits until so many completions are there.
fn wait(cx: &mut Cx<'_>, ring: &Ring, min: u32, args: (u64, u64, u64)) -> Io<u64> {
    engine::run_put_off(cx, ring);
    ring.flush_overflow(cx.env.plat);
    ring.commit(cx.env.plat);
    let min = min.min(ring.cq_entries);
    let have = ring.available(cx.env.plat);
    let began = cx.task.entity.progress.get() as u32;
    if have >= min || began != ring.timeouts.get() {
        return Ok(0);
    }
    let (mask, size, time) = args;
    let deadline = match time {
        0 => None,
        at => {
            // Not checked: what is not a time has passed.
            let [sec, nsec]: [i64; 2] = cx.get(at)?;
            let ns = i128::from(sec) * 1_000_000_000 + i128::from(nsec);
            let ns = u64::try_from(ns.max(0)).unwrap_or(u64::MAX);
            Some(cx.deadline_in(ns))
        }
    };
    with_mask(cx, Ptr(mask), size, |cx| {
        let over = cx.timed_out() || deadline.is_some_and(|d| d <= cx.core.clock.last());
        let stop = if over {
            Stop::Errno(Errno::ETIME)
        } else {
            engine::wait(cx, ring, deadline)
        };
        match stop {
            // What is there counts more than why the wait ended.
            Stop::Errno(_) | Stop::Interrupted(_) if have > 0 => Ok(0),
            stop => Err(stop),
        }
    })
}

/// io_uring_enter(2)
pub fn sys_io_uring_enter(
    cx: &mut Cx<'_>,
    fd: Fd,
    to_submit: u32,
    min: u32,
    flags: Bits,
    arg: Ptr,
    size: u64,
) -> Io<u64> {
    const BEGAN: u64 = 1 << 63;
    let flags = flags.0 as u32;
    if flags & !enter::KNOWN != 0 {
        return err(Errno::EINVAL);
    }
    let open = find(cx, fd.0, flags & enter::REGISTERED_RING != 0)?;
    let ring = Ring::of(&open).ok_or(Errno::EOPNOTSUPP)?;
    if ring.disabled.get() {
        return err(Errno::EBADFD);
    }
    cx.k.uring.here.set(Some(cx.task.entity.space.get()));
    let mine = ring.issuer.get().is_none_or(|t| t == cx.task.tid);
    let before = cx.task.entity.progress.get();
    let submitted = if before & BEGAN != 0 {
        (before >> 32) as u32 & 0xffff
    } else {
        let n = if ring.has(setup::SQPOLL) {
            // Its thread goes on behind an entry that fails.
            let mut left = ring.submitted(cx.env.plat);
            while left > 0 {
                submit(cx, ring, left);
                let before = std::mem::replace(&mut left, ring.submitted(cx.env.plat));
                if left >= before {
                    break;
                }
            }
            to_submit
        } else if to_submit > 0 {
            if !mine {
                return err(Errno::EEXIST);
            }
            submit(cx, ring, to_submit)
        } else {
            0
        };
        if n != to_submit || flags & enter::GETEVENTS == 0 {
            return Ok(u64::from(n));
        }
        let timeouts = u64::from(ring.timeouts.get());
        let kept = BEGAN | u64::from(n.min(0xffff)) << 32 | timeouts;
        cx.task.entity.progress.set(kept);
        n
    };
    let result = if ring.has(setup::DEFER_TASKRUN) && !mine {
        err(Errno::EEXIST)
    } else {
        match arguments(cx, flags, arg, size) {
            Ok(args) => wait(cx, ring, min, args),
            Err(e) => err(e),
        }
    };
    match result {
        Err(Stop::Block(b)) => Err(Stop::Block(b)),
        _ if submitted > 0 => Ok(u64::from(submitted)),
        r => r,
    }
}
