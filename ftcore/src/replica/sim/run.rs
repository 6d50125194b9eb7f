//! Schedules: who asks for what, what goes wrong when, and the tests.
#![allow(clippy::disallowed_macros, reason = "a test reports what it met")]

use super::*;

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>) -> World {
        let mut dice = Dice(mix(seed, 99));
        let node = || Node {
            role: Role::Down,
            run: 0,
            paused_until: 0,
        };
        let mut w = World {
            mutant,
            now: 0,
            seq: 0,
            events: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            nodes: [node(), node()],
            incarnations: 0,
            conn: 0,
            up: false,
            clear_at: [0, 0],
            latency: dice.between(20 * US, 600 * US),
            arbiter: Memory::default(),
            arbiter_bad_until: 0,
            clients: Default::default(),
            snapshots: BTreeMap::new(),
            pending: BTreeMap::new(),
            snaps: 0,
            left: BTreeMap::new(),
            stream: 0,
            emitted: BTreeMap::new(),
            faults_until: dice.between(30 * MS, 90 * MS),
            wire: dice.one_in(16),
            tiny_gate: dice.one_in(8),
            on_slow: if dice.one_in(3) {
                OnSlow::Detach
            } else {
                OnSlow::Throttle
            },
            took_over: 0,
            met: Met::default(),
            broken: None,
            seed,
            dice,
        };
        let cfg = w.config(0);
        w.nodes[0].role = Role::Primary(Box::new(Live::new(Primary::new(cfg), Image::new(0))));
        w.primary(0, primary::Input::Start);
        w.at(0, Event::Tick { node: 0 });
        w.at(0, Event::Restart { node: 1 });
        for client in 0..CLIENTS {
            w.at(MS, Event::Client { client });
        }
        let first = w.dice.between(4 * MS, 30 * MS);
        w.at(first, Event::Fault);
        w
    }

    pub fn client(&mut self, client: u8) {
        let now = self.now;
        let again = now + self.dice.between(300 * US, 3 * MS);
        self.at(again, Event::Client { client });
        let c = &mut self.clients[usize::from(client)];
        if c.answered == c.seq {
            c.seq += 1;
        } else if c.retry > now {
            return;
        }
        c.retry = now + 5 * MS;
        let (seq, x) = (c.seq, mix(self.seed ^ u64::from(client) << 32, u64::from(c.seq)));
        let op = (x % 4) as u8;
        let request = Request {
            client,
            seq,
            // Streams are never dropped: the toy has no back-pressure.
            op: if self.tiny_gate && op == 1 { 0 } else { op },
            arg: (x >> 8) as u8 % 40,
        };
        for node in 0..2 {
            if matches!(self.nodes[node].role, Role::Primary(_)) && !self.dice.one_in(20) {
                let when = now + self.dice.between(20 * US, 200 * US);
                self.at(when, Event::ToImage { node, request });
            }
        }
    }

    pub fn asked(&mut self, node: usize, question: Question) {
        let run = self.nodes[node].run;
        let bad = self.now < self.arbiter_bad_until;
        let (soon, late) = (self.dice.between(50 * US, MS), self.dice.between(MS, 25 * MS));
        let what = if bad { self.dice.below(5) } else { 4 };
        let id = question.id;
        let (when, answer) = match what {
            0 => return,
            1 => (soon, false),
            2 => (late, false),
            3 => (late, true),
            _ => (soon, true),
        };
        if !answer && self.dice.one_in(2) {
            self.met.unknowns += 1;
            let answer = Answer {
                id,
                outcome: Outcome::Unknown,
            };
            let when = self.now + self.dice.between(50 * US, MS);
            self.at(when, Event::Answer { node, answer });
        }
        self.at(
            self.now + when,
            Event::Ask {
                node,
                run,
                question,
                answer,
            },
        );
    }

    pub fn ask(&mut self, node: usize, run: u32, question: Question, answer: bool) {
        let before = self.arbiter.value().cloned();
        let outcome = self.arbiter.handle(&question.ask);
        if let (Some(b), Some(a)) = (&before, self.arbiter.value())
            && a != b
        {
            if a.epoch != b.epoch + 1 {
                self.broke(format!("N5: epoch {} after {}", a.epoch, b.epoch));
            } else if !b.set.contains(&a.primary) {
                self.broke(format!(
                    "N3: {} promoted itself, the set was {:?}",
                    a.primary, b.set
                ));
            }
        }
        // I3: it says protected only if the backup may take over.
        if let (Some(r), Role::Primary(l)) = (self.arbiter.value(), &self.nodes[node].role)
            && r.primary == l.p.config().me
            && l.p.phase() == primary::Phase::Prot
            && !l.p.backup().is_some_and(|(m, _)| r.set.contains(&m))
        {
            let what = format!("I3: says protected, but the set is {:?}", r.set);
            self.broke(what);
        }
        if answer && self.nodes[node].run == run {
            let answer = Answer {
                id: question.id,
                outcome,
            };
            let when = self.now + self.dice.between(50 * US, MS);
            self.at(when, Event::Answer { node, answer });
        }
    }

    pub fn crash(&mut self, node: usize) {
        self.nodes[node].run += 1;
        self.nodes[node].role = Role::Down;
        self.nodes[node].paused_until = 0;
        self.conn += 1;
        self.up = false;
        match &self.nodes[1 - node].role {
            Role::Primary(_) => self.primary(1 - node, primary::Input::Link(false)),
            Role::Backup(_) => self.backup(1 - node, backup::Input::Link(false)),
            Role::Down => {}
        }
    }

    pub fn fault(&mut self) {
        let now = self.now;
        if now >= self.faults_until {
            return;
        }
        let node = self.dice.below(2) as usize;
        let short = self.dice.between(MS, 25 * MS);
        match self.dice.below(12) {
            0 | 1 => {
                self.crash(node);
                let when = now + self.dice.between(MS, 25 * MS);
                self.at(when, Event::Restart { node });
            }
            2..=4 => self.nodes[node].paused_until = now + short,
            5 | 6 => self.clear_at[node] = self.clear_at[node].max(now + short),
            7 => self.clear_at = self.clear_at.map(|t| t.max(now + short)),
            8 => self.reconnect(),
            9 | 10 => {
                self.arbiter_bad_until = now + short;
                // On its own it is harmless.
                self.at(now, Event::Fault);
                return;
            }
            _ => {
                let c = if self.dice.one_in(4) {
                    primary::Command::Detach
                } else {
                    primary::Command::Switchover
                };
                self.primary(node, primary::Input::Command(c));
            }
        }
        let when = now + self.dice.between(500 * US, 30 * MS);
        self.at(when, Event::Fault);
    }

    /// All is healed: an image that is not lost must be protected.
    fn end(&mut self) {
        let Some(r) = self.arbiter.value().cloned() else {
            return self.broke("the image never started".to_owned());
        };
        let mut lost = true;
        let mut what = Vec::new();
        for n in &self.nodes {
            match &n.role {
                Role::Primary(l) => {
                    what.push(format!("P.{:?}({})", l.p.phase(), l.p.epoch()));
                    lost &= l.p.config().me != r.primary;
                    let s = l.p.gate().stats();
                    self.met.zero_wait += s.zero_wait;
                    if l.p.phase() == primary::Phase::Prot {
                        return;
                    }
                }
                Role::Backup(c) => {
                    what.push(format!("B.{:?}({})", c.b.phase(), c.b.epoch()));
                    lost &= !r.set.contains(&c.b.config().me);
                }
                Role::Down => what.push("down".to_owned()),
            }
        }
        if lost {
            self.met.lost_images += 1;
        } else {
            self.broke(format!(
                "all is healed, and the nodes are {what:?}, the register {r:?}"
            ));
        }
    }
}

