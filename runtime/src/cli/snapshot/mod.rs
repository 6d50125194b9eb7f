//! `ftvm snapshot`: looks at snapshots and the page store without running anything.

mod compare;
mod gc;
mod inspect;
mod squash;
mod stored;
mod verify;

use crate::store::open::{Opener, passphrase};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What to do with snapshots.
#[derive(clap::Subcommand)]
pub enum SnapshotVerb {
    /// What a snapshot holds: exit 3 if it cannot be used
    Inspect(inspect::InspectArgs),
    /// Check every page of a snapshot and of its parents: exit 3 at the first that is damaged or missing
    Verify(verify::VerifyArgs),
    /// Write a snapshot and all that it is a change of as one
    Squash(squash::SquashArgs),
    /// List the snapshots in the page store
    Ls(stored::LsArgs),
    /// Put a snapshot into the page store, where snapshots share pages
    Add(stored::AddArgs),
    /// Remove snapshots from the page store
    Rm(stored::RmArgs),
    /// Remove from the page store the pages that no snapshot in it needs
    Gc(gc::GcArgs),
    /// Check whether two snapshots hold the same pages
    #[command(hide = true)]
    Compare(compare::CompareArgs),
}

/// How a snapshot is found and read.
#[derive(clap::Args)]
pub struct Source {
    /// File with the passphrase of an encrypted snapshot
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// A parent that is neither beside the snapshot nor in the page store; may be repeated
    #[arg(long, value_name = "FILE")]
    parent: Vec<PathBuf>,
    /// The snapshot: a file, or the first digits of a snapshot in the page store
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: PathBuf,
}

impl Source {
    /// The options, for another process.
    pub fn options(&self) -> Vec<OsString> {
        let absolute = |p: &Path| std::path::absolute(p).unwrap_or_else(|_| p.to_path_buf()).into();
        let words = self
            .passphrase_file
            .iter()
            .flat_map(|f| ["--passphrase-file".into(), absolute(f)]);
        let parents = self.parent.iter().flat_map(|p| ["--parent".into(), absolute(p)]);
        words.chain(parents).collect()
    }

    /// What opens it, for a process without a guest in it, or before it is there.
    pub fn opener(&self) -> Result<Opener, String> {
        let words = self.passphrase_file.as_deref().map(passphrase).transpose()?;
        let mut opener = Opener::new(words);
        opener.parents.clone_from(&self.parent);
        opener.wide = true;
        Ok(opener)
    }

    /// The same as arguments of another ftvm.
    pub fn words(&self) -> Vec<OsString> {
        let mut words = self.options();
        words.push(self.snapshot.clone().into());
        words
    }
}

/// Runs the verb; returns the exit code.
pub fn main(verb: &SnapshotVerb) -> i32 {
    let refused = crate::door::replay::EXIT_INCOMPATIBLE;
    let (done, code) = match verb {
        SnapshotVerb::Inspect(args) => (inspect::inspect(args), refused),
        SnapshotVerb::Compare(args) => (compare::compare(args), 4),
        SnapshotVerb::Verify(args) => (verify::verify(args), refused),
        SnapshotVerb::Squash(args) => return squash::squash(args),
        SnapshotVerb::Ls(args) => (stored::ls(args), 1),
        SnapshotVerb::Add(args) => (stored::add(args), 1),
        SnapshotVerb::Rm(args) => (stored::rm(args), 1),
        SnapshotVerb::Gc(args) => (gc::gc(args), 1),
    };
    match done {
        Ok(()) => 0,
        Err(why) => {
            super::say(&why);
            code
        }
    }
}

/// Seconds since 1970 as people write them.
fn utc(s: i64) -> String {
    let (days, day_s) = (s.div_euclid(86_400), s.rem_euclid(86_400));
    // Days from 1 March of year 0, in eras of 400 years (Hinnant, "chrono-compatible low-level date algorithms").
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{:02} {:02}:{:02}:{:02} UTC",
        doy - (153 * mp + 2) / 5 + 1,
        day_s / 3600,
        day_s / 60 % 60,
        day_s % 60
    )
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates() {
        for (s, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(super::utc(s), text);
        }
    }
}
