//! Two stacks and a link between them that loses, repeats, reorders and delays by a seed.
#![allow(dead_code)]

use ftl_tcpip::{Config, Event, FlowId, Ns, Stack};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// 1 Gbit/s.
const BYTE_NS: Ns = 8;
pub const MS: Ns = 1_000_000;

/// What the link does to a frame, in parts of 1000.
#[derive(Clone, Copy)]
pub struct Link {
    pub loss: u64,
    pub twice: u64,
    /// Frames that come late, and so behind later ones.
    pub late: u64,
    pub delay_ns: Ns,
}

impl Link {
    pub const CLEAN: Link = Link {
        loss: 0,
        twice: 0,
        late: 0,
        delay_ns: 50_000,
    };
}

pub struct Sim {
    pub now: Ns,
    pub ends: [Stack; 2],
    pub link: Link,
    pub sent: [u64; 2],
    /// No frame of this end arrives.
    pub cut: [bool; 2],
    pub events: [Vec<Event>; 2],
    /// Copies of all frames, if they are wanted.
    pub tap: Option<Vec<Vec<u8>>>,
    rng: u64,
    /// When the link has taken what was sent.
    free: [Ns; 2],
    flying: BTreeMap<(Ns, u64), (usize, Vec<u8>)>,
    serial: u64,
}

pub fn addr(end: usize, port: u16) -> SocketAddr {
    SocketAddr::new(format!("10.0.0.{}", end + 1).parse().unwrap(), port)
}

pub fn addr6(end: usize, port: u16) -> SocketAddr {
    SocketAddr::new(format!("fd00::{}", end + 1).parse().unwrap(), port)
}

pub fn config(end: usize, offload: usize) -> Config {
    let mut c = Config::new([2, 0, 0, 0, 0, end as u8 + 1], 1500);
    c.addrs = vec![(addr(end, 0).ip(), 24), (addr6(end, 0).ip(), 64)];
    c.offload = offload;
    c
}

impl Sim {
    pub fn new(seed: u64, link: Link, offload: usize) -> Sim {
        let end = |i: usize| Stack::new(config(i, offload), [seed, i as u64]);
        Sim {
            now: 1_000_000_000,
            ends: [end(0), end(1)],
            link,
            sent: [0; 2],
            cut: [false; 2],
            events: Default::default(),
            tap: None,
            rng: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            free: [0; 2],
            flying: BTreeMap::new(),
            serial: 0,
        }
    }

    pub fn random(&mut self, n: u64) -> u64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        (self.rng >> 11) % n
    }

    fn fly(&mut self, to: usize, frame: Vec<u8>, delay: Ns) {
        self.serial += 1;
        self.flying.insert((self.now + delay, self.serial), (to, frame));
    }

    /// Takes what both ends have sent onto the link, and their news.
    pub fn collect(&mut self) {
        for i in 0..2 {
            while let Some(f) = self.ends[i].take_frame() {
                self.sent[i] += 1;
                if let Some(tap) = &mut self.tap {
                    tap.push(f.clone());
                }
                if self.cut[i] || self.random(1000) < self.link.loss {
                    continue;
                }
                self.free[i] = self.free[i].max(self.now) + f.len() as Ns * BYTE_NS;
                let mut delay = self.link.delay_ns + self.free[i] - self.now;
                if self.random(1000) < self.link.late {
                    delay += self.random(8) * self.link.delay_ns;
                }
                if self.random(1000) < self.link.twice {
                    let more = delay + self.random(5) * self.link.delay_ns;
                    self.fly(1 - i, f.clone(), more);
                }
                self.fly(1 - i, f, delay);
            }
            while let Some(e) = self.ends[i].take_event() {
                self.events[i].push(e);
            }
        }
    }

    /// The next thing happens: an arrival or a timer. False if there is none before `until`.
    pub fn step(&mut self, until: Ns) -> bool {
        self.collect();
        let arrival = self.flying.first_key_value().map(|(k, _)| k.0);
        let timers = self.ends.iter().filter_map(Stack::deadline).min();
        let Some(next) = arrival.into_iter().chain(timers).min() else {
            self.now = until;
            return false;
        };
        if next > until {
            self.now = until;
            return false;
        }
        self.now = self.now.max(next);
        let now = self.now;
        if arrival == Some(next) {
            if let Some((_, (to, frame))) = self.flying.pop_first() {
                self.ends[to].input(&frame, now);
            }
        } else {
            for e in &mut self.ends {
                e.expire(now);
            }
        }
        self.collect();
        true
    }

    pub fn run(&mut self, span: Ns) {
        let until = self.now + span;
        while self.step(until) {}
    }

    /// Runs until `done`, at most for `span`; whether it was.
    pub fn run_until(&mut self, span: Ns, mut done: impl FnMut(&mut Sim) -> bool) -> bool {
        let until = self.now + span;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(until) {
                return done(self);
            }
        }
    }

    /// A connection from end 0 to a listener at end 1.
    pub fn connected(&mut self) -> (FlowId, FlowId) {
        self.ends[1].listen(addr(1, 80), false, 10, None);
        let now = self.now;
        let a = self.ends[0].connect(addr(0, 40_000), addr(1, 80), now).unwrap();
        let mut b = None;
        assert!(self.run_until(60_000 * MS, |s| {
            b = b.or(s.accepted(1));
            b.is_some() && s.ends[0].status(a).unwrap().connected()
        }));
        (a, b.unwrap())
    }

    pub fn accepted(&mut self, end: usize) -> Option<FlowId> {
        let at = self.events[end]
            .iter()
            .position(|e| matches!(e, Event::Accept(..)))?;
        match self.events[end].remove(at) {
            Event::Accept(l, f) => {
                self.ends[end].took(l);
                Some(f)
            }
            _ => None,
        }
    }

    pub fn write(&mut self, end: usize, f: FlowId, bytes: &[u8]) -> usize {
        let mut done = 0;
        let now = self.now;
        self.ends[end].write(f, bytes.len(), false, now, &mut |room| {
            let n = room.len().min(bytes.len() - done);
            room[..n].copy_from_slice(&bytes[done..done + n]);
            done += n;
            n
        })
    }

    pub fn read(&mut self, end: usize, f: FlowId) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let part = self.ends[end].peek(f, out.len());
            if part.is_empty() {
                break;
            }
            out.extend_from_slice(part);
        }
        let now = self.now;
        self.ends[end].consume(f, out.len(), now);
        out
    }
}

/// Byte `i` of the stream that the tests send.
pub fn byte(i: usize) -> u8 {
    (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[6]
}

/// Sends `len` bytes from end `from`, reads and checks them at the other. Virtual ns that it took.
pub fn transfer(s: &mut Sim, from: usize, a: FlowId, b: FlowId, len: usize, limit: Ns) -> Ns {
    let began = s.now;
    let data: Vec<u8> = (0..len).map(byte).collect();
    let (mut sent, mut got) = (0, 0);
    let ok = s.run_until(limit, |s| {
        if sent < len {
            sent += s.write(from, a, &data[sent..]);
        }
        for b in s.read(1 - from, b) {
            assert_eq!(b, byte(got), "at {got}");
            got += 1;
        }
        got == len
    });
    assert!(ok, "{got} of {len} after {} ms", (s.now - began) / MS);
    s.now - began
}
