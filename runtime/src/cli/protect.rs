//! The options by which `run` protects an image.

use crate::link::Security;
use crate::protect::{Commit, ENV_ARBITER, Policy, Wanted, arbiter, etcd, roots};
use std::os::fd::IntoRawFd;
use std::path::PathBuf;

/// Options of protection.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Protection")]
pub struct ProtectArgs {
    /// Keep a backup at this agent (`ftvm agent`): the image goes on there when this host dies; needs --arbiter
    #[arg(long, value_name = "ADDR:PORT")]
    protect: Option<String>,
    /// Who decides which node is primary: etcd://HOST:PORT[,HOST:PORT...], etcds:// for TLS (with etcd-ca.pem, etcd-cert.pem,
    /// etcd-key.pem and etcd-user in $FTVM_ARBITER_KEYS, else in --tls-dir), or file:PATH on a disk that both nodes see
    #[arg(long, value_name = "URL")]
    arbiter: Option<String>,
    /// Keys of this node (`ftvm keygen`)
    #[arg(long, value_name = "DIR")]
    tls_dir: Option<PathBuf>,
    /// Talk to the agent without encryption: for tests on one machine only
    #[arg(long)]
    insecure: bool,
    /// Outputs before the first backup is in sync: held, or sent unprotected [default: hold]
    #[arg(long, value_enum)]
    unprotected: Option<Before>,
    /// A backup that does not keep up: slow the image down, or go on without it [default: throttle]
    #[arg(long, value_enum)]
    on_slow_backup: Option<Slow>,
    /// Shortest silence of the other node that counts as its death; 40ms if it is not given. A busy host is silent for longer than
    /// an idle one; silence that is usual is waited for anyway, up to one second
    #[arg(long, value_name = "TIME", value_parser = super::options::interval)]
    detect_after: Option<std::time::Duration>,
    /// Longest time that a takeover may replay; 50ms if it is not given. More of it needs fewer snapshots
    #[arg(long, value_name = "TIME", value_parser = super::options::interval)]
    max_recovery: Option<std::time::Duration>,
    /// What outputs wait for: a control for measurements, which shows what the log and prediction are worth [default: predicted]
    #[arg(long, value_enum)]
    commit: Option<Commit>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Before {
    Hold,
    Run,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Slow {
    Throttle,
    Detach,
}

fn ns(given: Option<std::time::Duration>, default: u64) -> u64 {
    given.map_or(default, |d| d.as_nanos() as u64)
}

impl ProtectArgs {
    /// What is wanted, if anything. `memory`: the image's limit, if it has one.
    pub fn wanted(&self, name: Option<&str>, net: &str, memory: Option<u64>) -> Option<Wanted> {
        Some(Wanted {
            peer: self.protect.clone()?,
            arbiter: self.arbiter.clone()?,
            name: name.unwrap_or("image").to_string(),
            net: net.to_string(),
            tls_dir: self.tls_dir.clone(),
            run_unprotected: self.unprotected == Some(Before::Run),
            policy: Policy {
                detect_ns: ns(self.detect_after, Policy::DEFAULT.detect_ns),
                recovery_ns: ns(self.max_recovery, Policy::DEFAULT.recovery_ns),
                detach_slow: self.on_slow_backup == Some(Slow::Detach),
                commit: self.commit.unwrap_or(Policy::DEFAULT.commit),
                memory: memory.unwrap_or(0),
            },
        })
    }

    /// What an image's own `ftvm.toml` says, where the command line says nothing.
    pub fn fill(&mut self, own: &ftl_images::config::Protection) -> Result<(), String> {
        use ftl_images::config as c;
        let time = |name: &str, text: &Option<String>| {
            let parse =
                |t: &String| super::options::interval(t).map_err(|e| format!("protection.{name}: {e}"));
            text.as_ref().map(parse).transpose()
        };
        let (detect, recovery) = (
            time("detect-after", &own.detect_after)?,
            time("max-recovery", &own.max_recovery)?,
        );
        self.unprotected = self.unprotected.or(own.unprotected.map(|b| match b {
            c::Before::Hold => Before::Hold,
            c::Before::Run => Before::Run,
        }));
        self.on_slow_backup = self.on_slow_backup.or(own.on_slow_backup.map(|s| match s {
            c::SlowBackup::Throttle => Slow::Throttle,
            c::SlowBackup::Detach => Slow::Detach,
        }));
        self.detect_after = self.detect_after.or(detect);
        self.max_recovery = self.max_recovery.or(recovery);
        self.arbiter = self.arbiter.take().or_else(|| own.arbiter.clone());
        Ok(())
    }

    /// True if its memory would go to the backup unencrypted.
    pub fn in_the_clear(&self) -> bool {
        self.on() && self.insecure
    }

    /// True if the image is to be protected.
    pub fn on(&self) -> bool {
        self.protect.is_some()
    }

    /// In the user's process, before the supervisor starts: the channel to the arbiter. The thread that serves
    /// it belongs to the supervisor.
    /// `root`: name of the image's root.
    pub fn prepare(&self, root: Option<&[u8]>) -> Result<(), String> {
        let Some(peer) = &self.protect else {
            return Ok(());
        };
        let url = self.arbiter.as_ref().ok_or_else(|| {
            format!(
                "--protect {peer}: who decides which node is primary? name it with --arbiter etcd://HOST:PORT"
            )
        })?;
        let security = Security::from_options(self.tls_dir.as_deref(), self.insecure)
            .map_err(|why| format!("--protect {peer}: {why}"))?;
        roots::prepare(root, security).map_err(|e| format!("--protect {peer}: a channel: {e}"))?;
        let store = arbiter::open(url, etcd::keys_dir(self.tls_dir.as_deref()).as_deref())?;
        let (ours, theirs) = arbiter::channel().map_err(|e| format!("arbiter {url}: {e}"))?;
        arbiter::prepare(theirs, store);
        // SAFETY: no other thread yet.
        unsafe { std::env::set_var(ENV_ARBITER, ours.into_raw_fd().to_string()) };
        Ok(())
    }
}
