//! Agents of a node (`ftvm agent`): one of its own build, and one for each other build of which it keeps backups
//! (`--older-ftvm`); and the processes that a node starts.

use super::node::{Config, ORDER_TIME};
use super::node_id;
use crate::protect::etcd::ENV_OWN_KEYS;
use crate::protect::{ENV_NODE, status};
use crate::talk;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long another ftvm may take to say which build it is.
const BUILD_TIME: Duration = Duration::from_secs(10);

/// An agent of another build that has ended is started again after so long.
const AGAIN: Duration = Duration::from_secs(10);

/// Agents, which end with this.
#[derive(Default)]
pub struct Agents {
    own: Option<Child>,
    older: Vec<Older>,
}

/// An agent of another build. The node does without it while it does not run.
struct Older {
    program: PathBuf,
    build: String,
    at: String,
    child: Option<Child>,
    /// It has listened since it was started.
    listens: bool,
    /// When it was started, or was found to have ended.
    since: Instant,
}

impl Agents {
    /// Starts them. Also returns the addresses of those of other builds, by build.
    pub fn start(cfg: &Config) -> Result<(Agents, BTreeMap<String, String>), String> {
        let own =
            std::env::current_exe().map_err(|e| format!("/proc/self/exe: {}", crate::cli::reason(&e)))?;
        let mut agents = Agents {
            own: Some(start_agent(cfg, &own, &cfg.listen)?),
            older: Vec::new(),
        };
        for (n, program) in cfg.older.iter().enumerate() {
            let at = behind(&cfg.listen, n + 1)?;
            let build = build_of(program, BUILD_TIME)?;
            if build != status::build() && !agents.older.iter().any(|o| o.build == build) {
                agents.older.push(Older {
                    child: Some(start_agent(cfg, program, &at)?),
                    program: program.clone(),
                    build,
                    at,
                    listens: true,
                    since: Instant::now(),
                });
            }
        }
        let older = agents.older();
        Ok((agents, older))
    }

    /// Addresses of those of other builds that listen, by build.
    fn older(&self) -> BTreeMap<String, String> {
        let listen = self.older.iter().filter(|o| o.listens);
        listen.map(|o| (o.build.clone(), o.at.clone())).collect()
    }

    /// How the one of our own build has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.own.as_mut()?.try_wait().ok().flatten()
    }

    /// Looks after those of other builds, without waiting for any: what has become of one is told, and one that has ended is started
    /// again after a while. The addresses of those that listen, if these have changed.
    pub fn tend(&mut self, cfg: &Config, tell: &mut dyn FnMut(String)) -> Option<BTreeMap<String, String>> {
        let before = self.older();
        for o in &mut self.older {
            if let Some(line) = o.tend(cfg) {
                tell(line);
            }
        }
        let now = self.older();
        (now != before).then_some(now)
    }
}

impl Older {
    /// What is to be told.
    fn tend(&mut self, cfg: &Config) -> Option<String> {
        let of = format!("the agent of build {:.12} on {}", self.build, self.at);
        let Some(child) = &mut self.child else {
            if self.since.elapsed() < AGAIN {
                return None;
            }
            self.since = Instant::now();
            return match agent(cfg, &self.program, &self.at).spawn() {
                Ok(child) => {
                    self.child = Some(child);
                    None
                }
                Err(e) => Some(format!("{of}: starting it again: {}", crate::cli::reason(&e))),
            };
        };
        if let Ok(Some(status)) = child.try_wait() {
            self.child = None;
            self.listens = false;
            self.since = Instant::now();
            return Some(format!(
                "{of} has ended: {status}; images of that build get no backup here until it runs again"
            ));
        }
        if !self.listens && answers(&self.at) {
            self.listens = true;
            return Some(format!("{of} runs again"));
        }
        None
    }
}

/// Somebody listens there. The daemon asks, which must not stand still for one that does not accept.
fn answers(at: &str) -> bool {
    use std::net::{TcpStream, ToSocketAddrs};
    const SOON: std::time::Duration = std::time::Duration::from_millis(50);
    let at = at.to_socket_addrs().ok().and_then(|mut all| all.next());
    at.is_some_and(|at| TcpStream::connect_timeout(&at, SOON).is_ok())
}

impl Drop for Agents {
    fn drop(&mut self) {
        let older = self.older.iter_mut().filter_map(|o| o.child.as_mut());
        for a in self.own.iter_mut().chain(older) {
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
fn build_of(program: &Path, within: Duration) -> Result<String, String> {
    let bad = |why: String| format!("--older-ftvm {}: {why}", program.display());
    let mut child = Command::new(program)
        .args(["node", "build"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| bad(crate::cli::reason(&e)))?;
    let end = Instant::now() + within;
    let said = child.stdout.take().map(|out| said_until(out, end));
    // What it is, it has said; or it does not matter any more what it does.
    let status = loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                let within = within.as_secs_f32();
                return Err(bad(format!(
                    "it does not say within {within} s which build it is"
                )));
            }
            Ok(Some(status)) => break status,
            Err(e) => return Err(bad(crate::cli::reason(&e))),
        }
    };
    let said = said.unwrap_or_default();
    let said = said.trim();
    match status.success() && !said.is_empty() && said.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(said.to_string()),
        false => Err(bad(format!("it does not say which build it is: {status}"))),
    }
}

