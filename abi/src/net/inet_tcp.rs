//! TCP sockets: state, connections, readiness. The bytes' way is in `inet_stream`.
//!
//! Under `--net host` the connection itself is a host socket behind the doors: the image keeps the
//! receive and send buffers, so what a call returns depends on the image; the device fills and
//! drains them by inputs (PROTOCOL §7). Two sockets of one image are joined directly, whether there
//! is a host network or not. Readiness follows tcp_poll() (net/ipv4/tcp.c), connect and shutdown follow
//! net/ipv4/af_inet.c.

use super::inet::{Addr, Inet, family};
use super::inet_bytes::Bytes;
use super::loopback::Bindable;
use super::sockopt::Extra;
use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::hostnet::{ACCEPT_WINDOW, Connect};
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::{Env, HostRef, Sink};
use ftl_core::platform::{Handle, Stat};
use ftl_core::socket::{Base, Incoming, Options, Outgoing, Socket, Ucred, num, so};
use ftl_core::wait::{Poll, WaitQueue};
use ftl_tcpip::{FlowId, ListenId};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// Bytes that the image takes ahead of the reader.
pub const RX_LIMIT: usize = 256 * 1024;
/// Bytes that write() takes ahead of the host.
pub const TX_LIMIT: usize = 256 * 1024;
/// Connections that the device accepts ahead of accept(2), at most.
const ACCEPT_AHEAD: usize = 128;

/// SO_RCVBUF and SO_SNDBUF before anybody has set them (net.ipv4.tcp_rmem, tcp_wmem).
pub const RCV_BUF: i32 = 131_072;
/// See [`RCV_BUF`].
pub const SND_BUF: i32 = 16_384;

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not connected, or not any more.
    Closed,
    /// listen(2)
    Listen,
    /// SYN sent.
    Connecting,
    /// Connected; halves may be shut down.
    Open,
}

/// What carries the bytes.
pub enum Link {
    /// Nothing yet (`--net none`).
    None,
    /// A host socket.
    Host(HostRef),
    /// A connection of the image's own stack.
    Own(FlowId),
    /// A socket of the image; the host socket, if any, only keeps the port ours.
    Image(Weak<Tcp>, Option<HostRef>),
}

/// A TCP socket.
pub struct Tcp {
    pub(super) me: Weak<Tcp>,
    pub(super) inet: Rc<Inet>,
    pub(super) base: Base,
    pub(super) extra: Extra,
    pub(super) state: Cell<State>,
    pub(super) link: RefCell<Link>,
    local: RefCell<Vec<u8>>,
    remote: RefCell<Vec<u8>>,
    /// Port held in the image's table (`--net none`).
    held: Cell<u16>,
    pub(super) rx: RefCell<Bytes>,
    pub(super) tx: RefCell<VecDeque<u8>>,
    /// Bytes read and not yet granted again.
    pub(super) owed: Cell<usize>,
    /// sk_err
    pub(super) error: Cell<i32>,
    pub(super) rcv_shut: Cell<bool>,
    pub(super) snd_shut: Cell<bool>,
    /// The peer has sent its FIN.
    pub(super) peer_fin: Cell<bool>,
    /// The peer is of the image and closed first: its SO_REUSEADDR, for its time-wait.
    pub(super) peer_first: Cell<Option<bool>>,
    /// Our FIN waits for `tx` to drain.
    pub(super) fin_due: Cell<bool>,
    /// connect(2) has told the guest how it ended.
    told: Cell<bool>,
    /// connect(2) has ended within the image, and the call has not returned yet.
    at_once: Cell<bool>,
    /// In a listener's queue: not yet the guest's.
    waiting: Cell<bool>,
    accept: RefCell<VecDeque<Rc<Tcp>>>,
    backlog: Cell<usize>,
    /// The own stack's listener.
    listener_id: Cell<Option<ListenId>>,
    ino: u64,
    pub(super) queue: WaitQueue,
}

/// All readiness that a change of state may bring.
pub const ANY: Poll = Poll::all();

