//! Processes and threads: creation, end, waiting, identity, credentials, limits.
//!
//! What is shared by clone flags is an `Rc` in [`crate::task`]; the functions here move processes
//! through their life. A task ends in its own space (its robust list and `clear_child_tid` are guest
//! memory), so killing a task of another space only marks it: [`exit_process`].

mod access;
mod clone;
pub mod creds;
mod execve;
mod exit;
pub mod ids;
mod jobs;
pub mod limits;
pub mod pidfd;
mod prctl;
pub mod refused;
pub mod rseq;
pub mod sched;
mod session;
mod wait;

pub use access::{may_access, may_access_as};
pub use clone::{NAMESPACES, sys_clone, sys_clone3, sys_fork, sys_vfork};
pub use execve::{sys_execve, sys_execveat};
pub use exit::{exit_process, exit_task, leave_mm, reap, release_vfork};
pub use ids::{find_process, find_task, tasks_of};
pub use jobs::{Job, child_continued, child_stopped, is_orphaned};
pub use pidfd::{sys_pidfd_getfd, sys_pidfd_open};
pub use prctl::{sys_personality, sys_prctl, sys_sysinfo, sys_unshare};
pub use rseq::{Rseq, sys_rseq};
pub use session::{Session, enter_session, group_members, leave_session};
pub use wait::{sys_wait4, sys_waitid};

use crate::task::Task;
use ftl_core::platform::{Advice, Platform};
use ftl_core::wait::WaitQueue;
use std::cell::Cell;
use std::rc::Rc;

/// What a new task does in its own space before it first runs.
#[derive(Default, Debug)]
pub struct Birth {
    /// CLONE_CHILD_SETTID: where its number goes.
    pub set_tid: u64,
    /// MADV_DONTFORK ranges that the host copied.
    pub unmap: Vec<(u64, u64)>,
    /// MADV_WIPEONFORK ranges.
    pub wipe: Vec<(u64, u64)>,
}

impl Birth {
    /// Does it. The task's space is the current one.
    pub fn finish(self, plat: &mut dyn Platform, task: &Task) {
        for (addr, len) in self.unmap {
            plat.unmap(addr, len);
        }
        for (addr, len) in self.wipe {
            let prot = task.mm().with(addr, |v| v.prot).unwrap_or_default();
            plat.advise(addr, len, Advice::Discard(prot));
        }
        if self.set_tid != 0 {
            // As Linux: a bad address is the program's own business.
            let _ = plat.write_guest(self.set_tid, &task.tid.0.to_le_bytes());
        }
    }
}

/// Tells vfork's parent that the child has left its memory.
#[derive(Default, Debug)]
pub struct VforkDone {
    /// It has.
    pub done: Cell<bool>,
    /// The parent's thread waits here.
    pub queue: WaitQueue,
}

/// Scheduling attributes. Stored and reported; every task is treated alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sched {
    /// SCHED_*.
    pub policy: u32,
    /// Real-time priority.
    pub priority: u32,
    /// Nice value.
    pub nice: i32,
    /// SCHED_RESET_ON_FORK.
    pub reset_on_fork: bool,
    /// PR_SET_TIMERSLACK, ns.
    pub slack_ns: u64,
    /// ioprio_set's value.
    pub ioprio: u32,
}

impl Default for Sched {
    fn default() -> Sched {
        Sched {
            policy: 0,
            priority: 0,
            nice: 0,
            reset_on_fork: false,
            slack_ns: 50_000,
            ioprio: 0,
        }
    }
}

/// Number of the kernel's own process, the parent of orphans.
pub const INIT_PID: u32 = 1;

/// True if both are the same object.
pub fn same<T>(a: &Rc<T>, b: &Rc<T>) -> bool {
    Rc::ptr_eq(a, b)
}
