//! Host sockets as a device (DESIGN §7 `--net host`): the far side of `HostNet`.
//!
//! Host side only; nothing here is image state. A socket is registered edge-triggered with the
//! vCPU's poll; the loop hands readiness to [`Net::ready`], which reads what the image has room for
//! and gives it to the door as inputs. One `recv` per edge in the common case: a short read means
//! drained, unless the edge said that the peer has closed.
//!
//! State lives on the host's side of the allocator; what goes into an input is copied to the image's.
//!
//! A handle's socket is closed by [`Net::close`] only. What could not be sent by then is sent by
//! the device afterwards; [`Net::finish`] waits for that when the image has ended.

mod freeze;
mod ifaces;
pub mod nic;
mod seam;
mod sys;
pub mod unix;
mod wire;

pub use ifaces::interfaces;

use crate::alloc::on;
use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::hostnet::{ACCEPT_WINDOW, Connect};
use ftl_core::platform::Handle;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd};

/// Most bytes of one `recv`, and of one datagram.
const SCRATCH: usize = 64 * 1024;
/// Most bytes that one socket may bring in before others get their turn.
const FAIR: usize = 256 * 1024;
/// How much of a window a datagram takes beside its bytes, so that empty ones are bounded too.
pub use ftl_core::hostnet::DATAGRAM_COST;

/// The numbers are part of snapshots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not connected yet, or a listener before listen().
    Idle,
    /// connect() is under way.
    Connecting,
    /// Connected.
    Stream,
    /// After listen().
    Listener,
    /// Datagrams, raw packets.
    Datagram,
    /// A connection of sequenced packets.
    Packets,
}

/// What a poll said of a socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edge {
    /// Something can be read, or accepted.
    pub readable: bool,
    /// There is room to send, or a connect has finished.
    pub writable: bool,
    /// The peer closed, an error is pending, or urgent data splits the stream: read to the end.
    pub special: bool,
}

impl Edge {
    /// From EPOLL* bits.
    pub fn new(bits: u32) -> Edge {
        let any = |m: i32| bits & m as u32 != 0;
        let special = any(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLPRI);
        Edge {
            readable: any(libc::EPOLLIN) || special,
            writable: any(libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR),
            special,
        }
    }
}

/// A copy that the image may keep.
fn keep(bytes: &[u8]) -> Vec<u8> {
    on(crate::alloc::input_side(), || bytes.to_vec())
}

struct Sock {
    fd: OwnedFd,
    kind: Kind,
    /// SOCK_* type of a UNIX socket, else 0.
    unix: i32,
    /// Permissions of the node that a UNIX socket is bound to.
    mode: u32,
    /// That node, by device and inode number.
    node: (u64, u64),
    /// It was told that the peer of a UNIX socket has closed.
    gone: bool,
    registered: Option<Interest>,
    /// Bytes that the image has room for.
    window: usize,
    /// An edge came, and nothing has said since that the socket is drained.
    readable: bool,
    /// See [`Edge::special`]; stays.
    special: bool,
    /// End or failure was reported: no more input.
    ended: bool,
    /// A short send: the image waits for room.
    want_write: bool,
    /// In [`Net::again`].
    queued: bool,
    /// As given to listen(2).
    backlog: i32,
    /// Names for connections that may be accepted.
    grants: VecDeque<Handle>,
    /// The image has let go; these bytes are still to be sent.
    rest: Option<VecDeque<u8>>,
}

/// All host sockets of an image.
pub struct Net {
    registry: Registry,
    socks: BTreeMap<Handle, Sock>,
    again: VecDeque<Handle>,
    scratch: Vec<u8>,
    datagrams: Vec<u8>,
    /// `--net host`
    pub present: bool,
}

