//! mmap(2), munmap(2), mprotect(2), brk(2).

use super::{Mm, Vma, VmaFile, VmaFlags, VmaKind, limit_of, restore_text, yield_stubs};
use crate::args::{Bits, Fd, Ptr};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::layout::{self, GUEST_MIN, GUEST_TOP, PAGE};
use ftl_core::platform::{Advice, Backing, Prot};
use std::rc::Rc;

const MAP_SHARED: u64 = 1;
const MAP_PRIVATE: u64 = 2;
const MAP_SHARED_VALIDATE: u64 = 3;
const MAP_TYPE: u64 = 0xf;
pub(super) const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_32BIT: u64 = 0x40;
const MAP_GROWSDOWN: u64 = 0x100;
const MAP_LOCKED: u64 = 0x2000;
const MAP_NORESERVE: u64 = 0x4000;
const MAP_POPULATE: u64 = 0x8000;
const MAP_NONBLOCK: u64 = 0x1_0000;
const MAP_HUGETLB: u64 = 0x4_0000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
/// Flags that MAP_SHARED_VALIDATE knows (LEGACY_MAP_MASK).
const LEGACY: u64 = 0xf_ffff | MAP_FIXED_NOREPLACE | 0xfc00_0000;
const PROT_GROWSDOWN: u64 = 0x100_0000;
const PROT_GROWSUP: u64 = 0x200_0000;
const RLIMIT_DATA: usize = 2;
const RLIMIT_MEMLOCK: usize = 8;
const RLIMIT_AS: usize = 9;
const CAP_IPC_LOCK: u32 = 14;

fn prot_of(bits: u64) -> Prot {
    Prot::from_bits_truncate(bits as u32)
}

/// Room for `len` more bytes, of which `private` says that they are private and writable: RLIMIT_AS,
/// RLIMIT_DATA and the image's own `--memory`.
pub(super) fn check_room(cx: &Cx<'_>, mm: &Mm, len: u64, private: bool) -> Result<(), Errno> {
    let limits = cx.task.process();
    let limits = limits.rlimits.borrow();
    if mm.mapped.get().saturating_add(len) > limits[RLIMIT_AS].0 {
        return Err(Errno::ENOMEM);
    }
    if !private {
        return Ok(());
    }
    if mm.committed.get().saturating_add(len) > limits[RLIMIT_DATA].0 {
        return Err(Errno::ENOMEM);
    }
    if cx.k.config.memory != u64::MAX && cx.k.committed().saturating_add(len) > cx.k.config.memory {
        return Err(Errno::ENOMEM);
    }
    Ok(())
}

/// Room for `len` more locked bytes (RLIMIT_MEMLOCK).
pub(super) fn check_lock(cx: &Cx<'_>, mm: &Mm, len: u64) -> bool {
    let limit = cx.task.process().rlimits.borrow()[RLIMIT_MEMLOCK].0;
    cx.task.creds.borrow().capable(CAP_IPC_LOCK) || mm.locked.get().saturating_add(len) <= limit
}

/// Where an mmap goes.
pub(super) fn place(cx: &mut Cx<'_>, mm: &Mm, addr: u64, len: u64, flags: u64) -> Result<u64, Errno> {
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
        if len > GUEST_TOP || !layout::is_guest_range(addr, len) {
            return Err(Errno::ENOMEM);
        }
        if !addr.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        if addr < GUEST_MIN {
            return Err(Errno::EPERM);
        }
        if flags & MAP_FIXED_NOREPLACE != 0 && !mm.looks_free(addr, len) {
            return Err(Errno::EEXIST);
        }
        if mm.first_flagged(addr, len, VmaFlags::SEALED).is_some() {
            return Err(Errno::EPERM);
        }
        yield_stubs(cx, addr, len);
        return Ok(addr);
    }
    if len > GUEST_TOP {
        return Err(Errno::ENOMEM);
    }
    let hint = layout::page_down(addr);
    if hint != 0 && mm.is_free(hint, len) {
        return Ok(hint);
    }
    let below = if flags & MAP_32BIT != 0 {
        0x8000_0000
    } else {
        mm.mmap_base.get()
    };
    mm.find_free(len, below, PAGE).ok_or(Errno::ENOMEM)
}

