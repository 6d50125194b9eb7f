//! Frames as the device takes and gives them: a `virtio_net_hdr`, then Ethernet.
//!
//! The header says that a checksum is still to be filled in, and into which pieces a large segment
//! is to be cut; the device (packet socket, TAP) does both where the link needs it. A frame from a
//! program on the same host arrives in the same way, with its checksum not filled in.

use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, IpRepr, TcpPacket, TcpRepr,
};

/// Bytes of `struct virtio_net_hdr`.
pub const VNET: usize = 10;
/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// Where the checksum of TCP and UDP is in their headers.
const TCP_CHECKSUM: u16 = 16;

/// What the device says of a frame's checksum: true if there is nothing to verify.
pub fn verified(vnet: &[u8]) -> bool {
    vnet[0] & (NEEDS_CSUM | DATA_VALID) != 0
}

/// Nothing is verified or filled in by the packet formats themselves, but for the IPv4 header.
pub fn ip_header_only() -> ChecksumCapabilities {
    let mut c = ChecksumCapabilities::ignored();
    c.ipv4 = Checksum::Both;
    c
}

/// Everything is.
pub fn all_checksums() -> ChecksumCapabilities {
    ChecksumCapabilities::default()
}

/// Sum of the pseudo header, folded, not complemented: what a partial checksum starts with.
fn pseudo(src: IpAddress, dst: IpAddress, proto: u8, len: usize) -> u16 {
    let mut sum = u32::from(proto) + (len as u32 >> 16) + (len as u32 & 0xffff);
    let mut add = |bytes: &[u8]| {
        for c in bytes.chunks_exact(2) {
            sum += u32::from(u16::from_be_bytes([c[0], c[1]]));
        }
    };
    for a in [src, dst] {
        match a {
            IpAddress::Ipv4(a) => add(&a.octets()),
            IpAddress::Ipv6(a) => add(&a.octets()),
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// An empty frame for an IP packet: headers in place, the payload zero.
pub fn ip_frame(src: EthernetAddress, dst: EthernetAddress, ip: &IpRepr) -> Vec<u8> {
    let mut f = vec![0; VNET + ETHERNET + ip.buffer_len()];
    let mut eth = EthernetFrame::new_unchecked(&mut f[VNET..]);
    eth.set_src_addr(src);
    eth.set_dst_addr(dst);
    eth.set_ethertype(match ip {
        IpRepr::Ipv4(_) => EthernetProtocol::Ipv4,
        IpRepr::Ipv6(_) => EthernetProtocol::Ipv6,
    });
    ip.emit(&mut f[VNET + ETHERNET..], &ip_header_only());
    f
}

/// A TCP segment; `cut`: size of the pieces that the device makes of it.
pub fn tcp_frame(
    src: EthernetAddress,
    dst: EthernetAddress,
    ip: &IpRepr,
    tcp: &TcpRepr<'_>,
    cut: Option<u16>,
) -> Vec<u8> {
    let mut f = ip_frame(src, dst, ip);
    let at = VNET + ETHERNET + ip.header_len();
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    let mut p = TcpPacket::new_unchecked(&mut f[at..]);
    tcp.emit(&mut p, &from, &to, &ip_header_only());
    p.set_checksum(pseudo(from, to, IpProtocol::Tcp.into(), tcp.buffer_len()));
    let start = (ETHERNET + ip.header_len()) as u16;
    f[0] = NEEDS_CSUM;
    f[6..8].copy_from_slice(&start.to_le_bytes());
    f[8..10].copy_from_slice(&TCP_CHECKSUM.to_le_bytes());
    if let Some(size) = cut {
        f[1] = match ip {
            IpRepr::Ipv4(_) => GSO_TCPV4,
            IpRepr::Ipv6(_) => GSO_TCPV6,
        };
        f[2..4].copy_from_slice(&(start + tcp.header_len() as u16).to_le_bytes());
        f[4..6].copy_from_slice(&size.to_le_bytes());
    }
    f
}

/// Names the neighbour that a finished frame goes to.
pub fn set_destination(frame: &mut [u8], mac: EthernetAddress) {
    frame[VNET..VNET + 6].copy_from_slice(&mac.0);
}
