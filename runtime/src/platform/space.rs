//! Guest address spaces: mappings of the current process, and the processes behind the others.
//!
//! Every space is a host process with the same descriptor table. One holds the image's token; the
//! others wait on their own word in the host arena. Effects here are determined by the image; the
//! host refusing one (memory, mappings) ends the run with a message (PROTOCOL §8).

use super::Plat;
use super::maps::{Maps, Under};
use super::shared::SharedMarks;
use crate::alloc::{self, Side};
use crate::entry;
use crate::snap::lazy;
use crate::sys::{self, HostErr, sys};
use crate::vcpu;
use ftl_core::layout::{GUEST_RANGES, GUEST_TOP, PAGE, PAGES, PAGES_LEN};
use ftl_core::platform::{Advice, Backing, Fault, Prot, Space};
use ftl_core::wait::SpaceId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Values of a space's word.
const WAIT: u32 = 0;
const RUN: u32 = 1;
const DIE: u32 = 2;

/// How long a new host process may take to start, ms.
const START_MS: u32 = 30_000;

/// A space's place in the host arena: how its process is told to run, and which it is.
#[derive(Default, Debug)]
pub struct Seat {
    /// [`WAIT`], [`RUN`] or [`DIE`].
    pub word: AtomicU32,
    /// Host pid of the process; 0 until it has started.
    pub pid: AtomicU32,
    /// Descriptor of its userfaultfd plus one; 0 if it has none.
    pub uffd: AtomicU32,
    /// 1: it has had the token. Before that it has written nothing of what the image's processes share.
    pub ran: AtomicU32,
}

/// What a space's changes are known by, beside the marks in its page tables.
#[derive(Default, Debug)]
pub struct Track {
    /// A snapshot holds this space: only changes are to be taken.
    pub known: bool,
    /// Ranges whose old pages are void.
    pub gone: Vec<(u64, u64)>,
    /// Written before a cut's protection took the marks away.
    pub early: Vec<(u64, u64)>,
    /// Its process has not run since the last look, and is followed when it does (`snap::changes::follow_here`).
    pub asleep: bool,
    /// Anonymous ranges of which every page was there when it was last listed, ascending: searched the fast way.
    pub full: Vec<(u64, u64)>,
    /// Its mappings are searched one by one: a search over several at once was refused.
    pub apart: bool,
    /// Short looks have come to this address; what is below is for the next time around.
    pub resume: u64,
    /// They have not come around once: what lies above `resume` is to be listed whether it is marked or not, since marks of an
    /// earlier snapshot may be there.
    pub first: bool,
}

/// Ranges kept at most: with more, the whole space counts as changed.
pub(super) const MOST_GONE: usize = 4096;

impl Track {
    /// The next look tells that what was at this address is gone.
    pub fn is_void(&self, at: u64) -> bool {
        !self.known || self.gone.iter().any(|(s, e)| (*s..*e).contains(&at))
    }

    /// A range was written before its marks were taken away.
    fn note_early(&mut self, start: u64, end: u64) {
        self.early.push((start, end));
        if self.early.len() > MOST_GONE {
            *self = Track::default();
        }
    }
}

/// The processes of an image.
#[derive(Default, Debug)]
pub struct Spaces {
    words: BTreeMap<SpaceId, Box<Seat>>,
    /// What lies under the mappings of each space.
    pub maps: BTreeMap<SpaceId, Maps>,
    /// What is known of each space's changes.
    pub tracks: BTreeMap<SpaceId, Track>,
    /// Marks of shared memory, in the tables of all processes. They are gone with a process, and with a mapping.
    pub shared: SharedMarks,
    template: Option<Box<Template>>,
}

/// What is asked of the process that makes empty spaces.
#[derive(Default, Debug)]
struct Template {
    /// 0 while it waits, else the wanted space's number plus 1.
    word: AtomicU32,
    /// Seat of that space.
    seat: AtomicPtr<Seat>,
}

