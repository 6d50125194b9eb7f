//! `exec`: a further process in a running container, by `ftvm exec`. The process that this leaves behind with `--detach` stands for
//! it: signals for it are passed on, and its exit status is the other's, which is what conmon waits for.

use crate::state::{Container, RUN, RUN_STATE, Root, Saved, Status, at};
use crate::{Why, init, plan, signal};
use oci_spec::runtime::{Process, Spec};
use rustix::io::FdFlags;
use serde_json::{Value, json};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Options of `exec`.
#[derive(clap::Args)]
pub struct ExecArgs {
    /// Socket to which the terminal's master is sent
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set a variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Run as this user
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Supplementary group
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// The process as the specification has it, in place of options and command
    #[arg(short, long, value_name = "process.json")]
    process: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(short, long)]
    detach: bool,
    /// File for the id of the process that stands for it
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// It and its children get no privileges by execve
    #[arg(long)]
    no_new_privs: bool,
    /// Add a capability
    #[arg(short, long, value_name = "CAP")]
    cap: Vec<String>,
    /// Refused unless 0: only the standard streams are passed on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Accepted: no cgroups are made
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,
    /// Accepted: see --log for what is not applied
    #[arg(long, value_name = "PROFILE", hide = true)]
    apparmor: Option<String>,
    /// Accepted: as --apparmor
    #[arg(long, value_name = "LABEL", hide = true)]
    process_label: Option<String>,
    /// Accepted: a paused container takes no process in
    #[arg(long)]
    ignore_paused: bool,
    /// The container's id
    id: String,
    /// Command and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// What is to run, as `ftvm exec --process` reads it, and whether on a terminal.
fn wanted(c: &Container, args: &ExecArgs) -> Result<(Value, bool, Option<Process>), Why> {
    if let Some(file) = &args.process {
        let text = std::fs::read_to_string(file).map_err(at(file))?;
        let p: Process = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        plan::check_process(&p)?;
        let tty = args.tty || p.terminal() == Some(true);
        return Ok((order(&p), tty, Some(p)));
    }
    if args.command.is_empty() {
        return Err("exec: no command".to_string());
    }
    let path = c.dir.join("config.json");
    let spec: Spec = plan::parse(&std::fs::read_to_string(&path).map_err(at(&path))?)?;
    let Some(p) = spec.process() else {
        return Err("exec: the container's configuration has no process".to_string());
    };
    let mut o = order(p);
    o["args"] = json!(args.command);
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let mut env = list(&o["env"]);
    env.extend(args.env.iter().map(|e| json!(e)));
    o["env"] = env.into();
    if let Some(dir) = &args.cwd {
        o["cwd"] = json!(dir);
    }
    if let Some(user) = &args.user {
        let mut ids = user.splitn(2, ':');
        let id = |t: Option<&str>| -> Result<u32, Why> {
            t.map_or(Ok(0), |t| {
                t.parse().map_err(|_| format!("--user {user}: not UID[:GID]"))
            })
        };
        let (uid, gid) = (id(ids.next())?, id(ids.next())?);
        (o["uid"], o["gid"], o["groups"]) = (uid.into(), gid.into(), json!([]));
        // As execve leaves them for such a user.
        let bounding = o["caps"][3].as_u64().unwrap_or(0);
        let held = if uid == 0 { bounding } else { 0 };
        o["caps"] = json!([held, held, 0, bounding, 0]);
    }
    let mut groups = list(&o["groups"]);
    groups.extend(args.additional_gids.iter().map(|g| json!(g)));
    o["groups"] = groups.into();
    for name in &args.cap {
        let n = plan::CAPABILITIES.iter().position(|c| c == name);
        let bit = 1u64 << n.ok_or_else(|| format!("--cap {name}: unknown"))?;
        for i in [0, 1, 3] {
            o["caps"][i] = (o["caps"][i].as_u64().unwrap_or(0) | bit).into();
        }
    }
    o["no_new_privs"] = (args.no_new_privs || p.no_new_privileges() == Some(true)).into();
    Ok((o, args.tty, None))
}

fn order(p: &Process) -> Value {
    json!({
        "args": p.args(), "cwd": p.cwd(), "uid": p.user().uid(), "gid": p.user().gid(),
        "env": p.env().iter().flatten().filter(|e| e.contains('=')).collect::<Vec<_>>(),
        "groups": p.user().additional_gids().clone().unwrap_or_default(),
        "caps": plan::capability_sets(p), "no_new_privs": p.no_new_privileges() == Some(true),
        "umask": p.user().umask(),
    })
}

