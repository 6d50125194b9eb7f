//! ptrace(2): the requests.

use super::regs;
use super::remote::{self, Op};
use super::{Kind, attach, detach, interrupt, resume, trace_me};
use crate::args::Ptr;
use crate::cx::Cx;
use crate::signal::{SIGINFO_LEN, SigInfo, set_mask};
use crate::task::Task;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::layout::{PAGE, is_guest_range};
use ftl_core::platform::Prot;
use ftl_core::wait::State;
use std::rc::Rc;

const O_KNOWN: u32 = 0xff | super::O_EXITKILL;
const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;
const FPREGS: usize = 512;
/// offsetof(struct user, u_debugreg), and the size of struct user.
const USER_DEBUGREG: u64 = 848;
const USER_LEN: u64 = 912;

const TRACEME: i64 = 0;
const PEEKTEXT: i64 = 1;
const PEEKDATA: i64 = 2;
const PEEKUSER: i64 = 3;
const POKETEXT: i64 = 4;
const POKEDATA: i64 = 5;
const POKEUSER: i64 = 6;
const CONT: i64 = 7;
const KILL: i64 = 8;
const SINGLESTEP: i64 = 9;
const GETREGS: i64 = 12;
const SETREGS: i64 = 13;
const GETFPREGS: i64 = 14;
const SETFPREGS: i64 = 15;
const ATTACH: i64 = 16;
const DETACH: i64 = 17;
const SYSCALL: i64 = 24;
const SETOPTIONS: i64 = 0x4200;
const GETEVENTMSG: i64 = 0x4201;
const GETSIGINFO: i64 = 0x4202;
const SETSIGINFO: i64 = 0x4203;
const GETREGSET: i64 = 0x4204;
const SETREGSET: i64 = 0x4205;
const SEIZE: i64 = 0x4206;
const INTERRUPT: i64 = 0x4207;
const LISTEN: i64 = 0x4208;
const GETSIGMASK: i64 = 0x420a;
const SETSIGMASK: i64 = 0x420b;
const GET_SYSCALL_INFO: i64 = 0x420e;
const GET_RSEQ_CONFIGURATION: i64 = 0x420f;

