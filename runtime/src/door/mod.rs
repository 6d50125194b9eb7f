//! The two doors of an image in each mode (DESIGN §1): every query and every input passes here.
//!
//! [`Doors`] wraps the live platform. In `run` it adds a branch; in `record` each answer that was not
//! predicted goes to the log; in `replay` the live platform is not asked at all, the log answers, and
//! what would have left the image is compared with what did.
//!
//! Memory and address-space methods pass through in every mode: their effects are determined by the
//! image (I1).

pub mod anchor;
pub mod checker;
pub mod compare;
pub mod cut;
pub mod files;
pub mod keep;
pub mod marks;
pub mod memory;
mod pass;
pub mod read;
pub mod record;
pub mod replay;
pub mod running;
pub mod start;
pub mod zip;

use crate::alloc::{self, Side};
use crate::platform::Plat;
use crate::protect::golive::Takeover;
use crate::protect::guard::Guard;
use ftl_core::door::{Input, Stamp};
use ftl_core::log::Wire;
use record::Recorder;
use replay::Replayer;

/// What the doors do with the log.
pub enum Mode {
    /// No log.
    Run,
    /// Append to it.
    Record(Box<Recorder>),
    /// Take from it.
    Replay(Box<Replayer>),
}

/// The doors.
pub struct Doors {
    /// The world.
    pub live: Plat,
    /// The log.
    pub mode: Mode,
    /// The first program has been loaded.
    pub loaded: bool,
    /// The image is protected.
    pub guard: Option<Box<Guard>>,
    /// The replay goes on live at its end.
    pub takeover: Option<Box<Takeover>>,
    /// It has: the kernel is to be told.
    pub just_live: bool,
    /// How long the last cut took, ns.
    pub cut_ns: u64,
}

impl std::ops::Deref for Doors {
    type Target = Plat;
    fn deref(&self) -> &Plat {
        &self.live
    }
}

impl std::ops::DerefMut for Doors {
    fn deref_mut(&mut self) -> &mut Plat {
        &mut self.live
    }
}

macro_rules! queries {
    ($($name:ident)*) => {
        /// Which query an answer belongs to. The numbers are part of the log's format: add at the end.
        #[allow(missing_docs)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub enum Ask {
            /// No query has this number.
            #[allow(dead_code)]
            None,
            $($name,)*
        }

        impl Ask {
            /// Numbers, 0 included.
            pub const COUNT: usize = 1 + [$(stringify!($name)),*].len();
            /// Name of the query with this number.
            pub fn name(n: u16) -> &'static str {
                const NAMES: &[&str] = &["None", $(stringify!($name),)*];
                NAMES.get(usize::from(n)).copied().unwrap_or("unknown")
            }
        }
    };
}

queries! {
    Entropy
    StreamKind
    OutStream
    TtyIoctl
    Open
    Stat
    StatAt
    ReadlinkAt
    Pread
    PreadGuest
    Pwrite
    List
    Truncate
    Allocate
    Sync
    MkdirAt
    UnlinkAt
    RenameAt
    LinkAt
    SymlinkAt
    MknodAt
    Chmod
    Chown
    Utimens
    Statfs
    NetPresent
    NetSocket
    NetBind
    NetListen
    NetConnect
    NetSend
    NetSendTo
    NetShutdown
    NetSetOption
    NetGetOption
    NetLocal
    NetUnsent
    NetInterfaces
    MappedFile
    ListAt
    ChmodAt
    ChownAt
    UtimensAt
    StatfsAt
    Seek
    LinkOpen
    Resident
    Xattr
    Reopen
    Lock
    LockTest
    Flock
    Layer
    NetBindAt
    NetConnectAt
    NetSendAt
    NetBoundAt
}

impl Doors {
    /// A query whose answer cannot be predicted.
    fn ask<T: Wire>(&mut self, what: Ask, live: impl FnOnce(&mut Plat) -> T) -> T {
        compare::scrub();
        let v = self.ask_now(what, live);
        compare::scrub();
        v
    }

    // Not inlined, nor the next one: what they have on the stack is below their callers.
    #[inline(never)]
    fn ask_now<T: Wire>(&mut self, what: Ask, live: impl FnOnce(&mut Plat) -> T) -> T {
        // A takeover's log ends: what was not predicted is the new world's to answer.
        self.live_if_starved();
        match &mut self.mode {
            Mode::Run => live(&mut self.live),
            Mode::Record(r) => {
                let bytes = {
                    let _side = alloc::enter(Side::Host);
                    let v = live(&mut self.live);
                    r.answer(what, &v, false)
                };
                // From the log's bytes, as in replay: the image makes the same allocations.
                let v = bytes.and_then(|b| taken(&b));
                v.unwrap_or_else(|| crate::run::fail_stop("an answer does not read back"))
            }
            Mode::Replay(r) => r.answer(what as u16),
        }
    }

    /// A query whose answer is predicted: only another one is logged.
    fn ask_expecting<T: Wire + PartialEq>(
        &mut self,
        what: Ask,
        expected: T,
        live: impl FnOnce(&mut Plat) -> T,
    ) -> T {
        compare::scrub();
        let v = self.ask_expecting_now(what, expected, live);
        compare::scrub();
        v
    }

    #[inline(never)]
    fn ask_expecting_now<T: Wire + PartialEq>(
        &mut self,
        what: Ask,
        expected: T,
        live: impl FnOnce(&mut Plat) -> T,
    ) -> T {
        match &mut self.mode {
            Mode::Run => live(&mut self.live),
            Mode::Record(r) => {
                let bytes = {
                    let _side = alloc::enter(Side::Host);
                    let v = live(&mut self.live);
                    let hit = v == expected;
                    r.answer(what, &v, hit)
                };
                bytes.and_then(|b| taken(&b)).unwrap_or(expected)
            }
            Mode::Replay(r) => r.answer_or(what as u16, expected),
        }
    }

