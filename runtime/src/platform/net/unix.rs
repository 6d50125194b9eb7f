//! UNIX sockets of the host with names in its file system.
//!
//! A name is a host directory and a path below it, as for files: no symlink in it is followed, the kernel has walked
//! those. `sockaddr_un` takes paths only, of 107 bytes; so a socket that exists is reached by a descriptor of its node,
//! and one that is bound gets the absolute path, because that is what its peers see as its name and answer to.

use super::{DATAGRAM_COST, FAIR, Kind, Net, SCRATCH, keep, sys};
use crate::platform::errno;
use crate::platform::files::{Temp, open_below, parent, stat_of};
use crate::sys::sys;
use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::hostnet::SockAddr;
use ftl_core::platform::Handle;
use mio::Interest;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// sizeof(sun_path)
const PATH_MAX: usize = 108;
/// A packet that is larger than this does not wait for a window that would hold it.
const LARGE: usize = 64 * 1024;

fn sockaddr(path: &[u8]) -> Result<Vec<u8>, Errno> {
    if path.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut v = (libc::AF_UNIX as u16).to_le_bytes().to_vec();
    v.extend_from_slice(path);
    v.push(0);
    Ok(v)
}

/// The path in a socket's address; empty if it has none.
pub fn path_of(addr: &[u8]) -> &[u8] {
    let unix = addr.len() > 3 && addr[..2] == (libc::AF_UNIX as u16).to_le_bytes() && addr[2] != 0;
    let path = if unix { &addr[2..] } else { &[] };
    &path[..path.iter().position(|b| *b == 0).unwrap_or(path.len())]
}

/// An address for `last` in the directory: absolute if there is room and the path still leads there.
fn address_in(dir: RawFd, last: &[u8]) -> Result<Vec<u8>, Errno> {
    // No std::fs here: the thread's own data is the guest's while the image runs.
    let by_fd = format!("/proc/self/fd/{dir}");
    let mut path = [0u8; PATH_MAX];
    let link = [by_fd.as_bytes(), b"\0"].concat();
    // SAFETY: a path that ends in a NUL, and a buffer of the stated length.
    let n = unsafe { sys!(libc::SYS_readlink, link.as_ptr(), path.as_mut_ptr(), path.len()) };
    if let Ok(n) = n
        && let Ok(there) = open_dir(&path[..n as usize])
        && let (Ok(a), Ok(b)) = (stat_of(there.0, None), stat_of(dir, None))
        && (a.dev, a.ino) == (b.dev, b.ino)
    {
        let mut full = path[..n as usize].to_vec();
        if full.last() != Some(&b'/') {
            full.push(b'/');
        }
        full.extend_from_slice(last);
        if let Ok(addr) = sockaddr(&full) {
            return Ok(addr);
        }
    }
    sockaddr(&[by_fd.as_bytes(), b"/", last].concat())
}

/// A descriptor of a node, and the address that leads to it.
fn node(dir: RawFd, name: &[u8]) -> Result<(Temp, Vec<u8>), Errno> {
    let fd = open_below(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
    let addr = sockaddr(format!("/proc/self/fd/{fd}").as_bytes());
    Ok((Temp(fd), addr?))
}

/// fchmod(2) of a socket that is not bound: the permissions of the node that bind(2) makes.
fn set_mode(fd: &OwnedFd, mode: u32) {
    // SAFETY: no pointers.
    let _ = unsafe { sys!(libc::SYS_fchmod, fd.as_raw_fd(), mode & 0o777) };
}

/// Binds to `name` below `dir`; the node that was made, by device and inode number.
pub(super) fn bind_below(fd: &OwnedFd, dir: RawFd, name: &[u8], mode: u32) -> Result<(u64, u64), Errno> {
    let p = parent(dir, name)?;
    set_mode(fd, mode);
    sys::bind(fd, &address_in(p.fd, p.last)?)?;
    let st = stat_of(node(p.fd, p.last)?.0.0, None)?;
    Ok((st.dev, st.ino))
}

/// Both sides of a connection are shut (EPOLLHUP): the peer has closed.
fn hung_up(fd: &OwnedFd) -> bool {
    let mut p = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: 0,
        revents: 0,
    };
    // SAFETY: one pollfd.
    let r = unsafe { sys!(libc::SYS_poll, &raw mut p, 1, 0) };
    r == Ok(1) && p.revents & libc::POLLHUP != 0
}

/// Bytes of the packet that is next (SIOCINQ).
fn next_size(fd: &OwnedFd) -> usize {
    let mut n: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    let r = unsafe { sys!(libc::SYS_ioctl, fd.as_raw_fd(), libc::FIONREAD, &raw mut n) };
    if r.is_err() { 0 } else { n.max(0) as usize }
}

/// What [`receive`] got.
struct Got {
    len: usize,
    from: Vec<u8>,
    /// Descriptors came along, and are closed: the image has no use for them.
    lost_rights: bool,
    /// A packet, and not the end: with SO_TIMESTAMP each has the time of its arrival.
    stamped: bool,
}

