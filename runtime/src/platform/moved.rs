//! Volumes that are not where they were: a restore gave the image directories of its own (`snap::volumes`).
//!
//! The image goes on knowing its files by the device and inode numbers that they had: its kernel keeps locks and shared pages
//! by them, and programs compare them (SQLite refuses to write a database whose number has changed, as one that was moved away). So
//! what the host says of a file in such a directory is told under the old numbers. A file that was made since has its real inode
//! number on the old device. Where that could be another file's, it has a mark in it ([`marked`]): where an old file has the
//! number, and always where the real device is another one, as that has its own count of files.

use crate::store::file::Unpublished;
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use ftl_core::platform::{DirEntry, Handle, Stat};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// First bit of a mark: above what file systems count to, and so that a number with its mark is one that a double can hold, as
/// programs in JavaScript have it.
const MARK: u32 = 42;
/// Marks, none among them.
const MARKS: u64 = 1 << (53 - MARK);

/// A file's inode number with a mark.
fn marked(ino: u64, mark: u64) -> u64 {
    ino ^ (mark << MARK)
}

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

/// Which directories were moved, and which numbers their files had: written by a restore, beside them, for the image that it starts;
/// each snapshot of that has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Map {
    /// The directories.
    pub tops: Vec<Top>,
    /// The host's numbers, the image's.
    ids: Vec<(Id, Id)>,
    /// The image's numbers in `ids`, ascending.
    known: Vec<Id>,
    /// The host's devices in `ids`, ascending.
    devs: Vec<u64>,
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
        let mut devs: Vec<u64> = ids.iter().map(|i| i.0.0).collect();
        devs.sort_unstable();
        devs.dedup();
        Map {
            tops,
            ids,
            known,
            devs,
        }
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
        let src = body.strip_prefix(MAGIC.as_slice()).ok_or_else(damaged)?;
        let mut map = Map::decode(src).ok_or_else(damaged)?;
        let here = path.parent().unwrap_or(Path::new("/"));
        for t in &mut map.tops {
            let full = here.join(OsStr::from_bytes(&t.now));
            t.now = full.into_os_string().into_encoded_bytes();
        }
        Ok(map)
    }

    /// The same for a snapshot, which names all directories by their whole paths.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&self.tops, &mut out);
        put_list(&self.ids, &mut out);
        out
    }

    /// Reads that back; `None` if it is damaged.
    pub fn decode(mut src: &[u8]) -> Option<Map> {
        let src = &mut src;
        let (tops, ids) = (take_list(src)?, take_list(src)?);
        src.is_empty().then(|| Map::new(tops, ids))
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
        let told = dev.unwrap_or(real.0);
        // Files of different devices have different marks, so that two of them are never one. A file of the device that the image
        // is told has none at first.
        let first = match told == real.0 {
            true => 0,
            false => 1 + self.devs.binary_search(&real.0).unwrap_or(self.devs.len()) as u64,
        };
        let step = self.devs.len() as u64 + 2;
        let free = (first..MARKS)
            .step_by(step as usize)
            .map(|mark| (told, marked(real.1, mark)))
            .find(|id| self.known.binary_search(id).is_err());
        // As many restores as there are marks, each of which has met the same number again, do not happen.
        free.unwrap_or((told, marked(real.1, first)))
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
    /// Their map.
    pub map: Map,
    /// Open files in such directories, and the device that the image knows them by.
    inside: BTreeMap<Handle, u64>,
}

impl Moved {
    /// `dirs` and `map` as above.
    pub fn new(dirs: Vec<(Vec<u8>, Vec<u8>)>, map: Map) -> Moved {
        Moved {
            dirs,
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
        // New ones, on another device than the image is told.
        assert_eq!(map.id((9, 12), Some(7)), (7, marked(12, 1)));
        assert_eq!(map.id((9, 12), None), (9, 12));
        assert_eq!(map.id_at(b"/x/0/f", (9, 12)), (7, marked(12, 1)));
        assert_eq!(map.id_at(b"/x/00", (9, 12)), (9, 12));
        // On the same one, of which one has an old one's number.
        let map = Map::new(vec![top("/a", "/x/0", 7)], vec![((7, 50), (7, 10))]);
        assert_eq!(map.id((7, 12), Some(7)), (7, 12));
        assert_eq!(map.id((7, 10), Some(7)), (7, marked(10, 3)));
        // It is a double's number still.
        assert!(marked((1 << MARK) - 1, MARKS - 1) < 1 << 53);
    }

    /// Whatever restores there were before: different files have different numbers.
    #[test]
    fn no_two_files_have_one_number() {
        // Directories of the devices 7, 7 and 8, which are on 9, 11 and 8 now.
        let begun = [(9, 7, 2), (11, 7, 30), (8, 8, 6)];
        let files = |(dev, was, first): (u64, u64, u64)| (0..5).map(move |n| ((dev, n), (was, first + n)));
        let mut ids: Vec<(Id, Id)> = begun.into_iter().flat_map(files).collect();
        for round in 0..6u64 {
            let map = Map::new(
                vec![top("/a", "/x/0", 7), top("/b", "/x/1", 7), top("/c", "/x/2", 8)],
                ids.clone(),
            );
            let mut seen = std::collections::BTreeMap::new();
            // And files that were never moved.
            let places = [(9, Some(7)), (11, Some(7)), (8, Some(8)), (7, None)];
            for (dev, told) in places {
                for ino in 0..40 {
                    let id = map.id((dev, ino), told);
                    let other = seen.insert(id, (dev, ino));
                    assert_eq!(other, None, "round {round}: {:?} is {id:?} too", (dev, ino));
                }
            }
            // The next restore: each moved file gets a new number of the host, which counts from 1 again.
            let moved = seen.iter().filter(|(_, real)| real.0 != 7 && real.1 <= 20);
            let next = |(id, real): (&Id, &Id)| ((real.0, 20 - real.1 + round), *id);
            ids = moved.map(next).collect();
        }
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
        // A snapshot needs no file.
        let bytes = map.encode();
        assert_eq!(Map::decode(&bytes), Some(map.clone()));
        assert_eq!(Map::decode(&bytes[1..]), None);
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
