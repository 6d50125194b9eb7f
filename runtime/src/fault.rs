//! Host signals of a guest process.
//!
//! A handler never runs kernel code. For guest code it copies registers and extended state into the
//! task's context and returns into `ftl_entry_event`, so that the kernel runs on its own stack
//! outside any handler. In runtime code it either repairs a guest copy, or notes what came and lets
//! the runtime go on; anything else there is a bug of ours and ends the image with a message.

use crate::entry;
use crate::sys::{HostErr, sys};
use crate::vcpu::{self, Event, Vcpu};
use ftl_abi::kernel::Trap;
use ftl_core::context::{Context, Resume, reg};
use ftl_core::layout::{GUEST_TOP, RUNTIME_BASE, RUNTIME_BLOCK, RUNTIME_BLOCK_END};

/// The watchdog's tick.
pub const SIG_TICK: i32 = 40;
/// The supervisor has left something in the control page.
pub const SIG_KICK: i32 = 41;

const SYS_USER_DISPATCH: i32 = 2;
/// The trap flag.
const TF: i64 = 1 << 8;
const ARCH_X86_64: u32 = 0xc000_003e;

#[repr(C)]
struct KernelAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// Installs the handlers.
pub fn install() -> Result<(), HostErr> {
    const SA_RESTORER: u64 = 0x0400_0000;
    for sig in [
        libc::SIGSYS,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        SIG_TICK,
        SIG_KICK,
    ] {
        let act = KernelAction {
            handler: entry::ftl_signal as *const () as u64,
            flags: (libc::SA_SIGINFO | libc::SA_ONSTACK) as u64 | SA_RESTORER,
            restorer: entry::ftl_restorer as *const () as u64,
            mask: u64::MAX,
        };
        // SAFETY: the handler is ftl_signal, made for this.
        unsafe { sys!(libc::SYS_rt_sigaction, sig, &raw const act, 0, 8) }?;
    }
    ignore_terminal()
}

/// Terminal signals reach the whole foreground group; the supervisor alone takes them.
pub fn ignore_terminal() -> Result<(), HostErr> {
    for sig in [
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGHUP,
        libc::SIGPIPE,
        libc::SIGWINCH,
    ] {
        let act = KernelAction {
            handler: 1,
            flags: 0,
            restorer: 0,
            mask: 0,
        };
        // SAFETY: SIG_IGN.
        unsafe { sys!(libc::SYS_rt_sigaction, sig, &raw const act, 0, 8) }?;
    }
    Ok(())
}

/// Turns the catch-all on: every call from outside the runtime's mapping traps.
pub fn arm_dispatch(runtime_len: u64) -> Result<(), HostErr> {
    const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;
    const ON: i32 = 1;
    // SAFETY: no selector byte: the kernel writes nothing.
    unsafe {
        sys!(
            libc::SYS_prctl,
            PR_SET_SYSCALL_USER_DISPATCH,
            ON,
            RUNTIME_BASE,
            runtime_len,
            0
        )
    }
    .map(drop)
}

/// Creates the watchdog's timer; one per host process.
pub fn create_timer() -> Result<i32, HostErr> {
    // SAFETY: gettid has no effects.
    let tid = unsafe { sys!(libc::SYS_gettid) }?;
    let mut ev = [0u64; 8];
    // struct sigevent: value, signo (i32), notify (i32), tid (i32)
    ev[1] = SIG_TICK as u32 as u64 | (libc::SIGEV_THREAD_ID as u64) << 32;
    ev[2] = tid;
    let mut id: i32 = -1;
    // SAFETY: both pointers are valid.
    unsafe {
        sys!(
            libc::SYS_timer_create,
            libc::CLOCK_MONOTONIC,
            ev.as_ptr(),
            &raw mut id
        )
    }?;
    Ok(id)
}

