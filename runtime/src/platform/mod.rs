//! The host side of the platform seam: what `ftl_core::platform` promises, done with host calls.
//!
//! Rules for everything in here:
//! * Collections of the host side are touched under `alloc::enter(Side::Host)`; what is returned to
//!   the kernel by value is built under the caller's side (`alloc::on(Side::Image, ..)` when a host
//!   guard is active). Methods that allocate nothing need no guard.
//! * [`Plat`] lives in the host arena, shared by the image's host processes, and is used only by the
//!   holder of the token. Host descriptors are valid in all of them (CLONE_FILES).
//! * No host number leaves: handles in, image terms out.

pub mod clock;
pub mod files;
pub mod layer;
mod locks;
pub mod maps;
pub mod memory;
pub mod moved;
pub mod net;
pub mod recent;
pub mod root;
pub mod shared;
pub mod space;
pub mod streams;

use crate::alloc::{self, Side};
use crate::sys::{HostErr, sys};
use ftl_core::clock::Check;
use ftl_core::context::Context;
use ftl_core::door::{Input, Stamp};
use ftl_core::errno::Errno;
use ftl_core::platform::{Handle, Host, NIC, Ns, StreamKind};
use std::collections::{BTreeMap, VecDeque};

/// A host object behind a handle.
#[derive(Debug)]
pub enum HostObject {
    /// A file or directory descriptor.
    File(i32),
    /// A descriptor for reading that others may have too.
    Shared(std::rc::Rc<recent::Shared>),
    /// A standard stream.
    Stream(streams::Stream),
}

impl HostObject {
    /// Its descriptor.
    pub fn fd(&self) -> i32 {
        match self {
            HostObject::File(fd) => *fd,
            HostObject::Shared(s) => s.fd,
            HostObject::Stream(s) => s.fd,
        }
    }
}

/// Who has looked last at what has changed: marks that one has taken away are lost for another.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Marks {
    /// Nobody since changes are followed.
    #[default]
    Nobodys,
    /// Snapshots of a running image (`snap::rounds`).
    Rounds,
    /// A backup (`snap::changes`).
    Backup,
}

/// The platform of one image.
pub struct Plat {
    /// Live host objects.
    pub handles: BTreeMap<Handle, HostObject>,
    /// Inputs that have arrived and were not absorbed.
    pub inputs: VecDeque<(Stamp, Input)>,
    /// Stamp for what arrives now.
    pub stamp: Stamp,
    /// Readiness of host descriptors; the token is the handle.
    pub poll: mio::Poll,
    events: Option<Box<[libc::epoll_event]>>,
    spin: Spin,
    /// Real time.
    pub clock: clock::HostClock,
    /// Changes of memory are followed, for snapshots.
    pub tracking: bool,
    /// Whose looks take the marks of what has changed.
    pub marks: Marks,
    /// memfd behind the page store.
    pub pages_fd: i32,
    /// Handles of files that were mapped, while a log is kept.
    pub mapped: std::collections::BTreeSet<Handle>,
    /// Address spaces: their host processes.
    pub spaces: space::Spaces,
    /// Host sockets.
    pub net: net::Net,
    /// The interface of an image with its own TCP/IP.
    pub nic: Option<net::nic::Nic>,
    /// What is known of host directories.
    pub plain_dirs: files::PlainDirs,
    /// What the host has said of files since the last absorb point.
    pub recent: recent::Recent,
    /// Where a named run keeps its writable layer.
    pub layer: Option<layer::Layer>,
    /// Volumes that a restore has put elsewhere.
    pub moved: Option<Box<moved::Moved>>,
    /// Something came on a descriptor of [`Plat::watch_link`] since the link was last read.
    pub link_came: bool,
}

/// Most changes taken from the host in one call.
const MANY: usize = 256;

/// How long an idle vCPU looks before it sleeps, ns: about a wake-up of the other side and its answer.
const SPIN_NS: u64 = 50_000;

/// Whether looking before sleeping has paid lately. One that failed is not tried again for twice as
/// many waits as before, so a quiet image, or a peer on our own core, costs next to nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Spin {
    skip: u32,
    penalty: u32,
}

impl Spin {
    fn due(&mut self) -> bool {
        self.skip = self.skip.saturating_sub(1);
        self.skip == 0
    }
    fn ended(&mut self, paid: bool) {
        const MOST: u32 = 1024;
        self.penalty = if paid { 0 } else { (self.penalty * 2 + 2).min(MOST) };
        self.skip = self.penalty;
    }
}

/// mio token of what concerns protection: it only ends the wait.
pub const LINK_TOKEN: mio::Token = mio::Token(usize::MAX - 1);

/// mio token of the waker eventfd.
pub const WAKE_TOKEN: mio::Token = mio::Token(usize::MAX);

/// errno of a host call as the guest's: for calls whose failure the guest may see.
pub fn errno(e: HostErr) -> Errno {
    Errno::from_raw(e.0).unwrap_or(Errno::EIO)
}

