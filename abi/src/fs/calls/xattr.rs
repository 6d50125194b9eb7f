//! Extended attributes: user.* and, for root, trusted.*; security.* can be read.

use crate::args::{Bits, Fd, Path, Ptr};
use crate::cx::Cx;
use crate::fdtable::oflag;
use crate::fs::memfile::MemFile;
use crate::fs::perm::{self, mode};
use crate::fs::walk::{self, AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::platform::{Stat, Xattr};

const CAP_SYS_ADMIN: u32 = 21;

/// Which file a call names.
#[derive(Clone, Copy)]
enum On {
    Path(u64, bool),
    At(i32, u64, bool),
    Fd(i32),
}

/// Finds the file and does `op` on it once `name` is allowed.
fn act(cx: &mut Cx<'_>, on: On, name: Option<(&[u8], bool)>, op: &Xattr<'_>) -> Io<Vec<u8>> {
    let (dir, path, follow) = match on {
        On::Path(p, follow) => (AT_FDCWD, cx.path(p)?, follow),
        On::At(dir, p, follow) => (dir, cx.path(p)?, follow),
        On::Fd(fd) => {
            let open = cx.task.files().get(fd)?;
            if open.flags.get() & oflag::O_PATH != 0 {
                return err(Errno::EBADF);
            }
            if let Some(m) = open.file.as_any().downcast_ref::<MemFile>() {
                if let Some((name, write)) = name {
                    allowed(cx, &m.inode.stat(), name, write)?;
                }
                return m.inode.xattr(&mut cx.env, op);
            }
            let p = open.file.describe();
            if p.first() != Some(&b'/') {
                return err(Errno::EOPNOTSUPP);
            }
            (AT_FDCWD, p, true)
        }
    };
    walk::with(cx, dir, &path, follow, |cx, t| {
        let st = t.stat(cx)?;
        if let Some((name, write)) = name {
            if write {
                t.writable()?;
            }
            allowed(cx, &st, name, write)?;
        }
        t.loc.mount.fs.xattr(cx, &t.loc.path, op)
    })
}

fn name_of(cx: &mut Cx<'_>, at: u64) -> Io<Vec<u8>> {
    match cx.env.plat.read_cstr(at, 256) {
        Ok(Some(n)) if n.is_empty() => err(Errno::ERANGE),
        Ok(Some(n)) => Ok(n),
        Ok(None) => err(Errno::ERANGE),
        Err(_) => err(Errno::EFAULT),
    }
}

fn allowed(cx: &Cx<'_>, st: &Stat, name: &[u8], write: bool) -> Io<()> {
    let c = cx.task.creds.borrow();
    if name.starts_with(b"user.") {
        if !matches!(st.mode & mode::FMT, mode::REG | mode::DIR) {
            return err(if write { Errno::EPERM } else { Errno::ENODATA });
        }
        perm::check(&c, st, if write { perm::W } else { perm::R })?;
        return Ok(());
    }
    if name.starts_with(b"trusted.") {
        return if c.capable(CAP_SYS_ADMIN) {
            Ok(())
        } else {
            err(if write { Errno::EPERM } else { Errno::ENODATA })
        };
    }
    if name.starts_with(b"security.") && !write {
        return Ok(());
    }
    err(Errno::EOPNOTSUPP)
}

fn set(cx: &mut Cx<'_>, on: On, name: u64, value: u64, size: u64, flags: i32) -> Io<u64> {
    if flags & !3 != 0 || flags == 3 {
        return err(Errno::EINVAL);
    }
    let name = name_of(cx, name)?;
    if size > 65536 {
        return err(Errno::E2BIG);
    }
    let mut bytes = vec![0; size as usize];
    cx.read(value, &mut bytes)?;
    act(cx, on, Some((&name, true)), &Xattr::Set(&name, &bytes, flags))?;
    Ok(0)
}

fn give(cx: &mut Cx<'_>, bytes: &[u8], at: u64, size: u64) -> Io<u64> {
    if size > 0 {
        if bytes.len() as u64 > size {
            return err(Errno::ERANGE);
        }
        cx.write(at, bytes)?;
    }
    Ok(bytes.len() as u64)
}

fn get(cx: &mut Cx<'_>, on: On, name: u64, value: u64, size: u64) -> Io<u64> {
    let name = name_of(cx, name)?;
    let bytes = act(cx, on, Some((&name, false)), &Xattr::Get(&name))?;
    give(cx, &bytes, value, size)
}

fn list(cx: &mut Cx<'_>, on: On, at: u64, size: u64) -> Io<u64> {
    let all = act(cx, on, None, &Xattr::List)?;
    let root = cx.task.creds.borrow().capable(CAP_SYS_ADMIN);
    let mut out = Vec::new();
    for name in all
        .split_inclusive(|b| *b == 0)
        .filter(|n| root || !n.starts_with(b"trusted."))
    {
        out.extend_from_slice(name);
    }
    give(cx, &out, at, size)
}

fn remove(cx: &mut Cx<'_>, on: On, name: u64) -> Io<u64> {
    let name = name_of(cx, name)?;
    act(cx, on, Some((&name, true)), &Xattr::Remove(&name))?;
    Ok(0)
}

/// setxattr(2)
pub fn sys_setxattr(cx: &mut Cx<'_>, path: Path, name: Ptr, value: Ptr, size: u64, flags: i32) -> Io<u64> {
    set(cx, On::Path(path.0, true), name.0, value.0, size, flags)
}

/// lsetxattr(2)
pub fn sys_lsetxattr(cx: &mut Cx<'_>, path: Path, name: Ptr, value: Ptr, size: u64, flags: i32) -> Io<u64> {
    set(cx, On::Path(path.0, false), name.0, value.0, size, flags)
}

/// fsetxattr(2)
pub fn sys_fsetxattr(cx: &mut Cx<'_>, fd: Fd, name: Ptr, value: Ptr, size: u64, flags: i32) -> Io<u64> {
    set(cx, On::Fd(fd.0), name.0, value.0, size, flags)
}

/// getxattr(2)
pub fn sys_getxattr(cx: &mut Cx<'_>, path: Path, name: Ptr, value: Ptr, size: u64) -> Io<u64> {
    get(cx, On::Path(path.0, true), name.0, value.0, size)
}

/// lgetxattr(2)
pub fn sys_lgetxattr(cx: &mut Cx<'_>, path: Path, name: Ptr, value: Ptr, size: u64) -> Io<u64> {
    get(cx, On::Path(path.0, false), name.0, value.0, size)
}

/// fgetxattr(2)
pub fn sys_fgetxattr(cx: &mut Cx<'_>, fd: Fd, name: Ptr, value: Ptr, size: u64) -> Io<u64> {
    get(cx, On::Fd(fd.0), name.0, value.0, size)
}

/// listxattr(2)
pub fn sys_listxattr(cx: &mut Cx<'_>, path: Path, at: Ptr, size: u64) -> Io<u64> {
    list(cx, On::Path(path.0, true), at.0, size)
}

/// llistxattr(2)
pub fn sys_llistxattr(cx: &mut Cx<'_>, path: Path, at: Ptr, size: u64) -> Io<u64> {
    list(cx, On::Path(path.0, false), at.0, size)
}

/// flistxattr(2)
pub fn sys_flistxattr(cx: &mut Cx<'_>, fd: Fd, at: Ptr, size: u64) -> Io<u64> {
    list(cx, On::Fd(fd.0), at.0, size)
}

/// removexattr(2)
pub fn sys_removexattr(cx: &mut Cx<'_>, path: Path, name: Ptr) -> Io<u64> {
    remove(cx, On::Path(path.0, true), name.0)
}

/// lremovexattr(2)
pub fn sys_lremovexattr(cx: &mut Cx<'_>, path: Path, name: Ptr) -> Io<u64> {
    remove(cx, On::Path(path.0, false), name.0)
}

/// fremovexattr(2)
pub fn sys_fremovexattr(cx: &mut Cx<'_>, fd: Fd, name: Ptr) -> Io<u64> {
    remove(cx, On::Fd(fd.0), name.0)
}

/// The file that a directory descriptor, a path and AT_* flags name.
fn at(cx: &mut Cx<'_>, dir: Fd, path: u64, flags: Bits) -> Result<On, Errno> {
    let flags = flags.0 as u32;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    // A null path is an empty one (getname_maybe_null).
    let empty = flags & AT_EMPTY_PATH != 0 && (path == 0 || cx.path(path)?.is_empty());
    Ok(match (empty, dir.0) {
        (true, fd) if fd != AT_FDCWD => On::Fd(fd),
        _ => On::At(dir.0, path, flags & AT_SYMLINK_NOFOLLOW == 0),
    })
}

/// struct xattr_args: value, size, flags. A longer one of a later kernel must be zero behind.
fn xattr_args(cx: &mut Cx<'_>, args: Ptr, size: u64) -> Result<(u64, u64, i32), Errno> {
    if size < 16 {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let mut raw = vec![0; size as usize];
    cx.read(args.0, &mut raw)?;
    if raw[16..].iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG);
    }
    let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| raw[i + k]));
    Ok((word(0), word(8) & 0xffff_ffff, (word(8) >> 32) as i32))
}

