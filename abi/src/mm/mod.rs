//! The guest's address space: which ranges are mapped, with what, and where new mappings go.
//!
//! Placement is the image's alone (I2): top-down from a base that the image's seed chose, so that
//! two runs of one image agree. The host is only told.

mod sys;
mod vma;

pub use sys::{sys_brk, sys_mmap, sys_mprotect, sys_munmap};
pub use vma::{Vma, VmaFile, VmaFlags, VmaKind};

use ftl_core::errno::Errno;
use ftl_core::layout::{self, GUEST_MIN, GUEST_TOP, PAGE, RUNTIME_BLOCK, RUNTIME_BLOCK_END};
use ftl_core::platform::{Backing, Platform, Prot};
use ftl_core::wait::SpaceId;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Address and length.
pub type Ranges = Vec<(u64, u64)>;

/// An address space.
pub struct Mm {
    /// Its number; the runtime's name for the host process behind it.
    pub space: SpaceId,
    /// Live processes that use it (more than one after vfork or clone(CLONE_VM)).
    pub users: Cell<u32>,
    vmas: RefCell<BTreeMap<u64, Vma>>,
    /// New mappings go below this.
    pub mmap_base: Cell<u64>,
    /// Start and current end of the heap.
    pub brk: Cell<(u64, u64)>,
    /// Bytes mapped, for RLIMIT_AS.
    pub mapped: Cell<u64>,
    /// Highest `mapped` so far.
    pub peak: Cell<u64>,
    /// Layout as the executable was loaded, for /proc/self/stat and prctl(PR_SET_MM).
    pub layout: Cell<Layout>,
    /// The task that last ran here: the CPU holds its upper vector state.
    pub live: RefCell<std::rc::Weak<crate::task::Task>>,
    /// Patched call sites.
    pub patches: RefCell<crate::patches::Patches>,
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
            vmas: RefCell::default(),
            mmap_base: Cell::new(GUEST_TOP - slide),
            brk: Cell::new((0, 0)),
            mapped: Cell::new(0),
            peak: Cell::new(0),
            layout: Cell::default(),
            live: RefCell::default(),
            patches: RefCell::default(),
        }
    }

    /// The same contents under another number (fork). The host copies the pages.
    pub fn duplicate(&self, space: SpaceId) -> Mm {
        Mm {
            space,
            users: Cell::new(1),
            vmas: RefCell::new(self.vmas.borrow().clone()),
            mmap_base: self.mmap_base.clone(),
            brk: self.brk.clone(),
            mapped: self.mapped.clone(),
            peak: self.peak.clone(),
            layout: self.layout.clone(),
            live: RefCell::default(),
            patches: RefCell::new(self.patches.borrow().clone()),
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

    /// What `f` says of the mapping that holds `addr`; copies nothing.
    pub fn with<T>(&self, addr: u64, f: impl FnOnce(&Vma) -> T) -> Option<T> {
        let vmas = self.vmas.borrow();
        vmas.range(..=addr)
            .next_back()
            .map(|(_, v)| v)
            .filter(|v| addr < v.end)
            .map(f)
    }

    /// The mapping that holds `addr`.
    pub fn find(&self, addr: u64) -> Option<Vma> {
        let vmas = self.vmas.borrow();
        vmas.range(..=addr)
            .next_back()
            .map(|(_, v)| v)
            .filter(|v| addr < v.end)
            .cloned()
    }

    /// All mappings, ascending.
    pub fn list(&self) -> Vec<Vma> {
        self.vmas.borrow().values().cloned().collect()
    }

    /// Mappings that meet `[addr, addr + len)`, ascending, uncut.
    pub fn overlapping(&self, addr: u64, len: u64) -> Vec<Vma> {
        let end = addr + len;
        let vmas = self.vmas.borrow();
        let first = vmas.range(..=addr).next_back().map_or(addr, |(s, _)| *s);
        vmas.range(first..end)
            .map(|(_, v)| v)
            .filter(|v| v.end > addr)
            .cloned()
            .collect()
    }

    /// True if nothing is mapped in the range and the guest may use it.
    pub fn is_free(&self, addr: u64, len: u64) -> bool {
        layout::is_guest_range(addr, len) && addr >= GUEST_MIN && self.overlapping(addr, len).is_empty()
    }

    /// Every byte of the range is mapped.
    pub fn is_mapped(&self, addr: u64, len: u64) -> bool {
        let mut at = addr;
        for v in self.overlapping(addr, len) {
            if v.start > at {
                return false;
            }
            at = v.end;
        }
        at >= addr + len
    }

    /// A free range of `len` bytes, as high as possible below `below`, at a multiple of `align`.
    pub fn find_free(&self, len: u64, below: u64, align: u64) -> Option<u64> {
        let vmas = self.vmas.borrow();
        let mut top = below;
        loop {
            let start = top.checked_sub(len)? & !(align - 1);
            if start < GUEST_MIN {
                return None;
            }
            if start < RUNTIME_BLOCK_END && start + len > RUNTIME_BLOCK {
                top = RUNTIME_BLOCK;
                continue;
            }
            match vmas.range(..start + len).next_back() {
                Some((_, v)) if v.end > start => top = v.start,
                _ => return Some(start),
            }
        }
    }

    /// Records a mapping and tells the host. Replaces what was there.
    pub fn map(&self, plat: &mut dyn Platform, vma: Vma, backing: Backing) {
        self.forget(vma.start, vma.len());
        plat.map(vma.start, vma.len(), vma.prot, backing);
        self.insert(vma);
    }

    /// Records a mapping that the host already has.
    pub fn insert(&self, vma: Vma) {
        self.mapped.set(self.mapped.get() + vma.len());
        self.peak.set(self.peak.get().max(self.mapped.get()));
        let mut vmas = self.vmas.borrow_mut();
        // Merge with neighbours that differ in nothing, as Linux does: programs that map in small
        // steps would otherwise collect entries without bound.
        let mut vma = vma;
        if let Some((_, left)) = vmas.range(..vma.start).next_back()
            && left.end == vma.start
            && left.joins(&vma)
        {
            let left = left.clone();
            vmas.remove(&left.start);
            vma = Vma { end: vma.end, ..left };
        }
        if let Some(right) = vmas.get(&vma.end)
            && vma.joins(right)
        {
            let end = right.end;
            vmas.remove(&vma.end);
            vma.end = end;
        }
        vmas.insert(vma.start, vma);
    }

    /// Removes the range from the records (splitting what straddles its ends).
    pub fn forget(&self, addr: u64, len: u64) {
        let end = addr + len;
        for v in self.overlapping(addr, len) {
            let mut vmas = self.vmas.borrow_mut();
            vmas.remove(&v.start);
            if v.start < addr {
                vmas.insert(v.start, v.cut(v.start, addr));
            }
            if v.end > end {
                vmas.insert(end, v.cut(end, v.end));
            }
            self.mapped
                .set(self.mapped.get() - (v.end.min(end) - v.start.max(addr)));
        }
        self.patches.borrow_mut().forget(addr, end);
    }

    /// Unmaps a page-aligned range.
    pub fn unmap(&self, plat: &mut dyn Platform, addr: u64, len: u64) {
        self.forget(addr, len);
        plat.unmap(addr, len);
    }

    /// Changes the records of a fully mapped range through `f`.
    pub fn change(&self, addr: u64, len: u64, f: impl Fn(&mut Vma)) {
        let end = addr + len;
        for v in self.overlapping(addr, len) {
            let (s, e) = (v.start.max(addr), v.end.min(end));
            {
                let mut vmas = self.vmas.borrow_mut();
                vmas.remove(&v.start);
                if v.start < s {
                    vmas.insert(v.start, v.cut(v.start, s));
                }
                if v.end > e {
                    vmas.insert(e, v.cut(e, v.end));
                }
            }
            let mut mid = v.cut(s, e);
            f(&mut mid);
            self.mapped.set(self.mapped.get() - mid.len());
            self.insert(mid);
        }
    }

    /// Changes permissions of a range; ENOMEM if part of it is not mapped.
    pub fn protect(&self, plat: &mut dyn Platform, addr: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        if !self.is_mapped(addr, len) {
            return Err(Errno::ENOMEM);
        }
        self.change(addr, len, |v| v.prot = prot);
        plat.protect(addr, len, prot);
        Ok(())
    }

    /// Anonymous private memory for the kernel's own use in the guest (stack, vDSO, stubs).
    pub fn map_anon(&self, plat: &mut dyn Platform, addr: u64, len: u64, prot: Prot, kind: VmaKind) {
        let vma = Vma {
            start: addr,
            end: addr + len,
            prot,
            shared: false,
            kind,
            file: None,
            flags: VmaFlags::empty(),
            name: None,
        };
        self.map(plat, vma, Backing::Anon);
    }

    /// Forgets everything (execve); the host side was cleared by the caller.
    pub fn clear(&self) {
        self.vmas.borrow_mut().clear();
        self.mapped.set(0);
        self.brk.set((0, 0));
        *self.patches.borrow_mut() = Default::default();
    }
}

const _: () = assert!(PAGE == 4096);
