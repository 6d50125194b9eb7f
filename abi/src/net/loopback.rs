//! Ports of the image's own loopback: all there is under `--net none`, and the short cut between
//! sockets of one image under `--net host`.

use super::inet::Addr;
use ftl_core::errno::Errno;
use ftl_core::kcore::Env;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// net.ipv4.ip_local_port_range
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// TCP_TIMEWAIT_LEN, ns.
const TIME_WAIT_NS: u64 = 60_000_000_000;

/// Addresses of connections inside the image that this side closed first: their port waits, as in
/// TIME_WAIT. Connections to other hosts wait there or in the own stack.
#[derive(Default)]
pub struct TimeWait(RefCell<BTreeMap<u16, Vec<Waiting>>>);

struct Waiting {
    addr: Addr,
    /// SO_REUSEADDR of the socket that was there.
    reuse: bool,
    until: u64,
}

impl TimeWait {
    /// A connection whose first closer was at `addr` is over.
    pub fn begin(&self, addr: Addr, reuse: bool, now: u64) {
        let mut all = self.0.borrow_mut();
        let list = all.entry(addr.port).or_default();
        // One for each address and kind, however many connections there were.
        list.retain(|w| w.until > now && !(w.addr.ip == addr.ip && w.reuse == reuse));
        let until = now + TIME_WAIT_NS;
        list.push(Waiting { addr, reuse, until });
    }

    /// bind(2) to `addr` meets one that waits.
    pub fn blocks(&self, addr: &Addr, reuse: bool, now: u64) -> bool {
        let mut all = self.0.borrow_mut();
        let Some(list) = all.get_mut(&addr.port) else {
            return false;
        };
        list.retain(|w| w.until > now);
        let hit = list
            .iter()
            .any(|w| (w.addr.ip == addr.ip || addr.is_any()) && !(reuse && w.reuse));
        if list.is_empty() {
            all.remove(&addr.port);
        }
        hit
    }
}

/// A socket that can hold a port.
pub trait Bindable {
    /// SO_REUSEADDR and SO_REUSEPORT.
    fn reuse(&self) -> (bool, bool);
    /// Listens: then SO_REUSEADDR does not help.
    fn listens(&self) -> bool;
    /// IPV6_V6ONLY.
    fn v6only(&self) -> bool;
}

type Bound<T> = BTreeMap<u16, Vec<(Addr, Weak<T>)>>;

/// Who is bound where, by port and in the order of binding.
pub struct Ports<T> {
    bound: RefCell<Bound<T>>,
    next: Cell<u16>,
}

impl<T> Default for Ports<T> {
    fn default() -> Ports<T> {
        Ports {
            bound: RefCell::default(),
            next: Cell::new(0),
        }
    }
}

impl<T: Bindable> Ports<T> {
    fn conflict(&self, addr: &Addr, sock: &T) -> bool {
        let (ra, rp) = sock.reuse();
        let bound = self.bound.borrow();
        bound.get(&addr.port).into_iter().flatten().any(|(a, other)| {
            let Some(other) = other.upgrade() else {
                return false;
            };
            let (oa, op) = other.reuse();
            let same = a.ip == addr.ip || a.is_any() || addr.is_any();
            same && !(rp && op) && !(ra && oa && !other.listens())
        })
    }

    /// bind(2) to any address or one of the image: the address with its port, or EADDRINUSE.
    pub fn bind(&self, env: &mut Env<'_>, mut addr: Addr, sock: &Rc<T>) -> Result<Addr, Errno> {
        if addr.port == 0 {
            addr.port = self.free_port(env)?;
        } else if self.conflict(&addr, sock) {
            return Err(Errno::EADDRINUSE);
        }
        self.note(addr, &Rc::downgrade(sock));
        Ok(addr)
    }

    /// The socket has this address; under `--net host` the host has said so.
    pub fn note(&self, addr: Addr, sock: &Weak<T>) {
        let mut bound = self.bound.borrow_mut();
        let list = bound.entry(addr.port).or_default();
        list.retain(|(_, s)| s.strong_count() > 0 && !Weak::ptr_eq(s, sock));
        list.push((addr, sock.clone()));
    }

    fn free_port(&self, env: &mut Env<'_>) -> Result<u16, Errno> {
        let span = EPHEMERAL.end() - EPHEMERAL.start() + 1;
        if self.next.get() == 0 {
            let start = (env.core.random_u64() % u64::from(span)) as u16;
            self.next.set(EPHEMERAL.start() + start);
        }
        let bound = self.bound.borrow();
        for _ in 0..span {
            let port = self.next.get();
            self.next.set(if port == *EPHEMERAL.end() {
                *EPHEMERAL.start()
            } else {
                port + 1
            });
            if !bound
                .get(&port)
                .is_some_and(|l| l.iter().any(|(_, s)| s.strong_count() > 0))
            {
                return Ok(port);
            }
        }
        Err(Errno::EADDRINUSE)
    }

    /// The sockets that a packet to `to` can reach; those bound to its very address first.
    pub fn find(&self, to: &Addr) -> Vec<Rc<T>> {
        let bound = self.bound.borrow();
        let Some(list) = bound.get(&to.port) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for exact in [true, false] {
            for (a, s) in list.iter().filter(|(a, _)| a.is_any() != exact) {
                out.extend(s.upgrade().filter(|s| a.accepts(to, s.v6only())));
            }
        }
        out
    }

    /// The socket is gone or lets go of its port.
    pub fn release(&self, port: u16, sock: &Weak<T>) {
        let mut bound = self.bound.borrow_mut();
        if let Some(list) = bound.get_mut(&port) {
            list.retain(|(_, s)| !Weak::ptr_eq(s, sock));
            if list.is_empty() {
                bound.remove(&port);
            }
        }
    }
}
