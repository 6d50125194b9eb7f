//! prctl(2).

use crate::args::Ptr;
use crate::cx::Cx;
use crate::task::Creds;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use std::rc::Rc;

const CAP_SETPCAP: u32 = 8;
const CAP_SYS_RESOURCE: u32 = 24;
const KEEP_CAPS: u32 = 0x10;
/// SECURE_ALL_BITS and their locks.
const SECUREBITS: u32 = 0xff;
const TASK_COMM_LEN: usize = 16;

fn set_creds(cx: &Cx<'_>, change: impl FnOnce(&mut Creds)) {
    let mut c = (**cx.task.creds.borrow()).clone();
    change(&mut c);
    *cx.task.creds.borrow_mut() = Rc::new(c);
}

/// prctl(2)
pub fn sys_prctl(cx: &mut Cx<'_>, option: i32, a: u64, b: u64, c: u64, d: u64) -> Io<u64> {
    let task = cx.task.clone();
    let proc = task.process();
    match option {
        1 => {
            // PR_SET_PDEATHSIG
            if a > 64 {
                return err(Errno::EINVAL);
            }
            task.pdeath_signal.set(a as i32);
        }
        2 => cx.put(a, &task.pdeath_signal.get())?,
        3 => return Ok(u64::from(proc.dumpable.get())),
        4 if a < 2 => proc.dumpable.set(a as u32),
        7 => return Ok(u64::from(task.creds.borrow().securebits & KEEP_CAPS != 0)),
        8 if a < 2 => set_creds(cx, |c| {
            c.securebits = c.securebits & !KEEP_CAPS | if a == 1 { KEEP_CAPS } else { 0 };
        }),
        // PR_GET_TIMING, PR_SET_TIMING(PR_TIMING_STATISTICAL)
        13 => {}
        14 if a == 0 => {}
        15 => set_name(cx, a)?,
        16 => cx.write(a, &task.name.get())?,
        21 => return Ok(u64::from(task.seccomp.mode.get())),
        22 => return crate::seccomp::set_by_prctl(cx, a, b),
        23 if a < 41 => return Ok(task.creds.borrow().caps[3] >> a & 1),
        24 if a < 41 => {
            if !task.creds.borrow().capable(CAP_SETPCAP) {
                return err(Errno::EPERM);
            }
            set_creds(cx, |c| c.caps[3] &= !(1 << a));
        }
        // PR_GET_TSC: readable. Another setting is not to be had.
        25 => cx.put(a, &1u32)?,
        26 if a == 1 => {}
        27 => return Ok(u64::from(task.creds.borrow().securebits)),
        28 => {
            if !task.creds.borrow().capable(CAP_SETPCAP) || a & !u64::from(SECUREBITS) != 0 {
                return err(Errno::EPERM);
            }
            set_creds(cx, |c| c.securebits = a as u32);
        }
        29 => {
            let mut s = task.sched.get();
            s.slack_ns = if a as i64 <= 0 { 50_000 } else { a };
            task.sched.set(s);
        }
        30 => return Ok(task.sched.get().slack_ns),
        // PR_TASK_PERF_EVENTS_*, PR_MCE_KILL and its getter: default policy.
        31 | 32 => {}
        33 | 34 => return if option == 34 { Ok(2) } else { Ok(0) },
        35 => return set_mm(cx, a, b, c, d),
        36 => proc.subreaper.set(a != 0),
        37 => cx.put(a, &i32::from(proc.subreaper.get()))?,
        38 if a == 1 && b == 0 && c == 0 && d == 0 => set_creds(cx, |c| c.no_new_privs = true),
        39 if a == 0 && b == 0 && c == 0 && d == 0 => {
            return Ok(u64::from(task.creds.borrow().no_new_privs));
        }
        40 => cx.put(a, &task.clear_child_tid.get())?,
        41 if b == 0 && c == 0 && d == 0 => proc.thp_disable.set(a != 0),
        42 if a == 0 && b == 0 && c == 0 && d == 0 => return Ok(u64::from(proc.thp_disable.get())),
        47 => return ambient(cx, a, b, c, d),
        // PR_GET_SPECULATION_CTRL: not affected.
        52 if a <= 2 => {}
        // PR_SET_PTRACER: nobody can attach in the first place.
        0x5961_6d61 => {}
        0x5356_4d41 if a == 0 => return name_mapping(cx, b, c, d),
        0x4155_5856 => return auxv(cx, a, b, c, d),
        _ => return err(Errno::EINVAL),
    }
    Ok(0)
}

fn set_name(cx: &mut Cx<'_>, addr: u64) -> Result<(), Errno> {
    // strncpy_from_user of 15 bytes: a longer name is cut.
    let mut name = [0u8; TASK_COMM_LEN];
    for (i, b) in name.iter_mut().take(TASK_COMM_LEN - 1).enumerate() {
        let mut one = [0u8];
        cx.read(addr.wrapping_add(i as u64), &mut one)?;
        if one[0] == 0 {
            break;
        }
        *b = one[0];
    }
    cx.task.name.set(name);
    Ok(())
}

