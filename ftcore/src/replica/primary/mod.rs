//! The primary of an image: P.SOLO, P.SYNC, P.PROT, P.HOLD, P.HANDOVER, P.FENCED (PROTOCOL §4).
//!
//! | state | outputs | leaves it by |
//! |---|---|---|
//! | Boot | held | the register is created |
//! | Solo | leave (or are held: [`super::Unprotected`]) | a backup says Hello: Sync |
//! | Sync | as in Solo until [`Base::LastRound`], then gated | synced and acks cover all that has left: CAS {e+1, P, {P,B}}: Prot |
//! | Prot | gated | silence, or slow and policy detach: Hold |
//! | Hold | held | a **decided** CAS: {e+1, P, {P}}: Solo; {e+1, P, {P,B}} if acks came back: Prot |
//! | Handover | held | the register names B: Fenced; timeout: as Hold |
//! | Fenced | never again | the process ends |
//!
//! # How the runtime uses it
//!
//! * Record written: [`Input::Records`], in the log's order. Output made: [`Primary::output`]; the records before
//!   it may be given later, so that several outputs share a frame, but before the image waits or stands. Then
//!   [`Primary::next_output`] until it is `None` or [`super::MAX_BURST`] are sent.
//! * [`Action::Release`] says that `next_output` has something.
//! * [`Input::Tick`] at least each millisecond or two while outputs wait, else each half heartbeat; the link is
//!   read first. While the guest computes, a helper outside it does both, under the lock that stamps inputs.
//! * [`Primary::promised`] is what a log frame's own horizon fields are to say; on the link the head counts.
//! * Snapshots: [`Action::StartBase`] asks for a whole one in rounds: `Begin{parent: 0}`, `Chunk`s while the
//!   image runs, **`LastRound` before the vCPU stops for the last round** (the gate closes and records are
//!   shipped from there on), `Chunk`s, `End` with the mark of the stop. Later ones, as often as the runtime
//!   likes, without `LastRound`. [`Action::AbortBase`]: their pages are dirty again. [`Action::Applied`]: the
//!   log before that snapshot may be cut.
//! * [`Action::Stop`] asks for the vCPU to stop at an entry; answer with [`Input::Stopped`] when the records
//!   before it have been given. [`Action::Resume`] takes it back.
//!
//! Hold is left by a decided CAS only, also when acks resume: a swap that was sent and not answered may still
//! happen, and would take the backup out of the set of an image that says it is protected.

mod peer;
#[cfg(test)]
mod tests;

use super::arbiter::{Answer, Ask, Asker, Learned, Member, Register, Request, Versioned};
use super::config::{Commit, Config, Mutant, OnSlow, Unprotected};
use super::frame::{Body, Frame, Reason};
use super::gate::{Class, Gate, Marks, Mode, Output, Pushed};
use super::{Mark, Promise, Time};
use crate::platform::Ns;
use peer::Peer;

/// Where a primary is in §4's table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// The register does not name it yet.
    Boot,
    /// Alone: UNPROTECTED.
    Solo,
    /// A backup is copying: UNPROTECTED.
    Sync,
    /// Protected.
    Prot,
    /// Nothing leaves until the arbiter has decided.
    Hold,
    /// Switching over.
    Handover,
    /// Another one is primary.
    Fenced,
}

/// What happens to it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// First of all, once: claims the image at the arbiter.
    Start,
    /// The link to the peer came up or went down. One link at a time: the latest.
    Link(bool),
    /// A frame came.
    Frame(Frame),
    /// Time passes; the image's time is `at` (for an idle image, at least the real time).
    Tick {
        /// Logical time now.
        at: Time,
        /// Nothing can run until a timer or an input.
        idle: bool,
    },
    /// Records were written: `bytes` are whole log frames.
    Records {
        /// Logical time now.
        at: Time,
        /// Number of the first.
        first: u64,
        /// How many.
        count: u32,
        /// The frames.
        bytes: Vec<u8>,
    },
    /// The arbiter answered.
    Arbiter(Answer),
    /// A snapshot goes on.
    Base(Base),
    /// The vCPU stands still, as asked; all records before it have been given.
    Stopped {
        /// Logical time.
        at: Time,
        /// For the other side's runtime.
        manifest: Vec<u8>,
    },
    /// Somebody wants something.
    Command(Command),
}

