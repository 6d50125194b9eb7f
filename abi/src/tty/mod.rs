//! Terminals: the one that the host gave the image, and pseudo-terminals.
//!
//! The host's terminal keeps its own line discipline: settings, window size and editing are asked of
//! and told to it ([`crate::fs::Console`]), and what its keys signal arrives as a signal from
//! outside. A pseudo-terminal has ours ([`ldisc`]). Job control is the same for both and lives here:
//! which session a terminal belongs to, and what a background process may not do.

mod devpts;
mod ioctl;
pub mod ldisc;
pub mod pty;
pub mod termios;

pub use devpts::DevPts;
pub use ioctl::ioctl;

use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use crate::fs::dev::makedev;
use crate::fs::{Console, How};
use crate::kernel::Kernel;
use crate::process;
use crate::signal::{self, SigInfo, sig};
use crate::task::{Pid, Process};
use ftl_core::errno::Errno;
use ftl_core::file::{File, FileRef, SetAttr};
use ftl_core::io::{Dst, Io, Restart, Stop, err};
use ftl_core::kcore::Env;
use ftl_core::platform::{Platform, Stat};
use pty::{Master, Pty, Slave};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use termios::{Termios, lflag};

/// Signals that terminals have for the foreground groups of sessions.
type Posts = Rc<RefCell<Vec<(Pid, u32)>>>;

/// What every terminal has: its number under /dev/pts, its session, its node's attributes.
pub struct Line {
    /// N of /dev/pts/N.
    pub index: u32,
    /// The session that it controls.
    pub session: Cell<Option<Pid>>,
    /// The node is gone from /dev/pts.
    pub gone: Cell<bool>,
    dev: u64,
    mode: Cell<u32>,
    owner: Cell<(u32, u32)>,
    born: i128,
    posts: Posts,
}

impl Line {
    /// Device number.
    pub fn rdev(&self) -> u64 {
        makedev(136, u64::from(self.index))
    }

    /// /dev/pts/N
    pub fn path(&self) -> Vec<u8> {
        format!("/dev/pts/{}", self.index).into_bytes()
    }

    /// Attributes of the node.
    pub fn stat(&self) -> Stat {
        Stat {
            dev: self.dev,
            ino: u64::from(self.index) + 3,
            mode: 0o020000 | self.mode.get(),
            nlink: 1,
            uid: self.owner.get().0,
            gid: self.owner.get().1,
            rdev: self.rdev(),
            blksize: 1024,
            atime: self.born,
            mtime: self.born,
            ctime: self.born,
            ..Stat::default()
        }
    }

    /// chmod, chown.
    pub fn set_attr(&self, a: &SetAttr) {
        if let Some(m) = a.mode {
            self.mode.set(m & 0o7777);
        }
        let (u, g) = self.owner.get();
        self.owner.set((a.uid.unwrap_or(u), a.gid.unwrap_or(g)));
    }

    /// A signal for the foreground group of the session that it controls.
    pub fn post(&self, signo: u32) {
        if let Some(sid) = self.session.get() {
            self.posts.borrow_mut().push((sid, signo));
        }
    }
}

