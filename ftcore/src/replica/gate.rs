//! The output gate (PROTOCOL §3): nothing leaves that a failure could take back.
//!
//! Each output enters with its [`Mark`]: the records in the log before it (those that are still in the
//! recorder's batch count too, so flush that batch) and its logical time. It may leave when the mark is
//! covered by what the backup has acknowledged: **the position, not a time, and the horizon, not only the
//! position**. Outputs leave in the order in which they entered; marks only grow along it.
//!
//! Bounded in bytes. A packet that does not fit is dropped, as a network may; the image is not told. A held
//! segment of the same flow and sequence number is replaced by its retransmission, which takes the place at
//! the **end**: it may say more than the old one (a later ACK), so it depends on more. Give a key to segments
//! that carry data, SYN or FIN only: pure ACKs share one sequence number, and would replace one another for
//! as long as they come faster than commits. Streams and volume writes are never dropped: [`Pushed::Full`] is
//! back-pressure, which the caller turns into an event of the image. A stream whose reader does not read
//! ([`Gate::refused`]) keeps its bytes here while others leave; from a quarter of the gate on it is full.
//!
//! Every output has a number, and every byte of a stream an offset, both counted by the image's outputs
//! whether they leave or not: [`Marks`] are part of a snapshot. In replay the gate is shut and drops what the
//! old primary is known to have released ([`Gate::replay`]).
//!
//! Never queued here: ARP, NDP and echo replies, which the device makes itself.

use super::aside::Aside;
use super::{Mark, Time};
use crate::platform::Ns;
use std::collections::{BTreeMap, VecDeque};

/// What an output is: decides what happens when the gate is full and what a takeover does with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// A TCP segment. Lost when there is no room; not sent again by a takeover: the flow's retransmission is.
    Tcp {
        /// Flow and sequence number, for segments with data, SYN or FIN.
        key: Option<(u64, u32)>,
    },
    /// A datagram. Lost when there is no room; sent again after the last one known to have left.
    Udp,
    /// Bytes of a stream (stdout, a terminal). Never lost; numbered offsets, the tail at least once.
    Stream {
        /// Which stream.
        stream: u32,
    },
    /// An operation on a volume. Never lost; the one in doubt is done again.
    Volume,
    /// The image's exit code or core. Never lost or refused.
    Exit,
}

impl Class {
    fn may_be_lost(self) -> bool {
        matches!(self, Class::Tcp { .. } | Class::Udp)
    }
}

/// An output that may leave.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Output {
    /// Its number among all outputs of the image.
    pub number: u64,
    /// What it is.
    pub class: Class,
    /// Offset of its first byte, for a stream.
    pub offset: u64,
    /// It may have left already, before a takeover.
    pub again: bool,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What became of an output. For a packet the image must not see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// In the gate, or ready to leave.
    Taken,
    /// A held segment gave way to it.
    Replaced,
    /// Lost: no room.
    Dropped,
    /// No room; it is still the caller's, and has no number yet.
    Full,
}

/// What opens the gate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// Nothing leaves.
    Shut,
    /// What is covered leaves.
    Gated,
    /// Everything leaves: UNPROTECTED.
    Open,
}

/// How far the outputs of the image have come: part of every snapshot. A snapshot is of an image that has made
/// outputs which are still in the gate; whoever starts from it never makes them again, so they come with it. But
/// for TCP, whose flows send again by themselves.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Marks {
    /// Outputs so far.
    pub outputs: u64,
    /// Streams and their bytes so far.
    pub streams: Vec<(u32, u64)>,
    /// Those of them that had not left.
    pub held: Vec<Output>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Held {
    need: Mark,
    since_ns: Ns,
    at_once: bool,
    /// `None`: it was replaced.
    output: Option<Output>,
}

/// What a gate counted.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Outputs that left.
    pub released: u64,
    /// Those that found the way free when they came.
    pub zero_wait: u64,
    /// Packets lost for want of room.
    pub dropped: u64,
    /// Segments replaced by their retransmission.
    pub replaced: u64,
    /// Times that a stream found no room.
    pub full: u64,
    /// Outputs that a takeover kept back, as known to have left.
    pub suppressed: u64,
    /// Times that only the horizon kept the first output back when an ack came.
    pub horizon_stalls: u64,
    /// Sum of all waits.
    pub wait_ns: Ns,
    /// Longest wait.
    pub longest_ns: Ns,
    /// Most bytes held.
    pub most_bytes: u64,
    /// Waits by their power of two in us: below 1, below 2, below 4, ...
    pub waits: [u64; 24],
}

