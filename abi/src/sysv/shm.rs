//! shmget(2), shmat(2), shmdt(2), shmctl(2).
//!
//! Who is attached is read off the mappings of all processes, so fork, munmap, execve and exit need
//! no hook; a removed segment goes when somebody next looks and nobody is attached.

use super::{IPC_64, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, seconds, set_perm, stat_bytes, who};
use crate::args::Ptr;
use crate::cx::Cx;
use crate::mm::{Shown, Vma};
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};
use ftl_core::layout::{PAGE, page_up};
use ftl_core::platform::Prot;
use ftl_ipc::sysv::shm::Segment;
use ftl_ipc::sysv::{Object, Perm, flag};
use std::rc::Rc;

const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;
const SHM_RDONLY: i32 = 0o10000;
const SHM_RND: i32 = 0o20000;
const SHM_REMAP: i32 = 0o40000;
const SHM_EXEC: i32 = 0o100000;
const SHM_HUGETLB: i32 = 0o4000;
/// In the mode: removed, locked.
const SHM_DEST: u32 = 0o1000;
const SHM_LOCKED: u32 = 0o2000;
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;
const EXEC: u32 = 0o111;
/// ULONG_MAX - (1UL << 24)
const SHMMAX: u64 = u64::MAX - (1 << 24);

fn of_segment(vma: &Vma, file: &FileRef) -> bool {
    vma.file.as_ref().is_some_and(|f| Rc::ptr_eq(&f.file, file))
}

/// Number of mappings of the segment in all address spaces.
fn attached(cx: &Cx<'_>, seg: &Segment) -> usize {
    let mut seen = Vec::new();
    let mut n = 0;
    for p in cx.k.procs.borrow().values() {
        if p.exit.get().is_some() {
            continue;
        }
        let mm = p.mm.borrow().clone();
        if seen.iter().any(|m| Rc::ptr_eq(m, &mm)) {
            continue;
        }
        n += mm.list().iter().filter(|v| of_segment(v, &seg.file)).count();
        seen.push(mm);
    }
    n
}

/// Drops segments that were removed and that nobody holds any more.
fn sweep(cx: &Cx<'_>) {
    for seg in cx.k.sysv.shms.all() {
        if seg.removed.get() && attached(cx, &seg) == 0 {
            cx.k.sysv.shms.remove(&seg);
        }
    }
}

/// shmget(2)
pub fn sys_shmget(cx: &mut Cx<'_>, key: i32, size: u64, flags: i32) -> Io<u64> {
    sweep(cx);
    let caller = who(cx);
    let now = seconds(cx);
    let k = cx.k;
    let id = k.sysv.shms.obtain(
        key,
        flags,
        &caller,
        |s| if s.size < size { Err(Errno::EINVAL) } else { Ok(()) },
        || {
            if size == 0 || size > SHMMAX {
                return Err(Errno::EINVAL);
            }
            if flags & SHM_HUGETLB != 0 {
                return Err(Errno::ENOMEM);
            }
            let len = page_up(size).ok_or(Errno::ENOMEM)?;
            let file = crate::fs::anon_shared(cx, len).map_err(|_| Errno::ENOMEM)?;
            let perm = Perm::new(key, flags, &caller);
            Ok(Segment::new(perm, file, size, caller.pid, now))
        },
    )?;
    Ok(id as u64)
}

/// shmat(2)
pub fn sys_shmat(cx: &mut Cx<'_>, id: i32, addr: u64, flags: i32) -> Io<u64> {
    sweep(cx);
    let seg = cx.k.sysv.shms.get(id)?;
    let mut at = addr;
    if !at.is_multiple_of(PAGE) {
        if flags & SHM_RND == 0 {
            return err(Errno::EINVAL);
        }
        at &= !(PAGE - 1);
    }
    if at == 0 && flags & SHM_REMAP != 0 {
        return err(Errno::EINVAL);
    }
    let write = flags & SHM_RDONLY == 0;
    let exec = flags & SHM_EXEC != 0;
    let mut want = READ;
    want |= if write { WRITE } else { 0 };
    want |= if exec { EXEC } else { 0 };
    let caller = who(cx);
    seg.perm().check(&caller, want)?;
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, write);
    prot.set(Prot::EXEC, exec);
    let shown = Shown {
        ino: id as u64,
        path: format!("/SYSV{:08x} (deleted)", seg.perm().key.get()).into_bytes(),
    };
    let got = crate::mm::map_object(cx, at, seg.size, prot, flags & SHM_REMAP != 0, &seg.file, shown)?;
    let now = seconds(cx);
    let t = seg.times.get();
    seg.times.set((now, t.1, t.2));
    seg.pids.set((seg.pids.get().0, caller.pid));
    Ok(got)
}

