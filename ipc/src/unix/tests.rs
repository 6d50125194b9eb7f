use super::*;
use ftl_core::io::Stop;
use ftl_core::testing::{BASE, World};

fn result(r: Io<u64>) -> i64 {
    match r {
        Ok(n) => n as i64,
        Err(Stop::Errno(e)) => -i64::from(e.raw()),
        Err(_) => i64::MIN,
    }
}

fn send(w: &mut World, s: &UnixSocket, n: usize) -> i64 {
    let mut src = Src::user(BASE, n as u64);
    result(s.send(&mut w.env(), &mut Outgoing::default(), &mut src))
}

fn recv_msg(w: &mut World, s: &UnixSocket, n: usize, flags: u32) -> (i64, Incoming) {
    let mut dst = Dst::user(BASE, n as u64);
    let mut msg = Incoming {
        flags,
        ..Incoming::default()
    };
    (result(s.recv(&mut w.env(), &mut msg, &mut dst)), msg)
}

fn recv(w: &mut World, s: &UnixSocket, n: usize) -> i64 {
    recv_msg(w, s, n, 0).0
}

const ME: Ucred = Ucred {
    pid: 5,
    uid: 1000,
    gid: 100,
};
const EAGAIN: i64 = -11;
const EPIPE: i64 = -32;
const ECONNRESET: i64 = -104;

#[test]
fn a_stream_glues_and_peeks() {
    let mut w = World::new(1 << 20);
    let (a, b) = UnixSocket::pair(&mut w.env(), num::SOCK_STREAM, ME);
    assert_eq!(recv(&mut w, &b, 10), EAGAIN);
    assert_eq!(send(&mut w, &a, 3), 3);
    assert_eq!(send(&mut w, &a, 4), 4);
    assert_eq!(recv_msg(&mut w, &b, 100, num::MSG_PEEK).0, 7);
    assert_eq!(recv(&mut w, &b, 5), 5);
    assert_eq!(recv(&mut w, &b, 5), 2);
    assert_eq!(a.charged.get(), 0);
}

#[test]
fn a_full_stream_is_writable_at_a_quarter() {
    let mut w = World::new(1 << 20);
    let (a, b) = UnixSocket::pair(&mut w.env(), num::SOCK_STREAM, ME);
    // As on Linux: one call takes 219264 bytes, six buffers.
    assert_eq!(send(&mut w, &a, 1 << 20), 219_264);
    assert_eq!(send(&mut w, &a, 1), EAGAIN);
    assert!(!a.poll(&mut w.env()).contains(Poll::OUT));
    assert_eq!(recv(&mut w, &b, 150_000), 150_000);
    assert!(!a.poll(&mut w.env()).contains(Poll::OUT));
    assert_eq!(recv(&mut w, &b, 50_000), 50_000);
    assert!(a.poll(&mut w.env()).contains(Poll::OUT));
}

#[test]
fn a_peer_that_goes() {
    let mut w = World::new(4096);
    let (a, b) = UnixSocket::pair(&mut w.env(), num::SOCK_STREAM, ME);
    send(&mut w, &b, 5);
    drop(b);
    assert_eq!(
        a.poll(&mut w.env()),
        Poll::IN | Poll::RDNORM | Poll::RDHUP | Poll::HUP | WRITABLE
    );
    assert_eq!(recv(&mut w, &a, 10), 5);
    assert_eq!(recv(&mut w, &a, 10), 0);
    assert_eq!(send(&mut w, &a, 1), EPIPE);
    let (a, b) = UnixSocket::pair(&mut w.env(), num::SOCK_STREAM, ME);
    send(&mut w, &a, 5);
    drop(b);
    assert_eq!(a.charged.get(), 0);
    assert!(a.poll(&mut w.env()).contains(Poll::ERR));
    assert_eq!(recv(&mut w, &a, 10), ECONNRESET);
    assert_eq!(recv(&mut w, &a, 10), 0);
}

