//! Sending: what a signal does to its target at once, and which thread is to take it
//! (kernel/signal.c: prepare_signal, __send_signal_locked, complete_signal).
//!
//! Nothing here needs the kernel or the host, so timers send too.

use super::types::{IGNORES, STOPS, SigInfo, bit, code, sig};
use crate::task::{Exit, Process, Task};
use ftl_core::errno::Errno;
use ftl_core::wait::{Poll, State, Wake};
use std::rc::Rc;

/// RLIMIT_SIGPENDING
pub const RLIMIT_SIGPENDING: usize = 11;

/// Sends to a whole process: any thread that does not block it takes it. True if it was queued or
/// has acted; false if it was ignored or is already pending.
pub fn post_process(proc: &Rc<Process>, info: SigInfo) -> bool {
    let Some(main) = proc.any_thread() else {
        return false;
    };
    post(proc, &main, true, info)
}

/// Sends to one thread.
pub fn post_task(task: &Rc<Task>, info: SigInfo) -> bool {
    if task.dead.get() {
        return false;
    }
    post(&task.process(), task, false, info)
}

/// Fails with EAGAIN if a signal that must not be lost would exceed RLIMIT_SIGPENDING. `queued` is
/// the number of signals queued for the target's user.
pub fn check_limit(proc: &Process, info: &SigInfo, queued: usize) -> Result<SigInfo, Errno> {
    let unlimited = info.signo < sig::SIGRTMIN && info.code >= 0;
    if unlimited || (queued as u64) < proc.rlimits.borrow()[RLIMIT_SIGPENDING].0 {
        return Ok(*info);
    }
    if info.signo >= sig::SIGRTMIN && info.code != code::SI_USER {
        return Err(Errno::EAGAIN);
    }
    // Delivered, but what it carried is lost.
    Ok(SigInfo::user(info.signo, code::SI_USER, 0, 0))
}

fn post(proc: &Rc<Process>, to: &Rc<Task>, group: bool, info: SigInfo) -> bool {
    let signo = info.signo;
    if proc.exiting.get().is_some() || !prepare(proc, to, signo) {
        return false;
    }
    let pending = if group { &proc.pending } else { &to.sig.pending };
    // Each timer queues its own, even with an ordinary number (send_sigqueue).
    if signo < sig::SIGRTMIN && info.code != code::SI_TIMER && pending.set.get() & bit(signo) != 0 {
        return false;
    }
    pending.push(info);
    let sighand = proc.sighand.borrow().clone();
    sighand.wait.notify(Poll::IN | Poll::RDNORM);
    complete(proc, to, group, signo);
    true
}

/// Side effects that do not wait for delivery. False if the signal is to be dropped.
fn prepare(proc: &Rc<Process>, to: &Task, signo: u32) -> bool {
    if bit(signo) & STOPS != 0 {
        flush(proc, bit(sig::SIGCONT));
    } else if signo == sig::SIGCONT {
        flush(proc, STOPS);
        resume(proc);
    }
    if (to.sig.mask.get() | to.sig.waiting.get()) & bit(signo) != 0 {
        // A blocked signal is kept even if it is ignored: the action may change.
        return true;
    }
    // A tracer sees what would be ignored too.
    to.trace.on.get() && signo != sig::SIGKILL || !proc.sighand.borrow().get(signo).ignores(signo)
}

/// Drops pending signals from all queues of the process.
pub fn flush(proc: &Process, mask: u64) {
    proc.pending.flush(mask);
    for t in proc.threads.borrow().values() {
        t.sig.pending.flush(mask);
    }
}

/// SIGCONT: ends a stop, whatever becomes of the signal itself.
fn resume(proc: &Rc<Process>) {
    if proc.sig.stop.replace(0) == 0 {
        return;
    }
    proc.sig.tell_cont.set(true);
    let threads: Vec<_> = proc.threads.borrow().values().cloned().collect();
    for t in threads {
        crate::ptrace::continued(&t);
        unstop(&t);
    }
}

fn unstop(task: &Rc<Task>) {
    let e = &task.entity;
    // A stop of its tracer's ends when the tracer says so.
    if e.state.get() == State::Stopped && !task.trace.is_stopped() {
        e.woken_while_stopped.set(false);
        e.state.set(State::Runnable);
        e.enqueue();
    }
}

fn wants(proc: &Process, t: &Task, signo: u32) -> bool {
    let blocked = t.sig.mask.get() & !t.sig.waiting.get() & bit(signo) != 0;
    if blocked || t.dead.get() {
        return false;
    }
    if signo == sig::SIGKILL {
        return true;
    }
    t.entity.state.get() != State::Stopped && !other_pending(proc, t, signo)
}

