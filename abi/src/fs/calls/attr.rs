//! chmod, chown, utimensat, truncate, umask.

use super::{Arg, path_or_fd};
use crate::args::{Bits, Fd, Path, Ptr};
use crate::cx::Cx;
use crate::fs::perm::{self, mode};
use crate::fs::walk::{self, AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use crate::fs::{DirFile, HostFile, How, PathFile};
use ftl_core::errno::Errno;
use ftl_core::file::{FileRef, SetAttr};
use ftl_core::io::{Io, Stop, err};
use ftl_core::platform::Stat;

/// Changes attributes of an open file. One of the read-only host tree is changed by its path, in
/// the writable layer.
pub fn set_open(cx: &mut Cx<'_>, f: &FileRef, attr: &SetAttr) -> Io<()> {
    let place = if let Some(d) = f.as_any().downcast_ref::<DirFile>() {
        Some(d.place.loc())
    } else {
        f.as_any().downcast_ref::<PathFile>().map(|p| p.place.loc())
    };
    if let Some(loc) = place {
        if loc.mount.ro.get() {
            return err(Errno::EROFS);
        }
        return loc.mount.fs.set_attr(cx, &loc.path, attr);
    }
    match f.set_attr(&mut cx.env, attr) {
        Err(Stop::Errno(Errno::EROFS)) if f.as_any().is::<HostFile>() => {
            let path = f.describe();
            walk::with(cx, AT_FDCWD, &path, true, |cx, t| {
                t.stat(cx)?;
                t.set_attr(cx, attr)
            })
        }
        r => r,
    }
}

/// Looks the file up, lets `make` decide, and applies what it says.
fn change(
    cx: &mut Cx<'_>,
    dirfd: i32,
    path: u64,
    flags: u32,
    make: impl Fn(&mut Cx<'_>, &Stat) -> Result<SetAttr, Errno>,
) -> Io<u64> {
    match path_or_fd(cx, dirfd, path, flags)? {
        Arg::Path(p) => walk::with(cx, dirfd, &p, flags & AT_SYMLINK_NOFOLLOW == 0, |cx, t| {
            let st = t.stat(cx)?;
            if t.open.is_none() {
                t.writable()?;
            }
            let a = make(cx, &st)?;
            if a != SetAttr::default() {
                t.set_attr(cx, &a)?;
            }
            Ok(0)
        }),
        Arg::Itself(Some(open)) => change_open(cx, &open.file, make),
        Arg::Itself(None) => walk::with(cx, AT_FDCWD, b".", true, |cx, t| {
            let st = t.stat(cx)?;
            t.writable()?;
            let a = make(cx, &st)?;
            t.set_attr(cx, &a)?;
            Ok(0)
        }),
    }
}

fn change_open(
    cx: &mut Cx<'_>,
    f: &FileRef,
    make: impl Fn(&mut Cx<'_>, &Stat) -> Result<SetAttr, Errno>,
) -> Io<u64> {
    let st = crate::fs::fstat(cx, f)?;
    let a = make(cx, &st)?;
    if a != SetAttr::default() {
        set_open(cx, f, &a)?;
    }
    Ok(0)
}

fn make_chmod(bits: u32) -> impl Fn(&mut Cx<'_>, &Stat) -> Result<SetAttr, Errno> {
    move |cx, st| {
        if perm::is_link(st) {
            return Err(Errno::EOPNOTSUPP);
        }
        perm::chmod(&cx.task.creds.borrow(), st, bits)
    }
}

/// chmod(2)
pub fn sys_chmod(cx: &mut Cx<'_>, path: Path, mode: u32) -> Io<u64> {
    change(cx, AT_FDCWD, path.0, 0, make_chmod(mode))
}

/// fchmod(2)
pub fn sys_fchmod(cx: &mut Cx<'_>, fd: Fd, mode: u32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    if open.flags.get() & crate::fdtable::oflag::O_PATH != 0 {
        return err(Errno::EBADF);
    }
    change_open(cx, &open.file, make_chmod(mode))
}

/// fchmodat(2)
pub fn sys_fchmodat(cx: &mut Cx<'_>, dirfd: Fd, path: Path, mode: u32) -> Io<u64> {
    change(cx, dirfd.0, path.0, 0, make_chmod(mode))
}

/// fchmodat2(2)
pub fn sys_fchmodat2(cx: &mut Cx<'_>, dirfd: Fd, path: Path, mode: u32, flags: Bits) -> Io<u64> {
    let flags = flags.0 as u32;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return err(Errno::EINVAL);
    }
    change(cx, dirfd.0, path.0, flags, make_chmod(mode))
}

fn make_chown(uid: u32, gid: u32) -> impl Fn(&mut Cx<'_>, &Stat) -> Result<SetAttr, Errno> {
    move |cx, st| perm::chown(&cx.task.creds.borrow(), st, uid, gid)
}

/// chown(2)
pub fn sys_chown(cx: &mut Cx<'_>, path: Path, uid: u32, gid: u32) -> Io<u64> {
    change(cx, AT_FDCWD, path.0, 0, make_chown(uid, gid))
}

/// lchown(2)
pub fn sys_lchown(cx: &mut Cx<'_>, path: Path, uid: u32, gid: u32) -> Io<u64> {
    change(cx, AT_FDCWD, path.0, AT_SYMLINK_NOFOLLOW, make_chown(uid, gid))
}

/// fchown(2)
pub fn sys_fchown(cx: &mut Cx<'_>, fd: Fd, uid: u32, gid: u32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    if open.flags.get() & crate::fdtable::oflag::O_PATH != 0 {
        return err(Errno::EBADF);
    }
    change_open(cx, &open.file, make_chown(uid, gid))
}

