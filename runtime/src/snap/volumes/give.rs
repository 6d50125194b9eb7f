//! Directories from a snapshot's volumes, before the image that has them is started.
//!
//! A tree was checked when it was read ([`Tree::decode`]): no name in it leads up. Names are walked by the host's kernel below the new
//! directory, where no symlink is followed, so none that the snapshot holds leads out either. Each page is checked by whoever reads the
//! snapshot. What was there before is never touched: a directory must not be there, or be empty. While it is filled only its owner, who is
//! ours, enters it.

use crate::cli::reason;
use crate::platform::moved::{Map, Top};
use crate::store::write::Fault;
use ftl_core::layout::PAGE;
use ftl_core::snap::tree::{Name, Node, NodeKind, SECTION, Tree};
use ftl_core::snap::{Chain, Object};
use ftl_images::tree::remove_tree;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

const LOOK: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Below the directory that is being filled, whatever is in it.
const WITHIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// What could not be had as it was.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// Files whose owner or group is another.
    pub owners: u64,
    /// Extended attributes.
    pub attributes: u64,
    /// The first of them, and why.
    pub first: Option<String>,
}

impl Lost {
    /// For the user, if there is something to say.
    pub fn say(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(format!(
            "volumes: {} files have another owner and {} extended attributes are missing ({first})",
            self.owners, self.attributes
        ))
    }

    fn note(&mut self, path: &dyn Fn() -> PathBuf, e: rustix::io::Errno) {
        self.first
            .get_or_insert_with(|| format!("{}: {}", path().display(), reason(&e.into())));
    }
}

/// Where a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spot {
    /// Nowhere so far.
    None,
    /// It is this top.
    Top(u32),
    /// This name is its first.
    Name(u32),
}

/// The directory that was looked for last, by its node: names of one are one behind the other.
type Last = Option<(u32, OwnedFd)>;

/// Directories that are being filled.
struct Filler<'a> {
    tree: &'a Tree,
    /// Of each top: where it is.
    dirs: Vec<PathBuf>,
    /// Of each node.
    spots: Vec<Spot>,
    /// Directories that another top is in the place of.
    covered: BTreeSet<u32>,
    /// Of each top, opened.
    opened: Vec<OwnedFd>,
    /// First page, page behind the last, node and bytes: of files with contents, ascending.
    files: Vec<(u64, u64, u32, u64)>,
    /// The file that was written last.
    open: Option<(u32, File)>,
    /// Its directory.
    last: Last,
}

fn bad(path: &Path, e: &std::io::Error) -> String {
    format!("{}: {}", path.display(), reason(e))
}

/// A directory that is being filled.
struct Made {
    dir: PathBuf,
    /// The directory, whatever has its name by now.
    fd: OwnedFd,
    /// Permissions, user and group of one that was there.
    before: Option<(u32, u32, u32)>,
}

/// Makes a directory for a volume. One that is there must be empty.
fn make(dir: &Path) -> Result<Made, String> {
    let above = dir.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(above).map_err(|e| bad(above, &e))?;
    let new = match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
        done => done.map(|()| true).map_err(|e| bad(dir, &e))?,
    };
    let taken = || {
        format!(
            "{}: is there, and is no empty directory: nothing is overwritten; move it away, or name another directory with --volumes-to",
            dir.display()
        )
    };
    // From here on by the descriptor: who owns the directory around it may put something else there.
    let fd = match rustix::fs::open(dir, LOOK | OFlags::NOFOLLOW, Mode::empty()) {
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Err(taken()),
        opened => opened.map_err(|e| bad(dir, &e.into()))?,
    };
    if !list(&fd).map_err(|e| bad(dir, &e.into()))?.is_empty() {
        return Err(taken());
    }
    let st = rustix::fs::fstat(&fd).map_err(|e| bad(dir, &e.into()))?;
    let before = (!new).then_some((st.st_mode & 0o7777, st.st_uid, st.st_gid));
    let made = Made {
        dir: dir.to_path_buf(),
        fd,
        before,
    };
    if new {
        return Ok(made);
    }
    // SAFETY: calls without effects.
    let us = unsafe { (libc::geteuid(), libc::getegid()) };
    // Somebody else's, which we may write all the same, stays as it is: only root could keep its owner out.
    let _ = own(&made.fd, 0o700, us.0, us.1);
    Ok(made)
}

