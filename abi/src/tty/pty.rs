//! Pseudo-terminals (pty(7)): a master, and a slave with the line discipline between them.

use super::ldisc::{Key, Ldisc};
use super::termios::{Termios, cc, iflag};
use super::{Line, Terminal};
use ftl_core::errno::Errno;
use ftl_core::file::{File, SetAttr};
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use ftl_core::wait::{Poll, WaitQueue};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Bytes that wait for the master.
const OUT_ROOM: usize = 16384;

/// The pair.
pub struct Pty {
    /// Number, name, session.
    pub line: Rc<Line>,
    ldisc: RefCell<Ldisc>,
    out: RefCell<VecDeque<u8>>,
    winsize: Cell<[u16; 4]>,
    /// The slave may not be opened yet (unlockpt).
    pub locked: Cell<bool>,
    slaves: Cell<usize>,
    /// A slave was open at some time: until then the master waits instead of failing.
    opened: Cell<bool>,
    /// The master is gone.
    pub hung_up: Cell<bool>,
    packet: Cell<bool>,
    /// Control byte for packet mode.
    event: Cell<u8>,
    queue: WaitQueue,
    master_queue: WaitQueue,
}

/// The master's open file.
pub struct Master(pub Rc<Pty>);
/// A slave's open file.
pub struct Slave(Rc<Pty>);

const READ: Poll = Poll::IN.union(Poll::RDNORM);
const WRITE: Poll = Poll::OUT.union(Poll::WRNORM);

impl Pty {
    /// A new pair; the slave is locked.
    pub fn new(line: Rc<Line>) -> Rc<Pty> {
        Rc::new(Pty {
            line,
            ldisc: RefCell::default(),
            out: RefCell::default(),
            winsize: Cell::new([0; 4]),
            locked: Cell::new(true),
            slaves: Cell::new(0),
            opened: Cell::new(false),
            hung_up: Cell::new(false),
            packet: Cell::new(false),
            event: Cell::new(0),
            queue: WaitQueue::new(),
            master_queue: WaitQueue::new(),
        })
    }

    /// Opens the slave.
    pub fn slave(self: &Rc<Pty>) -> Rc<Slave> {
        self.slaves.set(self.slaves.get() + 1);
        self.opened.set(true);
        Rc::new(Slave(self.clone()))
    }

    /// The master has something to read.
    pub fn has_output(&self) -> bool {
        !self.out.borrow().is_empty()
    }

    fn emit(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.out.borrow_mut().extend(bytes);
            self.master_queue.notify(READ);
        }
    }

    fn typed(&self, bytes: &[u8]) {
        let mut echo = Vec::new();
        let mut keys = Vec::new();
        {
            let mut l = self.ldisc.borrow_mut();
            for b in bytes {
                keys.extend(l.input(*b, &mut echo));
            }
        }
        self.emit(&echo);
        for k in keys {
            self.line.post(match k {
                Key::Interrupt => 2,
                Key::Quit => 3,
                Key::Suspend => 20,
            });
        }
        if self.ldisc.borrow().readable() {
            self.queue.notify(READ);
        }
        if !self.ldisc.borrow().stopped {
            self.queue.notify(WRITE);
        }
    }

    /// A read of the slave waited as long as VTIME says: what is there is enough.
    pub fn take_now(&self, env: &mut Env<'_>, dst: &mut Dst) -> Io<u64> {
        self.give(env, dst, true)
    }

    /// Tenths of a second after which a read ends, if it ends by time: VMIN 0 at once counted, or
    /// between bytes once one has come.
    pub fn read_time(&self) -> Option<u64> {
        let l = self.ldisc.borrow();
        let (min, time) = (l.termios.cc[cc::MIN], l.termios.cc[cc::TIME]);
        if l.termios.canonical() || time == 0 || min > 0 && l.available() == 0 {
            return None;
        }
        Some(u64::from(time))
    }

    fn give(&self, env: &mut Env<'_>, dst: &mut Dst, force: bool) -> Io<u64> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let max = usize::try_from(dst.remaining())
            .unwrap_or(usize::MAX)
            .min(1 << 16);
        let got = self.ldisc.borrow_mut().take(max, force);
        match got {
            Some(bytes) => {
                let n = match dst.put(env.plat, &bytes) {
                    Ok(n) => n,
                    Err(e) => {
                        self.ldisc.borrow_mut().untake(bytes);
                        return err(e);
                    }
                };
                self.master_queue.notify(WRITE);
                let t = self.ldisc.borrow().termios;
                if n == 0 && !t.canonical() && t.cc[cc::MIN] == 0 && t.cc[cc::TIME] > 0 && !force {
                    return err(Errno::EAGAIN);
                }
                Ok(n as u64)
            }
            None if self.hung_up.get() || force => Ok(0),
            None => err(Errno::EAGAIN),
        }
    }
}

