//! ARP and neighbour discovery: asking, answering, announcing.

use crate::config::{solicited, std_ip};
use crate::frame::{ETHERNET, VNET, all_checksums, ip_frame};
use crate::{Ns, Stack};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet,
    Icmpv6Repr, IpAddress, IpProtocol, IpRepr, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// ff02::1
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

impl Stack {
    /// The link-layer address of a group, if it is one.
    pub(crate) fn group_mac(&self, to: IpAddr) -> Option<EthernetAddress> {
        match to {
            _ if self.config.is_broadcast(to) => Some(EthernetAddress::BROADCAST),
            IpAddr::V4(a) if a.is_multicast() => {
                let o = a.octets();
                Some(EthernetAddress([0x01, 0x00, 0x5e, o[1] & 0x7f, o[2], o[3]]))
            }
            IpAddr::V6(a) if a.is_multicast() => {
                let o = a.octets();
                Some(EthernetAddress([0x33, 0x33, o[12], o[13], o[14], o[15]]))
            }
            _ => None,
        }
    }

    /// Asks who has `ip`; `at`: only this neighbour, whether it still has.
    pub(crate) fn ask(&mut self, ip: IpAddr, at: Option<EthernetAddress>) {
        match ip {
            IpAddr::V4(target) => {
                let Some(IpAddr::V4(source)) = self.config.source_for(ip) else {
                    return;
                };
                self.arp(
                    ArpOperation::Request,
                    source,
                    EthernetAddress([0; 6]),
                    target,
                    at.unwrap_or(EthernetAddress::BROADCAST),
                );
            }
            IpAddr::V6(target) => {
                let Some(IpAddr::V6(source)) = self.config.source_for(ip) else {
                    return;
                };
                let repr = NdiscRepr::NeighborSolicit {
                    target_addr: target,
                    lladdr: Some(RawHardwareAddress::from(self.config.ethernet())),
                };
                let (to, mac) = match at {
                    Some(mac) => (target, mac),
                    None => {
                        let group = solicited(target);
                        let mac = self.group_mac(IpAddr::V6(group));
                        (group, mac.unwrap_or(EthernetAddress::BROADCAST))
                    }
                };
                self.ndisc(source, to, mac, repr);
            }
        }
    }