/// Counters are no part of a machine's state: what it does next never depends on them.
impl PartialEq for Stats {
    fn eq(&self, _: &Stats) -> bool {
        true
    }
}
impl Eq for Stats {}
impl std::hash::Hash for Stats {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// The queue of outputs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Gate {
    held: VecDeque<Held>,
    aside: Aside,
    /// Index of the front among all that were ever held.
    front: u64,
    keys: BTreeMap<(u64, u32), u64>,
    bytes: u64,
    max_bytes: u64,
    outputs: u64,
    streams: BTreeMap<u32, u64>,
    acked: Mark,
    /// The latest of what has left.
    left: Mark,
    last_released: u64,
    /// In replay: outputs up to this number are known to have left.
    suppress: Option<u64>,
    by_position_only: bool,
    stats: Stats,
}

impl Gate {
    /// An empty gate of this many bytes.
    pub fn new(max_bytes: u64) -> Gate {
        Gate {
            held: VecDeque::new(),
            aside: Aside::default(),
            front: 0,
            keys: BTreeMap::new(),
            bytes: 0,
            max_bytes,
            outputs: 0,
            streams: BTreeMap::new(),
            acked: Mark::default(),
            left: Mark::default(),
            last_released: 0,
            suppress: None,
            by_position_only: false,
            stats: Stats::default(),
        }
    }

    /// For the image of a snapshot with these marks, whose old primary released outputs up to number
    /// `released` for certain. Until [`Gate::live`], packets of TCP are dropped, and so is what has left.
    pub fn replay(max_bytes: u64, marks: &Marks, released: u64) -> Gate {
        let mut gate = Gate {
            outputs: marks.outputs,
            streams: marks.streams.iter().copied().collect(),
            suppress: Some(released),
            last_released: released,
            ..Gate::new(max_bytes)
        };
        for o in marks.held.iter().filter(|o| o.number > released) {
            gate.bytes += o.bytes.len() as u64;
            gate.held.push_back(Held {
                need: Mark::default(),
                since_ns: 0,
                at_once: false,
                output: Some(Output {
                    again: true,
                    ..o.clone()
                }),
            });
        }
        gate
    }

    /// The replay is over. What the replay could not rule out to have left is marked `again`.
    pub fn live(&mut self) {
        self.suppress = None;
    }

    pub(super) fn look_at_position_only(&mut self) {
        self.by_position_only = true;
    }

    /// Takes an output that depends on `need`. `mode` is the mode now, for the statistics.
    pub fn push(&mut self, now_ns: Ns, mode: Mode, need: Mark, class: Class, bytes: Vec<u8>) -> Pushed {
        // Never less strict than what is before it, whatever the caller says.
        let need = need.max(self.held.back().map_or(self.left, |h| h.need));
        let len = bytes.len() as u64;
        let key = match class {
            Class::Tcp { key } => key,
            _ => None,
        };
        if self.suppress.is_none() && !self.takes(class, len) {
            let alone = self.held.is_empty() && self.aside.is_empty();
            if !class.may_be_lost() && !alone {
                self.stats.full += 1;
                return Pushed::Full;
            }
            if class.may_be_lost() && !key.is_some_and(|k| self.keys.contains_key(&k)) {
                self.outputs += 1;
                self.stats.dropped += 1;
                return Pushed::Dropped;
            }
        }
        self.outputs += 1;
        let mut offset = 0;
        if let Class::Stream { stream } = class {
            let end = self.streams.entry(stream).or_default();
            offset = *end;
            *end += len;
        }
        let again = self.suppress.is_some();
        if self
            .suppress
            .is_some_and(|to| self.outputs <= to || matches!(class, Class::Tcp { .. }))
        {
            self.stats.suppressed += 1;
            return Pushed::Taken;
        }
        let mut pushed = Pushed::Taken;
        if let Some(key) = key {
            let index = self.front + self.held.len() as u64;
            if let Some(old) = self.keys.insert(key, index)
                && let Some(old) = self.held.get_mut((old - self.front) as usize)
                && let Some(o) = old.output.take()
            {
                self.bytes -= o.bytes.len() as u64;
                self.stats.replaced += 1;
                pushed = Pushed::Replaced;
            }
        }
        self.bytes += len;
        self.stats.most_bytes = self.stats.most_bytes.max(self.bytes);
        self.held.push_back(Held {
            need,
            since_ns: now_ns,
            at_once: self.free(mode, need),
            output: Some(Output {
                number: self.outputs,
                class,
                offset,
                again,
                bytes,
            }),
        });
        pushed
    }

