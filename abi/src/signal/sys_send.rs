//! System calls that send signals, and their permission check (kernel/signal.c).

use super::types::*;
use super::{post_task, send, send_process};
use crate::args::{Fd, Ptr};
use crate::cx::Cx;
use crate::process;
use crate::task::{Pid, Process, Task};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::wait::Tid;
use std::rc::Rc;

const CAP_KILL: u32 = 5;

/// May the caller send `signo` to `target`? (check_kill_permission)
pub fn may_signal(cx: &Cx<'_>, target: &Process, signo: u32) -> Result<(), Errno> {
    let me = cx.task.process();
    if me.pid == target.pid {
        return Ok(());
    }
    let c = cx.task.creds.borrow().clone();
    let (ruid, suid) = match target.any_thread() {
        Some(t) => {
            let t = t.creds.borrow().clone();
            (t.ruid, t.suid)
        }
        None => (target.zombie_uid.get(), target.zombie_uid.get()),
    };
    let same = [c.euid, c.ruid].iter().any(|u| *u == suid || *u == ruid);
    let session = signo == sig::SIGCONT && me.sid.get() == target.sid.get();
    if same || session || c.capable(CAP_KILL) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

fn valid(signo: i32) -> Result<u32, Errno> {
    u32::try_from(signo)
        .ok()
        .filter(|s| *s <= sig::SIGRTMAX)
        .ok_or(Errno::EINVAL)
}

fn sender(cx: &Cx<'_>, signo: u32, code: i32) -> SigInfo {
    let uid = cx.task.creds.borrow().ruid;
    SigInfo::user(signo, code, cx.task.process().pid.0, uid)
}

fn limited(cx: &Cx<'_>, proc: &Process, info: &SigInfo) -> Result<SigInfo, Errno> {
    if info.signo < sig::SIGRTMIN && info.code >= 0 {
        return Ok(*info);
    }
    let uid = proc.any_thread().map_or(0, |t| t.creds.borrow().ruid);
    let procs = cx.k.procs.borrow();
    send::check_limit(proc, info, send::queued_of(procs.values(), uid))
}

fn to_process(cx: &mut Cx<'_>, proc: &Rc<Process>, info: SigInfo) -> Result<(), Errno> {
    may_signal(cx, proc, info.signo)?;
    if info.signo == 0 || proc.exit.get().is_some() {
        return Ok(());
    }
    let info = limited(cx, proc, &info)?;
    send_process(cx.k, cx.env.plat, proc, info);
    Ok(())
}

fn to_task(cx: &mut Cx<'_>, task: &Rc<Task>, info: SigInfo) -> Result<(), Errno> {
    let proc = task.process();
    may_signal(cx, &proc, info.signo)?;
    if info.signo == 0 {
        return Ok(());
    }
    let info = limited(cx, &proc, &info)?;
    post_task(task, info);
    if proc.sig.tell_cont.replace(false) {
        process::child_continued(cx.k, cx.env.plat, &proc);
    }
    Ok(())
}

/// The process that a pid names; Linux takes any thread's number too.
fn by_pid(cx: &Cx<'_>, pid: i32) -> Result<Rc<Process>, Errno> {
    let pid = Tid(u32::try_from(pid).map_err(|_| Errno::ESRCH)?);
    if let Some(p) = cx.k.procs.borrow().get(&pid) {
        return Ok(p.clone());
    }
    let task = cx.k.tasks.borrow().get(&pid).cloned();
    task.map(|t| t.process()).ok_or(Errno::ESRCH)
}

fn to_group(cx: &mut Cx<'_>, pgid: Pid, info: SigInfo) -> Result<(), Errno> {
    let members: Vec<_> = {
        let procs = cx.k.procs.borrow();
        procs.values().filter(|p| p.pgid.get() == pgid).cloned().collect()
    };
    let mut result = Err(Errno::ESRCH);
    let mut any = false;
    for p in members {
        result = to_process(cx, &p, info);
        any |= result.is_ok();
    }
    if any { Ok(()) } else { result }
}

fn to_all(cx: &mut Cx<'_>, info: SigInfo) -> Result<(), Errno> {
    let me = cx.task.process().pid;
    let all: Vec<_> = cx.k.procs.borrow().values().cloned().collect();
    let mut result = Err(Errno::ESRCH);
    let mut count = 0;
    for p in all {
        // The kernel's own process is not in the table.
        if p.pid == me {
            continue;
        }
        let r = to_process(cx, &p, info);
        if count == 0 || r != Err(Errno::EPERM) {
            result = if r == Err(Errno::EPERM) { Ok(()) } else { r };
        }
        count += 1;
    }
    result
}

/// kill(2)
pub fn sys_kill(cx: &mut Cx<'_>, pid: i32, signo: i32) -> Io<u64> {
    let sig = valid(signo);
    let info = sender(cx, sig.unwrap_or(0), code::SI_USER);
    match pid {
        1.. => {
            if pid as u32 == process::INIT_PID {
                sig?;
                return err(Errno::EPERM);
            }
            let p = by_pid(cx, pid)?;
            sig?;
            to_process(cx, &p, info)?;
        }
        0 => {
            sig?;
            let pgid = cx.task.process().pgid.get();
            to_group(cx, pgid, info)?;
        }
        i32::MIN => return err(Errno::ESRCH),
        -1 => {
            sig?;
            to_all(cx, info)?;
        }
        _ => {
            let pgid = Tid(pid.unsigned_abs());
            if !cx.k.procs.borrow().values().any(|p| p.pgid.get() == pgid) {
                return err(Errno::ESRCH);
            }
            sig?;
            to_group(cx, pgid, info)?;
        }
    }
    Ok(0)
}

fn by_tid(cx: &Cx<'_>, tgid: Option<i32>, tid: i32) -> Result<Rc<Task>, Errno> {
    let tid = Tid(u32::try_from(tid).map_err(|_| Errno::ESRCH)?);
    let task = cx.k.tasks.borrow().get(&tid).cloned().ok_or(Errno::ESRCH)?;
    match tgid {
        Some(g) if task.process().pid.0 as i32 != g => Err(Errno::ESRCH),
        _ => Ok(task),
    }
}

fn send_thread(cx: &mut Cx<'_>, tgid: Option<i32>, tid: i32, signo: i32) -> Io<u64> {
    let sig = valid(signo);
    let info = sender(cx, sig.unwrap_or(0), code::SI_TKILL);
    let task = by_tid(cx, tgid, tid)?;
    sig?;
    to_task(cx, &task, info)?;
    Ok(0)
}

/// tkill(2)
pub fn sys_tkill(cx: &mut Cx<'_>, tid: i32, signo: i32) -> Io<u64> {
    if tid <= 0 {
        return err(Errno::EINVAL);
    }
    send_thread(cx, None, tid, signo)
}

/// tgkill(2)
pub fn sys_tgkill(cx: &mut Cx<'_>, tgid: i32, tid: i32, signo: i32) -> Io<u64> {
    if tid <= 0 || tgid <= 0 {
        return err(Errno::EINVAL);
    }
    send_thread(cx, Some(tgid), tid, signo)
}

/// A siginfo_t that a program made. What looks as if the kernel sent it may only go to itself.
fn made(cx: &mut Cx<'_>, signo: i32, ptr: Ptr, own: bool) -> Result<SigInfo, Errno> {
    let mut raw = [0; SIGINFO_LEN];
    cx.read(ptr.0, &mut raw)?;
    let mut info = SigInfo::from_bytes(&raw);
    info.signo = signo as u32;
    if (info.code >= 0 || info.code == code::SI_TKILL) && !own {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

/// rt_sigqueueinfo(2)
pub fn sys_rt_sigqueueinfo(cx: &mut Cx<'_>, pid: i32, signo: i32, info: Ptr) -> Io<u64> {
    // The thread's own number, as Linux compares it.
    let own = cx.task.tid.0 as i32 == pid;
    let info = made(cx, signo, info, own)?;
    let proc = by_pid(cx, pid)?;
    valid(signo)?;
    to_process(cx, &proc, info)?;
    Ok(0)
}

/// rt_tgsigqueueinfo(2)
pub fn sys_rt_tgsigqueueinfo(cx: &mut Cx<'_>, tgid: i32, tid: i32, signo: i32, info: Ptr) -> Io<u64> {
    if tid <= 0 || tgid <= 0 {
        return err(Errno::EINVAL);
    }
    let own = cx.task.tid.0 as i32 == tid;
    let info = made(cx, signo, info, own)?;
    let task = by_tid(cx, Some(tgid), tid)?;
    valid(signo)?;
    to_task(cx, &task, info)?;
    Ok(0)
}

/// pidfd_send_signal(2)
pub fn sys_pidfd_send_signal(cx: &mut Cx<'_>, fd: Fd, signo: i32, info: Ptr, flags: u32) -> Io<u64> {
    if flags != 0 {
        return err(Errno::EINVAL);
    }
    let proc = process::pidfd::process_or_its_directory(cx, fd)?;
    let own = cx.task.process().pid == proc.pid;
    let info = if info.is_null() {
        sender(cx, valid(signo)?, code::SI_USER)
    } else {
        let i = made(cx, signo, info, own)?;
        valid(signo)?;
        i
    };
    if proc.exit.get().is_some() && !cx.k.procs.borrow().contains_key(&proc.pid) {
        return err(Errno::ESRCH);
    }
    to_process(cx, &proc, info)?;
    Ok(0)
}
