//! `ftvm record` and `ftvm verify`.

use super::run::{self, RunArgs};
use crate::door::keep::{self, Tail};
use crate::door::replay::{EXIT_DIVERGED, EXIT_INCOMPATIBLE};
use crate::run::{EXIT_FAILED, Recording};
use crate::supervisor::Image;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

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
    /// Leave the log as it was written: full segments, and all at the end, are compressed otherwise
    #[arg(long)]
    no_compress: bool,
    /// Take what Linux leaves open at random, so that races show: which task runs and for how long, short reads
    /// and writes of sockets, EAGAIN, EINTR, spurious wake-ups. A replay makes the same choices
    #[arg(long)]
    chaos: bool,
    /// Seed of the choices of --chaos [default: made up, and printed]
    #[arg(long, value_name = "N", requires = "chaos")]
    seed: Option<u64>,
    /// Put a mark into the log after every N entries: hashes of all memory that has changed since the last, which
    /// replay compares (slow)
    #[arg(long, value_name = "N", default_value_t = 0)]
    check: u64,
    /// With --check: the contents of the pages too, so that replay shows which words differ
    #[arg(long)]
    check_pages: bool,
    /// Put a snapshot into the log at this interval, from which `replay --at` starts: a time, a number of kernel entries,
    /// or off [default: 60s, or longer if snapshots would take more than 1 % of the time]
    #[arg(long, value_name = "TIME|event:N|off", value_parser = anchor_every)]
    anchor_every: Option<Every>,
    /// Replay one interval in N from anchor to anchor, beside the run, and compare: memory, registers, output. A difference is
    /// told at once, the log is kept, and the exit status is 4. Anchors are taken every 10 s if --anchor-every does not say
    /// otherwise
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "8",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    check_sampled: Option<u32>,
    /// With --check-sampled: the kernel's own objects too (docs/notes/open-problems.md)
    #[arg(long, hide = true, requires = "check_sampled")]
    check_objects: bool,
    /// Keep only the log's tail, from an anchor on: at least this time of the image (s, m or h, as in 10m), or at most so
    /// many bytes (kb, mb or GiB, as in 2GiB) unless the last anchor alone has more. A replay starts at the first anchor
    /// that is left
    #[arg(long, value_name = "TIME|SIZE", value_parser = tail)]
    keep: Option<Tail>,
}

/// `--anchor-every` for --check-sampled.
pub const CHECK_EVERY: Duration = Duration::from_secs(10);

/// Value of `--keep`.
fn tail(text: &str) -> Result<Tail, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    match unit {
        "s" | "m" | "h" => super::options::interval(text).map(Tail::Time),
        "" => Err(format!(
            "{text:?} has no unit: write a time as in 10m, or a size as in 2GiB"
        )),
        _ => super::options::size(text).map(Tail::Bytes),
    }
}

/// When anchors are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Every {
    Off,
    Time(Duration),
    Entries(u64),
}

/// Value of `--anchor-every`.
fn anchor_every(text: &str) -> Result<Every, String> {
    if text == "off" {
        return Ok(Every::Off);
    }
    if let Some(n) = text.strip_prefix("event:") {
        let entries = n.parse().ok().filter(|n| *n > 0);
        return entries
            .map(Every::Entries)
            .ok_or_else(|| format!("{n:?} is no number of entries: write event:100000"));
    }
    super::options::interval(text).map(Every::Time)
}

/// `--anchor-every` if it is not given.
pub const ANCHOR_EVERY: Duration = Duration::from_secs(60);

impl LogArgs {
    /// Entries between two anchors; 0: the supervisor says when.
    fn anchor_entries(&self) -> u64 {
        match self.anchor_every {
            Some(Every::Entries(n)) => n,
            _ => 0,
        }
    }

    /// What the supervisor does about the log.
    fn upkeep(&self) -> keep::Upkeep {
        keep::Upkeep {
            compress: !self.no_compress,
            keep: self.keep,
            check: self.check_sampled.unwrap_or(0),
            objects: self.check_objects,
            every: match (self.anchor_every, self.keep) {
                (None, _) if self.check_sampled.is_some() => Some((CHECK_EVERY, true)),
                // What is kept is at most a quarter more than was asked for.
                (None, Some(Tail::Time(t))) => Some((ANCHOR_EVERY.min(t / 4), true)),
                (None, _) => Some((ANCHOR_EVERY, true)),
                (Some(Every::Time(t)), _) => Some((t, false)),
                (Some(Every::Off | Every::Entries(_)), _) => None,
            },
        }
    }

    /// Bytes of log after which an anchor is taken; 0: they do not matter.
    fn anchor_bytes(&self) -> u64 {
        match self.keep {
            Some(Tail::Bytes(n)) if self.anchor_every != Some(Every::Off) => (n / 4).max(1),
            _ => 0,
        }
    }
}

