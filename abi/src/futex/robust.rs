//! What a thread leaves behind: the robust list and `clear_child_tid` (kernel/futex/core.c,
//! kernel/fork.c mm_release).

use super::key_of;
use super::pi::{OWNER_DIED, TID_MASK, WAITERS};
use crate::args::Ptr;
use crate::cx::Cx;
use crate::kernel::Kernel;
use crate::task::Task;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Platform;
use ftl_core::wait::Tid;
use std::rc::Rc;

const HEAD_LEN: u64 = 24;
/// ROBUST_LIST_LIMIT: a list may be a loop.
const LIMIT: usize = 2048;

/// set_robust_list(2)
pub fn sys_set_robust_list(cx: &mut Cx<'_>, head: Ptr, len: u64) -> Io<u64> {
    if len != HEAD_LEN {
        return err(Errno::EINVAL);
    }
    cx.task.robust_list.set((head.0, len));
    Ok(0)
}

/// get_robust_list(2)
pub fn sys_get_robust_list(cx: &mut Cx<'_>, pid: i32, head: Ptr, len: Ptr) -> Io<u64> {
    let task = match pid {
        0 => cx.task.clone(),
        p => {
            let found = cx.k.tasks.borrow().get(&Tid(p as u32)).cloned();
            found.ok_or(Errno::ESRCH)?
        }
    };
    let (me, other) = (cx.task.creds.borrow().clone(), task.creds.borrow().clone());
    if me.fsuid != other.euid && !me.capable(19) {
        return err(Errno::EPERM);
    }
    cx.put(len.0, &HEAD_LEN)?;
    cx.put(head.0, &task.robust_list.get().0)?;
    Ok(0)
}

/// A thread ends, or leaves its memory by execve: robust locks get OWNER_DIED, whoever joins it is
/// woken. Its space is the current one.
pub fn on_exit(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>) {
    let mut env = Env { plat, core: &k.core };
    k.futexes.leave(task);
    walk(k, &mut env, task);
    task.robust_list.set((0, 0));
    k.futexes.owner_ends(&mut env, task);
    let addr = task.clear_child_tid.replace(0);
    let mm = task.mm();
    // Linux leaves the word alone if nobody else can look at it.
    if addr != 0 && (mm.users.get() > 1 || task.process().threads.borrow().len() > 1) {
        let _ = env.write(addr, &[0; 4]);
        if let Ok(key) = key_of(&mm, addr, false) {
            k.futexes.wake(key, 1, u32::MAX);
        }
    }
}

fn walk(k: &Kernel, env: &mut Env<'_>, task: &Task) {
    let head = task.robust_list.get().0;
    if head == 0 {
        return;
    }
    let Ok([first, offset, pending]) = env.get::<[u64; 3]>(head) else {
        return;
    };
    let pending_at = pending & !1;
    let mut entry = first;
    for _ in 0..LIMIT {
        if entry & !1 == head {
            break;
        }
        // The next entry first: a woken thread may unmap this one.
        let next = env.get::<u64>(entry & !1);
        if entry & !1 != pending_at
            && lock_died(
                k,
                env,
                task,
                (entry & !1).wrapping_add(offset),
                entry & 1 != 0,
                false,
            )
            .is_err()
        {
            return;
        }
        match next {
            Ok(n) => entry = n,
            Err(_) => return,
        }
    }
    if pending_at != 0 {
        let _ = lock_died(
            k,
            env,
            task,
            pending_at.wrapping_add(offset),
            pending & 1 != 0,
            true,
        );
    }
}

/// handle_futex_death()
fn lock_died(
    k: &Kernel,
    env: &mut Env<'_>,
    task: &Task,
    addr: u64,
    pi: bool,
    pending: bool,
) -> Result<(), Errno> {
    if !addr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let mm = task.mm();
    loop {
        let mut word = [0; 4];
        env.read(addr, &mut word)?;
        let v = u32::from_le_bytes(word);
        let owner = v & TID_MASK;
        if pending && !pi && owner == 0 {
            k.futexes.wake(key_of(&mm, addr, false)?, 1, u32::MAX);
            return Ok(());
        }
        if owner != task.tid.0 {
            return Ok(());
        }
        let key = key_of(&mm, addr, false)?;
        if pi {
            if k.futexes.hand_over(env, key, addr, v, OWNER_DIED)? {
                return Ok(());
            }
            continue;
        }
        let new = (v & WAITERS) | OWNER_DIED;
        if env.plat.cmpxchg_u32(addr, v, new).map_err(|_| Errno::EFAULT)? == v {
            if v & WAITERS != 0 {
                k.futexes.wake(key, 1, u32::MAX);
            }
            return Ok(());
        }
    }
}
