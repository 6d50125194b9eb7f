//! An open generated file. Its text is made at open and again at each read from offset 0, so that a
//! program that keeps it open and rewinds sees the present.

use super::Subject;
use super::pid::PidItem;
use super::table::{Item, Make};
use crate::cx::Cx;
use crate::fdtable::OpenFile;
use ftl_core::errno::Errno;
use ftl_core::file::{File, FileRef};
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Where the text comes from.
#[derive(Clone)]
pub enum Source {
    /// The kernel.
    Global(&'static Item),
    /// A process or thread.
    Pid(Subject, &'static PidItem),
    /// One of its descriptors.
    FdInfo(Subject, i32),
}

/// See the module.
pub struct GenFile {
    source: Source,
    stat: Stat,
    path: Vec<u8>,
    text: RefCell<Vec<u8>>,
    fresh: Cell<bool>,
}

impl GenFile {
    /// Opens it and makes the text.
    pub fn open(cx: &mut Cx<'_>, source: Source, stat: Stat, path: Vec<u8>) -> Io<FileRef> {
        let f = GenFile {
            source,
            stat,
            path,
            text: RefCell::default(),
            fresh: Cell::new(true),
        };
        f.make(cx)?;
        Ok(Rc::new(f))
    }

    fn make(&self, cx: &mut Cx<'_>) -> Io<()> {
        let text = match &self.source {
            Source::Global(i) => match i.make {
                Make::Text(f) => f(cx),
                Make::Const(s) => s.as_bytes().to_vec(),
                Make::Link(_) => return err(Errno::EINVAL),
            },
            Source::Pid(s, i) => (i.make)(cx, s)?,
            Source::FdInfo(s, fd) => super::pid::fdinfo(s, *fd)?,
        };
        *self.text.borrow_mut() = text;
        Ok(())
    }
}

/// Makes the text of a generated file anew if `pos` is its start. Others are left alone.
pub fn refresh(cx: &mut Cx<'_>, open: &OpenFile, pos: u64) {
    if pos == 0
        && let Some(f) = open.file.as_any().downcast_ref::<GenFile>()
        && !f.fresh.replace(false)
    {
        // A process that is gone keeps its last text.
        let _ = f.make(cx);
    }
}

impl File for GenFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        self.path.clone()
    }
    fn seekable(&self) -> bool {
        true
    }
    fn read(&self, env: &mut Env<'_>, offset: u64, dst: &mut Dst) -> Io<u64> {
        let text = self.text.borrow();
        let at = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        Ok(dst.put(env.plat, &text[at..])? as u64)
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        let bytes = src.get_vec(env.plat, 4096)?;
        match &self.source {
            Source::Pid(s, i) if i.name == "comm" => {
                let task = s.task.as_ref().ok_or(Errno::ESRCH)?;
                let mut name = [0; 16];
                let n = bytes
                    .iter()
                    .position(|b| *b == b'\n' || *b == 0)
                    .unwrap_or(bytes.len())
                    .min(15);
                name[..n].copy_from_slice(&bytes[..n]);
                task.name.set(name);
            }
            Source::Pid(_, i)
                if !matches!(
                    i.name,
                    "oom_score_adj"
                        | "oom_adj"
                        | "loginuid"
                        | "clear_refs"
                        | "coredump_filter"
                        | "timerslack_ns"
                        | "autogroup"
                ) =>
            {
                return err(Errno::EPERM);
            }
            Source::FdInfo(..) => return err(Errno::EPERM),
            // Settings are accepted and have no effect: there is nothing behind them.
            _ => {}
        }
        self.fresh.set(false);
        Ok(bytes.len() as u64)
    }
    fn seek(&self, _: &mut Env<'_>, pos: u64, offset: i64, whence: i32) -> Io<u64> {
        match whence {
            0 | 1 => crate::fs::memfile::seek_plain(pos, offset, whence, 0),
            _ => err(Errno::EINVAL),
        }
    }
    fn truncate(&self, _: &mut Env<'_>, _: u64) -> Io<()> {
        Ok(())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.stat)
    }
}
