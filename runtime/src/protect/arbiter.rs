//! The arbiter (PROTOCOL §4): one register with compare-and-swap, asked by a thread outside the guest's
//! processes, since an answer may take long. The machines talk to it over a packet socket.
//!
//! | URL | what |
//! |---|---|
//! | `etcd://HOST:PORT[,HOST:PORT...][/PREFIX]` | a key of etcd, by its JSON gateway: a transaction on `mod_revision`, linearizable reads, no lease |
//! | `etcds://...` | the same over TLS, with keys and a password if etcd wants them ([`super::etcd`]) |
//! | `file:PATH` | a locked file `PATH-IMAGE`: for nodes that share a disk, and for demonstrations on one host |
//!
//! Every image has a register of its own, named by its identity.

use crate::sys::{HostErr, sys};
use ftl_core::log::Wire;
use ftl_core::replica::arbiter::{Answer, Ask, Outcome, Register, Request, Versioned};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Time without questions after which a store is told so, ms. An etcd forgets who has shown a password after five minutes.
const IDLE_MS: i32 = 60_000;

/// A store that answers, blocking.
pub trait Store: Send {
    /// Answers one question about an image's register; `Unknown` if the store does not say.
    fn ask(&mut self, image: u64, ask: &Ask) -> Outcome;

    /// Nothing has been asked for a while, nor yet.
    fn idle(&mut self) {}
}

/// The store that a URL names. `keys`: directory of the keys for it, if it needs some ([`super::etcd::keys_dir`]).
pub fn open(url: &str, keys: Option<&std::path::Path>) -> Result<Box<dyn Store>, String> {
    if let Some(path) = url.strip_prefix("file:") {
        return Ok(Box::new(FileStore { path: path.into() }));
    }
    if url.starts_with("etcd://") || url.starts_with("etcds://") {
        return Ok(Box::new(super::etcd::EtcdStore::new(url, keys)?));
    }
    Err(format!(
        "arbiter {url}: not understood; give etcd://HOST:PORT, etcds://HOST:PORT or file:PATH"
    ))
}

/// A file: a line with the revision, then the register's value.
struct FileStore {
    path: PathBuf,
}

impl FileStore {
    fn path(&self, image: u64, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!("-{image:016x}{suffix}"));
        path.into()
    }

    fn read(&self, image: u64) -> std::io::Result<Option<Versioned>> {
        let text = match std::fs::read(self.path(image, "")) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let bad = || std::io::Error::other("not an arbiter's file");
        let at = text.iter().position(|b| *b == b'\n').ok_or_else(bad)?;
        let rev = std::str::from_utf8(&text[..at])
            .ok()
            .and_then(|s| s.parse().ok())
            .ok_or_else(bad)?;
        let value = Register::decode(&text[at + 1..]).map_err(std::io::Error::other)?;
        Ok(Some(Versioned { value, rev }))
    }

    /// The value changes by a rename, so a writer that dies leaves the old one; a lock of its own file orders
    /// writers.
    fn try_ask(&self, image: u64, ask: &Ask) -> std::io::Result<Outcome> {
        let options = || {
            let mut o = std::fs::OpenOptions::new();
            o.write(true).create(true).truncate(false).mode(0o600);
            o
        };
        let lock = options().open(self.path(image, ".lock"))?;
        lock.lock()?;
        let now = self.read(image)?;
        let Ask::Cas { expect, value } = ask else {
            return Ok(Outcome::Is(now));
        };
        if now.as_ref().map_or(0, |v| v.rev) != *expect {
            return Ok(Outcome::Refused);
        }
        let rev = expect + 1;
        let mut text = format!("{rev}\n").into_bytes();
        text.extend(value.encode());
        let new = self.path(image, ".new");
        let mut file = options().truncate(true).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(new, self.path(image, ""))?;
        Ok(Outcome::Swapped(rev))
    }
}

impl Store for FileStore {
    fn ask(&mut self, image: u64, ask: &Ask) -> Outcome {
        self.try_ask(image, ask).unwrap_or(Outcome::Unknown)
    }
}

fn put_versioned(v: &Option<Versioned>, out: &mut Vec<u8>) {
    v.as_ref().map(|v| (v.rev, v.value.encode())).put(out);
}

/// A question as a packet.
pub fn encode_request(image: u64, r: &Request) -> Vec<u8> {
    let mut out = Vec::new();
    (image, r.id).put(&mut out);
    match &r.ask {
        Ask::Read => 0u8.put(&mut out),
        Ask::Cas { expect, value } => {
            (1u8, *expect).put(&mut out);
            value.encode().put(&mut out);
        }
    }
    out
}

