//! UDP sockets, on host sockets or on the image's own loopback (net/ipv4/udp.c).

use super::control::{self, About, Facts, Wishes};
use super::inet::{Addr, Inet, family};
use super::loopback::Bindable;
use super::own::{Own, socket_addr};
use super::sockopt::Extra;
use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::hostnet::{Connect, DATAGRAM_COST};
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::{Env, HostRef, Sink};
use ftl_core::platform::{Handle, Stat};
use ftl_core::socket::{Base, Control, Incoming, Outgoing, Socket, num};
use ftl_core::wait::{Poll, WaitQueue};
use ftl_tcpip::Why;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// Bytes of waiting datagrams, with [`DATAGRAM_COST`] for each.
const WINDOW: usize = 256 * 1024;
/// Largest datagram.
const MAX: u64 = 65_507;

struct Datagram {
    data: Vec<u8>,
    from: Vec<u8>,
    cut: bool,
    /// From a socket of the image.
    inside: bool,
    about: About,
}

/// A UDP socket.
pub struct Udp {
    me: Weak<Udp>,
    inet: Rc<Inet>,
    base: Base,
    extra: Extra,
    host: Option<HostRef>,
    local: RefCell<Vec<u8>>,
    remote: RefCell<Vec<u8>>,
    held: Cell<u16>,
    rx: RefCell<VecDeque<Datagram>>,
    /// Control messages of the datagram that the host gives next.
    told: RefCell<Vec<Control>>,
    /// Host window of what was read and not yet granted again.
    owed: Cell<usize>,
    /// Window used by waiting datagrams of the image's own sockets.
    inside: Cell<usize>,
    error: Cell<i32>,
    rcv_shut: Cell<bool>,
    snd_shut: Cell<bool>,
    /// The host has no room for another datagram.
    full: Cell<bool>,
    /// Port that the own stack takes datagrams for.
    opened: Cell<u16>,
    ino: u64,
    queue: WaitQueue,
}

impl Udp {
    /// socket(2)
    pub fn create(env: &mut Env<'_>, inet: &Rc<Inet>, domain: i32, protocol: i32) -> Io<Rc<Udp>> {
        let host = if inet.host(env) {
            let h = env.core.new_handle();
            env.plat.net_socket(domain, num::SOCK_DGRAM, protocol, h)?;
            Some(env.core.own_socket(h))
        } else {
            None
        };
        let sock = Rc::new_cyclic(|me: &Weak<Udp>| Udp {
            me: me.clone(),
            inet: inet.clone(),
            base: Base::new(domain, num::SOCK_DGRAM, protocol),
            extra: Extra::default(),
            host,
            local: RefCell::default(),
            remote: RefCell::default(),
            held: Cell::new(0),
            rx: RefCell::default(),
            told: RefCell::default(),
            owed: Cell::new(0),
            inside: Cell::new(0),
            error: Cell::new(0),
            rcv_shut: Cell::new(false),
            snd_shut: Cell::new(false),
            full: Cell::new(false),
            opened: Cell::new(0),
            ino: inet.new_ino(),
            queue: WaitQueue::new(),
        });
        if let Some(h) = sock.handle() {
            let sink: Weak<dyn Sink> = sock.me.clone();
            env.core.register(h, sink);
            env.plat.net_grant(h, WINDOW);
        }
        Ok(sock)
    }

    fn handle(&self) -> Option<Handle> {
        self.host.as_ref().map(|h| h.handle)
    }

    fn bind_image(&self, env: &mut Env<'_>, addr: Addr) -> Io<()> {
        let Some(me) = self.me.upgrade() else {
            return err(Errno::EINVAL);
        };
        if !addr.is_any() && !self.inet.is_local(&addr) {
            return err(Errno::EADDRNOTAVAIL);
        }
        let got = self.inet.udp.bind(env, addr, &me)?;
        self.held.set(got.port);
        if let Some(own) = self.inet.own.as_ref().filter(|_| !got.is_loopback()) {
            own.stack.borrow_mut().udp_open(got.port);
            self.opened.set(got.port);
        }
        *self.local.borrow_mut() = got.to_bytes(self.base.domain);
        Ok(())
    }

    /// The socket of this image that hears a datagram from `from` to `to`.
    fn hearer(&self, from: &Addr, to: &Addr) -> Option<Rc<Udp>> {
        if !self.inet.is_local(to) {
            return None;
        }
        hearer(&self.inet, from, to)
    }

