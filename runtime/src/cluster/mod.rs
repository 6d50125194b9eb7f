//! A cluster: nodes that run protected apps for one another, agreed on in etcd.
//!
//! * [`appfile`], [`spec`]: what is to run. [`store`]: the keys. [`view`]: what they say together with the images' registers.
//! * [`schedule`]: where apps are to be; pure. [`reconcile`]: what a node has to do about it; pure.
//! * [`node`]: the daemon that does it (`ftvm node join`), with [`agents`], [`enter`] and [`images`]. [`metrics`], [`notify`]: for Prometheus and systemd.
//!   [`load`]: for `ftvm top`.
//!
//! # What it may be wrong about
//!
//! Anything, without an answer being lost or two nodes answering as one image (I3, I6, I7). Who may emit is decided by the
//! epoch register of each image and by nothing here: leases, keys, views and placements only decide which orders are
//! *asked for*, and each order is one that an operator could give at any moment (`ftvm run --protect`, `protect`,
//! `switchover`, `stop`):
//!
//! * **Started twice** (a node that was believed dead begins late): both have the same identity, both try to create the
//!   same register, and one of them is fenced before it has emitted anything.
//! * **A node believed dead that lives**: its images go on, their backups stay in the set. A new backup joins the set
//!   by the primary's own compare-and-swap.
//! * **A backup replaced for no reason**: the primary takes the old one out of the set first, as it does with one that died;
//!   until the new one is in sync the image says UNPROTECTED.
//! * **A switchover to a backup that is none**: refused by the image.
//!
//! What it does decide is when a run is *stopped*: on a node that reads, linearizably and from the cluster that it joined,
//! that the app is gone or has become another image ([`note`]: an etcd that was emptied or set back says nothing of the kind). A node that does not reach etcd stops nothing and starts nothing.

pub mod agents;
pub mod appfile;
pub mod enter;
pub mod images;
pub mod load;
pub mod metrics;
pub mod node;
pub mod note;
pub mod notify;
pub mod reconcile;
pub mod schedule;
pub mod spec;
pub mod store;
pub mod view;

use serde_json::Value;

/// A node's number in registers: from its name, so that every node knows every other's.
pub fn node_id(name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    let mut id = [0; 8];
    id.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(id)
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn text_of(v: &Value, field: &str) -> Option<String> {
    v[field].as_str().map(str::to_string)
}

fn texts(v: &Value) -> Option<Vec<String>> {
    v.as_array()?
        .iter()
        .map(|t| t.as_str().map(str::to_string))
        .collect()
}
