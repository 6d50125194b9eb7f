//! msgget(2), msgsnd(2), msgrcv(2), msgctl(2).

use super::{IPC_64, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, seconds, set_perm, stat_bytes, who};
use crate::args::Ptr;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, err};
use ftl_core::wait::Wake;
use ftl_ipc::sysv::msg::{MSG_COPY, MSGMAX, MSGMNB, Queue};
use ftl_ipc::sysv::{Object, Perm, flag};
use std::rc::Rc;

const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;
/// CAP_SYS_RESOURCE
const SYS_RESOURCE: u64 = 1 << 24;
/// Offset of msg_qbytes in struct msqid64_ds.
const QBYTES: u64 = 88;

/// msgget(2)
pub fn sys_msgget(cx: &mut Cx<'_>, key: i32, flags: i32) -> Io<u64> {
    let caller = who(cx);
    let now = seconds(cx);
    let id = cx.k.sysv.msgs.obtain(
        key,
        flags,
        &caller,
        |_| Ok(()),
        || Ok(Queue::new(Perm::new(key, flags, &caller), now)),
    )?;
    Ok(id as u64)
}

fn find(cx: &Cx<'_>, id: i32) -> Result<Rc<Queue>, Errno> {
    match cx.k.sysv.msgs.get(id) {
        Err(_) if cx.wake() != Wake::Fresh => Err(Errno::EIDRM),
        found => found,
    }
}

/// msgsnd(2)
pub fn sys_msgsnd(cx: &mut Cx<'_>, id: i32, msg: Ptr, size: u64, flags: i32) -> Io<u64> {
    let kind: i64 = cx.get(msg.0)?;
    if size > MSGMAX as u64 || id < 0 || kind < 1 {
        return err(Errno::EINVAL);
    }
    let mut bytes = vec![0; size as usize];
    cx.read(msg.0 + 8, &mut bytes)?;
    let q = find(cx, id)?;
    let caller = who(cx);
    q.perm().check(&caller, WRITE)?;
    let now = seconds(cx);
    if q.send(kind, bytes, caller.pid, now).is_ok() {
        return Ok(0);
    }
    if flags & flag::NOWAIT != 0 {
        return err(Errno::EAGAIN);
    }
    Err(cx.wait(vec![q.queue.on()], Restart::NoHandler))
}

/// msgrcv(2)
pub fn sys_msgrcv(cx: &mut Cx<'_>, id: i32, msg: Ptr, size: u64, want: i64, flags: i32) -> Io<u64> {
    if id < 0 || size as i64 <= -1 {
        return err(Errno::EINVAL);
    }
    if flags & MSG_COPY != 0 {
        return err(Errno::ENOSYS);
    }
    let q = find(cx, id)?;
    let caller = who(cx);
    q.perm().check(&caller, READ)?;
    let now = seconds(cx);
    let room = size.min(usize::MAX as u64) as usize;
    match q.receive(want, room, flags, caller.pid, now) {
        Ok((kind, bytes)) => {
            cx.put(msg.0, &kind)?;
            cx.write(msg.0 + 8, &bytes)?;
            Ok(bytes.len() as u64)
        }
        Err(Errno::ENOMSG) if flags & flag::NOWAIT == 0 => {
            Err(cx.wait(vec![q.queue.on()], Restart::NoHandler))
        }
        Err(e) => Err(e.into()),
    }
}

fn put_stat(cx: &mut Cx<'_>, q: &Queue, at: u64) -> Io<u64> {
    let (s, r, c) = q.times.get();
    let (n, bytes) = q.used();
    let (ps, pr) = q.pids.get();
    let words = [
        s as u64,
        r as u64,
        c as u64,
        bytes as u64,
        n as u64,
        q.limit.get() as u64,
        u64::from(pr) << 32 | u64::from(ps),
        0,
        0,
    ];
    cx.write(at, &stat_bytes(q.perm(), &words))?;
    Ok(0)
}

/// msgctl(2)
pub fn sys_msgctl(cx: &mut Cx<'_>, id: i32, cmd: i32, at: Ptr) -> Io<u64> {
    let cmd = cmd & !IPC_64;
    if matches!(cmd, IPC_INFO | MSG_INFO) {
        let all = cx.k.sysv.msgs.all();
        // struct msginfo: pool, map, max, mnb, mni, ssz, tql, seg.
        let mut v = [
            512_000,
            MSGMNB as i32,
            MSGMAX as i32,
            MSGMNB as i32,
            32_000,
            16,
            MSGMNB as i32,
            0xffff,
        ];
        if cmd == MSG_INFO {
            v[0] = all.len() as i32;
            v[1] = all.iter().map(|q| q.used().0 as i32).sum();
            v[6] = all.iter().map(|q| q.used().1 as i32).sum();
        }
        cx.put(at.0, &v)?;
        return Ok(cx.k.sysv.msgs.top() as u64);
    }
    if matches!(cmd, MSG_STAT | MSG_STAT_ANY) {
        let q = cx.k.sysv.msgs.at(id)?;
        if cmd == MSG_STAT {
            q.perm().check(&who(cx), READ)?;
        }
        put_stat(cx, &q, at.0)?;
        return Ok(q.perm().id.get() as u64);
    }
    let q = cx.k.sysv.msgs.get(id)?;
    let caller = who(cx);
    match cmd {
        IPC_RMID => {
            q.perm().check_owner(&caller)?;
            cx.k.sysv.msgs.remove(&q);
            q.queue.wake_all();
            Ok(0)
        }
        IPC_SET => {
            let limit: u64 = cx.get(at.0 + QBYTES)?;
            let may = cx.task.creds.borrow().caps[0] & SYS_RESOURCE != 0;
            q.perm().check_owner(&caller)?;
            if limit > MSGMNB as u64 && !may {
                return err(Errno::EPERM);
            }
            set_perm(cx, q.perm(), at.0)?;
            q.limit.set(limit as usize);
            let now = seconds(cx);
            let t = q.times.get();
            q.times.set((t.0, t.1, now));
            q.queue.wake_all();
            Ok(0)
        }
        IPC_STAT => {
            q.perm().check(&caller, READ)?;
            put_stat(cx, &q, at.0)
        }
        _ => err(Errno::EINVAL),
    }
}
