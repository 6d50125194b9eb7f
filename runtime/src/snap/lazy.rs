//! Private pages of a restored image that are read from its snapshot while it runs already.
//!
//! What most of a large image consists of, plain private memory, is mapped without access at first, from the (still empty) memory
//! files that a restore fills. A process of its own, the *loader*, reads pages from the snapshot, checks them and puts them there,
//! 16 at a time (a *chunk*): those that are waited for first, then the rest, what was written last to the snapshot before what
//! was written first, since that was in use. Code that touches a page that is not there yet faults; the handler
//! of the fault waits for the page's chunk, gives the guest its access, and the instruction is done again. Nothing of it is seen by the
//! image: it is a page fault that takes long.
//!
//! * Every page is checked before anybody sees it. A damaged one ends the image with the reason, when it is met.
//! * The loader shares nothing with the image but the memory files, [`Ctl`] and the control page: it has a heap and descriptors of its
//!   own, gives the image's arenas up, and has what it was made from, the chain of snapshots, as a copy.
//! * Which pages have no access yet is a matter of a process: its table is private memory, which a fork copies with the
//!   mappings. Mapping, unmapping, discarding take pages out of it; protecting and moving wait for the pages first.
//! * Whoever takes a snapshot, begins a log or a backup waits until all is there ([`complete`]).

use super::restore::{Saved, in_range, place, saved_of};
use super::state::HostState;
use super::{Object, capture};
use crate::alloc::{self, Side};
use crate::control;
use crate::platform::maps::Under;
use crate::platform::space::prot_bits;
use crate::run;
use crate::sys::{self, sys};
use crate::vcpu::{self, Vcpu};
use ftl_abi::kernel::Kernel;
use ftl_core::layout::{
    ARENA, ARENA_LEN, GUEST_TOP, HOST_ARENA, HOST_ARENA_LEN, PAGE, PAGES, PAGES_LEN, VCPU_BASE,
};
use ftl_core::platform::Prot;
use ftl_core::snap::{Chain, Pieces, Place, SnapError, State};
use ftl_core::wait::SpaceId;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Pages that are loaded at a time: some 50 us of work, which whoever waits may have to wait for twice. More in images of more than
/// 2 GiB.
const CHUNK: u64 = 16;
/// Most chunks. In the worst case each is a mapping of the host's of its own, which has 65,530 for a process
/// (`vm.max_map_count`).
const MOST_CHUNKS: u64 = 32768;
/// Runs of pages that are no further apart are one extent: each is a mapping of the host's at first.
const GAP: u64 = 16;
/// Most extents of an image: the host bounds the mappings of a process.
const MOST_EXTENTS: usize = 8192;
/// Most pages between two runs of one extent.
const MOST_GAP: u64 = 4096;
/// Chunks behind one that was waited for, which are likely to be next.
const AHEAD: u32 = 3;
/// The loader gives way to the image where both want the same CPU.
const NICENESS: i32 = 10;

/// Shared by loader and image.
const CTL: u64 = VCPU_BASE + 0x1_0000_0000;
/// Private to each process.
const TABLE: u64 = VCPU_BASE + 0x10_0000_0000;

/// Which images are loaded so.
#[derive(Clone, Copy, Debug)]
pub struct Lazy {
    /// Those with so many private pages.
    pub from: u64,
    /// For tests: only what is waited for, until all is wanted.
    pub by_need: bool,
}

impl Default for Lazy {
    fn default() -> Lazy {
        // Less is read in the time that a loader takes to start.
        Lazy {
            from: 2048,
            by_need: false,
        }
    }
}

/// A chain of which only the shared part was read.
pub struct Rest {
    /// On the C library's heap: the loader must not use the image's arenas.
    pub chain: Chain,
    /// What it is called.
    pub name: String,
    /// Only what is waited for is read.
    pub by_need: bool,
}