/// Progress of a snapshot on its way to the backup.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Base {
    /// It begins. One at a time: the one before it is [`Action::Applied`] or [`Action::AbortBase`].
    Begin {
        /// Number, larger than any before.
        snap: u64,
        /// The snapshot that it completes; 0: whole.
        parent: u64,
    },
    /// Pages.
    Chunk(Vec<u8>),
    /// Before the vCPU stops for the last round of a session's first snapshot.
    LastRound,
    /// Complete.
    End {
        /// Position and logical time of the stop.
        mark: Mark,
        /// [`Primary::marks`] at the stop.
        marks: Marks,
        /// Contexts, hashes.
        manifest: Vec<u8>,
    },
}

/// What an operator asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// Go on without the backup.
    Detach,
    /// Hand the image over to the backup.
    Switchover,
    /// The image has ended; its exit was the last output.
    End,
}

/// What the caller is to do, in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Send it on the link. Dropped if the link is down.
    Send(Frame),
    /// Ask the arbiter; an [`Input::Arbiter`] follows, if only `Unknown`.
    Ask(Request),
    /// [`Primary::next_output`] has something.
    Release,
    /// Take a whole snapshot, in rounds, for a new backup.
    StartBase,
    /// Stop sending the current snapshot; its pages count as written again.
    AbortBase,
    /// The backup has this snapshot in place: the log before it may be cut.
    Applied {
        /// Which.
        snap: u64,
        /// Records before it.
        position: u64,
    },
    /// Stop the vCPU at the next entry.
    Stop,
    /// Let it run again.
    Resume,
    /// Slow the image down, or no longer: the backup does not keep up.
    Throttle(bool),
    /// The link is of no use; a new one may be.
    CloseLink(&'static str),
    /// Never emit again. With `handover` the image lives on at the backup: exit 0; else exit 5.
    Fenced {
        /// It was asked for.
        handover: bool,
    },
    /// All is released and the backup knows: the process may end.
    Ended,
    /// The state changed: for `status` and the log.
    Phase(Phase),
    /// A line for the operator.
    Say(String),
}

/// What is to be written into the register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Want {
    Create,
    Join,
    Leave,
    Keep,
    /// Only to look.
    Look,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Primary {
    cfg: Config,
    phase: Phase,
    a: Option<Versioned>,
    arbiter: Asker,
    want: Option<Want>,
    peer: Option<Peer>,
    /// A Hello of this session came over the link that is up.
    link: bool,
    sessions: u64,
    /// There was a backup once.
    synced: bool,
    gate: Gate,
    promise: Promise,
    at: Time,
    idle: bool,
    /// Records so far.
    position: u64,
    sent_ns: Ns,
    throttled: bool,
    handover_ns: Ns,
    /// The vCPU was told to stop.
    stopped: bool,
    ending: bool,
}

impl Primary {
    /// Of a fresh image. [`Input::Start`] is its first input.
    pub fn new(cfg: Config) -> Primary {
        let mut gate = Gate::new(cfg.gate_bytes);
        if cfg.without(Mutant::GateWithoutHorizon) {
            gate.look_at_position_only();
        }
        Primary {
            phase: Phase::Boot,
            a: None,
            arbiter: Asker::default(),
            want: None,
            peer: None,
            link: false,
            sessions: 0,
            synced: false,
            promise: Promise::new(&cfg, Time::default()),
            gate,
            at: Time::default(),
            idle: false,
            position: 0,
            sent_ns: 0,
            throttled: false,
            handover_ns: 0,
            stopped: false,
            ending: false,
            cfg,
        }
    }

    /// Of an image that was taken over: P.SOLO in the epoch that was won. `mark` is where the image is now.
    /// `arbiter` goes on counting: answers to the backup's questions are still on their way.
    pub(super) fn taken_over(cfg: Config, a: Versioned, mark: Mark, gate: Gate, arbiter: Asker) -> Primary {
        let mut gate = gate;
        if cfg.without(Mutant::GateWithoutHorizon) {
            gate.look_at_position_only();
        }
        Primary {
            phase: Phase::Solo,
            a: Some(a),
            arbiter,
            synced: true,
            promise: Promise::new(&cfg, mark.at),
            at: mark.at,
            position: mark.position,
            gate,
            ..Primary::new(cfg)
        }
    }

