//! A compact encoding for what records hold: variable-length integers, lengths before bytes.

use crate::door::{ExecOrder, Input, Stamp};
use crate::errno::Errno;
use crate::hostnet::{Connect, Interface};
use crate::platform::{DirEntry, Handle, Stat, StreamKind};

/// A value that can stand in a record. `take` never trusts: a short or odd input is `None`.
pub trait Wire: Sized {
    /// Appends the encoding.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes a value off the front.
    fn take(src: &mut &[u8]) -> Option<Self>;
}

/// Appends an unsigned LEB128.
pub fn put_u64(mut v: u64, out: &mut Vec<u8>) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Takes an unsigned LEB128.
pub fn take_u64(src: &mut &[u8]) -> Option<u64> {
    let mut v = 0u64;
    for shift in (0..64).step_by(7) {
        let (b, rest) = src.split_first()?;
        *src = rest;
        let low = u64::from(b & 0x7f);
        if shift == 63 && low > 1 {
            return None;
        }
        v |= low << shift;
        if b & 0x80 == 0 {
            return Some(v);
        }
    }
    None
}

macro_rules! unsigned {
    ($($t:ty),*) => {$(
        impl Wire for $t {
            fn put(&self, out: &mut Vec<u8>) {
                put_u64(*self as u64, out);
            }
            fn take(src: &mut &[u8]) -> Option<$t> {
                <$t>::try_from(take_u64(src)?).ok()
            }
        }
    )*};
}
unsigned!(u8, u16, u32, u64, usize);

impl Wire for i64 {
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(((self << 1) ^ (self >> 63)) as u64, out);
    }
    fn take(src: &mut &[u8]) -> Option<i64> {
        let z = take_u64(src)?;
        Some((z >> 1) as i64 ^ -((z & 1) as i64))
    }
}

impl Wire for i32 {
    fn put(&self, out: &mut Vec<u8>) {
        i64::from(*self).put(out);
    }
    fn take(src: &mut &[u8]) -> Option<i32> {
        i32::try_from(i64::take(src)?).ok()
    }
}

impl Wire for i128 {
    fn put(&self, out: &mut Vec<u8>) {
        ((*self >> 64) as i64).put(out);
        (*self as u64).put(out);
    }
    fn take(src: &mut &[u8]) -> Option<i128> {
        let hi = i64::take(src)?;
        Some(i128::from(hi) << 64 | i128::from(u64::take(src)?))
    }
}

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(src: &mut &[u8]) -> Option<bool> {
        match u8::take(src)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Wire for () {
    fn put(&self, _: &mut Vec<u8>) {}
    fn take(_: &mut &[u8]) -> Option<()> {
        Some(())
    }
}

impl Wire for Vec<u8> {
    fn put(&self, out: &mut Vec<u8>) {
        put_u64(self.len() as u64, out);
        out.extend_from_slice(self);
    }
    fn take(src: &mut &[u8]) -> Option<Vec<u8>> {
        let n = usize::take(src)?;
        let (head, rest) = src.split_at_checked(n)?;
        *src = rest;
        Some(head.to_vec())
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(v) => {
                out.push(1);
                v.put(out);
            }
        }
    }
    fn take(src: &mut &[u8]) -> Option<Option<T>> {
        Some(if bool::take(src)? {
            Some(T::take(src)?)
        } else {
            None
        })
    }
}

impl<T: Wire> Wire for Result<T, Errno> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Ok(v) => {
                out.push(0);
                v.put(out);
            }
            Err(e) => {
                out.push(1);
                e.raw().put(out);
            }
        }
    }
    fn take(src: &mut &[u8]) -> Option<Result<T, Errno>> {
        Some(if bool::take(src)? {
            Err(Errno::from_raw(i32::take(src)?)?)
        } else {
            Ok(T::take(src)?)
        })
    }
}

/// Sequences of anything but bytes, which have their own form.
pub fn put_list<T: Wire>(list: &[T], out: &mut Vec<u8>) {
    put_u64(list.len() as u64, out);
    for v in list {
        v.put(out);
    }
}

/// See [`put_list`].
pub fn take_list<T: Wire>(src: &mut &[u8]) -> Option<Vec<T>> {
    let n = usize::take(src)?;
    // Every element takes at least a byte, but for units, which are not put in lists.
    if n > src.len() {
        return None;
    }
    (0..n).map(|_| T::take(src)).collect()
}

macro_rules! listed {
    ($($t:ty),* $(,)?) => {$(
        impl Wire for Vec<$t> {
            fn put(&self, out: &mut Vec<u8>) {
                put_list(self, out);
            }
            fn take(src: &mut &[u8]) -> Option<Vec<$t>> {
                take_list(src)
            }
        }
    )*};
}
listed!(
    Vec<u8>,
    u32,
    DirEntry,
    Interface,
    (Vec<u8>, u8, u8),
    (Stamp, Input)
);

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<(A, B)> {
        Some((A::take(src)?, B::take(src)?))
    }
}

