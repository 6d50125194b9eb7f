//! Secure computing as a guest sees it (kernel/seccomp.c): strict mode, and filters in classic BPF.
//!
//! It keeps a program from its own kernel, which is this one; it guards nothing of the host (the README
//! says what an image is worth as a sandbox). A task without a filter pays one load for it.

mod bpf;

use crate::args::Ptr;
use crate::cx::Cx;
use crate::kernel::Kernel;
use crate::process;
use crate::signal::{SigInfo, force, sig};
use crate::task::{Call, Exit, Task};
use bpf::{DATA_LEN, Program};
use ftl_core::context::reg;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::platform::Platform;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// PR_GET_SECCOMP's values.
pub const STRICT: u32 = 1;
/// See [`STRICT`].
pub const FILTER: u32 = 2;
const CAP_SYS_ADMIN: u32 = 21;
const ARCH_X86_64: u32 = 0xc000_003e;

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ACTION: u32 = 0xffff_0000;
const MAX_INSNS_PER_PATH: usize = (1 << 18) / 8;

/// A filter, and those that were there before it.
#[derive(Debug)]
pub struct Filter {
    program: Program,
    before: Option<Rc<Filter>>,
}

impl Filter {
    /// Newest first.
    fn chain(first: &Option<Rc<Filter>>) -> impl Iterator<Item = &Filter> {
        std::iter::successors(first.as_deref(), |f| f.before.as_deref())
    }
}

/// What is in force for a task.
#[derive(Default)]
pub struct Seccomp {
    /// 0, [`STRICT`] or [`FILTER`].
    pub mode: Cell<u32>,
    filter: RefCell<Option<Rc<Filter>>>,
}

impl Seccomp {
    /// The same for another task (clone, execve by a thread).
    pub fn copy_from(&self, other: &Seccomp) {
        self.mode.set(other.mode.get());
        self.filter.borrow_mut().clone_from(&other.filter.borrow());
    }

    /// Number of filters, for /proc/PID/status.
    pub fn count(&self) -> usize {
        Filter::chain(&self.filter.borrow()).count()
    }

    /// All filters of `self` are filters of `other` too: it may be given those of `other`.
    fn is_ancestor_of(&self, other: &Seccomp) -> bool {
        let mine = self.filter.borrow();
        let Some(mine) = mine.as_deref() else { return true };
        Filter::chain(&other.filter.borrow()).any(|f| std::ptr::eq(f, mine))
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // A long chain must not be dropped by recursion.
        let mut next = self.before.take();
        while let Some(f) = next {
            next = match Rc::try_unwrap(f) {
                Ok(mut f) => f.before.take(),
                Err(_) => None,
            };
        }
    }
}

/// What becomes of a call.
pub enum Verdict {
    /// It is made.
    Allow,
    /// It is not made; the registers hold what there is to see, or the task has ended.
    Done,
    /// It is made if the tracer agrees (SECCOMP_RET_TRACE), who gets this value.
    Trace(u32),
}

fn data_of(call: &Call, ip: u64) -> [u8; DATA_LEN] {
    let mut d = [0; DATA_LEN];
    d[0..4].copy_from_slice(&(call.nr as u32).to_le_bytes());
    d[4..8].copy_from_slice(&ARCH_X86_64.to_le_bytes());
    d[8..16].copy_from_slice(&ip.to_le_bytes());
    for (i, a) in call.args.iter().enumerate() {
        d[16 + i * 8..24 + i * 8].copy_from_slice(&a.to_le_bytes());
    }
    d
}

/// Judges a call of a task with a mode. `again`: its tracer has seen it because a filter asked for that, and
/// may have changed it: what is asked of the tracer now is granted (recheck_after_trace).
fn judge(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, call: &Call, again: bool) -> Verdict {
    if task.seccomp.mode.get() == STRICT {
        // read, write, exit, rt_sigreturn
        if matches!(call.nr, 0 | 1 | 60 | 15) {
            return Verdict::Allow;
        }
        process::exit_task(k, plat, task, Exit::Signal(9, false));
        return Verdict::Done;
    }
    let ip = {
        let mm = task.mm();
        let patches = mm.patches.borrow();
        patches.to_program(task.ctx.borrow().rip)
    };
    let data = data_of(call, ip);
    let mut ret = RET_ALLOW;
    for f in Filter::chain(&task.seccomp.filter.borrow()) {
        let r = f.program.run(&data);
        // The most severe action wins; KILL_PROCESS is negative.
        if ((r & RET_ACTION) as i32) < ((ret & RET_ACTION) as i32) {
            ret = r;
        }
    }
    let value = ret & 0xffff;
    let set = |v: u64| task.ctx.borrow_mut().regs[reg::RAX] = v;
    match ret & RET_ACTION {
        RET_ALLOW | RET_LOG => return Verdict::Allow,
        RET_ERRNO => set((-i64::from(value.min(4095))) as u64),
        RET_TRAP => {
            set(call.nr);
            force(task, sigsys(call, ip, value as i32), false);
        }
        RET_TRACE if again => return Verdict::Allow,
        RET_TRACE => return Verdict::Trace(value),
        RET_KILL_THREAD if task.process().threads.borrow().len() > 1 => {
            process::exit_task(k, plat, task, Exit::Signal(sig::SIGSYS as u8, false));
        }
        // Nobody listens.
        RET_USER_NOTIF => set(Errno::ENOSYS.to_rax()),
        // The last thread, KILL_PROCESS, and whatever is unknown.
        _ => {
            set(call.nr);
            force(task, sigsys(call, ip, value as i32), true);
        }
    }
    Verdict::Done
}

