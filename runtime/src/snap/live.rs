//! Copying an image while it runs: the rounds, driven by a thread of the supervisor.
//!
//! ```text
//! asker:   look ─ copy ─ look ─ copy ─ ... ─ stop ──── copy ── go on (or end)
//! image:   runs ──────────────────────────── stands ────────── runs
//! ```

use super::Sink;
use super::carry;
use super::copier::{Copier, Given};
use super::file::{self, Held};
use super::rounds::{MARKS_LOST, Round};
use super::travel;
use super::volumes::hold::Copied;
use super::volumes::{self, Rules};
use crate::control::{
    self, HOW_CHANGES, HOW_GO_ON, HOW_IN_PLACE, HOW_RUNTIME, HOW_SHORT, HOW_VOLUMES, ORDER_COPY, ORDER_END,
    ORDER_FORGET, ORDER_GO, ORDER_LOOK, ORDER_STOP,
};
use crate::orders;
use crate::snap::state::HostState;
use crate::store::file::sync_names;
use crate::sys;
use ftl_core::snap::Root;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A checkpoint stops the image when about so much would be left to copy: a page costs about a microsecond.
const SHORT: Duration = Duration::from_millis(1);
/// More is not kept in memory of a last round: it is written while the image stands.
const MOST_HELD: u64 = 256 << 20 >> 12;
/// Rounds that list hardly less than the one before them, before more are of no use.
const PATIENCE: u32 = 2;
/// No more rounds than that.
const MOST_ROUNDS: u32 = 30;

/// The copy of the image that this process supervises. One at a time: the caller has the turn (`orders`).
pub struct Live {
    list: File,
    path: String,
    how: u32,
    looks: u64,
    copier: Copier,
    /// Changes are followed.
    follows: bool,
    stopped: Option<Instant>,
    /// It may run elsewhere: it must not go on here by an error's way out.
    given_away: bool,
}

impl Live {
    /// Nothing has been asked yet. `how`: what may be left behind (`HOW_*`).
    ///
    /// There is one set of marks: snapshots that were changes of one another end here.
    pub fn new(how: u32) -> Result<Live, String> {
        drop(series().take());
        let fd = sys::memfd(c"ftvm-list", 0).map_err(|e| format!("memory for lists of pages: {e}"))?;
        // SAFETY: a new descriptor.
        let list = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Live {
            path: format!("/proc/{}/fd/{}", std::process::id(), list.as_raw_fd()),
            list,
            how,
            looks: 0,
            copier: Copier::new(),
            follows: false,
            stopped: None,
            given_away: false,
        })
    }

    /// Whether the image that stands may be another host's already. While it may, dropping this leaves it standing.
    pub fn given_away(&mut self, yes: bool) {
        self.given_away = yes;
    }

    fn order(&mut self, what: u32) -> Result<Round, String> {
        // SAFETY: mapped by the supervisor at its start.
        let order = &unsafe { control::get() }.order;
        order.how.store(self.how, Ordering::Relaxed);
        order.at.store(self.looks, Ordering::Relaxed);
        orders::order_image(what, &self.path)?;
        let ordered = Instant::now();
        if what == ORDER_STOP {
            self.stopped = Some(ordered);
        }
        self.looks += 1;
        let bad = |e: std::io::Error| format!("a list of pages: {e}");
        let mut bytes = vec![0; self.list.metadata().map_err(bad)?.len() as usize];
        self.list.read_exact_at(&mut bytes, 0).map_err(bad)?;
        let round = Round::decode(&bytes).ok_or("a list of pages is damaged")?;
        self.follows = round.follows;
        if what == ORDER_STOP {
            // Since before it looked.
            self.stopped = ordered.checked_sub(Duration::from_nanos(round.took));
        }
        Ok(round)
    }

    /// What has changed since the last look; at first, everything. The image runs on.
    pub fn look(&mut self) -> Result<Round, String> {
        self.order(ORDER_LOOK)
    }

    /// The same for the last time: the image stands from here on.
    pub fn stop(&mut self) -> Result<Round, String> {
        self.order(ORDER_STOP)
    }

    /// All of an image that stands, copied in another way: in one go, by the image itself. What the two have in common is the kernel's
    /// idea of what is mapped, not what has changed. The snapshot is in memory, under the name that is returned.
    pub fn copy_standing(&mut self) -> Result<(File, PathBuf), String> {
        let fd = sys::memfd(c"ftvm-verify", 0).map_err(|e| format!("memory for a second copy: {e}"))?;
        // SAFETY: a new descriptor.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        orders::order_image(ORDER_COPY, &path)?;
        Ok((file, path.into()))
    }

    /// Since when it stands.
    pub fn stopped(&self) -> Option<Instant> {
        self.stopped
    }

    /// Gives the pages that a look has listed.
    pub fn copy(&mut self, round: &Round, sink: &mut dyn Sink) -> Result<Given, String> {
        self.copier.round(round, self.stopped.is_some(), sink)
    }

    fn release(&mut self, how: u32) -> Option<Duration> {
        let since = self.stopped.take()?;
        orders::release_image(how);
        Some(since.elapsed())
    }

    /// Lets an image that stands go on here. Returns how long it stood.
    pub fn go_on(&mut self) -> Option<Duration> {
        self.release(ORDER_GO)
    }

    /// Ends an image that stands: it goes on elsewhere.
    pub fn end(&mut self) {
        self.release(ORDER_END);
        self.follows = false;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.given_away && self.stopped.is_some() {
            // A panic between the commit and its answer: two copies would be worse than none.
            return;
        }
        self.go_on();
        if self.follows {
            // An image that has ended meanwhile follows nothing.
            let _ = orders::order_image(ORDER_FORGET, "");
        }
    }
}

