//! FIFOs: a pipe with a name. The file system keeps a [`Fifo`] in the inode.
//!
//! open(2) of a FIFO waits for the other side, and counts as a reader or writer meanwhile. A handler
//! runs again from its start, so the half-open end is kept here under the task's number.

use crate::anon::Inode;
use crate::pipe::{Pipe, PipeEnd, Place};
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};
use ftl_core::wait::{Entity, Poll, State, Tid, WaitQueue};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// O_NONBLOCK
const O_NONBLOCK: i32 = 0o4000;

struct Opening {
    end: Rc<PipeEnd>,
    who: Weak<Entity>,
    /// How often the other side had been opened when the wait began.
    seen: u64,
}

/// The pipe of a FIFO inode.
pub struct Fifo {
    pipe: Rc<Pipe>,
    opening: RefCell<BTreeMap<Tid, Opening>>,
}

impl Default for Fifo {
    fn default() -> Fifo {
        Fifo {
            pipe: Pipe::new(Inode::default()),
            opening: RefCell::default(),
        }
    }
}

impl Fifo {
    /// What an open waits on after EAGAIN.
    pub fn queue(&self) -> WaitQueue {
        self.pipe.queue(true).clone()
    }

    /// open(2) by the task `who`; `fresh` on the call's first run. EAGAIN: wait on [`Fifo::queue`]
    /// and run again; if that is interrupted, [`Fifo::cancel`].
    pub fn open(&self, who: &Rc<Entity>, fresh: bool, flags: i32, place: Rc<dyn Place>) -> Io<FileRef> {
        self.forget_dead();
        let old = self.take(who).filter(|_| !fresh);
        let reads = flags & 3 != 1;
        if let Some(o) = old {
            let (r, w) = self.pipe.opens.get();
            if o.seen != if reads { w } else { r } {
                return Ok(o.end);
            }
            self.opening.borrow_mut().insert(who.tid, o);
            return err(Errno::EAGAIN);
        }
        let nonblock = flags & O_NONBLOCK != 0;
        if flags & 3 == 1 && nonblock && self.pipe.readers.get() == 0 {
            return err(Errno::ENXIO);
        }
        let (r, w) = self.pipe.opens.get();
        let end = PipeEnd::open(&self.pipe, flags, Some(place));
        self.pipe
            .tell_all(Poll::IN | Poll::OUT | Poll::RDNORM | Poll::WRNORM);
        let (alone, seen) = match flags & 3 {
            0 => (self.pipe.writers.get() == 0, w),
            1 => (self.pipe.readers.get() == 0, r),
            _ => (false, 0),
        };
        if alone && nonblock {
            end.unseen.set(Some(w));
        } else if alone {
            let who_weak = Rc::downgrade(who);
            self.opening.borrow_mut().insert(
                who.tid,
                Opening {
                    end,
                    who: who_weak,
                    seen,
                },
            );
            return err(Errno::EAGAIN);
        }
        Ok(end)
    }

    fn take(&self, who: &Entity) -> Option<Opening> {
        self.opening.borrow_mut().remove(&who.tid)
    }

    /// The task gave up its open.
    pub fn cancel(&self, who: &Entity) {
        drop(self.take(who));
    }

    fn forget_dead(&self) {
        let dead: Vec<Opening> = {
            let mut map = self.opening.borrow_mut();
            let gone: Vec<Tid> = map
                .iter()
                .filter(|(_, o)| o.who.upgrade().is_none_or(|e| e.state.get() == State::Dead))
                .map(|(t, _)| *t)
                .collect();
            gone.iter().filter_map(|t| map.remove(t)).collect()
        };
        drop(dead);
    }
}