/// The task's filters let the call through. If not, what becomes of it is done. `again`: as for `judge`.
pub fn lets_through(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, call: &Call, again: bool) -> bool {
    match judge(k, plat, task, call, again) {
        Verdict::Allow => true,
        Verdict::Done => false,
        Verdict::Trace(value) => {
            if !crate::ptrace::seccomp_event(k, plat, task, value) {
                // Nobody traces it.
                task.ctx.borrow_mut().regs[reg::RAX] = Errno::ENOSYS.to_rax();
            }
            false
        }
    }
}

/// SIGSYS with si_call_addr, si_syscall, si_arch.
fn sigsys(call: &Call, ip: u64, value: i32) -> SigInfo {
    const SYS_SECCOMP: i32 = 1;
    SigInfo {
        signo: sig::SIGSYS,
        errno: value,
        code: SYS_SECCOMP,
        words: [ip, u64::from(call.nr as u32) | u64::from(ARCH_X86_64) << 32, 0, 0],
    }
}

fn set_strict(cx: &Cx<'_>) -> Io<u64> {
    if cx.task.seccomp.mode.get() == FILTER {
        return err(Errno::EINVAL);
    }
    cx.task.seccomp.mode.set(STRICT);
    Ok(0)
}

fn add_filter(cx: &mut Cx<'_>, flags: u64, prog: u64) -> Io<u64> {
    const TSYNC: u64 = 1;
    const LOG: u64 = 2;
    const SPEC_ALLOW: u64 = 4;
    const TSYNC_ESRCH: u64 = 16;
    // NEW_LISTENER and what goes with it is not there.
    if flags & !(TSYNC | LOG | SPEC_ALLOW | TSYNC_ESRCH) != 0 {
        return err(Errno::EINVAL);
    }
    // struct sock_fprog: length, address.
    let [len, at]: [u64; 2] = cx.get(prog)?;
    let len = usize::from(len as u16);
    if len == 0 || len > 4096 {
        return err(Errno::EINVAL);
    }
    {
        let c = cx.task.creds.borrow();
        if !c.no_new_privs && !c.capable(CAP_SYS_ADMIN) {
            return err(Errno::EACCES);
        }
    }
    let mut raw = vec![0; len * 8];
    cx.read(at, &mut raw)?;
    let program = Program::parse(&raw)?;
    if cx.task.seccomp.mode.get() == STRICT {
        return err(Errno::EINVAL);
    }
    let before = cx.task.seccomp.filter.borrow().clone();
    let total: usize = Filter::chain(&before).map(|f| f.program.instructions() + 4).sum();
    if total + program.instructions() > MAX_INSNS_PER_PATH {
        return err(Errno::ENOMEM);
    }
    let others: Vec<Rc<Task>> = if flags & TSYNC != 0 {
        let proc = cx.task.process();
        let threads = proc.threads.borrow();
        threads
            .values()
            .filter(|t| t.tid != cx.task.tid)
            .cloned()
            .collect()
    } else {
        Vec::new()
    };
    let stray = |t: &&Rc<Task>| match t.seccomp.mode.get() {
        0 => false,
        STRICT => true,
        _ => !t.seccomp.is_ancestor_of(&cx.task.seccomp),
    };
    if let Some(t) = others.iter().find(stray) {
        return if flags & TSYNC_ESRCH != 0 {
            err(Errno::ESRCH)
        } else {
            Ok(u64::from(t.tid.0))
        };
    }
    *cx.task.seccomp.filter.borrow_mut() = Some(Rc::new(Filter { program, before }));
    cx.task.seccomp.mode.set(FILTER);
    let nnp = cx.task.creds.borrow().no_new_privs;
    for t in others {
        t.seccomp.copy_from(&cx.task.seccomp);
        if nnp && !t.creds.borrow().no_new_privs {
            let mut c = (**t.creds.borrow()).clone();
            c.no_new_privs = true;
            *t.creds.borrow_mut() = Rc::new(c);
        }
    }
    Ok(0)
}

/// seccomp(2)
pub fn sys_seccomp(cx: &mut Cx<'_>, op: u32, flags: u32, args: Ptr) -> Io<u64> {
    match op {
        0 if flags == 0 && args.is_null() => set_strict(cx),
        1 => add_filter(cx, u64::from(flags), args.0),
        2 if flags == 0 => {
            let action: u32 = cx.get(args.0)?;
            match action {
                RET_KILL_PROCESS | RET_KILL_THREAD | RET_TRAP | RET_ERRNO | RET_TRACE | RET_LOG
                | RET_ALLOW => Ok(0),
                _ => err(Errno::EOPNOTSUPP),
            }
        }
        _ => err(Errno::EINVAL),
    }
}

/// prctl(PR_SET_SECCOMP)
pub fn set_by_prctl(cx: &mut Cx<'_>, mode: u64, prog: u64) -> Io<u64> {
    match mode {
        1 => set_strict(cx),
        2 => add_filter(cx, 0, prog),
        _ => err(Errno::EINVAL),
    }
}
