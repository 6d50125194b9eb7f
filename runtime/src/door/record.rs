//! Recording: records into frames, frames into the log's segment.

use super::read::{numbers, segment_name};
use super::{Ask, OutHash};
use crate::snap::state::LogPlace;
use crate::sys::{self, sys};
use ftl_core::door::{Input, Stamp};
use ftl_core::errno::Errno;
use ftl_core::log::frame::{Batch, Coding, FORMAT, Header, MAX_PAYLOAD, write_frame};
use ftl_core::log::wire::{put_list, take_list};
use ftl_core::log::{Coder, Record, Wire};
use ftl_core::platform::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// A frame is written when this many bytes have gathered, at the latest.
pub const FRAME_BYTES: usize = 64 << 10;

/// Writer of a log.
pub struct Recorder {
    fd: i32,
    header: Header,
    dir: PathBuf,
    segment: u32,
    /// Bytes in the current segment.
    written: u64,
    coder: Coder,
    batch: Batch,
    position: u64,
    n: u64,
    /// Hash of what left.
    pub out: OutHash,
    checked: u64,
    /// Real time of the last frame.
    pub flushed_at: u64,
    /// Queries by kind: asked, and logged.
    pub asked: [(u64, u64); Ask::COUNT],
    /// Clock reads that came to the door: as predicted, and not.
    pub reads: (u64, u64),
    /// Distance of what they answered from real time.
    pub errors: ClockErrors,
    /// Predictions count; without, every answer and every clock read is logged (`--predict off`).
    pub predict: bool,
    /// `--check-memory`
    pub check_memory: bool,
    /// `--check N`
    pub marks: super::marks::Marks,
    /// Files that were mapped.
    pub files: super::files::Files,
    /// Cuts, and pages in them.
    pub cuts: (u64, u64),
    /// Snapshots in the log.
    pub anchors: super::anchor::Anchors,
    failed: bool,
    /// Frames go to a backup instead of a file.
    ships: bool,
    /// Frames that the backup's side has not taken yet.
    pub shipped: Shipped,
}

/// Frames for a backup: number of the first record, how many, bytes.
pub type Shipped = Vec<(u64, u32, Vec<u8>)>;

/// A segment is not continued beyond this many bytes.
const SEGMENT_BYTES: u64 = 64 << 20;

/// A lock on the whole of a segment, of the open file and not of a process: all of an image's processes write it.
fn whole(kind: i32) -> libc::flock {
    // SAFETY: plain integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    lock
}

/// Says by a lock that the segment has a writer, for as long as one lives.
fn writes(file: &std::fs::File) {
    let mut lock = whole(libc::F_WRLCK);
    // A file system without locks: `log follow` waits longer than it need.
    // SAFETY: the struct is valid for the call.
    let _ = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) };
}

/// Whether a recorder has this segment open.
pub fn is_written(file: &std::fs::File) -> bool {
    let mut lock = whole(libc::F_RDLCK);
    // SAFETY: the struct is valid for the call.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    rc != 0 || i32::from(lock.l_type) != libc::F_UNLCK
}

