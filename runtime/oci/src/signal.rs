//! `kill`, `delete`, `pause` and `resume`.

use crate::state::{Container, Root, Saved, Status, pid, processes, stands};
use crate::{Why, hooks, plan};
use rustix::process::{Signal, kill_process};
use serde_json::json;
use std::time::{Duration, Instant};

/// Options of `kill`.
#[derive(clap::Args)]
pub struct KillArgs {
    /// Accepted: an image ends as a whole when its first process does
    #[arg(short, long)]
    all: bool,
    /// The container's id
    id: String,
    /// The signal, by name or number
    #[arg(default_value = "TERM")]
    signal: String,
}

/// Options of `delete`.
#[derive(clap::Args)]
pub struct DeleteArgs {
    /// Kill it first if it runs; not there is well too
    #[arg(short, long)]
    force: bool,
    /// The container's id
    id: String,
}

/// How long a killed process may take to end.
const END: Duration = Duration::from_secs(60);

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
fn number(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(n) = text.parse::<i32>() {
        return (1..=64).contains(&n).then_some(n);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |t: &str| t.parse::<i32>().ok().filter(|n| (0..=30).contains(n));
    match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => return Some(34),
        (_, Some("")) => return Some(64),
        (Some(rest), _) => return offset(rest.strip_prefix('+')?).map(|n| 34 + n),
        (_, Some(rest)) => return offset(rest.strip_prefix('-')?).map(|n| 64 - n),
        _ => {}
    }
    NAMES.iter().position(|n| *n == name).map(|n| n as i32 + 1)
}

/// `kill`
pub fn kill(root: &Root, args: &KillArgs) -> Result<(), Why> {
    let (c, saved) = root.find(&args.id)?;
    let signo = number(&args.signal).ok_or_else(|| format!("{}: unknown signal", args.signal))?;
    send(&c, &saved, signo)
}

/// Sends a signal to a container's first process.
pub fn send(c: &Container, saved: &Saved, signo: i32) -> Result<(), Why> {
    let failed = |why: &str| format!("cannot kill container {}: {why}", saved.id);
    match c.status(saved) {
        Status::Stopped => Err(failed("container not running")),
        // The waiting process takes it by itself; a KILL ends supervisor and image.
        Status::Creating | Status::Created => host_signal(saved, signo),
        _ if signo == Signal::KILL.as_raw() => host_signal(saved, signo),
        _ => match c.order(&json!({"verb": "signal", "signal": signo})) {
            // It ended meanwhile: nobody is there to take it.
            Err(_) if !saved.alive() => Ok(()),
            done => done.map_err(|why| failed(&why)),
        },
    }
}

fn host_signal(saved: &Saved, signo: i32) -> Result<(), Why> {
    let fail = |e: rustix::io::Errno| format!("signal {signo}: {}", crate::state::reason(&e.into()));
    let fd =
        rustix::process::pidfd_open(pid(saved.pid)?, rustix::process::PidfdFlags::empty()).map_err(fail)?;
    // The descriptor is of the process that it was a moment ago only if that is still there.
    if !saved.alive() {
        return Err("container not running".to_string());
    }
    // SAFETY: the number is that of a signal, 1 to 64; those that the C library keeps for itself are only sent.
    let signal = unsafe { Signal::from_raw_unchecked(signo) };
    rustix::process::pidfd_send_signal(&fd, signal).map_err(fail)
}

