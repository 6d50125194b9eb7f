//! What can be seen of a stopped image: threads, registers and memory of its first process.

use super::wire::Registers;
use crate::door::OutHash;
use crate::entry;
use crate::vcpu;
use ftl_abi::kernel::Kernel;
use ftl_abi::task::{Process, Task};
use ftl_core::context::{Context, XSAVE_MXCSR, XSAVE_XMM};
use ftl_core::layout::is_guest_range;
use ftl_core::log::Wire;
use std::rc::Rc;

/// No more memory is read at once, bytes.
const MOST: u64 = 1 << 20;

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
    // SAFETY: this is asked in a guest process, whose machine is set before.
    unsafe { (*vcpu::get().machine).kernel }
}

fn process() -> Option<Rc<Process>> {
    let k = kernel();
    let procs = k.procs.borrow();
    procs.get(&k.first.get()?).cloned()
}

fn task(tid: u64) -> Option<Rc<Task>> {
    let p = process()?;
    let threads = p.threads.borrow();
    threads
        .iter()
        .find(|(t, _)| u64::from(t.0) == tid)
        .map(|(_, t)| t.clone())
}

/// Registers that belong together, the program counter being the program's.
pub fn registers_of(ctx: &Context, rip: u64) -> Registers {
    let halves = |x: u128| [x as u64, (x >> 64) as u64];
    let mut out = Registers {
        general: ctx.regs,
        rip,
        flags: ctx.rflags,
        xmm: ctx.xmm.map(halves),
        mxcsr: 0,
    };
    if ctx.xstate_valid != 0 {
        let area = ctx.xstate_bytes();
        for (i, to) in out.xmm.iter_mut().enumerate() {
            let at = XSAVE_XMM + i * 16;
            if let Some(b) = area.get(at..at + 16) {
                *to = halves(u128::from_le_bytes(std::array::from_fn(|k| b[k])));
            }
        }
        if let Some(b) = area.get(XSAVE_MXCSR..XSAVE_MXCSR + 4) {
            out.mxcsr = u32::from_le_bytes(std::array::from_fn(|k| b[k]));
        }
    }
    out
}

/// Registers of a thread.
pub fn registers(tid: u64) -> Option<Registers> {
    let task = task(tid)?;
    let ctx = task.ctx.borrow();
    let rip = task.mm().patches.borrow().to_program(ctx.rip);
    Some(registers_of(&ctx, rip))
}

/// Memory as the program has it: calls and special instructions are shown unpatched.
pub fn memory(start: u64, len: u64) -> Vec<u8> {
    let mut data = vec![0; len.min(MOST) as usize];
    let n = read_guest(start, &mut data);
    data.truncate(n);
    if let Some(p) = process() {
        let mm = p.mm.borrow().clone();
        let patches = mm.patches.borrow();
        patches.unpatch_copy(start, &mut data);
        for (at, (_, bytes)) in patches.specials.range(start.saturating_sub(16)..start + n as u64) {
            for (i, b) in bytes.iter().enumerate() {
                let offset = (at + i as u64).checked_sub(start);
                if let Some(slot) = offset.and_then(|o| data.get_mut(o as usize)) {
                    *slot = *b;
                }
            }
        }
    }
    data
}

/// Ids of the threads.
pub fn threads() -> Vec<u64> {
    let Some(p) = process() else { return Vec::new() };
    p.threads.borrow().keys().map(|t| u64::from(t.0)).collect()
}

/// The auxiliary vector.
pub fn auxv() -> Vec<u8> {
    process().map(|p| p.auxv.borrow().to_vec()).unwrap_or_default()
}

/// Path of the program.
pub fn exe() -> Vec<u8> {
    process().map(|p| p.exe.borrow().to_vec()).unwrap_or_default()
}

/// A thread's name, and what it waits in.
pub fn about(tid: u64) -> Vec<u8> {
    let Some(task) = task(tid) else { return Vec::new() };
    let name = task.name.get();
    let len = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    let mut text = String::from_utf8_lossy(&name[..len]).into_owned();
    if let Some(call) = task.call.get() {
        let call = ftl_abi::table::row(call.nr).map_or("a call", |r| r.name);
        text.push_str(&format!(", waits in {call}"));
    }
    text.into_bytes()
}

/// A signal that a thread has sent to itself, as abort() does. Those that debuggers pass on without a word are left out.
pub fn raised(task: &Task) -> Option<u32> {
    const QUIET: [i32; 8] = [
        libc::SIGALRM,
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGURG,
        libc::SIGIO,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGWINCH,
    ];
    let set = task.sig.pending.set.get() & !task.sig.mask.get();
    let signo = set.trailing_zeros() + 1;
    (set != 0 && signo < 32 && !QUIET.contains(&(signo as i32))).then_some(signo)
}

/// Hash of registers, for [`Leg::Like`](super::place::Leg::Like).
pub fn hash_of(registers: &Registers) -> u64 {
    let mut bytes = Vec::new();
    registers.put(&mut bytes);
    let mut hash = OutHash::default();
    hash.add(0, &bytes);
    hash.hash
}

/// This is the state that is looked for.
pub fn is_like((registers, memory): (u64, u64), ctx: &Context, at: u64) -> bool {
    hash_of(&registers_of(ctx, at)) == registers && crate::door::memory::of_space() == memory
}

/// True if call `nr` is a process' last.
pub fn ends(task: &Task, nr: u64) -> bool {
    match nr {
        n if n == libc::SYS_exit_group as u64 => true,
        n if n == libc::SYS_exit as u64 => task.process().threads.borrow().len() == 1,
        _ => false,
    }
}
