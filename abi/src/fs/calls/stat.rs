//! stat(2), statx(2), statfs(2), access(2), readlink(2).

use super::{Arg, path_or_fd};
use crate::args::{Bits, Fd, Path, Ptr};
use crate::cx::Cx;
use crate::fs::perm::{self, mode};
use crate::fs::walk::{self, AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use crate::fs::{Link, Mount, StatFs};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::platform::Stat;
use std::rc::Rc;
use zerocopy::{Immutable, IntoBytes};

const NS: i128 = 1_000_000_000;
const AT_NO_AUTOMOUNT: u32 = 0x800;
const AT_STATX_SYNC: u32 = 0x6000;
const AT_EACCESS: u32 = 0x200;

/// Seconds and nanoseconds of a time that may lie before 1970.
pub fn split_time(t: i128) -> (i64, i64) {
    (t.div_euclid(NS) as i64, t.rem_euclid(NS) as i64)
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct RawStat {
    dev: u64,
    ino: u64,
    nlink: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: u64,
    blksize: u64,
    blocks: u64,
    times: [i64; 6],
    unused: [u64; 3],
}

/// Stores a struct stat.
pub fn put_stat(cx: &mut Cx<'_>, at: u64, st: &Stat) -> Io<u64> {
    let (a, m, c) = (split_time(st.atime), split_time(st.mtime), split_time(st.ctime));
    let raw = RawStat {
        dev: st.dev,
        ino: st.ino,
        nlink: st.nlink,
        mode: st.mode,
        uid: st.uid,
        gid: st.gid,
        pad: 0,
        rdev: st.rdev,
        size: st.size,
        blksize: u64::from(st.blksize),
        blocks: st.blocks,
        times: [a.0, a.1, m.0, m.1, c.0, c.1],
        unused: [0; 3],
    };
    cx.put(at, &raw)?;
    Ok(0)
}

/// Attributes of a path.
pub fn stat_path(cx: &mut Cx<'_>, dirfd: i32, path: &[u8], follow: bool) -> Io<Stat> {
    walk::with(cx, dirfd, path, follow, |cx, t| t.stat(cx))
}

fn stat_at(cx: &mut Cx<'_>, dirfd: i32, path: u64, flags: u32) -> Io<Stat> {
    match path_or_fd(cx, dirfd, path, flags)? {
        Arg::Path(p) => stat_path(cx, dirfd, &p, flags & AT_SYMLINK_NOFOLLOW == 0),
        Arg::Itself(Some(open)) => crate::fs::fstat(cx, &open.file),
        Arg::Itself(None) => stat_path(cx, AT_FDCWD, b".", true),
    }
}

/// stat(2)
pub fn sys_stat(cx: &mut Cx<'_>, path: Path, buf: Ptr) -> Io<u64> {
    let st = stat_at(cx, AT_FDCWD, path.0, 0)?;
    put_stat(cx, buf.0, &st)
}

/// lstat(2)
pub fn sys_lstat(cx: &mut Cx<'_>, path: Path, buf: Ptr) -> Io<u64> {
    let st = stat_at(cx, AT_FDCWD, path.0, AT_SYMLINK_NOFOLLOW)?;
    put_stat(cx, buf.0, &st)
}

/// fstat(2)
pub fn sys_fstat(cx: &mut Cx<'_>, fd: Fd, buf: Ptr) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let st = crate::fs::fstat(cx, &open.file)?;
    put_stat(cx, buf.0, &st)
}

/// newfstatat(2)
pub fn sys_newfstatat(cx: &mut Cx<'_>, dirfd: Fd, path: Path, buf: Ptr, flags: Bits) -> Io<u64> {
    let flags = flags.0 as u32;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH) != 0 {
        return err(Errno::EINVAL);
    }
    let st = stat_at(cx, dirfd.0, path.0, flags)?;
    put_stat(cx, buf.0, &st)
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct RawStatx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    times: [[u64; 2]; 4],
    rdev: [u32; 2],
    dev: [u32; 2],
    mnt_id: u64,
    dio: [u32; 2],
    spare: [u64; 12],
}

fn dev_parts(d: u64) -> [u32; 2] {
    [
        (d >> 8 & 0xfff | d >> 32 & 0xffff_f000) as u32,
        (d & 0xff | d >> 12 & 0xffff_ff00) as u32,
    ]
}

/// Attributes of a path, the mount it is on, and whether it is that mount's root.
fn mounted_stat(
    cx: &mut Cx<'_>,
    dirfd: i32,
    path: &[u8],
    follow: bool,
) -> Io<(Stat, Option<(Rc<Mount>, bool)>)> {
    walk::with(cx, dirfd, path, follow, |cx, t| {
        let st = t.stat(cx)?;
        Ok((st, Some((t.loc.mount.clone(), t.loc.path.is_empty()))))
    })
}

/// statx(2)
pub fn sys_statx(cx: &mut Cx<'_>, dirfd: Fd, path: Path, flags: Bits, mask: u32, buf: Ptr) -> Io<u64> {
    const BASIC: u32 = 0x7ff;
    const BTIME: u32 = 0x800;
    const MNT_ID: u32 = 0x1000;
    const MNT_ID_UNIQUE: u32 = 0x4000;
    const RESERVED: u32 = 0x8000_0000;
    const ATTR_MOUNT_ROOT: u64 = 0x2000;
    let flags = flags.0 as u32;
    if mask & RESERVED != 0
        || flags & AT_STATX_SYNC == AT_STATX_SYNC
        || flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC) != 0
    {
        return err(Errno::EINVAL);
    }
    let (st, mount) = match path_or_fd(cx, dirfd.0, path.0, flags)? {
        Arg::Path(p) => mounted_stat(cx, dirfd.0, &p, flags & AT_SYMLINK_NOFOLLOW == 0)?,
        Arg::Itself(Some(open)) => {
            let st = crate::fs::fstat(cx, &open.file)?;
            // What has no path is on no mount that anyone can see.
            let path = open.file.describe();
            let named = path.first() == Some(&b'/');
            let found = named
                .then(|| mounted_stat(cx, AT_FDCWD, &path, true).ok())
                .flatten();
            (st, found.and_then(|f| f.1))
        }
        Arg::Itself(None) => mounted_stat(cx, AT_FDCWD, b".", true)?,
    };
    let time = |t: i128| {
        let (s, n) = split_time(t);
        [s as u64, n as u64]
    };
    let mut got = BASIC;
    if st.btime != 0 {
        got |= BTIME;
    }
    let mut mnt_id = 0;
    let mut attributes = 0;
    if let Some((mount, at_root)) = mount {
        let unique = mask & MNT_ID_UNIQUE != 0;
        got |= if unique { MNT_ID_UNIQUE } else { MNT_ID };
        mnt_id = if unique {
            super::mounts::unique_id(&mount)
        } else {
            u64::from(mount.id)
        };
        if at_root {
            attributes |= ATTR_MOUNT_ROOT;
        }
    }
    let raw = RawStatx {
        mask: got,
        blksize: st.blksize,
        attributes,
        nlink: st.nlink as u32,
        uid: st.uid,
        gid: st.gid,
        mode: st.mode as u16,
        pad: 0,
        ino: st.ino,
        size: st.size,
        blocks: st.blocks,
        attributes_mask: ATTR_MOUNT_ROOT,
        times: [time(st.atime), time(st.btime), time(st.ctime), time(st.mtime)],
        rdev: dev_parts(st.rdev),
        dev: dev_parts(st.dev),
        mnt_id,
        dio: [0; 2],
        spare: [0; 12],
    };
    cx.put(buf.0, &raw)?;
    Ok(0)
}

