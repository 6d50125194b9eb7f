//! ICMP: echo, and errors both ways.

use crate::config::std_ip;
use crate::frame::{ETHERNET, VNET, all_checksums, ip_frame};
use crate::{Event, Ns, Stack, Tuple, Why};
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Message,
    Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
};
use std::net::{IpAddr, SocketAddr};

/// Errors that may be sent in a burst, and the time after which there is one more (RFC 1812, 4.3.2.8).
const BURST: u32 = 50;
const REFILL_NS: Ns = 1_000_000;
/// Smallest path MTU that is believed.
const LEAST_MTU: usize = 552;
/// Hosts whose path MTU is remembered.
const PATHS: usize = 1024;

/// Limits the errors that we send.
#[derive(Debug)]
pub struct Tokens {
    left: u32,
    at: Ns,
}

impl Default for Tokens {
    fn default() -> Tokens {
        Tokens { left: BURST, at: 0 }
    }
}

impl Tokens {
    fn take(&mut self, now: Ns) -> bool {
        let more = now.saturating_sub(self.at) / REFILL_NS;
        if more > 0 {
            self.left = (u64::from(self.left) + more).min(u64::from(BURST)) as u32;
            self.at = now;
        }
        let ok = self.left > 0;
        self.left -= u32::from(ok);
        ok
    }
}

/// Ports of a packet that an error quotes, if it is TCP or UDP.
fn ports(payload: &[u8]) -> Option<(u16, u16)> {
    let p: [u8; 4] = payload.get(..4)?.try_into().ok()?;
    Some((u16::from_be_bytes([p[0], p[1]]), u16::from_be_bytes([p[2], p[3]])))
}

impl Stack {
    pub(crate) fn icmp4_in(&mut self, ip: &Ipv4Repr, payload: &[u8], now: Ns) {
        let Ok(packet) = Icmpv4Packet::new_checked(payload) else {
            return;
        };
        if !packet.verify_checksum() {
            return;
        }
        if packet.msg_type() == Icmpv4Message::EchoRequest {
            if self.config.answers && self.config.owns(IpAddr::V4(ip.dst_addr)) {
                self.echo(
                    IpAddress::Ipv4(ip.dst_addr),
                    IpAddress::Ipv4(ip.src_addr),
                    payload,
                    now,
                );
            }
            return;
        }
        let quoted = packet.data();
        let why = match (packet.msg_type(), packet.msg_code()) {
            (Icmpv4Message::DstUnreachable, 0 | 6) => Some(Why::Network),
            (Icmpv4Message::DstUnreachable, 2 | 3) => Some(Why::Port),
            (Icmpv4Message::DstUnreachable, 4) => None,
            (Icmpv4Message::DstUnreachable, _) => Some(Why::Host),
            _ => return,
        };
        // The quoted packet is cut: no check of its length.
        let inner = Ipv4Packet::new_unchecked(quoted);
        if quoted.len() < 28 || inner.version() != 4 || usize::from(inner.header_len()) + 8 > quoted.len() {
            return;
        }
        let (src, dst) = (IpAddr::V4(inner.src_addr()), IpAddr::V4(inner.dst_addr()));
        let rest = &quoted[usize::from(inner.header_len())..];
        match why {
            Some(why) => self.error_in(src, dst, inner.next_header(), rest, why, now),
            None => {
                let mtu = usize::from(u16::from_be_bytes([payload[6], payload[7]]));
                self.too_big(src, dst, rest, mtu, now);
            }
        }
    }

