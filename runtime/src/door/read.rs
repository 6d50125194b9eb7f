//! Reading a log's directory: segments in their order, frames, records. For replay and for tools.
//!
//! Segments are read, not mapped: a mapping would belong to one process of a replayed image, and the
//! reader goes along with the token; a truncated file would be a fault and not an error.

use super::zip;
use ftl_core::log::block;
use ftl_core::log::frame::{Batch, Coding, HEADER_LEN, Header, next_frame};
use ftl_core::log::{Coder, FrameError, Record};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes read at once from a segment that is not packed.
const CHUNK: usize = 256 << 10;

/// A log that is being read.
pub struct Reader {
    dir: PathBuf,
    number: u32,
    segment: Segment,
    /// The first segment's header.
    pub header: Header,
    /// Records read so far.
    pub position: u64,
    /// Why nothing more comes, if that is not simply the end.
    pub ended_by: Option<FrameError>,
    done: bool,
    /// Pages of a cut that has not been read yet.
    parts: Vec<Vec<u8>>,
    /// The first frame may have any position: what was before it is not read, or not there any more.
    anywhere: bool,
}

/// A segment's file, and the part of its byte stream that was read and not used.
struct Segment {
    /// None for frames in memory.
    file: Option<File>,
    coding: Coding,
    offset: u64,
    buf: Vec<u8>,
    at: usize,
}

/// Name of a segment's file.
pub fn segment_name(n: u32) -> String {
    format!("{n:06}.ftlog")
}

fn read_at(file: &File, mut buf: &mut [u8], mut offset: u64) -> Result<usize, FrameError> {
    let mut got = 0;
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => break,
            Ok(n) => {
                got += n;
                offset += n as u64;
                buf = &mut buf[n..];
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Err(FrameError::Damaged),
        }
    }
    Ok(got)
}

impl Segment {
    fn open(path: &Path) -> Result<(Segment, Header), String> {
        let bad = |e: &dyn std::fmt::Display| format!("log {}: {e}", path.display());
        let file = File::open(path).map_err(|e| bad(&e))?;
        let mut head = [0; HEADER_LEN];
        let n = read_at(&file, &mut head, 0).map_err(|e| bad(&e))?;
        let header = Header::parse(&head[..n]).map_err(|e| bad(&e))?;
        let segment = Segment {
            file: Some(file),
            coding: header.coding,
            offset: HEADER_LEN as u64,
            buf: Vec::new(),
            at: 0,
        };
        Ok((segment, header))
    }

