//! Delivery: what happens to pending signals when a task is about to go back to guest code
//! (kernel/signal.c: get_signal; arch/x86/kernel/signal.c: handle_signal).

use super::frame::{self, Extent, Head, Interrupted};
use super::send::{begin_stop, force};
use super::types::*;
use super::{dequeue, set_mask};
use crate::kernel::{Kernel, Trap};
use crate::process;
use crate::specials::Answer;
use crate::task::{Exit, Process, Task};
use ftl_core::context::{Resume, reg};
use ftl_core::io::{Io, Restart, Stop};
use ftl_core::kcore::Env;
use ftl_core::layout::is_guest_range;
use ftl_core::platform::Platform;
use ftl_core::wait::{State, Wake};
use std::rc::Rc;
use zerocopy::{FromZeros, IntoBytes};

/// Delivers what is pending before `task` goes back to guest code: pushes frames, acts on defaults,
/// and decides how an interrupted call goes on. Afterwards the task may be dead, stopped, or have a
/// call to run again.
pub fn deliver(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>) {
    let saved = task.sig.saved_mask.get().is_some();
    let tell = task.proc.borrow().sig.tell_cont.get();
    let stood = crate::ptrace::stands_before_signal(task);
    if task.interrupted.get().is_none() && !saved && !tell && !stood && !task.signal_pending() {
        return;
    }
    if !stood
        && task.interrupted.get().is_none()
        && let Some(mask) = task.sig.saved_mask.take()
    {
        // The call ended by itself: signals that only it let through stay blocked.
        task.sig.mask.set(mask);
    }
    let proc = task.process();
    loop {
        if proc.sig.tell_cont.replace(false) {
            process::child_continued(k, plat, &proc);
        }
        let shown = crate::ptrace::resumed_signal(task);
        if shown.is_none() && proc.sig.stop.get() != 0 && !task.trace.passes_stop() {
            stop_here(k, plat, task, &proc);
            return;
        }
        let info = match shown {
            Some(Some(info)) => info,
            Some(None) => continue,
            None => {
                let Some(info) = dequeue(&k.core, task, task.sig.mask.get()) else {
                    break;
                };
                if crate::ptrace::before_signal(k, plat, task, &info) {
                    return;
                }
                info
            }
        };
        let sighand = proc.sighand.borrow().clone();
        let action = sighand.get(info.signo);
        if action.ignores(info.signo) {
            continue;
        }
        if action.handler != SIG_DFL {
            if action.flags & sa::RESETHAND != 0 {
                let reset = SigAction {
                    handler: SIG_DFL,
                    ..action
                };
                sighand.set(info.signo, reset);
            }
            handle(k, plat, task, &action, &info);
            continue;
        }
        if bit(info.signo) & STOPS != 0 {
            // A group that no shell watches would never be continued. Whoever sent it from outside
            // the image watches.
            let watched = info.signo == sig::SIGSTOP
                || (info.code == code::SI_KERNEL && has_first(k, &proc))
                || !process::is_orphaned(k, proc.pgid.get(), None);
            if watched {
                begin_stop(&proc, info.signo);
            }
            continue;
        }
        fatal(k, plat, task, &info);
        return;
    }
    finish_interrupted(task);
}

/// The image's first process is in the group: its parent is whoever started the image.
fn has_first(k: &Kernel, proc: &Process) -> bool {
    let first = k.first.get().and_then(|f| k.procs.borrow().get(&f).cloned());
    first.is_some_and(|f| f.pgid == proc.pgid)
}

/// No handler ran for the interrupted call: it goes on, or says EINTR.
fn finish_interrupted(task: &Rc<Task>) {
    if let Some((call, restart)) = task.interrupted.take()
        && restart != Restart::Never
    {
        // Its deadline stays as it is in the entity.
        task.entity.wake.set(Wake::Fresh);
        task.call.set(Some(call));
    }
    if let Some(mask) = task.sig.saved_mask.take() {
        task.sig.mask.set(mask);
    }
}

