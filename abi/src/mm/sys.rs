//! mmap(2), munmap(2), mprotect(2), brk(2).

use super::{Vma, VmaFile, VmaFlags, VmaKind};
use crate::args::{Bits, Fd, Ptr};
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::layout::{self, GUEST_MIN, GUEST_TOP, PAGE};
use ftl_core::platform::{Advice, Backing, Prot};
use std::rc::Rc;

const MAP_SHARED: u64 = 1;
const MAP_PRIVATE: u64 = 2;
const MAP_SHARED_VALIDATE: u64 = 3;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_32BIT: u64 = 0x40;
const MAP_POPULATE: u64 = 0x8000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const RLIMIT_AS: usize = 9;
const RLIMIT_DATA: usize = 2;

fn prot_of(bits: u64) -> Prot {
    Prot::from_bits_truncate(bits as u32)
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
    if len == 0 || offset % PAGE != 0 {
        return err(Errno::EINVAL);
    }
    let len = layout::page_up(len).ok_or(Errno::ENOMEM)?;
    let shared = match flags & 3 {
        MAP_PRIVATE => false,
        MAP_SHARED | MAP_SHARED_VALIDATE => true,
        _ => return err(Errno::EINVAL),
    };
    let open = if flags & MAP_ANONYMOUS == 0 {
        Some(cx.task.files().get(fd.0)?)
    } else {
        None
    };
    let fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0;
    if fixed && addr % PAGE != 0 {
        return err(Errno::EINVAL);
    }
    let limit = cx.task.process().rlimits.borrow()[RLIMIT_AS].0;
    if mm.mapped.get().saturating_add(len) > limit || len > GUEST_TOP {
        return err(Errno::ENOMEM);
    }
    let at = if fixed {
        if !layout::is_guest_range(addr, len) || addr < GUEST_MIN {
            return err(if addr < GUEST_MIN {
                Errno::EPERM
            } else {
                Errno::ENOMEM
            });
        }
        if flags & MAP_FIXED_NOREPLACE != 0 && !mm.is_free(addr, len) {
            return err(Errno::EEXIST);
        }
        addr
    } else {
        let hint = layout::page_down(addr);
        if hint != 0 && mm.is_free(hint, len) {
            hint
        } else {
            let below = if flags & MAP_32BIT != 0 {
                0x8000_0000
            } else {
                mm.mmap_base.get()
            };
            mm.find_free(len, below, PAGE).ok_or(Errno::ENOMEM)?
        }
    };
    let prot = prot_of(prot.0);
    let mut vma = Vma {
        start: at,
        end: at + len,
        prot,
        shared,
        kind: VmaKind::Normal,
        file: None,
        flags: VmaFlags::empty(),
        name: None,
    };
    match open {
        None if shared => {
            let file = crate::fs::anon_shared(cx, len)?;
            let parts = file.map(&mut cx.env, 0, len, true, true)?;
            vma.file = Some(VmaFile {
                file,
                offset: 0,
                id: (1, 0),
                path: Rc::new(b"/dev/zero (deleted)".to_vec()),
            });
            map_parts(cx, &vma, &parts);
        }
        None => mm.map(cx.env.plat, vma, Backing::Anon),
        Some(open) => {
            if !open.readable() {
                return err(Errno::EACCES);
            }
            if shared && prot.contains(Prot::WRITE) && !open.writable() {
                return err(Errno::EACCES);
            }
            let parts = open.file.map(&mut cx.env, offset, len, shared, open.writable())?;
            let st = open.file.stat(&mut cx.env)?;
            vma.file = Some(VmaFile {
                file: open.file.clone(),
                offset,
                id: (st.dev, st.ino),
                path: Rc::new(open.file.describe()),
            });
            map_parts(cx, &vma, &parts);
        }
    }
    if flags & MAP_POPULATE != 0 {
        cx.env.plat.advise(at, len, Advice::Populate);
    }
    Ok(at)
}

/// Maps each piece, then records the whole as one.
fn map_parts(cx: &mut Cx<'_>, vma: &Vma, parts: &[(u64, Backing)]) {
    let mm = cx.task.mm();
    mm.forget(vma.start, vma.len());
    let mut at = vma.start;
    for (len, backing) in parts {
        cx.env.plat.map(at, *len, vma.prot, *backing);
        at += len;
    }
    mm.insert(vma.clone());
}

/// munmap(2)
pub fn sys_munmap(cx: &mut Cx<'_>, addr: Ptr, len: u64) -> Io<u64> {
    let len = layout::page_up(len).filter(|l| *l > 0).ok_or(Errno::EINVAL)?;
    if addr.0 % PAGE != 0 || !layout::is_guest_range(addr.0, len) {
        return err(Errno::EINVAL);
    }
    cx.task.mm().unmap(cx.env.plat, addr.0, len);
    Ok(0)
}

/// mprotect(2)
pub fn sys_mprotect(cx: &mut Cx<'_>, addr: Ptr, len: u64, prot: Bits) -> Io<u64> {
    let len = layout::page_up(len).ok_or(Errno::ENOMEM)?;
    if addr.0 % PAGE != 0 {
        return err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    if !layout::is_guest_range(addr.0, len) {
        return err(Errno::ENOMEM);
    }
    cx.task.mm().protect(cx.env.plat, addr.0, len, prot_of(prot.0))?;
    Ok(0)
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
    let limits = *cx.task.process().rlimits.borrow();
    if addr.0 - start > limits[RLIMIT_DATA].0 {
        return Ok(end);
    }
    if new > old {
        // Linux keeps a gap to the next mapping; one page does.
        if !mm.is_free(old, new - old + PAGE) || mm.mapped.get() + (new - old) > limits[RLIMIT_AS].0 {
            return Ok(end);
        }
        mm.map_anon(
            cx.env.plat,
            old,
            new - old,
            Prot::READ | Prot::WRITE,
            VmaKind::Heap,
        );
    } else if new < old {
        mm.unmap(cx.env.plat, new, old - new);
    }
    mm.brk.set((start, addr.0));
    Ok(addr.0)
}
