//! Keys of a cluster in etcd, by the same JSON gateway as the arbiter's register.
//!
//! | key below the prefix | value | lives |
//! |---|---|---|
//! | `meta` | identity of the cluster | for ever |
//! | `nodes/NODE` | address, failure domain, memory | with the node's lease |
//! | `cordon/NODE` | the node is being drained | until `ftvm uncordon` |
//! | `apps/APP` | what is to run ([`super::spec`]), and the identity of its image | until `ftvm down` |
//! | `place/APP` | primary and backup that are wanted ([`super::schedule`]) | with the app |
//! | `status/APP/NODE` | what a node has of an app | with the node's lease |
//!
//! Nodes **poll** (one range over the prefix, one transaction that reads the registers of the apps) and do not watch:
//! what a node does depends on what is, not on what has changed, so it wants everything anyway; a cluster is some
//! kilobytes; and a watch over the gateway is an answer without an end, whose silence does not tell a quiet cluster
//! from a dead member. Detection of failures does not wait for a poll: backups take over by themselves.
//!
//! Reads are linearizable. A write whose outcome is unknown counts as not done: whoever wrote reads again before it
//! acts, and every write is a compare-and-swap or says the same whenever it comes.

use crate::protect::etcd::{Gateway, PREFIX, number, register_key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ftl_core::replica::arbiter::Register;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a member may take. The cluster is in no hurry: takeovers do not wait for it.
const PATIENCE: Duration = Duration::from_millis(800);
/// Operations that etcd takes in one transaction, by default.
const MAX_OPS: usize = 100;

/// A value with the revision that a swap must name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// Never 0; different for every change.
    pub rev: u64,
}

/// Keys below the prefix, without it.
pub type Keys = BTreeMap<String, Entry>;

/// An operation of a transaction.
#[derive(Clone, Debug)]
pub enum Op {
    /// Sets a key; with a lease, until that ends.
    Put(String, Value, Option<u64>),
    /// Removes a key.
    Delete(String),
}

/// A cluster's part of etcd.
pub struct Store {
    gateway: Gateway,
    prefix: String,
    registers: String,
    /// Revision of the store at the last [`Store::read`].
    pub revision: u64,
}

impl Store {
    /// The store that an arbiter's URL names; `keys`: directory of the keys for `etcds://`.
    pub fn open(url: &str, keys: Option<&std::path::Path>) -> Result<Store, String> {
        let (gateway, prefix) =
            Gateway::new(url, keys, PATIENCE).map_err(|why| format!("a cluster needs an etcd: {why}"))?;
        Ok(Store {
            gateway,
            prefix: prefix
                .as_ref()
                .map_or("ftvm/cluster".to_string(), |p| format!("{p}/cluster")),
            registers: prefix.unwrap_or_else(|| PREFIX.to_string()),
            revision: 0,
        })
    }

    /// What to say when there is no answer.
    pub fn silence(&self) -> String {
        match self.gateway.why() {
            "" => "no member of etcd answers".to_string(),
            why => format!("no member of etcd answers: {why}"),
        }
    }

    fn key(&self, name: &str) -> String {
        BASE64.encode(format!("{}/{name}", self.prefix))
    }

    /// All keys of the cluster. `None`: no member answers.
    pub fn read(&mut self) -> Option<Keys> {
        let from = format!("{}/", self.prefix);
        // The first key behind all that begin so.
        let end = format!("{}0", self.prefix);
        let body = json!({"key": BASE64.encode(&from), "range_end": BASE64.encode(end)});
        let v = self.gateway.call("kv/range", &body)?;
        self.revision = number(&v.get("header")?["revision"])?;
        let mut keys = Keys::new();
        for kv in v["kvs"].as_array().into_iter().flatten() {
            let (Some((key, value)), Some(rev)) = (pair(kv), number(&kv["mod_revision"])) else {
                continue;
            };
            // What another program has put there is no value of ours.
            let Ok(value) = serde_json::from_slice(&value) else {
                continue;
            };
            if let Some(name) = String::from_utf8(key)
                .ok()
                .and_then(|k| k.strip_prefix(&from).map(str::to_string))
            {
                keys.insert(name, Entry { value, rev });
            }
        }
        Some(keys)
    }

    /// The registers of images, those that there are.
    pub fn registers(&mut self, images: &[u64]) -> Option<BTreeMap<u64, Register>> {
        let mut all = BTreeMap::new();
        for some in images.chunks(MAX_OPS) {
            let range = |image: &u64| json!({"requestRange": {"key": BASE64.encode(register_key(&self.registers, *image))}});
            let body = json!({"success": some.iter().map(range).collect::<Vec<_>>()});
            let v = self.gateway.call("kv/txn", &body)?;
            v.get("header")?;
            let answers = v["responses"].as_array()?;
            for (image, answer) in some.iter().zip(answers) {
                let kv = &answer["response_range"]["kvs"][0];
                if let Some(r) = pair(kv).and_then(|(_, v)| Register::decode(&v).ok()) {
                    all.insert(*image, r);
                }
            }
        }
        Some(all)
    }

