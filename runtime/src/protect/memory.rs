//! Memory of an image that does not run here yet: pages as they come on a link, in memfds that become the image's own.

use crate::snap::Object;
use crate::snap::capture::next_data;
use crate::sys::{self, sys};
use ftl_core::layout::{ARENA_LEN, GUEST_TOP, PAGE, PAGES_LEN};
use ftl_core::replica::pages::{self, Run};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Pages of the snapshot in place, one memfd for each object.
pub struct Memory {
    /// Image arena.
    pub arena: OwnedFd,
    /// Page store.
    pub store: OwnedFd,
    /// Private pages of each space.
    pub spaces: BTreeMap<u32, OwnedFd>,
}

/// Pages that were compared ([`Memory::compare`]).
#[derive(Default)]
pub struct Checked(BTreeSet<(Object, u64)>);

/// What is told of a page that is not as it must be: enough to see whose contents it has.
fn differs(object: Object, n: u64, have: Option<&[u8]>, want: Option<&[u8]>) -> String {
    let said = |page: Option<&[u8]>| match page {
        None => "nothing".to_string(),
        Some(p) if p.iter().all(|b| *b == 0) => "zeros".to_string(),
        Some(p) => {
            let words = p
                .chunks(8)
                .take(2)
                .map(|w| w.iter().rev().map(|b| format!("{b:02x}")).collect::<String>());
            words.collect::<Vec<_>>().join(" ")
        }
    };
    let at = have
        .zip(want)
        .and_then(|(h, w)| h.iter().zip(w).position(|(h, w)| h != w));
    let from = at.map_or(String::new(), |at| format!(", from byte {at} on"));
    format!(
        "page {n:#x} of {object} did not arrive as it is: it begins with {} here, with {} in the image{from}",
        said(have),
        said(want)
    )
}

/// A memfd of that length.
pub fn memfd(name: &std::ffi::CStr, len: u64) -> Result<OwnedFd, String> {
    let fd = sys::memfd(name, len).map_err(|e| format!("memory for a snapshot: {e}"))?;
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A view of a descriptor.
pub fn file(fd: &OwnedFd) -> std::mem::ManuallyDrop<std::fs::File> {
    // SAFETY: borrowed: never closed by the file.
    std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(fd.as_raw_fd()) })
}

impl Memory {
    /// Empty.
    pub fn new() -> Result<Memory, String> {
        Ok(Memory {
            arena: memfd(c"ftvm-image", ARENA_LEN)?,
            store: memfd(c"ftvm-pages", PAGES_LEN)?,
            spaces: BTreeMap::new(),
        })
    }

    fn object(&mut self, object: Object) -> Result<(&OwnedFd, u64), String> {
        Ok(match object {
            Object::Arena => (&self.arena, ARENA_LEN),
            Object::Store => (&self.store, PAGES_LEN),
            Object::Space(n) => {
                use std::collections::btree_map::Entry;
                let fd = match self.spaces.entry(n) {
                    Entry::Occupied(e) => e.into_mut(),
                    Entry::Vacant(e) => e.insert(memfd(c"ftvm-space", GUEST_TOP)?),
                };
                (&*fd, GUEST_TOP)
            }
            Object::Runtime | Object::Volumes => {
                return Err("pages of an object that a link does not carry".to_string());
            }
        })
    }

    /// Memory of processes that the image with this host state has not any more is given up.
    pub fn forget_spaces(&mut self, state: &[u8]) {
        if let Some(s) = crate::snap::state::HostState::decode(state) {
            self.spaces.retain(|n, _| s.spaces.iter().any(|(id, _)| id == n));
        }
    }

