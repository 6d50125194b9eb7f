//! How events change the world, and what is checked.

use super::*;

/// The live doors of the image on a primary.
struct LiveDoors<'a> {
    p: &'a mut Primary,
    queue: &'a mut VecDeque<(Stamp, Request)>,
    coder: &'a mut Coder,
    batch: &'a mut Batch,
    absorbed_v: &'a mut Ns,
    now: Ns,
    real: Ns,
    out: &'a mut Vec<primary::Action>,
    misses: &'a mut u64,
    full: bool,
}

impl LiveDoors<'_> {
    fn put(&mut self, r: &Record) {
        self.coder.put(r, &mut self.batch.bytes);
        self.batch.count += 1;
    }

    fn position(&self) -> u64 {
        self.p.promised().position + u64::from(self.batch.count)
    }
}

impl Doors for LiveDoors<'_> {
    fn check(&mut self, e: u64, p: u64) -> Check {
        if p.abs_diff(self.real) <= EPS_NS {
            return Check::Holds;
        }
        *self.misses += 1;
        let (check, v) = if p < self.real {
            (Check::Behind(self.real), Some(self.real))
        } else {
            (Check::Ahead, None)
        };
        self.put(&Record::Clock { e, v });
        check
    }

    fn peek(&self, point: u64) -> Option<Ns> {
        self.queue
            .front()
            .filter(|(s, _)| s.point <= point)
            .map(|(s, _)| s.v)
    }

    fn take(&mut self) -> Request {
        let (stamp, r) = self.queue.pop_front().expect("it was seen");
        *self.absorbed_v = stamp.v;
        r
    }

    fn fires(&self, deadline: Ns) -> bool {
        deadline <= self.real
    }

    fn output(&mut self, at: Time, class: Class, bytes: Vec<u8>) -> Mark {
        let mark = Mark {
            position: self.position(),
            at,
        };
        self.full |=
            self.p.output(self.now, mark, class, bytes, self.out) == super::super::gate::Pushed::Full;
        mark
    }
}

impl Live {
    fn real(&self, now: Ns) -> Ns {
        now.saturating_add_signed(self.offset)
            .max(self.image.clock.last())
    }

    /// Time of an idle image: at least the real one.
    fn at(&self, now: Ns) -> Time {
        Time {
            e: self.image.time().e,
            v: self.real(now),
        }
    }

    /// What has gathered leaves as one log frame.
    fn flush(&mut self, now: Ns, out: &mut Vec<primary::Action>) {
        if self.batch.count == 0 {
            return;
        }
        self.coder = Coder::default();
        let mut batch = std::mem::take(&mut self.batch);
        batch.position = self.p.promised().position;
        let mut bytes = Vec::new();
        write_frame(IMAGE, self.p.epoch(), 0, &batch, &mut bytes);
        let input = primary::Input::Records {
            at: self.image.time(),
            first: batch.position,
            count: batch.count,
            bytes,
        };
        self.p.step(now, input, out);
    }
}

impl World {
    pub fn broke(&mut self, what: String) {
        if self.broken.is_none() {
            self.broken = Some(format!("at {} us: {what}", self.now / US));
        }
    }

    pub fn at(&mut self, when: Ns, e: Event) {
        let run = e.node().map_or(0, |n| self.nodes[n].run);
        self.again(when, run, e);
    }

    fn again(&mut self, when: Ns, run: u32, e: Event) {
        self.seq += 1;
        let slot = match self.free.pop() {
            Some(s) => {
                self.slots[s as usize] = Some((run, e));
                s
            }
            None => {
                self.slots.push(Some((run, e)));
                self.slots.len() as u32 - 1
            }
        };
        self.events.push(Reverse((when.max(self.now), self.seq, slot)));
    }

    /// Takes the next event. False: none is left before `until`.
    pub fn turn(&mut self, until: Ns) -> bool {
        let Some(Reverse((when, _, slot))) = self.events.pop() else {
            return false;
        };
        let Some((run, e)) = self.slots[slot as usize].take() else {
            return true;
        };
        self.free.push(slot);
        if when > until {
            return false;
        }
        self.now = when;
        if let Some(n) = e.node() {
            let node = &self.nodes[n];
            if node.run != run {
                return true;
            }
            if node.paused_until > when {
                let when = node.paused_until;
                self.again(when, run, e);
                return true;
            }
        }
        self.met.events += 1;
        self.happen(e);
        true
    }

