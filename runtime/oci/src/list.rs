//! `state`, `list`, `ps` and `events`.

use crate::state::{Root, Saved, Status, processes};
use crate::{Why, signal};
use serde_json::{Value, json};
use std::time::Duration;

/// Options of `list`.
#[derive(clap::Args)]
pub struct ListArgs {
    /// Form of the list
    #[arg(short, long, value_name = "table|json", default_value = "table")]
    format: Form,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
}

/// Options of `ps`.
#[derive(clap::Args)]
pub struct PsArgs {
    /// Form of the list
    #[arg(short, long, value_name = "table|json", default_value = "table")]
    format: Form,
    /// The container's id
    id: String,
    /// Accepted: options of ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Options of `events`.
#[derive(clap::Args)]
pub struct EventsArgs {
    /// Once, and no more
    #[arg(long)]
    stats: bool,
    /// Time between two
    #[arg(long, value_name = "SECONDS", default_value = "5s")]
    interval: String,
    /// The container's id
    id: String,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Json,
}

fn told(root: &Root, id: &str) -> Result<Value, Why> {
    let (c, saved) = root.find(id)?;
    let status = c.status(&saved);
    let pid = if status == Status::Stopped { 0 } else { saved.pid };
    Ok(saved.json(status.word(), pid))
}

/// `state`
pub fn state(root: &Root, id: &str) -> Result<(), Why> {
    println!("{:#}", told(root, id)?);
    Ok(())
}

/// `list`
pub fn list(root: &Root, args: &ListArgs) -> Result<(), Why> {
    // One that is removed meanwhile is not there.
    let rows: Vec<Value> = root.ids().iter().filter_map(|id| told(root, id).ok()).collect();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_string();
    if args.quiet {
        for row in &rows {
            println!("{}", text(row, "id"));
        }
    } else if args.format == Form::Json {
        println!("{}", Value::from(rows));
    } else {
        println!(
            "{:<30} {:>8} {:<8} {:<30} BUNDLE",
            "ID", "PID", "STATUS", "CREATED"
        );
        for row in &rows {
            println!(
                "{:<30} {:>8} {:<8} {:<30} {}",
                text(row, "id"),
                row["pid"],
                text(row, "status"),
                text(row, "created"),
                text(row, "bundle")
            );
        }
    }
    Ok(())
}

/// `ps`
pub fn ps(root: &Root, args: &PsArgs) -> Result<(), Why> {
    let (c, saved) = root.find(&args.id)?;
    let all = match c.status(&saved) {
        Status::Stopped => Vec::new(),
        _ => processes(saved.pid),
    };
    if args.format == Form::Json {
        println!("{}", json!(all));
        return Ok(());
    }
    println!("{:>8} {:>10} COMMAND", "PID", "RSS-KIB");
    for pid in all {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = bytes.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        println!(
            "{pid:>8} {:>10} {}",
            memory(pid) / 1024,
            words.join(" ").trim_end()
        );
    }
    Ok(())
}

/// Bytes of resident memory.
fn memory(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Nanoseconds of CPU time: in the program, in the host's kernel.
fn cpu(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit(')').next().unwrap_or_default();
    let mut fields = rest
        .split_whitespace()
        .skip(11)
        .filter_map(|n| n.parse::<u64>().ok());
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let user = fields.next().unwrap_or(0) * tick;
    (user, fields.next().unwrap_or(0) * tick)
}

fn stats(saved: &Saved) -> Value {
    let all = processes(saved.pid);
    let times = all
        .iter()
        .map(|p| cpu(*p))
        .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let used: u64 = all.iter().map(|p| memory(*p)).sum();
    json!({"type": "stats", "id": saved.id, "data": {
        "cpu": {"usage": {"total": times.0 + times.1, "user": times.0, "kernel": times.1}},
        "memory": {"usage": {"usage": used}},
        "pids": {"current": all.len()},
    }})
}

/// `events`
pub fn events(root: &Root, args: &EventsArgs) -> Result<(), Why> {
    let (c, saved) = root.find(&args.id)?;
    if !matches!(c.status(&saved), Status::Running | Status::Paused) {
        signal::running(&c, &saved, Status::Running, "show events of")?;
    }
    let seconds = args
        .interval
        .trim_end_matches('s')
        .parse::<u64>()
        .ok()
        .filter(|s| *s > 0);
    let pause = seconds.ok_or_else(|| format!("--interval {}: write seconds, as in 5s", args.interval))?;
    while saved.alive() {
        println!("{}", stats(&saved));
        if args.stats {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(pause));
    }
    Ok(())
}
