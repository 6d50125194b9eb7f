//! open(2) and its relatives.

use super::RLIMIT_NOFILE;
use crate::args::{Bits, Fd, Path, Ptr};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use crate::fs::inode::Inode;
use crate::fs::perm::{self, mode};
use crate::fs::walk::{self, Resolve, Target};
use crate::fs::{DirFile, HostFile, How, Loc, PathFile, memfile::MemFile};
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};
use ftl_ipc::pipe::PipeEnd;
use std::rc::Rc;

const O_TMPFILE_BIT: i32 = oflag::O_TMPFILE & !oflag::O_DIRECTORY;
/// Everything that open(2) knows; openat2 refuses the rest.
const VALID: i32 = oflag::O_ACCMODE
    | oflag::O_CREAT
    | oflag::O_EXCL
    | oflag::O_NOCTTY
    | oflag::O_TRUNC
    | oflag::O_APPEND
    | oflag::O_NONBLOCK
    | oflag::O_ASYNC
    | oflag::O_DIRECT
    | oflag::O_LARGEFILE
    | oflag::O_DIRECTORY
    | oflag::O_NOFOLLOW
    | oflag::O_NOATIME
    | oflag::O_CLOEXEC
    | oflag::O_SYNC
    | oflag::O_PATH
    | O_TMPFILE_BIT;

/// Puts a description into the lowest free descriptor.
pub fn install(cx: &mut Cx<'_>, open: Rc<OpenFile>, cloexec: bool) -> Io<u64> {
    let limit = cx.task.process().rlimits.borrow()[RLIMIT_NOFILE].0;
    Ok(cx.task.files().install_at(open, cloexec, 0, limit)? as u64)
}

/// Opens `path` as open(2) does.
pub fn do_open(
    cx: &mut Cx<'_>,
    dirfd: i32,
    path: &[u8],
    flags: i32,
    bits: u32,
    limits: Resolve,
) -> Io<Rc<OpenFile>> {
    let mut flags = flags & VALID;
    if flags & oflag::O_PATH != 0 {
        flags &= oflag::O_PATH | oflag::O_DIRECTORY | oflag::O_NOFOLLOW;
    }
    if flags & (oflag::O_CREAT | oflag::O_DIRECTORY) == oflag::O_CREAT | oflag::O_DIRECTORY {
        return err(Errno::EINVAL);
    }
    if flags & O_TMPFILE_BIT != 0
        && (flags & oflag::O_TMPFILE != oflag::O_TMPFILE || flags & oflag::O_ACCMODE == oflag::O_RDONLY)
    {
        return err(Errno::EINVAL);
    }
    let umask = cx.task.fs.borrow().umask.get();
    let how = How {
        flags: flags & !oflag::O_CLOEXEC,
        mode: bits & 0o7777 & !umask,
    };
    let excl = flags & (oflag::O_CREAT | oflag::O_EXCL) == oflag::O_CREAT | oflag::O_EXCL;
    let follow = flags & oflag::O_NOFOLLOW == 0 && !excl;
    let file = walk::with_limits(cx, dirfd, path, follow, limits, |cx, t| {
        open_at(cx, t, &how, excl)
    })?;
    let mut kept =
        flags & !(oflag::O_CREAT | oflag::O_EXCL | oflag::O_NOCTTY | oflag::O_TRUNC | oflag::O_CLOEXEC);
    if flags & oflag::O_PATH == 0 {
        kept |= oflag::O_LARGEFILE;
    }
    Ok(OpenFile::new(file, kept))
}

