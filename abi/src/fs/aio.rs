//! Native asynchronous I/O (fs/aio.c): io_setup(2) and what goes with it.
//!
//! Reads, writes and syncs are done in io_submit(2), as most file systems do them; a poll request waits
//! at its file. A context is named by the address of a page that libaio looks into: what it finds there
//! tells it that events are to be had from the kernel only.

use crate::args::Ptr;
use crate::cx::Cx;
use crate::event::sigmask::with_mask;
use crate::fdtable::OpenFile;
use crate::fs::calls::rw::{read_at, write_at};
use crate::late::{Late, LateRef};
use crate::mm::{Mm, Vma, VmaKind};
use crate::sys::io::{iovec, would_block};
use ftl_core::errno::Errno;
use ftl_core::io::{Dst, Io, Restart, Src, Stop, err};
use ftl_core::layout::{PAGE, is_guest_range};
use ftl_core::platform::{Backing, Prot};
use ftl_core::wait::{Listener, Poll, WaitQueue};
use ftl_ipc::eventfd::EventFd;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

/// fs.aio-max-nr
const MAX_EVENTS: u32 = 65_536;
const IOCB_LEN: u64 = 64;
const FLAG_RESFD: u32 = 1;
const FLAG_IOPRIO: u32 = 2;

/// struct io_event: data, obj, res, res2.
type Event = [u64; 4];

/// A poll request that waits.
struct Waits {
    /// Keeps the file open, as the request does.
    _open: Rc<OpenFile>,
    queue: WaitQueue,
    listener: Rc<Waker>,
    data: u64,
    iocb: u64,
    mask: Poll,
    eventfd: Option<Rc<OpenFile>>,
}

/// A context.
pub struct Aio {
    most: u32,
    done: RefCell<VecDeque<Event>>,
    waits: RefCell<BTreeMap<u64, Waits>>,
    next: Cell<u64>,
    queue: WaitQueue,
    dead: Cell<bool>,
    late: LateRef,
}

/// Listens at the file of a poll request.
struct Waker {
    aio: Weak<Aio>,
}

impl Listener for Waker {
    // An event may signal an eventfd, for which other requests wait: not from in here.
    fn notify(&self, key: u64, mask: u32) {
        let Some(aio) = self.aio.upgrade() else { return };
        let got = match aio.waits.borrow().get(&key) {
            Some(w) if w.mask.bits() & mask != 0 => {
                // Told once.
                w.forget(key);
                w.mask.bits() & mask
            }
            _ => return,
        };
        let who: Weak<dyn Late> = self.aio.clone();
        aio.late.push(who, key, got);
    }
}

impl Late for Aio {
    fn act(&self, key: u64, mask: u32) {
        self.finish(key, u64::from(mask));
    }
}

impl Aio {
    /// Events that are there or will be.
    fn busy(&self) -> usize {
        self.done.borrow().len() + self.waits.borrow().len()
    }

    fn post(&self, data: u64, iocb: u64, result: u64, eventfd: Option<&OpenFile>) {
        self.done.borrow_mut().push_back([data, iocb, result, 0]);
        if let Some(e) = eventfd.and_then(|o| o.file.as_any().downcast_ref::<EventFd>()) {
            e.signal();
        }
        self.queue.notify(Poll::IN);
    }

    fn finish(&self, key: u64, result: u64) {
        let Some(w) = self.waits.borrow_mut().remove(&key) else {
            return;
        };
        w.forget(key);
        self.post(w.data, w.iocb, result, w.eventfd.as_deref());
    }
}

impl Waits {
    fn forget(&self, key: u64) {
        let l: Rc<dyn Listener> = self.listener.clone();
        self.queue.forget(&Rc::downgrade(&l), key);
    }
}

fn find(mm: &Mm, id: u64) -> Result<Rc<Aio>, Errno> {
    mm.aio.borrow().get(&id).cloned().ok_or(Errno::EINVAL)
}

