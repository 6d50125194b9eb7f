//! A platform for unit tests: flat guest memory, a clock that a test moves, no host.

use crate::clock::{Check, Clock};
use crate::errno::Errno;
use crate::kcore::{Core, Env};
use crate::platform::{
    Advice, Backing, DirEntry, Expected, Fault, Handle, Host, HostFs, Memory, Ns, Prot, Read, Space, Stat,
    StreamKind,
};
use crate::wait::SpaceId;
use std::cell::Cell;

/// First address of the mock's guest memory.
pub const BASE: u64 = 0x10_0000;

/// Guest memory from [`BASE`] on; everything else answers "no such thing".
pub struct Mock {
    /// The guest's bytes.
    pub mem: Vec<u8>,
    /// What [`Host::out_stream`] was given.
    pub out: Vec<u8>,
    /// What [`Host::out_packet`] was given.
    pub frames: Vec<Vec<u8>>,
    /// Lines for the operator.
    pub lines: Vec<String>,
    /// The page store as far as it was written.
    pub pages: Vec<u8>,
}

/// A mock with a core: enough for an [`Env`].
pub struct World {
    /// The platform.
    pub plat: Mock,
    /// The core.
    pub core: Core,
}

impl World {
    /// With `len` bytes of guest memory.
    pub fn new(len: usize) -> World {
        let clock = Box::leak(Box::new(Clock {
            v: Cell::new(0),
            e: Cell::new(0),
            base_v: Cell::new(0),
            base_e: Cell::new(0),
            q: Cell::new(0),
            cap: Cell::new(0),
            real_offset: Cell::new(0),
            boot_offset: Cell::new(0),
            vdso_left: Cell::new(0),
        }));
        clock.start(1_000_000_000, 0, 0);
        World {
            plat: Mock {
                mem: vec![0; len],
                out: Vec::new(),
                frames: Vec::new(),
                lines: Vec::new(),
                pages: Vec::new(),
            },
            core: Core::new(clock, [7; 32]),
        }
    }

    /// What file operations take.
    pub fn env(&mut self) -> Env<'_> {
        Env {
            plat: &mut self.plat,
            core: &self.core,
        }
    }
}

impl Mock {
    fn at(&self, addr: u64, len: u64) -> Result<usize, Fault> {
        let off = addr.checked_sub(BASE).ok_or(Fault)?;
        match off.checked_add(len) {
            Some(end) if end <= self.mem.len() as u64 => Ok(off as usize),
            _ => Err(Fault),
        }
    }
}

impl Memory for Mock {
    fn read_guest(&mut self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        let i = self.at(addr, dst.len() as u64)?;
        dst.copy_from_slice(&self.mem[i..i + dst.len()]);
        Ok(())
    }
    fn write_guest(&mut self, addr: u64, src: &[u8]) -> Result<(), Fault> {
        let i = self.at(addr, src.len() as u64)?;
        self.mem[i..i + src.len()].copy_from_slice(src);
        Ok(())
    }
    fn read_cstr(&mut self, addr: u64, max: usize) -> Result<Option<Vec<u8>>, Fault> {
        let i = self.at(addr, 1)?;
        let all = &self.mem[i..self.mem.len().min(i + max)];
        Ok(all.iter().position(|b| *b == 0).map(|n| all[..n].to_vec()))
    }
    fn load_u32(&mut self, addr: u64) -> Result<u32, Fault> {
        let mut b = [0; 4];
        self.read_guest(addr, &mut b)?;
        Ok(u32::from_le_bytes(b))
    }
    fn cmpxchg_u32(&mut self, addr: u64, old: u32, new: u32) -> Result<u32, Fault> {
        let v = self.load_u32(addr)?;
        if v == old {
            self.write_guest(addr, &new.to_le_bytes())?;
        }
        Ok(v)
    }
    fn zero_guest(&mut self, addr: u64, len: u64) -> Result<(), Fault> {
        let i = self.at(addr, len)?;
        self.mem[i..i + len as usize].fill(0);
        Ok(())
    }
}

impl Space for Mock {
    fn map(&mut self, _: u64, _: u64, _: Prot, _: Backing) {}
    fn unmap(&mut self, _: u64, _: u64) {}
    fn protect(&mut self, _: u64, _: u64, _: Prot) {}
    fn move_pages(&mut self, _: u64, _: u64, _: u64) {}
    fn advise(&mut self, _: u64, _: u64, _: Advice) {}
    fn clear_space(&mut self) {}
    fn patch_text(&mut self, _: &[(u64, &[u8])]) -> Result<(), Fault> {
        Err(Fault)
    }
    fn fork_space(&mut self, _: SpaceId) {}
    fn new_space(&mut self, _: SpaceId) {}
    fn drop_space(&mut self, _: SpaceId) {}
    fn pages_read(&mut self, offset: u64, dst: &mut [u8]) {
        for (i, b) in dst.iter_mut().enumerate() {
            *b = self.pages.get(offset as usize + i).copied().unwrap_or(0);
        }
    }
    fn pages_write(&mut self, offset: u64, src: &[u8]) {
        let end = offset as usize + src.len();
        if self.pages.len() < end {
            self.pages.resize(end, 0);
        }
        self.pages[offset as usize..end].copy_from_slice(src);
    }
    fn pages_free(&mut self, offset: u64, len: u64) {
        let end = ((offset + len) as usize).min(self.pages.len());
        if (offset as usize) < end {
            self.pages[offset as usize..end].fill(0);
        }
    }
}

