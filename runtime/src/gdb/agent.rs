//! Inside a replayed image: goes where the gdb server says, stops there, and shows what is there.
//!
//! It runs inside the image's process, at kernel exits only (I4: there every thread is data), and follows the image's
//! first process. Nothing that it does is an entry or an event: the replay is the same with it.
//! * Breakpoints are in the text only while guest code runs: they are put in on the way out and taken out on the
//!   way in, so that forks, hashes and system calls see the text as it is. A call that looks at no text leaves them there
//!   ([`text::looks_elsewhere`]): each would cost two calls of the host's otherwise, more than most system calls of the image.
//! * Steps set the trap flag. A step over a call ends when the thread comes back from the kernel. What belongs to a
//!   patched call site is stepped through unseen; gdb is shown the program's own bytes and addresses.
//! * With watchpoints every instruction is stepped, and values are compared, also after calls. A search for what has changed
//!   them is told between which entries their pages were written, and steps only there.

mod seek;

use super::look;
use super::place::{Leg, Place, Progress, Track, Way};
use super::text;
use super::wire::{self, Order, Stop, Wanted, Why};
use crate::alloc::{self, Side};
use crate::door::Mode;
use crate::door::replay::GOES_ON;
use crate::run::Machine;
use crate::sys::sys;
use crate::vcpu::Vcpu;
use ftl_abi::kernel::Trap;
use ftl_abi::task::{Exit, Task};
use ftl_core::context::{Context, Resume, reg};
use ftl_core::log::Wire;
use seek::{Search, Trace, Until, until};
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The trap flag.
const TF: u64 = 1 << 8;
/// How often a running guest is interrupted to look for a Ctrl-C of gdb's, ns.
pub const LOOK_NS: u64 = 20_000_000;
/// Departures between two looks for it while the guest makes calls.
const LOOK_DEPARTURES: u64 = 64;

/// Descriptor of the server's, or -1.
static SERVER: AtomicI32 = AtomicI32::new(-1);

/// A gdb server started this replay and is at the other end of `fd`: before it boots.
pub fn request(fd: i32) {
    SERVER.store(fd, Ordering::Relaxed);
}

/// Why the kernel was entered, as far as this code cares.
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

/// Memory whose changes are to be seen, and what it held.
struct Watch {
    addr: u64,
    was: Vec<u8>,
}

/// What the replay does.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Doing {
    /// It goes to the first point that can be seen.
    First,
    /// It goes to where the command line says.
    Stop,
    /// It goes on; this thread makes a step.
    Run(Option<u64>),
    /// It goes to a place.
    Goto(Way),
    /// It searches.
    Search(Search),
    /// It looks where a search must step.
    Trace(Trace),
}

/// Where guest code is about to go on.
struct Point {
    tid: u64,
    /// Address as the program knows it.
    at: u64,
    in_stub: bool,
}

/// The agent. In the host arena: it goes along with the token.
pub struct Agent {
    server: UnixStream,
    arrival: Arrival,
    /// Breakpoints in memory now: address and the byte that was there.
    inserted: Vec<(u64, u8)>,
    /// What these were put in for. `None`: they are not those that are wanted now.
    inserted_for: Option<[Option<u64>; 2]>,
    /// /proc/self/mem of the followed process, once a breakpoint was put in.
    text: Option<OwnedFd>,
    track: Track,
    doing: Doing,
    breaks: BTreeSet<u64>,
    watches: Vec<Watch>,
    quiet: u64,
    /// Guest code that runs now is stepped for its own sake.
    walking: bool,
    /// A pause was ordered.
    pausing: bool,
    /// The log has nothing more.
    over: bool,
    /// The point at which it ended has not been left.
    visits_end: bool,
    /// The program was stopped at the entry that is being served.
    at_entry: bool,
    /// The server has left the replay to itself.
    free: bool,
}

