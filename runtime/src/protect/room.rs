//! Whether this host has the memory for an image: a backup that could not hold it must say so, and not be killed when it takes over.
//!
//! What can be had is what the host has without swapping, and what the memory cgroups that this process is in leave of their limits.
//! It is set aside ([`Reserve`]), so that what starts on the host later does not have it when the image needs it.

use super::memory::{self, Memory};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// What is to be left for the host, bytes.
const LEFT: u64 = 64 << 20;

/// Bytes that can be had now.
pub fn available() -> u64 {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let host = match crate::cluster::load::memory(&read(Path::new("/proc/meminfo"))) {
        // Not known: no reason to refuse.
        (0, _) => u64::MAX,
        (_, free) => free,
    };
    let groups = read(Path::new("/proc/self/cgroup"));
    left_by_groups(&groups, &|p| read(p)).map_or(host, |left| left.min(host))
}

/// What the memory cgroups in `/proc/self/cgroup` leave (cgroups(7)); `None`: there is no limit.
fn left_by_groups(groups: &str, read: &dyn Fn(&Path) -> String) -> Option<u64> {
    let group = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let first = controllers.is_empty();
        let memory = first || controllers.split(',').any(|c| c == "memory");
        memory.then(|| {
            let root = if first {
                "/sys/fs/cgroup"
            } else {
                "/sys/fs/cgroup/memory"
            };
            (first, root, path.trim_start_matches('/').to_string())
        })
    };
    let mut least: Option<u64> = None;
    for (unified, root, path) in groups.lines().filter_map(group) {
        let files = match unified {
            true => ("memory.max", "memory.current"),
            false => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        };
        // In a namespace of its own a path may lead out of what is mounted: then there is nothing to read.
        for dir in Path::new(root).join(path).ancestors() {
            let number = |name: &str| read(&dir.join(name)).trim().parse::<u64>().ok();
            if let (Some(max), Some(used)) = (number(files.0), number(files.1)) {
                // File pages are given up before the limit counts: those that nobody uses just now, and about half of the others, as in
                // MemAvailable (proc_meminfo(5)). The first version's figures are the group's own, but for those that begin with `total_`.
                let stat = read(&dir.join("memory.stat"));
                let line = |name: &str| {
                    let mut all = stat.lines().filter_map(|l| l.split_once(' '));
                    all.find(|(n, _)| *n == name)
                        .and_then(|(_, v)| v.trim().parse::<u64>().ok())
                };
                let files = |name: &str| line(&format!("total_{name}")).or_else(|| line(name)).unwrap_or(0);
                let used = used.saturating_sub(files("inactive_file") + files("active_file") / 2);
                let left = max.saturating_sub(used);
                least = Some(least.map_or(left, |l| l.min(left)));
            }
            if dir == Path::new(root) {
                break;
            }
        }
    }
    least
}

/// So much is set aside, or given back, at once: about a millisecond.
pub const STEP: u64 = 4 << 20;

/// Memory that is set aside for an image that may go on here: pages of a memory file that nobody reads. They are no process' own, so that a
/// kernel which runs out of memory does not choose the standby for them.
#[derive(Debug)]
pub struct Reserve {
    fd: OwnedFd,
    held: u64,
    wanted: u64,
}

impl Reserve {
    /// Nothing yet.
    pub fn new() -> Result<Reserve, String> {
        Ok(Reserve {
            fd: memory::memfd(c"ftvm-reserve", 0)?,
            held: 0,
            wanted: 0,
        })
    }

    /// A snapshot of which `private` bytes are the processes' own is in place or is coming. When the image goes on here, each of these pages
    /// may be written, and then there are two of it: the snapshot's and the process'. `limit`: what the user lets it have, or 0. `Err`:
    /// this host cannot. Otherwise [`Reserve::step`] follows.
    pub fn aim(&mut self, private: u64, limit: u64) -> Result<(), String> {
        enough(available().saturating_add(self.held), private, limit)?;
        // The limit is a peer's word: only now it is known to be a size.
        self.wanted = private.max(limit).next_multiple_of(STEP);
        Ok(())
    }

    /// A step towards it. True: there is more to do.
    pub fn step(&mut self) -> Result<bool, String> {
        if self.held > self.wanted {
            self.cut(self.wanted.max(self.held.saturating_sub(STEP)));
        } else if self.held < self.wanted {
            let left = self.wanted - self.held;
            // Somebody else was faster.
            enough(available(), left, 0)?;
            let len = left.min(STEP);
            // SAFETY: no pointers.
            let done = unsafe {
                libc::fallocate(self.fd.as_raw_fd(), 0, self.held.cast_signed(), len.cast_signed())
            };
            if done != 0 {
                let e = std::io::Error::last_os_error();
                return Err(format!(
                    "memory for the image cannot be set aside: {}",
                    crate::cli::reason(&e)
                ));
            }
            self.held += len;
        }
        Ok(self.held != self.wanted)
    }

    fn cut(&mut self, len: u64) {
        // SAFETY: no pointers; a memory file of ours becomes shorter.
        unsafe { libc::ftruncate(self.fd.as_raw_fd(), len.cast_signed()) };
        self.held = len;
    }

