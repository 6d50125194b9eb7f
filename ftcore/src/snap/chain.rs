//! A full snapshot and the incremental ones after it, as one.

use super::index::Index;
use super::read::Scratch;
use super::write::Out;
use super::{
    Cipher, Hash, Header, Manifest, Object, PAGE_LEN, RECORD_PAGES, Root, Run, SnapError, Snapshot, State,
    Writer,
};
use super::{Lock, Place};

/// Snapshots of one image, the full one first, each the parent of the next. One alone is a chain as well.
pub struct Chain {
    layers: Vec<Snapshot>,
    /// What the last one is, with all that it took over.
    index: Index,
    /// Which layer the pages come from, by the index's hashes: layer of the hash at this position.
    starts: Vec<usize>,
}

/// Buffers of [`Chain::for_each_in`], for pages of one chain.
#[derive(Default)]
pub struct Pieces {
    buf: Vec<u8>,
    scratch: Scratch,
}

impl Chain {
    /// Puts a chain together; refused if a parent is missing or is another.
    pub fn new(layers: Vec<Snapshot>) -> Result<Chain, SnapError> {
        let mut chain = Chain {
            layers: Vec::new(),
            index: Index::default(),
            starts: Vec::new(),
        };
        for layer in layers {
            chain.push(layer)?;
        }
        assert!(!chain.layers.is_empty(), "a chain has a snapshot");
        Ok(chain)
    }

    fn push(&mut self, layer: Snapshot) -> Result<(), SnapError> {
        match (self.layers.last(), layer.header().parent) {
            (None, Some(parent)) => return Err(SnapError::NoParent(parent)),
            (Some(_), None) => return Err(SnapError::NotIncremental(*layer.root())),
            (None, None) => {}
            (Some(last), Some(wanted)) => {
                if last.header().image != layer.header().image {
                    return Err(SnapError::OtherImage(last.header().image, layer.header().image));
                }
                if *last.root() != wanted && last.manifest().stands_for != Some(wanted) {
                    return Err(SnapError::WrongParent {
                        wanted,
                        found: *last.root(),
                    });
                }
            }
        }
        // One hash that no page has keeps runs of two layers from becoming one.
        let start = self.index.add_hashes([Hash::default()]);
        for run in layer.index.runs() {
            let hash_at = match run.state {
                State::Data(_) => self.index.add_hashes(layer.hashes(&run).iter().copied()),
                _ => 0,
            };
            self.index.set(Run { hash_at, ..run });
        }
        let spaces = &layer.manifest().spaces;
        self.index.retain(|r| match (r.state, r.object) {
            (State::Dropped, _) => false,
            (State::Zero, object) if !matches!(object, Object::Space(_)) => false,
            (_, Object::Space(n)) => spaces.binary_search(&n).is_ok(),
            // A runtime is of the snapshot that carries it, and so are volumes: they are held whole.
            (_, Object::Runtime | Object::Volumes) => r.hash_at >= start,
            _ => true,
        });
        self.starts.push(start);
        self.layers.push(layer);
        Ok(())
    }

    /// The snapshot that the chain is: the last.
    pub fn last(&self) -> &Snapshot {
        &self.layers[self.layers.len() - 1]
    }

    /// All that is not pages, of the last.
    pub fn manifest(&self) -> &Manifest {
        self.last().manifest()
    }

    /// The snapshots of which it consists, the full one first.
    pub fn layers(&self) -> &[Snapshot] {
        &self.layers
    }

    /// Pages with content.
    pub fn data_pages(&self) -> u64 {
        self.index.data_pages()
    }

    /// All runs in order, with content or explicitly zero, each with the number of the layer that holds it.
    pub fn runs(&self) -> impl Iterator<Item = (usize, Run)> {
        self.index.runs().map(|r| (self.layer_of(&r), r))
    }

    /// The hashes of the pages of a run with content, in order.
    pub fn hashes(&self, run: &Run) -> &[Hash] {
        self.index.hashes(run)
    }

    /// The run that holds a page, from that page on, and its layer. `None`: the page is absent.
    pub fn find(&self, object: Object, index: u64) -> Option<(usize, Run)> {
        self.index.find(object, index).map(|r| (self.layer_of(&r), r))
    }

