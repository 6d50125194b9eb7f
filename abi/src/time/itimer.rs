//! setitimer(2), getitimer(2), alarm(2).
//!
//! ITIMER_REAL counts on the clock; after its signal it is set again when the signal is taken, as in
//! Linux, so that a program that blocks SIGALRM is not flooded. ITIMER_VIRTUAL and ITIMER_PROF both
//! count CPU time: the image knows no system time.

use super::cpu::{self, CpuTarget};
use super::types::{NSEC, Timespec, Timeval};
use crate::args::Ptr;
use crate::cx::Cx;
use crate::signal::{SigInfo, post_process, sig};
use crate::task::Process;
use ftl_core::errno::Errno;
use ftl_core::io::Io;
use ftl_core::kcore::Core;
use ftl_core::platform::Ns;
use ftl_core::timer::{TimerKey, TimerTarget, Timers};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

const ITIMER_REAL: i32 = 0;
const ITIMER_PROF: i32 = 2;

/// The three interval timers of a process.
#[derive(Default)]
pub struct Itimers {
    real: RefCell<Option<Rc<Real>>>,
    /// ITIMER_VIRTUAL and ITIMER_PROF.
    cpu: [RefCell<Option<Rc<CpuItimer>>>; 2],
}

struct Real {
    me: Weak<Real>,
    proc: Weak<Process>,
    interval: Cell<Ns>,
    /// Next or last expiry.
    at: Cell<Ns>,
    key: Cell<Option<TimerKey>>,
}

impl TimerTarget for Real {
    fn expired(&self, timers: &Timers, now: Ns, _: u64) {
        self.key.set(None);
        let Some(p) = self.proc.upgrade() else { return };
        let sent = post_process(&p, SigInfo::kernel(sig::SIGALRM));
        if !sent && self.interval.get() > 0 {
            // Ignored, or one is pending: nobody will take this one and set the timer again.
            self.set(timers, next_after(self.at.get(), self.interval.get(), now).0);
        }
    }
}

impl Real {
    fn set(&self, timers: &Timers, at: Ns) {
        let target: Weak<dyn TimerTarget> = self.me.clone();
        self.at.set(at);
        if let Some(old) = self.key.replace(Some(timers.call_at(at, target, 0))) {
            timers.cancel(old);
        }
    }
}

struct CpuItimer {
    proc: Weak<Process>,
    signo: u32,
    interval: Ns,
    alarm: Cell<u64>,
}

impl CpuTarget for CpuItimer {
    fn reached(&self, used: Ns) -> Option<Ns> {
        if let Some(p) = self.proc.upgrade() {
            post_process(&p, SigInfo::kernel(self.signo));
        }
        (self.interval > 0).then(|| used.saturating_add(self.interval))
    }
}

impl Itimers {
    /// SIGALRM was taken: the next expiry is the first multiple that has not passed.
    pub fn real_taken(&self, core: &Core) {
        let Some(r) = self.real.borrow().clone() else {
            return;
        };
        if r.key.get().is_some() || r.interval.get() == 0 {
            return;
        }
        let at = next_after(r.at.get(), r.interval.get(), core.clock.last());
        r.set(&core.timers, at.0);
    }

    /// Disarms all.
    pub fn clear(&self, core: &Core) {
        if let Some(key) = self.real.borrow_mut().take().and_then(|r| r.key.get()) {
            core.timers.cancel(key);
        }
        for t in &self.cpu {
            t.borrow_mut().take();
        }
    }

    fn get(&self, which: i32, now: Ns, proc: &Process) -> (Ns, Ns) {
        if which == ITIMER_REAL {
            let r = self.real.borrow().clone();
            return r.map_or((0, 0), |r| {
                // An expired one that waits for its signal to be taken shows the least there is.
                let armed = r.key.get().is_some() || r.interval.get() > 0;
                let left = r.at.get().saturating_sub(now).max(1000);
                (if armed { left } else { 0 }, r.interval.get())
            });
        }
        let t = self.cpu[which as usize - 1].borrow().clone();
        t.map_or((0, 0), |t| {
            let at = proc.timers.cpu.at(t.alarm.get());
            let left = at.map_or(0, |at| at.saturating_sub(cpu::of_process(proc)).max(1000));
            (left, t.interval)
        })
    }

