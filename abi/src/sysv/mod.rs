//! System V IPC and POSIX message queues: the calls. The objects are in `ftl_ipc::sysv` and
//! `ftl_ipc::mqueue`.

pub mod mqueue;
pub mod msg;
pub mod sem;
pub mod shm;

use crate::cx::Cx;
use crate::kernel::Kernel;
use ftl_core::errno::Errno;
use ftl_ipc::sysv::{Perm, Who};

const CAP_IPC_OWNER: u64 = 1 << 15;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Commands of the control calls.
pub const IPC_RMID: i32 = 0;
/// See [`IPC_RMID`].
pub const IPC_SET: i32 = 1;
/// See [`IPC_RMID`].
pub const IPC_STAT: i32 = 2;
/// See [`IPC_RMID`].
pub const IPC_INFO: i32 = 3;
/// Bit of the old struct layouts, which glibc sets and x86-64 ignores.
pub const IPC_64: i32 = 0x100;

fn who(cx: &Cx<'_>) -> Who {
    let c = cx.task.creds.borrow();
    Who {
        pid: cx.task.process().pid.0,
        uid: c.euid,
        gid: c.egid,
        groups: c.groups.clone(),
        owner: c.caps[0] & CAP_IPC_OWNER != 0,
        admin: c.caps[0] & CAP_SYS_ADMIN != 0,
    }
}

fn seconds(cx: &mut Cx<'_>) -> i64 {
    (cx.realtime() / 1_000_000_000) as i64
}

/// A process has ended: SEM_UNDO.
pub fn process_ended(k: &Kernel, pid: u32) {
    let c = k.core.clock;
    let ns = i128::from(c.last()) + i128::from(c.real_offset.get() as i64);
    k.sysv.process_ended(pid, (ns / 1_000_000_000) as i64);
}

/// Bytes of struct ipc64_perm.
const PERM: usize = 48;

/// struct ipc64_perm followed by what `rest` holds as words.
fn stat_bytes(perm: &Perm, rest: &[u64]) -> Vec<u8> {
    let mut v = Vec::with_capacity(PERM + rest.len() * 8);
    let head = [
        perm.key.get() as u32,
        perm.uid.get(),
        perm.gid.get(),
        perm.cuid,
        perm.cgid,
        perm.mode.get(),
        u32::from(perm.seq()),
        0,
    ];
    for w in head {
        v.extend_from_slice(&w.to_le_bytes());
    }
    v.resize(PERM, 0);
    for w in rest {
        v.extend_from_slice(&w.to_le_bytes());
    }
    v
}

/// IPC_SET: owner and mode from a struct whose ipc64_perm comes first.
fn set_perm(cx: &mut Cx<'_>, perm: &Perm, at: u64) -> Result<(), Errno> {
    let w: [u32; 6] = cx.get(at)?;
    let caller = who(cx);
    perm.check_owner(&caller)?;
    if w[1] == u32::MAX || w[2] == u32::MAX {
        return Err(Errno::EINVAL);
    }
    perm.uid.set(w[1]);
    perm.gid.set(w[2]);
    perm.mode.set(perm.mode.get() & !0o777 | w[5] & 0o777);
    Ok(())
}
