//! `ftvm.toml`: how an application is run, as its author writes it. Version 1.
//!
//! The file is read twice: by the build, which puts it into the image (annotation [`ANNOTATION`]), and by `run --image`,
//! which reads it from there. Every key does something today; an unknown one is refused with the key that was
//! probably meant. The JSON schema comes from these types ([`schema`]).

pub use crate::cpus::Cpus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::DeTable;

/// Annotation of an image's manifest that holds this file as JSON.
pub const ANNOTATION: &str = "org.ftlinux.config.v1";

/// Version of the file that this build reads.
pub const VERSION: u32 = 1;

/// Keys that mean something to `ftvm run` only: refused in the file of an app of a cluster, which would do without them.
pub const OF_RUNS: &[(&str, &str)] = &[
    (
        "hooks",
        "an app of a cluster has the hooks of its image: write them in that one's ftvm.toml",
    ),
    (
        "health",
        "the health of an app of a cluster is not checked: the checks would end with its first takeover",
    ),
    (
        "warm-until",
        "an app of a cluster is started cold; `ready` tells when it counts as started",
    ),
];

/// How an application is run.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct App {
    /// Version of this file: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Program and arguments. Arguments on the command line replace all but the program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment variables. Nothing of the caller's environment is taken over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Directory in the image to start in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Ids that the program sees: root, UID, UID:GID, or names from the image's /etc/passwd and /etc/group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Host name that the program sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Ports that the application listens on, as "6379" or "53/udp". For other runtimes: ftvm needs no list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// `ftvm record start` can record the run later.
    #[serde(default, skip_serializing_if = "is_false")]
    pub recordable: bool,
    /// `image build` starts the program, waits for this, and adds a snapshot of it, from which runs start: "http :8080/ready"
    /// (answers with 2xx or 3xx), "tcp :6379" (somebody listens) or "log TEXT" (the program has printed it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_until: Option<String>,
    /// Limits of the run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// Network that the program sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Directories that are kept, and how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Whether it is well, as a command in the image says; `ftvm ps` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Commands in the image around its checkpoints and restores.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hooks: Hooks,
    /// Secrets that it needs. Their contents are given at the run, with `--secret NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// How a protected run is protected. Where its backup is says `run --protect`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protection: Protection,
}

/// A check that is made now and then. Times are as in "10s".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Health {
    /// Program and arguments; exit code 0 says that all is well.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// Time between two checks; 30s if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// A check that takes longer has failed; 30s if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Failures before the first success count from so long after the start on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_period: Option<String>,
    /// Failures in a row that make it unhealthy; 3 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub retries: Option<u32>,
}

/// What is started in the image when something befalls it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hooks {
    /// Before a checkpoint is taken. If it fails or takes too long there is none, and the image goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_checkpoint: Option<Hook>,
    /// When a snapshot has gone on: by `ftvm restore`, `clone`, or a start from a warm snapshot. If it fails or takes too long
    /// the image is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_restore: Option<Hook>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hook {
    /// Program and arguments; exit code 0 says that all is well.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// It is killed if it takes longer, and has failed; 30s if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// A secret that the application needs: a file below /run/secrets, or a variable.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Secret {
    /// Its name, by which `--secret NAME` gives it.
    pub name: String,
    /// Name of the file below /run/secrets, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Variable that holds it, in place of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Owner of the file; 0 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its group; 0 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Its permission bits, octal, as "0400"; "0444" if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// Limits of a run.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Most bytes of private memory, as in "512m"; ENOMEM beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Most tasks (threads and processes); EAGAIN beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Most CPU time, as a share of one CPU: 0.5 is half of it. An image uses one CPU at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>", range(min = 0.01))]
    pub cpus: Option<Cpus>,
}

/// Network that the program sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// The host's, none but a loopback, or the image's own TCP/IP.
    pub mode: NetworkMode,
    /// Host interface of mode own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Addresses of mode own with the length of their prefix, as "192.0.2.50/24".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip: Vec<String>,
    /// Routers of mode own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<String>,
    /// Link-layer address of mode own; by default it follows from the first address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// What `network.mode` can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// The host's network.
    Host,
    /// A loopback of the image's own.
    None,
    /// An address of its own on a host interface.
    Own,
}

