//! Extended attributes: user.* and, for root, trusted.*; security.* can be read.

use crate::args::{Fd, Path, Ptr};
use crate::cx::Cx;
use crate::fdtable::oflag;
use crate::fs::memfile::MemFile;
use crate::fs::perm::{self, mode};
use crate::fs::walk::{self, AT_FDCWD};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::platform::{Stat, Xattr};

const CAP_SYS_ADMIN: u32 = 21;

/// Which file a call names.
#[derive(Clone, Copy)]
enum On {
    Path(u64, bool),
    Fd(i32),
}

/// Finds the file and does `op` on it once `name` is allowed.
fn act(cx: &mut Cx<'_>, on: On, name: Option<(&[u8], bool)>, op: &Xattr<'_>) -> Io<Vec<u8>> {
    let (path, follow) = match on {
        On::Path(p, follow) => (cx.path(p)?, follow),
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
            (p, true)
        }
    };
    walk::with(cx, AT_FDCWD, &path, follow, |cx, t| {
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
