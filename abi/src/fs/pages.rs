//! Contents of files in the image: extents of the page store.
//!
//! The store is one range of offsets that every process can map (`layout::PAGES_LEN`). Space in it is
//! given out by a buddy allocator, lowest offset first, so that equal histories give equal offsets.
//! Memory is only used where something was written; a free extent reads as zeroes.

use ftl_core::errno::Errno;
use ftl_core::layout::{PAGE, PAGES_LEN};
use ftl_core::platform::{Backing, Platform};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

const MAX_ORDER: usize = (PAGES_LEN / PAGE).trailing_zeros() as usize;
/// Growing files take at most this many pages ahead of need (16 MiB).
const AHEAD: u64 = 4096;

/// The space of the page store.
pub struct PageStore {
    free: RefCell<Vec<BTreeSet<u64>>>,
    /// Ranges (first page, pages) whose owners are gone: cleared and given back by `settle`.
    dropped: RefCell<Vec<(u64, u64)>>,
    /// Pages given out.
    pub used: Cell<u64>,
    /// Files that may be mapped somewhere: changes of their size matter to mappings.
    watched: RefCell<BTreeSet<FileId>>,
    /// Such changes, for `mm::resized` at the kernel exit.
    resized: RefCell<Vec<Resized>>,
}

/// Device and inode.
pub type FileId = (u64, u64);

/// A mapped file has a new size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resized {
    /// The file.
    pub id: FileId,
    /// Its size.
    pub size: u64,
    /// It may be larger: what is known is that so much is there.
    pub at_least: bool,
}

impl Default for PageStore {
    fn default() -> PageStore {
        let mut free = vec![BTreeSet::new(); MAX_ORDER + 1];
        free[MAX_ORDER].insert(0);
        PageStore {
            free: RefCell::new(free),
            dropped: RefCell::default(),
            used: Cell::new(0),
            watched: RefCell::default(),
            resized: RefCell::default(),
        }
    }
}

impl PageStore {
    /// The file was mapped.
    pub fn watch(&self, id: FileId) {
        self.watched.borrow_mut().insert(id);
    }

    /// Nothing maps the file any more.
    pub fn unwatch(&self, id: FileId) {
        self.watched.borrow_mut().remove(&id);
    }

    /// A file's size has changed.
    pub fn note_size(&self, change: Resized) {
        let watched = self.watched.borrow();
        if !watched.is_empty() && watched.contains(&change.id) {
            self.resized.borrow_mut().push(change);
        }
    }

    /// Mappings have to be told of new sizes.
    pub fn has_resized(&self) -> bool {
        !self.resized.borrow().is_empty()
    }

    /// What there is to tell them.
    pub fn take_resized(&self) -> Vec<Resized> {
        std::mem::take(&mut *self.resized.borrow_mut())
    }

    fn take(&self, order: usize) -> Option<u64> {
        let mut free = self.free.borrow_mut();
        let from = (order..=MAX_ORDER).find(|o| !free[*o].is_empty())?;
        let page = free[from].pop_first()?;
        for o in (order..from).rev() {
            free[o].insert(page + (1 << o));
        }
        self.used.set(self.used.get() + (1 << order));
        Some(page)
    }

    fn give(&self, mut page: u64, mut count: u64) {
        self.used.set(self.used.get() - count);
        let mut free = self.free.borrow_mut();
        while count > 0 {
            let align = if page == 0 {
                MAX_ORDER as u32
            } else {
                page.trailing_zeros()
            };
            let order = (align.min(63 - count.leading_zeros()) as usize).min(MAX_ORDER);
            let (mut p, mut o) = (page, order);
            while o < MAX_ORDER && free[o].remove(&(p ^ (1 << o))) {
                p &= !(1 << o);
                o += 1;
            }
            free[o].insert(p);
            page += 1 << order;
            count -= 1 << order;
        }
    }

    /// Clears and gives back what was dropped. Called at kernel exits.
    pub fn settle(&self, plat: &mut dyn Platform) {
        if self.dropped.borrow().is_empty() {
            return;
        }
        for (page, count) in std::mem::take(&mut *self.dropped.borrow_mut()) {
            plat.pages_free(page * PAGE, count * PAGE);
            self.give(page, count);
        }
    }
}

