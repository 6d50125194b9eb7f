//! A TCP socket's bytes: reading, writing, the end of each direction.

use super::inet_tcp::{Link, RX_LIMIT, State, TX_LIMIT, Tcp};
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::socket::num;
use ftl_core::wait::Poll;

impl Tcp {
    fn pending_error(&self) -> Option<Errno> {
        Errno::from_raw(self.error.replace(0))
    }

    /// Room for bytes of a write.
    fn room(&self) -> usize {
        if let Some((room, _)) = self.flow_room() {
            return room;
        }
        match &*self.link.borrow() {
            Link::Image(p, _) => p
                .upgrade()
                .map_or(TX_LIMIT, |p| RX_LIMIT.saturating_sub(p.rx.borrow().len())),
            _ => TX_LIMIT - self.tx.borrow().len(),
        }
    }

    /// sk_stream_is_writeable(): a third of the buffer is free.
    pub(super) fn has_room(&self) -> bool {
        match self.flow_room() {
            Some((room, all)) => room >= all / 3,
            None => self.room() >= TX_LIMIT / 3,
        }
    }

    /// recv(2)
    pub(super) fn receive(&self, env: &mut Env<'_>, flags: u32, dst: &mut Dst) -> Io<u64> {
        if self.state.get() == State::Listen {
            return err(Errno::ENOTCONN);
        }
        let peek = flags & num::MSG_PEEK != 0;
        if let Some((own, flow)) = self.flow()
            && self.readable() > 0
        {
            return Ok(self.flow_read(env, &own, flow, flags, dst)? as u64);
        }
        if !self.rx.borrow().is_empty() {
            let n = if flags & num::MSG_TRUNC != 0 {
                let n = self.rx.borrow().len().min(dst.remaining() as usize);
                if !peek {
                    self.rx.borrow_mut().skip(n);
                }
                n
            } else {
                self.rx.borrow_mut().read(env.plat, dst, peek)?
            };
            if !peek {
                self.consumed(env, n);
            }
            return Ok(n as u64);
        }
        if let Some(e) = self.pending_error() {
            return err(e);
        }
        if self.rcv_shut.get() {
            return Ok(0);
        }
        match self.state.get() {
            State::Closed => err(Errno::ENOTCONN),
            _ if dst.remaining() == 0 => Ok(0),
            _ => err(Errno::EAGAIN),
        }
    }

    /// The window opens again in halves of the buffer: few grants, and never none while empty.
    fn consumed(&self, env: &mut Env<'_>, n: usize) {
        if let Some(p) = self.peer() {
            if p.has_room() {
                p.queue.notify(Poll::OUT | Poll::WRNORM);
            }
            return;
        }
        let owed = self.owed.get() + n;
        if owed < RX_LIMIT / 2 {
            self.owed.set(owed);
        } else if let Some(h) = self.handle() {
            self.owed.set(0);
            env.plat.net_grant(h, owed);
        }
    }

    /// send(2)
    pub(super) fn transmit(&self, env: &mut Env<'_>, flags: u32, src: &mut Src) -> Io<u64> {
        if let Some(e) = self.pending_error() {
            return err(e);
        }
        if self.snd_shut.get() {
            return err(Errno::EPIPE);
        }
        match self.state.get() {
            State::Closed | State::Listen => return err(Errno::EPIPE),
            State::Connecting => return err(Errno::EAGAIN),
            State::Open => {}
        }
        let want = src.remaining() as usize;
        let take = self.room().min(want);
        if take == 0 {
            return if want == 0 { Ok(0) } else { err(Errno::EAGAIN) };
        }
        if let Some((own, flow)) = self.flow() {
            return self.flow_write(env, &own, flow, flags, src, take);
        }
        if let Some(p) = self.peer() {
            let bytes = src.get_vec(env.plat, take)?;
            let n = bytes.len() as u64;
            p.rx.borrow_mut().push(bytes);
            p.queue.notify(Poll::IN | Poll::RDNORM);
            return Ok(n);
        }
        if self.in_image() {
            // The peer has closed: these bytes meet a reset.
            let n = src.get_vec(env.plat, take)?.len() as u64;
            self.dead(Errno::EPIPE.raw());
            return Ok(n);
        }
        let Some(h) = self.handle() else {
            return err(Errno::EPIPE);
        };
        let mut buf = self.inet.scratch.borrow_mut();
        if buf.len() < take {
            buf.resize(take.next_power_of_two(), 0);
        }
        let n = src.get(env.plat, &mut buf[..take])?;
        let mut tx = self.tx.borrow_mut();
        let sent = if tx.is_empty() {
            match env.plat.net_send(h, &buf[..n], flags & num::MSG_MORE != 0) {
                Ok(sent) => sent,
                Err(e) => {
                    drop(tx);
                    if e == Errno::EPIPE || e == Errno::ECONNRESET {
                        self.snd_shut.set(true);
                    }
                    return err(e);
                }
            }
        } else {
            0
        };
        tx.extend(&buf[sent..n]);
        Ok(n as u64)
    }

    /// The host has room again.
    pub(super) fn flush(&self, env: &mut Env<'_>) {
        let Some(h) = self.handle() else { return };
        loop {
            let mut tx = self.tx.borrow_mut();
            let (front, _) = tx.as_slices();
            if front.is_empty() {
                break;
            }
            let len = front.len();
            match env.plat.net_send(h, front, false) {
                Ok(n) => {
                    tx.drain(..n);
                    if n < len {
                        break;
                    }
                }
                Err(e) => {
                    drop(tx);
                    self.dead(e.raw());
                    return;
                }
            }
        }
        if self.tx.borrow().is_empty() && self.fin_due.replace(false) {
            let _ = env.plat.net_shutdown(h, num::SHUT_WR);
        }
        if self.has_room() {
            self.queue.notify(Poll::OUT | Poll::WRNORM);
        }
    }

    /// shutdown(SHUT_WR): our FIN goes after the last byte.
    pub(super) fn finish_sending(&self, env: &mut Env<'_>) {
        if self.snd_shut.replace(true) {
            return;
        }
        if let Some((own, flow)) = self.flow() {
            self.flow_finish(env, &own, flow);
        } else if let Some(p) = self.peer() {
            p.fin_received();
        } else if let Some(h) = self.handle() {
            if self.tx.borrow().is_empty() {
                // ENOTCONN: the connection has just died, which an input says.
                let _ = env.plat.net_shutdown(h, num::SHUT_WR);
            } else {
                self.fin_due.set(true);
            }
        }
    }

    /// The peer's FIN.
    pub(super) fn fin_received(&self) {
        self.peer_fin.set(true);
        self.rcv_shut.set(true);
        self.queue.wake_all();
    }

    /// The joined socket of the image was closed.
    pub(super) fn peer_gone(&self, reset: bool) {
        if reset {
            self.dead(Errno::ECONNRESET.raw());
        } else {
            self.fin_received();
        }
    }
}
