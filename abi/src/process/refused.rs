//! Calls that an image answers with a reason: privileges that nobody has in it, and hardware or
//! kernel features that it is "built without".

use crate::args::{Fd, Ptr};
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};

/// Needs a privilege that nobody has inside an image: sethostname, mount, reboot, ...
pub fn sys_not_permitted(_: &mut Cx<'_>) -> Io<u64> {
    err(Errno::EPERM)
}

/// perf_event_open(2), as with kernel.perf_event_paranoid = 3.
pub fn sys_perf_event_open(_: &mut Cx<'_>) -> Io<u64> {
    err(Errno::EACCES)
}

/// landlock_*(2), map_shadow_stack(2): compiled in, not enabled.
pub fn sys_not_enabled(_: &mut Cx<'_>) -> Io<u64> {
    err(Errno::EOPNOTSUPP)
}

/// setns(2): there is one namespace of each kind.
pub fn sys_setns(cx: &mut Cx<'_>, fd: Fd, _kind: i32) -> Io<u64> {
    cx.task.files().get(fd.0)?;
    err(Errno::EPERM)
}

/// pkey_alloc(2) on a CPU without protection keys.
pub fn sys_pkey_alloc(_: &mut Cx<'_>, flags: u64, rights: u64) -> Io<u64> {
    err(if flags != 0 || rights & !3 != 0 {
        Errno::EINVAL
    } else {
        Errno::ENOSPC
    })
}

/// pkey_free(2): none was given out.
pub fn sys_pkey_free(_: &mut Cx<'_>) -> Io<u64> {
    err(Errno::EINVAL)
}

/// process_vm_readv(2)
pub fn sys_process_vm_readv(
    cx: &mut Cx<'_>,
    pid: i32,
    local: Ptr,
    n_local: u64,
    remote: Ptr,
    n_remote: u64,
    flags: u64,
) -> Io<u64> {
    crate::ptrace::process_vm(cx, pid, (local, n_local), (remote, n_remote), flags, false)
}

/// process_vm_writev(2)
pub fn sys_process_vm_writev(
    cx: &mut Cx<'_>,
    pid: i32,
    local: Ptr,
    n_local: u64,
    remote: Ptr,
    n_remote: u64,
    flags: u64,
) -> Io<u64> {
    crate::ptrace::process_vm(cx, pid, (local, n_local), (remote, n_remote), flags, true)
}

/// set_mempolicy(2): there is one node.
pub fn sys_set_mempolicy(cx: &mut Cx<'_>, mode: i32, mask: Ptr, max: u64) -> Io<u64> {
    check_policy(cx, mode, mask, max)?;
    Ok(0)
}

fn check_policy(cx: &mut Cx<'_>, mode: i32, mask: Ptr, max: u64) -> Result<(), Errno> {
    const MODE_FLAGS: i32 = 0xe000;
    let mode = mode & !MODE_FLAGS;
    if !(0..=5).contains(&mode) {
        return Err(Errno::EINVAL);
    }
    let nodes = if mask.is_null() || max <= 1 {
        0
    } else {
        cx.get::<u64>(mask.0)?
    };
    match mode {
        // MPOL_DEFAULT and MPOL_LOCAL name no node; MPOL_PREFERRED may.
        0 | 4 if nodes != 0 => Err(Errno::EINVAL),
        2 | 3 if nodes & 1 == 0 => Err(Errno::EINVAL),
        _ if nodes & !1 != 0 => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// get_mempolicy(2)
pub fn sys_get_mempolicy(cx: &mut Cx<'_>, mode: Ptr, mask: Ptr, max: u64, addr: Ptr, flags: u64) -> Io<u64> {
    const F_ADDR: u64 = 2;
    const F_MEMS_ALLOWED: u64 = 4;
    if flags & !7 != 0 || (flags & F_MEMS_ALLOWED != 0 && flags & 3 != 0) {
        return err(Errno::EINVAL);
    }
    if flags & F_ADDR == 0 && !addr.is_null() {
        return err(Errno::EINVAL);
    }
    if flags & F_ADDR != 0 && cx.task.mm().with(addr.0, |_| ()).is_none() {
        return err(Errno::EFAULT);
    }
    if !mode.is_null() {
        cx.put(mode.0, &0i32)?;
    }
    if !mask.is_null() {
        if max < 1 {
            return err(Errno::EINVAL);
        }
        let words = max.div_ceil(64).min(512);
        for i in 0..words {
            let v = u64::from(i == 0 && flags & F_MEMS_ALLOWED != 0);
            cx.put(mask.0 + i * 8, &v)?;
        }
    }
    Ok(0)
}

/// mbind(2)
pub fn sys_mbind(
    cx: &mut Cx<'_>,
    addr: Ptr,
    len: u64,
    mode: i32,
    mask: Ptr,
    max: u64,
    flags: u32,
) -> Io<u64> {
    use ftl_core::layout::{PAGE, page_up};
    if !addr.0.is_multiple_of(PAGE) || flags & !7 != 0 {
        return err(Errno::EINVAL);
    }
    let len = page_up(len).ok_or(Errno::EINVAL)?;
    check_policy(cx, mode, mask, max)?;
    if !cx.task.mm().is_mapped(addr.0, len) {
        return err(Errno::EFAULT);
    }
    Ok(0)
}
