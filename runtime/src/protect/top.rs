//! What a protected image does at the top of the scheduler, where a snapshot may be taken and the vCPU may
//! stand still.

use super::chunk::Chunks;
use super::image_time;
use crate::alloc::{self, Side};
use crate::run::Machine;
use crate::snap::capture;
use crate::sys;
use crate::vcpu::Vcpu;
use ftl_core::replica::Mark;
use ftl_core::replica::primary::{Base, Input};

/// Called before the kernel chooses what runs.
pub fn at_top(v: &mut Vcpu, m: &mut Machine) {
    let Some(g) = &m.plat.guard else { return };
    if g.want_base {
        base(v, m);
    }
    while m.plat.guard.as_ref().is_some_and(|g| g.stop) {
        stand(v, m);
    }
}

/// True if the next entry must go to the top.
pub fn wanted(m: &Machine) -> bool {
    m.plat.guard.as_ref().is_some_and(|g| g.want_base || g.stop)
}

/// A whole snapshot for a new backup.
fn base(v: &mut Vcpu, m: &mut Machine) {
    m.plat.ship();
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.plat.guard.take() else { return };
    g.want_base = false;
    g.going = true;
    g.snaps.0 += 1;
    let snap = g.snaps.0;
    g.step(&mut m.plat.live, Input::Base(Base::Begin { snap, parent: 0 }));
    g.step(&mut m.plat.live, Input::Base(Base::LastRound));
    let mut chunks = Vec::new();
    let mut keep = |c: Vec<u8>| chunks.push(c);
    let mut sink = Chunks::new(&mut keep);
    let state = capture::whole(m, v.space, &mut sink);
    sink.finish();
    for c in chunks {
        g.step(&mut m.plat.live, Input::Base(Base::Chunk(c)));
        g.drain();
    }
    match state {
        Ok(state) => {
            let position = state.log.map_or(0, |l| l.position);
            let end = Base::End {
                mark: Mark {
                    position,
                    at: image_time(),
                },
                marks: g.primary.marks(),
                manifest: state.encode(),
            };
            g.step(&mut m.plat.live, Input::Base(end));
        }
        Err(why) => sys::write_all(2, format!("ftvm: a snapshot for the backup: {why}\n").as_bytes()),
    }
    g.snapped_at = m.plat.live.clock.now();
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
    let soon = m.plat.live.clock.now() + 1_000_000;
    m.plat.live.gather(Some(Some(soon)));
    m.plat.service(true);
}
