//! The container's file systems, in a mount namespace of the host: what is mounted below its root there is written
//! through by the image, whose root is that directory.

use crate::plan::clean;
use crate::{Why, log};
use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Options that set or clear a flag of a mount.
const FLAGS: [(&str, bool, MountFlags); 20] = [
    ("ro", true, MountFlags::RDONLY),
    ("rw", false, MountFlags::RDONLY),
    ("nosuid", true, MountFlags::NOSUID),
    ("suid", false, MountFlags::NOSUID),
    ("nodev", true, MountFlags::NODEV),
    ("dev", false, MountFlags::NODEV),
    ("noexec", true, MountFlags::NOEXEC),
    ("exec", false, MountFlags::NOEXEC),
    ("sync", true, MountFlags::SYNCHRONOUS),
    ("async", false, MountFlags::SYNCHRONOUS),
    ("dirsync", true, MountFlags::DIRSYNC),
    ("noatime", true, MountFlags::NOATIME),
    ("atime", false, MountFlags::NOATIME),
    ("nodiratime", true, MountFlags::NODIRATIME),
    ("diratime", false, MountFlags::NODIRATIME),
    ("relatime", true, MountFlags::RELATIME),
    ("norelatime", false, MountFlags::RELATIME),
    ("strictatime", true, MountFlags::STRICTATIME),
    ("nostrictatime", false, MountFlags::STRICTATIME),
    ("silent", true, MountFlags::SILENT),
];

/// Options that say how mounts spread.
const SPREAD: [(&str, MountPropagationFlags); 8] = [
    ("private", MountPropagationFlags::PRIVATE),
    (
        "rprivate",
        MountPropagationFlags::PRIVATE.union(MountPropagationFlags::REC),
    ),
    ("slave", MountPropagationFlags::DOWNSTREAM),
    (
        "rslave",
        MountPropagationFlags::DOWNSTREAM.union(MountPropagationFlags::REC),
    ),
    ("shared", MountPropagationFlags::SHARED),
    (
        "rshared",
        MountPropagationFlags::SHARED.union(MountPropagationFlags::REC),
    ),
    ("unbindable", MountPropagationFlags::UNBINDABLE),
    (
        "runbindable",
        MountPropagationFlags::UNBINDABLE.union(MountPropagationFlags::REC),
    ),
];

/// Options that hold for what is mounted below, too: bits of mount_setattr(2) to set and to clear. As runc has them.
const RECURSIVE: [(&str, u64, u64); 16] = [
    ("rro", libc::MOUNT_ATTR_RDONLY, 0),
    ("rrw", 0, libc::MOUNT_ATTR_RDONLY),
    ("rnosuid", libc::MOUNT_ATTR_NOSUID, 0),
    ("rsuid", 0, libc::MOUNT_ATTR_NOSUID),
    ("rnodev", libc::MOUNT_ATTR_NODEV, 0),
    ("rdev", 0, libc::MOUNT_ATTR_NODEV),
    ("rnoexec", libc::MOUNT_ATTR_NOEXEC, 0),
    ("rexec", 0, libc::MOUNT_ATTR_NOEXEC),
    ("rnodiratime", libc::MOUNT_ATTR_NODIRATIME, 0),
    ("rdiratime", 0, libc::MOUNT_ATTR_NODIRATIME),
    // Times of access are one field: a new value comes with the field's bits to clear. Without a value it is relatime.
    ("rnoatime", libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME),
    ("ratime", 0, libc::MOUNT_ATTR__ATIME),
    ("rrelatime", 0, libc::MOUNT_ATTR__ATIME),
    ("rnorelatime", 0, libc::MOUNT_ATTR__ATIME),
    (
        "rstrictatime",
        libc::MOUNT_ATTR_STRICTATIME,
        libc::MOUNT_ATTR__ATIME,
    ),
    ("rnostrictatime", 0, libc::MOUNT_ATTR__ATIME),
];

/// Options with a meaning of their own, or none.
const OTHER: [&str; 6] = [
    "bind",
    "rbind",
    "defaults",
    "tmpcopyup",
    "symfollow",
    "rsymfollow",
];

/// What podman has done with a volume, and leaves in.
const DONE: [&str; 2] = ["copy", "nocopy"];

/// Where the root is seen, if that can be had: the same place for every container, so that the snapshot of one names
/// files of another.
const PLACE: &str = "/mnt";

