//! Fragments: only datagrams come in them, TCP segments fit their path.

use crate::Ns;
use crate::frame::{ETHERNET, VNET, ip_frame};
use smoltcp::wire::{EthernetAddress, IpAddress, IpProtocol, IpRepr, Ipv4Packet};
use std::collections::BTreeMap;

/// Packets that are being put together, and how long they may take.
const MOST: usize = 16;
const PATIENCE_NS: Ns = 15_000_000_000;
/// Bytes of IPv6's fragment header, and its number.
const V6_HEADER: usize = 8;
const V6_NUMBER: u8 = 44;

/// Which packet a fragment is of: both ends, identification, protocol.
pub type Key = (IpAddress, IpAddress, u32, u8);

#[derive(Debug)]
struct Partial {
    began: Ns,
    /// By offset.
    parts: BTreeMap<usize, Vec<u8>>,
    total: Option<usize>,
}

/// Fragments on their way to whole packets.
#[derive(Debug, Default)]
pub struct Fragments(BTreeMap<Key, Partial>);

impl Fragments {
    /// A fragment at an offset, `more` after it; the payload of the whole packet if it was the last
    /// missing one.
    pub fn add(&mut self, key: Key, offset: usize, more: bool, data: &[u8], now: Ns) -> Option<Vec<u8>> {
        self.0.retain(|_, f| now.saturating_sub(f.began) < PATIENCE_NS);
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            let oldest = self.0.iter().min_by_key(|(_, f)| f.began).map(|(k, _)| *k);
            self.0.remove(&oldest?);
        }
        if offset + data.len() > 65_535 {
            self.0.remove(&key);
            return None;
        }
        let f = self.0.entry(key).or_insert_with(|| Partial {
            began: now,
            parts: BTreeMap::new(),
            total: None,
        });
        if !more {
            f.total = Some(offset + data.len());
        }
        f.parts.insert(offset, data.to_vec());
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

/// What IPv6's fragment header says: next protocol, offset, whether more follows, identification, and
/// the rest.
pub fn v6_header(payload: &[u8]) -> Option<(u8, usize, bool, u32, &[u8])> {
    let (h, rest) = payload.split_at_checked(V6_HEADER)?;
    let word = u16::from_be_bytes([h[2], h[3]]);
    let id = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
    Some((h[0], usize::from(word & !7), word & 1 != 0, id, rest))
}

/// True if this is what follows an IPv6 header.
pub fn is_v6(next: IpProtocol) -> bool {
    u8::from(next) == V6_NUMBER
}

/// The frames of a packet that is larger than `mtu`. The destination's link address is left open.
pub fn split(ip: &IpRepr, body: &[u8], id: u32, mac: EthernetAddress, mtu: usize) -> Vec<Vec<u8>> {
    let v6 = matches!(ip, IpRepr::Ipv6(_));
    let extra = if v6 { V6_HEADER } else { 0 };
    let piece = (mtu - ip.header_len() - extra) & !7;
    let next = if v6 {
        IpProtocol::from(V6_NUMBER)
    } else {
        ip.next_header()
    };
    let mut out = Vec::new();
    for (i, part) in body.chunks(piece).enumerate() {
        let one = IpRepr::new(
            ip.src_addr(),
            ip.dst_addr(),
            next,
            part.len() + extra,
            ip.hop_limit(),
        );
        let mut f = ip_frame(mac, mac, &one);
        let at = VNET + ETHERNET;
        let more = (i + 1) * piece < body.len();
        let offset = (i * piece) as u16;
        if v6 {
            let h = &mut f[at + 40..at + 40 + V6_HEADER];
            h[0] = ip.next_header().into();
            h[2..4].copy_from_slice(&(offset | u16::from(more)).to_be_bytes());
            h[4..8].copy_from_slice(&id.to_be_bytes());
        } else {
            let mut p = Ipv4Packet::new_unchecked(&mut f[at..]);
            p.set_ident(id as u16);
            p.set_dont_frag(false);
            p.set_more_frags(more);
            p.set_frag_offset(offset);
            p.fill_checksum();
        }
        f[at + ip.header_len() + extra..].copy_from_slice(part);
        out.push(f);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u32) -> Key {
        (IpAddress::v4(1, 2, 3, 4), IpAddress::v4(5, 6, 7, 8), id, 17)
    }

    #[test]
    fn any_order_and_twice() {
        let data: Vec<u8> = (0..100).collect();
        let mut f = Fragments::default();
        assert_eq!(f.add(key(1), 80, false, &data[80..], 0), None);
        assert_eq!(f.add(key(1), 0, true, &data[..40], 0), None);
        assert_eq!(f.add(key(2), 40, true, &data[40..80], 0), None);
        assert_eq!(f.add(key(1), 0, true, &data[..40], 0), None);
        assert_eq!(f.add(key(1), 40, true, &data[40..80], 1), Some(data));
    }

    #[test]
    fn old_and_hostile_ones_are_dropped() {
        let mut f = Fragments::default();
        assert_eq!(f.add(key(1), 8, false, &[1; 8], 0), None);
        assert_eq!(f.add(key(1), 0, true, &[1; 8], PATIENCE_NS), None);
        assert_eq!(f.add(key(3), 65_528, false, &[0; 100], 0), None);
        for id in 0..1000 {
            f.add(key(id), 8, false, &[1; 8], u64::from(id));
        }
        assert!(f.0.len() <= MOST);
    }
}
