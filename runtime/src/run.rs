//! A guest process from set-up to exit: the machine, the kernel entry, the token.
//!
//! [`kernel_entry`] is called by the entry path on the kernel stack, runs the kernel until some
//! task of this process can go on, and returns its context. The kernel stack is empty whenever guest
//! code runs, and holds no image fact while a process waits for the token.

mod stops;
mod watch;

pub use crate::boot::{
    Arenas, Failure, Keep, Recording, Start, boot, failed, open_basics, open_nic, open_quiet_nic, prepare,
    writable_dirs,
};

pub use watch::{PROTECT_NS, QUIET_BYTES, QUIET_PROTECT_NS};

use crate::alloc::{self, Side};
use crate::control::{self, Control};
use crate::door::cut::Cutting;
use crate::door::replay::GOES_ON;
use crate::door::{Doors, Mode, anchor, compare};
use crate::protect::golive::Takeover;
use crate::protect::{image_time, top};
use crate::sys::{self, sys};
use crate::vcpu::{self, Event, Vcpu};
use crate::{entry, fault};
use ftl_abi::kernel::{Config, Entry, Kernel, Next};
use ftl_abi::task::Exit;
use ftl_core::context::Context;
use ftl_core::log::Record;
use ftl_core::wait::SpaceId;
use std::sync::atomic::Ordering;
use stops::{mark, stop_after, stop_before};
use watch::watch_writes;

/// ftvm failed (USERS: 125); the reason is on stderr.
pub const EXIT_FAILED: i32 = 125;
/// The kernel of the image broke.
pub const EXIT_BROKEN: i32 = 125;
/// How long guest code may run without an entry while others wait, ns.
pub const SLICE_NS: u64 = 4_000_000;
/// The same for a task whose cuts take long.
const MOST_SLICE_NS: u64 = 10 * SLICE_NS;
/// The same when something from outside waits, ns.
pub const KICK_NS: u64 = 1_000_000;

/// How long closed sockets may stay without progress when the image has ended, ms: as tcp_close()
/// leaves the rest to the host, but not for ever.
pub const NET_LINGER_MS: i32 = 10_000;

/// Kernel and platform of one image. In the host arena; the kernel itself is in the image's.
pub struct Machine {
    /// The kernel, in the image arena.
    pub kernel: &'static Kernel,
    /// The doors, and the host behind them.
    pub plat: Doors,
    /// eventfd that ends an idle wait.
    pub wake_fd: i32,
    /// gdb looks into this replay.
    pub gdb: Option<Box<crate::gdb::Agent>>,
    /// memfds of the arenas.
    pub fds: Fds,
    /// What the image was started with, as `door::start` encodes it.
    pub start: Vec<u8>,
    /// Identity of the image.
    pub image: u64,
    /// Host interface of an image with its own TCP/IP.
    pub interface: Option<String>,
    /// Hashes of mapped files, for snapshots.
    pub files: crate::door::files::Files,
}

/// memfds of the arenas.
#[derive(Clone, Copy, Debug)]
pub struct Fds {
    /// Image arena.
    pub arena: i32,
    /// Page store.
    pub pages: i32,
}

/// What `ftvm run` wants started.
pub struct Spec {
    /// Executable, as found on the search path.
    pub path: Vec<u8>,
    /// Arguments, the program's name first.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// Image-wide choices.
    pub config: Config,
    /// `--net host`
    pub net_host: bool,
    /// Host interface of an image with its own TCP/IP.
    pub interface: Option<String>,
    /// Host directory that is the image's root.
    pub rootfs: Vec<u8>,
}

/// Descriptor of the waker; -1 before set-up. Used by signal handlers.
pub fn wake_fd() -> i32 {
    // SAFETY: the vCPU page is mapped in a guest process, and the machine is set before guests run.
    unsafe {
        let v = vcpu::get();
        if v.machine.is_null() {
            -1
        } else {
            (*v.machine).wake_fd
        }
    }
}

