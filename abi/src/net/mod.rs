//! The socket calls: decoding, descriptors and waiting, the same for every kind of socket.
//!
//! What a socket does is behind [`ftl_core::socket::Socket`]; addresses of UNIX sockets are
//! resolved here (`unix`), because they are names in the file system.

pub mod cmsg;
pub mod control;
pub mod host;
pub mod ifreq;
pub mod inet;
mod inet_bytes;
mod inet_own;
mod inet_stream;
pub mod inet_tcp;
pub mod inet_udp;
pub mod loopback;
pub mod msg;
pub mod netlink;
pub mod opts;
pub mod own;
mod sockopt;
pub mod unix;
pub mod unix_path;

use crate::args::{Bits, Fd, Ptr};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, Restart, Stop, err};
use ftl_core::platform::Ns;
use ftl_core::socket::{Socket, Ucred, num};
use ftl_core::wait::{Poll, Wake};
use std::rc::Rc;

/// Bytes of struct sockaddr_storage.
pub const ADDR_MAX: usize = 128;
/// net.core.somaxconn
pub const SOMAXCONN: i32 = 4096;

/// The socket behind a description: ENOTSOCK otherwise.
pub fn socket_of(open: &OpenFile) -> Result<&dyn Socket, Errno> {
    if open.flags.get() & oflag::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    open.file.socket().ok_or(Errno::ENOTSOCK)
}

/// The caller as SO_PEERCRED shows it: effective ids.
pub fn effective(cx: &Cx<'_>) -> Ucred {
    let c = cx.task.creds.borrow();
    Ucred {
        pid: cx.task.process().pid.0,
        uid: c.euid,
        gid: c.egid,
    }
}

/// The caller as SCM_CREDENTIALS shows it: real ids.
pub fn real(cx: &Cx<'_>) -> Ucred {
    let c = cx.task.creds.borrow();
    Ucred {
        pid: cx.task.process().pid.0,
        uid: c.ruid,
        gid: c.rgid,
    }
}

/// Reads a sockaddr (move_addr_to_kernel).
pub fn read_addr(cx: &mut Cx<'_>, addr: Ptr, len: i32) -> Result<Vec<u8>, Errno> {
    if len < 0 || len as usize > ADDR_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; len as usize];
    cx.read(addr.0, &mut bytes)?;
    Ok(bytes)
}

/// Writes a sockaddr and its length (move_addr_to_user).
pub fn write_addr(cx: &mut Cx<'_>, addr: Ptr, len_at: Ptr, bytes: &[u8]) -> Result<(), Errno> {
    let room: i32 = cx.get(len_at.0)?;
    if room < 0 {
        return Err(Errno::EINVAL);
    }
    let n = bytes.len().min(room as usize);
    cx.write(addr.0, &bytes[..n])?;
    cx.put(len_at.0, &(bytes.len() as i32))
}

/// The call would block: EAGAIN, or a wait for `what` on the socket's queue, at most `timeout`.
pub fn block(
    cx: &mut Cx<'_>,
    open: &OpenFile,
    dont_wait: bool,
    what: Poll,
    timeout: Option<Ns>,
    exclusive: bool,
) -> Stop {
    let queue = match open.file.queue() {
        Some(q) if !dont_wait && !open.nonblocking() && !cx.timed_out() => q,
        _ => return Stop::Errno(Errno::EAGAIN),
    };
    let mask = (what | Poll::ERR | Poll::HUP | Poll::RDHUP).bits();
    let on = if exclusive {
        queue.on_exclusive(mask)
    } else {
        queue.on_mask(mask)
    };
    match timeout {
        None => cx.wait(vec![on], Restart::Sys),
        Some(ns) => {
            let deadline = cx.deadline_in(ns);
            // sock_intr_errno: with a timeout the call is not restarted.
            cx.wait_until(vec![on], Some(deadline), Restart::Never)
        }
    }
}