/// recvmsg(2), never waiting.
fn receive(fd: &OwnedFd, buf: &mut [u8]) -> Result<Got, Errno> {
    /// CMSG_SPACE(sizeof(struct timeval)): room for no descriptor beside it.
    const CONTROL: usize = 32;
    let mut addr = [0u8; sys::ADDR_MAX];
    let mut control = [0u64; CONTROL / 8];
    let mut iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    loop {
        // SAFETY: msghdr is a plain C struct for which all zeroes is valid.
        let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
        msg.msg_name = addr.as_mut_ptr().cast();
        msg.msg_namelen = sys::ADDR_MAX as u32;
        msg.msg_iov = &raw mut iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.as_mut_ptr().cast();
        msg.msg_controllen = CONTROL;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the header points to live buffers of the stated lengths.
        let r = unsafe { sys!(libc::SYS_recvmsg, fd.as_raw_fd(), &raw mut msg, flags) };
        let len = match r.map_err(errno) {
            Err(Errno::EINTR) => continue,
            r => r? as usize,
        };
        let mut lost_rights = msg.msg_flags & libc::MSG_CTRUNC != 0;
        // Without a timestamp before it one descriptor fits: it is closed.
        let words: &[u64; CONTROL / 8] = &control;
        let kind = words[1] as u32 as i32;
        let level_kind = (kind, (words[1] >> 32) as i32);
        if msg.msg_controllen >= 20 && level_kind == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            let count = ((words[0] as usize).saturating_sub(16) / 4).min(4);
            for i in 0..count {
                drop(Temp((words[2 + i / 2] >> (32 * (i % 2))) as u32 as i32));
            }
            lost_rights = true;
        }
        return Ok(Got {
            len,
            from: addr[..(msg.msg_namelen as usize).min(sys::ADDR_MAX)].to_vec(),
            lost_rights,
            stamped: level_kind == (libc::SOL_SOCKET, libc::SCM_TIMESTAMP),
        });
    }
}

impl Net {
    /// See `HostNet::net_bind_at`.
    pub fn bind_at(&mut self, h: Handle, dir: RawFd, name: &[u8], mode: u32) -> Result<(), Errno> {
        let s = self.get(h)?;
        s.node = bind_below(&s.fd, dir, name, mode)?;
        s.mode = mode;
        Ok(())
    }

    /// See `HostNet::net_bound_at`.
    pub fn bound_at(&self, dir: RawFd, name: &[u8]) -> Option<Handle> {
        let st = stat_of(node(dir, name).ok()?.0.0, None).ok()?;
        let mut all = self.socks.iter().filter(|(_, s)| s.unix != 0 && s.rest.is_none());
        all.find(|(_, s)| s.node == (st.dev, st.ino)).map(|(h, _)| *h)
    }

    /// See `HostNet::net_connect_at`.
    pub fn connect_at(&mut self, h: Handle, dir: RawFd, name: &[u8]) -> Result<SockAddr, Errno> {
        let (_node, addr) = node(dir, name)?;
        let s = self.get(h)?;
        s.ended = false;
        s.special = false;
        sys::connect(&s.fd, &addr)?;
        let peer = sys::peer(&s.fd)?;
        match s.unix {
            libc::SOCK_STREAM => s.kind = Kind::Stream,
            libc::SOCK_SEQPACKET => self.begin_packets(h)?,
            _ => return Ok(peer),
        }
        self.watch(h, Interest::READABLE);
        Ok(peer)
    }

    /// Sequenced packets come with a timestamp, which tells an empty one from the end.
    pub(super) fn begin_packets(&mut self, h: Handle) -> Result<(), Errno> {
        let s = self.get(h)?;
        s.kind = Kind::Packets;
        sys::set_option(&s.fd, libc::SOL_SOCKET, libc::SO_TIMESTAMP, &1i32.to_le_bytes())
    }

    /// See `HostNet::net_send_at`.
    pub fn send_at(&mut self, h: Handle, bytes: &[u8], dir: RawFd, name: &[u8]) -> Result<usize, Errno> {
        let (_node, addr) = node(dir, name)?;
        sys::send_to(&self.get(h)?.fd, bytes, &addr)
    }

    /// The peer of a connection has closed, after it had shut down its sending side before.
    pub(super) fn check_gone(&mut self, h: Handle, door: &mut dyn FnMut(Input)) {
        let Some(s) = self.socks.get_mut(&h) else { return };
        if s.ended && !s.gone && matches!(s.kind, Kind::Stream | Kind::Packets) && hung_up(&s.fd) {
            s.gone = true;
            door(Input::Failed(h, libc::EPIPE));
        }
    }