    /// Feeds an input and appends what to do.
    pub fn step(&mut self, now_ns: Ns, input: Input, out: &mut Vec<Action>) {
        if self.phase == Phase::Fenced {
            return;
        }
        let before = self.phase;
        match input {
            Input::Start => self.want = Some(Want::Create),
            Input::Link(_) => self.on_link(out),
            Input::Frame(f) => self.on_frame(now_ns, f, out),
            Input::Tick { at, idle } => {
                (self.at, self.idle) = (self.at.max(at), idle);
                self.on_tick(now_ns, out);
            }
            Input::Records {
                at,
                first,
                count,
                bytes,
            } => {
                assert_eq!(first, self.position, "records are given in the log's order");
                self.at = self.at.max(at);
                self.position += u64::from(count);
                self.ship(now_ns, first, count, bytes, out);
            }
            Input::Arbiter(a) => self.on_answer(now_ns, a, out),
            Input::Base(b) => self.on_base(now_ns, b, out),
            Input::Stopped { at, manifest } => {
                self.at = self.at.max(at);
                if self.phase == Phase::Handover
                    && let Some(p) = &mut self.peer
                {
                    p.last = Some((at, manifest));
                    self.send_final(now_ns, out);
                }
            }
            Input::Command(c) => self.on_command(now_ns, c, out),
        }
        self.finish(now_ns, before, out);
    }

    fn finish(&mut self, now_ns: Ns, before: Phase, out: &mut Vec<Action>) {
        self.pursue(now_ns, out);
        if self.phase != before {
            out.push(Action::Phase(self.phase));
        }
        if self.gate.ready(self.mode()) {
            out.push(Action::Release);
        }
        if self.ending && self.gate.is_empty() && self.phase != Phase::Fenced {
            self.ending = false;
            self.drop_peer(now_ns, Reason::Ended, out);
            out.push(Action::Ended);
        }
    }

    /// The image made an output. Its mark counts the records before it, also those that are not given yet.
    /// For packets the image must not see what came of it.
    pub fn output(
        &mut self,
        now_ns: Ns,
        mark: Mark,
        class: Class,
        bytes: Vec<u8>,
        out: &mut Vec<Action>,
    ) -> Pushed {
        self.at = self.at.max(mark.at);
        let pushed = self.gate.push(now_ns, self.mode(), mark, class, bytes);
        // It will need a horizon that covers it: ask for the ack now and not at the next tick.
        if self.promise.due(self.at) && self.ships() {
            self.send(now_ns, Body::Heartbeat, out);
        }
        pushed
    }

    /// The next output that may leave **now**. Ask again before each one.
    pub fn next_output(&mut self, now_ns: Ns) -> Option<Output> {
        self.gate.pop(now_ns, self.mode())
    }

    /// A stream took only `taken` bytes of an output, and no more now: see [`Gate::refused`].
    pub fn refused(&mut self, output: Output, taken: usize) {
        self.gate.refused(output, taken);
    }

    /// Streams that took no more are asked again.
    pub fn try_streams(&mut self) {
        self.gate.try_streams();
    }

    /// What opens the gate now.
    fn mode(&self) -> Mode {
        let alone = match self.cfg.unprotected {
            Unprotected::Run => Mode::Open,
            // Of an image that is over nothing is left that a backup could go on with.
            Unprotected::HoldUntilSynced if self.synced || self.ending => Mode::Open,
            _ => Mode::Shut,
        };
        match self.phase {
            Phase::Solo => alone,
            Phase::Sync if !self.peer.as_ref().is_some_and(|p| p.gated) => alone,
            Phase::Sync if alone == Mode::Open => Mode::Gated,
            Phase::Prot => Mode::Gated,
            Phase::Sync | Phase::Boot | Phase::Hold | Phase::Handover | Phase::Fenced => Mode::Shut,
        }
    }

    /// State.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What left is reproduced by the backup if this node dies now.
    pub fn protected(&self) -> bool {
        matches!(self.phase, Phase::Prot | Phase::Hold | Phase::Handover)
    }

    /// Epoch.
    pub fn epoch(&self) -> u32 {
        self.a.as_ref().map_or(0, |a| a.value.epoch)
    }

    /// The backup of this session, and what it has acknowledged.
    pub fn backup(&self) -> Option<(Member, Mark)> {
        self.peer.as_ref().map(|p| (p.member, p.acked))
    }

    /// Bytes of records that the backup has not acknowledged, and the age of the oldest in ns.
    pub fn behind(&self, now_ns: Ns) -> (u64, Ns) {
        self.peer.as_ref().map_or((0, 0), |p| p.behind(now_ns))
    }

