//! select(2), pselect6(2) (fs/select.c).

use super::poll::{idle, look};
use super::sigmask::with_mask;
use super::time::{self, Span};
use crate::args::Ptr;
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::wait::Poll;

const IN_SET: Poll = Poll::RDNORM
    .union(Poll::RDBAND)
    .union(Poll::IN)
    .union(Poll::HUP)
    .union(Poll::ERR);
const OUT_SET: Poll = Poll::WRBAND.union(Poll::WRNORM).union(Poll::OUT).union(Poll::ERR);
const EX_SET: Poll = Poll::PRI;
const SETS: [Poll; 3] = [IN_SET, OUT_SET, EX_SET];

fn read_set(cx: &mut Cx<'_>, at: Ptr, words: usize) -> Result<Vec<u64>, Errno> {
    let mut set = vec![0u64; words];
    if !at.is_null() {
        use zerocopy::IntoBytes;
        cx.read(at.0, set.as_mut_bytes())?;
    }
    Ok(set)
}

fn do_select(cx: &mut Cx<'_>, n: i32, at: [Ptr; 3], span: Span) -> Io<u64> {
    if n < 0 {
        return err(Errno::EINVAL);
    }
    let files = cx.task.files();
    let n = (n as usize).min(files.capacity());
    let words = n.div_ceil(64);
    let mut want = Vec::with_capacity(3);
    for p in at {
        want.push(read_set(cx, p, words)?);
    }
    let mut found = vec![vec![0u64; words]; 3];
    let mut on = Vec::new();
    let mut count = 0;
    for w in 0..words {
        let mut left = want.iter().fold(0, |a, s| a | s[w]);
        while left != 0 {
            let bit = left & left.wrapping_neg();
            left &= !bit;
            let fd = w * 64 + bit.trailing_zeros() as usize;
            if fd >= n {
                break;
            }
            let open = files.get(fd as i32)?;
            let asked = (0..3)
                .filter(|i| want[*i][w] & bit != 0)
                .fold(Poll::empty(), |a, i| a | SETS[i]);
            let have = look(cx, &open, asked, &mut on);
            for i in 0..3 {
                if want[i][w] & bit != 0 && have.intersects(SETS[i]) {
                    found[i][w] |= bit;
                    count += 1;
                }
            }
        }
    }
    if count == 0
        && let Err(stop) = idle(cx, on, span)
    {
        return Err(stop);
    }
    for (p, set) in at.iter().zip(&found) {
        if !p.is_null() {
            use zerocopy::IntoBytes;
            cx.write(p.0, set.as_bytes())?;
        }
    }
    Ok(count)
}

/// select(2)
pub fn sys_select(cx: &mut Cx<'_>, n: i32, r: Ptr, w: Ptr, x: Ptr, timeout: Ptr) -> Io<u64> {
    let span = if timeout.is_null() {
        Span::Forever
    } else {
        let [sec, usec]: [i64; 2] = cx.get(timeout.0)?;
        let sec = sec.checked_add(usec / 1_000_000).ok_or(Errno::EINVAL)?;
        let usec = usec % 1_000_000;
        if sec < 0 || usec < 0 {
            return err(Errno::EINVAL);
        }
        let ns = (sec as u64).saturating_mul(1_000_000_000);
        Span::of(ns.saturating_add(usec as u64 * 1000))
    };
    let result = do_select(cx, n, [r, w, x], span);
    time::write_back(cx, span, result, |cx, left| {
        cx.put(timeout.0, &[left / 1_000_000_000, left % 1_000_000_000 / 1000])
    })
}

/// pselect6(2)
pub fn sys_pselect6(cx: &mut Cx<'_>, n: i32, r: Ptr, w: Ptr, x: Ptr, timeout: Ptr, sig: Ptr) -> Io<u64> {
    let [mask, size]: [u64; 2] = if sig.is_null() { [0, 0] } else { cx.get(sig.0)? };
    let span = if timeout.is_null() {
        Span::Forever
    } else {
        Span::of(time::timespec(cx, timeout)?)
    };
    let result = with_mask(cx, Ptr(mask), size, |cx| do_select(cx, n, [r, w, x], span));
    time::write_back(cx, span, result, |cx, left| {
        cx.put(timeout.0, &[left / 1_000_000_000, left % 1_000_000_000])
    })
}
