//! Receiving, with buffers that are chosen when there is something to receive.

use super::job::Job;
use super::num::{Sqe, cqe, sqe};
use super::ops::{FD, Out, RECV_MULTISHOT, short};
use super::ring::Ring;
use crate::args::{Bits, Ptr};
use crate::cx::Cx;
use crate::net::{self, msg};
use ftl_core::errno::Errno;
use ftl_core::io::err;

/// IORING_OP_RECV
pub fn receive(cx: &mut Cx<'_>, ring: &Ring, job: &Job, s: &Sqe) -> Out {
    let (mut addr, mut len, mut flags) = (s.addr, u64::from(s.len), 0);
    if let Some(f) = job.file()
        && let Err(e) = net::socket_of(&f)
    {
        return Out::of(err(e));
    }
    let select = s.has(sqe::BUFFER_SELECT);
    if select {
        match ring.next_buffer(cx, s.buf) {
            Ok(b) => {
                addr = b.addr;
                len = if len == 0 {
                    u64::from(b.len)
                } else {
                    len.min(u64::from(b.len))
                };
                flags = cqe::BUFFER | u32::from(b.bid) << cqe::BUFFER_SHIFT;
            }
            Err(e) => return Out::of(err(e)),
        }
    }
    let bits = Bits(u64::from(s.op_flags));
    match msg::sys_recvfrom(cx, FD, Ptr(addr), len, bits, Ptr(0), Ptr(0)) {
        Ok(n) => {
            // The end of a stream takes no buffer.
            let used = select && n > 0;
            if used {
                ring.use_buffer(s.buf);
            } else {
                flags = 0;
            }
            if s.ioprio & RECV_MULTISHOT != 0 && n > 0 {
                return Out::More(n as i32, flags);
            }
            short(Out::Done(n as i64, flags, false), s.op_flags, len)
        }
        Err(stop) => Out::stop(stop),
    }
}

/// IORING_OP_RECVMSG
pub fn receive_message(cx: &mut Cx<'_>, ring: &Ring, s: &Sqe) -> Out {
    let mut flags = 0;
    let select = s.has(sqe::BUFFER_SELECT);
    if select {
        let b = match ring.next_buffer(cx, s.buf) {
            Ok(b) => b,
            Err(e) => return Out::of(err(e)),
        };
        flags = cqe::BUFFER | u32::from(b.bid) << cqe::BUFFER_SHIFT;
        if let Err(e) = point_at(cx, s.addr, b.addr, b.len) {
            return Out::of(err(e));
        }
    }
    match msg::sys_recvmsg(cx, FD, Ptr(s.addr), Bits(u64::from(s.op_flags))) {
        Ok(n) => {
            let used = select && n > 0;
            if used {
                ring.use_buffer(s.buf);
            } else {
                flags = 0;
            }
            Out::Done(n as i64, flags, false)
        }
        Err(stop) => Out::stop(stop),
    }
}

/// The one buffer of a lent msghdr becomes the chosen one: EINVAL if there are several.
fn point_at(cx: &Cx<'_>, header: u64, addr: u64, len: u32) -> Result<(), Errno> {
    let mut lent = cx.core.lent.borrow_mut();
    let find = |lent: &[ftl_core::kcore::Lent], a: u64| lent.iter().position(|l| l.addr == a);
    let h = find(&lent, header).ok_or(Errno::EFAULT)?;
    let word = |b: &[u8], i: usize| u64::from_le_bytes(std::array::from_fn(|k| b[i + k]));
    let (iov, n) = (word(&lent[h].bytes, 16), word(&lent[h].bytes, 24));
    if n > 1 {
        return Err(Errno::EINVAL);
    }
    let mut new = addr.to_le_bytes().to_vec();
    let want = match find(&lent, iov) {
        Some(i) if n == 1 => word(&lent[i].bytes, 8),
        _ => 0,
    };
    let len = if want == 0 {
        u64::from(len)
    } else {
        want.min(u64::from(len))
    };
    new.extend_from_slice(&len.to_le_bytes());
    match find(&lent, iov) {
        Some(i) if n == 1 => lent[i].bytes = new,
        _ => {
            let at = ftl_core::kcore::LENT_BASE + ((lent.len() as u64) << 24);
            lent[h].bytes[16..24].copy_from_slice(&at.to_le_bytes());
            lent[h].bytes[24..32].copy_from_slice(&1u64.to_le_bytes());
            lent.push(ftl_core::kcore::Lent {
                addr: at,
                bytes: new,
                forward: 0,
            });
        }
    }
    Ok(())
}
