//! Locks on files of volumes bind the rest of the host too.
//!
//! The image's processes settle it among themselves first (`locks`). What they may have among
//! themselves the image asks of the host, as one: by record locks and flock of open descriptions
//! of its own, at most one for each of the two and each file. So at any time the host's locks are the union of the image's.
//!
//! A description is opened for no more than its locks need: one that is open for writing stands in the way of a snapshot or a
//! migration. Reading is enough for flock(2), and for record locks of readers.
//!
//! The host is asked without waiting. A task that must wait asks again after a while, by the image's
//! clock: the order of a replay is that of the recording, whoever holds the lock there.

use super::HostFile;
use super::locks::{FileLocks, Locks, Range};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, Stop};
use ftl_core::kcore::HostRef;
use ftl_core::platform::{Handle, Ns, Platform};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const F_RDLCK: i32 = 0;
const F_WRLCK: i32 = 1;
const F_UNLCK: i32 = 2;
const LOCK_SH: i32 = 1;
const LOCK_EX: i32 = 2;
const LOCK_UN: i32 = 8;
/// A waiter asks the host again after this long, at first and at most.
pub const ASK_AGAIN_NS: (Ns, Ns) = (1_000_000, 16_000_000);

/// How a description is opened: what is tried first, and what for want of that.
const FOR_READING: [i32; 2] = [oflag::O_RDONLY, oflag::O_WRONLY];
const FOR_WRITING: [i32; 3] = [oflag::O_RDWR, oflag::O_WRONLY, oflag::O_RDONLY];

/// A description of the image's own.
struct Description {
    host: HostRef,
    writable: bool,
}

/// What the image holds on the host.
#[derive(Default)]
pub struct HostSide {
    /// Has the record locks.
    for_ranges: RefCell<Option<Description>>,
    /// Has the lock of flock(2).
    for_whole: RefCell<Option<Description>>,
    /// Locked bytes, disjoint, ascending.
    covered: RefCell<Vec<(u64, u64)>>,
    whole: Cell<bool>,
    /// How often in a row somebody was refused.
    refused: Cell<u32>,
}

/// The host's file, if locks of this one, which `open` is, are to be held on the host too; not for files of the image.
fn on_host<'a>(cx: &mut Cx<'_>, open: &'a OpenFile, locks: &Rc<FileLocks>) -> Option<&'a HostFile> {
    let f = open.file.as_any().downcast_ref::<HostFile>()?;
    f.volume()?;
    if locks.host.borrow().is_none() {
        *locks.host.borrow_mut() = Some(HostSide::default());
        let mut hosted = cx.k.fs.locks.hosted.borrow_mut();
        hosted.retain(|w| w.strong_count() > 0);
        hosted.push(Rc::downgrade(locks));
    }
    Some(f)
}

/// Opens a description of the file.
fn describe(cx: &mut Cx<'_>, f: &HostFile, ways: &[i32]) -> Io<Description> {
    let new = cx.core.new_handle();
    let mut failed = Errno::EBADF;
    for flags in ways {
        match cx.env.plat.host_reopen(f.host.handle, *flags, new) {
            Ok(_) => {
                return Ok(Description {
                    host: cx.core.own(new),
                    writable: *flags != oflag::O_RDONLY,
                });
            }
            Err(e) => failed = e,
        }
    }
    Err(failed.into())
}

/// The description for record locks. One that cannot have a writer's is replaced when that is wanted: the new one has the readers' locks
/// before the old one lets go of them, so that at no time another's lock fits in between.
fn for_ranges(cx: &mut Cx<'_>, f: &HostFile, side: &HostSide, writes: bool) -> Io<Handle> {
    let had = side
        .for_ranges
        .borrow()
        .as_ref()
        .map(|d| (d.host.handle, d.writable));
    if let Some((h, writable)) = had
        && (writable || !writes)
    {
        return Ok(h);
    }
    let ways: &[i32] = if writes { &FOR_WRITING } else { &FOR_READING };
    let new = describe(cx, f, ways)?;
    let h = new.host.handle;
    if let Some((old, _)) = had {
        if !new.writable {
            return Ok(old);
        }
        let plat = &mut cx.env.plat;
        for (start, end) in side.covered.borrow().iter() {
            plat.host_lock(h, F_RDLCK, *start, *end)?;
        }
        plat.host_lock(old, F_UNLCK, 0, u64::MAX)?;
    }
    *side.for_ranges.borrow_mut() = Some(new);
    Ok(h)
}

