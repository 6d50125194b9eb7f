//! Names: mkdir, rmdir, unlink, rename, link, symlink, mknod.

use super::{Arg, path_or_fd};
use crate::args::{Bits, Fd, Path};
use crate::cx::Cx;
use crate::fs::inotify::event;
use crate::fs::perm::{self, mode};
use crate::fs::walk::{self, AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, Last, Target};
use crate::fs::{Loc, is_within};
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, Stop, err};
use std::rc::Rc;

/// A name that is to be made: nothing may be there, and the mount must allow it.
pub(crate) fn free_name(cx: &mut Cx<'_>, t: &Target, dir: bool) -> Io<()> {
    if t.last != Last::Name || t.loc.path.is_empty() {
        return err(Errno::EEXIST);
    }
    if t.slash && !dir {
        // Something there: EEXIST; else a directory was meant.
        return match t.loc.mount.fs.stat(cx, &t.loc.path) {
            Ok(_) => err(Errno::EEXIST),
            Err(Stop::Errno(Errno::ENOENT)) => err(Errno::ENOENT),
            Err(e) => Err(e),
        };
    }
    if t.loc.mount.ro.get() {
        return match t.loc.mount.fs.stat(cx, &t.loc.path) {
            Ok(_) => err(Errno::EEXIST),
            Err(Stop::Errno(Errno::ENOENT)) => err(Errno::EROFS),
            Err(e) => Err(e),
        };
    }
    Ok(())
}

/// Watchers of the directory, and of what the name stood for, are told.
pub(crate) fn told(cx: &Cx<'_>, loc: &Loc, mask: u32) {
    if cx.k.fs.inotify.any() {
        crate::fs::inotify::tell_path(cx.k, &loc.full(), mask);
    }
}

fn do_mkdir(cx: &mut Cx<'_>, dirfd: i32, path: u64, bits: u32) -> Io<u64> {
    let p = cx.path(path)?;
    let bits = bits & 0o1777 & !cx.task.fs.borrow().umask.get();
    // A trailing slash does not mean "follow" here.
    let p = trim(&p);
    walk::with_name(cx, dirfd, p, |cx, t| {
        free_name(cx, t, true)?;
        t.loc.mount.fs.mkdir(cx, &t.loc.path, bits)?;
        told(cx, &t.loc, event::CREATE | event::ISDIR);
        Ok(0)
    })
}

fn trim(p: &[u8]) -> &[u8] {
    let mut end = p.len();
    while end > 1 && p[end - 1] == b'/' {
        end -= 1;
    }
    &p[..end]
}

/// mkdir(2)
pub fn sys_mkdir(cx: &mut Cx<'_>, path: Path, mode: u32) -> Io<u64> {
    do_mkdir(cx, AT_FDCWD, path.0, mode)
}

/// mkdirat(2)
pub fn sys_mkdirat(cx: &mut Cx<'_>, dirfd: Fd, path: Path, mode: u32) -> Io<u64> {
    do_mkdir(cx, dirfd.0, path.0, mode)
}

fn do_mknod(cx: &mut Cx<'_>, dirfd: i32, path: u64, m: u32, dev: u64) -> Io<u64> {
    let kind = if m & mode::FMT == 0 {
        mode::REG
    } else {
        m & mode::FMT
    };
    let p = cx.path(path)?;
    match kind {
        mode::REG | mode::FIFO | mode::SOCK => {}
        mode::CHR | mode::BLK => {
            if !perm::capable(&cx.task.creds.borrow(), 27) {
                return refuse_device(cx, dirfd, &p);
            }
        }
        mode::DIR => return err(Errno::EPERM),
        _ => return err(Errno::EINVAL),
    }
    make_node(cx, dirfd, &p, kind | m & 0o7777, dev)?;
    Ok(0)
}

