//! A small world of two nodes (or three), an arbiter and a link, in which every order of events is tried.
//!
//! The nodes are the product's own machines; only the image is a toy: its history is a list of choices, 0 =
//! as predicted (no record), 1 = not (a record), and every choice is followed by an output that shows the whole
//! history so far, as a reply does. Nothing has a clock that means anything: a node may find the other silent at
//! any moment, which also stands for a pause of either, and a frame may stay in the link for ever, in one
//! direction or both, which stands for a partition. How often things go wrong is bounded by [`Budget`].
//!
//! The arbiter is linearizable but otherwise as bad as it can be: a question may be carried out late, its answer
//! later still, and the node may be told "unknown" in between, after which the question may still be carried
//! out at any time or never. The same after a crash.
//!
//! What must hold is in `rules.rs`, and where the register changes ([`World::apply`]).

mod explore;
mod rules;

use super::arbiter::{Answer, Ask, Memory, Outcome, Request};
use super::backup::{self, Backup, Takeover};
use super::duo::records;
use super::primary::{self, Base, Command, Primary};
use super::{Class, Config, Frame, Mark, Member, Mutant, Time, Unprotected};
use crate::log::frame::next_frame;
use crate::platform::Ns;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// How often what happens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    /// Choices of the image, over all epochs.
    pub choices: u8,
    pub crashes: u8,
    /// New incarnations: of a crashed, fenced or lost node.
    pub restarts: u8,
    /// A node finds the other silent.
    pub silences: u8,
    /// The link breaks and comes back; what was in it is lost.
    pub links: u8,
    /// The arbiter does not answer.
    pub unknowns: u8,
    pub switchovers: u8,
    /// Frames of a broken link that come after all.
    pub stale: u8,
    /// A second process on the second host.
    pub thirds: u8,
}

/// One step of the world. Numbers are nodes, or questions in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Choose(u8, u8),
    Release(u8),
    Deliver(u8),
    LastRound(u8),
    EndBase(u8),
    StopVcpu(u8),
    Apply(u8),
    Answer(u8),
    Unknown(u8),
    Silent(u8),
    Live(u8),
    Stale(u8),
    Crash(u8),
    Restart(u8),
    Link(u8, u8),
    Switchover(u8),
    /// Another process comes up on the second host, while the first may still be there.
    Third,
}

type History = Vec<u8>;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Node {
    Down,
    Primary {
        p: Primary,
        history: History,
        /// 1: a snapshot has begun; 2: its last round.
        base: u8,
        /// 1: was asked to stop; 2: stands still.
        stop: u8,
    },
    Backup {
        b: Backup,
        /// Of the snapshot in place.
        history: History,
        /// The image that a takeover is making.
        replayed: Option<History>,
    },
}

/// A question in flight. One that is no orphan is the one its machine waits for, whatever its number.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Flight {
    node: u8,
    request: Request,
    outcome: Option<Outcome>,
    /// Nobody waits for the answer.
    orphan: bool,
}

impl Hash for Flight {
    fn hash<H: Hasher>(&self, h: &mut H) {
        (self.node, &self.request.ask, &self.outcome, self.orphan).hash(h);
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    mutant: Option<Mutant>,
    left: Budget,
    nodes: [Node; 3],
    now: [Ns; 3],
    /// The two that the link joins.
    pair: (u8, u8),
    /// Frames on their way to node i.
    to: [VecDeque<Frame>; 3],
    /// The last one of a link that broke.
    stale: [Option<Frame>; 3],
    arbiter: Memory,
    flights: Vec<Flight>,
    incarnations: u8,
    /// The longest history that has left.
    seen: History,
    /// Who emitted in which epoch.
    emitted: Vec<(u32, u8)>,
}

const IMAGE: u64 = 1;

fn config(mutant: Option<Mutant>, node: u8, inc: u8) -> Config {
    // The third is another process on the second's host.
    let node = node.min(1);
    let me = Member {
        node: u64::from(node) + 1,
        inc: u128::from(inc) << 32,
    };
    Config {
        heartbeat_ns: 1 << 40,
        detect_min_ns: 2,
        detect_max_ns: 2,
        arbiter_timeout_ns: 1 << 40,
        arbiter_retry_ns: 0,
        handover_timeout_ns: 2,
        slow_ns: 1 << 40,
        horizon_entries: 2,
        horizon_ns: 2,
        horizon_idle_ns: 2,
        unprotected: Unprotected::Run,
        mutant,
        ..Config::new(IMAGE, me)
    }
}

/// One is a prefix of the other.
fn agree(a: &[u8], b: &[u8]) -> bool {
    let n = a.len().min(b.len());
    a[..n] == b[..n]
}

/// What a takeover makes of a snapshot, log and horizon.
fn replay<'a>(base: &[u8], log: impl Iterator<Item = &'a [u8]>, position: u64, until: u64) -> History {
    let mut h = base.to_vec();
    for mut frames in log {
        while let Ok((batch, n)) = next_frame(frames, IMAGE) {
            frames = &frames[n..];
            if batch.position >= position {
                // Its one record: the entry at which the choice was not as predicted.
                h.resize(h.len().max(usize::from(batch.bytes[0])), 0);
                h.push(1);
            }
        }
    }
    h.resize(h.len().max(until as usize), 0);
    h
}