    fn arp(
        &mut self,
        operation: ArpOperation,
        source: Ipv4Addr,
        target_mac: EthernetAddress,
        target: Ipv4Addr,
        to: EthernetAddress,
    ) {
        let repr = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: self.config.ethernet(),
            source_protocol_addr: source,
            target_hardware_addr: target_mac,
            target_protocol_addr: target,
        };
        let mut f = vec![0; VNET + ETHERNET + repr.buffer_len()];
        let mut eth = EthernetFrame::new_unchecked(&mut f[VNET..]);
        eth.set_src_addr(self.config.ethernet());
        eth.set_dst_addr(to);
        eth.set_ethertype(EthernetProtocol::Arp);
        repr.emit(&mut ArpPacket::new_unchecked(&mut f[VNET + ETHERNET..]));
        self.out.push_back(f);
    }

    fn ndisc(&mut self, source: Ipv6Addr, to: Ipv6Addr, mac: EthernetAddress, repr: NdiscRepr<'_>) {
        let icmp = Icmpv6Repr::Ndisc(repr);
        let ip = IpRepr::new(
            IpAddress::Ipv6(source),
            IpAddress::Ipv6(to),
            IpProtocol::Icmpv6,
            icmp.buffer_len(),
            255,
        );
        let mut f = ip_frame(self.config.ethernet(), mac, &ip);
        let at = VNET + ETHERNET + ip.header_len();
        let mut p = Icmpv6Packet::new_unchecked(&mut f[at..]);
        icmp.emit(&source, &to, &mut p, &all_checksums());
        self.out.push_back(f);
    }

    /// An ARP packet has arrived.
    pub(crate) fn arp_in(&mut self, payload: &[u8], now: Ns) {
        let Ok(packet) = ArpPacket::new_checked(payload) else {
            return;
        };
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: mac,
            source_protocol_addr: ip,
            target_protocol_addr: target,
            ..
        }) = ArpRepr::parse(&packet)
        else {
            return;
        };
        let asks_us = operation == ArpOperation::Request && self.config.owns(IpAddr::V4(target));
        if !ip.is_unspecified() && !self.config.owns(IpAddr::V4(ip)) {
            // Whoever asks for us will hear from us: noted. Others only if they are known.
            self.learned(IpAddr::V4(ip), mac, now, !asks_us);
        }
        if asks_us && self.config.answers {
            self.arp(ArpOperation::Reply, target, mac, ip, mac);
        }
    }

    /// Neighbour discovery has arrived. `hops`: its hop limit, which must be 255: not from afar.
    pub(crate) fn ndisc_in(&mut self, from: Ipv6Addr, to: Ipv6Addr, hops: u8, repr: &NdiscRepr<'_>, now: Ns) {
        if hops != 255 {
            return;
        }
        let mac = |a: &Option<RawHardwareAddress>| {
            let a = a.as_ref()?.as_bytes();
            (a.len() == 6).then(|| EthernetAddress::from_bytes(a))
        };
        match repr {
            NdiscRepr::NeighborAdvert {
                target_addr, lladdr, ..
            } => {
                if let Some(mac) = mac(lladdr)
                    && !self.config.owns(IpAddr::V6(*target_addr))
                {
                    self.learned(IpAddr::V6(*target_addr), mac, now, true);
                }
            }
            NdiscRepr::NeighborSolicit { target_addr, lladdr } => {
                if !self.config.owns(IpAddr::V6(*target_addr)) || !self.config.answers {
                    return;
                }
                let (mut back, mut flags) = (ALL_NODES, NdiscNeighborFlags::OVERRIDE);
                if !from.is_unspecified() {
                    back = from;
                    flags |= NdiscNeighborFlags::SOLICITED;
                }
                let known = mac(lladdr);
                if let Some(mac) = known
                    && !from.is_unspecified()
                {
                    self.learned(IpAddr::V6(from), mac, now, false);
                }
                let _ = to;
                let repr = self.advert(*target_addr, flags);
                match known.or_else(|| self.group_mac(IpAddr::V6(back))) {
                    Some(mac) => self.ndisc(*target_addr, back, mac, repr),
                    None => {
                        // It did not say where it is: the way it came from is the way back.
                        if let crate::neigh::Way::To(mac) = self.neighbours.way(IpAddr::V6(back), now) {
                            self.ndisc(*target_addr, back, mac, repr);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn advert(&self, target_addr: Ipv6Addr, flags: NdiscNeighborFlags) -> NdiscRepr<'static> {
        NdiscRepr::NeighborAdvert {
            flags,
            target_addr,
            lladdr: Some(RawHardwareAddress::from(self.config.ethernet())),
        }
    }

    fn learned(&mut self, ip: IpAddr, mac: EthernetAddress, now: Ns, only_known: bool) {
        for mut f in self.neighbours.learn(ip, mac, now, only_known) {
            crate::frame::set_destination(&mut f, mac);
            self.out.push_back(f);
        }
    }

    /// Gratuitous ARP and unsolicited advertisements: switches and neighbours learn at once where
    /// our addresses are.
    pub fn announce(&mut self) {
        for (ip, _) in self.config.addrs.clone() {
            match ip {
                IpAddr::V4(a) => {
                    // Both forms: some hosts take only the one, some only the other.
                    self.arp(
                        ArpOperation::Request,
                        a,
                        EthernetAddress([0; 6]),
                        a,
                        EthernetAddress::BROADCAST,
                    );
                    self.arp(
                        ArpOperation::Reply,
                        a,
                        EthernetAddress::BROADCAST,
                        a,
                        EthernetAddress::BROADCAST,
                    );
                }
                IpAddr::V6(a) => self.announce_v6(a),
            }
        }
        if let Some(l) = self.config.link_local() {
            self.announce_v6(l);
        }
    }

    fn announce_v6(&mut self, a: Ipv6Addr) {
        let repr = self.advert(a, NdiscNeighborFlags::OVERRIDE);
        if let Some(mac) = self.group_mac(IpAddr::V6(ALL_NODES)) {
            self.ndisc(a, ALL_NODES, mac, repr);
        }
    }

    /// A neighbour did not answer: connections that begin fail.
    pub(crate) fn neighbour_lost(&mut self, hop: IpAddr, now: Ns) {
        for id in self.flows.connecting() {
            let to = self.flows.get(id).map(|f| std_ip(f.tuple.remote.0));
            if let Some(to) = to
                && self.config.next_hop(to) == Some(hop)
            {
                self.unreachable(id, crate::Why::Host, now);
            }
        }
    }
}
