//! What `ftvm status` shows: figures that the image's processes, or the standby, leave in the control page.

use super::guard::Guard;
use crate::control;
use crate::sys;
use ftl_core::replica::primary::Phase;
use serde_json::{Value, json};
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
}

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

/// This process keeps a backup, and the image does not run here. It does as soon as it is being taken over.
pub fn is_standby() -> bool {
    // SAFETY: as above.
    let nobody = unsafe { control::get() }.holder.load(Acquire) == 0;
    nobody && get(Figure::Role) == STANDBY
}

/// The primary's figures.
pub fn publish(g: &Guard) {
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
    set(Figure::Updated, sys::clock_ns(libc::CLOCK_MONOTONIC));
}

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
        STANDBY => json!({"role": "standby", "epoch": get(Figure::Epoch), "records": get(Figure::Position),
            "ready": get(Figure::Acked) != 0, "log_bytes": get(Figure::LogBytes)}),
        PRIMARY => {
            let protected = phase == "protected";
            let released = get(Figure::Released);
            let (snaps, pauses) = (get(Figure::Snapshots), get(Figure::PauseNs));
            json!({
                "role": "primary", "state": phase, "protected": protected, "epoch": get(Figure::Epoch),
                "sends_root": !protected && get(Figure::SendsRoot) != 0,
                "rpo_records": if protected { Value::from(0) } else { Value::Null },
                "records": get(Figure::Position),
                "lag_records": get(Figure::Position).saturating_sub(get(Figure::Acked)),
                "log_bytes": get(Figure::LogBytes),
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
