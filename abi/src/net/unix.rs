//! UNIX sockets: names and creation. The sockets themselves are in `ftl_ipc::unix`.

use crate::cx::Cx;
use crate::fdtable::OpenFile;
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};
use ftl_core::socket::Outgoing;
use std::rc::Rc;

/// socket(AF_UNIX, ...)
pub fn create(_cx: &mut Cx<'_>, _kind: i32, _protocol: i32) -> Io<FileRef> {
    err(Errno::EAFNOSUPPORT)
}

/// socketpair(AF_UNIX, ...)
pub fn pair(_cx: &mut Cx<'_>, _kind: i32, _protocol: i32) -> Io<(FileRef, FileRef)> {
    err(Errno::EAFNOSUPPORT)
}

/// bind(2)
pub fn bind(_cx: &mut Cx<'_>, _open: &Rc<OpenFile>, _addr: &[u8]) -> Io<u64> {
    err(Errno::EOPNOTSUPP)
}

/// connect(2)
pub fn connect(_cx: &mut Cx<'_>, _open: &Rc<OpenFile>, _addr: &[u8]) -> Io<()> {
    err(Errno::EOPNOTSUPP)
}

/// Finds the object behind a message's destination.
pub fn resolve(_cx: &mut Cx<'_>, _open: &Rc<OpenFile>, _msg: &mut Outgoing) -> Io<()> {
    Ok(())
}