/// shmdt(2)
pub fn sys_shmdt(cx: &mut Cx<'_>, addr: Ptr) -> Io<u64> {
    let mm = cx.task.mm();
    let start = addr.0;
    let seg = {
        let first = mm
            .find(start)
            .filter(|v| v.start == start && start.is_multiple_of(PAGE));
        let vma = first.ok_or(Errno::EINVAL)?;
        let file = vma.file.filter(|f| f.offset == 0).ok_or(Errno::EINVAL)?;
        let all = cx.k.sysv.shms.all();
        let seg = all.into_iter().find(|s| Rc::ptr_eq(&s.file, &file.file));
        seg.ok_or(Errno::EINVAL)?
    };
    let end = start + page_up(seg.size).unwrap_or(0);
    for v in mm.list() {
        // Pieces of this attachment, as munmap and mprotect may have cut it.
        let ours = v.start >= start && v.end <= end && of_segment(&v, &seg.file);
        if ours && v.file.as_ref().is_some_and(|f| f.offset == v.start - start) {
            mm.unmap(cx.env.plat, v.start, v.end - v.start);
        }
    }
    let now = seconds(cx);
    let t = seg.times.get();
    seg.times.set((t.0, now, t.2));
    seg.pids.set((seg.pids.get().0, who(cx).pid));
    sweep(cx);
    Ok(0)
}

fn put_stat(cx: &mut Cx<'_>, seg: &Segment, at: u64) -> Io<u64> {
    let (a, d, c) = seg.times.get();
    let (cp, lp) = seg.pids.get();
    let words = [
        seg.size,
        a as u64,
        d as u64,
        c as u64,
        u64::from(lp) << 32 | u64::from(cp),
        attached(cx, seg) as u64,
        0,
        0,
    ];
    cx.write(at, &stat_bytes(seg.perm(), &words))?;
    Ok(0)
}

fn info(cx: &mut Cx<'_>, cmd: i32, at: u64) -> Io<u64> {
    if cmd == IPC_INFO {
        // struct shminfo64: max, min, mni, seg, all.
        let v = [SHMMAX, 1, 4096, 4096, SHMMAX, 0, 0, 0, 0];
        cx.put(at, &v)?;
    } else {
        let all = cx.k.sysv.shms.all();
        let pages: u64 = all.iter().map(|s| s.size.div_ceil(PAGE)).sum();
        cx.put(at, &[all.len() as u64, pages, pages, 0, 0, 0])?;
    }
    Ok(cx.k.sysv.shms.top() as u64)
}

/// shmctl(2)
pub fn sys_shmctl(cx: &mut Cx<'_>, id: i32, cmd: i32, at: Ptr) -> Io<u64> {
    sweep(cx);
    let cmd = cmd & !IPC_64;
    match cmd {
        IPC_INFO | SHM_INFO => return info(cx, cmd, at.0),
        SHM_STAT | SHM_STAT_ANY => {
            let seg = cx.k.sysv.shms.at(id)?;
            if cmd == SHM_STAT {
                seg.perm().check(&who(cx), READ)?;
            }
            put_stat(cx, &seg, at.0)?;
            return Ok(seg.perm().id.get() as u64);
        }
        _ => {}
    }
    let seg = cx.k.sysv.shms.get(id)?;
    let caller = who(cx);
    let perm = seg.perm();
    match cmd {
        IPC_RMID => {
            perm.check_owner(&caller)?;
            seg.removed.set(true);
            perm.mode.set(perm.mode.get() | SHM_DEST);
            perm.key.set(flag::PRIVATE);
            sweep(cx);
            Ok(0)
        }
        IPC_SET => {
            set_perm(cx, perm, at.0)?;
            let now = seconds(cx);
            let t = seg.times.get();
            seg.times.set((t.0, t.1, now));
            Ok(0)
        }
        IPC_STAT => {
            perm.check(&caller, READ)?;
            put_stat(cx, &seg, at.0)
        }
        SHM_LOCK | SHM_UNLOCK => {
            perm.check_owner(&caller)?;
            let m = perm.mode.get() & !SHM_LOCKED;
            perm.mode.set(if cmd == SHM_LOCK { m | SHM_LOCKED } else { m });
            Ok(0)
        }
        _ => err(Errno::EINVAL),
    }
}
