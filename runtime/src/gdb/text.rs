//! Breakpoints in the text of the followed process: how they get there, and when they may stay.

use crate::sys::sys;
use ftl_core::context::{Context, reg};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Writes a byte of text, as `Space::patch_text` does; each entry of the followed process needs this, so the file stays open.
pub fn write(text: &mut Option<OwnedFd>, at: u64, byte: u8) -> bool {
    if text.is_none() {
        let flags = libc::O_RDWR | libc::O_CLOEXEC;
        // SAFETY: a C string; the new descriptor is nobody else's.
        *text = unsafe {
            sys!(libc::SYS_open, c"/proc/self/mem".as_ptr(), flags)
                .ok()
                .map(|fd| OwnedFd::from_raw_fd(fd as i32))
        };
    }
    let Some(fd) = text else { return false };
    let fd = fd.as_raw_fd();
    // SAFETY: one byte, of guest memory that could be read, in the process that opened the file.
    unsafe { sys!(libc::SYS_pwrite64, fd, &raw const byte, 1, at) == Ok(1) }
}

/// True if a call is one of those that read and write nothing but what their arguments point to, and no breakpoint is near.
pub fn looks_elsewhere(ctx: &Context, breaks: &[(u64, u8)]) -> bool {
    const CALLS: [i64; 29] = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_lseek,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_fcntl,
        libc::SYS_futex,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_ctl,
        libc::SYS_poll,
        libc::SYS_clock_gettime,
        libc::SYS_gettimeofday,
        libc::SYS_time,
        libc::SYS_times,
        libc::SYS_getrusage,
        libc::SYS_sched_yield,
        libc::SYS_getpid,
        libc::SYS_getppid,
        libc::SYS_gettid,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_getcpu,
    ];
    /// The longest that one of them reads without being told how much, and more, bytes.
    const UNTOLD: u64 = 1 << 16;
    /// What is smaller may be a length.
    const LENGTH: u64 = 1 << 31;
    if breaks.is_empty() || !CALLS.contains(&i64::from(ctx.regs[reg::RAX] as u32)) {
        return false;
    }
    let args = ctx.args();
    let told = args.iter().copied().filter(|a| *a < LENGTH).max().unwrap_or(0);
    // Lengths may count structures: none is longer than this.
    let reach = told.saturating_mul(64).max(UNTOLD);
    let near = |at: u64| args.iter().any(|a| at >= *a && at - a < reach);
    !breaks.iter().any(|(at, _)| near(*at))
}
