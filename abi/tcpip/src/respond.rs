//! What a device does for an image: answers ARP, neighbour discovery and echo while the image may not
//! or cannot, and announces its addresses (PROTOCOL §3: made by the device, by the owner only).

use crate::frame::{ETHERNET, VNET};
use crate::{Config, Ns, Stack};
use smoltcp::wire::{EthernetFrame, EthernetProtocol};

/// When addresses are announced after a takeover, from its beginning.
pub const ANNOUNCE_NS: [Ns; 6] = [
    0,
    20_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
];

/// The frames that tell a link where the addresses of `config` are.
pub fn announcements(config: &Config) -> Vec<Vec<u8>> {
    let mut stack = Stack::new(config.clone(), [0; 2]);
    stack.announce();
    std::iter::from_fn(|| stack.take_frame()).collect()
}

/// See the module. It knows the addresses and nothing else of the image.
#[derive(Debug)]
pub struct Responder {
    stack: Stack,
}

/// What came of a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Answers to send.
    pub answers: Vec<Vec<u8>>,
    /// The image should see the frame too.
    pub pass: bool,
}

/// ICMP's type of an echo request in a frame, if it can be one.
fn is_echo(eth: &EthernetFrame<&[u8]>) -> bool {
    let ip = eth.payload();
    match eth.ethertype() {
        EthernetProtocol::Ipv4 if ip.len() > 28 && ip[9] == 1 => {
            let at = usize::from(ip[0] & 0xf) * 4;
            // Whole, and a request.
            ip[6] & 0x3f == 0 && ip[7] == 0 && ip.get(at) == Some(&8)
        }
        EthernetProtocol::Ipv6 => ip.len() > 48 && ip[6] == 58 && ip[40] == 128,
        _ => false,
    }
}

/// A neighbour solicitation.
fn is_solicit(eth: &EthernetFrame<&[u8]>) -> bool {
    let ip = eth.payload();
    eth.ethertype() == EthernetProtocol::Ipv6 && ip.len() > 48 && ip[6] == 58 && ip[40] == 135
}

impl Responder {
    /// For an image whose own stack does not answer (`Config::answers`).
    pub fn new(config: &Config) -> Responder {
        let mut config = config.clone();
        config.answers = true;
        Responder {
            stack: Stack::new(config, [0; 2]),
        }
    }

    /// A frame has arrived.
    pub fn input(&mut self, frame: &[u8], now: Ns) -> Verdict {
        let mut v = Verdict {
            answers: Vec::new(),
            pass: true,
        };
        if frame.len() < VNET + ETHERNET {
            return v;
        }
        let eth = EthernetFrame::new_unchecked(&frame[VNET..]);
        let echo = is_echo(&eth);
        if !echo && !is_solicit(&eth) && eth.ethertype() != EthernetProtocol::Arp {
            return v;
        }
        // The way it came from is the way back: no question about neighbours.
        self.stack.straight = Some(eth.src_addr());
        self.stack.input(frame, now);
        v.answers = std::iter::from_fn(|| self.stack.take_frame()).collect();
        v.pass = !echo;
        v
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};
    use std::net::IpAddr;

    fn config(last: u8) -> Config {
        let mut c = Config::new([2, 0, 0, 0, 0, last], 1500);
        c.addrs = vec![
            (IpAddr::from([10, 0, 0, last]), 24),
            (format!("fd00::{last}").parse().unwrap(), 64),
        ];
        c.answers = false;
        c
    }

    #[test]
    fn answers_for_an_image_that_does_not() {
        let mut image = Stack::new(config(1), [0; 2]);
        let mut device = Responder::new(&config(1));
        let mut peer = Stack::new(config(2), [0; 2]);
        for to in ["10.0.0.1", "fd00::1"] {
            let ip = to.parse().unwrap();
            assert_eq!(peer.neighbours.way(ip, 1), crate::neigh::Way::Ask);
            peer.ask(ip, None);
            let question = peer.take_frame().unwrap();
            image.input(&question, 5);
            assert_eq!(image.take_frame(), None);
            let v = device.input(&question, 5);
            assert!(v.pass && v.answers.len() == 1, "{to}");
            peer.input(&v.answers[0], 6);
            let way = peer.neighbours.way(ip, 7);
            assert_eq!(way, crate::neigh::Way::To(EthernetAddress([2, 0, 0, 0, 0, 1])));
        }
        assert!(device.input(&[0; 60], 5).pass);
    }

    #[test]
    fn announcements_are_for_all() {
        let all = announcements(&config(7));
        // ARP in both forms, the address and the link-local one.
        assert_eq!(all.len(), 4);
        let eth = EthernetFrame::new_unchecked(&all[0][VNET..]);
        assert_eq!(eth.dst_addr(), EthernetAddress::BROADCAST);
        let arp = ArpPacket::new_unchecked(eth.payload());
        let ArpRepr::EthernetIpv4 {
            operation,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&arp).unwrap()
        else {
            panic!()
        };
        assert_eq!(
            (operation, source_protocol_addr),
            (ArpOperation::Request, target_protocol_addr)
        );
    }
}
