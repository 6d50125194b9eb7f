//! Identity and end of tasks.

use crate::args::Ptr;
use crate::cx::Cx;
use crate::task::Exit;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Stop, err};
use ftl_core::layout::GUEST_TOP;

/// arch_prctl(2)
pub fn sys_arch_prctl(cx: &mut Cx<'_>, code: u32, addr: Ptr) -> Io<u64> {
    const ARCH_SET_GS: u32 = 0x1001;
    const ARCH_SET_FS: u32 = 0x1002;
    const ARCH_GET_FS: u32 = 0x1003;
    const ARCH_GET_GS: u32 = 0x1004;
    match code {
        ARCH_SET_FS | ARCH_SET_GS => {
            if addr.0 >= GUEST_TOP {
                return err(Errno::EPERM);
            }
            let mut ctx = cx.task.ctx.borrow_mut();
            if code == ARCH_SET_FS {
                ctx.fs_base = addr.0;
            } else {
                ctx.gs_base = addr.0;
            }
            Ok(0)
        }
        ARCH_GET_FS | ARCH_GET_GS => {
            let v = {
                let ctx = cx.task.ctx.borrow();
                if code == ARCH_GET_FS {
                    ctx.fs_base
                } else {
                    ctx.gs_base
                }
            };
            cx.put(addr.0, &v)?;
            Ok(0)
        }
        _ => err(Errno::EINVAL),
    }
}

/// exit(2)
pub fn sys_exit(cx: &mut Cx<'_>, status: i32) -> Io<u64> {
    let task = cx.task.clone();
    cx.k.exit_task(cx.env.plat, &task, Exit::Code(status as u8));
    Err(Stop::NoReturn)
}

/// exit_group(2)
pub fn sys_exit_group(cx: &mut Cx<'_>, status: i32) -> Io<u64> {
    let task = cx.task.clone();
    cx.k.exit_process(cx.env.plat, &task.process(), Exit::Code(status as u8));
    Err(Stop::NoReturn)
}

/// getpid(2)
pub fn sys_getpid(cx: &mut Cx<'_>) -> Io<u64> {
    Ok(u64::from(cx.task.process().pid.0))
}

/// gettid(2)
pub fn sys_gettid(cx: &mut Cx<'_>) -> Io<u64> {
    Ok(u64::from(cx.task.tid.0))
}

/// getppid(2)
pub fn sys_getppid(cx: &mut Cx<'_>) -> Io<u64> {
    Ok(u64::from(cx.task.process().parent_pid()))
}

/// set_tid_address(2)
pub fn sys_set_tid_address(cx: &mut Cx<'_>, ptr: Ptr) -> Io<u64> {
    cx.task.clear_child_tid.set(ptr.0);
    Ok(u64::from(cx.task.tid.0))
}

/// sched_yield(2)
pub fn sys_sched_yield(cx: &mut Cx<'_>) -> Io<u64> {
    cx.k.yield_now();
    Ok(0)
}

/// uname(2)
pub fn sys_uname(cx: &mut Cx<'_>, buf: Ptr) -> Io<u64> {
    let mut out = [0u8; 65 * 6];
    let c = &cx.k.config;
    let fields: [&[u8]; 6] = [
        b"Linux",
        &c.hostname,
        c.kernel_release.as_bytes(),
        c.kernel_version.as_bytes(),
        b"x86_64",
        b"(none)",
    ];
    for (i, f) in fields.iter().enumerate() {
        let n = f.len().min(64);
        out[i * 65..i * 65 + n].copy_from_slice(&f[..n]);
    }
    cx.write(buf.0, &out)?;
    Ok(0)
}

/// getrandom(2)
pub fn sys_getrandom(cx: &mut Cx<'_>, buf: Ptr, len: u64, flags: u32) -> Io<u64> {
    const GRND_RANDOM: u32 = 2;
    const GRND_INSECURE: u32 = 4;
    if flags & !7 != 0 || flags & (GRND_RANDOM | GRND_INSECURE) == GRND_RANDOM | GRND_INSECURE {
        return err(Errno::EINVAL);
    }
    let len = len.min(0x1ff_ffff);
    let mut done = 0;
    while done < len {
        let mut chunk = [0u8; 256];
        let n = (len - done).min(256) as usize;
        cx.core.random(&mut chunk[..n]);
        if let Err(e) = cx.write(buf.0 + done, &chunk[..n]) {
            return if done > 0 { Ok(done) } else { err(e) };
        }
        done += n as u64;
    }
    Ok(done)
}
