//! For tests and fuzzers: makes damaged snapshots whose checksums and hashes fit, so that what lies behind
//! them is tested as well.

use super::header::{HEADER_LEN, Header, TRAILER_LEN, Trailer};
use super::index::{Index, Limits};
use super::tree::{Name, Node, NodeKind, SECTION, Top, Tree};
use super::{Cipher, Manifest, Object, PAGE_LEN, Snapshot, Writer};

/// Puts every checksum and hash of an unencrypted file right that can be put right. What has no header or
/// trailer comes back as it is.
pub fn repair(mut file: Vec<u8>) -> Vec<u8> {
    let Some(head) = file.first_chunk_mut::<HEADER_LEN>() else {
        return file;
    };
    let crc = crc32fast::hash(&head[..252]);
    head[252..256].copy_from_slice(&crc.to_le_bytes());
    let Ok(header) = Header::parse(head) else {
        return file;
    };
    let header_hash = *blake3::hash(head).as_bytes();
    let len = file.len() as u64;
    let Some(end) = file.last_chunk_mut::<TRAILER_LEN>() else {
        return file;
    };
    let crc = crc32fast::hash(&end[..TRAILER_LEN - 4]);
    end[TRAILER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    let Ok(mut trailer) = Trailer::parse(&*end, len) else {
        return file;
    };
    let (index, manifest, _) = parts(&file, &trailer);
    let limits = Limits {
        end: trailer.index_at,
        incremental: header.parent.is_some(),
        external: header.external,
        encrypted: header.lock.is_some(),
        compressed: header.compressed,
    };
    trailer.index_hash = *blake3::hash(index).as_bytes();
    trailer.manifest_hash = *blake3::hash(manifest).as_bytes();
    trailer.header_hash = header_hash;
    if let Ok(index) = Index::decode(index, limits) {
        trailer.root = super::write::root(&header, manifest, &index);
    }
    let at = file.len() - TRAILER_LEN;
    file[at..].copy_from_slice(&trailer.to_bytes());
    file
}

/// Index, manifest and the offset of the former.
fn parts<'a>(file: &'a [u8], t: &Trailer) -> (&'a [u8], &'a [u8], usize) {
    let (i, m) = (t.index_at as usize, t.manifest_at as usize);
    (&file[i..m], &file[m..m + t.manifest_len as usize], i)
}

