//! The Linux ABI of an image: every system call, and the kernel objects behind them.
//!
//! Sans-I/O: the world is behind `ftl_core::platform::Platform`.
#![forbid(unsafe_code)]

pub mod args;
pub mod attach;
pub mod chaos;
mod clock_entry;
pub mod config;
pub mod cx;
pub mod event;
pub mod exec;
pub mod fdtable;
pub mod fs;
pub mod futex;
pub mod kernel;
pub mod late;
pub mod mm;
pub mod net;
pub mod patches;
pub mod process;
pub mod ptrace;
pub mod seccomp;
pub mod signal;
pub mod specials;
mod step;
mod strace;
pub mod sys;
pub mod sysv;
pub mod table;
pub mod task;
pub mod time;
pub mod tty;
pub mod uring;
