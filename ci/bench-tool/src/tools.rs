//! Load generators of others, and what they say: wrk for HTTP, redis-benchmark for redis.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Percentiles that are kept of every measurement.
pub const PERCENTILES: [f64; 8] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99];

/// What a generator measured.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Measured {
    /// Requests answered.
    pub requests: u64,
    /// In this time, s.
    pub seconds: f64,
    /// Percentile and latency, us.
    pub latency_us: Vec<(f64, f64)>,
    /// Requests that failed.
    pub errors: u64,
    /// The longest that an open loop was behind its own clock, us.
    pub late_us: Option<f64>,
}

fn output(command: &mut Command) -> io::Result<String> {
    let done = command.stdin(Stdio::null()).output().map_err(|e| {
        io::Error::other(format!(
            "{}: {e}: run ci/install",
            command.get_program().display()
        ))
    })?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    match done.status.success() {
        true => Ok(said),
        false => Err(io::Error::other(format!(
            "{}: {}: {said}{}",
            command.get_program().display(),
            done.status,
            String::from_utf8_lossy(&done.stderr)
        ))),
    }
}

fn unreadable(text: &str) -> io::Error {
    io::Error::other(format!(
        "the load generator said {text:?}, which is not understood"
    ))
}

/// wrk with one thread. It knows whole seconds only.
pub fn wrk(to: SocketAddr, path: &str, connections: u32, seconds: u64, home: &Path) -> io::Result<Measured> {
    let list = PERCENTILES.map(|p| p.to_string()).join(", ");
    let script = home.join("wrk.lua");
    std::fs::write(
        &script,
        format!(
            "done = function(s, l, r)\n\
             local e = s.errors\n\
             io.write(string.format('RESULT %d %d %d', s.requests, s.duration,\n\
             e.connect + e.read + e.write + e.status + e.timeout))\n\
             for _, p in ipairs({{{list}}}) do io.write(string.format(' %g', l:percentile(p))) end\n\
             io.write('\\n')\nend\n"
        ),
    )?;
    let said = output(
        Command::new("wrk")
            .args([
                "-t",
                "1",
                "-c",
                &connections.to_string(),
                "-d",
                &format!("{seconds}s"),
            ])
            .arg("-s")
            .arg(&script)
            .arg(format!("http://{to}{path}")),
    )?;
    read_wrk(&said).ok_or_else(|| unreadable(&said))
}

fn read_wrk(said: &str) -> Option<Measured> {
    let line = said.lines().find_map(|l| l.strip_prefix("RESULT "))?;
    let all: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let (head, latency) = all.split_at_checked(3)?;
    (latency.len() == PERCENTILES.len()).then(|| Measured {
        requests: head[0] as u64,
        seconds: head[1] / 1e6,
        latency_us: PERCENTILES.into_iter().zip(latency.iter().copied()).collect(),
        errors: head[2] as u64,
        late_us: None,
    })
}

/// redis-benchmark, `n` requests of one kind with values of 100 bytes, `pipeline` of them under way on each connection.
pub fn redis(to: SocketAddr, test: &str, connections: u32, pipeline: u32, n: u64) -> io::Result<Measured> {
    let said = output(Command::new("redis-benchmark").args([
        "-h",
        &to.ip().to_string(),
        "-p",
        &to.port().to_string(),
        "-c",
        &connections.to_string(),
        "-n",
        &n.to_string(),
        "-d",
        "100",
        "-P",
        &pipeline.to_string(),
        "-r",
        "100000",
        "-t",
        test,
        "--csv",
    ]))?;
    read_redis(&said, n).ok_or_else(|| unreadable(&said))
}

fn read_redis(said: &str, n: u64) -> Option<Measured> {
    let mut lines = said.lines().filter(|l| l.starts_with('"'));
    let row = |l: &str| -> Vec<String> { l.split(',').map(|f| f.trim_matches('"').to_string()).collect() };
    let (names, values) = (row(lines.next()?), row(lines.next()?));
    let field = |name: &str| -> Option<f64> {
        let at = names.iter().position(|n| n == name)?;
        values.get(at)?.parse().ok()
    };
    let latency = |p: f64| Some((p, field(&format!("p{p}_latency_ms"))? * 1e3));
    Some(Measured {
        requests: n,
        seconds: n as f64 / field("rps").filter(|r| *r > 0.0)?,
        latency_us: [50.0, 95.0, 99.0]
            .into_iter()
            .map(latency)
            .collect::<Option<_>>()?,
        errors: 0,
        late_us: None,
    })
}