impl Tcp {
    pub(super) fn make(inet: &Rc<Inet>, domain: i32, state: State, link: Link) -> Rc<Tcp> {
        let base = Base::new(domain, num::SOCK_STREAM, super::host::IPPROTO_TCP);
        base.options.rcv_buf.set(RCV_BUF);
        base.options.snd_buf.set(SND_BUF);
        Rc::new_cyclic(|me| Tcp {
            me: me.clone(),
            inet: inet.clone(),
            base,
            extra: Extra::default(),
            state: Cell::new(state),
            link: RefCell::new(link),
            local: RefCell::default(),
            remote: RefCell::default(),
            held: Cell::new(0),
            rx: RefCell::default(),
            tx: RefCell::default(),
            owed: Cell::new(0),
            error: Cell::new(0),
            rcv_shut: Cell::new(false),
            snd_shut: Cell::new(false),
            peer_fin: Cell::new(false),
            peer_first: Cell::new(None),
            fin_due: Cell::new(false),
            told: Cell::new(true),
            at_once: Cell::new(false),
            waiting: Cell::new(false),
            accept: RefCell::default(),
            backlog: Cell::new(0),
            listener_id: Cell::new(None),
            ino: inet.new_ino(),
            queue: WaitQueue::new(),
        })
    }

    /// socket(2)
    pub fn create(env: &mut Env<'_>, inet: &Rc<Inet>, domain: i32) -> Io<Rc<Tcp>> {
        if !inet.host(env) {
            return Ok(Tcp::make(inet, domain, State::Closed, Link::None));
        }
        let h = env.core.new_handle();
        env.plat
            .net_socket(domain, num::SOCK_STREAM, super::host::IPPROTO_TCP, h)?;
        let sock = Tcp::make(inet, domain, State::Closed, Link::Host(env.core.own_socket(h)));
        sock.register(env, h);
        Ok(sock)
    }

    fn register(&self, env: &mut Env<'_>, h: Handle) {
        let sink: Weak<dyn Sink> = self.me.clone();
        env.core.register(h, sink);
    }

    /// The host socket, if that is what carries it.
    pub(super) fn handle(&self) -> Option<Handle> {
        match &*self.link.borrow() {
            Link::Host(h) => Some(h.handle),
            _ => None,
        }
    }

    /// The joined socket of the image.
    pub(super) fn peer(&self) -> Option<Rc<Tcp>> {
        match &*self.link.borrow() {
            Link::Image(p, _) => p.upgrade(),
            _ => None,
        }
    }

    /// Joined to a socket of the image, whether that still lives or not.
    pub(super) fn in_image(&self) -> bool {
        matches!(&*self.link.borrow(), Link::Image(..))
    }

    fn opened(&self, env: &mut Env<'_>, local: Vec<u8>, granted: usize) {
        *self.local.borrow_mut() = local;
        self.state.set(State::Open);
        if let Some(h) = self.handle() {
            env.plat.net_grant(h, RX_LIMIT - granted);
        }
    }

    /// tcp_done(): no more bytes either way.
    pub(super) fn dead(&self, error: i32) {
        self.error.set(error);
        self.state.set(State::Closed);
        self.rcv_shut.set(true);
        self.snd_shut.set(true);
        self.tx.borrow_mut().clear();
        self.queue.wake_all();
    }

    fn accepted(&self, env: &mut Env<'_>, conn: Handle, peer: Vec<u8>, local: Vec<u8>) {
        let host = env.core.own_socket(conn);
        if self.state.get() != State::Listen {
            host.farewell(Vec::new(), true);
            return;
        }
        let child = Tcp::make(&self.inet, self.base.domain, State::Open, Link::Host(host));
        child.register(env, conn);
        *child.remote.borrow_mut() = peer;
        child.inherit(self);
        child.opened(env, local, ACCEPT_WINDOW);
        self.enqueue(child);
    }

