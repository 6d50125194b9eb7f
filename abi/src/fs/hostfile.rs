//! An open regular file of the host.

use super::volume::{Shared, Volume};
use ftl_core::errno::Errno;
use ftl_core::file::{File, SetAttr};
use ftl_core::io::{Dst, Io, Src, Stop, err};
use ftl_core::kcore::{Env, HostRef};
use ftl_core::platform::{Backing, Stat};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const CHUNK: usize = 1 << 18;

/// See the module.
pub struct HostFile {
    /// Shared with mappings that are written back.
    pub host: Rc<HostRef>,
    /// st_dev and st_ino.
    pub id: (u64, u64),
    path: Vec<u8>,
    /// The volume that it may be written through; `None` on the read-only tree.
    volume: Option<Rc<Volume>>,
    shared: RefCell<Option<Rc<Shared>>>,
    /// What open said, and the kernel entry of that: good for an fstat that is the very next one.
    first: Cell<Option<(u64, Stat)>>,
}

impl HostFile {
    /// An open file that `st` describes.
    pub fn new(
        env: &Env<'_>,
        host: HostRef,
        st: &Stat,
        path: Vec<u8>,
        volume: Option<Rc<Volume>>,
    ) -> Rc<HostFile> {
        Rc::new(HostFile {
            first: Cell::new(Some((env.core.clock.e.get(), *st))),
            host: Rc::new(host),
            id: (st.dev, st.ino),
            path,
            volume,
            shared: RefCell::default(),
        })
    }

    /// The volume that it is on.
    pub fn volume(&self) -> Option<Rc<Volume>> {
        self.volume.clone()
    }

