//! The device of an image with its own TCP/IP: a packet socket on a host interface, with the image's
//! own MAC address beside the host's, or the far end of a TAP device ([`super::wire`]).
//!
//! Frames carry a `virtio_net_hdr`: the host fills in checksums and cuts large segments where the link
//! needs it, and frames from programs on the same host come without checksums and up to 64 KiB large.
//! The image owns its addresses and the host does not, so the host's stack never answers for them: to
//! it our frames are another host's.

use super::sys;
use super::wire::{Program, Wire, tap};
use crate::sys::sys as call;
use ftl_core::errno::Errno;
use ftl_tcpip::Config;
use ftl_tcpip::respond::{Responder, announcements};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// `virtio_net_hdr`, Ethernet, the largest IP packet, and room to see that one was larger.
const FRAME: usize = 10 + 18 + 65_536;
/// Frames taken in one call.
const BATCH: usize = 16;
/// Frames taken before others get their turn.
const FAIR: usize = 256;
/// Frames sent in one call.
const SEND: usize = 32;
/// Frames that wait while the host has no room; more are lost.
const QUEUE: usize = 512;
/// Kernel buffers, bytes.
const KERNEL_BUF: i32 = 8 << 20;

const SOL_PACKET: i32 = 263;
const PACKET_ADD_MEMBERSHIP: i32 = 1;
const PACKET_VNET_HDR: i32 = 15;
const PACKET_IGNORE_OUTGOING: i32 = 23;
const PACKET_MR_MULTICAST: u16 = 0;
const PACKET_MR_PROMISC: u16 = 1;
const PACKET_MR_UNICAST: u16 = 3;
const ETH_P_ALL: u16 = 3;

/// What the device has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Frames in.
    pub received: u64,
    /// Frames out.
    pub sent: u64,
    /// Frames out that the host did not take.
    pub lost: u64,
}

/// See the module.
pub struct Nic {
    wire: Wire,
    scratch: Vec<u8>,
    queue: VecDeque<Vec<u8>>,
    /// The host had no room: its next edge says that it has.
    blocked: bool,
    /// More may be there than was taken.
    pub more: bool,
    /// Answers for an image whose own stack does not (`Config::answers`).
    pub responder: Option<Responder>,
    /// See [`Counts`].
    pub counts: Counts,
}

/// Number and MTU of an interface.
pub fn look_up(name: &str) -> Result<(i32, usize), String> {
    const SIOCGIFMTU: u64 = 0x8921;
    const SIOCGIFINDEX: u64 = 0x8933;
    let fd = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)
        .map_err(|e| format!("--net {name}: no socket to ask with: {}", e.name()))?;
    let ask = |cmd: u64| {
        let mut req = [0u8; 40];
        let n = name.len().min(15);
        req[..n].copy_from_slice(&name.as_bytes()[..n]);
        // SAFETY: these commands read and write one struct ifreq.
        unsafe { call!(libc::SYS_ioctl, fd.as_raw_fd(), cmd, req.as_mut_ptr()) }
            .map(|_| i32::from_le_bytes(std::array::from_fn(|i| req[16 + i])))
    };
    let missing =
        |_| format!("--net {name}: the host has no such interface; `ip link` lists those that it has");
    let index = ask(SIOCGIFINDEX).map_err(missing)?;
    let mtu = ask(SIOCGIFMTU).map_err(missing)?;
    Ok((index, mtu.max(0) as usize))
}