#[test]
fn listen_connect_accept() {
    let mut w = World::new(4096);
    let names = Rc::new(Names::default());
    let srv = UnixSocket::new(&mut w.env(), num::SOCK_STREAM, ME);
    names.bind_abstract(&srv, b"\0x").unwrap();
    let c = UnixSocket::new(&mut w.env(), num::SOCK_STREAM, ME);
    let to = names.find_abstract(num::SOCK_STREAM, b"\0x").unwrap();
    let refused = c.connect_to(&mut w.env(), &to, ME);
    assert_eq!(result(refused.map(|()| 0)), -111);
    srv.listen(&mut w.env(), 0, ME).unwrap();
    c.connect_to(&mut w.env(), &to, ME).unwrap();
    let d = UnixSocket::new(&mut w.env(), num::SOCK_STREAM, ME);
    assert_eq!(result(d.connect_to(&mut w.env(), &to, ME).map(|()| 0)), EAGAIN);
    send(&mut w, &c, 9);
    let (f, name) = srv.accept(&mut w.env()).unwrap();
    assert_eq!(name, [1, 0]);
    let s = f.as_any().downcast_ref::<UnixSocket>().unwrap();
    assert_eq!(recv(&mut w, s, 100), 9);
    assert_eq!(s.local_name(&mut w.env()).unwrap(), b"\x01\x00\x00x");
    d.connect_to(&mut w.env(), &to, ME).unwrap();
    drop((to, srv));
    assert_eq!(recv(&mut w, &d, 1), ECONNRESET);
    assert!(names.find_abstract(num::SOCK_STREAM, b"\0x").is_none());
}

#[test]
fn packets_keep_edges_and_tell_truncation() {
    let mut w = World::new(1 << 16);
    let (a, b) = UnixSocket::pair(&mut w.env(), num::SOCK_SEQPACKET, ME);
    send(&mut w, &a, 10);
    send(&mut w, &a, 0);
    send(&mut w, &a, 7);
    let (n, m) = recv_msg(&mut w, &b, 4, num::MSG_TRUNC);
    assert_eq!((n, m.out_flags), (10, num::MSG_TRUNC));
    assert_eq!(recv(&mut w, &b, 4), 0);
    assert_eq!(recv(&mut w, &b, 9), 7);
    drop(a);
    assert_eq!(recv(&mut w, &b, 9), 0);
}

#[test]
fn an_unconnected_datagram_receiver_fills() {
    let mut w = World::new(4096);
    let names = Rc::new(Names::default());
    let r = UnixSocket::new(&mut w.env(), num::SOCK_DGRAM, ME);
    names.bind_abstract(&r, b"\0r").unwrap();
    let s = UnixSocket::new(&mut w.env(), num::SOCK_DGRAM, ME);
    s.connect_to(&mut w.env(), &r, ME).unwrap();
    for _ in 0..11 {
        assert_eq!(send(&mut w, &s, 1), 1);
    }
    assert_eq!(send(&mut w, &s, 1), EAGAIN);
    assert!(!s.poll(&mut w.env()).contains(Poll::OUT));
    assert_eq!(recv(&mut w, &r, 1), 1);
    assert!(s.poll(&mut w.env()).contains(Poll::OUT));
    drop(r);
    assert_eq!(send(&mut w, &s, 1), -111);
    assert_eq!(send(&mut w, &s, 1), -107);
}

#[test]
fn descriptors_travel_with_their_byte() {
    let mut w = World::new(4096);
    let (a, b) = UnixSocket::pair(&mut w.env(), num::SOCK_STREAM, ME);
    let thing: Rc<dyn Any> = Rc::new(5u8);
    send(&mut w, &a, 2);
    let mut msg = Outgoing {
        rights: vec![thing.clone()],
        ..Outgoing::default()
    };
    a.send(&mut w.env(), &mut msg, &mut Src::user(BASE, 2)).unwrap();
    send(&mut w, &a, 2);
    let (n, m) = recv_msg(&mut w, &b, 100, 0);
    assert_eq!((n, m.rights.len()), (4, 1));
    assert_eq!(recv(&mut w, &b, 100), 2);
    drop(m);
    assert_eq!(Rc::strong_count(&thing), 1);
}
