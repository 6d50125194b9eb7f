//! What primary and backup say to each other. Writer and reader are both here.
//!
//! A frame is a head of [`HEAD_LEN`] bytes, the same in every version, and a body. The head carries all of
//! {image, epoch, session, from, position, H, ack}: a machine decides by it alone whether the frame is for it.
//! The link below is ordered and authenticated (TLS over TCP), so damage means a bug or an attack: the reader
//! refuses with a reason and the caller closes the link. Lengths are bounded by kind before a byte of the body
//! is kept.
//!
//! | field | from the primary | from the backup |
//! |---|---|---|
//! | position | records before this frame's own | records held without a gap |
//! | h | horizon promised | horizon held |
//! | ack | records known to be acknowledged | last snapshot in place |
//! | released | number of the last output that left | snapshot that came whole and is being put in place, or 0 |
//!
//! Only [`Body::Ack`] acknowledges: a backup that is not (or no longer) ready says other things only.

use super::arbiter::Member;
use super::gate::{Class, Marks, Output};
use super::{Mark, Time};
use crate::log::Wire;
use crate::log::wire::{put_list, take_list};
use std::fmt;

/// Bytes of the head.
pub const HEAD_LEN: usize = 112;
/// Version of the bodies.
pub const VERSION: u16 = 1;
/// A Records body is at most one log frame of the largest kind, or several that are smaller.
pub const MAX_RECORDS: usize = crate::log::frame::MAX_PAYLOAD + 4096;
/// A BaseChunk body.
pub const MAX_CHUNK: usize = 4 << 20;
/// A BaseEnd or Final body: contexts and manifest.
pub const MAX_MANIFEST: usize = 64 << 20;
/// Any other body.
pub const MAX_SMALL: usize = 4096;
const MAGIC: u32 = 0x4c50_4646;

/// Why the other side is told to go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// It has left the in-sync set: come back as a new incarnation.
    Detached,
    /// The session cannot be resumed: come back as a new incarnation.
    Gap,
    /// Another build of the runtime: its snapshots do not fit.
    Build,
    /// No common version of this protocol.
    Version,
    /// The image has ended and its exit is committed: there is nothing to take over.
    Ended,
    /// There is a backup already.
    Taken,
}

const REASONS: [Reason; 6] = [
    Reason::Detached,
    Reason::Gap,
    Reason::Build,
    Reason::Version,
    Reason::Ended,
    Reason::Taken,
];

/// What a frame says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Body {
    /// Backup: here I am; first on every link. The head's session and position are what it would resume.
    Hello {
        /// Lowest version of bodies that it understands.
        min_version: u16,
        /// Highest.
        max_version: u16,
        /// Its runtime.
        build: [u8; 16],
    },
    /// Primary: the head's session is yours.
    Welcome {
        /// Version of the bodies from here on.
        version: u16,
        /// An old session goes on; otherwise a full snapshot follows.
        resume: bool,
    },
    /// Primary: log frames, as [`crate::log::frame`] writes them.
    Records {
        /// Records in them.
        count: u32,
        /// The frames.
        bytes: Vec<u8>,
    },
    /// Primary: pages of a snapshot follow. An unfinished one is dropped.
    BaseBegin {
        /// Its number; they grow.
        snap: u64,
        /// The snapshot that it completes; 0: it is whole.
        parent: u64,
    },
    /// Primary: some pages, in the runtime's encoding. Later ones win.
    BaseChunk {
        /// Of which snapshot.
        snap: u64,
        /// Counts from 0.
        seq: u32,
        /// Pages.
        bytes: Vec<u8>,
    },
    /// Primary: the snapshot is complete.
    BaseEnd {
        /// Which.
        snap: u64,
        /// Chunks that it had.
        chunks: u32,
        /// Records before it and its logical time.
        mark: Mark,
        /// Outputs before it.
        marks: Marks,
        /// Contexts, hashes: the runtime's.
        manifest: Vec<u8>,
    },
    /// Backup: the head's position and horizon are in memory.
    Ack {
        /// FINAL is among it.
        finished: bool,
    },
    /// Either: nothing new; the head says it all.
    Heartbeat,
    /// Primary: the image is stopped here for good, take over. The head's position is the log's end.
    Final {
        /// Logical time at which it stopped.
        at: Time,
        /// What the runtime wants to hand over besides (link state, names).
        manifest: Vec<u8>,
    },
    /// Primary: this session is over.
    Detach {
        /// Why.
        reason: Reason,
    },
    /// Either: for operators.
    Status {
        /// A line of text.
        text: String,
    },
}

