//! A toy image that has what makes replication hard: inputs that arrive while it is busy, timers, a predicted
//! clock, outputs of all classes, long computations. The clock is the product's. Every output shows a digest of the
//! whole history, so one difference anywhere shows in all that follows.

use crate::clock::{Check, Clock};
use crate::platform::Ns;
use crate::replica::{Class, Mark, Time};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

/// What a client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    pub client: u8,
    pub seq: u32,
    pub op: u8,
    pub arg: u8,
}

impl Request {
    pub fn encode(self) -> Vec<u8> {
        let mut v = vec![self.client, self.op, self.arg];
        v.extend_from_slice(&self.seq.to_le_bytes());
        v
    }

    pub fn decode(b: &[u8]) -> Request {
        Request {
            client: b[0],
            op: b[1],
            arg: b[2],
            seq: u32::from_le_bytes(b[3..7].try_into().expect("seven bytes")),
        }
    }
}

/// The two doors, live or in replay.
pub trait Doors {
    /// Is the predicted read right?
    fn check(&mut self, e: u64, p: u64) -> Check;
    /// Virtual time of the next input that is visible at this absorb point.
    fn peek(&self, point: u64) -> Option<Ns>;
    fn take(&mut self) -> Request;
    /// The clock has come to this deadline, and no input before it.
    fn fires(&self, deadline: Ns) -> bool;
    fn output(&mut self, at: Time, class: Class, bytes: Vec<u8>) -> Mark;
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Did {
    Ran,
    /// Nothing to do before this deadline, if any.
    Idle(Option<Ns>),
}

#[derive(Clone, Debug)]
struct Job {
    of: Request,
    left: u32,
}

#[derive(Debug)]
pub struct Image {
    pub clock: Clock,
    /// Absorb points so far.
    pub point: u64,
    regs: [u64; 4],
    timers: Vec<(Ns, u8)>,
    job: Option<Job>,
    /// Last request of each client, and its reply.
    pub last: BTreeMap<u8, (u32, Vec<u8>)>,
    digest: u64,
    /// Not of the image: hash and mark of every output.
    pub trail: Vec<(u64, Mark)>,
}

pub fn mix(h: u64, x: u64) -> u64 {
    let mut z = (h ^ x).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |h, b| mix(h, u64::from(*b)))
}

impl Clone for Image {
    fn clone(&self) -> Image {
        let c = &self.clock;
        let cell = |c: &Cell<u64>| Cell::new(c.get());
        Image {
            clock: Clock {
                v: cell(&c.v),
                e: cell(&c.e),
                base_v: cell(&c.base_v),
                base_e: cell(&c.base_e),
                q: cell(&c.q),
                cap: cell(&c.cap),
                real_offset: cell(&c.real_offset),
                boot_offset: cell(&c.boot_offset),
                vdso_left: cell(&c.vdso_left),
            },
            point: self.point,
            regs: self.regs,
            timers: self.timers.clone(),
            job: self.job.clone(),
            last: self.last.clone(),
            digest: self.digest,
            trail: self.trail.clone(),
        }
    }
}

impl Image {
    pub fn new(v: Ns) -> Image {
        let cell = || Cell::new(0);
        let clock = Clock {
            v: cell(),
            e: cell(),
            base_v: cell(),
            base_e: cell(),
            q: cell(),
            cap: cell(),
            real_offset: cell(),
            boot_offset: cell(),
            vdso_left: cell(),
        };
        clock.start(v, 0, 0);
        Image {
            clock,
            point: 0,
            regs: [0; 4],
            timers: Vec::new(),
            job: None,
            last: BTreeMap::new(),
            digest: 1,
            trail: Vec::new(),
        }
    }

    pub fn time(&self) -> Time {
        Time {
            e: self.clock.e.get(),
            v: self.clock.last(),
        }
    }

    /// One entry.
    pub fn step(&mut self, doors: &mut impl Doors) -> Did {
        if self.job.is_some() {
            self.work(doors);
            return Did::Ran;
        }
        let due = self.timers.first().copied();
        match (doors.peek(self.point + 1), due) {
            (Some(v), Some((d, r))) if d <= v => self.fire(d, r, doors),
            (Some(v), _) => self.absorb(v, doors),
            (None, Some((d, r))) if doors.fires(d) => self.fire(d, r, doors),
            (None, _) => return Did::Idle(due.map(|(d, _)| d)),
        }
        Did::Ran
    }

