//! Who answered: every frame that the image's address sends, with the bridge's port that it came through.

use crate::cluster::Side;
use crate::net::Network;
use crate::netlink;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

/// The image's MAC.
pub const MAC: [u8; 6] = [0x02, 0x77, 0, 0, 0, 0x64];
/// One batch that a stop between check and send may leak late (PROTOCOL §4), frames.
const BATCH: usize = 64;
/// Bytes of a frame that are kept.
const KEPT: usize = 300;
const ETHERNET: usize = 14;

/// A frame of the image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Through whose port.
    pub side: Side,
    /// Its TCP segment, if it is one.
    pub tcp: Option<Segment>,
}

/// What of a segment matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Client's address and port.
    pub flow: (u32, u16),
    /// Number of the first byte.
    pub seq: u32,
    /// RST.
    pub reset: bool,
    /// The first bytes of its data.
    pub data: Vec<u8>,
}

impl Segment {
    fn read(frame: &[u8]) -> Option<Segment> {
        let be16 = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        let be32 = |at: usize| Some(u32::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        if be16(12)? != 0x0800 || *frame.get(ETHERNET + 9)? != 6 {
            return None;
        }
        let tcp = ETHERNET + usize::from(frame[ETHERNET] & 0xf) * 4;
        let from = tcp + usize::from(*frame.get(tcp + 12)? >> 4) * 4;
        let end = (ETHERNET + usize::from(be16(ETHERNET + 2)?)).min(frame.len());
        Some(Segment {
            flow: (be32(ETHERNET + 16)?, be16(tcp + 2)?),
            seq: be32(tcp + 4)?,
            reset: *frame.get(tcp + 13)? & 4 != 0,
            data: frame.get(from..end).unwrap_or_default().to_vec(),
        })
    }

    /// Where both have bytes, they are the same. `None`: nowhere.
    fn agrees(&self, other: &Segment) -> Option<bool> {
        if self.flow != other.flow {
            return None;
        }
        let ahead = other.seq.wrapping_sub(self.seq) as i32;
        let (mine, theirs) = match ahead {
            0.. => (self.data.get(ahead as usize..)?, &other.data[..]),
            _ => (&self.data[..], other.data.get(ahead.unsigned_abs() as usize..)?),
        };
        let n = mine.len().min(theirs.len());
        (n > 0).then(|| mine[..n] == theirs[..n])
    }
}

/// The frames so far are being kept.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sent>>,
}

/// Only frames whose source is [`MAC`].
fn filter() -> [libc::sock_filter; 6] {
    let op = |code: u32, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let word = |b: &[u8]| b.iter().fold(0, |n, b| n << 8 | u32::from(*b));
    [
        op(LOAD_WORD, 0, 6),
        op(EQUAL, 3, word(&MAC[..4])),
        op(LOAD_HALF, 0, 10),
        op(EQUAL, 1, word(&MAC[4..])),
        op(RETURN, 0, KEPT as u32),
        op(RETURN, 0, 0),
    ]
}

impl Watch {
    /// In the namespace of the bridge.
    pub fn start(net: &Network) -> io::Result<Watch> {
        let ports = [(Side::A, &net.a), (Side::B, &net.b)];
        let mut sides = Vec::new();
        for (side, host) in ports {
            sides.push((netlink::index(&host.port())? as i32, side));
        }
        let all = (libc::ETH_P_ALL as u16).to_be();
        let prog = filter();
        let fprog = libc::sock_fprog {
            len: prog.len() as u16,
            filter: prog.as_ptr().cast_mut(),
        };
        // SAFETY: a new descriptor is owned at once; pointers and lengths are of live values.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = OwnedFd::from_raw_fd(fd);
            let set = |name: i32, value: *const libc::c_void, len: usize| {
                libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, value, len as u32)
            };
            let room = 32i32 << 20;
            if set(libc::SO_RCVBUFFORCE, (&raw const room).cast(), 4) != 0 {
                set(libc::SO_RCVBUF, (&raw const room).cast(), 4);
            }
            let patience = libc::timeval {
                tv_sec: 0,
                tv_usec: 50_000,
            };
            set(
                libc::SO_RCVTIMEO,
                (&raw const patience).cast(),
                size_of::<libc::timeval>(),
            );
            let filter = set(
                libc::SO_ATTACH_FILTER,
                (&raw const fprog).cast(),
                size_of::<libc::sock_fprog>(),
            );
            let mut at: libc::sockaddr_ll = std::mem::zeroed();
            at.sll_family = libc::AF_PACKET as u16;
            at.sll_protocol = all;
            let len = size_of::<libc::sockaddr_ll>() as u32;
            if filter != 0 || libc::bind(fd.as_raw_fd(), (&raw const at).cast(), len) != 0 {
                return Err(io::Error::last_os_error());
            }
            fd
        };
        let stop: Arc<AtomicBool> = Arc::default();
        let seen = stop.clone();
        let thread = std::thread::spawn(move || keep(&fd, &sides, &seen));
        Ok(Watch { stop, thread })
    }

    /// What was sent.
    pub fn finish(self) -> Vec<Sent> {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn keep(fd: &OwnedFd, sides: &[(i32, Side)], stop: &AtomicBool) -> Vec<Sent> {
    let mut all = Vec::new();
    let mut buf = [0u8; KEPT];
    while !stop.load(Relaxed) {
        // SAFETY: pointers and lengths are of live values.
        let (n, from) = unsafe {
            let mut from: libc::sockaddr_ll = std::mem::zeroed();
            let mut len = size_of::<libc::sockaddr_ll>() as u32;
            let n = libc::recvfrom(
                fd.as_raw_fd(),
                buf.as_mut_ptr().cast(),
                buf.len(),
                0,
                (&raw mut from).cast(),
                &raw mut len,
            );
            (n, from)
        };
        let side = sides.iter().find(|(index, _)| *index == from.sll_ifindex);
        if let (Some((_, side)), true) = (side, n > 0 && from.sll_pkttype != libc::PACKET_OUTGOING) {
            all.push(Sent {
                side: *side,
                tcp: Segment::read(&buf[..n as usize]),
            });
        }
    }
    all
}

/// What the frames say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Story {
    /// The other host answered clients.
    pub taken_over: bool,
    /// Frames of the old one after the first answer of the new one.
    pub late: usize,
    /// What must not be.
    pub wrong: Vec<String>,
}

