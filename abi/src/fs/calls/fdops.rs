//! dup, fcntl, flock, ioctl, close_range, fsync.

use super::RLIMIT_NOFILE;
use crate::args::{Bits, Fd, Path, Ptr};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use crate::fs::hostlocks;
use crate::fs::locks::{Owner, Range};
use crate::fs::memfile::{MemFile, seal};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, Stop, err};
use std::rc::Rc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

fn nofile(cx: &Cx<'_>) -> u64 {
    cx.task.process().rlimits.borrow()[RLIMIT_NOFILE].0
}

/// A descriptor of the calling process is gone: what closing means beyond the table.
pub fn closed(cx: &mut Cx<'_>, open: &Rc<OpenFile>) {
    if !cx.k.fs.locks.no_posix()
        && let Ok(id) = open.file.identity(&mut cx.env)
    {
        let pid = cx.task.process().pid;
        cx.k.fs.locks.closed(id, pid);
    }
    crate::sysv::mqueue::closed(cx, open);
    open.file.closed(&mut cx.env);
    if Rc::strong_count(open) == 1 {
        crate::fs::inotify::closed(cx.k, open);
    }
}

/// dup(2)
pub fn sys_dup(cx: &mut Cx<'_>, fd: Fd) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    Ok(cx.task.files().install_at(open, false, 0, nofile(cx))? as u64)
}

fn dup_to(cx: &mut Cx<'_>, old: i32, new: i32, cloexec: bool) -> Io<u64> {
    let files = cx.task.files();
    let at = u64::try_from(new).map_err(|_| Errno::EBADF)?;
    if at >= nofile(cx) {
        return err(Errno::EBADF);
    }
    let open = files.get(old)?;
    if let Some(gone) = files.replace(at as usize, open, cloexec) {
        closed(cx, &gone);
    }
    Ok(at)
}

/// dup2(2)
pub fn sys_dup2(cx: &mut Cx<'_>, old: Fd, new: Fd) -> Io<u64> {
    if old.0 == new.0 {
        cx.task.files().get(old.0)?;
        return Ok(new.0 as u64);
    }
    dup_to(cx, old.0, new.0, false)
}

/// dup3(2)
pub fn sys_dup3(cx: &mut Cx<'_>, old: Fd, new: Fd, flags: i32) -> Io<u64> {
    if flags & !oflag::O_CLOEXEC != 0 || old.0 == new.0 {
        return err(Errno::EINVAL);
    }
    dup_to(cx, old.0, new.0, flags != 0)
}

/// close_range(2)
pub fn sys_close_range(cx: &mut Cx<'_>, first: u32, last: u32, flags: u32) -> Io<u64> {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return err(Errno::EINVAL);
    }
    if flags & UNSHARE != 0 {
        let own = cx.task.files().duplicate();
        *cx.task.files.borrow_mut() = Rc::new(own);
    }
    let files = cx.task.files();
    for fd in files.list() {
        if !(first..=last).contains(&(fd as u32)) {
            continue;
        }
        if flags & CLOEXEC != 0 {
            files.set_cloexec(fd, true)?;
        } else {
            let open = files.remove(fd)?;
            closed(cx, &open);
        }
    }
    Ok(0)
}

#[derive(IntoBytes, FromBytes, Immutable, Clone, Copy)]
#[repr(C)]
struct RawFlock {
    kind: i16,
    whence: i16,
    pad: u32,
    start: i64,
    len: i64,
    pid: i32,
    pad2: u32,
}

const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;

fn range_of(cx: &mut Cx<'_>, open: &OpenFile, l: &RawFlock, owner: Owner) -> Io<Range> {
    let base = match l.whence {
        0 => 0,
        1 => open.pos.get() as i64,
        2 => crate::fs::fstat(cx, &open.file)?.size as i64,
        _ => return err(Errno::EINVAL),
    };
    let start = base.checked_add(l.start).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = if l.len >= 0 {
        let end = if l.len == 0 {
            i64::MAX
        } else {
            start.checked_add(l.len - 1).ok_or(Errno::EOVERFLOW)?
        };
        (start, end)
    } else {
        (start.checked_add(l.len).ok_or(Errno::EINVAL)?, start - 1)
    };
    if start < 0 {
        return err(Errno::EINVAL);
    }
    Ok(Range {
        owner,
        exclusive: l.kind == F_WRLCK,
        start: start as u64,
        end: end as u64,
    })
}

