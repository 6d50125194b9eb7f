//! What stat(2) says of objects that have no place in a file system.

use ftl_core::errno::Errno;
use ftl_core::io::Io;
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;

/// Device numbers of the pseudo file systems, as a Debian 12 host shows them (`stat -L`).
pub const DEV_SOCK: u64 = 8;
/// pipefs
pub const DEV_PIPE: u64 = 14;
/// anon_inodefs
pub const DEV_ANON: u64 = 15;

/// File types (S_IFMT).
pub const S_IFIFO: u32 = 0o010_000;
/// A socket.
pub const S_IFSOCK: u32 = 0o140_000;

/// Inode facts fixed when the object was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inode {
    /// Number.
    pub ino: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of creation, ns since the epoch.
    pub born: i128,
}

impl Inode {
    /// A new number, owned by `uid` and `gid`.
    pub fn new(env: &mut Env<'_>, uid: u32, gid: u32) -> Inode {
        let born = i128::from(env.core.clock.last()) + i128::from(env.core.clock.real_offset.get() as i64);
        Inode {
            ino: env.core.new_ino(),
            uid,
            gid,
            born,
        }
    }

    /// With file type and permissions `mode` on `dev`.
    pub fn stat(&self, dev: u64, mode: u32) -> Stat {
        Stat {
            dev,
            ino: self.ino,
            mode,
            nlink: 1,
            uid: self.uid,
            gid: self.gid,
            blksize: 4096,
            atime: self.born,
            mtime: self.born,
            ctime: self.born,
            ..Stat::default()
        }
    }
}

/// FIONREAD
pub const FIONREAD: u64 = 0x541b;

/// Answers an ioctl that stores an int.
pub fn put_int(env: &mut Env<'_>, at: u64, value: usize) -> Io<u64> {
    let v = i32::try_from(value).map_err(|_| Errno::EINVAL)?;
    env.put(at, &v)?;
    Ok(0)
}
