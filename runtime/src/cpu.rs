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

/// A feature that the recorded image may use and this CPU lacks.
pub fn lacking(recorded: &CpuTable) -> Option<String> {
    let here = table();
    // Leaf, subleaf, register, and the name that a user can look up.
    let words = [
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
    words.into_iter().find_map(|(leaf, sub, reg, name)| {
        let missing = recorded.answer(leaf, sub)[reg] & !here.answer(leaf, sub)[reg];
        (missing != 0).then(|| format!("CPUID {name} bit {}", missing.trailing_zeros()))
    })
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
