//! `ftvm`: runs, records, replays and protects unmodified Linux programs.
//!
//! The only crate that touches the host. One binary with two lives: the command line and supervisor,
//! and, mapped a second time at a fixed address by [`stage0`], the runtime inside a guest process.

mod alloc;
mod boot;
mod cli;
mod cluster;
mod command;
mod confine;
mod control;
mod cpu;
mod dirty;
mod door;
mod entry;
mod every;
mod exec;
mod fault;
mod gdb;
mod gifts;
mod health;
mod hooks;
mod landlock;
mod link;
mod migrate;
mod orders;
mod platform;
mod probe;
mod protect;
mod quota;
mod run;
mod snap;
mod stage0;
mod store;
mod subscriber;
mod supervisor;
mod sys;
mod talk;
mod vcpu;
mod vdso;

fn main() -> std::process::ExitCode {
    if !stage0::in_place() {
        stage0::note_inherited();
    }
    let code = cli::main(stage0::in_place());
    std::process::ExitCode::from(code as u8)
}