impl Spaces {
    /// A space whose process says itself which one it is ([`sit_down`]). It is given its seat, valid until
    /// [`Spaces::remove`]: looking for it without the token, it could meet these maps while they change.
    pub fn add(&mut self, id: SpaceId) -> *const Seat {
        let seat = Box::<Seat>::default();
        let at = &raw const *seat;
        self.words.insert(id, seat);
        self.maps.insert(id, Maps::default());
        self.tracks.insert(id, Track::default());
        at
    }
    /// Descriptor of the userfaultfd of a space's process.
    pub fn uffd(&self, id: SpaceId) -> Option<i32> {
        let fd = self.words.get(&id)?.uffd.load(Ordering::Acquire);
        (fd > 0).then(|| fd as i32 - 1)
    }
    /// The userfaultfd of a space's process, as far as that has one.
    pub fn note_tracker(&self, id: SpaceId, tracker: Option<&crate::dirty::Tracker>) {
        if let Some(seat) = self.words.get(&id) {
            let uffd = tracker.map_or(0, |t| t.uffd() as u32 + 1);
            seat.uffd.store(uffd, Ordering::Release);
        }
    }
    /// Host pid of a space's process; 0 if it has not started.
    pub fn pid(&self, id: SpaceId) -> u32 {
        self.words.get(&id).map_or(0, |s| s.pid.load(Ordering::Acquire))
    }
    /// The same, once it has: a process that was just made says so when it comes to run.
    pub fn started(&self, id: SpaceId) -> Result<u32, String> {
        for _ in 0..START_MS {
            match self.pid(id) {
                0 => sys::sleep_ns(1_000_000),
                pid => return Ok(pid),
            }
        }
        Err(format!("the host process of space {} does not start", id.0))
    }
    /// Some space other than `id`.
    pub fn other(&self, id: SpaceId) -> Option<SpaceId> {
        self.words.keys().copied().find(|s| *s != id)
    }
    /// A range of a space was written before a cut's protection took the marks away.
    pub fn note_early(&mut self, id: SpaceId, (start, end): (u64, u64), shared: bool) {
        if !shared {
            if let Some(t) = self.tracks.get_mut(&id).filter(|t| t.known) {
                t.note_early(start, end);
            }
            return;
        }
        if !self.shared.known {
            return;
        }
        for (from, to, off) in self.maps.get(&id).map_or(Vec::new(), Maps::shared) {
            let (s, e) = (from.max(start), to.min(end));
            if s < e {
                self.shared.note(1, off + (s - from), off + (e - from));
            }
        }
    }
    /// Mappings of the page store of a space are about to go, in this range, and the marks in them: what these tell is kept.
    /// `pagemap`: of its process; none: it has no marks.
    fn keep_marks(&mut self, id: SpaceId, (start, end): (u64, u64), pagemap: Option<i32>) {
        if !self.shared.known {
            return;
        }
        for (from, to, off) in self.maps.get(&id).map_or(Vec::new(), Maps::shared) {
            let (s, e) = (from.max(start), to.min(end));
            if s >= e {
                continue;
            }
            let at = |x: u64| off + (x - from);
            let marks = &mut self.shared;
            let seen = pagemap.is_some_and(|p| {
                crate::dirty::see_shared(p, s, e, &mut |s, e| marks.note(1, at(s), at(e))).is_ok()
            });
            if !seen {
                // One that was made since the last look is not followed yet.
                self.shared.note(1, at(s), at(e));
            }
        }
    }
    /// The same of what every process has mapped: the process behind the pagemap ends.
    pub fn keep_windows(&mut self, pagemap: Option<i32>) {
        if !self.shared.known {
            return;
        }
        let there = std::mem::take(&mut self.shared.there);
        let windows = [ftl_core::layout::ARENA, PAGES];
        let marks = &mut self.shared;
        let seen = pagemap.is_some_and(|p| {
            windows.iter().zip(&there).enumerate().all(|(n, (base, parts))| {
                parts.iter().all(|(s, e)| {
                    let note = &mut |s, e| marks.note(n, s - base, e - base);
                    crate::dirty::see_shared(p, base + s, base + e, note).is_ok()
                })
            })
        });
        if !seen {
            self.shared.lose();
        }
        self.shared.there = there;
    }
    /// The process of a space has the token. True: for the first time.
    pub fn runs(&self, id: SpaceId) -> bool {
        let seat = self.words.get(&id);
        seat.is_some_and(|s| s.ran.swap(1, Ordering::AcqRel) == 0)
    }
    /// It has had the token.
    pub fn has_run(&self, id: SpaceId) -> bool {
        self.words
            .get(&id)
            .is_some_and(|s| s.ran.load(Ordering::Acquire) != 0)
    }
    /// Passes the token to the process of `id`.
    pub fn give(&self, id: SpaceId) {
        if let Some(w) = self.words.get(&id) {
            w.word.store(RUN, Ordering::Release);
            sys::futex_wake(&w.word);
        }
    }
    /// A pointer to the seat of a space, valid until [`Spaces::remove`].
    pub fn seat(&self, id: SpaceId) -> Option<*const Seat> {
        self.words.get(&id).map(|b| &raw const **b)
    }
    fn remove(&mut self, id: SpaceId) -> Option<Box<Seat>> {
        self.maps.remove(&id);
        self.tracks.remove(&id);
        self.words.remove(&id)
    }
    /// All spaces.
    pub fn ids(&self) -> Vec<SpaceId> {
        self.words.keys().copied().collect()
    }
    /// Number of spaces.
    pub fn len(&self) -> usize {
        self.words.len()
    }
}