/// Called by the entry path: 0 a system call, 1 what a signal handler captured, 2 a fresh stack.
pub extern "C" fn kernel_entry(kind: u32) -> *mut Context {
    // SAFETY: the entry path runs once at a time in a process.
    let v = unsafe { vcpu::get() };
    v.entries += 1;
    v.leaving = false;
    if kind == 2 {
        become_holder(v);
    } else {
        // The guest may have set GS itself (wrgsbase).
        let gs = vcpu::read_gs();
        if gs != v.gs {
            v.gs = gs;
            // SAFETY: the context that has just entered.
            unsafe { (*v.ctx).gs_base = gs };
        }
    }
    // SAFETY: set before the first entry; the caller holds the token.
    let m = unsafe { &mut *v.machine };
    alloc::set(Side::Image);
    if m.gdb.is_some() {
        crate::gdb::entered(v, m, kind == 0 && v.trapped_site == 0);
    }
    compare::scrub();
    let site = std::mem::take(&mut v.trapped_site);
    if kind == 0 || kind == 1 && matches!(v.event, Event::Trap(_)) {
        stop_before(m);
    }
    if kind == 0 && m.gdb.is_some() {
        crate::gdb::entering(v, m, true);
    }
    if std::mem::take(&mut v.ticked) {
        crate::quota::stand_at_entry(v, m);
    }
    match kind {
        // The slice goes on: but the log may say that it was cut before the next entry.
        0 if m.kernel.clock_entry(&mut m.plat) => return go_on(v, m, v.ctx, false),
        0 if m.gdb.is_some() => {
            m.kernel.entry(&mut m.plat, Entry::Syscall);
            crate::gdb::signalled(m, None);
        }
        0 => m.kernel.entry(&mut m.plat, Entry::Syscall),
        1 => match std::mem::replace(&mut v.event, Event::None) {
            Event::Trap(t) if m.gdb.is_some() => {
                if crate::gdb::owns(v, m, &t) {
                    return go_on(v, m, v.ctx, false);
                }
                crate::gdb::entering(v, m, false);
                m.kernel.entry(&mut m.plat, Entry::Trap(t));
                crate::gdb::signalled(m, Some(&t));
            }
            Event::Trap(t) => m.kernel.entry(&mut m.plat, Entry::Trap(t)),
            Event::Cut => {
                if !slice_ends(v, m) {
                    return go_on(v, m, v.ctx, false);
                }
                m.kernel.entry(&mut m.plat, Entry::Cut);
            }
            Event::None => {}
        },
        _ => {}
    }
    if site != 0 {
        ftl_abi::patches::trapped(
            m.kernel,
            &mut m.plat,
            site,
            entry::ftl_entry_call as *const () as u64,
        );
    }
    if v.look {
        v.look = false;
        m.plat.service_uncalled();
    }
    if let Some(t) = m.plat.takeover.as_mut().filter(|_| kind == 0) {
        t.moved();
    }
    let to_top = crate::snap::wanted(m) || top::wanted(m) || anchor::wanted(m) || m.plat.just_live;
    let ctx = if kind == 0 && m.kernel.same_task_goes_on() && !to_top {
        v.ctx
    } else {
        schedule(v, m)
    };
    go_on(v, m, ctx, true)
}

