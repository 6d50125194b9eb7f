//! Sessions and process groups (setsid(2), setpgid(2), credentials(7)).

use crate::kernel::Kernel;
use crate::task::{Pid, Process};
use ftl_core::file::FileRef;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A session. Its terminal, if it has one, belongs to no other session.
pub struct Session {
    /// Number: the pid of the process that made it.
    pub sid: Pid,
    /// Controlling terminal.
    pub tty: RefCell<Option<FileRef>>,
    /// Foreground process group of the terminal.
    pub foreground: Cell<Pid>,
}

impl Session {
    /// A session without a terminal.
    pub fn new(sid: Pid) -> Session {
        Session {
            sid,
            tty: RefCell::new(None),
            foreground: Cell::new(sid),
        }
    }
}

impl Kernel {
    /// The session of a process.
    pub fn session_of(&self, proc: &Process) -> Rc<Session> {
        self.session(proc.sid.get())
    }

    /// The session with this number.
    pub fn session(&self, sid: Pid) -> Rc<Session> {
        self.sessions
            .borrow_mut()
            .entry(sid)
            .or_insert_with(|| Rc::new(Session::new(sid)))
            .clone()
    }
}

/// Live processes of a group, by ascending pid.
pub fn group_members(k: &Kernel, pgid: Pid) -> Vec<Rc<Process>> {
    let procs = k.procs.borrow();
    procs
        .values()
        .filter(|p| p.pgid.get() == pgid && p.exit.get().is_none())
        .cloned()
        .collect()
}

/// `proc` becomes leader of a new session and group without a terminal.
pub fn enter_session(k: &Kernel, proc: &Rc<Process>) {
    let old = proc.sid.get();
    proc.sid.set(proc.pid);
    proc.pgid.set(proc.pid);
    k.sessions
        .borrow_mut()
        .insert(proc.pid, Rc::new(Session::new(proc.pid)));
    leave_session(k, old);
}

/// Forgets a session that no process is in any more.
pub fn leave_session(k: &Kernel, sid: Pid) {
    if !k.procs.borrow().values().any(|p| p.sid.get() == sid) {
        k.sessions.borrow_mut().remove(&sid);
    }
}
