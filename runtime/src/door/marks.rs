//! Marks: what the image holds after every Nth entry (`record --check N`), so that a replay that differs
//! says after which entry and where. A mark names the pages that have changed since the last one by
//! address and hash, with their contents if asked for (`--check-pages`): the clock and the allocator's state at
//! the start of the image arena, the page store, the guest memory of the space that goes on, and the registers of
//! the task that does.
//!
//! The allocator's state is a digest of all that the kernel has allocated and freed, in order. The objects behind
//! it are not compared: their padding and unused variants hold what lay on the kernel's stack, which is
//! different where the doors did their work (docs/notes/open-problems.md).

use super::OutHash;
use super::memory::{pages_of, pages_of_space, shared_pages};
use crate::alloc;
use ftl_core::context::Context;
use ftl_core::layout::{ARENA, PAGE, PAGES, PAGES_LEN};
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use std::collections::BTreeMap;
use std::fmt::Write;

/// When marks are made, and what was found at the last one. In the host arena.
#[derive(Default)]
pub struct Marks {
    /// Entries between two marks; 0 makes none.
    pub every: u64,
    /// Pages with their contents.
    pub contents: bool,
    due: u64,
    /// Hash of each page that is not all zero, by space (shared pages: 0) and address.
    known: BTreeMap<(u32, u64), u64>,
}

/// A page that has changed: address, hash (0: all zero or gone), contents.
type Page = (u64, u64, Vec<u8>);

/// What the image holds, as far as it has changed.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Mark {
    space: u32,
    /// General registers, rip, rflags, FS and GS base.
    regs: Vec<u64>,
    /// Hash of the extended state above xmm, if it is in the CPU.
    upper: u64,
    pages: Vec<Page>,
}

const REG_NAMES: [&str; 20] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "rip", "rflags", "fs_base", "gs_base",
];

impl Marks {
    /// Entries at which the next one is due.
    pub fn due(&self) -> u64 {
        self.due
    }

    /// The next mark names all pages, as the first one does: a replay may begin here.
    pub fn begin_anew(&mut self) {
        self.known.clear();
    }

    /// A replay begins here.
    pub fn go_on(&mut self, every: u64, contents: bool, due: u64) {
        (self.every, self.contents, self.due) = (every, contents, due);
    }

    /// A mark is to be made after so many entries.
    pub fn is_due(&mut self, entries: u64) -> bool {
        if self.every == 0 || entries < self.due {
            return false;
        }
        self.due = (entries / self.every + 1) * self.every;
        true
    }

    /// The image as it is now, before `ctx` goes on in `space`. The caller is on the host side.
    pub fn make(&mut self, space: u32, ctx: &Context, pages_fd: i32) -> Mark {
        let mut now: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        let mut pages = Vec::new();
        let (known, contents) = (&self.known, self.contents);
        let mut take = |space: u32, at: u64, page: &[u8; PAGE as usize]| {
            let mut hash = OutHash::default();
            hash.add(at, page);
            now.insert((space, at), hash.hash);
            if known.get(&(space, at)) != Some(&hash.hash) {
                let bytes = if contents { page.to_vec() } else { Vec::new() };
                pages.push((at, hash.hash, bytes));
            }
        };
        pages_of(ARENA, ARENA + alloc::FIRST, &mut |at, page| take(0, at, page));
        shared_pages(pages_fd, |start, end| {
            pages_of(start, end, &mut |at, page| take(0, at, page));
        });
        let own = space + 1;
        pages_of_space(|at, page| take(own, at, page));
        let gone = |key: &(u32, u64)| (key.0 == 0 || key.0 == own) && !now.contains_key(key);
        let gone: Vec<_> = known.keys().filter(|k| gone(k)).copied().collect();
        pages.extend(gone.iter().map(|(_, at)| (*at, 0, Vec::new())));
        for key in gone {
            self.known.remove(&key);
        }
        self.known.extend(now);
        let mut regs = ctx.regs.to_vec();
        regs.extend([ctx.rip, ctx.rflags, ctx.fs_base, ctx.gs_base]);
        Mark {
            space,
            regs,
            upper: if ctx.xstate_valid == 0 {
                upper_state(ctx)
            } else {
                0
            },
            pages,
        }
    }
}

