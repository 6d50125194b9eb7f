//! A request: what was submitted, and how far it is.
//!
//! It runs a system call's own handler, as the task that submitted it, from its start each time that something
//! it waits for has changed (I4). What the handler keeps between its runs is kept here and lent to the task
//! while it runs; so is the file, as a descriptor that no table has, and what submission has copied from the
//! guest, at addresses that no guest has.

use super::num::Sqe;
use super::ring::Ring;
use crate::cx::Cx;
use crate::fdtable::{LENT, OpenFile, oflag};
use crate::ptrace::remote;
use crate::task::{Creds, Task};
use ftl_core::io::IoVec;
use ftl_core::kcore::Lent;
use ftl_core::platform::Ns;
use ftl_core::timer::TimerKey;
use ftl_core::wait::{WaitQueue, Wake};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Where a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not started.
    New,
    /// Waits for queues or a time.
    Armed,
    /// Something has changed: it is on a list to run again.
    Ready,
    /// Its handler runs.
    Runs,
    /// Over.
    Done,
}

/// A request.
pub struct Job {
    /// Number, from 1 on.
    pub id: u64,
    /// As submitted; pointers to what was copied lead to `lent`.
    pub sqe: Cell<Sqe>,
    /// What a completion carries.
    pub user_data: Cell<u64>,
    /// Who submitted it, and runs it.
    pub task: Rc<Task>,
    /// IOSQE personality.
    pub creds: Option<Rc<Creds>>,
    /// The files that it works on.
    pub files: RefCell<[Option<Rc<OpenFile>>; 2]>,
    /// Buffers of readv, writev.
    pub iov: RefCell<IoVec>,
    /// What was copied from the guest.
    pub lent: RefCell<Vec<Lent>>,
    /// See [`State`].
    pub state: Cell<State>,
    /// Ends so instead of running.
    pub preset: Cell<Option<i32>>,
    /// Its chain was wrong when it was submitted: none of it runs.
    pub wrong: Cell<bool>,
    /// It has had its first run.
    pub begun: Cell<bool>,
    /// Never waits (RWF_NOWAIT, MSG_DONTWAIT).
    pub nowait: Cell<bool>,
    /// No completion while all is well.
    pub skip: Cell<bool>,
    /// The next of its chain.
    pub link: RefCell<Option<Rc<Job>>>,
    /// Its time limit, while both are under way; or, for the limit, whose it is.
    pub partner: RefCell<Option<Rc<Job>>>,
    /// Duration or deadline of timeouts, ns; [`Ring::sequence`] when one that counts began.
    pub time: Cell<(Ns, bool)>,
    /// See `time`.
    pub target: Cell<Option<u32>>,
    /// Queues that it listens at.
    pub waits: RefCell<Vec<WaitQueue>>,
    /// Its deadline.
    pub timer: Cell<Option<TimerKey>>,
    /// Why it runs again.
    pub wake: Cell<Wake>,
    /// Readiness that it was told of.
    pub woken: Cell<u32>,
    progress: Cell<u64>,
    deadline: Cell<Option<Ns>>,
    remote: RefCell<Option<Rc<remote::Job>>>,
}

impl Drop for Job {
    fn drop(&mut self) {
        // A long chain must not be dropped by recursion.
        let mut next = self.link.take();
        while let Some(j) = next {
            next = Rc::try_unwrap(j).ok().and_then(|j| j.link.take());
        }
    }
}

