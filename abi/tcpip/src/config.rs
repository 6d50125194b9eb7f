//! What the image's interface is: chosen at start, part of the image.

use smoltcp::wire::{EthernetAddress, IpAddress, Ipv6Address};
use std::net::{IpAddr, Ipv6Addr};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Link-layer address.
    pub mac: [u8; 6],
    /// Largest IP packet.
    pub mtu: usize,
    /// Addresses with the length of their prefix.
    pub addrs: Vec<(IpAddr, u8)>,
    /// Routers, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Largest IP packet that the device cuts into segments; 0: it does not.
    pub offload: usize,
    /// ARP, neighbour discovery and echo are answered here; else the device does it.
    pub answers: bool,
}

/// Largest frame that is given to a device that cuts segments.
pub const OFFLOAD: usize = 65_000;

fn prefix_of(ip: IpAddr, len: u8) -> u128 {
    let (bits, width) = match ip {
        IpAddr::V4(a) => (u128::from(u32::from(a)), 32),
        IpAddr::V6(a) => (u128::from(a), 128),
    };
    let host = width - u32::from(len).min(width);
    bits.checked_shr(host).unwrap_or(0)
}

impl Config {
    /// An interface with one address.
    pub fn new(mac: [u8; 6], mtu: usize) -> Config {
        Config {
            mac,
            mtu,
            addrs: Vec::new(),
            gateways: Vec::new(),
            offload: OFFLOAD,
            answers: true,
        }
    }

    /// A locally administered address that follows from the IP address: the same on every host.
    pub fn mac_for(ip: IpAddr) -> [u8; 6] {
        let tail: [u8; 4] = match ip {
            IpAddr::V4(a) => a.octets(),
            IpAddr::V6(a) => {
                let o = a.octets();
                let h = o.iter().fold(0x811c_9dc5u32, |h, b| {
                    (h ^ u32::from(*b)).wrapping_mul(0x0100_0193)
                });
                h.to_be_bytes()
            }
        };
        [0x02, 0xf7, tail[0], tail[1], tail[2], tail[3]]
    }

    pub(crate) fn ethernet(&self) -> EthernetAddress {
        EthernetAddress(self.mac)
    }

    /// The link-local address, if there is IPv6 at all.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.addrs.iter().find(|(a, _)| a.is_ipv6())?;
        let m = self.mac;
        let seg = |a: u8, b: u8| u16::from_be_bytes([a, b]);
        let low = (
            seg(m[0] ^ 2, m[1]),
            seg(m[2], 0xff),
            seg(0xfe, m[3]),
            seg(m[4], m[5]),
        );
        Some(Ipv6Addr::new(0xfe80, 0, 0, 0, low.0, low.1, low.2, low.3))
    }

    /// One of our own addresses.
    pub fn owns(&self, ip: IpAddr) -> bool {
        self.addrs.iter().any(|(a, _)| *a == ip) || self.link_local().is_some_and(|l| ip == IpAddr::V6(l))
    }

    /// True if frames to it need no router.
    pub fn on_link(&self, ip: IpAddr) -> bool {
        if let IpAddr::V6(a) = ip
            && a.is_unicast_link_local()
        {
            return true;
        }
        let same = |(a, len): &(IpAddr, u8)| {
            a.is_ipv4() == ip.is_ipv4() && prefix_of(*a, *len) == prefix_of(ip, *len)
        };
        self.addrs.iter().any(same)
    }

    /// The directed broadcast address of one of our networks, or the limited one.
    pub fn is_broadcast(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(to) = ip else { return false };
        let to = u32::from(to);
        let directed = |(a, len): &(IpAddr, u8)| match a {
            IpAddr::V4(a) if *len < 31 => {
                let host = u32::MAX.checked_shr(u32::from(*len)).unwrap_or(0);
                to == u32::from(*a) | host
            }
            _ => false,
        };
        to == u32::MAX || self.addrs.iter().any(directed)
    }

    /// The neighbour that a packet to `ip` goes to; `None`: there is no way.
    pub fn next_hop(&self, ip: IpAddr) -> Option<IpAddr> {
        if self.on_link(ip) {
            return Some(ip);
        }
        let gw = self.gateways.iter().find(|g| g.is_ipv4() == ip.is_ipv4());
        gw.copied()
    }

    /// The address that a packet to `ip` comes from.
    pub fn source_for(&self, ip: IpAddr) -> Option<IpAddr> {
        if let (IpAddr::V6(a), Some(l)) = (ip, self.link_local())
            && (a.is_unicast_link_local() || a.octets()[..2] == [0xff, 0x02])
        {
            return Some(IpAddr::V6(l));
        }
        let family = || self.addrs.iter().filter(|(a, _)| a.is_ipv4() == ip.is_ipv4());
        let near = family().find(|(a, len)| prefix_of(*a, *len) == prefix_of(ip, *len));
        near.or_else(|| family().next()).map(|(a, _)| *a)
    }

    /// Multicast groups that we hear: the solicited-node addresses.
    pub fn hears_multicast(&self, to: Ipv6Address) -> bool {
        let o = to.octets();
        if o == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] {
            return true;
        }
        let mine = |a: &IpAddr| match a {
            IpAddr::V6(a) => solicited(*a) == to,
            IpAddr::V4(_) => false,
        };
        self.addrs.iter().any(|(a, _)| mine(a)) || self.link_local().is_some_and(|l| solicited(l) == to)
    }
}

/// The group that a neighbour solicitation for `a` goes to.
pub fn solicited(a: Ipv6Addr) -> Ipv6Addr {
    let o = a.octets();
    let low = (u16::from(o[13]) | 0xff00, u16::from_be_bytes([o[14], o[15]]));
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, low.0, low.1)
}

pub(crate) fn std_ip(a: IpAddress) -> IpAddr {
    match a {
        IpAddress::Ipv4(a) => IpAddr::V4(a),
        IpAddress::Ipv6(a) => IpAddr::V6(a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways() {
        let mut c = Config::new([2, 0, 0, 0, 0, 1], 1500);
        c.addrs = vec![
            ("10.1.2.3".parse().unwrap(), 24),
            ("fd00::5".parse().unwrap(), 64),
        ];
        c.gateways = vec!["10.1.2.1".parse().unwrap()];
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        assert_eq!(c.next_hop(ip("10.1.2.200")), Some(ip("10.1.2.200")));
        assert_eq!(c.next_hop(ip("8.8.8.8")), Some(ip("10.1.2.1")));
        assert_eq!(c.next_hop(ip("fd00::9")), Some(ip("fd00::9")));
        assert_eq!(c.next_hop(ip("2001::9")), None);
        assert_eq!(c.source_for(ip("8.8.8.8")), Some(ip("10.1.2.3")));
        assert_eq!(c.source_for(ip("fe80::1")), Some(ip("fe80::ff:fe00:1")));
        assert!(c.is_broadcast(ip("10.1.2.255")) && !c.is_broadcast(ip("10.1.3.255")));
        assert_eq!(
            solicited("fd00::5".parse().unwrap()),
            "ff02::1:ff00:5".parse::<Ipv6Addr>().unwrap()
        );
        assert!(c.owns(ip("fe80::ff:fe00:1")) && !c.owns(ip("10.1.2.4")));
    }
}
