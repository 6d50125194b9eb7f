//! What a log must stand: writers that are killed, disks that fill, bytes that were changed; and what is done with logs.
//!
//! `cargo test -p ftl-ci --test record`. Environment: `FTVM_BIN`; `FTL_KILLS` (recordings killed, 100; 12 when
//! `FTL_SAMPLE` is set), `FTL_DAMAGES` (logs changed at random, 300; 60), `FTL_SEED` (of the random choices).

mod anchors;
mod chaos;
mod damage;
mod gdb;
mod kills;
mod uses;

use ftl_ci::bounded::{self, Outcome};
use ftl_ci::place::{self, Scratch};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// No recording or replay in here takes as long, on a machine that is busy elsewhere too.
const LIMIT: Duration = Duration::from_secs(300);

/// A number from the environment, or what is right for a full run or a sample.
fn count(name: &str, full: usize, sample: usize) -> usize {
    let sampled = std::env::var_os("FTL_SAMPLE").is_some();
    let given = std::env::var(name).ok().and_then(|v| v.parse().ok());
    given.unwrap_or(if sampled { sample } else { full })
}

/// Reproducible choices: splitmix64.
struct Random(u64);

impl Random {
    /// Seeded by `FTL_SEED`, or by the clock; the seed is printed.
    fn new(what: &str) -> Random {
        let given = std::env::var("FTL_SEED").ok().and_then(|v| v.parse().ok());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = given.unwrap_or_else(|| now.map_or(1, |d| d.as_nanos() as u64));
        println!("{what}: FTL_SEED={seed}");
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// `ftvm VERB` in a test's own directory, with a small environment.
fn ftvm(scratch: &Scratch, args: &[&dyn AsRef<OsStr>]) -> Command {
    let mut c = Command::new(place::ftvm().expect("an ftvm to test"));
    c.args(args.iter().map(|a| a.as_ref())).env_clear();
    c.env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", scratch.cwd())
        .env("XDG_RUNTIME_DIR", scratch.side())
        .env("LANG", "C.UTF-8");
    c.current_dir(scratch.cwd());
    c
}

fn run(command: Command) -> Outcome {
    bounded::run(command, None, LIMIT).expect("ftvm starts")
}

fn replay(scratch: &Scratch, log: &Path) -> Outcome {
    run(ftvm(scratch, &[&"replay", &log]))
}

/// Compiles a C program of the repository's guests.
fn guest(scratch: &Scratch, source: &str, flags: &[&str]) -> PathBuf {
    let from = place::repository().join("guests/c").join(source);
    let to = scratch.side().join("guest");
    let cc = Command::new("gcc")
        .args(["-std=gnu11", "-O1", "-pthread"])
        .args(flags)
        .arg("-o")
        .args([&to, &from])
        .status();
    assert!(cc.is_ok_and(|s| s.success()), "compiling {source}");
    to
}
