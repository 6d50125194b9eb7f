//! Which pages a snapshot holds, where, and with which hash: disjoint runs in order.

use super::{Hash, MAX_PAGE, Object, PAGE_LEN, SEAL_OVERHEAD, SnapError};
use std::collections::BTreeMap;

/// Most pages of a record: what must be decompressed to have one page.
pub const RECORD_PAGES: usize = 64;

/// Most bytes of a record in the file: compressed data that does not shrink is stored as it is.
pub(super) const RECORD_MAX: usize = RECORD_PAGES * PAGE_LEN + SEAL_OVERHEAD;

/// Most bytes of an index: 32 bytes a page, so 128 GiB of pages.
pub(super) const INDEX_MAX: u64 = 1 << 30;

/// Where pages with content are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the file as they are, from this offset (a multiple of 4096) on.
    Raw {
        /// Of the first page.
        offset: u64,
    },
    /// In a record, which is read as a whole.
    Record {
        /// Of the record.
        offset: u64,
        /// Its bytes in the file.
        stored: u32,
        /// Pages in it.
        pages: u32,
        /// Pages before the first of the run.
        skip: u32,
        /// Compressed by zstd.
        zstd: bool,
    },
    /// In the page store, by hash.
    External,
}

/// What is known of the pages of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// They have content, and a hash each.
    Data(Place),
    /// They are zero, also where a file is mapped.
    Zero,
    /// They are absent again (incremental snapshots only).
    Dropped,
}

/// Pages of one object with one state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Whose.
    pub object: Object,
    /// Index of the first page.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// What they are.
    pub state: State,
    /// Where the first page's hash is in the index.
    pub(super) hash_at: usize,
}

impl Run {
    /// Index of the page behind the last.
    pub fn end(&self) -> u64 {
        self.first + self.count
    }

    /// Without its first `n` pages.
    pub(super) fn tail(mut self, n: u64) -> Run {
        self.first += n;
        self.count -= n;
        if let State::Data(place) = &mut self.state {
            self.hash_at += n as usize;
            match place {
                Place::Raw { offset } => *offset += n * PAGE_LEN as u64,
                Place::Record { skip, .. } => *skip += n as u32,
                Place::External => {}
            }
        }
        self
    }

    /// Only its first `n` pages.
    pub(super) fn head(mut self, n: u64) -> Run {
        self.count = n;
        self
    }

    /// True if `next` goes on where this ends, so that both can be one run.
    fn joins(&self, next: &Run) -> bool {
        self.object == next.object && self.end() == next.first && {
            let rest = Run {
                count: self.count + next.count,
                ..*self
            }
            .tail(self.count);
            rest == *next
        }
    }
}

/// The index of one snapshot, or of a chain of them.
#[derive(Clone, Default, Debug)]
pub(super) struct Index {
    runs: BTreeMap<(Object, u64), Run>,
    /// Hashes of pages with content. Those of pages that were pushed again stay as garbage.
    hashes: Vec<Hash>,
}

impl Index {
    /// Says what a run of pages is; what was known of them is forgotten. Hashes must have been added.
    pub fn set(&mut self, run: Run) {
        let (object, first, end) = (run.object, run.first, run.end());
        assert!(
            run.count > 0 && end <= MAX_PAGE,
            "pages {first:#x}..{end:#x} of the {object}"
        );
        let before = self.runs.range(..(object, first)).next_back().map(|(_, r)| *r);
        if let Some(old) = before.filter(|r| r.object == object && r.end() > first) {
            self.runs.insert((object, old.first), old.head(first - old.first));
            if old.end() > end {
                self.runs.insert((object, end), old.tail(end - old.first));
            }
        }
        while let Some((&key, &old)) = self.runs.range((object, first)..(object, end)).next() {
            self.runs.remove(&key);
            if old.end() > end {
                self.runs.insert((object, end), old.tail(end - old.first));
            }
        }
        self.runs.insert((object, first), run);
    }

    /// Adds hashes; where the first of them is.
    pub fn add_hashes(&mut self, hashes: impl IntoIterator<Item = Hash>) -> usize {
        let at = self.hashes.len();
        self.hashes.extend(hashes);
        at
    }

