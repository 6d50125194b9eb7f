//! The replays that a gdb server starts, and the way back in a log.
//!
//! A replay goes forward only. To go back, another one starts from the log's beginning or from an anchor, and goes to an
//! earlier place; which place that is, a third one finds out first: it runs to where gdb is now and remembers the last
//! stop on its way. Where every instruction must be stepped for that, it does so in a short stretch before the place where gdb
//! is, then in a longer one before that, and so on. For watchpoints a replay at full speed finds first between which entries
//! their pages were written: only there it is stepped, in the last such stretch first. A step back begins at the call or the
//! system call before, if it can be seen which that was.

use super::place::{Leg, Place};
use super::wire::{self, Limit, Order, Registers, Stop, Wanted, Why};
use ftl_core::log::Wire;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Entries in which a step back is looked for first: what came after the last one.
const NEAR_STEP: u64 = 1;
/// How much longer each stretch is than the one behind it.
const LONGER: u64 = 8;
/// A departure that there is not.
const NOWHERE: (u64, u64) = (u64::MAX, 0);
/// Descriptors below are the recorded program's, or a shell's.
const FROM_FD: i32 = 100;

/// Where a replay can start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Base {
    /// Number of the anchor; 0: the log's beginning, or the snapshot that was named.
    pub anchor: u32,
    /// Kernel entries before it.
    pub entries: u64,
}

/// What replays are started with.
pub struct Plan {
    /// The log's directory.
    pub log: PathBuf,
    /// Snapshot to start from, instead of the beginning.
    pub from: Option<PathBuf>,
    /// `--strace`, for the first one.
    pub strace: bool,
    /// Where a replay can start, ascending; never empty.
    pub bases: Vec<Base>,
}

/// A replay that is waiting for orders, or goes on.
pub struct Replay {
    child: Child,
    socket: UnixStream,
}

impl Drop for Replay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl AsRawFd for Replay {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

impl Replay {
    /// Sends an order that a stop will answer.
    pub fn order(&self, wanted: &Wanted, order: &Order) -> io::Result<()> {
        wire::send(&mut &self.socket, &Order::Want(wanted.clone()))?;
        wire::send(&mut &self.socket, order)
    }

    /// Orders a running replay to stop.
    pub fn pause(&self) -> io::Result<()> {
        wire::send(&mut &self.socket, &Order::Pause)
    }

    /// Waits for a stop.
    pub fn stop(&self) -> io::Result<Stop> {
        wire::receive(&mut &self.socket)
    }

    /// Asks a stopped replay.
    pub fn ask(&self, order: &Order) -> io::Result<Vec<u8>> {
        wire::send(&mut &self.socket, order)?;
        wire::receive(&mut &self.socket)
    }

    /// The list that follows the stop of a trace.
    fn more(&self) -> io::Result<Vec<(u64, u64)>> {
        let bytes: Vec<u8> = wire::receive(&mut &self.socket)?;
        let odd = || io::Error::new(io::ErrorKind::InvalidData, "an odd list");
        wire::take_pairs(&mut bytes.as_slice()).ok_or_else(odd)
    }

    /// Registers of a thread.
    pub fn registers(&self, tid: u64) -> Option<Registers> {
        let bytes = self.ask(&Order::Registers(tid)).ok()?;
        let src = &mut bytes.as_slice();
        bool::take(src)?.then(|| Registers::take(src)).flatten()
    }

    /// Threads.
    pub fn threads(&self) -> Vec<u64> {
        let bytes = self.ask(&Order::Threads).unwrap_or_default();
        wire::take_numbers(&mut bytes.as_slice()).unwrap_or_default()
    }

