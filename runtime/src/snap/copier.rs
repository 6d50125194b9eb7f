//! Copying an image while it runs: the side of whoever asks, outside the image's processes.
//!
//! A guest process has one host thread, so the copier is a thread of the supervisor: it reads other processes' memory, has a
//! heap of its own, no guest state in its vector registers and all the time it wants, on another core if there is one. What
//! it reads while the image runs may be torn or gone; then the page is on a later list (`snap::rounds`).
//!
//! The arena and the page store are mapped by all processes of the image, each with marks of its own. What some of them has marked,
//! or all if marks were lost, is compared with a copy of what was given last. Now and then all is: what has changed then must be
//! marked in the next look.

use super::changes::common;
use super::rounds::Round;
use super::shared::{CHECK_MARKS, MARKS_WRONG};
use super::{Object, Sink, capture};
use ftl_core::layout::PAGE;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Pages of a piece.
const PIECE_PAGES: u64 = 256;
const PIECE: u64 = PIECE_PAGES * PAGE;

/// What a round has given.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Given {
    /// Pages.
    pub pages: u64,
    /// Of those, pages of the arena and the page store.
    pub shared: u64,
}

/// Pages of a memory file as they were given last.
struct Piece {
    bytes: Box<[u8]>,
    /// Bit n: page n was given and is not gone.
    have: [u64; PIECE_PAGES as usize / 64],
}

impl Piece {
    fn new() -> Piece {
        Piece {
            bytes: vec![0; PIECE as usize].into(),
            have: [0; PIECE_PAGES as usize / 64],
        }
    }
    fn has(&self, n: u64) -> bool {
        self.have[n as usize / 64] >> (n % 64) & 1 != 0
    }
    /// Page n was given as this.
    fn is(&self, n: u64, page: &[u8]) -> bool {
        let at = (n * PAGE) as usize;
        self.has(n) && self.bytes[at..at + PAGE as usize] == *page
    }
    fn set(&mut self, n: u64, on: bool) {
        let (word, bit) = (&mut self.have[n as usize / 64], 1 << (n % 64));
        match on {
            true => *word |= bit,
            false => *word &= !bit,
        }
    }
}

/// Of the image's shared memory.
static MARKS_ARE_WRONG: AtomicBool = AtomicBool::new(false);

/// Arena or page store.
struct Shared {
    object: Object,
    file: Option<File>,
    last: BTreeMap<u64, Piece>,
    /// Rounds that relied on marks.
    relied: u64,
    /// Pages that were not as they had been given, behind a round: the next look must have a mark of each.
    owed: Vec<u64>,
    /// One had none: marks are not believed any more, neither here nor in the copies that this process makes later.
    wrong: &'static AtomicBool,
}

impl Shared {
    fn new(object: Object, wrong: &'static AtomicBool) -> Shared {
        Shared {
            object,
            file: None,
            last: BTreeMap::new(),
            relied: 0,
            owed: Vec::new(),
            wrong,
        }
    }

    /// Gives what differs from what was given last, where that may be: in parts that are marked, as offsets, or anywhere.
    /// `standing`: nothing changes meanwhile. Returns the pages.
    fn round(
        &mut self,
        marked: Option<&[(u64, u64)]>,
        standing: bool,
        buf: &mut [u8],
        sink: &mut dyn Sink,
    ) -> Result<u64, String> {
        let Some(file) = self.file.take() else {
            return Ok(0);
        };
        let given = self.round_of(&file, marked, standing, buf, sink);
        self.file = Some(file);
        given
    }

