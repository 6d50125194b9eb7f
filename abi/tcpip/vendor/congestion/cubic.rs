//! CUBIC (RFC 9438) in integers: results of floating point are not the same on every host, and kernel
//! code has no floats. Written for FTLinux in the place of smoltcp's version, which uses `f64`.

use super::super::RttEstimator;
use super::Controller;
use smoltcp::time::Instant;

const DEFAULT_MSS: usize = 536;
/// RFC 6928
const INITIAL_SEGMENTS: usize = 10;
/// beta_cubic = 0.7
const BETA: (usize, usize) = (7, 10);

#[derive(Debug)]
pub struct Cubic {
    cwnd: usize,
    ssthresh: usize,
    mss: usize,
    /// Window before the last reduction.
    w_max: usize,
    /// Start of this congestion-avoidance epoch.
    epoch: Option<Instant>,
    /// Milliseconds from the epoch's start until the window is w_max again.
    k_ms: u64,
    /// Window that Reno would have.
    w_est: usize,
    rwnd: usize,
    started: bool,
    /// Window, threshold and w_max before the last reduction.
    before: Option<(usize, usize, usize)>,
}

impl Cubic {
    pub fn new() -> Cubic {
        Cubic {
            cwnd: DEFAULT_MSS * INITIAL_SEGMENTS,
            ssthresh: usize::MAX,
            mss: DEFAULT_MSS,
            w_max: 0,
            epoch: None,
            k_ms: 0,
            w_est: 0,
            rwnd: 0,
            started: false,
            before: None,
        }
    }

    fn reduce(&mut self, in_flight: usize) {
        self.before = Some((self.cwnd, self.ssthresh, self.w_max));
        let was = self.cwnd.min(in_flight.max(2 * self.mss));
        // Fast convergence: a flow that shrinks leaves room for others.
        self.w_max = if was < self.w_max {
            was * (BETA.1 + BETA.0) / (2 * BETA.1)
        } else {
            was
        };
        self.ssthresh = (was * BETA.0 / BETA.1).max(2 * self.mss);
        self.epoch = None;
    }
}

/// Integer cube root, rounded down.
fn cube_root(n: u128) -> u64 {
    let (mut low, mut high) = (0u128, 1 << 42);
    while low < high {
        let mid = (low + high).div_ceil(2);
        if mid * mid * mid <= n {
            low = mid;
        } else {
            high = mid - 1;
        }
    }
    low as u64
}

impl Controller for Cubic {
    fn window(&self) -> usize {
        self.cwnd
    }

    fn figures(&self) -> (usize, usize) {
        (self.cwnd, self.ssthresh)
    }

    fn set_mss(&mut self, mss: usize) {
        self.mss = mss;
        if !self.started {
            self.cwnd = mss * INITIAL_SEGMENTS;
        }
    }

    fn set_remote_window(&mut self, window: usize) {
        self.rwnd = self.rwnd.max(window);
    }

    fn on_ack(&mut self, now: Instant, len: usize, in_flight: usize, rtt: &RttEstimator) {
        if len == 0 {
            return;
        }
        self.started = true;
        // A window that is not used does not grow.
        if (in_flight + len) * 2 < self.cwnd {
            return;
        }
        let most = self.rwnd.max(INITIAL_SEGMENTS * self.mss) * 2;
        if self.cwnd < self.ssthresh {
            self.cwnd = (self.cwnd + len).min(most);
            return;
        }
        let start = match self.epoch {
            Some(t) => t,
            None => {
                self.epoch = Some(now);
                self.w_max = self.w_max.max(self.cwnd);
                let below = (self.w_max - self.cwnd) as u128 / self.mss as u128;
                // K = cbrt(below / C), C = 0.4, in ms.
                self.k_ms = cube_root(below * 2_500_000_000);
                self.w_est = self.cwnd;
                now
            }
        };
        // alpha = 3 (1 - beta) / (1 + beta) = 9/17
        self.w_est += (len * self.mss * 9 / 17) / self.cwnd.max(1);
        let t = (now - start).total_millis() + u64::from(rtt.smoothed_rtt());
        let dt = i128::from(t) - i128::from(self.k_ms);
        // C * dt^3 segments, with dt in ms.
        let rise = dt * dt * dt * 4 * self.mss as i128 / 10_000_000_000;
        let cubic = (self.w_max as i128 + rise).clamp(0, most as i128) as usize;
        let target = cubic.max(self.w_est).min(self.cwnd * 3 / 2);
        if target > self.cwnd {
            self.cwnd += ((target - self.cwnd) * len / self.cwnd).max(1);
        }
        self.cwnd = self.cwnd.clamp(2 * self.mss, most);
    }

    fn on_loss(&mut self, _now: Instant, in_flight: usize) {
        self.started = true;
        self.reduce(in_flight);
        self.cwnd = self.ssthresh;
    }

    fn on_rto(&mut self, _now: Instant, in_flight: usize) {
        self.started = true;
        if in_flight > self.mss {
            self.reduce(in_flight);
        }
        self.cwnd = self.mss;
        self.epoch = None;
    }

    fn on_undo(&mut self) {
        if let Some((cwnd, ssthresh, w_max)) = self.before.take() {
            self.cwnd = self.cwnd.max(cwnd);
            self.ssthresh = ssthresh;
            self.w_max = w_max;
            self.epoch = None;
        }
    }

    fn on_recovered(&mut self) {
        self.cwnd = self.cwnd.max(self.ssthresh.min(self.cwnd * 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots() {
        for n in [0u128, 1, 7, 8, 26, 27, 1_000_000_000, 999_999_999_999] {
            let r = u128::from(cube_root(n));
            assert!(r * r * r <= n && (r + 1) * (r + 1) * (r + 1) > n, "{n}");
        }
    }

    #[test]
    fn a_window_comes_back_to_where_it_was() {
        let rtt = RttEstimator::default();
        let mut c = Cubic::new();
        c.set_mss(1000);
        c.set_remote_window(10_000_000);
        while c.window() < 200_000 {
            c.on_ack(Instant::from_millis(0), 1000, c.window(), &rtt);
        }
        let before = c.window();
        c.on_loss(Instant::from_millis(10), before);
        assert_eq!(c.window(), before * 7 / 10);
        let k = {
            c.on_ack(Instant::from_millis(10), 1000, c.window(), &rtt);
            c.k_ms
        };
        for ms in 10..10 + k {
            // A round trip of a second, so that Reno would be slower.
            c.on_ack(Instant::from_millis(ms as i64), c.window() / 1000, c.window(), &rtt);
        }
        let now = c.window();
        assert!(now > before * 9 / 10 && now < before * 12 / 10, "{before} {now} {k}");
        c.on_rto(Instant::from_millis(20_000), now);
        assert_eq!(c.window(), 1000);
        assert!(c.ssthresh < now);
    }
}
