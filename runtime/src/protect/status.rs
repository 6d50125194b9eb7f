//! What `ftvm status` shows: figures that the image's processes, or the standby, leave in the control page.

use super::guard::Guard;
use crate::control;
use crate::door::record::Recorder;
use crate::sys;
use ftl_core::replica::primary::Phase;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// Places in the control page.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
#[allow(missing_docs)]
pub enum Figure {
    /// 0 not protected, [`PRIMARY`], [`STANDBY`].
    Role,
    Phase,
    Epoch,
    /// The image's identity.
    Image,
    /// Records written, and acknowledged by the backup.
    Position,
    Acked,
    /// Outputs that left; those that did not wait; all waits and the longest, ns; bytes held now.
    Released,
    ZeroWait,
    WaitNs,
    LongestNs,
    HeldBytes,
    Dropped,
    HorizonStalls,
    /// Snapshots for the backup; time that the image stood still for them, ns.
    Snapshots,
    PauseNs,
    PauseMaxNs,
    /// Pages of shared memory that were compared for snapshots, as they might have changed.
    Compared,
    /// Bytes of log frames.
    LogBytes,
    /// Host's monotonic time of the last update, ns.
    Updated,
    /// Time from the promotion to going live, ns.
    TakeoverNs,
    /// 1: the image's root is on its way to where the backup is to be.
    SendsRoot,
    /// Bytes of log frames that the backup has not acknowledged; since when the oldest of them waits, ns, 0: there is none.
    LagBytes,
    LagSince,
    /// Bytes of log frames in the last whole second.
    LogRate,
    /// When the last snapshot was in place at the backup, ns.
    SnapshotAt,
    /// What history predicted (clock reads, answers of the host), and that of it which was not as predicted.
    Predicted,
    Missed,
    /// Slices that were cut.
    Cuts,
    /// Waits of outputs, by their power of two in us: the first of [`WAITS`].
    Waits,
}

/// Waits are counted in so many steps ([`ftl_core::replica::gate::Stats`]).
const WAITS: usize = 24;
const _: () = assert!(Figure::Waits as usize + WAITS <= 64);

/// [`Figure::Role`] of an image that runs here.
pub const PRIMARY: u64 = 1;
/// [`Figure::Role`] of a standby.
pub const STANDBY: u64 = 2;

/// Stores a figure.
pub fn set(f: Figure, v: u64) {
    // SAFETY: mapped by the supervisor before the first process, or by the standby.
    unsafe { control::get() }.figures[f as usize].store(v, Relaxed);
}

fn get(f: Figure) -> u64 {
    // SAFETY: as above.
    unsafe { control::get() }.figures[f as usize].load(Relaxed)
}

/// Why the last snapshot for a backup could not be taken; empty if it could.
pub fn set_no_backup(why: &str) {
    // SAFETY: as above.
    unsafe { control::get() }.no_backup.set(why.as_bytes());
}

/// This process keeps a backup, and the image does not run here. It does as soon as it is being taken over.
pub fn is_standby() -> bool {
    // SAFETY: as above.
    let nobody = unsafe { control::get() }.holder.load(Acquire) == 0;
    nobody && get(Figure::Role) == STANDBY
}

/// The primary's figures.
///
/// `now`: the image's clock.
pub fn publish(g: &Guard, now: u64) {
    let stats = g.primary.gate().stats();
    let promised = g.primary.promised();
    set(Figure::Position, promised.position);
    set(Figure::Acked, g.primary.backup().map_or(0, |(_, m)| m.position));
    set(Figure::Released, stats.released);
    set(Figure::ZeroWait, stats.zero_wait);
    set(Figure::WaitNs, stats.wait_ns);
    set(Figure::LongestNs, stats.longest_ns);
    set(Figure::HeldBytes, g.primary.gate().bytes());
    set(Figure::Dropped, stats.dropped);
    set(Figure::HorizonStalls, stats.horizon_stalls);
    set(Figure::Snapshots, g.pauses.0);
    set(Figure::PauseNs, g.pauses.1);
    set(Figure::PauseMaxNs, g.pauses.2);
    set(Figure::LogBytes, g.log_bytes);
    set(Figure::LagBytes, g.lag.bytes(g.log_bytes));
    // As the host's clock has it: the image's is another one behind a takeover.
    let since = match g.lag.since() {
        0 => 0,
        since => sys::clock_ns(libc::CLOCK_MONOTONIC)
            .saturating_sub(now.saturating_sub(since))
            .max(1),
    };
    set(Figure::LagSince, since);
    set(Figure::LogRate, g.lag.rate);
    for (n, count) in stats.waits.iter().enumerate() {
        // SAFETY: as above.
        unsafe { control::get() }.figures[Figure::Waits as usize + n].store(*count, Relaxed);
    }
    set(Figure::Updated, sys::clock_ns(libc::CLOCK_MONOTONIC));
}

