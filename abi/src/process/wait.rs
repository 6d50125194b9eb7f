//! wait4(2), waitid(2) (kernel/exit.c do_wait).

use super::{Job, pidfd, reap};
use crate::args::{Bits, Fd, Ptr};
use crate::cx::Cx;
use crate::signal::sig;
use crate::task::{Exit, Pid, Process};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, err};
use ftl_core::wait::Tid;
use std::rc::Rc;

const WNOHANG: u64 = 1;
const WUNTRACED: u64 = 2;
const WEXITED: u64 = 4;
const WCONTINUED: u64 = 8;
const WNOWAIT: u64 = 0x100_0000;
const WNOTHREAD: u64 = 0x2000_0000;
const WALL: u64 = 0x4000_0000;
const WCLONE: u64 = 0x8000_0000;

/// Which children.
enum Who {
    Any,
    Pid(Pid),
    Group(Pid),
}

/// What happened to a child.
enum What {
    Exited(Exit),
    Stopped(u8),
    Continued,
    /// A stop of a traced thread: signal, and event above it.
    Trapped(u32),
}

struct Found {
    pid: Pid,
    uid: u32,
    what: What,
    times: (u64, u64),
}

fn eligible(cx: &Cx<'_>, who: &Who, options: u64, c: &Process) -> bool {
    let named = match who {
        Who::Any => true,
        Who::Pid(p) => c.pid == *p,
        Who::Group(g) => c.pgid.get() == *g,
    };
    if !named || (options & WNOTHREAD != 0 && c.parent_thread.get() != cx.task.tid) {
        return false;
    }
    let clone_child = c.exit_signal.get() != sig::SIGCHLD as i32;
    options & WALL != 0 || clone_child == (options & WCLONE != 0)
}

fn look(options: u64, c: &Process, traced: bool) -> Option<What> {
    let keep = options & WNOWAIT != 0;
    if let Some(exit) = c.exit.get() {
        return (options & WEXITED != 0).then_some(What::Exited(exit));
    }
    let job = c.job.get();
    if traced {
        // Its stops are told of thread by thread.
        return None;
    }
    if options & WUNTRACED != 0
        && job.report_stop
        && let Some(signo) = job.stopped
    {
        c.job.set(Job {
            report_stop: keep,
            ..job
        });
        return Some(What::Stopped(signo));
    }
    if options & WCONTINUED != 0 && job.report_cont {
        c.job.set(Job {
            report_cont: keep,
            ..job
        });
        return Some(What::Continued);
    }
    None
}

/// Threads that the caller traces, and those that have ended.
fn look_traced(cx: &Cx<'_>, who: &Who, options: u64, me: &Rc<Process>, any: &mut bool) -> Option<Found> {
    let named = |tid: Tid, pgid: Pid| match who {
        Who::Any => true,
        Who::Pid(p) => tid == *p,
        Who::Group(g) => pgid == *g,
    };
    let keep = options & WNOWAIT != 0;
    if options & WEXITED != 0 {
        let mut ghosts = me.ghosts.borrow_mut();
        if let Some(i) = ghosts.iter().position(|g| named(g.tid, g.pgid)) {
            let g = if keep { ghosts[i] } else { ghosts.remove(i) };
            return Some(Found {
                pid: g.tid,
                uid: g.uid,
                what: What::Exited(g.exit),
                times: (0, 0),
            });
        }
    }
    for t in crate::ptrace::tracees(cx.k, me) {
        let p = t.process();
        if !named(t.tid, p.pgid.get()) {
            continue;
        }
        *any = true;
        if let Some(code) = t.trace.unreported(!keep) {
            return Some(Found {
                pid: t.tid,
                uid: t.creds.borrow().ruid,
                what: What::Trapped(code),
                times: p.cpu_ns.get(),
            });
        }
    }
    None
}

