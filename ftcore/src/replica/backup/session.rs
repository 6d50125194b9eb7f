//! What comes from the primary: greeting, snapshots, records.

use super::*;

impl Backup {
    pub(super) fn on_frame(&mut self, now_ns: Ns, f: Frame, out: &mut Vec<Action>) {
        // After a swap was sent, nothing that the old primary says counts.
        let deaf = matches!(self.phase, Phase::Claiming | Phase::Replay);
        let deaf = deaf && !self.cfg.without(Mutant::AckAfterCas);
        if f.image != self.cfg.image || f.from == self.cfg.me || deaf {
            return;
        }
        match f.body {
            Body::Welcome { version, resume } => {
                return self.on_welcome(now_ns, &f, version, resume, out);
            }
            // Also the answer to a Hello, before any Welcome.
            Body::Detach { reason } if f.session == self.session || f.session == 0 => {
                return self.on_detach(reason, out);
            }
            _ => {}
        }
        let ours = f.session == self.session && Some(f.from) == self.primary && f.epoch >= self.epoch;
        if !self.welcomed || !ours {
            return;
        }
        if f.epoch > self.epoch {
            // The primary got another swap through: it went on, so a switchover was called off.
            self.epoch = f.epoch;
            self.last = None;
        }
        self.heard.heard(now_ns);
        self.released = self.released.max(f.released);
        self.ack_due = true;
        match f.body {
            Body::Records { count, bytes } => {
                if !self.on_records(f.position, count, bytes, out) {
                    return;
                }
            }
            Body::BaseBegin { snap, parent } => self.on_base_begin(snap, parent, out),
            Body::BaseChunk { snap, seq, bytes } => match &mut self.coming {
                Some(c) if c.snap == snap && c.chunks == seq && c.whole.is_none() => {
                    c.chunks += 1;
                    out.push(Action::BaseChunk { snap, bytes });
                }
                // The rest of one that is void.
                _ => {}
            },
            Body::BaseEnd {
                snap,
                chunks,
                mark,
                marks,
                manifest,
            } => match &mut self.coming {
                Some(c) if c.snap == snap && c.whole.is_none() => {
                    if c.chunks != chunks {
                        return self.close("chunks of a snapshot are missing", out);
                    }
                    c.whole = Some(Base { snap, mark, marks });
                    out.push(Action::BaseEnd { snap, manifest });
                }
                _ => {}
            },
            Body::Heartbeat => {}
            Body::Status { text } => out.push(Action::Say(format!("primary {}: {text}", f.from))),
            Body::Final { at, manifest } => {
                if self.held != Some(f.position) {
                    return self.close("records before FINAL are missing", out);
                }
                self.last = Some((at, manifest));
                self.h = self.h.max(f.h);
                self.ack(out);
                return self.look(now_ns, out);
            }
            Body::Hello { .. } | Body::Ack { .. } | Body::Welcome { .. } | Body::Detach { .. } => {
                return self.close("the primary sent what only a backup sends", out);
            }
        }
        // A promise holds from where it was made: only without a gap before it.
        if self.held.is_some_and(|h| f.position <= h) {
            self.h = self.h.max(f.h);
        }
    }

    fn on_welcome(&mut self, now_ns: Ns, f: &Frame, version: u16, resume: bool, out: &mut Vec<Action>) {
        if version != VERSION {
            return self.close("no common version of the replica protocol", out);
        }
        let same = f.session == self.session && Some(f.from) == self.primary;
        match self.phase {
            Phase::Ready if resume && same => {}
            Phase::Empty | Phase::Syncing if !resume => {
                self.void_base(out);
                (self.session, self.primary) = (f.session, Some(f.from));
                (self.held, self.base, self.coming) = (None, None, None);
                self.log.clear();
                self.log_bytes = 0;
                self.phase = Phase::Syncing;
            }
            // What it holds may be all there is, and must not shrink under the same name.
            _ => return self.lose("the primary does not know its session", out),
        }
        self.epoch = self.epoch.max(f.epoch);
        self.welcomed = true;
        self.ack_due = true;
        self.heard.heard(now_ns);
    }

    fn on_detach(&mut self, reason: Reason, out: &mut Vec<Action>) {
        let why = match reason {
            Reason::Ended => {
                self.phase = Phase::Ended;
                out.push(Action::Ended);
                return;
            }
            Reason::Detached => "the primary went on without it",
            Reason::Gap => "it lacks what it had acknowledged",
            Reason::Build => "the primary is another build of ftvm; install the same one on both nodes",
            Reason::Version => "the primary speaks another version of the replica protocol",
            Reason::Taken => "the primary has another backup",
        };
        self.lose(why, out);
    }

    /// Keeps records. False: the link is of no use.
    fn on_records(&mut self, first: u64, count: u32, bytes: Vec<u8>, out: &mut Vec<Action>) -> bool {
        if !whole_frames(&bytes, self.cfg.image, first, count) {
            self.close("records are damaged", out);
            return false;
        }
        let end = first + u64::from(count);
        let held = *self.held.get_or_insert(first);
        if first > held {
            self.close("records are missing", out);
            return false;
        }
        // Sent again after a new link.
        if end > held {
            self.held = Some(end);
            self.log_bytes += bytes.len() as u64;
            self.log.push_back(Kept { first, count, bytes });
        }
        true
    }

    fn on_base_begin(&mut self, snap: u64, parent: u64, out: &mut Vec<Action>) {
        let here = self.base.as_ref().map_or(0, |b| b.snap);
        self.void_base(out);
        if parent != 0 && parent != here || self.coming.is_some() {
            // The one before it is still being applied, or never came: the primary begins again.
            out.push(Action::Say(format!(
                "snapshot {snap} completes {parent}, but {here} is in place"
            )));
            return;
        }
        self.coming = Some(Coming {
            snap,
            chunks: 0,
            whole: None,
        });
        out.push(Action::BaseBegin { snap, parent });
    }

    pub(super) fn on_applied(&mut self, snap: u64, out: &mut Vec<Action>) {
        let Some(base) = self
            .coming
            .take_if(|c| c.snap == snap && c.whole.is_some())
            .and_then(|c| c.whole)
        else {
            return;
        };
        let position = base.mark.position;
        if self.log.front().is_some_and(|k| k.first > position) {
            return self.lose("records right after its snapshot are missing", out);
        }
        while self.log.front().is_some_and(|k| k.end() <= position) {
            self.log_bytes -= self.log.pop_front().map_or(0, |k| k.bytes.len() as u64);
        }
        self.held = Some(self.held.map_or(position, |h| h.max(position)));
        self.h = self.h.max(base.mark.at);
        self.base = Some(base);
        if self.phase == Phase::Syncing {
            self.phase = Phase::Ready;
        }
        self.ack_due = true;
        self.ack(out);
    }
}

/// The bytes are exactly `count` records from `first` on, in whole log frames of this image.
pub(super) fn whole_frames(mut src: &[u8], image: u64, first: u64, count: u32) -> bool {
    let mut at = first;
    while !src.is_empty() {
        match next_frame(src, image) {
            Ok((batch, n)) if batch.position == at && batch.count > 0 => {
                at = match at.checked_add(u64::from(batch.count)) {
                    Some(at) => at,
                    None => return false,
                };
                src = &src[n..];
            }
            _ => return false,
        }
    }
    count > 0 && at - first == u64::from(count)
}
