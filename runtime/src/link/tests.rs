//! Links over loopback: who is let in, what is bounded, how an end is told from a break.

use super::conn::{Link, MAX_MESSAGE, MAX_QUEUED};
use super::keys::{self, Authority};
use super::session::Session;
use super::*;
use std::io::{Read, Write};
use std::time::{Instant, SystemTime};

const LIMIT: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn node(authority: &Authority, now: SystemTime, days: u64) -> Security {
    let (cert, key) = authority.node("a", now, days).expect("signed");
    keys::from_pem(authority.cert.as_bytes(), cert.as_bytes(), key.as_bytes()).expect("good keys")
}

fn authority() -> Authority {
    Authority::new(SystemTime::now() - 30 * DAY).expect("made")
}

/// Both ends of a link, or why each did not come up.
fn try_pair(server: &Security, client: &Security) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
    let listener = Listener::bind("127.0.0.1:0", server.clone()).expect("bound");
    let addr = listener.local().expect("known").to_string();
    let side = std::thread::spawn(move || {
        let (mut link, _) = listener.accept()?;
        link.handshake(LIMIT)?;
        Ok(link)
    });
    let ours = connect(&addr, client, LIMIT);
    (side.join().expect("no panic"), ours)
}

fn pair(security: &Security) -> (Link, Link) {
    let (a, b) = try_pair(security, security);
    (a.expect("accepted"), b.expect("connected"))
}

fn both() -> [Security; 2] {
    [node(&authority(), SystemTime::now(), 1), Security::Insecure]
}

#[test]
fn messages_arrive_whole_and_in_order() {
    for security in both() {
        let (mut a, mut b) = pair(&security);
        let big: Vec<u8> = (0..MAX_MESSAGE).map(|i| ((i * 7) >> 3) as u8).collect();
        let writer = std::thread::spawn({
            let big = big.clone();
            move || {
                for n in 0u32..2000 {
                    a.send(&[&n.to_le_bytes(), &big[..n as usize % 97]], LIMIT)
                        .expect("sent");
                }
                a.send(&[&big], LIMIT).expect("sent");
                a.send(&[], LIMIT).expect("sent");
                a.close(LIMIT).expect("closed");
                // The other direction is open.
                assert_eq!(a.recv(LIMIT).expect("answered"), b"bye");
                assert_eq!(a.recv(LIMIT), Err(LinkError::Closed));
            }
        });
        for n in 0u32..2000 {
            let m = b.recv(LIMIT).expect("there");
            assert_eq!(
                (&m[..4], &m[4..]),
                (n.to_le_bytes().as_slice(), &big[..n as usize % 97])
            );
        }
        assert!(b.recv(LIMIT).expect("there") == big);
        assert_eq!(b.recv(LIMIT), Ok(Vec::new()));
        assert_eq!(b.recv(LIMIT), Err(LinkError::Closed));
        b.send(&[b"bye"], LIMIT).expect("sent");
        b.close(LIMIT).expect("closed");
        writer.join().expect("no panic");
    }
}

#[test]
fn nothing_waits_when_not_asked_to() {
    for security in both() {
        let (mut a, mut b) = pair(&security);
        assert_eq!(b.poll(), Ok(None));
        let start = Instant::now();
        assert_eq!(b.recv(Duration::from_millis(30)), Err(LinkError::Timeout));
        assert!(start.elapsed() < LIMIT / 4);
        // A peer that does not read: offers are refused in the end, and nothing grows without bound.
        let block = vec![1; 1 << 20];
        let mut sent = 0;
        while a.offer(&[&block]).expect("queued") {
            sent += 1;
            assert!(sent < 200 && a.queued() <= MAX_QUEUED + block.len() + 4);
        }
        assert!(a.wants_write());
        assert_eq!(
            a.send(&[&block], Duration::from_millis(30)),
            Err(LinkError::Timeout)
        );
        for _ in 0..sent {
            let m = loop {
                a.flush().expect("open");
                if let Some(m) = b.poll().expect("open") {
                    break m;
                }
            };
            assert!(m == block);
        }
        assert!(!a.wants_write() && b.poll() == Ok(None));
    }
}

