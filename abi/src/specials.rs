//! Instructions that show the machine or the moment (`cpuid`, `rdtsc`, `rdrand`, ...), answered by the
//! image: in a recorded image they would be answers that no door saw.
//!
//! When text of a file becomes executable its special instructions are replaced by an undefined
//! instruction of the same length; the trap comes to [`trapped`]. Sites are kept per file, so a program that is
//! started a thousand times is searched once.
//!
//! Text that the guest makes itself (a JIT's) or may write is not executable for the host at first; the fault
//! of its first execution comes to [`look`], page by page. What is written to a page after it was executed is
//! not seen: docs/determinism.md.

use crate::kernel::Kernel;
use crate::mm::{Mm, Vma, VmaKind};
use crate::task::Task;
use ftl_core::context::{Context, XSAVE_BV, reg};
use ftl_core::kcore::Env;
use ftl_core::layout::{PAGE, page_down};
use ftl_core::platform::{Platform, Prot};
use ftl_core::xstate::{self, Form};
use ftl_loader::patch::{
    MemOperand, SPECIAL_AROUND, SpecialInsn, SpecialKind, classify, special_sites, special_sites_from,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What `cpuid` answers: leaf, subleaf, eax, ebx, ecx, edx, ascending. A leaf with one row answers it
/// for every subleaf.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CpuTable(pub Vec<[u32; 6]>);

impl CpuTable {
    /// Four registers for a leaf. Beyond the table an Intel CPU answers as for its highest basic leaf;
    /// all zero is what AMD does, and what we do.
    pub fn answer(&self, leaf: u32, sub: u32) -> [u32; 4] {
        let rows = self.0.iter().filter(|r| r[0] == leaf);
        let only = rows.clone().count() == 1;
        rows.into_iter()
            .find(|r| only || r[1] == sub)
            .map_or([0; 4], |r| [r[2], r[3], r[4], r[5]])
    }
}

/// Sites of one mapped piece of a file: offset from its start, and what is there.
type Sites = Rc<Vec<(u64, SpecialInsn)>>;

/// Sites by device, inode, offset and length.
#[derive(Default, Debug)]
pub struct SiteCache(RefCell<BTreeMap<(u64, u64, u64, u64), Sites>>);

/// Text in `[addr, addr + len)` may have become executable: its special instructions become traps.
pub fn scan(k: &Kernel, plat: &mut dyn Platform, mm: &Mm, addr: u64, len: u64) {
    if k.config.cpu.is_none() || len == 0 {
        return;
    }
    for vma in mm.visible(addr, len) {
        let text = vma.prot.contains(Prot::EXEC) && !vma.prot.contains(Prot::WRITE) && !vma.shared;
        let Some(file) = vma.file.as_ref().filter(|_| text && vma.kind == VmaKind::Normal) else {
            continue;
        };
        let key = (file.id.0, file.id.1, file.offset, vma.len());
        let known = k.specials.0.borrow().get(&key).cloned();
        let sites = match known {
            Some(sites) => sites,
            None => {
                let sites = Rc::new(search(plat, mm, &vma));
                k.specials.0.borrow_mut().insert(key, sites.clone());
                sites
            }
        };
        let mut good = true;
        for (offset, insn) in sites.iter() {
            good &= replace(plat, mm, vma.start + offset, *insn);
        }
        if !good {
            // Another file under the same name: what was known of the old one is wrong.
            let sites = Rc::new(search(plat, mm, &vma));
            for (offset, insn) in sites.iter() {
                replace(plat, mm, vma.start + offset, *insn);
            }
            k.specials.0.borrow_mut().insert(key, sites);
        }
    }
}

/// Memory in the range may be executed from now on: what may be the guest's own work is looked at first.
pub fn hide(plat: &mut dyn Platform, mm: &Mm, addr: u64, len: u64) {
    if !mm.watch_text.get() {
        return;
    }
    mm.patches.borrow_mut().unlook(addr, addr + len);
    for vma in mm.visible(addr, len).into_iter().filter(Vma::is_wild) {
        let (start, end) = (vma.start.max(addr), vma.end.min(addr + len));
        plat.protect(start, end - start, mm.host_prot(&vma));
    }
}

/// How much text around a page or piece is looked at with it.
const AROUND: u64 = SPECIAL_AROUND;
/// Longest instruction, minus the byte that is in the page.
const STRADDLE: u64 = 14;

/// An instruction at `addr` could not be fetched. True if that was ours: its page has been looked at and may be
/// executed now.
pub fn look(plat: &mut dyn Platform, task: &Rc<Task>, addr: u64) -> bool {
    let (mm, rip) = (task.mm(), task.ctx.borrow().rip);
    if !mm.watch_text.get() {
        return false;
    }
    let page = page_down(addr);
    let Some(vma) = mm.find(addr).filter(Vma::is_wild) else {
        return false;
    };
    if !mm.patches.borrow_mut().looked.insert(page) {
        return false;
    }
    let (start, end) = (vma.start.max(page - AROUND), vma.end.min(page + PAGE + AROUND));
    let mut code = vec![0; (end - start) as usize];
    if plat.read_guest(start, &mut code).is_ok() {
        // What is reached from here is certain; of the rest of the page, which will not be looked at again,
        // there is only evidence.
        let mut sites = special_sites_from(&code, start, rip);
        sites.extend(special_sites(&code, start).iter().map(|s| (s.addr, s.insn)));
        for (at, insn) in sites {
            if (page - STRADDLE..page + PAGE).contains(&at) {
                replace(plat, &mm, at, insn);
            }
        }
    }
    plat.protect(page, PAGE, vma.prot);
    true
}

/// Text that is searched at a time: a copy of all of it in the image's arena would be in the next snapshot.
const PIECE: u64 = 64 << 10;

fn search(plat: &mut dyn Platform, mm: &Mm, vma: &Vma) -> Vec<(u64, SpecialInsn)> {
    let mut sites = Vec::new();
    let mut buf = vec![0; (PIECE + 2 * AROUND) as usize];
    for at in (vma.start..vma.end).step_by(PIECE as usize) {
        let (from, to) = ((at - AROUND).max(vma.start), (at + PIECE + AROUND).min(vma.end));
        let code = &mut buf[..(to - from) as usize];
        code.fill(0);
        // The last page of a file may end early; what can be read is looked at.
        let _ = plat.read_guest(from, code);
        mm.patches.borrow().unpatch_copy(from, code);
        let found = special_sites(code, from).into_iter();
        let here = found.filter(|s| (at..at + PIECE).contains(&s.addr));
        sites.extend(here.map(|s| (s.addr - vma.start, s.insn)));
        plat.breathe();
    }
    sites
}

/// False if something else is there.
fn replace(plat: &mut dyn Platform, mm: &Mm, at: u64, insn: SpecialInsn) -> bool {
    if mm.patches.borrow().specials.contains_key(&at) {
        return true;
    }
    let mut now = vec![0; insn.len];
    if plat.read_guest(at, &mut now).is_err() || classify(&now) != Some(insn) {
        return false;
    }
    if plat.patch_text(&[(at, &trap_of(insn.len))]).is_ok() {
        mm.patches.borrow_mut().specials.insert(at, (insn, now));
    }
    true
}

/// An undefined instruction of this length: ud2, or ud1 with as many prefixes as it needs.
fn trap_of(len: usize) -> Vec<u8> {
    if len == 2 {
        return vec![0x0f, 0x0b];
    }
    let mut trap = vec![0x66; len.clamp(3, 15)];
    let at = trap.len() - 3;
    trap[at..].copy_from_slice(&[0x0f, 0xb9, 0xc0]);
    trap
}

/// What became of an undefined instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is the program's own.
    NotOurs,
    /// It was one of ours, and has been answered.
    Done,
    /// It was one of ours, and the address that it writes to is not mapped.
    Unmapped(u64),
    /// It was one of ours, and the CPU would raise a general-protection fault.
    Protection,
}