    /// Waits for the end: an exit code.
    pub fn wait(mut self) -> i32 {
        self.child
            .wait()
            .ok()
            .and_then(|s| s.code())
            .unwrap_or(crate::run::EXIT_FAILED)
    }
}

/// Where the last `width` departures before `end` begin; those with equal entries are not parted.
fn window(list: &[(u64, u64)], end: usize, width: usize) -> usize {
    let mut begin = end.saturating_sub(width);
    while begin > 0 && list[begin].0 == list[begin - 1].0 {
        begin -= 1;
    }
    begin
}

/// How a way back ended.
pub enum Back {
    /// At this stop; the replay that has stopped there.
    Found(Replay, Stop),
    /// At the first point that there is.
    Begin(Replay, Stop),
    /// gdb has said something meanwhile.
    Interrupted,
}

/// How a look nearby ended.
enum Near {
    Found(Stop),
    Nothing,
    Interrupted,
}

/// Stretches of a log in which a stop is looked for, the last first.
struct Stretches<'a> {
    bases: &'a [Base],
    /// Points count that have fewer entries.
    high: u64,
    /// Entries of the next stretch; none: from base to base.
    width: Option<u64>,
}

impl Stretches<'_> {
    /// Base to start from, entries from which on points count, and whether this is the first stretch of all.
    fn next(&mut self) -> (usize, u64, bool) {
        let before = |entries: u64| self.bases.iter().rposition(|b| b.entries < entries).unwrap_or(0);
        let (base, from) = match self.width {
            Some(width) => {
                let from = self.high.saturating_sub(width);
                self.width = Some(width.saturating_mul(LONGER));
                (before(from), from)
            }
            None => {
                let base = before(self.high.saturating_sub(1));
                (base, self.bases[base].entries + 1)
            }
        };
        // Places within the entry at which an anchor was taken have their names from the base before it, but for the first.
        let first = base == 0 && (self.width.is_none() || from <= self.bases[0].entries + 1);
        let from = if first { 0 } else { from };
        self.high = from;
        (base, from, first)
    }
}