/// Names in a directory.
fn list(dir: &OwnedFd) -> Result<Vec<CString>, rustix::io::Errno> {
    let mut out = Vec::new();
    for item in rustix::fs::Dir::read_from(dir)? {
        let name = item?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            out.push(name);
        }
    }
    Ok(out)
}

/// Gives a directory an owner, if it has another one, and permissions.
fn own(dir: &OwnedFd, mode: u32, uid: u32, gid: u32) -> Result<(), rustix::io::Errno> {
    let st = rustix::fs::fstat(dir)?;
    if (st.st_uid, st.st_gid) != (uid, gid) {
        rustix::fs::fchown(dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    rustix::fs::fchmod(dir, Mode::from_raw_mode(mode))
}

/// Where a directory is, as the host's kernel calls it.
fn place_of(dir: &OwnedFd) -> std::io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

impl<'a> Filler<'a> {
    /// Fills directories that are there and empty, one for each top, with everything but contents.
    fn begin(tree: &'a Tree, dirs: Vec<PathBuf>, opened: Vec<OwnedFd>) -> Result<Filler<'a>, String> {
        let mut f = Filler {
            tree,
            dirs,
            spots: vec![Spot::None; tree.nodes.len()],
            covered: BTreeSet::new(),
            opened,
            files: Vec::new(),
            open: None,
            last: None,
        };
        f.names()?;
        let with_contents = tree.nodes.iter().zip(0u32..).filter_map(|(n, i)| match n.kind {
            NodeKind::File { first, len } => Some((first, first + n.kind.pages(), i, len)),
            _ => None,
        });
        f.files = with_contents.filter(|(first, end, ..)| first < end).collect();
        f.files.sort_unstable();
        Ok(f)
    }

    /// The top that a node is in, and its path in there.
    fn way(&self, node: u32) -> Option<(usize, PathBuf)> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut at = node;
        loop {
            match self.spots[at as usize] {
                Spot::None => return None,
                Spot::Top(n) => {
                    let rel = parts.iter().rev().map(|p| OsStr::from_bytes(p)).collect();
                    return Some((n as usize, rel));
                }
                // A name's directory has its own spot before it: this ends.
                Spot::Name(n) => {
                    let n = self.first(n);
                    parts.push(&n.name);
                    at = n.parent;
                }
            }
        }
    }

    fn first(&self, name: u32) -> &'a Name {
        &self.tree.names[name as usize]
    }

    /// Where a node is, for messages.
    fn path(&self, node: u32) -> PathBuf {
        let found = self.way(node);
        found.map_or_else(PathBuf::new, |(top, rel)| self.dirs[top].join(rel))
    }

    fn failed(&self, name: &Name, e: &std::io::Error) -> String {
        bad(&self.path(name.parent).join(OsStr::from_bytes(&name.name)), e)
    }

    /// A directory, opened.
    fn directory<'b>(&self, node: u32, last: &'b mut Last) -> std::io::Result<&'b OwnedFd> {
        let dir = match last.take() {
            Some(found) if found.0 == node => found.1,
            _ => {
                let (top, rel) = self
                    .way(node)
                    .ok_or(std::io::Error::from(std::io::ErrorKind::NotADirectory))?;
                below(&self.opened[top], &rel)?
            }
        };
        Ok(&last.insert((node, dir)).1)
    }

    fn names(&mut self) -> Result<(), String> {
        let tree = self.tree;
        for (top, n) in tree.tops.iter().zip(0u32..) {
            self.spots[top.root as usize] = Spot::Top(n);
        }
        let (mut last, mut from) = (None, None);
        for (n, at) in tree.names.iter().zip(0u32..) {
            if self.covered.contains(&n.parent) {
                return Err(format!(
                    "{}: two of its volumes have files in this directory; restore it without --volumes-to",
                    self.path(n.parent).display()
                ));
            }
            let done = match self.spots[n.node as usize] {
                Spot::None => self.create(n, &mut last),
                // It has one already. A top has no name.
                Spot::Top(_) => Err(std::io::ErrorKind::InvalidInput.into()),
                Spot::Name(first) => self.link(self.first(first), n, &mut from, &mut last),
            };
            let is_top = |path: PathBuf| self.dirs.contains(&path.join(OsStr::from_bytes(&n.name)));
            match done {
                Ok(()) => {}
                // Another volume, which was mounted there.
                Err(e)
                    if e.kind() == std::io::ErrorKind::AlreadyExists
                        && tree.nodes[n.node as usize].kind == NodeKind::Directory
                        && is_top(self.path(n.parent)) =>
                {
                    self.covered.insert(n.node);
                }
                Err(e) => return Err(self.failed(n, &e)),
            }
            let spot = &mut self.spots[n.node as usize];
            if *spot == Spot::None {
                *spot = Spot::Name(at);
            }
        }
        Ok(())
    }

    /// A name more of what has one.
    fn link(&self, first: &Name, n: &Name, from: &mut Last, last: &mut Last) -> std::io::Result<()> {
        let from = self.directory(first.parent, from)?;
        let dir = self.directory(n.parent, last)?;
        let flags = AtFlags::empty();
        Ok(rustix::fs::linkat(
            from,
            first.name.as_slice(),
            dir,
            n.name.as_slice(),
            flags,
        )?)
    }

    /// Makes a node that can be written by us only; what it is like comes last.
    fn create(&self, n: &Name, last: &mut Last) -> std::io::Result<()> {
        let dir = self.directory(n.parent, last)?;
        let name = n.name.as_slice();
        let ours = Mode::RUSR | Mode::WUSR;
        match &self.tree.nodes[n.node as usize].kind {
            NodeKind::Directory => rustix::fs::mkdirat(dir, name, Mode::RWXU)?,
            NodeKind::File { len, .. } => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(dir, name, flags, ours)?;
                rustix::fs::ftruncate(&file, *len)?;
            }
            NodeKind::Symlink(to) => rustix::fs::symlinkat(to.as_slice(), dir, name)?,
            NodeKind::Fifo => rustix::fs::mknodat(dir, name, rustix::fs::FileType::Fifo, ours, 0)?,
            NodeKind::Socket => rustix::fs::mknodat(dir, name, rustix::fs::FileType::Socket, ours, 0)?,
        }
        Ok(())
    }

    /// A file, to be written. By its directory, as its path may be longer than a path can be.
    fn file(&self, node: u32, last: &mut Last) -> std::io::Result<File> {
        let Spot::Name(n) = self.spots[node as usize] else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        let n = self.first(n);
        let dir = self.directory(n.parent, last)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, n.name.as_slice(), flags, Mode::empty())?;
        Ok(File::from(file))
    }

    /// Pages of contents, in any order; those of one file one behind the other are the fastest.
    fn pages(&mut self, first: u64, mut bytes: &[u8]) -> Result<(), String> {
        let mut at = first;
        while !bytes.is_empty() {
            let n = self.files.partition_point(|(_, end, ..)| *end <= at);
            let Some(&(start, end, node, len)) = self.files.get(n).filter(|(start, ..)| *start <= at) else {
                return Err("snapshot: contents of no file of its volumes".to_string());
            };
            let take = ((end - at) * PAGE).min(bytes.len() as u64) as usize;
            let (now, later) = bytes.split_at(take);
            let offset = (at - start) * PAGE;
            // Behind its end the last page has nothing.
            let now = &now[..now.len().min(len.saturating_sub(offset) as usize)];
            if self.open.as_ref().is_none_or(|(n, _)| *n != node) {
                let mut last = self.last.take();
                let file = self.file(node, &mut last);
                self.last = last;
                self.open = Some((node, file.map_err(|e| bad(&self.path(node), &e))?));
            }
            if let Some((_, file)) = &self.open {
                file.write_all_at(now, offset)
                    .map_err(|e| bad(&self.path(node), &e))?;
            }
            at += take as u64 / PAGE;
            bytes = later;
        }
        Ok(())
    }

    /// Owners, permissions, attributes and times; then the map of the new directories.
    fn finish(mut self) -> Result<(Map, Lost), String> {
        self.open = None;
        let tree = self.tree;
        let mut lost = Lost::default();
        let mut ids = Vec::new();
        // What is in a directory comes before the directory, which it would change: its names are behind its own.
        let mut last = None;
        for (at, n) in tree.names.iter().enumerate().rev() {
            if self.spots[n.node as usize] != Spot::Name(at as u32) || self.covered.contains(&n.node) {
                continue;
            }
            let node = &tree.nodes[n.node as usize];
            let done = self.directory(n.parent, &mut last).and_then(|dir| {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(dir, n.name.as_slice(), flags, Mode::empty())?;
                like(node, &fd, &|| self.path(n.node), &mut lost)
            });
            ids.push((done.map_err(|e| self.failed(n, &e))?, node.id));
        }
        for ((top, fd), dir) in tree.tops.iter().zip(&self.opened).zip(&self.dirs) {
            let node = &tree.nodes[top.root as usize];
            let real = like(node, fd, &|| dir.clone(), &mut lost).map_err(|e| bad(dir, &e))?;
            ids.push((real, node.id));
        }
        let tops = tree.tops.iter().zip(&self.dirs).map(|(t, dir)| Top {
            was: t.at.clone(),
            now: dir.as_os_str().as_bytes().to_vec(),
            dev: tree.nodes[t.root as usize].id.0,
        });
        let map = Map::new(tops.collect(), ids);
        for (fd, dir) in self.opened.iter().zip(&self.dirs) {
            // Programs of the image have had fsync say that it is on the disk.
            rustix::fs::syncfs(fd).map_err(|e| bad(dir, &e.into()))?;
        }
        Ok((map, lost))
    }
}

