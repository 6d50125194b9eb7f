//! Restartable sequences (kernel/rseq.c). With one CPU the numbers never change, so what is left is the
//! abort: whoever is interrupted inside a sequence, by a signal or because its slice has ended, goes on at
//! the sequence's abort handler.

use crate::args::Ptr;
use crate::cx::Cx;
use crate::kernel::Kernel;
use crate::signal::{SigInfo, force, sig};
use crate::task::Task;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Platform;
use std::rc::Rc;

const ORIG_SIZE: u32 = 32;
const UNREGISTER: i32 = 1;
const CS: u64 = 8;

/// What a thread registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rseq {
    /// Its struct rseq.
    addr: u64,
    len: u32,
    /// What stands before every abort handler.
    sig: u32,
}

impl Rseq {
    /// Address, length and signature, for PTRACE_GET_RSEQ_CONFIGURATION.
    pub fn parts(&self) -> (u64, u32, u32) {
        (self.addr, self.len, self.sig)
    }
}

/// rseq(2)
pub fn sys_rseq(cx: &mut Cx<'_>, addr: Ptr, len: u32, flags: i32, sig: u32) -> Io<u64> {
    let now = cx.task.rseq.get();
    let wanted = Rseq {
        addr: addr.0,
        len,
        sig,
    };
    if flags & UNREGISTER != 0 {
        if flags & !UNREGISTER != 0 {
            return err(Errno::EINVAL);
        }
        match now {
            Some(r) if r.addr == wanted.addr && r.len == len && r.sig == sig => {}
            Some(r) if r.addr == wanted.addr && r.len == len => return err(Errno::EPERM),
            _ => return err(Errno::EINVAL),
        }
        // cpu_id_start, cpu_id (RSEQ_CPU_ID_UNINITIALIZED).
        cx.put(addr.0, &[0u32, u32::MAX])?;
        cx.put(addr.0 + 20, &[0u32, 0])?;
        cx.task.rseq.set(None);
        return Ok(0);
    }
    if flags != 0 {
        return err(Errno::EINVAL);
    }
    if let Some(r) = now {
        return err(match r.addr == wanted.addr && r.len == len {
            true if r.sig == sig => Errno::EBUSY,
            true => Errno::EPERM,
            false => Errno::EINVAL,
        });
    }
    if len < ORIG_SIZE || !addr.0.is_multiple_of(32) {
        return err(Errno::EINVAL);
    }
    if !ftl_core::layout::is_guest_range(addr.0, u64::from(len)) {
        return err(Errno::EFAULT);
    }
    cx.put(addr.0 + CS, &0u64)?;
    cx.put(addr.0, &[0u32, 0])?;
    // node_id, mm_cid
    cx.put(addr.0 + 20, &[0u32, 0])?;
    cx.task.rseq.set(Some(wanted));
    Ok(0)
}

/// The task was interrupted where it stands: out of the sequence it is in, if any. Its space is the
/// current one.
pub fn interrupted(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>) {
    let Some(r) = task.rseq.get() else { return };
    let mut env = Env { plat, core: &k.core };
    if leave(&mut env, task, &r).is_err() {
        force(task, SigInfo::kernel(sig::SIGSEGV), false);
    }
}

fn leave(env: &mut Env<'_>, task: &Task, r: &Rseq) -> Result<(), Errno> {
    let cs: u64 = env.get(r.addr + CS)?;
    if cs == 0 {
        return Ok(());
    }
    // struct rseq_cs: version and flags, start, length, abort handler.
    let [head, start, len, abort]: [u64; 4] = env.get(cs)?;
    let mm = task.mm();
    let ip = mm.patches.borrow().to_program(task.ctx.borrow().rip);
    if ip.wrapping_sub(start) >= len {
        // Left behind by a sequence that has ended.
        return env.put(r.addr + CS, &0u64);
    }
    let before: u32 = env.get(abort.wrapping_sub(4))?;
    if head as u32 != 0 || before != r.sig || abort.wrapping_sub(start) < len {
        return Err(Errno::EINVAL);
    }
    env.put(r.addr + CS, &0u64)?;
    let mut ctx = task.ctx.borrow_mut();
    ctx.rip = mm.patches.borrow().to_stub(abort);
    ctx.resume = ftl_core::context::Resume::Full;
    Ok(())
}
