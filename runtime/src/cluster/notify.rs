//! What systemd wants to hear (sd_notify(3)): a datagram to the socket that it names.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells it, if somebody listens: `READY=1`, `WATCHDOG=1`, `STATUS=...`, `STOPPING=1`. Nothing depends on it.
pub fn tell(what: &str) {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        tell_at(&path, what);
    }
}

fn tell_at(path: &OsStr, what: &str) {
    let addr = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    };
    if let (Ok(addr), Ok(socket)) = (addr, UnixDatagram::unbound()) {
        // The main loop must not wait for a manager that reads nothing.
        let _ = socket.set_nonblocking(true);
        let _ = socket.send_to_addr(what.as_bytes(), &addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_socket_hear() {
        let name = format!("ftvm-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let hidden = SocketAddr::from_abstract_name(&name).expect("an address");
        let sockets = [
            (UnixDatagram::bind(&path), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&hidden), format!("@{name}").into()),
        ];
        for (socket, place) in sockets {
            tell_at(&place, "READY=1");
            let mut said = [0; 32];
            let n = socket.expect("bound").recv(&mut said).expect("a datagram");
            assert_eq!(&said[..n], b"READY=1");
        }
        let _ = std::fs::remove_file(&path);
        // Nobody is there: nothing happens.
        tell_at(path.as_os_str(), "READY=1");
    }
}
