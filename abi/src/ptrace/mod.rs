//! Tracing of one guest thread by another (kernel/ptrace.c, and its hooks in signal.c, fork.c, exit.c).
//!
//! A traced task that stops is [`State::Stopped`] with its `stop` set; its context is complete, so the
//! tracer's requests work on data. Where it goes on when it is resumed is in `due` and
//! `delivering`: nothing is kept on a stack (I4). Memory is reached through [`remote`].
//!
//! Call sites of a traced space are not patched: what the tracer reads is the program's own text, and a
//! step goes from one instruction of the program to the next.

mod calls;
mod regs;
pub mod remote;
pub mod watch;

pub use calls::{process_vm, sys_ptrace};

use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::process::may_access_as;
use crate::signal::{self, SIG_IGN, SigInfo, code, post_task, sa, sig};
use crate::task::{Call, Exit, Pid, Process, Task};
use bitflags::bitflags;
use ftl_core::context::{Context, Resume, reg};
use ftl_core::errno::Errno;
use ftl_core::platform::Platform;
use ftl_core::wait::{State, Tid, Wake};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// PTRACE_O_TRACESYSGOOD
const O_SYSGOOD: u32 = 1;
const O_EXITKILL: u32 = 0x10_0000;
/// PTRACE_EVENT_*; option bits are `1 << event`.
#[allow(missing_docs)]
pub mod event {
    pub const FORK: u32 = 1;
    pub const VFORK: u32 = 2;
    pub const CLONE: u32 = 3;
    pub const EXEC: u32 = 4;
    pub const VFORK_DONE: u32 = 5;
    pub const EXIT: u32 = 6;
    pub const SECCOMP: u32 = 7;
    pub const STOP: u32 = 128;
}

bitflags! {
    /// What a traced task has to do before it goes back to guest code.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Due: u8 {
        /// It stands before a system call that is not made yet.
        const ENTER = 1;
        /// That call has been judged by filters.
        const JUDGED = 2;
        /// A call has returned: the stop at its exit, or the end of a step over it.
        const EXIT = 4;
        /// PTRACE_EVENT_STOP.
        const TRAP = 8;
        /// An event stop.
        const EVENT = 16;
    }
}

/// What kind of stop a task is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Before the delivery of a signal.
    Signal,
    /// Group stop.
    Group,
    /// Before a call.
    Enter,
    /// After a call.
    Exit,
    /// PTRACE_EVENT_*.
    Event,
}

/// A stop as wait(2) tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    /// Signal, and an event above it.
    pub code: u32,
    /// What it is.
    pub kind: Kind,
    /// What PTRACE_GETSIGINFO answers.
    pub info: SigInfo,
}

/// The traced side of a task.
#[derive(Default)]
pub struct Trace {
    /// Somebody traces the task.
    pub on: Cell<bool>,
    tracer: RefCell<(Weak<Process>, u32)>,
    seized: Cell<bool>,
    options: Cell<u32>,
    stop: Cell<Option<Stopped>>,
    /// wait(2) has told of the stop.
    reported: Cell<bool>,
    /// PTRACE_GETEVENTMSG
    msg: Cell<u64>,
    /// The signal whose delivery the task stands before.
    delivering: Cell<Option<SigInfo>>,
    /// The signal that the tracer resumed it with.
    data: Cell<u32>,
    /// Stops at calls (PTRACE_SYSCALL).
    pub syscalls: Cell<bool>,
    /// Makes one step.
    pub step: Cell<bool>,
    /// Debug registers.
    pub debug: watch::Debug,
    /// See [`Due`].
    pub due: Cell<Due>,
    event: Cell<(u32, u64)>,
    /// PTRACE_LISTEN: stopped, but no longer for the tracer.
    listening: Cell<bool>,
    /// The tracer let it go on although its process is stopped.
    passed_stop: Cell<bool>,
}

/// A traced thread that has ended and that its tracer has not waited for. Of a process whose parent traces it,
/// only threads other than the leader.
#[derive(Clone, Copy, Debug)]
pub struct Ghost {
    /// Its number.
    pub tid: Tid,
    /// Process group.
    pub pgid: Pid,
    /// Real uid.
    pub uid: u32,
    /// How.
    pub exit: Exit,
}

