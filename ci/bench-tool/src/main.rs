//! `ci/bench`: the programs people run, in every mode side by side.
//!
//! [`plan`] says what is measured; a [`session`] is one server in one mode in a process of its own, interleaved
//! within a round ([`drive`] and [`tools`] make load, [`jobs`] are programs that end); [`takeover`] kills a primary; [`curves`]
//! change one thing step by step. A [`report`] is the JSON, from which [`table`] and [`html`] follow,
//! so a stored JSON can be shown again.

mod curves;
mod drive;
mod host;
mod html;
mod images;
mod jobs;
mod plan;
mod plots;
mod recording;
mod report;
mod session;
mod stats;
mod table;
mod takeover;
mod tools;
mod travel;

use crate::curves::Commit;
use crate::plan::Plan;
use crate::report::{Failure, Report, VERSION};
use crate::session::{Cell, Cpus};
use crate::takeover::Takeover;
use crate::travel::Figure;
use clap::{Args, Parser, Subcommand};
use ftl_lab::Dice;
use ftl_lab::cluster;
use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(
    name = "ci/bench",
    about = "Measures the programs people run in every mode side by side"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Part>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Part {
    /// One server in one mode; prints its measurements as JSON
    #[command(hide = true)]
    Session(session::Order),
    /// One kill; prints what came of it as JSON
    #[command(hide = true)]
    Takeover(takeover::Order),
    /// Checkpoints and a restore of one image; prints what they took as JSON
    #[command(hide = true)]
    Memory(curves::MemoryOrder),
    /// One delay to the backup; prints what answers took as JSON
    #[command(hide = true)]
    Commit(curves::CommitOrder),
    /// One server, recorded: prints what that costs and what the log holds as JSON
    #[command(hide = true)]
    Recording(recording::Order),
    /// One application as an image; prints what its starts took as JSON
    #[command(hide = true)]
    Images(images::Order),
    /// Snapshots, clones or migrations of one server; prints what they took as JSON
    #[command(hide = true)]
    Travel(travel::TravelOrder),
    /// Makes table and page again from a stored JSON
    Show {
        /// The JSON
        json: PathBuf,
        /// Directory for the page [default: none is written]
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Options {
    /// Fewer connections, rounds and seconds: about two minutes
    #[arg(long)]
    quick: bool,
    /// Only a server, a mode, or both, with what it is compared with: `redis`, `protect`, `redis/protect`; or one of
    /// `takeover`, `memory`, `commit`, `images`, `recording`, `travel` (the kills, the snapshot curve, the commit curve, starts
    /// and sizes of images, what recording costs and logs, servers under snapshots, clones and migrations)
    #[arg(long)]
    filter: Option<String>,
    /// Copy of the raw JSON to write
    #[arg(long)]
    json: Option<PathBuf>,
    /// Directory for bench.json and bench.html
    #[arg(long, env = "FTL_BENCH_OUT", default_value = "target/bench")]
    out: PathBuf,
    /// Rounds
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Connections at a time, one measurement each
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Option<Vec<u32>>,
    /// Measured at a time, ms; a program that ends is repeated as long
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    measure_ms: Option<u64>,
    /// Requests a second of the open loop [default: each server's own]; 0: none
    #[arg(long)]
    rate: Option<u32>,
    /// Guest memory of the snapshot curve, MiB
    #[arg(long, value_delimiter = ',')]
    memory: Option<Vec<u32>>,
    /// Takeovers
    #[arg(long)]
    kills: Option<u32>,
    /// Of the order within rounds, and of the bootstrap
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The ftvm to measure
    #[arg(long, env = "FTVM_BIN")]
    ftvm: Option<PathBuf>,
}

/// Most rounds in which `run` and `record` are compared.
const RECORDING_ROUNDS: u32 = 20;

/// A line that is written over, on a terminal; else one line a step.
struct Progress {
    done: usize,
    all: usize,
    start: Instant,
    terminal: bool,
}

impl Progress {
    fn show(&mut self, what: &str) {
        const WIDTH: usize = 30;
        let at = WIDTH * self.done / self.all.max(1);
        let bar = format!("{}{}", "#".repeat(at), ".".repeat(WIDTH - at));
        let line = format!(
            "[{bar}] {}/{} {:.0} s {what}",
            self.done,
            self.all,
            self.start.elapsed().as_secs_f64()
        );
        match self.terminal {
            true => eprint!("\r{line:<78}"),
            false => eprintln!("{line}"),
        }
        let _ = std::io::stderr().flush();
        self.done += 1;
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r{:<78}\r", "");
        }
    }
}

/// Runs a part of this program in a process of its own and reads what it prints.
fn part<T: serde::de::DeserializeOwned>(args: &[String], patience: Duration) -> Result<T, String> {
    let me = std::env::current_exe().map_err(|e| format!("the path of this program: {e}"))?;
    let mut child = Command::new(me)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("starting a part of this program: {e}"))?;
    let mut pipes = (child.stdout.take(), child.stderr.take());
    let said = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = pipes.0.as_mut().map(|p| p.read_to_string(&mut text));
        text
    });
    let complaint = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = pipes.1.as_mut().map(|p| p.read_to_string(&mut text));
        text
    });
    let end = Instant::now() + patience;
    let status = loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => break Some(status),
            None if Instant::now() > end => break None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    if status.is_none() {
        cluster::end(&mut child);
        return Err(format!("not done after {} s", patience.as_secs()));
    }
    let said = said.join().unwrap_or_default();
    let complaint = complaint.join().unwrap_or_default();
    match status {
        Some(s) if s.success() => serde_json::from_str(&said).map_err(|e| format!("{e} in {said:?}")),
        Some(s) if complaint.is_empty() => Err(s.to_string()),
        _ => Err(complaint),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_string).collect()
}

