//! What the clients say to the servers, over one kept-alive connection each.

use crate::net::CLIENT;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
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
    /// nginx with a master and four workers
    Workers,
    /// registers in a table of PostgreSQL: a process for each connection
    Postgres,
    /// nginx before a server on the clients' host, over connections that it keeps
    Proxy,
    /// registers behind a WebSocket in node
    WebSocket,
}

/// Port of the server that the proxy is before, on [`CLIENT`].
pub const UPSTREAM_PORT: u16 = 9_090;

/// The same registers over HTTP: `/set/KEY/VALUE`, `/get/KEY`, `/add/KEY/N`.
const NODE: &str = include_str!("server.js");
/// See [`NODE`].
const SQLITE: &str = include_str!("server.py");
/// The same registers behind a WebSocket.
const WEBSOCKET: &str = include_str!("websocket.js");
/// Makes a database in the image and becomes its server.
const POSTGRES: &str = include_str!("postgres.sh");

/// Size of the page that nginx serves, bytes.
pub const PAGE_LEN: usize = 10_000;

impl Server {
    /// All of them.
    pub const ALL: [Server; 9] = [
        Server::Memcached,
        Server::Redis,
        Server::Nginx,
        Server::Node,
        Server::Sqlite,
        Server::Workers,
        Server::Postgres,
        Server::Proxy,
        Server::WebSocket,
    ];