impl Net {
    /// A device without sockets; tokens in `registry` are handle numbers.
    pub fn new(registry: Registry) -> Net {
        Net {
            registry,
            socks: BTreeMap::new(),
            again: VecDeque::new(),
            scratch: vec![0; SCRATCH],
            datagrams: Vec::new(),
            present: true,
        }
    }

    /// True if [`Net::resume`] has something to do: the loop must not wait.
    pub fn pending(&self) -> bool {
        !self.again.is_empty()
    }

    fn get(&mut self, h: Handle) -> Result<&mut Sock, Errno> {
        self.socks.get_mut(&h).ok_or(Errno::EBADF)
    }

    fn add(&mut self, h: Handle, fd: OwnedFd, kind: Kind) {
        self.socks.insert(
            h,
            Sock {
                fd,
                kind,
                unix: 0,
                mode: 0,
                node: (0, 0),
                gone: false,
                registered: None,
                window: 0,
                readable: false,
                special: false,
                ended: false,
                want_write: false,
                queued: false,
                backlog: 0,
                grants: VecDeque::new(),
                rest: None,
            },
        );
    }

    /// Adds to what is asked of the poll. A change re-arms the edge, so that nothing is lost.
    fn watch(&mut self, h: Handle, what: Interest) {
        let Some(s) = self.socks.get_mut(&h) else { return };
        let raw = s.fd.as_raw_fd();
        let mut source = SourceFd(&raw);
        let token = Token(h.0 as usize);
        let done = match s.registered {
            None => self.registry.register(&mut source, token, what),
            Some(old) if old.add(what) == old => return,
            Some(old) => self.registry.reregister(&mut source, token, old.add(what)),
        };
        // ENOMEM or the descriptor limit of epoll: fail-stop, never an errno (PROTOCOL §8).
        if let Err(e) = done {
            panic!("host poll refused a socket: {e}");
        }
        s.registered = Some(s.registered.map_or(what, |o| o.add(what)));
    }

    /// See `HostNet::net_socket`.
    pub fn socket(&mut self, family: i32, kind: i32, protocol: i32, new: Handle) -> Result<(), Errno> {
        let fd = sys::socket(family, kind, protocol)?;
        let datagram = kind & 0xf == libc::SOCK_DGRAM;
        self.add(new, fd, if datagram { Kind::Datagram } else { Kind::Idle });
        if family == libc::AF_UNIX {
            self.get(new)?.unix = kind & 0xf;
        }
        if datagram {
            self.watch(new, Interest::READABLE);
        }
        Ok(())
    }

    /// See `HostNet::net_bind`.
    pub fn bind(&mut self, h: Handle, addr: &[u8]) -> Result<Vec<u8>, Errno> {
        let s = self.get(h)?;
        sys::bind(&s.fd, addr)?;
        sys::local(&s.fd)
    }

    /// See `HostNet::net_listen`.
    pub fn listen(&mut self, h: Handle, backlog: i32) -> Result<Vec<u8>, Errno> {
        let s = self.get(h)?;
        sys::listen(&s.fd, backlog)?;
        s.kind = Kind::Listener;
        s.backlog = backlog;
        let addr = sys::local(&s.fd);
        self.watch(h, Interest::READABLE);
        addr
    }

    /// See `HostNet::net_grant_accept`.
    pub fn grant_accept(&mut self, listener: Handle, conn: Handle) {
        if let Ok(s) = self.get(listener) {
            s.grants.push_back(conn);
            if s.readable {
                self.try_again(listener);
            }
        }
    }

    /// See `HostNet::net_connect`.
    pub fn connect(&mut self, h: Handle, addr: &[u8]) -> Result<Connect, Errno> {
        let s = self.get(h)?;
        if s.kind == Kind::Datagram {
            let none = [0u8; 16];
            sys::connect(&s.fd, if addr.is_empty() { &none } else { addr })?;
            return Ok(Connect::Done(sys::local(&s.fd)?));
        }
        s.ended = false;
        s.special = false;
        match sys::connect(&s.fd, addr) {
            Ok(()) => {
                s.kind = Kind::Stream;
                let local = sys::local(&s.fd)?;
                self.watch(h, Interest::READABLE);
                Ok(Connect::Done(local))
            }
            Err(Errno::EINPROGRESS) => {
                s.kind = Kind::Connecting;
                self.watch(h, Interest::READABLE | Interest::WRITABLE);
                Ok(Connect::Pending)
            }
            Err(e) => Err(e),
        }
    }

