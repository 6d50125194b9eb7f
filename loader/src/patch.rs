//! Syscall sites to patch plans: which bytes around a `syscall` a 5-byte jump may replace, and the stub that stands in
//! for them.
//!
//! A `syscall` has two bytes and `jmp rel32` five, so neighbouring instructions must move into the stub. Three forms,
//! tried in this order, cover the sites of glibc, musl, Go and hand-written code:
//! * **followers**: the instructions after the `syscall` move, branches among them re-encoded to 32-bit reach;
//! * **tail**: a `ret` or `jmp` after the `syscall` moves, and the rest of the jump lies in the padding after it;
//! * **predecessors**: instructions before the `syscall` move, where several decodings agree on what they are.
//!
//! Contract, of a plan that [`plan`] returns:
//! * nothing but the plan's own jump enters the replaced bytes behind their first one. Direct branches and RIP-relative
//!   references are looked for in the whole window given, so give all of the mapping, or [`WINDOW`] bytes each way.
//!   Jump tables, pointers in data and saved contexts are invisible from here: pass what is known of them in
//!   [`Avoid::entries`], and move contexts that rest within the bytes by [`Stub::stub_of`].
//! * no instruction is moved that shows or depends on where it is (calls), or that must stay findable ([`classify`]).
//! * the stub changes no register but rcx, no flag, and nothing on the stack: red zone and all.
//! * `code` must be the original bytes. Sites already patched nearby go to [`Avoid::taken`].
//!
//! What cannot be patched safely is refused ([`Unpatchable`]) and stays with the trap.

mod calls;
mod plan;
mod relocate;
mod sites;
mod special;
mod stub;
mod targets;
mod window;

#[cfg(test)]
mod tests;

pub use calls::{CallSite, find_calls};
pub use sites::find_sites;
pub use special::{
    MemOperand, SPECIAL_AROUND, SpecialInsn, SpecialKind, SpecialSite, classify, special_sites,
    special_sites_from,
};
pub use stub::{RipPair, STUB_MAX, Stub};
pub use targets::References;

use iced_x86::{Decoder, DecoderOptions, Instruction};
use relocate::Moved;
use std::fmt;
use thiserror::Error;

/// How far around a site it pays to look for branches into it: compilers put cold parts of functions up to a whole text
/// segment away, but the search costs time in proportion.
pub const WINDOW: usize = 4 << 20;

/// How far around a site instructions are decoded.
pub const NEAR: usize = 1024;

/// Length of the jump that is written.
pub const JUMP_LEN: usize = 5;

/// A site and the text around it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Window of mapped text, with its original bytes.
    pub code: &'a [u8],
    /// Guest address of `code[0]`.
    pub code_addr: u64,
    /// Address of the `0f 05`.
    pub site: u64,
}

/// What a plan must stay clear of, beyond what the window shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Avoid<'a> {
    /// Patched ranges, as start and end, in any order. No plan overlaps one.
    pub taken: &'a [(u64, u64)],
    /// Addresses that code may be entered at, sorted: symbols, jump table targets. None may lie behind the first
    /// replaced byte.
    pub entries: &'a [u64],
}

/// Which form a plan has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// `syscall` and what follows.
    Followers,
    /// `syscall; ret` (or `jmp`) and padding.
    Tail,
    /// What precedes, `syscall`, and perhaps what follows.
    Predecessors,
}

/// Why one side of a site cannot give up its instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The window ends.
    WindowEnd,
    /// Something else enters at this address.
    Entered(u64),
    /// The instruction at this address cannot move.
    Fixed {
        /// Its address.
        addr: u64,
        /// The reason.
        why: &'static str,
    },
    /// Decodings from different starting points disagree before this address.
    Ambiguous(u64),
    /// The range is already patched at this address.
    Taken(u64),
    /// The syscall does not return, so what follows belongs to something else.
    NoReturn,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::WindowEnd => write!(f, "the text ends"),
            Obstacle::Entered(addr) => write!(f, "something else enters at {addr:#x}"),
            Obstacle::Fixed { addr, why } => write!(f, "the instruction at {addr:#x} cannot move: {why}"),
            Obstacle::Ambiguous(addr) => write!(f, "it is not certain which instructions precede {addr:#x}"),
            Obstacle::Taken(addr) => write!(f, "{addr:#x} is patched already"),
            Obstacle::NoReturn => write!(f, "the syscall does not return"),
        }
    }
}