/// Where Debian has PostgreSQL's programs, or by the path.
fn postgres(program: &str) -> Command {
    let debian = Path::new("/usr/lib/postgresql/15/bin").join(program);
    Command::new(if debian.exists() { debian } else { program.into() })
}

fn pgbench(to: SocketAddr, options: &str) -> io::Result<String> {
    let mut c = postgres("pgbench");
    c.args(options.split(' '));
    c.args(["-h", &to.ip().to_string(), "-p", &to.port().to_string()]);
    output(c.args(["-U", "pg", "postgres"]))
}

/// Makes pgbench's tables, a hundred thousand rows.
pub fn pgbench_fill(to: SocketAddr) -> io::Result<()> {
    pgbench(to, "-i -q").map(drop)
}

/// pgbench with one thread. It knows whole seconds only, and of latencies the mean only.
pub fn pgbench_run(to: SocketAddr, select: bool, clients: u32, seconds: u64) -> io::Result<Measured> {
    let only = if select { " -S" } else { "" };
    let said = pgbench(to, &format!("-n{only} -c {clients} -T {seconds}"))?;
    read_pgbench(&said).ok_or_else(|| unreadable(&said))
}

fn read_pgbench(said: &str) -> Option<Measured> {
    let after = |words: &str| -> Option<f64> {
        let rest = said.lines().find_map(|l| l.strip_prefix(words))?;
        let number = rest.trim_start().split([' ', '/']).next()?;
        number.parse().ok()
    };
    let n = after("number of transactions actually processed:")?;
    Some(Measured {
        requests: n as u64,
        seconds: n / after("tps =").filter(|r| *r > 0.0)?,
        latency_us: Vec::new(),
        errors: after("number of failed transactions:").unwrap_or(0.0) as u64,
        late_us: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says() {
        let m = read_wrk("Running 1s\nRESULT 1000 1000100 2 50 75 90 95 99 99.5 99.9 1e+02\nx")
            .expect("a result");
        assert_eq!((m.requests, m.errors, m.seconds), (1000, 2, 1.0001));
        assert_eq!(m.latency_us.first(), Some(&(50.0, 50.0)));
        assert_eq!(m.latency_us.last(), Some(&(99.99, 100.0)));
        assert_eq!(read_wrk("RESULT 1 2 3"), None);
        assert_eq!(read_wrk("nothing"), None);
    }

    #[test]
    fn what_pgbench_says() {
        let said = "transaction type: <builtin: select only>\nnumber of transactions actually processed: 1000\n\
                    number of failed transactions: 2 (0.200%)\nlatency average = 0.1 ms\n\
                    tps = 500.5 (without initial connection time)\n";
        let m = read_pgbench(said).expect("a result");
        assert_eq!((m.requests, m.errors), (1000, 2));
        assert!((m.seconds - 1000.0 / 500.5).abs() < 1e-9);
        assert_eq!(read_pgbench("tps = 0\n"), None);
    }

    #[test]
    fn what_redis_benchmark_says() {
        let said = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
                    \"p99_latency_ms\",\"max_latency_ms\"\n\
                    \"GET\",\"50000.00\",\"0.01\",\"0.01\",\"0.015\",\"0.023\",\"0.031\",\"0.5\"\n";
        let m = read_redis(said, 1000).expect("a result");
        assert_eq!((m.requests, m.seconds), (1000, 0.02));
        assert_eq!(m.latency_us.len(), 3);
        assert!((m.latency_us[1].1 - 23.0).abs() < 1e-9);
        assert_eq!(read_redis("\"test\",\"rps\"\n\"GET\",\"0\"\n", 1), None);
    }
}
