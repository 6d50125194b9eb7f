//! UNIX sockets: names and creation. The sockets themselves are in `ftl_ipc::unix`.

use super::{effective, socket_of, unix_path};
use crate::cx::Cx;
use crate::fdtable::OpenFile;
use ftl_core::errno::Errno;
use ftl_core::file::FileRef;
use ftl_core::io::{Io, err};
use ftl_core::socket::{Outgoing, num};
use ftl_ipc::unix::{HostNode, UnixSocket, abstract_name, check_addr, path_of};
use std::any::Any;
use std::rc::Rc;

/// sizeof(sa_family_t)
const FAMILY: usize = 2;
const AF_UNSPEC: u16 = 0;

/// Checks type and protocol (unix_create): SOCK_RAW is an old name of SOCK_DGRAM.
fn kind_of(kind: i32, protocol: i32) -> Result<i32, Errno> {
    if protocol != 0 && protocol != num::AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        num::SOCK_STREAM | num::SOCK_DGRAM | num::SOCK_SEQPACKET => Ok(kind),
        num::SOCK_RAW => Ok(num::SOCK_DGRAM),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// socket(AF_UNIX, ...)
pub fn create(cx: &mut Cx<'_>, kind: i32, protocol: i32) -> Io<FileRef> {
    let kind = kind_of(kind, protocol)?;
    let owner = effective(cx);
    Ok(UnixSocket::new(&mut cx.env, kind, owner))
}

/// socketpair(AF_UNIX, ...)
pub fn pair(cx: &mut Cx<'_>, kind: i32, protocol: i32) -> Io<(FileRef, FileRef)> {
    let kind = kind_of(kind, protocol)?;
    let owner = effective(cx);
    let (a, b) = UnixSocket::pair(&mut cx.env, kind, owner);
    Ok((a, b))
}

/// The UNIX socket of a description.
fn this(open: &OpenFile) -> Io<Rc<UnixSocket>> {
    let any: Rc<dyn Any> = open.file.clone();
    any.downcast().map_err(|_| Errno::ENOTSOCK.into())
}

fn family(addr: &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes([*addr.first()?, *addr.get(1)?]))
}

/// bind(2)
pub fn bind(cx: &mut Cx<'_>, open: &Rc<OpenFile>, addr: &[u8]) -> Io<u64> {
    let sock = this(open)?;
    let names = cx.k.unix.clone();
    if addr.len() == FAMILY && family(addr) == Some(num::AF_UNIX as u16) {
        names.autobind(&mut cx.env, &sock)?;
        return Ok(0);
    }
    check_addr(addr)?;
    if let Some(name) = abstract_name(addr) {
        names.bind_abstract(&sock, name)?;
        return Ok(0);
    }
    let path = path_of(addr).to_vec();
    let (dev, ino) = unix_path::make(cx, &path, &sock)?;
    names.bind_inode(&sock, dev, ino, &path);
    Ok(0)
}

/// What an address leads to.
enum Found {
    /// A socket of the image.
    Inside(Rc<UnixSocket>),
    /// A node that no socket of the image is bound to, where the host's are met.
    Host(HostNode),
}

/// The socket that a checked address leads to (unix_find_other).
fn find(cx: &mut Cx<'_>, addr: &[u8], kind: i32) -> Io<Found> {
    let names = cx.k.unix.clone();
    let found = match abstract_name(addr) {
        Some(name) => names.find_abstract(kind, name),
        None => {
            let (dev, ino, host) = unix_path::find(cx, path_of(addr))?;
            match (names.find_inode(dev, ino), host) {
                (None, Some(node)) => match names.find_node(&mut cx.env, &node, dev, ino) {
                    None => return Ok(Found::Host(node)),
                    found => found,
                },
                (found, _) => found,
            }
        }
    };
    let found = found.ok_or(Errno::ECONNREFUSED)?;
    if found.kind() != kind {
        return err(Errno::EPROTOTYPE);
    }
    Ok(Found::Inside(found))
}

fn autobind(cx: &mut Cx<'_>, sock: &Rc<UnixSocket>, open: &OpenFile) -> Result<(), Errno> {
    if !socket_of(open)?.base().options.pass_cred.get() {
        return Ok(());
    }
    let names = cx.k.unix.clone();
    names.autobind(&mut cx.env, sock)
}

/// connect(2)
pub fn connect(cx: &mut Cx<'_>, open: &Rc<OpenFile>, addr: &[u8]) -> Io<()> {
    let sock = this(open)?;
    let caller = effective(cx);
    if sock.kind() == num::SOCK_DGRAM && family(addr) == Some(AF_UNSPEC) {
        return sock.disconnect(&mut cx.env);
    }
    check_addr(addr)?;
    autobind(cx, &sock, open)?;
    match find(cx, addr, sock.kind())? {
        Found::Inside(target) => sock.connect_to(&mut cx.env, &target, caller),
        Found::Host(node) => sock.connect_host(&mut cx.env, &node),
    }
}

/// write(2) on a socket: whose credentials may go along.
pub fn note_writer(cx: &Cx<'_>, open: &OpenFile) {
    if let Some(sock) = open.file.as_any().downcast_ref::<UnixSocket>() {
        sock.set_writer(super::real(cx));
    }
}

/// Finds the object behind a message's destination.
pub fn resolve(cx: &mut Cx<'_>, open: &Rc<OpenFile>, msg: &mut Outgoing) -> Io<()> {
    let sock = this(open)?;
    let Some(addr) = msg.name.clone() else {
        return Ok(());
    };
    if sock.kind() != num::SOCK_DGRAM {
        return Ok(());
    }
    check_addr(&addr)?;
    autobind(cx, &sock, open)?;
    msg.to = Some(match find(cx, &addr, sock.kind())? {
        Found::Inside(to) => to,
        Found::Host(node) => Rc::new(node),
    });
    Ok(())
}
