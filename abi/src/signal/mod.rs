//! Signals: actions, masks, queues, delivery.
//!
//! Sending (`send`) puts a signal into a queue and brings the thread that is to take it out of
//! its wait; everything else happens in [`deliver`], which the scheduler calls before a task goes
//! back to guest code. So a signal has effect only at kernel exits, and where it has is image state.

mod deliver;
mod frame;
mod pending;
mod send;
mod sigio;
mod signalfd;
mod sys;
mod sys_send;
mod types;

pub use deliver::{deliver, stopped_all, sys_rt_sigreturn, trap};
pub use frame::loadable;
pub use pending::{Pending, ProcSignals, SigHand, TaskSignals};
pub use send::{flush, force, is_ignored, post_process, post_task, retarget};
pub use sigio::{Fasync, set_async};
pub use signalfd::{SignalFd, sys_signalfd, sys_signalfd4};
pub use sys::*;
pub use sys_send::*;
pub use types::*;

use crate::cx::Cx;
use crate::kernel::Kernel;
use crate::process;
use crate::task::{Pid, Process, Task};
use ftl_core::errno::Errno;
use ftl_core::kcore::{Core, Env};
use ftl_core::platform::Platform;
use ftl_core::wait::Wake;
use std::rc::Rc;

/// Sends to a process: the seam that exit, wait and terminals call. The target may be in any space
/// and need not run now.
pub fn send_process(k: &Kernel, plat: &mut dyn Platform, proc: &Rc<Process>, info: SigInfo) {
    post_process(proc, info);
    if proc.sig.tell_cont.replace(false) {
        process::child_continued(k, plat, proc);
    }
}

/// Sends to every process of a group; how many there were.
pub fn send_pgrp(k: &Kernel, plat: &mut dyn Platform, pgid: Pid, info: SigInfo) -> usize {
    let members = process::group_members(k, pgid);
    for p in &members {
        send_process(k, plat, p, info);
    }
    members.len()
}

/// The calling thread wrote where nobody reads: SIGPIPE, unless the call asked for none.
pub fn raise_pipe(cx: &mut Cx<'_>) {
    let pid = cx.task.process().pid.0;
    let uid = cx.task.creds.borrow().ruid;
    post_task(&cx.task, SigInfo::user(sig::SIGPIPE, code::SI_USER, pid, uid));
}

/// Takes the signal that is to be delivered next of those not in `mask`: the thread's own faults,
/// then its queue, then the process's.
pub fn dequeue(core: &Core, task: &Task, mask: u64) -> Option<SigInfo> {
    let proc = task.process();
    if (task.sig.pending.set.get() | proc.pending.set.get()) & !mask == 0 {
        return None;
    }
    if let Some(info) = task.sig.pending.take_fault(mask) {
        return Some(info);
    }
    let mut info = match task.sig.pending.first(mask) {
        Some(signo) => task.sig.pending.take(signo)?,
        None => {
            let signo = proc.pending.first(mask)?;
            proc.pending.take(signo)?
        }
    };
    // A periodic timer is set again when its signal is taken, so that a slow program is not flooded.
    crate::time::signal_taken(core, &proc, &mut info);
    Some(info)
}

/// Changes a task's mask.
pub fn set_mask(task: &Task, mask: u64) {
    let mask = mask & !UNBLOCKABLE;
    let newly = mask & !task.sig.mask.get();
    task.sig.mask.set(mask);
    if newly != 0 {
        retarget(&task.process(), task, newly);
    }
}

/// The mask argument of ppoll, pselect6, epoll_pwait and sigsuspend: in force until the call
/// returns, and the old one is back in the handler's frame. Call it on every run of the handler; it
/// acts on the first. A null `ptr` changes nothing.
pub fn use_mask(cx: &mut Cx<'_>, ptr: u64, size: u64) -> Result<(), Errno> {
    if ptr == 0 || cx.wake() != Wake::Fresh {
        return Ok(());
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let mask: u64 = cx.get(ptr)?;
    let task = cx.task.clone();
    task.sig.saved_mask.set(Some(task.sig.mask.get()));
    set_mask(&task, mask);
    Ok(())
}

/// sigaltstack's setter, for a thread whose stack pointer is `sp`.
pub fn set_altstack(task: &Task, new: AltStack, sp: u64) -> Result<(), Errno> {
    const MINSIGSTKSZ: u64 = 2048;
    let old = task.sig.altstack.get();
    if old.in_use(sp) {
        return Err(Errno::EPERM);
    }
    let mode = new.flags & !ss::AUTODISARM;
    if mode > ss::DISABLE {
        return Err(Errno::EINVAL);
    }
    let new = if mode == ss::DISABLE {
        AltStack {
            sp: 0,
            size: 0,
            ..new
        }
    } else if new.size < MINSIGSTKSZ {
        return Err(Errno::ENOMEM);
    } else {
        new
    };
    task.sig.altstack.set(new);
    Ok(())
}

/// execve: handlers are gone, the alternate stack too; the mask, what is ignored and what is pending
/// stay. POSIX timers end.
pub fn on_exec(task: &Task) {
    let proc = task.process();
    let sighand = proc.sighand.borrow().clone();
    let own = if Rc::strong_count(&sighand) > 2 {
        Rc::new(sighand.duplicate())
    } else {
        sighand
    };
    own.reset_for_exec();
    *proc.sighand.borrow_mut() = own;
    task.sig.altstack.set(AltStack::default());
    task.sig.last_trap.set((0, 0, 0));
    task.rseq.set(None);
    crate::time::on_exec(&proc);
}

/// A thread has ended (it is out of its process's table): what was meant for it goes to others, and
/// it may have been the last that a stop waited for.
pub fn on_exit(k: &Kernel, plat: &mut dyn Platform, task: &Task) {
    let proc = task.process();
    if proc.exiting.get().is_none() {
        retarget(&proc, task, !task.sig.mask.get());
        stopped_all(k, plat, &proc);
    }
}

/// A signal that someone outside sent to `ftvm`: keyboard signals go to the terminal's foreground
/// group, others to the image's first process.
pub fn from_outside(k: &Kernel, env: &mut Env<'_>, signo: i32) {
    let Some(first) = k.procs.borrow().values().next().cloned() else {
        return;
    };
    let signo = signo as u32;
    if !(1..=64).contains(&signo) {
        return;
    }
    if signo == sig::SIGCONT {
        // A shell continues the whole job.
        send_pgrp(k, env.plat, first.pgid.get(), SigInfo::kernel(signo));
        return;
    }
    if matches!(signo, sig::SIGINT | sig::SIGQUIT | sig::SIGTSTP | sig::SIGWINCH) {
        let group = k.session_of(&first).foreground.get();
        if send_pgrp(k, env.plat, group, SigInfo::kernel(signo)) > 0 {
            return;
        }
    }
    send_process(k, env.plat, &first, SigInfo::user(signo, code::SI_USER, 0, 0));
}
