//! A frame arrives: what it is and whom it concerns.

use crate::config::std_ip;
use crate::frame::{ETHERNET, VNET, all_checksums, ip_header_only, tcp_frame, verified};
use crate::{Ns, Stack, Tuple, fragments, tcp};
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet,
    Ipv6Repr, TcpControl, TcpPacket, TcpRepr,
};
use std::net::IpAddr;

impl Stack {
    /// A frame has arrived. Anything may be in it.
    pub fn input(&mut self, bytes: &[u8], now: Ns) {
        if bytes.len() < VNET + ETHERNET {
            return;
        }
        let (vnet, bytes) = bytes.split_at(VNET);
        let checked = verified(vnet);
        let eth = EthernetFrame::new_unchecked(bytes);
        let to_us = eth.dst_addr() == self.config.ethernet();
        if !to_us && !eth.dst_addr().is_multicast() {
            return;
        }
        // Our own, come back.
        if eth.src_addr() == self.config.ethernet() {
            return;
        }
        match eth.ethertype() {
            EthernetProtocol::Arp => self.arp_in(eth.payload(), now),
            EthernetProtocol::Ipv4 => self.v4_in(eth.payload(), to_us, checked, now),
            EthernetProtocol::Ipv6 => self.v6_in(eth.payload(), to_us, checked, now),
            EthernetProtocol::Unknown(_) => {}
        }
    }

    fn v4_in(&mut self, bytes: &[u8], to_us: bool, checked: bool, now: Ns) {
        let Ok(p) = Ipv4Packet::new_checked(bytes) else {
            return;
        };
        // A large segment whose length the link did not fill in has no header checksum to trust.
        let Ok(repr) = Ipv4Repr::parse(&p, &ip_header_only()) else {
            return;
        };
        let dst = IpAddr::V4(repr.dst_addr);
        let group = repr.next_header == IpProtocol::Udp && self.config.is_broadcast(dst);
        if !self.config.owns(dst) && !group {
            return;
        }
        if p.more_frags() || p.frag_offset() != 0 {
            let key = (
                IpAddress::Ipv4(p.src_addr()),
                IpAddress::Ipv4(p.dst_addr()),
                u32::from(p.ident()),
                p.next_header().into(),
            );
            let at = usize::from(p.frag_offset());
            if let Some(whole) = self.fragments.add(key, at, p.more_frags(), p.payload(), now) {
                let mut repr = repr;
                repr.payload_len = whole.len();
                let ip = IpRepr::Ipv4(repr);
                let head = &bytes[..usize::from(p.header_len())];
                let packet = [head, &whole].concat();
                self.transport(&ip, &packet, &whole, to_us, false, now);
            }
            return;
        }
        if repr.next_header == IpProtocol::Icmp {
            self.icmp4_in(&repr, p.payload(), now);
            return;
        }
        self.transport(&IpRepr::Ipv4(repr), bytes, p.payload(), to_us, checked, now);
    }

    fn v6_in(&mut self, bytes: &[u8], to_us: bool, checked: bool, now: Ns) {
        let Ok(p) = Ipv6Packet::new_checked(bytes) else {
            return;
        };
        let Ok(repr) = Ipv6Repr::parse(&p) else { return };
        let dst = repr.dst_addr;
        if !self.config.owns(IpAddr::V6(dst)) && !self.config.hears_multicast(dst) {
            return;
        }
        if repr.next_header == IpProtocol::Icmpv6 {
            self.icmp6_in(&repr, p.payload(), checked, now);
            return;
        }
        if fragments::is_v6(repr.next_header) {
            let Some((next, at, more, id, data)) = fragments::v6_header(p.payload()) else {
                return;
            };
            let key = (IpAddress::Ipv6(repr.src_addr), IpAddress::Ipv6(dst), id, next);
            if let Some(whole) = self.fragments.add(key, at, more, data, now) {
                let mut repr = repr;
                repr.next_header = next.into();
                repr.payload_len = whole.len();
                let packet = [&bytes[..40], &whole].concat();
                self.transport(&IpRepr::Ipv6(repr), &packet, &whole, to_us, false, now);
            }
            return;
        }
        // Other extension headers: none is needed to talk to us.
        self.transport(&IpRepr::Ipv6(repr), bytes, p.payload(), to_us, checked, now);
    }

    fn transport(&mut self, ip: &IpRepr, packet: &[u8], payload: &[u8], to_us: bool, checked: bool, now: Ns) {
        match ip.next_header() {
            IpProtocol::Udp => self.udp_in(ip, packet, payload, checked, now),
            IpProtocol::Tcp if to_us => self.tcp_in(ip, payload, checked, now),
            _ => {}
        }
    }

    fn tcp_in(&mut self, ip: &IpRepr, payload: &[u8], checked: bool, now: Ns) {
        let Ok(p) = TcpPacket::new_checked(payload) else {
            return;
        };
        let (src, dst) = (ip.src_addr(), ip.dst_addr());
        let caps = if checked {
            ip_header_only()
        } else {
            all_checksums()
        };
        let Ok(repr) = TcpRepr::parse(&p, &src, &dst, &caps) else {
            return;
        };
        let tuple = Tuple {
            local: (dst, repr.dst_port),
            remote: (src, repr.src_port),
        };
        let syn = repr.control == TcpControl::Syn && repr.ack_number.is_none();
        if let Some(id) = self.flows.find(&tuple) {
            if !(syn && self.flows.reusable(id, &repr)) {
                self.segment(id, ip, &repr, now);
                return;
            }
            self.forget(id);
        }
        if syn && unicast(src) && self.listened(&tuple, ip, &repr, now) {
            return;
        }
        if repr.control != TcpControl::Rst {
            let (ip, repr) = tcp::Socket::rst_reply(ip, &repr);
            self.send_segment(&ip, &repr, None, now);
        }
    }

    /// Sends a segment to its next hop.
    pub(crate) fn send_segment(&mut self, ip: &IpRepr, repr: &TcpRepr<'_>, cut: Option<u16>, now: Ns) {
        let mac = self.config.ethernet();
        let f = tcp_frame(mac, mac, ip, repr, cut);
        // No route: as if it were lost; a connect has looked before.
        let _ = self.send_ip(std_ip(ip.dst_addr()), f, now);
    }
}

fn unicast(a: IpAddress) -> bool {
    !a.is_multicast() && !a.is_unspecified() && !a.is_broadcast()
}
