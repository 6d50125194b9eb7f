//! What a snapshot holds beside pages. Archived by rkyv, validated on read.

use super::{Root, SnapError};
use rkyv::rancor;

/// A host object that the image names by a handle, as far as it can be had again elsewhere.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct HandleState {
    /// Name within the image.
    pub handle: u64,
    /// What it is.
    pub kind: HandleKind,
}

/// Kinds of host objects.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Eq, Debug)]
pub enum HandleKind {
    /// A file of the host; size and mtime tell whether it is still the one that was open.
    File {
        /// Path on the host.
        path: Vec<u8>,
        /// O_* that it was opened with.
        flags: i32,
        /// Device.
        dev: u64,
        /// Inode.
        ino: u64,
        /// Bytes.
        size: u64,
        /// Last change of content, ns since 1970.
        mtime_ns: i64,
    },
    /// One of ftvm's own streams (standard input, output, error, terminal).
    Stream {
        /// Descriptor at start.
        index: u8,
        /// The runtime's number for its kind.
        kind: u8,
    },
    /// A listening TCP socket.
    Listener {
        /// `struct sockaddr_*`.
        addr: Vec<u8>,
        /// Of listen(2).
        backlog: i32,
        /// Level, name, value of options that were set.
        options: Vec<(i32, i32, Vec<u8>)>,
    },
    /// A TCP connection of the host: it ends with the host's socket (`--tcp close`).
    Connection {
        /// Our side.
        local: Vec<u8>,
        /// The other.
        peer: Vec<u8>,
        /// Level, name, value of options that were set.
        options: Vec<(i32, i32, Vec<u8>)>,
    },
    /// A UDP socket.
    Datagram {
        /// Bound to; empty: not bound.
        addr: Vec<u8>,
        /// Connected to; empty: not connected.
        peer: Vec<u8>,
        /// Level, name, value of options that were set.
        options: Vec<(i32, i32, Vec<u8>)>,
    },
    /// What only the runtime of the same build reads.
    Opaque(Vec<u8>),
}

/// The image's clocks at the snapshot.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClockState {
    /// MONOTONIC, ns; goes on from here.
    pub mono: u64,
    /// REALTIME - MONOTONIC, ns.
    pub real_offset: u64,
    /// BOOTTIME - MONOTONIC, ns.
    pub boot_offset: u64,
}

/// Time of the host when the snapshot was taken.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Created {
    /// Seconds since 1970.
    pub s: i64,
    /// And nanoseconds.
    pub ns: u32,
}

/// A file of the host that private mappings show: clean pages of it are not in the snapshot.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct MappedFile {
    /// Path on the host.
    pub path: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub blake3: [u8; 32],
}

/// What happens to a volume's content.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub enum VolumePolicy {
    /// The checkpoint is refused.
    Fail,
    /// It is in place wherever the image is restored.
    Share,
    /// Its content is in the snapshot.
    Snapshot,
}

/// A host directory in the image.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct VolumeState {
    /// On the host.
    pub host: Vec<u8>,
    /// In the image.
    pub guest: Vec<u8>,
    /// `:ro`
    pub read_only: bool,
    /// `--volumes`
    pub policy: VolumePolicy,
}

/// The ftvm that wrote the snapshot: its bytes are the pages of [`super::Object::Runtime`].
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct RuntimeImage {
    /// Bytes of its file.
    pub len: u64,
    /// Of its file.
    pub blake3: [u8; 32],
}

/// All that is not pages.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct Manifest {
    /// Identity of the image; the header's as well.
    pub image: u64,
    /// Build that can read the pages; the header's as well.
    pub build: [u8; 16],
    /// Version of that ftvm, for people.
    pub version: String,
    /// CPU baseline of the image, as the runtime encodes it.
    pub cpu: Vec<u8>,
    /// When, by the host.
    pub created: Created,
    /// Virtual clocks.
    pub clock: ClockState,
    /// Logical time: kernel entries.
    pub entries: u64,
    /// Records before this snapshot in the image's log.
    pub log_position: u64,
    /// The recorder's own state.
    pub recorder: Vec<u8>,
    /// Encoded configuration of the start.
    pub start: Vec<u8>,
    /// Inputs that arrived and that the image has not taken.
    pub pending: Vec<u8>,
    /// Host objects.
    pub handles: Vec<HandleState>,
    /// Files that mappings show.
    pub files: Vec<MappedFile>,
    /// Guest processes that live, by number, rising. Pages of others are dropped from the parent's.
    pub spaces: Vec<u32>,
    /// The snapshot that this one is a change of; the header's as well.
    pub parent: Option<Root>,
    /// After a squash: the last incremental snapshot of the chain, whose children fit this one too.
    pub stands_for: Option<Root>,
    /// Host directories.
    pub volumes: Vec<VolumeState>,
    /// The runtime, if it is in the snapshot.
    pub runtime: Option<RuntimeImage>,
    /// Room: by name.
    pub extra: Vec<(String, Vec<u8>)>,
}

/// Most bytes of an archived manifest.
pub(super) const MANIFEST_MAX: u64 = 256 << 20;

impl Manifest {
    /// The section of that name.
    pub fn extra(&self, name: &str) -> Option<&[u8]> {
        self.extra
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, b)| b.as_slice())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Serialising into memory fails only where an allocation does.
        match rkyv::to_bytes::<rancor::Error>(self) {
            Ok(bytes) => bytes.into_vec(),
            Err(e) => panic!("a manifest of this size cannot be archived: {e}"),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Manifest, SnapError> {
        // Archives want alignment, which a slice of a file does not promise.
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        let damaged = |why| SnapError::Damaged {
            part: "manifest",
            why,
        };
        let manifest = rkyv::from_bytes::<Manifest, rancor::Error>(&aligned)
            .map_err(|_| damaged("not a manifest of this format"))?;
        // One content has one encoding, so that a root stands for it.
        if manifest.encode() != bytes {
            return Err(damaged("bytes that mean nothing"));
        }
        Ok(manifest)
    }
}
