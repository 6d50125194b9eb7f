//! Packed segments: full ones are compressed by the supervisor, off the image's way; readers take both
//! kinds.
//!
//! A segment is packed into a file beside it that then takes its name, so that whoever opens it finds
//! one kind or the other, and whoever has it open goes on reading what it was. A packer that dies
//! leaves a `.part` file and the segment as it was.

use super::read::segment_name;
use ftl_core::log::block::{self, MAX_PLAIN};
use ftl_core::log::frame::{Coding, HEADER_LEN, Header};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// zstd's level: on records higher ones win nothing and cost more.
pub const LEVEL: i32 = 1;

/// Below this a segment stays as it is.
const WORTH_BYTES: u64 = 4096;

fn read_full(file: &mut File, buf: &mut Vec<u8>) -> io::Result<()> {
    buf.clear();
    file.take(MAX_PLAIN as u64).read_to_end(buf).map(drop)
}

/// Packs a segment in place, unless it is packed, or too small.
pub fn pack_segment(dir: &Path, n: u32) -> io::Result<()> {
    let path = dir.join(segment_name(n));
    let mut from = File::open(&path)?;
    let mut head = [0; HEADER_LEN];
    from.read_exact(&mut head)?;
    let header = Header::parse(&head).map_err(io::Error::other)?;
    let size = from.metadata()?.len();
    if header.coding != Coding::Plain || size < WORTH_BYTES {
        return Ok(());
    }
    let part = path.with_extension("part");
    let packed = pack_into(&mut from, header, &part);
    match packed {
        Ok(len) if len < size => std::fs::rename(&part, &path),
        other => {
            let _ = std::fs::remove_file(&part);
            other.map(drop)
        }
    }
}

fn pack_into(from: &mut File, header: Header, part: &Path) -> io::Result<u64> {
    let mut to = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)?;
    let header = Header {
        coding: Coding::Zstd,
        ..header
    };
    to.write_all(&header.to_bytes())?;
    let mut len = HEADER_LEN as u64;
    let mut packer = zstd::bulk::Compressor::new(LEVEL)?;
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    loop {
        read_full(from, &mut plain)?;
        if plain.is_empty() {
            break;
        }
        out.clear();
        block::write_block(plain.len(), &packer.compress(&plain)?, &mut out);
        to.write_all(&out)?;
        len += out.len() as u64;
    }
    // The name moves to it only when it is all there.
    to.sync_data()?;
    Ok(len)
}

/// Unpacks a block behind `out`. False if it is not what its head says.
///
/// The library allocates from the C library's heap, which is this process' own: nothing of it is kept.
pub fn unpack(b: &block::Block<'_>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + b.plain_len, 0);
    let n = zstd::bulk::decompress_to_buffer(b.packed, &mut out[start..]);
    let whole = n.is_ok_and(|n| n == b.plain_len);
    if !whole {
        out.truncate(start);
    }
    whole
}
