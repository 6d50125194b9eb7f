//! Locks on host files: held by open file descriptions of the image's own, so that they bind
//! everybody else on the host, and no close of another descriptor drops them.

use super::{Plat, errno};
use crate::sys::sys;
use ftl_abi::fs::hostlocks::Held;
use ftl_core::errno::Errno;
use ftl_core::platform::{Handle, LockMet};

const F_OFD_GETLK: i32 = 36;
const F_OFD_SETLK: i32 = 37;
const F_UNLCK: i32 = 2;
/// A lock that ends here has no end.
const LAST: u64 = i64::MAX as u64;

fn flock_of(kind: i32, start: u64, end: u64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start as i64,
        l_len: if end >= LAST { 0 } else { (end - start + 1) as i64 },
        l_pid: 0,
    }
}

impl Plat {
    /// A file's path, for messages.
    pub(crate) fn path_of(&self, h: Handle) -> String {
        let fd = self.fd(h).unwrap_or(-1);
        let path = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        path.map_or("?".to_string(), |p| p.display().to_string())
    }

    /// Takes a lock that the image holds already, on a description that was made again.
    pub(crate) fn lock_again(&mut self, h: Handle, held: Held) -> Result<(), Errno> {
        match held {
            Held::Range(kind, start, end) => self.lock(h, kind, start, end),
            Held::Whole(op) => self.whole_lock(h, op),
        }
    }

    /// See [`ftl_core::platform::HostFs::host_lock`].
    pub(super) fn lock(&mut self, h: Handle, kind: i32, start: u64, end: u64) -> Result<(), Errno> {
        // What others wrote before they let go must be seen now.
        self.changing();
        let l = flock_of(kind, start, end);
        let fd = self.fd(h)?;
        // SAFETY: the struct is valid for the call.
        unsafe { sys!(libc::SYS_fcntl, fd, F_OFD_SETLK, &raw const l) }
            .map(drop)
            .map_err(|e| {
                if e.0 == libc::EACCES {
                    Errno::EAGAIN
                } else {
                    errno(e)
                }
            })
    }

    /// See [`ftl_core::platform::HostFs::host_lock_test`].
    pub(super) fn lock_test(&mut self, h: Handle, kind: i32, start: u64, end: u64) -> Result<LockMet, Errno> {
        let mut l = flock_of(kind, start, end);
        let fd = self.fd(h)?;
        // SAFETY: as above; the answer is written there.
        unsafe { sys!(libc::SYS_fcntl, fd, F_OFD_GETLK, &raw mut l) }.map_err(errno)?;
        let kind = i32::from(l.l_type);
        let start = l.l_start as u64;
        let end = if l.l_len == 0 {
            LAST
        } else {
            start + l.l_len as u64 - 1
        };
        Ok((kind != F_UNLCK).then_some((kind, start, end)))
    }

    /// See [`ftl_core::platform::HostFs::host_flock`].
    pub(super) fn whole_lock(&mut self, h: Handle, op: i32) -> Result<(), Errno> {
        self.changing();
        let fd = self.fd(h)?;
        // SAFETY: a plain call.
        unsafe { sys!(libc::SYS_flock, fd, op | libc::LOCK_NB) }
            .map(drop)
            .map_err(errno)
    }
}
