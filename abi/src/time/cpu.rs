//! CPU time: who used how much, and what waits for it.
//!
//! An alarm on CPU time is set on the clock at the earliest moment it can expire (the image has one
//! CPU, so no process uses it faster than time passes) and set again while it has not. A process
//! that sleeps uses none: its alarms are parked until it next runs.

use super::types::NSEC;
use crate::signal::{SigInfo, post_process, sig};
use crate::task::{Process, Task};
use ftl_core::kcore::Core;
use ftl_core::platform::Ns;
use ftl_core::timer::{TimerKey, TimerTarget, Timers};
use ftl_core::wait::State;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

const RLIMIT_CPU: usize = 0;

/// CPU time of a process: its threads, ended ones too.
pub fn of_process(p: &Process) -> Ns {
    let live: Ns = p.threads.borrow().values().map(|t| t.cpu_ns.get()).sum();
    live + p.cpu_ns.get().0
}

/// Something that happens when CPU time reaches a value.
pub trait CpuTarget {
    /// It has; `used` is at or past what was asked. Returns the next value, if any.
    fn reached(&self, used: Ns) -> Option<Ns>;
}

struct Alarm {
    /// CPU time of one thread, or of the process.
    thread: Option<Weak<Task>>,
    at: Ns,
    target: Weak<dyn CpuTarget>,
}

/// What waits for CPU time of a process.
#[derive(Default)]
pub struct CpuTimers {
    alarms: RefCell<BTreeMap<u64, Alarm>>,
    next: Cell<u64>,
    clock: RefCell<Option<Rc<Watch>>>,
    /// RLIMIT_CPU, if it limits.
    limit: RefCell<Option<Rc<CpuLimit>>>,
    /// Nothing is set on the clock though there are alarms: the process slept when it last was.
    parked: Cell<bool>,
}

/// The clock's side of it.
struct Watch {
    proc: Weak<Process>,
    key: Cell<Option<TimerKey>>,
}

impl TimerTarget for Watch {
    fn expired(&self, timers: &Timers, now: Ns, _: u64) {
        self.key.set(None);
        if let Some(p) = self.proc.upgrade() {
            check(timers, now, &p);
        }
    }
}

/// Registers an alarm at `at` of CPU time; the number is for [`CpuTimers::remove`].
pub fn alarm(
    core: &Core,
    proc: &Rc<Process>,
    thread: Option<Weak<Task>>,
    at: Ns,
    target: Weak<dyn CpuTarget>,
) -> u64 {
    let me = &proc.timers.cpu;
    let id = me.next.get() + 1;
    me.next.set(id);
    me.alarms.borrow_mut().insert(id, Alarm { thread, at, target });
    check(&core.timers, core.clock.last(), proc);
    id
}

impl CpuTimers {
    /// Forgets an alarm.
    pub fn remove(&self, id: u64) {
        self.alarms.borrow_mut().remove(&id);
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.alarms.borrow_mut().clear();
        self.clock.borrow_mut().take();
        self.limit.borrow_mut().take();
    }

    /// Value that an alarm waits for.
    pub fn at(&self, id: u64) -> Option<Ns> {
        self.alarms.borrow().get(&id).map(|a| a.at)
    }
}

/// RLIMIT_CPU of a process.
struct CpuLimit {
    proc: Weak<Process>,
    alarm: Cell<u64>,
}

impl CpuTarget for CpuLimit {
    fn reached(&self, used: Ns) -> Option<Ns> {
        let p = self.proc.upgrade()?;
        let (soft, hard) = p.rlimits.borrow()[RLIMIT_CPU];
        let seconds = used / NSEC;
        if seconds >= hard {
            post_process(&p, SigInfo::kernel(sig::SIGKILL));
            return None;
        }
        if seconds >= soft {
            post_process(&p, SigInfo::kernel(sig::SIGXCPU));
        }
        // Each further second gets its own signal (check_process_timers).
        Some((seconds + 1).max(soft).min(hard).saturating_mul(NSEC))
    }
}

/// RLIMIT_CPU of the process was set or inherited: SIGXCPU and SIGKILL come from here.
pub fn watch_limit(core: &Core, proc: &Rc<Process>) {
    let me = &proc.timers.cpu;
    if let Some(old) = me.limit.borrow_mut().take() {
        me.remove(old.alarm.get());
    }
    let (soft, hard) = proc.rlimits.borrow()[RLIMIT_CPU];
    if soft == u64::MAX && hard == u64::MAX {
        return;
    }
    let limit = Rc::new(CpuLimit {
        proc: Rc::downgrade(proc),
        alarm: Cell::new(0),
    });
    let target: Rc<dyn CpuTarget> = limit.clone();
    *me.limit.borrow_mut() = Some(limit.clone());
    // A limit of 0 acts after a second, as in Linux.
    let at = soft.min(hard).max(1).saturating_mul(NSEC);
    limit
        .alarm
        .set(alarm(core, proc, None, at, Rc::downgrade(&target)));
}

/// A task of the process is about to run.
pub fn unpark(core: &Core, proc: &Rc<Process>) {
    if proc.timers.cpu.parked.replace(false) {
        check(&core.timers, core.clock.last(), proc);
    }
}

fn used_by(proc: &Process, thread: &Option<Weak<Task>>) -> Option<Ns> {
    match thread {
        None => Some(of_process(proc)),
        Some(t) => t.upgrade().filter(|t| !t.dead.get()).map(|t| t.cpu_ns.get()),
    }
}

/// Fires the alarm if it is due. What is left until it can next be, or `None` if it is gone.
fn fire(proc: &Process, id: u64) -> Option<Ns> {
    let me = &proc.timers.cpu;
    let (at, used, target) = {
        let alarms = me.alarms.borrow();
        let a = alarms.get(&id)?;
        (a.at, used_by(proc, &a.thread), a.target.upgrade())
    };
    let (Some(used), Some(target)) = (used, target) else {
        me.remove(id);
        return None;
    };
    if used < at {
        return Some(at - used);
    }
    let Some(next) = target.reached(used) else {
        me.remove(id);
        return None;
    };
    let next = next.max(used + 1);
    if let Some(a) = me.alarms.borrow_mut().get_mut(&id) {
        a.at = next;
    }
    Some(next - used)
}

/// Fires what is due and sets the clock for the next.
fn check(timers: &Timers, now: Ns, proc: &Rc<Process>) {
    let me = &proc.timers.cpu;
    let ids: Vec<u64> = me.alarms.borrow().keys().copied().collect();
    let Some(left) = ids.into_iter().filter_map(|id| fire(proc, id)).min() else {
        return;
    };
    let running = proc
        .threads
        .borrow()
        .values()
        .any(|t| t.entity.state.get() == State::Runnable);
    if !running {
        me.parked.set(true);
        return;
    }
    let watch = me
        .clock
        .borrow_mut()
        .get_or_insert_with(|| {
            Rc::new(Watch {
                proc: Rc::downgrade(proc),
                key: Cell::new(None),
            })
        })
        .clone();
    if let Some(old) = watch.key.take() {
        timers.cancel(old);
    }
    let target: Rc<dyn TimerTarget> = watch.clone();
    watch.key.set(Some(timers.call_at(
        now.saturating_add(left),
        Rc::downgrade(&target),
        0,
    )));
}
