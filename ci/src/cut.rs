//! A run that is cut: at pseudo-random entries of its kernel, or where the program says so ([`held`]), the image is written to a file and
//! everything ends; fresh processes go on from the file. Together the parts must do what the program does uncut.
//!
//! With `FTL_HELD` the snapshots hold the working directory, which each part finds empty: it goes on with a copy of its own.
//!
//! For root each part runs in a network namespace of its own (for others, of programs that listen). `FTL_CUTS` is the number of cuts (3; 10 with `FTL_FULL`), `FTL_SEED`
//! moves them.

use std::env;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::bounded::{self, Group, Outcome};
use crate::modes::{self, Invocation};
use crate::place::{self, Scratch};
use ftl_lab::own_net;

/// The number of entries that a step with `--count-entries {side}/entries` made.
pub fn entries(scratch: &Scratch) -> Result<u64, String> {
    let path = scratch.side().join("entries");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("number of entries: {e}"))?;
    text.trim().parse().map_err(|e| format!("number of entries: {e}"))
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name)
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

/// Where to cut a run of `total` entries: ascending, and the same for the same program and seed.
pub fn places(name: &str, total: u64, cuts: u64, seed: u64) -> Vec<u64> {
    let mut found: Vec<u64> = (0..cuts)
        .map(|n| {
            let mut hasher = DefaultHasher::new();
            (name, seed, n).hash(&mut hasher);
            // The last entries of a run that another run may not reach are left alone.
            1 + hasher.finish() % (total - total / 8).max(1)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Runs the program in parts and returns what they did together.
pub fn run(what: &Invocation, total: u64) -> Result<Outcome, String> {
    let mut why = String::new();
    // A program that looks at the clock makes another number of entries each time.
    for total in [total, total / 4, total / 16] {
        let scratch = Scratch::new().map_err(|e| format!("no scratch directory: {e}"))?;
        match parts(what, total, &scratch)? {
            Ok(outcome) => return Ok(outcome),
            Err(uncut) => why = uncut,
        }
    }
    Err(why)
}

/// [`run`] with a guess of the number of entries; what was seen if there was no cut.
fn parts(what: &Invocation, total: u64, scratch: &Scratch) -> Result<Result<Outcome, String>, String> {
    let cuts = match env::var_os("FTL_FULL") {
        Some(_) => 10,
        None => 3,
    };
    let places = places(what.name, total, number("FTL_CUTS", cuts), number("FTL_SEED", 1));
    let input = what
        .stdin
        .map(bounded::input)
        .transpose()
        .map_err(|e| e.to_string())?;
    let held = env::var_os("FTL_HELD").is_some();
    let mut whole: Option<Outcome> = None;
    let mut from: Option<PathBuf> = None;
    for n in 0..=places.len() {
        let mut command = Command::new(place::ftvm()?);
        command.arg(if from.is_some() { "restore" } else { "run" });
        let to = scratch.side().join(format!("cut{n}"));
        if let Some(at) = places.get(n) {
            command.arg("--checkpoint-at").arg(at.to_string());
            command.arg("--checkpoint-to").arg(&to);
            if held {
                command.arg("--checkpoint-volumes");
            }
        }
        match &from {
            Some(from) => drop(command.arg(pages_by(n)).arg(from)),
            None => drop(command.arg("--").arg(what.program).args(what.args)),
        }
        modes::surround(&mut command, what, scratch);
        if held && from.is_some() {
            // Where the copies are. The program has the environment of the first part.
            for (name, dir) in [("XDG_STATE_HOME", "state"), ("XDG_DATA_HOME", "data")] {
                command.env(name, scratch.side().join(dir));
            }
        }
        // As on another host; and between the parts nobody holds the port of a listening socket, which another trial
        // could take.
        if what.listens || own_net::is_all() {
            own_net::give(&mut command);
        }
        let stdin = match &input {
            Some(pipe) => Stdio::from(pipe.try_clone().map_err(|e| e.to_string())?),
            None => Stdio::null(),
        };
        // Each part has the time of a whole run: most of what it takes is the start from a snapshot.
        let part = bounded::run_from(command, stdin, what.limit).map_err(|e| format!("cannot run: {e}"))?;
        let on = part.code == 0 && to.exists();
        whole = Some(match whole {
            None => part,
            Some(mut w) => {
                w.stdout.extend(part.stdout);
                w.stderr
                    .extend(format!("--- restored, part {n} of cuts {places:?}\n").bytes());
                w.stderr.extend(part.stderr);
                Outcome {
                    stdout: w.stdout,
                    stderr: w.stderr,
                    left_behind: w.left_behind || part.left_behind,
                    ..part
                }
            }
        });
        if !on {
            break;
        }
        if held {
            // What it goes on with is in the snapshot.
            let gone = scratch.side().join(format!("gone{n}"));
            std::fs::rename(scratch.cwd(), gone)
                .and_then(|()| std::fs::create_dir(scratch.cwd()))
                .map_err(|e| format!("a new working directory: {e}"))?;
        }
        from = Some(to);
    }
    match (whole, from) {
        (Some(w), Some(_)) => Ok(Ok(w)),
        (Some(w), None) => Ok(Err(format!(
            "no snapshot was written at {places:?}\n{}",
            w.tail()
        ))),
        (None, _) => Err("nothing was run".into()),
    }
}

/// How part `n` gets its private pages: they are in place before it goes on, or read when they are touched.
fn pages_by(n: usize) -> &'static str {
    if n % 2 == 1 { "--by-need" } else { "--whole" }
}

/// Lines of a program that is to be cut begin so (`guests/c/held.h`).
const HELD: &str = "held:";

/// How often the output is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Runs the program, and cuts it wherever it prints a line that begins with `HELD`: from there on until it gets a line of its input it is in
/// the state that it is about, in whatever process or thread. It gets that line when it goes on from the snapshot. Snapshots are taken in
/// all three ways by turns: by an image that ends with it, of one that goes on and is then killed, and as a change of another one.
pub fn held(what: &Invocation) -> Result<Outcome, String> {
    let scratch = Scratch::new().map_err(|e| format!("no scratch directory: {e}"))?;
    let (input, mut give) = std::io::pipe().map_err(|e| e.to_string())?;
    let paths = [scratch.side().join("stdout"), scratch.side().join("stderr")];
    let mut from: Option<PathBuf> = None;
    let outcome = |code: Option<i32>, left_behind| Outcome {
        code: code.unwrap_or(137),
        stdout: fs::read(&paths[0]).unwrap_or_default(),
        stderr: fs::read(&paths[1]).unwrap_or_default(),
        timed_out: code.is_none(),
        left_behind,
    };
    for n in 0.. {
        let name = format!("held{n}");
        let start = Instant::now();
        let mut command = Command::new(place::ftvm()?);
        match &from {
            Some(from) => drop(command.args(["restore", "--name", &name, pages_by(n)]).arg(from)),
            None => {
                command.args(["run", "--name", &name, "--"]);
                command.arg(what.program).args(what.args);
            }
        }
        surround_named(&mut command, what, &scratch);
        if what.listens || own_net::is_all() {
            own_net::give(&mut command);
        }
        let open = |path: &Path| File::options().create(true).append(true).open(path);
        let stream = |path| open(path).map_err(|e| format!("a file for its output: {e}"));
        command.stdin(Stdio::from(input.try_clone().map_err(|e| e.to_string())?));
        command.stdout(stream(&paths[0])?).stderr(stream(&paths[1])?);
        let mut part = Group::start(command).map_err(|e| format!("cannot run: {e}"))?;
        if from.is_some() {
            give.write_all(b"\n").map_err(|e| e.to_string())?;
        }
        let limit = || what.limit.saturating_sub(start.elapsed());
        // The lines of this part; of those before it there are `n`.
        while lines_held(&paths[0]) <= n {
            if part.ended().map_err(|e| e.to_string())?.is_some() || limit().is_zero() {
                let code = part.wait(limit()).map_err(|e| e.to_string())?;
                if code.is_some() && lines_held(&paths[0]) == 0 {
                    return Err(format!(
                        "no line begins with {HELD}\n{}",
                        outcome(code, false).tail()
                    ));
                }
                return Ok(outcome(code, part.left_behind()));
            }
            thread::sleep(LOOK);
        }
        let to = scratch.side().join(format!("cut{n}.ftsnap"));
        let ways: &[&[&str]] = match n % 3 {
            0 => &[&[]],
            1 => &[&["--leave-running"]],
            _ => &[
                &["--leave-running", "--incremental"],
                &["--leave-running", "--incremental"],
            ],
        };
        for (at, way) in ways.iter().enumerate() {
            let to = if at + 1 < ways.len() {
                scratch.side().join(format!("parent{n}.ftsnap"))
            } else {
                to.clone()
            };
            let mut command = Command::new(place::ftvm()?);
            command
                .args(["checkpoint", &name, "--volumes", "share", "-o"])
                .arg(&to)
                .args(*way);
            surround_named(&mut command, what, &scratch);
            let taken = bounded::run(command, None, limit()).map_err(|e| format!("checkpoint: {e}"))?;
            if taken.code != 0 || taken.timed_out {
                let _ = part.kill();
                let said = taken.tail();
                return Err(format!(
                    "checkpoint {n}: exit code {}\n{said}\n{}",
                    taken.code,
                    outcome(Some(0), false).tail()
                ));
            }
        }
        if n % 3 == 0 {
            match part.wait(limit()).map_err(|e| e.to_string())? {
                Some(0) => {}
                code => {
                    return Err(format!(
                        "the image's end with checkpoint {n}: {code:?}\n{}",
                        outcome(code, false).tail()
                    ));
                }
            }
        } else {
            part.kill().map_err(|e| e.to_string())?;
        }
        if let Ok(mut said) = open(&paths[1]) {
            let _ = writeln!(said, "--- cut {n}");
        }
        from = Some(to);
    }
    Err("held too often".into())
}

/// As [`modes::surround`], with a place for a run that has a name.
fn surround_named(command: &mut Command, what: &Invocation, scratch: &Scratch) {
    modes::surround(command, what, scratch);
    command
        .env("XDG_STATE_HOME", scratch.side())
        .env("XDG_DATA_HOME", scratch.side());
}

/// How many whole lines of the output begin with [`HELD`].
fn lines_held(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap_or_default();
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split_inclusive(|b| *b == b'\n');
    lines.filter(|l| l.starts_with(HELD.as_bytes())).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ascending_inside_and_move_with_the_seed() {
        let a = places("x", 1000, 5, 1);
        assert!(a.windows(2).all(|w| w[0] < w[1]) && a.iter().all(|p| (1..=875).contains(p)));
        assert_eq!(a, places("x", 1000, 5, 1));
        assert_ne!(a, places("x", 1000, 5, 2));
        assert_eq!(places("x", 1, 3, 1), [1]);
    }
}
