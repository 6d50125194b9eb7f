use super::*;
use crate::eventfd::EventFd;
use crate::pipe::PipeEnd;
use ftl_core::io::{Dst, Src};
use ftl_core::testing::{BASE, World};

struct Desc(FileRef);
impl Description for Desc {
    fn file(&self) -> &FileRef {
        &self.0
    }
}

fn desc(f: FileRef) -> Rc<dyn Description> {
    Rc::new(Desc(f))
}

fn got(w: &mut World, ep: &Epoll, max: usize) -> Vec<(u32, u64)> {
    let mut v = Vec::new();
    let n = ep.collect(&mut w.env(), max, &mut |_, _, e, d| {
        v.push((e, d));
        Ok(())
    });
    assert_eq!(n, Ok(v.len()));
    v
}

fn write(w: &mut World, f: &Rc<dyn Description>, n: usize) {
    let mut src = Src::user(BASE, n as u64);
    f.file().write(&mut w.env(), 0, &mut src).unwrap();
}

fn read(w: &mut World, f: &Rc<dyn Description>, n: usize) {
    let mut dst = Dst::user(BASE, n as u64);
    f.file().read(&mut w.env(), 0, &mut dst).unwrap();
}

fn pipe(w: &mut World) -> (Rc<dyn Description>, Rc<dyn Description>) {
    let (r, wr) = PipeEnd::pair(&mut w.env(), 0, 0, 0);
    (desc(r), desc(wr))
}

const IN: u32 = 1;

#[test]
fn level_repeats_edge_does_not() {
    let mut w = World::new(65536);
    let (r, wr) = pipe(&mut w);
    let (r2, wr2) = pipe(&mut w);
    let ep = Epoll::new(&mut w.env());
    ep.add(&mut w.env(), 3, &r, IN, 30).unwrap();
    ep.add(&mut w.env(), 5, &r2, IN | flag::ET, 50).unwrap();
    assert_eq!(got(&mut w, &ep, 8), vec![]);
    write(&mut w, &wr, 10);
    write(&mut w, &wr2, 10);
    assert_eq!(got(&mut w, &ep, 8), vec![(IN, 30), (IN, 50)]);
    assert_eq!(got(&mut w, &ep, 8), vec![(IN, 30)]);
    // A second write to a polled pipe is an edge even though the first was not read.
    write(&mut w, &wr2, 10);
    assert_eq!(got(&mut w, &ep, 8), vec![(IN, 30), (IN, 50)]);
    read(&mut w, &r, 10);
    // Reading a part is none.
    read(&mut w, &r2, 5);
    assert_eq!(got(&mut w, &ep, 8), vec![]);
    assert!(ep.ready.borrow().is_empty());
}

#[test]
fn oneshot_needs_modify() {
    let mut w = World::new(4096);
    let (r, wr) = pipe(&mut w);
    let ep = Epoll::new(&mut w.env());
    ep.add(&mut w.env(), 3, &r, IN | flag::ONESHOT, 1).unwrap();
    write(&mut w, &wr, 1);
    assert_eq!(got(&mut w, &ep, 8), vec![(IN, 1)]);
    write(&mut w, &wr, 1);
    assert_eq!(got(&mut w, &ep, 8), vec![]);
    ep.modify(&mut w.env(), 3, &r, IN | flag::ONESHOT, 2).unwrap();
    assert_eq!(got(&mut w, &ep, 8), vec![(IN, 2)]);
}

#[test]
fn fairness_and_max() {
    let mut w = World::new(4096);
    let ep = Epoll::new(&mut w.env());
    let mut keep = Vec::new();
    for i in 0..5 {
        let f: FileRef = EventFd::new(&mut w.env(), 1, false);
        let d = desc(f);
        ep.add(&mut w.env(), i, &d, IN, i as u64).unwrap();
        keep.push(d);
    }
    let data = |v: Vec<(u32, u64)>| v.into_iter().map(|(_, d)| d).collect::<Vec<_>>();
    assert_eq!(data(got(&mut w, &ep, 2)), [0, 1]);
    assert_eq!(data(got(&mut w, &ep, 2)), [2, 3]);
    assert_eq!(data(got(&mut w, &ep, 9)), [4, 0, 1, 2, 3]);
}

#[test]
fn a_closed_description_is_gone() {
    let mut w = World::new(4096);
    let (r, wr) = pipe(&mut w);
    let ep = Epoll::new(&mut w.env());
    ep.add(&mut w.env(), 3, &r, IN, 1).unwrap();
    assert_eq!(ep.add(&mut w.env(), 3, &r, IN, 1), Err(Errno::EEXIST));
    write(&mut w, &wr, 1);
    drop(r);
    assert_eq!(got(&mut w, &ep, 8), vec![]);
    assert!(ep.items.borrow().is_empty());
    let (r, wr2) = pipe(&mut w);
    ep.add(&mut w.env(), 3, &r, IN, 2).unwrap();
    drop(wr2);
    assert_eq!(got(&mut w, &ep, 8), vec![(Poll::HUP.bits(), 2)]);
    assert_eq!(ep.delete(3, &r), Ok(()));
    assert_eq!(ep.delete(3, &r), Err(Errno::ENOENT));
    assert_eq!(got(&mut w, &ep, 8), vec![]);
}

#[test]
fn nesting_and_loops() {
    let mut w = World::new(4096);
    let (r, wr) = pipe(&mut w);
    let all: Vec<Rc<Epoll>> = (0..6).map(|_| Epoll::new(&mut w.env())).collect();
    let descs: Vec<Rc<dyn Description>> = all.iter().map(|e| desc(e.clone())).collect();
    all[0].add(&mut w.env(), 3, &r, IN, 7).unwrap();
    for i in 1..5 {
        all[i].add(&mut w.env(), 4, &descs[i - 1], IN, i as u64).unwrap();
    }
    assert_eq!(all[5].add(&mut w.env(), 4, &descs[4], IN, 0), Err(Errno::ELOOP));
    assert_eq!(all[0].add(&mut w.env(), 4, &descs[2], IN, 0), Err(Errno::ELOOP));
    assert_eq!(all[0].add(&mut w.env(), 4, &descs[0], IN, 0), Err(Errno::ELOOP));
    assert_eq!(got(&mut w, &all[4], 8), vec![]);
    write(&mut w, &wr, 1);
    assert_eq!(got(&mut w, &all[4], 8), vec![(IN, 4)]);
    assert_eq!(got(&mut w, &all[0], 8), vec![(IN, 7)]);
    read(&mut w, &r, 1);
    assert_eq!(got(&mut w, &all[4], 8), vec![]);
}
