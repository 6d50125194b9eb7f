//! Protection (DESIGN §5-§7, PROTOCOL §3, §4): the protocol's machines of `ftl_core::replica`, given links,
//! memory and processes.
//!
//! * [`guard`]: the primary. The process that holds the token feeds the machine: records when they are
//!   written, outputs when they are made, the link's frames when it looks.
//! * [`standby`]: the backup. A process of the agent keeps snapshot and log; when it wins, the image's first
//!   process is made from its memory, replays, and goes live ([`golive`]).
//! * [`arbiter`]: who decides. [`chunk`]: pages on the link. [`links`]: links that come to the agent. [`roots`]: an image's root on
//!   its way to a host that has not got it. [`tree`]: the same of files of the host's tree.

pub mod arbiter;
pub mod chunk;
pub mod class;
pub mod connect;
pub mod etcd;
pub mod golive;
pub mod guard;
pub mod links;
pub mod memory;
pub mod pipe;
mod room;
pub mod roots;
pub mod standby;
pub mod status;
mod strangers;
pub mod top;
pub mod tree;

use ftl_core::clock::Clock;
use ftl_core::layout::CLOCK_ADDR;
use ftl_core::replica::primary::Phase;
use ftl_core::replica::{Config, OnSlow, Primary, Time, Unprotected};
use serde_json::{Value, json};

/// Exit code of an image whose place another node has taken (USERS).
pub const EXIT_FENCED: i32 = 5;

/// Environment variables that pass descriptors to the image's first process; never seen by the guest.
pub const ENV_PREFIX: &str = "FTVM_INTERNAL_";
/// Descriptor of the arbiter's channel.
pub const ENV_ARBITER: &str = "FTVM_INTERNAL_ARBITER";
/// Descriptor of what a takeover starts from.
pub const ENV_TAKEOVER: &str = "FTVM_INTERNAL_TAKEOVER";

/// Number of the node in the arbiter's register, hexadecimal: set by a cluster, whose nodes find out by it who is
/// primary. Without it, the process id.
pub const ENV_NODE: &str = "FTVM_INTERNAL_NODE";
/// Identity of an image that is to be started, hexadecimal: set by a cluster. Only one image of an identity can begin,
/// as only one can create the register.
pub const ENV_IMAGE: &str = "FTVM_INTERNAL_IMAGE";

fn hex_of(name: &str) -> Option<u64> {
    u64::from_str_radix(&std::env::var(name).ok()?, 16).ok()
}

/// Number of this node, see [`ENV_NODE`].
pub fn node() -> u64 {
    hex_of(ENV_NODE).unwrap_or_else(|| u64::from(std::process::id()))
}

/// Identity for the image that is being started, if somebody has chosen one: see [`ENV_IMAGE`].
pub fn chosen_image() -> Option<u64> {
    hex_of(ENV_IMAGE)
}

/// The image's logical time: its clock is at a fixed address.
pub fn image_time() -> Time {
    // SAFETY: the arena is mapped in every guest process; the page is made of Cells.
    let c = unsafe { &*(CLOCK_ADDR as *const Clock) };
    Time {
        e: c.e.get(),
        v: c.v.get(),
    }
}

/// Puts the machine's state where the supervisor sees it.
pub fn note_phase(phase: Phase, epoch: u32) {
    status::set(status::Figure::Role, status::PRIMARY);
    status::set(status::Figure::Phase, phase as u64);
    status::set(status::Figure::Epoch, u64::from(epoch));
}

/// What a user wants of protection.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Address of the backup's agent.
    pub peer: String,
    /// The arbiter's URL.
    pub arbiter: String,
    /// Name of the run.
    pub name: String,
    /// Network of the image, as `--net` has it.
    pub net: String,
    /// Directory of this node's keys; none: `--insecure`.
    pub tls_dir: Option<std::path::PathBuf>,
    /// Outputs leave before there is a backup.
    pub run_unprotected: bool,
    /// What both nodes go by.
    pub policy: Policy,
}

