//! Semaphore sets (ipc/sem.c).
//!
//! A call's operations happen all or none. Whoever must wait is woken whenever the set changes, in
//! the order in which they came, and tries again.

use super::{Object, Perm, flag};
use ftl_core::errno::Errno;
use ftl_core::wait::{Entity, State, Tid, WaitQueue};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// Most semaphores of a set, most operations of a call, largest value, largest adjustment.
pub const SEMMSL: i32 = 32_000;
/// See [`SEMMSL`].
pub const SEMOPM: u32 = 500;
/// See [`SEMMSL`].
pub const SEMVMX: i32 = 32_767;
/// sem_flg: undo at exit.
pub const SEM_UNDO: i32 = 0x1000;

/// struct sembuf
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// Which.
    pub num: u16,
    /// By how much; 0 waits for zero.
    pub by: i16,
    /// IPC_NOWAIT, SEM_UNDO.
    pub flags: i16,
}

/// How a try ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tried {
    /// All done.
    Done,
    /// This operation would wait.
    Blocked(Op),
}

impl PartialEq for Op {
    fn eq(&self, o: &Op) -> bool {
        (self.num, self.by, self.flags) == (o.num, o.by, o.flags)
    }
}
impl Eq for Op {}

struct Waiter {
    who: Weak<Entity>,
    op: Op,
}

/// A set.
pub struct Set {
    perm: Perm,
    /// Value and pid of the last operation.
    sems: RefCell<Vec<(i32, u32)>>,
    undo: RefCell<BTreeMap<u32, Vec<i32>>>,
    waiters: RefCell<BTreeMap<Tid, Waiter>>,
    /// semop's and creation's or change's time, seconds.
    pub times: Cell<(i64, i64)>,
    /// Waiters of all kinds.
    pub queue: WaitQueue,
}

impl Object for Set {
    fn perm(&self) -> &Perm {
        &self.perm
    }
}

impl Set {
    /// All zero.
    pub fn new(perm: Perm, n: usize, now: i64) -> Set {
        Set {
            perm,
            sems: RefCell::new(vec![(0, 0); n]),
            undo: RefCell::default(),
            waiters: RefCell::default(),
            times: Cell::new((0, now)),
            queue: WaitQueue::new(),
        }
    }

    /// Number of semaphores.
    pub fn len(&self) -> usize {
        self.sems.borrow().len()
    }

    /// Never: a set has at least one.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Value and last pid.
    pub fn get(&self, i: usize) -> Option<(i32, u32)> {
        self.sems.borrow().get(i).copied()
    }

    /// All values.
    pub fn values(&self) -> Vec<u16> {
        self.sems.borrow().iter().map(|s| s.0 as u16).collect()
    }

    /// SETVAL of some; pending adjustments of them are forgotten.
    pub fn set(&self, from: usize, values: &[i32], pid: u32, now: i64) -> Result<(), Errno> {
        if values.iter().any(|v| !(0..=SEMVMX).contains(v)) {
            return Err(Errno::ERANGE);
        }
        for (s, v) in self.sems.borrow_mut()[from..].iter_mut().zip(values) {
            *s = (*v, pid);
        }
        for adj in self.undo.borrow_mut().values_mut() {
            adj[from..from + values.len()].fill(0);
        }
        self.times.set((self.times.get().0, now));
        self.queue.wake_all();
        Ok(())
    }

    /// semop(2) without the waiting.
    pub fn try_ops(&self, ops: &[Op], pid: u32, now: i64) -> Result<Tried, Errno> {
        let mut sems = self.sems.borrow().clone();
        let mut undo = self.undo.borrow().get(&pid).cloned();
        let mut changed = false;
        for op in ops {
            let i = usize::from(op.num);
            let by = i32::from(op.by);
            let value = sems[i].0 + by;
            if (by == 0 && sems[i].0 != 0) || value < 0 {
                if i32::from(op.flags) & flag::NOWAIT != 0 {
                    return Err(Errno::EAGAIN);
                }
                return Ok(Tried::Blocked(*op));
            }
            if value > SEMVMX {
                return Err(Errno::ERANGE);
            }
            if i32::from(op.flags) & SEM_UNDO != 0 {
                let adj = undo.get_or_insert_with(|| vec![0; sems.len()]);
                adj[i] -= by;
                if adj[i] < -SEMVMX - 1 || adj[i] > SEMVMX {
                    return Err(Errno::ERANGE);
                }
            }
            sems[i] = (value, pid);
            changed |= by != 0;
        }
        *self.sems.borrow_mut() = sems;
        if let Some(adj) = undo {
            self.undo.borrow_mut().insert(pid, adj);
        }
        self.times.set((now, self.times.get().1));
        if changed {
            self.queue.wake_all();
        }
        Ok(Tried::Done)
    }