/// Waits for the server's first order, if there is one.
pub fn open(mode: &mut Mode) -> Option<Box<Agent>> {
    let fd = SERVER.load(Ordering::Relaxed);
    if fd < 0 {
        return None;
    }
    let _side = alloc::enter(Side::Host);
    // SAFETY: the server gave us this descriptor, and nobody else has it.
    let server = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let mut agent = Box::new(Agent {
        server,
        arrival: Arrival::Kernel,
        inserted: Vec::new(),
        inserted_for: None,
        text: None,
        track: Track::default(),
        doing: Doing::First,
        breaks: BTreeSet::new(),
        watches: Vec::new(),
        quiet: 0,
        walking: false,
        pausing: false,
        over: false,
        visits_end: false,
        at_entry: false,
        free: false,
    });
    while !agent.obey() {}
    agent.hush(mode);
    Some(agent)
}

/// The replay has come to where the command line says: with `entered`, the program is about to make an entry.
pub fn reached(m: &mut Machine, entered: bool) {
    let _side = alloc::enter(Side::Host);
    let task = followed(m);
    let Some(mut g) = m.gdb.take() else { return };
    g.doing = Doing::First;
    if let (true, Some(task)) = (entered, task) {
        g.at_entry = true;
        let place = g.track.entry();
        g.stop(m, Why::There, &task, place);
    }
    back(m, g);
}

/// The kernel was entered: the text is made whole again. `patched`: by a call that needed no trap, which leads to a search for
/// a place to patch.
pub fn entered(v: &mut Vcpu, m: &mut Machine, patched: bool) {
    let _side = alloc::enter(Side::Host);
    let Some(g) = m.gdb.as_mut() else { return };
    g.arrival = Arrival::Kernel;
    g.at_entry = false;
    // SAFETY: the context that has just entered, or none.
    let ctx = unsafe { v.ctx.as_ref() };
    let stay = |c: &Context| patched && g.watches.is_empty() && text::looks_elsewhere(c, &g.inserted);
    if !ctx.is_some_and(stay) {
        g.whole();
    }
    if !v.ctx.is_null() {
        // SAFETY: the context that has just entered.
        unsafe { (*v.ctx).rflags &= !TF };
    }
    if matches!(g.doing, Doing::Trace(_)) {
        g.close();
    }
}

/// The kernel does more than to serve a call and go back: other tasks, signals, memory put in place.
pub fn beyond_call(m: &mut Machine) {
    if let Some(g) = m.gdb.as_mut() {
        let _side = alloc::enter(Side::Host);
        g.whole();
    }
}

/// The program has made an entry, in which the kernel has done nothing yet; with `call` it is a system call.
pub fn entering(v: &Vcpu, m: &mut Machine, call: bool) {
    let Some(task) = followed(m) else { return };
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.gdb.take() else { return };
    let done = g.way().is_some_and(|w| w.enters() == Progress::Done);
    // SAFETY: the context that has just entered.
    let nr = unsafe { (*v.ctx).regs[reg::RAX] };
    if done {
        let place = g.track.entry();
        g.there(m, &task, place);
    } else if matches!(g.doing, Doing::Run(_)) && call && !g.at_entry && look::ends(&task, nr) {
        // What it has done last can be looked at, and one can go back from here: behind this there is no memory.
        let place = g.track.entry();
        g.stop(m, Why::End, &task, place);
    }
    back(m, g);
}

/// A tick of the watchdog: only time to look for the server.
pub fn ticked(m: &mut Machine) {
    if let Some(g) = m.gdb.as_mut() {
        g.arrival = Arrival::Tick;
    }
}

/// The server wants something of a guest that computes. Asked by a signal handler: allocates nothing.
pub fn wanted(m: &Machine) -> bool {
    m.gdb.as_ref().is_some_and(|g| g.pausing || g.has_input())
}

/// True if this trap is ours and not the guest's.
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
    if g.stops_at(program) {
        ctx.rip = at;
        g.arrival = Arrival::Break;
        return true;
    }
    false
}

