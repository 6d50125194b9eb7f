//! Snapshots into the page store: pages that it has are not written again.

use super::Store;
use super::file::Unpublished;
use super::pack::{PACK_PAGES, PackWriter, Packs};
use ftl_core::snap::{Chain, Hash, Header, Manifest, Object, PAGE_LEN, Root, SnapError, Writer, is_zero};

/// What adding a snapshot has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Added {
    /// Pages with content that it names.
    pub pages: u64,
    /// Of those, pages that the store did not have.
    pub new_pages: u64,
}

/// Writes one snapshot into the store. Dropped before [`StoreWriter::finish`], it leaves nothing.
pub struct StoreWriter<'a> {
    store: &'a Store,
    packs: &'a Packs,
    pack: PackWriter,
    full: Vec<PackWriter>,
    writer: Writer,
    file: Unpublished,
    added: Added,
}

impl<'a> StoreWriter<'a> {
    /// Starts a snapshot. The header says nothing of how it is kept.
    pub fn begin(store: &'a Store, packs: &'a Packs, header: Header) -> Result<StoreWriter<'a>, String> {
        let header = Header {
            compressed: false,
            lock: None,
            external: true,
            ..header
        };
        let mut file = Unpublished::create(&store.dir().join("refs/new"))?;
        let writer = Writer::begin(header, None, &mut |b| file.write(b))?;
        Ok(StoreWriter {
            store,
            packs,
            pack: PackWriter::new(store),
            full: Vec::new(),
            writer,
            file,
            added: Added::default(),
        })
    }

    /// As [`Writer::pages`].
    pub fn pages(&mut self, object: Object, first: u64, bytes: &[u8]) -> Result<(), String> {
        let (pages, odd) = bytes.as_chunks::<PAGE_LEN>();
        assert!(odd.is_empty(), "whole pages");
        // Pages with content that follow one another are one run.
        let mut hashes: Vec<Hash> = Vec::with_capacity(pages.len());
        for (i, page) in pages.iter().enumerate() {
            let at = first + i as u64;
            if is_zero(page) {
                self.known(object, at, &mut hashes);
                self.writer.zero(object, at, 1);
                continue;
            }
            let hash = *blake3::hash(page).as_bytes();
            self.page(&hash, page)?;
            hashes.push(hash);
        }
        self.known(object, first + pages.len() as u64, &mut hashes);
        Ok(())
    }

    fn known(&mut self, object: Object, end: u64, hashes: &mut Vec<Hash>) {
        if !hashes.is_empty() {
            self.added.pages += hashes.len() as u64;
            self.writer.known(object, end - hashes.len() as u64, hashes);
            hashes.clear();
        }
    }

    fn page(&mut self, hash: &Hash, page: &[u8]) -> Result<(), String> {
        if self.packs.has(hash) {
            return Ok(());
        }
        if self.pack.len() == PACK_PAGES {
            self.full
                .push(std::mem::replace(&mut self.pack, PackWriter::new(self.store)));
        }
        self.pack.add(hash, page)
    }

    /// Zero pages, dropped pages: [`Writer::zero`], [`Writer::drop_pages`], [`Writer::drop_object`].
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// Makes pages durable, then the snapshot that names them.
    pub fn finish(mut self, manifest: Manifest) -> Result<(Root, Added), String> {
        self.full.push(self.pack);
        for pack in self.full {
            self.added.new_pages += pack.len() as u64;
            pack.publish()?;
        }
        let file = &mut self.file;
        let root = self.writer.finish(manifest, &mut |b| file.write(b))?;
        self.file.publish_as(&self.store.path_of(&root))?;
        Ok((root, self.added))
    }
}

/// Adds a snapshot, with all that its parents have, as one full snapshot.
pub fn add(store: &Store, packs: &Packs, chain: &Chain) -> Result<(Root, Added), String> {
    let last = chain.last();
    let header = Header {
        parent: None,
        ..last.header().clone()
    };
    let mut w = StoreWriter::begin(store, packs, header)?;
    chain
        .for_each_run(|object, first, bytes| w.pages(object, first, bytes).map_err(Fault::Store))
        .map_err(Fault::text)?;
    for (_, run) in chain.runs() {
        if run.state == ftl_core::snap::State::Zero {
            w.writer().zero(run.object, run.first, run.count);
        }
    }
    w.finish(chain.squashed_manifest())
}

/// Which side of a copy failed.
pub enum Fault {
    /// What is read.
    Snapshot(SnapError),
    /// Where it is written.
    Store(String),
}

impl From<SnapError> for Fault {
    fn from(e: SnapError) -> Fault {
        Fault::Snapshot(e)
    }
}

impl Fault {
    /// One line for the user.
    pub fn text(self) -> String {
        match self {
            Fault::Snapshot(e) => e.to_string(),
            Fault::Store(e) => e,
        }
    }
}