/// A range of private memory that has no access at first.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Extent {
    /// First address; also the offset in the space's memory file.
    pub start: u64,
    /// Pages.
    pub pages: u64,
    /// Number of the space.
    pub space: u32,
    /// The guest's access to it.
    prot: i32,
    /// Number of its first chunk.
    first_chunk: u32,
    /// Number of its first page among those of its space.
    first_page: u64,
}

impl Extent {
    /// Address behind it.
    pub fn end(&self) -> u64 {
        self.start + self.pages * PAGE
    }

    fn chunks(&self, chunk: u64) -> u32 {
        self.pages.div_ceil(chunk) as u32
    }
}

/// Head of the memory that loader and image share; behind it the extents, by space and address, and a bit
/// for each chunk that is there.
#[repr(C)]
struct Ctl {
    /// Number of a chunk that is waited for, plus one.
    want: AtomicU32,
    /// Changes when what was waited for is there.
    turn: AtomicU32,
    /// All is there.
    done: AtomicU32,
    by_need: bool,
    extents: u32,
    chunks: u32,
    /// Pages of a chunk.
    chunk: u64,
}

impl Ctl {
    fn extents(&self) -> &[Extent] {
        // SAFETY: laid out by `begin`, not changed afterwards.
        unsafe {
            let at = std::ptr::from_ref(self).add(1).cast::<Extent>();
            std::slice::from_raw_parts(at, self.extents as usize)
        }
    }

    fn there(&self) -> &[AtomicU32] {
        let end = self.extents().as_ptr_range().end;
        // SAFETY: as above; words are only used as atomics.
        unsafe { std::slice::from_raw_parts(end.cast(), self.chunks.div_ceil(32) as usize) }
    }

    fn is_there(&self, chunk: u32) -> bool {
        self.there()[chunk as usize / 32].load(SeqCst) & 1 << (chunk % 32) != 0
    }

    /// By whom the image is left waiting is the supervisor's concern: a loader that ends early ends the image.
    fn wait_for(&self, chunk: u32) {
        loop {
            let turn = self.turn.load(SeqCst);
            if self.is_there(chunk) {
                return;
            }
            self.want.store(chunk + 1, SeqCst);
            self.ring();
            if self.is_there(chunk) {
                return;
            }
            sys::futex_wait(&self.turn, turn);
        }
    }

    /// A loader that reads everything looks by itself, after each chunk.
    fn ring(&self) {
        if self.by_need {
            // SAFETY: the page is mapped in every process of an image.
            unsafe { control::get() }.loader.ring();
        }
    }

    /// Loader: tells who waits.
    fn next_turn(&self) {
        self.turn.fetch_add(1, SeqCst);
        sys::futex_wake(&self.turn);
    }
}

/// Which pages of a process have no access yet; a bit for each is behind it.
#[repr(C)]
pub struct Table {
    ctl: &'static Ctl,
    /// Its extents among those of all.
    first: u32,
    last: u32,
    bytes: u64,
}

impl Table {
    fn extents(&self) -> &'static [Extent] {
        &self.ctl.extents()[self.first as usize..self.last as usize]
    }

    fn word(&mut self, page: u64) -> (&mut u64, u64) {
        // SAFETY: `adopt` has made room for a bit of each page; nobody else has the private memory of this process.
        let word = unsafe {
            let bits = std::ptr::from_mut(self).add(1).cast::<u64>();
            &mut *bits.add(page as usize / 64)
        };
        (word, 1 << (page % 64))
    }

    fn waits(&mut self, page: u64) -> bool {
        let (word, bit) = self.word(page);
        *word & bit != 0
    }

    fn strike(&mut self, page: u64) {
        let (word, bit) = self.word(page);
        *word &= !bit;
    }

    /// Gives the guest its pages `[from, to)` of an extent.
    fn open(&mut self, x: &Extent, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            if !self.waits(x.first_page + at) {
                at += 1;
                continue;
            }
            let begin = at;
            while at < to && self.waits(x.first_page + at) {
                self.strike(x.first_page + at);
                at += 1;
            }
            let start = x.start + begin * PAGE;
            // SAFETY: pages of the guest that are mapped as `adopt` left them, since they are not struck out.
            let opened = unsafe { sys!(libc::SYS_mprotect, start, (at - begin) * PAGE, x.prot) };
            if let Err(e) = opened {
                run::fail_stop(&format!("restored page {start:#x}: {e}"));
            }
        }
    }

    /// Calls `f` with each extent that has pages in `[start, end)`, and which those are.
    fn each(&mut self, start: u64, end: u64, mut f: impl FnMut(&mut Table, &Extent, u64, u64)) {
        let all = self.extents();
        let first = all.partition_point(|x| x.end() <= start);
        for x in all[first..].iter().take_while(|x| x.start < end) {
            let from = start.saturating_sub(x.start) / PAGE;
            let to = (end.min(x.end()) - x.start).div_ceil(PAGE);
            f(self, x, from, to);
        }
    }
}

