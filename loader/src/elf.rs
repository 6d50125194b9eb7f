//! ELF headers to a mapping plan, as Linux's `fs/binfmt_elf.c` reads them.
//!
//! Contract: only the file header and the program headers are read; sections are never looked at, and the caller need
//! not hold more of the file than [`head_len_needed`] says. A plan that comes back is safe to apply: every segment
//! lies within the file and within the user address space, addresses and offsets are congruent within a page, no two
//! segments overlap. Where Linux is laxer than this (segments beyond the file, odd alignments), no linker makes such
//! files, and a clear refusal is worth more than a SIGBUS later.

mod error;
mod map;
mod needs;
mod symbols;

#[cfg(test)]
mod tests;

pub use error::{ElfError, machine_name};
pub use map::{MapOp, map_ops};
pub use needs::{Needs, needs};
pub use symbols::symbol_at;

use crate::{PAGE, TASK_SIZE};
use bitflags::bitflags;
use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{self, Header};
use goblin::elf::program_header::{self, ProgramHeader};

/// Size of the ELF64 file header.
pub const EHDR_LEN: usize = 64;
/// Size of an ELF64 program header.
pub const PHDR_LEN: usize = 56;
/// Linux reads no more than 64 KiB of program headers.
const PHDRS_MAX: usize = 65536;
/// `PATH_MAX`: the longest interpreter path, NUL included.
const PATH_MAX: u64 = 4096;

bitflags! {
    /// What a segment's pages may be used for. The bits are those of mmap's `PROT_*`, not of `p_flags`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct SegFlags: u32 {
        /// Readable.
        const R = 1;
        /// Writable.
        const W = 2;
        /// Executable.
        const X = 4;
    }
}

/// One PT_LOAD segment with a non-empty range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Address without bias.
    pub vaddr: u64,
    /// Bytes in memory, never 0.
    pub memsz: u64,
    /// Bytes from the file, at most `memsz`.
    pub filesz: u64,
    /// Where they begin in the file.
    pub offset: u64,
    /// Protection.
    pub flags: SegFlags,
}

/// How addresses in the file are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ET_EXEC: addresses are absolute, the bias is 0.
    Exec,
    /// ET_DYN: a PIE, an interpreter or a shared object; the loader chooses the bias.
    Dyn,
}

/// All that exec needs to know of one ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElfPlan {
    /// Fixed or relocatable.
    pub kind: Kind,
    /// Entry point, without bias.
    pub entry: u64,
    /// Address of the program headers (AT_PHDR), without bias, if a segment maps them.
    pub phdr_vaddr: Option<u64>,
    /// Number of program headers (AT_PHNUM).
    pub phnum: u16,
    /// Size of each (AT_PHENT), always 56.
    pub phentsize: u16,
    /// Non-empty PT_LOAD segments in the file's order.
    pub segments: Vec<Segment>,
    /// The interpreter's path: file offset and length with its NUL. Check the bytes with [`interp_path`].
    pub interp: Option<(u64, usize)>,
    /// PT_GNU_STACK asks for an executable stack (its absence does not, on x86-64).
    pub exec_stack: bool,
    /// Largest `p_align` of a PT_LOAD, at least a page; the bias must keep `lo` congruent to itself modulo this.
    pub align: u64,
    /// Lowest page address used, without bias.
    pub lo: u64,
    /// End of the highest page used, without bias.
    pub hi: u64,
}

impl ElfPlan {
    /// The bias that puts `lo` at `base` or, for alignment, at most `align - 1` bytes below. `None` if the program
    /// would then leave the address space, or if it is fixed and `base` is not its own address.
    pub fn bias_for(&self, base: u64) -> Option<u64> {
        let bias = match self.kind {
            Kind::Exec => 0,
            Kind::Dyn => base.wrapping_sub(self.lo) & !(self.align - 1),
        };
        let start = self.lo.wrapping_add(bias);
        let fits = start <= base && start.checked_add(self.hi - self.lo)? <= TASK_SIZE;
        let fixed_ok = self.kind == Kind::Dyn || base == self.lo;
        (fits && fixed_ok).then_some(bias)
    }
}

/// How many bytes from the start of the file [`plan`] wants to see, from the first 64 bytes. The program headers
/// usually follow the file header at once; a file that has them elsewhere may ask for more than it holds, so bound the
/// read by the file's length ([`plan`] then says what is cut off).
pub fn head_len_needed(first64: &[u8]) -> Result<usize, ElfError> {
    let header = file_header(first64)?;
    let end = phdrs_end(&header)?;
    usize::try_from(end.max(EHDR_LEN as u64))
        .map_err(|_| truncated("program headers", end, first64.len() as u64))
}