    /// The task waits for `op`; counted by GETNCNT and GETZCNT.
    pub fn begin_wait(&self, who: &Rc<Entity>, op: Op) {
        let w = Waiter {
            who: Rc::downgrade(who),
            op,
        };
        self.waiters.borrow_mut().insert(who.tid, w);
    }

    /// The task does not wait any more.
    pub fn end_wait(&self, who: &Entity) {
        if !self.waiters.borrow().is_empty() {
            self.waiters.borrow_mut().remove(&who.tid);
        }
    }

    /// Tasks that wait for semaphore `i` to become zero, or to rise.
    pub fn waiting(&self, i: usize, zero: bool) -> usize {
        let mut w = self.waiters.borrow_mut();
        w.retain(|_, w| w.who.upgrade().is_some_and(|e| e.state.get() != State::Dead));
        let counts = |w: &&Waiter| usize::from(w.op.num) == i && (w.op.by == 0) == zero;
        w.values().filter(counts).count()
    }

    /// Applies and forgets a process's adjustments.
    pub fn undo(&self, pid: u32, now: i64) {
        let Some(adj) = self.undo.borrow_mut().remove(&pid) else {
            return;
        };
        let mut sems = self.sems.borrow_mut();
        for (s, a) in sems.iter_mut().zip(adj).filter(|(_, a)| *a != 0) {
            *s = ((s.0 + a).clamp(0, SEMVMX), pid);
        }
        drop(sems);
        self.times.set((now, self.times.get().1));
        self.queue.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ids, Who};
    use super::*;

    fn who() -> Who {
        Who {
            pid: 9,
            uid: 1000,
            gid: 1000,
            groups: vec![],
            owner: false,
            admin: false,
        }
    }

    fn op(num: u16, by: i16, flags: i32) -> Op {
        Op {
            num,
            by,
            flags: flags as i16,
        }
    }

    #[test]
    fn all_or_nothing_and_undo() {
        let s = Set::new(Perm::new(0, 0o600, &who()), 2, 0);
        assert_eq!(s.set(0, &[1, 2], 9, 0), Ok(()));
        let two = [op(0, -1, 0), op(1, -5, 0)];
        assert_eq!(s.try_ops(&two, 9, 0), Ok(Tried::Blocked(two[1])));
        assert_eq!(s.values(), [1, 2]);
        assert_eq!(s.try_ops(&[op(1, -2, SEM_UNDO)], 9, 0), Ok(Tried::Done));
        assert_eq!(s.values(), [1, 0]);
        s.undo(9, 0);
        assert_eq!(s.values(), [1, 2]);
        assert_eq!(s.try_ops(&[op(0, 32767, 0)], 9, 0), Err(Errno::ERANGE));
        assert_eq!(s.try_ops(&[op(0, 0, flag::NOWAIT)], 9, 0), Err(Errno::EAGAIN));
    }

    #[test]
    fn identifiers_are_not_used_again_at_once() {
        let ids: Ids<Set> = Ids::new(2);
        let make = |key| Ok(Set::new(Perm::new(key, 0o600, &who()), 1, 0));
        let a = ids
            .obtain(5, flag::CREAT, &who(), |_| Ok(()), || make(5))
            .unwrap();
        assert_eq!(ids.obtain(5, 0, &who(), |_| Ok(()), || make(5)), Ok(a));
        let excl = flag::CREAT | flag::EXCL;
        assert_eq!(
            ids.obtain(5, excl, &who(), |_| Ok(()), || make(5)),
            Err(Errno::EEXIST)
        );
        ids.remove(&ids.get(a).unwrap());
        assert_eq!(
            ids.obtain(5, 0, &who(), |_| Ok(()), || make(5)),
            Err(Errno::ENOENT)
        );
        let b = ids
            .obtain(5, flag::CREAT, &who(), |_| Ok(()), || make(5))
            .unwrap();
        assert_ne!(a, b);
        assert!(ids.get(a).is_err());
        ids.obtain(0, 0, &who(), |_| Ok(()), || make(0)).unwrap();
        assert_eq!(
            ids.obtain(0, 0, &who(), |_| Ok(()), || make(0)),
            Err(Errno::ENOSPC)
        );
    }
}