    /// As on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Server::Memcached => "memcached",
            Server::Redis => "redis",
            Server::Nginx => "nginx",
            Server::Node => "node",
            Server::Sqlite => "sqlite",
            Server::Workers => "nginx-workers",
            Server::Postgres => "postgres",
            Server::Proxy => "nginx-proxy",
            Server::WebSocket => "websocket",
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
            Server::Nginx | Server::Workers | Server::Proxy => "nginx",
            Server::Node | Server::WebSocket => "node",
            Server::Sqlite => "python3",
            Server::Postgres => "bash",
        }
    }

    /// Its port.
    pub fn port(self) -> u16 {
        match self {
            Server::Memcached => 11_211,
            Server::Redis => 6_379,
            Server::Nginx
            | Server::Workers
            | Server::Proxy
            | Server::Node
            | Server::WebSocket
            | Server::Sqlite => 8_080,
            Server::Postgres => 5_432,
        }
    }

    /// It keeps registers and counters.
    pub fn keeps(self) -> bool {
        !matches!(self, Server::Nginx | Server::Workers)
    }

    /// It is asked by paths.
    fn http(self) -> bool {
        matches!(
            self,
            Server::Node | Server::Sqlite | Server::Proxy | Server::WebSocket
        )
    }

    /// What it needs on the clients' host, if anything, in a directory where [`Server::arguments`] has put its files.
    pub fn upstream(self, home: &std::path::Path) -> Option<Command> {
        (self == Server::Proxy).then(|| {
            let mut c = Command::new("node");
            c.arg(home.join("server.js"))
                .env("PORT", UPSTREAM_PORT.to_string())
                .stdin(Stdio::null());
            c
        })
    }

    /// Arguments by which it serves on all addresses and keeps nothing on disk. `home`: where its files may be.
    pub fn arguments(self, home: &std::path::Path) -> io::Result<Vec<String>> {
        self.arguments_with(home, None)
    }

    /// The same; nginx's page is in `pages`, and stays open once it was read.
    pub fn arguments_with(
        self,
        home: &std::path::Path,
        pages: Option<&std::path::Path>,
    ) -> io::Result<Vec<String>> {
        let words = |text: &str| text.split(' ').map(str::to_string).collect();
        Ok(match self {
            Server::Memcached => words("-u nobody -l 0.0.0.0 -t 2"),
            Server::Redis => {
                let mut all: Vec<String> = words("--bind 0.0.0.0 --protected-mode no --appendonly no --save");
                all.push(String::new());
                all
            }
            Server::Node | Server::WebSocket | Server::Sqlite | Server::Postgres => {
                let (name, text) = match self {
                    Server::Node => ("server.js", NODE),
                    Server::WebSocket => ("websocket.js", WEBSOCKET),
                    Server::Sqlite => ("server.py", SQLITE),
                    _ => ("postgres.sh", POSTGRES),
                };
                let file = home.join(name);
                std::fs::write(&file, text)?;
                vec![file.display().to_string()]
            }
            Server::Nginx | Server::Workers | Server::Proxy => {
                let processes = match self {
                    Server::Workers => "user root; worker_processes 4",
                    _ => "master_process off",
                };
                std::fs::write(home.join("page"), page())?;
                std::fs::write(home.join("server.js"), NODE)?;
                // Without a second try: an upstream's connection that breaks is an error of the client's.
                let proxy = format!(
                    "upstream up {{ server {CLIENT}:{UPSTREAM_PORT}; keepalive 16; keepalive_requests 1000000000; }}\n\
                     proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_next_upstream off;\n"
                );
                let (proxy, location) = match self {
                    Server::Proxy => (proxy.as_str(), "location / { proxy_pass http://up; }"),
                    _ => ("", ""),
                };
                let conf = home.join("nginx.conf");
                // What is open stays so: a page that was read once is not looked for again.
                let cache = "open_file_cache max=10 inactive=1h; open_file_cache_valid 1h;";
                let (at, cache) = match pages {
                    Some(own) => (own.display(), cache),
                    None => (home.display(), ""),
                };
                std::fs::write(
                    &conf,
                    format!(
                        "daemon off; {processes}; pid /tmp/nginx.pid; error_log stderr;\n\
                         events {{ }}\n\
                         http {{ {cache} access_log off; keepalive_requests 1000000000;\n\
                         client_body_temp_path /tmp/n1; proxy_temp_path /tmp/n2; fastcgi_temp_path /tmp/n3;\n\
                         uwsgi_temp_path /tmp/n4; scgi_temp_path /tmp/n5;\n\
                         {proxy}\
                         server {{ listen 8080; root {at}; {location} }} }}\n"
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
        let mut c = Connection {
            server,
            stream: BufReader::new(stream),
        };
        match server {
            Server::Postgres => c.introduce()?,
            Server::WebSocket => c.upgrade()?,
            _ => {}
        }
        Ok(c)
    }

    /// PostgreSQL's start-up message: protocol 3.0, a user who needs no password.
    fn introduce(&mut self) -> io::Result<()> {
        let mut text = vec![0, 3, 0, 0];
        text.extend(b"user\0pg\0database\0postgres\0\0");
        let mut message = (text.len() as u32 + 4).to_be_bytes().to_vec();
        message.extend(text);
        self.stream.get_mut().write_all(&message)?;
        self.rows().map(drop)
    }

    /// PostgreSQL's messages up to "ready for query": the first column of the last row.
    fn rows(&mut self) -> io::Result<Option<String>> {
        let mut value = None;
        let mut failure = None;
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head)?;
            let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            if !(4..1 << 20).contains(&len) {
                return Err(wrong(format!("a message of {len} bytes")));
            }
            let mut body = vec![0; len as usize - 4];
            self.stream.read_exact(&mut body)?;
            match (head[0], failure.take()) {
                (b'Z', None) => return Ok(value),
                (b'Z', Some(why)) => return Err(wrong(why)),
                // A row: the number of columns, then each with its length.
                (b'D', _) => {
                    let column = body.get(6..).unwrap_or_default();
                    value = Some(String::from_utf8_lossy(column).into_owned());
                }
                (b'E', _) => {
                    let why = String::from_utf8_lossy(&body).replace('\0', " ");
                    // It accepts connections before it can serve them.
                    if why.contains("57P03") {
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    failure = Some(format!("the server says: {why}"));
                }
                (_, before) => failure = before,
            }
        }
    }

    /// Asks PostgreSQL for one value: the first column of the last row.
    pub fn sql(&mut self, text: &str) -> io::Result<Option<String>> {
        let mut message = vec![b'Q'];
        message.extend((text.len() as u32 + 5).to_be_bytes());
        message.extend(text.as_bytes());
        message.push(0);
        self.stream.get_mut().write_all(&message)?;
        self.rows()
    }

    /// Writes a row.
    fn upserted(&mut self, key: &str, value: u64) -> io::Result<()> {
        let text = format!(
            "insert into r values ('{key}', {value}) on conflict (k) do update set v = excluded.v returning v"
        );
        match self.sql(&text)? {
            Some(v) if v == value.to_string() => Ok(()),
            other => Err(wrong(format!("set {key}: answered {other:?}"))),
        }
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
            Server::Postgres => return self.upserted(key, value),
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
            Server::Postgres => {
                let value = self.sql(&format!("select v from r where k = '{key}'"))?;
                let value = value.unwrap_or_else(|| "0".into());
                return value
                    .parse()
                    .map_err(|_| wrong(format!("get {key}: value {value:?}")));
            }
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
            Server::Postgres => return self.upserted(key, 0),
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
            Server::Postgres => {
                let text = format!("update r set v = v + {n} where k = '{key}' returning v");
                self.sql(&text)?.unwrap_or_default()
            }
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

    /// Makes a WebSocket of the connection, with the key of RFC 6455's example.
    fn upgrade(&mut self) -> io::Result<()> {
        self.tell(
            "GET / HTTP/1.1\r\nHost: lab\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let status = self.line()?;
        let mut accepted = false;
        loop {
            let line = self.line()?;
            accepted |= line == "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
            if line.is_empty() {
                break;
            }
        }
        match status.starts_with("HTTP/1.1 101") && accepted {
            true => Ok(()),
            false => Err(wrong(format!("no WebSocket: {status:?}"))),
        }
    }

    /// A text frame, and the one that answers it.
    fn frames(&mut self, text: &str) -> io::Result<Vec<u8>> {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let len = u8::try_from(text.len()).ok().filter(|n| *n < 126);
        let mut frame = vec![
            0x81,
            0x80 | len.ok_or_else(|| wrong("a question that is too long"))?,
        ];
        frame.extend(MASK);
        frame.extend(text.bytes().zip(MASK.into_iter().cycle()).map(|(b, m)| b ^ m));
        self.stream.get_mut().write_all(&frame)?;
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        if head[0] != 0x81 || head[1] > 125 {
            return Err(wrong(format!("a frame that begins with {head:02x?}")));
        }
        let mut body = vec![0; head[1].into()];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// An answer that is text.
    fn ask(&mut self, path: &str) -> io::Result<String> {
        let body = match self.server {
            Server::WebSocket => self.frames(path)?,
            _ => self.http(path)?,
        };
        String::from_utf8(body).map_err(|_| wrong("an answer that is no text"))
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
