//! The text near a site, decoded at every offset, and what can be said of instruction boundaries from that.
//!
//! x86 decodings that start at different bytes run into each other after a few instructions. So: let decodings start
//! at every byte of a zone well before the site and keep those that reach the site itself (it was executed, or is being
//! asked about, so the others are wrong). A boundary that all of them share is taken for certain; a branch that any of
//! them shows is taken for possible.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// How far before the site decoding may begin.
pub const BACK: usize = 288;
/// How far behind the site decoding goes: short branches reach 128 bytes back.
pub const AHEAD: usize = 160;
/// Decodings that begin in `[site - BOUNDARY_FAR, site - BOUNDARY_NEAR]` decide on boundaries.
const BOUNDARY_FAR: usize = 160;
const BOUNDARY_NEAR: usize = 48;
/// Near the start of the window, decodings may begin this close to the site.
const BOUNDARY_NEAR_SHORT: usize = 16;
/// Fewer agreeing decodings than this say nothing.
const VOTES_MIN: usize = 4;
/// Decodings that begin in `[site - BACK, site - BRANCH_NEAR]` show the branches that may exist.
const BRANCH_NEAR: usize = 200;
/// If fewer than this arrive, those that begin later are asked too.
const BRANCH_VOTES_MIN: usize = 16;
/// How many instructions on each side must look like code.
const PLAUSIBLE_COUNT: usize = 16;

/// The decoded neighbourhood of one offset of a code slice. All offsets are those of the whole slice.
pub struct Window<'a> {
    code: &'a [u8],
    addr: u64,
    site: usize,
    lo: usize,
    /// Instruction length at `lo + i`; 0 if invalid or cut off.
    lens: Vec<u8>,
    /// `lens` index to target, for short branches.
    short: Vec<(usize, u64)>,
}

impl<'a> Window<'a> {
    /// Decodes around `site`.
    pub fn new(code: &'a [u8], addr: u64, site: usize) -> Self {
        let lo = site.saturating_sub(BACK);
        let hi = code.len().min(site + AHEAD);
        let mut window = Window {
            code,
            addr,
            site,
            lo,
            lens: Vec::with_capacity(hi - lo),
            short: Vec::new(),
        };
        let mut decoder = decoder_at(&code[..hi], addr);
        let mut insn = Instruction::default();
        for at in lo..hi {
            if decoder.set_position(at).is_err() {
                break;
            }
            decoder.set_ip(addr.wrapping_add(at as u64));
            decoder.decode_out(&mut insn);
            window
                .lens
                .push(if insn.is_invalid() { 0 } else { insn.len() as u8 });
            if insn.op0_kind() == OpKind::NearBranch64 && is_short(&insn) {
                window.short.push((at - lo, insn.near_branch_target()));
            }
        }
        window
    }

    /// The instruction at an offset of the slice.
    pub fn decode(&self, at: usize) -> Option<Instruction> {
        decode(self.code, self.addr, at)
    }

    fn len_at(&self, at: usize) -> usize {
        at.checked_sub(self.lo)
            .and_then(|i| self.lens.get(i))
            .map_or(0, |&len| usize::from(len))
    }

    /// How close to the site decodings may begin that decide on boundaries.
    fn boundary_near(&self) -> usize {
        if self.site >= BOUNDARY_FAR {
            BOUNDARY_NEAR
        } else {
            BOUNDARY_NEAR_SHORT
        }
    }

    /// For each offset from `lo` to the site, whether the decoding from there lands on the site exactly.
    fn landings(&self) -> Vec<bool> {
        let count = self.site - self.lo;
        let mut lands = vec![false; count + 1];
        lands[count] = true;
        for i in (0..count).rev() {
            let len = usize::from(self.lens[i]);
            lands[i] = len > 0 && i + len <= count && lands[i + len];
        }
        lands
    }

