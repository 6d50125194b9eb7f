//! Who may do what with a file (path_resolution(7), credentials(7), inode(7)).

use crate::task::Creds;
use ftl_core::errno::Errno;
use ftl_core::file::SetAttr;
use ftl_core::platform::Stat;

/// File types in st_mode.
#[allow(missing_docs)]
pub mod mode {
    pub const FMT: u32 = 0o170000;
    pub const SOCK: u32 = 0o140000;
    pub const LNK: u32 = 0o120000;
    pub const REG: u32 = 0o100000;
    pub const BLK: u32 = 0o060000;
    pub const DIR: u32 = 0o040000;
    pub const CHR: u32 = 0o020000;
    pub const FIFO: u32 = 0o010000;
    pub const SUID: u32 = 0o4000;
    pub const SGID: u32 = 0o2000;
    pub const STICKY: u32 = 0o1000;
}

/// Execute or search.
pub const X: u32 = 1;
/// Write.
pub const W: u32 = 2;
/// Read.
pub const R: u32 = 4;

const CAP_CHOWN: u32 = 0;
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_FOWNER: u32 = 3;
const CAP_FSETID: u32 = 4;

/// The effective set has this capability.
pub fn capable(c: &Creds, cap: u32) -> bool {
    c.caps[0] & (1 << cap) != 0
}

/// One of the caller's groups.
pub fn in_group(c: &Creds, gid: u32) -> bool {
    c.fsgid == gid || c.groups.contains(&gid)
}

/// st_mode says directory.
pub fn is_dir(st: &Stat) -> bool {
    st.mode & mode::FMT == mode::DIR
}

/// st_mode says symbolic link.
pub fn is_link(st: &Stat) -> bool {
    st.mode & mode::FMT == mode::LNK
}

/// The access check of the mode bits for all of `want`.
pub fn check(c: &Creds, st: &Stat, want: u32) -> Result<(), Errno> {
    if want == 0 {
        return Ok(());
    }
    let bits = if c.fsuid == st.uid {
        st.mode >> 6
    } else if in_group(c, st.gid) {
        st.mode >> 3
    } else {
        st.mode
    };
    if bits & want == want {
        return Ok(());
    }
    let dir = is_dir(st);
    if capable(c, CAP_DAC_OVERRIDE) && (want & X == 0 || dir || st.mode & 0o111 != 0) {
        return Ok(());
    }
    if capable(c, CAP_DAC_READ_SEARCH) && want & W == 0 && (dir || want & X == 0) {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// Owner of the file, or allowed to act as one.
pub fn owner(c: &Creds, st: &Stat) -> Result<(), Errno> {
    if c.fsuid == st.uid || capable(c, CAP_FOWNER) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// A name may be taken out of `dir` (write, search, sticky bit).
pub fn may_remove(c: &Creds, dir: &Stat, victim: &Stat) -> Result<(), Errno> {
    check(c, dir, W | X)?;
    if dir.mode & mode::STICKY != 0 && c.fsuid != victim.uid && c.fsuid != dir.uid && !capable(c, CAP_FOWNER)
    {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// The mode that chmod leaves: set-group-ID falls for a group that is not the caller's.
pub fn chmod(c: &Creds, st: &Stat, bits: u32) -> Result<SetAttr, Errno> {
    owner(c, st)?;
    let mut bits = bits & 0o7777;
    if !is_dir(st) && !in_group(c, st.gid) && !capable(c, CAP_FSETID) {
        bits &= !mode::SGID;
    }
    Ok(SetAttr {
        mode: Some(bits),
        ..SetAttr::default()
    })
}

/// chown's checks and what it does to the set-ID bits.
pub fn chown(c: &Creds, st: &Stat, uid: u32, gid: u32) -> Result<SetAttr, Errno> {
    let new_uid = (uid != u32::MAX).then_some(uid);
    let new_gid = (gid != u32::MAX).then_some(gid);
    if !capable(c, CAP_CHOWN) {
        if new_uid.is_some_and(|u| u != st.uid || c.fsuid != st.uid) {
            return Err(Errno::EPERM);
        }
        if new_gid.is_some_and(|g| c.fsuid != st.uid || (g != st.gid && !in_group(c, g))) {
            return Err(Errno::EPERM);
        }
    }
    let mut attr = SetAttr {
        uid: new_uid,
        gid: new_gid,
        ..SetAttr::default()
    };
    if !is_dir(st) && (new_uid.is_some() || new_gid.is_some()) {
        attr.mode = without_setid(st.mode);
    }
    Ok(attr)
}

/// The bits that writing or chown takes away (file_remove_privs): `None` if nothing changes.
pub fn without_setid(m: u32) -> Option<u32> {
    let mut bits = m & 0o7777 & !mode::SUID;
    if m & (mode::SGID | 0o010) == mode::SGID | 0o010 {
        bits &= !mode::SGID;
    }
    (bits != m & 0o7777).then_some(bits)
}

/// Set-ID bits fall when `c` writes to the file.
pub fn falls_on_write(c: &Creds, m: u32) -> Option<u32> {
    if m & (mode::SUID | mode::SGID) == 0 || capable(c, CAP_FSETID) {
        return None;
    }
    without_setid(m)
}