/// A directory that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Volume {
    /// Path in the image; absolute.
    pub path: String,
    /// What becomes of what is written there.
    #[serde(default)]
    pub policy: VolumePolicy,
    /// Host directory of the policies write-through and read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// What becomes of what is written to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumePolicy {
    /// It is part of the image: in its snapshots, with its backup, kept until `ftvm rm`.
    #[default]
    Image,
    /// It is written through to the host directory. Cannot be protected.
    WriteThrough,
    /// Nothing can be written.
    ReadOnly,
}

/// How a protected run is protected.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Protection {
    /// How many backups it has: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1))]
    pub backups: Option<u32>,
    /// Outputs before the first backup is in sync: held, or sent unprotected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unprotected: Option<Before>,
    /// A backup that does not keep up: slow the image down, or go on without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_slow_backup: Option<SlowBackup>,
    /// Shortest silence that counts as a node's death, as in "40ms".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect_after: Option<String>,
    /// Longest time that a takeover may replay, as in "50ms".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_recovery: Option<String>,
    /// Who decides which node is primary, if `run` does not name it: etcd://HOST:PORT[,HOST:PORT...].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arbiter: Option<String>,
}

/// What `protection.unprotected` can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Before {
    /// Nothing leaves.
    Hold,
    /// The image runs unprotected.
    Run,
}

/// What `protection.on-slow-backup` can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SlowBackup {
    /// The image is slowed down.
    Throttle,
    /// The image goes on without it.
    Detach,
}

/// What is waited for before an application counts as warm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// A GET of this path on this port of 127.0.0.1 is answered with 2xx or 3xx.
    Http(u16, String),
    /// Somebody listens on this port of 127.0.0.1.
    Tcp(u16),
    /// The program has printed this.
    Log(String),
}