/// EPERM, unless the name could not be made anyway.
fn refuse_device(cx: &mut Cx<'_>, dirfd: i32, path: &[u8]) -> Io<u64> {
    walk::with_name(cx, dirfd, path, |cx, t| {
        free_name(cx, t, false)?;
        match t.loc.mount.fs.stat(cx, &t.loc.path) {
            Ok(_) => return err(Errno::EEXIST),
            Err(Stop::Errno(Errno::ENOENT)) => {}
            Err(e) => return Err(e),
        }
        let dir = t.loc.mount.fs.stat(cx, crate::fs::split(&t.loc.path).0)?;
        perm::check(&cx.task.creds.borrow(), &dir, perm::W | perm::X)?;
        err(Errno::EPERM)
    })
}

/// Makes a node of any type but directory and symlink, under the umask.
fn make_node(cx: &mut Cx<'_>, dirfd: i32, path: &[u8], m: u32, dev: u64) -> Io<()> {
    let m = m & !cx.task.fs.borrow().umask.get();
    walk::with_name(cx, dirfd, path, |cx, t| {
        free_name(cx, t, false)?;
        t.loc.mount.fs.mknod(cx, &t.loc.path, m, dev)?;
        told(cx, &t.loc, event::CREATE);
        Ok(())
    })
}

/// mknod(2)
pub fn sys_mknod(cx: &mut Cx<'_>, path: Path, mode: u32, dev: u64) -> Io<u64> {
    do_mknod(cx, AT_FDCWD, path.0, mode, dev)
}

/// mknodat(2)
pub fn sys_mknodat(cx: &mut Cx<'_>, dirfd: Fd, path: Path, mode: u32, dev: u64) -> Io<u64> {
    do_mknod(cx, dirfd.0, path.0, mode, dev)
}

fn do_unlink(cx: &mut Cx<'_>, dirfd: i32, path: u64) -> Io<u64> {
    let p = cx.path(path)?;
    walk::with_name(cx, dirfd, &p, |cx, t| {
        if t.last != Last::Name || t.loc.path.is_empty() {
            return err(Errno::EISDIR);
        }
        if t.slash {
            let st = t.loc.mount.fs.stat(cx, &t.loc.path)?;
            return err(if perm::is_dir(&st) {
                Errno::EISDIR
            } else {
                Errno::ENOTDIR
            });
        }
        t.writable()?;
        if t.loc.mount.busy(&t.loc.path) {
            return err(Errno::EISDIR);
        }
        t.loc.mount.fs.unlink(cx, &t.loc.path)?;
        told(cx, &t.loc, event::DELETE);
        Ok(0)
    })
}

fn do_rmdir(cx: &mut Cx<'_>, dirfd: i32, path: u64) -> Io<u64> {
    let p = cx.path(path)?;
    let p = trim(&p);
    walk::with_name(cx, dirfd, p, |cx, t| {
        match t.last {
            Last::Dot => return err(Errno::EINVAL),
            Last::DotDot => return err(Errno::ENOTEMPTY),
            Last::Root => return err(Errno::EBUSY),
            Last::Name => {}
        }
        t.writable()?;
        if t.loc.path.is_empty() || t.loc.mount.busy(&t.loc.path) {
            return err(Errno::EBUSY);
        }
        let st = if cx.k.fs.is_held(&t.loc) {
            t.loc.mount.fs.stat(cx, &t.loc.path).ok()
        } else {
            None
        };
        t.loc.mount.fs.rmdir(cx, &t.loc.path)?;
        told(cx, &t.loc, event::DELETE | event::ISDIR);
        cx.k.fs.removed(&t.loc.mount, &t.loc.path, st);
        Ok(0)
    })
}

/// unlink(2)
pub fn sys_unlink(cx: &mut Cx<'_>, path: Path) -> Io<u64> {
    do_unlink(cx, AT_FDCWD, path.0)
}

/// rmdir(2)
pub fn sys_rmdir(cx: &mut Cx<'_>, path: Path) -> Io<u64> {
    do_rmdir(cx, AT_FDCWD, path.0)
}

/// unlinkat(2)
pub fn sys_unlinkat(cx: &mut Cx<'_>, dirfd: Fd, path: Path, flags: Bits) -> Io<u64> {
    match flags.0 as u32 {
        0 => do_unlink(cx, dirfd.0, path.0),
        AT_REMOVEDIR => do_rmdir(cx, dirfd.0, path.0),
        _ => err(Errno::EINVAL),
    }
}