#[test]
fn strangers_are_refused_by_both_sides() {
    let (ours, theirs) = (authority(), authority());
    let good = node(&ours, SystemTime::now(), 1);
    let why = |r: Result<Link, LinkError>| match r {
        Err(LinkError::Refused(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("let in"),
    };
    // Signed by another authority, whichever side it is.
    let other = node(&theirs, SystemTime::now(), 1);
    for (s, c) in [(&good, &other), (&other, &good)] {
        let (server, client) = try_pair(s, c);
        assert!(why(client).contains("authority"));
        why(server);
    }
    // Expired, and not valid yet.
    let old = node(&ours, SystemTime::now() - 10 * DAY, 5);
    let (server, client) = try_pair(&good, &old);
    assert!(why(server).contains("expired") && why(client).contains("expired"));
    let (server, client) = try_pair(&old, &good);
    assert!(why(client).contains("expired"));
    why(server);
    let early = node(&ours, SystemTime::now() + 2 * DAY, 5);
    assert!(why(try_pair(&good, &early).0).contains("not valid yet"));
    // In the clear on one side only.
    let (server, client) = try_pair(&good, &Security::Insecure);
    assert!(why(server).contains("does not speak TLS") && why(client).contains("--tls-dir"));
    let (server, client) = try_pair(&Security::Insecure, &good);
    assert!(why(server).contains("speaks TLS") && why(client).contains("does not speak TLS"));
    assert!(try_pair(&good, &good).1.is_ok());
}

/// A client that knows the authority and has no key of its own, or one that may not be a node's.
#[test]
fn a_peer_without_a_key_is_refused() {
    let ours = authority();
    let good = node(&ours, SystemTime::now(), 1);
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject;
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(ours.cert.as_bytes()).expect("PEM"))
        .expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    for (alpn, words) in [(PROTOCOL.to_vec(), "key"), (b"h2".to_vec(), "of this kind")] {
        config.alpn_protocols = vec![alpn];
        let Security::Tls { server, .. } = &good else {
            panic!("with keys")
        };
        let bare = Security::Tls {
            client: Arc::new(config.clone()),
            server: server.clone(),
        };
        let (server, client) = try_pair(&good, &bare);
        let (server, client) = (server.err().expect("refused"), client.err().expect("refused"));
        assert!(client.to_string().contains(words), "{client}");
        assert!(matches!(server, LinkError::Refused(_)), "{server}");
    }
}

fn raw_peer(security: &Security, say: &[u8]) -> LinkError {
    let listener = Listener::bind("127.0.0.1:0", security.clone()).expect("bound");
    let mut peer = TcpStream::connect(listener.local().expect("known")).expect("connected");
    let (mut link, _) = listener.accept().expect("accepted");
    peer.write_all(say).expect("written");
    peer.shutdown(std::net::Shutdown::Write).expect("shut");
    let got = link.handshake(LIMIT).and_then(|()| link.recv(LIMIT).map(drop));
    drop(link);
    let _ = peer.read_to_end(&mut Vec::new());
    got.expect_err("refused")
}

#[test]
fn hostile_peers_are_refused() {
    let tls = node(&authority(), SystemTime::now(), 1);
    let hello = b"FTVM-LINK/1\n";
    let long = [hello.as_slice(), &u32::MAX.to_le_bytes(), b"x"].concat();
    assert!(
        raw_peer(&Security::Insecure, &long)
            .to_string()
            .contains("announces")
    );
    let half = [hello.as_slice(), &100u32.to_le_bytes(), b"x"].concat();
    assert!(
        raw_peer(&Security::Insecure, &half)
            .to_string()
            .contains("middle of a message")
    );
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 4096],
        vec![0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff],
        [0x16, 3, 1, 0x40, 0]
            .into_iter()
            .chain(std::iter::repeat_n(1, 70_000))
            .collect(),
        b"FTVM-LINK/2\n".to_vec(),
        Vec::new(),
    ] {
        for security in [&tls, &Security::Insecure] {
            let e = raw_peer(security, &garbage);
            assert!(matches!(e, LinkError::Refused(_) | LinkError::Io(_)), "{e}");
        }
    }
    // Bits of a real handshake, flipped: never let in, never a panic.
    let mut state = 1u64;
    for _ in 0..60 {
        let Security::Tls { client, .. } = &tls else {
            panic!("with keys")
        };
        let name = ServerName::try_from(keys::NODE_NAME).expect("a name");
        let mut c = rustls::ClientConnection::new(client.clone(), name).expect("made");
        let mut first = Vec::new();
        c.write_tls(&mut first).expect("in memory");
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = (state >> 33) as usize % first.len();
        first[at] ^= 1 << (state >> 20 & 7);
        raw_peer(&tls, &first);
    }
}

