//! Memory of an image that does not run here yet: pages as they come on a link, in memfds that become the image's own.

use crate::snap::Object;
use crate::sys::{self, sys};
use ftl_core::layout::{ARENA_LEN, GUEST_TOP, PAGE, PAGES_LEN};
use ftl_core::replica::pages::{self, Run};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Pages of the snapshot in place, one memfd for each object.
pub struct Memory {
    /// Image arena.
    pub arena: OwnedFd,
    /// Page store.
    pub store: OwnedFd,
    /// Private pages of each space.
    pub spaces: BTreeMap<u32, OwnedFd>,
}

/// A memfd of that length.
pub fn memfd(name: &std::ffi::CStr, len: u64) -> Result<OwnedFd, String> {
    let fd = sys::memfd(name, len).map_err(|e| format!("memory for a snapshot: {e}"))?;
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A view of a descriptor.
pub fn file(fd: &OwnedFd) -> std::mem::ManuallyDrop<std::fs::File> {
    // SAFETY: borrowed: never closed by the file.
    std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(fd.as_raw_fd()) })
}

impl Memory {
    /// Empty.
    pub fn new() -> Result<Memory, String> {
        Ok(Memory {
            arena: memfd(c"ftvm-image", ARENA_LEN)?,
            store: memfd(c"ftvm-pages", PAGES_LEN)?,
            spaces: BTreeMap::new(),
        })
    }

    fn object(&mut self, object: Object) -> Result<(&OwnedFd, u64), String> {
        Ok(match object {
            Object::Arena => (&self.arena, ARENA_LEN),
            Object::Store => (&self.store, PAGES_LEN),
            Object::Space(n) => {
                use std::collections::btree_map::Entry;
                let fd = match self.spaces.entry(n) {
                    Entry::Occupied(e) => e.into_mut(),
                    Entry::Vacant(e) => e.insert(memfd(c"ftvm-space", GUEST_TOP)?),
                };
                (&*fd, GUEST_TOP)
            }
            Object::Runtime | Object::Volumes => {
                return Err("pages of an object that a link does not carry".to_string());
            }
        })
    }

    /// Memory of processes that the image with this host state has not any more is given up.
    pub fn forget_spaces(&mut self, state: &[u8]) {
        if let Some(s) = crate::snap::state::HostState::decode(state) {
            self.spaces.retain(|n, _| s.spaces.iter().any(|(id, _)| id == n));
        }
    }

    /// Puts one chunk's pages in place.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut failed = None;
        let whole = pages::runs(bytes, |object, first, run| {
            let done = self.put(object, first, &run);
            failed = done.err();
            failed.is_none()
        });
        match failed {
            Some(why) => Err(why),
            None if !whole => Err("its pages are damaged".to_string()),
            None => Ok(()),
        }
    }

    fn put(&mut self, object: Object, first: u64, run: &Run<'_>) -> Result<(), String> {
        let (fd, limit) = self.object(object)?;
        let at = first * PAGE;
        let len = match run {
            Run::Data(b) => b.len() as u64,
            Run::Gone(n) => n * PAGE,
        };
        if at + len > limit {
            return Err("a page out of range".to_string());
        }
        match run {
            Run::Data(b) => file(fd)
                .write_all_at(b, at)
                .map_err(|e| format!("memory for a snapshot: {e}")),
            Run::Gone(_) => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                // SAFETY: a hole in our own memfd.
                unsafe { sys!(libc::SYS_fallocate, fd.as_raw_fd(), mode, at, len) }
                    .map(drop)
                    .map_err(|e| format!("memory for a snapshot: {e}"))
            }
        }
    }
}
