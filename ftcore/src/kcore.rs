//! What every kernel object may use: clock, run queue, timers, random numbers, host handles.

use crate::clock::Clock;
use crate::door::Input;
use crate::errno::Errno;
use crate::platform::{Handle, Ns, Platform, Read, Stat};
use crate::predict::{self, Again, Predictor};
use crate::timer::Timers;
use crate::wait::RunQueue;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// An object that inputs are for.
pub trait Sink {
    /// Takes an input at an absorb point.
    fn input(&self, env: &mut Env<'_>, input: Input);
}

/// Shared state of the kernel's objects. One per image, in the arena.
pub struct Core {
    /// The virtual clock.
    pub clock: &'static Clock,
    /// Runnable tasks.
    pub run: RunQueue,
    /// Deadlines.
    pub timers: Timers,
    rng: RefCell<ChaCha20Rng>,
    next_handle: Cell<u64>,
    next_ino: Cell<u64>,
    sinks: RefCell<BTreeMap<Handle, Weak<dyn Sink>>>,
    closing: Closing,
    /// What the host said of files: to opens and to stats.
    files: RefCell<[Again<Result<Stat, Errno>>; 2]>,
    /// What was read of files more than once.
    contents: RefCell<Again<Contents>>,
    /// See [`Lent`].
    pub lent: RefCell<Vec<Lent>>,
}

/// Addresses from here on are of what the kernel lends: no guest has memory there.
pub const LENT_BASE: u64 = 0xffff_8800_0000_0000;

/// Bytes that a handler finds at an address no guest has: arguments that were copied when the request was
/// submitted, whose place in guest memory may be used for something else by now.
#[derive(Debug)]
pub struct Lent {
    /// Where.
    pub addr: u64,
    /// What.
    pub bytes: Vec<u8>,
    /// Guest address that takes what is written here; 0: it stays in `bytes`.
    pub forward: u64,
}

/// What was read last at a place of a file. `None`: it was read once, and nobody knows whether it will be again.
type Contents = Option<Rc<[u8]>>;

/// No more of a file is kept for the prediction of a read, bytes: what the image holds of files stays small.
const MOST_CONTENTS: usize = 4096;

type Closing = Rc<RefCell<Vec<(Handle, Option<Farewell>)>>>;

/// What a host socket still does when the image lets go of it.
#[derive(Debug, Default)]
struct Farewell {
    rest: Vec<u8>,
    abort: bool,
}

/// A host object that the image owns: dropping the last one closes it.
#[derive(Debug)]
pub struct HostRef {
    /// Its name.
    pub handle: Handle,
    closing: Closing,
    /// Set for sockets.
    farewell: RefCell<Option<Farewell>>,
}

impl HostRef {
    /// For a socket: bytes to send before it closes, and whether it is reset instead.
    pub fn farewell(&self, rest: Vec<u8>, abort: bool) {
        *self.farewell.borrow_mut() = Some(Farewell { rest, abort });
    }
}

impl Drop for HostRef {
    fn drop(&mut self) {
        let last = self.farewell.borrow_mut().take();
        self.closing.borrow_mut().push((self.handle, last));
    }
}

impl Core {
    /// `seed` comes through the door.
    pub fn new(clock: &'static Clock, seed: [u8; 32]) -> Core {
        Core {
            clock,
            run: RunQueue::new(),
            timers: Timers::default(),
            rng: RefCell::new(ChaCha20Rng::from_seed(seed)),
            // 0..=2 are the standard streams, below 16 is reserved for the runtime's fixed objects.
            next_handle: Cell::new(16),
            next_ino: Cell::new(1000),
            sinks: RefCell::new(BTreeMap::new()),
            closing: Closing::default(),
            files: RefCell::default(),
            contents: RefCell::default(),
            lent: RefCell::default(),
        }
    }

    /// Finds `len` bytes from `addr` among what is lent.
    fn lent<T>(&self, addr: u64, len: usize, f: impl FnOnce(&mut Lent, usize) -> T) -> Result<T, Errno> {
        if addr < LENT_BASE {
            return Err(Errno::EFAULT);
        }
        let mut all = self.lent.borrow_mut();
        let found = all
            .iter_mut()
            .filter(|l| addr >= l.addr)
            .find(|l| (addr - l.addr) as usize + len <= l.bytes.len());
        match found {
            Some(l) => {
                let at = (addr - l.addr) as usize;
                Ok(f(l, at))
            }
            None => Err(Errno::EFAULT),
        }
    }

