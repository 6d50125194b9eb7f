//! Control messages of datagrams: what a receiver asks to be told of each, and what a sender asks for
//! (net/ipv4/ip_sockglue.c, net/ipv6/datagram.c, net/ipv4/udp.c).

use super::inet::Addr;
use super::sockopt::Extra;
use ftl_core::errno::Errno;
use ftl_core::socket::{Control, num};

const SOL_IP: i32 = 0;
const SOL_UDP: i32 = 17;
const SOL_IPV6: i32 = 41;
const IP_TOS: i32 = 1;
const IP_TTL: i32 = 2;
const IP_PKTINFO: i32 = 8;
const IP_RECVTTL: i32 = 12;
const IP_RECVTOS: i32 = 13;
const IPV6_UNICAST_HOPS: i32 = 16;
const IPV6_RECVPKTINFO: i32 = 49;
const IPV6_PKTINFO: i32 = 50;
const IPV6_RECVHOPLIMIT: i32 = 51;
const IPV6_HOPLIMIT: i32 = 52;
const IPV6_RECVTCLASS: i32 = 66;
const IPV6_TCLASS: i32 = 67;
const UDP_SEGMENT: i32 = 103;
/// UDP_MAX_SEGMENTS
const MOST_SEGMENTS: usize = 128;
/// Bytes of struct cmsghdr.
const HEAD: usize = 16;

/// What a datagram's receiver can be told about its way.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Where it was sent to.
    pub to: Addr,
    /// Number of the interface that it came by.
    pub interface: u32,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
}

/// What goes with a received datagram.
pub enum About {
    /// The host's messages.
    Told(Vec<Control>),
    /// It came from inside: what is told follows from the options at the time of the receive.
    Known(Facts),
}

impl About {
    /// The messages for a socket with these options.
    pub fn messages(&self, extra: &Extra) -> Vec<Control> {
        let f = match self {
            About::Told(messages) => return messages.clone(),
            About::Known(f) => f,
        };
        let on = |level, name| extra.int(level, name).is_some_and(|v| v != 0);
        let mut out = Vec::new();
        let mut add = |level, kind, data: Vec<u8>| out.push(Control { level, kind, data });
        let number = |n: u8| i32::from(n).to_le_bytes().to_vec();
        if on(SOL_IPV6, IPV6_RECVPKTINFO) {
            add(
                SOL_IPV6,
                IPV6_PKTINFO,
                [&f.to.ip[..], &f.interface.to_le_bytes()].concat(),
            );
        }
        if f.to.is_v4() {
            if on(SOL_IP, IP_PKTINFO) {
                let to = &f.to.ip[12..];
                add(SOL_IP, IP_PKTINFO, [&f.interface.to_le_bytes(), to, to].concat());
            }
            if on(SOL_IP, IP_RECVTTL) {
                add(SOL_IP, IP_TTL, number(f.ttl));
            }
            if on(SOL_IP, IP_RECVTOS) {
                add(SOL_IP, IP_TOS, vec![f.tos]);
            }
        } else {
            if on(SOL_IPV6, IPV6_RECVHOPLIMIT) {
                add(SOL_IPV6, IPV6_HOPLIMIT, number(f.ttl));
            }
            if on(SOL_IPV6, IPV6_RECVTCLASS) {
                add(SOL_IPV6, IPV6_TCLASS, number(f.tos));
            }
        }
        out
    }
}

/// What a sender asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// Source address, IPv4-mapped for IPv4; none: the socket's.
    pub source: Option<[u8; 16]>,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Bytes of each datagram that the data are cut into; 0: one datagram.
    segment: usize,
}

