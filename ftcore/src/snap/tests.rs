//! What is written reads back, whatever way it is stored.

use super::forge::{TestCipher, page, sample};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::convert::Infallible;

/// How a file keeps its pages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kept {
    Raw,
    Packed,
    Sealed,
    Both,
}

const LOCK: Lock = Lock {
    salt: [3; 16],
    memory_kib: 8,
    passes: 1,
};

fn header(kept: Kept, parent: Option<Root>) -> Header {
    Header {
        build: [1; 16],
        image: 0x1234,
        version: "0.1.0".into(),
        parent,
        compressed: matches!(kept, Kept::Packed | Kept::Both),
        lock: matches!(kept, Kept::Sealed | Kept::Both).then_some(LOCK),
        external: false,
        with_runtime: false,
        with_volumes: false,
    }
}

fn cipher(kept: Kept) -> Option<Box<dyn Cipher>> {
    matches!(kept, Kept::Sealed | Kept::Both).then(|| Box::new(TestCipher(0x5a)) as Box<dyn Cipher>)
}

/// A step of a writer.
#[derive(Clone, Debug)]
enum Step {
    Pages(Object, u64, Vec<u8>),
    /// The same with gaps between them.
    Runs(Object, u64, Vec<u8>),
    Zero(Object, u64, u64),
    Drop(Object, u64, u64),
}

/// Short runs of `n` pages together: first page, count.
fn with_gaps(first: u64, n: u64) -> Vec<(u64, u64)> {
    let (mut at, mut left, mut runs) = (first, n, Vec::new());
    while left > 0 {
        let count = (1 + at % 4).min(left);
        runs.push((at, count));
        left -= count;
        at += count + 1 + at % 2;
    }
    runs
}

/// What pages are: the seed of their content; `None`: absent.
type Model = BTreeMap<(Object, u64), u8>;

fn write(kept: Kept, parent: Option<Root>, steps: &[Step], spaces: &[u32]) -> (Vec<u8>, Root) {
    let mut file = Vec::new();
    let mut out = |b: &[u8]| -> Result<(), Infallible> {
        file.extend_from_slice(b);
        Ok(())
    };
    let Ok(mut w) = Writer::begin(header(kept, parent), cipher(kept), &mut out);
    for s in steps {
        match s {
            Step::Pages(o, first, seeds) => {
                let bytes: Vec<u8> = seeds.iter().flat_map(|s| page(*s)).collect();
                let Ok(()) = w.pages(*o, *first, &bytes, &mut out);
            }
            Step::Runs(o, first, seeds) => {
                let bytes: Vec<u8> = seeds.iter().flat_map(|s| page(*s)).collect();
                let Ok(()) = w.runs(*o, &with_gaps(*first, seeds.len() as u64), &bytes, &mut out);
            }
            Step::Zero(o, first, n) => w.zero(*o, *first, *n),
            Step::Drop(o, first, n) => w.drop_pages(*o, *first, *n),
        }
    }
    let manifest = Manifest {
        spaces: spaces.to_vec(),
        entries: 77,
        ..Manifest::default()
    };
    let Ok(root) = w.finish(manifest, &mut out);
    (file, root)
}

fn apply(model: &mut Model, steps: &[Step], spaces: &[u32]) {
    for s in steps {
        match s {
            Step::Pages(o, first, seeds) => {
                for (i, seed) in seeds.iter().enumerate() {
                    model.insert((*o, first + i as u64), *seed);
                }
            }
            Step::Runs(o, first, seeds) => {
                let runs = with_gaps(*first, seeds.len() as u64);
                let all = runs.into_iter().flat_map(|(first, n)| first..first + n);
                model.extend(all.map(|i| (*o, i)).zip(seeds.iter().copied()));
            }
            Step::Zero(o, first, n) => model.extend((*first..first + n).map(|i| ((*o, i), 0))),
            Step::Drop(o, first, n) => model.retain(|(q, i), _| q != o || *i < *first || *i >= first + n),
        }
    }
    model.retain(|(o, _), seed| match o {
        Object::Space(n) => spaces.contains(n),
        _ => *seed != 0,
    });
}

fn open(file: &[u8], kept: Kept) -> Snapshot {
    Snapshot::open_with(Box::new(file.to_vec()), cipher(kept), None).expect("whole")
}

fn check(chain: &Chain, model: &Model) {
    let mut seen = Model::new();
    let done: Result<(), SnapError> = chain.for_each_run(|o, first, bytes| {
        for (i, p) in bytes.chunks(PAGE_LEN).enumerate() {
            let seed = model[&(o, first + i as u64)];
            assert!(p == page(seed) && seed != 0);
            seen.insert((o, first + i as u64), seed);
        }
        Ok(())
    });
    done.expect("all pages are good");
    for (_, run) in chain.runs().filter(|(_, r)| r.state == State::Zero) {
        seen.extend((run.first..run.end()).map(|i| ((run.object, i), 0)));
    }
    assert_eq!(&seen, model);
    let mut got = vec![1; PAGE_LEN];
    for object in OBJECTS {
        for i in 0..200 {
            let here = chain.read_page(object, i, &mut got).expect("good");
            assert_eq!(here, model.contains_key(&(object, i)));
            assert!(got == page(model.get(&(object, i)).copied().unwrap_or(0)));
        }
    }
}

