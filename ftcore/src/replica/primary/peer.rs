//! The session with a backup: what was sent to it, what it acknowledged, frames in and out.

use super::*;
use crate::replica::detect::Detector;
use crate::replica::frame::VERSION;
use std::collections::VecDeque;

/// Records that were shipped and not acknowledged: a link that comes back needs them again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sent {
    pub first: u64,
    pub count: u32,
    pub bytes: Vec<u8>,
    pub since_ns: Ns,
}

/// A snapshot on its way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Going {
    pub snap: u64,
    pub chunks: u32,
}

/// The backup of one session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    pub member: Member,
    pub session: u64,
    pub heard: Detector,
    /// The gate is on and records are shipped.
    pub gated: bool,
    /// It has acknowledged the session's first snapshot.
    pub ready: bool,
    /// It cannot be kept, whatever it says.
    pub lost: bool,
    pub acked: Mark,
    /// Last snapshot that was sent completely, and its position; last that is in place.
    pub base: Option<(u64, Mark)>,
    pub applied: u64,
    /// Where the image stood for it.
    pub in_place: Mark,
    pub going: Option<Going>,
    pub unacked: VecDeque<Sent>,
    pub unacked_bytes: u64,
    /// Where the vCPU stopped for a switchover, and the hand-over's manifest.
    pub last: Option<(Time, Vec<u8>)>,
    /// FINAL is acknowledged.
    pub finished: bool,
}

impl Peer {
    /// Bytes of records that are not acknowledged, and the age of the oldest.
    pub fn behind(&self, now_ns: Ns) -> (u64, Ns) {
        let late = self
            .unacked
            .front()
            .map_or(0, |s| now_ns.saturating_sub(s.since_ns));
        (self.unacked_bytes, late)
    }
}

impl Primary {
    fn frame(&self, session: u64, body: Body) -> Frame {
        Frame {
            image: self.cfg.image,
            epoch: self.epoch(),
            session,
            from: self.cfg.me,
            position: self.position,
            h: self.promise.horizon(),
            ack: self.peer.as_ref().map_or(0, |p| p.acked.position),
            released: self.gate.last_released(),
            body,
        }
    }

    #[cfg(test)]
    pub(crate) fn frame_for_test(&self, body: Body) -> Frame {
        self.frame(self.peer.as_ref().map_or(0, |p| p.session), body)
    }

    /// Sends a frame of this session; the horizon is renewed on the way.
    pub(super) fn send(&mut self, now_ns: Ns, body: Body, out: &mut Vec<Action>) {
        let Some(session) = self.peer.as_ref().filter(|_| self.link).map(|p| p.session) else {
            return;
        };
        self.promise.renew(self.at, self.idle);
        self.sent_ns = now_ns;
        out.push(Action::Send(self.frame(session, body)));
    }

    /// Records go to the backup, and outputs depend on its acks.
    pub(super) fn ships(&self) -> bool {
        self.peer.as_ref().is_some_and(|p| p.gated)
    }

    pub(super) fn ship(&mut self, now_ns: Ns, first: u64, count: u32, bytes: Vec<u8>, out: &mut Vec<Action>) {
        if !self.ships() || count == 0 {
            return;
        }
        self.send_records(now_ns, first, count, bytes.clone(), out);
        if let Some(p) = &mut self.peer {
            p.unacked_bytes += bytes.len() as u64;
            p.unacked.push_back(Sent {
                first,
                count,
                bytes,
                since_ns: now_ns,
            });
        }
    }

    fn send_records(&mut self, now_ns: Ns, first: u64, count: u32, bytes: Vec<u8>, out: &mut Vec<Action>) {
        let n = out.len();
        self.send(now_ns, Body::Records { count, bytes }, out);
        if let Some(Action::Send(f)) = out.get_mut(n) {
            f.position = first;
        }
    }

    pub(super) fn send_final(&mut self, now_ns: Ns, out: &mut Vec<Action>) {
        let last = self.peer.as_ref().and_then(|p| p.last.clone());
        if let Some((at, manifest)) = last {
            self.send(now_ns, Body::Final { at, manifest }, out);
        }
    }

    /// Nothing of a session goes over a link before its Hello: what was under way on the old one is lost.
    /// Records are kept and sent again, pages are not.
    pub(super) fn on_link(&mut self, out: &mut Vec<Action>) {
        self.link = false;
        self.abort_base(out);
    }

    fn abort_base(&mut self, out: &mut Vec<Action>) {
        if self.peer.as_mut().is_some_and(|p| p.going.take().is_some()) {
            out.push(Action::AbortBase);
        }
    }

