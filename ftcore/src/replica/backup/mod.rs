//! The backup of an image: B.EMPTY, B.SYNCING, B.READY, B.REPLAY (PROTOCOL §4).
//!
//! | state | acks? | may promote? | leaves it by |
//! |---|---|---|---|
//! | Empty | no | no | the primary's Welcome |
//! | Syncing | no | no | first snapshot in place, log without a gap behind it |
//! | Ready | yes | if the register's set names this incarnation | primary silent, or FINAL: stop acking, then CAS |
//! | Claiming | **no** | it is trying to | CAS won: Replay; lost: Lost |
//! | Replay | no | - | past H or starved: Live |
//! | Live | - | - | [`Backup::into_primary`] |
//! | Lost | no | no | the caller throws it away: new incarnation |
//! | Ended | no | no | the image has ended |
//!
//! Once a compare-and-swap was sent, this incarnation never acknowledges again, whatever the arbiter answers:
//! the swap may still happen. It is won, or the incarnation is lost.
//!
//! # How the runtime uses it
//!
//! * One [`Input::Frame`] per frame, then [`Input::Drained`] when the link has nothing more: one ack for all.
//! * The log since the snapshot in place is kept here ([`Backup::log`]); snapshots' pages are the runtime's:
//!   [`Action::BaseBegin`], [`Action::BaseChunk`], [`Action::BaseEnd`]. Until [`Input::Applied`] says that the
//!   new one is verified and in place, the old one must stay whole: a takeover uses the last that was applied.
//! * [`Action::Replay`]: restore the snapshot, replay the log from its position, outputs into
//!   [`Backup::output`]; go on **as predicted, without any live input**, firing timers in order, until the image
//!   is past [`Takeover::h`] (entry or time is greater) or starves (a predicted choice needs an event that is
//!   not there). After a switchover: until exactly [`Takeover::last`]. Then [`Input::Replayed`].
//! * [`Action::GoLive`]: the clock starts at or past H's time; own MAC and address, announce, open TX, then RX,
//!   then [`Backup::into_primary`].

#[cfg(test)]
mod tests;

use super::arbiter::{Answer, Ask, Asker, Learned, Member, Register, Request, Versioned};
use super::config::{Config, Mutant};
use super::detect::Detector;
use super::frame::{Body, Frame, Reason, VERSION};
use super::gate::{Class, Gate, Marks, Mode, Pushed};
use super::{Mark, Primary, Time};
use crate::log::frame::next_frame;
use crate::platform::Ns;
use std::collections::VecDeque;

/// Where a backup is in §4's table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Nothing.
    Empty,
    /// A snapshot is coming.
    Syncing,
    /// Holds what it acknowledges.
    Ready,
    /// Its compare-and-swap is under way.
    Claiming,
    /// Won; replaying.
    Replay,
    /// The image runs here.
    Live,
    /// To be thrown away.
    Lost,
    /// The image has ended.
    Ended,
}

/// What happens to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// The link to the primary came up or went down.
    Link(bool),
    /// A frame came.
    Frame(Frame),
    /// A part of a frame came, which is not whole yet.
    Bytes,
    /// No more frames for the moment.
    Drained,
    /// Time passes.
    Tick,
    /// The arbiter answered.
    Arbiter(Answer),
    /// A snapshot is in place and verified.
    Applied {
        /// Which.
        snap: u64,
    },
    /// A snapshot that came completely is damaged.
    Damaged {
        /// Which.
        snap: u64,
        /// What is wrong.
        why: String,
    },
    /// The replay has come to its end; the image is at this time.
    Replayed {
        /// Logical time.
        at: Time,
    },
    /// This node cannot keep the image that comes: it says so to the primary, and is of no use. Not once it has it: what it has acknowledged
    /// is worth more than what might not fit, and the arbiter counts on it.
    Refuse {
        /// Why not.
        why: String,
    },
    /// An operator says that the primary is dead. Asks the arbiter as silence does.
    Promote,
}

