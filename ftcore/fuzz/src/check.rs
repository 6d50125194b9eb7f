//! Properties of the log's decoders, for any bytes. Each function panics if one does not hold.

use ftl_core::log::block::{self, next_block};
use ftl_core::log::frame::{FrameError, HEADER_LEN, Header, next_frame};
use ftl_core::log::{Coder, Record};

/// A segment: header, then frames, then the same bytes as blocks.
pub fn log(data: &[u8]) {
    let image = match Header::parse(data) {
        Ok(h) => {
            assert_eq!(
                Header::parse(&h.to_bytes()),
                Ok(h),
                "a header that was read can be written"
            );
            h.image
        }
        Err(why) => {
            assert!(!why.to_string().contains('\n'));
            0
        }
    };
    let mut rest = data.get(HEADER_LEN..).unwrap_or(&[]);
    loop {
        match next_frame(rest, image) {
            Ok((batch, len)) => {
                assert!(len > 0 && len <= rest.len() && batch.bytes.len() <= len);
                let taken = batch_records(&batch.bytes, batch.count);
                assert!(taken.len() <= batch.count as usize);
                // A shorter input never gives more.
                assert_eq!(next_frame(&rest[..len - 1], image), Err(FrameError::Short));
                rest = &rest[len..];
            }
            Err(why) => {
                assert!(!why.to_string().contains('\n'));
                break;
            }
        }
    }
    let mut rest = data.get(HEADER_LEN..).unwrap_or(&[]);
    while let Ok((b, len)) = next_block(rest) {
        assert!(b.plain_len <= block::MAX_PLAIN && b.packed.len() + block::HEAD_LEN == len);
        rest = &rest[len..];
    }
}

fn batch_records(bytes: &[u8], count: u32) -> Vec<Record> {
    let (mut coder, mut src, mut out) = (Coder::default(), bytes, Vec::new());
    for _ in 0..count {
        let before = src.len();
        let Some(r) = coder.take(&mut src) else { break };
        assert!(
            src.len() < before,
            "every record takes a byte: a count cannot make work of nothing"
        );
        out.push(r);
    }
    out
}

/// The payload of a frame: what decodes can be encoded, and decodes to the same.
pub fn records(data: &[u8]) {
    let first = batch_records(data, u32::MAX);
    let (mut coder, mut bytes) = (Coder::default(), Vec::new());
    for r in &first {
        coder.put(r, &mut bytes);
    }
    assert_eq!(batch_records(&bytes, u32::MAX), first);
}
