//! What an Ethernet frame is to the gate (PROTOCOL §3's table).

use ftl_core::replica::Class;

/// Bytes of `virtio_net_hdr`, which stands before every frame.
const VNET: usize = 10;
const ETHERNET: usize = 14;

fn be16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*b.get(at..)?.first_chunk()?))
}

/// Class of a frame; `None` for what a device says of itself (ARP, NDP, echo): it waits for nobody.
pub fn of_frame(frame: &[u8]) -> Option<Class> {
    let b = frame.get(VNET..)?;
    let ip = b.get(ETHERNET..)?;
    let (protocol, addrs, total, head) = match be16(b, 12)? {
        0x0800 => {
            let head = usize::from(*ip.first()? & 0xf) * 4;
            (*ip.get(9)?, ip.get(12..20)?, usize::from(be16(ip, 2)?), head)
        }
        0x86dd => (*ip.get(6)?, ip.get(8..40)?, usize::from(be16(ip, 4)?) + 40, 40),
        _ => return None,
    };
    match protocol {
        17 => return Some(Class::Udp),
        6 => {}
        _ => return None,
    }
    let tcp = ip.get(head..)?;
    let flags = *tcp.get(13)?;
    let data = total.saturating_sub(head + usize::from(*tcp.get(12)? >> 4) * 4);
    const FIN_SYN: u8 = 3;
    if data == 0 && flags & FIN_SYN == 0 {
        return Some(Class::Tcp { key: None });
    }
    let mut flow = 0xcbf2_9ce4_8422_2325u64;
    for byte in addrs.iter().chain(tcp.get(..4)?) {
        flow = (flow ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let seq = u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?);
    Some(Class::Tcp {
        key: Some((flow, seq)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tcp(flags: u8, data: u16) -> Vec<u8> {
        let mut f = vec![0; VNET + ETHERNET];
        f[VNET + 12..].copy_from_slice(&[8, 0]);
        let mut ip = vec![0x45, 0];
        ip.extend((40 + data).to_be_bytes());
        ip.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        f.extend(ip);
        f.extend([
            0, 80, 0, 81, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0,
        ]);
        f.extend(vec![0; usize::from(data)]);
        f
    }

    #[test]
    fn segments_have_keys_and_acks_have_none() {
        assert_eq!(of_frame(&tcp(0x10, 0)), Some(Class::Tcp { key: None }));
        let data = of_frame(&tcp(0x18, 5));
        assert!(matches!(data, Some(Class::Tcp { key: Some((_, 7)) })), "{data:?}");
        assert!(matches!(
            of_frame(&tcp(0x11, 0)),
            Some(Class::Tcp { key: Some(_) })
        ));
        let mut arp = tcp(0, 0);
        arp[VNET + 12..VNET + 14].copy_from_slice(&[8, 6]);
        assert_eq!(of_frame(&arp), None);
    }

    proptest! {
        #[test]
        fn garbage_has_a_class_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            of_frame(&bytes);
        }
    }
}
