//! Process groups, sessions, and numbers of processes (credentials(7), kernel/sys.c).

use super::{enter_session, group_members, same};
use crate::args::Ptr;
use crate::cx::Cx;
use crate::task::{Process, Task};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::wait::Tid;
use std::rc::Rc;

/// The process of a pid or tid argument; 0 is the caller. ESRCH if there is none.
pub fn find_process(cx: &Cx<'_>, pid: i32) -> Result<Rc<Process>, Errno> {
    if pid == 0 {
        return Ok(cx.task.process());
    }
    let tid = Tid(pid as u32);
    let found = cx.k.procs.borrow().get(&tid).cloned();
    found
        .or_else(|| cx.k.tasks.borrow().get(&tid).map(|t| t.process()))
        .ok_or(Errno::ESRCH)
}

/// The thread of a tid argument; 0 is the caller. A leader that has ended is stood for by another
/// thread of its process.
pub fn find_task(cx: &Cx<'_>, tid: i32) -> Result<Rc<Task>, Errno> {
    if tid == 0 {
        return Ok(cx.task.clone());
    }
    let found = cx.k.tasks.borrow().get(&Tid(tid as u32)).cloned();
    match found {
        Some(t) => Ok(t),
        None => find_process(cx, tid)?.any_thread().ok_or(Errno::ESRCH),
    }
}

/// getpgid(2)
pub fn sys_getpgid(cx: &mut Cx<'_>, pid: i32) -> Io<u64> {
    Ok(u64::from(find_process(cx, pid)?.pgid.get().0))
}

/// getpgrp(2)
pub fn sys_getpgrp(cx: &mut Cx<'_>) -> Io<u64> {
    sys_getpgid(cx, 0)
}

/// getsid(2)
pub fn sys_getsid(cx: &mut Cx<'_>, pid: i32) -> Io<u64> {
    Ok(u64::from(find_process(cx, pid)?.sid.get().0))
}

/// setpgid(2)
pub fn sys_setpgid(cx: &mut Cx<'_>, pid: i32, pgid: i32) -> Io<u64> {
    let me = cx.task.process();
    let pid = if pid == 0 { me.pid.0 as i32 } else { pid };
    let pgid = if pgid == 0 { pid } else { pgid };
    if pgid < 0 {
        return err(Errno::EINVAL);
    }
    let found = cx.k.procs.borrow().get(&Tid(pid as u32)).cloned();
    let Some(p) = found else {
        let thread = cx.k.tasks.borrow().contains_key(&Tid(pid as u32));
        return err(if thread { Errno::EINVAL } else { Errno::ESRCH });
    };
    let child = p.parent.borrow().upgrade().is_some_and(|q| same(&q, &me));
    if child {
        if p.sid.get() != me.sid.get() {
            return err(Errno::EPERM);
        }
        if p.execed.get() {
            return err(Errno::EACCES);
        }
    } else if !same(&p, &me) {
        return err(Errno::ESRCH);
    }
    if p.sid.get() == p.pid {
        return err(Errno::EPERM);
    }
    let group = Tid(pgid as u32);
    if pgid != pid {
        let there =
            cx.k.procs
                .borrow()
                .values()
                .any(|q| q.pgid.get() == group && q.sid.get() == me.sid.get());
        if !there {
            return err(Errno::EPERM);
        }
    }
    p.pgid.set(group);
    Ok(0)
}

/// setsid(2)
pub fn sys_setsid(cx: &mut Cx<'_>) -> Io<u64> {
    let me = cx.task.process();
    let used = cx.k.procs.borrow().values().any(|p| p.pgid.get() == me.pid);
    if me.sid.get() == me.pid || used {
        return err(Errno::EPERM);
    }
    enter_session(cx.k, &me);
    Ok(u64::from(me.pid.0))
}

/// PRIO_PROCESS, PRIO_PGRP, PRIO_USER: the threads that are meant.
pub fn tasks_of(cx: &Cx<'_>, which: i32, who: i32) -> Result<Vec<Rc<Task>>, Errno> {
    let all = |list: Vec<Rc<Process>>| -> Vec<Rc<Task>> {
        list.iter()
            .flat_map(|p| p.threads.borrow().values().cloned().collect::<Vec<_>>())
            .collect()
    };
    let found = match which {
        1 => vec![find_task(cx, who)?],
        2 => {
            let group = if who == 0 {
                cx.task.process().pgid.get()
            } else {
                Tid(who as u32)
            };
            all(group_members(cx.k, group))
        }
        3 => {
            let uid = if who == 0 {
                cx.task.creds.borrow().ruid
            } else {
                who as u32
            };
            let tasks = cx.k.tasks.borrow();
            tasks
                .values()
                .filter(|t| t.creds.borrow().ruid == uid)
                .cloned()
                .collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if found.is_empty() {
        return Err(Errno::ESRCH);
    }
    Ok(found)
}

/// KCMP_EPOLL_TFD: file `a` of `t1`, and the target that the slot at `slot` names in an epoll set of `t2`.
fn epoll_target(cx: &mut Cx<'_>, t1: &Task, a: u64, t2: &Task, slot: u64) -> Result<u64, Errno> {
    // struct kcmp_epoll_slot: epoll descriptor, target descriptor, how many targets of that number to skip.
    let [efd, tfd, toff]: [u32; 3] = cx.get(slot)?;
    let file = t1.files().get(a as i32)?;
    let set = t2.files().get(efd as i32)?;
    let ep = set
        .file
        .as_any()
        .downcast_ref::<ftl_ipc::epoll::Epoll>()
        .ok_or(Errno::EINVAL)?;
    let targets = ep.targets_of(tfd as i32);
    let target = targets.get(toff as usize).ok_or(Errno::ENOENT)?;
    let equal = Rc::as_ptr(target).cast::<u8>() == Rc::as_ptr(&file).cast::<u8>();
    Ok(if equal { 0 } else { 1 })
}

/// kcmp(2)
pub fn sys_kcmp(cx: &mut Cx<'_>, pid1: i32, pid2: i32, kind: i32, a: u64, b: u64) -> Io<u64> {
    let (t1, t2) = (find_task(cx, pid1)?, find_task(cx, pid2)?);
    super::may_access(cx, &t1)?;
    super::may_access(cx, &t2)?;
    let order = |equal: bool| if equal { 0 } else { 1 + u64::from(t1.tid > t2.tid) };
    let r = match kind {
        0 => {
            let (f1, f2) = (t1.files().get(a as i32)?, t2.files().get(b as i32)?);
            if same(&f1, &f2) { 0 } else { 1 + u64::from(a > b) }
        }
        1 => order(same(&t1.mm(), &t2.mm())),
        2 => order(same(&t1.files(), &t2.files())),
        3 => order(same(&t1.fs.borrow(), &t2.fs.borrow())),
        4 => {
            let (p1, p2) = (t1.process(), t2.process());
            order(same(&p1.sighand.borrow(), &p2.sighand.borrow()))
        }
        // KCMP_IO: nobody has an I/O context of its own, as before the first ioprio_set.
        5 => 0,
        // KCMP_SYSVSEM: the undo list is the process'.
        6 => order(same(&t1.process(), &t2.process())),
        7 => epoll_target(cx, &t1, a, &t2, b)?,
        _ => return err(Errno::EINVAL),
    };
    Ok(r)
}

/// getcpu(2): the image has one CPU.
pub fn sys_getcpu(cx: &mut Cx<'_>, cpu: Ptr, node: Ptr) -> Io<u64> {
    for p in [cpu, node] {
        if !p.is_null() {
            cx.put(p.0, &0u32)?;
        }
    }
    Ok(0)
}
