//! The records, and their encoding inside a frame.

use super::stamp::Stamps;
use super::wire::{Wire, put_u64, take_u64};
use crate::door::{Input, Stamp};

/// One event of the image's history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// What the image was started with: opaque here, the runtime's own encoding.
    Start(Vec<u8>),
    /// The clock read at logical time `e` was not as predicted: it stepped to `Some(v)`, or held.
    Clock {
        /// Logical time of the read.
        e: u64,
        /// New value.
        v: Option<u64>,
    },
    /// Inputs that became visible at absorb point `point`. Points without a record had none.
    Absorb {
        /// Number of the point.
        point: u64,
        /// In order.
        inputs: Vec<(Stamp, Input)>,
    },
    /// The answer to the image's `n`th query, where it was not as predicted.
    Answer {
        /// Count of queries so far, this one included.
        n: u64,
        /// Which query, to notice a replay that asks something else.
        kind: u16,
        /// Encoded answer.
        bytes: Vec<u8>,
    },
    /// A slice ended at an instruction that has no name (PROTOCOL §5).
    Cut {
        /// Logical time: entries so far.
        e: u64,
        /// Encoded state.
        bytes: Vec<u8>,
    },
    /// Encoded pages of the cut that follows, which are too many for one record. Without that cut they mean nothing.
    Part(Vec<u8>),
    /// Hash of the first `n` outputs of the image.
    Check {
        /// Count of outputs.
        n: u64,
        /// Running hash.
        hash: u64,
    },
    /// The image ended with this wait status.
    End(i32),
    /// What the recorder counted: the runtime's own encoding. Nothing that a replay needs.
    Stats(Vec<u8>),
    /// What the image held after `e` entries (`record --check N`): the runtime's own encoding.
    Mark {
        /// Logical time: entries so far.
        e: u64,
        /// Encoded hashes.
        bytes: Vec<u8>,
    },
    /// The image went to the top of its scheduler after `e` entries, where a snapshot of it was taken: the log can
    /// be replayed from here. Where exactly, and the snapshot's number, is the runtime's own encoding.
    Anchor {
        /// Logical time: entries so far.
        e: u64,
        /// Encoded place.
        bytes: Vec<u8>,
    },
}

/// Delta state of the encoding; starts anew in every frame.
#[derive(Default, Debug)]
pub struct Coder {
    e: u64,
    n: u64,
    v: u64,
    /// How far the last answer was from the one before, and of which kind it was: the next one's guess.
    answer: (u64, u16),
    /// State of the encoding of inputs.
    pub stamps: Stamps,
}

impl Coder {
    /// Appends a record.
    pub fn put(&mut self, r: &Record, out: &mut Vec<u8>) {
        let delta = |now: u64, last: &mut u64, out: &mut Vec<u8>| {
            put_u64(now.wrapping_sub(*last), out);
            *last = now;
        };
        match r {
            Record::Start(b) => {
                out.push(0);
                b.put(out);
            }
            Record::Clock { e, v } => {
                out.push(if v.is_some() { 1 } else { 2 });
                delta(*e, &mut self.e, out);
                if let Some(v) = v {
                    delta(*v, &mut self.v, out);
                }
            }
            Record::Absorb { point, inputs } => self.put_absorb(*point, inputs, out),
            Record::Answer { n, kind, bytes } => self.put_answer(*n, *kind, bytes, out),
            Record::Cut { e, bytes } => {
                out.push(5);
                delta(*e, &mut self.e, out);
                bytes.put(out);
            }
            Record::Part(b) => {
                out.push(22);
                b.put(out);
            }
            Record::Check { n, hash } => {
                out.push(6);
                delta(*n, &mut self.n, out);
                out.extend_from_slice(&hash.to_le_bytes());
            }
            Record::End(s) => {
                out.push(7);
                s.put(out);
            }
            Record::Stats(b) => {
                out.push(8);
                b.put(out);
            }
            Record::Mark { e, bytes } => {
                out.push(20);
                delta(*e, &mut self.e, out);
                bytes.put(out);
            }
            Record::Anchor { e, bytes } => {
                out.push(21);
                delta(*e, &mut self.e, out);
                bytes.put(out);
            }
        }
    }

