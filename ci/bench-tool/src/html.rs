//! The report as one page: no file beside it, no script.

use crate::plan::Mode;
use crate::plots;
use crate::report::{Entry, Report};
use crate::stats::Ratio;
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.45 sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#000;background:#fff}\
table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}\
th,td{border-bottom:1px solid #bbb;padding:.2em .7em;text-align:right}\
th:first-child,td:first-child{text-align:left}thead th{border-bottom:2px solid #000}\
tr.first td{border-top:1px solid #000}.warn{border:2px solid #000;padding:.5em 1em}svg{max-width:100%;height:auto}";

/// Text in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn pairs(title: &str, list: &[(String, String)]) -> String {
    let mut t = format!("<h2>{title}</h2><table><tbody>");
    for (n, v) in list {
        let _ = write!(t, "<tr><td>{}</td><td>{}</td></tr>", escape(n), escape(v));
    }
    t + "</tbody></table>"
}

/// With the interval, if there is a ratio.
fn ratio(r: Option<Ratio>) -> String {
    match r {
        None => "-".to_string(),
        Some(r) if r.resolved() => format!("{:.2} ({:.2} to {:.2})", r.median, r.low, r.high),
        Some(r) => r.text(),
    }
}

fn line(first: bool, scenario: &str, n: u32, e: &Entry) -> String {
    let us = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{v:.0}"));
    let cells = [
        e.mode.name().to_string(),
        format!("{:.0}", e.per_second),
        us(e.p50_us),
        us(e.p99_us),
        format!("{:.1}", e.cpu_us),
        format!("{:.1}", e.load_us),
        match e.mode.commit() {
            Some(_) => format!("{:.1}", e.backup_us),
            None => "-".to_string(),
        },
        e.mode.base().map_or("-", Mode::name).to_string(),
        ratio(e.speed),
        ratio(e.cost),
        e.errors.to_string(),
        format!("{:.1}", e.memory_kib / 1024.0),
    ];
    let name = if first {
        format!("{scenario}, {n}")
    } else {
        String::new()
    };
    let class = if first { " class=\"first\"" } else { "" };
    let cells: String = cells.iter().map(|c| format!("<td>{}</td>", escape(c))).collect();
    format!("<tr{class}><td>{name}</td>{cells}</tr>\n")
}

fn figure(title: &str, text: &str, svg: Result<String, String>) -> String {
    let title = if title.is_empty() {
        String::new()
    } else {
        format!("<h2>{title}</h2>")
    };
    match svg {
        Ok(svg) => format!("{title}<p>{text}</p>{svg}"),
        Err(why) => format!("{title}<p>not drawn: {}</p>", escape(&why)),
    }
}

/// Rows of one plot.
const ROWS: usize = 7;

fn open_loop(report: &Report) -> String {
    let rows = report.open_rows();
    if rows.is_empty() {
        return String::new();
    }
    let mut t = "<h2>Latency, open loop</h2><p>Requests are due at a fixed rate, the same in every mode, and each latency \
                 counts from the moment at which the request was due. Medians of the rounds.</p>\
                 <table><thead><tr><th>scenario</th><th>mode</th><th>req/s</th><th>p50 us</th><th>p99 us</th><th>p99.9 us</th>\
                 <th>CPU us/req</th></tr></thead><tbody>\n"
        .to_string();
    for row in &rows {
        for (n, e) in row.entries.iter().enumerate() {
            let us = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{v:.0}"));
            let (class, name) = match n {
                0 => (" class=\"first\"", &row.scenario[..]),
                _ => ("", ""),
            };
            let _ = writeln!(
                t,
                "<tr{class}><td>{name}</td><td>{}</td><td>{:.0}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td></tr>",
                e.mode.name(),
                e.per_second,
                us(e.p50_us),
                us(e.p99_us),
                us(e.p999_us),
                e.cpu_us
            );
        }
    }
    t += "</tbody></table>";
    for row in &rows {
        t += &figure(
            "",
            &format!("{}, {} connections", row.scenario, row.connections),
            plots::distribution(row),
        );
    }
    t
}

fn curves(report: &Report) -> String {
    let mut t = String::new();
    let memory = report.memory_rows();
    if !memory.is_empty() {
        t += "<h2>Snapshots</h2><p>A python program that holds so much memory and writes to 25,600 pages a second or fewer; \
              checkpoints while it runs, then a restore.</p><table><thead><tr><th>guest memory MiB</th><th>pause ms, \
              median</th><th>longest</th><th>checkpoint ms</th><th>file MiB</th><th>image MiB</th><th>restore to the first \
              answer ms</th></tr></thead><tbody>\n";
        for m in &memory {
            let middle = |v: &[f64]| crate::stats::median(v).unwrap_or(f64::NAN);
            let _ = writeln!(
                t,
                "<tr><td>{}</td><td>{:.2}</td><td>{:.2}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td></tr>",
                m.mib,
                middle(&m.pause_ms),
                m.pause_ms.iter().copied().fold(0.0, f64::max),
                middle(&m.took_ms),
                m.bytes as f64 / f64::from(1 << 20),
                m.memory_kib as f64 / 1024.0,
                m.restore_ms
            );
        }
        t += "</tbody></table>";
        match plots::memory(report) {
            Ok(all) => t.extend(all),
            Err(why) => t += &format!("<p>not drawn: {}</p>", escape(&why)),
        }
    }
    let travel = report.travel_lines();
    if !travel.is_empty() {
        t += "<h2>Servers that travel</h2><p>redis under snapshots while 25,600 pages a second are written to, a node server that is \
              cloned warm, redis that moves under load.</p><ul>\n";
        for line in &travel {
            let _ = writeln!(t, "<li>{}</li>", escape(line));
        }
        t += "</ul>";
    }
    let images = report.image_lines();
    if !images.is_empty() {
        t += "<h2>Images</h2><p>From the command to the first answer of a small HTTP server; packed and unpacked layers.</p><ul>\n";
        for line in &images {
            let _ = writeln!(t, "<li>{}</li>", escape(line));
        }
        t += "</ul>";
    }
    let recording = report.recording_lines();
    if !recording.is_empty() {
        t += "<h2>Recording</h2><p>CPU time a request of run over that of record, both asked in turns, with its 95 % interval; what the \
              log holds for each request, start-up taken off; its replay.</p><pre>\n";
        for line in &recording {
            let _ = writeln!(t, "{}", escape(line));
        }
        t += "</pre>";
    }
    let commit = report.commit_rows();
    if !commit.is_empty() {
        t += "<h2>Distance of the backup</h2><p>A protected memcached whose way to the backup is held up by a relay, which is \
              there without a delay too.</p><table><thead><tr><th>connections</th><th>added ms</th><th>req/s</th><th>p50 us</th>\
              <th>p99 us</th></tr></thead><tbody>\n";
        for c in &commit {
            let _ = writeln!(
                t,
                "<tr><td>{}</td><td>{:.1}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0}</td></tr>",
                c.connections,
                f64::from(c.round_trip_us) / 1e3,
                c.per_second,
                c.p50_us,
                c.p99_us
            );
        }
        t += "</tbody></table>";
        match plots::commit(report) {
            Ok(svg) => t += &svg,
            Err(why) => t += &format!("<p>not drawn: {}</p>", escape(&why)),
        }
    }
    t
}

/// The page.
pub fn page(report: &Report) -> String {
    let rows = report.rows();
    let mut t = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>ftvm: benchmark</title><style>{STYLE}</style>\n\
         <h1>ftvm: benchmark</h1><p>{} rounds, {} ms measured after {} ms that were thrown away, {:.0} s in all{}. \
         docs/benchmarks.md says how to read this.</p>",
        report.plan.rounds,
        report.plan.measure_ms,
        report.plan.warm_ms,
        report.seconds,
        report
            .filter
            .as_ref()
            .map_or(String::new(), |f| format!(", only {}", escape(f))),
    );
    let warnings = report.warnings();
    if !warnings.is_empty() {
        t += "<div class=\"warn\">";
        for w in warnings {
            let _ = write!(t, "<p>{}</p>", escape(&w));
        }
        t += "</div>";
    }
    if !rows.is_empty() {
        for (n, part) in rows.chunks(ROWS).enumerate() {
            let (title, text) = match n {
                0 => (
                    "Throughput",
                    "Share of the base's throughput, median of the rounds' ratios. The bar is the 95 % interval; where it \
                     is wider than the effect it stands alone, without a mark.",
                ),
                _ => ("", ""),
            };
            t += &figure(title, text, plots::shares(part));
        }
        let timed: Vec<_> = rows
            .iter()
            .filter(|r| r.entries.iter().any(|e| e.p99_us.is_some()))
            .cloned()
            .collect();
        for (n, part) in timed.chunks(ROWS).enumerate() {
            let (title, text) = match n {
                0 => (
                    "Latency, closed loop",
                    "The mark is the median latency, the bar goes up to the 99th percentile; logarithmic.",
                ),
                _ => ("", ""),
            };
            t += &figure(title, text, plots::latencies(part));
        }
        t += "<h2>Figures</h2><table><thead><tr><th>scenario, connections</th><th>mode</th><th>req/s</th><th>p50 us</th>\
              <th>p99 us</th><th>CPU us/req</th><th>load's</th><th>backup's</th><th>base</th><th>throughput/base</th><th>CPU/base</th>\
              <th>errors</th><th>MiB</th></tr></thead><tbody>\n";
        for row in &rows {
            for (n, e) in row.entries.iter().enumerate() {
                t += &line(n == 0, &row.scenario, row.connections, e);
            }
        }
        t += "</tbody></table>";
    }
    t += &open_loop(report);
    t += &curves(report);
    if let Some(text) = report.takeover_line() {
        t += &figure("Takeover", &escape(&text), plots::takeovers(report));
    }
    t += &pairs("Machine", &report.facts.machine);
    t += &pairs("Versions", &report.facts.versions);
    t += &pairs("Other systems", &report.facts.peers);
    t + "</html>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_page_has_its_figures() {
        let p = page(&sample(0.8));
        // Throughput, latency, two of snapshots, one of takeovers; one delay is no curve.
        assert_eq!(p.matches("<svg").count(), 5, "{p}");
        assert!(p.contains("0.80 (0.80 to 0.80)") && p.matches("not drawn").count() == 1);
        assert!(page(&sample(1.0)).contains("not resolved"));
    }

    #[test]
    fn text_is_escaped() {
        let mut r = sample(0.8);
        r.filter = Some("<b>".to_string());
        assert!(page(&r).contains("&lt;b&gt;"));
    }
}
