//! The primary's side: the protocol's machine, its link, its arbiter, and the image's outputs between
//! them. Lives in the host arena, used by whoever holds the token.

use super::arbiter::Client;
use super::pipe::Pipe;
use super::{Commit, Intro, connect, image_time, knock, roots, status};
use crate::alloc::{self, Side};
use crate::door::{Doors, Mode};
use crate::link::Security;
use crate::link::session::Session;
use crate::platform::Plat;
use crate::sys;
use crate::talk::{self, Level};
use ftl_core::door::{stream_handle, stream_number};
use ftl_core::platform::{Handle, Host, NIC};
use ftl_core::replica::gate::Pushed;
use ftl_core::replica::primary::{Action, Base, Command, Input, Phase};
use ftl_core::replica::{Body, Class, MAX_BURST, Mark, Output, Primary};

/// Pause between attempts to reach the backup, ns.
pub const RETRY_NS: u64 = 200_000_000;
/// Time between ticks while outputs wait, and while none does, ns.
const TICK_WAITING_NS: u64 = 1_000_000;
const TICK_NS: u64 = 2_500_000;
/// A base that is being sent waits while more than this is unsent, bytes.
const MOST_UNSENT: usize = 8 << 20;

/// Records that an output waits for are kept back at most this long for others of the same turn, ns. A frame of
/// its own for each output is a third of a busy server's CPU time; this is about a wake-up of the backup.
const GATHER_NS: u64 = 100_000;

/// Pause before a backup is tried again after a snapshot for it could not be taken, or it could not keep the image, ns.
const RETRY_FAILED_NS: u64 = 5_000_000_000;
/// A host that cannot keep the image is asked half as often each time: a copy costs the image half of its time.
const MOST_DOUBLINGS: u32 = 6;

/// Pause before the image's root is offered again to a host that did not take it, ns.
const RETRY_ROOT_NS: u64 = 1_000_000_000;

/// How long the end of an image waits for a backup or the arbiter, ns.
pub const END_PATIENCE_NS: u64 = 30_000_000_000;

/// What an operator wants of a protected image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// A backup where there is none.
    Protect,
    /// Another backup, whatever there is.
    Replace,
    /// To go on at the backup.
    Switchover,
}

/// See the module.
pub struct Guard {
    /// The machine.
    pub primary: Primary,
    link: Option<Pipe>,
    coming: Option<connect::Coming>,
    /// The backup's agent; none until one is named.
    pub peer: Option<String>,
    /// The agent that is to take its place once the backup has left the set.
    next_peer: Option<String>,
    intro: Intro,
    security: Security,
    retry_ns: u64,
    /// How often in a row it could not keep the image.
    refused: u32,
    arbiter: Client,
    /// Brings the image's root to where the backup is to be; none: a directory that every host has.
    roots: Option<roots::Client>,
    /// Why that failed last.
    root_failed: String,
    next_tick: u64,
    /// A whole snapshot is wanted.
    pub want_base: bool,
    /// The vCPU is to stop at an entry.
    pub stop: bool,
    /// The image is to wait for a slow backup.
    pub throttle: bool,
    /// It stands.
    pub stopped: bool,
    /// All is released and known.
    pub ended: bool,
    /// Number of the last snapshot that was sent, and of the last that is in place.
    pub snaps: (u64, u64),
    /// A whole one is being copied while the image runs.
    pub base: Option<Box<super::top::BaseRounds>>,
    /// A snapshot is under way or not acknowledged yet.
    pub going: bool,
    /// When the image began to run since it was last idle; time that it has run since the last snapshot, ns.
    running_since: u64,
    ran: u64,
    /// Part of the time since `running_since` that a replay does not need: it sends nothing, ns.
    outside: u64,
    turn: Turn,
    /// The last snapshot could not be taken.
    pub failed: bool,
    /// Bytes of log frames.
    pub log_bytes: u64,
    /// How far the backup is behind them.
    pub lag: status::Lag,
    /// Snapshots taken, and the time that the image stood still for them, ns: in all, at most.
    pub pauses: (u64, u64, u64),
    begun_at: u64,
    /// How long the image stood for the last one, ns.
    last_pause: u64,
    /// Streams that found no room.
    full: Vec<Handle>,
    /// Streams that the image has let go of, until all that it wrote to them has left.
    closing: Vec<Handle>,
    todo: Vec<Action>,
}

/// The image runs for so many times as long as a snapshot stops it, before the next one.
pub const RUN_PER_PAUSE: u64 = 8;

