//! The image's own TCP/IP (`--net IF,ip=...`): the stack, and what its news means for sockets.
//!
//! Frames come as inputs and leave as outputs; the stack's deadlines are the kernel's timers. So the
//! stack is image state like everything else here (`ftl_tcpip`). A socket keeps its state here as with
//! a host socket; only the bytes of a connection are in the stack's buffers.
//!
//! Whoever has touched the stack calls [`Own::settle`] before it returns to the kernel. Sockets that
//! are dropped cannot (they have no way out): they leave a note, and the kernel settles at its exit.

use super::control::Facts;
use super::inet::{Addr, Inet};
use super::inet_tcp::Tcp;
use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::hostnet::Interface;
use ftl_core::kcore::{Core, Env, Sink};
use ftl_core::platform::{NIC, Ns};
use ftl_core::timer::{TimerKey, TimerTarget, Timers};
use ftl_tcpip::{Event, FlowId, ListenId, Stack, Why};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};

/// Number of the own interface; the loopback has 1.
pub const INTERFACE: u32 = 2;

/// How long the end of an image waits for its last bytes to be acknowledged.
const LINGER_NS: Ns = 2_000_000_000;

/// What a dropped socket leaves to be done.
enum Left {
    Flow(FlowId, bool),
    Listener(ListenId),
    Port(u16),
}

/// See the module.
pub struct Own {
    inet: Weak<Inet>,
    me: Weak<Own>,
    /// The stack. Borrowed only within one function here or in `inet_*`.
    pub stack: RefCell<Stack>,
    flows: RefCell<BTreeMap<FlowId, Weak<Tcp>>>,
    listeners: RefCell<BTreeMap<ListenId, Weak<Tcp>>>,
    left: RefCell<Vec<Left>>,
    timer: Cell<Option<(Ns, TimerKey)>>,
    due: Cell<bool>,
    linger_until: Cell<Ns>,
}

/// An address as the stack has it.
pub fn socket_addr(a: &Addr) -> SocketAddr {
    let ip = match a.is_v4() {
        true => IpAddr::from([a.ip[12], a.ip[13], a.ip[14], a.ip[15]]),
        false => IpAddr::from(a.ip),
    };
    SocketAddr::new(ip, a.port)
}

/// An address of the stack's as sockets have it.
pub fn addr(ip: IpAddr, port: u16) -> Addr {
    let ip = match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    };
    Addr { ip, port }
}

/// errno for what could not be reached.
pub fn errno(why: Why) -> Errno {
    match why {
        Why::Network => Errno::ENETUNREACH,
        Why::Host => Errno::EHOSTUNREACH,
        Why::Port => Errno::ECONNREFUSED,
    }
}

impl Own {
    /// The stack of an image that starts now.
    pub fn start(inet: &Weak<Inet>, core: &Core, config: ftl_tcpip::Config) -> Rc<Own> {
        let key = [core.random_u64(), core.random_u64()];
        let own = Rc::new_cyclic(|me| Own {
            inet: inet.clone(),
            me: me.clone(),
            stack: RefCell::new(Stack::new(config, key)),
            flows: RefCell::default(),
            listeners: RefCell::default(),
            left: RefCell::default(),
            timer: Cell::default(),
            due: Cell::default(),
            linger_until: Cell::default(),
        });
        let sink: Weak<dyn Sink> = own.me.clone();
        core.register(NIC, sink);
        own
    }

    /// One of the interface's addresses.
    pub fn owns(&self, a: &Addr) -> bool {
        self.stack.borrow().config.owns(socket_addr(a).ip())
    }

    /// The address that a packet to `to` comes from.
    pub fn source_for(&self, to: &Addr) -> Option<Addr> {
        let ip = self.stack.borrow().config.source_for(socket_addr(to).ip())?;
        Some(addr(ip, 0))
    }

    /// A connection belongs to this socket.
    pub fn adopt(&self, flow: FlowId, sock: &Weak<Tcp>) {
        self.flows.borrow_mut().insert(flow, sock.clone());
    }

    /// A listener belongs to this socket.
    pub fn adopt_listener(&self, id: ListenId, sock: &Weak<Tcp>) {
        self.listeners.borrow_mut().insert(id, sock.clone());
    }

    /// A socket with this connection is gone; `abort`: by a reset.
    pub fn leave_flow(&self, flow: FlowId, abort: bool) {
        self.flows.borrow_mut().remove(&flow);
        self.left.borrow_mut().push(Left::Flow(flow, abort));
    }

    /// A listener is gone.
    pub fn leave_listener(&self, id: ListenId) {
        self.listeners.borrow_mut().remove(&id);
        self.left.borrow_mut().push(Left::Listener(id));
    }

    /// A UDP socket with this port is gone.
    pub fn leave_port(&self, port: u16) {
        self.left.borrow_mut().push(Left::Port(port));
    }

    /// Something waits for [`Own::settle`].
    pub fn pending(&self) -> bool {
        self.due.get() || !self.left.borrow().is_empty()
    }

    /// The image goes on at another host: tells the link where its addresses are now, and every peer where
    /// its connection stands (PROTOCOL §3: a kick for each flow).
    pub fn took_over(&self, env: &mut Env<'_>) {
        const MANY: usize = 256;
        let now = env.core.clock.last();
        {
            let mut stack = self.stack.borrow_mut();
            stack.start_announcing(now);
            let mut from = Some(0);
            while let Some(at) = from {
                from = stack.kick(at, MANY, now);
            }
        }
        self.settle(env);
    }