/// The same file with another index and manifest.
pub fn rebuild(file: &[u8], change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> Vec<u8> {
    let Some(end) = file.last_chunk::<TRAILER_LEN>() else {
        return file.to_vec();
    };
    let Ok(mut t) = Trailer::parse(end, file.len() as u64) else {
        return file.to_vec();
    };
    let (index, manifest, at) = parts(file, &t);
    let (mut index, mut manifest) = (index.to_vec(), manifest.to_vec());
    change(&mut index, &mut manifest);
    t.index_len = index.len() as u64;
    t.manifest_at = t.index_at + t.index_len;
    t.manifest_len = manifest.len() as u64;
    repair([&file[..at], &index, &manifest, &t.to_bytes()].concat())
}

/// What must hold of a reader for any bytes: an error or content, no panic, and what was read reads the same
/// by page and by run, and after it is written again.
pub fn check(file: Vec<u8>) {
    let Ok(snapshot) = Snapshot::open(Box::new(file)) else {
        return;
    };
    let mut pages = 0;
    let all = snapshot.for_each_run(|object, first, bytes| {
        let mut page = vec![0; PAGE_LEN];
        for (i, expected) in bytes.chunks(PAGE_LEN).enumerate() {
            snapshot.read_page(object, first + i as u64, &mut page)?;
            assert_eq!(page, expected);
        }
        pages += (bytes.len() / PAGE_LEN) as u64;
        Ok(())
    });
    let Ok(()) = all else {
        let _: super::SnapError = all.unwrap_err();
        return;
    };
    assert_eq!(pages, snapshot.data_pages());
    if snapshot.header().parent.is_none() {
        let root = *snapshot.root();
        // A full file may state zero pages that a writer leaves out; then it is not the same snapshot.
        let plain = snapshot
            .runs()
            .all(|r| r.state != super::State::Zero || matches!(r.object, Object::Space(_)));
        let Ok(chain) = super::Chain::new(vec![snapshot]) else {
            panic!("a full snapshot is a chain");
        };
        let again: Result<_, super::SnapError> = chain.squash(false, None, &mut |_| Ok(()));
        assert!(!plain || again == Ok(root));
    }
}

/// Not a cipher: it only behaves like one.
pub struct TestCipher(pub u8);

impl TestCipher {
    fn tag(&self, number: u64, aad: &[u8], bytes: &[u8]) -> [u8; 16] {
        let mut h = blake3::Hasher::new();
        h.update(&[self.0]);
        h.update(&number.to_le_bytes());
        h.update(aad);
        h.update(bytes);
        std::array::from_fn(|i| h.finalize().as_bytes()[i])
    }
}

impl Cipher for TestCipher {
    fn seal(&self, number: u64, aad: &[u8], bytes: &mut Vec<u8>) {
        bytes.iter_mut().for_each(|b| *b ^= self.0);
        let tag = self.tag(number, aad, bytes);
        bytes.extend_from_slice(&tag);
    }
    fn open(&self, number: u64, aad: &[u8], bytes: &mut Vec<u8>) -> bool {
        let Some(at) = bytes.len().checked_sub(16) else {
            return false;
        };
        if self.tag(number, aad, &bytes[..at]) != bytes[at..] {
            return false;
        }
        bytes.truncate(at);
        bytes.iter_mut().for_each(|b| *b ^= self.0);
        true
    }
}

/// A page whose content tells which it is; 0 is the zero page.
pub fn page(seed: u8) -> [u8; PAGE_LEN] {
    match seed {
        0 => [0; PAGE_LEN],
        // Half of it compresses.
        _ => std::array::from_fn(|i| {
            if i % 2 == 0 {
                seed
            } else {
                (i as u8).wrapping_mul(seed) ^ (i >> 8) as u8
            }
        }),
    }
}

/// A small snapshot, of everything a bit.
pub fn sample(compressed: bool, parent: Option<super::Root>) -> Vec<u8> {
    sample_of(compressed, parent, None)
}

/// The same with the contents of a volume in it: a file of two pages and a bit, of which the second is a hole.
pub fn sample_held(compressed: bool, parent: Option<super::Root>) -> Vec<u8> {
    let node = |kind| Node {
        id: (1, 2),
        kind,
        mode: 0o700,
        owner: (0, 0),
        atime: 0,
        mtime: -1,
        xattrs: vec![(b"user.x".to_vec(), vec![7])],
    };
    let len = 2 * PAGE_LEN as u64 + 7;
    let tree = Tree {
        tops: vec![Top {
            at: b"/srv".to_vec(),
            host: b"/srv".to_vec(),
            root: 0,
        }],
        nodes: vec![
            node(NodeKind::Directory),
            node(NodeKind::File { len, first: 4 }),
            node(NodeKind::Symlink(b"f".to_vec())),
        ],
        names: vec![
            Name {
                parent: 0,
                name: b"f".to_vec(),
                node: 1,
            },
            Name {
                parent: 0,
                name: b"l".to_vec(),
                node: 2,
            },
        ],
    };
    sample_of(compressed, parent, Some(tree))
}

fn sample_of(compressed: bool, parent: Option<super::Root>, held: Option<Tree>) -> Vec<u8> {
    let header = Header {
        build: [7; 16],
        image: 42,
        version: "0.1.0".into(),
        parent,
        compressed,
        lock: None,
        external: false,
        with_runtime: false,
        with_volumes: held.is_some(),
    };
    let mut file = Vec::new();
    let mut out = |b: &[u8]| -> Result<(), std::convert::Infallible> {
        file.extend_from_slice(b);
        Ok(())
    };
    let Ok(mut w) = Writer::begin(header, None, &mut out);
    let bytes: Vec<u8> = [1, 2, 0, 3].iter().flat_map(|s| page(*s)).collect();
    let Ok(()) = w.pages(Object::Arena, 0, &bytes, &mut out);
    let Ok(()) = w.pages(Object::Store, 7, &bytes[..PAGE_LEN], &mut out);
    let Ok(()) = w.pages(Object::Space(1), 0x7_0000_0000, &bytes, &mut out);
    // Copied again in a later round.
    let Ok(()) = w.pages(Object::Space(1), 0x7_0000_0001, &page(9), &mut out);
    if parent.is_some() {
        w.drop_pages(Object::Space(1), 0x10, 4);
    }
    if held.is_some() {
        let bytes: Vec<u8> = [5, 0, 6].iter().flat_map(|s| page(*s)).collect();
        let Ok(()) = w.pages(Object::Volumes, 4, &bytes, &mut out);
    }
    let manifest = Manifest {
        spaces: vec![1],
        start: vec![1, 2, 3],
        handles: vec![super::HandleState {
            handle: 5,
            kind: super::HandleKind::Opaque(vec![9; 20]),
        }],
        extra: held
            .map(|t| (SECTION.to_string(), t.encode()))
            .into_iter()
            .collect(),
        ..Manifest::default()
    };
    let Ok(_) = w.finish(manifest, &mut out);
    file
}