/// io_setup(2)
pub fn sys_io_setup(cx: &mut Cx<'_>, n: u32, out: Ptr) -> Io<u64> {
    let old: u64 = cx.get(out.0)?;
    if old != 0 || n == 0 {
        return err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let all: u64 = mm.aio.borrow().values().map(|a| u64::from(a.most)).sum();
    if all + u64::from(n) > u64::from(MAX_EVENTS) {
        return err(Errno::EAGAIN);
    }
    let at = mm
        .find_free(PAGE, mm.mmap_base.get(), PAGE)
        .ok_or(Errno::ENOMEM)?;
    let mut vma = Vma::anon(at, PAGE, Prot::READ, VmaKind::Normal);
    vma.flags |= crate::mm::VmaFlags::DONTFORK;
    mm.map(cx.env.plat, vma, Backing::Anon);
    if let Err(e) = cx.put(out.0, &at) {
        mm.unmap(cx.env.plat, at, PAGE);
        return err(e);
    }
    let aio = Aio {
        most: n,
        done: RefCell::default(),
        waits: RefCell::default(),
        next: Cell::new(0),
        queue: WaitQueue::new(),
        dead: Cell::new(false),
        late: cx.k.late.clone(),
    };
    mm.aio.borrow_mut().insert(at, Rc::new(aio));
    Ok(0)
}

/// io_destroy(2)
pub fn sys_io_destroy(cx: &mut Cx<'_>, Ptr(id): Ptr) -> Io<u64> {
    let mm = cx.task.mm();
    let aio = mm.aio.borrow_mut().remove(&id).ok_or(Errno::EINVAL)?;
    aio.dead.set(true);
    // What a wait holds open may, as it goes, notify another one of this context: none is borrowed meanwhile.
    let waits = std::mem::take(&mut *aio.waits.borrow_mut());
    for (key, w) in &waits {
        w.forget(*key);
    }
    drop(waits);
    aio.queue.wake_all();
    mm.unmap(cx.env.plat, id, PAGE);
    Ok(0)
}

/// struct iocb.
struct Iocb {
    at: u64,
    data: u64,
    rw_flags: u32,
    op: u16,
    fd: i32,
    buf: u64,
    len: u64,
    offset: i64,
    flags: u32,
    resfd: i32,
}

fn read_iocb(cx: &mut Cx<'_>, at: u64) -> Result<Iocb, Errno> {
    let mut b = [0; IOCB_LEN as usize];
    cx.read(at, &mut b)?;
    let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| b[i + k]));
    let half = |i: usize| word(i & !7) >> (i % 8 * 8);
    if word(48) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Iocb {
        at,
        data: word(0),
        rw_flags: half(12) as u32,
        op: half(16) as u16,
        fd: half(20) as i32,
        buf: word(24),
        len: word(32),
        offset: word(40) as i64,
        flags: half(56) as u32,
        resfd: half(60) as i32,
    })
}

