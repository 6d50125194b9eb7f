//! Every platform method through the doors: which answers are predicted, what counts as leaving.
//!
//! A method with a default body that is not forwarded here would answer from the default in every mode.
#![deny(clippy::missing_trait_methods)]

use super::compare::scrub;
use super::files::Identity;
use super::{Ask, Doors, Mode};
use crate::alloc::{self, Side};
use crate::platform::{HostObject, Plat};
use crate::sys;
use ftl_core::clock::Check;
use ftl_core::context::Context;
use ftl_core::door::{is_exec_handle, stream_number};
use ftl_core::errno::Errno;
use ftl_core::hostnet::{Connect, HostNet, Interface, SockAddr};
use ftl_core::log::Record;
use ftl_core::platform::{
    Advice, Backing, DirEntry, Expected, Fault, Handle, Host, HostFs, LockMet, Memory, Ns, Prot, Read, Space,
    Stat, StreamKind, Xattr,
};
use ftl_core::replica::Class;
use ftl_core::replica::gate::Pushed;
use ftl_core::wait::SpaceId;

impl Memory for Doors {
    fn read_guest(&mut self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        self.live.read_guest(addr, dst)
    }
    fn write_guest(&mut self, addr: u64, src: &[u8]) -> Result<(), Fault> {
        self.live.write_guest(addr, src)
    }
    fn read_cstr(&mut self, addr: u64, max: usize) -> Result<Option<Vec<u8>>, Fault> {
        self.live.read_cstr(addr, max)
    }
    fn load_u32(&mut self, addr: u64) -> Result<u32, Fault> {
        self.live.load_u32(addr)
    }
    fn cmpxchg_u32(&mut self, addr: u64, old: u32, new: u32) -> Result<u32, Fault> {
        self.live.cmpxchg_u32(addr, old, new)
    }
    fn zero_guest(&mut self, addr: u64, len: u64) -> Result<(), Fault> {
        self.live.zero_guest(addr, len)
    }
    fn breathe(&mut self) {
        self.service_if_due();
    }
}

impl Doors {
    #[inline(never)]
    /// A host file is about to be mapped: its identity is in the log, and replay maps the same bytes.
    fn mapped(&mut self, h: Handle) {
        if matches!(self.mode, Mode::Run) || !self.live.first_map_of(h) {
            return;
        }
        // A takeover's log ends: what was not predicted is the new world's to answer.
        self.live_if_starved();
        match &mut self.mode {
            Mode::Run => {}
            Mode::Record(r) => {
                let _side = alloc::enter(Side::Host);
                let mut files = std::mem::take(&mut r.files);
                let fd = self.live.fd(h).ok();
                let identity = fd.and_then(|fd| files.mapped(fd, &mut || self.service_if_due()));
                if let Mode::Record(r) = &mut self.mode {
                    r.files = files;
                    r.answer(Ask::MappedFile, &identity, false);
                }
            }
            Mode::Replay(r) => {
                let _side = alloc::enter(Side::Host);
                let Some(identity) = r.answer::<Option<Identity>>(Ask::MappedFile as u16) else {
                    return;
                };
                match r.files.open(&identity) {
                    Ok(fd) => {
                        self.live.host_close(h);
                        self.live.handles.insert(h, HostObject::File(fd));
                    }
                    Err(why) => super::files::refuse(&why),
                }
            }
        }
    }
}

