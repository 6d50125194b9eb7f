//! Damaged and hostile snapshots: refused with a reason, or harmless; no panic, no allocation beyond the
//! file's own size.

use super::forge::{check, page, rebuild, repair, sample, sample_held};
use super::*;
use proptest::prelude::*;

fn open(file: &[u8]) -> Result<Snapshot, SnapError> {
    Snapshot::open(Box::new(file.to_vec()))
}

fn use_all(file: &[u8]) -> Result<Root, SnapError> {
    let s = open(file)?;
    s.verify()?;
    Ok(*s.root())
}

/// Every flipped bit is refused, but for those of a page that a later round replaced, which nobody reads.
#[test]
fn flipped_bits_are_noticed() {
    for file in [sample(false, None), sample(true, None), sample_held(false, None)] {
        let root = use_all(&file).expect("whole");
        let mut harmless = 0;
        for at in 0..file.len() {
            // One bit of each byte, all of the small parts.
            let bits = if (HEADER_LEN..file.len() - 2048).contains(&at) {
                1
            } else {
                8
            };
            for bit in 0..bits {
                // All pages are read for each: a sample of the pages' bytes is enough.
                if bits == 1 && at % 61 != 0 {
                    continue;
                }
                let mut bad = file.clone();
                bad[at] ^= 1 << ((bit + at) % 8);
                match use_all(&bad) {
                    Ok(r) => {
                        assert_eq!(r, root, "byte {at}");
                        harmless += 1;
                    }
                    Err(e) => assert!(
                        e.to_string().contains(';')
                            || e == SnapError::Locked
                            || matches!(e, SnapError::Truncated { .. } | SnapError::Sealed(_)),
                        "{e}"
                    ),
                }
            }
        }
        assert!(harmless <= PAGE_LEN / 61 + 1, "{harmless}");
    }
}

#[test]
fn truncated_and_grown_files_are_refused() {
    let file = sample(false, None);
    for n in (0..file.len()).step_by(37).chain(file.len() - 300..file.len()) {
        assert!(open(&file[..n]).is_err(), "{n}");
    }
    assert!(open(&[file.as_slice(), &[0]].concat()).is_err());
    assert!(open(&[file.as_slice(), &file].concat()).is_err());
}

#[test]
fn swapped_pages_are_refused() {
    let file = sample(false, None);
    let (a, b) = (HEADER_LEN, HEADER_LEN + PAGE_LEN);
    let mut bad = file.clone();
    bad.copy_within(b..b + PAGE_LEN, a);
    bad[b..b + PAGE_LEN].copy_from_slice(&file[a..a + PAGE_LEN]);
    assert_eq!(
        use_all(&bad),
        Err(SnapError::Page {
            object: Object::Arena,
            index: 0
        })
    );
    let s = open(&bad).expect("the index is good");
    let mut buf = vec![0; PAGE_LEN];
    assert!(s.read_page(Object::Arena, 1, &mut buf).is_err());
    assert!(s.read_page(Object::Arena, 3, &mut buf).is_ok() && buf == page(3));
}

#[test]
fn parts_of_two_snapshots_are_refused() {
    let (a, b) = (sample(false, None), sample(false, Some([9; 32])));
    // The trailer names its header.
    let mixed = [&a[..HEADER_LEN], &b[HEADER_LEN..]].concat();
    assert!(matches!(
        open(&mixed),
        Err(SnapError::Damaged { part: "trailer", .. })
    ));
    // And with all hashes forged, the manifest names the header's facts.
    assert!(open(&repair(mixed)).is_err());
}

#[test]
fn another_format_names_its_version() {
    let mut file = sample(false, None);
    file[8] = 2;
    let bad = repair(file);
    let e = open(&bad).err();
    assert_eq!(
        e,
        Some(SnapError::Format {
            format: 2,
            version: "0.1.0".into()
        })
    );
}

/// One run of the index: kind, object, number, first, count, then what the kind asks for.
fn run(kind: u8, object: u8, first: u64, count: u64, rest: &[u8]) -> Vec<u8> {
    let mut v = vec![kind, object, 0, 0, 0, 0];
    v.extend_from_slice(&first.to_le_bytes());
    v.extend_from_slice(&count.to_le_bytes());
    v.extend_from_slice(rest);
    v
}

