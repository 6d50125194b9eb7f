//! The image's own loopback, without any host.

use super::inet::{Addr, Inet};
use super::inet_tcp::Tcp;
use super::inet_udp::Udp;
use ftl_core::errno::Errno;
use ftl_core::file::File;
use ftl_core::io::{Dst, Src, Stop};
use ftl_core::socket::{Incoming, Outgoing, Socket, Ucred, num};
use ftl_core::testing::World;
use ftl_core::wait::Poll;
use std::rc::Rc;

fn loopback(port: u16) -> Vec<u8> {
    let mut a = Addr::any(num::AF_INET).reached();
    a.port = port;
    a.to_bytes(num::AF_INET)
}

fn errno<T>(r: Result<T, Stop>) -> Option<Errno> {
    match r {
        Err(Stop::Errno(e)) => Some(e),
        _ => None,
    }
}

fn send(w: &mut World, s: &dyn Socket, bytes: &[u8]) -> Result<u64, Stop> {
    s.send(
        &mut w.env(),
        &mut Outgoing::default(),
        &mut Src::kernel(bytes.to_vec()),
    )
}

fn recv(w: &mut World, s: &dyn Socket, max: usize) -> Result<Vec<u8>, Stop> {
    let mut dst = Dst::kernel(max);
    s.recv(&mut w.env(), &mut Incoming::default(), &mut dst)?;
    Ok(dst.into_bytes())
}

/// A listener, a client, and the listener's end of their connection.
fn pair(w: &mut World, inet: &Rc<Inet>) -> (Rc<Tcp>, Rc<Tcp>, Rc<dyn File>) {
    let l = Tcp::create(&mut w.env(), inet, num::AF_INET).unwrap();
    l.bind(&mut w.env(), &loopback(7000)).unwrap();
    l.listen(&mut w.env(), 5, Ucred::NONE).unwrap();
    let c = Tcp::create(&mut w.env(), inet, num::AF_INET).unwrap();
    c.connect(&mut w.env(), &loopback(7000), false).unwrap();
    let (s, peer) = l.accept(&mut w.env()).unwrap();
    assert_eq!(peer, c.local_name(&mut w.env()).unwrap());
    (l, c, s)
}