/// Has the host give a record lock that nobody in the image stands in the way of. EAGAIN: somebody else does.
pub fn take(cx: &mut Cx<'_>, open: &OpenFile, locks: &Rc<FileLocks>, want: &Range) -> Io<()> {
    let Some(f) = on_host(cx, open, locks) else {
        return Ok(());
    };
    let kind = if want.exclusive { F_WRLCK } else { F_RDLCK };
    let host = locks.host.borrow();
    let Some(side) = &*host else { return Ok(()) };
    // Whoever has the file open for writing will want to lock it so.
    let h = for_ranges(cx, f, side, want.exclusive || open.writable())?;
    let got = cx.env.plat.host_lock(h, kind, want.start, want.end);
    side.answered(got.is_ok());
    got?;
    side.covered.borrow_mut().push((want.start, want.end));
    Ok(())
}

/// The same for flock.
pub fn take_whole(cx: &mut Cx<'_>, open: &OpenFile, locks: &Rc<FileLocks>, exclusive: bool) -> Io<()> {
    let Some(f) = on_host(cx, open, locks) else {
        return Ok(());
    };
    let op = if exclusive { LOCK_EX } else { LOCK_SH };
    let host = locks.host.borrow();
    let Some(side) = &*host else { return Ok(()) };
    let had = side.for_whole.borrow().as_ref().map(|d| d.host.handle);
    let h = match had {
        Some(h) => h,
        None => {
            let new = describe(cx, f, &FOR_READING)?;
            let h = new.host.handle;
            *side.for_whole.borrow_mut() = Some(new);
            h
        }
    };
    let mut got = cx.env.plat.host_flock(h, op);
    // A network file system that makes it a record lock. To go from one kind to the other is not one step on Linux either.
    if got == Err(Errno::EBADF) {
        let ways: &[i32] = if exclusive { &FOR_WRITING } else { &FOR_READING };
        let new = describe(cx, f, ways)?;
        // Refused as it was, with what is held still held, if the file cannot be opened for it.
        if !exclusive || new.writable {
            cx.env.plat.host_flock(h, LOCK_UN)?;
            got = cx.env.plat.host_flock(new.host.handle, op);
            *side.for_whole.borrow_mut() = Some(new);
        }
    }
    side.answered(got.is_ok());
    got?;
    side.whole.set(true);
    Ok(())
}

/// A lock of somebody outside that `want` would meet.
pub fn met(
    cx: &mut Cx<'_>,
    open: &OpenFile,
    locks: &Rc<FileLocks>,
    want: &Range,
) -> Io<Option<(bool, u64, u64)>> {
    let Some(f) = on_host(cx, open, locks) else {
        return Ok(None);
    };
    let kind = if want.exclusive { F_WRLCK } else { F_RDLCK };
    let host = locks.host.borrow();
    let Some(side) = &*host else { return Ok(None) };
    // Any description may ask.
    let h = for_ranges(cx, f, side, false)?;
    let met = cx.env.plat.host_lock_test(h, kind, want.start, want.end)?;
    Ok(met.map(|(kind, start, end)| (kind == F_WRLCK, start, end)))
}

/// Waits until it is worth asking again.
pub fn wait(cx: &mut Cx<'_>, locks: &Rc<FileLocks>) -> Stop {
    let refused = locks.host.borrow().as_ref().map_or(0, |s| s.refused.get());
    let ns = (ASK_AGAIN_NS.0 << refused.saturating_sub(1).min(8)).min(ASK_AGAIN_NS.1);
    let at = cx.now().saturating_add(ns);
    let at = cx.deadline_at(at);
    cx.wait_until(vec![locks.queue.on()], Some(at), Restart::Sys)
}

impl FileLocks {
    /// What the host holds for the image, if it holds anything.
    fn each(&self, f: &mut dyn FnMut(Held) -> Result<(), Errno>) -> Result<(), Errno> {
        for r in self.ranges() {
            let kind = if r.exclusive { F_WRLCK } else { F_RDLCK };
            f(Held::Range(kind, r.start, r.end))?;
        }
        match self.whole() {
            Some(true) => f(Held::Whole(LOCK_EX)),
            Some(false) => f(Held::Whole(LOCK_SH)),
            None => Ok(()),
        }
    }
}

impl HostSide {
    /// The description that has such locks.
    fn handle(&self, held: &Held) -> Option<Handle> {
        let which = match held {
            Held::Range(..) => &self.for_ranges,
            Held::Whole(_) => &self.for_whole,
        };
        which.borrow().as_ref().map(|d| d.host.handle)
    }

