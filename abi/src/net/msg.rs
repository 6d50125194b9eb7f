//! sendto(2), recvfrom(2), sendmsg(2), recvmsg(2) and their vector forms.

use super::{ADDR_MAX, MsgFlags, block, cmsg, lookup, real, socket_of, unix};
use crate::args::{Fd, Ptr};
use crate::cx::Cx;
use crate::fdtable::OpenFile;
use crate::sys::io::{MAX_RW, iovec};
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, IoVec, Src, Stop, err};
use ftl_core::layout::is_guest_range;
use ftl_core::socket::{Incoming, Outgoing, num};
use ftl_core::wait::{Poll, Wake};
use std::rc::Rc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// struct user_msghdr
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MsgHdr {
    name: u64,
    name_len: i32,
    pad: u32,
    iov: u64,
    iov_len: u64,
    control: u64,
    control_len: u64,
    flags: u32,
    pad2: u32,
}

/// Offset of msg_namelen, msg_controllen, msg_flags; size of msghdr and mmsghdr.
const NAME_LEN: u64 = 8;
const CONTROL_LEN: u64 = 40;
const FLAGS: u64 = 48;
const MSG_LEN: u64 = 56;
const MMSG: u64 = 64;

impl MsgHdr {
    fn read(cx: &mut Cx<'_>, at: u64) -> Result<MsgHdr, Errno> {
        let mut h: MsgHdr = cx.get(at)?;
        if h.name == 0 {
            h.name_len = 0;
        }
        if h.name_len < 0 {
            return Err(Errno::EINVAL);
        }
        h.name_len = h.name_len.min(ADDR_MAX as i32);
        Ok(h)
    }

    fn iov(&self, cx: &mut Cx<'_>) -> Result<IoVec, Errno> {
        if self.iov_len > 1024 {
            return Err(Errno::EMSGSIZE);
        }
        iovec(cx, self.iov, self.iov_len as i32)
    }
}

/// The low half of a task's progress is bytes of the current message, the high half messages done.
const BYTES: u64 = 0xffff_ffff;

/// Where the bytes are, so that a run after a wait can make the cursor again.
enum Bufs {
    One(u64, u64),
    Many(IoVec),
}

impl Bufs {
    fn one(buf: Ptr, len: u64) -> Result<Bufs, Errno> {
        let n = len.min(MAX_RW);
        if !is_guest_range(buf.0, n) {
            return Err(Errno::EFAULT);
        }
        Ok(Bufs::One(buf.0, n))
    }
    fn src(&self, mut skip: u64) -> Src {
        let mut s = match self {
            Bufs::One(a, n) => Src::user(*a, *n),
            Bufs::Many(v) => Src::user_vec(v.clone()),
        };
        while skip > 0 && s.take_user(skip).map(|(_, n)| skip -= n).is_some() {}
        s
    }
    fn dst(&self, mut skip: u64) -> Dst {
        let mut d = match self {
            Bufs::One(a, n) => Dst::user(*a, *n),
            Bufs::Many(v) => Dst::user_vec(v.clone()),
        };
        while skip > 0 && d.take_user(skip).map(|(_, n)| skip -= n).is_some() {}
        d
    }
}

