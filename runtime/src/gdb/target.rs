//! What gdb sees: threads, registers and memory of the image's first process.

use crate::entry;
use crate::vcpu;
use ftl_abi::kernel::Kernel;
use ftl_abi::task::{Process, Task};
use ftl_core::context::{Context, XSAVE_MXCSR, XSAVE_XMM, reg};
use ftl_core::layout::is_guest_range;
use gdbstub::common::Signal;
pub use gdbstub::common::Tid;
use gdbstub::target::ext::auxv::{Auxv, AuxvOps};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
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
use std::rc::Rc;

/// Memory whose changes gdb wants to see, and what it held.
pub struct Watch {
    addr: u64,
    kind: WatchKind,
    was: Vec<u8>,
}

/// What gdb has asked for.
#[derive(Default)]
pub struct Target {
    /// Program addresses of breakpoints.
    pub breaks: BTreeSet<u64>,
    /// Watchpoints.
    pub watches: Vec<Watch>,
    /// Thread that makes one step.
    pub step: Option<Tid>,
}

/// gdb's name of a thread is the guest's.
pub fn thread_id(task: &Task) -> Option<Tid> {
    Tid::new(task.tid.0 as usize)
}

/// Reads guest memory of the current space; how much could be read.
pub fn read_guest(addr: u64, out: &mut [u8]) -> usize {
    let len = out.len() as u64;
    if !is_guest_range(addr, len) {
        return 0;
    }
    // SAFETY: guest memory by the check; what is not mapped ends at the copy's fix-up.
    let left = unsafe { entry::ftl_copy(out.as_mut_ptr() as u64, addr, len) };
    (len - left) as usize
}

fn kernel() -> &'static Kernel {
    // SAFETY: the stub runs in a guest process, whose machine is set before.
    unsafe { (*vcpu::get().machine).kernel }
}

fn process() -> Option<Rc<Process>> {
    let k = kernel();
    let procs = k.procs.borrow();
    procs.get(&k.first.get()?).cloned()
}

fn task(tid: Tid) -> Option<Rc<Task>> {
    let p = process()?;
    let threads = p.threads.borrow();
    threads
        .iter()
        .find(|(t, _)| t.0 as usize == tid.get())
        .map(|(_, t)| t.clone())
}

impl Target {
    /// A watched value that is not what it was.
    pub fn changed(&mut self) -> Option<(u64, WatchKind)> {
        let mut found = None;
        for w in &mut self.watches {
            let mut now = vec![0; w.was.len()];
            if read_guest(w.addr, &mut now) == now.len() && now != w.was {
                w.was = now;
                found = found.or(Some((w.addr, w.kind)));
            }
        }
        found
    }

    /// gdb has gone.
    pub fn detach(&mut self) {
        *self = Target::default();
    }
}

/// gdb's order of the general registers.
const ORDER: [usize; 16] = [
    reg::RAX,
    reg::RBX,
    reg::RCX,
    reg::RDX,
    reg::RSI,
    reg::RDI,
    reg::RBP,
    reg::RSP,
    reg::R8,
    reg::R9,
    reg::R10,
    reg::R11,
    reg::R12,
    reg::R13,
    reg::R14,
    reg::R15,
];