/// What the caller is to do, in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Send it on the link. Dropped if the link is down.
    Send(Frame),
    /// Ask the arbiter; an [`Input::Arbiter`] follows, if only `Unknown`.
    Ask(Request),
    /// A snapshot comes. An unfinished one before it is void.
    BaseBegin {
        /// Number.
        snap: u64,
        /// The snapshot, in place here, that it completes; 0: whole.
        parent: u64,
    },
    /// Pages of it.
    BaseChunk {
        /// Of which.
        snap: u64,
        /// Pages, in the runtime's encoding.
        bytes: Vec<u8>,
    },
    /// It is complete: verify and apply it, then [`Input::Applied`].
    BaseEnd {
        /// Which.
        snap: u64,
        /// Contexts, hashes.
        manifest: Vec<u8>,
    },
    /// The snapshot that was coming is void.
    BaseVoid,
    /// This node is primary: replay.
    Replay(Takeover),
    /// Go live.
    GoLive,
    /// The link is of no use; try a new one.
    CloseLink(&'static str),
    /// This incarnation is of no use: drop its state, start a new one.
    Discard(String),
    /// The image has ended and its exit was seen: nothing to take over.
    Ended,
    /// The state changed.
    Phase(Phase),
    /// A line for the operator.
    Say(String),
}

/// What to replay.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Takeover {
    /// Snapshot in place, and where it was taken.
    pub snap: u64,
    /// Its position and logical time.
    pub base: Mark,
    /// Records held: the replay takes `base.position..held`.
    pub held: u64,
    /// Horizon held: go on as predicted until past it.
    pub h: Time,
    /// The image was stopped here for a switchover: go live exactly here.
    pub last: Option<Time>,
    /// What the old primary handed over with it.
    pub manifest: Vec<u8>,
    /// The epoch that was won.
    pub epoch: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Kept {
    first: u64,
    count: u32,
    bytes: Vec<u8>,
}

