//! The standard streams as devices.
//!
//! A stream is shared with whoever started us, so its description's flags are left alone: pipes and
//! terminals are opened a second time for our own O_NONBLOCK, sockets are asked per call.

use super::{HostObject, Plat, errno};
use crate::sys::{Host, HostErr, sys};
use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::platform::{Handle, StreamKind};
use mio::unix::SourceFd;

/// Bytes of the kernel's struct termios (TCGETS), rounded up.
const TERMIOS_LEN: usize = 64;

/// One stream.
#[derive(Debug)]
pub struct Stream {
    /// Descriptor to use.
    pub fd: i32,
    /// What it is.
    pub kind: StreamKind,
    /// Bytes that the image is ready to take; 0 when it has not asked.
    pub want: usize,
    /// The image was told that it is full.
    pub full: bool,
    registered: bool,
    nonblock: bool,
}

fn kind_of(fd: i32) -> StreamKind {
    // SAFETY: plain C calls with valid pointers.
    unsafe {
        let mut st: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &mut st) != 0 {
            return StreamKind::Closed;
        }
        match st.st_mode & libc::S_IFMT {
            libc::S_IFIFO => StreamKind::Pipe,
            libc::S_IFREG => StreamKind::File,
            libc::S_IFSOCK => StreamKind::Socket,
            libc::S_IFCHR if libc::isatty(fd) == 1 => StreamKind::Terminal,
            _ => StreamKind::Char,
        }
    }
}

impl Stream {
    /// One that is not there.
    pub fn closed() -> Stream {
        Stream {
            fd: -1,
            kind: StreamKind::Closed,
            want: 0,
            full: false,
            registered: false,
            nonblock: false,
        }
    }

    /// A pipe or socket that is ours alone, and does not block.
    pub fn own(fd: i32, kind: StreamKind) -> Stream {
        Stream {
            fd,
            kind,
            nonblock: true,
            ..Stream::closed()
        }
    }

    /// Looks at a descriptor that we were started with.
    pub fn open(fd: i32) -> Stream {
        let kind = kind_of(fd);
        let mut s = Stream {
            fd,
            kind,
            want: 0,
            full: false,
            registered: false,
            nonblock: false,
        };
        if matches!(kind, StreamKind::Pipe | StreamKind::Terminal) {
            // SAFETY: fcntl and open with valid arguments.
            unsafe {
                let mode = libc::fcntl(fd, libc::F_GETFL) & libc::O_ACCMODE;
                let path = format!("/proc/self/fd/{fd}\0");
                let flags = mode | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
                if let Ok(own) = sys!(libc::SYS_open, path.as_ptr(), flags) {
                    s.fd = own as i32;
                    s.nonblock = true;
                }
            }
        }
        s
    }

    /// Settings of a terminal.
    pub fn termios(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0u8; TERMIOS_LEN];
        let terminal = self.kind == StreamKind::Terminal;
        // SAFETY: the buffer has room for the kernel's struct termios.
        let got =
            terminal && unsafe { sys!(libc::SYS_ioctl, self.fd, libc::TCGETS, bytes.as_mut_ptr()) }.is_ok();
        got.then_some(bytes)
    }

    /// Gives a terminal the settings that another one had.
    pub fn set_termios(&self, bytes: &[u8]) {
        if self.kind == StreamKind::Terminal && bytes.len() == TERMIOS_LEN {
            // SAFETY: the kernel's struct termios. A terminal that refuses keeps its own.
            let _ = unsafe { sys!(libc::SYS_ioctl, self.fd, libc::TCSETS, bytes.as_ptr()) };
        }
    }

    fn read(&self, buf: &mut [u8]) -> Host<usize> {
        if self.kind == StreamKind::Closed {
            // Its other side was where the image was before.
            return Ok(0);
        }
        if !self.nonblock && self.kind != StreamKind::File && !self.ready_for(libc::POLLIN) {
            return Err(HostErr(libc::EAGAIN));
        }
        // SAFETY: the buffer is valid for writes.
        unsafe { sys!(libc::SYS_read, self.fd, buf.as_mut_ptr(), buf.len()) }.map(|n| n as usize)
    }

    fn write(&self, bytes: &[u8]) -> Host<usize> {
        let mut n = bytes.len();
        if self.kind == StreamKind::Socket {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: the slice is valid for reads.
            return unsafe { sys!(libc::SYS_sendto, self.fd, bytes.as_ptr(), n, flags, 0, 0) }
                .map(|n| n as usize);
        }
        if !self.nonblock && self.kind == StreamKind::Pipe {
            if !self.ready_for(libc::POLLOUT) {
                return Err(HostErr(libc::EAGAIN));
            }
            // A writable pipe takes at least this much without blocking.
            n = n.min(libc::PIPE_BUF);
        }
        // SAFETY: the slice is valid for reads.
        unsafe { sys!(libc::SYS_write, self.fd, bytes.as_ptr(), n) }.map(|n| n as usize)
    }

    fn ready_for(&self, what: i16) -> bool {
        let mut p = libc::pollfd {
            fd: self.fd,
            events: what,
            revents: 0,
        };
        // SAFETY: one valid pollfd, no waiting.
        matches!(unsafe { sys!(libc::SYS_poll, &raw mut p, 1, 0) }, Ok(1))
    }
}

