//! What the clients say to the servers, over one kept-alive connection each.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A server that can be put under load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    /// memcached
    Memcached,
    /// redis
    Redis,
    /// nginx with one static file
    Nginx,
    /// registers behind HTTP in node
    Node,
    /// registers in a SQLite file behind HTTP, in Python
    Sqlite,
}

/// The same registers over HTTP: `/set/KEY/VALUE`, `/get/KEY`, `/add/KEY/N`.
const NODE: &str = include_str!("server.js");
/// See [`NODE`].
const SQLITE: &str = include_str!("server.py");

/// Size of the page that nginx serves, bytes.
pub const PAGE_LEN: usize = 10_000;

impl Server {
    /// All of them.
    pub const ALL: [Server; 5] = [
        Server::Memcached,
        Server::Redis,
        Server::Nginx,
        Server::Node,
        Server::Sqlite,
    ];

    /// As on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Server::Memcached => "memcached",
            Server::Redis => "redis",
            Server::Nginx => "nginx",
            Server::Node => "node",
            Server::Sqlite => "sqlite",
        }
    }

    /// By name, or by the name of its program.
    pub fn from_name(name: &str) -> Option<Server> {
        let name = name.rsplit('/').next().unwrap_or(name);
        Server::ALL
            .into_iter()
            .find(|s| s.name() == name || s.program() == name)
    }

    /// Its program.
    pub fn program(self) -> &'static str {
        match self {
            Server::Memcached => "memcached",
            Server::Redis => "redis-server",
            Server::Nginx => "nginx",
            Server::Node => "node",
            Server::Sqlite => "python3",
        }
    }

    /// Its port.
    pub fn port(self) -> u16 {
        match self {
            Server::Memcached => 11_211,
            Server::Redis => 6_379,
            Server::Nginx | Server::Node | Server::Sqlite => 8_080,
        }
    }

    /// It keeps registers and counters.
    pub fn keeps(self) -> bool {
        self != Server::Nginx
    }

    /// It is spoken to in HTTP.
    fn http(self) -> bool {
        matches!(self, Server::Node | Server::Sqlite)
    }

    /// Arguments by which it serves on all addresses and keeps nothing on disk. `home`: where its files may be.
    pub fn arguments(self, home: &std::path::Path) -> io::Result<Vec<String>> {
        let words = |text: &str| text.split(' ').map(str::to_string).collect();
        Ok(match self {
            Server::Memcached => words("-u nobody -l 0.0.0.0 -t 2"),
            Server::Redis => {
                let mut all: Vec<String> = words("--bind 0.0.0.0 --protected-mode no --appendonly no --save");
                all.push(String::new());
                all
            }
            Server::Node | Server::Sqlite => {
                let (name, text) = match self {
                    Server::Node => ("server.js", NODE),
                    _ => ("server.py", SQLITE),
                };
                let file = home.join(name);
                std::fs::write(&file, text)?;
                vec![file.display().to_string()]
            }
            Server::Nginx => {
                std::fs::write(home.join("page"), page())?;
                let conf = home.join("nginx.conf");
                let at = home.display();
                std::fs::write(
                    &conf,
                    format!(
                        "daemon off; master_process off; pid /tmp/nginx.pid; error_log stderr;\n\
                         events {{ }}\n\
                         http {{ access_log off; keepalive_requests 1000000000;\n\
                         client_body_temp_path /tmp/n1; proxy_temp_path /tmp/n2; fastcgi_temp_path /tmp/n3;\n\
                         uwsgi_temp_path /tmp/n4; scgi_temp_path /tmp/n5;\n\
                         server {{ listen 8080; root {at}; }} }}\n"
                    ),
                )?;
                vec!["-c".to_string(), conf.display().to_string()]
            }
        })
    }
}

/// The page's bytes.
pub fn page() -> Vec<u8> {
    (0..PAGE_LEN).map(|i| b'a' + (i * 7 % 26) as u8).collect()
}

