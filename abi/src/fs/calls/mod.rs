//! The file system calls.

pub mod attr;
pub mod copy;
pub mod dirs;
pub mod fdops;
pub mod memfd;
pub mod mounts;
pub mod names;
pub mod open;
pub mod rw;
pub mod stat;
pub mod xattr;

use super::walk::AT_EMPTY_PATH;
use crate::cx::Cx;
use crate::fdtable::OpenFile;
use ftl_core::io::Io;
use std::rc::Rc;

pub(super) const RLIMIT_FSIZE: usize = 1;
pub(super) const RLIMIT_NOFILE: usize = 7;

/// A path argument, and the descriptor itself if it is empty and may be.
pub(super) enum Arg {
    Path(Vec<u8>),
    Itself(Option<Rc<OpenFile>>),
}

/// Reads a path that AT_EMPTY_PATH in `flags` allows to be empty. `Itself(None)` is the working directory.
pub(super) fn path_or_fd(cx: &mut Cx<'_>, dirfd: i32, path: u64, flags: u32) -> Io<Arg> {
    let p = if path == 0 && flags & AT_EMPTY_PATH != 0 {
        Vec::new()
    } else {
        cx.path(path)?
    };
    if p.is_empty() && flags & AT_EMPTY_PATH != 0 {
        if dirfd == super::walk::AT_FDCWD {
            return Ok(Arg::Itself(None));
        }
        return Ok(Arg::Itself(Some(cx.task.files().get(dirfd)?)));
    }
    Ok(Arg::Path(p))
}
