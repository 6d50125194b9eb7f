//! What a protected image does at the top of the scheduler, where a snapshot may be taken and the vCPU may
//! stand still.

use super::chunk::Chunks;
use super::guard::Guard;
use super::image_time;
use crate::alloc::{self, Side};
use crate::run::Machine;
use crate::snap::changes::{self, Work};
use crate::snap::state::HostState;
use crate::sys;
use crate::vcpu::Vcpu;
use ftl_core::replica::Mark;
use ftl_core::replica::primary::{Base, Input};
use std::collections::VecDeque;

/// Called before the kernel chooses what runs.
pub fn at_top(v: &mut Vcpu, m: &mut Machine) {
    let Some(g) = &m.plat.guard else { return };
    if g.want_base {
        begin_base(v, m);
    } else if g.base_due(m.plat.live.clock.now()) {
        base(v, m);
    } else if g.due() {
        increment(v, m);
    }
    while m.plat.guard.as_ref().is_some_and(|g| g.throttle && !g.stop) {
        // Another backup in place of the slow one may be what is wanted.
        crate::snap::serve(v, m);
        wait_a_little(m);
    }
    while m.plat.guard.as_ref().is_some_and(|g| g.stop) {
        stand(v, m);
    }
}

/// True if the next entry must go to the top.
pub fn wanted(m: &mut Machine) -> bool {
    let Some(g) = &m.plat.guard else { return false };
    g.want_base || g.stop || g.throttle || g.due() || g.base.is_some() && g.base_due(m.plat.live.clock.now())
}

/// The vCPU, which owns the link, copies a base itself, between tasks: so much at a time, and then the image runs for as
/// long again.
const SLICE_NS: u64 = 1_000_000;
/// The last round is due when no more pages of processes than that have changed.
const FEW: u64 = 512;
/// More rounds than that, or as many in a row that find hardly less than the one before, are of no use.
const MOST_ROUNDS: u32 = 30;
const PATIENCE: u32 = 3;

/// A whole snapshot on its way to a new backup, in rounds while the image runs.
#[derive(Debug, Default)]
pub struct BaseRounds {
    work: VecDeque<Work>,
    /// When the next slice is due, ns.
    next: u64,
    /// Pages of processes that the last look found.
    pages: u64,
    rounds: u32,
    /// Looks in a row that found hardly less.
    bad: u32,
}

impl BaseRounds {
    /// When the next slice is due, ns.
    pub fn due(&self) -> u64 {
        self.next
    }
}

impl Guard {
    /// A slice of the base is due.
    fn base_due(&self, now: u64) -> bool {
        self.base.as_ref().is_some_and(|b| now >= b.next) && !self.is_busy()
    }
}

/// A backup has come: from here on it gets a whole snapshot.
fn begin_base(v: &Vcpu, m: &mut Machine) {
    m.plat.ship();
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.plat.guard.take() else { return };
    g.want_base = false;
    g.begin(&mut m.plat.live, true);
    changes::begin(m);
    match changes::plan(m, v.space) {
        Ok((mut work, pages)) => {
            work.extend(changes::mapped_files(m));
            g.base = Some(Box::new(BaseRounds {
                work,
                pages,
                ..BaseRounds::default()
            }));
        }
        Err(why) => failed(&mut g, m, &why),
    }
    m.plat.guard = Some(g);
}

fn failed(g: &mut Guard, m: &mut Machine, why: &str) {
    crate::talk::warn(&format!("a snapshot for the backup: {why}"));
    super::status::set_no_backup(why);
    g.base = None;
    g.base_failed(&mut m.plat.live);
}