    /// Reads and checks one page into `page` (4096 bytes). False if it is absent; `page` is zero then.
    pub fn read_page(&self, object: Object, index: u64, page: &mut [u8]) -> Result<bool, SnapError> {
        let Some((layer, run)) = self.find(object, index) else {
            page.fill(0);
            return Ok(false);
        };
        match run.state {
            State::Data(_) => {
                let hashes = self.index.hashes(&run);
                self.layers[layer].fill(&run, hashes, page, layer, &mut Scratch::default())?;
            }
            _ => page.fill(0),
        }
        Ok(true)
    }

    /// Calls `f` with all pages that have content, in order, checked, at most 64 at a time.
    pub fn for_each_run<E: From<SnapError>>(
        &self,
        f: impl FnMut(Object, u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.for_each_of(|_| true, f)
    }

    /// The same for pages of those objects that `wanted` names.
    pub fn for_each_of<E: From<SnapError>>(
        &self,
        wanted: impl Fn(Object) -> bool,
        mut f: impl FnMut(Object, u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buf = vec![0; RECORD_PAGES * PAGE_LEN];
        let mut scratch = Scratch::default();
        for (layer, run) in self.runs() {
            if !wanted(run.object) {
                continue;
            }
            if let State::Data(_) = run.state {
                let hashes = self.index.hashes(&run);
                self.layers[layer].each(&run, hashes, layer, &mut buf, &mut scratch, &mut f)?;
            }
        }
        Ok(())
    }

    /// The same for the pages `[first, first + count)` of one object. `pieces` serves one call after the other.
    pub fn for_each_in<E: From<SnapError>>(
        &self,
        object: Object,
        first: u64,
        count: u64,
        pieces: &mut Pieces,
        mut f: impl FnMut(Object, u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut at, end) = (first, first.saturating_add(count));
        pieces.buf.resize(RECORD_PAGES * PAGE_LEN, 0);
        while let Some(run) = self.index.next(object, at).filter(|r| r.first < end) {
            let run = run.head(run.count.min(end - run.first));
            at = run.end();
            if let State::Data(_) = run.state {
                let (hashes, layer) = (self.index.hashes(&run), self.layer_of(&run));
                let Pieces { buf, scratch } = pieces;
                self.layers[layer].each(&run, hashes, layer, buf, scratch, &mut f)?;
            }
        }
        Ok(())
    }

    /// Writes the chain as one full snapshot. Children of its last snapshot fit the new one as well.
    pub fn squash<E: From<SnapError>>(
        &self,
        compressed: bool,
        lock: Option<(Lock, Box<dyn Cipher>)>,
        out: Out<'_, E>,
    ) -> Result<Root, E> {
        let (lock, cipher) = lock.unzip();
        let last = self.last();
        let header = Header {
            parent: None,
            compressed,
            lock,
            external: false,
            ..last.header().clone()
        };
        let mut writer = Writer::begin(header, cipher, out)?;
        self.for_each_run(|object, first, bytes| writer.pages(object, first, bytes, out))?;
        for (_, run) in self.runs() {
            if run.state == State::Zero {
                writer.zero(run.object, run.first, run.count);
            }
        }
        writer.finish(self.squashed_manifest(), out)
    }

    /// Writes the chain as one full snapshot whose pages are named by hash only, for the page store.
    pub fn squash_external<E>(&self, out: Out<'_, E>) -> Result<Root, E> {
        let last = self.last();
        let header = Header {
            parent: None,
            compressed: false,
            lock: None,
            external: true,
            ..last.header().clone()
        };
        let mut writer = Writer::begin(header, None, out)?;
        for (_, run) in self.runs() {
            match run.state {
                State::Data(_) => writer.known(run.object, run.first, self.hashes(&run)),
                _ => writer.zero(run.object, run.first, run.count),
            }
        }
        writer.finish(self.squashed_manifest(), out)
    }

    /// The manifest of the chain as one full snapshot.
    pub fn squashed_manifest(&self) -> Manifest {
        let last = self.last();
        let mut manifest = last.manifest().clone();
        if last.header().parent.is_some() {
            manifest.stands_for = Some(*last.root());
        }
        manifest
    }

    fn layer_of(&self, run: &Run) -> usize {
        match run.state {
            State::Data(Place::Raw { .. } | Place::Record { .. } | Place::External) => {
                self.starts.partition_point(|s| *s <= run.hash_at) - 1
            }
            _ => self.layers.len() - 1,
        }
    }
}
