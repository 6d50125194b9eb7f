//! Guest memory: copies that survive a fault.

use super::Plat;
use crate::entry;
use ftl_core::layout::is_guest_range;
use ftl_core::platform::{Fault, Memory};

impl Memory for Plat {
    fn read_guest(&mut self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        if !is_guest_range(addr, dst.len() as u64) {
            return Err(Fault);
        }
        // SAFETY: `dst` is ours; a fault on the guest's side ends at the copy's fix-up.
        let left = unsafe { entry::ftl_copy(dst.as_mut_ptr() as u64, addr, dst.len() as u64) };
        if left == 0 { Ok(()) } else { Err(Fault) }
    }

    fn write_guest(&mut self, addr: u64, src: &[u8]) -> Result<(), Fault> {
        if !is_guest_range(addr, src.len() as u64) {
            return Err(Fault);
        }
        // SAFETY: the target is guest memory by the check above; faults end at the fix-up.
        let left = unsafe { entry::ftl_copy(addr, src.as_ptr() as u64, src.len() as u64) };
        if left == 0 { Ok(()) } else { Err(Fault) }
    }

    fn read_cstr(&mut self, addr: u64, max: usize) -> Result<Option<Vec<u8>>, Fault> {
        if !is_guest_range(addr, 1) {
            return Err(Fault);
        }
        // SAFETY: only reads; faults end at the fix-up. A string that runs out of guest memory
        // faults at the unmapped or runtime page; the length is checked again below.
        let len = unsafe { entry::ftl_scan(addr, max as u64) };
        match len {
            u64::MAX => Ok(None),
            l if l == u64::MAX - 1 => Err(Fault),
            len => {
                let mut v = vec![0; len as usize];
                self.read_guest(addr, &mut v)?;
                Ok(Some(v))
            }
        }
    }

    fn load_u32(&mut self, addr: u64) -> Result<u32, Fault> {
        if !is_guest_range(addr, 4) {
            return Err(Fault);
        }
        // SAFETY: only reads; a fault gives a value above 32 bits.
        u32::try_from(unsafe { entry::ftl_load32(addr) }).map_err(|_| Fault)
    }

    fn cmpxchg_u32(&mut self, addr: u64, old: u32, new: u32) -> Result<u32, Fault> {
        if !is_guest_range(addr, 4) {
            return Err(Fault);
        }
        // SAFETY: guest memory by the check; a fault gives a value above 32 bits.
        u32::try_from(unsafe { entry::ftl_cmpxchg32(addr, old, new) }).map_err(|_| Fault)
    }

    fn zero_guest(&mut self, addr: u64, len: u64) -> Result<(), Fault> {
        const ZERO: [u8; 4096] = [0; 4096];
        let mut at = addr;
        let end = addr.checked_add(len).ok_or(Fault)?;
        while at < end {
            let n = (end - at).min(4096);
            self.write_guest(at, &ZERO[..n as usize])?;
            at += n;
        }
        Ok(())
    }
}
