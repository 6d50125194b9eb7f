//! What the image asks of the world under it: the only way out of the deterministic side.
//!
//! `runtime` implements [`Platform`]; the kernel names no host object but by a [`Handle`] that it
//! allocated itself (I2). Three kinds of method, and nothing else:
//!
//! * **Memory and address space** ([`Memory`], [`Space`]): effects on the guest's own pages. Their
//!   answers are determined by the image; the host running out of memory ends the run.
//! * **Queries** ([`HostFs`], [`Host`], [`HostNet`]): answers that can differ between two runs. The door records
//!   each answer at this very point of the image's history, and replay gives it back.
//! * **Outputs** ([`Host`]'s `out_*`): through the gate.
//!
//! Inputs that come by themselves are [`crate::door::Input`]s.

use crate::clock::Check;
use crate::errno::Errno;
use crate::hostnet::HostNet;
use crate::wait::SpaceId;
use bitflags::bitflags;

/// Nanoseconds on the virtual monotonic clock, or a span of them.
pub type Ns = u64;

/// A guest address was not mapped, or not with the needed permission. Becomes EFAULT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// Name that the image gives to a host object. 0, 1 and 2 are the standard streams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Handle(pub u64);

bitflags! {
    /// Page permissions, as PROT_*.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Prot: u32 {
        /// PROT_READ
        const READ = 1;
        /// PROT_WRITE
        const WRITE = 2;
        /// PROT_EXEC
        const EXEC = 4;
    }
}

/// The interface of an image with its own TCP/IP.
pub const NIC: Handle = Handle(8);

/// What a mapping shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// Zeroes, private to the process.
    Anon,
    /// Pages of a host file, private, from this byte offset.
    HostFile(Handle, u64),
    /// The page store from this byte offset; writes reach it.
    SharedPages(u64),
    /// The page store from this byte offset; writes stay private.
    PrivatePages(u64),
    /// Behind the end of a file: every access is a SIGBUS.
    Beyond,
}

/// Advice with an effect on contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// Private pages read as new afterwards (MADV_DONTNEED, and MADV_FREE treated as it); the range has
    /// this protection.
    Discard(Prot),
    /// MADV_HUGEPAGE / MADV_NOHUGEPAGE: no visible effect.
    Huge(bool),
    /// MADV_DONTFORK and its opposite are the kernel's; this one populates (MAP_POPULATE).
    Populate,
}

/// Guest memory of the space that runs now. A hostile address gives [`Fault`], never more.
pub trait Memory {
    /// Copies from the guest; on a fault nothing is promised about `dst`.
    fn read_guest(&mut self, addr: u64, dst: &mut [u8]) -> Result<(), Fault>;
    /// Copies to the guest; on a fault a prefix may have been written.
    fn write_guest(&mut self, addr: u64, src: &[u8]) -> Result<(), Fault>;
    /// Copies until a NUL, which is not included; at most `max` bytes. `None`: no NUL within `max`.
    fn read_cstr(&mut self, addr: u64, max: usize) -> Result<Option<Vec<u8>>, Fault>;
    /// Reads an aligned word in one access.
    fn load_u32(&mut self, addr: u64) -> Result<u32, Fault>;
    /// Compare-and-exchange; returns the value found.
    fn cmpxchg_u32(&mut self, addr: u64, old: u32, new: u32) -> Result<u32, Fault>;
    /// Fills with zeroes.
    fn zero_guest(&mut self, addr: u64, len: u64) -> Result<(), Fault>;
    /// Work of the kernel that takes milliseconds is under way: whoever must be heard from now and then may speak. Nothing
    /// of it is seen by the image.
    fn breathe(&mut self) {}
}

