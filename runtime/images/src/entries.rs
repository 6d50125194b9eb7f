//! The entries of a tar archive, in memory that is bounded whatever the archive says.
//!
//! ustar, GNU's long names and sparse files, PAX's records (POSIX.1-2017, pax; tar(5)). The headers themselves are read by the
//! `tar` crate; its own iterator holds extension headers of any length whole.

use crate::{Result, reason};
use std::io::Read;
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

/// Bytes of the extension headers of one entry that are read, each kind; names have 4096.
pub const MAX_EXTENSION: u64 = 1 << 20;
/// Most parts of a sparse file.
const MAX_PARTS: usize = 1 << 16;
const BLOCK: u64 = 512;

/// What an archive holds, one after the other.
pub struct Entries<R> {
    src: R,
    /// Bytes of the last entry that were not read yet, with what fills its block.
    left: u64,
    padding: u64,
}

/// The header of an entry with what its extension headers say.
pub struct Entry {
    /// Its own header.
    pub header: Header,
    /// Its name.
    pub path: Vec<u8>,
    /// Where a link leads to.
    pub link: Option<Vec<u8>>,
    /// PAX's records, in their order; without `path`, `linkpath` and `size`.
    pub records: Vec<(String, Vec<u8>)>,
    /// Bytes that its contents have, holes of a sparse file too.
    pub size: u64,
    /// Parts of a sparse file: offset and length. `None`: all of it.
    parts: Option<Vec<(u64, u64)>>,
}

fn io(e: std::io::Error) -> String {
    reason(&e)
}

/// Without the NUL that ends it.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

impl<R: Read> Entries<R> {
    /// Of an archive that begins here.
    pub fn new(src: R) -> Entries<R> {
        Entries {
            src,
            left: 0,
            padding: 0,
        }
    }

