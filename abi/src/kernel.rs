//! The kernel of one image: entry, scheduling, exit. All state hangs off [`Kernel`], in the arena.
//!
//! `runtime` drives it: [`Kernel::entry`] when guest code enters, [`Kernel::absorb`] at absorb
//! points, and [`Kernel::next`] to learn what runs. Nothing here waits or looks at the host.

use crate::chaos::Chaos;
pub use crate::config::{Config, NetConfig, RAM_DEFAULT};
use crate::cx::Cx;
use crate::exec::ExecImage;
use crate::fdtable::{FdTable, OpenFile, oflag};
use crate::mm::Mm;
use crate::process::Session;
pub use crate::step::{Entry, Next, Trap};
use crate::table;
use crate::task::{Call, Creds, Exit, Pid, Process, Task};
use ftl_core::context::{Context, Resume, reg};
use ftl_core::door::{Input, Stamp};
use ftl_core::errno::Errno;
use ftl_core::io::Stop;
use ftl_core::kcore::{Core, Env};
use ftl_core::platform::{Handle, Ns, Platform, StreamKind};
use ftl_core::wait::{Entity, SpaceId, State, Tid, Wake};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};

/// Entries that a task may make before another runnable one gets its turn.
pub const SLICE_ENTRIES: u32 = 256;
/// Virtual time that a task may run before another runnable one gets its turn, ns.
pub const SLICE_NS: Ns = 3_000_000;
/// Entries between absorb points of a busy image.
pub const ABSORB_ENTRIES: u32 = 256;

/// First of three numbers by which the vDSO asks for a clock read that it could not finish itself: clock_gettime,
/// gettimeofday, time. Not system calls: they count as the read that they are.
pub const CLOCK_ENTRY: u32 = 0x4654_4c00;

/// Name of the stream behind an inherited descriptor.
pub const fn inherited_handle(fd: u32) -> Handle {
    Handle((1 << 32) | fd as u64)
}

/// Live tasks by number.
pub type TaskTable = Rc<RefCell<BTreeMap<Tid, Rc<Task>>>>;
/// Processes by number, zombies too.
pub type ProcTable = Rc<RefCell<BTreeMap<Pid, Rc<Process>>>>;

/// The kernel of one image.
pub struct Kernel {
    /// Clock, timers, run queue, random numbers.
    pub core: Core,
    /// See [`Config`].
    pub config: Config,
    /// All live tasks.
    pub tasks: TaskTable,
    /// All processes, zombies too.
    pub procs: ProcTable,
    /// The task that runs.
    pub current: Rc<RefCell<Option<Rc<Task>>>>,
    /// Sessions by id, while a process is in them.
    pub sessions: RefCell<BTreeMap<Pid, Rc<Session>>>,
    /// Internet sockets.
    pub inet: Rc<crate::net::inet::Inet>,
    /// Names of UNIX sockets.
    pub unix: Rc<ftl_ipc::unix::Names>,
    /// Terminals.
    pub ttys: Rc<crate::tty::Ttys>,
    /// Mounts, contents of files in the image, locks.
    pub fs: crate::fs::Vfs,
    /// System V IPC.
    pub sysv: ftl_ipc::sysv::Sysv,
    /// POSIX message queues.
    pub mqueues: ftl_ipc::mqueue::MQueues,
    /// Futexes.
    pub futexes: crate::futex::Futexes,
    /// Patch plans of the files that were run.
    pub plans: crate::patches::PlanCache,
    /// Special instructions of the files that were run.
    pub specials: crate::specials::SiteCache,
    /// Entries so far, clock reads of the vDSO not counted: the name of the moment after one.
    pub entries: Cell<u64>,
    next_tid: Cell<u32>,
    next_space: Cell<u32>,
    /// The image's first process.
    pub first: Cell<Option<Pid>>,
    /// Set when it has ended.
    pub exit: Cell<Option<Exit>>,
    /// `Config::chaos`.
    chaos: Option<Chaos>,
    entries_left: Cell<u32>,
    absorb_left: Cell<u32>,
    slice_end: Cell<Ns>,
    resched: Cell<bool>,
    /// The image's first process has stopped: whoever started the image should see it stopped.
    pub stop_request: Cell<bool>,
    /// The space whose task ran last in the host process that holds the token.
    live_mm: RefCell<Weak<Mm>>,
    /// Up to when CPU time has been charged.
    charged: Cell<Ns>,
    point: Cell<u64>,
    /// Number of traced tasks.
    pub traced: Cell<usize>,
    /// Work on memory of other spaces.
    pub remote: RefCell<std::collections::VecDeque<Rc<crate::ptrace::remote::Job>>>,
    /// What notifications have set off and is still to be done.
    pub late: crate::late::LateRef,
    /// Rings of io_uring.
    pub uring: Rc<crate::uring::Rings>,
    /// Processes that were started from outside.
    pub attached: crate::attach::Attached,
    pub(crate) warned: RefCell<BTreeSet<u64>>,
    pub(crate) strace_line: RefCell<String>,
}

