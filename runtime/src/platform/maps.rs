//! What lies under the guest's mappings, as far as it is not plain anonymous memory: what a snapshot
//! must know to map the same again elsewhere. Host side; one table per address space.

use ftl_core::layout::PAGES_LEN;
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use ftl_core::platform::Handle;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

/// What a range shows where the process has no page of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Under {
    /// A host file, private, from this offset.
    File(Handle, u64),
    /// The page store, shared.
    Shared(u64),
    /// The page store, private.
    Private(u64),
    /// Private pages of a restored image, not copied yet: the snapshot's memfd of this space, from this
    /// offset. For the guest it is anonymous memory.
    Saved(u64),
}

impl Under {
    fn at(self, delta: u64) -> Under {
        match self {
            Under::File(h, o) => Under::File(h, o + delta),
            Under::Shared(o) => Under::Shared(o + delta),
            Under::Private(o) => Under::Private(o + delta),
            Under::Saved(o) => Under::Saved(o + delta),
        }
    }
}

impl Wire for Under {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Under::File(h, o) => (0u8, *h, *o).put(out),
            Under::Shared(o) => (1u8, *o).put(out),
            Under::Private(o) => (2u8, *o).put(out),
            Under::Saved(o) => (3u8, *o).put(out),
        }
    }
    fn take(src: &mut &[u8]) -> Option<Under> {
        Some(match u8::take(src)? {
            0 => Under::File(Wire::take(src)?, Wire::take(src)?),
            1 => Under::Shared(Wire::take(src)?),
            2 => Under::Private(Wire::take(src)?),
            3 => Under::Saved(Wire::take(src)?),
            _ => return None,
        })
    }
}

/// A part of a range: start, end, what is under it.
pub type Part = (u64, u64, Option<Under>);

/// The table of one space. Ranges do not overlap; what is in none is anonymous.
#[derive(Clone, Default, Debug)]
pub struct Maps {
    list: BTreeMap<u64, (u64, Under)>,
    /// What [`Under::Saved`] refers to, on this host.
    saved: Option<Rc<OwnedFd>>,
}

impl Maps {
    /// True if some range in `[start, end)` is known: changing the table may allocate only then.
    pub fn knows(&self, start: u64, end: u64) -> bool {
        self.list
            .range(..end)
            .next_back()
            .is_some_and(|(_, (e, _))| *e > start)
    }

    /// `[start, end)` becomes anonymous.
    pub fn cut(&mut self, start: u64, end: u64) {
        while let Some((&s, &(e, under))) = self
            .list
            .range(..end)
            .next_back()
            .filter(|(_, (e, _))| *e > start)
        {
            self.list.remove(&s);
            if s < start {
                self.list.insert(s, (start, under));
            }
            if e > end {
                self.list.insert(end, (e, under.at(end - s)));
            }
        }
    }

    /// Something is mapped at `[start, end)`.
    pub fn set(&mut self, start: u64, end: u64, under: Under) {
        self.cut(start, end);
        self.list.insert(start, (end, under));
    }

    /// `[start, end)` in parts, ascending and without gaps.
    pub fn parts(&self, start: u64, end: u64) -> Vec<Part> {
        let mut out = Vec::new();
        let mut at = start;
        let first = self.list.range(..=start).next_back().map_or(start, |(s, _)| *s);
        for (&s, &(e, under)) in self.list.range(first..end) {
            if e <= at {
                continue;
            }
            if s > at {
                out.push((at, s, None));
            }
            let from = s.max(start);
            out.push((from, e.min(end), Some(under.at(from - s))));
            at = e.min(end);
        }
        if at < end {
            out.push((at, end, None));
        }
        out
    }

    /// Mappings of the page store: start, end, and offset in it.
    pub fn shared(&self) -> Vec<(u64, u64, u64)> {
        let one = |(start, (end, under)): (&u64, &(u64, Under))| match under {
            Under::Shared(off) if *off < PAGES_LEN => Some((*start, *end, *off)),
            _ => None,
        };
        self.list.iter().filter_map(one).collect()
    }

    /// Files that are mapped.
    pub fn files(&self) -> impl Iterator<Item = Handle> + '_ {
        self.list.values().filter_map(|(_, under)| match under {
            Under::File(h, _) => Some(*h),
            _ => None,
        })
    }

    /// Descriptor of the pages that are not copied yet.
    pub fn saved_fd(&self) -> Option<i32> {
        self.saved.as_ref().map(|fd| fd.as_raw_fd())
    }

    /// Gives the table the pages of a snapshot.
    pub fn set_saved(&mut self, fd: Rc<OwnedFd>) {
        self.saved = Some(fd);
    }
}

impl Wire for Maps {
    fn put(&self, out: &mut Vec<u8>) {
        let rows: Vec<(u64, u64, Under)> = self.list.iter().map(|(s, (e, u))| (*s, *e, *u)).collect();
        put_list(&rows, out);
    }
    fn take(src: &mut &[u8]) -> Option<Maps> {
        let rows: Vec<(u64, u64, Under)> = take_list(src)?;
        let mut maps = Maps::default();
        for (s, e, u) in rows {
            if s >= e || maps.knows(s, e) {
                return None;
            }
            maps.set(s, e, u);
        }
        Some(maps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_keeps_both_ends() {
        let mut m = Maps::default();
        m.set(0x1000, 0x9000, Under::Shared(0x10_0000));
        m.cut(0x3000, 0x5000);
        assert_eq!(
            m.parts(0, 0xa000),
            vec![
                (0, 0x1000, None),
                (0x1000, 0x3000, Some(Under::Shared(0x10_0000))),
                (0x3000, 0x5000, None),
                (0x5000, 0x9000, Some(Under::Shared(0x10_4000))),
                (0x9000, 0xa000, None),
            ]
        );
        assert_eq!(
            m.parts(0x6000, 0x7000),
            vec![(0x6000, 0x7000, Some(Under::Shared(0x10_5000)))]
        );
        assert!(!m.knows(0x3000, 0x5000));
        m.set(0x2000, 0x8000, Under::Saved(0));
        assert_eq!(m.parts(0x1000, 0x9000).len(), 3);
    }

    #[test]
    fn encoding_refuses_overlaps() {
        let mut out = Vec::new();
        put_list(
            &[(0u64, 2u64, Under::Saved(0)), (1, 3, Under::Saved(0))],
            &mut out,
        );
        assert!(Maps::take(&mut out.as_slice()).is_none());
        let mut m = Maps::default();
        m.set(0x1000, 0x2000, Under::File(Handle(7), 0x3000));
        let mut out = Vec::new();
        m.put(&mut out);
        assert_eq!(Maps::take(&mut out.as_slice()).map(|t| t.list), Some(m.list));
    }
}