impl Space for Doors {
    fn map(&mut self, addr: u64, len: u64, prot: Prot, backing: Backing) {
        if let Backing::HostFile(h, _) = backing {
            scrub();
            self.mapped(h);
        }
        self.live.map(addr, len, prot, backing);
        scrub();
    }
    fn unmap(&mut self, addr: u64, len: u64) {
        self.live.unmap(addr, len);
        scrub();
    }
    fn protect(&mut self, addr: u64, len: u64, prot: Prot) {
        self.live.protect(addr, len, prot);
        scrub();
    }
    fn move_pages(&mut self, from: u64, len: u64, to: u64) {
        self.live.move_pages(from, len, to);
        scrub();
    }
    fn advise(&mut self, addr: u64, len: u64, advice: Advice) {
        self.live.advise(addr, len, advice);
        scrub();
    }
    fn clear_space(&mut self) {
        // What the first program replaces is our own start-up's.
        if std::mem::replace(&mut self.loaded, true) {
            self.check_space();
        }
        self.live.clear_space();
        scrub();
    }
    fn patch_text(&mut self, parts: &[(u64, &[u8])]) -> Result<(), Fault> {
        self.live.patch_text(parts)
    }
    fn fork_space(&mut self, child: SpaceId) {
        self.live.fork_space(child);
        scrub();
    }
    fn new_space(&mut self, id: SpaceId) {
        self.live.new_space(id);
        scrub();
    }
    fn drop_space(&mut self, id: SpaceId) {
        // SAFETY: the vCPU page of this process.
        if id == unsafe { crate::vcpu::get() }.space {
            self.check_space();
        }
        self.live.drop_space(id);
        scrub();
    }
    fn pages_read(&mut self, offset: u64, dst: &mut [u8]) {
        self.live.pages_read(offset, dst);
        scrub();
    }
    fn pages_write(&mut self, offset: u64, src: &[u8]) {
        self.live.pages_write(offset, src);
        scrub();
    }
    fn pages_free(&mut self, offset: u64, len: u64) {
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let piece = (end - at).min(FREED_AT_ONCE);
            self.live.pages_free(at, piece);
            self.service_if_due();
            at += piece;
        }
        scrub();
    }
}

/// The host takes some 0.4 ms to free a MiB, and PostgreSQL frees 140 when one of its first processes ends: a backup hears of a protected image
/// in between.
const FREED_AT_ONCE: u64 = 4 << 20;

/// Handles tell outputs of different objects apart in the running hash; these tell operations apart.
const TAG_PWRITE: u64 = 1 << 56;
const TAG_NET: u64 = 2 << 56;
const TAG_META: u64 = 3 << 56;
const TAG_PACKET: u64 = 4 << 56;

fn lock_bytes(kind: i32, start: u64, end: u64) -> [u8; 17] {
    let mut b = [kind as u8; 17];
    b[..8].copy_from_slice(&start.to_le_bytes());
    b[8..16].copy_from_slice(&end.to_le_bytes());
    b
}

macro_rules! asks {
    ($($what:ident $name:ident($($a:ident: $t:ty),*) -> $r:ty;)*) => {$(
        fn $name(&mut self, $($a: $t),*) -> $r {
            self.ask(Ask::$what, |p| p.$name($($a),*))
        }
    )*};
}

/// Changes to host files: outputs, whose success is predicted.
macro_rules! changes {
    ($($what:ident $name:ident($($a:ident: $t:ty),*) = $bytes:expr;)*) => {$(
        fn $name(&mut self, $($a: $t),*) -> Result<(), Errno> {
            let bytes: &[u8] = $bytes;
            self.leaves(TAG_META | Ask::$what as u64, bytes);
            self.ask_expecting(Ask::$what, Ok(()), |p| p.$name($($a),*))
        }
    )*};
}

