//! Volumes that are not where they were: a restore gave the image directories of its own (`snap::volumes`).
//!
//! The image goes on knowing its files by the device and inode numbers that they had: its kernel keeps locks and shared pages
//! by them, and programs compare them (SQLite refuses to write a database whose number has changed, as one that was moved away). So
//! what the host says of a file in such a directory is told under the old numbers. A file that was made since has its real inode
//! number, with [`NEW`] in it if an old file has that number.

use crate::store::file::Unpublished;
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use ftl_core::platform::{DirEntry, Handle, Stat};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// In an inode number that the host has given to a new file, and an old file of the image has. No file system counts so far.
const NEW: u64 = 1 << 62;

const MAGIC: &[u8; 8] = b"FTVOLS1\n";

/// st_dev and st_ino.
pub type Id = (u64, u64);

/// A directory that was moved as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Top {
    /// Where it was when the snapshot was taken.
    pub was: Vec<u8>,
    /// Where it is.
    pub now: Vec<u8>,
    /// st_dev that the image knows it by.
    pub dev: u64,
}

/// Which directories were moved, and which numbers their files had: written by a restore, beside them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Map {
    /// The directories.
    pub tops: Vec<Top>,
    /// The host's numbers, the image's.
    ids: Vec<(Id, Id)>,
    /// The image's numbers in `ids`.
    known: Vec<Id>,
}

impl Wire for Top {
    fn put(&self, out: &mut Vec<u8>) {
        self.was.put(out);
        self.now.put(out);
        self.dev.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Top> {
        Some(Top {
            was: Wire::take(src)?,
            now: Wire::take(src)?,
            dev: Wire::take(src)?,
        })
    }
}

/// `path` without `dir` before it, if it is in there: empty or with a slash before it.
pub fn below<'a>(path: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    let dir = dir.strip_suffix(b"/").unwrap_or(dir);
    let rest = path.strip_prefix(dir)?;
    matches!(rest.first(), None | Some(b'/')).then_some(rest)
}

impl Map {
    /// Of these directories and numbers (the host's, the image's).
    pub fn new(tops: Vec<Top>, mut ids: Vec<(Id, Id)>) -> Map {
        ids.sort_unstable();
        ids.dedup_by_key(|i| i.0);
        let mut known: Vec<Id> = ids.iter().map(|i| i.1).collect();
        known.sort_unstable();
        Map { tops, ids, known }
    }

    /// Writes it. Directories beside it are named without the way to them, so that all can be moved together.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let here = path.parent().unwrap_or(Path::new("/")).as_os_str().as_bytes();
        let mut out = MAGIC.to_vec();
        let tops: Vec<Top> = self
            .tops
            .iter()
            .map(|t| Top {
                now: match below(&t.now, here) {
                    Some(rest) => rest.strip_prefix(b"/").unwrap_or(rest).to_vec(),
                    None => t.now.clone(),
                },
                ..t.clone()
            })
            .collect();
        put_list(&tops, &mut out);
        put_list(&self.ids, &mut out);
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        let mut file = Unpublished::create(path)?;
        file.write(&out)?;
        file.publish()
    }

    /// Reads it.
    pub fn load(path: &Path) -> Result<Map, String> {
        let bad = |why: String| format!("{}: {why}", path.display());
        let bytes = std::fs::read(path).map_err(|e| bad(crate::cli::reason(&e)))?;
        let damaged = || bad("damaged".to_string());
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err(damaged());
        }
        let mut src = body.strip_prefix(MAGIC.as_slice()).ok_or_else(damaged)?;
        let src = &mut src;
        let mut parse = || {
            let (tops, ids) = (take_list::<Top>(src)?, take_list(src)?);
            src.is_empty().then_some((tops, ids))
        };
        let (mut tops, ids) = parse().ok_or_else(damaged)?;
        let here = path.parent().unwrap_or(Path::new("/"));
        for t in &mut tops {
            let full = here.join(OsStr::from_bytes(&t.now));
            t.now = full.into_os_string().into_encoded_bytes();
        }
        Ok(Map::new(tops, ids))
    }

    /// Where a path of the snapshot leads now, if it is in a directory that was moved.
    pub fn leads(&self, path: &[u8]) -> Option<Vec<u8>> {
        let inner = |t: &&Top| t.was.len();
        let found = self
            .tops
            .iter()
            .filter(|t| below(path, &t.was).is_some())
            .max_by_key(inner)?;
        let rest = below(path, &found.was)?;
        Some([found.now.as_slice(), rest].concat())
    }

    /// The image's st_dev for what is at this path now.
    fn dev_at(&self, path: &[u8]) -> Option<u64> {
        let inner = |t: &&Top| t.now.len();
        let all = self.tops.iter().filter(|t| below(path, &t.now).is_some());
        all.max_by_key(inner).map(|t| t.dev)
    }

    /// The image's numbers of a file. `dev`: it is in a directory that was moved, which the image knows by this device.
    fn id(&self, real: Id, dev: Option<u64>) -> Id {
        if let Ok(n) = self.ids.binary_search_by_key(&real, |i| i.0) {
            return self.ids[n].1;
        }
        let id = (dev.unwrap_or(real.0), real.1);
        match self.known.binary_search(&id) {
            Ok(_) => (id.0, id.1 | NEW),
            Err(_) => id,
        }
    }

    /// The same for a file at this path.
    pub fn id_at(&self, path: &[u8], real: Id) -> Id {
        self.id(real, self.dev_at(path))
    }
}