/// Why a site stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unpatchable {
    /// The window does not hold the site.
    #[error("site {0:#x} lies outside the window")]
    OutsideWindow(u64),
    /// There is no `syscall` at the site.
    #[error("no syscall instruction at {0:#x}")]
    NotASyscall(u64),
    /// Neither side has room.
    #[error("no room for a jump at {site:#x}: behind it, {behind}; before it, {before}")]
    NoRoom {
        /// The site.
        site: u64,
        /// What is in the way before it.
        before: Obstacle,
        /// What is in the way behind it.
        behind: Obstacle,
    },
    /// Something the stub refers to is more than 2 GiB away from it.
    #[error("{what} at {to:#x} is out of reach from {from:#x}")]
    OutOfReach {
        /// The thing referred to.
        what: &'static str,
        /// Where the reference is.
        from: u64,
        /// Where it points.
        to: u64,
    },
    /// The stub, decoded again, is not what was meant. A defect of this crate, caught before it does harm.
    #[error("the stub's instruction at {0:#x} does not decode to the original")]
    SelfCheck(u64),
}

/// How to patch one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchPlan {
    /// Address of the `syscall`.
    pub site: u64,
    /// First byte replaced.
    pub patch_addr: u64,
    /// Number of bytes replaced, at least [`JUMP_LEN`].
    pub patch_len: usize,
    /// The form.
    pub form: Form,
    before: Vec<Moved>,
    after: Vec<Moved>,
    /// The last follower never falls through.
    ends: bool,
    original: Vec<u8>,
}

impl PatchPlan {
    /// The bytes that the patch replaces.
    pub fn original(&self) -> &[u8] {
        &self.original
    }

    /// The instructions before the `syscall` that move into the stub.
    pub fn before(&self) -> impl Iterator<Item = &Instruction> {
        self.before.iter().map(|moved| &moved.insn)
    }

    /// The instructions behind the `syscall` that move into the stub.
    pub fn after(&self) -> impl Iterator<Item = &Instruction> {
        self.after.iter().map(|moved| &moved.insn)
    }

    /// End of the replaced bytes; the stub returns here unless its last instruction leaves.
    pub fn patch_end(&self) -> u64 {
        self.patch_addr.wrapping_add(self.patch_len as u64)
    }

    /// The same plan for the same text mapped `delta` bytes further up (modulo 2^64). Planning costs far more than
    /// this, so plans are worth keeping by file and offset.
    pub fn rebased(&self, delta: u64) -> PatchPlan {
        let mut plan = self.clone();
        plan.site = plan.site.wrapping_add(delta);
        plan.patch_addr = plan.patch_addr.wrapping_add(delta);
        for moved in plan.before.iter_mut().chain(&mut plan.after) {
            moved.rebase(delta);
        }
        plan
    }

    /// What to write at `patch_addr`: a jump to the stub, and `int3` in the rest so that a stray entry is loud. If the
    /// stub is out of reach ([`emit`](Self::emit) says so) these are the original bytes.
    pub fn site_bytes(&self, stub_addr: u64) -> Vec<u8> {
        match relocate::rel32(self.patch_addr.wrapping_add(JUMP_LEN as u64), stub_addr) {
            Some(rel) => {
                let mut bytes = vec![0xe9];
                bytes.extend_from_slice(&rel.to_le_bytes());
                bytes.resize(self.patch_len, 0xcc);
                bytes
            }
            None => self.original.clone(),
        }
    }

    /// The stub for `stub_addr`. Its entry slot holds `entry`, which may be anywhere.
    pub fn emit(&self, stub_addr: u64, entry: u64) -> Result<Stub, Unpatchable> {
        stub::emit(self, stub_addr, entry)
    }
}

/// Plans the patch of one site from the window alone.
pub fn plan(req: &Request<'_>) -> Result<PatchPlan, Unpatchable> {
    plan_avoiding(req, &Avoid::default())
}

/// Plans the patch of one site, staying clear of `avoid`.
pub fn plan_avoiding(req: &Request<'_>, avoid: &Avoid<'_>) -> Result<PatchPlan, Unpatchable> {
    plan::plan(req, avoid, None)
}

/// The same, where the window need hold no more than [`NEAR`] bytes each way: what the whole text, which begins at `start`,
/// refers to is known.
pub fn plan_in(
    req: &Request<'_>,
    avoid: &Avoid<'_>,
    start: u64,
    refs: &References,
) -> Result<PatchPlan, Unpatchable> {
    plan::plan(req, avoid, Some((start, refs)))
}

/// Builds the decoder's tables. They live in a process-wide static and are allocated on first use: call this before
/// any deterministic side exists, so that they are the host's and not an image's.
pub fn warm_up() {
    let _ = Decoder::new(64, &[0x90], DecoderOptions::NONE).decode();
}

/// Whether an address lies within what the plan replaces, not counting its first byte.
fn interior(start: u64, end: u64, addr: u64) -> bool {
    start < addr && addr < end
}
