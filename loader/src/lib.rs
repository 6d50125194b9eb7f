//! ELF files to mapping plans, syscall sites to patch plans.
//!
//! Contract: everything here is a pure function of its arguments. Nothing reads a file, the clock, the
//! environment or a random source; results are plain data (`Vec`, sorted) and equal arguments give equal bytes, so
//! the crate may run on the deterministic side of an image. Every input is hostile: no function panics, loops without
//! bound or returns a plan that lies outside the file or the address space, whatever the bytes are.
//!
//! * [`elf`]: program headers to a mapping plan, as Linux's `binfmt_elf` does it.
//! * [`script`]: the `#!` line, as `binfmt_script` does it.
//! * [`stack`]: the initial stack, as exec builds it.
//! * [`patch`]: syscall sites to patch plans and stubs.
//! * [`vdso`]: the image of a vDSO from its code.
#![forbid(unsafe_code)]

pub mod elf;
pub mod patch;
pub mod script;
pub mod stack;
pub mod vdso;

/// The page size of x86-64 Linux.
pub const PAGE: u64 = 4096;

/// End of the user half of the address space with four-level page tables (Linux's `TASK_SIZE`).
pub const TASK_SIZE: u64 = 0x7fff_ffff_f000;
