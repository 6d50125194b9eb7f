//! io_uring_setup(2) and io_uring_register(2).

use super::cancel::{self, Which};
use super::engine;
use super::num::{MAX_CQ_ENTRIES, MAX_ENTRIES, feat, op, setup, supported};
use super::ring::{Ring, Shape, at};
use super::rsrc::{Group, Restrictions, Table};
use super::submit::find;
use crate::args::{Fd, Ptr};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Stop, err};
use ftl_core::layout::{PAGE, is_guest_range};
use ftl_core::wait::Wake;
use ftl_ipc::eventfd::EventFd;
use std::rc::Rc;

/// io_uring_setup(2)
pub fn sys_io_uring_setup(cx: &mut Cx<'_>, entries: u32, params: Ptr) -> Io<u64> {
    // struct io_uring_params: 30 words.
    let mut p: [u32; 30] = cx.get(params.0)?;
    let flags = p[2];
    if p[7..10].iter().any(|w| *w != 0) || flags & !setup::KNOWN != 0 {
        return err(Errno::EINVAL);
    }
    if entries == 0 {
        return err(Errno::EINVAL);
    }
    let mut sq = entries;
    if sq > MAX_ENTRIES {
        if flags & setup::CLAMP == 0 {
            return err(Errno::EINVAL);
        }
        sq = MAX_ENTRIES;
    }
    let sq = sq.next_power_of_two();
    let cq = if flags & setup::CQSIZE != 0 {
        let mut cq = p[1];
        if cq == 0 {
            return err(Errno::EINVAL);
        }
        if cq > MAX_CQ_ENTRIES {
            if flags & setup::CLAMP == 0 {
                return err(Errno::EINVAL);
            }
            cq = MAX_CQ_ENTRIES;
        }
        let cq = cq.next_power_of_two();
        if cq < sq {
            return err(Errno::EINVAL);
        }
        cq
    } else {
        2 * sq
    };
    let polls = flags & setup::SQPOLL != 0;
    let defer = flags & setup::DEFER_TASKRUN != 0;
    let coop = flags & (setup::COOP_TASKRUN | setup::TASKRUN_FLAG) != 0;
    if polls && (coop || defer)
        || flags & setup::TASKRUN_FLAG != 0 && flags & (setup::COOP_TASKRUN | setup::DEFER_TASKRUN) == 0
        || defer && flags & setup::SINGLE_ISSUER == 0
        || flags & setup::SQ_AFF != 0 && (!polls || p[3] != 0)
    {
        return err(Errno::EINVAL);
    }
    if flags & setup::ATTACH_WQ != 0 {
        let other = cx.task.files().get(p[6] as i32).map_err(|_| Errno::ENXIO)?;
        if Ring::of(&other).is_none() {
            return err(Errno::EINVAL);
        }
    }
    let shape = Shape {
        flags,
        sq_entries: sq,
        cq_entries: cq,
    };
    let single = flags & setup::SINGLE_ISSUER != 0 && flags & setup::R_DISABLED == 0;
    let issuer = single.then_some(cx.task.tid);
    (p[0], p[1], p[5]) = (sq, cq, feat::ALL);
    let array = match flags & setup::NO_SQARRAY {
        0 => shape.array().0 as u32,
        _ => 0,
    };
    let sq_off = [
        at::SQ_HEAD,
        at::SQ_TAIL,
        at::SQ_MASK,
        at::SQ_ENTRIES,
        at::SQ_FLAGS,
        at::SQ_DROPPED,
    ];
    let cq_off = [
        at::CQ_HEAD,
        at::CQ_TAIL,
        at::CQ_MASK,
        at::CQ_ENTRIES,
        at::CQ_OVERFLOW,
        at::CQES,
        at::CQ_FLAGS,
    ];
    for (i, v) in sq_off.into_iter().enumerate() {
        p[10 + i] = v as u32;
    }
    (p[16], p[17], p[18], p[19]) = (array, 0, 0, 0);
    for (i, v) in cq_off.into_iter().enumerate() {
        p[20 + i] = v as u32;
    }
    (p[27], p[28], p[29]) = (0, 0, 0);
    cx.put(params.0, &p)?;
    let (pages, rings) = (cx.k.fs.pages.clone(), cx.k.uring.clone());
    let ring = Ring::new(&mut cx.env, &pages, &rings, &shape, issuer)?;
    Ok(cx.new_fd(OpenFile::new(ring, oflag::O_RDWR), true)? as u64)
}

