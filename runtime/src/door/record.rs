//! Recording: records into frames, frames into the log's segment.

use super::OutHash;
use crate::sys::{self, sys};
use ftl_core::door::{Input, Stamp};
use ftl_core::log::frame::{Batch, FORMAT, HEADER_LEN, Header, write_frame};
use ftl_core::log::{Coder, Record, Wire};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A frame is written when this many bytes have gathered, at the latest.
pub const FRAME_BYTES: usize = 64 << 10;

/// Writer of a log.
pub struct Recorder {
    fd: i32,
    image: u64,
    coder: Coder,
    batch: Batch,
    position: u64,
    n: u64,
    /// Hash of what left.
    pub out: OutHash,
    checked: u64,
    /// Real time of the last frame.
    pub flushed_at: u64,
    /// Answers that were as predicted, and all answers that could have been.
    pub predicted: (u64, u64),
    /// Cuts, and pages in them.
    pub cuts: (u64, u64),
    failed: bool,
}

/// Name of the first segment in a log's directory.
pub const SEGMENT: &str = "000000.ftlog";

/// Identity of this build of the runtime: a log is replayed by the build that made it.
pub fn build_id() -> [u8; 16] {
    let version = concat!(env!("CARGO_PKG_VERSION"), " ");
    // SAFETY: the runtime's own text, mapped read-only.
    let text = unsafe {
        let start = crate::entry::ftl_entry_begin as *const u8;
        std::slice::from_raw_parts(
            start,
            crate::entry::ftl_entry_end as *const () as usize - start as usize,
        )
    };
    let mut id = [0; 16];
    id[..4].copy_from_slice(&crc32fast::hash(text).to_le_bytes());
    id[4..8].copy_from_slice(&crc32fast::hash(version.as_bytes()).to_le_bytes());
    let table: u32 = ftl_abi::table::ROWS.iter().fold(0, |h, r| {
        h.wrapping_mul(31).wrapping_add(r.nr as u32 + r.level as u32)
    });
    id[8..12].copy_from_slice(&table.to_le_bytes());
    id[12..16].copy_from_slice(&(crate::stage0::runtime_len() as u32).to_le_bytes());
    id
}

impl Recorder {
    /// Creates the log's directory (0700) and first segment (0600).
    pub fn create(dir: &Path, image: u64) -> std::io::Result<Recorder> {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        let _ = std::fs::DirBuilder::new().mode(0o700).create(dir);
        let path = dir.join(SEGMENT);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| {
                std::io::Error::new(
                    e.kind(),
                    format!("log {}: {e}; name a new directory", path.display()),
                )
            })?;
        let header = Header {
            format: FORMAT,
            build: build_id(),
            image,
        };
        std::io::Write::write_all(&mut &file, &header.to_bytes())?;
        const { assert!(HEADER_LEN == 64) };
        Ok(Recorder {
            fd: std::os::fd::IntoRawFd::into_raw_fd(file),
            image,
            coder: Coder::default(),
            batch: Batch::default(),
            position: 0,
            n: 0,
            out: OutHash::default(),
            checked: OutHash::default().0,
            flushed_at: 0,
            predicted: (0, 0),
            cuts: (0, 0),
            failed: false,
        })
    }

    /// Appends a record. The caller is on the host side.
    pub fn put(&mut self, r: &Record) {
        self.coder.put(r, &mut self.batch.bytes);
        self.batch.count += 1;
        if self.batch.bytes.len() >= FRAME_BYTES {
            self.flush();
        }
    }

    /// The answer to the next query; nothing is written for one that was predicted.
    pub fn answer<T: Wire>(&mut self, kind: u16, v: &T, predicted: bool) {
        self.n += 1;
        self.predicted.1 += 1;
        if predicted {
            self.predicted.0 += 1;
            return;
        }
        let mut bytes = Vec::new();
        v.put(&mut bytes);
        let n = self.n;
        self.put(&Record::Answer { n, kind, bytes });
    }

    /// Inputs of an absorb point.
    pub fn absorb(&mut self, point: u64, inputs: &[(Stamp, Input)]) {
        self.put(&Record::Absorb {
            point,
            inputs: inputs.to_vec(),
        });
    }

    /// A cut after `entries` entries. Written at once: it is large.
    pub fn cut(&mut self, entries: u64, bytes: Vec<u8>, pages: usize) {
        self.cuts.0 += 1;
        self.cuts.1 += pages as u64;
        self.put(&Record::Cut { e: entries, bytes });
    }

    /// Writes what has gathered as one frame.
    pub fn flush(&mut self) {
        if self.out.0 != self.checked {
            self.checked = self.out.0;
            self.coder.put(
                &Record::Check {
                    n: self.n,
                    hash: self.out.0,
                },
                &mut self.batch.bytes,
            );
            self.batch.count += 1;
        }
        if self.batch.count == 0 || self.failed {
            return;
        }
        self.batch.position = self.position;
        self.position += u64::from(self.batch.count);
        let mut out = Vec::with_capacity(self.batch.bytes.len() + 128);
        write_frame(self.image, 0, 0, &self.batch, &mut out);
        self.batch.bytes.clear();
        self.batch.count = 0;
        self.coder = Coder::default();
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            // SAFETY: the slice is valid for reads.
            match unsafe { sys!(libc::SYS_write, self.fd, rest.as_ptr(), rest.len()) } {
                Ok(n) => rest = &rest[n as usize..],
                Err(sys::HostErr(libc::EINTR)) => {}
                Err(e) => {
                    // What is in the log stays valid up to its last whole frame; the run goes on.
                    sys::write_all(
                        2,
                        format!("ftvm: writing the log: {e}; the recording ends here\n").as_bytes(),
                    );
                    self.failed = true;
                    return;
                }
            }
        }
    }

    /// The image has ended.
    pub fn end(&mut self, status: i32) {
        self.put(&Record::End(status));
        self.flush();
    }
}

/// Path, size, modification time and content hash of an open host file, as a log names it.
pub fn identify(fd: i32) -> Option<(Vec<u8>, u64, [u8; 32])> {
    let path = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    hash_file(path.as_os_str().as_bytes())
}

/// The same by path.
pub fn hash_file(path: &[u8]) -> Option<(Vec<u8>, u64, [u8; 32])> {
    let c = CString::new(path).ok()?;
    // SAFETY: a C string.
    let fd = unsafe { sys!(libc::SYS_open, c.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }.ok()? as i32;
    let mut hash = blake3::Hasher::new();
    let mut buf = vec![0u8; 256 << 10];
    let mut size = 0;
    loop {
        // SAFETY: the buffer is valid for writes.
        match unsafe { sys!(libc::SYS_read, fd, buf.as_mut_ptr(), buf.len()) } {
            Ok(0) => break,
            Ok(n) => {
                size += n;
                hash.update(&buf[..n as usize]);
            }
            Err(_) => break,
        }
    }
    // SAFETY: our descriptor.
    let _ = unsafe { sys!(libc::SYS_close, fd) };
    Some((path.to_vec(), size, *hash.finalize().as_bytes()))
}