    pub(super) fn inherit(&self, listener: &Tcp) {
        let (to, from) = (&self.base.options, &listener.base.options);
        to.keep_alive.set(from.keep_alive.get());
        to.linger.set(from.linger.get());
        to.rcv_buf.set(from.rcv_buf.get());
        to.snd_buf.set(from.snd_buf.get());
        to.reuse_addr.set(from.reuse_addr.get());
        to.reuse_port.set(from.reuse_port.get());
        to.rcv_lowat.set(from.rcv_lowat.get());
        to.rcv_timeout.set(from.rcv_timeout.get());
        to.snd_timeout.set(from.snd_timeout.get());
        self.extra.inherit(&listener.extra);
    }

    pub(super) fn enqueue(&self, child: Rc<Tcp>) {
        child.waiting.set(true);
        self.accept.borrow_mut().push_back(child);
        self.queue.notify(Poll::IN | Poll::RDNORM);
    }

    /// getsockname() as an address, if there is one.
    pub(super) fn local_addr(&self) -> Option<Addr> {
        Addr::parse(self.base.domain, &self.local.borrow()).ok()
    }

    /// Both names.
    pub(super) fn set_names(&self, local: Addr, remote: Addr) {
        *self.local.borrow_mut() = local.to_bytes(self.base.domain);
        *self.remote.borrow_mut() = remote.to_bytes(self.base.domain);
    }

    /// connect(2) has not told how it ended.
    pub(super) fn set_untold(&self) {
        self.told.set(false);
    }

    /// The listener of this image that a connect to `to` reaches.
    fn listener(&self, to: &Addr) -> Option<Rc<Tcp>> {
        if !self.inet.is_local(to) {
            return None;
        }
        let found = self.inet.tcp.find(to).into_iter();
        found.filter(|l| l.listens()).find(|l| {
            // A full queue: the host has one of its own.
            l.handle().is_none() || l.accept.borrow().len() <= l.backlog.get()
        })
    }

    fn join(&self, env: &mut Env<'_>, listener: &Tcp, to: Addr) -> Io<()> {
        if self.local.borrow().is_empty() {
            let any = Addr {
                ip: to.source_inside(),
                port: 0,
            };
            match self.handle() {
                Some(h) => {
                    let bound = env.plat.net_bind(h, &any.to_bytes(self.base.domain));
                    *self.local.borrow_mut() = match bound {
                        // An attempt to connect was under way when a snapshot was taken: it has had a port since.
                        Err(Errno::EINVAL) => env.plat.net_local(h)?,
                        bound => bound?,
                    };
                }
                None => self.bind_image(env, any)?,
            }
        }
        let mut from = Addr::parse(self.base.domain, &self.local.borrow())?;
        if from.is_any() {
            from.ip = to.source_inside();
        }
        let theirs = listener.base.domain;
        let child = Tcp::make(
            &self.inet,
            theirs,
            State::Open,
            Link::Image(self.me.clone(), None),
        );
        child.inherit(listener);
        *child.local.borrow_mut() = to.to_bytes(theirs);
        *child.remote.borrow_mut() = from.to_bytes(theirs);
        let mut link = self.link.borrow_mut();
        let host = match std::mem::replace(&mut *link, Link::None) {
            Link::Host(h) => Some(h),
            _ => None,
        };
        *link = Link::Image(child.me.clone(), host);
        drop(link);
        *self.remote.borrow_mut() = to.to_bytes(self.base.domain);
        self.opened(env, from.to_bytes(self.base.domain), 0);
        listener.enqueue(child);
        self.queue.wake_all();
        Ok(())
    }

    pub(super) fn bind_image(&self, env: &mut Env<'_>, addr: Addr) -> Io<()> {
        let Some(me) = self.me.upgrade() else {
            return err(Errno::EINVAL);
        };
        if !addr.is_any() && !self.inet.is_local(&addr) {
            return err(Errno::EADDRNOTAVAIL);
        }
        if let Some(own) = &self.inet.own
            && addr.port != 0
            && !addr.is_loopback()
            && own
                .stack
                .borrow()
                .port_in_use(addr.port, self.base.options.reuse_addr.get())
        {
            return err(Errno::EADDRINUSE);
        }
        let got = self.inet.tcp.bind(env, addr, &me)?;
        self.held.set(got.port);
        *self.local.borrow_mut() = got.to_bytes(self.base.domain);
        Ok(())
    }