/// Back to the guest: what must be in place while it runs. In replay, a slice that a cut ended is not
/// run but put in place, and the kernel goes on behind it.
fn go_on(v: &mut Vcpu, m: &mut Machine, ctx: *mut Context, slice_begins: bool) -> *mut Context {
    let mut ctx = ctx;
    mark(v, m, ctx);
    if m.plat.replaying() {
        v.wanted = false;
        // A log whose writer died: what the image would do next is not in it.
        stop_after(v, m, ctx);
        if let Mode::Replay(r) = &mut m.plat.mode
            && m.plat.takeover.is_none()
            && r.exhausted()
            && !crate::gdb::over(&mut m.gdb)
        {
            r.missing(GOES_ON);
        }
        while let Some(next) = replay_cut(v, m, ctx) {
            ctx = next;
            mark(v, m, ctx);
            stop_after(v, m, ctx);
        }
        let ended = matches!(&mut m.plat.mode, Mode::Replay(r) if r.is_over());
        if ended && m.plat.takeover.is_some() {
            // A guest that spins behind the log's end makes no entry at which it could go live.
            v.wanted = true;
            if must_arm(v) {
                fault::arm(v, SLICE_NS);
            }
        }
        if m.gdb.is_some() {
            crate::gdb::leaving(m, ctx);
            v.wanted = true;
            if must_arm(v) {
                fault::arm(v, crate::gdb::LOOK_NS);
            }
        }
    } else {
        v.wanted = m.kernel.wants_watchdog() || m.plat.guard.is_some() || crate::quota::wanted(m);
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        // A kick that came while the kernel ran may have been overwritten just now, and a guest that only computes would
        // never hear what the supervisor left before it.
        v.wanted |= kicked_for(m);
        if must_arm(v) {
            // Only where a slice begins: what it has written so far must not be forgotten.
            if let (true, Mode::Record(_)) = (slice_begins && m.kernel.wants_watchdog(), &m.plat.mode) {
                watch_writes(v, m);
            }
            let slice = slice_ns(m);
            let mut tick = slice;
            if m.plat.guard.is_some() {
                // However long it may compute: the backup hears of it meanwhile.
                tick = slice.min(SLICE_NS);
                if slice_begins {
                    v.slice_until = m.plat.live.clock.now() + slice;
                }
            }
            fault::arm(v, tick);
        }
    }
    // SAFETY: the kernel keeps the current task, and with it the context, alive.
    let gs = unsafe { (*ctx).gs_base };
    if gs != v.gs {
        v.gs = gs;
        vcpu::load_gs(gs);
    }
    calibrate(v, m);
    ctx
}

/// How long the slice that begins may compute. With chaos it varies: a cut says in the log where it ended, so
/// this choice may be the host's.
fn slice_ns(m: &mut Machine) -> u64 {
    match m.kernel.config.chaos {
        // What a cut costs is paid for each slice: programs that write much are cut less often.
        None => (2 * m.plat.cut_ns).clamp(SLICE_NS, MOST_SLICE_NS),
        Some(_) => SLICE_NS >> (m.plat.live.clock.now() / 1024 % 6),
    }
}

/// The watchdog is wanted and does not run. If it runs, a tick from here to the guest arms it again by
/// itself: it would be lost otherwise, and a guest that only computes would never be preempted.
fn must_arm(v: &mut Vcpu) -> bool {
    v.leaving = v.wanted && v.armed;
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    // SAFETY: our own field; the tick's handler may just have changed it.
    let armed = unsafe { std::ptr::read_volatile(&raw const v.armed) };
    v.leaving &= armed;
    v.wanted && !armed
}

/// The supervisor left a signal or an order.
pub fn kicked_for(m: &Machine) -> bool {
    // SAFETY: the page is mapped in every guest process.
    let signalled = unsafe { control::get() }.signals.load(Ordering::Relaxed) != 0;
    signalled || crate::snap::wanted(m)
}

/// Ending the slice now would change something.
fn cut_matters(m: &mut Machine) -> bool {
    kicked_for(m) || m.kernel.cut_matters(m.plat.clock.now()) || m.plat.live.has_come()
}

/// The watchdog met guest code: false if ending the slice there would change nothing. Asked by the signal
/// handler before it touches the context, so that such a look leaves no trace in the image.
pub fn look_matters(v: &Vcpu) -> bool {
    // SAFETY: guest code was interrupted: nobody holds the machine, which is set.
    let m = unsafe { &mut *v.machine };
    if m.plat.replaying() {
        // Only a standby that is to take over has a reason, behind the log's end, or somebody who looks on. An order kicks before that
        // too, and waits.
        let may_go_live = matches!(&m.plat.mode, Mode::Replay(r) if m.plat.takeover.is_some() && r.is_over());
        return may_go_live || crate::gdb::wanted(m);
    }
    m.plat.guard.is_some() || cut_matters(m)
}

/// A takeover whose guest runs behind the log's end without an entry goes live where it is.
fn live_if_stuck(m: &mut Machine) -> bool {
    let stuck = m.plat.starved() && m.plat.takeover.as_mut().is_some_and(|t| t.stuck(image_time()));
    stuck && m.plat.live_if_starved()
}

