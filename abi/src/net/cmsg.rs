//! Control messages: between the guest's buffers and what a socket gives and takes.

use crate::cx::Cx;
use crate::fdtable::OpenFile;
use ftl_core::errno::Errno;
use ftl_core::socket::{Control, Incoming, Outgoing, Ucred, num};
use std::rc::Rc;

/// Bytes of struct cmsghdr.
const HEAD: usize = 16;
/// SCM_MAX_FD
const MAX_FD: usize = 253;
/// net.core.optmem_max
const OPTMEM_MAX: u64 = 131_072;

const fn align(n: usize) -> usize {
    (n + 7) & !7
}

/// Reads a control buffer into the message; SCM_RIGHTS and SCM_CREDENTIALS are taken apart for
/// UNIX sockets (scm_send).
pub fn read(cx: &mut Cx<'_>, domain: i32, at: u64, len: u64, msg: &mut Outgoing) -> Result<(), Errno> {
    if len == 0 {
        return Ok(());
    }
    if len > OPTMEM_MAX {
        return Err(Errno::ENOBUFS);
    }
    let mut raw = vec![0; len as usize];
    cx.read(at, &mut raw)?;
    let mut pos = 0;
    while pos + HEAD <= raw.len() {
        let word = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| raw[pos + i + k]));
        let clen = (u64::from(word(4)) << 32 | u64::from(word(0))) as usize;
        let (level, kind) = (word(8) as i32, word(12) as i32);
        if clen < HEAD || clen > raw.len() - pos {
            return Err(Errno::EINVAL);
        }
        let data = &raw[pos + HEAD..pos + clen];
        if domain == num::AF_UNIX {
            if level == num::SOL_SOCKET {
                unix_control(cx, kind, data, msg)?;
            }
        } else {
            msg.control.push(Control {
                level,
                kind,
                data: data.to_vec(),
            });
        }
        pos += align(clen);
    }
    Ok(())
}

fn unix_control(cx: &mut Cx<'_>, kind: i32, data: &[u8], msg: &mut Outgoing) -> Result<(), Errno> {
    let words = || {
        data.chunks_exact(4)
            .map(|c| i32::from_le_bytes(std::array::from_fn(|k| c[k])))
    };
    match kind {
        num::SCM_RIGHTS => {
            if msg.rights.len() + data.len() / 4 > MAX_FD {
                return Err(Errno::EINVAL);
            }
            let files = cx.task.files();
            for fd in words() {
                let open = files.get(fd)?;
                if open.flags.get() & crate::fdtable::oflag::O_PATH != 0 {
                    return Err(Errno::EBADF);
                }
                if crate::uring::Ring::of(&open).is_some() {
                    return Err(Errno::EINVAL);
                }
                msg.rights.push(open);
            }
            Ok(())
        }
        num::SCM_CREDENTIALS => {
            if data.len() != 12 {
                return Err(Errno::EINVAL);
            }
            let v: Vec<u32> = words().map(|w| w as u32).collect();
            let creds = Ucred {
                pid: v[0],
                uid: v[1],
                gid: v[2],
            };
            check_creds(cx, creds)?;
            msg.creds = Some(creds);
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// scm_check_creds: only root may claim to be someone else.
fn check_creds(cx: &Cx<'_>, c: Ucred) -> Result<(), Errno> {
    let me = cx.task.creds.borrow();
    if c.uid == u32::MAX || c.gid == u32::MAX {
        return Err(Errno::EINVAL);
    }
    let root = me.euid == 0;
    let uid_ok = [me.ruid, me.euid, me.suid].contains(&c.uid);
    let gid_ok = [me.rgid, me.egid, me.sgid].contains(&c.gid);
    let pid_ok = c.pid == cx.task.process().pid.0;
    let honest = uid_ok && gid_ok && pid_ok;
    if !root && !honest {
        return Err(Errno::EPERM);
    }
    if !pid_ok && !cx.k.procs.borrow().contains_key(&ftl_core::wait::Tid(c.pid)) {
        return Err(Errno::ESRCH);
    }
    Ok(())
}

/// A guest's control buffer being filled.
struct Room {
    at: u64,
    left: usize,
    used: u64,
}

impl Room {
    /// put_cmsg; false if it had to be cut.
    fn put(&mut self, cx: &mut Cx<'_>, level: i32, kind: i32, data: &[u8]) -> bool {
        if self.left < HEAD {
            return false;
        }
        let whole = HEAD + data.len();
        let len = whole.min(self.left);
        let mut raw = Vec::with_capacity(len);
        raw.extend_from_slice(&(len as u64).to_le_bytes());
        raw.extend_from_slice(&level.to_le_bytes());
        raw.extend_from_slice(&kind.to_le_bytes());
        raw.extend_from_slice(&data[..len - HEAD]);
        if cx.write(self.at, &raw).is_err() {
            return false;
        }
        let space = align(whole).min(self.left);
        self.at += space as u64;
        self.left -= space;
        self.used += space as u64;
        len == whole
    }
}

/// Writes what a receive found to the guest's control buffer: bytes used and whether it was cut.
pub fn write(cx: &mut Cx<'_>, at: u64, len: u64, msg: &mut Incoming) -> (u64, bool) {
    let mut room = Room {
        at,
        left: if at == 0 { 0 } else { len.min(1 << 31) as usize },
        used: 0,
    };
    let mut whole = true;
    for c in std::mem::take(&mut msg.control) {
        whole &= room.put(cx, c.level, c.kind, &c.data);
    }
    if let Some(c) = msg.creds.take() {
        whole &= room.put(cx, num::SOL_SOCKET, num::SCM_CREDENTIALS, &c.to_bytes());
    }
    let rights = std::mem::take(&mut msg.rights);
    if !rights.is_empty() {
        whole &= put_rights(cx, &mut room, rights, msg.flags & num::MSG_CMSG_CLOEXEC != 0);
    }
    (room.used, !whole)
}

/// scm_detach_fds: as many descriptors as there is room for; the rest are closed.
fn put_rights(cx: &mut Cx<'_>, room: &mut Room, rights: Vec<Rc<dyn std::any::Any>>, cloexec: bool) -> bool {
    let max = room.left.saturating_sub(HEAD) / 4;
    let total = rights.len();
    let mut data = Vec::new();
    for r in rights.into_iter().take(max) {
        let Ok(open) = r.downcast::<OpenFile>() else {
            continue;
        };
        match cx.new_fd(open, cloexec) {
            Ok(fd) => data.extend_from_slice(&fd.to_le_bytes()),
            Err(_) => break,
        }
    }
    let n = data.len() / 4;
    if n > 0 {
        room.put(cx, num::SOL_SOCKET, num::SCM_RIGHTS, &data);
    }
    n == total
}