    /// The own stack listens too, unless only the image itself can reach the address.
    fn listen_own(&self, first: bool) {
        let (Some(own), Some(addr)) = (&self.inet.own, self.local_addr()) else {
            return;
        };
        if addr.is_loopback() {
            return;
        }
        let mut stack = own.stack.borrow_mut();
        let backlog = self.backlog.get();
        match self.listener_id.get() {
            Some(id) => stack.set_backlog(id, backlog),
            None if first => {
                let dual = !self.extra.v6only();
                let at = super::own::socket_addr(&addr);
                let id = stack.listen(at, dual, backlog, self.fixed_rx());
                self.listener_id.set(Some(id));
                own.adopt_listener(id, &self.me);
            }
            None => {}
        }
    }

    fn start_connect(&self, env: &mut Env<'_>, addr: &[u8]) -> Io<()> {
        let to = match family(addr) {
            // AF_UNSPEC on an unconnected socket: nothing to undo.
            Some(0) => return Ok(()),
            _ => Addr::parse(self.base.domain, addr)?,
        };
        self.rcv_shut.set(false);
        self.snd_shut.set(false);
        self.error.set(0);
        if let Some(listener) = self.listener(&to.reached()) {
            self.join(env, &listener, to.reached())?;
            self.at_once.set(true);
            return Ok(());
        }
        let Some(h) = self.handle() else {
            return match &self.inet.own {
                _ if self.inet.is_local(&to.reached()) => {
                    self.at_once.set(true);
                    err(Errno::ECONNREFUSED)
                }
                Some(own) => self.flow_connect(env, &own.clone(), to),
                None => err(Errno::ENETUNREACH),
            };
        };
        let short = if family(addr) == Some(num::AF_INET) {
            16
        } else {
            28
        };
        let remote = addr[..short.min(addr.len())].to_vec();
        // The host's socket has not told its own caller of an attempt that failed, of which the guest knows.
        let how = match env.plat.net_connect(h, addr) {
            Err(Errno::ECONNABORTED) => env.plat.net_connect(h, addr)?,
            how => how?,
        };
        *self.remote.borrow_mut() = if to.is_any() {
            to.reached().to_bytes(self.base.domain)
        } else {
            remote
        };
        match how {
            Connect::Done(local) => {
                self.opened(env, local, 0);
                Ok(())
            }
            Connect::Pending => {
                self.state.set(State::Connecting);
                self.told.set(false);
                err(Errno::EINPROGRESS)
            }
        }
    }

    fn stop_listening(&self) {
        self.state.set(State::Closed);
        if let (Some(own), Some(id)) = (&self.inet.own, self.listener_id.take()) {
            own.leave_listener(id);
        }
        if self.handle().is_some() {
            self.inet.tcp.release(self.held.replace(0), &self.me);
        }
        self.accept.borrow_mut().clear();
        self.queue.wake_all();
    }

    /// TCP_INFO of a connection inside the image: its state, and what a loopback shows at rest.
    fn info(&self) -> Vec<u8> {
        const LEN: usize = 232;
        let (rcv, snd) = (self.rcv_shut.get(), self.snd_shut.get());
        // TCP_ESTABLISHED, TCP_FIN_WAIT2, TCP_TIME_WAIT, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_LISTEN
        let state = match self.state.get() {
            State::Listen => 10,
            State::Open if rcv && snd => 6,
            State::Open if snd => 5,
            State::Open if self.peer_fin.get() => 8,
            State::Open => 1,
            State::Closed | State::Connecting => 7,
        };
        let mut v = vec![0; LEN];
        v[0] = state;
        // tcpi_rto, tcpi_ato, tcpi_snd_mss, tcpi_rcv_mss
        for (at, n) in [(8, 204_000u32), (12, 40_000), (16, 32_768), (20, 32_768)] {
            v[at..at + 4].copy_from_slice(&n.to_le_bytes());
        }
        v
    }

    /// The last FIN or shutdown: nothing can change any more.
    pub(super) fn both_shut(&self) -> bool {
        self.rcv_shut.get() && self.snd_shut.get()
    }
}

