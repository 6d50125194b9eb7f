//! Host system calls, made from the runtime's own text by inline assembly.
//!
//! libc's wrappers are not used after set-up: they keep errno in thread-local storage and may be
//! cancellation points; these are a register load and the instruction. Syscall User Dispatch lets
//! exactly the runtime's mapping through.

use std::arch::asm;

/// A host error number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostErr(pub i32);

impl std::fmt::Display for HostErr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

/// Result of a host call.
pub type Host<T> = Result<T, HostErr>;

/// One raw call.
///
/// # Safety
/// The caller upholds what the kernel does with these arguments: pointers are valid for it, and
/// memory that it changes is not otherwise in use.
#[inline]
pub unsafe fn call(nr: i64, a: [u64; 6]) -> Host<u64> {
    let ret: i64;
    // SAFETY: the syscall instruction clobbers rcx and r11 only; the rest is the caller's promise.
    unsafe {
        asm!("syscall", inlateout("rax") nr => ret, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    if (-4095..0).contains(&ret) {
        Err(HostErr(-ret as i32))
    } else {
        Ok(ret as u64)
    }
}

macro_rules! sys {
    ($nr:expr $(, $a:expr)*) => {{
        let list = [$($a as u64),*];
        let mut args = [0u64; 6];
        args[..list.len()].copy_from_slice(&list);
        $crate::sys::call($nr, args)
    }};
}
pub(crate) use sys;

/// mmap.
///
/// # Safety
/// With MAP_FIXED the range must hold nothing that is still in use.
pub unsafe fn mmap(addr: u64, len: u64, prot: i32, flags: i32, fd: i32, off: u64) -> Host<u64> {
    // SAFETY: as the caller promises.
    unsafe { sys!(libc::SYS_mmap, addr, len, prot, flags, fd, off) }
}

/// munmap.
///
/// # Safety
/// Nothing in the range is used any more.
pub unsafe fn munmap(addr: u64, len: u64) -> Host<()> {
    // SAFETY: as the caller promises.
    unsafe { sys!(libc::SYS_munmap, addr, len) }.map(drop)
}

/// A memfd of the given length.
pub fn memfd(name: &std::ffi::CStr, len: u64) -> Host<i32> {
    // SAFETY: `name` is a C string; a new descriptor is returned.
    let fd = unsafe { sys!(libc::SYS_memfd_create, name.as_ptr(), libc::MFD_CLOEXEC) }? as i32;
    // SAFETY: plain call on our descriptor.
    unsafe { sys!(libc::SYS_ftruncate, fd, len) }?;
    Ok(fd)
}

/// write, all of it, ignoring errors: for diagnostics.
pub fn write_all(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the slice is valid for reads.
        match unsafe { sys!(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) } {
            Ok(n) if n > 0 => bytes = &bytes[n as usize..],
            Err(HostErr(libc::EINTR)) | Err(HostErr(libc::EAGAIN)) => {}
            _ => return,
        }
    }
}

/// The caller is about to end, and others go on, perhaps on this CPU: to give up the tables of much memory takes tens of milliseconds,
/// which are not to be theirs (setpriority(2)); or its work can wait. Those that end at once still get a share of their own.
pub fn step_back() {
    const NICENESS: i32 = 10;
    // SAFETY: no pointers; without effect it is as before.
    let _ = unsafe { sys!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, NICENESS) };
}

/// Ends this host process at once.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: does not return.
        let _ = unsafe { sys!(libc::SYS_exit_group, code) };
    }
}

/// CLOCK_* in nanoseconds.
pub fn clock_ns(clock: i32) -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is valid for writes.
    let _ = unsafe { sys!(libc::SYS_clock_gettime, clock, &raw mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Sleeps.
pub fn sleep_ns(ns: u64) {
    let ts = [(ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64];
    // SAFETY: the array has the layout of struct timespec.
    let _ = unsafe { sys!(libc::SYS_nanosleep, ts.as_ptr(), 0) };
}

/// Waits until a descriptor can be written, at most `ms`.
pub fn wait_writable(fd: i32, ms: i32) {
    let mut p = libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one valid entry.
    let _ = unsafe { sys!(libc::SYS_poll, &raw mut p, 1, ms) };
}

/// futex wait on a shared word while it holds `val`.
pub fn futex_wait(word: &std::sync::atomic::AtomicU32, val: u32) {
    // SAFETY: the word is valid; every outcome (wake, EAGAIN, EINTR) sends the caller to re-check.
    let _ = unsafe { sys!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, val, 0) };
}

/// The same for at most so many nanoseconds.
pub fn futex_wait_for(word: &std::sync::atomic::AtomicU32, val: u32, ns: u64) {
    let time = [(ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64];
    // SAFETY: as above; the array has the layout of the kernel's struct timespec.
    let _ = unsafe {
        sys!(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            val,
            time.as_ptr()
        )
    };
}

/// futex wake on a shared word.
pub fn futex_wake(word: &std::sync::atomic::AtomicU32) {
    // SAFETY: the word is valid.
    let _ = unsafe { sys!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// The same for all who wait.
pub fn futex_wake_all(word: &std::sync::atomic::AtomicU32) {
    // SAFETY: the word is valid.
    let _ = unsafe { sys!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
