//! Write protection for cuts: since when the pages that a cut holds are counted.

use super::Machine;
use crate::alloc::{self, Side};
use crate::vcpu::Vcpu;

/// How long one protection of guest memory serves, ns: it bounds the pages of a cut. From the first after a cut to the last
/// of a long time without: each costs a fault for every page that is written again, and only a cut makes use of it.
pub const PROTECT_NS: (u64, u64) = (20_000_000, 160_000_000);
/// The same where little was written since the one before, so that a cut stays small: a server pays for the look at its
/// memory and for the faults, and is never cut.
pub const QUIET_PROTECT_NS: u64 = 8 * PROTECT_NS.1;
/// What is little, bytes.
pub const QUIET_BYTES: u64 = 16 << 20;

/// In a process that was forked just now nothing is followed, and most end before they are cut: so long they may be, ns.
const NEWBORN_NS: u64 = 2_000_000;

/// How long the protection that begins now serves: the last one did for `last` ns, ended in a cut or did not, and `written`
/// bytes of pages were written under it.
fn next_protection(last: u64, was_cut: bool, written: u64) -> u64 {
    let most = match written <= QUIET_BYTES {
        true => QUIET_PROTECT_NS,
        false => PROTECT_NS.1,
    };
    if was_cut {
        PROTECT_NS.0
    } else {
        (2 * last).clamp(PROTECT_NS.0, most)
    }
}

/// A slice begins whose cut would have the pages that are written from here on: they are to be noticed.
pub fn watch_writes(v: &mut Vcpu, m: &mut Machine) {
    let now = m.plat.clock.now();
    if std::mem::take(&mut v.newborn) {
        // A cut of it would have all of its memory.
        let due = if crate::door::cut::shares_much(m.kernel) {
            0
        } else {
            NEWBORN_NS
        };
        v.protect_ns = PROTECT_NS.0;
        v.protected_at = now.wrapping_sub(v.protect_ns).wrapping_add(due);
    }
    if v.tracker.is_some() && now.wrapping_sub(v.protected_at) < v.protect_ns {
        return;
    }
    let _side = alloc::enter(Side::Host);
    if v.tracker.is_none() {
        match crate::dirty::Tracker::new() {
            Ok(t) => v.tracker = Some(t),
            Err(_) => return,
        }
    }
    v.protected_at = now;
    if let Some(t) = &v.tracker {
        let space = v.space;
        let spaces = &mut m.plat.live.spaces;
        let mut written = 0;
        crate::door::cut::protect(t, m.kernel, |s, e, shared| {
            written += e - s;
            spaces.note_early(space, (s, e), shared)
        });
        v.protect_ns = next_protection(v.protect_ns, std::mem::take(&mut v.was_cut), written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protection_serves_long_where_a_cut_would_be_small() {
        let after = |written: u64| (0..20).fold(0, |last, _| next_protection(last, false, written));
        assert_eq!(after(QUIET_BYTES + 1), PROTECT_NS.1);
        assert_eq!(after(QUIET_BYTES), QUIET_PROTECT_NS);
        assert_eq!(
            next_protection(QUIET_PROTECT_NS, false, QUIET_BYTES + 1),
            PROTECT_NS.1
        );
        assert_eq!(next_protection(QUIET_PROTECT_NS, true, 0), PROTECT_NS.0);
    }
}
