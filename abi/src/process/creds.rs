//! User and group ids, capabilities (credentials(7), capabilities(7), kernel/sys.c,
//! security/commoncap.c).

use super::ids::find_task;
use crate::args::Ptr;
use crate::cx::Cx;
use crate::task::{ALL_CAPS, Creds};
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use std::rc::Rc;

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_SETPCAP: u32 = 8;
/// CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE.
const FS_CAPS: u64 = 0b1_1111 | 1 << 9 | 1 << 27 | 1 << 32;
/// SECBIT_NO_SETUID_FIXUP
const NO_FIXUP: u32 = 4;
/// SECBIT_KEEP_CAPS
const KEEP_CAPS: u32 = 0x10;
const KEEP: u32 = u32::MAX;

fn creds(cx: &Cx<'_>) -> Creds {
    (**cx.task.creds.borrow()).clone()
}

/// Makes `new` the caller's, with the capabilities that a change of ids takes or gives.
fn commit(cx: &Cx<'_>, old: &Creds, mut new: Creds) {
    if new.securebits & NO_FIXUP == 0 {
        let was = [old.ruid, old.euid, old.suid].contains(&0);
        let is = [new.ruid, new.euid, new.suid].contains(&0);
        if was && !is {
            if new.securebits & KEEP_CAPS == 0 {
                new.caps[0] = 0;
                new.caps[1] = 0;
            }
            new.caps[4] = 0;
        }
        if old.euid == 0 && new.euid != 0 {
            new.caps[0] = 0;
        }
        if old.euid != 0 && new.euid == 0 {
            new.caps[0] = new.caps[1];
        }
        if old.fsuid == 0 && new.fsuid != 0 {
            new.caps[0] &= !FS_CAPS;
        }
        if old.fsuid != 0 && new.fsuid == 0 {
            new.caps[0] |= new.caps[1] & FS_CAPS;
        }
    }
    if (old.euid, old.egid, old.fsuid, old.fsgid) != (new.euid, new.egid, new.fsuid, new.fsgid) {
        cx.task.process().dumpable.set(0);
        cx.task.pdeath_signal.set(0);
    }
    *cx.task.creds.borrow_mut() = Rc::new(new);
}

macro_rules! getter {
    ($name:ident, $field:ident, $doc:literal) => {
        #[doc = $doc]
        pub fn $name(cx: &mut Cx<'_>) -> Io<u64> {
            Ok(u64::from(cx.task.creds.borrow().$field))
        }
    };
}
getter!(sys_getuid, ruid, "getuid(2)");
getter!(sys_geteuid, euid, "geteuid(2)");
getter!(sys_getgid, rgid, "getgid(2)");
getter!(sys_getegid, egid, "getegid(2)");

/// getresuid(2)
pub fn sys_getresuid(cx: &mut Cx<'_>, r: Ptr, e: Ptr, s: Ptr) -> Io<u64> {
    let c = creds(cx);
    for (p, v) in [(r, c.ruid), (e, c.euid), (s, c.suid)] {
        cx.put(p.0, &v)?;
    }
    Ok(0)
}

/// getresgid(2)
pub fn sys_getresgid(cx: &mut Cx<'_>, r: Ptr, e: Ptr, s: Ptr) -> Io<u64> {
    let c = creds(cx);
    for (p, v) in [(r, c.rgid), (e, c.egid), (s, c.sgid)] {
        cx.put(p.0, &v)?;
    }
    Ok(0)
}

/// setuid(2)
pub fn sys_setuid(cx: &mut Cx<'_>, uid: u32) -> Io<u64> {
    let old = creds(cx);
    if uid == KEEP {
        return err(Errno::EINVAL);
    }
    let mut new = old.clone();
    if old.capable(CAP_SETUID) {
        (new.ruid, new.suid) = (uid, uid);
    } else if uid != old.ruid && uid != old.suid {
        return err(Errno::EPERM);
    }
    (new.euid, new.fsuid) = (uid, uid);
    commit(cx, &old, new);
    Ok(0)
}

