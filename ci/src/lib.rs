//! Conformance runner and repository checks.
//!
//! The tests in `tests/` make one trial per guest program, build and [`modes::Mode`]. What a program prints natively is
//! the expectation: a mode passes when standard output and exit status are the same. This crate uses nothing of
//! FTLinux at build time but `ftl-lab`, the hosts and clients of the fault campaign; it meets `ftvm` only as a command.

#![forbid(unsafe_code)]

pub mod apps;
pub mod bounded;
pub mod cluster;
pub mod compare;
pub mod cut;
pub mod faults;
pub mod guests;
pub mod known;
pub mod modes;
pub mod place;
pub mod trials;