impl Guard {
    /// Of an image that starts, or of one that was taken over. The caller is on the host side.
    pub fn new(
        primary: Primary,
        peer: Option<String>,
        intro: Intro,
        arbiter: Client,
        security: Security,
        roots: Option<roots::Client>,
    ) -> Guard {
        Guard {
            primary,
            link: None,
            coming: None,
            peer,
            next_peer: None,
            intro,
            security,
            retry_ns: 0,
            refused: 0,
            arbiter,
            roots,
            root_failed: String::new(),
            next_tick: 0,
            want_base: false,
            stop: false,
            throttle: false,
            stopped: false,
            ended: false,
            snaps: (0, 0),
            base: None,
            going: false,
            running_since: 0,
            ran: 0,
            outside: 0,
            turn: Turn::default(),
            failed: false,
            log_bytes: 0,
            lag: status::Lag::default(),
            pauses: (0, 0, 0),
            begun_at: 0,
            last_pause: 0,
            full: Vec::new(),
            closing: Vec::new(),
            todo: Vec::new(),
        }
    }

    /// The image is idle from now on, or runs again.
    pub fn note_idle(&mut self, plat: &mut Plat, idle: bool) {
        let now = plat.clock.now();
        if idle {
            let ran = now.saturating_sub(self.running_since);
            self.ran += ran.saturating_sub(self.outside);
        }
        self.outside = 0;
        self.running_since = now;
    }

    /// An incremental snapshot is due: a takeover would replay for long. A replay takes about as long as the
    /// image ran, less what it spent on sending. A lone one of a quiet image comes early: it is small.
    ///
    /// Where one takes long it comes later: a recovery in time is worth no more than a part of the image's time.
    pub fn due(&self) -> bool {
        let wanted = match self.intro.policy.commit {
            Commit::Snapshot => !self.primary.gate().is_empty(),
            _ => {
                let most = self.intro.policy.recovery_ns / 2;
                self.ran > most.max(self.last_pause * RUN_PER_PAUSE)
            }
        };
        wanted && !self.going && !self.failed && self.snaps.1 != 0 && self.primary.phase() == Phase::Prot
    }

    /// A snapshot begins.
    pub fn begin(&mut self, plat: &mut Plat, whole: bool) {
        self.begun_at = plat.clock.now();
        self.going = true;
        self.failed = false;
        self.snaps.0 += 1;
        let snap = self.snaps.0;
        let parent = if whole { 0 } else { self.snaps.1 };
        self.step(plat, Input::Base(Base::Begin { snap, parent }));
    }

    /// The image stands for the last round of a whole one.
    pub fn last_round(&mut self, plat: &mut Plat) {
        self.begun_at = plat.clock.now();
        self.step(plat, Input::Base(Base::LastRound));
    }

    /// The link has enough to do.
    pub fn is_busy(&self) -> bool {
        self.link.as_ref().is_some_and(|l| l.unsent() > MOST_UNSENT / 2)
    }

    /// A snapshot could not be taken. The backup is given up: what leaves must not wait for one that never
    /// comes; it is tried anew after a pause.
    pub fn base_failed(&mut self, plat: &mut Plat) {
        self.failed = true;
        self.step(plat, Input::Command(Command::Detach));
        self.link = None;
        self.step(plat, Input::Link(false));
        self.retry_ns = plat.clock.now() + RETRY_FAILED_NS;
    }

    /// The image stood still for so long, which a replay does not.
    pub fn stood(&mut self, ns: u64) {
        self.outside += ns;
    }

    /// It is on its way.
    pub fn taken(&mut self, now: u64) {
        let ns = now.saturating_sub(self.begun_at);
        self.last_pause = ns;
        self.pauses = (self.pauses.0 + 1, self.pauses.1 + ns, self.pauses.2.max(ns));
        self.ran = 0;
        self.outside = 0;
        self.running_since = now;
    }

    /// Feeds the machine and does what it says, outputs apart.
    pub fn step(&mut self, plat: &mut Plat, input: Input) {
        self.step_at(plat.clock.now(), input);
    }

    fn step_at(&mut self, now: u64, input: Input) {
        let mut todo = std::mem::take(&mut self.todo);
        self.primary.step(now, input, &mut todo);
        self.act(&mut todo);
        self.todo = todo;
    }