impl Until {
    /// Reads `http :PORT/PATH`, `tcp :PORT` or `log TEXT`.
    pub fn parse(text: &str) -> Result<Until, String> {
        let wrong =
            || format!("{text:?} is no condition: write \"http :8080/ready\", \"tcp :6379\" or \"log TEXT\"");
        let port = |t: &str| t.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(wrong);
        match text.split_once(' ').ok_or_else(wrong)? {
            ("http", rest) => {
                let rest = rest.strip_prefix(':').ok_or_else(wrong)?;
                let (number, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                if path.bytes().any(|b| b <= b' ' || b == 0x7f) {
                    return Err(wrong());
                }
                let path = if path.is_empty() { "/" } else { path };
                Ok(Until::Http(port(number)?, path.to_string()))
            }
            ("tcp", rest) => Ok(Until::Tcp(port(rest.strip_prefix(':').ok_or_else(wrong)?)?)),
            ("log", rest) if !rest.is_empty() => Ok(Until::Log(rest.to_string())),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Until {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Until::Http(port, path) => write!(f, "http :{port}{path}"),
            Until::Tcp(port) => write!(f, "tcp :{port}"),
            Until::Log(text) => write!(f, "log {text}"),
        }
    }
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_default<T: Default + PartialEq>(v: &T) -> bool {
    *v == T::default()
}

/// What is wrong with the file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Line, from 1; 0 if the whole file is meant.
    pub line: usize,
    /// What, with the key, and what would be right.
    pub why: String,
}

impl Wrong {
    fn new(line: usize, why: impl Into<String>) -> Wrong {
        Wrong {
            line,
            why: crate::plain(&why.into()),
        }
    }

    /// One line for the user, with the file's name.
    pub fn tell(&self, file: &str) -> String {
        match self.line {
            0 => format!("{file}: {}", self.why),
            n => format!("{file}, line {n}: {}", self.why),
        }
    }
}

impl App {
    /// Reads the text of an `ftvm.toml`.
    pub fn parse(text: &str) -> Result<App, Wrong> {
        /// No keys.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        App::parse_with::<Nothing>(text, &[]).map(|(app, _)| app)
    }

    /// Reads a file that has the keys of an `ftvm.toml` and others, `more`, which make a `T`: that of an app of a cluster.
    pub fn parse_with<T: serde::de::DeserializeOwned>(text: &str, more: &[&str]) -> Result<(App, T), Wrong> {
        let line = |at: usize| {
            text.as_bytes()[..at.min(text.len())]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1
        };
        let place = |e: &toml::de::Error| e.span().map_or(0, |s| line(s.start));
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| Wrong::new(place(&e), e.message().trim()))?;
        // First: a file of a later version may have keys that mean something there.
        match table.get("version").and_then(toml::Value::as_integer) {
            Some(n) if n == i64::from(VERSION) => {}
            Some(n) => {
                return Err(Wrong::new(
                    0,
                    format!("version {n} is not known to this ftvm; it reads version 1"),
                ));
            }
            None => return Err(Wrong::new(0, "version is missing; write version = 1")),
        }
        // What has keys of its own is an app of a cluster.
        let of_runs = if more.is_empty() { &[] } else { OF_RUNS };
        for (key, why) in of_runs {
            let mut value = Some(&table);
            let (path, last) = key.rsplit_once('.').unwrap_or(("", key));
            for part in path.split('.').filter(|p| !p.is_empty()) {
                value = value.and_then(|t| t.get(part)).and_then(toml::Value::as_table);
            }
            if value.is_some_and(|t| t.contains_key(last)) {
                return Err(Wrong::new(line_of(text, last), format!("{key}: {why}")));
            }
        }
        let wrong = |e: toml::de::Error| Wrong::new(place(&e), explain(e.message(), more));
        // Keys and values keep their places in the text, whichever of the two types they are for.
        let mut all = DeTable::parse(text).map_err(wrong)?;
        let span = all.span();
        let mut own = DeTable::new();
        for key in more {
            if let Some((k, v)) = all.get_mut().remove_entry(*key) {
                own.insert(k, v);
            }
        }
        let app = App::deserialize(toml::de::Deserializer::from(all)).map_err(wrong)?;
        let own = T::deserialize(toml::de::Deserializer::from(Spanned::new(span, own))).map_err(wrong)?;
        app.check().map_err(|why| Wrong::new(0, why))?;
        Ok((app, own))
    }

    /// Reads what [`App::to_json`] wrote. Its writer may have been somebody else.
    pub fn from_json(text: &str) -> Result<App, String> {
        App::try_from_json(text).map_err(|why| crate::plain(&why))
    }

    fn try_from_json(text: &str) -> Result<App, String> {
        let app: App = serde_json::from_str(text).map_err(|e| explain(&e.to_string(), &[]))?;
        if app.version != VERSION {
            return Err(format!(
                "version {} is not known to this ftvm; it reads version 1",
                app.version
            ));
        }
        app.check()?;
        Ok(app)
    }

    /// As it stands in an image; the same value gives the same text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What the types cannot say.
    fn check(&self) -> Result<(), String> {
        for name in self.environment.keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(format!("environment.{name:?}: not the name of a variable"));
            }
        }
        let texts = self.command.iter().chain(self.environment.values());
        if texts.clone().any(|t| t.contains('\0')) {
            return Err("command and environment cannot hold a NUL".to_string());
        }
        if self.command.first().is_some_and(String::is_empty) {
            return Err("command: the program has no name".to_string());
        }
        if let Some(dir) = &self.workdir
            && !dir.starts_with('/')
        {
            return Err(format!("workdir: {dir:?} is not absolute"));
        }
        if let Some(text) = &self.warm_until {
            Until::parse(text).map_err(|e| format!("warm-until: {e}"))?;
        }
        for port in &self.expose {
            let (number, proto) = port.split_once('/').unwrap_or((port, "tcp"));
            if number.parse::<u16>().is_err() || !["tcp", "udp", "sctp"].contains(&proto) {
                return Err(format!(
                    "expose: {port:?} is not a port; write \"6379\" or \"53/udp\""
                ));
            }
        }
        for v in &self.volumes {
            if !v.path.starts_with('/') || v.path.split('/').any(|p| p == "..") {
                return Err(format!("volumes: path {:?} is not an absolute path", v.path));
            }
            match (&v.host, v.policy) {
                (Some(_), VolumePolicy::Image) => {
                    return Err(format!(
                        "volumes: {}: policy image keeps what is written in the image; leave out host, or write policy = \
                         \"write-through\" or \"read-only\"",
                        v.path
                    ));
                }
                (Some(h), _) if !h.starts_with('/') => {
                    return Err(format!("volumes: {}: host {h:?} is not an absolute path", v.path));
                }
                _ => {}
            }
        }
        let hooks = [
            ("before-checkpoint", &self.hooks.before_checkpoint),
            ("after-restore", &self.hooks.after_restore),
        ];
        for (name, hook) in hooks {
            let words = hook.as_ref().map(|h| &h.command);
            if words
                .is_some_and(|c| c.first().is_none_or(String::is_empty) || c.iter().any(|w| w.contains('\0')))
            {
                return Err(format!("hooks.{name}: the command is empty, or holds a NUL"));
            }
        }
        if let Some(n) = self.protection.backups.filter(|n| *n != 1) {
            return Err(format!(
                "protection.backups: {n} backups of an image are not there; write 1, or leave it out"
            ));
        }
        for s in &self.secrets {
            let letters = |t: &str| {
                let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
                t.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && t.bytes().all(good)
            };
            let octal = |m: &str| u32::from_str_radix(m, 8).is_ok_and(|m| m <= 0o777);
            let wrong = match s {
                _ if !letters(&s.name) => "name: letters, digits, _, . and -, a letter or digit first",
                _ if s.target.as_deref().is_some_and(|t| !letters(t)) => {
                    "target: the name of a file below /run/secrets"
                }
                _ if s
                    .env
                    .as_deref()
                    .is_some_and(|e| e.is_empty() || e.contains(['=', '\0'])) =>
                {
                    "env: not the name of a variable"
                }
                _ if s.env.is_some() && (s.target.is_some() || s.mode.is_some()) => {
                    "env: a variable has no target and no mode"
                }
                _ if s.mode.as_deref().is_some_and(|m| !octal(m)) => {
                    "mode: permission bits in octal, as \"0400\""
                }
                _ => continue,
            };
            return Err(format!("secrets: {:?}: {wrong}", s.name));
        }
        if let Some(n) = &self.network {
            let own = n.interface.is_some() || !n.ip.is_empty() || !n.gateway.is_empty() || n.mac.is_some();
            if n.mode != NetworkMode::Own && own {
                return Err("network: interface, ip, gateway and mac are for mode = \"own\"".to_string());
            }
            if n.mode == NetworkMode::Own && n.ip.is_empty() {
                return Err("network: mode own needs ip = [\"ADDRESS/LENGTH\"]".to_string());
            }
        }
        Ok(())
    }
}

