//! `run --checkpoint-every`: a thread of the supervisor that writes a snapshot at an interval.
//!
//! `FILE` is there, and whole, at all times. With `--checkpoint-changes N` up to N snapshots behind a whole one have only what has
//! changed since the one before, so those that `FILE` is made of lie beside it, as `FILE.NUMBER.ftsnap`: numbers go up, and a
//! file stays as long as `FILE` or the snapshot before it needs it.

use crate::control::{self, HOW_CHANGES, HOW_GO_ON, HOW_SHARE, ORDER_NONE};
use crate::orders;
use crate::snap::live::{self, Owner};
use crate::store::file::sync_names;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// What is wanted.
struct Every {
    interval: Duration,
    path: PathBuf,
    /// Most snapshots in a row that have only what has changed.
    changes: u32,
}

static EVERY: OnceLock<Every> = OnceLock::new();

/// Snapshots are to be written to `path` at this interval, before the supervisor starts. `changes`: most of them in a row that
/// have only what has changed.
pub fn set(interval: Duration, path: PathBuf, changes: u32) {
    let _ = EVERY.set(Every {
        interval,
        path,
        changes,
    });
}

/// Starts to write snapshots as [`set`] says.
pub fn begin() {
    let Some(every) = EVERY.get() else {
        return;
    };
    std::thread::spawn(move || {
        let mut said = String::new();
        let mut files = Files::of(&every.path);
        loop {
            std::thread::sleep(every.interval);
            match one_more(&mut files, every.changes) {
                Ok(()) => said.clear(),
                // The same trouble is told once.
                Err(why) if why != said => {
                    tracing::warn!("--checkpoint-every: {why}; the last snapshot stays as it is");
                    said = why;
                }
                Err(_) => {}
            }
        }
    });
}

/// `FILE`, and what lies beside it.
struct Files {
    path: PathBuf,
    /// Number that the snapshot in `FILE` gets when the next takes its place.
    number: u64,
    /// Number of the whole snapshot that it is a change of, over so many others.
    base: u64,
    /// The same of the snapshot before it.
    base_before: u64,
    /// Changes since the whole one.
    changes: u32,
}

impl Files {
    /// What an earlier run has left keeps its names until there are two snapshots of this one.
    fn of(path: &Path) -> Files {
        let next = numbered(path).last().map_or(0, |n| n + 1);
        Files {
            path: path.to_path_buf(),
            number: next,
            base: 0,
            base_before: 0,
            changes: 0,
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }

    fn kept(&self, number: u64) -> PathBuf {
        self.beside(&format!(".{number}.ftsnap"))
    }

    /// The snapshot in `new` takes the place of the last one, which stays as `FILE.1` or, where changes are written, under its
    /// number.
    fn publish(&mut self, new: &Path, is_change: bool, numbers: bool) -> Result<(), String> {
        let bad = |e: std::io::Error| format!("{}: {e}", self.path.display());
        let link = self.beside(".link");
        if self.path.exists() {
            let old = match numbers {
                true => self.kept(self.number),
                false => self.beside(".1"),
            };
            let _ = std::fs::remove_file(&link);
            std::fs::hard_link(&self.path, &link).map_err(bad)?;
            std::fs::rename(&link, &old).map_err(bad)?;
        }
        std::fs::rename(new, &self.path).map_err(bad)?;
        if numbers {
            self.number += 1;
            self.base_before = self.base;
            self.changes += 1;
            if !is_change {
                (self.base, self.changes) = (self.number, 0);
            }
        }
        // Before anything is removed that the old names need.
        sync_names(&self.path).map_err(bad)?;
        if !numbers {
            return Ok(());
        }
        for n in numbered(&self.path).into_iter().filter(|n| *n < self.base_before) {
            // One that stays is only in the way.
            let _ = std::fs::remove_file(self.kept(n));
        }
        Ok(())
    }
}

/// Numbers of the files that belong to `path`, ascending.
fn numbered(path: &Path) -> Vec<u64> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let number = |e: std::fs::DirEntry| {
        let found = e.file_name();
        let rest = found.as_encoded_bytes().strip_prefix(name)?.strip_prefix(b".")?;
        let digits = std::str::from_utf8(rest.strip_suffix(b".ftsnap")?).ok()?;
        let n: u64 = digits.parse().ok()?;
        (n.to_string() == digits).then_some(n)
    };
    let all = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<u64> = all.filter_map(number).collect();
    found.sort_unstable();
    found
}

fn one_more(files: &mut Files, most_changes: u32) -> Result<(), String> {
    let new = files.beside(".new");
    crate::hooks::before_checkpoint()?;
    // Of a run that ended before it was published.
    let _ = std::fs::remove_file(&new);
    let done = {
        let _turn = orders::turn();
        // SAFETY: mapped by the supervisor at its start.
        let order = unsafe { &control::get().order };
        let mut how = HOW_GO_ON | HOW_SHARE;
        if most_changes > 0 {
            how |= HOW_CHANGES;
            if files.changes >= most_changes {
                live::end_series();
            }
        }
        let done = live::checkpoint(&new, (how, Owner::Every), None, None, None);
        order.set(ORDER_NONE, b"");
        done?
    };
    let published = files.publish(&new, done.parent.is_some(), most_changes > 0);
    if published.is_err() {
        // Nobody has what the next would be a change of.
        let _ = std::fs::remove_file(&new);
        live::end_series();
    }
    published
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_as_long_as_they_are_needed() {
        let dir = std::env::temp_dir().join(format!("ftvm-every-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).expect("made");
        let path = dir.join("x");
        let write = |name: &str, what: &str| std::fs::write(dir.join(name), what).expect("written");
        let text = |name: &str| std::fs::read_to_string(dir.join(name)).expect("read");
        // Of an earlier run; two that are none of them.
        write("x", "old");
        write("x.7.ftsnap", "old base");
        write("x.07.ftsnap", "other");
        write("xx.3.ftsnap", "other");
        let mut files = Files::of(&path);
        // W: a whole one, c: a change.
        for (n, kind) in "WccWccW".bytes().enumerate() {
            write("x.new", &n.to_string());
            files
                .publish(&dir.join("x.new"), kind == b'c', true)
                .expect("published");
            assert_eq!(text("x"), n.to_string());
            let found = numbered(&path);
            let wanted: &[u64] = match n {
                // The one before is of the earlier run.
                0 => &[7, 8],
                // Snapshot n has number 9 + n when the next takes its place.
                1 => &[9],
                2 => &[9, 10],
                3 => &[9, 10, 11],
                4 => &[12],
                5 => &[12, 13],
                _ => &[12, 13, 14],
            };
            assert_eq!(found, wanted, "behind snapshot {n}");
            if n > 0 {
                assert_eq!(text(&format!("x.{}.ftsnap", 8 + n)), (n - 1).to_string());
            }
        }
        assert_eq!(
            (text("x.07.ftsnap"), text("xx.3.ftsnap")),
            ("other".into(), "other".into())
        );
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