/// Sends one message; a stream goes on until all bytes are taken.
fn send(cx: &mut Cx<'_>, open: &Rc<OpenFile>, mut msg: Outgoing, bufs: &Bufs) -> Io<u64> {
    let sock = socket_of(open)?;
    let stream = sock.base().kind == num::SOCK_STREAM;
    if open.nonblocking() {
        msg.flags |= num::MSG_DONTWAIT;
    }
    let dont_wait = msg.flags & num::MSG_DONTWAIT != 0;
    let entity = cx.task.entity.clone();
    let before = entity.progress.get();
    let mut done = before & BYTES;
    if done > 0 {
        msg.rights.clear();
    }
    if sock.base().domain == num::AF_UNIX {
        unix::resolve(cx, open, &mut msg)?;
    }
    loop {
        let mut src = bufs.src(done);
        let want = src.remaining();
        match sock.send(&mut cx.env, &mut msg, &mut src) {
            Ok(n) => {
                done += n;
                entity.progress.set(before & !BYTES | done);
                if !stream || n >= want || n == 0 {
                    return Ok(done);
                }
            }
            Err(Stop::Errno(Errno::EAGAIN)) => {
                let timeout = sock.base().options.snd_timeout.get();
                let what = Poll::OUT | Poll::WRNORM;
                return match block(cx, open, dont_wait, what, timeout, false) {
                    Stop::Block(b) => Err(Stop::Block(b)),
                    _ if done > 0 => Ok(done),
                    stop => Err(stop),
                };
            }
            Err(_) if done > 0 => {
                super::error_while_waiting(cx, open);
                return Ok(done);
            }
            Err(Stop::Errno(Errno::EPIPE)) => {
                if let Some(e) = super::error_while_waiting(cx, open) {
                    return err(e);
                }
                if stream && msg.flags & num::MSG_NOSIGNAL == 0 {
                    crate::event::raise_pipe(cx);
                }
                return err(Errno::EPIPE);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Receives one message; with MSG_WAITALL a stream goes on until the buffer is full.
fn recv(cx: &mut Cx<'_>, open: &Rc<OpenFile>, msg: &mut Incoming, bufs: &Bufs) -> Io<u64> {
    let sock = socket_of(open)?;
    let options = &sock.base().options;
    let all = msg.flags & (num::MSG_WAITALL | num::MSG_PEEK) == num::MSG_WAITALL
        && sock.base().kind == num::SOCK_STREAM;
    if open.nonblocking() {
        msg.flags |= num::MSG_DONTWAIT;
    }
    let dont_wait = msg.flags & num::MSG_DONTWAIT != 0;
    let entity = cx.task.entity.clone();
    let before = entity.progress.get();
    let mut done = before & BYTES;
    loop {
        let mut dst = bufs.dst(done);
        let want = dst.remaining();
        match sock.recv(&mut cx.env, msg, &mut dst) {
            Ok(n) => {
                done += n;
                if !all || n == 0 || n >= want || !msg.rights.is_empty() {
                    return Ok(done);
                }
                entity.progress.set(before & !BYTES | done);
            }
            Err(Stop::Errno(Errno::EAGAIN)) => {
                let timeout = options.rcv_timeout.get();
                let what = Poll::IN | Poll::RDNORM;
                return match block(cx, open, dont_wait, what, timeout, false) {
                    Stop::Block(b) => Err(Stop::Block(b)),
                    _ if done > 0 => Ok(done),
                    stop => Err(stop),
                };
            }
            Err(_) if done > 0 => return Ok(done),
            Err(e) => return Err(e),
        }
    }
}

fn outgoing(cx: &Cx<'_>, flags: MsgFlags) -> Outgoing {
    Outgoing {
        flags: flags.0 as u32,
        caller: real(cx),
        ..Outgoing::default()
    }
}

/// sendto(2)
pub fn sys_sendto(
    cx: &mut Cx<'_>,
    fd: Fd,
    buf: Ptr,
    len: u64,
    flags: MsgFlags,
    addr: Ptr,
    addr_len: i32,
) -> Io<u64> {
    let bufs = Bufs::one(buf, len)?;
    let open = lookup(cx, fd)?;
    let mut msg = outgoing(cx, flags);
    if !addr.is_null() {
        msg.name = Some(super::read_addr(cx, addr, addr_len)?);
    }
    send(cx, &open, msg, &bufs)
}

/// recvfrom(2)
pub fn sys_recvfrom(
    cx: &mut Cx<'_>,
    fd: Fd,
    buf: Ptr,
    len: u64,
    flags: MsgFlags,
    addr: Ptr,
    addr_len: Ptr,
) -> Io<u64> {
    let bufs = Bufs::one(buf, len)?;
    let open = lookup(cx, fd)?;
    let mut msg = Incoming {
        flags: flags.0 as u32,
        ..Incoming::default()
    };
    let n = recv(cx, &open, &mut msg, &bufs)?;
    if !addr.is_null() {
        super::write_addr(cx, addr, addr_len, &msg.name)?;
    }
    Ok(n)
}

fn send_one(cx: &mut Cx<'_>, open: &Rc<OpenFile>, at: u64, flags: MsgFlags) -> Io<u64> {
    let h = MsgHdr::read(cx, at)?;
    let bufs = Bufs::Many(h.iov(cx)?);
    let mut msg = outgoing(cx, flags);
    if h.name_len > 0 {
        msg.name = Some(super::read_addr(cx, Ptr(h.name), h.name_len)?);
    }
    if h.control_len > i32::MAX as u64 {
        return err(Errno::ENOBUFS);
    }
    let domain = socket_of(open)?.base().domain;
    cmsg::read(cx, domain, h.control, h.control_len, &mut msg)?;
    send(cx, open, msg, &bufs)
}

/// sendmsg(2)
pub fn sys_sendmsg(cx: &mut Cx<'_>, fd: Fd, msg: Ptr, flags: MsgFlags) -> Io<u64> {
    let open = lookup(cx, fd)?;
    send_one(cx, &open, msg.0, flags)
}

fn recv_one(cx: &mut Cx<'_>, open: &Rc<OpenFile>, at: u64, flags: u32) -> Io<u64> {
    let h = MsgHdr::read(cx, at)?;
    let bufs = Bufs::Many(h.iov(cx)?);
    let mut msg = Incoming {
        flags,
        ..Incoming::default()
    };
    let n = recv(cx, open, &mut msg, &bufs)?;
    if h.name != 0 {
        let fits = msg.name.len().min(h.name_len as usize);
        cx.write(h.name, &msg.name[..fits])?;
        cx.put(at + NAME_LEN, &(msg.name.len() as i32))?;
    }
    let (used, cut) = cmsg::write(cx, h.control, h.control_len, &mut msg);
    let mut out = msg.out_flags | flags & num::MSG_CMSG_CLOEXEC;
    if cut {
        out |= num::MSG_CTRUNC;
    }
    cx.put(at + FLAGS, &out)?;
    cx.put(at + CONTROL_LEN, &used)?;
    Ok(n)
}

/// recvmsg(2)
pub fn sys_recvmsg(cx: &mut Cx<'_>, fd: Fd, msg: Ptr, flags: MsgFlags) -> Io<u64> {
    let open = lookup(cx, fd)?;
    recv_one(cx, &open, msg.0, flags.0 as u32)
}

/// Runs `one` for each of `n` mmsghdrs from the first that is not done; the count that were.
fn each(cx: &mut Cx<'_>, vec: Ptr, n: u32, mut one: impl FnMut(&mut Cx<'_>, u64, u64) -> Io<u64>) -> Io<u64> {
    let entity = cx.task.entity.clone();
    let n = u64::from(n.min(1024));
    let mut done = entity.progress.get() >> 32;
    while done < n {
        let at = vec.0 + done * MMSG;
        let len = match one(cx, at, done) {
            Ok(len) => len,
            Err(Stop::Block(b)) => return Err(Stop::Block(b)),
            Err(_) if done > 0 => return Ok(done),
            Err(e) => return Err(e),
        };
        cx.put(at + MSG_LEN, &(len as u32))?;
        done += 1;
        entity.progress.set(done << 32);
    }
    Ok(done)
}

/// sendmmsg(2)
pub fn sys_sendmmsg(cx: &mut Cx<'_>, fd: Fd, vec: Ptr, n: u32, flags: MsgFlags) -> Io<u64> {
    let open = lookup(cx, fd)?;
    each(cx, vec, n, |cx, at, _| send_one(cx, &open, at, flags))
}

/// recvmmsg(2)
pub fn sys_recvmmsg(cx: &mut Cx<'_>, fd: Fd, vec: Ptr, n: u32, flags: MsgFlags, timeout: Ptr) -> Io<u64> {
    let open = lookup(cx, fd)?;
    let deadline = if timeout.is_null() {
        None
    } else {
        let ns = crate::event::time::timespec(cx, timeout)?;
        let fresh = cx.wake() == Wake::Fresh;
        let at = cx.deadline_in(ns);
        debug_assert!(fresh || cx.task.entity.deadline.get().is_some());
        Some(at)
    };
    let flags = flags.0 as u32;
    each(cx, vec, n, |cx, at, done| {
        // The timeout is looked at after each message only, as in Linux.
        if done > 0 && deadline.is_some_and(|d| cx.now() >= d) {
            return err(Errno::EAGAIN);
        }
        let wait = if done > 0 && flags & num::MSG_WAITFORONE != 0 {
            num::MSG_DONTWAIT
        } else {
            0
        };
        recv_one(cx, &open, at, (flags & !num::MSG_WAITFORONE) | wait)
    })
}
