//! Host files for a caller who is not who the image was started as.
//!
//! The host checks its permissions against the uid that runs `ftvm`. A guest that changed its ids
//! (a server dropping root) must meet its own, so they are checked here as the kernel would.

use super::perm::{self, W, X};
use super::split;
use crate::cx::Cx;
use ftl_core::io::Io;
use ftl_core::platform::Stat;

const CAP_DAC_OVERRIDE: u32 = 1;

/// The caller's ids are not those that the host knows.
pub fn is_foreign(cx: &Cx<'_>) -> bool {
    let c = cx.task.creds.borrow();
    let k = &cx.k.config;
    (c.fsuid, c.fsgid) != k.host_ids || k.host_ids.0 == 0 && !perm::capable(&c, CAP_DAC_OVERRIDE)
}

/// Search permission on every directory above `path`. `ask` is lstat.
pub fn search(cx: &mut Cx<'_>, path: &[u8], mut ask: impl FnMut(&mut Cx<'_>, &[u8]) -> Io<Stat>) -> Io<()> {
    if path.is_empty() {
        return Ok(());
    }
    let ends = path
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'/')
        .map(|(i, _)| i);
    for end in std::iter::once(0).chain(ends) {
        let st = ask(cx, &path[..end])?;
        if !perm::is_dir(&st) {
            // The operation itself says what is wrong with it.
            return Ok(());
        }
        perm::check(&cx.task.creds.borrow(), &st, X)?;
    }
    Ok(())
}

/// A name may be made in the directory of `path`.
pub fn add(cx: &mut Cx<'_>, path: &[u8], mut ask: impl FnMut(&mut Cx<'_>, &[u8]) -> Io<Stat>) -> Io<()> {
    search(cx, path, &mut ask)?;
    let dir = ask(cx, split(path).0)?;
    Ok(perm::check(&cx.task.creds.borrow(), &dir, W | X)?)
}

/// The name `path` may be taken away.
pub fn remove(cx: &mut Cx<'_>, path: &[u8], mut ask: impl FnMut(&mut Cx<'_>, &[u8]) -> Io<Stat>) -> Io<()> {
    search(cx, path, &mut ask)?;
    let dir = ask(cx, split(path).0)?;
    let victim = ask(cx, path)?;
    Ok(perm::may_remove(&cx.task.creds.borrow(), &dir, &victim)?)
}
