//! The virtual clock (PROTOCOL §2): reads answer from history, within a stated error of real time.
//!
//! The state is one page at a fixed address, because the vDSO reads and advances it without a
//! kernel entry. Integers only, monotone by construction. Whether a prediction holds is asked of
//! the door through a [`Check`]; only a miss needs a record.

use std::cell::Cell;

/// Largest difference between a predicted read and real time that is accepted, in ns.
pub const EPS_NS: u64 = 100_000;
/// How far a prediction may run ahead of the last rebase, in ns.
pub const CAP_NS: u64 = 50_000;
/// Largest ns per entry, Q16: one millisecond. (E - bE) * QMAX stays below 2^128.
pub const QMAX: u64 = 1_000_000 << 16;

/// State of the clock. The field order is known to the vDSO's assembly.
#[repr(C)]
#[derive(Debug)]
pub struct Clock {
    /// Last value, ns.
    pub v: Cell<u64>,
    /// Logical time: kernel entries and vDSO reads of the image so far.
    pub e: Cell<u64>,
    /// Value at the last rebase.
    pub base_v: Cell<u64>,
    /// Entry at the last rebase.
    pub base_e: Cell<u64>,
    /// Nanoseconds per entry, Q16.
    pub q: Cell<u64>,
    /// See [`CAP_NS`].
    pub cap: Cell<u64>,
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC, ns: image state, set by the door at start.
    pub real_offset: Cell<u64>,
    /// CLOCK_BOOTTIME minus CLOCK_MONOTONIC, ns.
    pub boot_offset: Cell<u64>,
    /// vDSO reads until one must be a true kernel entry, so that a loop over the clock is preempted
    /// at a place that has a name.
    pub vdso_left: Cell<u64>,
}

/// What [`Clock::vdso_left`] is set to at every kernel entry.
pub const VDSO_READS: u64 = 512;

/// The door's answer to a predicted read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// Within [`EPS_NS`] of real time: no record.
    Holds,
    /// Real time is later: step to it.
    Behind(u64),
    /// Real time is earlier: hold until the next rebase.
    Ahead,
}

impl Clock {
    /// A clock that starts at `v` nanoseconds.
    pub fn start(&self, v: u64, real_offset: u64, boot_offset: u64) {
        self.v.set(v);
        self.e.set(0);
        self.base_v.set(v);
        self.base_e.set(0);
        self.q.set(0);
        self.cap.set(CAP_NS);
        self.real_offset.set(real_offset);
        self.boot_offset.set(boot_offset);
    }

    /// Last value without a read.
    pub fn last(&self) -> u64 {
        self.v.get()
    }

    /// What the next read answers if the door agrees.
    pub fn predict(&self) -> u64 {
        let n = u128::from(self.e.get().wrapping_sub(self.base_e.get()));
        let run = ((n * u128::from(self.q.get())) >> 16).min(u128::from(self.cap.get())) as u64;
        self.v.get().max(self.base_v.get().wrapping_add(run))
    }

    /// One kernel entry.
    pub fn tick(&self) {
        self.e.set(self.e.get().wrapping_add(1));
    }

    /// A kernel entry that is not a clock read: gives the vDSO a fresh budget.
    pub fn enter(&self) {
        self.tick();
        self.vdso_left.set(VDSO_READS);
    }

    /// A read that the vDSO began and could not finish: the same effect on the clock's state as one
    /// that it does finish, but for what a miss changes.
    pub fn read_for_vdso(&self, check: impl FnOnce(u64, u64) -> Check) -> u64 {
        self.vdso_left.set(self.vdso_left.get().saturating_sub(1));
        self.read(check)
    }

    /// Reads the clock; `check(e, p)` is the door's.
    pub fn read(&self, check: impl FnOnce(u64, u64) -> Check) -> u64 {
        self.tick();
        let p = self.predict();
        match check(self.e.get(), p) {
            Check::Holds => self.v.set(p),
            Check::Behind(r) => {
                // max: a hostile or damaged record must not turn the clock back.
                let r = r.max(p);
                self.v.set(r);
                self.rebase(r);
            }
            Check::Ahead => {
                self.base_v.set(self.v.get());
                self.base_e.set(self.e.get());
                self.q.set(0);
            }
        }
        self.v.get()
    }

    /// An input stamped `v` is absorbed, or an idle wait ends at `v`.
    pub fn advance(&self, v: u64) {
        if v > self.v.get() {
            self.v.set(v);
            self.rebase(v);
        }
    }

    fn rebase(&self, v: u64) {
        let n = self.e.get().wrapping_sub(self.base_e.get());
        if n > 0 {
            let rate = (u128::from(v.saturating_sub(self.base_v.get())) << 16) / u128::from(n);
            let q = (7 * u128::from(self.q.get()) + rate) / 8;
            self.q.set(q.min(u128::from(QMAX)) as u64);
        }
        self.base_v.set(v);
        self.base_e.set(self.e.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        let c = Clock {
            v: Cell::new(0),
            e: Cell::new(0),
            base_v: Cell::new(0),
            base_e: Cell::new(0),
            q: Cell::new(0),
            cap: Cell::new(0),
            real_offset: Cell::new(0),
            boot_offset: Cell::new(0),
            vdso_left: Cell::new(0),
        };
        c.start(1_000, 0, 0);
        c
    }

    #[test]
    fn replay_of_misses_gives_the_same_values() {
        let live = clock();
        let mut real = 1_000u64;
        let mut log = Vec::new();
        let mut seen = Vec::new();
        for i in 0..10_000u64 {
            real += [30, 900, 40_000, 15, 2_000_000][(i * i % 5) as usize];
            seen.push(live.read(|e, p| {
                if p.abs_diff(real) <= EPS_NS {
                    Check::Holds
                } else if p < real {
                    log.push((e, Check::Behind(real)));
                    Check::Behind(real)
                } else {
                    log.push((e, Check::Ahead));
                    Check::Ahead
                }
            }));
            assert!(seen[seen.len() - 1].abs_diff(real) <= EPS_NS || seen[seen.len() - 1] > real);
        }
        let again = clock();
        let mut at = log.into_iter().peekable();
        for (i, v) in seen.iter().enumerate() {
            let got = again.read(|e, _| match at.peek() {
                Some((le, c)) if *le == e => {
                    let c = *c;
                    at.next();
                    c
                }
                _ => Check::Holds,
            });
            assert_eq!(got, *v, "read {i}");
        }
        assert!(seen.windows(2).all(|w| w[0] <= w[1]), "monotone");
    }

    #[test]
    fn a_hostile_record_cannot_turn_it_back() {
        let c = clock();
        c.advance(5_000_000);
        assert_eq!(c.read(|_, _| Check::Behind(3)), 5_000_000);
    }
}
