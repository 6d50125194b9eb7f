//! /dev.

use super::inode::{Body, Inode};
use super::perm::mode;
use super::{How, Loc, Tree};
use crate::cx::Cx;
use ftl_core::errno::Errno;
use ftl_core::file::{File, FileRef, SetAttr};
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::platform::{Backing, Stat};
use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

/// Device number as st_rdev has it; both parts below 256.
pub const fn makedev(major: u64, minor: u64) -> u64 {
    major << 8 | minor
}

const CHUNK: u64 = 1 << 16;

/// Name, device number, permission bits.
const NODES: &[(&[u8], u64, u32)] = &[
    (b"null", makedev(1, 3), 0o666),
    (b"zero", makedev(1, 5), 0o666),
    (b"full", makedev(1, 7), 0o666),
    (b"random", makedev(1, 8), 0o666),
    (b"urandom", makedev(1, 9), 0o666),
    (b"tty", makedev(5, 0), 0o666),
    (b"console", makedev(5, 1), 0o600),
    (b"ptmx", makedev(5, 2), 0o666),
];

const LINKS: &[(&[u8], &[u8])] = &[
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
    (b"core", b"/proc/kcore"),
];

/// Puts the usual nodes into a new /dev.
pub fn fill(cx: &mut Cx<'_>, dev: &Tree) {
    for (name, rdev, bits) in NODES {
        let _ = dev.force(cx, name, mode::CHR | bits, *rdev, Body::Special);
    }
    for (name, to) in LINKS {
        let _ = dev.force(cx, name, mode::LNK | 0o777, 0, Body::Link(to.to_vec()));
    }
    for (name, bits) in [(&b"pts"[..], 0o755), (b"shm", 0o1777), (b"mqueue", 0o1777)] {
        let _ = dev.force_dir(cx, name, bits);
    }
}

/// A simple character device.
pub struct Device {
    node: Rc<Inode>,
    path: Vec<u8>,
    kind: Kind,
    pages: Rc<super::pages::PageStore>,
    /// Memory of shared mappings: each has its own, kept as long as the device is open or mapped.
    shared: RefCell<Vec<super::pages::Data>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Zero,
    Full,
    Random,
}

/// Opens the character device `rdev`.
pub fn open(cx: &mut Cx<'_>, node: &Rc<Inode>, rdev: u64, how: &How, loc: &Loc) -> Io<FileRef> {
    const NULL: u64 = makedev(1, 3);
    const ZERO: u64 = makedev(1, 5);
    const FULL: u64 = makedev(1, 7);
    const RANDOM: u64 = makedev(1, 8);
    const URANDOM: u64 = makedev(1, 9);
    let kind = match rdev {
        NULL => Kind::Null,
        ZERO => Kind::Zero,
        FULL => Kind::Full,
        RANDOM | URANDOM => Kind::Random,
        _ => return crate::tty::open_device(cx, rdev, how),
    };
    Ok(Rc::new(Device {
        node: node.clone(),
        path: loc.full(),
        kind,
        pages: cx.k.fs.pages.clone(),
        shared: RefCell::default(),
    }))
}

impl File for Device {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn describe(&self) -> Vec<u8> {
        self.path.clone()
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        let mut done = 0;
        while self.kind != Kind::Null && dst.remaining() > 0 {
            let mut buf = vec![0; dst.remaining().min(CHUNK) as usize];
            if self.kind == Kind::Random {
                env.core.random(&mut buf);
            }
            match dst.put(env.plat, &buf) {
                Ok(n) => done += n as u64,
                Err(_) if done > 0 => break,
                Err(e) => return err(e),
            }
        }
        Ok(done)
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        let n = src.remaining();
        match self.kind {
            Kind::Full => err(Errno::ENOSPC),
            Kind::Random => {
                // A caller's bytes do not change the image's stream; bad addresses are still told.
                src.get_vec(env.plat, 4096)?;
                while src.take_user(u64::MAX).is_some() {}
                Ok(n)
            }
            _ => {
                while src.take_user(u64::MAX).is_some() {}
                Ok(n)
            }
        }
    }
    fn seek(&self, _: &mut Env<'_>, _: u64, _: i64, _: i32) -> Io<u64> {
        Ok(0)
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(self.node.stat())
    }
    fn set_attr(&self, env: &mut Env<'_>, a: &SetAttr) -> Io<()> {
        self.node.set_attr(env, a);
        Ok(())
    }
    fn map(&self, env: &mut Env<'_>, _: u64, len: u64, shared: bool, _: bool) -> Io<Vec<(u64, Backing)>> {
        if self.kind == Kind::Zero {
            if shared {
                let data = super::pages::Data::new(&self.pages);
                data.grow(len);
                let parts = data.map(env.plat, None, 0, len, true)?;
                self.shared.borrow_mut().push(data);
                return Ok(parts);
            }
            Ok(vec![(len, Backing::Anon)])
        } else {
            err(Errno::ENODEV)
        }
    }
}
