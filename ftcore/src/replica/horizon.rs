//! The promise that makes silence mean something (PROTOCOL §3).
//!
//! A frame that carries horizon H at position p says: after record p, nothing that was not predicted happens
//! at or before H, unless a record says so. The primary promises ahead of time, so that the promise has been
//! acknowledged when an output needs it. An input within H is no breach: it is a record, and outputs that
//! come after it wait for that record. H only grows (N5).

use super::Time;
use super::config::Config;
use crate::platform::Ns;

/// What the primary has promised.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Promise {
    h: Time,
    entries: u64,
    ns: Ns,
    idle_ns: Ns,
}

impl Promise {
    /// A promise that starts at `at`, of the size that the configuration names.
    pub fn new(cfg: &Config, at: Time) -> Promise {
        Promise {
            h: at,
            entries: cfg.horizon_entries,
            ns: cfg.horizon_ns,
            idle_ns: cfg.horizon_idle_ns,
        }
    }

    /// The horizon promised so far.
    pub fn horizon(&self) -> Time {
        self.h
    }

    /// The promise reaches at least to `at`: a snapshot taken there says so.
    pub fn raise(&mut self, at: Time) {
        self.h = self.h.max(at);
    }

    /// Half of it is used up at `at`: worth a frame of its own if none is sent anyway.
    pub fn due(&self, at: Time) -> bool {
        at.e.saturating_add(self.entries / 2) >= self.h.e || at.v.saturating_add(self.ns / 2) >= self.h.v
    }

    /// For a frame sent at `at`: renewed if half used. `idle`: nothing can run until a timer or an input.
    pub fn renew(&mut self, at: Time, idle: bool) -> Time {
        let ns = if idle { self.idle_ns } else { self.ns };
        let half = at.v.saturating_add(ns / 2) >= self.h.v;
        if half || at.e.saturating_add(self.entries / 2) >= self.h.e {
            self.h = self.h.max(Time {
                e: at.e.saturating_add(self.entries),
                v: at.v.saturating_add(ns),
            });
        }
        self.h
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Member;

    #[test]
    fn it_is_renewed_when_half_used_and_never_falls() {
        let mut cfg = Config::new(1, Member { node: 1, inc: 1 });
        (cfg.horizon_entries, cfg.horizon_ns, cfg.horizon_idle_ns) = (100, 1_000, 10_000);
        let mut p = Promise::new(&cfg, Time { e: 10, v: 10 });
        assert!(p.due(Time { e: 10, v: 10 }));
        assert_eq!(p.renew(Time { e: 10, v: 10 }, false), Time { e: 110, v: 1_010 });
        assert!(!p.due(Time { e: 59, v: 500 }));
        assert_eq!(p.renew(Time { e: 59, v: 500 }, false), Time { e: 110, v: 1_010 });
        assert!(p.due(Time { e: 60, v: 500 }), "entries half used");
        assert!(p.due(Time { e: 20, v: 510 }), "time half used");
        assert_eq!(p.renew(Time { e: 60, v: 500 }, true), Time { e: 160, v: 10_500 });
        assert_eq!(
            p.renew(Time { e: 150, v: 501 }, false),
            Time { e: 250, v: 10_500 }
        );
        let end = Time {
            e: u64::MAX,
            v: u64::MAX,
        };
        assert_eq!(p.renew(end, true), end, "no overflow");
    }
}
