//! Signals of this process that are a container's: `restore` without `--detach` stands for its program.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io::{self, PipeReader, Read};
use std::os::fd::{IntoRawFd, RawFd};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};

/// Where the handler writes the signals' numbers; set once, and open as long as this process is there.
static COMING: AtomicI32 = AtomicI32::new(-1);

/// Signals that come from now on, until they are passed on.
pub struct Signals(PipeReader);

/// Those that a program may have sent to it. Those that stop and continue are for this process alone.
fn all() -> impl Iterator<Item = i32> {
    use libc::{
        SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGPWR, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
        SIGWINCH,
    };
    let named = [
        SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGVTALRM, SIGPROF, SIGWINCH, SIGIO,
        SIGPWR,
    ];
    named.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

extern "C" fn came(signo: i32) {
    let byte = signo as u8;
    // SAFETY: errno of this thread, and a descriptor that nobody closes; write(2) may be called in a handler. What
    // does not fit into the pipe is lost, as 64 Ki others wait.
    unsafe {
        let errno = libc::__errno_location();
        let kept = *errno;
        let to: RawFd = COMING.load(Ordering::Relaxed);
        libc::write(to, (&raw const byte).cast(), 1);
        *errno = kept;
    }
}

impl Signals {
    /// Begins to collect them, but for those that the caller has ignored. Processes that are started have none of it.
    pub fn collect() -> io::Result<Signals> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        COMING.store(writer.into_raw_fd(), Ordering::Relaxed);
        for signo in all() {
            // SAFETY: all zero is a value of it; both are structures of ours, and the handler does what one may.
            unsafe {
                let mut old: libc::sigaction = std::mem::zeroed();
                let mut new: libc::sigaction = std::mem::zeroed();
                new.sa_sigaction = came as *const () as usize;
                new.sa_flags = libc::SA_RESTART;
                let asked = libc::sigaction(signo, std::ptr::null(), &raw mut old);
                if asked != 0 || old.sa_sigaction == libc::SIG_IGN {
                    continue;
                }
                if libc::sigaction(signo, &raw const new, std::ptr::null_mut()) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
        }
        Ok(Signals(reader))
    }

    /// Passes them on until the process has ended.
    pub fn pass(mut self, child: &mut Child, mut pass: impl FnMut(i32)) -> io::Result<ExitStatus> {
        let pid = rustix::process::Pid::from_child(child);
        let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        loop {
            let mut fds = [
                PollFd::new(&process, PollFlags::IN),
                PollFd::new(&self.0, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                done => done?,
            };
            if !fds[0].revents().is_empty() {
                return child.wait();
            }
            let mut some = [0; 64];
            match self.0.read(&mut some) {
                Ok(n) => some[..n].iter().for_each(|signo| pass(i32::from(*signo))),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
    }
}
