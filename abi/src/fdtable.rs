//! File descriptors and open file descriptions.

use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// An open file description: what dup and fork share.
pub struct OpenFile {
    /// The object.
    pub file: FileRef,
    /// Position.
    pub pos: Cell<u64>,
    /// O_* status flags and access mode as open(2) got them, without O_CLOEXEC and creation flags.
    pub flags: Cell<i32>,
    /// F_SETOWN / F_SETSIG: owner type (0 tid, 1 pid, 2 pgrp), id, signal.
    pub owner: Cell<(i32, i32, i32)>,
    /// Record locks and flock that the description itself holds.
    pub locks: RefCell<Option<crate::fs::locks::Holder>>,
    /// O_ASYNC is set: who sends its signals.
    pub fasync: RefCell<Option<Rc<crate::signal::Fasync>>>,
}

/// O_ACCMODE values and status flags (fcntl.h, x86-64).
#[allow(missing_docs)]
pub mod oflag {
    pub const O_RDONLY: i32 = 0;
    pub const O_WRONLY: i32 = 1;
    pub const O_RDWR: i32 = 2;
    pub const O_ACCMODE: i32 = 3;
    pub const O_CREAT: i32 = 0o100;
    pub const O_EXCL: i32 = 0o200;
    pub const O_NOCTTY: i32 = 0o400;
    pub const O_TRUNC: i32 = 0o1000;
    pub const O_APPEND: i32 = 0o2000;
    pub const O_NONBLOCK: i32 = 0o4000;
    pub const O_DSYNC: i32 = 0o10000;
    pub const O_ASYNC: i32 = 0o20000;
    pub const O_DIRECT: i32 = 0o40000;
    pub const O_LARGEFILE: i32 = 0o100000;
    pub const O_DIRECTORY: i32 = 0o200000;
    pub const O_NOFOLLOW: i32 = 0o400000;
    pub const O_NOATIME: i32 = 0o1000000;
    pub const O_CLOEXEC: i32 = 0o2000000;
    pub const O_SYNC: i32 = 0o4010000;
    pub const O_PATH: i32 = 0o10000000;
    pub const O_TMPFILE: i32 = 0o20200000;
}

impl OpenFile {
    /// A description at position 0.
    pub fn new(file: FileRef, flags: i32) -> Rc<OpenFile> {
        Rc::new(OpenFile {
            file,
            pos: Cell::new(0),
            flags: Cell::new(flags),
            owner: Cell::new((0, 0, 0)),
            locks: RefCell::new(None),
            fasync: RefCell::new(None),
        })
    }
    /// May be read.
    pub fn readable(&self) -> bool {
        self.flags.get() & (oflag::O_ACCMODE | oflag::O_PATH) != oflag::O_WRONLY
            && self.flags.get() & oflag::O_PATH == 0
    }
    /// May be written.
    pub fn writable(&self) -> bool {
        self.flags.get() & oflag::O_ACCMODE != oflag::O_RDONLY && self.flags.get() & oflag::O_PATH == 0
    }
    /// O_NONBLOCK is set.
    pub fn nonblocking(&self) -> bool {
        self.flags.get() & oflag::O_NONBLOCK != 0
    }
}

#[derive(Clone)]
struct Slot {
    open: Rc<OpenFile>,
    cloexec: bool,
}

/// The first of the numbers under which a handler that runs apart from a call finds its files
/// ([`FdTable::lend`]).
pub const LENT: i32 = i32::MIN;

/// The descriptors of a process.
#[derive(Default)]
pub struct FdTable {
    /// Only while such a handler runs.
    lent: RefCell<Vec<Option<Rc<OpenFile>>>>,
    slots: RefCell<Vec<Option<Slot>>>,
    /// No free slot is below this index.
    first_free: Cell<usize>,
}

impl FdTable {
    /// The description behind `fd`, or EBADF.
    pub fn get(&self, fd: i32) -> Result<Rc<OpenFile>, Errno> {
        let slots = self.slots.borrow();
        match usize::try_from(fd).ok().and_then(|i| slots.get(i)) {
            Some(Some(s)) => Ok(s.open.clone()),
            _ => {
                let i = fd.wrapping_sub(LENT) as usize;
                self.lent.borrow().get(i).cloned().flatten().ok_or(Errno::EBADF)
            }
        }
    }

