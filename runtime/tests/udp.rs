//! Datagrams between an image and programs of its host: what goes with them in control messages.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Tells the host's socket about itself, from a source address of its choice and with a TTL; prints what comes
/// with the two answers; then sends three datagrams in one call, and one that the kernel refuses.
const PROGRAM: &str = r#"
import socket, struct, sys
peer = ('127.0.0.1', int(sys.argv[1]))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
s.bind(('0.0.0.0', 0))
s.setsockopt(socket.IPPROTO_IP, 8, 1)
s.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
s.setsockopt(socket.IPPROTO_IP, 12, 1)
info = struct.pack('@i4s4s', 0, socket.inet_aton('127.0.0.7'), bytes(4))
s.sendmsg([b'hello'], [(0, 8, info)], 0, peer)
for i in range(2):
    data, control, flags, who = s.recvmsg(100, 300)
    print(data.decode(), who == peer, flags, [(l, k, v.hex()) for l, k, v in control])
    if i == 0:
        s.setsockopt(socket.IPPROTO_IP, 8, 0)
        s.sendto(b'next', peer)
s.sendmsg([b'aabbc'], [(17, 103, struct.pack('@H', 2))], 0, peer)
try:
    s.sendmsg([b'x'], [(0, 99, b'1234')], 0, peer)
except OSError as e:
    print(e.errno)
"#;

fn ftvm(dir: &Path, args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_ftvm"));
    c.args(args)
        .current_dir(dir)
        .env("XDG_RUNTIME_DIR", dir)
        .env("XDG_DATA_HOME", dir)
        .env("XDG_STATE_HOME", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    c
}

/// What the program printed, and the datagrams that the host's socket had from it with their source addresses.
fn talk(mut command: impl FnMut(&str) -> Command) -> (String, Vec<String>) {
    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    host.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let port = host.local_addr().unwrap().port().to_string();
    let child = command(&port).spawn().unwrap();
    let mut heard = Vec::new();
    for i in 0..5 {
        let mut buf = [0; 100];
        let Ok((n, from)) = host.recv_from(&mut buf) else {
            break;
        };
        heard.push(format!(
            "{} from {}",
            String::from_utf8_lossy(&buf[..n]),
            from.ip()
        ));
        if i < 2 {
            host.send_to(format!("answer {i}").as_bytes(), from).unwrap();
        }
    }
    let out = child.wait_with_output().unwrap();
    (printed(&out), heard)
}

fn printed(out: &Output) -> String {
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{err}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn control_messages_pass_between_image_and_host() {
    let dir = std::env::temp_dir().join(format!("ftvm-udp-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).unwrap();
    let python = ["--", "/usr/bin/python3", "-c", PROGRAM];
    let under = |how: &[&str], port: &str| ftvm(&dir, &[how, &python, &[port]].concat());
    let native = talk(|port| {
        let mut c = Command::new("/usr/bin/python3");
        c.args(["-c", PROGRAM, port])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        c
    });
    assert_eq!(native.1[0], "hello from 127.0.0.7");
    assert_eq!(
        native.1[2..],
        ["aa", "bb", "c"].map(|d| format!("{d} from 127.0.0.1"))
    );
    assert_eq!(talk(|port| under(&["run"], port)), native);
    assert_eq!(talk(|port| under(&["record", "-o", "log"], port)), native);
    let replayed = ftvm(&dir, &["replay", "log"]).output().unwrap();
    assert_eq!(printed(&replayed), native.0);
    std::fs::remove_dir_all(&dir).unwrap();
}