fn put_statfs(cx: &mut Cx<'_>, at: u64, s: &StatFs, ro: bool) -> Io<u64> {
    const ST_VALID: u64 = 0x20;
    const ST_RELATIME: u64 = 0x1000;
    let flags = ST_VALID | ST_RELATIME | u64::from(ro);
    let raw: [u64; 15] = [
        s.kind, s.bsize, s.blocks, s.bfree, s.bavail, s.files, s.ffree, 0, s.namelen, s.frsize, flags, 0, 0,
        0, 0,
    ];
    cx.put(at, &raw)?;
    Ok(0)
}

/// statfs(2)
pub fn sys_statfs(cx: &mut Cx<'_>, path: Path, buf: Ptr) -> Io<u64> {
    let path = cx.path(path.0)?;
    let (s, ro) = walk::with(cx, AT_FDCWD, &path, true, |cx, t| {
        t.stat(cx)?;
        Ok((t.loc.mount.fs.statfs(cx, &t.loc.path)?, t.loc.mount.ro.get()))
    })?;
    put_statfs(cx, buf.0, &s, ro)
}

/// fstatfs(2)
pub fn sys_fstatfs(cx: &mut Cx<'_>, fd: Fd, buf: Ptr) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let st = crate::fs::fstat(cx, &open.file)?;
    let plain = |kind| StatFs {
        kind,
        bsize: 4096,
        namelen: 255,
        frsize: 4096,
        ..StatFs::default()
    };
    match st.mode & mode::FMT {
        mode::FIFO => return put_statfs(cx, buf.0, &plain(0x5049_5045), false),
        mode::SOCK => return put_statfs(cx, buf.0, &plain(0x534f_434b), false),
        0 => return put_statfs(cx, buf.0, &plain(0x0904_1934), false),
        _ => {}
    }
    let path = open.file.describe();
    let s = walk::with(cx, AT_FDCWD, &path, true, |cx, t| {
        Ok((t.loc.mount.fs.statfs(cx, &t.loc.path)?, t.loc.mount.ro.get()))
    });
    let (s, ro) = s.unwrap_or((plain(0x0102_1994), false));
    put_statfs(cx, buf.0, &s, ro)
}

