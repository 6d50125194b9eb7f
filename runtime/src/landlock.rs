//! Landlock (landlock(7)): which files a process of ftvm may open, for those that take what others send.
//!
//! Not the processes of an image. Their supervisor shows them memory files as `/proc/PID/fd/N` with its orders (snapshots, migrations, hooks), and a
//! process with rules of its own may not look into one that has others; with the image's rules the supervisor could not write
//! the snapshots that are asked of it.

use crate::sys::{Host, HostErr, sys};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

const VERSION: u64 = 1; // LANDLOCK_CREATE_RULESET_VERSION
const PATH_BENEATH: u64 = 1; // LANDLOCK_RULE_PATH_BENEATH

// LANDLOCK_ACCESS_FS_*
const EXECUTE: u64 = 1;
/// Write, read, list, remove and make files of all kinds.
const FIRST: u64 = (1 << 13) - 1;
/// Read files and list directories.
const READ: u64 = 1 << 2 | 1 << 3;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// LANDLOCK_ACCESS_NET_BIND_TCP, CONNECT_TCP
const TCP: u64 = 3;
/// LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, SIGNAL
const SCOPES: u64 = 3;

/// struct landlock_ruleset_attr
#[repr(C)]
struct Ruleset {
    files: u64,
    net: u64,
    scoped: u64,
}

/// struct landlock_path_beneath_attr
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: i32,
}

/// What this kernel can be asked to refuse, by the version of its interface. `None`: no landlock, or one without which files cannot be
/// moved between directories at all.
fn ruleset(version: u64) -> Option<Ruleset> {
    let at = |from, rights| if version >= from { rights } else { 0 };
    (version >= 2).then(|| Ruleset {
        files: FIRST | REFER | at(3, TRUNCATE) | at(5, IOCTL_DEV),
        net: at(4, TCP),
        scoped: at(6, SCOPES),
    })
}

/// The version of this kernel's interface; 0: it has none, it is not on, or a container's filter refuses it.
fn version() -> u64 {
    // SAFETY: asks for a number.
    unsafe { sys!(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) }.unwrap_or(0)
}

/// From here on this thread, and all that it makes, opens files below `dir` only (executing none), makes no TCP connection, and
/// signals nobody else. What is open stays so. False: this kernel cannot, or does not all of it. The thread has `no_new_privs`.
pub fn only_below(dir: &Path) -> Host<bool> {
    restrict(dir, false)
}

/// The same, but what the user may read can be read.
pub fn writes_only_below(dir: &Path) -> Host<bool> {
    restrict(dir, true)
}

fn restrict(dir: &Path, reads: bool) -> Host<bool> {
    let version = version();
    let Some(rules) = ruleset(version) else {
        return Ok(false);
    };
    let file = |e: std::io::Error| HostErr(e.raw_os_error().unwrap_or(libc::EIO));
    let parent = std::fs::File::open(dir).map_err(file)?;
    let root = std::fs::File::open("/").map_err(file)?;
    let len = match version {
        ..4 => 8,
        4 | 5 => 16,
        _ => size_of::<Ruleset>(),
    };
    // SAFETY: a valid structure of which the kernel knows so many bytes; the new descriptor is ours.
    let set = unsafe {
        let fd = sys!(libc::SYS_landlock_create_ruleset, &raw const rules, len, 0)?;
        OwnedFd::from_raw_fd(fd as i32)
    };
    let rule = Beneath {
        allowed: rules.files & !EXECUTE,
        parent: parent.as_raw_fd(),
    };
    let all = Beneath {
        allowed: READ,
        parent: root.as_raw_fd(),
    };
    let fd = set.as_raw_fd();
    // SAFETY: valid structures and descriptors.
    unsafe {
        if reads {
            sys!(libc::SYS_landlock_add_rule, fd, PATH_BENEATH, &raw const all, 0)?;
        }
        sys!(libc::SYS_landlock_add_rule, fd, PATH_BENEATH, &raw const rule, 0)?;
        sys!(libc::SYS_landlock_restrict_self, fd, 0)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind::PermissionDenied;

    #[test]
    fn a_kernel_is_asked_for_what_it_knows() {
        assert!(ruleset(1).is_none());
        let asked = |v| ruleset(v).map(|r| (r.files, r.net, r.scoped));
        assert_eq!(asked(2), Some((0x3fff, 0, 0)));
        assert_eq!(asked(3), Some((0x7fff, 0, 0)));
        assert_eq!(asked(4), Some((0x7fff, 3, 0)));
        assert_eq!(asked(5), Some((0xffff, 3, 0)));
        assert_eq!(asked(7), Some((0xffff, 3, 3)));
    }

    #[test]
    fn files_elsewhere_are_out_of_reach() {
        let base = std::env::temp_dir().join(format!("ftvm-landlock-{}", std::process::id()));
        let (dir, other) = (base.join("store"), base.join("other"));
        for d in [&dir.join("a"), &dir.join("b"), &other] {
            std::fs::create_dir_all(d).expect("made");
        }
        std::fs::write(other.join("f"), "x").expect("written");
        std::os::unix::fs::symlink(&other, dir.join("link")).expect("made");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let at = listener.local_addr().expect("known");
        let (below, there) = (dir.clone(), other.clone());
        // It holds for the thread, and goes with it.
        let seen = std::thread::spawn(move || {
            crate::confine::drop_capabilities().expect("given back");
            let restricted = only_below(&below).expect("no error");
            if !restricted {
                return false;
            }
            std::fs::write(below.join("a/f"), "1").expect("below");
            std::fs::rename(below.join("a/f"), below.join("b/f")).expect("moved below");
            assert_eq!(std::fs::read(below.join("b/f")).expect("read"), b"1");
            let refused = |r: std::io::Result<()>| r.map_err(|e| e.kind()) == Err(PermissionDenied);
            assert!(refused(std::fs::write(there.join("new"), "1")));
            assert!(
                refused(std::fs::write(below.join("link/f"), "1")),
                "through a link"
            );
            assert!(refused(std::fs::read(there.join("f")).map(drop)));
            assert!(refused(std::fs::read_dir("/").map(drop)));
            assert!(refused(std::fs::remove_file(there.join("f"))));
            let renamed = std::fs::rename(below.join("b/f"), there.join("g"));
            assert!(renamed.is_err(), "moved out");
            // Kernels before 6.7 do not know of connections.
            let knows = ruleset(version()).is_some_and(|r| r.net != 0);
            let connected = std::net::TcpStream::connect(at).map(drop);
            assert_eq!(refused(connected), knows);
            true
        });
        let restricted = seen.join().expect("no panic");
        if !restricted {
            eprintln!("this kernel has no landlock: nothing was tried");
        }
        assert_eq!(std::fs::read(other.join("f")).expect("still there"), b"x");
        std::fs::remove_dir_all(&base).expect("removed");
    }
}
