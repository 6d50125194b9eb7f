//! What a record, a predicted value, an output at the gate, a frame and a page of a snapshot cost: times by criterion,
//! instructions by `ci/bench-gate`.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

#[path = "../../ci/parts.rs"]
mod harness;

use ftl_core::door::{Input, Stamp};
use ftl_core::log::frame::Batch;
use ftl_core::log::{Coder, Record, next_frame, write_frame};
use ftl_core::platform::Handle;
use ftl_core::predict::{Last, Predictor, Step, Successor};
use ftl_core::replica::gate::{Mode, Pushed};
use ftl_core::replica::{Body, Class, Frame, Gate, Mark, Member, Time};
use ftl_core::snap::{Header, Manifest, Object, PAGE_LEN, Writer, is_zero};
use harness::Part;
use std::convert::Infallible;
use std::hint::black_box;

/// Sixteen connections in turn: a prediction of each kind, and learning it.
fn predictor() -> Box<dyn FnMut()> {
    let (mut last, mut step, mut after) = (Last::default(), Step::default(), Successor::default());
    let mut i = 0u64;
    Box::new(move || {
        i += 1;
        let key = i % 16;
        black_box((last.predict(key), step.predict(0), after.predict(0)));
        last.learn(key, 40 + key);
        step.learn(0, i * 3);
        after.learn(0, 20 + key);
    })
}

fn absorb(i: u64) -> Record {
    let stamp = Stamp {
        point: i,
        v: i * 1_000_000,
    };
    Record::Absorb {
        point: i,
        inputs: vec![(stamp, Input::Data(Handle(20 + i % 16), vec![b'x'; 40]))],
    }
}

/// One request of 40 bytes as a record, in frames of sixteen.
fn log_append() -> Box<dyn FnMut()> {
    let records: Vec<Record> = (1..=16).map(absorb).collect();
    let mut bytes = Vec::new();
    let mut out = Vec::new();
    Box::new(move || {
        let mut coder = Coder::default();
        bytes.clear();
        out.clear();
        for r in &records {
            coder.put(r, &mut bytes);
        }
        let batch = Batch {
            position: 7,
            count: records.len() as u32,
            horizon_e: 9,
            horizon_v: 10,
            bytes: bytes.clone(),
        };
        write_frame(42, 1, 0, &batch, &mut out);
        black_box(&out);
    })
}

/// The same frame, read and taken apart.
fn log_read() -> Box<dyn FnMut()> {
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    let mut coder = Coder::default();
    for i in 1..=16 {
        coder.put(&absorb(i), &mut bytes);
    }
    let batch = Batch {
        position: 7,
        count: 16,
        horizon_e: 9,
        horizon_v: 10,
        bytes,
    };
    write_frame(42, 1, 0, &batch, &mut out);
    Box::new(move || {
        let (batch, n) = next_frame(&out, 42).expect("a whole frame");
        let (mut coder, mut rest) = (Coder::default(), &batch.bytes[..]);
        for _ in 0..batch.count {
            black_box(coder.take(&mut rest)).expect("a record");
        }
        assert!(rest.is_empty() && n == out.len());
    })
}

/// A segment of 100 bytes held, acknowledged and released.
fn gate() -> Box<dyn FnMut()> {
    let mut g = Gate::new(1 << 20);
    let mut n = 0u64;
    Box::new(move || {
        n += 1;
        let need = Mark {
            position: n,
            at: Time {
                e: n * 10,
                v: n * 100,
            },
        };
        let class = Class::Tcp {
            key: Some((n % 16, n as u32)),
        };
        let pushed = g.push(n * 100, Mode::Gated, need, class, vec![0; 100]);
        assert_eq!(pushed, Pushed::Taken);
        assert!(g.pop(n * 100, Mode::Gated).is_none(), "not acknowledged");
        g.acked(need);
        black_box(g.pop(n * 100 + 50, Mode::Gated)).expect("acknowledged");
    })
}

fn records(bytes: Vec<u8>) -> Frame {
    Frame {
        image: 1,
        epoch: 2,
        session: 3,
        from: Member { node: 4, inc: 5 },
        position: 6,
        h: Time { e: 7, v: 8 },
        ack: 9,
        released: 10,
        body: Body::Records { count: 16, bytes },
    }
}

/// A frame of the link with 1,000 bytes of records, written.
fn frame_encode() -> Box<dyn FnMut()> {
    let frame = records(vec![7; 1000]);
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        frame.encode(&mut out);
        black_box(&out);
    })
}

/// The same frame, checked and read.
fn frame_decode() -> Box<dyn FnMut()> {
    let mut out = Vec::new();
    records(vec![7; 1000]).encode(&mut out);
    Box::new(move || {
        let (frame, n) = Frame::decode(black_box(&out)).expect("a whole frame");
        assert_eq!(n, out.len());
        black_box(frame);
    })
}

/// Sixteen pages, each other, half of a page random.
fn pages() -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let word = |i: usize| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if i.is_multiple_of(2) { x } else { 0 }.to_le_bytes()
    };
    (0..16 * PAGE_LEN / 8).flat_map(word).collect()
}

fn snapshot(compressed: bool) -> Box<dyn FnMut()> {
    let bytes = pages();
    Box::new(move || {
        let mut len = 0usize;
        let mut out = |b: &[u8]| -> Result<(), Infallible> {
            len += b.len();
            Ok(())
        };
        let header = Header {
            build: [1; 16],
            image: 0x1234,
            version: "0".into(),
            parent: None,
            compressed,
            lock: None,
            external: false,
            with_runtime: false,
            with_volumes: false,
        };
        let Ok(mut w) = Writer::begin(header, None, &mut out);
        let Ok(()) = w.pages(Object::Arena, 0, &bytes, &mut out);
        let Ok(root) = w.finish(Manifest::default(), &mut out);
        black_box((root, len));
    })
}

/// A snapshot of sixteen pages as they are.
fn snapshot_plain() -> Box<dyn FnMut()> {
    snapshot(false)
}

/// The same, compressed.
fn snapshot_packed() -> Box<dyn FnMut()> {
    snapshot(true)
}

/// The scan for zero pages: fifteen that are not at the front, and one that is.
fn snapshot_scan() -> Box<dyn FnMut()> {
    let mut bytes = pages();
    bytes[..PAGE_LEN].fill(0);
    Box::new(move || {
        let zero = bytes.chunks(PAGE_LEN).filter(|p| is_zero(p)).count();
        assert_eq!(black_box(zero), 1);
    })
}

fn main() {
    harness::main(&[
        Part("predictor", predictor),
        Part("log-append-16", log_append),
        Part("log-read-16", log_read),
        Part("gate", gate),
        Part("frame-encode", frame_encode),
        Part("frame-decode", frame_decode),
        Part("snapshot-16-pages", snapshot_plain),
        Part("snapshot-16-pages-packed", snapshot_packed),
        Part("snapshot-scan-16-pages", snapshot_scan),
    ]);
}
