//! What both machines are told at their start.

use super::arbiter::Member;
use crate::platform::Ns;

/// What to do when the backup lives but does not keep up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OnSlow {
    /// Slow the image down: it stays protected.
    Throttle,
    /// Go on without the backup: UNPROTECTED, and `status` says so.
    Detach,
}

/// What happens to outputs while there is no backup.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unprotected {
    /// Held until there was a backup for the first time, or the image has ended; they leave after one was lost. The
    /// default.
    HoldUntilSynced,
    /// Always held: nothing leaves that one failure could lose.
    Hold,
    /// They leave.
    Run,
}

/// What an output waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Commit {
    /// The records before it.
    Log,
    /// A snapshot taken after it, as in Remus (Cully et al., NSDI 2008). The log is shipped all the same, so that a
    /// takeover is the same: a control for measurements.
    Snapshot,
}

/// A rule that is left out on purpose: the model and the simulator must notice. Tests only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mutant {
    /// The primary goes on alone before the arbiter has agreed.
    DetachBeforeCas,
    /// The backup joins the in-sync set while outputs still leave ungated.
    JoinBeforeGate,
    /// The in-sync set is read as names of hosts.
    HostsNotIncarnations,
    /// The backup promotes itself on silence alone.
    PromoteWithoutCas,
    /// The gate looks at the log's position only.
    GateWithoutHorizon,
    /// The backup goes on acking after its compare-and-swap was sent.
    AckAfterCas,
    /// The primary takes acks of any session and incarnation.
    AckOfAnyone,
    /// A compare-and-swap of unknown outcome counts as failed once a read shows the old value.
    ForgetUnknown,
    /// A snapshot comes without the outputs that the gate holds.
    SnapshotWithoutGate,
    /// A switchover that was called off is not forgotten.
    KeepFinal,
}

/// Identity, limits and policies of one node. Plain data.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// Identity of the image; frames of another one are dropped.
    pub image: u64,
    /// This node and this run of its process.
    pub me: Member,
    /// Identity of the runtime's build: a snapshot is bound to it.
    pub build: [u8; 16],
    /// A frame is sent at least this often.
    pub heartbeat_ns: Ns,
    /// Silence that counts as failure, at least and at most; between them it follows the link's own gaps.
    pub detect_min_ns: Ns,
    /// See `detect_min_ns`.
    pub detect_max_ns: Ns,
    /// An arbiter that does not answer for this long has an unknown outcome.
    pub arbiter_timeout_ns: Ns,
    /// Pause before the arbiter is asked again.
    pub arbiter_retry_ns: Ns,
    /// A switchover that takes longer is called off.
    pub handover_timeout_ns: Ns,
    /// A backup whose acks are this late is slow.
    pub slow_ns: Ns,
    /// A backup that is this many bytes of records behind is slow.
    pub slow_bytes: u64,
    /// See [`OnSlow`].
    pub on_slow: OnSlow,
    /// See [`Unprotected`].
    pub unprotected: Unprotected,
    /// See [`Commit`].
    pub commit: Commit,
    /// Entries that a horizon is promised ahead.
    pub horizon_entries: u64,
    /// Virtual time that a horizon is promised ahead while the image runs.
    pub horizon_ns: Ns,
    /// The same while it is idle: a few heartbeats.
    pub horizon_idle_ns: Ns,
    /// Bytes that the gate holds at most.
    pub gate_bytes: u64,
    /// Tests only.
    pub mutant: Option<Mutant>,
}

/// Default of [`Config::detect_min_ns`], ns.
pub const DETECT_NS: Ns = 40_000_000;

impl Config {
    /// The defaults.
    pub fn new(image: u64, me: Member) -> Config {
        const MS: Ns = 1_000_000;
        Config {
            image,
            me,
            build: [0; 16],
            heartbeat_ns: 5 * MS,
            detect_min_ns: DETECT_NS,
            detect_max_ns: 1_000 * MS,
            arbiter_timeout_ns: 250 * MS,
            arbiter_retry_ns: 50 * MS,
            handover_timeout_ns: 1_000 * MS,
            slow_ns: 50 * MS,
            slow_bytes: 64 << 20,
            on_slow: OnSlow::Throttle,
            unprotected: Unprotected::HoldUntilSynced,
            commit: Commit::Log,
            horizon_entries: 20_000,
            horizon_ns: 2 * MS,
            horizon_idle_ns: 20 * MS,
            gate_bytes: 4 << 20,
            mutant: None,
        }
    }

    /// The rule `m` is left out. Constant in a product build.
    pub(super) fn without(&self, m: Mutant) -> bool {
        cfg!(test) && self.mutant == Some(m)
    }
}
