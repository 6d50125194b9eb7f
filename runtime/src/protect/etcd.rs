//! The arbiter's register as a key of etcd, by the JSON gateway that every member serves beside gRPC
//! (`/v3/kv/...`): two calls do, so neither gRPC nor an asynchronous runtime is needed.

use super::arbiter::Store;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ftl_core::replica::arbiter::{Ask, Outcome, Register, Versioned};
use serde_json::{Value, json};
use std::time::Duration;

/// No single member is waited for longer by the arbiter.
const PATIENCE: Duration = Duration::from_millis(200);

/// The members of an etcd, asked over HTTP. A member that does not answer is asked last from then on.
pub struct Gateway {
    agent: ureq::Agent,
    members: Vec<String>,
}

impl Gateway {
    /// `rest` is what follows `etcd://`: the members, and the prefix of keys if one is given. `patience`: how long a
    /// member may take for an answer.
    pub fn new(rest: &str, patience: Duration) -> Result<(Gateway, Option<String>), String> {
        let (members, prefix) = match rest.split_once('/') {
            Some((m, p)) => (m, Some(p)),
            None => (rest, None),
        };
        let members: Vec<String> = members
            .split(',')
            .filter(|m| m.contains(':'))
            .map(str::to_string)
            .collect();
        if members.is_empty() || prefix == Some("") {
            return Err(format!(
                "arbiter etcd://{rest}: give HOST:PORT[,HOST:PORT...][/PREFIX]"
            ));
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(patience))
            .build();
        let gateway = Gateway {
            agent: config.into(),
            members,
        };
        Ok((gateway, prefix.map(str::to_string)))
    }

    /// Asks one member after the other, the last that answered first: for what may be done twice. `what`: the path
    /// below `/v3/`.
    pub fn call(&mut self, what: &str, body: &Value) -> Option<Value> {
        for i in 0..self.members.len() {
            if let Some(v) = self.ask(i, what, body) {
                self.members.swap(0, i);
                return Some(v);
            }
        }
        None
    }

    /// Asks one member only: one that did not answer may have done it all the same.
    pub fn call_once(&mut self, what: &str, body: &Value) -> Option<Value> {
        let answer = self.ask(0, what, body);
        if answer.is_none() {
            self.members.rotate_left(1);
        }
        answer
    }

    fn ask(&self, member: usize, what: &str, body: &Value) -> Option<Value> {
        let url = format!("http://{}/v3/{what}", self.members[member]);
        let mut answer = self.agent.post(&url).send(body.to_string()).ok()?;
        serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
    }
}

/// A register in etcd.
pub struct EtcdStore {
    gateway: Gateway,
    prefix: String,
}

/// Prefix of the registers' keys where the URL names none.
pub const PREFIX: &str = "ftvm/arbiter";

/// The key of an image's register.
pub fn register_key(prefix: &str, image: u64) -> String {
    format!("{prefix}/{image:016x}")
}

impl EtcdStore {
    /// `rest` is what follows `etcd://`.
    pub fn new(rest: &str) -> Result<EtcdStore, String> {
        let (gateway, prefix) = Gateway::new(rest, PATIENCE)?;
        Ok(EtcdStore {
            gateway,
            prefix: prefix.unwrap_or_else(|| PREFIX.to_string()),
        })
    }

    fn read(&mut self, key: &str) -> Option<Outcome> {
        let v = self.gateway.call("kv/range", &json!({ "key": key }))?;
        v.get("header")?;
        let Some(kv) = v["kvs"].get(0) else {
            return Some(Outcome::Is(None));
        };
        let value = BASE64.decode(kv["value"].as_str()?).ok()?;
        Some(Outcome::Is(Some(Versioned {
            value: Register::decode(&value).ok()?,
            rev: number(&kv["mod_revision"])?,
        })))
    }

