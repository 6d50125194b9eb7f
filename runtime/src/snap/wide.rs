//! BLAKE3 of pages, several at a time, and of files.
//!
//! A page is four chunks, too few to fill a CPU's widest registers, and the `blake3` crate is built without AVX: the entry path
//! saves no vector register above xmm, so nothing that a vCPU runs may touch them (`ci/check-vectors`). Whoever hashes all pages of
//! an image has no guest state: a thread of the supervisor, a command line, a process before the image is in it. Here four pages go
//! through AVX-512 at once, or two through AVX2; one chunk is one lane. The rest goes the crate's way, and the hashes are the same.
//!
//! **Never to be called while a guest's vector state is live**, unless that is kept meanwhile ([`Keeper`](crate::link::vectors::Keeper)).

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use ftl_core::snap::{Hash, PAGE_LEN};
use std::arch::x86_64::*;

/// Bytes of a chunk: a page has four.
const CHUNK: usize = 1024;
const BLOCK: usize = 64;
const CHUNK_START: i32 = 1;
const CHUNK_END: i32 = 2;
const PARENT: i32 = 4;
const ROOT: i32 = 8;
/// SHA-256's, as BLAKE3 has it.
const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The hash of each page, in order.
///
/// Not in a guest's process once the image is in it, unless its upper vector state is kept meanwhile (`link::vectors`).
///
/// # Panics
/// If there are not as many places for hashes as pages.
pub fn pages(pages: &[[u8; PAGE_LEN]], hashes: &mut [Hash]) {
    assert_eq!(pages.len(), hashes.len(), "a place for each hash");
    let (mut pages, mut hashes) = (pages, hashes);
    if is_x86_feature_detected!("avx512f") {
        let (now, later) = pages.as_chunks();
        let (out, rest) = hashes.as_chunks_mut();
        for (four, out) in now.iter().zip(out) {
            // SAFETY: the CPU and the host's kernel have what the function uses.
            unsafe { avx512::hash(four, out) };
        }
        (pages, hashes) = (later, rest);
    }
    if is_x86_feature_detected!("avx2") {
        let (now, later) = pages.as_chunks();
        let (out, rest) = hashes.as_chunks_mut();
        for (two, out) in now.iter().zip(out) {
            // SAFETY: as above.
            unsafe { avx2::hash(two, out) };
        }
        (pages, hashes) = (later, rest);
    }
    ftl_core::snap::hash_pages(pages, hashes);
}

/// One step of a round: words of the state by number, and two of the message.
macro_rules! g {
    ($v:ident, $m:ident, $a:literal $b:literal $c:literal $d:literal, $x:literal $y:literal) => {
        $v[$a] = add(add($v[$a], $v[$b]), $m[$x]);
        $v[$d] = right_16(xor($v[$d], $v[$a]));
        $v[$c] = add($v[$c], $v[$d]);
        $v[$b] = right_12(xor($v[$b], $v[$c]));
        $v[$a] = add(add($v[$a], $v[$b]), $m[$y]);
        $v[$d] = right_8(xor($v[$d], $v[$a]));
        $v[$c] = add($v[$c], $v[$d]);
        $v[$b] = right_7(xor($v[$b], $v[$c]));
    };
}

macro_rules! round {
    ($v:ident, $m:ident, $a:literal $b:literal $c:literal $d:literal $e:literal $f:literal $g:literal $h:literal
        $i:literal $j:literal $k:literal $l:literal $n:literal $o:literal $p:literal $q:literal) => {
        g!($v, $m, 0 4 8 12, $a $b);
        g!($v, $m, 1 5 9 13, $c $d);
        g!($v, $m, 2 6 10 14, $e $f);
        g!($v, $m, 3 7 11 15, $g $h);
        g!($v, $m, 0 5 10 15, $i $j);
        g!($v, $m, 1 6 11 12, $k $l);
        g!($v, $m, 2 7 8 13, $n $o);
        g!($v, $m, 3 4 9 14, $p $q);
    };
}

