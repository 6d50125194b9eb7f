//! Pipes, eventfd, epoll, poll and select: the calls. The objects are in `ftl_ipc`.

pub mod time;

use crate::cx::Cx;

/// SIGPIPE for the calling task: it wrote to something that nobody reads.
pub fn raise_pipe(_cx: &mut Cx<'_>) {}
