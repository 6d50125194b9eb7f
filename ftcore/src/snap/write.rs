//! The writer: pages are pushed, bytes come out in the order of the file. It never seeks, so a snapshot
//! can be written into a pipe or a link as well.

use super::header::Trailer;
use super::index::{Index, RECORD_PAGES};
use super::{Cipher, Hash, HashPages, Header, Manifest, Object, PAGE_LEN, Place, Root, Run, State, is_zero};

/// Where the file's bytes go, in order.
pub type Out<'a, E> = &'a mut dyn FnMut(&[u8]) -> Result<(), E>;

/// What a writer has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Pages with content that were pushed.
    pub pushed: u64,
    /// Zero pages that were pushed.
    pub zero: u64,
    /// Bytes written so far.
    pub bytes: u64,
}

/// Writes one snapshot.
pub struct Writer {
    header: Header,
    header_hash: Hash,
    cipher: Option<Box<dyn Cipher>>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    index: Index,
    /// Bytes written so far.
    at: u64,
    stats: Stats,
    record: Vec<u8>,
    hash: HashPages,
}

/// Level of compression: the fastest that still halves what programs keep in memory.
const ZSTD_LEVEL: i32 = 1;

impl Writer {
    /// Starts a file. `cipher` if and only if the header has a lock.
    pub fn begin<E>(header: Header, cipher: Option<Box<dyn Cipher>>, out: Out<'_, E>) -> Result<Writer, E> {
        assert_eq!(
            header.lock.is_some(),
            cipher.is_some(),
            "a lock and its key go together"
        );
        assert!(
            !header.external || cipher.is_none(),
            "the page store is not encrypted"
        );
        let bytes = header.to_bytes();
        let zstd = header.compressed.then(|| {
            zstd::bulk::Compressor::new(ZSTD_LEVEL).unwrap_or_else(|e| panic!("setting zstd up: {e}"))
        });
        out(&bytes)?;
        Ok(Writer {
            header_hash: *blake3::hash(&bytes).as_bytes(),
            header,
            cipher,
            zstd,
            index: Index::default(),
            at: bytes.len() as u64,
            stats: Stats::default(),
            record: Vec::new(),
            hash: super::hash_pages,
        })
    }

    /// How pages are hashed from here on.
    pub fn hash_by(&mut self, hash: HashPages) {
        self.hash = hash;
    }

    /// Pages `first..` of an object with their content (a multiple of 4096 bytes). Zero pages are found
    /// and not stored. A page that was pushed before is replaced.
    pub fn pages<E>(&mut self, object: Object, first: u64, bytes: &[u8], out: Out<'_, E>) -> Result<(), E> {
        let count = (bytes.len() / PAGE_LEN) as u64;
        self.runs(object, &[(first, count)], bytes, out)
    }

    /// The same for several runs of pages (first page, count) that have their content one behind the other in `bytes`. Many short
    /// runs at once are hashed faster than one by one.
    pub fn runs<E>(
        &mut self,
        object: Object,
        runs: &[(u64, u64)],
        bytes: &[u8],
        out: Out<'_, E>,
    ) -> Result<(), E> {
        assert!(!self.header.external, "its pages are named by hash");
        let (pages, odd) = bytes.as_chunks::<PAGE_LEN>();
        let count: u64 = runs.iter().map(|r| r.1).sum();
        assert!(odd.is_empty() && count == pages.len() as u64, "whole pages");
        // Pages with content that lie one behind the other in `bytes`, from `begin` to `at`, and their names.
        let (mut begin, mut at) = (0, 0);
        let mut names = Vec::new();
        for (first, count) in runs {
            let mut rest = &pages[at..at + *count as usize];
            let mut first = *first;
            while let Some(page) = rest.first() {
                let zero = is_zero(page);
                let n = rest.iter().take_while(|p| is_zero(*p) == zero).count();
                if zero {
                    self.data(object, &names, &pages[begin..at], out)?;
                    names.clear();
                    begin = at + n;
                    self.zero(object, first, n as u64);
                } else {
                    names.push((first, n as u64));
                }
                at += n;
                first += n as u64;
                rest = &rest[n..];
            }
        }
        self.data(object, &names, &pages[begin..at], out)
    }

    /// Pages that are zero, without their bytes.
    pub fn zero(&mut self, object: Object, first: u64, count: u64) {
        self.stats.zero += count;
        self.set(object, first, count, State::Zero, 0);
    }

    /// Pages that are absent again. In a full snapshot: that were never there.
    pub fn drop_pages(&mut self, object: Object, first: u64, count: u64) {
        self.set(object, first, count, State::Dropped, 0);
    }

    /// The same for all pages of an object, as at exec.
    pub fn drop_object(&mut self, object: Object) {
        self.drop_pages(object, 0, super::MAX_PAGE);
    }

