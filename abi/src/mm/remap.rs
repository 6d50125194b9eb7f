//! mremap(2) (mm/mremap.c).

use super::sys::{check_lock, check_room, map_parts};
use super::{Mm, Vma, VmaFlags, limit_of, restore_text, yield_stubs};
use crate::args::{Bits, Ptr};
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::layout::{self, GUEST_MIN, PAGE};
use ftl_core::platform::{Backing, Prot};
use std::rc::Rc;

const MAYMOVE: u64 = 1;
const FIXED: u64 = 2;
const DONTUNMAP: u64 = 4;

/// mremap(2)
pub fn sys_mremap(
    cx: &mut Cx<'_>,
    addr: Ptr,
    old_len: u64,
    new_len: u64,
    flags: Bits,
    new_addr: Ptr,
) -> Io<u64> {
    let (addr, flags) = (addr.0, flags.0);
    if flags & !(MAYMOVE | FIXED | DONTUNMAP) != 0
        || flags & (FIXED | MAYMOVE) == FIXED
        || (flags & DONTUNMAP != 0 && (flags & MAYMOVE == 0 || old_len != new_len))
        || !addr.is_multiple_of(PAGE)
    {
        return err(Errno::EINVAL);
    }
    let (Some(old_len), Some(new_len)) = (layout::page_up(old_len), layout::page_up(new_len)) else {
        return err(Errno::EINVAL);
    };
    if new_len == 0 {
        return err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let vma = mm
        .find(addr)
        .filter(|v| v.kind != super::VmaKind::Stubs)
        .ok_or(Errno::EFAULT)?;
    let source = old_len.max(PAGE).min(layout::GUEST_TOP - addr);
    if mm.first_flagged(addr, source, VmaFlags::SEALED).is_some() {
        return err(Errno::EPERM);
    }
    if flags & (FIXED | DONTUNMAP) != 0 {
        return move_to(cx, &mm, &vma, addr, old_len, new_len, flags, new_addr.0);
    }
    if new_len < old_len {
        if addr.checked_add(old_len).is_none_or(|e| e > layout::GUEST_TOP) {
            return err(Errno::EINVAL);
        }
        mm.unmap(cx.env.plat, addr + new_len, old_len - new_len);
        return Ok(addr);
    }
    check_source(&vma, addr, old_len)?;
    if new_len == old_len && old_len != 0 {
        return Ok(addr);
    }
    let grow = new_len - old_len;
    check_growth(cx, &mm, &vma, grow)?;
    if vma.end == addr + old_len && old_len != 0 && mm.is_free(vma.end, grow) {
        extend(cx, &vma, vma.end, grow)?;
        return Ok(addr);
    }
    if flags & MAYMOVE == 0 {
        return err(Errno::ENOMEM);
    }
    let to = mm
        .find_free(new_len, mm.mmap_base.get(), PAGE)
        .ok_or(Errno::ENOMEM)?;
    transfer(cx, &mm, &vma, addr, old_len, new_len, to, true)?;
    Ok(to)
}

fn check_source(vma: &Vma, addr: u64, old_len: u64) -> Result<(), Errno> {
    if old_len == 0 && !vma.shared {
        // "Duplicating" private memory makes no sense.
        return Err(Errno::EINVAL);
    }
    if old_len > vma.end - addr {
        return Err(Errno::EFAULT);
    }
    Ok(())
}

fn check_growth(cx: &Cx<'_>, mm: &Mm, vma: &Vma, grow: u64) -> Result<(), Errno> {
    if vma.flags.contains(VmaFlags::LOCKED) && !check_lock(cx, mm, grow) {
        return Err(Errno::EAGAIN);
    }
    check_room(cx, mm, grow, vma.commits())
}

#[allow(clippy::too_many_arguments)]
fn move_to(
    cx: &mut Cx<'_>,
    mm: &Rc<Mm>,
    vma: &Vma,
    addr: u64,
    mut old_len: u64,
    new_len: u64,
    flags: u64,
    new_addr: u64,
) -> Io<u64> {
    let fixed = flags & FIXED != 0;
    if fixed {
        if !new_addr.is_multiple_of(PAGE) || !layout::is_guest_range(new_addr, new_len) {
            return err(Errno::EINVAL);
        }
        if new_addr < GUEST_MIN {
            return err(Errno::EPERM);
        }
        if addr.saturating_add(old_len) > new_addr && new_addr + new_len > addr {
            return err(Errno::EINVAL);
        }
        if addr.checked_add(old_len).is_none_or(|e| e > layout::GUEST_TOP) {
            return err(Errno::EINVAL);
        }
        if mm.first_flagged(new_addr, new_len, VmaFlags::SEALED).is_some() {
            return err(Errno::EPERM);
        }
        yield_stubs(cx, new_addr, new_len);
        mm.unmap(cx.env.plat, new_addr, new_len);
    }
    if old_len > new_len {
        mm.unmap(cx.env.plat, addr + new_len, old_len - new_len);
        old_len = new_len;
    }
    // The mapping may have been cut by what was unmapped.
    let vma = &mm.find(addr).unwrap_or_else(|| vma.clone());
    check_source(vma, addr, old_len)?;
    let keep = flags & DONTUNMAP != 0;
    check_growth(cx, mm, vma, if keep { new_len } else { new_len - old_len })?;
    let to = if fixed {
        new_addr
    } else {
        mm.find_free(new_len, mm.mmap_base.get(), PAGE)
            .ok_or(Errno::ENOMEM)?
    };
    transfer(cx, mm, vma, addr, old_len, new_len, to, !keep)?;
    Ok(to)
}

/// Maps `len` more bytes at `at`, the end of a copy of `vma`.
fn extend(cx: &mut Cx<'_>, vma: &Vma, at: u64, len: u64) -> Io<()> {
    let mut more = vma.clone();
    (more.start, more.end) = (at, at + len);
    if let Some(f) = &mut more.file {
        f.offset += vma.len();
    }
    map_again(cx, more)
}

/// Maps what `vma` describes afresh.
fn map_again(cx: &mut Cx<'_>, mut vma: Vma) -> Io<()> {
    let write = !vma.flags.contains(VmaFlags::NOWRITE);
    match vma.file.clone() {
        None => cx.task.mm().map(cx.env.plat, vma, Backing::Anon),
        Some(f) => {
            let parts = f.file.map(&mut cx.env, f.offset, vma.len(), vma.shared, write)?;
            if let Some(f) = &mut vma.file {
                f.limit = limit_of(f.offset, &parts);
            }
            map_parts(cx, vma, &parts);
        }
    }
    Ok(())
}

/// Moves `old_len` bytes of `vma` at `addr` to `to` and makes them `new_len` long. Without `unmap`,
/// and for `old_len` 0, the old place stays mapped.
#[allow(clippy::too_many_arguments)]
fn transfer(
    cx: &mut Cx<'_>,
    mm: &Rc<Mm>,
    vma: &Vma,
    addr: u64,
    old_len: u64,
    new_len: u64,
    to: u64,
    unmap: bool,
) -> Io<()> {
    let mut new = vma.cut(addr, addr + old_len.max(PAGE));
    if old_len == 0 {
        (new.start, new.end) = (to, to + new_len);
        return map_again(cx, new);
    }
    if vma.prot.contains(Prot::EXEC) {
        restore_text(cx.k, cx.env.plat, mm, addr, old_len);
    }
    (new.start, new.end) = (to, to + old_len);
    cx.env.plat.move_pages(addr, old_len, to);
    let old = vma.cut(addr, addr + old_len);
    mm.forget(addr, old_len);
    mm.insert(new.clone());
    crate::specials::hide(cx.env.plat, mm, to, old_len);
    if !unmap {
        let mut left = old;
        left.flags.remove(VmaFlags::LOCKED);
        map_again(cx, left)?;
    }
    if new_len > old_len {
        extend(cx, &new, to + old_len, new_len - old_len)?;
    }
    Ok(())
}
