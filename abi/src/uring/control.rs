//! Operations on rings themselves and on what they hold.

use super::engine;
use super::job::{Job, State};
use super::num::{Cqe, Sqe, op};
use super::ops::{FILE_INDEX_ALLOC, Out};
use super::ring::Ring;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::layout::is_guest_range;
use ftl_core::wait::Wake;
use std::rc::Rc;

const POLL_UPDATE_EVENTS: u32 = 2;
const POLL_UPDATE_USER_DATA: u32 = 4;

fn fail(e: Errno) -> Out {
    Out::Done(-i64::from(e.raw()), 0, true)
}

/// Checks IORING_OP_PROVIDE_BUFFERS.
pub fn prepare_provide(s: &Sqe) -> Result<(), Errno> {
    if s.op_flags != 0 || s.file_index != 0 || s.len == 0 {
        return Err(Errno::EINVAL);
    }
    if s.fd <= 0 || s.fd > 65536 {
        return Err(Errno::E2BIG);
    }
    let total = (s.fd as u64) * u64::from(s.len);
    if s.addr.checked_add(total).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    if !is_guest_range(s.addr, total) {
        return Err(Errno::EFAULT);
    }
    if s.off > 0xffff {
        return Err(Errno::E2BIG);
    }
    if s.off + s.fd as u64 > 65536 {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// IORING_OP_CLOSE
pub fn close(cx: &mut Cx<'_>, ring: &Ring, s: &Sqe) -> Out {
    if s.file_index != 0 {
        let i = (s.file_index - 1) as usize;
        let gone = {
            let mut files = ring.files.borrow_mut();
            let Some(t) = files.as_mut() else {
                return fail(Errno::ENXIO);
            };
            if i >= t.slots.len() {
                return fail(Errno::EINVAL);
            }
            if t.slots[i].is_none() {
                return fail(Errno::EBADF);
            }
            t.set(i, None, 0)
        };
        ring.tell_tag(cx, gone);
        return Out::Done(0, 0, false);
    }
    let files = cx.task.files();
    match files.get(s.fd) {
        Ok(open) if Ring::of(&open).is_none() => match files.remove(s.fd) {
            Ok(_) => {
                crate::fs::calls::fdops::closed(cx, &open);
                Out::Done(0, 0, false)
            }
            Err(e) => fail(e),
        },
        _ => fail(Errno::EBADF),
    }
}

/// IORING_OP_POLL_REMOVE, and its updates.
pub fn poll_remove(cx: &mut Cx<'_>, ring: &Ring, s: &Sqe) -> Out {
    let found = ring
        .jobs
        .borrow()
        .values()
        .find(|j| {
            j.sqe.get().opcode == op::POLL_ADD
                && j.user_data.get() == s.addr
                && matches!(j.state.get(), State::Armed | State::Ready)
                && j.preset.get().is_none()
        })
        .cloned();
    let Some(job) = found else {
        return fail(Errno::ENOENT);
    };
    if s.len & (POLL_UPDATE_EVENTS | POLL_UPDATE_USER_DATA) == 0 {
        engine::cancel(cx, ring, &job);
        return Out::Done(0, 0, false);
    }
    let mut new = job.sqe.get();
    if s.len & POLL_UPDATE_EVENTS != 0 {
        new.op_flags = s.op_flags;
        new.len = new.len & !1 | s.len & 1;
    }
    if s.len & POLL_UPDATE_USER_DATA != 0 {
        job.user_data.set(s.off);
    }
    job.sqe.set(new);
    // Armed anew, with what it is now.
    ring.disarm(&cx.core.timers, &job);
    job.wake.set(Wake::Fresh);
    job.woken.set(0);
    engine::start(cx, ring, &job);
    Out::Done(0, 0, false)
}

/// IORING_OP_FILES_UPDATE
pub fn files_update(cx: &mut Cx<'_>, ring: &Ring, s: &Sqe) -> Io<u64> {
    if s.off as u32 == FILE_INDEX_ALLOC {
        // Each goes to a free slot, whose number takes its place in the list.
        if ring.files.borrow().is_none() {
            return err(Errno::ENXIO);
        }
        let mut done = 0;
        while done < s.len {
            let at = s.addr.wrapping_add(u64::from(done) * 4);
            let r = (|| -> Result<(), Errno> {
                let fd: i32 = cx.get(at)?;
                let open = cx.task.files().get(fd)?;
                let slot = ring.install(cx, None, open)?;
                cx.put(at, &slot)
            })();
            match r {
                Ok(()) => done += 1,
                Err(e) if done == 0 => return err(e),
                Err(_) => break,
            }
        }
        return Ok(u64::from(done));
    }
    Ok(u64::from(ring.update_files(
        cx,
        s.off as u32,
        s.addr,
        0,
        s.len,
    )?))
}

/// IORING_OP_MSG_RING
pub fn msg_ring(cx: &mut Cx<'_>, from: &Ring, job: &Job, s: &Sqe) -> Io<u64> {
    const DATA: u64 = 0;
    const SEND_FD: u64 = 1;
    const CQE_SKIP: u32 = 1;
    const FLAGS_PASS: u32 = 2;
    if s.op_flags & !(CQE_SKIP | FLAGS_PASS) != 0 {
        return err(Errno::EINVAL);
    }
    let open = job.file().ok_or(Errno::EBADF)?;
    let Some(to) = Ring::of(&open) else {
        return err(Errno::EBADFD);
    };
    let to: Rc<Ring> = to.shared();
    if to.disabled.get() {
        return err(Errno::EBADFD);
    }
    let mut c = Cqe {
        user_data: s.off,
        res: s.len as i32,
        flags: 0,
    };
    match s.addr {
        DATA => {
            if s.addr3 != 0 || s.op_flags & CQE_SKIP != 0 {
                return err(Errno::EINVAL);
            }
            if s.op_flags & FLAGS_PASS != 0 {
                c.flags = s.file_index;
            } else if s.file_index != 0 {
                return err(Errno::EINVAL);
            }
        }
        SEND_FD => {
            if s.len != 0 || std::ptr::eq(&*to, from) {
                return err(Errno::EINVAL);
            }
            let file = from.fixed_file(s.addr3 as u32).ok_or(Errno::EBADF)?;
            let slot = match s.file_index {
                0 => return err(Errno::EINVAL),
                FILE_INDEX_ALLOC => None,
                i => Some(i - 1),
            };
            let got = to.install(cx, slot, file)?;
            c.res = if slot.is_none() { got as i32 } else { 0 };
            if s.op_flags & CQE_SKIP != 0 {
                return Ok(u64::from(c.res as u32));
            }
        }
        _ => return err(Errno::EINVAL),
    }
    to.post(cx.env.plat, c);
    if !std::ptr::eq(&*to, from) {
        to.commit(cx.env.plat);
    }
    Ok(if s.addr == SEND_FD { c.res as u64 } else { 0 })
}