const OBJECTS: [Object; 4] = [Object::Arena, Object::Store, Object::Space(1), Object::Space(2)];

fn step() -> impl Strategy<Value = Step> {
    let object = prop::sample::select(OBJECTS.to_vec());
    (object, 0u64..80, prop::collection::vec(0u8..6, 1..90), 0u8..5).prop_map(|(o, first, seeds, kind)| {
        match kind {
            0 => Step::Zero(o, first, seeds.len() as u64),
            1 => Step::Drop(o, first, seeds.len() as u64),
            2 => Step::Runs(o, first, seeds),
            _ => Step::Pages(o, first, seeds),
        }
    })
}

fn kept() -> impl Strategy<Value = Kept> {
    prop::sample::select(vec![Kept::Raw, Kept::Packed, Kept::Sealed, Kept::Both])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn chains_read_back(
        layers in prop::collection::vec((kept(), prop::collection::vec(step(), 0..12), any::<bool>()), 1..4),
        other in kept(),
    ) {
        let (mut model, mut parent, mut open_layers, mut files) = (Model::new(), None, Vec::new(), Vec::new());
        for (kept, steps, both) in &layers {
            let spaces: &[u32] = if *both { &[1, 2] } else { &[2] };
            // A full snapshot's drops undo what was pushed; pages of processes that do not live are not pushed.
            let steps: Vec<Step> = steps.iter().filter(|s| *both || !matches!(s,
                Step::Pages(Object::Space(1), ..) | Step::Runs(Object::Space(1), ..) | Step::Zero(Object::Space(1), ..))).cloned().collect();
            let (file, root) = write(*kept, parent, &steps, spaces);
            prop_assert_eq!(write(Kept::Raw, parent, &steps, spaces).1, root, "stored another way, the same snapshot");
            apply(&mut model, &steps, spaces);
            open_layers.push(open(&file, *kept));
            files.push((file, *kept));
            parent = Some(root);
            let again = files.iter().map(|(f, k)| open(f, *k)).collect();
            check(&Chain::new(again).expect("a chain"), &model);
        }
        let chain = Chain::new(open_layers).expect("a chain");
        let mut file = Vec::new();
        let lock = cipher(other).map(|c| (LOCK, c));
        let root = chain.squash::<SnapError>(header(other, None).compressed, lock, &mut |b| { file.extend_from_slice(b); Ok(()) }).expect("good");
        let squashed = open(&file, other);
        prop_assert_eq!(squashed.root(), &root);
        prop_assert!(layers.len() > 1 || Some(root) == parent, "a full snapshot stays the same one");
        // A child of the chain's last fits the squashed one.
        let (child, _) = write(Kept::Raw, parent, &[Step::Pages(Object::Arena, 3, vec![5])], &chain.manifest().spaces);
        let both = Chain::new(vec![squashed, open(&child, Kept::Raw)]).expect("it stands for the last");
        model.insert((Object::Arena, 3), 5);
        check(&both, &model);
    }
}

#[test]
fn pages_can_be_mapped() {
    let (file, _) = write(
        Kept::Raw,
        None,
        &[
            Step::Pages(Object::Arena, 5, vec![1, 2, 3]),
            Step::Pages(Object::Arena, 8, vec![4]),
        ],
        &[],
    );
    let s = open(&file, Kept::Raw);
    let runs: Vec<Run> = s.runs().collect();
    assert_eq!(runs.len(), 1, "neighbours in file and object are one run");
    let State::Data(Place::Raw { offset }) = runs[0].state else {
        panic!("as they are")
    };
    assert_eq!((offset % 4096, runs[0].first, runs[0].count), (0, 5, 4));
    assert_eq!(file[offset as usize + 3 * PAGE_LEN..][..PAGE_LEN], page(4));
    assert_eq!(s.hashes(&runs[0])[3], *blake3::hash(&page(4)).as_bytes());
}

#[test]
fn zero_pages_take_no_room_and_compression_takes_less() {
    let zeros = vec![0; 2000];
    let (file, _) = write(Kept::Raw, None, &[Step::Pages(Object::Space(1), 0, zeros)], &[1]);
    assert!(file.len() < 3 * PAGE_LEN, "{}", file.len());
    let pages = [Step::Pages(
        Object::Space(1),
        0,
        (0..2000).map(|i| 1 + (i % 5) as u8).collect(),
    )];
    let (raw, packed) = (
        write(Kept::Raw, None, &pages, &[1]).0,
        write(Kept::Packed, None, &pages, &[1]).0,
    );
    assert!(packed.len() * 4 < raw.len(), "{} {}", packed.len(), raw.len());
}

