//! Host files.

use super::{HostObject, Plat, errno};
use crate::alloc::{self, Side};
use crate::sys::sys;
use ftl_core::errno::Errno;
use ftl_core::platform::{DirEntry, Handle, HostFs, Stat};

fn cstr(name: &[u8]) -> Vec<u8> {
    let mut v = Vec::with_capacity(name.len() + 1);
    v.extend_from_slice(if name.is_empty() { b"." } else { name });
    v.push(0);
    v
}

fn stat_of(fd: i32) -> Result<Stat, Errno> {
    // SAFETY: an all-zero stat is valid, and the pointer is good for writes.
    let st = unsafe {
        let mut st: libc::stat = std::mem::zeroed();
        sys!(libc::SYS_fstat, fd, &raw mut st).map_err(errno)?;
        st
    };
    Ok(convert(&st))
}

fn convert(st: &libc::stat) -> Stat {
    let t = |s: i64, n: i64| i128::from(s) * 1_000_000_000 + i128::from(n);
    Stat {
        dev: st.st_dev,
        ino: st.st_ino,
        mode: st.st_mode,
        nlink: st.st_nlink,
        uid: st.st_uid,
        gid: st.st_gid,
        rdev: st.st_rdev,
        size: st.st_size as u64,
        blksize: st.st_blksize as u32,
        blocks: st.st_blocks as u64,
        atime: t(st.st_atime, st.st_atime_nsec),
        mtime: t(st.st_mtime, st.st_mtime_nsec),
        ctime: t(st.st_ctime, st.st_ctime_nsec),
        btime: 0,
    }
}

impl HostFs for Plat {
    fn host_open(
        &mut self,
        dir: Handle,
        name: &[u8],
        flags: i32,
        mode: u32,
        _nofollow: bool,
        new: Handle,
    ) -> Result<Stat, Errno> {
        let _side = alloc::enter(Side::Host);
        let dirfd = self.fd(dir)?;
        let path = cstr(name);
        // SAFETY: the path is a C string.
        let fd = unsafe {
            sys!(
                libc::SYS_openat,
                dirfd,
                path.as_ptr(),
                flags | libc::O_CLOEXEC,
                mode
            )
        }
        .map_err(errno)? as i32;
        self.handles.insert(new, HostObject::File(fd));
        stat_of(fd)
    }
    fn host_close(&mut self, h: Handle) {
        let _side = alloc::enter(Side::Host);
        if let Some(HostObject::File(fd)) = self.handles.remove(&h) {
            // SAFETY: our descriptor, out of the table now.
            let _ = unsafe { sys!(libc::SYS_close, fd) };
        }
    }
    fn host_stat(&mut self, h: Handle) -> Result<Stat, Errno> {
        stat_of(self.fd(h)?)
    }
    fn host_stat_at(&mut self, dir: Handle, name: &[u8]) -> Result<Stat, Errno> {
        let _side = alloc::enter(Side::Host);
        let (fd, path) = (self.fd(dir)?, cstr(name));
        // SAFETY: valid pointers; an all-zero stat is valid.
        unsafe {
            let mut st: libc::stat = std::mem::zeroed();
            sys!(
                libc::SYS_newfstatat,
                fd,
                path.as_ptr(),
                &raw mut st,
                libc::AT_SYMLINK_NOFOLLOW
            )
            .map_err(errno)?;
            Ok(convert(&st))
        }
    }
    fn host_readlink_at(&mut self, _: Handle, _: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_pread_guest(&mut self, h: Handle, offset: u64, addr: u64, len: u64) -> Result<u64, Errno> {
        let fd = self.fd(h)?;
        // SAFETY: the host kernel checks the guest's address; the caller has checked its range.
        unsafe { sys!(libc::SYS_pread64, fd, addr, len, offset) }.map_err(errno)
    }
    fn host_pread(&mut self, h: Handle, offset: u64, dst: &mut [u8]) -> Result<usize, Errno> {
        let fd = self.fd(h)?;
        // SAFETY: the slice is valid for writes.
        unsafe { sys!(libc::SYS_pread64, fd, dst.as_mut_ptr(), dst.len(), offset) }
            .map(|n| n as usize)
            .map_err(errno)
    }
    fn host_pwrite(&mut self, _: Handle, _: u64, _: &[u8]) -> Result<usize, Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_list(&mut self, _: Handle) -> Result<Vec<DirEntry>, Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_truncate(&mut self, _: Handle, _: u64) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_allocate(&mut self, _: Handle, _: i32, _: u64, _: u64) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_sync(&mut self, _: Handle, _: bool) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_mkdir_at(&mut self, _: Handle, _: &[u8], _: u32) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_unlink_at(&mut self, _: Handle, _: &[u8], _: bool) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_rename_at(&mut self, _: Handle, _: &[u8], _: Handle, _: &[u8], _: u32) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_link_at(&mut self, _: Handle, _: &[u8], _: Handle, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_symlink_at(&mut self, _: &[u8], _: Handle, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_mknod_at(&mut self, _: Handle, _: &[u8], _: u32, _: u64) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_chmod(&mut self, _: Handle, _: u32) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_chown(&mut self, _: Handle, _: u32, _: u32) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_utimens(&mut self, _: Handle, _: Option<i128>, _: Option<i128>) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    fn host_statfs(&mut self, _: Handle) -> Result<[u64; 9], Errno> {
        Err(Errno::ENOSYS)
    }
}
