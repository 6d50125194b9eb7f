//! What an image is started with.

/// The image's own interface.
pub use ftl_tcpip::Config as NetConfig;

/// A command that is started in the image when something befalls it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hook {
    /// Program and arguments.
    pub argv: Vec<Vec<u8>>,
    /// One that has not ended by then is killed, and has failed.
    pub timeout_ns: u64,
}

/// What the image's author wants to be started, and when. The image only carries it, through snapshots and to other hosts:
/// the supervisor acts on it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hooks {
    /// Before a checkpoint is taken.
    pub before_checkpoint: Option<Hook>,
    /// When a snapshot goes on.
    pub after_restore: Option<Hook>,
}

/// A file below [`SECRETS`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name there.
    pub name: Vec<u8>,
    /// Owner.
    pub owner: (u32, u32),
    /// Permission bits.
    pub mode: u32,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// Contents are nobody's to print.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("name", &String::from_utf8_lossy(&self.name))
            .finish_non_exhaustive()
    }
}

/// Where secrets are files: a tmpfs, which is no part of what a run keeps on disk.
pub const SECRETS: &[u8] = b"/run/secrets";

/// What a user chose, fixed for the image's life. Part of the image.
#[derive(Clone, Debug)]
pub struct Config {
    /// uname's nodename.
    pub hostname: Vec<u8>,
    /// uname's release.
    pub kernel_release: String,
    /// uname's version.
    pub kernel_version: String,
    /// Ids of the first process.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Ids against which the host checks an access to its files. A task with others is checked by the image.
    pub host_ids: (u32, u32),
    /// Capability sets of the first process: effective, permitted, inheritable, bounding, ambient.
    pub caps: [u64; 5],
    /// The first process has PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
    /// Bytes of an XSAVE area for the CPU baseline.
    pub xsave_len: usize,
    /// XCR0 of the CPU baseline.
    pub xcr0: u64,
    /// What `cpuid` and the like answer; `None` leaves them to the CPU (`run` without a log).
    pub cpu: Option<crate::specials::CpuTable>,
    /// AT_HWCAP, AT_HWCAP2, AT_MINSIGSTKSZ.
    pub hwcap: (u64, u64, u64),
    /// Print every call.
    pub strace: std::cell::Cell<bool>,
    /// Take what Linux leaves open at random, from this seed.
    pub chaos: Option<u64>,
    /// Most tasks (`--pids`).
    pub max_tasks: usize,
    /// Thousandths of the CPU that the image may use (`--cpus`), the host's to see to; 0: no limit.
    pub cpus: u32,
    /// Bytes of guest memory (`--memory`).
    pub memory: u64,
    /// RLIMIT_* as inherited: soft, hard.
    pub rlimits: [(u64, u64); 16],
    /// umask as inherited.
    pub umask: u32,
    /// Signals that the caller ignored, and that it had blocked: the first process inherits both.
    pub signals: (u64, u64),
    /// Working directory as inherited.
    pub cwd: Vec<u8>,
    /// The image's own interface (`--net IF,ip=...`).
    pub net: Option<NetConfig>,
    /// Host directories that the image may change.
    pub mounts: crate::fs::VolumeConfig,
    /// The writable layer outlives the run.
    pub keep_layer: bool,
    /// Descriptors above the standard three that the image was started with, and their flags.
    pub inherited: Vec<(u32, i32)>,
    /// Commands around checkpoints and restores.
    pub hooks: Hooks,
    /// The image was given secrets: what is written of its memory must be encrypted.
    pub secret: bool,
    /// Those that are files, until they are in place; in no log and in no snapshot by themselves.
    pub secrets: std::cell::RefCell<Vec<Secret>>,
    /// The vDSO's ELF image.
    pub vdso: Vec<u8>,
}

/// Memory that the guest sees when `--memory` sets no bound: an image value, not the host's.
pub const RAM_DEFAULT: u64 = 16 << 30;

impl Config {
    /// Bytes of memory that the guest is told of (sysinfo, /proc/meminfo).
    pub fn ram(&self) -> u64 {
        self.memory.min(RAM_DEFAULT)
    }
}
