//! The gdb server: what gdb asks goes to the replay that has stopped, and to another one when gdb goes back.

use super::history::{Back, Plan, Replay};
use super::place::Leg;
use super::wire::{Order, Stop, Wanted, Why};
use gdbstub::common::{Signal, Tid};
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{GdbStubBuilder, MultiThreadStopReason};
use gdbstub::target::ext::auxv::{Auxv, AuxvOps};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::reverse_exec::{
    ReplayLogPosition, ReverseCont, ReverseContOps, ReverseStep, ReverseStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::exec_file::{ExecFile, ExecFileOps};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{TargetError, TargetResult};
use gdbstub_arch::x86::X86_64_SSE;
use gdbstub_arch::x86::reg::X86_64CoreRegs;
use std::collections::BTreeSet;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// The longest memory that can be watched, bytes.
const WATCHED: u64 = 4096;

/// The connection, with what is to be sent gathered.
struct Conn {
    stream: TcpStream,
    out: Vec<u8>,
}

impl Connection for Conn {
    type Error = io::Error;
    fn write(&mut self, byte: u8) -> Result<(), Self::Error> {
        self.out.push(byte);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), Self::Error> {
        io::Write::write_all(&mut self.stream, &self.out)?;
        self.out.clear();
        Ok(())
    }
}

impl Conn {
    fn read(&mut self) -> Option<u8> {
        let mut byte = [0];
        loop {
            match io::Read::read(&mut self.stream, &mut byte) {
                Ok(1) => return Some(byte[0]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => return None,
            }
        }
    }
}

/// Waits until one of the two has something: true if the first has.
fn first_has_input(first: i32, second: i32) -> bool {
    let mut both = [first, second].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    loop {
        // SAFETY: two entries, valid for reads and writes.
        let n = unsafe { libc::poll(both.as_mut_ptr(), 2, -1) };
        if n > 0 || n < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            // What has stopped counts before what gdb says to it.
            return both[0].revents != 0 && both[1].revents == 0;
        }
    }
}

/// What gdb wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Move {
    /// Go on; this thread makes one step.
    On(Option<u64>),
    /// Go back; with a thread, by one of its instructions.
    Back(Option<u64>),
}

/// What gdb sees.
struct Target {
    plan: Plan,
    now: Option<Replay>,
    at: Stop,
    breaks: BTreeSet<u64>,
    watches: Vec<(u64, u64)>,
    step: Option<u64>,
    /// To be done next.
    next: Option<Move>,
    /// The replay goes on.
    running: bool,
    /// Outputs of the image that were printed.
    printed: u64,
}

type Reason = MultiThreadStopReason<u64>;

/// Serves one gdb, and lets the replay go on alone when it leaves. Returns an exit code.
pub fn serve(port: u16, plan: Plan, base: usize, stop: Option<&str>) -> i32 {
    match run(port, plan, base, stop) {
        Ok(code) => code,
        Err(why) => {
            crate::talk::error("setup", crate::run::EXIT_FAILED, &format!("--gdb {port}: {why}"));
            crate::run::EXIT_FAILED
        }
    }
}