/// The guest's entry may have raised a signal for the thread that made it: gdb sees it before the guest does.
pub fn signalled(m: &mut Machine, trap: Option<&Trap>) {
    let Some(task) = followed(m) else { return };
    let signo = match trap {
        Some(t) if task.signal_pending() => t.signo,
        Some(_) => return,
        None => match look::raised(&task) {
            Some(n) => n,
            None => return,
        },
    };
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.gdb.take() else { return };
    g.track.at(m.kernel.entries.get());
    let place = g.track.place(0);
    let time = g.track.time();
    let why = Why::Signal(signo);
    match g.way().map(|w| w.at(time)) {
        Some(Progress::Done) => g.there(m, &task, place),
        Some(Progress::Lost) => g.stop(m, Why::Lost, &task, place),
        _ => match &mut g.doing {
            Doing::Run(step) => {
                *step = None;
                g.stop(m, why, &task, place);
            }
            // A step back from a handler ends before what raised the signal.
            Doing::Search(s) if s.on && s.step.is_none() => {
                let stop = told(m, why, &task, place);
                s.note(stop);
            }
            _ => {}
        },
    }
    back(m, g);
}

/// The log ends here, between two entries: true if the server is to see that.
pub fn over(agent: &mut Option<Box<Agent>>) -> bool {
    match agent {
        Some(g) => {
            (g.over, g.visits_end) = (true, true);
            true
        }
        None => false,
    }
}

/// The log ends while nothing can run.
pub fn over_idle(v: &Vcpu, m: &mut Machine) {
    let first = m.kernel.first.get();
    let process = first.and_then(|pid| m.kernel.procs.borrow().get(&pid).cloned());
    let Some(process) = process.filter(|p| p.mm.borrow().space == v.space) else {
        return;
    };
    let Some(task) = process.threads.borrow().values().next().cloned() else {
        return;
    };
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.gdb.take() else { return };
    let end = Place::end(m.kernel.entries.get());
    match g.doing {
        Doing::Run(_) => g.stop(m, Why::End, &task, end),
        Doing::Search(_) | Doing::Trace(_) => g.there(m, &task, end),
        _ => {}
    }
    back(m, g);
}

/// The current task, if it is of the process that is followed.
fn followed(m: &Machine) -> Option<Rc<Task>> {
    let task = m.kernel.current.borrow().clone()?;
    (Some(task.process().pid) == m.kernel.first.get()).then_some(task)
}

/// The agent goes on, if it is still wanted.
fn back(m: &mut Machine, g: Box<Agent>) {
    g.hush(&mut m.plat.mode);
    if !g.free {
        m.gdb = Some(g);
    }
}

/// Guest code is about to run from `ctx`: stops if there is a reason, and arranges for the next one.
pub fn leaving(m: &mut Machine, ctx: *mut Context) {
    let _side = alloc::enter(Side::Host);
    let task = followed(m);
    let Some(mut g) = m.gdb.take() else { return };
    if g.arrival == Arrival::Kernel {
        g.track.departs(m.kernel.entries.get());
    }
    match task {
        Some(task) => g.leave(m, &task, ctx),
        None => {
            // Another process' memory is none that gdb could be shown.
            g.visits_end = false;
            let time = g.track.time();
            if g.arrival == Arrival::Kernel && g.way().is_some_and(|w| w.at(time) == Progress::Lost) {
                g.say(&Stop {
                    why: Why::Lost,
                    tid: 0,
                    pc: 0,
                    place: Place::default(),
                    outputs: 0,
                });
            }
        }
    }
    let done = g.over && !g.visits_end;
    back(m, g);
    if done && let Mode::Replay(r) = &mut m.plat.mode {
        r.missing(GOES_ON);
    }
}

/// The image has ended, as recorded.
pub fn ended(m: &mut Machine, exit: Exit) {
    let _side = alloc::enter(Side::Host);
    let Some(mut g) = m.gdb.take() else { return };
    let stop = Stop {
        why: Why::Ended(exit.status()),
        tid: 0,
        pc: 0,
        place: Place::end(m.kernel.entries.get()),
        outputs: outputs(m),
    };
    g.say(&stop);
}

fn outputs(m: &Machine) -> u64 {
    match &m.plat.mode {
        Mode::Replay(r) => r.out.count,
        _ => 0,
    }
}

/// A stop of this thread.
fn told(m: &Machine, why: Why, task: &Task, place: Place) -> Stop {
    let pc = task.mm().patches.borrow().to_program(task.ctx.borrow().rip);
    Stop {
        why,
        tid: u64::from(task.tid.0),
        pc,
        place,
        outputs: outputs(m),
    }
}

