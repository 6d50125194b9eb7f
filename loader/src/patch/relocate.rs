//! Which instructions may move into a stub, and their bytes there.
//!
//! An instruction moves as the bytes it is, so that nothing about it changes; only a RIP-relative displacement is
//! rewritten in place, and a relative branch is written anew with 32 bits of reach.

use super::Unpatchable;
use super::window::decode;
use iced_x86::{Code, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// An instruction to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The instruction at its original address.
    pub insn: Instruction,
    bytes: Vec<u8>,
    fix: Fix,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fix {
    /// The bytes as they are.
    None,
    /// A 32-bit displacement at this offset, to this address.
    Displacement { offset: usize, target: u64 },
    /// A branch with this opcode to this address.
    Jump { target: u64 },
    /// `0f 8x`, this being the x.
    Jcc { condition: u8, target: u64 },
}

/// What comes after an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next one, at least sometimes.
    Falls,
    /// Something else, always.
    Leaves,
}

/// Checks whether the instruction at `at` may move; says what comes after it.
pub fn movable(code: &[u8], insn: Instruction, at: usize) -> Result<(Moved, Next), &'static str> {
    let bytes = code.get(at..at + insn.len()).ok_or("it is cut off")?.to_vec();
    if super::special::classify(&bytes).is_some() {
        return Err("it is trapped by itself");
    }
    match insn.mnemonic() {
        Mnemonic::Endbr64 | Mnemonic::Endbr32 => return Err("it is a branch target"),
        Mnemonic::Hlt | Mnemonic::In | Mnemonic::Out | Mnemonic::Rdpmc | Mnemonic::Rdpru => {
            return Err("it is privileged or shows the machine");
        }
        Mnemonic::Xbegin | Mnemonic::Xend | Mnemonic::Xabort => return Err("it is transactional"),
        _ => {}
    }
    if insn.is_privileged() {
        return Err("it is privileged or shows the machine");
    }
    match insn.flow_control() {
        FlowControl::Next => {}
        FlowControl::Return if matches!(insn.code(), Code::Retnq | Code::Retnq_imm16) => {
            return Ok((
                Moved {
                    insn,
                    bytes,
                    fix: Fix::None,
                },
                Next::Leaves,
            ));
        }
        FlowControl::IndirectBranch if insn.is_jmp_near_indirect() => {
            return Ok((with_displacement(insn, bytes)?, Next::Leaves));
        }
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => return branch(insn, bytes),
        FlowControl::Call | FlowControl::IndirectCall => return Err("it is a call"),
        FlowControl::Interrupt | FlowControl::Exception => return Err("it is a trap"),
        _ => return Err("it is a far transfer"),
    }
    Ok((with_displacement(insn, bytes)?, Next::Falls))
}

/// Moves an instruction as the bytes it is; the caller knows that this is right.
pub fn verbatim(code: &[u8], insn: Instruction, at: usize) -> Result<Moved, &'static str> {
    let bytes = code.get(at..at + insn.len()).ok_or("it is cut off")?.to_vec();
    Ok(Moved {
        insn,
        bytes,
        fix: Fix::None,
    })
}

fn branch(insn: Instruction, bytes: Vec<u8>) -> Result<(Moved, Next), &'static str> {
    if insn.op0_kind() != OpKind::NearBranch64 {
        return Err("it is a far or 16-bit branch");
    }
    let target = insn.near_branch_target();
    // Only the forms without prefixes: what a prefix does to a branch depends on the processor's maker.
    match bytes[..] {
        [0xeb, _] | [0xe9, ..] => Ok((
            Moved {
                insn,
                bytes,
                fix: Fix::Jump { target },
            },
            Next::Leaves,
        )),
        [opcode @ 0x70..=0x7f, _] | [0x0f, opcode @ 0x80..=0x8f, ..] => Ok((
            Moved {
                insn,
                bytes,
                fix: Fix::Jcc {
                    condition: opcode & 15,
                    target,
                },
            },
            Next::Falls,
        )),
        _ => Err("it is a branch without a 32-bit form"),
    }
}

