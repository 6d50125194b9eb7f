//! What pipes, sockets and epoll cost without the system call around them: times by criterion, instructions by
//! `ci/bench-gate`. [`objects`](../objects.rs) has more sizes.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

#[path = "../../ci/parts.rs"]
mod harness;

use ftl_core::file::{File, FileRef};
use ftl_core::io::{Dst, Src};
use ftl_core::socket::{Ucred, num};
use ftl_core::testing::{BASE, World};
use ftl_ipc::epoll::{Description, Epoll};
use ftl_ipc::eventfd::EventFd;
use ftl_ipc::pipe::PipeEnd;
use ftl_ipc::unix::UnixSocket;
use harness::Part;
use std::hint::black_box;
use std::rc::Rc;

fn through(w: &mut World, to: &dyn File, from: &dyn File, n: u64) {
    assert_eq!(to.write(&mut w.env(), 0, &mut Src::user(BASE, n)).ok(), Some(n));
    assert_eq!(from.read(&mut w.env(), 0, &mut Dst::user(BASE, n)).ok(), Some(n));
}

/// One byte through a pipe.
fn pipe() -> Box<dyn FnMut()> {
    let mut w = World::new(1 << 16);
    let (r, wr) = PipeEnd::pair(&mut w.env(), 0, 0, 0);
    Box::new(move || through(&mut w, &*wr, &*r, 1))
}

/// 100 bytes through a UNIX socket.
fn unix() -> Box<dyn FnMut()> {
    let mut w = World::new(1 << 16);
    let (a, b) = UnixSocket::pair(&mut w.env(), num::SOCK_STREAM, Ucred::NONE);
    Box::new(move || through(&mut w, &*a, &*b, 100))
}

struct Open(FileRef);
impl Description for Open {
    fn file(&self) -> &FileRef {
        &self.0
    }
}

/// One of 1,000 descriptors becomes ready and is collected.
fn epoll() -> Box<dyn FnMut()> {
    let mut w = World::new(1 << 16);
    w.plat.mem[..8].copy_from_slice(&1u64.to_le_bytes());
    let ep = Epoll::new(&mut w.env());
    let all: Vec<(Rc<EventFd>, Rc<dyn Description>)> = (0..1000)
        .map(|i| {
            let f = EventFd::new(&mut w.env(), 0, false);
            let d: Rc<dyn Description> = Rc::new(Open(f.clone()));
            assert_eq!(ep.add(&mut w.env(), i, &d, 1, i as u64), Ok(()));
            (f, d)
        })
        .collect();
    Box::new(move || {
        let (hot, _) = &all[500];
        assert_eq!(hot.write(&mut w.env(), 0, &mut Src::user(BASE, 8)).ok(), Some(8));
        let n = ep.collect(&mut w.env(), 64, &mut |_, _, e, d| {
            black_box((e, d));
            Ok(())
        });
        assert_eq!(n, Ok(1));
        assert_eq!(hot.read(&mut w.env(), 0, &mut Dst::user(BASE, 8)).ok(), Some(8));
    })
}

fn main() {
    harness::main(&[
        Part("pipe", pipe),
        Part("unix-stream", unix),
        Part("epoll-1-of-1000", epoll),
    ]);
}
