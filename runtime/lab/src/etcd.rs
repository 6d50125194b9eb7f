//! An etcd of one member on a host of its own, which protected images ask by way of the bridge.
//!
//! Each host's way to it can lose what goes in one direction: packets ([`Etcd::passes`]), or, where a relay is before
//! it, which knows a swap from a read, what [`Rule`] says.

use crate::cluster::{Ended, Side};
use crate::net::{A_BRIDGE, B_BRIDGE, Host, passes, vanish};
use crate::{Dice, now_ns};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

const AT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 21);
/// Where it is asked, as if by one port for each of three members: one that does not answer is not asked first again.
const PORTS: [u16; 3] = [2379, 2389, 2399];
/// The relay's, before these.
const RELAYS: [u16; 3] = [2479, 2489, 2499];
const PEER: u16 = 2380;
/// How long one may take to start: a machine may be busy.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// [`Rule::Slow`] takes less than this, ms: an asker waits for 200.
const SLOW_MS: u64 = 190;
/// An asker that gave up is not heard to have ended: what it asked is carried out.
const LINGER: Duration = Duration::from_secs(1);

/// Which direction of a way to the arbiter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the host to the arbiter.
    Asked,
    /// From the arbiter to the host.
    Answered,
}

/// What the relay does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Rule {
    /// All passes.
    Pass,
    /// Swaps are carried out, and nobody hears of it. Reads are answered.
    SwapsUnanswered,
    /// Answers come late, each by a time of its own, but in time.
    Slow,
    /// Questions come when the rule is another one, although their askers have given up by then.
    Hold,
}

/// What the relay does for one host, and how often it did something.
#[derive(Debug, Default)]
struct Way {
    rule: AtomicU8,
    met: AtomicU64,
}

impl Way {
    fn is(&self, rule: Rule) -> bool {
        self.rule.load(SeqCst) == rule as u8
    }
}

/// See the module. It ends with this value.
#[derive(Debug)]
pub struct Etcd {
    host: Host,
    ways: Arc<[Way; 2]>,
    relayed: bool,
    _member: Ended,
}

impl Etcd {
    /// Starts one with its files in a new directory, and waits until it answers. The caller is in the namespace of the bridge.
    /// `relayed`: hosts reach it by the relay.
    pub fn start(dir: &Path, relayed: bool, seed: u64) -> io::Result<Etcd> {
        let host = Host::on_bridge("etcd", AT)?;
        let log = fs::File::create(dir.with_extension("log"))?;
        let client = PORTS.map(|p| format!("http://{AT}:{p}")).join(",");
        let peer = format!("http://127.0.0.1:{PEER}");
        let mut c = Command::new("etcd");
        c.args(["--initial-cluster", &format!("default={peer}")])
            .args([
                "--initial-advertise-peer-urls",
                &peer,
                "--listen-peer-urls",
                &peer,
            ])
            .args([
                "--advertise-client-urls",
                &client,
                "--listen-client-urls",
                &client,
            ])
            // Its own crash is not what is tried, and a busy disk is to decide nothing.
            .args(["--unsafe-no-fsync", "--data-dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let there = host.copy()?;
        // SAFETY: only system calls between fork and exec.
        unsafe {
            c.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                there.enter()
            });
        }
        let missing = |e: io::Error| io::Error::new(e.kind(), format!("etcd (ci/install installs it): {e}"));
        let member = Ended(c.spawn().map_err(missing)?);
        let etcd = Etcd {
            host,
            ways: Arc::default(),
            relayed,
            _member: member,
        };
        etcd.wait_ready()?;
        if relayed {
            for (from, to) in RELAYS.into_iter().zip(PORTS) {
                etcd.relay(from, to, seed ^ u64::from(from))?;
            }
        }
        Ok(etcd)
    }

    /// As `--arbiter` wants it.
    pub fn url(&self) -> String {
        let ports = if self.relayed { RELAYS } else { PORTS };
        format!("etcd://{}", ports.map(|p| format!("{AT}:{p}")).join(","))
    }

