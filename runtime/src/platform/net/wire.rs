//! What frames go through: a packet socket on a host interface, or the far end of a TAP device.
//!
//! A TAP device (tun.c, Documentation/networking/tuntap.rst) that an administrator has made for a user
//! (`ip tuntap add dev tap0 mode tap user USER`) needs no capability. Both kinds put the same
//! `virtio_net_hdr` before each frame.

use super::sys;
use crate::platform::errno;
use crate::sys::sys as call;
use ftl_core::errno::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const TUNSETIFF: u64 = 0x4004_54ca;
const TUNSETOFFLOAD: u64 = 0x4004_54d0;
const TUNATTACHFILTER: u64 = 0x4010_54d5;
const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
/// Checksums left open, and large segments of TCP over IPv4 and IPv6, with ECN.
const OFFLOADS: u64 = 1 | 2 | 4 | 8;

/// See the module.
pub enum Wire {
    /// AF_PACKET
    Packet(OwnedFd),
    /// /dev/net/tun
    Tap(OwnedFd),
}

impl Wire {
    /// Its descriptor.
    pub fn fd(&self) -> &OwnedFd {
        match self {
            Wire::Packet(fd) | Wire::Tap(fd) => fd,
        }
    }

    /// Receives frames, each into its own `size` bytes of `buf`; their lengths. How many.
    pub fn receive(&self, buf: &mut [u8], size: usize, lengths: &mut [usize]) -> Result<usize, Errno> {
        let fd = match self {
            Wire::Packet(fd) => return sys::recv_frames(fd, buf, size, lengths),
            Wire::Tap(fd) => fd,
        };
        let mut n = 0;
        for (part, len) in buf.chunks_exact_mut(size).zip(lengths) {
            // SAFETY: pointer and length are one slice's.
            let got = unsafe { call!(libc::SYS_read, fd.as_raw_fd(), part.as_mut_ptr(), part.len()) };
            match got.map_err(errno) {
                Ok(got) => *len = got as usize,
                Err(e) if n == 0 => return Err(e),
                Err(_) => break,
            }
            n += 1;
        }
        Ok(n)
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) -> Result<(), Errno> {
        match self {
            Wire::Packet(fd) => sys::send(fd, frame, false).map(drop),
            // SAFETY: pointer and length are one slice's; the kernel only reads.
            Wire::Tap(fd) => unsafe { call!(libc::SYS_write, fd.as_raw_fd(), frame.as_ptr(), frame.len()) }
                .map(drop)
                .map_err(errno),
        }
    }

    /// Sends frames; how many were taken.
    pub fn send_all(&self, frames: &[Vec<u8>]) -> Result<usize, Errno> {
        if let Wire::Packet(fd) = self {
            return sys::send_frames(fd, frames);
        }
        for (n, f) in frames.iter().enumerate() {
            match self.send(f) {
                Ok(()) => {}
                Err(e) if n == 0 => return Err(e),
                Err(_) => return Ok(n),
            }
        }
        Ok(frames.len())
    }
}

/// The far end of a TAP device that nobody holds; `None` if the interface is no such one. `program` is the filter, in the layout of
/// struct sock_filter.
pub fn tap(name: &str, program: &[[u16; 4]]) -> Result<Option<Wire>, String> {
    if !is_tap(name) {
        return Ok(None);
    }
    let failed = |what: &str, e: Errno| format!("--net {name}: {what}: {}", e.name());
    const PATH: &[u8] = b"/dev/net/tun\0";
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the path is a C string; the result is checked before it is owned.
    let fd = unsafe { call!(libc::SYS_open, PATH.as_ptr(), flags) }
        .map_err(|e| failed("it is a TAP device, and opening /dev/net/tun", errno(e)))?;
    // SAFETY: the kernel just made this descriptor and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attach = |more: u16| {
        let mut req = [0u8; 40];
        let n = name.len().min(15);
        req[..n].copy_from_slice(&name.as_bytes()[..n]);
        req[16..18].copy_from_slice(&(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | more).to_le_bytes());
        // SAFETY: the command reads and writes one struct ifreq.
        unsafe { call!(libc::SYS_ioctl, fd.as_raw_fd(), TUNSETIFF, req.as_mut_ptr()) }.map_err(errno)
    };
    let attached = match attach(0) {
        Err(Errno::EINVAL) => attach(IFF_MULTI_QUEUE),
        done => done,
    };
    match attached {
        Ok(_) => {}
        // Another program is the far end: its frames are met on the interface.
        Err(Errno::EBUSY) => return Ok(None),
        Err(e @ Errno::EPERM) => {
            return Err(format!(
                "{}: it is another user's; `ip tuntap add dev {name} mode tap user USER` makes one for a user",
                failed("attaching to the TAP device", e)
            ));
        }
        Err(e) => return Err(failed("attaching to the TAP device", e)),
    }
    // SAFETY: the argument is a number.
    unsafe { call!(libc::SYS_ioctl, fd.as_raw_fd(), TUNSETOFFLOAD, OFFLOADS) }
        .map_err(|e| failed("offloads of the TAP device", errno(e)))?;
    let p = Program {
        len: program.len() as u16,
        filter: program.as_ptr(),
    };
    // SAFETY: the structure names a program of the stated length, of struct sock_filter's layout, which outlives the call; the
    // kernel checks and copies it.
    unsafe { call!(libc::SYS_ioctl, fd.as_raw_fd(), TUNATTACHFILTER, &raw const p) }
        .map_err(|e| failed("attaching the filter", errno(e)))?;
    Ok(Some(Wire::Tap(fd)))
}

/// struct sock_fprog
#[repr(C)]
pub struct Program {
    /// Instructions.
    pub len: u16,
    /// The first of them.
    pub filter: *const [u16; 4],
}

/// Asks the driver (ETHTOOL_GDRVINFO).
fn is_tap(name: &str) -> bool {
    const SIOCETHTOOL: u64 = 0x8946;
    const ETHTOOL_GDRVINFO: u32 = 3;
    const DRIVER: usize = 4;
    const BUS: usize = DRIVER + 3 * 32;
    let Ok(fd) = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) else {
        return false;
    };
    // struct ethtool_drvinfo has 196 bytes.
    let mut info = [0u8; 256];
    info[..4].copy_from_slice(&ETHTOOL_GDRVINFO.to_le_bytes());
    let mut req = [0u8; 40];
    let n = name.len().min(15);
    req[..n].copy_from_slice(&name.as_bytes()[..n]);
    req[16..24].copy_from_slice(&(info.as_mut_ptr() as u64).to_le_bytes());
    // SAFETY: the command reads one struct ifreq, and fills the structure that it points to, which is live and large enough.
    let asked = unsafe { call!(libc::SYS_ioctl, fd.as_raw_fd(), SIOCETHTOOL, req.as_mut_ptr()) };
    asked.is_ok() && info[DRIVER..].starts_with(b"tun\0") && info[BUS..].starts_with(b"tap\0")
}
