//! System calls on a task's own signal state.

use super::types::*;
use super::{dequeue, flush, post_task, set_altstack, set_mask, use_mask};
use crate::args::Ptr;
use crate::cx::Cx;
use crate::time::Timespec;
use ftl_core::context::reg;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, err};
use ftl_core::wait::Wake;

fn check_size(size: u64) -> Result<(), Errno> {
    if size == 8 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// rt_sigaction(2)
pub fn sys_rt_sigaction(cx: &mut Cx<'_>, signo: i32, act: Ptr, old: Ptr, size: u64) -> Io<u64> {
    check_size(size)?;
    let new: Option<[u64; 4]> = if act.is_null() { None } else { Some(cx.get(act.0)?) };
    let signo = signo as u32;
    if !(1..=sig::SIGRTMAX).contains(&signo) || (new.is_some() && bit(signo) & UNBLOCKABLE != 0) {
        return err(Errno::EINVAL);
    }
    let proc = cx.task.process();
    let sighand = proc.sighand.borrow().clone();
    let was = sighand.get(signo);
    if let Some([handler, flags, restorer, mask]) = new {
        let action = SigAction {
            handler,
            flags: flags & sa::KNOWN,
            restorer,
            mask: mask & !UNBLOCKABLE,
        };
        sighand.set(signo, action);
        if action.ignores(signo) {
            // POSIX: what is pending is discarded, blocked or not.
            flush(&proc, bit(signo));
        }
    }
    if !old.is_null() {
        cx.put(old.0, &[was.handler, was.flags, was.restorer, was.mask])?;
    }
    Ok(0)
}

/// rt_sigprocmask(2)
pub fn sys_rt_sigprocmask(cx: &mut Cx<'_>, how: i32, set: Ptr, old: Ptr, size: u64) -> Io<u64> {
    const SIG_BLOCK: i32 = 0;
    const SIG_UNBLOCK: i32 = 1;
    const SIG_SETMASK: i32 = 2;
    check_size(size)?;
    let was = cx.task.sig.mask.get();
    if !set.is_null() {
        let set: u64 = cx.get(set.0)?;
        let mask = match how {
            SIG_BLOCK => was | set,
            SIG_UNBLOCK => was & !set,
            SIG_SETMASK => set,
            _ => return err(Errno::EINVAL),
        };
        let task = cx.task.clone();
        set_mask(&task, mask);
    }
    if !old.is_null() {
        cx.put(old.0, &was)?;
    }
    Ok(0)
}

/// rt_sigpending(2)
pub fn sys_rt_sigpending(cx: &mut Cx<'_>, set: Ptr, size: u64) -> Io<u64> {
    if size > 8 {
        return err(Errno::EINVAL);
    }
    let shared = cx.task.process().pending.set.get();
    let set_now = (cx.task.sig.pending.set.get() | shared) & cx.task.sig.mask.get();
    cx.write(set.0, &set_now.to_le_bytes()[..size as usize])?;
    Ok(0)
}

/// rt_sigsuspend(2)
pub fn sys_rt_sigsuspend(cx: &mut Cx<'_>, set: Ptr, size: u64) -> Io<u64> {
    check_size(size)?;
    if set.is_null() {
        return err(Errno::EFAULT);
    }
    use_mask(cx, set.0, size)?;
    Err(cx.wait(Vec::new(), Restart::NoHandler))
}

/// pause(2)
pub fn sys_pause(cx: &mut Cx<'_>) -> Io<u64> {
    Err(cx.wait(Vec::new(), Restart::NoHandler))
}

/// rt_sigtimedwait(2)
pub fn sys_rt_sigtimedwait(cx: &mut Cx<'_>, set: Ptr, info: Ptr, timeout: Ptr, size: u64) -> Io<u64> {
    check_size(size)?;
    let set: u64 = cx.get(set.0)?;
    let set = set & !UNBLOCKABLE;
    let timeout = match timeout.is_null() {
        true => None,
        false => Some(Timespec::read(cx, timeout.0)?.ns()?),
    };
    let task = cx.task.clone();
    task.sig.waiting.set(0);
    if let Some(got) = dequeue(cx.core, &task, !set) {
        if !info.is_null() {
            cx.write(info.0, &got.to_bytes())?;
        }
        return Ok(u64::from(got.signo));
    }
    if cx.timed_out() || timeout == Some(0) {
        return err(Errno::EAGAIN);
    }
    let deadline = timeout.map(|ns| cx.deadline_in(ns));
    let stop = cx.wait_until(Vec::new(), deadline, Restart::Never);
    if matches!(stop, ftl_core::io::Stop::Block(_)) {
        task.sig.waiting.set(set);
    }
    Err(stop)
}

/// sigaltstack(2)
pub fn sys_sigaltstack(cx: &mut Cx<'_>, new: Ptr, old: Ptr) -> Io<u64> {
    let task = cx.task.clone();
    let sp = task.ctx.borrow().regs[reg::RSP];
    let was = task.sig.altstack.get();
    if !new.is_null() {
        let [at, flags, size]: [u64; 3] = cx.get(new.0)?;
        let stack = AltStack {
            sp: at,
            flags: flags as u32,
            size,
        };
        set_altstack(&task, stack, sp)?;
    }
    if !old.is_null() {
        let flags = was.mode(sp) | (was.flags & ss::AUTODISARM);
        cx.put(old.0, &[was.sp, u64::from(flags), was.size])?;
    }
    Ok(0)
}

/// restart_syscall(2): the kernel restarts sleeps by itself, so a program that calls it has nothing
/// to restart (do_no_restart_syscall).
pub fn sys_restart_syscall(_cx: &mut Cx<'_>) -> Io<u64> {
    err(Errno::EINTR)
}

/// A fault raised by a call itself on its thread (SIGXFSZ and the like).
pub fn raise(cx: &mut Cx<'_>, signo: u32) {
    post_task(&cx.task, SigInfo::kernel(signo));
}

/// A deliverable signal is pending: for handlers that loop without waiting.
pub fn interrupted(cx: &Cx<'_>) -> bool {
    cx.wake() == Wake::Signal || cx.task.signal_pending()
}
