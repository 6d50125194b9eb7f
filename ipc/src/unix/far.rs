//! UNIX sockets that meet the host: with a name in a host directory that the image may change, or with a peer that has.
//!
//! The host socket is a device behind the doors, as those of `--net host` are: bytes, packets, connections and ends come
//! as inputs. What a stream's peer has not taken lies in the image, so what write(2) returns depends on the image only;
//! packets go through whole or not at all. Two sockets of one image are joined here as ever, whatever their names are,
//! and their bytes never leave. Descriptors do not cross: a send with SCM_RIGHTS is EPERM, as Linux 6.16 answers for a
//! receiver that takes none (SO_PASSRIGHTS), and those that a host program sends are closed, which MSG_CTRUNC tells.

use super::names::Names;
use super::packet::Packet;
use super::{READABLE, SHUT_ALL, SHUT_RCV, SHUT_SND, State, UnixSocket, WRITABLE};
use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::hostnet::{ACCEPT_WINDOW, DATAGRAM_COST};
use ftl_core::io::{Io, Src, err};
use ftl_core::kcore::{Env, HostRef, Sink};
use ftl_core::platform::{Handle, Ns};
use ftl_core::socket::{Outgoing, Ucred, num, so};
use ftl_core::timer::{TimerTarget, Timers};
use ftl_core::wait::Poll;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// Bytes that the image takes ahead of the reader; packets count with [`DATAGRAM_COST`].
const RX_LIMIT: usize = 256 * 1024;
/// Connections that the device accepts ahead of accept(2), at most.
const ACCEPT_AHEAD: i32 = 128;
/// The host does not tell when a full receiver has room again: it is asked this often, ns.
const AGAIN: Ns = 10_000_000;

/// A name of a UNIX socket in the host's file system: a directory that the image may reach, and a path below it.
#[derive(Clone, Debug)]
pub struct HostNode {
    /// Host directory.
    pub dir: Handle,
    /// Path below it, without symlinks.
    pub path: Vec<u8>,
}

/// The host socket of a UNIX socket.
pub(super) struct Far {
    host: HostRef,
    /// What it was bound to.
    node: RefCell<Option<HostNode>>,
    /// Its peer is a socket of the host.
    linked: Cell<bool>,
    /// Bytes of a stream that the host has not taken.
    tx: RefCell<VecDeque<u8>>,
    /// shutdown(SHUT_WR) waits for them.
    fin_due: Cell<bool>,
    /// Window of what was read and not yet granted again.
    owed: Cell<usize>,
    /// No room for another packet.
    full: Cell<bool>,
    /// A look at whether there is room is due.
    asking: Cell<bool>,
    listens: Cell<bool>,
}

impl Far {
    fn new(host: HostRef, linked: bool) -> Far {
        Far {
            host,
            node: RefCell::default(),
            linked: Cell::new(linked),
            tx: RefCell::default(),
            fin_due: Cell::new(false),
            owed: Cell::new(0),
            full: Cell::new(false),
            asking: Cell::new(false),
            listens: Cell::new(false),
        }
    }

    fn handle(&self) -> Handle {
        self.host.handle
    }

    /// What the peer has not taken goes on being sent after the image has let go.
    pub(super) fn leave(&self) {
        let rest: Vec<u8> = std::mem::take(&mut *self.tx.borrow_mut()).into();
        self.host.farewell(rest, false);
    }
}

impl UnixSocket {
    pub(super) fn far(&self) -> Option<Rc<Far>> {
        self.far.borrow().clone()
    }

    /// Its peer is a socket of the host.
    pub(super) fn linked(&self) -> Option<Rc<Far>> {
        self.far().filter(|f| f.linked.get())
    }

    /// Its host socket, made now if there is none.
    fn far_or_new(&self, env: &mut Env<'_>) -> Io<Rc<Far>> {
        if let Some(f) = self.far() {
            return Ok(f);
        }
        let h = env.core.new_handle();
        env.plat.net_socket(num::AF_UNIX, self.kind(), 0, h)?;
        let far = Rc::new(Far::new(env.core.own_socket(h), false));
        self.register(env, h);
        *self.far.borrow_mut() = Some(far.clone());
        if self.datagrams() {
            env.plat.net_grant(h, RX_LIMIT);
        }
        Ok(far)
    }

