//! sendfile, copy_file_range, splice, tee, vmsplice: through a kernel buffer.

use crate::args::{Bits, Fd, Ptr};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use crate::fs::calls::rw::{read_at, write_at};
use crate::fs::perm::mode;
use crate::sys::io::{MAX_RW, do_write, iovec, would_block};
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, Src, Stop, err};
use ftl_core::wait::Poll;
use ftl_ipc::pipe::PipeEnd;
use std::rc::Rc;

const CHUNK: u64 = 1 << 16;
const SPLICE_F_NONBLOCK: u64 = 2;

fn bytes_at(cx: &mut Cx<'_>, open: &OpenFile, at: u64, len: u64) -> Io<Vec<u8>> {
    let mut dst = Dst::kernel(len as usize);
    crate::fs::proc::refresh(cx, open, at);
    open.file.read(&mut cx.env, at, &mut dst)?;
    Ok(dst.into_bytes())
}

/// Writes at the position of `out` (or `at`) without waiting.
fn put(cx: &mut Cx<'_>, out: &OpenFile, at: Option<u64>, bytes: Vec<u8>) -> Io<u64> {
    if let Some(at) = at {
        return write_at(cx, out, at, Src::kernel(bytes));
    }
    let mut src = Src::kernel(bytes);
    let pos = super::rw::write_position(cx, out, &mut src)?;
    match out.file.write(&mut cx.env, pos, &mut src) {
        Ok(n) => {
            if out.file.seekable() {
                out.pos.set(pos + n);
            }
            Ok(n)
        }
        Err(e) => {
            if matches!(e, Stop::Errno(Errno::EPIPE)) {
                crate::event::write_pipe(cx, out, 0);
            }
            Err(e)
        }
    }
}

/// sendfile(2)
pub fn sys_sendfile(cx: &mut Cx<'_>, out: Fd, input: Fd, offset: Ptr, count: u64) -> Io<u64> {
    let from = cx.task.files().get(input.0)?;
    let to = cx.task.files().get(out.0)?;
    if !from.readable() || !to.writable() {
        return err(Errno::EBADF);
    }
    if to.flags.get() & oflag::O_APPEND != 0 {
        return err(Errno::EINVAL);
    }
    if !from.file.seekable() {
        return err(if offset.is_null() {
            Errno::EINVAL
        } else {
            Errno::ESPIPE
        });
    }
    let start: u64 = if offset.is_null() {
        from.pos.get()
    } else {
        cx.get(offset.0)?
    };
    if start > i64::MAX as u64 {
        return err(Errno::EINVAL);
    }
    let count = count.min(MAX_RW);
    let entity = cx.task.entity.clone();
    // An earlier run of this call has sent this much; the positions are only moved at the end.
    let mut done = entity.progress.get();
    let result = loop {
        if done >= count {
            break Ok(());
        }
        let bytes = match bytes_at(cx, &from, start + done, (count - done).min(CHUNK)) {
            Ok(b) if b.is_empty() => break Ok(()),
            Ok(b) => b,
            Err(e) => break Err(e),
        };
        match put(cx, &to, None, bytes) {
            Ok(n) => {
                done += n;
                entity.progress.set(done);
            }
            Err(Stop::Errno(Errno::EAGAIN)) => match would_block(cx, &to, Poll::OUT | Poll::WRNORM) {
                Stop::Block(b) => return Err(Stop::Block(b)),
                other => break Err(other),
            },
            Err(e) => break Err(e),
        }
    };
    if done == 0 {
        result?;
    }
    if offset.is_null() {
        from.pos.set(start + done);
    } else {
        cx.put(offset.0, &(start + done))?;
    }
    Ok(done)
}

fn offset_of(cx: &mut Cx<'_>, open: &OpenFile, at: Ptr) -> Io<u64> {
    if at.is_null() {
        return Ok(open.pos.get());
    }
    let v: i64 = cx.get(at.0)?;
    u64::try_from(v).map_err(|_| Errno::EINVAL.into())
}