/// What job control and the ioctls need of a terminal.
#[allow(missing_docs)]
pub trait Terminal {
    fn line(&self) -> &Line;
    fn get(&self, env: &mut Env<'_>) -> Io<Termios>;
    /// `flush` drops input first.
    fn set(&self, env: &mut Env<'_>, t: Termios, flush: bool) -> Io<()>;
    fn winsize(&self, env: &mut Env<'_>) -> Io<[u16; 4]>;
    fn set_winsize(&self, env: &mut Env<'_>, w: [u16; 4]) -> Io<()>;
    fn available(&self, env: &mut Env<'_>) -> Io<usize>;
    fn flush(&self, env: &mut Env<'_>, input: bool, output: bool) -> Io<()>;
}

/// All terminals of an image.
#[derive(Default)]
pub struct Ttys {
    posts: Posts,
    /// Device number of devpts.
    pub dev: Cell<u64>,
    console: RefCell<Option<Rc<Console>>>,
    ptys: RefCell<BTreeMap<u32, Weak<Pty>>>,
}

impl Ttys {
    /// A line with the given number.
    pub fn new_line(&self, index: u32, owner: (u32, u32), born: i128) -> Rc<Line> {
        Rc::new(Line {
            index,
            session: Cell::new(None),
            gone: Cell::new(false),
            dev: self.dev.get(),
            mode: Cell::new(0o620),
            owner: Cell::new(owner),
            born,
            posts: self.posts.clone(),
        })
    }

    /// The host's terminal, made from the first stream that is one.
    pub fn set_console(&self, c: &Rc<Console>) {
        *self.console.borrow_mut() = Some(c.clone());
    }

    /// The host's terminal.
    pub fn console(&self) -> Option<Rc<Console>> {
        self.console.borrow().clone()
    }

    fn lines(&self) -> Vec<Rc<Line>> {
        let mut out: Vec<Rc<Line>> = self.console().and_then(|c| c.tty_line()).into_iter().collect();
        let ptys = self.ptys.borrow();
        out.extend(
            ptys.values()
                .filter_map(Weak::upgrade)
                .map(|p| p.line.clone())
                .filter(|l| !l.gone.get()),
        );
        out
    }

    fn line(&self, index: u32) -> Option<Rc<Line>> {
        self.lines().into_iter().find(|l| l.index == index)
    }

    fn open_line(&self, line: &Line) -> Io<FileRef> {
        if line.index == 0
            && let Some(c) = self.console()
        {
            return Ok(c);
        }
        let p = self
            .ptys
            .borrow()
            .get(&line.index)
            .and_then(Weak::upgrade)
            .ok_or(Errno::EIO)?;
        if p.locked.get() || p.hung_up.get() {
            return err(Errno::EIO);
        }
        Ok(p.slave())
    }

    /// A new pseudo-terminal, locked.
    pub fn new_pty(&self, owner: (u32, u32), born: i128) -> Rc<Pty> {
        let mut ptys = self.ptys.borrow_mut();
        ptys.retain(|_, p| p.upgrade().is_some_and(|p| !p.hung_up.get()));
        let first = u32::from(self.console.borrow().is_some());
        let index = (first..).find(|i| !ptys.contains_key(i)).unwrap_or(u32::MAX);
        let p = Pty::new(self.new_line(index, owner, born));
        ptys.insert(index, Rc::downgrade(&p));
        p
    }

    /// Something was posted that [`deliver_posts`] has not sent.
    pub fn has_posts(&self) -> bool {
        !self.posts.borrow().is_empty()
    }
}

/// Sends what terminals posted. Called at kernel exits.
pub fn deliver_posts(k: &Kernel, plat: &mut dyn Platform) {
    while k.ttys.has_posts() {
        let posts = std::mem::take(&mut *k.ttys.posts.borrow_mut());
        for (sid, signo) in posts {
            let session = k.session(sid);
            if signo == sig::SIGHUP {
                let leader = k.procs.borrow().get(&sid).cloned();
                if let Some(l) = leader {
                    signal::send_process(k, plat, &l, SigInfo::kernel(signo));
                }
            }
            signal::send_pgrp(k, plat, session.foreground.get(), SigInfo::kernel(signo));
        }
    }
}

/// The file as a terminal, if it is one from the inside: a slave or the host's.
pub fn terminal(file: &dyn File) -> Option<&dyn Terminal> {
    if let Some(s) = file.as_any().downcast_ref::<Slave>() {
        return Some(&**s.pty());
    }
    let c = file.as_any().downcast_ref::<Console>()?;
    c.tty_line().is_some().then_some(c as &dyn Terminal)
}

/// Opens a terminal device by its number.
pub fn open_device(cx: &mut Cx<'_>, rdev: u64, _how: &How) -> Io<FileRef> {
    const TTY: u64 = makedev(5, 0);
    const CONSOLE: u64 = makedev(5, 1);
    const PTMX: u64 = makedev(5, 2);
    match rdev {
        TTY => {
            let session = cx.k.session_of(&cx.task.process());
            let tty = session.tty.borrow().clone();
            tty.ok_or(Errno::ENXIO.into())
        }
        CONSOLE => match cx.k.ttys.console() {
            Some(c) => Ok(c),
            None => err(Errno::ENXIO),
        },
        PTMX => {
            let owner = {
                let c = cx.task.creds.borrow();
                (c.fsuid, 5)
            };
            let now = cx.env.realtime();
            Ok(Rc::new(Master(cx.k.ttys.new_pty(owner, now))))
        }
        r if r >> 8 == 136 => {
            let line = cx.k.ttys.line((r & 0xff) as u32).ok_or(Errno::ENXIO)?;
            cx.k.ttys.open_line(&line)
        }
        _ => err(Errno::ENXIO),
    }
}

/// `tty` becomes the controlling terminal of the caller's session.
fn take_control(cx: &mut Cx<'_>, file: &FileRef, line: &Line) {
    let proc = cx.task.process();
    let session = cx.k.session_of(&proc);
    *session.tty.borrow_mut() = Some(file.clone());
    session.foreground.set(proc.pgid.get());
    line.session.set(Some(session.sid));
}

/// A file was opened: a session leader without a terminal gets it as its own.
pub fn opened(cx: &mut Cx<'_>, open: &OpenFile, flags: i32) {
    if flags & (oflag::O_NOCTTY | oflag::O_PATH) != 0 {
        return;
    }
    let Some(t) = terminal(&*open.file) else {
        return;
    };
    let proc = cx.task.process();
    let session = cx.k.session_of(&proc);
    let free = session.tty.borrow().is_none() && proc.sid.get() == proc.pid;
    if free && t.line().session.get().is_none() {
        take_control(cx, &open.file, t.line());
    }
}

/// A process that was started on this terminal has it as its own.
pub fn adopt(cx: &mut Cx<'_>, file: &FileRef) {
    if let Some(t) = terminal(&**file) {
        take_control(cx, file, t.line());
    }
}

/// The first process starts on the host's terminal, if there is one.
pub fn adopt_console(cx: &mut Cx<'_>) {
    let Some(c) = cx.k.ttys.console() else { return };
    let Some(line) = c.tty_line() else { return };
    let file: FileRef = c;
    take_control(cx, &file, &line);
}

/// True if `t` controls the session of `proc`.
pub fn controls(k: &Kernel, t: &dyn Terminal, proc: &Process) -> bool {
    t.line().session.get() == Some(proc.sid.get()) && k.session_of(proc).tty.borrow().is_some()
}

/// The caller is in the background of its controlling terminal: it is stopped by `signo`, or gets
/// EIO where nobody could continue it. With `ignorable`, ignoring the signal lets it pass.
fn background(cx: &mut Cx<'_>, t: &dyn Terminal, signo: u32, ignorable: bool) -> Io<()> {
    let proc = cx.task.process();
    if !controls(cx.k, t, &proc) {
        return Ok(());
    }
    let group = proc.pgid.get();
    if cx.k.session_of(&proc).foreground.get() == group {
        return Ok(());
    }
    if cx.task.sig.mask.get() & signal::bit(signo) != 0 || signal::is_ignored(&proc, signo) {
        return if ignorable { Ok(()) } else { err(Errno::EIO) };
    }
    if process::is_orphaned(cx.k, group, None) {
        return err(Errno::EIO);
    }
    signal::send_pgrp(cx.k, cx.env.plat, group, SigInfo::kernel(signo));
    Err(Stop::Interrupted(Restart::Sys))
}

/// Before a read: SIGTTIN.
pub fn before_read(cx: &mut Cx<'_>, open: &OpenFile) -> Io<()> {
    match terminal(&*open.file) {
        Some(t) => background(cx, t, sig::SIGTTIN, false),
        None => Ok(()),
    }
}

/// Before a write: SIGTTOU if the terminal wants it (TOSTOP).
pub fn before_write(cx: &mut Cx<'_>, open: &OpenFile) -> Io<()> {
    let Some(t) = terminal(&*open.file) else {
        return Ok(());
    };
    let proc = cx.task.process();
    if cx.k.session_of(&proc).foreground.get() == proc.pgid.get() || !controls(cx.k, t, &proc) {
        return Ok(());
    }
    if t.get(&mut cx.env)?.local(lflag::TOSTOP) {
        return background(cx, t, sig::SIGTTOU, true);
    }
    Ok(())
}

/// A read got EAGAIN: one that ends by time (VTIME) waits for it. `None`: an ordinary wait.
pub fn timed_read(cx: &mut Cx<'_>, open: &OpenFile, dst: &mut Dst) -> Option<Io<u64>> {
    let slave = open.file.as_any().downcast_ref::<Slave>()?;
    if cx.timed_out() {
        return Some(slave.pty().take_now(&mut cx.env, dst));
    }
    let tenths = slave.pty().read_time()?;
    if open.nonblocking() {
        return None;
    }
    let q = open.file.queue()?;
    let at = cx.deadline_in(tenths * 100_000_000);
    Some(Err(cx.wait_until(vec![q.on()], Some(at), Restart::Sys)))
}
