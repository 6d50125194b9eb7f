//! Host files.
//!
//! Names from the kernel have no `..`, and no symlink in them may be followed: the kernel walks
//! those itself, because what they lead to may be in its own layer. openat2's RESOLVE_NO_SYMLINKS
//! and RESOLVE_BENEATH see to it in one host call.

use super::recent::{Shared, shareable};
use super::{HostObject, Plat, errno};
use crate::alloc::{self, Side};
use crate::sys::sys;
use ftl_core::errno::Errno;
use ftl_core::platform::{DirEntry, Expected, Handle, HostFs, LockMet, Read, Stat, Xattr};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

const RESOLVE_NO_SYMLINKS: u64 = 4;
const RESOLVE_BENEATH: u64 = 8;
/// No entry of a path may be longer; room for a NUL.
const PATH_ROOM: usize = 4200;

/// A path as a C string on the stack: no allocation on the way to the host.
pub(super) struct CPath {
    buf: [std::mem::MaybeUninit<u8>; PATH_ROOM],
}

impl CPath {
    fn new(name: &[u8]) -> Result<CPath, Errno> {
        let name = if name.is_empty() { b"." } else { name };
        if name.len() >= PATH_ROOM {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut buf = [const { std::mem::MaybeUninit::uninit() }; PATH_ROOM];
        // SAFETY: the name and its NUL fit, as was just checked.
        unsafe {
            std::ptr::copy_nonoverlapping(name.as_ptr(), buf.as_mut_ptr().cast(), name.len());
        }
        buf[name.len()].write(0);
        Ok(CPath { buf })
    }
    fn ptr(&self) -> *const u8 {
        self.buf.as_ptr().cast()
    }
}

/// A descriptor that is closed when dropped.
pub(super) struct Temp(pub i32);

impl Drop for Temp {
    fn drop(&mut self) {
        // SAFETY: our own descriptor.
        let _ = unsafe { sys!(libc::SYS_close, self.0) };
    }
}

/// statx of `name` (or of the descriptor itself) without following a last symlink.
pub(super) fn stat_of(fd: i32, name: Option<&CPath>) -> Result<Stat, Errno> {
    let mut flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    let path = match name {
        Some(p) => p.ptr(),
        None => {
            flags |= libc::AT_EMPTY_PATH;
            c"".as_ptr().cast()
        }
    };
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    // SAFETY: an all-zero statx is valid, and the pointers are good.
    let sx = unsafe {
        let mut sx: libc::statx = std::mem::zeroed();
        sys!(libc::SYS_statx, fd, path, flags, mask, &raw mut sx).map_err(errno)?;
        sx
    };
    let t = |t: libc::statx_timestamp| i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec);
    Ok(Stat {
        dev: libc::makedev(sx.stx_dev_major, sx.stx_dev_minor),
        ino: sx.stx_ino,
        mode: u32::from(sx.stx_mode),
        nlink: u64::from(sx.stx_nlink),
        uid: sx.stx_uid,
        gid: sx.stx_gid,
        rdev: libc::makedev(sx.stx_rdev_major, sx.stx_rdev_minor),
        size: sx.stx_size,
        blksize: sx.stx_blksize,
        blocks: sx.stx_blocks,
        atime: t(sx.stx_atime),
        mtime: t(sx.stx_mtime),
        ctime: t(sx.stx_ctime),
        btime: t(sx.stx_btime),
    })
}