    /// Descriptors that no table has, from [`LENT`] on; what was lent before.
    pub fn lend(&self, files: Vec<Option<Rc<OpenFile>>>) -> Vec<Option<Rc<OpenFile>>> {
        self.lent.replace(files)
    }

    /// Lowest free descriptor at or above `min`.
    pub fn lowest_free(&self, min: usize) -> usize {
        let slots = self.slots.borrow();
        let mut i = min.max(self.first_free.get());
        while slots.get(i).is_some_and(Option::is_some) {
            i += 1;
        }
        i
    }

    /// Lowest free descriptor at or above `min` and below `limit` (RLIMIT_NOFILE): EMFILE if none.
    pub fn install_at(
        &self,
        open: Rc<OpenFile>,
        cloexec: bool,
        min: usize,
        limit: u64,
    ) -> Result<i32, Errno> {
        let i = self.lowest_free(min);
        let mut slots = self.slots.borrow_mut();
        if i as u64 >= limit {
            return Err(Errno::EMFILE);
        }
        if slots.len() <= i {
            slots.resize(i + 1, None);
        }
        slots[i] = Some(Slot { open, cloexec });
        if min <= self.first_free.get() {
            self.first_free.set(i + 1);
        }
        Ok(i as i32)
    }

    /// Puts `open` at exactly `fd` and returns what was there.
    pub fn replace(&self, fd: usize, open: Rc<OpenFile>, cloexec: bool) -> Option<Rc<OpenFile>> {
        let mut slots = self.slots.borrow_mut();
        if slots.len() <= fd {
            slots.resize(fd + 1, None);
        }
        slots[fd].replace(Slot { open, cloexec }).map(|s| s.open)
    }

    /// Frees `fd`.
    pub fn remove(&self, fd: i32) -> Result<Rc<OpenFile>, Errno> {
        let mut slots = self.slots.borrow_mut();
        let i = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let slot = slots.get_mut(i).and_then(Option::take).ok_or(Errno::EBADF)?;
        self.first_free.set(self.first_free.get().min(i));
        Ok(slot.open)
    }

    /// FD_CLOEXEC.
    pub fn cloexec(&self, fd: i32) -> Result<bool, Errno> {
        let slots = self.slots.borrow();
        match usize::try_from(fd).ok().and_then(|i| slots.get(i)) {
            Some(Some(s)) => Ok(s.cloexec),
            _ => Err(Errno::EBADF),
        }
    }

    /// Sets FD_CLOEXEC.
    pub fn set_cloexec(&self, fd: i32, on: bool) -> Result<(), Errno> {
        let mut slots = self.slots.borrow_mut();
        match usize::try_from(fd).ok().and_then(|i| slots.get_mut(i)) {
            Some(Some(s)) => {
                s.cloexec = on;
                Ok(())
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// Descriptors that the table has room for, as Linux' table would: at least 256 (what children of
    /// a shell inherit), then powers of
    /// two. select(2) ignores what lies beyond.
    pub fn capacity(&self) -> usize {
        self.slots.borrow().len().max(256).next_power_of_two()
    }

    /// Open descriptors in ascending order.
    pub fn list(&self) -> Vec<i32> {
        let slots = self.slots.borrow();
        slots
            .iter()
            .enumerate()
            .filter(|(_, s)| s.is_some())
            .map(|(i, _)| i as i32)
            .collect()
    }

    /// A copy for fork.
    pub fn duplicate(&self) -> FdTable {
        FdTable {
            lent: RefCell::default(),
            slots: RefCell::new(self.slots.borrow().clone()),
            first_free: Cell::new(self.first_free.get()),
        }
    }

    /// Takes out all descriptors marked close-on-exec.
    pub fn take_cloexec(&self) -> Vec<(i32, Rc<OpenFile>)> {
        self.take_where(|s| s.cloexec)
    }

    /// Takes out everything (exit).
    pub fn take_all(&self) -> Vec<(i32, Rc<OpenFile>)> {
        self.take_where(|_| true)
    }

    fn take_where(&self, which: impl Fn(&Slot) -> bool) -> Vec<(i32, Rc<OpenFile>)> {
        let mut out = Vec::new();
        for (i, s) in self.slots.borrow_mut().iter_mut().enumerate() {
            if s.as_ref().is_some_and(&which) {
                out.extend(s.take().map(|s| (i as i32, s.open)));
                self.first_free.set(self.first_free.get().min(i));
            }
        }
        out
    }
}