/// What is the same for both widths: `V` is a vector of `LANES` words, each of another chunk.
macro_rules! lanes {
    ($feature:literal) => {
        const PAGES: usize = LANES / 4;

        /// The compression function of all lanes.
        #[inline]
        #[target_feature(enable = $feature)]
        fn compress(cv: &mut [V; 8], m: &[V; 16], (low, high): (V, V), flags: i32) {
            let iv = |n: usize| splat(IV[n] as i32);
            let mut v = [
                cv[0],
                cv[1],
                cv[2],
                cv[3],
                cv[4],
                cv[5],
                cv[6],
                cv[7],
                iv(0),
                iv(1),
                iv(2),
                iv(3),
                low,
                high,
                splat(BLOCK as i32),
                splat(flags),
            ];
            round!(v, m, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            round!(v, m, 2 6 3 10 7 0 4 13 1 11 12 5 9 14 15 8);
            round!(v, m, 3 4 10 12 13 2 7 14 6 5 9 0 11 15 8 1);
            round!(v, m, 10 7 12 9 14 3 13 15 4 0 11 2 5 8 1 6);
            round!(v, m, 12 13 9 11 15 10 14 8 7 2 5 3 0 1 6 4);
            round!(v, m, 9 14 11 5 8 12 15 1 13 3 0 10 2 6 4 7);
            round!(v, m, 11 15 5 0 1 9 8 6 14 10 2 12 3 4 7 13);
            for i in 0..8 {
                cv[i] = xor(v[i], v[i + 8]);
            }
        }

        /// One level up: neighbouring lanes become one, the first lanes hold them.
        #[inline]
        #[target_feature(enable = $feature)]
        fn up(cv: &mut [V; 8], flags: i32) {
            let mut m = [splat(0); 16];
            for i in 0..8 {
                m[i] = even(cv[i]);
                m[8 + i] = odd(cv[i]);
            }
            *cv = IV.map(|w| splat(w as i32));
            compress(cv, &m, (splat(0), splat(0)), flags);
        }

        /// Chunks with these numbers, one behind the other.
        #[inline]
        #[target_feature(enable = $feature)]
        fn chunks(bytes: &[u8], number: (V, V)) -> [V; 8] {
            let mut cv = IV.map(|w| splat(w as i32));
            for block in 0..CHUNK / BLOCK {
                let flags = match block {
                    0 => CHUNK_START,
                    _ if block == CHUNK / BLOCK - 1 => CHUNK_END,
                    _ => 0,
                };
                compress(&mut cv, &message(bytes, block * BLOCK), number, flags);
            }
            cv
        }

        /// What all chunks of a group are together, the first of which has this number in its file: the file has more than them.
        #[target_feature(enable = $feature)]
        pub fn group(bytes: &[u8; LANES * CHUNK], first: u64) -> Hash {
            // A multiple of the group's length, so no sum has a carry.
            let number = (add(splat(first as i32), lanes()), splat((first >> 32) as i32));
            let mut cv = chunks(bytes, number);
            for _ in 0..LANES.ilog2() {
                up(&mut cv, PARENT);
            }
            let mut hash = Hash::default();
            for (to, words) in hash.chunks_exact_mut(4).zip(cv) {
                let words: [u32; LANES] = to_words(words);
                to.copy_from_slice(&words[0].to_le_bytes());
            }
            hash
        }

        #[target_feature(enable = $feature)]
        pub fn hash(pages: &[[u8; PAGE_LEN]; PAGES], hashes: &mut [Hash; PAGES]) {
            let mut cv = chunks(pages.as_flattened(), (numbers(), splat(0)));
            up(&mut cv, PARENT);
            up(&mut cv, PARENT | ROOT);
            for (i, words) in cv.into_iter().enumerate() {
                let words: [u32; LANES] = to_words(words);
                for (hash, word) in hashes.iter_mut().zip(words) {
                    hash[4 * i..4 * i + 4].copy_from_slice(&word.to_le_bytes());
                }
            }
        }
    };
}

/// The hash of bytes that come one after the other, as [`blake3::Hasher`] has it.
pub struct Hasher {
    width: Width,
    /// What is not hashed yet: of the end of a file all must be left, so this may be a whole group.
    rest: Vec<u8>,
    /// Groups that are.
    groups: u64,
    /// Of the groups so far: one for each bit of their number, the largest first.
    trees: Vec<Hash>,
}

/// How much is hashed at once.
enum Width {
    Sixteen,
    Eight,
    /// As the crate does it.
    Usual(Box<blake3::Hasher>),
}

impl Hasher {
    /// Of nothing so far.
    pub fn new() -> Hasher {
        Self::with(if is_x86_feature_detected!("avx512f") {
            Width::Sixteen
        } else if is_x86_feature_detected!("avx2") {
            Width::Eight
        } else {
            Width::Usual(Box::new(blake3::Hasher::new()))
        })
    }

    fn with(width: Width) -> Hasher {
        Hasher {
            width,
            rest: Vec::new(),
            groups: 0,
            trees: Vec::new(),
        }
    }

    /// Bytes of a group.
    fn group_len(&self) -> usize {
        match self.width {
            Width::Sixteen => 16 * CHUNK,
            _ => 8 * CHUNK,
        }
    }

    /// Appends.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Width::Usual(hasher) = &mut self.width {
            hasher.update(bytes);
            return;
        }
        let len = self.group_len();
        let mut bytes = bytes;
        while !bytes.is_empty() {
            if self.rest.len() == len {
                let group = std::mem::take(&mut self.rest);
                self.group(&group);
                self.rest = group;
                self.rest.clear();
            }
            while self.rest.is_empty() && bytes.len() > len {
                let (now, later) = bytes.split_at(len);
                self.group(now);
                bytes = later;
            }
            let (now, later) = bytes.split_at(bytes.len().min(len - self.rest.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
        }
    }

    /// A whole group, behind which there is more.
    fn group(&mut self, bytes: &[u8]) {
        let first = self.groups * (bytes.len() / CHUNK) as u64;
        let mut tree = match self.width {
            Width::Sixteen => {
                let Some(bytes) = bytes.first_chunk() else { return };
                // SAFETY: `new` has asked whether the CPU and the host's kernel have what the function uses.
                unsafe { avx512::group(bytes, first) }
            }
            _ => {
                let Some(bytes) = bytes.first_chunk() else { return };
                // SAFETY: as above.
                unsafe { avx2::group(bytes, first) }
            }
        };
        self.groups += 1;
        for _ in 0..self.groups.trailing_zeros() {
            if let Some(left) = self.trees.pop() {
                tree = merge_subtrees_non_root(&left, &tree, Mode::Hash);
            }
        }
        self.trees.push(tree);
    }

    /// The hash.
    pub fn finish(mut self) -> Hash {
        if let Width::Usual(hasher) = self.width {
            return *hasher.finalize().as_bytes();
        }
        let Some(largest) = self.trees.first().copied() else {
            return *blake3::hash(&self.rest).as_bytes();
        };
        let mut last = blake3::Hasher::new();
        last.set_input_offset(self.groups * self.group_len() as u64);
        let mut right = last.update(&self.rest).finalize_non_root();
        while self.trees.len() > 1 {
            if let Some(left) = self.trees.pop() {
                right = merge_subtrees_non_root(&left, &right, Mode::Hash);
            }
        }
        *merge_subtrees_root(&largest, &right, Mode::Hash).as_bytes()
    }
}

/// Four pages in sixteen lanes.
mod avx512 {
    use super::*;

    pub const LANES: usize = 16;
    type V = __m512i;

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn splat(x: i32) -> V {
        _mm512_set1_epi32(x)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add(a: V, b: V) -> V {
        _mm512_add_epi32(a, b)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn xor(a: V, b: V) -> V {
        _mm512_xor_si512(a, b)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn right_16(a: V) -> V {
        _mm512_ror_epi32::<16>(a)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn right_12(a: V) -> V {
        _mm512_ror_epi32::<12>(a)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn right_8(a: V) -> V {
        _mm512_ror_epi32::<8>(a)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn right_7(a: V) -> V {
        _mm512_ror_epi32::<7>(a)
    }
    /// Numbers of the chunks in their pages.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn numbers() -> V {
        _mm512_set4_epi32(3, 2, 1, 0)
    }
    /// Numbers of the lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn lanes() -> V {
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn even(a: V) -> V {
        let of = _mm512_set_epi32(14, 12, 10, 8, 6, 4, 2, 0, 14, 12, 10, 8, 6, 4, 2, 0);
        _mm512_permutexvar_epi32(of, a)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn odd(a: V) -> V {
        let of = _mm512_set_epi32(15, 13, 11, 9, 7, 5, 3, 1, 15, 13, 11, 9, 7, 5, 3, 1);
        _mm512_permutexvar_epi32(of, a)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn to_words(a: V) -> [u32; LANES] {
        // SAFETY: both are 64 bytes, of which each pattern is a value.
        unsafe { std::mem::transmute(a) }
    }

    /// Word n of the block at this offset of every chunk.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn message(bytes: &[u8], at: usize) -> [V; 16] {
        let mut by_row = [splat(0); 16];
        for (lane, row) in by_row.iter_mut().enumerate() {
            let from = &bytes[lane * CHUNK + at..][..BLOCK];
            // SAFETY: a block's bytes are there.
            *row = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
        }
        // Of four rows each: word k of every four words, by the fours.
        let mut by_four = [[splat(0); 4]; 4];
        for (i, four) in by_four.iter_mut().enumerate() {
            let r = &by_row[4 * i..4 * i + 4];
            let (a, b) = (
                _mm512_unpacklo_epi32(r[0], r[1]),
                _mm512_unpackhi_epi32(r[0], r[1]),
            );
            let (c, d) = (
                _mm512_unpacklo_epi32(r[2], r[3]),
                _mm512_unpackhi_epi32(r[2], r[3]),
            );
            *four = [
                _mm512_unpacklo_epi64(a, c),
                _mm512_unpackhi_epi64(a, c),
                _mm512_unpacklo_epi64(b, d),
                _mm512_unpackhi_epi64(b, d),
            ];
        }
        let mut m = [splat(0); 16];
        for k in 0..4 {
            let [w, x, y, z] = [by_four[0][k], by_four[1][k], by_four[2][k], by_four[3][k]];
            let (a, b) = (
                _mm512_shuffle_i32x4::<0x44>(w, x),
                _mm512_shuffle_i32x4::<0xee>(w, x),
            );
            let (c, d) = (
                _mm512_shuffle_i32x4::<0x44>(y, z),
                _mm512_shuffle_i32x4::<0xee>(y, z),
            );
            m[k] = _mm512_shuffle_i32x4::<0x88>(a, c);
            m[4 + k] = _mm512_shuffle_i32x4::<0xdd>(a, c);
            m[8 + k] = _mm512_shuffle_i32x4::<0x88>(b, d);
            m[12 + k] = _mm512_shuffle_i32x4::<0xdd>(b, d);
        }
        m
    }

    lanes!("avx512f");
}

/// Two pages in eight lanes.
mod avx2 {
    use super::*;

    pub const LANES: usize = 8;
    type V = __m256i;

    #[inline]
    #[target_feature(enable = "avx2")]
    fn splat(x: i32) -> V {
        _mm256_set1_epi32(x)
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(a: V, b: V) -> V {
        _mm256_add_epi32(a, b)
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn xor(a: V, b: V) -> V {
        _mm256_xor_si256(a, b)
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn right_16(a: V) -> V {
        let of = _mm256_set_epi8(
            13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2, 13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6,
            1, 0, 3, 2,
        );
        _mm256_shuffle_epi8(a, of)
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn right_12(a: V) -> V {
        _mm256_or_si256(_mm256_srli_epi32::<12>(a), _mm256_slli_epi32::<20>(a))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn right_8(a: V) -> V {
        let of = _mm256_set_epi8(
            12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1, 12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5,
            0, 3, 2, 1,
        );
        _mm256_shuffle_epi8(a, of)
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn right_7(a: V) -> V {
        _mm256_or_si256(_mm256_srli_epi32::<7>(a), _mm256_slli_epi32::<25>(a))
    }
    /// Numbers of the chunks in their pages.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn numbers() -> V {
        _mm256_set_epi32(3, 2, 1, 0, 3, 2, 1, 0)
    }
    /// Numbers of the lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn lanes() -> V {
        _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0)
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn even(a: V) -> V {
        _mm256_permutevar8x32_epi32(a, _mm256_set_epi32(6, 4, 2, 0, 6, 4, 2, 0))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn odd(a: V) -> V {
        _mm256_permutevar8x32_epi32(a, _mm256_set_epi32(7, 5, 3, 1, 7, 5, 3, 1))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn to_words(a: V) -> [u32; LANES] {
        // SAFETY: both are 32 bytes, of which each pattern is a value.
        unsafe { std::mem::transmute(a) }
    }

    /// Word n of the block at this offset of every chunk.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn message(bytes: &[u8], at: usize) -> [V; 16] {
        let mut m = [splat(0); 16];
        for half in 0..2 {
            let mut by_row = [splat(0); 8];
            for (lane, row) in by_row.iter_mut().enumerate() {
                let from = &bytes[lane * CHUNK + at + half * BLOCK / 2..][..BLOCK / 2];
                // SAFETY: half a block's bytes are there.
                *row = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
            }
            let mut by_four = [[splat(0); 4]; 2];
            for (i, four) in by_four.iter_mut().enumerate() {
                let r = &by_row[4 * i..4 * i + 4];
                let (a, b) = (
                    _mm256_unpacklo_epi32(r[0], r[1]),
                    _mm256_unpackhi_epi32(r[0], r[1]),
                );
                let (c, d) = (
                    _mm256_unpacklo_epi32(r[2], r[3]),
                    _mm256_unpackhi_epi32(r[2], r[3]),
                );
                *four = [
                    _mm256_unpacklo_epi64(a, c),
                    _mm256_unpackhi_epi64(a, c),
                    _mm256_unpacklo_epi64(b, d),
                    _mm256_unpackhi_epi64(b, d),
                ];
            }
            for k in 0..4 {
                let (a, b) = (by_four[0][k], by_four[1][k]);
                m[8 * half + k] = _mm256_permute2x128_si256::<0x20>(a, b);
                m[8 * half + 4 + k] = _mm256_permute2x128_si256::<0x31>(a, b);
            }
        }
        m
    }

    lanes!("avx2");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of which no two are alike.
    fn different(n: usize) -> Vec<[u8; PAGE_LEN]> {
        let mut dice = 7u64;
        let mut byte = || {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (dice >> 56) as u8
        };
        (0..n).map(|_| std::array::from_fn(|_| byte())).collect()
    }

    fn usual(all: &[[u8; PAGE_LEN]]) -> Vec<Hash> {
        all.iter().map(|p| *blake3::hash(p).as_bytes()).collect()
    }

    #[test]
    fn any_number_of_pages_has_the_usual_hashes() {
        let mut all = different(11);
        all[3] = [0; PAGE_LEN];
        all[6] = [0xff; PAGE_LEN];
        for n in 0..all.len() {
            let mut found = vec![Hash::default(); n];
            pages(&all[..n], &mut found);
            assert_eq!(found, usual(&all[..n]), "{n} pages");
        }
    }

    #[test]
    fn files_of_any_length_have_the_usual_hash() {
        let all: Vec<u8> = different(60).concat();
        let k = 16 * CHUNK;
        let lengths = [
            0,
            1,
            CHUNK,
            CHUNK + 1,
            k / 2,
            k / 2 + 1,
            k - 1,
            k,
            k + 1,
            2 * k,
            2 * k + 7,
            3 * k,
        ];
        for len in lengths
            .into_iter()
            .chain([5 * k, 7 * k + 3 * CHUNK, 8 * k, 11 * k + 100, 15 * k - 1])
        {
            let wanted = *blake3::hash(&all[..len]).as_bytes();
            let mut widths = vec![Width::Usual(Box::default())];
            if is_x86_feature_detected!("avx2") {
                widths.push(Width::Eight);
            }
            if is_x86_feature_detected!("avx512f") {
                widths.push(Width::Sixteen);
            }
            for width in widths {
                let mut at_once = Hasher::with(width);
                at_once.update(&all[..len]);
                assert_eq!(at_once.finish(), wanted, "{len} bytes");
            }
            let mut by_pieces = Hasher::new();
            for piece in all[..len].chunks(5000) {
                by_pieces.update(piece);
            }
            assert_eq!(by_pieces.finish(), wanted, "{len} bytes in pieces");
        }
    }

    #[test]
    fn groups_have_large_numbers_too() {
        let all: Vec<u8> = different(4).concat();
        for first in [16, (1 << 32) - 16, 1 << 32, (7 << 32) + 64] {
            let mut usual = blake3::Hasher::new();
            usual.set_input_offset(first * CHUNK as u64);
            usual.update(&all);
            if is_x86_feature_detected!("avx512f") {
                let bytes = all.first_chunk().expect("as long");
                // SAFETY: asked just now.
                assert_eq!(unsafe { avx512::group(bytes, first) }, usual.finalize_non_root());
            }
            let mut usual = blake3::Hasher::new();
            usual.set_input_offset(first * CHUNK as u64);
            usual.update(&all[..avx2::LANES * CHUNK]);
            if is_x86_feature_detected!("avx2") {
                let bytes = all.first_chunk().expect("as long");
                // SAFETY: asked just now.
                assert_eq!(unsafe { avx2::group(bytes, first) }, usual.finalize_non_root());
            }
        }
    }

    #[test]
    fn each_width_has_the_usual_hashes() {
        let all = different(8);
        if is_x86_feature_detected!("avx512f") {
            let mut found = [Hash::default(); 4];
            for four in all.as_chunks::<4>().0 {
                // SAFETY: asked just now.
                unsafe { avx512::hash(four, &mut found) };
                assert_eq!(found.as_slice(), usual(four));
            }
        } else {
            eprintln!("no AVX-512 here");
        }
        if is_x86_feature_detected!("avx2") {
            let mut found = [Hash::default(); 2];
            for two in all.as_chunks::<2>().0 {
                // SAFETY: asked just now.
                unsafe { avx2::hash(two, &mut found) };
                assert_eq!(found.as_slice(), usual(two));
            }
        } else {
            eprintln!("no AVX2 here");
        }
    }
}
