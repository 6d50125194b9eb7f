//! SIGIO: O_ASYNC, F_SETOWN, F_SETSIG (fs/fcntl.c, send_sigio).

use super::types::*;
use super::{post_process, post_task};
use crate::cx::Cx;
use crate::fdtable::OpenFile;
use crate::kernel::{ProcTable, TaskTable};
use ftl_core::wait::{Listener, Poll, Tid};
use std::rc::{Rc, Weak};

/// fcntl's F_OWNER_* as [`OpenFile::owner`] keeps them.
const OWNER_TID: i32 = 0;
const OWNER_PID: i32 = 1;

/// Listens on a file's queue for its owner. Lives in the open file description.
pub struct Fasync {
    open: Weak<OpenFile>,
    procs: ProcTable,
    tasks: TaskTable,
}

/// O_ASYNC of `open` was switched, by way of descriptor `fd`.
pub fn set_async(cx: &Cx<'_>, open: &Rc<OpenFile>, fd: i32, on: bool) {
    let Some(queue) = open.file.queue() else {
        return;
    };
    if let Some(old) = open.fasync.borrow_mut().take() {
        let old: Rc<dyn Listener> = old;
        queue.forget(&Rc::downgrade(&old), 0);
        queue.forget(&Rc::downgrade(&old), fd as u64);
    }
    if on {
        let new = Rc::new(Fasync {
            open: Rc::downgrade(open),
            procs: cx.k.procs.clone(),
            tasks: cx.k.tasks.clone(),
        });
        let listener: Rc<dyn Listener> = new.clone();
        queue.listen(Rc::downgrade(&listener), fd as u64, u32::MAX, false);
        *open.fasync.borrow_mut() = Some(new);
    }
}

/// si_code and si_band of what happened.
fn reason(mask: Poll) -> (i32, Poll) {
    let read = Poll::IN | Poll::RDNORM;
    let write = Poll::OUT | Poll::WRNORM | Poll::WRBAND;
    if mask.intersects(Poll::HUP) {
        (6, Poll::HUP | Poll::ERR)
    } else if mask.intersects(Poll::ERR) {
        (4, Poll::ERR)
    } else if mask.intersects(Poll::PRI) {
        (5, Poll::PRI | Poll::RDBAND)
    } else if mask.intersects(read) {
        (1, read)
    } else {
        (2, write)
    }
}

impl Listener for Fasync {
    fn notify(&self, key: u64, mask: u32) {
        let Some(open) = self.open.upgrade() else {
            return;
        };
        let (kind, id, signo) = open.owner.get();
        let (code, band) = reason(Poll::from_bits_truncate(mask));
        let info = match signo {
            0 => SigInfo::kernel(sig::SIGIO),
            s => SigInfo::poll(s as u32, code, u64::from(band.bits()), key as i32),
        };
        let id = Tid(id.unsigned_abs());
        match kind {
            OWNER_TID => {
                let t = self.tasks.borrow().get(&id).cloned();
                t.inspect(|t| {
                    post_task(t, info);
                });
            }
            OWNER_PID => {
                let p = self.procs.borrow().get(&id).cloned();
                p.inspect(|p| {
                    post_process(p, info);
                });
            }
            _ => {
                let procs = self.procs.borrow();
                let group: Vec<_> = procs.values().filter(|p| p.pgid.get() == id).cloned().collect();
                drop(procs);
                for p in group {
                    post_process(&p, info);
                }
            }
        }
    }
}