/// The error that ended the wait of a blocked send (sock_alloc_send_pskb looks at it before it looks
/// at the shut-down that came with it).
pub fn error_while_waiting(cx: &mut Cx<'_>, open: &OpenFile) -> Option<Errno> {
    if cx.wake() == Wake::Fresh {
        return None;
    }
    Errno::from_raw(open.file.socket()?.take_error(&mut cx.env))
}

struct NewFlags {
    status: i32,
    cloexec: bool,
}

fn new_flags(flags: i32) -> Result<NewFlags, Errno> {
    if flags & !(oflag::O_NONBLOCK | oflag::O_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(NewFlags {
        status: oflag::O_RDWR | flags & oflag::O_NONBLOCK,
        cloexec: flags & oflag::O_CLOEXEC != 0,
    })
}

fn split_type(kind: i32) -> Result<(i32, NewFlags), Errno> {
    let flags = new_flags(kind & !0xf)?;
    Ok((kind & 0xf, flags))
}

/// AF_MAX
const AF_MAX: i32 = 46;
/// SOCK_MAX
const SOCK_MAX: i32 = 11;

fn create(cx: &mut Cx<'_>, domain: i32, kind: i32, protocol: i32) -> Io<FileRef> {
    if !(0..AF_MAX).contains(&domain) {
        return err(Errno::EAFNOSUPPORT);
    }
    if !(0..SOCK_MAX).contains(&kind) {
        return err(Errno::EINVAL);
    }
    match domain {
        num::AF_UNIX => unix::create(cx, kind, protocol),
        _ => host::create(cx, domain, kind, protocol),
    }
}

/// socket(2)
pub fn sys_socket(cx: &mut Cx<'_>, domain: i32, kind: i32, protocol: i32) -> Io<u64> {
    let (kind, flags) = split_type(kind)?;
    let file = create(cx, domain, kind, protocol)?;
    Ok(cx.new_fd(OpenFile::new(file, flags.status), flags.cloexec)? as u64)
}

/// socketpair(2)
pub fn sys_socketpair(cx: &mut Cx<'_>, domain: i32, kind: i32, protocol: i32, out: Ptr) -> Io<u64> {
    let (kind, flags) = split_type(kind)?;
    if !(0..AF_MAX).contains(&domain) {
        return err(Errno::EAFNOSUPPORT);
    }
    if domain != num::AF_UNIX {
        create(cx, domain, kind, protocol)?;
        return err(Errno::EOPNOTSUPP);
    }
    let (a, b) = unix::pair(cx, kind, protocol)?;
    let a = cx.new_fd(OpenFile::new(a, flags.status), flags.cloexec)?;
    let b = match cx.new_fd(OpenFile::new(b, flags.status), flags.cloexec) {
        Ok(b) => b,
        Err(e) => {
            cx.task.files().remove(a)?;
            return Err(e.into());
        }
    };
    if let Err(e) = cx.put(out.0, &[a, b]) {
        cx.task.files().remove(a)?;
        cx.task.files().remove(b)?;
        return Err(e.into());
    }
    Ok(0)
}

/// bind(2)
pub fn sys_bind(cx: &mut Cx<'_>, fd: Fd, addr: Ptr, len: i32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let sock = socket_of(&open)?;
    let addr = read_addr(cx, addr, len)?;
    if sock.base().domain == num::AF_UNIX {
        return unix::bind(cx, &open, &addr);
    }
    sock.bind(&mut cx.env, &addr)?;
    Ok(0)
}

/// listen(2)
pub fn sys_listen(cx: &mut Cx<'_>, fd: Fd, backlog: i32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let sock = socket_of(&open)?;
    let backlog = if backlog as u32 > SOMAXCONN as u32 {
        SOMAXCONN
    } else {
        backlog
    };
    let caller = effective(cx);
    sock.listen(&mut cx.env, backlog, caller)?;
    Ok(0)
}

/// accept4(2)
pub fn sys_accept4(cx: &mut Cx<'_>, fd: Fd, addr: Ptr, len: Ptr, flags: i32) -> Io<u64> {
    let flags = new_flags(flags)?;
    let files = cx.task.files();
    let open = files.get(fd.0)?;
    let sock = socket_of(&open)?;
    cx.fd_available()?;
    let (file, peer) = match sock.accept(&mut cx.env) {
        Ok(got) => got,
        Err(Stop::Errno(Errno::EAGAIN)) => {
            let timeout = sock.base().options.rcv_timeout.get();
            return Err(block(cx, &open, false, Poll::IN | Poll::RDNORM, timeout, true));
        }
        Err(e) => return Err(e),
    };
    if !addr.is_null() {
        write_addr(cx, addr, len, &peer)?;
    }
    Ok(cx.new_fd(OpenFile::new(file, flags.status), flags.cloexec)? as u64)
}

/// accept(2)
pub fn sys_accept(cx: &mut Cx<'_>, fd: Fd, addr: Ptr, len: Ptr) -> Io<u64> {
    sys_accept4(cx, fd, addr, len, 0)
}

/// connect(2)
pub fn sys_connect(cx: &mut Cx<'_>, fd: Fd, addr: Ptr, len: i32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let sock = socket_of(&open)?;
    let addr = read_addr(cx, addr, len)?;
    let again = cx.wake() != Wake::Fresh;
    let timeout = sock.base().options.snd_timeout.get();
    let result = if sock.base().domain == num::AF_UNIX {
        unix::connect(cx, &open, &addr)
    } else {
        sock.connect(&mut cx.env, &addr, again)
    };
    let error = match &result {
        Ok(()) => Some(0),
        Err(Stop::Errno(e @ Errno::ECONNREFUSED)) => Some(e.raw()),
        Err(_) => None,
    };
    if let Some(error) = error
        && sock.ended_at_once(error, !open.nonblocking())
    {
        return err(Errno::EINPROGRESS);
    }
    match result {
        Ok(()) => Ok(0),
        Err(Stop::Errno(e @ (Errno::EINPROGRESS | Errno::EALREADY | Errno::EAGAIN))) => {
            let what = Poll::OUT | Poll::WRNORM;
            match block(cx, &open, false, what, timeout, false) {
                Stop::Errno(_) if cx.timed_out() && e == Errno::EALREADY => err(Errno::EINPROGRESS),
                Stop::Errno(_) => err(e),
                stop => Err(stop),
            }
        }
        Err(e) => Err(e),
    }
}

/// getsockname(2)
pub fn sys_getsockname(cx: &mut Cx<'_>, fd: Fd, addr: Ptr, len: Ptr) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let name = socket_of(&open)?.local_name(&mut cx.env)?;
    write_addr(cx, addr, len, &name)?;
    Ok(0)
}

/// getpeername(2)
pub fn sys_getpeername(cx: &mut Cx<'_>, fd: Fd, addr: Ptr, len: Ptr) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let name = socket_of(&open)?.peer_name(&mut cx.env)?;
    write_addr(cx, addr, len, &name)?;
    Ok(0)
}

/// shutdown(2)
pub fn sys_shutdown(cx: &mut Cx<'_>, fd: Fd, how: i32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let sock = socket_of(&open)?;
    if !(num::SHUT_RD..=num::SHUT_RDWR).contains(&how) {
        return err(Errno::EINVAL);
    }
    sock.shutdown(&mut cx.env, how)?;
    Ok(0)
}

/// Bits of a message call, for the table's row.
pub type MsgFlags = Bits;

/// A description and its socket's flags, as the message calls use them.
pub(crate) fn lookup(cx: &Cx<'_>, fd: Fd) -> Result<Rc<OpenFile>, Errno> {
    let open = cx.task.files().get(fd.0)?;
    socket_of(&open)?;
    Ok(open)
}

#[cfg(test)]
mod inet_tests;