    /// Records so far, and the horizon promised.
    pub fn promised(&self) -> Mark {
        Mark {
            position: self.position,
            at: self.promise.horizon(),
        }
    }

    /// The gate, to look at.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// For the snapshot that is being cut now.
    pub fn marks(&self) -> Marks {
        let mut marks = self.gate.marks();
        if self.cfg.without(Mutant::SnapshotWithoutGate) {
            marks.held.clear();
        }
        marks
    }

    /// Configuration.
    pub fn config(&self) -> &Config {
        &self.cfg
    }

    /// The register's value for `want`, or `None` if it wants nothing of it.
    fn value(&self, want: Want) -> Option<Register> {
        let mut set = vec![self.cfg.me];
        match want {
            Want::Look => return None,
            Want::Create | Want::Leave => {}
            Want::Join | Want::Keep => set.push(self.peer.as_ref()?.member),
        }
        Some(Register {
            epoch: self.epoch().checked_add(1)?,
            primary: self.cfg.me,
            set,
        })
    }

    /// Asks the arbiter for what is wanted, if it is not being asked already.
    fn pursue(&mut self, now_ns: Ns, out: &mut Vec<Action>) {
        let Some(want) = self.want.filter(|_| self.arbiter.idle(now_ns)) else {
            return;
        };
        let value = self.value(want).filter(|_| !self.arbiter.must_read());
        let ask = match value {
            Some(value) => Ask::Cas {
                expect: self.a.as_ref().map_or(0, |a| a.rev),
                value,
            },
            None => Ask::Read,
        };
        out.push(Action::Ask(self.arbiter.ask(now_ns, ask)));
    }

    fn on_answer(&mut self, now_ns: Ns, answer: Answer, out: &mut Vec<Action>) {
        match self.arbiter.answer(now_ns, self.cfg.arbiter_retry_ns, answer) {
            Learned::Nothing => {}
            Learned::Won(v) => self.settle(now_ns, v, out),
            Learned::Saw(v) => {
                let unchanged = v.as_ref().map(|v| v.rev) == self.a.as_ref().map(|a| a.rev);
                match v {
                    // A create of unknown outcome that has not happened yet: again.
                    _ if unchanged => self.on_unchanged(now_ns, out),
                    Some(v) if v.value.primary == self.cfg.me => self.settle(now_ns, v, out),
                    _ => self.fence(out),
                }
            }
        }
    }

    /// A read showed that nothing has been decided.
    fn on_unchanged(&mut self, now_ns: Ns, out: &mut Vec<Action>) {
        if self.want == Some(Want::Look) {
            self.want = None;
            if self.phase == Phase::Handover {
                self.arbiter.pause(now_ns, self.cfg.arbiter_retry_ns);
            }
            return;
        }
        if self.phase == Phase::Hold {
            self.want = Some(self.way_out(now_ns));
            if self.cfg.without(Mutant::ForgetUnknown) && self.want == Some(Want::Keep) {
                self.want = None;
                self.enter_prot(now_ns, out);
            }
        }
    }

    /// Out of Hold: with the backup, if it is there and holds all it acknowledged, else without.
    fn way_out(&mut self, now_ns: Ns) -> Want {
        let link = self.link;
        let there = |p: &mut Peer| link && p.ready && !p.lost && !p.heard.silent(now_ns);
        if self.peer.as_mut().is_some_and(there) {
            Want::Keep
        } else {
            Want::Leave
        }
    }

    /// The register is this, and names us.
    fn settle(&mut self, now_ns: Ns, v: Versioned, out: &mut Vec<Action>) {
        let set = v.value.set.clone();
        self.a = Some(v);
        self.want = None;
        let ready = self.peer.as_ref().filter(|p| p.ready).map(|p| p.member);
        if set == [self.cfg.me] {
            self.drop_peer(now_ns, Reason::Detached, out);
            self.phase = Phase::Solo;
        } else if ready.is_some_and(|m| set.contains(&m)) {
            self.enter_prot(now_ns, out);
        } else {
            self.phase = Phase::Hold;
            self.want = Some(Want::Leave);
            return;
        }
        if std::mem::take(&mut self.stopped) {
            out.push(Action::Resume);
        }
    }

    fn enter_prot(&mut self, now_ns: Ns, out: &mut Vec<Action>) {
        self.phase = Phase::Prot;
        self.synced = true;
        if let Some(p) = &mut self.peer {
            (p.last, p.finished) = (None, false);
        }
        // Tells the backup its epoch: only acks of this epoch count from here on.
        self.send(now_ns, Body::Heartbeat, out);
    }

