//! Which parts of the arena and of the page store may have changed: all processes of an image map them, each with marks of its own.
//!
//! Marks die with a process and with a mapping: they are noted before that (`platform::space`). What a process has not in its tables counts
//! as written: one that has come to run is marked first. What was a hole at the last look counts as changed, whoever wrote it.

use super::capture::{self, Process};
use super::changes::{BREATHE, common, page, without};
use crate::dirty::{Tracker, register, take_shared};
use crate::platform::Plat;
use crate::platform::maps::Maps;
use crate::platform::shared::joined;
use crate::run::Machine;
use crate::vcpu::{self, Vcpu};
use ftl_core::layout::{ARENA, ARENA_LEN, PAGE, PAGES, PAGES_LEN, SHADOW_ARENA, SHADOW_PAGES};

fn pages_in(parts: &[Vec<(u64, u64)>; 2]) -> u64 {
    parts.iter().flatten().map(|(s, e)| (e - s) / PAGE).sum()
}

/// Parts of a memfd that hold something.
fn extents(fd: i32) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some((start, end)) = capture::next_data(fd, at) {
        out.push((start, end));
        at = end;
    }
    out
}

/// One look in so many that relies on marks of shared memory is compared with all of it.
pub const CHECK_MARKS: u64 = 64;

/// Parts of the arena and of the page store, as offsets, that may have changed since the last look: what some process has
/// marked as written, or all that is there if marks were lost. Marks are taken away.
pub fn changes(m: &mut Machine, breathe: &mut dyn FnMut()) -> [Vec<(u64, u64)>; 2] {
    let all = [extents(m.fds.arena), extents(m.fds.pages)];
    let marked = marks(m, &all, breathe);
    let shared = &mut m.plat.live.spaces.shared;
    let Some(marked) = marked.filter(|_| !shared.wrong) else {
        shared.compared += pages_in(&all);
        return all;
    };
    shared.looks += 1;
    let [arena, store] = marked;
    let found = [common(&arena, &all[0]), common(&store, &all[1])];
    shared.compared += pages_in(&found);
    if shared.looks % CHECK_MARKS == 1 && !are_enough(&found, &all, breathe) {
        shared.wrong = true;
        crate::talk::warn(MARKS_WRONG);
        return all;
    }
    found
}

/// What is told once when marks of shared memory were not what had changed.
pub const MARKS_WRONG: &str =
    "shared memory has changed without a mark; from now on snapshots compare all of it";

/// The same for a copy in rounds: whoever asked compares.
pub fn marked(m: &mut Machine) -> Option<[Vec<(u64, u64)>; 2]> {
    let all = [extents(m.fds.arena), extents(m.fds.pages)];
    marks(m, &all, &mut || {})
}

/// What of the arena and of the page store some process has marked as written since the last look; `None` if marks were lost
/// since, so that any of it may have changed. Marks are taken away. `all`: what there is.
fn marks(
    m: &mut Machine,
    all: &[Vec<(u64, u64)>; 2],
    breathe: &mut dyn FnMut(),
) -> Option<[Vec<(u64, u64)>; 2]> {
    let ends = [&all[0], &all[1]].map(|e| e.last().map_or(0, |x| x.1));
    let plat = &mut m.plat.live;
    // SAFETY: the vCPU page of this process.
    let v = unsafe { vcpu::get() };
    if v.dying {
        // It is in the list of spaces no more, but the kernel runs in it until the token leaves.
        plat.spaces.keep_windows(v.tracker.as_ref().map(Tracker::pagemap));
    }
    let marks = &mut plat.spaces.shared;
    let mut known = std::mem::replace(&mut marks.known, true);
    let mut runs = std::mem::take(&mut marks.early);
    for n in 0..2 {
        // What was a hole at the last look has changed, whoever has written it: of one that has ended that is not known.
        runs[n].extend(without(&all[n], &marks.there[n]));
        marks.there[n] = joined(&all[n]);
    }
    marks.begun = 0;
    for id in plat.spaces.ids() {
        breathe();
        if !plat.spaces.has_run(id) {
            // It begins to be followed when it does (`follow_here`).
            continue;
        }
        if plat.spaces.tracks.get(&id).is_some_and(|t| t.asleep) {
            // Its process has not run.
            continue;
        }
        let process = plat.spaces.started(id).and_then(Process::open);
        let (Some(uffd), Ok(process)) = (plat.spaces.uffd(id), process) else {
            known = false;
            continue;
        };
        let windows = [(ARENA, ARENA_LEN), (PAGES, PAGES_LEN)];
        for (n, (base, len)) in windows.into_iter().enumerate() {
            let look = |runs: &mut Vec<(u64, u64)>| {
                take_shared(process.pagemap(), base, base + ends[n], &mut |s, e| {
                    runs.push((s - base, e - base));
                })
            };
            if ends[n] > 0 && look(&mut runs[n]).is_err() {
                // A process that has not been looked at before: what it has written until now is not known.
                known = false;
                let _ = register(uffd, base, base + len).and_then(|()| look(&mut Vec::new()));
            }
        }
        let parts = plat.spaces.maps.get(&id).map_or(Vec::new(), |maps| maps.shared());
        for (start, end, off) in parts {
            let look = |runs: &mut Vec<(u64, u64)>| {
                take_shared(process.pagemap(), start, end, &mut |s, e| {
                    runs.push((off + (s - start), off + (e - start)));
                })
            };
            if look(&mut runs[1]).is_err() {
                runs[1].push((off, off + (end - start)));
                let _ = register(uffd, start, end).and_then(|()| look(&mut Vec::new()));
            }
        }
    }
    known.then(|| runs.map(capture::merged))
}

