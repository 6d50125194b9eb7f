//! PI futexes: locks whose owner the kernel knows. Priorities have no effect here (every task is
//! alike), so what remains is the hand-over: an unlock with waiters gives the lock to the first.

use super::sys::load;
use super::{Key, Kind, Resumed, Waiter, block, key_of, resumed};
use crate::cx::Cx;
use crate::task::Task;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, Stop, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Ns;
use ftl_core::wait::Tid;

/// FUTEX_WAITERS
pub const WAITERS: u32 = 0x8000_0000;
/// FUTEX_OWNER_DIED
pub const OWNER_DIED: u32 = 0x4000_0000;
/// FUTEX_TID_MASK
pub const TID_MASK: u32 = 0x3fff_ffff;

impl super::Futexes {
    fn first_pi(&self, key: Key) -> Option<super::Place> {
        self.first(key, |w| matches!(w.kind, Kind::Pi(_)))
    }

    /// Gives the lock at `addr`, now worth `old`, to its first waiter, or frees it.
    /// False if the word changed meanwhile.
    pub(super) fn hand_over(
        &self,
        env: &mut Env<'_>,
        key: Key,
        addr: u64,
        old: u32,
        died: u32,
    ) -> Result<bool, Errno> {
        loop {
            let heir = self.first_pi(key).and_then(|p| self.take(p));
            let new = match &heir {
                Some(w) => {
                    w.task.futex.places.borrow_mut().clear();
                    let more = if self.first_pi(key).is_some() { WAITERS } else { 0 };
                    w.task.tid.0 | more | died
                }
                None => died,
            };
            if let Some(w) = &heir
                && !self.rouse(w)
            {
                // Its wait ended by timeout or signal before its handler ran again.
                w.task.futex.places.borrow_mut().push((key, u64::MAX));
                continue;
            }
            let found = env.plat.cmpxchg_u32(addr, old, new).map_err(|_| Errno::EFAULT)?;
            return Ok(found == old);
        }
    }

    /// A thread ends: PI locks of its space that it owned go to their first waiters.
    pub(super) fn owner_ends(&self, env: &mut Env<'_>, task: &Task) {
        if self.pi_waiters.get() == 0 {
            return;
        }
        let space = task.entity.space.get();
        let locks: Vec<(Key, u64)> = {
            let waiters = self.waiters.borrow();
            waiters
                .iter()
                .filter(|((key, _), w)| {
                    w.kind == Kind::Pi(task.tid) && matches!(key, Key::Private(s, _) if *s == space)
                })
                .map(|((key, _), w)| (*key, w.addr))
                .collect()
        };
        for (key, addr) in locks {
            if let Ok(v) = env.plat.load_u32(addr)
                && v & TID_MASK == task.tid.0
            {
                let _ = self.hand_over(env, key, addr, v, OWNER_DIED);
            }
        }
    }

    /// The owner of every waiter's lock under `key` is now `owner`.
    fn note_owner(&self, key: Key, owner: Tid) {
        for (_, w) in self.waiters.borrow_mut().range_mut((key, 0)..=(key, u64::MAX)) {
            if let Kind::Pi(o) = &mut w.kind {
                *o = owner;
            }
        }
    }
}

enum Try {
    Got,
    /// Owned by this task; the word was this.
    Owned(Tid, u32),
}

fn attempt(cx: &mut Cx<'_>, addr: u64, key: Key, me: Tid) -> Result<Try, Errno> {
    loop {
        let v = load(cx, addr)?;
        let owner = v & TID_MASK;
        if owner == me.0 {
            return Err(Errno::EDEADLK);
        }
        if owner != 0 {
            return Ok(Try::Owned(Tid(owner), v));
        }
        let more = if cx.k.futexes.first_pi(key).is_some() {
            WAITERS
        } else {
            0
        };
        let new = me.0 | (v & OWNER_DIED) | more;
        if cx.env.plat.cmpxchg_u32(addr, v, new).map_err(|_| Errno::EFAULT)? == v {
            cx.k.futexes.note_owner(key, me);
            return Ok(Try::Got);
        }
    }
}

/// Sets the waiters' bit; the owner must exist.
fn mark_waiters(cx: &mut Cx<'_>, addr: u64, owner: Tid, v: u32) -> Result<bool, Errno> {
    if !cx.k.tasks.borrow().contains_key(&owner) {
        return Err(Errno::ESRCH);
    }
    let found = cx
        .env
        .plat
        .cmpxchg_u32(addr, v, v | WAITERS)
        .map_err(|_| Errno::EFAULT)?;
    Ok(found == v)
}