impl Plan {
    /// Starts a replay; with `stop`, one that stops there.
    pub fn start(&self, base: usize, stop: Option<&str>, first: bool) -> io::Result<Replay> {
        let (ours, theirs) = UnixStream::pair()?;
        // SAFETY: duplicates a descriptor of ours; the new one stays open over exec.
        let fd = unsafe { libc::fcntl(theirs.as_raw_fd(), libc::F_DUPFD, FROM_FD) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is new, and nobody else's.
        let given = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut args: Vec<OsString> = vec!["replay".into(), "--gdb-agent".into(), fd.to_string().into()];
        match &self.from {
            Some(from) => args.extend(["--from".into(), from.clone().into()]),
            None => args.extend(["--anchor".into(), self.bases[base].anchor.to_string().into()]),
        }
        if let Some(stop) = stop {
            args.extend(["--stop".into(), stop.into()]);
        }
        if self.strace && first {
            args.push("--strace".into());
        }
        args.extend(["--".into(), self.log.clone().into()]);
        let child = Command::new("/proc/self/exe")
            .args(args)
            .stdin(Stdio::null())
            .spawn()?;
        drop((theirs, given));
        Ok(Replay { child, socket: ours })
    }

    fn before(&self, entries: u64) -> usize {
        self.bases.iter().rposition(|b| b.entries < entries).unwrap_or(0)
    }

    /// Starts a replay and has it stop at a place.
    pub fn at(&self, place: &Place, wanted: &Wanted) -> io::Result<(Replay, Stop)> {
        let replay = self.start(self.before(place.entries), None, false)?;
        replay.order(wanted, &Order::Goto(place.clone()))?;
        let stop = replay.stop()?;
        match stop.why {
            Why::There => Ok((replay, stop)),
            why => Err(io::Error::other(format!(
                "the replay did not come to {place:?}: {why:?}"
            ))),
        }
    }

    /// Looks for the last stop after `start` entries and before a limit, stepping only after these departures: in the last of
    /// them first, then in more and more before. `None` if it was interrupted.
    fn stepped(
        &self,
        start: u64,
        list: &[(u64, u64)],
        mut limit: Limit,
        wanted: &Wanted,
        interrupted: &dyn Fn(&Replay) -> bool,
    ) -> io::Result<Option<Stop>> {
        let mut width = 1;
        let mut end = list.len();
        loop {
            let begin = window(list, end, width);
            let mut only = list[begin..end].to_vec();
            let from = match only.first() {
                // Breakpoints may be anywhere.
                _ if begin == 0 => start,
                Some(first) => first.0,
                None => start,
            };
            if only.is_empty() {
                only.push(NOWHERE);
            }
            let replay = self.start(self.before(from), None, false)?;
            replay.order(
                wanted,
                &Order::Search {
                    from,
                    limit,
                    step: None,
                    only,
                    since: None,
                },
            )?;
            if interrupted(&replay) {
                return Ok(None);
            }
            let stop = replay.stop()?;
            if stop.why != Why::Nothing || begin == 0 {
                return Ok(Some(stop));
            }
            (limit, end, width) = (Limit::Entries(from), begin, width * LONGER as usize);
        }
    }

    /// Goes to a stop that was found.
    fn found(&self, stop: Stop, wanted: &Wanted) -> io::Result<Back> {
        let (replay, there) = self.at(&stop.place, wanted)?;
        let stop = Stop {
            why: stop.why,
            ..there
        };
        Ok(Back::Found(replay, stop))
    }

    /// Has another replay search.
    fn search(
        &self,
        base: usize,
        wanted: &Wanted,
        order: &Order,
        interrupted: &dyn Fn(&Replay) -> bool,
    ) -> io::Result<Option<Stop>> {
        let replay = self.start(base, None, false)?;
        replay.order(wanted, order)?;
        if interrupted(&replay) {
            return Ok(None);
        }
        replay.stop().map(Some)
    }

    /// Looks for a thread's point before a place where it must be close: after the last place with a name before it, or
    /// after the last arrival at `hint`, an instruction of which there is reason to think that it was executed
    /// shortly before. So a slice that computed for long is not stepped from its beginning.
    fn near(
        &self,
        from: &Place,
        (tid, hint): (u64, Option<u64>),
        wanted: &Wanted,
        interrupted: &dyn Fn(&Replay) -> bool,
    ) -> io::Result<Near> {
        let base = self.before(from.entries);
        let limit = Limit::Place(from.clone());
        let silent = Wanted {
            quiet: u64::MAX,
            ..wanted.clone()
        };
        let since = match (from.legs.split_last(), hint) {
            (Some((Leg::Step(_), before)), _) if !before.is_empty() => Place {
                legs: before.to_vec(),
                ..from.clone()
            },
            (_, Some(hint)) => {
                let only_hint = Wanted {
                    breaks: vec![hint],
                    watches: Vec::new(),
                    quiet: u64::MAX,
                };
                let order = Order::Search {
                    from: match base {
                        0 => 0,
                        b => self.bases[b].entries + 1,
                    },
                    limit: limit.clone(),
                    step: None,
                    only: Vec::new(),
                    since: None,
                };
                match self.search(base, &only_hint, &order, interrupted)? {
                    None => return Ok(Near::Interrupted),
                    Some(stop) if stop.why == Why::Break && stop.tid == tid => stop.place,
                    Some(_) => return Ok(Near::Nothing),
                }
            }
            _ => return Ok(Near::Nothing),
        };
        let order = Order::Search {
            from: 0,
            limit,
            step: Some(tid),
            only: Vec::new(),
            since: Some(since),
        };
        Ok(match self.search(base, &silent, &order, interrupted)? {
            None => Near::Interrupted,
            Some(stop) if matches!(stop.why, Why::Step | Why::Break) => Near::Found(stop),
            Some(_) => Near::Nothing,
        })
    }

    /// Goes back from a place: to the last stop before it, or with `step` to this thread's last point; the hint is
    /// [`Plan::near`]'s. `interrupted` is asked while a search goes on.
    pub fn back(
        &self,
        from: &Place,
        (step, hint): (Option<u64>, Option<u64>),
        wanted: &Wanted,
        interrupted: &dyn Fn(&Replay) -> bool,
    ) -> io::Result<Back> {
        let width = step.map(|_| NEAR_STEP);
        let mut stretches = Stretches {
            bases: &self.bases,
            high: from.entries.saturating_add(1),
            width,
        };
        let mut limit = Limit::Place(from.clone());
        if let Some(tid) = step {
            let near = self.near(from, (tid, hint), wanted, interrupted)?;
            match near {
                Near::Found(stop) => return self.found(stop, wanted),
                Near::Interrupted => return Ok(Back::Interrupted),
                Near::Nothing => {}
            }
        }
        loop {
            let (base, from, first) = stretches.next();
            let replay = self.start(base, None, false)?;
            let silent = Wanted {
                quiet: u64::MAX,
                ..wanted.clone()
            };
            let stop = if step.is_none() && !wanted.watches.is_empty() {
                replay.order(
                    &silent,
                    &Order::Trace {
                        from,
                        limit: limit.clone(),
                    },
                )?;
                if interrupted(&replay) {
                    return Ok(Back::Interrupted);
                }
                let traced = replay.stop()?;
                if traced.why != Why::Nothing {
                    return Err(io::Error::other(format!("searching the log: {:?}", traced.why)));
                }
                let list = replay.more()?;
                drop(replay);
                match self.stepped(from, &list, limit, &silent, interrupted)? {
                    Some(stop) => stop,
                    None => return Ok(Back::Interrupted),
                }
            } else {
                let only = Vec::new();
                replay.order(
                    &silent,
                    &Order::Search {
                        from,
                        limit,
                        step,
                        only,
                        since: None,
                    },
                )?;
                if interrupted(&replay) {
                    return Ok(Back::Interrupted);
                }
                replay.stop()?
            };
            match stop.why {
                Why::Nothing if first => {
                    let replay = self.start(0, None, false)?;
                    replay.order(wanted, &Order::First)?;
                    let stop = replay.stop()?;
                    return Ok(Back::Begin(replay, stop));
                }
                Why::Nothing => limit = Limit::Entries(from),
                Why::Step | Why::Break | Why::Watch(_) | Why::Signal(_) => return self.found(stop, wanted),
                why => return Err(io::Error::other(format!("searching the log: {why:?}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(entries: &[u64]) -> Vec<Base> {
        let number = |(n, e): (usize, &u64)| Base {
            anchor: n as u32,
            entries: *e,
        };
        entries.iter().enumerate().map(number).collect()
    }

    fn all(bases: &[Base], high: u64, width: Option<u64>) -> Vec<(usize, u64, bool)> {
        let mut s = Stretches { bases, high, width };
        let mut out = Vec::new();
        loop {
            out.push(s.next());
            if out.last().is_some_and(|l| l.2) {
                return out;
            }
        }
    }

    #[test]
    fn stretches_lead_to_the_beginning_without_a_gap() {
        let b = bases(&[0, 100, 200]);
        assert_eq!(
            all(&b, 251, None),
            [(2, 201, false), (1, 101, false), (0, 0, true)]
        );
        assert_eq!(
            all(&b, 202, None),
            [(2, 201, false), (1, 101, false), (0, 0, true)]
        );
        assert_eq!(all(&b, 201, None), [(1, 101, false), (0, 0, true)]);
        assert_eq!(all(&b, 1, None), [(0, 0, true)]);
        let near = |high| all(&b, high, Some(NEAR_STEP));
        assert_eq!(
            near(211),
            [(2, 210, false), (2, 202, false), (1, 138, false), (0, 0, true)]
        );
        assert_eq!(
            near(205),
            [(2, 204, false), (1, 196, false), (1, 132, false), (0, 0, true)]
        );
        assert_eq!(near(3), [(0, 2, false), (0, 0, true)]);
    }

    #[test]
    fn windows_do_not_part_equal_entries() {
        let list = [(1, 1), (2, 1), (2, 2), (2, 3), (5, 1)];
        assert_eq!(window(&list, 5, 1), 4);
        assert_eq!(window(&list, 4, 1), 1);
        assert_eq!(window(&list, 4, 8), 0);
    }

    #[test]
    fn what_is_kept_begins_at_its_first_anchor() {
        let b = bases(&[100, 200]);
        assert_eq!(all(&b, 301, None), [(1, 201, false), (0, 0, true)]);
        assert_eq!(all(&b, 104, Some(1)), [(0, 103, false), (0, 0, true)]);
        assert_eq!(all(&b, 101, Some(1)), [(0, 0, true)]);
    }
}
