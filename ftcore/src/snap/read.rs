//! The reader: a snapshot is opened as a whole (all but its pages is checked), pages are read as needed,
//! each checked.

use super::header::Trailer;
use super::index::{INDEX_MAX, Index, Limits, RECORD_PAGES};
use super::manifest::MANIFEST_MAX;
use super::write::Out;
use super::{
    Cipher, HEADER_LEN, Hash, HashPages, Header, Manifest, Object, PAGE_LEN, Place, Root, Run, SEAL_OVERHEAD,
};
use super::{Lock, SnapError, State, TRAILER_LEN, Writer, tree};

/// Bytes at offsets: a file, a mapping of one.
pub trait ReadAt {
    /// Bytes there are.
    fn len(&self) -> u64;
    /// Fills `buf` from `offset`; the reason if it cannot.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), String>;
    /// True if there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), String> {
        let from = usize::try_from(offset).ok();
        let part = from.and_then(|f| self.get(f..f.checked_add(buf.len())?));
        buf.copy_from_slice(part.ok_or("beyond the end")?);
        Ok(())
    }
}

/// Pages by hash: the page store.
pub trait PageSource {
    /// Fills `page` (4096 bytes); false if there is none with that hash. The caller checks it.
    fn page(&self, hash: &Hash, page: &mut [u8]) -> Result<bool, String>;
}

/// Shared by several snapshots.
impl<T: PageSource> PageSource for std::rc::Rc<T> {
    fn page(&self, hash: &Hash, page: &mut [u8]) -> Result<bool, String> {
        self.as_ref().page(hash, page)
    }
}

/// An open snapshot.
pub struct Snapshot {
    header: Header,
    manifest: Manifest,
    root: Root,
    pub(super) index: Index,
    src: Box<dyn ReadAt>,
    cipher: Option<Box<dyn Cipher>>,
    store: Option<Box<dyn PageSource>>,
    header_hash: Hash,
    hash: HashPages,
}

/// A buffer for records, and which one is in it.
#[derive(Default)]
pub(super) struct Scratch {
    at: Option<(usize, u64)>,
    stored: Vec<u8>,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// The header alone: what version and build wrote it, whether it is encrypted.
    pub fn header_of(src: &dyn ReadAt) -> Result<Header, SnapError> {
        let mut bytes = vec![0; (HEADER_LEN as u64).min(src.len()) as usize];
        read(src, 0, &mut bytes)?;
        Header::parse(&bytes)
    }

    /// The identity that a file states. Only opening it says whether that is true.
    pub fn stated_root(src: &dyn ReadAt) -> Result<Root, SnapError> {
        trailer_of(src).map(|t| t.root)
    }

    /// Opens a snapshot that is neither encrypted nor in the page store.
    pub fn open(src: Box<dyn ReadAt>) -> Result<Snapshot, SnapError> {
        Self::open_with(src, None, None)
    }

