//! Who may look into whom (ptrace(2), "Ptrace access mode checking").

use super::same;
use crate::cx::Cx;
use crate::task::Task;
use ftl_core::errno::Errno;

const CAP_SYS_PTRACE: u32 = 19;

/// PTRACE_MODE_ATTACH_REALCREDS: EPERM unless the caller could trace `other`.
pub fn may_access(cx: &Cx<'_>, other: &Task) -> Result<(), Errno> {
    may_access_as(&cx.task, other)
}

/// The same for another task than the caller of a system call.
pub fn may_access_as(who: &Task, other: &Task) -> Result<(), Errno> {
    if same(&who.process(), &other.process()) {
        return Ok(());
    }
    let (me, them) = (who.creds.borrow().clone(), other.creds.borrow().clone());
    if me.capable(CAP_SYS_PTRACE) {
        return Ok(());
    }
    let uids = [them.ruid, them.euid, them.suid].iter().all(|u| *u == me.ruid);
    let gids = [them.rgid, them.egid, them.sgid].iter().all(|g| *g == me.rgid);
    if uids && gids && other.process().dumpable.get() == 1 {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
