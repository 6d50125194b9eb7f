//! What a handler works with: the task that calls, the kernel, and the way out.

use crate::fdtable::OpenFile;
use crate::kernel::Kernel;
use crate::task::Task;
use ftl_core::errno::Errno;
use ftl_core::io::{Restart, Stop};
use ftl_core::kcore::Env;
use ftl_core::platform::Ns;
use ftl_core::wait::{Block, On, Wake};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// Context of one system call. Dereferences to [`Env`] for guest memory and the clock.
pub struct Cx<'a> {
    /// Platform and core.
    pub env: Env<'a>,
    /// The kernel.
    pub k: &'a Kernel,
    /// The calling task.
    pub task: Rc<Task>,
}

impl<'a> Deref for Cx<'a> {
    type Target = Env<'a>;
    fn deref(&self) -> &Env<'a> {
        &self.env
    }
}

impl<'a> DerefMut for Cx<'a> {
    fn deref_mut(&mut self) -> &mut Env<'a> {
        &mut self.env
    }
}

/// RLIMIT_NOFILE
const NOFILE: usize = 7;

impl Cx<'_> {
    /// Puts a description at the lowest free descriptor: EMFILE at the limit.
    pub fn new_fd(&self, open: Rc<OpenFile>, cloexec: bool) -> Result<i32, Errno> {
        let limit = self.task.process().rlimits.borrow()[NOFILE].0;
        self.task.files().install_at(open, cloexec, 0, limit)
    }

    /// EMFILE if no descriptor is free: for calls that must know before they take something.
    pub fn fd_available(&self) -> Result<(), Errno> {
        let limit = self.task.process().rlimits.borrow()[NOFILE].0;
        if self.task.files().lowest_free(0) as u64 >= limit {
            return Err(Errno::EMFILE);
        }
        Ok(())
    }

    /// Why the handler runs: first time, or again after a wait.
    pub fn wake(&self) -> Wake {
        self.task.entity.wake.get()
    }

    /// The wait's deadline has passed.
    pub fn timed_out(&self) -> bool {
        self.wake() == Wake::Timeout
    }

    /// The deadline of this call: computed on its first run, the same on every later one.
    pub fn deadline_in(&mut self, ns: Ns) -> Ns {
        if let Some(d) = self.task.entity.deadline.get() {
            return d;
        }
        let d = self.now().saturating_add(ns);
        self.task.entity.deadline.set(Some(d));
        d
    }

    /// Same for an absolute deadline on the monotonic clock.
    pub fn deadline_at(&mut self, at: Ns) -> Ns {
        self.task.entity.deadline.set(Some(at));
        at
    }

    /// Waits on any of the queues. After a signal it says so instead.
    pub fn wait(&self, on: Vec<On>, restart: Restart) -> Stop {
        self.wait_until(on, None, restart)
    }

    /// Waits on any of the queues or the deadline.
    pub fn wait_until(&self, on: Vec<On>, deadline: Option<Ns>, restart: Restart) -> Stop {
        let detached = self.task.entity.detached.get();
        if self.wake() == Wake::Signal || !detached && self.task.signal_pending() {
            return Stop::Interrupted(restart);
        }
        Stop::Block(Block {
            on,
            deadline,
            restart,
            interruptible: true,
        })
    }
}