/// Bytes on the way that were changed, or cut off without a goodbye, are not taken for an end.
#[test]
fn a_link_that_was_tampered_with_breaks() {
    let tls = node(&authority(), SystemTime::now(), 1);
    for flip in [true, false] {
        let listener = Listener::bind("127.0.0.1:0", tls.clone()).expect("bound");
        let to = listener.local().expect("known");
        let middle = TcpListener::bind("127.0.0.1:0").expect("bound");
        let addr = middle.local_addr().expect("known").to_string();
        let proxy = std::thread::spawn(move || {
            let (mut near, _) = middle.accept().expect("accepted");
            let mut far = TcpStream::connect(to).expect("connected");
            let (mut near2, mut far2) = (
                near.try_clone().expect("cloned"),
                far.try_clone().expect("cloned"),
            );
            let back = std::thread::spawn(move || std::io::copy(&mut far2, &mut near2));
            let mut total = 0;
            let mut buf = [0; 4096];
            loop {
                let n = near.read(&mut buf).expect("read");
                total += n;
                // Behind the handshake.
                if total > 20_000 {
                    if flip {
                        buf[n / 2] ^= 1;
                        let _ = far.write_all(&buf[..n]);
                    }
                    let _ = far.shutdown(std::net::Shutdown::Both);
                    break;
                }
                far.write_all(&buf[..n]).expect("written");
            }
            let _ = back.join();
        });
        let server = std::thread::spawn(move || {
            let (mut link, _) = listener.accept()?;
            link.handshake(LIMIT)?;
            loop {
                assert_eq!(link.recv(LIMIT)?, [7; 1000]);
            }
        });
        let mut client = connect(&addr, &tls, LIMIT).expect("up");
        while client.send(&[&[7; 1000]], LIMIT).is_ok() {}
        let end: Result<(), LinkError> = server.join().expect("no panic");
        let e = end.expect_err("broken");
        assert!(matches!(e, LinkError::Refused(_) | LinkError::Io(_)), "{e}");
        proxy.join().expect("no panic");
    }
}

