//! What was measured, and what follows from it: the JSON, and the rows of the tables.

use crate::curves::{Commit, Memory};
use crate::host::Facts;
use crate::images::{App, Measured};
use crate::plan::{Mode, Plan, Server};
use crate::recording::Recording;
use crate::session::Cell;
use crate::stats::{Ratio, median};
use crate::takeover::Takeover;
use crate::travel::Figure;
use serde::{Deserialize, Serialize};

/// Format of the JSON; changes with its meaning.
pub const VERSION: u32 = 2;

/// Share of the machine from which other work makes the figures void. The kernel's own work for our packets is
/// counted as others' where it is not some process's.
const OTHERS: f64 = 0.1;

/// A session that gave nothing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What was to be done.
    pub what: String,
    /// Why it was not.
    pub why: String,
}

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// See [`VERSION`].
    pub version: u32,
    /// What was asked for.
    pub plan: Plan,
    /// Of which only this.
    pub filter: Option<String>,
    /// Where.
    pub facts: Facts,
    /// Every measurement.
    pub cells: Vec<Cell>,
    /// Every takeover.
    pub takeovers: Vec<Takeover>,
    /// The snapshot curve.
    pub memory: Vec<Memory>,
    /// The commit curve.
    pub commit: Vec<Commit>,
    /// Starts and sizes of images.
    #[serde(default)]
    pub images: Vec<Measured>,
    /// What recording costs and logs.
    #[serde(default)]
    pub recording: Vec<Recording>,
    /// Servers under snapshots, clones and migrations.
    #[serde(default)]
    pub travel: Vec<Figure>,
    /// What is missing.
    pub failures: Vec<Failure>,
    /// How long it took, s.
    pub seconds: f64,
    /// Load average in the end.
    pub load_after: f64,
}

/// One mode of a row.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The mode.
    pub mode: Mode,
    /// Medians of the rounds: requests a second.
    pub per_second: f64,
    /// Half of the requests took no longer, us.
    pub p50_us: Option<f64>,
    /// 99 of 100 took no longer, us.
    pub p99_us: Option<f64>,
    /// 999 of 1,000 took no longer, us.
    pub p999_us: Option<f64>,
    /// The distribution: percentile, and the median of the rounds' latencies there, us.
    pub curve: Vec<(f64, f64)>,
    /// Memory of the server's side, KiB.
    pub memory_kib: f64,
    /// CPU time of the load generators a request, us.
    pub load_us: f64,
    /// CPU time of the server's side a request, us.
    pub cpu_us: f64,
    /// CPU time of the backup a request, us.
    pub backup_us: f64,
    /// Throughput over its base's, round by round.
    pub speed: Option<Ratio>,
    /// CPU time a request over its base's, round by round.
    pub cost: Option<Ratio>,
    /// Requests that failed, of all rounds.
    pub errors: u64,
}

/// One scenario with one number of connections.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// What was asked.
    pub scenario: String,
    /// Connections.
    pub connections: u32,
    /// Modes that were measured.
    pub entries: Vec<Entry>,
}

impl Row {
    /// One mode.
    pub fn get(&self, mode: Mode) -> Option<&Entry> {
        self.entries.iter().find(|e| e.mode == mode)
    }
}

impl Report {
    fn of(&self, scenario: &str, n: u32, mode: Mode) -> Vec<&Cell> {
        let ours = |c: &&Cell| c.scenario == scenario && c.connections == n && c.mode == mode;
        self.cells.iter().filter(ours).collect()
    }

    fn entry(&self, scenario: &str, n: u32, mode: Mode) -> Option<Entry> {
        let cells = self.of(scenario, n, mode);
        let middle = |f: &dyn Fn(&Cell) -> f64| median(&cells.iter().map(|c| f(c)).collect::<Vec<_>>());
        let percentile = |p: f64| {
            let all: Vec<f64> = cells.iter().filter_map(|c| c.percentile(p)).collect();
            median(&all)
        };
        let base = mode.base().map(|b| self.of(scenario, n, b)).unwrap_or_default();
        let ratio = |f: &dyn Fn(&Cell) -> f64| {
            let pairs: Vec<f64> = cells
                .iter()
                .filter_map(|c| Some(f(c) / f(base.iter().find(|b| b.round == c.round)?)))
                .filter(|r| r.is_finite())
                .collect();
            Ratio::of(&pairs, self.plan.seed)
        };
        let points = cells.first().map(|c| &c.latency_us[..]).unwrap_or_default();
        let curve = points.iter().filter_map(|(p, _)| Some((*p, percentile(*p)?)));
        Some(Entry {
            curve: curve.collect(),
            p999_us: percentile(99.9),
            memory_kib: middle(&|c| c.memory_kib as f64)?,
            load_us: middle(&|c| c.load_cpu_s * 1e6 / c.requests.max(1) as f64)?,
            mode,
            per_second: middle(&Cell::per_second)?,
            p50_us: percentile(50.0),
            p99_us: percentile(99.0),
            cpu_us: middle(&Cell::cpu_us)?,
            backup_us: middle(&|c| c.backup_cpu_s * 1e6 / c.requests.max(1) as f64)?,
            speed: ratio(&Cell::per_second),
            cost: ratio(&Cell::cpu_us),
            errors: cells.iter().map(|c| c.errors).sum(),
        })
    }

