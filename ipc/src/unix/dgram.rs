//! Datagrams and sequenced packets.

use super::packet::{Packet, packet_charge};
use super::{HostNode, SHUT_RCV, SHUT_SND, State, UnixSocket};
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::socket::{Incoming, Outgoing, Ucred, num};
use std::rc::Rc;

/// Credentials as a receiver with SO_PASSCRED sees them: "nobody" if none came along.
pub(super) fn shown_creds(c: Option<Ucred>) -> Ucred {
    c.unwrap_or(Ucred {
        pid: 0,
        uid: 65534,
        gid: 65534,
    })
}

impl UnixSocket {
    /// unix_dgram_connect
    pub(super) fn connect_dgram(&self, target: Option<&Rc<UnixSocket>>) -> Io<()> {
        if let Some(t) = target
            && !self.may_send(t)
        {
            return err(Errno::EPERM);
        }
        let old = self.other();
        let had_one = self.peer.borrow().is_some();
        match target {
            Some(t) => self.join(t),
            None => {
                *self.peer.borrow_mut() = None;
                *self.peer_name.borrow_mut() = None;
                self.state.set(State::Close);
            }
        }
        let same = matches!((&old, target), (Some(o), Some(t)) if Rc::ptr_eq(o, t));
        if had_one && !same {
            self.forsake(old.as_deref());
        }
        Ok(())
    }

    /// unix_dgram_disconnected: what the old peer sent is not ours any more.
    fn forsake(&self, old: Option<&UnixSocket>) {
        let stale = std::mem::take(&mut *self.inbox.borrow_mut());
        if stale.is_empty() {
            return;
        }
        drop(stale);
        self.tell_waiting();
        if let Some(o) = old
            && o.is_peer(self)
        {
            o.error.set(Errno::ECONNRESET.raw());
            o.wake_everyone();
        }
    }

    /// unix_may_send: the other is connected to nobody or to us.
    fn may_send(&self, other: &UnixSocket) -> bool {
        other.peer.borrow().is_none() || other.is_peer(self)
    }

    /// The peer of a connected datagram socket takes no more now.
    pub(super) fn peer_full(&self) -> bool {
        if self.stream() {
            return false;
        }
        match self.other() {
            Some(o) if !o.is_peer(self) && o.crowded() => {
                o.wait_for_room(self);
                true
            }
            _ => false,
        }
    }

    fn destination(&self, msg: &Outgoing) -> Io<Rc<UnixSocket>> {
        let connected = self.base.kind == num::SOCK_SEQPACKET;
        if let Some(to) = msg.to.clone().filter(|_| !connected) {
            return Ok(to.downcast::<UnixSocket>().map_err(|_| Errno::EPROTOTYPE)?);
        }
        if self.peer.borrow().is_none() {
            return err(Errno::ENOTCONN);
        }
        match self.other() {
            Some(o) => Ok(o),
            None if connected => err(Errno::EPIPE),
            None => {
                *self.peer.borrow_mut() = None;
                *self.peer_name.borrow_mut() = None;
                self.state.set(State::Close);
                self.forsake(None);
                err(Errno::ECONNREFUSED)
            }
        }
    }

    /// unix_dgram_sendmsg, unix_seqpacket_sendmsg
    pub(super) fn send_packet(&self, env: &mut Env<'_>, msg: &mut Outgoing, src: &mut Src) -> Io<u64> {
        if self.base.kind == num::SOCK_SEQPACKET {
            if let Some(e) = self.take_err() {
                return err(e);
            }
            if self.state.get() != State::Established {
                return err(Errno::ENOTCONN);
            }
        }
        let len = src.remaining() as usize;
        if len > self.send_limit().saturating_sub(32) {
            return err(Errno::EMSGSIZE);
        }
        if let Some(e) = self.take_err() {
            return err(e);
        }
        if self.shut.get() & SHUT_SND != 0 {
            return err(Errno::EPIPE);
        }
        if self.charged.get() >= self.send_limit() {
            return err(Errno::EAGAIN);
        }
        let node = msg.to.as_ref().and_then(|t| t.downcast_ref::<HostNode>());
        let peer_of_host = msg.to.is_none() || self.base.kind == num::SOCK_SEQPACKET;
        if node.is_some() || peer_of_host && self.linked().is_some() {
            let node = node.cloned();
            return self.send_packet_host(env, node.as_ref(), msg, src);
        }
        let other = self.destination(msg)?;
        if self.datagrams() && !self.may_send(&other) {
            return err(Errno::EPERM);
        }
        if other.shut.get() & SHUT_RCV != 0 {
            return err(Errno::EPIPE);
        }
        let itself = std::ptr::eq(Rc::as_ptr(&other), self);
        if !itself && !other.is_peer(self) && other.crowded() {
            other.wait_for_room(self);
            return err(Errno::EAGAIN);
        }
        let data = src.get_vec(env.plat, len)?;
        if data.len() < len {
            return err(Errno::EFAULT);
        }
        let mut packet = Packet::new(self, data, packet_charge(len));
        packet.rights = std::mem::take(&mut msg.rights);
        packet.creds = self.creds_for(msg, &other);
        other.deliver(packet);
        Ok(len as u64)
    }

    /// unix_dgram_recvmsg, unix_seqpacket_recvmsg
    pub(super) fn recv_packet(&self, env: &mut Env<'_>, msg: &mut Incoming, dst: &mut Dst) -> Io<u64> {
        if !self.datagrams() && self.state.get() != State::Established {
            return err(Errno::ENOTCONN);
        }
        if self.inbox.borrow().is_empty() {
            if let Some(e) = self.take_err() {
                return err(e);
            }
            let nonblocking_dgram = self.datagrams() && msg.flags & num::MSG_DONTWAIT != 0;
            if self.shut.get() & SHUT_RCV != 0 && !nonblocking_dgram {
                return Ok(0);
            }
            return err(Errno::EAGAIN);
        }
        let peek = msg.flags & num::MSG_PEEK != 0;
        let taken = if peek {
            None
        } else {
            self.inbox.borrow_mut().pop_front()
        };
        let inbox = self.inbox.borrow();
        let p = match &taken {
            Some(p) => p,
            None => &inbox[0],
        };
        msg.name = p.from.borrow().clone();
        let len = p.data.len();
        if (dst.remaining() as usize) < len {
            msg.out_flags |= num::MSG_TRUNC;
        }
        let fit = len.min(dst.remaining() as usize);
        let stored = dst.put(env.plat, &p.data[..fit]);
        msg.rights = p.rights.clone();
        if p.lost_rights {
            msg.out_flags |= num::MSG_CTRUNC;
        }
        let host_cost = p.host_cost;
        if self.base.options.pass_cred.get() {
            msg.creds = Some(shown_creds(p.creds));
        }
        drop(inbox);
        drop(taken);
        if !peek {
            self.tell_waiting();
            self.far_consumed(env, host_cost);
        }
        if !self.queue.is_empty() && !self.inbox.borrow().is_empty() {
            self.queue.wake_n(1, super::READABLE.bits());
        }
        if stored? < fit {
            return err(Errno::EFAULT);
        }
        Ok(if msg.flags & num::MSG_TRUNC != 0 { len } else { fit } as u64)
    }
}