    /// The next frame and its length; `None` at the segment's end.
    fn frame(&mut self, image: u64) -> Result<Option<(Batch, usize)>, FrameError> {
        loop {
            match next_frame(&self.buf[self.at..], image) {
                Err(FrameError::Short) if self.more()? => {}
                Err(FrameError::Short) if self.at == self.buf.len() => return Ok(None),
                Ok((batch, len)) => {
                    self.at += len;
                    return Ok(Some((batch, len)));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Position of the first frame, which stays the next one.
    fn first_position(&mut self, image: u64) -> Option<u64> {
        match self.frame(image) {
            Ok(Some((batch, len))) => {
                self.at -= len;
                Some(batch.position)
            }
            _ => None,
        }
    }

    /// Appends more of the byte stream. False at the file's end.
    fn more(&mut self) -> Result<bool, FrameError> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        self.buf.drain(..self.at);
        self.at = 0;
        match self.coding {
            Coding::Plain => {
                let start = self.buf.len();
                self.buf.resize(start + CHUNK, 0);
                let n = read_at(file, &mut self.buf[start..], self.offset)?;
                self.buf.truncate(start + n);
                self.offset += n as u64;
                Ok(n > 0)
            }
            Coding::Zstd => {
                let mut packed = vec![0; block::HEAD_LEN];
                match read_at(file, &mut packed, self.offset)? {
                    0 => return Ok(false),
                    n => packed.truncate(n),
                }
                packed.resize(block::block_len(&packed)?, 0);
                let n = read_at(file, &mut packed, self.offset)?;
                let (b, len) = block::next_block(&packed[..n])?;
                if !zip::unpack(&b, &mut self.buf) {
                    return Err(FrameError::Damaged);
                }
                self.offset += len as u64;
                Ok(true)
            }
        }
    }
}

impl Reader {
    /// Opens a log's directory: from the first segment that is there.
    pub fn open(dir: &Path) -> Result<Reader, String> {
        let first = || numbers(dir).first().copied().unwrap_or(0);
        let mut number = first();
        loop {
            let opened = Reader::open_at(dir, number);
            // `--keep` deletes the first while the log is written.
            match first() {
                n if opened.is_err() && n > number => number = n,
                _ => return opened,
            }
        }
    }

    /// Opens a log's directory from segment `number` on.
    pub fn open_at(dir: &Path, number: u32) -> Result<Reader, String> {
        let (segment, header) = Segment::open(&dir.join(segment_name(number)))?;
        Ok(Reader {
            dir: dir.to_path_buf(),
            number,
            segment,
            header,
            position: 0,
            ended_by: None,
            done: false,
            parts: Vec::new(),
            anywhere: number > 0,
        })
    }

    /// It begins where the image did: `record --keep` has deleted nothing.
    pub fn is_from_start(&self) -> bool {
        self.number == 0
    }

    /// Frames in memory, the first of which may have any position.
    pub fn of_frames(image: u64, frames: Vec<u8>) -> Reader {
        Reader {
            dir: PathBuf::new(),
            number: 0,
            header: Header {
                format: ftl_core::log::frame::FORMAT,
                coding: Coding::Plain,
                build: super::record::build_id(),
                image,
            },
            position: next_frame(&frames, image).map_or(0, |(b, _)| b.position),
            ended_by: None,
            done: false,
            parts: Vec::new(),
            anywhere: false,
            segment: Segment {
                file: None,
                coding: Coding::Plain,
                offset: 0,
                buf: frames,
                at: 0,
            },
        }
    }

    /// The log is being written: what was its end may not be any more. False if it is damaged, or if what comes next
    /// was deleted.
    pub fn look_again(&mut self) -> bool {
        if !matches!(self.ended_by, None | Some(FrameError::Short)) {
            return false;
        }
        (self.done, self.ended_by) = (false, None);
        numbers(&self.dir).first().is_none_or(|n| *n <= self.number)
    }

    /// A recorder may append to what has been read so far.
    pub fn is_written(&self) -> bool {
        let more = self.dir.join(segment_name(self.number + 1)).exists();
        more || self.segment.file.as_ref().is_some_and(super::record::is_written)
    }

    /// Nothing more will be read.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// There is no frame at all: of frames in memory.
    pub fn is_empty(&self) -> bool {
        self.segment.file.is_none() && self.segment.buf.is_empty()
    }

    /// Skips to the frame that starts with record `position`. False if there is none.
    pub fn skip_to(&mut self, position: u64) -> bool {
        if self.anywhere {
            // An anchor begins a segment: then there is nothing to skip.
            match self.segment.first_position(self.header.image) {
                Some(first) => self.position = first,
                // No frame has followed yet.
                None => self.position = position,
            }
            self.anywhere = false;
        }
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
            match self.segment.frame(self.header.image) {
                Ok(Some((batch, len))) if batch.position == self.position || self.anywhere => {
                    self.anywhere = false;
                    self.position = batch.position + u64::from(batch.count);
                    return Some((batch, len));
                }
                // A frame that is whole and at the wrong place: one before it is missing.
                Ok(Some(_)) => self.end(FrameError::Damaged),
                Ok(None) => self.next_segment(),
                Err(e) => self.end(e),
            }
        }
        None
    }

    fn end(&mut self, why: FrameError) {
        self.done = true;
        self.ended_by = Some(why);
    }

    /// A segment that is not there is the normal end; so is one whose header was never written.
    fn next_segment(&mut self) {
        if self.segment.file.is_none() {
            self.done = true;
            return;
        }
        let next = self.number + 1;
        let path = self.dir.join(segment_name(next));
        let Ok(meta) = std::fs::metadata(&path) else {
            self.done = true;
            return;
        };
        match Segment::open(&path) {
            Ok((segment, header)) if same_log(&header, &self.header) => {
                self.segment = segment;
                self.number = next;
            }
            Ok((_, header)) => self.end(FrameError::OtherImage(header.image)),
            Err(_) if meta.len() < HEADER_LEN as u64 => self.end(FrameError::Short),
            Err(_) => self.end(FrameError::NotALog),
        }
    }

    /// The records of the next frame, up to the first that is damaged. A cut has all its parts in it; of one that is not in
    /// the log nothing is given, and a frame without anything else is passed over.
    pub fn records(&mut self) -> Option<Vec<Record>> {
        loop {
            let (batch, _) = self.frame()?;
            let mut coder = Coder::default();
            let mut src = batch.bytes.as_slice();
            let mut out = Vec::new();
            for _ in 0..batch.count {
                match coder.take(&mut src) {
                    Some(Record::Part(bytes)) => self.parts.push(bytes),
                    Some(Record::Cut { e, mut bytes }) => {
                        for part in self.parts.drain(..) {
                            bytes.extend(part);
                        }
                        out.push(Record::Cut { e, bytes });
                    }
                    Some(r) => out.push(r),
                    None => {
                        self.end(FrameError::Damaged);
                        break;
                    }
                }
            }
            if !out.is_empty() {
                return Some(out);
            }
        }
    }
}

fn same_log(a: &Header, b: &Header) -> bool {
    Header {
        coding: b.coding,
        ..*a
    } == *b
}

/// Numbers of a log's segments that are there, ascending.
pub fn numbers(dir: &Path) -> Vec<u32> {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let number = |name: &str| {
        let n: u32 = name.strip_suffix(".ftlog")?.parse().ok()?;
        (segment_name(n) == name).then_some(n)
    };
    let mut all: Vec<u32> = names.filter_map(|e| number(e.file_name().to_str()?)).collect();
    all.sort_unstable();
    all
}

/// Files of a log's segments that are there, with their lengths.
pub fn segments(dir: &Path) -> Vec<(PathBuf, u64)> {
    let paths = numbers(dir).into_iter().map(|n| dir.join(segment_name(n)));
    paths
        .filter_map(|p| std::fs::metadata(&p).ok().map(|m| (p, m.len())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftl_core::log::frame::{Batch, write_frame};

    /// A log of frames with these records each.
    fn log(frames: &[&[Record]]) -> Reader {
        let (mut bytes, mut position) = (Vec::new(), 0);
        for records in frames {
            let mut coder = Coder::default();
            let mut batch = Batch {
                position,
                count: records.len() as u32,
                horizon_e: 0,
                horizon_v: 0,
                bytes: Vec::new(),
            };
            records.iter().for_each(|r| coder.put(r, &mut batch.bytes));
            position += records.len() as u64;
            write_frame(1, 0, 0, &batch, &mut bytes);
        }
        Reader::of_frames(1, bytes)
    }

    fn part(n: u8) -> Record {
        Record::Part(vec![n; 3])
    }

    #[test]
    fn a_cut_comes_with_its_parts_and_not_before() {
        let cut = |bytes: &[u8]| Record::Cut {
            e: 7,
            bytes: bytes.to_vec(),
        };
        let clock = Record::Clock { e: 8, v: Some(1) };
        let mut l = log(&[&[part(1)], &[part(2)], &[cut(&[9]), clock.clone()], &[cut(&[5])]]);
        assert_eq!(l.records(), Some(vec![cut(&[9, 1, 1, 1, 2, 2, 2]), clock]));
        assert_eq!(l.records(), Some(vec![cut(&[5])]));
        assert_eq!((l.records(), l.position), (None, 5));
    }

    #[test]
    fn parts_without_their_cut_are_the_end() {
        let clock = Record::Clock { e: 3, v: None };
        let mut l = log(&[&[clock.clone(), part(1)], &[part(2)]]);
        assert_eq!(l.records(), Some(vec![clock]));
        // They count as records all the same: what is written next comes behind them.
        assert_eq!((l.records(), l.position, l.is_done()), (None, 3, true));
    }
}