fn table() -> Option<&'static mut Table> {
    // SAFETY: the vCPU page of this process; the table is its own, and the handler that uses it beside the kernel does so where
    // the kernel touches guest memory, with no reference to the table alive.
    unsafe { vcpu::get().lazy.as_mut() }
}

/// A fault at `addr`: true if the page was one that has no access yet, which it now has. For the signal handler.
pub fn resolve(v: &mut Vcpu, addr: u64) -> bool {
    // SAFETY: see `table`.
    let Some(t) = (unsafe { v.lazy.as_mut() }) else {
        return false;
    };
    let mut found = false;
    t.each(addr, addr.saturating_add(1), |t, x, page, _| {
        if t.waits(x.first_page + page) {
            let size = t.ctl.chunk;
            let chunk = page / size;
            t.ctl.wait_for(x.first_chunk + chunk as u32);
            t.open(x, chunk * size, ((chunk + 1) * size).min(x.pages));
            found = true;
        }
    });
    found
}

/// The guest's access to `[start, end)` is about to change, or its place.
pub fn open(start: u64, end: u64) {
    let Some(t) = table() else { return };
    t.each(start, end, |t, x, from, to| {
        for page in from..to {
            if t.waits(x.first_page + page) {
                t.ctl.wait_for(x.first_chunk + (page / t.ctl.chunk) as u32);
            }
        }
        t.open(x, from, to);
    });
}

/// `[start, end)` is something else from now on.
pub fn forget(start: u64, end: u64) {
    let Some(t) = table() else { return };
    t.each(start, end, |t, x, from, to| {
        for page in from..to {
            t.strike(x.first_page + page);
        }
    });
}

/// Nothing of the snapshot is mapped in this process any more.
pub fn forget_all() {
    // SAFETY: the vCPU page of this process.
    let v = unsafe { vcpu::get() };
    // SAFETY: see `table`.
    if let Some(t) = unsafe { v.lazy.as_ref() } {
        // SAFETY: mapped by `adopt`; nobody looks at it after this.
        let _ = unsafe { sys::munmap(TABLE, t.bytes) };
    }
    v.lazy = std::ptr::null_mut();
}

/// At the top of the scheduler: once all is there, it is mapped as if it always had been.
pub fn settle(v: &mut Vcpu) {
    // SAFETY: see `table`.
    let Some(t) = (unsafe { v.lazy.as_mut() }) else {
        return;
    };
    if t.ctl.done.load(SeqCst) == 0 {
        return;
    }
    for x in t.extents() {
        t.open(x, 0, x.pages);
    }
    forget_all();
}

/// What the control page says of the loader, to the image and to its supervisor.
#[repr(C)]
pub struct Loading {
    /// 1: there is one, and it has not read everything.
    reads: AtomicU32,
    /// All is wanted, also of one that reads by need.
    hurry: AtomicU32,
    /// Changes when one that reads by need has something to do.
    bell: AtomicU32,
}

impl Loading {
    fn ring(&self) {
        self.bell.fetch_add(1, SeqCst);
        sys::futex_wake(&self.bell);
    }