/// What io_submit does with one request: a result for its event, or none yet.
fn run(
    cx: &mut Cx<'_>,
    aio: &Rc<Aio>,
    c: &Iocb,
    open: &Rc<OpenFile>,
    resfd: Option<&Rc<OpenFile>>,
) -> Io<Option<u64>> {
    const PREAD: u16 = 0;
    const PWRITE: u16 = 1;
    const FSYNC: u16 = 2;
    const FDSYNC: u16 = 3;
    const POLL: u16 = 5;
    const PREADV: u16 = 7;
    const PWRITEV: u16 = 8;
    const RWF_KNOWN: u32 = 0x1f;
    let reads = matches!(c.op, PREAD | PREADV);
    match c.op {
        PREAD | PWRITE | PREADV | PWRITEV => {
            if c.rw_flags & !RWF_KNOWN != 0 {
                return err(Errno::EOPNOTSUPP);
            }
            let iov = if matches!(c.op, PREADV | PWRITEV) {
                let n = i32::try_from(c.len).map_err(|_| Errno::EINVAL)?;
                iovec(cx, c.buf, n)?
            } else {
                if c.len > i64::MAX as u64 {
                    return err(Errno::EINVAL);
                }
                if !is_guest_range(c.buf, c.len) {
                    return err(Errno::EFAULT);
                }
                vec![(c.buf, c.len.min(crate::sys::io::MAX_RW))].into()
            };
            if if reads { !open.readable() } else { !open.writable() } {
                return err(Errno::EBADF);
            }
            if c.offset < 0 && open.file.seekable() {
                return err(Errno::EINVAL);
            }
            let at = c.offset as u64;
            let r = if reads {
                read_at(cx, open, at, Dst::user_vec(iov))
            } else {
                write_at(cx, open, at, Src::user_vec(iov))
            };
            match r {
                Ok(n) => Ok(Some(n)),
                // A pipe or socket without data holds io_submit up, as in Linux.
                Err(Stop::Errno(Errno::EAGAIN)) if open.file.queue().is_some() => {
                    let what = if reads {
                        Poll::IN | Poll::RDNORM
                    } else {
                        Poll::OUT | Poll::WRNORM
                    };
                    match would_block(cx, open, what) {
                        Stop::Errno(e) => Ok(Some(e.to_rax())),
                        s => Err(s),
                    }
                }
                Err(Stop::Errno(e)) => Ok(Some(e.to_rax())),
                Err(s) => Err(s),
            }
        }
        FSYNC | FDSYNC => {
            if c.buf != 0 || c.offset != 0 || c.len != 0 || c.rw_flags != 0 {
                return err(Errno::EINVAL);
            }
            match open.file.sync(&mut cx.env, c.op == FDSYNC) {
                Ok(()) => Ok(Some(0)),
                Err(Stop::Errno(e)) if open.file.seekable() => Ok(Some(e.to_rax())),
                Err(_) => err(Errno::EINVAL),
            }
        }
        POLL => {
            if c.buf >> 16 != 0 || c.offset != 0 || c.len != 0 || c.rw_flags != 0 {
                return err(Errno::EINVAL);
            }
            let mask = Poll::from_bits_truncate(c.buf as u32) | Poll::ERR | Poll::HUP;
            let now = open.file.poll(&mut cx.env) & mask;
            let queue = open.file.queue();
            if !now.is_empty() {
                return Ok(Some(u64::from(now.bits())));
            }
            let Some(queue) = queue else {
                return err(Errno::EINVAL);
            };
            let key = aio.next.get();
            aio.next.set(key + 1);
            let listener = Rc::new(Waker {
                aio: Rc::downgrade(aio),
            });
            let l: Rc<dyn Listener> = listener.clone();
            queue.listen(Rc::downgrade(&l), key, mask.bits(), false);
            let w = Waits {
                _open: open.clone(),
                queue,
                listener,
                data: c.data,
                iocb: c.at,
                mask,
                eventfd: resfd.cloned(),
            };
            aio.waits.borrow_mut().insert(key, w);
            Ok(None)
        }
        _ => err(Errno::EINVAL),
    }
}

fn submit(cx: &mut Cx<'_>, aio: &Rc<Aio>, at: u64) -> Io<()> {
    let c = read_iocb(cx, at)?;
    if c.flags & !(FLAG_RESFD | FLAG_IOPRIO) != 0 && c.flags & FLAG_RESFD == 0 {
        return err(Errno::EINVAL);
    }
    if aio.busy() >= aio.most as usize {
        return err(Errno::EAGAIN);
    }
    let open = cx.task.files().get(c.fd)?;
    if open.flags.get() & crate::fdtable::oflag::O_PATH != 0 {
        return err(Errno::EBADF);
    }
    let resfd = if c.flags & FLAG_RESFD != 0 {
        let e = cx.task.files().get(c.resfd)?;
        if !e.file.as_any().is::<EventFd>() {
            return err(Errno::EINVAL);
        }
        Some(e)
    } else {
        None
    };
    // aio_key: what io_cancel looks for.
    cx.put(at + 8, &0u32)?;
    if let Some(result) = run(cx, aio, &c, &open, resfd.as_ref())? {
        aio.post(c.data, c.at, result, resfd.as_deref());
    }
    Ok(())
}