/// One connection to a server.
#[derive(Debug)]
pub struct Connection {
    server: Server,
    stream: BufReader<TcpStream>,
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Connection {
    /// Connects.
    pub fn open(server: Server, ip: Ipv4Addr, patience: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&(ip, server.port()).into(), patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Connection {
            server,
            stream: BufReader::new(stream),
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map_err(|_| wrong("an answer that is no text"))
    }

    fn tell(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())
    }

    /// Asks redis; the answer's first line.
    fn redis(&mut self, words: &[&str]) -> io::Result<String> {
        let mut text = format!("*{}\r\n", words.len());
        for w in words {
            text += &format!("${}\r\n{w}\r\n", w.len());
        }
        self.tell(&text)?;
        self.line()
    }

    /// Writes a register.
    pub fn set(&mut self, key: &str, value: u64) -> io::Result<()> {
        let text = format!("{value:016x}");
        let (want, got) = match self.server {
            Server::Memcached => {
                self.tell(&format!("set {key} 0 0 16\r\n{text}\r\n"))?;
                ("STORED", self.line()?)
            }
            s if s.http() => ("OK", self.ask(&format!("/set/{key}/{text}"))?),
            _ => ("+OK", self.redis(&["SET", key, &text])?),
        };
        if got == want {
            return Ok(());
        }
        Err(wrong(format!("set {key}: answered {got:?}")))
    }

    /// Reads a register; 0 if it was never written.
    pub fn get(&mut self, key: &str) -> io::Result<u64> {
        let value = match self.server {
            Server::Memcached => {
                self.tell(&format!("get {key}\r\n"))?;
                match self.line()?.as_str() {
                    "END" => return Ok(0),
                    head if head == format!("VALUE {key} 0 16") => {}
                    other => return Err(wrong(format!("get {key}: answered {other:?}"))),
                }
                let value = self.line()?;
                match self.line()?.as_str() {
                    "END" => value,
                    other => return Err(wrong(format!("get {key}: answered {other:?}"))),
                }
            }
            s if s.http() => match self.ask(&format!("/get/{key}"))?.as_str() {
                "-" => return Ok(0),
                value => value.to_string(),
            },
            _ => match self.redis(&["GET", key])?.as_str() {
                "$-1" => return Ok(0),
                "$16" => self.line()?,
                other => return Err(wrong(format!("get {key}: answered {other:?}"))),
            },
        };
        u64::from_str_radix(&value, 16).map_err(|_| wrong(format!("get {key}: value {value:?}")))
    }

    /// Makes redis write to this many bytes of memory at once.
    pub fn bulk(&mut self, bytes: usize) -> io::Result<()> {
        let got = self.redis(&["SETRANGE", "bulk", &(bytes - 1).to_string(), "x"])?;
        match got.strip_prefix(':') == Some(&bytes.to_string()) {
            true => Ok(()),
            false => Err(wrong(format!("SETRANGE: answered {got:?}"))),
        }
    }

    /// Makes a counter that begins at 0.
    pub fn make_counter(&mut self, key: &str) -> io::Result<()> {
        let (want, got) = match self.server {
            Server::Memcached => {
                self.tell(&format!("set {key} 0 0 1\r\n0\r\n"))?;
                ("STORED", self.line()?)
            }
            s if s.http() => ("OK", self.ask(&format!("/set/{key}/0"))?),
            _ => ("+OK", self.redis(&["SET", key, "0"])?),
        };
        if got == want {
            return Ok(());
        }
        Err(wrong(format!("set {key}: answered {got:?}")))
    }

    /// Adds to a counter and returns its new value.
    pub fn add(&mut self, key: &str, n: u64) -> io::Result<u64> {
        let got = match self.server {
            Server::Memcached => {
                self.tell(&format!("incr {key} {n}\r\n"))?;
                self.line()?
            }
            s if s.http() => self.ask(&format!("/add/{key}/{n}"))?,
            _ => {
                let got = self.redis(&["INCRBY", key, &n.to_string()])?;
                got.strip_prefix(':').unwrap_or(&got).to_string()
            }
        };
        got.parse()
            .map_err(|_| wrong(format!("incr {key}: answered {got:?}")))
    }

    /// Fetches the page and compares it.
    pub fn fetch(&mut self) -> io::Result<()> {
        if self.http("/page")? == page() {
            return Ok(());
        }
        Err(wrong("GET: another page"))
    }

    /// An answer that is text.
    fn ask(&mut self, path: &str) -> io::Result<String> {
        String::from_utf8(self.http(path)?).map_err(|_| wrong("an answer that is no text"))
    }

    /// GET.
    fn http(&mut self, path: &str) -> io::Result<Vec<u8>> {
        self.tell(&format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n"))?;
        let status = self.line()?;
        let mut len = 0;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if let Some(v) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                len = v.trim().parse().unwrap_or(0);
            }
        }
        if !status.starts_with("HTTP/1.1 200") || len > 1 << 20 {
            return Err(wrong(format!("GET: answered {status:?}, {len} bytes")));
        }
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }
}
