//! Wait queues, and the part of a task that the scheduler sees.
//!
//! A handler that cannot go on returns a [`Block`] that names the queues whose change may help
//! (I4: blocking is a value). The scheduler enters the task's [`Entity`] into them; a wake takes it
//! out of all of them and makes it runnable, and the handler then runs again from its start with
//! the [`Wake`] reason at hand. All of it runs under the image's token, so there is no lost wake-up
//! between a check and its block.
//!
//! Order: waiters wake first in, first out; every order here is image state.

use crate::io::Restart;
use crate::platform::Ns;
use bitflags::bitflags;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

bitflags! {
    /// Readiness, in the bits of poll(2) and epoll(7).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Poll: u32 {
        /// Data to read.
        const IN = 0x1;
        /// Urgent data.
        const PRI = 0x2;
        /// Room to write.
        const OUT = 0x4;
        /// Error; always reported.
        const ERR = 0x8;
        /// Hang-up; always reported.
        const HUP = 0x10;
        /// Not open (poll only).
        const NVAL = 0x20;
        /// Same as IN.
        const RDNORM = 0x40;
        /// Priority band.
        const RDBAND = 0x80;
        /// Same as OUT.
        const WRNORM = 0x100;
        /// Priority band.
        const WRBAND = 0x200;
        /// The peer shut down its writing half.
        const RDHUP = 0x2000;
    }
}

/// EPOLL_URING_WAKE, beside the bits of [`Poll`]: a completion of io_uring woke the queue. A multishot poll request
/// that this wakes is over, so that what watches itself comes to rest.
pub const URING_WAKE: u32 = 1 << 27;

/// Number of a guest thread as the guest sees it (gettid).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Tid(pub u32);

/// Number of an address space; the runtime keeps one host process for each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SpaceId(pub u32);

/// Whether a task can run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// In the run queue or running.
    Runnable,
    /// Waiting as its last [`Block`] says.
    Blocked,
    /// Stopped by a job-control signal; wakes are remembered.
    Stopped,
    /// Never runs again.
    Dead,
}

/// Why a blocked handler runs again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// First run of the call.
    Fresh,
    /// A queue it waited on was woken.
    Event,
    /// Its deadline passed.
    Timeout,
    /// A signal is to be delivered.
    Signal,
}

/// One queue of a [`Block`].
#[derive(Debug)]
pub struct On {
    /// Where to wait.
    pub queue: WaitQueue,
    /// Only wakes that share a bit with it count.
    pub mask: u32,
    /// Woken one at a time, as accept and exclusive epoll do.
    pub exclusive: bool,
}

/// What a task waits for.
#[derive(Debug)]
pub struct Block {
    /// Any of these.
    pub on: Vec<On>,
    /// Or this time on the virtual monotonic clock.
    pub deadline: Option<Ns>,
    /// What an interrupting signal does.
    pub restart: Restart,
    /// False: signals do not end the wait (vfork's parent).
    pub interruptible: bool,
}

/// A task as the scheduler knows it.
#[derive(Debug)]
pub struct Entity {
    /// The guest's number for it.
    pub tid: Tid,
    /// Its address space.
    pub space: Cell<SpaceId>,
    /// Whether it runs.
    pub state: Cell<State>,
    /// Why it was last woken.
    pub wake: Cell<Wake>,
    /// Deadline of the current call, kept over re-runs of the handler.
    pub deadline: Cell<Option<Ns>>,
    /// True while a signal may end the wait.
    pub interruptible: Cell<bool>,
    /// Bytes that the current call has moved before it blocked (write to a full pipe).
    pub progress: Cell<u64>,
    /// A wake that came while stopped.
    pub woken_while_stopped: Cell<bool>,
    /// A handler runs for it apart from its own call (io_uring): signals are not that handler's business.
    pub detached: Cell<bool>,
    /// Distinguishes this wait from earlier ones for timers.
    pub ticket: Cell<u64>,
    queued: Cell<bool>,
    nodes: RefCell<Vec<Rc<Node>>>,
    run: RunQueue,
}

#[derive(Debug)]
struct Node {
    entity: Weak<Entity>,
    home: RefCell<Option<WaitQueue>>,
}

/// Runnable tasks, first in, first out.
#[derive(Clone, Debug, Default)]
pub struct RunQueue(Rc<RefCell<VecDeque<Rc<Entity>>>>);