    fn round_of(
        &mut self,
        file: &File,
        marked: Option<&[(u64, u64)]>,
        standing: bool,
        buf: &mut [u8],
        sink: &mut dyn Sink,
    ) -> Result<u64, String> {
        let mut runs = Vec::new();
        let mut at = 0;
        while let Some((start, end)) = capture::next_data(file.as_raw_fd(), at) {
            runs.push((start / PAGE, end.div_ceil(PAGE)));
            at = end;
        }
        self.drop_holes(&runs, sink)?;
        let marked = marked.map(|m| m.iter().map(|(s, e)| (s / PAGE, e.div_ceil(PAGE))).collect());
        let marked = self.believed(marked, &runs);
        let look = match &marked {
            Some(marked) => &common(marked, &runs),
            None => &runs,
        };
        let object = self.object;
        let mut given = 0;
        self.for_pieces(file, look, buf, |first, bytes, piece| {
            given += compare(object, first, bytes, piece, sink)?;
            Ok(())
        })?;
        if marked.is_some() {
            self.relied += 1;
            if self.relied % CHECK_MARKS == 1 && !standing {
                self.owe(file, &runs, buf)?;
            }
        }
        Ok(given)
    }

    /// The marks, if nothing speaks against them. `runs`: what there is.
    fn believed(&mut self, marked: Option<Vec<(u64, u64)>>, runs: &[(u64, u64)]) -> Option<Vec<(u64, u64)>> {
        let owed = std::mem::take(&mut self.owed);
        let marked = marked.filter(|_| !self.wrong.load(Relaxed))?;
        let has = |ranges: &[(u64, u64)], page: u64| {
            let next = ranges.get(ranges.partition_point(|r| r.1 <= page));
            next.is_some_and(|r| r.0 <= page)
        };
        if owed.iter().all(|p| has(&marked, *p) || !has(runs, *p)) {
            return Some(marked);
        }
        self.wrong.store(true, Relaxed);
        crate::talk::warn(MARKS_WRONG);
        None
    }

    /// Notes which pages are not as they were given: they were written since.
    fn owe(&mut self, file: &File, runs: &[(u64, u64)], buf: &mut [u8]) -> Result<(), String> {
        let mut owed = Vec::new();
        self.for_pieces(file, runs, buf, |first, bytes, piece| {
            for (n, page) in bytes.chunks(PAGE as usize).enumerate() {
                if !piece.is(first % PIECE_PAGES + n as u64, page) {
                    owed.push(first + n as u64);
                }
            }
            Ok(())
        })?;
        self.owed = owed;
        Ok(())
    }

    /// Reads runs of pages; calls `f` with the first page of a part of one, its bytes, and what was given of those pages.
    fn for_pieces(
        &mut self,
        file: &File,
        runs: &[(u64, u64)],
        buf: &mut [u8],
        mut f: impl FnMut(u64, &[u8], &mut Piece) -> Result<(), String>,
    ) -> Result<(), String> {
        for (start, end) in runs {
            let mut page = *start;
            while page < *end {
                let to = (*end).min((page / PIECE_PAGES + 1) * PIECE_PAGES);
                let bytes = &mut buf[..((to - page) * PAGE) as usize];
                file.read_exact_at(bytes, page * PAGE)
                    .map_err(|e| format!("reading the {}: {e}", self.object))?;
                f(
                    page,
                    bytes,
                    self.last.entry(page / PIECE_PAGES).or_insert_with(Piece::new),
                )?;
                page = to;
            }
        }
        Ok(())
    }

    /// Pages that were given and are holes now.
    fn drop_holes(&mut self, runs: &[(u64, u64)], sink: &mut dyn Sink) -> Result<(), String> {
        let mut at = 0;
        for (n, piece) in &mut self.last {
            for page in n * PIECE_PAGES..(n + 1) * PIECE_PAGES {
                if !piece.has(page % PIECE_PAGES) {
                    continue;
                }
                while runs.get(at).is_some_and(|(_, end)| *end <= page) {
                    at += 1;
                }
                if runs.get(at).is_none_or(|(start, _)| *start > page) {
                    piece.set(page % PIECE_PAGES, false);
                    sink.gone(self.object, page, 1)?;
                }
            }
        }
        Ok(())
    }
}