/// What comes until the end, or until nobody can write there any more. A build is no longer than this takes.
fn said_until(mut out: impl Read + AsRawFd, end: Instant) -> String {
    let mut said = Vec::new();
    let mut buf = [0; 256];
    while said.len() < 4096 {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        let mut polled = libc::pollfd {
            fd: out.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid entry.
        if unsafe { libc::poll(&raw mut polled, 1, left as i32) } <= 0 {
            break;
        }
        match out.read(&mut buf) {
            Ok(n @ 1..) => said.extend_from_slice(&buf[..n]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&said).into_owned()
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
    // Not options: another build may not have them.
    c.env(talk::HANDED, talk::handed());
    c
}

/// An agent of this program.
fn agent(cfg: &Config, program: &Path, listen: &str) -> Command {
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
    c
}

fn start_agent(cfg: &Config, program: &Path, listen: &str) -> Result<Child, String> {
    // The agent of a daemon that was killed just now ends too, soon.
    let end = Instant::now() + ORDER_TIME;
    while std::net::TcpStream::connect(listen).is_ok() {
        if Instant::now() > end {
            return Err(format!("{listen} is in use"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut child = agent(cfg, program, listen)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::spec::Ways;

    /// A program of another build that does this.
    fn program(name: &str, script: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ftvm-older-{name}-{}", std::process::id()));
        // Written by another process: what this one has open for writing, a fork of another test may have too, and then nobody can start it.
        let write = r#"printf '%s\n' '#!/bin/sh' "$1" > "$0" && chmod 700 "$0""#;
        let made = Command::new("sh")
            .arg("-c")
            .arg(write)
            .arg(&path)
            .arg(script)
            .status();
        assert!(made.expect("a shell").success());
        path
    }

    #[test]
    fn a_build_is_asked_for_so_long_and_no_longer() {
        let ask = |name, script: &str, within| {
            let path = program(name, script);
            let begun = Instant::now();
            let said = build_of(&path, within);
            std::fs::remove_file(path).expect("removed");
            (said, begun.elapsed())
        };
        let long = Duration::from_secs(60);
        assert_eq!(ask("good", "echo 01af", long).0, Ok("01af".to_string()));
        for (name, script) in [
            ("none", "true"),
            ("words", "echo usage"),
            ("fails", "echo 01af; exit 2"),
        ] {
            let why = ask(name, script, long).0.expect_err(name);
            assert!(why.contains("does not say which build it is"), "{why}");
        }
        let short = Duration::from_millis(200);
        // One that says nothing, one that says it and stays, one that does not hear that nobody listens any more.
        let slow = [
            ("silent", "exec sleep 1000"),
            ("stays", "echo 01af; exec sleep 1000"),
            ("noise", "trap '' PIPE; while :; do echo 0; done 2>/dev/null"),
        ];
        for (name, script) in slow {
            let (said, took) = ask(name, script, short);
            let why = said.expect_err(name);
            assert!(why.contains("within 0.2 s"), "{why}");
            assert!(took < Duration::from_secs(30), "{name}: {took:?}");
        }
    }

    #[test]
    fn an_older_agent_that_ends_is_missed_and_started_again_and_takes_nobody_along() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its address").to_string();
        let cfg = Config {
            name: "n1".to_string(),
            domain: "n1".to_string(),
            listen: "127.0.0.1:1".to_string(),
            memory: 0,
            ways: Ways {
                interface: String::new(),
                arbiter: String::new(),
                tls_dir: None,
                verify_key: None,
            },
            keys: None,
            registries: Default::default(),
            ttl: 1,
            metrics: None,
            older: Vec::new(),
            new_cluster: false,
        };
        let child = |words: &[&str]| {
            Command::new(words[0])
                .args(&words[1..])
                .spawn()
                .expect("a process")
        };
        let script = program("agent", "exec sleep 1000");
        let mut agents = Agents {
            own: Some(child(&["sleep", "1000"])),
            older: vec![Older {
                program: script.clone(),
                build: "01af".to_string(),
                at: at.clone(),
                child: Some(child(&["false"])),
                listens: true,
                since: Instant::now(),
            }],
        };
        let listens = BTreeMap::from([("01af".to_string(), at)]);
        assert_eq!(agents.older(), listens);
        let mut told = Vec::new();
        let end = Instant::now() + Duration::from_secs(60);
        let without = loop {
            if let Some(now) = agents.tend(&cfg, &mut |line| told.push(line)) {
                break now;
            }
            assert!(Instant::now() < end, "its end is not noticed");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(without, BTreeMap::new());
        assert!(told.len() == 1 && told[0].contains("exit status: 1"), "{told:?}");
        assert_eq!(agents.ended(), None, "the daemon goes on");
        // Not at once.
        assert_eq!(agents.tend(&cfg, &mut |line| told.push(line)), None);
        assert!(agents.older[0].child.is_none());
        agents.older[0].since -= AGAIN;
        let mut again = || agents.tend(&cfg, &mut |line| told.push(line));
        assert_eq!((again(), again()), (None, Some(listens)));
        assert!(told.len() == 2 && told[1].ends_with("runs again"), "{told:?}");
        drop((agents, listener));
        std::fs::remove_file(script).expect("removed");
    }
}
