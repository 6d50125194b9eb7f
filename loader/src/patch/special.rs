//! Instructions that show the machine or the moment: `cpuid`, the time stamp, hardware random numbers, the processor's
//! number, and what the CPU believes to be in use of the extended state (`xsave` and its kin). Each is replaced by a trap of no more than its length, and answered by the door.

use super::window::{Window, decode};
use iced_x86::{Code, FlowControl, Instruction, Register};

/// Which instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpecialKind {
    /// `cpuid`: eax, ebx, ecx, edx from eax and ecx.
    Cpuid,
    /// `rdtsc`: edx:eax.
    Rdtsc,
    /// `rdtscp`: edx:eax, and the processor's number in ecx.
    Rdtscp,
    /// `rdrand`: a register and the flags.
    Rdrand,
    /// `rdseed`: a register and the flags.
    Rdseed,
    /// `rdpid`: the processor's number in a register.
    Rdpid,
    /// `xgetbv`: edx:eax. With ecx = 1 the answer depends on what ran before.
    Xgetbv,
    /// `rdpru` (AMD): edx:eax, clocks since reset.
    Rdpru,
    /// `xsave`: extended state to memory, and which of it the CPU believes to be in use.
    Xsave,
    /// `xsaveopt`: the same without what is initial.
    Xsaveopt,
    /// `xsavec`: the same, compacted.
    Xsavec,
}

/// A decoded special instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialInsn {
    /// Which instruction.
    pub kind: SpecialKind,
    /// Its length with prefixes.
    pub len: usize,
    /// The register that receives the result, as its hardware number (0 rax, 1 rcx, ... 15), for those that name one.
    pub reg: Option<u8>,
    /// How many of its bits are written: 16 (the rest stays), 32 (the rest is cleared) or 64.
    pub bits: u8,
    /// The memory that it writes, for those that do.
    pub mem: Option<MemOperand>,
}

/// An address in memory: base + index * scale + disp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemOperand {
    /// Number of the base register.
    pub base: Option<u8>,
    /// Number of the index register, and its factor.
    pub index: Option<(u8, u8)>,
    /// What is added; from the instruction's own address if `rip`.
    pub disp: u64,
    /// Relative to the instruction.
    pub rip: bool,
}

/// A special instruction found in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialSite {
    /// Its address.
    pub addr: u64,
    /// What it is.
    pub insn: SpecialInsn,
    /// How many decodings from before agree that an instruction begins here.
    pub agree: usize,
    /// How many say that the bytes are the inside of another instruction. A site with more of these than a tenth of
    /// `agree` is not reported.
    pub differ: usize,
}

/// The special instruction that `bytes` begin with, if any.
pub fn classify(bytes: &[u8]) -> Option<SpecialInsn> {
    // All have 0f within the first bytes; deciding that first spares nearly every decoding.
    let escape = bytes.iter().take(14).position(|&byte| byte == 0x0f)?;
    if !second_byte(bytes, escape) {
        return None;
    }
    let insn = decode(bytes, 0, 0)?;
    let (kind, bits) = match insn.code() {
        Code::Cpuid => (SpecialKind::Cpuid, 32),
        Code::Rdtsc => (SpecialKind::Rdtsc, 32),
        Code::Rdtscp => (SpecialKind::Rdtscp, 32),
        Code::Xgetbv => (SpecialKind::Xgetbv, 32),
        Code::Rdpru => (SpecialKind::Rdpru, 32),
        Code::Rdrand_r16 => (SpecialKind::Rdrand, 16),
        Code::Rdrand_r32 => (SpecialKind::Rdrand, 32),
        Code::Rdrand_r64 => (SpecialKind::Rdrand, 64),
        Code::Rdseed_r16 => (SpecialKind::Rdseed, 16),
        Code::Rdseed_r32 => (SpecialKind::Rdseed, 32),
        Code::Rdseed_r64 => (SpecialKind::Rdseed, 64),
        Code::Rdpid_r64 => (SpecialKind::Rdpid, 64),
        Code::Xsave_mem | Code::Xsave64_mem => (SpecialKind::Xsave, 0),
        Code::Xsaveopt_mem | Code::Xsaveopt64_mem => (SpecialKind::Xsaveopt, 0),
        Code::Xsavec_mem | Code::Xsavec64_mem => (SpecialKind::Xsavec, 0),
        _ => return None,
    };
    let mem = match kind {
        SpecialKind::Xsave | SpecialKind::Xsaveopt | SpecialKind::Xsavec => Some(memory(&insn)?),
        _ => None,
    };
    let named = matches!(
        kind,
        SpecialKind::Rdrand | SpecialKind::Rdseed | SpecialKind::Rdpid
    );
    let reg = named.then(|| register_number(insn.op0_register()));
    Some(SpecialInsn {
        kind,
        len: insn.len(),
        reg,
        bits,
        mem,
    })
}

