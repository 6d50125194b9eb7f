//! clone(2), clone3(2), fork(2), vfork(2) (kernel/fork.c).

use super::{Birth, VforkDone, pidfd};
use crate::args::{Bits, Ptr};
use crate::cx::Cx;
use crate::mm::Mm;
use crate::signal::{SigAction, SigHand};
use crate::task::{Pid, Process, Task};
use ftl_core::context::{Context, reg};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, Stop, err};
use ftl_core::layout::GUEST_TOP;
use ftl_core::wait::{Block, Entity, Tid};
use std::rc::{Rc, Weak};

const CSIGNAL: u64 = 0xff;
const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_DETACHED: u64 = 0x40_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
/// NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
pub const NAMESPACES: u64 = CLONE_NEWNS | 0x7e00_0000;
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
const CLONE_INTO_CGROUP: u64 = 1 << 33;
const CLONE_NEWTIME: u64 = 0x80;
const RLIMIT_NPROC: usize = 6;
const RLIMIT_NOFILE: usize = 7;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

/// What all ways to make a task come down to (struct kernel_clone_args).
#[derive(Default, Clone, Copy, Debug)]
struct Args {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: i32,
    /// New stack pointer; 0 keeps the caller's.
    stack: u64,
    tls: u64,
}

/// clone(2)
pub fn sys_clone(cx: &mut Cx<'_>, flags: Bits, stack: Ptr, ptid: Ptr, ctid: Ptr, tls: Ptr) -> Io<u64> {
    // The C argument is unsigned long, but only its low half counts.
    let flags = flags.0 & 0xffff_ffff;
    clone(
        cx,
        Args {
            flags: flags & !CSIGNAL,
            pidfd: ptid.0,
            child_tid: ctid.0,
            parent_tid: ptid.0,
            exit_signal: (flags & CSIGNAL) as i32,
            stack: stack.0,
            tls: tls.0,
        },
    )
}

/// fork(2)
pub fn sys_fork(cx: &mut Cx<'_>) -> Io<u64> {
    clone(
        cx,
        Args {
            exit_signal: 17,
            ..Args::default()
        },
    )
}

/// vfork(2)
pub fn sys_vfork(cx: &mut Cx<'_>) -> Io<u64> {
    clone(
        cx,
        Args {
            flags: CLONE_VM | CLONE_VFORK,
            exit_signal: 17,
            ..Args::default()
        },
    )
}

/// clone3(2)
pub fn sys_clone3(cx: &mut Cx<'_>, args: Ptr, size: u64) -> Io<u64> {
    const FIELDS: usize = 11;
    if size > 4096 {
        return err(Errno::E2BIG);
    }
    if size < 64 {
        return err(Errno::EINVAL);
    }
    let mut raw = vec![0u8; size as usize];
    cx.read(args.0, &mut raw)?;
    if raw.iter().skip(FIELDS * 8).any(|b| *b != 0) {
        return err(Errno::E2BIG);
    }
    let field = |i: usize| {
        raw.get(i * 8..i * 8 + 8)
            .map_or(0, |b| u64::from_le_bytes(std::array::from_fn(|k| b[k])))
    };
    let [
        flags,
        pidfd,
        child_tid,
        parent_tid,
        exit_signal,
        stack,
        stack_size,
        tls,
        set_tid,
        set_tid_size,
    ] = std::array::from_fn(field);
    let known = 0xffff_ffff | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP;
    if flags & !known != 0 || flags & (CLONE_DETACHED | (CSIGNAL & !CLONE_NEWTIME)) != 0 {
        return err(Errno::EINVAL);
    }
    if exit_signal > 64 || (flags & (CLONE_THREAD | CLONE_PARENT) != 0 && exit_signal != 0) {
        return err(Errno::EINVAL);
    }
    if (stack == 0) != (stack_size == 0) || (set_tid == 0) != (set_tid_size == 0) {
        return err(Errno::EINVAL);
    }
    if flags & CLONE_CLEAR_SIGHAND != 0 && flags & CLONE_SIGHAND != 0 {
        return err(Errno::EINVAL);
    }
    if set_tid_size != 0 || flags & CLONE_INTO_CGROUP != 0 {
        return err(Errno::EPERM);
    }
    clone(
        cx,
        Args {
            flags,
            pidfd,
            child_tid,
            parent_tid,
            exit_signal: exit_signal as i32,
            stack: stack.wrapping_add(stack_size),
            tls,
        },
    )
}