    fn note(&mut self, x: u64) {
        self.digest = mix(self.digest, x);
    }

    fn fire(&mut self, deadline: Ns, reg: u8, doors: &mut impl Doors) {
        self.point += 1;
        self.timers.remove(0);
        self.clock.tick();
        self.clock.advance(deadline);
        self.regs[usize::from(reg % 4)] += 1;
        self.note(self.clock.last());
        let bytes = self.digest.to_le_bytes().to_vec();
        self.output(Class::Udp, bytes, doors);
    }

    fn absorb(&mut self, v: Ns, doors: &mut impl Doors) {
        let r = doors.take();
        self.point += 1;
        self.clock.tick();
        self.clock.advance(v);
        self.note(u64::from(r.seq) << 8 | u64::from(r.client));
        match self.last.get(&r.client) {
            Some((seq, reply)) if *seq == r.seq => {
                let key = Some((u64::from(r.client), r.seq));
                let bytes = reply.clone();
                self.output(Class::Tcp { key }, bytes, doors);
            }
            Some((seq, _)) if *seq > r.seq => {}
            _ => {
                let left = if r.op == 1 { u32::from(r.arg) + 1 } else { 2 };
                self.job = Some(Job { of: r, left });
            }
        }
    }

    fn work(&mut self, doors: &mut impl Doors) {
        let v = self.clock.read(|e, p| doors.check(e, p));
        self.note(v);
        let Some(job) = &mut self.job else { return };
        job.left -= 1;
        let (left, r) = (job.left, job.of);
        if r.op == 1 && left % 8 == 7 {
            let line = self.digest.to_le_bytes()[..5].to_vec();
            self.output(Class::Stream { stream: 1 }, line, doors);
        }
        if left > 0 {
            return;
        }
        self.job = None;
        match r.op {
            0 => self.regs[usize::from(r.arg % 4)] += u64::from(r.arg),
            2 => {
                self.timers.push((v + u64::from(r.arg) * 100_000, r.arg));
                self.timers.sort_unstable();
            }
            _ => {}
        }
        let mut reply = vec![r.client];
        reply.extend_from_slice(&r.seq.to_le_bytes());
        reply.extend_from_slice(&self.digest.to_le_bytes());
        reply.extend(self.regs.iter().flat_map(|r| r.to_le_bytes()));
        self.last.insert(r.client, (r.seq, reply.clone()));
        let key = Some((u64::from(r.client), r.seq));
        self.output(Class::Tcp { key }, reply, doors);
    }

    fn output(&mut self, class: Class, bytes: Vec<u8>, doors: &mut impl Doors) {
        let h = hash(&bytes);
        let mark = doors.output(self.time(), class, bytes);
        self.trail.push((h, mark));
    }
}

/// The doors of a replay: what the log says, and beyond it what was predicted, up to the horizon.
pub struct Replay<'a> {
    pub inputs: VecDeque<(u64, Ns, Request)>,
    pub misses: VecDeque<(u64, Option<u64>)>,
    pub h: Time,
    pub out: &'a mut dyn FnMut(Time, Class, Vec<u8>),
}

impl Replay<'_> {
    pub fn rest(&self) -> bool {
        !self.inputs.is_empty() || !self.misses.is_empty()
    }
}

impl Doors for Replay<'_> {
    fn check(&mut self, e: u64, _: u64) -> Check {
        match self.misses.pop_front_if(|(at, _)| *at == e) {
            Some((_, Some(v))) => Check::Behind(v),
            Some((_, None)) => Check::Ahead,
            None => Check::Holds,
        }
    }

    fn peek(&self, point: u64) -> Option<Ns> {
        self.inputs
            .front()
            .filter(|(k, ..)| *k <= point)
            .map(|(_, v, _)| *v)
    }

    fn take(&mut self) -> Request {
        self.inputs.pop_front().expect("it was seen").2
    }

    fn fires(&self, deadline: Ns) -> bool {
        self.rest() || deadline <= self.h.v
    }

    fn output(&mut self, at: Time, class: Class, bytes: Vec<u8>) -> Mark {
        (self.out)(at, class, bytes);
        Mark { position: 0, at }
    }
}