    pub(crate) fn icmp6_in(&mut self, ip: &Ipv6Repr, payload: &[u8], checked: bool, now: Ns) {
        let Ok(packet) = Icmpv6Packet::new_checked(payload) else {
            return;
        };
        if !checked && !packet.verify_checksum(&ip.src_addr, &ip.dst_addr) {
            return;
        }
        match packet.msg_type() {
            Icmpv6Message::EchoRequest => {
                if self.config.answers && self.config.owns(IpAddr::V6(ip.dst_addr)) {
                    self.echo(
                        IpAddress::Ipv6(ip.dst_addr),
                        IpAddress::Ipv6(ip.src_addr),
                        payload,
                        now,
                    );
                }
            }
            Icmpv6Message::DstUnreachable | Icmpv6Message::PktTooBig => {
                let Some(quoted) = payload.get(8..) else { return };
                if quoted.len() < 48 {
                    return;
                }
                let inner = Ipv6Packet::new_unchecked(quoted);
                let (src, dst) = (IpAddr::V6(inner.src_addr()), IpAddr::V6(inner.dst_addr()));
                let rest = &quoted[40..];
                if packet.msg_type() == Icmpv6Message::PktTooBig {
                    let mtu = u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]);
                    self.too_big(src, dst, rest, mtu as usize, now);
                    return;
                }
                let why = match packet.msg_code() {
                    0 => Why::Network,
                    4 => Why::Port,
                    _ => Why::Host,
                };
                self.error_in(src, dst, inner.next_header(), rest, why, now);
            }
            _ => {
                let Ok(repr) = Icmpv6Repr::parse(
                    &ip.src_addr,
                    &ip.dst_addr,
                    &packet,
                    &crate::frame::ip_header_only(),
                ) else {
                    return;
                };
                if let Icmpv6Repr::Ndisc(n) = repr {
                    self.ndisc_in(ip.src_addr, ip.dst_addr, ip.hop_limit, &n, now);
                }
            }
        }
    }

    /// Answers an echo request: the same bytes with another type.
    fn echo(&mut self, source: IpAddress, to: IpAddress, request: &[u8], now: Ns) {
        let v6 = matches!(to, IpAddress::Ipv6(_));
        let proto = if v6 { IpProtocol::Icmpv6 } else { IpProtocol::Icmp };
        let ip = IpRepr::new(source, to, proto, request.len(), 64);
        if ip.buffer_len() > self.config.mtu {
            return;
        }
        let mut f = ip_frame(self.config.ethernet(), self.config.ethernet(), &ip);
        let body = &mut f[VNET + ETHERNET + ip.header_len()..];
        body.copy_from_slice(request);
        match (source, to) {
            (IpAddress::Ipv6(a), IpAddress::Ipv6(b)) => {
                let mut p = Icmpv6Packet::new_unchecked(body);
                p.set_msg_type(Icmpv6Message::EchoReply);
                p.fill_checksum(&a, &b);
            }
            _ => {
                let mut p = Icmpv4Packet::new_unchecked(body);
                p.set_msg_type(Icmpv4Message::EchoReply);
                p.fill_checksum();
            }
        }
        let _ = self.send_ip(std_ip(to), f, now);
    }

    /// Nobody has the port that this packet was for; `packet` is the whole IP packet.
    pub(crate) fn port_unreachable(&mut self, ip: &IpRepr, packet: &[u8], now: Ns) {
        let (from, to) = (std_ip(ip.src_addr()), std_ip(ip.dst_addr()));
        if !self.config.owns(to)
            || from.is_multicast()
            || from.is_unspecified()
            || !self.icmp_tokens.take(now)
        {
            return;
        }
        match ip {
            IpRepr::Ipv4(h) => {
                let icmp = Icmpv4Repr::DstUnreachable {
                    reason: Icmpv4DstUnreachable::PortUnreachable,
                    header: *h,
                    data: &packet[20..packet.len().min(20 + 508)],
                };
                let out = IpRepr::new(
                    ip.dst_addr(),
                    ip.src_addr(),
                    IpProtocol::Icmp,
                    icmp.buffer_len(),
                    64,
                );
                let mut f = ip_frame(self.config.ethernet(), self.config.ethernet(), &out);
                let body = &mut f[VNET + ETHERNET + out.header_len()..];
                icmp.emit(&mut Icmpv4Packet::new_unchecked(body), &all_checksums());
                let _ = self.send_ip(from, f, now);
            }
            IpRepr::Ipv6(h) => {
                let icmp = Icmpv6Repr::DstUnreachable {
                    reason: Icmpv6DstUnreachable::PortUnreachable,
                    header: *h,
                    data: &packet[40..packet.len().min(40 + 1000)],
                };
                let out = IpRepr::new(
                    ip.dst_addr(),
                    ip.src_addr(),
                    IpProtocol::Icmpv6,
                    icmp.buffer_len(),
                    64,
                );
                let mut f = ip_frame(self.config.ethernet(), self.config.ethernet(), &out);
                let body = &mut f[VNET + ETHERNET + out.header_len()..];
                icmp.emit(
                    &h.dst_addr,
                    &h.src_addr,
                    &mut Icmpv6Packet::new_unchecked(body),
                    &all_checksums(),
                );
                let _ = self.send_ip(from, f, now);
            }
        }
    }

    fn error_in(&mut self, src: IpAddr, dst: IpAddr, proto: IpProtocol, rest: &[u8], why: Why, now: Ns) {
        let Some((sport, dport)) = ports(rest) else { return };
        match proto {
            IpProtocol::Udp => {
                let event = Event::Unreachable(SocketAddr::new(src, sport), SocketAddr::new(dst, dport), why);
                self.events.push_back(event);
            }
            // An established connection is not ended by what anybody can send (RFC 5927).
            IpProtocol::Tcp => {
                let tuple = Tuple {
                    local: (src.into(), sport),
                    remote: (dst.into(), dport),
                };
                if let Some(id) = self.flows.find(&tuple) {
                    self.unreachable(id, why, now);
                }
            }
            _ => {}
        }
    }

    fn too_big(&mut self, src: IpAddr, dst: IpAddr, rest: &[u8], mtu: usize, now: Ns) {
        let Some((sport, dport)) = ports(rest) else { return };
        let tuple = Tuple {
            local: (src.into(), sport),
            remote: (dst.into(), dport),
        };
        let Some(id) = self.flows.find(&tuple) else { return };
        if self.path_mtu.len() >= PATHS {
            self.path_mtu.pop_first();
        }
        let mtu = mtu.max(LEAST_MTU).min(self.mtu_to(dst));
        self.path_mtu.insert(dst, mtu);
        self.resend(id, now);
    }
}