/// All host signals land here, by `ftl_signal`.
pub extern "C" fn on_signal(sig: i32, info: *mut libc::siginfo_t, uc: *mut libc::ucontext_t, guest_fs: u64) {
    // SAFETY: the kernel passes valid pointers; the vCPU page exists before handlers do.
    let (info, uc, v) = unsafe { (&*info, &mut *uc, vcpu::get()) };
    let rip = uc.uc_mcontext.gregs[libc::REG_RIP as usize] as u64;
    // Above GUEST_TOP there is only what the host kernel put there, up to the end of user space.
    let in_runtime = (RUNTIME_BLOCK..RUNTIME_BLOCK_END).contains(&rip) || (GUEST_TOP..1 << 47).contains(&rip);
    match sig {
        SIG_TICK => tick(v, uc, in_runtime, guest_fs, rip),
        SIG_KICK => crate::run::kicked(v),
        libc::SIGSEGV if !v.lazy.is_null() && crate::snap::lazy::resolve(v, fault_address(info)) => {}
        libc::SIGSYS if info.si_code == SYS_USER_DISPATCH && call_of(info).arch == ARCH_X86_64 => {
            dispatched(v, uc, rip);
        }
        // A guest that is stepped has come in: the kernel is not stepped.
        libc::SIGTRAP if in_runtime && uc.uc_mcontext.gregs[libc::REG_EFL as usize] & TF != 0 => {
            uc.uc_mcontext.gregs[libc::REG_EFL as usize] &= !TF;
        }
        _ if in_runtime => match entry::fixup(rip) {
            Some(to) if sig == libc::SIGSEGV || sig == libc::SIGBUS => {
                uc.uc_mcontext.gregs[libc::REG_RIP as usize] = to as i64;
            }
            _ => die_in_runtime(sig, info, uc, rip),
        },
        libc::SIGSYS => filtered(v, uc, &call_of(info), rip, guest_fs),
        _ => {
            // SAFETY: for these signals the kernel fills si_addr.
            let addr = unsafe { info.si_addr() } as u64;
            let g = &uc.uc_mcontext.gregs;
            let trap = Trap {
                signo: sig as u32,
                code: info.si_code,
                addr,
                trapno: g[libc::REG_TRAPNO as usize] as u64,
                error: g[libc::REG_ERR as usize] as u64,
                cr2: g[libc::REG_CR2 as usize] as u64,
            };
            capture(v, uc, guest_fs, Event::Trap(trap));
        }
    }
}

fn fault_address(info: &libc::siginfo_t) -> u64 {
    // SAFETY: for SIGSEGV the kernel fills si_addr.
    unsafe { info.si_addr() as u64 }
}

/// A call trapped: go on at the common entry as if the site had jumped there, and have it patched.
fn dispatched(v: &mut Vcpu, uc: &mut libc::ucontext_t, rip: u64) {
    let g = &mut uc.uc_mcontext.gregs;
    g[libc::REG_RCX as usize] = rip as i64;
    g[libc::REG_R11 as usize] = g[libc::REG_EFL as usize];
    g[libc::REG_RIP as usize] = entry::ftl_entry_call as *const () as i64;
    v.trapped_site = rip.wrapping_sub(2);
}

/// What siginfo says of a refused call.
struct RefusedCall {
    addr: u64,
    nr: i32,
    arch: u32,
}

fn call_of(info: &libc::siginfo_t) -> RefusedCall {
    let base = std::ptr::from_ref(info).cast::<u8>();
    // SAFETY: for SIGSYS the union at offset 16 holds address, number and architecture.
    unsafe {
        RefusedCall {
            addr: base.add(16).cast::<u64>().read(),
            nr: base.add(24).cast::<i32>().read(),
            arch: base.add(28).cast::<u32>().read(),
        }
    }
}

/// A call of another kind: int 0x80, or a function of the old vsyscall page.
fn filtered(v: &mut Vcpu, uc: &mut libc::ucontext_t, call: &RefusedCall, rip: u64, guest_fs: u64) {
    const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;
    if call.arch == ARCH_X86_64 && call.addr & !0xfff == VSYSCALL {
        // The host kernel has already returned to the caller: only the answer is missing.
        let g = &mut uc.uc_mcontext.gregs;
        g[libc::REG_RAX as usize] = i64::from(call.nr);
        g[libc::REG_RCX as usize] = rip as i64;
        g[libc::REG_R11 as usize] = g[libc::REG_EFL as usize];
        g[libc::REG_RIP as usize] = entry::ftl_entry_call as *const () as i64;
        return;
    }
    // int 0x80: refused as by a kernel without CONFIG_IA32_EMULATION (a general-protection fault).
    let trap = Trap {
        signo: libc::SIGSEGV as u32,
        code: 128,
        addr: 0,
        trapno: 13,
        error: 0x402,
        cr2: 0,
    };
    // RIP is behind the two-byte instruction; a fault reports the instruction itself.
    uc.uc_mcontext.gregs[libc::REG_RIP as usize] = rip.wrapping_sub(2) as i64;
    capture(v, uc, guest_fs, Event::Trap(trap));
}

/// The watchdog, a one-shot timer. A tick that finds an entry since it was armed arms it again; one
/// that finds none ends the slice.
fn tick(v: &mut Vcpu, uc: &mut libc::ucontext_t, in_runtime: bool, guest_fs: u64, rip: u64) {
    v.armed = false;
    v.ticked = true;
    // In the runtime too: a guest whose calls are dear is met there time and again.
    v.look = true;
    if in_runtime && v.leaving {
        return arm(v, crate::run::SLICE_NS);
    }
    // In the runtime: the way back to the guest arms it if it is still wanted.
    if in_runtime || v.ctx.is_null() || !v.wanted {
        return;
    }
    if v.entries != v.tick_entries {
        return arm(v, crate::run::SLICE_NS);
    }
    // Never inside the vDSO or a stub: it is out of there in no time.
    if crate::run::in_stub(v, rip) {
        return arm(v, 20_000);
    }
    crate::quota::stand_in_handler(v);
    if !crate::run::look_matters(v) {
        return arm(v, crate::run::SLICE_NS);
    }
    capture(v, uc, guest_fs, Event::Cut);
}

