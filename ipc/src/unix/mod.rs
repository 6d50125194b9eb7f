//! UNIX sockets (net/unix/af_unix.c): stream, datagram and sequenced packets.
//!
//! A socket's receive queue holds `Packet`s, each charged to its sender's send buffer until it is
//! consumed, as Linux charges sk_buffs; the charge follows Linux' allocation sizes, because how much
//! fits and when poll says "writable" can be seen. Peers know each other weakly: a socket that goes
//! tells its peer in `Drop`.
//!
//! Names in the file system and access to them are the call layer's; it hands over the socket that
//! a name leads to.

mod dgram;
mod far;
mod names;
mod packet;
mod stream;

pub use far::HostNode;
pub use names::{Names, abstract_name, check_addr, path_of};
use packet::Packet;

use crate::anon::{DEV_SOCK, FIONREAD, Inode, S_IFSOCK, put_int};
use ftl_core::errno::Errno;
use ftl_core::file::{File, FileRef};
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use ftl_core::socket::{Base, Incoming, Outgoing, Socket, Ucred, num, so};
use ftl_core::wait::{Poll, WaitQueue};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// net.unix.max_dgram_qlen
const MAX_DGRAM: usize = 10;
const READABLE: Poll = Poll::IN.union(Poll::RDNORM).union(Poll::RDBAND);
const WRITABLE: Poll = Poll::OUT.union(Poll::WRNORM).union(Poll::WRBAND);
const SHUT_RCV: u8 = 1;
const SHUT_SND: u8 = 2;
const SHUT_ALL: u8 = 3;
/// SIOCOUTQ
const SIOCOUTQ: u64 = 0x5411;

/// Where a socket is in its life; the names are TCP's, as in Linux.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Close,
    Listen,
    Established,
}

/// A bound name as sockaddr bytes; shared with those who may have to show it.
type Name = Rc<RefCell<Vec<u8>>>;

/// One UNIX socket.
pub struct UnixSocket {
    base: Base,
    me: Weak<UnixSocket>,
    inode: Inode,
    queue: WaitQueue,
    state: Cell<State>,
    /// Connected peer or default destination; dangling once that is gone.
    peer: RefCell<Option<Weak<UnixSocket>>>,
    peer_name: RefCell<Option<Name>>,
    name: RefCell<Name>,
    bound: RefCell<Option<names::Binding>>,
    inbox: RefCell<VecDeque<Packet>>,
    /// Bytes charged for packets of ours that nobody has consumed.
    charged: Cell<usize>,
    shut: Cell<u8>,
    error: Cell<i32>,
    /// Longest queue of connections or datagrams.
    backlog: Cell<usize>,
    /// Connections not yet accepted.
    pending: RefCell<VecDeque<Rc<UnixSocket>>>,
    accepted: Cell<bool>,
    /// Sockets that found this one full.
    waiting: RefCell<Vec<Weak<UnixSocket>>>,
    owner: Cell<Ucred>,
    /// Who writes now, for credentials that go along by themselves.
    writer: Cell<Ucred>,
    peer_creds: Cell<Ucred>,
    /// Its host socket, if it meets the host.
    far: RefCell<Option<Rc<far::Far>>>,
}

impl UnixSocket {
    /// Neither bound nor connected. `kind` is SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
    pub fn new(env: &mut Env<'_>, kind: i32, owner: Ucred) -> Rc<UnixSocket> {
        let inode = Inode::new(env, owner.uid, owner.gid);
        Rc::new_cyclic(|me| UnixSocket {
            base: Base::new(num::AF_UNIX, kind, 0),
            me: me.clone(),
            inode,
            queue: WaitQueue::new(),
            state: Cell::new(State::Close),
            peer: RefCell::default(),
            peer_name: RefCell::default(),
            name: RefCell::default(),
            bound: RefCell::default(),
            inbox: RefCell::default(),
            charged: Cell::new(0),
            shut: Cell::new(0),
            error: Cell::new(0),
            backlog: Cell::new(MAX_DGRAM),
            pending: RefCell::default(),
            accepted: Cell::new(true),
            waiting: RefCell::default(),
            owner: Cell::new(owner),
            writer: Cell::new(owner),
            peer_creds: Cell::new(Ucred::NONE),
            far: RefCell::default(),
        })
    }

