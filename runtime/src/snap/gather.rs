//! Bytes on their way to a file, gathered: whoever writes a snapshot gives pages one by one and by the thousand.

use ftl_core::layout::PAGE;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

/// Pages that are written at once.
const PAGES: usize = 256;

/// A page's worth of bytes that lies where the host takes it from without copying it.
#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Aligned([u8; PAGE as usize]);

/// See the module. What was not ended ([`Gather::end`]) may not be in the file.
pub struct Gather<'a> {
    file: &'a mut File,
    buf: Box<[Aligned]>,
    len: usize,
    /// The host's page cache is passed by.
    direct: bool,
}

impl Gather<'_> {
    /// The file.
    pub fn file(&self) -> &File {
        self.file
    }

    /// Bytes go behind what was written to the file.
    pub fn new(file: &mut File) -> Gather<'_> {
        Gather {
            file,
            buf: vec![Aligned([0; PAGE as usize]); PAGES].into(),
            len: 0,
            direct: false,
        }
    }

    /// From here on the host's page cache is passed by, if the file system can: for what is not read soon. Nothing but whole
    /// pages must have been written to the file before.
    pub fn past_the_cache(&mut self) {
        self.direct = set_direct(self.file, true);
    }

    fn bytes(&mut self) -> &mut [u8] {
        let len = size_of_val(&*self.buf);
        // SAFETY: the pages are bytes, one behind the other.
        unsafe { std::slice::from_raw_parts_mut(self.buf.as_mut_ptr().cast(), len) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let len = std::mem::take(&mut self.len);
        // SAFETY: as above.
        let bytes = unsafe { std::slice::from_raw_parts(self.buf.as_ptr().cast::<u8>(), len) };
        let mut at = 0;
        while at < len {
            match self.file.write(&bytes[at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => at += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Not on this file system, or not from where the last write has ended.
                Err(e) if self.direct && e.raw_os_error() == Some(libc::EINVAL) => {
                    self.direct = false;
                    set_direct(self.file, false);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let from = self.len;
            let buf = &mut self.bytes()[from..];
            let (now, later) = rest.split_at(rest.len().min(buf.len()));
            buf[..now.len()].copy_from_slice(now);
            let full = now.len() == buf.len();
            self.len += now.len();
            rest = later;
            if full {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes the rest, which need not be whole pages.
    pub fn end(mut self) -> io::Result<()> {
        if std::mem::take(&mut self.direct) {
            set_direct(self.file, false);
        }
        self.flush()
    }
}

/// True if it is so now.
fn set_direct(file: &File, on: bool) -> bool {
    let fd = file.as_raw_fd();
    // SAFETY: plain calls on an open file.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags < 0 {
            return false;
        }
        let flags = match on {
            true => flags | libc::O_DIRECT,
            false => flags & !libc::O_DIRECT,
        };
        libc::fcntl(fd, libc::F_SETFL, flags) == 0 && on
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    /// Writes pieces of odd lengths by way of a file in `dir`; what the file has then.
    fn through(dir: &std::path::Path, direct: bool) -> (Vec<u8>, Vec<u8>) {
        let path = dir.join(format!("ftvm-gather-{}-{direct}", std::process::id()));
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .expect("made");
        std::fs::remove_file(&path).expect("removed");
        let mut all = Vec::new();
        let mut g = Gather::new(&mut file);
        if direct {
            g.past_the_cache();
        }
        for n in [1, 4095, 4096, 3 << 20, 0, 77, 1 << 20, 5] {
            let piece: Vec<u8> = (0..n).map(|i| (i * 7 + n) as u8).collect();
            g.write(&piece).expect("written");
            all.extend(piece);
        }
        g.end().expect("written");
        let mut found = Vec::new();
        file.rewind().expect("rewound");
        file.read_to_end(&mut found).expect("read");
        (all, found)
    }

    #[test]
    fn what_is_given_is_in_the_file() {
        // The second may be memory, which has no cache to pass by.
        for dir in [std::env::temp_dir().as_path(), std::path::Path::new("/dev/shm")] {
            for direct in [false, true] {
                let (given, found) = through(dir, direct);
                assert!(given == found, "{}, direct: {direct}", dir.display());
            }
        }
    }
}