fn decode_request(mut src: &[u8]) -> Option<(u64, Request)> {
    let src = &mut src;
    let (image, id) = Wire::take(src)?;
    let ask = match u8::take(src)? {
        0 => Ask::Read,
        _ => Ask::Cas {
            expect: Wire::take(src)?,
            value: Register::decode(&<Vec<u8> as Wire>::take(src)?).ok()?,
        },
    };
    Some((image, Request { id, ask }))
}

fn encode_answer(a: &Answer) -> Vec<u8> {
    let mut out = Vec::new();
    a.id.put(&mut out);
    match &a.outcome {
        Outcome::Is(v) => {
            0u8.put(&mut out);
            put_versioned(v, &mut out);
        }
        Outcome::Swapped(rev) => (1u8, *rev).put(&mut out),
        Outcome::Refused => 2u8.put(&mut out),
        Outcome::Unknown => 3u8.put(&mut out),
    }
    out
}

/// An answer out of a packet.
pub fn decode_answer(mut src: &[u8]) -> Option<Answer> {
    let src = &mut src;
    let id = Wire::take(src)?;
    let outcome = match u8::take(src)? {
        0 => Outcome::Is(match <Option<(u64, Vec<u8>)> as Wire>::take(src)? {
            Some((rev, value)) => Some(Versioned {
                value: Register::decode(&value).ok()?,
                rev,
            }),
            None => None,
        }),
        1 => Outcome::Swapped(Wire::take(src)?),
        2 => Outcome::Refused,
        _ => Outcome::Unknown,
    };
    Some(Answer { id, outcome })
}

/// Two ends of a packet socket.
pub fn channel() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: the array takes two descriptors, which are owned at once.
    unsafe {
        if libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, fds.as_mut_ptr()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

static PENDING: std::sync::Mutex<Option<(OwnedFd, Box<dyn Store>)>> = std::sync::Mutex::new(None);

/// Keeps what [`serve_later`] serves: threads do not survive the forks of a start.
pub fn prepare(fd: OwnedFd, store: Box<dyn Store>) {
    if let Ok(mut p) = PENDING.lock() {
        *p = Some((fd, store));
    }
}

/// In the supervisor, when it forks no more.
pub fn serve_later() {
    if let Some((fd, store)) = PENDING.lock().ok().and_then(|mut p| p.take()) {
        serve(fd, store);
    }
}

/// The next packet's length; negative as recv(2) says.
fn recv(fd: &OwnedFd, buf: &mut [u8], flags: i32) -> isize {
    // SAFETY: the buffer is valid for writes.
    unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags) }
}

/// Serves questions that come on `fd`, in a thread of its own, until the other end is closed.
pub fn serve(fd: OwnedFd, mut store: Box<dyn Store>) {
    std::thread::spawn(move || {
        let (mut buf, mut next) = (vec![0u8; 4096], vec![0u8; 4096]);
        store.idle();
        // SAFETY: the buffer is valid for the calls.
        unsafe {
            loop {
                let mut p = libc::pollfd {
                    fd: fd.as_raw_fd(),
                    events: libc::POLLIN,
                    revents: 0,
                };
                if libc::poll(&raw mut p, 1, IDLE_MS) == 0 {
                    store.idle();
                    continue;
                }
                let mut n = recv(&fd, &mut buf, 0);
                if n == 0 || n < 0 && *libc::__errno_location() != libc::EINTR {
                    return;
                }
                // Who asks has one question at a time: the others were given up while the store took long.
                while let more @ 1.. = recv(&fd, &mut next, libc::MSG_DONTWAIT) {
                    std::mem::swap(&mut buf, &mut next);
                    n = more;
                }
                let Some((image, request)) = (n > 0).then(|| decode_request(&buf[..n as usize])).flatten()
                else {
                    continue;
                };
                let outcome = store.ask(image, &request.ask);
                let answer = encode_answer(&Answer {
                    id: request.id,
                    outcome,
                });
                libc::send(
                    fd.as_raw_fd(),
                    answer.as_ptr().cast(),
                    answer.len(),
                    libc::MSG_NOSIGNAL,
                );
            }
        }
    });
}

/// The machine's end of the channel.
#[derive(Debug)]
pub struct Client {
    fd: OwnedFd,
    image: u64,
}

impl Client {
    /// Of a channel.
    pub fn new(fd: OwnedFd, image: u64) -> Client {
        Client { fd, image }
    }

