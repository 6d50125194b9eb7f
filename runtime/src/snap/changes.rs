//! Incremental snapshots: what has changed since the last one (DESIGN §8, HAZARDS "Dirty tracking").
//!
//! * **Private memory** by write protection of each process' page tables. What the tables cannot tell
//!   (mappings made, moved, dropped, discarded) comes from the memory hooks as ranges that are gone
//!   (`platform::space::Track`).
//! * **The arena and the page store** are mapped by every process of the image, and each has marks of its
//!   own: what any of them has marked is compared with a copy of what the last snapshot had. Marks die with a
//!   process and with a mapping; after that everything is compared once.
//!
//! The image stands still meanwhile: the caller holds the token, at the top of the scheduler.

use super::capture::{self, Process};
use super::{Object, shared};
use crate::alloc::{self, Side};
use crate::dirty::{ALL, Tracker, register, take_full, take_some, take_written, unmark};
use crate::door::Mode;
use crate::door::files::Files;
use crate::entry;
use crate::platform::maps::{Maps, Under};
use crate::platform::space::Track;
use crate::platform::{Marks, Plat};
use crate::protect::chunk::Chunks;
use crate::protect::status::{self, Figure};
use crate::run::Machine;
use crate::snap::Sink;
use crate::snap::state::HostState;
use crate::sys::{self, sys};
use crate::vcpu::Vcpu;
use ftl_abi::mm::Mm;
use ftl_core::layout::{
    ARENA, ARENA_LEN, GUEST_TOP, PAGE, PAGES, PAGES_LEN, RUNTIME_BLOCK, SHADOW_ARENA, SHADOW_PAGES,
};
use ftl_core::platform::Handle;
use ftl_core::wait::SpaceId;
use std::collections::VecDeque;

/// Bytes that are searched between two breaths.
pub(super) const BREATHE: u64 = 1 << 20;

/// Maps the copies; before the first fork.
pub fn map_shadows() -> Result<(), sys::HostErr> {
    for (base, len) in [(SHADOW_ARENA, ARENA_LEN), (SHADOW_PAGES, PAGES_LEN)] {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
        // SAFETY: NOREPLACE takes only free space.
        unsafe { sys::mmap(base, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) }?;
    }
    Ok(())
}

/// A piece of what a round copies.
#[derive(Debug)]
pub enum Work {
    /// Pages that are void.
    Gone(Object, u64, u64),
    /// A part of the arena, or of the page store, as offsets.
    Shared(Object, u64, u64),
    /// Pages of a space.
    Space(SpaceId, u64, u64),
    /// A mapped file, which the state names by its hash: that is to be known before the image stands.
    File(Handle),
}

/// Nothing of the image has been taken yet: the first [`plan`] lists all of it.
pub fn begin(m: &mut Machine) {
    let plat = &mut m.plat.live;
    plat.spaces.shared.take_freed();
    plat.marks = Marks::Backup;
    (plat.spaces.shared.known, plat.spaces.shared.copied) = (false, true);
    for track in plat.spaces.tracks.values_mut() {
        *track = Track::default();
    }
    for (shadow, len) in [(SHADOW_ARENA, ARENA_LEN), (SHADOW_PAGES, PAGES_LEN)] {
        // SAFETY: our own copies.
        let _ = unsafe { sys!(libc::SYS_madvise, shadow, len, libc::MADV_REMOVE) };
    }
}

/// Files that are mapped, for a first round.
pub fn mapped_files(m: &Machine) -> impl Iterator<Item = Work> + use<> {
    let maps = m.plat.live.spaces.maps.values();
    let handles: std::collections::BTreeSet<Handle> = maps.flat_map(Maps::files).collect();
    handles.into_iter().map(Work::File)
}