    fn set(&self, core: &Core, proc: &Rc<Process>, which: i32, now: Ns, value: Ns, interval: Ns) {
        if which == ITIMER_REAL {
            if let Some(old) = self.real.borrow_mut().take()
                && let Some(key) = old.key.get()
            {
                core.timers.cancel(key);
            }
            if value > 0 {
                let r = Rc::new_cyclic(|me| Real {
                    me: me.clone(),
                    proc: Rc::downgrade(proc),
                    interval: Cell::new(interval),
                    at: Cell::new(0),
                    key: Cell::new(None),
                });
                r.set(&core.timers, now.saturating_add(value));
                *self.real.borrow_mut() = Some(r);
            }
            return;
        }
        let slot = &self.cpu[which as usize - 1];
        if let Some(old) = slot.borrow_mut().take() {
            proc.timers.cpu.remove(old.alarm.get());
        }
        if value > 0 {
            let t = Rc::new(CpuItimer {
                proc: Rc::downgrade(proc),
                signo: if which == ITIMER_PROF {
                    sig::SIGPROF
                } else {
                    sig::SIGVTALRM
                },
                interval,
                alarm: Cell::new(0),
            });
            let target: Rc<dyn CpuTarget> = t.clone();
            let at = cpu::of_process(proc).saturating_add(value);
            *slot.borrow_mut() = Some(t.clone());
            t.alarm
                .set(cpu::alarm(core, proc, None, at, Rc::downgrade(&target)));
        }
    }
}

/// The first expiry after `now` of a timer that last expired at `at`, and how many it missed.
pub fn next_after(at: Ns, interval: Ns, now: Ns) -> (Ns, u64) {
    let missed = now.saturating_sub(at) / interval.max(1);
    let next = at.saturating_add(interval.saturating_mul(missed + 1));
    (next, missed)
}

fn check_which(which: i32) -> Result<(), Errno> {
    if (ITIMER_REAL..=ITIMER_PROF).contains(&which) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

fn put(cx: &mut Cx<'_>, out: Ptr, (value, interval): (Ns, Ns)) -> Result<(), Errno> {
    let (i, v) = (Timeval::from_ns(interval), Timeval::from_ns(value));
    cx.put(out.0, &[i.sec, i.usec, v.sec, v.usec])
}

fn read(cx: &mut Cx<'_>, which: i32) -> (Ns, Ns) {
    let now = cx.now();
    cx.k.charge();
    let proc = cx.task.process();
    proc.timers.itimers.get(which, now, &proc)
}

fn write(cx: &mut Cx<'_>, which: i32, value: Ns, interval: Ns) {
    let now = cx.now();
    cx.k.charge();
    let proc = cx.task.process();
    proc.timers
        .itimers
        .set(cx.core, &proc, which, now, value, interval);
}

/// getitimer(2)
pub fn sys_getitimer(cx: &mut Cx<'_>, which: i32, out: Ptr) -> Io<u64> {
    check_which(which)?;
    let v = read(cx, which);
    put(cx, out, v)?;
    Ok(0)
}

/// setitimer(2). A null new value disarms, as Linux still does.
pub fn sys_setitimer(cx: &mut Cx<'_>, which: i32, new: Ptr, old: Ptr) -> Io<u64> {
    let (mut value, mut interval) = (0, 0);
    if !new.is_null() {
        let [a, b, c, d]: [i64; 4] = cx.get(new.0)?;
        interval = Timeval { sec: a, usec: b }.ns()?;
        value = Timeval { sec: c, usec: d }.ns()?;
    }
    check_which(which)?;
    let was = read(cx, which);
    write(cx, which, value, interval);
    if !old.is_null() {
        put(cx, old, was)?;
    }
    Ok(0)
}

/// alarm(2)
pub fn sys_alarm(cx: &mut Cx<'_>, seconds: u32) -> Io<u64> {
    let (left, _) = read(cx, ITIMER_REAL);
    write(cx, ITIMER_REAL, u64::from(seconds) * NSEC, 0);
    let t = Timespec::from_ns(left);
    // Rounded to the nearest second, but never to "none was set".
    if (t.sec == 0 && t.nsec > 0) || t.nsec >= NSEC as i64 / 2 {
        return Ok(t.sec as u64 + 1);
    }
    Ok(t.sec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_periods_are_counted_and_skipped() {
        assert_eq!(next_after(100, 10, 100), (110, 0));
        assert_eq!(next_after(100, 10, 109), (110, 0));
        assert_eq!(next_after(100, 10, 110), (120, 1));
        assert_eq!(next_after(100, 10, 135), (140, 3));
        assert_eq!(next_after(u64::MAX - 1, 10, u64::MAX).0, u64::MAX);
    }
}
