//! System V IPC (ipc/util.c): keys, identifiers, permissions; semaphores, messages, shared memory.

pub mod msg;
pub mod sem;
pub mod shm;

use ftl_core::errno::Errno;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Flags of the get calls and of the operations.
#[allow(missing_docs)]
pub mod flag {
    pub const CREAT: i32 = 0o1000;
    pub const EXCL: i32 = 0o2000;
    pub const NOWAIT: i32 = 0o4000;
    pub const PRIVATE: i32 = 0;
}

/// Bits of the index in an identifier (IPCMNI_SHIFT).
const INDEX_BITS: u32 = 15;

/// Who asks, for permission checks.
#[derive(Clone, Debug)]
pub struct Who {
    /// Process number.
    pub pid: u32,
    /// Effective ids and groups.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// See `uid`.
    pub groups: Vec<u32>,
    /// CAP_IPC_OWNER: may use everything.
    pub owner: bool,
    /// CAP_SYS_ADMIN: may change everything.
    pub admin: bool,
}

/// struct kern_ipc_perm
#[derive(Debug)]
pub struct Perm {
    /// IPC_PRIVATE after removal too.
    pub key: Cell<i32>,
    /// Owner.
    pub uid: Cell<u32>,
    /// Owner's group.
    pub gid: Cell<u32>,
    /// Creator.
    pub cuid: u32,
    /// Creator's group.
    pub cgid: u32,
    /// Permission bits, and SHM_DEST and such.
    pub mode: Cell<u32>,
    /// Identifier; set when it is entered.
    pub id: Cell<i32>,
}

impl Perm {
    /// Of a new object.
    pub fn new(key: i32, flags: i32, who: &Who) -> Perm {
        Perm {
            key: Cell::new(key),
            uid: Cell::new(who.uid),
            gid: Cell::new(who.gid),
            cuid: who.uid,
            cgid: who.gid,
            mode: Cell::new(flags as u32 & 0o777),
            id: Cell::new(-1),
        }
    }

    /// ipcperms(): the wanted bits may stand in any of the three places of `flags`.
    pub fn check(&self, who: &Who, flags: u32) -> Result<(), Errno> {
        let want = (flags >> 6 | flags >> 3 | flags) & 7;
        let mode = self.mode.get();
        let in_group = |g: u32| g == who.gid || who.groups.contains(&g);
        let have = if who.uid == self.cuid || who.uid == self.uid.get() {
            mode >> 6
        } else if in_group(self.cgid) || in_group(self.gid.get()) {
            mode >> 3
        } else {
            mode
        };
        if want & !have != 0 && !who.owner {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// EPERM unless `who` may change or remove the object.
    pub fn check_owner(&self, who: &Who) -> Result<(), Errno> {
        if who.uid == self.cuid || who.uid == self.uid.get() || who.admin {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// Sequence number as struct ipc_perm shows it.
    pub fn seq(&self) -> u16 {
        (self.id.get() >> INDEX_BITS) as u16
    }
}

/// An object that has an identifier.
pub trait Object {
    /// Its permissions.
    fn perm(&self) -> &Perm;
}

/// All objects of one kind.
pub struct Ids<T> {
    map: RefCell<BTreeMap<i32, Rc<T>>>,
    seq: Cell<i32>,
    last: Cell<i32>,
    most: usize,
}

impl<T: Object> Ids<T> {
    /// At most `most` of them (SEMMNI and its like).
    pub fn new(most: usize) -> Ids<T> {
        Ids {
            map: RefCell::default(),
            seq: Cell::new(0),
            last: Cell::new(-1),
            most,
        }
    }

    /// The object with an identifier; EINVAL if there is none (ipc_obtain_object_check).
    pub fn get(&self, id: i32) -> Result<Rc<T>, Errno> {
        let index = id & ((1 << INDEX_BITS) - 1);
        let map = self.map.borrow();
        match map.get(&index) {
            Some(o) if id >= 0 && o.perm().id.get() == id => Ok(o.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// By index, for *_STAT.
    pub fn at(&self, index: i32) -> Result<Rc<T>, Errno> {
        self.map.borrow().get(&index).cloned().ok_or(Errno::EINVAL)
    }

    /// Highest index in use, 0 if none.
    pub fn top(&self) -> i32 {
        self.map.borrow().keys().next_back().copied().unwrap_or(0)
    }

    /// Everything, by index.
    pub fn all(&self) -> Vec<Rc<T>> {
        self.map.borrow().values().cloned().collect()
    }

    /// semget(2), msgget(2), shmget(2): finds or makes; `fits` checks one that exists.
    pub fn obtain(
        &self,
        key: i32,
        flags: i32,
        who: &Who,
        fits: impl FnOnce(&T) -> Result<(), Errno>,
        make: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<i32, Errno> {
        let found = if key == flag::PRIVATE {
            None
        } else {
            let map = self.map.borrow();
            map.values().find(|o| o.perm().key.get() == key).cloned()
        };
        let Some(o) = found else {
            if key != flag::PRIVATE && flags & flag::CREAT == 0 {
                return Err(Errno::ENOENT);
            }
            return self.insert(make()?);
        };
        if flags & flag::CREAT != 0 && flags & flag::EXCL != 0 {
            return Err(Errno::EEXIST);
        }
        fits(&o)?;
        o.perm().check(who, flags as u32)?;
        Ok(o.perm().id.get())
    }

    fn insert(&self, object: T) -> Result<i32, Errno> {
        let mut map = self.map.borrow_mut();
        if map.len() >= self.most {
            return Err(Errno::ENOSPC);
        }
        let mut index = 0;
        while map.contains_key(&index) {
            index += 1;
        }
        if index <= self.last.get() {
            self.seq.set((self.seq.get() + 1) & 0xffff);
        }
        self.last.set(index);
        let id = self.seq.get() << INDEX_BITS | index;
        object.perm().id.set(id);
        map.insert(index, Rc::new(object));
        Ok(id)
    }

    /// Takes an object out.
    pub fn remove(&self, object: &T) {
        let index = object.perm().id.get() & ((1 << INDEX_BITS) - 1);
        self.map.borrow_mut().remove(&index);
    }
}

/// The System V objects of an image.
pub struct Sysv {
    /// Semaphore sets.
    pub sems: Ids<sem::Set>,
    /// Message queues.
    pub msgs: Ids<msg::Queue>,
    /// Shared memory.
    pub shms: Ids<shm::Segment>,
}

impl Default for Sysv {
    fn default() -> Sysv {
        // SEMMNI, MSGMNI, SHMMNI
        Sysv {
            sems: Ids::new(32_000),
            msgs: Ids::new(32_000),
            shms: Ids::new(4096),
        }
    }
}

impl Sysv {
    /// A process has ended: its SEM_UNDO adjustments take effect.
    pub fn process_ended(&self, pid: u32, now: i64) {
        for set in self.sems.all() {
            set.undo(pid, now);
        }
    }
}
