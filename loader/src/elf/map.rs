//! A mapping plan as page-aligned operations.

use super::{ElfPlan, SegFlags, Segment, page_down, page_up};
use crate::PAGE;

/// One fixed, private mapping. Operations are applied in order and each replaces whatever the ones before it mapped
/// there (`MAP_FIXED`): two segments may share a page, and then the later one's bytes are seen, as on Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapOp {
    /// Page-aligned address, bias included.
    pub addr: u64,
    /// Length, a non-zero multiple of the page size.
    pub len: u64,
    /// Protection after zeroing.
    pub prot: SegFlags,
    /// Page-aligned file offset to map from, or `None` for anonymous memory. The last page may end beyond the
    /// segment (its bytes are the file's) and beyond the file (zero).
    pub file: Option<u64>,
    /// If set, the bytes from this address to the end of its page must be zeroed: the start of .bss, in the last
    /// page of a file mapping. Never set on a mapping without [`SegFlags::W`].
    pub zero_from: Option<u64>,
}

/// The operations that map `plan` at `bias`.
///
/// The rules are those of `elf_load` in Linux's `fs/binfmt_elf.c` (6.6 and later):
/// * file pages first, from the page below `p_vaddr` to the page end above `p_vaddr + p_filesz`, with the segment's
///   own protection;
/// * if `p_memsz` is larger, the rest of the last file page is zeroed when the segment is writable (Linux ignores the
///   fault when it is not, and the file's bytes stay);
/// * then anonymous pages up to `p_memsz`, readable and writable whatever the segment says, executable if it is.
///
/// `bias` is added modulo 2^64 (a program linked high and loaded low has a "negative" one); use [`ElfPlan::bias_for`]
/// to get one that is known to fit.
pub fn map_ops(plan: &ElfPlan, bias: u64) -> Vec<MapOp> {
    let mut ops = Vec::with_capacity(plan.segments.len() * 2);
    for segment in &plan.segments {
        push_segment(segment, bias, &mut ops);
    }
    ops
}

fn push_segment(segment: &Segment, bias: u64, ops: &mut Vec<MapOp>) {
    let start = page_down(segment.vaddr);
    let end = page_up(segment.vaddr + segment.memsz);
    let file_end = segment.vaddr + segment.filesz;
    let mut anon_start = start;
    if segment.filesz > 0 {
        let has_bss = segment.memsz > segment.filesz;
        let zero = has_bss && !file_end.is_multiple_of(PAGE) && segment.flags.contains(SegFlags::W);
        anon_start = page_up(file_end);
        ops.push(MapOp {
            addr: start.wrapping_add(bias),
            len: anon_start - start,
            prot: segment.flags,
            file: Some(page_down(segment.offset)),
            zero_from: zero.then(|| file_end.wrapping_add(bias)),
        });
    }
    if anon_start < end {
        ops.push(MapOp {
            addr: anon_start.wrapping_add(bias),
            len: end - anon_start,
            prot: SegFlags::R | SegFlags::W | (segment.flags & SegFlags::X),
            file: None,
            zero_from: None,
        });
    }
}