/// ptrace(2)
pub fn sys_ptrace(cx: &mut Cx<'_>, request: i64, pid: i32, addr: Ptr, data: Ptr) -> Io<u64> {
    let (addr, data) = (addr.0, data.0);
    if request == TRACEME {
        trace_me(cx.k, &cx.task)?;
        return Ok(0);
    }
    let found = cx.k.tasks.borrow().get(&ftl_core::wait::Tid(pid as u32)).cloned();
    let task = found.ok_or(Errno::ESRCH)?;
    match request {
        ATTACH => {
            attach(cx.k, &cx.task, &task, None)?;
            return Ok(0);
        }
        SEIZE => {
            if addr != 0 || data & !u64::from(O_KNOWN) != 0 {
                return err(Errno::EIO);
            }
            attach(cx.k, &cx.task, &task, Some(data as u32))?;
            return Ok(0);
        }
        _ => {}
    }
    let mine = task
        .trace
        .tracer()
        .is_some_and(|(p, tid)| tid == cx.task.tid && Rc::ptr_eq(&p, &cx.task.process()));
    if !mine {
        return err(Errno::ESRCH);
    }
    match request {
        INTERRUPT if !task.trace.seized.get() => return err(Errno::EIO),
        INTERRUPT => {
            interrupt(&task);
            return Ok(0);
        }
        KILL => {
            let info = SigInfo::kernel(crate::signal::sig::SIGKILL);
            crate::signal::post_task(&task, info);
            return Ok(0);
        }
        _ => {}
    }
    // A request that waits for its bytes has found the task stopped when it began.
    if cx.task.remote.borrow().is_none()
        && (!task.trace.is_stopped() || task.entity.state.get() != State::Stopped)
    {
        return err(Errno::ESRCH);
    }
    match request {
        PEEKTEXT | PEEKDATA => {
            let bytes = memory(cx, &task, Op::Read(addr, 8, true))?;
            cx.write(data, &bytes)?;
            Ok(0)
        }
        POKETEXT | POKEDATA => {
            memory(cx, &task, Op::Write(addr, data.to_le_bytes().to_vec(), true))?;
            Ok(0)
        }
        CONT | SYSCALL | SINGLESTEP => go_on(&task, request, data),
        DETACH => {
            if data > 64 {
                return err(Errno::EIO);
            }
            detach(cx.k, &task, data as u32);
            Ok(0)
        }
        LISTEN => listen(&task),
        SETOPTIONS => {
            if data & !u64::from(O_KNOWN) != 0 {
                return err(Errno::EINVAL);
            }
            task.trace.options.set(data as u32);
            Ok(0)
        }
        GETEVENTMSG => {
            cx.put(data, &task.trace.msg.get())?;
            Ok(0)
        }
        GETSIGINFO => {
            let info = siginfo(&task)?;
            cx.write(data, &info.to_bytes())?;
            Ok(0)
        }
        SETSIGINFO => {
            siginfo(&task)?;
            let mut raw = [0; SIGINFO_LEN];
            cx.read(data, &mut raw)?;
            let info = SigInfo::from_bytes(&raw);
            set_siginfo(&task, info);
            Ok(0)
        }
        GETSIGMASK if addr == 8 => {
            let mask = task.sig.saved_mask.get().unwrap_or(task.sig.mask.get());
            cx.put(data, &mask)?;
            Ok(0)
        }
        SETSIGMASK if addr == 8 => {
            let mask: u64 = cx.get(data)?;
            set_mask(&task, mask);
            Ok(0)
        }
        GETSIGMASK | SETSIGMASK => err(Errno::EINVAL),
        GETREGS => {
            let w = regs::get(&task);
            cx.put(data, &w)?;
            Ok(0)
        }
        SETREGS => {
            let w: [u64; regs::WORDS] = cx.get(data)?;
            regs::set(&task, &w)?;
            Ok(0)
        }
        GETFPREGS => {
            let b = regs::xstate(cx.k, &task);
            cx.write(data, &b[..FPREGS])?;
            Ok(0)
        }
        SETFPREGS => {
            let mut b = [0; FPREGS];
            cx.read(data, &mut b)?;
            regs::set_xstate(cx.k, &task, &b)?;
            Ok(0)
        }
        GETREGSET | SETREGSET => regset(cx, &task, request == SETREGSET, addr, data),
        PEEKUSER => {
            let v = peek_user(&task, addr)?;
            cx.put(data, &v)?;
            Ok(0)
        }
        POKEUSER => {
            poke_user(&task, addr, data)?;
            Ok(0)
        }
        GET_SYSCALL_INFO => syscall_info(cx, &task, addr, data),
        GET_RSEQ_CONFIGURATION => {
            let (area, len, sig) = task.rseq.get().map_or((0, 0, 0), |r| r.parts());
            let words = [area, u64::from(len) | u64::from(sig) << 32, 0];
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            cx.write(data, &bytes[..bytes.len().min(addr as usize)])?;
            Ok(bytes.len() as u64)
        }
        // Nothing else is there: PTRACE_SYSEMU, PEEKSIGINFO, SECCOMP_GET_FILTER.
        _ => err(Errno::EIO),
    }
}

fn memory(cx: &mut Cx<'_>, task: &Rc<Task>, op: Op) -> Io<Vec<u8>> {
    use ftl_core::io::Stop;
    match remote::access(cx, &task.mm(), op) {
        Err(Stop::Errno(_)) => err(Errno::EIO),
        r => r,
    }
}

/// PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SINGLESTEP
fn go_on(task: &Rc<Task>, request: i64, signo: u64) -> Io<u64> {
    if signo > 64 {
        return err(Errno::EIO);
    }
    let t = &task.trace;
    t.syscalls.set(request == SYSCALL);
    t.step.set(request == SINGLESTEP);
    // In a group stop the signal is not for delivery: that was decided before.
    let kind = t.kind();
    let group = kind == Some(Kind::Group) || t.stop.get().is_some_and(|s| s.code >> 8 == super::event::STOP);
    t.data.set(if group { 0 } else { signo as u32 });
    if group {
        t.passed_stop.set(true);
    }
    resume(task);
    Ok(0)
}

fn listen(task: &Rc<Task>) -> Io<u64> {
    let t = &task.trace;
    let stop = t.stop.get().filter(|s| s.code >> 8 == super::event::STOP);
    if !t.seized.get() || stop.is_none() {
        return err(Errno::EIO);
    }
    if t.due.get().contains(super::Due::TRAP) {
        // There has been news since the stop began.
        resume(task);
        return Ok(0);
    }
    t.stop.set(None);
    t.listening.set(true);
    Ok(0)
}

/// EINVAL in a group stop of a task that was not seized: it has none.
fn siginfo(task: &Task) -> Result<SigInfo, Errno> {
    let stop = task.trace.stop.get().ok_or(Errno::ESRCH)?;
    match stop.kind {
        Kind::Group => Err(Errno::EINVAL),
        _ => Ok(stop.info),
    }
}

fn set_siginfo(task: &Task, info: SigInfo) {
    let t = &task.trace;
    if let Some(mut stop) = t.stop.get() {
        stop.info = info;
        t.stop.set(Some(stop));
    }
    if t.delivering.get().is_some() {
        t.delivering.set(Some(info));
    }
}

