//! `ftvm migrate`: moves a running image to another host.

use super::checkpoint::Policy;
use super::{say, state};
use crate::link::Security;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, IsTerminal};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::time::Duration;

/// Port of an agent that is named without one.
const PORT: u16 = 7000;

/// Options of `migrate`.
#[derive(clap::Args)]
pub struct MigrateArgs {
    /// Longest time that the image may stand still: it is copied in rounds until what is left fits, or until more rounds
    /// do not help, which is said
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = super::options::interval)]
    max_downtime: Duration,
    /// Keys of this node (`ftvm keygen`)
    #[arg(long, value_name = "DIR")]
    tls_dir: Option<PathBuf>,
    /// Talk to the agent without encryption: for tests on one machine only
    #[arg(long)]
    insecure: bool,
    /// Compare every page at the target with the image before it is handed over; if one differs, the image goes on here. It
    /// stands still meanwhile, and this host needs as much memory again as the image has
    #[arg(long, conflicts_with = "take_back")]
    verify: bool,
    #[command(flatten)]
    policy: Policy,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// The image stands still because its target vanished at the hand-over, and that host is dead for good: let it go on
    /// here. If it is not, two copies run
    #[arg(long, conflicts_with_all = ["tls_dir", "insecure"])]
    take_back: bool,
    /// Name of the run
    name: String,
    /// Where `ftvm agent --listen` runs; port 7000 if none is given
    #[arg(value_name = "HOST[:PORT]", required_unless_present = "take_back")]
    to: Option<String>,
}

/// The socket to the supervisor, for the handler.
static ORDERS: AtomicI32 = AtomicI32::new(-1);
/// One has come, perhaps before there was that socket.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C calls the migration off, the next ends us.
extern "C" fn interrupted(signal: i32) {
    // SAFETY: calls that a handler may make.
    unsafe {
        INTERRUPTED.store(true, SeqCst);
        libc::shutdown(ORDERS.load(SeqCst), libc::SHUT_WR);
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// `migrate`. Returns 0 when the image runs there, 1 if it goes on here.
pub fn migrate(args: &MigrateArgs) -> i32 {
    match ordered(args) {
        Ok(()) => 0,
        Err(why) => {
            say(&format!("{}: {why}", args.name));
            1
        }
    }
}

fn ordered(args: &MigrateArgs) -> Result<(), String> {
    let rules = args.policy.rules();
    if rules.hold() || !rules.named.is_empty() {
        return Err(
            "--volumes: a migration does not send what is in volumes, which would have to be done while the image stands, however long \
             that takes; it takes fail or share, for all of them. To take them along: ftvm checkpoint --volumes snapshot, and \
             ftvm restore over there"
                .to_string(),
        );
    }
    let run = state::Run::find(&args.name)?;
    if run.pid().is_none() {
        return Err("is not running".to_string());
    }
    let supervisor = |e: std::io::Error| format!("its supervisor: {e}");
    let Some(to) = args.to.as_deref().filter(|_| !args.take_back) else {
        let answer = crate::orders::send(&run.dir, &json!({"verb": "take-back"})).map_err(supervisor)?;
        return match answer["ok"] == true {
            true => Ok(()),
            false => Err(answer["why"].as_str().unwrap_or("no answer").to_string()),
        };
    };
    Security::from_options(args.tls_dir.as_deref(), args.insecure)?;
    let tls_dir = match &args.tls_dir {
        Some(d) => Some(std::path::absolute(d).map_err(|e| format!("{}: {e}", d.display()))?),
        None => None,
    };
    let order = json!({
        "verb": "migrate", "name": args.name, "to": with_port(to), "tls_dir": tls_dir, "insecure": args.insecure,
        "how": args.policy.bits(), "max_downtime_us": args.max_downtime.as_micros() as u64, "verify": args.verify,
        "command": run.info()["command"],
    });
    // Before anything is under way: from then on an interrupt calls it off.
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler makes only calls that it may.
        unsafe { libc::signal(signal, interrupted as *const () as libc::sighandler_t) };
    }
    let conn = crate::orders::begin(&run.dir, &order).map_err(supervisor)?;
    ORDERS.store(conn.as_raw_fd(), SeqCst);
    if INTERRUPTED.load(SeqCst) {
        // That the other side does not hear it is no reason not to listen to it.
        let _ = conn.shutdown(std::net::Shutdown::Write);
    }
    let mut shown = false;
    for line in BufReader::new(&conn).lines() {
        let line = line.map_err(supervisor)?;
        let v: Value = serde_json::from_str(&line).map_err(|_| format!("its supervisor says {line:?}"))?;
        if let Some(text) = v["note"].as_str() {
            say(text);
        } else if v["round"].is_u64() {
            show(&v, &mut shown);
        } else {
            return end(args, &v);
        }
    }
    Err("the image has ended".to_string())
}

/// The address with its port.
fn with_port(to: &str) -> String {
    let bare_v6 = to.matches(':').count() > 1 && !to.starts_with('[');
    match to.rsplit_once(':') {
        _ if bare_v6 => format!("[{to}]:{PORT}"),
        Some((_, port)) if port.parse::<u16>().is_ok() => to.to_string(),
        _ => format!("{to}:{PORT}"),
    }
}

/// A progress line. On a terminal, one that is not the last of its round is written over.
fn show(v: &Value, shown: &mut bool) {
    let n = |k: &str| v[k].as_u64().unwrap_or(0);
    let of = match v["of"].as_u64() {
        Some(all) => format!(" of {all}"),
        None => String::new(),
    };
    let line = format!(
        "round {}: {}{of} pages, {:.1} MB/s, {} pages/s dirtied, {:.1} s to go",
        n("round"),
        n("pages"),
        n("pages_per_s") as f64 * 4096.0 / 1e6,
        n("dirtied_per_s"),
        n("eta_ms") as f64 / 1e3
    );
    let over = std::io::stderr().is_terminal();
    let begin = if over && *shown { "\x1b[A\x1b[K" } else { "" };
    eprintln!("{begin}{line}");
    *shown = v["done"] != true;
}

fn end(args: &MigrateArgs, v: &Value) -> Result<(), String> {
    if v["ok"] != true {
        return Err(v["why"].as_str().unwrap_or("no answer").to_string());
    }
    if args.verify && v["verified"] != true {
        say(&format!(
            "{}: was not verified: its supervisor is of an older ftvm",
            args.name
        ));
    }
    let us = v["downtime_us"].as_u64().unwrap_or(0);
    if args.json {
        let mut out = v.clone();
        out["version"] = state::SCHEMA.into();
        println!("{out}");
    }
    if v["confirmed"] != true {
        let to = v["to"].as_str().unwrap_or_default();
        say(&format!(
            "{}: is {to}'s, which has not said since that it runs: ftvm ps there",
            args.name
        ));
        return Ok(());
    }
    say(&format!(
        "{}: runs at {}; it stood still for {}.{} ms",
        args.name,
        v["to"].as_str().unwrap_or_default(),
        us / 1000,
        us % 1000 / 100
    ));
    if us > args.max_downtime.as_micros() as u64 {
        say(&format!(
            "that is more than --max-downtime {} ms",
            args.max_downtime.as_millis()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn a_port_is_added_where_none_is() {
        assert_eq!(with_port("b"), "b:7000");
        assert_eq!(with_port("b:1"), "b:1");
        assert_eq!(with_port("fe80::1"), "[fe80::1]:7000");
        assert_eq!(with_port("[::1]"), "[::1]:7000");
        assert_eq!(with_port("[::1]:5"), "[::1]:5");
    }
}