impl Plat {
    fn stream(&mut self, h: Handle) -> Option<&mut Stream> {
        match self.handles.get_mut(&h) {
            Some(HostObject::Stream(s)) => Some(s),
            _ => None,
        }
    }

    /// The stream's readiness will be reported. Regular files cannot be polled: they are always ready.
    fn stream_watch(&mut self, h: Handle) {
        let Some(HostObject::Stream(s)) = self.handles.get_mut(&h) else {
            return;
        };
        if s.registered || s.kind == StreamKind::File {
            return;
        }
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        let fd = s.fd;
        s.registered = self
            .poll
            .registry()
            .register(&mut SourceFd(&fd), mio::Token(h.0 as usize), both)
            .is_ok();
    }

    /// The image asks for input.
    pub fn stream_want(&mut self, h: Handle, max: usize) {
        match self.stream(h) {
            Some(s) => s.want = max,
            // Its other side was where the image was before.
            None => self.push(Input::Eof(h)),
        }
        self.stream_watch(h);
        self.stream_read(h);
    }

    fn stream_read(&mut self, h: Handle) {
        let Some(s) = self.stream(h).filter(|s| s.want > 0) else {
            return;
        };
        let mut buf = vec![0; s.want];
        let input = match s.read(&mut buf) {
            Ok(0) => Input::Eof(h),
            Ok(n) => Input::Data(
                h,
                crate::alloc::on(crate::alloc::input_side(), || buf[..n].to_vec()),
            ),
            Err(HostErr(libc::EAGAIN | libc::EINTR)) => return,
            Err(e) => Input::Failed(h, e.0),
        };
        s.want = 0;
        self.push(input);
    }

    /// Writes what a gated stream takes now: the image has been told that it took all. A stream that is not there
    /// (an inherited descriptor, after a takeover), or whose reader has gone, takes everything.
    pub fn stream_put(&mut self, h: Handle, bytes: &[u8]) -> usize {
        let Some(s) = self.stream(h).filter(|s| s.kind != StreamKind::Closed) else {
            return bytes.len();
        };
        let mut done = 0;
        while done < bytes.len() {
            match s.write(&bytes[done..]) {
                Ok(n) => done += n,
                Err(HostErr(libc::EINTR)) => {}
                Err(HostErr(libc::EAGAIN)) => break,
                Err(_) => return bytes.len(),
            }
        }
        done
    }

    /// The image lets go of a stream that was made for a process of its own.
    pub fn stream_close(&mut self, h: Handle) {
        let Some(HostObject::Stream(s)) = self.handles.remove(&h) else {
            return;
        };
        if s.fd < 0 {
            return;
        }
        if s.registered {
            let _ = self.poll.registry().deregister(&mut SourceFd(&s.fd));
        }
        // SAFETY: ours alone, and known to nobody any more.
        let _ = unsafe { sys!(libc::SYS_close, s.fd) };
    }

    /// Writes what the stream takes.
    pub fn stream_write(&mut self, h: Handle, bytes: &[u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < bytes.len() {
            let Some(s) = self.stream(h) else {
                return Err(Errno::EBADF);
            };
            match s.write(&bytes[done..]) {
                Ok(n) => done += n,
                Err(HostErr(libc::EINTR)) => {}
                Err(HostErr(libc::EAGAIN)) => {
                    s.full = true;
                    let _side = crate::alloc::enter(crate::alloc::Side::Host);
                    self.stream_watch(h);
                    break;
                }
                Err(e) if done == 0 => return Err(errno(e)),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// mio saw a change.
    pub fn stream_ready(&mut self, h: Handle, readable: bool, writable: bool) {
        if readable {
            self.stream_read(h);
        }
        if writable && self.stream(h).is_some_and(|s| std::mem::take(&mut s.full)) {
            self.push(Input::Writable(h));
        }
    }
}
