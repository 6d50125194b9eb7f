//! Resource limits and nice values (getrlimit(2), getpriority(2)).

use super::ids::{find_process, tasks_of};
use crate::args::Ptr;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};

const LIMITS: u32 = 16;
const RLIMIT_NOFILE: u32 = 7;
const RLIMIT_NICE: usize = 13;
/// fs.nr_open
const RLIMIT_CPU: u32 = 0;
const NR_OPEN: u64 = 1 << 20;
const CAP_SYS_NICE: u32 = 23;
const CAP_SYS_RESOURCE: u32 = 24;

/// prlimit64(2)
pub fn sys_prlimit64(cx: &mut Cx<'_>, pid: i32, resource: u32, new: Ptr, old: Ptr) -> Io<u64> {
    if resource >= LIMITS {
        return err(Errno::EINVAL);
    }
    let wanted: Option<[u64; 2]> = if new.is_null() { None } else { Some(cx.get(new.0)?) };
    let proc = find_process(cx, pid)?;
    if let Some(t) = proc.any_thread() {
        let (me, them) = (cx.task.creds.borrow().clone(), t.creds.borrow().clone());
        let uids = [them.ruid, them.euid, them.suid].iter().all(|u| *u == me.ruid);
        let gids = [them.rgid, them.egid, them.sgid].iter().all(|g| *g == me.rgid);
        if !(uids && gids || me.capable(CAP_SYS_RESOURCE) || super::same(&proc, &cx.task.process())) {
            return err(Errno::EPERM);
        }
    }
    let now = proc.rlimits.borrow()[resource as usize];
    if let Some([soft, hard]) = wanted {
        if soft > hard {
            return err(Errno::EINVAL);
        }
        if resource == RLIMIT_NOFILE && hard > NR_OPEN {
            return err(Errno::EPERM);
        }
        if hard > now.1 && !cx.task.creds.borrow().capable(CAP_SYS_RESOURCE) {
            return err(Errno::EPERM);
        }
        proc.rlimits.borrow_mut()[resource as usize] = (soft, hard);
        if resource == RLIMIT_CPU {
            cx.k.charge();
            crate::time::cpu::watch_limit(cx.core, &proc);
        }
    }
    if !old.is_null() {
        cx.put(old.0, &[now.0, now.1])?;
    }
    Ok(0)
}

/// getrlimit(2)
pub fn sys_getrlimit(cx: &mut Cx<'_>, resource: u32, out: Ptr) -> Io<u64> {
    if resource >= LIMITS {
        return err(Errno::EINVAL);
    }
    let (soft, hard) = cx.task.process().rlimits.borrow()[resource as usize];
    cx.put(out.0, &[soft, hard])?;
    Ok(0)
}

/// setrlimit(2)
pub fn sys_setrlimit(cx: &mut Cx<'_>, resource: u32, new: Ptr) -> Io<u64> {
    let _: [u64; 2] = cx.get(new.0)?;
    sys_prlimit64(cx, 0, resource, new, Ptr(0))
}

/// getpriority(2): 20 minus the lowest nice value.
pub fn sys_getpriority(cx: &mut Cx<'_>, which: i32, who: i32) -> Io<u64> {
    let list = tasks_of(cx, which + 1, who)?;
    let nice = list.iter().map(|t| t.sched.get().nice).min().unwrap_or(0);
    Ok((20 - nice) as u64)
}

/// setpriority(2)
pub fn sys_setpriority(cx: &mut Cx<'_>, which: i32, who: i32, nice: i32) -> Io<u64> {
    let list = tasks_of(cx, which + 1, who)?;
    let nice = nice.clamp(-20, 19);
    let me = cx.task.creds.borrow().clone();
    let privileged = me.capable(CAP_SYS_NICE);
    for t in list {
        let them = t.creds.borrow().clone();
        if !privileged && me.euid != them.euid && me.euid != them.ruid {
            return err(Errno::EPERM);
        }
        let mut s = t.sched.get();
        let floor = 20 - t.process().rlimits.borrow()[RLIMIT_NICE].0.min(40) as i32;
        if nice < s.nice && nice < floor && !privileged {
            return err(Errno::EACCES);
        }
        s.nice = nice;
        t.sched.set(s);
    }
    Ok(0)
}