/// A frame.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Frame {
    /// Image.
    pub image: u64,
    /// Epoch of the sender.
    pub epoch: u32,
    /// Session; 0: none yet.
    pub session: u64,
    /// Sender.
    pub from: Member,
    /// See the module's table.
    pub position: u64,
    /// See the module's table.
    pub h: Time,
    /// See the module's table.
    pub ack: u64,
    /// See the module's table.
    pub released: u64,
    /// What it says.
    pub body: Body,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The bytes end before it does: this many are needed, as far as can be told.
    Short(usize),
    /// Not a frame at all.
    Magic,
    /// A kind that this version does not know.
    Kind(u8),
    /// Longer than its kind may be.
    Length {
        /// Its kind.
        kind: u8,
        /// Its length.
        len: u32,
    },
    /// The checksum does not fit.
    Checksum,
    /// The body is not of its kind.
    Body(u8),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Short(n) => write!(f, "the peer's frame is incomplete: {n} bytes are needed"),
            Refused::Magic => write!(f, "the peer does not speak ftvm's replica protocol (wrong magic)"),
            Refused::Kind(k) => write!(
                f,
                "the peer sent a frame of unknown kind {k}; use the same ftvm on both sides"
            ),
            Refused::Length { kind, len } => write!(
                f,
                "the peer sent a frame of kind {kind} with {len} bytes, which is too long"
            ),
            Refused::Checksum => write!(f, "the peer's frame is damaged (checksum)"),
            Refused::Body(k) => write!(f, "the peer's frame of kind {k} has a damaged body"),
        }
    }
}

impl std::error::Error for Refused {}

impl Body {
    fn kind(&self) -> u8 {
        match self {
            Body::Hello { .. } => 1,
            Body::Welcome { .. } => 2,
            Body::Records { .. } => 3,
            Body::BaseBegin { .. } => 4,
            Body::BaseChunk { .. } => 5,
            Body::BaseEnd { .. } => 6,
            Body::Ack { .. } => 7,
            Body::Heartbeat => 8,
            Body::Final { .. } => 9,
            Body::Detach { .. } => 10,
            Body::Status { .. } => 11,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Body::Hello {
                min_version,
                max_version,
                build,
            } => {
                out.extend_from_slice(&min_version.to_le_bytes());
                out.extend_from_slice(&max_version.to_le_bytes());
                out.extend_from_slice(build);
            }
            Body::Welcome { version, resume } => {
                out.extend_from_slice(&version.to_le_bytes());
                resume.put(out);
            }
            // The bytes stand last and without a length: the head has it.
            Body::Records { count, bytes } => {
                out.extend_from_slice(&count.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Body::BaseBegin { snap, parent } => {
                snap.put(out);
                parent.put(out);
            }
            Body::BaseChunk { snap, seq, bytes } => {
                snap.put(out);
                seq.put(out);
                out.extend_from_slice(bytes);
            }
            Body::BaseEnd {
                snap,
                chunks,
                mark,
                marks,
                manifest,
            } => {
                snap.put(out);
                chunks.put(out);
                [mark.position, mark.at.e, mark.at.v, marks.outputs].put(out);
                put_list(&marks.streams, out);
                put_list(&marks.held, out);
                out.extend_from_slice(manifest);
            }
            Body::Ack { finished } => finished.put(out),
            Body::Heartbeat => {}
            Body::Final { at, manifest } => {
                at.e.put(out);
                at.v.put(out);
                out.extend_from_slice(manifest);
            }
            Body::Detach { reason } => out.push(REASONS.iter().position(|r| r == reason).unwrap_or(0) as u8),
            Body::Status { text } => out.extend_from_slice(text.as_bytes()),
        }
    }

    /// Takes the whole of `src`: leftovers are an error.
    fn take(kind: u8, mut src: &[u8]) -> Option<Body> {
        let src = &mut src;
        let body = match kind {
            1 => Body::Hello {
                min_version: u16::from_le_bytes(fixed(src)?),
                max_version: u16::from_le_bytes(fixed(src)?),
                build: fixed(src)?,
            },
            2 => Body::Welcome {
                version: u16::from_le_bytes(fixed(src)?),
                resume: Wire::take(src)?,
            },
            3 => Body::Records {
                count: u32::from_le_bytes(fixed(src)?),
                bytes: std::mem::take(src).to_vec(),
            },
            4 => Body::BaseBegin {
                snap: Wire::take(src)?,
                parent: Wire::take(src)?,
            },
            5 => Body::BaseChunk {
                snap: Wire::take(src)?,
                seq: Wire::take(src)?,
                bytes: std::mem::take(src).to_vec(),
            },
            6 => {
                let (snap, chunks) = (Wire::take(src)?, Wire::take(src)?);
                let [position, e, v, outputs] = Wire::take(src)?;
                Body::BaseEnd {
                    snap,
                    chunks,
                    mark: Mark {
                        position,
                        at: Time { e, v },
                    },
                    marks: Marks {
                        outputs,
                        streams: take_list(src)?,
                        held: take_list(src)?,
                    },
                    manifest: std::mem::take(src).to_vec(),
                }
            }
            7 => Body::Ack {
                finished: Wire::take(src)?,
            },
            8 => Body::Heartbeat,
            9 => Body::Final {
                at: Time {
                    e: Wire::take(src)?,
                    v: Wire::take(src)?,
                },
                manifest: std::mem::take(src).to_vec(),
            },
            10 => Body::Detach {
                reason: *REASONS.get(usize::from(u8::take(src)?))?,
            },
            11 => Body::Status {
                text: std::str::from_utf8(std::mem::take(src)).ok()?.to_owned(),
            },
            _ => return None,
        };
        src.is_empty().then_some(body)
    }
}

impl Wire for Class {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Class::Tcp { key } => {
                out.push(0);
                key.put(out);
            }
            Class::Udp => out.push(1),
            Class::Stream { stream } => {
                out.push(2);
                stream.put(out);
            }
            Class::Volume => out.push(3),
            Class::Exit => out.push(4),
        }
    }
    fn take(src: &mut &[u8]) -> Option<Class> {
        Some(match u8::take(src)? {
            0 => Class::Tcp {
                key: Wire::take(src)?,
            },
            1 => Class::Udp,
            2 => Class::Stream {
                stream: Wire::take(src)?,
            },
            3 => Class::Volume,
            4 => Class::Exit,
            _ => return None,
        })
    }
}

