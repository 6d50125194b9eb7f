//! Clients that keep their connections and check every answer.
//!
//! Each connection has a register that only it uses (what is read is what was written), all share a few
//! registers (their [`history`] is kept) and a counter: in the end it has counted each addition
//! exactly once.

use crate::history::{self, Op};
use crate::net::{Host, IMAGE};
use crate::speak::{Connection, Server};
use crate::{Dice, now_ns};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// A connection on which nothing comes for this long is lost.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Registers that all share.
const SHARED: u64 = 4;

/// What one connection saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Times of answers, ns.
    pub answers: Vec<u64>,
    /// Operations on the shared registers.
    ops: Vec<(u64, Op)>,
    /// Values that the counter returned.
    counts: Vec<u64>,
    /// How it ended, if not well.
    failure: Option<io::Error>,
}

/// What all of them saw.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Answers.
    pub answers: u64,
    /// Connections on which nothing came any more, and answers that were wrong or missing.
    pub lost: u64,
    /// Connections that were closed or reset.
    pub reset: u64,
    /// Longest time without an answer on one connection, per connection, ns; longest first.
    pub gaps_ns: Vec<u64>,
    /// Times of all answers, ns, in order.
    pub times: Vec<u64>,
    /// What was wrong, in words.
    pub wrong: Vec<String>,
}

impl Verdict {
    /// Something died at `at`: the time from there to the first answer after the longest silence that began
    /// within a second, ns. Answers that were on their way do not count.
    pub fn silence_after(&self, at: u64) -> Option<u64> {
        let from = self.times.partition_point(|t| *t < at).saturating_sub(1);
        let began = |w: &&[u64]| w[0] < at + 1_000_000_000;
        let longest = self.times[from..]
            .windows(2)
            .take_while(began)
            .max_by_key(|w| w[1] - w[0])?;
        Some(longest[1] - at.min(longest[1]))
    }

    /// Nothing was lost, reset or wrong.
    pub fn good(&self) -> bool {
        self.lost == 0 && self.reset == 0 && self.wrong.is_empty()
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    server: Server,
    ip: Ipv4Addr,
    stop: Arc<AtomicBool>,
    /// Answers so far.
    pub answers: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// Opens `n` connections from `host` and lets them work, each with a pause between its requests.
    pub fn start(server: Server, host: &Host, n: usize, pause: Duration, seed: u64) -> io::Result<Load> {
        Load::start_at(server, IMAGE, host, n, pause, seed)
    }

    /// The same with a server at another address.
    pub fn start_at(
        server: Server,
        ip: Ipv4Addr,
        host: &Host,
        n: usize,
        pause: Duration,
        seed: u64,
    ) -> io::Result<Load> {
        let mut open = host.within(|| {
            wait_for_server(server, ip)?;
            (0..n)
                .map(|_| Connection::open(server, ip, PATIENCE))
                .collect::<io::Result<Vec<_>>>()
        })?;
        if server.keeps()
            && let Some(c) = open.first_mut()
        {
            c.make_counter("total")?;
        }
        let mut load = Load {
            server,
            ip,
            stop: Arc::default(),
            answers: Arc::default(),
            clients: Vec::new(),
        };
        for (n, conn) in open.into_iter().enumerate() {
            let (stop, answers) = (load.stop.clone(), load.answers.clone());
            load.clients.push(std::thread::spawn(move || {
                let mut c = Client {
                    conn,
                    me: n as u64 + 1,
                    written: 0,
                    dice: Dice(seed ^ (n as u64) << 32),
                    seen: Seen::default(),
                };
                while !stop.load(Relaxed) {
                    if let Err(e) = c.request(server) {
                        c.seen.failure = Some(e);
                        break;
                    }
                    c.seen.answers.push(now_ns());
                    answers.fetch_add(1, Relaxed);
                    if !pause.is_zero() {
                        std::thread::sleep(pause);
                    }
                }
                c.seen
            }));
        }
        Ok(load)
    }

    /// Ends it after the requests under way, and judges.
    pub fn finish(self, host: &Host) -> Verdict {
        self.stop.store(true, Relaxed);
        let mut all: Vec<Seen> = Vec::new();
        let mut v = Verdict::default();
        for c in self.clients {
            match c.join() {
                Ok(seen) => all.push(seen),
                Err(_) => v.wrong.push("a client's thread ended".to_string()),
            }
        }
        for (n, s) in all.iter().enumerate() {
            v.answers += s.answers.len() as u64;
            v.times.extend(&s.answers);
            v.gaps_ns
                .push(s.answers.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0));
            let Some(e) = &s.failure else { continue };
            use io::ErrorKind::*;
            match e.kind() {
                ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => v.reset += 1,
                _ => v.lost += 1,
            }
            v.wrong.push(format!("connection {n}: {e}"));
        }
        v.times.sort_unstable();
        v.gaps_ns.sort_unstable_by(|a, b| b.cmp(a));
        if self.server.keeps() {
            judge_registers(&all, &mut v);
            judge_counter((self.server, self.ip), host, &all, &mut v);
        }
        v
    }
}