    /// See `HostNet::net_grant`.
    pub fn grant(&mut self, h: Handle, bytes: usize) {
        if let Ok(s) = self.get(h) {
            s.window = s.window.saturating_add(bytes);
            if s.readable {
                self.try_again(h);
            }
        }
    }

    /// See `HostNet::net_send`.
    pub fn send(&mut self, h: Handle, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        let s = self.get(h)?;
        let n = match sys::send(&s.fd, bytes, more) {
            Ok(n) => n,
            Err(Errno::EAGAIN) => 0,
            Err(e) => return Err(e),
        };
        if n < bytes.len() {
            s.want_write = true;
            self.watch(h, Interest::WRITABLE);
        }
        Ok(n)
    }

    /// See `HostNet::net_send_to`.
    pub fn send_to(&mut self, h: Handle, bytes: &[u8], to: &[u8], control: &[u8]) -> Result<usize, Errno> {
        let s = self.get(h)?;
        let r = if control.is_empty() {
            sys::send_to(&s.fd, bytes, to)
        } else {
            sys::send_with(&s.fd, bytes, to, control)
        };
        if r == Err(Errno::EAGAIN) {
            s.want_write = true;
            self.watch(h, Interest::WRITABLE);
        }
        r
    }

    /// See `HostNet::net_shutdown`.
    pub fn shutdown(&mut self, h: Handle, how: i32) -> Result<(), Errno> {
        sys::shutdown(&self.get(h)?.fd, how)
    }

    /// See `HostNet::net_close`. The poll forgets a socket when its descriptor is closed.
    pub fn close(&mut self, h: Handle, rest: Vec<u8>, abort: bool) {
        let Some(s) = self.socks.get_mut(&h) else { return };
        if abort {
            let now = [1, 0, 0, 0, 0, 0, 0, 0];
            let _ = sys::set_option(&s.fd, libc::SOL_SOCKET, libc::SO_LINGER, &now);
        } else if !rest.is_empty() {
            s.rest = Some(rest.into());
            s.want_write = true;
            self.watch(h, Interest::WRITABLE);
            self.flush(h);
            return;
        }
        self.socks.remove(&h);
    }

    /// Sends what a closed socket has left; drops it when all is sent or the peer is gone.
    fn flush(&mut self, h: Handle) {
        let Some(s) = self.socks.get_mut(&h) else { return };
        let Some(rest) = &mut s.rest else { return };
        loop {
            let (front, _) = rest.as_slices();
            if front.is_empty() {
                break;
            }
            match sys::send(&s.fd, front, false) {
                Ok(n) => drop(rest.drain(..n)),
                Err(Errno::EAGAIN) => return,
                Err(_) => break,
            }
        }
        self.socks.remove(&h);
    }

    /// The image has ended: sends what closed sockets have left, as the host kernel would for a
    /// native process. Gives up after `limit_ms` without progress.
    pub fn finish(&mut self, limit_ms: i32) {
        let left: Vec<Handle> = self
            .socks
            .iter()
            .filter(|(_, s)| s.rest.is_some())
            .map(|(h, _)| *h)
            .collect();
        for h in left {
            while self
                .socks
                .get(&h)
                .is_some_and(|s| sys::wait_writable(&s.fd, limit_ms))
            {
                self.flush(h);
            }
        }
    }

