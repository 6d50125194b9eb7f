//! `ftvm record`, `ftvm replay` and `ftvm verify`.

use super::run::{self, RunArgs};
use crate::door::replay::{EXIT_DIVERGED, EXIT_INCOMPATIBLE};
use crate::run::{EXIT_FAILED, Recording, Start, boot};
use crate::snap::file::FromFiles;
use crate::snap::restore;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Whether predictions keep records out of the log.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Predict {
    /// Log only what was not as predicted
    On,
    /// Log every answer and every clock read: the control for measurements
    Off,
}

/// How a run is recorded.
#[derive(clap::Args)]
pub struct LogArgs {
    /// Log only what was not as predicted, or everything
    #[arg(long, value_enum, default_value = "on")]
    predict: Predict,
    /// Put a hash of the memory of every process at its end (and before an exec) into the log
    #[arg(long)]
    check_memory: bool,
    /// Put a mark into the log after every N entries: hashes of all memory that has changed since the last, which
    /// replay compares (slow)
    #[arg(long, value_name = "N", default_value_t = 0)]
    check: u64,
    /// With --check: the contents of the pages too, so that replay shows which words differ
    #[arg(long)]
    check_pages: bool,
}

/// Options of `record`.
#[derive(clap::Args)]
pub struct RecordArgs {
    /// Directory of the log; must not hold one yet. `%p` stands for a process id
    #[arg(short, long, value_name = "LOG")]
    output: PathBuf,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Options of `replay`.
#[derive(clap::Args)]
pub struct ReplayArgs {
    /// Print every system call to stderr, as strace does
    #[arg(long)]
    strace: bool,
    /// Start from this snapshot of the recorded image (`ftvm checkpoint --leave-running`) instead of from
    /// the beginning
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Directory of the log
    #[arg(value_name = "LOG")]
    log: PathBuf,
}

/// Options of `verify`.
#[derive(clap::Args)]
pub struct VerifyArgs {
    /// Keep the log here
    #[arg(short, long, value_name = "LOG")]
    output: Option<PathBuf>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// `record` in the user's process.
pub fn record_outside(args: &RecordArgs) -> i32 {
    run::outside(&args.run)
}

/// `record` in the guest process.
pub fn record_inside(args: &RecordArgs) -> i32 {
    let log = Recording {
        dir: with_pid(&args.output),
        check_memory: args.log.check_memory,
        marks: (args.log.check, args.log.check_pages),
        predict: args.log.predict == Predict::On,
    };
    run::start(&args.run, Some(log))
}

/// The path with `%p` replaced.
fn with_pid(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let Some(at) = bytes.windows(2).position(|w| w == b"%p") else {
        return path.to_path_buf();
    };
    let mut out = bytes[..at].to_vec();
    out.extend_from_slice(std::process::id().to_string().as_bytes());
    out.extend_from_slice(&bytes[at + 2..]);
    OsString::from_vec(out).into()
}

/// `replay` in the user's process.
pub fn replay_outside() -> i32 {
    crate::supervisor::run()
}

/// `replay` in the guest process.
pub fn replay_inside(args: &ReplayArgs) -> i32 {
    if let Some(from) = args.from.clone() {
        let then = restore::Then::Replay(args.log.clone());
        run::gave_up(restore::boot(|| Box::new(FromFiles(vec![from])), then));
    }
    run::gave_up(boot(|| Start::Log(args.log.clone(), args.strace)))
}

/// Records a run and replays it: 0 if the replay was the same to the last byte of output and memory.
pub fn verify(args: &VerifyArgs) -> i32 {
    let own = std::env::temp_dir().join(format!("ftvm-verify-{}", std::process::id()));
    let log = args.output.clone().unwrap_or_else(|| own.clone());
    let code = verify_into(args, &log).unwrap_or_else(|e| {
        eprintln!("ftvm: verify: {e}");
        1
    });
    if args.output.is_none() {
        if code == EXIT_DIVERGED {
            eprintln!("ftvm: the log is kept in {}", own.display());
        } else {
            let _ = std::fs::remove_dir_all(&own);
        }
    }
    code
}

fn verify_into(args: &VerifyArgs, log: &Path) -> std::io::Result<i32> {
    let ftvm = std::env::current_exe()?;
    let recorded = Command::new(&ftvm)
        .args(["record", "--check-memory", "-o"])
        .arg(log)
        .arg("--")
        .args(&args.command)
        .status()?;
    if !super::log::is_whole(log) {
        eprintln!(
            "ftvm: verify: recording did not come to its end ({})",
            ended(recorded)
        );
        return Ok(1);
    }
    let replayed = Command::new(&ftvm)
        .arg("replay")
        .arg(log)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .output()?;
    match replayed.status.code() {
        Some(0) => {
            eprintln!(
                "ftvm: verified: the replay was the same; the program's status was {}",
                ended(recorded)
            );
            Ok(0)
        }
        code => {
            // The program's own error output is in there too; ours comes last.
            eprint!("{}", String::from_utf8_lossy(&replayed.stderr));
            let known = [EXIT_DIVERGED, EXIT_INCOMPATIBLE];
            Ok(code.filter(|c| known.contains(c)).unwrap_or(1))
        }
    }
}

fn ended(s: ExitStatus) -> String {
    match (s.code(), s.signal()) {
        (Some(EXIT_FAILED), _) => format!("{EXIT_FAILED}, see above"),
        (Some(c), _) => c.to_string(),
        (None, Some(n)) => format!("signal {n}"),
        (None, None) => "unknown".to_string(),
    }
}
