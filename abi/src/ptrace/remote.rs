//! Memory of another process: its pages are in another space, so the work is done there. The caller waits,
//! the token goes to that space, the work is done before anything else runs there, and the caller goes on.

use crate::cx::Cx;
use crate::kernel::Kernel;
use crate::mm::Mm;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, Stop};
use ftl_core::layout::{PAGE, is_guest_range};
use ftl_core::platform::{Platform, Prot};
use ftl_core::wait::{Block, SpaceId, WaitQueue};
use std::cell::RefCell;
use std::rc::Rc;

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Op {
    /// Read so many bytes; `force`: whatever the protection.
    Read(u64, usize, bool),
    /// Write; `force`: also where the process itself may not.
    Write(u64, Vec<u8>, bool),
}

impl Op {
    /// Bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Op::Read(_, n, _) => *n as u64,
            Op::Write(_, bytes, _) => bytes.len() as u64,
        }
    }
}

/// Work that waits for its space.
pub struct Job {
    space: SpaceId,
    op: Op,
    /// Bytes that were read (none for a write).
    result: RefCell<Option<Result<Vec<u8>, Errno>>>,
    queue: WaitQueue,
}

/// Bytes of one job: the token is not held longer than for a large read(2).
pub const CHUNK: usize = 256 << 10;

/// Does `op` in the space of `mm`. EFAULT, and nothing done, unless all of the range can be reached; EIO if
/// the space has gone.
pub fn access(cx: &mut Cx<'_>, mm: &Rc<Mm>, op: Op) -> Io<Vec<u8>> {
    let waiting = cx.task.remote.borrow_mut().take();
    if let Some(job) = waiting {
        let done = job.result.borrow_mut().take();
        if let Some(r) = done {
            return Ok(r?);
        }
        return Err(wait(cx, job));
    }
    if mm.space == cx.task.entity.space.get() {
        return Ok(perform(cx.k, cx.env.plat, mm, &op)?);
    }
    let job = Rc::new(Job {
        space: mm.space,
        op,
        result: RefCell::new(None),
        queue: WaitQueue::new(),
    });
    cx.k.remote.borrow_mut().push_back(job.clone());
    Err(wait(cx, job))
}

/// Bytes that the task's call waits for: its next run takes those, whatever has changed meanwhile.
pub fn pending(cx: &Cx<'_>) -> Option<u64> {
    let job = cx.task.remote.borrow();
    job.as_ref().map(|j| j.op.bytes())
}

/// How many of `len` bytes from `addr` can be reached at once, as far as mappings tell.
pub fn reachable(mm: &Mm, addr: u64, len: u64, need: Prot) -> u64 {
    let end = addr.saturating_add(len);
    let mut at = addr;
    for v in mm.visible(addr, len) {
        if v.start > at || !v.prot.contains(need) {
            break;
        }
        at = v.end.min(end);
    }
    at - addr
}

fn wait(cx: &Cx<'_>, job: Rc<Job>) -> Stop {
    let on = vec![job.queue.on()];
    *cx.task.remote.borrow_mut() = Some(job);
    Stop::Block(Block {
        on,
        deadline: None,
        restart: Restart::Always,
        interruptible: false,
    })
}

/// Does what waits for the space that runs now. `Some`: another space has work to do.
pub fn serve(k: &Kernel, plat: &mut dyn Platform, here: SpaceId) -> Option<SpaceId> {
    loop {
        let job = k.remote.borrow().front().cloned()?;
        let mm = k.spaces().into_iter().find(|mm| mm.space == job.space);
        let result = match mm {
            None => Err(Errno::EIO),
            Some(mm) if mm.space == here => perform(k, plat, &mm, &job.op),
            Some(mm) => return Some(mm.space),
        };
        k.remote.borrow_mut().pop_front();
        *job.result.borrow_mut() = Some(result);
        job.queue.wake_all();
    }
}

/// The mappings of the range, in one piece: EFAULT unless each has `need`.
fn check(mm: &Mm, addr: u64, len: u64, need: Prot) -> Result<(), Errno> {
    if !is_guest_range(addr, len) || !mm.is_mapped(addr, len) {
        return Err(Errno::EFAULT);
    }
    match mm.visible(addr, len).iter().all(|v| v.prot.contains(need)) {
        true => Ok(()),
        false => Err(Errno::EFAULT),
    }
}

fn perform(k: &Kernel, plat: &mut dyn Platform, mm: &Rc<Mm>, op: &Op) -> Result<Vec<u8>, Errno> {
    crate::mm::catch_up(k, plat, mm);
    super::unpatch(k, plat, mm);
    match op {
        Op::Read(addr, len, force) => {
            let need = if *force { Prot::empty() } else { Prot::READ };
            check(mm, *addr, *len as u64, need)?;
            let mut out = vec![0; *len];
            plat.read_guest(*addr, &mut out).map_err(|_| Errno::EFAULT)?;
            mm.patches.borrow().show_original(*addr, &mut out);
            Ok(out)
        }
        Op::Write(addr, bytes, force) => {
            let need = if *force { Prot::empty() } else { Prot::WRITE };
            check(mm, *addr, bytes.len() as u64, need)?;
            let plain = mm
                .visible(*addr, bytes.len() as u64)
                .iter()
                .all(|v| v.prot.contains(Prot::WRITE) && !v.prot.contains(Prot::EXEC));
            let done = if plain {
                plat.write_guest(*addr, bytes)
            } else {
                write_forced(plat, mm, *addr, bytes)
            };
            done.map(|()| Vec::new()).map_err(|_| Errno::EFAULT)
        }
    }
}

/// Text, and what is read only: page by page, so that a shared mapping fails where it begins.
fn write_forced(
    plat: &mut dyn Platform,
    mm: &Rc<Mm>,
    addr: u64,
    bytes: &[u8],
) -> Result<(), ftl_core::platform::Fault> {
    {
        // The tracer's bytes are the program's own: a trap of ours that they replace is forgotten.
        let mut p = mm.patches.borrow_mut();
        let end = addr + bytes.len() as u64;
        p.unlook(addr & !(PAGE - 1), end);
        let hit: Vec<(u64, Vec<u8>)> = p
            .specials
            .range(addr.saturating_sub(16)..end)
            .filter(|(a, (_, b))| **a + b.len() as u64 > addr)
            .map(|(a, (_, b))| (*a, b.clone()))
            .collect();
        for (at, original) in hit {
            p.specials.remove(&at);
            plat.patch_text(&[(at, &original)])?;
        }
    }
    let mut at = 0;
    while at < bytes.len() {
        let n = ((PAGE - (addr + at as u64) % PAGE) as usize).min(bytes.len() - at);
        plat.patch_text(&[(addr + at as u64, &bytes[at..at + n])])?;
        at += n;
    }
    Ok(())
}
