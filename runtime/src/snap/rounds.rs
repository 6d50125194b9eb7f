//! Copying an image while it runs: the image's side.
//!
//! The process that holds the token only looks: at the top of the scheduler it finds what has changed since the last look,
//! protects it, and writes a [`Round`], a list. Whoever asked (a thread of the supervisor, [`super::copier`]) reads the
//! pages meanwhile from outside. The last look is taken with the image standing still until the asker lets it go.
//!
//! Why that is the image at the moment of the last look: every page is copied after the look that listed it, and a look
//! protects before it lists. A page that changes after its last copy, or while it is copied, is therefore found by a later
//! look, or its range was noted as gone by a memory hook. The last look is followed by no change before its copies.
//! (docs/notes/snapshots.md)

use super::capture;
use super::changes::{self, Found, Portion};
use super::shared;
use super::travel;
use crate::alloc::{self, Side};
use crate::control::{self, HOW_SHORT, ORDER_COPY, ORDER_DONE, ORDER_END, ORDER_GO, ORDER_STOPPED};
use crate::platform::Marks;
use crate::run::Machine;
use crate::sys;
use crate::vcpu::Vcpu;
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use std::path::Path;
use std::sync::atomic::Ordering;

/// Why a look cannot tell what has changed: somebody else has looked since the one before it.
pub const MARKS_LOST: &str = "what has changed since the last look is not known";

/// Pages that a short look lists: to protect one costs about 30 ns, and the image stands meanwhile.
const SHORT_PAGES: u64 = 8192;

/// What a look has found.
#[derive(Default, Debug)]
pub struct Round {
    /// Host pid of the process that looked, and its descriptors of arena and page store: those are compared by the asker.
    pub holder: u32,
    /// See `holder`.
    pub fds: (i32, i32),
    /// Identity of the image.
    pub image: u64,
    /// Changes are followed from here on: another look will find less.
    pub follows: bool,
    /// A short look that has not come to everything: another one goes on.
    pub more: bool,
    /// Parts of the arena and of the page store, as offsets, outside of which nothing of them has changed since the last look; none
    /// if that is not known.
    pub shared: Option<[Vec<(u64, u64)>; 2]>,
    /// Number of each space, and what was found there. A space that is not named is no more.
    pub spaces: Vec<(u32, Found)>,
    /// Encoded `HostState`, of the first look and of the last.
    pub state: Vec<u8>,
    /// Offsets of REALTIME and BOOTTIME.
    pub offsets: (u64, u64),
    /// How long the look took, ns: the image did not run meanwhile.
    pub took: u64,
}

impl Wire for Found {
    fn put(&self, out: &mut Vec<u8>) {
        self.pid.put(out);
        put_list(&self.gone, out);
        put_list(&self.runs, out);
    }
    fn take(src: &mut &[u8]) -> Option<Found> {
        Some(Found {
            pid: Wire::take(src)?,
            gone: take_list(src)?,
            runs: take_list(src)?,
        })
    }
}

impl Round {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        (self.holder, self.fds.0, self.fds.1).put(&mut out);
        (self.image, self.follows, self.more).put(&mut out);
        self.shared.is_some().put(&mut out);
        for ranges in self.shared.iter().flatten() {
            put_list(ranges, &mut out);
        }
        put_list(&self.spaces, &mut out);
        self.state.put(&mut out);
        self.offsets.put(&mut out);
        self.took.put(&mut out);
        out
    }

    /// What [`look`] has written.
    pub fn decode(mut src: &[u8]) -> Option<Round> {
        let src = &mut src;
        let (holder, arena, pages) = Wire::take(src)?;
        let (image, follows, more) = Wire::take(src)?;
        let shared = match bool::take(src)? {
            true => Some([take_list(src)?, take_list(src)?]),
            false => None,
        };
        Some(Round {
            holder,
            fds: (arena, pages),
            image,
            follows,
            more,
            shared,
            spaces: take_list(src)?,
            state: Wire::take(src)?,
            offsets: Wire::take(src)?,
            took: Wire::take(src)?,
        })
    }

    /// Pages of processes that it names.
    pub fn pages(&self) -> u64 {
        let runs = self.spaces.iter().flat_map(|(_, f)| &f.runs);
        runs.map(|(s, e)| (e - s) / ftl_core::layout::PAGE).sum()
    }
}

