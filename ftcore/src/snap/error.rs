//! Why a snapshot is refused: which part of it, what is wrong, what to do.

use super::{Object, Root, hex};

/// A snapshot, or a chain of them, that cannot be used.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum SnapError {
    /// Not one of ours.
    #[error("this is not a snapshot of ftvm (wrong magic); name a file that ftvm checkpoint wrote")]
    NotASnapshot,
    /// The fixed part is damaged.
    #[error("the {0}'s checksum does not fit: the file is damaged; use another copy of it")]
    Checksum(&'static str),
    /// A later format.
    #[error(
        "the snapshot has format {format}, this ftvm reads {}; use ftvm {version}, which wrote it",
        super::FORMAT
    )]
    Format {
        /// Of the file.
        format: u32,
        /// Of the ftvm that wrote it.
        version: String,
    },
    /// The end is missing or is not one.
    #[error(
        "the snapshot is cut off: {have} bytes, {need} needed; its writer died, or the copy is not whole"
    )]
    Truncated {
        /// Bytes there are.
        have: u64,
        /// Bytes there should be.
        need: u64,
    },
    /// Structure.
    #[error("the snapshot's {part} is damaged: {why}; use another copy of it")]
    Damaged {
        /// Which part.
        part: &'static str,
        /// What does not fit.
        why: &'static str,
    },
    /// A page that is not what the index says.
    #[error(
        "page {index:#x} of the {object} is damaged: its bytes do not have the hash in the index; use another copy of the snapshot"
    )]
    Page {
        /// Whose.
        object: Object,
        /// Which.
        index: u64,
    },
    /// A page that the page store lacks.
    #[error(
        "page {index:#x} of the {object} is not in the page store; the store lost it, or the snapshot is of another machine: copy it as a file"
    )]
    Missing {
        /// Whose.
        object: Object,
        /// Which.
        index: u64,
    },
    /// The content is not what the trailer promises.
    #[error("the snapshot's content has root {}, its trailer says {}: it was put together from parts; use another copy", hex(.found), hex(.said))]
    Root {
        /// By its content.
        found: Root,
        /// By its trailer.
        said: Root,
    },
    /// No key.
    #[error("the snapshot is encrypted; give its passphrase with --passphrase-file")]
    Locked,
    /// Wrong key, or damage.
    #[error("the snapshot's {0} cannot be decrypted: the passphrase is wrong, or the file is damaged")]
    Sealed(&'static str),
    /// A chain that does not start with a full snapshot.
    #[error("the snapshot is incremental and its parent {} is not here; name the file that holds it, or restore from the page store", hex(.0))]
    NoParent(Root),
    /// A chain in the wrong order, or of different images.
    #[error("the snapshot's parent is {}, not {}; name the chain's files from the full one on", hex(.wanted), hex(.found))]
    WrongParent {
        /// What it names.
        wanted: Root,
        /// What was given.
        found: Root,
    },
    /// A full snapshot in the middle of a chain.
    #[error("the snapshot {} is a full one and needs no other before it; name it first", hex(.0))]
    NotIncremental(Root),
    /// A chain of different images.
    #[error("the snapshots are of different images ({0:016x} and {1:016x}); name files of one image")]
    OtherImage(u64, u64),
    /// The device.
    #[error("reading {len} bytes at {offset} of the snapshot: {why}")]
    Read {
        /// Where.
        offset: u64,
        /// How many.
        len: usize,
        /// What the host said.
        why: String,
    },
}
