//! What is to run, as it is kept in etcd.

use super::{hex, text_of, texts};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// An app: one protected image with an address of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct App {
    /// Name of the app and of its runs.
    pub name: String,
    /// The app whose replica it is; none: it stands alone.
    pub group: Option<String>,
    /// Identity of the image. A start that is not the first of its identity fails at the arbiter's register, whatever
    /// a node believes; a changed program is an image of its own.
    pub image: u64,
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// Address, router and MAC as in `--net`, without the interface, which is the node's.
    pub net: String,
    /// Further options of `ftvm run`.
    pub options: Vec<String>,
    /// The program and its arguments; of an image, the arguments that take the place of its own.
    pub command: Vec<String>,
    /// Bytes that it takes on a node.
    pub memory: u64,
    /// See [`super::schedule::App::strict`].
    pub strict: bool,
    /// Seconds between SIGTERM and SIGKILL when it is stopped.
    pub stop_s: u64,
}

/// How a node starts images and reaches others.
#[derive(Clone, Debug)]
pub struct Ways {
    /// Host interface of the images.
    pub interface: String,
    /// URL of the arbiter.
    pub arbiter: String,
    /// Directory of the node's keys; none: no encryption.
    pub tls_dir: Option<String>,
    /// Key by which images must be signed; none: they need not be.
    pub verify_key: Option<String>,
}

impl Ways {
    /// `--tls-dir` or `--insecure`.
    pub fn security(&self) -> Vec<String> {
        match &self.tls_dir {
            Some(dir) => vec!["--tls-dir".to_string(), dir.clone()],
            None => vec!["--insecure".to_string()],
        }
    }
}

impl App {
    /// As it is kept.
    pub fn encode(&self) -> Value {
        json!({
            "version": 1, "name": self.name, "group": self.group, "image": format!("{:016x}", self.image), "created": self.created,
            "net": self.net, "options": self.options, "command": self.command, "memory": self.memory,
            "spread": if self.strict { "require" } else { "prefer" }, "stop_s": self.stop_s,
        })
    }

    /// Reads it; `None`: another version's.
    pub fn decode(v: &Value) -> Option<App> {
        if v["version"] != 1 {
            return None;
        }
        let app = App {
            // It becomes the name of a directory.
            name: crate::cli::options::run_name(&text_of(v, "name")?).ok()?,
            group: text_of(v, "group"),
            image: hex(&text_of(v, "image")?)?,
            created: v["created"].as_u64()?,
            net: text_of(v, "net")?,
            options: texts(&v["options"])?,
            command: texts(&v["command"])?,
            memory: v["memory"].as_u64()?,
            strict: v["spread"] == "require",
            stop_s: v["stop_s"].as_u64()?,
        };
        (!app.command.is_empty() || app.oci().is_some()).then_some(app)
    }

    /// The same program with the same options: no new image is needed.
    pub fn same_image(&self, other: &App) -> bool {
        let program = |a: &App| (a.net.clone(), a.options.clone(), a.command.clone());
        program(self) == program(other)
    }

    /// The OCI image that it runs, by digest; none: programs of the nodes.
    pub fn oci(&self) -> Option<&str> {
        let at = self.options.iter().position(|o| o == "--image")?;
        self.options.get(at + 1).map(String::as_str)
    }

    /// Names of the secrets that it is given when it starts.
    pub fn secrets(&self) -> BTreeSet<String> {
        let given = self.options.windows(2).filter(|two| two[0] == "--secret");
        let name = |two: &[String]| two[1].split(',').next().unwrap_or_default().to_string();
        given.map(name).collect()
    }

    /// Its first address, without the length of the prefix.
    pub fn address(&self) -> &str {
        let first = self.net.split(',').find_map(|p| p.strip_prefix("ip="));
        first.and_then(|a| a.split('/').next()).unwrap_or("-")
    }

    /// An address, or MAC address, that both have.
    pub fn shares(&self, other: &App) -> Option<String> {
        let theirs = other.claims();
        self.claims().into_iter().find(|c| theirs.contains(c))
    }

