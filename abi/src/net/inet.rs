//! What internet sockets share: addresses, the port table of the image's own loopback, and whether
//! there is a host network at all.

use super::inet_tcp::Tcp;
use super::inet_udp::Udp;
use super::loopback::Ports;
use super::own::Own;
use ftl_core::errno::Errno;
use ftl_core::kcore::{Core, Env};
use ftl_core::platform::Platform;
use ftl_core::socket::num;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// sizeof(struct sockaddr_in), sizeof(struct sockaddr_in6).
pub const SOCKADDR_IN: usize = 16;
/// See [`SOCKADDR_IN`].
pub const SOCKADDR_IN6: usize = 28;
/// SIN6_LEN_RFC2133: without the scope id.
const SOCKADDR_IN6_MIN: usize = 24;

/// An internet address and port. IPv4 addresses are kept as IPv4-mapped IPv6 ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Addr {
    /// Address.
    pub ip: [u8; 16],
    /// Port.
    pub port: u16,
}

const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Addr {
    /// 0.0.0.0 or ::, port 0.
    pub fn any(domain: i32) -> Addr {
        let mut ip = [0; 16];
        if domain == num::AF_INET {
            ip[..12].copy_from_slice(&MAPPED);
        }
        Addr { ip, port: 0 }
    }

    /// Reads a sockaddr for a socket of `domain`: EINVAL if short, EAFNOSUPPORT for another family.
    pub fn parse(domain: i32, bytes: &[u8]) -> Result<Addr, Errno> {
        let (Some(f), min) = (
            family(bytes),
            if domain == num::AF_INET {
                SOCKADDR_IN
            } else {
                SOCKADDR_IN6_MIN
            },
        ) else {
            return Err(Errno::EINVAL);
        };
        let v4_on_v6 = domain == num::AF_INET6 && f == num::AF_INET;
        if bytes.len() < min && !(v4_on_v6 && bytes.len() >= SOCKADDR_IN) {
            return Err(Errno::EINVAL);
        }
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        let mut ip = [0; 16];
        match f {
            num::AF_INET => {
                ip[..12].copy_from_slice(&MAPPED);
                ip[12..].copy_from_slice(&bytes[4..8]);
            }
            num::AF_INET6 if domain == num::AF_INET6 => ip.copy_from_slice(&bytes[8..24]),
            _ => return Err(Errno::EAFNOSUPPORT),
        }
        Ok(Addr { ip, port })
    }

    /// As a sockaddr of `domain`.
    pub fn to_bytes(self, domain: i32) -> Vec<u8> {
        let mut out = Vec::with_capacity(SOCKADDR_IN6);
        out.extend_from_slice(&(domain as u16).to_le_bytes());
        out.extend_from_slice(&self.port.to_be_bytes());
        if domain == num::AF_INET {
            out.extend_from_slice(&self.ip[12..]);
            out.resize(SOCKADDR_IN, 0);
        } else {
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&self.ip);
            out.resize(SOCKADDR_IN6, 0);
        }
        out
    }

    /// 0.0.0.0 or ::
    pub fn is_any(&self) -> bool {
        self.ip == [0; 16] || (self.ip[..12] == MAPPED && self.ip[12..] == [0; 4])
    }

    /// 127.0.0.0/8 or ::1
    pub fn is_loopback(&self) -> bool {
        let v6 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        self.ip == v6 || (self.ip[..12] == MAPPED && self.ip[12] == 127)
    }

    /// The address that what is sent here comes from, where the sender has none of its own and this is an address
    /// of the image: the loopback's routes say 127.0.0.1 for all of 127.0.0.0/8, others say the address itself.
    pub fn source_inside(&self) -> [u8; 16] {
        let mut ip = self.ip;
        if self.is_v4() && self.is_loopback() {
            ip[12..].copy_from_slice(&[127, 0, 0, 1]);
        }
        ip
    }

    /// The address that a connect to it reaches: "any" means the loopback.
    pub fn reached(self) -> Addr {
        if !self.is_any() {
            return self;
        }
        let mut ip = self.ip;
        if ip[..12] == MAPPED {
            ip[12..].copy_from_slice(&[127, 0, 0, 1]);
        } else {
            ip[15] = 1;
        }
        Addr { ip, port: self.port }
    }

    /// IPv4.
    pub fn is_v4(&self) -> bool {
        self.ip[..12] == MAPPED
    }

    /// Can a packet to `to` reach a socket bound here? `v6only`: IPV6_V6ONLY of that socket.
    pub fn accepts(&self, to: &Addr, v6only: bool) -> bool {
        let family = self.is_v4() == to.is_v4() || (to.is_v4() && !v6only);
        self.port == to.port && (self.ip == to.ip || (self.is_any() && family))
    }
}

/// sa_family, if the bytes hold one.
pub fn family(bytes: &[u8]) -> Option<i32> {
    Some(i32::from(u16::from_le_bytes([*bytes.first()?, *bytes.get(1)?])))
}

/// The image's internet.
#[derive(Default)]
pub struct Inet {
    host: Cell<Option<bool>>,
    /// TCP sockets of the image's own loopback (`--net none`).
    pub tcp: Ports<Tcp>,
    /// Ports of closed connections inside the image.
    pub time_wait: super::loopback::TimeWait,
    clock: Option<&'static ftl_core::clock::Clock>,
    /// UDP sockets of the same.
    pub udp: Ports<Udp>,
    next_ino: Cell<u64>,
    netlink_used: Cell<u32>,
    /// Bytes on their way from a guest to the host.
    pub scratch: RefCell<Vec<u8>>,
    /// The image's own TCP/IP, if it has one.
    pub own: Option<Rc<Own>>,
}

impl Inet {
    /// The internet of an image that starts now; `net`: its own interface.
    pub fn start(core: &Core, net: Option<ftl_tcpip::Config>) -> Rc<Inet> {
        Rc::new_cyclic(|me| Inet {
            own: net.map(|c| Own::start(me, core, c)),
            clock: Some(core.clock),
            ..Inet::default()
        })
    }

    /// What the clock was last read as.
    pub fn now(&self) -> u64 {
        self.clock.map_or(0, |c| c.last())
    }

    /// An address inside the image: loopback, or one of its own interface.
    pub fn is_local(&self, a: &Addr) -> bool {
        a.is_loopback() || self.own.as_ref().is_some_and(|o| o.owns(a))
    }

    /// News and frames of the own stack that could not go at once.
    pub fn settle(&self, plat: &mut dyn Platform, core: &Core) {
        if let Some(own) = self.own.as_ref().filter(|o| o.pending()) {
            own.settle(&mut Env { plat, core });
        }
    }

    /// [`Inet::settle`] has something to do.
    pub fn pending(&self) -> bool {
        self.own.as_ref().is_some_and(|o| o.pending())
    }

    /// True under `--net host`. Asked once.
    pub fn host(&self, env: &mut Env<'_>) -> bool {
        if let Some(known) = self.host.get() {
            return known;
        }
        let there = env.plat.net_present();
        self.host.set(Some(there));
        there
    }

    /// A netlink port: the process' number for its first socket, unique ones from then on.
    pub fn netlink_port(&self, pid: u32) -> u32 {
        let n = self.netlink_used.get();
        self.netlink_used.set(n + 1);
        if n == 0 {
            pid
        } else {
            0xffff_f000_u32.wrapping_sub(n)
        }
    }

    /// An inode number for a new socket.
    pub fn new_ino(&self) -> u64 {
        let n = self.next_ino.get() + 1;
        self.next_ino.set(n);
        // Apart from those of UNIX sockets and pipes.
        0x1_0000_0000 + n
    }
}
