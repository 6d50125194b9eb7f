//! Clones of a snapshot: what each has for itself.

use super::{Place, a_port, log_of};
use std::fs;
use std::time::{Duration, Instant};

/// Prints a random number from the image's own stream when it goes on.
const RANDOM: &str = "while [ ! -e go ]; do sleep 0.02; done; od -An -N8 -tx8 /dev/urandom";

#[test]
fn clones_have_random_numbers_of_their_own() {
    let p = Place::new("clones");
    p.good(&["run", "-d", "--name", "a", "--", "/bin/sh", "-c", RANDOM]);
    std::thread::sleep(Duration::from_millis(500));
    p.good(&["checkpoint", "a", "-o", "a.ftsnap"]);
    p.refused(&["clone", "a.ftsnap", "-n", "2"], 125, "add -d");
    p.refused(&["clone", "a.ftsnap", "-p", "80:81"], 1, "no socket on that port");
    p.good(&["clone", "a.ftsnap", "-n", "3", "--name", "c", "-d"]);
    fs::write(p.path("go"), "").unwrap();
    let log = |n: u32| fs::read_to_string(log_of(&p.0, &format!("c-{n}"))).unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(60);
    while (1..=3).any(|n| log(n).trim().len() != 16) {
        assert!(Instant::now() < end, "{:?}", [log(1), log(2), log(3)]);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        log(1) != log(2) && log(2) != log(3) && log(1) != log(3),
        "{}",
        log(1)
    );
}

#[test]
fn twenty_clones_have_ports_of_their_own() {
    const SERVER: &str = "import socket, sys\n\
        s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n\
        while True:\n    c, _ = s.accept()\n    c.sendall(b'hello')\n    c.close()\n";
    let p = Place::new("twenty");
    fs::write(p.path("s.py"), SERVER).unwrap();
    let port = a_port();
    let port_word = port.to_string();
    let script = p.path("s.py").display().to_string();
    p.good(&[
        "run",
        "-d",
        "--name",
        "a",
        "--",
        "/usr/bin/python3",
        &script,
        &port_word,
    ]);
    let hello = |port: u16| -> std::io::Result<String> {
        use std::io::Read;
        let mut text = String::new();
        let mut conn = std::net::TcpStream::connect(("127.0.0.1", port))?;
        conn.read_to_string(&mut text)?;
        Ok(text)
    };
    let end = Instant::now() + Duration::from_secs(60);
    while hello(port).is_err() {
        assert!(
            Instant::now() < end,
            "{:?}",
            fs::read_to_string(log_of(&p.0, "a"))
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    p.good(&["checkpoint", "a", "-o", "a.ftsnap"]);
    let told = p.good(&["clone", "a.ftsnap", "-n", "20", "--name", "c", "-d", "--json"]);
    // The clones' names come first.
    let json = told.lines().last().unwrap();
    let told: serde_json::Value = serde_json::from_str(json).unwrap();
    let clones = told["clones"].as_array().unwrap();
    let ports: std::collections::BTreeSet<u64> = clones
        .iter()
        .flat_map(|c| c["ports"].as_object().unwrap().values())
        .map(|p| p.as_u64().unwrap())
        .collect();
    assert_eq!(ports.len(), 20, "{told}");
    for port in ports {
        assert_eq!(hello(port as u16).unwrap(), "hello", "port {port}");
    }
}
