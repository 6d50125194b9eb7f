//! Where pages lie: on the one node that an image has.

use crate::args::{Fd, Ptr};
use crate::cx::Cx;
use crate::process::{find_task, may_access};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, err};
use ftl_core::layout::{PAGE, page_down, page_up};

const CAP_SYS_NICE: u32 = 23;
const MPOL_MF_MOVE_ALL: i32 = 4;
/// Pages that move_pages looks at before others may run.
const TURN: u64 = 4096;

/// move_pages(2) of the caller's own pages; those of another process are said to be where they are asked
/// to be, which is where they are.
pub fn sys_move_pages(
    cx: &mut Cx<'_>,
    pid: i32,
    n: u64,
    pages: Ptr,
    nodes: Ptr,
    status: Ptr,
    flags: i32,
) -> Io<u64> {
    if flags & !6 != 0 {
        return err(Errno::EINVAL);
    }
    if flags & MPOL_MF_MOVE_ALL != 0 && !cx.task.creds.borrow().capable(CAP_SYS_NICE) {
        return err(Errno::EPERM);
    }
    let t = find_task(cx, pid)?;
    may_access(cx, &t)?;
    let own = t.entity.space.get() == cx.task.entity.space.get();
    let mm = t.mm();
    // Others have their turn after a while: the number of pages has no limit.
    let mut done = cx.task.entity.progress.get();
    let turn = done.saturating_add(TURN);
    while done < n {
        if done >= turn {
            cx.task.entity.progress.set(done);
            let now = cx.now();
            return Err(cx.wait_until(Vec::new(), Some(now), Restart::Always));
        }
        // do_pages_stat() looks at so many at once, do_pages_move() at one.
        let count = if nodes.is_null() { (n - done).min(16) } else { 1 };
        let mut addrs = [0u8; 16 * 8];
        let addrs = &mut addrs[..count as usize * 8];
        cx.read(pages.0.wrapping_add(done.wrapping_mul(8)), addrs)?;
        if !nodes.is_null() {
            let node: i32 = cx.get(nodes.0.wrapping_add(done.wrapping_mul(4)))?;
            if node != 0 {
                return err(Errno::ENODEV);
            }
        }
        let mut words = [0u8; 16 * 4];
        let words = &mut words[..count as usize * 4];
        for (a, w) in addrs.chunks_exact(8).zip(words.chunks_exact_mut(4)) {
            let addr = u64::from_le_bytes(std::array::from_fn(|i| a[i]));
            let mut there = [1u8];
            let mapped = mm.is_mapped(page_down(addr), PAGE);
            if mapped && own {
                cx.env.plat.resident_pages(page_down(addr), &mut there);
            }
            let word: i32 = match (mapped, there[0] & 1) {
                (false, _) => -Errno::EFAULT.raw(),
                (true, 0) => -Errno::ENOENT.raw(),
                _ => 0,
            };
            w.copy_from_slice(&word.to_le_bytes());
        }
        cx.write(status.0.wrapping_add(done.wrapping_mul(4)), words)?;
        done += count;
    }
    Ok(0)
}

/// A node mask of `max` bits: whether it has node 0, and whether any other. As get_nodes() counts.
fn nodes(cx: &mut Cx<'_>, mask: Ptr, max: u64) -> Result<(bool, bool), Errno> {
    let bits = max.saturating_sub(1);
    if bits == 0 || mask.is_null() {
        return Ok((false, false));
    }
    if bits > 4096 * 8 {
        return Err(Errno::EINVAL);
    }
    let mut found = (false, false);
    for i in 0..bits.div_ceil(64) {
        let mut w: u64 = cx.get(mask.0.wrapping_add(i * 8))?;
        if bits - i * 64 < 64 {
            w &= (1 << (bits - i * 64)) - 1;
        }
        if i == 0 {
            found.0 = w & 1 != 0;
            w &= !1;
        }
        found.1 |= w != 0;
    }
    Ok(found)
}

/// migrate_pages(2): all pages are on node 0 already.
pub fn sys_migrate_pages(cx: &mut Cx<'_>, pid: i32, max: u64, old: Ptr, new: Ptr) -> Io<u64> {
    nodes(cx, old, max)?;
    let (first, other) = nodes(cx, new, max)?;
    let t = find_task(cx, pid)?;
    may_access(cx, &t)?;
    if other && !cx.task.creds.borrow().capable(CAP_SYS_NICE) {
        return err(Errno::EPERM);
    }
    if !first {
        return err(Errno::EINVAL);
    }
    Ok(0)
}

/// set_mempolicy_home_node(2): no range has a policy of its own, as mbind(2) has nothing to choose from.
pub fn sys_set_mempolicy_home_node(cx: &mut Cx<'_>, addr: Ptr, len: u64, node: u64, flags: u64) -> Io<u64> {
    if flags != 0 || node != 0 || !addr.0.is_multiple_of(PAGE) {
        return err(Errno::EINVAL);
    }
    let len = page_up(len).ok_or(Errno::EINVAL)?;
    if addr.0.checked_add(len).is_none() {
        return err(Errno::EINVAL);
    }
    let _ = cx;
    if len == 0 { Ok(0) } else { err(Errno::ENOENT) }
}

/// cachestat(2): what the image holds of a file is in memory and needs no writing back.
pub fn sys_cachestat(cx: &mut Cx<'_>, fd: Fd, range: Ptr, out: Ptr, flags: u32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let [off, len]: [u64; 2] = cx.get(range.0)?;
    if flags != 0 {
        return err(Errno::EINVAL);
    }
    let st = open.file.stat(&mut cx.env)?;
    let pages = if open.file.seekable() {
        let last = match len {
            0 => u64::MAX,
            n => off.saturating_add(n - 1),
        } / PAGE;
        let end = st.size.div_ceil(PAGE).min(last.saturating_add(1));
        end.saturating_sub(off / PAGE)
    } else {
        0
    };
    cx.put(out.0, &[pages, 0, 0, 0, 0])?;
    Ok(0)
}
