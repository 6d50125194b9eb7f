//! `checkpoint` and `restore`, by snapshots of ftvm.

use crate::create::{How, make, start};
use crate::forward::Signals;
use crate::state::{RUN, RUN_STATE, Root, Status, at, reason};
use crate::{Why, log, signal};
use std::path::PathBuf;
use std::process::Command;

/// The snapshot in `--image-path`.
const FILE: &str = "image.ftsnap";

/// Options of `checkpoint`.
#[derive(clap::Args)]
pub struct CheckpointArgs {
    /// Directory for the snapshot
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    image_path: PathBuf,
    /// Accepted: nothing is written there
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Let the container go on
    #[arg(long)]
    leave_running: bool,
    /// Take a snapshot although there are connections: those of host sockets are cut
    #[arg(long)]
    tcp_established: bool,
    /// Accepted: locks are in every snapshot
    #[arg(long)]
    file_locks: bool,
    /// Accepted: UNIX sockets of the image are in every snapshot
    #[arg(long)]
    ext_unix_sk: bool,
    /// Accepted: terminals get their settings back
    #[arg(long)]
    shell_job: bool,
    /// Accepted: no cgroups are made
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<String>,
    /// Refused: snapshots are whole
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Refused: snapshots are whole
    #[arg(long)]
    pre_dump: bool,
    /// Refused: pages are mapped from the snapshot anyway
    #[arg(long)]
    lazy_pages: bool,
    /// The container's id
    id: String,
}

/// Options of `restore`.
#[derive(clap::Args)]
pub struct RestoreArgs {
    /// Directory of the bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Directory of the snapshot
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    image_path: PathBuf,
    /// Accepted: nothing is written there
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Socket to which the terminal's master is sent
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File for the id of the container's first process
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(short, long)]
    detach: bool,
    /// Accepted: connections of host sockets do not travel
    #[arg(long)]
    tcp_established: bool,
    /// Accepted: see `checkpoint`
    #[arg(long)]
    ext_unix_sk: bool,
    /// Accepted: see `checkpoint`
    #[arg(long)]
    shell_job: bool,
    /// Accepted: see `checkpoint`
    #[arg(long)]
    file_locks: bool,
    /// Accepted: no cgroups are made
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<String>,
    /// Accepted: the root is not pivoted into
    #[arg(long)]
    no_pivot: bool,
    /// Refused: pages are mapped from the snapshot anyway
    #[arg(long)]
    lazy_pages: bool,
    /// The container's id
    id: String,
}

/// `checkpoint`
pub fn checkpoint(root: &Root, args: &CheckpointArgs) -> Result<(), Why> {
    let (c, saved) = root.find(&args.id)?;
    signal::running(&c, &saved, Status::Running, "checkpoint")?;
    if args.pre_dump || args.parent_path.is_some() {
        return Err(
            "--pre-dump, --parent-path: a snapshot is whole; it is copied while the image runs".to_string(),
        );
    }
    if args.lazy_pages {
        return Err("--lazy-pages: not supported; a restore maps the snapshot's pages".to_string());
    }
    if args.tcp_established {
        log::warn("--tcp-established: connections of host sockets are cut: both sides see it");
    }
    std::fs::create_dir_all(&args.image_path).map_err(at(&args.image_path))?;
    let own = std::env::current_exe().map_err(|e| format!("/proc/self/exe: {e}"))?;
    let ftvm = std::env::var_os("FTVM").map_or_else(|| own.with_file_name("ftvm"), PathBuf::from);
    let mut command = Command::new(&ftvm);
    command
        .env(RUN_STATE, c.run_state())
        .arg("checkpoint")
        .arg("-o")
        .arg(args.image_path.join(FILE));
    command.args(["--volumes", "share"]);
    command.args(["--tcp", if args.tcp_established { "close" } else { "keep" }]);
    if args.leave_running {
        command.arg("--leave-running");
    }
    let out = command.arg(RUN).output().map_err(at(&ftvm))?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr).trim().replace("ftvm: ", "");
        return Err(format!("checkpoint of container {}: {why}", args.id));
    }
    if !args.leave_running {
        while saved.alive() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    Ok(())
}

/// `restore`. Returns the container's exit status, or 0 with `--detach`.
pub fn restore(root: &Root, args: &RestoreArgs) -> Result<u8, Why> {
    if args.lazy_pages {
        return Err("--lazy-pages: not supported; a restore maps the snapshot's pages".to_string());
    }
    let file = args.image_path.join(FILE);
    let file = std::fs::canonicalize(&file).map_err(at(&file))?;
    let how = How {
        console: args.console_socket.clone(),
        pid_file: args.pid_file.clone(),
        preserve: 0,
        snapshot: Some(file),
    };
    // Those that come before the program goes on are its own too.
    let signals = match args.detach {
        true => None,
        false => Some(Signals::collect().map_err(|e| format!("signals: {}", reason(&e)))?),
    };
    let mut child = make(root, &args.id, &args.bundle, &how)?;
    let (c, saved) = root.find(&args.id)?;
    if let Err(why) = start(root, &args.id) {
        // Nobody knows of it yet: it goes, as with runc.
        let _ = child.kill();
        let _ = child.wait();
        signal::destroy(&c, &saved).unwrap_or_else(|why| log::warn(&why));
        return Err(why);
    }
    let Some(signals) = signals else {
        return Ok(0);
    };
    let status = signals.pass(&mut child, |signo| {
        // It may have ended by now.
        signal::send(&c, &saved, signo).unwrap_or_else(|why| log::warn(&format!("signal {signo}: {why}")));
    });
    let status = status.map_err(|e| format!("container {}: {}", args.id, reason(&e)))?;
    // Someone may have deleted it by now.
    signal::destroy(&c, &saved).unwrap_or_else(|why| log::warn(&why));
    let signalled = || std::os::unix::process::ExitStatusExt::signal(&status).map(|n| 128 + n);
    Ok(status.code().or_else(signalled).unwrap_or(128) as u8)
}
