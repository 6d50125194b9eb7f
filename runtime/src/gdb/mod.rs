//! `ftvm replay LOG --gdb PORT`: gdb looks into a replay.
//!
//! The stub runs inside the replayed image's process, at kernel exits only (I4: there every thread is data), and
//! follows the image's first process. Nothing that it does is an entry or an event: the replay is the same with it.
//! * Breakpoints are in the text only while guest code runs: they are put in on the way out and taken out on the
//!   way in, so that forks, hashes and system calls see the text as it is.
//! * Steps set the trap flag. A step over a call ends when the thread comes back from the kernel. What belongs to a
//!   patched call site is stepped through unseen; gdb is shown the program's own bytes and addresses.
//! * With watchpoints every instruction is stepped, and values are compared, also after calls.
//! * Memory and registers are read only: a changed image would not be the recorded one.
//!
//! Reverse execution needs snapshots: replay from the nearest one before. Nothing here stands in its way: a stop is
//! named by (entry, instructions since), and all state of the stub is in [`Gdb`].

mod target;

use crate::alloc::{self, Side};
use crate::run::Machine;
use crate::sys::{self, sys};
use crate::vcpu::Vcpu;
use ftl_abi::kernel::Trap;
use ftl_abi::task::{Exit, Task};
use ftl_core::context::{Context, Resume, reg};
use ftl_core::platform::Space;
use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{GdbStubBuilder, MultiThreadStopReason};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use target::Target;

/// The trap flag.
const TF: u64 = 1 << 8;
/// How often a running guest is interrupted to look for a Ctrl-C of gdb's, ns.
pub const LOOK_NS: u64 = 20_000_000;

/// Port that was asked for, plus one; 0 if none was.
static PORT: AtomicU32 = AtomicU32::new(0);

/// A replay in this process is to be looked at: before it boots.
pub fn request(port: u16) {
    PORT.store(u32::from(port) + 1, Ordering::Relaxed);
}

/// Why the kernel was entered, as far as the stub cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Arrival {
    /// The image's own doing.
    Kernel,
    /// One of our breakpoints.
    Break,
    /// An instruction was stepped.
    Step,
    /// A tick: nothing has happened.
    Tick,
}

type Session = GdbStubStateMachine<'static, Target, Conn>;

/// The stub. In the host arena: it goes along with the token.
pub struct Gdb {
    session: Option<Session>,
    target: Target,
    arrival: Arrival,
    /// Breakpoints in memory now: address and the byte that was there.
    inserted: Vec<(u64, u8)>,
    begun: bool,
}

/// The connection, with what is to be sent gathered.
pub struct Conn {
    stream: TcpStream,
    out: Vec<u8>,
}

impl Connection for Conn {
    type Error = std::io::Error;
    fn write(&mut self, byte: u8) -> Result<(), Self::Error> {
        self.out.push(byte);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), Self::Error> {
        std::io::Write::write_all(&mut self.stream, &self.out)?;
        self.out.clear();
        Ok(())
    }
}

