//! What snapshots, clones and migrations cost servers people run: redis that is written to all the time while it is
//! checkpointed again and again, a node server that is cloned warm, redis that moves under load.

use crate::host;
use crate::session::{Cpus, HOME};
use ftl_lab::cluster::{Cluster, Ended, Side, tree};
use ftl_lab::load::Load;
use ftl_lab::net::{self, A_LINK, B_LINK, IMAGE, Network};
use ftl_lab::speak::{Connection, Server};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);
const PORT: u16 = 7_000;
/// Values have about a page each.
const VALUE: usize = 4_000;
/// Values that are written to every [`TICK`]: 25,600 a second.
const BURST: usize = 256;
const TICK: Duration = Duration::from_millis(10);
/// Snapshots at one interval.
const SNAPSHOTS: u32 = 40;
/// The same once a second.
const SLOW_SNAPSHOTS: u32 = 10;
/// Clones.
const CLONES: u32 = 5;
/// Moves.
const MOVES: u32 = 5;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum What {
    /// redis with 100 MB of values.
    Redis100,
    /// redis with 1 GB of values.
    Redis1000,
    /// A node server.
    Node,
    /// redis with 100 MB of values moves to another host.
    Migrate,
}

impl What {
    /// All of them.
    pub const ALL: [What; 4] = [What::Redis100, What::Redis1000, What::Node, What::Migrate];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            What::Redis100 => "redis100",
            What::Redis1000 => "redis1000",
            What::Node => "node",
            What::Migrate => "migrate",
        }
    }
}

/// One of them.
#[derive(Clone, Debug, clap::Args)]
pub struct TravelOrder {
    /// Which
    #[arg(long)]
    pub what: What,
    /// The ftvm to use
    #[arg(long)]
    pub ftvm: PathBuf,
}

/// One figure: all its values.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Of what, and what it is.
    pub name: String,
    /// Unit.
    pub unit: String,
    /// Each measurement.
    pub values: Vec<f64>,
}

impl Figure {
    /// As a line.
    pub fn line(&self) -> String {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        // The smallest value that is no smaller than such a share of all.
        let at = |share: f64| {
            let n = (sorted.len() as f64 * share).ceil() as usize;
            sorted.get(n.max(1) - 1).copied().unwrap_or(f64::NAN)
        };
        match sorted.len() {
            1 => format!("{}: {:.2} {}", self.name, at(0.5), self.unit),
            n => format!(
                "{}: p50 {:.2}, p99 {:.2}, longest {:.2} {} ({n})",
                self.name,
                at(0.5),
                at(0.99),
                at(1.0),
                self.unit
            ),
        }
    }
}

/// Carries an order out.
pub fn travel(order: &TravelOrder) -> Result<Vec<Figure>, String> {
    let cpus = Cpus::choose()?;
    net::enter()?;
    let home = std::env::temp_dir().join(format!("{HOME}{}", std::process::id()));
    let done = match order.what {
        What::Redis100 => redis(&Place::new(&order.ftvm, &home, cpus), 100),
        What::Redis1000 => redis(&Place::new(&order.ftvm, &home, cpus), 1000),
        What::Node => node(&Place::new(&order.ftvm, &home, cpus)),
        What::Migrate => migrate(&order.ftvm, &home, cpus),
    };
    let _ = fs::remove_dir_all(&home);
    done.map_err(|e| e.to_string())
}

struct Place<'a> {
    ftvm: &'a Path,
    home: &'a Path,
    cpus: Cpus,
}

impl Place<'_> {
    fn new<'a>(ftvm: &'a Path, home: &'a Path, cpus: Cpus) -> Place<'a> {
        Place { ftvm, home, cpus }
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut c = Command::new(program);
        c.args(args)
            .current_dir(self.home)
            .env("XDG_RUNTIME_DIR", self.home)
            .env("XDG_STATE_HOME", self.home)
            .env("XDG_DATA_HOME", self.home)
            .stdin(Stdio::null());
        c
    }

    /// Starts a server on its CPU.
    fn start(&self, program: &Path, args: &[&str]) -> io::Result<Ended> {
        fs::create_dir_all(self.home)?;
        let log = self.home.join("log");
        let out = fs::File::options().create(true).append(true).open(log)?;
        host::pin(&[self.cpus.server])?;
        let child = self
            .command(program, args)
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn();
        host::pin(&[self.cpus.other])?;
        Ok(Ended(child?))
    }

    /// Carries a verb out, which prints JSON.
    fn verb(&self, args: &[&str]) -> io::Result<serde_json::Value> {
        let out = self.command(self.ftvm, args).output()?;
        let said = String::from_utf8_lossy(&out.stdout);
        let err = String::from_utf8_lossy(&out.stderr);
        match serde_json::from_str(said.trim()) {
            Ok(v) if out.status.success() => Ok(v),
            _ => Err(io::Error::other(format!("{args:?}: {said}{err}"))),
        }
    }
}