    /// The image goes on here and takes the memory: it is given back beside it, faster than pages can be written.
    pub fn release(mut self) {
        std::thread::spawn(move || {
            while self.held > 0 {
                self.cut(self.held.saturating_sub(STEP));
            }
        });
    }
}

fn enough(available: u64, private: u64, limit: u64) -> Result<(), String> {
    let need = private.max(limit).saturating_add(LEFT);
    if need <= available {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(format!(
        "this host has {} MiB of memory for the image, which could need {} MiB more than its snapshot",
        mib(available.saturating_sub(LEFT)),
        mib(private.max(limit))
    ))
}

impl Memory {
    /// Bytes of pages that are processes' own.
    pub fn private(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let blocks = |fd| super::memory::file(fd).metadata().map_or(0, |m| m.blocks());
        self.spaces.values().map(blocks).sum::<u64>() * 512
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snap::Object;
    use ftl_core::replica::pages::{Run, put};
    use std::collections::BTreeMap;

    #[test]
    fn an_image_needs_its_private_pages_again_or_its_limit() {
        let mib = |n: u64| n << 20;
        assert_eq!(enough(mib(100) + LEFT, mib(100), 0), Ok(()));
        assert_eq!(enough(mib(100) + LEFT, mib(10), mib(100)), Ok(()));
        let why = enough(mib(100), mib(200), mib(50)).expect_err("too little");
        assert!(
            why.contains("has 36 MiB") && why.contains("200 MiB more"),
            "{why}"
        );
        assert!(enough(mib(100), mib(20), mib(400)).is_err());
        assert!(enough(u64::MAX, 1, u64::MAX).is_ok());
        assert!(enough(0, 0, 0).is_err());
    }

    #[test]
    fn what_is_set_aside_is_there() {
        use std::os::unix::fs::MetadataExt;
        let mut r = Reserve::new().expect("made");
        let blocks = |r: &Reserve| memory::file(&r.fd).metadata().expect("known").blocks() * 512;
        r.aim(3 * STEP - 1, STEP).expect("there is so much");
        while r.step().expect("had") {}
        assert_eq!((r.held, blocks(&r)), (3 * STEP, 3 * STEP));
        r.aim(1, 0).expect("less");
        while r.step().expect("given back") {}
        assert_eq!((r.held, blocks(&r)), (STEP, STEP));
        assert!(r.aim(u64::MAX / 2, 0).is_err(), "more than any host has");
        assert!(r.aim(0, u64::MAX).is_err(), "no size at all");
        assert_eq!(r.step(), Ok(false));
    }

    #[test]
    fn the_tightest_group_counts() {
        let files = BTreeMap::from([
            ("/sys/fs/cgroup/a/b/memory.max", "max"),
            ("/sys/fs/cgroup/a/b/memory.current", "100"),
            ("/sys/fs/cgroup/a/memory.max", "1000\n"),
            ("/sys/fs/cgroup/a/memory.current", "700\n"),
            (
                "/sys/fs/cgroup/a/memory.stat",
                "anon 5\ninactive_file 40\nactive_file 20\n",
            ),
            ("/sys/fs/cgroup/memory/c/memory.limit_in_bytes", "500"),
            ("/sys/fs/cgroup/memory/c/memory.usage_in_bytes", "600"),
            ("/sys/fs/cgroup/memory/d/memory.limit_in_bytes", "500"),
            ("/sys/fs/cgroup/memory/d/memory.usage_in_bytes", "600"),
            (
                "/sys/fs/cgroup/memory/d/memory.stat",
                "inactive_file 0\ntotal_inactive_file 300\n",
            ),
        ]);
        let read = |p: &Path| {
            let text = p.to_str().and_then(|p| files.get(p));
            text.map_or(String::new(), ToString::to_string)
        };
        assert_eq!(left_by_groups("0::/a/b\n", &read), Some(350));
        assert_eq!(left_by_groups("0::/\n", &read), None);
        assert_eq!(left_by_groups("0::/../../x\n", &read), None);
        assert_eq!(left_by_groups("5:cpu,memory:/c\n0::/a\n", &read), Some(0));
        assert_eq!(left_by_groups("5:memory:/d\n", &read), Some(200));
        assert_eq!(left_by_groups("5:cpu:/c\n", &read), None);
    }

    #[test]
    fn private_pages_are_counted_as_they_come() {
        let mut memory = Memory::new().expect("made");
        let mut chunk = Vec::new();
        put(Object::Arena, 3, &Run::Data(&[1; 4096]), &mut chunk);
        put(Object::Space(1), 3, &Run::Data(&[1; 8192]), &mut chunk);
        put(Object::Space(2), 9, &Run::Data(&[1; 4096]), &mut chunk);
        memory.apply(&chunk).expect("applied");
        assert_eq!(memory.private(), 12288);
        let mut less = Vec::new();
        put(Object::Space(1), 3, &Run::Gone(1), &mut less);
        memory.apply(&less).expect("applied");
        assert_eq!(memory.private(), 8192);
    }
}
