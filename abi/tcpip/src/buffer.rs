//! A stream's bytes in a ring that grows when it is needed, up to a limit that is what the window
//! shows: a flow that moves nothing costs nothing.

/// Smallest piece of memory that a buffer takes.
const LEAST: usize = 2048;
/// What an empty buffer may keep.
const KEPT: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct StreamBuf {
    ring: Vec<u8>,
    head: usize,
    len: usize,
    limit: usize,
    most: usize,
}

impl StreamBuf {
    /// Holds `limit` bytes for now, and never more than `most`.
    pub fn new(limit: usize, most: usize) -> StreamBuf {
        StreamBuf {
            ring: Vec::new(),
            head: 0,
            len: 0,
            limit: limit.min(most),
            most,
        }
    }

    /// The largest limit there can be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Changes how much it holds; what is in it stays.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(self.most);
    }

    /// How much it holds.
    pub fn capacity(&self) -> usize {
        self.limit
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No byte in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// No room.
    pub fn is_full(&self) -> bool {
        self.window() == 0
    }

    /// Room.
    pub fn window(&self) -> usize {
        self.limit.saturating_sub(self.len)
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.ring.len()
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.len = 0;
        self.head = 0;
        self.ring = Vec::new();
    }

    /// Gives memory back; only for a buffer with nothing in it and nothing beyond its end.
    pub fn trim(&mut self) {
        if self.len == 0 && self.ring.len() > KEPT {
            self.ring = Vec::new();
            self.head = 0;
        }
    }

    /// Makes room for `total` bytes from the front on. What lies beyond the end moves along.
    fn reserve(&mut self, total: usize) {
        let old = self.ring.len();
        if total <= old {
            return;
        }
        let mut ring = Vec::with_capacity(total.next_power_of_two().max(LEAST));
        ring.extend_from_slice(&self.ring[self.head..]);
        ring.extend_from_slice(&self.ring[..self.head]);
        ring.resize(ring.capacity(), 0);
        self.ring = ring;
        self.head = 0;
    }

    /// The ring's place of the byte at `offset`, and how many follow without a break.
    fn place(&self, offset: usize) -> (usize, usize) {
        let at = self.head + offset;
        let at = if at >= self.ring.len() {
            at - self.ring.len()
        } else {
            at
        };
        (at, self.ring.len() - at)
    }

    fn put(&mut self, offset: usize, data: &[u8]) {
        self.reserve(offset + data.len());
        let (at, straight) = self.place(offset);
        let n = data.len().min(straight);
        self.ring[at..at + n].copy_from_slice(&data[..n]);
        self.ring[..data.len() - n].copy_from_slice(&data[n..]);
    }

    /// Appends what there is room for.
    pub fn enqueue_slice(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.window());
        self.put(self.len, &data[..n]);
        self.len += n;
        n
    }

    /// Appends what `f` writes into the room that follows without a break, at most `most` bytes. Only for a buffer
    /// that has nothing beyond its end.
    pub fn enqueue_many_with<'b, R>(
        &'b mut self,
        most: usize,
        f: impl FnOnce(&'b mut [u8]) -> (usize, R),
    ) -> (usize, R) {
        // Memory is taken for what comes, not for what could: zeroing that costs more than a short answer.
        let want = self.window().min(most).min(64 * 1024);
        if self.len == 0 {
            // A segment is sent from bytes without a break: one that goes around the end is two frames.
            self.head = 0;
        }
        self.reserve(self.len + want);
        let (at, straight) = self.place(self.len);
        let n = want.min(straight);
        let StreamBuf { ring, len, .. } = self;
        let (done, r) = f(&mut ring[at..at + n]);
        *len += done.min(n);
        (done, r)
    }

    /// Places bytes beyond the end: `offset` counts from there.
    pub fn write_unallocated(&mut self, offset: usize, data: &[u8]) -> usize {
        let n = data.len().min(self.window().saturating_sub(offset));
        self.put(self.len + offset, &data[..n]);
        n
    }

    /// What was placed beyond the end becomes part of it.
    pub fn enqueue_unallocated(&mut self, n: usize) {
        self.len += n;
        assert!(self.len <= self.ring.len(), "bytes that were never written");
    }

    /// Bytes from `offset` on, at most `size`, as many as follow without a break.
    pub fn get_allocated(&self, offset: usize, size: usize) -> &[u8] {
        let n = size.min(self.len.saturating_sub(offset));
        if n == 0 {
            return &[];
        }
        let (at, straight) = self.place(offset);
        &self.ring[at..at + n.min(straight)]
    }

    /// Copies bytes from `offset` on.
    pub fn read_allocated(&self, offset: usize, data: &mut [u8]) -> usize {
        let a = self.get_allocated(offset, data.len());
        data[..a.len()].copy_from_slice(a);
        let b = self.get_allocated(offset + a.len(), data.len() - a.len());
        data[a.len()..a.len() + b.len()].copy_from_slice(b);
        a.len() + b.len()
    }

    /// Drops the first `n` bytes.
    pub fn dequeue_allocated(&mut self, n: usize) {
        assert!(n <= self.len, "bytes that are not there");
        self.len -= n;
        if n > 0 {
            self.head = self.place(n).0;
        }
    }

    /// Takes bytes off the front into `data`.
    pub fn dequeue_slice(&mut self, data: &mut [u8]) -> usize {
        let n = self.read_allocated(0, data);
        self.dequeue_allocated(n);
        n
    }

    /// Takes what `f` says of the first bytes that follow without a break.
    pub fn dequeue_many_with<'b, R>(&'b mut self, f: impl FnOnce(&'b mut [u8]) -> (usize, R)) -> (usize, R) {
        let (at, n) = if self.len == 0 {
            (0, 0)
        } else {
            let (at, straight) = self.place(0);
            (at, straight.min(self.len))
        };
        let StreamBuf { ring, head, len, .. } = self;
        let room = ring.len();
        let (done, r) = f(&mut ring[at..at + n]);
        let done = done.min(n);
        *len -= done;
        *head = if *head + done >= room && room > 0 {
            *head + done - room
        } else {
            *head + done
        };
        (done, r)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_what_lies_beyond_its_end() {
        let mut b = StreamBuf::new(10_000, 10_000);
        assert_eq!(b.memory(), 0);
        assert_eq!(b.enqueue_slice(&[1; 2000]), 2000);
        b.dequeue_allocated(1500);
        assert_eq!(b.write_unallocated(100, &[3; 50]), 50);
        assert_eq!(b.write_unallocated(5000, &[4; 10]), 10);
        assert_eq!(b.write_unallocated(0, &[2; 100]), 100);
        b.enqueue_unallocated(150);
        let mut out = vec![0; 700];
        assert_eq!(b.dequeue_slice(&mut out), 650);
        assert_eq!(
            (out[499], out[500], out[599], out[600], out[649]),
            (1, 2, 2, 3, 3)
        );
        assert_eq!(b.write_unallocated(0, &[5; 4850]), 4850);
        b.enqueue_unallocated(4860);
        b.dequeue_allocated(4850);
        assert_eq!(b.get_allocated(0, 100), &[4; 10]);
        assert_eq!(b.window(), 9990);
        b.dequeue_allocated(10);
        b.trim();
        assert_eq!(b.memory(), 0);
    }

    #[test]
    fn wraps() {
        let mut b = StreamBuf::new(LEAST, LEAST);
        let mut next = (0u8, 0u8);
        for step in 1..2000 {
            let data: Vec<u8> = (0..step % 700)
                .map(|_| {
                    next.0 = next.0.wrapping_add(1);
                    next.0
                })
                .collect();
            let n = b.enqueue_slice(&data);
            next.0 = next.0.wrapping_sub((data.len() - n) as u8);
            let mut out = vec![0; (step * 7) % 900];
            let n = b.dequeue_slice(&mut out);
            for v in &out[..n] {
                next.1 = next.1.wrapping_add(1);
                assert_eq!(*v, next.1);
            }
        }
        assert!(b.memory() <= LEAST);
    }
}