    /// Ends the session.
    pub(super) fn drop_peer(&mut self, now_ns: Ns, reason: Reason, out: &mut Vec<Action>) {
        self.abort_base(out);
        self.send(now_ns, Body::Detach { reason }, out);
        self.peer = None;
        self.slow(false, out);
    }

    /// The backup did not get into the set. If a swap that lets it in may still happen, the arbiter decides.
    pub(super) fn leave_sync(&mut self, now_ns: Ns, why: &str, out: &mut Vec<Action>) {
        if self.arbiter.in_doubt(self.a.as_ref().map_or(0, |a| a.rev)) {
            if let Some(p) = &mut self.peer {
                p.lost = true;
            }
            self.lose(why, out);
            return;
        }
        out.push(Action::Say(format!(
            "a backup that was copying: {why}; still unprotected"
        )));
        self.drop_peer(now_ns, Reason::Detached, out);
        self.want = None;
        self.phase = Phase::Solo;
    }

    pub(super) fn on_base(&mut self, now_ns: Ns, b: Base, out: &mut Vec<Action>) {
        let Some(p) = &mut self.peer else { return };
        match b {
            Base::Begin { snap, parent } => {
                p.going = Some(Going { snap, chunks: 0 });
                self.send(now_ns, Body::BaseBegin { snap, parent }, out);
            }
            Base::Chunk(bytes) => {
                let Some(g) = &mut p.going else { return };
                let (snap, seq) = (g.snap, g.chunks);
                g.chunks += 1;
                self.send(now_ns, Body::BaseChunk { snap, seq, bytes }, out);
            }
            Base::LastRound => {
                if !self.cfg.without(Mutant::JoinBeforeGate) {
                    p.gated = true;
                }
            }
            Base::End {
                mark,
                marks,
                manifest,
            } => {
                let Some(Going { snap, chunks }) = p.going.take() else {
                    return;
                };
                assert!(
                    p.gated || self.cfg.mutant.is_some(),
                    "LastRound comes before a first End"
                );
                assert!(
                    mark.position <= self.position,
                    "the records before a snapshot are given before it"
                );
                p.base = Some((snap, mark));
                self.at = self.at.max(mark.at);
                self.promise.raise(mark.at);
                self.send(
                    now_ns,
                    Body::BaseEnd {
                        snap,
                        chunks,
                        mark,
                        marks,
                        manifest,
                    },
                    out,
                );
            }
        }
    }

    pub(super) fn on_frame(&mut self, now_ns: Ns, f: Frame, out: &mut Vec<Action>) {
        if f.image != self.cfg.image || f.from == self.cfg.me {
            return;
        }
        if f.epoch > self.epoch() && self.a.is_some() {
            // Never believed, but worth a look at the register.
            self.want.get_or_insert(Want::Look);
            return;
        }
        if let Body::Hello {
            min_version,
            max_version,
            build,
        } = f.body
        {
            let fits = (min_version..=max_version).contains(&VERSION);
            return self.on_hello(now_ns, &f, fits, build, out);
        }
        let epoch = self.epoch();
        let Some(p) = &mut self.peer else {
            // Somebody believes in a session that is over, and did not hear that it is.
            let theirs = matches!(f.body, Body::Heartbeat | Body::Ack { .. });
            if theirs && self.phase == Phase::Solo {
                let reason = Reason::Detached;
                out.push(Action::Send(self.frame(f.session, Body::Detach { reason })));
            }
            return;
        };
        let theirs = f.session == p.session && f.from == p.member && f.epoch == epoch;
        if !theirs && !self.cfg.without(Mutant::AckOfAnyone) {
            return;
        }
        p.heard.heard(now_ns);
        match f.body {
            Body::Ack { finished } => self.on_ack(
                now_ns,
                Mark {
                    position: f.position,
                    at: f.h,
                },
                f.ack,
                finished,
                out,
            ),
            Body::Heartbeat => {}
            Body::Status { text } => out.push(Action::Say(format!("backup {}: {text}", f.from))),
            Body::Detach { .. } => {
                p.lost = true;
                match self.phase {
                    Phase::Sync => self.leave_sync(now_ns, "it went away", out),
                    Phase::Prot => self.lose("it went away", out),
                    _ => {}
                }
            }
            _ => out.push(Action::CloseLink("the backup sent what only a primary sends")),
        }
    }