fn do_symlink(cx: &mut Cx<'_>, target: u64, dirfd: i32, path: u64) -> Io<u64> {
    let target = cx.path(target)?;
    if target.is_empty() {
        return err(Errno::ENOENT);
    }
    let p = cx.path(path)?;
    walk::with_name(cx, dirfd, &p, |cx, t| {
        free_name(cx, t, false)?;
        t.loc.mount.fs.symlink(cx, &target, &t.loc.path)?;
        told(cx, &t.loc, event::CREATE);
        Ok(0)
    })
}

/// symlink(2)
pub fn sys_symlink(cx: &mut Cx<'_>, target: Path, path: Path) -> Io<u64> {
    do_symlink(cx, target.0, AT_FDCWD, path.0)
}

/// symlinkat(2)
pub fn sys_symlinkat(cx: &mut Cx<'_>, target: Path, dirfd: Fd, path: Path) -> Io<u64> {
    do_symlink(cx, target.0, dirfd.0, path.0)
}

/// What a hard link is made of.
enum Old {
    At(Loc),
    Open(FileRef),
}

fn do_link(cx: &mut Cx<'_>, fd1: i32, path1: u64, fd2: i32, path2: u64, flags: u32) -> Io<u64> {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return err(Errno::EINVAL);
    }
    let old = match path_or_fd(cx, fd1, path1, flags)? {
        Arg::Path(p) => walk::with(cx, fd1, &p, flags & AT_SYMLINK_FOLLOW != 0, |cx, t| {
            let st = t.stat(cx)?;
            if perm::is_dir(&st) {
                return err(Errno::EPERM);
            }
            Ok(match &t.open {
                Some(f) => Old::Open(f.clone()),
                None => Old::At(t.loc.clone()),
            })
        })?,
        Arg::Itself(Some(open)) => match open.file.as_any().downcast_ref::<crate::fs::PathFile>() {
            Some(p) => Old::At(p.place.loc()),
            None => Old::Open(open.file.clone()),
        },
        Arg::Itself(None) => return err(Errno::EPERM),
    };
    let p2 = cx.path(path2)?;
    walk::with_name(cx, fd2, &p2, |cx, t| {
        free_name(cx, t, false)?;
        match &old {
            Old::At(loc) if !Rc::ptr_eq(&loc.mount, &t.loc.mount) => {
                match t.loc.mount.fs.stat(cx, &t.loc.path) {
                    Ok(_) => err(Errno::EEXIST),
                    Err(Stop::Errno(Errno::ENOENT)) => err(Errno::EXDEV),
                    Err(e) => Err(e),
                }
            }
            Old::At(loc) => t.loc.mount.fs.link(cx, &loc.path, &t.loc.path),
            Old::Open(f) => t.loc.mount.fs.link_open(cx, f, &t.loc.path),
        }?;
        told(cx, &t.loc, event::CREATE);
        Ok(0)
    })
}

/// link(2)
pub fn sys_link(cx: &mut Cx<'_>, old: Path, new: Path) -> Io<u64> {
    do_link(cx, AT_FDCWD, old.0, AT_FDCWD, new.0, 0)
}

/// linkat(2)
pub fn sys_linkat(cx: &mut Cx<'_>, fd1: Fd, old: Path, fd2: Fd, new: Path, flags: Bits) -> Io<u64> {
    do_link(cx, fd1.0, old.0, fd2.0, new.0, flags.0 as u32)
}