    fn register(&self, env: &mut Env<'_>, h: Handle) {
        let sink: Weak<dyn Sink> = self.me.clone();
        env.core.register(h, sink);
    }

    /// bind(2) to a name of the host, where a node with the permissions `mode` is made.
    pub fn bind_host(&self, env: &mut Env<'_>, node: &HostNode, mode: u32) -> Io<()> {
        let far = self.far_or_new(env)?;
        env.plat.net_bind_at(far.handle(), node.dir, &node.path, mode)?;
        *far.node.borrow_mut() = Some(node.clone());
        Ok(())
    }

    /// The host's side of listen(2).
    pub(super) fn listen_host(&self, env: &mut Env<'_>, backlog: i32) -> Io<()> {
        let Some(far) = self.far().filter(|f| f.node.borrow().is_some()) else {
            return Ok(());
        };
        env.plat.net_listen(far.handle(), backlog)?;
        if !far.listens.replace(true) {
            for _ in 0..backlog.clamp(1, ACCEPT_AHEAD) {
                env.plat.net_grant_accept(far.handle(), env.core.new_handle());
            }
        }
        Ok(())
    }

    /// A connection of the host was taken out of the queue: another one may come.
    pub(super) fn took(&self, env: &mut Env<'_>, end: &UnixSocket) {
        if let (Some(far), true) = (self.far(), end.linked().is_some()) {
            env.plat.net_grant_accept(far.handle(), env.core.new_handle());
        }
    }

    /// The host's process behind a socket. Its number is not one of the image's: as in a container, where a process of
    /// outside has 0.
    fn ask_peer(env: &mut Env<'_>, h: Handle) -> Ucred {
        let got = env.plat.net_get_option(h, num::SOL_SOCKET, so::PEERCRED, 12);
        let word = |b: &[u8], i: usize| b[i..].first_chunk().map_or(0, |c| u32::from_le_bytes(*c));
        match got {
            Ok(b) if b.len() == 12 => Ucred {
                pid: 0,
                uid: word(&b, 4),
                gid: word(&b, 8),
            },
            _ => Ucred::NONE,
        }
    }

    /// Joins to a socket of the host that has bound `name`.
    fn link(&self, env: &mut Env<'_>, far: &Far, name: Vec<u8>, granted: usize) {
        far.linked.set(true);
        far.full.set(false);
        // Names have the family only if there is nothing else.
        let name = if name.len() > 2 { name } else { Vec::new() };
        *self.peer.borrow_mut() = Some(Weak::new());
        *self.peer_name.borrow_mut() = Some(Rc::new(RefCell::new(name)));
        self.state.set(State::Established);
        if !self.datagrams() {
            self.peer_creds.set(UnixSocket::ask_peer(env, far.handle()));
            env.plat.net_grant(far.handle(), RX_LIMIT - granted);
        }
    }

    /// connect(2) to a socket of the host. EAGAIN: its queue is full; it is worth another try when this socket's own
    /// queue says so.
    pub fn connect_host(&self, env: &mut Env<'_>, node: &HostNode) -> Io<()> {
        if !self.datagrams() {
            match self.state.get() {
                State::Close => {}
                State::Established => return err(Errno::EISCONN),
                State::Listen => return err(Errno::EINVAL),
            }
        }
        let far = self.far_or_new(env)?;
        match env.plat.net_connect_at(far.handle(), node.dir, &node.path) {
            Ok(name) => {
                if self.datagrams() && self.peer.borrow().is_some() {
                    self.connect_dgram(None)?;
                }
                self.link(env, &far, name, 0);
                Ok(())
            }
            Err(e) => {
                if e == Errno::EAGAIN {
                    self.ask_later(env, &far);
                }
                err(e)
            }
        }
    }

    /// The datagram socket's peer is not one of the host any more.
    pub(super) fn unlink(&self, env: &mut Env<'_>) {
        if let Some(far) = self.linked() {
            far.linked.set(false);
            far.full.set(false);
            // It was connected, and nothing else can be wrong with AF_UNSPEC.
            let _ = env.plat.net_connect(far.handle(), &[]);
        }
    }

    fn ask_later(&self, env: &mut Env<'_>, far: &Far) {
        if !far.asking.replace(true) {
            let at = env.now() + AGAIN;
            let target: Weak<dyn TimerTarget> = self.me.clone();
            env.core.timers.call_at(at, target, 0);
        }
    }

