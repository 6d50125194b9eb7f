//! sched_*(2): what is asked for is kept and reported; every task is scheduled alike, on one CPU.

use super::ids::find_task;
use super::{Sched, tasks_of};
use crate::args::Ptr;
use crate::cx::Cx;
use crate::task::Task;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};

const NORMAL: u32 = 0;
const FIFO: u32 = 1;
const RR: u32 = 2;
const BATCH: u32 = 3;
const IDLE: u32 = 5;
const RESET_ON_FORK: u32 = 0x4000_0000;
const CAP_SYS_NICE: u32 = 23;
const RLIMIT_NICE: usize = 13;
const RLIMIT_RTPRIO: usize = 14;

fn valid(policy: u32, priority: u32) -> bool {
    match policy {
        NORMAL | BATCH | IDLE => priority == 0,
        FIFO | RR => (1..=99).contains(&priority),
        _ => false,
    }
}

/// May the caller give `task` these?
fn allowed(cx: &Cx<'_>, task: &Task, new: &Sched) -> Result<(), Errno> {
    let me = cx.task.creds.borrow().clone();
    if me.capable(CAP_SYS_NICE) {
        return Ok(());
    }
    let old = task.sched.get();
    let limits = *task.process().rlimits.borrow();
    if matches!(new.policy, FIFO | RR) {
        let most = limits[RLIMIT_RTPRIO].0;
        if (new.policy != old.policy && most == 0)
            || (new.priority > old.priority && u64::from(new.priority) > most)
        {
            return Err(Errno::EPERM);
        }
    }
    let floor = 20 - limits[RLIMIT_NICE].0.min(40) as i32;
    if new.nice < old.nice && new.nice < floor {
        return Err(Errno::EPERM);
    }
    if old.policy == IDLE && new.policy != IDLE && old.nice < floor {
        return Err(Errno::EPERM);
    }
    let them = task.creds.borrow().clone();
    if me.euid != them.euid && me.euid != them.ruid {
        return Err(Errno::EPERM);
    }
    if old.reset_on_fork && !new.reset_on_fork {
        return Err(Errno::EPERM);
    }
    Ok(())
}

fn set(cx: &Cx<'_>, task: &Task, new: Sched) -> Result<(), Errno> {
    if !valid(new.policy, new.priority) {
        return Err(Errno::EINVAL);
    }
    allowed(cx, task, &new)?;
    task.sched.set(new);
    Ok(())
}

/// sched_setparam(2)
pub fn sys_sched_setparam(cx: &mut Cx<'_>, pid: i32, param: Ptr) -> Io<u64> {
    if param.is_null() || pid < 0 {
        return err(Errno::EINVAL);
    }
    let priority: u32 = cx.get(param.0)?;
    let task = find_task(cx, pid)?;
    let new = Sched {
        priority,
        ..task.sched.get()
    };
    set(cx, &task, new)?;
    Ok(0)
}

/// sched_getparam(2)
pub fn sys_sched_getparam(cx: &mut Cx<'_>, pid: i32, param: Ptr) -> Io<u64> {
    if param.is_null() || pid < 0 {
        return err(Errno::EINVAL);
    }
    let priority = find_task(cx, pid)?.sched.get().priority;
    cx.put(param.0, &priority)?;
    Ok(0)
}

/// sched_setscheduler(2)
pub fn sys_sched_setscheduler(cx: &mut Cx<'_>, pid: i32, policy: i32, param: Ptr) -> Io<u64> {
    if param.is_null() || pid < 0 || policy < 0 {
        return err(Errno::EINVAL);
    }
    let priority: u32 = cx.get(param.0)?;
    let task = find_task(cx, pid)?;
    let new = Sched {
        policy: policy as u32 & !RESET_ON_FORK,
        priority,
        reset_on_fork: policy as u32 & RESET_ON_FORK != 0,
        ..task.sched.get()
    };
    set(cx, &task, new)?;
    Ok(0)
}

/// sched_getscheduler(2)
pub fn sys_sched_getscheduler(cx: &mut Cx<'_>, pid: i32) -> Io<u64> {
    if pid < 0 {
        return err(Errno::EINVAL);
    }
    let s = find_task(cx, pid)?.sched.get();
    let reset = if s.reset_on_fork { RESET_ON_FORK } else { 0 };
    Ok(u64::from(s.policy | reset))
}

/// sched_get_priority_max(2)
pub fn sys_sched_get_priority_max(_: &mut Cx<'_>, policy: i32) -> Io<u64> {
    match policy {
        1 | 2 => Ok(99),
        0 | 3 | 5 | 6 => Ok(0),
        _ => err(Errno::EINVAL),
    }
}

/// sched_get_priority_min(2)
pub fn sys_sched_get_priority_min(_: &mut Cx<'_>, policy: i32) -> Io<u64> {
    match policy {
        1 | 2 => Ok(1),
        0 | 3 | 5 | 6 => Ok(0),
        _ => err(Errno::EINVAL),
    }
}

/// sched_rr_get_interval(2)
pub fn sys_sched_rr_get_interval(cx: &mut Cx<'_>, pid: i32, out: Ptr) -> Io<u64> {
    if pid < 0 {
        return err(Errno::EINVAL);
    }
    let ns: u64 = match find_task(cx, pid)?.sched.get().policy {
        RR => 100_000_000,
        FIFO => 0,
        _ => crate::kernel::SLICE_NS,
    };
    cx.put(out.0, &[0u64, ns])?;
    Ok(0)
}

