//! Predictors: what is not an input's own bytes is told from history (DESIGN §5).
//!
//! Each is a small deterministic type over integers. Writer and reader (primary and backup, record and replay) run
//! the same one over the same history, so that a value that is as predicted needs no bytes. None may depend on how
//! much is queued: that differs between them.
//!
//! The kinds, and where their predictor is:
//! * clock reads: [`crate::clock::Clock`], whose state the vDSO shares;
//! * answers of outputs and changes ("all of it", "it worked"): a constant that the door gives with the query;
//! * what the host says of a file, and what a part of it holds that was read before: [`Again`], in the kernel's state, which gives
//!   it with the query;
//! * what stamps leave open (which absorb point, which stream, how many bytes): the types here, in
//!   [`crate::log::Coder`]. Their state begins anew with every frame, so that a frame can be read by itself.

/// Predicts one kind of value, for a key that both sides know.
pub trait Predictor<V = u64> {
    /// What history says.
    fn predict(&self, key: u64) -> V;
    /// What came.
    fn learn(&mut self, key: u64, value: V);
}

/// Entries of the tables; keys are taken modulo it.
const SLOTS: usize = 256;

fn slot(key: u64) -> usize {
    key as usize % SLOTS
}

/// A count that goes on by the same step. The key plays no part.
#[derive(Clone, Debug, Default)]
pub struct Step {
    last: u64,
    step: u64,
}

impl Predictor for Step {
    fn predict(&self, _: u64) -> u64 {
        self.last.wrapping_add(self.step)
    }
    fn learn(&mut self, _: u64, value: u64) {
        self.step = value.wrapping_sub(self.last);
        self.last = value;
    }
}

/// The value that the key had last: the length of what a stream receives.
#[derive(Clone, Debug)]
pub struct Last([u64; SLOTS]);

impl Default for Last {
    fn default() -> Last {
        Last([0; SLOTS])
    }
}

impl Predictor for Last {
    fn predict(&self, key: u64) -> u64 {
        self.0[slot(key)]
    }
    fn learn(&mut self, key: u64, value: u64) {
        self.0[slot(key)] = value;
    }
}

/// The answer that a question had last; nothing for one that was not asked lately.
#[derive(Clone, Debug)]
pub struct Again<T>([Option<(u64, T)>; AGAIN]);

/// Questions that [`Again`] remembers: a server asks about the same few files with each request.
const AGAIN: usize = 64;

impl<T> Default for Again<T> {
    fn default() -> Again<T> {
        Again([const { None }; AGAIN])
    }
}

impl<T: Clone> Predictor<Option<T>> for Again<T> {
    fn predict(&self, key: u64) -> Option<T> {
        let last = self.0[key as usize % AGAIN].as_ref();
        last.filter(|(k, _)| *k == key).map(|(_, v)| v.clone())
    }
    fn learn(&mut self, key: u64, value: Option<T>) {
        self.0[key as usize % AGAIN] = value.map(|v| (key, v));
    }
}

/// A key for a question: its words in order, then bytes eight at a time, each mixed in by a multiplication. Two that meet in one
/// number cost a wrong guess, no more.
pub fn key(words: &[u64], bytes: &[u8]) -> u64 {
    let step = |h: u64, w: u64| (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let (eights, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    let all = words.iter().copied();
    all.chain(eights.iter().map(|e| u64::from_le_bytes(*e)))
        .chain([u64::from_le_bytes(last)])
        .fold(0xcbf2_9ce4_8422_2325, step)
}

/// What followed the last value when it came before: which stream is next. The key plays no part.
#[derive(Clone, Debug, Default)]
pub struct Successor {
    last: u64,
    after: Last,
}

impl Predictor for Successor {
    fn predict(&self, _: u64) -> u64 {
        self.after.predict(self.last)
    }
    fn learn(&mut self, _: u64, value: u64) {
        self.after.learn(self.last, value);
        self.last = value;
    }
}

/// How often a predictor was asked, and how often it was right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hits {
    /// Values that were needed.
    pub asked: u64,
    /// Of these, as predicted.
    pub right: u64,
}

impl Hits {
    /// Counts one. Gives back whether it was right.
    pub fn note(&mut self, right: bool) -> bool {
        self.asked += 1;
        self.right += u64::from(right);
        right
    }
    /// Adds another count.
    pub fn add(&mut self, other: Hits) {
        self.asked += other.asked;
        self.right += other.right;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(p: &mut impl Predictor, values: &[(u64, u64)]) -> u64 {
        let mut hits = Hits::default();
        for (key, v) in values {
            hits.note(p.predict(*key) == *v);
            p.learn(*key, *v);
        }
        hits.right * 100 / hits.asked
    }

    #[test]
    fn the_same_question_has_the_same_answer() {
        let (a, b) = (key(&[1, 2], b"name"), key(&[1, 2], b"other"));
        assert!(a != b && a != key(&[2, 1], b"name"));
        let mut p = Again::default();
        assert_eq!(p.predict(a), None);
        p.learn(a, Some(5));
        assert_eq!(p.predict(a), Some(5));
        // One that has the same place and is not it.
        assert_eq!(p.predict(a + AGAIN as u64), None);
        p.learn(a, Some(6));
        assert_eq!((p.predict(a), p.predict(b)), (Some(6), None));
    }

    #[test]
    fn steady_streams_are_predicted() {
        let counts: Vec<_> = (0..100).map(|i| (0, 7 + i * 3)).collect();
        assert!(rate(&mut Step::default(), &counts) >= 98);
        // Sixteen connections that take turns.
        let turns: Vec<_> = (0..1600).map(|i| (0, 20 + i % 16)).collect();
        assert!(rate(&mut Successor::default(), &turns) >= 98);
        let lengths: Vec<_> = (0..1600).map(|i| (i % 16, 40 + i % 16)).collect();
        assert!(rate(&mut Last::default(), &lengths) >= 98);
    }

    #[test]
    fn what_has_no_order_is_not() {
        let noise: Vec<_> = (0..1000u64).map(|i| (i, i.wrapping_mul(i) % 997)).collect();
        assert!(rate(&mut Step::default(), &noise) < 20);
        assert!(rate(&mut Successor::default(), &noise) < 20);
    }
}
