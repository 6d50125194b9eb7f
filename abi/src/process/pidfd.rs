//! pidfd_open(2), pidfd_getfd(2), and the descriptor itself.

use crate::args::Fd;
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use crate::fs::DirFile;
use crate::task::{Pid, Process};
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::io::{Io, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use ftl_core::wait::{Poll, Tid, WaitQueue};
use std::any::Any;
use std::rc::Rc;

const RLIMIT_NOFILE: usize = 7;
const PIDFD_NONBLOCK: i32 = oflag::O_NONBLOCK;

/// A reference to a process; readable when it has ended.
pub struct PidFd {
    /// The process.
    pub proc: Rc<Process>,
}

impl File for PidFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[pidfd]".to_vec()
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        if self.proc.exit.get().is_some() {
            Poll::IN | Poll::RDNORM
        } else {
            Poll::empty()
        }
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.proc.exit_wait.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(Stat {
            dev: 14,
            ino: 1,
            mode: 0o600,
            nlink: 1,
            blksize: 4096,
            ..Stat::default()
        })
    }
}

/// An open pidfd of `proc`.
pub fn open(proc: &Rc<Process>, flags: i32) -> Rc<OpenFile> {
    OpenFile::new(Rc::new(PidFd { proc: proc.clone() }), oflag::O_RDWR | flags)
}

/// The process behind a descriptor that is a pidfd; EBADF otherwise.
pub fn process_of(cx: &Cx<'_>, fd: Fd) -> Result<Rc<Process>, Errno> {
    let open = cx.task.files().get(fd.0)?;
    open.file
        .as_any()
        .downcast_ref::<PidFd>()
        .map(|p| p.proc.clone())
        .ok_or(Errno::EBADF)
}

/// The same, or that of a descriptor of the process' directory in /proc (pidfd_send_signal(2)).
pub fn process_or_its_directory(cx: &Cx<'_>, fd: Fd) -> Result<Rc<Process>, Errno> {
    let open = cx.task.files().get(fd.0)?;
    match open.file.as_any().downcast_ref::<DirFile>() {
        Some(dir) => crate::fs::proc::process_of(&dir.place.loc(), cx).unwrap_or(Err(Errno::EBADF)),
        None => process_of(cx, fd),
    }
}

/// pidfd_open(2)
pub fn sys_pidfd_open(cx: &mut Cx<'_>, pid: i32, flags: i32) -> Io<u64> {
    if flags & !PIDFD_NONBLOCK != 0 || pid <= 0 {
        return err(Errno::EINVAL);
    }
    let pid: Pid = Tid(pid as u32);
    let found = cx.k.procs.borrow().get(&pid).cloned();
    let Some(proc) = found else {
        // A thread that leads no group is EINVAL (before PIDFD_THREAD).
        let thread = cx.k.tasks.borrow().contains_key(&pid);
        return err(if thread { Errno::EINVAL } else { Errno::ESRCH });
    };
    let limit = cx.task.process().rlimits.borrow()[RLIMIT_NOFILE].0;
    let fd = cx.task.files().install_at(open(&proc, flags), true, 0, limit)?;
    Ok(fd as u64)
}

/// pidfd_getfd(2)
pub fn sys_pidfd_getfd(cx: &mut Cx<'_>, pidfd: Fd, fd: i32, flags: u32) -> Io<u64> {
    if flags != 0 {
        return err(Errno::EINVAL);
    }
    let proc = process_of(cx, pidfd)?;
    let task = proc.any_thread().ok_or(Errno::ESRCH)?;
    super::may_access(cx, &task)?;
    let open = task.files().get(fd)?;
    let limit = cx.task.process().rlimits.borrow()[RLIMIT_NOFILE].0;
    let new = cx.task.files().install_at(open, true, 0, limit)?;
    Ok(new as u64)
}

/// process_mrelease(2): the memory of a process that is being killed. It goes with the process, at once.
pub fn sys_process_mrelease(cx: &mut Cx<'_>, pidfd: Fd, flags: u32) -> Io<u64> {
    if flags != 0 {
        return err(Errno::EINVAL);
    }
    let proc = process_of(cx, pidfd)?;
    if proc.exit.get().is_some() || proc.any_thread().is_none() {
        return err(Errno::ESRCH);
    }
    match proc.exiting.get() {
        Some(_) => Ok(0),
        None => err(Errno::EINVAL),
    }
}
