//! Named pipes: the inode keeps the [`Fifo`]; open(2) waits for the other side.

use super::inode::Inode;
use super::{How, Loc};
use crate::cx::Cx;
use crate::fdtable::oflag;
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, Restart, Stop};
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use ftl_core::wait::Wake;
use ftl_ipc::fifo::Fifo;
use ftl_ipc::pipe;
use std::rc::Rc;

/// Where an end of the pipe was opened.
struct Named {
    node: Rc<Inode>,
    path: Vec<u8>,
}

impl pipe::Place for Named {
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.node.stat())
    }
    fn describe(&self) -> Vec<u8> {
        self.path.clone()
    }
}

fn fifo_of(node: &Inode) -> Rc<Fifo> {
    let mut slot = node.attached.borrow_mut();
    if let Some(f) = slot.as_ref().and_then(|a| a.clone().downcast::<Fifo>().ok()) {
        return f;
    }
    let f = Rc::new(Fifo::default());
    *slot = Some(f.clone());
    f
}

/// Opens the FIFO behind `node`, whose permissions were checked.
pub fn open(cx: &mut Cx<'_>, node: &Rc<Inode>, how: &How, loc: &Loc) -> Io<FileRef> {
    let fifo = fifo_of(node);
    let place = Rc::new(Named {
        node: node.clone(),
        path: loc.full(),
    });
    let who = cx.task.entity.clone();
    let fresh = cx.wake() == Wake::Fresh;
    match fifo.open(&who, fresh, how.flags & !oflag::O_DIRECT, place) {
        Err(Stop::Errno(Errno::EAGAIN)) => {
            let stop = cx.wait(vec![fifo.queue().on()], Restart::Sys);
            if !matches!(stop, Stop::Block(_)) {
                fifo.cancel(&who);
            }
            Err(stop)
        }
        r => r,
    }
}