/// One schedule. `Err`: what was broken.
fn schedule(seed: u64, mutant: Option<Mutant>, met: &mut Met) -> Result<(), String> {
    let mut w = World::new(seed, mutant);
    let end = w.faults_until + 140 * MS;
    while w.turn(end) && w.broken.is_none() {}
    w.now = end;
    if w.broken.is_none() {
        w.end();
    }
    met.add(&w.met);
    w.broken
        .map_or(Ok(()), |b| Err(format!("seed {seed} {mutant:?}: {b}")))
}

fn many(seeds: std::ops::Range<u64>) -> Met {
    let mut met = Met::default();
    let mut wrong = Vec::new();
    for seed in seeds {
        if let Err(e) = schedule(seed, None, &mut met) {
            wrong.push(e);
            if wrong.len() >= 8 {
                break;
            }
        }
    }
    println!("{met:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    met
}

impl Met {
    fn add(&mut self, m: &Met) {
        let all = [
            (&mut self.schedules, 1),
            (&mut self.events, m.events),
            (&mut self.takeovers, m.takeovers),
            (&mut self.second_takeovers, m.second_takeovers),
            (&mut self.switchovers, m.switchovers),
            (&mut self.fenced, m.fenced),
            (&mut self.holds, m.holds),
            (&mut self.syncs, m.syncs),
            (&mut self.resumed, m.resumed),
            (&mut self.lost_images, m.lost_images),
            (&mut self.replies, m.replies),
            (&mut self.repeated, m.repeated),
            (&mut self.refused, m.refused),
            (&mut self.gated, m.gated),
            (&mut self.zero_wait, m.zero_wait),
            (&mut self.late_releases, m.late_releases),
            (&mut self.snapshots, m.snapshots),
            (&mut self.misses, m.misses),
            (&mut self.unknowns, m.unknowns),
            (&mut self.throttled, m.throttled),
        ];
        for (sum, n) in all {
            *sum += n;
        }
    }
}

/// In release mode, as CI runs it, 100,000 schedules in two halves; fewer with debug assertions.
const HALF: u64 = if cfg!(debug_assertions) { 400 } else { 50_000 };

fn half(seeds: std::ops::Range<u64>) {
    let met = many(seeds);
    // Nothing is proved about what does not happen.
    let n = met.schedules;
    let least = [
        ("takeovers", met.takeovers, n / 5),
        ("second takeovers", met.second_takeovers, n / 100),
        ("switchovers", met.switchovers, n / 50),
        ("fenced", met.fenced, n / 10),
        ("holds", met.holds, n / 2),
        ("syncs", met.syncs, n),
        ("resumed", met.resumed, n / 10),
        ("replies", met.replies, 50 * n),
        ("repeated", met.repeated, n / 10),
        ("refused", met.refused, n),
        ("gated", met.gated, 50 * n),
        ("late releases", met.late_releases, n / 400),
        ("snapshots", met.snapshots, 5 * n),
        ("clock misses", met.misses, n),
        ("unknown swaps", met.unknowns, n / 20),
        ("throttled", met.throttled, n / 10),
    ];
    for (what, n, least) in least {
        assert!(n >= least, "{what}: {n}, expected {least} at least");
    }
    assert!(met.lost_images < n / 4, "few survive");
}

#[test]
fn schedules_first_half() {
    half(0..HALF);
}

#[test]
fn schedules_second_half() {
    half(HALF..2 * HALF);
}

/// The simulator can fail: with a rule left out, some schedule breaks.
#[test]
fn every_mutant_is_found() {
    let list = [
        Mutant::DetachBeforeCas,
        Mutant::JoinBeforeGate,
        Mutant::HostsNotIncarnations,
        Mutant::PromoteWithoutCas,
        Mutant::GateWithoutHorizon,
        Mutant::AckAfterCas,
        Mutant::SnapshotWithoutGate,
        Mutant::ForgetUnknown,
    ];
    for mutant in list {
        let mut met = Met::default();
        let first = (0..20_000).find_map(|seed| schedule(seed, Some(mutant), &mut met).err());
        let first =
            first.unwrap_or_else(|| panic!("{mutant:?} was not noticed in {} schedules", met.schedules));
        println!("{} schedules: {first}", met.schedules);
    }
}
