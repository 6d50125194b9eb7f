//! signalfd(2).

use super::types::*;
use super::{UNBLOCKABLE, dequeue};
use crate::args::{Fd, Ptr};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use crate::task::Task;
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::io::{Dst, Io, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use ftl_core::wait::{Poll, WaitQueue};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Bytes of struct signalfd_siginfo.
const RECORD: usize = 128;

/// A signalfd. It shows the signals of whoever reads or polls it, not of who made it.
pub struct SignalFd {
    /// Signals that it takes.
    set: Cell<u64>,
    current: Rc<RefCell<Option<Rc<Task>>>>,
}

impl SignalFd {
    fn reader(&self) -> Option<Rc<Task>> {
        self.current.borrow().clone()
    }
}

/// struct signalfd_siginfo (signalfd_copyinfo).
fn record(info: &SigInfo) -> [u8; RECORD] {
    let mut b = [0; RECORD];
    let mut put32 = |at: usize, v: u32| b[at..at + 4].copy_from_slice(&v.to_le_bytes());
    put32(0, info.signo);
    put32(4, info.errno as u32);
    put32(8, info.code as u32);
    let w = info.words;
    match (info.signo, info.code) {
        (_, code::SI_TIMER) => {
            put32(24, w[0] as u32);
            put32(32, (w[0] >> 32) as u32);
            put32(44, w[1] as u32);
            b[48..56].copy_from_slice(&w[1].to_le_bytes());
        }
        (sig::SIGCHLD, 1..=6) => {
            put32(12, w[0] as u32);
            put32(16, (w[0] >> 32) as u32);
            put32(40, w[1] as u32);
            b[56..64].copy_from_slice(&w[2].to_le_bytes());
            b[64..72].copy_from_slice(&w[3].to_le_bytes());
        }
        (sig::SIGIO, 1..=6) | (_, code::SI_SIGIO) => {
            put32(20, w[1] as u32);
            put32(28, w[0] as u32);
        }
        (s, 1..) if bit(s) & SYNCHRONOUS != 0 && info.code != code::SI_KERNEL => {
            b[72..80].copy_from_slice(&w[0].to_le_bytes());
        }
        _ => {
            put32(12, w[0] as u32);
            put32(16, (w[0] >> 32) as u32);
            put32(44, w[1] as u32);
            b[48..56].copy_from_slice(&w[1].to_le_bytes());
        }
    }
    b
}

impl File for SignalFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[signalfd]".to_vec()
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        if (dst.remaining() as usize) < RECORD {
            return err(Errno::EINVAL);
        }
        let Some(task) = self.reader() else {
            return err(Errno::EAGAIN);
        };
        let mut done = 0;
        while dst.remaining() as usize >= RECORD {
            let Some(info) = dequeue(env.core, &task, !self.set.get()) else {
                break;
            };
            match dst.put(env.plat, &record(&info)) {
                Ok(n) => done += n as u64,
                Err(e) if done == 0 => return err(e),
                Err(_) => break,
            }
        }
        if done == 0 { err(Errno::EAGAIN) } else { Ok(done) }
    }
    fn poll(&self, _env: &mut Env<'_>) -> Poll {
        let ready = self.reader().is_some_and(|t| {
            let shared = t.process().pending.set.get();
            (t.sig.pending.set.get() | shared) & self.set.get() != 0
        });
        if ready {
            Poll::IN | Poll::RDNORM
        } else {
            Poll::empty()
        }
    }
    fn queue(&self) -> Option<WaitQueue> {
        let task = self.reader()?;
        let sighand = task.process().sighand.borrow().clone();
        Some(sighand.wait.clone())
    }
    /// noop_llseek
    fn seek(&self, _: &mut Env<'_>, pos: u64, _: i64, _: i32) -> Io<u64> {
        Ok(pos)
    }
    fn stat(&self, _env: &mut Env<'_>) -> Io<Stat> {
        Ok(crate::time::anon_stat())
    }
}

/// signalfd4(2)
pub fn sys_signalfd4(cx: &mut Cx<'_>, fd: Fd, set: Ptr, size: u64, flags: i32) -> Io<u64> {
    if size != 8 {
        return err(Errno::EINVAL);
    }
    let set: u64 = cx.get(set.0)?;
    if flags & !(oflag::O_CLOEXEC | oflag::O_NONBLOCK) != 0 {
        return err(Errno::EINVAL);
    }
    let set = set & !UNBLOCKABLE;
    if fd.0 == -1 {
        let file = Rc::new(SignalFd {
            set: Cell::new(set),
            current: cx.k.current.clone(),
        });
        let open = OpenFile::new(file, oflag::O_RDWR | (flags & oflag::O_NONBLOCK));
        return Ok(cx.new_fd(open, flags & oflag::O_CLOEXEC != 0)? as u64);
    }
    let open = cx.task.files().get(fd.0)?;
    let Some(s) = open.file.as_any().downcast_ref::<SignalFd>() else {
        return err(Errno::EINVAL);
    };
    s.set.set(set);
    if let Some(q) = open.file.queue() {
        q.notify(Poll::IN | Poll::RDNORM);
    }
    Ok(fd.0 as u64)
}

/// signalfd(2)
pub fn sys_signalfd(cx: &mut Cx<'_>, fd: Fd, set: Ptr, size: u64) -> Io<u64> {
    sys_signalfd4(cx, fd, set, size, 0)
}