fn run(port: u16, plan: Plan, mut base: usize, stop: Option<&str>) -> Result<i32, String> {
    let bad = |e: io::Error| e.to_string();
    let order = match stop {
        Some(_) => Order::Stop,
        None => Order::First,
    };
    let (now, at) = loop {
        let replay = plan.start(base, stop, true).map_err(bad)?;
        let sent = replay.order(&Wanted::default(), &order);
        let Ok(at) = sent.and_then(|()| replay.stop()) else {
            // It has said why.
            return Ok(replay.wait());
        };
        if let Why::Ended(_) = at.why {
            return Ok(replay.wait());
        }
        // The names of places within an anchor's entry are those from the base before.
        if base == 0 || at.place.entries > plan.bases[base].entries {
            break (replay, at);
        }
        base -= 1;
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(bad)?;
    let here = listener.local_addr().map_err(bad)?;
    eprintln!("ftvm: waiting for gdb: target remote {here}");
    let (stream, _) = listener.accept().map_err(bad)?;
    let _ = stream.set_nodelay(true);
    let mut target = Target {
        plan,
        printed: at.outputs,
        now: Some(now),
        at,
        breaks: BTreeSet::new(),
        watches: Vec::new(),
        step: None,
        next: None,
        running: false,
    };
    let fd = stream.as_raw_fd();
    let conn = Conn {
        stream,
        out: Vec::new(),
    };
    let stub = GdbStubBuilder::new(conn).build().map_err(|e| e.to_string())?;
    let mut session = stub.run_state_machine(&mut target).map_err(|e| e.to_string())?;
    loop {
        let next = match session {
            GdbStubStateMachine::Running(mut s) => match target.go(fd) {
                Some(reason) => s.report_stop(&mut target, reason),
                None => match s.borrow_conn().read() {
                    Some(byte) => s.incoming_data(&mut target, byte),
                    None => break,
                },
            },
            GdbStubStateMachine::Idle(mut s) => match s.borrow_conn().read() {
                Some(byte) => s.incoming_data(&mut target, byte),
                None => break,
            },
            GdbStubStateMachine::CtrlCInterrupt(s) => {
                let reason = target.interrupt();
                s.interrupt_handled(&mut target, Some(reason))
            }
            GdbStubStateMachine::Disconnected(_) => break,
        };
        session = match next {
            Ok(s) => s,
            Err(e) => {
                crate::talk::note(&format!("gdb: {e}; the replay goes on alone"));
                break;
            }
        };
    }
    Ok(target.leave())
}

/// gdb's number of a signal.
fn signal(linux: u32) -> Signal {
    match linux as i32 {
        libc::SIGBUS => Signal::SIGBUS,
        libc::SIGUSR1 => Signal::SIGUSR1,
        libc::SIGUSR2 => Signal::SIGUSR2,
        libc::SIGCHLD => Signal::SIGCHLD,
        libc::SIGCONT => Signal::SIGCONT,
        libc::SIGSTOP => Signal::SIGSTOP,
        libc::SIGTSTP => Signal::SIGTSTP,
        libc::SIGURG => Signal::SIGURG,
        libc::SIGIO => Signal::SIGIO,
        libc::SIGPWR => Signal::SIGPWR,
        libc::SIGSYS => Signal::SIGSYS,
        libc::SIGSTKFLT => Signal::SIGTRAP,
        // The others below SIGTTIN are numbered alike.
        n => Signal(n as u8),
    }
}

impl Target {
    fn wanted(&self) -> Wanted {
        Wanted {
            breaks: self.breaks.iter().copied().collect(),
            watches: self.watches.clone(),
            quiet: self.printed,
        }
    }

    /// Moves until there is a stop to tell; `None` if gdb says something meanwhile.
    fn go(&mut self, gdb: i32) -> Option<Reason> {
        match self.next.take() {
            Some(Move::Back(step)) => {
                let back = self.back(gdb, step);
                if back.is_none() {
                    self.next = Some(Move::Back(step));
                }
                return back;
            }
            Some(Move::On(step)) => {
                let wanted = self.wanted();
                let sent = self.now.as_ref().map(|n| n.order(&wanted, &Order::Run(step)));
                self.running = matches!(sent, Some(Ok(())));
            }
            None => {}
        }
        let Some(now) = &self.now else {
            return Some(Reason::Exited(crate::run::EXIT_FAILED as u8));
        };
        if self.running && first_has_input(gdb, now.as_raw_fd()) {
            return None;
        }
        Some(self.stopped())
    }

    /// The replay has stopped.
    fn stopped(&mut self) -> Reason {
        self.running = false;
        let told = self.now.as_ref().map(Replay::stop);
        let Some(Ok(stop)) = told else {
            // It has ended by itself, and has said why.
            return Reason::Exited(0);
        };
        self.printed = self.printed.max(stop.outputs);
        let reason = self.reason(&stop);
        self.at = stop;
        reason
    }

    fn reason(&self, stop: &Stop) -> Reason {
        let Some(tid) = Tid::new(stop.tid as usize) else {
            return match stop.why {
                Why::Ended(status) => match status & 0x7f {
                    0 => Reason::Exited((status >> 8) as u8),
                    n => Reason::Terminated(signal(n as u32)),
                },
                _ => Reason::Signal(Signal::SIGINT),
            };
        };
        match stop.why {
            Why::Break => Reason::SwBreak(tid),
            Why::Watch(addr) => Reason::Watch {
                tid,
                kind: WatchKind::Write,
                addr,
            },
            Why::Signal(n) => Reason::SignalWithThread {
                tid,
                signal: signal(n),
            },
            Why::Pause => Reason::SignalWithThread {
                tid,
                signal: Signal::SIGINT,
            },
            Why::End => Reason::ReplayLog {
                tid: Some(tid),
                pos: ReplayLogPosition::End,
            },
            _ => Reason::SignalWithThread {
                tid,
                signal: Signal::SIGTRAP,
            },
        }
    }

    fn back(&mut self, gdb: i32, step: Option<u64>) -> Option<Reason> {
        let wanted = self.wanted();
        let interrupted = |replay: &Replay| first_has_input(gdb, replay.as_raw_fd());
        let hint = step.filter(|tid| *tid == self.at.tid).and_then(|_| self.hint());
        match self
            .plan
            .back(&self.at.place, (step, hint), &wanted, &interrupted)
        {
            Ok(Back::Interrupted) => None,
            Ok(Back::Found(replay, stop)) => {
                let reason = self.reason(&stop);
                (self.now, self.at) = (Some(replay), stop);
                Some(reason)
            }
            Ok(Back::Begin(replay, stop)) => {
                let tid = Tid::new(stop.tid as usize);
                (self.now, self.at) = (Some(replay), stop);
                Some(Reason::ReplayLog {
                    tid,
                    pos: ReplayLogPosition::Begin,
                })
            }
            Err(e) => {
                crate::talk::note(&format!("gdb: going back: {e}"));
                Some(Reason::Signal(Signal::SIGINT))
            }
        }
    }

    /// An instruction that was executed shortly before this point: the system call that the thread comes back from, or the
    /// call of the function whose first instruction this is. It is only where a search begins: a wrong one that is never
    /// executed costs time, and one that is no instruction of the program's is not named.
    fn hint(&self) -> Option<u64> {
        const SYSCALL: [u8; 2] = [0x0f, 0x05];
        const CALL: u8 = 0xe8;
        let place = &self.at.place;
        if place.legs.is_empty() || place.legs == [Leg::Entry] {
            let before = self.at.pc.checked_sub(2)?;
            return (self.memory(before, 2) == SYSCALL).then_some(before);
        }
        let sp = self.now.as_ref()?.registers(self.at.tid)?.general[ftl_core::context::reg::RSP];
        let back = u64::from_le_bytes(self.memory(sp, 8).try_into().ok()?);
        let call = back.checked_sub(5)?;
        let bytes = self.memory(call, 5);
        if bytes.first() != Some(&CALL) {
            return None;
        }
        let offset = i32::from_le_bytes(bytes.get(1..5)?.try_into().ok()?);
        (back.wrapping_add_signed(i64::from(offset)) == self.at.pc).then_some(call)
    }

    /// gdb wants what goes on to stop.
    fn interrupt(&mut self) -> Reason {
        self.next = None;
        if self.running {
            let _ = self.now.as_ref().map(Replay::pause);
            return self.stopped();
        }
        let tid = Tid::new(self.at.tid as usize);
        tid.map_or(Reason::Signal(Signal::SIGINT), |tid| Reason::SignalWithThread {
            tid,
            signal: Signal::SIGINT,
        })
    }

    /// gdb has gone: the replay goes on alone. Its exit code.
    fn leave(&mut self) -> i32 {
        let Some(now) = self.now.take() else {
            return crate::run::EXIT_FAILED;
        };
        let last = Wanted {
            quiet: self.printed,
            ..Wanted::default()
        };
        if self.running {
            let _ = now.pause();
            let _ = now.stop();
        }
        // One that has ended takes no order.
        let _ = now.order(&last, &Order::Free);
        now.wait()
    }
}

/// The kernel's numbers of the general registers in gdb's order.
const ORDER: [usize; 16] = {
    use ftl_core::context::reg::*;
    [
        RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8, R9, R10, R11, R12, R13, R14, R15,
    ]
};

impl gdbstub::target::Target for Target {
    type Arch = X86_64_SSE;
    type Error = &'static str;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }
    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }
    fn support_auxv(&mut self) -> Option<AuxvOps<'_, Self>> {
        Some(self)
    }
    fn support_exec_file(&mut self) -> Option<ExecFileOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Target {
    fn read_registers(&mut self, regs: &mut X86_64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let now = self.now.as_ref().ok_or(TargetError::NonFatal)?;
        let from = now.registers(tid.get() as u64).ok_or(TargetError::NonFatal)?;
        for (to, n) in regs.regs.iter_mut().zip(ORDER) {
            *to = from.general[n];
        }
        regs.rip = from.rip;
        regs.eflags = from.flags as u32;
        regs.segments.cs = 0x33;
        regs.segments.ss = 0x2b;
        regs.xmm = from
            .xmm
            .map(|[low, high]| u128::from(low) | u128::from(high) << 64);
        regs.mxcsr = from.mxcsr;
        Ok(())
    }

    /// Not while a log is replayed.
    fn write_registers(&mut self, _: &X86_64CoreRegs, _: Tid) -> TargetResult<(), Self> {
        Err(TargetError::NonFatal)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], _: Tid) -> TargetResult<usize, Self> {
        let bytes = self.memory(start, data.len() as u64);
        let n = bytes.len().min(data.len());
        data[..n].copy_from_slice(&bytes[..n]);
        match n {
            0 => Err(TargetError::NonFatal),
            n => Ok(n),
        }
    }

    /// Not while a log is replayed.
    fn write_addrs(&mut self, _: u64, _: &[u8], _: Tid) -> TargetResult<(), Self> {
        Err(TargetError::NonFatal)
    }

    fn list_active_threads(&mut self, each: &mut dyn FnMut(Tid)) -> Result<(), Self::Error> {
        let mut all = self.now.as_ref().map(Replay::threads).unwrap_or_default();
        // gdb names no thread when it steps back: the first of the list is meant.
        let stopped = self.at.tid;
        all.sort_by_key(|t| *t != stopped);
        all.into_iter()
            .filter_map(|t| Tid::new(t as usize))
            .for_each(each);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }
    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl Target {
    /// What the stopped replay says; nothing if it has ended.
    fn ask(&self, order: &Order) -> Vec<u8> {
        let told = self.now.as_ref().map(|n| n.ask(order));
        told.and_then(Result::ok).unwrap_or_default()
    }

    fn memory(&self, start: u64, len: u64) -> Vec<u8> {
        self.ask(&Order::Memory(start, len))
    }
}

