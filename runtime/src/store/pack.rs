//! Packs: files of pages, each page once.
//!
//! ```text
//! 0      4096 bytes: magic, version, count of pages, BLAKE3 of the hashes, CRC32; zero to the end
//! 4096   pages
//!        their hashes, 32 bytes each, in the same order
//! ```
//!
//! The count is not known when writing starts, so the head is written last; the file has its name only then.

use super::Store;
use super::file::{HostFile, Unpublished};
use crate::cli::reason;
use ftl_core::snap::{Hash, PAGE_LEN, PageSource, ReadAt, hex};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

const MAGIC: [u8; 8] = *b"FTPACK\r\n";
const VERSION: u32 = 1;
const HEAD_LEN: usize = PAGE_LEN;

/// Most pages of a pack: 16 GiB.
pub const PACK_PAGES: usize = 1 << 22;

/// Page hashes are evenly spread already.
#[derive(Default)]
struct First8(u64);

impl Hasher for First8 {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }
    fn write_usize(&mut self, _: usize) {}
}

/// Where a page is: number of the pack, of the page in it.
type At = (u32, u32);

/// All pages of the store, as they were when it was opened.
#[derive(Default)]
pub struct Packs {
    packs: Vec<Pack>,
    pages: HashMap<Hash, At, BuildHasherDefault<First8>>,
}

/// One open pack.
pub struct Pack {
    /// Its file.
    pub path: PathBuf,
    file: HostFile,
    /// Of its pages, in order.
    pub hashes: Vec<Hash>,
}

impl Pack {
    fn open(path: PathBuf) -> Result<Pack, String> {
        let file = HostFile::open(&path)?;
        let damaged = |why: &str| {
            format!(
                "page store: {} is damaged: {why}; snapshots that need its pages are lost, remove them with ftvm snapshot rm",
                path.display()
            )
        };
        let read = |at: u64, buf: &mut [u8]| file.read_at(at, buf).map_err(|e| damaged(&e));
        let mut head = [0; HEAD_LEN];
        read(0, &mut head)?;
        let count = u32::from_le_bytes(std::array::from_fn(|i| head[12 + i])) as usize;
        let hash: Hash = std::array::from_fn(|i| head[16 + i]);
        if head != head_of(count, &hash) || count > PACK_PAGES {
            return Err(damaged("its head is not that of a pack"));
        }
        let end = HEAD_LEN as u64 + count as u64 * PAGE_LEN as u64;
        if file.len() != end + count as u64 * 32 {
            return Err(damaged("its length does not fit its head"));
        }
        let mut bytes = vec![0; count * 32];
        read(end, &mut bytes)?;
        if blake3::hash(&bytes) != hash {
            return Err(damaged("its list of hashes is not what was written"));
        }
        let hashes = bytes.as_chunks::<32>().0.to_vec();
        Ok(Pack { path, file, hashes })
    }

    /// Its file and the offset of a page in it, to map it.
    pub fn place(&self, page: u32) -> (&std::fs::File, u64) {
        (
            self.file.file(),
            HEAD_LEN as u64 + u64::from(page) * PAGE_LEN as u64,
        )
    }
}

fn head_of(count: usize, hash: &Hash) -> [u8; HEAD_LEN] {
    let mut b = [0; HEAD_LEN];
    b[0..8].copy_from_slice(&MAGIC);
    b[8..12].copy_from_slice(&VERSION.to_le_bytes());
    b[12..16].copy_from_slice(&(count as u32).to_le_bytes());
    b[16..48].copy_from_slice(hash);
    let crc = crc32fast::hash(&b[..252]);
    b[252..256].copy_from_slice(&crc.to_le_bytes());
    b
}

impl Packs {
    /// Opens all packs. A damaged one is left out and told: its pages are missing, others are good.
    pub fn open(store: &Store) -> Result<(Packs, Vec<String>), String> {
        let dir = store.dir().join("packs");
        let wrong = |e: std::io::Error| format!("page store {}: {}", dir.display(), reason(&e));
        let mut paths = Vec::new();
        for item in std::fs::read_dir(&dir).map_err(wrong)? {
            let path = item.map_err(wrong)?.path();
            if path.extension().is_some_and(|e| e == "pack") {
                paths.push(path);
            }
        }
        paths.sort();
        let (mut all, mut complaints) = (Packs::default(), Vec::new());
        for path in paths {
            match Pack::open(path) {
                Ok(pack) => all.add(pack),
                Err(e) => complaints.push(e),
            }
        }
        Ok((all, complaints))
    }

    fn add(&mut self, pack: Pack) {
        let n = self.packs.len() as u32;
        self.pages.reserve(pack.hashes.len());
        for (i, h) in pack.hashes.iter().enumerate() {
            self.pages.entry(*h).or_insert((n, i as u32));
        }
        self.packs.push(pack);
    }

    /// The packs.
    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    /// Where a page is: file and offset. To be checked against its hash before use.
    pub fn place(&self, hash: &Hash) -> Option<(&std::fs::File, u64)> {
        let (pack, page) = self.pages.get(hash)?;
        Some(self.packs[*pack as usize].place(*page))
    }

    /// True if the store has the page.
    pub fn has(&self, hash: &Hash) -> bool {
        self.pages.contains_key(hash)
    }

    /// True if the page would be read from pack number `n`.
    pub fn is_in(&self, hash: &Hash, n: usize) -> bool {
        self.pages.get(hash).is_some_and(|at| at.0 as usize == n)
    }
}

impl PageSource for Packs {
    fn page(&self, hash: &Hash, page: &mut [u8]) -> Result<bool, String> {
        let Some((file, offset)) = self.place(hash) else {
            return Ok(false);
        };
        file.read_exact_at(page, offset)
            .map_err(|e| reason(&e))
            .map(|()| true)
    }
}

/// A pack that is being written.
pub struct PackWriter {
    file: Option<Unpublished>,
    dir: PathBuf,
    hashes: Vec<Hash>,
    known: HashMap<Hash, (), BuildHasherDefault<First8>>,
}

impl PackWriter {
    /// Starts a pack; its file is made with the first page.
    pub fn new(store: &Store) -> PackWriter {
        PackWriter {
            file: None,
            dir: store.dir().join("packs"),
            hashes: Vec::new(),
            known: HashMap::default(),
        }
    }

    /// Adds a page (4096 bytes) unless it is in already.
    pub fn add(&mut self, hash: &Hash, page: &[u8]) -> Result<(), String> {
        if self.known.insert(*hash, ()).is_some() {
            return Ok(());
        }
        if self.file.is_none() {
            // The name is set when it is known.
            let mut file = Unpublished::create(&self.dir.join("new"))?;
            file.write(&[0; HEAD_LEN])?;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write(page)?;
        }
        self.hashes.push(*hash);
        Ok(())
    }

    /// Pages in it.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Makes the pack durable, if there is anything in it.
    pub fn publish(self) -> Result<(), String> {
        let Some(mut file) = self.file else {
            return Ok(());
        };
        let list = self.hashes.as_flattened();
        let hash = blake3::hash(list);
        file.write(list)?;
        file.write_head(&head_of(self.hashes.len(), hash.as_bytes()))?;
        // Named by its content: a pack with the same pages is the same.
        file.publish_as(&self.dir.join(format!("{}.pack", hex(hash.as_bytes()))))
    }
}
