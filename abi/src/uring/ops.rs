//! Operations: what of an entry is checked and copied when it is submitted, and what runs.

use super::job::Job;
use super::num::{Sqe, cqe, op, sqe};
use super::ring::Ring;
use super::{cancel, control, recv, timeout};
use crate::args::{Bits, Fd, Path, Ptr};
use crate::cx::Cx;
use crate::event::epoll;
use crate::fdtable::{OpenFile, oflag};
use crate::fs::calls::rw::{read_at, write_at};
use crate::fs::calls::{attr, copy, fdops, names, open, stat};
use crate::mm;
use crate::net::{self, msg};
use crate::sys::io::{MAX_RW, do_read, do_write, iovec};
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, Src, Stop, err};
use ftl_core::layout::is_guest_range;
use ftl_core::socket::num as sock;
use ftl_core::wait::{Block, Poll, URING_WAKE};
use std::rc::Rc;

/// What came of a run.
pub enum Out {
    /// Result, flags of the completion, and whether the chain breaks.
    Done(i64, u32, bool),
    /// A completion that others will follow; the request runs again.
    More(i32, u32),
    /// Waits.
    Block(Block),
    /// Waits for what it has armed itself.
    Armed,
}

impl Out {
    /// Of a handler's answer.
    pub fn of(r: Io<u64>) -> Out {
        match r {
            Ok(v) => Out::Done(v as i64, 0, false),
            Err(s) => Out::stop(s),
        }
    }

    /// Of a handler's reason for having none.
    pub fn stop(s: Stop) -> Out {
        match s {
            Stop::Errno(e) => Out::Done(-i64::from(e.raw()), 0, true),
            Stop::Block(b) => Out::Block(b),
            Stop::Interrupted(_) | Stop::NoReturn => Out::Done(-i64::from(Errno::EINTR.raw()), 0, true),
        }
    }
}

fn check(ok: bool) -> Result<(), Errno> {
    if ok { Ok(()) } else { Err(Errno::EINVAL) }
}

const RWF_NOWAIT: u32 = 8;
const RWF_APPEND: u32 = 16;
const RWF_KNOWN: u32 = 0x1f;
/// ioprio of the message calls and accept.
const POLL_FIRST: u16 = 1;
/// See [`POLL_FIRST`].
pub const RECV_MULTISHOT: u16 = 2;
const ACCEPT_MULTISHOT: u16 = 1;
const ACCEPT_DONTWAIT: u16 = 2;
const ACCEPT_POLL_FIRST: u16 = 4;
/// len of IORING_OP_POLL_ADD and POLL_REMOVE.
const POLL_MULTI: u32 = 1;
const POLL_UPDATE_EVENTS: u32 = 2;
const POLL_UPDATE_USER_DATA: u32 = 4;
const POLL_LEVEL: u32 = 8;
/// Any slot.
pub const FILE_INDEX_ALLOC: u32 = u32::MAX;
const SPLICE_F_FD_IN_FIXED: u32 = 1 << 31;

