//! Inter-process communication inside an image: objects that never leave the arena.
//!
//! All of them are [`ftl_core::file::File`]s or stand behind one. None waits: an operation that
//! cannot go on returns EAGAIN, and whoever changes an object notifies its queue afterwards.
#![forbid(unsafe_code)]

pub mod anon;
pub mod epoll;
pub mod eventfd;
pub mod fifo;
pub mod mqueue;
pub mod pipe;
pub mod sysv;
pub mod unix;
