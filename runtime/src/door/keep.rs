//! What the supervisor does about a log while it is written: full segments and anchors are packed, off the image's way.

use super::anchor;
use super::read::segment_name;
use super::zip;
use crate::control::{Control, LOG_ENDS};
use crate::store::file::Unpublished;
use crate::store::open::Opener;
use ftl_core::snap::{Chain, Hash, Header, Object, SnapError, State, Writer};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How a log is looked after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upkeep {
    /// Segments and anchors are compressed.
    pub compress: bool,
    /// Time between two anchors, and whether it may become longer where they take long.
    pub every: Option<(Duration, bool)>,
}

/// So many anchors may be changes of the one before; then comes a whole one, so that none needs too many files.
const CHAIN: u32 = 16;

/// The life of the thread that looks after the log.
pub fn look_after(control: &Control, dir: &Path, how: &Upkeep) {
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
    };
    loop {
        let news = control.news();
        let closed = control.closed.load(Ordering::Acquire);
        let (full, over) = (closed & !LOG_ENDS, closed & LOG_ENDS != 0);
        keeper.anchors(control.anchors.load(Ordering::Acquire));
        // At the end the last one is full too.
        keeper.segments(full + u32::from(over));
        if over {
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
                let before = i.checked_sub(1).map(|i| &all[i]).filter(|_| a.number % CHAIN != 1);
                // As above: it stays as it is.
                let _ = pack_anchor(&a.path, before.map(|b| b.path.as_path()));
            }
        }
        self.anchors = until;
    }
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