/// ioprio_check_cap()
fn priority(cx: &Cx<'_>, ioprio: u16) -> Result<(), Errno> {
    const CAP_SYS_NICE: u32 = 23;
    match ioprio >> 13 {
        0 if ioprio != 0 => Err(Errno::EINVAL),
        0 | 2 | 3 => Ok(()),
        1 if cx.task.creds.borrow().capable(CAP_SYS_NICE) => Ok(()),
        1 => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

fn path(cx: &mut Cx<'_>, job: &Job, addr: u64) -> Result<u64, Errno> {
    let p = cx.path(addr)?;
    Ok(job.lend(p, 0))
}

/// Copies a msghdr and what it points to, so that the guest may reuse their place.
fn message(cx: &mut Cx<'_>, job: &Job, at: u64, send: bool) -> Result<u64, Errno> {
    const LEN: usize = 56;
    let mut h = [0u8; LEN];
    cx.read(at, &mut h)?;
    let word = |h: &[u8; LEN], i: usize| u64::from_le_bytes(std::array::from_fn(|k| h[i + k]));
    let n = word(&h, 24);
    if n > 1024 {
        return Err(Errno::EMSGSIZE);
    }
    let mut iov = vec![0; n as usize * 16];
    cx.read(word(&h, 16), &mut iov)?;
    if n > 0 {
        let to = job.lend(iov, 0);
        h[16..24].copy_from_slice(&to.to_le_bytes());
    }
    if send {
        let (name, len) = (word(&h, 0), word(&h, 8) as i32);
        if name != 0 && len > 0 {
            let mut bytes = vec![0; (len as usize).min(net::ADDR_MAX)];
            cx.read(name, &mut bytes)?;
            let to = job.lend(bytes, 0);
            h[0..8].copy_from_slice(&to.to_le_bytes());
        }
        let (control, len) = (word(&h, 32), word(&h, 40));
        if control != 0 && len > 0 && len <= 1 << 16 {
            let mut bytes = vec![0; len as usize];
            cx.read(control, &mut bytes)?;
            let to = job.lend(bytes, 0);
            h[32..40].copy_from_slice(&to.to_le_bytes());
        }
    }
    // recvmsg writes lengths and flags into the guest's own.
    Ok(job.lend(h.to_vec(), at))
}

fn direct(s: &Sqe, flags: i32) -> Result<(), Errno> {
    // A slot has no close-on-exec flag.
    check(s.file_index == 0 || flags & oflag::O_CLOEXEC == 0)
}

fn recv_flags(job: &Job, s: &Sqe, multi: bool) -> Result<(), Errno> {
    check(s.off == 0 && s.file_index == 0 && s.ioprio & !(POLL_FIRST | RECV_MULTISHOT) == 0)?;
    job.nowait.set(s.op_flags & sock::MSG_DONTWAIT != 0);
    if multi {
        check(s.has(sqe::BUFFER_SELECT) && s.op_flags & sock::MSG_WAITALL == 0)?;
    }
    Ok(())
}

/// Checks an entry and copies what it points to. `alone`: it does not follow an entry that links.
pub fn prepare(cx: &mut Cx<'_>, job: &Rc<Job>, alone: bool) -> Result<(), Errno> {
    let mut s = job.sqe.get();
    let plain = s.buf == 0 && s.file_index == 0;
    let no_fixed = |s: &Sqe| {
        if s.has(sqe::FIXED_FILE) {
            Err(Errno::EBADF)
        } else {
            Ok(())
        }
    };
    match s.opcode {
        op::NOP => check(s.op_flags & !1 == 0)?,
        op::READV | op::WRITEV => {
            priority(cx, s.ioprio)?;
            job.nowait.set(s.op_flags & RWF_NOWAIT != 0);
            if s.has(sqe::BUFFER_SELECT) {
                check(s.len == 1)?;
                let [_, len]: [u64; 2] = cx.get(s.addr)?;
                s.len = len.min(MAX_RW) as u32;
            } else {
                let n = i32::try_from(s.len).map_err(|_| Errno::EINVAL)?;
                *job.iov.borrow_mut() = iovec(cx, s.addr, n)?;
            }
        }
        op::READ | op::WRITE | op::READ_FIXED | op::WRITE_FIXED => {
            priority(cx, s.ioprio)?;
            job.nowait.set(s.op_flags & RWF_NOWAIT != 0);
            if matches!(s.opcode, op::READ | op::WRITE)
                && !s.has(sqe::BUFFER_SELECT)
                && !is_guest_range(s.addr, u64::from(s.len))
            {
                return Err(Errno::EFAULT);
            }
        }
        op::READ_MULTISHOT => {
            check(s.has(sqe::BUFFER_SELECT) && s.addr == 0 && s.len == 0)?;
            if s.op_flags != 0 {
                return Err(Errno::EINVAL);
            }
        }
        op::FSYNC => check(s.addr == 0 && plain && s.op_flags & !1 == 0)?,
        op::SYNC_FILE_RANGE => check(s.addr == 0 && plain)?,
        op::FALLOCATE => check(plain && s.op_flags == 0)?,
        op::FTRUNCATE => check(plain && s.op_flags == 0 && s.addr == 0 && s.len == 0 && s.addr3 == 0)?,
        op::FADVISE | op::MADVISE => check(plain)?,
        op::OPENAT | op::OPENAT2 => {
            check(s.buf == 0)?;
            no_fixed(&s)?;
            if s.opcode == op::OPENAT2 {
                check(s.len >= 24)?;
                let mut how = vec![0; s.len.min(4096) as usize];
                cx.read(s.off, &mut how)?;
                direct(&s, u32::from_le_bytes(std::array::from_fn(|i| how[i])) as i32)?;
                s.off = job.lend(how, 0);
            } else {
                direct(&s, s.op_flags as i32)?;
            }
            s.addr = path(cx, job, s.addr)?;
        }
        op::CLOSE => {
            check(s.off == 0 && s.addr == 0 && s.len == 0 && s.op_flags == 0 && s.buf == 0)?;
            no_fixed(&s)?;
            check(s.file_index == 0 || s.fd == 0)?;
        }
        op::STATX => {
            check(plain)?;
            no_fixed(&s)?;
            s.addr = path(cx, job, s.addr)?;
        }
        op::POLL_ADD => {
            check(s.buf == 0 && s.off == 0 && s.addr == 0)?;
            check(s.len & !(POLL_MULTI | POLL_LEVEL) == 0)?;
            check(s.len & POLL_MULTI == 0 || !s.has(sqe::CQE_SKIP))?;
        }
        op::POLL_REMOVE => {
            check(plain)?;
            check(s.len & !(POLL_MULTI | POLL_UPDATE_EVENTS | POLL_UPDATE_USER_DATA) == 0)?;
            let update = s.len & (POLL_UPDATE_EVENTS | POLL_UPDATE_USER_DATA);
            check(s.len & POLL_MULTI == 0 || update != 0)?;
            check(s.off == 0 || s.len & POLL_UPDATE_USER_DATA != 0)?;
            check(s.op_flags == 0 || s.len & POLL_UPDATE_EVENTS != 0)?;
        }
        op::TIMEOUT | op::LINK_TIMEOUT => timeout::prepare(cx, job, &s, alone)?,
        op::TIMEOUT_REMOVE => timeout::prepare_remove(cx, job, &s)?,
        op::ASYNC_CANCEL => cancel::prepare(&s)?,
        op::ACCEPT => {
            check(s.len == 0 && s.buf == 0)?;
            check(s.ioprio & !(ACCEPT_MULTISHOT | ACCEPT_DONTWAIT | ACCEPT_POLL_FIRST) == 0)?;
            let flags = s.op_flags as i32;
            check(flags & !(oflag::O_CLOEXEC | oflag::O_NONBLOCK) == 0)?;
            direct(&s, flags)?;
            if s.ioprio & ACCEPT_MULTISHOT != 0 {
                check(s.file_index == 0 || s.file_index == FILE_INDEX_ALLOC)?;
            }
            job.nowait.set(s.ioprio & ACCEPT_DONTWAIT != 0);
        }
        op::CONNECT | op::BIND => {
            check(s.len == 0 && plain && s.op_flags == 0)?;
            let bytes = net::read_addr(cx, Ptr(s.addr), s.off as i32)?;
            if !bytes.is_empty() {
                s.addr = job.lend(bytes, 0);
            }
        }
        op::LISTEN => check(s.addr == 0 && s.off == 0 && plain && s.op_flags == 0)?,
        op::SEND | op::SENDMSG => {
            check(s.ioprio & !POLL_FIRST == 0)?;
            job.nowait.set(s.op_flags & sock::MSG_DONTWAIT != 0);
            if s.opcode == op::SENDMSG {
                check(s.off == 0 && s.file_index == 0)?;
                s.addr = message(cx, job, s.addr, true)?;
            } else if s.off != 0 {
                let len = i32::from(s.file_index as u16);
                let bytes = net::read_addr(cx, Ptr(s.off), len)?;
                s.off = job.lend(bytes, 0);
            }
        }
        op::RECV | op::RECVMSG => {
            let multi = s.ioprio & RECV_MULTISHOT != 0;
            recv_flags(job, &s, multi)?;
            if s.opcode == op::RECVMSG {
                // The buffer's layout with headers inside it (struct io_uring_recvmsg_out) is not made.
                check(!multi)?;
                s.addr = message(cx, job, s.addr, false)?;
            } else if multi {
                check(s.len == 0)?;
            }
        }
        op::EPOLL_CTL => {
            check(plain)?;
            if s.len != 2 {
                let mut event = vec![0; 12];
                cx.read(s.addr, &mut event)?;
                s.addr = job.lend(event, 0);
            }
        }
        op::SPLICE => check(s.op_flags & !(0xf | SPLICE_F_FD_IN_FIXED) == 0)?,
        op::TEE => {
            check(s.addr == 0 && s.off == 0)?;
            check(s.op_flags & !(0xf | SPLICE_F_FD_IN_FIXED) == 0)?;
        }
        op::SHUTDOWN => check(s.off == 0 && s.addr == 0 && s.op_flags == 0 && plain)?,
        op::RENAMEAT | op::LINKAT => {
            check(plain)?;
            no_fixed(&s)?;
            s.addr = path(cx, job, s.addr)?;
            s.off = path(cx, job, s.off)?;
        }
        op::UNLINKAT => {
            check(s.off == 0 && s.len == 0 && plain)?;
            no_fixed(&s)?;
            check(s.op_flags & !0x200 == 0)?;
            s.addr = path(cx, job, s.addr)?;
        }
        op::MKDIRAT => {
            check(s.off == 0 && s.op_flags == 0 && plain)?;
            no_fixed(&s)?;
            s.addr = path(cx, job, s.addr)?;
        }
        op::SYMLINKAT => {
            check(s.len == 0 && s.op_flags == 0 && plain)?;
            no_fixed(&s)?;
            s.addr = path(cx, job, s.addr)?;
            s.off = path(cx, job, s.off)?;
        }
        op::PROVIDE_BUFFERS => control::prepare_provide(&s)?,
        op::REMOVE_BUFFERS => {
            check(s.op_flags == 0 && s.addr == 0 && s.len == 0 && s.off == 0 && s.file_index == 0)?;
            check(s.fd > 0 && s.fd <= 65536)?;
        }
        op::FILES_UPDATE => {
            check(!s.has(sqe::FIXED_FILE | sqe::BUFFER_SELECT))?;
            check(s.op_flags == 0 && s.file_index == 0 && s.len != 0)?;
        }
        op::SOCKET => {
            check(s.addr == 0 && s.op_flags == 0 && s.buf == 0)?;
            direct(&s, s.off as i32)?;
        }
        op::MSG_RING => check(s.buf == 0 && s.personality == 0)?,
        _ => return Err(Errno::EINVAL),
    }
    job.sqe.set(s);
    Ok(())
}

/// Finds the files that a request works on: EBADF.
pub fn take_files(ring: &Ring, job: &Job) -> Result<(), Errno> {
    let s = job.sqe.get();
    let plain = |fd: i32| job.task.files().get(fd).ok();
    let found = if s.has(sqe::FIXED_FILE) {
        ring.fixed_file(s.fd as u32)
    } else {
        plain(s.fd)
    };
    let first = found.ok_or(Errno::EBADF)?;
    let mut files = job.files.borrow_mut();
    files[0] = Some(first);
    if matches!(s.opcode, op::SPLICE | op::TEE) {
        let found = if s.op_flags & SPLICE_F_FD_IN_FIXED != 0 {
            ring.fixed_file(s.file_index)
        } else {
            plain(s.file_index as i32)
        };
        files[1] = Some(found.ok_or(Errno::EBADF)?);
    }
    Ok(())
}

/// The file of a request, for its handler.
pub const FD: Fd = Fd(Job::fd(0));

/// Runs a request of a task, as that task.
pub fn run(cx: &mut Cx<'_>, ring: &Ring, job: &Rc<Job>) -> Out {
    let s = job.sqe.get();
    let bits = Bits(u64::from(s.op_flags));
    let out = match s.opcode {
        op::NOP => {
            let res = if s.op_flags & 1 != 0 { s.len as i32 } else { 0 };
            Out::Done(i64::from(res), 0, res < 0)
        }
        op::READV | op::READ | op::READ_FIXED | op::READ_MULTISHOT => read(cx, ring, job, &s),
        op::WRITEV | op::WRITE | op::WRITE_FIXED => write(cx, ring, job, &s),
        op::FSYNC if s.op_flags & 1 != 0 => Out::of(fdops::sys_fdatasync(cx, FD)),
        op::FSYNC => Out::of(fdops::sys_fsync(cx, FD)),
        op::SYNC_FILE_RANGE => Out::of(fdops::sys_sync_file_range(
            cx,
            FD,
            s.off as i64,
            i64::from(s.len),
            bits,
        )),
        op::FALLOCATE => Out::of(attr::sys_fallocate(
            cx,
            FD,
            s.len as i32,
            s.off as i64,
            s.addr as i64,
        )),
        op::FTRUNCATE => Out::of(attr::sys_ftruncate(cx, FD, s.off as i64)),
        op::FADVISE => {
            let len = if s.addr != 0 {
                s.addr as i64
            } else {
                i64::from(s.len)
            };
            Out::of(fdops::sys_fadvise64(cx, FD, s.off as i64, len, s.op_flags as i32))
        }
        op::MADVISE => {
            let len = if s.off != 0 { s.off } else { u64::from(s.len) };
            Out::of(mm::sys_madvise(cx, Ptr(s.addr), len, s.op_flags as i32))
        }
        op::OPENAT => {
            let bits = Bits(u64::from(s.op_flags | no_wait(s.op_flags)));
            let r = open::sys_openat(cx, Fd(s.fd), Path(s.addr), bits, s.len);
            opened(cx, &r, s.op_flags);
            settle(cx, ring, &s, r)
        }
        op::OPENAT2 => {
            let flags: u64 = cx.get(s.off).unwrap_or(0);
            if flags >> 32 == 0 {
                let _ = cx.put(s.off, &(flags | u64::from(no_wait(flags as u32))));
            }
            let r = open::sys_openat2(cx, Fd(s.fd), Path(s.addr), Ptr(s.off), u64::from(s.len));
            opened(cx, &r, flags as u32);
            settle(cx, ring, &s, r)
        }
        op::CLOSE => control::close(cx, ring, &s),
        op::STATX => Out::of(stat::sys_statx(
            cx,
            Fd(s.fd),
            Path(s.addr),
            bits,
            s.len,
            Ptr(s.off),
        )),
        op::POLL_ADD => return poll(cx, ring, job, &s),
        op::POLL_REMOVE => control::poll_remove(cx, ring, &s),
        op::TIMEOUT | op::LINK_TIMEOUT => return timeout::run(cx, ring, job),
        op::TIMEOUT_REMOVE => timeout::remove(cx, ring, job, &s),
        op::ASYNC_CANCEL => cancel::run(cx, ring, &s),
        op::ACCEPT => {
            let r = net::sys_accept4(cx, FD, Ptr(s.addr), Ptr(s.off), s.op_flags as i32);
            let out = settle(cx, ring, &s, r);
            match out {
                Out::Done(v, _, false) if s.ioprio & ACCEPT_MULTISHOT != 0 => Out::More(v as i32, 0),
                out => out,
            }
        }
        op::CONNECT => Out::of(net::sys_connect(cx, FD, Ptr(s.addr), s.off as i32)),
        op::BIND => Out::of(net::sys_bind(cx, FD, Ptr(s.addr), s.off as i32)),
        op::LISTEN => Out::of(net::sys_listen(cx, FD, s.len as i32)),
        op::SEND | op::SENDMSG => {
            let flags = Bits(u64::from(s.op_flags | sock::MSG_NOSIGNAL));
            let r = if s.opcode == op::SEND {
                let len = i32::from(s.file_index as u16);
                msg::sys_sendto(cx, FD, Ptr(s.addr), u64::from(s.len), flags, Ptr(s.off), len)
            } else {
                msg::sys_sendmsg(cx, FD, Ptr(s.addr), flags)
            };
            short(Out::of(r), s.op_flags, u64::from(s.len))
        }
        op::RECV => recv::receive(cx, ring, job, &s),
        op::RECVMSG => recv::receive_message(cx, ring, &s),
        op::EPOLL_CTL => {
            let target = Fd(s.off as i32);
            Out::of(epoll::sys_epoll_ctl(
                cx,
                Fd(s.fd),
                s.len as i32,
                target,
                Ptr(s.addr),
            ))
        }
        op::SPLICE => {
            let place = |at: u64| {
                if at == u64::MAX {
                    Ptr(0)
                } else {
                    Ptr(job_lend(cx, at))
                }
            };
            let (off_in, off_out) = (place(s.addr), place(s.off));
            let flags = Bits(u64::from(s.op_flags & !SPLICE_F_FD_IN_FIXED));
            let from = Fd(Job::fd(1));
            let r = copy::sys_splice(cx, from, off_in, FD, off_out, u64::from(s.len), flags);
            // The next run makes its own.
            cx.core.lent.borrow_mut().clear();
            short(Out::of(r), sock::MSG_WAITALL, u64::from(s.len))
        }
        op::TEE => {
            let flags = Bits(u64::from(s.op_flags & !SPLICE_F_FD_IN_FIXED));
            let r = copy::sys_tee(cx, Fd(Job::fd(1)), FD, u64::from(s.len), flags);
            short(Out::of(r), sock::MSG_WAITALL, u64::from(s.len))
        }
        op::SHUTDOWN => Out::of(net::sys_shutdown(cx, FD, s.len as i32)),
        op::RENAMEAT | op::LINKAT => {
            let call = if s.opcode == op::LINKAT {
                names::sys_linkat
            } else {
                names::sys_renameat2
            };
            let to = Fd(s.len as i32);
            Out::of(call(cx, Fd(s.fd), Path(s.addr), to, Path(s.off), bits))
        }
        op::UNLINKAT => Out::of(names::sys_unlinkat(cx, Fd(s.fd), Path(s.addr), bits)),
        op::MKDIRAT => Out::of(names::sys_mkdirat(cx, Fd(s.fd), Path(s.addr), s.len)),
        op::SYMLINKAT => Out::of(names::sys_symlinkat(cx, Path(s.addr), Fd(s.fd), Path(s.off))),
        op::PROVIDE_BUFFERS => {
            let r = ring.provide(s.buf, s.addr, s.len, s.fd as u32, s.off as u16);
            Out::of(r.map(|()| 0).map_err(Stop::Errno))
        }
        op::REMOVE_BUFFERS => Out::of(
            ring.withdraw(s.buf, s.fd as u32)
                .map(u64::from)
                .map_err(Stop::Errno),
        ),
        op::FILES_UPDATE => Out::of(control::files_update(cx, ring, &s)),
        op::SOCKET => {
            let r = net::sys_socket(cx, s.fd, s.off as i32, s.len as i32);
            settle(cx, ring, &s, r)
        }
        op::MSG_RING => Out::of(control::msg_ring(cx, ring, job, &s)),
        _ => Out::of(err(Errno::EINVAL)),
    };
    match out {
        // The socket's own time limit has passed, or the request was not to wait.
        Out::Block(_) if job.nowait.get() => Out::of(err(Errno::EAGAIN)),
        out => out,
    }
}

/// Opening does not wait for the other side of a FIFO (io_openat2): with what it is opened in addition.
fn no_wait(flags: u32) -> u32 {
    match flags & oflag::O_PATH as u32 {
        0 => oflag::O_NONBLOCK as u32,
        _ => 0,
    }
}

/// What was opened so is as it was asked for.
fn opened(cx: &Cx<'_>, r: &Io<u64>, asked: u32) {
    if let Ok(fd) = r
        && let Ok(open) = cx.task.files().get(*fd as i32)
    {
        let flags = open.flags.get() & !oflag::O_NONBLOCK;
        open.flags.set(flags | asked as i32 & oflag::O_NONBLOCK);
    }
}

/// An offset for a handler that wants one in memory.
fn job_lend(cx: &Cx<'_>, v: u64) -> u64 {
    let mut lent = cx.core.lent.borrow_mut();
    let addr = ftl_core::kcore::LENT_BASE + ((lent.len() as u64) << 24);
    lent.push(ftl_core::kcore::Lent {
        addr,
        bytes: v.to_le_bytes().to_vec(),
        forward: 0,
    });
    addr
}

/// A chain breaks at a transfer that all of was asked for.
pub fn short(out: Out, flags: u32, want: u64) -> Out {
    match out {
        Out::Done(n, f, false) if flags & sock::MSG_WAITALL != 0 && (n as u64) < want => {
            Out::Done(n, f, true)
        }
        out => out,
    }
}

/// A new descriptor goes to a slot instead, if the entry says so.
fn settle(cx: &mut Cx<'_>, ring: &Ring, s: &Sqe, r: Io<u64>) -> Out {
    let fd = match r {
        Ok(fd) if s.file_index != 0 => fd as i32,
        r => return Out::of(r),
    };
    let open = match cx.task.files().remove(fd) {
        Ok(o) => o,
        Err(e) => return Out::of(err(e)),
    };
    let slot = match s.file_index {
        FILE_INDEX_ALLOC => None,
        i => Some(i - 1),
    };
    match ring.install(cx, slot, open) {
        Ok(i) => Out::Done(slot.map_or(i64::from(i), |_| 0), 0, false),
        Err(e) => Out::of(err(e)),
    }
}

/// Where a read or write goes: `None` for the description's own position, or no position at all.
fn offset(open: &OpenFile, s: &Sqe) -> Io<Option<u64>> {
    match s.off {
        u64::MAX => Ok(None),
        _ if !open.file.seekable() => Ok(None),
        o if o > i64::MAX as u64 => err(Errno::EINVAL),
        o => Ok(Some(o)),
    }
}

/// struct io_uring's READ family.
fn read(cx: &mut Cx<'_>, ring: &Ring, job: &Job, s: &Sqe) -> Out {
    let multi = s.opcode == op::READ_MULTISHOT;
    let select = s.has(sqe::BUFFER_SELECT);
    let mut flags = 0;
    let (want, r) = match read_into(cx, ring, job, s, &mut flags) {
        Ok((want, r)) => (want, r),
        Err(e) => return Out::of(err(e)),
    };
    match r {
        Ok(n) => {
            if select {
                ring.use_buffer(s.buf);
            }
            match multi && n > 0 {
                true => Out::More(n as i32, flags),
                false => Out::Done(n as i64, flags, n != want),
            }
        }
        Err(stop) => Out::stop(stop),
    }
}

type Moved = Result<(u64, Io<u64>), Errno>;

fn read_into(cx: &mut Cx<'_>, ring: &Ring, job: &Job, s: &Sqe, flags: &mut u32) -> Moved {
    let open = job.file().ok_or(Errno::EBADF)?;
    if !open.readable() {
        return Err(Errno::EBADF);
    }
    if s.op_flags & !(RWF_KNOWN & !RWF_APPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if s.opcode == op::READ_MULTISHOT && open.file.queue().is_none() {
        return Err(Errno::EBADFD);
    }
    let mut len = u64::from(s.len).min(MAX_RW);
    let dst = if s.has(sqe::BUFFER_SELECT) {
        let b = ring.next_buffer(cx, s.buf)?;
        len = if len == 0 {
            u64::from(b.len)
        } else {
            len.min(u64::from(b.len))
        };
        if !is_guest_range(b.addr, len) {
            return Err(Errno::EFAULT);
        }
        *flags = cqe::BUFFER | u32::from(b.bid) << cqe::BUFFER_SHIFT;
        Dst::user(b.addr, len)
    } else if s.opcode == op::READV {
        let iov = job.iov.borrow().clone();
        len = iov.iter().map(|v| v.1).sum();
        Dst::user_vec(iov)
    } else {
        if s.opcode == op::READ_FIXED {
            ring.check_fixed(s.buf, s.addr, len)?;
        }
        Dst::user(s.addr, len)
    };
    let r = match offset(&open, s) {
        Ok(Some(at)) => read_at(cx, &open, at, dst),
        Ok(None) => do_read(cx, &open, dst),
        Err(e) => Err(e),
    };
    Ok((len, r))
}

fn write(cx: &mut Cx<'_>, ring: &Ring, job: &Job, s: &Sqe) -> Out {
    let mut want = u64::from(s.len).min(MAX_RW);
    let r = (|| -> Io<u64> {
        let open = job.file().ok_or(Errno::EBADF)?;
        if !open.writable() {
            return err(Errno::EBADF);
        }
        if s.op_flags & !RWF_KNOWN != 0 {
            return err(Errno::EOPNOTSUPP);
        }
        let iov = job.iov.borrow().clone();
        if s.opcode == op::WRITEV {
            want = iov.iter().map(|v| v.1).sum();
        } else if s.opcode == op::WRITE_FIXED {
            ring.check_fixed(s.buf, s.addr, want)?;
        }
        let make = || match s.opcode {
            op::WRITEV => Src::user_vec(iov.clone()),
            _ => Src::user(s.addr, want),
        };
        match offset(&open, s)? {
            Some(mut at) => {
                if s.op_flags & RWF_APPEND != 0 {
                    at = open.file.seek(&mut cx.env, 0, 0, 2)?;
                }
                write_at(cx, &open, at, make())
            }
            None => do_write(cx, &open, make),
        }
    })();
    match r {
        Ok(n) => Out::Done(n as i64, 0, n != want),
        Err(stop) => Out::stop(stop),
    }
}

/// The events of a poll request: its two halves are in the order of the machine's words.
fn poll_mask(s: &Sqe) -> u32 {
    s.op_flags | (Poll::ERR | Poll::HUP).bits()
}

fn poll(cx: &mut Cx<'_>, ring: &Ring, job: &Rc<Job>, s: &Sqe) -> Out {
    const EXCLUSIVE: u32 = 1 << 28;
    let Some(open) = job.file() else {
        return Out::of(err(Errno::EBADF));
    };
    if open.flags.get() & oflag::O_PATH != 0 {
        return Out::of(err(Errno::EBADF));
    }
    let mask = poll_mask(s);
    let woken = job.woken.take();
    let queue = open.file.queue();
    let multi = s.len & POLL_MULTI != 0 && woken & URING_WAKE == 0;
    if let Some(q) = &queue
        && (multi || woken == 0)
    {
        // Before the look: nothing that happens after it is missed.
        ring.listen(job, q, mask & 0xffff, s.op_flags & EXCLUSIVE != 0);
    }
    let now = open.file.poll(&mut cx.env).bits() & mask;
    if now == 0 {
        return match queue {
            Some(q) => {
                if job.waits.borrow().is_empty() {
                    ring.listen(job, &q, mask & 0xffff, s.op_flags & EXCLUSIVE != 0);
                }
                Out::Armed
            }
            None => Out::of(err(Errno::EINVAL)),
        };
    }
    if !multi {
        return Out::Done(i64::from(now), 0, false);
    }
    let c = super::num::Cqe {
        user_data: job.user_data.get(),
        res: now as i32,
        flags: cqe::MORE,
    };
    if ring.post_more(cx.env.plat, c) {
        return Out::Armed;
    }
    Out::Done(i64::from(now), 0, false)
}
