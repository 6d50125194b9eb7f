//! Where the private pages of a space come from when it is made: a file that shows them at their addresses, or one in which they
//! lie one behind the other.

use super::capture::next_data;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

/// A run of pages: first address, end, and where it begins in the file.
pub type Run = (u64, u64, u64);

/// See the module.
#[derive(Clone)]
pub struct Pages {
    fd: Rc<OwnedFd>,
    /// Ascending; `None`: the file's data are at their addresses.
    runs: Option<Rc<[Run]>>,
}

impl Pages {
    /// A memory file with a hole wherever there is no page.
    pub fn sparse(fd: Rc<OwnedFd>) -> Pages {
        Pages { fd, runs: None }
    }

    /// A file that nobody changes, with these runs, ascending and apart; `None` if they are not.
    pub fn packed(fd: Rc<OwnedFd>, runs: Vec<Run>) -> Option<Pages> {
        let apart = runs.windows(2).all(|w| w[0].1 <= w[1].0) && runs.iter().all(|r| r.0 < r.1);
        apart.then(|| Pages {
            fd,
            runs: Some(runs.into()),
        })
    }

    /// The file.
    pub fn fd(&self) -> &Rc<OwnedFd> {
        &self.fd
    }

    /// Its descriptor.
    pub fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// True if pages may not be added.
    pub fn is_packed(&self) -> bool {
        self.runs.is_some()
    }

    /// The next run, or the rest of one, from an address on.
    pub fn next(&self, at: u64) -> Option<Run> {
        let Some(runs) = &self.runs else {
            return next_data(self.raw_fd(), at).map(|(start, end)| (start, end, start));
        };
        let (start, end, off) = *runs.get(runs.partition_point(|r| r.1 <= at))?;
        let from = start.max(at);
        Some((from, end, off + (from - start)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_from_any_address_on() {
        let fd = || {
            Rc::new(OwnedFd::from(
                std::fs::File::open("/dev/null").expect("/dev/null"),
            ))
        };
        let p = Pages::packed(fd(), vec![(0x1000, 0x3000, 0x8000), (0x3000, 0x4000, 0x1000)]).expect("apart");
        assert_eq!(p.next(0), Some((0x1000, 0x3000, 0x8000)));
        assert_eq!(p.next(0x2000), Some((0x2000, 0x3000, 0x9000)));
        assert_eq!(p.next(0x3000), Some((0x3000, 0x4000, 0x1000)));
        assert_eq!(p.next(0x4000), None);
        assert!(Pages::packed(fd(), vec![(0x1000, 0x3000, 0), (0x2000, 0x4000, 0)]).is_none());
        assert!(Pages::packed(fd(), vec![(0x1000, 0x1000, 0)]).is_none());
    }
}
