//! Debug registers, made by stepping: a task with an armed one enters the kernel after every instruction and
//! is compared with what it is watched for. Slow, but what a debugger asks for by default is there, and it is
//! the same in a replay. A write that changes nothing is not seen, and reads are not: watching for those is
//! refused.

use super::regs::TF;
use crate::kernel::Kernel;
use crate::signal::{SigInfo, sig};
use crate::task::Task;
use ftl_core::errno::Errno;
use ftl_core::kcore::Env;
use ftl_core::layout::is_guest_range;
use ftl_core::platform::Platform;
use std::cell::Cell;
use std::rc::Rc;

const SLOTS: usize = 4;
const TRAP_TRACE: i32 = 2;
const TRAP_HWBKPT: i32 = 4;
/// DR_STEP
const BS: u64 = 0x4000;

/// DR0..DR7 of a task.
#[derive(Default)]
pub struct Debug {
    regs: Cell<[u64; 8]>,
    /// What the watched words were, once they have been read.
    before: Cell<Option<[u64; SLOTS]>>,
    /// Some slot is enabled.
    armed: Cell<bool>,
}

/// What a slot is for: `None` if it is off; the length, 0 for an instruction.
fn slot(dr7: u64, n: usize) -> Option<u64> {
    if dr7 >> (2 * n) & 3 == 0 {
        return None;
    }
    match dr7 >> (16 + 4 * n) & 3 {
        0 => Some(0),
        _ => Some([1, 2, 8, 4][(dr7 >> (18 + 4 * n) & 3) as usize]),
    }
}

impl Debug {
    /// Some slot is enabled.
    pub fn is_armed(&self) -> bool {
        self.armed.get()
    }

    /// Reads DR`n`.
    pub fn get(&self, n: usize) -> u64 {
        self.regs.get()[n]
    }

    /// Sets DR`n`.
    pub fn set(&self, n: usize, value: u64) -> Result<(), Errno> {
        let mut r = self.regs.get();
        match n {
            0..SLOTS if !is_guest_range(value, 8) => return Err(Errno::EINVAL),
            4 | 5 => return Err(Errno::EIO),
            7 => {
                for (i, at) in r.iter().take(SLOTS).enumerate() {
                    let kind = value >> (16 + 4 * i) & 3;
                    match slot(value, i) {
                        // Reads cannot be noticed: as when another user holds the registers.
                        Some(_) if kind > 1 => return Err(Errno::ENOSPC),
                        Some(0) if value >> (18 + 4 * i) & 3 != 0 => return Err(Errno::EINVAL),
                        Some(len) if len > 1 && !at.is_multiple_of(len) => return Err(Errno::EINVAL),
                        _ => {}
                    }
                }
                self.armed.set((0..SLOTS).any(|i| slot(value, i).is_some()));
            }
            _ => {}
        }
        r[n] = value;
        self.regs.set(r);
        self.before.set(None);
        Ok(())
    }

    fn read(&self, env: &mut Env<'_>) -> [u64; SLOTS] {
        let r = self.regs.get();
        std::array::from_fn(|i| {
            let mut b = [0; 8];
            let len = slot(r[7], i).unwrap_or(0) as usize;
            // What is not mapped changes when it comes to be.
            match len > 0 && env.read(r[i], &mut b[..len]).is_err() {
                true => u64::MAX,
                false => u64::from_le_bytes(b),
            }
        })
    }

    /// The task, in whose space this is, makes its next step: what is there now is what changes count from.
    pub fn prime(&self, env: &mut Env<'_>) {
        if self.armed.get() && self.before.get().is_none() {
            let now = self.read(env);
            self.before.set(Some(now));
        }
    }

    /// The lowest slot that was hit by the instruction that ended at `rip`.
    fn hit(&self, env: &mut Env<'_>, rip: u64) -> Option<usize> {
        if !self.armed.get() {
            return None;
        }
        let now = self.read(env);
        let before = self.before.replace(Some(now)).unwrap_or(now);
        let mut r = self.regs.get();
        let hits = |i: &usize| match slot(r[7], *i) {
            None => false,
            Some(0) => rip == r[*i],
            Some(_) => now[*i] != before[*i],
        };
        let all: Vec<usize> = (0..SLOTS).filter(hits).collect();
        for i in &all {
            r[6] |= 1 << i;
        }
        self.regs.set(r);
        all.first().copied()
    }
}

/// A step of a traced task has ended. The signal that it is worth: none if nothing that is watched changed and
/// nobody asked for the step itself.
pub fn stepped(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>) -> Option<SigInfo> {
    let t = &task.trace;
    let rip = {
        let mut ctx = task.ctx.borrow_mut();
        ctx.rflags &= !TF;
        ctx.rip
    };
    let mut env = Env { plat, core: &k.core };
    let hit = t.debug.hit(&mut env, rip);
    if t.step.get() {
        let mut r = t.debug.regs.get();
        r[6] |= BS;
        t.debug.regs.set(r);
    }
    match hit {
        Some(n) => Some(SigInfo::fault(sig::SIGTRAP, TRAP_HWBKPT, t.debug.get(n))),
        None if t.step.get() => Some(SigInfo::fault(sig::SIGTRAP, TRAP_TRACE, rip)),
        None => None,
    }
}