impl Sink for Tcp {
    fn input(&self, env: &mut Env<'_>, input: Input) {
        match input {
            Input::Data(_, bytes) => {
                self.rx.borrow_mut().push(bytes);
                self.queue.notify(Poll::IN | Poll::RDNORM);
            }
            Input::Eof(_) => self.fin_received(),
            Input::Failed(_, e) => self.dead(e),
            Input::Writable(_) => self.flush(env),
            Input::Accepted {
                conn, peer, local, ..
            } => self.accepted(env, conn, peer, local),
            Input::Connected(_, 0, local) => {
                self.opened(env, local, 0);
                self.queue.wake_all();
            }
            Input::Connected(_, e, _) => self.dead(e),
            Input::Datagram(..)
            | Input::Control(..)
            | Input::Packet(..)
            | Input::Signal(_)
            | Input::Exec(_) => {}
        }
    }
}

impl Bindable for Tcp {
    fn reuse(&self) -> (bool, bool) {
        let o: &Options = &self.base.options;
        (o.reuse_addr.get(), o.reuse_port.get())
    }
    fn listens(&self) -> bool {
        self.state.get() == State::Listen
    }
    fn v6only(&self) -> bool {
        self.extra.v6only()
    }
}

impl File for Tcp {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn describe(&self) -> Vec<u8> {
        format!("socket:[{}]", self.ino).into_bytes()
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        self.receive(env, 0, dst)
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        self.transmit(env, 0, src)
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        if self.state.get() == State::Listen {
            return if self.accept.borrow().is_empty() {
                Poll::empty()
            } else {
                Poll::IN | Poll::RDNORM
            };
        }
        let mut p = Poll::empty();
        if self.both_shut() || self.state.get() == State::Closed {
            p |= Poll::HUP;
        }
        if self.rcv_shut.get() {
            p |= Poll::IN | Poll::RDNORM | Poll::RDHUP;
        }
        if self.state.get() != State::Connecting {
            let low = self.base.options.rcv_lowat.get().clamp(1, RX_LIMIT as i32 / 2) as usize;
            if self.readable() >= low {
                p |= Poll::IN | Poll::RDNORM;
            }
            if self.snd_shut.get() || self.has_room() {
                p |= Poll::OUT | Poll::WRNORM;
            }
        }
        if self.error.get() != 0 {
            p |= Poll::ERR;
        }
        p
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(super::host::socket_stat(self.ino))
    }
    fn ioctl(&self, env: &mut Env<'_>, cmd: u64, arg: u64) -> Io<u64> {
        const SIOCINQ: u64 = 0x541B;
        const SIOCOUTQ: u64 = 0x5411;
        const SIOCATMARK: u64 = 0x8905;
        let listening = self.state.get() == State::Listen;
        let n = match cmd {
            SIOCINQ | SIOCOUTQ if listening => return err(Errno::EINVAL),
            SIOCINQ => self.readable() as u32,
            SIOCOUTQ if self.flow_unacked().is_some() => self.flow_unacked().unwrap_or(0),
            SIOCOUTQ => {
                let here = self.tx.borrow().len() as u32;
                here + self.handle().map_or(0, |h| env.plat.net_unsent(h))
            }
            SIOCATMARK => 0,
            _ => return err(Errno::ENOTTY),
        };
        env.put(arg, &n)?;
        Ok(0)
    }
}

