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
    /// The same without prediction: every answer and clock read is logged. The control.
    RecordOff,
    /// Linux, on the image's core, another host on a bridge.
    NativeOwn,
    /// `ftvm run --net`: own stack on that bridge.
    RunOwn,
    /// `ftvm run --net --protect`: the same with a backup on a third host.
    Protect,
    /// The same without prediction: the log holds every answer and clock read. A control.
    ProtectLogAll,
    /// The same, but outputs wait for a snapshot taken after them, as in Remus. The other control.
    ProtectSnapshot,
}

impl Mode {
    /// All of them, in the order of the report.
    pub const ALL: [Mode; 10] = [
        Mode::NativeAll,
        Mode::Native,
        Mode::Run,
        Mode::Record,
        Mode::RecordOff,
        Mode::NativeOwn,
        Mode::RunOwn,
        Mode::Protect,
        Mode::ProtectLogAll,
        Mode::ProtectSnapshot,
    ];

    /// As in the report and in filters.
    pub fn name(self) -> &'static str {
        match self {
            Mode::NativeAll => "native-all",
            Mode::Native => "native",
            Mode::Run => "run",
            Mode::Record => "record",
            Mode::RecordOff => "record-off",
            Mode::NativeOwn => "native-own",
            Mode::RunOwn => "run-own",
            Mode::Protect => "protect",
            Mode::ProtectLogAll => "protect-log-all",
            Mode::ProtectSnapshot => "protect-snapshot",
        }
    }

    /// With a backup: what its outputs wait for, as `ftvm run --commit` has it.
    pub fn commit(self) -> Option<&'static str> {
        match self {
            Mode::Protect => Some("predicted"),
            Mode::ProtectLogAll => Some("log-all"),
            Mode::ProtectSnapshot => Some("snapshot"),
            _ => None,
        }
    }

    /// A control: it shows what a part of the design is worth, and nobody would run it.
    pub fn is_control(self) -> bool {
        matches!(
            self,
            Mode::RecordOff | Mode::ProtectLogAll | Mode::ProtectSnapshot
        )
    }

    /// What it is compared with: the same network, one difference.
    pub fn base(self) -> Option<Mode> {
        match self {
            Mode::Native | Mode::NativeOwn => None,
            Mode::NativeAll | Mode::Run | Mode::Record => Some(Mode::Native),
            Mode::RecordOff => Some(Mode::Record),
            Mode::RunOwn => Some(Mode::NativeOwn),
            Mode::Protect => Some(Mode::RunOwn),
            Mode::ProtectLogAll | Mode::ProtectSnapshot => Some(Mode::Protect),
        }
    }

    /// The server is on a host of its own, behind a bridge.
    pub fn bridged(self) -> bool {
        matches!(self, Mode::NativeOwn | Mode::RunOwn) || self.commit().is_some()
    }

    /// Runs under `ftvm`.
    pub fn ours(self) -> bool {
        !matches!(self, Mode::NativeAll | Mode::Native | Mode::NativeOwn)
    }
}

/// What is measured: a server program, or programs that do their work and end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    /// memcached with one worker
    Memcached,
    /// memcached with four workers
    Memcached4,
    /// redis without persistence
    Redis,
    /// redis with a hundred thousand values, saving all the time
    Bgsave,
    /// nginx, one process, a page of 612 bytes and one of 1 MiB
    Nginx,
    /// nginx, a master and four workers
    Nginx4,
    /// node's http module
    Node,
    /// PostgreSQL with pgbench
    Postgres,
    /// memcached with many connections
    Scale,
    /// SQLite: transactions and inserts, WAL and DELETE, synchronous=FULL
    Sqlite,
    /// Start-up of interpreters
    Start,
    /// gcc and make
    Build,
    /// A thread pool of java
    Java,
    /// Single operations of the kernel and of communication between processes
    Micro,
}

/// Size of the page that nginx serves, bytes.
pub const PAGE_BYTES: usize = 612;
/// Size of its large page, bytes.
pub const BIG_BYTES: usize = 1 << 20;
/// Connections of the open loop.
pub const OPEN_CONNECTIONS: u32 = 16;

