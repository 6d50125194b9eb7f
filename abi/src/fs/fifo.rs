//! Named pipes. The pipe itself is the IPC crate's; here is the wait of open(2) for the other side.

use super::inode::Inode;
use super::{How, Loc};
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};
use std::rc::Rc;

/// Opens the FIFO behind `node`.
pub fn open(_cx: &mut Cx<'_>, _node: &Rc<Inode>, _how: &How, _loc: &Loc) -> Io<FileRef> {
    err(Errno::ENXIO)
}