#[test]
fn external_snapshots_take_their_pages_from_the_store() {
    struct Store(BTreeMap<Hash, Vec<u8>>);
    impl PageSource for Store {
        fn page(&self, hash: &Hash, page: &mut [u8]) -> Result<bool, String> {
            Ok(self.0.get(hash).is_some_and(|p| {
                page.copy_from_slice(p);
                true
            }))
        }
    }
    let steps = [
        Step::Pages(Object::Arena, 9, vec![1, 2]),
        Step::Pages(Object::Arena, 5, vec![3, 0, 1, 1]),
        Step::Zero(Object::Space(2), 1, 3),
    ];
    let (file, root) = write(Kept::Raw, None, &steps, &[2]);
    let chain = Chain::new(vec![open(&file, Kept::Raw)]).expect("one");
    let mut reference = Vec::new();
    let named = chain.squash_external::<Infallible>(&mut |b| {
        reference.extend_from_slice(b);
        Ok(())
    });
    assert_eq!(named, Ok(root), "the same snapshot");
    let pages = |seeds: &[u8]| {
        Store(
            seeds
                .iter()
                .map(|s| (*blake3::hash(&page(*s)).as_bytes(), page(*s).to_vec()))
                .collect(),
        )
    };
    let open_ref =
        |s: Store| Snapshot::open_with(Box::new(reference.clone()), None, Some(Box::new(s))).expect("whole");
    let mut model = Model::new();
    apply(&mut model, &steps, &[2]);
    check(
        &Chain::new(vec![open_ref(pages(&[1, 2, 3]))]).expect("one"),
        &model,
    );
    assert_eq!(
        open_ref(pages(&[1, 2])).verify(),
        Err(SnapError::Missing {
            object: Object::Arena,
            index: 5
        })
    );
    let mut wrong = pages(&[1, 2, 3]);
    wrong
        .0
        .insert(*blake3::hash(&page(2)).as_bytes(), page(1).to_vec());
    assert_eq!(
        open_ref(wrong).verify(),
        Err(SnapError::Page {
            object: Object::Arena,
            index: 10
        })
    );
}

#[test]
fn manifests_read_back() {
    let m = Manifest {
        version: "v".into(),
        handles: vec![HandleState {
            handle: 1,
            kind: HandleKind::Listener {
                addr: vec![2, 0],
                backlog: 128,
                options: vec![(1, 2, vec![1, 0, 0, 0])],
            },
        }],
        extra: vec![("room".into(), vec![1])],
        stands_for: Some([4; 32]),
        ..Manifest::default()
    };
    let back = Manifest::decode(&m.encode()).expect("good");
    assert_eq!(back, m);
    assert_eq!(
        (back.extra("room"), back.extra("none")),
        (Some([1].as_slice()), None)
    );
}

#[test]
fn a_wrong_chain_is_refused() {
    let (full, root) = write(Kept::Raw, None, &[Step::Pages(Object::Arena, 1, vec![1])], &[]);
    let (other, other_root) = write(Kept::Raw, None, &[Step::Pages(Object::Arena, 1, vec![2])], &[]);
    let (child, _) = write(Kept::Raw, Some(root), &[], &[]);
    let o = |f: &[u8]| open(f, Kept::Raw);
    let refused = |layers| Chain::new(layers).err();
    assert_eq!(refused(vec![o(&child)]), Some(SnapError::NoParent(root)));
    assert_eq!(
        refused(vec![o(&other), o(&child)]),
        Some(SnapError::WrongParent {
            wanted: root,
            found: other_root
        })
    );
    assert_eq!(
        refused(vec![o(&full), o(&other)]),
        Some(SnapError::NotIncremental(other_root))
    );
    let foreign = Snapshot::open(Box::new(sample(false, Some(root)))).expect("whole");
    assert_eq!(
        refused(vec![o(&full), foreign]),
        Some(SnapError::OtherImage(0x1234, 42))
    );
    assert!(refused(vec![o(&full), o(&child)]).is_none());
}

#[test]
fn the_key_is_asked_for() {
    let (file, _) = write(Kept::Both, None, &[Step::Pages(Object::Arena, 1, vec![1])], &[]);
    let open = |c| Snapshot::open_with(Box::new(file.clone()), c, None).err();
    assert_eq!(open(None), Some(SnapError::Locked));
    assert_eq!(
        open(Some(Box::new(TestCipher(1)) as Box<dyn Cipher>)),
        Some(SnapError::Sealed("manifest"))
    );
    assert_eq!(open(cipher(Kept::Both)), None);
    let clear = page(1);
    assert!(
        !file.windows(64).any(|w| w == &clear[..64]),
        "nothing is in the clear"
    );
}
