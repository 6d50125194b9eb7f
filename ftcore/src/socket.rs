//! What a socket can do beyond a file: the seam between the socket calls and UNIX, host and own-stack
//! sockets.
//!
//! As with [`File`], no operation waits: it returns EAGAIN (connect: EINPROGRESS or EAGAIN) and the
//! call layer blocks on [`File::queue`] and runs it again. Addresses are the bytes of a `sockaddr`.

use crate::errno::Errno;
use crate::file::{File, FileRef};
use crate::io::{Dst, Io, Src, err};
use crate::kcore::Env;
use crate::platform::Ns;
use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;

/// Numbers of socket.h.
#[allow(missing_docs)]
pub mod num {
    pub const AF_UNIX: i32 = 1;
    pub const AF_INET: i32 = 2;
    pub const AF_INET6: i32 = 10;
    pub const AF_NETLINK: i32 = 16;
    pub const SOCK_STREAM: i32 = 1;
    pub const SOCK_DGRAM: i32 = 2;
    pub const SOCK_RAW: i32 = 3;
    pub const SOCK_SEQPACKET: i32 = 5;
    pub const MSG_OOB: u32 = 0x1;
    pub const MSG_PEEK: u32 = 0x2;
    pub const MSG_DONTROUTE: u32 = 0x4;
    pub const MSG_CTRUNC: u32 = 0x8;
    pub const MSG_TRUNC: u32 = 0x20;
    pub const MSG_DONTWAIT: u32 = 0x40;
    pub const MSG_EOR: u32 = 0x80;
    pub const MSG_WAITALL: u32 = 0x100;
    pub const MSG_ERRQUEUE: u32 = 0x2000;
    pub const MSG_NOSIGNAL: u32 = 0x4000;
    pub const MSG_MORE: u32 = 0x8000;
    pub const MSG_WAITFORONE: u32 = 0x1_0000;
    pub const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;
    pub const SOL_SOCKET: i32 = 1;
    pub const SCM_RIGHTS: i32 = 1;
    pub const SCM_CREDENTIALS: i32 = 2;
    pub const SHUT_RD: i32 = 0;
    pub const SHUT_WR: i32 = 1;
    pub const SHUT_RDWR: i32 = 2;
}

/// SO_* names at level SOL_SOCKET (asm-generic/socket.h).
#[allow(missing_docs)]
pub mod so {
    pub const DEBUG: i32 = 1;
    pub const REUSEADDR: i32 = 2;
    pub const TYPE: i32 = 3;
    pub const ERROR: i32 = 4;
    pub const DONTROUTE: i32 = 5;
    pub const BROADCAST: i32 = 6;
    pub const SNDBUF: i32 = 7;
    pub const RCVBUF: i32 = 8;
    pub const KEEPALIVE: i32 = 9;
    pub const OOBINLINE: i32 = 10;
    pub const PRIORITY: i32 = 12;
    pub const LINGER: i32 = 13;
    pub const REUSEPORT: i32 = 15;
    pub const PASSCRED: i32 = 16;
    pub const PEERCRED: i32 = 17;
    pub const RCVLOWAT: i32 = 18;
    pub const SNDLOWAT: i32 = 19;
    pub const RCVTIMEO: i32 = 20;
    pub const SNDTIMEO: i32 = 21;
    pub const PEERNAME: i32 = 28;
    pub const TIMESTAMP: i32 = 29;
    pub const ACCEPTCONN: i32 = 30;
    pub const PEERSEC: i32 = 31;
    pub const SNDBUFFORCE: i32 = 32;
    pub const RCVBUFFORCE: i32 = 33;
    pub const MARK: i32 = 36;
    pub const PROTOCOL: i32 = 38;
    pub const DOMAIN: i32 = 39;
    pub const PEEK_OFF: i32 = 42;
    pub const BUSY_POLL: i32 = 46;
    pub const INCOMING_CPU: i32 = 49;
    pub const COOKIE: i32 = 57;
    pub const PEERGROUPS: i32 = 59;
}