/// Only what is for us: our MAC; ARP to all; IPv6 groups (all nodes, solicited nodes).
fn filter(mac: [u8; 6]) -> [[u16; 4]; 15] {
    // Classic BPF: code, jt and jf in one, k in two halves; filled in below.
    const LD_W: u16 = 0x20;
    const LD_H: u16 = 0x28;
    const LD_B: u16 = 0x30;
    const JEQ: u16 = 0x15;
    const RET: u16 = 0x06;
    let op =
        |code: u16, jt: u8, jf: u8, k: u32| [code, u16::from_le_bytes([jt, jf]), k as u16, (k >> 16) as u16];
    let high = u32::from_be_bytes([mac[0], mac[1], mac[2], mac[3]]);
    let low = u32::from(u16::from_be_bytes([mac[4], mac[5]]));
    [
        op(LD_W, 0, 0, 0),
        op(JEQ, 0, 2, high),
        op(LD_H, 0, 0, 4),
        op(JEQ, 9, 10, low),
        // Broadcast: ARP, or IPv4 (a datagram to all).
        op(JEQ, 0, 3, 0xffff_ffff),
        op(LD_H, 0, 0, 12),
        op(JEQ, 6, 0, 0x0806),
        op(JEQ, 5, 6, 0x0800),
        // 33:33:ff, 33:33:00: solicited nodes, all nodes.
        op(LD_H, 0, 0, 0),
        op(JEQ, 0, 4, 0x3333),
        op(LD_B, 0, 0, 2),
        op(JEQ, 1, 0, 0xff),
        op(JEQ, 0, 1, 0x00),
        op(RET, 0, 0, 0x0004_0000),
        op(RET, 0, 0, 0),
    ]
}