fn with_displacement(insn: Instruction, bytes: Vec<u8>) -> Result<Moved, &'static str> {
    if !insn.is_ip_rel_memory_operand() {
        return Ok(Moved {
            insn,
            bytes,
            fix: Fix::None,
        });
    }
    if insn.memory_base() != Register::RIP {
        return Err("it addresses memory by EIP");
    }
    let mut decoder = super::window::decoder_at(&bytes, insn.ip());
    let again = decoder.decode();
    let constants = decoder.get_constant_offsets(&again);
    if constants.displacement_size() != 4 || constants.displacement_offset() + 4 > bytes.len() {
        return Err("its displacement was not found");
    }
    let fix = Fix::Displacement {
        offset: constants.displacement_offset(),
        target: insn.ip_rel_memory_address(),
    };
    Ok(Moved { insn, bytes, fix })
}

impl Moved {
    /// The same instruction in a text that lies `delta` further up (modulo 2^64), and all it refers to with it.
    pub fn rebase(&mut self, delta: u64) {
        let insn = &mut self.insn;
        insn.set_ip(insn.ip().wrapping_add(delta));
        if insn.is_ip_rel_memory_operand() {
            insn.set_memory_displacement64(insn.memory_displacement64().wrapping_add(delta));
        }
        if insn.op_count() > 0 && insn.op0_kind() == OpKind::NearBranch64 {
            insn.set_near_branch64(insn.near_branch64().wrapping_add(delta));
        }
        match &mut self.fix {
            Fix::None => {}
            Fix::Displacement { target, .. } | Fix::Jump { target } | Fix::Jcc { target, .. } => {
                *target = target.wrapping_add(delta);
            }
        }
    }

    /// Appends the instruction to a stub that begins at `stub_addr`.
    pub fn emit(&self, stub_addr: u64, out: &mut Vec<u8>) -> Result<(), Unpatchable> {
        let here = stub_addr.wrapping_add(out.len() as u64);
        let start = out.len();
        let reach =
            |what, end: u64, to| rel32(end, to).ok_or(Unpatchable::OutOfReach { what, from: here, to });
        match self.fix {
            Fix::None => out.extend_from_slice(&self.bytes),
            Fix::Displacement { offset, target } => {
                let rel = reach(
                    "memory operand",
                    here.wrapping_add(self.bytes.len() as u64),
                    target,
                )?;
                out.extend_from_slice(&self.bytes);
                out[start + offset..start + offset + 4].copy_from_slice(&rel.to_le_bytes());
            }
            Fix::Jump { target } => {
                let rel = reach("branch target", here.wrapping_add(5), target)?;
                out.push(0xe9);
                out.extend_from_slice(&rel.to_le_bytes());
            }
            Fix::Jcc { condition, target } => {
                let rel = reach("branch target", here.wrapping_add(6), target)?;
                out.extend_from_slice(&[0x0f, 0x80 | condition]);
                out.extend_from_slice(&rel.to_le_bytes());
            }
        }
        self.check(&out[start..], here)
    }

    /// Decodes what was written and compares it with what was meant.
    fn check(&self, written: &[u8], here: u64) -> Result<(), Unpatchable> {
        let again = decode(written, here, 0).filter(|again| again.len() == written.len());
        let same = again.is_some_and(|again| match self.fix {
            Fix::None | Fix::Displacement { .. } => again == self.insn,
            Fix::Jump { target } | Fix::Jcc { target, .. } => {
                again.near_branch_target() == target && again.mnemonic() == self.insn.mnemonic()
            }
        });
        if same {
            Ok(())
        } else {
            Err(Unpatchable::SelfCheck(here))
        }
    }
}

/// The displacement from the end of an instruction to a target, if it fits.
pub fn rel32(end: u64, target: u64) -> Option<i32> {
    i32::try_from(target.wrapping_sub(end) as i64).ok()
}
