//! Signals: actions, masks, queues, delivery.

use ftl_core::wait::WaitQueue;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Numbers (asm/signal.h).
#[allow(missing_docs)]
pub mod sig {
    pub const SIGHUP: u32 = 1;
    pub const SIGINT: u32 = 2;
    pub const SIGQUIT: u32 = 3;
    pub const SIGILL: u32 = 4;
    pub const SIGTRAP: u32 = 5;
    pub const SIGABRT: u32 = 6;
    pub const SIGBUS: u32 = 7;
    pub const SIGFPE: u32 = 8;
    pub const SIGKILL: u32 = 9;
    pub const SIGUSR1: u32 = 10;
    pub const SIGSEGV: u32 = 11;
    pub const SIGUSR2: u32 = 12;
    pub const SIGPIPE: u32 = 13;
    pub const SIGALRM: u32 = 14;
    pub const SIGTERM: u32 = 15;
    pub const SIGCHLD: u32 = 17;
    pub const SIGCONT: u32 = 18;
    pub const SIGSTOP: u32 = 19;
    pub const SIGTSTP: u32 = 20;
    pub const SIGTTIN: u32 = 21;
    pub const SIGTTOU: u32 = 22;
    pub const SIGURG: u32 = 23;
    pub const SIGXCPU: u32 = 24;
    pub const SIGXFSZ: u32 = 25;
    pub const SIGVTALRM: u32 = 26;
    pub const SIGPROF: u32 = 27;
    pub const SIGWINCH: u32 = 28;
    pub const SIGIO: u32 = 29;
    pub const SIGPWR: u32 = 30;
    pub const SIGSYS: u32 = 31;
}

/// Bit of a signal in a mask.
pub const fn bit(sig: u32) -> u64 {
    1 << (sig - 1)
}

/// SIGKILL and SIGSTOP cannot be blocked, caught or ignored.
pub const UNBLOCKABLE: u64 = bit(sig::SIGKILL) | bit(sig::SIGSTOP);

/// A queued signal with what siginfo_t says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct SigInfo {
    pub signo: u32,
    pub code: i32,
    pub errno: i32,
    /// si_pid/si_uid, or si_addr in `addr`, by code.
    pub pid: u32,
    pub uid: u32,
    pub addr: u64,
    /// si_value, si_status, si_overrun as the code has them.
    pub value: u64,
    pub status: i32,
    pub extra: [u64; 2],
}

/// An action as rt_sigaction sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct SigAction {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

/// Actions of a process.
pub struct SigHand {
    /// By number minus 1.
    pub actions: RefCell<[SigAction; 64]>,
}

impl Default for SigHand {
    fn default() -> SigHand {
        SigHand {
            actions: RefCell::new([SigAction::default(); 64]),
        }
    }
}

/// A queue of pending signals.
#[derive(Default)]
pub struct Pending {
    /// Which numbers are in the queue.
    pub set: Cell<u64>,
    /// In order of arrival.
    pub queue: RefCell<VecDeque<SigInfo>>,
    /// signalfd and sigtimedwait wait here.
    pub wait: WaitQueue,
}

/// A task's own signal state.
pub struct TaskSignals {
    /// Blocked.
    pub mask: Cell<u64>,
    /// Mask to restore after the next delivery (sigsuspend, ppoll).
    pub saved_mask: Cell<Option<u64>>,
    /// Directed at this task.
    pub pending: Pending,
    /// Alternate stack: address, flags, size.
    pub altstack: Cell<(u64, i32, u64)>,
}

impl Default for TaskSignals {
    fn default() -> TaskSignals {
        TaskSignals {
            mask: Cell::new(0),
            saved_mask: Cell::new(None),
            pending: Pending::default(),
            altstack: Cell::new((0, 2, 0)),
        }
    }
}

impl TaskSignals {
    /// The caller of execve goes on under its leader's number: mask and pending signals come along.
    pub fn take_over(&self, from: &TaskSignals) {
        self.mask.set(from.mask.get());
        self.pending.set.set(from.pending.set.replace(0));
        *self.pending.queue.borrow_mut() = std::mem::take(&mut *from.pending.queue.borrow_mut());
    }

    /// Something is pending that is not blocked.
    pub fn has_deliverable(&self, shared: &Pending) -> bool {
        (self.pending.set.get() | shared.set.get()) & !self.mask.get() != 0
    }
}

use crate::kernel::{Kernel, Trap};
use crate::task::{Exit, Task};
use ftl_core::kcore::Env;
use ftl_core::platform::Platform;
use std::rc::Rc;

/// An exception in guest code.
pub fn trap(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, trap: &Trap) {
    let rip = task.ctx.borrow().rip;
    plat.diagnostic(&format!(
        "ftvm: task {} got signal {} at {rip:#x} (address {:#x}, code {})",
        task.tid.0, trap.signo, trap.addr, trap.code
    ));
    k.exit_process(plat, &task.process(), Exit::Signal(trap.signo as u8, true));
}

/// A signal that someone outside sent to the image's first process.
pub fn from_outside(k: &Kernel, env: &mut Env<'_>, signo: i32) {
    let first = k.procs.borrow().values().next().cloned();
    if let Some(p) = first {
        k.exit_process(env.plat, &p, Exit::Signal(signo as u8, false));
    }
}

/// Delivers what is pending before `task` goes back to guest code.
pub fn deliver(_k: &Kernel, _plat: &mut dyn Platform, _task: &Rc<Task>) {}

/// Queues a signal for a process: the seam that exit, wait and terminals call. The target may be in
/// any space and need not run now.
pub fn send_process(_k: &Kernel, _plat: &mut dyn Platform, proc: &Rc<crate::task::Process>, info: SigInfo) {
    let action = proc.sighand.borrow().actions.borrow()[info.signo as usize - 1];
    if action.handler < 2
        && matches!(
            info.signo,
            sig::SIGCHLD | sig::SIGCONT | sig::SIGURG | sig::SIGWINCH
        )
    {
        return;
    }
    proc.pending.set.set(proc.pending.set.get() | bit(info.signo));
    proc.pending.queue.borrow_mut().push_back(info);
}
