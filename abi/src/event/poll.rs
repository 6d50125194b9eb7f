//! poll(2), ppoll(2) (fs/select.c).

use super::sigmask::with_mask;
use super::time::{self, Span};
use crate::args::Ptr;
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, err};
use ftl_core::wait::{On, Poll};

/// RLIMIT_NOFILE
const NOFILE: usize = 7;
/// Bytes of struct pollfd, and where revents is.
const POLLFD: u64 = 8;
const REVENTS: u64 = 6;

/// What a description is ready for, out of `want`; if nothing, adds its queue to `on`.
pub(super) fn look(cx: &mut Cx<'_>, open: &OpenFile, want: Poll, on: &mut Vec<On>) -> Poll {
    let want = want | Poll::ERR | Poll::HUP;
    let have = open.file.poll(&mut cx.env) & want;
    if have.is_empty()
        && let Some(q) = open.file.queue()
    {
        on.push(q.on_mask(want.bits()));
    }
    have
}

/// Nothing is ready: ends the call if its time is up, else waits.
pub(super) fn idle(cx: &mut Cx<'_>, on: Vec<On>, span: Span) -> Io<u64> {
    if span == Span::Zero {
        cx.k.yield_now();
        return Ok(0);
    }
    if cx.timed_out() {
        return Ok(0);
    }
    let deadline = span.deadline(cx);
    Err(cx.wait_until(on, deadline, Restart::NoHandler))
}

fn do_poll(cx: &mut Cx<'_>, fds: Ptr, n: u32, span: Span) -> Io<u64> {
    if u64::from(n) > cx.task.process().rlimits.borrow()[NOFILE].0 {
        return err(Errno::EINVAL);
    }
    let mut raw = vec![0u8; n as usize * POLLFD as usize];
    cx.read(fds.0, &mut raw)?;
    let files = cx.task.files();
    let mut on = Vec::new();
    let mut results = Vec::with_capacity(n as usize);
    let mut count = 0;
    for c in raw.chunks_exact(POLLFD as usize) {
        let fd = i32::from_le_bytes([c[0], c[1], c[2], c[3]]);
        let want = Poll::from_bits_truncate(u32::from(u16::from_le_bytes([c[4], c[5]])));
        let have = if fd < 0 {
            Poll::empty()
        } else {
            match files.get(fd) {
                Ok(open) if open.flags.get() & oflag::O_PATH == 0 => look(cx, &open, want, &mut on),
                _ => Poll::NVAL,
            }
        };
        count += u64::from(!have.is_empty());
        results.push(have.bits() as u16);
    }
    if count == 0
        && let Err(stop) = idle(cx, on, span)
    {
        return Err(stop);
    }
    for (i, r) in results.iter().enumerate() {
        cx.put(fds.0 + i as u64 * POLLFD + REVENTS, r)?;
    }
    Ok(count)
}

/// poll(2)
pub fn sys_poll(cx: &mut Cx<'_>, fds: Ptr, n: u32, timeout_ms: i32) -> Io<u64> {
    do_poll(cx, fds, n, Span::ms(timeout_ms))
}

/// ppoll(2)
pub fn sys_ppoll(cx: &mut Cx<'_>, fds: Ptr, n: u32, timeout: Ptr, mask: Ptr, size: u64) -> Io<u64> {
    let span = if timeout.is_null() {
        Span::Forever
    } else {
        Span::of(time::timespec(cx, timeout)?)
    };
    let result = with_mask(cx, mask, size, |cx| do_poll(cx, fds, n, span));
    time::write_back(cx, span, result, |cx, left| {
        cx.put(timeout.0, &[left / 1_000_000_000, left % 1_000_000_000])
    })
}
