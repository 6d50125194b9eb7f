//! Options of internet sockets beyond those that every socket has.
//!
//! What a program sets is passed to the host socket; what it asks is answered from the image where
//! the answer is known to stay as it is, and by a query otherwise.

use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Handle;
use ftl_core::socket::{Base, num, so};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

const SOL_IP: i32 = 0;
const SOL_TCP: i32 = 6;
const SOL_UDP: i32 = 17;
const SOL_IPV6: i32 = 41;

/// TCP_MAXSEG
pub const TCP_MAXSEG: i32 = 2;
/// TCP_INFO
pub const TCP_INFO: i32 = 11;
const TCP_QUICKACK: i32 = 12;
const TCP_CONGESTION: i32 = 13;
const TCP_REPAIR: i32 = 19;
const TCP_CC_INFO: i32 = 26;
const TCP_ZEROCOPY_RECEIVE: i32 = 35;

const UDP_ENCAP: i32 = 100;
const UDP_SEGMENT: i32 = 103;
/// Datagrams would come joined, and only a control message says where they end.
const UDP_GRO: i32 = 104;
const IP_MTU: i32 = 14;
const IP_RECVERR: i32 = 11;
const IP_TRANSPARENT: i32 = 19;
const IPV6_V6ONLY: i32 = 26;
const IPV6_MTU: i32 = 24;
const IPV6_RECVERR: i32 = 25;

/// Options that make the kernel add control messages to what is received, which the device does
/// not carry: IP_RECVOPTS, IP_RETOPTS, IP_PASSSEC, IP_RECVORIGDSTADDR...
const IP_ANCILLARY: &[i32] = &[6, 18, 20, 23, 25];
/// The same of IPv6: 2292 ones, RECVHOPOPTS, RECVRTHDR, RECVDSTOPTS...
const IPV6_ANCILLARY: &[i32] = &[2, 3, 4, 5, 8, 53, 54, 56, 74, 77];
/// Options whose value holds a pointer, or that move descriptors: SO_ATTACH_FILTER, BPF...
const SOCKET_REFUSED: &[i32] = &[25, 26, 27, 50, 51, 52, 60];

/// What was set or learned, by level and name.
#[derive(Debug, Default)]
pub struct Extra {
    known: RefCell<BTreeMap<(i32, i32), Vec<u8>>>,
    v6only: Cell<bool>,
}

fn refused(level: i32, name: i32) -> bool {
    match level {
        num::SOL_SOCKET => SOCKET_REFUSED.contains(&name),
        SOL_IP => IP_ANCILLARY.contains(&name) || name == IP_TRANSPARENT,
        SOL_IPV6 => IPV6_ANCILLARY.contains(&name),
        SOL_TCP => name == TCP_ZEROCOPY_RECEIVE || name == TCP_REPAIR,
        SOL_UDP => [UDP_ENCAP, UDP_GRO].contains(&name),
        _ => true,
    }
}

/// Kept here only: the host's error queue is not shown, and its errors come as SO_ERROR anyway.
fn stays_here(level: i32, name: i32) -> bool {
    (level, name) == (SOL_IP, IP_RECVERR) || (level, name) == (SOL_IPV6, IPV6_RECVERR)
}

/// What getsockopt gives after this was set, where that is known without asking.
fn plain(base: &Base, level: i32, name: i32, value: &[u8]) -> Option<Vec<u8>> {
    const TCP_NODELAY: i32 = 1;
    const TCP_CORK: i32 = 3;
    const TCP_KEEPIDLE: i32 = 4;
    const TCP_KEEPINTVL: i32 = 5;
    const TCP_KEEPCNT: i32 = 6;
    const TCP_USER_TIMEOUT: i32 = 18;
    let value: [u8; 4] = match value {
        [one] => [*one, 0, 0, 0],
        _ => value.get(..4)?.try_into().ok()?,
    };
    let number = i32::from_le_bytes(value);
    match (level, name) {
        // PKTINFO, RECVTTL, RECVTOS; RECVPKTINFO, RECVHOPLIMIT, RECVTCLASS
        (SOL_IP, 8 | 12 | 13) | (SOL_IPV6, 49 | 51 | 66) => Some(vec![u8::from(number != 0), 0, 0, 0]),
        (SOL_UDP, UDP_SEGMENT) if (0..=65535).contains(&number) => Some(value.to_vec()),
        // TTL, UNICAST_HOPS
        (SOL_IP, 2) | (SOL_IPV6, 16) if (1..=255).contains(&number) => Some(value.to_vec()),
        // TOS, TCLASS: of a stream the kernel keeps some bits
        (SOL_IP, 1) | (SOL_IPV6, 67) if base.kind == num::SOCK_DGRAM && (0..=255).contains(&number) => {
            Some(value.to_vec())
        }
        (SOL_TCP, TCP_NODELAY | TCP_CORK) => Some(vec![u8::from(value != [0; 4]), 0, 0, 0]),
        (SOL_TCP, TCP_KEEPIDLE | TCP_KEEPINTVL | TCP_KEEPCNT | TCP_USER_TIMEOUT) => Some(value.to_vec()),
        _ => None,
    }
}

