//! What the supervisor does about a log while it is written, off the image's way: full segments and anchors are packed,
//! and what `--keep` does not ask for is deleted.

use super::anchor;
use super::checker::Checker;
use super::read::{numbers, segment_name};
use super::zip;
use crate::control::{Control, LOG_ENDS};
use crate::snap::file::STATE;
use crate::snap::state::{HostState, LogPlace};
use crate::store::file::Unpublished;
use crate::store::open::Opener;
use ftl_core::snap::{Chain, Hash, Header, Object, SnapError, Snapshot, State, Writer};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// What is kept of a log: its tail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tail {
    /// At least so much of the image's time.
    Time(Duration),
    /// At most so many bytes, if the last anchor and what follows it have no more.
    Bytes(u64),
}

/// How a log is looked after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upkeep {
    /// Segments and anchors are compressed.
    pub compress: bool,
    /// One interval in so many is compared with a replay; 0: none.
    pub check: u32,
    /// Kernel objects are compared too.
    pub objects: bool,
    /// What is kept; none: all.
    pub keep: Option<Tail>,
    /// Time between two anchors, and whether it may become longer where they take long.
    pub every: Option<(Duration, bool)>,
}

/// So many anchors may be changes of the one before; then comes a whole one, so that none needs too many files.
const CHAIN: u32 = 16;

/// Starts the thread that looks after a log.
pub fn start(control: &'static Control, dir: PathBuf, how: Upkeep) -> Option<JoinHandle<()>> {
    let (check, place) = (how.check > 0, dir.clone());
    let thread = std::thread::Builder::new().spawn(move || look_after(control, &dir, &how));
    thread
        .inspect_err(|e| {
            // The recording is whole without it, but longer, and unchecked.
            tracing::warn!(
                "log {}: nothing looks after it (a thread for it: {e}): it is not compressed, cut or checked",
                place.display()
            );
            if check {
                super::checker::nothing_is_checked();
            }
        })
        .ok()
}

/// The life of the thread that looks after the log.
fn look_after(control: &Control, dir: &Path, how: &Upkeep) {
    // The image comes first. A thread's own niceness on Linux.
    // SAFETY: plain calls; a refusal changes nothing.
    unsafe {
        let tid = libc::syscall(libc::SYS_gettid) as libc::id_t;
        libc::setpriority(libc::PRIO_PROCESS, tid, 10);
    }
    let mut keeper = Keeper {
        dir,
        how,
        segments: 0,
        anchors: 0,
        said: String::new(),
        checker: (how.check > 0).then(|| Checker::start(dir, how.check, how.objects)),
    };
    loop {
        let news = control.news();
        let closed = control.closed.load(Ordering::Acquire);
        let (full, over) = (closed & !LOG_ENDS, closed & LOG_ENDS != 0);
        keeper.anchors(control.anchors.load(Ordering::Acquire));
        // At the end the last one is full too.
        keeper.segments(full + u32::from(over));
        // What an anchor takes when it was made whole is only known then.
        while let Some(tail) = how.keep {
            match keeper.cut(tail) {
                Ok(true) => {}
                Ok(false) => break,
                Err(why) => {
                    keeper.complain(&why);
                    break;
                }
            }
        }
        if over {
            if let Some(c) = keeper.checker.take() {
                c.end();
            }
            return;
        }
        control.wait(news);
    }
}

struct Keeper<'a> {
    dir: &'a Path,
    how: &'a Upkeep,
    /// Segments that are packed.
    segments: u32,
    /// Anchors that are packed.
    anchors: u32,
    /// The last complaint: the same is told once.
    said: String,
    checker: Option<Checker>,
}

impl Keeper<'_> {
    fn segments(&mut self, until: u32) {
        while self.segments < until {
            if self.how.compress && self.dir.join(segment_name(self.segments)).exists() {
                // A full disk, a log that was moved: the segment stays as it is, and is readable.
                let _ = zip::pack_segment(self.dir, self.segments);
            }
            self.segments += 1;
        }
    }

    fn anchors(&mut self, until: u32) {
        if self.anchors >= until {
            return;
        }
        let all = anchor::list(self.dir);
        for (i, a) in all.iter().enumerate() {
            if a.number <= self.anchors || a.number > until {
                continue;
            }
            if self.how.compress {
                let before = i
                    .checked_sub(1)
                    .map(|i| &all[i])
                    .filter(|_| a.number % CHAIN != 1);
                // As above: it stays as it is.
                let _ = pack_anchor(&a.path, before.map(|b| b.path.as_path()));
            }
        }
        self.anchors = until;
        if let Some(c) = &self.checker {
            c.tell(until);
        }
    }
}

