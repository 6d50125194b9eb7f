//! The arbiter's register as a key of etcd, by the JSON gateway that every member serves beside gRPC
//! (`/v3/kv/...`): two calls do, so neither gRPC nor an asynchronous runtime is needed.
//!
//! | URL | how |
//! |---|---|
//! | `etcd://HOST:PORT,...` | plain HTTP, no password |
//! | `etcds://HOST:PORT,...` | TLS, by the files of a directory ([`keys_dir`]) |
//!
//! | file | what |
//! |---|---|
//! | `etcd-ca.pem` | whom to believe; the host's authorities are not asked |
//! | `etcd-cert.pem`, `etcd-key.pem` | who we are, for members with `--client-cert-auth`; may be missing. Without a CommonName if etcd has users: its gateway refuses those |
//! | `etcd-user` | a line `NAME:PASSWORD`, for an etcd with authentication; may be missing. Nobody else may read it |

use super::arbiter::Store;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ftl_core::replica::arbiter::{Ask, Outcome, Register, Versioned};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider};

/// No single member is waited for longer by the arbiter.
const PATIENCE: Duration = Duration::from_millis(200);
/// A member checks a password on purpose slowly.
const LOGIN_PATIENCE: Duration = Duration::from_secs(5);

/// Directory of the keys for `etcds://`, if the user names one.
pub const ENV_KEYS: &str = "FTVM_ARBITER_KEYS";
/// The same, set by a node's daemon: the program does not see it.
pub const ENV_OWN_KEYS: &str = "FTVM_INTERNAL_ARBITER_KEYS";

const CA: &str = "etcd-ca.pem";
const CERT: &str = "etcd-cert.pem";
const KEY: &str = "etcd-key.pem";
const USER: &str = "etcd-user";

/// Where this process has its keys for etcd: `FTVM_ARBITER_KEYS`, else `--tls-dir`.
pub fn keys_dir(tls_dir: Option<&Path>) -> Option<PathBuf> {
    let named = [ENV_OWN_KEYS, ENV_KEYS].iter().find_map(|name| {
        let dir = std::env::var_os(name).filter(|v| !v.is_empty())?;
        std::path::absolute(dir).ok()
    });
    named.or_else(|| tls_dir.map(Path::to_path_buf))
}

/// The file if it is there.
fn read_if(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {}", path.display(), crate::cli::reason(&e))),
    }
}

fn certificates(path: &Path, text: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let certs: Vec<_> = ureq::tls::parse_pem(text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(c)) => Some(c),
            _ => None,
        })
        .collect();
    match certs.is_empty() {
        true => Err(format!("{}: no certificate is in it", path.display())),
        false => Ok(certs),
    }
}

fn tls(dir: &Path) -> Result<TlsConfig, String> {
    let ca = dir.join(CA);
    let text =
        read_if(&ca)?.ok_or_else(|| format!("{}: missing: the authority of etcd's members", ca.display()))?;
    let roots = certificates(&ca, &text)?;
    let (cert, key) = (dir.join(CERT), dir.join(KEY));
    let own = match (read_if(&cert)?, read_if(&key)?) {
        (Some(c), Some(k)) => {
            let k = PrivateKey::from_pem(&k).map_err(|e| format!("{}: {e}", key.display()))?;
            Some(ClientCert::new_with_certs(&certificates(&cert, &c)?, k))
        }
        (None, None) => None,
        _ => return Err(format!("{}: {CERT} and {KEY} belong together", dir.display())),
    };
    let config = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .client_cert(own);
    Ok(config.build())
}

fn user(dir: &Path) -> Result<Option<(String, String)>, String> {
    let path = dir.join(USER);
    let Some(bytes) = read_if(&path)? else {
        return Ok(None);
    };
    let wrong = |why: &str| format!("{}: {why}", path.display());
    let mode = std::fs::metadata(&path).map_or(0, |m| m.mode());
    if mode & 0o077 != 0 {
        return Err(wrong("others can read the password; chmod 600 it"));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("not text"))?;
    let (name, password) = text
        .trim_end_matches(['\n', '\r'])
        .split_once(':')
        .ok_or_else(|| wrong("write one line, NAME:PASSWORD"))?;
    Ok(Some((name.to_string(), password.to_string())))
}

/// The members of an etcd, asked over HTTP. A member that does not answer is asked last from then on.
pub struct Gateway {
    agent: ureq::Agent,
    scheme: &'static str,
    members: Vec<String>,
    /// Name and password, and what the members gave for them last.
    login: Option<(String, String)>,
    token: Option<String>,
    /// Why there was no answer last.
    why: String,
}