fn check_file(open: &OpenFile, shared: bool, prot: Prot) -> Result<(), Errno> {
    if open.flags.get() & oflag::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if !open.readable() || (shared && prot.contains(Prot::WRITE) && !open.writable()) {
        return Err(Errno::EACCES);
    }
    Ok(())
}

/// mmap(2)
pub fn sys_mmap(
    cx: &mut Cx<'_>,
    addr: u64,
    len: u64,
    prot: Bits,
    flags: Bits,
    fd: Fd,
    offset: u64,
) -> Io<u64> {
    let mm = cx.task.mm();
    let flags = flags.0;
    if !offset.is_multiple_of(PAGE) {
        return err(Errno::EINVAL);
    }
    let open = if flags & MAP_ANONYMOUS == 0 {
        Some(cx.task.files().get(fd.0)?)
    } else {
        None
    };
    if len == 0 || (flags & MAP_HUGETLB != 0 && open.is_some()) {
        return err(Errno::EINVAL);
    }
    let len = layout::page_up(len).filter(|l| *l > 0).ok_or(Errno::ENOMEM)?;
    if flags & MAP_HUGETLB != 0 {
        // No huge pages are reserved.
        return err(Errno::ENOMEM);
    }
    if open.is_some() && offset.checked_add(len).is_none_or(|e| e > i64::MAX as u64) {
        return err(Errno::EOVERFLOW);
    }
    let shared = match flags & MAP_TYPE {
        MAP_PRIVATE => false,
        MAP_SHARED => true,
        MAP_SHARED_VALIDATE if flags & !LEGACY != 0 && open.is_some() => {
            return err(Errno::EOPNOTSUPP);
        }
        MAP_SHARED_VALIDATE if open.is_some() => true,
        _ => return err(Errno::EINVAL),
    };
    if flags & MAP_GROWSDOWN != 0 && (open.is_some() || shared) {
        return err(Errno::EINVAL);
    }
    let prot = prot_of(prot.0);
    let mut vma = Vma::anon(0, len, prot, VmaKind::Normal);
    vma.shared = shared;
    let lock = flags & MAP_LOCKED != 0 || mm.lock_future.get();
    vma.flags.set(VmaFlags::LOCKED, lock);
    vma.flags.set(VmaFlags::NORESERVE, flags & MAP_NORESERVE != 0);
    vma.flags.set(VmaFlags::GROWSDOWN, flags & MAP_GROWSDOWN != 0);
    check_room(cx, &mm, len, vma.commits())?;
    if let Some(open) = &open {
        check_file(open, shared, prot)?;
    }
    if lock && !check_lock(cx, &mm, len) {
        let none = cx.task.process().rlimits.borrow()[RLIMIT_MEMLOCK].0 == 0;
        return err(if none && !mm.lock_future.get() {
            Errno::EPERM
        } else {
            Errno::EAGAIN
        });
    }
    let at = place(cx, &mm, addr, len, flags)?;
    (vma.start, vma.end) = (at, at + len);
    match open {
        None if shared => map_shared_anon(cx, vma)?,
        None => mm.map(cx.env.plat, vma, Backing::Anon),
        Some(open) => map_file(cx, vma, &open, offset)?,
    }
    if flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE || lock {
        cx.env.plat.advise(at, len, Advice::Populate);
    }
    Ok(at)
}

fn map_shared_anon(cx: &mut Cx<'_>, mut vma: Vma) -> Io<()> {
    let len = vma.len();
    let file = crate::fs::anon_shared(cx, len)?;
    let parts = file.map(&mut cx.env, 0, len, true, true)?;
    let st = file.stat(&mut cx.env)?;
    vma.file = Some(VmaFile {
        file,
        offset: 0,
        id: (st.dev, st.ino),
        path: Rc::new(b"/dev/zero (deleted)".to_vec()),
        limit: limit_of(0, &parts),
    });
    map_parts(cx, vma, &parts);
    Ok(())
}