/// What to do after a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Another one.
    Round,
    /// Stop: what is left is expected to take this long.
    Fits(Duration),
    /// Stop, or give up: more rounds do not make it less.
    Useless(Duration),
}

/// Decides when the last round is due.
#[derive(Debug)]
pub struct Pace {
    allowed: Duration,
    /// What every last round costs, whatever it has to copy.
    fixed: Duration,
    looked: Option<Instant>,
    listed: u64,
    bad: u32,
    rounds: u32,
    /// Pages that change in a second.
    pub dirtied: f64,
    /// Pages that are copied in a second.
    pub rate: f64,
}

impl Pace {
    /// The last round is to take no longer than `allowed`.
    pub fn new(allowed: Duration, fixed: Duration) -> Pace {
        Pace {
            allowed,
            fixed,
            looked: None,
            listed: u64::MAX,
            bad: 0,
            rounds: 0,
            dirtied: 0.0,
            rate: 0.0,
        }
    }

    /// Rounds so far.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// A round was copied: it was looked for at `looked`, copied from `begun` to `ended`, and had so many pages.
    pub fn round(&mut self, looked: Instant, begun: Instant, ended: Instant, pages: u64) -> Next {
        let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64().max(1e-6);
        self.rounds += 1;
        let rate = pages as f64 / seconds(begun, ended);
        // Of few pages the fixed costs are measured.
        if pages >= 256 || self.rate == 0.0 {
            self.rate = rate.max(1.0);
        }
        let Some(before) = self.looked.replace(looked) else {
            self.listed = pages;
            return Next::Round;
        };
        self.dirtied = pages as f64 / seconds(before, looked);
        let left = self.dirtied * seconds(looked, ended);
        let estimate = self.fixed + Duration::from_secs_f64((left / self.rate).min(1e6));
        self.bad = match pages * 5 > self.listed * 4 {
            true => self.bad + 1,
            false => 0,
        };
        self.listed = pages;
        if estimate <= self.allowed {
            Next::Fits(estimate)
        } else if self.bad >= PATIENCE || self.rounds >= MOST_ROUNDS {
            Next::Useless(estimate)
        } else {
            Next::Round
        }
    }
}

/// A snapshot that was taken while its image ran.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Rounds while it ran.
    pub rounds: u32,
    /// How long it stood still for the last; none if it did not go on.
    pub pause: Option<Duration>,
    /// How long it stood still for the longest look before that.
    pub longest_look: Duration,
}

/// Whose snapshots are changes of one another. Others' are no parents of theirs: whoever has ordered a snapshot may remove it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// `run --checkpoint-every`.
    Every,
    /// Users, by `ftvm checkpoint`.
    Orders,
}

/// Snapshots that are changes of one another: what is followed since the last of them, and what that is named by.
struct Series {
    owner: Owner,
    live: Live,
    last: Root,
    /// Where whoever ordered the last one was going to write it: it is not known whether that was done.
    unsure: Option<PathBuf>,
}

