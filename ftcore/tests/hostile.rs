//! The properties of `fuzz/src/check.rs` and `link.rs` over mutations of a good log and of a good session, without a fuzzer: the same on
//! every run.

#[path = "../fuzz/src/check.rs"]
mod check;
#[path = "../fuzz/src/link.rs"]
mod link;

use ftl_core::door::{Input, Stamp};
use ftl_core::log::block::write_block;
use ftl_core::log::frame::{Batch, Coding, FORMAT, Header, write_frame};
use ftl_core::log::{Coder, Record};
use ftl_core::platform::Handle;
use ftl_core::replica::pages::{self, Run};
use ftl_core::replica::{Body, Class, Frame, Mark, Marks, Member, Output, Time};
use ftl_core::snap::Object;

fn sample_records() -> Vec<Record> {
    let stamp = |point, v| Stamp { point, v };
    vec![
        Record::Start(vec![7; 90]),
        Record::Clock {
            e: 3,
            v: Some(1_000_000),
        },
        Record::Clock { e: 9, v: None },
        Record::Absorb {
            point: 4,
            inputs: vec![
                (
                    stamp(4, 1_000_100),
                    Input::Data(Handle(17), b"GET / HTTP/1.1".to_vec()),
                ),
                (stamp(3, 1_000_200), Input::Signal(15)),
                (
                    stamp(4, 1_000_250),
                    Input::Exec(Box::new(ftl_core::door::ExecOrder {
                        argv: vec![b"sh".to_vec(), b"-c".to_vec()],
                        tty: Some([24, 80, 0, 0]),
                        groups: Some(vec![4, 5]),
                        ..Default::default()
                    })),
                ),
                (
                    stamp(4, 1_000_300),
                    Input::Accepted {
                        listener: Handle(16),
                        conn: Handle(18),
                        peer: vec![2; 16],
                        local: Vec::new(),
                    },
                ),
                (
                    stamp(4, 1_000_400),
                    Input::Datagram(Handle(3), vec![2; 16], vec![9; 30], true),
                ),
            ],
        },
        Record::Answer {
            n: 12,
            kind: 5,
            bytes: vec![1, 2, 3],
        },
        Record::Cut {
            e: 40,
            bytes: vec![0; 300],
        },
        Record::Check { n: 2, hash: u64::MAX },
        Record::Stats(vec![1; 20]),
        Record::End(256),
    ]
}

fn payload() -> Vec<u8> {
    let (mut coder, mut bytes) = (Coder::default(), Vec::new());
    for r in sample_records() {
        coder.put(&r, &mut bytes);
    }
    bytes
}

fn segment(coding: Coding) -> Vec<u8> {
    let header = Header {
        format: FORMAT,
        coding,
        build: [3; 16],
        image: 42,
    };
    let mut out = header.to_bytes().to_vec();
    for i in 0..3 {
        let batch = Batch {
            position: i * 9,
            count: 9,
            horizon_e: 0,
            horizon_v: 0,
            bytes: payload(),
        };
        match coding {
            Coding::Plain => write_frame(42, 0, 0, &batch, &mut out),
            Coding::Zstd => write_block(500, &batch.bytes, &mut out),
        }
    }
    out
}

/// splitmix64: the same mutations on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let (i, n) = (self.below(bytes.len()), self.below(12));
            let to = (i + n).min(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(i),
                1 => bytes[i..to].fill(0xff),
                2 => bytes[i..to].fill(0),
                3 => drop(bytes.drain(i..to)),
                4 => {
                    let copy = bytes[i..to].to_vec();
                    let at = self.below(bytes.len());
                    bytes.splice(at..at, copy);
                }
                _ => {
                    if let Some(b) = bytes.get_mut(i) {
                        *b ^= 1 << self.below(8);
                    }
                }
            }
            if bytes.is_empty() {
                return;
            }
        }
    }
}

#[test]
fn mutated_payloads_never_break_the_decoder() {
    let good = payload();
    check::records(&good);
    let mut random = Random(1);
    for _ in 0..30_000 {
        let mut bytes = good.clone();
        random.mutate(&mut bytes);
        check::records(&bytes);
    }
}

#[test]
fn mutated_segments_never_break_the_reader() {
    let mut random = Random(2);
    for coding in [Coding::Plain, Coding::Zstd] {
        let good = segment(coding);
        check::log(&good);
        for _ in 0..10_000 {
            let mut bytes = good.clone();
            random.mutate(&mut bytes);
            check::log(&bytes);
        }
    }
}

