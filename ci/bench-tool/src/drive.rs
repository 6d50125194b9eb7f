//! Load generators in one thread. Every answer is checked.
//!
//! [`drive`] is a closed loop: each connection has one request under way. A server that stalls is asked less while it
//! stalls, so percentiles say what these clients saw and not what clients that come by a clock would have seen.
//!
//! [`open`] is an open loop: requests are due at a fixed rate, whatever the server does. The latency of each counts
//! from the moment at which it was due, also if no connection was free then, so that a stall is seen by all that came
//! in it (no "coordinated omission").

use crate::plan::{BIG_BYTES, PAGE_BYTES};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speak {
    /// `get` of 100 bytes, one `set` in ten.
    Memcached,
    /// `GET` of 100 bytes, one `SET` in ten.
    Redis,
    /// `GET` of a path.
    Http(&'static str),
}

/// The event of the open loop's timer; connections are numbered from 0.
const TIMER: Token = Token(usize::MAX - 1);
const VALUE_BYTES: usize = 100;
/// One request in this many is a `set`.
const SET_EVERY: u64 = 10;
/// The answers still under way at the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest body of an answer, bytes.
const MAX_BODY: usize = BIG_BYTES;

/// What came of it.
#[derive(Debug)]
pub struct Driven {
    /// Requests answered within the time.
    pub requests: u64,
    /// The time, s.
    pub seconds: f64,
    /// Latencies, ns.
    pub latency: Histogram<u64>,
    /// The longest that the generator itself was behind its clock, ns. 0 for a closed loop.
    pub late_ns: u64,
}

struct Connection {
    stream: TcpStream,
    number: usize,
    asked: u64,
    sent: Instant,
    want: Vec<u8>,
    got: Vec<u8>,
}

fn wrong(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Connection {
    fn ask(&mut self, speak: Speak) -> io::Result<()> {
        self.got.clear();
        let set = self.asked.is_multiple_of(SET_EVERY);
        let value = "v".repeat(VALUE_BYTES);
        let key = format!("bench{}", self.number);
        let (request, want) = match speak {
            Speak::Memcached if set => (
                format!("set {key} 0 0 {VALUE_BYTES}\r\n{value}\r\n"),
                "STORED\r\n".to_string(),
            ),
            Speak::Memcached => (
                format!("get {key}\r\n"),
                format!("VALUE {key} 0 {VALUE_BYTES}\r\n{value}\r\nEND\r\n"),
            ),
            Speak::Redis if set => (
                format!(
                    "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${VALUE_BYTES}\r\n{value}\r\n",
                    key.len()
                ),
                "+OK\r\n".to_string(),
            ),
            Speak::Redis => (
                format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()),
                format!("${VALUE_BYTES}\r\n{value}\r\n"),
            ),
            Speak::Http(path) => (
                format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n"),
                String::new(),
            ),
        };
        self.want = want.into_bytes();
        self.asked += 1;
        self.sent = Instant::now();
        // One small request is under way: the socket's buffer has room, and if not this is an error.
        self.stream.write_all(request.as_bytes())
    }

    /// The answer is complete and right.
    fn answered(&self, speak: Speak) -> io::Result<bool> {
        match speak {
            Speak::Memcached | Speak::Redis if self.got.len() < self.want.len() => Ok(false),
            Speak::Memcached | Speak::Redis if self.got == self.want => Ok(true),
            Speak::Memcached | Speak::Redis => Err(wrong(format!(
                "answered {:?}",
                String::from_utf8_lossy(&self.got)
            ))),
            Speak::Http(path) => http_complete(&self.got, path),
        }
    }

    /// Takes in what is there. `true`: an answer is complete.
    fn take(&mut self, speak: Speak) -> io::Result<bool> {
        let mut buf = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buf) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up")),
                Ok(n) => self.got.extend_from_slice(&buf[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.got.is_empty() {
            return Ok(false);
        }
        self.answered(speak)
    }
}

fn http_complete(got: &[u8], path: &str) -> io::Result<bool> {
    let Some(head) = got.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(false);
    };
    let text = String::from_utf8_lossy(&got[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|l| l.strip_prefix("content-length:"))
        .and_then(|v| v.trim().parse().ok())
        .filter(|n| *n <= MAX_BODY);
    let right = |n: usize| match path {
        "/page" => n == PAGE_BYTES,
        "/big" => n == BIG_BYTES,
        _ => true,
    };
    match length {
        Some(n) if text.starts_with("http/1.1 200") && right(n) => Ok(got.len() >= head + 4 + n),
        _ => Err(wrong(format!("GET {path}: answered {text:?}"))),
    }
}

fn connect(to: SocketAddr, n: u32, poll: &Poll) -> io::Result<Vec<Connection>> {
    let mut all = Vec::new();
    for number in 0..n as usize {
        let stream = std::net::TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry()
            .register(&mut stream, Token(number), Interest::READABLE)?;
        all.push(Connection {
            stream,
            number,
            asked: 0,
            sent: Instant::now(),
            want: Vec::new(),
            got: Vec::new(),
        });
    }
    Ok(all)
}

fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(100, 60_000_000_000, 3).map_err(io::Error::other)
}

/// Asks `rate` times a second over at most `n` connections for a time: an open loop (see the module). What is not answered
/// within [`PATIENCE`] after the end is an error.
pub fn open(to: SocketAddr, speak: Speak, n: u32, rate: u32, time: Duration) -> io::Result<Driven> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut all = connect(to, n, &poll)?;
    // A poll's own timeout has a resolution of 1 ms.
    let timer = timerfd_create(
        TimerfdClockId::Monotonic,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?;
    poll.registry().register(
        &mut mio::unix::SourceFd(&timer.as_raw_fd()),
        TIMER,
        Interest::READABLE,
    )?;
    let mut latency = histogram()?;
    let step = Duration::from_secs(1) / rate.max(1);
    let wanted = (time.as_nanos() / step.as_nanos().max(1)) as u32;
    let start = Instant::now();
    let due = |k: u32| start + step * k;
    let (mut next, mut answered, mut late) = (0u32, 0u64, Duration::ZERO);
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let mut idle: Vec<usize> = (0..all.len()).rev().collect();
    while answered < u64::from(wanted) {
        let now = Instant::now();
        if now > start + time + PATIENCE {
            return Err(wrong(format!(
                "{} of {wanted} requests have no answer",
                u64::from(wanted) - answered
            )));
        }
        while next < wanted && due(next) <= now {
            // How late the generator is, not how long a request waits for a connection.
            late = late.max(now - due(next));
            waiting.push_back(due(next));
            next += 1;
        }
        while let (Some(at), Some(free)) = (waiting.front(), idle.last()) {
            let c = &mut all[*free];
            c.ask(speak)?;
            c.sent = *at;
            waiting.pop_front();
            idle.pop();
        }
        if next < wanted {
            let left = due(next)
                .saturating_duration_since(Instant::now())
                .max(Duration::from_nanos(1));
            let once = Itimerspec {
                it_interval: Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                },
                it_value: Timespec {
                    tv_sec: left.as_secs() as i64,
                    tv_nsec: i64::from(left.subsec_nanos()),
                },
            };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
        }
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            if event.token() == TIMER {
                let _ = rustix::io::read(&timer, &mut [0; 8]);
                continue;
            }
            let Some(c) = all.get_mut(event.token().0) else {
                continue;
            };
            // What comes unasked was answered before.
            if !c.take(speak)? {
                continue;
            }
            latency.saturating_record(c.sent.elapsed().as_nanos() as u64);
            answered += 1;
            idle.push(c.number);
        }
    }
    Ok(Driven {
        requests: answered,
        seconds: start.elapsed().max(time).as_secs_f64(),
        latency,
        late_ns: late.as_nanos() as u64,
    })
}

