//! `ftvm ps`, `logs`, `stop`, `kill` and `rm`: named and detached runs.

use super::options::reason;
use super::say;
use super::state::{Run, SCHEMA};
use crate::supervisor;
use serde_json::json;
use std::io::{Read, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Options of `ps`.
#[derive(clap::Args)]
pub struct PsArgs {
    /// Also runs that have ended
    #[arg(short, long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Nodes and apps of a cluster instead
    #[arg(long, conflicts_with = "all")]
    cluster: bool,
    #[command(flatten)]
    at: super::cluster::Where,
}

/// Options of `logs`.
#[derive(clap::Args)]
pub struct LogsArgs {
    /// Go on until the run ends
    #[arg(short, long)]
    follow: bool,
    /// Name of the run
    name: String,
}

/// Options of `start`.
#[derive(clap::Args)]
pub struct StartArgs {
    /// Stay in the foreground, with the caller's streams
    #[arg(short, long)]
    attach: bool,
    /// Name of the run
    name: String,
}

/// `start`: the same arguments in the same directory, on what the run had written. Does not return when it succeeds.
pub fn start(args: &StartArgs) -> i32 {
    use std::os::unix::process::CommandExt;
    done(Run::find(&args.name).and_then(|run| {
        if run.pid().is_some() {
            return Err(format!("{} is running", run.name));
        }
        let (dir, own) = run.args()?;
        let exe = std::env::current_exe().map_err(|e| format!("/proc/self/exe: {}", reason(&e)))?;
        let e = std::process::Command::new(exe)
            .args(own)
            .env(
                super::state::AGAIN,
                if args.attach { "attached" } else { "detached" },
            )
            .current_dir(&dir)
            .exec();
        Err(format!("{}: {}: {}", run.name, dir.display(), reason(&e)))
    }))
}

/// Options of `stop`.
#[derive(clap::Args)]
pub struct StopArgs {
    /// Seconds between SIGTERM and SIGKILL
    #[arg(short, long, default_value_t = 10, value_name = "SECONDS")]
    time: u64,
    /// Names of the runs
    #[arg(required = true)]
    names: Vec<String>,
}

/// Options of `kill`.
#[derive(clap::Args)]
pub struct KillArgs {
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Names of the runs
    #[arg(required = true)]
    names: Vec<String>,
}

/// Options of `rm`.
#[derive(clap::Args)]
pub struct RmArgs {
    /// Kill it first if it runs
    #[arg(short, long)]
    force: bool,
    /// Names of the runs
    #[arg(required = true)]
    names: Vec<String>,
}

/// One line says why; exit code 1.
fn done(result: Result<(), String>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(why) => {
            say(&why);
            1
        }
    }
}

/// Does it for every name; all are tried.
fn each(names: &[String], mut f: impl FnMut(&Run) -> Result<(), String>) -> i32 {
    let codes = names.iter().map(|n| done(Run::find(n).and_then(|r| f(&r))));
    codes.max().unwrap_or(0)
}

/// `ps`
pub fn ps(args: &PsArgs) -> i32 {
    done(match args.cluster {
        true => super::cluster::list(&args.at, args.json),
        false => list(args),
    })
}

fn list(args: &PsArgs) -> Result<(), String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let mut rows = Vec::new();
    for run in Run::all()? {
        let (pid, info) = (run.pid(), run.info());
        if pid.is_none() && !args.all {
            continue;
        }
        let health = match pid {
            Some(_) => crate::health::read(&run.dir),
            None => serde_json::Value::Null,
        };
        let state = match (pid, run.status()) {
            (Some(_), _) => match health["status"].as_str() {
                Some(how) => format!("running ({how})"),
                None => "running".to_string(),
            },
            (None, _) if run.moved().is_some() => "moved".to_string(),
            (None, Some(code)) => format!("exited ({code})"),
            (None, None) => "lost".to_string(),
        };
        rows.push(json!({
            "name": run.name, "pid": pid, "state": state.split(' ').next(), "exit": run.status(),
            "status": state, "moved_to": run.moved(), "started": info["started"], "command": info["command"],
            "health": health["status"],
        }));
    }
    if args.json {
        println!("{}", json!({"version": SCHEMA, "runs": rows}));
        return Ok(());
    }
    println!(
        "{:<20} {:>8} {:<19} {:>8}  COMMAND",
        "NAME", "PID", "STATUS", "AGE"
    );
    for r in rows {
        let words: Vec<&str> = r["command"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|w| w.as_str())
            .collect();
        let pid = r["pid"].as_i64().map_or("-".into(), |p| p.to_string());
        let age = now.saturating_sub(r["started"].as_u64().unwrap_or(now));
        let text = |k: &str| r[k].as_str().unwrap_or("").to_string();
        println!(
            "{:<20} {pid:>8} {:<19} {:>8}  {}",
            text("name"),
            text("status"),
            ago(age),
            words.join(" ")
        );
    }
    Ok(())
}