impl Kernel {
    /// An image with no process yet.
    pub fn new(core: Core, config: Config) -> Kernel {
        let inet = crate::net::inet::Inet::start(&core, config.net.clone());
        Kernel {
            inet,
            core,
            chaos: config.chaos.map(Chaos::new),
            config,
            tasks: Rc::default(),
            procs: Rc::default(),
            current: Rc::default(),
            sessions: RefCell::default(),
            unix: Rc::default(),
            ttys: Rc::default(),
            fs: Default::default(),
            sysv: Default::default(),
            mqueues: Default::default(),
            futexes: Default::default(),
            plans: Default::default(),
            specials: Default::default(),
            entries: Cell::new(0),
            next_tid: Cell::new(2),
            next_space: Cell::new(1),
            first: Cell::new(None),
            exit: Cell::new(None),
            entries_left: Cell::new(SLICE_ENTRIES),
            absorb_left: Cell::new(ABSORB_ENTRIES),
            slice_end: Cell::new(0),
            resched: Cell::new(false),
            stop_request: Cell::new(false),
            live_mm: RefCell::default(),
            charged: Cell::new(0),
            point: Cell::new(0),
            traced: Cell::new(0),
            remote: RefCell::default(),
            late: Rc::default(),
            uring: Rc::default(),
            attached: Default::default(),
            warned: RefCell::default(),
            strace_line: RefCell::default(),
        }
    }

    /// A number for a new task.
    pub fn new_tid(&self) -> Result<Tid, Errno> {
        let tasks = self.tasks.borrow();
        if tasks.len() >= self.config.max_tasks {
            return Err(Errno::EAGAIN);
        }
        let procs = self.procs.borrow();
        loop {
            let t = Tid(self.next_tid.get());
            // PID_MAX_DEFAULT; numbers below 300 are not reused, as in Linux.
            self.next_tid.set(if t.0 >= 0x40_0000 { 300 } else { t.0 + 1 });
            if !tasks.contains_key(&t) && !procs.contains_key(&t) {
                return Ok(t);
            }
        }
    }

    /// Private writable bytes of all spaces, those shared by fork once: what `--memory` bounds.
    pub fn committed(&self) -> u64 {
        self.spaces()
            .iter()
            .map(|mm| mm.committed.get().saturating_sub(mm.inherited.get()))
            .sum()
    }

    /// The address spaces of live processes, each once.
    pub fn spaces(&self) -> Vec<Rc<crate::mm::Mm>> {
        let mut seen = BTreeSet::new();
        let procs = self.procs.borrow();
        procs
            .values()
            .filter(|p| p.exit.get().is_none())
            .map(|p| p.mm.borrow().clone())
            .filter(|mm| seen.insert(mm.space))
            .collect()
    }

    /// A number for a new address space.
    pub fn new_space(&self) -> SpaceId {
        let n = self.next_space.get();
        self.next_space.set(n + 1);
        SpaceId(n)
    }

    /// Random slide for a new space's mappings: at most 64 GiB, page-aligned.
    pub fn new_slide(&self) -> u64 {
        (self.core.random_u64() & 0xff_ffff) << 12
    }

