//! The few rtnetlink requests (rtnetlink(7)) that make a network. Each acts in the calling thread's namespace.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// NLM_F_CREATE | NLM_F_EXCL
const NEW: u16 = 0x600;
/// NLM_F_CREATE | NLM_F_REPLACE
const SET: u16 = 0x500;
const NLMSG_ERROR: u16 = 2;
const HEADER: usize = 16;

const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const IFF_UP: u32 = 1;

/// A request under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Message {
        let mut m = vec![0; HEADER];
        m[4..6].copy_from_slice(&kind.to_ne_bytes());
        m[6..8].copy_from_slice(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        Message(m)
    }

    /// struct ifinfomsg
    fn link(&mut self, index: u32, flags: u32, change: u32) {
        self.0.extend([0; 4]);
        for word in [index, flags, change] {
            self.0.extend(word.to_ne_bytes());
        }
    }

    fn attribute(&mut self, kind: u16, data: &[u8]) {
        self.nest(kind, |m| m.0.extend_from_slice(data));
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.nest(kind, |m| {
            m.0.extend(text.as_bytes());
            m.0.push(0);
        });
    }

    fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Message)) {
        let at = self.0.len();
        self.0.extend([0; 4]);
        inner(self);
        let len = (self.0.len() - at) as u16;
        self.0[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self.0[at + 2..at + 4].copy_from_slice(&kind.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn send(mut self) -> io::Result<()> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let mut answer = [0u8; 1024];
        // SAFETY: a new descriptor is owned at once; the buffers are valid for the calls.
        let n = unsafe {
            let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = OwnedFd::from_raw_fd(fd);
            if libc::send(fd.as_raw_fd(), self.0.as_ptr().cast(), self.0.len(), 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::recv(fd.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        if (n as usize) < HEADER + 4 || u16::from_ne_bytes([answer[4], answer[5]]) != NLMSG_ERROR {
            return Err(io::Error::other("rtnetlink gave no answer"));
        }
        match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
            0 => Ok(()),
            e => Err(io::Error::from_raw_os_error(-e)),
        }
    }
}

/// Index of an interface.
pub fn index(name: &str) -> io::Result<u32> {
    let text = std::ffi::CString::new(name).map_err(io::Error::other)?;
    // SAFETY: a valid string.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        n => Ok(n),
    }
}

/// A bridge.
pub fn bridge(name: &str) -> io::Result<()> {
    let mut m = Message::new(RTM_NEWLINK, NEW);
    m.link(0, 0, 0);
    m.text(IFLA_IFNAME, name);
    m.nest(IFLA_LINKINFO, |m| m.text(IFLA_INFO_KIND, "bridge"));
    m.send()
}

/// A pair of interfaces; each end in a namespace, the caller's for `None`.
pub fn veth(ends: [(&str, Option<BorrowedFd>); 2]) -> io::Result<()> {
    let end = |m: &mut Message, (name, place): (&str, Option<BorrowedFd>)| {
        m.text(IFLA_IFNAME, name);
        if let Some(fd) = place {
            m.attribute(IFLA_NET_NS_FD, &fd.as_raw_fd().to_ne_bytes());
        }
    };
    let mut m = Message::new(RTM_NEWLINK, NEW);
    m.link(0, 0, 0);
    end(&mut m, ends[0]);
    m.nest(IFLA_LINKINFO, |m| {
        m.text(IFLA_INFO_KIND, "veth");
        m.nest(IFLA_INFO_DATA, |m| {
            m.nest(VETH_INFO_PEER, |m| {
                m.link(0, 0, 0);
                end(m, ends[1]);
            });
        });
    });
    m.send()
}

/// Makes an interface a port of a bridge.
pub fn enslave(name: &str, bridge: &str) -> io::Result<()> {
    let mut m = Message::new(RTM_NEWLINK, 0);
    m.link(index(name)?, 0, 0);
    m.attribute(IFLA_MASTER, &index(bridge)?.to_ne_bytes());
    m.send()
}

/// Sets an interface up or down.
pub fn set_up(name: &str, up: bool) -> io::Result<()> {
    let mut m = Message::new(RTM_NEWLINK, 0);
    m.link(index(name)?, if up { IFF_UP } else { 0 }, IFF_UP);
    m.send()
}

/// Gives an interface an address.
pub fn address(name: &str, ip: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut m = Message::new(RTM_NEWADDR, NEW);
    // struct ifaddrmsg
    m.0.extend([libc::AF_INET as u8, prefix, 0, 0]);
    m.0.extend(index(name)?.to_ne_bytes());
    m.attribute(IFA_LOCAL, &ip.octets());
    m.attribute(IFA_ADDRESS, &ip.octets());
    m.send()
}

/// Sets the link-layer address of a neighbour for good, or forgets it: then it is asked for again.
pub fn neighbour(name: &str, ip: Ipv4Addr, mac: Option<[u8; 6]>) -> io::Result<()> {
    let mut m = match mac {
        Some(_) => Message::new(RTM_NEWNEIGH, SET),
        None => Message::new(RTM_DELNEIGH, 0),
    };
    // struct ndmsg
    m.0.extend([libc::AF_INET as u8, 0, 0, 0]);
    m.0.extend(index(name)?.to_ne_bytes());
    m.0.extend(NUD_PERMANENT.to_ne_bytes());
    m.0.extend([0; 2]);
    m.attribute(NDA_DST, &ip.octets());
    if let Some(mac) = mac {
        m.attribute(NDA_LLADDR, &mac);
    }
    m.send()
}
