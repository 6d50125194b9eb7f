//! futex_waitv(2): waiting for any of several words.

use super::{Kind, Resumed, block, deadline, key_of, resumed, timespec};
use crate::args::Ptr;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, Stop, err};
use ftl_core::platform::Ns;

const FUTEX_32: u32 = 2;
const PRIVATE: u32 = 128;
const MAX_WAITERS: u32 = 128;

/// The deadline of futex_waitv(2) and futex_wait: an absolute time of REALTIME or MONOTONIC, or none.
pub(super) fn until(cx: &mut Cx<'_>, timeout: Ptr, clock: i32) -> Io<Option<Ns>> {
    if timeout.is_null() {
        return Ok(None);
    }
    if !(0..=1).contains(&clock) {
        return err(Errno::EINVAL);
    }
    let at = timespec(cx, timeout.0)?;
    Ok(Some(deadline(cx, at, clock == 0)))
}

/// futex_waitv(2)
pub fn sys_futex_waitv(cx: &mut Cx<'_>, list: Ptr, n: u32, flags: u32, timeout: Ptr, clock: i32) -> Io<u64> {
    if flags != 0 || n == 0 || n > MAX_WAITERS || list.is_null() {
        return err(Errno::EINVAL);
    }
    let at = until(cx, timeout, clock)?;
    match resumed(cx) {
        Resumed::Woken(slot) => return Ok(u64::from(slot)),
        Resumed::Timeout => return err(Errno::ETIMEDOUT),
        Resumed::Signal => return Err(Stop::Interrupted(Restart::Sys)),
        Resumed::No => {}
    }
    let mm = cx.task.mm();
    let mut places = Vec::with_capacity(n as usize);
    for i in 0..u64::from(n) {
        let [val, addr, rest]: [u64; 3] = cx.get(list.0.wrapping_add(i * 24))?;
        let (flags, reserved) = (rest as u32, (rest >> 32) as u32);
        if flags & !(FUTEX_32 | PRIVATE) != 0 || flags & FUTEX_32 == 0 || reserved != 0 {
            return err(Errno::EINVAL);
        }
        if val > u64::from(u32::MAX) {
            return err(Errno::EINVAL);
        }
        let key = key_of(&mm, addr, flags & PRIVATE != 0)?;
        places.push((key, addr, val as u32));
    }
    for (_, addr, val) in &places {
        if super::sys::load(cx, *addr)? != *val {
            return err(Errno::EAGAIN);
        }
    }
    let places: Vec<_> = places
        .iter()
        .map(|(key, addr, _)| (*key, *addr, u32::MAX, Kind::Wait))
        .collect();
    Err(block(cx, &places, at, Restart::Sys))
}