    /// Creates the first process in space 0 and loads `path` into it. Fails as execve(2) does.
    pub fn start(
        &self,
        plat: &mut dyn Platform,
        path: &[u8],
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
    ) -> Result<(), crate::exec::ExecError> {
        let tid = self.new_tid().map_err(crate::exec::ExecError::from)?;
        let mm = Rc::new(Mm::new(SpaceId(0), self.new_slide()));
        mm.watch_text.set(self.config.cpu.is_some());
        let entity = Entity::new(tid, SpaceId(0), &self.core.run);
        let files = Rc::new(FdTable::default());
        let mut env = Env {
            plat,
            core: &self.core,
        };
        self.open_streams(&mut env, &files);
        let sighand = Rc::new(crate::signal::SigHand::inherited(self.config.signals.0));
        let proc = Rc::new(Process::new(tid, mm, sighand, self.config.rlimits));
        proc.execed.set(true);
        proc.start_ns.set(self.core.clock.last());
        let c = &self.config;
        let fs = crate::fs::start(self, &mut env).ok_or_else(|| crate::exec::ExecError {
            errno: Errno::EACCES,
            why: "the layer kept for this name is of another version of ftvm; ftvm rm removes it".to_string(),
        })?;
        let fs = Rc::new(fs);
        let creds = Rc::new(Creds {
            caps: c.caps,
            no_new_privs: c.no_new_privs,
            ..Creds::new(c.uid, c.gid, c.groups.clone())
        });
        let ctx = Context::new(c.xsave_len);
        let task = Rc::new(Task::new(tid, entity, proc.clone(), ctx, files, fs, creds));
        self.sessions.borrow_mut().insert(tid, Rc::new(Session::new(tid)));
        proc.threads.borrow_mut().insert(tid, task.clone());
        let mut cx = Cx {
            env: Env {
                plat,
                core: &self.core,
            },
            k: self,
            task: task.clone(),
        };
        crate::fs::populate(&mut cx).map_err(|(what, errno)| crate::exec::ExecError {
            // Not about the program: 126 is for what exists and cannot be run.
            errno: Errno::EACCES,
            why: format!(
                "directory {}: {}",
                String::from_utf8_lossy(&what),
                crate::exec::ExecError::from(errno).why
            ),
        })?;
        let image = ExecImage::prepare(&mut cx, path, None, argv, envp)?;
        *task.exec.borrow_mut() = Some(image);
        self.procs.borrow_mut().insert(tid, proc);
        self.tasks.borrow_mut().insert(tid, task.clone());
        self.first.set(Some(tid));
        task.sig
            .mask
            .set(self.config.signals.1 & !crate::signal::UNBLOCKABLE);
        if let Some(p) = self.procs.borrow().get(&tid) {
            crate::time::cpu::watch_limit(&self.core, p);
        }
        task.entity.enqueue();
        Ok(())
    }

    fn open_streams(&self, env: &mut Env<'_>, files: &FdTable) {
        self.ttys.dev.set(self.fs.new_dev());
        let kinds: Vec<StreamKind> = (0..3).map(|h| env.plat.stream_kind(Handle(h))).collect();
        let tty = |fd: usize| kinds[fd] == StreamKind::Terminal;
        let owner = (self.config.uid, 5);
        // Streams on a terminal are one file: input comes from the first, output goes to stdout's.
        let console = (0..3).find(|fd| tty(*fd)).map(|first| {
            let out = [1, 2, 0].into_iter().find(|fd| tty(*fd)).unwrap_or(first);
            let handles = (Handle(first as u64), Handle(out as u64));
            let c = crate::fs::Console::new(env, handles, &self.ttys, owner);
            self.ttys.set_console(&c);
            OpenFile::new(c, oflag::O_RDWR)
        });
        for (fd, kind) in kinds.iter().enumerate() {
            let open = match (kind, &console) {
                (StreamKind::Closed, _) => continue,
                (StreamKind::Terminal, Some(c)) => c.clone(),
                _ => {
                    let h = Handle(fd as u64);
                    let flags = if fd == 0 { oflag::O_RDONLY } else { oflag::O_WRONLY };
                    OpenFile::new(crate::fs::Console::new(env, (h, h), &self.ttys, owner), flags)
                }
            };
            files.replace(fd, open, false);
        }
        for (fd, flags) in &self.config.inherited {
            let h = inherited_handle(*fd);
            let file = crate::fs::Console::new(env, (h, h), &self.ttys, owner);
            files.replace(*fd as usize, OpenFile::new(file, *flags), false);
        }
    }

