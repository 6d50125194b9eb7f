//! A protected memcached under load whose host dies.

use crate::host;
use crate::plan::Server;
use crate::session::{Cpus, HOME};
use ftl_lab::cluster::{Cluster, Side};
use ftl_lab::load::Load;
use ftl_lab::net::{self, Network};
use ftl_lab::{now_ns, speak};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Connections at work.
const CONNECTIONS: usize = 8;
/// Pause of a client between two requests: load, but not saturation.
const PAUSE: Duration = Duration::from_millis(1);
/// SIGKILL
const KILL: i32 = 9;
/// Around the death.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(2);
/// One step of the time line, ms.
pub const STEP_MS: u64 = 20;

/// What a takeover is to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Order {
    /// Of the clients
    #[arg(long)]
    pub seed: u64,
    /// The ftvm to use
    #[arg(long)]
    pub ftvm: PathBuf,
}

/// What came of one.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Takeover {
    /// From the kill to the first answer of the new primary, on a connection that was there before, ms.
    pub first_ms: f64,
    /// Longest time without an answer, of each connection, longest first, ms.
    pub gaps_ms: Vec<f64>,
    /// Answers.
    pub answers: u64,
    /// What must not be: lost answers, resets.
    pub wrong: Vec<String>,
    /// Answers in each step of [`STEP_MS`], from the first second before the kill.
    pub steps: Vec<u64>,
}

/// Carries an order out.
pub fn takeover(order: &Order) -> Result<Takeover, String> {
    let text = |e: std::io::Error| e.to_string();
    let pin = |to: usize| host::pin(&[to]).map_err(|e| format!("sched_setaffinity: {e}"));
    let cpus = Cpus::choose()?;
    net::enter()?;
    let home = std::env::temp_dir().join(format!("{HOME}{}", std::process::id()));
    let mut c = Cluster::new(Network::build()?, Path::new(&order.ftvm), &home).map_err(text)?;
    let command = Server::Memcached.command(&c.files()).map_err(text)?;
    pin(cpus.other)?;
    c.start_agent(Side::B).map_err(text)?;
    pin(cpus.server)?;
    c.start_image(&command).map_err(text)?;
    pin(cpus.other)?;
    c.wait_ready(Duration::from_secs(40)).map_err(text)?;
    c.wait_protected(Side::A, Duration::from_secs(40)).map_err(text)?;
    let load = Load::start(
        speak::Server::Memcached,
        &c.net.client,
        CONNECTIONS,
        PAUSE,
        order.seed,
    )
    .map_err(text)?;
    std::thread::sleep(BEFORE);
    let at = now_ns();
    c.signal(Side::A, KILL);
    std::thread::sleep(AFTER);
    let verdict = load.finish(&c.net.client);
    let ms = |ns: u64| ns as f64 / 1e6;
    let first = verdict
        .silence_after(at)
        .ok_or_else(|| format!("nothing was answered after the kill\n--- B:\n{}", c.log(Side::B)))?;
    let zero = at - BEFORE.as_nanos() as u64;
    let mut steps = vec![0; ((BEFORE + AFTER).as_millis() as u64 / STEP_MS) as usize];
    for t in &verdict.times {
        let step = t.checked_sub(zero).map(|ns| ns / 1_000_000 / STEP_MS);
        if let Some(n) = step.and_then(|s| steps.get_mut(s as usize)) {
            *n += 1;
        }
    }
    Ok(Takeover {
        first_ms: ms(first),
        gaps_ms: verdict.gaps_ns.iter().copied().map(ms).collect(),
        answers: verdict.answers,
        wrong: verdict.wrong,
        steps,
    })
}
