//! One mapping.

use bitflags::bitflags;
use ftl_core::file::FileRef;
use ftl_core::platform::{Backing, Prot};
use std::rc::Rc;

bitflags! {
    /// What madvise, mlock and mmap's flags leave on a mapping.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct VmaFlags: u32 {
        /// MADV_DONTFORK
        const DONTFORK = 1;
        /// MADV_WIPEONFORK
        const WIPEONFORK = 2;
        /// mlock
        const LOCKED = 4;
        /// MAP_GROWSDOWN
        const GROWSDOWN = 8;
        /// MAP_NORESERVE
        const NORESERVE = 16;
        /// MADV_DONTDUMP
        const DONTDUMP = 32;
        /// Shared mapping of a file that is not open for writing: mprotect may not make it writable.
        const NOWRITE = 64;
        /// mseal: stays as it is until execve or the end.
        const SEALED = 128;
    }
}

/// What a mapping is for; shown in /proc/self/maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmaKind {
    /// mmap's.
    Normal,
    /// The main stack.
    Stack,
    /// The heap.
    Heap,
    /// The vDSO.
    Vdso,
    /// Stubs of patched call sites: hidden from the guest.
    Stubs,
}

/// The file behind a mapping.
#[derive(Clone)]
pub struct VmaFile {
    /// Keeps it open.
    pub file: FileRef,
    /// Offset of the mapping's start.
    pub offset: u64,
    /// Device and inode for /proc/self/maps.
    pub id: (u64, u64),
    /// Path for /proc/self/maps.
    pub path: Rc<Vec<u8>>,
    /// From this offset on, whole pages, the mapping has nothing behind it: SIGBUS. `u64::MAX`: all there.
    pub limit: u64,
}

/// Where the parts of a mapping from `offset` on end to have something behind them.
pub fn limit_of(offset: u64, parts: &[(u64, Backing)]) -> u64 {
    match parts.last() {
        Some((_, Backing::Beyond)) => {
            let all: u64 = parts.iter().rev().skip(1).map(|(len, _)| len).sum();
            offset + all
        }
        _ => u64::MAX,
    }
}

/// A range of pages that are mapped alike.
#[derive(Clone)]
pub struct Vma {
    /// First byte.
    pub start: u64,
    /// First byte after.
    pub end: u64,
    /// Permissions.
    pub prot: Prot,
    /// MAP_SHARED.
    pub shared: bool,
    /// Use.
    pub kind: VmaKind,
    /// File, unless anonymous.
    pub file: Option<VmaFile>,
    /// Advice.
    pub flags: VmaFlags,
    /// PR_SET_VMA_ANON_NAME.
    pub name: Option<Rc<Vec<u8>>>,
}

impl Vma {
    /// An anonymous private mapping.
    pub fn anon(start: u64, len: u64, prot: Prot, kind: VmaKind) -> Vma {
        Vma {
            start,
            end: start + len,
            prot,
            shared: false,
            kind,
            file: None,
            flags: VmaFlags::empty(),
            name: None,
        }
    }

    /// Private and writable: its pages may all come to be the process' own.
    pub fn commits(&self) -> bool {
        !self.shared
            && self.prot.contains(Prot::WRITE)
            && self.kind != VmaKind::Stack
            && !self.flags.contains(VmaFlags::NORESERVE)
    }

    /// Private text that the guest may have made itself: no file's, or writable.
    pub fn is_wild(&self) -> bool {
        self.prot.contains(Prot::EXEC)
            && !self.shared
            && !matches!(self.kind, VmaKind::Stubs | VmaKind::Vdso)
            && (self.file.is_none() || self.prot.contains(Prot::WRITE))
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// The part of it in `[start, end)`.
    pub fn cut(&self, start: u64, end: u64) -> Vma {
        let mut v = self.clone();
        if let Some(f) = &mut v.file {
            f.offset += start - self.start;
        }
        v.start = start;
        v.end = end;
        v
    }

    /// `right`, which starts where this ends, could be the same mapping.
    pub fn joins(&self, right: &Vma) -> bool {
        self.prot == right.prot
            && self.shared == right.shared
            && self.kind == right.kind
            && self.flags == right.flags
            && self.name == right.name
            && match (&self.file, &right.file) {
                (None, None) => !self.shared,
                (Some(a), Some(b)) => {
                    Rc::ptr_eq(&a.file, &b.file) && a.offset + self.len() == b.offset && a.limit == b.limit
                }
                _ => false,
            }
    }
}
