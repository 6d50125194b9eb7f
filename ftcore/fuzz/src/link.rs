//! Properties of what comes on a link between primary and backup, for any bytes: the peer is authenticated, and may lie all the same.

use ftl_core::replica::arbiter::{Answer, Ask, Memory, Outcome, Request};
use ftl_core::replica::frame::{Body, HEAD_LEN};
use ftl_core::replica::pages::{self, Run};
use ftl_core::replica::primary::{self, Base};
use ftl_core::replica::{
    Backup, Class, Config, Frame, Mark, Member, Primary, Refused, Register, Time, Won, backup,
};
use ftl_core::snap::{MAX_PAGE, Object};

const IMAGE: u64 = 1;
const MS: u64 = 1_000_000;
const P: Member = Member { node: 1, inc: 0x1001 };
const B: Member = Member { node: 2, inc: 0x2001 };

/// Bytes as they come: frames, and one chunk of pages.
pub fn frames(data: &[u8]) {
    let mut rest = data;
    loop {
        match Frame::decode(rest) {
            Ok((frame, len)) => {
                assert!((HEAD_LEN..=rest.len()).contains(&len));
                assert!(
                    matches!(Frame::decode(&rest[..len - 1]), Err(Refused::Short(n)) if n > len - 1),
                    "a shorter input never gives more"
                );
                let mut again = Vec::new();
                frame.encode(&mut again);
                assert_eq!(
                    Frame::decode(&again),
                    Ok((frame, again.len())),
                    "what was read can be written"
                );
                rest = &rest[len..];
            }
            Err(why) => {
                assert!(!why.to_string().contains('\n'));
                break;
            }
        }
    }
    chunk(data);
}

/// One chunk: what is good reads back, and says nothing of what a link does not carry.
fn chunk(data: &[u8]) {
    let mut again = Vec::new();
    let good = pages::runs(data, |object, first, run| {
        let count = match run {
            Run::Data(bytes) => bytes.len() as u64 / 4096,
            Run::Gone(count) => count,
        };
        assert!(first + count <= MAX_PAGE && !matches!(object, Object::Runtime | Object::Volumes));
        pages::put(object, first, &run, &mut again);
        true
    });
    if good {
        let mut runs = 0;
        assert!(pages::runs(&again, |_, _, _| {
            runs += 1;
            true
        }));
        assert!(again.len() == data.len() && runs <= data.len());
    }
}

/// A script of what a peer that lies does to one of the machines. True if the backup came to take over, or the primary to be protected.
pub fn machines(data: &[u8]) -> bool {
    let mut script = Script(data);
    match script.byte() % 2 {
        0 => Standby::new().obey(script),
        _ => Lead::new().obey(script),
    }
}

