//! What recording costs and what its log holds: the figures that throughput alone does not show.
//!
//! * **Cost**: `run` and `record` of one server side by side on the image's CPU, asked in turns (A B B A). Of each round (both
//!   started anew) comes one ratio of CPU time a request; rounds go on until its interval is narrow enough, or their
//!   number is used up.
//! * **Log**: `ftvm log info` of a recording under load, less that of one which only started and ended. What is left is
//!   what requests cost; with prediction and without.
//! * **Replay**: how long the first of these takes to reproduce.

use crate::drive::drive;
use crate::host::{self, CpuTime, Machine};
use crate::plan::Server;
use crate::session::{Cpus, HOME, answers, speak_of};
use crate::stats::Ratio;
use ftl_lab::cluster::tree;
use ftl_lab::net;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(90);
/// The other server's port is this much higher.
const BESIDE: u16 = 1;
/// Rounds before the interval is looked at: fewer have none that means anything.
const LEAST_ROUNDS: u32 = 5;
/// Widest 95 % interval of the ratio that counts as resolved.
pub const WIDTH: f64 = 0.015;

/// The servers whose recording is measured.
pub const SERVERS: [Server; 4] = [Server::Redis, Server::Memcached, Server::Nginx, Server::Node];

/// One server with one number of connections.
#[derive(Clone, Debug, clap::Args)]
pub struct Order {
    /// The server
    #[arg(long)]
    pub server: Server,
    /// Connections
    #[arg(long)]
    pub connections: u32,
    /// Thrown away first, ms
    #[arg(long)]
    pub warm_ms: u64,
    /// Measured of each side of a round, ms
    #[arg(long)]
    pub measure_ms: u64,
    /// Most rounds
    #[arg(long)]
    pub rounds: u32,
    /// Of the bootstrap
    #[arg(long)]
    pub seed: u64,
    /// The ftvm to use
    #[arg(long)]
    pub ftvm: PathBuf,
}

/// One round: CPU time a request of the server's side, us.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pair {
    /// Under `run`.
    pub run_us: f64,
    /// Under `record`, the log's compression included.
    pub record_us: f64,
}

/// How often something was asked, and how often its answer had to be logged.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Kind {
    /// What.
    pub name: String,
    /// Asked.
    pub asked: u64,
    /// Of these, not as predicted.
    pub logged: u64,
}

impl Kind {
    /// Share as predicted, %.
    pub fn hits(&self) -> f64 {
        100.0 * (1.0 - self.logged as f64 / self.asked.max(1) as f64)
    }
}

/// What one log holds, bytes a request; start and end are taken off.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Requests in it.
    pub requests: u64,
    /// The inputs' own bytes.
    pub inputs: f64,
    /// Choices: what was not as predicted.
    pub choices: f64,
    /// Frames' heads, checks.
    pub framing: f64,
    /// Pages of preempted slices.
    pub cuts: f64,
    /// All of it on disk, after zstd.
    pub disk: f64,
    /// By kind of choice. Answers of calls are one kind.
    pub kinds: Vec<Kind>,
    /// Waited for predictions to come true, ms in all.
    pub waited_ms: f64,
    /// Clock from real time, of reads at the door: median, 99 of 100, most, us.
    pub clock_us: [f64; 3],
}

/// A recording and its replay.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Replayed {
    /// From the start of the recording to its end, s: clients and start-up included.
    pub recorded_s: f64,
    /// From the start of the replay to its end, s.
    pub replayed_s: f64,
    /// CPU time of the recording, s.
    pub recorded_cpu_s: f64,
    /// CPU time of the replay, s.
    pub replayed_cpu_s: f64,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Recording {
    /// The server.
    pub server: Server,
    /// Connections.
    pub connections: u32,
    /// Rounds.
    pub pairs: Vec<Pair>,
    /// The log.
    pub predicted: Held,
    /// The log of `--predict off`.
    pub unpredicted: Held,
    /// Its replay.
    pub replay: Replayed,
    /// Share of the machine's CPU time in the rounds that went to processes which are not ours.
    pub others: f64,
}

