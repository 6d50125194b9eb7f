//! The operations of futex(2).

use super::{Key, Kind, Resumed, block, deadline, key_of, pi, resumed, timespec};
use crate::args::{Bits, Ptr};
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, Stop, err};
use ftl_core::platform::Ns;

const WAIT: u64 = 0;
const WAKE: u64 = 1;
const REQUEUE: u64 = 3;
const CMP_REQUEUE: u64 = 4;
const WAKE_OP: u64 = 5;
const LOCK_PI: u64 = 6;
const UNLOCK_PI: u64 = 7;
const TRYLOCK_PI: u64 = 8;
const WAIT_BITSET: u64 = 9;
const WAKE_BITSET: u64 = 10;
const WAIT_REQUEUE_PI: u64 = 11;
const CMP_REQUEUE_PI: u64 = 12;
const LOCK_PI2: u64 = 13;
const PRIVATE: u64 = 128;
const CLOCK_REALTIME: u64 = 256;
const MATCH_ANY: u32 = u32::MAX;

/// futex(2)
pub fn sys_futex(cx: &mut Cx<'_>, addr: u64, op: Bits, val: u32, arg: Ptr, addr2: u64, val3: u32) -> Io<u64> {
    let cmd = op.0 as u32 as u64 & !(PRIVATE | CLOCK_REALTIME);
    let private = op.0 & PRIVATE != 0;
    let realtime = op.0 & CLOCK_REALTIME != 0;
    if realtime && !matches!(cmd, WAIT_BITSET | WAIT_REQUEUE_PI | LOCK_PI2) {
        return err(Errno::ENOSYS);
    }
    match cmd {
        WAKE => wake(cx, addr, private, val as i32, MATCH_ANY),
        WAKE_BITSET => wake(cx, addr, private, val as i32, val3),
        REQUEUE => requeue(cx, addr, private, val as i32, arg.0 as i32, addr2, None),
        CMP_REQUEUE => requeue(cx, addr, private, val as i32, arg.0 as i32, addr2, Some(val3)),
        WAKE_OP => wake_op(cx, addr, private, val as i32, arg.0 as i32, addr2, val3),
        WAIT => {
            let relative = match arg.0 {
                0 => None,
                p => Some(timespec(cx, p)?),
            };
            let at = relative.map(|ns| cx.deadline_in(ns));
            wait(cx, addr, private, val, MATCH_ANY, at)
        }
        WAIT_BITSET => {
            let at = absolute(cx, arg, realtime)?;
            wait(cx, addr, private, val, val3, at)
        }
        LOCK_PI => {
            let at = absolute(cx, arg, true)?;
            pi::lock(cx, addr, private, at)
        }
        LOCK_PI2 => {
            let at = absolute(cx, arg, realtime)?;
            pi::lock(cx, addr, private, at)
        }
        TRYLOCK_PI => pi::try_lock(cx, addr, private),
        UNLOCK_PI => pi::unlock(cx, addr, private),
        WAIT_REQUEUE_PI => {
            let at = absolute(cx, arg, realtime)?;
            pi::wait_requeue(cx, addr, private, val, at, addr2)
        }
        CMP_REQUEUE_PI => pi::requeue(cx, addr, private, val as i32, arg.0 as i32, addr2, val3),
        _ => err(Errno::ENOSYS),
    }
}

fn absolute(cx: &mut Cx<'_>, arg: Ptr, realtime: bool) -> Result<Option<Ns>, Errno> {
    if arg.is_null() {
        return Ok(None);
    }
    let at = timespec(cx, arg.0)?;
    Ok(Some(deadline(cx, at, realtime)))
}

/// Reads the word; a fault is EFAULT.
pub(super) fn load(cx: &mut Cx<'_>, addr: u64) -> Result<u32, Errno> {
    cx.env.plat.load_u32(addr).map_err(|_| Errno::EFAULT)
}

fn wait(cx: &mut Cx<'_>, addr: u64, private: bool, val: u32, bitset: u32, at: Option<Ns>) -> Io<u64> {
    // ERESTARTSYS without a timeout, ERESTART_RESTARTBLOCK with one.
    let restart = if at.is_some() {
        Restart::NoHandler
    } else {
        Restart::Sys
    };
    wait_with(cx, addr, private, val, bitset, at, restart)
}