    /// Random bytes of the image's own stream.
    pub fn random(&self, out: &mut [u8]) {
        self.rng.borrow_mut().fill_bytes(out);
    }

    /// A random number of the image's own stream.
    pub fn random_u64(&self) -> u64 {
        self.rng.borrow_mut().next_u64()
    }

    /// Mixes fresh entropy in (clone, takeover).
    pub fn reseed(&self, seed: [u8; 32]) {
        let mut old = [0; 32];
        self.random(&mut old);
        for (a, b) in old.iter_mut().zip(seed) {
            *a ^= b;
        }
        *self.rng.borrow_mut() = ChaCha20Rng::from_seed(old);
    }

    /// A name for a new host object.
    pub fn new_handle(&self) -> Handle {
        let h = self.next_handle.get();
        self.next_handle.set(h + 1);
        Handle(h)
    }

    /// An inode number for an object without a place in a file system (pipe, socket).
    pub fn new_ino(&self) -> u64 {
        let n = self.next_ino.get();
        self.next_ino.set(n + 1);
        n
    }

    /// The read at `place` gave what was not predicted. Most are never repeated, so contents are kept from the second time on.
    fn learn_contents(
        &self,
        place: u64,
        repeated: bool,
        read: Read,
        contents: impl FnOnce(usize) -> Contents,
    ) {
        let keep = repeated && read.n <= MOST_CONTENTS;
        let contents = if keep { contents(read.n) } else { None };
        self.contents.borrow_mut().learn(place, Some(contents));
    }

    /// Owner of a host object that was just opened under `handle`.
    pub fn own(&self, handle: Handle) -> HostRef {
        HostRef {
            handle,
            closing: self.closing.clone(),
            farewell: RefCell::default(),
        }
    }

    /// Owner of a host socket that was just opened under `handle`.
    pub fn own_socket(&self, handle: Handle) -> HostRef {
        let owner = self.own(handle);
        owner.farewell(Vec::new(), false);
        owner
    }

    /// Inputs for `handle` go to `sink` from now on.
    pub fn register(&self, handle: Handle, sink: Weak<dyn Sink>) {
        self.sinks.borrow_mut().insert(handle, sink);
    }

    /// The object that takes inputs for `handle`.
    pub fn sink(&self, handle: Handle) -> Option<Rc<dyn Sink>> {
        self.sinks.borrow().get(&handle)?.upgrade()
    }

    /// Some host object waits to be closed.
    pub fn has_dropped(&self) -> bool {
        !self.closing.borrow().is_empty()
    }

    /// Closes host objects whose owners are gone. Called at every kernel exit.
    pub fn close_dropped(&self, plat: &mut dyn Platform) {
        if self.closing.borrow().is_empty() {
            return;
        }
        let list = std::mem::take(&mut *self.closing.borrow_mut());
        for (h, last) in list {
            self.sinks.borrow_mut().remove(&h);
            match last {
                Some(f) => plat.net_close(h, f.rest, f.abort),
                None => plat.host_close(h),
            }
        }
    }
}

/// What a file operation or handler may reach: the world through the platform, and the core.
pub struct Env<'a> {
    /// The way out.
    pub plat: &'a mut dyn Platform,
    /// Shared kernel state.
    pub core: &'a Core,
}