impl Agent {
    /// What the server has seen printed is not printed again.
    fn hush(&self, mode: &mut Mode) {
        if let Mode::Replay(r) = mode {
            r.quiet = self.quiet;
        }
    }

    /// Takes the breakpoints out of the text.
    fn whole(&mut self) {
        for (at, byte) in self.inserted.drain(..) {
            text::write(&mut self.text, at, byte);
        }
        self.inserted_for = None;
    }

    /// The place that is gone to.
    fn way(&mut self) -> Option<&mut Way> {
        match &mut self.doing {
            Doing::Goto(w) => Some(w),
            Doing::Search(Search {
                until: Until::Place(w),
                ..
            })
            | Doing::Trace(Trace {
                until: Until::Place(w),
                ..
            }) => Some(w),
            _ => None,
        }
    }

    /// Breakpoints of gdb's count now.
    fn breaks_count(&self) -> bool {
        match &self.doing {
            Doing::Run(_) => true,
            Doing::Search(s) => s.on,
            _ => false,
        }
    }

    /// The address that the way leads to.
    fn way_address(&self) -> Option<u64> {
        match &self.doing {
            Doing::Goto(w) => w.address(),
            Doing::Search(Search {
                until: Until::Place(w),
                ..
            })
            | Doing::Trace(Trace {
                until: Until::Place(w),
                ..
            }) => w.address(),
            _ => None,
        }
    }

    /// The address that the way to a search's first point leads to.
    fn since_address(&self) -> Option<u64> {
        match &self.doing {
            Doing::Search(s) => s.since.as_ref().and_then(Way::address),
            _ => None,
        }
    }

    /// The guest is stopped each time it comes to this address.
    fn stops_at(&self, at: u64) -> bool {
        self.way_address() == Some(at)
            || self.since_address() == Some(at)
            || self.breaks_count() && self.breaks.contains(&at)
    }

    /// Every instruction of this thread's is to be stepped.
    fn walks(&self, point: &Point) -> bool {
        let watching = !self.watches.is_empty();
        match &self.doing {
            Doing::First => point.in_stub,
            Doing::Stop => false,
            Doing::Run(step) => watching || self.over && point.in_stub || *step == Some(point.tid),
            Doing::Goto(w) => w.steps(),
            Doing::Search(s) => {
                let time = self.track.time();
                let to_limit = match &s.until {
                    Until::Place(w) => w.steps(),
                    // To the first point that can be seen.
                    Until::Entries(e) => time.0 >= *e,
                };
                let to_first = s.since.as_ref().is_some_and(Way::steps);
                let may_change = watching && (s.only.is_empty() || s.only.contains(&time));
                to_limit || to_first || s.on && (may_change || s.step == Some(point.tid))
            }
            Doing::Trace(t) => matches!(&t.until, Until::Place(w) if w.steps()),
        }
    }

    fn leave(&mut self, m: &mut Machine, task: &Rc<Task>, ctx: *mut Context) {
        // SAFETY: the kernel keeps the current task, and with it the context, alive; nobody else looks at it now.
        let ctx = unsafe { &mut *ctx };
        let mm = task.mm();
        let point = {
            let p = mm.patches.borrow();
            Point {
                tid: u64::from(task.tid.0),
                at: p.to_program(ctx.rip),
                in_stub: p.is_stub(ctx.rip),
            }
        };
        self.decide(m, task, &point, ctx);
        if self.free {
            self.whole();
            self.visits_end = false;
            return;
        }
        self.walking = self.walks(&point);
        if self.walking || self.stops_at(point.at) || point.in_stub && self.arrival == Arrival::Step {
            if ctx.resume == Resume::Call {
                ctx.regs[reg::RCX] = ctx.rip;
                ctx.regs[reg::R11] = ctx.rflags;
                ctx.resume = Resume::Full;
            }
            ctx.rflags |= TF;
            self.whole();
            return;
        }
        self.track.runs();
        let also = self.way_address();
        let counting = self.breaks_count();
        let since = self.since_address().filter(|a| Some(*a) != also);
        if counting && self.inserted_for == Some([also, since]) {
            return;
        }
        self.whole();
        // A stop, at which gdb may set others, takes all out.
        self.inserted_for = counting.then_some([also, since]);
        let patches = mm.patches.borrow();
        let others = self.breaks.iter().copied();
        let others = others.filter(|b| counting && Some(*b) != also && Some(*b) != since);
        for at in others.chain(also).chain(since) {
            // Bytes that a jump to a stub covers have their place in the stub.
            let at = patches.to_stub(at);
            let mut byte = [0];
            if look::read_guest(at, &mut byte) == 1 && text::write(&mut self.text, at, 0xcc) {
                self.inserted.push((at, byte[0]));
            }
        }
    }

