//! One server in one mode, started, measured with each number of connections, and ended. Runs in a process and in
//! namespaces of its own: nothing of the machine's network is touched, and ports are free.

use crate::drive::{Speak, drive};
use crate::host::{self, CpuTime, Machine};
use crate::plan::{Mode, Server};
use crate::tools::{self, Measured, PERCENTILES};
use ftl_lab::cluster::{Cluster, Side, tree};
use ftl_lab::net::{self, Host, IMAGE, Network};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Directories of sessions, in the temporary directory: this and a process id.
pub const HOME: &str = "ftl-bench-";
/// The server must answer within this.
const START: Duration = Duration::from_secs(40);
/// Address of host A on the bridge.
const HOST_A: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// What a session is to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Order {
    /// The server
    #[arg(long)]
    pub server: Server,
    /// How it runs
    #[arg(long)]
    pub mode: Mode,
    /// Connections, one measurement each
    #[arg(long, value_delimiter = ',')]
    pub connections: Vec<u32>,
    /// Thrown away first, ms
    #[arg(long)]
    pub warm_ms: u64,
    /// Measured, ms
    #[arg(long)]
    pub measure_ms: u64,
    /// The ftvm to use
    #[arg(long)]
    pub ftvm: PathBuf,
}

/// One measurement.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// What was asked.
    pub scenario: String,
    /// How the server ran.
    pub mode: Mode,
    /// Connections.
    pub connections: u32,
    /// Round, from 0.
    #[serde(default)]
    pub round: u32,
    /// Requests answered.
    pub requests: u64,
    /// In this time, s.
    pub seconds: f64,
    /// CPU time of all processes of the server's host in that time, s.
    pub server_cpu_s: f64,
    /// CPU time of the backup in that time, s.
    pub backup_cpu_s: f64,
    /// Percentile and latency, us.
    pub latency_us: Vec<(f64, f64)>,
    /// Requests that failed.
    pub errors: u64,
    /// Share of the machine's CPU time in that time that went to processes which are not ours.
    pub others: f64,
    /// The machine's load average at that time.
    pub load_average: f64,
}

impl Cell {
    /// Requests a second.
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// CPU time of the server's side for each request, us.
    pub fn cpu_us(&self) -> f64 {
        self.server_cpu_s * 1e6 / self.requests.max(1) as f64
    }

    /// A percentile, us.
    pub fn percentile(&self, p: f64) -> Option<f64> {
        self.latency_us.iter().find(|(q, _)| *q == p).map(|(_, us)| *us)
    }
}

/// CPUs: one for the server, one for load, backup and arbiter.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// The image's core.
    pub server: usize,
    /// Everything else's.
    pub other: usize,
}

impl Cpus {
    /// The first two that may be used.
    pub fn choose() -> Result<Cpus, String> {
        match host::cpus().map_err(|e| format!("sched_getaffinity: {e}"))?[..] {
            [server, other, ..] => Ok(Cpus { server, other }),
            _ => Err("one CPU: the load would take the server's time; two are needed".to_string()),
        }
    }
}

/// CPU time at a moment.
struct Used {
    server: CpuTime,
    backup: CpuTime,
    /// This process and the generators that it has waited for.
    load: CpuTime,
    machine: Machine,
}

/// A running server.
enum Running {
    Plain {
        child: Child,
        home: PathBuf,
        /// Where it is, if not where we are.
        net: Option<Network>,
    },
    Image(Box<Cluster>),
}

