//! Anchors: snapshots inside a log, from which it can be replayed.
//!
//! An anchor is taken at the top of the scheduler, like every snapshot. The log has a record of it that says where
//! exactly that was: a replay goes to the top at the same place, with or without the snapshot. A segment ends there, so
//! that what lies before an anchor can be deleted (`record --keep`) and a replay from it reads nothing else.
//!
//! Files: `LOG/anchors/NUMBER.eENTRIES.tNANOSECONDS.ftsnap`, the time being the image's own since it began. They appear
//! when they are whole; a record without a file is an anchor that could not be taken, or that was deleted. The
//! supervisor packs them later ([`super::keep`]): against the one before, and compressed.

use super::Mode;
use crate::alloc::{self, Side};
use crate::run::Machine;
use crate::snap::{capture, file};
use crate::talk::{self, Level};
use crate::vcpu::Vcpu;
use ftl_abi::kernel::Kernel;
use ftl_core::log::{Record, Wire};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Where in its history an image was at the top of its scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Number of the anchor.
    pub number: u32,
    /// Absorb points so far.
    point: u64,
    /// Logical time with clock reads, and the clock.
    clock: (u64, u64),
    /// Space that was about to run.
    space: u32,
}

impl Place {
    fn of(kernel: &Kernel, space: u32, number: u32) -> Place {
        let clock = kernel.core.clock;
        Place {
            number,
            point: kernel.next_stamp().point,
            clock: (clock.e.get(), clock.last()),
            space,
        }
    }
}

impl Wire for Place {
    fn put(&self, out: &mut Vec<u8>) {
        (self.number, self.point).put(out);
        (self.clock.0, self.clock.1, self.space).put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Place> {
        let (number, point) = Wire::take(src)?;
        let (e, v, space) = Wire::take(src)?;
        Some(Place {
            number,
            point,
            clock: (e, v),
            space,
        })
    }
}

/// An anchor's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Its number, from 1 on.
    pub number: u32,
    /// Kernel entries before it.
    pub entries: u64,
    /// The image's time since it began, ns.
    pub ns: u64,
    /// The snapshot.
    pub path: PathBuf,
}

/// Folder of anchors in a log.
pub fn folder(log: &Path) -> PathBuf {
    log.join("anchors")
}

fn file_name(number: u32, entries: u64, ns: u64) -> String {
    format!("{number:06}.e{entries}.t{ns}.ftsnap")
}

fn parse(path: PathBuf) -> Option<File> {
    let name = path.file_name()?.to_str()?.strip_suffix(".ftsnap")?;
    let mut parts = name.split('.');
    let number = parts.next()?.parse().ok()?;
    let entries = parts.next()?.strip_prefix('e')?.parse().ok()?;
    let ns = parts.next()?.strip_prefix('t')?.parse().ok()?;
    parts.next().is_none().then_some(File {
        number,
        entries,
        ns,
        path,
    })
}

/// The anchors of a log, in their order.
pub fn list(log: &Path) -> Vec<File> {
    let dir = std::fs::read_dir(folder(log)).into_iter().flatten().flatten();
    let mut all: Vec<File> = dir.filter_map(|f| parse(f.path())).collect();
    all.sort_by_key(|a| a.number);
    all
}

/// When a recorder takes anchors.
#[derive(Default)]
pub struct Anchors {
    /// Number of the last one.
    pub count: u32,
    /// Entries between two; 0: at the supervisor's order only.
    pub every: u64,
    /// Entries at which the next one is due.
    due: u64,
    /// Entries at the last one.
    last: u64,
    /// So many bytes of log are enough for one; 0: they do not matter.
    pub bytes: u64,
    /// Bytes of the log since the last one.
    pub written: u64,
    /// Virtual time at which the image began, ns.
    pub began: u64,
    /// The log's directory.
    pub dir: PathBuf,
    /// They cannot be taken: it was said.
    failed: bool,
}

impl Anchors {
    /// Of the log in this directory.
    pub fn of(dir: PathBuf) -> Anchors {
        Anchors {
            dir,
            ..Anchors::default()
        }
    }

    /// One is due after so many entries.
    pub fn due(&self, entries: u64) -> bool {
        (self.every > 0 && entries >= self.due.max(self.every))
            || (self.bytes > 0 && self.written > self.bytes && entries > self.last)
    }
}

/// Called at the top of the scheduler.
pub fn at_top(v: &mut Vcpu, m: &mut Machine) {
    match &mut m.plat.mode {
        Mode::Run => {}
        Mode::Record(r) => {
            if r.anchors.due(m.kernel.entries.get()) && m.kernel.exit.get().is_none() {
                let _ = take(v, m);
            }
        }
        Mode::Replay(_) => pass(v, m),
    }
}

/// True if the next entry must go to the top.
pub fn wanted(m: &mut Machine) -> bool {
    let entries = m.kernel.entries.get();
    match &mut m.plat.mode {
        Mode::Run => false,
        Mode::Record(r) => r.anchors.due(entries),
        Mode::Replay(r) => r.anchor().is_some_and(|(e, _)| e == entries),
    }
}