    /// Opens a snapshot with what it needs: its key, the page store.
    pub fn open_with(
        src: Box<dyn ReadAt>,
        cipher: Option<Box<dyn Cipher>>,
        store: Option<Box<dyn PageSource>>,
    ) -> Result<Snapshot, SnapError> {
        let header = Self::header_of(&*src)?;
        let cipher = match (&header.lock, cipher) {
            (Some(_), None) => return Err(SnapError::Locked),
            (Some(_), some) => some,
            (None, _) => None,
        };
        let trailer = trailer_of(&*src)?;
        let header_hash = *blake3::hash(&header.to_bytes()).as_bytes();
        if trailer.header_hash != header_hash {
            return Err(SnapError::Damaged {
                part: "trailer",
                why: "it belongs to another header",
            });
        }
        let open = |part, at, len, max, hash: &Hash| -> Result<Vec<u8>, SnapError> {
            if len > max {
                return Err(SnapError::Damaged {
                    part,
                    why: "longer than any can be",
                });
            }
            let mut bytes = read_long(&*src, at, len)?;
            if blake3::hash(&bytes) != *hash {
                return Err(SnapError::Checksum(part));
            }
            match &cipher {
                Some(c) if !c.open(at, &header_hash, &mut bytes) => Err(SnapError::Sealed(part)),
                _ => Ok(bytes),
            }
        };
        let t = &trailer;
        let manifest_bytes = open(
            "manifest",
            t.manifest_at,
            t.manifest_len,
            MANIFEST_MAX,
            &t.manifest_hash,
        )?;
        let index = open("index", t.index_at, t.index_len, INDEX_MAX, &t.index_hash)?;
        let limits = Limits {
            end: t.index_at,
            incremental: header.parent.is_some(),
            external: header.external,
            encrypted: header.lock.is_some(),
            compressed: header.compressed,
        };
        let index = Index::decode(&index, limits)?;
        let found = super::write::root(&header, &manifest_bytes, &index);
        if found != trailer.root {
            return Err(SnapError::Root {
                found,
                said: trailer.root,
            });
        }
        let manifest = Manifest::decode(&manifest_bytes)?;
        check(&header, &manifest, &index)?;
        Ok(Snapshot {
            header,
            manifest,
            root: found,
            index,
            src,
            cipher,
            store,
            header_hash,
            hash: super::hash_pages,
        })
    }

    /// How pages are hashed from here on, to be checked.
    pub fn hash_by(&mut self, hash: HashPages) {
        self.hash = hash;
    }

    /// Facts for every version.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All that is not pages.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Identity.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Bytes of its file.
    pub fn file_len(&self) -> u64 {
        self.src.len()
    }

    /// Pages with content.
    pub fn data_pages(&self) -> u64 {
        self.index.data_pages()
    }

