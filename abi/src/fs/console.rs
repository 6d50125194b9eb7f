//! The standard streams of the image.

use crate::tty::termios::Termios;
use crate::tty::{Line, Terminal, Ttys};
use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::file::SetAttr;
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::{Env, Sink};
use ftl_core::platform::{Handle, Stat, StreamKind};
use ftl_core::wait::{Poll, WaitQueue};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use zerocopy::IntoBytes;

/// How many bytes are asked of a stream ahead of the reader.
const READ_AHEAD: usize = 64 * 1024;

/// A stream that the host gave the image at start.
pub struct Console {
    /// Where input comes from.
    handle: Handle,
    /// Where output goes.
    out: Handle,
    kind: StreamKind,
    input: RefCell<VecDeque<u8>>,
    asked: Cell<bool>,
    eof: Cell<bool>,
    full: Cell<bool>,
    queue: WaitQueue,
    /// Its place among the image's terminals, if it is one.
    line: Option<Rc<Line>>,
}

impl Console {
    /// Registers itself for the stream's inputs.
    pub fn new(
        env: &mut Env<'_>,
        (handle, out): (Handle, Handle),
        ttys: &Ttys,
        owner: (u32, u32),
    ) -> Rc<Console> {
        let kind = env.plat.stream_kind(handle);
        let terminal = kind == StreamKind::Terminal;
        let born = env.realtime();
        let line = terminal.then(|| ttys.new_line(0, owner, born));
        let c = Rc::new(Console {
            handle,
            out,
            kind,
            input: RefCell::default(),
            asked: Cell::new(false),
            eof: Cell::new(false),
            full: Cell::new(false),
            queue: WaitQueue::new(),
            line,
        });
        let sink: Rc<dyn Sink> = c.clone();
        env.core.register(handle, Rc::downgrade(&sink));
        if out != handle {
            env.core.register(out, Rc::downgrade(&sink));
        }
        c
    }

    /// Its place among terminals.
    pub fn tty_line(&self) -> Option<Rc<Line>> {
        self.line.clone()
    }

    fn ask(&self, env: &mut Env<'_>) {
        if !self.asked.replace(true) {
            env.plat.want_input(self.handle, READ_AHEAD);
        }
    }
}

impl Sink for Console {
    fn input(&self, _env: &mut Env<'_>, input: Input) {
        match input {
            Input::Data(_, bytes) => {
                self.input.borrow_mut().extend(bytes);
                self.asked.set(false);
                self.queue.notify(Poll::IN | Poll::RDNORM);
            }
            Input::Eof(_) | Input::Failed(..) => {
                self.eof.set(true);
                self.asked.set(false);
                self.queue.notify(Poll::IN | Poll::RDNORM | Poll::HUP);
            }
            Input::Writable(_) => {
                self.full.set(false);
                self.queue.notify(Poll::OUT | Poll::WRNORM);
            }
            _ => {}
        }
    }
}

impl File for Console {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        match self.kind {
            StreamKind::Terminal => b"/dev/pts/0".to_vec(),
            StreamKind::Pipe => format!("pipe:[{}]", self.handle.0 + 1).into_bytes(),
            StreamKind::Socket => format!("socket:[{}]", self.handle.0 + 1).into_bytes(),
            _ => b"/dev/null".to_vec(),
        }
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        let mut input = self.input.borrow_mut();
        if input.is_empty() {
            if self.eof.get() {
                // A terminal's end of input is one read long.
                self.eof.set(self.kind != StreamKind::Terminal);
                return Ok(0);
            }
            drop(input);
            self.ask(env);
            return err(Errno::EAGAIN);
        }
        let n = (dst.remaining() as usize).min(input.len());
        let bytes: Vec<u8> = input.iter().take(n).copied().collect();
        let n = dst.put(env.plat, &bytes)?;
        input.drain(..n);
        Ok(n as u64)
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        if self.full.get() {
            return err(Errno::EAGAIN);
        }
        let bytes = src.get_vec(env.plat, 1 << 20)?;
        let n = env.plat.out_stream(self.out, &bytes)?;
        if n < bytes.len() {
            self.full.set(true);
        }
        if n == 0 && !bytes.is_empty() {
            return err(Errno::EAGAIN);
        }
        Ok(n as u64)
    }
    fn poll(&self, env: &mut Env<'_>) -> Poll {
        let mut p = Poll::empty();
        if !self.input.borrow().is_empty() || self.eof.get() {
            p |= Poll::IN | Poll::RDNORM;
        } else {
            self.ask(env);
        }
        if !self.full.get() {
            p |= Poll::OUT | Poll::WRNORM;
        }
        p
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }
    fn stat(&self, env: &mut Env<'_>) -> Io<Stat> {
        match &self.line {
            Some(l) => Ok(l.stat()),
            None => Ok(env.plat.host_stat(self.handle)?),
        }
    }
    fn set_attr(&self, _: &mut Env<'_>, a: &SetAttr) -> Io<()> {
        if let Some(l) = &self.line {
            l.set_attr(a);
        }
        Ok(())
    }
}

const TCGETS: u64 = 0x5401;
const TCSETS: u64 = 0x5402;
const TCSETSF: u64 = 0x5404;
const TCFLSH: u64 = 0x540b;
const TIOCGWINSZ: u64 = 0x5413;
const TIOCSWINSZ: u64 = 0x5414;
const FIONREAD: u64 = 0x541b;

/// The host's line discipline does the work.
impl Terminal for Console {
    fn line(&self) -> &Line {
        // Only terminals are handed out as such.
        self.line
            .as_deref()
            .unwrap_or_else(|| unreachable!("no terminal"))
    }
    fn get(&self, env: &mut Env<'_>) -> Io<Termios> {
        let mut t = Termios::default();
        env.plat.tty_ioctl(self.handle, TCGETS, t.as_mut_bytes())?;
        Ok(t)
    }
    fn set(&self, env: &mut Env<'_>, t: Termios, flush: bool) -> Io<()> {
        let mut t = t;
        if flush {
            self.input.borrow_mut().clear();
        }
        let cmd = if flush { TCSETSF } else { TCSETS };
        env.plat.tty_ioctl(self.handle, cmd, t.as_mut_bytes())?;
        Ok(())
    }
    fn winsize(&self, env: &mut Env<'_>) -> Io<[u16; 4]> {
        let mut w = [0u16; 4];
        env.plat.tty_ioctl(self.handle, TIOCGWINSZ, w.as_mut_bytes())?;
        Ok(w)
    }
    fn set_winsize(&self, env: &mut Env<'_>, w: [u16; 4]) -> Io<()> {
        let mut w = w;
        env.plat.tty_ioctl(self.handle, TIOCSWINSZ, w.as_mut_bytes())?;
        Ok(())
    }
    fn available(&self, env: &mut Env<'_>) -> Io<usize> {
        let mut n = 0i32;
        env.plat.tty_ioctl(self.handle, FIONREAD, n.as_mut_bytes())?;
        Ok(self.input.borrow().len() + n.max(0) as usize)
    }
    fn flush(&self, env: &mut Env<'_>, input: bool, output: bool) -> Io<()> {
        if input {
            self.input.borrow_mut().clear();
        }
        let which = match (input, output) {
            (true, false) => 0u64,
            (false, _) => 1,
            (true, true) => 2,
        };
        // TCFLSH takes its argument by value: eight bytes stand for it.
        env.plat
            .tty_ioctl(self.handle, TCFLSH, &mut which.to_le_bytes())?;
        Ok(())
    }
}
