//! What all kernel code of an image stands on, and the parts of fault tolerance that are pure:
//! events, clock, log, gate, replica protocol. Sans-I/O: nothing here can name the host; the world
//! is behind the [`platform::Platform`] trait.
#![forbid(unsafe_code)]

pub mod clock;
pub mod context;
pub mod door;
pub mod errno;
pub mod file;
pub mod hostnet;
pub mod io;
pub mod kcore;
pub mod layout;
pub mod log;
pub mod platform;
pub mod predict;
pub mod replica;
pub mod snap;
pub mod socket;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod timer;
pub mod wait;
pub mod xstate;

pub use errno::Errno;
pub use io::{Dst, Io, Src, Stop};
pub use kcore::{Core, Env};
pub use platform::{Handle, Ns, Platform};
pub use wait::{Tid, WaitQueue};
