//! What a node keeps on its own disk of the cluster that it is in: etcd may be emptied, or set back to a copy of yesterday, and what it
//! does not name then is not "gone".

use super::{hex, text_of};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeNote {
    /// URL of its etcd.
    pub arbiter: String,
    /// Name of the node.
    pub node: String,
    /// Directory of its keys for etcd, if it has one.
    pub keys: Option<PathBuf>,
    /// Identity of the cluster; none: it was never in one.
    pub cluster: Option<u64>,
    /// The latest revision of the store that it has seen, some seconds old at most.
    pub revision: u64,
}

impl NodeNote {
    /// The node that was joined from this host, if one was.
    pub fn read(path: &Path) -> Option<NodeNote> {
        let v: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        Some(NodeNote {
            arbiter: text_of(&v, "arbiter")?,
            node: text_of(&v, "node")?,
            keys: text_of(&v, "keys").map(PathBuf::from),
            cluster: text_of(&v, "cluster").and_then(|t| hex(&t)),
            revision: v["revision"].as_u64().unwrap_or(0),
        })
    }

    /// Whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let v = json!({
            "version": 1,
            "arbiter": self.arbiter,
            "node": self.node,
            "keys": self.keys,
            "cluster": self.cluster.map(|c| format!("{c:016x}")),
            "revision": self.revision,
        });
        let new = path.with_extension("new");
        std::fs::write(&new, format!("{v}\n"))
            .and_then(|()| std::fs::rename(&new, path))
            .map_err(|e| format!("{}: {}", path.display(), crate::cli::reason(&e)))
    }

    /// Why this store is not the one that the node was in.
    pub fn differs(&self, cluster: Option<u64>, revision: u64) -> Option<String> {
        let known = self.cluster?;
        match cluster {
            None => Some("etcd holds no cluster any more".to_string()),
            Some(id) if id != known => Some(format!(
                "etcd holds another cluster ({id:016x}, not {known:016x})"
            )),
            _ if revision < self.revision => Some(format!(
                "etcd is older than this node knows it (revision {revision}, not {})",
                self.revision
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_emptied_or_set_back_is_another() {
        let path = std::env::temp_dir().join(format!("ftl-node-{}.json", std::process::id()));
        let mut note = NodeNote {
            arbiter: "etcd://x:1".to_string(),
            node: "n1".to_string(),
            keys: Some(PathBuf::from("/etc/ftvm/keys")),
            cluster: None,
            revision: 0,
        };
        assert_eq!(note.differs(None, 0), None, "it was in none");
        (note.cluster, note.revision) = (Some(7), 20);
        note.write(&path).expect("written");
        let read = NodeNote::read(&path).expect("read");
        assert_eq!(read, note);
        assert_eq!(read.differs(Some(7), 20), None);
        assert_eq!(read.differs(Some(7), 21), None);
        assert!(read.differs(Some(7), 19).is_some());
        assert!(read.differs(Some(8), 30).is_some());
        assert!(read.differs(None, 30).is_some());
        let _ = std::fs::remove_file(&path);
    }
}
