//! What is known of the changes of memory that all processes of an image share: the arena and the page store.

use super::space::MOST_GONE;
use crate::snap::capture::merged;

/// How the changes of shared memory are known.
#[derive(Default, Debug)]
pub struct SharedMarks {
    /// All that has changed since the last look is marked, or in `early`, or lies outside of `there`.
    pub known: bool,
    /// Parts of the arena and of the page store, as offsets, that were written, but whose marks are gone: taken away for a cut, or
    /// with a mapping, or with a process.
    pub early: [Vec<(u64, u64)>; 2],
    /// Parts of the two that were no holes of their files at the last look, ascending, and small holes between them ([`joined`]).
    pub there: [Vec<(u64, u64)>; 2],
    /// Pages that were marked as not written in processes that have come to run since the last look.
    pub begun: u64,
    /// There is a copy of what the last snapshot had: what is freed is gone from it too.
    pub copied: bool,
    /// Parts of the page store, as offsets, that were given back since the last look, as long as there is that copy.
    freed: Vec<(u64, u64)>,
    /// Looks that relied on that.
    pub looks: u64,
    /// Pages that were compared with it in all, as some mark, or the lack of marks, said that they may have changed.
    pub compared: u64,
    /// A page had changed without a mark: marks are not believed any more.
    pub wrong: bool,
}

/// Parts that are so close are searched as one, bytes: a page of the host's tables maps as much.
const CLOSE: u64 = 2 << 20;

/// Ascending ranges with what lies between those that are close to one another.
pub fn joined(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges {
        match out.last_mut() {
            Some(last) if *start <= last.1 + CLOSE => last.1 = *end,
            _ => out.push((*start, *end)),
        }
    }
    out
}

impl SharedMarks {
    /// A part of the arena (0) or of the page store (1) was written, and nothing else will tell.
    pub fn note(&mut self, which: usize, start: u64, end: u64) {
        let list = &mut self.early[which];
        list.push((start, end));
        if list.len() > MOST_GONE {
            *list = merged(std::mem::take(list));
            // Half as many: else each would be merged with all.
            if list.len() > MOST_GONE / 2 {
                self.lose();
            }
        }
    }

    /// The next look compares all of it.
    pub fn lose(&mut self) {
        (self.known, self.early) = (false, Default::default());
    }

    /// A part of the page store was given back. It may be long until somebody looks: an image without a backup keeps its marks.
    pub fn note_freed(&mut self, start: u64, end: u64) {
        if !self.copied {
            return;
        }
        self.freed.push((start, end));
        if self.freed.len() <= MOST_GONE {
            return;
        }
        self.freed = merged(std::mem::take(&mut self.freed));
        // Half as many, as with the others.
        if let [first, .., last] = self.freed[..]
            && self.freed.len() > MOST_GONE / 2
        {
            // All between them goes from the copy, and what is there still is found by comparing.
            self.freed = vec![(first.0, last.1)];
            self.lose();
        }
    }

    /// What [`SharedMarks::note_freed`] has noted; it begins anew.
    pub fn take_freed(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied() -> SharedMarks {
        SharedMarks {
            known: true,
            copied: true,
            ..SharedMarks::default()
        }
    }

    #[test]
    fn what_is_freed_again_and_again_is_noted_once() {
        let mut marks = copied();
        for n in 0..10 * MOST_GONE as u64 {
            let at = n % 100 * 2;
            marks.note_freed(at, at + 1);
            assert!(marks.freed.len() <= MOST_GONE);
        }
        assert!(marks.known);
        let all = merged(marks.take_freed());
        assert_eq!(all, (0..100).map(|n| (n * 2, n * 2 + 1)).collect::<Vec<_>>());
        assert_eq!(marks.take_freed(), []);
    }

    #[test]
    fn too_much_that_is_freed_has_all_compared() {
        let mut marks = copied();
        let most = 10 * MOST_GONE as u64;
        for n in 0..most {
            marks.note_freed(n * 2, n * 2 + 1);
            assert!(marks.freed.len() <= MOST_GONE);
        }
        assert!(!marks.known);
        let all = merged(marks.take_freed());
        assert!((0..most).all(|n| all.iter().any(|(s, e)| *s <= n * 2 && n * 2 < *e)));
    }

    #[test]
    fn without_a_copy_nothing_is_noted() {
        let mut marks = SharedMarks::default();
        marks.note_freed(0, 1);
        assert_eq!(marks.take_freed(), []);
    }
}
