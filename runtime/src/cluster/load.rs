//! How busy a host and the runs on it are, for `ftvm top`: counters, from two of which whoever shows them makes rates.
//!
//! A node tells them in etcd while somebody watches (key [`WATCH`], under the watcher's lease), and not else: they change
//! all the time, and each change is a write that all members of etcd keep.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Key that is there while somebody watches.
pub const WATCH: &str = "watch";
/// Between two tellings.
pub const EVERY: Duration = Duration::from_secs(1);

/// Figures of `ftvm status --json` that are passed on.
const FIGURES: [&str; 10] = [
    "role",
    "state",
    "outputs",
    "outputs_without_wait",
    "records",
    "log_bytes",
    "lag_records",
    "held_bytes",
    "wait_us_max",
    "pause_us_max",
];

/// Key of a node.
pub fn key(node: &str) -> String {
    format!("load/{node}")
}

/// What this host and its runs have used so far. `figures`: by name, what `ftvm status --json` says, with the
/// supervisor's `pid`.
pub fn measure(figures: &BTreeMap<String, Value>) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (busy, all) = cpu(&read("/proc/stat"));
    let (total, available) = memory(&read("/proc/meminfo"));
    let apps: serde_json::Map<String, Value> = figures
        .iter()
        .map(|(name, said)| {
            let mut v = json!({});
            for f in FIGURES.into_iter().filter(|f| !said[*f].is_null()) {
                v[f] = said[f].clone();
            }
            if let Some(pid) = said["pid"].as_u64() {
                let (cpu_ms, rss) = processes(pid);
                (v["cpu_ms"], v["rss"]) = (json!(cpu_ms), json!(rss));
            }
            (name.clone(), v)
        })
        .collect();
    json!({"version": 1, "at_ms": crate::sys::clock_ns(libc::CLOCK_MONOTONIC) / 1_000_000, "cpu_busy": busy, "cpu_all": all,
        "memory": total, "available": available, "apps": apps})
}

/// Jiffies of all CPUs that were not idle, and all of them.
fn cpu(stat: &str) -> (u64, u64) {
    let line = stat.lines().next().unwrap_or_default();
    let n: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map_while(|w| w.parse().ok())
        .collect();
    // What guests have used is in user and nice too.
    let all: u64 = n.iter().take(8).sum();
    let idle: u64 = n.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// Bytes of memory, and those that can be had without swapping.
pub fn memory(meminfo: &str) -> (u64, u64) {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    };
    let bytes = |name| field(name).unwrap_or(0) << 10;
    (bytes("MemTotal"), bytes("MemAvailable"))
}

/// CPU time of a supervisor and the image's processes, which are its children, ms; bytes of memory that is theirs alone or shared
/// among them (PSS, so that what they share counts once).
fn processes(supervisor: u64) -> (u64, u64) {
    let read =
        |pid: u64, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let children = read(supervisor, &format!("task/{supervisor}/children"));
    let all = std::iter::once(supervisor).chain(children.split_whitespace().filter_map(|p| p.parse().ok()));
    // SAFETY: a plain query.
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    let (mut ticks, mut pss) = (0, 0);
    for pid in all {
        ticks += used(&read(pid, "stat"));
        let rollup = read(pid, "smaps_rollup");
        let line = rollup.lines().find_map(|l| l.strip_prefix("Pss:"));
        let kib: u64 = line
            .and_then(|l| l.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        pss += kib << 10;
    }
    (ticks * 1000 / hz, pss)
}

/// Clock ticks of a process: user and system time in /proc/PID/stat, behind its name, which may hold anything.
fn used(stat: &str) -> u64 {
    let rest = stat.rsplit_once(')').map_or("", |(_, r)| r);
    let fields = rest.split_whitespace().skip(11).take(2);
    fields.filter_map(|w| w.parse::<u64>().ok()).sum()
}

/// Between two measurements of one host: rates and shares.
pub struct Between<'a> {
    then: &'a Value,
    now: &'a Value,
}

impl<'a> Between<'a> {
    /// None if they are not of one host's one boot, in this order.
    pub fn new(then: &'a Value, now: &'a Value) -> Option<Between<'a>> {
        let later = now["at_ms"].as_u64()? > then["at_ms"].as_u64()?;
        later.then_some(Between { then, now })
    }

    fn ms(&self) -> f64 {
        let at = |v: &Value| v["at_ms"].as_u64().unwrap_or(0);
        at(self.now).saturating_sub(at(self.then)).max(1) as f64
    }

    /// Share of the host's CPUs that was used, percent.
    pub fn cpu(&self) -> Option<f64> {
        let more = |f: &str| Some(self.now[f].as_u64()?.saturating_sub(self.then[f].as_u64()?) as f64);
        let (busy, all) = (more("cpu_busy")?, more("cpu_all")?);
        (all > 0.0).then(|| 100.0 * busy / all)
    }

    /// Growth of an app's counter in a second. None: it is new here.
    pub fn rate(&self, app: &str, field: &str) -> Option<f64> {
        let (then, now) = (&self.then["apps"][app], &self.now["apps"][app]);
        if then["role"] != now["role"] {
            return None;
        }
        let more = now[field].as_u64()?.checked_sub(then[field].as_u64()?)?;
        Some(more as f64 * 1e3 / self.ms())
    }

    /// CPU time of an app, percent of one CPU.
    pub fn app_cpu(&self, app: &str) -> Option<f64> {
        self.rate(app, "cpu_ms").map(|ms| ms / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        assert_eq!(cpu("cpu  10 1 5 80 4 0 0 0 3 0\ncpu0 1 1 1 1\n"), (16, 100));
        assert_eq!(cpu(""), (0, 0));
        assert_eq!(
            memory("MemTotal:       100 kB\nMemFree: 1 kB\nMemAvailable:   40 kB\n"),
            (100 << 10, 40 << 10)
        );
        assert_eq!(used("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0"), 42);
        let me = u64::from(std::process::id());
        assert!(processes(me).1 > 0, "a process has memory");
    }

    #[test]
    fn rates_are_of_one_run_and_one_boot() {
        let at = |ms: u64, role: &str, outputs: u64| json!({"at_ms": ms, "cpu_busy": ms / 20, "cpu_all": ms / 10, "apps": {"a": {"role": role, "outputs": outputs}}});
        let (first, next) = (at(1000, "primary", 5), at(3000, "primary", 25));
        let b = Between::new(&first, &next).expect("in order");
        assert_eq!(b.rate("a", "outputs"), Some(10.0));
        assert_eq!(b.cpu(), Some(50.0));
        assert_eq!((b.rate("a", "records"), b.rate("b", "outputs")), (None, None));
        assert!(Between::new(&next, &first).is_none());
        // It was started anew, or is a standby now.
        for other in [at(3000, "primary", 1), at(3000, "standby", 25)] {
            let b = Between::new(&first, &other).expect("in order");
            assert_eq!(b.rate("a", "outputs"), None);
        }
    }
}
