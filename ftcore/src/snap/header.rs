//! The fixed parts: a header that every version of ftvm reads, and a trailer.

use super::{Hash, Root, SnapError};

const MAGIC: [u8; 8] = *b"FTSNAP\r\n";
const END_MAGIC: [u8; 8] = *b"FTSNAPnd";

/// Version of all that follows the header.
pub const FORMAT: u32 = 1;
/// Bytes of the header: one page, so that the pages behind it are aligned.
pub const HEADER_LEN: usize = 4096;
/// Bytes of the trailer.
pub const TRAILER_LEN: usize = 256;

const FACTS_LEN: usize = 256;
const VERSION_MAX: usize = 64;

const INCREMENTAL: u32 = 1;
const COMPRESSED: u32 = 2;
const ENCRYPTED: u32 = 4;
const EXTERNAL: u32 = 8;
const RUNTIME: u32 = 16;
const VOLUMES: u32 = 32;

/// How the key of an encrypted snapshot comes from a passphrase (Argon2id).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lock {
    /// Random, so that the key is this file's only.
    pub salt: [u8; 16],
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
}

/// What can be known of a snapshot without its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Build id: the only runtime that can take the pages.
    pub build: [u8; 16],
    /// Identity of the image.
    pub image: u64,
    /// Version of the ftvm that wrote it; at most 64 bytes are kept.
    pub version: String,
    /// `None`: a full snapshot.
    pub parent: Option<Root>,
    /// Pages are compressed.
    pub compressed: bool,
    /// All but header and trailer is encrypted.
    pub lock: Option<Lock>,
    /// Pages are not here but in the page store, by hash.
    pub external: bool,
    /// The runtime that wrote it is in it.
    pub with_runtime: bool,
    /// The contents of volumes are in it.
    pub with_volumes: bool,
}

impl Header {
    /// The first [`HEADER_LEN`] bytes of the file.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut b = [0; HEADER_LEN];
        let mut flags = 0;
        for (on, flag) in [
            (self.parent.is_some(), INCREMENTAL),
            (self.compressed, COMPRESSED),
            (self.lock.is_some(), ENCRYPTED),
            (self.external, EXTERNAL),
            (self.with_runtime, RUNTIME),
            (self.with_volumes, VOLUMES),
        ] {
            flags |= if on { flag } else { 0 };
        }
        b[0..8].copy_from_slice(&MAGIC);
        b[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        b[12..16].copy_from_slice(&(HEADER_LEN as u32).to_le_bytes());
        b[16..32].copy_from_slice(&self.build);
        b[32..40].copy_from_slice(&self.image.to_le_bytes());
        b[40..44].copy_from_slice(&flags.to_le_bytes());
        let version = kept(&self.version);
        b[44..48].copy_from_slice(&(version.len() as u32).to_le_bytes());
        b[48..48 + version.len()].copy_from_slice(version.as_bytes());
        b[112..144].copy_from_slice(&self.parent.unwrap_or_default());
        if let Some(lock) = &self.lock {
            b[144..160].copy_from_slice(&lock.salt);
            b[160..164].copy_from_slice(&lock.memory_kib.to_le_bytes());
            b[164..168].copy_from_slice(&lock.passes.to_le_bytes());
        }
        let crc = crc32fast::hash(&b[..FACTS_LEN - 4]);
        b[FACTS_LEN - 4..FACTS_LEN].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads and checks the first [`HEADER_LEN`] bytes. Of another format the error says which version
    /// of ftvm wrote it: magic, format, version and checksum stay where they are in every format.
    pub fn parse(bytes: &[u8]) -> Result<Header, SnapError> {
        let Some(b) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(match bytes.starts_with(&MAGIC) {
                true => SnapError::Truncated {
                    have: bytes.len() as u64,
                    need: (HEADER_LEN + TRAILER_LEN) as u64,
                },
                false => SnapError::NotASnapshot,
            });
        };
        if b[0..8] != MAGIC {
            return Err(SnapError::NotASnapshot);
        }
        let u32_at = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| b[i + k]));
        if u32_at(FACTS_LEN - 4) != crc32fast::hash(&b[..FACTS_LEN - 4]) {
            return Err(SnapError::Checksum("header"));
        }
        let damaged = |why| SnapError::Damaged { part: "header", why };
        let len = u32_at(44) as usize;
        let version = b
            .get(48..48 + len.min(VERSION_MAX + 1))
            .filter(|v| v.len() <= VERSION_MAX)
            .and_then(|v| std::str::from_utf8(v).ok())
            .filter(|v| !v.chars().any(char::is_control))
            .ok_or_else(|| damaged("its version is no text"))?;
        if u32_at(8) != FORMAT {
            return Err(SnapError::Format {
                format: u32_at(8),
                version: version.to_string(),
            });
        }
        let flags = u32_at(40);
        if u32_at(12) as usize != HEADER_LEN
            || flags & !(INCREMENTAL | COMPRESSED | ENCRYPTED | EXTERNAL | RUNTIME | VOLUMES) != 0
        {
            return Err(damaged("length or flags that this format does not have"));
        }
        let header = Header {
            build: std::array::from_fn(|k| b[16 + k]),
            image: u64::from_le_bytes(std::array::from_fn(|k| b[32 + k])),
            version: version.to_string(),
            parent: (flags & INCREMENTAL != 0).then(|| std::array::from_fn(|k| b[112 + k])),
            compressed: flags & COMPRESSED != 0,
            lock: (flags & ENCRYPTED != 0).then(|| Lock {
                salt: std::array::from_fn(|k| b[144 + k]),
                memory_kib: u32_at(160),
                passes: u32_at(164),
            }),
            external: flags & EXTERNAL != 0,
            with_runtime: flags & RUNTIME != 0,
            with_volumes: flags & VOLUMES != 0,
        };
        // Leftovers are an error: whatever is not a fact must be zero.
        if *b != header.to_bytes() {
            return Err(damaged("bytes that mean nothing"));
        }
        Ok(header)
    }

    /// Facts that belong to the identity.
    pub(super) fn identify(&self, h: &mut blake3::Hasher) {
        h.update(&FORMAT.to_le_bytes());
        h.update(&self.build);
        h.update(&self.image.to_le_bytes());
        let version = kept(&self.version);
        h.update(&(version.len() as u32).to_le_bytes());
        h.update(version.as_bytes());
        h.update(&[u8::from(self.parent.is_some()), u8::from(self.with_runtime)]);
        h.update(&self.parent.unwrap_or_default());
    }
}