/// IORING_REGISTER_*
mod code {
    pub const BUFFERS: u32 = 0;
    pub const UNREGISTER_BUFFERS: u32 = 1;
    pub const FILES: u32 = 2;
    pub const UNREGISTER_FILES: u32 = 3;
    pub const EVENTFD: u32 = 4;
    pub const UNREGISTER_EVENTFD: u32 = 5;
    pub const FILES_UPDATE: u32 = 6;
    pub const EVENTFD_ASYNC: u32 = 7;
    pub const PROBE: u32 = 8;
    pub const PERSONALITY: u32 = 9;
    pub const UNREGISTER_PERSONALITY: u32 = 10;
    pub const RESTRICTIONS: u32 = 11;
    pub const ENABLE_RINGS: u32 = 12;
    pub const FILES2: u32 = 13;
    pub const FILES_UPDATE2: u32 = 14;
    pub const BUFFERS2: u32 = 15;
    pub const BUFFERS_UPDATE: u32 = 16;
    pub const IOWQ_AFF: u32 = 17;
    pub const UNREGISTER_IOWQ_AFF: u32 = 18;
    pub const IOWQ_MAX_WORKERS: u32 = 19;
    pub const RING_FDS: u32 = 20;
    pub const UNREGISTER_RING_FDS: u32 = 21;
    pub const PBUF_RING: u32 = 22;
    pub const UNREGISTER_PBUF_RING: u32 = 23;
    pub const SYNC_CANCEL: u32 = 24;
    pub const FILE_ALLOC_RANGE: u32 = 25;
    /// The descriptor is one of the task's registered rings.
    pub const REGISTERED_RING: u32 = 1 << 31;
}

/// Most files and buffers of a table.
const MAX_FILES: u32 = 1 << 20;
const MAX_BUFFERS: u32 = 1 << 14;
const RING_FDS_MAX: u32 = 16;

fn fail<T>(bad: bool) -> Result<(), T>
where
    T: From<Errno>,
{
    if bad { Err(T::from(Errno::EINVAL)) } else { Ok(()) }
}

/// A file for a table: none for -1.
fn file_for(cx: &Cx<'_>, fd: i32) -> Result<Option<Rc<OpenFile>>, Errno> {
    if fd == -1 {
        return Ok(None);
    }
    let open = cx.task.files().get(fd)?;
    if Ring::of(&open).is_some() || open.flags.get() & oflag::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    Ok(Some(open))
}

fn register_files(cx: &mut Cx<'_>, ring: &Ring, fds: u64, tags: u64, n: u32) -> Io<u64> {
    if ring.files.borrow().is_some() {
        return err(Errno::EBUSY);
    }
    fail::<Stop>(n == 0)?;
    let limit = cx.task.process().rlimits.borrow()[7].0;
    if n > MAX_FILES || u64::from(n) > limit {
        return err(Errno::EMFILE);
    }
    let (mut slots, mut all) = (Vec::new(), Vec::new());
    for i in 0..u64::from(n) {
        // Without a list all slots are free (sparse).
        let fd: i32 = if fds == 0 { -1 } else { cx.get(fds + i * 4)? };
        let tag: u64 = if tags == 0 { 0 } else { cx.get(tags + i * 8)? };
        fail::<Stop>(fd == -1 && tag != 0)?;
        slots.push(file_for(cx, fd)?);
        all.push(tag);
    }
    ring.alloc_range.set((0, n));
    *ring.files.borrow_mut() = Some(Table::new(slots, all));
    Ok(0)
}