impl RunQueue {
    /// An empty queue.
    pub fn new() -> RunQueue {
        RunQueue::default()
    }
    /// Appends a runnable task unless it is queued.
    pub fn push(&self, e: &Rc<Entity>) {
        if !e.queued.replace(true) {
            self.0.borrow_mut().push_back(e.clone());
        }
    }
    /// Takes the next task that can run.
    pub fn pop(&self) -> Option<Rc<Entity>> {
        loop {
            let e = self.0.borrow_mut().pop_front()?;
            e.queued.set(false);
            if e.state.get() == State::Runnable {
                return Some(e);
            }
        }
    }
    /// Brings the `n`th waiting task to the front.
    pub fn prefer(&self, n: usize) {
        let mut list = self.0.borrow_mut();
        if let Some(e) = list.remove(n) {
            list.push_front(e);
        }
    }
    /// Number of waiting tasks.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }
    /// Puts a task at the front: it was taken but could not run yet.
    pub fn unpop(&self, e: &Rc<Entity>) {
        if !e.queued.replace(true) {
            self.0.borrow_mut().push_front(e.clone());
        }
    }
    /// True if some other task waits for the CPU.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

impl Entity {
    /// A new runnable task, not yet queued.
    pub fn new(tid: Tid, space: SpaceId, run: &RunQueue) -> Rc<Entity> {
        Rc::new(Entity {
            tid,
            space: Cell::new(space),
            state: Cell::new(State::Runnable),
            wake: Cell::new(Wake::Fresh),
            deadline: Cell::new(None),
            interruptible: Cell::new(false),
            progress: Cell::new(0),
            woken_while_stopped: Cell::new(false),
            detached: Cell::new(false),
            ticket: Cell::new(0),
            queued: Cell::new(false),
            nodes: RefCell::new(Vec::new()),
            run: run.clone(),
        })
    }

    /// Enters the wait that `block` describes. Timers are the scheduler's business.
    pub fn block(self: &Rc<Entity>, block: &Block) {
        self.ticket.set(self.ticket.get() + 1);
        self.state.set(State::Blocked);
        self.interruptible.set(block.interruptible);
        let mut nodes = self.nodes.borrow_mut();
        for on in &block.on {
            let node = Rc::new(Node {
                entity: Rc::downgrade(self),
                home: RefCell::new(Some(on.queue.clone())),
            });
            on.queue.0.waiters.borrow_mut().push_back(Waiter {
                who: Who::Task(node.clone()),
                mask: on.mask,
                exclusive: on.exclusive,
            });
            nodes.push(node);
        }
    }

    /// Ends the wait, if there is one. False if the task was not waiting.
    pub fn wake_up(self: &Rc<Entity>, why: Wake) -> bool {
        match self.state.get() {
            State::Blocked => {}
            State::Stopped => {
                // The first reason stands; it is delivered by SIGCONT.
                if !self.woken_while_stopped.replace(true) {
                    self.wake.set(why);
                }
                return false;
            }
            State::Runnable | State::Dead => return false,
        }
        self.leave_queues();
        self.wake.set(why);
        self.state.set(State::Runnable);
        self.run.push(self);
        true
    }

    /// Takes the task out of every queue it waits in.
    pub fn leave_queues(&self) {
        let nodes = std::mem::take(&mut *self.nodes.borrow_mut());
        for node in nodes {
            if let Some(queue) = node.home.borrow_mut().take() {
                queue.0.waiters.borrow_mut().retain(|w| match &w.who {
                    Who::Task(n) => !Rc::ptr_eq(n, &node),
                    Who::Listener(..) => true,
                });
            }
        }
    }

    /// Ends whatever wait or stop the task is in: it is about to be killed.
    pub fn kill(self: &Rc<Entity>) {
        if self.state.get() != State::Dead {
            self.leave_queues();
            self.wake.set(Wake::Signal);
            self.state.set(State::Runnable);
            self.run.push(self);
        }
    }

    /// Queues the task to run if it can.
    pub fn enqueue(self: &Rc<Entity>) {
        if self.state.get() == State::Runnable {
            self.run.push(self);
        }
    }
}

/// Something that is told of wakes without being a task: an epoll instance.
pub trait Listener {
    /// The queue registered under `key` was woken for `mask`.
    fn notify(&self, key: u64, mask: u32);
    /// Somebody will act on it: an exclusive wake that reached this listener needs no other. A
    /// listener that nobody waits for is told but does not count (ep_poll_callback's result).
    fn takes(&self, _mask: u32) -> bool {
        true
    }
}

#[derive(Debug)]
struct Waiter {
    who: Who,
    mask: u32,
    exclusive: bool,
}

enum Who {
    Task(Rc<Node>),
    Listener(Weak<dyn Listener>, u64),
}

impl std::fmt::Debug for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::Task(_) => f.write_str("Task"),
            Who::Listener(_, key) => write!(f, "Listener({key})"),
        }
    }
}

/// Tasks and listeners that wait for one object to change.
#[derive(Clone, Debug, Default)]
pub struct WaitQueue(Rc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiters: RefCell<VecDeque<Waiter>>,
}

impl WaitQueue {
    /// An empty queue.
    pub fn new() -> WaitQueue {
        WaitQueue::default()
    }

