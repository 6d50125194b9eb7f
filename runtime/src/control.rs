//! The page that the supervisor and the guest processes share: how a signal gets in and an exit
//! status gets out. It is outside the image.

use crate::sys::{self, HostErr};
use ftl_core::layout::{PAGE, VCPU_BASE};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

const CONTROL_ADDR: u64 = VCPU_BASE + 0x2000_0000;

/// Contents of the page; all zero at first.
#[repr(C)]
pub struct Control {
    /// Bit n-1: signal n came from outside and was not taken yet.
    pub signals: AtomicU64,
    /// Host pid of the process that holds the token.
    pub holder: AtomicU32,
    /// Wait status of the image's first process, plus one; 0 while it runs.
    pub status: AtomicI32,
    /// Kicks seen.
    pub kicks: AtomicU64,
}

/// Maps the page, to be inherited by every process of the image.
pub fn map() -> Result<&'static Control, HostErr> {
    // SAFETY: NOREPLACE takes only free space.
    unsafe {
        sys::mmap(
            CONTROL_ADDR,
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )?;
    }
    // SAFETY: mapped, zeroed, shared, and made of atomics.
    Ok(unsafe { get() })
}

/// The page.
///
/// # Safety
/// [`map`] was called in this process or an ancestor of it.
pub unsafe fn get() -> &'static Control {
    // SAFETY: by contract.
    unsafe { &*(CONTROL_ADDR as *const Control) }
}