    /// A query whose answer may be predicted. In a takeover whose log ends the prediction holds, as what has left after it may
    /// depend on it.
    fn ask_again<T: Wire + PartialEq>(
        &mut self,
        what: Ask,
        expected: Option<T>,
        live: impl FnOnce(&mut Plat) -> T,
    ) -> T {
        match expected {
            Some(expected) => self.ask_expecting(what, expected, live),
            None => self.ask(what, live),
        }
    }

    /// Something that only has an effect on the world: nothing in replay.
    fn tell(&mut self, live: impl FnOnce(&mut Plat)) {
        match self.mode {
            Mode::Replay(_) => compare::scrub(),
            Mode::Run => live(&mut self.live),
            Mode::Record(_) => alloc::on(Side::Host, || live(&mut self.live)),
        }
    }

    /// Bytes that leave the image: part of what replay compares.
    fn leaves(&mut self, tag: u64, bytes: &[u8]) {
        match &mut self.mode {
            Mode::Run => {}
            Mode::Record(r) => r.out.add(tag, bytes),
            Mode::Replay(r) => {
                r.leaves(tag, bytes);
                compare::scrub();
            }
        }
    }

    fn checks_memory(&self) -> bool {
        match &self.mode {
            Mode::Run => false,
            Mode::Record(r) => r.check_memory,
            Mode::Replay(r) => r.check_memory,
        }
    }

    /// With `--check-memory`: what the space that is about to go holds joins the running hash.
    fn check_space(&mut self) {
        if self.checks_memory() {
            let hash = alloc::on(Side::Host, memory::of_space);
            self.leaves(memory::TAG, &hash.to_le_bytes());
        }
    }

    /// The same of what the image's spaces have shared, at its end.
    pub fn check_store(&mut self) {
        if self.checks_memory() {
            let fd = self.live.pages_fd;
            let hash = alloc::on(Side::Host, || memory::of_store(fd));
            self.leaves(memory::TAG, &hash.to_le_bytes());
        }
    }

    /// True while a log answers instead of the world.
    pub fn replaying(&self) -> bool {
        matches!(self.mode, Mode::Replay(_))
    }

    /// The inputs that absorb point `point` takes, out of what has arrived or from the log.
    pub fn inputs_at(&mut self, point: u64) -> Vec<(Stamp, Input)> {
        compare::scrub();
        let inputs = self.inputs_now(point);
        compare::scrub();
        inputs
    }

    #[inline(never)]
    fn inputs_now(&mut self, point: u64) -> Vec<(Stamp, Input)> {
        match &mut self.mode {
            Mode::Replay(r) => r.absorb(point),
            mode => {
                let Mode::Record(r) = mode else {
                    return self.live.inputs.drain(..).collect();
                };
                if self.live.inputs.is_empty() {
                    return Vec::new();
                }
                let _side = alloc::enter(Side::Host);
                let inputs = self.live.inputs.make_contiguous();
                r.absorb(point, inputs);
                let own = alloc::on(Side::Image, || inputs.to_vec());
                self.live.inputs.clear();
                self.turn_begins();
                own
            }
        }
    }

    /// An idle image is about to wait: what was logged a while ago becomes durable.
    pub fn flush_if_due(&mut self) {
        if let Mode::Record(r) = &mut self.mode {
            let now = self.live.clock.now();
            if now.wrapping_sub(r.flushed_at) > FLUSH_NS {
                let _side = alloc::enter(Side::Host);
                r.flushed_at = now;
                r.flush();
            }
        }
    }
}

/// Longest time that a record waits for company before its frame is written, while the image idles.
pub const FLUSH_NS: u64 = 20_000_000;

/// A value out of the bytes that the log has for it; the caller's side keeps it.
fn taken<T: Wire>(bytes: &[u8]) -> Option<T> {
    T::take(&mut &*bytes)
}

/// Running hash over everything that left the image: words mixed in by multiplications (as FNV-1a does bytes), in four lanes,
/// order-sensitive, portable.
#[derive(Clone, Copy, Debug)]
pub struct OutHash {
    /// The hash.
    pub hash: u64,
    /// How many outputs it covers: the moment that it is of.
    pub count: u64,
}

impl Default for OutHash {
    fn default() -> OutHash {
        OutHash {
            hash: 0xcbf2_9ce4_8422_2325,
            count: 0,
        }
    }
}

impl OutHash {
    /// Adds bytes that left through object `tag`.
    pub fn add(&mut self, tag: u64, bytes: &[u8]) {
        let step = |h: u64, w: u64| (h ^ w).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        self.count += 1;
        let mut h = self.hash ^ tag;
        // A multiplication waits for the one before it in its lane only.
        let (blocks, rest) = bytes.as_chunks::<32>();
        if !blocks.is_empty() {
            let mut lanes = [h, !h, h.rotate_left(32), !h.rotate_left(32)];
            for b in blocks {
                for (lane, w) in lanes.iter_mut().zip(b.as_chunks::<8>().0) {
                    *lane = step(*lane, u64::from_le_bytes(*w));
                }
            }
            h = lanes.into_iter().fold(h, step);
        }
        let (words, tail) = rest.as_chunks::<8>();
        h = words.iter().fold(h, |h, w| step(h, u64::from_le_bytes(*w)));
        if !tail.is_empty() {
            let mut last = [0; 8];
            last[..tail.len()].copy_from_slice(tail);
            last[7] = tail.len() as u8;
            h = step(h, u64::from_le_bytes(last));
        }
        self.hash = h;
    }
}
