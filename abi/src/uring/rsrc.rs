//! What is registered with a ring: files, buffers, groups of buffers, restrictions.

use super::num::Cqe;
use super::ring::Ring;
use crate::cx::Cx;
use crate::fdtable::OpenFile;
use ftl_core::errno::Errno;
use ftl_core::layout::is_guest_range;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Slots, each with a tag that is told when its content goes.
pub struct Table<T> {
    /// Content.
    pub slots: Vec<Option<T>>,
    tags: Vec<u64>,
}

impl<T> Table<T> {
    /// All slots at once.
    pub fn new(slots: Vec<Option<T>>, tags: Vec<u64>) -> Table<T> {
        Table { slots, tags }
    }

    /// Changes a slot; the tag of what was there.
    pub fn set(&mut self, i: usize, value: Option<T>, tag: u64) -> u64 {
        self.slots[i] = value;
        std::mem::replace(&mut self.tags[i], tag)
    }

    /// All tags that are still to be told.
    pub fn into_tags(self) -> impl Iterator<Item = u64> {
        self.tags.into_iter().filter(|t| *t != 0)
    }
}

/// A provided buffer.
#[derive(Clone, Copy, Debug)]
pub struct Buf {
    /// Address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// Number.
    pub bid: u16,
}

/// Buffers of which one is chosen when there is something to read.
pub enum Group {
    /// By IORING_OP_PROVIDE_BUFFERS.
    List(VecDeque<Buf>),
    /// By IORING_REGISTER_PBUF_RING: a ring in the guest's memory.
    Ring {
        /// Address.
        addr: u64,
        /// A power of two.
        entries: u16,
        /// The next that is taken.
        head: u16,
    },
}

/// Bytes of struct io_uring_buf, and where the first one holds the tail.
const BUF_LEN: u64 = 16;
const BUF_TAIL: u64 = 14;

/// Buffers that a group holds at most: as many as have names.
const MOST_BUFFERS: usize = 65_536;

