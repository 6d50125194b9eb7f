//! The upper vector state of a guest, kept while a vCPU uses a link, or hashes a file.
//!
//! The entry path has saved xmm0-15 and MXCSR; the upper halves of ymm and zmm, zmm16-31 and the mask registers are still the
//! guest's (runtime/src/entry.rs), and the cryptography of links overwrites them. About 200 ns, so only where it is needed.

use std::alloc::{Layout, alloc_zeroed, dealloc};

/// AVX, and the three components of AVX-512.
const UPPER: u64 = 1 << 2 | 1 << 5 | 1 << 6 | 1 << 7;

/// A place to keep the state in. Made once, on the side that allocates for the host.
pub struct Keeper {
    area: *mut u8,
    layout: Layout,
}

impl Keeper {
    /// A keeper for this CPU.
    pub fn new() -> Keeper {
        // Bytes for all components that are switched on in XCR0, in the standard form.
        let len = std::arch::x86_64::__cpuid_count(0xd, 0).ebx as usize;
        let Ok(layout) = Layout::from_size_align(len.max(1024), 64) else {
            panic!("{len} bytes of vector state");
        };
        // SAFETY: the length is not zero.
        let area = unsafe { alloc_zeroed(layout) };
        assert!(!area.is_null(), "memory for {len} bytes of vector state");
        Keeper { area, layout }
    }

    /// Runs `f` and puts the upper vector state back as it was. `f` must not unwind out of this: a panic in a guest process
    /// ends the image.
    pub fn keep<R>(&mut self, f: impl FnOnce() -> R) -> R {
        // SAFETY: the area is large enough, aligned to 64 and zeroed at first, so its header is one that XRSTOR takes. Components
        // that the CPU does not have are left out by it. No register that Rust knows of is changed by XSAVE.
        unsafe {
            std::arch::asm!("xsave64 [{}]", in(reg) self.area, in("eax") UPPER as u32, in("edx") 0,
                options(nostack, preserves_flags));
        }
        let r = f();
        // SAFETY: as above; it holds what XSAVE wrote. Rust keeps nothing in the upper halves across this: it is compiled
        // without AVX, and the xmm halves are not in the mask.
        unsafe {
            std::arch::asm!("xrstor64 [{}]", in(reg) self.area, in("eax") UPPER as u32, in("edx") 0,
                options(nostack, preserves_flags));
        }
        r
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.area, self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes ymm7 and ymm12, calls `f`, reads them back. One block of assembly, so that no other code runs in between.
    fn through(f: extern "C" fn(*mut Keeper), keeper: *mut Keeper) -> [[u64; 4]; 2] {
        let written = [[1u64, 2, 3, 4], [5, 6, 7, 8]];
        let mut read = [[0u64; 4]; 2];
        // SAFETY: the stack is aligned and has no red zone in use across a call that Rust knows of (clobber_abi); pointers are
        // valid.
        unsafe {
            std::arch::asm!(
                "vmovdqu ymm7, [r12]", "vmovdqu ymm12, [r12 + 32]",
                "call r13",
                "vmovdqu [r14], ymm7", "vmovdqu [r14 + 32], ymm12", "vzeroupper",
                in("rdi") keeper, in("r12") written.as_ptr(), in("r13") f, in("r14") read.as_mut_ptr(),
                clobber_abi("C"),
            );
        }
        read
    }

    extern "C" fn clobber() {
        // SAFETY: clobbers what it says.
        unsafe { std::arch::asm!("vzeroall", clobber_abi("C")) };
    }

    extern "C" fn kept(k: *mut Keeper) {
        // SAFETY: the test's own.
        unsafe { (*k).keep(|| clobber()) };
    }

    extern "C" fn not_kept(_: *mut Keeper) {
        clobber();
    }

    #[test]
    fn upper_halves_survive() {
        if !std::arch::is_x86_feature_detected!("avx") {
            eprintln!("no AVX here: nothing to keep");
            return;
        }
        let mut k = Keeper::new();
        for _ in 0..3 {
            let got = through(kept, &raw mut k);
            assert_eq!(
                (&got[0][2..], &got[1][2..]),
                ([3, 4].as_slice(), [7, 8].as_slice())
            );
            let lost = through(not_kept, &raw mut k);
            assert_eq!(
                (&lost[0][2..], &lost[1][2..]),
                ([0, 0].as_slice(), [0, 0].as_slice())
            );
        }
    }
}
