//! mq_open(2) and its relatives. The queues are in `ftl_ipc::mqueue`.

use crate::args::{Fd, Path, Ptr};
use crate::cx::Cx;
use crate::event::time;
use crate::fdtable::{OpenFile, oflag};
use crate::fs::perm;
use crate::signal::{SigInfo, code};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, err};
use ftl_core::platform::{Ns, Stat};
use ftl_core::wait::{Poll, Wake};
use ftl_ipc::anon::Inode;
use ftl_ipc::mqueue::{
    HARD_MSG_MAX, HARD_MSGSIZE_MAX, MQueue, MSG_MAX, MSGSIZE_MAX, MqFile, Notify, PRIO_MAX, QUEUES_MAX,
};
use std::rc::Rc;

const CAP_SYS_RESOURCE: u64 = 1 << 24;
const NAME_MAX: usize = 255;
const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;

/// The name without its slash, which the C library takes off.
fn name_of(cx: &mut Cx<'_>, at: Path) -> Result<Vec<u8>, Errno> {
    let name = cx.path(at.0)?;
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    if name.contains(&b'/') || name == b"." || name == b".." {
        return Err(Errno::EACCES);
    }
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(name)
}

fn stat_of(mq: &MQueue) -> Stat {
    mq.inode.stat(0, mq.mode)
}

fn create(cx: &mut Cx<'_>, mode: u32, attr: Ptr) -> Result<Rc<MQueue>, Errno> {
    let privileged = cx.task.creds.borrow().caps[0] & CAP_SYS_RESOURCE != 0;
    let (max, size) = if attr.is_null() {
        (MSG_MAX, MSGSIZE_MAX)
    } else {
        let a: [i64; 8] = cx.get(attr.0)?;
        (a[1], a[2])
    };
    let limits = if privileged {
        (HARD_MSG_MAX, HARD_MSGSIZE_MAX)
    } else {
        (MSG_MAX, MSGSIZE_MAX)
    };
    if max <= 0 || size <= 0 || max > limits.0 || size > limits.1 {
        return Err(Errno::EINVAL);
    }
    if cx.k.mqueues.0.borrow().len() >= QUEUES_MAX && !privileged {
        return Err(Errno::ENOSPC);
    }
    let mode = mode & 0o7777 & !cx.task.fs.borrow().umask.get();
    let (uid, gid) = {
        let c = cx.task.creds.borrow();
        (c.fsuid, c.fsgid)
    };
    let inode = Inode::new(&mut cx.env, uid, gid);
    Ok(Rc::new(MQueue::new(inode, mode, max, size)))
}

/// mq_open(2)
pub fn sys_mq_open(cx: &mut Cx<'_>, name: Path, flags: i32, mode: u32, attr: Ptr) -> Io<u64> {
    let name = name_of(cx, name)?;
    cx.fd_available()?;
    let known = cx.k.mqueues.0.borrow().get(&name).cloned();
    let mq = match known {
        Some(_) if flags & (oflag::O_CREAT | oflag::O_EXCL) == oflag::O_CREAT | oflag::O_EXCL => {
            return err(Errno::EEXIST);
        }
        Some(q) => {
            let want = match flags & oflag::O_ACCMODE {
                oflag::O_RDONLY => perm::R,
                oflag::O_WRONLY => perm::W,
                oflag::O_RDWR => perm::R | perm::W,
                _ => return err(Errno::EINVAL),
            };
            perm::check(&cx.task.creds.borrow(), &stat_of(&q), want)?;
            q
        }
        None if flags & oflag::O_CREAT == 0 => return err(Errno::ENOENT),
        None => {
            let q = create(cx, mode, attr)?;
            cx.k.mqueues.0.borrow_mut().insert(name.clone(), q.clone());
            q
        }
    };
    let status = flags & (oflag::O_ACCMODE | oflag::O_NONBLOCK);
    let open = OpenFile::new(Rc::new(MqFile { mq, name }), status);
    Ok(cx.new_fd(open, true)? as u64)
}