impl Conn {
    fn read(&mut self) -> Option<u8> {
        let mut byte = [0];
        loop {
            match std::io::Read::read(&mut self.stream, &mut byte) {
                Ok(1) => return Some(byte[0]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                _ => return None,
            }
        }
    }

    fn has_input(&self) -> bool {
        let mut byte = 0u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: one byte, valid for writes.
        unsafe {
            sys!(
                libc::SYS_recvfrom,
                self.stream.as_raw_fd(),
                &raw mut byte,
                1,
                flags,
                0,
                0
            )
        }
        .is_ok()
    }
}

/// See [`request`].
pub fn requested() -> bool {
    PORT.load(Ordering::Relaxed) != 0
}

/// Waits for gdb if it is to see the image from where it begins.
pub fn at_once(mode: &crate::door::Mode) -> Result<Option<Box<Gdb>>, String> {
    match mode {
        crate::door::Mode::Replay(r) if r.stop.is_none() => open(),
        _ => Ok(None),
    }
}

/// gdb looks at an image that has just entered the kernel.
pub fn begin(m: &mut Machine) {
    if let Some(g) = m.gdb.as_mut() {
        g.begun = true;
        g.serve(None);
    }
}

/// Waits for gdb if it was asked for. Called once.
pub fn open() -> Result<Option<Box<Gdb>>, String> {
    let port = match PORT.load(Ordering::Relaxed) {
        0 => return Ok(None),
        p => (p - 1) as u16,
    };
    let _side = alloc::enter(Side::Host);
    let bad = |e: std::io::Error| format!("--gdb {port}: {e}");
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(bad)?;
    let at = listener.local_addr().map_err(bad)?;
    sys::write_all(
        2,
        format!("ftvm: waiting for gdb: target remote {at}\n").as_bytes(),
    );
    let (stream, _) = listener.accept().map_err(bad)?;
    let _ = stream.set_nodelay(true);
    let mut target = Target::default();
    let conn = Conn {
        stream,
        out: Vec::new(),
    };
    let stub = GdbStubBuilder::new(conn)
        .build()
        .map_err(|e| format!("--gdb {port}: {e}"))?;
    let session = stub
        .run_state_machine(&mut target)
        .map_err(|e| format!("--gdb {port}: {e}"))?;
    Ok(Some(Box::new(Gdb {
        session: Some(session),
        target,
        arrival: Arrival::Kernel,
        inserted: Vec::new(),
        begun: false,
    })))
}

/// The kernel was entered: the text is made whole again.
pub fn entered(v: &mut Vcpu, m: &mut Machine) {
    let _side = alloc::enter(Side::Host);
    let Some(g) = m.gdb.as_mut() else { return };
    g.arrival = Arrival::Kernel;
    for (at, byte) in g.inserted.drain(..) {
        let _ = m.plat.live.patch_text(at, &[byte]);
    }
    if !v.ctx.is_null() {
        // SAFETY: the context that has just entered.
        unsafe { (*v.ctx).rflags &= !TF };
    }
}

/// A tick of the watchdog: only time to look for gdb.
pub fn ticked(m: &mut Machine) {
    if let Some(g) = m.gdb.as_mut() {
        g.arrival = Arrival::Tick;
    }
}

/// True if this trap is the stub's doing and not the guest's.
pub fn owns(v: &mut Vcpu, m: &mut Machine, trap: &Trap) -> bool {
    const TRAP_TRACE: i32 = 2;
    let Some(task) = followed(m) else { return false };
    let Some(g) = m.gdb.as_mut() else { return false };
    if trap.signo != libc::SIGTRAP as u32 {
        return false;
    }
    // SAFETY: the context that has just entered.
    let ctx = unsafe { &mut *v.ctx };
    if trap.code == TRAP_TRACE {
        g.arrival = Arrival::Step;
        return true;
    }
    let at = ctx.rip.wrapping_sub(1);
    let mm = task.mm();
    let program = mm.patches.borrow().to_program(at);
    if g.target.breaks.contains(&program) {
        ctx.rip = at;
        g.arrival = Arrival::Break;
        return true;
    }
    false
}

/// An exception of the guest's own has become a signal: gdb sees it before the guest does.
pub fn signalled(m: &mut Machine, trap: &Trap) {
    let Some(task) = followed(m) else { return };
    if !task.signal_pending() {
        return;
    }
    let _side = alloc::enter(Side::Host);
    let signal = match trap.signo as i32 {
        libc::SIGSEGV => Signal::SIGSEGV,
        libc::SIGBUS => Signal::SIGBUS,
        libc::SIGFPE => Signal::SIGFPE,
        libc::SIGILL => Signal::SIGILL,
        _ => Signal::SIGTRAP,
    };
    if let (Some(g), Some(tid)) = (m.gdb.as_mut(), target::thread_id(&task)) {
        g.target.step = None;
        g.serve(Some(MultiThreadStopReason::SignalWithThread { tid, signal }));
    }
}

/// The current task, if it is of the process that is followed.
fn followed(m: &Machine) -> Option<Rc<Task>> {
    let task = m.kernel.current.borrow().clone()?;
    (Some(task.process().pid) == m.kernel.first.get()).then_some(task)
}

/// Guest code is about to run from `ctx`: stops if there is a reason, and arranges for the next one.
pub fn leaving(m: &mut Machine, ctx: *mut Context) {
    let Some(task) = followed(m) else { return };
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.gdb.take() else { return };
    // SAFETY: the kernel keeps the current task, and with it the context, alive; nobody else looks at it now.
    let ctx = unsafe { &mut *ctx };
    let mm = task.mm();
    let (program, in_stub) = {
        let p = mm.patches.borrow();
        (p.to_program(ctx.rip), p.is_stub(ctx.rip))
    };
    let tid = target::thread_id(&task);
    let reason = tid.and_then(|tid| g.reason(tid, program, in_stub));
    // The stub reads this thread's registers from its context.
    if !g.begun {
        g.begun = true;
        g.serve(None);
    } else if reason.is_some() {
        g.serve(reason);
    } else if g.has_input() {
        g.look();
    }
    let stepping = tid.is_some_and(|t| g.target.step == Some(t));
    if stepping
        || !g.target.watches.is_empty()
        || g.target.breaks.contains(&program)
        || in_stub && g.arrival == Arrival::Step
    {
        if ctx.resume == Resume::Call {
            ctx.regs[reg::RCX] = ctx.rip;
            ctx.regs[reg::R11] = ctx.rflags;
            ctx.resume = Resume::Full;
        }
        ctx.rflags |= TF;
    } else {
        let patches = mm.patches.borrow();
        for at in &g.target.breaks {
            // Bytes that a jump to a stub covers have their place in the stub.
            let at = patches.to_stub(*at);
            let mut byte = [0];
            if target::read_guest(at, &mut byte) == 1 && m.plat.live.patch_text(at, &[0xcc]).is_ok() {
                g.inserted.push((at, byte[0]));
            }
        }
    }
    m.gdb = Some(g);
}

/// The image has ended, as recorded.
pub fn ended(m: &mut Machine, exit: Exit) {
    let _side = alloc::enter(Side::Host);
    let Some(g) = m.gdb.as_mut() else { return };
    let status = exit.status();
    let reason = match status & 0x7f {
        0 => MultiThreadStopReason::Exited((status >> 8) as u8),
        n => MultiThreadStopReason::Terminated(Signal(n as u8)),
    };
    g.serve(Some(reason));
}

impl Gdb {
    fn reason(
        &mut self,
        tid: target::Tid,
        program: u64,
        in_stub: bool,
    ) -> Option<MultiThreadStopReason<u64>> {
        if self.arrival == Arrival::Tick || !self.begun || in_stub {
            return None;
        }
        if let Some((addr, kind)) = self.target.changed() {
            return Some(MultiThreadStopReason::Watch { tid, kind, addr });
        }
        if self.target.breaks.contains(&program) {
            return Some(MultiThreadStopReason::SwBreak(tid));
        }
        // A thread that comes back from a call has made its step.
        (self.target.step == Some(tid)).then_some(MultiThreadStopReason::SignalWithThread {
            tid,
            signal: Signal::SIGTRAP,
        })
    }