/// Combinations that copy_process() refuses.
fn check(cx: &Cx<'_>, a: &Args) -> Result<(), Errno> {
    let f = a.flags;
    let has = |bits| f & bits == bits;
    if has(CLONE_NEWNS | CLONE_FS) || has(CLONE_NEWUSER | CLONE_FS) {
        return Err(Errno::EINVAL);
    }
    if (has(CLONE_THREAD) && !has(CLONE_SIGHAND)) || (has(CLONE_SIGHAND) && !has(CLONE_VM)) {
        return Err(Errno::EINVAL);
    }
    if has(CLONE_THREAD) && f & (CLONE_NEWUSER | CLONE_NEWPID) != 0 {
        return Err(Errno::EINVAL);
    }
    if has(CLONE_PIDFD) && f & (CLONE_THREAD | CLONE_DETACHED) != 0 {
        return Err(Errno::EINVAL);
    }
    if has(CLONE_PIDFD | CLONE_PARENT_SETTID) && a.pidfd == a.parent_tid {
        return Err(Errno::EINVAL);
    }
    if f & (NAMESPACES | CLONE_NEWTIME) != 0 {
        // As a kernel built without namespaces, which root learns as EINVAL.
        let admin = cx.task.creds.borrow().capable(CAP_SYS_ADMIN);
        return Err(if admin || has(CLONE_NEWUSER) {
            Errno::EINVAL
        } else {
            Errno::EPERM
        });
    }
    if has(CLONE_SETTLS) && a.tls >= GUEST_TOP {
        return Err(Errno::EPERM);
    }
    let creds = cx.task.creds.borrow();
    let limit = cx.task.process().rlimits.borrow()[RLIMIT_NPROC].0;
    if creds.ruid != 0 && !creds.capable(CAP_SYS_RESOURCE) && !creds.capable(CAP_SYS_ADMIN) {
        let tasks = cx.k.tasks.borrow();
        if limit < cx.k.config.max_tasks as u64 && tasks.len() as u64 >= limit {
            let mine = tasks
                .values()
                .filter(|t| t.creds.borrow().ruid == creds.ruid)
                .count();
            if mine as u64 >= limit {
                return Err(Errno::EAGAIN);
            }
        }
    }
    Ok(())
}

fn clone(cx: &mut Cx<'_>, a: Args) -> Io<u64> {
    if let Some(result) = vfork_waits(cx) {
        return result;
    }
    check(cx, &a)?;
    let parent = cx.task.process();
    let tid = cx.k.new_tid()?;
    let thread = a.flags & CLONE_THREAD != 0;
    let (mm, space) = if a.flags & CLONE_VM != 0 {
        (cx.task.mm(), cx.task.entity.space.get())
    } else {
        let id = cx.k.new_space();
        (Rc::new(cx.task.mm().duplicate(id)), id)
    };
    let proc = if thread {
        parent.clone()
    } else {
        new_process(cx, &a, tid, &parent, mm.clone())
    };
    let child = new_task(cx, &a, Entity::new(tid, space, &cx.core.run), proc.clone());
    if a.flags & CLONE_PIDFD != 0 {
        let open = pidfd::open(&proc, 0);
        let limit = parent.rlimits.borrow()[RLIMIT_NOFILE].0;
        let files = cx.task.files();
        let fd = files.install_at(open, true, 0, limit)?;
        if let Err(e) = cx.put(a.pidfd, &fd) {
            let _ = files.remove(fd);
            return err(e);
        }
    }
    // Nothing fails from here on.
    if !thread {
        let real = proc.parent.borrow().upgrade();
        if let Some(p) = real {
            p.children.borrow_mut().insert(tid, proc.clone());
        }
        cx.k.procs.borrow_mut().insert(tid, proc.clone());
        crate::time::cpu::watch_limit(cx.core, &proc);
    }
    proc.threads.borrow_mut().insert(tid, child.clone());
    cx.k.tasks.borrow_mut().insert(tid, child.clone());
    let set_tid = if a.flags & CLONE_CHILD_SETTID != 0 {
        a.child_tid
    } else {
        0
    };
    if a.flags & CLONE_VM == 0 {
        *child.birth.borrow_mut() = Some(Box::new(forked(&mm, set_tid)));
        cx.env.plat.fork_space(space);
    } else {
        if !thread {
            mm.users.set(mm.users.get() + 1);
        }
        if set_tid != 0 {
            let _ = cx.put(set_tid, &tid.0);
        }
    }
    if a.flags & CLONE_PARENT_SETTID != 0 {
        let _ = cx.put(a.parent_tid, &tid.0);
    }
    crate::ptrace::cloned(cx.k, &cx.task, &child, a.flags, a.exit_signal);
    child.entity.enqueue();
    if a.flags & CLONE_VFORK != 0 && !thread {
        let done = Rc::new(VforkDone::default());
        *proc.vfork_done.borrow_mut() = Some(done.clone());
        *cx.task.vfork.borrow_mut() = Some((tid, done.clone()));
        return Err(wait_for(&done));
    }
    Ok(u64::from(tid.0))
}

/// The child's record of a forked space: what MADV_DONTFORK and MADV_WIPEONFORK leave out.
fn forked(mm: &Mm, set_tid: u64) -> Birth {
    let (unmap, wipe) = mm.after_fork();
    Birth { set_tid, unmap, wipe }
}

