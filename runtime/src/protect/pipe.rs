//! A non-blocking stream or packet socket with what is still to be sent and what has come.

use crate::sys::{HostErr, sys};
use ftl_core::replica::{Frame, Refused};
use std::os::fd::{AsRawFd, OwnedFd};

/// See the module. Host side only.
#[derive(Debug)]
pub struct Pipe {
    fd: OwnedFd,
    out: Vec<u8>,
    sent: usize,
    inbox: Vec<u8>,
    taken: usize,
    broken: bool,
}

/// Bytes read at once.
const READ: usize = 64 << 10;

impl Pipe {
    /// Over a connected socket.
    pub fn new(fd: OwnedFd) -> Pipe {
        // SAFETY: no pointers.
        let _ = unsafe { sys!(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        Pipe {
            fd,
            out: Vec::new(),
            sent: 0,
            inbox: Vec::new(),
            taken: 0,
            broken: false,
        }
    }

    /// Its descriptor.
    pub fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// The other side has gone, or sent what is no frame.
    pub fn broken(&self) -> bool {
        self.broken
    }

    /// Something waits to be sent.
    pub fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Sends a frame, or keeps it until there is room.
    pub fn send(&mut self, frame: &Frame) {
        frame.encode(&mut self.out);
        self.flush();
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
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
            let at = self.inbox.len();
            self.inbox.resize(at + READ, 0);
            let room = &mut self.inbox[at..];
            let flags = libc::MSG_DONTWAIT;
            // SAFETY: the slice is valid for writes.
            let got = unsafe { sys!(libc::SYS_recvfrom, fd, room.as_mut_ptr(), READ, flags, 0, 0) };
            self.inbox.truncate(at + *got.as_ref().unwrap_or(&0) as usize);
            match got {
                Ok(0) => self.broken = true,
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
}