/// An errno as a call returns it (IS_ERR_VALUE).
fn is_error_number(v: u64) -> bool {
    v > (-4096i64) as u64
}

impl Trace {
    /// The kind of stop it is in.
    pub fn kind(&self) -> Option<Kind> {
        self.stop.get().map(|s| s.kind)
    }

    /// In a stop of its tracer's, so that only that one may let it go on.
    pub fn is_stopped(&self) -> bool {
        self.stop.get().is_some()
    }

    /// The tracer's process and thread.
    pub fn tracer(&self) -> Option<(Rc<Process>, Tid)> {
        if !self.on.get() {
            return None;
        }
        let t = self.tracer.borrow();
        t.0.upgrade().map(|p| (p, Tid(t.1)))
    }

    /// Its number, for /proc/PID/status.
    pub fn tracer_pid(&self) -> u32 {
        self.tracer().map_or(0, |(p, _)| p.pid.0)
    }

    /// It enters the kernel after each instruction.
    pub fn steps(&self) -> bool {
        self.step.get() || self.debug.is_armed()
    }

    /// Something is due, or a stop has ended.
    pub fn wants_attention(&self) -> bool {
        !self.due.get().is_empty() || self.steps() || self.data.get() != 0 || self.delivering.get().is_some()
    }

    fn due(&self, what: Due) {
        self.due.set(self.due.get() | what);
    }

    fn take(&self, what: Due) -> bool {
        let had = self.due.get().contains(what);
        self.due.set(self.due.get() - what);
        had
    }

    fn has_option(&self, event: u32) -> bool {
        self.on.get() && self.options.get() & 1 << event != 0
    }

    /// A stop that wait(2) has not told of yet; `take`: it has now.
    pub fn unreported(&self, take: bool) -> Option<u32> {
        let s = self.stop.get()?;
        if self.reported.get() {
            return None;
        }
        self.reported.set(take);
        Some(s.code)
    }

    /// The task goes on, if its process is stopped, by its tracer's will.
    pub fn passes_stop(&self) -> bool {
        self.on.get() && self.passed_stop.get()
    }

    /// A new stop of the process: it counts again.
    pub fn new_stop(&self) {
        self.passed_stop.set(false);
    }

    /// execve by a thread goes on under the leader's number.
    pub fn take_over(&self, from: &Trace, k: &Kernel) {
        self.forget(k);
        self.on.set(from.on.replace(false));
        self.tracer.swap(&from.tracer);
        self.seized.set(from.seized.get());
        self.options.set(from.options.get());
        self.syscalls.set(from.syscalls.get());
        self.step.set(from.step.get());
    }

    fn forget(&self, k: &Kernel) {
        if self.on.replace(false) {
            k.traced.set(k.traced.get() - 1);
        }
        self.tracer.take();
        self.seized.set(false);
        self.options.set(0);
        self.syscalls.set(false);
        self.step.set(false);
        let _ = self.debug.set(7, 0);
        self.listening.set(false);
        self.passed_stop.set(false);
        self.event.set((0, 0));
        self.due.set(self.due.get() & (Due::ENTER | Due::JUDGED));
    }
}

/// `task` is traced by thread `tid` of `by` from now on.
fn link(k: &Kernel, task: &Task, by: &Rc<Process>, tid: Tid, seized: bool, options: u32) {
    let t = &task.trace;
    t.forget(k);
    k.traced.set(k.traced.get() + 1);
    t.on.set(true);
    *t.tracer.borrow_mut() = (Rc::downgrade(by), tid.0);
    t.seized.set(seized);
    t.options.set(options);
    task.mm().unpatched.set(Some(false));
}

/// Puts the text of patched sites back, once, in a space that has come to be traced. It is the current one.
pub fn unpatch(k: &Kernel, plat: &mut dyn Platform, mm: &Rc<Mm>) {
    if mm.unpatched.get() == Some(false) {
        mm.unpatched.set(Some(true));
        crate::mm::restore_sites(k, plat, mm);
    }
}

