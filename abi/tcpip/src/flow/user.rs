//! What the owner of a flow does with it: read, write, end, set options.

use super::{FlowId, Keepalive, ORPHAN, Owner, PATIENCE, Status, Tuple};
use crate::tcp::{Figures, State};
use crate::{Ns, Stack};
use smoltcp::time::Duration;

impl Stack {
    /// How a flow stands.
    pub fn status(&self, id: FlowId) -> Option<Status> {
        let f = self.flows.get(id)?;
        let failed = f.failed;
        Some(Status {
            state: if failed.is_some() {
                State::Closed
            } else {
                f.sock.state()
            },
            readable: f.sock.recv_queue(),
            room: f.sock.send_capacity().saturating_sub(f.sock.send_queue()),
            unacked: f.sock.send_queue(),
            send_limit: f.sock.send_capacity(),
            fin: f.sock.fin_received(),
            broken: f.sock.broken(),
            failed,
        })
    }

    /// Figures for TCP_INFO.
    pub fn figures(&self, id: FlowId) -> Option<Figures> {
        self.flows.get(id).map(|f| f.sock.figures())
    }

    /// Both ends of a flow.
    pub fn tuple(&self, id: FlowId) -> Option<Tuple> {
        self.flows.get(id).map(|f| f.tuple)
    }

    /// The owner has been told of an event.
    pub(crate) fn told(&mut self, id: FlowId) {
        if let Some(f) = self.flows.get_mut(id) {
            f.queued = false;
        }
    }

    /// Bytes to read from `offset` on, without taking them.
    pub fn peek(&mut self, id: FlowId, offset: usize) -> &[u8] {
        match self.flows.get_mut(id) {
            Some(f) => {
                let n = f.sock.recv_queue();
                f.sock.rx().get_allocated(offset, n)
            }
            None => &[],
        }
    }

    /// The first `n` bytes to read are taken.
    pub fn consume(&mut self, id: FlowId, n: usize, now: Ns) {
        let Some(f) = self.flows.get_mut(id) else { return };
        let mut left = n.min(f.sock.recv_queue());
        f.read += left;
        while left > 0 {
            match f.sock.recv(|b| (b.len().min(left), b.len().min(left))) {
                Ok(done) if done > 0 => left -= done,
                _ => break,
            }
        }
        f.told.0 = f.sock.recv_queue();
        f.tune(now);
        if f.told.0 == 0 {
            f.sock.trim();
        }
        if f.linked {
            self.settle(id, now);
        }
    }

    /// Writes bytes: `fill` puts them into the room it is given and says how many; called until it
    /// leaves room, at most for `most` bytes. `more`: a segment that is not full waits for the next
    /// write. The count.
    pub fn write(
        &mut self,
        id: FlowId,
        most: usize,
        more: bool,
        now: Ns,
        fill: &mut dyn FnMut(&mut [u8]) -> usize,
    ) -> usize {
        let Some(f) = self.flows.get_mut(id) else { return 0 };
        f.sock.set_cork(more);
        let mut done = 0;
        while done < most {
            let mut full = 0;
            let r = f.sock.send(most - done, |room| {
                let n = room.len();
                full = n;
                let n = if n == 0 { 0 } else { fill(&mut room[..n]) };
                (n, n)
            });
            match r {
                Ok(n) if n > 0 => {
                    done += n;
                    if n < full {
                        break;
                    }
                }
                _ => break,
            }
        }
        f.told.1 = f.sock.send_queue();
        self.settle(id, now);
        done
    }

    /// No more full segments are waited for.
    pub fn uncork(&mut self, id: FlowId, now: Ns) {
        if let Some(f) = self.flows.get_mut(id) {
            f.sock.set_cork(false);
            self.settle(id, now);
        }
    }

    /// Our FIN goes after the last byte.
    pub fn finish(&mut self, id: FlowId, now: Ns) {
        if let Some(f) = self.flows.get_mut(id) {
            f.sock.set_cork(false);
            f.sock.close();
            f.told.2 = f.sock.state();
            self.settle(id, now);
        }
    }

    /// The owner lets go; `abort`: by a reset.
    pub fn release(&mut self, id: FlowId, abort: bool, now: Ns) {
        let Some(f) = self.flows.get_mut(id) else { return };
        f.owner = Owner::Orphan;
        if !f.linked {
            self.flows.remove(id);
            return;
        }
        f.sock.set_cork(false);
        if abort || f.sock.recv_queue() > 0 {
            f.sock.rx().clear();
            f.sock.abort();
        } else {
            f.sock.close();
        }
        f.sock.set_timeout(Some(ORPHAN));
        self.settle(id, now);
    }

    /// TCP_NODELAY.
    pub fn set_nodelay(&mut self, id: FlowId, on: bool, now: Ns) {
        if let Some(f) = self.flows.get_mut(id) {
            f.sock.set_nagle_enabled(!on);
            self.settle(id, now);
        }
    }

    /// SO_KEEPALIVE and what belongs to it.
    pub fn set_keepalive(&mut self, id: FlowId, alive: Option<Keepalive>, now: Ns) {
        let Some(to) = self.flows.get(id).map(|f| f.tuple.remote.0) else {
            return;
        };
        let cx = self.context(to, now);
        let us = |ns: Ns| Duration::from_micros(ns / 1000);
        if let Some(f) = self.flows.get_mut(id) {
            let alive = alive.map(|a| (us(a.idle_ns), us(a.interval_ns), a.count));
            f.sock.set_keep_alive(&cx, alive);
        }
        self.settle(id, now);
    }

    /// TCP_USER_TIMEOUT; `None`: the default.
    pub fn set_patience(&mut self, id: FlowId, ns: Option<Ns>) {
        if let Some(f) = self.flows.get_mut(id) {
            f.user_timeout = ns.map(|n| Duration::from_micros(n / 1000));
            if f.sock.state() != State::SynSent {
                f.sock.set_timeout(Some(f.user_timeout.unwrap_or(PATIENCE)));
            }
        }
    }

    /// SO_RCVBUF and SO_SNDBUF: from then on the buffer does not grow by itself.
    pub fn set_buffers(&mut self, id: FlowId, rx: Option<usize>, tx: Option<usize>, now: Ns) {
        let Some(f) = self.flows.get_mut(id) else { return };
        if let Some(n) = rx {
            f.fixed.0 = true;
            // What was promised to the peer stays promised.
            let kept = f.sock.rx().capacity();
            let begun = f.sock.state() != State::SynSent;
            f.sock.rx().set_limit(if begun { n.max(kept) } else { n });
        }
        if let Some(n) = tx {
            f.fixed.1 = true;
            f.sock.tx().set_limit(n);
        }
        self.settle(id, now);
    }

    /// How long an acknowledgement may wait for something to go with it; `None`: not at all.
    pub fn set_ack_delay(&mut self, id: FlowId, ns: Option<Ns>) {
        if let Some(f) = self.flows.get_mut(id) {
            f.sock.set_ack_delay(ns.map(|n| Duration::from_micros(n / 1000)));
        }
    }
}
