//! The page that the supervisor and the guest processes share: how a signal gets in and an exit
//! status gets out. It is outside the image.

use crate::sys::{self, HostErr};
use ftl_core::layout::{PAGE, VCPU_BASE};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

const CONTROL_ADDR: u64 = VCPU_BASE + 0x2000_0000;

/// Contents of the page; all zero at first.
#[repr(C)]
pub struct Control {
    /// Bit n-1: signal n came from outside and was not taken yet.
    pub signals: AtomicU64,
    /// Host pid of the process that holds the token.
    pub holder: AtomicU32,
    /// 1: the image has begun, or goes on: all that could keep it from that is behind it.
    pub lives: AtomicU32,
    /// Wait status of the image's first process, plus one; 0 while it runs.
    pub status: AtomicI32,
    /// The image's first process has stopped: the supervisor stops too, for the user's shell.
    pub stop: AtomicU32,
    /// Host pid of the supervisor.
    pub supervisor: AtomicU32,
    /// Segments of the log that are full; with [`LOG_ENDS`], no more will come.
    pub closed: AtomicU32,
    /// Number of the log's last anchor that is whole.
    pub anchors: AtomicU32,
    /// Buffers of inputs are the host's: a log is kept.
    pub inputs_on_host: AtomicU32,
    /// The process that reads pages of the image from its snapshot.
    pub loader: crate::snap::lazy::Loading,
    /// Counts the changes of these two, for whoever waits for one.
    news: AtomicU32,
    /// Signals ignored, and blocked, when `ftvm` was started.
    pub ignored: AtomicU64,
    /// See `ignored`.
    pub blocked: AtomicU64,
    /// What a protected image, or a standby, says of itself (`protect::status`).
    pub figures: [AtomicU64; 64],
    /// When the CPU time that was used is paid for, ns of the host's monotonic clock ([`crate::quota`]).
    pub paid_until: AtomicU64,
    /// Sockets over which the supervisor gives descriptors to the image: its end, and the image's; plus one, 0: none.
    pub gifts: [AtomicI32; 2],
    /// What the supervisor wants of the image, and what came of it.
    pub order: Order,
    /// Why the last snapshot for a backup could not be taken; empty: nothing stood against it.
    pub no_backup: Text,
}

impl Control {
    /// The process that has the token from now on, for an image that begins or goes on.
    pub fn runs_in(&self, pid: u32) {
        self.holder.store(pid, std::sync::atomic::Ordering::Release);
        self.lives.store(1, std::sync::atomic::Ordering::Release);
    }

    /// Something of the log has changed.
    pub fn tell(&self) {
        self.news.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        sys::futex_wake(&self.news);
    }

