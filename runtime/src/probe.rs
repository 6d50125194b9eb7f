//! Questions to an application from outside: is it ready (`ready` of app.toml, `--warm-until`)?

use ftl_images::config::Until;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(1);
/// Least patience with an answer.
const LEAST: Duration = Duration::from_millis(20);
/// Longest answer to `http` that is read, bytes.
const MAX_ANSWER: u64 = 16 << 20;

/// A connection, if somebody listens there.
pub fn connect(to: SocketAddr) -> Option<TcpStream> {
    TcpStream::connect_timeout(&to, CONNECT).ok()
}

/// Asks once, and waits for an answer until `end`. What a program has printed ([`Until::Log`]) is not to be seen
/// from outside: the answer is no.
pub fn ask(address: IpAddr, until: &Until, end: Instant) -> bool {
    match until {
        Until::Tcp(port) => connect((address, *port).into()).is_some(),
        Until::Http(port, path) => {
            get((address, *port).into(), path, end).is_some_and(|status| (200..400).contains(&status))
        }
        Until::Log(_) => false,
    }
}

/// Status of the answer to a GET. It is read to its end, so that the application is not in the middle of it.
fn get(to: SocketAddr, path: &str, end: Instant) -> Option<u16> {
    let mut stream = connect(to)?;
    let left = end.saturating_duration_since(Instant::now()).max(LEAST);
    stream.set_read_timeout(Some(left)).ok()?;
    stream.set_write_timeout(Some(left)).ok()?;
    // In one piece: a server may read once.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).ok()?;
    let line = answer.split(|b| *b == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|w| w.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_or_an_answer_is_a_yes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its number");
        let answers = [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 302 there\r\n\r\n",
            "HTTP/1.0 503 no\r\n\r\n",
            "SSH-2.0-x\r\n",
        ];
        let served = std::thread::spawn(move || {
            let (_tcp, _) = listener.accept().expect("a connection");
            answers.map(|answer| {
                let (mut conn, _) = listener.accept().expect("a connection");
                let mut asked = [0; 256];
                let n = conn.read(&mut asked).expect("a question");
                conn.write_all(answer.as_bytes()).expect("answered");
                String::from_utf8_lossy(&asked[..n])
                    .lines()
                    .next()
                    .map(str::to_string)
            })
        });
        let port = at.port();
        let asked = |text: &str| {
            let until = Until::parse(text).expect("a question");
            ask(at.ip(), &until, Instant::now() + Duration::from_secs(10))
        };
        assert!(asked(&format!("tcp :{port}")));
        assert!(asked(&format!("http :{port}/ready")));
        assert!(asked(&format!("http :{port}")));
        assert!(!asked(&format!("http :{port}/no")));
        assert!(!asked(&format!("http :{port}/else")));
        let lines = served.join().expect("served");
        assert_eq!(
            lines,
            ["/ready", "/", "/no", "/else"].map(|path| Some(format!("GET {path} HTTP/1.1")))
        );
        // Processes that other tests have just made may have a copy of the listener.
        let end = Instant::now() + Duration::from_secs(60);
        while asked(&format!("tcp :{port}")) {
            assert!(Instant::now() < end, "nobody listens any more");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