/// PR_CAP_AMBIENT
fn ambient(cx: &mut Cx<'_>, op: u64, cap: u64, c: u64, d: u64) -> Io<u64> {
    if c != 0 || d != 0 || (op != 4 && cap > 40) || (op == 4 && cap != 0) {
        return err(Errno::EINVAL);
    }
    let caps = cx.task.creds.borrow().caps;
    match op {
        1 => return Ok(caps[4] >> cap & 1),
        2 => {
            if caps[1] & caps[2] & (1 << cap) == 0 {
                return err(Errno::EPERM);
            }
            set_creds(cx, |c| c.caps[4] |= 1 << cap);
        }
        3 => set_creds(cx, |c| c.caps[4] &= !(1 << cap)),
        4 => set_creds(cx, |c| c.caps[4] = 0),
        _ => return err(Errno::EINVAL),
    }
    Ok(0)
}

/// PR_SET_MM: the fields that setproctitle-like programs move need CAP_SYS_RESOURCE.
fn set_mm(cx: &mut Cx<'_>, field: u64, value: u64, d: u64, e: u64) -> Io<u64> {
    if e != 0 || (d != 0 && !matches!(field, 12 | 14 | 15)) {
        return err(Errno::EINVAL);
    }
    if !cx.task.creds.borrow().capable(CAP_SYS_RESOURCE) {
        return err(Errno::EPERM);
    }
    let mm = cx.task.mm();
    let mut l = mm.layout.get();
    let slot = match field {
        1 => &mut l.start_code,
        2 => &mut l.end_code,
        3 => &mut l.start_data,
        4 => &mut l.end_data,
        5 => &mut l.start_stack,
        8 => &mut l.arg_start,
        9 => &mut l.arg_end,
        10 => &mut l.env_start,
        11 => &mut l.env_end,
        _ => return err(Errno::EINVAL),
    };
    *slot = value;
    mm.layout.set(l);
    Ok(0)
}

/// PR_SET_VMA_ANON_NAME
fn name_mapping(cx: &mut Cx<'_>, addr: u64, len: u64, name: u64) -> Io<u64> {
    let name = if name == 0 {
        None
    } else {
        let bytes = match cx.env.plat.read_cstr(name, 80) {
            Ok(Some(n)) => n,
            Ok(None) => return err(Errno::EINVAL),
            Err(_) => return err(Errno::EFAULT),
        };
        let bad = |b: &u8| !(0x20..0x7f).contains(b) || b"\\`$[]".contains(b);
        if bytes.iter().any(bad) {
            return err(Errno::EINVAL);
        }
        Some(Rc::new(bytes))
    };
    crate::mm::name_range(cx, addr, len, name)
}

/// PR_GET_AUXV
fn auxv(cx: &mut Cx<'_>, addr: u64, len: u64, c: u64, d: u64) -> Io<u64> {
    if c != 0 || d != 0 {
        return err(Errno::EINVAL);
    }
    let bytes = cx.task.process().auxv.borrow().clone();
    let n = bytes.len().min(len as usize);
    cx.write(addr, &bytes[..n])?;
    Ok(bytes.len() as u64)
}

/// unshare(2): files and working directory; there are no namespaces.
pub fn sys_unshare(cx: &mut Cx<'_>, flags: crate::args::Bits) -> Io<u64> {
    const CLONE_VM: u64 = 0x100;
    const CLONE_FS: u64 = 0x200;
    const CLONE_FILES: u64 = 0x400;
    const CLONE_SIGHAND: u64 = 0x800;
    const CLONE_THREAD: u64 = 0x1_0000;
    const CLONE_SYSVSEM: u64 = 0x4_0000;
    const CLONE_NEWUSER: u64 = 0x1000_0000;
    const CAP_SYS_ADMIN: u32 = 21;
    let f = flags.0;
    let whole = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
    let shared = CLONE_FS | CLONE_FILES | CLONE_SYSVSEM;
    if f & !(whole | shared | super::NAMESPACES | 0x80) != 0 {
        return err(Errno::EINVAL);
    }
    if f & (super::NAMESPACES | 0x80) != 0 {
        let admin = cx.task.creds.borrow().capable(CAP_SYS_ADMIN);
        return err(if admin || f & CLONE_NEWUSER != 0 {
            Errno::EINVAL
        } else {
            Errno::EPERM
        });
    }
    if f & whole != 0 && cx.task.process().threads.borrow().len() > 1 {
        return err(Errno::EINVAL);
    }
    if f & CLONE_FILES != 0 {
        let own = Rc::new(cx.task.files().duplicate());
        *cx.task.files.borrow_mut() = own;
    }
    if f & CLONE_FS != 0 {
        let own = Rc::new(cx.task.fs.borrow().duplicate());
        *cx.task.fs.borrow_mut() = own;
    }
    Ok(0)
}

/// personality(2): PER_LINUX and its flags are kept; no flag has an effect.
pub fn sys_personality(cx: &mut Cx<'_>, persona: u32) -> Io<u64> {
    let proc = cx.task.process();
    let old = proc.personality.get();
    if persona != u32::MAX {
        proc.personality.set(persona);
    }
    Ok(u64::from(old))
}

/// sysinfo(2)
pub fn sys_sysinfo(cx: &mut Cx<'_>, out: Ptr) -> Io<u64> {
    let uptime = cx.now() + cx.core.clock.boot_offset.get();
    let total = cx.k.config.ram();
    let used = cx.k.committed();
    let procs = cx.k.tasks.borrow().len() as u64;
    let mut words = [0u64; 14];
    words[0] = uptime / 1_000_000_000;
    words[4] = total;
    words[5] = total.saturating_sub(used);
    // totalswap, freeswap are 8 and 9; procs is a u16.
    words[10] = procs & 0xffff;
    words[13] = 1;
    cx.put(out.0, &words)?;
    Ok(0)
}