    /// The next entry, past what was not read of the last one; `None` at the end of the archive.
    #[allow(
        clippy::should_implement_trait,
        reason = "the contents are read from self between two entries"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let (mut path, mut link, mut records) = (None, None, None);
        loop {
            let extended = path.is_some() || link.is_some() || records.is_some();
            let Some(header) = self.header()? else {
                return match extended {
                    true => Err("ends behind a header that belongs to another entry".to_string()),
                    false => Ok(None),
                };
            };
            let size = header.entry_size().map_err(io)?;
            let twice = |there: bool| match there {
                true => Err("two long names, or lists of attributes, for one entry".to_string()),
                false => Ok(()),
            };
            match header.entry_type() {
                EntryType::GNULongName => {
                    twice(path.is_some())?;
                    path = Some(text(self.extension(size)?));
                }
                EntryType::GNULongLink => {
                    twice(link.is_some())?;
                    link = Some(text(self.extension(size)?));
                }
                EntryType::XHeader => {
                    twice(records.is_some())?;
                    records = Some(parse_records(&self.extension(size)?)?);
                }
                // For all that follow: nothing in it concerns an entry's contents.
                EntryType::XGlobalHeader => self.begin(size)?,
                _ => {
                    return self
                        .entry(header, path, link, records.unwrap_or_default())
                        .map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: Header,
        path: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
        all: Vec<(String, Vec<u8>)>,
    ) -> Result<Entry> {
        use EntryType as T;
        let mut path = path;
        let mut link = link;
        let mut packed = header.entry_size().map_err(io)?;
        let (mut pax_path, mut pax_link, mut records) = (None, None, Vec::new());
        for (key, value) in all {
            match key.as_str() {
                "path" => pax_path = Some(value),
                "linkpath" => pax_link = Some(value),
                "size" => {
                    let n = std::str::from_utf8(&value).ok().and_then(|v| v.parse().ok());
                    packed = n.ok_or("size: not a number")?;
                }
                k if k.starts_with("GNU.sparse.") => {
                    return Err("a sparse file in PAX's form, which is not known here".to_string());
                }
                _ => records.push((key, value)),
            }
        }
        path = path.or(pax_path);
        link = link.or(pax_link);
        let kind = header.entry_type();
        // What has no contents may still tell a size (a hard link that of its file): nothing of it follows.
        if matches!(
            kind,
            T::Link | T::Symlink | T::Char | T::Block | T::Directory | T::Fifo
        ) {
            packed = 0;
        }
        let (mut size, mut parts) = (packed, None);
        if kind == T::GNUSparse {
            let (whole, list) = self.sparse(&header, packed)?;
            (size, parts) = (whole, Some(list));
        }
        self.begin(packed)?;
        Ok(Entry {
            path: path.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: link.or_else(|| header.link_name_bytes().map(|l| l.into_owned())),
            header,
            records,
            size,
            parts,
        })
    }

    /// A header, its sum checked; `None` at the end.
    fn header(&mut self) -> Result<Option<Header>> {
        let rest = self
            .left
            .checked_add(self.padding)
            .ok_or("a size that cannot be")?;
        let skipped = std::io::copy(&mut (&mut self.src).take(rest), &mut std::io::sink()).map_err(io)?;
        if skipped < rest {
            return Err("the archive is cut short".to_string());
        }
        (self.left, self.padding) = (0, 0);
        let mut header = Header::new_old();
        let n = fill(&mut self.src, header.as_mut_bytes())?;
        if n == 0 || header.as_bytes().iter().all(|b| *b == 0) {
            return Ok(None);
        }
        if n < BLOCK as usize {
            return Err("the archive is cut short".to_string());
        }
        let bytes = header.as_bytes();
        let sum = bytes[..148]
            .iter()
            .chain(&bytes[156..])
            .map(|b| u32::from(*b))
            .sum::<u32>()
            + 8 * 32;
        match header.cksum().map_err(io)? == sum {
            true => Ok(Some(header)),
            false => Err("a damaged header: its sum is wrong".to_string()),
        }
    }

    fn begin(&mut self, size: u64) -> Result<()> {
        self.left = size;
        self.padding = size
            .checked_next_multiple_of(BLOCK)
            .ok_or("a size that cannot be")?
            - size;
        Ok(())
    }

    /// The contents of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(format!(
                "a header of {size} bytes: more than {MAX_EXTENSION} are not read"
            ));
        }
        self.begin(size)?;
        let mut bytes = vec![0; size as usize];
        if fill(&mut self.src, &mut bytes)? < bytes.len() {
            return Err("the archive is cut short".to_string());
        }
        self.left = 0;
        Ok(bytes)
    }

    /// Size and parts of GNU's sparse file; the headers with more parts come before its contents.
    fn sparse(&mut self, header: &Header, packed: u64) -> Result<(u64, Vec<(u64, u64)>)> {
        const WRONG: &str = "a sparse file whose parts cannot be";
        let gnu = header.as_gnu().ok_or(WRONG)?;
        let whole = gnu.real_size().map_err(io)?;
        let (mut parts, mut at, mut sum) = (Vec::new(), 0, 0u64);
        let mut add = |list: &[GnuSparseHeader]| -> Result<()> {
            for part in list.iter().filter(|p| !p.is_empty()) {
                let (offset, len) = (part.offset().map_err(io)?, part.length().map_err(io)?);
                if offset < at || parts.len() == MAX_PARTS {
                    return Err(WRONG.to_string());
                }
                at = offset.checked_add(len).ok_or(WRONG)?;
                sum = sum.checked_add(len).ok_or(WRONG)?;
                parts.push((offset, len));
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        // A header without parts is none that ends.
        let mut blocks = 0;
        while more {
            blocks += 1;
            let mut next = GnuExtSparseHeader::new();
            if blocks > MAX_PARTS || fill(&mut self.src, next.as_mut_bytes())? < BLOCK as usize {
                return Err(WRONG.to_string());
            }
            add(&next.sparse)?;
            more = next.is_extended();
        }
        match at <= whole && sum == packed {
            true => Ok((whole, parts)),
            false => Err(WRONG.to_string()),
        }
    }

    /// What an entry holds; before the next one is asked for.
    pub fn contents<'a>(&'a mut self, entry: &'a Entry) -> Contents<'a, R> {
        Contents {
            parts: entry.parts.as_deref(),
            size: entry.size,
            at: 0,
            entries: self,
        }
    }
}

/// The contents of an entry, holes as zeros.
pub struct Contents<'a, R> {
    entries: &'a mut Entries<R>,
    /// Parts that do not lie behind.
    parts: Option<&'a [(u64, u64)]>,
    size: u64,
    at: u64,
}

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let (mut hole, mut most) = (false, self.size - self.at);
        if let Some(parts) = &mut self.parts {
            while parts.first().is_some_and(|(offset, len)| offset + len <= self.at) {
                *parts = &parts[1..];
            }
            match parts.first() {
                Some((offset, len)) if *offset <= self.at => most = offset + len - self.at,
                Some((offset, _)) => (hole, most) = (true, offset - self.at),
                None => hole = true,
            }
        }
        let n = most.min(buf.len() as u64) as usize;
        let n = match hole {
            // A decompressor takes an empty buffer for a mistake.
            _ if n == 0 => 0,
            true => {
                buf[..n].fill(0);
                n
            }
            false => {
                let n = self.entries.src.read(&mut buf[..n])?;
                self.entries.left -= n as u64;
                n
            }
        };
        self.at += n as u64;
        Ok(n)
    }
}

/// As many bytes as there are, at most all.
fn fill(src: &mut impl Read, buf: &mut [u8]) -> Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match src.read(&mut buf[n..]) {
            Ok(0) => break,
            Ok(k) => n += k,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(io(e)),
        }
    }
    Ok(n)
}

/// `LENGTH KEY=VALUE\n`, one after the other.
fn parse_records(mut bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let wrong = || "a damaged list of attributes".to_string();
    let mut out = Vec::new();
    // Some writers fill up with NULs.
    while !bytes.is_empty() && bytes[0] != 0 {
        let digits = bytes.iter().position(|b| *b == b' ').ok_or_else(wrong)?;
        let length: usize = std::str::from_utf8(&bytes[..digits])
            .ok()
            .and_then(|n| n.parse().ok())
            .filter(|n| *n > digits + 1 && *n <= bytes.len())
            .ok_or_else(wrong)?;
        let record = bytes[digits + 1..length].strip_suffix(b"\n").ok_or_else(wrong)?;
        let sign = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
        // A key that is no text is none that we know.
        if let Ok(key) = std::str::from_utf8(&record[..sign]) {
            out.push((key.to_string(), record[sign + 1..].to_vec()));
        }
        bytes = &bytes[length..];
    }
    Ok(out)
}