    /// Sends through the image's own stack.
    fn send_out(&self, env: &mut Env<'_>, own: &Own, to: Addr, wishes: &Wishes, src: &mut Src) -> Io<u64> {
        let mut from = self.sender(env, &to)?;
        if let Some(ip) = wishes.source {
            from.ip = ip;
            if !own.owns(&from) {
                return err(Errno::EINVAL);
            }
        } else if self.named_any() {
            from.ip = own.source_for(&to).ok_or(Errno::ENETUNREACH)?.ip;
        }
        let (from, to) = (socket_addr(&from), socket_addr(&to));
        if own.stack.borrow().config.is_broadcast(to.ip()) && !self.base.options.broadcast.get() {
            return err(Errno::EACCES);
        }
        let data = src.get_vec(env.plat, MAX as usize)?;
        let now = env.core.clock.last();
        let len = data.len() as u64;
        let mut sent = Ok(());
        for part in wishes.datagrams(data)? {
            let mut stack = own.stack.borrow_mut();
            sent = sent.and(stack.udp_send(from, to, &part, wishes.ttl, now));
        }
        own.settle(env);
        match sent {
            Ok(()) => Ok(len),
            Err(Why::Host) => err(Errno::EMSGSIZE),
            Err(why) => err(super::own::errno(why)),
        }
    }

    /// Bound to no address of its own.
    fn named_any(&self) -> bool {
        Addr::parse(self.base.domain, &self.local.borrow()).is_ok_and(|a| a.is_any())
    }

    /// Takes a datagram, unless it has too many already: then it is lost, as UDP loses.
    fn take(&self, from: &Addr, about: Facts, data: Vec<u8>) {
        let cost = data.len() + DATAGRAM_COST;
        if self.inside.get() + cost <= WINDOW {
            self.inside.set(self.inside.get() + cost);
            self.arrived(Datagram {
                data,
                from: from.to_bytes(self.base.domain),
                cut: false,
                inside: true,
                about: About::Known(about),
            });
        }
    }

    /// Our own address as the receiver at `to` sees it, bound now if it was not.
    fn sender(&self, env: &mut Env<'_>, to: &Addr) -> Io<Addr> {
        if self.local.borrow().is_empty() {
            let any = Addr::any(self.base.domain);
            match self.handle() {
                Some(h) => {
                    let local = env.plat.net_bind(h, &any.to_bytes(self.base.domain))?;
                    self.named(local)?;
                }
                None => self.bind_image(env, any)?,
            }
        }
        let mut from = Addr::parse(self.base.domain, &self.local.borrow())?;
        if from.is_any() {
            from.ip = to.source_inside();
        }
        Ok(from)
    }

    /// The host has given the socket an address.
    fn named(&self, local: Vec<u8>) -> Io<()> {
        if let Ok(addr) = Addr::parse(self.base.domain, &local)
            && addr.port != 0
        {
            if self.held.get() != addr.port {
                self.inet.udp.release(self.held.get(), &self.me);
            }
            self.held.set(addr.port);
            self.inet.udp.note(addr, &self.me);
        }
        *self.local.borrow_mut() = local;
        Ok(())
    }

    /// Hands a datagram to a socket of the image. Full: dropped, as UDP does.
    fn deliver(
        &self,
        env: &mut Env<'_>,
        peer: &Udp,
        (from, to): (Addr, Addr),
        wishes: &Wishes,
        src: &mut Src,
    ) -> Io<u64> {
        let data = src.get_vec(env.plat, MAX as usize)?;
        let n = data.len();
        let about = Facts {
            to,
            // The loopback's, which all of the image's own traffic takes.
            interface: 1,
            ttl: wishes.ttl,
            tos: wishes.tos,
        };
        for part in wishes.datagrams(data)? {
            peer.take(&from, about, part);
        }
        Ok(n as u64)
    }