impl HostFs for Doors {
    fn host_open(
        &mut self,
        dir: Handle,
        name: &[u8],
        flags: i32,
        mode: u32,
        nofollow: bool,
        new: Handle,
        expected: Expected,
    ) -> Result<Stat, Errno> {
        if self.takeover.is_some() && (expected.is_some() || !self.starved()) {
            // The log answers, or the prediction; the file is opened all the same, for when the image goes live.
            let effects = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC;
            let _side = alloc::enter(Side::Host);
            let _ = self
                .live
                .host_open(dir, name, flags & !effects, mode, nofollow, new, None);
        }
        self.ask_again(Ask::Open, expected, |p| {
            p.host_open(dir, name, flags, mode, nofollow, new, None)
        })
    }
    fn host_close(&mut self, h: Handle) {
        self.live.forget_map_of(h);
        scrub();
        if self.replaying() {
            // Only files that were mapped are open here.
            if self.live.handles.contains_key(&h) && h.0 >= 16 {
                self.live.host_close(h);
            }
            return;
        }
        if self.guard.is_some() && is_exec_handle(h) {
            // What still waits in the gate goes first.
            self.gate_closes(h);
            return;
        }
        self.live.host_close(h);
    }
    asks! {
        Stat host_stat(h: Handle) -> Result<Stat, Errno>;
        ReadlinkAt host_readlink_at(dir: Handle, name: &[u8]) -> Result<Vec<u8>, Errno>;
        List host_list(h: Handle) -> Result<Vec<DirEntry>, Errno>;
        Statfs host_statfs(h: Handle) -> Result<[u64; 9], Errno>;
        ListAt host_list_at(dir: Handle, name: &[u8]) -> Result<Vec<DirEntry>, Errno>;
        StatfsAt host_statfs_at(dir: Handle, name: &[u8]) -> Result<[u64; 9], Errno>;
        Seek host_seek(h: Handle, offset: u64, hole: bool) -> Result<u64, Errno>;
        LockTest host_lock_test(h: Handle, kind: i32, start: u64, end: u64) -> Result<LockMet, Errno>;
        Reopen host_reopen(h: Handle, flags: i32, new: Handle) -> Result<Stat, Errno>;
    }
    fn host_stat_at(&mut self, dir: Handle, name: &[u8], expected: Expected) -> Result<Stat, Errno> {
        self.ask_again(Ask::StatAt, expected, |p| p.host_stat_at(dir, name, None))
    }
    fn host_xattr_at(&mut self, dir: Handle, name: &[u8], op: &Xattr<'_>) -> Result<Vec<u8>, Errno> {
        if let Xattr::Set(..) | Xattr::Remove(_) = op {
            self.leaves(TAG_META | Ask::Xattr as u64, name);
        }
        self.ask(Ask::Xattr, |p| p.host_xattr_at(dir, name, op))
    }
    fn host_pread_guest(
        &mut self,
        h: Handle,
        offset: u64,
        addr: u64,
        len: u64,
        expected: Option<&[u8]>,
    ) -> Result<Read, Errno> {
        if let Mode::Run = self.mode {
            return self.live.host_pread_guest(h, offset, addr, len, None);
        }
        self.reads(
            Ask::PreadGuest,
            expected,
            |p| {
                let n = p.host_pread_guest(h, offset, addr, len, None)?.n;
                if expected.is_some_and(|e| e.len() == n && p.guest_holds(addr, e)) {
                    return Ok(None);
                }
                let mut bytes = vec![0; n];
                p.read_guest(addr, &mut bytes).map_err(|_| Errno::EFAULT)?;
                Ok(Some(bytes))
            },
            |p, bytes| match p.write_guest(addr, bytes) {
                Ok(()) => Ok(bytes.len()),
                Err(_) => Err(Errno::EFAULT),
            },
        )
    }
    fn host_pread(
        &mut self,
        h: Handle,
        offset: u64,
        dst: &mut [u8],
        expected: Option<&[u8]>,
    ) -> Result<Read, Errno> {
        if let Mode::Run = self.mode {
            return self.live.host_pread(h, offset, dst, None);
        }
        let dst = std::cell::RefCell::new(dst);
        self.reads(
            Ask::Pread,
            expected,
            |p| {
                let mut dst = dst.borrow_mut();
                let n = p.host_pread(h, offset, &mut dst, None)?.n;
                Ok((expected != Some(&dst[..n])).then(|| dst[..n].to_vec()))
            },
            |_, bytes| {
                let mut dst = dst.borrow_mut();
                let n = bytes.len().min(dst.len());
                dst[..n].copy_from_slice(&bytes[..n]);
                Ok(n)
            },
        )
    }
    fn host_pwrite(&mut self, h: Handle, offset: u64, src: &[u8]) -> Result<usize, Errno> {
        self.leaves(TAG_PWRITE | offset, src);
        self.ask_expecting(Ask::Pwrite, Ok(src.len()), |p| p.host_pwrite(h, offset, src))
    }
    changes! {
        Truncate host_truncate(h: Handle, len: u64) = &len.to_le_bytes();
        Allocate host_allocate(h: Handle, mode: i32, offset: u64, len: u64) = &(offset ^ len).to_le_bytes();
        Sync host_sync(h: Handle, data_only: bool) = &[];
        MkdirAt host_mkdir_at(dir: Handle, name: &[u8], mode: u32) = name;
        UnlinkAt host_unlink_at(dir: Handle, name: &[u8], rmdir: bool) = name;
        RenameAt host_rename_at(from: Handle, from_name: &[u8], to: Handle, to_name: &[u8], flags: u32) = to_name;
        LinkAt host_link_at(from: Handle, from_name: &[u8], to: Handle, name: &[u8]) = name;
        SymlinkAt host_symlink_at(target: &[u8], dir: Handle, name: &[u8]) = target;
        MknodAt host_mknod_at(dir: Handle, name: &[u8], mode: u32, dev: u64) = name;
        Chmod host_chmod(h: Handle, mode: u32) = &mode.to_le_bytes();
        Chown host_chown(h: Handle, uid: u32, gid: u32) = &(uid ^ gid).to_le_bytes();
        Utimens host_utimens(h: Handle, atime: Option<i128>, mtime: Option<i128>) = &[];
        ChmodAt host_chmod_at(dir: Handle, name: &[u8], mode: u32) = name;
        ChownAt host_chown_at(dir: Handle, name: &[u8], uid: u32, gid: u32) = name;
        UtimensAt host_utimens_at(dir: Handle, name: &[u8], atime: Option<i128>, mtime: Option<i128>) = name;
        Lock host_lock(h: Handle, kind: i32, start: u64, end: u64) = &lock_bytes(kind, start, end);
        Flock host_flock(h: Handle, op: i32) = &op.to_le_bytes();
        LinkOpen host_link_open(h: Handle, dir: Handle, name: &[u8]) = name;
    }
}

