//! MAP_GROWSDOWN (mm/mmap.c expand_downwards). The main stack needs none of it: all that it may come
//! to is reserved when it is made.

use super::{Vma, VmaFlags};
use crate::cx::Cx;
use crate::kernel::Kernel;
use crate::task::Task;
use ftl_core::kcore::Env;
use ftl_core::layout::{GUEST_TOP, page_down};
use ftl_core::platform::{Backing, Platform, Prot};
use std::rc::Rc;

/// stack_guard_gap: 256 pages. Nothing is placed so close below a stack: one that overflows must fault.
pub const STACK_GUARD: u64 = 1 << 20;
const RLIMIT_STACK: usize = 3;

/// A fault at an unmapped address: true if a mapping above it has grown to cover it.
pub fn grow_down(k: &Kernel, plat: &mut dyn Platform, task: &Rc<Task>, addr: u64) -> bool {
    let mm = task.mm();
    let at = page_down(addr);
    if addr >= GUEST_TOP || mm.with(at, |_| ()).is_some() {
        return false;
    }
    let Some(above) = mm.after(at).filter(|v| v.flags.contains(VmaFlags::GROWSDOWN)) else {
        return false;
    };
    let reachable = |v: &Vma| v.prot != Prot::empty() && !v.flags.contains(VmaFlags::GROWSDOWN);
    if mm
        .before(at)
        .is_some_and(|v| reachable(&v) && at - v.end < STACK_GUARD)
    {
        return false;
    }
    let limit = task.process().rlimits.borrow()[RLIMIT_STACK].0;
    let grow = above.start - at;
    if above.end - at > limit || !mm.is_free(at, grow) {
        return false;
    }
    let cx = Cx {
        env: Env { plat, core: &k.core },
        k,
        task: task.clone(),
    };
    if super::sys::check_room(&cx, &mm, grow, above.commits()).is_err() {
        return false;
    }
    let mut vma = above.clone();
    (vma.start, vma.end) = (at, above.start);
    mm.map(cx.env.plat, vma, Backing::Anon);
    true
}