    /// Reads a stream to where it is drained, or the window is full.
    pub(super) fn read_unix_stream(&mut self, h: Handle, door: &mut dyn FnMut(Input)) {
        let Some(s) = self.socks.get_mut(&h) else { return };
        let mut budget = FAIR;
        while !s.ended {
            // The peer of a UNIX socket keeps what does not fit, also when it has closed.
            let room = s.window.min(SCRATCH);
            if room == 0 {
                return;
            }
            if budget == 0 {
                self.try_again(h);
                return;
            }
            match receive(&s.fd, &mut self.scratch[..room]) {
                Ok(got) if got.len == 0 => {
                    s.ended = true;
                    door(Input::Eof(h));
                }
                Ok(got) => {
                    s.window = s.window.saturating_sub(got.len);
                    budget = budget.saturating_sub(got.len);
                    let bytes = keep(&self.scratch[..got.len]);
                    door(if got.lost_rights {
                        Input::Datagram(h, bytes, Vec::new(), true)
                    } else {
                        Input::Data(h, bytes)
                    });
                }
                Err(Errno::EAGAIN) => break,
                Err(e) => {
                    s.ended = true;
                    s.gone = true;
                    door(Input::Failed(h, e.raw()));
                }
            }
        }
        s.readable = false;
        self.check_gone(h, door);
    }

    /// Reads datagrams or sequenced packets.
    pub(super) fn read_packets(&mut self, h: Handle, door: &mut dyn FnMut(Input)) {
        let Some(s) = self.socks.get_mut(&h) else { return };
        let mut budget = FAIR;
        while !s.ended {
            let size = next_size(&s.fd);
            if s.window < size.min(LARGE) + DATAGRAM_COST {
                return;
            }
            if budget == 0 {
                self.try_again(h);
                return;
            }
            if self.scratch.len() < size {
                self.scratch.resize(size, 0);
            }
            match receive(&s.fd, &mut self.scratch) {
                Ok(got) if s.kind == Kind::Packets && got.len == 0 && !got.stamped => {
                    s.ended = true;
                    door(Input::Eof(h));
                }
                // A socket that is shut down for reading.
                Ok(got) if got.len == 0 && size == 0 && hung_up(&s.fd) => s.ended = true,
                Ok(got) => {
                    let cost = got.len + DATAGRAM_COST;
                    s.window = s.window.saturating_sub(cost);
                    budget = budget.saturating_sub(cost);
                    let bytes = keep(&self.scratch[..got.len]);
                    door(Input::Datagram(h, bytes, keep(&got.from), got.lost_rights));
                }
                Err(Errno::EAGAIN) => break,
                Err(e) => {
                    s.ended = s.kind == Kind::Packets;
                    s.gone = s.ended;
                    door(Input::Failed(h, e.raw()));
                }
            }
        }
        s.readable = false;
        self.check_gone(h, door);
    }
}

/// The name that a socket has bound, for a snapshot: empty if its node is not there any more.
pub(super) fn name_of(fd: &OwnedFd, bound: (u64, u64)) -> Vec<u8> {
    let addr = sys::local(fd).unwrap_or_default();
    let path = path_of(&addr);
    let at = path.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
    let there = open_dir(&path[..at])
        .and_then(|dir| node(dir.0, &path[at..]))
        .and_then(|(n, _)| stat_of(n.0, None));
    match there {
        Ok(st) if (st.dev, st.ino) == bound => addr,
        _ => Vec::new(),
    }
}

/// Binds a socket of a snapshot again. A node that nobody listens at any more is the image's own of before.
pub(super) fn bind_again(fd: &OwnedFd, path: &[u8], mode: u32) -> Result<(u64, u64), Errno> {
    let at = path.iter().rposition(|b| *b == b'/').ok_or(Errno::EINVAL)? + 1;
    let (dir, last) = (open_dir(&path[..at])?, &path[at..]);
    match bind_below(fd, dir.0, last, mode) {
        Err(Errno::EADDRINUSE) => {}
        r => return r,
    }
    let kind = sys::get_option(fd, libc::SOL_SOCKET, libc::SO_TYPE, 4)?;
    let kind = kind.first_chunk().map_or(0, |b| i32::from_le_bytes(*b));
    let (node, addr) = node(dir.0, last)?;
    let probe = sys::socket(libc::AF_UNIX, kind, 0)?;
    let left = stat_of(node.0, None)?.mode & libc::S_IFMT == libc::S_IFSOCK;
    if !left || sys::connect(&probe, &addr) != Err(Errno::ECONNREFUSED) {
        return Err(Errno::EADDRINUSE);
    }
    let name = [last, b"\0"].concat();
    // SAFETY: a name that ends in a NUL.
    unsafe { sys!(libc::SYS_unlinkat, dir.0, name.as_ptr(), 0) }.map_err(errno)?;
    bind_below(fd, dir.0, last, mode)
}

/// A host directory by its path.
fn open_dir(path: &[u8]) -> Result<Temp, Errno> {
    let path = [path, b"\0"].concat();
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: a path that ends in a NUL; the descriptor is owned right after.
    let fd = unsafe { sys!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) }.map_err(errno)?;
    Ok(Temp(fd as i32))
}