/// The next guest instruction is to be the only one (PTRACE_SINGLESTEP).
pub fn arm_step(task: &Task, ctx: &mut Context) {
    if ctx.resume == Resume::Call {
        ctx.regs[reg::RCX] = task.mm().patches.borrow().to_program(ctx.rip);
        ctx.regs[reg::R11] = ctx.rflags;
    }
    ctx.rflags |= regs::TF;
    ctx.resume = Resume::Full;
}

/// The task stops for its tracer. False if there is none any more.
fn stop(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, stop: Stopped) -> bool {
    let Some((tracer, _)) = task.trace.tracer() else {
        task.trace.forget(k);
        return false;
    };
    let t = &task.trace;
    t.stop.set(Some(stop));
    t.reported.set(false);
    t.listening.set(false);
    let e = &task.entity;
    e.leave_queues();
    e.woken_while_stopped.set(false);
    e.state.set(State::Stopped);
    let (reason, status) = match stop.kind {
        Kind::Group => (code::CLD_STOPPED, stop.code & 0x7f),
        _ => (code::CLD_TRAPPED, stop.code & 0x7f),
    };
    tell(k, plat, &tracer, task, reason, status as i32);
    signal::stopped_all(k, plat, &task.process());
    true
}

/// SIGCHLD for the tracer, and its waiters.
fn tell(k: &Kernel, plat: &mut dyn Platform, tracer: &Rc<Process>, task: &Task, reason: i32, status: i32) {
    let action = tracer.sighand.borrow().get(sig::SIGCHLD);
    if action.handler != SIG_IGN && action.flags & sa::NOCLDSTOP == 0 {
        let uid = task.creds.borrow().ruid;
        let info = SigInfo::child(sig::SIGCHLD, reason, task.tid.0, uid, status, 0, 0);
        signal::send_process(k, plat, tracer, info);
    }
    tracer.child_wait.wake_all();
}

/// The task leaves its stop.
fn resume(task: &Rc<Task>) {
    task.trace.stop.set(None);
    let e = &task.entity;
    if e.state.get() == State::Stopped {
        e.woken_while_stopped.set(false);
        e.state.set(State::Runnable);
        e.enqueue();
    }
}

fn own_info(task: &Task, signo: u32, code: u32) -> SigInfo {
    let uid = task.creds.borrow().ruid;
    SigInfo::user(signo, code as i32, task.tid.0, uid)
}

fn event_stop(
    k: &Kernel,
    plat: &mut dyn Platform,
    task: &Rc<Task>,
    event: u32,
    msg: u64,
    signo: u32,
) -> bool {
    let code = signo | event << 8;
    task.trace.msg.set(msg);
    let s = Stopped {
        code,
        kind: Kind::Event,
        info: own_info(task, signo, code),
    };
    stop(k, plat, task, s)
}

fn syscall_stop(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, kind: Kind) -> bool {
    let good = task.trace.options.get() & O_SYSGOOD != 0;
    let code = sig::SIGTRAP | if good { 0x80 } else { 0 };
    task.trace.msg.set(if kind == Kind::Enter { 1 } else { 2 });
    let s = Stopped {
        code,
        kind,
        info: own_info(task, sig::SIGTRAP, code),
    };
    stop(k, plat, task, s)
}

/// A call of a traced task: true if it stops before it. The number is in orig_rax.
pub fn entering(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>) -> bool {
    task.trace.due(Due::EXIT);
    if !task.trace.syscalls.get() || !syscall_stop(k, plat, task, Kind::Enter) {
        return false;
    }
    task.trace.due(Due::ENTER);
    true
}

/// A filter wants the tracer asked: true if it stops.
pub fn seccomp_event(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, value: u32) -> bool {
    if !task.trace.has_option(event::SECCOMP) {
        return false;
    }
    if !event_stop(k, plat, task, event::SECCOMP, u64::from(value), sig::SIGTRAP) {
        return false;
    }
    task.trace.due(Due::ENTER | Due::JUDGED);
    true
}