/// The part of `all` from `offset`.
fn part(all: &[u8], offset: u64, length: usize, buf: &mut [u8]) -> usize {
    let rest = all.get(offset as usize..).unwrap_or(&[]);
    let n = rest.len().min(length).min(buf.len());
    buf[..n].copy_from_slice(&rest[..n]);
    n
}

impl MultiThreadResume for Target {
    fn resume(&mut self) -> Result<(), Self::Error> {
        self.next = Some(Move::On(self.step));
        Ok(())
    }
    fn clear_resume_actions(&mut self) -> Result<(), Self::Error> {
        self.step = None;
        Ok(())
    }
    /// Signals come from the log, not from gdb.
    fn set_resume_action_continue(&mut self, _: Tid, _: Option<Signal>) -> Result<(), Self::Error> {
        Ok(())
    }
    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }
    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
    fn support_reverse_cont(&mut self) -> Option<ReverseContOps<'_, Tid, Self>> {
        Some(self)
    }
    fn support_reverse_step(&mut self) -> Option<ReverseStepOps<'_, Tid, Self>> {
        Some(self)
    }
}

impl ReverseCont<Tid> for Target {
    fn reverse_cont(&mut self) -> Result<(), Self::Error> {
        self.next = Some(Move::Back(None));
        Ok(())
    }
}

