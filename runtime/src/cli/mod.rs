//! The command line. One file per verb.

mod record;
mod run;

use clap::{Parser, Subcommand};

/// Runs unmodified Linux programs on a user-space library OS.
#[derive(Parser)]
#[command(name = "ftvm", version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a program.
    Run(run::RunArgs),
    /// Run a program and write a log from which the run can be reproduced
    Record(record::RecordArgs),
    /// Reproduce a recorded run: exit 0 if it was the same, 4 at the first difference
    Replay(record::ReplayArgs),
}

/// Parses the arguments and does what they say. In a guest process (`in_place`) the same arguments
/// are seen a second time, and the verb goes on there. Returns the exit code.
pub fn main(in_place: bool) -> i32 {
    let cli = match Cli::try_parse() {
        Ok(c) => c,
        Err(e) => {
            let usage = e.use_stderr();
            let _ = e.print();
            return if usage { 2 } else { 0 };
        }
    };
    match cli.verb {
        Verb::Run(args) if in_place => run::inside(&args),
        Verb::Run(args) => run::outside(&args),
        Verb::Record(args) if in_place => record::record_inside(&args),
        Verb::Record(args) => record::record_outside(&args),
        Verb::Replay(args) if in_place => record::replay_inside(&args),
        Verb::Replay(_) => record::replay_outside(),
    }
}