impl HostNet for Doors {
    fn net_grant_accept(&mut self, listener: Handle, conn: Handle) {
        self.tell(|p| p.net_grant_accept(listener, conn));
    }
    fn net_grant(&mut self, h: Handle, bytes: usize) {
        self.tell(|p| p.net_grant(h, bytes));
    }
    fn net_close(&mut self, h: Handle, rest: Vec<u8>, abort: bool) {
        self.leaves(TAG_NET | h.0, &rest);
        // The image's buffer is freed now, in every mode, and not when the host has sent it all.
        let own = alloc::on(Side::Host, || rest.clone());
        drop(rest);
        self.tell(|p| p.net_close(h, own, abort));
    }
    fn net_send(&mut self, h: Handle, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        let n = self.ask_expecting(Ask::NetSend, Ok(bytes.len()), |p| p.net_send(h, bytes, more))?;
        self.leaves(TAG_NET | h.0, &bytes[..n.min(bytes.len())]);
        Ok(n)
    }
    fn net_send_to(&mut self, h: Handle, bytes: &[u8], to: &[u8], control: &[u8]) -> Result<usize, Errno> {
        self.leaves(TAG_NET | h.0, bytes);
        self.ask_expecting(Ask::NetSendTo, Ok(bytes.len()), |p| {
            p.net_send_to(h, bytes, to, control)
        })
    }
    fn net_bind_at(&mut self, h: Handle, dir: Handle, name: &[u8], mode: u32) -> Result<(), Errno> {
        self.leaves(TAG_NET | h.0, name);
        self.ask_expecting(Ask::NetBindAt, Ok(()), |p| p.net_bind_at(h, dir, name, mode))
    }
    fn net_send_at(&mut self, h: Handle, bytes: &[u8], dir: Handle, name: &[u8]) -> Result<usize, Errno> {
        self.leaves(TAG_NET | h.0, bytes);
        self.ask_expecting(Ask::NetSendAt, Ok(bytes.len()), |p| {
            p.net_send_at(h, bytes, dir, name)
        })
    }
    fn net_shutdown(&mut self, h: Handle, how: i32) -> Result<(), Errno> {
        self.ask_expecting(Ask::NetShutdown, Ok(()), |p| p.net_shutdown(h, how))
    }
    fn net_set_option(&mut self, h: Handle, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        self.ask_expecting(Ask::NetSetOption, Ok(()), |p| {
            p.net_set_option(h, level, name, value)
        })
    }
    asks! {
        NetPresent net_present() -> bool;
        NetSocket net_socket(family: i32, kind: i32, protocol: i32, new: Handle) -> Result<(), Errno>;
        NetBind net_bind(h: Handle, addr: &[u8]) -> Result<SockAddr, Errno>;
        NetListen net_listen(h: Handle, backlog: i32) -> Result<SockAddr, Errno>;
        NetConnect net_connect(h: Handle, addr: &[u8]) -> Result<Connect, Errno>;
        NetBoundAt net_bound_at(dir: Handle, name: &[u8]) -> Option<Handle>;
        NetConnectAt net_connect_at(h: Handle, dir: Handle, name: &[u8]) -> Result<SockAddr, Errno>;
        NetGetOption net_get_option(h: Handle, level: i32, name: i32, len: usize) -> Result<Vec<u8>, Errno>;
        NetLocal net_local(h: Handle) -> Result<SockAddr, Errno>;
        NetUnsent net_unsent(h: Handle) -> u32;
        NetInterfaces net_interfaces() -> Option<Vec<Interface>>;
    }
}