    /// Closed loops and programs that end.
    pub fn rows(&self) -> Vec<Row> {
        let names = Server::ALL.into_iter().flat_map(Server::scenarios);
        self.rows_of(names.map(|s| s.to_string()))
    }

    /// Open loops.
    pub fn open_rows(&self) -> Vec<Row> {
        self.rows_of(Server::ALL.into_iter().map(Server::open_scenario))
    }

    fn rows_of(&self, names: impl Iterator<Item = String>) -> Vec<Row> {
        let mut rows = Vec::new();
        for scenario in names {
            let of = self.cells.iter().filter(|c| c.scenario == scenario);
            let mut connections: Vec<u32> = of.map(|c| c.connections).collect();
            connections.sort_unstable();
            connections.dedup();
            for n in connections {
                let entries: Vec<Entry> = Mode::ALL
                    .into_iter()
                    .filter_map(|m| self.entry(&scenario, n, m))
                    .collect();
                if !entries.is_empty() {
                    rows.push(Row {
                        scenario: scenario.clone(),
                        connections: n,
                        entries,
                    });
                }
            }
        }
        rows
    }

    /// Share of the machine that others used in the measurements: the middle, and the most.
    pub fn others(&self) -> Option<(f64, f64)> {
        let cells = self.cells.iter().map(|c| c.others);
        let all: Vec<f64> = cells.chain(self.recording.iter().map(|r| r.others)).collect();
        Some((median(&all)?, all.iter().copied().fold(0.0, f64::max)))
    }

    /// What must be said before any number.
    pub fn warnings(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some((middle, most)) = self.others().filter(|(middle, _)| *middle > OTHERS) {
            all.push(format!(
                "the machine was busy with other work ({:.0} % of its CPU time in the middle measurement, {:.0} % in \
                 the worst): these figures only show that the tool works",
                middle * 100.0,
                most * 100.0
            ));
        }
        if self.plan.rounds < 5 {
            all.push(format!(
                "{} rounds: intervals are those of the values seen",
                self.plan.rounds
            ));
        }
        let slow = |c: &&Cell| c.rate.is_some_and(|r| c.per_second() < 0.98 * f64::from(r));
        let slow = self.cells.iter().filter(slow).count();
        if slow > 0 {
            all.push(format!(
                "{slow} open loops were not answered at the rate at which they asked: their latencies grow with the time \
                 that was measured"
            ));
        }
        let late: Vec<f64> = self.cells.iter().filter_map(|c| c.late_us).collect();
        if let Some(late) = median(&late).filter(|us| *us > 5000.0) {
            all.push(format!(
                "the open loop's generator was up to {:.0} ms behind its clock in the middle measurement: tails are its own",
                late / 1e3
            ));
        }
        let failed: u64 = self.cells.iter().map(|c| c.errors).sum();
        if failed > 0 {
            all.push(format!("{failed} requests failed"));
        }
        for t in &self.takeovers {
            all.extend(t.wrong.iter().map(|w| format!("takeover: {w}")));
        }
        let reason = |f: &Failure| {
            let lines: Vec<&str> = f.why.lines().filter(|l| !l.trim().is_empty()).take(1).collect();
            format!("{} gave nothing: {}", f.what, lines.join(" "))
        };
        all.extend(self.failures.iter().map(reason));
        all
    }