    fn act(&mut self, todo: &mut Vec<Action>) {
        for a in todo.drain(..) {
            match a {
                Action::Send(f) => {
                    if let Some(l) = &mut self.link {
                        l.send(&f);
                    }
                }
                Action::Ask(r) => self.arbiter.ask(&r),
                Action::Release => {}
                Action::StartBase => (self.want_base, self.going, self.base) = (true, false, None),
                // Without a backup there is nobody to begin again for.
                Action::AbortBase => {
                    (self.want_base, self.going) = (self.primary.backup().is_some(), false);
                    self.base = None;
                }
                Action::Applied { snap, .. } => {
                    self.snaps.1 = snap;
                    self.going = false;
                    status::set(status::Figure::SnapshotAt, sys::clock_ns(libc::CLOCK_MONOTONIC));
                }
                Action::Stop => self.stop = true,
                Action::Resume => (self.stop, self.stopped) = (false, false),
                Action::Throttle(on) => self.throttle = on,
                Action::CloseLink(why) => {
                    talk::warn(&format!("closing the link to the backup: {why}"));
                    self.link = None;
                }
                Action::Fenced { handover } => {
                    match handover {
                        true => talk::note("handed over: the image goes on at the backup"),
                        false => {
                            talk::warn("fenced: another node is primary; what was not released is dropped")
                        }
                    }
                    crate::run::die(if handover { 0 } else { super::EXIT_FENCED });
                }
                Action::Ended => self.ended = true,
                Action::Phase(p) => {
                    super::note_phase(p, self.primary.epoch());
                    match p {
                        Phase::Solo => talk::warn("UNPROTECTED: no backup holds this image"),
                        Phase::Prot => {
                            self.refused = 0;
                            talk::note("protected");
                        }
                        _ => {}
                    }
                }
                Action::Say(line) => talk::note(&line),
            }
        }
    }

    /// Looks at the link and the arbiter, lets time pass, releases what may leave.
    pub fn service(&mut self, plat: &mut Plat, idle: bool) {
        let now = plat.clock.now();
        if !idle {
            self.note_idle(plat, true);
        }
        if self.next_peer.is_some() {
            self.replace_backup(plat);
        }
        self.look_for_backup(plat, now);
        let ticks = now >= self.next_tick;
        // To look in vain costs a host call.
        if std::mem::take(&mut plat.link_came) || ticks {
            self.listen(now);
        }
        if ticks {
            let mut at = image_time();
            if idle {
                at.v = at.v.max(now);
            }
            self.step(plat, Input::Tick { at, idle });
            self.primary.try_streams();
            let waiting = !self.primary.gate().is_empty();
            self.next_tick = now + if waiting { TICK_WAITING_NS } else { TICK_NS };
            self.lag.acked(self.primary.backup().map(|(_, m)| m.position));
            self.lag.tick(self.log_bytes, now);
            status::publish(self, plat.clock.now());
        }
        self.release(plat);
        if let Some(l) = &mut self.link {
            l.flush();
        }
        self.notice_broken(now);
    }

    fn notice_broken(&mut self, now: u64) {
        if let Some(l) = self.link.take_if(|l| l.broken()) {
            talk::warn(&format!("the link to the backup: {}", l.why()));
            // It may have given up for want of the root, which somebody has removed; and a standby that ends takes along the
            // files that were brought for it.
            if let Some(r) = &mut self.roots {
                r.forget();
            }
            self.step_at(now, Input::Link(false));
        }
    }

    /// What the arbiter and the backup have said.
    fn listen(&mut self, now: u64) {
        while let Some(a) = self.arbiter.answer() {
            self.step_at(now, Input::Arbiter(a));
        }
        if !self.link.as_mut().is_some_and(Pipe::fill) {
            return;
        }
        loop {
            match self.link.as_mut().map(Pipe::frame) {
                Some(Ok(Some(f))) => {
                    // It cannot be the backup, and will not be able to in an instant.
                    if matches!(f.body, Body::Detach { .. }) {
                        self.retry_ns = now + (RETRY_FAILED_NS << self.refused.min(MOST_DOUBLINGS));
                        self.refused += 1;
                    }
                    self.step_at(now, Input::Frame(f));
                }
                Some(Err(e)) => return talk::warn(&e.to_string()),
                _ => return,
            }
        }
    }

