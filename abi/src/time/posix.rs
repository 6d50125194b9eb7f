//! timer_create(2) and its relatives (kernel/time/posix-timers.c).
//!
//! A timer has at most one signal queued. While that waits to be taken the timer rests; taking it
//! sets the timer again and says how many expiries were missed (the overrun count).

use super::clocks::ClockId;
use super::cpu::{self, CpuTarget};
use super::itimer::next_after;
use super::types::Itimerspec;
use crate::args::Ptr;
use crate::cx::Cx;
use crate::signal::{SigInfo, post_process, post_task, sig};
use crate::task::{Process, Task};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::kcore::Core;
use ftl_core::platform::Ns;
use ftl_core::timer::{TimerKey, TimerTarget, Timers};
use ftl_core::wait::Tid;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

const TIMER_ABSTIME: i32 = 1;
const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;
const SIGEV_THREAD_ID: i32 = 4;
const CAP_WAKE_ALARM: u32 = 35;

/// The POSIX timers of a process, by number.
#[derive(Default)]
pub struct PosixTimers {
    by_id: RefCell<BTreeMap<i32, Rc<PosixTimer>>>,
    next: Cell<i32>,
}

/// On what a timer counts.
enum Base {
    /// The clock, with this offset from the monotonic one.
    Wall(i64),
    /// CPU time of a thread, or of the process.
    Cpu(Option<Weak<Task>>),
}

/// To whom a timer tells its expiry.
enum Notify {
    None,
    Process(Weak<Process>),
    Thread(Weak<Task>),
}

struct PosixTimer {
    me: Weak<PosixTimer>,
    id: i32,
    base: Base,
    notify: Notify,
    signo: u32,
    value: u64,
    interval: Cell<Ns>,
    /// Next or last expiry, on the monotonic clock or in CPU time; 0: never set.
    at: Cell<Ns>,
    armed: Cell<bool>,
    /// Its signal is queued.
    queued: Cell<bool>,
    overrun: Cell<i32>,
    key: Cell<Option<TimerKey>>,
    alarm: Cell<u64>,
}

impl PosixTimer {
    /// Sends the signal. False if nobody wants it: the timer just goes on.
    fn fire(&self) -> bool {
        let info = SigInfo::timer(self.signo, self.id, self.value);
        let sent = match &self.notify {
            Notify::None => false,
            Notify::Process(p) => p.upgrade().is_some_and(|p| post_process(&p, info)),
            Notify::Thread(t) => t.upgrade().is_some_and(|t| post_task(&t, info)),
        };
        self.queued.set(sent);
        sent
    }

    fn call_at(&self, timers: &Timers, at: Ns) {
        let target: Weak<dyn TimerTarget> = self.me.clone();
        self.at.set(at);
        self.key.set(Some(timers.call_at(at, target, 0)));
    }

    fn set(&self, core: &Core, proc: &Rc<Process>, at: Ns) {
        self.at.set(at);
        self.armed.set(true);
        if matches!(self.notify, Notify::None) {
            return;
        }
        match &self.base {
            Base::Wall(_) => self.call_at(&core.timers, at),
            Base::Cpu(thread) => {
                let target: Weak<dyn CpuTarget> = self.me.clone();
                self.alarm.set(cpu::alarm(core, proc, thread.clone(), at, target));
            }
        }
    }

    fn unset(&self, core: &Core, proc: &Process) {
        self.armed.set(false);
        self.queued.set(false);
        if let Some(key) = self.key.take() {
            core.timers.cancel(key);
        }
        if self.alarm.get() != 0 {
            proc.timers.cpu.remove(self.alarm.replace(0));
        }
    }

    /// The time that its expiries count on.
    fn now(&self, cx: &mut Cx<'_>) -> Ns {
        let now = cx.now();
        match &self.base {
            Base::Wall(_) => now,
            Base::Cpu(thread) => {
                cx.k.charge();
                match thread {
                    Some(t) => t.upgrade().map_or(0, |t| t.cpu_ns.get()),
                    None => cpu::of_process(&cx.task.process()),
                }
            }
        }
    }