    /// `--net none`: nobody is there.
    fn lost(&self, env: &mut Env<'_>, to: Addr, wishes: &Wishes, src: &mut Src) -> Io<u64> {
        if !self.inet.is_local(&to) {
            return match &self.inet.own {
                Some(own) => self.send_out(env, &own.clone(), to, wishes, src),
                None => err(Errno::ENETUNREACH),
            };
        }
        let n = src.get_vec(env.plat, MAX as usize)?.len() as u64;
        if !self.remote.borrow().is_empty() {
            // The ICMP answer.
            self.error.set(Errno::ECONNREFUSED.raw());
            self.queue.notify(Poll::ERR | Poll::IN | Poll::OUT);
        }
        Ok(n)
    }

    /// A connected socket hears its peer only.
    fn takes_from(&self, from: &Addr) -> bool {
        let remote = self.remote.borrow();
        remote.is_empty() || Addr::parse(self.base.domain, &remote).as_ref() == Ok(from)
    }

    fn arrived(&self, d: Datagram) {
        self.rx.borrow_mut().push_back(d);
        self.queue.notify(Poll::IN | Poll::RDNORM);
    }

    fn pending_error(&self) -> Option<Errno> {
        Errno::from_raw(self.error.replace(0))
    }

    fn consumed(&self, env: &mut Env<'_>, cost: usize, inside: bool) {
        let Some(h) = self.handle().filter(|_| !inside) else {
            self.inside.set(self.inside.get() - cost);
            return;
        };
        let owed = self.owed.get() + cost;
        if owed < WINDOW / 2 {
            self.owed.set(owed);
        } else {
            self.owed.set(0);
            env.plat.net_grant(h, owed);
        }
    }

    fn transmit(
        &self,
        env: &mut Env<'_>,
        name: Option<&[u8]>,
        control: &[Control],
        src: &mut Src,
    ) -> Io<u64> {
        if src.remaining() > MAX {
            return err(Errno::EMSGSIZE);
        }
        if let Some(e) = self.pending_error() {
            return err(e);
        }
        if self.snd_shut.get() {
            return err(Errno::EPIPE);
        }
        let name = name.filter(|n| !n.is_empty());
        if name.is_none() && self.remote.borrow().is_empty() {
            return err(Errno::EDESTADDRREQ);
        }
        let remote = self.remote.borrow().clone();
        let to = Addr::parse(self.base.domain, name.unwrap_or(&remote))?.reached();
        let wishes = Wishes::of(&self.extra, &to, control)?;
        if self.inet.is_local(&to) && self.base.protocol == super::host::IPPROTO_UDP {
            let mut from = self.sender(env, &to)?;
            if let Some(ip) = wishes.source {
                from.ip = ip;
                // Which addresses the host has is not known here.
                if self.host.is_none() && !self.inet.is_local(&from) {
                    return err(Errno::EINVAL);
                }
            }
            if let Some(peer) = self.hearer(&from, &to) {
                return self.deliver(env, &peer, (from, to), &wishes, src);
            }
        }
        let Some(h) = self.handle() else {
            return if to.port == 0 {
                err(Errno::EINVAL)
            } else {
                self.lost(env, to, &wishes, src)
            };
        };
        if self.full.get() {
            return err(Errno::EAGAIN);
        }
        let mut buf = self.inet.scratch.borrow_mut();
        let want = src.remaining() as usize;
        if buf.len() < want {
            buf.resize(want.next_power_of_two(), 0);
        }
        let n = src.get(env.plat, &mut buf[..want])?;
        if n < want {
            return err(Errno::EFAULT);
        }
        match env
            .plat
            .net_send_to(h, &buf[..n], name.unwrap_or(&[]), &control::to_bytes(control))
        {
            Ok(_) => Ok(n as u64),
            Err(Errno::EAGAIN) => {
                self.full.set(true);
                err(Errno::EAGAIN)
            }
            Err(e) => err(e),
        }
    }
}

impl Sink for Udp {
    fn input(&self, _: &mut Env<'_>, input: Input) {
        match input {
            Input::Datagram(_, data, from, cut) => self.arrived(Datagram {
                data,
                from,
                cut,
                inside: false,
                about: About::Told(self.told.take()),
            }),
            Input::Control(_, raw) => *self.told.borrow_mut() = control::from_bytes(&raw),
            Input::Failed(_, e) => {
                self.error.set(e);
                self.queue.notify(Poll::ERR | Poll::IN | Poll::OUT);
            }
            Input::Writable(_) => {
                self.full.set(false);
                self.queue.notify(Poll::OUT | Poll::WRNORM | Poll::WRBAND);
            }
            _ => {}
        }
    }
}

