//! The streams of a process that was started from outside, as its files and as the kernel's own.
//!
//! For the process they are pipes whose other ends are the caller's. Once the caller has gone (it ended, or the image goes on
//! elsewhere, restored or taken over), they are pipes whose other ends are closed.

use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::{Env, HostRef, Sink};
use ftl_core::platform::{Handle, Platform, Stat};
use ftl_core::wait::{Poll, WaitQueue};
use ftl_ipc::anon::{DEV_PIPE, FIONREAD, Inode, S_IFIFO, put_int};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// How many bytes are asked of the caller ahead of the reader.
const READ_AHEAD: usize = 64 * 1024;
/// Most bytes that one write takes.
const MOST: usize = 1 << 20;

/// Set when [`super::settle`] has something to do.
pub(super) type Due = Rc<Cell<bool>>;

/// Bytes that come from the caller.
pub(super) struct Inlet {
    handle: Handle,
    /// None where an outlet is the owner.
    _owner: Option<HostRef>,
    inode: Inode,
    bytes: RefCell<VecDeque<u8>>,
    asked: Cell<bool>,
    /// Nothing more comes.
    pub(super) eof: Cell<bool>,
    queue: WaitQueue,
    due: Due,
}

/// Bytes that go to the caller.
pub(super) struct Outlet {
    owner: HostRef,
    inode: Inode,
    /// What the kernel itself has to say and the stream has not taken.
    waiting: RefCell<VecDeque<u8>>,
    /// Bytes that the stream has taken.
    pub(super) sent: Cell<u64>,
    full: Cell<bool>,
    /// Nobody reads.
    pub(super) gone: Cell<bool>,
    queue: WaitQueue,
    /// What comes on the same stream.
    inlet: RefCell<Option<Rc<Inlet>>>,
    due: Due,
}

impl Inlet {
    pub(super) fn new(env: &mut Env<'_>, owner: HostRef, ids: (u32, u32), due: &Due) -> Rc<Inlet> {
        let inlet = Inlet::make(env, owner.handle, Some(owner), ids, due);
        let sink: Rc<dyn Sink> = inlet.clone();
        env.core.register(inlet.handle, Rc::downgrade(&sink));
        inlet
    }

    /// The other direction of `outlet`'s stream, which passes on what comes.
    pub(super) fn of(env: &mut Env<'_>, outlet: &Outlet, ids: (u32, u32), due: &Due) -> Rc<Inlet> {
        let inlet = Inlet::make(env, outlet.owner.handle, None, ids, due);
        *outlet.inlet.borrow_mut() = Some(inlet.clone());
        inlet
    }

    fn make(
        env: &mut Env<'_>,
        handle: Handle,
        owner: Option<HostRef>,
        ids: (u32, u32),
        due: &Due,
    ) -> Rc<Inlet> {
        Rc::new(Inlet {
            inode: Inode::new(env, ids.0, ids.1),
            bytes: RefCell::default(),
            asked: Cell::new(false),
            eof: Cell::new(false),
            queue: WaitQueue::new(),
            due: due.clone(),
            handle,
            _owner: owner,
        })
    }

    /// Asks the caller for bytes, once until some come.
    pub(super) fn ask(&self, plat: &mut dyn Platform) {
        if !self.eof.get() && !self.asked.replace(true) {
            plat.want_input(self.handle, READ_AHEAD);
        }
    }

    /// The first bytes that have come, at most `max`.
    pub(super) fn first(&self, max: usize) -> Vec<u8> {
        self.bytes.borrow().iter().take(max).copied().collect()
    }

    /// They were used.
    pub(super) fn used(&self, n: usize) {
        self.bytes.borrow_mut().drain(..n);
    }

    /// Nothing more comes.
    pub(super) fn ends(&self) {
        if !self.eof.replace(true) {
            self.queue.notify(Poll::IN | Poll::RDNORM | Poll::HUP);
        }
    }
}

impl Sink for Inlet {
    fn input(&self, _env: &mut Env<'_>, input: Input) {
        match input {
            Input::Data(_, bytes) => {
                self.bytes.borrow_mut().extend(bytes);
                self.asked.set(false);
                self.queue.notify(Poll::IN | Poll::RDNORM);
            }
            Input::Eof(_) | Input::Failed(..) => self.ends(),
            _ => {}
        }
        self.due.set(true);
    }
}

