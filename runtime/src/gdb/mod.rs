//! `ftvm replay LOG --gdb PORT`: gdb looks into a replay, forward and backward.
//!
//! A server outside the image ([`server`]) speaks with gdb. It starts replays, each with an agent inside ([`agent`]) that
//! goes to where it is told, stops there, and shows threads, registers and memory. A replay goes forward only: to go back,
//! the server starts another one ([`history`]) and has it stop at an earlier [`place`]. Memory and registers are read only:
//! a changed image would not be the recorded one.

mod agent;
mod history;
mod look;
mod place;
mod server;
mod text;
mod wire;

pub use agent::{
    Agent, LOOK_NS, beyond_call, ended, entered, entering, leaving, open, over, over_idle, owns, reached,
    request, signalled, ticked, wanted,
};
pub use history::{Base, Plan};
pub use server::serve;