    fn answered(&self, got: bool) {
        self.refused.set(if got {
            0
        } else {
            self.refused.get().saturating_add(1)
        });
    }
}

/// A lock that the image holds on a file of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// By fcntl(2): kind as in `struct flock`, first and last byte.
    Range(i32, u64, u64),
    /// By flock(2): LOCK_SH or LOCK_EX.
    Whole(i32),
}

impl Locks {
    /// Calls `f` with each lock that the image holds on the host, and the description that holds it there: behind a restore
    /// that one is new, and has none yet.
    pub fn held_on_host(
        &self,
        f: &mut dyn FnMut(Handle, Held) -> Result<(), Errno>,
    ) -> Result<(), (Handle, Errno)> {
        for on in self.hosted.borrow().iter().filter_map(|w| w.upgrade()) {
            let host = on.host.borrow();
            let Some(side) = &*host else { continue };
            let mut at = None;
            let done = on.each(&mut |held| match side.handle(&held) {
                Some(h) => {
                    at = Some(h);
                    f(h, held)
                }
                None => Ok(()),
            });
            if let (Err(e), Some(h)) = (done, at) {
                return Err((h, e));
            }
        }
        Ok(())
    }

    /// Something went that the host may still have.
    pub fn is_stale(&self) -> bool {
        self.stale.get()
    }

    /// Lets go on the host of what nobody in the image holds any more. Called at kernel exits.
    pub fn settle_host(&self, plat: &mut dyn Platform) {
        if !self.stale.replace(false) {
            return;
        }
        let files: Vec<_> = self.hosted.borrow().iter().filter_map(|w| w.upgrade()).collect();
        for f in files {
            let held = f.held();
            let host = f.host.borrow();
            let Some(side) = &*host else { continue };
            let had = side.covered.replace(held.clone());
            if let Some(d) = &*side.for_ranges.borrow() {
                for (start, end) in without(had, &held) {
                    // The host cannot refuse but for want of memory, which ends the run elsewhere.
                    let _ = plat.host_lock(d.host.handle, F_UNLCK, start, end);
                }
            }
            if side.whole.get() && f.whole().is_none() {
                side.whole.set(false);
                if let Some(d) = &*side.for_whole.borrow() {
                    let _ = plat.host_flock(d.host.handle, LOCK_UN);
                }
            }
        }
    }
}

/// The parts of `had` that are not in `held`, which is disjoint and ascending.
fn without(had: Vec<(u64, u64)>, held: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    for (start, end) in had {
        let mut at = Some(start);
        for (s, e) in held.iter().filter(|(s, e)| *s <= end && start <= *e) {
            if let Some(from) = at.filter(|from| from < s) {
                out.push((from, s - 1));
            }
            at = e.checked_add(1);
        }
        if let Some(from) = at.filter(|from| *from <= end) {
            out.push((from, end));
        }
    }
    out
}

/// EAGAIN of the host, which is a reason to wait and not an error.
pub fn refused(e: &Stop) -> bool {
    matches!(e, Stop::Errno(Errno::EAGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::locks::Owner;

    #[test]
    fn the_host_is_told_of_each_kind() {
        let range = |owner, exclusive, start, end| Range {
            owner: Owner::Open(owner),
            exclusive,
            start,
            end,
        };
        let f = FileLocks::default();
        f.set(range(1, true, 0, 9), true);
        f.set(range(1, false, 20, u64::MAX), true);
        f.set(range(2, false, 30, 39), true);
        assert!(f.flock(1, Some(false)) && f.flock(2, Some(false)));
        let mut all = Vec::new();
        f.each(&mut |h| {
            all.push(h);
            Ok(())
        })
        .expect("no error");
        let read = |s, e| Held::Range(F_RDLCK, s, e);
        let want = [Held::Range(F_WRLCK, 0, 9), read(20, u64::MAX), read(30, 39)];
        assert_eq!(all, [&want[..], &[Held::Whole(LOCK_SH)]].concat());
        assert_eq!(f.each(&mut |_| Err(Errno::EAGAIN)), Err(Errno::EAGAIN));
    }

    #[test]
    fn what_is_left_over() {
        assert_eq!(without(vec![(0, 99)], &[]), [(0, 99)]);
        assert_eq!(without(vec![(0, 99)], &[(0, 99)]), []);
        assert_eq!(
            without(vec![(0, 99)], &[(10, 19), (30, 39)]),
            [(0, 9), (20, 29), (40, 99)]
        );
        assert_eq!(without(vec![(5, u64::MAX)], &[(0, 7), (9, u64::MAX)]), [(8, 8)]);
    }
}
