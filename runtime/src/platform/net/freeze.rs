//! Host sockets in snapshots: what can be made again (listeners, datagram sockets) and what cannot
//! (connections: the image is told that they were reset).

use super::{Kind, Net, sys, unix};
use crate::platform::errno;
use crate::snap::state::SocketRow;
use crate::sys::sys;
use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::platform::Handle;
use mio::Interest;
use std::os::fd::{FromRawFd, OwnedFd};

/// Options that a socket is made again with; those of another family are refused both times, and left out.
const OPTIONS: [(i32, i32); 36] = [
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_DONTROUTE),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IP, libc::IP_RECVTOS),
    (libc::IPPROTO_IP, libc::IP_RECVTTL),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IP, libc::IP_FREEBIND),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
];

fn int_option(fd: &OwnedFd, name: i32) -> i32 {
    let bytes = sys::get_option(fd, libc::SOL_SOCKET, name, 4).unwrap_or_default();
    bytes.first_chunk().map_or(0, |b| i32::from_le_bytes(*b))
}

/// There is something to bind or connect to again.
fn has_name(addr: &[u8]) -> bool {
    match addr.first_chunk() {
        Some(f) if *f == (libc::AF_UNIX as u16).to_le_bytes() => !unix::path_of(addr).is_empty(),
        _ => addr.len() >= 4 && addr[2..4] != [0, 0],
    }
}

impl Net {
    /// Every socket as data, by handle.
    pub fn freeze(&self) -> Vec<SocketRow> {
        let rows = self.socks.iter().filter(|(_, s)| s.rest.is_none());
        rows.map(|(h, s)| SocketRow {
            handle: h.0,
            kind: s.kind as u8,
            domain: (
                int_option(&s.fd, libc::SO_DOMAIN),
                int_option(&s.fd, libc::SO_TYPE),
                int_option(&s.fd, libc::SO_PROTOCOL),
            ),
            local: match s.unix {
                0 => sys::local(&s.fd).unwrap_or_default(),
                _ => unix::name_of(&s.fd, s.node),
            },
            peer: match s.kind {
                Kind::Datagram => sys::peer(&s.fd).unwrap_or_default(),
                _ => Vec::new(),
            },
            remote: match s.kind {
                Kind::Stream | Kind::Connecting | Kind::Packets => sys::peer(&s.fd).unwrap_or_default(),
                _ => Vec::new(),
            },
            backlog: s.backlog,
            mode: s.mode,
            options: OPTIONS
                .iter()
                .filter_map(|(level, name)| {
                    Some((*level, *name, sys::get_option(&s.fd, *level, *name, 8).ok()?))
                })
                .collect(),
            window: s.window as u64,
            grants: s.grants.iter().map(|h| h.0).collect(),
            ended: s.ended,
        })
        .collect()
    }

    /// The image goes on elsewhere: peers of its connections learn now that they are cut, and nothing of them keeps
    /// its ports from it.
    pub fn abort(&self) {
        let on = 1i32.to_le_bytes();
        let at_once = [on, [0; 4]].concat();
        for s in self
            .socks
            .values()
            .filter(|s| matches!(s.kind, Kind::Stream | Kind::Connecting))
        {
            let _ = sys::set_option(&s.fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &on);
            let _ = sys::set_option(&s.fd, libc::SOL_SOCKET, libc::SO_LINGER, &at_once);
        }
    }

