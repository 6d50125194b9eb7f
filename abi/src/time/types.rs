//! struct timespec, timeval, itimerspec: reading, checking, writing.

use ftl_core::errno::Errno;
use ftl_core::kcore::Env;
use ftl_core::platform::Ns;

/// Nanoseconds of a second.
pub const NSEC: u64 = 1_000_000_000;
/// Clock ticks of times(2) and /proc per second.
pub const USER_HZ: u64 = 100;
/// KTIME_MAX: the end of time.
const MAX_NS: u64 = i64::MAX as u64;

/// struct timespec
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

impl Timespec {
    /// Copies it from the guest; EFAULT. Not checked yet: see [`Timespec::ns`].
    pub fn read(env: &mut Env<'_>, at: u64) -> Result<Timespec, Errno> {
        let [sec, nsec]: [i64; 2] = env.get(at)?;
        Ok(Timespec { sec, nsec })
    }
    /// Copies it to the guest.
    pub fn write(self, env: &mut Env<'_>, at: u64) -> Result<(), Errno> {
        env.put(at, &[self.sec, self.nsec])
    }
    /// As nanoseconds, saturating; EINVAL unless it is a valid, non-negative time
    /// (timespec64_valid, timespec64_to_ktime).
    pub fn ns(self) -> Result<Ns, Errno> {
        if self.sec < 0 || !(0..NSEC as i64).contains(&self.nsec) {
            return Err(Errno::EINVAL);
        }
        let ns = (self.sec as u64)
            .saturating_mul(NSEC)
            .saturating_add(self.nsec as u64);
        Ok(ns.min(MAX_NS))
    }
    /// From nanoseconds.
    pub fn from_ns(ns: Ns) -> Timespec {
        Timespec {
            sec: (ns / NSEC) as i64,
            nsec: (ns % NSEC) as i64,
        }
    }
    /// From nanoseconds since the epoch.
    pub fn from_wide(ns: i128) -> Timespec {
        let nsec = i128::from(NSEC);
        Timespec {
            sec: ns.div_euclid(nsec) as i64,
            nsec: ns.rem_euclid(nsec) as i64,
        }
    }
}

/// struct timeval
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Timeval {
    pub sec: i64,
    pub usec: i64,
}

impl Timeval {
    /// As nanoseconds; EINVAL unless valid.
    pub fn ns(self) -> Result<Ns, Errno> {
        if !(0..1_000_000).contains(&self.usec) {
            return Err(Errno::EINVAL);
        }
        Timespec {
            sec: self.sec,
            nsec: self.usec * 1000,
        }
        .ns()
    }
    /// From nanoseconds, cut to microseconds.
    pub fn from_ns(ns: Ns) -> Timeval {
        Timeval {
            sec: (ns / NSEC) as i64,
            usec: (ns % NSEC / 1000) as i64,
        }
    }
}

/// struct itimerspec: time to the next expiry and between expiries, ns. 0: not set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Itimerspec {
    /// it_interval
    pub interval: Ns,
    /// it_value
    pub value: Ns,
}

impl Itimerspec {
    /// Copies it from the guest and checks it.
    pub fn read(env: &mut Env<'_>, at: u64) -> Result<Itimerspec, Errno> {
        let [a, b, c, d]: [i64; 4] = env.get(at)?;
        Ok(Itimerspec {
            interval: Timespec { sec: a, nsec: b }.ns()?,
            value: Timespec { sec: c, nsec: d }.ns()?,
        })
    }
    /// Copies it to the guest.
    pub fn write(self, env: &mut Env<'_>, at: u64) -> Result<(), Errno> {
        let i = Timespec::from_ns(self.interval);
        let v = Timespec::from_ns(self.value);
        env.put(at, &[i.sec, i.nsec, v.sec, v.nsec])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_checked_and_saturate() {
        let t = |sec, nsec| Timespec { sec, nsec }.ns();
        assert_eq!(t(1, 5), Ok(1_000_000_005));
        assert_eq!(t(-1, 0), Err(Errno::EINVAL));
        assert_eq!(t(0, 1_000_000_000), Err(Errno::EINVAL));
        assert_eq!(t(0, -1), Err(Errno::EINVAL));
        assert_eq!(t(i64::MAX, 0), Ok(MAX_NS));
        let before = Timespec {
            sec: -1,
            nsec: 999_999_999,
        };
        assert_eq!(Timespec::from_wide(-1), before);
        let bad = Timeval {
            sec: 0,
            usec: 1_000_000,
        };
        assert_eq!(bad.ns(), Err(Errno::EINVAL));
    }
}
