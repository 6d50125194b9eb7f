//! `ftvm demo`: three hosts on this machine, a server on one of them, its host's death under load.

use super::say;
use ftl_lab::cluster::{Cluster, Side};
use ftl_lab::load::{Load, Verdict};
use ftl_lab::net::{self, IMAGE, Network};
use ftl_lab::speak::Server;
use ftl_lab::{Dice, now_ns};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Options of `demo`.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// Connections of the clients
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// Seconds of load before and after the kill
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// memcached or redis-server, with its arguments [default: the first that is installed]
    #[arg(trailing_var_arg = true, value_name = "PROGRAM [ARGS]")]
    command: Vec<String>,
}

/// A demonstration that nothing was lost in fails with this code.
const EXIT_LOST: i32 = 1;
/// It cannot be shown here.
const EXIT_HOST: i32 = 3;
/// What the copy of memory to the backup may take.
const SYNC_TIME: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// `demo`.
pub fn demo(args: &DemoArgs) -> i32 {
    let (server, command) = match program(&args.command) {
        Ok(p) => p,
        Err(why) => {
            say(&format!("demo: {why}"));
            return EXIT_HOST;
        }
    };
    if let Err(why) = net::enter() {
        say(&format!("demo: {why}"));
        return EXIT_HOST;
    }
    match show(args, server, &command) {
        Ok(true) => 0,
        Ok(false) => EXIT_LOST,
        Err(why) => {
            say(&format!("demo: {why}"));
            EXIT_LOST
        }
    }
}

fn installed(program: &str) -> bool {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    program.contains('/') || std::env::split_paths(&dirs).any(|d| d.join(program).is_file())
}

/// The server, and its command line without what this machine decides.
fn program(given: &[String]) -> Result<(Server, Vec<String>), String> {
    let keeps: Vec<Server> = [Server::Memcached, Server::Redis].to_vec();
    let Some(name) = given.first() else {
        let found = keeps.iter().find(|s| installed(s.program()));
        let server = found.ok_or("no server to show it with: install memcached or redis-server")?;
        return Ok((*server, Vec::new()));
    };
    let server = Server::from_name(name)
        .filter(|s| keeps.contains(s))
        .ok_or_else(|| format!("{name}: the clients of the demo speak to memcached and redis-server only"))?;
    match installed(name) {
        true => Ok((server, given.to_vec())),
        false => Err(format!("{name} is not installed")),
    }
}

/// Lines for the eye: on stdout, or on stderr beside JSON.
struct Teller {
    json: bool,
}

impl Teller {
    fn line(&self, text: &str) {
        match self.json {
            true => eprintln!("{text}"),
            false => println!("{text}"),
        }
    }
}

fn show(args: &DemoArgs, server: Server, command: &[String]) -> Result<bool, String> {
    let tell = Teller { json: args.json };
    let ftvm = std::env::current_exe().map_err(|e| format!("where ftvm is: {e}"))?;
    let home: PathBuf = std::env::temp_dir().join(format!("ftvm-demo-{}", std::process::id()));
    let failed = |e: std::io::Error| e.to_string();
    let mut c =
        Cluster::new(Network::build()?, &ftvm, &home).map_err(|e| format!("{}: {e}", home.display()))?;
    let mut command = command.to_vec();
    if command.len() < 2 {
        command = vec![command.first().map_or(server.program(), |s| s).to_string()];
        command.extend(server.arguments(&c.files()).map_err(failed)?);
    }
    tell.line("three hosts in network namespaces of this machine: client, A, B");
    c.start_agent(Side::B).map_err(failed)?;
    tell.line(&format!(
        "host A: ftvm run --net eth0,ip={IMAGE}/24 --protect HOST_B -- {}",
        command.join(" ")
    ));
    c.start_image(&command).map_err(failed)?;
    c.wait_ready(SYNC_TIME).map_err(failed)?;
    tell.line("host B: ready to take over");
    tell.line(&format!(
        "client: {} connections to {IMAGE}:{}, each waits for its answer and checks it",
        args.connections,
        server.port()
    ));
    let mut dice = Dice(now_ns());
    let n = args.connections as usize;
    let load = Load::start(server, &c.net.client, n, Duration::ZERO, dice.roll()).map_err(failed)?;
    let started = now_ns();
    let mut before = 0;
    let mut second = |until: Duration| {
        std::thread::sleep(until);
        let all = load.answers.load(Relaxed);
        let at = (now_ns() - started) / 1_000_000;
        tell.line(&format!(
            "{:>4}.{} s {:>9} answers",
            at / 1000,
            at % 1000 / 100,
            all - before
        ));
        before = all;
    };
    for _ in 0..args.seconds {
        second(SECOND);
    }
    // At no round moment.
    let part = Duration::from_millis(100 + dice.below(800));
    std::thread::sleep(part);
    c.signal(Side::A, libc::SIGKILL);
    let killed = now_ns();
    let at = (killed - started) / 1_000_000;
    tell.line(&format!(
        "{:>4}.{} s kill -9 of every process of host A",
        at / 1000,
        at % 1000 / 100
    ));
    second(SECOND - part);
    for _ in 0..args.seconds {
        second(SECOND);
    }
    let verdict = load.finish(&c.net.client);
    Ok(report(args, server, killed, &verdict))
}

fn report(args: &DemoArgs, server: Server, killed: u64, v: &Verdict) -> bool {
    let ms = |ns: u64| ns.div_ceil(1_000_000);
    let first = v.silence_after(killed).map(ms);
    let longest = v.gaps_ns.first().copied().map_or(0, ms);
    let median = v.gaps_ns.get(v.gaps_ns.len() / 2).copied().map_or(0, ms);
    for why in &v.wrong {
        say(&format!("demo: {why}"));
    }
    let good = v.good() && first.is_some();
    if args.json {
        let out = json!({
            "server": server.name(),
            "connections": args.connections,
            "answers": v.answers,
            "lost": v.lost,
            "reset": v.reset,
            "first_answer_after_kill_ms": first,
            "longest_gap_ms": longest,
            "median_gap_ms": median,
            "wrong": v.wrong,
            "good": good,
        });
        println!("{out}");
        return good;
    }
    match first {
        Some(ms) => println!("host B answered {ms} ms after the kill"),
        None => println!("nobody answered after the kill"),
    }
    println!("longest gap of a connection {longest} ms, median {median} ms");
    println!("{} answers, lost {}, reset {}", v.answers, v.lost, v.reset);
    good
}
