//! The signal state of tasks and processes: masks, queues, actions.

use super::types::{AltStack, SigAction, SigInfo, bit};
use ftl_core::wait::{Tid, WaitQueue};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Actions of a process, shared by CLONE_SIGHAND.
pub struct SigHand {
    /// By number minus 1.
    pub actions: RefCell<[SigAction; 64]>,
    /// signalfds of the process are polled and read here.
    pub wait: WaitQueue,
}

impl Default for SigHand {
    fn default() -> SigHand {
        SigHand {
            actions: RefCell::new([SigAction::default(); 64]),
            wait: WaitQueue::new(),
        }
    }
}

impl SigHand {
    /// The action of a valid signal number.
    pub fn get(&self, signo: u32) -> SigAction {
        self.actions.borrow()[signo as usize - 1]
    }
    /// Sets it.
    pub fn set(&self, signo: u32, action: SigAction) {
        self.actions.borrow_mut()[signo as usize - 1] = action;
    }
    /// Of the first process: these are ignored, as whoever started it did.
    pub fn inherited(ignored: u64) -> SigHand {
        let new = SigHand::default();
        for (i, a) in new.actions.borrow_mut().iter_mut().enumerate() {
            let signo = i as u32 + 1;
            if ignored & !super::types::UNBLOCKABLE & bit(signo) != 0 {
                a.handler = super::types::SIG_IGN;
            }
        }
        new
    }
    /// A copy for fork.
    pub fn duplicate(&self) -> SigHand {
        SigHand {
            actions: RefCell::new(*self.actions.borrow()),
            wait: WaitQueue::new(),
        }
    }
    /// execve: what was caught is default again, what was ignored stays so (flush_signal_handlers).
    pub fn reset_for_exec(&self) {
        for a in self.actions.borrow_mut().iter_mut() {
            *a = SigAction {
                handler: if a.handler == super::types::SIG_IGN { 1 } else { 0 },
                ..SigAction::default()
            };
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
}

impl Pending {
    /// Appends.
    pub fn push(&self, info: SigInfo) {
        self.set.set(self.set.get() | bit(info.signo));
        self.queue.borrow_mut().push_back(info);
    }
    /// Takes the oldest one with this number.
    pub fn take(&self, signo: u32) -> Option<SigInfo> {
        let mut q = self.queue.borrow_mut();
        let at = q.iter().position(|i| i.signo == signo)?;
        let info = q.remove(at);
        if !q.iter().any(|i| i.signo == signo) {
            self.set.set(self.set.get() & !bit(signo));
        }
        info
    }
    /// Takes the oldest one that the thread's own instruction raised (dequeue_synchronous_signal).
    pub fn take_fault(&self, mask: u64) -> Option<SigInfo> {
        if self.set.get() & super::types::SYNCHRONOUS & !mask == 0 {
            return None;
        }
        let signo = {
            let q = self.queue.borrow();
            q.iter()
                .find(|i| i.is_fault() && bit(i.signo) & !mask != 0)?
                .signo
        };
        self.take(signo)
    }
    /// The number that is delivered first of those not in `mask`: faults, then ascending.
    pub fn first(&self, mask: u64) -> Option<u32> {
        let open = self.set.get() & !mask;
        let sync = open & super::types::SYNCHRONOUS;
        let from = if sync != 0 { sync } else { open };
        (from != 0).then(|| from.trailing_zeros() + 1)
    }
    /// Drops all with a number in `mask`.
    pub fn flush(&self, mask: u64) {
        if self.set.get() & mask != 0 {
            self.set.set(self.set.get() & !mask);
            self.queue.borrow_mut().retain(|i| bit(i.signo) & mask == 0);
        }
    }
    /// Number of queued signals.
    pub fn len(&self) -> usize {
        self.queue.borrow().len()
    }
    /// None?
    pub fn is_empty(&self) -> bool {
        self.set.get() == 0
    }
}

/// A task's own signal state.
#[derive(Default)]
pub struct TaskSignals {
    /// Blocked. Change it by [`super::set_mask`].
    pub mask: Cell<u64>,
    /// Mask to restore after the next delivery (sigsuspend, ppoll); see [`super::use_mask`].
    pub saved_mask: Cell<Option<u64>>,
    /// Directed at this task.
    pub pending: Pending,
    /// Alternate stack.
    pub altstack: Cell<AltStack>,
    /// What sigtimedwait waits for now.
    pub waiting: Cell<u64>,
    /// Exception number, error code and CR2 of the last fault, shown in every later frame.
    pub last_trap: Cell<(u64, u64, u64)>,
}

impl TaskSignals {
    /// The caller of execve goes on under its leader's number: mask and pending signals come along.
    pub fn take_over(&self, from: &TaskSignals) {
        self.mask.set(from.mask.get());
        self.pending.set.set(from.pending.set.replace(0));
        *self.pending.queue.borrow_mut() = std::mem::take(&mut *from.pending.queue.borrow_mut());
    }

    /// For a new thread or process: the mask is inherited, the queue is not. `keep_altstack`: not
    /// CLONE_VM, or CLONE_VFORK.
    pub fn for_clone(&self, keep_altstack: bool) -> TaskSignals {
        let t = TaskSignals::default();
        t.mask.set(self.mask.get());
        if keep_altstack {
            t.altstack.set(self.altstack.get());
        }
        t
    }
}

/// Signal state of a process beside its queue and actions.
pub struct ProcSignals {
    /// Nonzero: this stop signal is in force; threads stop when they reach their delivery point.
    /// `Process::job` says when all have.
    pub stop: Cell<u32>,
    /// SIGCONT ended a stop, and the parent is yet to be told.
    pub tell_cont: Cell<bool>,
    /// The thread that got the last process-directed signal.
    pub last_target: Cell<Tid>,
}

impl Default for ProcSignals {
    fn default() -> ProcSignals {
        ProcSignals {
            stop: Cell::new(0),
            tell_cont: Cell::new(false),
            last_target: Cell::new(Tid(0)),
        }
    }
}