    /// Something that was written to this stream has not left.
    pub fn holds(&self, stream: u32) -> bool {
        let of = |o: &Output| o.class == Class::Stream { stream };
        self.held.iter().any(|h| h.output.as_ref().is_some_and(of)) || self.aside.iter().any(of)
    }

    /// There is room for this.
    fn takes(&self, class: Class, len: u64) -> bool {
        match class {
            Class::Exit => true,
            // What nobody reads must not take the room of packets.
            Class::Stream { .. } if self.aside.bytes() > self.max_bytes / 4 => false,
            _ => self.bytes + len <= self.max_bytes,
        }
    }

    /// The backup has acknowledged this, in this session, epoch and incarnation. Never falls.
    pub fn acked(&mut self, mark: Mark) {
        self.acked = self.acked.max(mark);
        if let Some(first) = self.held.front()
            && first.need.position <= self.acked.position
            && !self.acked.covers(first.need)
        {
            self.stats.horizon_stalls += 1;
        }
    }

    /// A new session: acks start anew.
    pub fn forget_acks(&mut self) {
        self.acked = Mark::default();
    }

    fn free(&self, mode: Mode, need: Mark) -> bool {
        match mode {
            Mode::Shut => false,
            Mode::Open => true,
            Mode::Gated if self.by_position_only => need.position <= self.acked.position,
            Mode::Gated => self.acked.covers(need),
        }
    }

    /// A stream took only `taken` bytes of what was popped, and no more now. [`Gate::try_streams`] asks it again.
    pub fn refused(&mut self, output: Output, taken: usize) {
        self.bytes += output.bytes.len().saturating_sub(taken) as u64;
        self.aside.refuse(output, taken);
    }

    /// Streams that took no more are asked again.
    pub fn try_streams(&mut self) {
        self.aside.try_again();
    }

    /// The next output that may leave now.
    pub fn pop(&mut self, now_ns: Ns, mode: Mode) -> Option<Output> {
        if mode != Mode::Shut
            && let Some(o) = self.aside.pop()
        {
            self.bytes -= o.bytes.len() as u64;
            return Some(o);
        }
        loop {
            let first = self.held.front()?;
            if let Some(o) = &first.output
                && (!self.free(mode, first.need) || o.class == Class::Exit && !self.aside.is_empty())
            {
                return None;
            }
            let held = self.held.pop_front()?;
            let index = self.front;
            self.front += 1;
            let Some(output) = held.output else {
                continue;
            };
            if let Class::Tcp { key: Some(key) } = output.class
                && self.keys.get(&key) == Some(&index)
            {
                self.keys.remove(&key);
            }
            self.left = self.left.max(held.need);
            self.last_released = output.number;
            self.count(now_ns.saturating_sub(held.since_ns), held.at_once);
            if self.aside.stalls(output.class) {
                self.aside.add(output);
                continue;
            }
            self.bytes -= output.bytes.len() as u64;
            return Some(output);
        }
    }

    fn count(&mut self, wait_ns: Ns, at_once: bool) {
        let s = &mut self.stats;
        s.released += 1;
        s.zero_wait += u64::from(at_once);
        s.wait_ns += wait_ns;
        s.longest_ns = s.longest_ns.max(wait_ns);
        let power = (u64::BITS - (wait_ns / 1_000).leading_zeros()) as usize;
        s.waits[power.min(s.waits.len() - 1)] += 1;
    }

    /// The first output may leave.
    pub fn ready(&self, mode: Mode) -> bool {
        mode != Mode::Shut && self.aside.ready()
            || self
                .held
                .iter()
                .find(|h| h.output.is_some())
                .is_some_and(|h| self.free(mode, h.need))
    }

    /// Drops all that is held: this node will never emit again.
    pub fn clear(&mut self) {
        self.front += self.held.len() as u64;
        self.held.clear();
        self.aside.clear();
        self.keys.clear();
        self.bytes = 0;
    }

    /// Nothing is held.
    pub fn is_empty(&self) -> bool {
        self.aside.is_empty() && self.held.iter().all(|h| h.output.is_none())
    }

