//! /proc and /sys, made from kernel state when they are read. One CPU is reported; nothing here
//! depends on the host.

mod gen_file;
mod global;
mod maps;
pub mod mem;
mod pid;
mod sysfs;
mod table;

pub use gen_file::refresh;
pub use sysfs::SysFs;

use super::perm::{self, mode};
use super::{DirFile, Fs, How, Link, Loc, StatFs};
use crate::cx::Cx;
use crate::fdtable::oflag;
use crate::kernel::Kernel;
use crate::task::{Process, Task};
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};
use ftl_core::platform::{DirEntry, Stat};
use ftl_core::wait::Tid;
use gen_file::{GenFile, Source};
use std::any::Any;
use std::collections::BTreeSet;
use std::rc::Rc;
use table::{Item, Make};

/// procfs.
pub struct ProcFs {
    dev: u64,
}

/// A process or thread directory's subject.
#[derive(Clone)]
pub struct Subject {
    /// The process.
    pub proc: Rc<Process>,
    /// The thread; a zombie has none.
    pub task: Option<Rc<Task>>,
    /// /proc/PID/task/TID rather than /proc/PID.
    pub thread: bool,
}

impl Subject {
    fn id(&self) -> u32 {
        match &self.task {
            Some(t) if self.thread => t.tid.0,
            _ => self.proc.pid.0,
        }
    }

    /// One of its threads. A leader that has ended is a zombie until the process is reaped.
    fn of_thread(&self, tid: Tid) -> Option<Subject> {
        let task = self.proc.threads.borrow().get(&tid).cloned();
        (task.is_some() || tid == self.proc.pid).then(|| Subject {
            proc: self.proc.clone(),
            task,
            thread: true,
        })
    }

    /// Numbers of its threads.
    fn threads(&self) -> BTreeSet<Tid> {
        let live = self.proc.threads.borrow();
        live.keys().copied().chain([self.proc.pid]).collect()
    }
}

/// The process whose directory this is, not one of its threads'. ESRCH: it has ended.
pub fn process_of(loc: &Loc, cx: &Cx<'_>) -> Option<Result<Rc<Process>, Errno>> {
    loc.mount.fs.as_any().downcast_ref::<ProcFs>()?;
    let pid = Tid(number(&loc.path)?);
    Some(cx.k.procs.borrow().get(&pid).cloned().ok_or(Errno::ESRCH))
}

