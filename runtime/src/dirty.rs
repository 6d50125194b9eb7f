//! Which guest pages were written since a moment: userfaultfd in WP_ASYNC mode and PAGEMAP_SCAN
//! (Linux 6.7 and later, no privilege). HAZARDS has the rules; the binding one is: a scan that finds
//! a range unregistered (a new mapping, a fork) is refused by the host and all of that range counts
//! as written.
//!
//! One tracker per host process: registration belongs to its address space.

use crate::sys::{Host, HostErr, sys};
use ftl_core::layout::PAGE;
use std::cell::RefCell;

const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_UNREGISTER: u64 = 0x8010_aa01;
const UFFDIO_WRITEPROTECT: u64 = 0xc018_aa06;
const UFFD_USER_MODE_ONLY: i32 = 1;
const FEATURE_WP_SHMEM: u64 = 1 << 12;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const MODE_WP: u64 = 1 << 1;

const PAGEMAP_SCAN: u64 = 0xc060_6610;
const WP_MATCHING: u64 = 1;
const CHECK_WPASYNC: u64 = 2;
const IS_WRITTEN: u64 = 1 << 1;
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;

#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// Dirty tracking of the calling process.
#[derive(Debug)]
pub struct Tracker {
    uffd: i32,
    pagemap: i32,
    /// Ranges that may not be registered; none: all that was there when it began.
    doubted: RefCell<Option<Vec<(u64, u64)>>>,
}

/// Doubted ranges kept at most: with more, everything is.
const MOST_DOUBTED: usize = 1024;

impl Tracker {
    /// Opens the tracker; fails on kernels without WP_ASYNC.
    pub fn new() -> Host<Tracker> {
        // SAFETY: new descriptors; the structs are valid for the calls.
        unsafe {
            let uffd = sys!(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY)? as i32;
            let mut api = [0xaa_u64, FEATURE_WP_ASYNC | FEATURE_WP_SHMEM, 0];
            sys!(libc::SYS_ioctl, uffd, UFFDIO_API, api.as_mut_ptr())?;
            let path = c"/proc/self/pagemap";
            let pagemap = sys!(libc::SYS_open, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)? as i32;
            Ok(Tracker {
                uffd,
                pagemap,
                doubted: RefCell::new(None),
            })
        }
    }

    /// Descriptor for [`register`] by other processes of the image.
    pub fn uffd(&self) -> i32 {
        self.uffd
    }

    /// Descriptor of this process' pagemap.
    pub fn pagemap(&self) -> i32 {
        self.pagemap
    }

    /// Takes a new range in; what is written there counts from now on.
    pub fn register(&self, start: u64, end: u64) -> Host<()> {
        register(self.uffd, start, end)
    }

    /// A range that is about to be moved is followed no more; its marks are gone.
    ///
    /// mremap(2) gives the new place the old one's context first, by which it may become one mapping with a neighbour that is followed, and
    /// then takes the context away from all of that: the neighbour was followed no more, with its marks left on. Pages that
    /// became writable with the mark on (by a fault, or mprotect(2)) were never found again, as a scan protects only what has no mark
    /// (mm/vma.c `copy_vma`, mm/userfaultfd.c `mremap_userfaultfd_prep`; seen on Linux 6.18).
    pub fn unregister(&self, start: u64, end: u64) {
        let range = [start, end - start];
        // A file's pages that were moved here since the last look cannot be; what is under them merges with nothing.
        // SAFETY: the range is guest memory of this process; no contents change.
        let _ = unsafe { sys!(libc::SYS_ioctl, self.uffd, UFFDIO_UNREGISTER, range.as_ptr()) };
    }

    /// Closes the descriptors, and leaves the rest: for a process without the token, which must not touch the allocator that it
    /// shares with the one that has it.
    pub fn close(self) {
        let t = std::mem::ManuallyDrop::new(self);
        close(t.uffd, t.pagemap);
    }

    /// What is mapped in this range may not be registered.
    pub fn doubt(&self, start: u64, end: u64) {
        let mut doubted = self.doubted.borrow_mut();
        if let Some(list) = &mut *doubted {
            list.push((start, end));
            if list.len() > MOST_DOUBTED {
                *doubted = None;
            }
        }
    }