fn open_at(cx: &mut Cx<'_>, t: &Target, how: &How, excl: bool) -> Io<FileRef> {
    if let Some(f) = &t.open {
        return reopen(cx, f, t, how);
    }
    if how.flags & oflag::O_PATH != 0 {
        let st = t.stat(cx)?;
        if how.flags & oflag::O_DIRECTORY != 0 && !perm::is_dir(&st) {
            return err(if perm::is_link(&st) {
                Errno::ELOOP
            } else {
                Errno::ENOTDIR
            });
        }
        return Ok(PathFile::new(cx.k.fs.hold(&t.loc), st));
    }
    let mut how = *how;
    if t.wants_dir() {
        if how.flags & oflag::O_CREAT != 0 {
            if t.last == walk::Last::Name || excl {
                // "a/" is never created; "." with O_EXCL exists.
                return err(if excl && t.last != walk::Last::Name {
                    Errno::EEXIST
                } else {
                    Errno::EISDIR
                });
            }
            return err(Errno::EISDIR);
        }
        how.flags |= oflag::O_DIRECTORY;
    }
    let fs = t.loc.fs();
    let watched = cx.k.fs.inotify.any();
    let fresh = watched && how.flags & oflag::O_CREAT != 0 && fs.stat(cx, &t.loc.path).is_err();
    match fs.open(cx, &t.loc, &how) {
        Ok(f) if watched => {
            use crate::fs::inotify::{event, tell_path};
            let path = t.loc.full();
            if fresh {
                tell_path(cx.k, &path, event::CREATE);
            }
            tell_path(cx.k, &path, event::OPEN);
            Ok(f)
        }
        // O_EXCL never follows: a symlink exists.
        Err(ftl_core::io::Stop::Errno(Errno::ELOOP)) if excl => match fs.stat(cx, &t.loc.path) {
            Ok(_) => err(Errno::EEXIST),
            Err(e) => Err(e),
        },
        Err(ftl_core::io::Stop::Errno(Errno::ELOOP))
            if how.flags & (oflag::O_DIRECTORY | oflag::O_NOFOLLOW)
                == oflag::O_DIRECTORY | oflag::O_NOFOLLOW =>
        {
            match fs.stat(cx, &t.loc.path) {
                Ok(st) if perm::is_link(&st) && !t.follow => err(Errno::ENOTDIR),
                _ => err(Errno::ELOOP),
            }
        }
        r => r,
    }
}

/// Opens a file again through /proc/PID/fd.
fn reopen(cx: &mut Cx<'_>, f: &FileRef, t: &Target, how: &How) -> Io<FileRef> {
    let acc = how.flags & oflag::O_ACCMODE;
    if how.flags & oflag::O_PATH != 0 {
        return Ok(f.clone());
    }
    if let Some(m) = f.as_any().downcast_ref::<MemFile>() {
        let want = [perm::R, perm::W, perm::R | perm::W, perm::R | perm::W][acc as usize];
        perm::check(&cx.task.creds.borrow(), &m.inode.stat(), want)?;
        if how.flags & oflag::O_TRUNC != 0 {
            f.truncate(&mut cx.env, 0)?;
        }
        let path = m.path.borrow().clone();
        return Ok(MemFile::new(m.inode.clone(), path, acc != oflag::O_RDONLY));
    }
    if let Some(h) = f.as_any().downcast_ref::<HostFile>() {
        return reopen_host(cx, f, h, how);
    }
    if f.as_any().is::<DirFile>() {
        return Ok(f.clone());
    }
    if how.flags & oflag::O_DIRECTORY != 0 || t.slash {
        return err(Errno::ENOTDIR);
    }
    if let Some(end) = f.as_any().downcast_ref::<PipeEnd>() {
        return Ok(end.reopen(how.flags));
    }
    if f.describe().starts_with(b"socket:") {
        return err(Errno::ENXIO);
    }
    Ok(f.clone())
}

/// By its path; a file that has lost its name by its descriptor.
fn reopen_host(cx: &mut Cx<'_>, f: &FileRef, h: &HostFile, how: &How) -> Io<FileRef> {
    let path = f.describe();
    let how = How {
        flags: how.flags & !(oflag::O_CREAT | oflag::O_EXCL),
        ..*how
    };
    let st = f.stat(&mut cx.env)?;
    if st.nlink > 0 {
        let by_name = walk::with(cx, walk::AT_FDCWD, &path, true, |cx, t| {
            let fs = t.loc.fs();
            fs.open(cx, &t.loc, &how)
        });
        if let Ok(new) = by_name
            && new.identity(&mut cx.env)? == f.identity(&mut cx.env)?
        {
            return Ok(new);
        }
    }
    let volume = h.volume();
    let write = how.flags & oflag::O_ACCMODE != oflag::O_RDONLY;
    if write && volume.is_none() {
        return err(Errno::EROFS);
    }
    let new = cx.core.new_handle();
    let st = cx.env.plat.host_reopen(
        h.host.handle,
        how.flags & (oflag::O_ACCMODE | oflag::O_TRUNC),
        new,
    )?;
    let host = cx.core.own(new);
    Ok(HostFile::new(&cx.env, host, &st, path, volume))
}

/// Opens a FIFO, socket or device node.
pub fn special(cx: &mut Cx<'_>, node: &Rc<Inode>, rdev: u64, how: &How, loc: &Loc) -> Io<FileRef> {
    match node.mode.get() & mode::FMT {
        mode::CHR => crate::fs::dev::open(cx, node, rdev, how, loc),
        mode::FIFO => crate::fs::fifo::open(cx, node, how, loc),
        _ => err(Errno::ENXIO),
    }
}

