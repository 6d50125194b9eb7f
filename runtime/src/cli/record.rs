//! `ftvm record` and `ftvm replay`.

use super::run::{self, RunArgs};
use crate::run::{Start, boot};
use std::path::PathBuf;

/// Options of `record`.
#[derive(clap::Args)]
pub struct RecordArgs {
    /// Directory of the log; must not hold one yet
    #[arg(short, long, value_name = "LOG")]
    output: PathBuf,
    #[command(flatten)]
    run: RunArgs,
}

/// Options of `replay`.
#[derive(clap::Args)]
pub struct ReplayArgs {
    /// Print every system call to stderr, as strace does
    #[arg(long)]
    strace: bool,
    /// Directory of the log
    #[arg(value_name = "LOG")]
    log: PathBuf,
}

/// `record` in the user's process.
pub fn record_outside(args: &RecordArgs) -> i32 {
    run::outside(&args.run)
}

/// `record` in the guest process.
pub fn record_inside(args: &RecordArgs) -> i32 {
    run::start(&args.run, Some(args.output.clone()))
}

/// `replay` in the user's process.
pub fn replay_outside() -> i32 {
    crate::supervisor::run()
}

/// `replay` in the guest process.
pub fn replay_inside(args: &ReplayArgs) -> i32 {
    run::gave_up(boot(|| Start::Log(args.log.clone(), args.strace)))
}
