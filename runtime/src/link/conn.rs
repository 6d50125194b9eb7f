//! One link: messages with a length before them.
//!
//! All I/O is non-blocking inside; the blocking calls wait with poll(2). A message is `length: u32` (little-endian) and its
//! bytes. Both sides first send [`PREAMBLE`]. In the clear it tells a peer of another kind; under TLS it says "I accept your
//! key", which TLS 1.3 does not tell the side that connects.

use super::{LinkError, PROTOCOL, refused};
use rustls::Connection;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

const PREAMBLE: &[u8; 12] = b"FTVM-LINK/1\n";
const LEN: usize = 4;

/// Most bytes of a message, unless [`Link::set_max_message`] says otherwise.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Bytes that may wait to be sent before [`Link::send`] waits and [`Link::offer`] refuses.
pub const MAX_QUEUED: usize = 4 << 20;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// A connection to a peer.
pub struct Link {
    socket: TcpStream,
    tls: Option<Box<Connection>>,
    /// Arrived, not yet taken; the first `taken` bytes are.
    inbox: Vec<u8>,
    taken: usize,
    /// To be sent; the first `sent` bytes are.
    outbox: Vec<u8>,
    sent: usize,
    max_message: usize,
    /// The peer's preamble or handshake has been seen.
    ready: bool,
    /// The peer sends no more.
    ended: bool,
    piece: Vec<u8>,
}