    /// One size of the snapshot curve, all rounds together.
    pub fn memory_rows(&self) -> Vec<Memory> {
        let mut sizes: Vec<u32> = self.memory.iter().map(|m| m.mib).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let one = |mib: u32| {
            let of: Vec<&Memory> = self.memory.iter().filter(|m| m.mib == mib).collect();
            let middle = |f: &dyn Fn(&Memory) -> f64| {
                median(&of.iter().map(|m| f(m)).collect::<Vec<_>>()).unwrap_or(f64::NAN)
            };
            Memory {
                mib,
                pause_ms: of.iter().flat_map(|m| m.pause_ms.clone()).collect(),
                took_ms: of.iter().flat_map(|m| m.took_ms.clone()).collect(),
                bytes: middle(&|m| m.bytes as f64) as u64,
                memory_kib: middle(&|m| m.memory_kib as f64) as u64,
                restore_ms: middle(&|m| m.restore_ms),
            }
        };
        sizes.into_iter().map(one).collect()
    }

    /// One delay and number of connections of the commit curve: medians of the rounds.
    pub fn commit_rows(&self) -> Vec<Commit> {
        let mut keys: Vec<(u32, u32)> = self
            .commit
            .iter()
            .map(|c| (c.connections, c.round_trip_us))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let one = |(connections, round_trip_us): (u32, u32)| {
            let of = |c: &&Commit| c.connections == connections && c.round_trip_us == round_trip_us;
            let middle = |f: &dyn Fn(&Commit) -> f64| {
                median(&self.commit.iter().filter(of).map(f).collect::<Vec<_>>()).unwrap_or(f64::NAN)
            };
            Commit {
                round_trip_us,
                connections,
                per_second: middle(&|c| c.per_second),
                p50_us: middle(&|c| c.p50_us),
                p99_us: middle(&|c| c.p99_us),
            }
        };
        keys.into_iter().map(one).collect()
    }

    /// The curves, a line for each point.
    pub fn curve_lines(&self) -> Vec<String> {
        let most = |v: &[f64]| v.iter().copied().fold(0.0, f64::max);
        let memory = self.memory_rows().into_iter().map(|m| {
            format!(
                "guest memory {} MiB: pause of a checkpoint {:.2} ms (longest of {}: {:.2} ms), restore to the first answer \
                 {:.0} ms",
                m.mib,
                median(&m.pause_ms).unwrap_or(f64::NAN),
                m.pause_ms.len(),
                most(&m.pause_ms),
                m.restore_ms
            )
        });
        let commit = self.commit_rows().into_iter().map(|c| {
            format!(
                "backup {:.1} ms further away, {} connections: {:.0} requests/s, p50 {:.0} us, p99 {:.0} us",
                f64::from(c.round_trip_us) / 1e3,
                c.connections,
                c.per_second,
                c.p50_us,
                c.p99_us
            )
        });
        memory
            .chain(commit)
            .chain(self.image_lines())
            .chain(self.travel_lines())
            .collect()
    }

    /// Snapshots, clones and migrations of servers, a line for each figure: the values of all rounds together.
    pub fn travel_lines(&self) -> Vec<String> {
        let mut all: Vec<Figure> = Vec::new();
        for f in &self.travel {
            match all.iter_mut().find(|a| a.name == f.name) {
                Some(a) => a.values.extend_from_slice(&f.values),
                None => all.push(f.clone()),
            }
        }
        all.iter().map(Figure::line).collect()
    }

    /// Starts and sizes of images, a line for each: medians of all rounds.
    pub fn image_lines(&self) -> Vec<String> {
        let mut out = Vec::new();
        for app in App::ALL {
            let of: Vec<&Measured> = self.images.iter().filter(|m| m.app == app).collect();
            let ms =
                |f: &dyn Fn(&Measured) -> Vec<f64>| median(&of.iter().flat_map(|m| f(m)).collect::<Vec<_>>());
            let shown = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{v:.0} ms"));
            if let (Some(cold), Some(warm)) = (ms(&|m| m.cold_ms.clone()), ms(&|m| m.warm_ms.clone())) {
                out.push(format!(
                    "image of {}: to the first answer warm {}, cold {} (1/{:.1}), native {}, podman {}; pulled first {}, by podman {}",
                    app.name(),
                    shown(Some(warm)),
                    shown(Some(cold)),
                    cold / warm,
                    shown(ms(&|m| m.native_ms.clone())),
                    shown(ms(&|m| m.podman_ms.clone())),
                    shown(ms(&|m| m.pulled_ms.clone())),
                    shown(ms(&|m| m.podman_pulled_ms.clone())),
                ));
            }
            for m in of.iter().take(1).filter(|m| m.alone_bytes > 0) {
                let mib = |n: u64| n as f64 / f64::from(1 << 20);
                out.push(format!(
                    "ten images: {:.0} MiB on disk, packed and unpacked; {:.0} MiB if they shared nothing",
                    mib(m.disk_bytes),
                    mib(m.alone_bytes)
                ));
            }
        }
        out
    }

