//! Positioned reads and writes, and lseek.

use super::RLIMIT_FSIZE;
use crate::args::{Bits, Fd, Ptr};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use crate::sys::io::{check_range, do_read, do_write, iovec};
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, Src, Stop, err};
use std::rc::Rc;

/// A write went past RLIMIT_FSIZE: SIGXFSZ.
pub fn too_large(cx: &Cx<'_>) {
    use crate::signal::{SigInfo, code, post_task, sig};
    let pid = cx.task.process().pid.0;
    let uid = cx.task.creds.borrow().ruid;
    post_task(&cx.task, SigInfo::user(sig::SIGXFSZ, code::SI_USER, pid, uid));
}

/// Where a write at the description's own position goes: the end with O_APPEND. Cuts `src` to what
/// RLIMIT_FSIZE allows.
pub fn write_position(cx: &mut Cx<'_>, open: &OpenFile, src: &mut Src) -> Io<u64> {
    if !open.file.seekable() {
        return Ok(open.pos.get());
    }
    let pos = if open.flags.get() & oflag::O_APPEND != 0 {
        open.file.seek(&mut cx.env, 0, 0, 2)?
    } else {
        open.pos.get()
    };
    if open.flags.get() & oflag::O_APPEND != 0 {
        open.pos.set(pos);
    }
    limit(cx, pos, src)?;
    Ok(pos)
}

fn limit(cx: &Cx<'_>, pos: u64, src: &mut Src) -> Io<()> {
    let max = cx.task.process().rlimits.borrow()[RLIMIT_FSIZE].0;
    if max == u64::MAX || src.remaining() == 0 {
        return Ok(());
    }
    if pos >= max {
        too_large(cx);
        return err(Errno::EFBIG);
    }
    src.limit(max - pos);
    Ok(())
}

fn positioned(cx: &mut Cx<'_>, fd: i32, offset: i64) -> Io<(Rc<OpenFile>, u64)> {
    let open = cx.task.files().get(fd)?;
    let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    // Anonymous inodes have lseek, but never FMODE_PREAD.
    let anon = || open.file.describe().starts_with(b"anon_inode:");
    if !open.file.seekable() && (open.file.seek(&mut cx.env, 0, 0, 1).is_err() || anon()) {
        return err(Errno::ESPIPE);
    }
    Ok((open, offset))
}

/// Reads at `offset`.
pub fn read_at(cx: &mut Cx<'_>, open: &OpenFile, offset: u64, mut dst: Dst) -> Io<u64> {
    if !open.readable() {
        return err(Errno::EBADF);
    }
    crate::fs::proc::refresh(cx, open, offset);
    match open.file.read(&mut cx.env, offset, &mut dst) {
        Err(Stop::Errno(Errno::EAGAIN)) => {
            crate::fs::proc::mem::read(cx, open, offset, &mut dst).unwrap_or(err(Errno::EAGAIN))
        }
        r => r,
    }
}

/// Writes at `offset`; at the end with O_APPEND, as Linux does it.
pub fn write_at(cx: &mut Cx<'_>, open: &OpenFile, offset: u64, mut src: Src) -> Io<u64> {
    if !open.writable() {
        return err(Errno::EBADF);
    }
    let at = if open.flags.get() & oflag::O_APPEND != 0 && open.file.seekable() {
        open.file.seek(&mut cx.env, 0, 0, 2)?
    } else {
        offset
    };
    if open.file.seekable() {
        limit(cx, at, &mut src)?;
    }
    match open.file.write(&mut cx.env, at, &mut src) {
        Err(Stop::Errno(Errno::EAGAIN)) => {
            crate::fs::proc::mem::write(cx, open, at, &mut src).unwrap_or(err(Errno::EAGAIN))
        }
        r => r,
    }
}

/// pread64(2)
pub fn sys_pread64(cx: &mut Cx<'_>, fd: Fd, buf: Ptr, count: u64, offset: i64) -> Io<u64> {
    let (open, at) = positioned(cx, fd.0, offset)?;
    let n = check_range(buf, count)?;
    read_at(cx, &open, at, Dst::user(buf.0, n))
}

/// pwrite64(2)
pub fn sys_pwrite64(cx: &mut Cx<'_>, fd: Fd, buf: Ptr, count: u64, offset: i64) -> Io<u64> {
    let (open, at) = positioned(cx, fd.0, offset)?;
    let n = check_range(buf, count)?;
    write_at(cx, &open, at, Src::user(buf.0, n))
}

/// preadv(2)
pub fn sys_preadv(cx: &mut Cx<'_>, fd: Fd, iov: Ptr, n: i32, lo: i64, _hi: i64) -> Io<u64> {
    let (open, at) = positioned(cx, fd.0, lo)?;
    let iov = iovec(cx, iov.0, n)?;
    read_at(cx, &open, at, Dst::user_vec(iov))
}

/// pwritev(2)
pub fn sys_pwritev(cx: &mut Cx<'_>, fd: Fd, iov: Ptr, n: i32, lo: i64, _hi: i64) -> Io<u64> {
    let (open, at) = positioned(cx, fd.0, lo)?;
    let iov = iovec(cx, iov.0, n)?;
    write_at(cx, &open, at, Src::user_vec(iov))
}

const RWF_NOWAIT: u64 = 8;
const RWF_APPEND: u64 = 16;
const RWF_KNOWN: u64 = 0x1f;

/// preadv2(2)
pub fn sys_preadv2(cx: &mut Cx<'_>, fd: Fd, iov: Ptr, n: i32, lo: i64, _hi: i64, flags: Bits) -> Io<u64> {
    if flags.0 as u32 as u64 & !(RWF_KNOWN & !RWF_APPEND) != 0 {
        return err(Errno::EOPNOTSUPP);
    }
    if lo == -1 {
        let open = cx.task.files().get(fd.0)?;
        let iov = iovec(cx, iov.0, n)?;
        if flags.0 & RWF_NOWAIT != 0 && open.file.queue().is_some() {
            let mut dst = Dst::user_vec(iov);
            return open.file.read(&mut cx.env, 0, &mut dst);
        }
        return do_read(cx, &open, Dst::user_vec(iov));
    }
    sys_preadv(cx, fd, iov, n, lo, 0)
}

/// pwritev2(2)
pub fn sys_pwritev2(cx: &mut Cx<'_>, fd: Fd, iov: Ptr, n: i32, lo: i64, _hi: i64, flags: Bits) -> Io<u64> {
    if flags.0 as u32 as u64 & !RWF_KNOWN != 0 {
        return err(Errno::EOPNOTSUPP);
    }
    let open = cx.task.files().get(fd.0)?;
    let iov = iovec(cx, iov.0, n)?;
    if lo == -1 {
        return do_write(cx, &open, || Src::user_vec(iov.clone()));
    }
    let (open, mut at) = positioned(cx, fd.0, lo)?;
    if flags.0 & RWF_APPEND != 0 {
        at = open.file.seek(&mut cx.env, 0, 0, 2)?;
    }
    write_at(cx, &open, at, Src::user_vec(iov))
}

/// lseek(2)
pub fn sys_lseek(cx: &mut Cx<'_>, fd: Fd, offset: i64, whence: i32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    if open.flags.get() & oflag::O_PATH != 0 {
        return err(Errno::EBADF);
    }
    if !(0..=4).contains(&whence) {
        return err(Errno::EINVAL);
    }
    let pos = open.file.seek(&mut cx.env, open.pos.get(), offset, whence)?;
    open.pos.set(pos);
    Ok(pos)
}
