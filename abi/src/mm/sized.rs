//! Mappings and the size of their file: behind its last page every access is a SIGBUS, and whoever
//! changes the size changes that for all who map it (mm/truncate.c, filemap_fault).
//!
//! A change is noted by the file ([`crate::fs::pages::PageStore::note_size`]) and told to every space that maps it before
//! guest code runs there again: to the running one at the kernel exit, to the others when they get
//! the token.

use super::{Mm, Vma, limit_of};
use crate::fs::pages::Resized;
use crate::kernel::Kernel;
use ftl_core::kcore::Env;
use ftl_core::layout::page_up;
use ftl_core::platform::{Backing, Platform};
use ftl_core::wait::SpaceId;

/// Tells all spaces; the one that runs, `here`, at once.
pub fn resized(k: &Kernel, plat: &mut dyn Platform, here: SpaceId) {
    while k.fs.pages.has_resized() {
        for change in k.fs.pages.take_resized() {
            let spaces = k.spaces();
            let mut any = false;
            for mm in spaces.iter().filter(|mm| mm.maps(change)) {
                any = true;
                if mm.space == here {
                    mm.resize(&mut Env { plat, core: &k.core }, change);
                } else {
                    mm.resized.borrow_mut().push(change);
                }
            }
            if !any {
                k.fs.pages.unwatch(change.id);
            }
        }
    }
}

/// The running space catches up with what others changed.
pub fn catch_up(k: &Kernel, plat: &mut dyn Platform, mm: &Mm) {
    let changes = std::mem::take(&mut *mm.resized.borrow_mut());
    for change in changes {
        mm.resize(&mut Env { plat, core: &k.core }, change);
    }
}

impl Mm {
    fn maps(&self, change: Resized) -> bool {
        let vmas = self.vmas.borrow();
        vmas.values()
            .any(|v| v.file.as_ref().is_some_and(|f| f.id == change.id))
    }

    fn resize(&self, env: &mut Env<'_>, change: Resized) {
        let end = page_up(change.size).unwrap_or(u64::MAX);
        let hit = |v: &Vma| v.file.as_ref().is_some_and(|f| f.id == change.id);
        let list: Vec<Vma> = self.vmas.borrow().values().filter(|v| hit(v)).cloned().collect();
        for v in list {
            let Some(f) = &v.file else { continue };
            let (first, last) = (f.offset, f.offset + v.len());
            let place = |offset: u64| v.start + (offset - first);
            if end < f.limit.min(last) {
                if change.at_least {
                    continue;
                }
                let (from, to) = (end.max(first), f.limit.min(last));
                if from < to {
                    env.plat.map(place(from), to - from, v.prot, Backing::Beyond);
                }
                self.set_limit(&v, end);
            } else if f.limit < last && end > f.limit {
                let (from, to) = (f.limit.max(first), end.min(last));
                let write = !v.flags.contains(super::VmaFlags::NOWRITE);
                if from < to {
                    let Ok(parts) = f.file.map(env, from, to - from, v.shared, write) else {
                        continue;
                    };
                    let mut at = place(from);
                    for (len, backing) in &parts {
                        env.plat.map(at, *len, v.prot, *backing);
                        at += len;
                    }
                    self.set_limit(
                        &v,
                        limit_of(from, &parts).min(if end < last { end } else { u64::MAX }),
                    );
                } else {
                    self.set_limit(&v, end);
                }
            }
        }
    }

    fn set_limit(&self, v: &Vma, limit: u64) {
        if let Some(f) = self
            .vmas
            .borrow_mut()
            .get_mut(&v.start)
            .and_then(|v| v.file.as_mut())
        {
            f.limit = limit;
        }
    }
}