/// The mapping plan of the file that starts with `head` and is `file_len` bytes long.
pub fn plan(head: &[u8], file_len: u64) -> Result<ElfPlan, ElfError> {
    let header = file_header(head)?;
    let phdrs = program_headers(head, file_len, &header)?;
    let mut plan = ElfPlan {
        kind: if header.e_type == header::ET_EXEC {
            Kind::Exec
        } else {
            Kind::Dyn
        },
        entry: header.e_entry,
        phdr_vaddr: None,
        phnum: header.e_phnum,
        phentsize: header.e_phentsize,
        segments: Vec::new(),
        interp: None,
        exec_stack: false,
        align: PAGE,
        lo: u64::MAX,
        hi: 0,
    };
    let mut ranges = Vec::new();
    for (index, phdr) in phdrs.iter().enumerate() {
        match phdr.p_type {
            program_header::PT_LOAD => {
                check_load(index, phdr, file_len)?;
                add_load(&mut plan, phdr, header.e_phoff);
                if phdr.p_memsz > 0 {
                    ranges.push((phdr.p_vaddr, phdr.p_vaddr + phdr.p_memsz, index));
                }
            }
            program_header::PT_INTERP if plan.interp.is_none() => {
                plan.interp = Some(check_interp(phdr, head, file_len)?);
            }
            program_header::PT_GNU_STACK => plan.exec_stack = phdr.p_flags & program_header::PF_X != 0,
            _ => {}
        }
    }
    if plan.segments.is_empty() {
        return Err(ElfError::NoLoad);
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if pair[1].0 < pair[0].1 {
            return Err(ElfError::Overlap {
                first: pair[0].2,
                second: pair[1].2,
            });
        }
    }
    if plan.entry >= TASK_SIZE {
        return Err(ElfError::EntryOutside { entry: plan.entry });
    }
    assert!(
        plan.lo < plan.hi && plan.hi <= TASK_SIZE,
        "checked segment by segment"
    );
    Ok(plan)
}

/// The interpreter's path without its NUL, from the bytes that [`ElfPlan::interp`] points at. Like Linux, only the
/// last byte must be NUL, and the path ends at the first one.
pub fn interp_path(bytes: &[u8]) -> Result<&[u8], ElfError> {
    if bytes.last() != Some(&0) {
        return Err(ElfError::InterpNotTerminated);
    }
    Ok(bytes.split(|&b| b == 0).next().unwrap_or(&[]))
}

pub(crate) fn page_down(addr: u64) -> u64 {
    addr & !(PAGE - 1)
}

/// Saturates below 2^64; callers pass addresses within the address space or file offsets that were checked.
pub(crate) fn page_up(addr: u64) -> u64 {
    page_down(addr.saturating_add(PAGE - 1))
}

fn truncated(what: &'static str, need: u64, have: u64) -> ElfError {
    ElfError::Truncated { what, need, have }
}

/// Checks the identification, type and machine, in the order in which the messages help most.
fn file_header(head: &[u8]) -> Result<Header, ElfError> {
    let have = head.len() as u64;
    if head.len() < 4 || head[..4] != *header::ELFMAG {
        let prefix = head.is_empty() || header::ELFMAG.starts_with(head);
        return Err(if prefix {
            truncated("ELF magic", 4, have)
        } else {
            ElfError::NotElf
        });
    }
    if head.len() < 20 {
        return Err(truncated("ELF file header", EHDR_LEN as u64, have));
    }
    // Where e_machine lies does not depend on the class, only its byte order on the encoding.
    let machine = [head[18], head[19]];
    let big_endian = match head[header::EI_DATA] {
        header::ELFDATA2LSB => false,
        header::ELFDATA2MSB => true,
        other => return Err(ElfError::BadEncoding(other)),
    };
    let machine = if big_endian {
        u16::from_be_bytes(machine)
    } else {
        u16::from_le_bytes(machine)
    };
    let name = error::machine_name(machine);
    match head[header::EI_CLASS] {
        header::ELFCLASS64 => {}
        header::ELFCLASS32 if machine == header::EM_X86_64 => {
            return Err(ElfError::Class32 { machine: "x32" });
        }
        header::ELFCLASS32 => return Err(ElfError::Class32 { machine: name }),
        other => return Err(ElfError::BadClass(other)),
    }
    if big_endian {
        return Err(ElfError::BigEndian { machine: name });
    }
    if machine != header::EM_X86_64 {
        return Err(ElfError::ForeignMachine { machine, name });
    }
    if head.len() < EHDR_LEN {
        return Err(truncated("ELF file header", EHDR_LEN as u64, have));
    }
    let header = goblin::elf::Elf::parse_header(head).map_err(|_| ElfError::NotElf)?;
    match header.e_type {
        header::ET_EXEC | header::ET_DYN => Ok(header),
        header::ET_REL => Err(ElfError::Relocatable),
        header::ET_CORE => Err(ElfError::Core),
        other => Err(ElfError::BadType(other)),
    }
}