    /// A chunk of the snapshot that is being copied. A copy may take longer than the silence that counts as
    /// death, and so may a link that takes nothing: both sides go on hearing each other, and a primary that
    /// was replaced meanwhile learns it here. `clock`: the time now. An empty chunk is none:
    /// the search for pages goes on.
    pub fn give(&mut self, clock: &dyn Fn() -> u64, chunk: Vec<u8>) {
        if !chunk.is_empty() {
            self.step_at(clock(), Input::Base(Base::Chunk(chunk)));
        } else if clock() < self.next_tick {
            return;
        }
        loop {
            let now = clock();
            self.listen(now);
            if now >= self.next_tick {
                let at = image_time();
                self.step_at(now, Input::Tick { at, idle: false });
                self.next_tick = now + TICK_WAITING_NS;
            }
            if let Some(l) = &mut self.link {
                l.flush();
            }
            self.notice_broken(now);
            match self.link.as_ref().filter(|l| l.unsent() > MOST_UNSENT) {
                Some(l) => sys::wait_writable(l.fd(), 1),
                None => return,
            }
        }
    }

    /// When it wants to be called again at the latest.
    pub fn next_tick(&self) -> u64 {
        match &self.base {
            // An idle image has time for the next slice of its base.
            Some(b) if !self.is_busy() => self.next_tick.min(b.due()),
            _ => self.next_tick,
        }
    }

    /// Another agent is wanted. The old backup leaves the set first, by the arbiter's decision, and its link stays until
    /// then: one that was cut off would take over.
    fn replace_backup(&mut self, plat: &mut Plat) {
        match self.primary.phase() {
            Phase::Sync => self.step(plat, Input::Command(Command::Detach)),
            Phase::Solo => {
                let peer = self.next_peer.take();
                self.connect_to(plat, peer);
            }
            _ => {}
        }
    }

    /// From now on this agent is tried.
    fn connect_to(&mut self, plat: &mut Plat, peer: Option<String>) {
        if self.link.take().is_some() {
            self.step(plat, Input::Link(false));
        }
        self.coming = None;
        self.retry_ns = 0;
        self.peer = peer;
    }

    /// A backup without the image's root could not take over: it has to be there first.
    fn root_is_at(&mut self, peer: &str, now: u64) -> bool {
        let Some(r) = &mut self.roots else { return true };
        let at = r.look(peer, now);
        status::set(status::Figure::SendsRoot, u64::from(at == roots::At::Coming));
        match at {
            roots::At::Here => true,
            roots::At::Coming => false,
            roots::At::Failed(why) => {
                if self.root_failed != why {
                    let line = format!("the image's root cannot be brought to {peer}: {why}");
                    talk::say(Level::Warn, &line, &[("peer", peer.into())]);
                    self.root_failed = why;
                }
                self.retry_ns = now + RETRY_ROOT_NS;
                false
            }
        }
    }

    fn look_for_backup(&mut self, plat: &mut Plat, now: u64) {
        let Some(peer) = self.peer.clone().filter(|_| self.link.is_none()) else {
            return;
        };
        if self.coming.is_none() {
            if now < self.retry_ns {
                return;
            }
            if !self.root_is_at(&peer, now) {
                return;
            }
            self.retry_ns = now + RETRY_NS;
            self.coming = connect::Coming::start(&peer);
        }
        match self.coming.as_mut().map(connect::Coming::look) {
            Some(Some(Ok(fd))) => {
                self.coming = None;
                plat.watch_link(std::os::fd::AsRawFd::as_raw_fd(&fd));
                talk::set_peer(&peer);
                match Session::client(&self.security) {
                    Ok(session) => {
                        let mut link = Pipe::new(fd, session, true);
                        link.start(&knock(self.intro.image));
                        link.send_bytes(&self.intro.encode());
                        self.link = Some(link);
                        self.step(plat, Input::Link(true));
                    }
                    Err(e) => talk::warn(&e.to_string()),
                }
            }
            Some(Some(Err(_))) => self.coming = None,
            Some(None) if now > self.retry_ns => self.coming = None,
            _ => {}
        }
    }

    /// Sends what may leave, asked one by one.
    fn release(&mut self, plat: &mut Plat) {
        let now = plat.clock.now();
        let mut last: Option<Output> = None;
        for _ in 0..MAX_BURST {
            let Some(o) = self.primary.next_output(now) else {
                break;
            };
            let stream = matches!(o.class, Class::Stream { .. });
            if let Some(before) = last.take() {
                self.emit(plat, before, !stream);
            }
            // A stream's is written before the next one is asked for: if it is refused, that one must wait behind it.
            match stream {
                true => self.emit(plat, o, false),
                false => last = Some(o),
            }
        }
        if let Some(o) = last {
            self.emit(plat, o, false);
            self.outside += plat.clock.now().saturating_sub(now);
        }
        if self.primary.gate().roomy() {
            for h in std::mem::take(&mut self.full) {
                plat.push(ftl_core::door::Input::Writable(h));
            }
        }
        if !self.closing.is_empty() {
            let gate = self.primary.gate();
            let (wait, now): (Vec<Handle>, Vec<Handle>) = std::mem::take(&mut self.closing)
                .into_iter()
                .partition(|h| gate.holds(stream_number(*h)));
            self.closing = wait;
            for h in now {
                plat.stream_close(h);
            }
        }
    }