impl Keeper<'_> {
    fn complain(&mut self, why: &str) {
        if self.said != why {
            tracing::warn!("--keep: {why}; the log stays longer");
            self.said = why.to_string();
        }
    }

    /// Deletes what lies before the tail. The anchor that it begins with is made whole first, and a log that is left
    /// half-way is one that begins at an anchor. False: there was nothing to delete.
    fn cut(&self, tail: Tail) -> Result<bool, String> {
        // One that is not packed yet is larger than it will be.
        let mut all = anchor::list(self.dir);
        all.retain(|a| a.number <= self.anchors);
        let Some(first) = first_needed(&all, tail, |i| self.size_from(&all, i)) else {
            return Ok(false);
        };
        // What is being compared stays.
        let needed = self.checker.as_ref().and_then(Checker::needs);
        let first = match needed {
            Some(n) => first.min(all.iter().take_while(|a| a.number < n).count()),
            None => first,
        };
        if needed == Some(0) {
            return Ok(false);
        }
        if let Some(c) = &self.checker {
            c.cuts();
        }
        let path = &all[first].path;
        let opened = Opener::default().chain(path)?;
        let segment = segment_of(&opened.chain).ok_or_else(|| format!("{}: damaged", path.display()))?;
        if opened.files.len() > 1 {
            pack_anchor(path, None)?;
        }
        let gone = |path: &Path| std::fs::remove_file(path).map_err(|e| format!("{}: {e}", path.display()));
        for a in &all[..first] {
            gone(&a.path)?;
        }
        let old: Vec<u32> = numbers(self.dir).into_iter().filter(|n| *n < segment).collect();
        for n in &old {
            gone(&self.dir.join(segment_name(*n)))?;
        }
        Ok(first > 0 || !old.is_empty())
    }

    /// Bytes of the log if it began at this anchor of the list; `None`: at its present beginning.
    fn size_from(&self, all: &[anchor::File], first: Option<usize>) -> u64 {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        let anchors: u64 = all[first.unwrap_or(0)..].iter().map(|a| size(&a.path)).sum();
        // The one that it begins with is whole then; how large that is, the first one of all tells.
        let whole = first.map_or(0, |i| size(&all[0].path).saturating_sub(size(&all[i].path)));
        let opened = first.and_then(|i| Opener::default().one(&all[i].path).ok());
        let from = opened.and_then(|s| place_of(&s)).map_or(0, |p| p.segment);
        let segments: u64 = numbers(self.dir)
            .into_iter()
            .filter(|n| *n >= from)
            .map(|n| size(&self.dir.join(segment_name(n))))
            .sum();
        anchors + whole + segments
    }
}

/// Which anchor the tail begins with, if something lies before it that is to be deleted.
fn first_needed(all: &[anchor::File], tail: Tail, size_from: impl Fn(Option<usize>) -> u64) -> Option<usize> {
    let newest = all.last()?;
    match tail {
        Tail::Time(t) => {
            let until = u64::try_from(t.as_nanos())
                .ok()
                .and_then(|ns| newest.ns.checked_sub(ns))?;
            all.iter().rposition(|a| a.ns <= until)
        }
        Tail::Bytes(most) => {
            if size_from(None) <= most {
                return None;
            }
            (0..all.len())
                .find(|i| size_from(Some(*i)) <= most)
                .or(Some(all.len() - 1))
        }
    }
}

fn place_of(snapshot: &Snapshot) -> Option<LogPlace> {
    HostState::decode(snapshot.manifest().extra(STATE)?)?.log
}

/// The segment that begins at an anchor.
fn segment_of(chain: &Chain) -> Option<u32> {
    place_of(chain.last()).map(|p| p.segment)
}

enum Fault {
    Format(SnapError),
    Store(String),
}

impl From<SnapError> for Fault {
    fn from(e: SnapError) -> Fault {
        Fault::Format(e)
    }
}

impl Fault {
    fn text(self) -> String {
        match self {
            Fault::Format(e) => e.to_string(),
            Fault::Store(s) => s,
        }
    }
}