/// The recorder's figures.
pub fn publish_record(r: &Recorder) {
    let asked = r.asked.iter().fold((0, 0), |sum, a| (sum.0 + a.0, sum.1 + a.1));
    let at_door = r.reads.0 + r.reads.1;
    // Logical time counts entries, and clock reads; the vDSO answers only those that are as predicted.
    let reads = super::image_time()
        .e
        .saturating_sub(crate::run::entries())
        .max(at_door);
    set(Figure::Predicted, reads + asked.0);
    set(Figure::Missed, r.reads.1 + asked.1);
    set(Figure::Cuts, r.cuts.0);
}

/// How far the backup is behind.
#[derive(Debug, Default)]
pub struct Lag {
    /// Position behind each frame that is not acknowledged, bytes of the log there, and when it was made, ns.
    frames: VecDeque<(u64, u64, u64)>,
    /// Bytes of the log that are acknowledged.
    acked: u64,
    /// Bytes of log frames in the last whole second.
    pub rate: u64,
    /// When that ended, ns, and bytes of the log then.
    second: (u64, u64),
}

impl Lag {
    /// A frame ends at this position of the log, and this byte of it.
    pub fn given(&mut self, position: u64, bytes: u64, now: u64) {
        self.frames.push_back((position, bytes, now));
    }

    /// The backup has all before this position; none: there is no backup to be behind.
    pub fn acked(&mut self, position: Option<u64>) {
        while let Some((_, bytes, _)) = self.frames.pop_front_if(|f| position.is_none_or(|p| f.0 <= p)) {
            self.acked = bytes;
        }
    }

    /// The log has so many bytes now.
    pub fn tick(&mut self, bytes: u64, now: u64) {
        let (since, before) = self.second;
        if now.saturating_sub(since) >= SECOND {
            let passed = u128::from(now - since);
            let rate = u128::from(bytes - before) * u128::from(SECOND) / passed;
            self.rate = if since == 0 { 0 } else { rate as u64 };
            self.second = (now, bytes);
        }
    }

    /// Of a log with so many bytes, those that are not acknowledged.
    fn bytes(&self, log: u64) -> u64 {
        match self.frames.is_empty() {
            true => 0,
            false => log.saturating_sub(self.acked),
        }
    }

    /// Since when the oldest frame waits, ns; 0: none does.
    fn since(&self) -> u64 {
        self.frames.front().map_or(0, |f| f.2)
    }
}

/// In ns.
const SECOND: u64 = 1_000_000_000;