    /// Waits until all is there. By the supervisor before an order that needs it, so that the image runs meanwhile.
    pub fn wait(&self) {
        while self.reads.load(SeqCst) != 0 {
            self.hurry.store(1, SeqCst);
            self.ring();
            // Again now and then: an image that has ended has no loader to tell us.
            sys::futex_wait_for(&self.reads, 1, 50_000_000);
            if control::is_over() {
                return;
            }
        }
    }
}

/// Waits until all is there, if it is not: whoever ordered what needs it has waited before.
pub fn complete(v: &mut Vcpu) {
    // SAFETY: the page is mapped in every process of an image.
    unsafe { control::get() }.loader.wait();
    settle(v);
}

/// Parts of a space that may be without access for a while: plain private memory that the guest can use.
fn plain(kernel: &Kernel, state: &HostState) -> Vec<(u32, u64, u64, Prot)> {
    let mms = capture::spaces(kernel);
    let mut out = Vec::new();
    for (id, maps) in &state.spaces {
        let Some(mm) = mms.get(&SpaceId(*id)) else {
            continue;
        };
        for v in mm.list() {
            // Text has pages that may be executed and others that may not yet.
            let usable = v.prot.intersects(Prot::READ | Prot::WRITE) && !v.prot.contains(Prot::EXEC);
            if !usable || mm.host_prot(&v) != v.prot {
                continue;
            }
            for (start, end, under) in maps.parts(v.start, v.end) {
                if matches!(under, None | Some(Under::Saved(_)))
                    && in_range(start / PAGE, end - start, GUEST_TOP).is_some()
                {
                    out.push((*id, start, end, v.prot));
                }
            }
        }
    }
    out.sort_unstable_by_key(|(space, start, ..)| (*space, *start));
    out
}

/// The extents of a chain in these parts. `gap`: runs that far apart are joined.
fn extents(chain: &Chain, parts: &[(u32, u64, u64, Prot)], gap: u64) -> Vec<Extent> {
    let mut out: Vec<Extent> = Vec::new();
    let mut runs = chain.runs().filter_map(|(_, r)| match (r.object, r.state) {
        (Object::Space(n), State::Data(_)) => Some((n, r.first * PAGE, r.end() * PAGE)),
        _ => None,
    });
    let mut run = runs.next();
    for &(space, start, end, prot) in parts {
        let mut fresh = true;
        while let Some((n, from, to)) = run {
            if (n, from) >= (space, end) {
                break;
            }
            let (s, e) = (from.max(start), to.min(end));
            if n == space && s < e {
                match out.last_mut().filter(|x| !fresh && s - x.end() <= gap * PAGE) {
                    Some(x) => x.pages = (e - x.start) / PAGE,
                    None => out.push(Extent {
                        start: s,
                        pages: (e - s) / PAGE,
                        space,
                        prot: prot_bits(prot),
                        first_chunk: 0,
                        first_page: 0,
                    }),
                }
                fresh = false;
            }
            if n == space && to > end {
                // The rest of it is in a part behind this one.
                break;
            }
            run = runs.next();
        }
    }
    out
}

/// Pages of a chunk, so that there are not too many.
fn chunk_of(list: &[Extent]) -> u64 {
    let mut size = CHUNK;
    while list.iter().map(|x| u64::from(x.chunks(size))).sum::<u64>() > MOST_CHUNKS {
        size *= 2;
    }
    size
}