    /// Room for more than a little, as [`UnixSocket::roomy`] means it.
    pub(super) fn far_roomy(&self) -> bool {
        self.linked().is_none_or(|f| {
            let charged = f.tx.borrow().len();
            !f.full.get() && charged * 4 <= self.send_limit()
        })
    }

    /// Bytes that the host has not taken (SIOCOUTQ).
    pub(super) fn far_unsent(&self) -> usize {
        self.far().map_or(0, |f| f.tx.borrow().len())
    }

    /// Bytes for a stream's peer on the host.
    pub(super) fn send_stream_host(
        &self,
        env: &mut Env<'_>,
        far: &Far,
        msg: &Outgoing,
        src: &mut Src,
    ) -> Io<u64> {
        if !msg.rights.is_empty() {
            return err(Errno::EPERM);
        }
        let want = src.remaining() as usize;
        let room = self.send_limit().saturating_sub(far.tx.borrow().len());
        if want == 0 {
            return Ok(0);
        }
        if room == 0 {
            return err(Errno::EAGAIN);
        }
        let data = src.get_vec(env.plat, room.min(want))?;
        let mut tx = far.tx.borrow_mut();
        let sent = if tx.is_empty() {
            match env.plat.net_send(far.handle(), &data, false) {
                Ok(n) => n,
                Err(e) => {
                    drop(tx);
                    self.send_failed(e);
                    return err(e);
                }
            }
        } else {
            0
        };
        tx.extend(&data[sent..]);
        Ok(data.len() as u64)
    }

    /// The host refused bytes: the peer is gone, which an input says too.
    fn send_failed(&self, e: Errno) {
        if e == Errno::EPIPE || e == Errno::ECONNRESET {
            self.shut.set(self.shut.get() | SHUT_SND);
        }
    }

    /// A packet for a socket of the host: the peer, or the datagram socket at `node`.
    pub(super) fn send_packet_host(
        &self,
        env: &mut Env<'_>,
        node: Option<&HostNode>,
        msg: &Outgoing,
        src: &mut Src,
    ) -> Io<u64> {
        if !msg.rights.is_empty() {
            return err(Errno::EPERM);
        }
        let far = self.far_or_new(env)?;
        if node.is_none() && far.full.get() {
            return err(Errno::EAGAIN);
        }
        let len = src.remaining() as usize;
        let data = src.get_vec(env.plat, len)?;
        if data.len() < len {
            return err(Errno::EFAULT);
        }
        let sent = match node {
            Some(n) => env.plat.net_send_at(far.handle(), &data, n.dir, &n.path),
            None => env.plat.net_send_to(far.handle(), &data, &[], &[]),
        };
        match sent {
            Ok(_) => Ok(len as u64),
            Err(Errno::EAGAIN) => {
                if node.is_some() {
                    self.ask_later(env, &far);
                } else {
                    far.full.set(true);
                }
                err(Errno::EAGAIN)
            }
            Err(e) => {
                if node.is_none() && self.datagrams() && e == Errno::ECONNREFUSED {
                    // As Linux does: the peer is forgotten.
                    self.unlink(env);
                    self.connect_dgram(None)?;
                } else {
                    self.send_failed(e);
                }
                err(e)
            }
        }
    }

    /// The host has room again.
    fn flush(&self, env: &mut Env<'_>, far: &Far) {
        far.full.set(false);
        loop {
            let mut tx = far.tx.borrow_mut();
            let (front, _) = tx.as_slices();
            if front.is_empty() {
                break;
            }
            let len = front.len();
            match env.plat.net_send(far.handle(), front, false) {
                Ok(n) => {
                    tx.drain(..n);
                    if n < len {
                        break;
                    }
                }
                Err(e) => {
                    tx.clear();
                    drop(tx);
                    self.send_failed(e);
                    break;
                }
            }
        }
        if far.tx.borrow().is_empty() && far.fin_due.replace(false) {
            let _ = env.plat.net_shutdown(far.handle(), num::SHUT_WR);
        }
        if self.roomy() {
            self.queue.notify(WRITABLE);
        }
    }

    /// The host's side of shutdown(2); `how` is SHUT_*.
    pub(super) fn shutdown_host(&self, env: &mut Env<'_>, how: i32) {
        let Some(far) = self.far() else { return };
        if how != num::SHUT_RD && !far.tx.borrow().is_empty() {
            // Ours goes after the last byte.
            far.fin_due.set(true);
            if how == num::SHUT_RDWR {
                let _ = env.plat.net_shutdown(far.handle(), num::SHUT_RD);
            }
            return;
        }
        // A datagram socket that is not connected is shut too; a connection that has just died is an input.
        let _ = env.plat.net_shutdown(far.handle(), how);
    }