    /// See `HostNet::net_set_option`.
    pub fn set_option(&mut self, h: Handle, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        const SO_ATTACH_FILTER: i32 = 26;
        const SO_ATTACH_REUSEPORT_CBPF: i32 = 51;
        if level == libc::SOL_SOCKET && [SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF].contains(&name) {
            // Their value holds a pointer.
            return Err(Errno::ENOPROTOOPT);
        }
        sys::set_option(&self.get(h)?.fd, level, name, value)
    }

    /// See `HostNet::net_get_option`.
    pub fn get_option(&mut self, h: Handle, level: i32, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
        sys::get_option(&self.get(h)?.fd, level, name, len.min(4096))
    }

    /// See `HostNet::net_local`.
    pub fn local(&mut self, h: Handle) -> Result<Vec<u8>, Errno> {
        sys::local(&self.get(h)?.fd)
    }

    /// See `HostNet::net_unsent`.
    pub fn unsent(&mut self, h: Handle) -> u32 {
        self.get(h).map_or(0, |s| sys::unsent(s.fd.as_raw_fd()))
    }

    fn try_again(&mut self, h: Handle) {
        if let Some(s) = self.socks.get_mut(&h)
            && !std::mem::replace(&mut s.queued, true)
        {
            self.again.push_back(h);
        }
    }

    /// Goes on with sockets that had more than the image had room for, or than was fair.
    pub fn resume(&mut self, door: &mut dyn FnMut(Input)) {
        for _ in 0..self.again.len() {
            let Some(h) = self.again.pop_front() else { return };
            if let Some(s) = self.socks.get_mut(&h) {
                s.queued = false;
                self.read(h, door);
            }
        }
    }

    /// The poll reported an edge. False: the handle is no socket of ours.
    pub fn ready(&mut self, h: Handle, edge: Edge, door: &mut dyn FnMut(Input)) -> bool {
        let Some(s) = self.socks.get_mut(&h) else {
            return false;
        };
        if s.rest.is_some() {
            self.flush(h);
            return true;
        }
        if s.kind == Kind::Connecting && edge.writable {
            let e = sys::take_error(&s.fd);
            if e != 0 {
                s.kind = Kind::Idle;
                door(Input::Connected(h, e, Vec::new()));
                return true;
            }
            if sys::peer(&s.fd).is_err() {
                return true;
            }
            s.kind = Kind::Stream;
            door(Input::Connected(
                h,
                0,
                keep(&sys::local(&s.fd).unwrap_or_default()),
            ));
        }
        if edge.writable && s.want_write {
            s.want_write = false;
            door(Input::Writable(h));
        }
        if edge.readable {
            s.readable = true;
            s.special |= edge.special;
            if s.unix != 0 && s.ended {
                self.check_gone(h, door);
            } else if s.kind == Kind::Stream {
                self.read_stream(h, door);
            } else {
                self.read(h, door);
            }
        }
        true
    }

    fn read(&mut self, h: Handle, door: &mut dyn FnMut(Input)) {
        match self.socks.get(&h).map(|s| s.kind) {
            Some(Kind::Stream) => self.read_stream(h, door),
            Some(Kind::Packets) => self.read_packets(h, door),
            Some(Kind::Listener) => self.read_listener(h, door),
            Some(Kind::Datagram) => self.read_datagrams(h, door),
            Some(Kind::Idle | Kind::Connecting) | None => {}
        }
    }

