//! Flows: one TCP connection each, found by its four-tuple.

mod user;

use crate::buffer::StreamBuf;
use crate::config::std_ip;
use crate::context::{Context, PollAt};
use crate::frame::tcp_frame;
use crate::listen::ListenId;
use crate::tcp::{self, Broken, State};
use crate::{Event, Ns, Stack, Why, hash};
use smoltcp::time::Duration;
use smoltcp::wire::{IpAddress, IpEndpoint, IpRepr, TcpControl, TcpRepr};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// Bytes that a flow takes in ahead of its reader, at first and at most; they grow as the reader
/// keeps up. The largest sets the window's scale.
pub const RX_FIRST: usize = 128 * 1024;
/// See [`RX_FIRST`].
pub const RX_MOST: usize = 4 << 20;
/// The same of bytes that wait to be sent or acknowledged; they grow with the congestion window.
pub const TX_FIRST: usize = 128 * 1024;
/// See [`TX_FIRST`].
pub const TX_MOST: usize = 4 << 20;

/// tcp_syn_retries = 6, tcp_synack_retries = 5, tcp_retries2 = 15: when a silent peer is given up.
const SYN_PATIENCE: Duration = Duration::from_secs(127);
const SYNACK_PATIENCE: Duration = Duration::from_secs(63);
const PATIENCE: Duration = Duration::from_millis(924_600);
/// tcp_fin_timeout, and how long a flow that nobody owns may take to end.
const ORPHAN: Duration = Duration::from_secs(60);
/// Flows in TIME-WAIT; the oldest are forgotten first (tcp_max_tw_buckets).
const TIME_WAITS: usize = 8192;

/// A flow's name: never used for two flows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FlowId {
    index: u32,
    life: u32,
}

/// Both ends of a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub struct Tuple {
    pub local: (IpAddress, u16),
    pub remote: (IpAddress, u16),
}

/// Probes of an idle connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Keepalive {
    pub idle_ns: Ns,
    pub interval_ns: Ns,
    pub count: u8,
}

/// How a flow stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// TCP's state.
    pub state: State,
    /// Bytes that can be read.
    pub readable: usize,
    /// Bytes that can be written.
    pub room: usize,
    /// Bytes that were written and not acknowledged.
    pub unacked: usize,
    /// Most bytes that can wait to be sent.
    pub send_limit: usize,
    /// The peer has sent its FIN, and all before it is here.
    pub fin: bool,
    /// The connection broke.
    pub broken: Option<Broken>,
    /// It could not be made.
    pub failed: Option<Why>,
}

impl Status {
    /// SYN and its acknowledgement were exchanged, at some time.
    pub fn connected(&self) -> bool {
        !matches!(
            self.state,
            State::Closed | State::Listen | State::SynSent | State::SynReceived
        )
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// A SYN has come for a listener.
    Half(ListenId),
    /// Somebody holds it.
    User,
    /// Nobody: it ends by itself.
    Orphan,
}

#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) sock: tcp::Socket,
    pub(crate) tuple: Tuple,
    owner: Owner,
    timer: Option<Ns>,
    die_at: Option<Ns>,
    failed: Option<Why>,
    /// What its owner was last told: readable, unacknowledged, state.
    told: (usize, usize, State),
    /// An event for it waits.
    queued: bool,
    linked: bool,
    waits: bool,
    reuse: bool,
    user_timeout: Option<Duration>,
    fixed: (bool, bool),
    /// Bytes read since `tuned_at`.
    read: usize,
    tuned_at: Ns,
}

#[derive(Debug, Default)]
struct Slot {
    life: u32,
    flow: Option<Box<Flow>>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Flows {
    slots: Vec<Slot>,
    free: Vec<u32>,
    table: BTreeMap<Tuple, FlowId>,
    timers: BTreeSet<(Ns, FlowId)>,
    time_wait: VecDeque<FlowId>,
}

impl Flows {
    pub(crate) fn get(&self, id: FlowId) -> Option<&Flow> {
        let slot = self.slots.get(id.index as usize)?;
        slot.flow.as_deref().filter(|_| slot.life == id.life)
    }

    fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.flow.as_deref_mut().filter(|_| slot.life == id.life)
    }

    pub(crate) fn find(&self, t: &Tuple) -> Option<FlowId> {
        self.table.get(t).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn insert(&mut self, flow: Flow) -> FlowId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.life = slot.life.wrapping_add(1);
        let id = FlowId {
            index,
            life: slot.life,
        };
        self.table.insert(flow.tuple, id);
        slot.flow = Some(Box::new(flow));
        id
    }