/// Reads what is needed at once into the memory files, and has the rest read.
pub fn begin(
    rest: Rest,
    kernel: &Kernel,
    state: &HostState,
    saved: &mut Saved,
) -> Result<Vec<Extent>, String> {
    let parts = plain(kernel, state);
    let mut gap = GAP;
    let mut list = extents(&rest.chain, &parts, gap);
    while list.len() > MOST_EXTENTS && gap < MOST_GAP {
        gap *= 4;
        list = extents(&rest.chain, &parts, gap);
    }
    if list.len() > MOST_EXTENTS {
        // Memory in so many pieces is read first.
        list.clear();
    }
    let size = chunk_of(&list);
    let (mut chunk, mut page, mut space) = (0, 0, None);
    for x in &mut list {
        if space != Some(x.space) {
            (page, space) = (0, Some(x.space));
        }
        (x.first_chunk, x.first_page) = (chunk, page);
        page += x.pages;
        chunk += x.chunks(size);
    }
    eager(&rest, &list, &mut |object, first, bytes| {
        place(saved, object, first, bytes)
    })?;
    if list.is_empty() {
        return Ok(list);
    }
    // The loader's, as all that it uses: what is in the host's arena goes on without it.
    let mut files: Vec<(u32, i32)> = Vec::new();
    for x in &list {
        if files.last().is_none_or(|(n, _)| *n != x.space) {
            let fd = saved_of(saved, x.space)?.raw_fd();
            alloc::on(Side::System, || files.push((x.space, fd)));
        }
    }
    let ctl = map_ctl(&list, (size, chunk), rest.by_need)?;
    // SAFETY: the page is mapped in every process of an image.
    unsafe { control::get() }.loader.reads.store(1, SeqCst);
    // The loader gets what is ignored: a user who presses Ctrl-C means the program.
    crate::fault::ignore_terminal().map_err(|e| format!("signals: {e}"))?;
    // The image's descriptors are not open yet: the loader would keep them so.
    let flags = (libc::CLONE_PARENT | libc::SIGCHLD) as u64;
    let _side = alloc::enter(Side::System);
    // SAFETY: a fork of a process with one thread; the child goes on in `load_all` and never returns.
    let made = unsafe { sys!(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match made.map_err(|e| format!("a process that loads pages: {e}"))? {
        0 => load_all(&rest, ctl, &files),
        _ => {
            drop(files);
            drop(rest);
        }
    }
    Ok(list)
}

/// Private pages that are in no extent.
fn eager(
    rest: &Rest,
    list: &[Extent],
    place: &mut dyn FnMut(Object, u64, &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let mut pieces = Pieces::default();
    let named = |why: Refused| format!("snapshot {}: {}", rest.name, why.0);
    let mut next = 0;
    for (_, run) in rest.chain.runs() {
        let (Object::Space(n), State::Data(_)) = (run.object, run.state) else {
            continue;
        };
        let mut at = run.first;
        while at < run.end() {
            while list
                .get(next)
                .is_some_and(|x| (x.space, x.end()) <= (n, at * PAGE))
            {
                next += 1;
            }
            let x = list.get(next).filter(|x| x.space == n);
            let (start, end) = x.map_or((u64::MAX, u64::MAX), |x| (x.start / PAGE, x.end() / PAGE));
            let until = run.end().min(start.max(at));
            if until > at {
                let read = &mut |object, first, bytes: &[u8]| place(object, first, bytes).map_err(Refused);
                rest.chain
                    .for_each_in(run.object, at, until - at, &mut pieces, read)
                    .map_err(named)?;
                at = until;
            } else {
                at = end.min(run.end());
            }
        }
    }
    Ok(())
}

/// Why pages could not be read.
struct Refused(String);

impl From<SnapError> for Refused {
    fn from(e: SnapError) -> Refused {
        Refused(e.to_string())
    }
}

fn map_ctl(list: &[Extent], (chunk, chunks): (u64, u32), by_need: bool) -> Result<&'static Ctl, String> {
    let bytes = size_of::<Ctl>() + size_of_val(list) + chunks.div_ceil(32) as usize * 4;
    let bytes = (bytes as u64).next_multiple_of(PAGE);
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: NOREPLACE takes only free space; the memory is zeroed, large enough, and nobody else's yet.
    unsafe {
        sys::mmap(CTL, bytes, prot, flags, -1, 0).map_err(|e| format!("memory for a restore: {e}"))?;
        let ctl = CTL as *mut Ctl;
        ctl.write(Ctl {
            want: AtomicU32::new(0),
            turn: AtomicU32::new(0),
            done: AtomicU32::new(0),
            by_need,
            extents: list.len() as u32,
            chunks,
            chunk,
        });
        std::ptr::copy_nonoverlapping(list.as_ptr(), ctl.add(1).cast(), list.len());
        Ok(&*ctl)
    }
}

/// Those of one space.
pub fn of_space(list: &[Extent], space: SpaceId) -> &[Extent] {
    let first = list.partition_point(|x| x.space < space.0);
    let last = list.partition_point(|x| x.space <= space.0);
    &list[first..last]
}

/// In a process of a space that has just been mapped: these, all that it has, have no access yet.
pub fn adopt(own: &[Extent]) -> Result<(), String> {
    let (Some(begin), Some(end)) = (own.first(), own.last()) else {
        return Ok(());
    };
    for x in own {
        // SAFETY: guest memory of a process that has not run.
        unsafe { sys!(libc::SYS_mprotect, x.start, x.pages * PAGE, libc::PROT_NONE) }
            .map_err(|e| format!("{:#x}: {e}", x.start))?;
    }
    let pages = end.first_page + end.pages;
    let bytes = (size_of::<Table>() as u64 + pages.div_ceil(64) * 8).next_multiple_of(PAGE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: NOREPLACE takes only free space; the memory is large enough.
    let table = unsafe {
        sys::mmap(TABLE, bytes, prot, flags, -1, 0).map_err(|e| format!("memory for a restore: {e}"))?;
        let ctl = &*(CTL as *const Ctl);
        let all = ctl.extents();
        let first = all.partition_point(|x| (x.space, x.start) < (begin.space, begin.start));
        let table = TABLE as *mut Table;
        table.write(Table {
            ctl,
            first: first as u32,
            last: (first + own.len()) as u32,
            bytes,
        });
        &mut *table
    };
    for page in 0..pages {
        let (word, bit) = table.word(page);
        *word |= bit;
    }
    // SAFETY: the vCPU page of this process.
    unsafe { vcpu::get() }.lazy = table;
    Ok(())
}

/// The loader.
struct Loader<'a> {
    rest: &'a Rest,
    ctl: &'a Ctl,
    files: &'a [(u32, i32)],
    pieces: Pieces,
}

impl Loader<'_> {
    fn load(&mut self, chunk: u32) -> Result<(), String> {
        if self.ctl.is_there(chunk) {
            return Ok(());
        }
        let all = self.ctl.extents();
        let size = self.ctl.chunk;
        let x = &all[all.partition_point(|x| x.first_chunk + x.chunks(size) <= chunk)];
        let first = x.start / PAGE + u64::from(chunk - x.first_chunk) * size;
        let count = size.min(x.end() / PAGE - first);
        let fd = self.files.iter().find(|(n, _)| *n == x.space).map_or(-1, |f| f.1);
        let mut write = |_, first: u64, bytes: &[u8]| {
            // SAFETY: the slice is valid.
            match unsafe { sys!(libc::SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), first * PAGE) } {
                Ok(n) if n == bytes.len() as u64 => Ok(()),
                Ok(_) => Err(Refused("memory for pages: no space".to_string())),
                Err(e) => Err(Refused(format!("memory for pages: {e}"))),
            }
        };
        self.rest
            .chain
            .for_each_in(Object::Space(x.space), first, count, &mut self.pieces, &mut write)
            .map_err(|why| format!("snapshot {}: {}", self.rest.name, why.0))?;
        self.ctl.there()[chunk as usize / 32].fetch_or(1 << (chunk % 32), SeqCst);
        if self
            .ctl
            .want
            .compare_exchange(chunk + 1, 0, SeqCst, SeqCst)
            .is_ok()
        {
            self.ctl.next_turn();
        }
        Ok(())
    }

    /// All chunks, those first whose pages were written last.
    fn order(&self) -> Vec<u32> {
        let mut keys: Vec<_> = (0..self.ctl.chunks).map(|c| (Reverse((0, 0)), c)).collect();
        let (all, size) = (self.ctl.extents(), self.ctl.chunk);
        let mut next = 0;
        for (layer, run) in self.rest.chain.runs() {
            let (Object::Space(n), State::Data(place)) = (run.object, run.state) else {
                continue;
            };
            let at = match place {
                Place::Raw { offset } | Place::Record { offset, .. } => offset,
                Place::External => 0,
            };
            let (from, to) = (run.first * PAGE, run.end() * PAGE);
            while all.get(next).is_some_and(|x| (x.space, x.end()) <= (n, from)) {
                next += 1;
            }
            for x in all[next..].iter().take_while(|x| (x.space, x.start) < (n, to)) {
                let first = from.saturating_sub(x.start) / PAGE / size;
                let last = (to.min(x.end()) - x.start).div_ceil(PAGE * size);
                for c in first..last {
                    let begins = (x.start + c * size * PAGE).max(from);
                    let (key, _) = &mut keys[(u64::from(x.first_chunk) + c) as usize];
                    *key = (*key).min(Reverse((layer, at + (begins - from))));
                }
            }
        }
        keys.sort_unstable();
        keys.into_iter().map(|(_, chunk)| chunk).collect()
    }

    fn run(&mut self) -> Result<(), String> {
        // SAFETY: the page is mapped in every process of an image.
        let loading = self.ctl.by_need.then(|| &unsafe { control::get() }.loader);
        let mut order = Vec::new().into_iter();
        let mut sorted = false;
        let mut ahead = VecDeque::new();
        loop {
            let bell = loading.map_or(0, |l| l.bell.load(SeqCst));
            match self.ctl.want.load(SeqCst) {
                0 => {}
                n => {
                    self.load(n - 1)?;
                    // It may have been there already.
                    if self.ctl.want.compare_exchange(n, 0, SeqCst, SeqCst).is_ok() {
                        self.ctl.next_turn();
                    }
                    ahead.extend(n..(n + AHEAD).min(self.ctl.chunks));
                    continue;
                }
            }
            if let Some(loading) = loading.filter(|l| l.hurry.load(SeqCst) == 0) {
                sys::futex_wait(&loading.bell, bell);
                ahead.clear();
                continue;
            }
            if let Some(chunk) = ahead.pop_front() {
                self.load(chunk)?;
                continue;
            }
            if !std::mem::replace(&mut sorted, true) {
                order = self.order().into_iter();
            }
            match order.next() {
                Some(chunk) => self.load(chunk)?,
                None => return Ok(()),
            }
        }
    }
}