/// `exec`. Returns the exit code, which is the process' without `--detach`.
pub fn exec(root: &Root, args: &ExecArgs) -> Result<u8, Why> {
    let (c, saved) = root.find(&args.id)?;
    signal::running(&c, &saved, Status::Running, "exec into")?;
    if args.preserve_fds > 0 {
        return Err(
            "--preserve-fds: an image is given the standard streams of a further process only".to_string(),
        );
    }
    let (order, tty, process) = wanted(&c, args)?;
    let console = match (&args.console_socket, tty) {
        (Some(path), true) => Some(UnixStream::connect(path).map_err(at(path))?),
        (Some(_), false) => return Err("--console-socket without a terminal".to_string()),
        (None, true) if args.detach => {
            return Err("a terminal with --detach needs --console-socket".to_string());
        }
        (None, _) => None,
    };
    run(&c, &saved, args, &order, tty, console, process.as_ref())
}

fn run(
    c: &Container,
    saved: &Saved,
    args: &ExecArgs,
    order: &Value,
    tty: bool,
    console: Option<UnixStream>,
    process: Option<&Process>,
) -> Result<u8, Why> {
    // Read once, by the process that is started here.
    let file = c.dir.join(format!("exec-{}.json", std::process::id()));
    std::fs::write(&file, order.to_string()).map_err(at(&file))?;
    let done = start(c, &file, tty, console, process);
    let _ = std::fs::remove_file(&file);
    let mut child = done.map_err(|why| match saved.alive() {
        true => why,
        false => format!("cannot exec into container {}: it has stopped", args.id),
    })?;
    if let Some(file) = &args.pid_file {
        let new = file.with_extension("new");
        std::fs::write(&new, child.id().to_string()).map_err(at(&new))?;
        std::fs::rename(&new, file).map_err(at(file))?;
    }
    if args.detach {
        return Ok(0);
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    Ok(status.code().unwrap_or(128) as u8)
}

/// Starts `ftvm exec`, and waits until the process in the image is there.
fn start(
    c: &Container,
    file: &Path,
    tty: bool,
    console: Option<UnixStream>,
    process: Option<&Process>,
) -> Result<std::process::Child, Why> {
    let own = std::env::current_exe().map_err(|e| format!("/proc/self/exe: {e}"))?;
    let ftvm = std::env::var_os("FTVM").map_or_else(|| own.with_file_name("ftvm"), PathBuf::from);
    let (ready, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| format!("pipe: {}", crate::state::reason(&e.into())))?;
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).map_err(|e| e.to_string())?;
    let mut command = Command::new(&ftvm);
    command
        .env(RUN_STATE, c.run_state())
        .args(["exec", "-i", "--run-dir"])
        .arg(c.run_state().join("now").join(RUN))
        .arg("--process")
        .arg(file)
        .arg(format!("--ready-fd={}", theirs.as_raw_fd()));
    if tty {
        command.arg("-t");
    }
    if let Some(conn) = console {
        let slave: OwnedFd = init::terminal(&conn, process.and_then(|p| p.console_size()))?;
        let again = || slave.try_clone().map_err(|e| e.to_string());
        command
            .arg("--own-session")
            .stdin(Stdio::from(again()?))
            .stdout(Stdio::from(again()?))
            .stderr(Stdio::from(again()?));
    }
    let mut child = command.spawn().map_err(at(&ftvm))?;
    drop(theirs);
    let mut said = String::new();
    let _ = std::fs::File::from(ready).read_to_string(&mut said);
    if said == "ok\n" {
        return Ok(child);
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    let (code, why) = said
        .trim_end()
        .split_once(' ')
        .unwrap_or(("", "the image has ended"));
    // As runc words them, which is how podman knows its own exit codes.
    let name = std::fs::read_to_string(file)
        .ok()
        .and_then(|t| serde_json::from_str::<Value>(&t).ok())
        .and_then(|v| v["args"][0].as_str().map(str::to_string))
        .unwrap_or_default();
    Err(match code {
        "127" if name.contains('/') => format!("exec: {name:?}: stat {name}: no such file or directory"),
        "127" => format!("exec: {name:?}: executable file not found in $PATH"),
        "126" => format!("exec: {name:?}: {why}"),
        "" => format!("exec: {why} ({status})"),
        _ => format!("exec: {why}"),
    })
}
