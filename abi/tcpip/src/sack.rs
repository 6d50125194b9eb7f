//! What the peer has beyond the acknowledged, as its selective acknowledgements tell (RFC 2018).

use smoltcp::wire::TcpSeqNumber as Seq;

/// Most ranges that are remembered; more are forgotten from the far end, which costs a
/// retransmission at worst.
const MOST: usize = 64;

/// Ranges that the peer has, in order, apart from one another.
#[derive(Debug, Default)]
pub struct Scoreboard {
    ranges: Vec<(Seq, Seq)>,
    bytes: usize,
    /// Duplicates that the peer has told of (RFC 2883).
    duplicates: usize,
}

impl Scoreboard {
    /// Takes the ranges of an acknowledgement of `una`; nothing beyond `top` was sent. True if they
    /// told something new.
    pub fn update(&mut self, told: &[Option<(u32, u32)>; 3], una: Seq, top: Seq) -> bool {
        self.acknowledged(una);
        let after_ack = self.bytes;
        for (l, r) in told.iter().flatten() {
            let (l, r) = (Seq(*l as i32), Seq(*r as i32));
            if l < una && r <= una && l < r {
                self.duplicates += 1;
                continue;
            }
            // Nonsense.
            if l < una || r > top || l >= r {
                continue;
            }
            self.add(l, r);
        }
        self.bytes > after_ack
    }

    fn acknowledged(&mut self, una: Seq) {
        if self.ranges.first().is_none_or(|(l, _)| *l >= una) {
            return;
        }
        self.ranges.retain(|(_, r)| *r > una);
        if let Some(first) = self.ranges.first_mut() {
            first.0 = first.0.max(una);
        }
        self.count();
    }

    fn add(&mut self, mut l: Seq, mut r: Seq) {
        if self.ranges.iter().any(|(a, b)| *a <= l && r <= *b) {
            return;
        }
        self.ranges.retain(|(a, b)| {
            let apart = *b < l || r < *a;
            if !apart {
                l = l.min(*a);
                r = r.max(*b);
            }
            apart
        });
        let at = self.ranges.iter().position(|(a, _)| *a > l);
        self.ranges.insert(at.unwrap_or(self.ranges.len()), (l, r));
        self.ranges.truncate(MOST);
        self.count();
    }

    fn count(&mut self) {
        self.bytes = self.ranges.iter().map(|(l, r)| *r - *l).sum();
    }

    /// Bytes that the peer has told it has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Those of them below `top`.
    pub fn bytes_below(&self, top: Seq) -> usize {
        if self.ranges.last().is_none_or(|(_, r)| *r <= top) {
            return self.bytes;
        }
        let below = self.ranges.iter().filter(|(l, _)| *l < top);
        below.map(|(l, r)| (*r).min(top) - *l).sum()
    }

    /// Duplicates told since the last call.
    pub fn take_duplicates(&mut self) -> usize {
        std::mem::take(&mut self.duplicates)
    }

    /// End of all that the peer has told.
    pub fn highest(&self) -> Option<Seq> {
        self.ranges.last().map(|(_, r)| *r)
    }

    /// Where the last hole ends that has `beyond` bytes or more after it.
    fn lost_below(&self, beyond: usize) -> Option<Seq> {
        let mut sum = 0;
        for (l, r) in self.ranges.iter().rev() {
            sum += *r - *l;
            if sum >= beyond {
                return Some(*l);
            }
        }
        None
    }

    /// The first byte at or after `from` that the peer lacks though it has `beyond` later ones, and
    /// how many follow it.
    pub fn hole(&self, from: Seq, beyond: usize) -> Option<(Seq, usize)> {
        let limit = self.lost_below(beyond)?;
        let mut at = from;
        for (l, r) in self.ranges.iter().take_while(|(l, _)| *l <= limit) {
            if at < *l {
                return Some((at, *l - at));
            }
            at = at.max(*r);
        }
        None
    }

    /// Bytes in all such holes from `from` on.
    pub fn holes(&self, from: Seq, beyond: usize) -> usize {
        let Some(limit) = self.lost_below(beyond) else {
            return 0;
        };
        let mut at = from;
        let mut n = 0;
        for (l, r) in self.ranges.iter().take_while(|(l, _)| *l <= limit) {
            if at < *l {
                n += *l - at;
            }
            at = at.max(*r);
        }
        n
    }

    /// The end of the range that holds the byte at `seq`.
    pub fn covers(&self, seq: Seq) -> Option<Seq> {
        let found = self.ranges.iter().find(|(l, r)| *l <= seq && seq < *r);
        found.map(|(_, r)| *r)
    }

    /// How far it is from `seq` to the next byte that the peer has.
    pub fn next(&self, seq: Seq) -> Option<usize> {
        let found = self.ranges.iter().find(|(l, _)| *l > seq);
        found.map(|(l, _)| *l - seq)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.ranges = Vec::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_are_passed() {
        let mut s = Scoreboard::default();
        let una = Seq(100);
        let top = Seq(1000);
        assert!(s.update(&[Some((200, 300)), Some((400, 500)), None], una, top));
        assert!(!s.update(&[Some((200, 300)), None, None], una, top));
        assert_eq!(
            (s.bytes(), s.hole(una, 1), s.holes(una, 1)),
            (200, Some((una, 100)), 200)
        );
        // Only the first hole has more than 150 bytes beyond it.
        assert_eq!((s.holes(una, 150), s.hole(una, 201)), (100, None));
        assert!(s.update(&[Some((300, 400)), Some((900, 1001)), Some((50, 120))], una, top));
        assert_eq!((s.bytes(), s.hole(Seq(200), 1)), (300, None));
        assert_eq!((s.take_duplicates(), s.take_duplicates()), (0, 0));
        s.update(&[Some((50, 90)), None, None], una, top);
        assert_eq!(s.take_duplicates(), 1);
        assert_eq!(
            (s.covers(Seq(499)), s.covers(Seq(500)), s.next(una)),
            (Some(Seq(500)), None, Some(100))
        );
        assert_eq!(s.bytes_below(Seq(250)), 50);
        s.update(&[None; 3], Seq(450), top);
        assert_eq!((s.bytes(), s.hole(Seq(450), 1)), (50, None));
        s.update(&[None; 3], Seq(500), top);
        assert_eq!(s.bytes(), 0);
    }

    #[test]
    fn numbers_wrap() {
        let mut s = Scoreboard::default();
        let una = Seq(i32::MAX - 10);
        let l = una + 20;
        assert!(s.update(
            &[Some((l.0 as u32, (l + 100).0 as u32)), None, None],
            una,
            una + 500
        ));
        assert_eq!((s.bytes(), s.hole(una, 1)), (100, Some((una, 20))));
    }
}
