//! The command line. One file per verb. Results go to stdout, talk to stderr; docs/errors.md has the
//! exit codes.

mod agent;
mod attach;
mod checkpoint;
mod clone;
mod cluster;
mod compat;
mod defaults;
mod demo;
mod docs;
mod doctor;
mod exec;
mod from_image;
mod health;
mod hunt;
mod image;
mod keygen;
mod log;
mod logs;
mod migrate;
mod net;
pub mod options;
mod protect;
mod ps;
mod record;
mod replay;
mod run;
pub mod secret;
mod snapshot;
pub mod state;
mod status;
mod top;
mod warm;

use crate::talk::Role;
use clap::{Parser, Subcommand};
pub use options::{clean as clean_path, reason};
pub use replay::stops;

/// Runs unmodified Linux programs on a user-space library OS.
#[derive(Parser)]
#[command(name = "ftvm", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "\
Exit status of run and record: the program's own, 128+n if signal n ended it, 125 if ftvm failed,
126 if the program cannot be executed, 127 if it was not found; 5 if another host took the image
over, 7 if the options ask for what cannot be done.
Of the other verbs: 0, 1 failed, 2 usage, 3 incompatible host, log or snapshot, 4 diverged,
6 not known in time, 7 unsupported calls.";

#[derive(Subcommand)]
enum Verb {
    /// Run a program
    Run(run::RunArgs),
    /// Run a program and write a log from which the run can be reproduced
    Record(record::RecordArgs),
    /// Reproduce a recorded run: exit 0 if it was the same, 4 at the first difference
    Replay(replay::ReplayArgs),
    /// Record a run, replay it, and show the first difference: exit 0 if there is none, 4 if there is
    Verify(record::VerifyArgs),
    /// Record a command with --chaos again and again until it fails: the seed is printed, the recording kept
    Hunt(hunt::HuntArgs),
    /// Look at a log
    #[command(subcommand)]
    Log(log::LogVerb),
    /// Write a snapshot of a run, with which it can be restored
    Checkpoint(checkpoint::CheckpointArgs),
    /// Let the image of a snapshot go on
    Restore(checkpoint::RestoreArgs),
    /// Show how a protected image, or a standby, stands
    Status(status::StatusArgs),
    /// Let a protected image go on at its backup; nothing is lost
    Switchover(status::SwitchoverArgs),
    /// Give a running image another backup, without stopping it
    Protect(status::ProtectVerbArgs),
    /// Start several images from one snapshot, each with random numbers, an identity and ports of its own
    Clone(clone::CloneArgs),
    /// Move a running image to another host, where an agent runs: it stands still for some milliseconds
    Migrate(migrate::MigrateArgs),
    /// Keep images of other hosts ready to go on here when their host dies
    Agent(agent::AgentArgs),
    /// Be a node of a cluster: run its apps, keep backups of others'
    #[command(subcommand)]
    Node(cluster::NodeVerb),
    /// Run an app on a cluster, protected; again with a changed file: change it
    Up(cluster::UpArgs),
    /// Stop apps of a cluster and forget them
    Down(cluster::DownArgs),
    /// Move all that a node of a cluster has to other nodes, without dropping a connection
    Drain(cluster::DrainArgs),
    /// Look at snapshots and at the page store that they share
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotVerb),
    /// Build, fetch, sign and keep images: applications with their root, for `ftvm run --image`
    #[command(subcommand)]
    Image(image::ImageVerb),
    /// Keep passwords and keys for runs that ask for them (`ftvm run --secret`)
    #[command(subcommand)]
    Secret(secret::SecretVerb),
    /// See a host die under load and its connections live: three hosts on this machine, nothing to set up
    Demo(demo::DemoArgs),
    /// Make keys with which hosts know each other
    Keygen(keygen::KeygenArgs),
    /// List named and detached runs
    Ps(ps::PsArgs),
    /// Show again and again what named runs, or the nodes and apps of a cluster, use
    Top(top::TopArgs),
    /// Run a named run again: the same arguments, on the files that it had written
    Start(ps::StartArgs),
    /// Print what a detached run has printed
    Logs(ps::LogsArgs),
    /// Start a further process in a running image
    Exec(exec::ExecArgs),
    /// End runs: SIGTERM, and SIGKILL if that does not help
    Stop(ps::StopArgs),
    /// Send a signal to runs
    Kill(ps::KillArgs),
    /// Remove runs that have ended, and the files that they had written
    Rm(ps::RmArgs),
    /// Check whether this host can run and record, and say how to mend it: exit 3 if it cannot run
    Doctor(doctor::DoctorArgs),
    /// Tell which system calls a program makes and whether they are supported: exit 7 if some are not
    Compat(compat::CompatArgs),
    /// Print completions of a shell, as in `ftvm completion bash > ~/.local/share/bash-completion/completions/ftvm`
    Completion(docs::CompletionArgs),
    /// Write one man page for each verb into a directory
    Man(docs::ManArgs),
    /// Print what is generated from the code
    #[command(hide = true)]
    Docs(docs::DocsArgs),
}

