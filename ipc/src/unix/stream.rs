//! Bytes over a UNIX stream socket.

use super::packet::{Packet, STREAM_MAX, stream_charge};
use super::{SHUT_RCV, SHUT_SND, State, UnixSocket, dgram};
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::socket::{Incoming, Outgoing, Ucred, num};

impl UnixSocket {
    /// unix_stream_sendmsg
    pub(super) fn send_stream(&self, env: &mut Env<'_>, msg: &mut Outgoing, src: &mut Src) -> Io<u64> {
        let connected = self.state.get() == State::Established;
        if msg.name.is_some() {
            return err(if connected {
                Errno::EISCONN
            } else {
                Errno::EOPNOTSUPP
            });
        }
        if self.peer.borrow().is_none() {
            return err(Errno::ENOTCONN);
        }
        if self.shut.get() & SHUT_SND != 0 {
            return err(Errno::EPIPE);
        }
        if let Some(far) = self.linked() {
            return self.send_stream_host(env, &far, msg, src);
        }
        let mut sent = 0;
        while src.remaining() > 0 {
            let limit = self.send_limit();
            if self.charged.get() >= limit {
                if sent == 0 {
                    return err(Errno::EAGAIN);
                }
                break;
            }
            let other = match self.other() {
                Some(o) if o.shut.get() & SHUT_RCV == 0 => o,
                _ if sent > 0 => break,
                _ => return err(Errno::EPIPE),
            };
            // Two buffers in flight, so that reader and writer overlap.
            let most = STREAM_MAX.min((limit / 2).saturating_sub(64)).max(1);
            let data = match src.get_vec(env.plat, most) {
                Ok(d) => d,
                Err(_) if sent > 0 => break,
                Err(e) => return Err(e.into()),
            };
            let n = data.len();
            if n == 0 {
                break;
            }
            let mut packet = Packet::new(self, data, stream_charge(n));
            packet.rights = std::mem::take(&mut msg.rights);
            packet.creds = self.creds_for(msg, &other);
            other.deliver(packet);
            sent += n as u64;
        }
        Ok(sent)
    }

    /// unix_stream_read_generic: what is there, up to a boundary of descriptors or of senders.
    pub(super) fn recv_stream(&self, env: &mut Env<'_>, msg: &mut Incoming, dst: &mut Dst) -> Io<u64> {
        if self.state.get() != State::Established {
            return err(Errno::EINVAL);
        }
        if self.inbox.borrow().is_empty() {
            if let Some(e) = self.take_err() {
                return err(e);
            }
            if self.shut.get() & SHUT_RCV != 0 {
                return Ok(0);
            }
            return err(Errno::EAGAIN);
        }
        let pass_cred = self.base.options.pass_cred.get();
        let peek = msg.flags & num::MSG_PEEK != 0;
        let mut copied = 0u64;
        let mut creds: Option<Option<Ucred>> = None;
        let mut index = 0;
        let mut used = Vec::new();
        let mut result = Ok(());
        loop {
            let mut inbox = self.inbox.borrow_mut();
            let Some(p) = inbox.get_mut(index) else { break };
            if pass_cred && *creds.get_or_insert(p.creds) != p.creds {
                break;
            }
            if msg.name.is_empty() {
                msg.name = p.from.borrow().clone();
            }
            let want = p.len().min(dst.remaining() as usize);
            let n = match dst.put(env.plat, &p.data[p.taken..p.taken + want]) {
                Ok(n) => n,
                Err(e) => {
                    if copied == 0 {
                        result = Err(e);
                    }
                    break;
                }
            };
            copied += n as u64;
            if p.lost_rights {
                msg.out_flags |= num::MSG_CTRUNC;
                p.lost_rights = peek;
            }
            if peek {
                msg.rights.extend(p.rights.iter().cloned());
                if !msg.rights.is_empty() || n < p.len() {
                    break;
                }
                index += 1;
            } else {
                p.taken += n;
                msg.rights.append(&mut p.rights);
                if p.len() > 0 {
                    break;
                }
                // Dropped below: a packet's end wakes its sender.
                used.extend(inbox.pop_front());
                if !msg.rights.is_empty() {
                    break;
                }
            }
            if dst.remaining() == 0 {
                break;
            }
        }
        result?;
        if pass_cred {
            msg.creds = creds.map(dgram::shown_creds);
        }
        drop(used);
        if !peek && self.linked().is_some() {
            self.far_consumed(env, copied as usize);
        }
        if !self.queue.is_empty() && !self.inbox.borrow().is_empty() {
            self.queue.wake_n(1, super::READABLE.bits());
        }
        Ok(copied)
    }
}
