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
    let mut found = Vec::new();
    for_each_reference(code, addr, lo, hi, |at, target| {
        if is_reference(&code[..at]) {
            found.push(target);
        }
    });
    with_short(window, site, found)
}

/// The same, where the whole text has been searched before; it begins at `start`.
pub fn find_in(window: &Window<'_>, refs: &References, start: u64, site: u64) -> Vec<u64> {
    let at = site.wrapping_sub(start) as usize;
    let found = refs.near(at).map(|t| start.wrapping_add(t as u64)).collect();
    with_short(window, site, found)
}

/// Adds the short branches that the decoded neighbourhood shows.
fn with_short(window: &Window<'_>, site: u64, mut targets: Vec<u64>) -> Vec<u64> {
    let lo = site.saturating_sub(SPAN);
    let hi = site.saturating_add(SPAN);
    targets.extend(
        window
            .short_targets()
            .into_iter()
            .filter(|t| (lo..hi).contains(t)),
    );
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// Whether the bytes before a 32-bit displacement are those of a branch or of a RIP-relative operand.
fn is_reference(before: &[u8]) -> bool {
    match before {
        [.., second, last] => ends_opcode(*second, *last),
        // No opcode of two bytes ends here.
        [last] => ends_opcode(0, *last),
        [] => false,
    }
}

/// The same, of the last two of them. Without branches, as it is asked of each byte of a text.
fn ends_opcode(second: u8, last: u8) -> bool {
    let near_branch = last & 0xfe == 0xe8;
    let conditional = (second == 0x0f) & (last & 0xf0 == 0x80);
    let xbegin = (second == 0xc7) & (last == 0xf8);
    let rip_relative = last & 0xc7 == 0x05;
    near_branch | conditional | xbegin | rip_relative
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

/// What the whole of a text refers to, found in one pass: worth it from the second site on.
#[derive(Debug, Clone)]
pub struct References {
    /// Length of the text.
    len: usize,
    /// A bit for each of its bytes.
    bits: Vec<u64>,
}

impl References {
    /// Bytes that two pieces given to [`scan`](Self::scan) must share: a displacement and the opcode before it, less one.
    pub const OVERLAP: usize = 5;

    /// Of a text of this length, of which nothing was seen.
    pub fn new(len: usize) -> References {
        References {
            len,
            bits: vec![0; len.div_ceil(64)],
        }
    }

    /// Notes what a piece of the text refers to that begins at this offset. Original bytes, please.
    pub fn scan(&mut self, offset: usize, piece: &[u8]) {
        /// Small enough for its flags to stay in the first-level cache.
        const BLOCK: usize = 4096;
        let mut is_last = [0u8; BLOCK];
        for start in (0..piece.len()).step_by(BLOCK) {
            let block = &piece[start..piece.len().min(start + BLOCK)];
            is_last[0] = u8::from(is_reference(&piece[..start + 1]));
            // Branch-free, so that the compiler can make vectors of it.
            for (is, (&second, &last)) in is_last[1..].iter_mut().zip(block.iter().zip(&block[1..])) {
                *is = u8::from(ends_opcode(second, last));
            }
            is_last[block.len()..].fill(0);
            for (w, eight) in is_last.as_chunks().0.iter().enumerate() {
                let mut eight = u64::from_le_bytes(*eight);
                while eight != 0 {
                    let last = start + w * 8 + eight.trailing_zeros() as usize / 8;
                    eight &= eight - 1;
                    self.note(offset, piece, last + 1);
                }
            }
        }
    }

    /// The target of the displacement in the four bytes at `at`.
    fn note(&mut self, offset: usize, piece: &[u8], at: usize) {
        let Some(word) = piece.get(at..at + 4) else { return };
        let target = (offset + at + 4) as i64 + i64::from(displacement(word) as i32);
        if let Ok(target) = usize::try_from(target)
            && target < self.len
        {
            self.bits[target / 64] |= 1 << (target % 64);
        }
    }

    /// Offsets near the site at this one that something refers to, ascending.
    pub(super) fn near(&self, site: usize) -> impl Iterator<Item = usize> {
        let span = SPAN as usize;
        let (lo, hi) = (site.saturating_sub(span), site.saturating_add(span).min(self.len));
        (lo..hi).filter(|t| self.bits[t / 64] >> (t % 64) & 1 != 0)
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
    fn one_pass_finds_what_each_search_finds() {
        let mut dice = 1u64;
        let mut roll = || {
            dice = dice
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (dice >> 33) as usize
        };
        let mut code: Vec<u8> = (0..20_000).map(|_| roll() as u8).collect();
        let addr = 0x5555_0000_0000u64;
        for _ in 0..2000 {
            // Near enough to the others that some meet.
            let (at, target) = (roll() % (code.len() - 6), roll() % code.len());
            let opcode: &[u8] = [&[0xe8][..], &[0x0f, 0x84], &[0x8d, 0x05]][roll() % 3];
            let end = at + opcode.len();
            if end + 4 > code.len() {
                continue;
            }
            code[at..end].copy_from_slice(opcode);
            let rel = (target as i64 - (end as i64 + 4)) as i32;
            code[end..end + 4].copy_from_slice(&rel.to_le_bytes());
        }
        for piece in [7, 64, 4096, 4101, 30_000] {
            let mut refs = References::new(code.len());
            for from in (0..code.len()).step_by(piece) {
                let to = code.len().min(from + piece + References::OVERLAP);
                refs.scan(from, &code[from..to]);
            }
            let mut met = 0;
            for site in (0..code.len()).step_by(37) {
                let (lo, hi) = (site.saturating_sub(SPAN as usize), site + SPAN as usize);
                let mut want = Vec::new();
                for_each_reference(&code, addr, addr + lo as u64, addr + hi as u64, |at, target| {
                    if is_reference(&code[..at]) && target < addr + code.len() as u64 {
                        want.push((target - addr) as usize);
                    }
                });
                want.sort_unstable();
                want.dedup();
                met += want.len();
                assert_eq!(refs.near(site).collect::<Vec<_>>(), want, "{site} by {piece}");
            }
            assert!(met > 1000, "{met}");
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