/// An iovec of registered memory: all zero is none.
fn buffer_for(cx: &mut Cx<'_>, at: u64) -> Result<Option<(u64, u64)>, Errno> {
    let [addr, len]: [u64; 2] = cx.get(at)?;
    if addr == 0 {
        return if len == 0 { Ok(None) } else { Err(Errno::EFAULT) };
    }
    if len == 0 || len > 1 << 30 || !is_guest_range(addr, len) || !cx.task.mm().is_mapped(addr, len) {
        return Err(Errno::EFAULT);
    }
    Ok(Some((addr, len)))
}

fn register_buffers(cx: &mut Cx<'_>, ring: &Ring, list: u64, tags: u64, n: u32) -> Io<u64> {
    if ring.buffers.borrow().is_some() {
        return err(Errno::EBUSY);
    }
    fail::<Stop>(n == 0 || n > MAX_BUFFERS)?;
    let (mut slots, mut all) = (Vec::new(), Vec::new());
    for i in 0..u64::from(n) {
        let slot = if list == 0 {
            None
        } else {
            buffer_for(cx, list + i * 16)?
        };
        let tag: u64 = if tags == 0 { 0 } else { cx.get(tags + i * 8)? };
        fail::<Stop>(slot.is_none() && tag != 0)?;
        slots.push(slot);
        all.push(tag);
    }
    *ring.buffers.borrow_mut() = Some(Table::new(slots, all));
    Ok(0)
}

fn update_buffers(cx: &mut Cx<'_>, ring: &Ring, first: u32, list: u64, tags: u64, n: u32) -> Io<u64> {
    match &*ring.buffers.borrow() {
        None => return err(Errno::ENXIO),
        Some(t) => fail::<Stop>(first.checked_add(n).is_none_or(|e| e as usize > t.slots.len()))?,
    }
    let mut done = 0;
    while done < n {
        let i = u64::from(done);
        let r = (|| -> Result<_, Errno> {
            let slot = buffer_for(cx, list.wrapping_add(i * 16))?;
            let tag: u64 = if tags == 0 {
                0
            } else {
                cx.get(tags.wrapping_add(i * 8))?
            };
            fail::<Errno>(slot.is_none() && tag != 0)?;
            Ok((slot, tag))
        })();
        let (slot, tag) = match r {
            Ok(v) => v,
            Err(e) if done == 0 => return err(e),
            Err(_) => break,
        };
        let old = match ring.buffers.borrow_mut().as_mut() {
            Some(t) => t.set((first + done) as usize, slot, tag),
            None => 0,
        };
        ring.tell_tag(cx, old);
        done += 1;
    }
    Ok(u64::from(done))
}

fn take_all<T>(cx: &mut Cx<'_>, ring: &Ring, table: Option<Table<T>>) -> Io<u64> {
    for tag in table.ok_or(Errno::ENXIO)?.into_tags() {
        ring.tell_tag(cx, tag);
    }
    Ok(0)
}

fn eventfd(cx: &mut Cx<'_>, ring: &Ring, arg: u64, only_async: bool) -> Io<u64> {
    if ring.eventfd.borrow().is_some() {
        return err(Errno::EBUSY);
    }
    let fd: i32 = cx.get(arg)?;
    let open = cx.task.files().get(fd)?;
    fail::<Stop>(!open.file.as_any().is::<EventFd>())?;
    *ring.eventfd.borrow_mut() = Some((open, only_async));
    Ok(0)
}

/// struct io_uring_probe: last_op, ops_len, then 8 bytes for each operation.
fn probe(cx: &mut Cx<'_>, arg: u64, n: u32) -> Io<u64> {
    let n = n.min(u32::from(op::LAST)) as usize;
    let mut old = vec![0; 16 + 8 * n];
    cx.read(arg, &mut old)?;
    fail::<Stop>(old.iter().any(|b| *b != 0))?;
    (old[0], old[1]) = (op::LAST - 1, n as u8);
    for i in 0..n {
        old[16 + 8 * i] = i as u8;
        old[16 + 8 * i + 2] = u8::from(supported(i as u8));
    }
    cx.write(arg, &old)?;
    Ok(0)
}

