//! What handlers and file operations return, and the buffers they fill.

use crate::errno::Errno;
use crate::platform::Platform;
use crate::wait::Block;

/// How an interrupted wait goes on after a signal (kernel/signal.c, ERESTART*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// EINTR always (poll, epoll_wait, nanosleep's relatives report their own way).
    Never,
    /// Restart if no handler ran or the handler has SA_RESTART (ERESTARTSYS).
    Sys,
    /// Restart only if no handler ran (ERESTARTNOHAND).
    NoHandler,
    /// Restart whatever the handler's flags say (ERESTARTNOINTR).
    Always,
}

/// Why a handler has no value to return.
#[derive(Debug)]
pub enum Stop {
    /// The call fails.
    Errno(Errno),
    /// The task waits; the handler runs again from its start when it wakes.
    Block(Block),
    /// A signal came while waiting.
    Interrupted(Restart),
    /// The handler has set the registers itself (sigreturn, execve) or the task is gone (exit).
    NoReturn,
}

impl From<Errno> for Stop {
    fn from(e: Errno) -> Stop {
        Stop::Errno(e)
    }
}

/// Result of anything that may wait.
pub type Io<T> = Result<T, Stop>;

/// Shorthand for a failing [`Io`].
pub fn err<T>(e: Errno) -> Io<T> {
    Err(Stop::Errno(e))
}

/// Guest buffers as address and length; the usual few without an allocation.
#[derive(Debug, Clone, Default)]
pub struct IoVec {
    few: [(u64, u64); IoVec::FEW],
    n: usize,
    many: Vec<(u64, u64)>,
}

impl IoVec {
    /// So many need no allocation.
    pub const FEW: usize = 4;

    /// Appends a buffer.
    pub fn push(&mut self, addr: u64, len: u64) {
        if self.many.is_empty() && self.n < IoVec::FEW {
            self.few[self.n] = (addr, len);
        } else {
            if self.many.is_empty() {
                self.many.extend_from_slice(&self.few);
            }
            self.many.push((addr, len));
        }
        self.n += 1;
    }
}

impl std::ops::Deref for IoVec {
    type Target = [(u64, u64)];
    fn deref(&self) -> &[(u64, u64)] {
        if self.many.is_empty() {
            &self.few[..self.n]
        } else {
            &self.many
        }
    }
}

impl From<Vec<(u64, u64)>> for IoVec {
    fn from(list: Vec<(u64, u64)>) -> IoVec {
        IoVec {
            n: list.len(),
            many: list,
            ..IoVec::default()
        }
    }
}

#[derive(Debug, Clone)]
enum Place {
    User {
        iov: IoVec,
        index: usize,
        offset: u64,
    },
    UserOne {
        addr: u64,
        len: u64,
        offset: u64,
    },
    Kernel {
        bytes: Vec<u8>,
        offset: usize,
        limit: usize,
    },
}

/// Where bytes that a guest reads go: guest memory or a kernel buffer. Filled front to back.
#[derive(Debug)]
pub struct Dst(Place, u64);

/// Where bytes that a guest writes come from.
#[derive(Debug)]
pub struct Src(Place, u64);

fn total(iov: &[(u64, u64)]) -> u64 {
    iov.iter().map(|(_, l)| *l).sum()
}

impl Place {
    fn run(&mut self, want: u64) -> Option<(u64, u64)> {
        match self {
            Place::UserOne { addr, len, offset } => {
                let n = want.min(*len - *offset);
                if n == 0 {
                    return None;
                }
                let at = *addr + *offset;
                *offset += n;
                Some((at, n))
            }
            Place::User { iov, index, offset } => loop {
                let (addr, len) = *iov.get(*index)?;
                if *offset == len {
                    *index += 1;
                    *offset = 0;
                    continue;
                }
                let n = want.min(len - *offset);
                if n == 0 {
                    return None;
                }
                let at = addr + *offset;
                *offset += n;
                return Some((at, n));
            },
            Place::Kernel { .. } => None,
        }
    }
}

