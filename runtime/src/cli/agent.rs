//! `ftvm agent`: keeps images of other hosts ready to go on here, and takes those that migrate.

use crate::link::Security;
use crate::migrate::target::Fault;
use crate::protect::links::{Knocks, Standbys};
use crate::protect::standby::{self, Meta, Options};
use crate::snap::restore;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Options of `agent`.
#[derive(clap::Args)]
pub struct AgentArgs {
    /// Address to listen on for primaries
    #[arg(long, value_name = "ADDR:PORT")]
    listen: String,
    /// Host interface on which images' addresses live after a takeover or a migration
    #[arg(long, value_name = "IF", default_value = "")]
    net: String,
    /// Keys of this node (`ftvm keygen`)
    #[arg(long, value_name = "DIR")]
    tls_dir: Option<PathBuf>,
    /// Talk without encryption and without proof of who the peer is: for tests on one machine only
    #[arg(long)]
    insecure: bool,
    /// Only look whether this host has the memory that images could need here, without setting it aside
    #[arg(long)]
    no_reserve: bool,
    #[command(flatten)]
    pub(super) logs: super::logs::LineArgs,
    /// What befalls migrations to here, for tests
    #[arg(long, hide = true, value_name = "FAULT@PHASE", value_parser = Fault::parse)]
    fault: Option<Fault>,
}

/// `agent` in the user's process.
pub fn outside(args: &AgentArgs) -> i32 {
    let security = match Security::from_options(args.tls_dir.as_deref(), args.insecure) {
        Ok(s) => s,
        Err(why) => {
            tracing::error!("agent: {why}");
            return 2;
        }
    };
    let listener = match TcpListener::bind(&args.listen) {
        Ok(l) => l,
        Err(e) => {
            tracing::error!(listen = args.listen, "agent: listening on {}: {e}", args.listen);
            return 1;
        }
    };
    tracing::info!(listen = args.listen, "agent listening on {}", args.listen);
    let options = Options {
        interface: args.net.clone(),
        node: crate::protect::node(),
        security,
        reserve: !args.no_reserve,
        fault: args.fault,
        tls_dir: args.tls_dir.as_ref().map_or(String::new(), |d| absolute(d)),
    };
    let mut children = Children::default();
    loop {
        let ready = wait(listener.as_raw_fd(), &children);
        for fd in ready {
            if fd != listener.as_raw_fd() {
                children.knocks.heard(fd);
                children.standbys.heard(fd);
            } else if let Ok((conn, _)) = listener.accept() {
                start(conn, &listener, &mut children, &options);
            }
        }
        loop {
            // SAFETY: our own children.
            let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
            if pid <= 0 {
                break;
            }
            children.knocks.ended(pid);
        }
    }
}

/// The agent's processes, a link each.
#[derive(Default)]
struct Children {
    standbys: Standbys,
    knocks: Knocks,
}

/// The keys are read again by the process of an image, wherever that is.
fn absolute(dir: &Path) -> String {
    std::path::absolute(dir).map_or_else(|_| String::new(), |d| d.to_string_lossy().into_owned())
}

/// Descriptors on which something has come.
fn wait(listener: i32, children: &Children) -> Vec<i32> {
    let all = std::iter::once(listener)
        .chain(children.standbys.fds())
        .chain(children.knocks.fds());
    let mut polled: Vec<libc::pollfd> = all
        .map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // SAFETY: valid entries.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
    polled.iter().filter(|p| p.revents != 0).map(|p| p.fd).collect()
}

/// A process for a link.
fn start(conn: TcpStream, listener: &TcpListener, children: &mut Children, options: &Options) {
    let channels = children
        .standbys
        .channel()
        .and_then(|to_agent| Ok((to_agent, Knocks::channel()?)));
    let (to_agent, (unproved, end)) = match channels {
        Ok(c) => c,
        Err(e) => {
            tracing::error!("agent: a channel: {e}");
            return;
        }
    };
    let from = conn.peer_addr().ok().map(|a| a.ip());
    // SAFETY: one thread; the child goes on as a process of its own.
    match unsafe { libc::fork() } {
        0 => {
            // Held open here, the others' ends would hide that the agent has gone.
            drop((std::mem::take(children), end));
            // SAFETY: plain calls. The agent's end is the standby's. The listener is the agent's.
            unsafe {
                libc::close(listener.as_raw_fd());
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            }
            let code = standby::serve(conn, to_agent, unproved, options);
            std::process::exit(code)
        }
        -1 => tracing::error!("agent: fork: {}", std::io::Error::last_os_error()),
        pid => {
            let peer = from.map_or("an unknown host".to_string(), |a| a.to_string());
            tracing::debug!(peer, child = pid, "agent: a link from {peer}: process {pid}");
            if let Some(line) = children.knocks.add(end, pid, from) {
                tracing::warn!("agent: links: {line}");
            }
        }
    }
}

/// `agent` in the first process of an image that was taken over, or comes from another host.
pub fn inside() -> i32 {
    if let Some(failure) = crate::migrate::target::inside() {
        super::run::gave_up(failure);
    }
    let Some(meta) = Meta::inherited() else {
        super::run::gave_up((1, "agent: nothing to take over".to_string()));
    };
    super::run::gave_up(restore::take_over(meta))
}