/// The watchdog interrupted guest code: true if the slice is to end. A recorded image then logs where.
fn slice_ends(v: &mut Vcpu, m: &mut Machine) -> bool {
    // In replay the log alone ends slices; a signal to ftvm itself is not the image's.
    if m.plat.replaying() && !live_if_stuck(m) {
        v.wanted = false;
        crate::gdb::ticked(m);
        return false;
    }
    m.plat.service_uncalled();
    if !cut_matters(m) {
        return false;
    }
    if m.plat.guard.is_some() && !kicked_for(m) && m.plat.live.clock.now() < v.slice_until {
        return false;
    }
    if matches!(m.plat.mode, Mode::Record(_)) {
        cut(v, m);
        (v.was_cut, v.protect_ns) = (true, PROTECT_NS.0);
    }
    true
}

/// Logs the state at the end of the slice.
fn cut(v: &mut Vcpu, m: &mut Machine) {
    let begun = m.plat.live.clock.now();
    let _side = alloc::enter(Side::Host);
    if v.tracker.is_none() {
        // Nothing was protected yet: everything counts as written.
        v.tracker = crate::dirty::Tracker::new().ok();
    }
    let Some(tracker) = v.tracker.as_ref() else {
        fail_stop("recording a preemption needs dirty tracking (Linux 6.7 or later)");
    };
    // SAFETY: the context that the handler filled.
    let mut cut = Cutting::begin(tracker, m.kernel, unsafe { &*v.ctx });
    // Tens of MB take longer than the silence that a backup takes for death: it gets them piece by piece.
    while let Some(part) = cut.part() {
        if let Mode::Record(r) = &mut m.plat.mode {
            r.put(&Record::Part(part));
        }
        m.plat.ship();
        m.plat.service_if_due();
    }
    let last = cut.last();
    if let Mode::Record(r) = &mut m.plat.mode {
        r.cut(m.kernel.entries.get(), last, cut.pages);
    }
    m.plat.ship();
    m.plat.cut_ns = m.plat.live.clock.now().saturating_sub(begun);
}

/// If the log says that the slice which begins now was cut: its end state, and what runs then.
fn replay_cut(v: &mut Vcpu, m: &mut Machine, ctx: *mut Context) -> Option<*mut Context> {
    let Mode::Replay(r) = &mut m.plat.mode else {
        return None;
    };
    let bytes = {
        let _side = alloc::enter(Side::Host);
        r.cut(m.kernel.entries.get())?
    };
    crate::gdb::beyond_call(m);
    let Mode::Replay(r) = &mut m.plat.mode else {
        return None;
    };
    // What is allocated on the way is not the image's: it has not allocated it where the slice was cut.
    let applied = alloc::on(Side::Host, || {
        // SAFETY: the current task's context, which the kernel does not borrow now.
        let applied = crate::door::cut::apply(&bytes, m.kernel, unsafe { &mut *ctx });
        drop(bytes);
        applied
    });
    if applied.is_none() {
        r.diverged("cut", "a state that fits the image", "memory that is not mapped");
    }
    v.ctx = ctx;
    m.kernel.entry(&mut m.plat, Entry::Cut);
    Some(schedule(v, m))
}

/// What the vDSO compares with: the counter, or in replay the logical time of the next miss.
fn calibrate(v: &mut Vcpu, m: &mut Machine) {
    match &mut m.plat.mode {
        Mode::Replay(r) => v.free_e = r.next_miss(),
        // Every read comes to the door.
        Mode::Record(r) if !r.predict => (v.tsc_limit, v.free_e) = (0, 0),
        _ => {
            v.free_e = 0;
            m.plat.live.clock.publish(v);
        }
    }
}