/// All mount options that mean something here.
pub fn options() -> Vec<&'static str> {
    let mut all: Vec<&str> = FLAGS
        .iter()
        .map(|f| f.0)
        .chain(SPREAD.iter().map(|s| s.0))
        .chain(RECURSIVE.iter().map(|r| r.0))
        .collect();
    all.extend(OTHER);
    all.sort_unstable();
    all
}

/// What the options of a mount say.
struct Options<'a> {
    flags: MountFlags,
    spread: Vec<MountPropagationFlags>,
    /// Bits to set and to clear, of what is mounted below too.
    below: (u64, u64),
    /// Those of the file system.
    data: Vec<&'a str>,
}

fn options_of(m: &Mount) -> Options<'_> {
    let (mut flags, mut spread, mut data) = (MountFlags::empty(), Vec::new(), Vec::new());
    let mut below = (0, 0);
    for o in m.options().iter().flatten() {
        if let Some((_, set, flag)) = FLAGS.iter().find(|f| f.0 == o) {
            flags.set(*flag, *set);
        } else if let Some((_, how)) = SPREAD.iter().find(|s| s.0 == o) {
            spread.push(*how);
        } else if let Some((_, set, clear)) = RECURSIVE.iter().find(|r| r.0 == o) {
            below = (below.0 & !clear | set, below.1 | clear);
        } else if !o.is_empty() && !OTHER.contains(&o.as_str()) && !DONE.contains(&o.as_str()) {
            data.push(o.as_str());
        }
    }
    Options {
        flags,
        spread,
        below,
        data,
    }
}

/// Why a mount cannot be as it is asked for: less than that would let the program do more than was meant.
fn unfit(m: &Mount, data: &[&str], bind: bool) -> Option<String> {
    let mapped = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|l| !l.is_empty());
    if mapped(m.uid_mappings()) || mapped(m.gid_mappings()) {
        return Some("uidMappings, gidMappings: mounts with ids of their own are not supported".to_string());
    }
    let why = |o: &str| match o.split('=').next() {
        Some("idmap" | "ridmap") => Some("mounts with ids of their own are not supported"),
        Some("nosymfollow" | "rnosymfollow") => Some("not supported: an image follows links itself"),
        _ if bind => Some("no option of a bind mount"),
        _ => None,
    };
    data.iter().find_map(|o| Some(format!("option {o}: {}", why(o)?)))
}

/// mount_setattr(2) of a mount and all below it.
fn set_below(mount: &OwnedFd, (set, clear): (u64, u64)) -> io::Result<()> {
    // SAFETY: all zero is a value of it.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = set;
    attr.attr_clr = clear;
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a C string, and the kernel reads `attr`, of the size that is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn has(m: &Mount, option: &str) -> bool {
    m.options().iter().flatten().any(|o| o == option)
}

/// Opens a path below `root` as a place; links lead nowhere else.
pub fn open_in(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let dir = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, dir | OFlags::DIRECTORY, Mode::empty())?;
    let rel = path.strip_prefix("/").unwrap_or(path);
    let rel = if rel.as_os_str().is_empty() {
        Path::new(".")
    } else {
        rel
    };
    Ok(rustix::fs::openat2(
        &root,
        rel,
        dir,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    )?)
}

/// Makes what is missing of a path below `root`: directories, the last one a file if `file` says so. Its place. A link
/// that leads nowhere gets what it leads to, below `root` too.
fn make_in(root: &Path, path: &Path, file: bool) -> io::Result<OwnedFd> {
    make_deep(root, path, file, 40)
}

/// `links`: so many may be followed, as in path_resolution(7).
fn make_deep(root: &Path, path: &Path, file: bool, links: u32) -> io::Result<OwnedFd> {
    match open_in(root, path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        done => return done,
    }
    let (Some(up), Some(name)) = (path.parent(), path.file_name()) else {
        return open_in(root, path);
    };
    let dir = make_deep(root, up, false, links)?;
    if let Ok(link) = rustix::fs::readlinkat(&dir, name, Vec::new()) {
        let left = links.checked_sub(1).ok_or(rustix::io::Errno::LOOP)?;
        let target = Path::new(std::ffi::OsStr::from_bytes(link.as_bytes()));
        return make_deep(root, &clean(&up.join(target)), file, left);
    }
    match file {
        true => {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            drop(rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o644))?);
        }
        false => match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
            Err(e) if e != rustix::io::Errno::EXIST => return Err(e.into()),
            _ => {}
        },
    }
    open_in(root, path)
}