    fn happen(&mut self, e: Event) {
        match e {
            Event::Frame { to, conn, frame } => {
                if conn != self.conn || !self.up {
                    return;
                }
                match &self.nodes[to].role {
                    Role::Primary(_) => self.primary(to, primary::Input::Frame(frame)),
                    Role::Backup(_) => {
                        self.backup(to, backup::Input::Frame(frame));
                        if !self.dice.one_in(4) {
                            self.backup(to, backup::Input::Drained);
                        }
                    }
                    Role::Down => {}
                }
            }
            Event::LinkUp { conn } => {
                if conn != self.conn || self.nodes.iter().any(|n| matches!(n.role, Role::Down)) {
                    return;
                }
                self.up = true;
                for i in 0..2 {
                    match &self.nodes[i].role {
                        Role::Primary(_) => self.primary(i, primary::Input::Link(true)),
                        Role::Backup(_) => self.backup(i, backup::Input::Link(true)),
                        Role::Down => {}
                    }
                }
            }
            Event::Tick { node } => self.tick(node),
            Event::Vcpu { node } => self.vcpu(node),
            Event::ToImage { node, request } => self.arrives(node, request),
            Event::Client { client } => self.client(client),
            Event::ToClient { client, seq } => {
                let c = &mut self.clients[usize::from(client)];
                c.answered = c.answered.max(seq);
            }
            Event::Ask {
                node,
                run,
                question,
                answer,
            } => self.ask(node, run, question, answer),
            Event::Answer { node, answer } => match &self.nodes[node].role {
                Role::Primary(_) => self.primary(node, primary::Input::Arbiter(answer)),
                Role::Backup(_) => self.backup(node, backup::Input::Arbiter(answer)),
                Role::Down => {}
            },
            Event::BaseStep { node } => self.base_step(node),
            Event::LetOut { node } => self.let_out(node),
            Event::Applied { node, snap } => {
                let image = self.snapshots.get(&snap).cloned();
                if let Role::Backup(c) = &mut self.nodes[node].role
                    && c.coming == snap
                    && !matches!(c.b.phase(), backup::Phase::Replay)
                {
                    c.image = image;
                    self.backup(node, backup::Input::Applied { snap });
                }
            }
            Event::Replayed { node } => self.go_live(node),
            Event::Fault => self.fault(),
            Event::Restart { node } => {
                if matches!(self.nodes[node].role, Role::Down) {
                    self.restart(node);
                }
            }
        }
    }

    pub fn config(&mut self, node: usize) -> Config {
        self.incarnations += 1;
        let me = Member {
            node: node as u64 + 1,
            inc: u128::from(self.incarnations) << 64 | u128::from(self.dice.next()),
        };
        Config {
            heartbeat_ns: MS,
            detect_min_ns: 5 * MS,
            detect_max_ns: 20 * MS,
            arbiter_timeout_ns: 8 * MS,
            arbiter_retry_ns: MS,
            handover_timeout_ns: 15 * MS,
            slow_ns: 4 * MS,
            slow_bytes: 4000,
            horizon_entries: 40,
            horizon_ns: MS,
            horizon_idle_ns: 4 * MS,
            gate_bytes: if self.tiny_gate { 200 } else { 1 << 20 },
            unprotected: Unprotected::Run,
            on_slow: self.on_slow,
            mutant: self.mutant,
            ..Config::new(IMAGE, me)
        }
    }

    pub fn restart(&mut self, node: usize) {
        self.nodes[node].run += 1;
        let cfg = self.config(node);
        self.nodes[node].role = Role::Backup(Box::new(Copy {
            b: Backup::new(cfg, self.now),
            image: None,
            replayed: None,
            coming: 0,
        }));
        self.at(self.now, Event::Tick { node });
        self.reconnect();
    }

    /// The link breaks; what is in it is lost; a new one comes.
    pub fn reconnect(&mut self) {
        self.conn += 1;
        self.up = false;
        for i in 0..2 {
            match &self.nodes[i].role {
                Role::Primary(_) => self.primary(i, primary::Input::Link(false)),
                Role::Backup(_) => self.backup(i, backup::Input::Link(false)),
                Role::Down => {}
            }
        }
        let when = self.now + self.dice.between(100 * US, 2 * MS);
        self.at(when, Event::LinkUp { conn: self.conn });
    }

    fn send(&mut self, from: usize, frame: Frame) {
        let to = 1 - from;
        if !self.up || matches!(self.nodes[to].role, Role::Down) {
            return;
        }
        let frame = if self.wire {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            Frame::decode(&bytes).expect("a whole frame").0
        } else {
            frame
        };
        let when = (self.now + self.dice.between(self.latency / 2, self.latency)).max(self.clear_at[to]);
        self.clear_at[to] = when;
        let conn = self.conn;
        self.at(when, Event::Frame { to, conn, frame });
    }

    fn tick(&mut self, node: usize) {
        match &self.nodes[node].role {
            Role::Down => return,
            Role::Primary(l) => {
                let at = l.at(self.now);
                let idle = l.queue.is_empty();
                self.primary(node, primary::Input::Tick { at, idle });
                if let Role::Primary(l) = &mut self.nodes[node].role {
                    l.p.try_streams();
                }
                self.let_out(node);
            }
            Role::Backup(_) => {
                self.backup(node, backup::Input::Drained);
                self.backup(node, backup::Input::Tick);
            }
        }
        self.at(self.now + 500 * US, Event::Tick { node });
    }