/// Takes one. It is not worth one if the image has done nothing since the last.
pub fn take(v: &mut Vcpu, m: &mut Machine) -> Result<(), String> {
    let entries = m.kernel.entries.get();
    let space = v.space.0;
    m.kernel.settle_vectors(&mut m.plat, v.space);
    let _side = alloc::enter(Side::Host);
    let Mode::Record(r) = &mut m.plat.mode else {
        return Err("the image is not recorded".to_string());
    };
    if r.anchors.count > 0 && r.anchors.last == entries {
        return Ok(());
    }
    let number = r.anchors.count + 1;
    let place = Place::of(m.kernel, space, number);
    let ns = place.clock.1.saturating_sub(r.anchors.began);
    let mut bytes = Vec::new();
    place.put(&mut bytes);
    r.flush();
    r.put(&Record::Anchor { e: entries, bytes });
    r.end_segment();
    r.marks.begin_anew();
    let a = &mut r.anchors;
    (a.count, a.last, a.written) = (number, entries, 0);
    a.due = entries.checked_div(a.every).map_or(0, |n| (n + 1) * a.every);
    let dir = folder(&a.dir);
    let path = dir.join(file_name(number, entries, ns));
    let _ = std::fs::DirBuilder::new().mode(0o700).create(&dir);
    let done = capture::anchor(m, v.space).and_then(|state| file::write_state(m, &state, &path));
    // SAFETY: the page is mapped in every guest process.
    let control = unsafe { crate::control::get() };
    let Mode::Record(r) = &mut m.plat.mode else {
        return done;
    };
    match &done {
        Ok(()) => {
            r.anchors.failed = false;
            control.anchors.store(number, Ordering::Release);
            control.tell();
        }
        Err(why) if !r.anchors.failed => {
            r.anchors.failed = true;
            talk::warn(&format!(
                "anchor {number} of the log: {why}; the recording goes on without it"
            ));
        }
        Err(_) => {}
    }
    done
}

/// In replay: where an anchor was taken, what that did to the image happens too.
fn pass(v: &mut Vcpu, m: &mut Machine) {
    let entries = m.kernel.entries.get();
    let Mode::Replay(r) = &mut m.plat.mode else {
        return;
    };
    let Some((e, place)) = r.anchor() else { return };
    if e < entries {
        r.diverged(
            "anchor",
            &format!("the top of the scheduler after entry {e} ({place:?})"),
            &format!("entry {entries}"),
        );
    }
    if e > entries || place != Place::of(m.kernel, v.space.0, place.number) {
        return;
    }
    m.kernel.settle_vectors(&mut m.plat, v.space);
    if let Mode::Replay(r) = &mut m.plat.mode {
        r.pass_anchor();
        if r.until == Some(place.number) {
            compare(m, place.number);
        }
    }
}

/// The replay has come to the anchor at which the image is compared with the recorded one.
fn compare(m: &mut Machine, number: u32) -> ! {
    let _side = alloc::enter(Side::Host);
    let Mode::Replay(r) = &m.plat.mode else {
        crate::run::die(0)
    };
    let Some(anchor) = list(&r.dir).into_iter().find(|a| a.number == number) else {
        crate::run::fail_stop("the anchor to compare with is not there");
    };
    let file = r.candidates.clone();
    let candidates = file.as_deref().map(|file| super::compare::Candidates { file });
    match super::compare::with(m, &anchor.path, candidates.as_ref()) {
        Ok(lines) if lines.is_empty() => {
            if let Mode::Replay(r) = &m.plat.mode {
                r.tell_end(None, crate::run::entries(), true);
            }
            crate::run::die(0)
        }
        Ok(lines) => {
            let mut text = format!(
                "ftvm: diverged before anchor {number}: the image is not as it was\nftvm:   {}\n",
                crate::run::when()
            );
            for line in lines {
                text.push_str(&format!("ftvm:   {line}\n"));
            }
            talk::lines(Level::Error, &text);
            crate::run::die(super::replay::EXIT_DIVERGED)
        }
        Err(why) => crate::run::fail_stop(&why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_where_an_anchor_is() {
        let path = PathBuf::from("log/anchors").join(file_name(12, 34_567, 890));
        let f = parse(path.clone()).expect("a name of ours");
        assert_eq!((f.number, f.entries, f.ns, &f.path), (12, 34_567, 890, &path));
        for other in [
            "000001.ftsnap",
            "x.e1.t1.ftsnap",
            "000001.e1.t1.ftsnap.part-7",
            "000001.e1.t1.x.ftsnap",
        ] {
            assert_eq!(parse(PathBuf::from(other)), None, "{other}");
        }
    }

    #[test]
    fn anchors_are_due_by_entries_or_bytes() {
        let mut a = Anchors {
            every: 100,
            ..Anchors::default()
        };
        assert!(!a.due(99) && a.due(100));
        a.due = 200;
        assert!(!a.due(199) && a.due(230));
        let b = Anchors {
            bytes: 1000,
            written: 1001,
            last: 5,
            ..Anchors::default()
        };
        assert!(b.due(6) && !b.due(5));
        assert!(!Anchors::default().due(1_000_000));
    }
}