/// A task that stood before a call has been resumed: the call as the tracer left it, and whether filters have
/// judged it. `None` in place of the call: it is not to be made.
pub fn resumed_call(task: &Rc<Task>) -> Option<(Option<Call>, bool)> {
    if !task.trace.take(Due::ENTER) {
        return None;
    }
    let judged = task.trace.take(Due::JUDGED);
    inject(task);
    let mut ctx = task.ctx.borrow_mut();
    if ctx.orig_rax == u64::MAX || judged && (ctx.orig_rax as i32) < 0 {
        return Some((None, judged));
    }
    let call = Call {
        nr: u64::from(ctx.orig_rax as u32),
        args: ctx.args(),
    };
    // Left from the stop; the handler's answer replaces it.
    ctx.regs[reg::RAX] = ctx.orig_rax;
    Some((Some(call), judged))
}

/// After a stop that is not before a signal: the signal that the tracer gave is sent.
fn inject(task: &Rc<Task>) {
    let signo = task.trace.data.replace(0);
    if signo != 0 {
        let (pid, uid) = task.trace.tracer().map_or((0, 0), |(p, _)| {
            (p.pid.0, p.any_thread().map_or(0, |t| t.creds.borrow().ruid))
        });
        post_task(task, SigInfo::user(signo, code::SI_USER, pid, uid));
    }
}

/// What is due before the task goes on: events, the exit of a call, PTRACE_EVENT_STOP. True if it stopped.
pub fn work(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>) -> bool {
    let t = &task.trace;
    if t.due.get().is_empty() && t.data.get() == 0 {
        return false;
    }
    if t.delivering.get().is_none() && !t.due.get().contains(Due::ENTER) {
        inject(task);
    }
    if t.take(Due::EVENT) {
        let (event, msg) = t.event.take();
        if event_stop(k, plat, task, event, msg, sig::SIGTRAP) {
            return true;
        }
    }
    // The call is not over while it waits, nor before it is made.
    let over = task.call.get().is_none() && !t.due.get().contains(Due::ENTER) && task.exec.borrow().is_none();
    if over && t.take(Due::EXIT) {
        if t.syscalls.get() && syscall_stop(k, plat, task, Kind::Exit) {
            return true;
        }
        if t.step.get() {
            let rip = regs::get(task)[16];
            post_task(task, SigInfo::fault(sig::SIGTRAP, 2, rip));
        }
    }
    if t.take(Due::TRAP) {
        let signo = match task.process().sig.stop.get() {
            0 => sig::SIGTRAP,
            s => s,
        };
        if event_stop(k, plat, task, event::STOP, 0, signo) {
            return true;
        }
    }
    false
}

/// A signal is about to be delivered: true if the task stops before it.
pub fn before_signal(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, info: &SigInfo) -> bool {
    if !task.trace.on.get() || info.signo == sig::SIGKILL {
        return false;
    }
    let s = Stopped {
        code: info.signo,
        kind: Kind::Signal,
        info: *info,
    };
    task.trace.data.set(0);
    if !stop(k, plat, task, s) {
        return false;
    }
    task.trace.delivering.set(Some(*info));
    true
}

/// The signal before whose delivery the task stood, as its tracer left it. `Some(None)`: it is not delivered.
pub fn resumed_signal(task: &Rc<Task>) -> Option<Option<SigInfo>> {
    let mut info = task.trace.delivering.take()?;
    let signo = task.trace.data.replace(0);
    if signo == 0 {
        return Some(None);
    }
    if signo != info.signo {
        let (pid, uid) = task.trace.tracer().map_or((0, 0), |(p, _)| {
            (p.pid.0, p.any_thread().map_or(0, |t| t.creds.borrow().ruid))
        });
        info = SigInfo::user(signo, code::SI_USER, pid, uid);
    }
    if task.sig.mask.get() & signal::bit(signo) != 0 {
        post_task(task, info);
        return Some(None);
    }
    Some(Some(info))
}

/// Before a signal: delivery has something to do although nothing is pending.
pub fn stands_before_signal(task: &Task) -> bool {
    task.trace.delivering.get().is_some()
}

/// The task takes part in a stop of its process: true if its tracer is told.
pub fn group_stop(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, signo: u32) -> bool {
    if !task.trace.on.get() {
        return false;
    }
    if task.trace.seized.get() {
        return event_stop(k, plat, task, event::STOP, 0, signo);
    }
    let s = Stopped {
        code: signo,
        kind: Kind::Group,
        info: SigInfo::default(),
    };
    stop(k, plat, task, s)
}

