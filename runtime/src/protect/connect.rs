//! Connecting without waiting.

use crate::sys::{HostErr, sys};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A connection that may come.
#[derive(Debug)]
pub struct Coming(Option<OwnedFd>);

/// A link on which nothing is acknowledged for this long is broken, ms: a new one is tried.
pub const SILENCE_MS: i32 = 3_000;

/// Sets a connected link's options.
pub fn tune(fd: i32) {
    // A host's default may pace what it sends, as BBR does: many short messages, each awaited, must not wait for
    // a timer. An unprivileged process may choose among the host's tcp_allowed_congestion_control only.
    for name in [c"cubic", c"reno"] {
        let len = name.count_bytes();
        // SAFETY: a valid pointer and its length.
        let set = unsafe {
            sys!(
                libc::SYS_setsockopt,
                fd,
                libc::IPPROTO_TCP,
                libc::TCP_CONGESTION,
                name.as_ptr(),
                len
            )
        };
        if set.is_ok() {
            break;
        }
    }
    for (name, value) in [(libc::TCP_NODELAY, 1i32), (libc::TCP_USER_TIMEOUT, SILENCE_MS)] {
        // SAFETY: a valid pointer. One that the host does not know is missed by nobody but latency.
        let _ = unsafe {
            sys!(
                libc::SYS_setsockopt,
                fd,
                libc::IPPROTO_TCP,
                name,
                &raw const value,
                4
            )
        };
    }
}

/// sockaddr bytes of an address.
fn encode(a: SocketAddr) -> Vec<u8> {
    let mut b = Vec::new();
    match a {
        SocketAddr::V4(a) => {
            b.extend((libc::AF_INET as u16).to_le_bytes());
            b.extend(a.port().to_be_bytes());
            b.extend(a.ip().octets());
            b.extend([0; 8]);
        }
        SocketAddr::V6(a) => {
            b.extend((libc::AF_INET6 as u16).to_le_bytes());
            b.extend(a.port().to_be_bytes());
            b.extend([0; 4]);
            b.extend(a.ip().octets());
            b.extend(a.scope_id().to_le_bytes());
        }
    }
    b
}

impl Coming {
    /// Starts to connect. Addresses are numbers: names would ask a resolver, which waits.
    pub fn start(peer: &str) -> Option<Coming> {
        let addr = peer.to_socket_addrs().ok()?.next()?;
        let bytes = encode(addr);
        let family = if addr.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: a new descriptor is owned at once; the slices are valid for the calls.
        unsafe {
            let fd = sys!(libc::SYS_socket, family, kind, 0).ok()?;
            let fd = OwnedFd::from_raw_fd(fd as i32);
            match sys!(libc::SYS_connect, fd.as_raw_fd(), bytes.as_ptr(), bytes.len()) {
                Ok(_) | Err(HostErr(libc::EINPROGRESS)) => Some(Coming(Some(fd))),
                Err(_) => None,
            }
        }
    }

    /// `None`: not yet.
    pub fn look(&mut self) -> Option<Result<OwnedFd, ()>> {
        let fd = self.0.as_ref()?;
        let mut p = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLOUT,
            revents: 0,
        };
        let mut error = 0i32;
        let mut len = 4u32;
        // SAFETY: valid pointers.
        unsafe {
            if sys!(libc::SYS_poll, &raw mut p, 1, 0) != Ok(1) {
                return None;
            }
            tune(fd.as_raw_fd());
            let _ = sys!(
                libc::SYS_getsockopt,
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                &raw mut error,
                &raw mut len
            );
        }
        let fd = self.0.take()?;
        Some(if error == 0 { Ok(fd) } else { Err(()) })
    }
}
