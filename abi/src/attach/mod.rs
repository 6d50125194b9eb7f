//! Processes that are started from outside in a running image (`ftvm exec`).
//!
//! The order is an input ([`ftl_core::door::ExecOrder`]), so a replay and a backup start the process at the same moment. What
//! the caller types are inputs, what the process prints are outputs, each on a stream of its own; and so is what caller
//! and kernel say to each other about the process, on a fourth stream, in lines:
//!
//! | from the kernel | |
//! |---|---|
//! | `started PID` | it runs |
//! | `failed CODE TEXT` | it does not; CODE is for the caller's exit |
//! | `exit CODE OUT ERR`, `signal N OUT ERR` | it has ended; so many bytes were written to its output and errors |
//!
//! | from the caller | |
//! |---|---|
//! | `size ROWS COLS X Y` | its terminal has this size |
//! | `signal N` | for the process |
//!
//! A terminal is one of the image's own, whose master the kernel holds: line discipline and job control are image
//! state. The caller's end of these streams does not travel: behind a restore or a takeover reads give end of file, writes
//! EPIPE with SIGPIPE, and a terminal hangs up, as on Linux when the other side has gone.

mod start;
mod streams;

use crate::kernel::Kernel;
use crate::signal::{self, SigInfo, code, sig};
use crate::task::{Exit, Pid, Process};
use crate::tty::Terminal;
use crate::tty::pty::{Master, Pty};
use crate::tty::termios::cc;
use ftl_core::file::File;
use ftl_core::io::{Dst, Src};
use ftl_core::kcore::Env;
use ftl_core::platform::Platform;
use ftl_core::wait::{Listener, Tid};
pub use start::begin;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use streams::{Due, Inlet, Outlet};

/// Bytes that a terminal is given or asked for at once.
const CHUNK: usize = 2048;
/// Longest line from a caller.
const MOST_LINE: usize = 256;

/// All of them.
#[derive(Default)]
pub struct Attached {
    due: Due,
    made: Cell<u32>,
    list: RefCell<BTreeMap<u32, Rc<Attach>>>,
}

impl Attached {
    /// [`settle`] has something to do.
    pub fn is_due(&self) -> bool {
        self.due.get()
    }

    /// How many there have been: the number of the next one.
    pub fn made(&self) -> u32 {
        self.made.get()
    }
}

/// A terminal between a process and its caller.
struct Tty {
    /// Dropped when the caller has gone: the terminal hangs up.
    master: RefCell<Option<Master>>,
    pty: Rc<Pty>,
    /// What was typed.
    typed: Rc<Inlet>,
    ended: Cell<bool>,
}

/// A process and its caller.
struct Attach {
    pid: Cell<Pid>,
    exit: Cell<Option<Exit>>,
    /// Nobody is told of its end.
    detached: bool,
    input: Option<Rc<Inlet>>,
    /// Output and errors.
    out: [Option<Rc<Outlet>>; 2],
    tty: Option<Tty>,
    told: Rc<Outlet>,
    heard: Rc<Inlet>,
    gone: Cell<bool>,
    due: Due,
}

impl Listener for Attach {
    fn notify(&self, _key: u64, _mask: u32) {
        self.due.set(true);
    }
}

/// A process has ended.
pub fn process_ended(k: &Kernel, proc: &Process, exit: Exit) {
    if !proc.entered.get() {
        return;
    }
    for a in k
        .attached
        .list
        .borrow()
        .values()
        .filter(|a| a.pid.get() == proc.pid)
    {
        a.exit.set(Some(exit));
        k.attached.due.set(true);
    }
}

/// Passes on what callers and processes have for each other. Called at kernel exits.
pub fn settle(k: &Kernel, plat: &mut dyn Platform) {
    while k.attached.due.replace(false) {
        let all: Vec<(u32, Rc<Attach>)> = {
            let list = k.attached.list.borrow();
            list.iter().map(|(n, a)| (*n, a.clone())).collect()
        };
        for (n, a) in all {
            if a.settle(k, plat) {
                k.attached.list.borrow_mut().remove(&n);
            }
        }
    }
}

/// The image has ended, and with it all that were started from outside: they are killed, and their callers are told.
pub fn image_ends(k: &Kernel, plat: &mut dyn Platform) {
    settle(k, plat);
    let all = std::mem::take(&mut *k.attached.list.borrow_mut());
    for a in all.into_values() {
        if a.exit.get().is_none() && a.pid.get() != Tid(0) {
            a.exit.set(Some(Exit::Signal(sig::SIGKILL as u8, false)));
        }
        a.settle(k, plat);
    }
}

