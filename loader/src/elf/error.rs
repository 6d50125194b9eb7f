//! Why a file is refused. One variant per cause, each with a one-line message for a person; the kernel turns all of
//! them into `ENOEXEC`, as Linux does.

use thiserror::Error;

/// The reason why [`plan`](super::plan) refuses a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The bytes given, or the file itself, end before something that must be read.
    #[error("truncated: {what} ends at byte {need}, but only {have} bytes are there")]
    Truncated {
        /// The object that is cut off.
        what: &'static str,
        /// The offset just past the object.
        need: u64,
        /// How many bytes there are.
        have: u64,
    },
    /// The first four bytes are not `7f 45 4c 46`.
    #[error("not an ELF file")]
    NotElf,
    /// A 32-bit file.
    #[error("32-bit ELF file for {machine}: only 64-bit programs run")]
    Class32 {
        /// The machine that it is for.
        machine: &'static str,
    },
    /// The class byte is neither 32-bit nor 64-bit.
    #[error("unknown ELF class {0}")]
    BadClass(u8),
    /// A big-endian file.
    #[error("big-endian ELF file for {machine}: only little-endian x86_64 programs run")]
    BigEndian {
        /// The machine that it is for.
        machine: &'static str,
    },
    /// The data encoding byte is neither little nor big endian.
    #[error("unknown ELF data encoding {0}")]
    BadEncoding(u8),
    /// A file for another processor.
    #[error("ELF file for {name} (machine {machine}): only x86_64 programs run")]
    ForeignMachine {
        /// `e_machine`.
        machine: u16,
        /// Its usual name.
        name: &'static str,
    },
    /// An object file (`.o`) that was never linked.
    #[error("relocatable object file: it must be linked into a program first")]
    Relocatable,
    /// A core dump.
    #[error("core dump: not a program")]
    Core,
    /// Neither a program nor a shared object.
    #[error("unknown ELF file type {0}")]
    BadType(u16),
    /// The program headers have an unknown size.
    #[error("program headers of {0} bytes each: must be 56")]
    PhentSize(u16),
    /// No program headers, or more of them than Linux reads (64 KiB).
    #[error("{0} program headers: must be 1 to 1170")]
    PhCount(u16),
    /// Nothing to load.
    #[error("no loadable segment")]
    NoLoad,
    /// `p_filesz` exceeds `p_memsz`.
    #[error("program header {index}: more bytes in the file than in memory")]
    FileszAboveMemsz {
        /// Index of the program header.
        index: usize,
    },
    /// The segment's address range wraps around or leaves the user address space.
    #[error("program header {index}: address range {vaddr:#x}+{memsz:#x} leaves the address space")]
    OutOfAddressSpace {
        /// Index of the program header.
        index: usize,
        /// `p_vaddr`.
        vaddr: u64,
        /// `p_memsz`.
        memsz: u64,
    },
    /// The segment's file range wraps around or ends beyond the file.
    #[error(
        "program header {index}: file range {offset:#x}+{filesz:#x} ends beyond the file's {file_len} bytes"
    )]
    BeyondFile {
        /// Index of the program header.
        index: usize,
        /// `p_offset`.
        offset: u64,
        /// `p_filesz`.
        filesz: u64,
        /// The file's length.
        file_len: u64,
    },
    /// Two segments claim the same bytes of memory.
    #[error("program headers {first} and {second}: segments overlap in memory")]
    Overlap {
        /// Index of the program header with the lower address.
        first: usize,
        /// Index of the one with the higher address.
        second: usize,
    },
    /// `p_align` is not a power of two, or larger than the address space.
    #[error("program header {index}: alignment {align:#x} is not a power of two within the address space")]
    BadAlign {
        /// Index of the program header.
        index: usize,
        /// `p_align`.
        align: u64,
    },
    /// Address and file offset differ within a page, so the segment cannot be mapped.
    #[error("program header {index}: address {vaddr:#x} and file offset {offset:#x} differ within the page")]
    Incongruent {
        /// Index of the program header.
        index: usize,
        /// `p_vaddr`.
        vaddr: u64,
        /// `p_offset`.
        offset: u64,
    },
    /// The interpreter's path is empty or longer than `PATH_MAX`.
    #[error("interpreter path of {len} bytes: must be 2 to 4096 with its NUL")]
    InterpLen {
        /// `p_filesz` of PT_INTERP.
        len: u64,
    },
    /// The interpreter's path lacks its NUL.
    #[error("interpreter path is not NUL-terminated")]
    InterpNotTerminated,
    /// The entry point lies outside the user address space.
    #[error("entry point {entry:#x} lies outside the address space")]
    EntryOutside {
        /// `e_entry`.
        entry: u64,
    },
}

/// The usual name of an `e_machine` value.
pub fn machine_name(machine: u16) -> &'static str {
    match machine {
        2 => "sparc",
        3 => "i386",
        4 => "m68k",
        8 => "mips",
        15 => "parisc",
        20 => "powerpc",
        21 => "powerpc64",
        22 => "s390",
        40 => "arm",
        42 => "superh",
        43 => "sparc64",
        50 => "ia64",
        62 => "x86_64",
        83 => "avr",
        93 => "arc",
        94 => "xtensa",
        180 => "iamcu",
        183 => "aarch64",
        189 => "microblaze",
        243 => "riscv",
        247 => "bpf",
        252 => "csky",
        258 => "loongarch",
        0x9026 => "alpha",
        _ => "an unknown machine",
    }
}
