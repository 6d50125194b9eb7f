//! What is checked: at every output that leaves, and at every takeover.

use super::image::Replay;
use super::*;

impl World {
    /// The rules about what leaves.
    pub fn leaves(&mut self, node: usize, o: Output) {
        let Role::Primary(l) = &self.nodes[node].role else {
            return;
        };
        let (epoch, me, gated) = (l.p.epoch(), l.p.config().me, l.p.phase() == primary::Phase::Prot);
        let h = hash(&o.bytes);
        let Some((mine, mark)) = l.image.trail.get(o.number as usize - 1).copied() else {
            return self.broke(format!("output {} has no origin", o.number));
        };
        let mut wrong = Vec::new();
        if mine != h {
            wrong.push(format!("the gate mixed up output {}", o.number));
        }
        // I7.
        match self.arbiter.value() {
            Some(r) if r.epoch == epoch && r.primary != me => {
                wrong.push(format!("I7: node {node} emits in epoch {epoch} of another"));
            }
            Some(_) => {}
            None => wrong.push("I7: emitted without a register".to_owned()),
        }
        if *self.emitted.entry(epoch).or_insert(node) != node {
            wrong.push(format!("I7: two nodes emit in epoch {epoch}"));
        }
        // I3: one history, whoever tells it.
        if *self.left.entry(o.number).or_insert(h) != h {
            wrong.push(format!("I3: output {} left with other bytes before", o.number));
        }
        for (i, n) in self.nodes.iter().enumerate() {
            match &n.role {
                // N4: what an old epoch releases late is the new history's.
                Role::Primary(other) if i != node && other.p.epoch() > epoch => {
                    self.met.late_releases += 1;
                    if other.image.trail.get(o.number as usize - 1).map(|t| t.0) != Some(h) {
                        wrong.push(format!(
                            "N4: output {} of epoch {epoch} is not in epoch {}",
                            o.number,
                            other.p.epoch()
                        ));
                    }
                }
                // I6: every member of the set has what it depends on.
                Role::Backup(c) if i != node => {
                    let member = self
                        .arbiter
                        .value()
                        .is_some_and(|r| r.set.contains(&c.b.config().me));
                    let has = match &c.replayed {
                        Some(image) => image.trail.get(o.number as usize - 1).map(|t| t.0) == Some(h),
                        None => c.b.holds().is_some_and(|held| held.covers(mark)),
                    };
                    if member && !has && c.b.phase() != backup::Phase::Lost {
                        wrong.push(format!(
                            "I6: output {} needs {mark:?}, the backup holds {:?}",
                            o.number,
                            c.b.holds()
                        ));
                    }
                }
                _ => {}
            }
        }
        if let Class::Stream { .. } = o.class {
            if o.offset > self.stream {
                wrong.push(format!(
                    "I3: bytes {}..{} of the stream never came",
                    self.stream, o.offset
                ));
            }
            self.stream = self.stream.max(o.offset + o.bytes.len() as u64);
        }
        self.met.gated += u64::from(gated);
        self.met.repeated += u64::from(o.again);
        if let Some(w) = wrong.into_iter().next() {
            return self.broke(w);
        }
        if let Class::Tcp { .. } = o.class
            && !self.dice.one_in(20)
        {
            let seq = u32::from_le_bytes(o.bytes[1..5].try_into().expect("a reply"));
            let when = self.now + self.dice.between(20 * US, 200 * US);
            self.met.replies += 1;
            self.at(
                when,
                Event::ToClient {
                    client: o.bytes[0],
                    seq,
                },
            );
        }
    }

    pub fn replay(&mut self, node: usize, t: Takeover) {
        let now = self.now;
        self.met.takeovers += 1;
        self.took_over += 1;
        self.met.second_takeovers += u64::from(self.took_over == 2);
        let pending = self.pending.get(&t.snap).cloned().unwrap_or_default();
        let Role::Backup(c) = &mut self.nodes[node].role else {
            return;
        };
        let Some(mut image) = c.image.take() else {
            return self.broke("a backup without a snapshot took over".to_owned());
        };
        let mut inputs = VecDeque::new();
        for b in pending.chunks(23) {
            let u64_at = |i: usize| u64::from_le_bytes(b[i..i + 8].try_into().expect("eight"));
            inputs.push_back((u64_at(0), u64_at(8), Request::decode(&b[16..])));
        }
        let mut misses = VecDeque::new();
        for mut frames in c.b.log() {
            while let Ok((batch, n)) = next_frame(frames, IMAGE) {
                frames = &frames[n..];
                let (mut coder, mut src) = (Coder::default(), batch.bytes.as_slice());
                for i in 0..u64::from(batch.count) {
                    let r = coder.take(&mut src).expect("a record");
                    match r {
                        _ if batch.position + i < t.base.position => {}
                        Record::Clock { e, v } => misses.push_back((e, v)),
                        Record::Absorb { inputs: list, .. } => {
                            for (s, input) in list {
                                if let Input::Data(_, b) = input {
                                    inputs.push_back((s.point, s.v, Request::decode(&b)));
                                }
                            }
                        }
                        r => panic!("{r:?}"),
                    }
                }
            }
        }
        let held = t.held;
        let b = &mut c.b;
        let mut out = |at: Time, class: Class, bytes: Vec<u8>| {
            b.output(now, Mark { position: held, at }, class, bytes);
        };
        let mut doors = Replay {
            inputs,
            misses,
            h: t.h,
            out: &mut out,
        };
        loop {
            let at = image.time();
            let over = match t.last {
                Some(last) => at.e >= last.e,
                None => at.e > t.h.e || at.v > t.h.v,
            };
            if over && !doors.rest() {
                break;
            }
            if image.step(&mut doors) != Did::Ran {
                break;
            }
        }
        let rest = doors.rest() && t.last.is_none();
        c.replayed = Some(image);
        if rest {
            self.broke("I5: records are left that the replay has no use for".to_owned());
        }
        let when = now + self.dice.between(10 * US, 3 * MS);
        self.at(when, Event::Replayed { node });
    }

    /// The rules about a takeover.
    pub fn go_live(&mut self, node: usize) {
        let now = self.now;
        let Role::Backup(c) = &mut self.nodes[node].role else {
            return;
        };
        let Some(image) = c.replayed.take() else { return };
        c.b.step(now, backup::Input::Replayed { at: image.time() }, &mut Vec::new());
        let Some(p) = c.b.clone().into_primary() else {
            return self.broke("a replayed backup is not live".to_owned());
        };
        let mut wrong = None;
        if self.arbiter.value().is_none_or(|r| r.primary != p.config().me) {
            wrong = Some("I7: it promoted itself without the register".to_owned());
        }
        for (number, h) in &self.left {
            if image.trail.get(*number as usize - 1).map(|t| t.0) != Some(*h) {
                wrong = Some(format!(
                    "I3: output {number} had left and is not in the new history"
                ));
                break;
            }
        }
        for (i, client) in self.clients.iter().enumerate() {
            let has = image.last.get(&(i as u8)).map_or(0, |l| l.0);
            if has < client.answered {
                wrong = Some(format!(
                    "I3: request {} of client {i} was answered and is lost",
                    client.answered
                ));
            }
        }
        let v = image.time().v.max(p.promised().at.v);
        let absorbed_v = image.time().v;
        self.nodes[node].role = Role::Primary(Box::new(Live {
            offset: v as i64 - now as i64,
            absorbed_v,
            ..Live::new(p, image)
        }));
        if let Some(w) = wrong {
            return self.broke(w);
        }
        self.at(now, Event::Vcpu { node });
        self.let_out(node);
        self.reconnect();
    }
}