impl Gateway {
    /// By a URL: the members, and the prefix of keys if one is given. `keys`: see [`keys_dir`]. `patience`: how long a
    /// member may take for an answer.
    pub fn new(
        url: &str,
        keys: Option<&Path>,
        patience: Duration,
    ) -> Result<(Gateway, Option<String>), String> {
        let (scheme, rest) = match (url.strip_prefix("etcd://"), url.strip_prefix("etcds://")) {
            (Some(rest), _) => ("http", rest),
            (_, Some(rest)) => ("https", rest),
            _ => ("", ""),
        };
        let (members, prefix) = match rest.split_once('/') {
            Some((m, p)) => (m, Some(p)),
            None => (rest, None),
        };
        if members.contains('@') {
            return Err(format!(
                "an arbiter's URL with a password, which others could see: write NAME:PASSWORD into {USER} beside the keys"
            ));
        }
        let members: Vec<String> = members
            .split(',')
            .filter(|m| m.contains(':'))
            .map(str::to_string)
            .collect();
        if members.is_empty() || prefix == Some("") {
            return Err(format!(
                "arbiter {url}: give etcd://HOST:PORT[,HOST:PORT...][/PREFIX], or etcds://..."
            ));
        }
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(patience))
            .http_status_as_error(false);
        let mut login = None;
        if scheme == "https" {
            let dir = keys.ok_or_else(|| {
                format!("arbiter {url}: which keys? name the directory of {CA} by --tls-dir or by {ENV_KEYS}")
            })?;
            let wrong = |why: String| format!("arbiter {url}: {why}");
            config = config.tls_config(tls(dir).map_err(wrong)?).https_only(true);
            login = user(dir).map_err(wrong)?;
        }
        let gateway = Gateway {
            agent: config.build().into(),
            scheme,
            members,
            login,
            token: None,
            why: String::new(),
        };
        Ok((gateway, prefix.map(str::to_string)))
    }

    /// Why there was no answer last, as a part of a sentence: empty if that is not known.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Members want a name and a password, and forget who has shown them after some minutes of silence.
    pub fn has_login(&self) -> bool {
        self.login.is_some()
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

    fn ask(&mut self, member: usize, what: &str, body: &Value) -> Option<Value> {
        if self.login.is_some() && self.token.is_none() {
            self.log_in(member)?;
        }
        let mut answer = self.post(member, what, body, None)?;
        // A refusal did nothing. A member that was restarted has forgotten us, and rights may have changed.
        if self.login.is_some() && [400, 401].contains(&answer.0) {
            self.log_in(member)?;
            answer = self.post(member, what, body, None)?;
        }
        self.accept(answer)
    }

    fn accept(&mut self, (status, v): (u16, Value)) -> Option<Value> {
        if (200..300).contains(&status) {
            return Some(v);
        }
        let said = [&v["message"], &v["error"], &v]
            .into_iter()
            .find_map(Value::as_str);
        self.why = format!("{} (HTTP {status})", said.unwrap_or("refused"));
        None
    }

    fn log_in(&mut self, member: usize) -> Option<()> {
        self.token = None;
        let (name, password) = self.login.clone()?;
        let body = json!({"name": name, "password": password});
        let answer = self.post(member, "auth/authenticate", &body, Some(LOGIN_PATIENCE))?;
        let v = self.accept(answer)?;
        self.token = v["token"].as_str().map(str::to_string);
        if self.token.is_none() {
            self.why = "it gives nothing for a name and a password".to_string();
        }
        self.token.as_ref().map(|_| ())
    }

    /// Status and answer.
    fn post(
        &mut self,
        member: usize,
        what: &str,
        body: &Value,
        patience: Option<Duration>,
    ) -> Option<(u16, Value)> {
        let url = format!("{}://{}/v3/{what}", self.scheme, self.members[member]);
        let mut request = self.agent.post(&url);
        if let Some(limit) = patience {
            request = request.config().timeout_global(Some(limit)).build();
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        let heard = request.send(body.to_string()).and_then(|mut answer| {
            let text = answer.body_mut().read_to_string()?;
            Ok((answer.status().as_u16(), text))
        });
        match heard {
            Ok((status, text)) => match serde_json::from_str(&text) {
                Ok(v) => Some((status, v)),
                Err(_) if status >= 300 => {
                    Some((status, text.trim().chars().take(200).collect::<String>().into()))
                }
                Err(_) => {
                    self.why = "its answer is not JSON".to_string();
                    None
                }
            },
            Err(e) => {
                self.why = e.to_string();
                None
            }
        }
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
    /// By a URL; `keys`: see [`keys_dir`].
    pub fn new(url: &str, keys: Option<&Path>) -> Result<EtcdStore, String> {
        let (gateway, prefix) = Gateway::new(url, keys, PATIENCE)?;
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

    /// A takeover must not begin with showing a password.
    fn idle(&mut self) {
        if self.gateway.has_login() {
            let key = BASE64.encode(register_key(&self.prefix, 0));
            let _ = self
                .gateway
                .call("kv/range", &json!({"key": key, "count_only": true}));
        }
    }
}

/// An etcd for tests.
#[cfg(test)]
pub mod testing {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    /// An etcd of one member: its process, its directory, its port for clients.
    pub struct Etcd(pub Child, std::path::PathBuf, pub u16);

    impl Drop for Etcd {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
            let _ = std::fs::remove_dir_all(&self.1);
        }
    }

    /// How long one may take to start: a machine may be busy. It is not waited for longer than it lives.
    const STARTS_WITHIN: Duration = Duration::from_secs(120);

    impl Etcd {
        /// Waits until it answers.
        pub fn ready(&mut self, mut answers: impl FnMut() -> bool) {
            let end = Instant::now() + STARTS_WITHIN;
            while !answers() {
                let over = self.0.try_wait().expect("our own process");
                assert_eq!(over, None, "etcd has ended");
                assert!(
                    Instant::now() < end,
                    "etcd does not answer within {STARTS_WITHIN:?}"
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// A port that nobody had just now.
    pub fn free_port() -> u16 {
        let l = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        l.local_addr().expect("its number").port()
    }

    /// Starts one.
    pub fn start() -> Etcd {
        start_with("http", &[])
    }

    /// Starts one whose clients come this way, with more options.
    pub fn start_with(scheme: &str, more: &[String]) -> Etcd {
        let (client, peer) = (free_port(), free_port());
        let dir = std::env::temp_dir().join(format!("ftl-etcd-{client}"));
        let url = |p| match p == client {
            true => format!("{scheme}://127.0.0.1:{p}"),
            false => format!("http://127.0.0.1:{p}"),
        };
        let child = Command::new("etcd")
            .args(more)
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
        let url = format!("etcd://127.0.0.1:{dead},127.0.0.1:{}/test", etcd.2);
        let mut s = EtcdStore::new(&url, None).expect("a store");
        // An image may wait a moment only; here a busy disk decides nothing.
        s.gateway = Gateway::new(&url, None, Duration::from_secs(30))
            .expect("a gateway")
            .0;
        etcd.ready(|| s.ask(7, &Ask::Read) == Outcome::Is(None));
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
        for bad in [
            "",
            "etcd://",
            "etcd://host",
            "etcd://a:1/",
            "etcds://a:1",
            "http://a:1",
            "etcd://u:p@a:1",
        ] {
            assert!(EtcdStore::new(bad, None).is_err(), "{bad}");
        }
    }

    /// An authority, a key of it for the member, one for us, and one of another authority.
    fn make_keys(dir: &Path) {
        use rcgen::{
            BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Use, IsCa, Issuer, KeyPair,
        };
        let authority = || {
            let key = KeyPair::generate().expect("a key");
            let mut p = CertificateParams::new(Vec::new()).expect("parameters");
            p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let pem = p.self_signed(&key).expect("signed").pem();
            (pem, Issuer::new(p, key))
        };
        let signed = |by: &Issuer<'_, KeyPair>, names: &[&str]| {
            let key = KeyPair::generate().expect("a key");
            let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
            let mut p = CertificateParams::new(names).expect("parameters");
            // The member's own gateway is its client.
            p.extended_key_usages = vec![Use::ServerAuth, Use::ClientAuth];
            // With users enabled the gateway takes no client's certificate that names one.
            p.distinguished_name = rcgen::DistinguishedName::new();
            (p.signed_by(&key, by).expect("signed").pem(), key.serialize_pem())
        };
        let write = |name: &str, text: &str| {
            std::fs::write(dir.join(name), text).expect("written");
        };
        let (ca, issuer) = authority();
        let (_, stranger) = authority();
        write(CA, &ca);
        let (cert, key) = signed(&issuer, &["127.0.0.1"]);
        write("server.pem", &cert);
        write("server-key.pem", &key);
        let (cert, key) = signed(&issuer, &["node"]);
        write(CERT, &cert);
        write(KEY, &key);
        let (cert, key) = signed(&stranger, &["node"]);
        write("other.pem", &cert);
        write("other-key.pem", &key);
    }

    #[test]
    fn tls_keys_and_a_password_are_needed_where_etcd_wants_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("ftl-etcds-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        make_keys(&dir);
        let path = |name: &str| dir.join(name).display().to_string();
        let options = [
            "--client-cert-auth".to_string(),
            format!("--trusted-ca-file={}", path(CA)),
            format!("--cert-file={}", path("server.pem")),
            format!("--key-file={}", path("server-key.pem")),
        ];
        let mut etcd = super::testing::start_with("https", &options);
        let url = format!("etcds://127.0.0.1:{}/test", etcd.2);
        let open = || {
            Gateway::new(&url, Some(&dir), Duration::from_secs(5))
                .expect("a gateway")
                .0
        };
        let read = json!({"key": BASE64.encode("test/x")});
        let mut g = open();
        etcd.ready(|| g.call("kv/range", &read).is_some());
        // Without a key, with another authority's, and from one whose member is not ours.
        let with = |cert: Option<&str>, ca: &str| {
            let other = dir.join("other");
            let _ = std::fs::remove_dir_all(&other);
            std::fs::create_dir_all(&other).expect("a directory");
            std::fs::copy(dir.join(ca), other.join(CA)).expect("copied");
            if let Some(c) = cert {
                std::fs::copy(dir.join(format!("{c}.pem")), other.join(CERT)).expect("copied");
                std::fs::copy(dir.join(format!("{c}-key.pem")), other.join(KEY)).expect("copied");
            }
            let mut g = Gateway::new(&url, Some(&other), Duration::from_secs(5))
                .expect("a gateway")
                .0;
            (g.call("kv/range", &read), g.why().to_string())
        };
        for (cert, ca) in [(None, CA), (Some("other"), CA), (Some("etcd"), "other.pem")] {
            let cert = cert.map(|c| if c == "etcd" { "server" } else { c });
            let (answer, why) = with(cert, ca);
            assert!(answer.is_none() && !why.is_empty(), "{cert:?} {ca}: {why}");
        }
        assert!(with(Some("server"), CA).0.is_some(), "the keys alone decided");
        // Names and passwords.
        let done = |g: &mut Gateway, what: &str, body: Value| {
            assert!(g.call(what, &body).is_some(), "{what}: {}", g.why());
        };
        let all = json!({"permType": "READWRITE", "key": BASE64.encode("test/"), "range_end": BASE64.encode("test0")});
        for (user, password) in [("root", "r"), ("ftvm", "p:w")] {
            done(
                &mut g,
                "auth/user/add",
                json!({"name": user, "password": password}),
            );
            done(&mut g, "auth/role/add", json!({"name": user}));
            done(&mut g, "auth/user/grant", json!({"user": user, "role": user}));
        }
        done(&mut g, "auth/role/grant", json!({"name": "ftvm", "perm": all}));
        done(&mut g, "auth/enable", json!({}));
        assert!(
            open().call("kv/range", &read).is_none(),
            "nobody in particular is let in"
        );
        let file = dir.join(USER);
        std::fs::write(&file, "ftvm:p:w\n").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("set");
        let why = Gateway::new(&url, Some(&dir), PATIENCE).err().unwrap_or_default();
        assert!(why.contains("chmod 600"), "{why}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
        let mut s = EtcdStore::new(&url, Some(&dir)).expect("a store");
        s.idle();
        let me = Member { node: 1, inc: 2 };
        let value = Register {
            epoch: 1,
            primary: me,
            set: vec![me],
        };
        let cas = Ask::Cas { expect: 0, value };
        // The first connection may take longer than the arbiter waits.
        let swapped = (0..20).any(|_| matches!(s.ask(7, &cas), Outcome::Swapped(_) | Outcome::Refused));
        assert!(swapped, "{}", s.gateway.why());
        // One whose name is not known any more shows it again.
        s.gateway.token = Some("none.1".to_string());
        let read_again = (0..20).any(|_| matches!(s.ask(7, &Ask::Read), Outcome::Is(Some(_))));
        assert!(read_again, "{}", s.gateway.why());
        let mut other = open();
        assert!(
            other
                .call("kv/range", &json!({"key": BASE64.encode("other")}))
                .is_none()
        );
        assert!(other.why().contains("permission denied"), "{}", other.why());
        std::fs::write(&file, "ftvm:wrong").expect("written");
        let mut wrong = open();
        assert!(wrong.call("kv/range", &read).is_none());
        assert!(wrong.why().contains("authentication failed"), "{}", wrong.why());
        drop(etcd);
        let _ = std::fs::remove_dir_all(&dir);
    }
}
