//! What a recorded image is told of the CPU: the host's own answers without what differs from one
//! core or one moment to the next, and without the instructions that no door sees.

use ftl_abi::specials::CpuTable;
use std::arch::x86_64::__cpuid_count;

/// Highest subleaf that is asked of leaves that have some.
const SUBLEAVES: u32 = 8;

fn subleaves(leaf: u32) -> u32 {
    match leaf {
        2 | 4 | 7 | 0xb | 0xf | 0x10 | 0x12 | 0x14 | 0x17 | 0x18 | 0x1d | 0x1f | 0x8000_001d => SUBLEAVES,
        0xd => 20,
        _ => 1,
    }
}

/// The answers of this host, as an image sees them.
pub fn table() -> CpuTable {
    let mut rows = Vec::new();
    for base in [0u32, 0x8000_0000] {
        let max = __cpuid_count(base, 0).eax.min(base + 0x40);
        for leaf in base..=max {
            for sub in 0..subleaves(leaf) {
                let r = __cpuid_count(leaf, sub);
                let mut v = [r.eax, r.ebx, r.ecx, r.edx];
                shown(leaf, sub, &mut v);
                if sub == 0 || v != [0; 4] {
                    rows.push([leaf, sub, v[0], v[1], v[2], v[3]]);
                }
            }
        }
    }
    CpuTable(rows)
}

/// Changes an answer to what the image is told: one core, no APIC ids, no hardware random numbers, no
/// transactions (their aborts are timing), a time-stamp counter of 1 GHz.
fn shown(leaf: u32, sub: u32, v: &mut [u32; 4]) {
    let [a, b, c, d] = v;
    match leaf {
        1 => {
            *b = *b & 0xff00 | 1 << 16;
            *c &= !(1 << 3 | 1 << 15 | 1 << 18 | 1 << 24 | 1 << 30); // MONITOR, PDCM, DCA, TSC-deadline, RDRAND
            *d &= !(1 << 28); // HTT
        }
        4 | 0x8000_001d => *a &= 0x3fff,
        5 | 6 | 0xa => *v = [0; 4],
        7 if sub == 0 => {
            *b &= !(1 << 4 | 1 << 11 | 1 << 18); // HLE, RTM, RDSEED
            *c &= !(1 << 5 | 1 << 22); // WAITPKG, RDPID
            *d &= !(1 << 13 | 1 << 16); // RTM_FORCE_ABORT, TSXLDTRK
        }
        0xb | 0x1f => {
            *v = [
                0,
                u32::from(sub < 2),
                (sub & 0xff) | (((sub + 1) << 8) * u32::from(sub < 2)),
                0,
            ]
        }
        0xf | 0x10 | 0x12 | 0x14 => *v = [0; 4],
        0x15 => *v = [1, 1, 1_000_000_000, 0],
        0x16 => *v = [1000, 1000, 100, 0],
        0x8000_0001 => *c &= !(1 << 1 | 1 << 29), // CMP_LEGACY, MWAITX
        0x8000_0008 => *c = 0,
        0x8000_001e => *v = [0, 0, 0, 0],
        _ => {}
    }
}

/// Where features are told: leaf, subleaf, register, and the name that a user can look up.
const WORDS: [(u32, u32, usize, &str); 9] = [
    (1, 0, 2, "leaf 1 ECX"),
    (1, 0, 3, "leaf 1 EDX"),
    (7, 0, 1, "leaf 7 EBX"),
    (7, 0, 2, "leaf 7 ECX"),
    (7, 0, 3, "leaf 7 EDX"),
    (7, 1, 0, "leaf 7.1 EAX"),
    (0xd, 0, 0, "leaf 13 EAX (XCR0)"),
    (0x8000_0001, 0, 2, "leaf 0x80000001 ECX"),
    (0x8000_0001, 0, 3, "leaf 0x80000001 EDX"),
];

/// A feature that the recorded image may use and this CPU lacks.
pub fn lacking(recorded: &CpuTable) -> Option<String> {
    lacking_of(WORDS.map(|(leaf, sub, reg, _)| recorded.answer(leaf, sub)[reg]))
}

fn lacking_of(words: [u32; WORDS.len()]) -> Option<String> {
    let here = table();
    WORDS
        .iter()
        .zip(words)
        .find_map(|((leaf, sub, reg, name), word)| {
            let missing = word & !here.answer(*leaf, *sub)[*reg];
            (missing != 0).then(|| format!("CPUID {name} bit {}", missing.trailing_zeros()))
        })
}

/// Features and vector state of this CPU as a text, for a snapshot of a program that asks the CPU itself.
pub fn features() -> String {
    let here = table();
    let (len, xcr0) = crate::vcpu::xsave_facts();
    let words = WORDS.map(|(leaf, sub, reg, _)| format!("{:08x}", here.answer(leaf, sub)[reg]));
    format!("1 {len:x} {xcr0:x} {}", words.join(" "))
}

/// Why a snapshot that was taken on a CPU with these features cannot go on here.
pub fn unfit(features: &str) -> Option<String> {
    let numbers: Option<Vec<u64>> = features
        .split(' ')
        .map(|w| u64::from_str_radix(w, 16).ok())
        .collect();
    let unknown = || Some("it does not say for which CPU it is".to_string());
    let Some([1, len, xcr0, words @ ..]) = numbers.as_deref() else {
        return unknown();
    };
    let (here_len, here_xcr0) = crate::vcpu::xsave_facts();
    if (*len, *xcr0) != (here_len as u64, here_xcr0) {
        return Some(format!(
            "it was taken on a CPU with other vector state (XCR0 {xcr0:#x}, here {here_xcr0:#x})"
        ));
    }
    let words: Vec<u32> = words.iter().filter_map(|w| u32::try_from(*w).ok()).collect();
    let Ok(words) = <[u32; WORDS.len()]>::try_from(words) else {
        return unknown();
    };
    lacking_of(words).map(|what| format!("it was taken on a CPU with {what}, which this one has not"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tables_of_one_host_agree() {
        let (a, b) = (table(), table());
        assert_eq!(a, b);
        assert_eq!(lacking(&a), None);
        let rdrand = a.answer(1, 0)[2] >> 30 & 1;
        assert_eq!(rdrand, 0);
    }

    #[test]
    fn features_as_a_text_fit_this_cpu_and_no_lesser_one() {
        let text = features();
        assert_eq!(unfit(&text), None);
        let mut words: Vec<String> = text.split(' ').map(str::to_string).collect();
        words[3] = "ffffffff".into();
        let why = unfit(&words.join(" ")).unwrap_or_default();
        assert!(why.contains("leaf 1 ECX bit"), "{why}");
        words[2] = "1".into();
        assert!(unfit(&words.join(" ")).is_some_and(|w| w.contains("vector state")));
        for bad in ["", "2", "1 x", &text[..text.len() - 9], &format!("{text} 0")] {
            assert!(unfit(bad).is_some_and(|w| w.contains("for which CPU")), "{bad:?}");
        }
    }

    #[test]
    fn a_missing_feature_is_named() {
        let mut t = table();
        for r in &mut t.0 {
            if r[0] == 1 {
                r[4] |= 1 << 30;
            }
        }
        assert_eq!(lacking(&t).as_deref(), Some("CPUID leaf 1 ECX bit 30"));
    }
}