/// Zeros behind its end.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// Mostly small, and now and then one that makes sums overflow.
    fn number(&mut self) -> u64 {
        match self.byte() {
            b @ 0..=239 => u64::from(b % 60),
            b => u64::MAX - u64::from(b % 16) / 4,
        }
    }

    /// A frame with a right checksum: kind and body are the script's, and so is what of the head is not as it should be.
    fn frame(&mut self, from: Member, session: u64, epoch: u32) -> Option<Frame> {
        let (kind, wrong) = (self.byte() % 13, self.byte());
        let mut head = Frame {
            image: IMAGE + u64::from(wrong & 0x83 == 0x81),
            epoch,
            session,
            from,
            position: self.number(),
            h: Time {
                e: self.number(),
                v: self.number(),
            },
            ack: self.number(),
            released: self.number(),
            body: Body::Heartbeat,
        };
        if wrong & 0x84 == 0x84 {
            head.epoch = self.number() as u32;
        }
        if wrong & 0x88 == 0x88 {
            head.session = self.number();
        }
        if wrong & 0x90 == 0x90 {
            head.from.inc += 1;
        }
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        let len = usize::from(self.byte()).min(self.0.len());
        let (body, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes.extend_from_slice(body);
        bytes[4] = kind;
        bytes[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
        let mut sum = crc32fast::Hasher::new();
        sum.update(&bytes[..12]);
        sum.update(&bytes[16..]);
        bytes[12..16].copy_from_slice(&sum.finalize().to_le_bytes());
        match Frame::decode(&bytes) {
            Ok((frame, len)) => {
                assert_eq!(len, bytes.len());
                Some(frame)
            }
            Err(why) => {
                assert!(matches!(why, Refused::Kind(_) | Refused::Body(_)), "{why}");
                None
            }
        }
    }
}

/// The arbiter, which answers or not.
fn answer(arbiter: &mut Memory, r: &Request, known: bool) -> Answer {
    let outcome = arbiter.handle(&r.ask);
    Answer {
        id: r.id,
        outcome: if known { outcome } else { Outcome::Unknown },
    }
}

/// A backup whose primary lies.
struct Standby {
    b: Backup,
    now: u64,
    arbiter: Memory,
    session: u64,
    won: bool,
}

impl Standby {
    fn new() -> Standby {
        let mut arbiter = Memory::default();
        let value = Register {
            epoch: 1,
            primary: P,
            set: vec![P, B],
        };
        arbiter.handle(&Ask::Cas { expect: 0, value });
        Standby {
            b: Backup::new(Config::new(IMAGE, B), 0),
            now: 0,
            arbiter,
            session: 0,
            won: false,
        }
    }

    fn obey(mut self, mut script: Script<'_>) -> bool {
        self.step(backup::Input::Link(true), true);
        while !script.0.is_empty() {
            let op = script.byte();
            self.now += u64::from(op >> 4) * 10 * MS;
            let known = op & 8 == 0;
            match op % 8 {
                0..=3 => {
                    if let Some(f) = script.frame(P, self.session.max(1), self.b.epoch()) {
                        if matches!(f.body, Body::Welcome { .. }) {
                            self.session = f.session;
                        }
                        self.step(backup::Input::Frame(f), known);
                    }
                }
                4 => self.step(backup::Input::Drained, known),
                5 => self.step(backup::Input::Bytes, known),
                6 => self.step(backup::Input::Tick, known),
                _ => self.step(backup::Input::Link(known), true),
            }
        }
        self.won
    }

    fn step(&mut self, input: backup::Input, known: bool) {
        let mut todo = Vec::new();
        self.b.step(self.now, input, &mut todo);
        for action in todo {
            match action {
                backup::Action::Send(f) => {
                    if let (Body::Ack { .. }, Some(held)) = (&f.body, self.b.holds()) {
                        assert!(f.position <= held.position, "it acknowledges what it has not got");
                    }
                }
                backup::Action::Ask(r) => {
                    let a = answer(&mut self.arbiter, &r, known);
                    self.step(backup::Input::Arbiter(a), known);
                }
                backup::Action::BaseChunk { bytes, .. } => chunk(&bytes),
                backup::Action::BaseEnd { snap, .. } => self.step(
                    match known {
                        true => backup::Input::Applied { snap },
                        false => backup::Input::Damaged {
                            snap,
                            why: "a page".to_owned(),
                        },
                    },
                    true,
                ),
                backup::Action::Replay(t) => self.take_over(t.h),
                _ => {}
            }
        }
    }

    /// It has won: what it was told becomes a primary of its own.
    fn take_over(&mut self, h: Time) {
        self.won = true;
        let won = self
            .b
            .take_over()
            .expect("who is to replay has something to replay");
        let won = Won::decode(&won.encode()).expect("what was written can be read");
        let mut gate = won.gate();
        let at = Mark {
            position: won.held,
            at: h,
        };
        let mode = ftl_core::replica::gate::Mode::Shut;
        for class in [Class::Tcp { key: None }, Class::Stream { stream: 1 }, Class::Exit] {
            gate.push(self.now, mode, at, class, vec![1; 40]);
        }
        let mut p = won.into_primary(h, gate);
        let tick = primary::Input::Tick { at: h, idle: true };
        p.step(self.now, tick, &mut Vec::new());
        while p.next_output(self.now).is_some() {}
    }
}

/// A primary whose backup lies.
struct Lead {
    p: Primary,
    now: u64,
    at: Time,
    arbiter: Memory,
    session: u64,
    snaps: u64,
}

impl Lead {
    fn new() -> Lead {
        Lead {
            p: Primary::new(Config::new(IMAGE, P)),
            now: 0,
            at: Time::default(),
            arbiter: Memory::default(),
            session: 0,
            snaps: 0,
        }
    }

    fn obey(mut self, mut script: Script<'_>) -> bool {
        self.step(primary::Input::Start, true);
        self.step(primary::Input::Link(true), true);
        let mut protected = false;
        while !script.0.is_empty() {
            let op = script.byte();
            self.now += u64::from(op >> 4) * 10 * MS;
            let known = op & 8 == 0;
            match op % 8 {
                0..=3 => {
                    if let Some(f) = script.frame(B, self.session, self.p.epoch()) {
                        self.step(primary::Input::Frame(f), known);
                    }
                }
                4 => {
                    let tick = primary::Input::Tick {
                        at: self.at,
                        idle: known,
                    };
                    self.step(tick, known);
                }
                5 => self.output(),
                6 => self.record(),
                _ => self.step(primary::Input::Link(known), true),
            }
            let promised = self.p.promised();
            if let Some((_, acked)) = self.p.backup() {
                assert!(promised.covers(acked), "it believes in what was never sent");
            }
            protected |= self.p.phase() == primary::Phase::Prot;
        }
        protected
    }

    fn record(&mut self) {
        self.at.e += 1;
        let first = self.p.promised().position;
        let bytes = vec![0; 8];
        let input = primary::Input::Records {
            at: self.at,
            first,
            count: 1,
            bytes,
        };
        self.step(input, true);
    }

    fn output(&mut self) {
        self.at.e += 1;
        self.at.v += 10_000;
        let mark = Mark {
            position: self.p.promised().position,
            at: self.at,
        };
        let mut todo = Vec::new();
        self.p.output(self.now, mark, Class::Udp, vec![1], &mut todo);
        self.act(todo, true);
    }

    fn step(&mut self, input: primary::Input, known: bool) {
        let mut todo = Vec::new();
        self.p.step(self.now, input, &mut todo);
        self.act(todo, known);
    }

    fn act(&mut self, todo: Vec<primary::Action>, known: bool) {
        for action in todo {
            match action {
                primary::Action::Send(f) => self.session = f.session,
                primary::Action::Ask(r) => {
                    let a = answer(&mut self.arbiter, &r, known);
                    self.step(primary::Input::Arbiter(a), known);
                }
                primary::Action::StartBase => self.base(),
                primary::Action::Stop => {
                    let (at, manifest) = (self.at, Vec::new());
                    self.step(primary::Input::Stopped { at, manifest }, true);
                }
                _ => {}
            }
        }
        while self.p.next_output(self.now).is_some() {}
    }

    fn base(&mut self) {
        self.snaps += 1;
        let snap = self.snaps;
        self.step(primary::Input::Base(Base::Begin { snap, parent: 0 }), true);
        self.step(primary::Input::Base(Base::Chunk(vec![1])), true);
        self.step(primary::Input::Base(Base::LastRound), true);
        let mark = Mark {
            position: self.p.promised().position,
            at: self.at,
        };
        let (marks, manifest) = (self.p.marks(), vec![9]);
        let end = Base::End {
            mark,
            marks,
            manifest,
        };
        self.step(primary::Input::Base(end), true);
    }
}