/// The calling process is the one of this seat.
///
/// # Safety
/// `seat` points to the seat of the calling process' space.
pub unsafe fn sit_down(seat: *const Seat, tracker: Option<&crate::dirty::Tracker>) {
    // SAFETY: seats live in the host arena until their process has gone; getpid has no effects.
    unsafe {
        let pid = sys!(libc::SYS_getpid).unwrap_or(0);
        let uffd = tracker.map_or(0, |t| t.uffd() as u32 + 1);
        (*seat).uffd.store(uffd, Ordering::Release);
        (*seat).pid.store(pid as u32, Ordering::Release);
    }
}

/// Waits for the token. Ends the process if its space was dropped.
///
/// # Safety
/// `seat` points to the seat of the calling process' space.
pub unsafe fn wait_for_token(seat: *const Seat) {
    // SAFETY: seats live in the host arena until their process has gone.
    let word = unsafe { &(*seat).word };
    loop {
        match word.load(Ordering::Acquire) {
            RUN => {
                word.store(WAIT, Ordering::Relaxed);
                return;
            }
            DIE => {
                // Its descriptors are in the table that all processes share.
                // SAFETY: the vCPU page of this process, whose only thread this is.
                if let Some(t) = unsafe { vcpu::get() }.tracker.take() {
                    t.close();
                }
                sys::step_back();
                sys::exit(0)
            }
            v => sys::futex_wait(word, v),
        }
    }
}

/// A copy of this process, a child of the supervisor with the same descriptor table. 0 in the copy.
pub fn clone_process() -> u64 {
    let flags = (libc::CLONE_FILES | libc::CLONE_PARENT | libc::SIGCHLD) as u64;
    // SAFETY: a fork: the child runs on a copy of this stack and leaves it at once.
    must("creating a host process", unsafe {
        sys!(libc::SYS_clone, flags, 0, 0, 0, 0)
    })
}

/// The life of the process that makes empty spaces. It never runs guest code.
fn make_spaces(template: &Template) -> ! {
    crate::control::end_with_supervisor();
    let word = &template.word;
    loop {
        match word.load(Ordering::Acquire) {
            0 => sys::futex_wait(word, 0),
            n => {
                let seat = template.seat.load(Ordering::Relaxed);
                if clone_process() == 0 {
                    crate::run::child_start(SpaceId(n - 1), seat);
                }
                word.store(0, Ordering::Release);
                sys::futex_wake(word);
            }
        }
    }
}

pub fn prot_bits(p: Prot) -> i32 {
    p.bits() as i32
}

pub fn must<T>(what: &str, r: Result<T, HostErr>) -> T {
    match r {
        Ok(v) => v,
        Err(e) => {
            alloc::set(Side::System);
            crate::run::fail_stop(&format!("{what}: {e}"))
        }
    }
}