/// setgid(2)
pub fn sys_setgid(cx: &mut Cx<'_>, gid: u32) -> Io<u64> {
    let old = creds(cx);
    if gid == KEEP {
        return err(Errno::EINVAL);
    }
    let mut new = old.clone();
    if old.capable(CAP_SETGID) {
        (new.rgid, new.sgid) = (gid, gid);
    } else if gid != old.rgid && gid != old.sgid {
        return err(Errno::EPERM);
    }
    (new.egid, new.fsgid) = (gid, gid);
    commit(cx, &old, new);
    Ok(0)
}

/// setreuid(2)
pub fn sys_setreuid(cx: &mut Cx<'_>, r: u32, e: u32) -> Io<u64> {
    let old = creds(cx);
    let free = old.capable(CAP_SETUID);
    let mut new = old.clone();
    if r != KEEP {
        if !free && r != old.ruid && r != old.euid {
            return err(Errno::EPERM);
        }
        new.ruid = r;
    }
    if e != KEEP {
        if !free && e != old.ruid && e != old.euid && e != old.suid {
            return err(Errno::EPERM);
        }
        new.euid = e;
    }
    if r != KEEP || (e != KEEP && e != old.ruid) {
        new.suid = new.euid;
    }
    new.fsuid = new.euid;
    commit(cx, &old, new);
    Ok(0)
}

/// setregid(2)
pub fn sys_setregid(cx: &mut Cx<'_>, r: u32, e: u32) -> Io<u64> {
    let old = creds(cx);
    let free = old.capable(CAP_SETGID);
    let mut new = old.clone();
    if r != KEEP {
        if !free && r != old.rgid && r != old.egid {
            return err(Errno::EPERM);
        }
        new.rgid = r;
    }
    if e != KEEP {
        if !free && e != old.rgid && e != old.egid && e != old.sgid {
            return err(Errno::EPERM);
        }
        new.egid = e;
    }
    if r != KEEP || (e != KEEP && e != old.rgid) {
        new.sgid = new.egid;
    }
    new.fsgid = new.egid;
    commit(cx, &old, new);
    Ok(0)
}

/// setresuid(2)
pub fn sys_setresuid(cx: &mut Cx<'_>, r: u32, e: u32, s: u32) -> Io<u64> {
    let old = creds(cx);
    let have = [old.ruid, old.euid, old.suid];
    let allowed = |v: u32| v == KEEP || have.contains(&v);
    if !old.capable(CAP_SETUID) && ![r, e, s].into_iter().all(allowed) {
        return err(Errno::EPERM);
    }
    let mut new = old.clone();
    for (field, v) in [(&mut new.ruid, r), (&mut new.euid, e), (&mut new.suid, s)] {
        if v != KEEP {
            *field = v;
        }
    }
    new.fsuid = new.euid;
    commit(cx, &old, new);
    Ok(0)
}

/// setresgid(2)
pub fn sys_setresgid(cx: &mut Cx<'_>, r: u32, e: u32, s: u32) -> Io<u64> {
    let old = creds(cx);
    let have = [old.rgid, old.egid, old.sgid];
    let allowed = |v: u32| v == KEEP || have.contains(&v);
    if !old.capable(CAP_SETGID) && ![r, e, s].into_iter().all(allowed) {
        return err(Errno::EPERM);
    }
    let mut new = old.clone();
    for (field, v) in [(&mut new.rgid, r), (&mut new.egid, e), (&mut new.sgid, s)] {
        if v != KEEP {
            *field = v;
        }
    }
    new.fsgid = new.egid;
    commit(cx, &old, new);
    Ok(0)
}

/// setfsuid(2): always answers the old value.
pub fn sys_setfsuid(cx: &mut Cx<'_>, uid: u32) -> Io<u64> {
    let old = creds(cx);
    let known = [old.ruid, old.euid, old.suid, old.fsuid].contains(&uid);
    if uid != KEEP && (known || old.capable(CAP_SETUID)) {
        let new = Creds {
            fsuid: uid,
            ..old.clone()
        };
        commit(cx, &old, new);
    }
    Ok(u64::from(old.fsuid))
}

/// setfsgid(2): always answers the old value.
pub fn sys_setfsgid(cx: &mut Cx<'_>, gid: u32) -> Io<u64> {
    let old = creds(cx);
    let known = [old.rgid, old.egid, old.sgid, old.fsgid].contains(&gid);
    if gid != KEEP && (known || old.capable(CAP_SETGID)) {
        let new = Creds {
            fsgid: gid,
            ..old.clone()
        };
        commit(cx, &old, new);
    }
    Ok(u64::from(old.fsgid))
}

