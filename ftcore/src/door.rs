//! Inputs and their stamps (PROTOCOL §1).
//!
//! The image numbers its absorb points. Whoever receives an input stamps it with the *next* point
//! and a virtual time; at point k the image takes exactly the inputs with a stamp of at most k, in
//! order. So order and amount are part of each input's own record.

use crate::platform::{Handle, Ns};

/// Stamps count time in these steps, ns: a stamp's time is a lower bound, and short in a log.
pub const STAMP_NS: u64 = 1 << 13;

/// When an input becomes visible.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stamp {
    /// Number of the absorb point.
    pub point: u64,
    /// The image's clock is at least this when it is absorbed.
    pub v: Ns,
}

impl Stamp {
    /// The stamp of what arrives now, at real time `now`. Rounded down: the clock is at least this, and stands later
    /// already if it does.
    pub fn arrived(self, now: Ns) -> Stamp {
        let v = self.v.max(now);
        Stamp {
            v: v - v % STAMP_NS,
            ..self
        }
    }
}

/// Something that arrived through the event door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Bytes on a stream.
    Data(Handle, Vec<u8>),
    /// The stream's other side has closed.
    Eof(Handle),
    /// The stream failed with this error number.
    Failed(Handle, i32),
    /// A full stream has room again.
    Writable(Handle),
    /// A listener got a connection; the device has bound it to the second handle.
    Accepted {
        /// The listener.
        listener: Handle,
        /// The connection.
        conn: Handle,
        /// sockaddr bytes of the peer.
        peer: Vec<u8>,
        /// sockaddr bytes of our side, or empty: they can be asked for.
        local: Vec<u8>,
    },
    /// A connect finished: 0 or an error number; sockaddr bytes of our side.
    Connected(Handle, i32, Vec<u8>),
    /// A datagram with its sender's sockaddr bytes; true if it was cut to fit.
    Datagram(Handle, Vec<u8>, Vec<u8>, bool),
    /// The control messages of the datagram that follows, as the host wrote them to a control buffer.
    Control(Handle, Vec<u8>),
    /// A frame for the image's own interface, with a `virtio_net_hdr` before it.
    Packet(Handle, Vec<u8>),
    /// A signal from outside the image.
    Signal(i32),
    /// A process is to start beside those that run.
    Exec(Box<ExecOrder>),
}

/// A process to start in a running image (`ftvm exec`). Its streams have the names of [`exec_handle`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExecOrder {
    /// Program, looked for on PATH if it has no slash, and its arguments.
    pub argv: Vec<Vec<u8>>,
    /// Variables, as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// They are the whole environment; otherwise they come on top of the first process's.
    pub only_env: bool,
    /// Working directory; empty: that which the image was started in.
    pub cwd: Vec<u8>,
    /// `UID[:GID]` or names of the image's /etc/passwd and /etc/group; empty: those of the first process.
    pub user: Vec<u8>,
    /// Supplementary groups, in place of those that the user has.
    pub groups: Option<Vec<u32>>,
    /// Capability sets, in place of those that the user has: effective, permitted, inheritable, bounding, ambient.
    pub caps: Option<[u64; 5]>,
    /// PR_SET_NO_NEW_PRIVS
    pub no_new_privs: bool,
    /// umask; that of the image if not given.
    pub umask: Option<u32>,
    /// A terminal is its controlling one: rows, columns, and both in pixels.
    pub tty: Option<[u16; 4]>,
    /// Its standard input is the caller's; otherwise there is none.
    pub stdin: bool,
    /// Nobody listens: its output goes nowhere.
    pub detached: bool,
}

/// What `which` of [`exec_handle`] is: input, output and errors of the process, and the channel on which its caller and the
/// kernel speak of it.
pub const EXEC_STREAMS: u32 = 4;
/// The channel.
pub const EXEC_CONTROL: u32 = 3;

const EXEC_HANDLES: u64 = 2 << 32;

/// The name of a stream of the `number`th process that was started from outside.
pub const fn exec_handle(number: u32, which: u32) -> Handle {
    Handle(EXEC_HANDLES | (number as u64) << 2 | which as u64)
}

/// True for names of [`exec_handle`].
pub const fn is_exec_handle(h: Handle) -> bool {
    h.0 & !0xffff_ffff == EXEC_HANDLES
}

/// A stream's name in 32 bits, as replica frames have it: those of [`exec_handle`] have the highest bit.
pub const fn stream_number(h: Handle) -> u32 {
    match is_exec_handle(h) {
        true => h.0 as u32 | 1 << 31,
        false => h.0 as u32,
    }
}

/// The stream of a [`stream_number`].
pub const fn stream_handle(number: u32) -> Handle {
    match number >> 31 {
        1 => Handle(EXEC_HANDLES | (number & !(1 << 31)) as u64),
        _ => Handle(number as u64),
    }
}

impl Input {
    /// The handle that it belongs to, if any.
    pub fn handle(&self) -> Option<Handle> {
        match self {
            Input::Data(h, _)
            | Input::Eof(h)
            | Input::Failed(h, _)
            | Input::Writable(h)
            | Input::Connected(h, ..)
            | Input::Datagram(h, ..)
            | Input::Control(h, _)
            | Input::Packet(h, _) => Some(*h),
            Input::Accepted { listener, .. } => Some(*listener),
            Input::Signal(_) | Input::Exec(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_streams_survive_32_bits() {
        for h in [
            Handle(0),
            Handle(2),
            exec_handle(0, 0),
            exec_handle(7, EXEC_CONTROL),
            exec_handle((1 << 29) - 1, 3),
        ] {
            assert_eq!(stream_handle(stream_number(h)), h);
        }
        assert_ne!(stream_number(exec_handle(0, 1)), stream_number(Handle(1)));
        assert!(is_exec_handle(exec_handle(0, 0)) && !is_exec_handle(Handle(1 << 32)));
    }
}
