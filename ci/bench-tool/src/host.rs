//! The machine: its facts, its CPUs, the CPU time of processes.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::Command;

/// CPUs that this process may use, in order.
pub fn cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|n| set.is_set(*n)).collect())
}

/// Puts the calling thread, and what it starts from now on, on CPUs.
pub fn pin(to: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for n in to {
        set.set(*n);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// CPU time of processes: by the scheduler's sum of each thread, ns, and by the kernel's ticks.
#[derive(Clone, Default, Debug)]
pub struct CpuTime {
    threads_ns: BTreeMap<String, u64>,
    ticks: u64,
    /// Of which those of waited children.
    children_ticks: u64,
}

impl CpuTime {
    /// Of these processes, now. What has ended counts for nothing, but for the ticks of waited children.
    pub fn of(processes: &[i32]) -> CpuTime {
        let mut all = CpuTime::default();
        for pid in processes {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // After the name, which may hold anything: user, system, and both of waited children.
            let rest = stat.rsplit_once(')').map_or("", |(_, r)| r);
            let of: Vec<u64> = rest
                .split_whitespace()
                .skip(11)
                .take(4)
                .filter_map(|t| t.parse().ok())
                .collect();
            all.ticks += of.iter().sum::<u64>();
            all.children_ticks += of.iter().skip(2).sum::<u64>();
            for t in fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let text = fs::read_to_string(t.path().join("schedstat")).unwrap_or_default();
                if let Some(ns) = text.split_whitespace().next().and_then(|n| n.parse().ok()) {
                    all.threads_ns.insert(format!("{pid}/{:?}", t.file_name()), ns);
                }
            }
        }
        all
    }

    /// Seconds from then to now by ticks, children that were waited for included.
    pub fn ticks_since(&self, then: &CpuTime) -> f64 {
        self.ticks.saturating_sub(then.ticks) as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// Seconds from then to now: exact if the same threads are there and no child has ended, else from ticks.
    pub fn since(&self, then: &CpuTime) -> f64 {
        let same = self.threads_ns.keys().eq(then.threads_ns.keys()) && !self.threads_ns.is_empty();
        match same && self.children_ticks == then.children_ticks {
            true => {
                let sum = |t: &CpuTime| t.threads_ns.values().sum::<u64>();
                (sum(self) - sum(then)) as f64 / 1e9
            }
            false => self.ticks_since(then),
        }
    }
}

/// Proportional set sizes of processes, KiB: what is shared counts for each by its share.
pub fn memory_kib(processes: &[i32]) -> u64 {
    let of = |pid: &i32| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("Pss:"));
        let kib = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
        kib.unwrap_or(0)
    };
    processes.iter().map(of).sum()
}

/// CPU time of all children that were waited for, s, and the largest resident set of one of them, KiB.
pub fn children() -> io::Result<(f64, u64)> {
    ftl_lab::children_used()
}

/// As many descriptors as one may have: thousands of connections need them.
pub fn many_files() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// CPU time of the whole machine: in use, or taken by the host of a virtual machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    busy_ticks: u64,
    all_ticks: u64,
}

impl Machine {
    /// So far.
    pub fn now() -> Machine {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; what follows is in user already.
        let t: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|n| n.parse().ok())
            .collect();
        let all_ticks: u64 = t.iter().sum();
        let idle: u64 = t.iter().skip(3).take(2).sum();
        Machine {
            busy_ticks: all_ticks - idle,
            all_ticks,
        }
    }

    /// Share of its time since then that went to others, if `ours_s` seconds went to us.
    pub fn others_since(&self, then: &Machine, ours_s: f64) -> f64 {
        let busy = self.busy_ticks.saturating_sub(then.busy_ticks) as f64;
        let all = self.all_ticks.saturating_sub(then.all_ticks).max(1) as f64;
        let ours = ours_s * rustix::param::clock_ticks_per_second() as f64;
        ((busy - ours) / all).max(0.0)
    }
}

/// Load average of the last minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(f64::NAN)
}

/// What a figure depends on.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Name and value, in the order of the report.
    pub machine: Vec<(String, String)>,
    /// First line of what each program says of its version.
    pub versions: Vec<(String, String)>,
    /// Other systems, and why each was not measured.
    pub peers: Vec<(String, String)>,
}

