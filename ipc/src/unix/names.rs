//! Names of UNIX sockets: sockaddr_un, and who is bound to what.
//!
//! A path's socket is found by device and inode number, as Linux does; an abstract name by its
//! bytes. The table is the image's (there is one network namespace).

use super::{HostNode, UnixSocket};
use ftl_core::errno::Errno;
use ftl_core::kcore::Env;
use ftl_core::platform::Handle;
use ftl_core::socket::num::AF_UNIX;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// offsetof(struct sockaddr_un, sun_path), and its size.
const PATH: usize = 2;
const MAX: usize = 110;

/// What a socket is bound to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    /// The type is part of the name, as in Linux.
    Abstract(i32, Vec<u8>),
    Inode(u64, u64),
}

/// Every bound name of an image.
#[derive(Default)]
pub struct Names {
    bound: RefCell<BTreeMap<Key, Weak<UnixSocket>>>,
    /// Those that are bound on the host too, by their host sockets. An inode number that a restore has freed can be
    /// another one's by now, so these are not found by it alone.
    on_host: RefCell<BTreeMap<Handle, Weak<UnixSocket>>>,
}

/// Keeps a name while the socket lives.
pub(super) struct Binding {
    names: Rc<Names>,
    key: Key,
    who: Weak<UnixSocket>,
}

impl Drop for Binding {
    fn drop(&mut self) {
        let mut bound = self.names.bound.borrow_mut();
        // An inode number can have been taken over by a later socket.
        if bound.get(&self.key).is_some_and(|w| Weak::ptr_eq(w, &self.who)) {
            bound.remove(&self.key);
        }
        let mut on_host = self.names.on_host.borrow_mut();
        on_host.retain(|_, w| !Weak::ptr_eq(w, &self.who));
    }
}

/// unix_validate_addr: EINVAL unless it is a UNIX address with a name.
pub fn check_addr(addr: &[u8]) -> Result<(), Errno> {
    if addr.len() <= PATH || addr.len() > MAX || addr[..PATH] != (AF_UNIX as u16).to_le_bytes() {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// The abstract name of a checked address, if it has one.
pub fn abstract_name(addr: &[u8]) -> Option<&[u8]> {
    (addr[PATH] == 0).then(|| &addr[PATH..])
}

/// The path of a checked address: up to a NUL.
pub fn path_of(addr: &[u8]) -> &[u8] {
    let p = &addr[PATH..];
    &p[..p.iter().position(|b| *b == 0).unwrap_or(p.len())]
}

/// A name as getsockname(2) shows it; an unbound socket has the family only.
pub(super) fn shown(name: &[u8]) -> Vec<u8> {
    if name.is_empty() {
        (AF_UNIX as u16).to_le_bytes().to_vec()
    } else {
        name.to_vec()
    }
}

fn sockaddr(name: &[u8]) -> Vec<u8> {
    let mut v = (AF_UNIX as u16).to_le_bytes().to_vec();
    v.extend_from_slice(name);
    v
}

impl Names {
    fn get(&self, key: &Key) -> Option<Rc<UnixSocket>> {
        self.bound.borrow().get(key)?.upgrade()
    }

    /// The socket of type `kind` bound to an abstract name.
    pub fn find_abstract(&self, kind: i32, name: &[u8]) -> Option<Rc<UnixSocket>> {
        self.get(&Key::Abstract(kind, name.to_vec()))
    }

    /// The socket bound to an inode.
    pub fn find_inode(&self, dev: u64, ino: u64) -> Option<Rc<UnixSocket>> {
        self.get(&Key::Inode(dev, ino))
    }

    /// The image's socket at a name of the host, if the node there is another inode than the one it has bound: it was
    /// made again by a restore, and that is its inode from here on.
    pub fn find_node(
        &self,
        env: &mut Env<'_>,
        node: &HostNode,
        dev: u64,
        ino: u64,
    ) -> Option<Rc<UnixSocket>> {
        if self.on_host.borrow().is_empty() {
            return None;
        }
        let h = env.plat.net_bound_at(node.dir, &node.path)?;
        let found = self.on_host.borrow().get(&h)?.upgrade()?;
        Names::rebind(&found, dev, ino);
        Some(found)
    }

    fn bind(self: &Rc<Names>, sock: &Rc<UnixSocket>, key: Key, name: Vec<u8>) {
        let who = Rc::downgrade(sock);
        self.bound.borrow_mut().insert(key.clone(), who.clone());
        if let Some(h) = sock.bound_handle() {
            self.on_host.borrow_mut().insert(h, who.clone());
        }
        *sock.name.borrow().borrow_mut() = name;
        *sock.bound.borrow_mut() = Some(Binding {
            names: self.clone(),
            key,
            who,
        });
    }

    /// bind(2) to an abstract name (the bytes after the family, NUL first).
    pub fn bind_abstract(self: &Rc<Names>, sock: &Rc<UnixSocket>, name: &[u8]) -> Result<(), Errno> {
        if sock.is_bound() {
            return Err(Errno::EINVAL);
        }
        if self.find_abstract(sock.kind(), name).is_some() {
            return Err(Errno::EADDRINUSE);
        }
        self.bind(sock, Key::Abstract(sock.kind(), name.to_vec()), sockaddr(name));
        Ok(())
    }

    /// bind(2) to a path whose inode was just made.
    pub fn bind_inode(self: &Rc<Names>, sock: &Rc<UnixSocket>, dev: u64, ino: u64, path: &[u8]) {
        let mut name = sockaddr(path);
        name.push(0);
        self.bind(sock, Key::Inode(dev, ino), name);
    }

    /// The node that the socket is bound to was made again.
    pub(super) fn rebind(sock: &Rc<UnixSocket>, dev: u64, ino: u64) {
        let name = sock.name.borrow().borrow().clone();
        let old = sock.bound.borrow_mut().take();
        if let Some(old) = old {
            let names = old.names.clone();
            drop(old);
            names.bind(sock, Key::Inode(dev, ino), name);
        }
    }

    /// Gives an unbound socket an abstract name of five hexadecimal digits (unix_autobind).
    pub fn autobind(self: &Rc<Names>, env: &mut Env<'_>, sock: &Rc<UnixSocket>) -> Result<(), Errno> {
        if sock.is_bound() {
            return Ok(());
        }
        let first = env.core.random_u64() as u32;
        for i in 0..=0xf_ffff_u32 {
            let name = format!("\0{:05x}", first.wrapping_add(i) & 0xf_ffff).into_bytes();
            if self.find_abstract(sock.kind(), &name).is_none() {
                return self.bind_abstract(sock, &name);
            }
        }
        Err(Errno::ENOSPC)
    }
}