#[test]
fn keys_are_asked_for() {
    let refused =
        |dir: Option<&Path>, insecure| Security::from_options(dir, insecure).err().expect("refused");
    assert!(refused(None, false).contains("ftvm keygen"));
    assert!(refused(Some(Path::new("x")), true).contains("exclude"));
    assert!(Security::from_options(None, true).is_ok_and(|s| !s.is_tls()));
    let dir = std::env::temp_dir().join(format!("ftvm-keys-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).expect("made");
    let (a, b) = (dir.join("a"), dir.join("b"));
    keys::make(&a, None, "a", 10).expect("made");
    assert!(
        keys::make(&a, None, "a", 10)
            .expect_err("there")
            .contains("exists")
    );
    keys::make(&b, Some(&a), "b", 10).expect("signed by the first");
    let load = |d: &Path| Security::from_options(Some(d), false);
    let (one, two) = (load(&a).expect("good"), load(&b).expect("good"));
    assert!(try_pair(&one, &two).1.is_ok() && try_pair(&two, &one).1.is_ok());
    use std::os::unix::fs::PermissionsExt;
    for name in ["key.pem", "authority-key.pem", "cert.pem"] {
        let mode = std::fs::metadata(a.join(name))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(!b.join("authority-key.pem").exists());
    std::fs::set_permissions(b.join("key.pem"), std::fs::Permissions::from_mode(0o644)).expect("set");
    assert!(load(&b).err().expect("refused").contains("chmod 600"));
    std::fs::write(a.join("cert.pem"), "no certificate").expect("written");
    assert!(load(&a).err().expect("refused").contains("cert.pem"));
    std::fs::remove_file(a.join("authority.pem")).expect("removed");
    assert!(load(&a).err().expect("refused").contains("authority.pem"));
    let _ = std::fs::remove_dir_all(&dir);
}

/// Carries bytes between two sessions in pieces of this size until nothing moves.
fn carry(
    a: &mut Session,
    b: &mut Session,
    wires: &mut [Vec<u8>; 2],
    plain: &mut [Vec<u8>; 2],
    piece: usize,
) -> Result<(), LinkError> {
    while wires.iter().any(|w| !w.is_empty()) {
        for (from, to) in [(0, 1), (1, 0)] {
            let n = wires[from].len().min(piece);
            let bytes: Vec<u8> = wires[from].drain(..n).collect();
            let end = if to == 1 { &mut *b } else { &mut *a };
            end.open(&bytes, &mut plain[to], &mut wires[to])?;
        }
    }
    Ok(())
}

#[test]
fn sessions_carry_bytes_in_any_pieces() {
    let keys = node(&authority(), SystemTime::now(), 1);
    let text: Vec<u8> = (0..100_000u32).map(|i| (i >> 3) as u8).collect();
    for (security, piece) in [
        (&keys, 1),
        (&keys, 777),
        (&keys, usize::MAX),
        (&Security::Insecure, 5),
    ] {
        let (mut a, mut b) = (
            Session::client(security).expect("made"),
            Session::server(security).expect("made"),
        );
        let (mut wires, mut plain) = <([Vec<u8>; 2], [Vec<u8>; 2])>::default();
        a.start(&mut wires[0]).expect("begun");
        // Before it is up, and after.
        a.seal(b"early", &mut wires[0]).expect("kept");
        b.seal(b"late", &mut wires[1]).expect("kept");
        assert_eq!(a.is_up(), !security.is_tls());
        carry(&mut a, &mut b, &mut wires, &mut plain, piece).expect("up");
        assert!(a.is_up() && b.is_up());
        a.seal(&text, &mut wires[0]).expect("sealed");
        assert_eq!(security.is_tls(), !wires[0].windows(64).any(|w| w == &text[..64]));
        carry(&mut a, &mut b, &mut wires, &mut plain, piece).expect("open");
        assert!(plain[0] == b"late" && plain[1] == [b"early".as_slice(), &text].concat());
    }
    // Strangers, and bytes that were changed.
    let other = node(&authority(), SystemTime::now(), 1);
    for (s, c) in [(&keys, &other), (&other, &keys)] {
        let (mut a, mut b) = (
            Session::client(c).expect("made"),
            Session::server(s).expect("made"),
        );
        let (mut wires, mut plain) = <([Vec<u8>; 2], [Vec<u8>; 2])>::default();
        a.start(&mut wires[0]).expect("begun");
        a.seal(b"secret", &mut wires[0]).expect("kept");
        assert!(carry(&mut a, &mut b, &mut wires, &mut plain, usize::MAX).is_err());
        assert!(!a.is_up() && plain.iter().all(Vec::is_empty));
    }
    let (mut a, mut b) = (
        Session::client(&keys).expect("made"),
        Session::server(&keys).expect("made"),
    );
    let (mut wires, mut plain) = <([Vec<u8>; 2], [Vec<u8>; 2])>::default();
    a.start(&mut wires[0]).expect("begun");
    carry(&mut a, &mut b, &mut wires, &mut plain, usize::MAX).expect("up");
    a.seal(b"text", &mut wires[0]).expect("sealed");
    wires[0][7] ^= 1;
    assert!(carry(&mut a, &mut b, &mut wires, &mut plain, usize::MAX).is_err() && plain[1].is_empty());
}