/// A connection that speaks redis' protocol, with many requests under way.
struct Redis(TcpStream);

fn word(out: &mut Vec<u8>, text: &[u8]) {
    let _ = write!(out, "${}\r\n", text.len());
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

impl Redis {
    fn open(port: u16) -> io::Result<Redis> {
        let s = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        s.set_nodelay(true)?;
        s.set_read_timeout(Some(PATIENCE))?;
        Ok(Redis(s))
    }

    /// Requests of so many words each, and their answers, all of which have this length.
    fn all(&mut self, requests: &[Vec<&[u8]>], answer: usize) -> io::Result<()> {
        let mut out = Vec::new();
        for words in requests {
            let _ = write!(out, "*{}\r\n", words.len());
            words.iter().for_each(|w| word(&mut out, w));
        }
        self.0.write_all(&out)?;
        let mut back = vec![0; answer * requests.len()];
        self.0.read_exact(&mut back)?;
        match back
            .chunks(answer)
            .find(|a| a[0] == b'-' || !a.ends_with(b"\r\n"))
        {
            None => Ok(()),
            Some(a) => Err(io::Error::other(String::from_utf8_lossy(a).into_owned())),
        }
    }
}

fn keys(first: usize, n: usize, of: usize) -> Vec<String> {
    (first..first + n).map(|k| format!("k{:07}", k % of)).collect()
}

fn until<T>(mut what: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match what() {
            Err(e) if Instant::now() > end => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_micros(500)),
            done => return done,
        }
    }
}

/// Writes to one value after the other until `stop`, [`BURST`] every [`TICK`]. Returns how many a second.
fn write_on(of: usize, stop: &AtomicBool) -> io::Result<f64> {
    let mut c = Redis::open(PORT)?;
    let (begun, mut at) = (Instant::now(), 0);
    let mut due = begun;
    while !stop.load(Ordering::Relaxed) {
        let stamp = format!("{at:08}");
        let keys = keys(at, BURST, of);
        let request = |k| vec![&b"SETRANGE"[..], String::as_bytes(k), b"100", stamp.as_bytes()];
        let all: Vec<_> = keys.iter().map(request).collect();
        c.all(&all, format!(":{VALUE}\r\n").len())?;
        at += BURST;
        due = (due + TICK).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(at as f64 / begun.elapsed().as_secs_f64())
}

/// Reads parts of values, 16 under way, until `stop`; `answers` counts.
fn read_on(of: usize, stop: &AtomicBool, answers: &AtomicU64) -> io::Result<()> {
    let mut c = Redis::open(PORT)?;
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        let keys = keys(at, 16, of);
        let request = |k| vec![&b"GETRANGE"[..], String::as_bytes(k), b"0", b"7"];
        let all: Vec<_> = keys.iter().map(request).collect();
        c.all(&all, "$8\r\n12345678\r\n".len())?;
        answers.fetch_add(16, Ordering::Relaxed);
        at += 7919;
    }
    Ok(())
}

fn ms(v: &serde_json::Value, key: &str) -> f64 {
    v[key].as_f64().unwrap_or(f64::NAN) / 1e3
}