fn end(saved: &Saved) -> Result<(), Why> {
    // What it has left when it is gone does not matter here.
    let _ = host_signal(saved, Signal::KILL.as_raw());
    let limit = Instant::now() + END;
    while saved.alive() {
        if Instant::now() >= limit {
            return Err(format!(
                "process {} does not end: it hangs in the host's kernel",
                saved.pid
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// `delete`
pub fn delete(root: &Root, args: &DeleteArgs) -> Result<(), Why> {
    let (c, saved) = match root.find(&args.id) {
        Ok(found) => found,
        Err(_) if args.force && root.forget(&args.id)? => return Ok(()),
        Err(why) => return Err(why),
    };
    match c.status(&saved) {
        Status::Stopped => {}
        _ if args.force => end(&saved)?,
        s => {
            return Err(format!(
                "cannot delete container {} that is not stopped: it is {}",
                args.id,
                s.word()
            ));
        }
    }
    destroy(&c, &saved)
}

/// Forgets a container that has ended, and tells its poststop hooks.
pub fn destroy(c: &Container, saved: &Saved) -> Result<(), Why> {
    let text = std::fs::read_to_string(c.dir.join("config.json")).unwrap_or_default();
    let spec = plan::parse(&text).ok();
    c.remove()?;
    let hook = spec
        .as_ref()
        .and_then(|s| s.hooks().as_ref())
        .and_then(|h| h.poststop().as_ref());
    hooks::run_all("poststop", hook, &saved.json("stopped", 0));
    Ok(())
}

/// Sends a signal to every process of the image but its supervisor `pid`, until all are as they should be.
fn image(supervisor: i32, signal: Signal, longest: Duration, done: impl Fn(i32) -> bool) -> Result<(), Why> {
    let limit = Instant::now() + longest;
    loop {
        let rest: Vec<i32> = processes(supervisor)
            .into_iter()
            .skip(1)
            .filter(|p| !done(*p))
            .collect();
        if rest.is_empty() {
            return Ok(());
        }
        for p in rest {
            // One that has just ended needs none.
            let _ = kill_process(pid(p)?, signal);
        }
        if Instant::now() >= limit {
            return Err("the image's processes do not stop: one hangs in the host's kernel".to_string());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `pause`: the image's host processes stop; its supervisor goes on waiting for them.
pub fn pause(root: &Root, id: &str) -> Result<(), Why> {
    let (c, mut saved) = root.find(id)?;
    running(&c, &saved, Status::Running, "pause")?;
    // First, so that one who ends this process finds something to resume.
    saved.paused = true;
    c.save(&saved)?;
    let done = stop(saved.pid, END, stands);
    if done.is_err() {
        saved.paused = false;
        c.save(&saved)?;
    }
    done
}

/// Stops the image's processes: all, or none.
fn stop(supervisor: i32, longest: Duration, done: impl Fn(i32) -> bool) -> Result<(), Why> {
    image(supervisor, Signal::STOP, longest, done).inspect_err(|_| {
        // Those that have stopped. The first error is the one to tell.
        let _ = go_on(supervisor);
    })
}

fn go_on(supervisor: i32) -> Result<(), Why> {
    let ended = |p: i32| crate::state::start_of(p).is_none();
    image(supervisor, Signal::CONT, END, |p| !stands(p) || ended(p))
}

/// `resume`
pub fn resume(root: &Root, id: &str) -> Result<(), Why> {
    let (c, mut saved) = root.find(id)?;
    running(&c, &saved, Status::Paused, "resume")?;
    saved.paused = false;
    c.save(&saved)?;
    go_on(saved.pid)
}

/// An error if the container is in another state.
pub fn running(c: &Container, saved: &Saved, wanted: Status, verb: &str) -> Result<(), Why> {
    match c.status(saved) {
        s if s == wanted => Ok(()),
        s => Err(format!(
            "cannot {verb} container {}: it is {}, not {}",
            saved.id,
            s.word(),
            wanted.word()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{go_on, number, stop};
    use crate::state::{processes, stands};
    use std::time::Duration;

    #[test]
    fn a_pause_that_fails_stops_nothing() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 600 & wait"])
            .spawn()
            .unwrap();
        let pid = shell.id() as i32;
        while processes(pid).len() < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let child = processes(pid)[1];
        // It stops, but that is not seen.
        let seen = std::cell::Cell::new(false);
        let why = stop(pid, Duration::ZERO, |p| {
            seen.set(seen.get() || p == child);
            false
        });
        let (failed, stood) = (why.unwrap_err(), stands(child));
        stop(pid, Duration::from_secs(60), stands).unwrap();
        let stands_now = stands(child);
        go_on(pid).unwrap();
        let end = crate::state::pid(child).unwrap();
        rustix::process::kill_process(end, rustix::process::Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert!(failed.contains("do not stop") && seen.get(), "{failed}");
        assert!(!stood && stands_now);
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, n) in [
            ("TERM", 15),
            ("SIGKILL", 9),
            ("sys", 31),
            ("1", 1),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(number(text), Some(n), "{text}");
        }
        for bad in ["", "0", "65", "TERMX", "RTMIN+x", "RTMIN+40", "SIG"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