    /// Pages that the page store has, by hash; for an external snapshot.
    pub fn known(&mut self, object: Object, first: u64, hashes: &[Hash]) {
        assert!(self.header.external, "its pages are in the file");
        self.stats.pushed += hashes.len() as u64;
        let hash_at = self.index.add_hashes(hashes.iter().copied());
        self.set(
            object,
            first,
            hashes.len() as u64,
            State::Data(Place::External),
            hash_at,
        );
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            bytes: self.at,
            ..self.stats
        }
    }

    /// Pages with content that a reader will find.
    pub fn live_pages(&self) -> u64 {
        self.index.data_pages()
    }

    fn set(&mut self, object: Object, first: u64, count: u64, state: State, hash_at: usize) {
        if count > 0 {
            self.index.set(Run {
                object,
                first,
                count,
                state,
                hash_at,
            });
        }
    }

    fn data<E>(
        &mut self,
        object: Object,
        names: &[(u64, u64)],
        pages: &[[u8; PAGE_LEN]],
        out: Out<'_, E>,
    ) -> Result<(), E> {
        self.stats.pushed += pages.len() as u64;
        let hash = self.hash;
        let hash_at = self.index.add_filled(pages.len(), |hashes| hash(pages, hashes));
        let plain = self.zstd.is_none() && self.cipher.is_none();
        if plain && !pages.is_empty() {
            out(pages.as_flattened())?;
        }
        let mut done = 0;
        for (first, count) in names {
            let mine = &pages[done..done + *count as usize];
            if plain {
                let place = Place::Raw { offset: self.at };
                self.at += mine.as_flattened().len() as u64;
                self.set(object, *first, *count, State::Data(place), hash_at + done);
                done += mine.len();
                continue;
            }
            for (i, part) in mine.chunks(RECORD_PAGES).enumerate() {
                let skipped = i * RECORD_PAGES;
                let place = self.record(part.as_flattened(), out)?;
                self.set(
                    object,
                    first + skipped as u64,
                    part.len() as u64,
                    State::Data(place),
                    hash_at + done + skipped,
                );
            }
            done += mine.len();
        }
        Ok(())
    }

    fn record<E>(&mut self, bytes: &[u8], out: Out<'_, E>) -> Result<Place, E> {
        let mut zstd = false;
        self.record.clear();
        if let Some(z) = &mut self.zstd {
            self.record.resize(bytes.len(), 0);
            // An error says that it does not fit: then it is not worth it.
            if let Ok(n) = z.compress_to_buffer(bytes, self.record.as_mut_slice())
                && n < bytes.len()
            {
                self.record.truncate(n);
                zstd = true;
            }
        }
        if !zstd {
            self.record.clear();
            self.record.extend_from_slice(bytes);
        }
        let offset = self.at;
        if let Some(c) = &self.cipher {
            // Its offset names a record once.
            c.seal(offset, &self.header_hash, &mut self.record);
        }
        out(&self.record)?;
        self.at += self.record.len() as u64;
        Ok(Place::Record {
            offset,
            stored: self.record.len() as u32,
            pages: (bytes.len() / PAGE_LEN) as u32,
            skip: 0,
            zstd,
        })
    }

    fn section<E>(&mut self, mut bytes: Vec<u8>, out: Out<'_, E>) -> Result<(u64, u64, Hash), E> {
        let at = self.at;
        if let Some(c) = &self.cipher {
            c.seal(at, &self.header_hash, &mut bytes);
        }
        out(&bytes)?;
        self.at += bytes.len() as u64;
        Ok((at, bytes.len() as u64, *blake3::hash(&bytes).as_bytes()))
    }

    /// Ends the file. What the manifest says of the header's facts is set from the header.
    pub fn finish<E>(mut self, mut manifest: Manifest, out: Out<'_, E>) -> Result<Root, E> {
        manifest.image = self.header.image;
        manifest.build = self.header.build;
        manifest.parent = self.header.parent;
        manifest.version = super::header::kept(&self.header.version).to_string();
        assert_eq!(
            manifest.runtime.is_some(),
            self.header.with_runtime,
            "the header says whether the runtime is in it"
        );
        assert_eq!(
            manifest.extra(super::tree::SECTION).is_some(),
            self.header.with_volumes,
            "the header says whether volumes are in it"
        );
        if self.header.parent.is_none() {
            // Absent is zero where no file can show.
            self.index.retain(|r| match r.state {
                State::Data(_) => true,
                State::Zero => matches!(r.object, Object::Space(_)),
                State::Dropped => false,
            });
        }
        let manifest = manifest.encode();
        let root = root(&self.header, &manifest, &self.index);
        let index = self.index.encode();
        let (index_at, index_len, index_hash) = self.section(index, out)?;
        let (manifest_at, manifest_len, manifest_hash) = self.section(manifest, out)?;
        let trailer = Trailer {
            index_at,
            index_len,
            manifest_at,
            manifest_len,
            index_hash,
            manifest_hash,
            header_hash: self.header_hash,
            root,
        };
        out(&trailer.to_bytes())?;
        Ok(root)
    }
}

/// Identity: what a snapshot says, however it is stored.
pub(super) fn root(header: &Header, manifest: &[u8], index: &Index) -> Root {
    let mut h = blake3::Hasher::new_derive_key("ftvm snapshot root 1");
    header.identify(&mut h);
    h.update(blake3::hash(manifest).as_bytes());
    index.identify(&mut h);
    *h.finalize().as_bytes()
}
