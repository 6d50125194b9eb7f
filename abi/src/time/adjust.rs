//! Calls that would set a clock: the image's clocks are the virtual clock's alone, so they can be
//! looked at and not be set, as without CAP_SYS_TIME.

use super::clocks::ClockId;
use super::types::{Timespec, Timeval};
use crate::args::Ptr;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};

const ADJ_OFFSET_SINGLESHOT: u32 = 0x8001;
const ADJ_OFFSET_SS_READ: u32 = 0xa001;
/// STA_UNSYNC
const UNSYNC: u32 = 0x40;
/// TIME_ERROR: the state of a clock that nobody disciplines.
const TIME_ERROR: u64 = 5;
const TIMEX_LEN: usize = 208;

/// settimeofday(2)
pub fn sys_settimeofday(cx: &mut Cx<'_>, tv: Ptr, tz: Ptr) -> Io<u64> {
    if !tv.is_null() {
        let [sec, usec]: [i64; 2] = cx.get(tv.0)?;
        Timeval { sec, usec }.ns()?;
    }
    if !tz.is_null() {
        let _: [i32; 2] = cx.get(tz.0)?;
    }
    err(Errno::EPERM)
}

/// clock_settime(2)
pub fn sys_clock_settime(cx: &mut Cx<'_>, id: i32, ts: Ptr) -> Io<u64> {
    const CLOCK_REALTIME: i32 = 0;
    let clock = ClockId::of(cx, id)?;
    if matches!(clock, ClockId::Wall(_)) && id != CLOCK_REALTIME {
        return err(Errno::EINVAL);
    }
    let t = Timespec::read(cx, ts.0)?;
    if matches!(clock, ClockId::Wall(_)) {
        t.ns()?;
    }
    err(Errno::EPERM)
}

/// adjtimex(2)
pub fn sys_adjtimex(cx: &mut Cx<'_>, buf: Ptr) -> Io<u64> {
    let mut b = [0; TIMEX_LEN];
    cx.read(buf.0, &mut b)?;
    let modes = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    if modes != 0 && modes != ADJ_OFFSET_SS_READ {
        let known = modes & 0x8000 == 0 || modes == ADJ_OFFSET_SINGLESHOT;
        return err(if known { Errno::EPERM } else { Errno::EINVAL });
    }
    let now = Timespec::from_wide(cx.realtime());
    let mut put = |at: usize, v: i64| b[at..at + 8].copy_from_slice(&v.to_le_bytes());
    put(8, 0); // offset
    put(16, 0); // freq
    put(24, 16_000_000); // maxerror
    put(32, 16_000_000); // esterror
    put(40, i64::from(UNSYNC)); // status, with its padding
    put(48, 2); // constant
    put(56, 1); // precision
    put(64, 32_768_000); // tolerance
    put(72, now.sec);
    put(80, now.nsec / 1000);
    put(88, 10_000); // tick
    for at in (96..TIMEX_LEN).step_by(8) {
        put(at, 0);
    }
    cx.write(buf.0, &b)?;
    Ok(TIME_ERROR)
}

/// clock_adjtime(2)
pub fn sys_clock_adjtime(cx: &mut Cx<'_>, id: i32, buf: Ptr) -> Io<u64> {
    match id {
        0 => sys_adjtimex(cx, buf),
        _ => {
            ClockId::of(cx, id)?;
            err(Errno::EOPNOTSUPP)
        }
    }
}
