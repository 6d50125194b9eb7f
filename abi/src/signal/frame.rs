//! The signal frame on the guest's stack, byte for byte as arch/x86/kernel/signal_64.c and
//! arch/x86/kernel/fpu/signal.c build and read it. Pure: from registers to bytes and back.
//!
//! ```text
//! rt_sigframe:  0 pretcode | 8 ucontext (304) | 312 siginfo (128)          440 bytes
//! ucontext:     0 uc_flags | 8 uc_link | 16 uc_stack (24) | 40 sigcontext (256) | 296 uc_sigmask
//! fpstate:      XSAVE area in standard format, fx_sw_bytes at 464, magic2 behind it
//! ```

use super::types::{AltStack, SIGINFO_LEN, SigAction, SigInfo, sa};
use ftl_core::context::{FCW_DEFAULT, MXCSR_DEFAULT, XSAVE_BV, XSAVE_MXCSR, XSAVE_XMM, reg};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// User code and stack segments.
pub const USER_CS: u16 = 0x33;
/// See [`USER_CS`].
pub const USER_SS: u16 = 0x2b;
/// AC, OF, DF, TF, SF, ZF, AF, PF, CF, RF: what sigreturn may change (FIX_EFLAGS).
pub const FIX_EFLAGS: u64 = 0x5_0dd5;
/// DF, RF, TF: cleared for the handler.
const CLEARED_FLAGS: u64 = 0x1_0500;
const RED_ZONE: u64 = 128;
const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
/// sigreturn takes ss as it stands.
pub const UC_STRICT_RESTORE_SS: u64 = 4;
/// FP_XSTATE_MAGIC1
pub const MAGIC1: u32 = 0x4650_5853;
/// FP_XSTATE_MAGIC2
pub const MAGIC2: u32 = 0x4650_5845;
/// Offset of fx_sw_bytes.
pub const SW_BYTES: usize = 464;
/// x87 and SSE: in the legacy region.
const FPSSE: u64 = 3;
/// Bits of MXCSR that exist.
const MXCSR_MASK: u32 = 0xffff;

/// struct sigcontext_64
#[derive(Clone, Copy, Default, Debug, IntoBytes, FromBytes, Immutable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct SigContext {
    pub r8_15: [u64; 8],
    pub di: u64,
    pub si: u64,
    pub bp: u64,
    pub bx: u64,
    pub dx: u64,
    pub ax: u64,
    pub cx: u64,
    pub sp: u64,
    pub ip: u64,
    pub flags: u64,
    pub cs: u16,
    pub gs: u16,
    pub fs: u16,
    pub ss: u16,
    pub err: u64,
    pub trapno: u64,
    pub oldmask: u64,
    pub cr2: u64,
    pub fpstate: u64,
    pub reserved: [u64; 8],
}

/// pretcode and struct ucontext
#[derive(Clone, Copy, Default, Debug, IntoBytes, FromBytes, Immutable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Head {
    pub pretcode: u64,
    pub uc_flags: u64,
    pub uc_link: u64,
    pub ss_sp: u64,
    pub ss_flags: u32,
    pub pad: u32,
    pub ss_size: u64,
    pub mc: SigContext,
    pub sigmask: u64,
}

const HEAD_LEN: usize = size_of::<Head>();
const FRAME_LEN: usize = HEAD_LEN + SIGINFO_LEN;
const _: () = assert!(size_of::<SigContext>() == 256 && HEAD_LEN == 312 && FRAME_LEN == 440);

/// What a frame is made from.
pub struct Interrupted<'a> {
    /// General registers; `rcx` and `r11` already as the program would find them.
    pub regs: &'a [u64; 16],
    /// Program counter as the program knows it.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Mask that sigreturn restores.
    pub mask: u64,
    /// Alternate stack.
    pub altstack: AltStack,
    /// Exception number, error code, CR2 of the last fault.
    pub trap: (u64, u64, u64),
    /// XSAVE area.
    pub xstate: &'a [u8],
    /// Features of it.
    pub xcr0: u64,
}

