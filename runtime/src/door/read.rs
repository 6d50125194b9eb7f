//! Reading a log's directory: segments in their order, frames, records. For replay and for tools.

use ftl_core::log::frame::{Batch, HEADER_LEN, Header, next_frame};
use ftl_core::log::{Coder, FrameError, Record};
use memmap2::Mmap;
use std::path::{Path, PathBuf};

/// A log that is being read.
pub struct Reader {
    dir: PathBuf,
    segment: u32,
    map: Bytes,
    at: usize,
    /// The first segment's header.
    pub header: Header,
    /// Records read so far.
    pub position: u64,
    /// Why nothing more comes, if that is not simply the end.
    pub ended_by: Option<FrameError>,
    done: bool,
}

/// What frames are read from.
enum Bytes {
    /// A segment.
    Map(Mmap),
    /// Memory.
    Own(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Map(m) => m,
            Bytes::Own(v) => v,
        }
    }
}

/// Name of a segment's file.
pub fn segment_name(n: u32) -> String {
    format!("{n:06}.ftlog")
}

fn open_segment(dir: &Path, n: u32) -> Result<(Mmap, Header), String> {
    let path = dir.join(segment_name(n));
    let name = path.display();
    let file = std::fs::File::open(&path).map_err(|e| format!("log {name}: {e}"))?;
    // SAFETY: the log is ours; if somebody truncates it meanwhile the run ends with a fault message.
    let map = unsafe { Mmap::map(&file) }.map_err(|e| format!("log {name}: {e}"))?;
    let header = Header::parse(&map).map_err(|e| format!("log {name}: {e}"))?;
    Ok((map, header))
}

impl Reader {
    /// Opens a log's directory.
    pub fn open(dir: &Path) -> Result<Reader, String> {
        let (map, header) = open_segment(dir, 0)?;
        Ok(Reader {
            dir: dir.to_path_buf(),
            segment: 0,
            map: Bytes::Map(map),
            at: HEADER_LEN,
            header,
            position: 0,
            ended_by: None,
            done: false,
        })
    }

    /// Frames in memory, the first of which may have any position.
    pub fn of_frames(image: u64, frames: Vec<u8>) -> Reader {
        Reader {
            dir: PathBuf::new(),
            segment: 0,
            at: 0,
            header: Header {
                format: ftl_core::log::frame::FORMAT,
                build: super::record::build_id(),
                image,
            },
            position: next_frame(&frames, image).map_or(0, |(b, _)| b.position),
            ended_by: None,
            done: false,
            map: Bytes::Own(frames),
        }
    }

    /// There is no frame at all.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Skips to the frame that starts with record `position`. False if there is none.
    pub fn skip_to(&mut self, position: u64) -> bool {
        while self.position < position {
            if self.frame().is_none() {
                return false;
            }
        }
        self.position == position
    }

    /// The next frame and its bytes' length. `None` at the end of what is valid.
    pub fn frame(&mut self) -> Option<(Batch, usize)> {
        while !self.done {
            let rest = self.map.get(self.at..).unwrap_or(&[]);
            if rest.is_empty() {
                self.next_segment();
                continue;
            }
            match next_frame(rest, self.header.image) {
                Ok((batch, len)) if batch.position == self.position => {
                    self.at += len;
                    self.position += u64::from(batch.count);
                    return Some((batch, len));
                }
                // A frame that is whole and at the wrong place: one before it is missing.
                Ok(_) => self.end(FrameError::Damaged),
                Err(e) => self.end(e),
            }
        }
        None
    }

    fn end(&mut self, why: FrameError) {
        self.done = true;
        self.ended_by = Some(why);
    }

    /// A segment that is not there is the normal end.
    fn next_segment(&mut self) {
        if let Bytes::Own(_) = self.map {
            self.done = true;
            return;
        }
        self.segment += 1;
        if !self.dir.join(segment_name(self.segment)).exists() {
            self.done = true;
            return;
        }
        match open_segment(&self.dir, self.segment) {
            Ok((map, header)) if header == self.header => {
                self.map = Bytes::Map(map);
                self.at = HEADER_LEN;
            }
            Ok((_, header)) => self.end(FrameError::OtherImage(header.image)),
            Err(_) => self.end(FrameError::NotALog),
        }
    }

    /// The records of the next frame, up to the first that is damaged.
    pub fn records(&mut self) -> Option<Vec<Record>> {
        let (batch, _) = self.frame()?;
        let mut coder = Coder::default();
        let mut src = batch.bytes.as_slice();
        let mut out = Vec::new();
        for _ in 0..batch.count {
            match coder.take(&mut src) {
                Some(r) => out.push(r),
                None => {
                    self.end(FrameError::Damaged);
                    break;
                }
            }
        }
        Some(out)
    }
}
