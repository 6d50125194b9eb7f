//! Deadlines on the virtual monotonic clock.
//!
//! All that expire at one time fire in the order in which they were set. Nothing here looks at real
//! time: the door says when a deadline has come (PROTOCOL §2, idle and busy).

use crate::platform::Ns;
use crate::wait::{Entity, Wake};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// Identifies a pending deadline, for cancelling it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TimerKey(Ns, u64);

/// An object with a timer: timerfd, POSIX timer, interval timer.
pub trait TimerTarget {
    /// The deadline was reached; `now` is the clock's value, at or past it. It may be set again.
    fn expired(&self, timers: &Timers, now: Ns, tag: u64);
}

enum Target {
    Task(Weak<Entity>, u64),
    Object(Weak<dyn TimerTarget>, u64),
}

/// All pending deadlines of an image.
#[derive(Default)]
pub struct Timers {
    pending: RefCell<BTreeMap<TimerKey, Target>>,
    next: Cell<u64>,
    /// Nothing fires before this: a bound that insertions lower and look-ups raise.
    bound: Cell<Ns>,
}

impl Timers {
    fn key(&self, at: Ns) -> TimerKey {
        if self.pending.borrow().is_empty() || at < self.bound.get() {
            self.bound.set(at);
        }
        self.next.set(self.next.get() + 1);
        TimerKey(at, self.next.get())
    }

    /// Wakes the task with [`Wake::Timeout`] at `at`, unless it has left the wait it is in now.
    pub fn wake_at(&self, at: Ns, entity: &Rc<Entity>) -> TimerKey {
        let key = self.key(at);
        self.pending
            .borrow_mut()
            .insert(key, Target::Task(Rc::downgrade(entity), entity.ticket.get()));
        key
    }

    /// Calls `target.expired(now, tag)` at `at`.
    pub fn call_at(&self, at: Ns, target: Weak<dyn TimerTarget>, tag: u64) -> TimerKey {
        let key = self.key(at);
        self.pending.borrow_mut().insert(key, Target::Object(target, tag));
        key
    }

    /// Forgets a deadline; false if it has fired.
    pub fn cancel(&self, key: TimerKey) -> bool {
        let mut pending = self.pending.borrow_mut();
        let was = pending.remove(&key).is_some();
        if key.0 == self.bound.get() {
            self.bound
                .set(pending.first_key_value().map_or(Ns::MAX, |(k, _)| k.0));
        }
        was
    }

    /// Nothing fires before this time; `Ns::MAX` if nothing is pending.
    pub fn bound(&self) -> Ns {
        if self.pending.borrow().is_empty() {
            Ns::MAX
        } else {
            self.bound.get()
        }
    }

    /// The earliest deadline that still means something.
    pub fn earliest(&self) -> Option<Ns> {
        let mut pending = self.pending.borrow_mut();
        while let Some(entry) = pending.first_entry() {
            let live = match entry.get() {
                Target::Task(e, ticket) => e.upgrade().is_some_and(|e| {
                    e.ticket.get() == *ticket && {
                        !matches!(
                            e.state.get(),
                            crate::wait::State::Runnable | crate::wait::State::Dead
                        )
                    }
                }),
                Target::Object(o, _) => o.strong_count() > 0,
            };
            if live {
                return Some(entry.key().0);
            }
            entry.remove();
        }
        None
    }

    /// Fires the first deadline that is at or before `now`. True if one fired.
    pub fn fire_one(&self, now: Ns) -> bool {
        if self.bound() > now {
            return false;
        }
        let target = {
            let mut pending = self.pending.borrow_mut();
            match pending.first_entry() {
                Some(e) if e.key().0 <= now => e.remove(),
                Some(e) => {
                    self.bound.set(e.key().0);
                    return false;
                }
                None => return false,
            }
        };
        match target {
            Target::Task(e, ticket) => {
                if let Some(e) = e.upgrade()
                    && e.ticket.get() == ticket
                {
                    e.wake_up(Wake::Timeout);
                }
            }
            Target::Object(o, tag) => {
                if let Some(o) = o.upgrade() {
                    o.expired(self, now, tag);
                }
            }
        }
        true
    }
}
