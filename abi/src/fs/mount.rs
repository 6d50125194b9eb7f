//! The mount tree.

use super::perm::mode;
use super::tree::Tree;
use super::volume::Volume;
use super::{Fs, FsInfo, HOST_ROOT, HOST_TOP, Loc, Vfs, is_within, walk};
use crate::config::SECRETS;
use crate::cx::Cx;
use crate::fdtable::oflag;
use crate::kernel::Kernel;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};
use ftl_core::kcore::Env;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A mounted file system.
pub struct Mount {
    /// Number in mountinfo.
    pub id: u32,
    /// What is mounted.
    pub fs: Rc<dyn Fs>,
    /// Where: a place in another mount; `None` for the root.
    pub at: Option<Loc>,
    /// No changes.
    pub ro: Cell<bool>,
    /// First field of /proc/mounts.
    pub source: Vec<u8>,
    kids: RefCell<Vec<(Vec<u8>, Rc<Mount>)>>,
}

impl Mount {
    /// What is mounted exactly at `path`.
    pub fn child(&self, path: &[u8]) -> Option<Rc<Mount>> {
        let kids = self.kids.borrow();
        kids.iter().rev().find(|(p, _)| p == path).map(|(_, m)| m.clone())
    }

    /// Something is mounted at or below `path`: it cannot be removed or renamed.
    pub fn busy(&self, path: &[u8]) -> bool {
        self.kids.borrow().iter().any(|(p, _)| is_within(p, path))
    }
}

/// Host directories that a user gave the image.
#[derive(Clone, Debug, Default)]
pub struct VolumeConfig {
    /// The working directory at start is written through.
    pub cwd: bool,
    /// `-v`: host path, guest path, read-only. One at `/` is the root itself: there is no layer then, and its
    /// host path is not looked at.
    pub volumes: Vec<(Vec<u8>, Vec<u8>, bool)>,
}

impl Vfs {
    fn add_mount(&self, fs: Rc<dyn Fs>, at: Option<Loc>, source: &[u8]) -> Rc<Mount> {
        let m = Rc::new(Mount {
            id: 21 + self.mounts.borrow().len() as u32,
            fs,
            at,
            ro: Cell::new(false),
            source: source.to_vec(),
            kids: RefCell::default(),
        });
        if let Some(at) = &m.at {
            at.mount.kids.borrow_mut().push((at.path.clone(), m.clone()));
        }
        self.mounts.borrow_mut().push(m.clone());
        m
    }
}

/// The root mount; everything else follows in [`populate`]. `None`: the layer that an earlier run left
/// cannot be understood.
pub fn start(k: &Kernel, env: &mut Env<'_>) -> Option<FsInfo> {
    let volume = k.config.mounts.volumes.iter().find(|v| v.1 == b"/");
    let root = match volume {
        Some((_, _, ro)) => {
            let m =
                k.fs.add_mount(Volume::new(k, env.core.own(HOST_ROOT)), None, b"root");
            m.ro.set(*ro);
            m
        }
        None => {
            let st = env.plat.host_stat(HOST_ROOT).unwrap_or_default();
            let tree = Tree::overlay(k, HOST_ROOT, &st);
            let tree = match k.config.keep_layer {
                true => tree.load(k, env)?,
                false => tree,
            };
            k.fs.add_mount(tree, None, b"overlay")
        }
    };
    let place = k.fs.hold(&Loc {
        mount: root,
        path: Vec::new(),
    });
    Some(FsInfo {
        cwd: RefCell::new(place.clone()),
        root: RefCell::new(place),
        umask: Cell::new(k.config.umask),
    })
}

/// The root's writable layer goes to the host, for the next run of that name.
pub fn save_layer(k: &Kernel, env: &mut Env<'_>) {
    let root = k.fs.mounts().into_iter().next();
    if let Some(tree) = root.as_ref().and_then(|m| m.fs.as_any().downcast_ref::<Tree>()) {
        tree.save(env);
    }
}

/// Mounts at `path`, making a directory there if there is none.
fn mount_at(cx: &mut Cx<'_>, path: &[u8], fs: Rc<dyn Fs>, source: &[u8]) -> Io<Rc<Mount>> {
    let loc = match find_dir(cx, path) {
        Ok(l) => l,
        Err(_) => {
            make_dirs(cx, path)?;
            find_dir(cx, path)?
        }
    };
    // The way to a mount point is kept in memory, so that listings show it and the host is not asked.
    if let Some(t) = loc.mount.fs.as_any().downcast_ref::<Tree>() {
        t.pin(cx, &loc.path)?;
    }
    Ok(cx.k.fs.add_mount(fs, Some(loc), source))
}

