//! Hostile input: images, layers, archives and files of configuration with bits flipped, bytes overwritten, parts doubled and ends
//! cut off. The properties are those of the fuzz targets.

#[path = "../fuzz/src/check.rs"]
mod check;
#[path = "../fuzz/src/seeds.rs"]
mod seeds;

use proptest::collection::vec;
use proptest::prelude::*;

/// A change to some bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Byte(usize, u8),
    Text(usize, &'static str),
    Cut(usize),
    Double(usize, usize),
    Remove(usize, usize),
}

/// What formats are made of.
const TEXTS: &[&str] = &[
    "0",
    "-1",
    "18446744073709551615",
    "1e9",
    "null",
    "[]",
    "{}",
    "\"\"",
    "\u{1b}[2J",
    "\n",
    "\0",
    "..",
    "/",
    "../../x",
    "sha256:",
    "DIGEST",
    "SIZE",
    "oci",
    "ustar",
    "00000000000",
    "77777777777",
    "\\n",
    "\\u001b",
    "[[x]]\n",
    "a.b = 1\n",
];

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    prop_oneof![
        (at(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (at(), 0..TEXTS.len()).prop_map(|(at, n)| Damage::Text(at, TEXTS[n])),
        at().prop_map(Damage::Cut),
        (at(), 1..600usize).prop_map(|(at, len)| Damage::Double(at, len)),
        (at(), 1..100usize).prop_map(|(at, len)| Damage::Remove(at, len)),
    ]
}

fn damaged(seed: &[u8], all: &[Damage]) -> Vec<u8> {
    let mut out = seed.to_vec();
    for d in all {
        let place = |at: usize| at % out.len().max(1);
        match *d {
            _ if out.is_empty() => {}
            Damage::Flip(at, bit) => {
                let at = place(at);
                out[at] ^= 1 << bit;
            }
            Damage::Byte(at, byte) => {
                let at = place(at);
                out[at] = byte;
            }
            Damage::Text(at, text) => {
                let at = place(at);
                let end = (at + text.len()).min(out.len());
                out.splice(at..end, text.bytes());
            }
            Damage::Cut(at) => out.truncate(at % out.len()),
            Damage::Double(at, len) => {
                let at = place(at);
                let part = out[at..(at + len).min(out.len())].to_vec();
                out.splice(at..at, part);
            }
            Damage::Remove(at, len) => {
                let at = place(at);
                let end = (at + len).min(out.len());
                out.drain(at..end);
            }
        }
    }
    out
}

/// The header of each entry gets its checksum again: else nearly all damage is found there.
fn summed(mut tar: Vec<u8>) -> Vec<u8> {
    for head in tar.as_chunks_mut::<512>().0 {
        if &head[257..262] == b"ustar" {
            head[148..156].fill(b' ');
            let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
            head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    tar
}

proptest! {
    // PROPTEST_CASES=20000 for longer.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layers(all in vec(damage(), 0..6), kind in 0u8..3) {
        let tar = summed(damaged(&seeds::tar(), &all));
        let packed = match kind {
            0 => tar,
            1 => {
                use std::io::Write;
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(&tar).expect("in memory");
                out.finish().expect("in memory")
            }
            _ => zstd::encode_all(&tar[..], 1).expect("in memory"),
        };
        check::layer(&[&[kind], &packed[..]].concat());
    }

    #[test]
    fn images(all in vec(damage(), 0..6)) {
        check::image(&damaged(&seeds::image(), &all));
    }

    #[test]
    fn archives(all in vec(damage(), 0..6)) {
        check::archive(&summed(damaged(&seeds::file(), &all)));
    }

    #[test]
    fn configurations(all in vec(damage(), 0..6)) {
        check::config(&damaged(seeds::CONFIG.as_bytes(), &all));
    }

    #[test]
    fn any_bytes(data in vec(any::<u8>(), 0..2000)) {
        check::layer(&data);
        check::image(&data);
        check::archive(&data);
        check::config(&data);
    }
}