    /// Adds `n` hashes, which `fill` puts into their places; where the first of them is.
    pub fn add_filled(&mut self, n: usize, fill: impl FnOnce(&mut [Hash])) -> usize {
        let at = self.hashes.len();
        self.hashes.resize(at + n, Hash::default());
        fill(&mut self.hashes[at..]);
        at
    }

    /// Hashes of a run with content.
    pub fn hashes(&self, run: &Run) -> &[Hash] {
        &self.hashes[run.hash_at..run.hash_at + run.count as usize]
    }

    /// The run that holds a page, from that page on.
    pub fn find(&self, object: Object, index: u64) -> Option<Run> {
        let (_, run) = self.runs.range(..=(object, index)).next_back()?;
        (run.object == object && run.end() > index).then(|| run.tail(index - run.first))
    }

    /// The next run of an object from a page on, or the rest of the one that holds it.
    pub fn next(&self, object: Object, index: u64) -> Option<Run> {
        let behind = || {
            let (_, run) = self.runs.range((object, index)..).next()?;
            (run.object == object).then_some(*run)
        };
        self.find(object, index).or_else(behind)
    }

    /// All runs in order; neighbours that go on are one.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        let mut all = self.runs.values().copied().peekable();
        std::iter::from_fn(move || {
            let mut run = all.next()?;
            while let Some(next) = all.next_if(|n| run.joins(n)) {
                run.count += next.count;
            }
            Some(run)
        })
    }

    /// Keeps the runs for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&Run) -> bool) {
        self.runs.retain(|_, r| keep(r));
    }

    /// Pages with content.
    pub fn data_pages(&self) -> u64 {
        let data = |r: &&Run| matches!(r.state, State::Data(_));
        self.runs.values().filter(data).map(|r| r.count).sum()
    }

    /// Feeds what the index says to a hash: names, states and contents of pages, not their places. Where
    /// runs are split does not matter: a stretch of pages with one state is named where it begins and ends.
    pub fn identify(&self, h: &mut blake3::Hasher) {
        // One update for many pages: the hash is fast on long input only.
        let mut buf: Vec<u8> = Vec::with_capacity(64 * 1024);
        let mut open: Option<(u8, Object, u64)> = None;
        for run in self.runs() {
            let kind = match run.state {
                State::Data(_) => 0,
                State::Zero => 1,
                State::Dropped => 2,
            };
            if open != Some((kind, run.object, run.first)) {
                end_stretch(&mut buf, open);
                let (object, number) = run.object.code();
                buf.extend_from_slice(&[kind, object]);
                buf.extend_from_slice(&number.to_le_bytes());
                buf.extend_from_slice(&run.first.to_le_bytes());
            }
            open = Some((kind, run.object, run.end()));
            if kind == 0 {
                for part in self.hashes(&run).chunks(1024) {
                    buf.extend_from_slice(part.as_flattened());
                    h.update(&buf);
                    buf.clear();
                }
            }
        }
        end_stretch(&mut buf, open);
        h.update(&buf);
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.hashes.len() * 32 + self.runs.len() * 64);
        for run in self.runs() {
            let (object, number) = run.object.code();
            let kind = match run.state {
                State::Data(Place::Raw { .. }) => 0,
                State::Data(Place::Record { zstd: false, .. }) => 1,
                State::Data(Place::Record { zstd: true, .. }) => 2,
                State::Data(Place::External) => 3,
                State::Zero => 4,
                State::Dropped => 5,
            };
            out.extend_from_slice(&[kind, object]);
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&run.first.to_le_bytes());
            out.extend_from_slice(&run.count.to_le_bytes());
            let State::Data(place) = run.state else {
                continue;
            };
            match place {
                Place::Raw { offset } => out.extend_from_slice(&offset.to_le_bytes()),
                Place::Record {
                    offset,
                    stored,
                    pages,
                    skip,
                    ..
                } => {
                    out.extend_from_slice(&offset.to_le_bytes());
                    for v in [stored, pages, skip] {
                        out.extend_from_slice(&v.to_le_bytes());
                    }
                }
                Place::External => {}
            }
            out.extend_from_slice(self.hashes(&run).as_flattened());
        }
        out
    }

    /// Reads and checks an index of a file whose pages end at `limits.end`.
    pub fn decode(mut src: &[u8], limits: Limits) -> Result<Index, SnapError> {
        let mut index = Index::default();
        index.hashes.reserve_exact(src.len() / 32);
        let damaged = |why| SnapError::Damaged { part: "index", why };
        let mut last: Option<Run> = None;
        while !src.is_empty() {
            let run = take_run(&mut src, &limits, index.hashes.len()).map_err(damaged)?;
            if last.is_some_and(|l| (l.object, l.end()) > (run.object, run.first)) {
                return Err(damaged("its runs overlap or are out of order"));
            }
            if let State::Data(_) = run.state {
                // `take_run` has checked that they are there.
                let (hashes, rest) = src.split_at(run.count as usize * 32);
                let (hashes, _) = hashes.as_chunks::<32>();
                index.hashes.extend_from_slice(hashes);
                src = rest;
            }
            index.runs.insert((run.object, run.first), run);
            last = Some(run);
        }
        Ok(index)
    }
}