/// An undefined instruction was met.
pub fn trapped(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>) -> Answer {
    let Some(cpu) = &k.config.cpu else {
        return Answer::NotOurs;
    };
    let mm = task.mm();
    let rip = task.ctx.borrow().rip;
    let insn = {
        let patches = mm.patches.borrow();
        patches.specials.get(&patches.to_program(rip)).map(|(i, _)| *i)
    };
    let Some(insn) = insn else {
        return Answer::NotOurs;
    };
    // Text that the guest writes itself may hold something else by now.
    let mut there = trap_of(insn.len);
    let as_left = plat.read_guest(rip, &mut there).is_ok() && there == trap_of(insn.len);
    if !as_left {
        mm.patches.borrow_mut().specials.remove(&rip);
        return Answer::NotOurs;
    }
    let mut env = Env { plat, core: &k.core };
    let tsc = match insn.kind {
        // The time-stamp counter of the image counts nanoseconds of its clock.
        SpecialKind::Rdtsc | SpecialKind::Rdtscp | SpecialKind::Rdpru => env.now(),
        _ => 0,
    };
    let mut ctx = task.ctx.borrow_mut();
    match insn.kind {
        SpecialKind::Cpuid => {
            let [a, b, c, d] = cpu.answer(ctx.regs[reg::RAX] as u32, ctx.regs[reg::RCX] as u32);
            for (to, v) in [(reg::RAX, a), (reg::RBX, b), (reg::RCX, c), (reg::RDX, d)] {
                ctx.regs[to] = u64::from(v);
            }
        }
        SpecialKind::Rdtsc | SpecialKind::Rdpru => pair(&mut ctx, tsc),
        SpecialKind::Rdtscp => {
            pair(&mut ctx, tsc);
            ctx.regs[reg::RCX] = 0;
        }
        SpecialKind::Rdrand | SpecialKind::Rdseed => {
            put(&mut ctx, insn, k.core.random_u64());
            // CF: there is a number. OF, SF, ZF, AF, PF are cleared.
            ctx.rflags = ctx.rflags & !0x8d5 | 1;
        }
        SpecialKind::Rdpid => put(&mut ctx, insn, 0),
        SpecialKind::Xgetbv => pair(&mut ctx, k.config.xcr0),
        SpecialKind::Xsave => return save(k, &mut env, &mut ctx, insn, Form::Xsave),
        SpecialKind::Xsaveopt => return save(k, &mut env, &mut ctx, insn, Form::Xsaveopt),
        SpecialKind::Xsavec => return save(k, &mut env, &mut ctx, insn, Form::Xsavec),
    }
    ctx.rip = rip + insn.len as u64;
    Answer::Done
}

