//! Links of a standby before they have introduced themselves.

use super::pipe::Pipe;
use super::{INTRO_MAX, Intro};
use crate::link::session::Session;
use crate::link::{LinkError, Security};
use std::net::{IpAddr, TcpStream};
use std::os::fd::{OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long a peer may take to introduce itself.
pub const INTRO_TIME: Duration = Duration::from_secs(10);

/// Links that have knocked, and have not shown yet whose they are: anybody can knock, so none keeps another from doing so.
#[derive(Default)]
pub struct Strangers {
    links: Vec<Stranger>,
    /// Why the last one was sent away.
    why: Option<String>,
}

struct Stranger {
    link: Pipe,
    end: Instant,
    /// Whence it came.
    from: Option<IpAddr>,
}

/// So many at once; a further one takes the place of the oldest of the host that has most of them: a host that knocks without
/// end pushes out its own.
const MOST_STRANGERS: usize = 16;

impl Strangers {
    /// One more.
    pub fn add(&mut self, fd: OwnedFd, security: &Security) -> Result<(), LinkError> {
        let from = peer_address(&fd);
        self.add_from(fd, security, from)
    }

    fn add_from(&mut self, fd: OwnedFd, security: &Security, from: Option<IpAddr>) -> Result<(), LinkError> {
        let session = Session::server(security)?;
        self.links.push(Stranger {
            link: Pipe::new(fd, session, false),
            end: Instant::now() + INTRO_TIME,
            from,
        });
        if self.links.len() > MOST_STRANGERS {
            let of_same = |s: &Stranger| self.links.iter().filter(|o| o.from == s.from).count();
            let most = self.links.iter().map(of_same).max();
            if let Some(at) = self.links.iter().position(|s| Some(of_same(s)) == most) {
                self.links.remove(at);
            }
        }
        Ok(())
    }

    /// Their descriptors, to wait for.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.links.iter().map(|s| s.link.fd())
    }

    /// None is left: why the last one was sent away.
    pub fn gone(&mut self) -> Option<String> {
        self.links.is_empty().then(|| self.why.take().unwrap_or_default())
    }

    /// The first that introduces itself as a primary of this image.
    pub fn hear(&mut self, image: u64) -> Option<(Pipe, Intro)> {
        let mut i = 0;
        while let Some(Stranger { link, end, .. }) = self.links.get_mut(i) {
            link.fill();
            link.flush();
            let why = match link.text(INTRO_MAX).map(|t| Intro::decode(&t)) {
                Some(Ok(intro)) if intro.image == image => return Some((self.links.remove(i).link, intro)),
                Some(Ok(_)) => "it is for another image than it said at first".to_string(),
                Some(Err(why)) => why,
                None if link.broken() => link.why().to_string(),
                None if Instant::now() >= *end => "it said nothing for too long".to_string(),
                None => {
                    i += 1;
                    continue;
                }
            };
            self.why = Some(why);
            self.links.remove(i);
        }
        None
    }
}

/// The host at the other end of a TCP connection.
fn peer_address(fd: &OwnedFd) -> Option<IpAddr> {
    let stream = TcpStream::from(fd.try_clone().ok()?);
    stream.peer_addr().ok().map(|a| a.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::Policy;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn intro(image: u64) -> Vec<u8> {
        let intro = Intro {
            image,
            name: "kv".to_string(),
            net: String::new(),
            arbiter: "file:x".to_string(),
            policy: Policy::DEFAULT,
        };
        intro.encode()
    }

    #[test]
    fn nobody_keeps_the_primary_out() {
        let mut all = Strangers::default();
        let come = |all: &mut Strangers| {
            let (theirs, ours) = UnixStream::pair().expect("a pair");
            all.add(OwnedFd::from(ours), &Security::Insecure).expect("added");
            theirs
        };
        // One that says nothing, one of another image, one that babbles, one that goes.
        let _silent = come(&mut all);
        let mut other = come(&mut all);
        other.write_all(&intro(8)).expect("sent");
        let mut noise = come(&mut all);
        noise
            .write_all(&[4, 0, 0, 0, b'n', b'o', b'n', b'e'])
            .expect("sent");
        // Not only closed: a process that another test has just made may have a copy.
        come(&mut all).shutdown(std::net::Shutdown::Both).expect("ended");
        assert!(all.hear(7).is_none());
        assert_eq!(all.fds().count(), 1, "the silent one is waited for");
        let mut primary = come(&mut all);
        primary.write_all(&intro(7)).expect("sent");
        assert_eq!(all.hear(7).map(|(_, i)| i.image), Some(7));
        // However many say nothing, the last that comes is heard.
        let crowd: Vec<_> = (0..3 * MOST_STRANGERS).map(|_| come(&mut all)).collect();
        let mut primary = come(&mut all);
        primary.write_all(&intro(7)).expect("sent");
        assert!(all.hear(7).is_some());
        assert_eq!(all.fds().count(), MOST_STRANGERS - 1);
        // Nor does one host push out another, however long that takes to say who it is.
        let (mut primary, ours) = UnixStream::pair().expect("a pair");
        let host = Some(IpAddr::from([10, 0, 0, 1]));
        all.add_from(OwnedFd::from(ours), &Security::Insecure, host)
            .expect("added");
        let more: Vec<_> = (0..3 * MOST_STRANGERS).map(|_| come(&mut all)).collect();
        assert!(all.hear(7).is_none());
        primary.write_all(&intro(7)).expect("sent");
        assert!(all.hear(7).is_some());
        drop(more);
        assert!(all.gone().is_none());
        drop(crowd);
        assert!(all.hear(7).is_none());
    }
}
