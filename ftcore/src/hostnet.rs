//! Host sockets as a device (DESIGN §7 `--net host`, PROTOCOL §7): what the image asks of them.
//!
//! The image names a socket by a [`Handle`] that it allocated. Bytes, datagrams, accepted
//! connections and failures come as [`crate::door::Input`]s; the methods here are queries. The
//! image keeps the buffers, so what a guest's write() returns depends on the image only: the answer
//! of [`HostNet::net_send`] is predicted as "all", and only a short count needs a record.
//!
//! Every method has the answer of `--net none` as its default: no host network at all.

use crate::errno::Errno;
use crate::platform::Handle;

/// What a datagram takes of its socket's window beside its bytes, so that empty ones are bounded.
pub const DATAGRAM_COST: usize = 256;

/// What an accepted connection may bring in before the image has granted anything.
pub const ACCEPT_WINDOW: usize = 64 * 1024;

/// Bytes of a `struct sockaddr_*` as Linux lays it out. Empty: none.
pub type SockAddr = Vec<u8>;

/// How a connect went so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Connect {
    /// Done; our side's address.
    Done(SockAddr),
    /// An [`crate::door::Input::Connected`] follows.
    Pending,
}

/// An interface of the host, for netlink, SIOCGIF* and /proc/net.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// Number, from 1.
    pub index: u32,
    /// Name.
    pub name: Vec<u8>,
    /// IFF_*.
    pub flags: u32,
    /// ARPHRD_*.
    pub kind: u16,
    /// MTU.
    pub mtu: u32,
    /// Link-layer address.
    pub mac: Vec<u8>,
    /// Address bytes (4 or 16), prefix length, scope (RT_SCOPE_*).
    pub addrs: Vec<(Vec<u8>, u8, u8)>,
    /// Default route's gateway through it, if any.
    pub gateway: Option<Vec<u8>>,
}

/// Host sockets. Families, kinds, options and flags are Linux' own numbers.
pub trait HostNet {
    /// True under `--net host`. A query, asked once.
    fn net_present(&mut self) -> bool {
        false
    }
    /// Opens a non-blocking socket as `new`. A query.
    fn net_socket(&mut self, family: i32, kind: i32, protocol: i32, new: Handle) -> Result<(), Errno> {
        let _ = (family, kind, protocol, new);
        Err(Errno::EAFNOSUPPORT)
    }
    /// bind(2); the address that it got. A query.
    fn net_bind(&mut self, h: Handle, addr: &[u8]) -> Result<SockAddr, Errno> {
        let _ = (h, addr);
        Err(Errno::EADDRNOTAVAIL)
    }
    /// listen(2); its address, for a socket that was not bound. A query.
    fn net_listen(&mut self, h: Handle, backlog: i32) -> Result<SockAddr, Errno> {
        let _ = (h, backlog);
        Err(Errno::EOPNOTSUPP)
    }
    /// The listener may accept one more connection, as `conn`; used in the order of granting. So
    /// the image chooses the names, and the device never accepts more than the image has room for.
    fn net_grant_accept(&mut self, listener: Handle, conn: Handle) {
        let _ = (listener, conn);
    }
    /// connect(2); for UDP it sets the peer (an empty address removes it). A query.
    fn net_connect(&mut self, h: Handle, addr: &[u8]) -> Result<Connect, Errno> {
        let _ = (h, addr);
        Err(Errno::ENETUNREACH)
    }
    /// The socket's bytes or datagrams may arrive, this many bytes more than granted before.
    fn net_grant(&mut self, h: Handle, bytes: usize) {
        let _ = (h, bytes);
    }
    /// Sends on a stream; `more`: MSG_MORE. Says how many bytes were taken; when short, an
    /// [`crate::door::Input::Writable`] follows once there is room. A query and an output.
    fn net_send(&mut self, h: Handle, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        let _ = (h, bytes, more);
        Err(Errno::EPIPE)
    }
    /// Sends a datagram, to the connected peer if `to` is empty, with a buffer of control messages
    /// (cmsg(3)) if `control` is not. EAGAIN: a Writable follows. A query and an output.
    fn net_send_to(&mut self, h: Handle, bytes: &[u8], to: &[u8], control: &[u8]) -> Result<usize, Errno> {
        let _ = (h, bytes, to, control);
        Err(Errno::ENETUNREACH)
    }
    /// shutdown(2) with SHUT_RD, SHUT_WR or SHUT_RDWR. An output.
    fn net_shutdown(&mut self, h: Handle, how: i32) -> Result<(), Errno> {
        let _ = (h, how);
        Ok(())
    }
    /// The image has let go of the socket: send `rest`, then close; `abort`: reset instead.
    fn net_close(&mut self, h: Handle, rest: Vec<u8>, abort: bool) {
        let _ = (h, rest, abort);
    }
    /// setsockopt(2). A query.
    fn net_set_option(&mut self, h: Handle, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        let _ = (h, level, name, value);
        Err(Errno::ENOPROTOOPT)
    }
    /// getsockopt(2) with room for `len` bytes. A query.
    fn net_get_option(&mut self, h: Handle, level: i32, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
        let _ = (h, level, name, len);
        Err(Errno::ENOPROTOOPT)
    }
    /// getsockname(2) where the image cannot know (a UDP socket bound by its first send). A query.
    fn net_local(&mut self, h: Handle) -> Result<SockAddr, Errno> {
        let _ = h;
        Err(Errno::EINVAL)
    }
    /// bind(2) of a UNIX socket to `name` below the host directory `dir`, where a node with the permissions
    /// `mode` is made: EADDRINUSE if there is one. A query and an output.
    fn net_bind_at(&mut self, h: Handle, dir: Handle, name: &[u8], mode: u32) -> Result<(), Errno> {
        let _ = (h, dir, name, mode);
        Err(Errno::EADDRNOTAVAIL)
    }
    /// Which of the image's sockets is bound to the node at `name` below `dir`: after a restore it is another inode
    /// than it was. A query.
    fn net_bound_at(&mut self, dir: Handle, name: &[u8]) -> Option<Handle> {
        let _ = (dir, name);
        None
    }
    /// connect(2) of a UNIX socket to the one at `name` below `dir`; the name that this one has bound itself. EAGAIN:
    /// its queue is full, and nothing tells when it is not. A query.
    fn net_connect_at(&mut self, h: Handle, dir: Handle, name: &[u8]) -> Result<SockAddr, Errno> {
        let _ = (h, dir, name);
        Err(Errno::ECONNREFUSED)
    }
    /// Sends a datagram to the UNIX socket at `name` below `dir`. EAGAIN: as for [`HostNet::net_connect_at`]. A query
    /// and an output.
    fn net_send_at(&mut self, h: Handle, bytes: &[u8], dir: Handle, name: &[u8]) -> Result<usize, Errno> {
        let _ = (h, bytes, dir, name);
        Err(Errno::ECONNREFUSED)
    }
    /// Bytes that the host has not sent or that were not acknowledged (SIOCOUTQ). A query.
    fn net_unsent(&mut self, h: Handle) -> u32 {
        let _ = h;
        0
    }
    /// The host's interfaces by index. `None`: no host network. A query.
    fn net_interfaces(&mut self) -> Option<Vec<Interface>> {
        None
    }
}
