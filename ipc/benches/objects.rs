#![allow(missing_docs, reason = "criterion_group makes a public function")]
//! Costs of the IPC objects themselves, without the system call around them:
//! `cargo bench -p ftl-ipc`.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ftl_core::file::{File, FileRef};
use ftl_core::io::{Dst, Src};
use ftl_core::socket::{Ucred, num};
use ftl_core::testing::{BASE, World};
use ftl_ipc::epoll::{Description, Epoll};
use ftl_ipc::eventfd::EventFd;
use ftl_ipc::pipe::PipeEnd;
use ftl_ipc::unix::UnixSocket;
use std::hint::black_box;
use std::rc::Rc;

fn write(w: &mut World, f: &dyn File, n: u64) {
    let r = f.write(&mut w.env(), 0, &mut Src::user(BASE, n));
    assert_eq!(r.ok(), Some(n));
}

fn read(w: &mut World, f: &dyn File, n: u64) {
    let r = f.read(&mut w.env(), 0, &mut Dst::user(BASE, n));
    assert_eq!(r.ok(), Some(n));
}

fn transfers(c: &mut Criterion) {
    let mut w = World::new(1 << 20);
    let (r, wr) = PipeEnd::pair(&mut w.env(), 0, 0, 0);
    let (a, b) = UnixSocket::pair(&mut w.env(), num::SOCK_STREAM, Ucred::NONE);
    let e = EventFd::new(&mut w.env(), 0, false);
    for n in [1, 4096, 65536] {
        c.bench_function(&format!("pipe write+read {n}"), |t| {
            t.iter(|| {
                write(&mut w, &*wr, n);
                read(&mut w, &*r, n);
            });
        });
        c.bench_function(&format!("unix stream write+read {n}"), |t| {
            t.iter(|| {
                write(&mut w, &*a, n);
                read(&mut w, &*b, n);
            });
        });
    }
    w.plat.mem[..8].copy_from_slice(&1u64.to_le_bytes());
    c.bench_function("eventfd write+read", |t| {
        t.iter(|| {
            write(&mut w, &*e, 8);
            read(&mut w, &*e, 8);
        });
    });
}

struct Open(FileRef);
impl Description for Open {
    fn file(&self) -> &FileRef {
        &self.0
    }
}

fn epoll(c: &mut Criterion) {
    let mut w = World::new(1 << 16);
    w.plat.mem[..8].copy_from_slice(&1u64.to_le_bytes());
    for idle in [0, 10_000] {
        let ep = Epoll::new(&mut w.env());
        let all: Vec<(Rc<EventFd>, Rc<dyn Description>)> = (0..=idle)
            .map(|i| {
                let f = EventFd::new(&mut w.env(), 0, false);
                let d: Rc<dyn Description> = Rc::new(Open(f.clone()));
                let added = ep.add(&mut w.env(), i, &d, 1, i as u64);
                assert_eq!(added, Ok(()));
                (f, d)
            })
            .collect();
        let (hot, _) = &all[all.len() / 2];
        c.bench_function(&format!("epoll: wake, collect, read, {idle} idle"), |t| {
            t.iter(|| {
                write(&mut w, &**hot, 8);
                let n = ep.collect(&mut w.env(), 64, &mut |_, _, e, d| {
                    black_box((e, d));
                    Ok(())
                });
                assert_eq!(n, Ok(1));
                read(&mut w, &**hot, 8);
            });
        });
        c.bench_function(&format!("epoll: add and delete, {idle} idle"), |t| {
            t.iter_batched(
                || {
                    let f: FileRef = EventFd::new(&mut w.env(), 0, false);
                    let d: Rc<dyn Description> = Rc::new(Open(f));
                    d
                },
                |d| {
                    let mut other = World::new(0);
                    assert_eq!(ep.add(&mut other.env(), -1, &d, 1, 0), Ok(()));
                    assert_eq!(ep.delete(-1, &d), Ok(()));
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, transfers, epoll);
criterion_main!(benches);