fn wait(cx: &mut Cx<'_>, who: &Who, options: u64) -> Io<Option<Found>> {
    let me = cx.task.process();
    let children: Vec<Rc<Process>> = match who {
        Who::Pid(p) => me.children.borrow().get(p).cloned().into_iter().collect(),
        _ => me.children.borrow().values().cloned().collect(),
    };
    let mut any = false;
    if let Some(found) = look_traced(cx, who, options, &me, &mut any) {
        return Ok(Some(found));
    }
    for c in children.iter().filter(|c| eligible(cx, who, options, c)) {
        any = true;
        let traced = cx.k.traced.get() > 0 && {
            let threads = c.threads.borrow();
            threads
                .values()
                .any(|t| t.trace.tracer().is_some_and(|(p, _)| Rc::ptr_eq(&p, &me)))
        };
        if let Some(what) = look(options, c, traced) {
            let uid = match what {
                What::Exited(_) => c.zombie_uid.get(),
                _ => c.any_thread().map_or(0, |t| t.creds.borrow().ruid),
            };
            let found = Found {
                pid: c.pid,
                uid,
                times: c.cpu_ns.get(),
                what,
            };
            if matches!(found.what, What::Exited(_)) && options & WNOWAIT == 0 {
                reap(cx.k, c);
            }
            return Ok(Some(found));
        }
    }
    if !any {
        return err(Errno::ECHILD);
    }
    if options & WNOHANG != 0 {
        return Ok(None);
    }
    Err(cx.wait(vec![me.child_wait.on()], Restart::Sys))
}

/// struct rusage of a child: times only, split evenly being impossible all of it is user time.
fn rusage(times: (u64, u64)) -> [u64; 18] {
    let total = times.0 + times.1;
    let mut r = [0u64; 18];
    r[0] = total / 1_000_000_000;
    r[1] = total % 1_000_000_000 / 1000;
    r
}

/// wait4(2)
pub fn sys_wait4(cx: &mut Cx<'_>, pid: i32, status: Ptr, options: Bits, usage: Ptr) -> Io<u64> {
    let options = options.0 & 0xffff_ffff;
    if options & !(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WALL | WCLONE) != 0 {
        return err(Errno::EINVAL);
    }
    let who = match pid {
        i32::MIN => return err(Errno::ESRCH),
        -1 => Who::Any,
        0 => Who::Group(cx.task.process().pgid.get()),
        p if p < 0 => Who::Group(Tid(p.unsigned_abs())),
        p => Who::Pid(Tid(p as u32)),
    };
    let Some(found) = wait(cx, &who, options | WEXITED)? else {
        return Ok(0);
    };
    let word: i32 = match found.what {
        What::Exited(e) => e.status(),
        What::Stopped(s) => i32::from(s) << 8 | 0x7f,
        What::Continued => 0xffff,
        What::Trapped(code) => (code as i32) << 8 | 0x7f,
    };
    if !status.is_null() {
        cx.put(status.0, &word)?;
    }
    if !usage.is_null() {
        cx.put(usage.0, &rusage(found.times))?;
    }
    Ok(u64::from(found.pid.0))
}

/// waitid(2)
pub fn sys_waitid(cx: &mut Cx<'_>, kind: i32, id: i32, info: Ptr, options: Bits, usage: Ptr) -> Io<u64> {
    let mut options = options.0 & 0xffff_ffff;
    let known = WNOHANG | WUNTRACED | WEXITED | WCONTINUED | WNOWAIT | WNOTHREAD | WALL | WCLONE;
    if options & !known != 0 || options & (WUNTRACED | WEXITED | WCONTINUED) == 0 {
        return err(Errno::EINVAL);
    }
    let who = match kind {
        0 => Who::Any,
        1 if id > 0 => Who::Pid(Tid(id as u32)),
        2 if id > 0 => Who::Group(Tid(id as u32)),
        2 if id == 0 => Who::Group(cx.task.process().pgid.get()),
        3 if id >= 0 => {
            let open = cx.task.files().get(id)?;
            if open.nonblocking() {
                options |= WNOHANG;
            }
            Who::Pid(pidfd::process_of(cx, Fd(id))?.pid)
        }
        _ => return err(Errno::EINVAL),
    };
    let found = wait(cx, &who, options)?;
    if kind == 3 && found.is_none() && cx.task.files().get(id)?.nonblocking() {
        return err(Errno::EAGAIN);
    }
    // struct siginfo up to si_status: signo, errno, code, pad, pid, uid, status.
    let mut out = [0i32; 7];
    if let Some(f) = &found {
        let (code, status) = match f.what {
            What::Exited(Exit::Code(c)) => (1, i32::from(c)),
            What::Exited(Exit::Signal(s, core)) => (if core { 3 } else { 2 }, i32::from(s)),
            What::Stopped(s) => (5, i32::from(s)),
            What::Continued => (6, sig::SIGCONT as i32),
            What::Trapped(code) => (4, code as i32),
        };
        out = [
            sig::SIGCHLD as i32,
            0,
            code,
            0,
            f.pid.0 as i32,
            f.uid as i32,
            status,
        ];
        if !usage.is_null() {
            cx.put(usage.0, &rusage(f.times))?;
        }
    }
    if !info.is_null() {
        cx.put(info.0, &out)?;
    }
    Ok(0)
}
