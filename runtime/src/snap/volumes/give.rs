//! Directories from a snapshot's volumes, before the image that has them is started.
//!
//! A tree was checked when the snapshot was opened: no name in it leads up. Names are walked by the host's kernel below the new directory,
//! where no symlink is followed, so none that the snapshot holds leads out either. Each page is checked by whoever reads the snapshot.
//! What was there before is never touched: a directory must not be there, or be empty.

use crate::cli::reason;
use crate::platform::moved::{Map, Top};
use crate::store::write::Fault;
use ftl_core::layout::PAGE;
use ftl_core::snap::tree::{Node, NodeKind, SECTION, Tree, is_name};
use ftl_core::snap::{Chain, Object};
use ftl_images::tree::remove_tree;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use std::collections::BTreeMap;
use std::ffi::OsStr;
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

    fn note(&mut self, path: &Path, e: rustix::io::Errno) {
        self.first
            .get_or_insert_with(|| format!("{}: {}", path.display(), reason(&e.into())));
    }
}

/// Directories that are being filled.
pub struct Filler<'a> {
    tree: &'a Tree,
    /// Of each top: where it is.
    dirs: Vec<PathBuf>,
    /// Of each node: its top, and its first path below that.
    places: Vec<(usize, PathBuf)>,
    /// Of each top, opened.
    opened: Vec<OwnedFd>,
    /// First page, page behind the last, node and bytes: of files with contents, ascending.
    files: Vec<(u64, u64, u32, u64)>,
    /// The file that was written last.
    open: Option<(u32, File)>,
}

fn bad(path: &Path, e: &std::io::Error) -> String {
    format!("{}: {}", path.display(), reason(e))
}

/// Makes a directory for a volume. One that is there must be empty. True: it was not there.
fn make(dir: &Path) -> Result<bool, String> {
    let above = dir.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(above).map_err(|e| bad(above, &e))?;
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => return made.map(|()| true).map_err(|e| bad(dir, &e)),
    }
    let empty = std::fs::symlink_metadata(dir).is_ok_and(|m| m.is_dir())
        && std::fs::read_dir(dir).map_err(|e| bad(dir, &e))?.next().is_none();
    match empty {
        true => Ok(false),
        false => Err(format!(
            "{}: is there, and is no empty directory: nothing is overwritten; move it away, or name another directory with --volumes-to",
            dir.display()
        )),
    }
}