    /// `more`: another output follows at once.
    fn emit(&mut self, plat: &mut Plat, o: Output, more: bool) {
        match o.class {
            Class::Tcp { .. } | Class::Udp => plat.out_packet(NIC, &o.bytes, more),
            Class::Stream { stream } => {
                let taken = plat.stream_put(stream_handle(stream), &o.bytes);
                if taken < o.bytes.len() {
                    self.primary.refused(o, taken);
                }
            }
            Class::Volume | Class::Exit => {}
        }
    }

    /// The image made an output; all records before it were given, or will be with it.
    fn output(&mut self, plat: &mut Plat, position: u64, class: Class, bytes: &[u8]) -> Pushed {
        let now = plat.clock.now();
        let mark = Mark {
            position,
            at: image_time(),
        };
        let mut todo = std::mem::take(&mut self.todo);
        let pushed = self.primary.output(now, mark, class, bytes.to_vec(), &mut todo);
        self.act(&mut todo);
        self.todo = todo;
        self.release(plat);
        pushed
    }
}

/// A turn of the image, from one absorb point that had inputs to the next. Outputs of one turn share a frame as
/// far as can be told beforehand: a turn is taken to have as many as the one before it.
#[derive(Debug)]
struct Turn {
    outputs: u32,
    /// The records are given to the backup when this many outputs were made.
    ship_at: u32,
    /// When the first record was written that the backup has not been given and that outputs wait for.
    waits_since: Option<u64>,
}

impl Default for Turn {
    fn default() -> Turn {
        Turn {
            outputs: 0,
            ship_at: 1,
            waits_since: None,
        }
    }
}

impl Turn {
    /// True: give the records that there are now.
    fn begins(&mut self, now: u64) -> bool {
        self.ship_at = self.outputs.max(1);
        self.outputs = 0;
        self.waits_since.get_or_insert(now);
        self.ship_at == 1
    }

    /// An output was made that waits for records which were not given. True: give them now.
    fn output(&mut self, now: u64) -> bool {
        self.outputs += 1;
        let since = *self.waits_since.get_or_insert(now);
        if self.outputs >= self.ship_at {
            // There are more than were expected: who knows how many.
            self.ship_at = self.outputs * 2;
            return true;
        }
        now.saturating_sub(since) > GATHER_NS
    }
}

impl Doors {
    /// The record of inputs was written: another turn begins. A lone one leaves at once, so that its ack comes
    /// while the image works; where many outputs will follow, it leaves with them.
    pub fn turn_begins(&mut self) {
        let now = self.live.clock.now();
        if self.guard.as_mut().is_none_or(|g| g.turn.begins(now)) {
            self.ship();
        }
    }

    /// Gives the machine the records that were written.
    pub fn ship(&mut self) {
        let (Some(g), Mode::Record(r)) = (&mut self.guard, &mut self.mode) else {
            return;
        };
        let _side = alloc::enter(Side::Host);
        g.turn.waits_since = None;
        r.flush();
        if r.shipped.is_empty() {
            return;
        }
        let begun = self.live.clock.now();
        for (first, count, bytes) in r.shipped.drain(..) {
            let at = image_time();
            g.log_bytes += bytes.len() as u64;
            g.lag.given(first + u64::from(count), g.log_bytes, begun);
            g.step(
                &mut self.live,
                Input::Records {
                    at,
                    first,
                    count,
                    bytes,
                },
            );
        }
        g.outside += self.live.clock.now().saturating_sub(begun);
    }

