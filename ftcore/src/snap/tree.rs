//! Directories of the host in a snapshot (`--volumes snapshot`): what is in them, as data.
//!
//! The contents of files are pages of [`super::Object::Volumes`], one file behind the other, so that they are hashed, compressed,
//! encrypted and shared like all pages. A page that is not there is zero: a hole. All else is a [`Tree`], in the section
//! [`SECTION`] of the manifest.
//!
//! A tree is hostile until it was checked: [`Tree::decode`] gives none whose names lead out of it, or that is no tree.

use super::{MAX_PAGE, PAGE_LEN};
use crate::log::Wire;
use crate::log::wire::{put_list, take_list};
use std::collections::BTreeSet;

/// Name of the manifest's section.
pub const SECTION: &str = "volumes";

/// Longest name in a directory (NAME_MAX).
const NAME_MAX: usize = 255;
/// Longest path and target of a symlink, with its NUL (PATH_MAX).
const PATH_MAX: usize = 4096;
/// Longest value of an extended attribute (XATTR_SIZE_MAX).
const XATTR_MAX: usize = 65536;
/// `struct timespec` of 64 bits, in ns.
const TIMES: std::ops::RangeInclusive<i128> =
    i64::MIN as i128 * 1_000_000_000..=i64::MAX as i128 * 1_000_000_000 + 999_999_999;

/// What something is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeKind {
    /// Names are in [`Tree::names`].
    Directory,
    /// A regular file.
    File {
        /// Bytes.
        len: u64,
        /// Page of [`super::Object::Volumes`] that its contents begin at.
        first: u64,
    },
    /// With its target.
    Symlink(Vec<u8>),
    /// A named pipe; what is in it is the image's.
    Fifo,
    /// The name of a UNIX socket, without anybody who listens.
    Socket,
}

impl NodeKind {
    /// Bytes of contents, holes among them.
    pub fn bytes(&self) -> u64 {
        match self {
            NodeKind::File { len, .. } => *len,
            _ => 0,
        }
    }

    /// Pages of contents.
    pub fn pages(&self) -> u64 {
        self.bytes().div_ceil(PAGE_LEN as u64)
    }
}

/// A file of any kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// st_dev and st_ino as the image knows them: it goes on knowing the file by them.
    pub id: (u64, u64),
    /// What it is.
    pub kind: NodeKind,
    /// Permissions, at most 0o7777.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Last access, ns since 1970.
    pub atime: i128,
    /// Last change of contents, ns since 1970.
    pub mtime: i128,
    /// Extended attributes: name, value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One name of a node: several of one that is no directory are hard links.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// Directory, by its place in [`Tree::nodes`].
    pub parent: u32,
    /// Last component.
    pub name: Vec<u8>,
    /// Whose name it is.
    pub node: u32,
}

/// A directory that is held whole, and not in another one that is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Top {
    /// Where it was on the host: absolute, without symlinks.
    pub at: Vec<u8>,
    /// Where it was when the image was started: another directory if an earlier restore has moved it.
    pub host: Vec<u8>,
    /// Its place in [`Tree::nodes`].
    pub root: u32,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    /// The directories.
    pub tops: Vec<Top>,
    /// All files.
    pub nodes: Vec<Node>,
    /// Their names; a directory's own comes before those in it.
    pub names: Vec<Name>,
}

impl Wire for Node {
    fn put(&self, out: &mut Vec<u8>) {
        self.id.put(out);
        match &self.kind {
            NodeKind::Directory => out.push(0),
            NodeKind::File { len, first } => {
                out.push(1);
                (*len, *first).put(out);
            }
            NodeKind::Symlink(to) => {
                out.push(2);
                to.put(out);
            }
            NodeKind::Fifo => out.push(3),
            NodeKind::Socket => out.push(4),
        }
        self.mode.put(out);
        self.owner.put(out);
        (self.atime, self.mtime).put(out);
        put_list(&self.xattrs, out);
    }
    fn take(src: &mut &[u8]) -> Option<Node> {
        let id = Wire::take(src)?;
        let kind = match u8::take(src)? {
            0 => NodeKind::Directory,
            1 => {
                let (len, first) = Wire::take(src)?;
                NodeKind::File { len, first }
            }
            2 => NodeKind::Symlink(Wire::take(src)?),
            3 => NodeKind::Fifo,
            4 => NodeKind::Socket,
            _ => return None,
        };
        let (mode, owner) = (Wire::take(src)?, Wire::take(src)?);
        let (atime, mtime) = Wire::take(src)?;
        Some(Node {
            id,
            kind,
            mode,
            owner,
            atime,
            mtime,
            xattrs: take_list(src)?,
        })
    }
}