/// The address space that runs now, and its siblings. Ranges are page-aligned and were checked
/// against the kernel's own map of the space.
pub trait Space {
    /// Maps, replacing what is there.
    fn map(&mut self, addr: u64, len: u64, prot: Prot, backing: Backing);
    /// Unmaps.
    fn unmap(&mut self, addr: u64, len: u64);
    /// Changes permissions.
    fn protect(&mut self, addr: u64, len: u64, prot: Prot);
    /// Moves pages, replacing what is at `to`.
    fn move_pages(&mut self, from: u64, len: u64, to: u64);
    /// Advice.
    fn advise(&mut self, addr: u64, len: u64, advice: Advice);
    /// Which pages are resident (mincore): image facts only, so "all that is mapped".
    /// Drops everything that the guest has mapped (execve).
    fn clear_space(&mut self);
    /// Overwrites executable guest bytes whatever their protection, part by part, each an address and its bytes (patching a call
    /// site). At the first that fails it stops.
    fn patch_text(&mut self, parts: &[(u64, &[u8])]) -> Result<(), Fault>;
    /// Makes `child` a copy-on-write copy of the space that runs now.
    fn fork_space(&mut self, child: SpaceId);
    /// Makes an empty space.
    fn new_space(&mut self, id: SpaceId);
    /// The space has no task any more.
    fn drop_space(&mut self, id: SpaceId);

    /// Copies out of the page store.
    fn pages_read(&mut self, offset: u64, dst: &mut [u8]);
    /// Copies into the page store.
    fn pages_write(&mut self, offset: u64, src: &[u8]);
    /// Gives pages back; they read as zero.
    fn pages_free(&mut self, offset: u64, len: u64);
}

/// What the host says of a file, in image terms (times in ns since the epoch).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub nlink: u64,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u32,
    pub blocks: u64,
    pub atime: i128,
    pub mtime: i128,
    pub ctime: i128,
    pub btime: i128,
}

/// A lock in the way: kind, first and last byte.
pub type LockMet = Option<(i32, u64, u64)>;

/// One entry of a host directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// Inode number.
    pub ino: u64,
    /// DT_* of getdents64.
    pub kind: u8,
    /// Name.
    pub name: Vec<u8>,
}

/// An operation on extended attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Xattr<'a> {
    /// Value of a name.
    Get(&'a [u8]),
    /// Sets a value; flags are XATTR_CREATE and XATTR_REPLACE.
    Set(&'a [u8], &'a [u8], i32),
    /// Names, each with a NUL.
    List,
    /// Takes a name away.
    Remove(&'a [u8]),
}

/// What a standard stream is on the host, so that the guest's view agrees with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamKind {
    /// Closed at start.
    Closed,
    /// A terminal.
    Terminal,
    /// A pipe or FIFO.
    Pipe,
    /// A regular file: seekable.
    File,
    /// A socket.
    Socket,
    /// /dev/null or another character device.
    Char,
}

/// The answer that the image predicts for a question about a file: only another one is logged.
pub type Expected = Option<Result<Stat, Errno>>;

/// What came of reading a host file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    /// Bytes.
    pub n: usize,
    /// They had to be logged, so a prediction would pay.
    pub logged: bool,
}

