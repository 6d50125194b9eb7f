//! The calls that take futex(2) apart: futex_wake(2), futex_wait(2), futex_requeue(2).

use super::key_of;
use super::sys::{requeue_keys, wait_with, wake};
use super::waitv::until;
use crate::args::Ptr;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, err};

const SIZE_MASK: u32 = 3;
const SIZE_U32: u32 = 2;
const PRIVATE: u32 = 128;

/// 32-bit words without a node: the one kind there is (futex_flags_valid).
fn private(flags: u32) -> Result<bool, Errno> {
    if flags & !(SIZE_MASK | PRIVATE) != 0 || flags & SIZE_MASK != SIZE_U32 {
        return Err(Errno::EINVAL);
    }
    Ok(flags & PRIVATE != 0)
}

/// A value of the word's size (futex_validate_input).
fn word(v: u64) -> Result<u32, Errno> {
    u32::try_from(v).map_err(|_| Errno::EINVAL)
}

/// futex_wake(2): unlike FUTEX_WAKE, none are woken if none are asked for.
pub fn sys_futex_wake(cx: &mut Cx<'_>, addr: u64, mask: u64, n: i32, flags: u32) -> Io<u64> {
    let private = private(flags)?;
    let mask = word(mask)?;
    if mask == 0 {
        return err(Errno::EINVAL);
    }
    if n == 0 {
        key_of(&cx.task.mm(), addr, private)?;
        return Ok(0);
    }
    wake(cx, addr, private, n, mask)
}

/// futex_wait(2)
pub fn sys_futex_wait(
    cx: &mut Cx<'_>,
    addr: u64,
    val: u64,
    mask: u64,
    flags: u32,
    timeout: Ptr,
    clock: i32,
) -> Io<u64> {
    let private = private(flags)?;
    let (val, mask) = (word(val)?, word(mask)?);
    let at = until(cx, timeout, clock)?;
    // The timeout is absolute, so a restarted call needs no record of it.
    wait_with(cx, addr, private, val, mask, at, Restart::Sys)
}

/// futex_requeue(2)
pub fn sys_futex_requeue(cx: &mut Cx<'_>, list: Ptr, flags: u32, n_wake: i32, n_move: i32) -> Io<u64> {
    if flags != 0 || list.is_null() {
        return err(Errno::EINVAL);
    }
    let mut ends = [(0u64, false, 0u32); 2];
    for (i, end) in ends.iter_mut().enumerate() {
        // struct futex_waitv: val, uaddr, flags and a reserved word.
        let [val, addr, rest]: [u64; 3] = cx.get(list.0.wrapping_add(i as u64 * 24))?;
        if rest >> 32 != 0 {
            return err(Errno::EINVAL);
        }
        *end = (addr, private(rest as u32)?, word(val)?);
    }
    let [(from, from_private, val), (to, to_private, _)] = ends;
    if n_wake < 0 || n_move < 0 {
        return err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let keys = (key_of(&mm, from, from_private)?, key_of(&mm, to, to_private)?);
    requeue_keys(cx, from, keys, to, n_wake, n_move, Some(val))
}
