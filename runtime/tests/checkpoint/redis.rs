//! redis under load: killed behind a checkpoint, restored, every value compared with what it acknowledged.

use super::{Place, a_port, often, supervisor};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Bytes of a value of [`Redis`].
const VALUE: usize = 4096;
/// Connections that write, each keys of its own.
const WRITERS: u32 = 4;

/// A value says whose it is and which; the rest follows from that, so that a page of another key or another time is seen.
fn value(key: u32, version: u32) -> Vec<u8> {
    let mut out = format!("{key:08}{version:08}").into_bytes();
    let mut x = u64::from(key) << 32 | u64::from(version);
    while out.len() < VALUE {
        x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        out.extend_from_slice(&x.to_le_bytes());
    }
    out
}

/// A connection that speaks redis' protocol.
struct Redis(std::io::BufReader<std::net::TcpStream>);

impl Redis {
    /// Connects as soon as it answers.
    fn open(port: u16) -> Redis {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let conn = std::net::TcpStream::connect(("127.0.0.1", port));
            let up = conn.and_then(|c| {
                c.set_read_timeout(Some(Duration::from_secs(60)))?;
                let mut r = Redis(std::io::BufReader::new(c));
                r.send(&[&[b"PING"]])?;
                r.line().map(|_| r)
            });
            match up {
                Ok(r) => return r,
                Err(e) => assert!(Instant::now() < end, "redis does not answer: {e}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn send(&mut self, requests: &[&[&[u8]]]) -> std::io::Result<()> {
        use std::io::Write;
        let mut out = Vec::new();
        for words in requests {
            write!(out, "*{}\r\n", words.len())?;
            for w in *words {
                write!(out, "${}\r\n", w.len())?;
                out.extend_from_slice(w);
                out.extend_from_slice(b"\r\n");
            }
        }
        self.0.get_mut().write_all(&out)
    }

    fn line(&mut self) -> std::io::Result<String> {
        use std::io::BufRead;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        if !line.ends_with('\n') {
            // Also in the middle of a line: the server has died.
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.starts_with('-') {
            true => Err(std::io::Error::other(line)),
            false => Ok(line),
        }
    }

    /// Writes versions of keys. All are acknowledged when this returns.
    fn set(&mut self, what: &[(u32, u32)]) -> std::io::Result<()> {
        let all = what.iter().map(|(k, v)| (format!("k{k}"), value(*k, *v)));
        let all: Vec<_> = all.collect();
        let words: Vec<_> = all
            .iter()
            .map(|(k, v)| [&b"SET"[..], k.as_bytes(), v.as_slice()])
            .collect();
        let requests: Vec<_> = words.iter().map(|w| &w[..]).collect();
        self.send(&requests)?;
        for _ in what {
            assert_eq!(self.line()?, "+OK\r\n");
        }
        Ok(())
    }

    /// The versions that these keys have, each checked to the byte.
    fn versions(&mut self, keys: std::ops::Range<u32>) -> Vec<u32> {
        use std::io::Read;
        let names: Vec<_> = keys.clone().map(|k| format!("k{k}")).collect();
        let words: Vec<_> = names.iter().map(|k| [&b"GET"[..], k.as_bytes()]).collect();
        let requests: Vec<_> = words.iter().map(|w| &w[..]).collect();
        self.send(&requests).unwrap();
        let mut versions = Vec::new();
        for key in keys {
            assert_eq!(self.line().unwrap(), format!("${VALUE}\r\n"), "key {key}");
            let mut got = vec![0; VALUE + 2];
            self.0.read_exact(&mut got).unwrap();
            got.truncate(VALUE);
            let version = std::str::from_utf8(&got[8..16]).ok().and_then(|v| v.parse().ok());
            let version = version.unwrap_or(u32::MAX);
            assert!(got == value(key, version), "key {key}, version {version}");
            versions.push(version);
        }
        versions
    }
}

/// What was written: for each key the last version that was sent, and the last that was acknowledged.
struct Written {
    sent: Vec<AtomicU32>,
    acked: Vec<AtomicU32>,
    writes: AtomicU64,
    stop: AtomicBool,
}

impl Written {
    fn versions(of: &[AtomicU32]) -> Vec<u32> {
        of.iter().map(|v| v.load(Relaxed)).collect()
    }

    /// Writes to keys all over the place until the server dies, or it is told to stop.
    fn write_on(&self, mut conn: Redis, who: u32) {
        let mut x = u64::from(who);
        while !self.stop.load(Relaxed) {
            let mut batch = Vec::new();
            for _ in 0..16 {
                x = x
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let key = ((x >> 33) as u32 % (self.sent.len() as u32 / WRITERS)) * WRITERS + who;
                let version = self.sent[key as usize].fetch_add(1, Relaxed) + 1;
                batch.push((key, version));
            }
            if conn.set(&batch).is_err() {
                return;
            }
            for (key, version) in &batch {
                self.acked[*key as usize].store(*version, Relaxed);
            }
            self.writes.fetch_add(16, Relaxed);
        }
    }

    /// Has all writers at work while `during` does something.
    fn under_load<T>(&self, port: u16, during: impl FnOnce() -> T) -> T {
        self.stop.store(false, Relaxed);
        // Before any of it: one that came to its connection late could find the server dead, and nobody to start another.
        let conns: Vec<Redis> = (0..WRITERS).map(|_| Redis::open(port)).collect();
        std::thread::scope(|s| {
            for (who, conn) in (0..).zip(conns) {
                s.spawn(move || self.write_on(conn, who));
            }
            self.some_more();
            // A failure of it must not leave them writing for ever.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
            self.stop.store(true, Relaxed);
            done.unwrap_or_else(|why| std::panic::resume_unwind(why))
        })
    }

    /// Waits for as many more writes as there are keys in a tenth of them.
    fn some_more(&self) {
        let goal = self.writes.load(Relaxed) + self.sent.len() as u64 / 10;
        let end = Instant::now() + Duration::from_secs(120);
        while self.writes.load(Relaxed) < goal {
            assert!(Instant::now() < end, "writes do not go on");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Every key has a version that is not older than `least` nor newer than `most`; from there on it is written to.
    fn check(&self, port: u16, least: &[u32], most: &[u32]) {
        let mut conn = Redis::open(port);
        for first in (0..self.sent.len() as u32).step_by(64) {
            let keys = first..(first + 64).min(self.sent.len() as u32);
            for (key, version) in keys.clone().zip(conn.versions(keys)) {
                let k = key as usize;
                assert!(
                    (least[k]..=most[k]).contains(&version),
                    "key {key} has version {version}; {} was acknowledged before the snapshot, {} not sent before its end",
                    least[k],
                    most[k] + 1
                );
                self.sent[k].store(version, Relaxed);
                self.acked[k].store(version, Relaxed);
            }
        }
    }
}

/// Everything is killed behind a checkpoint that was taken under load: whatever was acknowledged before it is there, nothing of later is, and
/// writes go on; the same from an incremental one. 1 GB of values with `FTL_FULL`.
#[test]
fn redis_has_what_it_acknowledged_before_the_checkpoint() {
    let p = Place::new("redis");
    let port = a_port();
    let keys = often(64, 1024) * ((1 << 20) / VALUE as u32);
    let count = |n: u32| (0..n).map(|_| AtomicU32::new(1)).collect::<Vec<_>>();
    let w = Written {
        sent: count(keys),
        acked: count(keys),
        writes: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    let number = port.to_string();
    let server = [
        "redis-server",
        "--bind",
        "127.0.0.1",
        "--port",
        &number,
        "--save",
        "",
    ];
    p.good(&[&["run", "-d", "--name", "a", "--"], &server[..]].concat());
    let mut conn = Redis::open(port);
    for first in (0..keys).step_by(16) {
        let batch: Vec<_> = (first..first + 16).map(|k| (k, 1)).collect();
        conn.set(&batch).unwrap();
    }
    drop(conn);
    // Taken under load; returns what must be in it, what may be, and what was told.
    let take = |name: &str, file: &str, more: &[&str]| {
        let least = Written::versions(&w.acked);
        let always = ["checkpoint", name, "--json", "--leave-running", "-o", file];
        let told = p.good(&[&always[..], more].concat());
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        (least, Written::versions(&w.sent), told)
    };
    let kill = |name: &str| {
        // SAFETY: the supervisor of our own run; its death ends the image's processes.
        unsafe { libc::kill(supervisor(&p, name) as i32, libc::SIGKILL) };
        let end = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            assert!(Instant::now() < end, "it lives");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let (least, most, _) = w.under_load(port, || {
        let taken = take("a", "a.ftsnap", &[]);
        w.some_more();
        kill("a");
        taken
    });
    assert!(least.iter().any(|v| *v > 1), "no load before it");
    p.good(&["restore", "-d", "--name", "b", "a.ftsnap"]);
    w.check(port, &least, &most);
    fs::remove_file(p.path("a.ftsnap")).unwrap();
    let (least, most, told) = w.under_load(port, || {
        let (_, _, whole) = take("b", "b.ftsnap", &["--incremental"]);
        w.some_more();
        let taken = take("b", "c.ftsnap", &["--incremental"]);
        assert_eq!(taken.2["parent"], whole["root"], "{} {whole}", taken.2);
        w.some_more();
        kill("b");
        taken
    });
    assert!(told["parent"].is_string(), "{told}");
    p.good(&["restore", "-d", "--name", "c", "c.ftsnap"]);
    w.check(port, &least, &most);
    w.under_load(port, || w.some_more());
    // All that was acknowledged in the end is there, in the server that has come through both.
    let (least, most) = (Written::versions(&w.acked), Written::versions(&w.sent));
    w.check(port, &least, &most);
    p.good(&["kill", "c"]);
}