impl Ring {
    /// The buffer that comes next in a group: ENOBUFS.
    pub(super) fn next_buffer(&self, cx: &mut Cx<'_>, group: u16) -> Result<Buf, Errno> {
        let groups = self.groups.borrow();
        match groups.get(&group) {
            Some(Group::List(list)) => list.front().copied().ok_or(Errno::ENOBUFS),
            Some(Group::Ring { addr, entries, head }) => {
                let tail: u16 = cx.get(addr + BUF_TAIL)?;
                if tail == *head {
                    return Err(Errno::ENOBUFS);
                }
                let mut b = [0; BUF_LEN as usize];
                cx.read(addr + u64::from(head & (entries - 1)) * BUF_LEN, &mut b)?;
                let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| b[i + k]));
                Ok(Buf {
                    addr: word(0),
                    len: word(8) as u32,
                    bid: (word(8) >> 32) as u16,
                })
            }
            None => Err(Errno::ENOBUFS),
        }
    }

    /// That buffer is used.
    pub(super) fn use_buffer(&self, group: u16) {
        match self.groups.borrow_mut().get_mut(&group) {
            Some(Group::List(list)) => drop(list.pop_front()),
            Some(Group::Ring { head, .. }) => *head = head.wrapping_add(1),
            None => {}
        }
    }

    /// IORING_OP_PROVIDE_BUFFERS
    pub(super) fn provide(&self, group: u16, addr: u64, len: u32, n: u32, first: u16) -> Result<(), Errno> {
        let mut groups = self.groups.borrow_mut();
        let g = groups
            .entry(group)
            .or_insert_with(|| Group::List(VecDeque::new()));
        let Group::List(list) = g else {
            return Err(Errno::EINVAL);
        };
        if list.len() + n as usize > MOST_BUFFERS {
            return Err(Errno::EOVERFLOW);
        }
        for i in 0..n {
            list.push_back(Buf {
                addr: addr + u64::from(len) * u64::from(i),
                len,
                bid: first.wrapping_add(i as u16),
            });
        }
        Ok(())
    }

    /// IORING_OP_REMOVE_BUFFERS: how many there were.
    pub(super) fn withdraw(&self, group: u16, n: u32) -> Result<u32, Errno> {
        match self.groups.borrow_mut().get_mut(&group) {
            Some(Group::List(list)) => {
                let n = (n as usize).min(list.len());
                list.drain(..n);
                Ok(n as u32)
            }
            Some(Group::Ring { .. }) => Err(Errno::EINVAL),
            None => Err(Errno::ENOENT),
        }
    }

    /// A registered file: EBADF.
    pub(super) fn fixed_file(&self, index: u32) -> Option<Rc<OpenFile>> {
        let files = self.files.borrow();
        files.as_ref()?.slots.get(index as usize)?.clone()
    }

    /// Puts a file into a slot, or any free one (`None`); the slot.
    pub(super) fn install(
        &self,
        cx: &mut Cx<'_>,
        slot: Option<u32>,
        open: Rc<OpenFile>,
    ) -> Result<u32, Errno> {
        let (i, tag) = {
            let mut files = self.files.borrow_mut();
            let Some(t) = files.as_mut() else {
                return Err(if slot.is_some() {
                    Errno::ENXIO
                } else {
                    Errno::ENFILE
                });
            };
            let i = match slot {
                Some(i) => i as usize,
                None => {
                    let (first, end) = self.alloc_range.get();
                    let end = (end as usize).min(t.slots.len());
                    (first as usize..end)
                        .find(|i| t.slots[*i].is_none())
                        .ok_or(Errno::ENFILE)?
                }
            };
            if i >= t.slots.len() {
                return Err(Errno::EINVAL);
            }
            if Ring::of(&open).is_some() {
                return Err(Errno::EBADF);
            }
            (i, t.set(i, Some(open), 0))
        };
        self.tell_tag(cx, tag);
        Ok(i as u32)
    }

    /// What a tag named has gone.
    pub(super) fn tell_tag(&self, cx: &mut Cx<'_>, tag: u64) {
        if tag != 0 {
            let c = Cqe {
                user_data: tag,
                res: 0,
                flags: 0,
            };
            self.post(cx.env.plat, c);
            self.commit(cx.env.plat);
        }
    }

    /// Replaces files from `first` on by descriptors at `fds` (-1: none, -2: stay); how many were done.
    pub(super) fn update_files(
        &self,
        cx: &mut Cx<'_>,
        first: u32,
        fds: u64,
        tags: u64,
        n: u32,
    ) -> Result<u32, Errno> {
        const SKIP: i32 = -2;
        {
            let files = self.files.borrow();
            let t = files.as_ref().ok_or(Errno::ENXIO)?;
            let end = first.checked_add(n).ok_or(Errno::EOVERFLOW)?;
            if end as usize > t.slots.len() {
                return Err(Errno::EINVAL);
            }
        }
        let mut done = 0;
        let result = loop {
            if done == n {
                break Ok(());
            }
            let i = u64::from(done);
            let fd: i32 = match cx.get(fds.wrapping_add(i * 4)) {
                Ok(fd) => fd,
                Err(e) => break Err(e),
            };
            let tag: u64 = match tags {
                0 => 0,
                at => match cx.get(at.wrapping_add(i * 8)) {
                    Ok(t) => t,
                    Err(e) => break Err(e),
                },
            };
            if (fd == SKIP || fd == -1) && tag != 0 {
                break Err(Errno::EINVAL);
            }
            if fd == SKIP {
                done += 1;
                continue;
            }
            let open = match fd {
                -1 => None,
                fd => match cx.task.files().get(fd) {
                    Ok(o) if Ring::of(&o).is_none() => Some(o),
                    _ => break Err(Errno::EBADF),
                },
            };
            let old = match self.files.borrow_mut().as_mut() {
                Some(t) => t.set((first + done) as usize, open, tag),
                None => 0,
            };
            self.tell_tag(cx, old);
            done += 1;
        };
        match result {
            Err(e) if done == 0 => Err(e),
            _ => Ok(done),
        }
    }

    /// The range lies within registered buffer `index`: EFAULT.
    pub(super) fn check_fixed(&self, index: u16, addr: u64, len: u64) -> Result<(), Errno> {
        let buffers = self.buffers.borrow();
        let slot = buffers.as_ref().and_then(|b| b.slots.get(usize::from(index)));
        let Some(Some((start, size))) = slot else {
            return Err(Errno::EFAULT);
        };
        let end = addr.checked_add(len).ok_or(Errno::EFAULT)?;
        if addr < *start || end > start + size || !is_guest_range(addr, len) {
            return Err(Errno::EFAULT);
        }
        Ok(())
    }
}

/// IORING_REGISTER_RESTRICTIONS
#[derive(Default)]
pub struct Restrictions {
    register: u64,
    ops: BTreeMap<u8, ()>,
    allowed: u8,
    required: u8,
}

impl Restrictions {
    /// From `n` of struct io_uring_restriction at `addr`.
    pub fn read(cx: &mut Cx<'_>, addr: u64, n: u32) -> Result<Restrictions, Errno> {
        if addr == 0 || n > 128 {
            return Err(Errno::EINVAL);
        }
        let mut r = Restrictions::default();
        for i in 0..u64::from(n) {
            let b: [u8; 16] = cx.get(addr + i * 16)?;
            let what = u16::from(b[0]) | u16::from(b[1]) << 8;
            match what {
                0 if b[2] < 64 => {
                    r.register |= 1 << b[2];
                }
                1 if b[2] < super::num::op::LAST => {
                    r.ops.insert(b[2], ());
                }
                2 => {
                    r.allowed = b[2];
                }
                3 => {
                    r.required = b[2];
                }
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(r)
    }

    /// An entry may be submitted.
    pub fn allows(&self, opcode: u8, flags: u8) -> bool {
        self.ops.contains_key(&opcode)
            && flags & self.required == self.required
            && flags & !(self.allowed | self.required) == 0
    }

    /// A request of io_uring_register may be made.
    pub fn allows_register(&self, code: u32) -> bool {
        code < 64 && self.register & 1 << code != 0
    }
}