/// A slice of a whole snapshot; the last round when few pages are left. Outputs leave ungated until that, and its records
/// are shipped from there on (docs/notes/replica.md).
fn base(v: &mut Vcpu, m: &mut Machine) {
    m.plat.ship();
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.plat.guard.take() else { return };
    let Some(mut b) = g.base.take() else {
        m.plat.guard = Some(g);
        return;
    };
    let clock = clock(m);
    let begun = clock();
    let mut give = |c: Vec<u8>| g.give(&clock, c);
    let mut sink = Chunks::new(&mut give);
    let mut done = Ok(());
    while let Some(w) = b.work.pop_front() {
        done = changes::copy(m, w, &mut sink);
        if done.is_err() || clock() - begun > SLICE_NS {
            break;
        }
    }
    sink.finish();
    let mut last = false;
    if done.is_ok() && b.work.is_empty() {
        match changes::plan(m, v.space) {
            Ok((work, pages)) => {
                b.bad = if pages * 5 > b.pages * 4 { b.bad + 1 } else { 0 };
                b.rounds += 1;
                last = pages <= FEW || b.bad >= PATIENCE || b.rounds >= MOST_ROUNDS;
                (b.work, b.pages) = (work, pages);
            }
            Err(why) => done = Err(why),
        }
    }
    // The link may have broken meanwhile: what was sent is lost, and all begins anew.
    if let Err(why) = done {
        failed(&mut g, m, &why);
    } else if g.going && !g.want_base {
        let now = clock();
        b.next = now + (now - begun);
        g.base = Some(b);
    }
    m.plat.guard = Some(g);
    if last {
        drop(_side);
        last_round(v, m);
    }
}

/// The image stands: what was found just now goes, and what the arenas have beside it.
fn last_round(v: &mut Vcpu, m: &mut Machine) {
    m.plat.ship();
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.plat.guard.take() else { return };
    let Some(b) = g.base.take() else {
        m.plat.guard = Some(g);
        return;
    };
    g.last_round(&mut m.plat.live);
    let clock = clock(m);
    let mut give = |c: Vec<u8>| g.give(&clock, c);
    let mut sink = Chunks::new(&mut give);
    let mut done = Ok(());
    for w in b.work {
        done = done.and_then(|()| changes::copy(m, w, &mut sink));
    }
    let state = done.and_then(|()| changes::take(m, v.space, &mut sink));
    sink.finish();
    end(m, g, state);
}

/// What has changed since the last snapshot.
fn increment(v: &mut Vcpu, m: &mut Machine) {
    m.plat.ship();
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.plat.guard.take() else { return };
    g.begin(&mut m.plat.live, false);
    let clock = clock(m);
    let mut give = |c: Vec<u8>| g.give(&clock, c);
    let mut sink = Chunks::new(&mut give);
    let state = changes::take(m, v.space, &mut sink);
    sink.finish();
    end(m, g, state);
}

/// The image's clock, while the machine is being copied.
fn clock(m: &mut Machine) -> impl Fn() -> u64 + use<> {
    let host = || sys::clock_ns(libc::CLOCK_MONOTONIC);
    let ahead = m.plat.live.clock.now().wrapping_sub(host());
    move || host().wrapping_add(ahead)
}

/// The pages of a snapshot have been given.
fn end(m: &mut Machine, mut g: Box<Guard>, state: Result<HostState, String>) {
    let plat = &mut m.plat.live;
    match state {
        Ok(state) => {
            super::status::set_no_backup("");
            let mark = Mark {
                position: state.log.map_or(0, |l| l.position),
                at: image_time(),
            };
            let marks = g.primary.marks();
            let manifest = state.encode();
            g.step(
                plat,
                Input::Base(Base::End {
                    mark,
                    marks,
                    manifest,
                }),
            );
        }
        // The next one is whole.
        Err(why) => {
            failed(&mut g, m, &why);
        }
    }
    g.taken(m.plat.live.clock.now());
    m.plat.guard = Some(g);
}

/// The vCPU stands still for a switchover.
fn stand(v: &mut Vcpu, m: &mut Machine) {
    m.kernel.settle_vectors(&mut m.plat, v.space);
    m.plat.ship();
    let _side = alloc::enter(Side::Host);
    if let Some(g) = &mut m.plat.guard
        && !g.stopped
    {
        g.stopped = true;
        let input = Input::Stopped {
            at: image_time(),
            manifest: Vec::new(),
        };
        g.step(&mut m.plat.live, input);
    }
    drop(_side);
    wait_a_little(m);
}

/// The image does not run, its links are served.
fn wait_a_little(m: &mut Machine) {
    let soon = m.plat.live.clock.now() + 1_000_000;
    m.plat.live.gather(Some(Some(soon)));
    m.plat.service(true);
}