impl HostFs for Mock {
    fn host_open(
        &mut self,
        _: Handle,
        _: &[u8],
        _: i32,
        _: u32,
        _: bool,
        _: Handle,
        _: Expected,
    ) -> Result<Stat, Errno> {
        Err(Errno::ENOENT)
    }
    fn host_close(&mut self, _: Handle) {}
    fn host_stat(&mut self, _: Handle) -> Result<Stat, Errno> {
        Err(Errno::EBADF)
    }
    fn host_stat_at(&mut self, _: Handle, _: &[u8], _: Expected) -> Result<Stat, Errno> {
        Err(Errno::ENOENT)
    }
    fn host_readlink_at(&mut self, _: Handle, _: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOENT)
    }
    fn host_pread_guest(
        &mut self,
        _: Handle,
        _: u64,
        _: u64,
        _: u64,
        _: Option<&[u8]>,
    ) -> Result<Read, Errno> {
        Err(Errno::EBADF)
    }
    fn host_pread(&mut self, _: Handle, _: u64, _: &mut [u8], _: Option<&[u8]>) -> Result<Read, Errno> {
        Err(Errno::EBADF)
    }
    fn host_pwrite(&mut self, _: Handle, _: u64, _: &[u8]) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }
    fn host_list(&mut self, _: Handle) -> Result<Vec<DirEntry>, Errno> {
        Err(Errno::EBADF)
    }
    fn host_truncate(&mut self, _: Handle, _: u64) -> Result<(), Errno> {
        Err(Errno::EBADF)
    }
    fn host_allocate(&mut self, _: Handle, _: i32, _: u64, _: u64) -> Result<(), Errno> {
        Err(Errno::EBADF)
    }
    fn host_sync(&mut self, _: Handle, _: bool) -> Result<(), Errno> {
        Err(Errno::EBADF)
    }
    fn host_mkdir_at(&mut self, _: Handle, _: &[u8], _: u32) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    fn host_unlink_at(&mut self, _: Handle, _: &[u8], _: bool) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    fn host_rename_at(&mut self, _: Handle, _: &[u8], _: Handle, _: &[u8], _: u32) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    fn host_link_at(&mut self, _: Handle, _: &[u8], _: Handle, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    fn host_symlink_at(&mut self, _: &[u8], _: Handle, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    fn host_mknod_at(&mut self, _: Handle, _: &[u8], _: u32, _: u64) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
    fn host_chmod(&mut self, _: Handle, _: u32) -> Result<(), Errno> {
        Err(Errno::EBADF)
    }
    fn host_chown(&mut self, _: Handle, _: u32, _: u32) -> Result<(), Errno> {
        Err(Errno::EBADF)
    }
    fn host_utimens(&mut self, _: Handle, _: Option<i128>, _: Option<i128>) -> Result<(), Errno> {
        Err(Errno::EBADF)
    }
    fn host_statfs(&mut self, _: Handle) -> Result<[u64; 9], Errno> {
        Err(Errno::EBADF)
    }
}

impl crate::hostnet::HostNet for Mock {}

impl Host for Mock {
    fn clock_check(&mut self, _: u64, _: Ns) -> Check {
        Check::Holds
    }
    fn entropy(&mut self, out: &mut [u8]) {
        out.fill(9);
    }
    fn stream_kind(&mut self, _: Handle) -> StreamKind {
        StreamKind::Closed
    }
    fn out_stream(&mut self, _: Handle, bytes: &[u8]) -> Result<usize, Errno> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn out_packet(&mut self, _: Handle, frame: &[u8], _: bool) {
        self.frames.push(frame.to_vec());
    }
    fn want_input(&mut self, _: Handle, _: usize) {}
    fn tty_ioctl(&mut self, _: Handle, _: u64, _: &mut [u8]) -> Result<u64, Errno> {
        Err(Errno::ENOTTY)
    }
    fn save_xstate(&mut self, _: &mut crate::context::Context) {}
    fn diagnostic(&mut self, line: &str) {
        self.lines.push(line.to_string());
    }
}