/// mq_unlink(2)
pub fn sys_mq_unlink(cx: &mut Cx<'_>, name: Path) -> Io<u64> {
    let name = name_of(cx, name)?;
    let known = cx.k.mqueues.0.borrow().get(&name).cloned();
    let mq = known.ok_or(Errno::ENOENT)?;
    let c = cx.task.creds.borrow().clone();
    // The file system of queues is a sticky directory of root.
    if c.fsuid != mq.inode.uid && c.euid != 0 {
        return err(Errno::EPERM);
    }
    cx.k.mqueues.0.borrow_mut().remove(&name);
    Ok(0)
}

fn queue_of(cx: &Cx<'_>, fd: Fd) -> Result<(Rc<OpenFile>, Rc<MQueue>), Errno> {
    let open = cx.task.files().get(fd.0)?;
    let mq = match open.file.as_any().downcast_ref::<MqFile>() {
        Some(f) => f.mq.clone(),
        None => return Err(Errno::EBADF),
    };
    Ok((open, mq))
}

/// An absolute time on CLOCK_REALTIME as a deadline; fixed on the call's first run.
fn deadline(cx: &mut Cx<'_>, at: Ptr) -> Result<Option<Ns>, Errno> {
    if at.is_null() {
        return Ok(None);
    }
    let want = time::timespec(cx, at)?;
    if cx.wake() == Wake::Fresh {
        let (now, real) = (cx.now(), cx.core.clock.real_offset.get() as i64);
        let ahead = i128::from(want) - i128::from(now) - i128::from(real);
        let at = now.saturating_add(u64::try_from(ahead).unwrap_or(0));
        cx.deadline_at(at);
    }
    Ok(cx.task.entity.deadline.get())
}

/// Waits for `what`, or says why not.
fn wait(cx: &mut Cx<'_>, open: &OpenFile, mq: &MQueue, what: Poll, until: Option<Ns>) -> Io<u64> {
    if open.nonblocking() {
        return err(Errno::EAGAIN);
    }
    if cx.timed_out() || until.is_some_and(|t| t <= cx.core.clock.last()) {
        return err(Errno::ETIMEDOUT);
    }
    let on = mq.waiters().on_exclusive(what.bits());
    Err(cx.wait_until(vec![on], until, Restart::Sys))
}

/// mq_timedsend(2)
pub fn sys_mq_timedsend(cx: &mut Cx<'_>, fd: Fd, msg: Ptr, len: u64, prio: u32, timeout: Ptr) -> Io<u64> {
    if prio >= PRIO_MAX {
        return err(Errno::EINVAL);
    }
    let until = deadline(cx, timeout)?;
    let (open, mq) = queue_of(cx, fd)?;
    if !open.writable() {
        return err(Errno::EBADF);
    }
    if len > mq.size as u64 {
        return err(Errno::EMSGSIZE);
    }
    let mut bytes = vec![0; len as usize];
    cx.read(msg.0, &mut bytes)?;
    match mq.send(bytes, prio) {
        Ok(None) => Ok(0),
        Ok(Some(n)) => {
            tell(cx, n);
            Ok(0)
        }
        Err(_) => wait(cx, &open, &mq, Poll::OUT, until),
    }
}

/// The last byte of a cookie says what has happened.
const WOKEN: u8 = 1;
const REMOVED: u8 = 2;

/// SIGEV_THREAD: the process' helper thread reads its cookie from the socket.
fn send_cookie(n: &Notify, what: u8) {
    if let Some((socket, mut cookie)) = n.thread.clone()
        && let Some(s) = socket.as_any().downcast_ref::<crate::net::netlink::Netlink>()
    {
        cookie[31] = what;
        s.deliver(cookie.to_vec());
    }
}

/// A process lets go of a queue: what it is notified of there is over (mqueue_flush_file).
pub fn closed(cx: &Cx<'_>, open: &OpenFile) {
    if let Some(f) = open.file.as_any().downcast_ref::<MqFile>()
        && let Ok(Some(old)) = f.mq.set_notify(cx.task.process().pid.0, None)
    {
        send_cookie(&old, REMOVED);
    }
}

