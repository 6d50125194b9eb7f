//! What is measured: servers, modes, connections.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How the server runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Linux, all cores.
    NativeAll,
    /// Linux, on the image's core.
    Native,
    /// `ftvm run`, the host's network.
    Run,
    /// `ftvm record`, the host's network.
    Record,
    /// Linux, on the image's core, another host on a bridge.
    NativeOwn,
    /// `ftvm run --net`: own stack on that bridge.
    RunOwn,
    /// `ftvm run --net --protect`: the same with a backup on a third host.
    Protect,
}

impl Mode {
    /// All of them, in the order of the report.
    pub const ALL: [Mode; 7] = [
        Mode::NativeAll,
        Mode::Native,
        Mode::Run,
        Mode::Record,
        Mode::NativeOwn,
        Mode::RunOwn,
        Mode::Protect,
    ];

    /// As in the report and in filters.
    pub fn name(self) -> &'static str {
        match self {
            Mode::NativeAll => "native-all",
            Mode::Native => "native",
            Mode::Run => "run",
            Mode::Record => "record",
            Mode::NativeOwn => "native-own",
            Mode::RunOwn => "run-own",
            Mode::Protect => "protect",
        }
    }

    /// What it is compared with: the same network, one difference.
    pub fn base(self) -> Option<Mode> {
        match self {
            Mode::Native | Mode::NativeOwn => None,
            Mode::NativeAll | Mode::Run | Mode::Record => Some(Mode::Native),
            Mode::RunOwn => Some(Mode::NativeOwn),
            Mode::Protect => Some(Mode::RunOwn),
        }
    }

    /// The server is on a host of its own, behind a bridge.
    pub fn bridged(self) -> bool {
        matches!(self, Mode::NativeOwn | Mode::RunOwn | Mode::Protect)
    }

    /// Runs under `ftvm`.
    pub fn ours(self) -> bool {
        !matches!(self, Mode::NativeAll | Mode::Native | Mode::NativeOwn)
    }
}

/// A server program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    /// memcached with one worker
    Memcached,
    /// redis without persistence
    Redis,
    /// nginx, one process, a page of 612 bytes
    Nginx,
    /// node's http module
    Node,
}

/// Size of the page that nginx serves, bytes.
pub const PAGE_BYTES: usize = 612;

impl Server {
    /// All of them.
    pub const ALL: [Server; 4] = [Server::Memcached, Server::Redis, Server::Nginx, Server::Node];

    /// As in filters and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Server::Memcached => "memcached",
            Server::Redis => "redis",
            Server::Nginx => "nginx",
            Server::Node => "node",
        }
    }

    /// What is asked of it.
    pub fn scenarios(self) -> &'static [&'static str] {
        match self {
            Server::Memcached => &["memcached"],
            Server::Redis => &["redis-set", "redis-get"],
            Server::Nginx => &["nginx"],
            Server::Node => &["node"],
        }
    }

    /// Its port.
    pub fn port(self) -> u16 {
        match self {
            Server::Memcached => 11_211,
            Server::Redis => 6_379,
            Server::Nginx | Server::Node => 8_080,
        }
    }

    /// Program and arguments, the same in every mode. Writes what it needs into `home`.
    pub fn command(self, home: &std::path::Path) -> std::io::Result<Vec<String>> {
        let words = |text: &str| text.split(' ').map(str::to_string).collect();
        let at = home.display();
        Ok(match self {
            Server::Memcached => words("memcached -u nobody -l 0.0.0.0 -p 11211 -U 0 -t 1"),
            Server::Redis => {
                let mut all: Vec<String> = words(
                    "redis-server --bind 0.0.0.0 --port 6379 --protected-mode no --appendonly no --save",
                );
                all.push(String::new());
                all
            }
            Server::Nginx => {
                std::fs::write(home.join("page"), "x".repeat(PAGE_BYTES))?;
                let conf = format!(
                    "daemon off; master_process off; pid /tmp/nginx.pid; error_log stderr;\n\
                     events {{ }}\n\
                     http {{ access_log off; keepalive_requests 1000000000;\n\
                     client_body_temp_path /tmp/n1; proxy_temp_path /tmp/n2; fastcgi_temp_path /tmp/n3;\n\
                     uwsgi_temp_path /tmp/n4; scgi_temp_path /tmp/n5;\n\
                     server {{ listen 8080; root {at}; }} }}\n"
                );
                std::fs::write(home.join("nginx.conf"), conf)?;
                words(&format!("nginx -c {at}/nginx.conf"))
            }
            Server::Node => {
                let script = "require('http').createServer((q, r) => { q.resume(); const b = 'hello\\n'; \
                              r.setHeader('Content-Length', b.length); r.end(b); }).listen(8080, '0.0.0.0');\n";
                std::fs::write(home.join("server.js"), script)?;
                words(&format!("node {at}/server.js"))
            }
        })
    }
}

/// How much is measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Rounds; each measures everything once.
    pub rounds: u32,
    /// Connections at a time.
    pub connections: Vec<u32>,
    /// What is thrown away first, ms.
    pub warm_ms: u64,
    /// What is measured, ms.
    pub measure_ms: u64,
    /// Modes left out.
    pub without: Vec<Mode>,
    /// Takeovers.
    pub kills: u32,
    /// Order within rounds, bootstrap.
    pub seed: u64,
}

impl Plan {
    /// The whole thing.
    pub fn full() -> Plan {
        Plan {
            rounds: 5,
            connections: vec![1, 16, 64],
            warm_ms: 500,
            measure_ms: 2000,
            without: Vec::new(),
            kills: 3,
            seed: 1,
        }
    }

    /// Two minutes.
    pub fn quick() -> Plan {
        Plan {
            rounds: 3,
            connections: vec![16],
            warm_ms: 150,
            measure_ms: 500,
            without: vec![Mode::NativeAll],
            ..Plan::full()
        }
    }

    /// Server and mode of each session, with what they are compared with. A filter is a part of `server/mode`.
    pub fn sessions(&self, filter: Option<&str>) -> Vec<(Server, Mode)> {
        let wanted = |s: Server, m: Mode| {
            filter.is_none_or(|f| format!("{}/{}", s.name(), m.name()).contains(f))
                && !self.without.contains(&m)
        };
        let mut all = Vec::new();
        for s in Server::ALL {
            let mut keep = [false; Mode::ALL.len()];
            for m in Mode::ALL.into_iter().filter(|m| wanted(s, *m)) {
                let mut with = Some(m);
                while let Some(m) = with {
                    keep[m as usize] = true;
                    with = m.base();
                }
            }
            all.extend(
                Mode::ALL
                    .into_iter()
                    .filter(|m| keep[*m as usize])
                    .map(|m| (s, m)),
            );
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_keeps_what_it_is_compared_with() {
        let s = Plan::full().sessions(Some("redis/protect"));
        let want = [Mode::NativeOwn, Mode::RunOwn, Mode::Protect];
        assert_eq!(s, want.map(|m| (Server::Redis, m)));
        let s = Plan::quick().sessions(Some("native-all"));
        assert!(s.is_empty(), "left out in the quick plan: {s:?}");
        assert_eq!(Plan::full().sessions(None).len(), 4 * 7);
    }
}
