//! A TCP socket whose connection is in the image's own stack.

use super::inet::Addr;
use super::inet_tcp::{Link, State, Tcp};
use super::own::{Own, addr, errno, socket_addr};
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Ns;
use ftl_core::socket::{num, so};
use ftl_core::wait::Poll;
use ftl_tcpip::tcp::{Broken, State as Phase};
use ftl_tcpip::{FlowId, Keepalive, Status};
use std::rc::Rc;

const SOL_TCP: i32 = super::host::IPPROTO_TCP;
const TCP_NODELAY: i32 = 1;
const TCP_CORK: i32 = 3;
const TCP_KEEPIDLE: i32 = 4;
const TCP_KEEPINTVL: i32 = 5;
const TCP_KEEPCNT: i32 = 6;
const TCP_QUICKACK: i32 = 12;
const TCP_USER_TIMEOUT: i32 = 18;
const SEC: Ns = 1_000_000_000;
/// How long the stack's acknowledgements wait for an answer to go with.
const ACK_DELAY_NS: Ns = 10_000_000;

impl Tcp {
    /// The connection and the stack that has it.
    pub(super) fn flow(&self) -> Option<(Rc<Own>, FlowId)> {
        match &*self.link.borrow() {
            Link::Own(f) => Some((self.inet.own.clone()?, *f)),
            _ => None,
        }
    }

    fn flow_status(&self) -> Option<Status> {
        let (own, f) = self.flow()?;
        let stack = own.stack.borrow();
        stack.status(f)
    }

    /// Bytes that can be read.
    pub(super) fn readable(&self) -> usize {
        match self.flow_status() {
            Some(s) => s.readable,
            None => self.rx.borrow().len(),
        }
    }

    /// Room for bytes, and the whole of it.
    pub(super) fn flow_room(&self) -> Option<(usize, usize)> {
        self.flow_status().map(|s| (s.room, s.send_limit))
    }

    /// Bytes written and not acknowledged (SIOCOUTQ).
    pub(super) fn flow_unacked(&self) -> Option<u32> {
        self.flow_status().map(|s| s.unacked as u32)
    }

    /// connect(2) to an address outside the image.
    pub(super) fn flow_connect(&self, env: &mut Env<'_>, own: &Rc<Own>, to: Addr) -> Io<()> {
        let source = own.source_for(&to).ok_or(Errno::ENETUNREACH)?;
        if self.local_addr().is_none() {
            self.bind_image(env, Addr::any(self.base.domain))?;
        }
        let mut from = self.local_addr().ok_or(Errno::EINVAL)?;
        if from.is_any() {
            from.ip = source.ip;
        }
        if from.is_loopback() {
            return err(Errno::EINVAL);
        }
        let now = env.core.clock.last();
        let made = own
            .stack
            .borrow_mut()
            .connect(socket_addr(&from), socket_addr(&to), now);
        let flow = match made {
            Ok(f) => f,
            Err(ftl_tcpip::Why::Port) => return err(Errno::EADDRNOTAVAIL),
            Err(why) => return err(errno(why)),
        };
        *self.link.borrow_mut() = Link::Own(flow);
        self.set_names(from, to);
        own.adopt(flow, &self.me);
        self.state.set(State::Connecting);
        self.set_untold();
        self.apply_options(env, own, flow);
        own.settle(env);
        err(Errno::EINPROGRESS)
    }

    /// A connection has come for this listener.
    pub(super) fn flow_accepted(&self, env: &mut Env<'_>, own: &Own, flow: FlowId) {
        let tuple = own.stack.borrow().tuple(flow);
        let Some(t) = tuple.filter(|_| self.state.get() == State::Listen) else {
            own.stack.borrow_mut().release(flow, true, env.core.clock.last());
            return;
        };
        let child = Tcp::make(&self.inet, self.base.domain, State::Open, Link::Own(flow));
        child.inherit(self);
        child.set_names(
            addr(t.local.0.into(), t.local.1),
            addr(t.remote.0.into(), t.remote.1),
        );
        own.adopt(flow, &child.me);
        child.apply_options(env, own, flow);
        child.flow_changed(own, flow);
        self.enqueue(child);
    }

