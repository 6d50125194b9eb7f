//! Hash of what a guest address space holds, for `--check-memory`.
//!
//! Every page of every writable mapping counts but pages of zeroes, whether the host has them in
//! memory or not: what the host has populated is not the guest's doing. Shared pages are hashed
//! with the page store, at the image's end: they belong to no space.

use super::OutHash;
use crate::dirty;
use crate::entry;
use crate::sys::sys;
use ftl_core::layout::{GUEST_MIN, GUEST_TOP, PAGE, PAGES, PAGES_LEN, RUNTIME_BLOCK, RUNTIME_BLOCK_END};

/// Tells memory apart from other outputs in the running hash.
pub const TAG: u64 = 5 << 56;

/// Hash of the calling process' guest memory. The caller is on the host side.
pub fn of_space() -> u64 {
    let mut hash = OutHash::default();
    pages_of_space(|at, page| hash.add(at, page));
    hash.hash
}

/// Hash of the page store: shared memory, files of the image. The caller is on the host side.
pub fn of_store(pages_fd: i32) -> u64 {
    let mut hash = OutHash::default();
    shared_pages(pages_fd, |start, end| {
        pages_of(start, end, &mut |at, page| hash.add(at, page));
    });
    hash.hash
}

/// Runs of pages of the page store that hold something.
pub fn shared_pages(fd: i32, mut found: impl FnMut(u64, u64)) {
    let mut at = 0u64;
    while at < PAGES_LEN {
        // SAFETY: only moves the position of our own memfd, which nobody uses.
        let (start, end) = unsafe {
            let Ok(start) = sys!(libc::SYS_lseek, fd, at, libc::SEEK_DATA) else {
                return;
            };
            let Ok(end) = sys!(libc::SYS_lseek, fd, start, libc::SEEK_HOLE) else {
                return;
            };
            (start, end)
        };
        found(PAGES + start, PAGES + end);
        at = end;
    }
}

/// Calls `found` with address and contents of every page that counts, ascending.
pub fn pages_of_space(mut found: impl FnMut(u64, &[u8; PAGE as usize])) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let pagemap = dirty::pagemap().ok();
    for line in maps.lines() {
        let Some((start, end, anonymous)) = guest_range(line) else {
            continue;
        };
        match &pagemap {
            Some(p) if anonymous => p.populated(start, end, |s, e| pages_of(s, e, &mut found)),
            _ => pages_of(start, end, &mut found),
        }
    }
}

/// Start and end of a line of /proc/PID/maps, and whether it is anonymous memory; `None` for what
/// is not counted.
fn guest_range(line: &str) -> Option<(u64, u64, bool)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let guest =
        (start >= GUEST_MIN && end <= RUNTIME_BLOCK) || (start >= RUNTIME_BLOCK_END && end <= GUEST_TOP);
    let private_writable = words
        .next()?
        .as_bytes()
        .get(1..4)
        .is_some_and(|p| p[0] == b'w' && p[2] == b'p');
    let named = words.nth(3).is_some_and(|n| !n.starts_with('['));
    (guest && private_writable).then_some((start, end, !named))
}

/// Pages of `[start, end)` that can be read and hold something but zeroes.
pub fn pages_of(start: u64, end: u64, found: &mut impl FnMut(u64, &[u8; PAGE as usize])) {
    let mut page = [0u8; PAGE as usize];
    for at in (start..end).step_by(PAGE as usize) {
        // SAFETY: only reads; a page that cannot be read ends at the copy's fix-up.
        let left = unsafe { entry::ftl_copy(page.as_mut_ptr() as u64, at, PAGE) };
        if left == 0 && page.iter().any(|b| *b != 0) {
            found(at, &page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::guest_range;

    #[test]
    fn lines_of_maps() {
        let heap = "01000000-01022000 rw-p 00000000 00:00 0                          [heap]";
        assert_eq!(guest_range(heap), Some((0x100_0000, 0x102_2000, true)));
        let data = "7000f0000000-7000f0002000 rw-p 001d0000 fe:00 1234    /usr/lib/libc.so.6";
        assert_eq!(
            guest_range(data),
            Some((0x7000_f000_0000, 0x7000_f000_2000, false))
        );
        let text = "7000f0000000-7000f0002000 r-xp 001d0000 fe:00 1234    /usr/lib/libc.so.6";
        assert_eq!(guest_range(text), None);
        let runtime = "600000000000-600000200000 rw-p 00000000 00:00 0";
        assert_eq!(guest_range(runtime), None);
        assert_eq!(guest_range("garbage"), None);
    }
}
