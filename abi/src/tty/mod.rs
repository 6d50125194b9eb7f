//! Terminals.

use crate::cx::Cx;
use crate::fdtable::OpenFile;
use crate::fs::How;
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};

/// Opens a terminal device by its number.
pub fn open_device(_cx: &mut Cx<'_>, _rdev: u64, _how: &How) -> Io<FileRef> {
    err(Errno::ENXIO)
}

/// A file was opened: a session leader without a terminal gets it as its own.
pub fn opened(_cx: &mut Cx<'_>, _open: &OpenFile, _flags: i32) {}

/// Terminal ioctls that need more than the file; `None` for all others.
pub fn ioctl(_cx: &mut Cx<'_>, _open: &OpenFile, _cmd: u32, _arg: u64) -> Option<Io<u64>> {
    None
}
