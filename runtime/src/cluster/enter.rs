//! What a node looks at before it takes part: whether the store is that of its cluster, and whether its name is free.

use super::node::{Config, POLL, joined};
use super::note::NodeNote;
use super::store::{Op, Store};
use super::view::View;
use crate::cli::state::Run;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The cluster, whose identity the first node makes. A store that was emptied, is another one, or was set back is not joined by
/// itself: what it does not name would seem to be gone.
pub fn identity(store: &mut Store, cfg: &Config) -> Result<NodeNote, String> {
    let path = joined()?;
    let before = NodeNote::read(&path).unwrap_or_default();
    for _ in 0..20 {
        let Some(keys) = store.read() else {
            std::thread::sleep(POLL);
            continue;
        };
        let id = View::new(&keys, &BTreeMap::new()).id;
        let differs = before.differs(id, store.revision);
        if let Some(why) = differs.as_ref().filter(|_| !cfg.new_cluster) {
            return Err(format!(
                "{why}: was it emptied, or restored from a backup? Apps of this node run on. --new-cluster joins it as it is, and \
                 leaves what runs here and is not in it to you"
            ));
        }
        let Some(id) = id else {
            let id = format!("{:016x}", crate::protect::standby::random());
            let meta = Op::Put("meta".to_string(), json!({"version": 1, "id": id}), None);
            store.swap(&[("meta", 0)], &[meta]);
            continue;
        };
        if differs.is_some() {
            disown(id, store.revision)?;
        }
        let note = NodeNote {
            arbiter: cfg.ways.arbiter.clone(),
            node: cfg.name.clone(),
            keys: cfg.keys.clone(),
            cluster: Some(id),
            revision: store.revision,
        };
        return note.write(&path).map(|()| note);
    }
    Err(format!(
        "{}; is the address right, and does it run?",
        store.silence()
    ))
}

/// Runs that a store does not know, as it is another or older than they are, are nobody's.
fn disown(cluster: u64, revision: u64) -> Result<(), String> {
    for run in Run::all().unwrap_or_default() {
        let Some(mut claim) = run.app() else { continue };
        if claim.cluster != cluster || claim.revision > revision {
            if run.pid().is_some() {
                tracing::warn!(
                    run = run.name,
                    "{}: it is not of this cluster and runs on, with its address; ftvm stop ends it",
                    run.name
                );
            }
            claim.cluster = 0;
            run.note_app(&claim)?;
        }
    }
    Ok(())
}

/// Waits until no other node of this name holds a lease.
pub fn alone(store: &mut Store, cfg: &Config) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(cfg.ttl * 2 + 5);
    loop {
        let view = store.read().map(|k| View::new(&k, &BTreeMap::new()));
        let late = Instant::now() > end;
        match view.as_ref().map(|v| v.nodes.get(&cfg.name)) {
            // One at our own address has died: else we could not listen there.
            Some(other) if other.is_none_or(|n| n.agent == cfg.listen) => return Ok(()),
            Some(Some(n)) if late => {
                return Err(format!(
                    "a node named {} is in the cluster already, at {}; give this one another --name",
                    cfg.name, n.agent
                ));
            }
            None if late => return Err(store.silence()),
            _ => std::thread::sleep(POLL),
        }
    }
}