    /// Does all of it if each key still has its revision (0: there is none yet). `None`: not known.
    pub fn swap(&mut self, expect: &[(&str, u64)], ops: &[Op]) -> Option<bool> {
        let compare: Vec<Value> = expect
            .iter()
            .map(|(key, rev)| {
                json!({"key": self.key(key), "target": "MOD", "result": "EQUAL", "mod_revision": rev.to_string()})
            })
            .collect();
        let body = json!({"compare": compare, "success": self.ops(ops)});
        let v = self.gateway.call_once("kv/txn", &body)?;
        v.get("header")?;
        // The gateway leaves false out.
        Some(v["succeeded"] == true)
    }

    /// Does all of it, whatever is there: for what says the same whenever it comes.
    pub fn write(&mut self, ops: &[Op]) -> Option<()> {
        for some in ops.chunks(MAX_OPS) {
            let body = json!({"success": self.ops(some)});
            let v = self.gateway.call("kv/txn", &body)?;
            v.get("header")?;
        }
        Some(())
    }

    fn ops(&self, ops: &[Op]) -> Vec<Value> {
        ops.iter()
            .map(|op| match op {
                Op::Put(key, value, lease) => json!({"requestPut": {
                    "key": self.key(key), "value": BASE64.encode(value.to_string()),
                    "lease": lease.unwrap_or(0).to_string(),
                }}),
                Op::Delete(key) => json!({"requestDeleteRange": {"key": self.key(key)}}),
            })
            .collect()
    }

    /// A lease that ends unless it is kept, after about so many seconds.
    pub fn grant(&mut self, seconds: u64) -> Option<u64> {
        let v = self
            .gateway
            .call("lease/grant", &json!({"TTL": seconds.to_string()}))?;
        number(&v["ID"]).filter(|id| *id != 0)
    }

    /// Keeps a lease. `Some(false)`: it has ended.
    pub fn renew(&mut self, lease: u64) -> Option<bool> {
        let v = self
            .gateway
            .call("lease/keepalive", &json!({"ID": lease.to_string()}))?;
        v["result"].get("header")?;
        Some(number(&v["result"]["TTL"]).is_some_and(|ttl| ttl > 0))
    }

    /// Ends a lease, and its keys with it.
    pub fn revoke(&mut self, lease: u64) {
        let _ = self
            .gateway
            .call("lease/revoke", &json!({"ID": lease.to_string()}));
    }
}

fn pair(kv: &Value) -> Option<(Vec<u8>, Vec<u8>)> {
    let part = |name: &str| BASE64.decode(kv[name].as_str()?).ok();
    Some((part("key")?, part("value")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::etcd::testing::{free_port, start};

    fn put(key: &str, n: u64, lease: Option<u64>) -> Op {
        Op::Put(key.to_string(), json!({"n": n}), lease)
    }

    #[test]
    fn keys_swap_once_and_end_with_their_lease() {
        let mut etcd = start();
        let dead = free_port();
        let url = |prefix: &str| format!("etcd://127.0.0.1:{dead},127.0.0.1:{}/{prefix}", etcd.2);
        let mut s = Store::open(&url("a"), None).expect("a store");
        let mut other = Store::open(&url("ab"), None).expect("a store");
        etcd.ready(|| s.read() == Some(Keys::new()));
        // What a member does not answer is not known; the other is asked next.
        let first = s.swap(&[("apps/x", 0)], &[put("apps/x", 1, None)]);
        assert!(first.is_some() || s.swap(&[("apps/x", 0)], &[put("apps/x", 1, None)]) == Some(true));
        assert_eq!(s.swap(&[("apps/x", 0)], &[put("apps/x", 2, None)]), Some(false));
        let keys = s.read().expect("keys");
        let rev = keys["apps/x"].rev;
        assert_eq!(keys["apps/x"].value, json!({"n": 1}));
        // All or nothing.
        let both = [put("apps/x", 3, None), put("place/x", 3, None)];
        assert_eq!(s.swap(&[("apps/x", rev), ("place/x", 9)], &both), Some(false));
        assert_eq!(s.swap(&[("apps/x", rev), ("place/x", 0)], &both), Some(true));
        let lease = s.grant(2).expect("a lease");
        assert_eq!(s.renew(lease), Some(true));
        s.write(&[put("nodes/n", 1, Some(lease)), Op::Delete("place/x".to_string())])
            .expect("written");
        let names: Vec<String> = s.read().expect("keys").into_keys().collect();
        assert_eq!(names, ["apps/x", "nodes/n"]);
        assert_eq!(other.read(), Some(Keys::new()), "another prefix");
        s.revoke(lease);
        assert_eq!(s.renew(lease), Some(false));
        let names: Vec<String> = s.read().expect("keys").into_keys().collect();
        assert_eq!(names, ["apps/x"]);
        // Under a lease that has ended nothing is written.
        assert_eq!(s.write(&[put("nodes/n", 1, Some(lease))]), None);
        assert_eq!(s.registers(&[1, 2]), Some(BTreeMap::new()));
        let _ = etcd.0.kill();
        let _ = etcd.0.wait();
        assert_eq!(s.read(), None);
        assert!(Store::open("file:x", None).is_err());
    }
}
