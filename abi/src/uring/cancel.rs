//! IORING_OP_ASYNC_CANCEL and its relatives.

use super::engine::{self, Ended};
use super::job::{Job, State};
use super::num::{Sqe, sqe};
use super::ops::Out;
use super::ring::Ring;
use crate::cx::Cx;
use crate::fdtable::OpenFile;
use crate::task::Task;
use ftl_core::errno::Errno;
use std::rc::Rc;

const ALL: u32 = 1;
const FD: u32 = 2;
const ANY: u32 = 4;
const FD_FIXED: u32 = 8;
const USERDATA: u32 = 16;
const OP: u32 = 32;
const KNOWN: u32 = 0x3f;

/// Which requests.
pub struct Which {
    flags: u32,
    user_data: u64,
    file: Option<Rc<OpenFile>>,
    opcode: u8,
}

impl Which {
    /// From the words of an entry or of struct io_uring_sync_cancel_reg: EINVAL, EBADF.
    pub fn new(
        cx: &Cx<'_>,
        ring: &Ring,
        flags: u32,
        user_data: u64,
        fd: i32,
        opcode: u8,
    ) -> Result<Which, Errno> {
        let file = if flags & FD != 0 && flags & ANY == 0 {
            let found = if flags & FD_FIXED != 0 {
                ring.fixed_file(fd as u32)
            } else {
                cx.task.files().get(fd).ok()
            };
            Some(found.ok_or(Errno::EBADF)?)
        } else {
            None
        };
        Ok(Which {
            flags,
            user_data,
            file,
            opcode,
        })
    }

    fn matches(&self, job: &Job) -> bool {
        if self.flags & ANY != 0 {
            return true;
        }
        let by_data = self.flags & (FD | OP) == 0 || self.flags & USERDATA != 0;
        let file = match &self.file {
            Some(f) => job.file().is_some_and(|o| Rc::ptr_eq(&o, f)),
            None => true,
        };
        file && (self.flags & OP == 0 || job.sqe.get().opcode == self.opcode)
            && (!by_data || job.user_data.get() == self.user_data)
    }

    fn many(&self) -> bool {
        self.flags & (ALL | ANY) != 0
    }
}

/// Checks an entry.
pub fn prepare(s: &Sqe) -> Result<(), Errno> {
    let bad = s.has(sqe::BUFFER_SELECT)
        || s.off != 0
        || s.file_index != 0
        || s.op_flags & !KNOWN != 0
        || s.op_flags & ANY != 0 && s.op_flags & (FD | OP) != 0;
    if bad { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Cancels: how many, or ENOENT.
pub fn cancel(cx: &mut Cx<'_>, ring: &Ring, which: &Which) -> Result<u32, Errno> {
    let mut n = 0;
    loop {
        let found = ring
            .jobs
            .borrow()
            .values()
            .find(|j| {
                matches!(j.state.get(), State::Armed | State::Ready)
                    && j.preset.get().is_none()
                    && which.matches(j)
            })
            .cloned();
        let Some(job) = found else { break };
        n += 1;
        engine::cancel(cx, ring, &job);
        if !which.many() {
            return Ok(0);
        }
    }
    if n == 0 && !which.many() {
        return Err(Errno::ENOENT);
    }
    Ok(n)
}

/// IORING_OP_ASYNC_CANCEL
pub fn run(cx: &mut Cx<'_>, ring: &Ring, s: &Sqe) -> Out {
    let flags = if s.has(sqe::FIXED_FILE) {
        s.op_flags | FD_FIXED
    } else {
        s.op_flags
    };
    let r = Which::new(cx, ring, flags, s.addr, s.fd, s.len as u8).and_then(|w| cancel(cx, ring, &w));
    match r {
        Ok(n) => Out::Done(i64::from(n), 0, false),
        Err(e) => Out::Done(-i64::from(e.raw()), 0, true),
    }
}

/// The task ends, or loads another program (`all`): what it has submitted anywhere is over. At its end, requests that
/// hold no ring open stay until their time or turn has come, as in Linux; then only timeouts end otherwise than
/// cancelled.
pub fn task_gone(cx: &mut Cx<'_>, task: &Rc<Task>, all: bool) {
    cx.k.uring.registered.borrow_mut().remove(&task.tid);
    if cx.k.uring.all.borrow().is_empty() {
        return;
    }
    cx.k.uring.here.set(Some(task.entity.space.get()));
    for ring in cx.k.uring.live() {
        loop {
            let holds = |j: &Job| j.files.borrow().iter().flatten().any(|o| Ring::of(o).is_some());
            let mine = |j: &&Rc<Job>| Rc::ptr_eq(&j.task, task) && (all || holds(j));
            let found = ring.jobs.borrow().values().find(mine).cloned();
            let waiting = || {
                let mut drain = ring.drain.borrow_mut();
                let i = drain.iter().position(|j| all && Rc::ptr_eq(&j.task, task))?;
                drain.remove(i)
            };
            match found.or_else(waiting) {
                Some(job) => {
                    // Nothing of its chain begins any more, whatever becomes of it.
                    let mut next = job.link.borrow().clone();
                    while let Some(l) = next.filter(|_| all) {
                        if l.preset.get().is_none() {
                            l.preset.set(Some(-Errno::ECANCELED.raw()));
                        }
                        next = l.link.borrow().clone();
                    }
                    let waits = all && job.begun.get() && engine::runs_handler(&job);
                    let how = if waits {
                        engine::unwind(cx, &ring, &job)
                    } else {
                        Ended::error(Errno::ECANCELED)
                    };
                    engine::end(cx, &ring, &job, how);
                }
                None => break,
            }
        }
        engine::settle(cx, &ring);
    }
}