/// The marks of an image with a backup belong to its guard, and a replay is not to be disturbed.
fn can_follow(m: &Machine) -> bool {
    m.plat.guard.is_none() && m.plat.takeover.is_none() && !m.plat.replaying()
}

/// A look by whoever holds the token, at the top of the scheduler. `first`: nothing was copied yet. `last`: the image
/// stands still until the asker lets it go.
pub fn look(
    v: &mut Vcpu,
    m: &mut Machine,
    path: &Path,
    how: u32,
    first: bool,
    last: bool,
) -> Result<(), String> {
    if !first && can_follow(m) && m.plat.live.marks != Marks::Rounds {
        return Err(MARKS_LOST.to_string());
    }
    if last {
        if !m.plat.replaying() {
            // What has arrived at the host belongs to the image: datagrams, errors, keys.
            m.plat.stamp = m.kernel.next_stamp();
            m.plat.gather(None);
        }
        m.kernel.settle_vectors(&mut m.plat, v.space);
    }
    let _side = alloc::enter(Side::Host);
    let begun = sys::clock_ns(libc::CLOCK_MONOTONIC);
    let mut state = Vec::new();
    if first || last {
        state = travel::checked(m, v.space, how)?.encode();
    }
    let follows = can_follow(m);
    if follows {
        if first {
            begin(m);
        }
        changes::follow_here(v, m);
    }
    let shared = match follows {
        true => shared::marked(m),
        false => None,
    };
    let mut round = Round {
        // SAFETY: getpid has no effects.
        holder: unsafe { sys::sys!(libc::SYS_getpid) }.unwrap_or(0) as u32,
        fds: (m.fds.arena, m.fds.pages),
        image: m.image,
        follows: follows && v.tracker.is_some(),
        more: false,
        shared,
        spaces: Vec::new(),
        state,
        offsets: (
            m.kernel.core.clock.real_offset.get(),
            m.kernel.core.clock.boot_offset.get(),
        ),
        took: 0,
    };
    let mut portion = match how & HOW_SHORT != 0 && !last && round.follows {
        true => Portion::of(SHORT_PAGES),
        false => Portion::whole(),
    };
    for (id, mm) in &capture::spaces(m.kernel) {
        let plat = &mut m.plat.live;
        let found = match follows {
            true => changes::find(plat, *id, mm, v.space, &mut portion, &mut || {})?,
            false => changes::all(plat, *id, mm)?,
        };
        round.spaces.push((id.0, found));
    }
    round.more = portion.is_used_up();
    if !round.more {
        // The next one begins anew.
        let tracks = m.plat.live.spaces.tracks.values_mut();
        tracks.for_each(|t| (t.resume, t.first) = (0, false));
    }
    round.took = sys::clock_ns(libc::CLOCK_MONOTONIC) - begun;
    std::fs::write(path, round.encode()).map_err(|e| format!("list {}: {e}", path.display()))
}

fn begin(m: &mut Machine) {
    let plat = &mut m.plat.live;
    plat.tracking = true;
    plat.marks = Marks::Rounds;
    plat.spaces.shared.take_freed();
    (plat.spaces.shared.known, plat.spaces.shared.copied) = (false, false);
    for track in plat.spaces.tracks.values_mut() {
        *track = Default::default();
    }
}

/// Nobody looks again: changes are not followed any more. Protection that is left costs a page its first write.
pub fn forget(m: &mut Machine) {
    if can_follow(m) {
        let _side = alloc::enter(Side::Host);
        begin(m);
        m.plat.live.tracking = false;
        m.plat.live.marks = Marks::Nobodys;
    }
}

/// The image stands until the asker says how it goes on. True: it ends here.
pub fn stand(v: &Vcpu, m: &mut Machine) -> bool {
    // SAFETY: the page is mapped in every guest process.
    let order = &unsafe { control::get() }.order;
    order.set(ORDER_STOPPED, b"");
    loop {
        match order.state.load(Ordering::Acquire) {
            ORDER_GO => return false,
            ORDER_END => return true,
            // For tests: the same moment, copied in one go.
            ORDER_COPY => {
                let _side = alloc::enter(Side::Host);
                let done = super::file::write_standing(m, v.space, &order.text());
                match done {
                    Ok(()) => order.set(ORDER_DONE, b""),
                    Err(why) => order.set(control::ORDER_FAILED, why.as_bytes()),
                }
            }
            state => sys::futex_wait(&order.state, state),
        }
    }
}