    /// Something about the connection may have changed.
    pub(super) fn flow_changed(&self, own: &Own, flow: FlowId) {
        let Some(s) = own.stack.borrow().status(flow) else {
            return;
        };
        if let Some(why) = s.failed {
            self.dead(errno(why).raw());
            return;
        }
        if self.state.get() == State::Connecting && s.connected() {
            self.state.set(State::Open);
            self.queue.wake_all();
        }
        if self.state.get() == State::Open {
            if s.readable > 0 {
                self.queue.notify(Poll::IN | Poll::RDNORM);
            }
            if self.has_room() {
                self.queue.notify(Poll::OUT | Poll::WRNORM);
            }
            if s.fin && !self.peer_fin.get() {
                self.fin_received();
            }
        }
        if let Some(broken) = s.broken
            && matches!(self.state.get(), State::Open | State::Connecting)
        {
            let e = match broken {
                Broken::Refused => Errno::ECONNREFUSED,
                Broken::TimedOut => Errno::ETIMEDOUT,
                // tcp_reset(): the peer had already closed its half.
                Broken::Reset if self.peer_fin.get() && !self.snd_shut.get() => Errno::EPIPE,
                Broken::Reset => Errno::ECONNRESET,
            };
            self.dead(e.raw());
        }
    }

    /// Copies what can be read to `dst`.
    pub(super) fn flow_read(
        &self,
        env: &mut Env<'_>,
        own: &Own,
        flow: FlowId,
        flags: u32,
        dst: &mut Dst,
    ) -> Io<usize> {
        let mut done = 0;
        {
            let mut stack = own.stack.borrow_mut();
            if flags & num::MSG_TRUNC != 0 {
                let there = stack.status(flow).map_or(0, |s| s.readable);
                done = there.min(dst.remaining() as usize);
            } else {
                while dst.remaining() > 0 {
                    let part = stack.peek(flow, done);
                    if part.is_empty() {
                        break;
                    }
                    let len = part.len();
                    match dst.put(env.plat, part) {
                        Ok(n) => {
                            done += n;
                            if n < len {
                                break;
                            }
                        }
                        Err(_) if done > 0 => break,
                        Err(e) => return err(e),
                    }
                }
            }
            if flags & num::MSG_PEEK == 0 {
                stack.consume(flow, done, env.core.clock.last());
            }
        }
        own.settle(env);
        Ok(done)
    }

    /// Takes at most `most` bytes from `src`.
    pub(super) fn flow_write(
        &self,
        env: &mut Env<'_>,
        own: &Own,
        flow: FlowId,
        flags: u32,
        src: &mut Src,
        most: usize,
    ) -> Io<u64> {
        let more = flags & num::MSG_MORE != 0 || self.option_on(SOL_TCP, TCP_CORK);
        let now = env.core.clock.last();
        let mut fault = None;
        let plat = &mut *env.plat;
        let n = own
            .stack
            .borrow_mut()
            .write(flow, most, more, now, &mut |room| match src.get(plat, room) {
                Ok(n) => n,
                Err(e) => {
                    fault = Some(e);
                    0
                }
            });
        own.settle(env);
        match fault {
            Some(e) if n == 0 => err(e),
            _ => Ok(n as u64),
        }
    }

    /// Our FIN.
    pub(super) fn flow_finish(&self, env: &mut Env<'_>, own: &Own, flow: FlowId) {
        own.stack.borrow_mut().finish(flow, env.core.clock.last());
        own.settle(env);
    }

    fn option_on(&self, level: i32, name: i32) -> bool {
        self.extra.int(level, name).is_some_and(|v| v != 0)
    }

    fn keepalive(&self) -> Option<Keepalive> {
        if !self.base.options.keep_alive.get() {
            return None;
        }
        let int = |name, default: i32| self.extra.int(SOL_TCP, name).unwrap_or(default).max(1);
        Some(Keepalive {
            idle_ns: int(TCP_KEEPIDLE, 7200) as Ns * SEC,
            interval_ns: int(TCP_KEEPINTVL, 75) as Ns * SEC,
            count: int(TCP_KEEPCNT, 9).min(127) as u8,
        })
    }

    /// What was set before there was a connection.
    fn apply_options(&self, env: &mut Env<'_>, own: &Own, flow: FlowId) {
        let now = env.core.clock.last();
        let mut stack = own.stack.borrow_mut();
        stack.set_reuse(flow, self.base.options.reuse_addr.get());
        if self.option_on(SOL_TCP, TCP_NODELAY) {
            stack.set_nodelay(flow, true, now);
        }
        if let Some(alive) = self.keepalive() {
            stack.set_keepalive(flow, Some(alive), now);
        }
        if let Some(ms) = self.extra.int(SOL_TCP, TCP_USER_TIMEOUT).filter(|v| *v > 0) {
            stack.set_patience(flow, Some(ms as Ns * 1_000_000));
        }
        let (rx, tx) = self.fixed_buffers();
        if rx.is_some() || tx.is_some() {
            stack.set_buffers(flow, rx, tx, now);
        }
    }

