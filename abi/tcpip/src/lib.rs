//! The image's own TCP/IP: frames in, frames out. No clock, no device, no host: the caller passes
//! virtual time, and what the stack knows is image state, so a snapshot is its pages.
//!
//! The packet formats and the heart of TCP are smoltcp's (`vendor/README.md` lists what differs). Its
//! `Interface` is not used: its poll walks all sockets. Here a four-tuple table leads from a segment
//! to its flow, and only that flow is run.
//!
//! Protocol of use: every call that can change a flow leaves frames in [`Stack::take_frame`] and
//! news in [`Stack::take_event`]; the caller drains both, and calls [`Stack::expire`] when the
//! virtual clock has reached [`Stack::deadline`].
#![forbid(unsafe_code)]

pub mod buffer;
pub mod config;
pub mod context;
mod flow;
mod fragments;
pub mod frame;
pub mod hash;
mod icmp;
mod input;
mod link;
mod listen;
mod neigh;
pub mod respond;
pub mod sack;
/// smoltcp's TCP socket with our changes; see `vendor/README.md`.
#[path = "../vendor/tcp.rs"]
#[allow(warnings, clippy::all, clippy::undocumented_unsafe_blocks)]
#[rustfmt::skip]
pub mod tcp;
mod udp;

pub use config::Config;
pub use flow::{FlowId, Keepalive, RX_FIRST, RX_MOST, Status, TX_FIRST, TX_MOST, Tuple};
pub use listen::ListenId;

use flow::Flows;
use listen::Listeners;
use neigh::{Neighbours, Way};
use smoltcp::wire::EthernetAddress;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// Nanoseconds of the virtual clock.
pub type Ns = u64;

/// Something that the caller should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A flow may have bytes, room, an end or an error that it had not before.
    Changed(FlowId),
    /// A listener has a new connection.
    Accept(ListenId, FlowId),
    /// A datagram for a port that was opened.
    Datagram {
        /// Where it came from.
        from: SocketAddr,
        /// Where it was sent to.
        to: SocketAddr,
        /// Time to live or hop limit.
        ttl: u8,
        /// Type of service or traffic class.
        tos: u8,
        /// What it holds.
        data: Vec<u8>,
    },
    /// A datagram of ours from the first to the second did not arrive.
    Unreachable(SocketAddr, SocketAddr, Why),
}

/// Why something cannot be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// No route.
    Network,
    /// The neighbour or a router does not answer for it.
    Host,
    /// Nobody listens there.
    Port,
}

/// See the module.
#[derive(Debug)]
pub struct Stack {
    /// The interface.
    pub config: Config,
    key: [u64; 2],
    flows: Flows,
    listeners: Listeners,
    udp: BTreeMap<u16, u32>,
    neighbours: Neighbours,
    fragments: fragments::Fragments,
    /// Smaller packets on the way to some hosts.
    path_mtu: BTreeMap<IpAddr, usize>,
    out: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    announce_at: VecDeque<Ns>,
    /// What is answered goes here without asking (a device's answers).
    pub(crate) straight: Option<EthernetAddress>,
    icmp_tokens: icmp::Tokens,
    next_ip_id: u32,
}

impl Stack {
    /// `key` is random: it makes first sequence numbers hard to guess.
    pub fn new(config: Config, key: [u64; 2]) -> Stack {
        Stack {
            config,
            key,
            flows: Flows::default(),
            listeners: Listeners::default(),
            udp: BTreeMap::new(),
            neighbours: Neighbours::default(),
            fragments: Default::default(),
            path_mtu: BTreeMap::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            announce_at: VecDeque::new(),
            straight: None,
            icmp_tokens: Default::default(),
            next_ip_id: 1,
        }
    }

    /// A new key (after a clone, not after a takeover): the copies must not share sequence numbers.
    pub fn rekey(&mut self, key: [u64; 2]) {
        self.key = key;
    }

    /// The next frame to send.
    pub fn take_frame(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// Frames that wait to be sent.
    pub fn frames(&self) -> usize {
        self.out.len()
    }

    /// The next piece of news.
    pub fn take_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Changed(id) = event {
            self.told(id);
        }
        Some(event)
    }

    /// When [`Stack::expire`] should be called next.
    pub fn deadline(&self) -> Option<Ns> {
        let parts = [
            self.flows.deadline(),
            self.neighbours.deadline(),
            self.announce_at.front().copied(),
        ];
        parts.into_iter().flatten().min()
    }

    /// The clock has reached `now`.
    pub fn expire(&mut self, now: Ns) {
        while let Some(id) = self.flows.due(now) {
            self.settle(id, now);
        }
        if self.neighbours.deadline().is_some_and(|d| d <= now) {
            let (ask, lost) = self.neighbours.expire(now);
            for ip in ask {
                self.ask(ip, None);
            }
            for ip in lost {
                self.neighbour_lost(ip, now);
            }
        }
        while self.announce_at.front().is_some_and(|t| *t <= now) {
            self.announce_at.pop_front();
            self.announce();
        }
    }

    /// Tells the link again and again where our addresses are now (takeover).
    pub fn start_announcing(&mut self, now: Ns) {
        self.announce_at = respond::ANNOUNCE_NS.iter().map(|d| now + d).collect();
        self.expire(now);
    }

    /// Sends an IP packet's frame to its next hop, now or when that is known. The destination's
    /// address is filled in here.
    pub(crate) fn send_ip(&mut self, to: IpAddr, mut frame: Vec<u8>, now: Ns) -> Result<(), Why> {
        if let Some(mac) = self.group_mac(to).or(self.straight) {
            frame::set_destination(&mut frame, mac);
            self.out.push_back(frame);
            return Ok(());
        }
        let hop = self.config.next_hop(to).ok_or(Why::Network)?;
        match self.neighbours.way(hop, now) {
            Way::To(mac) => {
                frame::set_destination(&mut frame, mac);
                self.out.push_back(frame);
            }
            Way::Check(mac) => {
                frame::set_destination(&mut frame, mac);
                self.out.push_back(frame);
                self.ask(hop, Some(mac));
            }
            Way::Ask => {
                self.neighbours.hold(hop, frame);
                self.ask(hop, None);
            }
            Way::Wait => self.neighbours.hold(hop, frame),
        }
        Ok(())
    }

    /// Largest packet to a host.
    pub(crate) fn mtu_to(&self, to: IpAddr) -> usize {
        let known = self.path_mtu.get(&to).copied();
        known.unwrap_or(self.config.mtu).min(self.config.mtu)
    }
}
