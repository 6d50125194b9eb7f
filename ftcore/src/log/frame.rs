//! Header and frames. Writer and reader of the outer format are both here.
//!
//! The header is 64 bytes, the same in every version: magic, format version, coding, build id, image
//! id, checksum. A frame is a 32-byte head (magic, payload length, checksum of head and payload, image,
//! epoch, stream) and an rkyv archive of [`Batch`], validated on read. The horizon (PROTOCOL §3)
//! rides in every batch, so that a replica adds a peer and not a format.

use rkyv::rancor;
use std::fmt;

/// First bytes of every log.
pub const MAGIC: [u8; 8] = *b"FTVMLOG\x01";
/// Version of what follows the header.
pub const FORMAT: u32 = 2;
/// Bytes of the header.
pub const HEADER_LEN: usize = 64;
/// Bytes before a frame's payload.
pub const HEAD_LEN: usize = 32;
const FRAME_MAGIC: u32 = 0x4d52_4646;
/// No frame is longer: a larger length is damage. Only cuts make long ones.
pub const MAX_PAYLOAD: usize = 1 << 30;

/// What every version of ftvm can read of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Version of the format.
    pub format: u32,
    /// What follows the header.
    pub coding: Coding,
    /// Identity of the runtime that wrote it.
    pub build: [u8; 16],
    /// Identity of the image.
    pub image: u64,
}

/// How the frames of a segment are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coding {
    /// As they are.
    Plain,
    /// In [`super::block`]s, each compressed by itself with zstd.
    Zstd,
}

/// Why a header or frame is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The bytes end before it does: the normal end of a log whose writer died.
    Short,
    /// Not a log at all.
    NotALog,
    /// A log of another format version.
    Version(u32),
    /// The checksum does not fit.
    Checksum,
    /// The frame's head is damaged.
    Damaged,
    /// It belongs to another image.
    OtherImage(u64),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Short => write!(f, "the log ends in the middle of a frame"),
            FrameError::NotALog => write!(f, "this is not a log of ftvm (wrong magic)"),
            FrameError::Version(v) => {
                write!(
                    f,
                    "the log has format {v}, this ftvm reads {FORMAT}; use the ftvm that wrote it"
                )
            }
            FrameError::Checksum => write!(f, "a frame's checksum does not fit its bytes"),
            FrameError::Damaged => write!(f, "a frame is damaged"),
            FrameError::OtherImage(i) => write!(f, "a frame belongs to image {i:#x}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Records of one frame.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// Number of the first record in the log.
    pub position: u64,
    /// Number of records.
    pub count: u32,
    /// Entry up to which silence means "as predicted".
    pub horizon_e: u64,
    /// Virtual time up to which silence means "as predicted".
    pub horizon_v: u64,
    /// The records, by [`super::Coder`].
    pub bytes: Vec<u8>,
}

impl Header {
    /// The 64 bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut b = [0; HEADER_LEN];
        b[0..8].copy_from_slice(&MAGIC);
        b[8..12].copy_from_slice(&self.format.to_le_bytes());
        b[12] = match self.coding {
            Coding::Plain => 0,
            Coding::Zstd => 1,
        };
        b[16..32].copy_from_slice(&self.build);
        b[32..40].copy_from_slice(&self.image.to_le_bytes());
        let crc = crc32fast::hash(&b[..60]);
        b[60..64].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads and checks a header.
    pub fn parse(b: &[u8]) -> Result<Header, FrameError> {
        let b: &[u8; HEADER_LEN] = b.first_chunk().ok_or(FrameError::Short)?;
        if b[0..8] != MAGIC {
            return Err(FrameError::NotALog);
        }
        let u32_at = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| b[i + k]));
        if u32_at(60) != crc32fast::hash(&b[..60]) {
            return Err(FrameError::Checksum);
        }
        let format = u32_at(8);
        if format != FORMAT {
            return Err(FrameError::Version(format));
        }
        let coding = match b[12] {
            0 => Coding::Plain,
            1 => Coding::Zstd,
            _ => return Err(FrameError::Damaged),
        };
        Ok(Header {
            format,
            coding,
            build: std::array::from_fn(|k| b[16 + k]),
            image: u64::from_le_bytes(std::array::from_fn(|k| b[32 + k])),
        })
    }
}

/// Appends a frame.
pub fn write_frame(image: u64, epoch: u32, stream: u32, batch: &Batch, out: &mut Vec<u8>) {
    // Serialising into memory cannot fail.
    let Ok(payload) = rkyv::to_bytes::<rancor::Error>(batch) else {
        return;
    };
    let mut head = [0; HEAD_LEN];
    head[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    head[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[12..20].copy_from_slice(&image.to_le_bytes());
    head[20..24].copy_from_slice(&epoch.to_le_bytes());
    head[24..28].copy_from_slice(&stream.to_le_bytes());
    let crc = checksum(&head, &payload);
    head[8..12].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(&payload);
}

fn checksum(head: &[u8; HEAD_LEN], payload: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(&head[0..8]);
    h.update(&head[12..]);
    h.update(payload);
    h.finalize()
}

/// Reads the frame at the front of `src`: its batch, and how many bytes it took.
pub fn next_frame(src: &[u8], image: u64) -> Result<(Batch, usize), FrameError> {
    let head: &[u8; HEAD_LEN] = src.first_chunk().ok_or(FrameError::Short)?;
    let u32_at = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| head[i + k]));
    let len = u32_at(4) as usize;
    if u32_at(0) != FRAME_MAGIC || len > MAX_PAYLOAD {
        return Err(FrameError::Damaged);
    }
    let payload = src.get(HEAD_LEN..HEAD_LEN + len).ok_or(FrameError::Short)?;
    if u32_at(8) != checksum(head, payload) {
        return Err(FrameError::Checksum);
    }
    let of = u64::from_le_bytes(std::array::from_fn(|k| head[12 + k]));
    if of != image {
        return Err(FrameError::OtherImage(of));
    }
    // Archives want alignment, which a slice of a file does not promise.
    let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(len);
    aligned.extend_from_slice(payload);
    let batch = rkyv::from_bytes::<Batch, rancor::Error>(&aligned).map_err(|_| FrameError::Damaged)?;
    Ok((batch, HEAD_LEN + len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        let batch = Batch {
            position: 7,
            count: 2,
            horizon_e: 9,
            horizon_v: 10,
            bytes: vec![1, 2, 3, 4, 5],
        };
        write_frame(42, 1, 0, &batch, &mut out);
        out
    }

    #[test]
    fn a_frame_reads_back() {
        let bytes = sample();
        let (batch, n) = next_frame(&bytes, 42).expect("whole");
        assert_eq!(n, bytes.len());
        assert_eq!((batch.position, batch.bytes.len()), (7, 5));
        assert_eq!(next_frame(&bytes, 43), Err(FrameError::OtherImage(42)));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sample();
        for i in 0..bytes.len() * 8 {
            let mut b = bytes.clone();
            b[i / 8] ^= 1 << (i % 8);
            assert!(next_frame(&b, 42).is_err(), "bit {i}");
        }
        for n in 0..bytes.len() {
            assert_eq!(next_frame(&bytes[..n], 42), Err(FrameError::Short));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = next_frame(&bytes, 0);
            let _ = Header::parse(&bytes);
        }
    }
}