impl File for Inlet {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        format!("pipe:[{}]", self.inode.ino).into_bytes()
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        let bytes = self.first(usize::try_from(dst.remaining()).unwrap_or(usize::MAX));
        if bytes.is_empty() {
            if self.eof.get() || dst.remaining() == 0 {
                return Ok(0);
            }
            self.ask(env.plat);
            return err(Errno::EAGAIN);
        }
        let n = dst.put(env.plat, &bytes)?;
        self.used(n);
        Ok(n as u64)
    }
    fn poll(&self, env: &mut Env<'_>) -> Poll {
        let mut p = Poll::empty();
        if !self.bytes.borrow().is_empty() {
            p |= Poll::IN | Poll::RDNORM;
        } else {
            self.ask(env.plat);
        }
        if self.eof.get() {
            p |= Poll::HUP;
        }
        p
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.inode.stat(DEV_PIPE, S_IFIFO | 0o600))
    }
    fn ioctl(&self, env: &mut Env<'_>, cmd: u64, arg: u64) -> Io<u64> {
        match cmd {
            FIONREAD => {
                let n = self.bytes.borrow().len();
                put_int(env, arg, n)
            }
            _ => err(Errno::ENOTTY),
        }
    }
}

impl Outlet {
    pub(super) fn new(env: &mut Env<'_>, owner: HostRef, ids: (u32, u32), due: &Due) -> Rc<Outlet> {
        let outlet = Rc::new(Outlet {
            inode: Inode::new(env, ids.0, ids.1),
            waiting: RefCell::default(),
            sent: Cell::new(0),
            full: Cell::new(false),
            gone: Cell::new(false),
            queue: WaitQueue::new(),
            inlet: RefCell::default(),
            due: due.clone(),
            owner,
        });
        let sink: Rc<dyn Sink> = outlet.clone();
        env.core.register(outlet.owner.handle, Rc::downgrade(&sink));
        outlet
    }

    /// Nobody reads any more.
    pub(super) fn hangs_up(&self) {
        self.waiting.borrow_mut().clear();
        if !self.gone.replace(true) {
            self.queue.notify(Poll::OUT | Poll::WRNORM | Poll::ERR);
        }
    }

    /// Something of the kernel's own, which waits as long as it must.
    pub(super) fn say(&self, plat: &mut dyn Platform, bytes: &[u8]) {
        if !self.gone.get() {
            self.waiting.borrow_mut().extend(bytes);
            self.flush(plat);
        }
    }

    /// Passes on what waits.
    pub(super) fn flush(&self, plat: &mut dyn Platform) {
        while !self.full.get() && !self.gone.get() {
            let bytes: Vec<u8> = self.waiting.borrow().iter().take(MOST).copied().collect();
            if bytes.is_empty() {
                return;
            }
            match self.put(plat, &bytes) {
                Ok(n) => drop(self.waiting.borrow_mut().drain(..n)),
                Err(_) => self.hangs_up(),
            }
        }
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    fn put(&self, plat: &mut dyn Platform, bytes: &[u8]) -> Result<usize, Errno> {
        let n = plat.out_stream(self.owner.handle, bytes)?;
        self.sent.set(self.sent.get() + n as u64);
        self.full.set(n < bytes.len());
        Ok(n)
    }
}

impl Sink for Outlet {
    fn input(&self, env: &mut Env<'_>, input: Input) {
        let inlet = self.inlet.borrow().clone();
        match (input, inlet) {
            (Input::Writable(_), _) => {
                self.full.set(false);
                self.queue.notify(Poll::OUT | Poll::WRNORM);
                self.due.set(true);
            }
            (other, Some(inlet)) => inlet.input(env, other),
            (_, None) => {}
        }
    }
}

impl File for Outlet {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        format!("pipe:[{}]", self.inode.ino).into_bytes()
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        if self.gone.get() {
            return err(Errno::EPIPE);
        }
        if self.full.get() {
            return err(Errno::EAGAIN);
        }
        let bytes = src.get_vec(env.plat, MOST)?;
        match self.put(env.plat, &bytes) {
            Ok(0) if !bytes.is_empty() => err(Errno::EAGAIN),
            Ok(n) => Ok(n as u64),
            // Whatever became of it on the host: to the process it is a pipe without a reader.
            Err(_) => {
                self.hangs_up();
                err(Errno::EPIPE)
            }
        }
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        let mut p = Poll::empty();
        if self.gone.get() {
            p |= Poll::ERR;
        }
        if !self.full.get() {
            p |= Poll::OUT | Poll::WRNORM;
        }
        p
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.inode.stat(DEV_PIPE, S_IFIFO | 0o600))
    }
    fn ioctl(&self, env: &mut Env<'_>, cmd: u64, arg: u64) -> Io<u64> {
        match cmd {
            FIONREAD => put_int(env, arg, 0),
            _ => err(Errno::ENOTTY),
        }
    }
}