impl Attach {
    /// True when there is nothing more to do for it.
    fn settle(&self, k: &Kernel, plat: &mut dyn Platform) -> bool {
        self.hear(k, plat);
        if let Some(t) = &self.tty {
            let mut env = Env { plat, core: &k.core };
            t.type_in(&mut env);
            t.print(&mut env, self.out[0].as_deref());
        }
        for o in self.out.iter().flatten() {
            o.flush(plat);
        }
        if let Some(exit) = self.exit.get() {
            let printed = self.tty.as_ref().is_none_or(Tty::is_quiet);
            let through = self.out.iter().flatten().all(|o| o.is_empty());
            if self.gone.get() || printed && through {
                let sent = |i: usize| self.out[i].as_ref().map_or(0, |o| o.sent.get());
                let (word, n) = match exit {
                    Exit::Code(c) => ("exit", c),
                    Exit::Signal(s, _) => ("signal", s),
                };
                self.told
                    .say(plat, format!("{word} {n} {} {}\n", sent(0), sent(1)).as_bytes());
                self.exit.set(None);
                self.pid.set(Tid(0));
            }
        }
        self.told.flush(plat);
        self.pid.get().0 == 0 && (self.told.is_empty() || self.gone.get())
    }

    /// What the caller says.
    fn hear(&self, k: &Kernel, plat: &mut dyn Platform) {
        loop {
            let bytes = self.heard.first(MOST_LINE);
            let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
                if bytes.len() == MOST_LINE {
                    self.heard.used(MOST_LINE);
                    continue;
                }
                break;
            };
            self.heard.used(end + 1);
            let line = String::from_utf8_lossy(&bytes[..end]);
            let mut words = line.split(' ');
            let verb = words.next().unwrap_or_default();
            let numbers: Vec<u32> = words.map_while(|w| w.parse().ok()).collect();
            match (verb, &numbers[..]) {
                ("size", [rows, cols, x, y]) => {
                    let size = [*rows, *cols, *x, *y].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
                    if let Some(t) = &self.tty {
                        let _ = t.pty.set_winsize(&mut Env { plat, core: &k.core }, size);
                    }
                }
                ("signal", [n @ 1..=64]) => self.signal(k, plat, *n),
                _ => {}
            }
        }
        if self.heard.eof.get() {
            self.caller_gone();
        } else {
            self.heard.ask(plat);
        }
    }

    /// As a terminal does where it is one that sends them: to the whole job.
    fn signal(&self, k: &Kernel, plat: &mut dyn Platform, signo: u32) {
        let proc = k.procs.borrow().get(&self.pid.get()).cloned();
        let Some(proc) = proc.filter(|p| p.entered.get()) else {
            return;
        };
        let info = SigInfo::user(signo, code::SI_USER, 0, 0);
        if matches!(signo, sig::SIGINT | sig::SIGQUIT) {
            signal::send_pgrp(k, plat, proc.pgid.get(), info);
        } else {
            signal::send_process(k, plat, &proc, info);
        }
    }

    fn caller_gone(&self) {
        if self.gone.replace(true) || self.detached {
            return;
        }
        for i in self.input.iter() {
            i.ends();
        }
        for o in self.out.iter().flatten() {
            o.hangs_up();
        }
        if let Some(t) = &self.tty {
            t.master.borrow_mut().take();
        }
    }
}

impl Tty {
    /// What was typed goes to the terminal as fast as it has room.
    fn type_in(&self, env: &mut Env<'_>) {
        let master = self.master.borrow();
        let Some(master) = master.as_ref() else { return };
        loop {
            let bytes = self.typed.first(CHUNK);
            if bytes.is_empty() {
                break;
            }
            match master.write(env, 0, &mut Src::kernel(bytes)) {
                Ok(n) => self.typed.used(n as usize),
                Err(_) => return,
            }
        }
        if !self.typed.eof.get() {
            self.typed.ask(env.plat);
        } else if !self.ended.replace(true) {
            // A terminal has no end but its key, which is what sshd types too.
            let key = self.pty.get(env).map(|t| t.cc[cc::EOF]).unwrap_or(4);
            let _ = master.write(env, 0, &mut Src::kernel(vec![key]));
        }
    }

    /// What the terminal shows goes to the caller as fast as it takes it.
    fn print(&self, env: &mut Env<'_>, to: Option<&Outlet>) {
        let master = self.master.borrow();
        let Some(master) = master.as_ref() else { return };
        loop {
            if to.is_some_and(|o| !o.is_empty() && !o.gone.get()) {
                return;
            }
            let mut dst = Dst::kernel(CHUNK);
            match master.read(env, 0, &mut dst) {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            if let Some(o) = to {
                o.say(env.plat, &dst.into_bytes());
            }
        }
    }

    /// The caller has all that it shows.
    fn is_quiet(&self) -> bool {
        let master = self.master.borrow();
        master.as_ref().is_none_or(|m| !m.0.has_output())
    }
}

/// The master's queue tells of output and of room.
fn listen(a: &Rc<Attach>) {
    let master = a.tty.as_ref().map(|t| t.master.borrow());
    if let Some(q) = master.as_ref().and_then(|m| m.as_ref()?.queue()) {
        let weak = Rc::downgrade(a);
        q.listen(weak, 0, u32::MAX, false);
    }
}
