//! The stub of one patched site.
//!
//! ```text
//!         <moved predecessors>
//!         lea  rcx, [rip + ret]        ; the syscall would clobber rcx anyway
//!         jmp  qword [rip + slot]
//! ret:    lea  rcx, [rip + site+2]     ; what Linux leaves in rcx
//!         <moved followers>
//!         jmp  patch_end               ; unless the last follower leaves
//!         <int3 up to 8-byte alignment>
//! slot:   .quad entry
//! ```

use super::{PatchPlan, Unpatchable, relocate};

/// No stub is longer than this.
pub const STUB_MAX: usize = 128;

/// Ties an instruction start in the stub to the original address that the guest must see for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RipPair {
    /// Offset in the stub.
    pub stub_off: u32,
    /// Original address. The stub's own instructions before `ret` belong to the site, those at and behind it to what
    /// follows the `syscall`.
    pub site: u64,
}

/// A stub, ready to be copied to the address that it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    /// Code, padding and entry slot.
    pub bytes: Vec<u8>,
    /// Offset of the label to which the kernel returns; rcx holds its address on entry.
    pub ret_offset: usize,
    /// Every instruction start, in stub order.
    pub rip_map: Vec<RipPair>,
}

impl Stub {
    /// The original address that belongs to an instruction start in the stub. At `ret_offset` this is the address behind
    /// the `syscall`, but rcx does not hold it yet: who shows a context that rests there must put it in.
    pub fn site_of(&self, stub_off: u32) -> Option<u64> {
        let at = self
            .rip_map
            .binary_search_by_key(&stub_off, |pair| pair.stub_off)
            .ok()?;
        Some(self.rip_map[at].site)
    }

    /// Where in the stub a context continues that rests at an original address, for all addresses of replaced
    /// instructions. The site itself gives the way into the kernel; the address behind it gives what follows the
    /// reload of rcx, so that a rcx changed by a signal handler stays.
    pub fn stub_of(&self, addr: u64) -> Option<u32> {
        let after_ret = |pair: &&RipPair| pair.stub_off as usize > self.ret_offset && pair.site == addr;
        let before_ret = |pair: &&RipPair| (pair.stub_off as usize) < self.ret_offset && pair.site == addr;
        let found = self
            .rip_map
            .iter()
            .find(before_ret)
            .or_else(|| self.rip_map.iter().find(after_ret));
        found.map(|pair| pair.stub_off)
    }
}

struct Builder {
    addr: u64,
    bytes: Vec<u8>,
    rip_map: Vec<RipPair>,
}

impl Builder {
    fn here(&self) -> u64 {
        self.addr.wrapping_add(self.bytes.len() as u64)
    }

    fn mark(&mut self, site: u64) {
        self.rip_map.push(RipPair {
            stub_off: self.bytes.len() as u32,
            site,
        });
    }

    /// An instruction that ends in a 32-bit displacement.
    fn relative(&mut self, what: &'static str, opcode: &[u8], target: u64) -> Result<(), Unpatchable> {
        let from = self.here();
        let end = from.wrapping_add(opcode.len() as u64 + 4);
        let rel = relocate::rel32(end, target).ok_or(Unpatchable::OutOfReach {
            what,
            from,
            to: target,
        })?;
        self.bytes.extend_from_slice(opcode);
        self.bytes.extend_from_slice(&rel.to_le_bytes());
        Ok(())
    }
}

const LEA_RCX_RIP: [u8; 3] = [0x48, 0x8d, 0x0d];
const JMP_MEM_RIP: [u8; 2] = [0xff, 0x25];
const JMP_REL32: [u8; 1] = [0xe9];
/// `lea rcx` and `jmp qword` together.
const ENTER_LEN: usize = 13;

/// Builds the stub for `addr`.
pub fn emit(plan: &PatchPlan, addr: u64, entry: u64) -> Result<Stub, Unpatchable> {
    let jump_end = plan.patch_addr.wrapping_add(super::JUMP_LEN as u64);
    if relocate::rel32(jump_end, addr).is_none() {
        return Err(Unpatchable::OutOfReach {
            what: "stub",
            from: plan.patch_addr,
            to: addr,
        });
    }
    let mut out = Builder {
        addr,
        bytes: Vec::with_capacity(STUB_MAX),
        rip_map: Vec::new(),
    };
    for moved in &plan.before {
        out.mark(moved.insn.ip());
        moved.emit(addr, &mut out.bytes)?;
    }
    let ret_offset = out.bytes.len() + ENTER_LEN;
    out.mark(plan.site);
    out.relative("return label", &LEA_RCX_RIP, addr.wrapping_add(ret_offset as u64))?;
    out.mark(plan.site);
    let enter_at = out.bytes.len();
    out.bytes.extend_from_slice(&JMP_MEM_RIP);
    out.bytes.extend_from_slice(&[0; 4]);
    assert_eq!(out.bytes.len(), ret_offset, "the way in has a fixed length");

    let behind = plan.site.wrapping_add(2);
    out.mark(behind);
    out.relative("syscall's return address", &LEA_RCX_RIP, behind)?;
    for moved in &plan.after {
        out.mark(moved.insn.ip());
        moved.emit(addr, &mut out.bytes)?;
    }
    if !plan.ends {
        out.mark(plan.patch_end());
        out.relative("way back", &JMP_REL32, plan.patch_end())?;
    }
    while !out.here().is_multiple_of(8) {
        out.bytes.push(0xcc);
    }
    let slot = (out.bytes.len() - (enter_at + 6)) as u32;
    out.bytes[enter_at + 2..enter_at + 6].copy_from_slice(&slot.to_le_bytes());
    out.bytes.extend_from_slice(&entry.to_le_bytes());
    assert!(out.bytes.len() <= STUB_MAX, "a plan moves few instructions");
    Ok(Stub {
        bytes: out.bytes,
        ret_offset,
        rip_map: out.rip_map,
    })
}
