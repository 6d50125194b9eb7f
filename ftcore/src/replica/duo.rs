//! A primary, a backup and an arbiter wired together without faults, for tests that tell one story.

use super::arbiter::{Answer, Memory, Outcome};
use super::backup::{self, Backup};
use super::gate::Marks;
use super::primary::{self, Base, Primary};
use super::{Class, Config, Frame, Mark, Member, Time};
use crate::log::frame::{Batch, write_frame};
use crate::platform::Ns;
use std::collections::VecDeque;

pub const MS: Ns = 1_000_000;
pub const P: Member = Member { node: 1, inc: 0x1001 };
pub const B: Member = Member { node: 2, inc: 0x2001 };

/// Log frames with `count` records from `first` on.
pub fn records(first: u64, count: u32, bytes: &[u8]) -> Vec<u8> {
    let batch = Batch {
        position: first,
        count,
        bytes: bytes.to_vec(),
        ..Batch::default()
    };
    let mut out = Vec::new();
    write_frame(1, 0, 0, &batch, &mut out);
    out
}

pub struct Duo {
    pub p: Primary,
    pub b: Backup,
    pub arbiter: Memory,
    /// The arbiter answers `Unknown`: it did what was asked, or it did not.
    pub mute: Option<bool>,
    pub now: Ns,
    pub at: Time,
    /// Frames from P get to B, frames from B get to P.
    pub open: (bool, bool),
    pub to_b: VecDeque<Frame>,
    pub to_p: VecDeque<Frame>,
    /// All that P and B did but send and ask.
    pub did_p: Vec<primary::Action>,
    pub did_b: Vec<backup::Action>,
    /// Numbers of outputs that left P.
    pub left: Vec<u64>,
}

impl Duo {
    pub fn new(change: impl Fn(&mut Config)) -> Duo {
        let (mut p, mut b) = (Config::new(1, P), Config::new(1, B));
        change(&mut p);
        change(&mut b);
        let mut duo = Duo {
            p: Primary::new(p),
            b: Backup::new(b, 0),
            arbiter: Memory::default(),
            mute: None,
            now: 0,
            at: Time::default(),
            open: (true, true),
            to_b: VecDeque::new(),
            to_p: VecDeque::new(),
            did_p: Vec::new(),
            did_b: Vec::new(),
            left: Vec::new(),
        };
        duo.primary(primary::Input::Start);
        duo
    }

    /// Up to P.PROT with a whole snapshot.
    pub fn synced(change: impl Fn(&mut Config)) -> Duo {
        let mut duo = Duo::new(change);
        duo.connect();
        duo.base(1, 0);
        assert_eq!(duo.p.phase(), primary::Phase::Prot);
        assert_eq!(duo.b.phase(), backup::Phase::Ready);
        duo
    }

    fn ask(&mut self, ask: &super::arbiter::Ask) -> Outcome {
        match self.mute {
            None => self.arbiter.handle(ask),
            Some(done) => {
                if done {
                    self.arbiter.handle(ask);
                }
                Outcome::Unknown
            }
        }
    }

    pub fn primary(&mut self, input: primary::Input) {
        let mut out = Vec::new();
        self.p.step(self.now, input, &mut out);
        self.carry_out(out);
        self.pump();
    }

    fn carry_out(&mut self, out: Vec<primary::Action>) {
        for a in out {
            match a {
                primary::Action::Send(f) => self.to_b.push_back(f),
                primary::Action::Ask(r) => {
                    let outcome = self.ask(&r.ask);
                    self.primary(primary::Input::Arbiter(Answer { id: r.id, outcome }));
                }
                a => self.did_p.push(a),
            }
        }
        while let Some(o) = self.p.next_output(self.now) {
            self.left.push(o.number);
        }
    }

    pub fn backup(&mut self, input: backup::Input) {
        let mut out = Vec::new();
        self.b.step(self.now, input, &mut out);
        for a in out {
            match a {
                backup::Action::Send(f) => self.to_p.push_back(f),
                backup::Action::Ask(r) => {
                    let outcome = self.ask(&r.ask);
                    self.backup(backup::Input::Arbiter(Answer { id: r.id, outcome }));
                }
                backup::Action::BaseEnd { snap, .. } => self.backup(backup::Input::Applied { snap }),
                a => self.did_b.push(a),
            }
        }
    }

    /// Delivers what gets through.
    pub fn pump(&mut self) {
        loop {
            if self.open.0
                && let Some(f) = self.to_b.pop_front()
            {
                self.backup(backup::Input::Frame(f));
                if self.to_b.is_empty() {
                    self.backup(backup::Input::Drained);
                }
            } else if self.open.1
                && let Some(f) = self.to_p.pop_front()
            {
                self.primary(primary::Input::Frame(f));
            } else {
                return;
            }
        }
    }

    /// A new link: what was under way is lost.
    pub fn connect(&mut self) {
        self.to_b.clear();
        self.to_p.clear();
        self.primary(primary::Input::Link(true));
        self.backup(backup::Input::Link(true));
        self.pump();
    }

    /// A snapshot of now.
    pub fn base(&mut self, snap: u64, parent: u64) {
        self.primary(primary::Input::Base(Base::Begin { snap, parent }));
        self.primary(primary::Input::Base(Base::Chunk(vec![snap as u8])));
        if parent == 0 {
            self.primary(primary::Input::Base(Base::LastRound));
        }
        let marks: Marks = self.p.marks();
        let mark = Mark {
            position: self.p.promised().position,
            at: self.at,
        };
        let manifest = vec![9];
        self.primary(primary::Input::Base(Base::End {
            mark,
            marks,
            manifest,
        }));
    }

    /// The image takes an entry of 10 us; with a record if it was not predicted.
    pub fn run(&mut self, record: bool) {
        self.at.e += 1;
        self.at.v += 10_000;
        if record {
            let first = self.p.promised().position;
            self.primary(primary::Input::Records {
                at: self.at,
                first,
                count: 1,
                bytes: records(first, 1, b"r"),
            });
        }
    }

    /// And makes an output.
    pub fn output(&mut self, class: Class) -> super::gate::Pushed {
        let mark = Mark {
            position: self.p.promised().position,
            at: self.at,
        };
        let mut out = Vec::new();
        let pushed = self.p.output(self.now, mark, class, vec![1], &mut out);
        self.carry_out(out);
        self.pump();
        pushed
    }

    /// Time passes, with ticks each millisecond on whichever side is awake.
    pub fn pass(&mut self, ms: u64, p: bool, b: bool) {
        for _ in 0..ms {
            self.now += MS;
            if p {
                self.primary(primary::Input::Tick {
                    at: self.at,
                    idle: true,
                });
            }
            if b {
                self.backup(backup::Input::Tick);
            }
            self.pump();
        }
    }
}
