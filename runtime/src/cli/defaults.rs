//! Rows of docs/defaults.md about snapshots and protection; [`super::docs`] has the others and the page.

use super::docs::{Row4, bytes, time};
use crate::cluster::{appfile, node};
use crate::protect::{Policy, connect, guard};
use crate::snap::capture;
use crate::snap::volumes::hold;
use ftl_core::replica::{Config, MAX_BURST, Member};

/// What a snapshot takes along.
pub fn snapshots() -> Vec<Row4> {
    vec![
        (
            "deleted files",
            bytes(capture::MOST_NAMELESS),
            "runtime::snap::capture::MOST_NAMELESS",
            "contents of an open file without a name that a snapshot holds; it is refused beyond",
        ),
        (
            "volumes",
            bytes(hold::MOST_PAGES * ftl_core::layout::PAGE),
            "runtime::snap::volumes::hold::MOST_PAGES",
            "contents of all volumes that a snapshot holds, without holes; it is refused beyond",
        ),
    ]
}

/// What primary and backup are told at their start.
pub fn protection() -> Vec<Row4> {
    let c = Config::new(0, Member { node: 0, inc: 0 });
    let mut rows = links(&c);
    rows.extend([
        (
            "horizon",
            format!("{} entries and {}", c.horizon_entries, time(c.horizon_ns)),
            "ftcore::replica::Config::horizon_entries, horizon_ns",
            "how far ahead silence is promised to mean \"as predicted\"; renewed when half of it is used",
        ),
        (
            "horizon, idle",
            time(c.horizon_idle_ns),
            "ftcore::replica::Config::horizon_idle_ns",
            "the same while nothing can run",
        ),
        (
            "gate",
            bytes(c.gate_bytes),
            "ftcore::replica::Config::gate_bytes",
            "outputs that wait for the backup; beyond, packets are lost and streams make the program wait",
        ),
        (
            "burst",
            MAX_BURST.to_string(),
            "ftcore::replica::MAX_BURST",
            "outputs that are sent between two looks at the link",
        ),
        (
            "slow backup",
            format!("{} late or {} behind", time(c.slow_ns), bytes(c.slow_bytes)),
            "ftcore::replica::Config::slow_ns, slow_bytes",
            "from there on `--on-slow-backup` applies",
        ),
        (
            "replay at a takeover",
            time(Policy::DEFAULT.recovery_ns),
            "runtime::protect::Policy::DEFAULT",
            "an image that has run for half of this since the last snapshot for its backup takes another",
        ),
        (
            "run per pause",
            guard::RUN_PER_PAUSE.to_string(),
            "runtime::protect::guard::RUN_PER_PAUSE",
            "but not before it has run for so many times as long as the last one stopped it",
        ),
        (
            "end",
            time(guard::END_PATIENCE_NS),
            "runtime::protect::guard::END_PATIENCE_NS",
            "how long the end of an image waits for a backup that does not confirm it; exit 125 then",
        ),
    ]);
    rows
}

/// What nodes of a cluster go by.
pub fn clusters() -> Vec<Row4> {
    let of = |t: std::time::Duration| time(t.as_nanos() as u64);
    let seconds = |s: u64| time(s * 1_000_000_000);
    vec![
        (
            "lease",
            seconds(super::cluster::TTL),
            "runtime::cli::cluster::TTL",
            "a node that is not heard for this long gets nothing new (`--ttl`)",
        ),
        (
            "look",
            of(node::POLL),
            "runtime::cluster::node::POLL",
            "time between two readings of the cluster's keys, unless one has changed something",
        ),
        (
            "attaching",
            of(node::ATTACH_TIME),
            "runtime::cluster::node::ATTACH_TIME",
            "a backup that is not even copying by then is sought elsewhere",
        ),
        (
            "avoiding",
            format!("{}, {}", of(node::AVOID_TIME), of(node::SILENT_TIME)),
            "runtime::cluster::node::AVOID_TIME, SILENT_TIME",
            "how long a node is avoided where no backup could be attached, or whose agent was not reached",
        ),
        (
            "failed start",
            of(node::RETRY),
            "runtime::cluster::node::RETRY",
            "pause before it is tried again",
        ),
        (
            "daemon that hangs",
            of(node::HANGS),
            "runtime::cluster::node::HANGS",
            "after this long its lease is not kept any more",
        ),
        (
            "memory of an app",
            bytes(appfile::MEMORY),
            "runtime::cluster::appfile::MEMORY",
            "what one without `limits.memory` counts for on a node",
        ),
        (
            "stopping",
            seconds(appfile::STOP_S),
            "runtime::cluster::appfile::STOP_S",
            "between SIGTERM and SIGKILL, without `stop-after`",
        ),
    ]
}

fn links(c: &Config) -> Vec<Row4> {
    vec![
        (
            "heartbeat",
            time(c.heartbeat_ns),
            "ftcore::replica::Config::heartbeat_ns",
            "a frame is sent at least this often",
        ),
        (
            "detection",
            format!("{} to {}", time(c.detect_min_ns), time(c.detect_max_ns)),
            "ftcore::replica::Config::detect_min_ns, detect_max_ns",
            "silence that counts as failure; between the two it follows the link's own gaps",
        ),
        (
            "arbiter",
            format!(
                "{}, again after {}",
                time(c.arbiter_timeout_ns),
                time(c.arbiter_retry_ns)
            ),
            "ftcore::replica::Config::arbiter_timeout_ns, arbiter_retry_ns",
            "without an answer for this long the outcome is unknown, and it is asked again",
        ),
        (
            "switchover",
            time(c.handover_timeout_ns),
            "ftcore::replica::Config::handover_timeout_ns",
            "one that takes longer is called off",
        ),
        (
            "new link",
            time(guard::RETRY_NS),
            "runtime::protect::guard::RETRY_NS",
            "pause between attempts to reach the backup's agent",
        ),
        (
            "dead link",
            time(connect::SILENCE_MS as u64 * 1_000_000),
            "runtime::protect::connect::SILENCE_MS",
            "a link on which nothing is acknowledged for this long is given up",
        ),
    ]
}