fn wait_for(done: &VforkDone) -> Stop {
    Stop::Block(Block {
        on: vec![done.queue.on()],
        deadline: None,
        restart: Restart::Sys,
        interruptible: false,
    })
}

/// The call is a vfork that has made its child and waits for it.
fn vfork_waits(cx: &Cx<'_>) -> Option<Io<u64>> {
    let (pid, done) = cx.task.vfork.borrow().clone()?;
    if !done.done.get() {
        return Some(Err(wait_for(&done)));
    }
    *cx.task.vfork.borrow_mut() = None;
    crate::ptrace::vfork_done(&cx.task, pid);
    Some(Ok(u64::from(pid.0)))
}

fn new_sighand(old: &SigHand, clear: bool) -> SigHand {
    const SIG_IGN: u64 = 1;
    let mut actions = *old.actions.borrow();
    if clear {
        for a in actions.iter_mut().filter(|a| a.handler != SIG_IGN) {
            *a = SigAction::default();
        }
    }
    let new = SigHand::default();
    *new.actions.borrow_mut() = actions;
    new
}

fn new_process(cx: &Cx<'_>, a: &Args, pid: Pid, maker: &Rc<Process>, mm: Rc<Mm>) -> Rc<Process> {
    let sighand = if a.flags & CLONE_SIGHAND != 0 {
        maker.sighand.borrow().clone()
    } else {
        let old = maker.sighand.borrow();
        Rc::new(new_sighand(&old, a.flags & CLONE_CLEAR_SIGHAND != 0))
    };
    let rlimits = *maker.rlimits.borrow();
    let p = Process::new(pid, mm, sighand, rlimits);
    let (parent, thread, signal): (Weak<Process>, Tid, i32) = if a.flags & CLONE_PARENT != 0 {
        (
            maker.parent.borrow().clone(),
            maker.parent_thread.get(),
            maker.exit_signal.get(),
        )
    } else {
        (Rc::downgrade(maker), cx.task.tid, a.exit_signal)
    };
    *p.parent.borrow_mut() = parent;
    p.parent_thread.set(thread);
    p.exit_signal.set(signal);
    p.pgid.set(maker.pgid.get());
    p.sid.set(maker.sid.get());
    p.exe.borrow_mut().clone_from(&maker.exe.borrow());
    p.cmdline.borrow_mut().clone_from(&maker.cmdline.borrow());
    p.environ.borrow_mut().clone_from(&maker.environ.borrow());
    p.auxv.borrow_mut().clone_from(&maker.auxv.borrow());
    p.dumpable.set(maker.dumpable.get());
    p.personality.set(maker.personality.get());
    p.thp_disable.set(maker.thp_disable.get());
    p.start_ns.set(cx.core.clock.last());
    Rc::new(p)
}

fn new_task(cx: &mut Cx<'_>, a: &Args, entity: Rc<Entity>, proc: Rc<Process>) -> Rc<Task> {
    let me = cx.task.clone();
    let ctx = child_context(cx, a);
    let files = if a.flags & CLONE_FILES != 0 {
        me.files()
    } else {
        Rc::new(me.files().duplicate())
    };
    let fs = if a.flags & CLONE_FS != 0 {
        me.fs.borrow().clone()
    } else {
        Rc::new(me.fs.borrow().duplicate())
    };
    let creds = me.creds.borrow().clone();
    let t = Task::new(entity.tid, entity, proc, ctx, files, fs, creds);
    t.name.set(me.name.get());
    t.sig.mask.set(me.sig.mask.get());
    if a.flags & (CLONE_VM | CLONE_VFORK) != CLONE_VM {
        t.sig.altstack.set(me.sig.altstack.get());
    }
    t.seccomp.copy_from(&me.seccomp);
    if a.flags & CLONE_VM == 0 {
        t.rseq.set(me.rseq.get());
    }
    if a.flags & CLONE_CHILD_CLEARTID != 0 {
        t.clear_child_tid.set(a.child_tid);
    }
    let mut sched = me.sched.get();
    if sched.reset_on_fork {
        sched = super::Sched {
            nice: sched.nice.max(0),
            slack_ns: sched.slack_ns,
            ..super::Sched::default()
        };
    }
    t.sched.set(sched);
    Rc::new(t)
}

fn child_context(cx: &mut Cx<'_>, a: &Args) -> Box<Context> {
    let me = cx.task.clone();
    let mut mine = me.ctx.borrow_mut();
    cx.env.plat.save_xstate(&mut mine);
    let mut ctx = mine.duplicate();
    drop(mine);
    ctx.regs[reg::RAX] = 0;
    // What the instruction leaves in them.
    ctx.regs[reg::RCX] = me.mm().patches.borrow().to_program(ctx.rip);
    ctx.regs[reg::R11] = ctx.rflags;
    if a.stack != 0 {
        ctx.regs[reg::RSP] = a.stack;
    }
    if a.flags & CLONE_SETTLS != 0 {
        ctx.fs_base = a.tls;
    }
    ctx
}