    /// Looks at where the guest is, and stops if there is a reason.
    fn decide(&mut self, m: &mut Machine, task: &Rc<Task>, point: &Point, ctx: &Context) {
        let visible = !point.in_stub && self.arrival != Arrival::Tick;
        if self.arrival == Arrival::Step {
            self.track.stepped(self.walking);
        }
        let came = matches!(self.arrival, Arrival::Step | Arrival::Break);
        if visible && came && self.stops_at(point.at) {
            self.track.meets(point.at);
        }
        let time = self.track.time();
        let arrival = self.arrival;
        let follow = |w: &mut Way| match arrival {
            Arrival::Tick => Progress::On,
            Arrival::Kernel => w.at(time),
            Arrival::Step => match w.stepped() {
                Progress::On if visible => match w.like() {
                    Some(like) if look::is_like(like, ctx, point.at) => w.found(),
                    _ => w.meets(point.at),
                },
                p => p,
            },
            Arrival::Break if visible => w.meets(point.at),
            Arrival::Break => Progress::On,
        };
        if let Doing::Search(s) = &mut self.doing
            && let Some(w) = &mut s.since
        {
            let progress = follow(w);
            if matches!(progress, Progress::Leg | Progress::Done) {
                let legs = w.behind().to_vec();
                s.on |= progress == Progress::Done;
                self.track.named(&legs);
            }
        }
        let progress = self.way().map_or(Progress::On, follow);
        if matches!(progress, Progress::Leg | Progress::Done)
            && let Some(w) = self.way()
        {
            let legs = w.behind().to_vec();
            self.track.named(&legs);
        }
        let place = self.track.place(point.at);
        if progress == Progress::Lost {
            return self.stop(m, Why::Lost, task, place);
        }
        match self.doing {
            Doing::Search(_) => return self.search(m, task, point, (visible, progress, place)),
            Doing::Trace(_) => return self.trace(m, task, progress, place),
            _ => {}
        }
        let why = match &self.doing {
            Doing::First => visible.then_some(Why::There),
            Doing::Goto(_) => (progress == Progress::Done).then_some(Why::There),
            Doing::Run(step) => {
                let step = *step;
                self.look_for_pause();
                if self.free {
                    return;
                }
                self.reason(point, step, visible)
            }
            Doing::Stop | Doing::Search(_) | Doing::Trace(_) => None,
        };
        let Some(why) = why else { return };
        let place = match (why, arrival) {
            (Why::Pause, Arrival::Tick) if !self.walking => Place {
                legs: vec![Leg::Like(
                    look::hash_of(&look::registers_of(ctx, point.at)),
                    crate::door::memory::of_space(),
                )],
                ..place
            },
            _ => place,
        };
        self.stop(m, why, task, place);
    }

    /// Why a run stops here.
    fn reason(&mut self, point: &Point, step: Option<u64>, visible: bool) -> Option<Why> {
        if self.arrival == Arrival::Tick {
            return (self.pausing && !point.in_stub).then_some(Why::Pause);
        }
        if !visible {
            return None;
        }
        if let Some(at) = self.changed() {
            return Some(Why::Watch(at));
        }
        if self.breaks.contains(&point.at) {
            return Some(Why::Break);
        }
        // A thread that comes back from a call has made its step.
        if step == Some(point.tid) {
            return Some(Why::Step);
        }
        if self.over {
            return Some(Why::End);
        }
        let named = self.arrival == Arrival::Kernel || self.walking;
        (self.pausing && named).then_some(Why::Pause)
    }

    /// Tells a stop, and answers until the replay is to go on.
    fn stop(&mut self, m: &mut Machine, why: Why, task: &Rc<Task>, place: Place) {
        self.whole();
        self.pausing = false;
        let at_end = matches!(why, Why::End);
        self.track.named(&place.legs);
        let stop = told(m, why, task, place);
        self.say(&stop);
        self.serve();
        if at_end {
            self.visits_end = false;
        }
    }

