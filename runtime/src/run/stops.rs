//! Places at which something is done with a replay or a recording between two entries: stops that were asked for, marks.

use super::{Machine, die, what_was_running, where_it_was};
use crate::alloc::{self, Side};
use crate::door::Mode;
use crate::door::replay::Stop;
use crate::talk::{self, Level};
use crate::vcpu::Vcpu;
use ftl_core::context::Context;
use ftl_core::log::{Record, Wire};

/// The program is about to go on: a replay may have to stop here.
pub(super) fn stop_after(v: &mut Vcpu, m: &mut Machine, ctx: *mut Context) {
    let Mode::Replay(r) = &mut m.plat.mode else { return };
    let reached = match r.stop {
        Some(Stop::After(e)) => m.kernel.entries.get() >= e,
        Some(Stop::Time(ns)) => m.kernel.core.clock.last().saturating_sub(r.began) >= ns,
        Some(Stop::Before(_)) | None => false,
    };
    if reached {
        v.ctx = ctx;
        stopped(m, false);
    }
}

/// The program has entered the kernel, which has done nothing yet: a replay may have to stop here.
pub(super) fn stop_before(m: &mut Machine) {
    if let Mode::Replay(r) = &mut m.plat.mode
        && let Some(Stop::Before(e)) = r.stop
        && m.kernel.entries.get() >= e
    {
        stopped(m, true);
    }
}

/// A replay has come to where it is to stop: gdb is waited for, or it ends.
fn stopped(m: &mut Machine, entered: bool) {
    let mut began = 0;
    if let Mode::Replay(r) = &mut m.plat.mode {
        r.stop = None;
        began = r.began;
    }
    let _side = alloc::enter(Side::Host);
    let us = m.kernel.core.clock.last().saturating_sub(began) / 1000;
    let line = format!(
        "ftvm: stopped after entry {}, {}.{:06} s into the run: {}\nftvm:   {}\n",
        m.kernel.entries.get(),
        us / 1_000_000,
        us % 1_000_000,
        what_was_running(),
        where_it_was()
    );
    talk::lines(Level::Info, &line);
    match m.gdb {
        Some(_) => crate::gdb::reached(m, entered),
        None => die(0),
    }
}

/// With `--check N`: what the image holds now goes to the log, or is compared with it.
pub(super) fn mark(v: &Vcpu, m: &mut Machine, ctx: *mut Context) {
    let entries = m.kernel.entries.get();
    let pages_fd = m.plat.live.pages_fd;
    let marks = match &mut m.plat.mode {
        Mode::Run => return,
        Mode::Record(r) => &mut r.marks,
        Mode::Replay(r) => &mut r.marks,
    };
    if !marks.is_due(entries) {
        return;
    }
    crate::gdb::beyond_call(m);
    let marks = match &mut m.plat.mode {
        Mode::Run => return,
        Mode::Record(r) => &mut r.marks,
        Mode::Replay(r) => &mut r.marks,
    };
    let _side = alloc::enter(Side::Host);
    // SAFETY: the context of the task that goes on, which the kernel does not borrow now.
    let now = marks.make(v.space.0, unsafe { &*ctx }, pages_fd);
    match &mut m.plat.mode {
        Mode::Run => {}
        Mode::Record(r) => {
            let mut bytes = Vec::new();
            now.put(&mut bytes);
            r.put(&Record::Mark { e: entries, bytes });
        }
        Mode::Replay(r) => r.mark(entries, &now),
    }
}