    /// socketpair(2)
    pub fn pair(env: &mut Env<'_>, kind: i32, owner: Ucred) -> (Rc<UnixSocket>, Rc<UnixSocket>) {
        let a = UnixSocket::new(env, kind, owner);
        let b = UnixSocket::new(env, kind, owner);
        a.join(&b);
        b.join(&a);
        a.peer_creds.set(owner);
        b.peer_creds.set(owner);
        (a, b)
    }

    fn join(&self, other: &Rc<UnixSocket>) {
        *self.peer.borrow_mut() = Some(Rc::downgrade(other));
        *self.peer_name.borrow_mut() = Some(other.name.borrow().clone());
        self.state.set(State::Established);
    }

    fn stream(&self) -> bool {
        self.base.kind == num::SOCK_STREAM
    }

    /// Packets that may be sent to anyone.
    fn datagrams(&self) -> bool {
        self.base.kind == num::SOCK_DGRAM
    }

    fn other(&self) -> Option<Rc<UnixSocket>> {
        self.peer.borrow().as_ref()?.upgrade()
    }

    fn is_peer(&self, other: &UnixSocket) -> bool {
        let peer = self.peer.borrow();
        peer.as_ref().is_some_and(|p| std::ptr::eq(p.as_ptr(), other))
    }

    fn take_err(&self) -> Option<Errno> {
        Errno::from_raw(self.error.replace(0))
    }

    fn name(&self) -> Name {
        self.name.borrow().clone()
    }

    /// True once it has a name.
    pub fn is_bound(&self) -> bool {
        self.bound.borrow().is_some()
    }

    /// SOCK_* type.
    pub fn kind(&self) -> i32 {
        self.base.kind
    }

    /// write(2) is about to be called by `who`.
    pub fn set_writer(&self, who: Ucred) {
        self.writer.set(who);
    }

    fn send_limit(&self) -> usize {
        self.base.options.snd_buf.get().max(0) as usize
    }

    /// Room for more than a little: what poll calls writable.
    fn roomy(&self) -> bool {
        self.state.get() != State::Listen && self.charged.get() * 4 <= self.send_limit() && self.far_roomy()
    }

    fn crowded(&self) -> bool {
        self.inbox.borrow().len() > self.backlog.get()
    }

    /// Somebody found this socket full and wants to know when it is not.
    fn wait_for_room(&self, who: &UnixSocket) {
        let mut list = self.waiting.borrow_mut();
        if !list.iter().any(|w| Weak::ptr_eq(w, &who.me)) {
            list.push(who.me.clone());
        }
    }

    fn tell_waiting(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        let list = std::mem::take(&mut *self.waiting.borrow_mut());
        for s in list.iter().filter_map(Weak::upgrade) {
            s.queue.notify(WRITABLE);
        }
    }

    fn wake_everyone(&self) {
        let mask = READABLE | WRITABLE | Poll::HUP | Poll::RDHUP | Poll::ERR;
        self.queue.wake(usize::MAX, mask.bits());
    }

    /// Appends to the inbox and wakes the reader.
    fn deliver(&self, packet: Packet) {
        self.inbox.borrow_mut().push_back(packet);
        self.queue.notify(READABLE);
    }

    /// Credentials that go with a message: explicit ones, or the caller's if either side asks.
    fn creds_for(&self, msg: &Outgoing, other: &UnixSocket) -> Option<Ucred> {
        let asked = self.base.options.pass_cred.get() || other.base.options.pass_cred.get();
        msg.creds.or_else(|| asked.then_some(msg.caller))
    }