/// fchownat(2)
pub fn sys_fchownat(cx: &mut Cx<'_>, dirfd: Fd, path: Path, uid: u32, gid: u32, flags: Bits) -> Io<u64> {
    let flags = flags.0 as u32;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return err(Errno::EINVAL);
    }
    change(cx, dirfd.0, path.0, flags, make_chown(uid, gid))
}

/// A time to set.
#[derive(Clone, Copy, PartialEq)]
enum When {
    Now,
    Omit,
    At(i128),
}

fn do_utime(
    cx: &mut Cx<'_>,
    dirfd: i32,
    path: u64,
    times: [When; 2],
    flags: u32,
    fd_itself: bool,
) -> Io<u64> {
    let now = cx.env.realtime();
    let pick = |w: When| match w {
        When::Now => Some(now),
        When::Omit => None,
        When::At(t) => Some(t),
    };
    let make = |cx: &mut Cx<'_>, st: &Stat| {
        let c = cx.task.creds.borrow();
        if times == [When::Now, When::Now] {
            if perm::owner(&c, st).is_err() {
                perm::check(&c, st, perm::W)?;
            }
        } else if times != [When::Omit, When::Omit] {
            perm::owner(&c, st)?;
        }
        Ok(SetAttr {
            atime: pick(times[0]),
            mtime: pick(times[1]),
            ..SetAttr::default()
        })
    };
    if fd_itself {
        let open = cx.task.files().get(dirfd)?;
        if open.flags.get() & crate::fdtable::oflag::O_PATH != 0 {
            return err(Errno::EBADF);
        }
        return change_open(cx, &open.file, make);
    }
    change(cx, dirfd, path, flags, make)
}

/// utimensat(2)
pub fn sys_utimensat(cx: &mut Cx<'_>, dirfd: Fd, path: Path, times: Ptr, flags: Bits) -> Io<u64> {
    const UTIME_NOW: i64 = 0x3fff_ffff;
    const UTIME_OMIT: i64 = 0x3fff_fffe;
    let flags = flags.0 as u32;
    let mut when = [When::Now; 2];
    if !times.is_null() {
        let raw: [i64; 4] = cx.get(times.0)?;
        for (i, w) in when.iter_mut().enumerate() {
            *w = match raw[i * 2 + 1] {
                UTIME_NOW => When::Now,
                UTIME_OMIT => When::Omit,
                n if (0..1_000_000_000).contains(&n) => {
                    When::At(i128::from(raw[i * 2]) * 1_000_000_000 + i128::from(n))
                }
                _ => return err(Errno::EINVAL),
            };
        }
        if when == [When::Omit; 2] {
            return Ok(0);
        }
    }
    if path.0 == 0 && dirfd.0 != AT_FDCWD {
        if flags != 0 {
            return err(Errno::EINVAL);
        }
        return do_utime(cx, dirfd.0, 0, when, 0, true);
    }
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return err(Errno::EINVAL);
    }
    do_utime(cx, dirfd.0, path.0, when, flags, false)
}

fn timevals(cx: &mut Cx<'_>, times: Ptr) -> Io<[When; 2]> {
    if times.is_null() {
        return Ok([When::Now; 2]);
    }
    let raw: [i64; 4] = cx.get(times.0)?;
    if !(0..1_000_000).contains(&raw[1]) || !(0..1_000_000).contains(&raw[3]) {
        return err(Errno::EINVAL);
    }
    let t = |s: i64, us: i64| When::At(i128::from(s) * 1_000_000_000 + i128::from(us) * 1000);
    Ok([t(raw[0], raw[1]), t(raw[2], raw[3])])
}

