//! A guest thread between two kernel entries: registers as data (I4).
//!
//! The entry path in `runtime` stores to and loads from these fields by offset, so the layout is
//! `repr(C)` and asserted there. On the fast path only the general registers and `xmm` are saved:
//! the runtime is compiled for baseline x86-64 and touches nothing else, so the upper vector
//! halves stay live in the CPU until [`Context::xstate_valid`] says they were written out.

/// Extended state in XSAVE's standard format, in 64-byte units so that it is aligned.
#[derive(Clone, Copy, zerocopy::IntoBytes, zerocopy::FromBytes, zerocopy::Immutable)]
#[repr(C, align(64))]
pub struct XsaveLine(pub [u8; 64]);

/// How a context is resumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Resume {
    /// After a system call: rcx and r11 are the kernel's to set, jump to `rip`.
    Call = 0,
    /// Every register counts (after a fault, preemption, sigreturn, exec, new thread).
    Full = 1,
}

/// Indices into [`Context::regs`], in the order of the encoding of x86-64 instructions.
#[allow(missing_docs)]
pub mod reg {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R9: usize = 9;
    pub const R10: usize = 10;
    pub const R11: usize = 11;
    pub const R12: usize = 12;
    pub const R13: usize = 13;
    pub const R14: usize = 14;
    pub const R15: usize = 15;
}

/// The registers of a guest thread.
#[repr(C, align(64))]
pub struct Context {
    /// General registers, indexed by [`reg`].
    pub regs: [u64; 16],
    /// Where the thread goes on.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Base of FS (thread-local storage).
    pub fs_base: u64,
    /// Base of GS.
    pub gs_base: u64,
    /// See [`Resume`].
    pub resume: Resume,
    /// 1: `xstate` holds all extended state and must be loaded on resume; `xmm` is stale.
    pub xstate_valid: u32,
    /// Address of `xstate`'s first byte, for the entry path.
    pub xstate_ptr: u64,
    /// xmm0..15 as saved on entry; meaningful while `xstate_valid` is 0.
    pub xmm: [u128; 16],
    /// The number in rax at the last system call (Linux' orig_rax), or `u64::MAX`.
    pub orig_rax: u64,
    xstate: Vec<XsaveLine>,
}

/// Value of MXCSR and of the x87 control word in a fresh program.
pub const MXCSR_DEFAULT: u32 = 0x1f80;
/// See [`MXCSR_DEFAULT`].
pub const FCW_DEFAULT: u16 = 0x037f;
/// Offset of MXCSR in the legacy region.
pub const XSAVE_MXCSR: usize = 24;
/// Offset of xmm0 in the legacy region.
pub const XSAVE_XMM: usize = 160;
/// Offset of XSTATE_BV in the XSAVE header.
pub const XSAVE_BV: usize = 512;

impl Context {
    /// A context with everything zero and the extended state initial; `xsave_len` is what CPUID
    /// leaf 0xD gives for the enabled features.
    pub fn new(xsave_len: usize) -> Box<Context> {
        let lines = xsave_len.div_ceil(64).max(10);
        let mut c = Box::new(Context {
            regs: [0; 16],
            rip: 0,
            rflags: 0x202,
            fs_base: 0,
            gs_base: 0,
            resume: Resume::Full,
            xstate_valid: 1,
            xstate_ptr: 0,
            xmm: [0; 16],
            orig_rax: u64::MAX,
            xstate: vec![XsaveLine([0; 64]); lines],
        });
        c.xstate_ptr = c.xstate.as_ptr() as u64;
        c.reset_xstate();
        c
    }

    /// A copy for a new thread or a forked process.
    pub fn duplicate(&self) -> Box<Context> {
        let mut c = Context::new(self.xstate.len() * 64);
        c.regs = self.regs;
        c.rip = self.rip;
        c.rflags = self.rflags;
        c.fs_base = self.fs_base;
        c.gs_base = self.gs_base;
        c.xmm = self.xmm;
        c.orig_rax = self.orig_rax;
        c.resume = Resume::Full;
        c.xstate_valid = self.xstate_valid;
        c.xstate.copy_from_slice(&self.xstate);
        c
    }

    /// Extended state as after execve.
    pub fn reset_xstate(&mut self) {
        for line in &mut self.xstate {
            line.0 = [0; 64];
        }
        self.xstate[0].0[0..2].copy_from_slice(&FCW_DEFAULT.to_le_bytes());
        self.xstate[0].0[XSAVE_MXCSR..XSAVE_MXCSR + 4].copy_from_slice(&MXCSR_DEFAULT.to_le_bytes());
        // MXCSR is taken from the area only when SSE's bit is set; initial x87 and SSE otherwise.
        self.set_xstate_bv(0b11);
        self.xstate_valid = 1;
        self.xmm = [0; 16];
    }

    /// Bytes of the XSAVE area.
    pub fn xstate_len(&self) -> usize {
        self.xstate.len() * 64
    }

    /// Copies the XSAVE area out. Only meaningful when `xstate_valid` is 1.
    pub fn xstate_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.xstate_len());
        for line in &self.xstate {
            out.extend_from_slice(&line.0);
        }
        out
    }

    /// The XSAVE area itself.
    pub fn xstate_mut(&mut self) -> &mut [u8] {
        zerocopy::IntoBytes::as_mut_bytes(&mut self.xstate[..])
    }

    /// Replaces the start of the XSAVE area and marks it valid. The caller has checked what is in it.
    pub fn set_xstate_bytes(&mut self, bytes: &[u8]) {
        for (line, chunk) in self.xstate.iter_mut().zip(bytes.chunks(64)) {
            line.0[..chunk.len()].copy_from_slice(chunk);
        }
        self.xstate_valid = 1;
    }

    /// Zeroes the legacy region's software-reserved bytes (464..512), which only a signal frame uses.
    pub fn clear_sw_reserved(&mut self) {
        self.xstate[7].0[16..64].fill(0);
    }

    /// XSTATE_BV of the area.
    pub fn xstate_bv(&self) -> u64 {
        let l = &self.xstate[XSAVE_BV / 64].0;
        u64::from_le_bytes([l[0], l[1], l[2], l[3], l[4], l[5], l[6], l[7]])
    }

    /// Sets XSTATE_BV of the area.
    pub fn set_xstate_bv(&mut self, bv: u64) {
        self.xstate[XSAVE_BV / 64].0[0..8].copy_from_slice(&bv.to_le_bytes());
    }

    /// After XSAVE wrote the area while the runtime's own xmm values were in the registers: put the
    /// guest's back into it.
    pub fn adopt_saved_xmm(&mut self) {
        for (i, v) in self.xmm.iter().enumerate() {
            let at = XSAVE_XMM + i * 16;
            self.xstate[at / 64].0[at % 64..at % 64 + 16].copy_from_slice(&v.to_le_bytes());
        }
        let bv = self.xstate_bv() | 0b10;
        self.set_xstate_bv(bv);
        self.xstate_valid = 1;
    }

    /// Arguments of a system call in the order of the ABI.
    pub fn args(&self) -> [u64; 6] {
        let r = &self.regs;
        [
            r[reg::RDI],
            r[reg::RSI],
            r[reg::RDX],
            r[reg::R10],
            r[reg::R8],
            r[reg::R9],
        ]
    }
}

const _: () = assert!(
    XSAVE_XMM.is_multiple_of(16),
    "an xmm slot never straddles two lines"
);