/// A frame ready to be copied out.
pub struct Frame {
    /// Stack pointer of the handler: the frame's address.
    pub sp: u64,
    /// Bytes at `sp`.
    pub bytes: Vec<u8>,
    /// Address of the extended state.
    pub fp: u64,
    /// Bytes at `fp`.
    pub fp_bytes: Vec<u8>,
}

impl Frame {
    /// &frame->info
    pub fn info_addr(&self) -> u64 {
        self.sp.wrapping_add(HEAD_LEN as u64)
    }
    /// &frame->uc
    pub fn uc_addr(&self) -> u64 {
        self.sp.wrapping_add(8)
    }
}

/// The handler's rflags.
pub fn handler_flags(rflags: u64) -> u64 {
    rflags & !CLEARED_FLAGS
}

/// Lays out a frame; `None` where Linux gives up (no restorer, alternate stack too small).
pub fn build(from: &Interrupted<'_>, action: &SigAction, info: &SigInfo) -> Option<Frame> {
    if action.flags & sa::RESTORER == 0 {
        return None;
    }
    let user_sp = from.regs[reg::RSP];
    let alt = from.altstack;
    let nested = alt.in_use(user_sp);
    let mut entering = false;
    let mut sp = user_sp.wrapping_sub(RED_ZONE);
    if action.flags & sa::ONSTACK != 0 && alt.mode(sp) == 0 {
        sp = alt.sp.wrapping_add(alt.size);
        entering = true;
    }
    let fp_bytes = extended(from.xstate, from.xcr0);
    let fp = sp.wrapping_sub(fp_bytes.len() as u64) & !63;
    let sp = (fp.wrapping_sub(FRAME_LEN as u64) & !15).wrapping_sub(8);
    if (nested || entering) && !alt.holds(sp) {
        return None;
    }
    let r = from.regs;
    let head = Head {
        pretcode: action.restorer,
        uc_flags: UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
        uc_link: 0,
        ss_sp: alt.sp,
        ss_flags: alt.flags,
        pad: 0,
        ss_size: alt.size,
        mc: SigContext {
            r8_15: std::array::from_fn(|i| r[reg::R8 + i]),
            di: r[reg::RDI],
            si: r[reg::RSI],
            bp: r[reg::RBP],
            bx: r[reg::RBX],
            dx: r[reg::RDX],
            ax: r[reg::RAX],
            cx: r[reg::RCX],
            sp: user_sp,
            ip: from.rip,
            flags: from.rflags,
            cs: USER_CS,
            gs: 0,
            fs: 0,
            ss: USER_SS,
            err: from.trap.1,
            trapno: from.trap.0,
            oldmask: from.mask,
            cr2: from.trap.2,
            fpstate: fp,
            reserved: [0; 8],
        },
        sigmask: from.mask,
    };
    let mut bytes = head.as_bytes().to_vec();
    if action.flags & sa::SIGINFO != 0 {
        bytes.extend_from_slice(&info.to_bytes());
    }
    Some(Frame {
        sp,
        bytes,
        fp,
        fp_bytes,
    })
}

/// The XSAVE area as a frame holds it: with fx_sw_bytes and both magic words.
fn extended(xstate: &[u8], xcr0: u64) -> Vec<u8> {
    let len = xstate.len() as u32;
    let mut out = xstate.to_vec();
    out[SW_BYTES..XSAVE_BV].fill(0);
    out[SW_BYTES..SW_BYTES + 4].copy_from_slice(&MAGIC1.to_le_bytes());
    out[SW_BYTES + 4..SW_BYTES + 8].copy_from_slice(&(len + 4).to_le_bytes());
    out[SW_BYTES + 8..SW_BYTES + 16].copy_from_slice(&xcr0.to_le_bytes());
    out[SW_BYTES + 16..SW_BYTES + 20].copy_from_slice(&len.to_le_bytes());
    // Programs that know only FXSAVE change the legacy region without setting its bits.
    out[XSAVE_BV] |= FPSSE as u8;
    out.extend_from_slice(&MAGIC2.to_le_bytes());
    out
}

