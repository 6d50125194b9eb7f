//! Bytes and descriptors in one message of a UNIX socket (`SCM_RIGHTS`, unix(7)).

use std::io::Error;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Most descriptors of one message.
pub const MOST: usize = 8;

/// Room for the descriptors of one message, aligned as control messages must be.
#[repr(C, align(8))]
struct Room([u8; 128]);

const _: () = assert!(size_of::<Room>() >= size_of::<libc::cmsghdr>() + MOST * 4 + 8);

/// Sends bytes and descriptors in one message. Returns how many bytes were taken.
pub fn send(socket: RawFd, bytes: &[u8], gifts: &[BorrowedFd<'_>]) -> std::io::Result<usize> {
    let mut room = Room([0; 128]);
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let count = gifts.len().min(MOST);
    // SAFETY: a zeroed header is valid; all pointers outlive the call, and the room holds that many descriptors.
    unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        (msg.msg_iov, msg.msg_iovlen) = (&raw mut iov, 1);
        if count > 0 {
            msg.msg_control = (&raw mut room).cast();
            msg.msg_controllen = libc::CMSG_SPACE(count as u32 * 4) as usize;
            let head = &mut *libc::CMSG_FIRSTHDR(&raw const msg);
            (head.cmsg_level, head.cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
            head.cmsg_len = libc::CMSG_LEN(count as u32 * 4) as usize;
            let at = libc::CMSG_DATA(head).cast::<i32>();
            for (i, fd) in gifts.iter().take(count).enumerate() {
                at.add(i).write_unaligned(fd.as_raw_fd());
            }
        }
        match libc::sendmsg(socket, &raw const msg, libc::MSG_NOSIGNAL) {
            n if n >= 0 => Ok(n as usize),
            _ => Err(Error::last_os_error()),
        }
    }
}

/// Receives bytes, and the descriptors that came with them.
pub fn receive(socket: RawFd, bytes: &mut [u8]) -> std::io::Result<(usize, Vec<OwnedFd>)> {
    let mut room = Room([0; 128]);
    let mut iov = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut gifts = Vec::new();
    // SAFETY: a zeroed header is valid; all pointers outlive the call. What the kernel wrote into the room are control
    // messages, and the descriptors in them are new and ours.
    unsafe {
        let mut msg: libc::msghdr = std::mem::zeroed();
        (msg.msg_iov, msg.msg_iovlen) = (&raw mut iov, 1);
        msg.msg_control = (&raw mut room).cast();
        msg.msg_controllen = size_of::<Room>();
        let n = libc::recvmsg(socket, &raw mut msg, libc::MSG_CMSG_CLOEXEC);
        if n < 0 {
            return Err(Error::last_os_error());
        }
        let mut head = libc::CMSG_FIRSTHDR(&raw const msg);
        while let Some(h) = head.as_ref() {
            if (h.cmsg_level, h.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let count = (h.cmsg_len - libc::CMSG_LEN(0) as usize) / 4;
                let at = libc::CMSG_DATA(h).cast::<i32>();
                for i in 0..count {
                    gifts.push(OwnedFd::from_raw_fd(at.add(i).read_unaligned()));
                }
            }
            head = libc::CMSG_NXTHDR(&raw const msg, head);
        }
        Ok((n as usize, gifts))
    }
}
