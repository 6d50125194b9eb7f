//! One server in one mode, started, measured with each number of connections, and ended. Runs in a process and in
//! namespaces of its own: nothing of the machine's network is touched, and ports are free.

use crate::drive::{self, Driven, Speak, drive};
use crate::host::{self, CpuTime, Machine};
use crate::jobs;
use crate::plan::{Mode, OPEN_CONNECTIONS, Server};
use crate::tools::{self, Measured, PERCENTILES};
use ftl_lab::cluster::{Cluster, Side, end, tree};
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
    /// Requests a second of an open loop, measured last
    #[arg(long)]
    pub open: Option<u32>,
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
    /// CPU time of the load generators in that time, s.
    pub load_cpu_s: f64,
    /// Memory of the server's side right after: proportional set sizes, KiB. For programs that end: the largest resident
    /// set of one process so far.
    pub memory_kib: u64,
    /// Requests a second that were due, for an open loop.
    pub rate: Option<u32>,
    /// The longest that the open loop was behind its own clock, us.
    pub late_us: Option<f64>,
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
        if order.mode == Mode::RunOwn || order.mode.commit().is_some() {
            let mut c = Cluster::new(Network::build()?, &order.ftvm, home).map_err(text)?;
            let command = order.server.command(&c.files()).map_err(text)?;
            // What is started is where this thread is.
            if let Some(commit) = order.mode.commit() {
                c.options = format!("--commit {commit}");
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
                Mode::RecordOff => format!("record --predict off -o {}/log --", home.display()),
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
            Running::Plain { child, .. } => (CpuTime::of(&tree(child.id())), CpuTime::default()),
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

    /// Proportional set sizes of the server's side, KiB.
    fn memory_kib(&self) -> u64 {
        let all = match self {
            Running::Plain { child, .. } => tree(child.id()),
            Running::Image(c) => c.processes(Side::A),
        };
        host::memory_kib(&all)
    }

    /// It is still what was started: an image that another host goes on with, or that has no backup, is not
    /// what the mode's name says.
    fn intact(&self, mode: Mode) -> io::Result<()> {
        match self {
            Running::Image(c) if mode.commit().is_some() => still_protected(c),
            _ => Ok(()),
        }
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
            end(child);
            let _ = fs::remove_dir_all(home);
        }
    }
}

