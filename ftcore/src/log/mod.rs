//! The log of an image's history: everything that came through the doors, and nothing else.
//!
//! A log is a byte stream: a fixed [`frame::Header`] that every version can read, then frames. Each
//! frame has a length and a checksum and holds a batch of records; it is valid whole or not at all,
//! so a log is good up to its last whole frame wherever its writer died. Records are in the order in
//! which the image took them. What was predicted right has no record (DESIGN §5): every record
//! carries the key (a count that the image itself keeps) by which replay knows whether it is for
//! this moment or for a later one.
//!
//! A segment that is full may be packed: the header says so, and the rest of the file is blocks
//! ([`block`]), each a piece of the byte stream that was there before.
//!
//! Pure: bytes in, bytes out. Everything read is hostile until decoded (`FrameError`, `None`).

pub mod block;
pub mod frame;
pub mod record;
pub mod stamp;
pub mod wire;

pub use frame::{FrameError, Header, next_frame, write_frame};
pub use record::{Coder, Record};
pub use stamp::{StampHits, Stamps};
pub use wire::Wire;
