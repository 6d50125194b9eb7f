//! What systemd wants to hear (sd_notify(3)): a datagram to the socket that it names.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells it, if somebody listens: `READY=1`, `WATCHDOG=1`, `STATUS=...`, `STOPPING=1`. Nothing depends on it.
pub fn tell(what: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let addr = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    if let (Ok(addr), Ok(socket)) = (addr, UnixDatagram::unbound()) {
        // The main loop must not wait for a manager that reads nothing.
        let _ = socket.set_nonblocking(true);
        let _ = socket.send_to_addr(what.as_bytes(), &addr);
    }
}