    /// Count of changes, for [`Control::wait`]: to be asked before looking.
    pub fn news(&self) -> u32 {
        self.news.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Waits for a change since the count was `news`.
    pub fn wait(&self, news: u32) {
        sys::futex_wait(&self.news, news);
    }
}

/// See [`Control::closed`].
pub const LOG_ENDS: u32 = 1 << 31;
/// Longest path or message in an [`Order`].
pub const ORDER_TEXT: usize = 1024;

/// [`Order::state`]: nothing is wanted.
pub const ORDER_NONE: u32 = 0;
/// A snapshot to the path in the text is wanted.
pub const ORDER_SNAPSHOT: u32 = 1;
/// It was done; the text is empty.
pub const ORDER_DONE: u32 = 2;
/// It failed; the text says why.
pub const ORDER_FAILED: u32 = 3;
/// The agent whose address is in the text is to be the backup.
pub const ORDER_PROTECT: u32 = 4;
/// The image is to go on at the backup.
pub const ORDER_SWITCHOVER: u32 = 5;
/// A snapshot to the path in the text is wanted at entry [`Order::at`]; then the image ends.
pub const ORDER_SNAPSHOT_AT: u32 = 6;
/// The number of entries is wanted in the file of the text when the image ends.
pub const ORDER_COUNT: u32 = 7;
/// A look at what has changed is wanted, listed in the file of the text ([`crate::snap::rounds`]). [`Order::at`]: the
/// number of the look.
pub const ORDER_LOOK: u32 = 8;
/// The last one: the image stands still behind it.
pub const ORDER_STOP: u32 = 9;
/// It stands.
pub const ORDER_STOPPED: u32 = 10;
/// It is to go on here.
pub const ORDER_GO: u32 = 11;
/// It is to end here: it goes on elsewhere, or not at all.
pub const ORDER_END: u32 = 12;
/// No more looks follow.
pub const ORDER_FORGET: u32 = 13;
/// Standing, it is to write a snapshot in one go to the path in the text.
pub const ORDER_COPY: u32 = 14;

/// An anchor of the log is wanted.
pub const ORDER_ANCHOR: u32 = 15;

/// The image is to be recorded into the directory in the text.
pub const ORDER_RECORD: u32 = 16;
/// The recording is to end.
pub const ORDER_RECORD_END: u32 = 17;
/// The agent whose address is in the text is to be the backup in place of the one that there is.
pub const ORDER_REPLACE: u32 = 18;
/// A process is to start: what [`crate::exec`] has sent along says which.
pub const ORDER_EXEC: u32 = 19;
/// What the image says of itself is wanted in the file of the text ([`crate::hooks`]).
pub const ORDER_ABOUT: u32 = 20;

/// [`Order::how`]: the image goes on afterwards.
pub const HOW_GO_ON: u32 = 1;
/// Files of volumes may be open for writing: a restore takes them as they are then.
pub const HOW_SHARE: u32 = 2;
/// Connections of host sockets must not be cut: refused if there are any.
pub const HOW_KEEP: u32 = 4;
/// No snapshot, but a report of what cannot travel.
pub const HOW_DRY: u32 = 8;
/// The file need not survive a crash of the host.
pub const HOW_CARELESS: u32 = 16;
/// The file exists and is written where it is, not replaced.
pub const HOW_IN_PLACE: u32 = 32;
/// Only what has changed since the last snapshot of the run that was taken so, and the next goes on from this one.
pub const HOW_CHANGES: u32 = 64;
/// The ftvm that writes it is in it.
pub const HOW_RUNTIME: u32 = 128;
/// Whoever asked encrypts what it gets: nothing of it reaches a disk or a wire in the clear.
pub const HOW_SEALED: u32 = 256;
/// Whoever asked decides about volumes ([`crate::snap::volumes`]): open files in them stand against nothing here.
pub const HOW_VOLUMES: u32 = 512;
/// A look is short: what it has not come to is for the next one.
pub const HOW_SHORT: u32 = 1024;

/// A request to the process that holds the token. One at a time: the supervisor writes while the state is
/// not a wish, the holder while it is one.
#[repr(C)]
pub struct Order {
    /// One of the `ORDER_*` values.
    pub state: AtomicU32,
    /// How a snapshot is taken: `HOW_*`.
    pub how: AtomicU32,
    /// For [`ORDER_SNAPSHOT_AT`].
    pub at: AtomicU64,
    text: Text,
}

/// A text that others read.
#[repr(C)]
pub struct Text {
    len: AtomicU32,
    bytes: [std::sync::atomic::AtomicU8; ORDER_TEXT],
}

impl Text {
    /// The text.
    pub fn get(&self) -> Vec<u8> {
        let n = (self.len.load(Relaxed) as usize).min(ORDER_TEXT);
        self.bytes[..n].iter().map(|b| b.load(Relaxed)).collect()
    }

    /// Sets it. One that is too long is cut.
    pub fn set(&self, text: &[u8]) {
        let n = text.len().min(ORDER_TEXT);
        for (to, from) in self.bytes.iter().zip(&text[..n]) {
            to.store(*from, Relaxed);
        }
        self.len.store(n as u32, Relaxed);
    }
}

impl Order {
    /// The text.
    pub fn text(&self) -> Vec<u8> {
        self.text.get()
    }

