//! Was what clients saw of a register possible for one register? Linearizability, decided as Gibbons and Korach
//! do ("Testing Shared Memories", 1997): where no value is written twice, each value with its readers makes a
//! zone of time, and the zones alone decide.

use std::collections::BTreeMap;

/// One operation on the register. Times are of one clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op {
    /// Written, not read.
    pub write: bool,
    /// What was written (never the same twice) or read; 0 is the value before the first write.
    pub value: u64,
    /// Sent.
    pub start_ns: u64,
    /// Answered; `u64::MAX` if it never was: such a write may or may not have happened.
    pub end_ns: u64,
}

#[derive(Clone, Copy)]
struct Zone {
    /// Start of the write.
    from: u64,
    written: bool,
    /// Earliest end and latest start of the write and its reads.
    first_end: u64,
    last_start: u64,
    read: bool,
    finished: bool,
}

/// `Err`: what was impossible.
pub fn check(ops: &[Op]) -> Result<(), String> {
    let mut zones: BTreeMap<u64, Zone> = BTreeMap::new();
    let nothing = Zone {
        from: 0,
        written: false,
        first_end: u64::MAX,
        last_start: 0,
        read: false,
        finished: false,
    };
    zones.insert(
        0,
        Zone {
            written: true,
            first_end: 0,
            finished: true,
            ..nothing
        },
    );
    for o in ops.iter().filter(|o| o.write || o.end_ns != u64::MAX) {
        let z = zones.entry(o.value).or_insert(nothing);
        if o.write {
            if z.written {
                return Err(format!(
                    "value {:x} was written twice: the history is no use",
                    o.value
                ));
            }
            (z.written, z.from) = (true, o.start_ns);
            z.finished = o.end_ns != u64::MAX;
        } else {
            z.read = true;
        }
        z.first_end = z.first_end.min(o.end_ns);
        z.last_start = z.last_start.max(o.start_ns);
    }
    for (v, z) in &zones {
        if !z.written {
            return Err(format!("value {v:x} was read and never written"));
        }
        if z.first_end < z.from {
            return Err(format!("value {v:x} was read before it was written"));
        }
    }
    // A write without answer that nobody saw need not have happened.
    let mut forward = Vec::new();
    let mut backward = Vec::new();
    for (v, z) in zones.iter().filter(|(_, z)| z.read || z.finished) {
        if z.first_end < z.last_start {
            forward.push((z.first_end, z.last_start, *v));
        } else {
            backward.push((z.last_start, z.first_end, *v));
        }
    }
    forward.sort_unstable();
    for pair in forward.windows(2) {
        if pair[1].0 < pair[0].1 {
            return Err(format!(
                "values {:x} and {:x} were each seen after the other",
                pair[0].2, pair[1].2
            ));
        }
    }
    for (start, end, v) in backward {
        let at = forward.partition_point(|f| f.0 < start);
        if let Some(f) = at.checked_sub(1).map(|i| forward[i])
            && end < f.1
        {
            return Err(format!(
                "value {:x} was seen after {v:x} had replaced it, or {v:x} was lost",
                f.2
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dice;

    fn op(write: bool, value: u64, start_ns: u64, end_ns: u64) -> Op {
        Op {
            write,
            value,
            start_ns,
            end_ns,
        }
    }

    #[test]
    fn losses_and_old_values_are_found() {
        let w = |v, s, e| op(true, v, s, e);
        let r = |v, s, e| op(false, v, s, e);
        assert_eq!(check(&[w(1, 1, 2), r(1, 3, 4)]), Ok(()));
        assert_eq!(check(&[w(1, 1, 5), r(0, 2, 3), r(1, 4, 6)]), Ok(()));
        assert!(check(&[w(1, 1, 2), r(0, 3, 4)]).is_err(), "a lost write");
        assert!(
            check(&[w(1, 1, 2), w(2, 3, 4), r(1, 5, 6)]).is_err(),
            "an old value"
        );
        assert!(check(&[r(7, 1, 2)]).is_err(), "from nowhere");
        let unanswered = w(2, 3, u64::MAX);
        assert_eq!(check(&[w(1, 1, 2), unanswered, r(1, 5, 6)]), Ok(()));
        assert_eq!(check(&[w(1, 1, 2), unanswered, r(1, 5, 6), r(2, 7, 8)]), Ok(()));
        assert!(check(&[w(1, 1, 2), unanswered, r(2, 5, 6), r(1, 7, 8)]).is_err());
    }

    /// All orders, tried.
    fn possible(left: &[Op], now: u64) -> bool {
        if left.iter().all(|o| o.end_ns == u64::MAX) {
            return true;
        }
        let bound = left.iter().map(|o| o.end_ns).min().unwrap_or(0);
        (0..left.len()).any(|i| {
            let o = left[i];
            let rest: Vec<Op> = [&left[..i], &left[i + 1..]].concat();
            o.start_ns <= bound
                && (o.write || o.value == now)
                && possible(&rest, if o.write { o.value } else { now })
        })
    }

    #[test]
    fn it_agrees_with_trying_all_orders() {
        let mut dice = Dice(7);
        let mut good = 0;
        for round in 0..20_000 {
            let mut ops = Vec::new();
            let mut values = 0;
            // All times differ.
            let mut times: Vec<u64> = (1..40).collect();
            for _ in 0..2 + dice.below(6) {
                let a = times.swap_remove(dice.below(times.len() as u64) as usize);
                let b = times.swap_remove(dice.below(times.len() as u64) as usize);
                let write = dice.below(2) == 0;
                let value = if write {
                    values += 1;
                    values
                } else {
                    dice.below(values + 1)
                };
                let never = write && dice.below(8) == 0;
                ops.push(op(
                    write,
                    value,
                    a.min(b),
                    if never { u64::MAX } else { a.max(b) },
                ));
            }
            let want = possible(&ops, 0);
            good += u32::from(want);
            assert_eq!(
                check(&ops).is_ok(),
                want,
                "round {round}: {ops:?}: {:?}",
                check(&ops)
            );
        }
        assert!((2_000..18_000).contains(&good), "{good}");
    }
}