/// What a session leaves that was ended from outside.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|n| n.strip_prefix(session::HOME))
            .and_then(|n| n.parse::<u32>().ok());
        if pid.is_some_and(|n| !Path::new(&format!("/proc/{n}/exe")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Everything, in rounds.
fn run(o: &Options, plan: Plan, ftvm: &Path) -> Result<Report, String> {
    Cpus::choose()?;
    sweep();
    let start = Instant::now();
    let sessions = plan.sessions(o.filter.as_deref());
    let part_wanted = |name: &str| o.filter.as_deref().is_none_or(|f| f == name);
    let kills = if part_wanted("takeover") { plan.kills } else { 0 };
    let sizes = match part_wanted("memory") {
        true => plan.memory_mib.clone(),
        false => Vec::new(),
    };
    let delays: &[u32] = match part_wanted("commit") && !(o.quick && o.filter.is_none()) {
        true => &[0, 100, 250, 500, 1000],
        false => &[],
    };
    let apps: &[images::App] = match part_wanted("images") && !(o.quick && o.filter.is_none()) {
        true => &images::App::ALL,
        false => &[],
    };
    let recorded: &[plan::Server] = match part_wanted("recording") && !(o.quick && o.filter.is_none()) {
        true => &recording::SERVERS,
        false => &[],
    };
    let travels: &[travel::What] = match part_wanted("travel") && !(o.quick && o.filter.is_none()) {
        true => &travel::What::ALL,
        false => &[],
    };
    if sessions.is_empty()
        && kills == 0
        && sizes.is_empty()
        && delays.is_empty()
        && apps.is_empty()
        && recorded.is_empty()
        && travels.is_empty()
    {
        return Err(format!(
            "--filter {}: no server, mode, server/mode, takeover, memory, commit, images, recording or travel",
            o.filter.as_deref().unwrap_or("")
        ));
    }
    let mut r = Report {
        version: VERSION,
        filter: o.filter.clone(),
        facts: host::Facts::gather(ftvm),
        cells: Vec::new(),
        takeovers: Vec::new(),
        memory: Vec::new(),
        commit: Vec::new(),
        images: Vec::new(),
        recording: Vec::new(),
        travel: Vec::new(),
        failures: Vec::new(),
        seconds: 0.0,
        load_after: 0.0,
        plan,
    };
    let mut progress = Progress {
        done: 0,
        all: (sessions.len() + sizes.len() + delays.len() + apps.len() + travels.len())
            * r.plan.rounds as usize
            + kills as usize
            + recorded.len() * r.plan.connections.len(),
        start,
        terminal: std::io::stderr().is_terminal(),
    };
    let mut dice = Dice(r.plan.seed);
    let bin = ftvm.display().to_string();
    for round in 0..r.plan.rounds {
        // Another order each round: what comes before a session must not always be the same.
        let mut order = sessions.clone();
        for n in (1..order.len()).rev() {
            order.swap(n, dice.below(n as u64 + 1) as usize);
        }
        for (server, mode) in order {
            let what = format!("{}/{}", server.name(), mode.name());
            progress.show(&format!("round {}: {what}", round + 1));
            let list = server.connections(&r.plan);
            let list: Vec<String> = list.iter().map(u32::to_string).collect();
            let mut args = words(&format!(
                "session --server {} --mode {} --connections {} --warm-ms {} --measure-ms {} --ftvm",
                server.name(),
                mode.name(),
                list.join(","),
                r.plan.warm_ms,
                r.plan.measure_ms,
            ));
            args.push(bin.clone());
            let rate = server.open_rate().filter(|_| r.plan.open);
            if let Some(rate) = rate.map(|own| o.rate.unwrap_or(own)).filter(|rate| *rate > 0) {
                args.extend(["--open".to_string(), rate.to_string()]);
            }
            // Start and end, and four times what the measurements take.
            let measurements = (list.len() * server.scenarios().len() + 1) as u64;
            let patience = 120_000 + 4 * measurements * (r.plan.warm_ms + r.plan.measure_ms + 500);
            match part::<Vec<Cell>>(&args, Duration::from_millis(patience)) {
                Ok(cells) => r.cells.extend(cells.into_iter().map(|c| Cell { round, ..c })),
                Err(why) => r.failures.push(Failure {
                    what: format!("{what}, round {}", round + 1),
                    why,
                }),
            }
        }
    }
    // Sizes and delays change within a round too.
    for round in 0..r.plan.rounds {
        for mib in &sizes {
            progress.show(&format!("round {}: memory, {mib} MiB", round + 1));
            let mut args = words(&format!("memory --mib {mib} --ftvm"));
            args.push(bin.clone());
            match part(&args, Duration::from_secs(300)) {
                Ok(m) => r.memory.push(m),
                Err(why) => r.failures.push(Failure {
                    what: format!("memory, {mib} MiB, round {}", round + 1),
                    why,
                }),
            }
        }
        for app in apps {
            progress.show(&format!("round {}: image of {}", round + 1, app.name()));
            let mut args = words(&format!("images --app {} --ftvm", app.name()));
            args.push(bin.clone());
            match part(&args, Duration::from_secs(600)) {
                Ok(m) => r.images.push(m),
                Err(why) => r.failures.push(Failure {
                    what: format!("image of {}, round {}", app.name(), round + 1),
                    why,
                }),
            }
        }
        for what in travels {
            progress.show(&format!("round {}: travel, {}", round + 1, what.name()));
            let mut args = words(&format!("travel --what {} --ftvm", what.name()));
            args.push(bin.clone());
            match part::<Vec<Figure>>(&args, Duration::from_secs(600)) {
                Ok(all) => r.travel.extend(all),
                Err(why) => r.failures.push(Failure {
                    what: format!("travel, {}, round {}", what.name(), round + 1),
                    why,
                }),
            }
        }
        for delay in delays {
            progress.show(&format!("round {}: commit, {} us", round + 1, 2 * delay));
            let ms = r.plan.measure_ms;
            let mut args = words(&format!("commit --delay-us {delay} --measure-ms {ms} --ftvm"));
            args.push(bin.clone());
            match part::<Vec<Commit>>(&args, Duration::from_millis(120_000 + 8 * ms)) {
                Ok(all) => r.commit.extend(all),
                Err(why) => r.failures.push(Failure {
                    what: format!("commit, {} us, round {}", 2 * delay, round + 1),
                    why,
                }),
            }
        }
    }
    // Its rounds are its own: they end when they show enough.
    for &server in recorded {
        for connections in r.plan.connections.clone() {
            let what = format!("recording of {}, {connections} connections", server.name());
            progress.show(&what);
            let most = RECORDING_ROUNDS.max(r.plan.rounds);
            let (warm, ms, seed) = (r.plan.warm_ms, r.plan.measure_ms, r.plan.seed);
            let mut args = words(&format!(
                "recording --server {} --connections {connections} --rounds {most} --warm-ms {warm} --measure-ms {ms} \
                 --seed {seed} --ftvm",
                server.name(),
            ));
            args.push(bin.clone());
            let patience = 300_000 + 4 * u64::from(most) * (warm + ms + 2000);
            match part(&args, Duration::from_millis(patience)) {
                Ok(m) => r.recording.push(m),
                Err(why) => r.failures.push(Failure { what, why }),
            }
        }
    }
    for n in 0..kills {
        progress.show(&format!("takeover {}", n + 1));
        let mut args = words(&format!("takeover --seed {} --ftvm", dice.roll() >> 1));
        args.push(bin.clone());
        match part::<Takeover>(&args, Duration::from_secs(120)) {
            Ok(t) => r.takeovers.push(t),
            Err(why) => r.failures.push(Failure {
                what: format!("takeover {}", n + 1),
                why,
            }),
        }
    }
    progress.end();
    r.seconds = start.elapsed().as_secs_f64();
    r.load_after = host::load_average();
    Ok(r)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn main_part(cli: Cli) -> Result<(), String> {
    let json = |e: serde_json::Error| format!("JSON: {e}");
    let o = &cli.options;
    match cli.command {
        Some(Part::Session(order)) => {
            let done = session::session(&order)?;
            println!("{}", serde_json::to_string(&done).map_err(json)?);
            return Ok(());
        }
        Some(Part::Takeover(order)) => {
            let done = takeover::takeover(&order)?;
            println!("{}", serde_json::to_string(&done).map_err(json)?);
            return Ok(());
        }
        Some(Part::Memory(order)) => {
            let done = curves::memory(&order)?;
            println!("{}", serde_json::to_string(&done).map_err(json)?);
            return Ok(());
        }
        Some(Part::Commit(order)) => {
            let done = curves::commit(&order)?;
            println!("{}", serde_json::to_string(&done).map_err(json)?);
            return Ok(());
        }
        Some(Part::Recording(order)) => {
            let done = recording::recording(&order)?;
            println!("{}", serde_json::to_string(&done).map_err(json)?);
            return Ok(());
        }
        Some(Part::Travel(order)) => {
            let done = travel::travel(&order)?;
            println!("{}", serde_json::to_string(&done).map_err(json)?);
            return Ok(());
        }
        Some(Part::Images(order)) => {
            let done = images::images(&order)?;
            println!("{}", serde_json::to_string(&done).map_err(json)?);
            return Ok(());
        }
        Some(Part::Show { json: path, out }) => {
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let r: Report = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
            if r.version != VERSION {
                return Err(format!("{}: format {}, not {VERSION}", path.display(), r.version));
            }
            print!("{}", table::table(&r));
            return out.map_or(Ok(()), |d| write(&d.join("bench.html"), &html::page(&r)));
        }
        None => {}
    }
    let mut plan = if o.quick { Plan::quick() } else { Plan::full() };
    plan.seed = o.seed;
    plan.rounds = o.rounds.unwrap_or(plan.rounds);
    plan.kills = o.kills.unwrap_or(plan.kills);
    plan.measure_ms = o.measure_ms.unwrap_or(plan.measure_ms);
    plan.open |= o.rate.is_some();
    if let Some(list) = &o.memory {
        plan.memory_mib.clone_from(list);
    }
    if let Some(list) = &o.connections {
        plan.connections.clone_from(list);
    }
    let ftvm = o
        .ftvm
        .as_ref()
        .ok_or("which ftvm? --ftvm PATH, or FTVM_BIN; ci/bench says it by itself")?;
    let ftvm = fs::canonicalize(ftvm).map_err(|e| format!("{}: {e}", ftvm.display()))?;
    fs::create_dir_all(&o.out).map_err(|e| format!("{}: {e}", o.out.display()))?;
    let r = run(o, plan, &ftvm)?;
    let text = serde_json::to_string_pretty(&r).map_err(json)?;
    for path in o.json.iter().chain([&o.out.join("bench.json")]) {
        write(path, &text)?;
    }
    let page = o.out.join("bench.html");
    write(&page, &html::page(&r))?;
    print!("{}", table::table(&r));
    eprintln!("{}", page.display());
    for f in &r.failures {
        eprintln!("--- {}\n{}", f.what, f.why);
    }
    match r.cells.is_empty()
        && r.takeovers.is_empty()
        && r.memory.is_empty()
        && r.commit.is_empty()
        && r.images.is_empty()
        && r.recording.is_empty()
        && r.travel.is_empty()
    {
        true => Err("nothing was measured".to_string()),
        false => Ok(()),
    }
}

fn main() -> ExitCode {
    match main_part(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("ci/bench: {why}");
            ExitCode::FAILURE
        }
    }
}
