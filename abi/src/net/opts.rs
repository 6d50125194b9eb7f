//! getsockopt(2) and setsockopt(2), level SOL_SOCKET (net/core/sock.c); other levels are the
//! socket's.

use super::lookup;
use crate::args::{Fd, Ptr};
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::platform::Ns;
use ftl_core::socket::{Options, Socket, num, so};
use std::cell::Cell;

/// net.core.wmem_max, rmem_max (4 MiB since Linux 6.16)
const BUF_MAX: u32 = 4 << 20;
/// SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF
const SND_MIN: i32 = 4608;
const RCV_MIN: i32 = 2304;
/// A tick at CONFIG_HZ=250.
const JIFFY_NS: Ns = 4_000_000;
/// CAP_NET_ADMIN
const NET_ADMIN: u64 = 1 << 12;

fn flag(o: &Options, name: i32) -> Option<&Cell<bool>> {
    Some(match name {
        so::REUSEADDR => &o.reuse_addr,
        so::REUSEPORT => &o.reuse_port,
        so::KEEPALIVE => &o.keep_alive,
        so::BROADCAST => &o.broadcast,
        so::OOBINLINE => &o.oob_inline,
        so::DONTROUTE => &o.dont_route,
        so::DEBUG => &o.debug,
        so::TIMESTAMP => &o.timestamp,
        so::PASSCRED => &o.pass_cred,
        _ => return None,
    })
}

fn timeout_value(bytes: &[u8]) -> Result<Option<Ns>, Errno> {
    if bytes.len() < 16 {
        return Err(Errno::EINVAL);
    }
    let word = |i: usize| i64::from_le_bytes(std::array::from_fn(|k| bytes[i + k]));
    let (sec, usec) = (word(0), word(8));
    if !(0..1_000_000).contains(&usec) {
        return Err(Errno::EDOM);
    }
    if sec < 0 {
        return Ok(Some(0));
    }
    if sec == 0 && usec == 0 {
        return Ok(None);
    }
    // Kept in jiffies of 4 ms, rounded up.
    let ns = (sec as u64).checked_mul(1_000_000_000);
    let ns = ns.and_then(|n| n.checked_add((usec as u64 * 1000).next_multiple_of(JIFFY_NS)));
    Ok(ns)
}

fn timeout_bytes(t: Option<Ns>) -> Vec<u8> {
    let t = t.unwrap_or(0);
    let (sec, usec) = (t / 1_000_000_000, t % 1_000_000_000 / 1000);
    [sec.to_le_bytes(), usec.to_le_bytes()].concat()
}

/// True if the option is one of [`Options`] and was set.
fn set_generic(sock: &dyn Socket, name: i32, value: &[u8], admin: bool) -> Result<bool, Errno> {
    let base = sock.base();
    let o = &base.options;
    if value.len() < 4 {
        return Err(Errno::EINVAL);
    }
    let v = i32::from_le_bytes(std::array::from_fn(|k| value[k]));
    if let Some(cell) = flag(o, name) {
        let inet = matches!(base.domain, num::AF_INET | num::AF_INET6);
        if name == so::REUSEPORT && v != 0 && !inet {
            return Err(Errno::EOPNOTSUPP);
        }
        if name == so::DEBUG && v != 0 && !admin {
            return Err(Errno::EACCES);
        }
        cell.set(v != 0);
        return Ok(true);
    }
    match name {
        so::TYPE | so::PROTOCOL | so::DOMAIN | so::ERROR | so::ACCEPTCONN => return Err(Errno::ENOPROTOOPT),
        so::SNDBUF => o.snd_buf.set(((v as u32).min(BUF_MAX) as i32 * 2).max(SND_MIN)),
        so::RCVBUF => o.rcv_buf.set(((v as u32).min(BUF_MAX) as i32 * 2).max(RCV_MIN)),
        so::SNDBUFFORCE | so::RCVBUFFORCE => {
            if !admin {
                return Err(Errno::EPERM);
            }
            let doubled = v.max(0).saturating_mul(2);
            if name == so::SNDBUFFORCE {
                o.snd_buf.set(doubled.max(SND_MIN));
            } else {
                o.rcv_buf.set(doubled.max(RCV_MIN));
            }
        }
        so::PRIORITY => {
            if !(0..=6).contains(&v) && !admin {
                return Err(Errno::EPERM);
            }
            o.priority.set(v);
        }
        so::LINGER => {
            if value.len() < 8 {
                return Err(Errno::EINVAL);
            }
            let secs = i32::from_le_bytes(std::array::from_fn(|k| value[4 + k]));
            o.linger
                .set((v != 0, if v != 0 { secs } else { o.linger.get().1 }));
        }
        so::RCVLOWAT => o.rcv_lowat.set(match v {
            ..0 => i32::MAX,
            0 => 1,
            v => v,
        }),
        so::RCVTIMEO => o.rcv_timeout.set(timeout_value(value)?),
        so::SNDTIMEO => o.snd_timeout.set(timeout_value(value)?),
        so::MARK => {
            if !admin {
                return Err(Errno::EPERM);
            }
            o.mark.set(v as u32);
        }
        so::BUSY_POLL => {
            if v < 0 {
                return Err(Errno::EINVAL);
            }
            if v > o.busy_poll.get() && !admin {
                return Err(Errno::EPERM);
            }
            o.busy_poll.set(v);
        }
        so::SNDLOWAT => return Err(Errno::ENOPROTOOPT),
        _ => return Ok(false),
    }
    Ok(true)
}

