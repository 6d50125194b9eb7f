//! An open regular file of the image.

use super::inode::Inode;
use super::pages::Data;
use ftl_core::errno::Errno;
use ftl_core::file::{File, SetAttr};
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::layout::PAGE;
use ftl_core::platform::{Backing, Stat};
use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

/// Seals (fcntl.h).
#[allow(missing_docs)]
pub mod seal {
    pub const SEAL: u32 = 1;
    pub const SHRINK: u32 = 2;
    pub const GROW: u32 = 4;
    pub const WRITE: u32 = 8;
    pub const FUTURE_WRITE: u32 = 16;
    pub const EXEC: u32 = 32;
}

/// Largest file (MAX_LFS_FILESIZE).
const MAX_SIZE: u64 = i64::MAX as u64 & !(PAGE - 1);
const CHUNK: u64 = 1 << 18;

/// See the module.
pub struct MemFile {
    /// The file.
    pub inode: Rc<Inode>,
    /// Its name when it was opened.
    pub path: RefCell<Vec<u8>>,
    /// Opened for writing: counted in the inode.
    pub writer: bool,
}

impl Drop for MemFile {
    fn drop(&mut self) {
        if self.writer {
            self.inode.writers.set(self.inode.writers.get() - 1);
        }
    }
}

impl MemFile {
    /// A new open of `inode`.
    pub fn new(inode: Rc<Inode>, path: Vec<u8>, writer: bool) -> Rc<MemFile> {
        if writer {
            inode.writers.set(inode.writers.get() + 1);
        }
        Rc::new(MemFile {
            inode,
            path: RefCell::new(path),
            writer,
        })
    }

    fn data(&self) -> Io<&Data> {
        self.inode.data().ok_or(Errno::EINVAL.into())
    }

    fn may_grow(&self, old: u64, new: u64) -> Io<()> {
        let seals = self.inode.seals.get();
        if new > old && seals & seal::GROW != 0 || new < old && seals & seal::SHRINK != 0 {
            return err(Errno::EPERM);
        }
        if new > MAX_SIZE {
            return err(Errno::EFBIG);
        }
        Ok(())
    }
}