/// openat2 below `dir`, no symlink followed: ELOOP if one is in the way, at the end too.
pub(super) fn open_below(dir: i32, name: &[u8], flags: i32, mode: u32) -> Result<i32, Errno> {
    let path = CPath::new(name)?;
    // With O_NOFOLLOW a link where a directory is wanted would be ENOTDIR. Only for O_PATH does it mean more than the limit below.
    let flags = match flags & libc::O_PATH {
        0 => flags & !libc::O_NOFOLLOW,
        _ => flags,
    };
    let how: [u64; 3] = [
        (flags | libc::O_CLOEXEC) as u32 as u64,
        u64::from(mode),
        RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
    ];
    loop {
        // SAFETY: valid pointers and size.
        let r = unsafe { sys!(libc::SYS_openat2, dir, path.ptr(), how.as_ptr(), 24) }.map_err(errno);
        match r {
            // A rename somewhere on the host raced with RESOLVE_BENEATH.
            Err(Errno::EAGAIN) => {}
            r => return r.map(|fd| fd as i32),
        }
    }
}

/// The directory that holds the last component of `name`, and that component.
pub(super) struct Parent<'a> {
    pub fd: i32,
    pub last: &'a [u8],
    _temp: Option<Temp>,
}

pub(super) fn parent(dir: i32, name: &[u8]) -> Result<Parent<'_>, Errno> {
    let Some(i) = name.iter().rposition(|b| *b == b'/') else {
        return Ok(Parent {
            fd: dir,
            last: name,
            _temp: None,
        });
    };
    let fd = open_below(dir, &name[..i], libc::O_PATH | libc::O_DIRECTORY, 0)?;
    Ok(Parent {
        fd,
        last: &name[i + 1..],
        _temp: Some(Temp(fd)),
    })
}

fn read_dir(fd: i32) -> Result<Vec<DirEntry>, Errno> {
    let mut out: Vec<DirEntry> = Vec::new();
    let mut buf = [0u8; 32768];
    loop {
        // SAFETY: the buffer is valid for writes.
        let n =
            unsafe { sys!(libc::SYS_getdents64, fd, buf.as_mut_ptr(), buf.len()) }.map_err(errno)? as usize;
        if n == 0 {
            break;
        }
        let mut at = 0;
        while at + 19 <= n {
            let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| buf[at + i + k]));
            let len = usize::from(u16::from_le_bytes([buf[at + 16], buf[at + 17]]));
            let name = &buf[at + 19..at + len.max(20)];
            let name = &name[..name.iter().position(|b| *b == 0).unwrap_or(name.len())];
            if name != b"." && name != b".." {
                out.push(DirEntry {
                    ino: word(0),
                    kind: buf[at + 18],
                    name: name.to_vec(),
                });
            }
            at += len.max(20);
        }
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

fn timespec(t: Option<i128>) -> [i64; 2] {
    match t {
        None => [0, libc::UTIME_OMIT],
        Some(t) => [
            t.div_euclid(1_000_000_000) as i64,
            t.rem_euclid(1_000_000_000) as i64,
        ],
    }
}

fn statfs_of(fd: i32) -> Result<[u64; 9], Errno> {
    // SAFETY: an all-zero statfs is valid, and the pointer is good for writes.
    let s = unsafe {
        let mut s: libc::statfs = std::mem::zeroed();
        sys!(libc::SYS_fstatfs, fd, &raw mut s).map_err(errno)?;
        s
    };
    Ok([
        s.f_type as u64,
        s.f_bsize as u64,
        s.f_blocks,
        s.f_bfree,
        s.f_bavail,
        s.f_files,
        s.f_ffree,
        s.f_namelen as u64,
        s.f_frsize as u64,
    ])
}

/// Directories that were reached without a symlink.
#[derive(Default)]
pub struct PlainDirs {
    known: BTreeMap<Handle, BTreeSet<Vec<u8>>>,
    asked: u32,
    count: usize,
}

impl PlainDirs {
    fn knows(&mut self, dir: Handle, path: &[u8]) -> bool {
        self.asked += 1;
        // Now and then everything is looked at again.
        !self.asked.is_multiple_of(4096) && self.known.get(&dir).is_some_and(|s| s.contains(path))
    }
    fn learn(&mut self, dir: Handle, path: &[u8]) {
        if self.count >= 1024 || self.asked.is_multiple_of(4096) {
            self.known.clear();
            self.count = 0;
        }
        if self.known.entry(dir).or_default().insert(path.to_vec()) {
            self.count += 1;
        }
    }
}

