//! Extended attributes: user.* and, for root, trusted.* of files in the image's own layer.

use crate::args::{Fd, Path, Ptr};
use crate::cx::Cx;
use crate::fdtable::oflag;
use crate::fs::inode::Inode;
use crate::fs::memfile::MemFile;
use crate::fs::perm::{self, mode};
use crate::fs::walk::{self, AT_FDCWD};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::platform::Stat;
use std::rc::Rc;

/// Which file a call names.
#[derive(Clone, Copy)]
enum On {
    Path(u64, bool),
    Fd(i32),
}

/// Finds the file; an inode only if its attributes are kept in the image (`make` brings it there).
fn find(cx: &mut Cx<'_>, on: On, make: bool) -> Io<(Stat, Option<Rc<Inode>>, bool)> {
    let (path, follow) = match on {
        On::Path(p, follow) => (cx.path(p)?, follow),
        On::Fd(fd) => {
            let open = cx.task.files().get(fd)?;
            if open.flags.get() & oflag::O_PATH != 0 {
                return err(Errno::EBADF);
            }
            if let Some(m) = open.file.as_any().downcast_ref::<MemFile>() {
                return Ok((m.inode.stat(), Some(m.inode.clone()), true));
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
        let fs = &t.loc.mount.fs;
        let kept = fs.as_any().is::<crate::fs::Tree>();
        if make {
            t.writable()?;
        }
        let node = if kept {
            fs.inode(cx, &t.loc.path, make)?
        } else {
            None
        };
        Ok((st, node, kept))
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
        return if c.capable(21) {
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
    let (st, _, kept) = find(cx, on, false)?;
    allowed(cx, &st, &name, true)?;
    if !kept {
        return err(Errno::EOPNOTSUPP);
    }
    let (_, Some(node), _) = find(cx, on, true)? else {
        return err(Errno::EOPNOTSUPP);
    };
    let mut map = node.xattrs.borrow_mut();
    match (flags, map.contains_key(&name)) {
        (1, true) => return err(Errno::EEXIST),
        (2, false) => return err(Errno::ENODATA),
        _ => {}
    }
    map.insert(name, bytes);
    drop(map);
    node.touch_ctime(&mut cx.env);
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
    let (st, node, kept) = find(cx, on, false)?;
    allowed(cx, &st, &name, false)?;
    if !kept {
        return err(Errno::EOPNOTSUPP);
    }
    let bytes = node
        .and_then(|n| n.xattrs.borrow().get(&name).cloned())
        .ok_or(Errno::ENODATA)?;
    give(cx, &bytes, value, size)
}

fn list(cx: &mut Cx<'_>, on: On, at: u64, size: u64) -> Io<u64> {
    let (_, node, _) = find(cx, on, false)?;
    let root = cx.task.creds.borrow().capable(21);
    let mut out = Vec::new();
    if let Some(n) = node {
        for name in n
            .xattrs
            .borrow()
            .keys()
            .filter(|n| root || !n.starts_with(b"trusted."))
        {
            out.extend_from_slice(name);
            out.push(0);
        }
    }
    give(cx, &out, at, size)
}

fn remove(cx: &mut Cx<'_>, on: On, name: u64) -> Io<u64> {
    let name = name_of(cx, name)?;
    let (st, node, kept) = find(cx, on, false)?;
    allowed(cx, &st, &name, true)?;
    if !kept {
        return err(Errno::EOPNOTSUPP);
    }
    let node = node.ok_or(Errno::ENODATA)?;
    if node.xattrs.borrow_mut().remove(&name).is_none() {
        return err(Errno::ENODATA);
    }
    node.touch_ctime(&mut cx.env);
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
