//! Open directories, and O_PATH descriptors.

use super::Place;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::platform::{DirEntry, Stat};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// An open directory. Its position is an index into a listing that is taken at position 0, so that
/// cookies stay good while entries come and go.
pub struct DirFile {
    /// Which.
    pub place: Rc<Place>,
    stat: Cell<Stat>,
    listing: RefCell<Option<Rc<Vec<DirEntry>>>>,
}

impl DirFile {
    /// `stat` is what it was at open.
    pub fn new(place: Rc<Place>, stat: Stat) -> Rc<DirFile> {
        Rc::new(DirFile {
            place,
            stat: Cell::new(stat),
            listing: RefCell::default(),
        })
    }

    /// Attributes now.
    pub fn fresh(&self, cx: &mut Cx<'_>) -> Io<Stat> {
        let mut st = self.stat.get();
        if self.place.gone.get() {
            st = self.place.last.get().unwrap_or(st);
            st.nlink = 0;
            return Ok(st);
        }
        let loc = self.place.loc();
        match loc.mount.fs.stat(cx, &loc.path) {
            Ok(st) => {
                self.stat.set(st);
                Ok(st)
            }
            Err(_) => {
                st.nlink = 0;
                Ok(st)
            }
        }
    }

    /// The listing that positions from `pos` on refer to: `.`, `..` and the entries.
    pub fn entries(&self, cx: &mut Cx<'_>, pos: u64) -> Io<Rc<Vec<DirEntry>>> {
        if pos > 0
            && let Some(l) = &*self.listing.borrow()
        {
            return Ok(l.clone());
        }
        if self.place.gone.get() {
            return err(Errno::ENOENT);
        }
        let loc = self.place.loc();
        let me = self.fresh(cx)?;
        let up = match loc.split() {
            Some((dir, _)) => loc.mount.fs.stat(cx, dir).map_or(me.ino, |s| s.ino),
            None => match &loc.mount.at {
                Some(at) => {
                    let dir = at.split().map_or(&b""[..], |(d, _)| d);
                    at.mount.fs.stat(cx, dir).map_or(me.ino, |s| s.ino)
                }
                None => me.ino,
            },
        };
        let mut list = vec![
            DirEntry {
                ino: me.ino,
                kind: 4,
                name: b".".to_vec(),
            },
            DirEntry {
                ino: up,
                kind: 4,
                name: b"..".to_vec(),
            },
        ];
        list.extend(loc.mount.fs.list(cx, &loc.path)?);
        let list = Rc::new(list);
        *self.listing.borrow_mut() = Some(list.clone());
        Ok(list)
    }
}

impl File for DirFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        let mut p = self.place.loc().full();
        if self.place.gone.get() {
            p.extend_from_slice(b" (deleted)");
        }
        p
    }
    fn read(&self, _: &mut Env<'_>, _: u64, _: &mut Dst) -> Io<u64> {
        err(Errno::EISDIR)
    }
    fn write(&self, _: &mut Env<'_>, _: u64, _: &mut Src) -> Io<u64> {
        err(Errno::EISDIR)
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.stat.get())
    }
    fn seek(&self, _: &mut Env<'_>, pos: u64, offset: i64, whence: i32) -> Io<u64> {
        match whence {
            0 | 1 => super::memfile::seek_plain(pos, offset, whence, 0),
            2 => super::memfile::seek_plain(pos, offset, whence, i64::MAX as u64),
            _ => err(Errno::EINVAL),
        }
    }
    fn sync(&self, _: &mut Env<'_>, _: bool) -> Io<()> {
        Ok(())
    }
}

/// A descriptor that only names a place (O_PATH).
pub struct PathFile {
    /// Which.
    pub place: Rc<Place>,
    /// It is a directory.
    pub dir: bool,
    stat: Cell<Stat>,
}

impl PathFile {
    /// `stat` is what it was at open.
    pub fn new(place: Rc<Place>, stat: Stat) -> Rc<PathFile> {
        Rc::new(PathFile {
            place,
            dir: super::perm::is_dir(&stat),
            stat: Cell::new(stat),
        })
    }

    /// Attributes now.
    pub fn fresh(&self, cx: &mut Cx<'_>) -> Io<Stat> {
        let loc = self.place.loc();
        if let Ok(st) = loc.mount.fs.stat(cx, &loc.path) {
            self.stat.set(st);
        }
        Ok(self.stat.get())
    }
}

impl File for PathFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        self.place.loc().full()
    }
    fn read(&self, _: &mut Env<'_>, _: u64, _: &mut Dst) -> Io<u64> {
        err(Errno::EBADF)
    }
    fn write(&self, _: &mut Env<'_>, _: u64, _: &mut Src) -> Io<u64> {
        err(Errno::EBADF)
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.stat.get())
    }
}