/// A directory below another one, by a path without symlinks.
fn below(top: &OwnedFd, rel: &Path) -> std::io::Result<OwnedFd> {
    let rel = match rel.as_os_str().is_empty() {
        true => Path::new("."),
        false => rel,
    };
    Ok(rustix::fs::openat2(top, rel, LOOK, Mode::empty(), WITHIN)?)
}

/// Gives a file what its node has, by a descriptor: it is this file, whatever its name is by now. Returns its device and inode number.
fn like(
    node: &Node,
    fd: &OwnedFd,
    path: &dyn Fn() -> PathBuf,
    lost: &mut Lost,
) -> std::io::Result<(u64, u64)> {
    use rustix::io::Errno;
    // Most calls take no descriptor that is open for nothing. Its name in /proc leads to the file, and if that is a symlink no further.
    let by = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let st = rustix::fs::fstat(fd)?;
    let (uid, gid) = node.owner;
    let mut mode = node.mode;
    if (st.st_uid, st.st_gid) != (uid, gid) {
        let own = |u, g| rustix::fs::chownat(fd, "", u, g, AtFlags::EMPTY_PATH);
        // The group alone may be one of ours.
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        if let Err(e) = own(Some(uid), Some(gid)) {
            let _ = own(None, Some(gid));
            // A program that ran with the rights of the one must not run with those of the other.
            mode &= !0o6000;
            lost.owners += 1;
            lost.note(path, e);
        }
    }
    // Once others own it and may not be written by us, attributes could not be set: modes come after them.
    for (attr, value) in &node.xattrs {
        match rustix::fs::setxattr(by.as_str(), attr.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(e @ (Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL)) => {
                lost.attributes += 1;
                lost.note(path, e);
            }
            Err(e) => return Err(e.into()),
        }
    }
    if !matches!(node.kind, NodeKind::Symlink(_)) {
        // Behind the owner, whose change takes set-user-ID away.
        match rustix::fs::chmod(by.as_str(), Mode::from_raw_mode(mode)) {
            Ok(()) => {}
            // Others' files now: only root could have given them away.
            Err(e @ Errno::PERM) => lost.note(path, e),
            Err(e) => return Err(e.into()),
        }
    }
    let time = |t: i128| Timespec {
        tv_sec: t.div_euclid(1_000_000_000) as i64,
        tv_nsec: t.rem_euclid(1_000_000_000) as _,
    };
    let times = Timestamps {
        last_access: time(node.atime),
        last_modification: time(node.mtime),
    };
    match rustix::fs::utimensat(rustix::fs::CWD, by.as_str(), &times, AtFlags::empty()) {
        Ok(()) | Err(Errno::PERM) => Ok((st.st_dev, st.st_ino)),
        Err(e) => Err(e.into()),
    }
}