/// The task stops; the last one of its process to do so tells the parent.
fn stop_here(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, proc: &Rc<Process>) {
    if crate::ptrace::group_stop(k, plat, task, proc.sig.stop.get()) {
        return;
    }
    task.entity.woken_while_stopped.set(false);
    task.entity.state.set(State::Stopped);
    stopped_all(k, plat, proc);
}

/// If every thread has stopped, the stop is complete. Also called when a thread ends.
pub fn stopped_all(k: &Kernel, plat: &mut dyn Platform, proc: &Rc<Process>) {
    let signo = proc.sig.stop.get();
    if signo == 0 || proc.job.get().stopped.is_some() {
        return;
    }
    let all = {
        let threads = proc.threads.borrow();
        !threads.is_empty() && threads.values().all(|t| t.entity.state.get() == State::Stopped)
    };
    if all {
        if k.first.get() == Some(proc.pid) {
            k.stop_request.set(true);
        }
        process::child_stopped(k, plat, proc, signo as u8);
    }
}

/// Pushes a frame for a handler and points the registers at it.
fn handle(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, action: &SigAction, info: &SigInfo) {
    let interrupted = task.interrupted.take();
    process::rseq::interrupted(k, plat, task);
    if push_frame(k, plat, task, action, info, interrupted.map(|(c, r)| (c.nr, r))).is_none() {
        // force_sigsegv: a SIGSEGV handler that has no stack cannot be helped.
        let segv = SigInfo::kernel(sig::SIGSEGV);
        force(task, segv, info.signo == sig::SIGSEGV);
        return;
    }
    let mut mask = task.sig.mask.get() | action.mask;
    if action.flags & sa::NODEFER == 0 {
        mask |= bit(info.signo);
    }
    task.sig.saved_mask.set(None);
    set_mask(task, mask);
    if task.sig.altstack.get().flags & ss::AUTODISARM != 0 {
        task.sig.altstack.set(AltStack::default());
    }
}

fn push_frame(
    k: &Kernel,
    plat: &mut dyn Platform,
    task: &Rc<Task>,
    action: &SigAction,
    info: &SigInfo,
    call: Option<(u64, Restart)>,
) -> Option<()> {
    let mm = task.mm();
    let mut ctx = task.ctx.borrow_mut();
    if ctx.xstate_valid == 0 {
        plat.save_xstate(&mut ctx);
    }
    let rip = mm.patches.borrow().to_program(ctx.rip);
    let mut regs = ctx.regs;
    if ctx.resume == Resume::Call {
        regs[reg::RCX] = rip;
        regs[reg::R11] = ctx.rflags;
    }
    let mut back = rip;
    if let Some((nr, restart)) = call
        && (restart == Restart::Always || restart == Restart::Sys && action.flags & sa::RESTART != 0)
    {
        // Back to the `syscall` instruction.
        back = rip.wrapping_sub(2);
        regs[reg::RAX] = nr;
    }
    let mut xstate = ctx.xstate_bytes();
    xstate.truncate(k.config.xsave_len.max(576));
    let frame = frame::build(
        &Interrupted {
            regs: &regs,
            rip: back,
            rflags: ctx.rflags,
            mask: task.sig.saved_mask.get().unwrap_or(task.sig.mask.get()),
            altstack: task.sig.altstack.get(),
            trap: task.sig.last_trap.get(),
            xstate: &xstate,
            xcr0: k.config.xcr0,
        },
        action,
        info,
    )?;
    let mut env = Env { plat, core: &k.core };
    env.write(frame.fp, &frame.fp_bytes).ok()?;
    env.write(frame.sp, &frame.bytes).ok()?;
    ctx.regs = regs;
    ctx.regs[reg::RDI] = u64::from(info.signo);
    ctx.regs[reg::RAX] = 0;
    ctx.regs[reg::RSI] = frame.info_addr();
    ctx.regs[reg::RDX] = frame.uc_addr();
    ctx.regs[reg::RSP] = frame.sp;
    ctx.rip = mm.patches.borrow().to_stub(action.handler);
    ctx.rflags = frame::handler_flags(ctx.rflags);
    ctx.reset_xstate();
    ctx.resume = Resume::Full;
    Some(())
}

