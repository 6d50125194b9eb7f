//! The socket calls of the host, safe to use: descriptors are owned, buffers are slices.

use crate::platform::errno;
use crate::sys::{Host, sys};
use ftl_core::errno::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Largest sockaddr that the device handles (sockaddr_storage).
pub const ADDR_MAX: usize = 128;

fn check(r: Host<u64>) -> Result<u64, Errno> {
    r.map_err(errno)
}

/// socket(2), non-blocking and close-on-exec.
pub fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = check(unsafe { sys!(libc::SYS_socket, family, kind, protocol) })?;
    // SAFETY: the kernel just made this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// bind(2)
pub fn bind(fd: &OwnedFd, addr: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length are one slice's; the kernel only reads.
    check(unsafe { sys!(libc::SYS_bind, fd.as_raw_fd(), addr.as_ptr(), addr.len()) }).map(drop)
}

/// connect(2)
pub fn connect(fd: &OwnedFd, addr: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length are one slice's; the kernel only reads.
    check(unsafe { sys!(libc::SYS_connect, fd.as_raw_fd(), addr.as_ptr(), addr.len()) }).map(drop)
}

/// listen(2)
pub fn listen(fd: &OwnedFd, backlog: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { sys!(libc::SYS_listen, fd.as_raw_fd(), backlog) }).map(drop)
}

/// shutdown(2)
pub fn shutdown(fd: &OwnedFd, how: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    check(unsafe { sys!(libc::SYS_shutdown, fd.as_raw_fd(), how) }).map(drop)
}

/// accept4(2), non-blocking; the connection and its peer's address.
pub fn accept(fd: &OwnedFd) -> Result<(OwnedFd, Vec<u8>), Errno> {
    let mut addr = [0u8; ADDR_MAX];
    let mut len = ADDR_MAX as u32;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the address buffer has the length that is passed and outlives the call.
    let conn = check(unsafe {
        sys!(
            libc::SYS_accept4,
            fd.as_raw_fd(),
            addr.as_mut_ptr(),
            &raw mut len,
            flags
        )
    })?;
    // SAFETY: the kernel just made this descriptor and nobody else owns it.
    let conn = unsafe { OwnedFd::from_raw_fd(conn as i32) };
    Ok((conn, addr[..(len as usize).min(ADDR_MAX)].to_vec()))
}

/// getsockname(2)
pub fn local(fd: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut addr = [0u8; ADDR_MAX];
    let mut len = ADDR_MAX as u32;
    // SAFETY: the address buffer has the length that is passed and outlives the call.
    check(unsafe {
        sys!(
            libc::SYS_getsockname,
            fd.as_raw_fd(),
            addr.as_mut_ptr(),
            &raw mut len
        )
    })?;
    Ok(addr[..(len as usize).min(ADDR_MAX)].to_vec())
}

/// getpeername(2)
pub fn peer(fd: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut addr = [0u8; ADDR_MAX];
    let mut len = ADDR_MAX as u32;
    // SAFETY: the address buffer has the length that is passed and outlives the call.
    check(unsafe {
        sys!(
            libc::SYS_getpeername,
            fd.as_raw_fd(),
            addr.as_mut_ptr(),
            &raw mut len
        )
    })?;
    Ok(addr[..(len as usize).min(ADDR_MAX)].to_vec())
}

/// recv(2), never waiting.
pub fn recv(fd: &OwnedFd, buf: &mut [u8]) -> Result<usize, Errno> {
    loop {
        // SAFETY: pointer and length are one slice's.
        let r = unsafe {
            sys!(
                libc::SYS_recvfrom,
                fd.as_raw_fd(),
                buf.as_mut_ptr(),
                buf.len(),
                libc::MSG_DONTWAIT,
                0,
                0
            )
        };
        match check(r).map(|n| n as usize) {
            Err(Errno::EINTR) => {}
            r => return r,
        }
    }
}

/// send(2), never waiting and never raising SIGPIPE.
pub fn send(fd: &OwnedFd, buf: &[u8], more: bool) -> Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    loop {
        // SAFETY: pointer and length are one slice's; the kernel only reads.
        let r = unsafe {
            sys!(
                libc::SYS_sendto,
                fd.as_raw_fd(),
                buf.as_ptr(),
                buf.len(),
                flags,
                0,
                0
            )
        };
        match check(r).map(|n| n as usize) {
            Err(Errno::EINTR) => {}
            r => return r,
        }
    }
}