impl Plat {
    /// A platform with no object but the standard streams.
    pub fn new(pages_fd: i32) -> std::io::Result<Plat> {
        let poll = mio::Poll::new()?;
        Ok(Plat {
            handles: BTreeMap::new(),
            inputs: VecDeque::new(),
            stamp: Stamp { point: 1, v: 0 },
            recent: recent::Recent::default(),
            layer: None,
            moved: None,
            link_came: false,
            net: net::Net::new(poll.registry().try_clone()?),
            nic: None,
            poll,
            spin: Spin::default(),
            events: Some(vec![libc::epoll_event { events: 0, u64: 0 }; MANY].into()),
            clock: clock::HostClock::new(),
            tracking: false,
            marks: Marks::default(),
            pages_fd,
            mapped: Default::default(),
            spaces: space::Spaces::default(),
            plain_dirs: files::PlainDirs::default(),
        })
    }

    /// The descriptor behind a handle, EBADF if there is none (never for a correct kernel).
    pub fn fd(&self, h: Handle) -> Result<i32, Errno> {
        self.handles.get(&h).map(HostObject::fd).ok_or(Errno::EBADF)
    }

    /// What comes on this descriptor ends the idle wait.
    pub fn watch_link(&mut self, fd: i32) {
        let readable = mio::Interest::READABLE;
        let _ = self
            .poll
            .registry()
            .register(&mut mio::unix::SourceFd(&fd), LINK_TOKEN, readable);
    }

    /// Stamps an input (PROTOCOL §1) and queues it. Buffers in it are the image's: built on its side.
    pub fn push(&mut self, input: Input) {
        let _side = alloc::enter(Side::Host);
        let stamp = self.stamp.arrived(self.clock.now());
        self.inputs.push_back((stamp, input));
    }

    /// Takes what has arrived: waits until there is something or real time is `deadline`.
    /// `None` does not wait at all; `Some(None)` waits for an input only.
    pub fn gather(&mut self, wait: Option<Option<Ns>>) {
        let _side = alloc::enter(Side::Host);
        self.recent.clear();
        self.take_signals();
        let nic_more = self.nic.as_ref().is_some_and(|n| n.more);
        let timeout = match wait {
            _ if !self.inputs.is_empty() || self.net.pending() || nic_more => Some(0),
            None => Some(0),
            Some(None) => None,
            Some(Some(at)) => Some(at.saturating_sub(self.clock.now())),
        };
        self.poll_host(timeout);
        if self.net.pending() {
            self.net_resume();
        }
        if nic_more {
            self.nic_ready(net::Edge::new(libc::EPOLLIN as u32));
        }
        self.take_signals();
    }

    /// Waits for the host, at most `timeout_ns`. Before it sleeps it looks again for a moment, as long
    /// as that pays: to be woken costs both sides more than a request's own work (docs/notes).
    fn poll_host(&mut self, timeout_ns: Option<u64>) {
        // A signal that came before this process had its handlers has woken nobody.
        if timeout_ns == Some(0) || self.signalled() {
            self.poll_once(Some(0));
            return;
        }
        if !self.spin.due() {
            self.poll_once(timeout_ns);
            return;
        }
        let start = self.clock.now();
        loop {
            if self.poll_once(Some(0)) || self.signalled() {
                self.spin.ended(true);
                return;
            }
            let past = self.clock.now().saturating_sub(start);
            if past >= SPIN_NS || timeout_ns.is_some_and(|t| past >= t) {
                self.spin.ended(false);
                self.poll_once(timeout_ns.map(|t| t.saturating_sub(past)));
                return;
            }
            std::hint::spin_loop();
        }
    }

    /// One call for everything. mio registers, but its wait counts in milliseconds: a guest that
    /// sleeps for one would cost a second host call each time. True if something came.
    fn poll_once(&mut self, timeout_ns: Option<u64>) -> bool {
        use std::os::fd::AsRawFd;
        const SEC: u64 = 1_000_000_000;
        let ts = timeout_ns.map(|ns| libc::timespec {
            tv_sec: (ns / SEC) as i64,
            tv_nsec: (ns % SEC) as i64,
        });
        let limit = ts.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let Some(mut events) = self.events.take() else {
            return false;
        };
        let (epoll, room) = (self.poll.as_raw_fd(), events.len());
        // SAFETY: the buffer has room for that many events; the timeout is valid or null; no mask.
        let n = unsafe {
            sys!(
                libc::SYS_epoll_pwait2,
                epoll,
                events.as_mut_ptr(),
                room,
                limit,
                0,
                8
            )
        };
        // EINTR: a signal came; its handler has noted it.
        let n = n.unwrap_or(0) as usize;
        for e in events.iter().take(n) {
            let (bits, token) = (e.events, e.u64);
            if token == WAKE_TOKEN.0 as u64 {
                self.drain_waker();
            } else if token == LINK_TOKEN.0 as u64 {
                self.link_came = true;
            } else {
                self.ready(Handle(token), bits);
            }
        }
        self.events = Some(events);
        n > 0
    }