/// Nothing outside of what was found differs from the copy.
fn are_enough(found: &[Vec<(u64, u64)>; 2], all: &[Vec<(u64, u64)>; 2], breathe: &mut dyn FnMut()) -> bool {
    let windows = [(ARENA, SHADOW_ARENA), (PAGES, SHADOW_PAGES)];
    for (n, (base, shadow)) in windows.into_iter().enumerate() {
        for (start, end) in &all[n] {
            for at in (*start..*end).step_by(PAGE as usize) {
                if at % BREATHE == 0 {
                    breathe();
                }
                let next = found[n].partition_point(|f| f.1 <= at);
                let marked = found[n].get(next).is_some_and(|f| f.0 <= at);
                if !marked && page(base + at) != page(shadow + at) {
                    return false;
                }
            }
        }
    }
    true
}

/// A process that has come to run is marked with its shared memory, as long as that costs less than to compare that: marking a page is
/// about a hundred times cheaper. So often at most between two looks.
const MOST_BEGUN: u64 = 64;

/// In a process that runs for the first time: none of the shared memory that was there at the last look is in its tables, and what is
/// not in there counts as written. It is marked as not written.
pub fn follow(v: &Vcpu, plat: &mut Plat) {
    let marks = &plat.spaces.shared;
    if !marks.known {
        // The next look compares all, and follows this process from there on.
        return;
    }
    let mut ranges = Vec::new();
    for (base, parts) in [ARENA, PAGES].into_iter().zip(&marks.there) {
        ranges.extend(parts.iter().map(|(s, e)| (base + s, base + e)));
    }
    let own = plat.spaces.maps.get(&v.space).map_or(Vec::new(), Maps::shared);
    for (start, end, off) in &own {
        let parts = common(&[(*off, off + (end - start))], &marks.there[1]);
        ranges.extend(parts.iter().map(|(s, e)| (start + (s - off), start + (e - off))));
    }
    let pages = |ranges: &[(u64, u64)]| ranges.iter().map(|(s, e)| (e - s) / PAGE).sum::<u64>();
    let begun = marks.begun + pages(&ranges);
    let all = pages(&marks.there[0]) + pages(&marks.there[1]);
    let followed = begun <= MOST_BEGUN * all
        && v.tracker.as_ref().is_some_and(|t| {
            let windows = [(ARENA, ARENA + ARENA_LEN), (PAGES, PAGES + PAGES_LEN)];
            let whole = windows.into_iter().chain(own.iter().map(|(s, e, _)| (*s, *e)));
            whole.into_iter().all(|(s, e)| t.register(s, e).is_ok())
                && ranges
                    .iter()
                    .all(|(s, e)| take_shared(t.pagemap(), *s, *e, &mut |_, _| {}).is_ok())
        });
    let marks = &mut plat.spaces.shared;
    match followed {
        true => marks.begun = begun,
        false => marks.lose(),
    }
}
