//! /proc/PID/mem: a process' memory as a file. The bytes are in another space, so the file itself cannot
//! move them: its reads and writes say EAGAIN, and the calls then come here (`read`, `write`).

use super::Subject;
use crate::cx::Cx;
use crate::fdtable::OpenFile;
use crate::mm::Mm;
use crate::ptrace::remote::{self, Op};
use ftl_core::errno::Errno;
use ftl_core::file::{File, FileRef};
use ftl_core::io::{Dst, Io, Src, Stop, err};
use ftl_core::kcore::Env;
use ftl_core::layout::GUEST_TOP;
use ftl_core::platform::Stat;
use std::any::Any;
use std::rc::Rc;

/// See the module.
pub struct MemOf {
    mm: Rc<Mm>,
    stat: Stat,
    path: Vec<u8>,
}

/// Opens it: EACCES unless the caller could trace the process.
pub fn open(cx: &Cx<'_>, s: &Subject, stat: Stat, path: Vec<u8>) -> Io<FileRef> {
    let task = s.task.as_ref().ok_or(Errno::ESRCH)?;
    crate::process::may_access(cx, task).map_err(|_| Errno::EACCES)?;
    Ok(Rc::new(MemOf {
        mm: task.mm(),
        stat,
        path,
    }))
}

fn of(open: &OpenFile) -> Option<&MemOf> {
    open.file.as_any().downcast_ref::<MemOf>()
}

/// Bytes that can be moved at `pos` in one go; none: the process has gone.
fn room(m: &MemOf, pos: u64, want: u64) -> Io<Option<u64>> {
    if m.mm.users.get() == 0 {
        return Ok(None);
    }
    let want = want.min(remote::CHUNK as u64).min(GUEST_TOP.saturating_sub(pos));
    match if want == 0 {
        0
    } else {
        m.mm.mapped_prefix(pos, want)
    } {
        0 => err(Errno::EIO),
        n => Ok(Some(n)),
    }
}

fn failed(e: Stop) -> Stop {
    match e {
        Stop::Errno(_) => Stop::Errno(Errno::EIO),
        s => s,
    }
}

/// Reads, if the file is such a one.
pub fn read(cx: &mut Cx<'_>, open: &OpenFile, pos: u64, dst: &mut Dst) -> Option<Io<u64>> {
    let m = of(open)?;
    if dst.remaining() == 0 {
        return Some(Ok(0));
    }
    let n = match room(m, pos, dst.remaining()) {
        Ok(Some(n)) => n,
        Ok(None) => return Some(Ok(0)),
        Err(e) => return Some(Err(e)),
    };
    let moved = remote::access(cx, &m.mm, Op::Read(pos, n as usize, true)).map_err(failed);
    Some(moved.and_then(|bytes| Ok(dst.put(cx.env.plat, &bytes)? as u64)))
}

/// Writes, if the file is such a one.
pub fn write(cx: &mut Cx<'_>, open: &OpenFile, pos: u64, src: &mut Src) -> Option<Io<u64>> {
    let m = of(open)?;
    if src.remaining() == 0 {
        return Some(Ok(0));
    }
    let n = match room(m, pos, src.remaining()) {
        Ok(Some(n)) => n,
        Ok(None) => return Some(Ok(0)),
        Err(e) => return Some(Err(e)),
    };
    let bytes = match src.get_vec(cx.env.plat, n as usize) {
        Ok(b) => b,
        Err(e) => return Some(err(e)),
    };
    let n = bytes.len() as u64;
    let done = remote::access(cx, &m.mm, Op::Write(pos, bytes, true)).map_err(failed);
    Some(done.map(|_| n))
}

impl File for MemOf {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        self.path.clone()
    }
    fn seekable(&self) -> bool {
        true
    }
    fn read(&self, _: &mut Env<'_>, _: u64, _: &mut Dst) -> Io<u64> {
        err(Errno::EAGAIN)
    }
    fn write(&self, _: &mut Env<'_>, _: u64, _: &mut Src) -> Io<u64> {
        err(Errno::EAGAIN)
    }
    fn seek(&self, _: &mut Env<'_>, pos: u64, offset: i64, whence: i32) -> Io<u64> {
        match whence {
            0 => Ok(offset as u64),
            1 => Ok(pos.wrapping_add(offset as u64)),
            _ => err(Errno::EINVAL),
        }
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.stat)
    }
}