impl<A: Wire, B: Wire, C: Wire> Wire for (A, B, C) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<(A, B, C)> {
        Some((A::take(src)?, B::take(src)?, C::take(src)?))
    }
}

impl<T: Wire + Copy + Default, const N: usize> Wire for [T; N] {
    fn put(&self, out: &mut Vec<u8>) {
        for v in self {
            v.put(out);
        }
    }
    fn take(src: &mut &[u8]) -> Option<[T; N]> {
        let mut a = [T::default(); N];
        for v in &mut a {
            *v = T::take(src)?;
        }
        Some(a)
    }
}

macro_rules! fields {
    ($t:ident { $($f:ident),* $(,)? }) => {
        impl Wire for $t {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$f.put(out);)*
            }
            fn take(src: &mut &[u8]) -> Option<$t> {
                Some($t { $($f: Wire::take(src)?),* })
            }
        }
    };
}

fields!(Stat {
    dev,
    ino,
    mode,
    nlink,
    uid,
    gid,
    rdev,
    size,
    blksize,
    blocks,
    atime,
    mtime,
    ctime,
    btime
});
fields!(DirEntry { ino, kind, name });
fields!(Interface {
    index,
    name,
    flags,
    kind,
    mtu,
    mac,
    addrs,
    gateway
});
fields!(Stamp { point, v });
fields!(ExecOrder {
    argv,
    env,
    only_env,
    cwd,
    user,
    groups,
    caps,
    no_new_privs,
    umask,
    tty,
    stdin,
    detached
});

impl Wire for Handle {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(src: &mut &[u8]) -> Option<Handle> {
        Some(Handle(u64::take(src)?))
    }
}

impl Wire for StreamKind {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn take(src: &mut &[u8]) -> Option<StreamKind> {
        use StreamKind::{Char, Closed, File, Pipe, Socket, Terminal};
        [Closed, Terminal, Pipe, File, Socket, Char]
            .get(usize::from(u8::take(src)?))
            .copied()
    }
}

impl Wire for Connect {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Connect::Done(a) => Some(a.clone()).put(out),
            Connect::Pending => None::<Vec<u8>>.put(out),
        }
    }
    fn take(src: &mut &[u8]) -> Option<Connect> {
        Some(match <Option<Vec<u8>> as Wire>::take(src)? {
            Some(a) => Connect::Done(a),
            None => Connect::Pending,
        })
    }
}

impl Wire for Input {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Input::Data(h, b) => (0u8, *h, b.clone()).put(out),
            Input::Eof(h) => (1u8, *h).put(out),
            Input::Failed(h, e) => (2u8, *h, *e).put(out),
            Input::Writable(h) => (3u8, *h).put(out),
            Input::Accepted {
                listener,
                conn,
                peer,
                local,
            } => {
                (4u8, *listener, *conn).put(out);
                (peer.clone(), local.clone()).put(out);
            }
            Input::Connected(h, e, a) => {
                (5u8, *h, *e).put(out);
                a.put(out);
            }
            Input::Datagram(h, from, bytes, cut) => {
                (6u8, *h, from.clone()).put(out);
                (bytes.clone(), *cut).put(out);
            }
            Input::Signal(n) => (7u8, *n).put(out),
            Input::Packet(h, b) => {
                (8u8, *h).put(out);
                b.put(out);
            }
            Input::Exec(order) => {
                9u8.put(out);
                order.put(out);
            }
            Input::Control(h, b) => {
                (10u8, *h).put(out);
                b.put(out);
            }
        }
    }
    fn take(src: &mut &[u8]) -> Option<Input> {
        Some(match u8::take(src)? {
            0 => Input::Data(Wire::take(src)?, Wire::take(src)?),
            1 => Input::Eof(Wire::take(src)?),
            2 => Input::Failed(Wire::take(src)?, Wire::take(src)?),
            3 => Input::Writable(Wire::take(src)?),
            4 => Input::Accepted {
                listener: Wire::take(src)?,
                conn: Wire::take(src)?,
                peer: Wire::take(src)?,
                local: Wire::take(src)?,
            },
            5 => Input::Connected(Wire::take(src)?, Wire::take(src)?, Wire::take(src)?),
            6 => Input::Datagram(
                Wire::take(src)?,
                Wire::take(src)?,
                Wire::take(src)?,
                Wire::take(src)?,
            ),
            7 => Input::Signal(Wire::take(src)?),
            8 => Input::Packet(Wire::take(src)?, Wire::take(src)?),
            9 => Input::Exec(Box::new(ExecOrder::take(src)?)),
            10 => Input::Control(Wire::take(src)?, Wire::take(src)?),
            _ => return None,
        })
    }
}