    /// What recording costs and logs.
    pub fn recording_lines(&self) -> Vec<String> {
        let lines = self.recording.iter().map(|r| r.lines(self.plan.seed));
        lines.flatten().collect()
    }

    /// Takeovers in one line.
    pub fn takeover_line(&self) -> Option<String> {
        let first: Vec<f64> = self.takeovers.iter().map(|t| t.first_ms).collect();
        let gaps: Vec<f64> = self.takeovers.iter().flat_map(|t| t.gaps_ms.clone()).collect();
        let most = |v: &[f64]| v.iter().copied().fold(0.0, f64::max);
        Some(format!(
            "takeover of memcached, {} kills: first answer after {:.0} ms (longest {:.0} ms);\n\
             longest silence of a connection, {} connections: median {:.0} ms, longest {:.0} ms",
            first.len(),
            median(&first)?,
            most(&first),
            gaps.len(),
            median(&gaps)?,
            most(&gaps)
        ))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A report in which `run` has a share of `native`'s speed, and rounds differ much.
    pub fn sample(share: f64) -> Report {
        let mut cells = Vec::new();
        for round in 0..5 {
            for (mode, share) in [(Mode::Native, 1.0), (Mode::Run, share)] {
                cells.push(Cell {
                    scenario: "memcached".to_string(),
                    mode,
                    connections: 16,
                    round,
                    requests: (1000.0 * share * f64::from(round + 1)) as u64,
                    seconds: 1.0,
                    server_cpu_s: 1.0,
                    backup_cpu_s: 0.0,
                    load_cpu_s: 0.5,
                    memory_kib: 1000,
                    rate: None,
                    late_us: None,
                    latency_us: vec![(50.0, 10.0), (99.0, 20.0)],
                    errors: 0,
                    others: 0.01,
                    load_average: 1.0,
                });
            }
        }
        Report {
            version: VERSION,
            plan: Plan::full(),
            filter: None,
            facts: Facts {
                machine: vec![("CPUs usable".to_string(), "2".to_string())],
                versions: Vec::new(),
                peers: Vec::new(),
            },
            cells,
            takeovers: vec![Takeover {
                first_ms: 200.0,
                gaps_ms: vec![220.0, 210.0],
                answers: 10,
                wrong: Vec::new(),
                steps: vec![5, 0, 5],
            }],
            memory: vec![Memory {
                mib: 10,
                pause_ms: vec![1.0, 2.0],
                took_ms: vec![10.0, 20.0],
                bytes: 10 << 20,
                memory_kib: 20_000,
                restore_ms: 50.0,
            }],
            commit: vec![Commit {
                round_trip_us: 0,
                connections: 1,
                per_second: 1000.0,
                p50_us: 100.0,
                p99_us: 200.0,
            }],
            images: Vec::new(),
            recording: vec![crate::recording::tests::sample()],
            travel: Vec::new(),
            failures: Vec::new(),
            seconds: 1.0,
            load_after: 1.0,
        }
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let rows = sample(0.8).rows();
        assert_eq!(rows.len(), 1);
        let run = rows[0].get(Mode::Run).expect("measured");
        let speed = run.speed.expect("five rounds");
        // The rounds differ by a factor of five, the pairs do not.
        assert!(speed.resolved() && (speed.median - 0.8).abs() < 1e-9, "{speed:?}");
        let cost = run.cost.expect("five rounds");
        assert!((cost.median - 1.25).abs() < 1e-9, "{cost:?}");
        assert_eq!(rows[0].get(Mode::Native).expect("measured").speed, None);
    }

    #[test]
    fn a_busy_machine_is_named() {
        let mut r = sample(0.8);
        assert!(r.warnings().is_empty(), "{:?}", r.warnings());
        r.cells[0].others = 0.9;
        assert!(
            r.warnings().is_empty(),
            "one bad moment is what the median is for: {:?}",
            r.warnings()
        );
        r.cells.iter_mut().for_each(|c| c.others = 0.3);
        assert!(r.warnings()[0].contains("busy"));
    }
}