    /// Guest code of the current task entered the kernel.
    pub fn entry(&self, plat: &mut dyn Platform, entry: Entry) {
        self.core.clock.enter();
        self.entries.set(self.entries.get() + 1);
        self.entries_left.set(self.entries_left.get().saturating_sub(1));
        self.absorb_left.set(self.absorb_left.get().saturating_sub(1));
        let Some(task) = self.current.borrow().clone() else {
            return;
        };
        match entry {
            Entry::Syscall => {
                let call = {
                    let mut ctx = task.ctx.borrow_mut();
                    ctx.orig_rax = ctx.regs[reg::RAX];
                    Call {
                        // The number is an int (do_syscall_64): high bits are dropped.
                        nr: u64::from(ctx.orig_rax as u32),
                        args: ctx.args(),
                    }
                };
                task.entity.wake.set(Wake::Fresh);
                task.entity.deadline.set(None);
                task.entity.progress.set(0);
                task.interrupted.set(None);
                if task.trace.on.get() && crate::ptrace::entering(self, plat, &task) {
                    return;
                }
                if task.seccomp.mode.get() != 0
                    && !crate::seccomp::lets_through(self, plat, &task, &call, false)
                {
                    return;
                }
                self.run_call(plat, &task, call);
            }
            Entry::Trap(trap) => crate::signal::trap(self, plat, &task, &trap),
            Entry::Cut => {
                // The clock moves even if the guest never asks, and inputs are looked at: a lone
                // computing thread gets its SIGALRM and its Ctrl-C (PROTOCOL §2, busy).
                self.resched.set(true);
                self.absorb_left.set(0);
            }
        }
    }

    /// Runs a call's handler, for the first time or again after a wait.
    fn run_call(&self, plat: &mut dyn Platform, task: &Rc<Task>, mut call: Call) {
        task.call.set(None);
        if let Some(key) = task.timer.take() {
            self.core.timers.cancel(key);
        }
        if self.config.strace.get() && task.entity.wake.get() == Wake::Fresh {
            self.strace_begin(plat, task, &call);
        }
        let mut cx = Cx {
            env: Env {
                plat,
                core: &self.core,
            },
            k: self,
            task: task.clone(),
        };
        let fresh = task.entity.wake.get() == Wake::Fresh;
        let mut result = match &self.chaos {
            Some(chaos) if fresh => chaos.before(&mut cx, &mut call).and(Ok(0)),
            _ => Ok(0),
        };
        if result.is_ok() {
            result = table::dispatch(&mut cx, call.nr, call.args);
        }
        if let (Err(Stop::Block(_)), Some(chaos)) = (&result, &self.chaos)
            && let Some(instead) = chaos.instead_of_waiting(&call)
        {
            result = instead;
        }
        if !matches!(result, Err(Stop::Block(_))) && task.remote.borrow().is_some() {
            // What another space has done for a call that ended without it is nobody's.
            task.remote.borrow_mut().take();
        }
        let value = match result {
            Ok(v) => v,
            Err(Stop::Errno(e)) => {
                if e == Errno::ENOSYS {
                    self.warn_unknown(plat, task, call.nr);
                }
                e.to_rax()
            }
            Err(Stop::Block(block)) => {
                task.call.set(Some(call));
                task.entity.block(&block);
                if task.trace.due.get().contains(crate::ptrace::Due::EVENT) {
                    // The tracer hears of a vfork before it is waited for.
                    task.entity.wake_up(Wake::Event);
                    return;
                }
                if let Some(at) = block.deadline {
                    task.timer.set(Some(self.core.timers.wake_at(at, &task.entity)));
                }
                return;
            }
            Err(Stop::Interrupted(restart)) => {
                task.interrupted.set(Some((call, restart)));
                Errno::EINTR.to_rax()
            }
            Err(Stop::NoReturn) => {
                if self.config.strace.get() {
                    self.strace_end(plat, task, None);
                }
                return;
            }
        };
        if self.config.strace.get() {
            self.strace_end(plat, task, Some(value));
        }
        let mut ctx = task.ctx.borrow_mut();
        ctx.regs[reg::RAX] = value;
    }