    /// Same object?
    pub fn same(&self, other: &WaitQueue) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.waiters.borrow().is_empty()
    }

    /// Number of waiting tasks.
    pub fn len(&self) -> usize {
        self.0.waiters.borrow().len()
    }

    /// Entry of a [`Block`] for any wake.
    pub fn on(&self) -> On {
        On {
            queue: self.clone(),
            mask: u32::MAX,
            exclusive: false,
        }
    }

    /// Entry of a [`Block`] for wakes that share a bit with `mask`.
    pub fn on_mask(&self, mask: u32) -> On {
        On {
            queue: self.clone(),
            mask,
            exclusive: false,
        }
    }

    /// Entry of a [`Block`] that is woken one at a time.
    pub fn on_exclusive(&self, mask: u32) -> On {
        On {
            queue: self.clone(),
            mask,
            exclusive: true,
        }
    }

    /// Wakes every shared waiter and up to `exclusive` exclusive ones whose mask meets `mask`.
    /// Listeners are told and stay. Returns how many tasks woke.
    pub fn wake(&self, exclusive: usize, mask: u32) -> usize {
        if self.0.waiters.borrow().is_empty() {
            return 0;
        }
        if let Some((l, key)) = self.only_listener(exclusive) {
            // The common case of a socket in one epoll set, without allocating.
            l.notify(key, mask);
            return 0;
        }
        let mut tasks = Vec::new();
        let mut listeners = Vec::new();
        let mut left = exclusive;
        self.0.waiters.borrow_mut().retain(|w| {
            if w.mask & mask == 0 {
                return true;
            }
            match &w.who {
                Who::Listener(l, key) => match l.upgrade() {
                    Some(l) if w.exclusive && left == 0 => {
                        drop(l);
                        true
                    }
                    Some(l) => {
                        left -= usize::from(w.exclusive && l.takes(mask));
                        listeners.push((l, *key));
                        true
                    }
                    None => false,
                },
                Who::Task(_) if w.exclusive && left == 0 => true,
                Who::Task(node) => {
                    left -= usize::from(w.exclusive);
                    node.home.borrow_mut().take();
                    if let Some(e) = node.entity.upgrade() {
                        tasks.push(e);
                    }
                    false
                }
            }
        });
        let n = tasks.len();
        for t in tasks {
            t.wake_up(Wake::Event);
        }
        for (l, key) in listeners {
            l.notify(key, mask);
        }
        n
    }

    /// The waiter, if it is one live listener for everything and nobody else.
    fn only_listener(&self, exclusive: usize) -> Option<(Rc<dyn Listener>, u64)> {
        let waiters = self.0.waiters.borrow();
        match (waiters.len(), waiters.front()) {
            (1, Some(w)) if w.mask == u32::MAX && (!w.exclusive || exclusive > 0) => match &w.who {
                Who::Listener(l, key) => Some((l.upgrade()?, *key)),
                Who::Task(_) => None,
            },
            _ => None,
        }
    }

    /// Wakes every waiter for the given readiness.
    pub fn notify(&self, mask: Poll) {
        self.wake(1, mask.bits());
    }

    /// Wakes all, exclusive ones too.
    pub fn wake_all(&self) -> usize {
        self.wake(usize::MAX, u32::MAX)
    }

    /// Wakes at most `n` tasks in order, whatever they are (futexes). An exclusive listener stands for a task.
    pub fn wake_n(&self, n: usize, mask: u32) -> usize {
        let mut tasks = Vec::new();
        let mut listeners = Vec::new();
        self.0.waiters.borrow_mut().retain(|w| {
            if tasks.len() + listeners.len() == n || w.mask & mask == 0 {
                return true;
            }
            match &w.who {
                Who::Task(node) => {
                    node.home.borrow_mut().take();
                    tasks.extend(node.entity.upgrade());
                    false
                }
                Who::Listener(l, key) => {
                    if let Some(l) = l.upgrade().filter(|_| w.exclusive) {
                        listeners.push((l, *key));
                    }
                    true
                }
            }
        });
        for (l, key) in &listeners {
            l.notify(*key, mask);
        }
        tasks.iter().filter(|t| t.wake_up(Wake::Event)).count() + listeners.len()
    }

    /// Moves at most `n` waiting tasks to `to` without waking them (FUTEX_REQUEUE).
    pub fn requeue(&self, n: usize, to: &WaitQueue) -> usize {
        if self.same(to) {
            return self.len().min(n);
        }
        let mut moved = 0;
        let mut rest = VecDeque::new();
        let mut from = self.0.waiters.borrow_mut();
        let mut into = to.0.waiters.borrow_mut();
        for w in from.drain(..) {
            match &w.who {
                Who::Task(node) if moved < n => {
                    *node.home.borrow_mut() = Some(to.clone());
                    into.push_back(w);
                    moved += 1;
                }
                _ => rest.push_back(w),
            }
        }
        *from = rest;
        moved
    }

    /// Registers a listener until [`WaitQueue::forget`] or its death.
    pub fn listen(&self, listener: Weak<dyn Listener>, key: u64, mask: u32, exclusive: bool) {
        self.0.waiters.borrow_mut().push_back(Waiter {
            who: Who::Listener(listener, key),
            mask,
            exclusive,
        });
    }

    /// Removes the listener's registration under `key`.
    pub fn forget(&self, listener: &Weak<dyn Listener>, key: u64) {
        self.0
            .waiters
            .borrow_mut()
            .retain(|w| !matches!(&w.who, Who::Listener(l, k) if *k == key && Weak::ptr_eq(l, listener)));
    }
}