/// Where a restored image's volumes go.
pub struct Place {
    /// The run's own directory for them, with their map.
    pub run: PathBuf,
    /// Below this directory of the user's, by the paths that they had when the image was started.
    pub to: Option<PathBuf>,
}

/// Name of the map in [`Place::run`].
const MAP: &str = "map";

/// Name of a file there while directories are being filled.
const UNFINISHED: &str = "unfinished";

/// Directories that were filled for an image.
pub struct Given {
    /// File of their map.
    pub map: PathBuf,
    /// What is to be said of them.
    pub said: Option<String>,
    made: Vec<Made>,
    run: PathBuf,
}

impl Given {
    /// As if it had not been done: for an image that never began. Directories on the way to those that were filled stay.
    pub fn undo(self) {
        undo(&self.made, &self.run);
    }
}

/// Fills directories from a chain's volumes. After an error what was made is removed, and a directory that was there is empty as before;
/// directories on the way to it stay.
pub fn unpack(chain: &Chain, place: &Place) -> Result<Given, String> {
    let section = chain.manifest().extra(SECTION);
    let tree = Tree::decode(section.unwrap_or_default()).map_err(|why| format!("snapshot: {why}"))?;
    let dirs: Vec<PathBuf> = tree
        .tops
        .iter()
        .enumerate()
        .map(|(i, top)| match &place.to {
            None => place.run.join(i.to_string()),
            Some(to) => to.join(OsStr::from_bytes(
                top.host.strip_prefix(b"/").unwrap_or(&top.host),
            )),
        })
        .collect();
    let unfinished = place.run.join(UNFINISHED);
    if place.run.exists() && !unfinished.exists() {
        return Err(format!(
            "{}: the run was restored before, and its volumes hold what it has written since, which another restore would lose; restore \
             the snapshot under another name, or remove this run (ftvm rm)",
            place.run.display()
        ));
    }
    if unfinished.exists() {
        // An earlier restore died over it, before there was an image that could write to it.
        remove_tree(&place.run).map_err(|e| bad(&place.run, &e))?;
    }
    std::fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(&place.run)
        .map_err(|e| bad(&place.run, &e))?;
    let mut made = Vec::new();
    let done = File::create(&unfinished)
        .map_err(|e| bad(&unfinished, &e))
        .and_then(|_| fill(chain, &tree, dirs, place, &mut made));
    let done = done.and_then(|found| match std::fs::remove_file(&unfinished) {
        Ok(()) => Ok(found),
        Err(e) => Err(bad(&unfinished, &e)),
    });
    match done {
        Ok((map, said)) => Ok(Given {
            map,
            said,
            made,
            run: place.run.clone(),
        }),
        Err(why) => {
            undo(&made, &place.run);
            Err(why)
        }
    }
}