impl File for MemFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        let mut p = self.path.borrow().clone();
        if self.inode.nlink.get() == 0 {
            p.extend_from_slice(b" (deleted)");
        }
        p
    }
    fn seekable(&self) -> bool {
        true
    }
    fn read(&self, env: &mut Env<'_>, offset: u64, dst: &mut Dst) -> Io<u64> {
        let data = self.data()?;
        let mut done = 0;
        while dst.remaining() > 0 {
            let mut buf = vec![
                0;
                dst.remaining()
                    .min(CHUNK)
                    .min(data.size().saturating_sub(offset + done)) as usize
            ];
            let n = data.read(env.plat, offset + done, &mut buf);
            if n == 0 {
                break;
            }
            match dst.put(env.plat, &buf[..n]) {
                Ok(n) => done += n as u64,
                Err(_) if done > 0 => break,
                Err(e) => return err(e),
            }
        }
        if done > 0 {
            // relatime: only when it is not newer than the last change.
            let t = &self.inode.times;
            if t[0].get() <= t[1].get() || t[0].get() <= t[2].get() {
                t[0].set(env.realtime());
            }
        }
        Ok(done)
    }
    fn write(&self, env: &mut Env<'_>, offset: u64, src: &mut Src) -> Io<u64> {
        let data = self.data()?;
        if self.inode.seals.get() & (seal::WRITE | seal::FUTURE_WRITE) != 0 {
            return err(Errno::EPERM);
        }
        if src.remaining() == 0 {
            return Ok(0);
        }
        if offset >= MAX_SIZE {
            return err(Errno::EFBIG);
        }
        if offset + src.remaining() > data.size() && self.inode.seals.get() & seal::GROW != 0 {
            return err(Errno::EPERM);
        }
        let mut done = 0;
        while src.remaining() > 0 {
            let bytes = match src.get_vec(env.plat, CHUNK as usize) {
                Ok(b) if b.is_empty() => break,
                Ok(b) => b,
                Err(_) if done > 0 => break,
                Err(e) => return err(e),
            };
            match data.write(env.plat, offset + done, &bytes) {
                Ok(()) => done += bytes.len() as u64,
                Err(_) if done > 0 => break,
                Err(e) => return err(e),
            }
        }
        self.inode.touch(env);
        Ok(done)
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.inode.stat())
    }
    fn identity(&self, _: &mut Env<'_>) -> Io<(u64, u64)> {
        Ok(self.inode.id)
    }
    fn set_attr(&self, env: &mut Env<'_>, attr: &SetAttr) -> Io<()> {
        self.inode.set_attr(env, attr);
        Ok(())
    }
    fn seek(&self, _: &mut Env<'_>, pos: u64, offset: i64, whence: i32) -> Io<u64> {
        let data = self.data()?;
        match whence {
            3 | 4 => match u64::try_from(offset) {
                Ok(o) => Ok(data.seek(o, whence == 4)?),
                Err(_) => err(Errno::ENXIO),
            },
            _ => seek_plain(pos, offset, whence, data.size()),
        }
    }
    fn truncate(&self, env: &mut Env<'_>, len: u64) -> Io<()> {
        let data = self.data()?;
        self.may_grow(data.size(), len)?;
        data.truncate(env.plat, len);
        self.inode.touch(env);
        Ok(())
    }
    fn allocate(&self, env: &mut Env<'_>, m: i32, offset: u64, len: u64) -> Io<()> {
        const KEEP_SIZE: i32 = 1;
        const PUNCH_HOLE: i32 = 2;
        const ZERO_RANGE: i32 = 0x10;
        let data = self.data()?;
        let end = offset
            .checked_add(len)
            .filter(|e| *e <= MAX_SIZE)
            .ok_or(Errno::EFBIG)?;
        let seals = self.inode.seals.get();
        match m {
            0 | KEEP_SIZE => {
                if m == 0 {
                    self.may_grow(data.size(), end.max(data.size()))?;
                }
                data.allocate(env.plat, offset, len)?;
                if m == 0 {
                    data.grow(end);
                }
            }
            _ if m & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) == 0 => {
                if m & PUNCH_HOLE != 0 && m != PUNCH_HOLE | KEEP_SIZE {
                    return err(Errno::EOPNOTSUPP);
                }
                if seals & (seal::WRITE | seal::FUTURE_WRITE) != 0 {
                    return err(Errno::EPERM);
                }
                data.clear(env.plat, offset, end);
                if m & ZERO_RANGE != 0 {
                    data.allocate(env.plat, offset, len)?;
                    if m & KEEP_SIZE == 0 {
                        data.grow(end);
                    }
                }
            }
            _ => return err(Errno::EOPNOTSUPP),
        }
        self.inode.touch(env);
        Ok(())
    }
    fn sync(&self, _: &mut Env<'_>, _: bool) -> Io<()> {
        Ok(())
    }
    fn map(
        &self,
        env: &mut Env<'_>,
        offset: u64,
        len: u64,
        shared: bool,
        write: bool,
    ) -> Io<Vec<(u64, Backing)>> {
        let data = self.data()?;
        let sealed = self.inode.seals.get() & (seal::WRITE | seal::FUTURE_WRITE) != 0;
        if shared && write && sealed {
            return err(Errno::EPERM);
        }
        Ok(data.map(env.plat, Some(self.inode.id), offset, len, shared)?)
    }
}

/// lseek for SEEK_SET, SEEK_CUR and SEEK_END.
pub fn seek_plain(pos: u64, offset: i64, whence: i32, size: u64) -> Io<u64> {
    let base = match whence {
        0 => 0,
        1 => pos,
        2 => size,
        _ => return err(Errno::EINVAL),
    };
    match base.checked_add_signed(offset) {
        Some(p) if p <= i64::MAX as u64 => Ok(p),
        _ => err(Errno::EINVAL),
    }
}