impl<'a> Filler<'a> {
    /// Fills directories that are there and empty, one for each top, with everything but contents.
    fn begin(tree: &'a Tree, dirs: Vec<PathBuf>) -> Result<Filler<'a>, String> {
        let mut opened = Vec::new();
        for dir in &dirs {
            opened.push(
                rustix::fs::open(dir, LOOK | OFlags::NOFOLLOW, Mode::empty())
                    .map_err(|e| bad(dir, &e.into()))?,
            );
        }
        let mut f = Filler {
            tree,
            dirs,
            places: vec![(0, PathBuf::new()); tree.nodes.len()],
            opened,
            files: Vec::new(),
            open: None,
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

    /// Where a node is, for messages.
    fn path(&self, node: u32) -> PathBuf {
        let (top, rel) = &self.places[node as usize];
        self.dirs[*top].join(rel)
    }

    fn names(&mut self) -> Result<(), String> {
        let tree = self.tree;
        let mut placed = vec![false; tree.nodes.len()];
        for (i, top) in tree.tops.iter().enumerate() {
            self.places[top.root as usize] = (i, PathBuf::new());
            placed[top.root as usize] = true;
        }
        // The directory of the name before: names of one directory are one behind the other.
        let mut last: Option<(u32, OwnedFd)> = None;
        for n in &tree.names {
            let (top, rel) = &self.places[n.parent as usize];
            let (top, path) = (*top, rel.join(OsStr::from_bytes(&n.name)));
            let full = self.dirs[top].join(&path);
            if !is_name(&n.name) {
                return Err(format!("{}: a name that leads elsewhere", full.display()));
            }
            if last.as_ref().is_none_or(|(parent, _)| *parent != n.parent) {
                let dir = self.directory(n.parent).map_err(|e| bad(&full, &e))?;
                last = Some((n.parent, dir));
            }
            let Some((_, dir)) = &last else { continue };
            let done = match placed[n.node as usize] {
                false => match self.create(dir, &n.name, n.node) {
                    // Another volume, which was mounted there.
                    Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && self.dirs.contains(&full) => {
                        Ok(())
                    }
                    made => made,
                },
                true => {
                    let (top, rel) = &self.places[n.node as usize];
                    let from = rel.parent().unwrap_or(Path::new(""));
                    let name = rel.file_name().unwrap_or_default();
                    below(&self.opened[*top], from).and_then(|from| {
                        Ok(rustix::fs::linkat(
                            &from,
                            name,
                            dir,
                            n.name.as_slice(),
                            AtFlags::empty(),
                        )?)
                    })
                }
            };
            done.map_err(|e| bad(&full, &e))?;
            if !std::mem::replace(&mut placed[n.node as usize], true) {
                self.places[n.node as usize] = (top, path);
            }
        }
        Ok(())
    }

    fn directory(&self, node: u32) -> std::io::Result<OwnedFd> {
        let (top, rel) = &self.places[node as usize];
        below(&self.opened[*top], rel)
    }

    /// Makes a node that can be written by us only; what it is like comes last.
    fn create(&self, dir: &OwnedFd, name: &[u8], node: u32) -> std::io::Result<()> {
        let ours = Mode::RUSR | Mode::WUSR;
        match &self.tree.nodes[node as usize].kind {
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

    /// Pages of contents, in any order; those of one file one behind the other are the fastest.
    pub fn pages(&mut self, first: u64, mut bytes: &[u8]) -> Result<(), String> {
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
                let (top, rel) = &self.places[node as usize];
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat2(&self.opened[*top], rel, flags, Mode::empty(), WITHIN)
                    .map_err(|e| bad(&self.path(node), &e.into()))?;
                self.open = Some((node, File::from(file)));
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
    pub fn finish(mut self) -> Result<(Map, Lost), String> {
        self.open = None;
        let mut lost = Lost::default();
        let mut ids = Vec::new();
        // What is in a directory comes before the directory, which it would change.
        let mut order: Vec<u32> = (0..self.tree.nodes.len() as u32).collect();
        let depth = |n: &u32| self.places[*n as usize].1.components().count();
        order.sort_by_key(|n| std::cmp::Reverse(depth(n)));
        let mut devs: BTreeMap<u32, u64> = BTreeMap::new();
        for n in order {
            let node = &self.tree.nodes[n as usize];
            let path = self.path(n);
            let (top, rel) = &self.places[n as usize];
            let root = &self.opened[*top];
            let name: &[u8] = match rel.file_name() {
                Some(name) => name.as_bytes(),
                None => b".",
            };
            let dir = below(root, rel.parent().unwrap_or(Path::new(""))).map_err(|e| bad(&path, &e))?;
            like(node, &dir, name, &path, &mut lost).map_err(|e| bad(&path, &e))?;
            let st = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| bad(&path, &e.into()))?;
            ids.push(((st.st_dev, st.st_ino), node.id));
            devs.insert(n, node.id.0);
        }
        let tops = self.tree.tops.iter().zip(&self.dirs).map(|(t, dir)| Top {
            was: t.at.clone(),
            now: dir.as_os_str().as_bytes().to_vec(),
            dev: devs.get(&t.root).copied().unwrap_or(0),
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

/// Gives a name in a directory what its node has. By descriptors and names only: nothing is followed.
fn like(node: &Node, dir: &OwnedFd, name: &[u8], path: &Path, lost: &mut Lost) -> std::io::Result<()> {
    use rustix::io::Errno;
    let st = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let (uid, gid) = node.owner;
    if (st.st_uid, st.st_gid) != (uid, gid) {
        let own = |u, g| rustix::fs::chownat(dir, name, u, g, AtFlags::SYMLINK_NOFOLLOW);
        // The group alone may be one of ours.
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        if let Err(e) = own(Some(uid), Some(gid)) {
            let _ = own(None, Some(gid));
            lost.owners += 1;
            lost.note(path, e);
        }
    }
    let symlink = matches!(node.kind, NodeKind::Symlink(_));
    let by = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
    // Once others own it and may not be written by us, attributes could not be set: modes come after them.
    for (attr, value) in &node.xattrs {
        match rustix::fs::lsetxattr(by.as_slice(), attr.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(e @ (Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL)) => {
                lost.attributes += 1;
                lost.note(path, e);
            }
            Err(e) => return Err(e.into()),
        }
    }
    if !symlink {
        // Behind the owner, whose change takes set-user-ID away.
        match rustix::fs::chmodat(dir, name, Mode::from_raw_mode(node.mode), AtFlags::empty()) {
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
    match rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
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
pub const MAP: &str = "map";

/// Fills directories from a chain's volumes. Returns the map's file, and what is to be said. After an error nothing of them is left.
pub fn unpack(chain: &Chain, place: &Place) -> Result<(PathBuf, Option<String>), String> {
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
    if place.run.exists() {
        return Err(format!(
            "{}: the run was restored before, and its volumes hold what it has written since, which another restore would lose; restore \
             the snapshot under another name, or remove this run (ftvm rm)",
            place.run.display()
        ));
    }
    std::fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(&place.run)
        .map_err(|e| bad(&place.run, &e))?;
    let mut made = Vec::new();
    let done = fill(chain, &tree, dirs, place, &mut made);
    if done.is_err() {
        for (dir, new) in made.iter().rev() {
            clear(dir, *new);
        }
        let _ = remove_tree(&place.run);
    }
    done
}

fn fill(
    chain: &Chain,
    tree: &Tree,
    dirs: Vec<PathBuf>,
    place: &Place,
    made: &mut Vec<(PathBuf, bool)>,
) -> Result<(PathBuf, Option<String>), String> {
    let mut real = Vec::new();
    for dir in &dirs {
        let new = make(dir)?;
        made.push((dir.clone(), new));
        // As the host's kernel calls it: what is open there is found by that.
        real.push(dir.canonicalize().map_err(|e| bad(dir, &e))?);
    }
    let run = place.run.canonicalize().map_err(|e| bad(&place.run, &e))?;
    let mut filler = Filler::begin(tree, real)?;
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

/// Empties a directory that was empty before; removes one that was not there.
fn clear(dir: &Path, new: bool) {
    for item in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let _ = remove_tree(&item.path());
    }
    if new {
        let _ = std::fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests;
