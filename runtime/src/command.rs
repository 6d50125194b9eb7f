//! A command that the supervisor itself starts in its image, as `ftvm exec` would: health checks and hooks.

use ftl_core::door::ExecOrder;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Bytes of output that are kept.
const MOST_OUTPUT: usize = 500;

/// Exit code of a command that was killed as it took too long.
pub const TOO_LONG: i32 = -1;

/// Runs a command once, in the supervisor. Exit code, and how its output begins.
pub fn run(argv: &[Vec<u8>], timeout: Duration) -> Result<(i32, String), String> {
    let order = ExecOrder {
        argv: argv.to_vec(),
        ..ExecOrder::default()
    };
    let bad = |e: std::io::Error| format!("starting it: {e}");
    let (near, far) = crate::exec::ends().map_err(bad)?;
    let mut gifts = vec![crate::exec::pack(&order).map_err(bad)?];
    gifts.extend(far);
    crate::orders::start_process(gifts)?;
    let end = Instant::now() + timeout;
    let mut control = near.control;
    let mut outs = near.out.map(Some);
    let mut heard = Vec::new();
    let mut output = Vec::new();
    loop {
        if let Some(done) = ended(&heard) {
            let (code, why) = done;
            output.truncate(MOST_OUTPUT);
            output.extend_from_slice(why.as_bytes());
            return Ok((code, String::from_utf8_lossy(&output).into_owned()));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let _ = control.write_all(b"signal 9\n");
            return Ok((
                TOO_LONG,
                format!("no answer within {} ms: killed", timeout.as_millis()),
            ));
        }
        let fd = |f: &Option<std::fs::File>| f.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut rows = [control.as_raw_fd(), fd(&outs[0]), fd(&outs[1])].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        let ms = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
        // SAFETY: the array is valid for the call.
        unsafe { libc::poll(rows.as_mut_ptr(), 3, ms) };
        let mut buf = [0; 4096];
        for (i, out) in outs.iter_mut().enumerate() {
            let Some(f) = out.as_mut().filter(|_| rows[1 + i].revents != 0) else {
                continue;
            };
            match f.read(&mut buf) {
                Ok(0) => *out = None,
                // Only the beginning is kept, but all is read: it must not wait for us.
                Ok(n) if output.len() < MOST_OUTPUT => output.extend_from_slice(&buf[..n]),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => *out = None,
            }
        }
        if rows[0].revents != 0 {
            match control.read(&mut buf) {
                Ok(0) => return Err("the image has ended".to_string()),
                Ok(n) => heard.extend_from_slice(&buf[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(bad(e)),
            }
        }
    }
}

/// What was heard says how it ended: its code, and why it could not be started.
fn ended(heard: &[u8]) -> Option<(i32, String)> {
    let text = String::from_utf8_lossy(heard);
    let whole = &text[..=text.rfind('\n')?];
    whole.lines().find_map(|line| {
        let mut words = line.splitn(3, ' ');
        let (verb, n) = (words.next()?, words.next()?.parse::<i32>().ok()?);
        match verb {
            "exit" => Some((n, String::new())),
            "signal" => Some((128 + n, String::new())),
            "failed" => Some((n, words.next().unwrap_or_default().to_string())),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_heard_whole() {
        assert_eq!(ended(b"started 4\nexit 3 0"), None);
        assert_eq!(ended(b"started 4\nexit 3 0 0\n"), Some((3, String::new())));
        assert_eq!(ended(b"signal 9 0 0\n"), Some((137, String::new())));
        assert_eq!(
            ended(b"failed 127 x: not found\n"),
            Some((127, "x: not found".to_string()))
        );
    }
}
