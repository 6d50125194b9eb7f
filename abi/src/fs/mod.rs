//! Files.

mod console;

pub use console::Console;

use crate::cx::Cx;
use crate::fdtable::OpenFile;
use ftl_core::errno::Errno;
use ftl_core::file::{File, FileRef};
use ftl_core::io::{Dst, Io, err};
use ftl_core::kcore::{Env, HostRef};
use ftl_core::platform::{Backing, Handle, Stat};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Handle of the host's root directory, opened by the runtime at start.
pub const HOST_ROOT: Handle = Handle(8);

/// Working directory, root and umask.
pub struct FsInfo {
    /// Working directory as an absolute path.
    pub cwd: RefCell<Vec<u8>>,
    /// umask(2)
    pub umask: Cell<u32>,
}

impl FsInfo {
    /// A copy for a task that does not share it (clone without CLONE_FS).
    pub fn duplicate(&self) -> FsInfo {
        FsInfo {
            cwd: self.cwd.clone(),
            umask: self.umask.clone(),
        }
    }
}

/// A regular file of the host tree.
pub struct HostFile {
    host: HostRef,
    path: Vec<u8>,
}

impl File for HostFile {
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
        let mut buf = vec![0; dst.remaining().min(1 << 20) as usize];
        let n = env.plat.host_pread(self.host.handle, offset, &mut buf)?;
        Ok(dst.put(env.plat, &buf[..n])? as u64)
    }
    fn stat(&self, env: &mut Env<'_>) -> Io<Stat> {
        Ok(env.plat.host_stat(self.host.handle)?)
    }
    fn map(&self, _: &mut Env<'_>, offset: u64, len: u64, _: bool, _: bool) -> Io<Vec<(u64, Backing)>> {
        Ok(vec![(len, Backing::HostFile(self.host.handle, offset))])
    }
}

/// Opens a path for the kernel itself (execve).
pub fn open_for_exec(cx: &mut Cx<'_>, path: &[u8]) -> Io<Rc<OpenFile>> {
    let h = cx.core.new_handle();
    let rel: &[u8] = if path.starts_with(b"/") { &path[1..] } else { path };
    cx.env.plat.host_open(HOST_ROOT, rel, 0, 0, false, h)?;
    let host = cx.core.own(h);
    Ok(OpenFile::new(
        Rc::new(HostFile {
            host,
            path: path.to_vec(),
        }),
        0,
    ))
}

/// Memory for MAP_SHARED|MAP_ANONYMOUS.
pub fn anon_shared(_cx: &mut Cx<'_>, _len: u64) -> Io<FileRef> {
    err(Errno::ENOMEM)
}