/// Identity of this build, as text: an image and its backup need the same.
pub fn build() -> String {
    crate::door::record::build_id()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// The figures as an answer to `status`.
pub fn read() -> Value {
    let mut figures = figures();
    figures["build"] = json!(build());
    figures
}

fn figures() -> Value {
    const PHASES: [(Phase, &str); 7] = [
        (Phase::Boot, "boot"),
        (Phase::Solo, "solo"),
        (Phase::Sync, "sync"),
        (Phase::Prot, "protected"),
        (Phase::Hold, "hold"),
        (Phase::Handover, "handover"),
        (Phase::Fenced, "fenced"),
    ];
    let phase = PHASES
        .iter()
        .find(|(p, _)| *p as u64 == get(Figure::Phase))
        .map_or("unknown", |p| p.1);
    match get(Figure::Role) {
        STANDBY => json!({"role": "standby", "taking_over": !is_standby(), "epoch": get(Figure::Epoch),
            "records": get(Figure::Position), "ready": get(Figure::Acked) != 0, "log_bytes": get(Figure::LogBytes)}),
        PRIMARY => {
            let protected = phase == "protected";
            let released = get(Figure::Released);
            let (snaps, pauses) = (get(Figure::Snapshots), get(Figure::PauseNs));
            let now = sys::clock_ns(libc::CLOCK_MONOTONIC);
            let ms_since = |f: Figure| match get(f) {
                0 => None,
                at => Some(now.saturating_sub(at) / 1_000_000),
            };
            // SAFETY: as above.
            let waits = &unsafe { control::get() }.figures[Figure::Waits as usize..][..WAITS];
            let waits: Vec<u64> = waits.iter().map(|w| w.load(Relaxed)).collect();
            // SAFETY: as above.
            let no_backup = unsafe { control::get() }.no_backup.get();
            json!({
                "role": "primary", "state": phase, "protected": protected, "epoch": get(Figure::Epoch),
                "no_backup": if protected { "".into() } else { String::from_utf8_lossy(&no_backup) },
                "sends_root": !protected && get(Figure::SendsRoot) != 0,
                "rpo_records": if protected { Value::from(0) } else { Value::Null },
                "records": get(Figure::Position),
                "lag_records": get(Figure::Position).saturating_sub(get(Figure::Acked)),
                "lag_bytes": get(Figure::LagBytes), "lag_ms": ms_since(Figure::LagSince).unwrap_or(0),
                "log_bytes": get(Figure::LogBytes), "log_bytes_per_s": get(Figure::LogRate),
                "snapshot_age_ms": ms_since(Figure::SnapshotAt),
                "choices": get(Figure::Predicted), "choices_not_predicted": get(Figure::Missed), "cuts": get(Figure::Cuts),
                "waits_us_log2": waits, "wait_us_sum": get(Figure::WaitNs) / 1000,
                "outputs": released, "outputs_without_wait": get(Figure::ZeroWait),
                "wait_us_mean": get(Figure::WaitNs).checked_div(released).unwrap_or(0) / 1000,
                "wait_us_max": get(Figure::LongestNs) / 1000,
                "held_bytes": get(Figure::HeldBytes), "dropped": get(Figure::Dropped),
                "horizon_stalls": get(Figure::HorizonStalls),
                "snapshots": snaps, "pause_us_mean": pauses.checked_div(snaps).unwrap_or(0) / 1000,
                "pause_us_max": get(Figure::PauseMaxNs) / 1000, "compared_pages": get(Figure::Compared),
                "takeover_us": get(Figure::TakeoverNs) / 1000,
                "age_ms": sys::clock_ns(libc::CLOCK_MONOTONIC).saturating_sub(get(Figure::Updated)) / 1_000_000,
            })
        }
        _ => json!({"role": "none", "protected": false}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_what_was_given_and_not_acknowledged() {
        let mut lag = Lag::default();
        assert_eq!((lag.bytes(0), lag.since()), (0, 0));
        lag.given(3, 100, 7 * SECOND);
        lag.given(5, 150, 8 * SECOND);
        assert_eq!((lag.bytes(150), lag.since()), (150, 7 * SECOND));
        lag.acked(Some(4));
        assert_eq!((lag.bytes(150), lag.since()), (50, 8 * SECOND));
        lag.acked(Some(5));
        assert_eq!((lag.bytes(150), lag.since()), (0, 0));
        lag.given(9, 190, 9 * SECOND);
        // The backup is lost.
        lag.acked(None);
        assert_eq!((lag.bytes(190), lag.since()), (0, 0));
    }

    #[test]
    fn a_rate_is_of_a_whole_second() {
        let mut lag = Lag::default();
        lag.tick(1000, 5 * SECOND);
        assert_eq!(lag.rate, 0, "since when is not known");
        lag.tick(1500, 5 * SECOND + SECOND / 2);
        assert_eq!(lag.rate, 0);
        lag.tick(3000, 7 * SECOND);
        assert_eq!(lag.rate, 1000);
    }
}
