//! What a protected image does at the top of the scheduler, where a snapshot may be taken and the vCPU may
//! stand still.

use super::chunk::Chunks;
use super::guard::Guard;
use super::image_time;
use crate::alloc::{self, Side};
use crate::run::Machine;
use crate::snap::state::HostState;
use crate::snap::{capture, changes};
use crate::sys;
use crate::vcpu::Vcpu;
use ftl_core::replica::Mark;
use ftl_core::replica::primary::{Base, Input};

/// Called before the kernel chooses what runs.
pub fn at_top(v: &mut Vcpu, m: &mut Machine) {
    let Some(g) = &m.plat.guard else { return };
    if g.want_base {
        base(v, m);
    } else if g.due() {
        increment(v, m);
    }
    while m.plat.guard.as_ref().is_some_and(|g| g.throttle && !g.stop) {
        wait_a_little(m);
    }
    while m.plat.guard.as_ref().is_some_and(|g| g.stop) {
        stand(v, m);
    }
}

/// True if the next entry must go to the top.
pub fn wanted(m: &Machine) -> bool {
    m.plat
        .guard
        .as_ref()
        .is_some_and(|g| g.want_base || g.stop || g.throttle || g.due())
}

/// A whole snapshot for a new backup.
fn base(v: &mut Vcpu, m: &mut Machine) {
    m.plat.ship();
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.plat.guard.take() else { return };
    g.want_base = false;
    g.begin(&mut m.plat.live, true);
    let clock = clock(m);
    let mut give = |c: Vec<u8>| g.give(&clock, c);
    let mut sink = Chunks::new(&mut give);
    let state = capture::whole(m, v.space, &mut sink);
    sink.finish();
    let followed = changes::start(m);
    end(m, g, state.and_then(|s| followed.map(|()| s)));
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
            sys::write_all(2, format!("ftvm: a snapshot for the backup: {why}\n").as_bytes());
            g.base_failed(plat);
        }
    }
    g.taken(plat.clock.now());
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