/// copy_file_range(2)
pub fn sys_copy_file_range(
    cx: &mut Cx<'_>,
    input: Fd,
    off_in: Ptr,
    out: Fd,
    off_out: Ptr,
    len: u64,
    flags: Bits,
) -> Io<u64> {
    let from = cx.task.files().get(input.0)?;
    let to = cx.task.files().get(out.0)?;
    if flags.0 as u32 != 0 {
        return err(Errno::EINVAL);
    }
    let a = crate::fs::fstat(cx, &from.file)?;
    let b = crate::fs::fstat(cx, &to.file)?;
    if a.mode & mode::FMT == mode::DIR || b.mode & mode::FMT == mode::DIR {
        return err(Errno::EISDIR);
    }
    if a.mode & mode::FMT != mode::REG || b.mode & mode::FMT != mode::REG {
        return err(Errno::EINVAL);
    }
    if !from.readable() || !to.writable() || to.flags.get() & oflag::O_APPEND != 0 {
        return err(Errno::EBADF);
    }
    let (i, o) = (offset_of(cx, &from, off_in)?, offset_of(cx, &to, off_out)?);
    let len = len.min(MAX_RW);
    if i.checked_add(len).is_none() || o.checked_add(len).is_none() {
        return err(Errno::EOVERFLOW);
    }
    if (a.dev, a.ino) == (b.dev, b.ino) && i < o + len && o < i + len && len > 0 {
        return err(Errno::EINVAL);
    }
    let mut done = 0;
    while done < len {
        let bytes = bytes_at(cx, &from, i + done, (len - done).min(CHUNK * 4))?;
        if bytes.is_empty() {
            break;
        }
        match write_at(cx, &to, o + done, Src::kernel(bytes)) {
            Ok(n) => done += n,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    for (open, at, pos) in [(&from, off_in, i), (&to, off_out, o)] {
        if at.is_null() {
            open.pos.set(pos + done);
        } else {
            cx.put(at.0, &(pos + done))?;
        }
    }
    Ok(done)
}

fn pipe_of(open: &OpenFile) -> Option<&PipeEnd> {
    open.file.as_any().downcast_ref::<PipeEnd>()
}

/// The pipe is not ready for `what`: a wait, or EAGAIN if the caller or the description says so.
fn not_ready(cx: &mut Cx<'_>, open: &OpenFile, what: Poll, flags: u64) -> Stop {
    if flags & SPLICE_F_NONBLOCK != 0 {
        return Errno::EAGAIN.into();
    }
    would_block(cx, open, what)
}

/// splice(2)
pub fn sys_splice(
    cx: &mut Cx<'_>,
    input: Fd,
    off_in: Ptr,
    out: Fd,
    off_out: Ptr,
    len: u64,
    flags: Bits,
) -> Io<u64> {
    if flags.0 & !0xf != 0 {
        return err(Errno::EINVAL);
    }
    let from = cx.task.files().get(input.0)?;
    let to = cx.task.files().get(out.0)?;
    if !from.readable() || !to.writable() {
        return err(Errno::EBADF);
    }
    let (in_pipe, out_pipe) = (pipe_of(&from).is_some(), pipe_of(&to).is_some());
    if !in_pipe && !out_pipe {
        return err(Errno::EINVAL);
    }
    if in_pipe && !off_in.is_null() || out_pipe && !off_out.is_null() {
        return err(Errno::ESPIPE);
    }
    if !off_in.is_null() && !from.file.seekable() || !off_out.is_null() && !to.file.seekable() {
        return err(Errno::ESPIPE);
    }
    if in_pipe
        && out_pipe
        && Rc::ptr_eq(
            pipe_of(&from).ok_or(Errno::EINVAL)?.pipe(),
            pipe_of(&to).ok_or(Errno::EINVAL)?.pipe(),
        )
    {
        return err(Errno::EINVAL);
    }
    if to.flags.get() & oflag::O_APPEND != 0 && !out_pipe {
        return err(Errno::EINVAL);
    }
    let len = len.min(CHUNK);
    if len == 0 {
        return Ok(0);
    }
    if in_pipe {
        from_pipe(cx, &from, &to, off_out, len, flags.0)
    } else {
        to_pipe(cx, &from, off_in, &to, len, flags.0)
    }
}

fn from_pipe(
    cx: &mut Cx<'_>,
    from: &Rc<OpenFile>,
    to: &Rc<OpenFile>,
    off: Ptr,
    len: u64,
    flags: u64,
) -> Io<u64> {
    let Some(end) = pipe_of(from) else {
        return err(Errno::EINVAL);
    };
    let bytes = end.pipe().peek(len as usize);
    if bytes.is_empty() {
        // End of file, or a wait for a writer.
        let mut none = Dst::kernel(1);
        return match from.file.read(&mut cx.env, 0, &mut none) {
            Err(Stop::Errno(Errno::EAGAIN)) => Err(not_ready(cx, from, Poll::IN | Poll::RDNORM, flags)),
            Ok(_) => Ok(0),
            Err(e) => Err(e),
        };
    }
    let at = if off.is_null() {
        None
    } else {
        Some(offset_of(cx, to, off)?)
    };
    let n = match put(cx, to, at, bytes) {
        Err(Stop::Errno(Errno::EAGAIN)) => return Err(not_ready(cx, to, Poll::OUT | Poll::WRNORM, flags)),
        r => r?,
    };
    let mut gone = Dst::kernel(n as usize);
    from.file.read(&mut cx.env, 0, &mut gone)?;
    if let Some(at) = at {
        cx.put(off.0, &(at + n))?;
    }
    Ok(n)
}

fn to_pipe(
    cx: &mut Cx<'_>,
    from: &Rc<OpenFile>,
    off: Ptr,
    to: &Rc<OpenFile>,
    len: u64,
    flags: u64,
) -> Io<u64> {
    if !to.file.poll(&mut cx.env).intersects(Poll::OUT | Poll::ERR) {
        return Err(not_ready(cx, to, Poll::OUT | Poll::WRNORM, flags));
    }
    let seekable = from.file.seekable();
    let at = if seekable { offset_of(cx, from, off)? } else { 0 };
    // What cannot be put back is taken only as far as one free slot surely holds it.
    let take = if seekable { len } else { len.min(4096) };
    let bytes = match bytes_at(cx, from, at, take) {
        Err(Stop::Errno(Errno::EAGAIN)) => return Err(not_ready(cx, from, Poll::IN | Poll::RDNORM, flags)),
        r => r?,
    };
    if bytes.is_empty() {
        return Ok(0);
    }
    let n = put(cx, to, None, bytes)?;
    if seekable {
        if off.is_null() {
            from.pos.set(at + n);
        } else {
            cx.put(off.0, &(at + n))?;
        }
    }
    Ok(n)
}

/// tee(2)
pub fn sys_tee(cx: &mut Cx<'_>, input: Fd, out: Fd, len: u64, flags: Bits) -> Io<u64> {
    if flags.0 & !0xf != 0 {
        return err(Errno::EINVAL);
    }
    let from = cx.task.files().get(input.0)?;
    let to = cx.task.files().get(out.0)?;
    if !from.readable() || !to.writable() {
        return err(Errno::EBADF);
    }
    let (Some(a), Some(b)) = (pipe_of(&from), pipe_of(&to)) else {
        return err(Errno::EINVAL);
    };
    if Rc::ptr_eq(a.pipe(), b.pipe()) {
        return err(Errno::EINVAL);
    }
    let bytes = a.pipe().peek(len.min(CHUNK) as usize);
    if len == 0 {
        return Ok(0);
    }
    if bytes.is_empty() {
        let mut none = Dst::kernel(1);
        return match from.file.read(&mut cx.env, 0, &mut none) {
            Err(Stop::Errno(Errno::EAGAIN)) => Err(not_ready(cx, &from, Poll::IN | Poll::RDNORM, flags.0)),
            Ok(_) => Ok(0),
            Err(e) => Err(e),
        };
    }
    match put(cx, &to, None, bytes) {
        Err(Stop::Errno(Errno::EAGAIN)) => Err(not_ready(cx, &to, Poll::OUT | Poll::WRNORM, flags.0)),
        r => r,
    }
}

/// vmsplice(2)
pub fn sys_vmsplice(cx: &mut Cx<'_>, fd: Fd, iov: Ptr, n: u64, flags: Bits) -> Io<u64> {
    if flags.0 & !0xf != 0 || n > 1024 {
        return err(Errno::EINVAL);
    }
    let open = cx.task.files().get(fd.0)?;
    if pipe_of(&open).is_none() {
        return err(Errno::EBADF);
    }
    let iov = iovec(cx, iov.0, n as i32)?;
    if open.writable() {
        return do_write(cx, &open, || Src::user_vec(iov.clone()));
    }
    match read_at(cx, &open, 0, Dst::user_vec(iov)) {
        Err(Stop::Errno(Errno::EAGAIN)) => Err(not_ready(cx, &open, Poll::IN | Poll::RDNORM, flags.0)),
        r => r,
    }
}