impl Dst {
    /// One guest buffer. The caller has checked the range with [`crate::layout::is_guest_range`].
    pub fn user(addr: u64, len: u64) -> Dst {
        Dst(Place::UserOne { addr, len, offset: 0 }, len)
    }
    /// Several guest buffers (readv).
    pub fn user_vec(iov: impl Into<IoVec>) -> Dst {
        let iov = iov.into();
        let n = total(&iov);
        Dst(
            Place::User {
                iov,
                index: 0,
                offset: 0,
            },
            n,
        )
    }
    /// A kernel buffer of at most `limit` bytes; see [`Dst::into_bytes`].
    pub fn kernel(limit: usize) -> Dst {
        Dst(
            Place::Kernel {
                bytes: Vec::new(),
                offset: 0,
                limit,
            },
            limit as u64,
        )
    }
    /// Bytes that still fit.
    pub fn remaining(&self) -> u64 {
        self.1
    }
    /// Appends as much of `data` as fits. EFAULT only if nothing at all could be stored.
    pub fn put(&mut self, plat: &mut dyn Platform, data: &[u8]) -> Result<usize, Errno> {
        let mut done = 0usize;
        if let Place::Kernel { bytes, limit, .. } = &mut self.0 {
            let n = data.len().min(*limit - bytes.len());
            bytes.extend_from_slice(&data[..n]);
            self.1 -= n as u64;
            return Ok(n);
        }
        while done < data.len() {
            let Some((addr, n)) = self.0.run((data.len() - done) as u64) else {
                break;
            };
            let chunk = &data[done..done + n as usize];
            if plat.write_guest(addr, chunk).is_err() {
                // Linux returns the bytes before the fault; what was written of this chunk is not counted.
                self.1 = 0;
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            done += n as usize;
            self.1 -= n;
        }
        Ok(done)
    }
    /// The next contiguous guest range of at most `max` bytes, taken from the buffer: for devices
    /// that write into guest memory themselves. `None` for a kernel buffer or at the end.
    pub fn take_user(&mut self, max: u64) -> Option<(u64, u64)> {
        let r = self.0.run(max)?;
        self.1 -= r.1;
        Some(r)
    }
    /// What was put into a kernel buffer.
    pub fn into_bytes(self) -> Vec<u8> {
        match self.0 {
            Place::Kernel { bytes, .. } => bytes,
            _ => Vec::new(),
        }
    }
}

impl Src {
    /// One guest buffer.
    pub fn user(addr: u64, len: u64) -> Src {
        Src(Place::UserOne { addr, len, offset: 0 }, len)
    }
    /// Several guest buffers (writev).
    pub fn user_vec(iov: impl Into<IoVec>) -> Src {
        let iov = iov.into();
        let n = total(&iov);
        Src(
            Place::User {
                iov,
                index: 0,
                offset: 0,
            },
            n,
        )
    }
    /// Bytes that the kernel has itself (sendfile, core files).
    pub fn kernel(bytes: Vec<u8>) -> Src {
        let n = bytes.len();
        Src(
            Place::Kernel {
                bytes,
                offset: 0,
                limit: n,
            },
            n as u64,
        )
    }
    /// Bytes not yet taken.
    pub fn remaining(&self) -> u64 {
        self.1
    }
    /// Offers at most `max` bytes more (RLIMIT_FSIZE).
    pub fn limit(&mut self, max: u64) {
        self.1 = self.1.min(max);
    }
    /// Takes up to `buf.len()` bytes. EFAULT only if nothing could be read.
    pub fn get(&mut self, plat: &mut dyn Platform, buf: &mut [u8]) -> Result<usize, Errno> {
        let most = buf.len().min(usize::try_from(self.1).unwrap_or(usize::MAX));
        let buf = &mut buf[..most];
        let mut done = 0usize;
        if let Place::Kernel { bytes, offset, .. } = &mut self.0 {
            let n = buf.len().min(bytes.len() - *offset);
            buf[..n].copy_from_slice(&bytes[*offset..*offset + n]);
            *offset += n;
            self.1 -= n as u64;
            return Ok(n);
        }
        while done < buf.len() {
            let Some((addr, n)) = self.0.run((buf.len() - done) as u64) else {
                break;
            };
            if plat.read_guest(addr, &mut buf[done..done + n as usize]).is_err() {
                self.1 = 0;
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            done += n as usize;
            self.1 -= n;
        }
        Ok(done)
    }
    /// All that is left, at most `max` bytes.
    pub fn get_vec(&mut self, plat: &mut dyn Platform, max: usize) -> Result<Vec<u8>, Errno> {
        let mut v = vec![0; (self.1 as usize).min(max)];
        let n = self.get(plat, &mut v)?;
        v.truncate(n);
        Ok(v)
    }
    /// The next contiguous guest range, as [`Dst::take_user`].
    pub fn take_user(&mut self, max: u64) -> Option<(u64, u64)> {
        let r = self.0.run(max.min(self.1))?;
        self.1 -= r.1;
        Some(r)
    }
}
