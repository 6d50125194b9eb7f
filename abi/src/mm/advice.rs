//! madvise(2), mlock(2), mincore(2), msync(2), names of mappings.

use super::sys::check_lock;
use super::{Mm, VmaFlags};
use crate::args::{Fd, Ptr};
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::layout::{self, PAGE};
use ftl_core::platform::{Advice, Prot};
use std::rc::Rc;

const RLIMIT_MEMLOCK: usize = 8;
const CAP_IPC_LOCK: u32 = 14;

/// Page-aligned end of a range that starts aligned; EINVAL as the calls here give it.
fn aligned(addr: u64, len: u64) -> Result<u64, Errno> {
    let up = layout::page_up(len).ok_or(Errno::EINVAL)?;
    if !addr.is_multiple_of(PAGE) || addr.checked_add(up).is_none() {
        return Err(Errno::EINVAL);
    }
    Ok(up)
}

/// madvise(2)
pub fn sys_madvise(cx: &mut Cx<'_>, addr: Ptr, len: u64, advice: i32) -> Io<u64> {
    const DONTNEED: i32 = 4;
    const FREE: i32 = 8;
    const REMOVE: i32 = 9;
    const DONTFORK: i32 = 10;
    const WIPEONFORK: i32 = 18;
    const KEEPONFORK: i32 = 19;
    const POPULATE_READ: i32 = 22;
    const POPULATE_WRITE: i32 = 23;
    const DONTNEED_LOCKED: i32 = 24;
    match advice {
        0..=4 | 8..=25 => {}
        100 | 101 => return err(Errno::EPERM),
        _ => return err(Errno::EINVAL),
    }
    let len = aligned(addr.0, len)?;
    if len == 0 {
        return Ok(0);
    }
    if !layout::is_guest_range(addr.0, len) {
        return err(Errno::ENOMEM);
    }
    let mm = cx.task.mm();
    let (start, end) = (addr.0, addr.0 + len);
    let hole = !mm.is_mapped(start, len);
    if matches!(advice, POPULATE_READ | POPULATE_WRITE) && hole {
        return err(Errno::ENOMEM);
    }
    for v in mm.visible(start, len) {
        let (s, n) = (v.start.max(start), v.end.min(end) - v.start.max(start));
        let private_anon = v.file.is_none() && !v.shared;
        let discards = matches!(
            advice,
            DONTNEED | FREE | DONTNEED_LOCKED | REMOVE | DONTFORK | WIPEONFORK
        );
        if discards && v.flags.contains(VmaFlags::SEALED) && !v.shared && !v.prot.contains(Prot::WRITE) {
            // What could not be written must not be emptied either.
            return err(Errno::EPERM);
        }
        match advice {
            DONTNEED | FREE | DONTNEED_LOCKED => {
                let locked = v.flags.contains(VmaFlags::LOCKED) && advice != DONTNEED_LOCKED;
                if locked || (advice == FREE && !private_anon) {
                    return err(Errno::EINVAL);
                }
                discard(cx, &mm, &v, s, n);
            }
            REMOVE => remove(cx, &v, s, n)?,
            DONTFORK => mm.change(s, n, |v| v.flags |= VmaFlags::DONTFORK),
            11 => mm.change(s, n, |v| v.flags.remove(VmaFlags::DONTFORK)),
            16 => mm.change(s, n, |v| v.flags |= VmaFlags::DONTDUMP),
            17 => mm.change(s, n, |v| v.flags.remove(VmaFlags::DONTDUMP)),
            WIPEONFORK if !private_anon => return err(Errno::EINVAL),
            WIPEONFORK => mm.change(s, n, |v| v.flags |= VmaFlags::WIPEONFORK),
            KEEPONFORK => mm.change(s, n, |v| v.flags.remove(VmaFlags::WIPEONFORK)),
            14 => cx.env.plat.advise(s, n, Advice::Huge(true)),
            15 => cx.env.plat.advise(s, n, Advice::Huge(false)),
            POPULATE_WRITE if !v.prot.contains(Prot::WRITE) => return err(Errno::EINVAL),
            POPULATE_READ if !v.prot.contains(Prot::READ) => return err(Errno::EINVAL),
            POPULATE_WRITE => cx.env.plat.advise(s, n, Advice::Populate),
            // The rest changes speed at most.
            _ => {}
        }
    }
    // What is mapped was advised; the hole is still an error.
    if hole { err(Errno::ENOMEM) } else { Ok(0) }
}

fn discard(cx: &mut Cx<'_>, mm: &Rc<Mm>, v: &super::Vma, addr: u64, len: u64) {
    if v.shared {
        // The pages stay in the object.
        return;
    }
    if v.prot.contains(Prot::EXEC) {
        super::restore_text(cx.k, cx.env.plat, mm, addr, len);
    }
    cx.env.plat.advise(addr, len, Advice::Discard(v.prot));
}

