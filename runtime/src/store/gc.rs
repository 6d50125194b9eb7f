//! Collection: pages that no snapshot of the store names are removed.

use super::pack::{PackWriter, Packs};
use super::{Store, bad, file};
use ftl_core::snap::{Hash, Snapshot, State};
use std::collections::HashSet;
use std::rc::Rc;

/// What a collection has done, or would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    /// Snapshots in the store.
    pub snapshots: u64,
    /// Pages in all packs.
    pub pages: u64,
    /// Of those, pages that some snapshot names.
    pub live: u64,
    /// Pages removed.
    pub removed: u64,
    /// Leftovers of dead writers removed.
    pub leftovers: u32,
}

/// A pack with a smaller share of live pages, in percent, is written anew without the others.
const KEEP_PERCENT: usize = 75;

/// Removes what no snapshot names. Waits until nobody adds or opens. `dry`: only counts.
pub fn collect(store: Store, dry: bool) -> Result<Collected, String> {
    // Another collector may come between the two locks: all is read after the second.
    store.lock.unlock().map_err(|e| bad(&store.dir, &e))?;
    store.lock.lock().map_err(|e| bad(&store.dir, &e))?;
    let mut done = Collected::default();
    for sub in ["packs", "refs"] {
        done.leftovers += file::sweep(&store.dir.join(sub));
    }
    let (packs, complaints) = Packs::open(&store)?;
    if let Some(why) = complaints.into_iter().next() {
        return Err(why);
    }
    let packs = Rc::new(packs);
    let mut live: HashSet<Hash> = HashSet::new();
    for entry in store.list()? {
        // One that cannot be read might name any page.
        let s = store.snapshot(&entry.root, &packs)?;
        done.snapshots += 1;
        names(&s, &mut live);
    }
    for (n, pack) in packs.packs().iter().enumerate() {
        // A page that an earlier pack has as well is garbage here.
        let keep: Vec<u32> = (0..pack.hashes.len() as u32)
            .filter(|i| {
                let hash = &pack.hashes[*i as usize];
                live.contains(hash) && packs.is_in(hash, n)
            })
            .collect();
        let all = pack.hashes.len();
        done.pages += all as u64;
        done.live += keep.len() as u64;
        if keep.len() * 100 >= all * KEEP_PERCENT && !keep.is_empty() {
            continue;
        }
        done.removed += (all - keep.len()) as u64;
        if dry {
            continue;
        }
        let mut anew = PackWriter::new(&store);
        let mut page = vec![0; ftl_core::snap::PAGE_LEN];
        for i in keep {
            let (file, offset) = pack.place(i);
            std::os::unix::fs::FileExt::read_exact_at(file, &mut page, offset)
                .map_err(|e| bad(&pack.path, &e))?;
            let hash = &pack.hashes[i as usize];
            if blake3::hash(&page) != *hash {
                return Err(format!(
                    "page store: {} is damaged: page {i} does not have its hash; ftvm snapshot verify tells which snapshots need it",
                    pack.path.display()
                ));
            }
            anew.add(hash, &page)?;
        }
        anew.publish()?;
        std::fs::remove_file(&pack.path).map_err(|e| bad(&pack.path, &e))?;
    }
    Ok(done)
}

fn names(s: &Snapshot, live: &mut HashSet<Hash>) {
    for run in s.runs() {
        if let State::Data(_) = run.state {
            live.extend(s.hashes(&run));
        }
    }
}
