//! The summary on the terminal: one screen.

use crate::plan::Mode;
use crate::report::{Report, Row};
use std::fmt::Write;

const COLUMNS: [Mode; 5] = [
    Mode::NativeAll,
    Mode::Run,
    Mode::Record,
    Mode::RunOwn,
    Mode::Protect,
];

fn short(n: f64) -> String {
    match n {
        n if n >= 100_000.0 => format!("{:.0}k", n / 1e3),
        n if n >= 1000.0 => format!("{:.1}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// The ratio, or why there is none.
fn ratio(row: &Row, mode: Mode) -> String {
    match row.get(mode) {
        None => "-".to_string(),
        Some(e) => e.speed.map_or("one round".to_string(), |r| r.text()),
    }
}

/// All of it.
pub fn table(report: &Report) -> String {
    let mut t = String::new();
    let _ = write!(t, "{:<10} {:>4} {:>9} {:>8}", "", "", "native", "p99 us");
    for m in COLUMNS {
        let _ = write!(t, " {:>12}", m.name());
    }
    let _ = writeln!(t, " {:>17}", "CPU us/request");
    let _ = write!(
        t,
        "{:<10} {:>4} {:>9} {:>8}",
        "scenario", "conn", "req/s", "native"
    );
    for m in COLUMNS {
        let _ = write!(t, " {:>12}", format!("/{}", m.base().map_or("", Mode::name)));
    }
    let _ = writeln!(t, " {:>8} {:>8}", "native", "run");
    for row in report.rows() {
        let native = row.get(Mode::Native).or(row.get(Mode::NativeOwn));
        let run = row.get(Mode::Run).or(row.get(Mode::RunOwn));
        let number = |n: Option<f64>| n.map_or("-".to_string(), short);
        let cpu = |n: Option<f64>| n.map_or("-".to_string(), |n| format!("{n:.1}"));
        let _ = write!(
            t,
            "{:<10} {:>4} {:>9} {:>8}",
            row.scenario,
            row.connections,
            number(native.map(|e| e.per_second)),
            number(native.and_then(|e| e.p99_us)),
        );
        for m in COLUMNS {
            let _ = write!(t, " {:>12}", ratio(&row, m));
        }
        let _ = writeln!(
            t,
            " {:>8} {:>8}",
            cpu(native.map(|e| e.cpu_us)),
            cpu(run.map(|e| e.cpu_us))
        );
    }
    let _ = writeln!(
        t,
        "throughput as a share of the mode named under it, medians of {} rounds; \"not resolved\": the 95 % interval\n\
         is wider than the effect",
        report.plan.rounds
    );
    if let Some(line) = report.takeover_line() {
        let _ = writeln!(t, "{line}");
    }
    for w in report.warnings() {
        let _ = writeln!(t, "! {w}");
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn it_says_ratios_and_what_is_none() {
        let t = table(&sample(0.8));
        assert!(t.contains("0.80") && t.contains("takeover"), "{t}");
        let t = table(&sample(1.0));
        assert!(
            t.lines().nth(2).is_some_and(|l| l.contains("not resolved")),
            "{t}"
        );
    }
}