fn personality(cx: &Cx<'_>, ring: &Ring) -> Io<u64> {
    let mut all = ring.personalities.borrow_mut();
    let id = (1..=u16::MAX)
        .find(|i| !all.contains_key(i))
        .ok_or(Errno::ENOSPC)?;
    all.insert(id, cx.task.creds.borrow().clone());
    Ok(u64::from(id))
}

/// IORING_REGISTER_RING_FDS: struct io_uring_rsrc_update {offset, resv, data}.
fn ring_fds(cx: &mut Cx<'_>, arg: u64, n: u32, register: bool) -> Io<u64> {
    fail::<Stop>(n == 0 || n > RING_FDS_MAX)?;
    let tid = cx.task.tid;
    let mut done = 0;
    let result = loop {
        if done == n {
            break Ok(());
        }
        let at = arg.wrapping_add(u64::from(done) * 16);
        let r = (|| -> Result<(), Errno> {
            let [head, data]: [u64; 2] = cx.get(at)?;
            let (offset, resv) = (head as u32, head >> 32);
            if resv != 0 {
                return Err(Errno::EINVAL);
            }
            let rings = cx.k.uring.clone();
            let mut all = rings.registered.borrow_mut();
            let mine = all
                .entry(tid)
                .or_insert_with(|| vec![None; RING_FDS_MAX as usize]);
            if !register {
                fail::<Errno>(data != 0 || offset >= RING_FDS_MAX)?;
                mine[offset as usize] = None;
                return Ok(());
            }
            let open = cx.task.files().get(data as i32)?;
            if Ring::of(&open).is_none() {
                return Err(Errno::EOPNOTSUPP);
            }
            let slot = match offset {
                u32::MAX => mine.iter().position(Option::is_none).ok_or(Errno::EBUSY)?,
                o if o >= RING_FDS_MAX => return Err(Errno::EINVAL),
                o if mine[o as usize].is_some() => return Err(Errno::EBUSY),
                o => o as usize,
            };
            mine[slot] = Some(open);
            cx.put(at, &(slot as u32))
        })();
        match r {
            Ok(()) => done += 1,
            Err(e) => break Err(e),
        }
    };
    match result {
        Err(e) if done == 0 => err(e),
        _ => Ok(u64::from(done)),
    }
}

/// struct io_uring_buf_reg {ring_addr, ring_entries, bgid, flags, resv[3]}.
fn pbuf_ring(cx: &mut Cx<'_>, ring: &Ring, arg: u64) -> Io<u64> {
    let w: [u64; 5] = cx.get(arg)?;
    let (entries, group, flags) = (w[1] as u32, (w[1] >> 32) as u16, (w[1] >> 48) as u16);
    fail::<Stop>(w[2..].iter().any(|w| *w != 0) || flags != 0)?;
    if w[0] == 0 {
        return err(Errno::EFAULT);
    }
    fail::<Stop>(!w[0].is_multiple_of(PAGE) || !entries.is_power_of_two() || entries >= 65536)?;
    let size = u64::from(entries) * 16;
    if !is_guest_range(w[0], size) || !cx.task.mm().is_mapped(w[0], size) {
        return err(Errno::EFAULT);
    }
    let mut groups = ring.groups.borrow_mut();
    match groups.get(&group) {
        Some(Group::List(l)) if l.is_empty() => {}
        None => {}
        _ => return err(Errno::EEXIST),
    }
    groups.insert(
        group,
        Group::Ring {
            addr: w[0],
            entries: entries as u16,
            head: 0,
        },
    );
    Ok(0)
}

fn drop_pbuf_ring(cx: &mut Cx<'_>, ring: &Ring, arg: u64) -> Io<u64> {
    let w: [u64; 5] = cx.get(arg)?;
    let group = (w[1] >> 32) as u16;
    fail::<Stop>(w[2..].iter().any(|w| *w != 0))?;
    let mut groups = ring.groups.borrow_mut();
    match groups.get(&group) {
        None => err(Errno::ENOENT),
        Some(Group::List(_)) => err(Errno::EINVAL),
        Some(Group::Ring { .. }) => {
            groups.remove(&group);
            Ok(0)
        }
    }
}