/// Makes a segment (0600) that does not exist yet, with its header. Returns its descriptor.
fn create_segment(dir: &Path, n: u32, header: &Header) -> std::io::Result<i32> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join(segment_name(n));
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| {
            let what = format!("log {}: {e}; name a new directory", path.display());
            std::io::Error::new(e.kind(), what)
        })?;
    writes(&file);
    if let Err(e) = std::io::Write::write_all(&mut &file, &header.to_bytes()) {
        let _ = std::fs::remove_file(&path);
        return Err(e);
    }
    Ok(std::os::fd::IntoRawFd::into_raw_fd(file))
}

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
        use std::os::unix::fs::DirBuilderExt;
        let _ = std::fs::DirBuilder::new().mode(0o700).create(dir);
        // Not its first segment alone: `--keep` may have deleted that one.
        if !numbers(dir).is_empty() || super::anchor::folder(dir).exists() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                format!("{} holds a log already; name a new directory", dir.display()),
            ));
        }
        let header = Header {
            format: FORMAT,
            coding: Coding::Plain,
            build: build_id(),
            image,
        };
        let fd = create_segment(dir, 0, &header)?;
        let full = std::fs::canonicalize(dir)?;
        Ok(Recorder {
            fd,
            header,
            dir: full.clone(),
            segment: 0,
            written: 0,
            coder: Coder::default(),
            batch: Batch::default(),
            position: 0,
            n: 0,
            out: OutHash::default(),
            checked: 0,
            flushed_at: 0,
            asked: [(0, 0); Ask::COUNT],
            reads: (0, 0),
            errors: ClockErrors::default(),
            predict: true,
            check_memory: false,
            marks: super::marks::Marks::default(),
            files: super::files::Files::new(dir),
            cuts: (0, 0),
            anchors: super::anchor::Anchors::of(full),
            failed: false,
            ships: false,
            shipped: Vec::new(),
        })
    }

    /// Of an image whose log goes to a backup: from record `position` on, with the counts of `place`.
    pub fn shipping(image: u64, position: u64, place: &LogPlace) -> Recorder {
        Recorder {
            fd: -1,
            header: Header {
                format: FORMAT,
                coding: Coding::Plain,
                build: build_id(),
                image,
            },
            dir: PathBuf::new(),
            segment: 0,
            written: 0,
            coder: Coder::default(),
            batch: Batch::default(),
            position,
            n: place.queries,
            out: OutHash {
                count: place.outputs.0,
                hash: place.outputs.1,
            },
            checked: place.outputs.0,
            flushed_at: 0,
            asked: [(0, 0); Ask::COUNT],
            reads: (0, 0),
            errors: ClockErrors::default(),
            predict: true,
            check_memory: place.check_memory,
            marks: super::marks::Marks::default(),
            files: super::files::Files::default(),
            cuts: (0, 0),
            anchors: super::anchor::Anchors::default(),
            failed: false,
            ships: true,
            shipped: Vec::new(),
        }
    }

    /// Records so far.
    pub fn position(&self) -> u64 {
        self.position + u64::from(self.batch.count)
    }

    /// Appends a record. The caller is on the host side.
    pub fn put(&mut self, r: &Record) {
        if self.failed {
            return;
        }
        self.coder.put(r, &mut self.batch.bytes);
        self.was_put();
    }

    fn was_put(&mut self) {
        self.batch.count += 1;
        if self.batch.bytes.len() >= FRAME_BYTES {
            self.flush();
        }
    }

    /// The answer to the next query; nothing is written for one that was predicted.
    /// Gives back what was written.
    pub fn answer<T: Wire>(&mut self, kind: Ask, v: &T, predicted: bool) -> Option<Vec<u8>> {
        self.n += 1;
        let counts = &mut self.asked[kind as usize];
        counts.0 += 1;
        if predicted && self.predict {
            return None;
        }
        counts.1 += 1;
        let mut bytes = Vec::new();
        v.put(&mut bytes);
        if !self.failed {
            let out = &mut self.batch.bytes;
            self.coder.put_answer(self.n, kind as u16, &bytes, out);
            self.was_put();
        }
        Some(bytes)
    }

    /// What a read of a file has given; `Ok(None)`: what was expected. Nothing is written for that.
    pub fn read(
        &mut self,
        kind: Ask,
        read: Result<Option<Vec<u8>>, Errno>,
        expected: Option<&[u8]>,
    ) -> Result<Read, Errno> {
        let predicted = matches!(read, Ok(None));
        let read = match read {
            Ok(None) if self.predict => Ok(Vec::new()),
            Ok(bytes) => Ok(bytes.unwrap_or_else(|| expected.unwrap_or_default().to_vec())),
            Err(e) => Err(e),
        };
        let logged = self.answer(kind, &read, predicted).is_some();
        read.map(|bytes| Read {
            n: if logged {
                bytes.len()
            } else {
                expected.map_or(0, <[u8]>::len)
            },
            logged,
        })
    }

    /// Inputs of an absorb point.
    pub fn absorb(&mut self, point: u64, inputs: &[(Stamp, Input)]) {
        if self.failed {
            return;
        }
        self.coder.put_absorb(point, inputs, &mut self.batch.bytes);
        self.was_put();
    }

    /// A cut after `entries` entries. Written at once: it is large.
    ///
    /// Its pages but the last may have been put before it, as [`Record::Part`].
    pub fn cut(&mut self, entries: u64, bytes: Vec<u8>, pages: usize) {
        self.cuts.0 += 1;
        self.cuts.1 += pages as u64;
        self.put(&Record::Cut { e: entries, bytes });
    }

    /// Identity of the image.
    pub fn image(&self) -> u64 {
        self.header.image
    }

    /// Where the log stands, for a snapshot; everything was flushed.
    pub fn place(&self) -> LogPlace {
        LogPlace {
            position: self.position,
            queries: self.n,
            outputs: (self.out.count, self.out.hash),
            check_memory: self.check_memory,
            segment: self.segment,
            marks_due: self.marks.due(),
        }
    }

    /// True if the log ended before the image did.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// What comes next is in a segment of its own: all of this one can then be deleted.
    pub fn end_segment(&mut self) {
        self.flush();
        if self.written > 0 && !self.failed && !self.ships {
            self.rotate();
        }
    }

    /// Writes what has gathered as one frame.
    pub fn flush(&mut self) {
        // For a backup a check alone is no reason for a frame: an output would wait for it.
        if self.out.count != self.checked && !(self.ships && self.batch.count == 0) {
            self.checked = self.out.count;
            self.coder.put(
                &Record::Check {
                    n: self.out.count,
                    hash: self.out.hash,
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
        let len = self.batch.bytes.len();
        let mut out = Vec::with_capacity(len + 128);
        if len < MAX_PAYLOAD - 128 {
            write_frame(self.header.image, 0, 0, &self.batch, &mut out);
        } else {
            self.fail(&format!("a cut of {len} bytes is more than a frame holds"));
        }
        let count = self.batch.count;
        self.batch.bytes.clear();
        self.batch.count = 0;
        self.coder = Coder::default();
        if self.ships {
            self.shipped.push((self.batch.position, count, out));
            return;
        }
        if self.written > 0 && self.written + out.len() as u64 > SEGMENT_BYTES {
            self.rotate();
        }
        self.written += out.len() as u64;
        self.anchors.written += out.len() as u64;
        self.write(&out);
    }

    fn rotate(&mut self) {
        match create_segment(&self.dir, self.segment + 1, &self.header) {
            Ok(fd) => {
                // SAFETY: our descriptor.
                let _ = unsafe { sys!(libc::SYS_close, self.fd) };
                self.fd = fd;
                self.segment += 1;
                self.written = 0;
                // SAFETY: the page is mapped in every guest process.
                let control = unsafe { crate::control::get() };
                control.closed.store(self.segment, Ordering::Release);
                control.tell();
            }
            // The old one goes on growing.
            Err(_) => self.written = 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            // SAFETY: the slice is valid for reads.
            match unsafe { sys!(libc::SYS_write, self.fd, rest.as_ptr(), rest.len()) } {
                Ok(n) => rest = &rest[n as usize..],
                Err(sys::HostErr(libc::EINTR)) => {}
                Err(e) => return self.fail(&e.to_string()),
            }
        }
    }

    /// What is in the log stays valid up to its last whole frame; the run goes on.
    fn fail(&mut self, why: &str) {
        if self.ships {
            // What leaves afterwards would not be known to the backup, which goes on from what it holds.
            crate::run::fail_stop(&format!("the log for the backup: {why}"));
        }
        crate::talk::warn(&format!("writing the log: {why}; the recording ends here"));
        self.close();
    }

    fn close(&mut self) {
        self.failed = true;
        // SAFETY: our descriptor, which nobody uses any more.
        let _ = unsafe { sys!(libc::SYS_close, self.fd) };
        self.fd = -1;
    }

    /// The recording ends before the image.
    pub fn stop(&mut self) {
        let stats = Stats::of(self, 0);
        self.put(&Record::Stats(stats.encode()));
        self.flush();
        if !self.failed {
            self.close();
        }
    }

    /// The image has ended; the vDSO has answered `vdso_reads` clock reads by itself.
    pub fn end(&mut self, status: i32, vdso_reads: u64) {
        let stats = Stats::of(self, vdso_reads);
        self.put(&Record::Stats(stats.encode()));
        self.put(&Record::End(status));
        self.flush();
    }
}

/// Distribution of the clock's error, in steps of a microsecond; the last step is for all above.
#[derive(Clone, Debug)]
pub struct ClockErrors {
    steps: [u64; 128],
    max_ns: u64,
}

impl Default for ClockErrors {
    fn default() -> ClockErrors {
        ClockErrors {
            steps: [0; 128],
            max_ns: 0,
        }
    }
}

impl ClockErrors {
    /// Counts a read that answered this far from real time.
    pub fn add(&mut self, ns: u64) {
        self.steps[((ns / 1000) as usize).min(127)] += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Upper end of the step that holds the `percent`th part, ns.
    fn percentile(&self, percent: u64) -> u64 {
        let total: u64 = self.steps.iter().sum();
        let mut seen = 0;
        for (i, n) in self.steps.iter().enumerate() {
            seen += n;
            if total > 0 && seen * 100 >= total * percent {
                return ((i as u64 + 1) * 1000).min(self.max_ns);
            }
        }
        0
    }
}

/// What a recorder counted, for `ftvm log info`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Queries by kind: kind, asked, logged.
    pub asked: Vec<(u16, u64, u64)>,
    /// Clock reads that came to the door: as predicted, and not.
    pub reads: (u64, u64),
    /// Cuts, and pages in them.
    pub cuts: (u64, u64),
    /// Clock reads that the vDSO answered by itself, all as predicted.
    pub vdso_reads: u64,
    /// Error of the reads that came to the door, ns: median, 99 %, largest.
    pub clock_error: (u64, u64, u64),
}

impl Stats {
    fn of(r: &Recorder, vdso_reads: u64) -> Stats {
        Stats {
            asked: (0..)
                .zip(r.asked)
                .filter(|(_, (asked, _))| *asked > 0)
                .map(|(k, (a, l))| (k, a, l))
                .collect(),
            reads: r.reads,
            cuts: r.cuts,
            vdso_reads,
            clock_error: (r.errors.percentile(50), r.errors.percentile(99), r.errors.max_ns),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&self.asked, &mut out);
        self.reads.put(&mut out);
        self.cuts.put(&mut out);
        self.vdso_reads.put(&mut out);
        self.clock_error.put(&mut out);
        out
    }

    /// Reads them back.
    pub fn decode(mut src: &[u8]) -> Option<Stats> {
        let src = &mut src;
        Some(Stats {
            asked: take_list(src)?,
            reads: Wire::take(src)?,
            cuts: Wire::take(src)?,
            vdso_reads: Wire::take(src)?,
            clock_error: Wire::take(src)?,
        })
    }
}