/// How many bytes from `from` on are not mapped any more. What is gone is a prefix.
fn moved_already(from: u64, len: u64) -> u64 {
    let gone = |page: u64| {
        let mut out = 0u8;
        // SAFETY: asks only; the byte is ours.
        let asked = unsafe { sys!(libc::SYS_mincore, from + page * PAGE, PAGE, &raw mut out) };
        asked == Err(HostErr(libc::ENOMEM))
    };
    let (mut lo, mut hi) = (0, len / PAGE);
    while lo < hi {
        let mid = (lo + hi) / 2;
        if gone(mid) { lo = mid + 1 } else { hi = mid }
    }
    lo * PAGE
}

/// Only one process of an image runs at a time: on one CPU the token changes hands in 4 us, across
/// CPUs in 43. Children inherit it.
pub fn stay_on_this_cpu() {
    let mut cpu = 0u32;
    // SAFETY: valid pointers; a failure leaves the affinity as it was.
    unsafe {
        if sys!(libc::SYS_getcpu, &raw mut cpu, 0, 0).is_ok() {
            let mut set = [0u64; 16];
            if let Some(word) = set.get_mut(cpu as usize / 64) {
                *word = 1 << (cpu % 64);
                let _ = sys!(libc::SYS_sched_setaffinity, 0, size_of_val(&set), set.as_ptr());
            }
        }
    }
}

/// Unmaps all that a guest can have mapped in this process.
pub fn unmap_guest() {
    for (lo, hi) in GUEST_RANGES {
        // SAFETY: everything in these ranges is the old program's (or the first runtime instance's).
        must("clearing the space", unsafe { sys::munmap(lo, hi - lo) });
    }
}

fn move_host(from: u64, len: u64, to: u64) {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both ranges are the guest's by the kernel's map.
    let moved = unsafe { sys!(libc::SYS_mremap, from, len, len, flags, to) };
    match moved {
        // What is one mapping for the guest may be several for the host. Since Linux 6.17 the host moves
        // those that it can and stops at one under write protection.
        Err(e) if e.0 == libc::EFAULT && moved_already(from, len) > 0 => {
            let done = moved_already(from, len);
            if done < len {
                move_host(from + done, len - done, to + done);
            }
        }
        // Halve until it is one.
        Err(e) if e.0 == libc::EFAULT && len > PAGE => {
            let half = (len / PAGE / 2) * PAGE;
            move_host(from, half, to);
            move_host(from + half, len - half, to + half);
        }
        r => {
            must("moving guest memory", r);
        }
    }
}

impl Plat {
    fn maps_here(&self) -> Option<&Maps> {
        // SAFETY: the vCPU page of this process.
        self.spaces.maps.get(&unsafe { vcpu::get() }.space)
    }

    fn maps_here_mut(&mut self) -> Option<&mut Maps> {
        // SAFETY: the vCPU page of this process.
        self.spaces.maps.get_mut(&unsafe { vcpu::get() }.space)
    }

    /// Old pages of a range of the current space are void; what is there now is followed.
    fn changed_here(&mut self, start: u64, end: u64, mapped: bool) {
        // SAFETY: the vCPU page of this process.
        let v = unsafe { vcpu::get() };
        if !self.tracking && v.tracker.is_none() {
            return;
        }
        let _side = alloc::enter(Side::Host);
        let known = self.spaces.tracks.get_mut(&v.space).filter(|t| t.known);
        if let Some(t) = known.filter(|_| self.tracking) {
            t.gone.push((start, end));
            if t.gone.len() > MOST_GONE {
                *t = Track::default();
            }
        }
        if let Some(t) = &v.tracker {
            // A mapping that cannot be registered fails its scan and is taken whole.
            if !mapped || t.register(start, end).is_err() {
                t.doubt(start, end);
            }
        }
    }

    /// Notes what is under a range of the current space. Plain memory over plain memory costs a look.
    fn mapped_here(&mut self, start: u64, end: u64, under: Option<Under>) {
        let Some(maps) = self.maps_here_mut() else { return };
        if under.is_none() && !maps.knows(start, end) {
            return;
        }
        let _side = alloc::enter(Side::Host);
        match under {
            Some(u) => maps.set(start, end, u),
            None => maps.cut(start, end),
        }
    }