    fn fence(&mut self, out: &mut Vec<Action>) {
        let handover = self.peer.as_ref().is_some_and(|p| p.finished);
        self.phase = Phase::Fenced;
        self.gate.clear();
        self.want = None;
        out.push(Action::Fenced { handover });
    }

    /// The backup is gone, or is to go: nothing leaves until the arbiter has agreed.
    fn lose(&mut self, why: &str, out: &mut Vec<Action>) {
        let who = self.peer.as_ref().map_or(Member::default(), |p| p.member);
        out.push(Action::Say(format!(
            "backup {who}: {why}; outputs are held until the arbiter has taken it out of the set"
        )));
        self.phase = Phase::Hold;
        self.want = Some(Want::Leave);
        if self.cfg.without(Mutant::DetachBeforeCas) {
            self.phase = Phase::Solo;
        }
        self.slow(false, out);
    }

    fn slow(&mut self, is: bool, out: &mut Vec<Action>) {
        if std::mem::replace(&mut self.throttled, is) != is {
            out.push(Action::Throttle(is));
        }
    }

    fn on_command(&mut self, now_ns: Ns, c: Command, out: &mut Vec<Action>) {
        match (c, self.phase) {
            (Command::End, _) => self.ending = true,
            (Command::Detach, Phase::Prot) => {
                if let Some(p) = &mut self.peer {
                    p.lost = true;
                }
                self.lose("detached by command", out);
            }
            (Command::Detach, Phase::Sync) => self.leave_sync(now_ns, "detached by command", out),
            (Command::Switchover, Phase::Prot) => {
                self.phase = Phase::Handover;
                self.handover_ns = now_ns;
                self.stopped = true;
                out.push(Action::Stop);
            }
            (c, phase) => out.push(Action::Say(format!(
                "{c:?} is not possible in state {phase:?}: there is no backup in sync"
            ))),
        }
    }

    fn on_tick(&mut self, now_ns: Ns, out: &mut Vec<Action>) {
        self.arbiter.expire(now_ns, self.cfg.arbiter_timeout_ns);
        let late = now_ns.saturating_sub(self.sent_ns) >= self.cfg.heartbeat_ns;
        let horizon = self.ships() && !self.gate.is_empty() && self.promise.due(self.at);
        if late || horizon {
            self.send(now_ns, Body::Heartbeat, out);
        }
        let silent = self.peer.as_mut().is_some_and(|p| p.heard.silent(now_ns));
        match self.phase {
            Phase::Prot if silent => self.lose("silent for too long", out),
            Phase::Sync if silent => self.leave_sync(now_ns, "silent for too long", out),
            Phase::Prot => self.look_at_speed(now_ns, out),
            Phase::Hold if self.arbiter.idle(now_ns) => self.want = Some(self.way_out(now_ns)),
            Phase::Handover => {
                let over = now_ns.saturating_sub(self.handover_ns) > self.cfg.handover_timeout_ns;
                if over {
                    self.call_off(now_ns, out);
                } else if self.peer.as_ref().is_some_and(|p| p.finished) {
                    self.want = Some(Want::Look);
                }
            }
            _ => {}
        }
    }

    /// The switchover takes too long: the arbiter decides before the vCPU goes on.
    fn call_off(&mut self, now_ns: Ns, out: &mut Vec<Action>) {
        out.push(Action::Say(
            "the switchover took too long and is called off".to_owned(),
        ));
        self.phase = Phase::Hold;
        self.want = Some(self.way_out(now_ns));
    }

    fn look_at_speed(&mut self, now_ns: Ns, out: &mut Vec<Action>) {
        let Some(p) = &self.peer else { return };
        let (bytes, late) = p.behind(now_ns);
        if bytes > self.cfg.slow_bytes || late > self.cfg.slow_ns {
            match self.cfg.on_slow {
                OnSlow::Throttle => self.slow(true, out),
                OnSlow::Detach => {
                    if let Some(p) = &mut self.peer {
                        p.lost = true;
                    }
                    self.lose("too slow, and the policy is to detach", out);
                }
            }
        } else if bytes <= self.cfg.slow_bytes / 2 && late <= self.cfg.slow_ns / 2 {
            self.slow(false, out);
        }
    }
}