/// Hash of what the CPU holds above xmm for the task that goes on.
fn upper_state(ctx: &Context) -> u64 {
    let mut scratch = ctx.duplicate();
    scratch.xstate_valid = 0;
    crate::vcpu::save_xstate(&mut scratch);
    let mut hash = OutHash::default();
    hash.add(0, scratch.xstate_bytes().get(576..).unwrap_or(&[]));
    hash.hash
}

impl Wire for Mark {
    fn put(&self, out: &mut Vec<u8>) {
        self.space.put(out);
        put_list(&self.regs, out);
        self.upper.put(out);
        put_list(&self.pages, out);
    }
    fn take(src: &mut &[u8]) -> Option<Mark> {
        Some(Mark {
            space: Wire::take(src)?,
            regs: take_list(src)?,
            upper: Wire::take(src)?,
            pages: take_list(src)?,
        })
    }
}

/// Which part of the image an address is in.
fn part(at: u64) -> &'static str {
    match at {
        _ if (ARENA..ARENA + ftl_core::layout::ARENA_LEN).contains(&at) => "image arena",
        _ if (PAGES..PAGES + PAGES_LEN).contains(&at) => "shared memory",
        _ => "guest memory",
    }
}

/// Most pages that a message names.
const NAMED: usize = 8;

/// How two marks differ, in lines for a person: (expected, actual) of the first difference, and more.
pub fn difference(expected: &Mark, actual: &Mark) -> (String, String, String) {
    let mut more = String::new();
    let mut first: Option<(String, String)> = None;
    let mut note = |what: &str, e: String, a: String| {
        if first.is_none() {
            first = Some((format!("{what} {e}"), a));
        } else {
            let _ = writeln!(more, "ftvm:   {what}: expected {e}, actual {a}");
        }
    };
    if expected.space != actual.space {
        note("space", expected.space.to_string(), actual.space.to_string());
    }
    for ((name, e), a) in REG_NAMES.iter().zip(&expected.regs).zip(&actual.regs) {
        if e != a {
            note(name, format!("{e:#x}"), format!("{a:#x}"));
        }
    }
    if expected.upper != actual.upper {
        note(
            "vector registers above xmm",
            format!("{:#x}", expected.upper),
            format!("{:#x}", actual.upper),
        );
    }
    let by_addr = |m: &Mark| -> BTreeMap<u64, (u64, Vec<u8>)> {
        m.pages.iter().map(|(at, h, b)| (*at, (*h, b.clone()))).collect()
    };
    let (e, a) = (by_addr(expected), by_addr(actual));
    let mut count = 0;
    for at in e.keys().chain(a.keys().filter(|k| !e.contains_key(k))) {
        if e.get(at).map(|p| p.0) == a.get(at).map(|p| p.0) {
            continue;
        }
        count += 1;
        if count > NAMED {
            continue;
        }
        let show = |p: Option<&(u64, Vec<u8>)>| match p {
            None => "as before".to_string(),
            Some((0, _)) => "zero or gone".to_string(),
            Some((h, _)) => format!("hash {h:#x}"),
        };
        note(
            &format!("{} page {at:#x}", part(*at)),
            show(e.get(at)),
            show(a.get(at)),
        );
        if let (Some((_, eb)), Some((_, ab))) = (e.get(at), a.get(at)) {
            words(*at, eb, ab, &mut note);
        }
    }
    if count > NAMED {
        let _ = writeln!(more, "ftvm:   and {} more pages", count - NAMED);
    }
    let (e, a) = first.unwrap_or_else(|| ("the same".into(), "the same".into()));
    (e, a, more)
}

/// The words in which two pages differ, where both have contents.
fn words(at: u64, e: &[u8], a: &[u8], note: &mut impl FnMut(&str, String, String)) {
    let differing = e
        .chunks_exact(8)
        .zip(a.chunks_exact(8))
        .enumerate()
        .filter(|(_, (e, a))| e != a);
    for (i, (e, a)) in differing.take(NAMED) {
        let hex = |b: &[u8]| {
            let mut w = [0u8; 8];
            w.copy_from_slice(b);
            format!("{:#018x}", u64::from_le_bytes(w))
        };
        note(&format!("word {:#x}", at + i as u64 * 8), hex(e), hex(a));
    }
}
