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
    /// A frame for the image's own interface, with a `virtio_net_hdr` before it.
    Packet(Handle, Vec<u8>),
    /// A signal from outside the image.
    Signal(i32),
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
            | Input::Packet(h, _) => Some(*h),
            Input::Accepted { listener, .. } => Some(*listener),
            Input::Signal(_) => None,
        }
    }
}
