//! Application images: an application with its root and its policy as one artifact, in the format of OCI.
//!
//! * [`config`]: `ftvm.toml`.
#![forbid(unsafe_code)]

pub mod config;
