//! Call sites of a space that were patched into jumps, and the two names that an instruction has
//! because of it: its address in the program (which the guest may see) and its address in a stub.
//!
//! Patching is lazy and invisible: it changes no register, no answer and no order. The table is
//! image state so that a snapshot's patched text and its table agree. Only text that the guest
//! cannot write is patched: a JIT may rewrite its own.
//!
//! Plans are kept per file and offset ([`PlanCache`]): a shell that starts the same program a
//! thousand times searches its text for jump targets once. So is what the text of a file refers to:
//! nearly all sites of a program are in its C library.

use crate::kernel::Kernel;
use crate::mm::{Mm, Vma, VmaKind};
use ftl_core::layout::PAGE;
use ftl_core::platform::{Platform, Prot};
use ftl_loader::patch::{self, Avoid, NEAR, PatchPlan, References, Request, STUB_MAX, SpecialInsn, Stub};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// Traps at a site before it is worth a plan of its own.
pub const TRAPS_BEFORE_PLAN: u64 = 2;
/// Text searched around a site, bytes each way, where it is not a whole file's or that is large.
const WINDOW: u64 = 1 << 20;
/// Larger texts than this are not searched as a whole, bytes.
const WHOLE_MOST: u64 = 4 << 20;
/// Texts of which it is known what they refer to; an eighth of their length each.
const TEXTS_MOST: usize = 6;
/// Text that is read at a time, bytes.
const PIECE: usize = 64 << 10;
/// Bytes of a stub area.
const AREA: u64 = 4 * PAGE;
/// Reach of a 32-bit jump, with room for the stub itself.
const REACH: u64 = (1 << 31) - (1 << 20);

/// One patched site.
#[derive(Clone, Debug)]
pub struct Patch {
    /// First overwritten byte.
    pub start: u64,
    /// Overwritten bytes as they were.
    pub original: Vec<u8>,
    /// The stub's address and length.
    pub stub: (u64, u64),
    /// Instruction starts in the stub, ascending, with the address that the guest sees for them.
    programs: Vec<(u64, u64)>,
    /// Program addresses of replaced instructions, with where a context that rests there goes on.
    stubs: Vec<(u64, u64)>,
}

/// All patched sites of a space.
#[derive(Clone, Default, Debug)]
pub struct Patches {
    by_site: BTreeMap<u64, Rc<Patch>>,
    by_stub: BTreeMap<u64, u64>,
    /// Traps at sites that are not patched, by site.
    pub unpatched: BTreeMap<u64, u64>,
    /// Special instructions that are traps now, by address, with the bytes that they were.
    pub specials: BTreeMap<u64, (SpecialInsn, Vec<u8>)>,
    /// Pages of text that is not a file's which have been looked at since they last could change unseen.
    pub looked: BTreeSet<u64>,
    /// Stub areas: start to (next free byte, end).
    areas: BTreeMap<u64, (u64, u64)>,
}

/// What is known of files that were run.
#[derive(Default, Debug)]
pub struct PlanCache {
    /// Plans by device, inode and file offset of the site; `None` for a site that cannot be patched.
    plans: RefCell<BTreeMap<(u64, u64, u64), Option<Rc<PatchPlan>>>>,
    /// What the text of a mapping refers to, by device, inode, file offset and length; the last used at the end.
    texts: RefCell<VecDeque<(Text, Rc<References>)>>,
}

/// Device, inode, file offset and length.
type Text = (u64, u64, u64, u64);

impl Patches {
    fn insert(&mut self, p: Patch) {
        self.by_stub.insert(p.stub.0, p.start);
        self.by_site.insert(p.start, Rc::new(p));
    }

    /// Number of patched sites.
    pub fn len(&self) -> usize {
        self.by_site.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.by_site.is_empty()
    }

    /// True for an address in a stub area.
    pub fn is_stub(&self, rip: u64) -> bool {
        self.areas
            .range(..=rip)
            .next_back()
            .is_some_and(|(_, (_, end))| rip < *end)
    }