/// Runs the kernel until a task of this process can go on.
fn schedule(v: &mut Vcpu, m: &mut Machine) -> *mut Context {
    crate::gdb::beyond_call(m);
    loop {
        crate::snap::lazy::settle(v);
        crate::snap::serve(v, m);
        anchor::at_top(v, m);
        compare::scrub();
        top::at_top(v, m);
        if m.plat.takeover.as_ref().is_some_and(|t| t.past(image_time())) {
            m.plat.live_if_starved();
        }
        if std::mem::take(&mut m.plat.just_live) {
            crate::quota::begin(v, m);
            let now = m.plat.live.clock.now();
            m.kernel.took_over(&mut m.plat, now);
        }
        m.plat.stamp = m.kernel.next_stamp();
        let next = m.kernel.next(&mut m.plat, v.space);
        if m.kernel.stop_request.take() {
            tell_stop();
        }
        match next {
            Next::Run(task) => {
                return &raw mut **task.ctx.borrow_mut();
            }
            Next::Space(id) => hand_over(v, m, id),
            Next::Absorb => {
                if !m.plat.replaying() {
                    m.plat.gather(None);
                    m.plat.service(false);
                }
                absorb(m);
            }
            Next::Idle(deadline) => {
                if v.dying && m.kernel.exit.get().is_none() {
                    // The token must live on in another process.
                    match m.plat.spaces.other(v.space) {
                        Some(id) => hand_over(v, m, id),
                        None => sys::exit(0),
                    }
                }
                idle(v, m, deadline);
            }
            Next::Exit(exit) => {
                // A takeover that ends within what was promised ends here.
                m.plat.live_if_starved();
                if !m.plat.replaying() {
                    m.plat.net.finish(NET_LINGER_MS);
                }
                finish(m, exit)
            }
        }
    }
}

/// Nothing can run: an input or the earliest deadline ends the wait, whichever has the smaller
/// virtual time (PROTOCOL §2). In replay the log knows which it was.
fn idle(v: &Vcpu, m: &mut Machine, deadline: Option<u64>) {
    let point = m.kernel.next_stamp().point;
    let first = if let Mode::Replay(r) = &mut m.plat.mode {
        let first = r.first_input(point);
        let on = |t: &Takeover| deadline.is_some_and(|d| t.within(d));
        if first.is_none() && m.plat.takeover.as_deref().is_some_and(|t| !on(t)) && m.plat.live_if_starved() {
            return;
        }
        if first.is_none() && deadline.is_none() {
            crate::gdb::over_idle(v, m);
            let Mode::Replay(r) = &mut m.plat.mode else { return };
            r.missing("an input while nothing can run");
        }
        first
    } else {
        m.plat.flush_if_due();
        m.plat.service(true);
        let tick = m.plat.guard.as_ref().map(|g| g.next_tick());
        let until = deadline.into_iter().chain(tick).min();
        m.plat.note_idle(true);
        m.plat.gather(Some(until));
        m.plat.note_idle(false);
        if tick.is_some() {
            m.plat.service(true);
        }
        m.plat.inputs.front().map(|(stamp, _)| stamp.v)
    };
    match (first, deadline) {
        (Some(at), d) if d.is_none_or(|d| at < d) => absorb(m),
        (Some(_), Some(d)) => m.kernel.idle_until(d),
        (None, Some(d)) if m.plat.replaying() || m.plat.clock.now() >= d => m.kernel.idle_until(d),
        _ => {}
    }
}

fn absorb(m: &mut Machine) {
    let point = m.kernel.next_stamp().point;
    let inputs = m.plat.inputs_at(point);
    m.kernel.absorb(&mut m.plat, inputs);
}

/// The image's first process has stopped: the supervisor is to stop too.
fn tell_stop() {
    // SAFETY: mapped by the supervisor before the first process.
    let control = unsafe { control::get() };
    control.stop.store(1, Ordering::Release);
    // SAFETY: the parent is the supervisor, which waits for this signal.
    let _ = unsafe { sys!(libc::SYS_getppid).and_then(|p| sys!(libc::SYS_kill, p, libc::SIGCHLD)) };
}

fn become_holder(v: &mut Vcpu) {
    // SAFETY: mapped by the supervisor before the first process.
    let control = unsafe { control::get() };
    // SAFETY: getpid has no effects.
    let pid = unsafe { sys!(libc::SYS_getpid) }.unwrap_or(0);
    control.runs_in(pid as u32);
    // SAFETY: set before the first entry; this process holds the token now.
    let m = unsafe { &mut *v.machine };
    crate::snap::changes::follow_here(v, m);
    crate::quota::begin(v, m);
}