/// A step of [`link::machines`]: a frame with this kind, these numbers (position, horizon, ack, released) and this body.
fn told(kind: u8, numbers: [u8; 5], body: &[u8]) -> Vec<u8> {
    let mut out = vec![0, kind, 0];
    out.extend(numbers);
    out.push(body.len() as u8);
    out.extend(body);
    out
}

/// A primary that greets, sends a snapshot and records, and falls silent: its backup takes over.
fn takeover() -> Vec<u8> {
    let batch = Batch {
        position: 0,
        count: 9,
        bytes: payload()[..80].to_vec(),
        ..Batch::default()
    };
    let mut records = 9u32.to_le_bytes().to_vec();
    write_frame(1, 0, 0, &batch, &mut records);
    let mut run = Vec::new();
    pages::put(Object::Space(3), 5, &Run::Gone(2), &mut run);
    let chunk: Vec<u8> = [1, 0].into_iter().chain(run).collect();
    let parts = [
        vec![0],
        told(2, [0; 5], &[1, 0, 0]),
        told(4, [0; 5], &[1, 0]),
        told(5, [0; 5], &chunk),
        told(6, [0; 5], &[1, 1, 0, 0, 0, 0, 0, 0, 9]),
        told(3, [0, 7, 7, 0, 0], &records),
        // Drained; 150 ms pass, ten times.
        vec![4],
        vec![0xf6; 10],
    ];
    parts.concat()
}

/// A backup that greets and acknowledges what it is sent.
fn protected() -> Vec<u8> {
    let hello: Vec<u8> = [1, 0, 1, 0].into_iter().chain([0; 16]).collect();
    let ack = |position| told(7, [position, 0, 0, 1, 0], &[0]);
    [
        vec![1],
        told(1, [0; 5], &hello),
        ack(0),
        // A record, an output, a tick.
        vec![6, 5, 4],
        ack(1),
        told(8, [0; 5], &[]),
    ]
    .concat()
}

#[test]
fn a_peer_that_lies_never_breaks_a_machine() {
    let mut random = Random(3);
    for good in [takeover(), protected()] {
        assert!(link::machines(&good), "the good session comes to its end");
        let mut survived = 0;
        for _ in 0..20_000 {
            let mut script = good.clone();
            random.mutate(&mut script);
            survived += u32::from(link::machines(&script));
        }
        // Not everything is refused at the door.
        assert!(survived > 1000, "{survived} of 20000");
    }
    for _ in 0..20_000 {
        let script: Vec<u8> = (0..random.below(300)).map(|_| random.below(256) as u8).collect();
        link::machines(&script);
    }
}

#[test]
fn mutated_frames_never_break_the_decoder() {
    let member = Member { node: 1, inc: 7 };
    let output = Output {
        number: 5,
        class: Class::Stream { stream: 1 },
        offset: 18,
        again: false,
        bytes: vec![1, 2],
    };
    let bodies = [
        Body::Hello {
            min_version: 1,
            max_version: 1,
            build: [3; 16],
        },
        Body::BaseEnd {
            snap: 1,
            chunks: 1,
            mark: Mark::default(),
            marks: Marks {
                outputs: 5,
                streams: vec![(1, 20)],
                held: vec![output],
            },
            manifest: vec![7; 20],
        },
        Body::Status {
            text: "slow".to_owned(),
        },
    ];
    let mut good = Vec::new();
    for body in bodies {
        let frame = Frame {
            image: 1,
            epoch: 2,
            session: 3,
            from: member,
            position: 4,
            h: Time { e: 5, v: 6 },
            ack: 7,
            released: 8,
            body,
        };
        frame.encode(&mut good);
    }
    let mut pages = Vec::new();
    pages::put(Object::Arena, 1, &Run::Data(&[7; 8192]), &mut pages);
    pages::put(Object::Space(9), 5, &Run::Gone(3), &mut pages);
    pages::put(Object::Store, 0, &Run::Data(&[1; 4096]), &mut pages);
    let mut random = Random(4);
    for good in [good, pages] {
        link::frames(&good);
        for _ in 0..10_000 {
            let mut bytes = good.clone();
            random.mutate(&mut bytes);
            link::frames(&bytes);
        }
    }
}

#[test]
fn lengths_that_promise_too_much_are_refused() {
    // A list, an input count, a byte string: each says 2^63 elements and has none.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for kind in 0..=8u8 {
        for skip in 0..3 {
            let mut bytes = vec![kind];
            bytes.extend(std::iter::repeat_n(1, skip));
            bytes.extend(huge);
            check::records(&bytes);
        }
    }
}