impl Running {
    fn start(order: &Order, home: &Path, cpus: Cpus) -> Result<Running, String> {
        let text = |e: io::Error| e.to_string();
        let pin = |to: &[usize]| host::pin(to).map_err(|e| format!("sched_setaffinity: {e}"));
        let place = match order.mode {
            Mode::NativeAll => host::cpus().map_err(text)?,
            _ => vec![cpus.server],
        };
        if matches!(order.mode, Mode::RunOwn | Mode::Protect) {
            let mut c = Cluster::new(Network::build()?, &order.ftvm, home).map_err(text)?;
            let command = order.server.command(&c.files()).map_err(text)?;
            // What is started is where this thread is.
            if order.mode == Mode::Protect {
                pin(&[cpus.other])?;
                c.start_agent(Side::B).map_err(text)?;
                pin(&place)?;
                c.start_image(&command).map_err(text)?;
                c.wait_ready(START).map_err(text)?;
                c.wait_protected(Side::A, START).map_err(text)?;
            } else {
                pin(&place)?;
                c.start_alone(&command).map_err(text)?;
            }
            pin(&[cpus.other])?;
            return Ok(Running::Image(Box::new(c)));
        }
        let net = match order.mode.bridged() {
            true => Some(Network::build()?),
            false => None,
        };
        fs::create_dir_all(home).map_err(text)?;
        let mut command = order.server.command(home).map_err(text)?;
        if order.mode.ours() {
            let ours = match order.mode {
                Mode::Record => format!("record -o {}/log --", home.display()),
                _ => "run --".to_string(),
            };
            let mut all = vec![order.ftvm.display().to_string()];
            all.extend(ours.split(' ').map(str::to_string));
            all.extend(command);
            command = all;
        }
        let log = fs::File::create(home.join("server.log")).map_err(text)?;
        let mut start = Command::new(&command[0]);
        start
            .args(&command[1..])
            .current_dir(home)
            .env("XDG_RUNTIME_DIR", home)
            .env("XDG_STATE_HOME", home)
            .env("XDG_DATA_HOME", home)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(text)?)
            .stderr(log);
        let child = elsewhere(net.as_ref().map(|n| &n.a), &place, || start.spawn());
        let child = child.map_err(|e| format!("{}: {e}: run ci/install", command[0]))?;
        Ok(Running::Plain {
            child,
            home: home.to_path_buf(),
            net,
        })
    }

    /// Where clients find it.
    fn address(&self, server: Server) -> SocketAddr {
        let ip = match self {
            Running::Plain { net: None, .. } => Ipv4Addr::LOCALHOST,
            Running::Plain { net: Some(_), .. } => HOST_A,
            Running::Image(_) => IMAGE,
        };
        (ip, server.port()).into()
    }

    /// Where the clients are, if not where we are.
    fn client(&self) -> Option<&Host> {
        match self {
            Running::Plain { net, .. } => net.as_ref().map(|n| &n.client),
            Running::Image(c) => Some(&c.net.client),
        }
    }

    /// CPU time so far.
    fn used(&self) -> Used {
        let (server, backup) = match self {
            Running::Plain { child, .. } => {
                let mut all = Vec::new();
                tree(child.id() as i32, &mut all);
                (CpuTime::of(&all), CpuTime::default())
            }
            Running::Image(c) => (
                CpuTime::of(&c.processes(Side::A)),
                CpuTime::of(&c.processes(Side::B)),
            ),
        };
        Used {
            server,
            backup,
            load: CpuTime::of(&[std::process::id() as i32]),
            machine: Machine::now(),
        }
    }

    /// It is still what was started: an image that another host goes on with, or that has no backup, is not
    /// what the mode's name says.
    fn intact(&self, mode: Mode) -> io::Result<()> {
        let Running::Image(c) = self else { return Ok(()) };
        if mode == Mode::Protect && c.log(Side::B).contains("taking over") {
            return Err(io::Error::other(
                "the backup took over while this was measured: a primary that gets no CPU counts as dead",
            ));
        }
        // It says so at its start too, before it says that it is protected.
        let a = c.log(Side::A);
        if mode == Mode::Protect && a.rfind("UNPROTECTED") > a.rfind("ftvm: protected") {
            return Err(io::Error::other(
                "the image lost its backup while this was measured",
            ));
        }
        Ok(())
    }

    /// What it printed.
    fn said(&self) -> String {
        match self {
            Running::Plain { home, .. } => fs::read_to_string(home.join("server.log")).unwrap_or_default(),
            Running::Image(c) => format!("--- A:\n{}--- B:\n{}", c.log(Side::A), c.log(Side::B)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A cluster ends its own.
        if let Running::Plain { child, home, .. } = self {
            let mut all = Vec::new();
            tree(child.id() as i32, &mut all);
            for pid in all.into_iter().filter_map(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            let _ = child.wait();
            let _ = fs::remove_dir_all(home);
        }
    }
}

/// Does something on a host and on CPUs, in a thread.
fn elsewhere<T: Send>(
    host: Option<&Host>,
    place: &[usize],
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|s| {
        let done = s.spawn(|| {
            host.map_or(Ok(()), Host::enter)?;
            host::pin(place)?;
            work()
        });
        done.join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread ended")))
    })
}

/// Waits until the server answers.
fn answers(to: SocketAddr, server: Server) -> io::Result<()> {
    let ask: &[u8] = match server {
        Server::Memcached => b"version\r\n",
        Server::Redis => b"PING\r\n",
        Server::Nginx | Server::Node => b"GET /page HTTP/1.1\r\nHost: bench\r\n\r\n",
    };
    let end = Instant::now() + START;
    loop {
        let once = || -> io::Result<()> {
            let mut s = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
            s.set_read_timeout(Some(Duration::from_secs(1)))?;
            s.write_all(ask)?;
            match s.read(&mut [0; 2000])? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            }
        };
        match once() {
            Ok(()) => return Ok(()),
            Err(e) if Instant::now() > end => {
                return Err(io::Error::new(e.kind(), format!("no answer from {to}: {e}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// One measurement; what is measured first is thrown away. `cpu` is asked right before and after the rest.
fn measure<C>(
    scenario: &str,
    to: SocketAddr,
    n: u32,
    order: &Order,
    home: &Path,
    cpu: impl Fn() -> C,
) -> io::Result<(Measured, C, C)> {
    let (warm, time) = (
        Duration::from_millis(order.warm_ms),
        Duration::from_millis(order.measure_ms),
    );
    let speak = match scenario {
        "memcached" => Speak::Memcached,
        "nginx" => Speak::Http("/page"),
        _ => Speak::Http("/"),
    };
    if let Some(test) = scenario.strip_prefix("redis-") {
        // It counts requests, not time: the rate so far says how many.
        let in_time = |m: &Measured, d: Duration| {
            let n = m.requests as f64 / m.seconds * d.as_secs_f64();
            (n as u64).max(200)
        };
        let first = tools::redis(to, test, n, 500)?;
        let second = tools::redis(to, test, n, in_time(&first, warm))?;
        let then = cpu();
        let m = tools::redis(to, test, n, in_time(&second, time))?;
        return Ok((m, then, cpu()));
    }
    drive(to, speak, n, warm)?;
    let then = cpu();
    let m = match speak {
        Speak::Memcached => {
            let d = drive(to, speak, n, time)?;
            let latency = |p: f64| (p, d.latency.value_at_quantile(p / 100.0) as f64 / 1e3);
            Measured {
                requests: d.requests,
                seconds: d.seconds,
                latency_us: PERCENTILES.map(latency).to_vec(),
                errors: 0,
            }
        }
        Speak::Http(path) => tools::wrk(to, path, n, time.as_secs().max(1), home)?,
    };
    Ok((m, then, cpu()))
}

/// Carries an order out.
pub fn session(order: &Order) -> Result<Vec<Cell>, String> {
    let cpus = Cpus::choose()?;
    net::enter()?;
    let home = std::env::temp_dir().join(format!("{HOME}{}", std::process::id()));
    let running = Running::start(order, &home, cpus)?;
    let tools_home = home.join("files");
    fs::create_dir_all(&tools_home).map_err(|e| format!("{}: {e}", tools_home.display()))?;
    let to = running.address(order.server);
    let with_log = |e: io::Error| format!("{e}\n{}", running.said());
    let work = || -> io::Result<Vec<Cell>> {
        answers(to, order.server)?;
        let mut all = Vec::new();
        for &n in &order.connections {
            for scenario in order.server.scenarios() {
                let (m, then, now) = measure(scenario, to, n, order, &tools_home, || running.used())?;
                running.intact(order.mode)?;
                if m.requests == 0 {
                    return Err(io::Error::other(format!(
                        "{scenario}, {n} connections: no answer at all"
                    )));
                }
                let (server_cpu_s, backup_cpu_s) =
                    (now.server.since(&then.server), now.backup.since(&then.backup));
                let ours_s = server_cpu_s + backup_cpu_s + now.load.ticks_since(&then.load);
                all.push(Cell {
                    scenario: scenario.to_string(),
                    mode: order.mode,
                    connections: n,
                    round: 0,
                    requests: m.requests,
                    seconds: m.seconds,
                    server_cpu_s,
                    backup_cpu_s,
                    latency_us: m.latency_us,
                    errors: m.errors,
                    others: now.machine.others_since(&then.machine, ours_s),
                    load_average: host::load_average(),
                });
            }
        }
        Ok(all)
    };
    elsewhere(running.client(), &[cpus.other], work).map_err(with_log)
}