/// The number under which this description holds locks.
fn holder(cx: &mut Cx<'_>, open: &OpenFile) -> Io<u64> {
    if let Some(h) = &*open.locks.borrow() {
        return Ok(h.id);
    }
    let id = open.file.identity(&mut cx.env)?;
    let h = cx.k.fs.locks.holder(id);
    let n = h.id;
    *open.locks.borrow_mut() = Some(h);
    Ok(n)
}

fn record_lock(cx: &mut Cx<'_>, open: &Rc<OpenFile>, cmd: u32, arg: u64) -> Io<u64> {
    const F_GETLK: u32 = 5;
    const F_SETLKW: u32 = 7;
    const F_OFD_GETLK: u32 = 36;
    const F_OFD_SETLKW: u32 = 38;
    let mut l: RawFlock = cx.get(arg)?;
    let pid = cx.task.process().pid;
    let ofd = cmd >= F_OFD_GETLK;
    if ofd && l.pid != 0 {
        return err(Errno::EINVAL);
    }
    let get = cmd == F_GETLK || cmd == F_OFD_GETLK;
    if get && !matches!(l.kind, F_RDLCK | F_WRLCK) || !matches!(l.kind, F_RDLCK | F_WRLCK | F_UNLCK) {
        return err(Errno::EINVAL);
    }
    let owner = if ofd {
        Owner::Open(holder(cx, open)?)
    } else {
        Owner::Process(pid)
    };
    let want = range_of(cx, open, &l, owner)?;
    let id = open.file.identity(&mut cx.env)?;
    let locks = cx.k.fs.locks.of(id);
    cx.k.fs.locks.woke(pid);
    if get {
        let inside = locks.conflict(&want).map(|r| {
            let pid = match r.owner {
                Owner::Process(p) => p.0 as i32,
                Owner::Open(_) => -1,
            };
            (r.exclusive, r.start, r.end, pid)
        });
        let found = match inside {
            // A process of the host has no number in the image: 0, as across pid namespaces.
            None => hostlocks::met(cx, open, &locks, &want)?.map(|(x, start, end)| (x, start, end, 0)),
            some => some,
        };
        l.kind = F_UNLCK;
        if let Some((exclusive, start, end, pid)) = found {
            l.kind = if exclusive { F_WRLCK } else { F_RDLCK };
            l.whence = 0;
            l.start = start as i64;
            l.len = if end == i64::MAX as u64 {
                0
            } else {
                (end - start + 1) as i64
            };
            l.pid = pid;
        }
        cx.put(arg, &l)?;
        return Ok(0);
    }
    if l.kind == F_RDLCK && !open.readable() || l.kind == F_WRLCK && !open.writable() {
        return err(Errno::EBADF);
    }
    if l.kind != F_UNLCK
        && let Some(r) = locks.conflict(&want)
    {
        if cmd != F_SETLKW && cmd != F_OFD_SETLKW {
            return err(Errno::EAGAIN);
        }
        if !ofd && !cx.k.fs.locks.may_wait(pid, r.owner) {
            return err(Errno::EDEADLK);
        }
        let stop = cx.wait(vec![locks.queue.on()], Restart::Sys);
        if !matches!(stop, Stop::Block(_)) {
            cx.k.fs.locks.woke(pid);
        }
        return Err(stop);
    }
    if l.kind != F_UNLCK
        && let Err(e) = hostlocks::take(cx, open, &locks, &want)
    {
        let waits = cmd == F_SETLKW || cmd == F_OFD_SETLKW;
        return Err(if waits && hostlocks::refused(&e) {
            hostlocks::wait(cx, &locks)
        } else {
            e
        });
    }
    locks.set(want, l.kind != F_UNLCK);
    cx.k.fs.locks.settle(id, &locks);
    Ok(0)
}