    fn say(&mut self, stop: &Stop) {
        if wire::send(&mut self.server, stop).is_err() {
            crate::run::die(crate::run::EXIT_FAILED);
        }
    }

    /// Answers until the replay is to go on.
    fn serve(&mut self) {
        while !self.obey() {}
        // What has been seen is not a change.
        self.changed();
    }

    /// Does what the server says next: true if the replay is to go on.
    fn obey(&mut self) -> bool {
        let Ok(order) = wire::receive::<Order>(&mut self.server) else {
            // The server has gone.
            crate::run::die(crate::run::EXIT_FAILED);
        };
        let mut out = Vec::new();
        let goes_on = matches!(
            order,
            Order::First
                | Order::Stop
                | Order::Run(_)
                | Order::Goto(_)
                | Order::Search { .. }
                | Order::Trace { .. }
                | Order::Free
        );
        match order {
            Order::Want(w) => {
                self.want(w);
                return false;
            }
            Order::First => self.doing = Doing::First,
            Order::Stop => self.doing = Doing::Stop,
            Order::Run(step) => self.doing = Doing::Run(step),
            Order::Goto(place) => self.doing = Doing::Goto(Way::to(place)),
            Order::Trace { from, limit } => {
                self.doing = Doing::Trace(Trace::new(from, until(limit)));
            }
            Order::Search {
                from,
                limit,
                step,
                only,
                since,
            } => {
                let search = Search {
                    step,
                    only: only.into_iter().collect(),
                    since: since.map(Way::to),
                    ..Search::new(from, until(limit))
                };
                self.doing = Doing::Search(search);
            }
            Order::Free => self.free = true,
            // It has stopped already.
            Order::Pause => return false,
            Order::Registers(tid) => match look::registers(tid) {
                Some(r) => {
                    true.put(&mut out);
                    r.put(&mut out);
                }
                None => false.put(&mut out),
            },
            Order::Memory(at, len) => out = look::memory(at, len),
            Order::Threads => wire::put_numbers(&look::threads(), &mut out),
            Order::Auxv => out = look::auxv(),
            Order::Exe => out = look::exe(),
            Order::About(tid) => out = look::about(tid),
        }
        if goes_on {
            return true;
        }
        if wire::send(&mut self.server, &out).is_err() {
            crate::run::die(crate::run::EXIT_FAILED);
        }
        false
    }

    fn want(&mut self, wanted: Wanted) {
        self.breaks = wanted.breaks.into_iter().collect();
        self.watches = wanted
            .watches
            .into_iter()
            .map(|(addr, len)| Watch {
                addr,
                was: vec![0; len.min(4096) as usize],
            })
            .collect();
        self.quiet = wanted.quiet;
    }

    /// A watched value that is not what it was.
    fn changed(&mut self) -> Option<u64> {
        let mut found = None;
        for w in &mut self.watches {
            let mut now = vec![0; w.was.len()];
            if look::read_guest(w.addr, &mut now) == now.len() && now != w.was {
                w.was = now;
                found = found.or(Some(w.addr));
            }
        }
        found
    }

    fn has_input(&self) -> bool {
        let mut byte = 0u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let fd = self.server.as_raw_fd();
        // SAFETY: one byte, valid for writes.
        unsafe { sys!(libc::SYS_recvfrom, fd, &raw mut byte, 1, flags, 0, 0) }.is_ok()
    }

    /// Takes what the server says to a running guest: that it is to stop.
    fn look_for_pause(&mut self) {
        let due = match self.arrival {
            Arrival::Kernel => self.track.time().0 % LOOK_DEPARTURES == 0,
            Arrival::Tick => true,
            Arrival::Step | Arrival::Break => false,
        };
        if !self.pausing && due && self.has_input() {
            match wire::receive::<Order>(&mut self.server) {
                Ok(Order::Free) => self.free = true,
                Ok(_) => self.pausing = true,
                Err(_) => crate::run::die(crate::run::EXIT_FAILED),
            }
        }
    }
}