fn find_dir(cx: &mut Cx<'_>, path: &[u8]) -> Io<Loc> {
    walk::with(cx, walk::AT_FDCWD, path, true, |cx, t| {
        let st = t.stat(cx)?;
        if st.mode & mode::FMT != mode::DIR {
            return err(Errno::ENOTDIR);
        }
        Ok(t.loc.clone())
    })
}

fn make_dirs(cx: &mut Cx<'_>, path: &[u8]) -> Io<()> {
    for end in (1..=path.len()).filter(|i| *i == path.len() || path[*i] == b'/') {
        if find_dir(cx, &path[..end]).is_ok() {
            continue;
        }
        walk::with_name(cx, walk::AT_FDCWD, &path[..end], |cx, t| {
            match t.loc.mount.fs.as_any().downcast_ref::<Tree>() {
                Some(tree) => tree.force_dir(cx, &t.loc.path, 0o755),
                None => err(Errno::ENOENT),
            }
        })?;
    }
    Ok(())
}

fn volume(cx: &mut Cx<'_>, host: &[u8], guest: &[u8], ro: bool) -> Io<()> {
    let new = cx.core.new_handle();
    let rel: &[u8] = host.strip_prefix(b"/").unwrap_or(host);
    let rel: &[u8] = if rel.is_empty() { b"." } else { rel };
    cx.env.plat.host_open(
        HOST_TOP,
        rel,
        oflag::O_DIRECTORY | oflag::O_CLOEXEC,
        0,
        false,
        new,
        None,
    )?;
    let root = cx.core.own(new);
    let v = Volume::new(cx.k, root);
    let m = mount_at(cx, guest, v, host)?;
    m.ro.set(ro);
    Ok(())
}

/// Secrets become files of a file system of their own: what a run keeps of its root on disk has none of them.
fn secrets(cx: &mut Cx<'_>, now: i128) -> Io<()> {
    let all = cx.k.config.secrets.take();
    if all.is_empty() {
        return Ok(());
    }
    let dir = Tree::tmpfs(cx.k, 0o755, (0, 0), now);
    for s in &all {
        dir.force_file(cx, &s.name, s.mode, s.owner, &s.bytes)?;
    }
    mount_at(cx, SECRETS, dir, b"tmpfs")?.ro.set(true);
    Ok(())
}

/// A file system of the image's own: path, itself, source.
type Own = (&'static [u8], Rc<dyn Fs>, &'static [u8]);

/// Mounts /dev, /proc, /sys and the volumes, and enters the working directory. The first process is
/// the caller. The error names what could not be had.
pub fn populate(cx: &mut Cx<'_>) -> Result<(), (Vec<u8>, Errno)> {
    let now = cx.env.realtime();
    let root = (0, 0);
    let k = cx.k;
    let dev = Tree::tmpfs(k, 0o755, root, now);
    super::dev::fill(cx, &dev);
    let shm = Tree::tmpfs(k, 0o1777, root, now);
    let mounts: [Own; 5] = [
        (b"/dev", dev, b"udev"),
        (b"/dev/pts", crate::tty::DevPts::new(&k.ttys), b"devpts"),
        (b"/dev/shm", shm, b"tmpfs"),
        (b"/proc", super::proc::ProcFs::new(k), b"proc"),
        (b"/sys", super::proc::SysFs::new(k), b"sysfs"),
    ];
    let fail = |path: &[u8], s: ftl_core::io::Stop| {
        let e = match s {
            ftl_core::io::Stop::Errno(e) => e,
            _ => Errno::EIO,
        };
        (path.to_vec(), e)
    };
    for (path, fs, source) in mounts {
        mount_at(cx, path, fs, source).map_err(|e| fail(path, e))?;
    }
    let config = cx.k.config.mounts.clone();
    let cwd = cx.k.config.cwd.clone();
    if config.cwd && cwd.len() > 1 {
        volume(cx, &cwd, &cwd, false).map_err(|e| fail(&cwd, e))?;
    }
    for (host, guest, ro) in config.volumes.iter().filter(|v| v.1 != b"/") {
        volume(cx, host, guest, *ro).map_err(|e| fail(host, e))?;
    }
    secrets(cx, now).map_err(|e| fail(SECRETS, e))?;
    crate::tty::adopt_console(cx);
    let loc = find_dir(cx, &cwd).map_err(|e| fail(&cwd, e))?;
    *cx.task.fs.borrow().cwd.borrow_mut() = cx.k.fs.hold(&loc);
    Ok(())
}