impl Terminal for Pty {
    fn line(&self) -> &Line {
        &self.line
    }
    fn get(&self, _: &mut Env<'_>) -> Io<Termios> {
        Ok(self.ldisc.borrow().termios)
    }
    fn set(&self, _: &mut Env<'_>, t: Termios, flush: bool) -> Io<()> {
        let mut l = self.ldisc.borrow_mut();
        if flush {
            l.flush();
        }
        let was = l.termios.iflag & iflag::IXON;
        l.set(t);
        if self.packet.get() && was != t.iflag & iflag::IXON {
            // TIOCPKT_DOSTOP, TIOCPKT_NOSTOP
            self.event.set(if t.iflag & iflag::IXON != 0 { 32 } else { 16 });
        }
        drop(l);
        self.queue.notify(READ | WRITE);
        self.master_queue.notify(WRITE);
        Ok(())
    }
    fn winsize(&self, _: &mut Env<'_>) -> Io<[u16; 4]> {
        Ok(self.winsize.get())
    }
    fn set_winsize(&self, _: &mut Env<'_>, w: [u16; 4]) -> Io<()> {
        if self.winsize.replace(w) != w {
            self.line.post(28);
        }
        Ok(())
    }
    fn available(&self, _: &mut Env<'_>) -> Io<usize> {
        Ok(self.ldisc.borrow().available())
    }
    fn flush(&self, _: &mut Env<'_>, input: bool, output: bool) -> Io<()> {
        if input {
            self.ldisc.borrow_mut().flush();
            self.master_queue.notify(WRITE);
        }
        if output {
            self.out.borrow_mut().clear();
            self.queue.notify(WRITE);
        }
        Ok(())
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        let p = &self.0;
        p.slaves.set(p.slaves.get() - 1);
        if p.slaves.get() == 0 {
            p.master_queue.notify(READ | Poll::HUP);
        }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let p = &self.0;
        p.hung_up.set(true);
        // The session's leader hears of it first (SIGHUP), then the foreground may go on to die.
        p.line.post(1);
        p.line.post(18);
        p.line.gone.set(true);
        p.queue.notify(READ | WRITE | Poll::HUP | Poll::ERR);
    }
}

impl Slave {
    /// The pair.
    pub fn pty(&self) -> &Rc<Pty> {
        &self.0
    }
}

impl File for Slave {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        self.0.line.path()
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        self.0.give(env, dst, false)
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        let p = &self.0;
        if p.hung_up.get() {
            return err(Errno::EIO);
        }
        let room = OUT_ROOM.saturating_sub(p.out.borrow().len());
        if room == 0 || p.ldisc.borrow().stopped {
            return err(Errno::EAGAIN);
        }
        let bytes = src.get_vec(env.plat, room)?;
        let mut out = Vec::new();
        p.ldisc.borrow_mut().output(&bytes, &mut out);
        p.emit(&out);
        Ok(bytes.len() as u64)
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        let p = &self.0;
        if p.hung_up.get() {
            return READ | WRITE | Poll::HUP | Poll::ERR;
        }
        let mut r = Poll::empty();
        if p.ldisc.borrow().readable() {
            r |= READ;
        }
        if p.out.borrow().len() < OUT_ROOM && !p.ldisc.borrow().stopped {
            r |= WRITE;
        }
        r
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.0.queue.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.0.line.stat())
    }
    fn set_attr(&self, _: &mut Env<'_>, a: &SetAttr) -> Io<()> {
        self.0.line.set_attr(a);
        Ok(())
    }
    fn sync(&self, _: &mut Env<'_>, _: bool) -> Io<()> {
        err(Errno::EINVAL)
    }
}

impl File for Master {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        b"/dev/ptmx".to_vec()
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        let p = &self.0;
        if dst.remaining() == 0 {
            return Ok(0);
        }
        if p.packet.get() && p.event.get() != 0 {
            return Ok(dst.put(env.plat, &[p.event.replace(0)])? as u64);
        }
        let packet = usize::from(p.packet.get());
        let n = (dst.remaining() as usize - packet.min(dst.remaining() as usize)).min(p.out.borrow().len());
        if p.out.borrow().is_empty() {
            return if p.opened.get() && p.slaves.get() == 0 {
                err(Errno::EIO)
            } else {
                err(Errno::EAGAIN)
            };
        }
        let mut bytes = vec![0; packet];
        bytes.extend(p.out.borrow().iter().take(n));
        let put = dst.put(env.plat, &bytes)?.saturating_sub(packet);
        p.out.borrow_mut().drain(..put);
        p.queue.notify(WRITE);
        Ok((put + packet) as u64)
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        let p = &self.0;
        if p.opened.get() && p.slaves.get() == 0 {
            return err(Errno::EIO);
        }
        if !p.ldisc.borrow().has_room() {
            return err(Errno::EAGAIN);
        }
        let bytes = src.get_vec(env.plat, 2048)?;
        p.typed(&bytes);
        Ok(bytes.len() as u64)
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        let p = &self.0;
        let mut r = Poll::empty();
        if !p.out.borrow().is_empty() || p.packet.get() && p.event.get() != 0 {
            r |= READ;
        }
        if p.opened.get() && p.slaves.get() == 0 {
            r |= Poll::HUP | READ;
        }
        if p.ldisc.borrow().has_room() {
            r |= WRITE;
        }
        r
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.0.master_queue.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        let mut st = self.0.line.stat();
        st.rdev = crate::fs::dev::makedev(5, 2);
        st.ino = 2;
        Ok(st)
    }
    fn ioctl(&self, env: &mut Env<'_>, cmd: u64, arg: u64) -> Io<u64> {
        let p = &self.0;
        match cmd {
            // TIOCGPTN
            0x8004_5430 => env.put(arg, &p.line.index)?,
            // TIOCSPTLCK, TIOCGPTLCK
            0x4004_5431 => p.locked.set(env.get::<i32>(arg)? != 0),
            0x8004_5439 => env.put(arg, &i32::from(p.locked.get()))?,
            // TIOCPKT, TIOCGPKT
            0x5420 => p.packet.set(env.get::<i32>(arg)? != 0),
            0x8004_5438 => env.put(arg, &i32::from(p.packet.get()))?,
            // FIONREAD
            0x541b => env.put(arg, &(p.out.borrow().len() as i32))?,
            _ => return err(Errno::ENOTTY),
        }
        Ok(0)
    }
}