    fn setting(&self, now: Ns) -> Itimerspec {
        let interval = self.interval.get();
        let at = self.at.get();
        let value = match (self.armed.get(), at > now) {
            (false, _) => 0,
            (true, true) => at - now,
            // Expired and not set again yet: what would be left if it were.
            (true, false) if interval > 0 => next_after(at, interval, now).0 - now,
            (true, false) if matches!(self.notify, Notify::None) => 0,
            (true, false) => 1,
        };
        Itimerspec { interval, value }
    }
}

impl TimerTarget for PosixTimer {
    fn expired(&self, timers: &Timers, now: Ns, _: u64) {
        self.key.set(None);
        if self.fire() {
            return;
        }
        // Ignored: no one will take it and set it again.
        if self.interval.get() == 0 {
            self.armed.set(false);
            return;
        }
        let (next, _) = next_after(self.at.get(), self.interval.get(), now);
        self.call_at(timers, next);
    }
}

impl CpuTarget for PosixTimer {
    fn reached(&self, used: Ns) -> Option<Ns> {
        let interval = self.interval.get();
        if !self.queued.get() {
            self.fire();
        } else {
            self.overrun.set(self.overrun.get().saturating_add(1));
        }
        if interval == 0 {
            self.armed.set(false);
            return None;
        }
        let (next, _) = next_after(self.at.get(), interval, used);
        self.at.set(next);
        Some(next)
    }
}

impl PosixTimers {
    /// Its signal was taken.
    pub fn taken(&self, core: &Core, info: &mut SigInfo) {
        let Some(t) = self.by_id.borrow().get(&(info.pid() as i32)).cloned() else {
            return;
        };
        if !t.queued.replace(false) {
            return;
        }
        let interval = t.interval.get();
        match t.base {
            Base::Cpu(_) => {
                info.set_overrun(t.overrun.replace(0));
            }
            Base::Wall(_) if interval == 0 => {
                t.armed.set(false);
                t.overrun.set(0);
            }
            Base::Wall(_) => {
                let (next, missed) = next_after(t.at.get(), interval, core.clock.last());
                let missed = i32::try_from(missed).unwrap_or(i32::MAX);
                t.overrun.set(missed);
                info.set_overrun(missed);
                t.call_at(&core.timers, next);
            }
        }
    }

    /// Deletes all.
    pub fn clear(&self, proc: &Process) {
        let all = std::mem::take(&mut *self.by_id.borrow_mut());
        for t in all.values().filter(|t| t.alarm.get() != 0) {
            proc.timers.cpu.remove(t.alarm.get());
        }
    }

    fn get(&self, id: i32) -> Result<Rc<PosixTimer>, Errno> {
        self.by_id.borrow().get(&id).cloned().ok_or(Errno::EINVAL)
    }
}

fn notify(cx: &Cx<'_>, how: i32, signo: i32, tid: i32) -> Result<Notify, Errno> {
    let proc = cx.task.process();
    let valid = (1..=sig::SIGRTMAX as i32).contains(&signo);
    Ok(match how {
        SIGEV_NONE => Notify::None,
        SIGEV_SIGNAL | SIGEV_THREAD if valid => Notify::Process(Rc::downgrade(&proc)),
        SIGEV_THREAD_ID if valid => {
            let tid = Tid(u32::try_from(tid).map_err(|_| Errno::EINVAL)?);
            let t = proc.threads.borrow().get(&tid).cloned();
            Notify::Thread(Rc::downgrade(&t.ok_or(Errno::EINVAL)?))
        }
        _ => return Err(Errno::EINVAL),
    })
}