impl Recording {
    /// CPU time a request under `run` over that under `record`: the throughput of a core that has nothing else to do.
    pub fn share(&self, seed: u64) -> Option<Ratio> {
        share(&self.pairs, seed)
    }

    /// For a table and a page.
    pub fn lines(&self, seed: u64) -> Vec<String> {
        let what = format!("record {}, {} conn", self.server.name(), self.connections);
        let (p, off, r) = (&self.predicted, &self.unpredicted, &self.replay);
        let cost = match self.share(seed) {
            None => "one round".to_string(),
            Some(s) => format!(
                "{}{:.3}..{:.3} of run's after {} rounds",
                match narrow(&s) {
                    true => format!("{:.3}, ", s.median),
                    false => "not resolved, ".to_string(),
                },
                s.low,
                s.high,
                s.rounds
            ),
        };
        let kinds: Vec<String> = p
            .kinds
            .iter()
            .filter(|k| k.asked > 0)
            .map(|k| format!("{} {:.2} %", k.name, k.hits()))
            .collect();
        vec![
            format!("{what}: requests by CPU time {cost}"),
            format!(
                "  bytes a request: choices {:.1} (unpredicted {:.1}), framing {:.1}, cuts {:.1}, inputs {:.1}; on disk {:.1} in all (unpredicted {:.1})",
                p.choices, off.choices, p.framing, p.cuts, p.inputs, p.disk, off.disk
            ),
            format!(
                "  as predicted: {}; waited {:.0} ms",
                kinds.join(", "),
                p.waited_ms
            ),
            format!(
                "  clock off by {:.0}/{:.0}/{:.0} us (p50/p99/most); replay in 1/{:.1} of the time, with {:.2} of the CPU time",
                p.clock_us[0],
                p.clock_us[1],
                p.clock_us[2],
                r.recorded_s / r.replayed_s,
                r.replayed_cpu_s / r.recorded_cpu_s
            ),
        ]
    }
}

fn share(pairs: &[Pair], seed: u64) -> Option<Ratio> {
    let ratios: Vec<f64> = pairs.iter().map(|p| p.run_us / p.record_us).collect();
    Ratio::of(&ratios, seed)
}

/// Whether a ratio is known well enough to be told.
pub fn narrow(r: &Ratio) -> bool {
    r.high - r.low < WIDTH
}

/// A server under `ftvm`.
struct Up {
    child: Child,
    /// What it and ftvm print.
    said: PathBuf,
    to: SocketAddr,
    since: Instant,
}

impl Drop for Up {
    fn drop(&mut self) {
        ftl_lab::cluster::end(&mut self.child);
    }
}

impl Up {
    /// Starts it on the image's CPU, and waits for its first answer. `how` is the command of ftvm.
    fn start(order: &Order, home: &Path, how: &[&str], port: u16, cpus: Cpus) -> io::Result<Up> {
        fs::create_dir_all(home)?;
        let said = fs::File::create(home.join("server.log"))?;
        let mut command = Command::new(&order.ftvm);
        command
            .args(how)
            .arg("--")
            .args(order.server.command_on(home, port)?)
            .current_dir(home)
            .env("XDG_RUNTIME_DIR", home)
            .env("XDG_STATE_HOME", home)
            .env("XDG_DATA_HOME", home)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        // What is started is where this thread is.
        host::pin(&[cpus.server])?;
        let since = Instant::now();
        let child = command.spawn();
        host::pin(&[cpus.other])?;
        let mut up = Up {
            child: child?,
            said: home.join("server.log"),
            to: (Ipv4Addr::LOCALHOST, port).into(),
            since,
        };
        match answers(up.to, order.server) {
            Ok(()) => Ok(up),
            Err(e) => Err(up.failed(&e)),
        }
    }