/// Who calls, as SO_PEERCRED and SCM_CREDENTIALS show it (`struct ucred`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Ucred {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Ucred {
    /// "Nobody": what a socket without a peer shows.
    pub const NONE: Ucred = Ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    /// As `struct ucred`.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.pid, self.uid, self.gid]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect()
    }
}

/// A control message other than SCM_RIGHTS and SCM_CREDENTIALS of UNIX sockets.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Control {
    pub level: i32,
    pub kind: i32,
    pub data: Vec<u8>,
}

/// An open file description in flight (SCM_RIGHTS); only the call layer knows its type.
pub type Passed = Rc<dyn Any>;

/// What goes with the bytes of a send.
#[derive(Default)]
pub struct Outgoing {
    /// MSG_* of the call.
    pub flags: u32,
    /// Destination, if one was given.
    pub name: Option<Vec<u8>>,
    /// The destination as an object, where the call layer resolved it (UNIX sockets).
    pub to: Option<Rc<dyn Any>>,
    /// Control messages.
    pub control: Vec<Control>,
    /// SCM_RIGHTS (UNIX sockets only).
    pub rights: Vec<Passed>,
    /// SCM_CREDENTIALS, checked (UNIX sockets only).
    pub creds: Option<Ucred>,
    /// Who sends.
    pub caller: Ucred,
}

/// What a receive is asked for, and what it found beside the bytes.
#[derive(Default)]
pub struct Incoming {
    /// MSG_* of the call.
    pub flags: u32,
    /// Source address; empty if there is none. Filled by the socket.
    pub name: Vec<u8>,
    /// Control messages. Filled by the socket.
    pub control: Vec<Control>,
    /// SCM_RIGHTS. Filled by the socket.
    pub rights: Vec<Passed>,
    /// SCM_CREDENTIALS. Filled by the socket if SO_PASSCRED is set.
    pub creds: Option<Ucred>,
    /// msg_flags: MSG_TRUNC, MSG_EOR, MSG_OOB, MSG_ERRQUEUE. Filled by the socket.
    pub out_flags: u32,
}

/// Options that every kind of socket has, kept as Linux keeps them. The call layer checks values,
/// stores them here, and then tells [`Socket::option_changed`].
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Options {
    pub reuse_addr: Cell<bool>,
    pub reuse_port: Cell<bool>,
    pub keep_alive: Cell<bool>,
    pub broadcast: Cell<bool>,
    pub oob_inline: Cell<bool>,
    pub dont_route: Cell<bool>,
    pub debug: Cell<bool>,
    pub timestamp: Cell<bool>,
    pub pass_cred: Cell<bool>,
    pub priority: Cell<i32>,
    pub mark: Cell<u32>,
    pub rcv_lowat: Cell<i32>,
    pub busy_poll: Cell<i32>,
    pub peek_off: Cell<i32>,
    /// l_onoff, l_linger (seconds).
    pub linger: Cell<(bool, i32)>,
    /// As getsockopt shows them (doubled).
    pub snd_buf: Cell<i32>,
    pub rcv_buf: Cell<i32>,
    /// None: forever.
    pub rcv_timeout: Cell<Option<Ns>>,
    pub snd_timeout: Cell<Option<Ns>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            reuse_addr: Cell::default(),
            reuse_port: Cell::default(),
            keep_alive: Cell::default(),
            broadcast: Cell::default(),
            oob_inline: Cell::default(),
            dont_route: Cell::default(),
            debug: Cell::default(),
            timestamp: Cell::default(),
            pass_cred: Cell::default(),
            priority: Cell::default(),
            mark: Cell::default(),
            rcv_lowat: Cell::new(1),
            busy_poll: Cell::default(),
            peek_off: Cell::new(-1),
            linger: Cell::default(),
            // net.core.wmem_default, rmem_default
            snd_buf: Cell::new(212_992),
            rcv_buf: Cell::new(212_992),
            rcv_timeout: Cell::default(),
            snd_timeout: Cell::default(),
        }
    }
}

