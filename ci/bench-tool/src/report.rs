//! What was measured, and what follows from it: the JSON, and the rows of the tables.

use crate::host::Facts;
use crate::plan::{Mode, Plan, Server};
use crate::session::Cell;
use crate::stats::{Ratio, median};
use crate::takeover::Takeover;
use serde::{Deserialize, Serialize};

/// Format of the JSON; changes with its meaning.
pub const VERSION: u32 = 1;

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
    pub scenario: &'static str,
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
        Some(Entry {
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

    /// Rows that hold something.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for scenario in Server::ALL.into_iter().flat_map(Server::scenarios) {
            for &n in &self.plan.connections {
                let entries: Vec<Entry> = Mode::ALL
                    .into_iter()
                    .filter_map(|m| self.entry(scenario, n, m))
                    .collect();
                if !entries.is_empty() {
                    rows.push(Row {
                        scenario,
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
        let all: Vec<f64> = self.cells.iter().map(|c| c.others).collect();
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
            },
            cells,
            takeovers: vec![Takeover {
                first_ms: 200.0,
                gaps_ms: vec![220.0, 210.0],
                answers: 10,
                wrong: Vec::new(),
                steps: vec![5, 0, 5],
            }],
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