    /// Makes a socket again. Connections come back closed, which the image learns by inputs.
    pub fn thaw(&mut self, row: &SocketRow, door: &mut dyn FnMut(Input)) -> Result<(), Errno> {
        let h = Handle(row.handle);
        match row.kind {
            k if [Kind::Connecting as u8, Kind::Stream as u8, Kind::Packets as u8].contains(&k) => {
                self.add(h, closed()?, Kind::Stream);
                let s = self.get(h)?;
                s.ended = true;
                if k == Kind::Connecting as u8 {
                    s.kind = Kind::Idle;
                    door(Input::Connected(h, libc::ECONNRESET, Vec::new()));
                } else if !row.ended {
                    door(Input::Failed(h, libc::ECONNRESET));
                }
                return Ok(());
            }
            _ => {}
        }
        let (domain, kind, protocol) = row.domain;
        self.socket(domain, kind, protocol, h)?;
        let s = self.get(h)?;
        set_options(&s.fd, row);
        let mut bound = true;
        if domain == libc::AF_UNIX {
            bound = self.thaw_unix(h, row, door)?;
        } else if has_name(&row.local) {
            // What is left of the image's own connections does not keep its port from it.
            let reuse = sys::get_option(&s.fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 4).unwrap_or_default();
            let stream = row.kind == Kind::Listener as u8 || kind == libc::SOCK_STREAM;
            if stream {
                let _ = sys::set_option(&s.fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32.to_le_bytes());
            }
            sys::bind(&s.fd, &row.local)?;
            if stream {
                let _ = sys::set_option(&s.fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &reuse);
            }
        }
        if row.kind == Kind::Listener as u8 && bound {
            self.listen(h, row.backlog)?;
        }
        if has_name(&row.peer) {
            let r = sys::connect(&self.get(h)?.fd, &row.peer);
            if domain == libc::AF_UNIX {
                // What its peer answers now is what a send would find.
                if let Err(e) = r {
                    door(Input::Failed(h, e.raw()));
                }
            } else {
                r?;
            }
        }
        let s = self.get(h)?;
        s.window = row.window as usize;
        s.grants = row.grants.iter().map(|h| Handle(*h)).collect();
        if matches!(s.kind, Kind::Listener | Kind::Datagram) {
            self.watch(h, Interest::READABLE);
        }
        Ok(())
    }
}

impl Net {
    /// Binds a UNIX socket again, at the same path. False: the path is somebody else's now (a clone's is the
    /// original's), and only programs of the image reach the socket by it.
    fn thaw_unix(&mut self, h: Handle, row: &SocketRow, door: &mut dyn FnMut(Input)) -> Result<bool, Errno> {
        let path = unix::path_of(&row.local);
        if path.is_empty() {
            return Ok(false);
        }
        let s = self.get(h)?;
        s.mode = row.mode;
        let e = match unix::bind_again(&s.fd, path, row.mode) {
            Ok(node) => {
                s.node = node;
                door(Input::Connected(h, 0, Vec::new()));
                return Ok(true);
            }
            Err(e) => e,
        };
        let path = String::from_utf8_lossy(path);
        let why = match e {
            Errno::EADDRINUSE => "is in use on the host".to_string(),
            e => format!("cannot be bound on the host ({e:?})"),
        };
        crate::talk::note(&format!(
            "UNIX socket {path} {why}: only programs of the image reach theirs"
        ));
        Ok(false)
    }
}

/// Options as they were, where this host grants them.
fn set_options(fd: &OwnedFd, row: &SocketRow) {
    let now = |level, name| sys::get_option(fd, level, name, 8).ok();
    for (level, name, value) in &row.options {
        // Setting a buffer's size, even to the same, ends its growing by itself.
        if now(*level, *name).as_ref() == Some(value) {
            continue;
        }
        let half = *level == libc::SOL_SOCKET && [libc::SO_SNDBUF, libc::SO_RCVBUF].contains(name);
        let value = match value.first_chunk() {
            // The buffers' sizes come back doubled (socket(7)); limits of this host may be lower.
            Some(b) if half => (i32::from_le_bytes(*b) / 2).to_le_bytes().to_vec(),
            _ => value.clone(),
        };
        let _ = sys::set_option(fd, *level, *name, &value);
    }
}

/// A socket whose other side has gone.
fn closed() -> Result<OwnedFd, Errno> {
    let mut fds = [-1i32; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the array takes two descriptors; both are owned right after.
    let (ours, _theirs) = unsafe {
        sys!(libc::SYS_socketpair, libc::AF_UNIX, kind, 0, fds.as_mut_ptr()).map_err(errno)?;
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    };
    Ok(ours)
}