impl Wire for Output {
    fn put(&self, out: &mut Vec<u8>) {
        [self.number, self.offset].put(out);
        self.class.put(out);
        self.again.put(out);
        self.bytes.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Output> {
        let [number, offset] = Wire::take(src)?;
        Some(Output {
            number,
            offset,
            class: Wire::take(src)?,
            again: Wire::take(src)?,
            bytes: Wire::take(src)?,
        })
    }
}

fn fixed<const N: usize>(src: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = src.split_first_chunk()?;
    *src = rest;
    Some(*head)
}

/// Longest body of a kind; `None`: unknown.
fn limit(kind: u8) -> Option<usize> {
    Some(match kind {
        3 => MAX_RECORDS,
        5 => MAX_CHUNK + 16,
        6 | 9 => MAX_MANIFEST + MAX_SMALL,
        1..=11 => MAX_SMALL,
        _ => return None,
    })
}

impl Frame {
    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEAD_LEN, 0);
        self.body.put(out);
        let len = out.len() - start - HEAD_LEN;
        let h = &mut out[start..];
        h[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        h[4] = self.body.kind();
        h[8..12].copy_from_slice(&(len as u32).to_le_bytes());
        h[16..24].copy_from_slice(&self.image.to_le_bytes());
        h[24..28].copy_from_slice(&self.epoch.to_le_bytes());
        h[32..40].copy_from_slice(&self.session.to_le_bytes());
        h[40..48].copy_from_slice(&self.from.node.to_le_bytes());
        h[48..64].copy_from_slice(&self.from.inc.to_le_bytes());
        for (i, v) in [self.position, self.h.e, self.h.v, self.ack, self.released]
            .iter()
            .enumerate()
        {
            h[64 + 8 * i..72 + 8 * i].copy_from_slice(&v.to_le_bytes());
        }
        let crc = checksum(h);
        h[12..16].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the frame at the front of `src`, and how many bytes it took. After anything but `Short` the link
    /// must be closed: what follows is not a frame's start.
    pub fn decode(src: &[u8]) -> Result<(Frame, usize), Refused> {
        let h: &[u8; HEAD_LEN] = src.first_chunk().ok_or(Refused::Short(HEAD_LEN))?;
        let u32_at = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| h[i + k]));
        let u64_at = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| h[i + k]));
        if u32_at(0) != MAGIC {
            return Err(Refused::Magic);
        }
        let (kind, len) = (h[4], u32_at(8));
        if len as usize > limit(kind).ok_or(Refused::Kind(kind))? {
            return Err(Refused::Length { kind, len });
        }
        let end = HEAD_LEN + len as usize;
        let whole = src.get(..end).ok_or(Refused::Short(end))?;
        if u32_at(12) != checksum(whole) {
            return Err(Refused::Checksum);
        }
        let frame = Frame {
            image: u64_at(16),
            epoch: u32_at(24),
            session: u64_at(32),
            from: Member {
                node: u64_at(40),
                inc: u128::from(u64_at(48)) | u128::from(u64_at(56)) << 64,
            },
            position: u64_at(64),
            h: Time {
                e: u64_at(72),
                v: u64_at(80),
            },
            ack: u64_at(88),
            released: u64_at(96),
            body: Body::take(kind, &whole[HEAD_LEN..]).ok_or(Refused::Body(kind))?,
        };
        Ok((frame, end))
    }
}