/// getgroups(2)
pub fn sys_getgroups(cx: &mut Cx<'_>, n: i32, list: Ptr) -> Io<u64> {
    let groups = creds(cx).groups;
    if n < 0 || (n > 0 && (n as usize) < groups.len()) {
        return err(Errno::EINVAL);
    }
    if n > 0 {
        let bytes: Vec<u8> = groups.iter().flat_map(|g| g.to_le_bytes()).collect();
        cx.write(list.0, &bytes)?;
    }
    Ok(groups.len() as u64)
}

/// setgroups(2)
pub fn sys_setgroups(cx: &mut Cx<'_>, n: i32, list: Ptr) -> Io<u64> {
    let old = creds(cx);
    if !old.capable(CAP_SETGID) {
        return err(Errno::EPERM);
    }
    if !(0..=65536).contains(&n) {
        return err(Errno::EINVAL);
    }
    let mut raw = vec![0u8; n as usize * 4];
    cx.read(list.0, &mut raw)?;
    let mut groups: Vec<u32> = raw
        .chunks_exact(4)
        .map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]))
        .collect();
    groups.sort_unstable();
    *cx.task.creds.borrow_mut() = Rc::new(Creds { groups, ..old });
    Ok(0)
}

const CAP_V1: u32 = 0x1998_0330;
const CAP_V2: u32 = 0x2007_1026;
const CAP_V3: u32 = 0x2008_0522;

/// Number of 32-bit halves of the header's version; corrects an unknown version in place.
fn cap_words(cx: &mut Cx<'_>, header: Ptr) -> Result<Option<usize>, Errno> {
    let version: u32 = cx.get(header.0)?;
    match version {
        CAP_V1 => Ok(Some(1)),
        CAP_V2 | CAP_V3 => Ok(Some(2)),
        _ => {
            cx.put(header.0, &CAP_V3)?;
            Ok(None)
        }
    }
}

/// capget(2)
pub fn sys_capget(cx: &mut Cx<'_>, header: Ptr, data: Ptr) -> Io<u64> {
    let Some(words) = cap_words(cx, header)? else {
        return if data.is_null() { Ok(0) } else { err(Errno::EINVAL) };
    };
    if data.is_null() {
        return Ok(0);
    }
    let pid: i32 = cx.get(header.0 + 4)?;
    if pid < 0 {
        return err(Errno::EINVAL);
    }
    let caps = find_task(cx, pid)?.creds.borrow().caps;
    for i in 0..words {
        let half = |v: u64| (v >> (32 * i)) as u32;
        cx.put(
            data.0 + i as u64 * 12,
            &[half(caps[0]), half(caps[1]), half(caps[2])],
        )?;
    }
    Ok(0)
}

/// capset(2)
pub fn sys_capset(cx: &mut Cx<'_>, header: Ptr, data: Ptr) -> Io<u64> {
    let words = cap_words(cx, header)?.ok_or(Errno::EINVAL)?;
    let pid: i32 = cx.get(header.0 + 4)?;
    if pid != 0 && pid != cx.task.tid.0 as i32 {
        return err(Errno::EPERM);
    }
    let mut want = [0u64; 3];
    for i in 0..words {
        let three: [u32; 3] = cx.get(data.0 + i as u64 * 12)?;
        for (w, v) in want.iter_mut().zip(three) {
            *w |= u64::from(v) << (32 * i);
        }
    }
    let [effective, permitted, inheritable] = want.map(|w| w & ALL_CAPS);
    let old = creds(cx);
    let [_, old_p, old_i, bounding, ambient] = old.caps;
    if !old.capable(CAP_SETPCAP) && inheritable & !(old_i | old_p) != 0 {
        return err(Errno::EPERM);
    }
    if inheritable & !(old_i | bounding) != 0 || permitted & !old_p != 0 || effective & !permitted != 0 {
        return err(Errno::EPERM);
    }
    let ambient = ambient & permitted & inheritable;
    let caps = [effective, permitted, inheritable, bounding, ambient];
    *cx.task.creds.borrow_mut() = Rc::new(Creds { caps, ..old });
    Ok(0)
}
