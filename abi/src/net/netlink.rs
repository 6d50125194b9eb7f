//! Route netlink (rtnetlink(7)), read only: links, addresses and routes, as getifaddrs(3),
//! if_nameindex(3) and `ip addr` ask for them.

use super::ifreq::{IFF_BROADCAST, broadcast, interfaces};
use super::inet::Inet;
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::hostnet::Interface;
use ftl_core::io::{Dst, Io, Src, err};
use ftl_core::kcore::Env;
use ftl_core::platform::Stat;
use ftl_core::socket::{Base, Incoming, Outgoing, Socket, num};
use ftl_core::wait::{Poll, WaitQueue};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_MULTI: u16 = 2;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_GETNEIGH: u16 = 30;
const RTM_GETRULE: u16 = 34;
/// Bytes of one answer before a new one is begun.
const PAGE: usize = 4096;
/// Offsets in struct nlmsghdr.
const HEAD: usize = 16;

/// A netlink socket.
pub struct Netlink {
    inet: Rc<Inet>,
    base: Base,
    port: Cell<u32>,
    groups: Cell<u32>,
    own_pid: u32,
    rx: RefCell<VecDeque<Vec<u8>>>,
    ino: u64,
    queue: WaitQueue,
}

/// A message being built.
struct Msg(Vec<u8>);

impl Msg {
    fn new(kind: u16, flags: u16, seq: u32, port: u32) -> Msg {
        let mut v = vec![0; 4];
        v.extend_from_slice(&kind.to_le_bytes());
        v.extend_from_slice(&flags.to_le_bytes());
        v.extend_from_slice(&seq.to_le_bytes());
        v.extend_from_slice(&port.to_le_bytes());
        Msg(v)
    }
    fn put(mut self, bytes: &[u8]) -> Msg {
        self.0.extend_from_slice(bytes);
        self
    }
    fn attr(mut self, kind: u16, bytes: &[u8]) -> Msg {
        self.0.extend_from_slice(&(bytes.len() as u16 + 4).to_le_bytes());
        self.0.extend_from_slice(&kind.to_le_bytes());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
    fn done(mut self) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_le_bytes());
        self.0
    }
}

fn link(m: Msg, i: &Interface) -> Msg {
    const IFF_UP: u32 = 1;
    let mut name = i.name.clone();
    name.push(0);
    let oper = if i.kind == 772 {
        0
    } else if i.flags & IFF_UP != 0 {
        6
    } else {
        2
    };
    let m = m
        .put(&[0, 0])
        .put(&i.kind.to_le_bytes())
        .put(&i.index.to_le_bytes())
        .put(&i.flags.to_le_bytes())
        .put(&[0; 4])
        .attr(3, &name)
        .attr(13, &1000u32.to_le_bytes())
        .attr(16, &[oper])
        .attr(17, &[0])
        .attr(4, &i.mtu.to_le_bytes())
        .attr(6, b"noqueue\0");
    if i.mac.is_empty() {
        return m;
    }
    let bcast = if i.kind == 772 {
        vec![0; 6]
    } else {
        vec![0xff; i.mac.len()]
    };
    m.attr(1, &i.mac).attr(2, &bcast)
}

fn address(m: Msg, i: &Interface, addr: &[u8], prefix: u8, scope: u8) -> Msg {
    const PERMANENT: u8 = 0x80;
    let family = if addr.len() == 4 {
        num::AF_INET
    } else {
        num::AF_INET6
    };
    let m = m
        .put(&[family as u8, prefix, PERMANENT, scope])
        .put(&i.index.to_le_bytes())
        .attr(1, addr);
    let m = if addr.len() == 4 {
        let mut label = i.name.clone();
        label.push(0);
        let m = m.attr(2, addr);
        let m = if i.flags & IFF_BROADCAST != 0 {
            m.attr(4, &broadcast(addr, prefix))
        } else {
            m
        };
        m.attr(3, &label)
    } else {
        m
    };
    // Lifetimes without end, no times of creation.
    let mut cache = vec![0xff; 8];
    cache.resize(16, 0);
    m.attr(8, &u32::from(PERMANENT).to_le_bytes()).attr(6, &cache)
}