impl Verb {
    /// How lines are written, where that can be said, and what the process is.
    fn logs(&self) -> (Option<&logs::LineArgs>, Role) {
        match self {
            Verb::Run(args) | Verb::Record(record::RecordArgs { run: args, .. }) => {
                (Some(&args.logs), Role::Run)
            }
            Verb::Restore(args) => (Some(&args.logs), Role::Run),
            Verb::Agent(args) => (Some(&args.logs), Role::Agent),
            Verb::Node(cluster::NodeVerb::Join(args)) => (Some(&args.logs), Role::Node),
            _ => (None, Role::None),
        }
    }
}

/// A line for the user.
pub fn say(line: &str) {
    crate::talk::note(line);
}

/// Says whether a command line could be understood, without carrying it out.
pub fn check_command(args: impl Iterator<Item = String>) -> Result<(), String> {
    let parsed = Cli::try_parse_from(args).map(|_| ());
    // The first line has it all; the rest is about usage.
    parsed.map_err(|e| {
        let text = e.to_string();
        let first = text.lines().next().unwrap_or_default();
        first.trim_start_matches("error: ").to_string()
    })
}

/// Says whether `--net` would take this.
pub fn check_net(text: &str) -> Result<(), String> {
    net::parse(text).map(|_| ())
}

/// Parses the arguments and does what they say. In a guest process (`in_place`) the same arguments
/// are seen a second time, and the verb goes on there. Returns the exit code.
pub fn main(in_place: bool) -> i32 {
    let mut cli = match Cli::try_parse() {
        Ok(c) => c,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { usage_code() } else { 0 };
        }
    };
    if !matches!(
        cli.verb,
        Verb::Run(_) | Verb::Record(_) | Verb::Replay(_) | Verb::Restore(_)
    ) {
        // A reader that has gone (`ftvm ps | head`) ends us quietly. What a guest inherits stays as it is.
        // SAFETY: no other thread, and the default action needs no handler.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    let (log, role) = cli.verb.logs();
    if let Err(why) = logs::begin(log, role, in_place) {
        say(&why);
        return usage_code();
    }
    if let Verb::Run(args) | Verb::Record(record::RecordArgs { run: args, .. }) = &cli.verb
        && args.json
    {
        crate::talk::in_json();
    }
    let plain = matches!(cli.verb, Verb::Run(_));
    if let Verb::Run(args) | Verb::Record(record::RecordArgs { run: args, .. }) = &mut cli.verb
        && let Err((code, why)) = from_image::apply(args, in_place, plain)
    {
        if in_place {
            run::gave_up((code, why));
        }
        crate::talk::error(crate::talk::code_of(code), code, &why);
        return code;
    }
    match cli.verb {
        Verb::Run(args) if in_place => run::inside(&args),
        Verb::Run(args) => run::outside(&args, crate::supervisor::Image::Run),
        Verb::Record(args) if in_place => record::record_inside(&args),
        Verb::Record(args) => record::record_outside(&args),
        Verb::Replay(args) if in_place => replay::inside(&args),
        Verb::Replay(args) => replay::outside(&args),
        Verb::Verify(args) => record::verify(&args),
        Verb::Hunt(args) => hunt::hunt(&args),
        Verb::Log(verb) => log::main(&verb),
        Verb::Checkpoint(args) => checkpoint::checkpoint(&args),
        Verb::Clone(args) => clone::clone(&args),
        Verb::Restore(args) if in_place => checkpoint::restore_inside(&args),
        Verb::Restore(args) => checkpoint::restore_outside(&args),
        Verb::Status(args) => status::status(&args),
        Verb::Switchover(args) => status::switchover(&args),
        Verb::Protect(args) => status::protect(&args),
        Verb::Migrate(args) => migrate::migrate(&args),
        Verb::Agent(_) if in_place => agent::inside(),
        Verb::Agent(args) => agent::outside(&args),
        Verb::Node(verb) => cluster::node_verb(&verb),
        Verb::Up(args) => cluster::up(&args),
        Verb::Down(args) => cluster::down(&args),
        Verb::Drain(args) => cluster::drain(&args),
        Verb::Demo(args) => demo::demo(&args),
        Verb::Snapshot(verb) => snapshot::main(&verb),
        Verb::Image(verb) => image::main(&verb),
        Verb::Secret(verb) => secret::main(&verb),
        Verb::Keygen(args) => keygen::keygen(&args),
        Verb::Ps(args) => ps::ps(&args),
        Verb::Top(args) => top::top(&args),
        Verb::Start(args) => ps::start(&args),
        Verb::Logs(args) => ps::logs(&args),
        Verb::Exec(args) => exec::exec(&args),
        Verb::Stop(args) => ps::stop(&args),
        Verb::Kill(args) => ps::kill(&args),
        Verb::Rm(args) => ps::rm(&args),
        Verb::Doctor(args) => doctor::doctor(&args),
        Verb::Compat(args) => compat::compat(&args),
        Verb::Completion(args) => docs::completion(&args),
        Verb::Man(args) => docs::man(&args),
        Verb::Docs(args) => docs::docs(&args),
    }
}

/// Where the status is the guest's, a wrong usage must not look like one of its own.
fn usage_code() -> i32 {
    let verb = std::env::args_os().nth(1);
    match verb.as_deref().and_then(|v| v.to_str()) {
        Some("run" | "record" | "restore" | "exec") => crate::run::EXIT_FAILED,
        _ => 2,
    }
}