impl World {
    /// Node 0 is primary and alone; node 1 has just come.
    pub fn new(left: Budget, mutant: Option<Mutant>) -> World {
        let mut w = World {
            mutant,
            left,
            nodes: [Node::Down, Node::Down, Node::Down],
            now: [0; 3],
            pair: (0, 1),
            to: Default::default(),
            stale: Default::default(),
            arbiter: Memory::default(),
            flights: Vec::new(),
            incarnations: 2,
            seen: Vec::new(),
            emitted: Vec::new(),
        };
        w.nodes[0] = Node::Primary {
            p: Primary::new(config(mutant, 0, 1)),
            history: Vec::new(),
            base: 0,
            stop: 0,
        };
        w.nodes[1] = World::fresh(mutant, 1, 2, 0);
        w.primary(0, primary::Input::Start);
        w.settle(|e| matches!(e, Event::Apply(_) | Event::Answer(_)));
        assert_eq!(w.link(0, 1), Ok(()));
        w
    }

    /// The two are in sync and protected.
    pub fn synced(left: Budget, mutant: Option<Mutant>) -> World {
        let mut w = World::new(left, mutant);
        w.settle(|e| {
            matches!(
                e,
                Event::Apply(_)
                    | Event::Answer(_)
                    | Event::Deliver(_)
                    | Event::LastRound(_)
                    | Event::EndBase(_)
            )
        });
        assert!(matches!(&w.nodes[0], Node::Primary { p, .. } if p.phase() == primary::Phase::Prot));
        w
    }

    /// Lets happen what matters until nothing does.
    fn settle(&mut self, matters: impl Fn(&Event) -> bool) {
        while let Some(e) = self.events().into_iter().find(|e| matters(e)) {
            assert_eq!(self.step(e).and_then(|()| self.check()), Ok(()));
        }
    }

    fn fresh(mutant: Option<Mutant>, node: u8, inc: u8, now: Ns) -> Node {
        Node::Backup {
            b: Backup::new(config(mutant, node, inc), now),
            history: Vec::new(),
            replayed: None,
        }
    }

