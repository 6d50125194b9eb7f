//! The signal mask that holds while a call waits (ppoll, pselect6, epoll_pwait).
//!
//! The mask is swapped on the call's first run. It goes back when the call ends, but not when a
//! signal ended it: then delivery saves the old mask in the handler's frame and it comes back with
//! sigreturn (set_user_sigmask, restore_saved_sigmask_unless).

use crate::args::Ptr;
use crate::cx::Cx;
use crate::signal::set_mask;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Stop};
use ftl_core::wait::Wake;

/// Runs `body` under the mask at `mask`, if there is one.
pub fn with_mask(
    cx: &mut Cx<'_>,
    mask: Ptr,
    size: u64,
    body: impl FnOnce(&mut Cx<'_>) -> Io<u64>,
) -> Io<u64> {
    if mask.is_null() {
        return body(cx);
    }
    if size != 8 {
        return Err(Errno::EINVAL.into());
    }
    if cx.wake() == Wake::Fresh {
        let new: u64 = cx.get(mask.0)?;
        let task = cx.task.clone();
        task.sig.saved_mask.set(Some(task.sig.mask.get()));
        set_mask(&task, new);
    }
    let result = body(cx);
    if let Ok(_) | Err(Stop::Errno(_)) = result
        && let Some(old) = cx.task.sig.saved_mask.take()
    {
        cx.task.sig.mask.set(old);
    }
    result
}
