//! The mount tree as statmount(2), listmount(2), ustat(2) and open_tree(2) show it. Nobody changes it.

use crate::args::{Bits, Fd, Path, Ptr};
use crate::cx::Cx;
use crate::fdtable::oflag;
use crate::fs::{Mount, walk};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use std::rc::Rc;

/// A mount's number that is never used again: above all short ones, as in Linux.
pub fn unique_id(m: &Mount) -> u64 {
    (1 << 31) + u64::from(m.id)
}

/// struct mnt_id_req: the mount and the parameter.
fn request(cx: &mut Cx<'_>, req: Ptr) -> Result<(u64, u64), Errno> {
    let head: [u32; 2] = cx.get(req.0)?;
    if head[0] > 4096 {
        return Err(Errno::E2BIG);
    }
    if head[0] < 24 || head[1] != 0 {
        return Err(Errno::EINVAL);
    }
    let mut rest = vec![0; head[0] as usize - 8];
    cx.read(req.0 + 8, &mut rest)?;
    let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| rest[i + k]));
    // A fourth word names a namespace: there is one, and 0 is it.
    if rest.get(24..).is_some_and(|r| r.iter().any(|b| *b != 0)) {
        return Err(Errno::E2BIG);
    }
    if rest.len() >= 24 && word(16) != 0 {
        return Err(Errno::ENOENT);
    }
    Ok((word(0), word(8)))
}

fn find(cx: &Cx<'_>, id: u64) -> Result<Rc<Mount>, Errno> {
    if id <= 1 << 31 {
        return Err(Errno::EINVAL);
    }
    let all = cx.k.fs.mounts();
    all.iter()
        .find(|m| unique_id(m) == id)
        .cloned()
        .ok_or(Errno::ENOENT)
}

fn parent(m: &Rc<Mount>) -> Rc<Mount> {
    m.at.as_ref().map_or_else(|| m.clone(), |at| at.mount.clone())
}

/// listmount(2)
pub fn sys_listmount(cx: &mut Cx<'_>, req: Ptr, out: Ptr, n: u64, flags: u32) -> Io<u64> {
    const LISTMOUNT_REVERSE: u32 = 1;
    const LSMT_ROOT: u64 = u64::MAX;
    if flags & !LISTMOUNT_REVERSE != 0 {
        return err(Errno::EINVAL);
    }
    if n > 1_000_000 {
        return err(Errno::EOVERFLOW);
    }
    let (id, last) = request(cx, req)?;
    let all = cx.k.fs.mounts();
    let under = |m: &Rc<Mount>, top: &Rc<Mount>| {
        let mut at = m.clone();
        while let Some(up) = at.at.as_ref().map(|l| l.mount.clone()) {
            if Rc::ptr_eq(&up, top) {
                return true;
            }
            at = up;
        }
        false
    };
    let top = if id == LSMT_ROOT {
        None
    } else {
        Some(find(cx, id)?)
    };
    let mut ids: Vec<u64> = all
        .iter()
        .filter(|m| top.as_ref().is_none_or(|t| under(m, t)))
        .map(|m| unique_id(m))
        .collect();
    ids.sort_unstable();
    if flags & LISTMOUNT_REVERSE != 0 {
        ids.reverse();
        ids.retain(|i| last == 0 || *i < last);
    } else {
        ids.retain(|i| *i > last);
    }
    ids.truncate(n as usize);
    for (i, id) in ids.iter().enumerate() {
        cx.put(out.0 + i as u64 * 8, id)?;
    }
    Ok(ids.len() as u64)
}

/// struct statmount up to its strings, as 64-bit words (linux/mount.h).
const STATMOUNT_WORDS: usize = 64;

