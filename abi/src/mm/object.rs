//! Mapping an object of the kernel's own (shmat).

use super::sys::{MAP_FIXED, check_room, map_parts, place};
use super::{Vma, VmaFile, VmaFlags, VmaKind, limit_of};
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};
use ftl_core::layout::page_up;
use ftl_core::platform::Prot;
use std::rc::Rc;

/// What a mapping of an object shows in /proc/self/maps.
pub struct Shown {
    /// Inode number.
    pub ino: u64,
    /// Path.
    pub path: Vec<u8>,
}

/// Maps all `size` bytes of `file` shared, at `at` or, if that is 0, anywhere. Without `replace` a
/// given place must be free: EINVAL.
pub fn map_object(
    cx: &mut Cx<'_>,
    at: u64,
    size: u64,
    prot: Prot,
    replace: bool,
    file: &FileRef,
    shown: Shown,
) -> Io<u64> {
    let len = page_up(size).ok_or(Errno::ENOMEM)?;
    let mm = cx.task.mm();
    if at != 0 && !replace && !mm.looks_free(at, len) {
        return err(Errno::EINVAL);
    }
    let mut vma = Vma::anon(0, len, prot, VmaKind::Normal);
    vma.shared = true;
    vma.flags.set(VmaFlags::NOWRITE, !prot.contains(Prot::WRITE));
    check_room(cx, &mm, len, vma.commits())?;
    let at = place(cx, &mm, at, len, if at != 0 { MAP_FIXED } else { 0 })?;
    (vma.start, vma.end) = (at, at + len);
    let parts = file.map(&mut cx.env, 0, len, true, true)?;
    vma.file = Some(VmaFile {
        file: file.clone(),
        offset: 0,
        id: (1, shown.ino),
        path: Rc::new(shown.path),
        limit: limit_of(0, &parts),
    });
    map_parts(cx, vma, &parts);
    Ok(at)
}
