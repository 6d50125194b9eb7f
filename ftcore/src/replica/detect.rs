//! When silence counts as failure: adaptive, and never a matter of safety.

use super::config::Config;
use crate::platform::Ns;

/// Watches the gaps between frames of a peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Detector {
    heard_ns: Ns,
    looked_ns: Ns,
    gap_ns: Ns,
    deviation_ns: Ns,
    min_ns: Ns,
    max_ns: Ns,
}

impl Detector {
    /// Starts as if a frame had just come.
    pub fn new(cfg: &Config, now_ns: Ns) -> Detector {
        Detector {
            heard_ns: now_ns,
            looked_ns: now_ns,
            gap_ns: cfg.heartbeat_ns,
            deviation_ns: 0,
            min_ns: cfg.detect_min_ns,
            max_ns: cfg.detect_max_ns,
        }
    }

    /// A frame came.
    pub fn heard(&mut self, now_ns: Ns) {
        let gap = now_ns.saturating_sub(self.heard_ns);
        self.heard_ns = now_ns;
        self.looked_ns = now_ns;
        // Frames that come in one burst say nothing about silence.
        if gap > self.gap_ns / 8 {
            self.deviation_ns = (3 * self.deviation_ns + gap.abs_diff(self.gap_ns)) / 4;
            self.gap_ns = (7 * self.gap_ns + gap) / 8;
        }
    }

    /// Silence longer than this is failure.
    pub fn limit_ns(&self) -> Ns {
        (4 * self.gap_ns + 4 * self.deviation_ns).clamp(self.min_ns, self.max_ns)
    }

    /// Asked at every tick, after the link was read. A node that was itself stopped has not listened: that time
    /// does not count, or hardly, so that a node that is always late notices in the end.
    pub fn silent(&mut self, now_ns: Ns) -> bool {
        let limit = self.limit_ns();
        let away = now_ns.saturating_sub(self.looked_ns);
        if away > limit / 2 {
            self.heard_ns += away - limit / 4;
        }
        self.looked_ns = now_ns;
        now_ns.saturating_sub(self.heard_ns) > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Member;
    const MS: Ns = 1_000_000;

    fn fed(gap_ms: &[u64]) -> (Detector, Ns) {
        let cfg = Config::new(1, Member { node: 1, inc: 1 });
        let mut d = Detector::new(&cfg, 0);
        let mut now = 0;
        for g in gap_ms {
            for _ in 0..*g {
                now += MS;
                assert!(!d.silent(now), "{gap_ms:?} at {now}");
            }
            d.heard(now);
        }
        (d, now)
    }

    #[test]
    fn silence_is_noticed_and_a_jittery_link_gets_more_time() {
        let (mut d, mut now) = fed(&[5; 50]);
        assert_eq!(d.limit_ns(), 40 * MS);
        let start = now;
        while !d.silent(now) {
            now += MS;
        }
        assert_eq!(now - start, 41 * MS);
        let (jittery, _) = fed(&[5, 30, 2, 25, 5, 35, 5, 30, 2, 30]);
        assert!(jittery.limit_ns() > 60 * MS, "{jittery:?}");
    }

    #[test]
    fn whoever_slept_does_not_accuse() {
        let (mut d, now) = fed(&[5; 20]);
        assert!(!d.silent(now + 5_000 * MS), "it was this node that was away");
        assert!(!d.silent(now + 5_019 * MS));
        assert!(d.silent(now + 5_038 * MS), "but then it is silence");
        // A node that never looks in time.
        let (mut d, start) = fed(&[5; 20]);
        let late = (1..20).find(|n| d.silent(start + n * 30 * MS));
        assert_eq!(late, Some(5));
    }
}
