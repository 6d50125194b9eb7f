//! `record --chaos`: choices that Linux leaves open are taken at random, from the image's own seed, so that
//! a program's races show. All of it is image state: a replay makes the same choices.
//!
//! What is varied, and why Linux may do it too:
//! * which runnable task is next, and after how many entries it gives way: any schedule is legal;
//! * a stream socket gives fewer bytes than there are, or takes fewer than it could without blocking: segments
//!   arrive in pieces, buffers fill. A pipe gives less than was asked for only in steps of PIPE_BUF, below which
//!   writes are atomic;
//! * a read of a non-blocking socket says EAGAIN although there is something (select(2), BUGS); what there is
//!   is announced again, as if it had come a moment later;
//! * epoll_wait, semop and sigtimedwait that would wait say EINTR, as after a stop and SIGCONT (signal(7));
//!   FUTEX_WAIT returns 0 without a wake (futex(2)).

use crate::cx::Cx;
use crate::fdtable::OpenFile;
use crate::task::Call;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::socket::num;
use ftl_core::wait::{Poll, RunQueue};
use std::cell::Cell;

const READ: u64 = 0;
const WRITE: u64 = 1;
const SENDTO: u64 = 44;
const RECVFROM: u64 = 45;
const SEMOP: u64 = 65;
const RT_SIGTIMEDWAIT: u64 = 128;
const FUTEX: u64 = 202;
const SEMTIMEDOP: u64 = 220;
const EPOLL_WAIT: u64 = 232;
const EPOLL_PWAIT: u64 = 281;
const EPOLL_PWAIT2: u64 = 441;

/// Up to so many bytes a write to a pipe is atomic.
const PIPE_BUF: u64 = 4096;

/// The random choices of an image. Its own stream: the guest's random numbers stay as they are.
#[derive(Debug)]
pub struct Chaos {
    state: Cell<u64>,
    /// The task at the front of the run queue was chosen already, by the vCPU of another space.
    pub chosen: Cell<bool>,
}

impl Chaos {
    /// From the user's seed.
    pub fn new(seed: u64) -> Chaos {
        Chaos {
            state: Cell::new(seed),
            chosen: Cell::new(false),
        }
    }

    /// splitmix64.
    fn next(&self) -> u64 {
        self.state
            .set(self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.state.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Brings the task that is to run to the front. Nothing is drawn where there is no choice: how often an
    /// idle image looks is not the image's doing.
    pub fn choose(&self, run: &RunQueue) {
        let waiting = run.len();
        if !self.chosen.take() && waiting > 1 {
            run.prefer(self.below(waiting as u64) as usize);
        }
    }

    /// Entries of the next slice: often very few, sometimes as many as usual.
    pub fn slice(&self) -> u32 {
        1 + self.below(1 << self.below(9)) as u32
    }

    /// A call is about to run for the first time: what it asks for is made smaller, or it fails.
    pub fn before(&self, cx: &mut Cx<'_>, call: &mut Call) -> Io<()> {
        let (reads, flags) = match call.nr {
            READ => (true, 0),
            RECVFROM => (true, call.args[3] as u32),
            WRITE => (false, 0),
            SENDTO => (false, call.args[3] as u32),
            _ => return Ok(()),
        };
        let Ok(open) = cx.task.files().get(call.args[0] as i32) else {
            return Ok(());
        };
        let len = call.args[2];
        if let Some(sock) = open.file.socket() {
            let base = sock.base();
            if !matches!(base.domain, num::AF_INET | num::AF_INET6) || sock.listening() {
                return Ok(());
            }
            let dont_wait = open.nonblocking() || flags & num::MSG_DONTWAIT != 0;
            if reads && dont_wait && self.one_in(16) && self.hide(cx, &open) {
                return err(Errno::EAGAIN);
            }
            // A blocking send goes on until all is taken; MSG_WAITALL says that pieces will not do.
            let pieces = if reads {
                flags & (num::MSG_WAITALL | num::MSG_PEEK) == 0
            } else {
                dont_wait
            };
            if base.kind == num::SOCK_STREAM && pieces && len > 1 && self.one_in(4) {
                call.args[2] = 1 + self.below(len);
            }
        } else if reads && len > PIPE_BUF && is_pipe(&open) && self.one_in(4) {
            call.args[2] = PIPE_BUF * (1 + self.below(len / PIPE_BUF));
        }
        Ok(())
    }

    /// What can be read is not shown now, but announced again. False if there is nothing.
    fn hide(&self, cx: &mut Cx<'_>, open: &OpenFile) -> bool {
        if !open.file.poll(&mut cx.env).contains(Poll::IN) {
            return false;
        }
        match open.file.queue() {
            Some(q) => {
                q.notify(Poll::IN | Poll::RDNORM);
                true
            }
            None => false,
        }
    }

    /// A call would wait: the answer that ends it at once, if it gets one.
    pub fn instead_of_waiting(&self, call: &Call) -> Option<Io<u64>> {
        const FUTEX_WAIT: u64 = 0;
        const FUTEX_WAIT_BITSET: u64 = 9;
        const FUTEX_CMD: u64 = 0x7f;
        match call.nr {
            SEMOP | SEMTIMEDOP | RT_SIGTIMEDWAIT | EPOLL_WAIT | EPOLL_PWAIT | EPOLL_PWAIT2 => {
                self.one_in(16).then(|| err(Errno::EINTR))
            }
            FUTEX if matches!(call.args[1] & FUTEX_CMD, FUTEX_WAIT | FUTEX_WAIT_BITSET) => {
                self.one_in(16).then_some(Ok(0))
            }
            _ => None,
        }
    }
}

fn is_pipe(open: &OpenFile) -> bool {
    open.file.describe().starts_with(b"pipe:")
}

#[cfg(test)]
mod tests {
    use super::Chaos;

    #[test]
    fn the_seed_alone_decides() {
        let draw = |seed| {
            let c = Chaos::new(seed);
            (0..100).map(|_| c.slice()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let slices = draw(9);
        assert!(slices.iter().all(|s| (1..=256).contains(s)));
        assert!(slices.iter().filter(|s| **s <= 4).count() > 25, "often short");
        assert!(slices.iter().any(|s| *s > 64), "sometimes long");
    }
}