    /// A packet of a client: stamped and logged at once.
    fn arrives(&mut self, node: usize, request: Request) {
        let now = self.now;
        let Role::Primary(l) = &mut self.nodes[node].role else {
            return;
        };
        if l.p.phase() == primary::Phase::Fenced {
            return;
        }
        let stamp = Stamp {
            point: l.image.point + 1,
            v: l.real(now)
                .max(l.absorbed_v)
                .max(l.queue.back().map_or(0, |(s, _)| s.v)),
        };
        let mut out = Vec::new();
        let input = Input::Data(Handle(1), request.encode());
        l.coder.put(
            &Record::Absorb {
                point: stamp.point,
                inputs: vec![(stamp, input)],
            },
            &mut l.batch.bytes,
        );
        l.batch.count += 1;
        l.queue.push_back((stamp, request));
        l.flush(now, &mut out);
        self.carry_out(node, out);
        self.at(now, Event::Vcpu { node });
    }

    fn vcpu(&mut self, node: usize) {
        let now = self.now;
        let pause = self.dice.between(2 * US, 10 * US);
        let Role::Primary(l) = &mut self.nodes[node].role else {
            return;
        };
        if l.p.phase() == primary::Phase::Fenced {
            return;
        }
        let mut out = Vec::new();
        let mut did = Did::Ran;
        let steps = if l.stop { 0 } else { 6 };
        let mut full = false;
        for i in 0..steps {
            let real = l.real(now + i * 5 * US);
            let mut doors = LiveDoors {
                p: &mut l.p,
                queue: &mut l.queue,
                coder: &mut l.coder,
                batch: &mut l.batch,
                absorbed_v: &mut l.absorbed_v,
                now,
                real,
                out: &mut out,
                misses: &mut self.met.misses,
                full: false,
            };
            did = l.image.step(&mut doors);
            full |= doors.full;
            if did != Did::Ran {
                break;
            }
        }
        l.flush(now, &mut out);
        let (offset, stop) = (l.offset, l.stop);
        self.carry_out(node, out);
        if full {
            self.broke("the gate refused an output that is never lost".to_owned());
        }
        if stop {
            return;
        }
        match did {
            Did::Ran => self.at(now + 30 * US + pause, Event::Vcpu { node }),
            Did::Idle(Some(deadline)) => {
                let when = deadline.saturating_add_signed(-offset);
                self.at(when.max(now + US), Event::Vcpu { node });
            }
            Did::Idle(None) => {}
        }
    }

    pub fn primary(&mut self, node: usize, input: primary::Input) {
        let now = self.now;
        if let Role::Primary(l) = &mut self.nodes[node].role {
            let mut out = Vec::new();
            let h = l.p.promised();
            l.p.step(now, input, &mut out);
            if !l.p.promised().covers(h) {
                self.broke("N5: the horizon fell".to_owned());
            }
            self.carry_out(node, out);
        }
    }

    fn carry_out(&mut self, node: usize, out: Vec<primary::Action>) {
        for a in out {
            match a {
                primary::Action::Send(f) => self.send(node, f),
                primary::Action::Ask(question) => self.asked(node, question),
                primary::Action::CloseLink(_) => self.reconnect(),
                primary::Action::Phase(phase) => match phase {
                    primary::Phase::Hold => self.met.holds += 1,
                    primary::Phase::Prot => self.met.syncs += 1,
                    _ => {}
                },
                primary::Action::Fenced { handover } => {
                    self.met.fenced += 1;
                    self.met.switchovers += u64::from(handover);
                    let when = self.now + self.dice.between(MS, 5 * MS);
                    self.crash(node);
                    self.at(when, Event::Restart { node });
                    return;
                }
                a => {
                    let now = self.now;
                    let Role::Primary(l) = &mut self.nodes[node].role else {
                        return;
                    };
                    match a {
                        primary::Action::StartBase => {
                            (l.base, l.applied) = (1, 0);
                            self.snaps += 1;
                            l.snap = self.snaps;
                            let begin = Base::Begin {
                                snap: l.snap,
                                parent: 0,
                            };
                            let when = now + self.dice.between(10 * US, 2 * MS);
                            self.at(when, Event::BaseStep { node });
                            self.primary(node, primary::Input::Base(begin));
                        }
                        primary::Action::AbortBase => l.base = 0,
                        primary::Action::Applied { snap, .. } => {
                            l.applied = snap;
                            l.base = 0;
                            self.met.snapshots += 1;
                            let when = now + self.dice.between(MS, 10 * MS);
                            self.at(when, Event::BaseStep { node });
                        }
                        primary::Action::Stop => {
                            l.stop = true;
                            let (at, manifest) = (l.image.time(), Vec::new());
                            self.primary(node, primary::Input::Stopped { at, manifest });
                        }
                        primary::Action::Resume => {
                            l.stop = false;
                            self.at(now, Event::Vcpu { node });
                        }
                        primary::Action::Throttle(on) => {
                            l.throttled = on;
                            self.met.throttled += u64::from(on);
                        }
                        _ => {}
                    }
                }
            }
        }
        // Between the check and the send a node may be stopped.
        if self.dice.one_in(6) {
            let when = self.now + self.dice.between(10 * US, MS);
            self.at(when, Event::LetOut { node });
        } else {
            self.let_out(node);
        }
    }