impl Env<'_> {
    /// Opens a host file as [`HostFs::host_open`](crate::platform::HostFs::host_open) does, with the answer that the same had last
    /// as the expected one.
    pub fn open_again(
        &mut self,
        dir: Handle,
        name: &[u8],
        flags: i32,
        mode: u32,
        new: Handle,
    ) -> Result<Stat, Errno> {
        let key = predict::key(&[dir.0, flags as u64], name);
        let expected = self.core.files.borrow()[0].predict(key);
        let st = self.plat.host_open(dir, name, flags, mode, true, new, expected);
        self.core.files.borrow_mut()[0].learn(key, Some(st));
        st
    }

    /// Asks about a host file by name, likewise.
    pub fn stat_again(&mut self, dir: Handle, name: &[u8]) -> Result<Stat, Errno> {
        let key = predict::key(&[dir.0], name);
        let expected = self.core.files.borrow()[1].predict(key);
        let st = self.plat.host_stat_at(dir, name, expected);
        self.core.files.borrow_mut()[1].learn(key, Some(st));
        st
    }

    /// Reads a host file straight into guest memory, with what the same read gave last as the expected contents. `file` is its
    /// device and inode.
    pub fn pread_guest_again(
        &mut self,
        h: Handle,
        file: (u64, u64),
        offset: u64,
        addr: u64,
        len: u64,
    ) -> Result<u64, Errno> {
        let place = predict::key(&[file.0, file.1, offset, len], &[]);
        let known = self.core.contents.borrow().predict(place);
        let expected = known.as_ref().and_then(|k| k.as_deref());
        let read = self.plat.host_pread_guest(h, offset, addr, len, expected)?;
        if read.logged {
            let plat = &mut *self.plat;
            self.core.learn_contents(place, known.is_some(), read, |n| {
                let mut bytes = vec![0; n];
                plat.read_guest(addr, &mut bytes).ok().map(|()| bytes.into())
            });
        }
        Ok(read.n as u64)
    }

    /// The same into memory of the kernel.
    pub fn pread_again(
        &mut self,
        h: Handle,
        file: (u64, u64),
        offset: u64,
        dst: &mut [u8],
    ) -> Result<usize, Errno> {
        let place = predict::key(&[file.0, file.1, offset, dst.len() as u64], &[]);
        let known = self.core.contents.borrow().predict(place);
        let expected = known.as_ref().and_then(|k| k.as_deref());
        let read = self.plat.host_pread(h, offset, dst, expected)?;
        if read.logged {
            self.core
                .learn_contents(place, known.is_some(), read, |n| Some(dst[..n].into()));
        }
        Ok(read.n)
    }

    /// Reads the virtual monotonic clock.
    pub fn now(&mut self) -> Ns {
        let plat = &mut *self.plat;
        self.core.clock.read(|e, p| plat.clock_check(e, p))
    }

    /// Same moment on CLOCK_REALTIME, ns since the epoch.
    pub fn realtime(&mut self) -> i128 {
        let now = self.now();
        i128::from(now) + i128::from(self.core.clock.real_offset.get() as i64)
    }

    /// Copies a plain struct from the guest.
    pub fn get<T: zerocopy::FromBytes + zerocopy::IntoBytes>(&mut self, addr: u64) -> Result<T, Errno> {
        let mut v = T::new_zeroed();
        self.read(addr, v.as_mut_bytes())?;
        Ok(v)
    }

    /// Copies a plain struct to the guest.
    pub fn put<T: zerocopy::IntoBytes + zerocopy::Immutable>(
        &mut self,
        addr: u64,
        value: &T,
    ) -> Result<(), Errno> {
        self.write(addr, value.as_bytes())
    }

    /// Copies bytes from the guest.
    pub fn read(&mut self, addr: u64, dst: &mut [u8]) -> Result<(), Errno> {
        if !crate::layout::is_guest_range(addr, dst.len() as u64) {
            let n = dst.len();
            return self
                .core
                .lent(addr, n, |l, at| dst.copy_from_slice(&l.bytes[at..at + n]));
        }
        self.plat.read_guest(addr, dst).map_err(|_| Errno::EFAULT)
    }

    /// Copies bytes to the guest.
    pub fn write(&mut self, addr: u64, src: &[u8]) -> Result<(), Errno> {
        if !crate::layout::is_guest_range(addr, src.len() as u64) {
            let forward = self.core.lent(addr, src.len(), |l, at| match l.forward {
                0 => {
                    l.bytes[at..at + src.len()].copy_from_slice(src);
                    None
                }
                to => Some(to.wrapping_add(at as u64)),
            })?;
            return match forward {
                Some(to) if to < LENT_BASE => self.write(to, src),
                _ => Ok(()),
            };
        }
        self.plat.write_guest(addr, src).map_err(|_| Errno::EFAULT)
    }

    /// A path argument: EFAULT, ENAMETOOLONG as getname() gives them.
    pub fn path(&mut self, addr: u64) -> Result<Vec<u8>, Errno> {
        if addr >= LENT_BASE {
            return self.core.lent(addr, 0, |l, at| l.bytes[at..].to_vec());
        }
        match self.plat.read_cstr(addr, 4096) {
            Ok(Some(p)) => Ok(p),
            Ok(None) => Err(Errno::ENAMETOOLONG),
            Err(_) => Err(Errno::EFAULT),
        }
    }
}