impl Nic {
    /// Opens the interface. Errors name what is missing.
    pub fn open(name: &str, mac: [u8; 6], addrs: &[IpAddr]) -> Result<Nic, String> {
        let (index, _) = look_up(name)?;
        if let Some(wire) = tap(name, &filter(mac))? {
            return Ok(Nic::on(wire));
        }
        let failed = |what: &str, e: Errno| format!("--net {name}: {what}: {}", e.name());
        let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map_err(|e| {
            let why = failed("opening a packet socket", e);
            if e == Errno::EPERM {
                format!("{why}: it needs CAP_NET_RAW in the interface's network namespace: run as root, or in `unshare -Urn`")
            } else {
                why
            }
        })?;
        let set = |option: i32, value: &[u8]| sys::set_option(&fd, SOL_PACKET, option, value);
        let on = 1i32.to_le_bytes();
        set(PACKET_VNET_HDR, &on).map_err(|e| failed("virtio headers", e))?;
        // Since Linux 4.20; without it our own frames come back and are dropped by their source.
        let _ = set(PACKET_IGNORE_OUTGOING, &on);
        attach(&fd, &filter(mac)).map_err(|e| failed("attaching the filter", e))?;
        let join = |kind: u16, address: [u8; 6]| {
            let mut mreq = [0u8; 16];
            mreq[..4].copy_from_slice(&index.to_le_bytes());
            mreq[4..6].copy_from_slice(&kind.to_le_bytes());
            mreq[6..8].copy_from_slice(&6u16.to_le_bytes());
            mreq[8..14].copy_from_slice(&address);
            set(PACKET_ADD_MEMBERSHIP, &mreq)
        };
        join(PACKET_MR_UNICAST, mac)
            .or_else(|_| join(PACKET_MR_PROMISC, mac))
            .map_err(|e| failed("hearing its own MAC address", e))?;
        if addrs.iter().any(IpAddr::is_ipv6) {
            let _ = join(PACKET_MR_MULTICAST, [0x33, 0x33, 0, 0, 0, 1]);
        }
        for a in addrs {
            if let IpAddr::V6(a) = a {
                let o = a.octets();
                let _ = join(PACKET_MR_MULTICAST, [0x33, 0x33, 0xff, o[13], o[14], o[15]]);
            }
        }
        for (force, plain) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
        ] {
            let size = KERNEL_BUF.to_le_bytes();
            if sys::set_option(&fd, libc::SOL_SOCKET, force, &size).is_err() {
                let _ = sys::set_option(&fd, libc::SOL_SOCKET, plain, &size);
            }
        }
        // struct sockaddr_ll: bound last, so that nothing comes before the filter.
        let mut ll = [0u8; 20];
        ll[..2].copy_from_slice(&(libc::AF_PACKET as u16).to_le_bytes());
        ll[2..4].copy_from_slice(&ETH_P_ALL.to_be_bytes());
        ll[4..8].copy_from_slice(&index.to_le_bytes());
        sys::bind(&fd, &ll).map_err(|e| failed("binding to the interface", e))?;
        Ok(Nic::on(Wire::Packet(fd)))
    }

    fn on(wire: Wire) -> Nic {
        Nic {
            wire,
            scratch: vec![0; FRAME * BATCH],
            queue: VecDeque::new(),
            blocked: false,
            more: false,
            responder: None,
            counts: Counts::default(),
        }
    }

    /// Its descriptor, for the poll.
    pub fn raw_fd(&self) -> i32 {
        self.wire.fd().as_raw_fd()
    }

    /// Tells the link where the image's addresses are: gratuitous ARP, unsolicited advertisements. A
    /// takeover does it at each of [`ftl_tcpip::respond::ANNOUNCE_NS`], and at once when our own MAC
    /// is heard from outside.
    pub fn announce(&mut self, config: &Config) {
        for f in announcements(config) {
            self.send(&f, false);
        }
    }

    /// Takes what has arrived, up to a fair share; `now` only ages the responder's memory.
    pub fn receive(&mut self, now: u64, door: &mut dyn FnMut(&[u8])) {
        self.more = false;
        let mut lengths = [0usize; BATCH];
        for _ in 0..FAIR / BATCH {
            let n = match self.wire.receive(&mut self.scratch, FRAME, &mut lengths) {
                Ok(n) => n,
                // EAGAIN: drained. ENETDOWN: the link is down; it may come back.
                Err(_) => return,
            };
            self.counts.received += n as u64;
            for (part, len) in self.scratch.chunks_exact(FRAME).zip(&lengths[..n]) {
                let frame = &part[..*len];
                let Some(responder) = &mut self.responder else {
                    door(frame);
                    continue;
                };
                let verdict = responder.input(frame, now);
                for a in verdict.answers {
                    // Lost if there is no room: the question comes again.
                    let _ = self.wire.send(&a);
                }
                if verdict.pass {
                    door(frame);
                }
            }
            if n < BATCH {
                return;
            }
        }
        self.more = true;
    }

    /// The host has room again.
    pub fn writable(&mut self) {
        if std::mem::take(&mut self.blocked) {
            self.flush();
        }
    }

    /// Sends a frame, now or with those that follow.
    pub fn send(&mut self, frame: &[u8], more: bool) {
        if self.queue.is_empty() && !more {
            match self.wire.send(frame) {
                Ok(()) => self.counts.sent += 1,
                Err(Errno::EAGAIN | Errno::ENOBUFS) => self.keep(frame),
                Err(_) => self.counts.lost += 1,
            }
            return;
        }
        if self.queue.len() >= QUEUE {
            self.counts.lost += 1;
        } else {
            self.queue.push_back(frame.to_vec());
        }
        if (!more || self.queue.len() >= SEND) && !self.blocked {
            self.flush();
        }
    }

    fn keep(&mut self, frame: &[u8]) {
        self.blocked = true;
        self.queue.push_back(frame.to_vec());
    }

    fn flush(&mut self) {
        while !self.queue.is_empty() {
            let (front, _) = self.queue.as_slices();
            let part = &front[..front.len().min(SEND)];
            match self.wire.send_all(part) {
                Ok(n) => {
                    self.counts.sent += n as u64;
                    self.queue.drain(..n.max(1));
                }
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    self.blocked = true;
                    return;
                }
                Err(_) => {
                    // The link is down, or the frame does not fit it: lost.
                    self.counts.lost += 1;
                    self.queue.pop_front();
                }
            }
        }
    }
}

/// SO_ATTACH_FILTER: the option's value holds a pointer, so it has a function of its own.
fn attach(fd: &OwnedFd, program: &[[u16; 4]]) -> Result<(), Errno> {
    let p = Program {
        len: program.len() as u16,
        filter: program.as_ptr(),
    };
    // SAFETY: the structure names a program of the stated length, of struct sock_filter's layout,
    // which outlives the call; the kernel checks and copies it.
    let r = unsafe {
        call!(
            libc::SYS_setsockopt,
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            &raw const p,
            size_of::<Program>()
        )
    };
    r.map(drop).map_err(crate::platform::errno)
}