/// A path that names what the descriptor is open on.
fn through(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Makes a directory in the container's root.
pub fn directory(root: &Path, path: &Path) -> Result<(), Why> {
    make_in(root, &clean(path), false)
        .map(drop)
        .map_err(|e| format!("{}: {}", path.display(), crate::state::reason(&e)))
}

/// An error about what was being done.
fn failed(what: &'static str) -> impl Fn(rustix::io::Errno) -> Why {
    move |e| format!("{what}: {}", crate::state::reason(&e.into()))
}

/// Mounts everything in this process' mount namespace. `state`: the container's state directory, with a file `empty`.
pub fn apply(spec: &Spec, bundle: &Path, rootfs: &Path, state: &Path) -> Result<(), Why> {
    let wanted = spec.linux().as_ref().and_then(|l| l.rootfs_propagation().clone());
    let spread = SPREAD
        .iter()
        .find(|s| Some(s.0) == wanted.as_deref())
        .map(|s| s.1);
    let spread = spread.unwrap_or(MountPropagationFlags::DOWNSTREAM) | MountPropagationFlags::REC;
    // Nothing that is mounted here may be seen by the host.
    let spread = if spread.contains(MountPropagationFlags::SHARED) {
        SPREAD[3].1
    } else {
        spread
    };
    let spread = if spread.contains(MountPropagationFlags::UNBINDABLE) {
        SPREAD[1].1
    } else {
        spread
    };
    rustix::mount::mount_change("/", spread).map_err(failed("mount propagation"))?;
    rustix::mount::mount_bind_recursive(rootfs, rootfs).map_err(failed("binding the root"))?;
    for own in ["/proc", "/sys", "/dev"] {
        directory(rootfs, Path::new(own))?;
    }
    for m in spec.mounts().iter().flatten() {
        one(m, bundle, rootfs).map_err(|e| {
            let to = m.destination().display();
            format!("mount {to}: {}", crate::state::reason(&e))
        })?;
    }
    if let Some(p) = spec.process() {
        directory(rootfs, p.cwd())?;
    }
    hide(spec, rootfs, &state.join("empty"))?;
    if spec.root().as_ref().and_then(|r| r.readonly()) == Some(true) {
        remount(rootfs, MountFlags::RDONLY).map_err(failed("read-only root"))?;
    }
    Ok(())
}

/// Moves the root to the place where all containers have it. Returns where it is now, and the path by which the
/// snapshot is opened now. The container's directory `state`, and `program`, stay reachable by their paths; so does the
/// snapshot, with the others in its folder, by a directory `snapshot` in `state`.
pub fn settle(
    rootfs: &Path,
    state: &Path,
    program: &Path,
    snapshot: Option<&Path>,
) -> Result<(PathBuf, Option<PathBuf>), Why> {
    let place = Path::new(PLACE);
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let hidden = |path: &Path| real(path).starts_with(real(place));
    if !place.is_dir() || hidden(state) || hidden(program) {
        return Ok((rootfs.to_path_buf(), snapshot.map(Path::to_path_buf)));
    }
    let mut from = snapshot.map(Path::to_path_buf);
    if let Some(path) = snapshot.filter(|p| hidden(p))
        && let (Some(folder), Some(name)) = (path.parent(), path.file_name())
    {
        let seen = state.join("snapshot");
        rustix::mount::mount_bind_recursive(folder, &seen).map_err(failed("the snapshot's folder"))?;
        from = Some(seen.join(name));
    }
    rustix::mount::mount_bind_recursive(rootfs, place).map_err(failed("moving the root"))?;
    Ok((place.to_path_buf(), from))
}

/// /proc, /sys and /dev are the image's own.
fn is_own(path: &Path) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|own| path.starts_with(own))
}