    /// What is mapped in a range of the current space is about to go: the marks of shared memory there are kept.
    fn keep_marks_here(&mut self, start: u64, end: u64) {
        if !self.tracking || !self.maps_here().is_some_and(|m| m.knows(start, end)) {
            return;
        }
        let _side = alloc::enter(Side::Host);
        // SAFETY: the vCPU page of this process.
        let v = unsafe { vcpu::get() };
        let pagemap = v.tracker.as_ref().map(crate::dirty::Tracker::pagemap);
        self.spaces.keep_marks(v.space, (start, end), pagemap);
    }

    /// The same of all shared memory of another process, which is to end.
    fn keep_marks_of(&mut self, id: SpaceId) {
        if !self.tracking || !self.spaces.has_run(id) {
            return;
        }
        // One that cannot be looked into has no marks to go by.
        let process = crate::snap::capture::Process::open(self.spaces.pid(id)).ok();
        let pagemap = process.as_ref().map(crate::snap::capture::Process::pagemap);
        self.spaces.keep_marks(id, (0, GUEST_TOP), pagemap);
        self.spaces.keep_windows(pagemap);
    }

    /// Pages that a restored image has not copied yet must not come back from the snapshot. And where a file is under
    /// pages that are followed, giving them up would leave the host's mark of their protection in their place, which
    /// counts as a page of the process' own: such a range is mapped anew.
    fn forget_saved(&mut self, addr: u64, len: u64, prot: Prot) {
        if !self.maps_here().is_some_and(|m| m.knows(addr, addr + len)) {
            return;
        }
        let _side = alloc::enter(Side::Host);
        // SAFETY: the vCPU page of this process.
        let followed = unsafe { vcpu::get() }.tracker.is_some() && !prot.contains(Prot::EXEC);
        let parts = self.maps_here().map_or(Vec::new(), |m| m.parts(addr, addr + len));
        for (start, end, under) in parts {
            let file = match under {
                Some(Under::File(h, off)) => self.fd(h).ok().map(|fd| (0, fd, off)),
                Some(Under::Private(off)) => Some((libc::MAP_NORESERVE, self.pages_fd, off)),
                _ => None,
            };
            if let Some((more, fd, off)) = file.filter(|_| followed) {
                let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | more;
                // SAFETY: the guest has given up what these pages held; the same file shows there again.
                must("discarding guest memory", unsafe {
                    sys::mmap(start, end - start, prot_bits(prot), flags, fd, off)
                });
            }
            if let Some(Under::Saved(_)) = under {
                let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
                // SAFETY: the guest has given up what these pages held.
                must("discarding guest memory", unsafe {
                    sys::mmap(start, end - start, prot_bits(prot), flags, -1, 0)
                });
                self.mapped_here(start, end, None);
            }
        }
    }
}

impl Space for Plat {
    fn map(&mut self, addr: u64, len: u64, prot: Prot, backing: Backing) {
        lazy::forget(addr, addr + len);
        self.keep_marks_here(addr, addr + len);
        let base = libc::MAP_FIXED;
        let (flags, fd, off) = match backing {
            Backing::Anon => (
                base | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            ),
            Backing::HostFile(h, off) => {
                let fd = self.fd(h).unwrap_or(-1);
                (base | libc::MAP_PRIVATE, fd, off)
            }
            Backing::SharedPages(off) => (base | libc::MAP_SHARED, self.pages_fd, off),
            Backing::PrivatePages(off) => {
                (base | libc::MAP_PRIVATE | libc::MAP_NORESERVE, self.pages_fd, off)
            }
            // Behind the end of the page store's own file the host does what is wanted.
            Backing::Beyond => (base | libc::MAP_SHARED, self.pages_fd, PAGES_LEN),
        };
        // SAFETY: the kernel's map of the space says that the range is the guest's to replace.
        must("mapping guest memory", unsafe {
            sys::mmap(addr, len, prot_bits(prot), flags, fd, off)
        });
        let under = match backing {
            Backing::Anon => None,
            Backing::HostFile(h, off) => Some(Under::File(h, off)),
            Backing::SharedPages(off) => Some(Under::Shared(off)),
            Backing::PrivatePages(off) => Some(Under::Private(off)),
            Backing::Beyond => Some(Under::Shared(PAGES_LEN)),
        };
        self.mapped_here(addr, addr + len, under);
        self.changed_here(addr, addr + len, !matches!(under, Some(Under::Shared(_))));
    }

