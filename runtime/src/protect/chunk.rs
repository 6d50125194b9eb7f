//! Pages of a snapshot on the link, in chunks of runs ([`ftl_core::replica::pages`]).

use crate::snap::{Object, Sink};
use ftl_core::layout::PAGE;
use ftl_core::replica::pages::{self, Run};

/// Bytes of a chunk, about.
pub const CHUNK: usize = 1 << 20;

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
        pages::put(object, first, &Run::Gone(count), &mut self.buf);
        Ok(())
    }

    fn pages(&mut self, object: Object, first: u64, bytes: &[u8]) -> Result<(), String> {
        for (i, part) in bytes.chunks(CHUNK).enumerate() {
            let first = first + (i * CHUNK) as u64 / PAGE;
            pages::put(object, first, &Run::Data(part), &mut self.buf);
            if self.buf.len() >= CHUNK {
                self.finish();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftl_core::replica::pages::runs;

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
}