impl Socket for Tcp {
    fn base(&self) -> &Base {
        &self.base
    }
    fn bind(&self, env: &mut Env<'_>, addr: &[u8]) -> Io<()> {
        if self.local.borrow().is_empty()
            && let Ok(at) = Addr::parse(self.base.domain, addr)
        {
            let reuse = self.base.options.reuse_addr.get();
            if self.inet.time_wait.blocks(&at, reuse, env.now()) {
                return err(Errno::EADDRINUSE);
            }
        }
        if let Some(h) = self.handle() {
            *self.local.borrow_mut() = env.plat.net_bind(h, addr)?;
            return Ok(());
        }
        let addr = Addr::parse(self.base.domain, addr)?;
        if !self.local.borrow().is_empty() || self.state.get() != State::Closed {
            return err(Errno::EINVAL);
        }
        self.bind_image(env, addr)
    }
    fn listen(&self, env: &mut Env<'_>, backlog: i32, _: Ucred) -> Io<()> {
        if !matches!(self.state.get(), State::Closed | State::Listen) {
            return err(Errno::EINVAL);
        }
        let first = self.state.get() != State::Listen;
        self.backlog.set(backlog.max(0) as usize);
        if let Some(h) = self.handle() {
            let local = env.plat.net_listen(h, backlog)?;
            let addr = Addr::parse(self.base.domain, &local)?;
            self.held.set(addr.port);
            self.inet.tcp.note(addr, &self.me);
            *self.local.borrow_mut() = local;
            for _ in 0..if first {
                backlog.clamp(1, ACCEPT_AHEAD as i32)
            } else {
                0
            } {
                env.plat.net_grant_accept(h, env.core.new_handle());
            }
        } else if self.local.borrow().is_empty() {
            self.bind_image(env, Addr::any(self.base.domain))?;
        }
        self.listen_own(first);
        self.rcv_shut.set(false);
        self.snd_shut.set(false);
        self.state.set(State::Listen);
        self.queue.wake_all();
        Ok(())
    }
    fn listening(&self) -> bool {
        self.state.get() == State::Listen
    }
    fn accept(&self, env: &mut Env<'_>) -> Io<(Rc<dyn File>, Vec<u8>)> {
        if self.state.get() != State::Listen {
            return err(Errno::EINVAL);
        }
        let Some(child) = self.accept.borrow_mut().pop_front() else {
            return err(Errno::EAGAIN);
        };
        if let Some(h) = self.handle() {
            env.plat.net_grant_accept(h, env.core.new_handle());
        }
        if let (Some((own, _)), Some(id)) = (child.flow(), self.listener_id.get()) {
            own.stack.borrow_mut().took(id);
        }
        child.waiting.set(false);
        let peer = child.remote.borrow().clone();
        Ok((child, peer))
    }
    fn connect(&self, env: &mut Env<'_>, addr: &[u8], again: bool) -> Io<()> {
        match self.state.get() {
            State::Listen => err(Errno::EISCONN),
            State::Connecting => err(if again {
                Errno::EINPROGRESS
            } else {
                Errno::EALREADY
            }),
            State::Open if self.told.replace(true) => err(Errno::EISCONN),
            State::Open => Ok(()),
            State::Closed if !self.told.replace(true) => {
                let e = Errno::from_raw(self.error.replace(0)).unwrap_or(Errno::ECONNABORTED);
                err(e)
            }
            State::Closed => self.start_connect(env, addr),
        }
    }
    fn ended_at_once(&self, error: i32, waits: bool) -> bool {
        let later = self.at_once.replace(false) && !waits;
        if later && error != 0 {
            self.dead(error);
        }
        if later {
            self.told.set(false);
        }
        later
    }
    fn local_name(&self, env: &mut Env<'_>) -> Io<Vec<u8>> {
        if self.state.get() == State::Open
            && self.local.borrow().is_empty()
            && let Some(h) = self.handle()
        {
            // An accepted connection: few programs ask.
            *self.local.borrow_mut() = env.plat.net_local(h)?;
        }
        let local = self.local.borrow();
        Ok(if local.is_empty() {
            super::host::zero_name(self.base.domain)
        } else {
            local.clone()
        })
    }
    fn peer_name(&self, _: &mut Env<'_>) -> Io<Vec<u8>> {
        if self.state.get() != State::Open {
            return err(Errno::ENOTCONN);
        }
        Ok(self.remote.borrow().clone())
    }
    fn send(&self, env: &mut Env<'_>, msg: &mut Outgoing, src: &mut Src) -> Io<u64> {
        if msg.flags & num::MSG_OOB != 0 {
            return err(Errno::EOPNOTSUPP);
        }
        self.transmit(env, msg.flags, src)
    }
    fn recv(&self, env: &mut Env<'_>, msg: &mut Incoming, dst: &mut Dst) -> Io<u64> {
        if msg.flags & num::MSG_OOB != 0 {
            return err(Errno::EINVAL);
        }
        if msg.flags & num::MSG_ERRQUEUE != 0 {
            return err(Errno::EAGAIN);
        }
        self.receive(env, msg.flags, dst)
    }
    fn shutdown(&self, env: &mut Env<'_>, how: i32) -> Io<()> {
        let (rd, wr) = (how != num::SHUT_WR, how != num::SHUT_RD);
        match self.state.get() {
            State::Closed => {
                self.rcv_shut.set(self.rcv_shut.get() || rd);
                self.snd_shut.set(self.snd_shut.get() || wr);
                self.queue.wake_all();
                return err(Errno::ENOTCONN);
            }
            State::Connecting => return err(Errno::ENOTCONN),
            State::Listen => {
                if rd {
                    if let Some(h) = self.handle() {
                        env.plat.net_shutdown(h, num::SHUT_RD)?;
                    }
                    self.stop_listening();
                }
                return Ok(());
            }
            State::Open => {}
        }
        if rd {
            self.rcv_shut.set(true);
        }
        if wr {
            self.finish_sending(env);
        }
        self.queue.wake_all();
        Ok(())
    }
    fn take_error(&self, _: &mut Env<'_>) -> i32 {
        self.error.replace(0)
    }
    fn option_changed(&self, env: &mut Env<'_>, name: i32) {
        super::sockopt::generic_changed(env, self.handle(), &self.base, name);
        self.flow_option(env, num::SOL_SOCKET, name);
        if name == so::RCVLOWAT {
            self.queue.notify(Poll::IN | Poll::RDNORM);
        }
    }
    fn set_option(&self, env: &mut Env<'_>, level: i32, name: i32, value: &[u8]) -> Io<()> {
        self.extra
            .set(env, self.handle(), &self.base, level, name, value)?;
        self.flow_option(env, level, name);
        Ok(())
    }
    fn get_option(&self, env: &mut Env<'_>, level: i32, name: i32, len: usize) -> Io<Vec<u8>> {
        if level == super::host::IPPROTO_TCP && name == super::sockopt::TCP_INFO && self.handle().is_none() {
            let mut info = self.flow_info().unwrap_or_else(|| self.info());
            info.truncate(len);
            return Ok(info);
        }
        if level == super::host::IPPROTO_TCP
            && name == super::sockopt::TCP_MAXSEG
            && let Some(mss) = self.flow_mss()
        {
            return Ok(mss.to_le_bytes()[..len.min(4)].to_vec());
        }
        self.extra.get(env, self.handle(), &self.base, level, name, len)
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        if let (Some(own), Some(id)) = (&self.inet.own, self.listener_id.take()) {
            own.leave_listener(id);
        }
        if self.held.get() != 0 {
            self.inet.tcp.release(self.held.get(), &self.me);
        }
        // Unread bytes are lost: the peer is told by a reset, as tcp_close() does.
        let abort = !self.rx.get_mut().is_empty()
            || self.waiting.get()
            || self.base.options.linger.get() == (true, 0);
        // Both have closed: the port of the one that did so first waits.
        if let (false, Some(reuse)) = (abort, self.peer_first.get())
            && let Ok(addr) = Addr::parse(self.base.domain, self.remote.get_mut())
        {
            self.inet.time_wait.begin(addr, reuse, self.inet.now());
        }
        let reuse = self.base.options.reuse_addr.get();
        match self.link.get_mut() {
            Link::Host(h) => {
                let rest: Vec<u8> = std::mem::take(self.tx.get_mut()).into();
                h.farewell(rest, abort && self.state.get() == State::Open);
            }
            Link::Own(f) => {
                if let Some(own) = &self.inet.own {
                    own.leave_flow(*f, abort);
                }
            }
            Link::Image(p, _) => {
                if let Some(p) = p.upgrade() {
                    if !abort && !p.snd_shut.get() && !self.peer_fin.get() {
                        p.peer_first.set(Some(reuse));
                    }
                    p.peer_gone(abort);
                }
            }
            Link::None => {}
        }
    }
}