/// As much of a version as a header holds.
pub(super) fn kept(version: &str) -> &str {
    let mut end = version.len().min(VERSION_MAX);
    while !version.is_char_boundary(end) {
        end -= 1;
    }
    &version[..end]
}

/// Where index and manifest are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Trailer {
    pub index_at: u64,
    pub index_len: u64,
    pub manifest_at: u64,
    pub manifest_len: u64,
    /// Of the index's bytes in the file.
    pub index_hash: Hash,
    /// Of the manifest's bytes in the file.
    pub manifest_hash: Hash,
    /// Of the header's bytes: a trailer belongs to one header.
    pub header_hash: Hash,
    pub root: Root,
}

impl Trailer {
    pub fn to_bytes(&self) -> [u8; TRAILER_LEN] {
        let mut b = [0; TRAILER_LEN];
        b[0..8].copy_from_slice(&END_MAGIC);
        for (i, v) in [self.index_at, self.index_len, self.manifest_at, self.manifest_len]
            .iter()
            .enumerate()
        {
            b[8 + i * 8..16 + i * 8].copy_from_slice(&v.to_le_bytes());
        }
        b[40..72].copy_from_slice(&self.index_hash);
        b[72..104].copy_from_slice(&self.manifest_hash);
        b[104..136].copy_from_slice(&self.header_hash);
        b[136..168].copy_from_slice(&self.root);
        let crc = crc32fast::hash(&b[..TRAILER_LEN - 4]);
        b[TRAILER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads and checks the trailer of a file of `len` bytes.
    pub fn parse(b: &[u8; TRAILER_LEN], len: u64) -> Result<Trailer, SnapError> {
        if b[0..8] != END_MAGIC {
            return Err(SnapError::Damaged {
                part: "trailer",
                why: "there is none: the file is cut off, or something was appended",
            });
        }
        let hash_at = |i: usize| -> Hash { std::array::from_fn(|k| b[i + k]) };
        let u64_at = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| b[i + k]));
        let t = Trailer {
            index_at: u64_at(8),
            index_len: u64_at(16),
            manifest_at: u64_at(24),
            manifest_len: u64_at(32),
            index_hash: hash_at(40),
            manifest_hash: hash_at(72),
            header_hash: hash_at(104),
            root: hash_at(136),
        };
        if *b != t.to_bytes() {
            return Err(SnapError::Checksum("trailer"));
        }
        // Index, manifest and trailer follow one another without a gap: nothing is hidden between them.
        let follows = t.index_at >= HEADER_LEN as u64
            && t.index_at.checked_add(t.index_len) == Some(t.manifest_at)
            && t.manifest_at
                .checked_add(t.manifest_len)
                .and_then(|v| v.checked_add(TRAILER_LEN as u64))
                == Some(len);
        if !follows {
            return Err(SnapError::Damaged {
                part: "trailer",
                why: "its offsets do not fit the file's length",
            });
        }
        Ok(t)
    }
}
