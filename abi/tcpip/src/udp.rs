//! UDP: ports, datagrams both ways, and fragments, which only datagrams need.

use crate::config::std_ip;
use crate::frame::{ETHERNET, VNET, ip_frame};
use crate::{Event, Ns, Stack, Why};
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, Ipv4Packet, UDP_HEADER_LEN, UdpPacket};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Packets that are being put together, and how long they may take.
const MOST: usize = 16;
const PATIENCE_NS: Ns = 15_000_000_000;

type Key = (IpAddress, IpAddress, u16, u8);

#[derive(Debug)]
struct Partial {
    began: Ns,
    /// By offset.
    parts: BTreeMap<usize, Vec<u8>>,
    total: Option<usize>,
}

/// IPv4 fragments on their way to a whole packet.
#[derive(Debug, Default)]
pub struct Fragments(BTreeMap<Key, Partial>);

impl Fragments {
    /// A fragment; the payload of the whole packet if it was the last missing one.
    pub fn add(&mut self, p: &Ipv4Packet<&[u8]>, now: Ns) -> Option<Vec<u8>> {
        let key = (
            IpAddress::Ipv4(p.src_addr()),
            IpAddress::Ipv4(p.dst_addr()),
            p.ident(),
            p.next_header().into(),
        );
        self.0.retain(|_, f| now.saturating_sub(f.began) < PATIENCE_NS);
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            let oldest = self.0.iter().min_by_key(|(_, f)| f.began).map(|(k, _)| *k);
            self.0.remove(&oldest?);
        }
        let f = self.0.entry(key).or_insert_with(|| Partial {
            began: now,
            parts: BTreeMap::new(),
            total: None,
        });
        let offset = usize::from(p.frag_offset());
        let data = p.payload().to_vec();
        if offset + data.len() > 65_535 {
            self.0.remove(&key);
            return None;
        }
        if !p.more_frags() {
            f.total = Some(offset + data.len());
        }
        f.parts.insert(offset, data);
        let total = f.total?;
        let mut whole = Vec::with_capacity(total);
        for (at, part) in &f.parts {
            if *at > whole.len() {
                return None;
            }
            // What overlaps is taken once.
            whole.extend_from_slice(part.get(whole.len() - at..).unwrap_or(&[]));
        }
        if whole.len() < total {
            return None;
        }
        self.0.remove(&key);
        whole.truncate(total);
        Some(whole)
    }
}

impl Stack {
    /// Datagrams to this port are wanted; counted.
    pub fn udp_open(&mut self, port: u16) {
        *self.udp.entry(port).or_default() += 1;
    }

    /// One user of the port fewer.
    pub fn udp_close(&mut self, port: u16) {
        if let Some(n) = self.udp.get_mut(&port) {
            *n -= 1;
            if *n == 0 {
                self.udp.remove(&port);
            }
        }
    }

    pub(crate) fn udp_in(&mut self, ip: &IpRepr, packet: &[u8], payload: &[u8], checked: bool, now: Ns) {
        let Ok(p) = UdpPacket::new_checked(payload) else {
            return;
        };
        let (src, dst) = (ip.src_addr(), ip.dst_addr());
        if !checked && !p.verify_checksum(&src, &dst) {
            return;
        }
        if !self.udp.contains_key(&p.dst_port()) {
            self.port_unreachable(ip, packet, now);
            return;
        }
        self.events.push_back(Event::Datagram {
            from: SocketAddr::new(std_ip(src), p.src_port()),
            to: SocketAddr::new(std_ip(dst), p.dst_port()),
            data: p.payload().to_vec(),
        });
    }

    /// Sends a datagram.
    pub fn udp_send(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        data: &[u8],
        ttl: u8,
        now: Ns,
    ) -> Result<(), Why> {
        let (src, dst): (IpAddress, IpAddress) = (from.ip().into(), to.ip().into());
        if self.group_mac(to.ip()).is_none() && self.config.next_hop(to.ip()).is_none() {
            return Err(Why::Network);
        }
        let len = UDP_HEADER_LEN + data.len();
        let ip = IpRepr::new(src, dst, IpProtocol::Udp, len, ttl);
        let mut body = vec![0; len];
        let mut p = UdpPacket::new_unchecked(&mut body[..]);
        p.set_src_port(from.port());
        p.set_dst_port(to.port());
        p.set_len(len as u16);
        p.payload_mut().copy_from_slice(data);
        p.fill_checksum(&src, &dst);
        if ip.buffer_len() <= self.config.mtu {
            let mut f = ip_frame(self.config.ethernet(), self.config.ethernet(), &ip);
            f[VNET + ETHERNET + ip.header_len()..].copy_from_slice(&body);
            return self.send_ip(to.ip(), f, now);
        }
        match to.ip() {
            IpAddr::V4(_) => self.send_fragments(&ip, &body, now),
            // Linux would fragment; a host that is asked by datagrams of this size is rare.
            IpAddr::V6(_) => Err(Why::Host),
        }
    }

    fn send_fragments(&mut self, ip: &IpRepr, body: &[u8], now: Ns) -> Result<(), Why> {
        let piece = (self.config.mtu - 20) & !7;
        let id = self.next_ip_id;
        self.next_ip_id = id.wrapping_add(1);
        let to = std_ip(ip.dst_addr());
        for (i, part) in body.chunks(piece).enumerate() {
            let one = IpRepr::new(
                ip.src_addr(),
                ip.dst_addr(),
                IpProtocol::Udp,
                part.len(),
                ip.hop_limit(),
            );
            let mut f = ip_frame(self.config.ethernet(), self.config.ethernet(), &one);
            let at = VNET + ETHERNET;
            f[at + 20..].copy_from_slice(part);
            let mut p = Ipv4Packet::new_unchecked(&mut f[at..]);
            p.set_ident(id);
            p.set_dont_frag(false);
            p.set_more_frags((i + 1) * piece < body.len());
            p.set_frag_offset((i * piece) as u16);
            p.fill_checksum();
            self.send_ip(to, f, now)?;
        }
        Ok(())
    }
}
