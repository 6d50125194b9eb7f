//! The map of a space: finding, inserting, removing, changing mappings.

use super::{Mm, Vma, VmaFlags, VmaKind};
use ftl_core::layout::{self, GUEST_MIN, RUNTIME_BLOCK, RUNTIME_BLOCK_END};
use ftl_core::platform::{Backing, Platform, Prot};
use std::collections::BTreeMap;

/// Highest start of `len` bytes at a multiple of `align` inside the hole `[lo, hi)` that keeps off
/// the runtime's block.
fn fit(lo: u64, hi: u64, len: u64, align: u64) -> Option<u64> {
    let start = hi.checked_sub(len)? & !(align - 1);
    if start >= RUNTIME_BLOCK_END || start.checked_add(len)? <= RUNTIME_BLOCK {
        return (start >= lo).then_some(start);
    }
    let start = RUNTIME_BLOCK.checked_sub(len)? & !(align - 1);
    (start >= lo).then_some(start)
}

fn hidden(v: &Vma) -> bool {
    v.kind == VmaKind::Stubs
}

impl Mm {
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
        self.with(addr, Vma::clone)
    }

    /// As [`Mm::find`], for messages: `None` also while the map is being changed.
    pub fn peek(&self, addr: u64) -> Option<Vma> {
        self.vmas.try_borrow().ok()?;
        self.find(addr)
    }

    /// The first mapping that starts above `addr`.
    pub fn after(&self, addr: u64) -> Option<Vma> {
        let vmas = self.vmas.borrow();
        vmas.range(addr + 1..).next().map(|(_, v)| v.clone())
    }

    /// The last mapping that starts below `addr`.
    pub fn before(&self, addr: u64) -> Option<Vma> {
        let vmas = self.vmas.borrow();
        vmas.range(..addr).next_back().map(|(_, v)| v.clone())
    }

    /// All mappings, ascending.
    pub fn list(&self) -> Vec<Vma> {
        self.vmas.borrow().values().cloned().collect()
    }

    /// Number of mappings.
    pub fn count(&self) -> usize {
        self.vmas.borrow().len()
    }

    /// Mappings that meet `[addr, addr + len)`, ascending, uncut, hidden ones too.
    pub fn overlapping(&self, addr: u64, len: u64) -> Vec<Vma> {
        let mut out = Vec::new();
        self.each(addr, len, |v| out.push(v.clone()));
        out
    }

    /// Mappings of the guest's own that meet the range.
    pub fn visible(&self, addr: u64, len: u64) -> Vec<Vma> {
        let mut out = Vec::new();
        self.each(addr, len, |v| {
            if !hidden(v) {
                out.push(v.clone());
            }
        });
        out
    }

    fn each(&self, addr: u64, len: u64, mut f: impl FnMut(&Vma)) {
        // Whatever a guest says: nothing is mapped up there.
        let end = addr.saturating_add(len);
        let vmas = self.vmas.borrow();
        let first = vmas.range(..=addr).next_back().map_or(addr, |(s, _)| *s);
        for (_, v) in vmas.range(first..end) {
            if v.end > addr {
                f(v);
            }
        }
    }

    /// Where the first of the guest's mappings in the range with this flag begins.
    pub fn first_flagged(&self, addr: u64, len: u64, flag: VmaFlags) -> Option<u64> {
        let mut at = None;
        self.each(addr, len, |v| {
            if v.flags.contains(flag) && !hidden(v) {
                at = at.or(Some(v.start.max(addr)));
            }
        });
        at
    }

    /// Nothing at all is mapped in the range and the guest may use it.
    pub fn is_free(&self, addr: u64, len: u64) -> bool {
        if !layout::is_guest_range(addr, len) || addr < GUEST_MIN {
            return false;
        }
        let mut free = true;
        self.each(addr, len, |_| free = false);
        free
    }

    /// As [`Mm::is_free`], where the guest cannot see what is hidden.
    pub fn looks_free(&self, addr: u64, len: u64) -> bool {
        if !layout::is_guest_range(addr, len) || addr < GUEST_MIN {
            return false;
        }
        let mut free = true;
        self.each(addr, len, |v| free &= hidden(v));
        free
    }

    /// Every byte of the range is mapped by the guest.
    pub fn is_mapped(&self, addr: u64, len: u64) -> bool {
        self.mapped_prefix(addr, len) == len
    }

    /// How many bytes from `addr` on are mapped without a hole, at most `len`.
    pub fn mapped_prefix(&self, addr: u64, len: u64) -> u64 {
        let mut at = addr;
        self.each(addr, len, |v| {
            if v.start <= at && !hidden(v) {
                at = at.max(v.end);
            }
        });
        at.min(addr.saturating_add(len)) - addr
    }

    /// A free range of `len` bytes, as high as possible below `below`, at a multiple of `align`.
    pub fn find_free(&self, len: u64, below: u64, align: u64) -> Option<u64> {
        let usual = below == self.mmap_base.get();
        let (hint, hole) = self.hint.get();
        let from_hint = usual && len > hole && hint <= below;
        let mut top = if from_hint { hint } else { below };
        let mut skipped = if from_hint { hole } else { 0 };
        let mut found = None;
        {
            let vmas = self.vmas.borrow();
            for (_, v) in vmas.range(..top).rev() {
                if v.end <= top {
                    found = fit(v.end.max(GUEST_MIN), top, len, align);
                    if found.is_some() {
                        break;
                    }
                    skipped = skipped.max(top - v.end);
                }
                top = v.start;
            }
        }
        let start = found.or_else(|| fit(GUEST_MIN, top, len, align))?;
        if usual {
            // A hole of exactly this start may be left by alignment; below it nothing is known.
            self.hint
                .set((start + len, skipped.max(top.saturating_sub(start + len))));
        }
        Some(start)
    }

    /// Protection that the host is told of: text that may be the guest's own work is not executable until it
    /// has been looked at (`specials::look`).
    pub fn host_prot(&self, vma: &Vma) -> Prot {
        if self.watch_text.get() && vma.is_wild() {
            (vma.prot - Prot::EXEC) | Prot::READ
        } else {
            vma.prot
        }
    }

    /// Records a mapping and tells the host. Replaces what was there.
    pub fn map(&self, plat: &mut dyn Platform, vma: Vma, backing: Backing) {
        self.forget(vma.start, vma.len());
        plat.map(vma.start, vma.len(), self.host_prot(&vma), backing);
        self.insert(vma);
    }

    fn account(&self, v: &Vma, add: bool) {
        if hidden(v) {
            return;
        }
        let bump = |cell: &std::cell::Cell<u64>| {
            cell.set(if add {
                cell.get() + v.len()
            } else {
                cell.get() - v.len()
            });
        };
        bump(&self.mapped);
        if v.commits() {
            bump(&self.committed);
        }
        if v.flags.contains(VmaFlags::LOCKED) {
            bump(&self.locked);
        }
    }

    /// Records a mapping that the host already has. The range must be free.
    pub fn insert(&self, vma: Vma) {
        self.account(&vma, true);
        self.peak.set(self.peak.get().max(self.mapped.get()));
        let mut vmas = self.vmas.borrow_mut();
        let at = put(&mut vmas, vma);
        join_right(&mut vmas, at);
    }

    /// Takes the guest's mappings in the range out of the map, cut to it, ascending.
    fn take(&self, addr: u64, len: u64, mut got: impl FnMut(Vma)) {
        let end = addr + len;
        let mut vmas = self.vmas.borrow_mut();
        let mut at = addr;
        while at < end {
            // One that begins before the range can only be the first.
            let before = vmas.range_mut(..at).next_back();
            if let Some((_, v)) = before
                && v.end > at
            {
                let stop = v.end.min(end);
                if !hidden(v) {
                    let mid = v.cut(at, stop);
                    let right = (v.end > end).then(|| v.cut(end, v.end));
                    v.end = at;
                    if let Some(right) = right {
                        vmas.insert(end, right);
                    }
                    self.account(&mid, false);
                    got(mid);
                }
                at = stop;
                continue;
            }
            let Some((&start, v)) = vmas.range(at..end).next() else {
                break;
            };
            at = v.end.min(end);
            if hidden(v) {
                continue;
            }
            let Some(mut v) = vmas.remove(&start) else { break };
            if v.end > end {
                vmas.insert(end, v.cut(end, v.end));
                v.end = end;
            }
            self.account(&v, false);
            got(v);
        }
    }

    /// Removes the guest's mappings in the range from the records (splitting what straddles its ends).
    pub fn forget(&self, addr: u64, len: u64) {
        let mut any = false;
        self.take(addr, len, |_| any = true);
        if any {
            self.note_hole(addr + len);
            self.patches.borrow_mut().forget(addr, addr + len);
        }
    }

    /// The hole that ends where the next mapping after `end` starts has grown.
    fn note_hole(&self, end: u64) {
        let (hint, hole) = self.hint.get();
        if end >= hint {
            let vmas = self.vmas.borrow();
            let next = vmas.range(end..).next().map_or(self.mmap_base.get(), |(s, _)| *s);
            self.hint.set((next.min(self.mmap_base.get()).max(hint), hole));
        }
    }

    /// Removes a stub area.
    pub(super) fn remove_hidden(&self, addr: u64) {
        let removed = self.vmas.borrow_mut().remove(&addr);
        if let Some(v) = removed {
            self.note_hole(v.end);
        }
    }

    /// Unmaps a page-aligned range. Stub areas in it stay.
    pub fn unmap(&self, plat: &mut dyn Platform, addr: u64, len: u64) {
        let end = addr + len;
        let mut stubs = Vec::new();
        self.each(addr, len, |v| {
            if hidden(v) {
                stubs.push((v.start.max(addr), v.end.min(end)));
            }
        });
        self.forget(addr, len);
        let mut at = addr;
        for (s, e) in stubs {
            if s > at {
                plat.unmap(at, s - at);
            }
            at = e;
        }
        if end > at {
            plat.unmap(at, end - at);
        }
    }

    /// Changes the guest's mappings in the range through `f`.
    pub fn change(&self, addr: u64, len: u64, f: impl Fn(&mut Vma)) {
        // All are out of the map before the first goes back: a changed piece must not be joined with
        // a neighbour that is still to be changed. Nearly always it is one piece.
        let (mut one, mut rest) = (None, Vec::new());
        self.take(addr, len, |v| {
            if one.is_none() {
                one = Some(v);
            } else {
                rest.push(v);
            }
        });
        let mut vmas = self.vmas.borrow_mut();
        let mut last = None;
        for mut v in one.into_iter().chain(rest) {
            f(&mut v);
            self.account(&v, true);
            last = Some(put(&mut vmas, v));
        }
        if let Some(at) = last {
            join_right(&mut vmas, at);
        }
    }

    /// Anonymous private memory for the kernel's own use in the guest (stack, vDSO, stubs).
    pub fn map_anon(&self, plat: &mut dyn Platform, addr: u64, len: u64, prot: Prot, kind: VmaKind) {
        self.map(plat, Vma::anon(addr, len, prot, kind), Backing::Anon);
    }
}

/// Inserts, joined with the mapping before it if they differ in nothing: programs that map in small
/// steps would otherwise collect entries without bound. Returns the start of the result.
fn put(vmas: &mut BTreeMap<u64, Vma>, vma: Vma) -> u64 {
    if let Some((start, left)) = vmas.range_mut(..vma.start).next_back()
        && left.end == vma.start
        && left.joins(&vma)
    {
        left.end = vma.end;
        return *start;
    }
    let start = vma.start;
    vmas.insert(start, vma);
    start
}

/// Joins the mapping at `at` with the one after it, if they differ in nothing.
fn join_right(vmas: &mut BTreeMap<u64, Vma>, at: u64) {
    let Some(v) = vmas.get(&at) else { return };
    let mid = v.end;
    let Some(right) = vmas.get(&mid) else { return };
    if !v.joins(right) {
        return;
    }
    let end = right.end;
    vmas.remove(&mid);
    if let Some(v) = vmas.get_mut(&at) {
        v.end = end;
    }
}