/// The bytes of one file.
pub struct Data {
    store: Rc<PageStore>,
    size: Cell<u64>,
    /// By page of the file: (page of the store, pages).
    extents: RefCell<BTreeMap<u64, (u64, u64)>>,
    /// Some process has mapped it: extents stay where they are until the end.
    pinned: Cell<bool>,
    /// The mapped file that this is.
    id: Cell<Option<FileId>>,
}

impl Drop for Data {
    fn drop(&mut self) {
        let mut dropped = self.store.dropped.borrow_mut();
        dropped.extend(self.extents.borrow().values().copied());
    }
}

impl Data {
    /// An empty file.
    pub fn new(store: &Rc<PageStore>) -> Data {
        Data {
            store: store.clone(),
            size: Cell::new(0),
            extents: RefCell::default(),
            pinned: Cell::new(false),
            id: Cell::new(None),
        }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size.get()
    }

    /// Bytes that have space in the store, for st_blocks.
    pub fn allocated(&self) -> u64 {
        let end = self.size.get().div_ceil(PAGE);
        let ext = self.extents.borrow();
        let pages: u64 = ext
            .iter()
            .map(|(at, (_, n))| (at + n).min(end).saturating_sub(*at))
            .sum();
        pages * PAGE
    }

    /// The piece at file page `page`: its place in the store or `None` for a hole, and its length in pages.
    fn piece(&self, page: u64) -> (Option<u64>, u64) {
        let ext = self.extents.borrow();
        if let Some((at, (phys, n))) = ext.range(..=page).next_back()
            && page < at + n
        {
            return (Some(phys + (page - at)), at + n - page);
        }
        let next = ext.range(page..).next().map_or(u64::MAX, |(at, _)| *at);
        (None, next - page)
    }

    /// Gives every page in `[from, to)` space in the store.
    fn reserve(&self, plat: &mut dyn Platform, from: u64, to: u64) -> Result<(), Errno> {
        let mut page = from;
        while page < to {
            let (phys, n) = self.piece(page);
            if phys.is_some() {
                page += n;
                continue;
            }
            let need = (to - page).min(n);
            let have: u64 = self.extents.borrow().values().map(|(_, n)| n).sum();
            // Appending files double, so that a mapping of them is a few pieces.
            let want = if n == u64::MAX - page {
                need.max(have.min(AHEAD)).next_power_of_two()
            } else {
                need.next_power_of_two()
            };
            let mut order = want.trailing_zeros() as usize;
            while 1u64 << order > n {
                order -= 1;
            }
            self.store.settle(plat);
            let phys = loop {
                match self.store.take(order.min(MAX_ORDER)) {
                    Some(p) => break p,
                    None if order > 0 => order -= 1,
                    None => return Err(Errno::ENOSPC),
                }
            };
            self.add(page, phys, 1 << order.min(MAX_ORDER));
            page += 1 << order.min(MAX_ORDER);
        }
        Ok(())
    }

    fn add(&self, page: u64, phys: u64, n: u64) {
        let mut ext = self.extents.borrow_mut();
        if let Some((_, (p, len))) = ext
            .range_mut(..page)
            .next_back()
            .filter(|(at, (p, len))| **at + *len == page && *p + *len == phys)
        {
            let _ = p;
            *len += n;
            return;
        }
        ext.insert(page, (phys, n));
    }