fn fill(
    chain: &Chain,
    tree: &Tree,
    dirs: Vec<PathBuf>,
    place: &Place,
    made: &mut Vec<Made>,
) -> Result<(PathBuf, Option<String>), String> {
    let (mut real, mut opened) = (Vec::new(), Vec::new());
    for dir in &dirs {
        let new = make(dir)?;
        // As the host's kernel calls it: what is open there is found by that.
        real.push(place_of(&new.fd).map_err(|e| bad(dir, &e))?);
        opened.push(new.fd.try_clone().map_err(|e| bad(dir, &e))?);
        made.push(new);
    }
    let run = place.run.canonicalize().map_err(|e| bad(&place.run, &e))?;
    let mut filler = Filler::begin(tree, real, opened)?;
    chain
        .for_each_of(
            |o| o == Object::Volumes,
            |_, first, bytes| filler.pages(first, bytes).map_err(Fault::Store),
        )
        .map_err(Fault::text)?;
    let (map, lost) = filler.finish()?;
    let file = run.join(MAP);
    map.save(&file)?;
    Ok((file, lost.say()))
}

/// Removes directories that were made, and empties those that were there and empty.
fn undo(made: &[Made], run: &Path) {
    for Made { dir, fd, before } in made.iter().rev() {
        // Its own permissions may be those of the snapshot already.
        let _ = rustix::fs::fchmod(fd, Mode::RWXU);
        // By the descriptor's name in /proc, which leads there and nowhere else.
        let here = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        for name in list(fd).unwrap_or_default() {
            let _ = remove_tree(&here.join(OsStr::from_bytes(name.to_bytes())));
        }
        let _ = match before {
            None => std::fs::remove_dir(dir),
            Some((mode, uid, gid)) => own(fd, *mode, *uid, *gid).map_err(Into::into),
        };
    }
    let _ = remove_tree(run);
}

#[cfg(test)]
mod tests;
