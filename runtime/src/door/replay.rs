//! Replaying: the log answers every query and gives every input; a difference ends the run.

use super::OutHash;
use super::anchor::Place;
use super::compare;
use super::marks::{self, Mark};
use super::read::Reader;
use crate::alloc::{self, Side};
use crate::snap::state::LogPlace;
use crate::talk::{self, Level};
use ftl_core::clock::Check;
use ftl_core::door::{Input, Stamp};
use ftl_core::log::frame::Header;
use ftl_core::log::{FrameError, Record, Wire};
use std::collections::VecDeque;
use std::path::Path;

/// Exit code for a run that was not as recorded.
pub const EXIT_DIVERGED: i32 = 4;
/// Exit code for a log that this machine or build cannot replay.
pub const EXIT_INCOMPATIBLE: i32 = 3;

/// Reader of a log.
pub struct Replayer {
    goes_live: bool,
    log: Reader,
    ahead: VecDeque<Record>,
    miss: Option<u64>,
    n: u64,
    /// Hash of what would have left.
    pub out: OutHash,
    /// So many outputs are not printed: they were, by another replay that gdb has left.
    pub quiet: u64,
    /// Records taken.
    pub taken: u64,
    /// `--check-memory` was given when it was recorded.
    pub check_memory: bool,
    /// Marks are in the log.
    pub marks: super::marks::Marks,
    /// Files to map.
    pub files: super::files::Files,
    /// Records taken at the last check that agreed.
    good_until: u64,
    /// Entries at the last mark that agreed.
    good_entry: u64,
    /// More lines for the message of a divergence.
    more: String,
    /// Where to stop.
    pub stop: Option<Stop>,
    /// At this anchor the image is compared with it, which ends the replay.
    pub until: Option<u32>,
    /// Where words that two replays are asked about are written down.
    pub candidates: Option<std::path::PathBuf>,
    /// The log's directory.
    pub dir: std::path::PathBuf,
    /// Virtual time at which the image began, ns.
    pub began: u64,
    /// How the replay ended is to be told here (`replay --at end` looks ahead).
    pub probe: Option<std::path::PathBuf>,
}

/// Where a replay stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// When the program goes on after this many entries.
    After(u64),
    /// When the program goes on at this time of the image, ns since it began.
    Time(u64),
    /// When the program is about to make an entry after this many: what it did last is to be seen.
    Before(u64),
}

/// What is missing where the log of a killed writer ends between two entries.
pub const GOES_ON: &str = "another event";

/// A record in one short line.
fn brief(r: &Record) -> String {
    format!("{r:?}").chars().take(160).collect()
}

impl Replayer {
    /// Opens a log's directory.
    pub fn open(dir: &Path) -> Result<(Replayer, Header), String> {
        Replayer::of(dir, Reader::open(dir)?)
    }

    /// Opens a log's directory from a segment on; [`Replayer::go_on_at`] follows.
    pub fn open_at(dir: &Path, segment: u32) -> Result<(Replayer, Header), String> {
        Replayer::of(dir, Reader::open_at(dir, segment)?)
    }

    fn of(dir: &Path, log: Reader) -> Result<(Replayer, Header), String> {
        let header = log.header;
        if header.build != super::record::build_id() {
            return Err(format!(
                "log {}: another build of ftvm wrote it; replay it with that one",
                dir.display()
            ));
        }
        let r = Replayer {
            goes_live: false,
            log,
            ahead: VecDeque::new(),
            miss: None,
            n: 0,
            out: OutHash::default(),
            taken: 0,
            quiet: 0,
            check_memory: false,
            marks: super::marks::Marks::default(),
            files: super::files::Files::new(dir),
            good_until: 0,
            good_entry: 0,
            more: String::new(),
            stop: None,
            began: 0,
            probe: None,
            until: None,
            candidates: None,
            dir: dir.to_path_buf(),
        };
        Ok((r, header))
    }

