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
        match e.mode {
            Mode::Protect => format!("{:.1}", e.backup_us),
            _ => "-".to_string(),
        },
        e.mode.base().map_or("-", Mode::name).to_string(),
        ratio(e.speed),
        ratio(e.cost),
        e.errors.to_string(),
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
    match svg {
        Ok(svg) => format!("<h2>{title}</h2><p>{text}</p>{svg}"),
        Err(why) => format!("<h2>{title}</h2><p>not drawn: {}</p>", escape(&why)),
    }
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
        t += &figure(
            "Throughput",
            "Share of the base's throughput, median of the rounds' ratios. The bar is the 95 % interval; where it is \
             wider than the effect it stands alone, without a mark.",
            plots::shares(&rows),
        );
        t += &figure(
            "Latency",
            "The mark is the median latency, the bar goes up to the 99th percentile; logarithmic.",
            plots::latencies(&rows),
        );
        t += "<h2>Figures</h2><table><thead><tr><th>scenario, connections</th><th>mode</th><th>req/s</th><th>p50 us</th>\
              <th>p99 us</th><th>CPU us/req</th><th>backup's</th><th>base</th><th>throughput/base</th><th>CPU/base</th>\
              <th>errors</th></tr></thead><tbody>\n";
        for row in &rows {
            for (n, e) in row.entries.iter().enumerate() {
                t += &line(n == 0, row.scenario, row.connections, e);
            }
        }
        t += "</tbody></table>";
    }
    if let Some(text) = report.takeover_line() {
        t += &figure("Takeover", &escape(&text), plots::takeovers(report));
    }
    t += &pairs("Machine", &report.facts.machine);
    t += &pairs("Versions", &report.facts.versions);
    t + "</html>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_page_has_its_figures() {
        let p = page(&sample(0.8));
        assert_eq!(p.matches("<svg").count(), 3, "{p}");
        assert!(p.contains("0.80 (0.80 to 0.80)") && !p.contains("not drawn"));
        assert!(page(&sample(1.0)).contains("not resolved"));
    }

    #[test]
    fn text_is_escaped() {
        let mut r = sample(0.8);
        r.filter = Some("<b>".to_string());
        assert!(page(&r).contains("&lt;b&gt;"));
    }
}
