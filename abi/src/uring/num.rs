//! Numbers of io_uring (include/uapi/linux/io_uring.h), and the submission entry.

#![allow(missing_docs)]

/// Bytes of a submission entry without SETUP_SQE128.
pub const SQE_LEN: u64 = 64;
pub const MAX_ENTRIES: u32 = 32_768;
pub const MAX_CQ_ENTRIES: u32 = 2 * MAX_ENTRIES;

pub mod setup {
    pub const IOPOLL: u32 = 1 << 0;
    pub const SQPOLL: u32 = 1 << 1;
    pub const SQ_AFF: u32 = 1 << 2;
    pub const CQSIZE: u32 = 1 << 3;
    pub const CLAMP: u32 = 1 << 4;
    pub const ATTACH_WQ: u32 = 1 << 5;
    pub const R_DISABLED: u32 = 1 << 6;
    pub const SUBMIT_ALL: u32 = 1 << 7;
    pub const COOP_TASKRUN: u32 = 1 << 8;
    pub const TASKRUN_FLAG: u32 = 1 << 9;
    pub const SQE128: u32 = 1 << 10;
    pub const CQE32: u32 = 1 << 11;
    pub const SINGLE_ISSUER: u32 = 1 << 12;
    pub const DEFER_TASKRUN: u32 = 1 << 13;
    pub const NO_SQARRAY: u32 = 1 << 16;
    pub const KNOWN: u32 = 0x3fff | NO_SQARRAY;
}

pub mod feat {
    /// SINGLE_MMAP, NODROP, SUBMIT_STABLE, RW_CUR_POS, CUR_PERSONALITY, FAST_POLL, POLL_32BITS, SQPOLL_NONFIXED,
    /// EXT_ARG, NATIVE_WORKERS, RSRC_TAGS, CQE_SKIP, LINKED_FILE, REG_REG_RING: bits 0 to 13.
    pub const ALL: u32 = 0x3fff;
}

pub mod enter {
    pub const GETEVENTS: u32 = 1 << 0;
    pub const EXT_ARG: u32 = 1 << 3;
    pub const REGISTERED_RING: u32 = 1 << 4;
    pub const KNOWN: u32 = 0x1f;
}

/// Bits of the submission ring's flags word.
pub mod sqf {
    pub const NEED_WAKEUP: u32 = 1 << 0;
    pub const CQ_OVERFLOW: u32 = 1 << 1;
    pub const TASKRUN: u32 = 1 << 2;
}

/// Flags of a submission entry.
pub mod sqe {
    pub const FIXED_FILE: u8 = 1 << 0;
    pub const DRAIN: u8 = 1 << 1;
    pub const LINK: u8 = 1 << 2;
    pub const HARDLINK: u8 = 1 << 3;
    pub const ASYNC: u8 = 1 << 4;
    pub const BUFFER_SELECT: u8 = 1 << 5;
    pub const CQE_SKIP: u8 = 1 << 6;
    pub const KNOWN: u8 = 0x7f;
}

/// Flags of a completion.
pub mod cqe {
    pub const BUFFER: u32 = 1 << 0;
    pub const MORE: u32 = 1 << 1;
    pub const BUFFER_SHIFT: u32 = 16;
}

pub mod op {
    pub const NOP: u8 = 0;
    pub const READV: u8 = 1;
    pub const WRITEV: u8 = 2;
    pub const FSYNC: u8 = 3;
    pub const READ_FIXED: u8 = 4;
    pub const WRITE_FIXED: u8 = 5;
    pub const POLL_ADD: u8 = 6;
    pub const POLL_REMOVE: u8 = 7;
    pub const SYNC_FILE_RANGE: u8 = 8;
    pub const SENDMSG: u8 = 9;
    pub const RECVMSG: u8 = 10;
    pub const TIMEOUT: u8 = 11;
    pub const TIMEOUT_REMOVE: u8 = 12;
    pub const ACCEPT: u8 = 13;
    pub const ASYNC_CANCEL: u8 = 14;
    pub const LINK_TIMEOUT: u8 = 15;
    pub const CONNECT: u8 = 16;
    pub const FALLOCATE: u8 = 17;
    pub const OPENAT: u8 = 18;
    pub const CLOSE: u8 = 19;
    pub const FILES_UPDATE: u8 = 20;
    pub const STATX: u8 = 21;
    pub const READ: u8 = 22;
    pub const WRITE: u8 = 23;
    pub const FADVISE: u8 = 24;
    pub const MADVISE: u8 = 25;
    pub const SEND: u8 = 26;
    pub const RECV: u8 = 27;
    pub const OPENAT2: u8 = 28;
    pub const EPOLL_CTL: u8 = 29;
    pub const SPLICE: u8 = 30;
    pub const PROVIDE_BUFFERS: u8 = 31;
    pub const REMOVE_BUFFERS: u8 = 32;
    pub const TEE: u8 = 33;
    pub const SHUTDOWN: u8 = 34;
    pub const RENAMEAT: u8 = 35;
    pub const UNLINKAT: u8 = 36;
    pub const MKDIRAT: u8 = 37;
    pub const SYMLINKAT: u8 = 38;
    pub const LINKAT: u8 = 39;
    pub const MSG_RING: u8 = 40;
    pub const SOCKET: u8 = 45;
    pub const READ_MULTISHOT: u8 = 49;
    pub const FTRUNCATE: u8 = 55;
    pub const BIND: u8 = 56;
    pub const LISTEN: u8 = 57;
    /// One more than the newest that Linux 6.12 has.
    pub const LAST: u8 = 58;
}

