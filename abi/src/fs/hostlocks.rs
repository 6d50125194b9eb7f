//! Locks on files of volumes bind the rest of the host too.
//!
//! The image's processes settle it among themselves first (`locks`). What they may have among
//! themselves the image asks of the host, as one: by record locks and flock of one open description
//! of its own for each file. So at any time the host's locks are the union of the image's.
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

/// What the image holds on the host.
pub struct HostSide {
    description: HostRef,
    /// Locked bytes, disjoint, ascending.
    covered: RefCell<Vec<(u64, u64)>>,
    whole: Cell<bool>,
    /// How often in a row somebody was refused.
    refused: Cell<u32>,
}

/// Makes sure that locks of this file, which `open` is, are held on the host too: false for files of the image.
fn on_host(cx: &mut Cx<'_>, open: &OpenFile, locks: &Rc<FileLocks>) -> Io<bool> {
    let Some(f) = open.file.as_any().downcast_ref::<HostFile>() else {
        return Ok(false);
    };
    if f.volume().is_none() {
        return Ok(false);
    }
    if locks.host.borrow().is_some() {
        return Ok(true);
    }
    let new = cx.core.new_handle();
    let plat = &mut cx.env.plat;
    // One that may write can have both kinds; who may not write the file has readers only.
    if plat.host_reopen(f.host.handle, oflag::O_RDWR, new).is_err() {
        plat.host_reopen(f.host.handle, oflag::O_RDONLY, new)?;
    }
    *locks.host.borrow_mut() = Some(HostSide {
        description: cx.core.own(new),
        covered: RefCell::default(),
        whole: Cell::new(false),
        refused: Cell::new(0),
    });
    let mut hosted = cx.k.fs.locks.hosted.borrow_mut();
    hosted.retain(|w| w.strong_count() > 0);
    hosted.push(Rc::downgrade(locks));
    Ok(true)
}

/// Has the host give a record lock that nobody in the image stands in the way of. EAGAIN: somebody else does.
pub fn take(cx: &mut Cx<'_>, open: &OpenFile, locks: &Rc<FileLocks>, want: &Range) -> Io<()> {
    if !on_host(cx, open, locks)? {
        return Ok(());
    }
    let kind = if want.exclusive { F_WRLCK } else { F_RDLCK };
    let host = locks.host.borrow();
    let Some(side) = &*host else { return Ok(()) };
    let got = cx
        .env
        .plat
        .host_lock(side.description.handle, kind, want.start, want.end);
    side.answered(got.is_ok());
    got?;
    side.covered.borrow_mut().push((want.start, want.end));
    Ok(())
}

/// The same for flock.
pub fn take_whole(cx: &mut Cx<'_>, open: &OpenFile, locks: &Rc<FileLocks>, exclusive: bool) -> Io<()> {
    if !on_host(cx, open, locks)? {
        return Ok(());
    }
    let op = if exclusive { LOCK_EX } else { LOCK_SH };
    let host = locks.host.borrow();
    let Some(side) = &*host else { return Ok(()) };
    let got = cx.env.plat.host_flock(side.description.handle, op);
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
    if !on_host(cx, open, locks)? {
        return Ok(None);
    }
    let kind = if want.exclusive { F_WRLCK } else { F_RDLCK };
    let host = locks.host.borrow();
    let Some(side) = &*host else { return Ok(None) };
    let h = side.description.handle;
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
            let h = side.description.handle;
            on.each(&mut |held| f(h, held)).map_err(|e| (h, e))?;
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
            let h = side.description.handle;
            let had = side.covered.replace(held.clone());
            for (start, end) in without(had, &held) {
                // The host cannot refuse but for want of memory, which ends the run elsewhere.
                let _ = plat.host_lock(h, F_UNLCK, start, end);
            }
            if side.whole.get() && f.whole().is_none() {
                side.whole.set(false);
                let _ = plat.host_flock(h, LOCK_UN);
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
