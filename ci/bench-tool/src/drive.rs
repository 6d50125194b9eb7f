//! A closed-loop generator in one thread: each connection has one request under way, and its latency is kept.
//!
//! Every answer is checked. Closed loop: a server that stalls is asked less while it stalls, so percentiles say
//! what these clients saw and not what clients that come by a clock would have seen.

use crate::plan::PAGE_BYTES;
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speak {
    /// `get` of 100 bytes, one `set` in ten.
    Memcached,
    /// `GET` of a path.
    Http(&'static str),
}

const VALUE_BYTES: usize = 100;
/// One request in this many is a `set`.
const SET_EVERY: u64 = 10;
/// The answers still under way at the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest body of an answer, bytes.
const MAX_BODY: usize = 1 << 20;

/// What came of it.
#[derive(Debug)]
pub struct Driven {
    /// Requests answered within the time.
    pub requests: u64,
    /// The time, s.
    pub seconds: f64,
    /// Latencies, ns.
    pub latency: Histogram<u64>,
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
            Speak::Memcached if self.got.len() < self.want.len() => Ok(false),
            Speak::Memcached if self.got == self.want => Ok(true),
            Speak::Memcached => Err(wrong(format!(
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
    let right = |n: usize| path != "/page" || n == PAGE_BYTES;
    match length {
        Some(n) if text.starts_with("http/1.1 200") && right(n) => Ok(got.len() >= head + 4 + n),
        _ => Err(wrong(format!("GET {path}: answered {text:?}"))),
    }
}

/// Asks over `n` connections for a time.
pub fn drive(to: SocketAddr, speak: Speak, n: u32, time: Duration) -> io::Result<Driven> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
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
    let mut latency = Histogram::new_with_bounds(100, 60_000_000_000, 3).map_err(io::Error::other)?;
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