    fn unmap(&mut self, addr: u64, len: u64) {
        lazy::forget(addr, addr + len);
        self.keep_marks_here(addr, addr + len);
        // SAFETY: as above.
        must("unmapping guest memory", unsafe { sys::munmap(addr, len) });
        self.mapped_here(addr, addr + len, None);
        self.changed_here(addr, addr + len, false);
    }

    fn protect(&mut self, addr: u64, len: u64, prot: Prot) {
        lazy::open(addr, addr + len);
        // SAFETY: guest memory; the kernel has checked that all of it is mapped.
        must("protecting guest memory", unsafe {
            sys!(libc::SYS_mprotect, addr, len, prot_bits(prot))
        });
    }

    fn move_pages(&mut self, from: u64, len: u64, to: u64) {
        lazy::open(from, from + len);
        lazy::forget(to, to + len);
        self.keep_marks_here(from, from + len);
        self.keep_marks_here(to, to + len);
        // SAFETY: the vCPU page of this process.
        if let Some(t) = &unsafe { vcpu::get() }.tracker {
            let _side = alloc::enter(Side::Host);
            // Part by part: of a range with a file's pages that are not followed all of it would be refused.
            let parts = self.maps_here().map_or(Vec::new(), |m| m.parts(from, from + len));
            parts.iter().for_each(|(s, e, _)| t.unregister(*s, *e));
        }
        move_host(from, len, to);
        self.changed_here(from, from + len, false);
        // Not registered at once: the scan fails, and the range is taken whole.
        self.changed_here(to, to + len, false);
        if !self.maps_here().is_some_and(|m| m.knows(from, from + len)) {
            return self.mapped_here(to, to + len, None);
        }
        let _side = alloc::enter(Side::Host);
        let parts = self.maps_here().map_or(Vec::new(), |m| m.parts(from, from + len));
        self.mapped_here(from, from + len, None);
        for (start, end, under) in parts {
            self.mapped_here(to + (start - from), to + (end - from), under);
        }
    }

    fn advise(&mut self, addr: u64, len: u64, advice: Advice) {
        const MADV_POPULATE_WRITE: i32 = 23;
        if let Advice::Discard(prot) = advice {
            lazy::forget(addr, addr + len);
            // Page tables that are left empty may go, and the marks in them.
            self.keep_marks_here(addr, addr + len);
            self.forget_saved(addr, len, prot);
            self.changed_here(addr, addr + len, true);
        }
        let a = match advice {
            Advice::Discard(_) => libc::MADV_DONTNEED,
            Advice::Huge(true) => libc::MADV_HUGEPAGE,
            Advice::Huge(false) => libc::MADV_NOHUGEPAGE,
            Advice::Populate => {
                lazy::open(addr, addr + len);
                MADV_POPULATE_WRITE
            }
        };
        // SAFETY: guest memory. Only Discard has a visible effect, and it cannot fail on a mapped range.
        let _ = unsafe { sys!(libc::SYS_madvise, addr, len, a) };
    }

    fn clear_space(&mut self) {
        lazy::forget_all();
        self.keep_marks_here(0, GUEST_TOP);
        unmap_guest();
        let _side = alloc::enter(Side::Host);
        if let Some(m) = self.maps_here_mut() {
            *m = Maps::default();
        }
        // SAFETY: the vCPU page of this process.
        if let Some(t) = self.spaces.tracks.get_mut(&unsafe { vcpu::get() }.space) {
            *t = Track::default();
        }
    }

