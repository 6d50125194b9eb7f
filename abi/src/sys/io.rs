//! read(2), write(2) and their relatives.

use crate::args::{Fd, Ptr};
use crate::cx::Cx;
use crate::fdtable::OpenFile;
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, IoVec, Restart, Src, Stop, err};
use ftl_core::layout::is_guest_range;
use ftl_core::wait::{Poll, Wake};

/// Most bytes of one transfer (MAX_RW_COUNT).
pub const MAX_RW: u64 = 0x7fff_f000;

/// Reads an iovec array as import_iovec() does.
pub fn iovec(cx: &mut Cx<'_>, iov: u64, n: i32) -> Result<IoVec, Errno> {
    if !(0..=1024).contains(&n) {
        return Err(Errno::EINVAL);
    }
    let (mut few, mut many);
    let raw: &mut [u8] = if n as usize <= IoVec::FEW {
        few = [0u8; IoVec::FEW * 16];
        &mut few[..n as usize * 16]
    } else {
        many = vec![0u8; n as usize * 16];
        &mut many
    };
    cx.read(iov, raw)?;
    let mut out = IoVec::default();
    let mut left = MAX_RW;
    for c in raw.chunks_exact(16) {
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| c[i + k]));
        let (addr, len) = (word(0), word(8));
        if len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let len = len.min(left);
        if !is_guest_range(addr, len) {
            return Err(Errno::EFAULT);
        }
        left -= len;
        out.push(addr, len);
    }
    Ok(out)
}

/// Reads at the file's position, waiting if the description may.
pub fn do_read(cx: &mut Cx<'_>, open: &OpenFile, mut dst: Dst) -> Io<u64> {
    if !open.readable() {
        return err(Errno::EBADF);
    }
    let pos = open.pos.get();
    crate::fs::proc::refresh(cx, open, pos);
    crate::tty::before_read(cx, open)?;
    match open.file.read(&mut cx.env, pos, &mut dst) {
        Ok(n) => {
            if open.file.seekable() {
                open.pos.set(pos + n);
            }
            Ok(n)
        }
        Err(Stop::Errno(Errno::EAGAIN)) if open.file.seekable() => {
            let n = crate::fs::proc::mem::read(cx, open, pos, &mut dst).unwrap_or(err(Errno::EAGAIN))?;
            open.pos.set(pos + n);
            Ok(n)
        }
        Err(Stop::Errno(Errno::EAGAIN)) => match crate::tty::timed_read(cx, open, &mut dst) {
            Some(r) => r,
            None => Err(would_block(cx, open, Poll::IN | Poll::RDNORM)),
        },
        Err(e) => Err(e),
    }
}

/// The file would block for `what`: EAGAIN, or a wait on its queue.
pub fn would_block(cx: &mut Cx<'_>, open: &OpenFile, what: Poll) -> Stop {
    if let Some(sock) = open.file.socket() {
        let o = &sock.base().options;
        let timeout = if what.contains(Poll::IN) {
            o.rcv_timeout.get()
        } else {
            o.snd_timeout.get()
        };
        return crate::net::block(cx, open, false, what, timeout, false);
    }
    match open.file.queue() {
        Some(q) if !open.nonblocking() => {
            let mask = what | Poll::ERR | Poll::HUP | Poll::RDHUP;
            cx.wait(vec![q.on_exclusive(mask.bits())], Restart::Sys)
        }
        _ => Stop::Errno(Errno::EAGAIN),
    }
}

