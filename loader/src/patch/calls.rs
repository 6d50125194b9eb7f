//! Which system calls a text makes, as far as the instructions before each site tell: for reports.

use super::sites::find_sites;
use super::window::decoder_at;
use iced_x86::{Code, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};

/// A syscall instruction and the number that it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallSite {
    /// Address of the instruction.
    pub addr: u64,
    /// What eax holds there, if the straight line of code before it says so.
    pub number: Option<u32>,
}

/// Is `reg` eax or a wider or narrower form of it?
fn is_rax(reg: Register) -> bool {
    reg.is_gpr() && reg.full_register() == Register::RAX
}

/// What the instruction leaves in eax: `None` if it leaves eax alone.
fn effect(insn: &Instruction, info: &mut InstructionInfoFactory) -> Option<Option<u32>> {
    let to_eax = insn.op_count() > 0 && insn.op0_kind() == OpKind::Register && is_rax(insn.op0_register());
    let wide = matches!(insn.op0_register(), Register::EAX | Register::RAX);
    match insn.code() {
        Code::Mov_r32_imm32 | Code::Mov_rm32_imm32 | Code::Mov_rm64_imm32 if to_eax && wide => {
            return Some(Some(insn.immediate(1) as u32));
        }
        Code::Xor_r32_rm32 | Code::Xor_rm32_r32
            if to_eax
                && wide
                && insn.op1_kind() == OpKind::Register
                && insn.op1_register() == insn.op0_register() =>
        {
            return Some(Some(0));
        }
        _ => {}
    }
    if !matches!(
        insn.flow_control(),
        FlowControl::Next | FlowControl::ConditionalBranch
    ) {
        return Some(None);
    }
    let written = |a: OpAccess| {
        matches!(
            a,
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        )
    };
    let used = info.info(insn).used_registers();
    let clobbered = used.iter().any(|r| is_rax(r.register()) && written(r.access()));
    clobbered.then_some(None)
}

/// The sites of [`find_sites`] with their numbers. A number that came through a branch from elsewhere,
/// from memory or from a caller (libc's `syscall()`) is unknown.
pub fn find_calls(code: &[u8], addr: u64) -> Vec<CallSite> {
    let sites = find_sites(code, addr);
    let mut found = Vec::with_capacity(sites.len());
    let mut next = sites.into_iter().peekable();
    let mut info = InstructionInfoFactory::new();
    let mut decoder = decoder_at(code, addr);
    let mut insn = Instruction::default();
    let mut eax = None;
    while next.peek().is_some() && decoder.can_decode() {
        let at = decoder.position();
        decoder.decode_out(&mut insn);
        if insn.is_invalid() {
            eax = None;
            if decoder.set_position(at + 1).is_err() {
                break;
            }
            decoder.set_ip(addr.wrapping_add(at as u64 + 1));
            continue;
        }
        if insn.code() == Code::Syscall {
            let site = insn.next_ip().wrapping_sub(2);
            if next.next_if_eq(&site).is_some() {
                found.push(CallSite {
                    addr: site,
                    number: eax,
                });
            }
            eax = None;
        } else if let Some(value) = effect(&insn, &mut info) {
            eax = value;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_from_the_straight_line_before() {
        let code = [
            0xb8, 39, 0, 0, 0, // mov eax, 39
            0x48, 0x89, 0xfe, // mov rsi, rdi
            0x0f, 0x05, // syscall: 39
            0xc3, // ret
            0x31, 0xc0, // xor eax, eax
            0x0f, 0x05, // syscall: 0
            0x0f, 0x05, // syscall: what the one before returned
            0xc3, // ret
            0x48, 0x89, 0xf8, // mov rax, rdi
            0x0f, 0x05, // syscall: the caller's
            0xc3, 0xcc, 0xcc, 0xcc, 0xcc,
        ];
        let numbers: Vec<_> = find_calls(&code, 0x1000).iter().map(|c| c.number).collect();
        assert_eq!(numbers, [Some(39), Some(0), None, None]);
    }
}