/// A mark that begins no stretch, and its end.
fn end_stretch(buf: &mut Vec<u8>, open: Option<(u8, Object, u64)>) {
    if let Some((_, _, end)) = open {
        buf.push(0xff);
        buf.extend_from_slice(&end.to_le_bytes());
    }
}

/// What a file's index may say.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// First byte behind the pages.
    pub end: u64,
    pub incremental: bool,
    pub external: bool,
    pub encrypted: bool,
    pub compressed: bool,
}

fn take<const N: usize>(src: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (head, rest) = src.split_first_chunk::<N>().ok_or("it ends in a run")?;
    *src = rest;
    Ok(*head)
}

fn take_u32(src: &mut &[u8]) -> Result<u32, &'static str> {
    take(src).map(u32::from_le_bytes)
}

fn take_u64(src: &mut &[u8]) -> Result<u64, &'static str> {
    take(src).map(u64::from_le_bytes)
}

fn take_run(src: &mut &[u8], limits: &Limits, hash_at: usize) -> Result<Run, &'static str> {
    let [kind, object] = take::<2>(src)?;
    let object = Object::from_code(object, take_u32(src)?).ok_or("it names an object that there is not")?;
    let (first, count) = (take_u64(src)?, take_u64(src)?);
    if count == 0 || first.checked_add(count).is_none_or(|end| end > MAX_PAGE) {
        return Err("a run of no pages, or of pages that no process has");
    }
    let state = match kind {
        0 => {
            let offset = take_u64(src)?;
            let end = count
                .checked_mul(PAGE_LEN as u64)
                .and_then(|len| offset.checked_add(len));
            if offset < super::HEADER_LEN as u64
                || offset % PAGE_LEN as u64 != 0
                || end.is_none_or(|e| e > limits.end)
                || limits.encrypted
            {
                return Err("pages lie outside the file, or not as this file keeps them");
            }
            State::Data(Place::Raw { offset })
        }
        1 | 2 => {
            let offset = take_u64(src)?;
            let [stored, pages, skip] = [take_u32(src)?, take_u32(src)?, take_u32(src)?];
            let fits = offset >= super::HEADER_LEN as u64
                && stored as usize <= RECORD_MAX
                && offset
                    .checked_add(u64::from(stored))
                    .is_some_and(|e| e <= limits.end)
                && pages as usize <= RECORD_PAGES
                && count
                    .checked_add(u64::from(skip))
                    .is_some_and(|n| n <= u64::from(pages));
            if !fits || !(limits.encrypted || limits.compressed) || (kind == 2 && !limits.compressed) {
                return Err("a record lies outside the file, or is not as this file keeps them");
            }
            State::Data(Place::Record {
                offset,
                stored,
                pages,
                skip,
                zstd: kind == 2,
            })
        }
        3 if limits.external => State::Data(Place::External),
        4 => State::Zero,
        5 if limits.incremental => State::Dropped,
        _ => return Err("a run of a kind that this file cannot hold"),
    };
    if matches!(state, State::Data(_)) && count > src.len() as u64 / 32 {
        return Err("it ends in a run");
    }
    let hash_at = if matches!(state, State::Data(_)) {
        hash_at
    } else {
        0
    };
    Ok(Run {
        object,
        first,
        count,
        state,
        hash_at,
    })
}