    /// An operator wants another backup, or the image to go on at the one there is.
    pub fn protect_order(&mut self, wish: Wish, backup: &[u8]) -> Result<(), String> {
        let Some(g) = &mut self.guard else {
            return Err("the image is not protected; start it with ftvm run --protect".to_string());
        };
        let peer = String::from_utf8_lossy(backup).into_owned();
        match (wish, g.primary.phase()) {
            (Wish::Switchover, Phase::Prot) => {
                g.step(&mut self.live, Input::Command(Command::Switchover));
            }
            (Wish::Switchover, _) => {
                return Err("the image has no backup in sync that it could be handed to".to_string());
            }
            (Wish::Replace, Phase::Prot) => {
                g.next_peer = Some(peer);
                g.step(&mut self.live, Input::Command(Command::Detach));
            }
            (Wish::Replace, Phase::Sync) => g.next_peer = Some(peer),
            (Wish::Replace, Phase::Hold | Phase::Handover) => {
                return Err("the arbiter has not decided yet about the backup that there is".to_string());
            }
            _ if g.primary.protected() => {
                return Err(format!(
                    "the image has a backup already; {peer} can be the next one, or take its place with --replace"
                ));
            }
            _ => g.connect_to(&mut self.live, Some(peer)),
        }
        Ok(())
    }

    /// See [`Guard::note_idle`].
    pub fn note_idle(&mut self, idle: bool) {
        if let Some(g) = &mut self.guard {
            g.note_idle(&mut self.live, idle);
        }
    }

    /// See [`Guard::service`].
    pub fn service(&mut self, idle: bool) {
        if self.guard.is_none() {
            return;
        }
        self.ship();
        if let Some(g) = &mut self.guard {
            let _side = alloc::enter(Side::Host);
            g.service(&mut self.live, idle);
            if let Mode::Record(r) = &self.mode {
                status::publish_record(r);
            }
        }
    }

    /// As [`Doors::service`], where nothing has waited for the link: the guest computes.
    pub fn service_uncalled(&mut self) {
        self.live.link_came = true;
        self.service(false);
    }

    /// The same, if it has not been called for long: the library OS computes.
    pub fn service_if_due(&mut self) {
        let now = self.live.clock.now();
        if self.guard.as_ref().is_some_and(|g| now >= g.next_tick()) {
            self.service_uncalled();
        }
    }

    /// An output goes through the gate. `None`: the image is not protected. The records before it are given to
    /// the backup now, or with others of this turn.
    pub fn gate(&mut self, class: Class, bytes: &[u8]) -> Option<Pushed> {
        let (Some(g), Mode::Record(r)) = (&mut self.guard, &self.mode) else {
            return None;
        };
        let _side = alloc::enter(Side::Host);
        let position = r.position();
        let pushed = g.output(&mut self.live, position, class, bytes);
        let waits = position != g.primary.promised().position;
        if waits && g.turn.output(self.live.clock.now()) {
            self.ship();
        }
        Some(pushed)
    }

    /// A stream's output was refused: the image hears when there is room.
    pub fn gate_full(&mut self, h: Handle) {
        if let Some(g) = &mut self.guard
            && !g.full.contains(&h)
        {
            g.full.push(h);
        }
    }

    /// The image lets go of a stream.
    pub fn gate_closes(&mut self, h: Handle) {
        if let Some(g) = &mut self.guard {
            let _side = alloc::enter(Side::Host);
            g.closing.push(h);
            g.release(&mut self.live);
        }
    }

    /// The image has ended: its exit is an output, and nobody is to take over.
    pub fn gate_end(&mut self) {
        if self.guard.is_none() {
            return;
        }
        let mut begun = sys::clock_ns(libc::CLOCK_MONOTONIC);
        self.gate(Class::Exit, &[]);
        self.ship();
        if let Some(g) = &mut self.guard {
            let _side = alloc::enter(Side::Host);
            g.step(&mut self.live, Input::Command(Command::End));
        }
        while self
            .guard
            .as_ref()
            .is_some_and(|g| !g.ended && g.primary.phase() != Phase::Fenced)
        {
            self.service(true);
            sys::sleep_ns(200_000);
            let now = sys::clock_ns(libc::CLOCK_MONOTONIC);
            // What nobody reads is waited for as any program waits in write().
            if self.guard.as_ref().is_some_and(|g| g.primary.gate().stalled()) {
                begun = now;
            }
            if now - begun > END_PATIENCE_NS {
                let line =
                    "the image has ended, but no backup has confirmed its last outputs; they are dropped";
                talk::warn(line);
                crate::run::die(crate::run::EXIT_FAILED);
            }
        }
        // The last frame tells the backup that there is nothing to take over.
        if let Some(l) = self.guard.as_mut().and_then(|g| g.link.as_mut()) {
            for _ in 0..100 {
                l.flush();
                if l.unsent() == 0 {
                    break;
                }
                sys::wait_writable(l.fd(), 10);
            }
        }
    }
}