    /// As [`Tracker::protect`] for all of these ranges, which are ascending; hundreds of them cost a call or two if nothing
    /// else that is not registered lies between them. `apart` says so of a range and the one before it, `shared` whether it is
    /// shared memory, of which `before` is told too; such a one must be apart from all others.
    pub fn protect_all(
        &self,
        ranges: &[(u64, u64)],
        apart: impl Fn(usize) -> bool,
        shared: impl Fn(usize) -> bool,
        mut before: impl FnMut(u64, u64, bool),
    ) {
        let doubted = self.doubted.replace(Some(Vec::new()));
        let known = |r: &(u64, u64)| match &doubted {
            Some(list) => !list.iter().any(|d| d.0 < r.1 && d.1 > r.0),
            None => false,
        };
        let mut i = 0;
        while i < ranges.len() {
            let mut end = i + 1;
            if shared(i) {
                self.protect_shared(ranges[i], known(&ranges[i]), &mut |s, e| before(s, e, true));
                i = end;
                continue;
            }
            if known(&ranges[i]) {
                while end < ranges.len() && !apart(end) && known(&ranges[end]) {
                    end += 1;
                }
                let (from, to) = (ranges[i].0, ranges[end - 1].1);
                if take_written(self.pagemap, from, to, &mut |s, e| before(s, e, false)).is_ok() {
                    i = end;
                    continue;
                }
                // One that is not registered was not known of. What was found up to there is lost.
                before(from, to, false);
            }
            for (from, to) in &ranges[i..end] {
                self.protect(*from, *to, |s, e| before(s, e, false));
            }
            i = end;
        }
    }

    /// From now on writes to `[start, end)` are noticed; earlier ones go to `before` and are forgotten.
    pub fn protect(&self, start: u64, end: u64, mut before: impl FnMut(u64, u64)) {
        if self.register(start, end).is_ok() {
            // After an error all of it counts as written: too much is told then, never too little.
            if take_written(self.pagemap, start, end, &mut before).is_err() {
                before(start, end);
            }
        } else {
            // A range that cannot be registered makes the later scan fail, which counts it as written.
            before(start, end);
        }
    }

    /// The same for shared memory. `known`: this process follows it already. A page that is not in its tables is marked too: else
    /// to read it for the first time would look like a write.
    fn protect_shared(&self, (start, end): (u64, u64), known: bool, before: &mut impl FnMut(u64, u64)) {
        if !known && self.register(start, end).is_err()
            || take_shared(self.pagemap, start, end, before).is_err()
        {
            before(start, end);
        }
    }

    /// # Safety
    /// The range is guest memory of this process.
    unsafe fn scan_into(&self, start: u64, end: u64, shared: bool, out: &mut [[u64; 3]]) -> Host<u64> {
        // A private page that is still its file's was not written.
        let (inverted, mask) = match shared {
            true => (0, IS_WRITTEN),
            false => (IS_FILE, IS_WRITTEN | IS_FILE),
        };
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags: CHECK_WPASYNC,
            start,
            end,
            vec: out.as_mut_ptr() as u64,
            vec_len: out.len() as u64,
            category_inverted: inverted,
            category_mask: mask,
            category_anyof_mask: IS_PRESENT | IS_SWAPPED,
            return_mask: IS_WRITTEN,
            ..ScanArg::default()
        };
        // SAFETY: `arg` and `out` are valid for writes.
        unsafe { sys!(libc::SYS_ioctl, self.pagemap, PAGEMAP_SCAN, &raw mut arg) }
    }

    /// Calls `found(start, end)` for every run of pages of `[start, end)` written since
    /// [`Tracker::protect`]; the whole range if that is not known. `shared`: it is shared memory.
    pub fn written(&self, start: u64, end: u64, shared: bool, mut found: impl FnMut(u64, u64)) {
        let mut at = start;
        let mut found_to = |from, to| {
            found(from, to);
            at = to;
        };
        let scanned = scan_all(start, end, &mut { ALL }, &mut found_to, |from, runs, _| {
            // SAFETY: guest memory by contract of the caller.
            unsafe { self.scan_into(from, end, shared, runs) }
        });
        if scanned.is_err() {
            found(at, end);
        }
    }
}

