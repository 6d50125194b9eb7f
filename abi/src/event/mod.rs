//! Pipes, eventfd, epoll, poll and select: the calls. The objects are in `ftl_ipc`.

pub mod epoll;
pub mod eventfd;
pub mod pipe;
pub mod poll;
pub mod select;
pub mod sigmask;
pub mod time;

use crate::cx::Cx;
use crate::fdtable::OpenFile;
use ftl_core::socket::num;

pub use crate::signal::raise_pipe;

/// A write(2) got EPIPE after `done` bytes: SIGPIPE, but not from datagram sockets, and from a
/// stream socket only if nothing was sent.
pub fn write_pipe(cx: &mut Cx<'_>, open: &OpenFile, done: u64) {
    let raise = match open.file.socket() {
        None => true,
        Some(s) => s.base().kind == num::SOCK_STREAM && done == 0,
    };
    if raise {
        raise_pipe(cx);
    }
}
