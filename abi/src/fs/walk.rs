//! From a path to an operation on a place (path_resolution(7)).
//!
//! A path is first taken at its word: its components are joined and the operation is tried on the
//! result. Only if a file system answers ELOOP, "a symlink is in the way", is the first symlink
//! looked for, expanded, and the operation tried again. So a path without symlinks costs one
//! question to the host, whatever its length.

use super::{Link, Loc, Place, perm};
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::file::{FileRef, SetAttr};
use ftl_core::io::{Io, Stop, err};
use std::rc::Rc;

/// Relative to the working directory.
pub const AT_FDCWD: i32 = -100;
/// Do not follow a last symlink.
pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
/// unlinkat removes a directory.
pub const AT_REMOVEDIR: u32 = 0x200;
/// linkat follows a last symlink; faccessat uses effective ids.
pub const AT_SYMLINK_FOLLOW: u32 = 0x400;
/// An empty path names the descriptor itself.
pub const AT_EMPTY_PATH: u32 = 0x1000;

const MAX_LINKS: u32 = 40;
const NAME_MAX: usize = 255;

/// What kind of last component a path has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Last {
    /// A name.
    Name,
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// Nothing but slashes.
    Root,
}

/// Where a path leads.
pub struct Target {
    /// The place; symlinks of the last component are not resolved.
    pub loc: Loc,
    /// Kind of the last component.
    pub last: Last,
    /// The path ended in a slash.
    pub slash: bool,
    /// A symlink here is to be followed: answer ELOOP.
    pub follow: bool,
    /// The last component was a magic link to this open file; `loc` is the link's.
    pub open: Option<FileRef>,
}

impl Target {
    /// Only a directory will do.
    pub fn wants_dir(&self) -> bool {
        self.slash || self.last != Last::Name
    }

    /// lstat, or ELOOP if what is there is to be followed, or ENOTDIR after a slash.
    pub fn stat(&self, cx: &mut Cx<'_>) -> Io<ftl_core::platform::Stat> {
        let st = match &self.open {
            Some(f) => super::fstat(cx, f)?,
            None => self.loc.mount.fs.stat(cx, &self.loc.path)?,
        };
        if perm::is_link(&st) && self.follow {
            return err(Errno::ELOOP);
        }
        if self.wants_dir() && !perm::is_dir(&st) {
            return err(Errno::ENOTDIR);
        }
        Ok(st)
    }

    /// Changes attributes; the caller has checked who may.
    pub fn set_attr(&self, cx: &mut Cx<'_>, attr: &SetAttr) -> Io<()> {
        match &self.open {
            Some(f) => super::calls::attr::set_open(cx, f, attr),
            None => {
                self.writable()?;
                self.loc.mount.fs.set_attr(cx, &self.loc.path, attr)?;
                if cx.k.fs.inotify.any() {
                    super::inotify::tell_path(cx.k, &self.loc.full(), super::inotify::event::ATTRIB);
                }
                Ok(())
            }
        }
    }

    /// The mount allows changes.
    pub fn writable(&self) -> Io<()> {
        if self.loc.mount.ro.get() {
            return err(Errno::EROFS);
        }
        Ok(())
    }
}

/// Limits of openat2's RESOLVE_*.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Resolve {
    /// Never cross a mount.
    pub no_xdev: bool,
    /// No magic links.
    pub no_magic: bool,
    /// No symlinks at all.
    pub no_links: bool,
    /// Stay below the start: EXDEV.
    pub beneath: bool,
    /// The start is the root.
    pub in_root: bool,
}

struct Walker {
    root: Loc,
    start: Loc,
    limits: Resolve,
}

enum Expanded {
    /// Go on from here.
    Path(Loc, Vec<u8>),
    /// A magic link at the end: an open file,
    Open(FileRef, Loc),
    /// or a place.
    At(Loc),
}

enum Step {
    There(Target),
    /// `..` after something that is a symlink.
    Link,
}

