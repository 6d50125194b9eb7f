//! getdents, chdir, getcwd, chroot.

use crate::args::{Fd, Path, Ptr};
use crate::cx::Cx;
use crate::fs::walk::{self, AT_FDCWD};
use crate::fs::{DirFile, Loc, perm};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};

/// Packs one entry; `old` is the layout of getdents.
fn pack(out: &mut Vec<u8>, ino: u64, next: u64, kind: u8, name: &[u8], old: bool) {
    let head = if old { 18 } else { 19 };
    let len = (head + name.len() + 1 + usize::from(old)).next_multiple_of(8);
    let at = out.len();
    out.extend_from_slice(&ino.to_le_bytes());
    out.extend_from_slice(&next.to_le_bytes());
    out.extend_from_slice(&(len as u16).to_le_bytes());
    if !old {
        out.push(kind);
    }
    out.extend_from_slice(name);
    out.resize(at + len, 0);
    if old {
        out[at + len - 1] = kind;
    }
}

fn do_getdents(cx: &mut Cx<'_>, fd: i32, buf: u64, size: u32, old: bool) -> Io<u64> {
    let open = cx.task.files().get(fd)?;
    if open.flags.get() & crate::fdtable::oflag::O_PATH != 0 {
        return err(Errno::EBADF);
    }
    let Some(dir) = open.file.as_any().downcast_ref::<DirFile>() else {
        return err(Errno::ENOTDIR);
    };
    let pos = open.pos.get();
    let list = dir.entries(cx, pos)?;
    let mut out = Vec::new();
    let mut next = pos;
    for e in list.iter().skip(usize::try_from(pos).unwrap_or(usize::MAX)) {
        let before = out.len();
        pack(&mut out, e.ino, next + 1, e.kind, &e.name, old);
        if out.len() > size as usize {
            out.truncate(before);
            if next == pos {
                return err(Errno::EINVAL);
            }
            break;
        }
        next += 1;
    }
    cx.write(buf, &out)?;
    open.pos.set(next);
    Ok(out.len() as u64)
}

/// getdents(2)
pub fn sys_getdents(cx: &mut Cx<'_>, fd: Fd, buf: Ptr, size: u32) -> Io<u64> {
    do_getdents(cx, fd.0, buf.0, size, true)
}

/// getdents64(2)
pub fn sys_getdents64(cx: &mut Cx<'_>, fd: Fd, buf: Ptr, size: u32) -> Io<u64> {
    do_getdents(cx, fd.0, buf.0, size, false)
}

/// A directory that the caller may enter.
pub fn enterable(cx: &mut Cx<'_>, path: &[u8]) -> Io<Loc> {
    walk::with(cx, AT_FDCWD, path, true, |cx, t| {
        let st = t.stat(cx)?;
        if !perm::is_dir(&st) {
            return err(Errno::ENOTDIR);
        }
        perm::check(&cx.task.creds.borrow(), &st, perm::X)?;
        Ok(t.loc.clone())
    })
}

/// chdir(2)
pub fn sys_chdir(cx: &mut Cx<'_>, path: Path) -> Io<u64> {
    let p = cx.path(path.0)?;
    let loc = enterable(cx, &p)?;
    let place = cx.k.fs.hold(&loc);
    *cx.task.fs.borrow().cwd.borrow_mut() = place;
    Ok(0)
}

/// fchdir(2)
pub fn sys_fchdir(cx: &mut Cx<'_>, fd: Fd) -> Io<u64> {
    let place = super::open::directory(cx, fd.0)?;
    if !place.gone.get() {
        let loc = place.loc();
        let st = loc.mount.fs.stat(cx, &loc.path)?;
        perm::check(&cx.task.creds.borrow(), &st, perm::X)?;
    }
    *cx.task.fs.borrow().cwd.borrow_mut() = place;
    Ok(0)
}

/// getcwd(2): the length with its NUL.
pub fn sys_getcwd(cx: &mut Cx<'_>, buf: Ptr, size: u64) -> Io<u64> {
    let fs = cx.task.fs.borrow().clone();
    if fs.cwd.borrow().gone.get() {
        return err(Errno::ENOENT);
    }
    let mut path = fs.cwd_path();
    path.push(0);
    if path.len() > 4096 {
        return err(Errno::ENAMETOOLONG);
    }
    if (path.len() as u64) > size {
        return err(Errno::ERANGE);
    }
    cx.write(buf.0, &path)?;
    Ok(path.len() as u64)
}

/// chroot(2)
pub fn sys_chroot(cx: &mut Cx<'_>, path: Path) -> Io<u64> {
    let p = cx.path(path.0)?;
    let loc = enterable(cx, &p)?;
    if !perm::capable(&cx.task.creds.borrow(), 18) {
        return err(Errno::EPERM);
    }
    let place = cx.k.fs.hold(&loc);
    *cx.task.fs.borrow().root.borrow_mut() = place;
    Ok(0)
}
