//! The replication protocol (PROTOCOL §3, §4) as state machines without I/O.
//!
//! | part | what it is |
//! |---|---|
//! | [`gate::Gate`] | holds outputs until the backup has what they depend on |
//! | [`horizon::Promise`] | how far ahead silence means "as predicted" |
//! | [`frame::Frame`] | what the two sides say to each other |
//! | [`pages`] | pages of a snapshot in such a frame |
//! | [`arbiter`] | the register that says who is primary and who holds everything |
//! | [`primary::Primary`], [`backup::Backup`] | the state machines of §4's table |
//!
//! # Contract
//!
//! * A machine is fed [`primary::Input`]s or [`backup::Input`]s with the host's monotonic time and appends
//!   actions, which the caller carries out **in order**. Nothing is done until the caller does it; time
//!   enters as an argument only; no call blocks. A machine belongs to one caller at a time (the token's
//!   holder on the primary, the agent's event loop on the backup).
//! * One machine is one **incarnation**: 128 fresh random bits. A backup that lost anything, and a primary
//!   that was fenced, are thrown away; what comes back is a new machine with a new incarnation.
//! * **Positions count records.** Position p stands for the records 0..p. "The backup has acknowledged p"
//!   means that it has these in memory; that is the commit.
//! * Logical time is [`Time`]: the image's entry count and its virtual clock. Both only grow.
//! * Outputs leave only through [`primary::Primary::next_output`], one by one, asked before each: that is the
//!   "check before each kick". At most [`MAX_BURST`] are taken between two looks at the link.
//! * A clock decides nothing that safety needs. Timers here only make a machine *ask* the arbiter.
//!
//! How it was checked: `model/` (exhaustive, small) and `sim/` (seeded, long) drive these very types, and must
//! notice when one of the rules is left out ([`Mutant`]). docs/notes/replica.md tells what they found.

pub mod arbiter;
mod aside;
pub mod backup;
pub mod config;
mod detect;
#[cfg(test)]
mod duo;
pub mod frame;
pub mod gate;
pub mod horizon;
#[cfg(test)]
mod model;
pub mod pages;
pub mod primary;
#[cfg(test)]
mod sim;
mod won;

pub use arbiter::{Member, Register, Versioned};
pub use backup::Backup;
pub use config::{Config, Mutant, OnSlow, Unprotected};
pub use frame::{Body, Frame, Refused};
pub use gate::{Class, Gate, Marks, Output};
pub use horizon::Promise;
pub use primary::Primary;
pub use won::Won;

use crate::platform::Ns;

/// Outputs that may be sent between two looks at the link (PROTOCOL §4: a stop between check and send can leak
/// one batch late).
pub const MAX_BURST: usize = 64;

/// Logical time of an image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Time {
    /// Kernel entries so far.
    pub e: u64,
    /// The virtual clock.
    pub v: Ns,
}

impl Time {
    /// Something that happened at `at` lies within this horizon.
    pub fn covers(self, at: Time) -> bool {
        at.e <= self.e && at.v <= self.v
    }

    /// The later one in both parts: what is promised never falls (N5).
    pub fn max(self, other: Time) -> Time {
        Time {
            e: self.e.max(other.e),
            v: self.v.max(other.v),
        }
    }
}

/// A point of the log and a logical time: what an output depends on, or what an ack covers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mark {
    /// Records before it.
    pub position: u64,
    /// Logical time.
    pub at: Time,
}

impl Mark {
    /// What depends on `need` is committed.
    pub fn covers(self, need: Mark) -> bool {
        need.position <= self.position && self.at.covers(need.at)
    }

    /// The later one in each part.
    pub fn max(self, other: Mark) -> Mark {
        Mark {
            position: self.position.max(other.position),
            at: self.at.max(other.at),
        }
    }
}