    /// Its IP and MAC addresses, each in one spelling.
    fn claims(&self) -> Vec<String> {
        let part = |p: &str| match p.split_once('=')? {
            ("ip", a) => {
                let ip: std::net::IpAddr = a.split('/').next()?.parse().ok()?;
                Some(ip.to_string())
            }
            ("mac", m) => Some(m.to_ascii_lowercase()),
            _ => None,
        };
        self.net.split(',').filter_map(part).collect()
    }

    /// Arguments of `ftvm` that start it, with its backup at the agent `backup`.
    pub fn run_args(&self, ways: &Ways, backup: &str) -> Vec<String> {
        let mut args: Vec<String> = ["run", "-d", "--name", &self.name, "--net"]
            .map(str::to_string)
            .to_vec();
        args.push(format!("{},{}", ways.interface, self.net));
        for (option, value) in [("--protect", backup), ("--arbiter", &ways.arbiter)] {
            args.extend([option.to_string(), value.to_string()]);
        }
        args.extend(ways.security());
        args.extend(self.options.iter().cloned());
        if let (Some(key), Some(_)) = (&ways.verify_key, self.oci()) {
            args.extend(["--verify-key".to_string(), key.clone()]);
        }
        if !self.command.is_empty() {
            args.push("--".to_string());
            args.extend(self.command.iter().cloned());
        }
        args
    }
}

/// A path as an absolute one: nodes read it from another directory.
pub fn absolute(path: &Path) -> Result<String, String> {
    std::path::absolute(path)
        .map(|p| p.to_string_lossy().into_owned())
        .map_err(|e| format!("{}: {}", path.display(), crate::cli::reason(&e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App {
            name: "kv".to_string(),
            group: Some("k".to_string()),
            image: 7,
            created: 1,
            net: "ip=10.0.0.9/24".to_string(),
            options: vec!["--hostname".to_string(), "kv".to_string()],
            command: vec!["memcached".to_string(), "-p".to_string(), "1".to_string()],
            memory: 1 << 20,
            strict: true,
            stop_s: 10,
        }
    }

    #[test]
    fn every_address_counts_however_it_is_written() {
        let with = |net: &str| App {
            net: net.to_string(),
            ..app()
        };
        let one = with("ip=10.0.0.9/24,ip=fd00::1/64,mac=02:00:00:00:00:AA");
        assert_eq!(one.shares(&with("ip=10.0.0.8/24")), None);
        assert_eq!(
            one.shares(&with("ip=10.0.0.8/24,ip=fd00:0::0:1/64")).as_deref(),
            Some("fd00::1")
        );
        assert!(
            one.shares(&with("ip=10.0.0.7/24,mac=02:00:00:00:00:aa"))
                .is_some()
        );
    }

    #[test]
    fn what_is_kept_reads_back() {
        assert_eq!(App::decode(&app().encode()), Some(app()));
        for (field, bad) in [
            ("version", json!(2)),
            ("name", json!("../x")),
            ("command", json!([])),
            ("image", json!("x")),
            ("options", json!([1])),
        ] {
            let mut v = app().encode();
            v[field] = bad;
            assert_eq!(App::decode(&v), None, "{field}");
        }
    }

    #[test]
    fn a_run_is_the_command_lines_own() {
        let ways = Ways {
            interface: "eth0".to_string(),
            arbiter: "etcd://e:1".to_string(),
            tls_dir: None,
            verify_key: None,
        };
        assert_eq!(
            app().run_args(&ways, "10.0.0.2:7000").join(" "),
            "run -d --name kv --net eth0,ip=10.0.0.9/24 --protect 10.0.0.2:7000 --arbiter etcd://e:1 --insecure \
             --hostname kv -- memcached -p 1"
        );
        assert_eq!(app().address(), "10.0.0.9");
        let mut other = app();
        other.memory += 1;
        assert!(app().same_image(&other));
        other.command.push("-v".to_string());
        assert!(!app().same_image(&other));
    }
}