impl Server {
    /// All of them.
    pub const ALL: [Server; 14] = [
        Server::Memcached,
        Server::Memcached4,
        Server::Redis,
        Server::Bgsave,
        Server::Nginx,
        Server::Nginx4,
        Server::Node,
        Server::Postgres,
        Server::Scale,
        Server::Sqlite,
        Server::Start,
        Server::Build,
        Server::Java,
        Server::Micro,
    ];
    /// Those of `--quick`, if no filter names others.
    pub const QUICK: [Server; 4] = [Server::Memcached, Server::Redis, Server::Nginx, Server::Node];

    /// As in filters and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Server::Memcached => "memcached",
            Server::Memcached4 => "memcached4",
            Server::Redis => "redis",
            Server::Bgsave => "bgsave",
            Server::Nginx => "nginx",
            Server::Nginx4 => "nginx4",
            Server::Node => "node",
            Server::Postgres => "postgres",
            Server::Scale => "scale",
            Server::Sqlite => "sqlite",
            Server::Start => "start",
            Server::Build => "build",
            Server::Java => "java",
            Server::Micro => "micro",
        }
    }

    /// What is asked of it.
    pub fn scenarios(self) -> &'static [&'static str] {
        match self {
            Server::Memcached => &["memcached"],
            Server::Memcached4 => &["memcached-t4"],
            Server::Redis => &["redis-set", "redis-get", "redis-get-p16"],
            Server::Bgsave => &["redis-set-bgsave"],
            Server::Nginx => &["nginx", "nginx-1mb"],
            Server::Nginx4 => &["nginx-4w"],
            Server::Node => &["node"],
            Server::Postgres => &["pgbench-select", "pgbench-tpcb"],
            Server::Scale => &["memcached-many"],
            Server::Sqlite => &["sqlite-wal", "sqlite-delete", "sqlite-inserts"],
            Server::Start => &["python-start", "node-start"],
            Server::Build => &["gcc", "make"],
            Server::Java => &["java-pool"],
            Server::Micro => crate::jobs::MICRO,
        }
    }

    /// Programs that end; there is no connection.
    pub fn is_job(self) -> bool {
        matches!(
            self,
            Server::Sqlite | Server::Start | Server::Build | Server::Java | Server::Micro
        )
    }

    /// Modes that make sense for it.
    pub fn has(self, mode: Mode) -> bool {
        match self {
            s if s.is_job() => !mode.bridged(),
            Server::Scale => mode != Mode::NativeAll && !mode.is_control(),
            _ => true,
        }
    }

    /// Connections, one measurement each.
    pub fn connections(self, plan: &Plan) -> Vec<u32> {
        match self {
            s if s.is_job() => vec![1],
            Server::Postgres => vec![1, 8],
            Server::Scale => vec![1000, 10_000],
            _ => plan.connections.clone(),
        }
    }

    /// Requests a second of the open loop: well below what any mode can do, the same in each.
    pub fn open_rate(self) -> Option<u32> {
        match self {
            Server::Memcached | Server::Redis => Some(4000),
            Server::Nginx => Some(3000),
            Server::Node => Some(1500),
            _ => None,
        }
    }

    /// The name of the open loop's measurement.
    pub fn open_scenario(self) -> String {
        format!("{}-open", self.name())
    }

    /// Its port.
    pub fn port(self) -> u16 {
        match self {
            Server::Redis | Server::Bgsave => 6_379,
            Server::Nginx | Server::Nginx4 | Server::Node => 8_080,
            Server::Postgres => 5_432,
            _ => 11_211,
        }
    }

    /// Program and arguments, the same in every mode. Writes what it needs into `home`.
    pub fn command(self, home: &std::path::Path) -> std::io::Result<Vec<String>> {
        self.command_on(home, self.port())
    }

    /// The same on another port, so that two of them can run at once.
    pub fn command_on(self, home: &std::path::Path, port: u16) -> std::io::Result<Vec<String>> {
        let words = |text: &str| text.split(' ').map(str::to_string).collect();
        let at = home.display();
        let nginx = |workers: &str| -> std::io::Result<Vec<String>> {
            std::fs::write(home.join("page"), "x".repeat(PAGE_BYTES))?;
            std::fs::write(home.join("big"), "x".repeat(BIG_BYTES))?;
            let conf = format!(
                "daemon off; {workers} pid /tmp/nginx-{port}.pid; error_log stderr;\n\
                 events {{ }}\n\
                 http {{ access_log off; keepalive_requests 1000000000;\n\
                 client_body_temp_path /tmp/n1; proxy_temp_path /tmp/n2; fastcgi_temp_path /tmp/n3;\n\
                 uwsgi_temp_path /tmp/n4; scgi_temp_path /tmp/n5;\n\
                 server {{ listen {port}; root {at}; }} }}\n"
            );
            std::fs::write(home.join("nginx.conf"), conf)?;
            Ok(words(&format!("nginx -c {at}/nginx.conf")))
        };
        Ok(match self {
            Server::Memcached => words(&format!("memcached -u nobody -l 0.0.0.0 -p {port} -U 0 -t 1")),
            Server::Memcached4 => words(&format!("memcached -u nobody -l 0.0.0.0 -p {port} -U 0 -t 4")),
            Server::Scale => words(&format!(
                "memcached -u nobody -l 0.0.0.0 -p {port} -U 0 -t 1 -c 12000"
            )),
            Server::Redis | Server::Bgsave => {
                let mut all: Vec<String> = words(&format!(
                    "redis-server --bind 0.0.0.0 --port {port} --protected-mode no --appendonly no --save"
                ));
                all.push(String::new());
                all
            }
            Server::Nginx => nginx("master_process off;")?,
            // Root's files in a directory that is root's alone.
            Server::Nginx4 => nginx("user root; worker_processes 4;")?,
            Server::Node => {
                let script = format!(
                    "require('http').createServer((q, r) => {{ q.resume(); const b = 'hello\\n'; \
                     r.setHeader('Content-Length', b.length); r.end(b); }}).listen({port}, '0.0.0.0');\n"
                );
                std::fs::write(home.join("server.js"), script)?;
                words(&format!("node {at}/server.js"))
            }
            Server::Postgres => {
                let script = home.join("postgres.sh");
                std::fs::write(&script, include_str!("../../../runtime/lab/src/postgres.sh"))?;
                words(&format!("bash {}", script.display()))
            }
            job => return Err(std::io::Error::other(format!("{} is no server", job.name()))),
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
    /// What is measured if no filter says so.
    pub servers: Vec<Server>,
    /// An open loop too.
    pub open: bool,
    /// Guest memory of the snapshot curve, MiB.
    pub memory_mib: Vec<u32>,
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
            servers: Server::ALL.to_vec(),
            open: true,
            memory_mib: vec![10, 100, 1000],
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
            without: Mode::ALL
                .into_iter()
                .filter(|m| *m == Mode::NativeAll || m.is_control())
                .collect(),
            servers: Server::QUICK.to_vec(),
            open: false,
            memory_mib: vec![10],
            ..Plan::full()
        }
    }

    /// Server and mode of each session, with what they are compared with. A filter is `server/mode`, a server or a mode.
    pub fn sessions(&self, filter: Option<&str>) -> Vec<(Server, Mode)> {
        let wanted = |s: Server, m: Mode| {
            let named = match filter.map(|f| f.split_once('/').ok_or(f)) {
                Some(Ok((server, mode))) => s.name() == server && m.name() == mode,
                Some(Err(f)) => f == s.name() || f == m.name(),
                None => self.servers.contains(&s),
            };
            named && s.has(m) && !self.without.contains(&m)
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
        // Eight servers in all modes, five kinds of programs in those without a bridge, the scale curve in six.
        assert_eq!(Plan::full().sessions(None).len(), 8 * 10 + 5 * 5 + 6);
        let s = Plan::quick().sessions(Some("nginx4/run-own"));
        let want = [Mode::NativeOwn, Mode::RunOwn];
        assert_eq!(
            s,
            want.map(|m| (Server::Nginx4, m)),
            "named, so measured in quick too"
        );
    }
}