/// flock(2)
pub fn sys_flock(cx: &mut Cx<'_>, fd: Fd, op: i32) -> Io<u64> {
    const SH: i32 = 1;
    const EX: i32 = 2;
    const NB: i32 = 4;
    const UN: i32 = 8;
    let open = cx.task.files().get(fd.0)?;
    if op & 32 != 0 {
        // LOCK_MAND has had no effect since Linux 5.15.
        return Ok(0);
    }
    let want = match op & !NB {
        SH => Some(false),
        EX => Some(true),
        UN => None,
        _ => return err(Errno::EINVAL),
    };
    if open.flags.get() & oflag::O_PATH != 0 {
        return err(Errno::EBADF);
    }
    let me = holder(cx, &open)?;
    let on = match &*open.locks.borrow() {
        Some(h) => h.on.clone(),
        None => return err(Errno::EBADF),
    };
    let inside = on.flock(me, want);
    match want.filter(|_| inside) {
        None if inside => return Ok(0),
        None => {}
        Some(exclusive) => match hostlocks::take_whole(cx, &open, &on, exclusive) {
            Ok(()) => return Ok(0),
            Err(e) => {
                on.flock(me, None);
                let waits = op & NB == 0 && hostlocks::refused(&e);
                return Err(if waits { hostlocks::wait(cx, &on) } else { e });
            }
        },
    }
    if op & NB != 0 {
        return err(Errno::EAGAIN);
    }
    Err(cx.wait(vec![on.queue.on()], Restart::Sys))
}

fn seals(cx: &mut Cx<'_>, open: &OpenFile, add: Option<u32>) -> Io<u64> {
    let Some(m) = open.file.as_any().downcast_ref::<MemFile>() else {
        return err(Errno::EINVAL);
    };
    if m.inode.id.0 != 1 {
        // Only memfds (shmem without a name) have seals here.
        return err(Errno::EINVAL);
    }
    let old = m.inode.seals.get();
    let Some(add) = add else {
        return Ok(u64::from(old));
    };
    if !open.writable() {
        return err(Errno::EPERM);
    }
    if add & !0x3f != 0 {
        return err(Errno::EINVAL);
    }
    if old & seal::SEAL != 0 {
        return err(Errno::EPERM);
    }
    if add & seal::WRITE != 0 && old & seal::WRITE == 0 && has_writable_mapping(cx, open) {
        return err(Errno::EBUSY);
    }
    m.inode.seals.set(old | add);
    Ok(0)
}

/// Some process has a writable shared mapping of the file.
fn has_writable_mapping(cx: &mut Cx<'_>, open: &OpenFile) -> bool {
    let procs: Vec<_> = cx.k.procs.borrow().values().cloned().collect();
    let Ok(id) = open.file.identity(&mut cx.env) else {
        return false;
    };
    procs.iter().any(|p| {
        let mm = p.mm.borrow().clone();
        mm.list().iter().any(|v| {
            v.shared
                && v.prot.contains(ftl_core::platform::Prot::WRITE)
                && v.file.as_ref().is_some_and(|f| f.id == id)
        })
    })
}