/// MADV_REMOVE: a hole in the object behind a shared writable mapping.
fn remove(cx: &mut Cx<'_>, v: &super::Vma, addr: u64, len: u64) -> Io<()> {
    const PUNCH_HOLE_KEEP_SIZE: i32 = 3;
    if v.flags.contains(VmaFlags::LOCKED) {
        return err(Errno::EINVAL);
    }
    let Some(f) = v.file.clone() else {
        return err(Errno::EINVAL);
    };
    if !v.shared || v.flags.contains(VmaFlags::NOWRITE) {
        return err(Errno::EACCES);
    }
    let offset = f.offset + (addr - v.start);
    f.file.allocate(&mut cx.env, PUNCH_HOLE_KEEP_SIZE, offset, len)
}

/// process_madvise(2): advice without an effect on contents, for any process.
pub fn sys_process_madvise(cx: &mut Cx<'_>, pidfd: Fd, iov: Ptr, n: i32, advice: i32, flags: u32) -> Io<u64> {
    if flags != 0 {
        return err(Errno::EINVAL);
    }
    let proc = crate::process::pidfd::process_of(cx, pidfd)?;
    let task = proc.any_thread().ok_or(Errno::ESRCH)?;
    crate::process::may_access(cx, &task)?;
    // WILLNEED, COLD, PAGEOUT, COLLAPSE
    if !matches!(advice, 3 | 20 | 21 | 25) {
        return err(Errno::EINVAL);
    }
    let list = crate::sys::io::iovec(cx, iov.0, n)?;
    Ok(list.iter().map(|(_, l)| l).sum())
}

/// Unaligned start: down; length: up.
fn lock_range(addr: u64, len: u64) -> Result<(u64, u64), Errno> {
    let start = layout::page_down(addr);
    let len = layout::page_up(len.checked_add(addr - start).ok_or(Errno::ENOMEM)?).ok_or(Errno::ENOMEM)?;
    if start.checked_add(len).is_none() {
        return Err(Errno::EINVAL);
    }
    if !layout::is_guest_range(start, len) {
        return Err(Errno::ENOMEM);
    }
    Ok((start, len))
}

fn may_lock(cx: &Cx<'_>) -> bool {
    cx.task.process().rlimits.borrow()[RLIMIT_MEMLOCK].0 != 0 || cx.task.creds.borrow().capable(CAP_IPC_LOCK)
}

fn lock(cx: &mut Cx<'_>, addr: u64, len: u64, populate: bool) -> Io<u64> {
    if !may_lock(cx) {
        return err(Errno::EPERM);
    }
    let (start, len) = lock_range(addr, len)?;
    let mm = cx.task.mm();
    let already: u64 = mm
        .visible(start, len)
        .iter()
        .filter(|v| v.flags.contains(VmaFlags::LOCKED))
        .map(|v| v.end.min(start + len) - v.start.max(start))
        .sum();
    if !check_lock(cx, &mm, len - already) {
        return err(Errno::ENOMEM);
    }
    let good = mm.mapped_prefix(start, len);
    mm.change(start, good, |v| v.flags |= VmaFlags::LOCKED);
    if populate && good > 0 {
        cx.env.plat.advise(start, good, Advice::Populate);
    }
    if good < len {
        return err(Errno::ENOMEM);
    }
    Ok(0)
}

/// mlock(2)
pub fn sys_mlock(cx: &mut Cx<'_>, addr: Ptr, len: u64) -> Io<u64> {
    lock(cx, addr.0, len, true)
}

/// mlock2(2)
pub fn sys_mlock2(cx: &mut Cx<'_>, addr: Ptr, len: u64, flags: u32) -> Io<u64> {
    const MLOCK_ONFAULT: u32 = 1;
    if flags & !MLOCK_ONFAULT != 0 {
        return err(Errno::EINVAL);
    }
    lock(cx, addr.0, len, flags == 0)
}

/// munlock(2)
pub fn sys_munlock(cx: &mut Cx<'_>, addr: Ptr, len: u64) -> Io<u64> {
    let (start, len) = lock_range(addr.0, len)?;
    let mm = cx.task.mm();
    let good = mm.mapped_prefix(start, len);
    mm.change(start, good, |v| v.flags.remove(VmaFlags::LOCKED));
    if good < len {
        return err(Errno::ENOMEM);
    }
    Ok(0)
}

