//! `ftvm-oci`: the command line of an OCI runtime (runtime-spec, and what runc, podman and containerd use beyond it).
//!
//! A container is one run of `ftvm`. `create` leaves a process that has the container's namespaces and mounts and
//! waits; `start` lets it execute `ftvm run`, which keeps its process id: its exit status is the container's.
//! What the image has of its own (process ids, /proc, /dev, SysV IPC, capabilities) needs nothing of the host.

mod checkpoint;
mod create;
mod exec;
mod features;
mod forward;
mod hooks;
mod init;
mod list;
mod log;
mod mounts;
mod plan;
mod signal;
mod state;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Why a command failed: one line.
pub type Why = String;

/// OCI runtime that runs containers as images of ftvm.
#[derive(Parser)]
#[command(name = "ftvm-oci", disable_version_flag = true)]
struct Cli {
    /// Directory of the containers' state [default: /run/ftvm-oci, else $XDG_RUNTIME_DIR/ftvm-oci]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// File for warnings and errors
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Format of --log
    #[arg(long, value_name = "text|json", default_value = "text")]
    log_format: log::Format,
    /// Tell also what needed nothing to be done
    #[arg(long)]
    debug: bool,
    /// Accepted: no cgroups are made
    #[arg(long)]
    systemd_cgroup: bool,
    /// Accepted: whether privileges are there is tried
    #[arg(long, value_name = "BOOL")]
    rootless: Option<String>,
    /// Accepted: snapshots are ftvm's own
    #[arg(long, value_name = "PATH", hide = true)]
    criu: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', long)]
    version: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a container: it waits for `start`
    Create(create::CreateArgs),
    /// Let the container's program start
    Start(IdArgs),
    /// Print a container's state
    State(IdArgs),
    /// Send a signal to a container's first process
    Kill(signal::KillArgs),
    /// Remove a container that has stopped
    Delete(signal::DeleteArgs),
    /// List containers
    List(list::ListArgs),
    /// List the host processes of a container
    Ps(list::PsArgs),
    /// Print what a container uses
    Events(list::EventsArgs),
    /// Let a container stand still
    Pause(IdArgs),
    /// Let it go on
    Resume(IdArgs),
    /// Write a snapshot of a container
    Checkpoint(checkpoint::CheckpointArgs),
    /// Make a container from a snapshot, and let it go on
    Restore(checkpoint::RestoreArgs),
    /// Print what this runtime can do, as JSON
    Features,
    /// Start a further process in a container
    Exec(exec::ExecArgs),
    /// Not possible: limits are fixed when an image starts
    #[command(trailing_var_arg = true)]
    Update {
        /// As runc's.
        #[arg(allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// The waiting process of `create`
    #[command(hide = true)]
    Init(init::InitArgs),
}

/// A verb that needs nothing but the name.
#[derive(clap::Args)]
struct IdArgs {
    /// The container's id
    id: String,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    log::set(cli.log.clone(), cli.log_format, cli.debug);
    if cli.version {
        println!(
            "ftvm-oci version {}\nspec: {}",
            env!("CARGO_PKG_VERSION"),
            plan::SPEC
        );
        return std::process::ExitCode::SUCCESS;
    }
    let Some(verb) = cli.verb else {
        log::error("no command; ftvm-oci --help lists them");
        return std::process::ExitCode::from(1);
    };
    let root = state::Root::new(cli.root);
    let done = match (root, verb) {
        (_, Verb::Features) => features::print(),
        (_, Verb::Update { args: _ }) => Err(
            "update: the limits of an image are fixed when it starts; make the container anew".to_string(),
        ),
        (_, Verb::Init(args)) => init::main(&args),
        (Err(why), _) => Err(why),
        (Ok(root), verb) => match verb {
            Verb::Create(args) => create::create(&root, &args),
            Verb::Start(args) => create::start(&root, &args.id),
            Verb::State(args) => list::state(&root, &args.id),
            Verb::Kill(args) => signal::kill(&root, &args),
            Verb::Delete(args) => signal::delete(&root, &args),
            Verb::List(args) => list::list(&root, &args),
            Verb::Ps(args) => list::ps(&root, &args),
            Verb::Events(args) => list::events(&root, &args),
            Verb::Pause(args) => signal::pause(&root, &args.id),
            Verb::Resume(args) => signal::resume(&root, &args.id),
            Verb::Checkpoint(args) => checkpoint::checkpoint(&root, &args),
            Verb::Exec(args) => match exec::exec(&root, &args) {
                Ok(code) => return std::process::ExitCode::from(code),
                Err(why) => {
                    log::error(&why);
                    // As runc's.
                    return std::process::ExitCode::from(255);
                }
            },
            Verb::Restore(args) => match checkpoint::restore(&root, &args) {
                Ok(code) => return std::process::ExitCode::from(code),
                Err(why) => Err(why),
            },
            Verb::Features | Verb::Update { .. } | Verb::Init(_) => Ok(()),
        },
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            log::error(&why);
            std::process::ExitCode::from(1)
        }
    }
}
