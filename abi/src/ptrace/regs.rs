//! Registers of a stopped task as a tracer sees them (arch/x86/kernel/ptrace.c).

use super::{Kind, is_error_number};
use crate::kernel::Kernel;
use crate::task::{Call, Task};
use ftl_core::context::{Resume, reg};
use ftl_core::errno::Errno;
use ftl_core::io::Restart;
use ftl_core::layout::GUEST_TOP;

/// Words of struct user_regs_struct.
pub const WORDS: usize = 27;
const R11: usize = 6;
const RAX: usize = 10;
const RCX: usize = 11;
const ORIG_RAX: usize = 15;
const RIP: usize = 16;
const CS: usize = 17;
const EFLAGS: usize = 18;
const RSP: usize = 19;
const SS: usize = 20;
const FS_BASE: usize = 21;
const GS_BASE: usize = 22;
/// The general registers of user_regs_struct by their place in [`reg`].
const GENERAL: [(usize, usize); 15] = [
    (0, reg::R15),
    (1, reg::R14),
    (2, reg::R13),
    (3, reg::R12),
    (4, reg::RBP),
    (5, reg::RBX),
    (R11, reg::R11),
    (7, reg::R10),
    (8, reg::R9),
    (9, reg::R8),
    (RAX, reg::RAX),
    (RCX, reg::RCX),
    (12, reg::RDX),
    (13, reg::RSI),
    (14, reg::RDI),
];
const USER_CS: u64 = 0x33;
const USER_DS: u64 = 0x2b;
/// X86_EFLAGS_TF
pub const TF: u64 = 0x100;
/// What a tracer may change of the flags (FLAG_MASK).
const FLAG_MASK: u64 = 0x0005_4dd5;

/// -ERESTARTSYS, -ERESTARTNOINTR, -ERESTARTNOHAND: what an interrupted call has in rax until it goes on.
fn restart_code(r: Restart) -> u64 {
    let code: i64 = match r {
        Restart::Sys => -512,
        Restart::Always => -513,
        Restart::NoHandler => -514,
        Restart::Never => return Errno::EINTR.to_rax(),
    };
    code as u64
}

fn restart_of(rax: u64) -> Option<Restart> {
    match rax as i64 {
        -512 => Some(Restart::Sys),
        -513 => Some(Restart::Always),
        -514 | -516 => Some(Restart::NoHandler),
        _ => None,
    }
}

/// struct user_regs_struct.
pub fn get(task: &Task) -> [u64; WORDS] {
    let ctx = task.ctx.borrow();
    let mm = task.mm();
    let rip = mm.patches.borrow().to_program(ctx.rip);
    let mut w = [0; WORDS];
    for (to, from) in GENERAL {
        w[to] = ctx.regs[from];
    }
    w[ORIG_RAX] = ctx.orig_rax;
    w[RIP] = rip;
    w[CS] = USER_CS;
    w[EFLAGS] = ctx.rflags;
    if task.trace.steps() {
        w[EFLAGS] &= !TF;
    }
    w[RSP] = ctx.regs[reg::RSP];
    w[SS] = USER_DS;
    w[FS_BASE] = ctx.fs_base;
    w[GS_BASE] = ctx.gs_base;
    if ctx.resume == Resume::Call {
        w[RCX] = rip;
        w[R11] = ctx.rflags;
    }
    if task.trace.kind() == Some(Kind::Enter) {
        w[RAX] = Errno::ENOSYS.to_rax();
    }
    if let Some((_, restart)) = task.interrupted.get() {
        w[RAX] = restart_code(restart);
    }
    w
}

/// Sets them all: EIO for what no process may have.
pub fn set(task: &Task, w: &[u64; WORDS]) -> Result<(), Errno> {
    let bad_selector = |v: u64| v & 3 != 3;
    if bad_selector(w[CS] & 0xffff) || bad_selector(w[SS] & 0xffff) {
        return Err(Errno::EIO);
    }
    if w[FS_BASE] >= GUEST_TOP || w[GS_BASE] >= 1 << 47 {
        return Err(Errno::EIO);
    }
    let mm = task.mm();
    let entering = task.trace.kind() == Some(Kind::Enter);
    let mut ctx = task.ctx.borrow_mut();
    for (from, to) in GENERAL {
        ctx.regs[to] = w[from];
    }
    ctx.orig_rax = w[ORIG_RAX];
    ctx.rip = mm.patches.borrow().to_stub(w[RIP]);
    ctx.rflags = ctx.rflags & !FLAG_MASK | w[EFLAGS] & FLAG_MASK | 0x202;
    ctx.regs[reg::RSP] = w[RSP];
    ctx.fs_base = w[FS_BASE];
    ctx.gs_base = w[GS_BASE];
    ctx.resume = Resume::Full;
    if entering {
        return Ok(());
    }
    // A call goes on only while rax says so and orig_rax names it; a debugger that calls a function in
    // between puts both back.
    let call = match restart_of(w[RAX]) {
        Some(r) if (w[ORIG_RAX] as i64) >= 0 => {
            let call = Call {
                nr: u64::from(w[ORIG_RAX] as u32),
                args: ctx.args(),
            };
            ctx.regs[reg::RAX] = Errno::EINTR.to_rax();
            Some((call, r))
        }
        _ => None,
    };
    let never = matches!(task.interrupted.get(), Some((_, Restart::Never)));
    if call.is_some() || !never {
        task.interrupted.set(call);
    }
    Ok(())
}

/// What the call that the task is in or has made returned.
pub fn result(task: &Task) -> (u64, bool) {
    let v = get(task)[RAX];
    (v, is_error_number(v))
}

/// The XSAVE area in its standard format, with XCR0 where a signal frame has it.
pub fn xstate(k: &Kernel, task: &Task) -> Vec<u8> {
    let mut ctx = task.ctx.borrow_mut();
    if ctx.xstate_valid == 0 {
        ctx.adopt_saved_xmm();
    }
    let mut b = ctx.xstate_bytes();
    b.truncate(k.config.xsave_len.max(576));
    b[464..472].copy_from_slice(&k.config.xcr0.to_le_bytes());
    b
}

/// Replaces the state: the legacy region alone (512 bytes), or the whole. EINVAL if it cannot be loaded.
pub fn set_xstate(k: &Kernel, task: &Task, bytes: &[u8]) -> Result<(), Errno> {
    let len = task.ctx.borrow().xstate_len();
    let mut area = xstate(k, task);
    let n = bytes.len().min(area.len());
    area[..n].copy_from_slice(&bytes[..n]);
    if n <= 512 {
        // x87 and SSE are what was given.
        area[512] |= 3;
    }
    let xcr0 = k.config.xcr0;
    let loadable = crate::signal::loadable(&area, Some(xcr0), xcr0, len).ok_or(Errno::EINVAL)?;
    let mut ctx = task.ctx.borrow_mut();
    ctx.set_xstate_bytes(&loadable);
    ctx.clear_sw_reserved();
    ctx.resume = Resume::Full;
    Ok(())
}