/// RT_TABLE_MAIN, RTN_UNICAST; protocol and scope as given.
fn route(m: Msg, i: &Interface, dst: Option<(&[u8], u8)>, gateway: Option<&[u8]>, src: Option<&[u8]>) -> Msg {
    let len = dst.map_or(0, |d| d.1);
    let (protocol, scope) = if gateway.is_some() { (3, 0) } else { (2, 253) };
    let mut m = m
        .put(&[num::AF_INET as u8, len, 0, 0, 254, protocol, scope, 1])
        .put(&[0; 4])
        .attr(15, &254u32.to_le_bytes());
    if let Some((d, _)) = dst {
        m = m.attr(1, d);
    }
    if let Some(g) = gateway {
        m = m.attr(5, g);
    }
    if let Some(s) = src {
        m = m.attr(7, s);
    }
    m.attr(4, &i.index.to_le_bytes())
}

fn routes(all: &[Interface], mk: &dyn Fn() -> Msg) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for i in all {
        if let Some(g) = &i.gateway {
            out.push(route(mk(), i, None, Some(g), None).done());
        }
        for (a, p, _) in i.addrs.iter().filter(|(a, ..)| a.len() == 4 && i.kind != 772) {
            let mask = super::ifreq::netmask(*p);
            let net: Vec<u8> = a.iter().zip(mask).map(|(a, m)| a & m).collect();
            out.push(route(mk(), i, Some((&net, *p)), None, Some(a)).done());
        }
    }
    out
}

/// The value of an attribute in a request.
fn find_attr(mut attrs: &[u8], kind: u16) -> Option<&[u8]> {
    while attrs.len() >= 4 {
        let len = usize::from(u16::from_le_bytes([attrs[0], attrs[1]]));
        if len < 4 || len > attrs.len() {
            return None;
        }
        if u16::from_le_bytes([attrs[2], attrs[3]]) == kind {
            return Some(&attrs[4..len]);
        }
        attrs = &attrs[len.next_multiple_of(4).min(attrs.len())..];
    }
    None
}

impl Netlink {
    /// A message from the kernel itself (mq_notify's SIGEV_THREAD).
    pub fn deliver(&self, bytes: Vec<u8>) {
        self.rx.borrow_mut().push_back(bytes);
        self.queue.notify(Poll::IN | Poll::RDNORM);
    }
    /// socket(2)
    pub fn create(inet: &Rc<Inet>, kind: i32, pid: u32) -> Rc<Netlink> {
        Rc::new(Netlink {
            inet: inet.clone(),
            base: Base::new(num::AF_NETLINK, kind, 0),
            port: Cell::new(0),
            groups: Cell::new(0),
            own_pid: pid,
            rx: RefCell::default(),
            ino: inet.new_ino(),
            queue: WaitQueue::new(),
        })
    }

    fn autobind(&self) {
        if self.port.get() == 0 {
            let port = self.inet.netlink_port(self.own_pid);
            self.port.set(port);
        }
    }

    fn push(&self, bytes: Vec<u8>) {
        self.rx.borrow_mut().push_back(bytes);
        self.queue.notify(Poll::IN | Poll::RDNORM);
    }

    fn error(&self, req: &[u8], seq: u32, e: i32) {
        let m = Msg::new(NLMSG_ERROR, 0, seq, self.port.get())
            .put(&(-e).to_le_bytes())
            .put(&req[..HEAD]);
        self.push(m.done());
    }

    fn dump(&self, messages: Vec<Vec<u8>>, seq: u32) {
        let mut page = Vec::new();
        for m in messages {
            if !page.is_empty() && page.len() + m.len() > PAGE {
                self.push(std::mem::take(&mut page));
            }
            page.extend(m);
        }
        if !page.is_empty() {
            self.push(page);
        }
        self.push(
            Msg::new(NLMSG_DONE, NLM_F_MULTI, seq, self.port.get())
                .put(&[0; 4])
                .done(),
        );
    }

