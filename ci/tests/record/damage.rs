//! Logs that were cut off or changed: an error, never a crash or a hang.

use super::{Random, count, ftvm, replay, run};
use ftl_ci::place::Scratch;
use std::path::Path;

const HEADER: usize = 64;
const HEAD: usize = 32;

fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for b in parts.iter().flat_map(|p| p.iter()) {
        crc ^= u32::from(*b);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// Where frames begin in a plain segment, and how long their payloads are.
fn frames(log: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = HEADER;
    while let Some(len) = log.get(at + 4..at + 8) {
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
        found.push((at, len));
        at += HEAD + len;
    }
    found
}

/// Changes a byte inside a frame and makes its checksum fit again: what a hostile log would be.
fn forge(log: &mut [u8], random: &mut Random) {
    let list = frames(log);
    let (at, len) = list[random.below(list.len())];
    for _ in 0..=random.below(3) {
        let i = at + HEAD + random.below(len);
        log[i] = match random.below(3) {
            0 => log[i] ^ 1 << random.below(8),
            1 => 0xff,
            _ => random.next() as u8,
        };
    }
    let crc = crc32(&[&log[at..at + 8], &log[at + 12..at + HEAD + len]]);
    log[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
}

fn damage(log: &mut Vec<u8>, kind: usize, random: &mut Random) -> &'static str {
    match kind {
        0 => {
            log.truncate(random.below(log.len()));
            "cut off"
        }
        1 => {
            let i = random.below(log.len());
            log[i] ^= 1 << random.below(8);
            "one bit"
        }
        2 => {
            let (i, n) = (random.below(log.len()), random.below(200));
            let to = (i + n).min(log.len());
            log[i..to].fill_with(|| random.next() as u8);
            "a run of bytes"
        }
        _ => {
            forge(log, random);
            "forged"
        }
    }
}

const SCRIPT: &str =
    "trap 'echo term' TERM; for i in 1 2 3; do /bin/echo $i; done | cat; kill $$; date >/dev/null; ls /";

fn original(scratch: &Scratch, log: &Path, extra: &[&str]) -> Vec<u8> {
    let mut command = ftvm(scratch, &[&"record", &"-o", &log]);
    command.args(extra).args(["--", "bash", "-c", SCRIPT]);
    let recorded = run(command);
    assert_eq!(recorded.code, 0, "{}", recorded.tail());
    std::fs::read(log.join("000000.ftlog")).expect("a segment")
}

#[test]
fn damaged_logs_are_errors() {
    let mut random = Random::new("damage");
    let scratch = Scratch::new().expect("a directory");
    let plain = original(&scratch, &scratch.side().join("plain"), &["--no-compress"]);
    let packed = original(&scratch, &scratch.side().join("packed"), &[]);
    assert!(packed.len() < plain.len(), "the log is compressed by default");
    assert_eq!(
        frames(&plain).last().map(|(at, len)| at + HEAD + len),
        Some(plain.len())
    );
    let log = scratch.side().join("damaged");
    std::fs::create_dir(&log).expect("a directory");
    for i in 0..count("FTL_DAMAGES", 300, 60) {
        let kind = i % 5;
        let source = if kind < 3 && i % 2 == 0 { &packed } else { &plain };
        let mut bytes = source.clone();
        let what = damage(&mut bytes, kind, &mut random);
        std::fs::write(log.join("000000.ftlog"), &bytes).expect("written");
        let what = format!("trial {i}, {what} ({} bytes of {})", bytes.len(), source.len());
        let info = run(ftvm(&scratch, &[&"log", &"info", &log]));
        assert!(
            matches!(info.code, 0 | 3) && !info.timed_out,
            "{what}: log info: {}",
            info.tail()
        );
        let again = replay(&scratch, &log);
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        let good = matches!(again.code, 0 | 3 | 4) && !again.timed_out && !again.left_behind;
        if !(good && !said.contains("kernel panic") && !said.contains("kernel fault")) {
            let keep = std::env::temp_dir().join("ftvm-damaged.ftlog");
            let _ = std::fs::copy(log.join("000000.ftlog"), &keep);
            panic!(
                "{what}: code {}, kept in {}\n{}",
                again.code,
                keep.display(),
                again.tail()
            );
        }
        // Without a checksum that was made to fit, a log is never taken for the whole one.
        if kind < 3 && bytes != *source {
            assert!(
                again.code != 0 || said.contains("replayed up to there"),
                "{what}: {}",
                again.tail()
            );
        }
    }
}