    /// Of log frames in memory, which go on from a snapshot at `place`. The caller is on the host side.
    pub fn of_frames(image: u64, frames: Vec<u8>, place: &LogPlace) -> Option<Replayer> {
        let mut r = Replayer {
            goes_live: false,
            log: Reader::of_frames(image, frames),
            ahead: VecDeque::new(),
            miss: None,
            n: 0,
            out: OutHash::default(),
            taken: 0,
            quiet: 0,
            check_memory: false,
            marks: super::marks::Marks::default(),
            files: super::files::Files::default(),
            good_until: 0,
            good_entry: 0,
            more: String::new(),
            stop: None,
            began: 0,
            probe: None,
            until: None,
            candidates: None,
            dir: std::path::PathBuf::new(),
        };
        // Without frames behind the snapshot there is nothing to find.
        (r.go_on_at(place) || r.log.is_empty()).then_some(r)
    }

    /// As [`Replayer::exhausted`], as far as was looked: a cheap question.
    pub fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.log.is_done()
    }

    /// The replay is a takeover's.
    pub fn goes_live(&mut self) {
        self.goes_live = true;
    }

    /// Nothing more is in the log.
    pub fn exhausted(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Where the replay stands, for the log that goes on from here.
    pub fn place(&self) -> LogPlace {
        LogPlace {
            position: self.log.position,
            queries: self.n,
            outputs: (self.out.count, self.out.hash),
            check_memory: self.check_memory,
            ..LogPlace::default()
        }
    }

    /// Goes on from a snapshot instead of from the start. False if the log has no frame there.
    pub fn go_on_at(&mut self, place: &LogPlace) -> bool {
        self.n = place.queries;
        self.out = OutHash {
            count: place.outputs.0,
            hash: place.outputs.1,
        };
        self.check_memory = place.check_memory;
        self.log.skip_to(place.position)
    }

    /// Decodes one more frame. False at the end of what is valid.
    fn more(&mut self) -> bool {
        let _side = alloc::enter(Side::Host);
        match self.log.records() {
            Some(list) => {
                self.ahead.extend(list);
                true
            }
            None => false,
        }
    }

    /// The next record, with checks that are due made on the way.
    fn peek(&mut self) -> Option<&Record> {
        loop {
            while self.ahead.is_empty() {
                if !self.more() {
                    return None;
                }
            }
            match self.ahead.front() {
                Some(Record::Check { n, hash }) if *n <= self.out.count => {
                    let (n, hash) = (*n, *hash);
                    if (n, hash) != (self.out.count, self.out.hash) {
                        self.diverged(
                            "output",
                            &format!("{n} outputs with hash {hash:#018x}"),
                            &format!("{} with {:#018x}", self.out.count, self.out.hash),
                        );
                    }
                    self.good_until = self.taken;
                    self.drop_front();
                }
                Some(Record::Stats(_)) => self.drop_front(),
                // A takeover ends the image itself: its exit is an output that nobody has confirmed.
                Some(Record::End(_)) if self.goes_live => self.drop_front(),
                _ => break,
            }
        }
        self.ahead.front()
    }

    fn drop_front(&mut self) {
        let _side = alloc::enter(Side::Host);
        self.ahead.pop_front();
        self.taken += 1;
    }

    fn pop(&mut self) -> Option<Record> {
        self.taken += 1;
        self.ahead.pop_front()
    }

    /// Bytes leave the image. A check of what left before is due first.
    pub fn leaves(&mut self, tag: u64, bytes: &[u8]) {
        self.peek();
        self.out.add(tag, bytes);
    }

    /// The record that starts every log.
    pub fn start(&mut self) -> Option<Vec<u8>> {
        match self.peek() {
            Some(Record::Start(_)) => match self.pop() {
                Some(Record::Start(b)) => Some(b),
                _ => None,
            },
            _ => None,
        }
    }

    /// The answer to the next query, which must be in the log.
    pub fn answer<T: Wire>(&mut self, kind: u16) -> T {
        self.peek();
        self.n += 1;
        compare::scrub();
        match self.logged(kind) {
            Some(v) => v,
            None => self.missing(&format!("the answer to query {} (kind {kind})", self.n)),
        }
    }

    /// The answer to the next query: the log's, or the predicted one.
    pub fn answer_or<T: Wire>(&mut self, kind: u16, expected: T) -> T {
        self.answer_if(kind).unwrap_or(expected)
    }

    /// The answer to the next query, if the log has one.
    pub fn answer_if<T: Wire>(&mut self, kind: u16) -> Option<T> {
        self.peek();
        self.n += 1;
        compare::scrub();
        self.logged(kind)
    }

    #[inline(never)]
    fn logged<T: Wire>(&mut self, kind: u16) -> Option<T> {
        let want = self.n;
        // Not peek(): a check behind this query holds what the query itself is about to put out.
        let found = match self.ahead.front() {
            Some(Record::Answer { n, kind, .. }) if *n <= want => Some((*n, *kind)),
            _ => None,
        }?;
        if found != (want, kind) {
            self.diverged("query", &format!("{found:?}"), &format!("{:?}", (want, kind)));
        }
        let Some(Record::Answer { bytes, .. }) = self.ahead.front() else {
            return None;
        };
        // The value goes into the image: it is built on the caller's side.
        compare::scrub();
        let v = T::take(&mut bytes.as_slice());
        if v.is_none() {
            self.diverged("answer", "a value of this query's type", "other bytes");
        }
        self.drop_front();
        v
    }

    /// What the door says about a predicted clock read.
    pub fn clock(&mut self, e: u64) -> Check {
        let found = match self.peek() {
            Some(Record::Clock { e: at, v }) if *at <= e => Some((*at, *v)),
            _ => None,
        };
        match found {
            None => Check::Holds,
            Some((at, v)) => {
                if at != e {
                    self.diverged("clock read", &format!("at entry {at}"), &format!("at entry {e}"));
                }
                self.drop_front();
                self.miss = None;
                v.map_or(Check::Ahead, Check::Behind)
            }
        }
    }

    /// Logical time of the next read that was not as predicted.
    pub fn next_miss(&mut self) -> u64 {
        if let Some(e) = self.miss {
            return e;
        }
        let mut i = 0;
        let e = loop {
            if i == self.ahead.len() && !self.more() {
                break u64::MAX;
            }
            if let Some(Record::Clock { e, .. }) = self.ahead.get(i) {
                break *e;
            }
            i += 1;
        };
        self.miss = Some(e);
        e
    }

    /// The inputs of an absorb point.
    pub fn absorb(&mut self, point: u64) -> Vec<(Stamp, Input)> {
        let found = match self.peek() {
            Some(Record::Absorb { point: at, .. }) if *at <= point => Some(*at),
            _ => None,
        };
        let Some(at) = found else { return Vec::new() };
        if at != point {
            self.diverged("absorb point", &at.to_string(), &point.to_string());
        }
        compare::scrub();
        let own = match self.ahead.front() {
            Some(Record::Absorb { inputs, .. }) => inputs.clone(),
            _ => Vec::new(),
        };
        self.drop_front();
        own
    }

    /// The cut that comes before the next entry, if the image has made `entries` by now.
    pub fn cut(&mut self, entries: u64) -> Option<Vec<u8>> {
        match self.peek() {
            Some(Record::Cut { e, .. }) if *e <= entries => {}
            _ => return None,
        }
        let Some(Record::Cut { e, bytes }) = self.pop() else {
            return None;
        };
        if e != entries {
            self.diverged(
                "cut",
                &format!("after entry {e}"),
                &format!("after entry {entries}"),
            );
        }
        // The cut carries the clock with it: misses before it are in the past.
        self.miss = None;
        Some(bytes)
    }

    /// The image after `entries` entries, where the log has a mark.
    pub fn mark(&mut self, entries: u64, actual: &Mark) {
        let bytes = match self.peek() {
            Some(Record::Mark { e, bytes }) if *e == entries => bytes.clone(),
            Some(Record::Mark { e, .. }) => {
                let e = *e;
                self.diverged(
                    "mark",
                    &format!("after entry {e}"),
                    &format!("after entry {entries}"),
                )
            }
            Some(other) => {
                let expected = brief(other);
                self.diverged("mark", &expected, &format!("a mark after entry {entries}"))
            }
            None => self.missing(&format!("a mark after entry {entries}")),
        };
        let Some(expected) = Mark::take(&mut bytes.as_slice()) else {
            self.diverged("mark", "a mark", "other bytes");
        };
        if expected != *actual {
            let (e, a, more) = marks::difference(&expected, actual);
            self.more = more;
            self.diverged("mark", &e, &a);
        }
        self.good_until = self.taken;
        self.good_entry = entries;
        self.drop_front();
    }

    /// The anchor that comes next, if nothing is before it: entries and place.
    pub fn anchor(&mut self) -> Option<(u64, Place)> {
        match self.peek() {
            Some(Record::Anchor { e, bytes }) => Some((*e, Place::take(&mut &bytes[..]).unwrap_or_default())),
            _ => None,
        }
    }

    /// The image went to the top as when the anchor was taken.
    pub fn pass_anchor(&mut self) {
        self.drop_front();
        self.marks.begin_anew();
    }

    /// Virtual time of the first input of absorb point `point`, if it has any.
    pub fn first_input(&mut self, point: u64) -> Option<u64> {
        match self.peek() {
            Some(Record::Absorb { point: at, inputs }) if *at == point => inputs.first().map(|(s, _)| s.v),
            _ => None,
        }
    }

    /// The image ended: was that so, and with this status?
    pub fn end(&mut self, status: i32) {
        match self.peek() {
            Some(Record::End(s)) if *s == status => {}
            Some(other) => {
                let expected = brief(other);
                self.diverged("end", &expected, &format!("the image ended with status {status}"));
            }
            None => self.missing("the image's end"),
        }
    }

    /// Tells [`Replayer::probe`] how the replay ends: wait status of the image (none: the log ended before it),
    /// entries, and whether the program was about to go on.
    pub fn tell_end(&self, status: Option<i32>, entries: u64, goes_on: bool) {
        if let Some(path) = &self.probe {
            let _side = alloc::enter(Side::Host);
            let status = status.map_or("none".to_string(), |s| s.to_string());
            let _ = std::fs::write(path, format!("{status} {entries} {}", u8::from(goes_on)));
        }
    }

    /// The log has nothing more: a writer that died. What there was has been replayed.
    pub fn missing(&mut self, what: &str) -> ! {
        alloc::set(Side::System);
        self.tell_end(None, crate::run::entries(), what == GOES_ON);
        let damage = self.log.ended_by.map_or(String::new(), |e| format!(" ({e})"));
        if self.peek().is_some() {
            let expected = self.ahead.front().map_or(String::new(), brief);
            self.diverged("event", &expected, what);
        }
        let line = format!(
            "ftvm: the log ends after {} records{damage}; replayed up to there\n",
            self.taken
        );
        talk::lines(Level::Info, &line);
        // A log that ends early is one whose writer died; a damaged one is an error all the same.
        let torn = matches!(self.log.ended_by, None | Some(FrameError::Short));
        crate::run::die(if torn { 0 } else { EXIT_INCOMPATIBLE })
    }

    /// Something is not as recorded.
    pub fn diverged(&mut self, what: &str, expected: &str, actual: &str) -> ! {
        alloc::set(Side::System);
        let good = match self.good_entry {
            0 => String::new(),
            e => format!(", entry {e}"),
        };
        let line = format!(
            "ftvm: diverged at {what}: expected {expected}, actual {actual}\n{}ftvm:   {}, {}\nftvm:   {}, record {}; last agreement at record {}{good}\n",
            self.more,
            crate::run::what_was_running(),
            crate::run::where_it_was(),
            crate::run::when(),
            self.taken,
            self.good_until,
        );
        talk::lines(Level::Error, &line);
        crate::run::die(EXIT_DIVERGED)
    }
}
