//! A non-blocking stream with what is still to be sent and what has come, encrypted unless the user said that
//! it need not be.

use crate::link::LinkError;
use crate::link::session::Session;
use crate::link::vectors::Keeper;
use crate::sys::{HostErr, sys};
use ftl_core::replica::{Frame, Refused};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// See the module. Host side only.
pub struct Pipe {
    fd: OwnedFd,
    session: Session,
    /// In a guest process: the guest's vector state is kept while the cryptography runs.
    keeper: Option<Keeper>,
    /// Bytes of the wire.
    out: Vec<u8>,
    sent: usize,
    /// Bytes in the clear.
    inbox: Vec<u8>,
    taken: usize,
    scratch: Vec<u8>,
    plain: Vec<u8>,
    broken: Option<String>,
}

/// How long a last word may take to be read.
const PARTING: Duration = Duration::from_millis(500);
/// Bytes read at once.
const READ: usize = 64 << 10;
/// Reads at once: a peer that sends without end is answered in between.
const MOST_READS: usize = 64;

impl Pipe {
    /// Over a connected socket. `guest`: in a guest process.
    pub fn new(fd: OwnedFd, session: Session, guest: bool) -> Pipe {
        // SAFETY: no pointers.
        let _ = unsafe { sys!(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        Pipe {
            keeper: (guest && session.is_tls()).then(Keeper::new),
            fd,
            session,
            out: Vec::new(),
            sent: 0,
            inbox: Vec::new(),
            taken: 0,
            scratch: vec![0; READ],
            plain: Vec::new(),
            broken: None,
        }
    }

    /// Its descriptor.
    pub fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// The other side has gone, or is none of ours.
    pub fn broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Why.
    pub fn why(&self) -> &str {
        self.broken.as_deref().unwrap_or("")
    }

    /// Something waits to be sent.
    pub fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// As the side that connects: what is sent in the clear before all else, then the handshake begins.
    pub fn start(&mut self, clear: &[u8]) {
        self.out.extend_from_slice(clear);
        let Pipe {
            session, keeper, out, ..
        } = self;
        let done = kept(keeper, || session.start(out));
        self.check(done);
        self.flush();
    }

    fn check(&mut self, done: Result<(), LinkError>) {
        if let Err(e) = done
            && self.broken.is_none()
        {
            self.broken = Some(e.to_string());
        }
    }

    /// Sends a frame, or keeps it until there is room.
    pub fn send(&mut self, frame: &Frame) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        frame.encode(&mut plain);
        self.send_bytes(&plain);
        self.plain = plain;
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let Pipe {
            session, keeper, out, ..
        } = self;
        let done = kept(keeper, || session.seal(bytes, out));
        self.check(done);
        self.flush();
    }

    /// Sends what the socket takes now.
    pub fn flush(&mut self) {
        while self.sent < self.out.len() && self.broken.is_none() {
            let rest = &self.out[self.sent..];
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: the slice is valid for reads.
            match unsafe {
                sys!(
                    libc::SYS_sendto,
                    self.fd(),
                    rest.as_ptr(),
                    rest.len(),
                    flags,
                    0,
                    0
                )
            } {
                Ok(n) => self.sent += n as usize,
                Err(HostErr(libc::EAGAIN)) => return,
                Err(HostErr(libc::EINTR)) => {}
                Err(e) => self.broken = Some(e.to_string()),
            }
        }
        self.out.clear();
        self.sent = 0;
    }

    /// Nothing more is sent. What the other side has not read yet is not to be lost by a reset, which a close with unread bytes would be.
    pub fn part(&mut self) {
        self.flush();
        // SAFETY: our own descriptor.
        unsafe { libc::shutdown(self.fd(), libc::SHUT_WR) };
        let end = Instant::now() + PARTING;
        while self.broken.is_none() && Instant::now() < end {
            let mut p = libc::pollfd {
                fd: self.fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: a valid entry.
            unsafe { libc::poll(&raw mut p, 1, 20) };
            self.fill();
            self.inbox.clear();
            self.taken = 0;
        }
    }

    /// Takes what has come. True if something has.
    pub fn fill(&mut self) -> bool {
        if self.taken > 0 {
            self.inbox.drain(..self.taken);
            self.taken = 0;
        }
        let before = self.inbox.len();
        let fd = self.fd();
        for _ in 0..MOST_READS {
            if self.broken.is_some() {
                break;
            }
            let flags = libc::MSG_DONTWAIT;
            let room = self.scratch.as_mut_ptr();
            // SAFETY: the buffer has READ bytes.
            match unsafe { sys!(libc::SYS_recvfrom, fd, room, READ, flags, 0, 0) } {
                Ok(0) => self.broken = Some("the other side has closed the link".to_string()),
                Ok(n) => {
                    let n = n as usize;
                    let Pipe {
                        session,
                        keeper,
                        out,
                        inbox,
                        scratch,
                        ..
                    } = self;
                    let done = kept(keeper, || session.open(&scratch[..n], inbox, out));
                    // What the other side is to know, even if it is why not.
                    self.flush();
                    self.check(done);
                    if n < READ {
                        break;
                    }
                }
                Err(HostErr(libc::EINTR)) => {}
                Err(HostErr(libc::EAGAIN)) => break,
                Err(e) => self.broken = Some(e.to_string()),
            }
        }
        self.inbox.len() > before
    }

    /// The next whole frame that has come.
    pub fn frame(&mut self) -> Result<Option<Frame>, Refused> {
        match Frame::decode(&self.inbox[self.taken..]) {
            Ok((frame, n)) => {
                self.taken += n;
                Ok(Some(frame))
            }
            Err(Refused::Short(_)) => Ok(None),
            Err(e) => {
                self.broken = Some(e.to_string());
                Err(e)
            }
        }
    }

    /// A text with its length before it, once it has come whole; longer than `max`: the link is broken.
    pub fn text(&mut self, max: usize) -> Option<Vec<u8>> {
        let have = &self.inbox[self.taken..];
        let len = u32::from_le_bytes(*have.first_chunk()?) as usize;
        if len > max {
            self.broken = Some("its introduction is too long; is it an ftvm of this version?".to_string());
            return None;
        }
        let text = have.get(4..4 + len)?.to_vec();
        self.taken += 4 + len;
        Some(text)
    }
}

fn kept<R>(keeper: &mut Option<Keeper>, f: impl FnOnce() -> R) -> R {
    match keeper {
        Some(k) => k.keep(f),
        None => f(),
    }
}