    /// Copies out from `offset`; short at the end of the file.
    pub fn read(&self, plat: &mut dyn Platform, offset: u64, dst: &mut [u8]) -> usize {
        let len = (dst.len() as u64).min(self.size.get().saturating_sub(offset)) as usize;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let (phys, n) = self.piece(at / PAGE);
            let room = n.saturating_mul(PAGE) - at % PAGE;
            let take = ((len - done) as u64).min(room) as usize;
            match phys {
                Some(p) => plat.pages_read(p * PAGE + at % PAGE, &mut dst[done..done + take]),
                None => dst[done..done + take].fill(0),
            }
            done += take;
        }
        len
    }

    /// Copies in at `offset`, growing the file.
    pub fn write(&self, plat: &mut dyn Platform, offset: u64, src: &[u8]) -> Result<(), Errno> {
        if src.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(src.len() as u64).ok_or(Errno::EFBIG)?;
        self.reserve(plat, offset / PAGE, end.div_ceil(PAGE))?;
        let mut done = 0;
        while done < src.len() {
            let at = offset + done as u64;
            let (Some(phys), n) = self.piece(at / PAGE) else {
                return Err(Errno::ENOSPC);
            };
            let take = ((src.len() - done) as u64).min(n * PAGE - at % PAGE) as usize;
            plat.pages_write(phys * PAGE + at % PAGE, &src[done..done + take]);
            done += take;
        }
        self.grow(end);
        Ok(())
    }

    fn set_size(&self, size: u64) -> u64 {
        let old = self.size.replace(size);
        if let Some(id) = self.id.get()
            && old.div_ceil(PAGE) != size.div_ceil(PAGE)
        {
            let at_least = false;
            self.store.note_size(Resized { id, size, at_least });
        }
        old
    }

    /// Sets the size; what is cut off reads as zeroes when the file grows again.
    pub fn truncate(&self, plat: &mut dyn Platform, len: u64) {
        let old = self.set_size(len);
        if len < old {
            let end = self
                .extents
                .borrow()
                .iter()
                .next_back()
                .map_or(0, |(at, (_, n))| (at + n) * PAGE);
            if end > len {
                self.clear(plat, len, end);
            }
        }
    }

    /// Sets the size without touching contents (fallocate).
    pub fn grow(&self, len: u64) {
        if len > self.size.get() {
            self.set_size(len);
        }
    }

    /// Gives `[offset, offset + len)` space.
    pub fn allocate(&self, plat: &mut dyn Platform, offset: u64, len: u64) -> Result<(), Errno> {
        self.reserve(plat, offset / PAGE, (offset + len).div_ceil(PAGE))
    }

    /// Makes `[from, to)` a hole.
    pub fn clear(&self, plat: &mut dyn Platform, from: u64, to: u64) {
        let (first, last) = (from.div_ceil(PAGE), to / PAGE);
        if first > last {
            self.zero(plat, from, to);
            return;
        }
        self.zero(plat, from, first * PAGE);
        self.zero(plat, last * PAGE, to);
        let mut page = first;
        while page < last {
            let (phys, n) = self.piece(page);
            let n = n.min(last - page);
            if let Some(p) = phys {
                plat.pages_free(p * PAGE, n * PAGE);
                if !self.pinned.get() {
                    self.cut(page, n);
                    self.store.give(p, n);
                }
            }
            page += n;
        }
    }

    fn zero(&self, plat: &mut dyn Platform, from: u64, to: u64) {
        if from < to
            && let (Some(p), _) = self.piece(from / PAGE)
        {
            plat.pages_write(p * PAGE + from % PAGE, &vec![0; (to - from) as usize]);
        }
    }

    fn cut(&self, page: u64, n: u64) {
        let mut ext = self.extents.borrow_mut();
        let found = ext.range(..=page).next_back().map(|(a, e)| (*a, *e));
        if let Some((at, (phys, len))) = found {
            ext.remove(&at);
            if at < page {
                ext.insert(at, (phys, page - at));
            }
            if at + len > page + n {
                ext.insert(page + n, (phys + (page + n - at), at + len - page - n));
            }
        }
    }

    /// SEEK_DATA (false) or SEEK_HOLE (true) from `offset`.
    pub fn seek(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        let size = self.size.get();
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let mut at = offset;
        while at < size {
            let (phys, n) = self.piece(at / PAGE);
            if phys.is_none() == hole {
                return Ok(at);
            }
            at = (at / PAGE).saturating_add(n).saturating_mul(PAGE);
        }
        if hole { Ok(size) } else { Err(Errno::ENXIO) }
    }

    /// What backs a mapping of `len` bytes at `offset` (both whole pages) of the file `id`. A shared one
    /// gives every hole space, so that all its mappings see one page. Behind the end of the file there
    /// is nothing; a file without `id` never changes its size.
    pub fn map(
        &self,
        plat: &mut dyn Platform,
        id: Option<FileId>,
        offset: u64,
        len: u64,
        shared: bool,
    ) -> Result<Vec<(u64, Backing)>, Errno> {
        let (mut page, all) = (offset / PAGE, (offset + len).div_ceil(PAGE));
        let end = all.min(self.size.get().div_ceil(PAGE)).max(page);
        if let Some(id) = id {
            self.id.set(Some(id));
            self.store.watch(id);
        }
        if shared {
            self.reserve(plat, page, end).map_err(|_| Errno::ENOMEM)?;
        }
        self.pinned.set(true);
        let mut out = Vec::new();
        while page < end {
            let (phys, n) = self.piece(page);
            let n = n.min(end - page);
            out.push((
                n * PAGE,
                match phys {
                    Some(p) if shared => Backing::SharedPages(p * PAGE),
                    Some(p) => Backing::PrivatePages(p * PAGE),
                    None => Backing::Anon,
                },
            ));
            page += n;
        }
        if page < all {
            out.push(((all - page) * PAGE, Backing::Beyond));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftl_core::testing::World;

    fn read(w: &mut World, d: &Data, at: u64, len: usize) -> Vec<u8> {
        let mut b = vec![0xee; len];
        let n = d.read(&mut w.plat, at, &mut b);
        b.truncate(n);
        b
    }

    #[test]
    fn what_is_written_is_read_and_holes_are_zero() {
        let mut w = World::new(0);
        let store = Rc::new(PageStore::default());
        let d = Data::new(&store);
        d.write(&mut w.plat, 3 * PAGE + 7, b"abc").unwrap();
        assert_eq!(d.size(), 3 * PAGE + 10);
        assert_eq!(read(&mut w, &d, 3 * PAGE + 5, 99), b"\0\0abc");
        assert_eq!(read(&mut w, &d, 0, 3), [0; 3]);
        assert_eq!(d.seek(0, false), Ok(3 * PAGE));
        assert_eq!(d.seek(0, true), Ok(0));
        d.truncate(&mut w.plat, 3 * PAGE + 8);
        d.truncate(&mut w.plat, 4 * PAGE);
        assert_eq!(read(&mut w, &d, 3 * PAGE + 7, 3), b"a\0\0");
    }

    #[test]
    fn space_comes_back_clean() {
        let mut w = World::new(0);
        let store = Rc::new(PageStore::default());
        let d = Data::new(&store);
        for i in 0..100 {
            d.write(&mut w.plat, i * 1000, &[7; 1000]).unwrap();
        }
        assert!(d.extents.borrow().len() <= 4, "appended files are few pieces");
        drop(d);
        store.settle(&mut w.plat);
        assert_eq!(store.used.get(), 0);
        assert_eq!(store.take(MAX_ORDER), Some(0), "everything is one block again");
        assert!(w.plat.pages.iter().all(|b| *b == 0));
    }

    #[test]
    fn a_mapped_file_keeps_its_pages() {
        let mut w = World::new(0);
        let store = Rc::new(PageStore::default());
        let d = Data::new(&store);
        d.grow(3 * PAGE);
        let before = d.map(&mut w.plat, Some((1, 2)), 0, 3 * PAGE, true).unwrap();
        d.write(&mut w.plat, 0, &[1; 5000]).unwrap();
        d.truncate(&mut w.plat, 0);
        let gone = d.map(&mut w.plat, Some((1, 2)), 0, 3 * PAGE, true).unwrap();
        assert_eq!(gone, [(3 * PAGE, Backing::Beyond)]);
        d.grow(3 * PAGE);
        assert_eq!(
            d.map(&mut w.plat, Some((1, 2)), 0, 3 * PAGE, true).unwrap(),
            before
        );
        let sizes: Vec<u64> = store.take_resized().iter().map(|r| r.size).collect();
        assert_eq!(
            sizes,
            [0, 3 * PAGE],
            "told once per change of the number of pages"
        );
        assert_eq!(read(&mut w, &d, 0, 2), [0; 2]);
    }
}