/// Gives those of some pages, the first of which is `first`, that `piece` has not as they are now.
fn compare(
    object: Object,
    first: u64,
    bytes: &[u8],
    piece: &mut Piece,
    sink: &mut dyn Sink,
) -> Result<u64, String> {
    let (mut given, mut run) = (0, None::<usize>);
    let pages = bytes.len() / PAGE as usize;
    let at = |n: usize| n * PAGE as usize;
    for n in 0..=pages {
        let inside = (first % PIECE_PAGES) as usize + n;
        let differs = n < pages && !piece.is(inside as u64, &bytes[at(n)..at(n + 1)]);
        if differs {
            piece.bytes[at(inside)..at(inside + 1)].copy_from_slice(&bytes[at(n)..at(n + 1)]);
            piece.set(inside as u64, true);
            run.get_or_insert(n);
        } else if let Some(from) = run.take() {
            sink.pages(object, first + from as u64, &bytes[at(from)..at(n)])?;
            given += (n - from) as u64;
        }
    }
    Ok(given)
}

/// See the module. One for each copy of an image.
pub struct Copier {
    arena: Shared,
    store: Shared,
    /// Memory of the process behind each space, with its host pid.
    spaces: BTreeMap<u32, (u32, File)>,
    buf: Vec<u8>,
}

impl Copier {
    /// Nothing was given yet.
    pub fn new() -> Copier {
        Copier {
            arena: Shared::new(Object::Arena, &MARKS_ARE_WRONG),
            store: Shared::new(Object::Store, &MARKS_ARE_WRONG),
            spaces: BTreeMap::new(),
            buf: vec![0; PIECE as usize],
        }
    }

    /// Gives what a look has listed, and what has changed in the arenas. `standing`: the image stands still, so all of it
    /// must be readable.
    pub fn round(&mut self, round: &Round, standing: bool, sink: &mut dyn Sink) -> Result<Given, String> {
        for (shared, fd) in [(&mut self.arena, round.fds.0), (&mut self.store, round.fds.1)] {
            if shared.file.is_none() {
                shared.file = Some(open_shared(round, fd)?);
            }
        }
        let marked = |n: usize| round.shared.as_ref().map(|s| s[n].as_slice());
        let shared = self.arena.round(marked(0), standing, &mut self.buf, sink)?
            + self.store.round(marked(1), standing, &mut self.buf, sink)?;
        let left: Vec<u32> = self.spaces.keys().copied().collect();
        for id in left {
            if !round.spaces.iter().any(|(n, _)| *n == id) {
                self.spaces.remove(&id);
                sink.gone(Object::Space(id), 0, ftl_core::layout::GUEST_TOP / PAGE)?;
            }
        }
        let mut given = Given {
            pages: shared,
            shared,
        };
        for (id, found) in &round.spaces {
            let object = Object::Space(*id);
            for (start, end) in &found.gone {
                sink.gone(object, start / PAGE, (end - start) / PAGE)?;
            }
            let memory = match self.spaces.get(id) {
                Some((pid, file)) if *pid == found.pid => file,
                _ => {
                    let path = format!("/proc/{}/mem", found.pid);
                    match File::open(&path) {
                        Ok(file) => {
                            &self
                                .spaces
                                .entry(*id)
                                .insert_entry((found.pid, file))
                                .into_mut()
                                .1
                        }
                        // Its process has ended: the next list does not name it.
                        Err(e) if !standing && capture::has_ended(&e) => continue,
                        Err(e) => return Err(format!("{path}: {e}")),
                    }
                }
            };
            let mut from = Memory {
                pid: found.pid,
                file: memory,
                object,
                standing,
                buf: &mut self.buf,
            };
            for_batches(&found.runs, |batch| {
                given.pages += from.give(batch, sink)?;
                Ok(())
            })?;
        }
        Ok(given)
    }
}

/// A descriptor of the image, by any of its processes that is still there: they share one table, and the one that looked may
/// have ended.
fn open_shared(round: &Round, fd: i32) -> Result<File, String> {
    let me = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap_or_default();
    let others = children.split_whitespace().filter_map(|p| p.parse().ok());
    let mut last = String::new();
    for pid in std::iter::once(round.holder).chain(others) {
        let path = format!("/proc/{pid}/fd/{fd}");
        match File::open(&path) {
            Ok(file) => return Ok(file),
            Err(e) => last = format!("{path}: {e}"),
        }
    }
    Err(last)
}

