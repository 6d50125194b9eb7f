//! socket(2) for everything but AF_UNIX: internet sockets (a device behind the doors, or the
//! image's own loopback) and route netlink.

use super::inet_tcp::Tcp;
use super::inet_udp::Udp;
use super::netlink::Netlink;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};
use ftl_core::platform::Stat;
use ftl_core::socket::num;

/// IPPROTO_ICMP
const IPPROTO_ICMP: i32 = 1;
/// IPPROTO_TCP
pub const IPPROTO_TCP: i32 = 6;
/// IPPROTO_UDP
pub const IPPROTO_UDP: i32 = 17;
/// IPPROTO_ICMPV6
const IPPROTO_ICMPV6: i32 = 58;
/// NETLINK_ROUTE
const NETLINK_ROUTE: i32 = 0;

/// A socket of a domain other than AF_UNIX.
pub fn create(cx: &mut Cx<'_>, domain: i32, kind: i32, protocol: i32) -> Io<FileRef> {
    match domain {
        num::AF_INET | num::AF_INET6 => internet(cx, domain, kind, protocol),
        num::AF_NETLINK => netlink(cx, kind, protocol),
        // Packet, CAN, Bluetooth...: as a kernel built without them.
        _ => err(Errno::EAFNOSUPPORT),
    }
}

fn internet(cx: &mut Cx<'_>, domain: i32, kind: i32, protocol: i32) -> Io<FileRef> {
    let inet = cx.k.inet.clone();
    match (kind, protocol) {
        (num::SOCK_STREAM, 0 | IPPROTO_TCP) => Ok(Tcp::create(&mut cx.env, &inet, domain)?),
        (num::SOCK_DGRAM, 0 | IPPROTO_UDP) => Ok(Udp::create(&mut cx.env, &inet, domain, IPPROTO_UDP)?),
        (num::SOCK_DGRAM, IPPROTO_ICMP | IPPROTO_ICMPV6) => {
            // ping sockets: the host's net.ipv4.ping_group_range decides.
            if !inet.host(&mut cx.env) {
                return err(Errno::EACCES);
            }
            Ok(Udp::create(&mut cx.env, &inet, domain, protocol)?)
        }
        (num::SOCK_STREAM | num::SOCK_DGRAM, _) => err(Errno::EPROTONOSUPPORT),
        (num::SOCK_RAW, _) => err(Errno::EPERM),
        _ => err(Errno::ESOCKTNOSUPPORT),
    }
}

fn netlink(cx: &mut Cx<'_>, kind: i32, protocol: i32) -> Io<FileRef> {
    if kind != num::SOCK_RAW && kind != num::SOCK_DGRAM {
        return err(Errno::ESOCKTNOSUPPORT);
    }
    if protocol != NETLINK_ROUTE {
        return err(Errno::EPROTONOSUPPORT);
    }
    let inet = cx.k.inet.clone();
    let pid = cx.task.process().pid.0;
    Ok(Netlink::create(&inet, kind, pid))
}

/// The name of a socket that has none: its family and zeroes.
pub fn zero_name(domain: i32) -> Vec<u8> {
    super::inet::Addr { ip: [0; 16], port: 0 }.to_bytes(domain)
}

/// fstat(2) of a socket.
pub fn socket_stat(ino: u64) -> Stat {
    Stat {
        dev: 8,
        ino,
        mode: 0o140_777,
        nlink: 1,
        blksize: 4096,
        ..Stat::default()
    }
}
