//! Listeners: a SYN makes a flow, up to a backlog.

use crate::flow::{Flow, FlowId, Tuple};
use crate::{Ns, Stack, hash};
use smoltcp::wire::{IpAddress, IpListenEndpoint, IpRepr, TcpRepr};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Connections of one listener whose handshake is not complete; the oldest gives way to a new one,
/// so that a flood of SYNs costs bounded memory and hits those that do not answer.
const HALF_OPEN: usize = 4096;

/// A listener's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ListenId(u32);

#[derive(Debug)]
struct Listener {
    addr: SocketAddr,
    /// `::` takes IPv4 too.
    dual: bool,
    backlog: usize,
    half: VecDeque<FlowId>,
    /// Complete and not taken.
    ready: usize,
    /// SO_RCVBUF of the listener.
    rx: Option<usize>,
}

impl Listener {
    /// 2: bound to the very address; 1: to any; 0: not for it.
    fn fits(&self, to: IpAddress) -> u8 {
        let v4 = matches!(to, IpAddress::Ipv4(_));
        if self.addr.ip().is_unspecified() {
            return u8::from(self.addr.is_ipv4() == v4 || (v4 && self.dual));
        }
        2 * u8::from(IpAddress::from(self.addr.ip()) == to)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Listeners {
    all: BTreeMap<ListenId, Listener>,
    by_port: BTreeMap<u16, Vec<ListenId>>,
    next: u32,
}

impl Listeners {
    /// A handshake is complete.
    pub(crate) fn completed(&mut self, id: ListenId, flow: FlowId) {
        if let Some(l) = self.all.get_mut(&id) {
            l.half.retain(|f| *f != flow);
            l.ready += 1;
        }
    }

    /// The queue of a listener is full: no handshake completes.
    pub(crate) fn full(&self, id: ListenId) -> bool {
        self.all.get(&id).is_some_and(|l| l.ready > l.backlog)
    }

    /// A handshake has failed.
    pub(crate) fn gave_up(&mut self, id: ListenId, flow: FlowId) {
        if let Some(l) = self.all.get_mut(&id) {
            l.half.retain(|f| *f != flow);
        }
    }

    /// The listener for a new connection; with several (SO_REUSEPORT) the tuple's hash chooses.
    fn choose(&self, key: [u64; 2], t: &Tuple) -> Option<ListenId> {
        let list = self.by_port.get(&t.local.1)?;
        let fit = |id: &ListenId| self.all.get(id).map_or(0, |l| l.fits(t.local.0));
        let best = list.iter().map(fit).max().filter(|b| *b > 0)?;
        let fitting: Vec<ListenId> = list.iter().copied().filter(|id| fit(id) == best).collect();
        if let [only] = fitting[..] {
            return Some(only);
        }
        let bytes = [t.remote.1.to_be_bytes(), t.local.1.to_be_bytes()].concat();
        let h = hash::keyed(key, &bytes);
        Some(fitting[(h % fitting.len() as u64) as usize])
    }
}

impl Stack {
    /// Connections to `addr` are wanted. `dual`: a `::` takes IPv4 too.
    pub fn listen(&mut self, addr: SocketAddr, dual: bool, backlog: usize, rx: Option<usize>) -> ListenId {
        let l = &mut self.listeners;
        l.next += 1;
        let id = ListenId(l.next);
        let listener = Listener {
            addr,
            dual,
            backlog,
            half: VecDeque::new(),
            ready: 0,
            rx,
        };
        l.all.insert(id, listener);
        l.by_port.entry(addr.port()).or_default().push(id);
        id
    }

    /// listen(2) again.
    pub fn set_backlog(&mut self, id: ListenId, backlog: usize) {
        if let Some(l) = self.listeners.all.get_mut(&id) {
            l.backlog = backlog;
        }
    }

    /// A connection was taken off the listener's queue.
    pub fn took(&mut self, id: ListenId) {
        if let Some(l) = self.listeners.all.get_mut(&id) {
            l.ready = l.ready.saturating_sub(1);
        }
    }

    /// The listener is gone, and with it what is not connected yet.
    pub fn unlisten(&mut self, id: ListenId) {
        let Some(l) = self.listeners.all.remove(&id) else {
            return;
        };
        if let Some(list) = self.listeners.by_port.get_mut(&l.addr.port()) {
            list.retain(|x| *x != id);
            if list.is_empty() {
                self.listeners.by_port.remove(&l.addr.port());
            }
        }
        for f in l.half {
            self.drop_flow(f);
        }
    }

    /// A SYN that no flow has asked for. False: nobody listens there.
    pub(crate) fn listened(&mut self, tuple: &Tuple, ip: &IpRepr, syn: &TcpRepr<'_>, now: Ns) -> bool {
        let Some(id) = self.listeners.choose(self.key, tuple) else {
            return false;
        };
        let Some(l) = self.listeners.all.get_mut(&id) else {
            return false;
        };
        // A full queue: the client tries again.
        if l.ready > l.backlog {
            return true;
        }
        let rx = l.rx;
        let oldest = if l.half.len() >= HALF_OPEN {
            l.half.pop_front()
        } else {
            None
        };
        if let Some(old) = oldest {
            self.drop_flow(old);
        }
        let mut flow = Flow::new(*tuple, Some(id));
        if let Some(n) = rx {
            flow.sock.rx().set_limit(n);
        }
        let here = IpListenEndpoint {
            addr: Some(tuple.local.0),
            port: tuple.local.1,
        };
        if flow.sock.listen(here).is_err() {
            return false;
        }
        let mut cx = self.context(tuple.remote.0, now);
        cx.isn = self.isn(tuple, now);
        flow.sock.process(&mut cx, ip, syn);
        let flow = self.add_flow(flow);
        if let Some(l) = self.listeners.all.get_mut(&id) {
            l.half.push_back(flow);
        }
        self.settle(flow, now);
        true
    }
}
