//! Record locks (POSIX and open-file-description) and flock.
//!
//! All of one file are kept together under its device and inode. Those of files on volumes are also
//! held on the host, for the image as a whole (`hostlocks`).

use super::hostlocks::HostSide;
use crate::task::Pid;
use ftl_core::wait::WaitQueue;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// Who holds a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// POSIX: a process.
    Process(Pid),
    /// An open file description, by its number here.
    Open(u64),
}

/// A locked range; `end` is included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Who.
    pub owner: Owner,
    /// F_WRLCK.
    pub exclusive: bool,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
}

/// The locks of one file.
#[derive(Default)]
pub struct FileLocks {
    ranges: RefCell<Vec<Range>>,
    /// flock: owner and exclusive.
    whole: RefCell<Vec<(u64, bool)>>,
    /// Woken when a lock goes.
    pub queue: WaitQueue,
    /// The image's own locks on the host's file.
    pub(super) host: RefCell<Option<HostSide>>,
    /// Set when something went that the host may still have.
    stale: Rc<Cell<bool>>,
}

/// What an open file description holds; gone with its last descriptor.
pub struct Holder {
    /// Its number.
    pub id: u64,
    /// The file.
    pub on: Rc<FileLocks>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let me = Owner::Open(self.id);
        self.on.ranges.borrow_mut().retain(|r| r.owner != me);
        self.on.whole.borrow_mut().retain(|(o, _)| *o != self.id);
        self.on.let_go();
    }
}

/// All locks of an image.
#[derive(Default)]
pub struct Locks {
    files: RefCell<BTreeMap<(u64, u64), Weak<FileLocks>>>,
    /// Keeps files with POSIX locks, which no description holds.
    kept: RefCell<BTreeMap<(u64, u64), Rc<FileLocks>>>,
    next: Cell<u64>,
    /// Process and the process that it waits for.
    waiting: RefCell<BTreeMap<Pid, Pid>>,
    /// Files with locks on the host.
    pub(super) hosted: RefCell<Vec<Weak<FileLocks>>>,
    pub(super) stale: Rc<Cell<bool>>,
}

impl Locks {
    /// The locks of a file.
    pub fn of(&self, id: (u64, u64)) -> Rc<FileLocks> {
        let mut files = self.files.borrow_mut();
        if let Some(f) = files.get(&id).and_then(Weak::upgrade) {
            return f;
        }
        files.retain(|_, w| w.strong_count() > 0);
        let f = Rc::new(FileLocks {
            stale: self.stale.clone(),
            ..FileLocks::default()
        });
        files.insert(id, Rc::downgrade(&f));
        f
    }

    /// A holder for an open file description.
    pub fn holder(&self, id: (u64, u64)) -> Holder {
        self.next.set(self.next.get() + 1);
        Holder {
            id: self.next.get(),
            on: self.of(id),
        }
    }

    /// Keeps or lets go a file by whether it has POSIX locks.
    pub fn settle(&self, id: (u64, u64), f: &Rc<FileLocks>) {
        let has = f
            .ranges
            .borrow()
            .iter()
            .any(|r| matches!(r.owner, Owner::Process(_)));
        if has {
            self.kept.borrow_mut().insert(id, f.clone());
        } else {
            self.kept.borrow_mut().remove(&id);
        }
    }

    /// True if no process holds any.
    pub fn no_posix(&self) -> bool {
        self.kept.borrow().is_empty()
    }

    /// A process closed a descriptor of the file: all its POSIX locks on it go.
    pub fn closed(&self, id: (u64, u64), pid: Pid) {
        let f = self.kept.borrow().get(&id).cloned();
        if let Some(f) = f {
            f.drop_process(pid);
            self.settle(id, &f);
        }
    }

    /// A process ended.
    pub fn exited(&self, pid: Pid) {
        self.waiting.borrow_mut().remove(&pid);
        let all: Vec<_> = self.kept.borrow().iter().map(|(i, f)| (*i, f.clone())).collect();
        for (id, f) in all {
            f.drop_process(pid);
            self.settle(id, &f);
        }
    }

    /// `pid` is about to wait for `owner`: false if that one waits for `pid`, however indirectly.
    pub fn may_wait(&self, pid: Pid, owner: Owner) -> bool {
        let Owner::Process(mut at) = owner else {
            return true;
        };
        let mut waiting = self.waiting.borrow_mut();
        loop {
            if at == pid {
                return false;
            }
            match waiting.get(&at) {
                Some(next) => at = *next,
                None => break,
            }
        }
        if let Owner::Process(p) = owner {
            waiting.insert(pid, p);
        }
        true
    }

    /// `pid` does not wait any more.
    pub fn woke(&self, pid: Pid) {
        self.waiting.borrow_mut().remove(&pid);
    }

    /// Lines of /proc/locks are not kept: only whether the file has any lock.
    pub fn count(&self) -> usize {
        self.kept.borrow().len()
    }
}

impl FileLocks {
    fn drop_process(&self, pid: Pid) {
        self.ranges
            .borrow_mut()
            .retain(|r| r.owner != Owner::Process(pid));
        self.let_go();
    }