    fn request(&self, env: &mut Env<'_>, req: &[u8]) {
        let half = |i: usize| u16::from_le_bytes([req[i], req[i + 1]]);
        let (kind, flags) = (half(4), half(6));
        let seq = u32::from_le_bytes(std::array::from_fn(|k| req[8 + k]));
        if flags & NLM_F_REQUEST == 0 || kind <= NLMSG_NOOP {
            return;
        }
        let port = self.port.get();
        let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
        let family = i32::from(req.get(HEAD).copied().unwrap_or(0));
        let all = interfaces(env, &self.inet);
        let multi = if dump { NLM_F_MULTI } else { 0 };
        match kind {
            RTM_GETLINK if dump => {
                let m = || Msg::new(RTM_NEWLINK, multi, seq, port);
                self.dump(all.iter().map(|i| link(m(), i).done()).collect(), seq);
            }
            RTM_GETLINK => {
                let word = req.get(HEAD + 4..HEAD + 8).unwrap_or(&[0; 4]);
                let index = u32::from_le_bytes(std::array::from_fn(|k| word[k]));
                let name = find_attr(req.get(HEAD + 16..).unwrap_or(&[]), 3)
                    .map(|n| n.split(|&b| b == 0).next().unwrap_or(&[]).to_vec());
                let found = all
                    .iter()
                    .find(|i| i.index == index || name.as_ref() == Some(&i.name));
                match found {
                    Some(i) => self.push(link(Msg::new(RTM_NEWLINK, 0, seq, port), i).done()),
                    None => return self.error(req, seq, Errno::ENODEV.raw()),
                }
                if flags & NLM_F_ACK != 0 {
                    self.error(req, seq, 0);
                }
            }
            RTM_GETADDR if dump => {
                let want = match family {
                    num::AF_INET => 4,
                    num::AF_INET6 => 16,
                    _ => 0,
                };
                let mut out = Vec::new();
                // By family, then by interface, as the kernel's dumps come.
                for len in [4, 16].into_iter().filter(|l| want == 0 || want == *l) {
                    for i in &all {
                        for (a, p, s) in i.addrs.iter().filter(|(a, ..)| a.len() == len) {
                            let m = Msg::new(RTM_NEWADDR, multi, seq, port);
                            out.push(address(m, i, a, *p, *s).done());
                        }
                    }
                }
                self.dump(out, seq);
            }
            RTM_GETROUTE if dump => {
                let list = if family == num::AF_INET6 {
                    Vec::new()
                } else {
                    routes(&all, &|| Msg::new(RTM_NEWROUTE, multi, seq, port))
                };
                self.dump(list, seq);
            }
            RTM_GETNEIGH | RTM_GETRULE if dump => self.dump(Vec::new(), seq),
            RTM_GETADDR | RTM_GETROUTE | RTM_GETNEIGH | RTM_GETRULE => {
                self.error(req, seq, Errno::EOPNOTSUPP.raw());
            }
            _ => self.error(req, seq, Errno::EPERM.raw()),
        }
    }
}

impl File for Netlink {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn socket(&self) -> Option<&dyn Socket> {
        Some(self)
    }
    fn describe(&self) -> Vec<u8> {
        format!("socket:[{}]", self.ino).into_bytes()
    }
    fn whole_writes(&self) -> bool {
        true
    }
    fn read(&self, env: &mut Env<'_>, _: u64, dst: &mut Dst) -> Io<u64> {
        self.recv(env, &mut Incoming::default(), dst)
    }
    fn write(&self, env: &mut Env<'_>, _: u64, src: &mut Src) -> Io<u64> {
        self.send(env, &mut Outgoing::default(), src)
    }
    fn poll(&self, _: &mut Env<'_>) -> Poll {
        let mut p = Poll::OUT | Poll::WRNORM | Poll::WRBAND;
        if !self.rx.borrow().is_empty() {
            p |= Poll::IN | Poll::RDNORM;
        }
        p
    }
    fn queue(&self) -> Option<WaitQueue> {
        Some(self.queue.clone())
    }
    fn stat(&self, _: &mut Env<'_>) -> Io<Stat> {
        Ok(super::host::socket_stat(self.ino))
    }
}

