//! Timeouts as the waiting calls take them.

use crate::args::Ptr;
use crate::cx::Cx;
use ftl_core::errno::Errno;
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