fn do_access(cx: &mut Cx<'_>, dirfd: i32, path: u64, want: u32, flags: u32) -> Io<u64> {
    if want & !7 != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return err(Errno::EINVAL);
    }
    let mut creds = (**cx.task.creds.borrow()).clone();
    if flags & AT_EACCESS == 0 && (creds.ruid != creds.fsuid || creds.rgid != creds.fsgid) {
        creds.fsuid = creds.ruid;
        creds.fsgid = creds.rgid;
        // Capabilities count only if the real user is root.
        creds.caps[0] = if creds.ruid == 0 { creds.caps[1] } else { 0 };
    }
    let (st, ro) = match path_or_fd(cx, dirfd, path, flags)? {
        Arg::Path(p) => {
            let follow = flags & AT_SYMLINK_NOFOLLOW == 0;
            walk::with(cx, dirfd, &p, follow, |cx, t| {
                Ok((t.stat(cx)?, t.loc.mount.ro.get()))
            })?
        }
        Arg::Itself(Some(open)) => (crate::fs::fstat(cx, &open.file)?, false),
        Arg::Itself(None) => (stat_path(cx, AT_FDCWD, b".", true)?, false),
    };
    if want & perm::W != 0 && ro && matches!(st.mode & mode::FMT, mode::REG | mode::DIR | mode::LNK) {
        return err(Errno::EROFS);
    }
    perm::check(&creds, &st, want)?;
    Ok(0)
}

/// access(2)
pub fn sys_access(cx: &mut Cx<'_>, path: Path, want: Bits) -> Io<u64> {
    do_access(cx, AT_FDCWD, path.0, want.0 as u32, 0)
}

/// faccessat(2)
pub fn sys_faccessat(cx: &mut Cx<'_>, dirfd: Fd, path: Path, want: Bits) -> Io<u64> {
    do_access(cx, dirfd.0, path.0, want.0 as u32, 0)
}

/// faccessat2(2)
pub fn sys_faccessat2(cx: &mut Cx<'_>, dirfd: Fd, path: Path, want: Bits, flags: Bits) -> Io<u64> {
    do_access(cx, dirfd.0, path.0, want.0 as u32, flags.0 as u32)
}

fn do_readlink(cx: &mut Cx<'_>, dirfd: i32, path: u64, buf: u64, size: i32) -> Io<u64> {
    if size <= 0 {
        return err(Errno::EINVAL);
    }
    let p = cx.path(path)?;
    let text = if p.is_empty() {
        // An O_PATH descriptor of a symlink.
        if dirfd == AT_FDCWD {
            return err(Errno::ENOENT);
        }
        let open = cx.task.files().get(dirfd)?;
        let loc = match open.file.as_any().downcast_ref::<crate::fs::PathFile>() {
            Some(f) => f.place.loc(),
            None => return err(Errno::ENOENT),
        };
        link_text(cx, &loc)?
    } else {
        walk::with_name(cx, dirfd, &p, |cx, t| {
            if t.wants_dir() {
                // A slash means what the link leads to.
                t.stat(cx)?;
                return err(Errno::EINVAL);
            }
            link_text(cx, &t.loc)
        })?
    };
    let n = text.len().min(size as usize);
    cx.write(buf, &text[..n])?;
    Ok(n as u64)
}

fn link_text(cx: &mut Cx<'_>, loc: &crate::fs::Loc) -> Io<Vec<u8>> {
    Ok(match loc.mount.fs.readlink(cx, &loc.path)? {
        Link::Text(t) | Link::Place(_, t) | Link::Open(_, t) => t,
    })
}

/// readlink(2)
pub fn sys_readlink(cx: &mut Cx<'_>, path: Path, buf: Ptr, size: i32) -> Io<u64> {
    do_readlink(cx, AT_FDCWD, path.0, buf.0, size)
}

/// readlinkat(2)
pub fn sys_readlinkat(cx: &mut Cx<'_>, dirfd: Fd, path: Path, buf: Ptr, size: i32) -> Io<u64> {
    do_readlink(cx, dirfd.0, path.0, buf.0, size)
}