/// As many pages as there are.
pub const ALL: u64 = u64::MAX;

/// Calls `found` for every run of pages of `[start, end)` that `scan` puts into its second argument, from the address
/// in its first on; it returns how many. No more pages than `left`, the third argument, which becomes less by those that were found.
/// Returns the address up to which it came.
fn scan_all(
    start: u64,
    end: u64,
    left: &mut u64,
    found: &mut impl FnMut(u64, u64),
    scan: impl Fn(u64, &mut [[u64; 3]], u64) -> Host<u64>,
) -> Host<u64> {
    let mut at = start;
    while at < end && *left > 0 {
        let mut runs = [[0u64; 3]; 256];
        match scan(at, &mut runs, *left) {
            Ok(n) => {
                let n = n as usize;
                for r in &runs[..n] {
                    found(r[0], r[1]);
                }
                if *left != ALL {
                    let pages: u64 = runs[..n].iter().map(|r| (r[1] - r[0]) / PAGE).sum();
                    *left = left.saturating_sub(pages);
                }
                // walk_end can be stale: fewer runs than fit, and pages, means that the scan is complete, and otherwise it
                // stopped somewhere behind the last run.
                if n < runs.len() && *left > 0 {
                    return Ok(end);
                }
                if n > 0 {
                    at = runs[n - 1][1].max(at + PAGE);
                }
            }
            Err(HostErr(libc::EINTR)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(at)
}

/// Pages of any process, by its opened pagemap.
pub struct Scanner(std::fs::File);

impl Scanner {
    /// Of the process whose /proc/PID/pagemap this is.
    pub fn new(pagemap: std::fs::File) -> Scanner {
        Scanner(pagemap)
    }

    /// Its descriptor.
    pub fn fd(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.0.as_raw_fd()
    }

    /// Calls `found(start, end)` for runs of pages of `[start, end)` that exist and are no file's.
    pub fn own(&self, start: u64, end: u64, mut found: impl FnMut(u64, u64)) -> Host<()> {
        let all = scan_all(start, end, &mut { ALL }, &mut found, |from, runs, _| {
            let mut arg = ScanArg {
                size: size_of::<ScanArg>() as u64,
                start: from,
                end,
                vec: runs.as_mut_ptr() as u64,
                vec_len: runs.len() as u64,
                category_inverted: IS_FILE,
                category_mask: IS_FILE,
                category_anyof_mask: IS_PRESENT | IS_SWAPPED,
                return_mask: IS_PRESENT,
                ..ScanArg::default()
            };
            // SAFETY: `arg` and `runs` are valid for writes.
            unsafe { sys!(libc::SYS_ioctl, self.fd(), PAGEMAP_SCAN, &raw mut arg) }
        });
        all.map(drop)
    }
}

/// Registers a range with the userfaultfd of the process that it belongs to.
pub fn register(uffd: i32, start: u64, end: u64) -> Host<()> {
    let mut reg = [start, end - start, MODE_WP, 0];
    // SAFETY: the range is guest memory; asynchronous protection changes no contents.
    unsafe { sys!(libc::SYS_ioctl, uffd, UFFDIO_REGISTER, reg.as_mut_ptr()) }.map(drop)
}

/// Takes all marks of a registered range away: each of its pages counts as written. Marks that were left on while it was not
/// registered would hide what is written.
pub fn unmark(uffd: i32, start: u64, end: u64) -> Host<()> {
    let mut wp = [start, end - start, 0];
    // SAFETY: the range is guest memory; no contents change.
    unsafe { sys!(libc::SYS_ioctl, uffd, UFFDIO_WRITEPROTECT, wp.as_mut_ptr()) }.map(drop)
}

/// Calls `found` for runs of pages of `[start, end)` that were written since the last time, and
/// protects them, in one step. On an error the whole range counts as written: what was found up to
/// there may be lost.
pub fn take_written(pagemap: i32, start: u64, end: u64, found: &mut impl FnMut(u64, u64)) -> Host<()> {
    take_some(pagemap, start, end, false, &mut { ALL }, found).map(drop)
}

/// The same, but for no more pages than `left`, which becomes less by those that were found. `every`: also those that were not
/// written. Returns the address up to which all was found.
pub fn take_some(
    pagemap: i32,
    start: u64,
    end: u64,
    every: bool,
    left: &mut u64,
    found: &mut impl FnMut(u64, u64),
) -> Host<u64> {
    let own = ScanArg {
        // A file's own pages are not the process'.
        category_inverted: IS_FILE,
        category_mask: if every { IS_FILE } else { IS_WRITTEN | IS_FILE },
        category_anyof_mask: IS_PRESENT | IS_SWAPPED,
        ..ScanArg::default()
    };
    take(pagemap, start, end, left, &own, found)
}

/// The same for shared memory, whose pages are a file's: a page that this process has not in its tables counts as written
/// once (it may have been written before it left them), and again only when it was.
pub fn take_shared(pagemap: i32, start: u64, end: u64, found: &mut impl FnMut(u64, u64)) -> Host<()> {
    take(pagemap, start, end, &mut { ALL }, &ANY, found).map(drop)
}

/// What [`take_shared`] would find, but the marks stay, and no page tables are made for what is not there.
pub fn see_shared(pagemap: i32, start: u64, end: u64, found: &mut impl FnMut(u64, u64)) -> Host<()> {
    scan(pagemap, CHECK_WPASYNC, (start, end), &mut { ALL }, &ANY, found).map(drop)
}

/// The same as [`take_some`] for anonymous memory of which every page is there: the host searches it ten times faster. A
/// page that has gone since counts as written, once.
pub fn take_full(
    pagemap: i32,
    start: u64,
    end: u64,
    left: &mut u64,
    found: &mut impl FnMut(u64, u64),
) -> Host<u64> {
    take(pagemap, start, end, left, &ANY, found)
}

/// Whatever counts as written.
const ANY: ScanArg = ScanArg {
    size: 0,
    flags: 0,
    start: 0,
    end: 0,
    walk_end: 0,
    vec: 0,
    vec_len: 0,
    max_pages: 0,
    category_inverted: 0,
    category_mask: IS_WRITTEN,
    category_anyof_mask: 0,
    return_mask: 0,
};

fn take(
    pagemap: i32,
    start: u64,
    end: u64,
    left: &mut u64,
    which: &ScanArg,
    found: &mut impl FnMut(u64, u64),
) -> Host<u64> {
    let flags = WP_MATCHING | CHECK_WPASYNC;
    scan(pagemap, flags, (start, end), left, which, found)
}

fn scan(
    pagemap: i32,
    flags: u64,
    (start, end): (u64, u64),
    left: &mut u64,
    which: &ScanArg,
    found: &mut impl FnMut(u64, u64),
) -> Host<u64> {
    scan_all(start, end, left, found, |from, runs, most| {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags,
            start: from,
            end,
            vec: runs.as_mut_ptr() as u64,
            vec_len: runs.len() as u64,
            // 0: all.
            max_pages: if most == ALL { 0 } else { most },
            return_mask: IS_WRITTEN,
            ..*which
        };
        // SAFETY: `arg` and `runs` are valid for writes.
        unsafe { sys!(libc::SYS_ioctl, pagemap, PAGEMAP_SCAN, &raw mut arg) }
    })
}

/// /proc/self/pagemap, opened.
pub struct Pagemap(i32);

/// Opens it.
pub fn pagemap() -> Host<Pagemap> {
    let path = c"/proc/self/pagemap";
    // SAFETY: a C string.
    unsafe { sys!(libc::SYS_open, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }
        .map(|fd| Pagemap(fd as i32))
}

impl Pagemap {
    /// Calls `found` for runs of pages of `[start, end)` that hold something; for the whole range if
    /// that is not known.
    pub fn populated(&self, start: u64, end: u64, mut found: impl FnMut(u64, u64)) {
        let mut at = start;
        while at < end {
            let mut runs = [[0u64; 3]; 256];
            let mut arg = ScanArg {
                size: size_of::<ScanArg>() as u64,
                start: at,
                end,
                vec: runs.as_mut_ptr() as u64,
                vec_len: runs.len() as u64,
                category_anyof_mask: IS_PRESENT | IS_SWAPPED,
                return_mask: IS_PRESENT,
                ..ScanArg::default()
            };
            // SAFETY: `arg` and `runs` are valid for writes.
            match unsafe { sys!(libc::SYS_ioctl, self.0, PAGEMAP_SCAN, &raw mut arg) } {
                Ok(n) => {
                    let n = n as usize;
                    for r in &runs[..n] {
                        found(r[0], r[1]);
                    }
                    if n < runs.len() {
                        return;
                    }
                    at = runs[n - 1][1].max(at + PAGE);
                }
                Err(HostErr(libc::EINTR)) => {}
                Err(_) => return found(at, end),
            }
        }
    }
}

impl Drop for Pagemap {
    fn drop(&mut self) {
        // SAFETY: our descriptor.
        let _ = unsafe { sys!(libc::SYS_close, self.0) };
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        close(self.uffd, self.pagemap);
    }
}

/// Descriptors of a tracker that is used no more.
fn close(uffd: i32, pagemap: i32) {
    // SAFETY: our descriptors.
    unsafe {
        let _ = sys!(libc::SYS_close, uffd);
        let _ = sys!(libc::SYS_close, pagemap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    const PROT: i32 = libc::PROT_READ | libc::PROT_WRITE;

    fn tracker() -> Option<Tracker> {
        let t = Tracker::new().ok();
        if t.is_none() {
            eprintln!("this host's Linux is older than 6.7");
        }
        t
    }

    fn map(pages: u64) -> u64 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory.
        unsafe { sys::mmap(0, pages * PAGE, PROT, flags, -1, 0) }.expect("memory")
    }

    fn write(at: u64, page: u64) {
        // SAFETY: mapped by the test.
        unsafe { ((at + page * PAGE) as *mut u8).write_volatile(7) };
    }

    fn taken(t: &Tracker, at: u64, pages: u64) -> Host<Vec<u64>> {
        let mut out = Vec::new();
        take_written(t.pagemap(), at, at + pages * PAGE, &mut |s, e| {
            out.extend((s..e).step_by(PAGE as usize).map(|x| (x - at) / PAGE));
        })
        .map(|()| out)
    }

    /// A range of 64 pages that is followed, all written and taken; and 16 pages that were never written, moved to its end.
    fn neighbours(t: &Tracker, unregister: bool) -> u64 {
        let at = map(64 + 16 + 64);
        // Nothing of another test comes to lie there, and what is moved there replaces it.
        // SAFETY: the test's own memory.
        unsafe { sys!(libc::SYS_mprotect, at + 64 * PAGE, 80 * PAGE, libc::PROT_NONE) }.expect("kept");
        t.register(at, at + 64 * PAGE).expect("registered");
        (0..64).for_each(|p| write(at, p));
        assert_eq!(taken(t, at, 64).map(|p| p.len()), Ok(64));
        let other = map(16);
        t.register(other, other + 16 * PAGE).expect("registered");
        if unregister {
            t.unregister(other, other + 16 * PAGE);
        }
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both places are the test's.
        unsafe {
            sys!(
                libc::SYS_mremap,
                other,
                16 * PAGE,
                16 * PAGE,
                flags,
                at + 64 * PAGE
            )
        }
        .expect("moved");
        at
    }

    #[test]
    fn a_neighbour_of_what_was_moved_is_still_followed() {
        let Some(t) = tracker() else { return };
        let at = neighbours(&t, true);
        write(at, 8);
        assert_eq!(taken(&t, at, 64), Ok(vec![8]));
        write(at, 8);
        write(at, 9);
        assert_eq!(taken(&t, at, 64), Ok(vec![8, 9]));
    }

    #[test]
    fn marks_of_a_range_that_was_not_followed_hide_nothing() {
        let Some(t) = tracker() else { return };
        let at = neighbours(&t, false);
        write(at, 8);
        if taken(&t, at, 64) == Ok(vec![8]) {
            // A Linux that keeps the two apart.
            return;
        }
        t.register(at, at + 64 * PAGE).expect("registered");
        unmark(t.uffd(), at, at + 64 * PAGE).expect("unmarked");
        assert_eq!(taken(&t, at, 64).map(|p| p.len()), Ok(64));
        write(at, 8);
        assert_eq!(taken(&t, at, 64), Ok(vec![8]));
    }
}