/// Writes an anchor anew: compressed, and with what has changed since the one before only, if there is one.
fn pack_anchor(path: &Path, before: Option<&Path>) -> Result<(), String> {
    let now = Opener::default().chain(path)?.chain;
    let mut file = Unpublished::create(path)?;
    match before {
        Some(before) => {
            let before = Opener::default().chain(before)?.chain;
            changes(&before, &now, &mut |b| file.write(b).map_err(Fault::Store)).map_err(Fault::text)?;
        }
        None => {
            now.squash(true, None, &mut |b| file.write(b).map_err(Fault::Store))
                .map_err(Fault::text)?;
        }
    }
    file.publish()
}

/// What a snapshot says of a page: `None` nothing, `Some(None)` that it is zero whatever is under it, else its hash.
fn state_of(chain: &Chain, object: Object, page: u64) -> Option<Option<Hash>> {
    let (_, run) = chain.find(object, page)?;
    Some(match run.state {
        State::Data(_) => chain.hashes(&run).first().copied(),
        _ => None,
    })
}

/// Writes `now` as a change of `before`.
fn changes(
    before: &Chain,
    now: &Chain,
    out: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let header = Header {
        parent: Some(*before.last().root()),
        compressed: true,
        ..now.last().header().clone()
    };
    let mut writer = Writer::begin(header, None, out)?;
    for (_, run) in before.runs() {
        let mut gone = (run.first, 0);
        for page in run.first..run.first + run.count {
            if now.find(run.object, page).is_some() {
                writer.drop_pages(run.object, gone.0, gone.1);
                gone = (page + 1, 0);
            } else {
                gone.1 += 1;
            }
        }
        writer.drop_pages(run.object, gone.0, gone.1);
    }
    let page_len = ftl_core::layout::PAGE as usize;
    now.for_each_run(|object, first, bytes| {
        let same = |page: u64, content: &[u8]| {
            state_of(before, object, page) == Some(Some(*blake3::hash(content).as_bytes()))
        };
        let mut page = first;
        let mut rest = bytes;
        // Runs of changed pages together: a compressed record holds several.
        while !rest.is_empty() {
            let n = rest
                .chunks_exact(page_len)
                .zip(page..)
                .take_while(|(content, page)| !same(*page, content))
                .count();
            let (changed, more) = rest.split_at(n * page_len);
            if n > 0 {
                writer.pages(object, page, changed, out)?;
            }
            let skipped = usize::from(!more.is_empty());
            page += (n + skipped) as u64;
            rest = &more[skipped * page_len..];
        }
        Ok::<(), Fault>(())
    })?;
    for (_, run) in now.runs() {
        if run.state != State::Zero {
            continue;
        }
        for page in run.first..run.first + run.count {
            if state_of(before, run.object, page) != Some(None) {
                writer.zero(run.object, page, 1);
            }
        }
    }
    writer.finish(now.squashed_manifest(), out).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchors(ns: &[u64]) -> Vec<anchor::File> {
        let one = |(i, ns): (usize, &u64)| anchor::File {
            number: i as u32 + 1,
            entries: 0,
            ns: *ns,
            path: PathBuf::new(),
        };
        ns.iter().enumerate().map(one).collect()
    }

    #[test]
    fn a_tail_of_time_begins_at_the_last_anchor_before_it() {
        let all = anchors(&[10, 20, 30, 40]);
        let first = |ns| first_needed(&all, Tail::Time(Duration::from_nanos(ns)), |_| 0);
        assert_eq!(first(0), Some(3));
        assert_eq!(first(5), Some(2));
        assert_eq!(first(20), Some(1));
        assert_eq!(first(30), Some(0));
        assert_eq!(first(31), None);
        assert_eq!(first_needed(&[], Tail::Time(Duration::ZERO), |_| 0), None);
    }

    #[test]
    fn a_tail_of_bytes_fits_or_is_the_last_anchor() {
        let all = anchors(&[1, 2, 3]);
        // 100 before the first anchor, 60 from each to the next, 60 behind the last.
        let size = |first: Option<usize>| first.map_or(280, |i| 180 - 60 * i as u64);
        let first = |bytes| first_needed(&all, Tail::Bytes(bytes), size);
        assert_eq!(first(280), None);
        assert_eq!(first(279), Some(0));
        assert_eq!(first(120), Some(1));
        assert_eq!(first(1), Some(2));
    }
}