    /// Streams whose readers do not read hold something back.
    pub fn stalled(&self) -> bool {
        !self.aside.is_empty()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// There is room again for a stream: less than half is used.
    pub fn roomy(&self) -> bool {
        self.bytes <= self.max_bytes / 2 && self.aside.bytes() <= self.max_bytes / 8
    }

    /// The latest mark of all that has left: whoever joins must hold this.
    pub fn left(&self) -> Mark {
        self.left
    }

    /// What is held first waits for this.
    pub fn waits_for(&self) -> Option<Mark> {
        self.held.front().map(|h| h.need)
    }

    /// The last output waits for this time: a horizon that covers it lets all of them go.
    pub fn last_time(&self) -> Option<Time> {
        self.held.back().map(|h| h.need.at)
    }

    /// All outputs up to this number have left.
    pub fn last_released(&self) -> u64 {
        self.aside
            .iter()
            .next()
            .map_or(self.last_released, |o| o.number - 1)
    }

    /// For the snapshot that is being cut now.
    pub fn marks(&self) -> Marks {
        Marks {
            outputs: self.outputs,
            streams: self.streams.iter().map(|(s, n)| (*s, *n)).collect(),
            held: self
                .aside
                .iter()
                .chain(self.held.iter().filter_map(|h| h.output.as_ref()))
                .filter(|o| !matches!(o.class, Class::Tcp { .. }))
                .cloned()
                .collect(),
        }
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark(position: u64, e: u64) -> Mark {
        let at = Time { e, v: e * 10 };
        Mark { position, at }
    }

    const TCP: Class = Class::Tcp { key: None };

    fn push(g: &mut Gate, position: u64, e: u64, class: Class, len: usize) -> Pushed {
        g.push(0, Mode::Gated, mark(position, e), class, vec![0; len])
    }

    fn drain(g: &mut Gate) -> Vec<u64> {
        std::iter::from_fn(|| g.pop(5_000, Mode::Gated))
            .map(|o| o.number)
            .collect()
    }

    #[test]
    fn both_the_position_and_the_horizon_must_be_acknowledged() {
        let mut g = Gate::new(1000);
        push(&mut g, 1, 10, TCP, 1);
        push(&mut g, 1, 20, TCP, 1);
        push(&mut g, 2, 20, TCP, 1);
        g.acked(mark(0, 100));
        assert_eq!(drain(&mut g), [] as [u64; 0], "not its record");
        g.acked(mark(1, 5));
        assert_eq!(drain(&mut g), [1, 2], "acknowledged horizons do not fall");
        g.acked(Mark {
            position: 2,
            at: Time { e: 0, v: 0 },
        });
        assert_eq!(drain(&mut g), [3]);
        let mut g = Gate::new(1000);
        push(&mut g, 1, 10, TCP, 1);
        g.acked(Mark {
            position: 1,
            at: Time { e: 10, v: 99 },
        });
        assert_eq!(drain(&mut g), [] as [u64; 0], "virtual time counts too");
        assert_eq!(g.stats().horizon_stalls, 1);
        g.acked(mark(1, 10));
        assert_eq!(drain(&mut g), [1]);
        assert_eq!(
            (g.stats().released, g.stats().zero_wait, g.stats().wait_ns),
            (1, 0, 5_000)
        );
        assert_eq!(g.stats().waits[3], 1, "between 4 and 8 us");
        push(&mut g, 1, 10, TCP, 1);
        assert_eq!(drain(&mut g), [2]);
        assert_eq!(g.stats().zero_wait, 1);
    }

    #[test]
    fn packets_are_lost_and_streams_wait() {
        let mut g = Gate::new(100);
        assert_eq!(push(&mut g, 1, 1, TCP, 90), Pushed::Taken);
        assert_eq!(push(&mut g, 1, 1, Class::Udp, 20), Pushed::Dropped);
        let stream = Class::Stream { stream: 1 };
        assert_eq!(push(&mut g, 1, 1, stream, 20), Pushed::Full);
        assert_eq!(push(&mut g, 1, 1, Class::Exit, 20), Pushed::Taken);
        g.acked(mark(1, 1));
        assert_eq!(
            drain(&mut g),
            [1, 3],
            "a lost packet has its number, a refused write has none"
        );
        assert_eq!(
            push(&mut g, 1, 1, stream, 500),
            Pushed::Taken,
            "larger than the gate, but alone"
        );
        assert_eq!(push(&mut g, 1, 1, stream, 7), Pushed::Full);
        assert_eq!(g.pop(0, Mode::Gated).map(|o| o.offset), Some(0));
        assert_eq!(push(&mut g, 1, 1, stream, 7), Pushed::Taken);
        assert_eq!(g.pop(0, Mode::Gated).map(|o| o.offset), Some(500));
        assert_eq!(g.marks().streams, [(1, 507)]);
    }

    #[test]
    fn a_stream_is_held_until_its_reader_has_all() {
        let mut g = Gate::new(1000);
        let of = |stream| Class::Stream { stream };
        push(&mut g, 1, 1, of(1), 10);
        assert!(g.holds(1) && !g.holds(2));
        g.acked(mark(1, 1));
        let first = g.pop(0, Mode::Gated).unwrap();
        assert!(!g.holds(1));
        g.refused(first, 4);
        assert!(g.holds(1) && !g.holds(2), "what its reader has not taken");
        g.try_streams();
        assert_eq!(g.pop(0, Mode::Gated).map(|o| o.offset), Some(4));
        assert!(!g.holds(1));
    }

    #[test]
    fn a_retransmission_replaces_what_is_held_and_waits_for_its_own_records() {
        let mut g = Gate::new(100);
        let seg = Class::Tcp { key: Some((1, 1000)) };
        push(&mut g, 1, 1, seg, 60);
        push(&mut g, 1, 1, TCP, 10);
        assert_eq!(
            push(&mut g, 9, 9, seg, 61),
            Pushed::Replaced,
            "though the gate would be full"
        );
        assert_eq!(g.bytes(), 71);
        g.acked(mark(1, 1));
        assert_eq!(drain(&mut g), [2], "the new one may say more than the old one");
        g.acked(mark(9, 9));
        assert_eq!(drain(&mut g), [3]);
        assert_eq!(
            push(&mut g, 9, 9, seg, 60),
            Pushed::Taken,
            "nothing is held any more"
        );
        g.clear();
        assert!(g.is_empty() && g.bytes() == 0);
        assert_eq!(push(&mut g, 9, 9, seg, 60), Pushed::Taken);
        assert_eq!(drain(&mut g).len(), 1);
    }

    #[test]
    fn a_replay_keeps_back_what_has_left() {
        let held = |number| Output {
            number,
            class: Class::Udp,
            offset: 0,
            again: false,
            bytes: vec![1],
        };
        let marks = Marks {
            outputs: 10,
            streams: vec![(1, 100)],
            held: vec![],
        };
        let mut g = Gate::replay(1000, &marks, 12);
        let stream = Class::Stream { stream: 1 };
        push(&mut g, 1, 1, stream, 5); // 11: left
        push(&mut g, 1, 1, Class::Udp, 1); // 12: left
        push(&mut g, 1, 1, TCP, 1); // 13: never again by itself
        push(&mut g, 1, 1, stream, 5); // 14: perhaps
        assert!(g.pop(0, Mode::Shut).is_none());
        g.live();
        push(&mut g, 1, 1, TCP, 1);
        let out: Vec<_> = std::iter::from_fn(|| g.pop(0, Mode::Open)).collect();
        assert_eq!(
            out.iter().map(|o| (o.number, o.again)).collect::<Vec<_>>(),
            [(14, true), (15, false)]
        );
        assert_eq!(out[0].offset, 105);
        // What the snapshot's image had made and the gate still held is made by nobody again.
        let marks = Marks {
            held: vec![held(9), held(10)],
            ..marks
        };
        let mut g = Gate::replay(1000, &marks, 9);
        g.live();
        assert_eq!(g.marks().held.len(), 1, "also for the next snapshot");
        assert_eq!(
            g.pop(0, Mode::Open).map(|o| (o.number, o.again)),
            Some((10, true))
        );
        assert!(g.is_empty());
    }

    proptest! {
        /// Against the rule written down naively: what has left was covered, in order, and nothing covered stays.
        #[test]
        fn the_rule_holds(steps in proptest::collection::vec((0u8..4, 0u64..4, 0u64..4, 0u32..3), 0..60)) {
            let mut g = Gate::new(200);
            let (mut now, mut ack, mut last) = (mark(0, 0), mark(0, 0), 0);
            let mut needs = std::collections::BTreeMap::new();
            for (what, a, b, seq) in steps {
                match what {
                    0 | 1 => {
                        now = mark(now.position + a, now.at.e + b);
                        let key = (seq > 0).then_some((0, seq));
                        g.push(0, Mode::Gated, now, Class::Tcp { key }, vec![0; 20]);
                        needs.insert(g.marks().outputs, now);
                    }
                    2 => {
                        ack = mark(ack.position + a, ack.at.e + b);
                        g.acked(ack);
                    }
                    _ => {
                        while let Some(o) = g.pop(0, Mode::Gated) {
                            prop_assert!(o.number > last);
                            last = o.number;
                            prop_assert!(ack.covers(needs[&o.number]), "{o:?}");
                        }
                        prop_assert!(!g.waits_for().is_some_and(|w| ack.covers(w)));
                    }
                }
                prop_assert!(g.bytes() <= 220);
            }
        }
    }
}