    fn has_input(&mut self) -> bool {
        match &mut self.session {
            Some(GdbStubStateMachine::Running(s)) => s.borrow_conn().has_input(),
            _ => false,
        }
    }

    /// Takes what gdb says to a running guest: a Ctrl-C.
    fn look(&mut self) {
        if let Some(GdbStubStateMachine::Running(mut s)) = self.session.take() {
            self.session = match s.borrow_conn().read() {
                Some(byte) => s.incoming_data(&mut self.target, byte).ok(),
                None => None,
            };
        }
        self.serve(None);
    }

    /// Reports a stop and answers gdb until the guest is to run. Without gdb it runs on.
    fn serve(&mut self, mut reason: Option<MultiThreadStopReason<u64>>) {
        while let Some(session) = self.session.take() {
            let next = match session {
                GdbStubStateMachine::Running(s) => match reason.take() {
                    Some(r) => {
                        self.target.step = None;
                        s.report_stop(&mut self.target, r)
                    }
                    None => {
                        self.session = Some(GdbStubStateMachine::Running(s));
                        return;
                    }
                },
                GdbStubStateMachine::Idle(mut s) => match s.borrow_conn().read() {
                    Some(byte) => s.incoming_data(&mut self.target, byte),
                    None => break,
                },
                GdbStubStateMachine::CtrlCInterrupt(s) => {
                    let stop = MultiThreadStopReason::Signal(Signal::SIGINT);
                    s.interrupt_handled(&mut self.target, Some(stop))
                }
                GdbStubStateMachine::Disconnected(_) => break,
            };
            self.session = match next {
                Ok(s) => Some(s),
                Err(e) => {
                    sys::write_all(
                        2,
                        format!("ftvm: gdb: {e}; the replay goes on alone\n").as_bytes(),
                    );
                    None
                }
            };
        }
        self.target.detach();
    }
}