fn map_file(cx: &mut Cx<'_>, mut vma: Vma, open: &OpenFile, offset: u64) -> Io<()> {
    let write = open.writable();
    let parts = open.file.map(&mut cx.env, offset, vma.len(), vma.shared, write)?;
    let st = open.file.stat(&mut cx.env)?;
    vma.flags.set(VmaFlags::NOWRITE, vma.shared && !write);
    vma.file = Some(VmaFile {
        file: open.file.clone(),
        offset,
        id: (st.dev, st.ino),
        path: Rc::new(open.file.describe()),
        limit: limit_of(offset, &parts),
    });
    let (at, len) = (vma.start, vma.len());
    let exec = vma.prot.contains(Prot::EXEC);
    map_parts(cx, vma, &parts);
    if exec {
        crate::specials::scan(cx.k, cx.env.plat, &cx.task.mm(), at, len);
    }
    Ok(())
}

/// Maps each piece, then records the whole as one.
pub(super) fn map_parts(cx: &mut Cx<'_>, vma: Vma, parts: &[(u64, Backing)]) {
    let mm = cx.task.mm();
    mm.forget(vma.start, vma.len());
    let mut at = vma.start;
    for (len, backing) in parts {
        cx.env.plat.map(at, *len, mm.host_prot(&vma), *backing);
        at += len;
    }
    mm.insert(vma);
}

/// munmap(2)
pub fn sys_munmap(cx: &mut Cx<'_>, addr: Ptr, len: u64) -> Io<u64> {
    let len = layout::page_up(len).filter(|l| *l > 0).ok_or(Errno::EINVAL)?;
    if !addr.0.is_multiple_of(PAGE) || addr.0.checked_add(len).is_none_or(|e| e > layout::GUEST_TOP) {
        return err(Errno::EINVAL);
    }
    // What belongs to the runtime is a hole for the guest.
    let mm = cx.task.mm();
    if mm.first_flagged(addr.0, len, VmaFlags::SEALED).is_some() {
        return err(Errno::EPERM);
    }
    for (lo, hi) in [
        (0, layout::RUNTIME_BLOCK),
        (layout::RUNTIME_BLOCK_END, layout::GUEST_TOP),
    ] {
        let (s, e) = (addr.0.max(lo), (addr.0 + len).min(hi));
        if s < e {
            for v in mm.overlapping(s, e - s).iter().filter(|v| v.shared) {
                // What a mapping of a volume's file holds goes to the host (PROTOCOL §7).
                if let Some(f) = v
                    .file
                    .as_ref()
                    .filter(|f| f.file.as_any().is::<crate::fs::HostFile>())
                {
                    f.file.closed(&mut cx.env);
                }
            }
            mm.unmap(cx.env.plat, s, e - s);
        }
    }
    Ok(0)
}