impl Host for Doors {
    fn clock_check(&mut self, e: u64, p: Ns) -> Check {
        match &mut self.mode {
            Mode::Run => self.live.clock_check(e, p),
            Mode::Record(r) => {
                let (c, real) = self.live.clock_against(p);
                let c = match c {
                    Check::Holds if !r.predict => Check::Behind(p),
                    c => c,
                };
                // SAFETY: the image's first page, made of Cells.
                let held =
                    unsafe { &*(ftl_core::layout::CLOCK_ADDR as *const ftl_core::clock::Clock) }.last();
                r.errors.add(match c {
                    Check::Behind(v) => v.abs_diff(real),
                    Check::Holds => p.abs_diff(real),
                    Check::Ahead => held.abs_diff(real),
                });
                let v = match c {
                    Check::Holds => {
                        r.reads.0 += 1;
                        return c;
                    }
                    Check::Behind(v) => Some(v),
                    Check::Ahead => None,
                };
                let _side = alloc::enter(Side::Host);
                r.reads.1 += 1;
                r.put(&Record::Clock { e, v });
                c
            }
            Mode::Replay(r) => {
                let c = r.clock(e);
                scrub();
                c
            }
        }
    }
    fn entropy(&mut self, out: &mut [u8]) {
        let len = out.len();
        let bytes = self.ask(Ask::Entropy, |p| {
            let mut b = vec![0; len];
            p.entropy(&mut b);
            b
        });
        out.copy_from_slice(&bytes);
    }
    fn stream_kind(&mut self, h: Handle) -> StreamKind {
        self.ask(Ask::StreamKind, |p| p.stream_kind(h))
    }
    fn out_stream(&mut self, h: Handle, bytes: &[u8]) -> Result<usize, Errno> {
        if self.guard.is_some() || self.takeover.is_some() {
            return self.out_gated(h, bytes);
        }
        let n = self.ask_expecting(Ask::OutStream, Ok(bytes.len()), |p| p.out_stream(h, bytes))?;
        let n = n.min(bytes.len());
        self.leaves(h.0, &bytes[..n]);
        // What others than the first process printed went to others than who watches now.
        if let Mode::Replay(r) = &self.mode
            && r.out.count > r.quiet
            && !is_exec_handle(h)
        {
            sys::write_all(h.0 as i32, &bytes[..n]);
        }
        Ok(n)
    }
    fn out_packet(&mut self, h: Handle, frame: &[u8], more: bool) {
        self.leaves(TAG_PACKET | h.0, frame);
        let class = (self.guard.is_some() || self.takeover.is_some())
            .then(|| crate::protect::class::of_frame(frame))
            .flatten();
        match class {
            // What the image must not be known to have said before it is committed.
            Some(class) if self.guard.is_some() => {
                self.gate(class, frame);
            }
            Some(class) => {
                if let Some(t) = &mut self.takeover {
                    let _side = alloc::enter(Side::Host);
                    t.output(class, frame);
                }
            }
            None => self.tell(|p| p.out_packet(h, frame, more)),
        }
    }
    fn want_input(&mut self, h: Handle, max: usize) {
        if let Some(t) = &mut self.takeover {
            let _side = alloc::enter(Side::Host);
            t.wants.insert(h, max);
        }
        self.tell(|p| p.want_input(h, max));
    }
    fn tty_ioctl(&mut self, h: Handle, cmd: u64, arg: &mut [u8]) -> Result<u64, Errno> {
        let before = arg.to_vec();
        let (r, after) = self.ask(Ask::TtyIoctl, |p| {
            let mut a = before;
            (p.tty_ioctl(h, cmd, &mut a), a)
        });
        let n = after.len().min(arg.len());
        arg[..n].copy_from_slice(&after[..n]);
        r
    }
    fn resident_pages(&mut self, addr: u64, out: &mut [u8]) {
        let len = out.len();
        let bytes = self.ask(Ask::Resident, |p| {
            let mut b = vec![0; len];
            p.resident_pages(addr, &mut b);
            b
        });
        let n = bytes.len().min(len);
        out[..n].copy_from_slice(&bytes[..n]);
    }
    fn save_xstate(&mut self, ctx: &mut Context) {
        self.live.save_xstate(ctx);
    }
    fn layer_read(&mut self, max: usize) -> Vec<u8> {
        self.ask(Ask::Layer, |p| p.layer_read(max))
    }
    fn layer_write(&mut self, bytes: &[u8]) {
        self.leaves(TAG_META | Ask::Layer as u64, bytes);
        self.tell(|p| p.layer_write(bytes));
    }
    fn layer_done(&mut self) {
        self.tell(|p| p.layer_done());
    }
    fn diagnostic(&mut self, line: &str) {
        self.live.diagnostic(line);
    }
}