fn hand_over(v: &mut Vcpu, m: &mut Machine, to: SpaceId) {
    m.kernel.settle_vectors(&mut m.plat, v.space);
    crate::quota::pass(v, m);
    let _side = alloc::enter(Side::Host);
    let own = m.plat.spaces.seat(v.space);
    if (own.is_none() || v.dying) && m.plat.live.tracking {
        // The marks of what it has written go with its tables; nothing of it follows.
        let pagemap = v.tracker.as_ref().map(crate::dirty::Tracker::pagemap);
        m.plat.live.spaces.keep_windows(pagemap);
    }
    let stays = own.filter(|_| !v.dying);
    if stays.is_none() {
        // Its descriptors are in the table that all processes share, and its notes in the allocator that the token guards.
        drop(v.tracker.take());
        sys::step_back();
    }
    m.plat.spaces.give(to);
    match stays {
        Some(seat) => {
            // SAFETY: our own seat.
            unsafe { crate::platform::space::wait_for_token(seat) };
            become_holder(v);
        }
        None => sys::exit(0),
    }
}

/// The copy made by `fork_space`: leaves the inherited stack and waits for the token.
///
/// It runs beside the token's holder: of what the image's processes share it uses `seat`, its own, and nothing that moves.
pub fn child_start(space: SpaceId, seat: *const crate::platform::space::Seat) -> ! {
    // SAFETY: the page is this process' own copy.
    let v = unsafe { vcpu::get() };
    v.space = space;
    v.dying = false;
    v.newborn = true;
    v.armed = false;
    (v.ticked, v.cpu_counted) = (false, 0);
    // The parent's tracker stays the parent's.
    std::mem::forget(v.tracker.take());
    // SAFETY: the machine is shared and not changed here; a flag that turns true meanwhile may be seen or not.
    if unsafe { (*v.machine).plat.live.tracking } {
        v.tracker = crate::dirty::Tracker::new().ok();
    }
    v.gs = 0;
    let _ = vcpu::altstack();
    control::end_with_supervisor();
    let ready = fault::create_timer()
        .map(|t| v.timer = t)
        .and_then(|()| fault::arm_dispatch(v.runtime_len));
    if let Err(e) = ready {
        fail_stop(&format!("setting up a forked process: {e}"));
    }
    // SAFETY: the seat is this space's, in the host arena.
    unsafe {
        crate::platform::space::sit_down(seat, v.tracker.as_ref());
        crate::platform::space::wait_for_token(seat);
        entry::ftl_start_kernel()
    }
}

/// The vDSO or a stub area of the current space holds `rip`.
pub fn in_stub(v: &Vcpu, rip: u64) -> bool {
    if v.machine.is_null() {
        return false;
    }
    // SAFETY: called from a handler that interrupted guest code: nobody holds the kernel.
    let kernel = unsafe { (*v.machine).kernel };
    match kernel.current.try_borrow() {
        Ok(current) => current
            .as_ref()
            .is_some_and(|t| t.mm().patches.borrow().is_stub(rip)),
        Err(_) => true,
    }
}

/// The supervisor left something: end an idle wait, and make sure that a computing guest enters.
pub fn kicked(v: &mut Vcpu) {
    let one = 1u64;
    // SAFETY: writes eight bytes to our eventfd.
    let _ = unsafe { sys!(libc::SYS_write, wake_fd(), &raw const one, 8) };
    v.wanted = true;
    fault::arm(v, KICK_NS);
}

fn finish(m: &mut Machine, exit: Exit) -> ! {
    crate::snap::ended(m.kernel.entries.get());
    let status = exit.status();
    m.plat.check_store();
    let reported = match &mut m.plat.mode {
        Mode::Run => status,
        Mode::Record(r) => {
            let _side = alloc::enter(Side::Host);
            let clock = m.kernel.core.clock.e.get();
            let (hits, misses) = r.reads;
            let at_door = m.kernel.entries.get() + hits + misses;
            r.end(status, clock.saturating_sub(at_door));
            drop(_side);
            m.plat.gate_end();
            status
        }
        Mode::Replay(r) => {
            r.end(status);
            r.tell_end(Some(status), m.kernel.entries.get(), false);
            crate::gdb::ended(m, exit);
            0
        }
    };
    // SAFETY: mapped by the supervisor.
    let control: &Control = unsafe { control::get() };
    control.status.store(reported + 1, Ordering::Release);
    sys::exit(0)
}