impl Series {
    /// The last snapshot is, as far as can be told, where it was to be written.
    fn is_there(&self) -> bool {
        match &self.unsure {
            Some(path) => crate::store::open::stated(path) == Some(self.last),
            None => true,
        }
    }
}

/// The run's, as long as nobody else looks at what has changed.
static SERIES: Mutex<Option<Series>> = Mutex::new(None);

fn series() -> MutexGuard<'static, Option<Series>> {
    SERIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next snapshot is whole, also if it may be a change.
pub fn end_series() {
    drop(series().take());
}

/// What came of an order for a snapshot that was taken while the image ran.
pub struct Done {
    /// How it went.
    pub taken: Taken,
    /// What the snapshot is named by.
    pub root: Root,
    /// The snapshot that it is a change of.
    pub parent: Option<Root>,
    /// The image stands: it ends when this is told to ([`Live::end`]).
    pub stands: Option<Live>,
}

/// Writes a snapshot of the image, `how` as in an order. The file appears when it is whole. `compare`: for tests, a path
/// for the same moment copied in one go. `owner`: whose last snapshot it may be a change of. `packed_to`: where the caller will write what it gets in `path`. `rules`: what becomes of
/// volumes, if the order says that the caller knows.
pub fn checkpoint(
    path: &Path,
    (how, owner): (u32, Owner),
    compare: Option<&Path>,
    packed_to: Option<&Path>,
    rules: Option<&Rules>,
) -> Result<Done, String> {
    let rules = rules.filter(|_| how & HOW_VOLUMES != 0);
    let bad = |e: std::io::Error| format!("snapshot {}: {e}", path.display());
    if how & HOW_IN_PLACE != 0 {
        let mut file = std::fs::OpenOptions::new().write(true).open(path).map_err(bad)?;
        return write(&mut file, (how, owner), rules, (compare, packed_to), &mut |_| {
            Ok(())
        });
    }
    if how & HOW_CHANGES != 0 && path.exists() {
        return Err(format!(
            "snapshot {}: there is one, which this one may be a change of; name a new file",
            path.display()
        ));
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".part-{}", std::process::id()));
    let part = path.with_file_name(name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .map_err(bad)?;
    let mut publish = |file: &mut File| {
        let done = file.sync_all().and_then(|()| std::fs::rename(&part, path));
        done.and_then(|()| sync_names(path)).map_err(bad)
    };
    let done = write(&mut file, (how, owner), rules, (compare, None), &mut publish);
    if done.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    done
}