impl Wire for Name {
    fn put(&self, out: &mut Vec<u8>) {
        self.parent.put(out);
        self.name.put(out);
        self.node.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Name> {
        Some(Name {
            parent: Wire::take(src)?,
            name: Wire::take(src)?,
            node: Wire::take(src)?,
        })
    }
}

impl Wire for Top {
    fn put(&self, out: &mut Vec<u8>) {
        self.at.put(out);
        self.host.put(out);
        self.root.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Top> {
        Some(Top {
            at: Wire::take(src)?,
            host: Wire::take(src)?,
            root: Wire::take(src)?,
        })
    }
}

/// True for what can be a name in a directory, and leads to nothing but what is in it.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name != b"."
        && name != b".."
        && !name.iter().any(|b| matches!(b, 0 | b'/'))
}

/// Absolute, and nothing in it leads up or nowhere.
fn is_path(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/") else {
        return false;
    };
    path.len() < PATH_MAX && (rest.is_empty() || rest.split(|b| *b == b'/').all(is_name))
}

impl Tree {
    /// The section's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&self.tops, &mut out);
        put_list(&self.nodes, &mut out);
        put_list(&self.names, &mut out);
        out
    }

    /// Reads and checks a section.
    pub fn decode(mut bytes: &[u8]) -> Result<Tree, &'static str> {
        let whole = bytes;
        let src = &mut bytes;
        let mut parse = || {
            Some(Tree {
                tops: take_list(src)?,
                nodes: take_list(src)?,
                names: take_list(src)?,
            })
        };
        let tree = parse().ok_or("its volumes are no tree of files")?;
        // One content has one encoding, so that a root stands for it.
        if tree.encode() != whole {
            return Err("its volumes have bytes that mean nothing");
        }
        tree.check()?;
        Ok(tree)
    }

    fn check(&self) -> Result<(), &'static str> {
        let mut placed = vec![false; self.nodes.len()];
        let is_dir = |n: u32| {
            let node = self.nodes.get(n as usize);
            node.is_some_and(|n| n.kind == NodeKind::Directory)
        };
        for top in &self.tops {
            if !is_dir(top.root) || !is_path(&top.at) || !is_path(&top.host) {
                return Err("a volume is no directory, or has no path");
            }
            if std::mem::replace(&mut placed[top.root as usize], true) {
                return Err("a directory is in two places");
            }
        }
        let mut seen = BTreeSet::new();
        for name in &self.names {
            if !is_name(&name.name) {
                return Err("a name in a volume leads elsewhere");
            }
            if !is_dir(name.parent) || !placed[name.parent as usize] {
                return Err("a name in a volume is in no directory");
            }
            if !seen.insert((name.parent, name.name.as_slice())) {
                return Err("a name in a volume is there twice");
            }
            let Some(was) = placed.get_mut(name.node as usize) else {
                return Err("a name in a volume is of nothing");
            };
            if std::mem::replace(was, true) && is_dir(name.node) {
                return Err("a directory is in two places");
            }
        }
        if placed.contains(&false) {
            return Err("a file in a volume has no name");
        }
        let mut files = Vec::new();
        for node in &self.nodes {
            node.check()?;
            if let NodeKind::File { first, .. } = node.kind
                && node.kind.pages() > 0
            {
                files.push((first, first.saturating_add(node.kind.pages())));
            }
        }
        files.sort_unstable();
        let apart = files.windows(2).all(|w| w[0].1 <= w[1].0);
        if !apart || files.last().is_some_and(|f| f.1 > MAX_PAGE) {
            return Err("files in volumes share pages, or have some that cannot be");
        }
        Ok(())
    }

    /// The page behind the last one of contents.
    pub fn end(&self) -> u64 {
        let ends = self.nodes.iter().filter_map(|n| match n.kind {
            NodeKind::File { first, .. } if n.kind.pages() > 0 => Some(first + n.kind.pages()),
            _ => None,
        });
        ends.max().unwrap_or(0)
    }
}