impl ReverseStep<Tid> for Target {
    fn reverse_step(&mut self, tid: Tid) -> Result<(), Self::Error> {
        self.next = Some(Move::Back(Some(tid.get() as u64)));
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Target {
    /// Between two entries one thread runs anyway; at entries the recorded order holds, whatever gdb wants.
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl MultiThreadSingleStep for Target {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Self::Error> {
        self.step = Some(tid.get() as u64);
        Ok(())
    }
}

impl Breakpoints for Target {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }
    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Target {
    fn add_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        let there = self.memory(addr, 1).len() == 1;
        if there {
            self.breaks.insert(addr);
        }
        Ok(there)
    }
    fn remove_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.breaks.remove(&addr))
    }
}

impl HwWatchpoint for Target {
    /// Changes only: a read leaves no trace in memory.
    fn add_hw_watchpoint(&mut self, addr: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        let good = kind == WatchKind::Write && len <= WATCHED && self.memory(addr, len).len() as u64 == len;
        if good {
            self.watches.push((addr, len));
        }
        Ok(good)
    }
    fn remove_hw_watchpoint(&mut self, addr: u64, len: u64, _: WatchKind) -> TargetResult<bool, Self> {
        let found = self.watches.iter().position(|w| *w == (addr, len));
        Ok(found.map(|i| self.watches.remove(i)).is_some())
    }
}

impl Auxv for Target {
    fn get_auxv(&self, offset: u64, length: usize, buf: &mut [u8]) -> TargetResult<usize, Self> {
        Ok(part(&self.ask(&Order::Auxv), offset, length, buf))
    }
}

impl ExecFile for Target {
    fn get_exec_file(
        &self,
        _: Option<gdbstub::common::Pid>,
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        Ok(part(&self.ask(&Order::Exe), offset, length, buf))
    }
}

impl ThreadExtraInfo for Target {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, Self::Error> {
        let all = self.ask(&Order::About(tid.get() as u64));
        Ok(part(&all, 0, buf.len(), buf))
    }
}