    /// For each offset from `lo` to the site, how many of the landing decodings that begin in `from..to` pass it.
    fn passes(&self, from: usize, to: usize) -> Vec<u32> {
        let lands = self.landings();
        let mut passes = vec![0u32; lands.len()];
        for i in 0..passes.len() {
            if (from..to).contains(&(self.lo + i)) && lands[i] {
                passes[i] += 1;
            }
            if passes[i] > 0 && self.lo + i < self.site {
                let weight = passes[i];
                passes[i + usize::from(self.lens[i])] += weight;
            }
        }
        passes
    }

    /// Starts of the instructions before the site, nearest first, as far as all decodings agree.
    pub fn predecessors(&self) -> Vec<usize> {
        let near = self.boundary_near();
        let from = self.site.saturating_sub(BOUNDARY_FAR);
        let to = self.site.saturating_sub(near) + 1;
        let passes = self.passes(from, to);
        let total = passes[self.site - self.lo];
        if (total as usize) < VOTES_MIN || self.site < near {
            return Vec::new();
        }
        // Nothing before `to` was passed by those that began later.
        let agreed = |at: usize| at >= to && passes[at - self.lo] == total;
        (to..self.site).rev().filter(|&at| agreed(at)).collect()
    }

    /// Of the decodings that begin before the site and do not fail, how many land on it, and how many pass over it.
    pub fn votes(&self) -> (usize, usize) {
        self.count_votes(|_| true)
    }

    /// The same, where decodings through what no compiler writes do not count. A row of stores with the same bytes but
    /// for one (as ld.so has it before its `xsave`) keeps a false decoding alive through all of it.
    pub fn plausible_votes(&self) -> (usize, usize) {
        self.count_votes(|at| {
            self.decode(at)
                .is_some_and(|insn| is_plausible(&insn) && !halves_the_stack(&insn))
        })
    }

    fn count_votes(&self, counts: impl Fn(usize) -> bool) -> (usize, usize) {
        let near = self.boundary_near();
        let from = self.site.saturating_sub(BOUNDARY_FAR).max(self.lo);
        let to = self.site.saturating_sub(near) + 1;
        let count = self.site - self.lo;
        // 0: dies, 1: lands, 2: passes over.
        let mut fate = vec![0u8; count + 1];
        fate[count] = 1;
        for i in (0..count).rev() {
            let len = usize::from(self.lens[i]);
            fate[i] = match i + len {
                _ if len == 0 || !counts(self.lo + i) => 0,
                next if next > count => 2,
                next => fate[next],
            };
        }
        let zone = if self.site < near {
            &fate[..0]
        } else {
            &fate[from - self.lo..to - self.lo]
        };
        let number = |want: u8| zone.iter().filter(|&&f| f == want).count();
        (number(1), number(2))
    }

    /// Whether what surrounds the site looks like a program's code. Boundaries alone cannot tell: decodings of data agree
    /// with each other just as well.
    pub fn plausible(&self) -> bool {
        let mut before = self.predecessors();
        before.truncate(PLAUSIBLE_COUNT);
        let straight = |at: usize| self.decode(at).map(|insn| (is_plausible(&insn), leaves(&insn)));
        for at in before {
            match straight(at) {
                Some((_, true)) => break,
                Some((true, false)) => {}
                _ => return false,
            }
        }
        let mut at = self.site;
        let mut after_call = false;
        for _ in 0..PLAUSIBLE_COUNT {
            let insn = self.decode(at);
            match insn {
                Some(insn) if leaves(&insn) => break,
                Some(insn) if is_plausible(&insn) => {
                    after_call = insn.is_call_near() || insn.is_call_near_indirect();
                    at += insn.len();
                }
                // A call need not return, so anything may follow it.
                _ => return after_call || (insn.is_none() && at + 15 > self.code.len()),
            }
        }
        true
    }