    /// connect(2) to the socket behind a name. EAGAIN: the listener's queue is full; it becomes
    /// known on this socket's own queue.
    pub fn connect_to(&self, env: &mut Env<'_>, target: &Rc<UnixSocket>, caller: Ucred) -> Io<()> {
        if self.datagrams() {
            self.unlink(env);
            return self.connect_dgram(Some(target));
        }
        match self.state.get() {
            State::Close => {}
            State::Established => return err(Errno::EISCONN),
            State::Listen => return err(Errno::EINVAL),
        }
        if target.state.get() != State::Listen || target.shut.get() & SHUT_RCV != 0 {
            return err(Errno::ECONNREFUSED);
        }
        if target.pending.borrow().len() > target.backlog.get() {
            target.wait_for_room(self);
            return err(Errno::EAGAIN);
        }
        let me = self.me.upgrade().ok_or(Errno::EINVAL)?;
        let end = UnixSocket::new(env, self.base.kind, target.owner.get());
        // sk_alloc copies: an accepted socket starts with the listener's options that matter.
        end.base
            .options
            .pass_cred
            .set(target.base.options.pass_cred.get());
        *end.name.borrow_mut() = target.name();
        end.accepted.set(false);
        end.join(&me);
        end.peer_creds.set(caller);
        self.join(&end);
        self.peer_creds.set(target.owner.get());
        target.pending.borrow_mut().push_back(end);
        target.queue.notify(READABLE);
        Ok(())
    }

    /// connect(2) with AF_UNSPEC.
    pub fn disconnect(&self, env: &mut Env<'_>) -> Io<()> {
        if self.datagrams() {
            self.unlink(env);
            self.connect_dgram(None)
        } else {
            err(Errno::EINVAL)
        }
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if let Some(far) = self.far.get_mut() {
            far.leave();
        }
        let unread = !self.inbox.borrow().is_empty();
        if !self.datagrams()
            && let Some(other) = self.other()
            && other.is_peer(self)
        {
            other.shut.set(SHUT_ALL);
            if unread || !self.accepted.get() {
                other.error.set(Errno::ECONNRESET.raw());
            }
            other.wake_everyone();
        }
        self.tell_waiting();
    }
}

impl File for UnixSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        format!("socket:[{}]", self.inode.ino).into_bytes()
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        self.recv(env, &mut Incoming::default(), dst)
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        let mut msg = Outgoing {
            caller: self.writer.get(),
            ..Outgoing::default()
        };
        self.send(env, &mut msg, src)
    }
    fn whole_writes(&self) -> bool {
        !self.stream()
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        let mut p = Poll::empty();
        let shut = self.shut.get();
        if self.error.get() != 0 {
            p |= Poll::ERR;
        }
        if shut == SHUT_ALL {
            p |= Poll::HUP;
        }
        if shut & SHUT_RCV != 0 {
            p |= Poll::RDHUP | Poll::IN | Poll::RDNORM;
        }
        if !self.inbox.borrow().is_empty() || !self.pending.borrow().is_empty() {
            p |= Poll::IN | Poll::RDNORM;
        }
        if !self.datagrams() && self.state.get() == State::Close {
            p |= Poll::HUP;
        }
        if self.roomy() && !self.peer_full() {
            p |= WRITABLE;
        }
        p
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.inode.stat(DEV_SOCK, S_IFSOCK | 0o777))
    }
    fn ioctl(&self, env: &mut Env<'_>, cmd: u64, arg: u64) -> Io<u64> {
        match cmd {
            FIONREAD if self.state.get() == State::Listen => err(Errno::EINVAL),
            FIONREAD => {
                let n = {
                    let inbox = self.inbox.borrow();
                    let packets = if self.datagrams() { 1 } else { inbox.len() };
                    inbox.iter().take(packets).map(Packet::len).sum()
                };
                put_int(env, arg, n)
            }
            SIOCOUTQ => put_int(env, arg, self.charged.get() + self.far_unsent()),
            _ => err(Errno::ENOTTY),
        }
    }
    fn socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
}

