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
    let mut chunks = Vec::new();
    let mut keep = |c: Vec<u8>| chunks.push(c);
    let mut sink = Chunks::new(&mut keep);
    let state = capture::whole(m, v.space, &mut sink);
    sink.finish();
    let followed = changes::start(m);
    send(m, g, chunks, state.and_then(|s| followed.map(|()| s)));
}

/// What has changed since the last snapshot.
fn increment(v: &mut Vcpu, m: &mut Machine) {
    m.plat.ship();
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.plat.guard.take() else { return };
    g.begin(&mut m.plat.live, false);
    let mut chunks = Vec::new();
    let mut keep = |c: Vec<u8>| chunks.push(c);
    let mut sink = Chunks::new(&mut keep);
    let state = changes::take(m, v.space, &mut sink);
    sink.finish();
    send(m, g, chunks, state);
}

/// The rest of a snapshot: its pages, then its end.
fn send(m: &mut Machine, mut g: Box<Guard>, chunks: Vec<Vec<u8>>, state: Result<HostState, String>) {
    let plat = &mut m.plat.live;
    for c in chunks {
        g.step(plat, Input::Base(Base::Chunk(c)));
        g.drain();
    }
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
            g.failed = true;
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