/// End of the program headers in the file, after checking their size and number.
fn phdrs_end(header: &Header) -> Result<u64, ElfError> {
    if usize::from(header.e_phentsize) != PHDR_LEN {
        return Err(ElfError::PhentSize(header.e_phentsize));
    }
    let len = usize::from(header.e_phnum) * PHDR_LEN;
    if len == 0 || len > PHDRS_MAX {
        return Err(ElfError::PhCount(header.e_phnum));
    }
    Ok(header.e_phoff.saturating_add(len as u64))
}

fn program_headers(head: &[u8], file_len: u64, header: &Header) -> Result<Vec<ProgramHeader>, ElfError> {
    let end = phdrs_end(header)?;
    let have = file_len.min(head.len() as u64);
    if end > have {
        return Err(truncated("program header table", end, have));
    }
    let ctx = Ctx::new(Container::Big, Endian::Little);
    // In range: both fit below head.len().
    ProgramHeader::parse(head, header.e_phoff as usize, usize::from(header.e_phnum), ctx)
        .map_err(|_| truncated("program header table", end, have))
}

fn check_load(index: usize, phdr: &ProgramHeader, file_len: u64) -> Result<(), ElfError> {
    let &ProgramHeader {
        p_vaddr: vaddr,
        p_memsz: memsz,
        p_filesz: filesz,
        p_offset: offset,
        p_align: align,
        ..
    } = phdr;
    if filesz > memsz {
        return Err(ElfError::FileszAboveMemsz { index });
    }
    if vaddr.checked_add(memsz).is_none_or(|end| end > TASK_SIZE) {
        return Err(ElfError::OutOfAddressSpace { index, vaddr, memsz });
    }
    if align > 1 && (!align.is_power_of_two() || align > TASK_SIZE) {
        return Err(ElfError::BadAlign { index, align });
    }
    // A segment without file bytes never maps the file, so its offset means nothing.
    if filesz > 0 {
        if offset.checked_add(filesz).is_none_or(|end| end > file_len) {
            return Err(ElfError::BeyondFile {
                index,
                offset,
                filesz,
                file_len,
            });
        }
        if vaddr % PAGE != offset % PAGE {
            return Err(ElfError::Incongruent { index, vaddr, offset });
        }
    }
    Ok(())
}

/// Adds a checked PT_LOAD.
fn add_load(plan: &mut ElfPlan, phdr: &ProgramHeader, phoff: u64) {
    // Linux: the last segment that holds the table's first byte wins.
    if phdr.p_offset <= phoff && phoff - phdr.p_offset < phdr.p_filesz {
        plan.phdr_vaddr = Some(phdr.p_vaddr + (phoff - phdr.p_offset));
    }
    plan.align = plan.align.max(phdr.p_align);
    if phdr.p_memsz == 0 {
        return;
    }
    let mut flags = SegFlags::empty();
    flags.set(SegFlags::R, phdr.p_flags & program_header::PF_R != 0);
    flags.set(SegFlags::W, phdr.p_flags & program_header::PF_W != 0);
    flags.set(SegFlags::X, phdr.p_flags & program_header::PF_X != 0);
    plan.lo = plan.lo.min(page_down(phdr.p_vaddr));
    plan.hi = plan.hi.max(page_up(phdr.p_vaddr + phdr.p_memsz));
    plan.segments.push(Segment {
        vaddr: phdr.p_vaddr,
        memsz: phdr.p_memsz,
        filesz: phdr.p_filesz,
        offset: phdr.p_offset,
        flags,
    });
}

fn check_interp(phdr: &ProgramHeader, head: &[u8], file_len: u64) -> Result<(u64, usize), ElfError> {
    let len = phdr.p_filesz;
    if !(2..=PATH_MAX).contains(&len) {
        return Err(ElfError::InterpLen { len });
    }
    let end = phdr.p_offset.checked_add(len).filter(|&end| end <= file_len);
    let end = end.ok_or(truncated(
        "interpreter path",
        phdr.p_offset.saturating_add(len),
        file_len,
    ))?;
    // Usually the path lies in the head; if not, the caller checks it after reading.
    let in_head = usize::try_from(phdr.p_offset).ok().zip(usize::try_from(end).ok());
    if let Some(bytes) = in_head.and_then(|(start, end)| head.get(start..end)) {
        interp_path(bytes)?;
    }
    Ok((phdr.p_offset, len as usize))
}