enum Node {
    Root,
    Global(&'static Item),
    GlobalDir,
    Own(bool),
    Pid(Subject),
    PidFile(Subject, &'static pid::PidItem),
    PidLink(Subject, &'static str),
    TaskDir(Subject),
    FdDir(Subject, bool),
    Fd(Subject, i32),
    FdInfo(Subject, i32),
    EmptyDir,
}

/// Inode number of a path: stable, and the same in every run.
fn ino_of(path: &[u8]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for b in path {
        h = (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
    }
    (h >> 24) | 0x1_0000_0000
}

fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 1 && text[0] == b'0' {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn subject(k: &Kernel, tid: u32) -> Option<Subject> {
    let tid = Tid(tid);
    if let Some(p) = k.procs.borrow().get(&tid) {
        return Some(Subject {
            proc: p.clone(),
            task: p.any_thread(),
            thread: false,
        });
    }
    // /proc/TID exists, unlisted.
    let t = k.tasks.borrow().get(&tid)?.clone();
    Some(Subject {
        proc: t.process(),
        task: Some(t),
        thread: false,
    })
}

impl ProcFs {
    /// A new one.
    pub fn new(k: &Kernel) -> Rc<ProcFs> {
        Rc::new(ProcFs { dev: k.fs.new_dev() })
    }

    fn parse(&self, cx: &Cx<'_>, path: &[u8]) -> Io<Node> {
        if path.is_empty() {
            return Ok(Node::Root);
        }
        let mut parts = path.splitn(2, |b| *b == b'/');
        let first = parts.next().unwrap_or(&[]);
        let rest = parts.next();
        match (first, rest) {
            (b"self", None) => return Ok(Node::Own(false)),
            (b"thread-self", None) => return Ok(Node::Own(true)),
            (b"self" | b"thread-self", Some(_)) => return err(Errno::ELOOP),
            _ => {}
        }
        let Some(n) = number(first) else {
            return match table::find(global::ITEMS, path) {
                table::Found::Item(i) => Ok(Node::Global(i)),
                table::Found::Dir => Ok(Node::GlobalDir),
                table::Found::Link => err(Errno::ELOOP),
                table::Found::No(e) => err(e),
            };
        };
        let s = subject(cx.k, n).ok_or(Errno::ENOENT)?;
        match rest {
            None => Ok(Node::Pid(s)),
            Some(rest) => Self::parse_pid(s, rest),
        }
    }

    fn parse_pid(s: Subject, path: &[u8]) -> Io<Node> {
        let mut parts = path.splitn(2, |b| *b == b'/');
        let first = parts.next().unwrap_or(&[]);
        let rest = parts.next();
        match (first, rest) {
            (b"task", None) if !s.thread => Ok(Node::TaskDir(s)),
            (b"task", Some(rest)) if !s.thread => {
                let mut parts = rest.splitn(2, |b| *b == b'/');
                let tid = number(parts.next().unwrap_or(&[])).ok_or(Errno::ENOENT)?;
                let s = s.of_thread(Tid(tid)).ok_or(Errno::ENOENT)?;
                match parts.next() {
                    None => Ok(Node::Pid(s)),
                    Some(rest) => Self::parse_pid(s, rest),
                }
            }
            (b"fd" | b"fdinfo", None) => Ok(Node::FdDir(s, first == b"fdinfo")),
            (b"fd" | b"fdinfo", Some(n)) => {
                let (n, more) = match n.iter().position(|b| *b == b'/') {
                    Some(i) => (&n[..i], true),
                    None => (n, false),
                };
                let fd = number(n).ok_or(Errno::ENOENT)? as i32;
                let task = s.task.as_ref().ok_or(Errno::ENOENT)?;
                task.files().get(fd).map_err(|_| Errno::ENOENT)?;
                if more {
                    return err(if first == b"fd" {
                        Errno::ELOOP
                    } else {
                        Errno::ENOTDIR
                    });
                }
                Ok(if first == b"fd" {
                    Node::Fd(s, fd)
                } else {
                    Node::FdInfo(s, fd)
                })
            }
            (b"exe", rest) => link_or_loop(s, "exe", rest),
            (b"cwd", rest) => link_or_loop(s, "cwd", rest),
            (b"root", rest) => link_or_loop(s, "root", rest),
            (b"ns" | b"map_files", None) => Ok(Node::EmptyDir),
            (name, rest) => match pid::ITEMS.iter().find(|i| i.name.as_bytes() == name) {
                Some(_) if rest.is_some() => err(Errno::ENOTDIR),
                Some(i) => Ok(Node::PidFile(s, i)),
                None => err(Errno::ENOENT),
            },
        }
    }

    fn node_mode(&self, node: &Node) -> u32 {
        match node {
            Node::Root | Node::GlobalDir | Node::Pid(_) | Node::TaskDir(_) => mode::DIR | 0o555,
            Node::EmptyDir => mode::DIR | 0o511,
            Node::FdDir(_, info) => mode::DIR | if *info { 0o555 } else { 0o500 },
            Node::Global(i) => match i.make {
                Make::Link(_) => mode::LNK | 0o777,
                _ => mode::REG | i.mode,
            },
            Node::Own(_) | Node::PidLink(..) => mode::LNK | 0o777,
            Node::PidFile(_, i) => mode::REG | i.mode,
            Node::FdInfo(..) => mode::REG | 0o444,
            Node::Fd(s, fd) => {
                let open = s.task.as_ref().and_then(|t| t.files().get(*fd).ok());
                let r = open.as_ref().is_some_and(|o| o.readable());
                let w = open.as_ref().is_some_and(|o| o.writable());
                mode::LNK | if r { 0o500 } else { 0o100 } | if w { 0o200 } else { 0 }
            }
        }
    }

    fn owner(&self, node: &Node) -> (u32, u32) {
        let s = match node {
            Node::Pid(s) | Node::PidFile(s, _) | Node::PidLink(s, _) | Node::TaskDir(s) => s,
            Node::FdDir(s, _) | Node::Fd(s, _) | Node::FdInfo(s, _) => s,
            _ => return (0, 0),
        };
        match &s.task {
            Some(t) => {
                let c = t.creds.borrow();
                (c.euid, c.egid)
            }
            None => (0, 0),
        }
    }
}

fn link_or_loop(s: Subject, name: &'static str, rest: Option<&[u8]>) -> Io<Node> {
    if rest.is_some() {
        return err(Errno::ELOOP);
    }
    Ok(Node::PidLink(s, name))
}

fn entry(path: &[u8], name: &[u8], kind: u8) -> DirEntry {
    DirEntry {
        ino: ino_of(&super::join(path, name)),
        kind,
        name: name.to_vec(),
    }
}

const DT_DIR: u8 = 4;
const DT_REG: u8 = 8;
const DT_LNK: u8 = 10;

impl Fs for ProcFs {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn kind(&self) -> &'static str {
        "proc"
    }
    fn stat(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Stat> {
        let node = self.parse(cx, path)?;
        let (uid, gid) = self.owner(&node);
        let m = self.node_mode(&node);
        let now = cx.env.realtime();
        Ok(Stat {
            dev: self.dev,
            ino: ino_of(path),
            mode: m,
            nlink: if m & mode::FMT == mode::DIR { 2 } else { 1 },
            uid,
            gid,
            size: if matches!(node, Node::Fd(..)) { 64 } else { 0 },
            blksize: 1024,
            atime: now,
            mtime: now,
            ctime: now,
            ..Stat::default()
        })
    }
    fn readlink(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Link> {
        let node = self.parse(cx, path)?;
        match node {
            Node::Own(thread) => {
                let (pid, tid) = (cx.task.process().pid.0, cx.task.tid.0);
                Ok(Link::Text(if thread {
                    format!("{pid}/task/{tid}").into_bytes()
                } else {
                    pid.to_string().into_bytes()
                }))
            }
            Node::Global(i) => match i.make {
                Make::Link(t) => Ok(Link::Text(t.as_bytes().to_vec())),
                _ => err(Errno::EINVAL),
            },
            Node::PidLink(s, name) => {
                let task = s.task.as_ref().ok_or(Errno::ENOENT)?;
                if name == "exe" {
                    let exe = s.proc.exe.borrow().clone();
                    if exe.is_empty() {
                        return err(Errno::ENOENT);
                    }
                    return Ok(Link::Text(exe));
                }
                let fs = task.fs.borrow().clone();
                let place = if name == "cwd" {
                    fs.cwd.borrow().clone()
                } else {
                    fs.root.borrow().clone()
                };
                let loc = place.loc();
                let mut text = cx.task.fs.borrow().seen(&loc);
                if place.gone.get() {
                    text.extend_from_slice(b" (deleted)");
                }
                Ok(Link::Place(loc, text))
            }
            Node::Fd(s, fd) => {
                let task = s.task.as_ref().ok_or(Errno::ENOENT)?;
                let file = task.files().get(fd).map_err(|_| Errno::ENOENT)?.file.clone();
                let mut text = file.describe();
                if file.as_any().is::<super::HostFile>() && file.stat(&mut cx.env)?.nlink == 0 {
                    text.extend_from_slice(b" (deleted)");
                }
                if let Some(d) = file.as_any().downcast_ref::<DirFile>() {
                    return Ok(Link::Place(d.place.loc(), text));
                }
                if let Some(p) = file.as_any().downcast_ref::<super::PathFile>() {
                    return Ok(Link::Place(p.place.loc(), text));
                }
                Ok(Link::Open(file, text))
            }
            _ => err(Errno::EINVAL),
        }
    }
    fn open(&self, cx: &mut Cx<'_>, loc: &Loc, how: &How) -> Io<FileRef> {
        let path = &loc.path;
        let node = self.parse(cx, path)?;
        let st = self.stat(cx, path)?;
        if perm::is_link(&st) {
            return err(Errno::ELOOP);
        }
        if how.flags & (oflag::O_CREAT | oflag::O_EXCL) == oflag::O_CREAT | oflag::O_EXCL {
            return err(Errno::EEXIST);
        }
        let want =
            [perm::R, perm::W, perm::R | perm::W, perm::R | perm::W][(how.flags & oflag::O_ACCMODE) as usize];
        if perm::is_dir(&st) {
            if want & perm::W != 0 || how.flags & oflag::O_CREAT != 0 {
                return err(Errno::EISDIR);
            }
            perm::check(&cx.task.creds.borrow(), &st, want)?;
            return Ok(DirFile::new(cx.k.fs.hold(loc), st));
        }
        if how.flags & oflag::O_DIRECTORY != 0 {
            return err(Errno::ENOTDIR);
        }
        perm::check(&cx.task.creds.borrow(), &st, want)?;
        let source = match node {
            Node::Global(i) => Source::Global(i),
            Node::PidFile(s, i) if i.name == "mem" => return mem::open(cx, &s, st, loc.full()),
            Node::PidFile(s, i) => Source::Pid(s, i),
            Node::FdInfo(s, fd) => Source::FdInfo(s, fd),
            _ => return err(Errno::EIO),
        };
        GenFile::open(cx, source, st, loc.full())
    }
    fn list(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Vec<DirEntry>> {
        let node = self.parse(cx, path)?;
        let mut out = Vec::new();
        match node {
            Node::Root => {
                out.extend(
                    table::list(global::ITEMS, b"")
                        .into_iter()
                        .map(|(n, k)| entry(path, &n, k)),
                );
                out.push(entry(path, b"self", DT_LNK));
                out.push(entry(path, b"thread-self", DT_LNK));
                for p in cx.k.procs.borrow().keys() {
                    out.push(entry(path, p.0.to_string().as_bytes(), DT_DIR));
                }
            }
            Node::GlobalDir => {
                out.extend(
                    table::list(global::ITEMS, path)
                        .into_iter()
                        .map(|(n, k)| entry(path, &n, k)),
                );
            }
            Node::Pid(s) => {
                for d in ["fd", "fdinfo", "ns"] {
                    out.push(entry(path, d.as_bytes(), DT_DIR));
                }
                if !s.thread {
                    out.push(entry(path, b"task", DT_DIR));
                }
                for l in ["cwd", "exe", "root"] {
                    out.push(entry(path, l.as_bytes(), DT_LNK));
                }
                for i in pid::ITEMS {
                    out.push(entry(path, i.name.as_bytes(), DT_REG));
                }
            }
            Node::TaskDir(s) => {
                for t in s.threads() {
                    out.push(entry(path, t.0.to_string().as_bytes(), DT_DIR));
                }
            }
            Node::FdDir(s, info) => {
                if let Some(t) = &s.task {
                    for fd in t.files().list() {
                        out.push(entry(
                            path,
                            fd.to_string().as_bytes(),
                            if info { DT_REG } else { DT_LNK },
                        ));
                    }
                }
            }
            Node::EmptyDir => {}
            _ => return err(Errno::ENOTDIR),
        }
        Ok(out)
    }
    fn statfs(&self, _: &mut Cx<'_>, _: &[u8]) -> Io<StatFs> {
        Ok(StatFs {
            kind: 0x9fa0,
            bsize: 4096,
            namelen: 255,
            frsize: 4096,
            ..StatFs::default()
        })
    }
}