/// Saves extended state as a function of its values (`ftl_core::xstate`).
fn save(k: &Kernel, env: &mut Env<'_>, ctx: &mut Context, insn: SpecialInsn, form: Form) -> Answer {
    let at = insn
        .mem
        .map(|m| address(ctx, m))
        .filter(|at| at.is_multiple_of(64));
    let (Some(cpu), Some(at)) = (&k.config.cpu, at) else {
        return Answer::Protection;
    };
    if ctx.xstate_valid == 0 {
        env.plat.save_xstate(ctx);
    }
    let parts = xstate::parts(k.config.xcr0, |sub| cpu.answer(0xd, sub));
    let rfbm = (ctx.regs[reg::RAX] & 0xffff_ffff | ctx.regs[reg::RDX] << 32) & k.config.xcr0;
    let mut old = [0; 8];
    let header = at.wrapping_add(XSAVE_BV as u64);
    if env.plat.read_guest(header, &mut old).is_err() {
        return Answer::Unmapped(header);
    }
    for (offset, bytes) in xstate::save(ctx.xstate_mut(), &parts, form, rfbm, u64::from_le_bytes(old)) {
        let to = at.wrapping_add(offset as u64);
        if env.plat.write_guest(to, &bytes).is_err() {
            return Answer::Unmapped(to);
        }
    }
    ctx.rip += insn.len as u64;
    Answer::Done
}

fn address(ctx: &Context, m: MemOperand) -> u64 {
    let get = |r: u8| ctx.regs.get(usize::from(r)).copied().unwrap_or(0);
    let base = if m.rip { ctx.rip } else { m.base.map_or(0, get) };
    let index = m
        .index
        .map_or(0, |(r, scale)| get(r).wrapping_mul(u64::from(scale)));
    base.wrapping_add(index).wrapping_add(m.disp)
}

fn pair(ctx: &mut Context, v: u64) {
    ctx.regs[reg::RAX] = v & 0xffff_ffff;
    ctx.regs[reg::RDX] = v >> 32;
}

fn put(ctx: &mut Context, insn: SpecialInsn, v: u64) {
    let Some(to) = insn.reg.and_then(|r| ctx.regs.get_mut(usize::from(r))) else {
        return;
    };
    *to = match insn.bits {
        16 => *to & !0xffff | v & 0xffff,
        32 => v & 0xffff_ffff,
        _ => v,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_with_and_without_subleaves() {
        let t = CpuTable(vec![
            [1, 0, 10, 11, 12, 13],
            [4, 0, 1, 1, 1, 1],
            [4, 1, 2, 2, 2, 2],
        ]);
        assert_eq!(t.answer(1, 77), [10, 11, 12, 13]);
        assert_eq!(t.answer(4, 1), [2; 4]);
        assert_eq!(t.answer(4, 2), [0; 4]);
        assert_eq!(t.answer(9, 0), [0; 4]);
    }
}