    fn swap(&mut self, key: &str, expect: u64, value: &Register) -> Option<Outcome> {
        let body = json!({
            "compare": [{"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": expect.to_string()}],
            "success": [{"requestPut": {"key": key, "value": BASE64.encode(value.encode())}}],
        });
        let v = self.gateway.call_once("kv/txn", &body)?;
        let revision = number(&v["header"]["revision"])?;
        Some(match v["succeeded"].as_bool() {
            Some(true) => Outcome::Swapped(revision),
            // The gateway leaves false out.
            _ => Outcome::Refused,
        })
    }
}

/// The gateway writes 64-bit numbers as strings.
pub fn number(v: &Value) -> Option<u64> {
    v.as_str().and_then(|s| s.parse().ok()).or_else(|| v.as_u64())
}

impl Store for EtcdStore {
    fn ask(&mut self, image: u64, ask: &Ask) -> Outcome {
        let key = BASE64.encode(register_key(&self.prefix, image));
        let outcome = match ask {
            Ask::Read => self.read(&key),
            Ask::Cas { expect, value } => self.swap(&key, *expect, value),
        };
        outcome.unwrap_or(Outcome::Unknown)
    }
}

/// An etcd for tests.
#[cfg(test)]
pub mod testing {
    use std::process::{Child, Command, Stdio};

    /// An etcd of one member: its process, its directory, its port for clients.
    pub struct Etcd(pub Child, std::path::PathBuf, pub u16);

    impl Drop for Etcd {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
            let _ = std::fs::remove_dir_all(&self.1);
        }
    }

    /// A port that nobody had just now.
    pub fn free_port() -> u16 {
        let l = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        l.local_addr().expect("its number").port()
    }

    /// Starts one.
    pub fn start() -> Etcd {
        let (client, peer) = (free_port(), free_port());
        let dir = std::env::temp_dir().join(format!("ftl-etcd-{client}"));
        let url = |p| format!("http://127.0.0.1:{p}");
        let child = Command::new("etcd")
            .args([
                "--data-dir",
                &dir.to_string_lossy(),
                "--listen-client-urls",
                &url(client),
            ])
            .args([
                "--advertise-client-urls",
                &url(client),
                "--listen-peer-urls",
                &url(peer),
            ])
            .args([
                "--initial-advertise-peer-urls",
                &url(peer),
                "--initial-cluster",
                &format!("default={}", url(peer)),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is missing: ci/install installs it");
        Etcd(child, dir, client)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{free_port, start};
    use super::*;
    use ftl_core::replica::Member;

    #[test]
    fn a_key_swaps_once_per_revision_and_a_dead_member_is_unknown() {
        let mut etcd = start();
        let dead = free_port();
        let mut s = EtcdStore::new(&format!("127.0.0.1:{dead},127.0.0.1:{}/test", etcd.2)).expect("a store");
        let ready = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            s.ask(7, &Ask::Read) == Outcome::Is(None)
        });
        assert!(ready, "etcd did not start in 10 s");
        let me = Member { node: 1, inc: 2 };
        let register = |epoch| Register {
            epoch,
            primary: me,
            set: vec![me],
        };
        let cas = |expect, epoch| Ask::Cas {
            expect,
            value: register(epoch),
        };
        let Outcome::Swapped(rev) = s.ask(7, &cas(0, 1)) else {
            panic!("not created");
        };
        assert_eq!(s.ask(7, &cas(0, 2)), Outcome::Refused);
        let Outcome::Swapped(next) = s.ask(7, &cas(rev, 2)) else {
            panic!("not swapped");
        };
        assert!(next > rev);
        let Outcome::Is(Some(v)) = s.ask(7, &Ask::Read) else {
            panic!("no value");
        };
        assert_eq!((v.rev, v.value.epoch), (next, 2));
        assert_eq!(s.ask(8, &Ask::Read), Outcome::Is(None), "another image's");
        let _ = etcd.0.kill();
        let _ = etcd.0.wait();
        assert_eq!(s.ask(7, &cas(next, 3)), Outcome::Unknown);
        assert_eq!(s.ask(7, &Ask::Read), Outcome::Unknown);
        assert!(EtcdStore::new("").is_err() && EtcdStore::new("host").is_err());
    }
}