    /// Ending the slice now would change something: somebody else can run, or a deadline has come by
    /// real time `now`. Otherwise the task may as well go on as if it had not been looked at.
    pub fn cut_matters(&self, now: Ns) -> bool {
        !self.core.run.is_empty() || self.core.timers.bound() <= now
    }

    /// The current task gives way at the end of this entry.
    pub fn yield_now(&self) {
        self.resched.set(true);
    }

    /// Some task other than the current one could run, a timer is set, or another task may wait for something from outside: the watchdog is
    /// needed.
    pub fn wants_watchdog(&self) -> bool {
        !self.core.run.is_empty() || self.core.timers.bound() != Ns::MAX || self.tasks.borrow().len() > 1
    }

    /// Number of the next absorb point, and the clock: what inputs are stamped with.
    pub fn next_stamp(&self) -> Stamp {
        Stamp {
            point: self.point.get() + 1,
            v: self.core.clock.last(),
        }
    }

    /// Passes an absorb point: all inputs whose stamp is at most its number, in order.
    pub fn absorb(&self, plat: &mut dyn Platform, inputs: Vec<(Stamp, Input)>) {
        self.point.set(self.point.get() + 1);
        self.absorb_left.set(ABSORB_ENTRIES);
        let mut env = Env {
            plat,
            core: &self.core,
        };
        for (stamp, input) in inputs {
            debug_assert!(stamp.point <= self.point.get());
            self.core.clock.advance(stamp.v);
            match input {
                Input::Signal(signo) => crate::signal::from_outside(self, &mut env, signo),
                Input::Exec(order) => crate::attach::begin(self, env.plat, *order),
                other => match other.handle().and_then(|h| self.core.sink(h)) {
                    Some(sink) => sink.input(&mut env, other),
                    None => {
                        // The listener has gone meanwhile: so has its connection.
                        if let Input::Accepted { conn, .. } = other {
                            env.plat.net_close(conn, Vec::new(), true);
                        }
                    }
                },
            }
        }
        // The clock moves even if the guest never asks (PROTOCOL §2, busy).
        env.now();
        self.fire_timers();
    }

    /// An idle wait ended because the earliest deadline came.
    pub fn idle_until(&self, deadline: Ns) {
        self.core.clock.advance(deadline);
        self.fire_timers();
    }

    fn fire_timers(&self) {
        self.charge();
        let now = self.core.clock.last();
        while self.core.timers.fire_one(now) {}
    }

    /// The common way back from a call: the same task goes on, and nothing happened that concerns
    /// anyone else. The same decision as [`Kernel::next`] would take, at a fraction of its cost.
    pub fn same_task_goes_on(&self) -> bool {
        let current = self.current.borrow();
        let Some(task) = current.as_ref() else {
            return false;
        };
        let now = self.core.clock.last();
        self.can_run(task)
            && !self.resched.get()
            && self.absorb_left.get() > 0
            && self.exit.get().is_none()
            && (self.core.run.is_empty() || (self.entries_left.get() > 0 && now < self.slice_end.get()))
            && self.core.timers.bound() > now
            && !self.core.has_dropped()
            && !self.inet.pending()
            && !self.fs.pages.has_resized()
            && !self.fs.locks.is_stale()
            && !self.ttys.has_posts()
            && !self.attached.is_due()
            && !crate::late::is_due(self)
            && task.has_nothing_to_do()
    }

    /// Charges the current task with the virtual time since the last charge.
    pub fn charge(&self) {
        let now = self.core.clock.last();
        let ns = now.saturating_sub(self.charged.replace(now));
        if ns > 0
            && let Some(task) = &*self.current.borrow()
        {
            task.cpu_ns.set(task.cpu_ns.get() + ns);
        }
    }