    /// Bytes or a packet of the host were read.
    pub(super) fn far_consumed(&self, env: &mut Env<'_>, cost: usize) {
        let Some(far) = self.far().filter(|_| cost > 0) else {
            return;
        };
        let owed = far.owed.get() + cost;
        if owed < RX_LIMIT / 2 {
            far.owed.set(owed);
        } else {
            far.owed.set(0);
            env.plat.net_grant(far.handle(), owed);
        }
    }

    fn arrived(&self, data: Vec<u8>, from: Vec<u8>, lost_rights: bool) {
        let linked = !self.datagrams();
        let cost = data.len() + if self.stream() { 0 } else { DATAGRAM_COST };
        let from = if from.len() > 2 {
            Rc::new(RefCell::new(from))
        } else if let (Some(name), true) = (&*self.peer_name.borrow(), linked) {
            name.clone()
        } else {
            Rc::default()
        };
        // The connection's own, as nobody was asked to send any.
        let creds = linked.then(|| self.peer_creds.get());
        self.deliver(Packet::of_host(data, cost, creds, from, lost_rights));
    }

    fn host_connection(&self, env: &mut Env<'_>, conn: Handle, peer: Vec<u8>) {
        let host = env.core.own_socket(conn);
        if self.state.get() != State::Listen {
            return;
        }
        let end = UnixSocket::new(env, self.kind(), self.owner.get());
        end.base.options.pass_cred.set(self.base.options.pass_cred.get());
        *end.name.borrow_mut() = self.name();
        end.accepted.set(false);
        let far = Rc::new(Far::new(host, true));
        *end.far.borrow_mut() = Some(far.clone());
        end.register(env, conn);
        end.link(env, &far, peer, ACCEPT_WINDOW);
        self.pending.borrow_mut().push_back(end);
        self.queue.notify(READABLE);
    }

    /// Its host socket, if that has a name.
    pub(super) fn bound_handle(&self) -> Option<Handle> {
        let far = self.far()?;
        let bound = far.node.borrow().is_some();
        bound.then(|| far.handle())
    }

    /// A restore has made its node again: the old inode's number is not its any more.
    fn bound_again(&self, env: &mut Env<'_>, far: &Far) {
        let node = far.node.borrow().clone();
        if let (Some(n), Some(me)) = (node, self.me.upgrade())
            && let Ok(st) = env.plat.host_stat_at(n.dir, &n.path, None)
            && env.plat.net_bound_at(n.dir, &n.path) == Some(far.handle())
        {
            Names::rebind(&me, st.dev, st.ino);
        }
    }

    fn failed(&self, e: i32) {
        if self.datagrams() {
            self.error.set(e);
        } else {
            self.shut.set(SHUT_ALL);
            // EPIPE: the peer has closed in order.
            if e != Errno::EPIPE.raw() {
                self.error.set(e);
            }
        }
        self.wake_everyone();
    }
}

impl Sink for UnixSocket {
    fn input(&self, env: &mut Env<'_>, input: Input) {
        let Some(far) = self.far() else { return };
        match input {
            Input::Data(_, bytes) => self.arrived(bytes, Vec::new(), false),
            Input::Datagram(_, bytes, from, cut) => self.arrived(bytes, from, cut),
            Input::Eof(_) => {
                self.shut.set(self.shut.get() | SHUT_RCV);
                self.wake_everyone();
            }
            Input::Failed(_, e) => self.failed(e),
            Input::Writable(_) => self.flush(env, &far),
            Input::Accepted { conn, peer, .. } => self.host_connection(env, conn, peer),
            Input::Connected(_, 0, _) => self.bound_again(env, &far),
            Input::Connected(..)
            | Input::Control(..)
            | Input::Packet(..)
            | Input::Signal(_)
            | Input::Exec(_) => {}
        }
    }
}

impl TimerTarget for UnixSocket {
    fn expired(&self, _: &Timers, _: Ns, _: u64) {
        if let Some(far) = self.far() {
            far.asking.set(false);
        }
        self.queue.notify(WRITABLE | Poll::ERR);
    }
}