fn one(m: &Mount, bundle: &Path, root: &Path) -> io::Result<()> {
    let to = clean(m.destination());
    let kind = m.typ().as_deref().unwrap_or("");
    let bind = kind == "bind" || has(m, "bind") || has(m, "rbind");
    let name = to.display().to_string();
    if is_own(&to) {
        let usual = matches!(
            name.as_str(),
            "/proc" | "/sys" | "/dev" | "/dev/pts" | "/dev/shm" | "/dev/mqueue"
        ) || to.starts_with("/sys/fs/cgroup");
        match usual
            && (!bind || name == "/dev/shm" || name == "/dev/mqueue" || to.starts_with("/sys/fs/cgroup"))
        {
            true => log::debug(&format!("mount {name}: the image's own")),
            false => log::warn(&format!(
                "mount {name}: not mounted: /proc, /sys and /dev are the image's own"
            )),
        }
        return Ok(());
    }
    let Options {
        flags,
        spread,
        below,
        data,
    } = options_of(m);
    if let Some(why) = unfit(m, &data, bind) {
        return Err(io::Error::other(why));
    }
    let source = m.source().clone().unwrap_or_else(|| PathBuf::from(kind));
    match kind {
        _ if bind => {
            let from = bundle.join(&source);
            let meta = std::fs::metadata(&from).map_err(|e| {
                io::Error::new(
                    e.kind(),
                    format!("{}: {}", from.display(), crate::state::reason(&e)),
                )
            })?;
            let place = make_in(root, &to, !meta.is_dir())?;
            match has(m, "rbind") || !has(m, "bind") {
                true => rustix::mount::mount_bind_recursive(&from, through(&place))?,
                false => rustix::mount::mount_bind(&from, through(&place))?,
            }
            if !flags.is_empty() {
                remount(&through(&open_in(root, &to)?), flags)?;
            }
        }
        "proc" | "sysfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2" => {
            log::warn(&format!(
                "mount {name}: not mounted: {kind} is there where an image has its own"
            ));
            return Ok(());
        }
        _ => {
            let place = make_in(root, &to, false)?;
            let below = through(&place);
            let text = CString::new(data.join(",")).map_err(io::Error::other)?;
            if kind == "tmpfs" && !data.iter().any(|d| d.starts_with("mode=")) {
                // As the directory that it covers.
                let stat = rustix::fs::stat(&below)?;
                let mode = format!("mode={:o}", stat.st_mode & 0o7777);
                let text = CString::new([data.join(","), mode].join(",").trim_start_matches(','))
                    .map_err(io::Error::other)?;
                rustix::mount::mount(&source, &below, kind, flags - MountFlags::RDONLY, text.as_c_str())?;
            } else {
                rustix::mount::mount(&source, &below, kind, flags - MountFlags::RDONLY, text.as_c_str())?;
            }
            let top_fd = open_in(root, &to)?;
            let top = through(&top_fd);
            if has(m, "tmpcopyup") {
                copy_up(&below, &top)?;
            }
            if flags.contains(MountFlags::RDONLY) {
                remount(&top, flags)?;
            }
        }
    }
    let top_fd = open_in(root, &to)?;
    let top = through(&top_fd);
    if below != (0, 0) {
        set_below(&top_fd, below)?;
    }
    for how in spread {
        rustix::mount::mount_change(&top, how)?;
    }
    Ok(())
}

/// Sets flags of a mount. Those that it has and that this user namespace cannot take away stay.
fn remount(path: &Path, flags: MountFlags) -> rustix::io::Result<()> {
    let flags = flags | MountFlags::BIND;
    match rustix::mount::mount_remount(path, flags, c"") {
        Err(rustix::io::Errno::PERM) => {
            // The bits of ST_* and MS_* agree for these.
            let has = rustix::fs::statvfs(path)?.f_flag.bits() as u32;
            let locked = MountFlags::RDONLY
                | MountFlags::NOSUID
                | MountFlags::NODEV
                | MountFlags::NOEXEC
                | MountFlags::NOATIME
                | MountFlags::NODIRATIME;
            rustix::mount::mount_remount(path, flags | (MountFlags::from_bits_truncate(has) & locked), c"")
        }
        done => done,
    }
}