    /// The pages that mappings of this file share, if there are any.
    fn mapped(&self) -> Option<Rc<Shared>> {
        if let Some(s) = &*self.shared.borrow() {
            return Some(s.clone());
        }
        self.volume.as_ref()?.mapped(self.id)
    }
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
        let h = self.host.handle;
        let mapped = self.mapped();
        let mut done = 0u64;
        if mapped.is_none() {
            while let Some((addr, len)) = dst.take_user(u64::MAX) {
                match env.pread_guest_again(h, self.id, offset + done, addr, len) {
                    Ok(n) => {
                        done += n;
                        if n < len {
                            return Ok(done);
                        }
                    }
                    Err(_) if done > 0 => return Ok(done),
                    Err(e) => return err(e),
                }
            }
        }
        while dst.remaining() > 0 {
            let mut buf = vec![0; (dst.remaining() as usize).min(CHUNK)];
            let want = buf.len();
            let n = match env.pread_again(h, self.id, offset + done, &mut buf) {
                Ok(n) => n,
                Err(_) if done > 0 => break,
                Err(e) => return err(e),
            };
            if let Some(s) = &mapped {
                s.overlay(env.plat, offset + done, &mut buf[..n]);
            }
            let put = match dst.put(env.plat, &buf[..n]) {
                Ok(p) => p,
                Err(_) if done > 0 => break,
                Err(e) => return err(e),
            };
            done += put as u64;
            if put < want {
                break;
            }
        }
        Ok(done)
    }
    fn write(&self, env: &mut Env<'_>, offset: u64, src: &mut Src) -> Io<u64> {
        if self.volume.is_none() {
            return err(Errno::EBADF);
        }
        let mut done = 0;
        while src.remaining() > 0 {
            let bytes = match src.get_vec(env.plat, CHUNK) {
                Ok(b) if b.is_empty() => break,
                Ok(b) => b,
                Err(_) if done > 0 => break,
                Err(e) => return err(e),
            };
            let n = match env.plat.host_pwrite(self.host.handle, offset + done, &bytes) {
                Ok(n) => n,
                Err(_) if done > 0 => break,
                Err(e) => return err(e),
            };
            if let Some(s) = self.mapped() {
                s.wrote(env.plat, offset + done, &bytes[..n]);
            }
            done += n as u64;
            if n < bytes.len() {
                break;
            }
        }
        if let Some(v) = &self.volume {
            v.note_size(self.id, offset + done, true);
        }
        Ok(done)
    }
    fn stat(&self, env: &mut Env<'_>) -> Io<Stat> {
        if let Some((e, st)) = self.first.take()
            && env.core.clock.e.get() == e + 1
        {
            return Ok(st);
        }
        let st = env.plat.host_stat(self.host.handle)?;
        if let Some(s) = self.mapped() {
            s.resized(env.plat, st.size);
        }
        Ok(st)
    }
    fn identity(&self, _: &mut Env<'_>) -> Io<(u64, u64)> {
        Ok(self.id)
    }
    fn set_attr(&self, env: &mut Env<'_>, a: &SetAttr) -> Io<()> {
        if self.volume.is_none() {
            // The read-only tree: the caller changes the writable layer's copy instead.
            return err(Errno::EROFS);
        }
        let h = self.host.handle;
        if a.uid.is_some() || a.gid.is_some() {
            env.plat
                .host_chown(h, a.uid.unwrap_or(u32::MAX), a.gid.unwrap_or(u32::MAX))?;
        }
        if let Some(m) = a.mode {
            env.plat.host_chmod(h, m)?;
        }
        if a.atime.is_some() || a.mtime.is_some() {
            env.plat.host_utimens(h, a.atime, a.mtime)?;
        }
        Ok(())
    }
    fn seek(&self, env: &mut Env<'_>, pos: u64, offset: i64, whence: i32) -> Io<u64> {
        match whence {
            0 | 1 => super::memfile::seek_plain(pos, offset, whence, 0),
            3 | 4 => {
                let o = u64::try_from(offset).map_err(|_| Stop::from(Errno::ENXIO))?;
                Ok(env.plat.host_seek(self.host.handle, o, whence == 4)?)
            }
            _ => {
                let size = self.stat(env)?.size;
                super::memfile::seek_plain(pos, offset, whence, size)
            }
        }
    }
    fn truncate(&self, env: &mut Env<'_>, len: u64) -> Io<()> {
        if self.volume.is_none() {
            return err(Errno::EINVAL);
        }
        env.plat.host_truncate(self.host.handle, len)?;
        if let Some(s) = self.mapped() {
            s.resized(env.plat, len);
        }
        if let Some(v) = &self.volume {
            v.note_size(self.id, len, false);
        }
        Ok(())
    }
    fn allocate(&self, env: &mut Env<'_>, mode: i32, offset: u64, len: u64) -> Io<()> {
        if self.volume.is_none() {
            return err(Errno::EBADF);
        }
        if let Some(s) = self.mapped() {
            s.write_back(env.plat);
        }
        env.plat.host_allocate(self.host.handle, mode, offset, len)?;
        if let Some(s) = self.mapped() {
            s.reload(env.plat);
        }
        Ok(())
    }
    fn sync(&self, env: &mut Env<'_>, data_only: bool) -> Io<()> {
        if self.volume.is_none() {
            return Ok(());
        }
        if let Some(s) = self.mapped() {
            s.write_back(env.plat);
        }
        Ok(env.plat.host_sync(self.host.handle, data_only)?)
    }
    fn map(
        &self,
        env: &mut Env<'_>,
        offset: u64,
        len: u64,
        shared: bool,
        write: bool,
    ) -> Io<Vec<(u64, Backing)>> {
        // A file that is open for writing is mapped by pages of the image, so that what the image writes
        // shows in a replay too. Of others the host's pages do: what lies behind their end is a SIGBUS by
        // the host, and that the image changes their size is told by `note_size`.
        let Some(v) = &self.volume else {
            return Ok(vec![(len, Backing::HostFile(self.host.handle, offset))]);
        };
        let live = v.mapped(self.id);
        if live.is_none() && !write {
            v.watch(self.id);
            return Ok(vec![(len, Backing::HostFile(self.host.handle, offset))]);
        }
        let s = match live {
            Some(s) => s,
            None => v.new_shared(self.id, self.host.clone()),
        };
        *self.shared.borrow_mut() = Some(s.clone());
        let size = env.plat.host_stat(self.host.handle)?.size;
        s.map(env.plat, offset, len, size, shared)
    }
    fn closed(&self, env: &mut Env<'_>) {
        if let Some(s) = self.mapped() {
            s.write_back(env.plat);
        }
    }
}