    /// Chooses what runs. `here` is the space of the calling vCPU.
    pub fn next(&self, plat: &mut dyn Platform, here: SpaceId) -> Next {
        self.fire_timers();
        loop {
            if let Some(space) = crate::late::serve(self, plat, here) {
                let task = self.current.borrow_mut().take();
                if let Some(task) = task.filter(|t| self.can_run(t)) {
                    self.core.run.unpop(&task.entity);
                }
                return Next::Space(space);
            }
            crate::attach::settle(self, plat);
            crate::tty::deliver_posts(self, plat);
            self.late.run();
            self.fs.settle(plat);
            self.core.close_dropped(plat);
            self.inet.settle(plat, &self.core);
            if let Some(exit) = self.exit.get() {
                let now = self.core.clock.last();
                crate::attach::image_ends(self, plat);
                if let Some(own) = self.inet.own.as_ref().filter(|o| o.lingers(now)) {
                    return Next::Idle(Some(own.linger_end()));
                }
                self.finish_files(plat);
                return Next::Exit(exit);
            }
            if self.absorb_left.get() == 0 {
                return Next::Absorb;
            }
            let Some(task) = self.choose() else {
                // What was done above may have woken a request or a chain of notifications.
                if crate::late::is_due(self) || self.attached.is_due() {
                    continue;
                }
                return Next::Idle(self.core.timers.earliest());
            };
            let space = task.entity.space.get();
            if space != here {
                // It stays the next one: the vCPU of its space asks again.
                self.core.run.unpop(&task.entity);
                if let Some(chaos) = &self.chaos {
                    chaos.chosen.set(true);
                }
                *self.current.borrow_mut() = None;
                return Next::Space(space);
            }
            *self.current.borrow_mut() = Some(task.clone());
            crate::mm::catch_up(self, plat, &task.mm());
            if self.traced.get() > 0 {
                crate::ptrace::unpatch(self, plat, &task.mm());
            }
            if let Some(exit) = task.process().exiting.get() {
                // Killed by another task: it ends here, in its own space.
                self.exit_task(plat, &task, exit);
                continue;
            }
            if let Some(exit) = task.last_words.take() {
                self.exit_task(plat, &task, exit);
                continue;
            }
            let birth = task.birth.borrow_mut().take();
            if let Some(birth) = birth {
                birth.finish(plat, &task);
            }
            let image = task.exec.borrow_mut().take();
            if let Some(image) = image {
                let mut cx = Cx {
                    env: Env {
                        plat,
                        core: &self.core,
                    },
                    k: self,
                    task: task.clone(),
                };
                image.load(&mut cx);
                crate::ptrace::execed(&task, task.tid);
            }
            if crate::ptrace::work(self, plat, &task) {
                continue;
            }
            if let Some((call, judged)) = crate::ptrace::resumed_call(&task) {
                task.entity.wake.set(Wake::Fresh);
                if let Some(call) = call
                    && (task.seccomp.mode.get() == 0
                        || crate::seccomp::lets_through(self, plat, &task, &call, judged))
                {
                    self.run_call(plat, &task, call);
                }
            } else if let Some(call) = task.call.get() {
                self.run_call(plat, &task, call);
            }
            if task.exec.borrow().is_some() {
                // An execve that its tracer held up.
                continue;
            }
            crate::mm::resized(self, plat, here);
            if !self.can_run(&task)
                || crate::late::is_due(self)
                || self.attached.is_due()
                || crate::ptrace::work(self, plat, &task)
            {
                continue;
            }
            if task.rseq_due.replace(false) {
                crate::process::rseq::interrupted(self, plat, &task);
            }
            crate::signal::deliver(self, plat, &task);
            if self.can_run(&task) && task.call.get().is_none() {
                self.take_vector_state(plat, &task, here);
                if task.trace.steps() {
                    let env = &mut Env {
                        plat,
                        core: &self.core,
                    };
                    task.trace.debug.prime(env);
                    crate::ptrace::arm_step(&task, &mut task.ctx.borrow_mut());
                }
                return Next::Run(task);
            }
        }
    }

    /// The upper vector state in the CPU belongs to the task that last ran in this space: write it
    /// to its context before another one's is loaded. A task that goes on pays nothing.
    fn take_vector_state(&self, plat: &mut dyn Platform, task: &Rc<Task>, here: SpaceId) {
        let mm = task.mm();
        if !std::ptr::eq(self.live_mm.borrow().as_ptr(), Rc::as_ptr(&mm)) {
            *self.live_mm.borrow_mut() = Rc::downgrade(&mm);
        }
        let mut live = mm.live.borrow_mut();
        if std::ptr::eq(live.as_ptr(), Rc::as_ptr(task)) {
            return;
        }
        // A task that has left the space by execve took its (fresh) state along.
        if let Some(last) = live
            .upgrade()
            .filter(|t| t.entity.space.get() == here && !t.dead.get())
        {
            plat.save_xstate(&mut last.ctx.borrow_mut());
        }
        *live = Rc::downgrade(task);
    }