impl Bindable for Udp {
    fn reuse(&self) -> (bool, bool) {
        (
            self.base.options.reuse_addr.get(),
            self.base.options.reuse_port.get(),
        )
    }
    fn listens(&self) -> bool {
        false
    }
    fn v6only(&self) -> bool {
        self.extra.v6only()
    }
}

impl File for Udp {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn describe(&self) -> Vec<u8> {
        format!("socket:[{}]", self.ino).into_bytes()
    }
    fn whole_writes(&self) -> bool {
        true
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        self.recv(env, &mut Incoming::default(), dst)
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        self.transmit(env, None, &[], src)
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        let mut p = Poll::empty();
        if self.error.get() != 0 {
            p |= Poll::ERR;
        }
        if self.rcv_shut.get() {
            p |= Poll::IN | Poll::RDNORM | Poll::RDHUP;
            if self.snd_shut.get() {
                p |= Poll::HUP;
            }
        }
        if !self.rx.borrow().is_empty() {
            p |= Poll::IN | Poll::RDNORM;
        }
        if !self.full.get() {
            p |= Poll::OUT | Poll::WRNORM | Poll::WRBAND;
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
        let n = match cmd {
            SIOCINQ => self.rx.borrow().front().map_or(0, |d| d.data.len() as u32),
            SIOCOUTQ => self.handle().map_or(0, |h| env.plat.net_unsent(h)),
            _ => return err(Errno::ENOTTY),
        };
        env.put(arg, &n)?;
        Ok(0)
    }
}

impl Socket for Udp {
    fn base(&self) -> &Base {
        &self.base
    }
    fn bind(&self, env: &mut Env<'_>, addr: &[u8]) -> Io<()> {
        if let Some(h) = self.handle() {
            let local = env.plat.net_bind(h, addr)?;
            return self.named(local);
        }
        let addr = Addr::parse(self.base.domain, addr)?;
        if !self.local.borrow().is_empty() {
            return err(Errno::EINVAL);
        }
        self.bind_image(env, addr)
    }
    fn connect(&self, env: &mut Env<'_>, addr: &[u8], _: bool) -> Io<()> {
        let unspec = family(addr) == Some(0);
        if let Some(h) = self.handle() {
            let how = env.plat.net_connect(h, if unspec { &[] } else { addr })?;
            if let Connect::Done(local) = how {
                self.named(local)?;
            }
        } else if !unspec {
            if self.local.borrow().is_empty() {
                self.bind_image(env, Addr::any(self.base.domain))?;
            }
            let mut here = Addr::parse(self.base.domain, &self.local.borrow())?;
            let to = Addr::parse(self.base.domain, addr)?.reached();
            let source = match &self.inet.own {
                _ if self.inet.is_local(&to) => Some(Addr {
                    ip: to.source_inside(),
                    port: 0,
                }),
                Some(own) => own.source_for(&to),
                None => None,
            };
            let source = source.ok_or(Errno::ENETUNREACH)?;
            if here.is_any() {
                here.ip = source.ip;
                *self.local.borrow_mut() = here.to_bytes(self.base.domain);
            }
        }
        *self.remote.borrow_mut() = if unspec {
            Vec::new()
        } else {
            let to = Addr::parse(self.base.domain, addr)?;
            let short = if family(addr) == Some(num::AF_INET) {
                16
            } else {
                28
            };
            if to.is_any() {
                to.reached().to_bytes(self.base.domain)
            } else {
                addr[..short.min(addr.len())].to_vec()
            }
        };
        Ok(())
    }
    fn local_name(&self, env: &mut Env<'_>) -> Io<Vec<u8>> {
        if self.local.borrow().is_empty()
            && let Some(h) = self.handle()
        {
            // Its first send may have bound it.
            let local = env.plat.net_local(h)?;
            if Addr::parse(self.base.domain, &local).is_ok_and(|a| a.port != 0) {
                self.named(local.clone())?;
            }
            return Ok(local);
        }
        let local = self.local.borrow();
        Ok(if local.is_empty() {
            super::host::zero_name(self.base.domain)
        } else {
            local.clone()
        })
    }
    fn peer_name(&self, _: &mut Env<'_>) -> Io<Vec<u8>> {
        if self.remote.borrow().is_empty() {
            return err(Errno::ENOTCONN);
        }
        Ok(self.remote.borrow().clone())
    }
    fn send(&self, env: &mut Env<'_>, msg: &mut Outgoing, src: &mut Src) -> Io<u64> {
        if msg.flags & num::MSG_OOB != 0 {
            return err(Errno::EOPNOTSUPP);
        }
        self.transmit(env, msg.name.as_deref(), &msg.control, src)
    }
    fn recv(&self, env: &mut Env<'_>, msg: &mut Incoming, dst: &mut Dst) -> Io<u64> {
        if msg.flags & (num::MSG_OOB | num::MSG_ERRQUEUE) != 0 {
            return err(if msg.flags & num::MSG_OOB != 0 {
                Errno::EOPNOTSUPP
            } else {
                Errno::EAGAIN
            });
        }
        if self.rx.borrow().is_empty() {
            return match self.pending_error() {
                Some(e) => err(e),
                // A call that would not wait finds nothing; one that would, the end.
                None if self.rcv_shut.get() && msg.flags & num::MSG_DONTWAIT == 0 => Ok(0),
                None => err(Errno::EAGAIN),
            };
        }
        let (got, len, cut, inside);
        {
            let rx = self.rx.borrow();
            let Some(d) = rx.front() else {
                return err(Errno::EAGAIN);
            };
            got = dst.put(env.plat, &d.data)?;
            len = d.data.len();
            inside = d.inside;
            cut = d.cut || got < len;
            msg.name.clone_from(&d.from);
            msg.control = d.about.messages(&self.extra);
        }
        if msg.flags & num::MSG_PEEK == 0 {
            self.rx.borrow_mut().pop_front();
            self.consumed(env, len + DATAGRAM_COST, inside);
        }
        if cut {
            msg.out_flags |= num::MSG_TRUNC;
        }
        Ok(if msg.flags & num::MSG_TRUNC != 0 { len } else { got } as u64)
    }
    fn shutdown(&self, env: &mut Env<'_>, how: i32) -> Io<()> {
        if how != num::SHUT_WR {
            self.rcv_shut.set(true);
        }
        if how != num::SHUT_RD {
            self.snd_shut.set(true);
        }
        self.queue.wake_all();
        if self.remote.borrow().is_empty() {
            return err(Errno::ENOTCONN);
        }
        if let Some(h) = self.handle() {
            let _ = env.plat.net_shutdown(h, how);
        }
        Ok(())
    }
    fn take_error(&self, _: &mut Env<'_>) -> i32 {
        self.error.replace(0)
    }
    fn option_changed(&self, env: &mut Env<'_>, name: i32) {
        super::sockopt::generic_changed(env, self.handle(), &self.base, name);
    }
    fn set_option(&self, env: &mut Env<'_>, level: i32, name: i32, value: &[u8]) -> Io<()> {
        self.extra.set(env, self.handle(), &self.base, level, name, value)
    }
    fn get_option(&self, env: &mut Env<'_>, level: i32, name: i32, len: usize) -> Io<Vec<u8>> {
        self.extra.get(env, self.handle(), &self.base, level, name, len)
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        if self.held.get() != 0 {
            self.inet.udp.release(self.held.get(), &self.me);
        }
        if let Some(own) = self.inet.own.as_ref().filter(|_| self.opened.get() != 0) {
            own.leave_port(self.opened.get());
        }
    }
}

/// The socket of this image that hears a datagram from `from` to `to`.
fn hearer(inet: &Inet, from: &Addr, to: &Addr) -> Option<Rc<Udp>> {
    inet.udp.find(to).into_iter().find(|p| p.takes_from(from))
}

/// A datagram has come from outside.
pub fn arrived(inet: &Inet, from: Addr, about: Facts, data: Vec<u8>) {
    if let Some(sock) = hearer(inet, &from, &about.to) {
        sock.take(&from, about, data);
    }
}

/// A datagram from `from` to `to` did not arrive: a connected socket is told.
pub fn unreachable(inet: &Inet, from: &Addr, to: &Addr, why: Errno) {
    for sock in inet.udp.find(from) {
        if !sock.remote.borrow().is_empty() && sock.takes_from(to) {
            sock.error.set(why.raw());
            sock.queue.notify(Poll::ERR | Poll::IN | Poll::OUT);
        }
    }
}
