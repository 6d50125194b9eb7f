//! Which addresses near a site something else refers to.
//!
//! A branch or RIP-relative operand with a 32-bit displacement is four bytes whose value plus their end's address is
//! the target. So every such reference in the window is found by adding, whatever the instruction boundaries are; that
//! also finds a few that do not exist, which costs a patch but never correctness.

use super::window::Window;

/// Addresses this far from the site matter: no plan is longer.
pub const SPAN: u64 = 64;

/// Sorted addresses within [`SPAN`] of the site that direct branches or RIP-relative operands refer to.
pub fn find(window: &Window<'_>, code: &[u8], addr: u64, site: u64) -> Vec<u64> {
    let lo = site.saturating_sub(SPAN);
    let hi = site.saturating_add(SPAN);
    let mut targets: Vec<u64> = window.short_targets();
    targets.retain(|target| (lo..hi).contains(target));
    for_each_reference(code, addr, lo, hi, |at, target| {
        if is_reference(&code[..at]) {
            targets.push(target);
        }
    });
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// Whether the bytes before a 32-bit displacement are those of a branch or of a RIP-relative operand.
fn is_reference(before: &[u8]) -> bool {
    let (last, second) = match before {
        [.., second, last] => (*last, Some(*second)),
        [last] => (*last, None),
        [] => return false,
    };
    let near_branch = matches!(last, 0xe8 | 0xe9);
    let conditional = second == Some(0x0f) && matches!(last, 0x80..=0x8f);
    let xbegin = second == Some(0xc7) && last == 0xf8;
    let rip_relative = last & 0xc7 == 0x05;
    near_branch || conditional || xbegin || rip_relative
}

/// Calls `found` with the offset and target of every four bytes that would, as a displacement, point into `lo..hi`.
/// Displacements are compared modulo 2^32, which is exact for windows below 2 GiB.
fn for_each_reference(code: &[u8], addr: u64, lo: u64, hi: u64, mut found: impl FnMut(usize, u64)) {
    /// Small enough to stay in the first-level cache for the four passes, one per alignment.
    const BLOCK: usize = 4096;
    let span = (hi - lo) as u32;
    // target - lo == rel + (addr + at + 4) - lo
    let bias = (addr as u32).wrapping_add(4).wrapping_sub(lo as u32);
    for start in (0..code.len()).step_by(BLOCK) {
        for phase in 0..4 {
            let from = start + phase;
            let Some(words) = code.get(from..code.len().min(from + BLOCK)) else {
                break;
            };
            // Branch-free, so that the compiler can make vectors of it.
            let mut distance_bias = (from as u32).wrapping_add(bias);
            let mut any = 0u32;
            for word in words.chunks_exact(4) {
                any |= u32::from(displacement(word).wrapping_add(distance_bias) < span);
                distance_bias = distance_bias.wrapping_add(4);
            }
            if any == 0 {
                continue;
            }
            for (at, word) in (from..).step_by(4).zip(words.chunks_exact(4)) {
                let distance = displacement(word).wrapping_add(at as u32).wrapping_add(bias);
                if distance < span {
                    found(at, lo + u64::from(distance));
                }
            }
        }
    }
}

fn displacement(word: &[u8]) -> u32 {
    u32::from_le_bytes([word[0], word[1], word[2], word[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_alignment() {
        for at in (0..300usize).chain(4080..4110).chain(9990..9996) {
            let mut code = vec![0xcc; 10_000];
            let addr = 0x5555_0000_0000u64;
            let target = addr + 200;
            let rel = target.wrapping_sub(addr + at as u64 + 4) as u32;
            code[at..at + 4].copy_from_slice(&rel.to_le_bytes());
            let mut hits = Vec::new();
            for_each_reference(&code, addr, target, target + 1, |at, target| {
                hits.push((at, target))
            });
            assert!(hits.contains(&(at, target)), "{at}: {hits:?}");
        }
    }

    #[test]
    fn tells_references_by_what_precedes() {
        for bytes in [
            &[0xe8u8][..],
            &[0xe9],
            &[0x0f, 0x84],
            &[0x48, 0x8d, 0x05],
            &[0xff, 0x25],
            &[0xc7, 0xf8],
        ] {
            assert!(is_reference(bytes), "{bytes:x?}");
        }
        for bytes in [&[][..], &[0x84], &[0x48, 0xc7, 0xc0], &[0xb8]] {
            assert!(!is_reference(bytes), "{bytes:x?}");
        }
    }
}