    /// Its runs in order, also zero and dropped ones. A [`Place::Raw`] may be mapped from the file; whoever
    /// does checks each page against [`Snapshot::hashes`] before it is used.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        self.index.runs()
    }

    /// The hashes of the pages of a run with content, in order.
    pub fn hashes(&self, run: &Run) -> &[Hash] {
        self.index.hashes(run)
    }

    /// The run that holds a page, from that page on. `None`: this snapshot says nothing of it.
    pub fn find(&self, object: Object, index: u64) -> Option<Run> {
        self.index.find(object, index)
    }

    /// Reads and checks one page into `page` (4096 bytes); what it is if it has no content of its own, when
    /// `page` is zero.
    pub fn read_page(&self, object: Object, index: u64, page: &mut [u8]) -> Result<Option<State>, SnapError> {
        let Some(run) = self.find(object, index) else {
            page.fill(0);
            return Ok(None);
        };
        match run.state {
            State::Data(_) => self.fill(&run, self.hashes(&run), page, 0, &mut Scratch::default())?,
            State::Zero | State::Dropped => page.fill(0),
        }
        Ok(Some(run.state))
    }

    /// Calls `f` with all pages that have content, in order, checked, at most 64 at a time.
    pub fn for_each_run<E: From<SnapError>>(
        &self,
        mut f: impl FnMut(Object, u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buf = vec![0; RECORD_PAGES * PAGE_LEN];
        let mut scratch = Scratch::default();
        for run in self.index.runs() {
            if let State::Data(_) = run.state {
                self.each(&run, self.hashes(&run), 0, &mut buf, &mut scratch, &mut f)?;
            }
        }
        Ok(())
    }

    /// Writes the same snapshot anew, compressed or encrypted or not: also one that is a change stays one, of the same
    /// parent, and is named by the same identity.
    pub fn repack<E: From<SnapError>>(
        &self,
        compressed: bool,
        lock: Option<(Lock, Box<dyn Cipher>)>,
        out: Out<'_, E>,
    ) -> Result<Root, E> {
        let (lock, cipher) = lock.unzip();
        let header = Header {
            compressed,
            lock,
            external: false,
            ..self.header.clone()
        };
        let mut writer = Writer::begin(header, cipher, out)?;
        self.for_each_run(|object, first, bytes| writer.pages(object, first, bytes, out))?;
        for run in self.runs() {
            match run.state {
                State::Data(_) => {}
                State::Zero => writer.zero(run.object, run.first, run.count),
                State::Dropped => writer.drop_pages(run.object, run.first, run.count),
            }
        }
        writer.finish(self.manifest.clone(), out)
    }

    /// Checks every page.
    pub fn verify(&self) -> Result<(), SnapError> {
        self.for_each_run(|_, _, _| Ok(()))
    }

    /// [`Snapshot::for_each_run`] for one run with content, whose hashes are given: the run may be of a
    /// chain's index. `layer` tells snapshots apart that share a scratch.
    pub(super) fn each<E: From<SnapError>>(
        &self,
        run: &Run,
        hashes: &[Hash],
        layer: usize,
        buf: &mut [u8],
        scratch: &mut Scratch,
        f: &mut impl FnMut(Object, u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut run = *run;
        let mut hashes = hashes;
        while run.count > 0 {
            let n = run.count.min((buf.len() / PAGE_LEN) as u64);
            let bytes = &mut buf[..n as usize * PAGE_LEN];
            self.fill(&run, hashes, bytes, layer, scratch)?;
            f(run.object, run.first, bytes)?;
            hashes = &hashes[n as usize..];
            run = run.tail(n);
        }
        Ok(())
    }

    /// Reads the first pages of a run with content, as many as `out` holds, and checks them.
    pub(super) fn fill(
        &self,
        run: &Run,
        hashes: &[Hash],
        out: &mut [u8],
        layer: usize,
        scratch: &mut Scratch,
    ) -> Result<(), SnapError> {
        match run.state {
            State::Data(Place::Raw { offset }) => read(&*self.src, offset, out)?,
            State::Data(Place::Record { offset, skip, .. }) => {
                if scratch.at != Some((layer, offset)) {
                    scratch.at = None;
                    self.load(run, scratch)?;
                    scratch.at = Some((layer, offset));
                }
                let from = skip as usize * PAGE_LEN;
                // The index was checked against the record's stated length, `load` against its real one; two
                // runs may state different lengths of one record.
                let part = scratch
                    .bytes
                    .get(from..from + out.len())
                    .ok_or(SnapError::Damaged {
                        part: "index",
                        why: "it says different things of one record",
                    })?;
                out.copy_from_slice(part);
            }
            State::Data(Place::External) => {
                for (i, page) in out.chunks_mut(PAGE_LEN).enumerate() {
                    let index = run.first + i as u64;
                    let found = match &self.store {
                        Some(s) => s.page(&hashes[i], page).map_err(|why| SnapError::Read {
                            offset: index,
                            len: PAGE_LEN,
                            why,
                        })?,
                        None => false,
                    };
                    if !found {
                        return Err(SnapError::Missing {
                            object: run.object,
                            index,
                        });
                    }
                }
            }
            State::Zero | State::Dropped => out.fill(0),
        }
        let (pages, _) = out.as_chunks::<PAGE_LEN>();
        let hashes = &hashes[..pages.len()];
        let mut found = [Hash::default(); RECORD_PAGES];
        let (mut at, step) = (0, found.len());
        for (pages, hashes) in pages.chunks(step).zip(hashes.chunks(step)) {
            let found = &mut found[..pages.len()];
            (self.hash)(pages, found);
            if let Some(i) = found.iter().zip(hashes).position(|(a, b)| a != b) {
                return Err(SnapError::Page {
                    object: run.object,
                    index: run.first + (at + i) as u64,
                });
            }
            at += pages.len();
        }
        Ok(())
    }

    fn load(&self, run: &Run, scratch: &mut Scratch) -> Result<(), SnapError> {
        let State::Data(Place::Record {
            offset,
            stored,
            pages,
            zstd,
            ..
        }) = run.state
        else {
            return Ok(());
        };
        let damaged = |why| SnapError::Damaged { part: "record", why };
        scratch.stored.resize(stored as usize, 0);
        read(&*self.src, offset, &mut scratch.stored)?;
        if let Some(c) = &self.cipher
            && !c.open(offset, &self.header_hash, &mut scratch.stored)
        {
            return Err(SnapError::Sealed("page record"));
        }
        let len = pages as usize * PAGE_LEN;
        if zstd {
            scratch.bytes.resize(len, 0);
            let n = zstd::bulk::decompress_to_buffer(&scratch.stored, scratch.bytes.as_mut_slice())
                .map_err(|_| damaged("it cannot be decompressed"))?;
            scratch.bytes.truncate(n);
        } else {
            std::mem::swap(&mut scratch.bytes, &mut scratch.stored);
        }
        if scratch.bytes.len() != len {
            return Err(damaged("its length is not that of its pages"));
        }
        Ok(())
    }
}

fn trailer_of(src: &dyn ReadAt) -> Result<Trailer, SnapError> {
    let len = src.len();
    let need = (HEADER_LEN + TRAILER_LEN) as u64;
    if len < need {
        return Err(SnapError::Truncated { have: len, need });
    }
    let mut end = [0; TRAILER_LEN];
    read(src, len - TRAILER_LEN as u64, &mut end)?;
    Trailer::parse(&end, len)
}

fn read(src: &dyn ReadAt, offset: u64, buf: &mut [u8]) -> Result<(), SnapError> {
    src.read_at(offset, buf).map_err(|why| SnapError::Read {
        offset,
        len: buf.len(),
        why,
    })
}

/// Reads a section piece by piece: memory is taken only for bytes that are there.
fn read_long(src: &dyn ReadAt, at: u64, len: u64) -> Result<Vec<u8>, SnapError> {
    const PIECE: usize = 1 << 20;
    let mut bytes = Vec::new();
    let mut left = len as usize;
    while left > 0 {
        let (from, n) = (bytes.len(), left.min(PIECE));
        bytes.resize(from + n, 0);
        read(src, at + from as u64, &mut bytes[from..])?;
        left -= n;
    }
    // Opening appends nothing, but sealing in place may want room.
    bytes.reserve(SEAL_OVERHEAD);
    Ok(bytes)
}

/// What header, manifest and index say of one another.
fn check(header: &Header, manifest: &Manifest, index: &Index) -> Result<(), SnapError> {
    let damaged = |part, why| Err(SnapError::Damaged { part, why });
    if manifest.image != header.image
        || manifest.build != header.build
        || manifest.parent != header.parent
        || manifest.version != header.version
        || manifest.runtime.is_some() != header.with_runtime
        || manifest.extra(tree::SECTION).is_some() != header.with_volumes
    {
        return damaged("manifest", "it does not fit the header");
    }
    if manifest.spaces.windows(2).any(|w| w[0] >= w[1]) {
        return damaged("manifest", "its processes are not in order");
    }
    let contents = match manifest.extra(tree::SECTION).map(tree::Tree::decode) {
        None => 0,
        Some(Ok(tree)) => tree.end(),
        Some(Err(why)) => return damaged("manifest", why),
    };
    for run in index.runs() {
        let lives = match run.object {
            Object::Space(n) => manifest.spaces.binary_search(&n).is_ok(),
            Object::Runtime => {
                let pages = manifest
                    .runtime
                    .as_ref()
                    .map_or(0, |r| r.len.div_ceil(PAGE_LEN as u64));
                run.end() <= pages
            }
            Object::Volumes => run.end() <= contents,
            Object::Arena | Object::Store => true,
        };
        if !lives && run.state != State::Dropped {
            return damaged(
                "index",
                "pages of a process, a runtime or volumes that the manifest does not have",
            );
        }
    }
    Ok(())
}
