//! `ftvm status`, `switchover` and `protect`.

use super::{say, state};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Options of `status`.
#[derive(clap::Args)]
pub struct StatusArgs {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Again every second, until interrupted or until the run ends
    #[arg(short, long)]
    watch: bool,
    /// Name of the run
    name: String,
}

/// Options of `switchover`.
#[derive(clap::Args)]
pub struct SwitchoverArgs {
    /// Name of the run
    name: String,
}

/// Options of `protect`.
#[derive(clap::Args)]
pub struct ProtectVerbArgs {
    /// Agent that is to keep the backup
    #[arg(long, value_name = "ADDR:PORT")]
    backup: String,
    /// In place of the backup that there is: it leaves first, and the image is UNPROTECTED until the new one is in sync
    #[arg(long)]
    replace: bool,
    /// Wait until it is in sync, at most so many seconds; 0: do not wait
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    wait: u64,
    /// Name of the run
    name: String,
}

fn ask(name: &str, order: &Value) -> Result<Value, String> {
    let run = state::Run::find(name)?;
    if run.pid().is_none() {
        return Err(format!("{name}: is not running"));
    }
    crate::orders::send(&run.dir, order).map_err(|e| format!("{name}: its supervisor: {e}"))
}

fn order(name: &str, order: &Value) -> Result<(), String> {
    let answer = ask(name, order)?;
    match answer["ok"].as_bool() {
        Some(true) => Ok(()),
        _ => Err(format!(
            "{name}: {}",
            answer["why"].as_str().unwrap_or("no answer")
        )),
    }
}

/// It is a backup of an image that runs elsewhere.
pub fn is_standby(run: &state::Run) -> bool {
    let asked = crate::orders::send_within(&run.dir, &json!({"verb": "status"}), Some(PATIENCE));
    asked.is_ok_and(|s| runs_elsewhere(&s))
}

/// By this status. One that is being taken over is here, and takes what it is sent when it is live.
fn runs_elsewhere(s: &Value) -> bool {
    s["role"] == "standby" && s["taking_over"] != true
}

/// How long a run may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(1);

fn status_of(name: &str) -> Result<Value, String> {
    ask(name, &json!({"verb": "status"}))
}

/// `status`. Returns an exit code: 0 if the image runs here, protected or not, or is kept here.
pub fn status(args: &StatusArgs) -> i32 {
    loop {
        let mut s = match status_of(&args.name) {
            Ok(s) => s,
            Err(why) => {
                say(&why);
                return 1;
            }
        };
        if args.json {
            s["version"] = json!(state::SCHEMA);
            s["name"] = json!(args.name);
            println!("{s}");
        } else {
            println!("{}", line(&args.name, &s));
            if let Some(why) = s["no_backup"].as_str().filter(|why| !why.is_empty()) {
                println!("{}: no snapshot for a backup: {why}", args.name);
            }
            if let Some(how) = s["health"]["status"].as_str() {
                println!("{}: {}", args.name, health(how, &s["health"]));
            }
        }
        if !args.watch {
            return 0;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// What the last checks said.
fn health(how: &str, h: &Value) -> String {
    let last = h["log"].as_array().and_then(|l| l.last());
    match (h["failing_streak"].as_u64(), last) {
        (Some(n @ 1..), Some(last)) => format!(
            "{how}; {n} failed in a row, the last with exit code {}: {}",
            last["exit"],
            last["output"].as_str().unwrap_or_default().trim()
        ),
        _ => how.to_string(),
    }
}

fn line(name: &str, s: &Value) -> String {
    let n = |k: &str| s[k].as_u64().unwrap_or(0);
    match s["role"].as_str() {
        Some("standby") => format!(
            "{name}: standby{}, epoch {}, {} records held",
            match (s["taking_over"] == true, s["ready"] == true) {
                (true, _) => ", taking over",
                (_, true) => ", ready to take over",
                _ => "",
            },
            n("epoch"),
            n("records")
        ),
        Some("primary") => format!(
            "{name}: primary, {}, epoch {}, RPO {}; lag {} records, {} bytes, {} ms; log {} bytes/s; {} outputs, {} % without wait, mean wait {} us, longest {} us; {} snapshots, the last {}, pause mean {} us, longest {} us",
            match s["state"].as_str() {
                Some("protected") => "PROTECTED",
                Some("hold") => "HOLD (nothing leaves until the arbiter has decided)",
                Some("handover") => "HANDOVER",
                _ => "UNPROTECTED",
            },
            n("epoch"),
            match s["protected"] == true {
                true => "0",
                false => "unlimited: nobody else has it",
            },
            n("lag_records"),
            n("lag_bytes"),
            n("lag_ms"),
            n("log_bytes_per_s"),
            n("outputs"),
            (100 * n("outputs_without_wait"))
                .checked_div(n("outputs"))
                .unwrap_or(0),
            n("wait_us_mean"),
            n("wait_us_max"),
            n("snapshots"),
            match s["snapshot_age_ms"].as_u64() {
                Some(ms) => format!("{} ms ago", ms),
                None => "never".to_string(),
            },
            n("pause_us_mean"),
            n("pause_us_max"),
        ),
        _ => format!("{name}: not protected"),
    }
}

/// `switchover`: 0 when the image has gone on at the backup, 1 if not, 6 if that is not known in time.
pub fn switchover(args: &SwitchoverArgs) -> i32 {
    if let Err(why) = order(&args.name, &json!({"verb": "switchover"})) {
        say(&why);
        return 1;
    }
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        match status_of(&args.name) {
            Err(_) => {
                say(&format!("{}: handed over", args.name));
                return 0;
            }
            Ok(s) if matches!(s["state"].as_str(), Some("protected" | "solo")) => {
                say(&format!(
                    "{}: the backup did not take over; the image goes on here",
                    args.name
                ));
                return 1;
            }
            Ok(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    say(&format!("{}: no answer; ftvm status shows more", args.name));
    6
}

/// `protect`: 0 when the backup is in sync.
pub fn protect(args: &ProtectVerbArgs) -> i32 {
    let before = status_of(&args.name).ok().and_then(|s| s["epoch"].as_u64());
    if let Err(why) = order(
        &args.name,
        &json!({"verb": "protect", "backup": args.backup, "replace": args.replace}),
    ) {
        say(&why);
        return 1;
    }
    let end = Instant::now() + Duration::from_secs(args.wait);
    // One that is replaced counts as a backup until it has left, which is a new epoch.
    let fits = |s: Value| s["protected"] == true && (!args.replace || s["epoch"].as_u64() > before);
    while Instant::now() < end {
        if status_of(&args.name).is_ok_and(fits) {
            return 0;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    match args.wait {
        0 => 0,
        _ => {
            say(&format!(
                "{}: {} is not in sync yet; ftvm status shows more",
                args.name, args.backup
            ));
            6
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_being_taken_over_is_here() {
        let waits = json!({"role": "standby", "taking_over": false, "ready": true});
        assert!(runs_elsewhere(&waits));
        assert!(line("kv", &waits).starts_with("kv: standby, ready to take over, "));
        let replays = json!({"role": "standby", "taking_over": true, "ready": true});
        assert!(!runs_elsewhere(&replays));
        assert!(line("kv", &replays).starts_with("kv: standby, taking over, "));
        assert!(!runs_elsewhere(&json!({"role": "primary"})));
        assert!(!runs_elsewhere(&Value::Null));
    }
}