/// Systems with which some of this could be compared.
fn peers() -> Vec<(String, String)> {
    let why = |name: &str, program: &str| {
        let path = std::env::var("PATH").unwrap_or_default();
        let there = path
            .split(':')
            .any(|d| std::path::Path::new(d).join(program).exists());
        let why = match there {
            true => "skipped: it is installed, but this tool has no measurement of it",
            false => "skipped: not installed",
        };
        (name.to_string(), why.to_string())
    };
    vec![why("CRIU", "criu"), why("gVisor", "runsc"), why("rr", "rr")]
}

impl Facts {
    /// Asks for all of them.
    pub fn gather(ftvm: &std::path::Path) -> Facts {
        let read = |p: &str| fs::read_to_string(p).unwrap_or_default().trim().to_string();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or("", |(_, v)| v).trim().to_string()
        };
        let cpu = read("/proc/cpuinfo");
        let virtual_machine = cpu.contains(" hypervisor");
        let all = cpus().map_or(0, |c| c.len());
        let machine = [
            ("CPU", field(&cpu, "model name")),
            ("CPUs usable", all.to_string()),
            (
                "virtual machine",
                if virtual_machine { "yes" } else { "no" }.to_string(),
            ),
            ("memory", field(&read("/proc/meminfo"), "MemTotal")),
            ("kernel", read("/proc/sys/kernel/osrelease")),
            (
                "frequency governor",
                read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            ),
            ("load average before", format!("{:.2}", load_average())),
        ];
        let asked: [(&str, &[&str]); 14] = [
            ("ftvm", &["--version"]),
            ("memcached", &["-V"]),
            ("redis-server", &["--version"]),
            ("nginx", &["-v"]),
            ("node", &["--version"]),
            ("postgres", &["--version"]),
            ("sqlite3", &["--version"]),
            ("gcc", &["--version"]),
            ("java", &["-version"]),
            ("/usr/bin/python3", &["--version"]),
            ("rustc", &["--version"]),
            ("wrk", &["-v"]),
            ("redis-benchmark", &["--version"]),
            ("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"]),
        ];
        let versions = asked.map(|(program, args)| {
            let real = if program == "ftvm" {
                ftvm.as_os_str()
            } else {
                match program {
                    "postgres" => "/usr/lib/postgresql/15/bin/postgres".as_ref(),
                    p => p.as_ref(),
                }
            };
            let said = Command::new(real).args(args).output();
            let text = said.map_or_else(
                |e| e.to_string(),
                |o| {
                    String::from_utf8_lossy(if o.stdout.is_empty() { &o.stderr } else { &o.stdout })
                        .into_owned()
                },
            );
            let name = if program == "git" { "source" } else { program };
            (name.to_string(), text.lines().next().unwrap_or("").to_string())
        });
        Facts {
            machine: machine
                .into_iter()
                .filter(|(_, v)| !v.is_empty())
                .map(|(n, v)| (n.to_string(), v))
                .collect(),
            versions: versions.to_vec(),
            peers: peers(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_what_is_left() {
        let then = Machine {
            busy_ticks: 100,
            all_ticks: 1000,
        };
        let per_second = rustix::param::clock_ticks_per_second();
        let now = Machine {
            busy_ticks: 100 + per_second,
            all_ticks: 1000 + 2 * per_second,
        };
        assert_eq!(now.others_since(&then, 0.0), 0.5);
        assert!((now.others_since(&then, 0.8) - 0.1).abs() < 1e-9);
        assert_eq!(now.others_since(&then, 3.0), 0.0);
        assert!(Machine::now().all_ticks > 0);
    }

    #[test]
    fn work_is_counted() {
        let me = [std::process::id() as i32];
        let ticks = |t: &CpuTime| t.ticks;
        let then = CpuTime::of(&me);
        let start = std::time::Instant::now();
        let mut n = 0u64;
        // The clock of CPU time ticks every 10 ms, while the process runs.
        while start.elapsed().as_millis() < 100 || CpuTime::of(&me).since(&then) <= 0.0 {
            assert!(start.elapsed().as_secs() < 60, "no CPU time is counted");
            n = std::hint::black_box(n + 1);
        }
        let now = CpuTime::of(&me);
        assert!(now.since(&then) > 0.0, "{now:?}");
        assert!(ticks(&now) >= ticks(&then));
    }
}