/// What the user wants of protection for as long as the image lives, whoever is its primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Shortest silence that counts as failure, ns (`--detect-after`).
    pub detect_ns: u64,
    /// Longest time that a takeover may replay, ns (`--max-recovery`).
    pub recovery_ns: u64,
    /// A backup that does not keep up is given up (`--on-slow-backup`).
    pub detach_slow: bool,
    /// What outputs wait for (`--commit`).
    pub commit: Commit,
    /// Most private memory that the image may have, bytes (`--memory`); 0: what its host has.
    pub memory: u64,
}

/// What outputs wait for, and what the log holds. All but the first are controls for measurements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Commit {
    /// The log, which holds what was not as predicted
    Predicted,
    /// The log, which holds every answer of the host and every clock read: prediction off
    LogAll,
    /// A snapshot taken after them, as Remus does; one follows the other while outputs wait
    Snapshot,
}

impl Commit {
    /// As other processes of this build are told.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Of a code.
    pub fn of(code: u8) -> Option<Commit> {
        [Commit::Predicted, Commit::LogAll, Commit::Snapshot]
            .into_iter()
            .find(|c| c.code() == code)
    }
}

impl Policy {
    /// If the user says nothing.
    pub const DEFAULT: Policy = Policy {
        detect_ns: ftl_core::replica::config::DETECT_NS,
        recovery_ns: 50_000_000,
        detach_slow: false,
        commit: Commit::Predicted,
        memory: 0,
    };

    /// Makes it the machine's.
    pub fn apply(&self, cfg: &mut Config) {
        cfg.detect_min_ns = self.detect_ns;
        cfg.detect_max_ns = cfg.detect_max_ns.max(self.detect_ns);
        // Frames come often enough for that.
        cfg.heartbeat_ns = cfg.heartbeat_ns.min(self.detect_ns / 4).max(1);
        if self.detach_slow {
            cfg.on_slow = OnSlow::Detach;
        }
        if self.commit == Commit::Snapshot {
            cfg.commit = ftl_core::replica::config::Commit::Snapshot;
        }
    }
}

impl Wanted {
    /// In the image's first process: the guard of a fresh image.
    pub fn guard(&self, image: u64, plat: &mut crate::platform::Plat) -> std::io::Result<guard::Guard> {
        use std::os::fd::{FromRawFd, OwnedFd};
        let fd: i32 = std::env::var(ENV_ARBITER)
            .ok()
            .and_then(|v| v.parse().ok())
            .unwrap_or(-1);
        if fd < 0 {
            return Err(std::io::Error::other("no channel to the arbiter"));
        }
        // SAFETY: the supervisor left it open for us.
        let arbiter = arbiter::Client::new(unsafe { OwnedFd::from_raw_fd(fd) }, image);
        plat.watch_link(arbiter.fd());
        let mut cfg = Config::new(image, standby::incarnation(node()));
        cfg.build = crate::door::record::build_id();
        if self.run_unprotected {
            cfg.unprotected = Unprotected::Run;
        }
        self.policy.apply(&mut cfg);
        let intro = Intro {
            image,
            name: self.name.clone(),
            net: self.net.clone(),
            arbiter: self.arbiter.clone(),
            policy: self.policy,
        };
        crate::cli::state::note_image(&self.name, image);
        status::set(status::Figure::Image, image);
        let mut guard = guard::Guard::new(
            Primary::new(cfg),
            Some(self.peer.clone()),
            intro,
            arbiter,
            security(self.tls_dir.as_deref())?,
            roots::Client::inherited(image),
        );
        guard.step(plat, ftl_core::replica::primary::Input::Start);
        Ok(guard)
    }
}

/// How links of this process are secured.
pub fn security(tls_dir: Option<&std::path::Path>) -> std::io::Result<crate::link::Security> {
    crate::link::Security::from_options(tls_dir, tls_dir.is_none()).map_err(std::io::Error::other)
}

