//! Snapshots as files.

use super::{Object, Sink, capture};
use crate::alloc::{self, Side};
use crate::run::Machine;
use ftl_core::layout::PAGE;
use ftl_core::wait::SpaceId;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

const MAGIC: &[u8; 16] = b"FTVMSNAP-DRAFT-1";

struct Pages<'a>(&'a mut dyn Write);

impl Sink for Pages<'_> {
    fn pages(&mut self, object: Object, first: u64, bytes: &[u8]) -> Result<(), String> {
        let (kind, space) = match object {
            Object::Arena => (1u32, 0),
            Object::Store => (2, 0),
            Object::Space(n) => (3, n),
        };
        let mut head = Vec::new();
        head.extend_from_slice(&kind.to_le_bytes());
        head.extend_from_slice(&space.to_le_bytes());
        head.extend_from_slice(&first.to_le_bytes());
        head.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0
            .write_all(&head)
            .and_then(|()| self.0.write_all(bytes))
            .map_err(|e| e.to_string())
    }
}

/// Writes a snapshot of the image that the caller holds the token of.
pub fn write(m: &mut Machine, here: SpaceId, path: &Path) -> Result<(), String> {
    let _side = alloc::enter(Side::Host);
    let bad = |e: std::io::Error| format!("snapshot {}: {e}", path.display());
    let file = std::fs::File::create(path).map_err(bad)?;
    let mut out = BufWriter::new(file);
    out.write_all(MAGIC).map_err(bad)?;
    out.write_all(&crate::door::record::build_id()).map_err(bad)?;
    let state = capture::whole(m, here, &mut Pages(&mut out))?;
    let mut head = vec![0; 16];
    head.extend_from_slice(&(state.len() as u64).to_le_bytes());
    out.write_all(&head)
        .and_then(|()| out.write_all(&state))
        .map_err(bad)?;
    out.flush().map_err(bad)
}

/// Reads one: pages go to `found`, the host's side is returned.
pub fn read(
    path: &Path,
    found: &mut dyn FnMut(Object, u64, &[u8]) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let bad = |e: std::io::Error| format!("snapshot {}: {e}", path.display());
    let mut file = std::io::BufReader::new(std::fs::File::open(path).map_err(bad)?);
    let mut head = [0; 32];
    file.read_exact(&mut head).map_err(bad)?;
    if head[..16] != *MAGIC {
        return Err(format!("snapshot {}: not a snapshot of ftvm", path.display()));
    }
    if head[16..] != crate::door::record::build_id() {
        return Err(format!(
            "snapshot {}: made by another build of ftvm",
            path.display()
        ));
    }
    let mut buf = Vec::new();
    loop {
        let mut head = [0; 24];
        file.read_exact(&mut head).map_err(bad)?;
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| head[i + k]));
        let (kind, space) = (word(0) as u32, (word(0) >> 32) as u32);
        let len = word(16) as usize;
        if len > 1 << 40 || (kind != 0 && !len.is_multiple_of(PAGE as usize)) {
            return Err(format!("snapshot {}: damaged", path.display()));
        }
        buf.resize(len, 0);
        file.read_exact(&mut buf).map_err(bad)?;
        let object = match kind {
            0 => return Ok(buf),
            1 => Object::Arena,
            2 => Object::Store,
            3 => Object::Space(space),
            _ => return Err(format!("snapshot {}: damaged", path.display())),
        };
        found(object, word(8), &buf)?;
    }
}
