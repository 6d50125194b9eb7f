//! The receive queue of a stream: the chunks as they came, read from the front.

use ftl_core::errno::Errno;
use ftl_core::io::Dst;
use ftl_core::platform::Platform;
use std::collections::VecDeque;

/// A chunk smaller than this is appended to the last one rather than kept apart.
const SMALL: usize = 512;

/// Bytes received and not read yet.
#[derive(Default)]
pub struct Bytes {
    chunks: VecDeque<Vec<u8>>,
    head: usize,
    len: usize,
}

impl Bytes {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing to read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends.
    pub fn push(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        match self.chunks.back_mut() {
            Some(last) if bytes.len() < SMALL && last.len() < 16 * SMALL => last.extend_from_slice(&bytes),
            _ => self.chunks.push_back(bytes),
        }
    }

    /// Copies to `dst` as much as fits, and takes it out unless `peek`.
    pub fn read(&mut self, plat: &mut dyn Platform, dst: &mut Dst, peek: bool) -> Result<usize, Errno> {
        let mut done = 0;
        let mut at = self.head;
        for chunk in &self.chunks {
            if dst.remaining() == 0 {
                break;
            }
            match dst.put(plat, &chunk[at..]) {
                Ok(n) => {
                    done += n;
                    if n < chunk.len() - at {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
            at = 0;
        }
        if !peek {
            self.skip(done);
        }
        Ok(done)
    }

    /// Drops the first `n` bytes.
    pub fn skip(&mut self, mut n: usize) {
        n = n.min(self.len);
        self.len -= n;
        while n > 0 {
            let Some(front) = self.chunks.front() else { return };
            let here = front.len() - self.head;
            if n < here {
                self.head += n;
                return;
            }
            n -= here;
            self.head = 0;
            self.chunks.pop_front();
        }
    }
}
