//! eventfd(2)

use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_ipc::eventfd::EventFd;

const EFD_SEMAPHORE: i32 = 1;

/// eventfd2(2)
pub fn sys_eventfd2(cx: &mut Cx<'_>, count: u32, flags: i32) -> Io<u64> {
    if flags & !(EFD_SEMAPHORE | oflag::O_CLOEXEC | oflag::O_NONBLOCK) != 0 {
        return err(Errno::EINVAL);
    }
    let file = EventFd::new(&mut cx.env, count, flags & EFD_SEMAPHORE != 0);
    let open = OpenFile::new(file, oflag::O_RDWR | flags & oflag::O_NONBLOCK);
    Ok(cx.new_fd(open, flags & oflag::O_CLOEXEC != 0)? as u64)
}

/// eventfd(2)
pub fn sys_eventfd(cx: &mut Cx<'_>, count: u32) -> Io<u64> {
    sys_eventfd2(cx, count, 0)
}