/// rt_sigreturn(2)
pub fn sys_rt_sigreturn(cx: &mut crate::cx::Cx<'_>) -> Io<u64> {
    let task = cx.task.clone();
    if sigreturn(cx).is_none() {
        force(&task, SigInfo::kernel(sig::SIGSEGV), false);
    }
    let mut ctx = task.ctx.borrow_mut();
    ctx.orig_rax = u64::MAX;
    ctx.resume = Resume::Full;
    Err(Stop::NoReturn)
}

fn sigreturn(cx: &mut crate::cx::Cx<'_>) -> Option<()> {
    let task = cx.task.clone();
    let mm = task.mm();
    let at = task.ctx.borrow().regs[reg::RSP].wrapping_sub(8);
    let mut head = Head::new_zeroed();
    cx.read(at, head.as_mut_bytes()).ok()?;
    set_mask(&task, head.sigmask);
    {
        let mut ctx = task.ctx.borrow_mut();
        if ctx.xstate_valid == 0 {
            // Full resume below takes everything from the context, even if the frame is bad.
            cx.env.plat.save_xstate(&mut ctx);
        }
        let (regs, rip, flags) = frame::registers(&head, ctx.rflags)?;
        ctx.regs = regs;
        ctx.rip = mm.patches.borrow().to_stub(rip);
        ctx.rflags = flags;
    }
    let restored = restore_xstate(cx, head.mc.fpstate);
    if restored.is_none() {
        task.ctx.borrow_mut().reset_xstate();
    }
    restored?;
    let stack = AltStack {
        sp: head.ss_sp,
        flags: head.ss_flags,
        size: head.ss_size,
    };
    let _ = super::set_altstack(&task, stack, head.mc.sp);
    // iretq with such an address faults on the program's behalf.
    (head.mc.ip >> 47 == 0).then_some(())
}

fn restore_xstate(cx: &mut crate::cx::Cx<'_>, at: u64) -> Option<()> {
    let task = cx.task.clone();
    if at == 0 {
        task.ctx.borrow_mut().reset_xstate();
        return Some(());
    }
    let xcr0 = cx.k.config.xcr0;
    let len = task.ctx.borrow().xstate_len();
    let mut legacy = [0; 512];
    cx.read(at, &mut legacy).ok()?;
    let mut area = None;
    if let Extent::Full(size, features) = frame::extent(&legacy, len) {
        let mut all = vec![0; size + 4];
        cx.read(at, &mut all).ok()?;
        if all[size..] == frame::MAGIC2.to_le_bytes() {
            all.truncate(size);
            area = frame::loadable(&all, Some(features), xcr0, len);
            area.as_ref()?;
        }
    }
    let area = match area {
        Some(a) => a,
        None => frame::loadable(&legacy, None, xcr0, len)?,
    };
    task.ctx.borrow_mut().set_xstate_bytes(&area);
    Some(())
}