/// timer_create(2)
pub fn sys_timer_create(cx: &mut Cx<'_>, clock: i32, event: Ptr, out: Ptr) -> Io<u64> {
    let base = match ClockId::of(cx, clock)? {
        // RAW and the coarse clocks carry no timers.
        _ if (4..=6).contains(&clock) => return err(Errno::EOPNOTSUPP),
        ClockId::Wall(offset) => Base::Wall(offset),
        ClockId::Thread(t) => Base::Cpu(Some(Rc::downgrade(&t))),
        ClockId::Process(p) if p.pid == cx.task.process().pid => Base::Cpu(None),
        ClockId::Process(_) => return err(Errno::EINVAL),
    };
    let proc = cx.task.process();
    let timers = &proc.timers.posix;
    let (mut value, mut signo, mut how, mut tid) = (None, sig::SIGALRM as i32, SIGEV_SIGNAL, 0);
    if !event.is_null() {
        let words: [u64; 3] = cx.get(event.0)?;
        value = Some(words[0]);
        signo = words[1] as i32;
        how = (words[1] >> 32) as i32;
        tid = words[2] as i32;
    }
    let notify = notify(cx, how, signo, tid)?;
    if matches!(clock, 8 | 9) && !cx.task.creds.borrow().capable(CAP_WAKE_ALARM) {
        return err(Errno::EPERM);
    }
    let mut id = timers.next.get();
    while timers.by_id.borrow().contains_key(&id) {
        id = id.wrapping_add(1) & i32::MAX;
    }
    cx.put(out.0, &id)?;
    timers.next.set(id.wrapping_add(1) & i32::MAX);
    let timer = Rc::new_cyclic(|me| PosixTimer {
        me: me.clone(),
        id,
        base,
        notify,
        signo: signo as u32,
        value: value.unwrap_or(id as u64),
        interval: Cell::new(0),
        at: Cell::new(0),
        armed: Cell::new(false),
        queued: Cell::new(false),
        overrun: Cell::new(0),
        key: Cell::new(None),
        alarm: Cell::new(0),
    });
    timers.by_id.borrow_mut().insert(id, timer);
    Ok(0)
}

/// timer_settime(2)
pub fn sys_timer_settime(cx: &mut Cx<'_>, id: i32, flags: i32, new: Ptr, old: Ptr) -> Io<u64> {
    if new.is_null() {
        return err(Errno::EINVAL);
    }
    let set = Itimerspec::read(cx, new.0)?;
    let proc = cx.task.process();
    let t = proc.timers.posix.get(id)?;
    let now = t.now(cx);
    let was = t.setting(now);
    t.unset(cx.core, &proc);
    t.overrun.set(0);
    t.interval.set(if set.value > 0 { set.interval } else { 0 });
    if set.value > 0 {
        let at = match (&t.base, flags & TIMER_ABSTIME != 0) {
            (Base::Wall(offset), true) => ClockId::Wall(*offset).to_monotonic(set.value).unwrap_or(0),
            (Base::Cpu(_), true) => set.value,
            (_, false) => now.saturating_add(set.value),
        };
        t.set(cx.core, &proc, at);
    }
    if !old.is_null() {
        was.write(cx, old.0)?;
    }
    Ok(0)
}

/// timer_gettime(2)
pub fn sys_timer_gettime(cx: &mut Cx<'_>, id: i32, out: Ptr) -> Io<u64> {
    let t = cx.task.process().timers.posix.get(id)?;
    let now = t.now(cx);
    t.setting(now).write(cx, out.0)?;
    Ok(0)
}

/// timer_getoverrun(2)
pub fn sys_timer_getoverrun(cx: &mut Cx<'_>, id: i32) -> Io<u64> {
    let t = cx.task.process().timers.posix.get(id)?;
    Ok(t.overrun.get() as u64)
}

/// timer_delete(2)
pub fn sys_timer_delete(cx: &mut Cx<'_>, id: i32) -> Io<u64> {
    let proc = cx.task.process();
    let t = proc.timers.posix.get(id)?;
    t.unset(cx.core, &proc);
    proc.timers.posix.by_id.borrow_mut().remove(&id);
    Ok(0)
}
