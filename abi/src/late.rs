//! What follows from a notification, but not inside it.
//!
//! A listener that would notify others in turn puts itself here instead: one event may set off a chain as long
//! as the guest likes, and the kernel's stack has an end. The kernel goes through the list before any guest
//! code runs again, so nobody can tell.

use crate::kernel::Kernel;
use ftl_core::platform::Platform;
use ftl_core::wait::SpaceId;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// Something that acts on a notification later.
pub trait Late {
    /// The queue registered under `key` was woken for `mask`.
    fn act(&self, key: u64, mask: u32);
}

/// What is to be done, in order.
#[derive(Default)]
pub struct LateList(RefCell<VecDeque<(Weak<dyn Late>, u64, u32)>>);

impl LateList {
    /// For [`LateList::run`].
    pub fn push(&self, who: Weak<dyn Late>, key: u64, mask: u32) {
        self.0.borrow_mut().push_back((who, key, mask));
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Does all of it, and what comes of it.
    pub fn run(&self) {
        loop {
            let Some((who, key, mask)) = self.0.borrow_mut().pop_front() else {
                return;
            };
            if let Some(w) = who.upgrade() {
                w.act(key, mask);
            }
        }
    }
}

/// Notifications or requests of io_uring have to be gone through.
pub fn is_due(k: &Kernel) -> bool {
    !k.late.is_empty() || k.uring.has_work()
}

/// Does what waits for the space that runs now: accesses from other spaces, requests of io_uring. `Some`:
/// another space has work to do.
pub fn serve(k: &Kernel, plat: &mut dyn Platform, here: SpaceId) -> Option<SpaceId> {
    if !k.remote.borrow().is_empty()
        && let Some(space) = crate::ptrace::remote::serve(k, plat, here)
    {
        return Some(space);
    }
    if k.uring.has_work() {
        return crate::uring::serve(k, plat, here);
    }
    None
}

/// The kernel's list, as its objects hold it.
pub type LateRef = Rc<LateList>;
