//! io_uring: submission and completion rings in memory that the guest shares with the kernel.
//!
//! A request is a system call that somebody else waits for (`job`): its handler runs when it is submitted, and
//! if it would wait, again when something has changed, at the top of the scheduler and in the space of the task
//! that submitted it (`engine`). Nothing runs beside the guest: there is no worker and no polling thread, so
//! the order of everything is the image's own (I1). With SETUP_SQPOLL the ring says at all times that its
//! thread sleeps, and io_uring_enter does the thread's work.
//!
//! The rings' memory is the guest's to write. The kernel keeps its own heads and tails, takes an entry by copy
//! before it looks at it, and believes nothing that it reads there twice.

pub mod cancel;
mod control;
mod engine;
mod job;
mod num;
mod ops;
mod recv;
mod register;
mod ring;
mod rsrc;
mod submit;
mod timeout;

pub use engine::serve;
pub use register::{sys_io_uring_register, sys_io_uring_setup};
pub use ring::{Ring, Rings};
pub use submit::sys_io_uring_enter;
