//! A limit of CPU time (`run --cpus`): an image that has used more than its share stands still until it has not.
//!
//! One process of an image runs at a time, so the image has used what the holders of the token have used. Each counts its own CPU
//! time, that of the library OS in it too, when the watchdog has ticked ([`crate::fault`]) and when it gives the token away.
//! What was used pushes a moment into the future, [`Control::paid_until`]: by a second for each second at the whole CPU, by two at half of
//! it. While that moment has not come the image stands (the "virtual scheduling algorithm" of ITU-T I.371).
//!
//! It is the host's business alone, as if the host had been busy: nothing of it is in the image or in its log, and a replay, or a
//! backup, does not stand. No cgroup is needed, which a plain user often cannot have.

use crate::control::{self, Control};
use crate::run::Machine;
use crate::sys;
use crate::vcpu::Vcpu;
use std::sync::atomic::Ordering::Relaxed;

/// The whole CPU: no limit.
pub const WHOLE: u32 = 1000;
/// Time that was left unused and may be made up for, ns: as the period of a cgroup's quota.
const BURST_NS: u64 = 100_000_000;
/// More is not owed, ns: a copy of the whole image, which another host wants, costs at once what many slices do.
const MOST_DEBT_NS: u64 = 1_000_000_000;
/// What may have come for the image meanwhile is looked at so often, ns.
const PIECE_NS: u64 = 2_000_000;

/// Thousandths of the CPU that the image may use, if there is a limit.
fn share(m: &Machine) -> Option<u64> {
    let share = m.kernel.config.cpus;
    (share != 0 && share < WHOLE && !m.plat.replaying()).then_some(share.into())
}

/// True if the watchdog has to tick for this.
pub fn wanted(m: &Machine) -> bool {
    share(m).is_some()
}

/// When what was used is paid for.
fn paid_until(before: u64, now: u64, used: u64, share: u64) -> u64 {
    let from = before.max(now.saturating_sub(BURST_NS));
    from.saturating_add(used.saturating_mul(u64::from(WHOLE)) / share)
}

/// Counts what this process, which holds the token, has used. Returns when that is paid for.
fn count(v: &mut Vcpu, share: u64) -> u64 {
    let used = sys::clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID);
    let more = used.saturating_sub(std::mem::replace(&mut v.cpu_counted, used));
    // SAFETY: the page is mapped in every guest process.
    let control: &Control = unsafe { control::get() };
    let now = sys::clock_ns(libc::CLOCK_MONOTONIC);
    let until = paid_until(control.paid_until.load(Relaxed), now, more, share).min(now + MOST_DEBT_NS);
    control.paid_until.store(until, Relaxed);
    until
}

/// This process has the token from here on, or the image has become live: what it has used before, to be made or to replay, was not the
/// program's.
pub fn begin(v: &mut Vcpu, m: &Machine) {
    if m.kernel.config.cpus != 0 {
        v.cpu_counted = sys::clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID);
    }
}

/// This process gives the token away, or ends.
pub fn pass(v: &mut Vcpu, m: &Machine) {
    if let Some(share) = share(m) {
        count(v, share);
    }
}

/// Stands still until what was used is paid for, or the supervisor wants something: that is not kept waiting, and the debt stays.
fn stand(v: &mut Vcpu, m: &mut Machine, mut meanwhile: impl FnMut(&mut Machine, u64)) {
    let Some(share) = share(m) else { return };
    let until = count(v, share);
    loop {
        let now = sys::clock_ns(libc::CLOCK_MONOTONIC);
        if now >= until || crate::run::kicked_for(m) || crate::protect::top::wanted(m) {
            return;
        }
        sys::sleep_ns((until - now).min(PIECE_NS));
        meanwhile(m, sys::clock_ns(libc::CLOCK_MONOTONIC).saturating_sub(now));
    }
}

/// Where the kernel is entered: the other host of a protected image hears it meanwhile.
pub fn stand_at_entry(v: &mut Vcpu, m: &mut Machine) {
    stand(v, m, |m, stood| {
        if let Some(g) = &mut m.plat.guard {
            g.stood(stood);
            m.plat.service_uncalled();
        }
    });
}

/// In the watchdog's handler, which has interrupted a guest that makes no entry. An image that is protected enters the kernel
/// there anyway ([`crate::run::look_matters`]), and stands in it.
pub fn stand_in_handler(v: &mut Vcpu) {
    // SAFETY: guest code was interrupted: nobody holds the machine, which is set.
    let m = unsafe { &mut *v.machine };
    if m.plat.guard.is_none() {
        stand(v, m, |_, _| ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPU time that an image gets in this time which always wants more, ns.
    fn gets(share: u64, slice: u64, time: u64) -> u64 {
        let (mut now, mut paid, mut used) = (1_000_000_000, 0, 0);
        let end = now + time;
        while now < end {
            now += slice;
            used += slice;
            paid = paid_until(paid, now, slice, share);
            now = now.max(paid);
        }
        used
    }

    #[test]
    fn an_image_gets_its_share_and_no_more() {
        for (share, slice) in [
            (500, 4_000_000),
            (10, 4_000_000),
            (250, 40_000_000),
            (999, 1_000_000),
        ] {
            let time = 20_000_000_000;
            let (got, due) = (gets(share, slice, time), time * share / 1000);
            assert!(
                got >= due && got <= due + BURST_NS + slice,
                "{share}: {got} of {due}"
            );
        }
    }

    #[test]
    fn what_was_left_unused_for_long_is_gone() {
        let now = 10_000_000_000;
        assert_eq!(paid_until(0, now, 0, 500), now - BURST_NS);
        assert_eq!(paid_until(now + 5, now, 10, 500), now + 25);
    }
}
