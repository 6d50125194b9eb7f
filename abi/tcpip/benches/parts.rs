//! What packets cost in the image's own TCP/IP, both ends of a connection together: times by criterion, instructions
//! by `ci/bench-gate`.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

#[path = "../../../ci/parts.rs"]
mod harness;
#[path = "../tests/sim/mod.rs"]
mod sim;

use harness::Part;
use sim::{Link, MS, Sim};

/// A request and an answer of 100 bytes on a connection that is there.
fn request() -> Box<dyn FnMut()> {
    let mut s = Sim::new(1, Link::CLEAN, 0);
    let (a, b) = s.connected();
    let data = [b'x'; 100];
    Box::new(move || {
        for (from, of, to) in [(0, a, b), (1, b, a)] {
            assert_eq!(s.write(from, of, &data), data.len());
            let mut got = 0;
            let all = s.run_until(100 * MS, |s| {
                got += s.read(1 - from, to).len();
                got == data.len()
            });
            assert!(all);
        }
        s.events = Default::default();
    })
}

fn stream(offload: usize) -> Box<dyn FnMut()> {
    let mut s = Sim::new(1, Link::CLEAN, offload);
    let (a, b) = s.connected();
    let data = vec![b'x'; 64 << 10];
    Box::new(move || {
        let (mut sent, mut got) = (0, 0);
        let all = s.run_until(1000 * MS, |s| {
            sent += s.write(0, a, &data[sent..]);
            got += s.read(1, b).len();
            got == data.len()
        });
        assert!(all);
        s.events = Default::default();
    })
}

/// 64 KiB in packets of 1,500 bytes.
fn stream_packets() -> Box<dyn FnMut()> {
    stream(0)
}

/// 64 KiB that the device cuts into packets.
fn stream_offload() -> Box<dyn FnMut()> {
    stream(65_000)
}

/// A connection made.
fn connect() -> Box<dyn FnMut()> {
    Box::new(|| {
        Sim::new(1, Link::CLEAN, 0).connected();
    })
}

fn main() {
    harness::main(&[
        Part("tcp-request-answer", request),
        Part("tcp-64k", stream_packets),
        Part("tcp-64k-offload", stream_offload),
        Part("tcp-connect", connect),
    ]);
}
