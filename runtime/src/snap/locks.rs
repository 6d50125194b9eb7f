//! Locks on files of the host that a restored image holds.

use crate::platform::Plat;
use ftl_abi::kernel::Kernel;
use ftl_core::errno::Errno;
use std::time::{Duration, Instant};

/// Whoever holds what the image has locked may be the image itself, which was killed a moment ago.
const LET_GO_WITHIN: Duration = Duration::from_secs(5);

/// Locks that the image holds on files of shared volumes bind others on the host again.
pub fn take_again(plat: &mut Plat, kernel: &Kernel) -> Result<(), String> {
    let begun = Instant::now();
    let done = kernel.fs.locks.held_on_host(&mut |h, held| {
        loop {
            match plat.lock_again(h, held) {
                Err(Errno::EAGAIN) if begun.elapsed() < LET_GO_WITHIN => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                done => return done,
            }
        }
    });
    done.map_err(|(h, e)| {
        let path = plat.path_of(h);
        match e {
            Errno::EAGAIN => format!(
                "file {path}: the image has locked it, and so has somebody else now; end that one, or restore with volumes of its own \
                 (checkpoint --volumes snapshot)"
            ),
            e => format!("file {path}: locking it: {e}"),
        }
    })
}