/// What is done with the recording of a named run.
#[derive(clap::Subcommand)]
enum RunningVerb {
    /// Record a run from now on that was started with `ftvm run --recordable --name NAME`; the log begins with a snapshot
    Start(StartArgs),
    /// End the recording that `record start` began; the run goes on
    Stop(StopArgs),
}

/// Options of `record start`.
#[derive(clap::Args)]
struct StartArgs {
    /// Directory of the log; must not be there yet
    #[arg(short, long, value_name = "LOG")]
    output: PathBuf,
    /// Name of the run
    #[arg(value_name = "NAME")]
    name: String,
}

/// Options of `record stop`.
#[derive(clap::Args)]
struct StopArgs {
    /// Name of the run
    #[arg(value_name = "NAME")]
    name: String,
}

/// Options of `record`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct RecordArgs {
    #[command(subcommand)]
    verb: Option<RunningVerb>,
    /// Directory of the log; must not hold one yet. `%p` stands for a process id
    #[arg(short, long, value_name = "LOG", required = true)]
    output: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    pub run: RunArgs,
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
    if let Some(verb) = &args.verb {
        return match running(verb) {
            Ok(()) => 0,
            Err(why) => {
                super::say(&why);
                1
            }
        };
    }
    if run::refuses_log(&args.run) {
        return run::EXIT_UNSUPPORTED;
    }
    if args.log.keep.is_some() && args.log.anchor_every == Some(Every::Off) {
        super::say("record: --keep cuts the log at anchors; leave out --anchor-every off");
        return EXIT_FAILED;
    }
    if args.log.check_sampled.is_some() && args.log.anchor_every == Some(Every::Off) {
        super::say("record: --check-sampled compares from anchor to anchor; leave out --anchor-every off");
        return EXIT_FAILED;
    }
    if args.log.chaos && args.log.seed.is_none() {
        return again_with_seed();
    }
    let output = args.output.clone().unwrap_or_default();
    let dir = move |pid| with_pid(&output, pid);
    run::outside(&args.run, Image::Record(Box::new(dir), args.log.upkeep()))
}

/// `record start` and `record stop`.
fn running(verb: &RunningVerb) -> Result<(), String> {
    let (name, order) = match verb {
        RunningVerb::Start(a) => {
            let dir = std::path::absolute(&a.output).map_err(|e| format!("{}: {e}", a.output.display()))?;
            if dir.exists() {
                return Err(format!(
                    "log {}: it is there already; name a new directory",
                    dir.display()
                ));
            }
            (&a.name, serde_json::json!({"verb": "record-start", "path": dir}))
        }
        RunningVerb::Stop(a) => (&a.name, serde_json::json!({"verb": "record-stop"})),
    };
    let run = super::state::Run::find(name)?;
    if run.pid().is_none() {
        return Err(format!("{name}: is not running"));
    }
    let answer = crate::orders::send(&run.dir, &order).map_err(|e| format!("{name}: its supervisor: {e}"))?;
    match answer["ok"] == true {
        true => Ok(()),
        false => Err(answer["why"].as_str().unwrap_or("the image ended").to_string()),
    }
}

/// `record` in the guest process.
pub fn record_inside(args: &RecordArgs) -> i32 {
    let log = Recording {
        dir: with_pid(
            args.output.as_deref().unwrap_or(Path::new("")),
            std::process::id(),
        ),
        check_memory: args.log.check_memory,
        marks: (args.log.check, args.log.check_pages),
        predict: args.log.predict == Predict::On,
        anchors: (args.log.anchor_entries(), args.log.anchor_bytes()),
        chaos: args.log.seed,
    };
    run::start(&args.run, Some(log))
}

/// The guest process parses the same command line: the seed that is made up must be in it.
fn again_with_seed() -> i32 {
    use std::os::unix::process::CommandExt;
    let seed = made_up_seed();
    super::say(&format!("chaos with seed {seed}"));
    let mut list: Vec<OsString> = std::env::args_os().collect();
    let at = list.iter().position(|a| a == "--chaos").unwrap_or(1);
    list.splice(at + 1..at + 1, ["--seed".into(), seed.to_string().into()]);
    let e = Command::new("/proc/self/exe").args(&list[1..]).exec();
    super::say(&format!("starting itself again: {e}"));
    EXIT_FAILED
}

/// A seed for `--chaos` that is easy to type.
pub fn made_up_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |d| u64::from(d.subsec_nanos()) % 1_000_000)
}

/// The path with `%p` replaced by the id of the image's first process.
fn with_pid(path: &Path, pid: u32) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let Some(at) = bytes.windows(2).position(|w| w == b"%p") else {
        return path.to_path_buf();
    };
    let mut out = bytes[..at].to_vec();
    out.extend_from_slice(pid.to_string().as_bytes());
    out.extend_from_slice(&bytes[at + 2..]);
    OsString::from_vec(out).into()
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
