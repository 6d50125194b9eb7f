//! The standard streams of the image.

use ftl_core::door::Input;
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::{Env, Sink};
use ftl_core::platform::{Handle, Stat, StreamKind};
use ftl_core::wait::{Poll, WaitQueue};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// How many bytes are asked of a stream ahead of the reader.
const READ_AHEAD: usize = 64 * 1024;

/// A stream that the host gave the image at start.
pub struct Console {
    handle: Handle,
    kind: StreamKind,
    input: RefCell<VecDeque<u8>>,
    asked: Cell<bool>,
    eof: Cell<bool>,
    full: Cell<bool>,
    queue: WaitQueue,
}

impl Console {
    /// Registers itself for the stream's inputs.
    pub fn new(env: &mut Env<'_>, handle: Handle) -> Rc<Console> {
        let kind = env.plat.stream_kind(handle);
        let c = Rc::new(Console {
            handle,
            kind,
            input: RefCell::default(),
            asked: Cell::new(false),
            eof: Cell::new(false),
            full: Cell::new(false),
            queue: WaitQueue::new(),
        });
        let sink: Rc<dyn Sink> = c.clone();
        env.core.register(handle, Rc::downgrade(&sink));
        c
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
        let n = env.plat.out_stream(self.handle, &bytes)?;
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
        Ok(env.plat.host_stat(self.handle)?)
    }
    fn ioctl(&self, env: &mut Env<'_>, cmd: u64, arg: u64) -> Io<u64> {
        const TCGETS: u64 = 0x5401;
        const TIOCGWINSZ: u64 = 0x5413;
        if self.kind != StreamKind::Terminal {
            return err(Errno::ENOTTY);
        }
        let len = match cmd {
            TCGETS => 36,
            TIOCGWINSZ => 8,
            _ => return err(Errno::ENOTTY),
        };
        let mut buf = vec![0; len];
        let r = env.plat.tty_ioctl(self.handle, cmd, &mut buf)?;
        env.write(arg, &buf)?;
        Ok(r)
    }
}
