//! Timeouts as the waiting calls take them.

use crate::args::Ptr;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, Restart, Stop};
use ftl_core::platform::Ns;

/// Reads a struct timespec that is a span: EINVAL unless it is normalised and not negative.
pub fn timespec(cx: &mut Cx<'_>, at: Ptr) -> Result<Ns, Errno> {
    let [sec, nsec]: [i64; 2] = cx.get(at.0)?;
    if sec < 0 || !(0..1_000_000_000).contains(&nsec) {
        return Err(Errno::EINVAL);
    }
    Ok((sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(nsec as u64))
}

/// How long poll and select may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    /// No timeout given.
    Forever,
    /// Only a look.
    Zero,
    /// This long.
    For(Ns),
}

impl Span {
    /// Of a number of nanoseconds.
    pub fn of(ns: Ns) -> Span {
        if ns == 0 { Span::Zero } else { Span::For(ns) }
    }

    /// Of poll's milliseconds: negative is forever.
    pub fn ms(ms: i32) -> Span {
        match u64::try_from(ms) {
            Ok(ms) => Span::of(ms * 1_000_000),
            Err(_) => Span::Forever,
        }
    }

    /// When it ends; fixed on the call's first run.
    pub fn deadline(self, cx: &mut Cx<'_>) -> Option<Ns> {
        match self {
            Span::For(ns) => Some(cx.deadline_in(ns)),
            _ => None,
        }
    }
}

/// Stores the time that is left when a call with a timeout ends (poll_select_finish). If that
/// faults, the result stands, but an interrupted call is not restarted.
pub fn write_back(
    cx: &mut Cx<'_>,
    span: Span,
    result: Io<u64>,
    store: impl FnOnce(&mut Cx<'_>, u64) -> Result<(), Errno>,
) -> Io<u64> {
    let (Span::For(ns), false) = (span, matches!(result, Err(Stop::Block(_)))) else {
        return result;
    };
    let left = match cx.task.entity.deadline.get() {
        Some(at) => at.saturating_sub(cx.now()),
        // It never had to wait. Some time passed all the same, which Linux shows: a microsecond.
        None => ns.saturating_sub(1000),
    };
    match (store(cx, left), result) {
        (Err(_), Err(Stop::Interrupted(_))) => Err(Stop::Interrupted(Restart::Never)),
        (_, result) => result,
    }
}
