//! futex(2): waiting for a word of guest memory to change.
//!
//! All waiters of an image stand in one ordered map under (key, arrival), so a wake is one lookup
//! and a wait one insertion; no queue object exists while nobody waits. A waiting task is blocked
//! on no [`ftl_core::wait::WaitQueue`]: whoever wakes it takes it out of the map first and leaves
//! the result in `Waiting::woken`, which the re-run of the handler finds.

mod pi;
mod robust;
mod sys;
mod two;
mod waitv;

pub use robust::{on_exit, sys_get_robust_list, sys_set_robust_list};
pub use sys::sys_futex;
pub use two::{sys_futex_requeue, sys_futex_wait, sys_futex_wake};
pub use waitv::sys_futex_waitv;

use crate::cx::Cx;
use crate::mm::Mm;
use crate::task::Task;
use ftl_core::errno::Errno;
use ftl_core::io::{Restart, Stop};
use ftl_core::layout::is_guest_range;
use ftl_core::platform::Ns;
use ftl_core::wait::{SpaceId, State, Tid, Wake};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The identity of a futex word (futex(2), "shared" and "private").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Key {
    /// An address of one space.
    Private(SpaceId, u64),
    /// A byte of a shared object: device, inode, offset.
    Shared(u64, u64, u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Wait,
    /// Waits for a PI lock that this task owned when the wait began.
    Pi(Tid),
    /// FUTEX_WAIT_REQUEUE_PI: to be moved to the lock with this key and address.
    ToPi(Key, u64),
}

struct Waiter {
    task: Rc<Task>,
    bitset: u32,
    slot: u32,
    kind: Kind,
    addr: u64,
}

type Place = (Key, u64);

/// All futexes of an image.
#[derive(Default)]
pub struct Futexes {
    waiters: RefCell<BTreeMap<Place, Waiter>>,
    arrivals: Cell<u64>,
    /// Waiters for PI locks: zero means that the end of a thread has nothing to look for.
    pi_waiters: Cell<usize>,
}

/// A task's own part: where it stands in the map, and what woke it.
#[derive(Default)]
pub struct Waiting {
    places: RefCell<Vec<Place>>,
    /// The slot (futex_waitv's index, else 0) whose futex was woken.
    woken: Cell<Option<u32>>,
}

impl Futexes {
    fn enter(&self, task: &Rc<Task>, key: Key, addr: u64, bitset: u32, slot: u32, kind: Kind) {
        let n = self.arrivals.get();
        self.arrivals.set(n + 1);
        if kind != Kind::Wait {
            self.pi_waiters.set(self.pi_waiters.get() + 1);
        }
        let waiter = Waiter {
            task: task.clone(),
            bitset,
            slot,
            kind,
            addr,
        };
        self.waiters.borrow_mut().insert((key, n), waiter);
        task.futex.places.borrow_mut().push((key, n));
    }

    fn take(&self, place: Place) -> Option<Waiter> {
        let w = self.waiters.borrow_mut().remove(&place)?;
        if w.kind != Kind::Wait {
            self.pi_waiters.set(self.pi_waiters.get() - 1);
        }
        Some(w)
    }

    /// Takes the task out of every place. False if it stood in none.
    fn leave(&self, task: &Task) -> bool {
        let mut places = task.futex.places.borrow_mut();
        let stood = !places.is_empty();
        for p in places.drain(..) {
            self.take(p);
        }
        stood
    }

    /// First waiter of `key` that `want` accepts.
    fn first(&self, key: Key, want: impl Fn(&Waiter) -> bool) -> Option<Place> {
        let waiters = self.waiters.borrow();
        waiters
            .range((key, 0)..=(key, u64::MAX))
            .find(|(_, w)| want(w))
            .map(|(p, _)| *p)
    }

    /// Wakes a waiter that was taken out. False if its wait had ended otherwise.
    fn rouse(&self, w: &Waiter) -> bool {
        let e = &w.task.entity;
        let waits = match e.state.get() {
            State::Blocked => true,
            State::Stopped => !e.woken_while_stopped.get(),
            State::Runnable | State::Dead => false,
        };
        if waits {
            w.task.futex.woken.set(Some(w.slot));
            self.leave(&w.task);
            e.wake_up(Wake::Event);
        }
        waits
    }

    /// Wakes at most `n` plain waiters whose bitset meets `bitset`.
    pub fn wake(&self, key: Key, n: usize, bitset: u32) -> usize {
        let mut woken = 0;
        while woken < n {
            let Some(p) = self.first(key, |w| w.kind == Kind::Wait && w.bitset & bitset != 0) else {
                break;
            };
            if let Some(w) = self.take(p) {
                woken += usize::from(self.rouse(&w));
            }
        }
        woken
    }

    /// Moves at most `n` plain waiters to another futex, in order.
    fn requeue(&self, from: Key, to: Key, to_addr: u64, n: usize) -> usize {
        let mut moved = 0;
        if from == to {
            let waiters = self.waiters.borrow();
            return waiters.range((from, 0)..=(from, u64::MAX)).take(n).count();
        }
        while moved < n {
            let Some(p) = self.first(from, |w| w.kind == Kind::Wait) else {
                break;
            };
            let Some(w) = self.take(p) else { break };
            w.task.futex.places.borrow_mut().retain(|q| *q != p);
            self.enter(&w.task, to, to_addr, w.bitset, w.slot, Kind::Wait);
            moved += 1;
        }
        moved
    }
}

/// The key of a futex word, checked as get_futex_key() does.
fn key_of(mm: &Mm, addr: u64, private: bool) -> Result<Key, Errno> {
    if !addr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if !is_guest_range(addr, 4) {
        return Err(Errno::EFAULT);
    }
    if private {
        return Ok(Key::Private(mm.space, addr));
    }
    mm.with(addr, |v| match &v.file {
        Some(f) if v.shared => Key::Shared(f.id.0, f.id.1, f.offset + (addr - v.start)),
        _ => Key::Private(mm.space, addr),
    })
    .ok_or(Errno::EFAULT)
}

/// How an earlier run of this call ended its wait, if there was one.
enum Resumed {
    /// Woken: the slot.
    Woken(u32),
    Timeout,
    Signal,
    /// There was none.
    No,
}

fn resumed(cx: &Cx<'_>) -> Resumed {
    if let Some(slot) = cx.task.futex.woken.take() {
        return Resumed::Woken(slot);
    }
    if !cx.k.futexes.leave(&cx.task) {
        return Resumed::No;
    }
    match cx.wake() {
        Wake::Timeout => Resumed::Timeout,
        Wake::Signal => Resumed::Signal,
        Wake::Fresh | Wake::Event => Resumed::No,
    }
}

/// Enters the wait, unless a signal comes first.
fn block(cx: &Cx<'_>, places: &[(Key, u64, u32, Kind)], deadline: Option<Ns>, restart: Restart) -> Stop {
    let stop = cx.wait_until(Vec::new(), deadline, restart);
    if matches!(stop, Stop::Block(_)) {
        for (slot, (key, addr, bitset, kind)) in places.iter().enumerate() {
            cx.k.futexes
                .enter(&cx.task, *key, *addr, *bitset, slot as u32, *kind);
        }
    }
    stop
}

/// Reads a timespec at `addr`; ns since its clock's zero.
fn timespec(cx: &mut Cx<'_>, addr: u64) -> Result<Ns, Errno> {
    let [sec, nsec]: [i64; 2] = cx.get(addr)?;
    if sec < 0 || !(0..1_000_000_000).contains(&nsec) {
        return Err(Errno::EINVAL);
    }
    Ok((sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(nsec as u64))
}

/// The deadline of the current call on the monotonic clock.
fn deadline(cx: &mut Cx<'_>, at: Ns, realtime: bool) -> Ns {
    let at = if realtime {
        at.saturating_sub(cx.core.clock.real_offset.get())
    } else {
        at
    };
    cx.deadline_at(at)
}
