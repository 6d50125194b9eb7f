//! Live migration (DESIGN §8): an image goes on at another host while its program hardly notices.
//!
//! ```text
//! source (supervisor's thread)                target (a process of the agent)
//!   knock, OFFER            ──────────────>   fits? name free?                   OK / NO
//!   PAGES..., ROUND         ──────────────>   into memfds                        ROUND
//!   PREPARE (host state)    ──────────────>   first process: maps, hashes files  READY / NO
//!   PAGES..., ROUND         ──────────────>   until the rest is short            ROUND
//!   -- the image stands --
//!   PAGES..., FINAL (state) ──────────────>   processes made, all open           STANDS / NO
//!   COMMIT                  ──────────────>   register := committed; runs        RUNS
//!   ends
//! ```
//!
//! **Who runs.** The target runs the image only if it has received COMMIT *and* its register for this migration
//! ([`register`]) became `committed` by that. The source lets the image go on until it has sent COMMIT, whatever
//! breaks. From there on it never does, unless that register is `refused`: it asks for that by writing it, so that a COMMIT
//! which is still on its way is void. While the target cannot be asked the image stands still on both sides, and says so:
//! there are never two. (docs/notes/migrate.md)

pub mod register;
pub mod source;
pub mod target;

use crate::link::LinkError;
use crate::link::conn::Link;
use std::time::{Duration, Instant};

/// Bytes of a knock: those of a primary's link ([`crate::protect::knock`]).
const KNOCK_LEN: usize = crate::protect::KNOCK_LEN;
const KNOCK: &[u8; 8] = b"FTVMMOVE";

/// Version of what both sides say.
const VERSION: u64 = 3;

/// No message is longer.
const MAX_MESSAGE: usize = 64 << 20;

/// How long a peer may be silent where it has nothing long to do.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Number of a migration: it names the target's register.
pub type MoveId = u64;

/// What a link says in the clear before its handshake. Nothing is believed of it.
fn knock(id: MoveId) -> [u8; KNOCK_LEN] {
    let mut b = [0; KNOCK_LEN];
    b[..8].copy_from_slice(KNOCK);
    b[8..].copy_from_slice(&id.to_le_bytes());
    b
}

/// Which migration a link is for; `None`: it is for something else.
pub fn knocked(b: &[u8; KNOCK_LEN]) -> Option<MoveId> {
    (b[..8] == *KNOCK).then(|| u64::from_le_bytes(std::array::from_fn(|i| b[8 + i])))
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Kind {
    /// Source: what comes, as JSON.
    Offer = 1,
    /// Source: a chunk of pages.
    Pages,
    /// Source: a round has been sent. Target: it is in place.
    Round,
    /// Source: host state as it is about now.
    Prepare,
    /// Source: host state; all pages have been sent.
    Final,
    /// Source: the image is the target's.
    Commit,
    /// Source, on a link of its own: how did it end? It has not, says that it never will.
    Ask,
    /// Target: yes; whose register decides.
    Ok,
    /// Target: no, with the reason.
    No,
    /// Target: a process waits for the image.
    Ready,
    /// Target: the image could run.
    Stands,
    /// Target: it runs.
    Runs,
    /// Target: the register says that it was committed, or refused; whose it is.
    Committed,
    /// See `Committed`.
    Refused,
    /// Source, of an image that stands: a chunk of pages as they must be at the target (`--verify`).
    Check,
    /// Source: those were all. Target: they are.
    Checked,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        use Kind::*;
        let all = [
            Offer, Pages, Round, Prepare, Final, Commit, Ask, Ok, No, Ready, Stands, Runs, Committed,
            Refused, Check, Checked,
        ];
        all.into_iter().find(|k| *k as u8 == byte)
    }
}

/// Sends a message, or a part of it waits to be sent.
fn send(link: &mut Link, kind: Kind, bytes: &[u8]) -> Result<(), LinkError> {
    link.send(&[&[kind as u8], bytes], PATIENCE)
}

/// Waits for a message. `stop` ends the wait.
fn receive(
    link: &mut Link,
    limit: Duration,
    stop: &mut dyn FnMut() -> bool,
) -> Result<(Kind, Vec<u8>), String> {
    const LOOK: Duration = Duration::from_millis(20);
    let end = Instant::now() + limit;
    loop {
        if stop() {
            return Err("aborted".to_string());
        }
        match link.recv(LOOK) {
            Ok(mut m) => {
                let kind = m.first().and_then(|b| Kind::of(*b));
                let kind =
                    kind.ok_or("the peer says what is not understood; is it an ftvm of this version?")?;
                m.remove(0);
                return Ok((kind, m));
            }
            Err(LinkError::Timeout) if Instant::now() < end => {}
            Err(e) => return Err(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_knocks_read_back() {
        for byte in 0..=255u8 {
            assert!(Kind::of(byte).is_none_or(|k| k as u8 == byte));
        }
        assert_eq!(Kind::of(Kind::Checked as u8), Some(Kind::Checked));
        assert_eq!(knocked(&knock(7)), Some(7));
        assert_eq!(knocked(&crate::protect::knock(7)), None);
        assert_eq!(crate::protect::knocked(&knock(7)), None);
    }
}
