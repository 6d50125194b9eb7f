//! Sockets as names in the file system.

use crate::cx::Cx;
use crate::fs::calls::names::make_node;
use crate::fs::perm::{self, mode};
use crate::fs::walk::{self, AT_FDCWD};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Stop, err};

/// Makes the socket's node: EADDRINUSE if the name exists. Device and inode number. As in Linux the
/// node is made before a socket turns out to have a name (`named`), and is removed again.
pub fn make(cx: &mut Cx<'_>, path: &[u8], named: bool) -> Io<(u64, u64)> {
    let loc = match make_node(cx, AT_FDCWD, path, mode::SOCK | 0o777, 0) {
        Err(Stop::Errno(Errno::EEXIST)) => return err(Errno::EADDRINUSE),
        r => r?,
    };
    if named {
        loc.mount.fs.unlink(cx, &loc.path)?;
        return err(Errno::EINVAL);
    }
    let st = loc.mount.fs.stat(cx, &loc.path)?;
    Ok((st.dev, st.ino))
}

/// The socket node at `path`, which the caller must be allowed to write.
pub fn find(cx: &mut Cx<'_>, path: &[u8]) -> Io<(u64, u64)> {
    walk::with(cx, AT_FDCWD, path, true, |cx, t| {
        let st = t.stat(cx)?;
        perm::check(&cx.task.creds.borrow(), &st, perm::W)?;
        if st.mode & mode::FMT != mode::SOCK {
            return err(Errno::ECONNREFUSED);
        }
        Ok((st.dev, st.ino))
    })
}