impl Kept {
    fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Base {
    snap: u64,
    mark: Mark,
    marks: Marks,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Coming {
    snap: u64,
    chunks: u32,
    /// All of it has come.
    whole: Option<Base>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Backup {
    cfg: Config,
    phase: Phase,
    arbiter: Asker,
    /// A look at the register that may lead to a claim.
    looking: bool,
    /// The register that the claim expects, then the one that was won.
    a: Option<Versioned>,
    epoch: u32,
    session: u64,
    primary: Option<Member>,
    link: bool,
    /// The primary greeted on this link.
    welcomed: bool,
    hello_ns: Ns,
    heard: Detector,
    /// Records held without a gap; `None` until a session's first record or snapshot.
    held: Option<u64>,
    h: Time,
    released: u64,
    base: Option<Base>,
    coming: Option<Coming>,
    log: VecDeque<Kept>,
    log_bytes: u64,
    ack_due: bool,
    last: Option<(Time, Vec<u8>)>,
    gate: Gate,
    told: bool,
}

impl Backup {
    /// Holds nothing yet.
    pub fn new(cfg: Config, now_ns: Ns) -> Backup {
        Backup {
            phase: Phase::Empty,
            arbiter: Asker::default(),
            looking: false,
            a: None,
            epoch: 0,
            session: 0,
            primary: None,
            link: false,
            welcomed: false,
            hello_ns: 0,
            heard: Detector::new(&cfg, now_ns),
            held: None,
            h: Time::default(),
            released: 0,
            base: None,
            coming: None,
            log: VecDeque::new(),
            log_bytes: 0,
            ack_due: false,
            last: None,
            gate: Gate::new(cfg.gate_bytes),
            told: false,
            cfg,
        }
    }

    /// Feeds an input and appends what to do.
    pub fn step(&mut self, now_ns: Ns, input: Input, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Lost | Phase::Ended | Phase::Live) {
            return;
        }
        let before = self.phase;
        match input {
            Input::Link(up) => {
                (self.link, self.welcomed) = (up, false);
                self.void_base(out);
                if up {
                    self.hello(now_ns, out);
                }
            }
            Input::Frame(f) => self.on_frame(now_ns, f, out),
            // The other side lives, and is to hear that this one does.
            Input::Bytes => {
                self.heard.heard(now_ns);
                self.ack_due = true;
            }
            Input::Drained => self.ack(out),
            Input::Tick => self.on_tick(now_ns, out),
            Input::Arbiter(a) => self.on_answer(now_ns, a, out),
            Input::Applied { snap } => self.on_applied(snap, out),
            Input::Damaged { snap, why } => {
                if self.coming.as_ref().is_some_and(|c| c.snap == snap) {
                    self.lose(&format!("snapshot {snap} is damaged: {why}"), out);
                }
            }
            Input::Replayed { at } => {
                if self.phase == Phase::Replay {
                    self.h = self.h.max(at);
                    self.gate.live();
                    self.phase = Phase::Live;
                    out.push(Action::GoLive);
                }
            }
            Input::Refuse { why } => self.refuse(&why, out),
            Input::Promote => self.look(now_ns, out),
        }
        if self.phase != before {
            out.push(Action::Phase(self.phase));
        }
    }

    /// The replayed image made an output. What has left for certain is kept back; the rest waits for go-live.
    pub fn output(&mut self, now_ns: Ns, mark: Mark, class: Class, bytes: Vec<u8>) -> Pushed {
        self.gate.push(now_ns, Mode::Shut, mark, class, bytes)
    }

    /// Live: P.SOLO of the epoch that was won. `None` in any other state.
    pub fn into_primary(self) -> Option<Primary> {
        let a = self.a.filter(|_| self.phase == Phase::Live)?;
        let mark = Mark {
            position: self.held?,
            at: self.h,
        };
        Some(Primary::taken_over(self.cfg, a, mark, self.gate, self.arbiter))
    }

    /// While it replays: what the process in which the image goes on needs.
    pub fn take_over(&self) -> Option<super::Won> {
        Some(super::Won {
            cfg: self.cfg.clone(),
            a: self.a.clone().filter(|_| self.phase == Phase::Replay)?,
            marks: self.base.as_ref()?.marks.clone(),
            released: self.released,
            held: self.held?,
            h: self.h,
            last: self.last.as_ref().map(|(at, _)| *at),
            asker: self.arbiter.parts(),
        })
    }

    /// State.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Configuration.
    pub fn config(&self) -> &Config {
        &self.cfg
    }

    /// What it holds: all that it acknowledges when it is ready.
    pub fn holds(&self) -> Option<Mark> {
        Some(Mark {
            position: self.held?,
            at: self.h,
        })
    }

    /// Where the primary stopped for a switchover.
    pub fn finale(&self) -> Option<Time> {
        self.last.as_ref().map(|(at, _)| *at)
    }

    /// Last epoch heard of.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Log frames since the snapshot in place, in order. The first may begin before its position.
    pub fn log(&self) -> impl Iterator<Item = &[u8]> {
        self.log.iter().map(|k| k.bytes.as_slice())
    }

    /// Bytes of them.
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    fn frame(&self, body: Body) -> Frame {
        Frame {
            image: self.cfg.image,
            epoch: self.epoch,
            session: self.session,
            from: self.cfg.me,
            position: self.held.unwrap_or(0),
            h: self.h,
            ack: self.base.as_ref().map_or(0, |b| b.snap),
            released: self
                .coming
                .as_ref()
                .filter(|c| c.whole.is_some())
                .map_or(0, |c| c.snap),
            body,
        }
    }

    fn hello(&mut self, now_ns: Ns, out: &mut Vec<Action>) {
        self.hello_ns = now_ns;
        let mut f = self.frame(Body::Hello {
            min_version: VERSION,
            max_version: VERSION,
            build: self.cfg.build,
        });
        if self.phase != Phase::Ready {
            (f.session, f.position) = (0, 0);
        }
        if matches!(self.phase, Phase::Empty | Phase::Syncing | Phase::Ready) {
            out.push(Action::Send(f));
        }
    }

    fn ack(&mut self, out: &mut Vec<Action>) {
        let claims = matches!(self.phase, Phase::Claiming | Phase::Replay);
        let acks = self.phase == Phase::Ready || claims && self.cfg.without(Mutant::AckAfterCas);
        if !self.ack_due || !self.welcomed {
            return;
        }
        self.ack_due = false;
        // Not ready: only a sign of life.
        let body = if acks {
            Body::Ack {
                finished: self.last.is_some(),
            }
        } else {
            Body::Heartbeat
        };
        if acks || self.phase == Phase::Syncing {
            out.push(Action::Send(self.frame(body)));
        }
    }

    fn lose(&mut self, why: &str, out: &mut Vec<Action>) {
        self.phase = Phase::Lost;
        self.log.clear();
        out.push(Action::Discard(why.to_owned()));
    }

    fn refuse(&mut self, why: &str, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Empty | Phase::Syncing) {
            return;
        }
        if self.welcomed {
            let text = why.to_owned();
            out.push(Action::Send(self.frame(Body::Status { text })));
            let reason = Reason::Detached;
            out.push(Action::Send(self.frame(Body::Detach { reason })));
        }
        self.lose(why, out);
    }

    fn void_base(&mut self, out: &mut Vec<Action>) {
        // One that came whole is being applied and no longer depends on the link.
        if self.coming.take_if(|c| c.whole.is_none()).is_some() {
            out.push(Action::BaseVoid);
        }
    }

    fn close(&mut self, why: &'static str, out: &mut Vec<Action>) {
        self.welcomed = false;
        out.push(Action::CloseLink(why));
    }

    fn on_tick(&mut self, now_ns: Ns, out: &mut Vec<Action>) {
        self.arbiter.expire(now_ns, self.cfg.arbiter_timeout_ns);
        let silent = self.heard.silent(now_ns);
        if self.link && !self.welcomed && now_ns.saturating_sub(self.hello_ns) > self.cfg.detect_max_ns {
            self.hello(now_ns, out);
        }
        match self.phase {
            Phase::Ready if silent && self.cfg.without(Mutant::PromoteWithoutCas) => {
                self.promote_without_asking(out);
            }
            Phase::Ready if silent || self.last.is_some() => self.look(now_ns, out),
            Phase::Claiming => self.claim(now_ns, out),
            // There is nothing to take over with; perhaps the primary no longer knows this session.
            Phase::Syncing if silent && self.welcomed => self.close("the primary is silent", out),
            Phase::Empty if self.cfg.without(Mutant::HostsNotIncarnations) => self.look(now_ns, out),
            _ => {}
        }
    }

    /// The primary may be gone: what does the register say?
    fn look(&mut self, now_ns: Ns, out: &mut Vec<Action>) {
        let may = self.phase == Phase::Ready || self.cfg.without(Mutant::HostsNotIncarnations);
        if may && self.arbiter.idle(now_ns) {
            self.looking = true;
            out.push(Action::Ask(self.arbiter.ask(now_ns, Ask::Read)));
        }
    }

    fn on_answer(&mut self, now_ns: Ns, answer: Answer, out: &mut Vec<Action>) {
        match self.arbiter.answer(now_ns, self.cfg.arbiter_retry_ns, answer) {
            Learned::Nothing => {
                if self.phase == Phase::Claiming {
                    self.claim(now_ns, out);
                }
            }
            Learned::Won(v) => self.won(v, out),
            Learned::Saw(v) => self.on_seen(now_ns, v, out),
        }
    }

    fn on_seen(&mut self, now_ns: Ns, v: Option<Versioned>, out: &mut Vec<Action>) {
        let looking = std::mem::take(&mut self.looking);
        let Some(v) = v else {
            if self.phase == Phase::Claiming {
                self.lose("the arbiter's register is gone", out);
            }
            return;
        };
        let r = &v.value;
        if self.phase == Phase::Claiming {
            if r.primary == self.cfg.me {
                self.won(v, out);
            } else if self.a.as_ref().is_some_and(|a| a.rev == v.rev) {
                self.claim(now_ns, out);
            } else {
                self.lose("another node was faster at the arbiter", out);
            }
            return;
        }
        if !looking {
            return;
        }
        let member = if self.cfg.without(Mutant::HostsNotIncarnations) {
            r.set.iter().any(|m| m.node == self.cfg.me.node)
        } else {
            self.phase == Phase::Ready && r.set.contains(&self.cfg.me)
        };
        if !member {
            if self.primary.is_some_and(|p| p != r.primary) {
                self.lose("another node is primary", out);
            } else if r.epoch > self.epoch {
                self.lose("the primary took it out of the in-sync set", out);
            } else if !std::mem::replace(&mut self.told, true) {
                out.push(Action::Say(
                    "the primary is silent, and this backup was not in the in-sync set yet: it may not take over".to_owned(),
                ));
            }
            if self.welcomed && self.phase == Phase::Ready {
                self.close("the primary is silent", out);
            }
            return;
        }
        // The primary called the switchover off.
        let forgets = !self.cfg.without(Mutant::KeepFinal);
        if forgets && r.epoch > self.epoch && self.last.take().is_some() {
            self.epoch = r.epoch;
        }
        if self.last.is_some() || self.heard.silent(now_ns) || self.phase == Phase::Empty {
            self.phase = Phase::Claiming;
            self.a = Some(v);
            self.claim(now_ns, out);
        }
    }

    /// No ack leaves any more: swap, or find out what became of the last swap.
    fn claim(&mut self, now_ns: Ns, out: &mut Vec<Action>) {
        let Some(a) = self.a.as_ref().filter(|_| self.arbiter.idle(now_ns)) else {
            return;
        };
        let next = a.value.epoch.checked_add(1).filter(|_| !self.arbiter.must_read());
        let ask = match next {
            Some(epoch) => Ask::Cas {
                expect: a.rev,
                value: Register {
                    epoch,
                    primary: self.cfg.me,
                    set: vec![self.cfg.me],
                },
            },
            None => Ask::Read,
        };
        out.push(Action::Ask(self.arbiter.ask(now_ns, ask)));
    }

    fn won(&mut self, v: Versioned, out: &mut Vec<Action>) {
        self.phase = Phase::Replay;
        if !self.cfg.without(Mutant::AckAfterCas) {
            self.epoch = v.value.epoch;
        }
        self.a = Some(v);
        self.void_base(out);
        // Fully received but not yet in place: the snapshot in place and the log are enough.
        self.coming = None;
        let base = self.base.clone().unwrap_or(Base {
            snap: 0,
            mark: Mark::default(),
            marks: Marks::default(),
        });
        self.gate = Gate::replay(self.cfg.gate_bytes, &base.marks, self.released);
        let (last, manifest) = match self.last.clone() {
            Some((at, m)) => (Some(at), m),
            None => (None, Vec::new()),
        };
        out.push(Action::Replay(Takeover {
            snap: base.snap,
            base: base.mark,
            held: *self.held.get_or_insert(0),
            h: self.h,
            last,
            manifest,
            epoch: self.epoch,
        }));
    }

    fn promote_without_asking(&mut self, out: &mut Vec<Action>) {
        let value = Register {
            epoch: self.epoch + 1,
            primary: self.cfg.me,
            set: vec![self.cfg.me],
        };
        self.won(Versioned { value, rev: u64::MAX }, out);
    }
}

mod session;
