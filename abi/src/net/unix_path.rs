//! Sockets as names in the file system.

use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};

/// Makes the socket's node: EADDRINUSE if the name exists. Device and inode number.
pub fn make(_cx: &mut Cx<'_>, _path: &[u8]) -> Io<(u64, u64)> {
    err(Errno::EROFS)
}

/// The socket node at `path`, which the caller must be allowed to write.
pub fn find(_cx: &mut Cx<'_>, _path: &[u8]) -> Io<(u64, u64)> {
    err(Errno::ENOENT)
}