/// fcntl(2)
pub fn sys_fcntl(cx: &mut Cx<'_>, fd: Fd, cmd: u32, arg: u64) -> Io<u64> {
    const SETTABLE: i32 =
        oflag::O_APPEND | oflag::O_NONBLOCK | oflag::O_ASYNC | oflag::O_DIRECT | oflag::O_NOATIME;
    let files = cx.task.files();
    let open = files.get(fd.0)?;
    // An O_PATH descriptor knows only what concerns the table.
    if open.flags.get() & oflag::O_PATH != 0 && !matches!(cmd, 0..=3 | 1030) {
        return err(Errno::EBADF);
    }
    match cmd {
        // F_DUPFD, F_DUPFD_CLOEXEC
        0 | 1030 => {
            let min = arg as i32;
            if min < 0 || min as u64 >= nofile(cx) {
                return err(Errno::EINVAL);
            }
            Ok(files.install_at(open, cmd == 1030, min as usize, nofile(cx))? as u64)
        }
        // F_GETFD, F_SETFD
        1 => Ok(u64::from(files.cloexec(fd.0)?)),
        2 => {
            files.set_cloexec(fd.0, arg & 1 != 0)?;
            Ok(0)
        }
        // F_GETFL, F_SETFL
        3 => Ok(open.flags.get() as u64),
        4 => {
            set_status(
                cx,
                fd,
                &open,
                open.flags.get() & !SETTABLE | arg as i32 & SETTABLE,
            )?;
            Ok(0)
        }
        5..=7 | 36..=38 => record_lock(cx, &open, cmd, arg),
        8 => set_owner(cx, &open, arg as i32),
        9 => {
            let (kind, id, _) = open.owner.get();
            Ok(if kind == 2 {
                -i64::from(id) as u64
            } else {
                id as u64
            })
        }
        // F_SETSIG, F_GETSIG
        10 => {
            if arg > 64 {
                return err(Errno::EINVAL);
            }
            let (k, i, _) = open.owner.get();
            open.owner.set((k, i, arg as i32));
            Ok(0)
        }
        11 => Ok(open.owner.get().2 as u64),
        // F_SETOWN_EX, F_GETOWN_EX
        15 => {
            let o: [i32; 2] = cx.get(arg)?;
            if !(0..=2).contains(&o[0]) {
                return err(Errno::EINVAL);
            }
            open.owner.set((o[0], o[1], open.owner.get().2));
            Ok(0)
        }
        16 => {
            let (k, i, _) = open.owner.get();
            cx.put(arg, &[k, i])?;
            Ok(0)
        }
        // F_SETLEASE, F_GETLEASE, F_NOTIFY
        1024 => err(if arg == 2 { Errno::EAGAIN } else { Errno::EINVAL }),
        1025 => Ok(2),
        1026 => err(Errno::EINVAL),
        1031 => crate::event::pipe::set_size(cx, &open, arg),
        1032 => crate::event::pipe::get_size(&open),
        1033 => seals(cx, &open, Some(arg as u32)),
        1034 => seals(cx, &open, None),
        // F_GET_RW_HINT, F_SET_RW_HINT, F_GET_FILE_RW_HINT, F_SET_FILE_RW_HINT
        1035 | 1037 => {
            cx.put(arg, &0u64)?;
            Ok(0)
        }
        1036 | 1038 => Ok(0),
        _ => err(Errno::EINVAL),
    }
}

fn set_owner(cx: &mut Cx<'_>, open: &OpenFile, id: i32) -> Io<u64> {
    let sig = open.owner.get().2;
    if id == i32::MIN {
        return err(Errno::EINVAL);
    }
    if id > 0 && !cx.k.procs.borrow().contains_key(&ftl_core::wait::Tid(id as u32)) {
        return err(Errno::ESRCH);
    }
    open.owner.set(match id {
        0 => (0, 0, sig),
        i if i < 0 => (2, -i, sig),
        i => (1, i, sig),
    });
    Ok(0)
}

fn set_status(cx: &mut Cx<'_>, fd: Fd, open: &Rc<OpenFile>, flags: i32) -> Io<()> {
    let changed = open.flags.get() ^ flags;
    if changed & oflag::O_ASYNC != 0 {
        crate::signal::set_async(cx, open, fd.0, flags & oflag::O_ASYNC != 0);
    }
    open.flags.set(flags);
    open.file.set_flags(&mut cx.env, flags);
    Ok(())
}

/// ioctl(2)
pub fn sys_ioctl(cx: &mut Cx<'_>, fd: Fd, cmd: u32, arg: u64) -> Io<u64> {
    let files = cx.task.files();
    let open = files.get(fd.0)?;
    if open.flags.get() & oflag::O_PATH != 0 {
        return err(Errno::EBADF);
    }
    match cmd {
        // FIONCLEX, FIOCLEX
        0x5450 | 0x5451 => {
            files.set_cloexec(fd.0, cmd == 0x5451)?;
            Ok(0)
        }
        // FIONBIO, FIOASYNC
        0x5421 | 0x5452 => {
            let on: i32 = cx.get(arg)?;
            let bit = if cmd == 0x5421 {
                oflag::O_NONBLOCK
            } else {
                oflag::O_ASYNC
            };
            let old = open.flags.get();
            set_status(cx, fd, &open, if on != 0 { old | bit } else { old & !bit })?;
            Ok(0)
        }
        // FIONREAD of what has a size
        0x541b if open.file.seekable() => {
            let size = crate::fs::fstat(cx, &open.file)?.size;
            let left = size as i64 - open.pos.get() as i64;
            cx.put(arg, &(left as i32))?;
            Ok(0)
        }
        // FIOQSIZE
        0x5460 if open.file.seekable() => {
            let size = crate::fs::fstat(cx, &open.file)?.size;
            cx.put(arg, &size)?;
            Ok(0)
        }
        _ => match crate::tty::ioctl(cx, &open, cmd, arg) {
            Some(r) => r,
            // Any kind of socket answers for the interfaces: if_nametoindex(3) uses a UNIX one.
            None if open.file.socket().is_some() && crate::net::ifreq::is_interface(cmd) => {
                let inet = cx.k.inet.clone();
                crate::net::ifreq::ioctl(&mut cx.env, &inet, u64::from(cmd), arg)
            }
            None => open.file.ioctl(&mut cx.env, u64::from(cmd), arg),
        },
    }
}

