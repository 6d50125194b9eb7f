//! `ftvm record start` and `stop`: a running image gets a log, which begins with an anchor, and loses it again.
//!
//! Both happen at the top of the scheduler, like a snapshot. Nothing of the image changes: in every mode the same code
//! runs between the doors. But an image whose instructions are not patched would read the CPU behind the door's back, so
//! only one that was started `--recordable` is recorded.

use super::read::{numbers, segment_name};
use super::record::Recorder;
use super::{Mode, anchor, start};
use crate::alloc::{self, Side};
use crate::run::{Machine, writable_dirs};
use crate::vcpu::Vcpu;
use ftl_core::log::Record;
use std::path::Path;
use std::sync::atomic::Ordering;

/// The image is recorded from here on.
pub fn start(v: &mut Vcpu, m: &mut Machine, dir: &Path) -> Result<(), String> {
    if !matches!(m.plat.mode, Mode::Run) || m.plat.guard.is_some() {
        return Err("it is recorded, replayed or protected already".to_string());
    }
    if m.kernel.config.cpu.is_none() {
        return Err(
            "it was not started with ftvm run --recordable: its cpuid and rdtsc would not be in the log"
                .to_string(),
        );
    }
    // Whether the directory is ours.
    let made;
    {
        let _side = alloc::enter(Side::Host);
        let bad = || "its start cannot be read".to_string();
        let (_, origin) = start::decode(&m.start, false).ok_or_else(bad)?;
        made = !dir.exists();
        let mut r = Recorder::create(dir, m.image).map_err(|e| e.to_string())?;
        r.files.writable = writable_dirs(
            &m.kernel.config,
            m.plat.live.moved.as_ref().map_or(&[], |m| &m.dirs),
        );
        r.anchors.began = origin.clock.0;
        r.put(&Record::Start(m.start.clone()));
        // SAFETY: mapped in every guest process. Whoever looked after an earlier log has ended with it.
        let control = unsafe { crate::control::get() };
        control.closed.store(0, Ordering::Release);
        control.anchors.store(0, Ordering::Release);
        m.plat.mode = Mode::Record(Box::new(r));
    }
    // What has arrived is the host's from now on: the image makes copies, as a replay does.
    alloc::inputs_on_host(true);
    let waiting: Vec<_> = {
        let _side = alloc::enter(Side::Host);
        m.plat.live.inputs.iter().cloned().collect()
    };
    m.plat.live.inputs.clear();
    {
        let _side = alloc::enter(Side::Host);
        m.plat.live.inputs.extend(waiting);
    }
    let done = anchor::take(v, m);
    let _side = alloc::enter(Side::Host);
    // What is before the anchor is only that a log was begun.
    let done = done.and_then(|()| {
        std::fs::remove_file(dir.join(segment_name(0))).map_err(|e| format!("log {}: {e}", dir.display()))
    });
    if done.is_err() {
        end(m);
        // Nothing can be replayed.
        undo(dir, made);
    }
    done
}

/// Removes a log that was just begun where there was none; the directory too if it was made for it.
fn undo(dir: &Path, made: bool) {
    let _ = std::fs::remove_dir_all(anchor::folder(dir));
    for n in numbers(dir) {
        let _ = std::fs::remove_file(dir.join(segment_name(n)));
    }
    if made {
        let _ = std::fs::remove_dir(dir);
    }
}

/// The recording ends; the image goes on.
pub fn stop(m: &mut Machine) -> Result<(), String> {
    if !matches!(m.plat.mode, Mode::Record(_)) || m.plat.guard.is_some() {
        return Err("it is not recorded".to_string());
    }
    let _side = alloc::enter(Side::Host);
    end(m);
    Ok(())
}

fn end(m: &mut Machine) {
    if let Mode::Record(r) = std::mem::replace(&mut m.plat.mode, Mode::Run) {
        let mut r = r;
        r.stop();
    }
    // Inputs that wait stay where they are; a buffer goes back to where it came from.
    alloc::inputs_on_host(false);
}