fn name(port: u32, groups: u32) -> Vec<u8> {
    let mut v = (num::AF_NETLINK as u16).to_le_bytes().to_vec();
    v.extend_from_slice(&[0, 0]);
    v.extend_from_slice(&port.to_le_bytes());
    v.extend_from_slice(&groups.to_le_bytes());
    v
}

impl Socket for Netlink {
    fn base(&self) -> &Base {
        &self.base
    }
    fn bind(&self, _: &mut Env<'_>, addr: &[u8]) -> Io<()> {
        if addr.len() < 12 {
            return err(Errno::EINVAL);
        }
        if super::inet::family(addr) != Some(num::AF_NETLINK) {
            return err(Errno::EINVAL);
        }
        let word = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| addr[i + k]));
        let port = word(4);
        if self.port.get() != 0 && port != 0 && port != self.port.get() {
            return err(Errno::EINVAL);
        }
        if port == 0 {
            self.autobind();
        } else {
            self.port.set(port);
        }
        // Groups: changes of the host's interfaces are not announced, so nothing ever comes.
        self.groups.set(word(8));
        Ok(())
    }
    fn connect(&self, _: &mut Env<'_>, _: &[u8], _: bool) -> Io<()> {
        self.autobind();
        Ok(())
    }
    fn local_name(&self, _: &mut Env<'_>) -> Io<Vec<u8>> {
        Ok(name(self.port.get(), self.groups.get()))
    }
    fn peer_name(&self, _: &mut Env<'_>) -> Io<Vec<u8>> {
        Ok(name(0, 0))
    }
    fn send(&self, env: &mut Env<'_>, _: &mut Outgoing, src: &mut Src) -> Io<u64> {
        self.autobind();
        let bytes = src.get_vec(env.plat, 32 * 1024)?;
        let mut at = 0;
        while at + HEAD <= bytes.len() {
            let len = u32::from_le_bytes(std::array::from_fn(|k| bytes[at + k])) as usize;
            if len < HEAD || len > bytes.len() - at {
                break;
            }
            self.request(env, &bytes[at..at + len]);
            at += len.next_multiple_of(4);
        }
        Ok(bytes.len() as u64)
    }
    fn recv(&self, env: &mut Env<'_>, msg: &mut Incoming, dst: &mut Dst) -> Io<u64> {
        if msg.flags & num::MSG_OOB != 0 {
            return err(Errno::EOPNOTSUPP);
        }
        let mut rx = self.rx.borrow_mut();
        let Some(d) = rx.front() else {
            return err(Errno::EAGAIN);
        };
        let got = dst.put(env.plat, d)?;
        let len = d.len();
        if got < len {
            msg.out_flags |= num::MSG_TRUNC;
        }
        msg.name = name(0, 0);
        if msg.flags & num::MSG_PEEK == 0 {
            rx.pop_front();
        }
        Ok(if msg.flags & num::MSG_TRUNC != 0 { len } else { got } as u64)
    }
    fn shutdown(&self, _: &mut Env<'_>, _: i32) -> Io<()> {
        err(Errno::EOPNOTSUPP)
    }
    fn set_option(&self, _: &mut Env<'_>, level: i32, opt: i32, _: &[u8]) -> Io<()> {
        const SOL_NETLINK: i32 = 270;
        // ADD/DROP_MEMBERSHIP, PKTINFO, NO_ENOBUFS, EXT_ACK, GET_STRICT_CHK: no effect on what we tell.
        if level == SOL_NETLINK && [1, 2, 3, 5, 11, 12].contains(&opt) {
            return Ok(());
        }
        err(Errno::ENOPROTOOPT)
    }
}