    /// Targets of the short branches that may exist near the site.
    pub fn short_targets(&self) -> Vec<u64> {
        let zone_end = |near| self.site.saturating_sub(near).max(self.lo + 16).min(self.site);
        let arrivals = |passes: &[u32]| passes.last().map_or(0, |&n| n as usize);
        let mut passes = self.passes(self.lo, zone_end(BRANCH_NEAR));
        if arrivals(&passes) < BRANCH_VOTES_MIN {
            // Data lies before the code that the site is in: begin closer to it.
            passes = self.passes(self.lo, zone_end(BOUNDARY_NEAR_SHORT));
        }
        if arrivals(&passes) == 0 {
            // Any byte may begin a branch.
            passes.fill(1);
        }
        let possible = |i: usize| passes.get(i).is_some_and(|&n| n > 0);
        let before = self.short.iter().filter(|(i, _)| possible(*i));
        let ahead = self.ahead();
        let follows = |i: usize| ahead.binary_search(&(self.lo + i)).is_ok();
        let behind = self.short.iter().filter(|(i, _)| follows(*i));
        before.chain(behind).map(|&(_, target)| target).collect()
    }

    /// Instruction starts from the site on, skipping a byte where nothing decodes.
    fn ahead(&self) -> Vec<usize> {
        let end = self.lo + self.lens.len();
        let mut starts = Vec::new();
        let mut at = self.site;
        while at < end {
            starts.push(at);
            at += self.len_at(at).max(1);
        }
        starts
    }
}

/// Whether straight-line code ends here.
fn leaves(insn: &Instruction) -> bool {
    let flow = insn.flow_control();
    matches!(
        flow,
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return
    ) || matches!(insn.mnemonic(), Mnemonic::Ud2 | Mnemonic::Int3 | Mnemonic::Hlt)
}

/// Whether compilers and people write this instruction into 64-bit programs.
fn is_plausible(insn: &Instruction) -> bool {
    let odd = matches!(
        insn.mnemonic(),
        Mnemonic::In
            | Mnemonic::Out
            | Mnemonic::Insb
            | Mnemonic::Insd
            | Mnemonic::Insw
            | Mnemonic::Outsb
            | Mnemonic::Outsd
            | Mnemonic::Outsw
            | Mnemonic::Loop
            | Mnemonic::Loope
            | Mnemonic::Loopne
            | Mnemonic::Xlatb
            | Mnemonic::Enter
            | Mnemonic::Lss
            | Mnemonic::Lfs
            | Mnemonic::Lgs
            | Mnemonic::Sahf
            | Mnemonic::Lahf
            | Mnemonic::Cli
            | Mnemonic::Sti
            | Mnemonic::Ud0
            | Mnemonic::Ud1
    );
    let far = matches!(
        insn.code(),
        Code::Retfd | Code::Retfq | Code::Retfw | Code::Retfd_imm16 | Code::Retfq_imm16 | Code::Retfw_imm16
    ) || insn.is_jmp_far_indirect()
        || insn.is_call_far_indirect();
    let segment_load = insn.op_count() > 0 && insn.op0_register().is_segment_register();
    // What zeros decode to.
    let zeros = insn.code() == Code::Add_rm8_r8 && insn.len() == 2 && insn.memory_base() == Register::RAX;
    !(odd || far || segment_load || zeros || insn.is_privileged())
}

/// Whether it writes a part of the stack pointer, as 64-bit code never does.
fn halves_the_stack(insn: &Instruction) -> bool {
    let part = |register| matches!(register, Register::ESP | Register::SP | Register::SPL);
    let writes = match insn.mnemonic() {
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push => return false,
        Mnemonic::Xchg => part(insn.op1_register()),
        _ => false,
    };
    writes || part(insn.op0_register())
}

fn is_short(insn: &Instruction) -> bool {
    match insn.flow_control() {
        FlowControl::ConditionalBranch => !insn.is_jcc_near(),
        FlowControl::UnconditionalBranch => insn.is_jmp_short(),
        _ => false,
    }
}

/// A decoder over a code slice.
pub fn decoder_at(code: &[u8], addr: u64) -> Decoder<'_> {
    Decoder::with_ip(64, code, addr, DecoderOptions::NONE)
}

/// The instruction at an offset, unless it is invalid or cut off.
pub fn decode(code: &[u8], addr: u64, at: usize) -> Option<Instruction> {
    let bytes = code.get(at..)?;
    let insn = decoder_at(&bytes[..bytes.len().min(15)], addr.wrapping_add(at as u64)).decode();
    (!insn.is_invalid() && insn.code() != Code::INVALID).then_some(insn)
}