/// io_submit(2)
pub fn sys_io_submit(cx: &mut Cx<'_>, Ptr(id): Ptr, n: i64, list: Ptr) -> Io<u64> {
    if n < 0 {
        return err(Errno::EINVAL);
    }
    let aio = find(&cx.task.mm(), id)?;
    // A request that had to wait runs again; those before it are done.
    let mut done = cx.task.entity.progress.get();
    while done < (n as u64).min(u64::from(aio.most)) {
        let r = match cx.get::<u64>(list.0.wrapping_add(done * 8)) {
            Ok(at) => submit(cx, &aio, at),
            Err(e) => err(e),
        };
        match r {
            Ok(()) => done += 1,
            Err(Stop::Block(b)) => {
                cx.task.entity.progress.set(done);
                return Err(Stop::Block(b));
            }
            Err(_) if done > 0 => return Ok(done),
            Err(s) => return Err(s),
        }
    }
    Ok(done)
}

fn get_events(cx: &mut Cx<'_>, id: u64, min: i64, n: i64, out: u64, timeout: Ptr) -> Io<u64> {
    let at = if timeout.is_null() {
        None
    } else {
        let [sec, nsec]: [i64; 2] = cx.get(timeout.0)?;
        if sec < 0 || !(0..1_000_000_000).contains(&nsec) {
            return err(Errno::EINVAL);
        }
        let ns = (sec as u64)
            .saturating_mul(1_000_000_000)
            .saturating_add(nsec as u64);
        Some(cx.deadline_in(ns))
    };
    let aio = find(&cx.task.mm(), id)?;
    if min > n || min < 0 {
        return err(Errno::EINVAL);
    }
    let have = aio.done.borrow().len() as i64;
    let zero = at.is_some_and(|a| a <= cx.core.clock.last());
    if have < min && !cx.timed_out() && !zero && !aio.dead.get() {
        return match cx.wait_until(vec![aio.queue.on()], at, Restart::Never) {
            Stop::Interrupted(_) if have > 0 => give(cx, &aio, n, out),
            s => Err(s),
        };
    }
    give(cx, &aio, n, out)
}

fn give(cx: &mut Cx<'_>, aio: &Aio, n: i64, out: u64) -> Io<u64> {
    let mut given = 0;
    while given < n {
        let Some(event) = aio.done.borrow().front().copied() else {
            break;
        };
        if let Err(e) = cx.put(out.wrapping_add(given as u64 * 32), &event) {
            return if given > 0 { Ok(given as u64) } else { err(e) };
        }
        aio.done.borrow_mut().pop_front();
        given += 1;
    }
    Ok(given as u64)
}

/// io_getevents(2)
pub fn sys_io_getevents(cx: &mut Cx<'_>, Ptr(id): Ptr, min: i64, n: i64, out: Ptr, timeout: Ptr) -> Io<u64> {
    get_events(cx, id, min, n, out.0, timeout)
}

/// io_pgetevents(2)
pub fn sys_io_pgetevents(
    cx: &mut Cx<'_>,
    Ptr(id): Ptr,
    min: i64,
    n: i64,
    out: Ptr,
    timeout: Ptr,
    sig: Ptr,
) -> Io<u64> {
    let [mask, size]: [u64; 2] = if sig.is_null() { [0, 0] } else { cx.get(sig.0)? };
    with_mask(cx, Ptr(mask), size, |cx| {
        get_events(cx, id, min, n, out.0, timeout)
    })
}

/// io_cancel(2): a poll request ends with its event; nothing else is ever under way.
pub fn sys_io_cancel(cx: &mut Cx<'_>, Ptr(id): Ptr, iocb: Ptr, _result: Ptr) -> Io<u64> {
    let key: u32 = cx.get(iocb.0.wrapping_add(8))?;
    if key != 0 {
        return err(Errno::EINVAL);
    }
    let aio = find(&cx.task.mm(), id)?;
    let found = {
        let waits = aio.waits.borrow();
        waits.iter().find(|(_, w)| w.iocb == iocb.0).map(|(k, _)| *k)
    };
    match found {
        Some(k) => {
            aio.finish(k, 0);
            err(Errno::EINPROGRESS)
        }
        None => err(Errno::EINVAL),
    }
}
