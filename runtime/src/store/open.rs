//! Opens a snapshot by what a user names, with its parents wherever they are.

use super::Store;
use super::crypt;
use super::file::HostFile;
use super::pack::Packs;
use ftl_core::snap::{Chain, Header, ReadAt, Root, SnapError, Snapshot};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Longest chain that is followed.
const MAX_LAYERS: usize = 4096;

/// How snapshots are found and read.
#[derive(Default)]
pub struct Opener {
    /// Of encrypted ones.
    pub passphrase: Option<Vec<u8>>,
    /// Files that may be parents.
    pub parents: Vec<PathBuf>,
    /// Pages are checked several at a time ([`crate::snap::wide`]): not for a process that holds a guest's vector state.
    pub wide: bool,
    store: Option<(Store, Rc<Packs>)>,
}

/// A chain, and the file of each of its layers.
pub struct Opened {
    /// Checked but for its pages.
    pub chain: Chain,
    /// For [`Chain::layers`], in the same order.
    pub files: Vec<PathBuf>,
}

impl Opener {
    /// An opener with a passphrase.
    pub fn new(passphrase: Option<Vec<u8>>) -> Opener {
        Opener {
            passphrase,
            ..Opener::default()
        }
    }

    /// Opens one snapshot, without its parents.
    pub fn one(&mut self, path: &Path) -> Result<Snapshot, String> {
        let src = HostFile::open(path)?;
        let refused = |e: SnapError| format!("{}: {e}", path.display());
        let header = Snapshot::header_of(&src).map_err(refused)?;
        let cipher = match (&header.lock, &self.passphrase) {
            (Some(lock), Some(p)) => {
                Some(crypt::cipher(lock, p).map_err(|e| format!("{}: {e}", path.display()))?)
            }
            _ => None,
        };
        let store = match header.external {
            true => Some(Box::new(self.store()?.1.clone()) as Box<dyn ftl_core::snap::PageSource>),
            false => None,
        };
        let mut snapshot = Snapshot::open_with(Box::new(src), cipher, store).map_err(refused)?;
        if self.wide {
            snapshot.hash_by(crate::snap::wide::pages);
        }
        Ok(snapshot)
    }

    /// Opens a snapshot with all that it is a change of: among `parents`, in its own folder, in the store.
    /// `name` is a file, or the first digits of an identity in the store.
    pub fn chain(&mut self, name: &Path) -> Result<Opened, String> {
        let mut path = self.resolve(name)?;
        let mut layers = Vec::new();
        let mut files = Vec::new();
        loop {
            let layer = self.one(&path)?;
            let parent = layer.header().parent;
            let image = layer.header().image;
            layers.push(layer);
            files.push(path.clone());
            let Some(parent) = parent else {
                break;
            };
            if layers.len() == MAX_LAYERS {
                return Err(format!(
                    "{}: a chain of more than {MAX_LAYERS} snapshots; squash it",
                    name.display()
                ));
            }
            path = self
                .parent(&parent, image, &path, &files)?
                .ok_or_else(|| format!("{}: {}", path.display(), SnapError::NoParent(parent)))?;
        }
        layers.reverse();
        files.reverse();
        let chain = Chain::new(layers).map_err(|e| format!("{}: {e}", name.display()))?;
        Ok(Opened { chain, files })
    }

    /// The file that a name means.
    pub fn resolve(&mut self, name: &Path) -> Result<PathBuf, String> {
        let digits = name.to_str().filter(|n| {
            (4..=64).contains(&n.len()) && n.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        match digits {
            Some(prefix) if !name.exists() => Ok(self.store()?.0.find(prefix)?.path),
            _ => Ok(name.to_path_buf()),
        }
    }

    /// The file of the snapshot with this identity, or of one that stands for it.
    fn parent(
        &mut self,
        root: &Root,
        image: u64,
        child: &Path,
        seen: &[PathBuf],
    ) -> Result<Option<PathBuf>, String> {
        let mut near: Vec<PathBuf> = self.parents.clone();
        let folder = match child.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        let beside = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|i| i.path());
        let mut beside: Vec<PathBuf> = beside
            .filter(|p| p.extension().is_some_and(|e| e == "ftsnap"))
            .collect();
        beside.sort();
        near.append(&mut beside);
        near.retain(|p| !seen.contains(p));
        let mut other = Vec::new();
        for path in near {
            match facts(&path) {
                Some((_, found)) if found == *root => return Ok(Some(path)),
                Some((header, _)) if header.image == image && header.parent.is_none() => other.push(path),
                _ => {}
            }
        }
        for path in other {
            let fits = self
                .one(&path)
                .is_ok_and(|s| s.manifest().stands_for == Some(*root));
            if fits {
                return Ok(Some(path));
            }
        }
        let path = match self.store() {
            Ok((store, _)) => store.path_of(root),
            // Without a store there is no parent in it.
            Err(_) => return Ok(None),
        };
        Ok(path.exists().then_some(path))
    }

    /// The page store, opened once.
    pub fn store(&mut self) -> Result<&(Store, Rc<Packs>), String> {
        if self.store.is_none() {
            let store = Store::open()?;
            let (packs, complaints) = Packs::open(&store)?;
            for c in complaints {
                crate::cli::say(&c);
            }
            self.store = Some((store, Rc::new(packs)));
        }
        self.store.as_ref().ok_or_else(|| unreachable!())
    }
}

/// Header and stated identity, if the file is a snapshot.
fn facts(path: &Path) -> Option<(Header, Root)> {
    let src = HostFile::open(path).ok()?;
    let header = Snapshot::header_of(&src).ok()?;
    Some((header, Snapshot::stated_root(&src as &dyn ReadAt).ok()?))
}

/// The identity that a file states, if it is a snapshot.
pub fn stated(path: &Path) -> Option<Root> {
    Some(facts(path)?.1)
}

/// Reads a passphrase from a file: all of it but a newline at its end.
pub fn passphrase(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes =
        std::fs::read(path).map_err(|e| format!("{}: {}", path.display(), crate::cli::reason(&e)))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.len() < 8 {
        return Err(format!("{}: a passphrase has 8 bytes or more", path.display()));
    }
    Ok(bytes)
}

/// Bytes as hexadecimal digits.
pub fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
