//! What the runtime brings to the kernel, and what the kernel tells it to do.

use crate::task::{Exit, Task};
use ftl_core::platform::Ns;
use ftl_core::wait::SpaceId;
use std::rc::Rc;

/// A hardware exception in guest code.
#[derive(Clone, Copy, Debug)]
pub struct Trap {
    /// Signal that Linux would raise.
    pub signo: u32,
    /// si_code.
    pub code: i32,
    /// si_addr.
    pub addr: u64,
    /// Exception number, error code and CR2 for the signal frame.
    pub trapno: u64,
    /// See `trapno`.
    pub error: u64,
    /// See `trapno`.
    pub cr2: u64,
}

/// Why guest code entered the kernel.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// A system call; number and arguments are in the context.
    Syscall,
    /// An exception.
    Trap(Trap),
    /// The watchdog ended a slice at an arbitrary instruction: the place where a cut hooks in
    /// (PROTOCOL §5). Only the runtime can cause it.
    Cut,
}

/// What the vCPU does next.
pub enum Next {
    /// Resume this task: it is in the space that was asked for.
    Run(Rc<Task>),
    /// The next task lives in another space: pass the token.
    Space(SpaceId),
    /// An absorb point is due: take what has arrived, without waiting.
    Absorb,
    /// Nothing can run: absorb, waiting until an input or the deadline.
    Idle(Option<Ns>),
    /// The image's first process has ended.
    Exit(Exit),
}