/// An exception in guest code.
pub fn trap(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, trap: &Trap) {
    const SEGV_MAPERR: i32 = 1;
    const SEGV_ACCERR: i32 = 2;
    const SI_KERNEL: i32 = 128;
    /// Bits of a page fault's error code (Intel SDM 3A, 4.7).
    const PRESENT: u64 = 1;
    const FETCH: u64 = 1 << 4;
    let mut trap = *trap;
    if trap.signo == sig::SIGSEGV && trap.error & FETCH != 0 && crate::specials::look(plat, task, trap.addr) {
        return;
    }
    if trap.signo == sig::SIGILL {
        match crate::specials::trapped(k, plat, task) {
            Answer::NotOurs => {}
            Answer::Done => {
                if task.trace.steps()
                    && let Some(info) = crate::ptrace::watch::stepped(k, plat, task)
                {
                    force(task, info, false);
                }
                return;
            }
            // A write by user code to a page that is not there.
            Answer::Unmapped(addr) => trap = fault(SEGV_MAPERR, addr, 14, 6),
            Answer::Protection => trap = fault(SI_KERNEL, 0, 13, 0),
        }
    }
    let unmapped = trap.signo == sig::SIGSEGV && trap.code == SEGV_MAPERR;
    if unmapped && crate::mm::grow_down(k, plat, task, trap.addr) {
        return;
    }
    if trap.signo == sig::SIGTRAP && task.trace.steps() {
        const TRAP_TRACE: i32 = 2;
        let info = crate::ptrace::watch::stepped(k, plat, task);
        if trap.code == TRAP_TRACE {
            if let Some(info) = info {
                task.interrupted.set(None);
                task.ctx.borrow_mut().orig_rax = u64::MAX;
                force(task, info, false);
            }
            return;
        }
    }
    task.interrupted.set(None);
    let (rip, mm) = {
        let mut ctx = task.ctx.borrow_mut();
        ctx.orig_rax = u64::MAX;
        (ctx.rip, task.mm())
    };
    if trap.signo == sig::SIGSEGV && trap.code == SEGV_ACCERR {
        // "Present" says whether the host had the page in memory: a restored image, or a replay, may not have touched it yet.
        let usable = mm.find(trap.cr2).is_some_and(|v| !v.prot.is_empty());
        trap.error = trap.error & !PRESENT | u64::from(usable);
    }
    task.sig.last_trap.set((trap.trapno, trap.error, trap.cr2));
    let addr = if trap.addr == rip {
        mm.patches.borrow().to_program(rip)
    } else {
        trap.addr
    };
    force(task, SigInfo::fault(trap.signo, trap.code, addr), false);
}

/// The trap that the CPU would have raised where a special instruction stands.
fn fault(code: i32, addr: u64, trapno: u64, error: u64) -> Trap {
    Trap {
        signo: sig::SIGSEGV,
        code,
        addr,
        trapno,
        error,
        cr2: addr,
    }
}

/// The default action ends the process.
fn fatal(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, info: &SigInfo) {
    if info.code > 0 && bit(info.signo) & SYNCHRONOUS != 0 {
        report(plat, task, info);
    }
    // No core file is written, and the status does not claim one.
    k.exit_process(plat, &task.process(), Exit::Signal(info.signo as u8, false));
}

/// One line for the operator about a program that crashed.
fn report(plat: &mut dyn Platform, task: &Task, info: &SigInfo) {
    let mm = task.mm();
    let rip = mm.patches.borrow().to_program(task.ctx.borrow().rip);
    let name = task.name.get();
    let name = String::from_utf8_lossy(name.split(|b| *b == 0).next().unwrap_or(&[])).into_owned();
    let place = match mm.find(rip) {
        Some(v) => match &v.file {
            Some(f) => {
                let path = String::from_utf8_lossy(&f.path).into_owned();
                format!("{path}+{:#x}", f.offset + (rip - v.start))
            }
            None => format!("{:?} mapping+{:#x}", v.kind, rip - v.start),
        },
        None => "not mapped".to_string(),
    };
    plat.diagnostic(&format!(
        "ftvm: task {} ({name}) killed by {} at {rip:#x} ({place}): {}",
        task.tid.0,
        super::types::name(info.signo),
        cause(info)
    ));
}

fn cause(info: &SigInfo) -> String {
    let addr = info.addr();
    match (info.signo, info.code) {
        (sig::SIGSEGV, code::SEGV_MAPERR) if !is_guest_range(addr, 1) => {
            format!("address {addr:#x} does not belong to the program")
        }
        (sig::SIGSEGV, code::SEGV_MAPERR) => format!("nothing is mapped at {addr:#x}"),
        (sig::SIGSEGV, code::SEGV_ACCERR) => format!("no permission for that access at {addr:#x}"),
        (sig::SIGSEGV, _) => "general protection, or a signal frame that could not be used".to_string(),
        (sig::SIGBUS, 2) => format!("beyond the end of the mapped file at {addr:#x}"),
        (sig::SIGBUS, _) => format!("bus error at {addr:#x}"),
        (sig::SIGFPE, 1) => "integer division by zero".to_string(),
        (sig::SIGFPE, c) => format!("arithmetic exception (code {c})"),
        (sig::SIGILL, _) => "illegal instruction".to_string(),
        (sig::SIGTRAP, _) => "breakpoint or trace trap".to_string(),
        (_, c) => format!("code {c}"),
    }
}
