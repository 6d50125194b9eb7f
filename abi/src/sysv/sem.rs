//! semget(2), semop(2), semctl(2).

use super::{IPC_64, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, seconds, set_perm, stat_bytes, who};
use crate::args::Ptr;
use crate::cx::Cx;
use crate::event::time;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, Stop, err};
use ftl_core::wait::Wake;
use ftl_ipc::sysv::sem::{Op, SEMMSL, SEMOPM, SEMVMX, Set, Tried};
use ftl_ipc::sysv::{Object, Perm};
use std::rc::Rc;

const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;
/// Permission to read and to alter.
const READ: u32 = 0o444;
const ALTER: u32 = 0o222;

/// semget(2)
pub fn sys_semget(cx: &mut Cx<'_>, key: i32, n: i32, flags: i32) -> Io<u64> {
    if !(0..=SEMMSL).contains(&n) {
        return err(Errno::EINVAL);
    }
    let caller = who(cx);
    let now = seconds(cx);
    let id = cx.k.sysv.sems.obtain(
        key,
        flags,
        &caller,
        |s| {
            if n as usize > s.len() {
                Err(Errno::EINVAL)
            } else {
                Ok(())
            }
        },
        || {
            if n == 0 {
                return Err(Errno::EINVAL);
            }
            Ok(Set::new(Perm::new(key, flags, &caller), n as usize, now))
        },
    )?;
    Ok(id as u64)
}

fn read_ops(cx: &mut Cx<'_>, at: Ptr, n: u32) -> Result<Vec<Op>, Errno> {
    if n < 1 {
        return Err(Errno::EINVAL);
    }
    if n > SEMOPM {
        return Err(Errno::E2BIG);
    }
    let mut raw = vec![0u8; n as usize * 6];
    cx.read(at.0, &mut raw)?;
    let half = |c: &[u8], i: usize| i16::from_le_bytes([c[i], c[i + 1]]);
    Ok(raw
        .chunks_exact(6)
        .map(|c| Op {
            num: half(c, 0) as u16,
            by: half(c, 2),
            flags: half(c, 4),
        })
        .collect())
}

fn semop(cx: &mut Cx<'_>, id: i32, ops: Ptr, n: u32, timeout: Option<u64>) -> Io<u64> {
    let entity = cx.task.entity.clone();
    let ops = read_ops(cx, ops, n)?;
    let set = match cx.k.sysv.sems.get(id) {
        Ok(s) => s,
        Err(_) if cx.wake() != Wake::Fresh => return err(Errno::EIDRM),
        Err(e) => return Err(e.into()),
    };
    set.end_wait(&entity);
    if ops.iter().any(|o| usize::from(o.num) >= set.len()) {
        return err(Errno::EFBIG);
    }
    let caller = who(cx);
    let alter = ops.iter().any(|o| o.by != 0);
    set.perm().check(&caller, if alter { ALTER } else { READ })?;
    let now = seconds(cx);
    let op = match set.try_ops(&ops, caller.pid, now)? {
        Tried::Done => return Ok(0),
        Tried::Blocked(op) => op,
    };
    if cx.timed_out() {
        return err(Errno::EAGAIN);
    }
    let deadline = timeout.map(|ns| cx.deadline_in(ns));
    let stop = cx.wait_until(vec![set.queue.on()], deadline, Restart::Never);
    if matches!(stop, Stop::Block(_)) {
        set.begin_wait(&entity, op);
    }
    Err(stop)
}

/// semop(2)
pub fn sys_semop(cx: &mut Cx<'_>, id: i32, ops: Ptr, n: u32) -> Io<u64> {
    semop(cx, id, ops, n, None)
}

/// semtimedop(2)
pub fn sys_semtimedop(cx: &mut Cx<'_>, id: i32, ops: Ptr, n: u32, timeout: Ptr) -> Io<u64> {
    let timeout = if timeout.is_null() {
        None
    } else {
        Some(time::timespec(cx, timeout)?)
    };
    semop(cx, id, ops, n, timeout)
}