/// The answer can change by itself.
fn changes(level: i32, name: i32) -> bool {
    match level {
        SOL_TCP => [TCP_INFO, TCP_CC_INFO, TCP_MAXSEG, TCP_QUICKACK].contains(&name),
        SOL_IP => name == IP_MTU,
        SOL_IPV6 => name == IPV6_MTU,
        num::SOL_SOCKET => true,
        _ => false,
    }
}

impl Extra {
    /// setsockopt(2)
    pub fn set(
        &self,
        env: &mut Env<'_>,
        h: Option<Handle>,
        base: &Base,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Io<()> {
        if refused(level, name) {
            return err(Errno::ENOPROTOOPT);
        }
        if (level == SOL_IPV6 && base.domain != num::AF_INET6)
            || (level == SOL_TCP && base.kind != num::SOCK_STREAM)
            || (level == SOL_UDP && base.kind != num::SOCK_DGRAM)
        {
            return err(if level == SOL_IPV6 {
                Errno::ENOPROTOOPT
            } else {
                Errno::EOPNOTSUPP
            });
        }
        match h {
            Some(h) if !stays_here(level, name) => {
                env.plat.net_set_option(h, level, name, value)?;
                let mut known = self.known.borrow_mut();
                match plain(base, level, name, value) {
                    Some(v) => known.insert((level, name), v),
                    // The next question gets the host's form of it (clamped, doubled).
                    None => known.remove(&(level, name)),
                };
            }
            _ => {
                if h.is_none() && !local_default(level, name) {
                    return err(Errno::ENOPROTOOPT);
                }
                let mut v = value[..value.len().min(64)].to_vec();
                if v.len() == 1 {
                    v.resize(4, 0);
                }
                let v = plain(base, level, name, &v).unwrap_or(v);
                self.known.borrow_mut().insert((level, name), v);
            }
        }
        if (level, name) == (SOL_IPV6, IPV6_V6ONLY) {
            self.v6only.set(value.first().is_some_and(|v| *v != 0));
        }
        Ok(())
    }

    /// getsockopt(2)
    pub fn get(
        &self,
        env: &mut Env<'_>,
        h: Option<Handle>,
        base: &Base,
        level: i32,
        name: i32,
        len: usize,
    ) -> Io<Vec<u8>> {
        if let Some(v) = self.known.borrow().get(&(level, name)) {
            return Ok(v[..v.len().min(len)].to_vec());
        }
        if ![num::SOL_SOCKET, SOL_IP, SOL_TCP, SOL_UDP, SOL_IPV6].contains(&level) {
            return err(Errno::EOPNOTSUPP);
        }
        if refused(level, name) {
            return err(Errno::ENOPROTOOPT);
        }
        if level == SOL_TCP && base.kind != num::SOCK_STREAM {
            return err(Errno::EOPNOTSUPP);
        }
        if stays_here(level, name) {
            return Ok(vec![0; len.min(4)]);
        }
        let Some(h) = h else {
            return if (level, name) == (SOL_TCP, TCP_CONGESTION) {
                Ok(b"cubic\0\0\0\0\0\0\0\0\0\0\0"[..len.min(16)].to_vec())
            } else if (level, name) == (SOL_TCP, TCP_MAXSEG) {
                Ok(536i32.to_le_bytes()[..len.min(4)].to_vec())
            } else if local_default(level, name) {
                Ok(unset(level, name).to_le_bytes()[..len.min(4)].to_vec())
            } else {
                err(Errno::ENOPROTOOPT)
            };
        };
        let v = env.plat.net_get_option(h, level, name, len.min(4096))?;
        if !changes(level, name) && v.len() == 4 {
            self.known.borrow_mut().insert((level, name), v.clone());
        }
        Ok(v)
    }

    /// The value of an option that was set, if it is a number.
    pub fn int(&self, level: i32, name: i32) -> Option<i32> {
        let known = self.known.borrow();
        let v: [u8; 4] = known.get(&(level, name))?.get(..4)?.try_into().ok()?;
        Some(i32::from_le_bytes(v))
    }

    /// IPV6_V6ONLY as far as it was set; off by default (net.ipv6.bindv6only).
    pub fn v6only(&self) -> bool {
        self.v6only.get()
    }

    /// What an accepted connection has from its listener.
    pub fn inherit(&self, from: &Extra) {
        *self.known.borrow_mut() = from.known.borrow().clone();
    }
}

/// Options that the image's own loopback keeps without any effect.
fn local_default(level: i32, name: i32) -> bool {
    match level {
        // NODELAY..USER_TIMEOUT, FASTOPEN, NOTSENT_LOWAT
        SOL_TCP => (1..=18).contains(&name) && name != TCP_INFO || [23, 25].contains(&name),
        SOL_UDP => name == UDP_SEGMENT,
        // TOS, TTL, PKTINFO, MTU_DISCOVER, RECVTTL, RECVTOS, RECVERR, multicast, FREEBIND
        SOL_IP => [1, 2, 8, 10, 11, 12, 13, 15, 32, 33, 34, 35, 36].contains(&name),
        // UNICAST_HOPS, multicast, V6ONLY, MTU_DISCOVER, RECVPKTINFO, RECVHOPLIMIT, RECVTCLASS, TCLASS
        SOL_IPV6 => [16, 17, 18, 19, 20, 21, 23, 25, IPV6_V6ONLY, 49, 51, 66, 67].contains(&name),
        _ => false,
    }
}

/// What getsockopt gives of an option that nobody has set: Linux' defaults.
fn unset(level: i32, name: i32) -> i32 {
    match (level, name) {
        // KEEPIDLE, KEEPINTVL, KEEPCNT, SYNCNT, LINGER2
        (SOL_TCP, 4) => 7200,
        (SOL_TCP, 5) => 75,
        (SOL_TCP, 6) => 9,
        (SOL_TCP, 7) => 6,
        (SOL_TCP, 8) => 60,
        // QUICKACK
        (SOL_TCP, 12) => 1,
        // IP_TTL, UNICAST_HOPS; MTU_DISCOVER: WANT
        (SOL_IP, 2) | (SOL_IPV6, 16) => 64,
        (SOL_IP, 10) | (SOL_IPV6, 23) => 1,
        _ => 0,
    }
}

/// One of the options that every socket has was set: tell the host socket what concerns it. The
/// image has checked the value, and the guest's answer does not depend on the host's.
pub fn generic_changed(env: &mut Env<'_>, h: Option<Handle>, base: &Base, name: i32) {
    let Some(h) = h else { return };
    let o = &base.options;
    let flag = |c: &std::cell::Cell<bool>| i32::from(c.get()).to_le_bytes().to_vec();
    let value = match name {
        so::REUSEADDR => flag(&o.reuse_addr),
        so::REUSEPORT => flag(&o.reuse_port),
        so::KEEPALIVE => flag(&o.keep_alive),
        so::BROADCAST => flag(&o.broadcast),
        so::DONTROUTE => flag(&o.dont_route),
        so::OOBINLINE => flag(&o.oob_inline),
        so::PRIORITY => o.priority.get().to_le_bytes().to_vec(),
        // Set from the doubled value that is shown.
        so::SNDBUF | so::SNDBUFFORCE => (o.snd_buf.get() / 2).to_le_bytes().to_vec(),
        so::RCVBUF | so::RCVBUFFORCE => (o.rcv_buf.get() / 2).to_le_bytes().to_vec(),
        so::LINGER => {
            let (on, secs) = o.linger.get();
            [i32::from(on).to_le_bytes(), secs.to_le_bytes()].concat()
        }
        _ => return,
    };
    let name = match name {
        so::SNDBUFFORCE => so::SNDBUF,
        so::RCVBUFFORCE => so::RCVBUF,
        n => n,
    };
    let _ = env.plat.net_set_option(h, num::SOL_SOCKET, name, &value);
}