/// mlockall(2)
pub fn sys_mlockall(cx: &mut Cx<'_>, flags: u32) -> Io<u64> {
    const CURRENT: u32 = 1;
    const FUTURE: u32 = 2;
    const ONFAULT: u32 = 4;
    if flags == 0 || flags == ONFAULT || flags & !(CURRENT | FUTURE | ONFAULT) != 0 {
        return err(Errno::EINVAL);
    }
    if !may_lock(cx) {
        return err(Errno::EPERM);
    }
    let mm = cx.task.mm();
    let limit = cx.task.process().rlimits.borrow()[RLIMIT_MEMLOCK].0;
    let free = cx.task.creds.borrow().capable(CAP_IPC_LOCK);
    if flags & CURRENT != 0 && !free && mm.mapped.get() > limit {
        return err(Errno::ENOMEM);
    }
    mm.lock_future.set(flags & FUTURE != 0);
    if flags & CURRENT != 0 {
        mm.change(0, layout::GUEST_TOP, |v| v.flags |= VmaFlags::LOCKED);
    }
    Ok(0)
}

/// munlockall(2)
pub fn sys_munlockall(cx: &mut Cx<'_>) -> Io<u64> {
    let mm = cx.task.mm();
    mm.lock_future.set(false);
    mm.change(0, layout::GUEST_TOP, |v| v.flags.remove(VmaFlags::LOCKED));
    Ok(0)
}

/// mincore(2)
pub fn sys_mincore(cx: &mut Cx<'_>, addr: Ptr, len: u64, out: Ptr) -> Io<u64> {
    if !addr.0.is_multiple_of(PAGE) {
        return err(Errno::EINVAL);
    }
    let len = layout::page_up(len).ok_or(Errno::ENOMEM)?;
    if !layout::is_guest_range(addr.0, len) {
        return err(Errno::ENOMEM);
    }
    if !layout::is_guest_range(out.0, len / PAGE) {
        return err(Errno::EFAULT);
    }
    let mm = cx.task.mm();
    let mut done = 0;
    while done < len {
        let mut bytes = [0u8; 4096];
        let n = ((len - done) / PAGE).min(bytes.len() as u64);
        if !mm.is_mapped(addr.0 + done, n * PAGE) {
            return err(Errno::ENOMEM);
        }
        let chunk = &mut bytes[..n as usize];
        cx.env.plat.resident_pages(addr.0 + done, chunk);
        for b in chunk.iter_mut() {
            *b &= 1;
        }
        cx.env.write(out.0 + done / PAGE, chunk)?;
        done += n * PAGE;
    }
    Ok(0)
}

/// msync(2): what is mapped shared is in the file already; MS_SYNC makes it durable.
pub fn sys_msync(cx: &mut Cx<'_>, addr: Ptr, len: u64, flags: u32) -> Io<u64> {
    const ASYNC: u32 = 1;
    const INVALIDATE: u32 = 2;
    const SYNC: u32 = 4;
    if flags & !(ASYNC | INVALIDATE | SYNC) != 0
        || flags & (ASYNC | SYNC) == ASYNC | SYNC
        || !addr.0.is_multiple_of(PAGE)
    {
        return err(Errno::EINVAL);
    }
    let len = layout::page_up(len).ok_or(Errno::ENOMEM)?;
    if len == 0 {
        return Ok(0);
    }
    if !layout::is_guest_range(addr.0, len) {
        return err(Errno::ENOMEM);
    }
    let mm = cx.task.mm();
    for v in mm.visible(addr.0, len) {
        if flags & INVALIDATE != 0 && v.flags.contains(VmaFlags::LOCKED) {
            return err(Errno::EBUSY);
        }
        let Some(f) = &v.file else { continue };
        if v.shared && flags & SYNC != 0 && v.kind == super::VmaKind::Normal {
            match f.file.sync(&mut cx.env, true) {
                Ok(()) | Err(ftl_core::io::Stop::Errno(Errno::EINVAL)) => {}
                Err(e) => return Err(e),
            }
        }
    }
    if !mm.is_mapped(addr.0, len) {
        return err(Errno::ENOMEM);
    }
    Ok(0)
}

/// PR_SET_VMA_ANON_NAME
pub fn name_range(cx: &mut Cx<'_>, addr: u64, len: u64, name: Option<Rc<Vec<u8>>>) -> Io<u64> {
    let len = aligned(addr, len)?;
    if !layout::is_guest_range(addr, len) {
        return err(Errno::ENOMEM);
    }
    let mm = cx.task.mm();
    if mm.visible(addr, len).iter().any(|v| v.file.is_some()) {
        return err(Errno::EBADF);
    }
    mm.change(addr, len, |v| v.name.clone_from(&name));
    if !mm.is_mapped(addr, len) {
        return err(Errno::ENOMEM);
    }
    Ok(0)
}