/// sendto(2), never waiting.
pub fn send_to(fd: &OwnedFd, buf: &[u8], to: &[u8]) -> Result<usize, Errno> {
    let (addr, len) = if to.is_empty() {
        (std::ptr::null(), 0)
    } else {
        (to.as_ptr(), to.len() as u32)
    };
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: both pointers are slices' with their lengths, or null with length 0; read only.
        let r = unsafe {
            sys!(
                libc::SYS_sendto,
                fd.as_raw_fd(),
                buf.as_ptr(),
                buf.len(),
                flags,
                addr,
                len
            )
        };
        match check(r).map(|n| n as usize) {
            Err(Errno::EINTR) => {}
            r => return r,
        }
    }
}

/// sendmsg(2) of one datagram with a buffer of control messages. What the kernel does not know in it is its
/// EINVAL; descriptors cannot be passed over the protocols that come here.
pub fn send_with(fd: &OwnedFd, buf: &[u8], to: &[u8], control: &[u8]) -> Result<usize, Errno> {
    let mut iov = libc::iovec {
        iov_base: buf.as_ptr().cast_mut().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: msghdr is a plain C struct for which all zeroes is valid.
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    if !to.is_empty() {
        msg.msg_name = to.as_ptr().cast_mut().cast();
        msg.msg_namelen = to.len() as u32;
    }
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_ptr().cast_mut().cast();
    msg.msg_controllen = control.len();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: the header points to live slices with their lengths, which the kernel only reads.
        let r = unsafe { sys!(libc::SYS_sendmsg, fd.as_raw_fd(), &raw const msg, flags) };
        match check(r).map(|n| n as usize) {
            Err(Errno::EINTR) => {}
            r => return r,
        }
    }
}

/// One datagram of [`recv_many`]: its sender, its length, and whether it was cut.
pub struct Got {
    /// Its control messages, in Linux' form: what the socket's options ask for.
    pub control: Vec<u8>,
    /// sockaddr bytes of the sender.
    pub from: Vec<u8>,
    /// Bytes in its part of the buffer.
    pub len: usize,
    /// MSG_TRUNC.
    pub cut: bool,
}

/// recvmmsg(2), never waiting: each datagram goes to its own `size` bytes of `buf`.
pub fn recv_many(
    fd: &OwnedFd,
    buf: &mut [u8],
    size: usize,
    max: usize,
    out: &mut Vec<Got>,
) -> Result<(), Errno> {
    const MANY: usize = 8;
    /// 64-bit words: both PKTINFO, TTL and TOS of both families take 168 bytes.
    const CONTROL: usize = 32;
    let n = max.min(MANY).min(buf.len() / size);
    let mut addrs = [[0u8; ADDR_MAX]; MANY];
    let mut controls = [[0u64; CONTROL]; MANY];
    let mut iovs: [libc::iovec; MANY] = std::array::from_fn(|_| libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    });
    // SAFETY: mmsghdr is a plain C struct for which all zeroes is valid.
    let mut msgs: [libc::mmsghdr; MANY] = unsafe { std::mem::zeroed() };
    for (i, part) in buf.chunks_exact_mut(size).take(n).enumerate() {
        iovs[i].iov_base = part.as_mut_ptr().cast();
        iovs[i].iov_len = size;
        msgs[i].msg_hdr.msg_iov = &mut iovs[i];
        msgs[i].msg_hdr.msg_iovlen = 1;
        msgs[i].msg_hdr.msg_name = addrs[i].as_mut_ptr().cast();
        msgs[i].msg_hdr.msg_namelen = ADDR_MAX as u32;
        msgs[i].msg_hdr.msg_control = controls[i].as_mut_ptr().cast();
        msgs[i].msg_hdr.msg_controllen = CONTROL * 8;
    }
    // SAFETY: the first n headers point to live, disjoint buffers of the stated lengths.
    let r = unsafe {
        sys!(
            libc::SYS_recvmmsg,
            fd.as_raw_fd(),
            msgs.as_mut_ptr(),
            n,
            libc::MSG_DONTWAIT,
            0
        )
    };
    let got = check(r)? as usize;
    for ((m, addr), control) in msgs.iter().zip(&addrs).zip(&controls).take(got) {
        let words = m.msg_hdr.msg_controllen.div_ceil(8).min(CONTROL);
        out.push(Got {
            control: control[..words].iter().flat_map(|w| w.to_le_bytes()).collect(),
            from: addr[..(m.msg_hdr.msg_namelen as usize).min(ADDR_MAX)].to_vec(),
            len: (m.msg_len as usize).min(size),
            cut: m.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        });
    }
    Ok(())
}