/// PTRACE_GETREGSET, PTRACE_SETREGSET: `iov` names the buffer, and how much was moved.
fn regset(cx: &mut Cx<'_>, task: &Rc<Task>, set: bool, kind: u64, iov: u64) -> Io<u64> {
    let [base, len]: [u64; 2] = cx.get(iov)?;
    let have: Vec<u8> = match kind {
        NT_PRSTATUS => regs::get(task).iter().flat_map(|w| w.to_le_bytes()).collect(),
        NT_PRFPREG => regs::xstate(cx.k, task)[..FPREGS].to_vec(),
        NT_X86_XSTATE => regs::xstate(cx.k, task),
        _ => return err(Errno::EINVAL),
    };
    if !len.is_multiple_of(8) {
        return err(Errno::EINVAL);
    }
    let n = have.len().min(len as usize);
    if !is_guest_range(base, n as u64) {
        return err(Errno::EFAULT);
    }
    if !set {
        cx.write(base, &have[..n])?;
        cx.put(iov + 8, &(n as u64))?;
        return Ok(0);
    }
    let mut new = have;
    cx.read(base, &mut new[..n])?;
    match kind {
        NT_PRSTATUS => {
            let mut w = [0; regs::WORDS];
            for (w, b) in w.iter_mut().zip(new.chunks_exact(8)) {
                *w = u64::from_le_bytes(std::array::from_fn(|i| b[i]));
            }
            regs::set(task, &w)?;
        }
        NT_X86_XSTATE if n != new.len() => return err(Errno::EFAULT),
        _ => regs::set_xstate(cx.k, task, &new)?,
    }
    cx.put(iov + 8, &(n as u64))?;
    Ok(0)
}

fn peek_user(task: &Task, at: u64) -> Result<u64, Errno> {
    if !at.is_multiple_of(8) || at >= USER_LEN {
        return Err(Errno::EIO);
    }
    let w = regs::get(task);
    // Behind the registers: sizes and addresses for core files (0), debug registers.
    Ok(match at.checked_sub(USER_DEBUGREG) {
        Some(n) => task.trace.debug.get(n as usize / 8),
        None => w.get(at as usize / 8).copied().unwrap_or(0),
    })
}

fn poke_user(task: &Task, at: u64, value: u64) -> Result<(), Errno> {
    if !at.is_multiple_of(8) || at >= USER_LEN {
        return Err(Errno::EIO);
    }
    let mut w = regs::get(task);
    if let Some(slot) = w.get_mut(at as usize / 8) {
        *slot = value;
        return regs::set(task, &w);
    }
    match at.checked_sub(USER_DEBUGREG) {
        Some(n) => task.trace.debug.set(n as usize / 8, value),
        None => Err(Errno::EIO),
    }
}

/// PTRACE_GET_SYSCALL_INFO: how long the whole is; as much of it as `size` allows is stored.
fn syscall_info(cx: &mut Cx<'_>, task: &Rc<Task>, size: u64, at: u64) -> Io<u64> {
    const OP_ENTRY: u8 = 1;
    const OP_EXIT: u8 = 2;
    const OP_SECCOMP: u8 = 3;
    const ARCH_X86_64: u32 = 0xc000_003e;
    let w = regs::get(task);
    let stop = task.trace.stop.get().ok_or(Errno::ESRCH)?;
    let op = match stop.kind {
        Kind::Enter => OP_ENTRY,
        Kind::Exit => OP_EXIT,
        Kind::Event if stop.code >> 8 == super::event::SECCOMP => OP_SECCOMP,
        _ => 0,
    };
    let mut b = vec![op, 0, 0, 0];
    b.extend_from_slice(&ARCH_X86_64.to_le_bytes());
    b.extend_from_slice(&w[16].to_le_bytes());
    b.extend_from_slice(&w[19].to_le_bytes());
    match op {
        OP_ENTRY | OP_SECCOMP => {
            b.extend_from_slice(&w[15].to_le_bytes());
            for i in task.ctx.borrow().args() {
                b.extend_from_slice(&i.to_le_bytes());
            }
            if op == OP_SECCOMP {
                b.extend_from_slice(&(task.trace.msg.get() as u32).to_le_bytes());
            }
        }
        OP_EXIT => {
            let (value, is_error) = regs::result(task);
            b.extend_from_slice(&value.to_le_bytes());
            b.push(u8::from(is_error));
        }
        _ => {}
    }
    let n = b.len().min(size as usize);
    cx.write(at, &b[..n])?;
    Ok(b.len() as u64)
}

