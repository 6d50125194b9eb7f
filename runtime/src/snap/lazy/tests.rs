//! Extents, order, and a loader beside nobody.

use super::*;
use ftl_core::snap::{Header, Manifest, Snapshot, Writer};
use std::os::unix::fs::FileExt;

fn page(n: u64) -> Vec<u8> {
    (0..PAGE / 8).flat_map(|i| (n * 1000 + i).to_le_bytes()).collect()
}

/// Process 1 has pages 0x100..0x180 and 0x188..0x190, process 2 has 0x100..0x104; page 0x120 of process 1 was written last.
fn chain(damage: bool) -> Chain {
    let mut file = Vec::new();
    let mut out = |b: &[u8]| -> Result<(), SnapError> {
        file.extend_from_slice(b);
        Ok(())
    };
    let header = Header {
        build: [1; 16],
        image: 7,
        version: "0".into(),
        parent: None,
        compressed: false,
        lock: None,
        external: false,
        with_runtime: false,
        with_volumes: false,
    };
    let mut w = Writer::begin(header, None, &mut out).expect("begins");
    for (space, first, count) in [(1, 0x100, 0x80), (1, 0x188, 8), (2, 0x100, 4), (1, 0x120, 1)] {
        for n in first..first + count {
            w.pages(Object::Space(space), n, &page(n + u64::from(space)), &mut out)
                .expect("a page");
        }
    }
    let manifest = Manifest {
        spaces: vec![1, 2],
        ..Manifest::default()
    };
    w.finish(manifest, &mut out).expect("ends");
    if damage {
        // The third page of process 2.
        file[ftl_core::snap::HEADER_LEN + (0x80 + 8 + 2) * PAGE as usize + 9] ^= 1;
    }
    let snapshot = Snapshot::open(Box::new(file)).expect("all but its pages is good");
    Chain::new(vec![snapshot]).expect("a chain")
}

fn parts() -> Vec<(u32, u64, u64, Prot)> {
    let rw = Prot::READ | Prot::WRITE;
    vec![
        (1, 0x100 * PAGE, 0x140 * PAGE, rw),
        (1, 0x140 * PAGE, 0x200 * PAGE, Prot::READ),
        (2, 0x102 * PAGE, 0x110 * PAGE, rw),
    ]
}

fn shape(list: &[Extent]) -> Vec<(u32, u64, u64)> {
    list.iter().map(|x| (x.space, x.start / PAGE, x.pages)).collect()
}

#[test]
fn extents_are_of_one_part_each() {
    let c = chain(false);
    let near = extents(&c, &parts(), 8);
    assert_eq!(shape(&near), [(1, 0x100, 0x40), (1, 0x140, 0x50), (2, 0x102, 2)]);
    let apart = extents(&c, &parts(), 7);
    assert_eq!(
        shape(&apart),
        [(1, 0x100, 0x40), (1, 0x140, 0x40), (1, 0x188, 8), (2, 0x102, 2)]
    );
    assert!(extents(&c, &[], 8).is_empty());
}

/// One test: the shared memory has a fixed place.
#[test]
fn a_loader_reads_all_and_first_what_is_waited_for() {
    let rest = |damage| Rest {
        chain: chain(damage),
        name: "a.ftsnap".into(),
        by_need: false,
    };
    let good = rest(false);
    let mut list = extents(&good.chain, &parts(), 8);
    let mut eagerly = Vec::new();
    let mut place = |object, first, bytes: &[u8]| {
        eagerly.push((object, first, bytes.len() as u64 / PAGE));
        Ok(())
    };
    eager(&good, &list, &mut place).expect("read");
    assert_eq!(eagerly, [(Object::Space(2), 0x100, 2)]);
    (list[1].first_chunk, list[2].first_chunk) = (4, 9);
    let ctl = map_ctl(&list, (CHUNK, 10), false).expect("mapped");
    let memory = || {
        let fd = sys::memfd(c"test", 0x200 * PAGE).expect("a memory file");
        // SAFETY: a new descriptor.
        unsafe { <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(fd) }
    };
    let (one, two) = (memory(), memory());
    use std::os::fd::AsRawFd;
    let files = [(1, one.as_raw_fd()), (2, two.as_raw_fd())];
    let mut loader = Loader {
        rest: &good,
        ctl,
        files: &files,
        pieces: Pieces::default(),
    };
    // What was written last comes first: page 0x120 is in the third chunk.
    assert_eq!(loader.order()[..2], [2, 9]);
    ctl.want.store(5 + 1, SeqCst);
    loader.load(5).expect("read");
    assert!(ctl.is_there(5) && !ctl.is_there(4) && ctl.want.load(SeqCst) == 0);
    loader.run().expect("read");
    let mut found = vec![0; PAGE as usize];
    for (file, space, pages) in [
        (&one, 1, 0x100..0x180),
        (&one, 1, 0x188..0x190),
        (&two, 2, 0x102..0x104),
    ] {
        for n in pages {
            file.read_exact_at(&mut found, n * PAGE).expect("there");
            assert!(found == page(n + space), "page {n:#x} of process {space}");
        }
    }
    for word in ctl.there() {
        word.store(0, SeqCst);
    }
    let bad = rest(true);
    loader.rest = &bad;
    let why = loader.run().expect_err("a page is damaged");
    assert!(why.contains("a.ftsnap") && why.contains("process 2"), "{why}");
    assert!(!ctl.is_there(9), "nobody may see it");
}
