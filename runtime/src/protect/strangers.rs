//! Links of a standby before they have introduced themselves.

use super::pipe::Pipe;
use super::{INTRO_MAX, Intro};
use crate::link::session::Session;
use crate::link::{LinkError, Security};
use std::os::fd::{OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long a peer may take to introduce itself.
pub const INTRO_TIME: Duration = Duration::from_secs(10);

/// Links that have knocked, and have not shown yet whose they are: anybody can knock, so none keeps another from doing so.
#[derive(Default)]
pub struct Strangers {
    links: Vec<(Pipe, Instant)>,
    /// Why the last one was sent away.
    why: Option<String>,
}

/// So many at once; a further one takes the place of the oldest.
const MOST_STRANGERS: usize = 16;

impl Strangers {
    /// One more.
    pub fn add(&mut self, fd: OwnedFd, security: &Security) -> Result<(), LinkError> {
        let session = Session::server(security)?;
        if self.links.len() == MOST_STRANGERS {
            self.links.remove(0);
        }
        self.links
            .push((Pipe::new(fd, session, false), Instant::now() + INTRO_TIME));
        Ok(())
    }

    /// Their descriptors, to wait for.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.links.iter().map(|(l, _)| l.fd())
    }

    /// None is left: why the last one was sent away.
    pub fn gone(&mut self) -> Option<String> {
        self.links.is_empty().then(|| self.why.take().unwrap_or_default())
    }

    /// The first that introduces itself as a primary of this image.
    pub fn hear(&mut self, image: u64) -> Option<(Pipe, Intro)> {
        let mut i = 0;
        while let Some((link, end)) = self.links.get_mut(i) {
            link.fill();
            link.flush();
            let why = match link.text(INTRO_MAX).map(|t| Intro::decode(&t)) {
                Some(Ok(intro)) if intro.image == image => return Some((self.links.remove(i).0, intro)),
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
        drop(come(&mut all));
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
        assert!(all.gone().is_none());
        drop(crowd);
        assert!(all.hear(7).is_none());
    }
}
