//! pipe(2), and the fcntl operations on a pipe's size.

use crate::args::Ptr;
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_ipc::pipe::PipeEnd;

/// CAP_SYS_RESOURCE
const SYS_RESOURCE: u64 = 1 << 24;

/// pipe2(2)
pub fn sys_pipe2(cx: &mut Cx<'_>, out: Ptr, flags: i32) -> Io<u64> {
    if flags & !(oflag::O_CLOEXEC | oflag::O_NONBLOCK | oflag::O_DIRECT) != 0 {
        return err(Errno::EINVAL);
    }
    let (uid, gid) = {
        let c = cx.task.creds.borrow();
        (c.fsuid, c.fsgid)
    };
    let (r, w) = PipeEnd::pair(&mut cx.env, flags, uid, gid);
    let cloexec = flags & oflag::O_CLOEXEC != 0;
    let status = flags & !oflag::O_CLOEXEC;
    let r = cx.new_fd(OpenFile::new(r, status | oflag::O_RDONLY), cloexec)?;
    let files = cx.task.files();
    let w = match cx.new_fd(OpenFile::new(w, status | oflag::O_WRONLY), cloexec) {
        Ok(w) => w,
        Err(e) => {
            files.remove(r)?;
            return Err(e.into());
        }
    };
    if let Err(e) = cx.put(out.0, &[r, w]) {
        files.remove(r)?;
        files.remove(w)?;
        return Err(e.into());
    }
    Ok(0)
}

/// pipe(2)
pub fn sys_pipe(cx: &mut Cx<'_>, out: Ptr) -> Io<u64> {
    sys_pipe2(cx, out, 0)
}

fn end_of(open: &OpenFile) -> Result<&PipeEnd, Errno> {
    open.file.as_any().downcast_ref::<PipeEnd>().ok_or(Errno::EBADF)
}

/// fcntl F_SETPIPE_SZ
pub fn set_size(cx: &mut Cx<'_>, open: &OpenFile, size: u64) -> Io<u64> {
    let privileged = cx.task.creds.borrow().caps[0] & SYS_RESOURCE != 0;
    // The argument is an unsigned int in the kernel.
    Ok(end_of(open)?.pipe().set_size(size as u32 as u64, privileged)?)
}

/// fcntl F_GETPIPE_SZ
pub fn get_size(open: &OpenFile) -> Io<u64> {
    Ok(end_of(open)?.pipe().size())
}