/// What the next round has to copy, in this order, and how many pages of processes are in it.
pub fn plan(m: &mut Machine, here: SpaceId) -> Result<(VecDeque<Work>, u64), String> {
    let mut work = VecDeque::new();
    let mut pages = 0;
    for (at, end) in m.plat.live.spaces.shared.take_freed() {
        // SAFETY: our own copy.
        let _ = unsafe { sys!(libc::SYS_madvise, SHADOW_PAGES + at, end - at, libc::MADV_REMOVE) };
        work.push_back(Work::Gone(Object::Store, at / PAGE, (end - at) / PAGE));
    }
    let [arena, store] = shared::changes(m, &mut || {});
    for (object, runs) in [(Object::Arena, arena), (Object::Store, store)] {
        for (start, end) in runs {
            pieces(start, end, |s, e| work.push_back(Work::Shared(object, s, e)));
        }
    }
    for (id, mm) in &capture::spaces(m.kernel) {
        let found = find(&mut m.plat.live, *id, mm, here, &mut Portion::whole(), &mut || {})?;
        let gone = found.gone.iter();
        work.extend(gone.map(|(s, e)| Work::Gone(Object::Space(id.0), s / PAGE, (e - s) / PAGE)));
        for (start, end) in found.runs {
            pages += (end - start) / PAGE;
            pieces(start, end, |s, e| work.push_back(Work::Space(*id, s, e)));
        }
    }
    Ok((work, pages))
}

fn pieces(start: u64, end: u64, mut f: impl FnMut(u64, u64)) {
    let mut at = start;
    while at < end {
        let to = end.min(at + BREATHE);
        f(at, to);
        at = to;
    }
}

/// Copies a piece. The image may have run since it was listed: what is not there any more is left out, and listed as gone
/// by the next look.
pub fn copy(m: &mut Machine, work: Work, sink: &mut Chunks<'_>) -> Result<(), String> {
    match work {
        Work::Gone(object, first, count) => sink.gone(object, first, count),
        Work::File(h) => {
            if let Ok(fd) = m.plat.live.fd(h) {
                // Kept by the table for `capture::host_state`, as long as the file does not change.
                let mut files = take_files(m);
                let _ =
                    files.identity_breathing(format!("/proc/self/fd/{fd}").as_ref(), &mut || sink.breathe());
                put_files(m, files);
            }
            Ok(())
        }
        Work::Shared(Object::Arena, start, end) => shared(
            (m.fds.arena, start, end),
            ARENA,
            SHADOW_ARENA,
            Object::Arena,
            sink,
        ),
        Work::Shared(object, start, end) => {
            shared((m.fds.pages, start, end), PAGES, SHADOW_PAGES, object, sink)
        }
        Work::Space(id, start, end) => {
            let spaces = &m.plat.live.spaces;
            let Some(process) = Process::find(spaces.pid(id))? else {
                // It has ended meanwhile, and its space with it.
                return match spaces.tracks.contains_key(&id) {
                    true => Err(format!("the host process of space {} has ended", id.0)),
                    false => Ok(()),
                };
            };
            let object = Object::Space(id.0);
            let mut buf = vec![0; (end - start) as usize];
            let is_void = |at: u64| spaces.tracks.get(&id).is_none_or(|t| t.is_void(at));
            process.read_running((start, end), &mut buf, &is_void, &mut |at, bytes| {
                sink.pages(object, at / PAGE, bytes)
            })
        }
    }
}

/// What is known of the contents of files: the recorder has met them when they were mapped, and would lose the image's time
/// if it were asked again while that stands.
fn take_files(m: &mut Machine) -> Files {
    match &mut m.plat.mode {
        Mode::Record(r) => std::mem::take(&mut r.files),
        _ => std::mem::take(&mut m.files),
    }
}

fn put_files(m: &mut Machine, files: Files) {
    match &mut m.plat.mode {
        Mode::Record(r) => r.files = files,
        _ => m.files = files,
    }
}