/// SIGCONT has ended a stop of the process: a tracer that seized the task is told.
pub fn continued(task: &Rc<Task>) {
    let t = &task.trace;
    t.passed_stop.set(false);
    if t.on.get() && t.seized.get() {
        t.listening.set(false);
        t.due(Due::TRAP);
    }
}

/// `task` has made `child` by a clone with `flags`: its tracer may get the child too.
pub fn cloned(k: &Kernel, task: &Rc<Task>, child: &Rc<Task>, flags: u64, exit_signal: i32) {
    const CLONE_PTRACE: u64 = 0x2000;
    const CLONE_VFORK: u64 = 0x4000;
    const CLONE_UNTRACED: u64 = 0x80_0000;
    if !task.trace.on.get() {
        return;
    }
    let event = if flags & CLONE_VFORK != 0 {
        event::VFORK
    } else if exit_signal != sig::SIGCHLD as i32 {
        event::CLONE
    } else {
        event::FORK
    };
    let wanted = flags & CLONE_UNTRACED == 0 && task.trace.has_option(event);
    if !wanted && flags & CLONE_PTRACE == 0 {
        return;
    }
    let Some((by, tid)) = task.trace.tracer() else {
        return;
    };
    let seized = task.trace.seized.get();
    link(k, child, &by, tid, seized, task.trace.options.get());
    if seized {
        child.trace.due(Due::TRAP);
    } else {
        post_task(child, SigInfo::user(sig::SIGSTOP, code::SI_USER, 0, 0));
    }
    if wanted {
        task.trace.event.set((event, u64::from(child.tid.0)));
        task.trace.due(Due::EVENT);
    }
}

/// The child of a vfork has let go of its parent.
pub fn vfork_done(task: &Task, child: Pid) {
    if task.trace.has_option(event::VFORK_DONE) {
        task.trace.event.set((event::VFORK_DONE, u64::from(child.0)));
        task.trace.due(Due::EVENT);
    }
}

/// execve has loaded its program. `old`: the number that the caller had.
pub fn execed(task: &Rc<Task>, old: Tid) {
    let t = &task.trace;
    if !t.on.get() {
        return;
    }
    task.mm().unpatched.set(Some(true));
    task.ctx.borrow_mut().orig_rax = 59;
    t.due(Due::EXIT);
    if t.has_option(event::EXEC) {
        t.event.set((event::EXEC, u64::from(old.0)));
        t.due(Due::EVENT);
    } else if !t.seized.get() {
        let uid = task.creds.borrow().ruid;
        post_task(task, SigInfo::user(sig::SIGTRAP, code::SI_USER, task.tid.0, uid));
    }
}

/// A traced task ends: true if its tracer is asked to look at it first. It ends when it is resumed.
pub fn exiting(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, exit: Exit) -> bool {
    let t = &task.trace;
    if !t.has_option(event::EXIT) || matches!(exit, Exit::Signal(9, _)) {
        return false;
    }
    // Once.
    t.options.set(t.options.get() & !(1 << event::EXIT));
    t.due.set(Due::empty());
    if !event_stop(k, plat, task, event::EXIT, exit.status() as u64, sig::SIGTRAP) {
        return false;
    }
    task.last_words.set(Some(exit));
    true
}

/// A thread has ended: its tracer may wait for it, and what it traces is free. `process`: it was the last of
/// its process, which ended so.
pub fn ended(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, exit: Exit, process: Option<Exit>) {
    if k.traced.get() == 0 {
        return;
    }
    if let Some((tracer, _)) = task.trace.tracer() {
        let proc = task.process();
        let parent = proc.parent.borrow().upgrade();
        let own = parent.is_some_and(|p| Rc::ptr_eq(&p, &tracer));
        let leader = task.tid == proc.pid;
        // The leader of a process is waited for when all of it has ended.
        let tells = match process {
            Some(_) => !own || !leader,
            None => !leader,
        };
        if tells {
            tracer.ghosts.borrow_mut().push(Ghost {
                tid: task.tid,
                pgid: proc.pgid.get(),
                uid: task.creds.borrow().ruid,
                exit: process.filter(|_| leader).unwrap_or(exit),
            });
            let (reason, status) = match exit {
                Exit::Code(c) => (code::CLD_EXITED, i32::from(c)),
                Exit::Signal(s, _) => (code::CLD_KILLED, i32::from(s)),
            };
            tell(k, plat, &tracer, task, reason, status);
        }
    }
    task.trace.stop.set(None);
    task.trace.forget(k);
    release(k, plat, task);
}

