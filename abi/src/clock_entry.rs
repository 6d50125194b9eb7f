//! Clock reads that the vDSO could not finish itself.

use crate::kernel::{CLOCK_ENTRY, Kernel};
use ftl_core::context::reg;
use ftl_core::kcore::Env;
use ftl_core::platform::Platform;

impl Kernel {
    /// The vDSO asks for a clock read: `which` counts from [`CLOCK_ENTRY`]. True if it was one. The
    /// task goes on at once, as it does after a read that the vDSO finishes.
    pub fn clock_entry(&self, plat: &mut dyn Platform) -> bool {
        let current = self.current.borrow();
        let Some(task) = current.as_ref() else {
            return false;
        };
        let mut ctx = task.ctx.borrow_mut();
        let which = ctx.regs[reg::RAX].wrapping_sub(u64::from(CLOCK_ENTRY));
        if which > 2 {
            return false;
        }
        let clock = self.core.clock;
        let mono = clock.read_for_vdso(|e, p| plat.clock_check(e, p));
        let (a, b) = (ctx.regs[reg::RDI], ctx.regs[reg::RSI]);
        let ns = match which {
            0 => match a {
                0 | 5 => mono.wrapping_add(clock.real_offset.get()),
                7 => mono.wrapping_add(clock.boot_offset.get()),
                _ => mono,
            },
            _ => mono.wrapping_add(clock.real_offset.get()),
        };
        let (sec, nsec) = (ns / 1_000_000_000, ns % 1_000_000_000);
        let mut env = Env {
            plat,
            core: &self.core,
        };
        // A bad pointer faults in a vDSO; here it is EFAULT, which libc passes on.
        let wrote = match which {
            0 => env.put(b, &[sec, nsec]),
            1 if b != 0 => env.put(a, &[sec, nsec / 1000]).and_then(|()| env.put(b, &0u64)),
            1 => env.put(a, &[sec, nsec / 1000]),
            _ if a != 0 => env.put(a, &sec),
            _ => Ok(()),
        };
        ctx.regs[reg::RAX] = match wrote {
            Ok(()) if which == 2 => sec,
            Ok(()) => 0,
            Err(e) => e.to_rax(),
        };
        if task.trace.steps() {
            crate::ptrace::arm_step(task, &mut ctx);
        }
        true
    }
}