/// A server may need a while until it listens.
fn wait_for_server(server: Server, ip: Ipv4Addr) -> io::Result<()> {
    let end = now_ns() + PATIENCE.as_nanos() as u64;
    loop {
        match Connection::open(server, ip, PATIENCE) {
            // Nobody answers for its address before it has begun.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable
                ) && now_ns() < end =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return done.map(drop),
        }
    }
}

fn judge_registers(all: &[Seen], v: &mut Verdict) {
    for key in 0..SHARED {
        let of_key =
            |s: &Seen| -> Vec<Op> { s.ops.iter().filter(|(k, _)| *k == key).map(|(_, o)| *o).collect() };
        let ops: Vec<Op> = all.iter().flat_map(of_key).collect();
        if let Err(why) = history::check(&ops) {
            v.lost += 1;
            v.wrong.push(format!("register {key}: {why}"));
        }
    }
}

fn judge_counter((server, ip): (Server, Ipv4Addr), host: &Host, all: &[Seen], v: &mut Verdict) {
    let mut counts: Vec<u64> = all.iter().flat_map(|s| s.counts.iter().copied()).collect();
    counts.sort_unstable();
    if let Some(w) = counts.windows(2).find(|w| w[0] == w[1]) {
        v.lost += 1;
        v.wrong.push(format!("two additions were answered with {}", w[0]));
    }
    // An addition that was never answered may have happened.
    let unsure = all.iter().filter(|s| s.failure.is_some()).count() as u64;
    let last = host.within(|| Connection::open(server, ip, PATIENCE)?.add("total", 0));
    match last {
        Ok(n) if (counts.len() as u64..=counts.len() as u64 + unsure).contains(&n) => {}
        Ok(n) => {
            v.lost += 1;
            v.wrong.push(format!(
                "{} additions were answered, the counter says {n}",
                counts.len()
            ));
        }
        Err(e) => {
            v.lost += 1;
            v.wrong.push(format!("a new connection at the end: {e}"));
        }
    }
}

struct Client {
    conn: Connection,
    me: u64,
    written: u64,
    dice: Dice,
    seen: Seen,
}

impl Client {
    fn request(&mut self, server: Server) -> io::Result<()> {
        if !server.keeps() {
            return self.conn.fetch();
        }
        let key = self.dice.below(SHARED);
        match self.dice.below(5) {
            0 | 1 => {
                let own = format!("own{}", self.me);
                let value = self.next();
                self.conn.set(&own, value)?;
                let got = self.conn.get(&own)?;
                if got != value {
                    let why = format!("{own}: {value:x} was written, {got:x} is read");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
            }
            2 => {
                let value = self.next();
                self.shared(key, true, value)?;
            }
            3 => self.shared(key, false, 0)?,
            _ => {
                let n = self.conn.add("total", 1)?;
                self.seen.counts.push(n);
            }
        }
        Ok(())
    }

    fn next(&mut self) -> u64 {
        self.written += 1;
        self.me << 40 | self.written
    }

    fn shared(&mut self, key: u64, write: bool, value: u64) -> io::Result<()> {
        let name = format!("shared{key}");
        let mut op = Op {
            write,
            value,
            start_ns: now_ns(),
            end_ns: u64::MAX,
        };
        let done = match write {
            true => self.conn.set(&name, value),
            false => self.conn.get(&name).map(|v| op.value = v),
        };
        if done.is_ok() {
            op.end_ns = now_ns();
        }
        self.seen.ops.push((key, op));
        done
    }
}