/// process_vm_readv(2), process_vm_writev(2): `write`: into the other process.
pub fn process_vm(
    cx: &mut Cx<'_>,
    pid: i32,
    local: (Ptr, u64),
    far: (Ptr, u64),
    flags: u64,
    write: bool,
) -> Io<u64> {
    if flags != 0 {
        return err(Errno::EINVAL);
    }
    let vec_of = |cx: &mut Cx<'_>, (at, n): (Ptr, u64), check: bool| -> Result<Vec<(u64, u64)>, Errno> {
        if n > 1024 {
            return Err(Errno::EINVAL);
        }
        let mut out = Vec::new();
        for i in 0..n {
            let [addr, len]: [u64; 2] = cx.get(at.0.wrapping_add(i * 16))?;
            if len > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            if check && !is_guest_range(addr, len) {
                return Err(Errno::EFAULT);
            }
            out.push((addr, len));
        }
        Ok(out)
    };
    let (near, far) = (vec_of(cx, local, true)?, vec_of(cx, far, false)?);
    let t = crate::process::find_task(cx, pid)?;
    crate::process::may_access(cx, &t)?;
    let total = |v: &[(u64, u64)]| v.iter().fold(0u64, |n, (_, l)| n.saturating_add(*l));
    let want = total(&near).min(total(&far));
    let mm = t.mm();
    // A chunk at a time; what is done is kept over the waits.
    loop {
        let done = cx.task.entity.progress.get();
        if done >= want {
            return Ok(done);
        }
        let (at, room) = place(&far, done);
        let (near_at, near_room) = place(&near, done);
        let n = match remote::pending(cx) {
            Some(n) => n,
            None => {
                let most = room.min(want - done).min(near_room).min(remote::CHUNK as u64);
                let need = if write { Prot::WRITE } else { Prot::READ };
                // What can be reached of it; if that is nothing, the attempt says why.
                remote::reachable(&mm, at, most, need).max(1)
            }
        };
        let op = if write {
            let mut bytes = vec![0; n as usize];
            if remote::pending(cx).is_none() {
                let got = read_prefix(cx, near_at, &mut bytes);
                if got == 0 {
                    return if done > 0 { Ok(done) } else { err(Errno::EFAULT) };
                }
                bytes.truncate(got);
            }
            Op::Write(at, bytes, false)
        } else {
            Op::Read(at, n as usize, false)
        };
        let n = remote::pending(cx).unwrap_or_else(|| op.bytes());
        use ftl_core::io::Stop;
        let bytes = match remote::access(cx, &mm, op) {
            Ok(b) => b,
            Err(Stop::Errno(_)) if done > 0 => return Ok(done),
            Err(Stop::Errno(_)) => return err(Errno::EFAULT),
            Err(s) => return Err(s),
        };
        if !write {
            // The list may have changed since: no byte goes past the buffer that it names now.
            let fits = bytes.len().min(near_room as usize);
            let got = write_prefix(cx, near_at, &bytes[..fits]);
            if got < bytes.len() {
                let done = done + got as u64;
                return if done > 0 { Ok(done) } else { err(Errno::EFAULT) };
            }
        }
        cx.task.entity.progress.set(done + n);
    }
}

/// Lengths of the pieces of a buffer up to the ends of its pages.
fn page_pieces(addr: u64, len: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let room = (PAGE - addr.wrapping_add(at as u64) % PAGE) as usize;
        let piece = at..at + room.min(len - at);
        at = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Reads as much as can be read, to a page's granularity, and says how much that is.
fn read_prefix(cx: &mut Cx<'_>, addr: u64, out: &mut [u8]) -> usize {
    if cx.read(addr, out).is_ok() {
        return out.len();
    }
    for piece in page_pieces(addr, out.len()) {
        let from = piece.start;
        if cx.read(addr.wrapping_add(from as u64), &mut out[piece]).is_err() {
            return from;
        }
    }
    out.len()
}

/// Same for writing.
fn write_prefix(cx: &mut Cx<'_>, addr: u64, bytes: &[u8]) -> usize {
    if cx.write(addr, bytes).is_ok() {
        return bytes.len();
    }
    for piece in page_pieces(addr, bytes.len()) {
        let from = piece.start;
        if cx.write(addr.wrapping_add(from as u64), &bytes[piece]).is_err() {
            return from;
        }
    }
    bytes.len()
}

/// The address at which byte `done` of a list of buffers lies, and how many more that buffer has.
fn place(list: &[(u64, u64)], mut done: u64) -> (u64, u64) {
    for (addr, len) in list {
        if done < *len {
            return (addr.wrapping_add(done), len - done);
        }
        done -= len;
    }
    (0, 0)
}
