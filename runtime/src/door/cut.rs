//! Cuts (PROTOCOL §5): a slice that ended at an instruction without a name.
//!
//! While a recorded image may be preempted, guest memory is write-protected (asynchronously: nothing
//! traps to us) when the watchdog is armed. If the slice then ends without an entry, the record holds
//! all that the slice can have changed: registers, the clock page (the vDSO advances it), and every
//! page written since the protection. Replay does not execute the slice: at the entry before it, it
//! puts these in place and goes on from there.

use crate::dirty::Tracker;
use crate::entry;
use ftl_abi::kernel::Kernel;
use ftl_abi::mm::{Vma, VmaKind};
use ftl_core::clock::Clock;
use ftl_core::context::{Context, Resume};
use ftl_core::layout::{PAGE, RUNTIME_BLOCK};
use ftl_core::log::Wire;
use ftl_core::platform::Prot;
use std::cell::Cell;

/// Guest ranges that the running task can write, and whether they are shared memory.
fn writable(kernel: &Kernel) -> Vec<(u64, u64, bool)> {
    let current = kernel.current.borrow();
    let Some(task) = current.as_ref() else {
        return Vec::new();
    };
    let list = task.mm().list();
    list.iter()
        .filter(|v| v.prot.contains(Prot::WRITE) && !matches!(v.kind, VmaKind::Stubs | VmaKind::Vdso))
        .map(|v| (v.start, v.end, v.shared))
        .collect()
}

/// The running task has shared memory that a process which does not follow it should soon begin with.
pub fn shares_much(kernel: &Kernel) -> bool {
    const MUCH: u64 = 1 << 20;
    let current = kernel.current.borrow();
    let list = current.as_ref().map(|task| task.mm().list());
    list.is_some_and(|l| l.iter().any(|v| v.shared && v.end - v.start > MUCH))
}

/// Starts noticing writes.
///
/// Writes before this go to `before`, with whether they were to shared memory: snapshots count them too.
pub fn protect(tracker: &Tracker, kernel: &Kernel, before: impl FnMut(u64, u64, bool)) {
    let current = kernel.current.borrow();
    let Some(task) = current.as_ref() else { return };
    // What cannot be written is followed too: then it is in nobody's way.
    let list = task.mm().list();
    let ours = |v: &Vma| !matches!(v.kind, VmaKind::Stubs | VmaKind::Vdso);
    let all: Vec<usize> = (0..list.len()).filter(|i| ours(&list[*i])).collect();
    let ranges: Vec<(u64, u64)> = all.iter().map(|i| (list[*i].start, list[*i].end)).collect();
    // Shared memory has marks of another kind, the runtime lies between the two ranges of guest memory.
    let apart = |n: usize| {
        let (a, b) = (&list[all[n - 1]], &list[all[n]]);
        all[n] != all[n - 1] + 1
            || a.shared
            || b.shared
            || (a.end <= RUNTIME_BLOCK) != (b.end <= RUNTIME_BLOCK)
    };
    tracker.protect_all(&ranges, apart, |n| list[all[n]].shared, before);
}

fn clock_cells(c: &Clock) -> [&Cell<u64>; 7] {
    [&c.v, &c.e, &c.base_v, &c.base_e, &c.q, &c.cap, &c.vdso_left]
}

/// Pages of one record of a cut: what is written to the log at once, and sent to a backup before anything else can be.
const PART_PAGES: usize = 256;

/// A cut that is being encoded.
pub struct Cutting {
    /// Registers and clock, in front of the last part.
    head: Vec<u8>,
    /// Written pages that are still to be encoded, the last ones first.
    runs: Vec<(u64, u64)>,
    /// Pages encoded so far.
    pub pages: usize,
}

impl Cutting {
    /// Takes the state at the cut, and finds its pages.
    pub fn begin(tracker: &Tracker, kernel: &Kernel, ctx: &Context) -> Cutting {
        let mut head = Vec::new();
        ctx.regs.put(&mut head);
        [ctx.rip, ctx.rflags, ctx.fs_base, ctx.gs_base].put(&mut head);
        ctx.xstate_bytes().put(&mut head);
        for c in clock_cells(kernel.core.clock) {
            c.get().put(&mut head);
        }
        let mut runs = Vec::new();
        for (start, end, shared) in writable(kernel) {
            tracker.written(start, end, shared, |s, e| runs.push((s, e)));
        }
        runs.reverse();
        Cutting { head, runs, pages: 0 }
    }

    /// The next part of its pages. `None`: what is left is [`Cutting::last`].
    pub fn part(&mut self) -> Option<Vec<u8>> {
        let left: u64 = self.runs.iter().map(|(s, e)| (e - s) / PAGE).sum();
        (left > PART_PAGES as u64).then(|| {
            let mut out = Vec::with_capacity(PART_PAGES * (PAGE as usize + 9));
            self.encode(&mut out);
            out
        })
    }

    /// The state, and the last pages.
    pub fn last(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.head);
        self.encode(&mut out);
        out
    }

    /// Encodes as many pages as a part has.
    fn encode(&mut self, out: &mut Vec<u8>) {
        let mut page = [0u8; PAGE as usize];
        for _ in 0..PART_PAGES {
            let Some((at, end)) = self.runs.pop() else { return };
            if at + PAGE < end {
                self.runs.push((at + PAGE, end));
            }
            // SAFETY: guest memory; an unreadable page ends at the copy's fix-up and is left out: the
            // guest cannot have written it either.
            let left = unsafe { entry::ftl_copy(page.as_mut_ptr() as u64, at, PAGE) };
            if left != 0 {
                continue;
            }
            self.pages += 1;
            (at / PAGE).put(out);
            let zero = page.iter().all(|b| *b == 0);
            zero.put(out);
            if !zero {
                out.extend_from_slice(&page);
            }
        }
    }
}

/// Puts a recorded state in place of the slice. `None` if the record is damaged.
pub fn apply(mut src: &[u8], kernel: &Kernel, ctx: &mut Context) -> Option<()> {
    let src = &mut src;
    ctx.regs = Wire::take(src)?;
    [ctx.rip, ctx.rflags, ctx.fs_base, ctx.gs_base] = Wire::take(src)?;
    let xstate: Vec<u8> = Wire::take(src)?;
    ctx.set_xstate_bytes(&xstate);
    ctx.resume = Resume::Full;
    ctx.orig_rax = u64::MAX;
    for c in clock_cells(kernel.core.clock) {
        c.set(Wire::take(src)?);
    }
    const ZERO: [u8; PAGE as usize] = [0; PAGE as usize];
    while !src.is_empty() {
        let at = u64::take(src)?.checked_mul(PAGE)?;
        if !ftl_core::layout::is_guest_range(at, PAGE) {
            return None;
        }
        let bytes: &[u8] = if bool::take(src)? {
            &ZERO
        } else {
            let (page, rest) = src.split_at_checked(PAGE as usize)?;
            *src = rest;
            page
        };
        // SAFETY: guest memory by the check; a page that is not writable here is a divergence that
        // the next comparison finds.
        if unsafe { entry::ftl_copy(at, bytes.as_ptr() as u64, PAGE) } != 0 {
            return None;
        }
    }
    Some(())
}