impl Socket for UnixSocket {
    fn base(&self) -> &Base {
        &self.base
    }
    fn listen(&self, env: &mut Env<'_>, backlog: i32, caller: Ucred) -> Io<()> {
        if self.datagrams() {
            return err(Errno::EOPNOTSUPP);
        }
        if !self.is_bound() || self.state.get() == State::Established {
            return err(Errno::EINVAL);
        }
        self.listen_host(env, backlog)?;
        let backlog = usize::try_from(backlog).unwrap_or(usize::MAX);
        let more = backlog > self.backlog.get();
        self.backlog.set(backlog);
        self.state.set(State::Listen);
        self.owner.set(caller);
        self.peer_creds.set(caller);
        if more {
            self.tell_waiting();
        }
        Ok(())
    }
    fn listening(&self) -> bool {
        self.state.get() == State::Listen
    }
    fn accept(&self, env: &mut Env<'_>) -> Io<(FileRef, Vec<u8>)> {
        if self.datagrams() {
            return err(Errno::EOPNOTSUPP);
        }
        if self.state.get() != State::Listen {
            return err(Errno::EINVAL);
        }
        let Some(end) = self.pending.borrow_mut().pop_front() else {
            return err(if self.shut.get() & SHUT_RCV != 0 {
                Errno::EINVAL
            } else {
                Errno::EAGAIN
            });
        };
        end.accepted.set(true);
        self.took(env, &end);
        self.tell_waiting();
        if !self.queue.is_empty() && !self.pending.borrow().is_empty() {
            self.queue.wake_n(1, READABLE.bits());
        }
        let peer = end.peer_address();
        Ok((end, peer))
    }
    fn local_name(&self, _: &mut Env<'_>) -> Io<Vec<u8>> {
        Ok(names::shown(&self.name.borrow().borrow()))
    }
    fn peer_name(&self, _: &mut Env<'_>) -> Io<Vec<u8>> {
        if self.peer.borrow().is_none() {
            return err(Errno::ENOTCONN);
        }
        Ok(self.peer_address())
    }
    fn send(&self, env: &mut Env<'_>, msg: &mut Outgoing, src: &mut Src) -> Io<u64> {
        if msg.flags & num::MSG_OOB != 0 {
            return err(Errno::EOPNOTSUPP);
        }
        if self.stream() {
            self.send_stream(env, msg, src)
        } else {
            self.send_packet(env, msg, src)
        }
    }
    fn recv(&self, env: &mut Env<'_>, msg: &mut Incoming, dst: &mut Dst) -> Io<u64> {
        if msg.flags & num::MSG_OOB != 0 {
            return err(Errno::EOPNOTSUPP);
        }
        if self.stream() {
            self.recv_stream(env, msg, dst)
        } else {
            self.recv_packet(env, msg, dst)
        }
    }
    fn shutdown(&self, env: &mut Env<'_>, how: i32) -> Io<()> {
        self.shutdown_host(env, how);
        let mode = [SHUT_RCV, SHUT_SND, SHUT_ALL][how.clamp(0, 2) as usize];
        self.shut.set(self.shut.get() | mode);
        let theirs = (mode & SHUT_RCV) << 1 | (mode & SHUT_SND) >> 1;
        if !self.datagrams()
            && let Some(other) = self.other()
        {
            other.shut.set(other.shut.get() | theirs);
            other.wake_everyone();
        }
        self.wake_everyone();
        self.tell_waiting();
        Ok(())
    }
    fn take_error(&self, _: &mut Env<'_>) -> i32 {
        self.error.replace(0)
    }
    fn get_option(&self, _: &mut Env<'_>, level: i32, name: i32, _: usize) -> Io<Vec<u8>> {
        match (level, name) {
            (num::SOL_SOCKET, so::PEERCRED) => Ok(self.peer_creds.get().to_bytes()),
            (num::SOL_SOCKET, so::COOKIE) => Ok(self.inode.ino.to_le_bytes().to_vec()),
            (num::SOL_SOCKET, so::PEEK_OFF) => Ok((-1i32).to_le_bytes().to_vec()),
            (num::SOL_SOCKET, _) => err(Errno::ENOPROTOOPT),
            _ => err(Errno::EOPNOTSUPP),
        }
    }
    fn set_option(&self, _: &mut Env<'_>, level: i32, _: i32, _: &[u8]) -> Io<()> {
        err(if level == num::SOL_SOCKET {
            Errno::ENOPROTOOPT
        } else {
            Errno::EOPNOTSUPP
        })
    }
}

impl UnixSocket {
    fn peer_address(&self) -> Vec<u8> {
        let name = self.peer_name.borrow();
        let bytes = name.as_ref().map(|n| n.borrow().clone());
        names::shown(&bytes.unwrap_or_default())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