fn registers(ctx: &Context, rip: u64, out: &mut X86_64CoreRegs) {
    for (to, from) in out.regs.iter_mut().zip(ORDER) {
        *to = ctx.regs[from];
    }
    out.rip = rip;
    out.eflags = ctx.rflags as u32;
    out.segments.cs = 0x33;
    out.segments.ss = 0x2b;
    out.xmm = ctx.xmm;
    if ctx.xstate_valid != 0 {
        let area = ctx.xstate_bytes();
        for (i, to) in out.xmm.iter_mut().enumerate() {
            let at = XSAVE_XMM + i * 16;
            if let Some(b) = area.get(at..at + 16) {
                *to = u128::from_le_bytes(std::array::from_fn(|k| b[k]));
            }
        }
        if let Some(b) = area.get(XSAVE_MXCSR..XSAVE_MXCSR + 4) {
            out.mxcsr = u32::from_le_bytes(std::array::from_fn(|k| b[k]));
        }
    }
}

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
        let task = task(tid).ok_or(TargetError::NonFatal)?;
        let ctx = task.ctx.borrow();
        let rip = task.mm().patches.borrow().to_program(ctx.rip);
        registers(&ctx, rip, regs);
        Ok(())
    }

    /// Not while a log is replayed.
    fn write_registers(&mut self, _: &X86_64CoreRegs, _: Tid) -> TargetResult<(), Self> {
        Err(TargetError::NonFatal)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let n = read_guest(start, data);
        if n == 0 {
            return Err(TargetError::NonFatal);
        }
        // Calls and special instructions are shown as the program has them.
        if let Some(task) = task(tid) {
            let mm = task.mm();
            let patches = mm.patches.borrow();
            patches.unpatch_copy(start, &mut data[..n]);
            for (at, (_, bytes)) in patches.specials.range(start.saturating_sub(16)..start + n as u64) {
                for (i, b) in bytes.iter().enumerate() {
                    let offset = (at + i as u64).checked_sub(start);
                    if let Some(slot) = offset.and_then(|o| data[..n].get_mut(o as usize)) {
                        *slot = *b;
                    }
                }
            }
        }
        Ok(n)
    }

    /// Not while a log is replayed.
    fn write_addrs(&mut self, _: u64, _: &[u8], _: Tid) -> TargetResult<(), Self> {
        Err(TargetError::NonFatal)
    }

    fn list_active_threads(&mut self, each: &mut dyn FnMut(Tid)) -> Result<(), Self::Error> {
        if let Some(p) = process() {
            p.threads
                .borrow()
                .values()
                .filter_map(|t| thread_id(t))
                .for_each(each);
        }
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }
    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadResume for Target {
    fn resume(&mut self) -> Result<(), Self::Error> {
        // What gdb has just seen is not a change.
        self.changed();
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
}

impl MultiThreadSchedulerLocking for Target {
    /// Between two entries one thread runs anyway; at entries the recorded order holds, whatever gdb wants.
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl MultiThreadSingleStep for Target {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Self::Error> {
        self.step = Some(tid);
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
        let there = read_guest(addr, &mut [0]) == 1;
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
        let mut was = vec![0; len.min(4096) as usize];
        if kind != WatchKind::Write || read_guest(addr, &mut was) != len as usize {
            return Ok(false);
        }
        self.watches.push(Watch { addr, kind, was });
        Ok(true)
    }
    fn remove_hw_watchpoint(&mut self, addr: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        let before = self.watches.len();
        self.watches
            .retain(|w| (w.addr, w.was.len() as u64, w.kind) != (addr, len, kind));
        Ok(self.watches.len() < before)
    }
}

/// The part of `all` from `offset`.
fn part(all: &[u8], offset: u64, length: usize, buf: &mut [u8]) -> usize {
    let rest = all.get(offset as usize..).unwrap_or(&[]);
    let n = rest.len().min(length).min(buf.len());
    buf[..n].copy_from_slice(&rest[..n]);
    n
}

impl Auxv for Target {
    fn get_auxv(&self, offset: u64, length: usize, buf: &mut [u8]) -> TargetResult<usize, Self> {
        let p = process().ok_or(TargetError::NonFatal)?;
        let all = p.auxv.borrow();
        Ok(part(&all, offset, length, buf))
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
        let p = process().ok_or(TargetError::NonFatal)?;
        let all = p.exe.borrow();
        Ok(part(&all, offset, length, buf))
    }
}

impl ThreadExtraInfo for Target {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, Self::Error> {
        let Some(task) = task(tid) else { return Ok(0) };
        let name = task.name.get();
        let len = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        let mut text = String::from_utf8_lossy(&name[..len]).into_owned();
        if let Some(call) = task.call.get() {
            let call = ftl_abi::table::row(call.nr).map_or("a call", |r| r.name);
            text.push_str(&format!(", waits in {call}"));
        }
        Ok(part(text.as_bytes(), 0, text.len(), buf))
    }
}
