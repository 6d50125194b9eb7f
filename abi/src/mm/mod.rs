//! The guest's address space: which ranges are mapped, with what, and where new mappings go.
//!
//! Placement is the image's alone (I2): top-down from a base that the image's seed chose, so that
//! two runs of one image agree. The host is only told.
//!
//! Stub areas ([`VmaKind::Stubs`]) are the runtime's and hidden: for the guest they are holes. It may
//! unmap over them (they stay) and map over them (they go, `stubs`).

mod advice;
mod grow;
pub mod numa;
mod object;
mod remap;
mod sized;
mod space;
mod stubs;
mod sys;
#[cfg(test)]
mod tests;
mod vma;

pub use advice::{
    name_range, sys_madvise, sys_mincore, sys_mlock, sys_mlock2, sys_mlockall, sys_msync, sys_munlock,
    sys_munlockall, sys_process_madvise,
};
pub use grow::{STACK_GUARD, grow_down};
pub use object::{Shown, map_object};
pub use remap::sys_mremap;
pub use sized::{catch_up, resized};
pub use stubs::{restore_sites, restore_text, yield_stubs};
pub use sys::{sys_brk, sys_mmap, sys_mprotect, sys_mseal, sys_munmap, sys_pkey_mprotect};
pub use vma::{Vma, VmaFile, VmaFlags, VmaKind, limit_of};

use ftl_core::layout::{GUEST_TOP, PAGE};
use ftl_core::wait::SpaceId;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Weak;

/// Address and length.
pub type Ranges = Vec<(u64, u64)>;

/// An address space.
pub struct Mm {
    /// Its number; the runtime's name for the host process behind it.
    pub space: SpaceId,
    /// Live processes that use it (more than one after vfork or clone(CLONE_VM)).
    pub users: Cell<u32>,
    /// The task that last ran here: the CPU holds its upper vector state.
    pub live: RefCell<Weak<crate::task::Task>>,
    vmas: RefCell<BTreeMap<u64, Vma>>,
    /// New mappings go below this.
    pub mmap_base: Cell<u64>,
    /// Search for free ranges: between this address and `mmap_base` no hole is larger than that.
    hint: Cell<(u64, u64)>,
    /// Start and current end of the heap.
    pub brk: Cell<(u64, u64)>,
    /// Bytes mapped, for RLIMIT_AS.
    pub mapped: Cell<u64>,
    /// Bytes of it that are private and writable: what the image must be able to hold.
    pub committed: Cell<u64>,
    /// What `committed` was when fork made this space: those pages are the parent's until written, and
    /// `--memory` does not count them twice.
    pub inherited: Cell<u64>,
    /// Bytes locked by mlock.
    pub locked: Cell<u64>,
    /// mlockall(MCL_FUTURE).
    pub lock_future: Cell<bool>,
    /// membarrier(2) registrations.
    pub membarrier: Cell<u32>,
    /// Highest `mapped` so far.
    pub peak: Cell<u64>,
    /// Layout as the executable was loaded, for /proc/self/stat and prctl(PR_SET_MM).
    pub layout: Cell<Layout>,
    /// Text that is not a file's is looked at before it is executed (`specials`): a log is kept.
    pub watch_text: Cell<bool>,
    /// Patched call sites.
    pub patches: RefCell<crate::patches::Patches>,
    /// Contexts of native asynchronous I/O, by the address that stands for them.
    pub aio: RefCell<BTreeMap<u64, std::rc::Rc<crate::fs::aio::Aio>>>,
    /// Its call sites stay as they are: a tracer reads them. False: those patched so far are still to be put back.
    pub unpatched: Cell<Option<bool>>,
    /// New sizes of mapped files that this space was not told yet.
    pub resized: RefCell<Vec<crate::fs::pages::Resized>>,
}

/// Addresses that execve chose.
#[derive(Clone, Copy, Default, Debug)]
#[allow(missing_docs)]
pub struct Layout {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    pub vdso: u64,
}

impl Mm {
    /// An empty space whose mappings start below `GUEST_TOP - slide` (page-aligned slide).
    pub fn new(space: SpaceId, slide: u64) -> Mm {
        Mm {
            space,
            users: Cell::new(1),
            live: RefCell::default(),
            vmas: RefCell::default(),
            mmap_base: Cell::new(GUEST_TOP - slide),
            hint: Cell::new((GUEST_TOP - slide, 0)),
            brk: Cell::new((0, 0)),
            mapped: Cell::new(0),
            committed: Cell::new(0),
            inherited: Cell::new(0),
            locked: Cell::new(0),
            lock_future: Cell::new(false),
            membarrier: Cell::new(0),
            peak: Cell::new(0),
            layout: Cell::default(),
            watch_text: Cell::new(false),
            patches: RefCell::default(),
            aio: RefCell::default(),
            unpatched: Cell::new(None),
            resized: RefCell::default(),
        }
    }

    /// Mappings that choose no address go below this.
    pub fn set_mmap_base(&self, base: u64) {
        self.mmap_base.set(base);
        self.hint.set((base, 0));
    }

    /// The same contents under another number (fork). The host copies the pages.
    pub fn duplicate(&self, space: SpaceId) -> Mm {
        let mut vmas = self.vmas.borrow().clone();
        for v in vmas.values_mut() {
            // Locks are not inherited.
            v.flags.remove(VmaFlags::LOCKED);
        }
        Mm {
            space,
            users: Cell::new(1),
            live: RefCell::default(),
            vmas: RefCell::new(vmas),
            mmap_base: self.mmap_base.clone(),
            hint: self.hint.clone(),
            brk: self.brk.clone(),
            mapped: self.mapped.clone(),
            committed: self.committed.clone(),
            inherited: self.committed.clone(),
            locked: Cell::new(0),
            lock_future: Cell::new(false),
            membarrier: self.membarrier.clone(),
            peak: self.peak.clone(),
            layout: self.layout.clone(),
            watch_text: self.watch_text.clone(),
            patches: RefCell::new(self.patches.borrow().clone()),
            aio: RefCell::default(),
            unpatched: self.unpatched.clone(),
            resized: RefCell::default(),
        }
    }

    /// For a space just forked from this one's contents: forgets what MADV_DONTFORK left out, and
    /// names the ranges to unmap and those to empty (MADV_WIPEONFORK) where the host copied them.
    pub fn after_fork(&self) -> (Ranges, Ranges) {
        let flagged = |flag| -> Ranges {
            let vmas = self.vmas.borrow();
            vmas.values()
                .filter(|v| v.flags.contains(flag))
                .map(|v| (v.start, v.len()))
                .collect()
        };
        let unmap = flagged(VmaFlags::DONTFORK);
        for (addr, len) in &unmap {
            self.forget(*addr, *len);
        }
        (unmap, flagged(VmaFlags::WIPEONFORK))
    }

    /// Forgets everything (execve, the end of the last user); the host side is the caller's.
    pub fn clear(&self) {
        self.vmas.borrow_mut().clear();
        self.mapped.set(0);
        self.committed.set(0);
        self.inherited.set(0);
        self.locked.set(0);
        self.lock_future.set(false);
        self.membarrier.set(0);
        self.peak.set(0);
        self.brk.set((0, 0));
        self.hint.set((self.mmap_base.get(), 0));
        self.resized.borrow_mut().clear();
        self.aio.borrow_mut().clear();
        self.unpatched.set(None);
        *self.patches.borrow_mut() = Default::default();
    }
}

const _: () = assert!(PAGE == 4096);