#[test]
fn hostile_indexes_are_refused() {
    let file = sample(false, None);
    let record = |offset: u64, stored: u32, pages: u32, skip: u32| {
        let mut v = offset.to_le_bytes().to_vec();
        [stored, pages, skip]
            .iter()
            .for_each(|n| v.extend_from_slice(&n.to_le_bytes()));
        v.extend_from_slice(&[0; 32]);
        v
    };
    let raw = |offset: u64| [offset.to_le_bytes().as_slice(), &[0; 32]].concat();
    let bad = [
        run(0, 0, 0, u64::MAX, &raw(4096)),
        run(0, 0, u64::MAX, 2, &raw(4096)),
        run(0, 0, 0, MAX_PAGE, &raw(4096)),
        run(0, 0, 0, 1 << 30, &raw(4096)),
        run(0, 0, 0, 0, &raw(4096)),
        run(0, 0, 0, 1, &raw(0)),
        run(0, 0, 0, 1, &raw(4097)),
        run(0, 0, 0, 1, &raw(1 << 40)),
        run(0, 0, 0, 1, &raw(u64::MAX - 4095)),
        run(0, 9, 0, 1, &raw(4096)),
        run(0, 3, 0, 1, &raw(4096)),
        run(1, 0, 0, 1, &record(4096, 4096, 1, 0)),
        run(3, 0, 0, 1, &[0; 32]),
        run(4, 0, 1, u64::MAX, &[]),
        run(5, 0, 0, 1, &[]),
        run(6, 0, 0, 1, &[]),
        [run(4, 2, 4, 2, &[]), run(4, 2, 5, 1, &[])].concat(),
        [run(4, 2, 4, 2, &[]), run(4, 2, 1, 1, &[])].concat(),
        vec![0],
        run(4, 0, 0, 1, &[0; 3]),
    ];
    for (i, index) in bad.iter().enumerate() {
        let forged = rebuild(&file, |old, _| *old = index.clone());
        assert!(
            matches!(open(&forged), Err(SnapError::Damaged { part: "index", .. })),
            "{i}"
        );
    }
    let packed = sample(true, None);
    for (i, (offset, stored, pages, skip)) in [
        (4096, 100, 65, 0),
        (4096, u32::MAX, 64, 0),
        (4096, 100, 1, 1),
        (4096, 100, 4, u32::MAX),
        (u64::MAX, 100, 4, 0),
        (1 << 40, 100, 4, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let forged = rebuild(&packed, |old, _| {
            *old = run(2, 0, 0, 1, &record(offset, stored, pages, skip))
        });
        assert!(
            matches!(open(&forged), Err(SnapError::Damaged { part: "index", .. })),
            "{i}"
        );
    }
    // Fits its limits, and is none.
    let forged = rebuild(&packed, |old, _| *old = run(2, 0, 0, 1, &record(4096, 1, 64, 0)));
    assert!(use_all(&forged).is_err());
    // Endless zeros cost nothing.
    let forged = rebuild(&sample(false, Some([1; 32])), |old, _| {
        *old = run(4, 0, 0, MAX_PAGE, &[])
    });
    assert!(use_all(&forged).is_ok());
}

/// A compressed record that would unpack to far more than its pages.
#[test]
fn compression_bombs_are_refused() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).expect("in memory");
    let mut file = sample(true, None);
    let at = HEADER_LEN;
    // In the place of the pages, which are longer.
    let bomb = &bomb[..bomb.len().min(file.len() - at - 3000)];
    file[at..at + bomb.len()].copy_from_slice(bomb);
    assert!(use_all(&file).is_err());
}

#[test]
fn lengths_beyond_the_file_are_refused() {
    struct Huge(Vec<u8>);
    impl ReadAt for Huge {
        fn len(&self) -> u64 {
            1 << 60
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), String> {
            let from_end = (1 << 60) - offset;
            match usize::try_from(from_end).ok().filter(|n| *n <= self.0.len()) {
                Some(n) => self.0.read_at(self.0.len() as u64 - n as u64, buf),
                None => self.0.read_at(offset, buf),
            }
        }
    }
    let t = super::header::Trailer {
        index_at: HEADER_LEN as u64,
        index_len: (1 << 60) - 4096 - 256 - 10,
        manifest_at: (1 << 60) - 256 - 10,
        manifest_len: 10,
        index_hash: [0; 32],
        manifest_hash: *blake3::hash(&[0; 10]).as_bytes(),
        header_hash: *blake3::hash(&sample(false, None)[..HEADER_LEN]).as_bytes(),
        root: [0; 32],
    };
    let file = [&sample(false, None)[..HEADER_LEN], &[0; 300], &t.to_bytes()].concat();
    let e = Snapshot::open(Box::new(Huge(file))).err();
    assert!(
        matches!(e, Some(SnapError::Damaged { part: "index", .. })),
        "{e:?}"
    );
}

/// Deterministic: the same mutations in every run.
#[test]
fn bounded_fuzz() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let seeds = [
        sample(false, None),
        sample(true, None),
        sample(false, Some([1; 32])),
        sample_held(false, None),
    ];
    for round in 0..3000 {
        let mut file = seeds[round % seeds.len()].clone();
        let pages_end = file.len() - 1200;
        for _ in 0..1 + random() % 4 {
            // Mostly where structure is.
            let at = match random() % 8 {
                0 => random() as usize % 256,
                1 => HEADER_LEN + random() as usize % (pages_end - HEADER_LEN),
                _ => pages_end + random() as usize % 1200,
            };
            match random() % 4 {
                0 => file[at] ^= 1 << (random() % 8),
                1 => file[at] = random() as u8,
                2 => file[at] = 0xff,
                _ => {
                    let n = (random() as usize % 16).min(file.len() - at);
                    let from = random() as usize % (file.len() - n);
                    file.copy_within(from..from + n, at);
                }
            }
        }
        if random() % 16 == 0 {
            file.truncate(random() as usize % file.len());
        }
        if random() % 8 != 0 {
            file = repair(file);
        }
        check(file);
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
        let _ = Header::parse(&bytes);
        let _ = super::index::Index::decode(&bytes, super::index::Limits {
            end: 1 << 30, incremental: true, external: true, encrypted: false, compressed: true,
        });
        let _ = Manifest::decode(&bytes);
        check(bytes);
    }
}
