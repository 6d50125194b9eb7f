//! The file system of pseudo-terminals.

use super::{Line, Ttys};
use crate::cx::Cx;
use crate::fdtable::oflag;
use crate::fs::perm::{self, mode};
use crate::fs::{DirFile, Fs, How, Link, Loc, StatFs};
use ftl_core::errno::Errno;
use ftl_core::file::{FileRef, SetAttr};
use ftl_core::io::{Io, err};
use ftl_core::platform::{DirEntry, Stat};
use std::any::Any;
use std::rc::Rc;

/// devpts.
pub struct DevPts {
    ttys: Rc<Ttys>,
}

impl DevPts {
    /// A new one over the terminals of the image.
    pub fn new(ttys: &Rc<Ttys>) -> Rc<DevPts> {
        Rc::new(DevPts { ttys: ttys.clone() })
    }

    fn line(&self, path: &[u8]) -> Io<Rc<Line>> {
        let n = std::str::from_utf8(path).ok().and_then(|s| s.parse::<u32>().ok());
        let Some(n) = n.filter(|n| n.to_string().as_bytes() == path) else {
            return err(if path.contains(&b'/') {
                Errno::ENOTDIR
            } else {
                Errno::ENOENT
            });
        };
        self.ttys.line(n).ok_or(Errno::ENOENT.into())
    }

    fn ptmx(&self) -> Stat {
        Stat {
            dev: self.ttys.dev.get(),
            ino: 2,
            mode: mode::CHR | 0o666,
            nlink: 1,
            rdev: crate::fs::dev::makedev(5, 2),
            blksize: 1024,
            ..Stat::default()
        }
    }
}

impl Fs for DevPts {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn kind(&self) -> &'static str {
        "devpts"
    }
    fn stat(&self, _: &mut Cx<'_>, path: &[u8]) -> Io<Stat> {
        match path {
            b"" => Ok(Stat {
                dev: self.ttys.dev.get(),
                ino: 1,
                mode: mode::DIR | 0o755,
                nlink: 2,
                blksize: 1024,
                ..Stat::default()
            }),
            b"ptmx" => Ok(self.ptmx()),
            p => Ok(self.line(p)?.stat()),
        }
    }
    fn readlink(&self, cx: &mut Cx<'_>, path: &[u8]) -> Io<Link> {
        self.stat(cx, path)?;
        err(Errno::EINVAL)
    }
    fn open(&self, cx: &mut Cx<'_>, loc: &Loc, how: &How) -> Io<FileRef> {
        let st = match self.stat(cx, &loc.path) {
            Err(_) if how.flags & oflag::O_CREAT != 0 => return err(Errno::EACCES),
            r => r?,
        };
        let want =
            [perm::R, perm::W, perm::R | perm::W, perm::R | perm::W][(how.flags & oflag::O_ACCMODE) as usize];
        perm::check(&cx.task.creds.borrow(), &st, want)?;
        if perm::is_dir(&st) {
            if want & perm::W != 0 || how.flags & oflag::O_CREAT != 0 {
                return err(Errno::EISDIR);
            }
            return Ok(DirFile::new(cx.k.fs.hold(loc), st));
        }
        if how.flags & oflag::O_DIRECTORY != 0 {
            return err(Errno::ENOTDIR);
        }
        if loc.path == b"ptmx" {
            return super::open_device(cx, st.rdev, how);
        }
        let line = self.line(&loc.path)?;
        self.ttys.open_line(&line)
    }
    fn list(&self, _: &mut Cx<'_>, path: &[u8]) -> Io<Vec<DirEntry>> {
        if !path.is_empty() {
            return err(Errno::ENOTDIR);
        }
        let mut out: Vec<DirEntry> = self
            .ttys
            .lines()
            .iter()
            .map(|l| DirEntry {
                ino: l.stat().ino,
                kind: 2,
                name: l.index.to_string().into_bytes(),
            })
            .collect();
        out.push(DirEntry {
            ino: 2,
            kind: 2,
            name: b"ptmx".to_vec(),
        });
        Ok(out)
    }
    fn set_attr(&self, _: &mut Cx<'_>, path: &[u8], attr: &SetAttr) -> Io<()> {
        self.line(path)?.set_attr(attr);
        Ok(())
    }
    fn statfs(&self, _: &mut Cx<'_>, _: &[u8]) -> Io<StatFs> {
        Ok(StatFs {
            kind: 0x1cd1,
            bsize: 4096,
            namelen: 255,
            frsize: 4096,
            ..StatFs::default()
        })
    }
}
