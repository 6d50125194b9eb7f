//! The syscall instructions of a text, for tests and for reports. The running system needs no such list: it patches
//! what traps.

use super::window::{Window, decoder_at};
use iced_x86::{Code, Instruction};

/// Addresses of the `syscall` instructions that a linear decoding meets and that decodings from nearby confirm.
pub fn find_sites(code: &[u8], addr: u64) -> Vec<u64> {
    let mut decoder = decoder_at(code, addr);
    let mut insn = Instruction::default();
    let mut sites = Vec::new();
    while decoder.can_decode() {
        let at = decoder.position();
        decoder.decode_out(&mut insn);
        if insn.is_invalid() {
            // Resynchronise one byte further on.
            if decoder.set_position(at + 1).is_err() {
                break;
            }
            decoder.set_ip(addr.wrapping_add(at as u64 + 1));
        } else if insn.code() == Code::Syscall {
            // Prefixes mean nothing to it, and a trap does not show them: the site is where the 0f 05 is.
            let window = Window::new(code, addr, at);
            let (agree, differ) = window.votes();
            if differ * 10 <= agree && window.plausible() {
                sites.push(insn.next_ip().wrapping_sub(2));
            }
        }
    }
    sites
}