    fn wait_ready(&self) -> io::Result<()> {
        let end = now_ns() + STARTS_WITHIN.as_nanos() as u64;
        let read = || -> io::Result<bool> {
            let mut s = TcpStream::connect((AT, PORTS[0]))?;
            s.set_read_timeout(Some(Duration::from_secs(1)))?;
            // Linearizable: there is a leader.
            let (body, mut answer) = (r#"{"key":"AA=="}"#, String::new());
            let head = "POST /v3/kv/range HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length:";
            s.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes())?;
            s.read_to_string(&mut answer)?;
            Ok(answer.starts_with("HTTP/1.1 200"))
        };
        while !self.host.within(read).unwrap_or(false) {
            if now_ns() > end {
                return Err(io::Error::other("etcd does not answer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Packets of one direction of a host's way pass, or vanish: the sender is told nothing. Fails if that is not so then, or if the
    /// other direction is not as it was.
    pub fn passes(&self, side: Side, (host, direction): (&Host, Direction), pass: bool) -> io::Result<()> {
        let own = match side {
            Side::A => A_BRIDGE,
            Side::B => B_BRIDGE,
        };
        let asked = (host, AT, &self.host);
        let answered = (&self.host, own, host);
        let (this, other) = match direction {
            Direction::Asked => (asked, answered),
            Direction::Answered => (answered, asked),
        };
        vanish(this.0, "eth0", this.1, !pass)?;
        for (way, expected) in [(this, pass), (other, true)] {
            if passes(way, expected)? != expected {
                let why = format!(
                    "{direction:?} of {side:?}: a packet to {} passes: {}",
                    way.1, !expected
                );
                return Err(io::Error::other(why));
            }
        }
        Ok(())
    }

    /// What the relay does for a host from now on.
    pub fn rule(&self, side: Side, rule: Rule) {
        self.ways[side as usize].rule.store(rule as u8, SeqCst);
    }

    /// How often a rule had something to do for a host.
    pub fn met(&self, side: Side) -> u64 {
        self.ways[side as usize].met.load(SeqCst)
    }

    fn relay(&self, from: u16, to: u16, seed: u64) -> io::Result<()> {
        let listener = self.host.within(|| TcpListener::bind((AT, from)))?;
        let (host, ways) = (self.host.copy()?, self.ways.clone());
        std::thread::spawn(move || {
            if host.enter().is_err() {
                return;
            }
            for (n, near) in listener.incoming().flatten().enumerate() {
                let side = match near.peer_addr().map(|a| a.ip()) {
                    Ok(IpAddr::V4(A_BRIDGE)) => Side::A,
                    Ok(IpAddr::V4(B_BRIDGE)) => Side::B,
                    _ => continue,
                };
                let Ok(far) = TcpStream::connect((AT, to)) else {
                    continue;
                };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let (Ok(near2), Ok(far2)) = (near.try_clone(), far.try_clone()) else {
                    continue;
                };
                let swap = Arc::new(AtomicBool::new(false));
                let (ways1, swap1) = (ways.clone(), swap.clone());
                let ways2 = ways.clone();
                std::thread::spawn(move || questions(near, far, &ways1[side as usize], &swap1));
                let dice = Dice(seed ^ (n as u64) << 32);
                std::thread::spawn(move || answers(far2, near2, &ways2[side as usize], &swap, dice));
            }
        });
        Ok(())
    }
}

/// `swap`: the last question was one.
fn questions(mut near: TcpStream, mut far: TcpStream, way: &Way, swap: &AtomicBool) {
    let mut buf = vec![0; 64 << 10];
    while let Ok(n @ 1..) = near.read(&mut buf) {
        // Its body may come apart from its head.
        if buf[..n].starts_with(b"POST ") {
            let head = buf[..n].split(|b| *b == b'\n').next().unwrap_or_default();
            swap.store(head.windows(7).any(|w| w == b"/kv/txn"), SeqCst);
            way.met.fetch_add(u64::from(way.is(Rule::Hold)), SeqCst);
        }
        while way.is(Rule::Hold) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if far.write_all(&buf[..n]).is_err() {
            break;
        }
    }
    std::thread::sleep(LINGER);
    let _ = far.shutdown(Shutdown::Both);
}

fn answers(mut far: TcpStream, mut near: TcpStream, way: &Way, swap: &AtomicBool, mut dice: Dice) {
    let mut buf = vec![0; 64 << 10];
    while let Ok(n @ 1..) = far.read(&mut buf) {
        if way.is(Rule::SwapsUnanswered) && swap.load(SeqCst) {
            way.met.fetch_add(1, SeqCst);
            continue;
        }
        if way.is(Rule::Slow) {
            way.met.fetch_add(1, SeqCst);
            std::thread::sleep(Duration::from_millis(dice.below(SLOW_MS)));
        }
        // One that has given up does not hear it; the questions' end is not its answers'.
        if near.write_all(&buf[..n]).is_err() {
            break;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
}