    /// The same error with what is known of the server: whether it is there, and what it said.
    fn failed(&mut self, e: &io::Error) -> io::Error {
        // One that breaks hangs up first and is gone a moment later.
        std::thread::sleep(Duration::from_millis(200));
        let state = match self.child.try_wait() {
            Ok(Some(status)) => format!("it ended with {status}"),
            _ => "it runs".to_string(),
        };
        let s = self.since.elapsed().as_secs_f64();
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        io::Error::new(
            e.kind(),
            format!(
                "{e}, {s:.1} s after the start of the server at {}; {state}\n{said}",
                self.to
            ),
        )
    }

    fn cpu(&self) -> CpuTime {
        CpuTime::of(&tree(self.child.id()))
    }

    /// Asks it for a time: requests, and CPU time of its side, s.
    fn ask(&mut self, order: &Order, ms: u64) -> io::Result<(u64, f64)> {
        let speak = speak_of(order.server.name());
        let then = self.cpu();
        match drive(self.to, speak, order.connections, Duration::from_millis(ms)) {
            Ok(d) => Ok((d.requests, self.cpu().since(&then))),
            Err(e) => Err(self.failed(&e)),
        }
    }

    /// Ends it in order; how long it was there, s.
    fn end(mut self) -> io::Result<f64> {
        let pid = Pid::from_raw(self.child.id() as i32).ok_or(io::ErrorKind::NotFound)?;
        kill_process(pid, Signal::TERM)?;
        let end = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                return Err(io::Error::other("a server does not end"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.since.elapsed().as_secs_f64())
    }
}

/// Both servers side by side, asked in turns.
fn round(order: &Order, home: &Path, cpus: Cpus, first: usize) -> io::Result<Pair> {
    let log = home.join("log").display().to_string();
    let port = order.server.port();
    let mut both = [
        Up::start(order, &home.join("run"), &["run"], port, cpus)?,
        Up::start(
            order,
            &home.join("record"),
            &["record", "-o", &log],
            port + BESIDE,
            cpus,
        )?,
    ];
    let (mut requests, mut cpu_s) = ([0; 2], [0.0; 2]);
    for up in &mut both {
        up.ask(order, order.warm_ms)?;
    }
    // What drifts steadily hits both sides alike.
    for side in [0, 1, 1, 0].map(|s| s ^ first) {
        let (n, s) = both[side].ask(order, (order.measure_ms / 2).max(1))?;
        requests[side] += n;
        cpu_s[side] += s;
    }
    for up in both {
        up.end()?;
    }
    let [run_us, record_us] = [0, 1].map(|s| cpu_s[s] * 1e6 / requests[s].max(1) as f64);
    if !(run_us > 0.0 && record_us > 0.0) {
        return Err(io::Error::other(format!(
            "{requests:?} requests took {cpu_s:?} s of CPU time"
        )));
    }
    Ok(Pair { run_us, record_us })
}

/// A recording: what `ftvm log info` says of it, the requests in it, and how long it took. The log stays at `log`.
fn recorded(
    order: &Order,
    home: &Path,
    log: &Path,
    predict: &str,
    load: bool,
    cpus: Cpus,
) -> io::Result<(Value, u64, f64)> {
    let at = log.display().to_string();
    let how = ["record", "--predict", predict, "-o", &at];
    let mut up = Up::start(order, home, &how, order.server.port(), cpus)?;
    let mut requests = 0;
    if load {
        for ms in [order.warm_ms, order.measure_ms] {
            requests += up.ask(order, ms)?.0;
        }
    }
    let took = up.end()?;
    let out = Command::new(&order.ftvm)
        .args(["log", "info", "--json", &at])
        .output()?;
    let said = String::from_utf8_lossy(&out.stdout);
    let info: Value = serde_json::from_str(&said)
        .map_err(|e| io::Error::other(format!("{e}: {said}{}", String::from_utf8_lossy(&out.stderr))))?;
    match info["whole"] == Value::Bool(true) {
        true => Ok((info, requests, took)),
        false => Err(io::Error::other(format!("a log without its end: {said}"))),
    }
}

/// What a log holds beyond one of a run without load.
fn held(with: &Value, without: &Value, requests: u64) -> Result<Held, String> {
    let number = |v: &Value, path: &str| {
        let found = v.pointer(path).and_then(Value::as_f64);
        found.ok_or(format!("`ftvm log info` says nothing of {path}"))
    };
    let more = |path: &str| Ok::<f64, String>((number(with, path)? - number(without, path)?).max(0.0));
    let each = |path: &str| Ok::<f64, String>(more(path)? / requests.max(1) as f64);
    let mut kinds = Vec::new();
    let mut kind = |name: &str, at: &str| -> Result<(), String> {
        kinds.push(Kind {
            name: name.to_string(),
            asked: more(&format!("{at}/asked"))? as u64,
            logged: more(&format!("{at}/logged"))? as u64,
        });
        Ok(())
    };
    kind("clock", "/stats/clock")?;
    for stamp in ["absorb point", "stream", "length"] {
        kind(stamp, &format!("/stats/stamps/{stamp}"))?;
    }
    let sum = |v: &Value, what: &str| -> u64 {
        let all = v.pointer("/stats/queries").and_then(Value::as_object);
        all.into_iter()
            .flat_map(|m| m.values())
            .filter_map(|q| q[what].as_u64())
            .sum()
    };
    kinds.push(Kind {
        name: "answers".to_string(),
        asked: sum(with, "asked").saturating_sub(sum(without, "asked")),
        logged: sum(with, "logged").saturating_sub(sum(without, "logged")),
    });
    let error = |what: &str| Ok::<f64, String>(number(with, &format!("/stats/clock/error_ns/{what}"))? / 1e3);
    Ok(Held {
        requests,
        inputs: each("/input_bytes")?,
        choices: each("/beyond/choices")?,
        framing: each("/beyond/framing")?,
        cuts: each("/beyond/cuts")?,
        disk: each("/disk_bytes")?,
        kinds,
        waited_ms: more("/stats/waited_ns")? / 1e6,
        clock_us: [error("p50")?, error("p99")?, error("max")?],
    })
}

/// The same log, reproduced on the same CPU.
fn replay(
    order: &Order,
    log: &Path,
    cpus: Cpus,
    recorded_s: f64,
    recorded_cpu_s: f64,
) -> io::Result<Replayed> {
    let (cpu_then, _) = host::children()?;
    host::pin(&[cpus.server])?;
    let start = Instant::now();
    let out = Command::new(&order.ftvm)
        .arg("replay")
        .arg(log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output();
    let replayed_s = start.elapsed().as_secs_f64();
    host::pin(&[cpus.other])?;
    let out = out?;
    match out.status.success() {
        true => Ok(Replayed {
            recorded_s,
            replayed_s,
            recorded_cpu_s,
            replayed_cpu_s: host::children()?.0 - cpu_then,
        }),
        false => Err(io::Error::other(format!(
            "the replay ended with {}: {}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        ))),
    }
}

/// Carries an order out.
pub fn recording(order: &Order) -> Result<Recording, String> {
    let cpus = Cpus::choose()?;
    net::enter()?;
    let home = std::env::temp_dir().join(format!("{HOME}{}", std::process::id()));
    let done = measured(order, &home, cpus).map_err(|e| e.to_string());
    let _ = fs::remove_dir_all(&home);
    done
}

fn measured(order: &Order, home: &Path, cpus: Cpus) -> io::Result<Recording> {
    host::pin(&[cpus.other])?;
    let started = Machine::now();
    let mut pairs = Vec::new();
    for n in 0..order.rounds {
        let place = home.join(format!("round{n}"));
        pairs.push(round(order, &place, cpus, n as usize % 2)?);
        fs::remove_dir_all(&place)?;
        let known = share(&pairs, order.seed);
        if n + 1 >= LEAST_ROUNDS && known.is_some_and(|s| narrow(&s)) {
            break;
        }
    }
    // This process began with this, and its ticks have those of its children in them.
    let me = CpuTime::of(&[std::process::id() as i32]);
    let others = Machine::now().others_since(&started, me.ticks_since(&CpuTime::default()));
    let mut logs = Vec::new();
    let mut replayed = None;
    for predict in ["on", "off"] {
        let place = home.join(predict);
        let (idle, full) = (place.join("idle"), place.join("full"));
        let (without, ..) = recorded(order, &place.join("a"), &idle, predict, false, cpus)?;
        let (cpu_then, _) = host::children()?;
        let (with, requests, took) = recorded(order, &place.join("b"), &full, predict, true, cpus)?;
        let cpu_s = host::children()?.0 - cpu_then;
        logs.push(held(&with, &without, requests).map_err(io::Error::other)?);
        if predict == "on" {
            replayed = Some(replay(order, &full, cpus, took, cpu_s)?);
        }
        fs::remove_dir_all(&place)?;
    }
    match (logs.pop(), logs.pop(), replayed) {
        (Some(unpredicted), Some(predicted), Some(replay)) => Ok(Recording {
            server: order.server,
            connections: order.connections,
            pairs,
            predicted,
            unpredicted,
            replay,
            others,
        }),
        _ => Err(io::Error::other("no log")),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn info(requests: u64, logged: u64) -> Value {
        serde_json::json!({
            "input_bytes": 1000 + 50 * requests, "disk_bytes": 500 + 4 * requests,
            "beyond": { "choices": 300 + 3 * requests, "framing": 10, "cuts": 0 },
            "stats": {
                "clock": { "asked": 10 + 4 * requests, "logged": 5 + logged,
                           "error_ns": { "p50": 12_000, "p99": 44_000, "max": 94_688 } },
                "waited_ns": 0,
                "stamps": { "absorb point": { "asked": requests, "logged": 0 },
                            "stream": { "asked": 0, "logged": 0 }, "length": { "asked": 0, "logged": 0 } },
                "queries": { "Open": { "asked": 7, "logged": 7 }, "NetSend": { "asked": requests, "logged": 0 } },
            },
        })
    }

    /// Without load `run` takes 98 % of what `record` takes.
    pub fn sample() -> Recording {
        let pair = |us: f64| Pair {
            run_us: 0.98 * us,
            record_us: us,
        };
        let held = held(&info(1000, 40), &info(0, 0), 1000).expect("all is there");
        Recording {
            server: Server::Redis,
            connections: 16,
            pairs: [10.0, 20.0, 15.0, 12.0, 30.0].map(pair).to_vec(),
            predicted: held.clone(),
            unpredicted: held,
            replay: Replayed {
                recorded_s: 3.0,
                replayed_s: 1.0,
                recorded_cpu_s: 2.0,
                replayed_cpu_s: 1.0,
            },
            others: 0.0,
        }
    }

    #[test]
    fn what_a_start_logs_is_no_requests() {
        let h = held(&info(1000, 40), &info(0, 0), 1000).expect("all is there");
        assert_eq!((h.inputs, h.choices, h.framing, h.disk), (50.0, 3.0, 0.0, 4.0));
        let clock = &h.kinds[0];
        assert_eq!((clock.asked, clock.logged, clock.hits()), (4000, 40, 99.0));
        let answers = h.kinds.last().expect("the last kind");
        assert_eq!((answers.asked, answers.logged), (1000, 0));
        assert_eq!(h.clock_us, [12.0, 44.0, 94.688]);
        assert!(held(&serde_json::json!({}), &info(0, 0), 1).is_err());
    }

    #[test]
    fn a_cost_is_told_if_its_interval_is_narrow() {
        let mut r = sample();
        let told = r.lines(1);
        assert!(told[0].contains(" 0.980, 0.980..0.980 of run's"), "{told:?}");
        assert!(told[1].contains("choices 3.0 "), "{told:?}");
        assert!(
            told[3].contains("replay in 1/3.0 of the time, with 0.50"),
            "{told:?}"
        );
        r.pairs[1].record_us *= 1.1;
        r.pairs[2].record_us *= 0.9;
        r.pairs[3].record_us *= 0.9;
        assert!(r.lines(1)[0].contains("not resolved"), "{:?}", r.lines(1));
    }
}
