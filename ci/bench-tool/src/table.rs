//! The summary on the terminal: one screen.

use crate::plan::Mode;
use crate::report::{Entry, Report, Row};
use crate::stats::Ratio;
use std::fmt::Write;

const COLUMNS: [Mode; 8] = [
    Mode::NativeAll,
    Mode::Run,
    Mode::Record,
    Mode::RecordOff,
    Mode::RunOwn,
    Mode::Protect,
    Mode::ProtectLogAll,
    Mode::ProtectSnapshot,
];

fn short(n: f64) -> String {
    match n {
        n if n >= 100_000.0 => format!("{:.0}k", n / 1e3),
        n if n >= 1000.0 => format!("{:.1}k", n / 1e3),
        n if n >= 100.0 => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

/// A measure: its name, native's value, the ratio of a mode to its base.
struct Block {
    title: &'static str,
    value: fn(&Entry) -> Option<f64>,
    ratio: fn(&Entry) -> Option<Ratio>,
}

const BLOCKS: [Block; 2] = [
    Block {
        title: "requests/s",
        value: |e| Some(e.per_second),
        ratio: |e| e.speed,
    },
    Block {
        title: "CPU us/request",
        value: |e| Some(e.cpu_us),
        ratio: |e| e.cost,
    },
];

fn block(t: &mut String, b: &Block, rows: &[Row]) {
    let measured = |m: &Mode| rows.iter().any(|r| r.get(*m).is_some());
    let columns: Vec<Mode> = COLUMNS.into_iter().filter(measured).collect();
    let _ = write!(t, "{:<17} {:>5} {:>8}", b.title, "conn", "native");
    for &m in &columns {
        let _ = write!(t, " {:>16}", m.name());
    }
    let _ = write!(t, "\n{:<17} {:>5} {:>8}", "", "", "");
    for &m in &columns {
        let _ = write!(t, " {:>16}", format!("/{}", m.base().map_or("", Mode::name)));
    }
    t.push('\n');
    for row in rows {
        let native = row
            .get(Mode::Native)
            .or(row.get(Mode::NativeOwn))
            .and_then(b.value);
        let native = native.map_or("-".to_string(), short);
        let _ = write!(t, "{:<17} {:>5} {native:>8}", row.scenario, row.connections);
        for &m in &columns {
            let text = match row.get(m) {
                None => "-".to_string(),
                Some(e) => (b.ratio)(e).map_or("one round".to_string(), |r| r.text()),
            };
            let _ = write!(t, " {text:>16}");
        }
        t.push('\n');
    }
}

/// Open loops: median, 99 and 99.9 of 100 in us, for each mode.
fn latencies(t: &mut String, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    let modes: Vec<Mode> = Mode::ALL
        .into_iter()
        .filter(|m| rows.iter().any(|r| r.get(*m).is_some()))
        .collect();
    let _ = write!(t, "{:<17} ", "open loop, us");
    for m in &modes {
        let _ = write!(t, " {:>15}", m.name());
    }
    let _ = write!(t, "\n{:<17} ", "");
    for _ in &modes {
        let _ = write!(t, " {:>15}", "p50/p99/p99.9");
    }
    t.push('\n');
    for row in rows {
        let _ = write!(t, "{:<17} ", row.scenario);
        for m in &modes {
            let us = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{v:.0}"));
            let text = row.get(*m).map_or("-".to_string(), |e| {
                format!("{}/{}/{}", us(e.p50_us), us(e.p99_us), us(e.p999_us))
            });
            let _ = write!(t, " {text:>15}");
        }
        t.push('\n');
    }
}

/// All of it.
pub fn table(report: &Report) -> String {
    let mut t = String::new();
    let rows = report.rows();
    if !rows.is_empty() {
        for b in &BLOCKS {
            block(&mut t, b, &rows);
        }
        let _ = writeln!(
            t,
            "shares of the mode named under it, medians of {} rounds; \"not resolved\": the 95 % interval is wider\n\
             than the effect. CPU of the server's side",
            report.plan.rounds
        );
    }
    latencies(&mut t, &report.open_rows());
    for line in report.curve_lines().iter().chain(&report.recording_lines()) {
        let _ = writeln!(t, "{line}");
    }
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
        assert!(
            t.contains("0.80")
                && t.contains("1.25")
                && t.contains("takeover")
                && t.contains("record redis, 16 conn"),
            "{t}"
        );
        let t = table(&sample(1.0));
        assert!(
            t.lines().nth(2).is_some_and(|l| l.contains("not resolved")),
            "{t}"
        );
    }
}