/// True if the bytes from the `0f` on can be one of the special instructions.
fn second_byte(bytes: &[u8], escape: usize) -> bool {
    let modrm = bytes.get(escape + 2).copied().unwrap_or(0);
    let (memory, reg) = (modrm < 0xc0, modrm >> 3 & 7);
    match bytes.get(escape + 1) {
        Some(0xa2 | 0x31 | 0x01) => true,
        // rdrand, rdseed, rdpid; xsavec
        Some(0xc7) => !memory || reg == 4,
        // xsave, xsaveopt
        Some(0xae) => memory && matches!(reg, 4 | 6),
        _ => false,
    }
}

/// The memory operand; `None` for forms that no compiler makes here (segments, 32-bit addresses).
fn memory(insn: &Instruction) -> Option<MemOperand> {
    let wide = |r: Register| r.is_gpr64().then(|| register_number(r));
    let segment = insn.segment_prefix() != Register::None;
    let (base, index) = (insn.memory_base(), insn.memory_index());
    let rip = base == Register::RIP;
    if segment || insn.memory_displ_size() == 4 && base == Register::None && index == Register::None {
        return None;
    }
    Some(MemOperand {
        base: match base {
            Register::None | Register::RIP => None,
            r => Some(wide(r)?),
        },
        index: match index {
            Register::None => None,
            r => Some((wide(r)?, insn.memory_index_scale() as u8)),
        },
        disp: insn.memory_displacement64(),
        rip,
    })
}

fn register_number(register: Register) -> u8 {
    register.full_register().number() as u8
}

/// Bytes before and behind a piece of text with which [`special_sites`] finds in it what it finds in the whole.
pub const SPECIAL_AROUND: u64 = 512;

/// Finds the special instructions in a text. Candidates are found by their bytes, and kept if decodings that begin at
/// many places before them agree that an instruction begins there (of 86 matches in node's text, one is real).
pub fn special_sites(code: &[u8], addr: u64) -> Vec<SpecialSite> {
    let mut found: Vec<SpecialSite> = Vec::new();
    let mut at = 0;
    while at + 1 < code.len() {
        let escape = match code[at..code.len() - 1].iter().position(|&byte| byte == 0x0f) {
            Some(skip) => at + skip,
            None => break,
        };
        at = escape + 1;
        if !second_byte(code, escape) {
            continue;
        }
        if let Some(site) = candidate(code, addr, escape) {
            found.push(site);
        }
    }
    found
}

/// The special instructions that execution can reach from an instruction known to begin at `entry`, by following
/// direct branches inside the slice: exact, where [`special_sites`] weighs evidence.
pub fn special_sites_from(code: &[u8], addr: u64, entry: u64) -> Vec<(u64, SpecialInsn)> {
    let mut found = Vec::new();
    let mut seen = vec![false; code.len()];
    let mut todo = vec![entry];
    while let Some(start) = todo.pop() {
        let mut at = start.wrapping_sub(addr) as usize;
        while at < code.len() && !std::mem::replace(&mut seen[at], true) {
            let Some(insn) = decode(code, addr, at) else { break };
            if let Some(special) = classify(&code[at..]) {
                found.push((addr.wrapping_add(at as u64), special));
            }
            let target = insn.near_branch_target();
            if target != 0 {
                todo.push(target);
            }
            match insn.flow_control() {
                FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Return
                | FlowControl::Exception => break,
                _ => at += insn.len(),
            }
        }
    }
    found
}

/// The site whose `0f` is at `escape`, with the prefixes that belong to it.
fn candidate(code: &[u8], addr: u64, escape: usize) -> Option<SpecialSite> {
    let mut best: Option<SpecialSite> = None;
    // Prefixes: REX, 66, f2, f3 in front make an earlier start; the one that decodings agree on wins.
    let mut start = escape;
    loop {
        if let Some(insn) = classify(&code[start..]).filter(|insn| start + insn.len > escape) {
            let window = Window::new(code, addr, start);
            let clear = |&(agree, differ): &(usize, usize)| agree > 0 && differ * 10 <= agree;
            let votes = Some(window.votes())
                .filter(clear)
                .or_else(|| Some(window.plausible_votes()).filter(clear));
            if let Some((agree, differ)) = votes
                && window.plausible()
                && best.is_none_or(|best| best.agree < agree)
            {
                best = Some(SpecialSite {
                    addr: addr.wrapping_add(start as u64),
                    insn,
                    agree,
                    differ,
                });
            }
        }
        let prefix =
            start > 0 && escape - start < 4 && matches!(code[start - 1], 0x40..=0x4f | 0x66 | 0xf2 | 0xf3);
        if !prefix {
            return best;
        }
        start -= 1;
    }
}