/// What sigreturn makes of a frame's general part. `None`: not something a 64-bit program can
/// return to.
pub fn registers(head: &Head, old_flags: u64) -> Option<([u64; 16], u64, u64)> {
    let mc = &head.mc;
    let strict = head.uc_flags & UC_STRICT_RESTORE_SS != 0;
    if mc.cs | 3 != USER_CS || (strict && mc.ss | 3 != USER_SS) {
        return None;
    }
    let mut regs = [0; 16];
    regs[reg::R8..].copy_from_slice(&mc.r8_15);
    regs[reg::RDI] = mc.di;
    regs[reg::RSI] = mc.si;
    regs[reg::RBP] = mc.bp;
    regs[reg::RBX] = mc.bx;
    regs[reg::RDX] = mc.dx;
    regs[reg::RAX] = mc.ax;
    regs[reg::RCX] = mc.cx;
    regs[reg::RSP] = mc.sp;
    let flags = (old_flags & !FIX_EFLAGS) | (mc.flags & FIX_EFLAGS);
    Some((regs, mc.ip, flags))
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| b[at + i]))
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| b[at + i]))
}

/// What the legacy region says of the rest (check_xstate_in_sigframe).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// Only the 512 legacy bytes count.
    Legacy,
    /// So many bytes, with these features, if [`MAGIC2`] follows them.
    Full(usize, u64),
}

/// Reads fx_sw_bytes; `max` is the size of this machine's area.
pub fn extent(legacy: &[u8; 512], max: usize) -> Extent {
    let size = u32_at(legacy, SW_BYTES + 16) as usize;
    let total = u32_at(legacy, SW_BYTES + 4) as usize;
    if u32_at(legacy, SW_BYTES) != MAGIC1 || size < XSAVE_BV + 64 || size > max || size > total {
        return Extent::Legacy;
    }
    Extent::Full(size, u64_at(legacy, SW_BYTES + 8))
}

/// An XSAVE area to load, from what the frame holds: `area` is the legacy region alone, or the
/// whole with `features`. `None` where XRSTOR would fault.
pub fn loadable(area: &[u8], features: Option<u64>, xcr0: u64, len: usize) -> Option<Vec<u8>> {
    let mxcsr = u32_at(area, XSAVE_MXCSR);
    if mxcsr & !MXCSR_MASK != 0 {
        return None;
    }
    let mut out = vec![0; len];
    let bv = match features {
        None => {
            out[..XSAVE_BV].copy_from_slice(&area[..XSAVE_BV]);
            FPSSE
        }
        Some(features) => {
            let bv = u64_at(area, XSAVE_BV);
            // XCOMP_BV and the reserved word after it.
            if bv & !xcr0 != 0 || u64_at(area, XSAVE_BV + 8) != 0 || u64_at(area, XSAVE_BV + 16) != 0 {
                return None;
            }
            out[..area.len()].copy_from_slice(area);
            bv & features
        }
    };
    out[SW_BYTES..XSAVE_BV].fill(0);
    out[XSAVE_BV..XSAVE_BV + 64].fill(0);
    if bv & 1 == 0 {
        out[..XSAVE_MXCSR].fill(0);
        out[..2].copy_from_slice(&FCW_DEFAULT.to_le_bytes());
        out[XSAVE_MXCSR + 8..XSAVE_XMM].fill(0);
    }
    if bv & 2 == 0 {
        out[XSAVE_XMM..XSAVE_XMM + 256].fill(0);
        if features.is_some_and(|f| f & 6 == 0) {
            out[XSAVE_MXCSR..XSAVE_MXCSR + 4].copy_from_slice(&MXCSR_DEFAULT.to_le_bytes());
        }
    }
    out[XSAVE_BV..XSAVE_BV + 8].copy_from_slice(&(bv | FPSSE).to_le_bytes());
    Some(out)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
