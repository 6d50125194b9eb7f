//! Links that come to the agent: the first of an image makes a standby, later ones go to the one that runs.
//!
//! A link that breaks while both sides live must not cost the backup: what it holds is still good, and the
//! session goes on over a new link (PROTOCOL §4). Each link is read by a process of its own until it has said
//! whose image it is; the agent itself waits for nobody.
//!
//! ```text
//! primary ──link──> agent ─fork─> process: reads the introduction
//!                     │ <── image, link ──┘
//!                     ├─ no standby for it: "serve": the process is its standby
//!                     └─ one runs: the link goes to that one, "given": the process ends
//! ```

use crate::gifts;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Answers of the agent.
const SERVE: u8 = 1;
const GIVEN: u8 = 2;

/// Sends bytes, and a descriptor with them.
fn send(to: &OwnedFd, bytes: &[u8], pass: Option<BorrowedFd<'_>>) -> io::Result<()> {
    gifts::send(to.as_raw_fd(), bytes, pass.as_slice()).map(|_| ())
}

/// Receives what [`send`] sent. `None`: the other end is closed.
fn receive(from: &OwnedFd, bytes: &mut [u8]) -> Option<(usize, Option<OwnedFd>)> {
    match gifts::receive(from.as_raw_fd(), bytes) {
        Ok((n, mut came)) if n > 0 => Some((n, came.pop())),
        _ => None,
    }
}

/// A standby's way to its agent.
#[derive(Debug)]
pub struct ToAgent(OwnedFd);

impl ToAgent {
    /// Its descriptor, to wait for.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// A link has said that it is for this image. True: serve it here; else another process does.
    pub fn register(&self, image: u64, link: BorrowedFd<'_>) -> io::Result<bool> {
        send(&self.0, &image.to_le_bytes(), Some(link))?;
        let mut answer = [0];
        match receive(&self.0, &mut answer) {
            Some(_) => Ok(answer[0] == SERVE),
            None => Err(io::Error::other("the agent has ended")),
        }
    }

    /// A new link of our image. Call when the descriptor is readable. `Err`: the agent has ended.
    pub fn link(&self) -> Result<Option<OwnedFd>, ()> {
        receive(&self.0, &mut [0; 8]).map(|(_, fd)| fd).ok_or(())
    }
}

/// The agent's processes.
#[derive(Debug, Default)]
pub struct Standbys(Vec<(OwnedFd, Option<u64>)>);

impl Standbys {
    /// A way for a new process; it is lost if the fork fails.
    pub fn channel(&mut self) -> io::Result<ToAgent> {
        let (ours, theirs) = super::arbiter::channel()?;
        self.0.push((ours, None));
        Ok(ToAgent(theirs))
    }

    /// Their descriptors, to wait for.
    pub fn fds(&self) -> Vec<RawFd> {
        self.0.iter().map(|(fd, _)| fd.as_raw_fd()).collect()
    }

    /// One of them has said something, or has gone.
    pub fn heard(&mut self, fd: RawFd) {
        let Some(at) = self.0.iter().position(|(f, _)| f.as_raw_fd() == fd) else {
            return;
        };
        let mut bytes = [0; 8];
        let Some((8, Some(link))) = receive(&self.0[at].0, &mut bytes) else {
            self.0.swap_remove(at);
            return;
        };
        let image = Some(u64::from_le_bytes(bytes));
        let running = self.0.iter().find(|(_, i)| *i == image);
        // One that has just ended cannot take it: then the new process serves.
        let given = running.is_some_and(|(to, _)| send(to, &bytes, Some(link.as_fd())).is_ok());
        if !given {
            self.0[at].1 = image;
        }
        let answer = if given { GIVEN } else { SERVE };
        let _ = send(&self.0[at].0, &[answer], None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// A process that registers, as a thread; the agent hears it.
    fn register(all: &mut Standbys, image: u64) -> (ToAgent, UnixStream, bool) {
        let (near, far) = UnixStream::pair().expect("a pair");
        let to = all.channel().expect("a channel");
        let heard = *all.fds().last().expect("one");
        let t = std::thread::spawn(move || {
            let serves = to.register(image, far.as_fd()).expect("registered");
            (to, serves)
        });
        all.heard(heard);
        let (to, serves) = t.join().expect("a thread");
        (to, near, serves)
    }

    #[test]
    fn a_second_link_goes_to_the_standby_that_runs() {
        let mut all = Standbys::default();
        let (first, _near, serves) = register(&mut all, 7);
        assert!(serves);
        let (other, _near, serves) = register(&mut all, 8);
        assert!(serves);
        let (second, mut near, serves) = register(&mut all, 7);
        assert!(!serves);
        let link = first.link().expect("alive").expect("a link");
        near.write_all(b"hello").expect("written");
        let mut text = [0; 5];
        UnixStream::from(link).read_exact(&mut text).expect("read");
        assert_eq!(&text, b"hello");
        // The standby has taken over and closed its end: the next link is served anew.
        drop((first, second));
        let (_third, _near, serves) = register(&mut all, 7);
        assert!(serves);
        drop(other);
        for fd in all.fds() {
            if all.fds().len() > 1 {
                all.heard(fd);
            }
        }
        assert_eq!(all.fds().len(), 1, "those that have gone are forgotten");
    }
}
