//! Outputs of streams that take no more: they may leave, but nobody reads. Packets pass them, since a reader
//! who has gone for coffee must not silence a server; each stream keeps its own order.

use super::gate::{Class, Output};
use std::collections::{BTreeSet, VecDeque};

/// See the module. Its outputs are committed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Aside {
    waiting: VecDeque<Output>,
    stalled: BTreeSet<u32>,
    bytes: u64,
}

impl Aside {
    /// The stream of this class takes nothing now.
    pub fn stalls(&self, class: Class) -> bool {
        matches!(class, Class::Stream { stream } if self.stalled.contains(&stream))
    }

    /// Behind those of its stream that wait.
    pub fn add(&mut self, output: Output) {
        self.bytes += output.bytes.len() as u64;
        self.waiting.push_back(output);
    }

    /// The stream took this much of an output that was to leave, and takes no more.
    pub fn refuse(&mut self, mut output: Output, taken: usize) {
        let Class::Stream { stream } = output.class else {
            return;
        };
        self.stalled.insert(stream);
        output.bytes.drain(..taken.min(output.bytes.len()));
        output.offset += taken as u64;
        self.bytes += output.bytes.len() as u64;
        // Before those of the same stream, and in the order of all.
        let at = self.waiting.partition_point(|o| o.number < output.number);
        self.waiting.insert(at, output);
    }

    /// The streams may take something again: to be asked now and then.
    pub fn try_again(&mut self) {
        self.stalled.clear();
    }

    /// The first one whose stream may take it.
    pub fn pop(&mut self) -> Option<Output> {
        let at = self.waiting.iter().position(|o| !self.stalls(o.class))?;
        let output = self.waiting.remove(at)?;
        self.bytes -= output.bytes.len() as u64;
        Some(output)
    }

    /// [`Aside::pop`] has something.
    pub fn ready(&self) -> bool {
        self.waiting.iter().any(|o| !self.stalls(o.class))
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Those that wait, by their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Output> {
        self.waiting.iter()
    }

    /// Drops them.
    pub fn clear(&mut self) {
        *self = Aside::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(number: u64, stream: u32, bytes: &[u8]) -> Output {
        Output {
            number,
            class: Class::Stream { stream },
            offset: 10,
            again: false,
            bytes: bytes.to_vec(),
        }
    }

    #[test]
    fn each_stream_keeps_its_order_and_others_pass() {
        let mut a = Aside::default();
        a.refuse(output(3, 1, b"abc"), 1);
        assert!(a.stalls(Class::Stream { stream: 1 }) && !a.stalls(Class::Stream { stream: 2 }));
        a.add(output(5, 1, b"de"));
        assert!(!a.ready() && a.pop().is_none());
        a.refuse(output(4, 2, b"x"), 0);
        assert_eq!(a.bytes(), 5);
        a.try_again();
        let first = a.pop().expect("stream 1 is tried");
        assert_eq!(
            (first.number, first.offset, &first.bytes[..]),
            (3, 11, &b"bc"[..])
        );
        a.refuse(first, 1);
        let other = a.pop().expect("stream 2 did not stall");
        assert_eq!(other.number, 4);
        assert!(a.pop().is_none());
        a.try_again();
        let rest: Vec<_> = std::iter::from_fn(|| a.pop())
            .map(|o| (o.number, o.bytes))
            .collect();
        assert_eq!(rest, [(3, b"c".to_vec()), (5, b"de".to_vec())]);
        assert!(a.is_empty() && a.bytes() == 0);
    }
}
