//! Pages of a snapshot as a [`super::Body::BaseChunk`] has them: runs of pages with content, and ranges that hold nothing (any more).

use crate::layout::PAGE;
use crate::snap::{MAX_PAGE, Object};

const DATA: u8 = 0;
const GONE: u8 = 1;
/// Bytes before a run.
const HEAD: usize = 24;

/// What a run says.
#[derive(Debug, PartialEq, Eq)]
pub enum Run<'a> {
    /// Contents of pages.
    Data(&'a [u8]),
    /// This many pages hold nothing (any more).
    Gone(u64),
}

fn code(object: Object) -> Option<(u8, u32)> {
    match object {
        Object::Arena => Some((1, 0)),
        Object::Store => Some((2, 0)),
        Object::Space(n) => Some((3, n)),
        Object::Runtime | Object::Volumes => None,
    }
}

fn put_head(kind: u8, object: Object, first: u64, count: u64, out: &mut Vec<u8>) {
    let Some((o, n)) = code(object) else { return };
    out.extend([kind, o, 0, 0]);
    out.extend(n.to_le_bytes());
    out.extend(first.to_le_bytes());
    out.extend(count.to_le_bytes());
}

/// Appends a run from the page `first` on. Objects that a link does not carry are left out.
pub fn put(object: Object, first: u64, run: &Run<'_>, out: &mut Vec<u8>) {
    match run {
        Run::Data(bytes) => {
            put_head(DATA, object, first, bytes.len() as u64 / PAGE, out);
            out.extend_from_slice(bytes);
        }
        Run::Gone(count) => put_head(GONE, object, first, *count, out),
    }
}

/// Calls `f` for every run of a chunk; false if it is damaged.
pub fn runs(mut src: &[u8], mut f: impl FnMut(Object, u64, Run<'_>) -> bool) -> bool {
    while !src.is_empty() {
        let Some((head, rest)) = src.split_at_checked(HEAD) else {
            return false;
        };
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| head[i + k]));
        let n = (word(0) >> 32) as u32;
        let object = match head[1] {
            1 => Object::Arena,
            2 => Object::Store,
            3 => Object::Space(n),
            _ => return false,
        };
        let (first, count) = (word(8), word(16));
        if first.checked_add(count).is_none_or(|end| end > MAX_PAGE) {
            return false;
        }
        src = rest;
        let run = match head[0] {
            DATA => {
                let Some((bytes, rest)) = src.split_at_checked((count * PAGE) as usize) else {
                    return false;
                };
                src = rest;
                Run::Data(bytes)
            }
            GONE => Run::Gone(count),
            _ => return false,
        };
        if !f(object, first, run) {
            return false;
        }
    }
    true
}