impl Node {
    fn check(&self) -> Result<(), &'static str> {
        let fits = match &self.kind {
            NodeKind::File { len, first } => *len <= i64::MAX as u64 && *first <= MAX_PAGE,
            NodeKind::Symlink(to) => !to.is_empty() && to.len() < PATH_MAX && !to.contains(&0),
            _ => true,
        };
        let times = TIMES.contains(&self.atime) && TIMES.contains(&self.mtime);
        let attr = |(name, value): &(Vec<u8>, Vec<u8>)| {
            (1..=NAME_MAX).contains(&name.len()) && !name.contains(&0) && value.len() <= XATTR_MAX
        };
        // -1 is nobody: for a call that sets an owner it is "as it is".
        let owner = self.owner.0 != u32::MAX && self.owner.1 != u32::MAX;
        match fits && times && owner && self.mode <= 0o7777 && self.xattrs.iter().all(attr) {
            true => Ok(()),
            false => Err("a file in a volume is what no file is"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) fn node(kind: NodeKind) -> Node {
        Node {
            id: (1, 2),
            kind,
            mode: 0o640,
            owner: (1000, 1000),
            atime: -1,
            mtime: 1_700_000_000_123_456_789,
            xattrs: vec![(b"user.a".to_vec(), vec![0, 255])],
        }
    }

    fn name(parent: u32, name: &[u8], node: u32) -> Name {
        Name {
            parent,
            name: name.to_vec(),
            node,
        }
    }

    fn sample() -> Tree {
        Tree {
            tops: vec![Top {
                at: b"/srv/data".to_vec(),
                host: b"/".to_vec(),
                root: 0,
            }],
            nodes: vec![
                node(NodeKind::Directory),
                node(NodeKind::File { len: 5000, first: 0 }),
                node(NodeKind::Directory),
                node(NodeKind::Symlink(b"../../etc".to_vec())),
                node(NodeKind::Fifo),
                node(NodeKind::File { len: 1, first: 2 }),
                node(NodeKind::File { len: 0, first: 0 }),
                node(NodeKind::Socket),
            ],
            names: vec![
                name(0, b"a", 1),
                name(0, b"d", 2),
                name(2, b"a", 1),
                name(2, b"up", 3),
                name(0, b"f", 4),
                name(0, b"..a", 5),
                name(0, b"empty", 6),
                name(0, b"s", 7),
            ],
        }
    }

    #[test]
    fn a_tree_comes_back() {
        let tree = sample();
        assert_eq!(Tree::decode(&tree.encode()), Ok(tree.clone()));
        let bytes: u64 = tree.nodes.iter().map(|n| n.kind.bytes()).sum();
        assert_eq!((tree.end(), bytes), (3, 5001));
        assert_eq!(Tree::decode(&Tree::default().encode()), Ok(Tree::default()));
    }

    #[test]
    fn what_leads_out_or_is_no_tree_is_refused() {
        type Change = fn(&mut Tree);
        let bad: [(&str, Change); 22] = [
            ("up", |t| t.names[0].name = b"..".to_vec()),
            ("here", |t| t.names[0].name = b".".to_vec()),
            ("a slash", |t| t.names[0].name = b"a/b".to_vec()),
            ("a NUL", |t| t.names[0].name = b"a\0".to_vec()),
            ("nothing", |t| t.names[0].name = Vec::new()),
            ("too long", |t| t.names[0].name = vec![b'a'; 256]),
            ("below a file", |t| t.names[2].parent = 1),
            ("below a symlink", |t| t.names[2].parent = 3),
            ("before its directory", |t| t.names.swap(1, 2)),
            ("twice", |t| t.names[1].name = b"a".to_vec()),
            ("a loop", |t| t.names.push(name(2, b"x", 2))),
            ("the top below itself", |t| t.names.push(name(2, b"x", 0))),
            ("of nothing", |t| t.names[0].node = 99),
            ("unnamed", |t| t.nodes.push(node(NodeKind::Fifo))),
            ("shared pages", |t| {
                t.nodes[5].kind = NodeKind::File { len: 1, first: 1 }
            }),
            ("too many pages", |t| {
                t.nodes[5].kind = NodeKind::File {
                    len: i64::MAX as u64,
                    first: 2,
                }
            }),
            ("no path", |t| t.tops[0].at = b"/a/../b".to_vec()),
            ("a relative path", |t| t.tops[0].at = b"a".to_vec()),
            ("a place that leads up", |t| t.tops[0].host = b"/..".to_vec()),
            ("a top that is a file", |t| t.tops[0].root = 1),
            ("an odd mode", |t| t.nodes[0].mode = 0o10000),
            ("nobody's", |t| t.nodes[0].owner.1 = u32::MAX),
        ];
        for (what, change) in bad {
            let mut tree = sample();
            change(&mut tree);
            assert!(Tree::decode(&tree.encode()).is_err(), "{what}");
        }
        let good = sample().encode();
        assert!(Tree::decode(&[good.as_slice(), &[0]].concat()).is_err());
        for n in 0..good.len() {
            assert!(Tree::decode(&good[..n]).is_err(), "{n}");
        }
    }

    proptest! {
        /// Whatever the bytes are: a tree that encodes to them, or an error.
        #[test]
        fn any_bytes(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let mut bytes = sample().encode();
            let n = bytes.len();
            bytes[at % n] = byte;
            for bytes in [&bytes[..], &bytes[..cut.min(n)]] {
                if let Ok(tree) = Tree::decode(bytes) {
                    prop_assert_eq!(tree.encode(), bytes);
                    let _ = tree.end();
                }
            }
        }
    }
}