    fn read_stream(&mut self, h: Handle, door: &mut dyn FnMut(Input)) {
        let Some(s) = self.socks.get_mut(&h) else { return };
        if s.unix != 0 {
            return self.read_unix_stream(h, door);
        }
        let mut budget = FAIR;
        while !s.ended {
            // Once the peer has closed, what is left is bounded by the host's buffer: bytes come
            // before the end, and the guest sees the end as early as natively.
            let room = if s.special { SCRATCH } else { s.window.min(SCRATCH) };
            if room == 0 {
                return;
            }
            if budget == 0 {
                self.try_again(h);
                return;
            }
            match sys::recv(&s.fd, &mut self.scratch[..room]) {
                Ok(0) => {
                    s.ended = true;
                    door(Input::Eof(h));
                }
                Ok(n) => {
                    s.window = s.window.saturating_sub(n);
                    budget = budget.saturating_sub(n);
                    door(Input::Data(h, keep(&self.scratch[..n])));
                    if n < room && !s.special {
                        break;
                    }
                }
                Err(Errno::EAGAIN) => {
                    break;
                }
                Err(e) => {
                    s.ended = true;
                    door(Input::Failed(h, e.raw()));
                }
            }
        }
        s.readable = false;
        // Urgent data is no end: the next edge says so again.
        s.special = s.ended;
    }

    fn read_listener(&mut self, h: Handle, door: &mut dyn FnMut(Input)) {
        loop {
            let Some(s) = self.socks.get_mut(&h) else { return };
            let Some(&conn) = s.grants.front() else { return };
            match sys::accept(&s.fd) {
                Ok((fd, peer)) => {
                    s.grants.pop_front();
                    let unix = s.unix;
                    self.add(conn, fd, Kind::Stream);
                    if unix == libc::SOCK_SEQPACKET {
                        // EINVAL is for wrong lengths only.
                        let _ = self.begin_packets(conn);
                    }
                    if let Ok(new) = self.get(conn) {
                        new.window = ACCEPT_WINDOW;
                        new.unix = unix;
                    }
                    door(Input::Accepted {
                        listener: h,
                        conn,
                        peer: keep(&peer),
                        // Asked for when the guest asks.
                        local: Vec::new(),
                    });
                    self.watch(conn, Interest::READABLE);
                }
                // A connection that died in the queue, as accept(2) lists them.
                Err(Errno::ECONNABORTED | Errno::EINTR | Errno::EPROTO) => {}
                Err(Errno::EAGAIN) => {
                    s.readable = false;
                    return;
                }
                Err(Errno::EMFILE | Errno::ENFILE) => {
                    // Limits of the host are not the image's; one more edge or grant tries again.
                    return;
                }
                Err(_) => {
                    s.readable = false;
                    return;
                }
            }
        }
    }

    fn read_datagrams(&mut self, h: Handle, door: &mut dyn FnMut(Input)) {
        const MANY: usize = 8;
        let Some(s) = self.socks.get_mut(&h) else { return };
        if s.unix != 0 {
            return self.read_packets(h, door);
        }
        if self.datagrams.is_empty() {
            self.datagrams = vec![0; SCRATCH * MANY];
        }
        let mut got = Vec::new();
        let mut budget = FAIR;
        loop {
            // A datagram is only read if it fits whatever its length: nothing is lost here.
            let most = (s.window / DATAGRAM_COST).min(MANY);
            if most == 0 {
                return;
            }
            if budget == 0 {
                self.try_again(h);
                return;
            }
            got.clear();
            match sys::recv_many(&s.fd, &mut self.datagrams, SCRATCH, most, &mut got) {
                Ok(()) => {
                    for (part, g) in self.datagrams.chunks_exact(SCRATCH).zip(&got) {
                        s.window = s.window.saturating_sub(g.len + DATAGRAM_COST);
                        budget = budget.saturating_sub(g.len + DATAGRAM_COST);
                        if !g.control.is_empty() {
                            door(Input::Control(h, keep(&g.control)));
                        }
                        door(Input::Datagram(h, keep(&part[..g.len]), keep(&g.from), g.cut));
                    }
                    if got.len() < most {
                        s.readable = false;
                        return;
                    }
                }
                Err(Errno::EAGAIN) => {
                    s.readable = false;
                    return;
                }
                Err(Errno::EINTR) => {}
                // An ICMP error: one per call, and more may follow.
                Err(e) => door(Input::Failed(h, e.raw())),
            }
        }
    }
}
