//! Primary, backup, arbiter, clients and network in one process, driven by a seed.
//!
//! Where the model tries every order of a few events, this runs long schedules with everything at once:
//! records in batches, incremental snapshots, a clock that is predicted and missed, timers, streams, lost and
//! late packets, nodes that stop for a while or die, links that stall in one direction or break, an arbiter that
//! is slow, deaf, or carries out late what it was not known to have heard.
//!
//! Checked at every output that leaves (I3, I6, I7) and at every takeover; see [`World::leaves`] and
//! [`World::go_live`]. At the end all faults are healed, and an image that was not lost must be protected again.

mod drive;
mod image;
mod rules;
mod run;

use super::arbiter::{Answer, Memory, Outcome, Request as Question};
use super::backup::{self, Backup, Takeover};
use super::primary::{self, Base, Primary};
use super::{Class, Config, Frame, Mark, Member, Mutant, OnSlow, Output, Time, Unprotected};
use crate::clock::{Check, EPS_NS};
use crate::door::{Input, Stamp};
use crate::log::frame::{Batch, next_frame, write_frame};
use crate::log::{Coder, Record};
use crate::platform::{Handle, Ns};
use image::{Did, Doors, Image, Request, hash, mix};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

pub const US: Ns = 1_000;
pub const MS: Ns = 1_000_000;
const IMAGE: u64 = 7;
const CLIENTS: u8 = 3;

/// Seeded numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0, 0)
    }
    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    pub fn between(&mut self, lo: Ns, hi: Ns) -> Ns {
        lo + self.below(hi - lo)
    }
}

/// What a schedule is made of.
#[derive(Clone, Debug)]
pub enum Event {
    Frame {
        to: usize,
        conn: u32,
        frame: Frame,
    },
    LinkUp {
        conn: u32,
    },
    Tick {
        node: usize,
    },
    Vcpu {
        node: usize,
    },
    ToImage {
        node: usize,
        request: Request,
    },
    ToClient {
        client: u8,
        seq: u32,
    },
    Client {
        client: u8,
    },
    Ask {
        node: usize,
        run: u32,
        question: Question,
        answer: bool,
    },
    Answer {
        node: usize,
        answer: Answer,
    },
    BaseStep {
        node: usize,
    },
    LetOut {
        node: usize,
    },
    Applied {
        node: usize,
        snap: u64,
    },
    Replayed {
        node: usize,
    },
    Fault,
    Restart {
        node: usize,
    },
}

impl Event {
    fn node(&self) -> Option<usize> {
        match self {
            Event::Frame { to, .. } => Some(*to),
            Event::Tick { node }
            | Event::Vcpu { node }
            | Event::ToImage { node, .. }
            | Event::Answer { node, .. }
            | Event::BaseStep { node }
            | Event::LetOut { node }
            | Event::Applied { node, .. }
            | Event::Replayed { node } => Some(*node),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Live {
    p: Primary,
    image: Image,
    queue: VecDeque<(Stamp, Request)>,
    coder: Coder,
    batch: Batch,
    /// Real time minus the image's: takeovers start it at or past H.
    offset: i64,
    /// V at the last absorb point.
    absorbed_v: Ns,
    /// Snapshot: 0 none, 1 whole one begun, 2 its last round, 3 an incremental one.
    base: u8,
    snap: u64,
    applied: u64,
    stop: bool,
    throttled: bool,
}

#[derive(Debug)]
struct Copy {
    b: Backup,
    image: Option<Image>,
    replayed: Option<Image>,
    coming: u64,
}

#[derive(Debug)]
enum Role {
    Down,
    Primary(Box<Live>),
    Backup(Box<Copy>),
}

#[derive(Debug)]
struct Node {
    role: Role,
    /// Events of an older run of this node are void.
    run: u32,
    paused_until: Ns,
}

#[derive(Debug, Default)]
struct Client {
    seq: u32,
    /// The last that was answered.
    answered: u32,
    retry: Ns,
}

/// What a schedule met: totals over schedules show that they are not all alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    pub schedules: u64,
    pub events: u64,
    pub takeovers: u64,
    pub second_takeovers: u64,
    pub switchovers: u64,
    pub fenced: u64,
    pub holds: u64,
    pub syncs: u64,
    pub resumed: u64,
    pub lost_images: u64,
    pub replies: u64,
    pub repeated: u64,
    pub refused: u64,
    pub gated: u64,
    pub zero_wait: u64,
    pub late_releases: u64,
    pub snapshots: u64,
    pub misses: u64,
    pub unknowns: u64,
    pub throttled: u64,
}

pub struct World {
    seed: u64,
    dice: Dice,
    mutant: Option<Mutant>,
    now: Ns,
    seq: u64,
    events: BinaryHeap<Reverse<(Ns, u64, u32)>>,
    slots: Vec<Option<(u32, Event)>>,
    free: Vec<u32>,
    nodes: [Node; 2],
    incarnations: u32,
    conn: u32,
    up: bool,
    /// Frames to node i are delivered in order, and not before this.
    clear_at: [Ns; 2],
    latency: Ns,
    arbiter: Memory,
    arbiter_bad_until: Ns,
    clients: [Client; CLIENTS as usize],
    snapshots: BTreeMap<u64, Image>,
    /// Inputs that were stamped and not absorbed when a snapshot was taken, as they came with it.
    pending: BTreeMap<u64, Vec<u8>>,
    snaps: u64,
    /// Hash of each output that left, by number.
    left: BTreeMap<u64, u64>,
    /// How far a consumer of the stream has got.
    stream: u64,
    emitted: BTreeMap<u32, usize>,
    faults_until: Ns,
    wire: bool,
    tiny_gate: bool,
    on_slow: OnSlow,
    took_over: u64,
    pub met: Met,
    pub broken: Option<String>,
}