fn write(
    file: &mut File,
    (how, owner): (u32, Owner),
    rules: Option<&Rules>,
    (compare, packed_to): (Option<&Path>, Option<&Path>),
    publish: &mut dyn FnMut(&mut File) -> Result<(), String>,
) -> Result<Done, String> {
    let before = match how & HOW_CHANGES {
        0 => None,
        _ => series().take().filter(|s| s.owner == owner && s.is_there()),
    };
    let how = how | HOW_SHORT;
    let (mut live, mut parent) = match before {
        Some(s) => (s.live, Some(s.last)),
        None => (Live::new(how)?, None),
    };
    live.how = how;
    let mut round = match live.look() {
        Err(why) if parent.is_some() && why == MARKS_LOST => {
            parent = None;
            live = Live::new(how)?;
            live.look()?
        }
        found => found?,
    };
    let runtime = match how & HOW_RUNTIME {
        0 => None,
        _ => Some(carry::ours()?),
    };
    let mut pace = Pace::new(SHORT, Duration::ZERO);
    let mut longest = round.took;
    let holds = rules.is_some_and(Rules::hold);
    let mut pages = file::ToFile::begin_outside(round.image, parent, runtime.as_deref(), holds, file)?;
    drop(runtime);
    // One of many, which a disaster alone makes worth reading. The first is the one that a restore or a clone begins with.
    if parent.is_some() && how & HOW_IN_PLACE == 0 {
        pages.past_the_cache();
    }
    let mut copied = Copied::default();
    // Of a snapshot that is a change the first look has no state.
    if let (Some(rules), false) = (rules, round.state.is_empty()) {
        let image = (&*round.state, how & HOW_GO_ON != 0);
        ahead(rules, image, &mut copied, &mut pages)?;
    }
    while round.follows {
        let looked = Instant::now();
        let mut given = live.copy(&round, &mut pages)?.pages;
        while round.more {
            round = live.look()?;
            longest = longest.max(round.took);
            given += live.copy(&round, &mut pages)?.pages;
        }
        match pace.round(looked, looked, Instant::now(), given) {
            Next::Round => round = live.look()?,
            Next::Fits(_) | Next::Useless(_) => break,
        }
        longest = longest.max(round.took);
    }
    let last = live.stop()?;
    let mut held = Held::default();
    let direct = !last.follows || last.pages() > MOST_HELD;
    match direct {
        true => live.copy(&last, &mut pages)?,
        false => live.copy(&last, &mut held)?,
    };
    if let Some(path) = compare {
        orders::order_image(ORDER_COPY, &path.to_string_lossy())?;
    }
    let mut state = HostState::decode(&last.state).ok_or("the host's side is damaged")?;
    if let Some(rules) = rules {
        let all = volumes::of_state(&state)?;
        let all = rules.each(&all)?;
        if let Some(why) = travel::refusal(&volumes::notes(&all, &volumes::open_files(&state))) {
            return Err(why);
        }
        let tree = match holds {
            true => Some(copied.hold(&state, &all, &mut pages)?),
            false => None,
        };
        state.held = holds;
        pages.set_volumes(volumes::states(&all), tree);
    }
    // One that is to end stands until its snapshot is there for good.
    let goes_on = how & HOW_GO_ON != 0;
    let pause = match goes_on {
        true => live.go_on(),
        false => None,
    };
    held.give(&mut pages)?;
    let root = pages.finish(&state, last.offsets)?;
    publish(file)?;
    let taken = Taken {
        rounds: pace.rounds(),
        pause,
        longest_look: Duration::from_nanos(longest),
    };
    let mut stands = None;
    if !goes_on {
        stands = Some(live);
    } else if how & HOW_CHANGES != 0 {
        *series() = Some(Series {
            owner,
            live,
            last: root,
            unsure: packed_to.map(Path::to_path_buf),
        });
    }
    Ok(Done {
        taken,
        root,
        parent,
        stands,
    })
}

/// Copies of volumes what is there by now, while the image runs, if it is to go on: of one that ends nobody minds that it stands. An error
/// if what is open forbids a snapshot already.
fn ahead(
    rules: &Rules,
    (state, goes_on): (&[u8], bool),
    copied: &mut Copied,
    pages: &mut file::ToFile<'_>,
) -> Result<(), String> {
    let state = HostState::decode(state).ok_or("the host's side is damaged")?;
    let all = volumes::of_state(&state)?;
    let all = rules.each(&all)?;
    match travel::refusal(&volumes::notes(&all, &volumes::open_files(&state))) {
        Some(why) => Err(why),
        None if rules.hold() && goes_on => copied.ahead(&state, &all, pages),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of an image that dirties `dirty` pages a second of `total`, at `rate` pages a second.
    fn rounds(total: f64, dirty: f64, rate: f64, allowed: Duration) -> (u32, Next) {
        let mut pace = Pace::new(allowed, Duration::from_millis(1));
        let mut now = Instant::now();
        let mut pages = total;
        loop {
            let ended = now + Duration::from_secs_f64(pages / rate);
            match pace.round(now, now, ended, pages as u64) {
                Next::Round => {}
                end => return (pace.rounds(), end),
            }
            pages = (dirty * (ended - now).as_secs_f64()).min(total);
            now = ended;
        }
    }

    #[test]
    fn rounds_end_when_the_rest_is_short_or_does_not_shrink() {
        let allowed = Duration::from_millis(50);
        let (n, end) = rounds(262_144.0, 25_600.0, 250_000.0, allowed);
        assert!(
            matches!(end, Next::Fits(d) if d <= allowed) && n <= 4,
            "{n} rounds, {end:?}"
        );
        let (n, end) = rounds(262_144.0, 200_000.0, 100_000.0, allowed);
        assert!(
            matches!(end, Next::Useless(d) if d > allowed) && n <= 5,
            "{n} rounds, {end:?}"
        );
        let (n, _) = rounds(5_000.0, 0.0, 250_000.0, allowed);
        assert_eq!(n, 2, "a quiet image is looked at twice");
    }
}