/// Everything that has changed goes to `sink`.
pub fn take(m: &mut Machine, here: SpaceId, sink: &mut Chunks<'_>) -> Result<HostState, String> {
    m.kernel.settle_vectors(&mut m.plat, here);
    let _side = alloc::enter(Side::Host);
    let mut files = take_files(m);
    let state = capture::host_state(m, here, &mut files, &mut || sink.breathe());
    put_files(m, files);
    let state = state?;
    for (at, end) in m.plat.live.spaces.shared.take_freed() {
        // SAFETY: our own copy.
        let _ = unsafe { sys!(libc::SYS_madvise, SHADOW_PAGES + at, end - at, libc::MADV_REMOVE) };
        sink.gone(Object::Store, at / PAGE, (end - at) / PAGE)?;
    }
    // Before anything of the kernel is referred to: the counts of such references are in the arena.
    sink.breathe();
    let [arena, store] = shared::changes(m, &mut || sink.breathe());
    status::set(Figure::Compared, m.plat.live.spaces.shared.compared);
    let windows = [
        (arena, ARENA, SHADOW_ARENA, Object::Arena),
        (store, PAGES, SHADOW_PAGES, Object::Store),
    ];
    for (runs, base, shadow, object) in windows {
        let mut since = 0;
        for (start, end) in runs {
            compare((start, end), base, shadow, object, sink)?;
            since += end - start;
            if since > BREATHE {
                since = 0;
                sink.breathe();
            }
        }
    }
    for (id, mm) in &capture::spaces(m.kernel) {
        space(&mut m.plat.live, *id, mm, here, sink)?;
    }
    Ok(state)
}

pub(super) fn page(at: u64) -> &'static [u8; PAGE as usize] {
    // SAFETY: inside one of the arenas or their copies, mapped for the life of the process; nobody else runs.
    unsafe { &*(at as *const [u8; PAGE as usize]) }
}

/// Pages of a part of a memfd mapped at `base` that differ from the copy, which follows.
fn shared(
    (fd, from, to): (i32, u64, u64),
    base: u64,
    shadow: u64,
    object: Object,
    sink: &mut Chunks<'_>,
) -> Result<(), String> {
    let mut at = from;
    while let Some((start, end)) = capture::next_data(fd, at).filter(|(start, _)| *start < to) {
        let end = end.min(to);
        compare((start, end), base, shadow, object, sink)?;
        sink.breathe();
        at = end;
    }
    Ok(())
}

/// The same of a part that has no holes.
fn compare(
    (start, end): (u64, u64),
    base: u64,
    shadow: u64,
    object: Object,
    sink: &mut Chunks<'_>,
) -> Result<(), String> {
    let mut run = start;
    let mut now = start;
    while now <= end {
        let same = now == end || page(base + now) == page(shadow + now);
        // A long run goes in pieces: to copy tens of megabytes takes longer than a node may be silent.
        if same || now - run >= BREATHE {
            if run < now {
                let len = (now - run) as usize;
                // SAFETY: as above; the copy is ours to write.
                let bytes = unsafe {
                    std::ptr::copy_nonoverlapping((base + run) as *const u8, (shadow + run) as *mut u8, len);
                    std::slice::from_raw_parts((base + run) as *const u8, len)
                };
                sink.pages(object, run / PAGE, bytes)?;
            }
            run = if same { now + PAGE } else { now };
        }
        now += PAGE;
        if now % BREATHE == 0 {
            sink.breathe();
        }
    }
    Ok(())
}

/// What two ascending lists of ranges have in common.
pub fn common(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut i, mut k) = (0, 0);
    let mut out = Vec::new();
    while i < a.len() && k < b.len() {
        let (start, end) = (a[i].0.max(b[k].0), a[i].1.min(b[k].1));
        if start < end {
            out.push((start, end));
        }
        match a[i].1 < b[k].1 {
            true => i += 1,
            false => k += 1,
        }
    }
    out
}

/// Shortest range that is searched the fast way: each is a call of its own.
const FULL: u64 = 4 << 20;

/// What of ascending ranges is not in others, which are ascending too.
pub(super) fn without(ranges: &[(u64, u64)], others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    for (start, end) in ranges {
        let mut at = *start;
        let first = others.partition_point(|o| o.1 <= at);
        for (from, to) in others[first..].iter().take_while(|o| o.0 < *end) {
            if at < *from {
                out.push((at, *from));
            }
            at = at.max(*to);
        }
        if at < *end {
            out.push((at, *end));
        }
    }
    out
}

/// How much a look may find: the image stands meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Portion {
    /// Pages.
    left: u64,
    /// Where it ended in the space that is being searched.
    stopped: Option<u64>,
}

impl Portion {
    /// All there is.
    pub fn whole() -> Portion {
        Portion {
            left: ALL,
            stopped: None,
        }
    }

