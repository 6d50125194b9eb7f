//! Copying an image while it runs: the side of whoever asks, outside the image's processes.
//!
//! A guest process has one host thread, so the copier is a thread of the supervisor: it reads other processes' memory, has a
//! heap of its own, no guest state in its vector registers and all the time it wants, on another core if there is one. What
//! it reads while the image runs may be torn or gone; then the page is on a later list (`snap::rounds`).
//!
//! The arena and the page store are mapped by all processes of the image, each with marks of its own: they are compared
//! with a copy of what was given last.

use super::rounds::Round;
use super::{Object, Sink, capture};
use ftl_core::layout::PAGE;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

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
    fn set(&mut self, n: u64, on: bool) {
        let (word, bit) = (&mut self.have[n as usize / 64], 1 << (n % 64));
        match on {
            true => *word |= bit,
            false => *word &= !bit,
        }
    }
}

/// Arena or page store.
struct Shared {
    object: Object,
    file: Option<File>,
    last: BTreeMap<u64, Piece>,
}

impl Shared {
    fn new(object: Object) -> Shared {
        Shared {
            object,
            file: None,
            last: BTreeMap::new(),
        }
    }

    /// Gives what differs from what was given last. Returns the pages.
    fn round(&mut self, buf: &mut [u8], sink: &mut dyn Sink) -> Result<u64, String> {
        let Some(file) = self.file.take() else {
            return Ok(0);
        };
        let given = self.round_of(&file, buf, sink);
        self.file = Some(file);
        given
    }

    fn round_of(&mut self, file: &File, buf: &mut [u8], sink: &mut dyn Sink) -> Result<u64, String> {
        let mut runs = Vec::new();
        let mut at = 0;
        while let Some((start, end)) = capture::next_data(file.as_raw_fd(), at) {
            runs.push((start / PAGE, end.div_ceil(PAGE)));
            at = end;
        }
        self.drop_holes(&runs, sink)?;
        let mut given = 0;
        for (start, end) in runs {
            let mut page = start;
            while page < end {
                let to = end.min((page / PIECE_PAGES + 1) * PIECE_PAGES);
                let bytes = &mut buf[..((to - page) * PAGE) as usize];
                file.read_exact_at(bytes, page * PAGE)
                    .map_err(|e| format!("reading the {}: {e}", self.object))?;
                let piece = self.last.entry(page / PIECE_PAGES).or_insert_with(Piece::new);
                given += compare(self.object, page, bytes, piece, sink)?;
                page = to;
            }
        }
        Ok(given)
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
        let differs = n < pages
            && (!piece.has(inside as u64)
                || piece.bytes[at(inside)..at(inside + 1)] != bytes[at(n)..at(n + 1)]);
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
            arena: Shared::new(Object::Arena),
            store: Shared::new(Object::Store),
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
        let shared = self.arena.round(&mut self.buf, sink)? + self.store.round(&mut self.buf, sink)?;
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
                        Err(_) if !standing => continue,
                        Err(e) => return Err(format!("{path}: {e}")),
                    }
                }
            };
            for (start, end) in &found.runs {
                given.pages += read(memory, *start, *end, standing, &mut self.buf, object, sink)?;
            }
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

/// Gives a process' memory in `[start, end)`. What cannot be read of one that runs is left out: it was unmapped since it
/// was listed, which the next list says.
fn read(
    memory: &File,
    start: u64,
    end: u64,
    standing: bool,
    buf: &mut [u8],
    object: Object,
    sink: &mut dyn Sink,
) -> Result<u64, String> {
    let (mut at, mut given) = (start, 0);
    while at < end {
        let want = (end - at).min(buf.len() as u64) as usize;
        match memory.read_at(&mut buf[..want], at) {
            Ok(n) if n >= PAGE as usize => {
                let n = n - n % PAGE as usize;
                sink.pages(object, at / PAGE, &buf[..n])?;
                given += n as u64 / PAGE;
                at += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) if !standing => at += PAGE,
            Ok(_) => return Err(format!("memory of {object} at {at:#x}: its process has ended")),
            Err(e) => return Err(format!("memory of {object} at {at:#x}: {e}")),
        }
    }
    Ok(given)
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

    #[test]
    fn a_memory_file_is_followed_by_comparing() {
        use std::os::fd::FromRawFd;
        let fd = crate::sys::memfd(c"ftvm-test", 64 << 20).expect("memory");
        // SAFETY: a new descriptor.
        let file = unsafe { File::from_raw_fd(fd) };
        let mut s = Shared::new(Object::Store);
        s.file = Some(file.try_clone().expect("a copy"));
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
            s.round(&mut buf, &mut got).expect("a round");
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
