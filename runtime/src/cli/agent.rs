//! `ftvm agent`: keeps images of other hosts ready to go on here.

use super::say;
use crate::protect::standby::{self, Meta, Options};
use crate::snap::restore;
use std::net::TcpListener;

/// Options of `agent`.
#[derive(clap::Args)]
pub struct AgentArgs {
    /// Address to listen on for primaries
    #[arg(long, value_name = "ADDR:PORT")]
    listen: String,
    /// Host interface on which images' addresses live after a takeover
    #[arg(long, value_name = "IF", default_value = "")]
    net: String,
    /// Talk without encryption and without proof of who the peer is: for tests on one machine only
    #[arg(long)]
    insecure: bool,
}

/// `agent` in the user's process.
pub fn outside(args: &AgentArgs) -> i32 {
    if !args.insecure {
        say("agent: links without TLS need --insecure; TLS is not there yet");
        return 2;
    }
    let listener = match TcpListener::bind(&args.listen) {
        Ok(l) => l,
        Err(e) => {
            say(&format!("agent: listening on {}: {e}", args.listen));
            return 1;
        }
    };
    eprintln!("ftvm: agent listening on {}", args.listen);
    let options = Options {
        interface: args.net.clone(),
        node: u64::from(std::process::id()),
    };
    for conn in listener.incoming().flatten() {
        // SAFETY: one thread; the child goes on as a process of its own.
        match unsafe { libc::fork() } {
            0 => {
                drop(listener);
                // SAFETY: plain calls. The agent's end is the standby's.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
                let code = standby::serve(conn, &options);
                std::process::exit(code);
            }
            -1 => say(&format!("agent: fork: {}", std::io::Error::last_os_error())),
            _ => drop(conn),
        }
        // Ended standbys are collected when the next primary comes.
        // SAFETY: our own children.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
    }
    0
}

/// `agent` in the first process of an image that was taken over.
pub fn inside() -> i32 {
    let Some(meta) = Meta::inherited() else {
        super::run::gave_up((1, "agent: nothing to take over".to_string()));
    };
    super::run::gave_up(restore::take_over(meta))
}