    /// So many pages.
    pub fn of(pages: u64) -> Portion {
        Portion {
            left: pages,
            stopped: None,
        }
    }

    fn is_whole(&self) -> bool {
        self.left == ALL
    }

    /// There may be more.
    pub fn is_used_up(&self) -> bool {
        self.left == 0
    }
}

/// [`take_some`] of a range, as many pages as the portion has left; if only what was written is wanted, the fast way in parts of
/// `full`.
fn search(
    process: &Process,
    start: u64,
    end: u64,
    full: &[(u64, u64)],
    every: bool,
    portion: &mut Portion,
    found: &mut impl FnMut(u64, u64),
) -> sys::Host<()> {
    let full = if every { &[] } else { full };
    let first = full.partition_point(|f| f.1 <= start);
    let fast = full[first..].iter().take_while(|f| f.0 < end);
    let fast = fast.map(|f| (f.0.max(start), f.1.min(end)));
    let mut at = start;
    for (from, to) in fast.chain([(end, end)]) {
        let left = &mut portion.left;
        if at < from {
            at = take_some(process.pagemap(), at, from, every, left, found)?;
        }
        if at == from && from < to {
            at = take_full(process.pagemap(), from, to, left, found)?;
        }
        if at < to {
            portion.stopped.get_or_insert(at);
            break;
        }
    }
    Ok(())
}

/// Parts of a space whose pages are its own.
fn own_parts(plat: &Plat, id: SpaceId, mm: &Mm) -> Vec<(u64, u64, Option<Under>)> {
    let Some(maps) = plat.spaces.maps.get(&id) else {
        return Vec::new();
    };
    let all = mm.list();
    let parts = all.iter().flat_map(|v| maps.parts(v.start, v.end));
    parts.filter(|p| !matches!(p.2, Some(Under::Shared(_)))).collect()
}

/// Writes to the range are noticed from here on. `again`: it may have been followed before, and have marks.
fn protect(uffd: i32, process: &Process, (start, end): (u64, u64), again: bool) {
    if register(uffd, start, end).is_ok() {
        if again {
            // What is not unmarked is no worse than before.
            let _ = unmark(uffd, start, end);
        }
        // What cannot be protected fails the next scan and is taken whole.
        let _ = take_written(process.pagemap(), start, end, &mut |_, _| {});
    }
}

/// Ranges of a space that can be searched in one call each: a program has hundreds of mappings, and a call for each costs
/// more than the search. Whole parts whose marks were set at the last look (not among `gone`), and between which no
/// other mapping lies; the host refuses the search of a range with one that is not followed.
fn spans(plat: &Plat, id: SpaceId, mm: &Mm, gone: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let Some(maps) = plat.spaces.maps.get(&id) else {
        return Vec::new();
    };
    let mut out: Vec<(u64, u64)> = Vec::new();
    let mut open = false;
    for v in mm.list() {
        for (start, end, under) in maps.parts(v.start, v.end) {
            let shared = matches!(under, Some(Under::Shared(_)));
            let new = meets(gone, start, end);
            match out.last_mut() {
                _ if shared || new => open = false,
                // The runtime lies between the two ranges of guest memory.
                Some(last) if open && (last.1 <= RUNTIME_BLOCK) == (end <= RUNTIME_BLOCK) => last.1 = end,
                _ => {
                    out.push((start, end));
                    open = true;
                }
            }
        }
    }
    out
}

/// Some of the ranges, which are ascending and apart, have something in common with this one.
fn meets(ranges: &[(u64, u64)], start: u64, end: u64) -> bool {
    let next = ranges.get(ranges.partition_point(|r| r.1 <= start));
    next.is_some_and(|r| r.0 < end)
}

/// What a look at one space has found, in the order in which it counts: first what is gone, then the runs of pages.
#[derive(Default, Debug)]
pub struct Found {
    /// Host pid of its process.
    pub pid: u32,
    /// Ranges whose old pages are void.
    pub gone: Vec<(u64, u64)>,
    /// Runs of pages to take, ascending.
    pub runs: Vec<(u64, u64)>,
}

