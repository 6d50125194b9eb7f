//! Connections that are opened, used once, and then left alone until they are asked again.

use crate::net::{Host, IMAGE};
use crate::speak::{Connection, Server};
use std::io;
use std::time::Duration;

/// A connection on which nothing comes for this long is lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Threads that open them and ask them.
const THREADS: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Idle(Vec<(String, u64, Connection)>);

/// Lets this process have so many descriptors open at once.
pub fn allow_descriptors(n: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a valid structure.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_cur.max(n);
    // As root.
    limit.rlim_max = limit.rlim_max.max(n);
    // SAFETY: as above.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Idle {
    /// Opens `n` connections from a host, and writes a register of its own over each.
    pub fn open(server: Server, host: &Host, n: usize) -> io::Result<Idle> {
        let numbers: Vec<usize> = (0..n).collect();
        let open = |n: usize| {
            let (key, value) = (format!("idle{n}"), 0x1d1e << 32 | n as u64);
            let mut c = Connection::open(server, IMAGE, PATIENCE)?;
            c.set(&key, value)?;
            Ok((key, value, c))
        };
        let parts = in_threads(host, numbers, |part| part.into_iter().map(open).collect())?;
        Ok(Idle(
            parts
                .into_iter()
                .collect::<io::Result<Vec<Vec<_>>>>()?
                .into_iter()
                .flatten()
                .collect(),
        ))
    }

    /// Asks each for its register. What was wrong, in words.
    pub fn ask(self, host: &Host) -> io::Result<Vec<String>> {
        let ask = |(key, value, mut c): (String, u64, Connection)| match c.get(&key) {
            Ok(got) if got == value => None,
            Ok(got) => Some(format!("{key}: {value:x} was written, {got:x} is read")),
            Err(e) => Some(format!("idle connection {key}: {e}")),
        };
        let parts = in_threads(host, self.0, |part| {
            part.into_iter().filter_map(ask).collect::<Vec<_>>()
        })?;
        Ok(parts.into_iter().flatten().collect())
    }
}

/// Does the same with a part of them in each of some threads on a host.
fn in_threads<I: Send, T: Send>(
    host: &Host,
    all: Vec<I>,
    work: impl Fn(Vec<I>) -> T + Sync,
) -> io::Result<Vec<T>> {
    let mut parts: Vec<Vec<I>> = (0..THREADS).map(|_| Vec::new()).collect();
    for (n, i) in all.into_iter().enumerate() {
        parts[n % THREADS].push(i);
    }
    std::thread::scope(|s| {
        let work = &work;
        let threads: Vec<_> = parts
            .into_iter()
            .map(|part| s.spawn(move || host.within(|| Ok(work(part)))))
            .collect();
        let ended = |_| Err(io::Error::other("a thread ended"));
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(ended))
            .collect()
    })
}