/// sched_setaffinity(2)
pub fn sys_sched_setaffinity(cx: &mut Cx<'_>, pid: i32, len: u32, mask: Ptr) -> Io<u64> {
    let mut first = [0u8; 1];
    if len > 0 {
        cx.read(mask.0, &mut first)?;
    }
    let task = find_task(cx, pid)?;
    let (me, them) = (cx.task.creds.borrow().clone(), task.creds.borrow().clone());
    if me.euid != them.euid && me.euid != them.ruid && !me.capable(CAP_SYS_NICE) {
        return err(Errno::EPERM);
    }
    if first[0] & 1 == 0 {
        return err(Errno::EINVAL);
    }
    Ok(0)
}

/// sched_getaffinity(2)
pub fn sys_sched_getaffinity(cx: &mut Cx<'_>, pid: i32, len: u32, mask: Ptr) -> Io<u64> {
    if len == 0 || !len.is_multiple_of(8) {
        return err(Errno::EINVAL);
    }
    find_task(cx, pid)?;
    cx.put(mask.0, &1u64)?;
    Ok(8)
}

/// Bytes of struct sched_attr, first version.
const ATTR_LEN: u32 = 48;

/// sched_setattr(2)
pub fn sys_sched_setattr(cx: &mut Cx<'_>, pid: i32, attr: Ptr, flags: u32) -> Io<u64> {
    if attr.is_null() || pid < 0 || flags != 0 {
        return err(Errno::EINVAL);
    }
    let size: u32 = cx.get(attr.0)?;
    let size = if size == 0 { ATTR_LEN } else { size };
    if !(ATTR_LEN..=4096).contains(&size) {
        cx.put(attr.0, &56u32)?;
        return err(Errno::E2BIG);
    }
    let head: [u32; 6] = cx.get(attr.0)?;
    let task = find_task(cx, pid)?;
    let bits = u64::from(head[2]) | u64::from(head[3]) << 32;
    if bits & !0x7f != 0 {
        return err(Errno::EINVAL);
    }
    let new = Sched {
        policy: head[1],
        nice: if matches!(head[1], NORMAL | BATCH) {
            (head[4] as i32).clamp(-20, 19)
        } else {
            task.sched.get().nice
        },
        priority: head[5],
        reset_on_fork: bits & 1 != 0,
        ..task.sched.get()
    };
    set(cx, &task, new)?;
    Ok(0)
}

/// sched_getattr(2)
pub fn sys_sched_getattr(cx: &mut Cx<'_>, pid: i32, attr: Ptr, size: u32, flags: u32) -> Io<u64> {
    if attr.is_null() || pid < 0 || flags != 0 || !(ATTR_LEN..=4096).contains(&size) {
        return err(Errno::EINVAL);
    }
    let s = find_task(cx, pid)?.sched.get();
    let n = size.min(56);
    let mut out = vec![0u8; n as usize];
    let nice = if matches!(s.policy, NORMAL | BATCH) {
        s.nice
    } else {
        0
    };
    let words = [
        n,
        s.policy,
        u32::from(s.reset_on_fork),
        0,
        nice as u32,
        s.priority,
    ];
    for (i, w) in words.iter().enumerate() {
        out[i * 4..i * 4 + 4].copy_from_slice(&w.to_le_bytes());
    }
    cx.write(attr.0, &out)?;
    Ok(0)
}

/// ioprio_get(2)
pub fn sys_ioprio_get(cx: &mut Cx<'_>, which: i32, who: i32) -> Io<u64> {
    let list = tasks_of(cx, which, who)?;
    Ok(u64::from(
        list.iter().map(|t| t.sched.get().ioprio).max().unwrap_or(0),
    ))
}

/// ioprio_set(2)
pub fn sys_ioprio_set(cx: &mut Cx<'_>, which: i32, who: i32, value: u32) -> Io<u64> {
    const CAP_SYS_ADMIN: u32 = 21;
    match value >> 13 {
        0 if value & 0x1fff == 0 => {}
        1 if !cx.task.creds.borrow().capable(CAP_SYS_ADMIN) => return err(Errno::EPERM),
        1..=3 => {}
        _ => return err(Errno::EINVAL),
    }
    for t in tasks_of(cx, which, who)? {
        t.sched.set(Sched {
            ioprio: value,
            ..t.sched.get()
        });
    }
    Ok(0)
}

/// membarrier(2): with one CPU every switch of tasks is a barrier already.
pub fn sys_membarrier(cx: &mut Cx<'_>, cmd: i32, flags: u32, _cpu: i32) -> Io<u64> {
    const SUPPORTED: u64 = 0x7f;
    if flags != 0 {
        return err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    match cmd {
        0 => Ok(SUPPORTED),
        1 | 2 | 4 => Ok(0),
        16 | 64 => {
            mm.membarrier.set(mm.membarrier.get() | cmd as u32);
            Ok(0)
        }
        8 | 32 if mm.membarrier.get() & (cmd as u32) << 1 != 0 => Ok(0),
        8 | 32 => err(Errno::EPERM),
        _ => err(Errno::EINVAL),
    }
}