    /// What can happen now.
    pub fn events(&self) -> Vec<Event> {
        let mut v = Vec::with_capacity(16);
        for i in 0..3u8 {
            let n = &self.nodes[usize::from(i)];
            let over;
            match n {
                Node::Down if i == 2 => {
                    if self.left.thirds > 0 {
                        v.push(Event::Third);
                    }
                    continue;
                }
                Node::Down => over = true,
                Node::Primary { p, base, stop, .. } => {
                    let phase = p.phase();
                    over = phase == primary::Phase::Fenced;
                    if !over && *stop < 2 && self.left.choices > 0 && phase != primary::Phase::Boot {
                        v.extend([Event::Choose(i, 0), Event::Choose(i, 1)]);
                    }
                    if p.clone().next_output(0).is_some() {
                        v.push(Event::Release(i));
                    }
                    match base {
                        1 => v.push(Event::LastRound(i)),
                        2 => v.push(Event::EndBase(i)),
                        _ => {}
                    }
                    if *stop == 1 {
                        v.push(Event::StopVcpu(i));
                    }
                    if phase == primary::Phase::Prot && self.left.switchovers > 0 {
                        v.push(Event::Switchover(i));
                    }
                }
                Node::Backup { b, replayed, .. } => {
                    over = b.phase() == backup::Phase::Lost;
                    if replayed.is_some() {
                        v.push(Event::Live(i));
                    }
                }
            }
            if over {
                if self.left.restarts > 0 {
                    v.push(Event::Restart(i));
                }
                continue;
            }
            if !self.to[usize::from(i)].is_empty() {
                v.push(Event::Deliver(i));
            }
            if self.left.stale > 0 && self.stale[usize::from(i)].is_some() {
                v.push(Event::Stale(i));
            }
            if self.left.silences > 0 {
                v.push(Event::Silent(i));
            }
            if self.left.crashes > 0 {
                v.push(Event::Crash(i));
            }
        }
        for (k, f) in self.flights.iter().enumerate() {
            let k = k as u8;
            match &f.outcome {
                None => v.push(Event::Apply(k)),
                Some(_) => v.push(Event::Answer(k)),
            }
            if !f.orphan && self.left.unknowns > 0 {
                v.push(Event::Unknown(k));
            }
        }
        if self.left.links > 0 {
            let up = |i: u8| self.nodes[usize::from(i)] != Node::Down;
            let primary = |i: u8| matches!(self.nodes[usize::from(i)], Node::Primary { .. });
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                if up(a) && up(b) && (primary(a) || primary(b)) {
                    v.push(Event::Link(a, b));
                }
            }
        }
        v
    }

    /// Carries out an event. `Err`: a rule is broken.
    pub fn step(&mut self, e: Event) -> Result<(), String> {
        match e {
            Event::Choose(i, c) => self.choose(i, c),
            Event::Release(i) => return self.release(i),
            Event::Deliver(i) => {
                let Some(f) = self.to[usize::from(i)].pop_front() else {
                    return Ok(());
                };
                return self.deliver(i, f);
            }
            Event::LastRound(i) => {
                if let Node::Primary { base, .. } = &mut self.nodes[usize::from(i)] {
                    *base = 2;
                }
                self.primary(i, primary::Input::Base(Base::LastRound));
            }
            Event::EndBase(i) => self.end_base(i),
            Event::StopVcpu(i) => {
                if let Node::Primary { history, stop, .. } = &mut self.nodes[usize::from(i)] {
                    *stop = 2;
                    let at = time(history);
                    let manifest = Vec::new();
                    self.primary(i, primary::Input::Stopped { at, manifest });
                }
            }
            Event::Apply(k) => return self.apply(usize::from(k)),
            Event::Answer(k) => {
                let f = self.flights.remove(usize::from(k));
                let outcome = f.outcome.unwrap_or(Outcome::Unknown);
                return self.answer(f.node, f.request.id, outcome);
            }
            Event::Unknown(k) => {
                self.left.unknowns -= 1;
                let f = &mut self.flights[usize::from(k)];
                let (node, id) = (f.node, f.request.id);
                f.orphan = true;
                self.drop_idle_flights();
                return self.answer(node, id, Outcome::Unknown);
            }
            Event::Silent(i) => {
                self.left.silences -= 1;
                return self.silent(i);
            }
            Event::Live(i) => return self.live(i),
            Event::Stale(i) => {
                self.left.stale -= 1;
                if let Some(f) = self.stale[usize::from(i)].take() {
                    return self.deliver(i, f);
                }
            }
            Event::Crash(i) => {
                self.left.crashes -= 1;
                self.down(i);
            }
            Event::Restart(i) => {
                self.left.restarts -= 1;
                self.down(i);
                self.incarnations += 1;
                let n = World::fresh(self.mutant, i, self.incarnations, self.now[usize::from(i)]);
                self.nodes[usize::from(i)] = n;
                return self.meet(i);
            }
            Event::Link(a, b) => {
                self.left.links -= 1;
                return self.link(a, b);
            }
            Event::Third => {
                self.left.thirds -= 1;
                self.incarnations += 1;
                self.nodes[2] = World::fresh(self.mutant, 2, self.incarnations, self.now[2]);
                return self.meet(2);
            }
            Event::Switchover(i) => {
                self.left.switchovers -= 1;
                self.primary(i, primary::Input::Command(Command::Switchover));
            }
        }
        Ok(())
    }

    fn drop_idle_flights(&mut self) {
        // Nobody waits, and it has been carried out or changes nothing.
        self.flights
            .retain(|f| !f.orphan || f.outcome.is_none() && f.request.ask != Ask::Read);
    }

    fn down(&mut self, i: u8) {
        self.nodes[usize::from(i)] = Node::Down;
        for f in self.flights.iter_mut().filter(|f| f.node == i) {
            f.orphan = true;
        }
        self.drop_idle_flights();
        self.cut();
    }

    /// What is in the link is lost, or comes when nobody expects it.
    fn cut(&mut self) {
        for i in 0..3 {
            let last = self.to[i].pop_back();
            self.to[i].clear();
            if self.left.stale > 0 && last.is_some() {
                self.stale[i] = last;
            }
        }
    }

    /// A link between these two, and to nobody else.
    fn link(&mut self, a: u8, b: u8) -> Result<(), String> {
        self.cut();
        let old = std::mem::replace(&mut self.pair, (a, b));
        for i in [old.0, old.1].into_iter().filter(|i| *i != a && *i != b) {
            self.linked(i, false)?;
        }
        self.linked(a, true)?;
        self.linked(b, true)
    }

    /// A link to a primary, if there is one.
    fn meet(&mut self, i: u8) -> Result<(), String> {
        let other = |j: &u8| *j != i && matches!(self.nodes[usize::from(*j)], Node::Primary { .. });
        match (0..3).find(other) {
            Some(j) => self.link(i.min(j), i.max(j)),
            None => Ok(()),
        }
    }

    fn linked(&mut self, i: u8, up: bool) -> Result<(), String> {
        match &self.nodes[usize::from(i)] {
            Node::Primary { .. } => self.primary(i, primary::Input::Link(up)),
            Node::Backup { .. } => return self.backup(i, backup::Input::Link(up)),
            Node::Down => {}
        }
        Ok(())
    }

    fn send(&mut self, from: u8, f: Frame) {
        let to = match self.pair {
            (a, b) if a == from => b,
            (a, b) if b == from => a,
            _ => return,
        };
        self.to[usize::from(to)].push_back(f);
    }

    fn choose(&mut self, i: u8, c: u8) {
        self.left.choices -= 1;
        let now = self.now[usize::from(i)];
        let Node::Primary { p, history, .. } = &mut self.nodes[usize::from(i)] else {
            return;
        };
        let entry = history.len() as u8;
        history.push(c);
        let (at, bytes) = (time(history), history.clone());
        let mut out = Vec::new();
        if c == 1 {
            let first = p.promised().position;
            let bytes = records(first, 1, &[entry]);
            let input = primary::Input::Records {
                at,
                first,
                count: 1,
                bytes,
            };
            p.step(now, input, &mut out);
        }
        let mark = Mark {
            position: p.promised().position,
            at,
        };
        p.output(now, mark, Class::Tcp { key: None }, bytes, &mut out);
        self.carry_out(i, out);
    }

    fn deliver(&mut self, i: u8, f: Frame) -> Result<(), String> {
        match &mut self.nodes[usize::from(i)] {
            Node::Down => Ok(()),
            Node::Primary { .. } => {
                self.primary(i, primary::Input::Frame(f));
                Ok(())
            }
            Node::Backup { .. } => {
                self.backup(i, backup::Input::Frame(f))?;
                if matches!(self.nodes[usize::from(i)], Node::Backup { .. }) {
                    self.backup(i, backup::Input::Drained)?;
                }
                Ok(())
            }
        }
    }

    fn end_base(&mut self, i: u8) {
        let Node::Primary { p, history, base, .. } = &mut self.nodes[usize::from(i)] else {
            return;
        };
        *base = 0;
        let mark = Mark {
            position: p.promised().position,
            at: time(history),
        };
        let (marks, manifest) = (p.marks(), history.clone());
        self.primary(
            i,
            primary::Input::Base(Base::End {
                mark,
                marks,
                manifest,
            }),
        );
    }

    fn apply(&mut self, k: usize) -> Result<(), String> {
        let before = self.arbiter.value().cloned();
        let f = &mut self.flights[k];
        f.outcome = Some(self.arbiter.handle(&f.request.ask));
        let after = self.arbiter.value();
        if let (Some(b), Some(a)) = (&before, after)
            && a != b
        {
            // N5, N3.
            if a.epoch != b.epoch + 1 {
                return Err(format!("N5: epoch {} after {}", a.epoch, b.epoch));
            }
            if !b.set.contains(&a.primary) {
                return Err(format!(
                    "N3: {} promoted itself, the set was {:?}",
                    a.primary, b.set
                ));
            }
        }
        self.drop_idle_flights();
        Ok(())
    }

    fn answer(&mut self, i: u8, id: u64, outcome: Outcome) -> Result<(), String> {
        let a = Answer { id, outcome };
        match &self.nodes[usize::from(i)] {
            Node::Down => Ok(()),
            Node::Primary { .. } => {
                self.primary(i, primary::Input::Arbiter(a));
                Ok(())
            }
            // An answer to its own question: after a takeover the machine is another one.
            Node::Backup { .. } => self.backup(i, backup::Input::Arbiter(a)),
        }
    }

    fn silent(&mut self, i: u8) -> Result<(), String> {
        for _ in 0..3 {
            self.now[usize::from(i)] += 1;
            match &self.nodes[usize::from(i)] {
                Node::Down => {}
                Node::Primary { history, .. } => {
                    let at = time(history);
                    self.primary(i, primary::Input::Tick { at, idle: false });
                }
                Node::Backup { .. } => self.backup(i, backup::Input::Tick)?,
            }
        }
        Ok(())
    }

    fn primary(&mut self, i: u8, input: primary::Input) {
        let now = self.now[usize::from(i)];
        if let Node::Primary { p, .. } = &mut self.nodes[usize::from(i)] {
            let mut out = Vec::new();
            p.step(now, input, &mut out);
            self.carry_out(i, out);
        }
    }

    fn carry_out(&mut self, i: u8, out: Vec<primary::Action>) {
        for a in out {
            match a {
                primary::Action::Send(f) => self.send(i, f),
                primary::Action::Ask(request) => self.fly(i, request),
                a => {
                    let Node::Primary { base, stop, .. } = &mut self.nodes[usize::from(i)] else {
                        return;
                    };
                    match a {
                        primary::Action::StartBase => {
                            *base = 1;
                            self.primary(i, primary::Input::Base(Base::Begin { snap: 1, parent: 0 }));
                        }
                        primary::Action::AbortBase => *base = 0,
                        primary::Action::Stop => *stop = 1,
                        primary::Action::Resume => *stop = 0,
                        _ => {}
                    }
                }
            }
        }
    }

    fn fly(&mut self, node: u8, request: Request) {
        self.flights.push(Flight {
            node,
            request,
            outcome: None,
            orphan: false,
        });
    }

    fn backup(&mut self, i: u8, input: backup::Input) -> Result<(), String> {
        let now = self.now[usize::from(i)];
        let Node::Backup { b, .. } = &mut self.nodes[usize::from(i)] else {
            return Ok(());
        };
        let mut out = Vec::new();
        b.step(now, input, &mut out);
        for a in out {
            match a {
                backup::Action::Send(f) => self.send(i, f),
                backup::Action::Ask(request) => self.fly(i, request),
                backup::Action::BaseEnd { snap, manifest } => {
                    if let Node::Backup { history, .. } = &mut self.nodes[usize::from(i)] {
                        *history = manifest;
                    }
                    self.backup(i, backup::Input::Applied { snap })?;
                }
                backup::Action::Replay(t) => self.take_over(i, t),
                _ => {}
            }
        }
        Ok(())
    }

    fn take_over(&mut self, i: u8, t: Takeover) {
        if let Node::Backup { b, history, replayed } = &mut self.nodes[usize::from(i)] {
            let until = t.last.map_or(t.h.e, |l| l.e);
            *replayed = Some(replay(history, b.log(), t.base.position, until));
        }
    }

    /// States of the nodes, for coverage.
    pub fn phases(&self) -> [String; 3] {
        std::array::from_fn(|i| match &self.nodes[i] {
            Node::Down => "down".to_owned(),
            Node::Primary { p, .. } => format!("P.{:?}", p.phase()),
            Node::Backup { b, .. } => format!("B.{:?}", b.phase()),
        })
    }

    /// The register's epoch.
    pub fn epoch(&self) -> u32 {
        self.arbiter.value().map_or(0, |r| r.epoch)
    }

    /// How many different nodes have emitted one after the other.
    pub fn reigns(&self) -> usize {
        let mut e = self.emitted.clone();
        e.sort_unstable();
        e.dedup_by_key(|(_, n)| *n);
        e.len()
    }
}

/// Entry and virtual time go together here.
fn time(h: &[u8]) -> Time {
    let n = h.len() as u64;
    Time { e: n, v: n }
}
