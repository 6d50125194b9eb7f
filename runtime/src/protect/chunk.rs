//! Pages of a snapshot on the link: runs of pages with content, zero pages, and ranges that are gone.

use crate::snap::{Object, Sink};
use ftl_core::layout::PAGE;

const DATA: u8 = 0;
const GONE: u8 = 1;
/// Bytes before a run.
const HEAD: usize = 24;
/// Bytes of a chunk, about.
pub const CHUNK: usize = 1 << 20;

fn code(object: Object) -> Option<(u8, u32)> {
    match object {
        Object::Arena => Some((1, 0)),
        Object::Store => Some((2, 0)),
        Object::Space(n) => Some((3, n)),
        Object::Runtime | Object::Volumes => None,
    }
}

/// What a run says.
#[derive(Debug, PartialEq, Eq)]
pub enum Run<'a> {
    /// Contents of pages.
    Data(&'a [u8]),
    /// This many pages hold nothing (any more).
    Gone(u64),
}

fn put_head(kind: u8, object: Object, first: u64, count: u64, out: &mut Vec<u8>) {
    let Some((o, n)) = code(object) else { return };
    out.extend([kind, o, 0, 0]);
    out.extend(n.to_le_bytes());
    out.extend(first.to_le_bytes());
    out.extend(count.to_le_bytes());
}

/// Collects pages and gives them on in chunks.
pub struct Chunks<'a> {
    buf: Vec<u8>,
    /// Bytes given on.
    pub total: u64,
    give: &'a mut dyn FnMut(Vec<u8>),
}

impl<'a> Chunks<'a> {
    /// Chunks go to `give`.
    pub fn new(give: &'a mut dyn FnMut(Vec<u8>)) -> Chunks<'a> {
        Chunks {
            buf: Vec::new(),
            total: 0,
            give,
        }
    }

    /// The search for pages takes long: whoever takes the chunks is called with none, and may do something else.
    pub fn breathe(&mut self) {
        (self.give)(Vec::new());
    }

    /// Gives on what is left.
    pub fn finish(&mut self) {
        if !self.buf.is_empty() {
            self.total += self.buf.len() as u64;
            (self.give)(std::mem::take(&mut self.buf));
        }
    }
}

impl Sink for Chunks<'_> {
    fn gone(&mut self, object: Object, first: u64, count: u64) -> Result<(), String> {
        put_head(GONE, object, first, count, &mut self.buf);
        Ok(())
    }

    fn pages(&mut self, object: Object, first: u64, bytes: &[u8]) -> Result<(), String> {
        for (i, part) in bytes.chunks(CHUNK).enumerate() {
            let first = first + (i * CHUNK) as u64 / PAGE;
            put_head(DATA, object, first, part.len() as u64 / PAGE, &mut self.buf);
            self.buf.extend_from_slice(part);
            if self.buf.len() >= CHUNK {
                self.finish();
            }
        }
        Ok(())
    }
}

/// Calls `f` for every run of a chunk; false if it is damaged.
pub fn runs(mut src: &[u8], mut f: impl FnMut(Object, u64, Run<'_>) -> bool) -> bool {
    while !src.is_empty() {
        let Some((head, rest)) = src.split_at_checked(HEAD) else {
            return false;
        };
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| head[i + k]));
        let n = (word(0) >> 32) as u32;
        let object = match head[1] {
            1 => Object::Arena,
            2 => Object::Store,
            3 => Object::Space(n),
            _ => return false,
        };
        let (first, count) = (word(8), word(16));
        if first
            .checked_add(count)
            .is_none_or(|end| end > ftl_core::snap::MAX_PAGE)
        {
            return false;
        }
        src = rest;
        let run = match head[0] {
            DATA => {
                let Some((bytes, rest)) = src.split_at_checked((count * PAGE) as usize) else {
                    return false;
                };
                src = rest;
                Run::Data(bytes)
            }
            GONE => Run::Gone(count),
            _ => return false,
        };
        if !f(object, first, run) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_read_back() {
        let mut got = Vec::new();
        let mut give = |c: Vec<u8>| got.push(c);
        let mut c = Chunks::new(&mut give);
        c.pages(Object::Space(7), 5, &[3; 8192]).expect("taken");
        c.gone(Object::Store, 1, 2).expect("taken");
        c.pages(Object::Arena, 0, &vec![1; CHUNK + 4096]).expect("taken");
        c.finish();
        let mut seen = Vec::new();
        for chunk in &got {
            assert!(runs(chunk, |o, first, r| {
                seen.push((
                    o,
                    first,
                    match r {
                        Run::Data(b) => b.len() as u64,
                        Run::Gone(n) => n,
                    },
                ));
                true
            }));
        }
        assert_eq!(seen[0], (Object::Space(7), 5, 8192));
        assert_eq!(seen[1], (Object::Store, 1, 2));
        assert_eq!(seen[2].2 + seen[3].2, CHUNK as u64 + 4096);
        assert_eq!(seen[3].1, CHUNK as u64 / PAGE);
    }

    proptest! {
        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            runs(&bytes, |_, _, _| true);
        }
    }
}