/// mprotect(2)
pub fn sys_mprotect(cx: &mut Cx<'_>, addr: Ptr, len: u64, prot: Bits) -> Io<u64> {
    if !addr.0.is_multiple_of(PAGE)
        || prot.0 & (PROT_GROWSDOWN | PROT_GROWSUP) == PROT_GROWSDOWN | PROT_GROWSUP
    {
        return err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let len = layout::page_up(len).filter(|l| *l > 0).ok_or(Errno::ENOMEM)?;
    if addr.0.checked_add(len).is_none() {
        return err(Errno::ENOMEM);
    }
    if prot.0 & !(0xf | PROT_GROWSDOWN | PROT_GROWSUP) != 0 {
        return err(Errno::EINVAL);
    }
    if !layout::is_guest_range(addr.0, len) {
        return err(Errno::ENOMEM);
    }
    let mm = cx.task.mm();
    let prot = prot_of(prot.0);
    // Up to the first hole or refusal, as Linux does.
    let mut good = mm.mapped_prefix(addr.0, len);
    let mut result = if good < len { Err(Errno::ENOMEM) } else { Ok(()) };
    if let Some(at) = mm.first_flagged(addr.0, good, VmaFlags::SEALED) {
        good = at - addr.0;
        result = Err(Errno::EPERM);
    }
    if prot.contains(Prot::WRITE) {
        if let Some(at) = mm.first_flagged(addr.0, good, VmaFlags::NOWRITE) {
            good = at - addr.0;
            result = Err(Errno::EACCES);
        }
        restore_text(cx.k, cx.env.plat, &mm, addr.0, good);
    }
    if good > 0 {
        mm.change(addr.0, good, |v| v.prot = prot);
        cx.env.plat.protect(addr.0, good, prot);
        if prot.contains(Prot::EXEC) {
            crate::specials::hide(cx.env.plat, &mm, addr.0, good);
            crate::specials::scan(cx.k, cx.env.plat, &mm, addr.0, good);
        }
    }
    result?;
    Ok(0)
}

/// pkey_mprotect(2): only the key that every page has.
pub fn sys_pkey_mprotect(cx: &mut Cx<'_>, addr: Ptr, len: u64, prot: Bits, key: i32) -> Io<u64> {
    if key != -1 && key != 0 {
        return err(Errno::EINVAL);
    }
    sys_mprotect(cx, addr, len, prot)
}

/// brk(2): the new break, or the old one if it cannot be had.
pub fn sys_brk(cx: &mut Cx<'_>, addr: Ptr) -> Io<u64> {
    let mm = cx.task.mm();
    let (start, end) = mm.brk.get();
    if addr.0 < start {
        return Ok(end);
    }
    let (Some(old), Some(new)) = (layout::page_up(end), layout::page_up(addr.0)) else {
        return Ok(end);
    };
    let limit = cx.task.process().rlimits.borrow()[RLIMIT_DATA].0;
    let l = mm.layout.get();
    if (addr.0 - start).saturating_add(l.end_data - l.start_data) > limit {
        return Ok(end);
    }
    if new > old {
        let grow = new - old;
        // Linux keeps a gap to the next mapping; one page does.
        let room = grow < GUEST_TOP && mm.is_free(old, grow + PAGE);
        if !room || check_room(cx, &mm, grow, true).is_err() {
            return Ok(end);
        }
        let mut vma = Vma::anon(old, grow, Prot::READ | Prot::WRITE, VmaKind::Heap);
        if mm.lock_future.get() {
            if !check_lock(cx, &mm, grow) {
                return Ok(end);
            }
            vma.flags |= VmaFlags::LOCKED;
        }
        mm.map(cx.env.plat, vma, Backing::Anon);
    } else if new < old {
        if mm.first_flagged(new, old - new, VmaFlags::SEALED).is_some() {
            return Ok(end);
        }
        mm.unmap(cx.env.plat, new, old - new);
    }
    mm.brk.set((start, addr.0));
    Ok(addr.0)
}

/// mseal(2)
pub fn sys_mseal(cx: &mut Cx<'_>, addr: Ptr, len: u64, flags: u64) -> Io<u64> {
    if flags != 0 || !addr.0.is_multiple_of(PAGE) {
        return err(Errno::EINVAL);
    }
    let rounded = layout::page_up(len)
        .filter(|l| *l > 0 || len == 0)
        .ok_or(Errno::EINVAL)?;
    if addr.0.checked_add(rounded).is_none() {
        return err(Errno::EINVAL);
    }
    if rounded == 0 {
        return Ok(0);
    }
    let mm = cx.task.mm();
    if !layout::is_guest_range(addr.0, rounded) || !mm.is_mapped(addr.0, rounded) {
        return err(Errno::ENOMEM);
    }
    mm.change(addr.0, rounded, |v| v.flags |= VmaFlags::SEALED);
    Ok(0)
}
