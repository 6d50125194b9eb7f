//! UDP: ports, datagrams both ways.

use crate::config::std_ip;
use crate::frame::{ETHERNET, VNET, ip_frame};
use crate::{Event, Ns, Stack, Why, fragments};
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, UDP_HEADER_LEN, UdpPacket};
use std::net::SocketAddr;

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
        let (first, second) = (
            packet.first().copied().unwrap_or(0),
            packet.get(1).copied().unwrap_or(0),
        );
        let tos = match ip {
            IpRepr::Ipv4(_) => second,
            IpRepr::Ipv6(_) => first << 4 | second >> 4,
        };
        self.events.push_back(Event::Datagram {
            ttl: ip.hop_limit(),
            tos,
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
        let id = self.next_ip_id;
        self.next_ip_id = id.wrapping_add(1);
        for f in fragments::split(&ip, &body, id, self.config.ethernet(), self.config.mtu) {
            self.send_ip(to.ip(), f, now)?;
        }
        Ok(())
    }
}