/// Checkpoints redis again and again while it is written to and read from; then restores it.
fn redis(p: &Place<'_>, mib: usize) -> io::Result<Vec<Figure>> {
    let of = mib * 256;
    let port = PORT.to_string();
    let server = [
        "redis-server",
        "--port",
        &port,
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    let mut image = p.start(
        p.ftvm,
        &[&["run", "--no-cwd", "--name", "m", "--"], &server[..]].concat(),
    )?;
    let mut c = until(|| Redis::open(PORT))?;
    let value = vec![b'v'; VALUE];
    for first in (0..of).step_by(BURST) {
        let keys = keys(first, BURST, of);
        let all: Vec<_> = keys
            .iter()
            .map(|k| vec![&b"SET"[..], k.as_bytes(), &value])
            .collect();
        c.all(&all, "+OK\r\n".len())?;
    }
    let memory = host::memory_kib(&tree(image.0.id())) as f64 / 1024.0;
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut figures = Vec::new();
    let mut add = |name: &str, unit: &str, values: Vec<f64>| {
        figures.push(Figure {
            name: format!("redis, {mib} MiB: {name}"),
            unit: unit.to_string(),
            values,
        });
    };
    let rate = |time: Duration| {
        let before = answers.load(Ordering::Relaxed);
        std::thread::sleep(time);
        (answers.load(Ordering::Relaxed) - before) as f64 / time.as_secs_f64()
    };
    std::thread::scope(|s| -> io::Result<()> {
        let writer = s.spawn(|| write_on(of, &stop));
        let reader = s.spawn(|| read_on(of, &stop, &answers));
        let done = (|| -> io::Result<()> {
            rate(Duration::from_secs(1));
            let mut n = 0;
            for (every, count) in [(100, SNAPSHOTS), (1000, SLOW_SNAPSHOTS)] {
                let (mut stands, mut whole) = (Vec::new(), Vec::new());
                let mut due = Instant::now();
                let (mut with, mut alone) = (Vec::new(), Vec::new());
                for _ in 0..count {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    due += Duration::from_millis(every);
                    let (before, begun) = (answers.load(Ordering::Relaxed), Instant::now());
                    let file = format!("{n}.ftsnap");
                    let told = p.verb(&[
                        "checkpoint",
                        "m",
                        "--leave-running",
                        "--incremental",
                        "--json",
                        "-o",
                        &file,
                    ])?;
                    let longest = ms(&told, "pause_us").max(ms(&told, "longest_look_us"));
                    match told["parent"].is_null() {
                        true => whole.push(longest),
                        false => stands.push(longest),
                    }
                    // It is not restored.
                    fs::remove_file(p.home.join(&file))?;
                    n += 1;
                    if every == 1000 {
                        // A second with a snapshot, then one without: what else the machine does hits both.
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        let read = (answers.load(Ordering::Relaxed) - before) as f64;
                        with.push(read / begun.elapsed().as_secs_f64());
                        alone.push(rate(Duration::from_millis(every)));
                        due = Instant::now();
                    }
                }
                if !whole.is_empty() {
                    add("stands still longest for the first, whole snapshot", "ms", whole);
                }
                add(
                    &format!("stands still longest for a snapshot each {every} ms"),
                    "ms",
                    stands,
                );
                if every == 1000 {
                    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len().max(1) as f64;
                    add(
                        "reads at one snapshot a second, of those without",
                        "",
                        vec![mean(&with) / mean(&alone)],
                    );
                }
            }
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        let gone = || io::Error::other("a client gave up");
        let written = writer.join().map_err(|_| gone())?;
        let read = reader.join().map_err(|_| gone())?;
        done?;
        read?;
        add("values written to", "a second", vec![written?]);
        Ok(())
    })?;
    drop(c);
    p.verb(&["checkpoint", "m", "--json", "-o", "x.ftsnap"])?;
    let bytes = fs::metadata(p.home.join("x.ftsnap"))?.len();
    add("snapshot", "MiB", vec![bytes as f64 / f64::from(1 << 20)]);
    add("image before it", "MiB", vec![memory]);
    image.0.wait()?;
    let mut restores = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        let again = p.start(p.ftvm, &["restore", "x.ftsnap"])?;
        until(|| Redis::open(PORT)?.all(&[vec![b"GETRANGE", b"k0000001", b"0", b"7"]], 14))?;
        restores.push(begun.elapsed().as_secs_f64() * 1e3);
        drop(again);
    }
    add("restore to the first answer", "ms", restores);
    Ok(figures)
}

const NODE: &str = "const http = require('http');\n\
    let n = 0;\n\
    http.createServer((q, a) => { let h = n++; for (let i = 0; i < 1000; i++) h = (h * 31 + i) | 0; a.end('x' + h); })\n\
    \x20   .listen(+process.argv[2], '127.0.0.1');\n";

fn http(port: u16) -> io::Result<()> {
    let mut s = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    s.set_read_timeout(Some(PATIENCE))?;
    s.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    s.read_to_string(&mut text)?;
    match text.starts_with("HTTP/1.1 200") {
        true => Ok(()),
        false => Err(io::Error::other(format!("answered {text:?}"))),
    }
}

/// A node server that starts, and one that is cloned when it is warm: to the first answer.
fn node(p: &Place<'_>) -> io::Result<Vec<Figure>> {
    fs::create_dir_all(p.home)?;
    fs::write(p.home.join("s.js"), NODE)?;
    let script = p.home.join("s.js").display().to_string();
    let port = PORT.to_string();
    let figure = |name: &str, values| Figure {
        name: format!("node: {name}"),
        unit: "ms".to_string(),
        values,
    };
    let mut cold = [Vec::new(), Vec::new()];
    for _ in 0..CLONES {
        for (n, values) in cold.iter_mut().enumerate() {
            let begun = Instant::now();
            let one = match n {
                0 => p.start(Path::new("node"), &[&script, &port])?,
                _ => p.start(p.ftvm, &["run", "--no-cwd", "--", "node", &script, &port])?,
            };
            until(|| http(PORT))?;
            values.push(begun.elapsed().as_secs_f64() * 1e3);
            drop(one);
        }
    }
    let mut warm = p.start(
        p.ftvm,
        &["run", "--no-cwd", "--name", "w", "--", "node", &script, &port],
    )?;
    until(|| http(PORT))?;
    for _ in 0..500 {
        http(PORT)?;
    }
    p.verb(&["checkpoint", "w", "--json", "-o", "w.ftsnap"])?;
    warm.0.wait()?;
    let mut clones = Vec::new();
    for n in 0..CLONES {
        let ports = format!("{PORT}:{}", PORT + 1);
        let name = format!("c{n}");
        let begun = Instant::now();
        let one = p.start(p.ftvm, &["clone", "w.ftsnap", "--name", &name, "-p", &ports])?;
        until(|| http(PORT + 1))?;
        clones.push(begun.elapsed().as_secs_f64() * 1e3);
        drop(one);
    }
    let [native, run] = cold;
    Ok(vec![
        figure("start to the first answer, Linux", native),
        figure("start to the first answer, run", run),
        figure("clone of a warm one to the first answer", clones),
    ])
}

/// Redis with clients at work moves to another host of the laboratory and back.
fn migrate(ftvm: &Path, home: &Path, cpus: Cpus) -> io::Result<Vec<Figure>> {
    const AGENT: u16 = 7100;
    let mut c = Cluster::new(Network::build().map_err(io::Error::other)?, ftvm, home)?;
    let mut command = vec![Server::Redis.program().to_string()];
    command.extend(Server::Redis.arguments(&c.files())?);
    host::pin(&[cpus.other])?;
    c.start_agent(Side::B)?;
    host::pin(&[cpus.server])?;
    c.start_alone(&command)?;
    host::pin(&[cpus.other])?;
    c.net
        .client
        .within(|| until(|| Connection::open(Server::Redis, IMAGE, PATIENCE)?.bulk(100_000_000)))?;
    let load = Load::start(Server::Redis, &c.net.client, 8, Duration::from_millis(1), 7)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut at = Side::A;
    for n in 0..MOVES {
        let to = match at {
            Side::A => B_LINK,
            Side::B => A_LINK,
        };
        c.verb(at, &format!("migrate lab {to}:{AGENT} --insecure --json"))?;
        if n == 0 {
            // The agent of the first host: its image has gone.
            c.image_end(Duration::from_secs(20))
                .ok_or_else(|| io::Error::other("the image runs on where it was"))?;
            c.start_agent(Side::A)?;
        }
        at = at.other();
        std::thread::sleep(Duration::from_millis(500));
    }
    let v = load.finish(&c.net.client);
    if !v.good() {
        return Err(io::Error::other(format!("clients: {:?}", v.wrong)));
    }
    let said = fs::read_to_string(c.files().with_file_name("verbs.log"))?;
    let downs: Vec<f64> = said
        .lines()
        .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok())
        .filter_map(|v| Some(v["downtime_us"].as_f64()? / 1e3))
        .collect();
    if downs.len() != MOVES as usize {
        return Err(io::Error::other(format!("no downtimes were told: {said}")));
    }
    Ok(vec![Figure {
        name: "redis, 100 MB, moves under load: stands still".to_string(),
        unit: "ms".to_string(),
        values: downs,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_lines() {
        let f = |values| Figure {
            name: "redis: pause".to_string(),
            unit: "ms".to_string(),
            values,
        };
        assert_eq!(f(vec![1.5]).line(), "redis: pause: 1.50 ms");
        let many = f((1..=100).rev().map(f64::from).collect());
        assert_eq!(
            many.line(),
            "redis: pause: p50 50.00, p99 99.00, longest 100.00 ms (100)"
        );
    }
}