/// What the call layer needs to know of any socket.
#[derive(Debug, Default)]
pub struct Base {
    /// AF_*
    pub domain: i32,
    /// SOCK_*
    pub kind: i32,
    /// IPPROTO_* as SO_PROTOCOL shows it.
    pub protocol: i32,
    /// See [`Options`].
    pub options: Options,
}

impl Base {
    /// With default options.
    pub fn new(domain: i32, kind: i32, protocol: i32) -> Base {
        Base {
            domain,
            kind,
            protocol,
            options: Options::default(),
        }
    }
}

/// A socket. [`File::socket`] leads from the file to it; `File::read` and `write` are expected to
/// be `recv` and `send` without extras.
pub trait Socket: File {
    /// Domain, type, options.
    fn base(&self) -> &Base;
    /// bind(2). UNIX addresses are handled by the call layer and never come here.
    fn bind(&self, _env: &mut Env<'_>, _addr: &[u8]) -> Io<()> {
        err(Errno::EOPNOTSUPP)
    }
    /// listen(2). `backlog` is already cut to somaxconn.
    fn listen(&self, _env: &mut Env<'_>, _backlog: i32, _caller: Ucred) -> Io<()> {
        err(Errno::EOPNOTSUPP)
    }
    /// SO_ACCEPTCONN.
    fn listening(&self) -> bool {
        false
    }
    /// Takes a connection: the new socket's file and its peer's address. EAGAIN if there is none.
    fn accept(&self, _env: &mut Env<'_>) -> Io<(FileRef, Vec<u8>)> {
        err(Errno::EOPNOTSUPP)
    }
    /// connect(2). EINPROGRESS: started, and it becomes known on the queue (Poll::OUT, ERR or HUP);
    /// a blocking caller then comes back with `again` and gets EINPROGRESS until it has ended, and
    /// then Ok or the error. A fresh call while one is under way is EALREADY.
    fn connect(&self, _env: &mut Env<'_>, _addr: &[u8], _again: bool) -> Io<()> {
        err(Errno::EOPNOTSUPP)
    }
    /// connect(2) has just ended with this error (0: none) without waiting for anybody, where Linux's loopback takes a moment. A caller
    /// that does not wait (`waits`) is told so when it asks again: true, and this call is EINPROGRESS.
    fn ended_at_once(&self, _error: i32, _waits: bool) -> bool {
        false
    }
    /// getsockname(2).
    fn local_name(&self, env: &mut Env<'_>) -> Io<Vec<u8>>;
    /// getpeername(2).
    fn peer_name(&self, env: &mut Env<'_>) -> Io<Vec<u8>>;
    /// Sends; the count of bytes taken. A stream may take fewer than there are, the call layer goes
    /// on with the rest. EAGAIN: no room. EPIPE: the call layer raises SIGPIPE.
    fn send(&self, env: &mut Env<'_>, msg: &mut Outgoing, src: &mut Src) -> Io<u64>;
    /// Receives; the call's result: bytes stored, or with MSG_TRUNC a datagram's full length.
    fn recv(&self, env: &mut Env<'_>, msg: &mut Incoming, dst: &mut Dst) -> Io<u64>;
    /// shutdown(2); `how` is SHUT_*.
    fn shutdown(&self, env: &mut Env<'_>, how: i32) -> Io<()>;
    /// Takes the pending error (SO_ERROR), 0 if none.
    fn take_error(&self, _env: &mut Env<'_>) -> i32 {
        0
    }
    /// A SOL_SOCKET option in [`Options`] was just set.
    fn option_changed(&self, _env: &mut Env<'_>, _name: i32) {}
    /// An option that is not in [`Options`].
    fn set_option(&self, _env: &mut Env<'_>, _level: i32, _name: i32, _value: &[u8]) -> Io<()> {
        err(Errno::ENOPROTOOPT)
    }
    /// An option that is not in [`Options`]; at most `len` bytes are used.
    fn get_option(&self, _env: &mut Env<'_>, _level: i32, _name: i32, _len: usize) -> Io<Vec<u8>> {
        err(Errno::ENOPROTOOPT)
    }
}