/// Two that answer at once, other bytes for the same places of a stream, resets. `home`: where the image was.
pub fn judge(all: &[Sent], home: Side) -> Story {
    let first = all.iter().position(|s| s.side != home && s.tcp.is_some());
    let mut story = Story {
        taken_over: first.is_some(),
        ..Story::default()
    };
    let resets = all
        .iter()
        .filter(|s| s.tcp.as_ref().is_some_and(|t| t.reset))
        .count();
    if resets > 0 {
        story
            .wrong
            .push(format!("{resets} RST segments from the image's address"));
    }
    let late: Vec<&Sent> = all
        .iter()
        .skip(first.unwrap_or(all.len()))
        .filter(|s| s.side == home)
        .collect();
    story.late = late.len();
    if late.len() > BATCH {
        story.wrong.push(format!(
            "two primaries: {} frames of the old one after the new one had answered",
            late.len()
        ));
    }
    for s in late
        .iter()
        .filter_map(|s| s.tcp.as_ref())
        .filter(|s| !s.data.is_empty())
    {
        let by_b = all
            .iter()
            .filter(|o| o.side != home)
            .filter_map(|o| o.tcp.as_ref());
        if by_b.clone().any(|o| s.agrees(o) == Some(false)) {
            story.wrong.push(format!(
                "both hosts sent, and different bytes, at {} of {:x?}",
                s.seq, s.flow
            ));
        }
    }
    story
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(side: Side, seq: u32, data: &[u8]) -> Sent {
        let tcp = Segment {
            flow: (1, 2),
            seq,
            reset: false,
            data: data.to_vec(),
        };
        Sent { side, tcp: Some(tcp) }
    }

    #[test]
    fn a_late_batch_must_be_equal_and_short() {
        let a = sent(Side::A, 10, b"abc");
        let b = sent(Side::B, 11, b"bcde");
        assert!(!judge(std::slice::from_ref(&a), Side::A).taken_over);
        let story = judge(&[a.clone(), b.clone()], Side::A);
        assert!(story.taken_over && story.wrong.is_empty() && story.late == 0);
        let story = judge(&[b.clone(), a.clone()], Side::A);
        assert!(story.late == 1 && story.wrong.is_empty(), "{story:?}");
        assert_eq!(
            judge(&[b.clone(), sent(Side::A, 12, b"x")], Side::A).wrong.len(),
            1
        );
        assert_eq!(
            judge(&[b.clone(), sent(Side::A, 9, b"..x")], Side::A).wrong.len(),
            1
        );
        let mut many = vec![b];
        many.extend(vec![a; BATCH + 1]);
        assert_eq!(judge(&many, Side::A).wrong.len(), 1);
    }

    #[test]
    fn segments_are_read() {
        let mut f = vec![0; ETHERNET];
        f[12] = 8;
        f.extend([0x45, 0, 0, 43, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        f.extend([0, 80, 1, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 4, 0, 0, 0, 0, 0, 0]);
        f.extend(b"abc padding");
        let s = Segment::read(&f).expect("a segment");
        assert_eq!(
            (s.flow, s.seq, s.reset, &s.data[..]),
            ((0x0a00_0002, 256), 7, true, &b"abc"[..])
        );
        for n in 0..f.len() {
            let _ = Segment::read(&f[..n]);
        }
    }
}
