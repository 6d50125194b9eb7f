//! The two doors of an image in each mode (DESIGN §1): every query and every input passes here.
//!
//! [`Doors`] wraps the live platform. In `run` it adds a branch; in `record` each answer that was not
//! predicted goes to the log; in `replay` the live platform is not asked at all, the log answers, and
//! what would have left the image is compared with what did.
//!
//! Memory and address-space methods pass through in every mode: their effects are determined by the
//! image (I1).

pub mod cut;
mod pass;
pub mod record;
pub mod replay;
pub mod start;

use crate::alloc::{self, Side};
use crate::platform::Plat;
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

/// Which query an answer belongs to. The numbers are part of the log's format: add at the end.
#[allow(missing_docs)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Ask {
    Entropy = 1,
    StreamKind,
    OutStream,
    TtyIoctl,
    Open,
    Stat,
    StatAt,
    ReadlinkAt,
    Pread,
    PreadGuest,
    Pwrite,
    List,
    Truncate,
    Allocate,
    Sync,
    MkdirAt,
    UnlinkAt,
    RenameAt,
    LinkAt,
    SymlinkAt,
    MknodAt,
    Chmod,
    Chown,
    Utimens,
    Statfs,
    NetPresent,
    NetSocket,
    NetBind,
    NetListen,
    NetConnect,
    NetSend,
    NetSendTo,
    NetShutdown,
    NetSetOption,
    NetGetOption,
    NetLocal,
    NetUnsent,
    NetInterfaces,
    MappedFile,
    ListAt,
    ChmodAt,
    ChownAt,
    UtimensAt,
    StatfsAt,
    Seek,
    LinkOpen,
    Resident,
    Xattr,
    Reopen,
}

impl Doors {
    /// A query whose answer cannot be predicted.
    fn ask<T: Wire>(&mut self, what: Ask, live: impl FnOnce(&mut Plat) -> T) -> T {
        match &mut self.mode {
            Mode::Run => live(&mut self.live),
            Mode::Record(r) => {
                let v = live(&mut self.live);
                let _side = alloc::enter(Side::Host);
                r.answer(what as u16, &v, false);
                v
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
        match &mut self.mode {
            Mode::Run => live(&mut self.live),
            Mode::Record(r) => {
                let v = live(&mut self.live);
                let _side = alloc::enter(Side::Host);
                let hit = v == expected;
                r.answer(what as u16, &v, hit);
                v
            }
            Mode::Replay(r) => r.answer_or(what as u16, expected),
        }
    }

    /// Something that only has an effect on the world: nothing in replay.
    fn tell(&mut self, live: impl FnOnce(&mut Plat)) {
        if !matches!(self.mode, Mode::Replay(_)) {
            live(&mut self.live);
        }
    }

    /// Bytes that leave the image: part of what replay compares.
    fn leaves(&mut self, tag: u64, bytes: &[u8]) {
        match &mut self.mode {
            Mode::Run => {}
            Mode::Record(r) => r.out.add(tag, bytes),
            Mode::Replay(r) => r.out.add(tag, bytes),
        }
    }

    /// True while a log answers instead of the world.
    pub fn replaying(&self) -> bool {
        matches!(self.mode, Mode::Replay(_))
    }

    /// The inputs that absorb point `point` takes, out of what has arrived or from the log.
    pub fn inputs_at(&mut self, point: u64) -> Vec<(Stamp, Input)> {
        match &mut self.mode {
            Mode::Replay(r) => r.absorb(point),
            mode => {
                let inputs: Vec<_> = self.live.inputs.drain(..).collect();
                if let Mode::Record(r) = mode
                    && !inputs.is_empty()
                {
                    let _side = alloc::enter(Side::Host);
                    r.absorb(point, &inputs);
                }
                inputs
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

/// Running hash over everything that left the image: FNV-1a over words, order-sensitive, portable.
#[derive(Clone, Copy, Debug)]
pub struct OutHash(pub u64);

impl Default for OutHash {
    fn default() -> OutHash {
        OutHash(0xcbf2_9ce4_8422_2325)
    }
}

impl OutHash {
    /// Adds bytes that left through object `tag`.
    pub fn add(&mut self, tag: u64, bytes: &[u8]) {
        let mut h = self.0 ^ tag;
        let mut chunks = bytes.chunks_exact(8);
        for c in &mut chunks {
            let w = u64::from_le_bytes(std::array::from_fn(|i| c[i]));
            h = (h ^ w).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        for b in chunks.remainder() {
            h = (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
        self.0 = h;
    }
}