/// What the image's host objects need of it.
#[derive(Debug, Default)]
pub struct Moved {
    /// Directories as the start has them, and where they are now.
    pub dirs: Vec<(Vec<u8>, Vec<u8>)>,
    /// File of the map.
    pub file: PathBuf,
    map: Map,
    /// Open files in such directories, and the device that the image knows them by.
    inside: BTreeMap<Handle, u64>,
}

impl Moved {
    /// `dirs` and `file` as above.
    pub fn new(dirs: Vec<(Vec<u8>, Vec<u8>)>, file: PathBuf, map: Map) -> Moved {
        Moved {
            dirs,
            file,
            map,
            inside: BTreeMap::new(),
        }
    }

    /// An object was opened by its path.
    pub fn opened_at(&mut self, h: Handle, path: &[u8]) {
        if let Some(dev) = self.map.dev_at(path) {
            self.inside.insert(h, dev);
        }
    }

    /// It is in such a directory.
    pub fn has(&self, h: Handle) -> bool {
        self.inside.contains_key(&h)
    }

    /// `new` was opened from `from`, a directory or the file itself.
    pub fn opened(&mut self, from: Handle, new: Handle) {
        if let Some(dev) = self.inside.get(&from).copied() {
            self.inside.insert(new, dev);
        }
    }

    /// It is closed.
    pub fn closed(&mut self, h: Handle) {
        self.inside.remove(&h);
    }

    /// What the image is told of a file that was asked for by `h`, itself or the directory that it is in.
    pub fn told(&self, h: Handle, mut st: Stat) -> Stat {
        (st.dev, st.ino) = self.map.id((st.dev, st.ino), self.inside.get(&h).copied());
        st
    }

    /// The same for a listing of a directory on the host's device `dev`.
    pub fn listed(&self, h: Handle, dev: u64, list: &mut [DirEntry]) {
        let known = self.inside.get(&h).copied();
        for e in list {
            e.ino = self.map.id((dev, e.ino), known).1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(was: &str, now: &str, dev: u64) -> Top {
        Top {
            was: was.into(),
            now: now.into(),
            dev,
        }
    }

    #[test]
    fn files_keep_their_numbers() {
        let map = Map::new(
            vec![top("/a", "/x/0", 7)],
            vec![((9, 50), (7, 10)), ((9, 51), (7, 11))],
        );
        assert_eq!(map.id((9, 51), Some(7)), (7, 11));
        // Reached by another way.
        assert_eq!(map.id((9, 50), None), (7, 10));
        // New ones, of which one has an old one's number.
        assert_eq!(map.id((9, 12), Some(7)), (7, 12));
        assert_eq!(map.id((9, 10), Some(7)), (7, 10 | NEW));
        assert_eq!(map.id((9, 12), None), (9, 12));
        assert_eq!(map.id_at(b"/x/0/f", (9, 12)), (7, 12));
        assert_eq!(map.id_at(b"/x/00", (9, 12)), (9, 12));
    }

    #[test]
    fn paths_lead_to_the_innermost_directory() {
        let map = Map::new(vec![top("/a", "/x/0", 1), top("/a/b", "/x/1", 2)], Vec::new());
        let leads = |p: &str| map.leads(p.as_bytes()).map(|p| String::from_utf8(p).unwrap());
        assert_eq!(leads("/a"), Some("/x/0".into()));
        assert_eq!(leads("/a/bc"), Some("/x/0/bc".into()));
        assert_eq!(leads("/a/b/c (deleted)"), Some("/x/1/c (deleted)".into()));
        assert_eq!(leads("/ab"), None);
        let root = Map::new(vec![top("/", "/x/0", 1)], Vec::new());
        assert_eq!(root.leads(b"/ab"), Some(b"/x/0/ab".to_vec()));
    }

    #[test]
    fn a_map_moves_with_its_directories() {
        let dir = std::env::temp_dir().join(format!("ftvm-moved-{}", std::process::id()));
        let (a, b) = (dir.join("a"), dir.join("b"));
        std::fs::create_dir_all(&a).unwrap();
        let here = a.join("0").into_os_string().into_encoded_bytes();
        let inside = Top {
            now: here,
            ..top("/a", "", 7)
        };
        let map = Map::new(vec![inside, top("/c", "/far", 8)], vec![((9, 50), (7, 10))]);
        map.save(&a.join("map")).unwrap();
        assert_eq!(Map::load(&a.join("map")), Ok(map.clone()));
        std::fs::rename(&a, &b).unwrap();
        let found = Map::load(&b.join("map")).unwrap();
        assert_eq!(
            found.tops[0].now,
            b.join("0").into_os_string().into_encoded_bytes()
        );
        assert_eq!(found.tops[1], map.tops[1]);
        let mut bytes = std::fs::read(b.join("map")).unwrap();
        bytes[12] ^= 1;
        std::fs::write(b.join("map"), bytes).unwrap();
        assert!(Map::load(&b.join("map")).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