/// Looks for what has changed in a space since the last look, all of it if that is not known, and follows it from here on.
/// `here`: the space of the caller's process. `breathe` is called now and then: the search may take long.
///
/// A look with a portion goes on where the last one stopped. What it does not come to stays marked, for another look.
pub fn find(
    plat: &mut Plat,
    id: SpaceId,
    mm: &Mm,
    here: SpaceId,
    portion: &mut Portion,
    breathe: &mut dyn FnMut(),
) -> Result<Found, String> {
    let process = Process::open(plat.spaces.started(id)?)?;
    let mut found = Found {
        pid: process.pid(),
        ..Found::default()
    };
    let track = plat.spaces.tracks.remove(&id).unwrap_or_default();
    if track.asleep {
        // Its process has not run since the last look: nothing of it can have changed.
        plat.spaces.tracks.insert(id, track);
        return Ok(found);
    }
    let uffd = plat.spaces.uffd(id);
    let known = track.known && uffd.is_some() && !(track.first && portion.is_whole());
    match known {
        true => found.gone = track.gone,
        false => found.gone.push((0, GUEST_TOP)),
    }
    let parts = own_parts(plat, id, mm);
    let gone = capture::merged(found.gone.clone());
    let mut full = match known {
        true => without(&track.full, &gone),
        false => Vec::new(),
    };
    let mut filled = Vec::new();
    let spans = if known && !track.apart {
        spans(plat, id, mm, &gone)
    } else {
        Vec::new()
    };
    // A space that is new is taken in portions too, but for the pages that it has not copied from its snapshot.
    let begins = !known && !portion.is_whole();
    if let Some(uffd) = uffd.filter(|_| begins) {
        // One that cannot be registered fails its search.
        for (start, end, _) in &parts {
            let _ = register(uffd, *start, *end);
        }
    }
    let resume = if portion.is_whole() { 0 } else { track.resume };
    let first = begins || known && track.first;
    portion.stopped = None;
    let mut written = Vec::new();
    let mut apart = track.apart;
    let mut spans = spans.into_iter().peekable();
    // End of the span that was searched last, and whether it could be.
    let (mut until, mut whole) = (0, false);
    for (start, end, under) in parts {
        breathe();
        if start >= until
            && let Some((_, to)) = spans.next_if(|s| s.0 == start)
        {
            written.clear();
            until = to;
            let from = start.max(resume);
            whole = search(&process, from, to, &full, first, portion, &mut |s, e| {
                written.push((s, e))
            })
            .is_ok();
            // A mapping that the hooks do not know of is in it: what was found is lost, and may be lost again.
            apart |= !whole;
        }
        let mut runs = Vec::new();
        let scanned = match start < until {
            true => {
                let from = written.partition_point(|(_, e)| *e <= start);
                let here = written[from..].iter().take_while(|(s, _)| *s < end);
                runs.extend(here.map(|(s, e)| ((*s).max(start), (*e).min(end))));
                whole
            }
            false => {
                // What is new is listed at once: the next look does not know any more that it is.
                let mut all = Portion::whole();
                let (from, portion) = match known && meets(&gone, start, end) {
                    true => (start, &mut all),
                    false => (start.max(resume), &mut *portion),
                };
                let saved = matches!(under, Some(Under::Saved(_)));
                // Below that address all was listed once.
                let every = first && end > resume;
                (known || begins && uffd.is_some() && !saved)
                    && search(&process, from, end, &full, every, portion, &mut |s, e| {
                        runs.push((s, e));
                    })
                    .is_ok()
            }
        };
        if scanned {
            let early = track.early.iter().filter(|(s, e)| *s < end && *e > start);
            runs.extend(early.map(|(s, e)| ((*s).max(start), (*e).min(end))));
        } else {
            // New, or not followed: all that is there.
            if known {
                found.gone.push((start, end));
            }
            runs = capture::all_pages(plat, &process, id, (start, end, under))?;
            if let Some(uffd) = uffd {
                protect(uffd, &process, (start, end), known);
            }
        }
        let runs = capture::merged(runs);
        if under.is_none() {
            filled.extend(runs.iter().filter(|(s, e)| e - s >= FULL));
        }
        found.runs.extend(runs);
    }
    full.append(&mut filled);
    let track = Track {
        known: uffd.is_some() || id != here,
        full: capture::merged(full),
        apart,
        resume: match portion.stopped {
            _ if portion.is_whole() => 0,
            Some(at) => at,
            None => GUEST_TOP,
        },
        first,
        // Without a tracker of its own it gets one before it runs again (`follow_here`).
        asleep: uffd.is_none() && id != here,
        ..Track::default()
    };
    plat.spaces.tracks.insert(id, track);
    Ok(found)
}