/// Arms the watchdog.
pub fn arm(v: &mut Vcpu, ns: u64) {
    v.armed = true;
    v.tick_entries = v.entries;
    let t = [0, 0, ns / 1_000_000_000, ns % 1_000_000_000];
    // SAFETY: the array has the layout of struct itimerspec.
    let _ = unsafe { sys!(libc::SYS_timer_settime, v.timer, 0, t.as_ptr(), 0) };
}

/// Moves the interrupted guest state into the task's context; on return the kernel is entered.
fn capture(v: &mut Vcpu, uc: &mut libc::ucontext_t, guest_fs: u64, event: Event) {
    // SAFETY: guest code runs only with a current context, and the kernel does not hold it then.
    let ctx: &mut Context = unsafe { &mut *v.ctx };
    let g = &mut uc.uc_mcontext.gregs;
    let map = [
        (reg::RAX, libc::REG_RAX),
        (reg::RCX, libc::REG_RCX),
        (reg::RDX, libc::REG_RDX),
        (reg::RBX, libc::REG_RBX),
        (reg::RSP, libc::REG_RSP),
        (reg::RBP, libc::REG_RBP),
        (reg::RSI, libc::REG_RSI),
        (reg::RDI, libc::REG_RDI),
        (reg::R8, libc::REG_R8),
        (reg::R9, libc::REG_R9),
        (reg::R10, libc::REG_R10),
        (reg::R11, libc::REG_R11),
        (reg::R12, libc::REG_R12),
        (reg::R13, libc::REG_R13),
        (reg::R14, libc::REG_R14),
        (reg::R15, libc::REG_R15),
    ];
    for (to, from) in map {
        ctx.regs[to] = g[from as usize] as u64;
    }
    ctx.rip = g[libc::REG_RIP as usize] as u64;
    ctx.rflags = g[libc::REG_EFL as usize] as u64;
    ctx.fs_base = guest_fs;
    ctx.orig_rax = u64::MAX;
    // The frame's area is in XSAVE's standard format; its length is in the software-reserved bytes.
    let area = uc.uc_mcontext.fpregs as *const u8;
    // SAFETY: the kernel wrote at least the 512-byte legacy region.
    let len = unsafe {
        let magic = area.add(464).cast::<u32>().read_unaligned();
        if magic == 0x4650_5853 {
            area.add(480).cast::<u32>().read_unaligned() as usize
        } else {
            512
        }
    };
    // SAFETY: the kernel wrote `len` bytes there.
    let bytes = unsafe { std::slice::from_raw_parts(area, len.min(ctx.xstate_len())) };
    ctx.set_xstate_bytes(bytes);
    // The software-reserved bytes are the frame's, not the state's.
    ctx.clear_sw_reserved();
    vcpu::tidy(ctx);
    // Left by the last call; all of it is in `xstate` now.
    ctx.xmm = [0; 16];
    ctx.resume = Resume::Full;
    v.event = event;
    g[libc::REG_RIP as usize] = entry::ftl_entry_event as *const () as i64;
    g[libc::REG_RSP as usize] = v.kstack as i64;
    // No single-stepping and no alignment checks in the runtime.
    g[libc::REG_EFL as usize] = 0x202;
}

fn die_in_runtime(sig: i32, info: &libc::siginfo_t, uc: &libc::ucontext_t, rip: u64) -> ! {
    // SAFETY: si_addr is part of siginfo whatever the signal; garbage is only printed.
    let addr = unsafe { info.si_addr() } as u64;
    let rsp = uc.uc_mcontext.gregs[libc::REG_RSP as usize] as u64;
    let line = format_line(sig, rip, addr, rsp);
    crate::talk::error("kernel-fault", crate::run::EXIT_BROKEN, &line);
    crate::run::die(crate::run::EXIT_BROKEN)
}

fn format_line(sig: i32, rip: u64, addr: u64, rsp: u64) -> String {
    // The image is lost: the C library's heap may be used.
    crate::alloc::set(crate::alloc::Side::System);
    let base = RUNTIME_BASE;
    format!(
        "kernel fault: signal {sig} at runtime+{:#x} ({rip:#x}), address {addr:#x}, stack {rsp:#x}; {}",
        rip.wrapping_sub(base),
        crate::run::what_was_running()
    )
}
