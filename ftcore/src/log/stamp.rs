//! Inputs of an absorb point, as short as prediction makes them.
//!
//! An input is a byte of flags and what it says was not as predicted. Bits 0-3: time since the last stamp in quanta
//! ([`STAMP_NS`]), 15 if it follows as a number; 4: the stream is as predicted; 5: the length is; 7: everything
//! follows in full (what is not bytes on a stream, or was stamped with an earlier point). Bit 6 is 0.

use super::wire::{Wire, put_u64, take_u64};
use crate::door::{Input, STAMP_NS, Stamp};
use crate::platform::Handle;
use crate::predict::{Hits, Last, Predictor, Step, Successor};

const FULL: u8 = 0x80;
const STREAM: u8 = 0x10;
const LENGTH: u8 = 0x20;
const TIME: u8 = 0x0f;

/// Hit rates of what stamps leave open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StampHits {
    /// Number of the absorb point.
    pub point: Hits,
    /// The stream that received.
    pub stream: Hits,
    /// How many bytes.
    pub length: Hits,
}

impl StampHits {
    /// Adds another count.
    pub fn add(&mut self, other: &StampHits) {
        self.point.add(other.point);
        self.stream.add(other.stream);
        self.length.add(other.length);
    }
}

/// State of the encoding of inputs; starts anew in every frame.
#[derive(Default, Debug)]
pub struct Stamps {
    points: Step,
    streams: Successor,
    lengths: Last,
    quanta: u64,
    /// Hit rates so far.
    pub hits: StampHits,
}

impl Stamps {
    /// True if the next absorb point with inputs is this one, as predicted.
    pub fn point(&mut self, point: u64) -> bool {
        let right = self.points.predict(0) == point;
        self.points.learn(0, point);
        self.hits.point.note(right)
    }

    /// The predicted point, which came.
    pub fn predicted_point(&mut self) -> u64 {
        let p = self.points.predict(0);
        self.point(p);
        p
    }

    /// Appends an input of absorb point `point`.
    pub fn put(&mut self, point: u64, stamp: &Stamp, input: &Input, out: &mut Vec<u8>) {
        let quanta = stamp.v / STAMP_NS;
        let (Input::Data(h, bytes), true) = (input, stamp.point == point && stamp.v % STAMP_NS == 0) else {
            out.push(FULL);
            put_u64(point.wrapping_sub(stamp.point), out);
            put_u64(stamp.v, out);
            input.put(out);
            return;
        };
        let len = bytes.len() as u64;
        let passed = quanta.wrapping_sub(self.quanta);
        self.quanta = quanta;
        let right = (self.streams.predict(0) == h.0, self.lengths.predict(h.0) == len);
        self.learn(h.0, len, right);
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        out.push(passed.min(u64::from(TIME)) as u8 | bit(right.0, STREAM) | bit(right.1, LENGTH));
        if passed >= u64::from(TIME) {
            put_u64(passed, out);
        }
        if !right.0 {
            put_u64(h.0, out);
        }
        if !right.1 {
            put_u64(len, out);
        }
        out.extend_from_slice(bytes);
    }

    fn learn(&mut self, h: u64, len: u64, right: (bool, bool)) {
        self.streams.learn(0, h);
        self.lengths.learn(h, len);
        self.hits.stream.note(right.0);
        self.hits.length.note(right.1);
    }

    /// Takes an input off the front.
    pub fn take(&mut self, point: u64, src: &mut &[u8]) -> Option<(Stamp, Input)> {
        let (flags, rest) = src.split_first()?;
        *src = rest;
        if *flags == FULL {
            let back = take_u64(src)?;
            let v = take_u64(src)?;
            let stamp = Stamp {
                point: point.wrapping_sub(back),
                v,
            };
            return Some((stamp, Input::take(src)?));
        }
        if flags & !(TIME | STREAM | LENGTH) != 0 {
            return None;
        }
        let passed = match flags & TIME {
            TIME => take_u64(src)?,
            n => u64::from(n),
        };
        let quanta = self.quanta.wrapping_add(passed);
        // A time that no clock shows is damage.
        let v = quanta.checked_mul(STAMP_NS)?;
        let right = (flags & STREAM != 0, flags & LENGTH != 0);
        let h = match right.0 {
            true => self.streams.predict(0),
            false => take_u64(src)?,
        };
        let len = match right.1 {
            true => self.lengths.predict(h),
            false => take_u64(src)?,
        };
        let (bytes, rest) = src.split_at_checked(usize::try_from(len).ok()?)?;
        *src = rest;
        self.quanta = quanta;
        self.learn(h, len, right);
        Some((Stamp { point, v }, Input::Data(Handle(h), bytes.to_vec())))
    }
}
