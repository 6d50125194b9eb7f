//! Snapshots as data: the file format `.ftsnap`, its writer and reader, chains of them.
//!
//! A snapshot is the whole image at a kernel exit (DESIGN §8): pages, and a [`Manifest`] of all that
//! is not pages. A page is named by its [`Object`] and its index there (address or offset / 4096).
//!
//! ```text
//! 0        header   4096 bytes, readable by every version
//! 4096     pages    as they are, each at a multiple of 4096, so that a restore can map them;
//!                   or in records (compressed, encrypted) of at most 64 pages
//!          index    which page is where, and the BLAKE3 hash of each; zero pages; dropped ones
//!          manifest rkyv
//!          trailer  256 bytes: where index and manifest are, their hashes, the root
//! ```
//!
//! * **Identity**: the [`Root`] hashes what the snapshot says (header facts, manifest, every page's
//!   name and hash), not how it is stored: packed, encrypted, or moved into the page store it stays
//!   the same snapshot. An incremental one names its parent by it.
//! * **A page pushed twice counts as pushed last**, so a writer can copy in rounds.
//! * **Absent** pages are zero, or in a space what its mapping's file shows. An incremental snapshot
//!   says that a page became absent again by *dropping* it.
//! * **Nothing is used unchecked**: opening checks header, trailer, index, manifest and root; reading
//!   checks each page. Lengths are bounded before anything is allocated.
//!
//! Pure: bytes go out through a closure and come in through [`ReadAt`]. Where they are kept, when they
//! are durable, and where keys come from is the runtime's business.

mod chain;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod forge;
mod header;
mod index;
mod manifest;
mod read;
pub mod tree;
mod write;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

pub use chain::{Chain, Pieces};
pub use error::SnapError;
pub use header::{FORMAT, HEADER_LEN, Header, Lock, TRAILER_LEN};
pub use index::{Place, RECORD_PAGES, Run, State};
pub use manifest::{
    ClockState, Created, HandleKind, HandleState, Manifest, MappedFile, RuntimeImage, VolumePolicy,
    VolumeState,
};
pub use read::{PageSource, ReadAt, Snapshot};
pub use write::{Stats, Writer};

use crate::layout::PAGE;

/// Bytes of a page.
pub const PAGE_LEN: usize = PAGE as usize;

/// BLAKE3 of a page.
pub type Hash = [u8; 32];

/// Puts the hash of each page into its place: [`hash_pages`], or what does the same faster where it may.
pub type HashPages = fn(&[[u8; PAGE_LEN]], &mut [Hash]);

/// The hash of each page, in order, one page after the other.
pub fn hash_pages(pages: &[[u8; PAGE_LEN]], hashes: &mut [Hash]) {
    for (page, hash) in pages.iter().zip(hashes) {
        *hash = *blake3::hash(page).as_bytes();
    }
}

/// Identity of a snapshot.
pub type Root = [u8; 32];

/// Highest page index + 1: nothing in a process lies higher.
pub const MAX_PAGE: u64 = 1 << (47 - 12);

/// Whose pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Object {
    /// The image arena.
    Arena,
    /// The page store: files in the image, shared memory.
    Store,
    /// Private memory of the guest process with this number.
    Space(u32),
    /// The ftvm that wrote the snapshot (`--with-runtime`), as its file's bytes.
    Runtime,
    /// Contents of the files of volumes ([`tree`]).
    Volumes,
}

impl Object {
    fn code(self) -> (u8, u32) {
        match self {
            Object::Arena => (0, 0),
            Object::Store => (1, 0),
            Object::Space(n) => (2, n),
            Object::Runtime => (3, 0),
            Object::Volumes => (4, 0),
        }
    }

    fn from_code(kind: u8, number: u32) -> Option<Object> {
        match (kind, number) {
            (0, 0) => Some(Object::Arena),
            (1, 0) => Some(Object::Store),
            (2, n) => Some(Object::Space(n)),
            (3, 0) => Some(Object::Runtime),
            (4, 0) => Some(Object::Volumes),
            _ => None,
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Object::Arena => write!(f, "arena"),
            Object::Store => write!(f, "page store"),
            Object::Space(n) => write!(f, "process {n}"),
            Object::Runtime => write!(f, "runtime"),
            Object::Volumes => write!(f, "volumes"),
        }
    }
}

/// Authenticated encryption of a file's records, with a key that is used for this file only.
pub trait Cipher {
    /// Encrypts `bytes` in place and appends the tag. `number` never repeats within a file.
    fn seal(&self, number: u64, aad: &[u8], bytes: &mut Vec<u8>);
    /// The reverse. False if the bytes are not what was sealed with this number and `aad`.
    fn open(&self, number: u64, aad: &[u8], bytes: &mut Vec<u8>) -> bool;
}

/// Most bytes that [`Cipher::seal`] may add.
pub const SEAL_OVERHEAD: usize = 64;

/// True if all bytes are zero.
pub fn is_zero(page: &[u8]) -> bool {
    // Words first: a page of a program is seldom zero, and then the first few tell.
    let (words, rest) = page.as_chunks::<16>();
    words.iter().all(|w| u128::from_ne_bytes(*w) == 0) && rest.iter().all(|b| *b == 0)
}

/// The 64 hexadecimal digits of an identity.
pub fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}
