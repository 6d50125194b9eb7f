//! times(2), getrusage(2).

use super::cpu;
use super::types::{NSEC, Timeval, USER_HZ};
use crate::args::Ptr;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::platform::Ns;

const TICK_NS: u64 = NSEC / USER_HZ;

/// times(2): all CPU time is user time.
pub fn sys_times(cx: &mut Cx<'_>, out: Ptr) -> Io<u64> {
    let now = cx.now();
    cx.k.charge();
    let p = cx.task.process();
    if !out.is_null() {
        let own = cpu::of_process(&p) / TICK_NS;
        let children = p.cpu_ns.get().1 / TICK_NS;
        cx.put(out.0, &[own, 0, children, 0])?;
    }
    // Ticks since boot.
    Ok((now.wrapping_add(cx.core.clock.boot_offset.get())) / TICK_NS)
}

/// struct rusage as wait4(2) and getrusage(2) give it: CPU time and peak resident KiB.
pub fn rusage(cpu_ns: Ns, max_rss_kib: u64) -> [i64; 18] {
    let t = Timeval::from_ns(cpu_ns);
    let mut r = [0; 18];
    r[0] = t.sec;
    r[1] = t.usec;
    r[4] = max_rss_kib as i64;
    r
}

/// getrusage(2)
pub fn sys_getrusage(cx: &mut Cx<'_>, who: i32, out: Ptr) -> Io<u64> {
    const RUSAGE_SELF: i32 = 0;
    const RUSAGE_CHILDREN: i32 = -1;
    const RUSAGE_THREAD: i32 = 1;
    cx.now();
    cx.k.charge();
    let p = cx.task.process();
    let ns = match who {
        RUSAGE_SELF => cpu::of_process(&p),
        RUSAGE_CHILDREN => p.cpu_ns.get().1,
        RUSAGE_THREAD => cx.task.cpu_ns.get(),
        _ => return err(Errno::EINVAL),
    };
    let rss = cx.task.mm().peak.get() / 1024;
    let mut usage = rusage(ns, rss);
    let (waited, lost) = match who {
        RUSAGE_SELF => {
            let threads = p.threads.borrow();
            let live = threads.values().map(|t| t.switches.get());
            live.fold(p.switches.get(), |a, b| (a.0 + b.0, a.1 + b.1))
        }
        RUSAGE_THREAD => cx.task.switches.get(),
        _ => (0, 0),
    };
    // ru_nvcsw, ru_nivcsw
    usage[16] = waited as i64;
    usage[17] = lost as i64;
    cx.put(out.0, &usage)?;
    Ok(0)
}