/// Host files. `Handle`s of new objects are chosen by the caller. Flags and modes are Linux' own
/// numbers. Every method is a query.
#[allow(missing_docs)]
pub trait HostFs {
    #[expect(
        clippy::too_many_arguments,
        reason = "those of openat2, and what is expected of it"
    )]
    /// Opens `name` relative to `dir` (never following a symlink in any component when
    /// `nofollow`); registers it as `new`.
    fn host_open(
        &mut self,
        dir: Handle,
        name: &[u8],
        flags: i32,
        mode: u32,
        nofollow: bool,
        new: Handle,
        expected: Expected,
    ) -> Result<Stat, Errno>;
    fn host_close(&mut self, h: Handle);
    fn host_stat(&mut self, h: Handle) -> Result<Stat, Errno>;
    fn host_stat_at(&mut self, dir: Handle, name: &[u8], expected: Expected) -> Result<Stat, Errno>;
    fn host_readlink_at(&mut self, dir: Handle, name: &[u8]) -> Result<Vec<u8>, Errno>;
    /// Reads at an offset straight into guest memory (the address was checked). `expected` is what the image predicts to be
    /// read: only something else is logged.
    fn host_pread_guest(
        &mut self,
        h: Handle,
        offset: u64,
        addr: u64,
        len: u64,
        expected: Option<&[u8]>,
    ) -> Result<Read, Errno>;
    /// The same into memory of the kernel.
    fn host_pread(
        &mut self,
        h: Handle,
        offset: u64,
        dst: &mut [u8],
        expected: Option<&[u8]>,
    ) -> Result<Read, Errno>;
    fn host_pwrite(&mut self, h: Handle, offset: u64, src: &[u8]) -> Result<usize, Errno>;
    /// All entries of a directory, `.` and `..` left out, sorted by name.
    fn host_list(&mut self, h: Handle) -> Result<Vec<DirEntry>, Errno>;
    fn host_truncate(&mut self, h: Handle, len: u64) -> Result<(), Errno>;
    fn host_allocate(&mut self, h: Handle, mode: i32, offset: u64, len: u64) -> Result<(), Errno>;
    fn host_sync(&mut self, h: Handle, data_only: bool) -> Result<(), Errno>;
    fn host_mkdir_at(&mut self, dir: Handle, name: &[u8], mode: u32) -> Result<(), Errno>;
    fn host_unlink_at(&mut self, dir: Handle, name: &[u8], rmdir: bool) -> Result<(), Errno>;
    fn host_rename_at(
        &mut self,
        from: Handle,
        from_name: &[u8],
        to: Handle,
        to_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno>;
    fn host_link_at(&mut self, from: Handle, from_name: &[u8], to: Handle, name: &[u8]) -> Result<(), Errno>;
    fn host_symlink_at(&mut self, target: &[u8], dir: Handle, name: &[u8]) -> Result<(), Errno>;
    fn host_mknod_at(&mut self, dir: Handle, name: &[u8], mode: u32, dev: u64) -> Result<(), Errno>;
    fn host_chmod(&mut self, h: Handle, mode: u32) -> Result<(), Errno>;
    fn host_chown(&mut self, h: Handle, uid: u32, gid: u32) -> Result<(), Errno>;
    /// Times in ns since the epoch; `None` leaves one as it is.
    fn host_utimens(&mut self, h: Handle, atime: Option<i128>, mtime: Option<i128>) -> Result<(), Errno>;
    /// f_type, f_bsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_namelen, f_frsize.
    fn host_statfs(&mut self, h: Handle) -> Result<[u64; 9], Errno>;
    // By name. As everywhere above, a name may have several components, none of them `..`, and a
    // symlink in any but the last is ELOOP; the last is never followed. An empty name is `dir`.
    /// [`HostFs::host_list`] of a directory by name.
    fn host_list_at(&mut self, _dir: Handle, _name: &[u8]) -> Result<Vec<DirEntry>, Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_chmod_at(&mut self, _dir: Handle, _name: &[u8], _mode: u32) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    /// `u32::MAX` leaves an id as it is.
    fn host_chown_at(&mut self, _dir: Handle, _name: &[u8], _uid: u32, _gid: u32) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_utimens_at(
        &mut self,
        _dir: Handle,
        _name: &[u8],
        _atime: Option<i128>,
        _mtime: Option<i128>,
    ) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    /// [`HostFs::host_statfs`] by name.
    fn host_statfs_at(&mut self, _dir: Handle, _name: &[u8]) -> Result<[u64; 9], Errno> {
        Err(Errno::ENOSYS)
    }
    /// SEEK_DATA and SEEK_HOLE.
    fn host_seek(&mut self, _h: Handle, _offset: u64, _hole: bool) -> Result<u64, Errno> {
        Err(Errno::EINVAL)
    }
    /// Extended attributes; only reading and listing answer bytes.
    fn host_xattr_at(&mut self, _dir: Handle, _name: &[u8], _op: &Xattr<'_>) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Opens an open file anew, whether it has a name or not.
    fn host_reopen(&mut self, _h: Handle, _flags: i32, _new: Handle) -> Result<Stat, Errno> {
        Err(Errno::ENOENT)
    }
    /// Sets (`kind` F_RDLCK, F_WRLCK) or clears (F_UNLCK) a record lock of this open file on the bytes from
    /// `start` to `end`, which is included: EAGAIN if somebody else stands in the way.
    fn host_lock(&mut self, _h: Handle, _kind: i32, _start: u64, _end: u64) -> Result<(), Errno> {
        Ok(())
    }
    /// The first lock of somebody else's that such a lock would meet: its kind, first and last byte.
    fn host_lock_test(&mut self, _h: Handle, _kind: i32, _start: u64, _end: u64) -> Result<LockMet, Errno> {
        Ok(None)
    }
    /// flock(2) of this open file; never waits: EAGAIN.
    fn host_flock(&mut self, _h: Handle, _op: i32) -> Result<(), Errno> {
        Ok(())
    }
    /// Links an open file that may have no name (linkat's AT_EMPTY_PATH).
    fn host_link_open(&mut self, _h: Handle, _dir: Handle, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }
}

/// Everything else that the world is asked or told.
#[allow(missing_docs)]
pub trait Host {
    /// Does the predicted clock value `p` at logical time `e` hold?
    fn clock_check(&mut self, e: u64, p: Ns) -> Check;
    /// Fresh entropy: only at start, after a clone, and after a takeover. A query.
    fn entropy(&mut self, out: &mut [u8]);
    fn stream_kind(&mut self, h: Handle) -> StreamKind;
    /// Writes to a stream; says how many bytes were taken, 0 when it is full: an
    /// [`crate::door::Input::Writable`] follows. A query and an output.
    fn out_stream(&mut self, h: Handle, bytes: &[u8]) -> Result<usize, Errno>;
    /// Sends a frame (with a `virtio_net_hdr` before it) through the image's own interface. An output
    /// without an answer: a frame may be lost wherever it is, so the image never learns what became
    /// of it. `more`: another one follows at once.
    fn out_packet(&mut self, h: Handle, frame: &[u8], more: bool);
    /// Asks that the stream's bytes arrive as [`crate::door::Input::Data`], at most `max` before
    /// the next request.
    fn want_input(&mut self, h: Handle, max: usize);
    /// An ioctl on a host terminal: the argument's bytes in and out. A query.
    fn tty_ioctl(&mut self, h: Handle, cmd: u64, arg: &mut [u8]) -> Result<u64, Errno>;
    /// The extended state of the context that entered last is still live in the CPU but for xmm:
    /// writes it all into the context. Nothing to do if it is there already.
    fn save_xstate(&mut self, ctx: &mut crate::context::Context);
    /// Which pages from `addr` on are resident, one byte each (mincore). A query: it depends on what the
    /// host has populated and kept.
    fn resident_pages(&mut self, _addr: u64, out: &mut [u8]) {
        out.fill(1);
    }
    /// The next bytes, at most `max`, of the writable layer that an earlier run left. Empty: no more. A query.
    fn layer_read(&mut self, _max: usize) -> Vec<u8> {
        Vec::new()
    }
    /// The next bytes of the layer that this run leaves. An output.
    fn layer_write(&mut self, _bytes: &[u8]) {}
    /// The layer is complete.
    fn layer_done(&mut self) {}
    /// A line for the operator (stderr of `ftvm`), not part of the guest's output.
    fn diagnostic(&mut self, line: &str);
}

/// The whole.
pub trait Platform: Memory + Space + HostFs + Host + HostNet {}

impl<T: Memory + Space + HostFs + Host + HostNet> Platform for T {}