/// Ends the image because it goes on elsewhere: for its starter it has ended well.
pub fn leave() -> ! {
    die(0)
}

/// Ends the image because the host or the kernel failed.
pub fn fail_stop(why: &str) -> ! {
    crate::talk::error("image-failed", EXIT_BROKEN, why);
    die(EXIT_BROKEN)
}

/// Ends the image with a code of ftvm's own.
pub fn die(code: i32) -> ! {
    // SAFETY: mapped by the supervisor.
    let control: &Control = unsafe { control::get() };
    control.status.store((code << 8) + 1, Ordering::Release);
    sys::exit(code)
}

/// Kernel entries of the image so far.
pub fn entries() -> u64 {
    // SAFETY: only reads.
    unsafe {
        let v = vcpu::get();
        match v.machine.is_null() {
            true => 0,
            false => (*v.machine).kernel.entries.get(),
        }
    }
}

/// Logical and virtual time of the image, for messages.
pub fn when() -> String {
    // SAFETY: only reads, in a process that is about to end.
    unsafe {
        let v = vcpu::get();
        if v.machine.is_null() {
            return "before the first entry".to_string();
        }
        let k = (*v.machine).kernel;
        let (e, reads) = (k.entries.get(), k.core.clock.e.get());
        format!(
            "entry {e} (with clock reads {reads}), virtual time {} ns",
            k.core.clock.last()
        )
    }
}

/// Task, program counter and call that were being served, for messages.
pub fn what_was_running() -> String {
    // SAFETY: only reads, in a process that is about to end.
    unsafe {
        let v = vcpu::get();
        if v.machine.is_null() {
            return "no task".to_string();
        }
        match (*v.machine).kernel.current.try_borrow() {
            Ok(c) => match c.as_ref() {
                Some(t) if v.ctx.is_null() => format!("task {} before its first instruction", t.tid.0),
                Some(t) => {
                    let rip = (*v.ctx).rip;
                    let nr = (*v.ctx).orig_rax;
                    let name = ftl_abi::table::row(nr).map_or("none", |r| r.name);
                    format!("task {} at {rip:#x}, call {name}", t.tid.0)
                }
                None => "no task".to_string(),
            },
            Err(_) => "unknown task".to_string(),
        }
    }
}

/// Where the current task is, with file and symbol: for a message about a program, not about the kernel.
pub fn where_it_was() -> String {
    // SAFETY: only reads, in a process that is about to end.
    unsafe {
        let v = vcpu::get();
        if v.machine.is_null() || v.ctx.is_null() {
            return "nowhere yet".to_string();
        }
        match (*v.machine).kernel.current.try_borrow() {
            Ok(c) => c
                .as_ref()
                .map_or("nowhere".to_string(), |t| place(&t.mm(), (*v.ctx).rip)),
            Err(_) => "unknown".to_string(),
        }
    }
}

/// An address as the program knows it, with file and symbol as far as they can be had.
pub fn place(mm: &ftl_abi::mm::Mm, rip: u64) -> String {
    let rip = mm.patches.try_borrow().map_or(rip, |p| p.to_program(rip));
    let Some(vma) = mm.peek(rip) else {
        return format!("{rip:#x} (not mapped)");
    };
    let Some(file) = &vma.file else {
        return format!("{rip:#x} ({:?} mapping+{:#x})", vma.kind, rip - vma.start);
    };
    let offset = file.offset + (rip - vma.start);
    let name = String::from_utf8_lossy(&file.path).into_owned();
    let bytes = std::fs::read(&name).unwrap_or_default();
    match ftl_loader::elf::symbol_at(&bytes, offset) {
        Some((symbol, into)) => format!("{rip:#x} ({name}, {symbol}+{into:#x})"),
        None => format!("{rip:#x} ({name}+{offset:#x})"),
    }
}
