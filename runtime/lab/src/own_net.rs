//! A network namespace of its own for a command: ports there are nobody else's.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The command will run in a network namespace of its own, with loopback; where that cannot be had, in ours. A
/// plain user gets a user namespace too, in which all files of others belong to nobody.
pub fn give(command: &mut Command) {
    // SAFETY: plain calls.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let maps = [
        (c"/proc/self/setgroups", "deny".to_string()),
        (c"/proc/self/uid_map", format!("{uid} {uid} 1")),
        (c"/proc/self/gid_map", format!("{gid} {gid} 1")),
    ];
    let enter = move || {
        let user = if uid == 0 { 0 } else { libc::CLONE_NEWUSER };
        // SAFETY: a child before exec, which has one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWNET | user) } != 0 {
            return Ok(());
        }
        if user != 0 {
            for (path, text) in &maps {
                write(path, text.as_bytes())?;
            }
        }
        loopback_up()
    };
    // SAFETY: the closure makes system calls only; what they need was allocated before.
    unsafe { command.pre_exec(enter) };
}

/// Whether nothing but the network is another one behind [`give`].
pub fn is_all() -> bool {
    // SAFETY: a plain call.
    unsafe { libc::geteuid() == 0 }
}

fn write(path: &std::ffi::CStr, text: &[u8]) -> io::Result<()> {
    // SAFETY: a C string, a slice that is valid for reads, and a descriptor of our own.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let n = libc::write(fd, text.as_ptr().cast(), text.len());
        let done = if n < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        };
        libc::close(fd);
        done
    }
}

fn loopback_up() -> io::Result<()> {
    // SAFETY: all-zero is a valid ifreq; the calls get valid pointers, and a descriptor of our own.
    unsafe {
        let mut ifr: libc::ifreq = std::mem::zeroed();
        (ifr.ifr_name[0], ifr.ifr_name[1]) = (b'l' as libc::c_char, b'o' as libc::c_char);
        ifr.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let r = libc::ioctl(fd, libc::SIOCSIFFLAGS as _, &raw mut ifr);
        let done = if r < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        };
        libc::close(fd);
        done
    }
}