    /// SO_RCVBUF and SO_SNDBUF where a program has set them, as bytes of data.
    fn fixed_buffers(&self) -> (Option<usize>, Option<usize>) {
        let o = &self.base.options;
        // What is shown is twice what was set, for the kernel's own needs.
        let set = |shown: i32, default: i32| (shown != default).then_some((shown / 2).max(1024) as usize);
        (
            set(o.rcv_buf.get(), super::inet_tcp::RCV_BUF),
            set(o.snd_buf.get(), super::inet_tcp::SND_BUF),
        )
    }

    /// SO_RCVBUF of a listener.
    pub(super) fn fixed_rx(&self) -> Option<usize> {
        self.fixed_buffers().0
    }

    /// An option was set while there is a connection.
    pub(super) fn flow_option(&self, env: &mut Env<'_>, level: i32, name: i32) {
        let Some((own, flow)) = self.flow() else { return };
        let now = env.core.clock.last();
        {
            let mut stack = own.stack.borrow_mut();
            match (level, name) {
                (SOL_TCP, TCP_NODELAY) => {
                    stack.set_nodelay(flow, self.option_on(SOL_TCP, TCP_NODELAY), now);
                }
                (SOL_TCP, TCP_CORK) if !self.option_on(SOL_TCP, TCP_CORK) => stack.uncork(flow, now),
                (num::SOL_SOCKET, so::KEEPALIVE) | (SOL_TCP, TCP_KEEPIDLE | TCP_KEEPINTVL | TCP_KEEPCNT) => {
                    stack.set_keepalive(flow, self.keepalive(), now);
                }
                (SOL_TCP, TCP_USER_TIMEOUT) => {
                    let ms = self.extra.int(SOL_TCP, TCP_USER_TIMEOUT).unwrap_or(0);
                    stack.set_patience(flow, (ms > 0).then_some(ms as Ns * 1_000_000));
                }
                (SOL_TCP, TCP_QUICKACK) => {
                    let quick = self.option_on(SOL_TCP, TCP_QUICKACK);
                    stack.set_ack_delay(flow, (!quick).then_some(ACK_DELAY_NS));
                }
                (num::SOL_SOCKET, so::RCVBUF | so::SNDBUF | so::RCVBUFFORCE | so::SNDBUFFORCE) => {
                    let (rx, tx) = self.fixed_buffers();
                    stack.set_buffers(flow, rx, tx, now);
                }
                _ => return,
            }
        }
        own.settle(env);
    }

    /// TCP_INFO.
    pub(super) fn flow_info(&self) -> Option<Vec<u8>> {
        const LEN: usize = 232;
        let (own, flow) = self.flow()?;
        let stack = own.stack.borrow();
        let (s, f) = (stack.status(flow)?, stack.figures(flow)?);
        let state = match s.state {
            Phase::Established => 1,
            Phase::SynSent => 2,
            Phase::SynReceived => 3,
            Phase::FinWait1 => 4,
            Phase::FinWait2 => 5,
            Phase::TimeWait => 6,
            Phase::Closed => 7,
            Phase::CloseWait => 8,
            Phase::LastAck => 9,
            Phase::Listen => 10,
            Phase::Closing => 11,
        };
        let mut v = vec![0; LEN];
        v[0] = state;
        v[2] = f.backoff;
        // TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE
        v[5] = 7;
        let mss = f.mss as u32;
        let packets = |bytes: usize| (bytes as u32).div_ceil(mss.max(1));
        let words = [
            (8, f.rto_ms * 1000),
            (12, 10_000),
            (16, mss),
            (20, mss),
            (24, packets(f.in_flight)),
            (68, f.srtt_ms * 1000),
            (72, f.rttvar_ms * 1000),
            (
                76,
                u32::try_from(f.ssthresh / f.mss.max(1)).unwrap_or(i32::MAX as u32),
            ),
            (80, packets(f.cwnd)),
            (84, mss),
            (100, f.retransmits),
        ];
        for (at, n) in words {
            v[at..at + 4].copy_from_slice(&n.to_le_bytes());
        }
        Some(v)
    }

    /// TCP_MAXSEG.
    pub(super) fn flow_mss(&self) -> Option<i32> {
        let (own, flow) = self.flow()?;
        let stack = own.stack.borrow();
        stack.figures(flow).map(|f| f.mss as i32)
    }
}