/// Writes at the file's position. A blocking write to a stream goes on until all is written.
pub fn do_write(cx: &mut Cx<'_>, open: &OpenFile, make: impl Fn() -> Src) -> Io<u64> {
    if !open.writable() {
        return err(Errno::EBADF);
    }
    crate::tty::before_write(cx, open)?;
    crate::net::unix::note_writer(cx, open);
    let entity = cx.task.entity.clone();
    let mut src = make();
    let mut done = entity.progress.get();
    if done > 0 {
        // The part that an earlier run of this call has written.
        let mut skip = done;
        while skip > 0 && src.take_user(skip).map(|(_, n)| skip -= n).is_some() {}
    }
    loop {
        let pos = crate::fs::calls::rw::write_position(cx, open, &mut src)?;
        match open.file.write(&mut cx.env, pos, &mut src) {
            Ok(n) => {
                if open.file.seekable() {
                    open.pos.set(pos + n);
                    if cx.k.fs.inotify.any() {
                        let path = open.file.describe();
                        crate::fs::inotify::tell_path(cx.k, &path, crate::fs::inotify::event::MODIFY);
                    }
                }
                done += n;
                if src.remaining() == 0 || n == 0 || open.file.whole_writes() {
                    return Ok(done);
                }
                entity.progress.set(done);
                // The source was taken further than the file accepted: start from the count.
                src = make();
                let mut skip = done;
                while skip > 0 && src.take_user(skip).map(|(_, n)| skip -= n).is_some() {}
                if src.remaining() == 0 {
                    return Ok(done);
                }
            }
            Err(Stop::Errno(Errno::EAGAIN)) if open.file.seekable() => {
                let n = crate::fs::proc::mem::write(cx, open, pos, &mut src).unwrap_or(err(Errno::EAGAIN))?;
                open.pos.set(pos + n);
                return Ok(n);
            }
            Err(Stop::Errno(Errno::EAGAIN)) => {
                if open.nonblocking() || (cx.wake() == Wake::Signal && done > 0) {
                    return if done > 0 { Ok(done) } else { err(Errno::EAGAIN) };
                }
                entity.progress.set(done);
                return match would_block(cx, open, Poll::OUT | Poll::WRNORM) {
                    Stop::Interrupted(_) | Stop::Errno(Errno::EAGAIN) if done > 0 => Ok(done),
                    s => Err(s),
                };
            }
            Err(e) => {
                if matches!(e, Stop::Errno(Errno::EPIPE)) {
                    match crate::net::error_while_waiting(cx, open) {
                        Some(e) if done == 0 => return err(e),
                        Some(_) => {}
                        None => crate::event::write_pipe(cx, open, done),
                    }
                }
                return if done > 0 { Ok(done) } else { Err(e) };
            }
        }
    }
}

pub(crate) fn check_range(buf: Ptr, count: u64) -> Result<u64, Errno> {
    // The whole count must be in user space, though no more than MAX_RW is moved.
    if is_guest_range(buf.0, count) {
        Ok(count.min(MAX_RW))
    } else {
        Err(Errno::EFAULT)
    }
}

/// read(2)
pub fn sys_read(cx: &mut Cx<'_>, fd: Fd, buf: Ptr, count: u64) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let n = check_range(buf, count)?;
    do_read(cx, &open, Dst::user(buf.0, n))
}

/// write(2)
pub fn sys_write(cx: &mut Cx<'_>, fd: Fd, buf: Ptr, count: u64) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let n = check_range(buf, count)?;
    do_write(cx, &open, || Src::user(buf.0, n))
}

/// readv(2)
pub fn sys_readv(cx: &mut Cx<'_>, fd: Fd, iov: Ptr, n: i32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let iov = iovec(cx, iov.0, n)?;
    do_read(cx, &open, Dst::user_vec(iov))
}

/// writev(2)
pub fn sys_writev(cx: &mut Cx<'_>, fd: Fd, iov: Ptr, n: i32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let iov = iovec(cx, iov.0, n)?;
    do_write(cx, &open, || Src::user_vec(iov.clone()))
}

/// close(2)
pub fn sys_close(cx: &mut Cx<'_>, fd: Fd) -> Io<u64> {
    let open = cx.task.files().remove(fd.0)?;
    crate::fs::calls::fdops::closed(cx, &open);
    Ok(0)
}
