//! Blocks of a packed segment: writer and reader of their outer form. What is inside is the packer's;
//! this crate only knows how long it is and how long it was.
//!
//! A block is a 16-byte head (magic, length before packing, length packed, checksum of both lengths
//! and the packed bytes) and the packed bytes. Frames may lie across blocks.

use super::FrameError;

/// Bytes of a block's head.
pub const HEAD_LEN: usize = 16;
/// Most bytes of a segment in one block: bounds what a reader holds, and what a hostile block can ask for.
pub const MAX_PLAIN: usize = 1 << 20;
/// No packer makes more of [`MAX_PLAIN`] bytes.
const MAX_PACKED: usize = MAX_PLAIN + (64 << 10);
const MAGIC: u32 = 0x4d5a_4646;

/// A block, still packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    /// Bytes that it unpacks to.
    pub plain_len: usize,
    /// Its contents.
    pub packed: &'a [u8],
}

fn checksum(lengths: &[u8], packed: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(lengths);
    h.update(packed);
    h.finalize()
}

/// Appends a block.
pub fn write_block(plain_len: usize, packed: &[u8], out: &mut Vec<u8>) {
    debug_assert!(plain_len <= MAX_PLAIN && packed.len() <= MAX_PACKED);
    let mut head = [0; HEAD_LEN];
    head[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    head[4..8].copy_from_slice(&(plain_len as u32).to_le_bytes());
    head[8..12].copy_from_slice(&(packed.len() as u32).to_le_bytes());
    let crc = checksum(&head[4..12], packed);
    head[12..16].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(packed);
}

/// Length of the whole block whose head is at the front of `src`.
pub fn block_len(src: &[u8]) -> Result<usize, FrameError> {
    let head: &[u8; HEAD_LEN] = src.first_chunk().ok_or(FrameError::Short)?;
    let u32_at = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| head[i + k]));
    let packed = u32_at(8) as usize;
    if u32_at(0) != MAGIC || u32_at(4) as usize > MAX_PLAIN || packed > MAX_PACKED {
        return Err(FrameError::Damaged);
    }
    Ok(HEAD_LEN + packed)
}

/// The block at the front of `src`, and how many bytes it took.
pub fn next_block(src: &[u8]) -> Result<(Block<'_>, usize), FrameError> {
    let len = block_len(src)?;
    let packed = src.get(HEAD_LEN..len).ok_or(FrameError::Short)?;
    let u32_at = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| src[i + k]));
    if u32_at(12) != checksum(&src[4..12], packed) {
        return Err(FrameError::Checksum);
    }
    let block = Block {
        plain_len: u32_at(4) as usize,
        packed,
    };
    Ok((block, len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        write_block(9, &[1, 2, 3, 4, 5], &mut bytes);
        let (block, n) = next_block(&bytes).expect("whole");
        assert_eq!((block.plain_len, block.packed, n), (9, &[1, 2, 3, 4, 5][..], 21));
        for i in 0..bytes.len() * 8 {
            let mut b = bytes.clone();
            b[i / 8] ^= 1 << (i % 8);
            assert!(next_block(&b).is_err(), "bit {i}");
        }
        for n in 0..bytes.len() {
            assert_eq!(next_block(&bytes[..n]), Err(FrameError::Short));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = next_block(&bytes);
        }
    }
}