    /// Frames go out, news goes to sockets, the timer is set.
    pub fn settle(&self, env: &mut Env<'_>) {
        let now = env.core.clock.last();
        for left in self.left.take() {
            let mut stack = self.stack.borrow_mut();
            match left {
                Left::Flow(f, abort) => stack.release(f, abort, now),
                Left::Listener(l) => stack.unlisten(l),
                Left::Port(p) => stack.udp_close(p),
            }
        }
        if self.due.take() {
            self.stack.borrow_mut().expire(now);
        }
        loop {
            self.send_frames(env);
            let event = self.stack.borrow_mut().take_event();
            match event {
                Some(e) => self.news(env, e),
                None => break,
            }
        }
        self.set_timer(&env.core.timers);
    }

    fn send_frames(&self, env: &mut Env<'_>) {
        let mut stack = self.stack.borrow_mut();
        while let Some(f) = stack.take_frame() {
            env.plat.out_packet(NIC, &f, stack.frames() > 0);
        }
    }

    fn set_timer(&self, timers: &Timers) {
        let Some(at) = self.stack.borrow().deadline() else {
            return;
        };
        if let Some((t, key)) = self.timer.get() {
            if t <= at {
                return;
            }
            timers.cancel(key);
        }
        let target: Weak<dyn TimerTarget> = self.me.clone();
        self.timer.set(Some((at, timers.call_at(at, target, 0))));
    }

    fn news(&self, env: &mut Env<'_>, event: Event) {
        match event {
            Event::Changed(flow) => {
                let sock = self.flows.borrow().get(&flow).and_then(Weak::upgrade);
                if let Some(sock) = sock {
                    sock.flow_changed(self, flow);
                }
            }
            Event::Accept(listener, flow) => {
                let sock = self.listeners.borrow().get(&listener).and_then(Weak::upgrade);
                match sock {
                    Some(sock) => sock.flow_accepted(env, self, flow),
                    None => self.stack.borrow_mut().release(flow, true, env.core.clock.last()),
                }
            }
            Event::Datagram {
                from,
                to,
                ttl,
                tos,
                data,
            } => {
                if let Some(inet) = self.inet.upgrade() {
                    super::inet_udp::arrived(
                        &inet,
                        addr(from.ip(), from.port()),
                        Facts {
                            to: addr(to.ip(), to.port()),
                            interface: INTERFACE,
                            ttl,
                            tos,
                        },
                        data,
                    );
                }
            }
            Event::Unreachable(from, to, why) => {
                if let Some(inet) = self.inet.upgrade() {
                    let (from, to) = (addr(from.ip(), from.port()), addr(to.ip(), to.port()));
                    super::inet_udp::unreachable(&inet, &from, &to, errno(why));
                }
            }
        }
    }

    /// Takeover: tells the link where our addresses are, again and again for two seconds.
    pub fn announce(&self, env: &mut Env<'_>) {
        let now = env.core.clock.last();
        self.stack.borrow_mut().start_announcing(now);
        self.settle(env);
    }

    /// Takeover: flows from the `from`th on, at most `most`, send again what is not acknowledged, or
    /// say where they stand. Where to go on.
    pub fn kick(&self, env: &mut Env<'_>, from: usize, most: usize) -> Option<usize> {
        let now = env.core.clock.last();
        let next = self.stack.borrow_mut().kick(from, most, now);
        self.settle(env);
        next
    }

    /// Clone: sequence numbers of the copies have nothing in common. Not after a takeover.
    pub fn rekey(&self, core: &Core) {
        let key = [core.random_u64(), core.random_u64()];
        self.stack.borrow_mut().rekey(key);
    }

    /// The image has ended: true while bytes that it has written are on their way, which a native
    /// process leaves to its kernel; not for long.
    pub fn lingers(&self, now: Ns) -> bool {
        if !self.stack.borrow().has_unsent() {
            return false;
        }
        if self.linger_until.get() == 0 {
            self.linger_until.set(now + LINGER_NS);
        }
        now < self.linger_until.get()
    }

    /// When [`Own::lingers`] ends at the latest, or has something to send again.
    pub fn linger_end(&self) -> Ns {
        let stack = self.stack.borrow();
        let next = stack.deadline().unwrap_or(Ns::MAX);
        next.min(self.linger_until.get())
    }

    /// The interface, as netlink and ioctls show it.
    pub fn interface(&self) -> Interface {
        // IFF_UP, BROADCAST, RUNNING, MULTICAST, LOWER_UP
        const FLAGS: u32 = 0x1_1043;
        // ARPHRD_ETHER; RT_SCOPE_UNIVERSE, RT_SCOPE_LINK
        const ETHER: u16 = 1;
        let stack = self.stack.borrow();
        let c = &stack.config;
        let octets = |ip: IpAddr| match ip {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        let mut addrs: Vec<(Vec<u8>, u8, u8)> = c.addrs.iter().map(|(a, p)| (octets(*a), *p, 0)).collect();
        if let Some(l) = c.link_local() {
            addrs.push((octets(IpAddr::V6(l)), 64, 253));
        }
        addrs.sort_by_key(|(a, _, scope)| (a.len(), *scope));
        Interface {
            index: INTERFACE,
            name: b"eth0".to_vec(),
            flags: FLAGS,
            kind: ETHER,
            mtu: c.mtu as u32,
            mac: c.mac.to_vec(),
            addrs,
            gateway: c.gateways.iter().find(|g| g.is_ipv4()).map(|g| octets(*g)),
        }
    }
}

impl Sink for Own {
    fn input(&self, env: &mut Env<'_>, input: Input) {
        if let Input::Packet(_, frame) = input {
            let now = env.core.clock.last();
            self.stack.borrow_mut().input(&frame, now);
            self.settle(env);
        }
    }
}

impl TimerTarget for Own {
    fn expired(&self, _: &Timers, _: Ns, _: u64) {
        self.timer.set(None);
        self.due.set(true);
    }
}
