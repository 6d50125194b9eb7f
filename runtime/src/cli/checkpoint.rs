//! `ftvm checkpoint` and `ftvm restore`.

use super::{say, state};
use crate::run::EXIT_FAILED;
use crate::snap::file::FromFiles;
use crate::snap::restore;
use crate::supervisor;
use serde_json::json;
use std::ffi::OsString;
use std::path::PathBuf;

/// Options of `checkpoint`.
#[derive(clap::Args)]
pub struct CheckpointArgs {
    /// The snapshot's file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Let the image go on; without it the image ends when its snapshot is written
    #[arg(long)]
    leave_running: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Name of the run
    name: String,
}

/// Options of `restore`.
#[derive(clap::Args)]
pub struct RestoreArgs {
    /// Go on in the background; prints the name. Output goes to `ftvm logs NAME`
    #[arg(short, long)]
    detach: bool,
    /// Name of the run
    #[arg(long, value_name = "NAME", value_parser = super::options::run_name)]
    name: Option<String>,
    #[command(flatten)]
    tests: crate::snap::Tests,
    /// The snapshot's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `checkpoint`. Returns 0 or 1.
pub fn checkpoint(args: &CheckpointArgs) -> i32 {
    let start = std::time::Instant::now();
    match order(args) {
        Ok(()) => {
            let ms = start.elapsed().as_millis() as u64;
            let size = std::fs::metadata(&args.output).map_or(0, |m| m.len());
            if args.json {
                println!(
                    "{}",
                    json!({"version": state::SCHEMA, "file": args.output, "bytes": size, "ms": ms})
                );
            } else {
                say(&format!("{}: {size} bytes in {ms} ms", args.output.display()));
            }
            0
        }
        Err(why) => {
            say(&why);
            1
        }
    }
}

fn order(args: &CheckpointArgs) -> Result<(), String> {
    let run = state::Run::find(&args.name)?;
    if run.pid().is_none() {
        return Err(format!("{}: is not running", args.name));
    }
    let path = std::path::absolute(&args.output).map_err(|e| format!("{}: {e}", args.output.display()))?;
    let order = json!({"verb": "checkpoint", "path": path, "leave_running": args.leave_running});
    let answer =
        crate::orders::send(&run.dir, &order).map_err(|e| format!("{}: its supervisor: {e}", args.name))?;
    if answer["ok"] == true {
        return Ok(());
    }
    Err(answer["why"].as_str().unwrap_or("the image ended").to_string())
}

/// `restore` in the user's process.
pub fn restore_outside(args: &RestoreArgs) -> i32 {
    if let Err(e) = std::fs::File::open(&args.file) {
        say(&format!("snapshot {}: {e}", args.file.display()));
        return EXIT_FAILED;
    }
    if args.detach || args.name.is_some() {
        let command = [OsString::from("restore"), args.file.clone().into()];
        return state::run(args.name.as_deref(), args.detach, &command, supervisor::run);
    }
    supervisor::run()
}

/// `restore` in the guest process.
pub fn restore_inside(args: &RestoreArgs) -> i32 {
    args.tests.arm();
    let file = args.file.clone();
    super::run::gave_up(restore::boot(
        || Box::new(FromFiles(vec![file])),
        restore::Then::Live,
    ))
}