pub(super) fn wait_with(
    cx: &mut Cx<'_>,
    addr: u64,
    private: bool,
    val: u32,
    bitset: u32,
    at: Option<Ns>,
    restart: Restart,
) -> Io<u64> {
    if bitset == 0 {
        return err(Errno::EINVAL);
    }
    match resumed(cx) {
        Resumed::Woken(_) => return Ok(0),
        Resumed::Timeout => return err(Errno::ETIMEDOUT),
        Resumed::Signal => return Err(Stop::Interrupted(restart)),
        Resumed::No => {}
    }
    let key = key_of(&cx.task.mm(), addr, private)?;
    if load(cx, addr)? != val {
        return err(Errno::EAGAIN);
    }
    Err(block(cx, &[(key, addr, bitset, Kind::Wait)], at, restart))
}

pub(super) fn wake(cx: &mut Cx<'_>, addr: u64, private: bool, n: i32, bitset: u32) -> Io<u64> {
    if bitset == 0 {
        return err(Errno::EINVAL);
    }
    let key = key_of(&cx.task.mm(), addr, private)?;
    // Linux wakes one even when asked for none.
    Ok(cx.k.futexes.wake(key, n.max(1) as usize, bitset) as u64)
}

fn requeue(
    cx: &mut Cx<'_>,
    addr: u64,
    private: bool,
    n_wake: i32,
    n_move: i32,
    addr2: u64,
    cmp: Option<u32>,
) -> Io<u64> {
    if n_wake < 0 || n_move < 0 {
        return err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let keys = (key_of(&mm, addr, private)?, key_of(&mm, addr2, private)?);
    requeue_keys(cx, addr, keys, addr2, n_wake, n_move, cmp)
}

pub(super) fn requeue_keys(
    cx: &mut Cx<'_>,
    addr: u64,
    (from, to): (Key, Key),
    addr2: u64,
    n_wake: i32,
    n_move: i32,
    cmp: Option<u32>,
) -> Io<u64> {
    if let Some(val) = cmp
        && load(cx, addr)? != val
    {
        return err(Errno::EAGAIN);
    }
    let woken = cx.k.futexes.wake(from, n_wake as usize, MATCH_ANY);
    let moved = cx.k.futexes.requeue(from, to, addr2, n_move as usize);
    Ok((woken + moved) as u64)
}

fn sign_extend_12(v: u32) -> i32 {
    ((v << 20) as i32) >> 20
}

fn wake_op(cx: &mut Cx<'_>, addr: u64, private: bool, n: i32, n2: i32, addr2: u64, encoded: u32) -> Io<u64> {
    let mm = cx.task.mm();
    let (key, key2) = (key_of(&mm, addr, private)?, key_of(&mm, addr2, private)?);
    let mut arg = sign_extend_12(encoded >> 12);
    if encoded >> 28 & 8 != 0 {
        arg = 1i32.wrapping_shl(arg as u32 & 31);
    }
    let old = loop {
        let old = load(cx, addr2)?;
        let new = match encoded >> 28 & 7 {
            0 => arg as u32,
            1 => old.wrapping_add(arg as u32),
            2 => old | arg as u32,
            3 => old & !(arg as u32),
            4 => old ^ arg as u32,
            _ => return err(Errno::ENOSYS),
        };
        if cx
            .env
            .plat
            .cmpxchg_u32(addr2, old, new)
            .map_err(|_| Errno::EFAULT)?
            == old
        {
            break old as i32;
        }
    };
    let cmp_arg = sign_extend_12(encoded);
    let second = match encoded >> 24 & 15 {
        0 => old == cmp_arg,
        1 => old != cmp_arg,
        2 => old < cmp_arg,
        3 => old >= cmp_arg,
        4 => old <= cmp_arg,
        5 => old > cmp_arg,
        _ => return err(Errno::ENOSYS),
    };
    let mut woken = cx.k.futexes.wake(key, n.max(1) as usize, MATCH_ANY);
    if second {
        woken += cx.k.futexes.wake(key2, n2.max(1) as usize, MATCH_ANY);
    }
    Ok(woken as u64)
}
