//! `ftvm top`: what runs, and what it uses, again and again: of this host's named runs, or of a cluster.

use super::cluster::{self, Where};
use super::state::{Run, SCHEMA};
use super::{options, say};
use crate::cluster::load::{self, Between};
use crate::cluster::store::{Op, Store};
use crate::cluster::unix_time;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Options of `top`.
#[derive(clap::Args)]
pub struct TopArgs {
    /// Nodes and apps of a cluster, in place of this host's named runs
    #[arg(long)]
    cluster: bool,
    /// Time between two looks
    #[arg(short, long, value_name = "TIME", value_parser = options::interval, default_value = "2s")]
    delay: Duration,
    /// End after so many looks [default: go on until interrupted]
    #[arg(short, value_name = "N")]
    n: Option<u64>,
    /// Print each look as a JSON object, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

/// The lease of a watcher ends so many seconds after it.
const TTL: u64 = 10;
/// How long a supervisor may take to say how its image stands.
const PATIENCE: Duration = Duration::from_secs(1);

/// `top`. Returns 0 or 1.
pub fn top(args: &TopArgs) -> i32 {
    let done = match args.cluster {
        true => of_cluster(args),
        false => again(args, &mut |seen| Ok(of_host(seen))),
    };
    match done {
        Ok(()) => 0,
        Err(why) => {
            say(&why);
            1
        }
    }
}

/// What was measured last, by node; `""`: this host.
type Seen = BTreeMap<String, Value>;

/// Looks, shows, sleeps.
fn again(args: &TopArgs, look: &mut dyn FnMut(&mut Seen) -> Result<Value, String>) -> Result<(), String> {
    let mut seen = Seen::new();
    // Rates are those between two looks.
    look(&mut seen)?;
    let mut left = args.n.unwrap_or(u64::MAX);
    let screen = std::io::stdout().is_terminal() && !args.json;
    while left > 0 {
        left -= 1;
        std::thread::sleep(args.delay);
        let v = look(&mut seen)?;
        let text = match args.json {
            true => format!("{v}\n"),
            false if screen => format!("\x1b[H\x1b[J{}", table(&v)),
            false => table(&v) + "\n",
        };
        let mut out = std::io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// What the app has used since the last look, where it runs: beside what is known of it.
fn with_load(row: &mut Value, name: &str, then: Option<&Value>, now: Option<&Value>) {
    let between = then.zip(now).and_then(|(t, n)| Between::new(t, n));
    let rate = |field: &str| between.as_ref().and_then(|b| b.rate(name, field));
    row["cpu_percent"] = json!(between.as_ref().and_then(|b| b.app_cpu(name)));
    row["outputs_per_s"] = json!(rate("outputs"));
    row["records_per_s"] = json!(rate("records"));
    row["log_bytes_per_s"] = json!(rate("log_bytes"));
    for field in ["rss", "lag_records", "held_bytes", "wait_us_max", "pause_us_max"] {
        row[field] = now.map_or(Value::Null, |n| n["apps"][name][field].clone());
    }
}

fn host(row: &mut Value, then: Option<&Value>, now: Option<&Value>) {
    let between = then.zip(now).and_then(|(t, n)| Between::new(t, n));
    row["cpu_percent"] = json!(between.and_then(|b| b.cpu()));
    let used = now.and_then(|n| Some(n["memory"].as_u64()? - n["available"].as_u64()?));
    row["memory_used"] = json!(used);
    row["memory_total"] = now.map_or(Value::Null, |n| n["memory"].clone());
}

fn of_host(seen: &mut Seen) -> Value {
    let mut figures = BTreeMap::new();
    for run in Run::all().unwrap_or_default() {
        let Some(pid) = run.pid() else { continue };
        let asked = crate::orders::send_within(&run.dir, &json!({"verb": "status"}), Some(PATIENCE));
        let mut s = asked.unwrap_or(json!({}));
        s["pid"] = json!(pid);
        figures.insert(run.name, s);
    }
    let now = load::measure(&figures);
    let then = seen.insert(String::new(), now.clone());
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut node = json!({"name": name.trim(), "state": "-"});
    host(&mut node, then.as_ref(), Some(&now));
    let apps: Vec<Value> = figures
        .iter()
        .map(|(name, s)| {
            let state = match (s["role"].as_str(), s["protected"] == true) {
                (Some("primary"), true) => "PROTECTED",
                (Some("primary"), false) => "UNPROTECTED",
                (Some("standby"), _) => "STANDBY",
                _ => "running",
            };
            let mut row = json!({"name": name, "state": state, "primary": null, "backup": null});
            with_load(&mut row, name, then.as_ref(), Some(&now));
            row
        })
        .collect();
    json!({"version": SCHEMA, "time": unix_time(), "nodes": [node], "apps": apps})
}

/// Nodes tell what they use for as long as this lives.
struct Watch {
    store: Store,
    lease: Option<u64>,
    renewed: Instant,
}

impl Watch {
    /// Says again that somebody watches.
    fn keep(&mut self) {
        let half = Duration::from_secs(TTL / 2);
        match self.lease {
            Some(_) if self.renewed.elapsed() < half => return,
            // A member that does not answer is asked again at the next look.
            Some(lease) if self.store.renew(lease) != Some(false) => {}
            _ => {
                self.lease = self.store.grant(TTL);
                let put = |lease| Op::Put(load::WATCH.to_string(), json!({"version": 1}), Some(lease));
                if let Some(lease) = self.lease {
                    let _ = self.store.write(&[put(lease)]);
                }
            }
        }
        self.renewed = Instant::now();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(lease) = self.lease {
            self.store.revoke(lease);
        }
    }
}

fn of_cluster(args: &TopArgs) -> Result<(), String> {
    let mut store = cluster::open(&args.at)?;
    let mut watch = Watch {
        store: cluster::open(&args.at)?,
        lease: None,
        renewed: Instant::now(),
    };
    again(args, &mut |seen| {
        watch.keep();
        let (keys, view) = cluster::look_at(&mut store)?;
        let (mut nodes, mut apps) = cluster::describe(&view);
        let mut last = Seen::new();
        let loads: BTreeMap<&str, &Value> = view
            .nodes
            .keys()
            .filter_map(|n| Some((n.as_str(), &keys.get(&load::key(n))?.value)))
            .collect();
        for (name, now) in &loads {
            // A node that has told nothing new since is shown by what it told before.
            let told = |old: &&Value| old["now"]["at_ms"] == now["at_ms"];
            let entry = match seen.get(*name) {
                Some(old) if told(&old) => old.clone(),
                old => json!({"then": old.map(|o| o["now"].clone()), "now": now}),
            };
            last.insert(name.to_string(), entry);
        }
        *seen = last;
        let pair = |node: &Value| {
            let entry = node.as_str().and_then(|n| seen.get(n));
            (entry.map(|e| &e["then"]), entry.map(|e| &e["now"]))
        };
        for n in &mut nodes {
            let (then, now) = pair(&n["name"].clone());
            host(n, then, now);
        }
        for a in &mut apps {
            let (then, now) = pair(&a["primary"].clone());
            let name = a["name"].as_str().unwrap_or_default().to_string();
            with_load(a, &name, then, now);
        }
        Ok(json!({"version": SCHEMA, "time": unix_time(), "nodes": nodes, "apps": apps}))
    })
}

/// Bytes as people read them.
fn bytes(v: &Value) -> String {
    let Some(n) = v.as_f64() else {
        return "-".to_string();
    };
    let units = ["B", "K", "M", "G", "T"];
    let (mut n, mut unit) = (n, 0);
    while n >= 1024.0 && unit + 1 < units.len() {
        (n, unit) = (n / 1024.0, unit + 1);
    }
    match unit {
        0 => format!("{n:.0}"),
        _ => format!("{n:.1}{}", units[unit]),
    }
}

fn number(v: &Value) -> String {
    v.as_f64().map_or("-".to_string(), |n| format!("{n:.0}"))
}

fn word(v: &Value) -> String {
    v.as_str().unwrap_or("-").to_string()
}

/// The tables of one look.
fn table(v: &Value) -> String {
    use std::fmt::Write;
    let list = |key: &str| v[key].as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    let head = ("NODE", "STATE", "CPU%", "MEMORY", "OF", "PRIMARIES", "STANDBYS");
    let _ = writeln!(
        out,
        "{:<16} {:<9} {:>5} {:>8} {:>8} {:>9} {:>9}",
        head.0, head.1, head.2, head.3, head.4, head.5, head.6
    );
    for n in list("nodes") {
        let _ = writeln!(
            out,
            "{:<16} {:<9} {:>5} {:>8} {:>8} {:>9} {:>9}",
            word(&n["name"]),
            word(&n["state"]),
            number(&n["cpu_percent"]),
            bytes(&n["memory_used"]),
            bytes(&n["memory_total"]),
            number(&n["primaries"]),
            number(&n["standbys"])
        );
    }
    let _ = writeln!(
        out,
        "\n{:<16} {:<12} {:<12} {:<12} {:>5} {:>8} {:>8} {:>8} {:>8} {:>6} {:>9}",
        "APP", "STATE", "PRIMARY", "BACKUP", "CPU%", "MEMORY", "OUT/S", "REC/S", "LOG/S", "LAG", "WAIT-MAX"
    );
    for a in list("apps") {
        let wait = match a["wait_us_max"].as_u64() {
            Some(us) => format!("{} us", us),
            None => "-".to_string(),
        };
        let _ = writeln!(
            out,
            "{:<16} {:<12} {:<12} {:<12} {:>5} {:>8} {:>8} {:>8} {:>8} {:>6} {:>9}",
            word(&a["name"]),
            word(&a["state"]),
            word(&a["primary"]),
            word(&a["backup"]),
            number(&a["cpu_percent"]),
            bytes(&a["rss"]),
            number(&a["outputs_per_s"]),
            number(&a["records_per_s"]),
            bytes(&a["log_bytes_per_s"]),
            number(&a["lag_records"]),
            wait
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_becomes_tables() {
        let (then, now) = (
            json!({"at_ms": 0, "cpu_busy": 0, "cpu_all": 0, "apps": {"kv": {"role": "primary", "outputs": 10, "cpu_ms": 0}}}),
            json!({"at_ms": 2000, "cpu_busy": 50, "cpu_all": 200, "memory": 4u64 << 30, "available": 1u64 << 30,
                "apps": {"kv": {"role": "primary", "outputs": 110, "cpu_ms": 500, "rss": 3 << 20, "wait_us_max": 90}}}),
        );
        let mut node = json!({"name": "n1", "state": "ready", "primaries": 1, "standbys": 0});
        host(&mut node, Some(&then), Some(&now));
        let mut app = json!({"name": "kv", "state": "PROTECTED", "primary": "n1", "backup": "n2"});
        with_load(&mut app, "kv", Some(&then), Some(&now));
        let mut other = json!({"name": "x", "state": "WAITING"});
        with_load(&mut other, "x", None, None);
        let text = table(&json!({"nodes": [node], "apps": [app, other]}));
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["n1", "ready", "25", "3.0G", "4.0G", "1", "0"]);
        assert_eq!(
            rows[4],
            [
                "kv",
                "PROTECTED",
                "n1",
                "n2",
                "25",
                "3.0M",
                "50",
                "-",
                "-",
                "-",
                "90",
                "us"
            ]
        );
        assert_eq!(
            rows[5],
            ["x", "WAITING", "-", "-", "-", "-", "-", "-", "-", "-", "-"]
        );
    }
}