    /// The image has become live at another host, whose clock reads `now`: fresh entropy is mixed in, and
    /// its peers hear from it.
    pub fn took_over(&self, plat: &mut dyn Platform, now: Ns) {
        self.core.clock.advance(now);
        let mut seed = [0; 32];
        plat.entropy(&mut seed);
        self.core.reseed(seed);
        if let Some(own) = &self.inet.own {
            own.took_over(&mut Env {
                plat,
                core: &self.core,
            });
        }
    }

    /// The host process of `here` lets go of the CPU, or all contexts must be complete (snapshot): what the
    /// CPU still holds of its last task goes into that task's context.
    pub fn settle_vectors(&self, plat: &mut dyn Platform, here: SpaceId) {
        let Some(mm) = self.live_mm.borrow().upgrade().filter(|mm| mm.space == here) else {
            return;
        };
        let last = mm.live.borrow().upgrade();
        if let Some(task) = last.filter(|t| t.entity.space.get() == here && !t.dead.get()) {
            plat.save_xstate(&mut task.ctx.borrow_mut());
        }
    }

    /// The image ends: mapped volume files are written back, and one line says what is dropped.
    fn finish_files(&self, plat: &mut dyn Platform) {
        let dropped = self.fs.finish(plat);
        if self.config.keep_layer {
            crate::fs::save_layer(
                self,
                &mut Env {
                    plat,
                    core: &self.core,
                },
            );
            return;
        }
        if dropped > 0 {
            let s = if dropped == 1 { "file" } else { "files" };
            plat.diagnostic(&format!(
                "ftvm: {dropped} {s} written outside the working directory and volumes dropped"
            ));
        }
    }

    fn can_run(&self, task: &Task) -> bool {
        task.entity.state.get() == State::Runnable && !task.dead.get()
    }

    /// The current task if it may go on, else the next runnable one, with a fresh slice.
    fn choose(&self) -> Option<Rc<Task>> {
        let current = self.current.borrow().clone();
        if let Some(task) = current.filter(|t| self.can_run(t)) {
            let over = self.entries_left.get() == 0 || self.core.clock.last() >= self.slice_end.get();
            if !self.resched.get() && (!over || self.core.run.is_empty()) {
                return Some(task);
            }
            task.rseq_due.set(true);
            let (waited, lost) = task.switches.get();
            task.switches.set((waited, lost + 1));
            task.entity.enqueue();
        } else if let Some(task) = self.current.borrow().as_ref() {
            let (waited, lost) = task.switches.get();
            task.switches.set((waited + 1, lost));
        }
        self.resched.set(false);
        self.charge();
        *self.current.borrow_mut() = None;
        loop {
            if let Some(chaos) = &self.chaos {
                chaos.choose(&self.core.run);
            }
            let entity = self.core.run.pop()?;
            let task = self.tasks.borrow().get(&entity.tid).cloned();
            let Some(task) = task else { continue };
            // Nobody pays for what passed meanwhile.
            self.charge();
            crate::time::cpu::unpark(&self.core, &task.process());
            let slice = self.chaos.as_ref().map_or(SLICE_ENTRIES, Chaos::slice);
            self.entries_left.set(slice);
            self.slice_end
                .set(self.core.clock.last().saturating_add(SLICE_NS));
            return Some(task);
        }
    }

    /// One thread ends, in its own space; the last one ends its process.
    pub fn exit_task(&self, plat: &mut dyn Platform, task: &Rc<Task>, exit: Exit) {
        crate::process::exit_task(self, plat, task, exit);
    }

    /// Every thread of the process ends (exit_group, a fatal signal): the current task at once if it
    /// is one of them, the others when they are next chosen, in their own space.
    pub fn exit_process(&self, plat: &mut dyn Platform, proc: &Rc<Process>, exit: Exit) {
        crate::process::exit_process(self, plat, proc, exit);
    }

    /// The context of a task is about to be entered for the first time or after exec.
    pub fn full_resume(task: &Task) {
        task.ctx.borrow_mut().resume = Resume::Full;
    }
}