/// The image on A has its backup.
pub fn still_protected(c: &Cluster) -> io::Result<()> {
    if c.log(Side::B).contains("taking over") {
        return Err(io::Error::other(
            "the backup took over while this was measured: a primary that gets no CPU counts as dead",
        ));
    }
    // It says so at its start too, before it says that it is protected.
    let a = c.log(Side::A);
    if a.rfind("UNPROTECTED") > a.rfind("ftvm: protected") {
        return Err(io::Error::other(format!(
            "the image lost its backup while this was measured\n--- A:\n{a}--- B:\n{}",
            c.log(Side::B)
        )));
    }
    Ok(())
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
pub fn answers(to: SocketAddr, server: Server) -> io::Result<()> {
    let ask: &[u8] = match server {
        Server::Memcached | Server::Memcached4 | Server::Scale => b"version\r\n",
        Server::Redis | Server::Bgsave => b"PING\r\n",
        // A request for TLS, which it answers with one byte.
        Server::Postgres => &[0, 0, 0, 8, 4, 210, 22, 47],
        Server::Nginx | Server::Nginx4 | Server::Node => b"GET /page HTTP/1.1\r\nHost: bench\r\n\r\n",
        job => return Err(io::Error::other(format!("{} is no server", job.name()))),
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

/// What a scenario is asked.
pub fn speak_of(scenario: &str) -> Speak {
    match scenario {
        s if s.starts_with("memcached") => Speak::Memcached,
        s if s.starts_with("redis") => Speak::Redis,
        "nginx-1mb" => Speak::Http("/big"),
        s if s.starts_with("nginx") => Speak::Http("/page"),
        _ => Speak::Http("/"),
    }
}

fn measured(d: &Driven, percentiles: &[f64]) -> Measured {
    let latency = |p: &f64| (*p, d.latency.value_at_quantile(p / 100.0) as f64 / 1e3);
    Measured {
        requests: d.requests,
        seconds: d.seconds,
        latency_us: percentiles.iter().map(latency).collect(),
        errors: 0,
        late_us: (d.late_ns > 0).then_some(d.late_ns as f64 / 1e3),
    }
}

/// Percentiles of the open loop's distribution: more where the tail is.
pub fn open_percentiles() -> Vec<f64> {
    let mut all: Vec<f64> = (1..=18).map(|n| f64::from(n) * 5.0).collect();
    all.extend(PERCENTILES);
    all.extend([92.0, 94.0, 96.0, 97.0, 98.0, 99.2, 99.7, 99.8, 99.95]);
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// Redis, told to save to its disk again and again.
struct Saving {
    over: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<io::Result<u32>>,
}

impl Saving {
    /// With this pause between two commands; one that comes while it saves is refused, and harmless.
    const PAUSE: Duration = Duration::from_millis(50);

    fn start(to: SocketAddr) -> io::Result<Saving> {
        let mut s = TcpStream::connect(to)?;
        s.set_read_timeout(Some(START))?;
        let (over, ended) = std::sync::mpsc::channel();
        // In the namespace of the caller, as all its threads.
        let thread = std::thread::spawn(move || {
            let mut started = 0;
            loop {
                s.write_all(b"BGSAVE\r\n")?;
                let mut buf = [0; 500];
                let n = s.read(&mut buf)?;
                started += u32::from(buf[..n].starts_with(b"+Background saving started"));
                match ended.recv_timeout(Saving::PAUSE) {
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                    _ => return Ok(started),
                }
            }
        });
        Ok(Saving { over, thread })
    }

    /// An error if it has never saved.
    fn end(self) -> io::Result<()> {
        drop(self.over);
        match self.thread.join() {
            Ok(Ok(1..)) => Ok(()),
            Ok(Ok(0)) => Err(io::Error::other("redis has started no BGSAVE")),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(io::Error::other("a thread ended")),
        }
    }
}

/// Programs that end, in one mode, again and again for the time of a measurement.
fn job_cells(order: &Order, home: &Path, cpus: Cpus) -> Result<Vec<Cell>, String> {
    let text = |e: io::Error| e.to_string();
    fs::create_dir_all(home).map_err(text)?;
    let work = || -> io::Result<Vec<Cell>> {
        jobs::prepare(order.server, home)?;
        // What is started is where this thread is.
        match order.mode {
            Mode::NativeAll => {}
            _ => host::pin(&[cpus.server])?,
        }
        let mut all = Vec::new();
        for scenario in order.server.scenarios() {
            let command = jobs::command(scenario, home, order.measure_ms);
            let micro = order.server == Server::Micro;
            if !micro {
                once(order, &command, home)?;
            }
            let (then, cpu_then) = (Machine::now(), host::children()?);
            let start = Instant::now();
            let (mut units, mut each) = (0u64, Vec::new());
            let seconds = loop {
                let one = Instant::now();
                let said = once(order, &command, home)?;
                each.push(one.elapsed().as_secs_f64() * 1e6);
                if micro {
                    let (n, s) = jobs::read_micro(&said)
                        .ok_or_else(|| io::Error::other(format!("{scenario} said {said:?}")))?;
                    units = n;
                    break s;
                }
                units += 1;
                if start.elapsed().as_millis() as u64 >= order.measure_ms {
                    break start.elapsed().as_secs_f64();
                }
            };
            let (cpu_s, memory_kib) = host::children()?;
            let server_cpu_s = cpu_s - cpu_then.0;
            let p50 = crate::stats::median(&each).filter(|_| !micro);
            all.push(Cell {
                scenario: scenario.to_string(),
                mode: order.mode,
                connections: 1,
                round: 0,
                requests: units,
                seconds,
                server_cpu_s,
                backup_cpu_s: 0.0,
                load_cpu_s: 0.0,
                memory_kib,
                rate: None,
                late_us: None,
                latency_us: p50.map(|us| (50.0, us)).into_iter().collect(),
                errors: 0,
                others: Machine::now().others_since(&then, server_cpu_s),
                load_average: host::load_average(),
            });
        }
        Ok(all)
    };
    let done = work().map_err(text);
    let _ = fs::remove_dir_all(home);
    done
}

/// Runs a program to its end; what it printed.
fn once(order: &Order, command: &[String], home: &Path) -> io::Result<String> {
    let log = home.join("log");
    let mut all = match order.mode {
        Mode::Run => vec![order.ftvm.display().to_string(), "run".to_string()],
        Mode::Record | Mode::RecordOff => {
            let _ = fs::remove_dir_all(&log);
            let how = if order.mode == Mode::Record { "on" } else { "off" };
            let out = log.display().to_string();
            ["record", "--predict", how, "-o", &out].iter().fold(
                vec![order.ftvm.display().to_string()],
                |mut all, word| {
                    all.push(word.to_string());
                    all
                },
            )
        }
        _ => Vec::new(),
    };
    if order.mode.ours() {
        all.push("--".to_string());
    }
    all.extend_from_slice(command);
    let out = Command::new(&all[0])
        .args(&all[1..])
        .current_dir(home)
        .env("XDG_RUNTIME_DIR", home)
        .env("XDG_STATE_HOME", home)
        .env("XDG_DATA_HOME", home)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| io::Error::other(format!("{}: {e}: run ci/install", all[0])))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(io::Error::other(format!(
            "{}: {}: {}",
            command.join(" "),
            out.status,
            String::from_utf8_lossy(&out.stderr)
        ))),
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
    let speak = speak_of(scenario);
    if let Some(what) = scenario.strip_prefix("pgbench-") {
        let select = what == "select";
        tools::pgbench_run(to, select, n, warm.as_secs().max(1))?;
        let then = cpu();
        let m = tools::pgbench_run(to, select, n, time.as_secs().max(1))?;
        return Ok((m, then, cpu()));
    }
    if let Some(what) = scenario.strip_prefix("redis-") {
        let (test, how) = what.split_once('-').unwrap_or((what, ""));
        let pipeline = if how == "p16" { 16 } else { 1 };
        // It counts requests, not time: the rate so far says how many.
        let in_time = |m: &Measured, d: Duration| {
            let n = m.requests as f64 / m.seconds * d.as_secs_f64();
            (n as u64).max(200)
        };
        let saving = if how == "bgsave" {
            Some(Saving::start(to)?)
        } else {
            None
        };
        let first = tools::redis(to, test, n, pipeline, 500)?;
        let second = tools::redis(to, test, n, pipeline, in_time(&first, warm))?;
        let then = cpu();
        let m = tools::redis(to, test, n, pipeline, in_time(&second, time))?;
        if let Some(s) = saving {
            s.end()?;
        }
        return Ok((m, then, cpu()));
    }
    drive(to, speak, n, warm)?;
    let then = cpu();
    let m = match speak {
        Speak::Memcached | Speak::Redis => measured(&drive(to, speak, n, time)?, &PERCENTILES),
        Speak::Http(path) => tools::wrk(to, path, n, time.as_secs().max(1), home)?,
    };
    Ok((m, then, cpu()))
}

/// Carries an order out.
pub fn session(order: &Order) -> Result<Vec<Cell>, String> {
    let cpus = Cpus::choose()?;
    net::enter()?;
    let home = std::env::temp_dir().join(format!("{HOME}{}", std::process::id()));
    host::many_files().map_err(|e| format!("setrlimit: {e}"))?;
    if order.server.is_job() {
        return job_cells(order, &home, cpus);
    }
    let running = Running::start(order, &home, cpus)?;
    let tools_home = home.join("files");
    fs::create_dir_all(&tools_home).map_err(|e| format!("{}: {e}", tools_home.display()))?;
    let to = running.address(order.server);
    let with_log = |e: io::Error| format!("{e}\n{}", running.said());
    let work = || -> io::Result<Vec<Cell>> {
        answers(to, order.server)?;
        match order.server {
            Server::Postgres => tools::pgbench_fill(to)?,
            // So that there is something to save.
            Server::Bgsave => drop(tools::redis(to, "set", 16, 16, 200_000)?),
            _ => {}
        }
        let mut all = Vec::new();
        let mut what: Vec<(String, u32, Option<u32>)> = Vec::new();
        for &n in &order.connections {
            let closed = order.server.scenarios().iter();
            what.extend(closed.map(|s| (s.to_string(), n, None)));
        }
        let open = order.open.map(|rate| {
            let n = OPEN_CONNECTIONS;
            (order.server.open_scenario(), n, Some(rate))
        });
        what.extend(open);
        for (scenario, n, rate) in what {
            {
                let (m, then, now) = match rate {
                    None => measure(&scenario, to, n, order, &tools_home, || running.used())?,
                    Some(rate) => {
                        let ms = Duration::from_millis;
                        let speak = speak_of(order.server.name());
                        drive::open(to, speak, n, rate, ms(order.warm_ms))?;
                        let then = running.used();
                        let d = drive::open(to, speak, n, rate, ms(order.measure_ms))?;
                        (measured(&d, &open_percentiles()), then, running.used())
                    }
                };
                running.intact(order.mode)?;
                if m.requests == 0 {
                    return Err(io::Error::other(format!(
                        "{scenario}, {n} connections: no answer at all"
                    )));
                }
                let (server_cpu_s, backup_cpu_s) =
                    (now.server.since(&then.server), now.backup.since(&then.backup));
                let load_cpu_s = now.load.ticks_since(&then.load);
                let ours_s = server_cpu_s + backup_cpu_s + load_cpu_s;
                all.push(Cell {
                    scenario,
                    mode: order.mode,
                    connections: n,
                    round: 0,
                    requests: m.requests,
                    seconds: m.seconds,
                    server_cpu_s,
                    backup_cpu_s,
                    load_cpu_s,
                    memory_kib: running.memory_kib(),
                    rate,
                    late_us: m.late_us,
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