impl Plat {
    /// A symlink may have come, by our own doing.
    fn forget_plain_dirs(&mut self) {
        let _side = alloc::enter(Side::Host);
        self.plain_dirs = PlainDirs::default();
    }

    fn ask_stat_at(&mut self, dir: Handle, fd: i32, name: &[u8]) -> Result<Stat, Errno> {
        let Some(cut) = name.iter().rposition(|b| *b == b'/') else {
            return stat_of(fd, Some(&CPath::new(name)?));
        };
        // Once its directory was seen to have no symlink above it, one call does. Should somebody
        // on the host put one there, the host follows it as it would for any program.
        if self.plain_dirs.knows(dir, &name[..cut]) {
            return stat_of(fd, Some(&CPath::new(name)?));
        }
        let t = Temp(open_below(fd, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?);
        let _side = alloc::enter(Side::Host);
        self.plain_dirs.learn(dir, &name[..cut]);
        stat_of(t.0, None)
    }

    /// What the image is told of a file that was asked for by `h`.
    fn told(&self, h: Handle, st: Result<Stat, Errno>) -> Result<Stat, Errno> {
        match &self.moved {
            Some(m) => st.map(|st| m.told(h, st)),
            None => st,
        }
    }

    /// `new` was opened from `from`.
    fn opened(&mut self, from: Handle, new: Handle) {
        if let Some(m) = &mut self.moved {
            m.opened(from, new);
        }
    }

    /// The image changes something on the host: what was known may be wrong.
    pub(super) fn changing(&mut self) {
        let _side = alloc::enter(Side::Host);
        self.recent.clear();
    }
}

fn no_log(n: u64) -> Read {
    Read {
        n: n as usize,
        logged: false,
    }
}

impl HostFs for Plat {
    fn host_open(
        &mut self,
        dir: Handle,
        name: &[u8],
        flags: i32,
        mode: u32,
        nofollow: bool,
        new: Handle,
        _: Expected,
    ) -> Result<Stat, Errno> {
        let dirfd = self.fd(dir)?;
        let share = nofollow && shareable(flags);
        if share && let Some(shared) = self.recent.open(dir, name, flags) {
            let st = shared.stat;
            let _side = alloc::enter(Side::Host);
            self.opened(dir, new);
            self.handles.insert(new, HostObject::Shared(shared));
            return Ok(st);
        }
        if !share && flags & libc::O_PATH == 0 {
            self.changing();
        }
        let makes = flags & (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) != 0;
        let mode = if makes { mode } else { 0 };
        let fd = if nofollow {
            open_below(dirfd, name, flags, mode)?
        } else {
            let path = CPath::new(name)?;
            // SAFETY: the path is a C string.
            unsafe { sys!(libc::SYS_openat, dirfd, path.ptr(), flags | libc::O_CLOEXEC, mode) }
                .map_err(errno)? as i32
        };
        let st = self.told(dir, stat_of(fd, None));
        let _side = alloc::enter(Side::Host);
        self.opened(dir, new);
        let object = match st {
            Ok(stat) if share && stat.mode & libc::S_IFMT == libc::S_IFREG => {
                let epoch = self.recent.epoch;
                let shared = Rc::new(Shared { fd, stat, epoch });
                self.recent.note_open(dir, name, flags, &shared);
                HostObject::Shared(shared)
            }
            _ => HostObject::File(fd),
        };
        self.handles.insert(new, object);
        st
    }
    fn host_close(&mut self, h: Handle) {
        let _side = alloc::enter(Side::Host);
        if ftl_core::door::is_exec_handle(h) {
            return self.stream_close(h);
        }
        if let Some(m) = &mut self.moved {
            m.closed(h);
        }
        match self.handles.remove(&h) {
            Some(HostObject::File(fd)) => drop(Temp(fd)),
            // A shared one is closed with its last user.
            Some(HostObject::Shared(_) | HostObject::Stream(_)) | None => {}
        }
    }
    fn host_stat(&mut self, h: Handle) -> Result<Stat, Errno> {
        if let Some(HostObject::Shared(s)) = self.handles.get(&h)
            && s.epoch == self.recent.epoch
        {
            return Ok(s.stat);
        }
        self.told(h, stat_of(self.fd(h)?, None))
    }
    fn host_stat_at(&mut self, dir: Handle, name: &[u8], _: Expected) -> Result<Stat, Errno> {
        let fd = self.fd(dir)?;
        if name.is_empty() {
            return self.told(dir, stat_of(fd, None));
        }
        if let Some(known) = self.recent.stat(dir, name) {
            return known;
        }
        let said = self.ask_stat_at(dir, fd, name);
        let said = self.told(dir, said);
        let _side = alloc::enter(Side::Host);
        self.recent.note_stat(dir, name, said);
        said
    }
    fn host_readlink_at(&mut self, dir: Handle, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let p = parent(self.fd(dir)?, name)?;
        let path = CPath::new(p.last)?;
        let mut buf = [0u8; 4096];
        // SAFETY: valid pointers.
        let n = unsafe {
            sys!(
                libc::SYS_readlinkat,
                p.fd,
                path.ptr(),
                buf.as_mut_ptr(),
                buf.len()
            )
        }
        .map_err(errno)?;
        Ok(buf[..n as usize].to_vec())
    }
    fn host_pread_guest(
        &mut self,
        h: Handle,
        offset: u64,
        addr: u64,
        len: u64,
        _: Option<&[u8]>,
    ) -> Result<Read, Errno> {
        let fd = self.fd(h)?;
        // The host's fault handler would not come to us.
        crate::snap::lazy::open(addr, addr.saturating_add(len));
        // SAFETY: the host kernel checks the guest's address; the caller has checked its range.
        unsafe { sys!(libc::SYS_pread64, fd, addr, len, offset) }
            .map(no_log)
            .map_err(errno)
    }
    fn host_pread(
        &mut self,
        h: Handle,
        offset: u64,
        dst: &mut [u8],
        _: Option<&[u8]>,
    ) -> Result<Read, Errno> {
        let fd = self.fd(h)?;
        // SAFETY: the slice is valid for writes.
        unsafe { sys!(libc::SYS_pread64, fd, dst.as_mut_ptr(), dst.len(), offset) }
            .map(no_log)
            .map_err(errno)
    }
    fn host_pwrite(&mut self, h: Handle, offset: u64, src: &[u8]) -> Result<usize, Errno> {
        self.changing();
        let fd = self.fd(h)?;
        // SAFETY: the slice is valid for reads.
        unsafe { sys!(libc::SYS_pwrite64, fd, src.as_ptr(), src.len(), offset) }
            .map(|n| n as usize)
            .map_err(errno)
    }
    fn host_list(&mut self, h: Handle) -> Result<Vec<DirEntry>, Errno> {
        self.host_list_at(h, b"")
    }
    fn host_truncate(&mut self, h: Handle, len: u64) -> Result<(), Errno> {
        self.changing();
        let fd = self.fd(h)?;
        // SAFETY: a plain call.
        unsafe { sys!(libc::SYS_ftruncate, fd, len) }
            .map(drop)
            .map_err(errno)
    }
    fn host_allocate(&mut self, h: Handle, mode: i32, offset: u64, len: u64) -> Result<(), Errno> {
        self.changing();
        let fd = self.fd(h)?;
        // SAFETY: a plain call.
        unsafe { sys!(libc::SYS_fallocate, fd, mode, offset, len) }
            .map(drop)
            .map_err(errno)
    }
    fn host_sync(&mut self, h: Handle, data_only: bool) -> Result<(), Errno> {
        let fd = self.fd(h)?;
        let nr = if data_only {
            libc::SYS_fdatasync
        } else {
            libc::SYS_fsync
        };
        // SAFETY: a plain call.
        unsafe { sys!(nr, fd) }.map(drop).map_err(errno)
    }
    fn host_mkdir_at(&mut self, dir: Handle, name: &[u8], mode: u32) -> Result<(), Errno> {
        self.changing();
        let p = parent(self.fd(dir)?, name)?;
        let path = CPath::new(p.last)?;
        // SAFETY: valid pointer.
        unsafe { sys!(libc::SYS_mkdirat, p.fd, path.ptr(), mode) }
            .map(drop)
            .map_err(errno)
    }
    fn host_unlink_at(&mut self, dir: Handle, name: &[u8], rmdir: bool) -> Result<(), Errno> {
        self.changing();
        let p = parent(self.fd(dir)?, name)?;
        let path = CPath::new(p.last)?;
        let flags = if rmdir { libc::AT_REMOVEDIR } else { 0 };
        // SAFETY: valid pointer.
        unsafe { sys!(libc::SYS_unlinkat, p.fd, path.ptr(), flags) }
            .map(drop)
            .map_err(errno)
    }
    fn host_rename_at(
        &mut self,
        from: Handle,
        from_name: &[u8],
        to: Handle,
        to_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        self.forget_plain_dirs();
        self.changing();
        let a = parent(self.fd(from)?, from_name)?;
        let b = parent(self.fd(to)?, to_name)?;
        let (pa, pb) = (CPath::new(a.last)?, CPath::new(b.last)?);
        // SAFETY: valid pointers.
        unsafe { sys!(libc::SYS_renameat2, a.fd, pa.ptr(), b.fd, pb.ptr(), flags) }
            .map(drop)
            .map_err(errno)
    }
    fn host_link_at(&mut self, from: Handle, from_name: &[u8], to: Handle, name: &[u8]) -> Result<(), Errno> {
        self.changing();
        let a = parent(self.fd(from)?, from_name)?;
        let b = parent(self.fd(to)?, name)?;
        let (pa, pb) = (CPath::new(a.last)?, CPath::new(b.last)?);
        // SAFETY: valid pointers.
        unsafe { sys!(libc::SYS_linkat, a.fd, pa.ptr(), b.fd, pb.ptr(), 0) }
            .map(drop)
            .map_err(errno)
    }
    fn host_symlink_at(&mut self, target: &[u8], dir: Handle, name: &[u8]) -> Result<(), Errno> {
        self.forget_plain_dirs();
        self.changing();
        let p = parent(self.fd(dir)?, name)?;
        let (text, path) = (CPath::new(target)?, CPath::new(p.last)?);
        // SAFETY: valid pointers.
        unsafe { sys!(libc::SYS_symlinkat, text.ptr(), p.fd, path.ptr()) }
            .map(drop)
            .map_err(errno)
    }
    fn host_mknod_at(&mut self, dir: Handle, name: &[u8], mode: u32, dev: u64) -> Result<(), Errno> {
        self.changing();
        let p = parent(self.fd(dir)?, name)?;
        let path = CPath::new(p.last)?;
        // SAFETY: valid pointer.
        unsafe { sys!(libc::SYS_mknodat, p.fd, path.ptr(), mode, dev) }
            .map(drop)
            .map_err(errno)
    }
    fn host_chmod(&mut self, h: Handle, mode: u32) -> Result<(), Errno> {
        self.changing();
        let fd = self.fd(h)?;
        // SAFETY: a plain call.
        unsafe { sys!(libc::SYS_fchmod, fd, mode) }
            .map(drop)
            .map_err(errno)
    }
    fn host_chown(&mut self, h: Handle, uid: u32, gid: u32) -> Result<(), Errno> {
        self.changing();
        let fd = self.fd(h)?;
        // SAFETY: a plain call.
        unsafe { sys!(libc::SYS_fchown, fd, uid, gid) }
            .map(drop)
            .map_err(errno)
    }
    fn host_utimens(&mut self, h: Handle, atime: Option<i128>, mtime: Option<i128>) -> Result<(), Errno> {
        self.changing();
        let fd = self.fd(h)?;
        let times = [timespec(atime), timespec(mtime)];
        // SAFETY: valid pointer; a null path means the descriptor.
        unsafe { sys!(libc::SYS_utimensat, fd, 0, times.as_ptr(), 0) }
            .map(drop)
            .map_err(errno)
    }
    fn host_statfs(&mut self, h: Handle) -> Result<[u64; 9], Errno> {
        statfs_of(self.fd(h)?)
    }
    fn host_list_at(&mut self, dir: Handle, name: &[u8]) -> Result<Vec<DirEntry>, Errno> {
        let t = Temp(open_below(
            self.fd(dir)?,
            name,
            libc::O_RDONLY | libc::O_DIRECTORY,
            0,
        )?);
        let mut list = read_dir(t.0)?;
        if let Some(m) = &self.moved {
            m.listed(dir, stat_of(t.0, None)?.dev, &mut list);
        }
        Ok(list)
    }
    fn host_chmod_at(&mut self, dir: Handle, name: &[u8], mode: u32) -> Result<(), Errno> {
        self.changing();
        let p = parent(self.fd(dir)?, name)?;
        let path = CPath::new(p.last)?;
        // The caller has seen that the last component is no symlink.
        // SAFETY: valid pointer.
        unsafe { sys!(libc::SYS_fchmodat, p.fd, path.ptr(), mode) }
            .map(drop)
            .map_err(errno)
    }
    fn host_chown_at(&mut self, dir: Handle, name: &[u8], uid: u32, gid: u32) -> Result<(), Errno> {
        self.changing();
        let p = parent(self.fd(dir)?, name)?;
        let path = CPath::new(p.last)?;
        // SAFETY: valid pointer.
        unsafe {
            sys!(
                libc::SYS_fchownat,
                p.fd,
                path.ptr(),
                uid,
                gid,
                libc::AT_SYMLINK_NOFOLLOW
            )
        }
        .map(drop)
        .map_err(errno)
    }
    fn host_utimens_at(
        &mut self,
        dir: Handle,
        name: &[u8],
        atime: Option<i128>,
        mtime: Option<i128>,
    ) -> Result<(), Errno> {
        self.changing();
        let p = parent(self.fd(dir)?, name)?;
        let path = CPath::new(p.last)?;
        let times = [timespec(atime), timespec(mtime)];
        // SAFETY: valid pointers.
        unsafe {
            sys!(
                libc::SYS_utimensat,
                p.fd,
                path.ptr(),
                times.as_ptr(),
                libc::AT_SYMLINK_NOFOLLOW
            )
        }
        .map(drop)
        .map_err(errno)
    }
    fn host_statfs_at(&mut self, dir: Handle, name: &[u8]) -> Result<[u64; 9], Errno> {
        let fd = self.fd(dir)?;
        if name.is_empty() {
            return statfs_of(fd);
        }
        let t = Temp(open_below(fd, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?);
        statfs_of(t.0)
    }
    fn host_seek(&mut self, h: Handle, offset: u64, hole: bool) -> Result<u64, Errno> {
        let fd = self.fd(h)?;
        let whence = if hole { libc::SEEK_HOLE } else { libc::SEEK_DATA };
        // SAFETY: a plain call; the host position is not used otherwise.
        unsafe { sys!(libc::SYS_lseek, fd, offset, whence) }.map_err(errno)
    }
    fn host_xattr_at(&mut self, dir: Handle, name: &[u8], op: &Xattr<'_>) -> Result<Vec<u8>, Errno> {
        if matches!(op, Xattr::Set(..) | Xattr::Remove(_)) {
            self.changing();
        }
        let p = parent(self.fd(dir)?, name)?;
        let last = if p.last.is_empty() { b"." } else { p.last };
        // There is no call by directory descriptor before Linux 6.13.
        let mut path = format!("/proc/self/fd/{}/", p.fd).into_bytes();
        path.extend_from_slice(last);
        let path = CPath::new(&path)?;
        let mut buf = [0u8; 65536];
        let attr = match op {
            Xattr::Get(n) | Xattr::Set(n, ..) | Xattr::Remove(n) => CPath::new(n)?,
            Xattr::List => CPath::new(b"")?,
        };
        // SAFETY: valid pointers and lengths; everything outlives the call.
        let n = unsafe {
            match op {
                Xattr::Get(_) => sys!(
                    libc::SYS_lgetxattr,
                    path.ptr(),
                    attr.ptr(),
                    buf.as_mut_ptr(),
                    buf.len()
                ),
                Xattr::List => sys!(libc::SYS_llistxattr, path.ptr(), buf.as_mut_ptr(), buf.len()),
                Xattr::Set(_, v, flags) => {
                    sys!(
                        libc::SYS_lsetxattr,
                        path.ptr(),
                        attr.ptr(),
                        v.as_ptr(),
                        v.len(),
                        *flags
                    )
                }
                Xattr::Remove(_) => sys!(libc::SYS_lremovexattr, path.ptr(), attr.ptr()),
            }
        }
        .map_err(errno)?;
        Ok(match op {
            Xattr::Get(_) | Xattr::List => buf[..n as usize].to_vec(),
            _ => Vec::new(),
        })
    }
    fn host_lock(&mut self, h: Handle, kind: i32, start: u64, end: u64) -> Result<(), Errno> {
        self.lock(h, kind, start, end)
    }
    fn host_lock_test(&mut self, h: Handle, kind: i32, start: u64, end: u64) -> Result<LockMet, Errno> {
        self.lock_test(h, kind, start, end)
    }
    fn host_flock(&mut self, h: Handle, op: i32) -> Result<(), Errno> {
        self.whole_lock(h, op)
    }
    fn host_reopen(&mut self, h: Handle, flags: i32, new: Handle) -> Result<Stat, Errno> {
        self.changing();
        let mut own = [0u8; 32];
        {
            use std::io::Write;
            let _ = write!(&mut own[..31], "/proc/self/fd/{}", self.fd(h)?);
        }
        // SAFETY: a C string.
        let fd = unsafe {
            sys!(
                libc::SYS_open,
                own.as_ptr(),
                flags | libc::O_CLOEXEC | libc::O_NOCTTY
            )
        }
        .map_err(errno)? as i32;
        let st = self.told(h, stat_of(fd, None));
        let _side = alloc::enter(Side::Host);
        self.opened(h, new);
        self.handles.insert(new, HostObject::File(fd));
        st
    }
    fn host_link_open(&mut self, h: Handle, dir: Handle, name: &[u8]) -> Result<(), Errno> {
        self.changing();
        let fd = self.fd(h)?;
        let p = parent(self.fd(dir)?, name)?;
        let path = CPath::new(p.last)?;
        let mut own = [0u8; 32];
        {
            use std::io::Write;
            let _ = write!(&mut own[..31], "/proc/self/fd/{fd}");
        }
        // AT_EMPTY_PATH needs a privilege; the magic link does not.
        // SAFETY: valid pointers.
        unsafe {
            sys!(
                libc::SYS_linkat,
                libc::AT_FDCWD,
                own.as_ptr(),
                p.fd,
                path.ptr(),
                libc::AT_SYMLINK_FOLLOW
            )
        }
        .map(drop)
        .map_err(errno)
    }
}