#[test]
fn addresses_keep_their_bytes() {
    let v4 = loopback(80);
    assert_eq!(Addr::parse(num::AF_INET, &v4).unwrap().to_bytes(num::AF_INET), v4);
    let any6 = Addr::any(num::AF_INET6);
    let to = Addr::parse(num::AF_INET, &v4).unwrap();
    let bound = Addr { port: 80, ..any6 };
    assert!(bound.accepts(&to, false) && !bound.accepts(&to, true));
    let any4 = Addr {
        port: 80,
        ..Addr::any(num::AF_INET)
    };
    assert!(
        any4.accepts(&to, true)
            && !any4.accepts(
                &Addr {
                    port: 80,
                    ..any6.reached()
                },
                false
            )
    );
    assert_eq!(Addr::parse(num::AF_INET, &v4[..8]), Err(Errno::EINVAL));
    assert_eq!(
        Addr::parse(num::AF_INET, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        Err(Errno::EAFNOSUPPORT)
    );
}

#[test]
fn bytes_pass_in_order_and_end_with_the_peer() {
    let (mut w, inet) = (World::new(4096), Rc::<Inet>::default());
    let (_l, c, s) = pair(&mut w, &inet);
    let s_sock = s.socket().unwrap();
    assert_eq!(errno(recv(&mut w, &*c, 9)), Some(Errno::EAGAIN));
    send(&mut w, s_sock, b"hello ").unwrap();
    send(&mut w, s_sock, b"world").unwrap();
    assert_eq!(recv(&mut w, &*c, 8).unwrap(), b"hello wo");
    assert_eq!(recv(&mut w, &*c, 8).unwrap(), b"rld");
    s_sock.shutdown(&mut w.env(), num::SHUT_WR).unwrap();
    assert_eq!(errno(send(&mut w, s_sock, b"x")), Some(Errno::EPIPE));
    assert_eq!(recv(&mut w, &*c, 8).unwrap(), b"");
    let p = c.poll(&mut w.env());
    assert!(p.contains(Poll::IN | Poll::RDHUP | Poll::OUT) && !p.contains(Poll::HUP));
    drop(s);
    // Natively the first write after the peer's close is taken, and answered by a reset.
    assert_eq!(send(&mut w, &*c, b"1").unwrap(), 1);
    assert_eq!(errno(send(&mut w, &*c, b"2")), Some(Errno::EPIPE));
    assert!(c.poll(&mut w.env()).contains(Poll::HUP));
}

#[test]
fn unread_bytes_reset_the_connection() {
    let (mut w, inet) = (World::new(4096), Rc::<Inet>::default());
    let (_l, c, s) = pair(&mut w, &inet);
    send(&mut w, &*c, b"unread").unwrap();
    drop(s);
    assert!(c.poll(&mut w.env()).contains(Poll::ERR | Poll::HUP));
    assert_eq!(errno(recv(&mut w, &*c, 1)), Some(Errno::ECONNRESET));
    assert_eq!(recv(&mut w, &*c, 1).unwrap(), b"");
}

#[test]
fn a_full_receiver_holds_the_sender() {
    let (mut w, inet) = (World::new(4096), Rc::<Inet>::default());
    let (_l, c, s) = pair(&mut w, &inet);
    let mut sent = 0;
    let full = loop {
        match send(&mut w, &*c, &[7; 50_000]) {
            Ok(n) => sent += n,
            e => break errno(e),
        }
    };
    assert_eq!(full, Some(Errno::EAGAIN));
    assert_eq!(sent as usize, super::inet_tcp::RX_LIMIT);
    assert!(!c.poll(&mut w.env()).contains(Poll::OUT));
    let got = recv(&mut w, s.socket().unwrap(), 200_000).unwrap();
    assert_eq!(got.len(), 200_000);
    assert!(c.poll(&mut w.env()).contains(Poll::OUT));
}

#[test]
fn ports_are_exclusive_and_come_back() {
    let (mut w, inet) = (World::new(4096), Rc::<Inet>::default());
    let a = Tcp::create(&mut w.env(), &inet, num::AF_INET).unwrap();
    a.bind(&mut w.env(), &loopback(7001)).unwrap();
    let b = Tcp::create(&mut w.env(), &inet, num::AF_INET).unwrap();
    assert_eq!(
        errno(b.bind(&mut w.env(), &loopback(7001))),
        Some(Errno::EADDRINUSE)
    );
    assert_eq!(
        errno(b.connect(&mut w.env(), &loopback(7001), false)),
        Some(Errno::ECONNREFUSED)
    );
    drop(a);
    let c = Tcp::create(&mut w.env(), &inet, num::AF_INET).unwrap();
    c.bind(&mut w.env(), &loopback(7001)).unwrap();
}

#[test]
fn datagrams_keep_their_borders() {
    let (mut w, inet) = (World::new(4096), Rc::<Inet>::default());
    let s = Udp::create(&mut w.env(), &inet, num::AF_INET, super::host::IPPROTO_UDP).unwrap();
    s.bind(&mut w.env(), &loopback(7002)).unwrap();
    let c = Udp::create(&mut w.env(), &inet, num::AF_INET, super::host::IPPROTO_UDP).unwrap();
    assert_eq!(errno(send(&mut w, &*c, b"x")), Some(Errno::EDESTADDRREQ));
    c.connect(&mut w.env(), &loopback(7002), false).unwrap();
    send(&mut w, &*c, b"one").unwrap();
    send(&mut w, &*c, b"").unwrap();
    assert_eq!(recv(&mut w, &*s, 2).unwrap(), b"on");
    assert_eq!(recv(&mut w, &*s, 2).unwrap(), b"");
    assert_eq!(errno(recv(&mut w, &*s, 2)), Some(Errno::EAGAIN));
    drop(s);
    send(&mut w, &*c, b"lost").unwrap();
    assert_eq!(errno(recv(&mut w, &*c, 2)), Some(Errno::ECONNREFUSED));
}
