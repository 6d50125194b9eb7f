//! Curves: what a checkpoint and a restore take by the memory of the image, and what an answer takes by the delay of
//! the way to the backup.

use crate::drive::{Speak, drive};
use crate::host;
use crate::plan::Server;
use crate::session::{Cpus, HOME, still_protected};
use ftl_lab::cluster::{Cluster, Ended, Side, tree};
use ftl_lab::net::{self, IMAGE, Network};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Checkpoints of one image.
const CHECKPOINTS: usize = 5;
/// Whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(90);
const PORT: u16 = 7_000;

/// Holds memory that does not compress to nothing, writes to 256 pages every 10 ms, one after the other, and answers who connects.
const HOLDER: &str = "import os, select, socket, sys\n\
    size = int(sys.argv[1]) << 20\n\
    m = bytearray(size)\n\
    for at in range(0, size, 1 << 20):\n    m[at:at + (1 << 20)] = os.urandom(1 << 20)\n\
    s = socket.create_server(('127.0.0.1', 7000))\n\
    at = 0\n\
    while True:\n\
    \x20   if select.select([s], [], [], 0.01)[0]:\n\
    \x20       c, _ = s.accept()\n\
    \x20       c.sendall(b'x')\n\
    \x20       c.close()\n\
    \x20   for _ in range(256):\n\
    \x20       m[at] = (m[at] + 1) & 255\n\
    \x20       at = (at + 4096) % size\n";

/// One image of the snapshot curve.
#[derive(Clone, Debug, clap::Args)]
pub struct MemoryOrder {
    /// Memory that the guest holds, MiB
    #[arg(long)]
    pub mib: u32,
    /// The ftvm to use
    #[arg(long)]
    pub ftvm: PathBuf,
}

/// What came of it.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// Memory that the guest held, MiB.
    pub mib: u32,
    /// Time that the guest stood still, each checkpoint, ms: by ftvm's own word.
    pub pause_ms: Vec<f64>,
    /// Time that `ftvm checkpoint` took, ms.
    pub took_ms: Vec<f64>,
    /// Size of the last snapshot, bytes.
    pub bytes: u64,
    /// Proportional set sizes of the image before, KiB.
    pub memory_kib: u64,
    /// From the start of `ftvm restore` to the first answer, ms.
    pub restore_ms: f64,
}

fn answer() -> io::Result<()> {
    let mut s = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    s.set_read_timeout(Some(PATIENCE))?;
    s.read_exact(&mut [0])
}

