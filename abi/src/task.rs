//! Tasks (guest threads) and processes.
//!
//! Shared parts are `Rc`s as Linux shares them by clone flags. Everything lives in the arena and is
//! touched only under the image's token, so interior mutability needs no lock. Borrows of the
//! `RefCell`s are short: never held over a call that can reach another task.

use crate::fdtable::FdTable;
use crate::mm::Mm;
use crate::signal::{Pending, ProcSignals, SigHand, TaskSignals};
use ftl_core::context::Context;
use ftl_core::io::Restart;
use ftl_core::timer::TimerKey;
use ftl_core::wait::{Entity, Tid, WaitQueue};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// Process number: the tid of its first task.
pub type Pid = Tid;

/// A system call that has begun and not returned.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Number.
    pub nr: u64,
    /// Argument registers.
    pub args: [u64; 6],
}

/// User and group ids (credentials(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Creds {
    pub ruid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub rgid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Vec<u32>,
    /// Effective, permitted, inheritable, bounding, ambient capability sets.
    pub caps: [u64; 5],
    pub no_new_privs: bool,
    /// PR_SET_KEEPCAPS and the other securebits.
    pub securebits: u32,
}

/// Every capability that Linux 6.12 defines.
pub const ALL_CAPS: u64 = (1 << 41) - 1;

impl Creds {
    /// All ids the same; every capability if root.
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>) -> Creds {
        let c = if uid == 0 { ALL_CAPS } else { 0 };
        Creds {
            ruid: uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            rgid: gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups,
            caps: [c, c, 0, ALL_CAPS, 0],
            no_new_privs: false,
            securebits: 0,
        }
    }

    /// Has the capability (CAP_* number) in its effective set.
    pub fn capable(&self, cap: u32) -> bool {
        self.caps[0] & (1 << cap) != 0
    }
}

/// A guest thread.
pub struct Task {
    /// Number.
    pub tid: Tid,
    /// The scheduler's part.
    pub entity: Rc<Entity>,
    /// Its process.
    pub proc: RefCell<Rc<Process>>,
    /// Registers. While the task runs, the entry path writes to it through a raw pointer; the
    /// kernel borrows it only between entry and exit.
    pub ctx: RefCell<Box<Context>>,
    /// PR_SET_NAME.
    pub name: Cell<[u8; 16]>,
    /// Mask, pending signals, alternate stack.
    pub sig: TaskSignals,
    /// Address cleared and woken at exit.
    pub clear_child_tid: Cell<u64>,
    /// Head and length of set_robust_list.
    pub robust_list: Cell<(u64, u64)>,
    /// The call in progress while blocked.
    pub call: Cell<Option<Call>>,
    /// The last call was interrupted: what delivery of the signal does about it.
    pub interrupted: Cell<Option<(Call, Restart)>>,
    /// Open files (CLONE_FILES).
    pub files: RefCell<Rc<FdTable>>,
    /// Working directory, root, umask (CLONE_FS).
    pub fs: RefCell<Rc<crate::fs::FsInfo>>,
    /// Credentials.
    pub creds: RefCell<Rc<Creds>>,
    /// Virtual CPU time charged so far, ns.
    pub cpu_ns: Cell<u64>,
    /// Context switches: because it waited, because others had their turn.
    pub switches: Cell<(u64, u64)>,
    /// The task has ended and is only kept for wait or by references.
    pub dead: Cell<bool>,
    /// PR_SET_PDEATHSIG.
    pub pdeath_signal: Cell<i32>,
    /// execve has passed its point of no return: the image to load in the task's (new) space.
    pub exec: RefCell<Option<crate::exec::ExecImage>>,
    /// What is left to do in the task's own space before it first runs.
    pub birth: RefCell<Option<Box<crate::process::Birth>>>,
    /// What it waits for in futex(2).
    pub futex: crate::futex::Waiting,
    /// What a tracer wants of it.
    pub trace: crate::ptrace::Trace,
    /// Work in another space that its call waits for.
    pub remote: RefCell<Option<Rc<crate::ptrace::remote::Job>>>,
    /// It ends so once its tracer lets it (PTRACE_EVENT_EXIT).
    pub last_words: Cell<Option<Exit>>,
    /// Secure computing.
    pub seccomp: crate::seccomp::Seccomp,
    /// Its restartable sequences, and whether it was interrupted since it last looked.
    pub rseq: Cell<Option<crate::process::Rseq>>,
    /// See `rseq`.
    pub rseq_due: Cell<bool>,
    /// The deadline that is set for the wait it is in.
    pub timer: Cell<Option<TimerKey>>,
    /// The child whose exec or exit its vfork waits for.
    pub vfork: RefCell<Option<(Pid, Rc<crate::process::VforkDone>)>>,
    /// Scheduling policy and priority as asked for; they have no effect.
    pub sched: Cell<crate::process::Sched>,
}