    /// Something came from outside that was not looked at. For the watchdog's handler: changes nothing.
    pub fn has_come(&self) -> bool {
        use std::os::fd::AsRawFd;
        let mut one = libc::pollfd {
            fd: self.poll.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid entry; it does not wait.
        let n = unsafe { sys!(libc::SYS_poll, &raw mut one, 1, 0) };
        !self.inputs.is_empty() || n == Ok(1)
    }

    /// Whether prediction `p` holds, and real time.
    pub fn clock_against(&mut self, p: Ns) -> (Check, Ns) {
        let r = self.clock.now();
        let check = if p.abs_diff(r) <= ftl_core::clock::EPS_NS {
            Check::Holds
        } else if p < r {
            Check::Behind(r)
        } else {
            Check::Ahead
        };
        (check, r)
    }

    fn signalled(&self) -> bool {
        // SAFETY: the page is mapped in every guest process.
        let control = unsafe { crate::control::get() };
        control.signals.load(std::sync::atomic::Ordering::Relaxed) != 0
    }

    fn drain_waker(&mut self) {
        let mut buf = [0u64; 1];
        // SAFETY: the buffer is valid; the eventfd is non-blocking.
        let _ = unsafe { sys!(libc::SYS_read, crate::run::wake_fd(), buf.as_mut_ptr(), 8) };
    }

    /// A host descriptor may be read or written again.
    fn ready(&mut self, h: Handle, bits: u32) {
        let edge = net::Edge::new(bits);
        if h == NIC {
            self.nic_ready(edge);
            return;
        }
        if self.net_ready(h, edge) {
            return;
        }
        if let Some(HostObject::Stream(_)) = self.handles.get(&h) {
            self.stream_ready(h, edge.readable, edge.writable);
        }
    }

    /// Signals that the supervisor left in the control page become inputs.
    fn take_signals(&mut self) {
        // SAFETY: the page is mapped in every guest process.
        let control = unsafe { crate::control::get() };
        if control.signals.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            return;
        }
        let set = control.signals.swap(0, std::sync::atomic::Ordering::AcqRel);
        for n in 1..=64 {
            if set & (1 << (n - 1)) != 0 {
                self.push(Input::Signal(n));
            }
        }
    }
}

impl Host for Plat {
    fn clock_check(&mut self, _e: u64, p: Ns) -> Check {
        self.clock_against(p).0
    }

    fn entropy(&mut self, out: &mut [u8]) {
        // SAFETY: the slice is valid for writes.
        let _ = unsafe { sys!(libc::SYS_getrandom, out.as_mut_ptr(), out.len(), 0) };
    }

    fn stream_kind(&mut self, h: Handle) -> StreamKind {
        match self.handles.get(&h) {
            Some(HostObject::Stream(s)) => s.kind,
            _ => StreamKind::Closed,
        }
    }

    fn out_stream(&mut self, h: Handle, bytes: &[u8]) -> Result<usize, Errno> {
        self.changing();
        self.stream_write(h, bytes)
    }

    fn out_packet(&mut self, _: Handle, frame: &[u8], more: bool) {
        let _side = alloc::enter(Side::Host);
        if let Some(nic) = &mut self.nic {
            nic.send(frame, more);
        }
    }

    fn want_input(&mut self, h: Handle, max: usize) {
        let _side = alloc::enter(Side::Host);
        self.stream_want(h, max);
    }

    fn tty_ioctl(&mut self, h: Handle, cmd: u64, arg: &mut [u8]) -> Result<u64, Errno> {
        let fd = self.fd(h)?;
        if cmd == libc::TCFLSH {
            let which = arg.first().copied().unwrap_or(0);
            // SAFETY: an argument by value.
            return unsafe { sys!(libc::SYS_ioctl, fd, cmd, which) }.map_err(errno);
        }
        // SAFETY: the kernel passes a buffer of the size that the command uses.
        unsafe { sys!(libc::SYS_ioctl, fd, cmd, arg.as_mut_ptr()) }.map_err(errno)
    }

    fn resident_pages(&mut self, addr: u64, out: &mut [u8]) {
        let len = out.len() as u64 * ftl_core::layout::PAGE;
        crate::snap::lazy::open(addr, addr + len);
        // SAFETY: mincore writes one byte for each page of the range, which is the slice's length.
        let r = unsafe { sys!(libc::SYS_mincore, addr, len, out.as_mut_ptr()) };
        if r.is_err() {
            out.fill(1);
        }
    }
    fn save_xstate(&mut self, ctx: &mut Context) {
        crate::vcpu::save_xstate(ctx);
    }

    fn layer_read(&mut self, max: usize) -> Vec<u8> {
        self.read_layer(max)
    }

    fn layer_write(&mut self, bytes: &[u8]) {
        self.write_layer(bytes);
    }

    fn layer_done(&mut self) {
        self.finish_layer();
    }

    fn diagnostic(&mut self, line: &str) {
        match line.strip_prefix("ftvm: ") {
            Some(what) => crate::talk::note(what),
            None => crate::talk::trace(line),
        }
    }
}
