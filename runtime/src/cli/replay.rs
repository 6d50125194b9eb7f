//! `ftvm replay`: from the log's beginning, from a snapshot, or from the anchor before a place that is to be seen.

use super::run;
use crate::door::anchor;
use crate::door::read::Reader;
use crate::door::replay::{EXIT_INCOMPATIBLE, Replayer, Stop};
use crate::gdb;
use crate::run::{EXIT_FAILED, Start, boot};
use crate::snap::file::FromFiles;
use crate::snap::restore;
use crate::supervisor::{self, Image};
use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Options of `replay`.
#[derive(clap::Args)]
pub struct ReplayArgs {
    /// Print every system call to stderr, as strace does
    #[arg(long)]
    strace: bool,
    /// Stop before the first instruction, or where --at says, and wait for gdb on this port of 127.0.0.1 (0: any,
    /// printed): breakpoints, watchpoints, steps, threads, memory, and back again (reverse-continue, reverse-step). Nothing
    /// can be changed
    #[arg(long, value_name = "PORT")]
    gdb: Option<u16>,
    /// Descriptor of the gdb server that started this replay
    #[arg(long, hide = true, value_name = "FD")]
    gdb_agent: Option<i32>,
    /// Start from this snapshot of the recorded image (`ftvm checkpoint --leave-running`) instead of from
    /// the beginning
    #[arg(long, value_name = "FILE", conflicts_with = "at")]
    from: Option<PathBuf>,
    /// Start from the log's last snapshot (`record --anchor-every`) before a place, and stop there: the image's last call
    /// (end; without --gdb the replay just ends), what a signal ended it for (crash), after N kernel entries, or at a
    /// time of the image since it began, as in time:90s or time:12.5
    #[arg(long, value_name = "end|crash|event:N|time:T", value_parser = at)]
    at: Option<At>,
    /// Number of the anchor to start from; 0: the beginning
    #[arg(long, hide = true, value_name = "N")]
    anchor: Option<u32>,
    /// Number of the anchor to compare the image with, at the end
    #[arg(long, hide = true, value_name = "N", requires = "anchor")]
    until: Option<u32>,
    /// Which of two replays that are compared this is
    #[arg(long, hide = true, value_name = "N", default_value_t = 0)]
    poison: u8,
    /// File for what the two have to settle
    #[arg(long, hide = true, value_name = "FILE")]
    candidates: Option<PathBuf>,
    /// Where to stop
    #[arg(long, hide = true, value_name = "after:N|before:N|time:NS", value_parser = stop)]
    stop: Option<Stop>,
    /// File to be told how the replay ended
    #[arg(long, hide = true, value_name = "FILE")]
    probe: Option<PathBuf>,
    /// Directory of the log
    #[arg(value_name = "LOG")]
    log: PathBuf,
}

/// A place in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    End,
    Crash,
    /// Kernel entries.
    Event(u64),
    /// ns since the image began.
    Time(u64),
}