    fn patch_text(&mut self, parts: &[(u64, &[u8])]) -> Result<(), Fault> {
        // Writes through /proc/self/mem reach read-only private pages by copy-on-write, without a
        // moment in which the page is writable for the guest.
        const PATH: &[u8] = b"/proc/self/mem\0";
        // SAFETY: the path is a C string.
        let fd = unsafe { sys!(libc::SYS_open, PATH.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) }
            .map_err(|_| Fault)?;
        let all = parts.iter().all(|(addr, bytes)| {
            // SAFETY: the slice is valid; the target was checked by the kernel to be guest text.
            let n = unsafe { sys!(libc::SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), *addr) };
            n == Ok(bytes.len() as u64)
        });
        // SAFETY: our descriptor.
        let _ = unsafe { sys!(libc::SYS_close, fd) };
        if all { Ok(()) } else { Err(Fault) }
    }

    fn fork_space(&mut self, child: SpaceId) {
        let _side = alloc::enter(Side::Host);
        if self.spaces.len() == 1 {
            stay_on_this_cpu();
        }
        let seat = self.spaces.add(child);
        if let Some(own) = self.maps_here().cloned() {
            self.spaces.maps.insert(child, own);
        }
        if clone_process() == 0 {
            crate::run::child_start(child, seat);
        }
    }

    fn new_space(&mut self, id: SpaceId) {
        let _side = alloc::enter(Side::Host);
        if self.spaces.len() == 1 {
            stay_on_this_cpu();
        }
        let seat = self.spaces.add(id);
        // A copy of this process would do, but its page tables would be copied only to be dropped: an
        // empty process that is kept makes the copies.
        if self.spaces.template.is_none() {
            let template = Box::<Template>::default();
            let at: *const Template = &raw const *template;
            self.spaces.template = Some(template);
            if clone_process() == 0 {
                // Without the token: nothing that is shared may be changed here.
                lazy::forget_all();
                unmap_guest();
                // SAFETY: it lives as long as the image.
                unsafe { make_spaces(&*at) };
            }
        }
        if let Some(template) = &self.spaces.template {
            let word = &template.word;
            loop {
                match word.load(Ordering::Acquire) {
                    0 => break,
                    v => sys::futex_wait(word, v),
                }
            }
            template.seat.store(seat.cast_mut(), Ordering::Relaxed);
            word.store(id.0 + 1, Ordering::Release);
            sys::futex_wake(word);
        }
    }

    fn drop_space(&mut self, id: SpaceId) {
        let _side = alloc::enter(Side::Host);
        // SAFETY: the vCPU page of this process.
        let v = unsafe { vcpu::get() };
        if v.space == id {
            v.dying = true;
            // What it writes from here on is the kernel's: `run::hand_over` sees to that.
            self.keep_marks_here(0, GUEST_TOP);
            self.spaces.remove(id);
            return;
        }
        self.keep_marks_of(id);
        if let Some(seat) = self.spaces.remove(id) {
            seat.word.store(DIE, Ordering::Release);
            sys::futex_wake(&seat.word);
            // The process may still look at its word: it stays allocated.
            std::mem::forget(seat);
        }
    }

    fn pages_read(&mut self, offset: u64, dst: &mut [u8]) {
        assert!(offset + dst.len() as u64 <= PAGES_LEN, "page store range");
        // SAFETY: the page store is mapped whole; a host out of memory ends in a fault message.
        unsafe { entry::ftl_copy(dst.as_mut_ptr() as u64, PAGES + offset, dst.len() as u64) };
    }

    fn pages_write(&mut self, offset: u64, src: &[u8]) {
        assert!(offset + src.len() as u64 <= PAGES_LEN, "page store range");
        // SAFETY: as above; the kernel's allocator owns the range.
        unsafe { entry::ftl_copy(PAGES + offset, src.as_ptr() as u64, src.len() as u64) };
    }

    fn pages_free(&mut self, offset: u64, len: u64) {
        if self.tracking {
            let _side = alloc::enter(Side::Host);
            self.spaces.shared.note_freed(offset, offset + len);
            // A page that is read there anew is as it comes, not written: it has no mark, and by the next look is no hole.
            if self.spaces.shared.known {
                self.spaces.shared.note(1, offset, offset + len);
            }
        }
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: punches a hole into our own memfd.
        must("freeing pages", unsafe {
            sys!(libc::SYS_fallocate, self.pages_fd, mode, offset, len)
        });
    }
}
