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
//!
//! Anybody can knock. How many processes there are for links that have not shown whose they are is bounded ([`Knocks`]).

use super::strangers::INTRO_TIME;
use crate::gifts;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

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

/// What the process of a link holds until the other side has shown that it has a key of ours, and has said what it wants; without
/// keys, until it has said that. To drop it tells the agent.
#[derive(Debug)]
pub struct Unproved {
    _end: OwnedFd,
}

/// So many processes at once whose links have not shown whose they are. A further link takes the place of the oldest of the host that has
/// most of them, as with [`super::strangers`]: a host that knocks without end pushes out its own.
pub const MOST_KNOCKS: usize = 64;

/// The agent's processes for such links.
#[derive(Debug, Default)]
pub struct Knocks {
    all: Vec<Knock>,
    /// How many were sent away since that was told last, and when that was.
    away: (u64, Option<Instant>),
}

#[derive(Debug)]
struct Knock {
    /// Its other end is the process'.
    end: OwnedFd,
    pid: i32,
    from: Option<IpAddr>,
}

impl Knocks {
    /// For a new process: what that holds, and our end.
    pub fn channel() -> io::Result<(Unproved, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Unproved { _end: theirs.into() }, ours.into()))
    }

    /// A process was made for a link from there. Returns what is to be told.
    pub fn add(&mut self, end: OwnedFd, pid: i32, from: Option<IpAddr>) -> Option<String> {
        self.all.push(Knock { end, pid, from });
        if self.all.len() <= MOST_KNOCKS {
            return None;
        }
        let of_same = |k: &Knock| self.all.iter().filter(|o| o.from == k.from).count();
        let most = self.all.iter().map(of_same).max();
        let at = self.all.iter().position(|k| Some(of_same(k)) == most)?;
        let gone = self.all.remove(at);
        // SAFETY: a plain call; it is our own child, and as it was not waited for, nobody else has its number.
        unsafe { libc::kill(gone.pid, libc::SIGKILL) };
        self.away.0 += 1;
        // A host that does not stop would fill the log.
        if self.away.1.is_some_and(|at| at.elapsed() < INTRO_TIME) {
            return None;
        }
        let from = gone.from.map_or("an unknown host".to_string(), |a| a.to_string());
        let n = std::mem::replace(&mut self.away, (0, Some(Instant::now()))).0;
        Some(format!(
            "{n} closed, the last from {from}: {MOST_KNOCKS} other links have not shown yet whose they are"
        ))
    }

    /// Their descriptors, to wait for.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.all.iter().map(|k| k.end.as_raw_fd())
    }

    /// Of one of them something has come: it has shown whose it is, or has ended.
    pub fn heard(&mut self, fd: RawFd) {
        self.all.retain(|k| k.end.as_raw_fd() != fd);
    }

    /// A child was waited for: its number may be another's from here on.
    pub fn ended(&mut self, pid: i32) {
        self.all.retain(|k| k.pid != pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Child, Command};

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

    /// Waits until the other end of a descriptor is closed everywhere: a process that another test has just made has a copy until it comes
    /// to exec(2).
    fn closed(fd: RawFd) {
        let mut p = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        while p.revents & libc::POLLHUP == 0 {
            // SAFETY: one valid entry.
            unsafe { libc::poll(&raw mut p, 1, -1) };
        }
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
        closed(all.fds()[0]);
        let (_third, _near, serves) = register(&mut all, 7);
        assert!(serves);
        drop(other);
        (1..3).for_each(|n| closed(all.fds()[n]));
        for fd in all.fds() {
            if all.fds().len() > 1 {
                all.heard(fd);
            }
        }
        assert_eq!(all.fds().len(), 1, "those that have gone are forgotten");
    }

    #[test]
    fn a_host_that_knocks_without_end_pushes_out_its_own() {
        let mut knocks = Knocks::default();
        let mut told = Vec::new();
        let mut come = |knocks: &mut Knocks, from: u8| -> (Child, Unproved) {
            let (theirs, ours) = Knocks::channel().expect("a channel");
            let child = Command::new("sleep").arg("1000").spawn().expect("a process");
            let from = Some(IpAddr::from([192, 0, 2, from]));
            told.extend(knocks.add(ours, child.id() as i32, from));
            (child, theirs)
        };
        let mut one = come(&mut knocks, 1);
        let mut many: Vec<_> = (0..MOST_KNOCKS + 3).map(|_| come(&mut knocks, 2)).collect();
        assert_eq!(knocks.all.len(), MOST_KNOCKS);
        // The first four of the many have had to go, and this was told once.
        let mut gone = Vec::new();
        for (n, (child, _)) in many.iter_mut().enumerate() {
            if knocks.all.iter().all(|k| k.pid != child.id() as i32) {
                child.wait().expect("killed");
                gone.push(n);
            }
        }
        assert_eq!(gone, [0, 1, 2, 3]);
        assert!(one.0.try_wait().expect("asked").is_none());
        // One shows whose it is, one ends: there is room for two more.
        let (mut proved, unproved) = many.remove(4);
        drop(unproved);
        let mut polled: Vec<libc::pollfd> = knocks
            .fds()
            .map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        // SAFETY: valid entries.
        let n = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
        assert_eq!(n, 1);
        let heard = polled.iter().find(|p| p.revents != 0).expect("one");
        knocks.heard(heard.fd);
        knocks.ended(many[5].0.id() as i32);
        let more = [come(&mut knocks, 3), come(&mut knocks, 3)];
        assert_eq!(knocks.all.len(), MOST_KNOCKS);
        assert!(
            told.len() == 1 && told[0].starts_with("1 closed, the last from 192.0.2.2: "),
            "{told:?}"
        );
        proved.kill().and_then(|()| proved.wait()).expect("ended");
        for (child, _) in many.iter_mut().chain([&mut one]) {
            child.kill().and_then(|()| child.wait()).expect("ended");
        }
        for (mut child, _) in more {
            child.kill().and_then(|()| child.wait()).expect("ended");
        }
    }
}