impl Link {
    pub(super) fn new(socket: TcpStream, tls: Option<Connection>) -> Result<Link, LinkError> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Link {
            socket,
            tls: tls.map(Box::new),
            inbox: Vec::new(),
            taken: 0,
            outbox: PREAMBLE.to_vec(),
            sent: 0,
            max_message: MAX_MESSAGE,
            ready: false,
            ended: false,
            piece: Vec::new(),
        })
    }

    /// Longest message that is taken or sent. Until a peer has said what it is, keep it small.
    pub fn set_max_message(&mut self, bytes: usize) {
        self.max_message = bytes.min(u32::MAX as usize);
    }

    /// The descriptor, to wait for it with others. Readable: [`Link::poll`]; writable, if [`Link::wants_write`]: [`Link::flush`].
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Bytes that wait to be sent.
    pub fn queued(&self) -> usize {
        self.outbox.len() - self.sent
    }

    /// True if [`Link::flush`] has something to do once the socket is writable.
    pub fn wants_write(&self) -> bool {
        match &self.tls {
            // What is queued must wait until the peer is known.
            Some(t) if t.is_handshaking() => t.wants_write(),
            Some(t) => t.wants_write() || self.queued() > 0,
            None => self.queued() > 0,
        }
    }

    /// Waits until both sides know each other. The error says what the peer lacks.
    pub fn handshake(&mut self, limit: Duration) -> Result<(), LinkError> {
        let end = Instant::now() + limit;
        loop {
            match self.shake() {
                Ok(true) => return Ok(()),
                Ok(false) => self.wait(end)?,
                Err(e) => {
                    self.part();
                    return Err(e);
                }
            }
        }
    }

    fn shake(&mut self) -> Result<bool, LinkError> {
        if let Err(e) = self.flush() {
            // It may have said why it closed.
            self.pump()?;
            return Err(e);
        }
        self.pump()?;
        self.flush()?;
        let done = self.is_ready()? && !self.wants_write();
        if self.ended && !done {
            return Err(LinkError::Refused(
                "the peer has closed the connection in the handshake".into(),
            ));
        }
        Ok(done)
    }

    /// Lets the reason of a refusal arrive: a close with unread bytes would be a reset, which overtakes it.
    fn part(&mut self) {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && tls.write_tls(&mut self.socket).is_ok() {}
        }
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
        let end = Instant::now() + Duration::from_millis(200);
        let mut left = 64 << 10;
        while left > 0 && poll_fd(self.fd(), libc::POLLIN, end).is_ok() {
            match self.socket.read(&mut [0; 4096]) {
                Ok(n) if n > 0 => left -= n.min(left),
                _ => return,
            }
        }
    }

    fn is_ready(&mut self) -> Result<bool, LinkError> {
        if self.ready {
            return Ok(true);
        }
        if let Some(t) = &self.tls {
            if t.is_handshaking() {
                return Ok(false);
            }
            if t.alpn_protocol() != Some(PROTOCOL) {
                return Err(LinkError::Refused("the peer is not an ftvm of this kind".into()));
            }
        }
        let have = &self.inbox[..self.inbox.len().min(PREAMBLE.len())];
        if !PREAMBLE.starts_with(have) {
            return Err(LinkError::Refused(match have.first() {
                // TLS records: handshake, alert.
                Some(0x16) => "the peer speaks TLS; give --tls-dir instead of --insecure".into(),
                Some(0x15) => "the peer speaks TLS and has refused us; give --tls-dir".into(),
                _ => "the peer is not an ftvm".into(),
            }));
        }
        if have.len() < PREAMBLE.len() {
            return Ok(false);
        }
        self.taken = PREAMBLE.len();
        self.ready = true;
        Ok(true)
    }

    /// Queues a message and sends what can be sent now. False: too much waits already, and it was not queued.
    pub fn offer(&mut self, parts: &[&[u8]]) -> Result<bool, LinkError> {
        if self.queued() > MAX_QUEUED {
            self.flush()?;
            if self.queued() > MAX_QUEUED {
                return Ok(false);
            }
        }
        let len: usize = parts.iter().map(|p| p.len()).sum();
        if len > self.max_message {
            return Err(LinkError::Refused(format!(
                "a message of {len} bytes, at most {} are agreed",
                self.max_message
            )));
        }
        self.outbox.extend_from_slice(&(len as u32).to_le_bytes());
        parts.iter().for_each(|p| self.outbox.extend_from_slice(p));
        self.flush()?;
        Ok(true)
    }

    /// Sends a message, in parts; waits while too much is queued. It may still be on its way: see [`Link::drain`].
    pub fn send(&mut self, parts: &[&[u8]], limit: Duration) -> Result<(), LinkError> {
        let end = Instant::now() + limit;
        while !self.offer(parts)? {
            self.wait_writable(end)?;
        }
        Ok(())
    }

    /// Waits until all that was sent has been given to the host.
    pub fn drain(&mut self, limit: Duration) -> Result<(), LinkError> {
        let end = Instant::now() + limit;
        while !self.flush()? {
            self.wait_writable(end)?;
        }
        Ok(())
    }

    /// Sends what the socket takes now. True if nothing is left.
    pub fn flush(&mut self) -> Result<bool, LinkError> {
        loop {
            let rest = &self.outbox[self.sent..];
            if let Some(tls) = &mut self.tls {
                // Not before the peer is known: nothing of ours goes to a stranger.
                if !rest.is_empty() && !tls.is_handshaking() {
                    self.sent += tls.writer().write(rest)?;
                }
                while tls.wants_write() {
                    match tls.write_tls(&mut self.socket) {
                        Ok(_) => {}
                        Err(e) if e.kind() == ErrorKind::Interrupted => {}
                        Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                        Err(e) => return Err(e.into()),
                    }
                }
                if tls.is_handshaking() {
                    return Ok(rest.is_empty());
                }
            } else if !rest.is_empty() {
                match self.socket.write(rest) {
                    Ok(n) => self.sent += n,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                    Err(e) => return Err(e.into()),
                }
            }
            if self.sent == self.outbox.len() {
                self.outbox.clear();
                self.sent = 0;
                if self.outbox.capacity() > 2 * MAX_QUEUED {
                    self.outbox = Vec::new();
                }
                return Ok(true);
            }
        }
    }

    /// The next whole message, if it has arrived. Never waits.
    pub fn poll(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        if let Some(m) = self.take()? {
            return Ok(Some(m));
        }
        self.pump()?;
        if !self.is_ready()? {
            return if self.ended {
                Err(LinkError::Closed)
            } else {
                Ok(None)
            };
        }
        match self.take()? {
            Some(m) => Ok(Some(m)),
            None if !self.ended => Ok(None),
            None if self.inbox.len() == self.taken => Err(LinkError::Closed),
            None => Err(LinkError::Io(
                "the peer has gone in the middle of a message".into(),
            )),
        }
    }

    /// Waits for the next message.
    pub fn recv(&mut self, limit: Duration) -> Result<Vec<u8>, LinkError> {
        let end = Instant::now() + limit;
        loop {
            if let Some(m) = self.poll()? {
                return Ok(m);
            }
            self.flush()?;
            self.wait(end)?;
        }
    }

    /// Tells the peer that nothing more comes, so that it can tell an end from a dead link.
    pub fn close(&mut self, limit: Duration) -> Result<(), LinkError> {
        self.drain(limit)?;
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.drain(limit)?;
        Ok(self.socket.shutdown(std::net::Shutdown::Write)?)
    }

    fn take(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        if !self.ready {
            return Ok(None);
        }
        let have = &self.inbox[self.taken..];
        let Some(len) = have.first_chunk::<LEN>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*len) as usize;
        if len > self.max_message {
            return Err(LinkError::Refused(format!(
                "the peer announces a message of {len} bytes, at most {} are agreed",
                self.max_message
            )));
        }
        let Some(message) = have.get(LEN..LEN + len) else {
            return Ok(None);
        };
        let message = message.to_vec();
        self.taken += LEN + len;
        if self.taken == self.inbox.len() {
            self.inbox.clear();
            self.taken = 0;
        }
        Ok(Some(message))
    }

    /// Takes what has arrived, up to one whole message and a piece.
    fn pump(&mut self) -> Result<(), LinkError> {
        if self.taken > 0 {
            self.inbox.drain(..self.taken);
            self.taken = 0;
        }
        // One message that is whole is enough: a peer cannot make us keep more than that.
        while !self.ended && self.inbox.len() < LEN + self.max_message {
            let full = self
                .inbox
                .first_chunk::<LEN>()
                .map(|l| u32::from_le_bytes(*l) as usize);
            if self.ready && full.is_some_and(|len| self.inbox.len() >= LEN + len) {
                return Ok(());
            }
            match self.read() {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(LinkError::Timeout) => return Ok(()),
                Err(e) => return Err(e),
            }
            if !self.ready && self.inbox.len() >= PREAMBLE.len() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads once. 0: the peer has closed. Timeout: nothing is there.
    fn read(&mut self) -> Result<usize, LinkError> {
        self.piece.resize(PIECE, 0);
        let Some(tls) = &mut self.tls else {
            let n = retry(|| self.socket.read(&mut self.piece))?;
            self.inbox.extend_from_slice(&self.piece[..n]);
            return Ok(n);
        };
        loop {
            match tls.reader().read(&mut self.piece) {
                Ok(n) => {
                    self.inbox.extend_from_slice(&self.piece[..n]);
                    return Ok(n);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                // Closed without saying so: an attacker may have cut it.
                Err(e) => return Err(e.into()),
            }
            let n = retry(|| tls.read_tls(&mut self.socket))?;
            let state = tls.process_new_packets().map_err(|e| {
                // The alert that says so.
                let _ = tls.write_tls(&mut self.socket);
                refused(&e)
            })?;
            if n == 0 && tls.is_handshaking() {
                return Ok(0);
            }
            if n == 0 && state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() {
                return Err(LinkError::Io("the peer has gone in the middle".into()));
            }
            if tls.is_handshaking() && tls.wants_write() {
                let _ = tls.write_tls(&mut self.socket);
            }
        }
    }

    fn wait_writable(&mut self, end: Instant) -> Result<(), LinkError> {
        poll_fd(self.fd(), libc::POLLOUT, end)
    }

    fn wait(&mut self, end: Instant) -> Result<(), LinkError> {
        let out = if self.wants_write() { libc::POLLOUT } else { 0 };
        poll_fd(self.fd(), libc::POLLIN | out, end)
    }
}

fn retry(mut f: impl FnMut() -> std::io::Result<usize>) -> Result<usize, LinkError> {
    loop {
        match f() {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return Ok(other?),
        }
    }
}

fn poll_fd(fd: RawFd, events: i16, end: Instant) -> Result<(), LinkError> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(LinkError::Timeout);
        }
        let mut p = libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        let ms = left.as_millis().clamp(1, i32::MAX as u128) as i32;
        // SAFETY: one pollfd, valid for the call.
        match unsafe { libc::poll(&raw mut p, 1, ms) } {
            0 => {}
            n if n > 0 => return Ok(()),
            _ => {
                let e = std::io::Error::last_os_error();
                if e.kind() != ErrorKind::Interrupted {
                    return Err(e.into());
                }
            }
        }
    }
}
