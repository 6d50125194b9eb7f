//! Host sockets (`--net host`): created here, a device behind the doors.

use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};

/// A socket of a domain other than AF_UNIX.
pub fn create(_cx: &mut Cx<'_>, _domain: i32, _kind: i32, _protocol: i32) -> Io<FileRef> {
    err(Errno::EAFNOSUPPORT)
}