impl Doors {
    /// A read of a host file. `live` does it and gives what was read, or nothing if that is as expected; `put` puts what
    /// the log says into its place. Whatever is allocated here is the host's: the two modes need different buffers.
    #[inline(never)]
    fn reads(
        &mut self,
        what: Ask,
        expected: Option<&[u8]>,
        live: impl FnOnce(&mut Plat) -> Result<Option<Vec<u8>>, Errno>,
        put: impl FnOnce(&mut Plat, &[u8]) -> Result<usize, Errno>,
    ) -> Result<Read, Errno> {
        if expected.is_none() {
            self.live_if_starved();
        }
        scrub();
        let _side = alloc::enter(Side::Host);
        let read = match &mut self.mode {
            // Gone live just now.
            Mode::Run => live(&mut self.live).map(|read| Read {
                n: read.as_deref().or(expected).map_or(0, <[u8]>::len),
                logged: false,
            }),
            Mode::Record(r) => r.read(what, live(&mut self.live), expected),
            Mode::Replay(r) => {
                let said: Option<Result<Vec<u8>, Errno>> = match expected {
                    Some(_) => r.answer_if(what as u16),
                    None => Some(r.answer(what as u16)),
                };
                let logged = said.is_some();
                let n = match &said {
                    Some(Ok(bytes)) => put(&mut self.live, bytes),
                    Some(Err(e)) => Err(*e),
                    None => put(&mut self.live, expected.unwrap_or_default()),
                };
                n.map(|n| Read { n, logged })
            }
        };
        scrub();
        read
    }

    /// A stream's bytes through the gate: taken whole, or not at all when the gate is full.
    fn out_gated(&mut self, h: Handle, bytes: &[u8]) -> Result<usize, Errno> {
        let class = Class::Stream {
            stream: stream_number(h),
        };
        let replaying = self.replaying();
        let pushed = match self.replaying() {
            true => None,
            false => self.gate(class, bytes),
        };
        let live = match pushed {
            Some(Pushed::Full) => 0,
            _ => bytes.len(),
        };
        let n = self.ask_expecting(Ask::OutStream, Ok(bytes.len()), |_| Ok::<usize, Errno>(live))?;
        let n = n.min(bytes.len());
        if pushed == Some(Pushed::Full) {
            self.gate_full(h);
        }
        self.leaves(h.0, &bytes[..n]);
        // An output that the old primary's gate had no room for was none.
        let none = n == 0 && !bytes.is_empty();
        if replaying
            && !none
            && let Some(t) = &mut self.takeover
        {
            let _side = alloc::enter(Side::Host);
            t.output(class, &bytes[..n]);
        }
        Ok(n)
    }
}

impl Plat {
    /// Whether these bytes are at `addr` in guest memory.
    fn guest_holds(&mut self, addr: u64, bytes: &[u8]) -> bool {
        let mut buf = [0; 1024];
        let mut at = addr;
        bytes.chunks(buf.len()).all(|part| {
            let there = &mut buf[..part.len()];
            let same = self.read_guest(at, there).is_ok() && there == part;
            at += part.len() as u64;
            same
        })
    }

    /// True the first time that this handle is mapped.
    fn first_map_of(&mut self, h: Handle) -> bool {
        let _side = alloc::enter(Side::Host);
        self.mapped.insert(h)
    }
    fn forget_map_of(&mut self, h: Handle) {
        self.mapped.remove(&h);
    }
}
