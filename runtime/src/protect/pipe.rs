//! A non-blocking stream or packet socket with what is still to be sent and what has come, secured by a
//! [`Session`] where it leaves the host.

use crate::link::session::Session;
use crate::link::vectors::Keeper;
use crate::sys::{HostErr, sys};
use ftl_core::replica::{Frame, Refused};
use std::os::fd::{AsRawFd, OwnedFd};

/// See the module. Host side only.
pub struct Pipe {
    fd: OwnedFd,
    session: Session,
    /// What the session's cryptography must not take from a guest.
    keeper: Keeper,
    /// As it goes over the wire.
    out: Vec<u8>,
    sent: usize,
    /// In the clear.
    inbox: Vec<u8>,
    taken: usize,
    /// A frame that is being encoded, bytes that are being read.
    scratch: Vec<u8>,
    broken: bool,
    why: Option<String>,
}

/// Bytes read at once.
const READ: usize = 64 << 10;

impl Pipe {
    /// Over a connected socket. The end that connected has a session that was not started.
    pub fn new(fd: OwnedFd, session: Session) -> Pipe {
        // SAFETY: no pointers.
        let _ = unsafe { sys!(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        let mut pipe = Pipe {
            fd,
            session,
            keeper: Keeper::new(),
            out: Vec::new(),
            sent: 0,
            inbox: Vec::new(),
            taken: 0,
            scratch: Vec::new(),
            broken: false,
            why: None,
        };
        let begun = pipe.keeper.keep(|| pipe.session.start(&mut pipe.out));
        if let Err(e) = begun {
            pipe.fail(e.to_string());
        }
        pipe
    }

    /// Its descriptor.
    pub fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// The other side has gone, was refused, or sent what is no frame.
    pub fn broken(&self) -> bool {
        self.broken
    }

    /// Why the peer was refused, once.
    pub fn refusal(&mut self) -> Option<String> {
        self.why.take()
    }

    fn fail(&mut self, why: String) {
        self.broken = true;
        self.why = Some(why);
    }

    /// Something waits to be sent.
    pub fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Sends a frame, or keeps it until there is room.
    pub fn send(&mut self, frame: &Frame) {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        frame.encode(&mut bytes);
        self.send_bytes(&bytes);
        self.scratch = bytes;
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let sealed = match self.session.is_tls() {
            true => self.keeper.keep(|| self.session.seal(bytes, &mut self.out)),
            false => self.session.seal(bytes, &mut self.out),
        };
        if let Err(e) = sealed {
            self.fail(e.to_string());
        }
        self.flush();
    }

    /// Sends what the socket takes now.
    pub fn flush(&mut self) {
        while self.sent < self.out.len() && !self.broken {
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
                Err(_) => self.broken = true,
            }
        }
        self.out.clear();
        self.sent = 0;
    }

    /// Takes what has come. True if something has.
    pub fn fill(&mut self) -> bool {
        if self.taken > 0 {
            self.inbox.drain(..self.taken);
            self.taken = 0;
        }
        let before = self.inbox.len();
        let fd = self.fd();
        while !self.broken {
            let tls = self.session.is_tls();
            // Encrypted bytes go by way of the session.
            let at = if tls { 0 } else { self.inbox.len() };
            let room = if tls { &mut self.scratch } else { &mut self.inbox };
            room.resize(at + READ, 0);
            let flags = libc::MSG_DONTWAIT;
            // SAFETY: the slice is valid for writes.
            let got = unsafe { sys!(libc::SYS_recvfrom, fd, room[at..].as_mut_ptr(), READ, flags, 0, 0) };
            let n = *got.as_ref().unwrap_or(&0) as usize;
            room.truncate(at + n);
            if tls && n > 0 {
                let opened = self
                    .keeper
                    .keep(|| self.session.open(&self.scratch, &mut self.inbox, &mut self.out));
                // What is to be said to a peer that is refused still goes.
                self.flush();
                if let Err(e) = opened {
                    self.fail(e.to_string());
                    break;
                }
            }
            match got {
                Ok(0) => {
                    self.broken = true;
                    // An alert: a peer with keys has refused us.
                    if !tls && self.front().starts_with(&[0x15, 3]) {
                        self.fail("link refused: the peer speaks TLS; give --tls-dir".to_string());
                    }
                }
                Ok(n) if (n as usize) < READ => break,
                Ok(_) | Err(HostErr(libc::EINTR)) => {}
                Err(HostErr(libc::EAGAIN)) => break,
                Err(_) => self.broken = true,
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
                self.broken = true;
                Err(e)
            }
        }
    }

    /// What has come and is no frame; the caller says how much of it was taken.
    pub fn front(&self) -> &[u8] {
        &self.inbox[self.taken..]
    }

    /// See [`Pipe::front`].
    pub fn take(&mut self, bytes: usize) {
        self.taken += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Security, keys::Authority};
    use ftl_core::replica::{Body, Frame};
    use std::os::unix::net::UnixStream;
    use std::time::SystemTime;

    fn keys(a: &Authority) -> Security {
        let (cert, key) = a.node("a", SystemTime::now(), 1).expect("signed");
        crate::link::keys::from_pem(a.cert.as_bytes(), cert.as_bytes(), key.as_bytes()).expect("good keys")
    }

    fn pair(client: &Security, server: &Security) -> [Pipe; 2] {
        let (a, b) = UnixStream::pair().expect("made");
        [
            Pipe::new(a.into(), Session::client(client).expect("made")),
            Pipe::new(b.into(), Session::server(server).expect("made")),
        ]
    }

    /// Lets both ends look at what has come, until nothing moves.
    fn settle(pipes: &mut [Pipe; 2]) {
        for _ in 0..20 {
            for p in pipes.iter_mut() {
                p.flush();
                p.fill();
            }
        }
    }

    #[test]
    fn frames_cross_whatever_the_link() {
        let with_keys = keys(&Authority::new(SystemTime::now()).expect("made"));
        for security in [with_keys, Security::Insecure] {
            let mut pipes = pair(&security, &security);
            pipes[0].send_bytes(b"introduction");
            settle(&mut pipes);
            assert_eq!(pipes[1].front(), b"introduction");
            pipes[1].take(12);
            let big: Vec<u8> = (0..3 << 20).map(|i: u32| (i >> 5) as u8).collect();
            let from = crate::protect::standby::incarnation(4);
            let frame = |bytes: &[u8]| Frame {
                image: 1,
                epoch: 2,
                session: 3,
                from,
                position: 0,
                h: Default::default(),
                ack: 0,
                released: 0,
                body: Body::BaseChunk {
                    snap: 1,
                    seq: 0,
                    bytes: bytes.to_vec(),
                },
            };
            pipes[1].send(&frame(b"small"));
            pipes[1].send(&frame(&big));
            let mut got = Vec::new();
            while got.len() < 2 {
                pipes[1].flush();
                pipes[0].fill();
                got.extend(pipes[0].frame().expect("whole frames"));
                assert!(!pipes[0].broken() && !pipes[1].broken());
            }
            assert!(got == [frame(b"small"), frame(&big)]);
            assert_eq!(pipes[1].unsent(), 0);
            let [a, mut b] = pipes;
            drop(a);
            b.fill();
            assert!(b.broken() && b.refusal().is_none());
        }
    }

    #[test]
    fn strangers_get_no_frame_across() {
        let make = || keys(&Authority::new(SystemTime::now()).expect("made"));
        for (client, server) in [
            (make(), make()),
            (Security::Insecure, make()),
            (make(), Security::Insecure),
        ] {
            let mut pipes = pair(&client, &server);
            pipes[0].send_bytes(b"secret introduction");
            settle(&mut pipes);
            let tls = [client.is_tls(), server.is_tls()];
            for (p, tls) in pipes.iter_mut().zip(tls) {
                assert!(
                    !tls || p.broken()
                        && p.refusal()
                            .is_some_and(|w| w.contains("authority") || w.contains("TLS"))
                );
                // In the clear it was told by an alert.
                assert!(
                    tls || p.refusal().is_some_and(|w| w.contains("TLS"))
                        || p.front().starts_with(&[0x16, 3, 1])
                );
                assert!(!tls || p.front().is_empty());
            }
        }
    }
}
