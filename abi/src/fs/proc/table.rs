//! Trees of generated files, written as tables of paths.

use crate::cx::Cx;
use ftl_core::errno::Errno;

/// How a file gets its contents.
#[derive(Clone, Copy)]
pub enum Make {
    /// From kernel state.
    Text(fn(&mut Cx<'_>) -> Vec<u8>),
    /// Always the same.
    Const(&'static str),
    /// A symlink.
    Link(&'static str),
}

/// One path of a table.
pub struct Item {
    /// From the root of the file system.
    pub path: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// Contents.
    pub make: Make,
}

/// What a path is.
pub enum Found {
    /// A file or symlink.
    Item(&'static Item),
    /// A directory: some item lies below it.
    Dir,
    /// A symlink lies on the way.
    Link,
    /// Nothing, and why.
    No(Errno),
}

fn below<'a>(path: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    if dir.is_empty() {
        return Some(path);
    }
    path.strip_prefix(dir)?.strip_prefix(b"/")
}

/// Looks a path up.
pub fn find(items: &'static [Item], path: &[u8]) -> Found {
    let mut dir = path.is_empty();
    for i in items {
        let p = i.path.as_bytes();
        if p == path {
            return Found::Item(i);
        }
        if below(p, path).is_some() {
            dir = true;
        }
        if below(path, p).is_some() {
            return match i.make {
                Make::Link(_) => Found::Link,
                _ => Found::No(Errno::ENOTDIR),
            };
        }
    }
    if dir { Found::Dir } else { Found::No(Errno::ENOENT) }
}

/// Names in a directory with their DT_* type, in the table's order.
pub fn list(items: &'static [Item], dir: &[u8]) -> Vec<(Vec<u8>, u8)> {
    let mut out: Vec<(Vec<u8>, u8)> = Vec::new();
    for i in items {
        let Some(rest) = below(i.path.as_bytes(), dir) else {
            continue;
        };
        let (name, kind) = match rest.iter().position(|b| *b == b'/') {
            Some(n) => (&rest[..n], 4),
            None if matches!(i.make, Make::Link(_)) => (rest, 10),
            None => (rest, 8),
        };
        if !out.iter().any(|(n, _)| n == name) {
            out.push((name.to_vec(), kind));
        }
    }
    out
}