/// semctl(2)
pub fn sys_semctl(cx: &mut Cx<'_>, id: i32, num: i32, cmd: i32, arg: u64) -> Io<u64> {
    let cmd = cmd & !IPC_64;
    match cmd {
        IPC_INFO | SEM_INFO => return info(cx, cmd, arg),
        SEM_STAT | SEM_STAT_ANY => {
            let set = cx.k.sysv.sems.at(id)?;
            if cmd == SEM_STAT {
                set.perm().check(&who(cx), READ)?;
            }
            put_stat(cx, &set, arg)?;
            return Ok(set.perm().id.get() as u64);
        }
        _ => {}
    }
    let set = cx.k.sysv.sems.get(id)?;
    let caller = who(cx);
    match cmd {
        IPC_RMID => {
            set.perm().check_owner(&caller)?;
            cx.k.sysv.sems.remove(&set);
            set.queue.wake_all();
            Ok(0)
        }
        IPC_SET => {
            set_perm(cx, set.perm(), arg)?;
            let now = seconds(cx);
            set.times.set((set.times.get().0, now));
            Ok(0)
        }
        IPC_STAT => {
            set.perm().check(&caller, READ)?;
            put_stat(cx, &set, arg)
        }
        GETALL => {
            set.perm().check(&caller, READ)?;
            let bytes: Vec<u8> = set.values().iter().flat_map(|v| v.to_le_bytes()).collect();
            cx.write(arg, &bytes)?;
            Ok(0)
        }
        SETALL => {
            set.perm().check(&caller, ALTER)?;
            let mut raw = vec![0u8; set.len() * 2];
            cx.read(arg, &mut raw)?;
            let values: Vec<i32> = raw
                .chunks_exact(2)
                .map(|c| i32::from(u16::from_le_bytes([c[0], c[1]])))
                .collect();
            let now = seconds(cx);
            set.set(0, &values, caller.pid, now)?;
            Ok(0)
        }
        SETVAL | GETVAL | GETPID | GETNCNT | GETZCNT => one(cx, &set, num, cmd, arg),
        _ => err(Errno::EINVAL),
    }
}

fn one(cx: &mut Cx<'_>, set: &Rc<Set>, num: i32, cmd: i32, arg: u64) -> Io<u64> {
    let caller = who(cx);
    if cmd == SETVAL && !(0..=SEMVMX).contains(&(arg as i32)) {
        return err(Errno::ERANGE);
    }
    set.perm()
        .check(&caller, if cmd == SETVAL { ALTER } else { READ })?;
    let i = usize::try_from(num).map_err(|_| Errno::EINVAL)?;
    let (value, pid) = set.get(i).ok_or(Errno::EINVAL)?;
    Ok(match cmd {
        SETVAL => {
            let now = seconds(cx);
            set.set(i, &[arg as i32], caller.pid, now)?;
            0
        }
        GETVAL => value as u64,
        GETPID => u64::from(pid),
        GETNCNT => set.waiting(i, false) as u64,
        _ => set.waiting(i, true) as u64,
    })
}

fn put_stat(cx: &mut Cx<'_>, set: &Set, at: u64) -> Io<u64> {
    let (op, change) = set.times.get();
    let words = [op as u64, 0, change as u64, 0, set.len() as u64, 0, 0];
    cx.write(at, &stat_bytes(set.perm(), &words))?;
    Ok(0)
}

/// struct seminfo: map, mni, mns, mnu, msl, opm, ume, usz, vmx, aem.
fn info(cx: &mut Cx<'_>, cmd: i32, at: u64) -> Io<u64> {
    let sets = cx.k.sysv.sems.all();
    let mni = 32_000;
    let mns = mni * SEMMSL;
    let mut v = [mns, mni, mns, mns, SEMMSL, SEMOPM as i32, 500, 20, SEMVMX, SEMVMX];
    if cmd == SEM_INFO {
        v[7] = sets.len() as i32;
        v[9] = sets.iter().map(|s| s.len() as i32).sum();
    }
    cx.put(at, &v)?;
    Ok(cx.k.sysv.sems.top() as u64)
}