/// First line on which a key is set or its table begins.
fn line_of(text: &str, key: &str) -> usize {
    let there = |l: &str| {
        let l = l.trim_start().trim_start_matches('[');
        let rest = l
            .strip_prefix(key)
            .or_else(|| l.rsplit_once('.').and_then(|(_, r)| r.strip_prefix(key)));
        rest.is_some_and(|r| r.trim_start().starts_with(['=', ']', '.']))
    };
    text.lines().position(there).map_or(0, |n| n + 1)
}

/// Serde's words for an unknown key or value, with what was probably meant. `more`: keys that may stand beside those of [`App`].
fn explain(message: &str, more: &[&str]) -> String {
    let message = message.trim();
    let kind = if message.starts_with("unknown field") {
        "key"
    } else {
        "value"
    };
    let Some(rest) = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))
    else {
        return message.to_string();
    };
    let Some((key, expected)) = rest.split_once('`') else {
        return message.to_string();
    };
    let mut known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    // It is not a key of a table below.
    if known.contains(&"version") {
        known.extend(more);
    }
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(k, key), k))
        .min()
        .filter(|(d, k)| *d <= 3 && *d < k.len());
    match near {
        Some((_, k)) => format!("unknown {kind} {key}; did you mean {k}?"),
        None => format!("unknown {kind} {key}; known are {}", known.join(", ")),
    }
}