/// Opens a program for execve: a regular file that the caller may execute and nobody is writing.
pub fn for_exec(cx: &mut Cx<'_>, dirfd: i32, path: &[u8], follow: bool) -> Io<Rc<OpenFile>> {
    let how = How { flags: 0, mode: 0 };
    let file = walk::with(cx, dirfd, path, follow, |cx, t| match &t.open {
        Some(f) => Ok(f.clone()),
        None => t.loc.fs().open(cx, &t.loc, &how),
    })?;
    let st = crate::fs::fstat(cx, &file)?;
    if st.mode & mode::FMT != mode::REG {
        return err(Errno::EACCES);
    }
    perm::check(&cx.task.creds.borrow(), &st, perm::X)?;
    if let Some(m) = file.as_any().downcast_ref::<MemFile>()
        && m.inode.writers.get() > 0
        && m.inode.nlink.get() > 0
    {
        return err(Errno::ETXTBSY);
    }
    Ok(OpenFile::new(file, oflag::O_RDONLY | oflag::O_LARGEFILE))
}

fn open_fd(cx: &mut Cx<'_>, dirfd: i32, path: u64, flags: i32, bits: u32, limits: Resolve) -> Io<u64> {
    let path = cx.path(path)?;
    cx.fd_available()?;
    let open = do_open(cx, dirfd, &path, flags, bits, limits)?;
    crate::tty::opened(cx, &open, flags);
    install(cx, open, flags & oflag::O_CLOEXEC != 0)
}

/// open(2)
pub fn sys_open(cx: &mut Cx<'_>, path: Path, flags: Bits, mode: u32) -> Io<u64> {
    open_fd(
        cx,
        walk::AT_FDCWD,
        path.0,
        flags.0 as i32,
        mode,
        Resolve::default(),
    )
}

/// openat(2)
pub fn sys_openat(cx: &mut Cx<'_>, dirfd: Fd, path: Path, flags: Bits, mode: u32) -> Io<u64> {
    open_fd(cx, dirfd.0, path.0, flags.0 as i32, mode, Resolve::default())
}

/// creat(2)
pub fn sys_creat(cx: &mut Cx<'_>, path: Path, mode: u32) -> Io<u64> {
    let flags = oflag::O_CREAT | oflag::O_WRONLY | oflag::O_TRUNC;
    open_fd(cx, walk::AT_FDCWD, path.0, flags, mode, Resolve::default())
}

/// openat2(2)
pub fn sys_openat2(cx: &mut Cx<'_>, dirfd: Fd, path: Path, how: Ptr, size: u64) -> Io<u64> {
    if size < 24 {
        return err(Errno::EINVAL);
    }
    if size > 4096 {
        return err(Errno::E2BIG);
    }
    let mut raw = vec![0; size as usize];
    cx.read(how.0, &mut raw)?;
    if raw[24..].iter().any(|b| *b != 0) {
        return err(Errno::E2BIG);
    }
    let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| raw[i * 8 + k]));
    let (flags, bits, resolve) = (word(0), word(1), word(2));
    if flags & !(VALID as u32 as u64) != 0 || resolve & !0x3f != 0 || bits & !0o7777 != 0 {
        return err(Errno::EINVAL);
    }
    let creates = flags as i32 & (oflag::O_CREAT | O_TMPFILE_BIT) != 0;
    if bits != 0 && !creates || resolve & 0x18 == 0x18 {
        return err(Errno::EINVAL);
    }
    let path_ok = oflag::O_PATH | oflag::O_DIRECTORY | oflag::O_NOFOLLOW | oflag::O_CLOEXEC;
    if flags as i32 & oflag::O_PATH != 0 && flags as i32 & !path_ok != 0 {
        return err(Errno::EINVAL);
    }
    let limits = Resolve {
        no_xdev: resolve & 1 != 0,
        no_magic: resolve & 2 != 0,
        no_links: resolve & 4 != 0,
        beneath: resolve & 8 != 0,
        in_root: resolve & 0x10 != 0,
    };
    if resolve & 0x20 != 0 {
        // RESOLVE_CACHED: nothing is cached.
        return err(Errno::EAGAIN);
    }
    open_fd(cx, dirfd.0, path.0, flags as i32, bits as u32, limits)
}

/// The directory behind a descriptor, for fchdir and friends.
pub fn directory(cx: &mut Cx<'_>, fd: i32) -> Io<Rc<crate::fs::Place>> {
    let open = cx.task.files().get(fd)?;
    if let Some(d) = open.file.as_any().downcast_ref::<DirFile>() {
        return Ok(d.place.clone());
    }
    match open.file.as_any().downcast_ref::<PathFile>() {
        Some(p) if p.dir => Ok(p.place.clone()),
        _ => err(Errno::ENOTDIR),
    }
}