    fn base_step(&mut self, node: usize) {
        let now = self.now;
        let later = now + self.dice.between(20 * US, MS);
        let Role::Primary(l) = &mut self.nodes[node].role else {
            return;
        };
        match l.base {
            // The next incremental one.
            0 if l.applied != 0 && l.p.phase() == primary::Phase::Prot => {
                self.snaps += 1;
                (l.base, l.snap) = (3, self.snaps);
                let begin = Base::Begin {
                    snap: l.snap,
                    parent: l.applied,
                };
                self.primary(node, primary::Input::Base(begin));
                self.primary(node, primary::Input::Base(Base::Chunk(vec![1, 2, 3])));
                self.at(later, Event::BaseStep { node });
            }
            1 => {
                l.base = 2;
                self.primary(node, primary::Input::Base(Base::Chunk(vec![1])));
                self.primary(node, primary::Input::Base(Base::LastRound));
                self.at(later, Event::BaseStep { node });
            }
            2 | 3 => {
                l.base = 4;
                let mark = Mark {
                    position: l.p.promised().position,
                    at: l.image.time(),
                };
                let (snap, marks) = (l.snap, l.p.marks());
                // Requests that are stamped and not absorbed are in the log before the mark: part of the snapshot.
                self.snapshots.insert(snap, l.image.clone());
                let manifest = l.queue.iter().flat_map(|(s, r)| {
                    let mut b = [s.point.to_le_bytes(), s.v.to_le_bytes()].concat();
                    b.extend(r.encode());
                    b
                });
                let manifest = manifest.collect();
                let end = Base::End {
                    mark,
                    marks,
                    manifest,
                };
                self.primary(node, primary::Input::Base(end));
            }
            _ => {}
        }
    }

    /// All that may leave now, asked one by one.
    pub fn let_out(&mut self, node: usize) {
        let now = self.now;
        loop {
            let Role::Primary(l) = &mut self.nodes[node].role else {
                return;
            };
            let Some(o) = l.p.next_output(now) else {
                return;
            };
            // Its reader does not read.
            if matches!(o.class, Class::Stream { .. }) && self.dice.one_in(8) {
                l.p.refused(o, 0);
                self.met.refused += 1;
                continue;
            }
            self.leaves(node, o);
            if self.broken.is_some() {
                return;
            }
        }
    }

    pub fn backup(&mut self, node: usize, input: backup::Input) {
        let now = self.now;
        let Role::Backup(c) = &mut self.nodes[node].role else {
            return;
        };
        let mut out = Vec::new();
        c.b.step(now, input, &mut out);
        for a in out {
            match a {
                backup::Action::Send(f) => {
                    let hello = matches!(f.body, super::super::Body::Hello { .. });
                    self.met.resumed += u64::from(hello && f.session != 0);
                    self.send(node, f);
                }
                backup::Action::Ask(question) => self.asked(node, question),
                backup::Action::CloseLink(_) => self.reconnect(),
                backup::Action::BaseEnd { snap, manifest } => {
                    if let Role::Backup(c) = &mut self.nodes[node].role {
                        c.coming = snap;
                        // Stands for the pages: the image and what was in its queue.
                        self.pending.insert(snap, manifest);
                    }
                    let when = now + self.dice.between(10 * US, 2 * MS);
                    self.at(when, Event::Applied { node, snap });
                }
                backup::Action::Replay(t) => self.replay(node, t),
                backup::Action::Discard(_) => {
                    let when = now + self.dice.between(100 * US, 2 * MS);
                    self.crash(node);
                    self.at(when, Event::Restart { node });
                    return;
                }
                _ => {}
            }
        }
    }
}

impl Live {
    pub fn new(p: Primary, image: Image) -> Live {
        Live {
            p,
            image,
            queue: VecDeque::new(),
            coder: Coder::default(),
            batch: Batch::default(),
            offset: 0,
            absorbed_v: 0,
            base: 0,
            snap: 0,
            applied: 0,
            stop: false,
            throttled: false,
        }
    }
}