fn wait_for_answer(child: &mut Child, log: &Path) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while answer().is_err() {
        let gone = child.try_wait()?.is_some();
        if gone || Instant::now() > end {
            let said = fs::read_to_string(log).unwrap_or_default();
            return Err(io::Error::other(format!("it never answered: {said}")));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

/// Carries an order out.
pub fn memory(order: &MemoryOrder) -> Result<Memory, String> {
    let cpus = Cpus::choose()?;
    net::enter()?;
    let home = std::env::temp_dir().join(format!("{HOME}{}", std::process::id()));
    let done = try_memory(order, &home, cpus).map_err(|e| e.to_string());
    let _ = fs::remove_dir_all(&home);
    done
}

fn try_memory(order: &MemoryOrder, home: &Path, cpus: Cpus) -> io::Result<Memory> {
    let work = home.join("work");
    fs::create_dir_all(&work)?;
    let (log, snapshot) = (home.join("log"), home.join("x.ftsnap"));
    fs::write(work.join("holder.py"), HOLDER)?;
    let script = work.join("holder.py").display().to_string();
    let ftvm = |args: &[&str]| {
        let mut c = Command::new(&order.ftvm);
        c.args(args)
            .current_dir(&work)
            .env("XDG_RUNTIME_DIR", home)
            .env("XDG_STATE_HOME", home)
            .env("XDG_DATA_HOME", home)
            .stdin(Stdio::null());
        c
    };
    let start = |args: &[&str]| -> io::Result<Ended> {
        let out = fs::File::options().create(true).append(true).open(&log)?;
        host::pin(&[cpus.server])?;
        let child = ftvm(args).stdout(out.try_clone()?).stderr(out).spawn();
        host::pin(&[cpus.other])?;
        Ok(Ended(child?))
    };
    let mib = order.mib.to_string();
    // The system's own python, not one that a version manager starts.
    let mut image = start(&["run", "--name", "m", "--", "/usr/bin/python3", &script, &mib])?;
    wait_for_answer(&mut image.0, &log)?;
    let all = tree(image.0.id());
    let mut r = Memory {
        mib: order.mib,
        memory_kib: host::memory_kib(&all),
        ..Memory::default()
    };
    let file = snapshot.display().to_string();
    for n in 0..CHECKPOINTS {
        let began = Instant::now();
        let mut args = vec!["checkpoint", "m", "-o", &file, "--json"];
        // The last ends it.
        if n + 1 < CHECKPOINTS {
            args.push("--leave-running");
        }
        let _ = fs::remove_file(&snapshot);
        let out = ftvm(&args).output()?;
        let said = String::from_utf8_lossy(&out.stdout);
        let json: serde_json::Value = serde_json::from_str(&said)
            .map_err(|e| io::Error::other(format!("{e}: {said}{}", String::from_utf8_lossy(&out.stderr))))?;
        // The last one also ends the image, which is not a pause of something that goes on.
        if n + 1 < CHECKPOINTS {
            let pause = json["pause_us"].as_f64();
            let pause = pause.ok_or_else(|| io::Error::other(format!("no pause_us in {said}")))?;
            r.pause_ms.push(pause / 1e3);
            r.took_ms.push(began.elapsed().as_secs_f64() * 1e3);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    r.bytes = fs::metadata(&snapshot)?.len();
    drop(image);
    let began = Instant::now();
    let mut again = start(&["restore", &file])?;
    wait_for_answer(&mut again.0, &log)?;
    r.restore_ms = began.elapsed().as_secs_f64() * 1e3;
    Ok(r)
}

/// One protected memcached of the commit curve.
#[derive(Clone, Debug, clap::Args)]
pub struct CommitOrder {
    /// Delay of the way to the backup and of the way back, each, us
    #[arg(long)]
    pub delay_us: u32,
    /// Measured, ms
    #[arg(long)]
    pub measure_ms: u64,
    /// The ftvm to use
    #[arg(long)]
    pub ftvm: PathBuf,
}

/// What came of it.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Commit {
    /// Delay added to the round trip, us.
    pub round_trip_us: u32,
    /// Connections, each with one request under way.
    pub connections: u32,
    /// Requests a second.
    pub per_second: f64,
    /// Half of the requests took no longer, us.
    pub p50_us: f64,
    /// 99 of 100 took no longer, us.
    pub p99_us: f64,
}

/// Carries an order out.
pub fn commit(order: &CommitOrder) -> Result<Vec<Commit>, String> {
    let cpus = Cpus::choose()?;
    net::enter()?;
    let home = std::env::temp_dir().join(format!("{HOME}{}", std::process::id()));
    try_commit(order, &home, cpus).map_err(|e| e.to_string())
}

fn try_commit(order: &CommitOrder, home: &Path, cpus: Cpus) -> io::Result<Vec<Commit>> {
    let mut c = Cluster::new(Network::build().map_err(io::Error::other)?, &order.ftvm, home)?;
    let command = Server::Memcached.command(&c.files())?;
    host::pin(&[cpus.other])?;
    c.start_agent(Side::B)?;
    c.slow_relay(Duration::from_micros(u64::from(order.delay_us)))?;
    host::pin(&[cpus.server])?;
    c.start_image(&command)?;
    host::pin(&[cpus.other])?;
    c.wait_ready(PATIENCE)?;
    c.wait_protected(Side::A, PATIENCE)?;
    let client = c.net.client.copy()?;
    let time = Duration::from_millis(order.measure_ms);
    client.within(|| {
        let mut all = Vec::new();
        for connections in [1, 16] {
            let to = (IMAGE, Server::Memcached.port()).into();
            drive(to, Speak::Memcached, connections, time / 4)?;
            let d = drive(to, Speak::Memcached, connections, time)?;
            still_protected(&c)?;
            let us = |q: f64| d.latency.value_at_quantile(q) as f64 / 1e3;
            all.push(Commit {
                round_trip_us: 2 * order.delay_us,
                connections,
                per_second: d.requests as f64 / d.seconds,
                p50_us: us(0.5),
                p99_us: us(0.99),
            });
        }
        Ok(all)
    })
}