/// What a primary says first on a link: whose image this is, and what its backup needs to become it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intro {
    /// Identity of the image.
    pub image: u64,
    /// Name of the run.
    pub name: String,
    /// Network of the image: address and MAC, as `--net` has them.
    pub net: String,
    /// The arbiter's URL.
    pub arbiter: String,
    /// What both nodes go by.
    pub policy: Policy,
}

/// What a link says in the clear before its handshake: that it is one, and for which image, so that the agent
/// knows whose process it is for. Nothing is believed of it.
pub fn knock(image: u64) -> [u8; KNOCK_LEN] {
    let mut b = [0; KNOCK_LEN];
    b[..8].copy_from_slice(KNOCK);
    b[8..].copy_from_slice(&image.to_le_bytes());
    b
}

const KNOCK: &[u8; 8] = b"FTVMLINK";
/// Bytes of a knock.
pub const KNOCK_LEN: usize = 16;

/// Which image a link is for; `None`: it is no link of ours.
pub fn knocked(b: &[u8; KNOCK_LEN]) -> Option<u64> {
    (b[..8] == *KNOCK).then(|| u64::from_le_bytes(std::array::from_fn(|i| b[8 + i])))
}

/// No introduction is longer.
pub const INTRO_MAX: usize = 64 << 10;

impl Intro {
    /// Length and JSON.
    pub fn encode(&self) -> Vec<u8> {
        let v = json!({
            "version": 1,
            "image": format!("{:x}", self.image),
            "name": self.name,
            "net": self.net,
            "arbiter": self.arbiter,
            "detect_ns": self.policy.detect_ns,
            "recovery_ns": self.policy.recovery_ns,
            "detach_slow": self.policy.detach_slow,
            "commit": self.policy.commit.code(),
            "memory": self.policy.memory,
        });
        let text = v.to_string();
        let mut out = (text.len() as u32).to_le_bytes().to_vec();
        out.extend(text.as_bytes());
        out
    }

    /// Reads one that has come.
    pub fn decode(text: &[u8]) -> Result<Intro, String> {
        let bad = |what: &str| format!("a peer's introduction is {what}; is it an ftvm of this version?");
        let v: Value = serde_json::from_slice(text).map_err(|_| bad("not JSON"))?;
        if v["version"] != 1 {
            return Err(bad("of another version"));
        }
        let field = |name: &str| {
            v[name]
                .as_str()
                .map(str::to_string)
                .ok_or_else(|| bad("incomplete"))
        };
        let number = |name: &str| {
            v[name]
                .as_u64()
                .filter(|n| *n > 0)
                .ok_or_else(|| bad("incomplete"))
        };
        Ok(Intro {
            policy: Policy {
                detect_ns: number("detect_ns")?,
                recovery_ns: number("recovery_ns")?,
                detach_slow: v["detach_slow"].as_bool().ok_or_else(|| bad("incomplete"))?,
                commit: v["commit"]
                    .as_u64()
                    .and_then(|c| Commit::of(u8::try_from(c).ok()?))
                    .ok_or_else(|| bad("incomplete"))?,
                memory: v["memory"].as_u64().ok_or_else(|| bad("incomplete"))?,
            },
            image: u64::from_str_radix(&field("image")?, 16).map_err(|_| bad("damaged"))?,
            // It becomes the name of a directory.
            name: crate::cli::options::run_name(&field("name")?)?,
            net: field("net")?,
            arbiter: field("arbiter")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_names_a_run_and_no_path() {
        let mut intro = Intro {
            image: 7,
            name: "kv".to_string(),
            net: String::new(),
            arbiter: "file:x".to_string(),
            policy: Policy::DEFAULT,
        };
        assert_eq!(Intro::decode(&intro.encode()[4..]), Ok(intro.clone()));
        for bad in ["", "..", "../x", "/tmp/x", ".moves", "a/b"] {
            intro.name = bad.to_string();
            assert!(Intro::decode(&intro.encode()[4..]).is_err(), "{bad}");
        }
    }
}