fn at(text: &str) -> Result<At, String> {
    let wrong =
        || format!("{text:?} is no place in a log: write end, crash, event:N or time:T, as in time:90s");
    match text.split_once(':') {
        None if text == "end" => Ok(At::End),
        None if text == "crash" => Ok(At::Crash),
        Some(("event", n)) => n.parse().map(At::Event).map_err(|_| wrong()),
        Some(("time", t)) => ns(t).map(At::Time).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// `90`, `12.5`, `90s`, `250ms`, `10m`, `2h` in ns.
fn ns(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: u64 = whole.parse().ok()?;
    if part.len() > 9 || !part.bytes().all(|b| b.is_ascii_digit()) || digits.ends_with('.') {
        return None;
    }
    let scale = 10u128.pow(part.len() as u32);
    let part: u128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let part = u64::try_from(part * u128::from(unit) / scale).ok()?;
    whole.checked_mul(unit)?.checked_add(part)
}

fn stop(text: &str) -> Result<Stop, String> {
    let (what, n) = text.split_once(':').unwrap_or_default();
    let n = n.parse().map_err(|_| format!("{text:?}: no number"))?;
    match what {
        "after" => Ok(Stop::After(n)),
        "before" => Ok(Stop::Before(n)),
        "time" => Ok(Stop::Time(n)),
        _ => Err(format!("{text:?}: no such stop")),
    }
}

fn show(stop: Stop) -> String {
    match stop {
        Stop::After(n) => format!("after:{n}"),
        Stop::Before(n) => format!("before:{n}"),
        Stop::Time(ns) => format!("time:{ns}"),
    }
}

/// What the options say to a replay.
struct Stops {
    stop: Option<Stop>,
    probe: Option<PathBuf>,
    until: Option<u32>,
    candidates: Option<PathBuf>,
}

static STOPS: OnceLock<Stops> = OnceLock::new();

/// In the guest process: what the options say to a replay that is about to begin.
pub fn stops(r: &mut Replayer) {
    if let Some(s) = STOPS.get() {
        r.stop = s.stop;
        r.until = s.until;
        r.probe.clone_from(&s.probe);
        r.candidates.clone_from(&s.candidates);
    }
    crate::door::compare::shift_host();
}

/// In the user's process.
pub fn outside(args: &ReplayArgs) -> i32 {
    if let Some(port) = args.gdb {
        return with_gdb(args, port);
    }
    if args.anchor.is_none() && args.from.is_none() {
        match choose(args) {
            Ok(None) => {}
            Ok(Some((anchor, stop))) => return again(args, anchor, stop),
            Err((code, why)) => {
                crate::talk::error(crate::talk::code_of(code), code, &why);
                return code;
            }
        }
    }
    supervisor::run(Image::Replay)
}

/// Serves gdb from outside of the replays that it is shown.
fn with_gdb(args: &ReplayArgs, port: u16) -> i32 {
    let chosen = match args.from.is_some() {
        true => Ok((0, None)),
        false => choose(args).map(|found| found.unwrap_or((0, None))),
    };
    let (anchor, stop) = match chosen {
        Ok(found) => found,
        Err((code, why)) => {
            crate::talk::error(crate::talk::code_of(code), code, &why);
            return code;
        }
    };
    let mut bases = vec![gdb::Base {
        anchor: 0,
        entries: 0,
    }];
    if args.from.is_none() {
        let others = anchor::list(&args.log).into_iter().map(|a| gdb::Base {
            anchor: a.number,
            entries: a.entries,
        });
        bases.extend(others);
        // A log whose beginning is gone starts at its first anchor.
        if !Reader::open(&args.log).is_ok_and(|log| log.is_from_start()) {
            bases.remove(0);
        }
    }
    let base = bases.iter().position(|b| b.anchor == anchor).unwrap_or(0);
    let plan = gdb::Plan {
        log: args.log.clone(),
        from: args.from.clone(),
        strace: args.strace,
        bases,
    };
    gdb::serve(port, plan, base, stop.map(show).as_deref())
}

/// Anchor to start from and place to stop at; none for a replay from the beginning to the end.
fn choose(args: &ReplayArgs) -> Result<Option<(u32, Option<Stop>)>, (i32, String)> {
    let log = Reader::open(&args.log).map_err(|why| (EXIT_INCOMPATIBLE, why))?;
    let anchors = anchor::list(&args.log);
    let first = match (log.is_from_start(), anchors.first()) {
        (true, _) => 0,
        (false, Some(a)) => a.number,
        (false, None) => {
            let why = format!(
                "log {}: its beginning is not there, and no anchor",
                args.log.display()
            );
            return Err((EXIT_INCOMPATIBLE, why));
        }
    };
    let last = |good: &dyn Fn(&anchor::File) -> bool| {
        let found = anchors.iter().rev().find(|a| good(a)).map_or(0, |a| a.number);
        match found < first {
            true => Err((
                1,
                format!("log {}: that was before what is kept of it", args.log.display()),
            )),
            false => Ok(found),
        }
    };
    Ok(match args.at {
        None if first == 0 => None,
        None => Some((first, None)),
        Some(At::Event(n)) => Some((last(&|a| a.entries <= n)?, Some(Stop::After(n)))),
        Some(At::Time(t)) => Some((last(&|a| a.ns <= t)?, Some(Stop::Time(t)))),
        Some(At::End) if args.gdb.is_none() => Some((last(&|_| true)?, None)),
        Some(what) => {
            let anchor = last(&|_| true)?;
            let stop = look_ahead(args, anchor, what == At::Crash)?;
            // What made the end may lie before the last anchor: then the one before it does.
            let entries = match stop {
                Stop::Before(n) | Stop::After(n) => n,
                Stop::Time(_) => 0,
            };
            Some((last(&|a| a.entries <= entries)?, Some(stop)))
        }
    })
}

/// Replays to the end in another process, and says where it is.
fn look_ahead(args: &ReplayArgs, anchor: u32, crash: bool) -> Result<Stop, (i32, String)> {
    let failed = |e: std::io::Error| (EXIT_FAILED, format!("looking ahead in the log: {e}"));
    // So that the replay, which has none, can reach our descriptors.
    let _ = crate::confine::drop_capabilities();
    // Memory of ours: a name in a folder of everybody's could be taken by somebody else.
    let fd = crate::protect::memory::memfd(c"ftvm-probe", 0).map_err(|e| (EXIT_FAILED, e))?;
    let file = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()));
    let done = Command::new("/proc/self/exe")
        .args(["replay", "--anchor", &anchor.to_string(), "--probe"])
        .arg(&file)
        .arg(&args.log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(failed)?;
    let told = std::fs::read_to_string(&file);
    let (status, entries, goes_on) = told.ok().and_then(|t| parse_end(&t)).ok_or_else(|| {
        let said = String::from_utf8_lossy(&done.stderr).trim_end().to_string();
        let said = said.strip_prefix("ftvm: ").unwrap_or(&said).to_string();
        (done.status.code().unwrap_or(EXIT_FAILED), said)
    })?;
    if let Some(s) = status.filter(|s| crash && s & 0x7f == 0) {
        let why = format!(
            "log {}: no signal ended the image: its exit code was {}; --at end shows its end",
            args.log.display(),
            s >> 8 & 0xff
        );
        return Err((1, why));
    }
    Ok(match goes_on {
        true => Stop::After(entries),
        false => Stop::Before(entries.saturating_sub(1)),
    })
}

fn parse_end(text: &str) -> Option<(Option<i32>, u64, bool)> {
    let mut words = text.split(' ');
    let status = match words.next()? {
        "none" => None,
        s => Some(s.parse().ok()?),
    };
    Some((status, words.next()?.parse().ok()?, words.next()? == "1"))
}

/// The guest process parses the same command line: what was found must be in it. Does not return when it succeeds.
fn again(args: &ReplayArgs, anchor: u32, stop: Option<Stop>) -> i32 {
    use std::os::unix::process::CommandExt;
    let mut list: Vec<OsString> = vec!["replay".into(), "--anchor".into(), anchor.to_string().into()];
    if let Some(stop) = stop {
        list.extend(["--stop".into(), show(stop).into()]);
    }
    if args.strace {
        list.push("--strace".into());
    }
    list.push("--".into());
    list.push(args.log.clone().into());
    let e = Command::new("/proc/self/exe").args(list).exec();
    super::say(&format!("starting itself again: {e}"));
    EXIT_FAILED
}

/// In the guest process.
pub fn inside(args: &ReplayArgs) -> i32 {
    if let Some(fd) = args.gdb_agent {
        crate::gdb::request(fd);
    }
    crate::door::compare::poison(args.poison);
    let _ = STOPS.set(Stops {
        stop: args.stop,
        probe: args.probe.clone(),
        until: args.until,
        candidates: args.candidates.clone(),
    });
    let from = match (&args.from, args.anchor) {
        (Some(from), _) => Some(from.clone()),
        (None, Some(n)) if n > 0 => match anchor_file(&args.log, n) {
            Ok(path) => Some(path),
            Err(why) => run::gave_up((EXIT_INCOMPATIBLE, why)),
        },
        _ => None,
    };
    if let Some(from) = from {
        let then = restore::Then::Replay(args.log.clone(), args.strace);
        run::gave_up(restore::boot(|| Box::new(FromFiles::plain(from)), then));
    }
    run::gave_up(boot(|| Start::Log(args.log.clone(), args.strace)))
}

fn anchor_file(log: &Path, number: u32) -> Result<PathBuf, String> {
    let found = anchor::list(log).into_iter().find(|a| a.number == number);
    found
        .map(|a| a.path)
        .ok_or_else(|| format!("log {}: no anchor {number}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_names() {
        assert_eq!(at("end"), Ok(At::End));
        assert_eq!(at("crash"), Ok(At::Crash));
        assert_eq!(at("event:0"), Ok(At::Event(0)));
        assert_eq!(at("time:12.5"), Ok(At::Time(12_500_000_000)));
        assert_eq!(at("time:250ms"), Ok(At::Time(250_000_000)));
        assert_eq!(at("time:1.5m"), Ok(At::Time(90_000_000_000)));
        for bad in [
            "",
            "start",
            "event:",
            "event:x",
            "time:",
            "time:1.",
            "time:1d",
            "time:-1",
            "time:1.1234567890",
        ] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stops_are_read_as_they_are_shown() {
        for s in [Stop::After(7), Stop::Before(0), Stop::Time(9)] {
            assert_eq!(stop(&show(s)), Ok(s));
        }
        assert!(stop("x:1").is_err() && stop("after").is_err());
    }

    #[test]
    fn an_end_is_read_as_it_is_told() {
        assert_eq!(parse_end("139 1234 0"), Some((Some(139), 1234, false)));
        assert_eq!(parse_end("none 5 1"), Some((None, 5, true)));
        assert_eq!(parse_end("none"), None);
    }
}