/// Asks over `n` connections for a time: a closed loop (see the module).
pub fn drive(to: SocketAddr, speak: Speak, n: u32, time: Duration) -> io::Result<Driven> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut all = connect(to, n, &poll)?;
    let mut latency = histogram()?;
    let start = Instant::now();
    let end = start + time;
    for c in &mut all {
        c.ask(speak)?;
    }
    let (mut under_way, mut requests) = (all.len(), 0);
    while under_way > 0 {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        if Instant::now() > end + PATIENCE {
            return Err(wrong(format!("{under_way} connections have no answer")));
        }
        for event in &events {
            let Some(c) = all.get_mut(event.token().0) else {
                continue;
            };
            if !c.take(speak)? {
                continue;
            }
            let now = Instant::now();
            under_way -= 1;
            // What ends after the time was not seen in full by everybody: not counted.
            if now < end {
                latency.saturating_record((now - c.sent).as_nanos() as u64);
                requests += 1;
                c.ask(speak)?;
                under_way += 1;
            }
        }
    }
    Ok(Driven {
        requests,
        seconds: time.as_secs_f64(),
        latency,
        late_ns: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_answers() {
        let page = "x".repeat(PAGE_BYTES);
        let full = format!("HTTP/1.1 200 OK\r\nContent-Length: {PAGE_BYTES}\r\n\r\n{page}");
        let full = full.as_bytes();
        assert!(http_complete(full, "/page").expect("good"));
        assert!(!http_complete(&full[..full.len() - 1], "/page").expect("short"));
        assert!(!http_complete(&full[..10], "/page").expect("short"));
        assert!(http_complete(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "/page").is_err());
        assert!(http_complete(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "/").is_err());
    }

    /// A server that answers nothing for a while, then everything.
    #[test]
    fn an_open_loop_counts_from_when_a_request_was_due() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = listener.local_addr().expect("an address");
        let stall = Duration::from_millis(200);
        let server = std::thread::spawn(move || {
            let (mut s, _) = listener.accept().expect("a client");
            let mut buf = [0; 1000];
            let mut once = Some(stall);
            while let Ok(1..) = s.read(&mut buf) {
                // From the first request on: whoever sends may be late to begin.
                if let Some(stall) = once.take() {
                    std::thread::sleep(stall);
                }
                let _ = s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let done = open(to, Speak::Http("/"), 1, 1000, Duration::from_millis(100)).expect("all answered");
        server.join().expect("the server ends");
        assert_eq!(done.requests, 100, "all that were due");
        // One connection, so one request was under way; the others came in the stall and waited for most of it. The
        // last was due 100 ms before its end.
        assert!(done.latency.min() >= 90_000_000, "{}", done.latency.min());
        assert!(done.latency.value_at_quantile(0.99) >= 190_000_000);
    }

    #[test]
    fn a_wrong_answer_is_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let (mut s, _) = listener.accept().expect("a client");
            let mut buf = [0; 1000];
            let _ = s.read(&mut buf);
            s.write_all(b"STORED\r\n").expect("a reader");
            let _ = s.read(&mut buf);
            s.write_all(b"END\r\n").expect("a reader");
            let _ = s.write_all(&[b'x'; 200]);
            let _ = s.read(&mut buf);
        });
        let done = drive(to, Speak::Memcached, 1, Duration::from_secs(5));
        assert!(done.is_err_and(|e| e.kind() == io::ErrorKind::InvalidData));
        server.join().expect("the server ends");
    }
}
