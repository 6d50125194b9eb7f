//! epoll_create(2), epoll_ctl(2), epoll_wait(2) and their forms.

use super::{sigmask::with_mask, time};
use crate::args::{Fd, Ptr};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, Restart, err};
use ftl_core::layout::is_guest_range;
use ftl_core::platform::Ns;
use ftl_core::wait::Poll;
use ftl_ipc::epoll::{Description, Epoll, flag};
use std::rc::Rc;

/// Bytes of struct epoll_event, which is packed on x86-64.
const EVENT: u64 = 12;
/// EP_MAX_EVENTS
const MAX_EVENTS: i32 = i32::MAX / EVENT as i32;
const ADD: i32 = 1;
const DEL: i32 = 2;
const MOD: i32 = 3;
/// What may stand beside EPOLLEXCLUSIVE.
const EXCLUSIVE_OK: u32 = Poll::IN.bits()
    | Poll::OUT.bits()
    | Poll::ERR.bits()
    | Poll::HUP.bits()
    | flag::WAKEUP
    | flag::ET
    | flag::EXCLUSIVE;

impl Description for OpenFile {
    fn file(&self) -> &FileRef {
        &self.file
    }
}

/// epoll_create1(2)
pub fn sys_epoll_create1(cx: &mut Cx<'_>, flags: i32) -> Io<u64> {
    if flags & !oflag::O_CLOEXEC != 0 {
        return err(Errno::EINVAL);
    }
    let open = OpenFile::new(Epoll::new(&mut cx.env), oflag::O_RDWR);
    Ok(cx.new_fd(open, flags != 0)? as u64)
}

/// epoll_create(2)
pub fn sys_epoll_create(cx: &mut Cx<'_>, size: i32) -> Io<u64> {
    if size <= 0 {
        return err(Errno::EINVAL);
    }
    sys_epoll_create1(cx, 0)
}

fn plain(cx: &Cx<'_>, fd: Fd) -> Result<Rc<OpenFile>, Errno> {
    let open = cx.task.files().get(fd.0)?;
    if open.flags.get() & oflag::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    Ok(open)
}

/// epoll_ctl(2)
pub fn sys_epoll_ctl(cx: &mut Cx<'_>, ep: Fd, op: i32, fd: Fd, event: Ptr) -> Io<u64> {
    let (mut events, mut data) = (0u32, 0u64);
    if op != DEL {
        let raw: [u32; 3] = cx.get(event.0)?;
        events = raw[0];
        data = u64::from(raw[2]) << 32 | u64::from(raw[1]);
    }
    let holder = plain(cx, ep)?;
    let target = plain(cx, fd)?;
    if target.file.queue().is_none() {
        return err(Errno::EPERM);
    }
    let Some(set) = holder.file.as_any().downcast_ref::<Epoll>() else {
        return err(Errno::EINVAL);
    };
    if Rc::ptr_eq(&holder, &target) {
        return err(Errno::EINVAL);
    }
    events &= !flag::WAKEUP;
    if op != DEL && events & flag::EXCLUSIVE != 0 {
        let nested = target.file.as_any().is::<Epoll>();
        if op != ADD || nested || events & !EXCLUSIVE_OK != 0 {
            return err(Errno::EINVAL);
        }
    }
    let target: Rc<dyn Description> = target;
    match op {
        ADD => set.add(&mut cx.env, fd.0, &target, events, data)?,
        MOD => set.modify(&mut cx.env, fd.0, &target, events, data)?,
        DEL => set.delete(fd.0, &target)?,
        _ => return err(Errno::EINVAL),
    }
    Ok(0)
}

/// How long a wait may last.
#[derive(Clone, Copy)]
enum Limit {
    Forever,
    At(Ns),
    Now,
}

impl Limit {
    fn ms(ms: i32) -> Option<Ns> {
        u64::try_from(ms).ok().map(|ms| ms * 1_000_000)
    }
    fn new(cx: &mut Cx<'_>, span: Option<Ns>) -> Limit {
        match span {
            None => Limit::Forever,
            Some(0) => Limit::Now,
            Some(ns) => Limit::At(cx.deadline_in(ns)),
        }
    }
}

fn wait(cx: &mut Cx<'_>, ep: Fd, events: Ptr, max: i32, span: Option<Ns>) -> Io<u64> {
    if max <= 0 || max > MAX_EVENTS {
        return err(Errno::EINVAL);
    }
    if !is_guest_range(events.0, max as u64 * EVENT) {
        return err(Errno::EFAULT);
    }
    let open = plain(cx, ep)?;
    let Some(set) = open.file.as_any().downcast_ref::<Epoll>() else {
        return err(Errno::EINVAL);
    };
    let n = set.collect(&mut cx.env, max as usize, &mut |env, i, bits, data| {
        let raw = [bits, data as u32, (data >> 32) as u32];
        env.put(events.0 + i as u64 * EVENT, &raw)
    })?;
    if n > 0 {
        return Ok(n as u64);
    }
    let limit = Limit::new(cx, span);
    let deadline = match limit {
        Limit::Now => {
            cx.k.yield_now();
            return Ok(0);
        }
        _ if cx.timed_out() => return Ok(0),
        Limit::At(t) => Some(t),
        Limit::Forever => None,
    };
    let on = set.waiters().on_exclusive(Poll::IN.bits());
    Err(cx.wait_until(vec![on], deadline, Restart::Never))
}

/// epoll_wait(2)
pub fn sys_epoll_wait(cx: &mut Cx<'_>, ep: Fd, events: Ptr, max: i32, timeout_ms: i32) -> Io<u64> {
    wait(cx, ep, events, max, Limit::ms(timeout_ms))
}

/// epoll_pwait(2)
pub fn sys_epoll_pwait(
    cx: &mut Cx<'_>,
    ep: Fd,
    events: Ptr,
    max: i32,
    timeout_ms: i32,
    mask: Ptr,
    size: u64,
) -> Io<u64> {
    with_mask(cx, mask, size, |cx| {
        wait(cx, ep, events, max, Limit::ms(timeout_ms))
    })
}

/// epoll_pwait2(2)
pub fn sys_epoll_pwait2(
    cx: &mut Cx<'_>,
    ep: Fd,
    events: Ptr,
    max: i32,
    timeout: Ptr,
    mask: Ptr,
    size: u64,
) -> Io<u64> {
    let span = if timeout.is_null() {
        None
    } else {
        Some(time::timespec(cx, timeout)?)
    };
    with_mask(cx, mask, size, |cx| wait(cx, ep, events, max, span))
}