/// A time in seconds, for a column.
pub fn ago(s: u64) -> String {
    match s {
        0..120 => format!("{s}s"),
        120..7200 => format!("{}m", s / 60),
        7200..172_800 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86_400),
    }
}

/// `logs`
pub fn logs(args: &LogsArgs) -> i32 {
    done(Run::find(&args.name).and_then(|r| show_log(&r, args.follow)))
}

fn show_log(run: &Run, follow: bool) -> Result<(), String> {
    let bad = |e: std::io::Error| {
        format!(
            "{}: log: {} (only runs started with -d have one)",
            run.name,
            reason(&e)
        )
    };
    let mut file = std::fs::File::open(run.log()).map_err(bad)?;
    let mut buf = vec![0; 64 << 10];
    let mut out = std::io::stdout();
    loop {
        // Asked before the read: what came before the end is still shown.
        let over = !follow || run.pid().is_none();
        loop {
            let n = file.read(&mut buf).map_err(bad)?;
            if n == 0 {
                break;
            }
            if out.write_all(&buf[..n]).and_then(|()| out.flush()).is_err() {
                // The reader has gone.
                return Ok(());
            }
        }
        if over {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// `stop`
pub fn stop(args: &StopArgs) -> i32 {
    each(&args.names, |run| {
        if run.signal(libc::SIGTERM)? && !run.wait_end(Duration::from_secs(args.time)) {
            say(&format!(
                "{}: still running {} s after SIGTERM: killed",
                run.name, args.time
            ));
            end(run)?;
        }
        println!("{}", run.name);
        Ok(())
    })
}

/// How long the host may take to tear down an image that was killed.
const KILLED_WITHIN: Duration = Duration::from_secs(60);

fn end(run: &Run) -> Result<(), String> {
    run.signal(libc::SIGKILL)?;
    if !run.wait_end(KILLED_WITHIN) {
        return Err(format!(
            "{}: did not end within {} s of SIGKILL; its host process hangs in the host's kernel",
            run.name,
            KILLED_WITHIN.as_secs()
        ));
    }
    // Without a supervisor nobody wrote the status.
    if run.status().is_none() {
        let _ = std::fs::write(run.kept.join("status"), format!("{}\n", 128 + libc::SIGKILL));
    }
    Ok(())
}

/// `kill`
pub fn kill(args: &KillArgs) -> i32 {
    let Some(signo) = signal_number(&args.signal) else {
        say(&format!(
            "{} is not a signal: write a name as TERM or a number as 15",
            args.signal
        ));
        return 2;
    };
    each(&args.names, |run| {
        let sent = match signo {
            libc::SIGKILL if run.pid().is_some() => end(run).map(|()| true),
            // Most would end its process, which is not the program.
            s if s != libc::SIGTERM && super::status::is_standby(run) => Err(format!(
                "{}: is a standby: its program runs at the primary, and takes signals there; TERM and KILL end the standby",
                run.name
            )),
            s if supervisor::PASSED.contains(&s) => run.signal(s),
            libc::SIGKILL => Ok(false),
            s => Err(format!(
                "signal {s} is not passed to an image; one of HUP INT QUIT TERM USR1 USR2 WINCH CONT TSTP ALRM URG IO KILL"
            )),
        };
        match sent? {
            true => Ok(()),
            false => Err(format!("{} is not running", run.name)),
        }
    })
}

/// `rm`
pub fn rm(args: &RmArgs) -> i32 {
    each(&args.names, |run| {
        if run.pid().is_some() {
            if !args.force {
                return Err(format!(
                    "{} is running; ftvm stop {} first, or rm -f",
                    run.name, run.name
                ));
            }
            end(run)?;
        }
        run.remove()?;
        println!("{}", run.name);
        Ok(())
    })
}

/// `TERM`, `SIGTERM` or `15`.
fn signal_number(text: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 13] = [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("KILL", libc::SIGKILL),
        ("TERM", libc::SIGTERM),
        ("USR1", libc::SIGUSR1),
        ("USR2", libc::SIGUSR2),
        ("WINCH", libc::SIGWINCH),
        ("CONT", libc::SIGCONT),
        ("TSTP", libc::SIGTSTP),
        ("ALRM", libc::SIGALRM),
        ("URG", libc::SIGURG),
        ("IO", libc::SIGIO),
    ];
    if let Ok(n) = text.parse() {
        return (1..=64).contains(&n).then_some(n);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.iter().find(|(n, _)| *n == name).map(|(_, s)| *s)
}