    /// Its descriptor.
    pub fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Asks. A question that is lost times out in the machine.
    pub fn ask(&self, r: &Request) {
        let bytes = encode_request(self.image, r);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the slice is valid for reads.
        let _ = unsafe {
            sys!(
                libc::SYS_sendto,
                self.fd(),
                bytes.as_ptr(),
                bytes.len(),
                flags,
                0,
                0
            )
        };
    }

    /// The next answer that has come.
    pub fn answer(&self) -> Option<Answer> {
        let mut buf = [0u8; 4096];
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the buffer is valid for writes.
        match unsafe {
            sys!(
                libc::SYS_recvfrom,
                self.fd(),
                buf.as_mut_ptr(),
                buf.len(),
                flags,
                0,
                0
            )
        } {
            Ok(n) if n > 0 => decode_answer(&buf[..n as usize]),
            Ok(_) | Err(HostErr(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftl_core::replica::Member;

    fn register(epoch: u32) -> Register {
        let me = Member { node: 1, inc: 2 };
        Register {
            epoch,
            primary: me,
            set: vec![me],
        }
    }

    #[test]
    fn a_file_swaps_once_per_revision() {
        let path = std::env::temp_dir().join(format!("ftl-arbiter-{}", std::process::id()));
        let mut s = open(&format!("file:{}", path.display()), None).expect("a store");
        assert_eq!(s.ask(5, &Ask::Read), Outcome::Is(None));
        let cas = |expect, epoch| Ask::Cas {
            expect,
            value: register(epoch),
        };
        assert_eq!(s.ask(5, &cas(0, 1)), Outcome::Swapped(1));
        assert_eq!(s.ask(5, &cas(0, 2)), Outcome::Refused);
        assert_eq!(s.ask(5, &cas(1, 2)), Outcome::Swapped(2));
        let Outcome::Is(Some(v)) = s.ask(5, &Ask::Read) else {
            panic!("no value");
        };
        assert_eq!((v.rev, v.value.epoch), (2, 2));
        assert_eq!(s.ask(6, &Ask::Read), Outcome::Is(None), "another image's");
        let of = |image| format!("{}-{image:016x}", path.display());
        std::fs::write(of(5), "garbage").expect("written");
        assert_eq!(s.ask(5, &Ask::Read), Outcome::Unknown);
        for image in [5, 6] {
            let _ = std::fs::remove_file(of(image));
            let _ = std::fs::remove_file(of(image) + ".lock");
        }
    }

    /// Answers when it is let, and says what it was asked.
    struct Held(std::sync::mpsc::Receiver<()>, std::sync::mpsc::Sender<Ask>);

    impl Store for Held {
        fn ask(&mut self, _: u64, ask: &Ask) -> Outcome {
            let _ = (self.1.send(ask.clone()), self.0.recv());
            Outcome::Unknown
        }
    }

    #[test]
    fn questions_that_were_given_up_are_not_before_the_next() {
        let (ours, theirs) = channel().expect("a channel");
        let (let_one, lets) = std::sync::mpsc::channel();
        let (says, asked) = std::sync::mpsc::channel();
        serve(theirs, Box::new(Held(lets, says)));
        let client = Client::new(ours, 1);
        let cas = |expect| Ask::Cas {
            expect,
            value: register(1),
        };
        client.ask(&Request { id: 1, ask: cas(1) });
        let patience = std::time::Duration::from_secs(60);
        assert_eq!(asked.recv_timeout(patience), Ok(cas(1)));
        for id in 2..=50 {
            client.ask(&Request { id, ask: cas(id) });
        }
        for _ in 0..2 {
            let_one.send(()).expect("it asks on");
        }
        assert_eq!(asked.recv_timeout(patience), Ok(cas(50)), "the last comes next");
        let mut answers = Vec::new();
        let end = std::time::Instant::now() + patience;
        while answers.len() < 2 && std::time::Instant::now() < end {
            answers.extend(client.answer().map(|a| a.id));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(answers, [1, 50]);
    }

    #[test]
    fn packets_read_back() {
        let r = Request {
            id: 7,
            ask: Ask::Cas {
                expect: 3,
                value: register(9),
            },
        };
        assert_eq!(decode_request(&encode_request(8, &r)), Some((8, r)));
        for outcome in [
            Outcome::Is(None),
            Outcome::Is(Some(Versioned {
                value: register(1),
                rev: 4,
            })),
            Outcome::Swapped(5),
            Outcome::Refused,
            Outcome::Unknown,
        ] {
            let a = Answer { id: 1, outcome };
            assert_eq!(decode_answer(&encode_answer(&a)), Some(a));
        }
    }
}
