//! Trees of files on this host, of any depth.

use rustix::fs::{CWD, Mode, OFlags};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes on disk of what is in a directory, but for files that were `seen` before.
pub fn tree_size(dir: &Path, seen: &mut BTreeSet<u64>) -> u64 {
    let mut sum = 0;
    for item in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = item.path().symlink_metadata() else {
            continue;
        };
        if meta.is_dir() {
            sum += tree_size(&item.path(), seen);
        } else if seen.insert(meta.ino()) {
            sum += meta.blocks() * 512;
        }
    }
    sum
}

/// Removes a file or a tree, directories without permissions too. Returns the bytes that are free now.
pub fn remove_tree(path: &Path) -> std::io::Result<u64> {
    let name = path.file_name().ok_or(rustix::io::Errno::INVAL)?;
    let above = path.parent().filter(|p| !p.as_os_str().is_empty());
    let dir = open_dir(CWD, above.unwrap_or(Path::new(".")), OFlags::empty())?;
    remove_at(&dir, name)
}

pub(crate) fn open_dir(
    at: impl AsFd,
    path: impl rustix::path::Arg,
    flags: OFlags,
) -> std::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
}

/// A directory on the way down: its name in the one above, which it is, and what of it is still there.
struct Level {
    name: CString,
    id: (u64, u64),
    dirs: Vec<CString>,
}

/// The same for a name in a directory. A tree may be deeper than a path is long and than descriptors reach: it is walked by one
/// descriptor, up by `..`.
pub fn remove_at(dir: &impl AsFd, name: &OsStr) -> std::io::Result<u64> {
    use rustix::fs::{AtFlags, FileType, fstat, statat, unlinkat};
    let id = |s: &rustix::fs::Stat| (s.st_dev, s.st_ino);
    let mut freed = 0;
    // Files go at once; what is a directory is returned.
    let mut files = |dir: BorrowedFd<'_>, name: &CStr| -> std::io::Result<Option<rustix::fs::Stat>> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Ok(Some(stat));
        }
        unlinkat(dir, name, AtFlags::empty())?;
        freed += if stat.st_nlink == 1 {
            stat.st_blocks as u64 * 512
        } else {
            0
        };
        Ok(None)
    };
    let first = CString::new(name.as_bytes())?;
    if files(dir.as_fd(), &first)?.is_none() {
        return Ok(freed);
    }
    let mut levels: Vec<Level> = Vec::new();
    let mut here: Option<OwnedFd> = None;
    let mut down = Some(first);
    loop {
        let at = here.as_ref().map_or(dir.as_fd(), |fd| fd.as_fd());
        if let Some(name) = down.take() {
            let mode = statat(at, &name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
            if mode & 0o700 != 0o700 {
                rustix::fs::chmodat(at, &name, Mode::RWXU, AtFlags::empty())?;
            }
            let fd = open_dir(at, &name, OFlags::NOFOLLOW)?;
            let mut dirs = Vec::new();
            for item in rustix::fs::Dir::read_from(&fd)? {
                let item = item?;
                let name = item.file_name();
                if name != c"." && name != c".." && files(fd.as_fd(), name)?.is_some() {
                    dirs.push(name.to_owned());
                }
            }
            let id = id(&fstat(&fd)?);
            levels.push(Level { name, id, dirs });
            here = Some(fd);
        }
        let Some(level) = levels.last_mut() else {
            return Ok(freed);
        };
        down = level.dirs.pop();
        if down.is_some() {
            continue;
        }
        let Some(done) = levels.pop() else {
            return Ok(freed);
        };
        let above = match (levels.last(), &here) {
            (Some(above), Some(fd)) => {
                let up = open_dir(fd, c"..", OFlags::NOFOLLOW)?;
                if id(&fstat(&up)?) != above.id {
                    return Err(std::io::Error::other("the tree was moved while it was removed"));
                }
                Some(up)
            }
            _ => None,
        };
        here = above;
        let at = here.as_ref().map_or(dir.as_fd(), |fd| fd.as_fd());
        unlinkat(at, &done.name, AtFlags::REMOVEDIR)?;
    }
}