fn tell(cx: &mut Cx<'_>, n: Notify) {
    send_cookie(&n, WOKEN);
    let target = cx.k.procs.borrow().get(&ftl_core::wait::Tid(n.pid)).cloned();
    if let Some(p) = target.filter(|_| n.signo != 0) {
        let me = crate::net::real(cx);
        let info = SigInfo::queue(n.signo, code::SI_MESGQ, me.pid, me.uid, n.value);
        crate::signal::send_process(cx.k, cx.env.plat, &p, info);
    }
}

/// mq_timedreceive(2)
pub fn sys_mq_timedreceive(
    cx: &mut Cx<'_>,
    fd: Fd,
    buf: Ptr,
    len: u64,
    prio_at: Ptr,
    timeout: Ptr,
) -> Io<u64> {
    let until = deadline(cx, timeout)?;
    let (open, mq) = queue_of(cx, fd)?;
    if !open.readable() {
        return err(Errno::EBADF);
    }
    if len < mq.size as u64 {
        return err(Errno::EMSGSIZE);
    }
    let Ok((bytes, prio)) = mq.receive() else {
        let stop = wait(cx, &open, &mq, Poll::IN, until);
        if matches!(stop, Err(ftl_core::io::Stop::Block(_))) {
            mq.begin_receive(&cx.task.entity);
        }
        return stop;
    };
    if !prio_at.is_null() {
        cx.put(prio_at.0, &prio)?;
    }
    cx.write(buf.0, &bytes)?;
    Ok(bytes.len() as u64)
}

/// mq_notify(2)
pub fn sys_mq_notify(cx: &mut Cx<'_>, fd: Fd, event: Ptr) -> Io<u64> {
    let pid = cx.task.process().pid.0;
    let n = if event.is_null() {
        None
    } else {
        // struct sigevent: value, signo, notify.
        let w: [u64; 2] = cx.get(event.0)?;
        let signo = w[1] as u32;
        match (w[1] >> 32) as i32 {
            SIGEV_NONE => Some(Notify {
                pid,
                signo: 0,
                value: 0,
                thread: None,
            }),
            SIGEV_SIGNAL if (1..=64).contains(&signo) => Some(Notify {
                pid,
                signo,
                value: w[0],
                thread: None,
            }),
            SIGEV_THREAD => {
                let mut cookie = [0; 32];
                cx.read(w[0], &mut cookie)?;
                let socket = cx.task.files().get(signo as i32)?.file.clone();
                if !socket.as_any().is::<crate::net::netlink::Netlink>() {
                    return err(match socket.socket() {
                        Some(_) => Errno::EINVAL,
                        None => Errno::ENOTSOCK,
                    });
                }
                Some(Notify {
                    pid,
                    signo: 0,
                    value: 0,
                    thread: Some((socket, cookie)),
                })
            }
            _ => return err(Errno::EINVAL),
        }
    };
    let (_, mq) = queue_of(cx, fd)?;
    // Who has ended is notified of nothing any more.
    if let Some(old) = mq.notified().filter(|p| *p != pid) {
        let gone = match cx.k.procs.borrow().get(&ftl_core::wait::Tid(old)) {
            Some(p) => p.exit.get().is_some(),
            None => true,
        };
        if gone {
            mq.set_notify(old, None)?;
        }
    }
    if let Some(old) = mq.set_notify(pid, n)? {
        send_cookie(&old, REMOVED);
    }
    Ok(0)
}

/// mq_getsetattr(2)
pub fn sys_mq_getsetattr(cx: &mut Cx<'_>, fd: Fd, new: Ptr, old: Ptr) -> Io<u64> {
    let nonblock = i64::from(oflag::O_NONBLOCK);
    let set = if new.is_null() {
        None
    } else {
        let a: [i64; 8] = cx.get(new.0)?;
        if a[0] & !nonblock != 0 {
            return err(Errno::EINVAL);
        }
        Some(a[0] as i32)
    };
    let (open, mq) = queue_of(cx, fd)?;
    let flags = i64::from(open.flags.get() & oflag::O_NONBLOCK);
    if let Some(f) = set {
        open.flags.set(open.flags.get() & !oflag::O_NONBLOCK | f);
    }
    if !old.is_null() {
        cx.put(old.0, &[flags, mq.max, mq.size, mq.count(), 0, 0, 0, 0])?;
    }
    Ok(0)
}