/// struct io_uring_sync_cancel_reg {addr, fd, flags, timeout, opcode, pad}: nothing that is cancelled takes time.
fn sync_cancel(cx: &mut Cx<'_>, ring: &Ring, arg: u64) -> Io<u64> {
    let w: [u64; 8] = cx.get(arg)?;
    let (fd, flags, opcode) = (w[1] as i32, (w[1] >> 32) as u32, w[4] as u8);
    fail::<Stop>(flags & !0x3f != 0 || w[5..].iter().any(|w| *w != 0))?;
    let which = Which::new(cx, ring, flags, w[0], fd, opcode)?;
    let n = cancel::cancel(cx, ring, &which)?;
    engine::settle(cx, ring);
    Ok(u64::from(n))
}

fn max_workers(cx: &mut Cx<'_>, arg: u64) -> Io<u64> {
    let new: [u32; 2] = cx.get(arg)?;
    fail::<Stop>(new.iter().any(|n| *n > i32::MAX as u32))?;
    // There are no workers; what Linux would allow a small machine.
    cx.put(arg, &[4u32, 512])?;
    Ok(0)
}

/// io_uring_register(2)
pub fn sys_io_uring_register(cx: &mut Cx<'_>, fd: Fd, what: u32, arg: Ptr, n: u32) -> Io<u64> {
    let registered = what & code::REGISTERED_RING != 0;
    let what = what & !code::REGISTERED_RING;
    let known = what <= code::FILE_ALLOC_RANGE;
    fail::<Stop>(!known)?;
    let open = find(cx, fd.0, registered)?;
    let ring = Ring::of(&open).ok_or(Errno::EOPNOTSUPP)?;
    if ring.issuer.get().is_some_and(|t| t != cx.task.tid) {
        return err(Errno::EEXIST);
    }
    if let Some(r) = &*ring.restrictions.borrow()
        && !ring.disabled.get()
        && !r.allows_register(what)
    {
        return err(Errno::EACCES);
    }
    cx.k.uring.here.set(Some(cx.task.entity.space.get()));
    let a = arg.0;
    let none = a == 0 && n == 0;
    debug_assert!(cx.wake() == Wake::Fresh);
    match what {
        code::BUFFERS if a == 0 => err(Errno::EFAULT),
        code::BUFFERS => register_buffers(cx, ring, a, 0, n),
        code::UNREGISTER_BUFFERS => {
            fail::<Stop>(!none)?;
            let t = ring.buffers.borrow_mut().take();
            take_all(cx, ring, t)
        }
        code::FILES if a == 0 => err(Errno::EFAULT),
        code::FILES => register_files(cx, ring, a, 0, n),
        code::UNREGISTER_FILES => {
            fail::<Stop>(!none)?;
            let t = ring.files.borrow_mut().take();
            take_all(cx, ring, t)
        }
        code::FILES_UPDATE | code::FILES_UPDATE2 | code::BUFFERS_UPDATE => {
            // struct io_uring_rsrc_update {offset, resv, data}, or update2 with {tags, nr, resv2} after it;
            // the second one's size is in n.
            let two = what != code::FILES_UPDATE;
            fail::<Stop>(two && n != 32)?;
            let [head, data]: [u64; 2] = cx.get(a)?;
            let (tags, count) = if two {
                let [tags, nr]: [u64; 2] = cx.get(a + 16)?;
                fail::<Stop>(nr >> 32 != 0)?;
                (tags, nr as u32)
            } else {
                (0, n)
            };
            fail::<Stop>(head >> 32 != 0 || count == 0)?;
            if what == code::BUFFERS_UPDATE {
                return update_buffers(cx, ring, head as u32, data, tags, count);
            }
            Ok(u64::from(ring.update_files(
                cx,
                head as u32,
                data,
                tags,
                count,
            )?))
        }
        code::FILES2 | code::BUFFERS2 => {
            // struct io_uring_rsrc_register {nr, flags, resv2, data, tags}.
            fail::<Stop>(n != 32)?;
            let [head, resv, data, tags]: [u64; 4] = cx.get(a)?;
            let (nr, flags) = (head as u32, (head >> 32) as u32);
            const SPARSE: u32 = 1;
            fail::<Stop>(resv != 0 || nr == 0 || flags & !SPARSE != 0)?;
            fail::<Stop>(flags & SPARSE != 0 && data != 0)?;
            if flags & SPARSE == 0 && data == 0 {
                return err(Errno::EFAULT);
            }
            match what {
                code::FILES2 => register_files(cx, ring, data, tags, nr),
                _ => register_buffers(cx, ring, data, tags, nr),
            }
        }
        code::EVENTFD | code::EVENTFD_ASYNC => {
            fail::<Stop>(n != 1)?;
            eventfd(cx, ring, a, what == code::EVENTFD_ASYNC)
        }
        code::UNREGISTER_EVENTFD => {
            fail::<Stop>(!none)?;
            ring.eventfd.borrow_mut().take().ok_or(Errno::ENXIO)?;
            Ok(0)
        }
        code::PROBE => {
            fail::<Stop>(a == 0 || n > 256)?;
            probe(cx, a, n)
        }
        code::PERSONALITY => {
            fail::<Stop>(!none)?;
            personality(cx, ring)
        }
        code::UNREGISTER_PERSONALITY => {
            fail::<Stop>(a != 0)?;
            let gone = ring.personalities.borrow_mut().remove(&(n as u16));
            gone.ok_or(Errno::EINVAL)?;
            Ok(0)
        }
        code::RESTRICTIONS => {
            if !ring.disabled.get() {
                return err(Errno::EBADFD);
            }
            if ring.restrictions.borrow().is_some() {
                return err(Errno::EBUSY);
            }
            let r = Restrictions::read(cx, a, n)?;
            *ring.restrictions.borrow_mut() = Some(r);
            Ok(0)
        }
        code::ENABLE_RINGS => {
            fail::<Stop>(!none)?;
            if !ring.disabled.replace(false) {
                return err(Errno::EBADFD);
            }
            if ring.has(setup::SINGLE_ISSUER) && ring.issuer.get().is_none() {
                ring.issuer.set(Some(cx.task.tid));
            }
            Ok(0)
        }
        code::IOWQ_AFF => {
            fail::<Stop>(a == 0 || n == 0)?;
            let mut b = vec![0; n.min(128) as usize];
            cx.read(a, &mut b)?;
            Ok(0)
        }
        code::UNREGISTER_IOWQ_AFF => {
            fail::<Stop>(!none)?;
            Ok(0)
        }
        code::IOWQ_MAX_WORKERS => {
            fail::<Stop>(a == 0 || n != 2)?;
            max_workers(cx, a)
        }
        code::RING_FDS => ring_fds(cx, a, n, true),
        code::UNREGISTER_RING_FDS => ring_fds(cx, a, n, false),
        code::PBUF_RING => {
            fail::<Stop>(a == 0 || n != 1)?;
            pbuf_ring(cx, ring, a)
        }
        code::UNREGISTER_PBUF_RING => {
            fail::<Stop>(a == 0 || n != 1)?;
            drop_pbuf_ring(cx, ring, a)
        }
        code::SYNC_CANCEL => {
            fail::<Stop>(a == 0 || n != 1)?;
            sync_cancel(cx, ring, a)
        }
        code::FILE_ALLOC_RANGE => {
            fail::<Stop>(a == 0 || n != 0)?;
            let [range, resv]: [u64; 2] = cx.get(a)?;
            let (first, len) = (range as u32, (range >> 32) as u32);
            let end = first.checked_add(len).ok_or(Errno::EOVERFLOW)?;
            let most = ring.files.borrow().as_ref().map_or(0, |t| t.slots.len());
            fail::<Stop>(resv != 0 || end as usize > most)?;
            ring.alloc_range.set((first, end));
            Ok(0)
        }
        _ => err(Errno::EINVAL),
    }
}
