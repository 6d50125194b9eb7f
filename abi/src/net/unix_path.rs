//! Sockets as names in the file system.

use crate::cx::Cx;
use crate::fs::Loc;
use crate::fs::calls::names::{free_name, told};
use crate::fs::inotify::event;
use crate::fs::perm::{self, mode};
use crate::fs::volume::Volume;
use crate::fs::walk::{self, AT_FDCWD};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Stop, err};
use ftl_ipc::unix::{HostNode, UnixSocket};
use std::rc::Rc;

/// The host's name of a place, if sockets there meet the host: on a volume or below the working directory at start,
/// under `--net host`.
fn host_node(cx: &mut Cx<'_>, loc: &Loc) -> Option<HostNode> {
    let inet = cx.k.inet.clone();
    if !inet.host(&mut cx.env) {
        return None;
    }
    let dir = loc.mount.fs.as_any().downcast_ref::<Volume>()?.dir();
    Some(HostNode {
        dir,
        path: loc.path.clone(),
    })
}

/// Makes the socket's node: EADDRINUSE if the name exists. Device and inode number. As in Linux the
/// node is made before a socket turns out to have a name, and is removed again.
pub fn make(cx: &mut Cx<'_>, path: &[u8], sock: &Rc<UnixSocket>) -> Io<(u64, u64)> {
    let bits = 0o777 & !cx.task.fs.borrow().umask.get();
    let made = walk::with_name(cx, AT_FDCWD, path, |cx, t| {
        free_name(cx, t, false)?;
        let node = host_node(cx, &t.loc).filter(|_| !sock.is_bound());
        match (node, t.loc.mount.fs.as_any().downcast_ref::<Volume>()) {
            (Some(node), Some(v)) => {
                v.bind_socket(cx, &t.loc.path, |cx| sock.bind_host(&mut cx.env, &node, bits))?
            }
            _ => t.loc.mount.fs.mknod(cx, &t.loc.path, mode::SOCK | bits, 0)?,
        }
        told(cx, &t.loc, event::CREATE);
        Ok(t.loc.clone())
    });
    let loc = match made {
        Err(Stop::Errno(Errno::EEXIST)) => return err(Errno::EADDRINUSE),
        r => r?,
    };
    if sock.is_bound() {
        loc.mount.fs.unlink(cx, &loc.path)?;
        return err(Errno::EINVAL);
    }
    let st = loc.mount.fs.stat(cx, &loc.path)?;
    Ok((st.dev, st.ino))
}

/// The socket node at `path`, which the caller must be allowed to write: device and inode number, and its name on the
/// host where the host's sockets are met.
pub fn find(cx: &mut Cx<'_>, path: &[u8]) -> Io<(u64, u64, Option<HostNode>)> {
    walk::with(cx, AT_FDCWD, path, true, |cx, t| {
        let st = t.stat(cx)?;
        perm::check(&cx.task.creds.borrow(), &st, perm::W)?;
        if st.mode & mode::FMT != mode::SOCK {
            return err(Errno::ECONNREFUSED);
        }
        Ok((st.dev, st.ino, host_node(cx, &t.loc)))
    })
}