    /// Sets text, then state, and wakes who waits for another one. A text that is too long is cut.
    pub fn set(&self, state: u32, text: &[u8]) {
        self.text.set(text);
        self.state.store(state, std::sync::atomic::Ordering::Release);
        sys::futex_wake(&self.state);
    }
}

const _: () = assert!(size_of::<Control>() <= PAGE as usize);

static IGNORED: AtomicU64 = AtomicU64::new(0);
static BLOCKED: AtomicU64 = AtomicU64::new(0);

/// Runs before Rust's own start-up, which ignores SIGPIPE: what the caller of `ftvm` had set.
extern "C" fn note_signals() {
    let mut ignored = 0;
    for s in 1..=64 {
        let mut act = [0u64; 4];
        // SAFETY: the array has the layout of the kernel's struct sigaction.
        let r = unsafe { sys::sys!(libc::SYS_rt_sigaction, s, 0, act.as_mut_ptr(), 8) };
        if r.is_ok() && act[0] == libc::SIG_IGN as u64 {
            ignored |= 1 << (s - 1);
        }
    }
    let mut mask = 0u64;
    // SAFETY: a mask of 8 bytes.
    let _ = unsafe { sys::sys!(libc::SYS_rt_sigprocmask, 0, 0, &raw mut mask, 8) };
    IGNORED.store(ignored, Relaxed);
    BLOCKED.store(mask, Relaxed);
}

#[used]
// SAFETY: the section is an array of functions that the C library calls before main.
#[unsafe(link_section = ".init_array")]
static NOTE_SIGNALS: extern "C" fn() = note_signals;

/// Signals that were ignored and blocked when `ftvm` was started, seen from a guest process.
pub fn inherited_signals() -> (u64, u64) {
    // SAFETY: the supervisor mapped the page.
    let c = unsafe { get() };
    (c.ignored.load(Relaxed), c.blocked.load(Relaxed))
}

static MAPPED: AtomicU32 = AtomicU32::new(0);

/// Maps the page, to be inherited by every process of the image. A standby has it already when it becomes
/// the image's supervisor.
pub fn map() -> Result<&'static Control, HostErr> {
    if MAPPED.swap(1, Relaxed) != 0 {
        // SAFETY: mapped by the first call.
        return Ok(unsafe { get() });
    }
    // SAFETY: NOREPLACE takes only free space.
    let mapped = unsafe {
        sys::mmap(
            CONTROL_ADDR,
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if let Err(e) = mapped {
        MAPPED.store(0, Relaxed);
        return Err(e);
    }
    // SAFETY: mapped, zeroed, shared, and made of atomics.
    let c = unsafe { get() };
    c.supervisor.store(std::process::id(), Relaxed);
    // Without it there is no `ftvm exec`, which then says so.
    let mut pair = [0i32; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: room for two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) } == 0 {
        c.gifts[0].store(pair[0] + 1, Relaxed);
        c.gifts[1].store(pair[1] + 1, Relaxed);
    }
    c.ignored.store(IGNORED.load(Relaxed), Relaxed);
    c.blocked.store(BLOCKED.load(Relaxed), Relaxed);
    Ok(c)
}

/// The image has ended, or is about to.
pub fn is_over() -> bool {
    // SAFETY: the page is mapped in the supervisor and in every process of an image.
    unsafe { get() }.status.load(Relaxed) != 0
}

/// This process ends with the supervisor, even if that has ended already.
///
/// And the supervisor, with all that it has made, may read its memory: for a snapshot the process that has the token reads that of the
/// others, which are its siblings. Yama lets a process without CAP_SYS_PTRACE, which nobody here keeps, read its
/// descendants only unless they say so (kernel.yama.ptrace_scope=1; PR_SET_PTRACER(2const)).
pub fn end_with_supervisor() {
    // SAFETY: plain calls; the page is mapped in every process of the image.
    unsafe {
        let _ = sys::sys!(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        let supervisor = get().supervisor.load(Relaxed);
        // EINVAL without Yama.
        let _ = sys::sys!(libc::SYS_prctl, libc::PR_SET_PTRACER, supervisor, 0, 0, 0);
        // It may have ended between our making and the line above: then nobody sends the signal.
        if sys::sys!(libc::SYS_getppid) != Ok(u64::from(get().supervisor.load(Relaxed))) {
            sys::exit(0);
        }
    }
}

/// In the supervisor: the image has begun, or has gone on, whatever became of it since.
pub fn lived() -> bool {
    // SAFETY: it is mapped.
    MAPPED.load(Relaxed) != 0 && unsafe { get() }.lives.load(std::sync::atomic::Ordering::Acquire) != 0
}

/// The page, if there is one here.
pub fn mapped() -> Option<&'static Control> {
    // SAFETY: mapped by us, or before stage 0, which leaves it.
    (MAPPED.load(Relaxed) != 0 || crate::stage0::in_place()).then(|| unsafe { get() })
}

/// A process of the image, whose descriptors all of them share; 0: there is none.
pub fn holder() -> u32 {
    mapped().map_or(0, |c| c.holder.load(std::sync::atomic::Ordering::Acquire))
}

/// The page.
///
/// # Safety
/// [`map`] was called in this process or an ancestor of it.
pub unsafe fn get() -> &'static Control {
    // SAFETY: by contract.
    unsafe { &*(CONTROL_ADDR as *const Control) }
}
