//! Handlers of system calls that belong to no larger subsystem.

pub mod io;
pub mod proc;
