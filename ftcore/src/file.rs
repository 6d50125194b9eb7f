//! What an open file can do, whatever it is: the seam between the fd table and pipes, sockets,
//! inodes, epoll instances.
//!
//! An operation never waits: it returns EAGAIN, and the caller, who knows about O_NONBLOCK, blocks
//! on [`File::queue`]. Offsets are the caller's too.

use crate::errno::Errno;
use crate::io::{Dst, Io, Src, err};
use crate::kcore::Env;
use crate::platform::{Backing, Stat};
use crate::socket::Socket;
use crate::wait::{Poll, WaitQueue};
use std::any::Any;
use std::rc::Rc;

/// Attributes to change; `None` leaves one as it is. Who may do it was checked by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct SetAttr {
    /// Permission bits, without the file type.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// ns since the epoch.
    pub atime: Option<i128>,
    pub mtime: Option<i128>,
}

/// One open file object. Methods have Linux' default answers for "this kind of file cannot".
#[allow(missing_docs)]
pub trait File: Any {
    /// For finding out what it is.
    fn as_any(&self) -> &dyn Any;
    /// Short name for messages and /proc/self/fd (`pipe:[12]`, a path).
    fn describe(&self) -> Vec<u8>;
    /// Reads at `offset` (ignored unless [`File::seekable`]).
    fn read(&self, _env: &mut Env<'_>, _offset: u64, _dst: &mut Dst) -> Io<u64> {
        err(Errno::EINVAL)
    }
    /// Writes at `offset`. `Src` is consumed by exactly the returned number of bytes.
    fn write(&self, _env: &mut Env<'_>, _offset: u64, _src: &mut Src) -> Io<u64> {
        err(Errno::EINVAL)
    }
    /// Has a position and can be read at any.
    fn seekable(&self) -> bool {
        false
    }
    /// Readiness now. Files that are always ready keep the default.
    fn poll(&self, _env: &mut Env<'_>) -> Poll {
        Poll::IN | Poll::OUT | Poll::RDNORM | Poll::WRNORM
    }
    /// Woken whenever `poll` may have changed. `None`: always ready (epoll refuses those with EPERM).
    fn queue(&self) -> Option<WaitQueue> {
        None
    }
    fn stat(&self, env: &mut Env<'_>) -> Io<Stat>;
    /// ioctl with its raw argument.
    fn ioctl(&self, _env: &mut Env<'_>, _cmd: u64, _arg: u64) -> Io<u64> {
        err(Errno::ENOTTY)
    }
    /// New position for SEEK_* from `pos`; ESPIPE where there is none.
    fn seek(&self, _env: &mut Env<'_>, _pos: u64, _offset: i64, _whence: i32) -> Io<u64> {
        err(Errno::ESPIPE)
    }
    fn truncate(&self, _env: &mut Env<'_>, _len: u64) -> Io<()> {
        err(Errno::EINVAL)
    }
    fn allocate(&self, _env: &mut Env<'_>, _mode: i32, _offset: u64, _len: u64) -> Io<()> {
        err(Errno::EOPNOTSUPP)
    }
    fn sync(&self, _env: &mut Env<'_>, _data_only: bool) -> Io<()> {
        err(Errno::EINVAL)
    }
    /// What backs a mapping of `len` bytes from `offset`, as pieces `(len, backing)` in order.
    fn map(
        &self,
        _env: &mut Env<'_>,
        _offset: u64,
        _len: u64,
        _shared: bool,
        _write: bool,
    ) -> Io<Vec<(u64, Backing)>> {
        err(Errno::ENODEV)
    }
    /// The socket that it is; ENOTSOCK otherwise.
    fn socket(&self) -> Option<&dyn Socket> {
        None
    }
    /// A write takes all or nothing of what it wants, and a shorter count is final (eventfd,
    /// datagrams): the call layer does not go on with the rest.
    fn whole_writes(&self) -> bool {
        false
    }
    /// fchmod, fchown, futimens. Objects that no file system holds take it and forget it.
    fn set_attr(&self, _env: &mut Env<'_>, _attr: &SetAttr) -> Io<()> {
        Ok(())
    }
    /// Device and inode: what locks and fd comparisons go by.
    fn identity(&self, env: &mut Env<'_>) -> Io<(u64, u64)> {
        let st = self.stat(env)?;
        Ok((st.dev, st.ino))
    }
    /// The open flags changed (O_NONBLOCK, O_ASYNC) by fcntl.
    fn set_flags(&self, _env: &mut Env<'_>, _flags: i32) {}
    /// A descriptor of it was closed (flush; POSIX locks are the fd table's).
    fn closed(&self, _env: &mut Env<'_>) {}
}

/// A shared file object.
pub type FileRef = Rc<dyn File>;