/// All pages of a space, without a mark being touched.
pub fn all(plat: &Plat, id: SpaceId, mm: &Mm) -> Result<Found, String> {
    let process = Process::open(plat.spaces.started(id)?)?;
    let mut runs = Vec::new();
    for part in own_parts(plat, id, mm) {
        runs.extend(capture::all_pages(plat, &process, id, part)?);
    }
    Ok(Found {
        pid: process.pid(),
        gone: vec![(0, GUEST_TOP)],
        runs,
    })
}

/// In the process that is about to use the token: what it writes from here on is noticed, if changes are followed.
pub fn follow_here(v: &mut Vcpu, m: &mut Machine) {
    let first = m.plat.live.spaces.runs(v.space);
    if !m.plat.live.tracking {
        return;
    }
    let _side = alloc::enter(Side::Host);
    if v.tracker.is_none() {
        v.tracker = Tracker::new().ok();
    }
    let plat = &mut m.plat.live;
    plat.spaces.note_tracker(v.space, v.tracker.as_ref());
    if first {
        shared::follow(v, plat);
    }
    if !plat.spaces.tracks.get(&v.space).is_some_and(|t| t.asleep) {
        return;
    }
    let parts = capture::spaces(m.kernel)
        .get(&v.space)
        .map_or(Vec::new(), |mm| own_parts(plat, v.space, mm));
    let known = v.tracker.is_some();
    if let Some(t) = &v.tracker {
        // A range that cannot be registered fails its scan, and is taken whole then.
        parts
            .iter()
            .for_each(|(start, end, _)| t.protect(*start, *end, |_, _| {}));
    }
    let track = Track {
        known,
        ..Track::default()
    };
    plat.spaces.tracks.insert(v.space, track);
}

fn space(plat: &mut Plat, id: SpaceId, mm: &Mm, here: SpaceId, sink: &mut Chunks<'_>) -> Result<(), String> {
    let object = Object::Space(id.0);
    let found = find(plat, id, mm, here, &mut Portion::whole(), &mut || sink.breathe())?;
    for (start, end) in found.gone {
        sink.gone(object, start / PAGE, (end - start) / PAGE)?;
    }
    let process = Process::open(found.pid)?;
    let mut buf = vec![0; capture::CHUNK as usize];
    let mut read = 0;
    for (s, e) in found.runs {
        if read >= BREATHE {
            read = 0;
            sink.breathe();
        }
        read += e - s;
        for at in (s..e).step_by(buf.len()) {
            let piece = &mut buf[..(e - at).min(capture::CHUNK) as usize];
            let len = piece.len() as u64;
            // Our own memory is there: that saves the host a walk for each page.
            // SAFETY: guest memory; one that cannot be read ends at the copy's fix-up.
            let own = id == here && unsafe { entry::ftl_copy(piece.as_mut_ptr() as u64, at, len) } == 0;
            if own {
                sink.pages(object, at / PAGE, piece)?;
                continue;
            }
            process.read(at, at + len, piece, &mut |at, bytes| {
                sink.pages(object, at / PAGE, bytes)
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lose_what_others_have() {
        let all = [(0, 10), (20, 30), (40, 50)];
        assert_eq!(without(&all, &[]), all);
        assert_eq!(without(&all, &[(0, 50)]), []);
        assert_eq!(
            without(&all, &[(2, 4), (5, 22), (45, 60)]),
            [(0, 2), (4, 5), (22, 30), (40, 45)]
        );
        assert_eq!(without(&[(0, 10)], &[(0, 1), (9, 10), (10, 11)]), [(1, 9)]);
    }
}