fn do_rename(cx: &mut Cx<'_>, fd1: i32, path1: u64, fd2: i32, path2: u64, flags: u32) -> Io<u64> {
    const NOREPLACE: u32 = 1;
    const EXCHANGE: u32 = 2;
    const WHITEOUT: u32 = 4;
    if flags & !(NOREPLACE | EXCHANGE | WHITEOUT) != 0
        || flags & EXCHANGE != 0 && flags & (NOREPLACE | WHITEOUT) != 0
    {
        return err(Errno::EINVAL);
    }
    if flags & WHITEOUT != 0 {
        return err(Errno::EINVAL);
    }
    let p1 = cx.path(path1)?;
    let p2 = cx.path(path2)?;
    let (t1, t2) = (trim(&p1), trim(&p2));
    let (slash1, slash2) = (t1.len() < p1.len(), t2.len() < p2.len());
    walk::with_name(cx, fd1, t1, |cx, a| {
        let a = (a.loc.clone(), a.last);
        // Symlinks on the way to the old name show first, so that both walks end.
        let st = match a.0.mount.fs.stat(cx, &a.0.path) {
            Err(Stop::Errno(Errno::ELOOP)) => return err(Errno::ELOOP),
            r => r,
        };
        let r = walk::with_name(cx, fd2, t2, |cx, b| {
            rename_to(cx, &a, &st, b, (slash1, slash2), flags)
        });
        match r {
            // It belongs to the second path and must not restart the first.
            Err(Stop::Errno(Errno::ELOOP)) => Ok(Err(Errno::ELOOP)),
            Err(e) => Err(e),
            Ok(()) => Ok(Ok(())),
        }
    })??;
    Ok(0)
}

fn rename_to(
    cx: &mut Cx<'_>,
    (from, last): &(Loc, Last),
    st: &Io<ftl_core::platform::Stat>,
    b: &Target,
    (slash1, slash2): (bool, bool),
    flags: u32,
) -> Io<()> {
    if *last != Last::Name || b.last != Last::Name {
        return err(Errno::EBUSY);
    }
    let to = &b.loc;
    if from.path.is_empty() || to.path.is_empty() || from.mount.busy(&from.path) || to.mount.busy(&to.path) {
        return err(Errno::EBUSY);
    }
    if !Rc::ptr_eq(&from.mount, &to.mount) {
        return err(Errno::EXDEV);
    }
    if let Err(Stop::Errno(Errno::ELOOP)) = to.mount.fs.stat(cx, &to.path) {
        return err(Errno::ELOOP);
    }
    b.writable()?;
    let st = match st {
        Ok(st) => *st,
        Err(Stop::Errno(e)) => return err(*e),
        Err(_) => return err(Errno::EIO),
    };
    let dir = perm::is_dir(&st);
    if !dir && (slash1 || slash2 && flags & 2 == 0) {
        return err(Errno::ENOTDIR);
    }
    if dir && from.path != to.path && is_within(&to.path, &from.path) {
        return err(Errno::EINVAL);
    }
    let victim = if cx.k.fs.is_held(to) {
        to.mount.fs.stat(cx, &to.path).ok()
    } else {
        None
    };
    to.mount.fs.rename(cx, &from.path, &to.path, flags)?;
    if cx.k.fs.inotify.any() {
        crate::fs::inotify::renamed(cx.k, &from.full(), &to.full(), dir);
    }
    if flags & 2 != 0 {
        cx.k.fs.exchanged(&from.mount, &from.path, &to.path);
    } else if dir {
        cx.k.fs.removed(&to.mount, &to.path, victim);
        cx.k.fs.moved(&from.mount, &from.path, &to.path);
    }
    Ok(())
}

/// rename(2)
pub fn sys_rename(cx: &mut Cx<'_>, old: Path, new: Path) -> Io<u64> {
    do_rename(cx, AT_FDCWD, old.0, AT_FDCWD, new.0, 0)
}

/// renameat(2)
pub fn sys_renameat(cx: &mut Cx<'_>, fd1: Fd, old: Path, fd2: Fd, new: Path) -> Io<u64> {
    do_rename(cx, fd1.0, old.0, fd2.0, new.0, 0)
}

/// renameat2(2)
pub fn sys_renameat2(cx: &mut Cx<'_>, fd1: Fd, old: Path, fd2: Fd, new: Path, flags: Bits) -> Io<u64> {
    do_rename(cx, fd1.0, old.0, fd2.0, new.0, flags.0 as u32)
}