    /// Appends a [`Record::Absorb`].
    pub fn put_absorb(&mut self, point: u64, inputs: &[(Stamp, Input)], out: &mut Vec<u8>) {
        // Usually one input, at the point where one is expected.
        if self.stamps.point(point) && inputs.len() == 1 {
            out.push(9);
        } else {
            out.push(3);
            put_u64(point, out);
            put_u64(inputs.len() as u64, out);
        }
        for (stamp, input) in inputs {
            self.stamps.put(point, stamp, input, out);
        }
    }

    /// Appends a [`Record::Answer`].
    pub fn put_answer(&mut self, n: u64, kind: u16, bytes: &[u8], out: &mut Vec<u8>) {
        let this = (n.wrapping_sub(self.n), kind);
        self.n = n;
        if self.answer == this {
            out.push(10);
        } else {
            out.push(4);
            put_u64(this.0, out);
            put_u64(u64::from(kind), out);
            self.answer = this;
        }
        put_u64(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }

    /// Takes a record off the front.
    pub fn take(&mut self, src: &mut &[u8]) -> Option<Record> {
        let delta = |last: &mut u64, src: &mut &[u8]| {
            *last = last.wrapping_add(take_u64(src)?);
            Some(*last)
        };
        Some(match u8::take(src)? {
            0 => Record::Start(Wire::take(src)?),
            1 => Record::Clock {
                e: delta(&mut self.e, src)?,
                v: Some(delta(&mut self.v, src)?),
            },
            2 => Record::Clock {
                e: delta(&mut self.e, src)?,
                v: None,
            },
            tag @ (3 | 9) => {
                let (point, count) = match tag {
                    9 => (self.stamps.predicted_point(), 1),
                    _ => {
                        let point = take_u64(src)?;
                        self.stamps.point(point);
                        (point, take_u64(src)?)
                    }
                };
                let mut inputs = Vec::new();
                for _ in 0..count {
                    inputs.push(self.stamps.take(point, src)?);
                }
                Record::Absorb { point, inputs }
            }
            4 => {
                let last = self.n;
                let n = delta(&mut self.n, src)?;
                let kind = u16::try_from(take_u64(src)?).ok()?;
                self.answer = (n.wrapping_sub(last), kind);
                let bytes = Wire::take(src)?;
                Record::Answer { n, kind, bytes }
            }
            // As the last one: so far behind it, of its kind.
            10 => {
                let (step, kind) = self.answer;
                self.n = self.n.wrapping_add(step);
                let bytes = Wire::take(src)?;
                Record::Answer {
                    n: self.n,
                    kind,
                    bytes,
                }
            }
            5 => Record::Cut {
                e: delta(&mut self.e, src)?,
                bytes: Wire::take(src)?,
            },
            22 => Record::Part(Wire::take(src)?),
            6 => {
                let n = delta(&mut self.n, src)?;
                let (head, rest) = src.split_at_checked(8)?;
                *src = rest;
                Record::Check {
                    n,
                    hash: u64::from_le_bytes(head.try_into().ok()?),
                }
            }
            7 => Record::End(Wire::take(src)?),
            8 => Record::Stats(Wire::take(src)?),
            20 => Record::Mark {
                e: delta(&mut self.e, src)?,
                bytes: Wire::take(src)?,
            },
            21 => Record::Anchor {
                e: delta(&mut self.e, src)?,
                bytes: Wire::take(src)?,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Handle;
    use proptest::prelude::*;

    fn input() -> impl Strategy<Value = Input> {
        let h = any::<u64>().prop_map(Handle);
        let b = || proptest::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            (h.clone(), b()).prop_map(|(h, b)| Input::Data(h, b)),
            h.clone().prop_map(Input::Eof),
            (h.clone(), any::<i32>()).prop_map(|(h, e)| Input::Failed(h, e)),
            (h.clone(), h.clone(), b(), b()).prop_map(|(listener, conn, peer, local)| Input::Accepted {
                listener,
                conn,
                peer,
                local
            }),
            (h, b(), b(), any::<bool>()).prop_map(|(h, f, b, c)| Input::Datagram(h, f, b, c)),
            any::<i32>().prop_map(Input::Signal),
            (any::<u64>().prop_map(Handle), b()).prop_map(|(h, c)| Input::Control(h, c)),
            (any::<u64>().prop_map(Handle), b()).prop_map(|(h, f)| Input::Packet(h, f)),
            (
                b(),
                b(),
                any::<bool>(),
                any::<Option<[u16; 4]>>(),
                any::<Option<[u64; 5]>>()
            )
                .prop_map(|(a, user, stdin, tty, caps)| {
                    Input::Exec(Box::new(crate::door::ExecOrder {
                        argv: vec![a.clone(), Vec::new()],
                        groups: stdin.then(|| vec![1, 2]),
                        user,
                        stdin,
                        tty,
                        caps,
                        ..Default::default()
                    }))
                }),
        ]
    }

    fn record() -> impl Strategy<Value = Record> {
        let b = || proptest::collection::vec(any::<u8>(), 0..60);
        let stamp = (any::<u64>(), any::<u64>()).prop_map(|(point, v)| Stamp { point, v });
        prop_oneof![
            b().prop_map(Record::Start),
            (any::<u64>(), any::<Option<u64>>()).prop_map(|(e, v)| Record::Clock { e, v }),
            (any::<u64>(), proptest::collection::vec((stamp, input()), 0..4))
                .prop_map(|(point, inputs)| Record::Absorb { point, inputs }),
            (any::<u64>(), any::<u16>(), b()).prop_map(|(n, kind, bytes)| Record::Answer { n, kind, bytes }),
            (any::<u64>(), b()).prop_map(|(e, bytes)| Record::Cut { e, bytes }),
            b().prop_map(Record::Part),
            (any::<u64>(), any::<u64>()).prop_map(|(n, hash)| Record::Check { n, hash }),
            any::<i32>().prop_map(Record::End),
            (any::<u64>(), b()).prop_map(|(e, bytes)| Record::Mark { e, bytes }),
            (any::<u64>(), b()).prop_map(|(e, bytes)| Record::Anchor { e, bytes }),
        ]
    }

    /// A server that reads a file for each request: what is asked goes on by the same step.
    #[test]
    fn answers_that_follow_alike_are_short() {
        let answer = |n, kind| Record::Answer {
            n,
            kind,
            bytes: vec![7, 8],
        };
        let list = [
            answer(4, 9),
            answer(7, 9),
            answer(10, 9),
            answer(13, 9),
            answer(16, 3),
            answer(17, 9),
        ];
        let (mut coder, mut out, mut lengths) = (Coder::default(), Vec::new(), Vec::new());
        for r in &list {
            let before = out.len();
            coder.put(r, &mut out);
            lengths.push(out.len() - before);
        }
        assert_eq!(lengths, [6, 6, 4, 4, 6, 6]);
        let (mut coder, mut src) = (Coder::default(), &out[..]);
        for r in &list {
            assert_eq!(coder.take(&mut src).as_ref(), Some(r));
        }
        assert!(src.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_put_is_taken(list in proptest::collection::vec(record(), 0..12)) {
            let mut out = Vec::new();
            let mut coder = Coder::default();
            for r in &list {
                coder.put(r, &mut out);
            }
            let mut src = out.as_slice();
            let mut coder = Coder::default();
            for r in &list {
                let got = coder.take(&mut src);
                prop_assert_eq!(got.as_ref(), Some(r));
            }
            prop_assert!(src.is_empty());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut src = bytes.as_slice();
            let mut coder = Coder::default();
            while let Some(_r) = coder.take(&mut src) {}
        }
    }
}