    /// Text in `[start, end)` is to be looked at again.
    pub fn unlook(&mut self, start: u64, end: u64) {
        let pages: Vec<u64> = self.looked.range(start..end).copied().collect();
        for p in pages {
            self.looked.remove(&p);
        }
    }

    /// Drops the sites whose text lies in `[start, end)`: it is being unmapped or replaced.
    pub fn forget(&mut self, start: u64, end: u64) {
        self.unlook(start, end);
        if !self.specials.is_empty() {
            let traps: Vec<u64> = self.specials.range(start..end).map(|(s, _)| *s).collect();
            for s in traps {
                self.specials.remove(&s);
            }
        }
        if self.by_site.is_empty() && self.unpatched.is_empty() {
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
        let traps: Vec<u64> = self.unpatched.range(start..end).map(|(s, _)| *s).collect();
        for s in traps {
            self.unpatched.remove(&s);
        }
    }

    /// All sites have their text back.
    pub fn forget_sites(&mut self) {
        self.by_site.clear();
        self.by_stub.clear();
        self.unpatched.clear();
    }

    /// Puts what special instructions were into a copy of text that starts at `addr`.
    pub fn show_original(&self, addr: u64, text: &mut [u8]) {
        let end = addr + text.len() as u64;
        for (at, (_, bytes)) in self.specials.range(addr.saturating_sub(16)..end) {
            for (i, b) in bytes.iter().enumerate() {
                let slot = (at + i as u64).checked_sub(addr);
                if let Some(slot) = slot.and_then(|o| text.get_mut(o as usize)) {
                    *slot = *b;
                }
            }
        }
    }

    /// Sites whose text lies in `[start, end)`, ascending.
    pub fn sites_in(&self, start: u64, end: u64) -> Vec<Rc<Patch>> {
        self.by_site
            .range(start.saturating_sub(64)..end)
            .filter(|(s, p)| **s + p.original.len() as u64 > start)
            .map(|(_, p)| p.clone())
            .collect()
    }

    /// Sites whose stubs lie in `[start, end)`.
    pub fn stubs_in(&self, start: u64, end: u64) -> Vec<Rc<Patch>> {
        self.by_stub
            .range(start..end)
            .filter_map(|(_, site)| self.by_site.get(site).cloned())
            .collect()
    }

    /// Stub areas that meet `[start, end)`: start and end of each.
    pub fn areas_in(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        self.areas
            .range(..end)
            .filter(|(_, (_, e))| *e > start)
            .map(|(s, (_, e))| (*s, *e))
            .collect()
    }

    /// Takes out the sites whose stubs lie in `[start, end)`; the caller puts their text back.
    pub fn evict(&mut self, start: u64, end: u64) -> Vec<Rc<Patch>> {
        let hit: Vec<u64> = self
            .areas
            .range(..end)
            .filter(|(_, (_, e))| *e > start)
            .map(|(s, _)| *s)
            .collect();
        let mut out = Vec::new();
        for area in hit {
            let Some((_, area_end)) = self.areas.remove(&area) else {
                continue;
            };
            let sites: Vec<u64> = self.by_stub.range(area..area_end).map(|(_, s)| *s).collect();
            for s in sites {
                if let Some(p) = self.by_site.remove(&s) {
                    self.by_stub.remove(&p.stub.0);
                    out.push(p);
                }
            }
        }
        out
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
        p.programs
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
        p.stubs.iter().find(|(a, _)| *a == rip).map_or(rip, |(_, s)| *s)
    }

    /// Puts the original bytes into a copy of text that starts at `addr`.
    pub fn unpatch_copy(&self, addr: u64, text: &mut [u8]) {
        let end = addr + text.len() as u64;
        for (s, p) in self.by_site.range(addr.saturating_sub(64)..end) {
            for (i, b) in p.original.iter().enumerate() {
                if let Some(slot) = (s + i as u64)
                    .checked_sub(addr)
                    .and_then(|o| text.get_mut(o as usize))
                {
                    *slot = *b;
                }
            }
        }
    }

    fn taken(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        self.by_site
            .range(start..end)
            .map(|(s, p)| (*s, *s + p.original.len() as u64))
            .collect()
    }
}

/// A `syscall` instruction at `site` has trapped: patch it so that it does not again, if that is
/// possible and worth it. `entry` is the runtime's common entry.
pub fn trapped(k: &Kernel, plat: &mut dyn Platform, site: u64, entry: u64) {
    let Some(task) = k.current.borrow().clone() else {
        return;
    };
    let mm = task.mm();
    if mm.unpatched.get().is_some() {
        return;
    }
    let Some(vma) = mm.find(site) else { return };
    let text = vma.prot.contains(Prot::EXEC) && !vma.prot.contains(Prot::WRITE) && !vma.shared;
    if !text || vma.kind != VmaKind::Normal {
        return;
    }
    let key = vma
        .file
        .as_ref()
        .map(|f| (f.id.0, f.id.1, f.offset + (site - vma.start)));
    let known = key.and_then(|key| k.plans.plans.borrow().get(&key).cloned());
    let plan = match known {
        Some(plan) => plan,
        None => {
            let traps = {
                let mut p = mm.patches.borrow_mut();
                let n = p.unpatched.entry(site).or_default();
                *n += 1;
                *n
            };
            if traps != TRAPS_BEFORE_PLAN {
                return;
            }
            let plan = search(k, &mm, plat, &vma, site);
            if let Some(key) = key {
                k.plans.plans.borrow_mut().insert(key, plan.clone());
            }
            plan
        }
    };
    if let Some(plan) = plan {
        apply(&mm, plat, &vma, site, &plan, entry);
        move_contexts(k, &mm, site);
    }
}

/// Contexts that rest inside the bytes that were just replaced, the current call's among them, go
/// on in the stub.
fn move_contexts(k: &Kernel, mm: &Rc<Mm>, site: u64) {
    let patches = mm.patches.borrow();
    for task in k.tasks.borrow().values() {
        let mut ctx = task.ctx.borrow_mut();
        if ctx.rip.abs_diff(site) < 64 && Rc::ptr_eq(&task.mm(), mm) {
            ctx.rip = patches.to_stub(ctx.rip);
        }
    }
}

fn search(k: &Kernel, mm: &Mm, plat: &mut dyn Platform, vma: &Vma, site: u64) -> Option<Rc<PatchPlan>> {
    let whole = vma
        .file
        .as_ref()
        .filter(|_| vma.end - vma.start <= WHOLE_MOST)
        .map(|f| (f.id.0, f.id.1, f.offset, vma.end - vma.start));
    let refs = match whole {
        Some(text) => Some(references(k, mm, plat, vma, text)?),
        None => None,
    };
    let around = if refs.is_some() { NEAR as u64 } else { WINDOW };
    let from = vma.start.max(site.saturating_sub(around));
    let to = vma.end.min(site + around);
    let mut code = vec![0; (to - from) as usize];
    read_original(mm, plat, from, &mut code)?;
    let taken = mm.patches.borrow().taken(from, to);
    let request = Request {
        code: &code,
        code_addr: from,
        site,
    };
    let avoid = Avoid {
        taken: &taken,
        entries: &[],
    };
    let plan = match &refs {
        Some(refs) => patch::plan_in(&request, &avoid, vma.start, refs),
        None => patch::plan_avoiding(&request, &avoid),
    };
    // The cache is for any load address: keep it relative to the site.
    Some(Rc::new(plan.ok()?))
}

/// Text as it is without patches of ours.
fn read_original(mm: &Mm, plat: &mut dyn Platform, from: u64, code: &mut [u8]) -> Option<()> {
    plat.read_guest(from, code).ok()?;
    mm.patches.borrow().unpatch_copy(from, code);
    Some(())
}

/// What the text of a mapping refers to.
fn references(k: &Kernel, mm: &Mm, plat: &mut dyn Platform, vma: &Vma, text: Text) -> Option<Rc<References>> {
    let mut texts = k.plans.texts.borrow_mut();
    if let Some(at) = texts.iter().position(|(t, _)| *t == text) {
        let known = texts.remove(at)?;
        let refs = known.1.clone();
        texts.push_back(known);
        return Some(refs);
    }
    let len = (vma.end - vma.start) as usize;
    let mut refs = References::new(len);
    let mut piece = vec![0; PIECE + References::OVERLAP];
    for from in (0..len).step_by(PIECE) {
        let piece = &mut piece[..(PIECE + References::OVERLAP).min(len - from)];
        read_original(mm, plat, vma.start + from as u64, piece)?;
        refs.scan(from, piece);
    }
    let refs = Rc::new(refs);
    if texts.len() == TEXTS_MOST {
        texts.pop_front();
    }
    texts.push_back((text, refs.clone()));
    Some(refs)
}

/// Writes stub and jump. A plan made at another load address is moved first.
fn apply(mm: &Mm, plat: &mut dyn Platform, vma: &Vma, site: u64, plan: &PatchPlan, entry: u64) {
    // The same bytes at another load address: the search that made the plan holds there too.
    let moved;
    let plan = if plan.site == site {
        plan
    } else {
        moved = plan.rebased(site.wrapping_sub(plan.site));
        &moved
    };
    let mut now = vec![0; plan.original().len()];
    if plat.read_guest(plan.patch_addr, &mut now).is_err() || now != plan.original() {
        return;
    }
    let Some(at) = stub_space(mm, plat, vma, site) else {
        return;
    };
    let Ok(stub) = plan.emit(at, entry) else { return };
    let parts: [(u64, &[u8]); 2] = [(at, &stub.bytes), (plan.patch_addr, &plan.site_bytes(at))];
    if plat.patch_text(&parts).is_ok() {
        record(mm, plan, at, &stub);
    }
}

fn record(mm: &Mm, plan: &PatchPlan, at: u64, stub: &Stub) {
    let programs: Vec<(u64, u64)> = stub
        .rip_map
        .iter()
        .map(|p| (at + u64::from(p.stub_off), p.site))
        .collect();
    let mut stubs: Vec<(u64, u64)> = Vec::new();
    for pair in &stub.rip_map {
        if let Some(off) = stub.stub_of(pair.site)
            && stubs.iter().all(|(a, _)| *a != pair.site)
        {
            stubs.push((pair.site, at + u64::from(off)));
        }
    }
    let mut patches = mm.patches.borrow_mut();
    patches.unpatched.remove(&plan.site);
    patches.insert(Patch {
        start: plan.patch_addr,
        original: plan.original().to_vec(),
        stub: (at, stub.bytes.len() as u64),
        programs,
        stubs,
    });
}

/// Room for a stub within reach of the site, at a place that depends on the space alone.
fn stub_space(mm: &Mm, plat: &mut dyn Platform, vma: &Vma, site: u64) -> Option<u64> {
    let near = |at: u64| at.abs_diff(site) < REACH;
    {
        let mut patches = mm.patches.borrow_mut();
        let len = (STUB_MAX as u64).next_multiple_of(16);
        for (start, (next, end)) in patches.areas.iter_mut() {
            if near(*start) && near(*end) && *next + len <= *end {
                let at = *next;
                *next += len;
                return Some(at);
            }
        }
    }
    let at = mm
        .find_free(AREA, vma.start, PAGE)
        .filter(|a| near(*a) && near(*a + AREA))?;
    mm.map_anon(plat, at, AREA, Prot::READ | Prot::EXEC, VmaKind::Stubs);
    mm.patches.borrow_mut().areas.insert(at, (at, at + AREA));
    stub_space(mm, plat, vma, site)
}