    fn let_go(&self) {
        self.stale.set(true);
        self.queue.wake_all();
    }

    /// Bytes that somebody holds: disjoint, ascending.
    pub(super) fn held(&self) -> Vec<(u64, u64)> {
        let mut out: Vec<(u64, u64)> = Vec::new();
        let mut all: Vec<_> = self.ranges.borrow().iter().map(|r| (r.start, r.end)).collect();
        all.sort_unstable();
        for (start, end) in all {
            match out.last_mut() {
                Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => out.push((start, end)),
            }
        }
        out
    }

    /// All ranges.
    pub(super) fn ranges(&self) -> Vec<Range> {
        self.ranges.borrow().clone()
    }

    /// Some description holds a flock: whether an exclusive one.
    pub(super) fn whole(&self) -> Option<bool> {
        let whole = self.whole.borrow();
        let (_, first) = whole.first()?;
        Some(*first)
    }

    /// A range of another owner that stands in the way.
    pub fn conflict(&self, want: &Range) -> Option<Range> {
        self.ranges
            .borrow()
            .iter()
            .find(|r| {
                r.owner != want.owner
                    && (r.exclusive || want.exclusive)
                    && r.start <= want.end
                    && want.start <= r.end
            })
            .copied()
    }

    /// Sets (`lock`) or clears the range for its owner. There must be no conflict.
    pub fn set(&self, want: Range, lock: bool) {
        let mut out = Vec::new();
        let mut new = want;
        for r in self.ranges.borrow().iter() {
            if r.owner != want.owner
                || r.end < want.start.saturating_sub(1)
                || r.start > want.end.saturating_add(1)
            {
                out.push(*r);
                continue;
            }
            let same = lock && r.exclusive == want.exclusive;
            if same {
                // Touching ranges of one kind become one.
                new.start = new.start.min(r.start);
                new.end = new.end.max(r.end);
                continue;
            }
            if r.start < want.start {
                out.push(Range {
                    end: r.end.min(want.start - 1),
                    ..*r
                });
            }
            if r.end > want.end {
                out.push(Range {
                    start: r.start.max(want.end + 1),
                    ..*r
                });
            }
        }
        if lock {
            out.push(new);
        }
        out.sort_by_key(|r| r.start);
        *self.ranges.borrow_mut() = out;
        self.let_go();
    }

    /// flock: true if it was had. `None` unlocks.
    pub fn flock(&self, owner: u64, exclusive: Option<bool>) -> bool {
        let mut whole = self.whole.borrow_mut();
        let mine = whole.iter().position(|(o, _)| *o == owner);
        if let (Some(i), Some(e)) = (mine, exclusive)
            && whole[i].1 == e
        {
            return true;
        }
        if let Some(i) = mine {
            // A conversion gives up the old lock first, as Linux does.
            whole.remove(i);
        }
        let ok = match exclusive {
            None => true,
            Some(e) => !whole.iter().any(|(_, x)| *x || e),
        };
        if let (true, Some(e)) = (ok, exclusive) {
            whole.push((owner, e));
        }
        drop(whole);
        if mine.is_some() {
            self.let_go();
        }
        ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftl_core::wait::Tid;

    fn range(pid: u32, exclusive: bool, start: u64, end: u64) -> Range {
        Range {
            owner: Owner::Process(Tid(pid)),
            exclusive,
            start,
            end,
        }
    }

    #[test]
    fn unlocking_the_middle_splits_and_locking_it_again_joins() {
        let f = FileLocks::default();
        f.set(range(1, true, 0, 99), true);
        f.set(range(1, true, 40, 59), false);
        assert_eq!(
            *f.ranges.borrow(),
            [range(1, true, 0, 39), range(1, true, 60, 99)]
        );
        assert!(f.conflict(&range(2, true, 40, 59)).is_none());
        assert_eq!(f.conflict(&range(2, false, 59, 60)), Some(range(1, true, 60, 99)));
        f.set(range(1, true, 40, 59), true);
        assert_eq!(*f.ranges.borrow(), [range(1, true, 0, 99)]);
        f.set(range(1, false, 10, 19), true);
        assert_eq!(f.ranges.borrow().len(), 3);
    }

    #[test]
    fn a_circle_of_waits_is_seen() {
        let l = Locks::default();
        assert!(l.may_wait(Tid(1), Owner::Process(Tid(2))));
        assert!(l.may_wait(Tid(2), Owner::Process(Tid(3))));
        assert!(!l.may_wait(Tid(3), Owner::Process(Tid(1))));
        l.woke(Tid(2));
        assert!(l.may_wait(Tid(3), Owner::Process(Tid(1))));
    }

    #[test]
    fn flock_converts() {
        let f = FileLocks::default();
        assert!(f.flock(1, Some(false)) && f.flock(2, Some(false)));
        assert!(!f.flock(1, Some(true)));
        assert!(f.flock(2, None));
        assert!(f.flock(1, Some(true)) && !f.flock(2, Some(false)));
    }
}