    fn on_ack(&mut self, now_ns: Ns, mark: Mark, snap: u64, finished: bool, out: &mut Vec<Action>) {
        let Some(p) = &mut self.peer else { return };
        let Some((sent, stop)) = p.base else {
            out.push(Action::CloseLink(
                "the backup acknowledged before it had a snapshot",
            ));
            return;
        };
        if mark.position > self.position || !self.promise.horizon().covers(mark.at) || snap > sent {
            out.push(Action::CloseLink("the backup acknowledged what was never sent"));
            return;
        }
        p.ready = true;
        p.finished |= finished && p.last.is_some();
        p.acked = p.acked.max(mark);
        while p
            .unacked
            .front()
            .is_some_and(|s| s.first + u64::from(s.count) <= mark.position)
        {
            p.unacked_bytes -= p.unacked.pop_front().map_or(0, |s| s.bytes.len() as u64);
        }
        if snap > p.applied {
            p.applied = snap;
            if snap == sent {
                p.in_place = stop;
                out.push(Action::Applied {
                    snap,
                    position: stop.position,
                });
            }
        }
        self.gate.acked(match self.cfg.commit {
            // No snapshot follows the last output.
            Commit::Snapshot if !self.ending => p.in_place,
            _ => p.acked,
        });
        let covers = p.acked.covers(self.gate.left()) || self.cfg.without(Mutant::JoinBeforeGate);
        match self.phase {
            Phase::Sync if covers => self.want = Some(Want::Join),
            Phase::Handover if p.finished => self.want = Some(Want::Look),
            Phase::Prot => self.look_at_speed(now_ns, out),
            _ => {}
        }
    }

    fn on_hello(&mut self, now_ns: Ns, f: &Frame, fits: bool, build: [u8; 16], out: &mut Vec<Action>) {
        let refuse = |p: &Primary, reason, out: &mut Vec<Action>| {
            let frame = p.frame(f.session, Body::Detach { reason });
            out.push(Action::Send(frame));
        };
        if !fits {
            return refuse(self, Reason::Version, out);
        }
        if build != self.cfg.build {
            return refuse(self, Reason::Build, out);
        }
        match self.phase {
            Phase::Boot | Phase::Fenced => {}
            Phase::Solo => self.welcome(now_ns, f.from, out),
            Phase::Sync | Phase::Prot | Phase::Hold | Phase::Handover => {
                let Some(p) = &mut self.peer else { return };
                let same = p.member == f.from && p.session == f.session;
                if same && p.ready && f.position >= p.acked.position {
                    p.heard.heard(now_ns);
                    // A snapshot that was sent, and neither is in place there nor is being put there, was lost.
                    let lost =
                        |(sent, _): (u64, Mark)| sent > p.applied && f.ack < sent && f.released != sent;
                    if p.base.is_some_and(lost) {
                        out.push(Action::AbortBase);
                    }
                    return self.resume(now_ns, f.position, out);
                }
                if self.phase == Phase::Sync {
                    self.leave_sync(now_ns, "it came back anew", out);
                    if self.phase == Phase::Solo {
                        self.welcome(now_ns, f.from, out);
                    }
                } else if p.member.node == f.from.node {
                    // Its old incarnation holds nothing any more. It is welcome when it is out of the set.
                    p.lost = true;
                    if self.phase == Phase::Prot {
                        self.lose("it came back without what it had", out);
                    }
                    if f.session != 0 {
                        refuse(self, Reason::Gap, out);
                    }
                } else {
                    refuse(self, Reason::Taken, out);
                }
            }
        }
    }

    /// A new session.
    fn welcome(&mut self, now_ns: Ns, member: Member, out: &mut Vec<Action>) {
        self.link = true;
        self.sessions += 1;
        // An old incarnation's acks must not fit a new one's session by chance.
        let session = (self.cfg.me.inc as u64).wrapping_add(self.sessions) | 1 << 63;
        self.peer = Some(Peer {
            member,
            session,
            heard: Detector::new(&self.cfg, now_ns),
            gated: false,
            ready: false,
            lost: false,
            acked: Mark::default(),
            in_place: Mark::default(),
            base: None,
            applied: 0,
            going: None,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            last: None,
            finished: false,
        });
        self.gate.forget_acks();
        self.phase = Phase::Sync;
        self.send(
            now_ns,
            Body::Welcome {
                version: VERSION,
                resume: false,
            },
            out,
        );
        out.push(Action::StartBase);
    }

    /// The same session on a new link.
    fn resume(&mut self, now_ns: Ns, held: u64, out: &mut Vec<Action>) {
        self.link = true;
        self.abort_base(out);
        self.send(
            now_ns,
            Body::Welcome {
                version: VERSION,
                resume: true,
            },
            out,
        );
        let again: Vec<Sent> = self.peer.iter().flat_map(|p| p.unacked.iter()).cloned().collect();
        for s in again.into_iter().filter(|s| s.first + u64::from(s.count) > held) {
            self.send_records(now_ns, s.first, s.count, s.bytes, out);
        }
        self.send_final(now_ns, out);
    }
}
