//! Prometheus' text format: what a node has, and what the cluster looks like from it.

use super::view::{Known, View};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The page, for the thread that serves it.
pub type Page = Arc<Mutex<String>>;

/// No request is waited for longer, and its head is not longer.
const PATIENCE: Duration = Duration::from_secs(5);
const HEAD: usize = 8 << 10;

/// Serves the page at `GET /metrics`, in a thread, one request after the other.
pub fn serve(listener: TcpListener, page: Page) {
    std::thread::spawn(move || {
        for conn in listener.incoming().flatten() {
            // A scraper that has gone is no matter.
            let _ = answer(&conn, &page);
        }
    });
}

fn answer(conn: &TcpStream, page: &Page) -> std::io::Result<()> {
    conn.set_read_timeout(Some(PATIENCE))?;
    conn.set_write_timeout(Some(PATIENCE))?;
    let mut head = std::io::Read::take(BufReader::new(conn), HEAD as u64);
    let mut first = String::new();
    head.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
    }
    let (status, body) = match first.split(' ').take(2).collect::<Vec<_>>()[..] {
        ["GET", "/metrics"] => ("200 OK", page.lock().unwrap_or_else(|e| e.into_inner()).clone()),
        _ => ("404 Not Found", "GET /metrics\n".to_string()),
    };
    let mut conn = conn;
    write!(
        conn,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Figures of a run: those of `ftvm status --json`, name in the page, type, help.
const FIGURES: [(&str, &str, &str, &str); 22] = [
    (
        "protected",
        "ftvm_app_protected",
        "gauge",
        "1 if a backup holds everything that has left",
    ),
    (
        "ready",
        "ftvm_app_standby_ready",
        "gauge",
        "1 if the standby here could take over",
    ),
    (
        "epoch",
        "ftvm_app_epoch",
        "gauge",
        "Epoch of the image's register",
    ),
    (
        "records",
        "ftvm_app_records_total",
        "counter",
        "Records written, or held by a standby",
    ),
    (
        "lag_records",
        "ftvm_app_lag_records",
        "gauge",
        "Records that the backup has not confirmed",
    ),
    (
        "log_bytes",
        "ftvm_app_log_bytes_total",
        "counter",
        "Bytes of log frames",
    ),
    (
        "lag_bytes",
        "ftvm_app_lag_bytes",
        "gauge",
        "Bytes of log frames that the backup has not confirmed",
    ),
    (
        "lag_ms",
        "ftvm_app_lag_milliseconds",
        "gauge",
        "How long the oldest frame that the backup has not confirmed has waited",
    ),
    (
        "choices",
        "ftvm_app_choices_total",
        "counter",
        "Clock reads and answers of the host that history predicted",
    ),
    (
        "choices_not_predicted",
        "ftvm_app_choices_not_predicted_total",
        "counter",
        "Those that were not as predicted, and went to the log",
    ),
    (
        "cuts",
        "ftvm_app_cuts_total",
        "counter",
        "Slices that were preempted while they computed",
    ),
    (
        "snapshot_age_ms",
        "ftvm_app_snapshot_age_milliseconds",
        "gauge",
        "Time since a snapshot was last put in place at the backup",
    ),
    (
        "compared_pages",
        "ftvm_app_compared_pages_total",
        "counter",
        "Pages of shared memory that were compared for snapshots, as they might have changed",
    ),
    (
        "outputs",
        "ftvm_app_outputs_total",
        "counter",
        "Outputs that have left",
    ),
    (
        "outputs_without_wait",
        "ftvm_app_outputs_without_wait_total",
        "counter",
        "Outputs that did not wait for the backup",
    ),
    (
        "wait_us_max",
        "ftvm_app_output_wait_max_microseconds",
        "gauge",
        "Longest wait of an output",
    ),
    (
        "held_bytes",
        "ftvm_app_held_bytes",
        "gauge",
        "Bytes of outputs that wait",
    ),
    (
        "snapshots",
        "ftvm_app_snapshots_total",
        "counter",
        "Snapshots sent to the backup",
    ),
    (
        "pause_us_max",
        "ftvm_app_pause_max_microseconds",
        "gauge",
        "Longest time that the image stood still for a snapshot",
    ),
    (
        "dropped",
        "ftvm_app_dropped_total",
        "counter",
        "Outputs that were dropped for want of room",
    ),
    (
        "takeover_us",
        "ftvm_app_takeover_microseconds",
        "gauge",
        "Time of the takeover by which the image came here, 0 if it was started here",
    ),
    (
        "sends_root",
        "ftvm_app_sends_root",
        "gauge",
        "1 while the image's root is on its way to where the backup is to be",
    ),
];

fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The page of a node. `figures`: what its runs say, by app. `view`: none if etcd does not answer.
pub fn page(node: &str, view: Option<&View>, figures: &BTreeMap<String, Value>) -> String {
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, rows: Vec<(String, u64)>| {
        if rows.is_empty() {
            return;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(out, "{name}{{{labels}}} {value}");
        }
    };
    let node = format!("node=\"{}\"", label(node));
    let with = |more: String| format!("{node},{more}");
    metric(
        "ftvm_node_etcd_up",
        "gauge",
        "1 if etcd answers this node",
        vec![(node.clone(), u64::from(view.is_some()))],
    );
    let count = |role: &str| figures.values().filter(|v| v["role"] == role).count() as u64;
    let roles = ["primary", "standby"].map(|r| (with(format!("role=\"{r}\"")), count(r)));
    metric("ftvm_node_images", "gauge", "Images on this node", roles.to_vec());
    if let Some(v) = view {
        let rows = |apps: fn(&View) -> Vec<(String, u64)>| -> Vec<(String, u64)> {
            apps(v).into_iter().map(|(l, n)| (with(l), n)).collect()
        };
        metric(
            "ftvm_cluster_nodes",
            "gauge",
            "Nodes that hold their lease",
            vec![(node.clone(), v.nodes.len() as u64)],
        );
        metric(
            "ftvm_cluster_cordoned",
            "gauge",
            "Nodes that are being drained",
            vec![(node.clone(), v.cordoned.len() as u64)],
        );
        let states = |v: &View| -> Vec<(String, u64)> {
            let state = |(name, a): (&String, &Known)| {
                let word = v.state(a);
                let word = word.split(' ').next().unwrap_or_default().to_ascii_lowercase();
                (format!("app=\"{}\",state=\"{word}\"", label(name)), 1)
            };
            v.apps.iter().map(state).collect()
        };
        metric(
            "ftvm_cluster_app_state",
            "gauge",
            "1 for the state in which the cluster has the app",
            rows(states),
        );
    }
    for (field, name, kind, help) in FIGURES {
        let row = |(app, v): (&String, &Value)| {
            let value = v[field].as_u64().or_else(|| v[field].as_bool().map(u64::from))?;
            let role = v["role"].as_str().unwrap_or_default();
            Some((with(format!("app=\"{}\",role=\"{role}\"", label(app))), value))
        };
        metric(name, kind, help, figures.iter().filter_map(row).collect());
    }
    out.push_str(&waits(&node, figures));
    out
}

/// Waits of outputs as a histogram, in seconds. Step n of `waits_us_log2` counts those below 2^n us, the last all that are longer.
fn waits(node: &str, figures: &BTreeMap<String, Value>) -> String {
    let name = "ftvm_app_output_wait_seconds";
    let mut out = String::new();
    for (app, v) in figures {
        let Some(steps) = v["waits_us_log2"].as_array() else {
            continue;
        };
        if out.is_empty() {
            let _ = writeln!(
                out,
                "# HELP {name} How long outputs waited for the backup.\n# TYPE {name} histogram"
            );
        }
        let labels = format!("{node},app=\"{}\"", label(app));
        let mut sum = 0;
        for (n, step) in steps.iter().enumerate() {
            sum += step.as_u64().unwrap_or(0);
            let below = match n + 1 < steps.len() {
                true => format!("{}", (1u64 << n) as f64 / 1e6),
                false => "+Inf".to_string(),
            };
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{below}\"}} {sum}");
        }
        let seconds = v["wait_us_sum"].as_u64().unwrap_or(0) as f64 / 1e6;
        let _ = writeln!(
            out,
            "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {sum}"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::io::Read;

    #[test]
    fn a_page_is_served() {
        let figures = BTreeMap::from([
            (
                "kv".to_string(),
                json!({"role": "primary", "protected": true, "epoch": 3, "waits_us_log2": [1, 0, 5, 2], "wait_us_sum": 2500}),
            ),
            (
                "a\"b".to_string(),
                json!({"role": "standby", "ready": false, "epoch": 2}),
            ),
        ]);
        let text = page("n1", Some(&View::default()), &figures);
        for line in [
            "ftvm_node_etcd_up{node=\"n1\"} 1",
            "ftvm_node_images{node=\"n1\",role=\"primary\"} 1",
            "ftvm_app_protected{node=\"n1\",app=\"kv\",role=\"primary\"} 1",
            "ftvm_app_standby_ready{node=\"n1\",app=\"a\\\"b\",role=\"standby\"} 0",
            "ftvm_app_epoch{node=\"n1\",app=\"a\\\"b\",role=\"standby\"} 2",
            "# TYPE ftvm_app_output_wait_seconds histogram",
            "ftvm_app_output_wait_seconds_bucket{node=\"n1\",app=\"kv\",le=\"0.000001\"} 1",
            "ftvm_app_output_wait_seconds_bucket{node=\"n1\",app=\"kv\",le=\"0.000004\"} 6",
            "ftvm_app_output_wait_seconds_bucket{node=\"n1\",app=\"kv\",le=\"+Inf\"} 8",
            "ftvm_app_output_wait_seconds_sum{node=\"n1\",app=\"kv\"} 0.0025",
            "ftvm_app_output_wait_seconds_count{node=\"n1\",app=\"kv\"} 8",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(page("n1", None, &figures).contains("ftvm_node_etcd_up{node=\"n1\"} 0"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its number");
        serve(listener, Arc::new(Mutex::new(text.clone())));
        for (path, says) in [("/metrics", text.as_str()), ("/", "GET /metrics\n")] {
            let mut conn = TcpStream::connect(at).expect("connected");
            write!(conn, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("asked");
            let mut answer = String::new();
            conn.read_to_string(&mut answer).expect("an answer");
            assert_eq!(answer.split_once("\r\n\r\n").map(|a| a.1), Some(says));
        }
    }
}