/// Over all but the checksum's own bytes.
fn checksum(frame: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(&frame[..12]);
    h.update(&frame[16..]);
    h.finalize()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body() -> impl Strategy<Value = Body> {
        let b = || proptest::collection::vec(any::<u8>(), 0..80);
        let time = || any::<(u64, u64)>().prop_map(|(e, v)| Time { e, v });
        let streams = proptest::collection::vec(any::<(u32, u64)>(), 0..4);
        let class = prop_oneof![
            any::<Option<(u64, u32)>>().prop_map(|key| Class::Tcp { key }),
            Just(Class::Udp),
            any::<u32>().prop_map(|stream| Class::Stream { stream }),
            Just(Class::Volume),
            Just(Class::Exit),
        ];
        let output =
            (any::<(u64, u64, bool)>(), class, b()).prop_map(|((number, offset, again), class, bytes)| {
                Output {
                    number,
                    class,
                    offset,
                    again,
                    bytes,
                }
            });
        let marks = (any::<u64>(), streams, proptest::collection::vec(output, 0..3)).prop_map(
            |(outputs, streams, held)| Marks {
                outputs,
                streams,
                held,
            },
        );
        prop_oneof![
            any::<(u16, u16, [u8; 16])>().prop_map(|(min_version, max_version, build)| Body::Hello {
                min_version,
                max_version,
                build
            }),
            any::<(u16, bool)>().prop_map(|(version, resume)| Body::Welcome { version, resume }),
            (any::<u32>(), b()).prop_map(|(count, bytes)| Body::Records { count, bytes }),
            any::<(u64, u64)>().prop_map(|(snap, parent)| Body::BaseBegin { snap, parent }),
            (any::<(u64, u32)>(), b()).prop_map(|((snap, seq), bytes)| Body::BaseChunk { snap, seq, bytes }),
            (any::<(u64, u32, u64)>(), time(), marks, b()).prop_map(
                |((snap, chunks, position), at, marks, manifest)| {
                    Body::BaseEnd {
                        snap,
                        chunks,
                        mark: Mark { position, at },
                        marks,
                        manifest,
                    }
                }
            ),
            any::<bool>().prop_map(|finished| Body::Ack { finished }),
            Just(Body::Heartbeat),
            (time(), b()).prop_map(|(at, manifest)| Body::Final { at, manifest }),
            (0..6usize).prop_map(|i| Body::Detach { reason: REASONS[i] }),
            "[a-z ä]{0,20}".prop_map(|text| Body::Status { text }),
        ]
    }

    pub fn frame() -> impl Strategy<Value = Frame> {
        (any::<(u64, u32, u64, u64, u128)>(), any::<[u64; 5]>(), body()).prop_map(
            |((image, epoch, session, node, inc), n, body)| Frame {
                image,
                epoch,
                session,
                from: Member { node, inc },
                position: n[0],
                h: Time { e: n[1], v: n[2] },
                ack: n[3],
                released: n[4],
                body,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frames in proptest::collection::vec(frame(), 0..5)) {
            let mut bytes = Vec::new();
            for f in &frames {
                f.encode(&mut bytes);
            }
            let mut src = bytes.as_slice();
            for f in &frames {
                let (got, n) = Frame::decode(src).expect("whole");
                prop_assert_eq!(&got, f);
                src = &src[n..];
            }
            prop_assert_eq!(Frame::decode(src), Err(Refused::Short(HEAD_LEN)));
        }

        #[test]
        fn every_flipped_bit_and_every_cut_is_refused(f in frame(), at in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            f.encode(&mut bytes);
            let cut = at.index(bytes.len());
            prop_assert!(matches!(Frame::decode(&bytes[..cut]), Err(Refused::Short(n)) if n > cut));
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::decode(&bytes).is_err());
        }

        /// An attacker computes the checksum: bodies are hostile even then.
        #[test]
        fn a_hostile_body_never_panics(kind in 0u8..14, body in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = vec![0; HEAD_LEN];
            bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[4] = kind;
            bytes[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&body);
            let crc = checksum(&bytes);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
            match Frame::decode(&bytes) {
                Ok((f, n)) => {
                    prop_assert_eq!(n, bytes.len());
                    prop_assert_eq!(f.body.kind(), kind);
                }
                Err(e) => prop_assert!(matches!(e, Refused::Kind(_) | Refused::Body(_)), "{}", e),
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Frame::decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_length_is_refused_before_its_bytes_come() {
        let mut bytes = vec![0; HEAD_LEN];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4] = 7;
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            Frame::decode(&bytes),
            Err(Refused::Length {
                kind: 7,
                len: u32::MAX
            })
        );
    }
}