/// Receives frames, each into its own `size` bytes of `buf`; their lengths. How many.
pub fn recv_frames(fd: &OwnedFd, buf: &mut [u8], size: usize, lengths: &mut [usize]) -> Result<usize, Errno> {
    const MANY: usize = 16;
    let n = lengths.len().min(MANY).min(buf.len() / size);
    let mut iovs: [libc::iovec; MANY] = std::array::from_fn(|_| libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    });
    // SAFETY: mmsghdr is a plain C struct for which all zeroes is valid.
    let mut msgs: [libc::mmsghdr; MANY] = unsafe { std::mem::zeroed() };
    for (i, part) in buf.chunks_exact_mut(size).take(n).enumerate() {
        iovs[i].iov_base = part.as_mut_ptr().cast();
        iovs[i].iov_len = size;
        msgs[i].msg_hdr.msg_iov = &mut iovs[i];
        msgs[i].msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: the first n headers point to live, disjoint buffers of the stated lengths.
    let r = unsafe {
        sys!(
            libc::SYS_recvmmsg,
            fd.as_raw_fd(),
            msgs.as_mut_ptr(),
            n,
            libc::MSG_DONTWAIT,
            0
        )
    };
    let got = check(r)? as usize;
    for (len, m) in lengths.iter_mut().zip(&msgs).take(got) {
        *len = (m.msg_len as usize).min(size);
    }
    Ok(got)
}

/// Sends frames; how many were taken.
pub fn send_frames(fd: &OwnedFd, frames: &[Vec<u8>]) -> Result<usize, Errno> {
    const MANY: usize = 32;
    let n = frames.len().min(MANY);
    let mut iovs: [libc::iovec; MANY] = std::array::from_fn(|_| libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    });
    // SAFETY: mmsghdr is a plain C struct for which all zeroes is valid.
    let mut msgs: [libc::mmsghdr; MANY] = unsafe { std::mem::zeroed() };
    for (i, f) in frames.iter().take(n).enumerate() {
        iovs[i].iov_base = f.as_ptr().cast_mut().cast();
        iovs[i].iov_len = f.len();
        msgs[i].msg_hdr.msg_iov = &mut iovs[i];
        msgs[i].msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: the first n headers point to live buffers that the kernel only reads.
    let r = unsafe {
        sys!(
            libc::SYS_sendmmsg,
            fd.as_raw_fd(),
            msgs.as_mut_ptr(),
            n,
            libc::MSG_DONTWAIT
        )
    };
    check(r).map(|n| n as usize)
}

/// setsockopt(2)
pub fn set_option(fd: &OwnedFd, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length are one slice's. Options whose value holds pointers (packet
    // filters) are refused by the caller.
    check(unsafe {
        sys!(
            libc::SYS_setsockopt,
            fd.as_raw_fd(),
            level,
            name,
            value.as_ptr(),
            value.len()
        )
    })
    .map(drop)
}

/// getsockopt(2) with room for `len` bytes.
pub fn get_option(fd: &OwnedFd, level: i32, name: i32, len: usize) -> Result<Vec<u8>, Errno> {
    let mut buf = vec![0u8; len];
    let mut n = len as u32;
    // SAFETY: the buffer has the length that is passed.
    check(unsafe {
        sys!(
            libc::SYS_getsockopt,
            fd.as_raw_fd(),
            level,
            name,
            buf.as_mut_ptr(),
            &raw mut n
        )
    })?;
    buf.truncate(n as usize);
    Ok(buf)
}

/// SO_ERROR: the pending error, which this clears.
pub fn take_error(fd: &OwnedFd) -> i32 {
    match get_option(fd, libc::SOL_SOCKET, libc::SO_ERROR, 4) {
        Ok(v) if v.len() == 4 => i32::from_le_bytes([v[0], v[1], v[2], v[3]]),
        _ => libc::EIO,
    }
}

/// SIOCOUTQ
pub fn unsent(fd: RawFd) -> u32 {
    let mut n: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int.
    let r = unsafe { sys!(libc::SYS_ioctl, fd, libc::TIOCOUTQ, &raw mut n) };
    if r.is_err() { 0 } else { n.max(0) as u32 }
}

/// Waits until the socket can be written, at most `ms`.
pub fn wait_writable(fd: &OwnedFd, ms: i32) -> bool {
    let mut p = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one pollfd.
    matches!(unsafe { sys!(libc::SYS_poll, &raw mut p, 1, ms) }, Ok(1))
}
