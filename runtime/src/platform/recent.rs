//! What the host has just said about files, until the next absorb point.
//!
//! Nothing from outside becomes visible to an image between two absorb points (PROTOCOL §1). Changes
//! that others make to host files are kept to the same rule: what was asked since the last absorb
//! point is not asked again, and an opened file is shared by those who open it for reading once
//! more. A change that the image makes itself empties the list at once. So a guest cannot see an
//! answer older than the newest input it has seen, and a server that stats, opens, stats and
//! closes a file for each request costs the host one of each per batch.

use crate::sys::sys;
use ftl_core::errno::Errno;
use ftl_core::platform::{Handle, Stat};
use std::rc::Rc;

/// Entries kept; the oldest goes first.
const MOST: usize = 16;

/// A descriptor for reading a regular file, closed when the last user lets go.
#[derive(Debug)]
pub struct Shared {
    /// The descriptor.
    pub fd: i32,
    /// What it was when it was opened.
    pub stat: Stat,
    /// When: see [`Recent::epoch`].
    pub epoch: u64,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: our own descriptor, used by nobody any more.
        let _ = unsafe { sys!(libc::SYS_close, self.fd) };
    }
}

#[derive(Debug)]
enum What {
    Stat(Result<Stat, Errno>),
    Open(i32, Rc<Shared>),
}

/// Answers since the last absorb point.
#[derive(Debug, Default)]
pub struct Recent {
    list: Vec<(Handle, Vec<u8>, What)>,
    next: usize,
    /// Counts the times that it was emptied.
    pub epoch: u64,
}

impl Recent {
    /// Nothing is known any more.
    pub fn clear(&mut self) {
        self.epoch += 1;
        self.next = 0;
        self.list.clear();
    }

    fn find(&self, dir: Handle, name: &[u8]) -> impl Iterator<Item = &What> {
        let same = move |(d, n, _): &&(Handle, Vec<u8>, What)| *d == dir && n == name;
        self.list.iter().filter(same).map(|(_, _, w)| w)
    }

    fn add(&mut self, dir: Handle, name: &[u8], what: What) {
        let entry = (dir, name.to_vec(), what);
        if self.list.len() < MOST {
            self.list.push(entry);
        } else {
            self.list[self.next] = entry;
            self.next = (self.next + 1) % MOST;
        }
    }

    /// What stat of the name said.
    pub fn stat(&self, dir: Handle, name: &[u8]) -> Option<Result<Stat, Errno>> {
        self.find(dir, name).find_map(|w| match w {
            What::Stat(r) => Some(*r),
            What::Open(..) => None,
        })
    }

    /// Notes an answer.
    pub fn note_stat(&mut self, dir: Handle, name: &[u8], r: Result<Stat, Errno>) {
        self.add(dir, name, What::Stat(r));
    }

    /// The file that was opened with the same flags.
    pub fn open(&self, dir: Handle, name: &[u8], flags: i32) -> Option<Rc<Shared>> {
        self.find(dir, name).find_map(|w| match w {
            What::Open(f, s) if *f == flags => Some(s.clone()),
            _ => None,
        })
    }

    /// Notes an opened file.
    pub fn note_open(&mut self, dir: Handle, name: &[u8], flags: i32, shared: &Rc<Shared>) {
        self.add(dir, name, What::Open(flags, shared.clone()));
    }
}

/// Opening with these flags changes nothing and gives a descriptor that may be shared.
pub fn shareable(flags: i32) -> bool {
    let effects = libc::O_CREAT | libc::O_TRUNC | libc::O_DIRECTORY | libc::O_PATH | libc::O_APPEND;
    flags & libc::O_ACCMODE == libc::O_RDONLY && flags & effects == 0
}