/// The directory that relative paths start from.
pub fn base(cx: &mut Cx<'_>, dirfd: i32) -> Io<Rc<Place>> {
    if dirfd == AT_FDCWD {
        let fs = cx.task.fs.borrow().clone();
        let cwd = fs.cwd.borrow().clone();
        return Ok(cwd);
    }
    let open = cx.task.files().get(dirfd)?;
    let place = if let Some(d) = open.file.as_any().downcast_ref::<super::DirFile>() {
        d.place.clone()
    } else if let Some(p) = open.file.as_any().downcast_ref::<super::PathFile>() {
        if !p.dir {
            return err(Errno::ENOTDIR);
        }
        p.place.clone()
    } else {
        return err(Errno::ENOTDIR);
    };
    Ok(place)
}

/// Walks `path` and runs `op` on where it leads, again for each symlink that `op` meets.
pub fn with<T>(
    cx: &mut Cx<'_>,
    dirfd: i32,
    path: &[u8],
    follow: bool,
    op: impl FnMut(&mut Cx<'_>, &Target) -> Io<T>,
) -> Io<T> {
    with_limits(cx, dirfd, path, follow, Resolve::default(), op)
}

/// [`with`] under openat2's limits.
pub fn with_limits<T>(
    cx: &mut Cx<'_>,
    dirfd: i32,
    path: &[u8],
    follow: bool,
    limits: Resolve,
    mut op: impl FnMut(&mut Cx<'_>, &Target) -> Io<T>,
) -> Io<T> {
    if path.is_empty() {
        return err(Errno::ENOENT);
    }
    let fs = cx.task.fs.borrow().clone();
    let mut root = fs.root.borrow().loc();
    let mut gone = None;
    let mut at = if path[0] == b'/' && !limits.in_root {
        if limits.beneath {
            return err(Errno::EXDEV);
        }
        root.clone()
    } else {
        let place = base(cx, dirfd)?;
        if place.gone.get() {
            gone = Some(place.last.get());
        }
        place.loc()
    };
    // A removed directory is still itself and has a parent, but nothing is in it.
    if let Some(st) = gone {
        let first = path.split(|b| *b == b'/').find(|c| !c.is_empty() && *c != b".");
        match first {
            None => {
                let Some(st) = st else { return err(Errno::ENOENT) };
                let place = base(cx, dirfd)?;
                let f: FileRef = super::DirFile::new(place, st);
                let t = Target {
                    loc: at,
                    last: Last::Dot,
                    slash: false,
                    follow: false,
                    open: Some(f),
                };
                return op(cx, &t);
            }
            Some(b"..") => {}
            Some(_) => return err(Errno::ENOENT),
        }
    }
    if limits.in_root {
        root = at.clone();
    }
    let w = Walker {
        root,
        start: at.clone(),
        limits,
    };
    let mut rest = path.to_vec();
    for _ in 0..=MAX_LINKS {
        match w.lexical(cx, &at, &rest, follow)? {
            Step::There(t) => match op(cx, &t) {
                Err(Stop::Errno(Errno::ELOOP)) => {}
                other => return other,
            },
            Step::Link => {}
        }
        if limits.no_links {
            return err(Errno::ELOOP);
        }
        (at, rest) = match w.expand(cx, &at, &rest, follow)? {
            Expanded::Path(at, rest) => (at, rest),
            Expanded::Open(f, loc) => {
                let t = Target {
                    loc,
                    last: Last::Name,
                    slash: rest.ends_with(b"/"),
                    follow: false,
                    open: Some(f),
                };
                return op(cx, &t);
            }
            Expanded::At(loc) => {
                let t = Target {
                    loc,
                    last: Last::Name,
                    slash: false,
                    follow: false,
                    open: None,
                };
                return op(cx, &t);
            }
        };
    }
    err(Errno::ELOOP)
}

impl Walker {
    fn push(&self, loc: &mut Loc, name: &[u8]) -> Io<()> {
        if name.len() > NAME_MAX {
            return err(Errno::ENAMETOOLONG);
        }
        if !loc.path.is_empty() {
            loc.path.push(b'/');
        }
        loc.path.extend_from_slice(name);
        while let Some(m) = loc.mount.child(&loc.path) {
            if self.limits.no_xdev {
                return err(Errno::EXDEV);
            }
            *loc = Loc {
                mount: m,
                path: Vec::new(),
            };
        }
        Ok(())
    }

    fn pop(&self, loc: &mut Loc) -> Io<()> {
        if loc.same(&self.start) && self.limits.beneath {
            return err(Errno::EXDEV);
        }
        loop {
            if loc.same(&self.root) {
                return Ok(());
            }
            if let Some((dir, _)) = loc.split() {
                loc.path = dir.to_vec();
                return Ok(());
            }
            match &loc.mount.at {
                Some(at) if !self.limits.no_xdev => *loc = at.clone(),
                Some(_) => return err(Errno::EXDEV),
                None => return Ok(()),
            }
        }
    }

    fn lexical(&self, cx: &mut Cx<'_>, from: &Loc, path: &[u8], follow: bool) -> Io<Step> {
        let mut loc = from.clone();
        let mut last = Last::Root;
        let mut unsure = false;
        for comp in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            match comp {
                b"." => last = Last::Dot,
                b".." => {
                    if unsure {
                        match loc.mount.fs.stat(cx, &loc.path) {
                            Ok(st) if perm::is_dir(&st) => {}
                            Ok(st) if perm::is_link(&st) => return Ok(Step::Link),
                            Ok(_) => return err(Errno::ENOTDIR),
                            Err(Stop::Errno(Errno::ELOOP)) => return Ok(Step::Link),
                            Err(e) => return Err(e),
                        }
                    }
                    self.pop(&mut loc)?;
                    unsure = false;
                    last = Last::DotDot;
                }
                name => {
                    self.push(&mut loc, name)?;
                    unsure = true;
                    last = Last::Name;
                }
            }
        }
        let slash = path.ends_with(b"/");
        Ok(Step::There(Target {
            loc,
            follow: follow || slash || last != Last::Name,
            last,
            slash,
            open: None,
        }))
    }

    /// Replaces the first symlink on the way. Returns where to go on and the rest of the path.
    fn expand(&self, cx: &mut Cx<'_>, from: &Loc, path: &[u8], follow: bool) -> Io<Expanded> {
        let mut loc = from.clone();
        let mut i = 0;
        while i < path.len() {
            if path[i] == b'/' {
                i += 1;
                continue;
            }
            let end = path[i..]
                .iter()
                .position(|b| *b == b'/')
                .map_or(path.len(), |n| i + n);
            let comp = &path[i..end];
            i = end;
            match comp {
                b"." => continue,
                b".." => {
                    self.pop(&mut loc)?;
                    continue;
                }
                _ => {}
            }
            let parent = loc.clone();
            self.push(&mut loc, comp)?;
            if end == path.len() && !follow {
                break;
            }
            let link = match loc.mount.fs.readlink(cx, &loc.path) {
                Ok(link) => link,
                Err(Stop::Errno(Errno::EINVAL)) => continue,
                Err(e) => return Err(e),
            };
            let rest = &path[end..];
            match link {
                Link::Text(t) if t.is_empty() => return err(Errno::ENOENT),
                Link::Text(mut t) => {
                    let start = if t[0] == b'/' {
                        if self.limits.beneath {
                            return err(Errno::EXDEV);
                        }
                        self.root.clone()
                    } else {
                        parent
                    };
                    t.extend_from_slice(rest);
                    if t.len() > 4096 + path.len() {
                        return err(Errno::ENAMETOOLONG);
                    }
                    return Ok(Expanded::Path(start, t));
                }
                Link::Place(to, _) if !self.limits.no_magic && !self.limits.beneath => {
                    if rest.is_empty() {
                        return Ok(Expanded::At(to));
                    }
                    let mut rest = rest[1..].to_vec();
                    if rest.is_empty() {
                        rest.push(b'.');
                    }
                    return Ok(Expanded::Path(to, rest));
                }
                Link::Place(..) => return err(Errno::ELOOP),
                Link::Open(f, _) if rest.is_empty() && !self.limits.no_magic => {
                    return Ok(Expanded::Open(f, loc));
                }
                Link::Open(..) => {
                    return err(if rest.is_empty() {
                        Errno::ELOOP
                    } else {
                        Errno::ENOTDIR
                    });
                }
            }
        }
        err(Errno::ELOOP)
    }
}

/// [`with`] for calls that create, remove or rename a name: the last component is not followed.
pub fn with_name<T>(
    cx: &mut Cx<'_>,
    dirfd: i32,
    path: &[u8],
    op: impl FnMut(&mut Cx<'_>, &Target) -> Io<T>,
) -> Io<T> {
    with(cx, dirfd, path, false, op)
}
