//! Real time for the door: CLOCK_MONOTONIC, read by the time-stamp counter between calibrations.
//!
//! The host's own vDSO is not used: where it falls back to a system call, that call would come from
//! outside the runtime's text and trap.

use crate::sys;

/// Two readings this far apart or more make a calibration, ns.
const BASELINE: u64 = 20_000_000;
/// The counter is trusted this long after a calibration, ns.
const TRUST: u64 = 200_000_000;

/// A calibrated counter.
#[derive(Debug)]
pub struct HostClock {
    usable: bool,
    first: (u64, u64),
    base: (u64, u64),
    /// ns per tick, Q32; 0 while unknown.
    rate: u64,
    last: u64,
    /// The image's time minus the host's CLOCK_MONOTONIC: not 0 in a restored image.
    ahead: u64,
}

fn tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

impl HostClock {
    /// Starts calibrating.
    pub fn new() -> HostClock {
        let invariant = core::arch::x86_64::__cpuid(0x8000_0007).edx & (1 << 8) != 0;
        let now = (tsc(), sys::clock_ns(libc::CLOCK_MONOTONIC));
        HostClock {
            usable: invariant,
            first: now,
            base: now,
            rate: 0,
            last: now.1,
            ahead: 0,
        }
    }

    /// Time goes on from `ns`, as if none had passed since.
    pub fn go_on_from(&mut self, ns: u64) {
        *self = HostClock::new();
        self.ahead = ns.wrapping_sub(self.last);
        self.first.1 = ns;
        self.base.1 = ns;
        self.last = ns;
    }

    /// CLOCK_MONOTONIC of the host, ns, never going back.
    pub fn now(&mut self) -> u64 {
        let t = tsc();
        let ticks = t.wrapping_sub(self.base.0);
        if self.usable && self.rate != 0 && ticks < (1 << 40) {
            let ns = ((u128::from(ticks) * u128::from(self.rate)) >> 32) as u64;
            if ns < TRUST {
                self.last = self.last.max(self.base.1 + ns);
                return self.last;
            }
        }
        let ns = sys::clock_ns(libc::CLOCK_MONOTONIC).wrapping_add(self.ahead);
        let t = tsc();
        let (dt, dn) = (t.wrapping_sub(self.first.0), ns.saturating_sub(self.first.1));
        if dn >= BASELINE && dt > 0 {
            self.rate = ((u128::from(dn) << 32) / u128::from(dt)) as u64;
            self.base = (t, ns);
            // A sliding baseline follows the host's own corrections.
            if dn > 50 * TRUST {
                self.first = self.base;
            }
        }
        self.last = self.last.max(ns);
        self.last
    }
}

impl HostClock {
    /// Gives the vDSO the calibration that it compares with.
    pub fn publish(&mut self, v: &mut crate::vcpu::Vcpu) {
        if !self.usable || self.rate == 0 || (v.tsc_base == self.base.0 && v.tsc_rate == self.rate) {
            return;
        }
        v.tsc_base = self.base.0;
        v.tsc_ns = self.base.1;
        v.tsc_rate = self.rate;
        v.tsc_limit = ((u128::from(TRUST) << 32) / u128::from(self.rate)) as u64;
    }
}

impl Default for HostClock {
    fn default() -> HostClock {
        HostClock::new()
    }
}
