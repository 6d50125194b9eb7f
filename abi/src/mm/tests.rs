//! The map of a space against an array of pages.

use super::{Mm, Vma, VmaFlags, VmaKind};
use ftl_core::layout::{GUEST_TOP, PAGE};
use ftl_core::platform::Prot;
use ftl_core::wait::SpaceId;
use proptest::prelude::*;

const PAGES: u64 = 64;
const BASE: u64 = GUEST_TOP - PAGES * PAGE;

#[derive(Clone, Debug)]
enum Op {
    Map(u64, u64, u32, bool),
    Unmap(u64, u64),
    Protect(u64, u64, u32),
    Lock(u64, u64, bool),
    Find(u64),
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    (0..PAGES).prop_flat_map(|s| (Just(s), 1..=(PAGES - s).min(12)))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (range(), 0..4u32, any::<bool>()).prop_map(|((s, n), p, d)| Op::Map(s, n, p, d)),
        range().prop_map(|(s, n)| Op::Unmap(s, n)),
        (range(), 0..4u32).prop_map(|((s, n), p)| Op::Protect(s, n, p)),
        (range(), any::<bool>()).prop_map(|((s, n), on)| Op::Lock(s, n, on)),
        (1..8u64).prop_map(Op::Find),
    ]
}

/// Protection and flags of each page; `None` is a hole.
type Model = Vec<Option<(Prot, VmaFlags)>>;

fn vma(s: u64, n: u64, prot: Prot, flags: VmaFlags) -> Vma {
    let mut v = Vma::anon(BASE + s * PAGE, n * PAGE, prot, VmaKind::Normal);
    v.flags = flags;
    v
}

fn check(mm: &Mm, model: &Model) {
    let list = mm.list();
    let mut seen: Model = vec![None; PAGES as usize];
    for w in list.windows(2) {
        assert!(w[0].end <= w[1].start, "no overlap, ascending");
        assert!(
            w[0].end < w[1].start || !w[0].joins(&w[1]),
            "neighbours that differ in nothing are joined"
        );
    }
    for v in &list {
        assert!(v.start < v.end);
        for p in (v.start - BASE) / PAGE..(v.end - BASE) / PAGE {
            seen[p as usize] = Some((v.prot, v.flags));
        }
    }
    assert_eq!(&seen, model);
    let pages =
        |f: &dyn Fn(&(Prot, VmaFlags)) -> bool| model.iter().flatten().filter(|p| f(p)).count() as u64 * PAGE;
    assert_eq!(mm.mapped.get(), pages(&|_| true));
    assert_eq!(mm.committed.get(), pages(&|p| p.0.contains(Prot::WRITE)));
    assert_eq!(mm.locked.get(), pages(&|p| p.1.contains(VmaFlags::LOCKED)));
}

/// Highest hole of `n` pages in the model.
fn highest(model: &Model, n: u64) -> Option<u64> {
    (0..=PAGES - n)
        .rev()
        .find(|s| (*s..*s + n).all(|p| model[p as usize].is_none()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn agrees_with_an_array_of_pages(ops in prop::collection::vec(op(), 1..60)) {
        let mm = Mm::new(SpaceId(0), 0);
        let mut model: Model = vec![None; PAGES as usize];
        for op in ops {
            match op {
                Op::Map(s, n, p, d) => {
                    let prot = Prot::from_bits_truncate(p);
                    let flags = if d { VmaFlags::DONTFORK } else { VmaFlags::empty() };
                    mm.forget(BASE + s * PAGE, n * PAGE);
                    mm.insert(vma(s, n, prot, flags));
                    model[s as usize..(s + n) as usize].fill(Some((prot, flags)));
                }
                Op::Unmap(s, n) => {
                    mm.forget(BASE + s * PAGE, n * PAGE);
                    model[s as usize..(s + n) as usize].fill(None);
                }
                Op::Protect(s, n, p) => {
                    let prot = Prot::from_bits_truncate(p);
                    mm.change(BASE + s * PAGE, n * PAGE, |v| v.prot = prot);
                    for m in model[s as usize..(s + n) as usize].iter_mut().flatten() {
                        m.0 = prot;
                    }
                }
                Op::Lock(s, n, on) => {
                    mm.change(BASE + s * PAGE, n * PAGE, |v| v.flags.set(VmaFlags::LOCKED, on));
                    for m in model[s as usize..(s + n) as usize].iter_mut().flatten() {
                        m.1.set(VmaFlags::LOCKED, on);
                    }
                }
                Op::Find(n) => {
                    let got = mm.find_free(n * PAGE, GUEST_TOP, PAGE);
                    let want = highest(&model, n).map_or(BASE - n * PAGE, |s| BASE + s * PAGE);
                    // A hole at the bottom of the model goes on below it.
                    let bottom = model.iter().take_while(|p| p.is_none()).count() as u64;
                    let want = if highest(&model, n).is_none() { BASE + bottom * PAGE - n * PAGE } else { want };
                    prop_assert_eq!(got, Some(want));
                }
            }
            check(&mm, &model);
            for s in 0..PAGES {
                let prefix = mm.mapped_prefix(BASE + s * PAGE, (PAGES - s) * PAGE) / PAGE;
                let want = model[s as usize..].iter().take_while(|p| p.is_some()).count() as u64;
                prop_assert_eq!(prefix, want);
                prop_assert_eq!(mm.is_free(BASE + s * PAGE, PAGE), model[s as usize].is_none());
            }
        }
    }
}

#[test]
fn free_ranges_keep_off_the_runtime() {
    use ftl_core::layout::{RUNTIME_BLOCK, RUNTIME_BLOCK_END};
    let mm = Mm::new(SpaceId(0), 0);
    mm.insert(Vma::anon(
        RUNTIME_BLOCK_END,
        GUEST_TOP - RUNTIME_BLOCK_END,
        Prot::READ,
        VmaKind::Normal,
    ));
    assert_eq!(mm.find_free(PAGE, GUEST_TOP, PAGE), Some(RUNTIME_BLOCK - PAGE));
    assert_eq!(
        mm.find_free(1 << 40, GUEST_TOP, 1 << 30),
        Some(RUNTIME_BLOCK - (1 << 40))
    );
}

#[test]
fn stub_areas_are_holes_that_unmapping_leaves_alone() {
    let mm = Mm::new(SpaceId(0), 0);
    let at = BASE;
    mm.insert(Vma::anon(at, PAGE, Prot::READ, VmaKind::Normal));
    mm.insert(Vma::anon(at + PAGE, PAGE, Prot::READ, VmaKind::Stubs));
    mm.insert(Vma::anon(at + 2 * PAGE, PAGE, Prot::READ, VmaKind::Normal));
    assert_eq!(mm.mapped.get(), 2 * PAGE);
    assert!(!mm.is_mapped(at, 3 * PAGE));
    assert!(mm.looks_free(at + PAGE, PAGE) && !mm.is_free(at + PAGE, PAGE));
    mm.change(at, 3 * PAGE, |v| v.prot = Prot::WRITE);
    mm.forget(at, 3 * PAGE);
    assert_eq!(mm.mapped.get(), 0);
    let left = mm.list();
    assert_eq!(left.len(), 1);
    assert!(left[0].kind == VmaKind::Stubs && left[0].prot == Prot::READ);
}