/// JSON schema of the file.
pub fn schema() -> String {
    let schema = schemars::schema_for!(App);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
version = 1
command = ["redis-server", "--port", "6379"]
environment = { LANG = "C.UTF-8" }
workdir = "/data"
user = "redis"
hostname = "kv"
expose = ["6379"]
recordable = true
warm-until = "tcp :6379"
limits = { memory = "512m", pids = 100, cpus = 0.5 }

[network]
mode = "own"
interface = "eth0"
ip = ["192.0.2.50/24"]

[[volumes]]
path = "/data"

[[volumes]]
path = "/srv"
policy = "read-only"
host = "/srv/www"

[hooks.before-checkpoint]
command = ["redis-cli", "save"]
timeout = "10s"

[hooks.after-restore]
command = ["reseed"]

[[secrets]]
name = "db-password"
mode = "0400"

[[secrets]]
name = "token"
env = "TOKEN"

[protection]
backups = 1
unprotected = "run"
on-slow-backup = "detach"
detect-after = "100ms"
max-recovery = "1s"
arbiter = "etcd://192.0.2.9:2379"
"#;

    fn wrong(text: &str) -> Wrong {
        App::parse(text).expect_err(text)
    }

    #[test]
    fn a_whole_file_is_read_and_comes_back_from_json() {
        let app = App::parse(WHOLE).expect("right");
        assert_eq!(app.volumes[0].policy, VolumePolicy::Image);
        assert_eq!(app.limits.cpus.map(Cpus::thousandths), Some(500));
        assert_eq!(App::from_json(&app.to_json()), Ok(app));
    }

    /// Also a guard of serde's wording, from which the suggestion is made.
    #[test]
    fn an_unknown_key_is_told_with_its_line_and_what_was_meant() {
        let w = wrong("version = 1\ncomand = [\"x\"]\n");
        assert_eq!(
            (w.line, w.why.as_str()),
            (2, "unknown key comand; did you mean command?")
        );
        assert_eq!(
            w.tell("ftvm.toml"),
            "ftvm.toml, line 2: unknown key comand; did you mean command?"
        );
        let w = wrong("version = 1\n\n[limits]\nmemroy = \"1g\"\n");
        assert_eq!(
            (w.line, w.why.as_str()),
            (4, "unknown key memroy; did you mean memory?")
        );
        let w = wrong("version = 1\n[limits]\nzzzzzzzz = 1\n");
        assert!(w.why.ends_with("known are memory, pids, cpus"), "{w:?}");
        let w = wrong("version = 1\n[network]\nmode = \"hots\"\n");
        assert_eq!(
            (w.line, w.why.as_str()),
            (3, "unknown value hots; did you mean host?")
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (text, part) in [
            ("", "version is missing"),
            ("version = 2\nx = 1\n", "version 2"),
            ("version = 1\nworkdir = \"x\"\n", "not absolute"),
            ("version = 1\nexpose = [\"http\"]\n", "not a port"),
            ("version = 1\nwarm-until = \"soon\"\n", "no condition"),
            (
                "version = 1\n[[volumes]]\npath = \"/a\"\nhost = \"/b\"\n",
                "policy image",
            ),
            ("version = 1\nlimits = { cpus = 0 }\n", "no number of CPUs"),
            ("version = 1\nlimits = { cpus = nan }\n", "no number of CPUs"),
            ("version = 1\n[[volumes]]\npath = \"/a/../b\"\n", "absolute path"),
            (
                "version = 1\n[network]\nmode = \"host\"\nip = [\"1.2.3.4/5\"]\n",
                "mode = \"own\"",
            ),
            ("version = 1\n[network]\nmode = \"own\"\n", "needs ip"),
            (
                "version = 1\n[hooks.after-restore]\ncommand = []\n",
                "hooks.after-restore: the command is empty",
            ),
            (
                "version = 1\n[protection]\nbackups = 2\n",
                "2 backups of an image are not there",
            ),
            ("version = 1\n[[secrets]]\nname = \"../x\"\n", "name: letters"),
            (
                "version = 1\n[[secrets]]\nname = \"x\"\nmode = \"0999\"\n",
                "mode: permission bits",
            ),
            (
                "version = 1\n[[secrets]]\nname = \"x\"\nenv = \"X\"\ntarget = \"y\"\n",
                "a variable has no target",
            ),
            ("version = 1\ncommand = \"x\"\n", "invalid type"),
            ("version = 1\ncommand = [\"x\"", "array"),
        ] {
            let w = wrong(text);
            assert!(w.why.contains(part), "{text}: {w:?}");
        }
    }

    #[test]
    fn conditions_are_read_and_come_back() {
        for (text, shown) in [
            ("http :8080/ready?x=1", "http :8080/ready?x=1"),
            ("http :80", "http :80/"),
            ("tcp :1", "tcp :1"),
            ("log it is up", "log it is up"),
        ] {
            assert_eq!(Until::parse(text).map(|u| u.to_string()), Ok(shown.to_string()));
        }
        for bad in [
            "",
            "http",
            "http 8080",
            "http :0/",
            "http :1/a b",
            "tcp :",
            "tcp :70000",
            "tcp :1/x",
            "log ",
            "exec x",
        ] {
            assert!(Until::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_schema_names_every_key_of_the_file() {
        let schema = schema();
        for key in ["on-slow-backup", "write-through", "recordable", "\"minimum\": 1"] {
            assert!(schema.contains(key), "{key} in {schema}");
        }
    }
}
