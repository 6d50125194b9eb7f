//! Agents of a node (`ftvm agent`): one of its own build, and one for each other build of which it keeps backups
//! (`--older-ftvm`); and the processes that a node starts.

use super::node::{Config, ORDER_TIME};
use super::node_id;
use crate::protect::etcd::ENV_OWN_KEYS;
use crate::protect::{ENV_NODE, status};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Agents, which end with this.
#[derive(Default)]
pub struct Agents(Vec<Child>);

impl Agents {
    /// Starts them. Also returns the addresses of those of other builds, by build.
    pub fn start(cfg: &Config) -> Result<(Agents, BTreeMap<String, String>), String> {
        let own =
            std::env::current_exe().map_err(|e| format!("/proc/self/exe: {}", crate::cli::reason(&e)))?;
        let mut agents = Agents(vec![start_agent(cfg, &own, &cfg.listen)?]);
        let mut older = BTreeMap::new();
        for (n, program) in cfg.older.iter().enumerate() {
            let at = behind(&cfg.listen, n + 1)?;
            let build = build_of(program)?;
            if build != status::build() && !older.contains_key(&build) {
                agents.0.push(start_agent(cfg, program, &at)?);
                older.insert(build, at);
            }
        }
        Ok((agents, older))
    }

    /// How one of them has ended, if one has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.iter_mut().find_map(|a| a.try_wait().ok().flatten())
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for a in &mut self.0 {
            let _ = a.kill();
            let _ = a.wait();
        }
    }
}

/// The address whose port is so far behind that of `listen`.
fn behind(listen: &str, n: usize) -> Result<String, String> {
    let mut at: std::net::SocketAddr = listen.parse().map_err(|e| format!("{listen}: {e}"))?;
    let port = u16::try_from(n).ok().and_then(|n| at.port().checked_add(n));
    at.set_port(port.ok_or_else(|| format!("{listen}: there is no port {n} behind it for --older-ftvm"))?);
    Ok(at.to_string())
}

/// The build of another ftvm.
fn build_of(program: &Path) -> Result<String, String> {
    let shown = program.display();
    let out = Command::new(program)
        .args(["node", "build"])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("--older-ftvm {shown}: {}", crate::cli::reason(&e)))?;
    let said = String::from_utf8_lossy(&out.stdout).trim().to_string();
    match out.status.success() && !said.is_empty() && said.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(said),
        false => Err(format!(
            "--older-ftvm {shown}: it does not say which build it is: {}",
            out.status
        )),
    }
}

/// A process of ours.
pub fn ftvm(args: &[String], keys: Option<&Path>) -> Result<Command, String> {
    let exe = std::env::current_exe().map_err(|e| format!("/proc/self/exe: {}", crate::cli::reason(&e)))?;
    Ok(command(&exe, args, keys))
}

/// A process with nothing of the daemon's environment but what it needs.
fn command(program: &Path, args: &[String], keys: Option<&Path>) -> Command {
    let mut c = Command::new(program);
    c.args(args).env_clear().current_dir("/").stdin(Stdio::null());
    for name in [
        "PATH",
        "HOME",
        "XDG_RUNTIME_DIR",
        "XDG_STATE_HOME",
        "XDG_DATA_HOME",
        "LANG",
    ] {
        if let Some(v) = std::env::var_os(name) {
            c.env(name, v);
        }
    }
    if let Some(dir) = keys {
        c.env(ENV_OWN_KEYS, dir);
    }
    c
}

fn start_agent(cfg: &Config, program: &Path, listen: &str) -> Result<Child, String> {
    let mut args: Vec<String> = ["agent", "--listen", listen, "--net", &cfg.ways.interface]
        .map(str::to_string)
        .to_vec();
    args.extend(cfg.ways.security());
    let mut c = command(program, &args, cfg.keys.as_deref());
    c.env(ENV_NODE, format!("{:x}", node_id(&cfg.name)));
    // SAFETY: a plain call between fork and exec. The main thread lives as long as the daemon.
    unsafe {
        c.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
    // The agent of a daemon that was killed just now ends too, soon.
    let end = Instant::now() + ORDER_TIME;
    while std::net::TcpStream::connect(listen).is_ok() {
        if Instant::now() > end {
            return Err(format!("{listen} is in use"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut child = c
        .spawn()
        .map_err(|e| format!("starting the agent: {}", crate::cli::reason(&e)))?;
    let end = Instant::now() + ORDER_TIME;
    while std::net::TcpStream::connect(listen).is_err() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the agent on {listen}: {status}"));
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("the agent does not listen on {listen}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(child)
}