fn do_sync(cx: &mut Cx<'_>, fd: i32, data_only: bool) -> Io<u64> {
    let open = cx.task.files().get(fd)?;
    if open.flags.get() & oflag::O_PATH != 0 {
        return err(Errno::EBADF);
    }
    open.file.sync(&mut cx.env, data_only)?;
    Ok(0)
}

/// fsync(2)
pub fn sys_fsync(cx: &mut Cx<'_>, fd: Fd) -> Io<u64> {
    do_sync(cx, fd.0, false)
}

/// fdatasync(2)
pub fn sys_fdatasync(cx: &mut Cx<'_>, fd: Fd) -> Io<u64> {
    do_sync(cx, fd.0, true)
}

/// sync(2): what shared mappings of volume files hold goes to the host.
pub fn sys_sync(cx: &mut Cx<'_>) -> Io<u64> {
    cx.k.fs.write_back(cx.env.plat);
    Ok(0)
}

/// syncfs(2)
pub fn sys_syncfs(cx: &mut Cx<'_>, fd: Fd) -> Io<u64> {
    cx.task.files().get(fd.0)?;
    sys_sync(cx)
}

/// sync_file_range(2)
pub fn sys_sync_file_range(cx: &mut Cx<'_>, fd: Fd, offset: i64, len: i64, flags: Bits) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    if flags.0 & !7 != 0 || offset < 0 || len < 0 || offset.checked_add(len).is_none() {
        return err(Errno::EINVAL);
    }
    if !open.file.seekable() {
        return err(Errno::ESPIPE);
    }
    open.file.sync(&mut cx.env, true)?;
    Ok(0)
}

/// fadvise64(2): advice has no effect.
pub fn sys_fadvise64(cx: &mut Cx<'_>, fd: Fd, _offset: i64, len: i64, advice: i32) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    let st = crate::fs::fstat(cx, &open.file)?;
    if st.mode & crate::fs::perm::mode::FMT == crate::fs::perm::mode::FIFO {
        return err(Errno::ESPIPE);
    }
    if len < 0 || !(0..=5).contains(&advice) {
        return err(Errno::EINVAL);
    }
    Ok(0)
}

/// readahead(2)
pub fn sys_readahead(cx: &mut Cx<'_>, fd: Fd, _offset: i64, _len: u64) -> Io<u64> {
    let open = cx.task.files().get(fd.0)?;
    if !open.readable() {
        return err(Errno::EBADF);
    }
    if !open.file.seekable() {
        return err(Errno::EINVAL);
    }
    Ok(0)
}

/// file_getattr(2), file_setattr(2): flags of a file as chattr(1) knows them. No file system here has them.
pub fn sys_file_attr(cx: &mut Cx<'_>, dir: Fd, path: Path, attr: Ptr, size: u64, flags: Bits) -> Io<u64> {
    const FILE_ATTR_SIZE: u64 = 24;
    use crate::fs::walk::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW};
    let f = flags.0 as u32;
    if f & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return err(Errno::EINVAL);
    }
    if size > 4096 {
        return err(Errno::E2BIG);
    }
    if size < FILE_ATTR_SIZE {
        return err(Errno::EINVAL);
    }
    let mut raw = vec![0; size as usize];
    cx.read(attr.0, &mut raw)?;
    match super::path_or_fd(cx, dir.0, path.0, f)? {
        super::Arg::Path(p) => {
            super::stat::stat_path(cx, dir.0, &p, f & AT_SYMLINK_NOFOLLOW == 0)?;
        }
        super::Arg::Itself(_) => {}
    }
    err(Errno::EOPNOTSUPP)
}

/// name_to_handle_at(2): there are no file handles here.
pub fn sys_name_to_handle_at(_cx: &mut Cx<'_>, _fd: Fd, _path: Ptr, _h: Ptr, _m: Ptr, _f: Bits) -> Io<u64> {
    err(Errno::EOPNOTSUPP)
}