/// What the image had below a tmpfs is in it at first.
fn copy_up(from: &Path, to: &Path) -> io::Result<()> {
    for e in std::fs::read_dir(from)? {
        let e = e?;
        let (old, new) = (e.path(), to.join(e.file_name()));
        let stat = rustix::fs::lstat(&old)?;
        match e.file_type()? {
            t if t.is_dir() => {
                std::fs::create_dir(&new)?;
                copy_up(&old, &new)?;
            }
            t if t.is_symlink() => std::os::unix::fs::symlink(std::fs::read_link(&old)?, &new)?,
            t if t.is_file() => drop(std::fs::copy(&old, &new)?),
            _ => {
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                rustix::fs::mknodat(CWD, &new, kind, mode, stat.st_rdev)?;
            }
        }
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(stat.st_uid),
            rustix::fs::Gid::from_raw(stat.st_gid),
        );
        rustix::fs::chownat(CWD, &new, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !e.file_type()?.is_symlink() {
            rustix::fs::chmodat(
                CWD,
                &new,
                Mode::from_raw_mode(stat.st_mode & 0o7777),
                AtFlags::empty(),
            )?;
        }
    }
    Ok(())
}

/// maskedPaths and readonlyPaths, as far as they are not the image's own.
fn hide(spec: &Spec, root: &Path, empty: &Path) -> Result<(), Why> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let told = |path: &str, e: io::Error| format!("{path}: {}", crate::state::reason(&e));
    let paths = |list: &Option<Vec<String>>| -> Vec<String> {
        let all = list.iter().flatten();
        all.filter(|p| !is_own(&clean(Path::new(p)))).cloned().collect()
    };
    let there = |path: &str| match open_in(root, &clean(Path::new(path))) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(told(path, e)),
    };
    for path in paths(linux.readonly_paths()) {
        let Some(fd) = there(&path)? else { continue };
        let at = through(&fd);
        let bound = rustix::mount::mount_bind_recursive(&at, &at);
        bound.map_err(|e| told(&path, e.into()))?;
        if let Some(top) = there(&path)? {
            remount(&through(&top), MountFlags::RDONLY).map_err(|e| told(&path, e.into()))?;
        }
    }
    for path in paths(linux.masked_paths()) {
        let Some(fd) = there(&path)? else { continue };
        let at = through(&fd);
        let done = match at.is_dir() {
            true => rustix::mount::mount("tmpfs", &at, "tmpfs", MountFlags::RDONLY, c"size=0k,mode=555"),
            // Not /dev/null, as others do: an image opens no devices of the host.
            false => rustix::mount::mount_bind(empty, &at),
        };
        done.map_err(|e| told(&path, e.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(v: serde_json::Value) -> Mount {
        let mut all = serde_json::json!({"destination": "/x", "source": "/y", "type": "bind"});
        all.as_object_mut()
            .unwrap()
            .extend(v.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn with(options: &[&str]) -> Mount {
        mount(serde_json::json!({"options": options}))
    }

    #[test]
    fn options_for_all_below_are_bits_to_set_and_to_clear() {
        let bits = |options: &[&str]| {
            let m = with(options);
            let o = options_of(&m);
            assert!(o.data.is_empty(), "{:?}", o.data);
            o.below
        };
        assert_eq!(bits(&["rbind", "ro"]), (0, 0));
        assert_eq!(bits(&["rro", "rnosuid", "rnodev", "rnoexec"]), (0xf, 0));
        assert_eq!(bits(&["rro", "rrw"]), (0, 1));
        assert_eq!(bits(&["rrw", "rro"]), (1, 1));
        assert_eq!(bits(&["rnoatime"]), (0x10, 0x70));
        assert_eq!(bits(&["rnoatime", "rstrictatime"]), (0x20, 0x70));
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let why = |m: &Mount, bind| unfit(m, &options_of(m).data, bind);
        assert_eq!(
            why(
                &with(&["rbind", "rprivate", "ro", "rro", "symfollow", "nocopy", ""]),
                true
            ),
            None
        );
        for bad in [
            "idmap",
            "ridmap",
            "idmap=uids=0-1-1",
            "nosymfollow",
            "rnosymfollow",
        ] {
            for bind in [true, false] {
                let why = why(&with(&["ro", bad]), bind).unwrap();
                assert!(why.contains(&format!("option {bad}: ")), "{why}");
            }
        }
        assert!(
            why(&with(&["rbind", "secure"]), true)
                .unwrap()
                .contains("option secure: ")
        );
        assert_eq!(why(&with(&["size=1m"]), false), None);
        for which in ["uidMappings", "gidMappings"] {
            let map = serde_json::json!([{"containerID": 0, "hostID": 1, "size": 1}]);
            let m = mount(serde_json::json!({which: map}));
            assert!(why(&m, true).unwrap().contains(which));
        }
    }
}
