//! Telling a parent about its child's stops, continuations and end; orphaned process groups
//! (kernel/signal.c, kernel/exit.c).

use super::group_members;
use crate::kernel::Kernel;
use crate::signal::{self, SigInfo, sig};
use crate::task::{Exit, Pid, Process};
use crate::time::{NSEC, USER_HZ};
use ftl_core::platform::Platform;
use std::rc::Rc;

const CLD_EXITED: i32 = 1;
const CLD_KILLED: i32 = 2;
const CLD_DUMPED: i32 = 3;
const CLD_STOPPED: i32 = 5;
const CLD_CONTINUED: i32 = 6;
const SA_NOCLDSTOP: u64 = 1;
const SA_NOCLDWAIT: u64 = 2;
const SIG_IGN: u64 = 1;

/// Job-control state of a process, and what wait(2) has yet to report of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Job {
    /// Stopped by this signal.
    pub stopped: Option<u8>,
    /// A stop that WUNTRACED has not reported.
    pub report_stop: bool,
    /// A continuation that WCONTINUED has not reported.
    pub report_cont: bool,
}

fn child_info(child: &Process, code: i32, status: i32) -> SigInfo {
    let uid = match child.any_thread() {
        Some(t) => t.creds.borrow().ruid,
        None => child.zombie_uid.get(),
    };
    let ticks = crate::time::cpu::of_process(child) * USER_HZ / NSEC;
    SigInfo::child(sig::SIGCHLD, code, child.pid.0, uid, status, ticks, 0)
}

/// All threads of `child` have stopped for `signo`: record it, tell the parent.
pub fn child_stopped(k: &Kernel, plat: &mut dyn Platform, child: &Rc<Process>, signo: u8) {
    child.job.set(Job {
        stopped: Some(signo),
        report_stop: true,
        report_cont: false,
    });
    tell_parent(k, plat, child, CLD_STOPPED, i32::from(signo));
}

/// `child` goes on after SIGCONT: record it, tell the parent.
pub fn child_continued(k: &Kernel, plat: &mut dyn Platform, child: &Rc<Process>) {
    child.job.set(Job {
        stopped: None,
        report_stop: false,
        report_cont: true,
    });
    tell_parent(k, plat, child, CLD_CONTINUED, sig::SIGCONT as i32);
}

fn tell_parent(k: &Kernel, plat: &mut dyn Platform, child: &Rc<Process>, code: i32, status: i32) {
    let Some(parent) = child.parent.borrow().upgrade() else {
        return;
    };
    let action = parent.sighand.borrow().actions.borrow()[sig::SIGCHLD as usize - 1];
    if action.handler != SIG_IGN && action.flags & SA_NOCLDSTOP == 0 {
        signal::send_process(k, plat, &parent, child_info(child, code, status));
    }
    parent.child_wait.wake_all();
}

/// A zombie's parent is told. True if nobody will wait for it: it is to be reaped at once.
pub fn notify_end(k: &Kernel, plat: &mut dyn Platform, child: &Rc<Process>) -> bool {
    let Some(parent) = child.parent.borrow().upgrade() else {
        return true;
    };
    let (code, status) = match child.exit.get() {
        Some(Exit::Code(c)) => (CLD_EXITED, i32::from(c)),
        Some(Exit::Signal(s, core)) => (if core { CLD_DUMPED } else { CLD_KILLED }, i32::from(s)),
        None => return false,
    };
    let signo = child.exit_signal.get();
    let mut reap = false;
    let mut send = signo > 0;
    if signo == sig::SIGCHLD as i32 {
        let action = parent.sighand.borrow().actions.borrow()[sig::SIGCHLD as usize - 1];
        reap = action.handler == SIG_IGN || action.flags & SA_NOCLDWAIT != 0;
        send = action.handler != SIG_IGN;
    }
    if send {
        let info = SigInfo {
            signo: signo as u32,
            ..child_info(child, code, status)
        };
        signal::send_process(k, plat, &parent, info);
    }
    parent.child_wait.wake_all();
    reap
}

fn send_group(k: &Kernel, plat: &mut dyn Platform, pgid: Pid, signo: u32) {
    for p in group_members(k, pgid) {
        signal::send_process(k, plat, &p, SigInfo::kernel(signo));
    }
}

/// No member of the group has a parent in another group of the same session.
pub fn is_orphaned(k: &Kernel, pgid: Pid, ignore: Option<Pid>) -> bool {
    group_members(k, pgid).iter().all(|p| {
        Some(p.pid) == ignore
            || p.parent
                .borrow()
                .upgrade()
                .is_none_or(|parent| parent.pgid.get() == pgid || parent.sid.get() != p.sid.get())
    })
}

/// The link from `proc` to `parent` goes away: if that orphans a group with stopped jobs, it gets
/// SIGHUP and SIGCONT.
pub fn hang_up_orphans(
    k: &Kernel,
    plat: &mut dyn Platform,
    proc: &Process,
    parent: Option<&Process>,
    ignore: Option<Pid>,
) {
    let pgid = proc.pgid.get();
    let Some(parent) = parent else { return };
    if parent.pgid.get() == pgid || parent.sid.get() != proc.sid.get() {
        return;
    }
    let stopped = group_members(k, pgid)
        .iter()
        .any(|p| p.job.get().stopped.is_some());
    if stopped && is_orphaned(k, pgid, ignore) {
        send_group(k, plat, pgid, sig::SIGHUP);
        send_group(k, plat, pgid, sig::SIGCONT);
    }
}

/// The leader of a session ends: its terminal's foreground group is hung up.
pub fn hang_up_session(k: &Kernel, plat: &mut dyn Platform, leader: &Process) {
    let session = k.session_of(leader);
    let tty = session.tty.borrow_mut().take();
    if let Some(tty) = tty {
        if let Some(t) = crate::tty::terminal(&*tty) {
            t.line().session.set(None);
        }
        let group = session.foreground.get();
        send_group(k, plat, group, sig::SIGHUP);
        send_group(k, plat, group, sig::SIGCONT);
    }
}