    /// Puts one chunk's pages in place.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut failed = None;
        let whole = pages::runs(bytes, |object, first, run| {
            let done = self.put(object, first, &run);
            failed = done.err();
            failed.is_none()
        });
        match failed {
            Some(why) => Err(why),
            None if !whole => Err("its pages are damaged".to_string()),
            None => Ok(()),
        }
    }

    /// Compares with one chunk of all that there must be. An error names the first page that is something else.
    pub fn compare(&self, bytes: &[u8], checked: &mut Checked) -> Result<(), String> {
        let mut failed = None;
        let whole = pages::runs(bytes, |object, first, run| {
            let Run::Data(data) = run else { return true };
            for (n, page) in (first..).zip(data.chunks(PAGE as usize)) {
                checked.0.insert((object, n));
                let have = self.page(object, n);
                if have.as_deref() != Some(page) {
                    failed = Some(differs(object, n, have.as_deref(), Some(page)));
                    return false;
                }
            }
            true
        });
        match failed {
            Some(why) => Err(why),
            None if !whole => Err("its pages are damaged".to_string()),
            None => Ok(()),
        }
    }

    /// All was compared: what is there beside that must be zero.
    pub fn nothing_else(&self, checked: &Checked) -> Result<(), String> {
        let spaces = self.spaces.iter().map(|(n, fd)| (Object::Space(*n), fd));
        let all = [(Object::Arena, &self.arena), (Object::Store, &self.store)];
        for (object, fd) in all.into_iter().chain(spaces) {
            let mut at = 0;
            while let Some((start, end)) = next_data(fd.as_raw_fd(), at) {
                for n in start / PAGE..end.div_ceil(PAGE) {
                    let have = self.page(object, n);
                    if !checked.0.contains(&(object, n))
                        && have.as_ref().is_none_or(|p| p.iter().any(|b| *b != 0))
                    {
                        return Err(differs(object, n, have.as_deref(), None));
                    }
                }
                at = end;
            }
        }
        Ok(())
    }

    /// For tests: a byte of the first process' is another from here on.
    pub fn alter(&self) {
        let Some(fd) = self.spaces.values().next() else {
            return;
        };
        let Some((start, _)) = next_data(fd.as_raw_fd(), 0) else {
            return;
        };
        let mut byte = [0];
        let read = file(fd).read_exact_at(&mut byte, start + 100);
        let _ = read.and_then(|()| file(fd).write_all_at(&[!byte[0]], start + 100));
    }

    fn page(&self, object: Object, n: u64) -> Option<Vec<u8>> {
        let fd = match object {
            Object::Arena => &self.arena,
            Object::Store => &self.store,
            Object::Space(n) => self.spaces.get(&n)?,
            Object::Runtime | Object::Volumes => return None,
        };
        let mut page = vec![0; PAGE as usize];
        file(fd).read_exact_at(&mut page, n * PAGE).ok()?;
        Some(page)
    }

    fn put(&mut self, object: Object, first: u64, run: &Run<'_>) -> Result<(), String> {
        let (fd, limit) = self.object(object)?;
        let at = first * PAGE;
        let len = match run {
            Run::Data(b) => b.len() as u64,
            Run::Gone(n) => n * PAGE,
        };
        if at + len > limit {
            return Err("a page out of range".to_string());
        }
        match run {
            Run::Data(b) => file(fd)
                .write_all_at(b, at)
                .map_err(|e| format!("memory for a snapshot: {e}")),
            Run::Gone(_) => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                // SAFETY: a hole in our own memfd.
                unsafe { sys!(libc::SYS_fallocate, fd.as_raw_fd(), mode, at, len) }
                    .map(drop)
                    .map_err(|e| format!("memory for a snapshot: {e}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::chunk::Chunks;
    use crate::snap::Sink;

    fn chunk_of(pages: &[(Object, u64, u8)], gone: &[(Object, u64)]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut give = |c: Vec<u8>| out.extend(c);
        let mut chunks = Chunks::new(&mut give);
        for (object, n, byte) in pages {
            chunks.pages(*object, *n, &[*byte; PAGE as usize]).expect("taken");
        }
        for (object, n) in gone {
            chunks.gone(*object, *n, 1).expect("taken");
        }
        chunks.finish();
        out
    }

    #[test]
    fn a_page_that_did_not_arrive_as_it_is_is_named() {
        let (p, arena) = (Object::Space(3), Object::Arena);
        let mut m = Memory::new().expect("memory");
        m.apply(&chunk_of(&[(p, 5, 1), (p, 6, 2), (p, 7, 0), (arena, 1, 3)], &[]))
            .expect("applied");
        let check = |m: &Memory, pages: &[(Object, u64, u8)]| {
            let mut checked = Checked::default();
            m.compare(&chunk_of(pages, &[]), &mut checked)?;
            m.nothing_else(&checked)
        };
        // Zeros are as good as nothing, on both sides.
        let all = [(p, 5, 1), (p, 6, 2), (arena, 1, 3), (arena, 9, 0)];
        assert_eq!(check(&m, &all), Ok(()));
        let why = check(&m, &[(p, 5, 1), (p, 6, 4), (arena, 1, 3)]).expect_err("page 6 is another");
        assert!(
            why.contains("page 0x6 of process 3") && why.contains("from byte 0 on"),
            "{why}"
        );
        let why = check(&m, &[(p, 5, 1), (arena, 1, 3)]).expect_err("page 6 should be gone");
        assert!(
            why.contains("page 0x6 of process 3") && why.contains("with nothing in the image"),
            "{why}"
        );
        let why = check(&m, &[(Object::Space(4), 5, 1)]).expect_err("that process did not come");
        assert!(why.contains("page 0x5 of process 4 did not arrive"), "{why}");
        m.apply(&chunk_of(&[], &[(p, 6)])).expect("applied");
        assert_eq!(check(&m, &[(p, 5, 1), (arena, 1, 3)]), Ok(()));
    }
}