/// Calls `f` with runs of together at most [`PIECE`] bytes: long ones in parts, short ones several at a time.
fn for_batches(
    runs: &[(u64, u64)],
    mut f: impl FnMut(&[(u64, u64)]) -> Result<(), String>,
) -> Result<(), String> {
    let (mut batch, mut left) = (Vec::new(), PIECE);
    for (start, end) in runs {
        let mut at = *start;
        while at < *end {
            let to = (*end).min(at + left);
            batch.push((at, to));
            left -= to - at;
            at = to;
            if left == 0 {
                f(&batch)?;
                batch.clear();
                left = PIECE;
            }
        }
    }
    match batch.is_empty() {
        true => Ok(()),
        false => f(&batch),
    }
}

/// Memory of the process behind a space.
struct Memory<'a> {
    pid: u32,
    /// Its /proc/PID/mem, which stays that process' when it has ended and its number is another's.
    file: &'a File,
    object: Object,
    standing: bool,
    buf: &'a mut [u8],
}

impl Memory<'_> {
    /// Gives runs of together no more than fit the buffer. What cannot be read of one that runs is left out: it was unmapped
    /// since it was listed, which the next list says.
    fn give(&mut self, runs: &[(u64, u64)], sink: &mut dyn Sink) -> Result<u64, String> {
        if let Some(len) = self.read_at_once(runs) {
            let pages: Vec<_> = runs.iter().map(|(s, e)| (s / PAGE, (e - s) / PAGE)).collect();
            sink.runs(self.object, &pages, &self.buf[..len])?;
            return Ok(len as u64 / PAGE);
        }
        let mut given = 0;
        for (start, end) in runs {
            given += self.give_one(*start, *end, sink)?;
        }
        Ok(given)
    }

    /// Reads all of it by one call, which copies once where the file would copy twice; `None` if some of it cannot be read so.
    fn read_at_once(&mut self, runs: &[(u64, u64)]) -> Option<usize> {
        let iovec = |at: u64, len: u64| libc::iovec {
            iov_base: at as *mut libc::c_void,
            iov_len: len as usize,
        };
        let theirs: Vec<_> = runs.iter().map(|(s, e)| iovec(*s, e - s)).collect();
        let len: usize = theirs.iter().map(|i| i.iov_len).sum();
        let ours = iovec(self.buf[..len].as_mut_ptr() as u64, len as u64);
        let (n, pid) = (theirs.len() as libc::c_ulong, self.pid as libc::pid_t);
        // SAFETY: ours is a buffer that is valid for writes; theirs is another process' memory, which the host checks.
        let read = unsafe { libc::process_vm_readv(pid, &raw const ours, 1, theirs.as_ptr(), n, 0) };
        let at = runs.first()?.0;
        // As long as the process is there its number has not become another's.
        let lives = || matches!(self.file.read_at(&mut [0], at), Ok(1));
        (read == len as isize && lives()).then_some(len)
    }

    fn give_one(&mut self, start: u64, end: u64, sink: &mut dyn Sink) -> Result<u64, String> {
        let (mut at, mut given, object) = (start, 0, self.object);
        while at < end {
            let buf = &mut self.buf[..(end - at) as usize];
            match self.file.read_at(buf, at) {
                Ok(n) if n >= PAGE as usize => {
                    let n = n - n % PAGE as usize;
                    sink.pages(object, at / PAGE, &buf[..n])?;
                    given += n as u64 / PAGE;
                    at += n as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(_) if !self.standing => at += PAGE,
                Err(e) if !self.standing && capture::is_unmapped(&e) => at += PAGE,
                Ok(_) => return Err(format!("memory of {object} at {at:#x}: its process has ended")),
                Err(e) => {
                    return Err(capture::unreadable(
                        &format!("memory of {object}"),
                        self.pid,
                        at,
                        &e,
                    ));
                }
            }
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the receiver has.
    #[derive(Default)]
    struct Pages(BTreeMap<u64, Vec<u8>>, u64);

    impl Sink for Pages {
        fn pages(&mut self, _: Object, first: u64, bytes: &[u8]) -> Result<(), String> {
            for (n, page) in bytes.chunks(PAGE as usize).enumerate() {
                self.0.insert(first + n as u64, page.to_vec());
                self.1 += 1;
            }
            Ok(())
        }
        fn gone(&mut self, _: Object, first: u64, count: u64) -> Result<(), String> {
            (first..first + count).for_each(|n| drop(self.0.remove(&n)));
            Ok(())
        }
    }

    /// A memory file that is followed, and the same by another descriptor.
    fn followed() -> (Shared, File) {
        use std::os::fd::FromRawFd;
        let fd = crate::sys::memfd(c"ftvm-test", 64 << 20).expect("memory");
        // SAFETY: a new descriptor.
        let file = unsafe { File::from_raw_fd(fd) };
        let mut s = Shared::new(Object::Store, Box::leak(Box::new(AtomicBool::new(false))));
        s.file = Some(file.try_clone().expect("a copy"));
        (s, file)
    }

    #[test]
    fn only_what_is_marked_is_compared_until_a_mark_is_missing() {
        let (mut s, file) = followed();
        let (mut got, mut buf) = (Pages::default(), vec![0; PIECE as usize]);
        let write = |page: u64, what: u8| {
            file.write_all_at(&[what; 9], page * PAGE + 7).expect("written");
        };
        let mark = |page: u64| [(page * PAGE, (page + 1) * PAGE)];
        (0..600).for_each(|p| write(p, 1));
        assert_eq!(s.round(None, false, &mut buf, &mut got), Ok(600));
        // The first round that relies on marks looks at all behind it: page 5 is owed.
        write(3, 2);
        write(5, 2);
        assert_eq!(s.round(Some(&mark(3)), false, &mut buf, &mut got), Ok(1));
        assert_eq!(s.round(Some(&mark(5)), false, &mut buf, &mut got), Ok(1));
        assert!(!s.wrong.load(Relaxed));
        // None of these is looked at, till the next check.
        write(300, 2);
        for _ in 0..CHECK_MARKS - 2 {
            assert_eq!(s.round(Some(&[]), false, &mut buf, &mut got), Ok(0));
        }
        // While the image stands all that is missing would be too late, so nothing is looked for.
        assert_eq!(s.round(Some(&[]), true, &mut buf, &mut got), Ok(0));
        assert!(s.owed.is_empty());
        s.relied = 0;
        assert_eq!(s.round(Some(&[]), false, &mut buf, &mut got), Ok(0));
        assert_eq!(s.owed, [300]);
        // It has no mark now: all is compared, here and from now on.
        assert_eq!(s.round(Some(&mark(599)), true, &mut buf, &mut got), Ok(1));
        assert!(s.wrong.load(Relaxed) && got.0[&300][7] == 2);
        write(301, 2);
        assert_eq!(s.round(Some(&[]), false, &mut buf, &mut got), Ok(1));
        // What is a hole by then owes nothing.
        let (mut s, file) = followed();
        file.write_all_at(&[1], 0).expect("written");
        assert_eq!(s.round(None, false, &mut buf, &mut got), Ok(1));
        file.write_all_at(&[2], 0).expect("written");
        assert_eq!(s.round(Some(&[]), false, &mut buf, &mut got), Ok(0));
        assert_eq!(s.owed, [0]);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: our own file.
        let done = unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, PAGE as i64) };
        assert_eq!(done, 0);
        assert_eq!(s.round(Some(&[]), false, &mut buf, &mut got), Ok(0));
        assert!(!s.wrong.load(Relaxed) && !got.0.contains_key(&0));
    }

    #[test]
    fn batches_hold_all_and_no_more_than_fits() {
        let run = |first: u64, pages: u64| (first * PAGE, (first + pages) * PAGE);
        let runs = [
            run(1, 3),
            run(10, PIECE_PAGES * 2 + 1),
            run(2000, PIECE_PAGES - 4),
            run(3000, 1),
        ];
        let mut batches = Vec::new();
        for_batches(&runs, |b| {
            batches.push(b.to_vec());
            Ok(())
        })
        .expect("no error");
        let len = |b: &Vec<(u64, u64)>| b.iter().map(|(s, e)| (e - s) / PAGE).sum::<u64>();
        assert_eq!(batches.iter().map(len).collect::<Vec<_>>(), [256, 256, 256, 1]);
        let all = super::super::capture::merged(batches.concat());
        assert_eq!(all, runs);
    }

    #[test]
    fn memory_of_a_process_is_read_at_once_or_piece_by_piece() {
        let me = std::process::id();
        let file = File::open("/proc/self/mem").expect("our own memory");
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: new memory, of which the test alone knows.
        let at = unsafe { crate::sys::mmap(0, 16 * PAGE, prot, flags, -1, 0) }.expect("memory");
        for n in 0..16 {
            // SAFETY: mapped just now.
            unsafe { ((at + n * PAGE) as *mut u8).write(n as u8 + 1) };
        }
        let mut buf = vec![0; PIECE as usize];
        let run = |first: u64, end: u64| (at + first * PAGE, at + end * PAGE);
        let mut give = |runs: &[(u64, u64)], standing| {
            let mut got = Pages::default();
            let mut from = Memory {
                pid: me,
                file: &file,
                object: Object::Space(1),
                standing,
                buf: &mut buf,
            };
            let given = from.give(runs, &mut got);
            let first = |(n, page): (&u64, &Vec<u8>)| (n - at / PAGE, page[0]);
            (given, got.0.iter().map(first).collect::<Vec<_>>())
        };
        let all = (Ok(3), vec![(0, 1), (3, 4), (4, 5)]);
        assert_eq!(give(&[run(0, 1), run(3, 5)], true), all);
        // Without access it can be read from the file only.
        // SAFETY: the test's own memory.
        let done = unsafe {
            libc::mprotect(
                (at + 3 * PAGE) as *mut libc::c_void,
                PAGE as usize,
                libc::PROT_NONE,
            )
        };
        assert_eq!(done, 0);
        assert_eq!(give(&[run(0, 1), run(3, 5)], true), all);
        // What is not there is left out while the image runs.
        // SAFETY: as above.
        let done = unsafe { libc::munmap((at + 4 * PAGE) as *mut libc::c_void, PAGE as usize) };
        assert_eq!(done, 0);
        assert_eq!(
            give(&[run(0, 1), run(3, 6)], false),
            (Ok(3), vec![(0, 1), (3, 4), (5, 6)])
        );
        assert!(give(&[run(0, 1), run(3, 6)], true).0.is_err());
    }

    #[test]
    fn a_memory_file_is_followed_by_comparing() {
        let (mut s, file) = followed();
        let fd = file.as_raw_fd();
        let (mut got, mut buf) = (Pages::default(), vec![0; PIECE as usize]);
        let mut dice = 1u64;
        for round in 0..40 {
            for _ in 0..20 {
                dice = dice
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let page = (dice >> 33) % 1000;
                if dice >> 20 & 3 == 0 {
                    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                    // SAFETY: our own file.
                    let done = unsafe { libc::fallocate(fd, mode, (page * PAGE) as i64, PAGE as i64) };
                    assert_eq!(done, 0);
                } else {
                    file.write_all_at(&[(dice >> 40) as u8; 5], page * PAGE + 9)
                        .expect("written");
                }
            }
            let before = got.1;
            s.round(None, false, &mut buf, &mut got).expect("a round");
            assert!(
                round == 0 || got.1 - before <= 20,
                "{} pages for 20 writes",
                got.1 - before
            );
            for page in 0..1000 {
                let mut now = vec![0; PAGE as usize];
                file.read_exact_at(&mut now, page * PAGE).expect("read");
                let had = got
                    .0
                    .get(&page)
                    .map_or_else(|| vec![0; PAGE as usize], Clone::clone);
                assert!(had == now, "round {round}, page {page}");
            }
        }
    }
}