/// utimes(2)
pub fn sys_utimes(cx: &mut Cx<'_>, path: Path, times: Ptr) -> Io<u64> {
    let when = timevals(cx, times)?;
    do_utime(cx, AT_FDCWD, path.0, when, 0, false)
}

/// futimesat(2)
pub fn sys_futimesat(cx: &mut Cx<'_>, dirfd: Fd, path: Path, times: Ptr) -> Io<u64> {
    let when = timevals(cx, times)?;
    do_utime(cx, dirfd.0, path.0, when, 0, path.0 == 0 && dirfd.0 != AT_FDCWD)
}

/// utime(2)
pub fn sys_utime(cx: &mut Cx<'_>, path: Path, times: Ptr) -> Io<u64> {
    let when = if times.is_null() {
        [When::Now; 2]
    } else {
        let raw: [i64; 2] = cx.get(times.0)?;
        raw.map(|s| When::At(i128::from(s) * 1_000_000_000))
    };
    do_utime(cx, AT_FDCWD, path.0, when, 0, false)
}

/// A file may not grow past RLIMIT_FSIZE.
pub fn check_fsize(cx: &Cx<'_>, len: u64) -> Result<(), Errno> {
    if len > cx.task.process().rlimits.borrow()[super::RLIMIT_FSIZE].0 {
        crate::fs::calls::rw::too_large(cx);
        return Err(Errno::EFBIG);
    }
    Ok(())
}

/// truncate(2)
pub fn sys_truncate(cx: &mut Cx<'_>, path: Path, len: i64) -> Io<u64> {
    let len = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    let p = cx.path(path.0)?;
    let how = How {
        flags: crate::fdtable::oflag::O_WRONLY,
        mode: 0,
    };
    walk::with(cx, AT_FDCWD, &p, true, |cx, t| {
        let st = t.stat(cx)?;
        match st.mode & mode::FMT {
            mode::DIR => return err(Errno::EISDIR),
            mode::REG => {}
            _ => return err(Errno::EINVAL),
        }
        if t.open.is_none() {
            t.writable()?;
        }
        perm::check(&cx.task.creds.borrow(), &st, perm::W)?;
        if len > st.size {
            check_fsize(cx, len)?;
        }
        let f = match &t.open {
            Some(f) => f.clone(),
            None => t.loc.fs().open(cx, &t.loc, &how)?,
        };
        f.truncate(&mut cx.env, len)?;
        Ok(0)
    })
}

/// ftruncate(2)
pub fn sys_ftruncate(cx: &mut Cx<'_>, fd: Fd, len: i64) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    if open.flags.get() & crate::fdtable::oflag::O_PATH != 0 {
        return err(Errno::EBADF);
    }
    let len = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    if !open.writable() {
        return err(Errno::EINVAL);
    }
    if len > 0 && cx.task.process().rlimits.borrow()[super::RLIMIT_FSIZE].0 != u64::MAX {
        let st = crate::fs::fstat(cx, &open.file)?;
        if len > st.size {
            check_fsize(cx, len)?;
        }
    }
    open.file.truncate(&mut cx.env, len)?;
    Ok(0)
}

/// fallocate(2)
pub fn sys_fallocate(cx: &mut Cx<'_>, fd: Fd, how: i32, offset: i64, len: i64) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let (Ok(o), Ok(l)) = (u64::try_from(offset), u64::try_from(len)) else {
        return err(Errno::EINVAL);
    };
    if l == 0 {
        return err(Errno::EINVAL);
    }
    if how & !0x7f != 0 {
        return err(Errno::EOPNOTSUPP);
    }
    if !open.writable() {
        return err(Errno::EBADF);
    }
    let st = crate::fs::fstat(cx, &open.file)?;
    match st.mode & mode::FMT {
        mode::REG => {}
        mode::DIR => return err(Errno::EISDIR),
        mode::FIFO => return err(Errno::ESPIPE),
        _ => return err(Errno::ENODEV),
    }
    if o.checked_add(l).is_none_or(|e| e > i64::MAX as u64) {
        return err(Errno::EFBIG);
    }
    if how & 1 == 0 && o + l > st.size {
        check_fsize(cx, o + l)?;
    }
    open.file.allocate(&mut cx.env, how, o, l)?;
    Ok(0)
}

/// umask(2)
pub fn sys_umask(cx: &mut Cx<'_>, mask: u32) -> Io<u64> {
    Ok(u64::from(cx.task.fs.borrow().umask.replace(mask & 0o777)))
}