impl Job {
    /// A request that has not begun.
    pub fn new(ring: &Ring, sqe: Sqe, task: &Rc<Task>, creds: Option<Rc<Creds>>) -> Rc<Job> {
        Rc::new(Job {
            id: ring.new_id(),
            sqe: Cell::new(sqe),
            user_data: Cell::new(sqe.user_data),
            task: task.clone(),
            creds,
            files: RefCell::default(),
            iov: RefCell::default(),
            lent: RefCell::default(),
            state: Cell::new(State::New),
            preset: Cell::new(None),
            wrong: Cell::new(false),
            begun: Cell::new(false),
            nowait: Cell::new(false),
            skip: Cell::new(false),
            link: RefCell::default(),
            partner: RefCell::default(),
            time: Cell::new((0, false)),
            target: Cell::new(None),
            waits: RefCell::default(),
            timer: Cell::new(None),
            wake: Cell::new(Wake::Fresh),
            woken: Cell::new(0),
            progress: Cell::new(0),
            deadline: Cell::new(None),
            remote: RefCell::default(),
        })
    }

    /// Another run begins from nothing (multishot).
    pub fn again(&self) {
        self.wake.set(Wake::Fresh);
        self.progress.set(0);
        self.deadline.set(None);
    }

    /// The file of `fd`.
    pub fn file(&self) -> Option<Rc<OpenFile>> {
        self.files.borrow()[0].clone()
    }

    /// Keeps bytes for the handler: the address under which it finds them. What it writes there goes to
    /// `forward`, if that is not 0.
    pub fn lend(&self, bytes: Vec<u8>, forward: u64) -> u64 {
        let mut lent = self.lent.borrow_mut();
        let addr = ftl_core::kcore::LENT_BASE + ((lent.len() as u64) << 24);
        lent.push(Lent { addr, bytes, forward });
        addr
    }

    /// Runs `body` as the task that submitted the request, in whatever that task is doing now.
    pub fn run<T>(&self, cx: &mut Cx<'_>, body: impl FnOnce(&mut Cx<'_>) -> T) -> T {
        let e = self.task.entity.clone();
        let before = (e.wake.get(), e.progress.get(), e.deadline.get(), e.detached.get());
        e.wake.set(self.wake.get());
        e.progress.set(self.progress.get());
        e.deadline.set(self.deadline.get());
        e.detached.set(true);
        self.task.remote.swap(&self.remote);
        let files = self.task.files();
        let lent: Vec<Option<Rc<OpenFile>>> = self.files.borrow().to_vec();
        // Whether it waits is the request's choice, not the description's.
        let was: Vec<i32> = lent
            .iter()
            .map(|f| f.as_ref().map_or(0, |o| o.flags.get()))
            .collect();
        for o in lent.iter().flatten() {
            o.flags.set(o.flags.get() & !oflag::O_NONBLOCK);
        }
        let outer_files = files.lend(lent.clone());
        // A signalfd asks who reads.
        let reader = cx.k.current.try_borrow_mut().ok();
        let reader = reader.map(|mut c| c.replace(self.task.clone()));
        let outer = cx.core.lent.replace(self.lent.take());
        let creds = self.creds.clone().map(|c| self.task.creds.replace(c));
        let mut inner = Cx {
            env: ftl_core::kcore::Env {
                plat: &mut *cx.env.plat,
                core: cx.env.core,
            },
            k: cx.k,
            task: self.task.clone(),
        };
        let result = body(&mut inner);
        if let Some(c) = creds {
            self.task.creds.replace(c);
        }
        self.lent.replace(cx.core.lent.replace(outer));
        files.lend(outer_files);
        if let Some(was) = reader {
            *cx.k.current.borrow_mut() = was;
        }
        for (o, flags) in lent.iter().zip(was) {
            if let Some(o) = o {
                let bit = flags & oflag::O_NONBLOCK;
                o.flags.set(o.flags.get() & !oflag::O_NONBLOCK | bit);
            }
        }
        self.task.remote.swap(&self.remote);
        self.progress.set(e.progress.get());
        self.deadline.set(e.deadline.get());
        let (wake, progress, deadline, detached) = before;
        e.wake.set(wake);
        e.progress.set(progress);
        e.deadline.set(deadline);
        e.detached.set(detached);
        result
    }

    /// Descriptor of its `n`th file while it runs.
    pub const fn fd(n: i32) -> i32 {
        LENT + n
    }
}