impl Wishes {
    /// The socket's options, and over them what a send's messages say. EINVAL: one that is not known or has
    /// a wrong value.
    pub fn of(extra: &Extra, to: &Addr, control: &[Control]) -> Result<Wishes, Errno> {
        let v4 = to.is_v4();
        let (level, ttl, tos) = if v4 {
            (SOL_IP, IP_TTL, IP_TOS)
        } else {
            (SOL_IPV6, IPV6_UNICAST_HOPS, IPV6_TCLASS)
        };
        let set = |level, name, most: i32| extra.int(level, name).filter(|v| (0..=most).contains(v));
        let mut w = Wishes {
            source: None,
            ttl: set(level, ttl, 255).filter(|v| *v > 0).unwrap_or(64) as u8,
            tos: set(level, tos, 255).unwrap_or(0) as u8,
            segment: set(SOL_UDP, UDP_SEGMENT, 65535).unwrap_or(0) as usize,
        };
        for c in control {
            let number = || {
                let v: Result<[u8; 4], _> = c.data[..].try_into();
                v.map(i32::from_le_bytes).map_err(|_| Errno::EINVAL)
            };
            let byte = |n: i32| u8::try_from(n).map_err(|_| Errno::EINVAL);
            match (c.level, c.kind) {
                (SOL_IP, IP_PKTINFO) if v4 && c.data.len() == 12 => {
                    let mut ip = Addr::any(num::AF_INET).ip;
                    ip[12..].copy_from_slice(&c.data[4..8]);
                    w.come_from(ip);
                }
                (SOL_IP, IP_TTL) if v4 => {
                    w.ttl = byte(number()?)?;
                    if w.ttl == 0 {
                        return Err(Errno::EINVAL);
                    }
                }
                (SOL_IP, IP_TOS) if v4 && c.data.len() == 1 => w.tos = c.data[0],
                (SOL_IP, IP_TOS) if v4 => w.tos = byte(number()?)?,
                (SOL_IPV6, IPV6_PKTINFO) if c.data.len() == 20 => {
                    w.come_from(std::array::from_fn(|i| c.data[i]));
                }
                (SOL_IPV6, IPV6_HOPLIMIT) if !v4 => match number()? {
                    -1 => {}
                    n => w.ttl = byte(n)?,
                },
                (SOL_IPV6, IPV6_TCLASS) if !v4 => match number()? {
                    -1 => w.tos = 0,
                    n => w.tos = byte(n)?,
                },
                (SOL_UDP, UDP_SEGMENT) => {
                    let v: Result<[u8; 2], _> = c.data[..].try_into();
                    w.segment = v.map(u16::from_le_bytes).map_err(|_| Errno::EINVAL)?.into();
                }
                (SOL_IP, _) if v4 => return Err(Errno::EINVAL),
                (SOL_IPV6, _) if !v4 => return Err(Errno::EINVAL),
                // What UNIX sockets pass is ignored by others (sock_cmsg_send).
                (num::SOL_SOCKET, num::SCM_RIGHTS | num::SCM_CREDENTIALS) => {}
                (num::SOL_SOCKET | SOL_UDP, _) => return Err(Errno::EINVAL),
                _ => {}
            }
        }
        Ok(w)
    }

    fn come_from(&mut self, ip: [u8; 16]) {
        let a = Addr { ip, port: 0 };
        self.source = (!a.is_any()).then_some(ip);
    }

    /// The datagrams that `data` becomes. EINVAL: more than Linux sends at once.
    pub fn datagrams(&self, data: Vec<u8>) -> Result<Vec<Vec<u8>>, Errno> {
        if self.segment == 0 || data.len() <= self.segment {
            return Ok(vec![data]);
        }
        if data.len() > self.segment * MOST_SEGMENTS {
            return Err(Errno::EINVAL);
        }
        Ok(data.chunks(self.segment).map(<[u8]>::to_vec).collect())
    }
}

/// Kinds that pass between a program and the host; no other reaches either.
fn passes(level: i32, kind: i32) -> bool {
    match level {
        SOL_IP => [IP_TOS, IP_TTL, IP_PKTINFO].contains(&kind),
        SOL_IPV6 => [IPV6_PKTINFO, IPV6_HOPLIMIT, IPV6_TCLASS].contains(&kind),
        SOL_UDP => kind == UDP_SEGMENT,
        _ => false,
    }
}

/// Control messages for the host, as a buffer of Linux' form.
pub fn to_bytes(control: &[Control]) -> Vec<u8> {
    let mut out = Vec::new();
    for c in control.iter().filter(|c| passes(c.level, c.kind)) {
        out.extend_from_slice(&((HEAD + c.data.len()) as u64).to_le_bytes());
        out.extend_from_slice(&c.level.to_le_bytes());
        out.extend_from_slice(&c.kind.to_le_bytes());
        out.extend_from_slice(&c.data);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

/// The messages in such a buffer that a program may have asked for; what is no message ends them.
pub fn from_bytes(mut raw: &[u8]) -> Vec<Control> {
    let mut out = Vec::new();
    while let Some((head, rest)) = raw.split_first_chunk::<HEAD>() {
        let word = |at: usize| i32::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let len = u64::from_le_bytes(std::array::from_fn(|i| head[i])) as usize;
        let Some(data) = len.checked_sub(HEAD).and_then(|n| rest.get(..n)) else {
            break;
        };
        let (level, kind) = (word(8), word(12));
        if passes(level, kind) {
            let data = data.to_vec();
            out.push(Control { level, kind, data });
        }
        raw = rest.get(len.next_multiple_of(8) - HEAD..).unwrap_or(&[]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_their_buffer_and_garbage_ends_it() {
        let messages = vec![
            Control {
                level: SOL_IP,
                kind: IP_TOS,
                data: vec![7],
            },
            Control {
                level: SOL_IPV6,
                kind: IPV6_PKTINFO,
                data: vec![3; 20],
            },
        ];
        let raw = to_bytes(&messages);
        assert_eq!(from_bytes(&raw), messages);
        assert_eq!(from_bytes(&raw[..raw.len() - 5]), messages[..1]);
        assert!(from_bytes(&[0xff; 64]).is_empty());
        assert!(from_bytes(&[0; 64]).is_empty());
        let foreign = Control {
            level: num::SOL_SOCKET,
            kind: num::SCM_RIGHTS,
            data: vec![0; 4],
        };
        assert!(to_bytes(&[foreign]).is_empty());
        let mut huge = raw;
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(from_bytes(&huge).is_empty());
    }
}