/// FUTEX_LOCK_PI
pub fn lock(cx: &mut Cx<'_>, addr: u64, private: bool, at: Option<Ns>) -> Io<u64> {
    match resumed(cx) {
        Resumed::Woken(_) => return Ok(0),
        Resumed::Timeout => return err(Errno::ETIMEDOUT),
        Resumed::Signal => return Err(Stop::Interrupted(Restart::Always)),
        Resumed::No => {}
    }
    let key = key_of(&cx.task.mm(), addr, private)?;
    let me = cx.task.tid;
    loop {
        match attempt(cx, addr, key, me)? {
            Try::Got => return Ok(0),
            Try::Owned(owner, v) => {
                if mark_waiters(cx, addr, owner, v)? {
                    let place = (key, addr, u32::MAX, Kind::Pi(owner));
                    return Err(block(cx, &[place], at, Restart::Always));
                }
            }
        }
    }
}

/// FUTEX_TRYLOCK_PI
pub fn try_lock(cx: &mut Cx<'_>, addr: u64, private: bool) -> Io<u64> {
    let key = key_of(&cx.task.mm(), addr, private)?;
    let me = cx.task.tid;
    match attempt(cx, addr, key, me)? {
        Try::Got => Ok(0),
        Try::Owned(owner, _) if !cx.k.tasks.borrow().contains_key(&owner) => err(Errno::ESRCH),
        Try::Owned(..) => err(Errno::EAGAIN),
    }
}

/// FUTEX_UNLOCK_PI
pub fn unlock(cx: &mut Cx<'_>, addr: u64, private: bool) -> Io<u64> {
    let key = key_of(&cx.task.mm(), addr, private)?;
    let v = load(cx, addr)?;
    if v & TID_MASK != cx.task.tid.0 {
        return err(Errno::EPERM);
    }
    if !cx.k.futexes.hand_over(&mut cx.env, key, addr, v, 0)? {
        return err(Errno::EAGAIN);
    }
    let owner = Tid(load(cx, addr)? & TID_MASK);
    cx.k.futexes.note_owner(key, owner);
    Ok(0)
}

/// FUTEX_WAIT_REQUEUE_PI
pub fn wait_requeue(
    cx: &mut Cx<'_>,
    addr: u64,
    private: bool,
    val: u32,
    at: Option<Ns>,
    addr2: u64,
) -> Io<u64> {
    match resumed(cx) {
        Resumed::Woken(_) => return Ok(0),
        Resumed::Timeout => return err(Errno::ETIMEDOUT),
        Resumed::Signal => return Err(Stop::Interrupted(Restart::Never)),
        Resumed::No => {}
    }
    if addr == addr2 {
        return err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let (key, key2) = (key_of(&mm, addr, private)?, key_of(&mm, addr2, private)?);
    if load(cx, addr)? != val {
        return err(Errno::EAGAIN);
    }
    let place = (key, addr, u32::MAX, Kind::ToPi(key2, addr2));
    Err(block(cx, &[place], at, Restart::Never))
}

/// FUTEX_CMP_REQUEUE_PI: the first waiter gets the lock if it is free, the others wait for it.
pub fn requeue(
    cx: &mut Cx<'_>,
    addr: u64,
    private: bool,
    n_wake: i32,
    n_move: i32,
    addr2: u64,
    val: u32,
) -> Io<u64> {
    if n_wake != 1 || n_move < 0 || addr == addr2 {
        return err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let (from, to) = (key_of(&mm, addr, private)?, key_of(&mm, addr2, private)?);
    if load(cx, addr)? != val {
        return err(Errno::EAGAIN);
    }
    let mut done = 0u64;
    while done <= n_move as u64 {
        let Some(p) = cx.k.futexes.first(from, |w| matches!(w.kind, Kind::ToPi(..))) else {
            break;
        };
        let Some(w) = cx.k.futexes.take(p) else { break };
        if w.kind != Kind::ToPi(to, addr2) && !matches!(w.kind, Kind::ToPi(k, _) if k == to) {
            cx.k.futexes
                .enter(&w.task, from, w.addr, w.bitset, w.slot, w.kind);
            return err(Errno::EINVAL);
        }
        w.task.futex.places.borrow_mut().retain(|q| *q != p);
        if !move_one(cx, &w, to, addr2)? {
            continue;
        }
        done += 1;
    }
    Ok(done)
}

/// True if the waiter got the lock or now waits for it.
fn move_one(cx: &mut Cx<'_>, w: &Waiter, to: Key, addr2: u64) -> Result<bool, Errno> {
    loop {
        match attempt(cx, addr2, to, w.task.tid)? {
            Try::Got => return Ok(cx.k.futexes.rouse(w)),
            Try::Owned(owner, v) => {
                if mark_waiters(cx, addr2, owner, v)? {
                    cx.k.futexes
                        .enter(&w.task, to, addr2, u32::MAX, w.slot, Kind::Pi(owner));
                    return Ok(true);
                }
            }
        }
    }
}
