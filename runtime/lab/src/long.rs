//! Transfers that a takeover meets in the middle.

use crate::net::{Host, IMAGE};
use crate::speak::Server;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// A connection on which nothing comes for this long is lost.
const PATIENCE: Duration = Duration::from_secs(60);
const BLOCK: usize = 1 << 20;

/// A transfer under way: what went wrong, if anything, in words.
pub type Transfer = JoinHandle<Result<(), String>>;

/// Block `n` of a file whose every block differs.
fn block(n: u64) -> Vec<u8> {
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(BLOCK);
    while out.len() < BLOCK {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend(x.to_le_bytes());
    }
    out
}

/// Writes a file of so many blocks for nginx.
pub fn write_file(path: &Path, blocks: u64) -> io::Result<()> {
    let mut f = BufWriter::new(File::create(path)?);
    (0..blocks).try_for_each(|n| f.write_all(&block(n)))?;
    f.flush()
}

/// Downloads that file from the image and compares each byte.
pub fn download(host: &Host, name: &'static str, blocks: u64) -> io::Result<Transfer> {
    let host = host.copy()?;
    Ok(std::thread::spawn(move || {
        host.enter()
            .and_then(|()| compare(name, blocks))
            .map_err(|e| format!("the download: {e}"))
    }))
}

fn compare(name: &str, blocks: u64) -> io::Result<()> {
    let bad = |why: String| Err(io::Error::other(why));
    let mut s = TcpStream::connect((IMAGE, Server::Nginx.port()))?;
    s.set_read_timeout(Some(PATIENCE))?;
    write!(s, "GET /{name} HTTP/1.0\r\n\r\n")?;
    let mut s = BufReader::with_capacity(BLOCK, s);
    let mut line = String::new();
    s.read_line(&mut line)?;
    if !line.contains(" 200 ") {
        return bad(line);
    }
    while line.trim_end() != "" {
        line.clear();
        s.read_line(&mut line)?;
    }
    let mut got = vec![0; BLOCK];
    for n in 0..blocks {
        s.read_exact(&mut got)?;
        if got != block(n) {
            return bad(format!("block {n} of {blocks} differs"));
        }
    }
    match s.read(&mut got)? {
        0 => Ok(()),
        n => bad(format!("{n} bytes too many")),
    }
}

/// Sends so many SETs by `redis-cli --pipe` and counts the keys in the end. `file`: where the commands may be.
pub fn pipe(host: &Host, file: &Path, keys: u64) -> io::Result<Transfer> {
    let mut f = BufWriter::new(File::create(file)?);
    for n in 0..keys {
        let (key, value) = (format!("piped:{n}"), format!("{:x}", n.wrapping_mul(0x9e37_79b9)));
        write!(
            f,
            "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n",
            key.len(),
            value.len()
        )?;
    }
    f.flush()?;
    let (host, file) = (host.copy()?, file.to_path_buf());
    Ok(std::thread::spawn(move || {
        host.enter()
            .and_then(|()| piped(&file, keys))
            .map_err(|e| format!("redis-cli --pipe: {e}"))
    }))
}

fn piped(file: &Path, keys: u64) -> io::Result<()> {
    let cli = |words: &[&str], input: Stdio| {
        let ip = IMAGE.to_string();
        let out = Command::new("redis-cli")
            .args(["-h", &ip])
            .args(words)
            .stdin(input)
            .output()?;
        Ok::<String, io::Error>(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let said = cli(&["--pipe", "--pipe-timeout", "60"], File::open(file)?.into())?;
    if !said.contains(&format!("errors: 0, replies: {keys}")) {
        return Err(io::Error::other(said));
    }
    let count = "return #redis.call('keys', 'piped:*')";
    let n = cli(&["eval", count, "0"], Stdio::null())?;
    match n.trim() == keys.to_string() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "all {keys} were answered, and there are {}",
            n.trim()
        ))),
    }
}
