//! memfd_create(2).

use crate::args::{Bits, Path};
use crate::cx::Cx;
use crate::fdtable::{OpenFile, oflag};
use crate::fs::inode::Body;
use crate::fs::memfile::{MemFile, seal};
use crate::fs::pages::Data;
use crate::fs::perm::mode;
use ftl_core::errno::Errno;
use ftl_core::io::{Io, err};

/// memfd_create(2)
pub fn sys_memfd_create(cx: &mut Cx<'_>, name: Path, flags: Bits) -> Io<u64> {
    const CLOEXEC: u64 = 1;
    const ALLOW_SEALING: u64 = 2;
    const HUGETLB: u64 = 4;
    const NOEXEC_SEAL: u64 = 8;
    const EXEC: u64 = 16;
    let f = flags.0 as u32 as u64;
    if f & HUGETLB != 0 {
        // As a kernel without huge pages reserved.
        return err(Errno::ENOMEM);
    }
    if f & !(CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL | EXEC) != 0
        || f & (NOEXEC_SEAL | EXEC) == NOEXEC_SEAL | EXEC
    {
        return err(Errno::EINVAL);
    }
    let mut text = match cx.env.plat.read_cstr(name.0, 250) {
        Ok(Some(n)) => n,
        Ok(None) => return err(Errno::EINVAL),
        Err(_) => return err(Errno::EFAULT),
    };
    let mut path = b"/memfd:".to_vec();
    path.append(&mut text);
    let body = Body::File(Data::new(&cx.k.fs.pages));
    let bits = if f & NOEXEC_SEAL != 0 { 0o666 } else { 0o777 };
    let node = crate::fs::unnamed(cx, mode::REG | bits, body);
    node.nlink.set(0);
    node.seals
        .set(match (f & ALLOW_SEALING != 0, f & NOEXEC_SEAL != 0) {
            (_, true) => seal::EXEC,
            (true, _) => 0,
            _ => seal::SEAL,
        });
    let file = MemFile::new(node, path, true);
    let open = OpenFile::new(file, oflag::O_RDWR | oflag::O_LARGEFILE);
    super::open::install(cx, open, f & CLOEXEC != 0)
}