    /// Segments for it find it no more.
    fn unlink(&mut self, id: FlowId) {
        let Some(f) = self.get_mut(id) else { return };
        let (tuple, timer, linked) = (f.tuple, f.timer.take(), std::mem::take(&mut f.linked));
        if let Some(t) = timer {
            self.timers.remove(&(t, id));
        }
        if linked {
            self.table.remove(&tuple);
        }
    }

    fn remove(&mut self, id: FlowId) {
        self.unlink(id);
        if self.get(id).is_some() {
            self.slots[id.index as usize].flow = None;
            self.free.push(id.index);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Ns> {
        self.timers.first().map(|(t, _)| *t)
    }

    pub(crate) fn due(&mut self, now: Ns) -> Option<FlowId> {
        let (t, id) = *self.timers.first()?;
        if t > now {
            return None;
        }
        self.timers.remove(&(t, id));
        if let Some(f) = self.get_mut(id) {
            f.timer = None;
        }
        Some(id)
    }

    /// Only ever earlier: a timer that comes too soon finds nothing due and is set again, so that
    /// steady traffic does not touch the order.
    fn set_timer(&mut self, id: FlowId, at: Ns) {
        let Some(f) = self.get_mut(id) else { return };
        match f.timer {
            Some(t) if t <= at => return,
            Some(t) => {
                f.timer = Some(at);
                self.timers.remove(&(t, id));
            }
            None => f.timer = Some(at),
        }
        self.timers.insert((at, id));
    }

    pub(crate) fn connecting(&self) -> Vec<FlowId> {
        let all = self.table.values().copied();
        all.filter(|id| self.get(*id).is_some_and(|f| f.sock.state() == State::SynSent))
            .collect()
    }

    /// The four-tuple of a flow in TIME-WAIT may begin anew if the SYN is later than all it had.
    pub(crate) fn reusable(&self, id: FlowId, syn: &TcpRepr<'_>) -> bool {
        self.get(id)
            .is_some_and(|f| f.sock.state() == State::TimeWait && syn.seq_number > f.sock.rcv_nxt())
    }
}

impl Flow {
    pub(crate) fn new(tuple: Tuple, owner: Option<ListenId>) -> Flow {
        let rx = StreamBuf::new(RX_FIRST, RX_MOST);
        let mut sock = tcp::Socket::new(rx, StreamBuf::new(TX_FIRST, TX_MOST));
        sock.set_timeout(Some(if owner.is_some() {
            SYNACK_PATIENCE
        } else {
            SYN_PATIENCE
        }));
        Flow {
            sock,
            tuple,
            owner: owner.map_or(Owner::User, Owner::Half),
            timer: None,
            die_at: None,
            failed: None,
            told: (0, 0, State::Closed),
            queued: false,
            linked: true,
            waits: false,
            reuse: false,
            user_timeout: None,
            fixed: (false, false),
            read: 0,
            tuned_at: 0,
        }
    }

    /// More is taken in ahead of a reader that keeps up: half a buffer within a round trip.
    fn tune(&mut self, now: Ns) {
        let rtt = Ns::from(self.sock.figures().srtt_ms.max(1)) * 1_000_000;
        if now.saturating_sub(self.tuned_at) < rtt {
            return;
        }
        let limit = self.sock.rx().capacity();
        if !self.fixed.0 && self.read > limit / 2 {
            self.sock.rx().set_limit(limit * 2);
        }
        self.read = 0;
        self.tuned_at = now;
    }
}

impl Stack {
    pub(crate) fn context(&self, to: IpAddress, now: Ns) -> Context {
        let offload = std::num::NonZeroUsize::new(self.config.offload);
        Context::new(now, self.mtu_to(std_ip(to)), offload)
    }

    pub(crate) fn isn(&self, t: &Tuple, now: Ns) -> u32 {
        let mut data = Vec::with_capacity(40);
        for (ip, port) in [t.local, t.remote] {
            match ip {
                IpAddress::Ipv4(a) => data.extend_from_slice(&a.octets()),
                IpAddress::Ipv6(a) => data.extend_from_slice(&a.octets()),
            }
            data.extend_from_slice(&port.to_be_bytes());
        }
        // RFC 6528: a clock of about 4 us, moved by a secret of this tuple.
        (hash::keyed(self.key, &data) as u32).wrapping_add((now >> 12) as u32)
    }

    /// Bytes or a FIN that some peer has not acknowledged.
    pub fn has_unsent(&self) -> bool {
        let all = self.flows.table.values().filter_map(|id| self.flows.get(*id));
        all.into_iter().any(|f| {
            let ending = matches!(f.sock.state(), State::FinWait1 | State::LastAck | State::Closing);
            ending || f.sock.send_queue() > 0
        })
    }

    /// Connections there are.
    pub fn flow_count(&self) -> usize {
        self.flows.len()
    }

    pub(crate) fn add_flow(&mut self, flow: Flow) -> FlowId {
        self.flows.insert(flow)
    }

    pub(crate) fn drop_flow(&mut self, id: FlowId) {
        self.flows.remove(id);
    }

    /// Some flow has this local port, so that bind(2) fails; with SO_REUSEADDR on both sides it does not
    /// count.
    pub fn port_in_use(&self, port: u16, reuse: bool) -> bool {
        let own = self.config.addrs.iter().map(|(a, _)| IpAddress::from(*a));
        let link = self.config.link_local().map(IpAddress::Ipv6);
        own.chain(link).any(|ip| {
            let low = Tuple {
                local: (ip, port),
                remote: (IpAddress::v4(0, 0, 0, 0), 0),
            };
            let there = self.flows.table.range(low..);
            there
                .take_while(|(t, _)| t.local == (ip, port))
                .any(|(_, id)| !reuse || self.flows.get(*id).is_some_and(|f| !f.reuse))
        })
    }

    /// SO_REUSEADDR of the socket that a flow is of.
    pub fn set_reuse(&mut self, id: FlowId, reuse: bool) {
        if let Some(f) = self.flows.get_mut(id) {
            f.reuse = reuse;
        }
    }

    /// Begins a connection. Both ends are known to the caller; nobody else has the pair.
    pub fn connect(&mut self, local: SocketAddr, remote: SocketAddr, now: Ns) -> Result<FlowId, Why> {
        if self.config.next_hop(remote.ip()).is_none() {
            return Err(Why::Network);
        }
        let tuple = Tuple {
            local: (local.ip().into(), local.port()),
            remote: (remote.ip().into(), remote.port()),
        };
        if let Some(old) = self.flows.find(&tuple) {
            // Only what is over may be in the way (tcp_twsk_unique).
            match self.flows.get(old).map(|f| (f.sock.state(), f.owner)) {
                Some((State::TimeWait, _)) => self.forget(old),
                _ => return Err(Why::Port),
            }
        }
        let mut flow = Flow::new(tuple, None);
        let mut cx = self.context(tuple.remote.0, now);
        cx.isn = self.isn(&tuple, now);
        let (to, from) = (
            IpEndpoint::new(tuple.remote.0, tuple.remote.1),
            IpEndpoint::new(tuple.local.0, tuple.local.1),
        );
        if flow.sock.connect(&mut cx, to, from).is_err() {
            return Err(Why::Network);
        }
        flow.told.2 = State::SynSent;
        let id = self.flows.insert(flow);
        self.settle(id, now);
        Ok(id)
    }

    /// A segment for a flow.
    pub(crate) fn segment(&mut self, id: FlowId, ip: &IpRepr, repr: &TcpRepr<'_>, now: Ns) {
        let mut cx = self.context(ip.src_addr(), now);
        let Some(f) = self.flows.get_mut(id) else { return };
        if let Owner::Half(listener) = f.owner
            && repr.control != TcpControl::Rst
            && repr.ack_number.is_some()
            && self.listeners.full(listener)
        {
            // As if lost: the peer hears our SYN again, and answers it when there is room.
            return;
        }
        if let Some((ip, reply)) = f.sock.process(&mut cx, ip, repr) {
            self.send_segment(&ip, &reply, None, now);
        }
        self.settle(id, now);
    }

    /// Sends what a flow has to send, tells what has changed, sets its timer.
    pub(crate) fn settle(&mut self, id: FlowId, now: Ns) {
        let mac = self.config.ethernet();
        let Some(to) = self.flows.get(id).map(|f| f.tuple.remote.0) else {
            return;
        };
        let mut cx = self.context(to, now);
        loop {
            let Some(f) = self.flows.get_mut(id) else { return };
            let mut frame = None;
            let done: Result<(), ()> = f.sock.dispatch(&mut cx, |_, meta, (ip, repr)| {
                let cut = meta.segmentation_offload_size.map(std::num::NonZeroU16::get);
                frame = Some(tcp_frame(mac, mac, &ip, &repr, cut));
                Ok(())
            });
            let (Ok(()), Some(frame)) = (done, frame) else {
                break;
            };
            let _ = self.send_ip(std_ip(to), frame, now);
        }
        self.progress(id, now);
        let Some(f) = self.flows.get_mut(id) else { return };
        if !f.linked {
            return;
        }
        let at = match f.sock.poll_at(&mut cx) {
            PollAt::Time(t) => Some(t.total_micros() as u64 * 1000),
            // All was sent that could be: what remains waits for the peer.
            PollAt::Now => Some(now + 1_000_000),
            PollAt::Ingress => None,
        };
        let at = at.into_iter().chain(f.die_at).min();
        if let Some(at) = at {
            // Never at once again: a timer whose time has passed was looked at just now.
            self.flows.set_timer(id, at.max(now + 1000));
        }
    }

    /// What a change of a flow means for its owner.
    fn progress(&mut self, id: FlowId, now: Ns) {
        let Some(f) = self.flows.get_mut(id) else { return };
        let state = f.sock.state();
        let gone = f.sock.remote_endpoint().is_none() && f.linked;
        if !f.fixed.1 {
            let want = (f.sock.figures().cwnd * 2).clamp(TX_FIRST, TX_MOST);
            if want > f.sock.tx().capacity() {
                f.sock.tx().set_limit(want);
            }
        }
        let seen = (f.sock.recv_queue(), f.sock.send_queue(), state);
        let news = seen.0 > f.told.0 || seen.1 < f.told.1 || seen.2 != f.told.2;
        let was = std::mem::replace(&mut f.told, seen).2;
        match f.owner {
            Owner::Half(listener) => {
                let connected = !matches!(
                    state,
                    State::SynReceived | State::Listen | State::SynSent | State::Closed
                );
                if connected {
                    f.owner = Owner::User;
                    f.sock.set_timeout(Some(f.user_timeout.unwrap_or(PATIENCE)));
                    self.listeners.completed(listener, id);
                    self.events.push_back(Event::Accept(listener, id));
                } else if gone || state == State::Closed || state == State::Listen {
                    self.listeners.gave_up(listener, id);
                    self.flows.remove(id);
                }
                return;
            }
            Owner::User => {
                if was == State::SynSent && state == State::Established {
                    f.sock.set_timeout(Some(f.user_timeout.unwrap_or(PATIENCE)));
                }
                if news && !f.queued {
                    f.queued = true;
                    self.events.push_back(Event::Changed(id));
                }
            }
            Owner::Orphan => {
                if seen.0 > 0 {
                    // Nobody will ever read it (TCPABORTONDATA).
                    f.sock.abort();
                    f.sock.rx().clear();
                    self.settle(id, now);
                    return;
                }
                if state == State::FinWait2 && f.die_at.is_none() {
                    f.die_at = Some(now + ORPHAN.total_micros() * 1000);
                }
                if f.die_at.is_some_and(|t| t <= now) && state == State::FinWait2 {
                    self.flows.remove(id);
                    return;
                }
            }
        }
        let Some(f) = self.flows.get_mut(id) else { return };
        if gone {
            if f.owner == Owner::Orphan {
                self.flows.remove(id);
            } else {
                self.flows.unlink(id);
            }
            return;
        }
        if state == State::TimeWait && !std::mem::replace(&mut f.waits, true) {
            f.sock.trim();
            self.flows.time_wait.push_back(id);
            if self.flows.time_wait.len() > TIME_WAITS
                && let Some(old) = self.flows.time_wait.pop_front()
            {
                self.forget(old);
            }
        }
    }

    /// The flow is over as far as the link is concerned.
    pub(crate) fn forget(&mut self, id: FlowId) {
        match self.flows.get(id).map(|f| f.owner) {
            Some(Owner::Orphan) => self.flows.remove(id),
            _ => self.flows.unlink(id),
        }
    }

    /// An ICMP error, or a neighbour that does not answer: fails what is not connected yet.
    pub(crate) fn unreachable(&mut self, id: FlowId, why: Why, _now: Ns) {
        let Some(f) = self.flows.get_mut(id) else { return };
        if f.sock.state() != State::SynSent {
            return;
        }
        f.failed = Some(why);
        if f.owner == Owner::Orphan {
            self.flows.remove(id);
            return;
        }
        if !std::mem::replace(&mut f.queued, true) {
            self.events.push_back(Event::Changed(id));
        }
        self.flows.unlink(id);
    }

    /// Everything unacknowledged goes again: the way has changed.
    pub(crate) fn resend(&mut self, id: FlowId, now: Ns) {
        let Some(to) = self.flows.get(id).map(|f| f.tuple.remote.0) else {
            return;
        };
        let cx = self.context(to, now);
        if let Some(f) = self.flows.get_mut(id) {
            f.sock.kick(&cx);
        }
        self.settle(id, now);
    }

    /// After a takeover: up to `most` flows, from the `from`th on, say where they stand and send
    /// again what is not acknowledged. Where to go on, if there are more.
    pub fn kick(&mut self, from: usize, most: usize, now: Ns) -> Option<usize> {
        let ids: Vec<FlowId> = self.flows.table.values().skip(from).take(most).copied().collect();
        let n = ids.len();
        for id in ids {
            self.resend(id, now);
        }
        (n == most).then_some(from + most)
    }
}