/// The value of an option that every socket has.
fn get_generic(cx: &mut Cx<'_>, sock: &dyn Socket, name: i32) -> Option<Vec<u8>> {
    let base = sock.base();
    let o = &base.options;
    let int = |v: i32| Some(v.to_le_bytes().to_vec());
    if let Some(cell) = flag(o, name) {
        return int(i32::from(cell.get()));
    }
    match name {
        so::TYPE => int(base.kind),
        so::DOMAIN => int(base.domain),
        so::PROTOCOL => int(base.protocol),
        so::ACCEPTCONN => int(i32::from(sock.listening())),
        so::ERROR => {
            let e = sock.take_error(&mut cx.env);
            int(e)
        }
        so::SNDBUF => int(o.snd_buf.get()),
        so::RCVBUF => int(o.rcv_buf.get()),
        so::PRIORITY => int(o.priority.get()),
        so::RCVLOWAT => int(o.rcv_lowat.get()),
        so::SNDLOWAT => int(1),
        so::MARK => int(o.mark.get() as i32),
        so::BUSY_POLL => int(o.busy_poll.get()),
        so::INCOMING_CPU => int(0),
        so::LINGER => {
            let (on, secs) = o.linger.get();
            Some([i32::from(on).to_le_bytes(), secs.to_le_bytes()].concat())
        }
        so::RCVTIMEO => Some(timeout_bytes(o.rcv_timeout.get())),
        so::SNDTIMEO => Some(timeout_bytes(o.snd_timeout.get())),
        _ => None,
    }
}

/// setsockopt(2)
pub fn sys_setsockopt(cx: &mut Cx<'_>, fd: Fd, level: i32, name: i32, value: Ptr, len: i32) -> Io<u64> {
    if len < 0 {
        return err(Errno::EINVAL);
    }
    let open = lookup(cx, fd)?;
    let sock = super::socket_of(&open)?;
    let mut bytes = vec![0; (len as usize).min(65_536)];
    cx.read(value.0, &mut bytes)?;
    let admin = cx.task.creds.borrow().caps[0] & NET_ADMIN != 0;
    if level == num::SOL_SOCKET && set_generic(sock, name, &bytes, admin)? {
        sock.option_changed(&mut cx.env, name);
        return Ok(0);
    }
    sock.set_option(&mut cx.env, level, name, &bytes)?;
    Ok(0)
}

/// getsockopt(2)
pub fn sys_getsockopt(cx: &mut Cx<'_>, fd: Fd, level: i32, name: i32, value: Ptr, len: Ptr) -> Io<u64> {
    let open = lookup(cx, fd)?;
    let sock = super::socket_of(&open)?;
    let room: i32 = cx.get(len.0)?;
    if room < 0 {
        return err(Errno::EINVAL);
    }
    let generic = if level == num::SOL_SOCKET {
        get_generic(cx, sock, name)
    } else {
        None
    };
    let bytes = match generic {
        Some(b) => b,
        None => sock.get_option(&mut cx.env, level, name, room as usize)?,
    };
    let n = bytes.len().min(room as usize);
    cx.write(value.0, &bytes[..n])?;
    cx.put(len.0, &(n as i32))?;
    Ok(0)
}