impl Task {
    /// A thread of `proc`, not yet known to the kernel's tables.
    pub fn new(
        tid: Tid,
        entity: Rc<Entity>,
        proc: Rc<Process>,
        ctx: Box<Context>,
        files: Rc<FdTable>,
        fs: Rc<crate::fs::FsInfo>,
        creds: Rc<Creds>,
    ) -> Task {
        Task {
            tid,
            entity,
            proc: RefCell::new(proc),
            ctx: RefCell::new(ctx),
            name: Cell::new([0; 16]),
            sig: TaskSignals::default(),
            clear_child_tid: Cell::new(0),
            robust_list: Cell::new((0, 0)),
            call: Cell::new(None),
            interrupted: Cell::new(None),
            files: RefCell::new(files),
            fs: RefCell::new(fs),
            creds: RefCell::new(creds),
            cpu_ns: Cell::new(0),
            switches: Cell::new((0, 0)),
            dead: Cell::new(false),
            pdeath_signal: Cell::new(0),
            exec: RefCell::new(None),
            birth: RefCell::new(None),
            futex: crate::futex::Waiting::default(),
            trace: crate::ptrace::Trace::default(),
            remote: RefCell::default(),
            last_words: Cell::new(None),
            seccomp: crate::seccomp::Seccomp::default(),
            rseq: Cell::new(None),
            rseq_due: Cell::new(false),
            timer: Cell::new(None),
            vfork: RefCell::new(None),
            sched: Cell::default(),
        }
    }

    /// A signal could be delivered now.
    pub fn signal_pending(&self) -> bool {
        let proc = self.proc.borrow();
        let set = self.sig.pending.set.get() | proc.pending.set.get();
        set & !self.sig.mask.get() != 0
            || proc.sig.stop.get() != 0 && !self.trace.passes_stop()
            || self.trace.due.get().contains(crate::ptrace::Due::TRAP)
    }

    /// No call to resume, no signal, no exit, no execve: guest code may simply go on.
    pub fn has_nothing_to_do(&self) -> bool {
        let proc = self.proc.borrow();
        self.call.get().is_none()
            && proc.exiting.get().is_none()
            && !self.signal_pending()
            && self.sig.saved_mask.get().is_none()
            && !proc.sig.tell_cont.get()
            && self.interrupted.get().is_none()
            && self.exec.borrow().is_none()
            && !self.trace.wants_attention()
    }

    /// Its process.
    pub fn process(&self) -> Rc<Process> {
        self.proc.borrow().clone()
    }

    /// Its open files.
    pub fn files(&self) -> Rc<FdTable> {
        self.files.borrow().clone()
    }

    /// Its address space.
    pub fn mm(&self) -> Rc<Mm> {
        self.proc.borrow().mm.borrow().clone()
    }
}

/// How a process ended, as wait(2) reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// exit_group with this status.
    Code(u8),
    /// Killed by this signal; true with a core.
    Signal(u8, bool),
}

impl Exit {
    /// The status word of wait4.
    pub fn status(self) -> i32 {
        match self {
            Exit::Code(c) => i32::from(c) << 8,
            Exit::Signal(s, core) => i32::from(s) | if core { 0x80 } else { 0 },
        }
    }
}