/// setxattrat(2)
pub fn sys_setxattrat(
    cx: &mut Cx<'_>,
    dir: Fd,
    path: Path,
    flags: Bits,
    name: Ptr,
    args: Ptr,
    size: u64,
) -> Io<u64> {
    let (value, len, how) = xattr_args(cx, args, size)?;
    let on = at(cx, dir, path.0, flags)?;
    set(cx, on, name.0, value, len, how)
}

/// getxattrat(2)
pub fn sys_getxattrat(
    cx: &mut Cx<'_>,
    dir: Fd,
    path: Path,
    flags: Bits,
    name: Ptr,
    args: Ptr,
    size: u64,
) -> Io<u64> {
    let (value, len, how) = xattr_args(cx, args, size)?;
    if how != 0 {
        return err(Errno::EINVAL);
    }
    let on = at(cx, dir, path.0, flags)?;
    get(cx, on, name.0, value, len)
}

/// listxattrat(2)
pub fn sys_listxattrat(cx: &mut Cx<'_>, dir: Fd, path: Path, flags: Bits, out: Ptr, size: u64) -> Io<u64> {
    let on = at(cx, dir, path.0, flags)?;
    list(cx, on, out.0, size)
}

/// removexattrat(2)
pub fn sys_removexattrat(cx: &mut Cx<'_>, dir: Fd, path: Path, flags: Bits, name: Ptr) -> Io<u64> {
    let on = at(cx, dir, path.0, flags)?;
    remove(cx, on, name.0)
}