/// The operation is done here; IORING_REGISTER_PROBE says so.
pub fn supported(opcode: u8) -> bool {
    matches!(opcode, 0..=40 | op::SOCKET | op::READ_MULTISHOT | op::FTRUNCATE..=op::LISTEN)
}

/// It works on the file that `fd` names.
pub fn needs_file(opcode: u8) -> bool {
    use op::*;
    matches!(
        opcode,
        READV
            | WRITEV
            | FSYNC
            | READ_FIXED
            | WRITE_FIXED
            | POLL_ADD
            | SYNC_FILE_RANGE
            | SENDMSG
            | RECVMSG
            | ACCEPT
            | CONNECT
            | FALLOCATE
            | READ
            | WRITE
            | FADVISE
            | SEND
            | RECV
            | SPLICE
            | TEE
            | SHUTDOWN
            | MSG_RING
            | READ_MULTISHOT
            | FTRUNCATE
            | BIND
            | LISTEN
    )
}

/// A buffer of a group may be chosen for it.
pub fn selects_buffer(opcode: u8) -> bool {
    use op::*;
    matches!(opcode, READV | READ | RECV | RECVMSG | READ_MULTISHOT)
}

/// Its `ioprio` means something.
pub fn uses_ioprio(opcode: u8) -> bool {
    use op::*;
    matches!(
        opcode,
        READV
            | WRITEV
            | READ_FIXED
            | WRITE_FIXED
            | READ
            | WRITE
            | SEND
            | RECV
            | SENDMSG
            | RECVMSG
            | ACCEPT
            | READ_MULTISHOT
    )
}

/// struct io_uring_sqe.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sqe {
    pub opcode: u8,
    pub flags: u8,
    pub ioprio: u16,
    pub fd: i32,
    /// off, addr2
    pub off: u64,
    /// addr, splice_off_in
    pub addr: u64,
    pub len: u32,
    /// rw_flags and its many other names
    pub op_flags: u32,
    pub user_data: u64,
    /// buf_index, buf_group
    pub buf: u16,
    pub personality: u16,
    /// splice_fd_in, file_index, addr_len
    pub file_index: u32,
    pub addr3: u64,
}

impl Sqe {
    /// From its first 64 bytes.
    pub fn parse(b: &[u8; SQE_LEN as usize]) -> Sqe {
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| b[i + k]));
        let half = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| b[i + k]));
        Sqe {
            opcode: b[0],
            flags: b[1],
            ioprio: half(0).to_le_bytes()[2] as u16 | (b[3] as u16) << 8,
            fd: half(4) as i32,
            off: word(8),
            addr: word(16),
            len: half(24),
            op_flags: half(28),
            user_data: word(32),
            buf: half(40) as u16,
            personality: (half(40) >> 16) as u16,
            file_index: half(44),
            addr3: word(48),
        }
    }

    /// The flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The next entry belongs to the same chain.
    pub fn links(&self) -> bool {
        self.has(sqe::LINK | sqe::HARDLINK)
    }
}

/// A completion, with the second half that SETUP_CQE32 has room for left zero.
#[derive(Clone, Copy, Debug)]
pub struct Cqe {
    pub user_data: u64,
    pub res: i32,
    pub flags: u32,
}