/// A thread group.
pub struct Process {
    /// Number.
    pub pid: Pid,
    /// Parent; dangling for orphans, which belong to pid 1 (the kernel itself).
    pub parent: RefCell<Weak<Process>>,
    /// Children, zombies too, by pid.
    pub children: RefCell<BTreeMap<Pid, Rc<Process>>>,
    /// Traced threads that have ended and that this process, their tracer, has not waited for.
    pub ghosts: RefCell<Vec<crate::ptrace::Ghost>>,
    /// Live threads.
    pub threads: RefCell<BTreeMap<Tid, Rc<Task>>>,
    /// Address space.
    pub mm: RefCell<Rc<Mm>>,
    /// Signal actions (CLONE_SIGHAND).
    pub sighand: RefCell<Rc<SigHand>>,
    /// Signals for the whole process.
    pub pending: Pending,
    /// Stops and the choice of threads.
    pub sig: ProcSignals,
    /// Interval timers, POSIX timers, CPU-time alarms.
    pub timers: crate::time::ProcTimers,
    /// Set once the process is a zombie.
    pub exit: Cell<Option<Exit>>,
    /// exit_group or a fatal signal is under way: every thread ends with this.
    pub exiting: Cell<Option<Exit>>,
    /// Parents wait here for children (wait4).
    pub child_wait: WaitQueue,
    /// pidfds poll here.
    pub exit_wait: WaitQueue,
    /// Process group.
    pub pgid: Cell<Pid>,
    /// Session.
    pub sid: Cell<Pid>,
    /// Path of the executable.
    pub exe: RefCell<Vec<u8>>,
    /// argv strings with NULs, for /proc/PID/cmdline.
    pub cmdline: RefCell<Vec<u8>>,
    /// Environment strings with NULs as at exec.
    pub environ: RefCell<Vec<u8>>,
    /// Auxiliary vector as at exec.
    pub auxv: RefCell<Vec<u8>>,
    /// rlimits by RLIMIT_* number: soft, hard.
    pub rlimits: RefCell<[(u64, u64); 16]>,
    /// vfork: the parent's thread waits here until exec or exit.
    pub vfork_done: RefCell<Option<Rc<crate::process::VforkDone>>>,
    /// Signal sent to the parent at exit.
    pub exit_signal: Cell<i32>,
    /// PR_SET_CHILD_SUBREAPER.
    pub subreaper: Cell<bool>,
    /// PR_SET_DUMPABLE.
    pub dumpable: Cell<u32>,
    /// Has called execve since fork (setpgid's EACCES).
    pub execed: Cell<bool>,
    /// Virtual time at start.
    pub start_ns: Cell<u64>,
    /// CPU time of ended threads and of waited-for children, ns.
    pub cpu_ns: Cell<(u64, u64)>,
    /// Context switches of ended threads.
    pub switches: Cell<(u64, u64)>,
    /// The thread of the parent that made it (PR_SET_PDEATHSIG).
    pub parent_thread: Cell<Tid>,
    /// Stopped by a job-control signal, or continued, and whether wait has reported it.
    pub job: Cell<crate::process::Job>,
    /// PR_SET_THP_DISABLE.
    pub thp_disable: Cell<bool>,
    /// personality(2).
    pub personality: Cell<u32>,
    /// How the leader ended, if it ended before other threads.
    pub leader_exit: Cell<Option<Exit>>,
    /// Real uid of a zombie.
    pub zombie_uid: Cell<u32>,
    /// Name of a zombie.
    pub zombie_name: Cell<[u8; 16]>,
    /// It was started from outside (`ftvm exec`): no process of the image is its parent, and none waits for it.
    pub entered: Cell<bool>,
}

impl Process {
    /// A process with no thread yet. Limits are the caller's to copy.
    pub fn new(pid: Pid, mm: Rc<Mm>, sighand: Rc<SigHand>, rlimits: [(u64, u64); 16]) -> Process {
        Process {
            pid,
            parent: RefCell::new(Weak::new()),
            children: RefCell::default(),
            ghosts: RefCell::default(),
            threads: RefCell::default(),
            mm: RefCell::new(mm),
            sighand: RefCell::new(sighand),
            pending: Pending::default(),
            sig: ProcSignals::default(),
            timers: Default::default(),
            exit: Cell::new(None),
            exiting: Cell::new(None),
            child_wait: WaitQueue::new(),
            exit_wait: WaitQueue::new(),
            pgid: Cell::new(pid),
            sid: Cell::new(pid),
            exe: RefCell::default(),
            cmdline: RefCell::default(),
            environ: RefCell::default(),
            auxv: RefCell::default(),
            rlimits: RefCell::new(rlimits),
            vfork_done: RefCell::default(),
            exit_signal: Cell::new(17),
            subreaper: Cell::new(false),
            dumpable: Cell::new(1),
            execed: Cell::new(false),
            start_ns: Cell::new(0),
            cpu_ns: Cell::new((0, 0)),
            switches: Cell::new((0, 0)),
            parent_thread: Cell::new(Tid(1)),
            job: Cell::default(),
            thp_disable: Cell::new(false),
            personality: Cell::new(0),
            leader_exit: Cell::new(None),
            zombie_uid: Cell::new(0),
            zombie_name: Cell::new([0; 16]),
            entered: Cell::new(false),
        }
    }

    /// Number of its parent: 1 for orphans and the image's first process, 0 as in a pid namespace for one that was started from
    /// outside.
    pub fn parent_pid(&self) -> u32 {
        match self.parent.borrow().upgrade() {
            Some(p) => p.pid.0,
            None if self.entered.get() => 0,
            None => 1,
        }
    }

    /// Its leader, or another thread if the leader has ended; `None` for a zombie.
    pub fn any_thread(&self) -> Option<Rc<Task>> {
        let threads = self.threads.borrow();
        threads
            .get(&self.pid)
            .or_else(|| threads.values().next())
            .cloned()
    }
}