/// Something else already interrupts the thread.
fn other_pending(proc: &Process, t: &Task, signo: u32) -> bool {
    (t.sig.pending.set.get() | proc.pending.set.get()) & !t.sig.mask.get() & !bit(signo) != 0
}

fn choose(proc: &Process, to: &Rc<Task>, group: bool, signo: u32) -> Option<Rc<Task>> {
    if wants(proc, to, signo) {
        return Some(to.clone());
    }
    if !group {
        return None;
    }
    // Round robin, beginning with the one that took the last signal.
    let last = proc.sig.last_target.get();
    let threads = proc.threads.borrow();
    let t = threads
        .range(last..)
        .chain(threads.range(..last))
        .map(|(_, t)| t)
        .find(|t| wants(proc, t, signo))?;
    proc.sig.last_target.set(t.tid);
    Some(t.clone())
}

fn complete(proc: &Rc<Process>, to: &Rc<Task>, group: bool, signo: u32) {
    let Some(t) = choose(proc, to, group, signo) else {
        // Everyone who does not block it has something to deliver and will come by.
        return;
    };
    let fatal = proc.sighand.borrow().get(signo).is_fatal(signo);
    let shown = t.trace.on.get() && signo != sig::SIGKILL;
    if fatal && !shown && bit(signo) & super::types::CORES == 0 && t.sig.waiting.get() & bit(signo) == 0 {
        doom(proc, signo);
        return;
    }
    wake(&t, signo);
}

/// A fatal signal without a core: the whole process ends, each thread at its next step.
fn doom(proc: &Rc<Process>, signo: u32) {
    proc.exiting.set(Some(Exit::Signal(signo as u8, false)));
    let threads: Vec<_> = proc.threads.borrow().values().cloned().collect();
    for t in threads {
        t.entity.kill();
    }
}

/// Ends the thread's wait so that it sees the signal.
fn wake(t: &Rc<Task>, signo: u32) {
    let e = &t.entity;
    if signo != 0 && t.sig.waiting.get() & bit(signo) != 0 {
        e.wake_up(Wake::Event);
    } else if e.interruptible.get() {
        e.wake_up(Wake::Signal);
    }
}

/// A stop signal takes effect: the process's other threads come out of their waits to stop.
pub fn begin_stop(proc: &Process, signo: u32) {
    if proc.sig.stop.replace(signo) == 0 {
        let threads: Vec<_> = proc.threads.borrow().values().cloned().collect();
        for t in threads {
            t.trace.new_stop();
            wake(&t, 0);
        }
    }
}

/// `task` will not take process-directed signals in `mask` any more (it blocks them now, or ends):
/// others may (retarget_shared_pending).
pub fn retarget(proc: &Process, task: &Task, mask: u64) {
    let open = proc.pending.set.get() & mask;
    if open == 0 {
        return;
    }
    let others: Vec<_> = proc
        .threads
        .borrow()
        .values()
        .filter(|t| t.tid != task.tid && open & !t.sig.mask.get() != 0)
        .cloned()
        .collect();
    for t in others {
        wake(&t, 0);
    }
}

/// Sends a fault or another signal that cannot be refused: blocked or ignored, it takes its default
/// action (force_sig_info).
pub fn force(task: &Rc<Task>, info: SigInfo, default_action: bool) {
    let proc = task.process();
    let signo = info.signo;
    let sighand = proc.sighand.borrow().clone();
    let mut action = sighand.get(signo);
    let blocked = task.sig.mask.get() & bit(signo) != 0;
    if blocked || action.handler == super::types::SIG_IGN || default_action {
        action.handler = super::types::SIG_DFL;
        sighand.set(signo, action);
        task.sig.mask.set(task.sig.mask.get() & !bit(signo));
    }
    if task.sig.pending.set.get() & bit(signo) == 0 {
        task.sig.pending.push(info);
    }
}

/// Number of signals queued for all processes of the user `uid`.
pub fn queued_of<'a>(procs: impl Iterator<Item = &'a Rc<Process>>, uid: u32) -> usize {
    let of_user = |p: &&Rc<Process>| p.any_thread().is_some_and(|t| t.creds.borrow().ruid == uid);
    let all = |p: &Rc<Process>| {
        let own: usize = p.threads.borrow().values().map(|t| t.sig.pending.len()).sum();
        own + p.pending.len()
    };
    procs.filter(of_user).map(all).sum()
}

/// The signal is neither queued nor acts on this process (SIGCHLD by default).
pub fn is_ignored(proc: &Process, signo: u32) -> bool {
    proc.sighand.borrow().get(signo).ignores(signo)
}

const _: () = assert!(IGNORES & STOPS == 0);
