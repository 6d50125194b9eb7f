//! `ftvm hunt`: a command under `record --chaos` with one seed after another, until it fails.

use super::record::made_up_seed;
use super::say;
use crate::run::EXIT_FAILED;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Options of `hunt`.
#[derive(clap::Args)]
pub struct HuntArgs {
    /// Most runs
    #[arg(short = 'n', long, value_name = "N", default_value_t = 500)]
    runs: u64,
    /// Seed of the first run; each later one has the next number [default: made up]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Directory for the log of the run that fails; must not be there yet [default: ./hunt.SEED]
    #[arg(short, long, value_name = "LOG")]
    output: Option<PathBuf>,
    /// A run that takes longer has failed: it is killed, its log is good up to there [default: no limit]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// How a run ended.
enum End {
    Status(ExitStatus),
    TimedOut,
}

/// 0: no run failed; 1: one did; 125: ftvm itself did.
pub fn hunt(args: &HuntArgs) -> i32 {
    let first = args.seed.unwrap_or_else(made_up_seed);
    let tmp = std::env::temp_dir().join(format!("ftvm-hunt-{}", std::process::id()));
    let code = runs(args, first, &tmp).unwrap_or_else(|e| {
        say(&format!("hunt: {e}"));
        EXIT_FAILED
    });
    let _ = std::fs::remove_dir_all(&tmp);
    code
}

fn runs(args: &HuntArgs, first: u64, tmp: &Path) -> io::Result<i32> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(tmp)?;
    let (log, out) = (tmp.join("log"), tmp.join("out"));
    for i in 0..args.runs {
        let seed = first.wrapping_add(i);
        let _ = std::fs::remove_dir_all(&log);
        let end = one(args, seed, &log, &out)?;
        let why = match end {
            End::Status(s) if s.success() => continue,
            End::Status(s) if s.code() == Some(EXIT_FAILED) && !super::log::is_whole(&log) => {
                io::stderr().write_all(&std::fs::read(&out)?)?;
                say(&format!(
                    "hunt: ftvm itself failed in run {} (seed {seed})",
                    i + 1
                ));
                return Ok(EXIT_FAILED);
            }
            End::Status(s) => match (s.code(), s.signal()) {
                (Some(c), _) if c > 128 => format!("exit code {c} (signal {})", c - 128),
                (Some(c), _) => format!("exit code {c}"),
                (None, n) => format!("ftvm was ended by signal {}", n.unwrap_or(0)),
            },
            End::TimedOut => "it did not end in time".to_string(),
        };
        // What it printed, as it was printed: both streams, in their order.
        io::stderr().write_all(&std::fs::read(&out)?)?;
        let kept = args
            .output
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("hunt.{seed}")));
        keep(&log, &kept)?;
        say(&format!("run {} failed with seed {seed}: {why}", i + 1));
        say(&format!(
            "its recording is {0}; ftvm replay {0} shows it again",
            kept.display()
        ));
        println!("{seed}");
        return Ok(1);
    }
    say(&format!(
        "none of {} runs failed (seeds {first} to {})",
        args.runs,
        first.wrapping_add(args.runs.saturating_sub(1))
    ));
    Ok(0)
}

fn one(args: &HuntArgs, seed: u64, log: &Path, out: &Path) -> io::Result<End> {
    let out = File::create(out)?;
    let mut child = Command::new("/proc/self/exe")
        .args(["record", "--no-compress", "--chaos", "--seed"])
        .arg(seed.to_string())
        .arg("-o")
        .arg(log)
        .arg("--")
        .args(&args.command)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()?;
    match args.timeout {
        None => Ok(End::Status(child.wait()?)),
        Some(s) => wait_for(&mut child, Duration::from_secs(s)),
    }
}

fn wait_for(child: &mut Child, limit: Duration) -> io::Result<End> {
    let start = Instant::now();
    let mut nap = Duration::from_millis(1);
    loop {
        if let Some(s) = child.try_wait()? {
            return Ok(End::Status(s));
        }
        if start.elapsed() > limit {
            // The image's processes end with their supervisor.
            child.kill()?;
            child.wait()?;
            return Ok(End::TimedOut);
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(20));
    }
}

/// Moves the log; across file systems it is copied.
fn keep(log: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        let what = format!("{} is there already: the log is not kept; use -o", to.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    if std::fs::rename(log, to).is_ok() {
        return Ok(());
    }
    copy(log, to)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)?.flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