fn load_all(rest: &Rest, ctl: &Ctl, files: &[(u32, i32)]) -> ! {
    alloc::set(Side::System);
    control::end_with_supervisor();
    for (base, len) in [
        (ARENA, ARENA_LEN),
        (PAGES, PAGES_LEN),
        (HOST_ARENA, HOST_ARENA_LEN),
    ] {
        // SAFETY: what this process uses is on the C library's heap, on its stack, and in `Ctl`.
        let _ = unsafe { sys::munmap(base, len) };
    }
    // SAFETY: plain calls. Failing, it runs as it would have.
    unsafe {
        let _ = sys!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, NICENESS);
    }
    if let Err(e) = crate::confine::confine(crate::stage0::runtime_len()) {
        crate::talk::note(&format!("a process that loads pages is not confined: {e}"));
    }
    let mut loader = Loader {
        rest,
        ctl,
        files,
        pieces: Pieces::default(),
    };
    if let Err(why) = loader.run() {
        crate::talk::error(
            "image-failed",
            super::restore::EXIT_MISSING,
            &format!("{why}; the image has ended"),
        );
        run::die(super::restore::EXIT_MISSING);
    }
    ctl.done.store(1, SeqCst);
    // SAFETY: as above.
    let reads = &unsafe { control::get() }.loader.reads;
    reads.store(0, SeqCst);
    sys::futex_wake_all(reads);
    sys::exit(0)
}

#[cfg(test)]
mod tests;