/// A tracer ends: its tracees go on without it.
fn release(k: &Kernel, plat: &mut dyn Platform, tracer: &Rc<Task>) {
    let proc = tracer.process();
    let mine: Vec<Rc<Task>> = k
        .tasks
        .borrow()
        .values()
        .filter(|t| {
            let by = t.trace.tracer();
            by.is_some_and(|(p, tid)| tid == tracer.tid && Rc::ptr_eq(&p, &proc))
        })
        .cloned()
        .collect();
    for t in mine {
        let kill = t.trace.options.get() & O_EXITKILL != 0;
        detach(k, &t, t.trace.delivering.get().map_or(0, |i| i.signo));
        if kill {
            signal::send_process(k, plat, &t.process(), SigInfo::kernel(sig::SIGKILL));
        }
    }
}

/// The task is no longer traced and goes on with `signo`, or joins the stop that its process is in.
fn detach(k: &Kernel, task: &Rc<Task>, signo: u32) {
    let was = task.trace.stop.take();
    task.trace.data.set(0);
    if matches!(was.map(|s| s.kind), Some(Kind::Signal)) {
        task.trace.data.set(signo);
    } else if signo != 0 && was.is_some() {
        post_task(task, SigInfo::user(signo, code::SI_USER, 0, 0));
    }
    task.trace.forget(k);
    if was.is_some() {
        // A stopped process stops it again at its next delivery.
        resume(task);
    }
}

/// Tasks that `me` traces, by number.
pub fn tracees(k: &Kernel, me: &Rc<Process>) -> Vec<Rc<Task>> {
    if k.traced.get() == 0 {
        return Vec::new();
    }
    let tasks = k.tasks.borrow();
    tasks
        .values()
        .filter(|t| t.trace.tracer().is_some_and(|(p, _)| Rc::ptr_eq(&p, me)))
        .cloned()
        .collect()
}

/// PTRACE_TRACEME
fn trace_me(k: &Kernel, task: &Rc<Task>) -> Result<(), Errno> {
    if task.trace.on.get() {
        return Err(Errno::EPERM);
    }
    let proc = task.process();
    let parent = proc.parent.borrow().upgrade();
    let Some(parent) = parent else { return Ok(()) };
    let thread = proc.parent_thread.get();
    link(k, task, &parent, thread, false, 0);
    Ok(())
}

/// PTRACE_ATTACH and PTRACE_SEIZE
fn attach(k: &Kernel, me: &Rc<Task>, task: &Rc<Task>, seize: Option<u32>) -> Result<(), Errno> {
    let mine = me.process();
    if Rc::ptr_eq(&mine, &task.process()) || task.trace.on.get() || task.dead.get() {
        return Err(Errno::EPERM);
    }
    may_access_as(me, task)?;
    link(k, task, &mine, me.tid, seize.is_some(), seize.unwrap_or(0));
    if seize.is_none() {
        let uid = me.creds.borrow().ruid;
        post_task(task, SigInfo::user(sig::SIGSTOP, code::SI_USER, mine.pid.0, uid));
    }
    if task.entity.state.get() == State::Stopped {
        // It is in a stop of its process already: that becomes one for the tracer.
        if seize.is_some() {
            task.trace.due(Due::TRAP);
        }
        resume(task);
    }
    Ok(())
}

/// PTRACE_INTERRUPT
fn interrupt(task: &Rc<Task>) {
    task.trace.due(Due::TRAP);
    if task.trace.listening.replace(false) {
        resume(task);
    } else if task.entity.interruptible.get() {
        task.entity.wake_up(Wake::Signal);
    }
}