/// statmount(2)
pub fn sys_statmount(cx: &mut Cx<'_>, req: Ptr, out: Ptr, size: u64, flags: u32) -> Io<u64> {
    const SB_BASIC: u64 = 1;
    const MNT_BASIC: u64 = 2;
    const PROPAGATE_FROM: u64 = 4;
    const MNT_ROOT: u64 = 8;
    const MNT_POINT: u64 = 16;
    const FS_TYPE: u64 = 32;
    const MNT_NS_ID: u64 = 64;
    const SB_SOURCE: u64 = 0x200;
    if flags != 0 {
        return err(Errno::EINVAL);
    }
    let (id, want) = request(cx, req)?;
    let m = find(cx, id)?;
    let up = parent(&m);
    let st = m.fs.stat(cx, b"")?;
    let magic = m.fs.statfs(cx, b"")?.kind;
    let mut w = [0u64; STATMOUNT_WORDS];
    let two = |lo: u32, hi: u32| u64::from(lo) | u64::from(hi) << 32;
    let mut got = want & (SB_BASIC | MNT_BASIC | PROPAGATE_FROM | MNT_NS_ID);
    if want & SB_BASIC != 0 {
        let (major, minor) = ((st.dev >> 8 & 0xfff) as u32, (st.dev & 0xff) as u32);
        w[2] = two(major, minor);
        w[3] = magic;
        // sb_flags, and fs_type in the upper half.
        w[4] = u64::from(m.ro.get());
    }
    if want & MNT_BASIC != 0 {
        const MS_PRIVATE: u64 = 1 << 18;
        w[5] = unique_id(&m);
        w[6] = unique_id(&up);
        w[7] = two(m.id, up.id);
        w[8] = u64::from(m.ro.get());
        w[9] = MS_PRIVATE;
    }
    let mut strings = Vec::new();
    let mut add = |bit: u64, text: &[u8]| -> u32 {
        if want & bit == 0 {
            return 0;
        }
        got |= bit;
        let at = strings.len() as u32;
        strings.extend_from_slice(text);
        strings.push(0);
        at
    };
    let point = m.at.as_ref().map_or_else(|| b"/".to_vec(), |at| at.full());
    let kind = add(FS_TYPE, m.fs.kind().as_bytes());
    let root = add(MNT_ROOT, b"/");
    let at = add(MNT_POINT, &point);
    let source = add(SB_SOURCE, &m.source);
    w[4] |= u64::from(kind) << 32;
    w[13] = two(root, at);
    if want & MNT_NS_ID != 0 {
        w[14] = 1;
    }
    // fs_subtype (not there), sb_source.
    w[15] = two(0, source);
    let total = STATMOUNT_WORDS * 8 + strings.len();
    w[0] = two(total as u32, 0);
    w[1] = got;
    if !strings.is_empty() && size < total as u64 {
        return err(Errno::EOVERFLOW);
    }
    let mut bytes: Vec<u8> = w.iter().flat_map(|v| v.to_le_bytes()).collect();
    bytes.extend_from_slice(&strings);
    bytes.truncate(size.min(total as u64) as usize);
    cx.write(out.0, &bytes)?;
    Ok(0)
}

/// ustat(2): of a mounted file system.
pub fn sys_ustat(cx: &mut Cx<'_>, dev: u64, out: Ptr) -> Io<u64> {
    // new_decode_dev of the low half.
    let (major, minor) = (dev >> 8 & 0xfff, dev & 0xff | dev >> 12 & 0xf_ff00);
    for m in cx.k.fs.mounts() {
        let Ok(st) = m.fs.stat(cx, b"") else { continue };
        if (st.dev >> 8 & 0xfff, st.dev & 0xff | st.dev >> 12 & 0xf_ff00) != (major, minor) {
            continue;
        }
        let s = m.fs.statfs(cx, b"")?;
        cx.put(out.0, &[s.bfree as u32 as u64, s.ffree, 0, 0])?;
        return Ok(0);
    }
    err(Errno::EINVAL)
}

/// open_tree(2): without a clone it is an O_PATH descriptor; a clone needs a privilege.
pub fn sys_open_tree(cx: &mut Cx<'_>, dir: Fd, path: Path, flags: Bits) -> Io<u64> {
    const CLONE: u32 = 1;
    const CLOEXEC: u32 = oflag::O_CLOEXEC as u32;
    const AT_NO_AUTOMOUNT: u32 = 0x800;
    const AT_RECURSIVE: u32 = 0x8000;
    let f = flags.0 as u32;
    let known =
        CLONE | CLOEXEC | AT_NO_AUTOMOUNT | AT_RECURSIVE | walk::AT_SYMLINK_NOFOLLOW | walk::AT_EMPTY_PATH;
    if f & !known != 0 || f & (AT_RECURSIVE | CLONE) == AT_RECURSIVE {
        return err(Errno::EINVAL);
    }
    if f & CLONE != 0 {
        return err(Errno::EPERM);
    }
    if f & walk::AT_EMPTY_PATH != 0 && cx.path(path.0)?.is_empty() {
        return crate::fs::calls::fdops::sys_dup(cx, dir);
    }
    let mut how = oflag::O_PATH | (f & CLOEXEC) as i32;
    if f & walk::AT_SYMLINK_NOFOLLOW != 0 {
        how |= oflag::O_NOFOLLOW;
    }
    super::open::sys_openat(cx, dir, path, Bits(how as u64), 0)
}

/// What takes a descriptor that only a privileged call gives out: fsconfig(2), fsmount(2).
pub fn sys_no_such_context(cx: &mut Cx<'_>, fd: Fd) -> Io<u64> {
    if fd.0 >= 0 {
        cx.task.files().get(fd.0)?;
    }
    err(Errno::EINVAL)
}
