//! Shared memory segments (ipc/shm.c). The pages are a file of the image's page store, made by the
//! call layer.

use super::{Object, Perm};
use ftl_core::file::FileRef;
use std::cell::Cell;

/// A segment.
pub struct Segment {
    perm: Perm,
    /// Its pages.
    pub file: FileRef,
    /// As asked for.
    pub size: u64,
    /// Creator's and last user's pid.
    pub pids: Cell<(u32, u32)>,
    /// Times of the last attach, detach and change, seconds.
    pub times: Cell<(i64, i64, i64)>,
    /// Removed; goes with its last attachment.
    pub removed: Cell<bool>,
}

impl Object for Segment {
    fn perm(&self) -> &Perm {
        &self.perm
    }
}

impl Segment {
    /// Not attached.
    pub fn new(perm: Perm, file: FileRef, size: u64, pid: u32, now: i64) -> Segment {
        Segment {
            perm,
            file,
            size,
            pids: Cell::new((pid, 0)),
            times: Cell::new((0, 0, now)),
            removed: Cell::new(false),
        }
    }
}
