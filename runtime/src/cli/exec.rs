//! `ftvm exec`: a further process in a running image, on the caller's streams.
//!
//! The caller's own descriptors stay here: the image gets pipes, and bytes are passed on between the two. So the
//! image never holds a terminal of somebody else's, and hears at once when this process ends.

use super::state::Run;
use crate::talk;
use clap::Args;
use ftl_core::door::ExecOrder;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

const FAILED: i32 = crate::run::EXIT_FAILED;

const CODES: &str = "\
Exit status: the process's own, 128+n if signal n ended it (137 if the image ended before it), 125 if ftvm failed, 126 if the
program cannot be executed, 127 if it was not found.";

/// Options of `exec`.
#[derive(Args)]
#[command(after_help = CODES)]
pub struct ExecArgs {
    /// Start it and go: its output goes nowhere. Prints its process id in the image
    #[arg(short, long)]
    detach: bool,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable, or pass on the caller's; the others are those of the image's first process
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<std::ffi::OsString>,
    /// Read variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory, in place of that which the image was started in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// As this user of the image: names as the image's /etc/passwd and /etc/group have them, or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// All that the order says, as a JSON file, in place of options and command
    #[arg(long, hide = true, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Directory of a run without a name
    #[arg(long, hide = true, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Descriptor on which it is told that the process has started, or why not
    #[arg(long, hide = true, value_name = "FD")]
    ready_fd: Option<i32>,
    /// The standard streams' terminal becomes that of a session of this process' own
    #[arg(long, hide = true)]
    own_session: bool,
    /// Name of the run, and the command with its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "NAME COMMAND"
    )]
    words: Vec<std::ffi::OsString>,
}

/// `exec`
pub fn exec(args: &ExecArgs) -> i32 {
    // SAFETY: whoever gave the descriptor has given it to us.
    let mut ready = args.ready_fd.map(|fd| unsafe { std::fs::File::from_raw_fd(fd) });
    match begin(args, &mut ready) {
        Ok(code) => code,
        Err((code, why)) => {
            if let Some(mut ready) = ready {
                // Whoever waits says it.
                let _ = writeln!(ready, "{code} {why}");
                return code;
            }
            talk::error(talk::code_of(code), code, &why);
            code
        }
    }
}

type Failure = (i32, String);

fn failed(why: impl std::fmt::Display) -> Failure {
    (FAILED, why.to_string())
}

/// Variables of the options, in their order: files first.
fn variables(args: &ExecArgs) -> Result<Vec<Vec<u8>>, Failure> {
    let mut out = Vec::new();
    let mut add = |word: &[u8]| {
        if word.contains(&b'=') {
            out.push(word.to_vec());
        } else if let Some(value) = std::env::var_os(std::ffi::OsStr::from_bytes(word)) {
            out.push([word, b"=", value.as_bytes()].concat());
        }
    };
    for file in &args.env_file {
        let bytes = std::fs::read(file).map_err(|e| failed(format!("{}: {e}", file.display())))?;
        for line in bytes.split(|b| *b == b'\n') {
            if !line.is_empty() && !line.starts_with(b"#") {
                add(line);
            }
        }
    }
    for word in &args.env {
        add(word.as_bytes());
    }
    Ok(out)
}

/// The order of a JSON file: that of an OCI `process.json`, as `ftvm-oci` gives it.
fn from_json(text: &str) -> Option<ExecOrder> {
    let v: Value = serde_json::from_str(text).ok()?;
    let words = |k: &str| -> Option<Vec<Vec<u8>>> {
        let list = v[k].as_array()?;
        list.iter()
            .map(|w| Some(w.as_str()?.as_bytes().to_vec()))
            .collect()
    };
    let numbers = |k: &str| -> Option<Vec<u64>> { v[k].as_array()?.iter().map(Value::as_u64).collect() };
    let (uid, gid) = (v["uid"].as_u64()?, v["gid"].as_u64()?);
    Some(ExecOrder {
        argv: words("args")?,
        env: words("env")?,
        only_env: true,
        cwd: v["cwd"].as_str()?.as_bytes().to_vec(),
        user: format!("{uid}:{gid}").into_bytes(),
        groups: Some(numbers("groups")?.iter().map(|n| *n as u32).collect()),
        caps: numbers("caps").and_then(|c| c.try_into().ok()),
        no_new_privs: v["no_new_privs"] == true,
        umask: v["umask"].as_u64().map(|n| n as u32),
        ..ExecOrder::default()
    })
}

fn begin(args: &ExecArgs, ready: &mut Option<std::fs::File>) -> Result<i32, Failure> {
    let mut words = args.words.iter();
    let dir = match &args.run_dir {
        Some(dir) => dir.clone(),
        None => {
            let name = words.next().ok_or_else(|| failed("no run is named"))?;
            let run = Run::find(&name.to_string_lossy()).map_err(failed)?;
            if run.pid().is_none() {
                return Err(failed(format!("{} is not running", run.name)));
            }
            run.dir.clone()
        }
    };
    let mut order = match &args.process {
        Some(file) => {
            let text =
                std::fs::read_to_string(file).map_err(|e| failed(format!("{}: {e}", file.display())))?;
            from_json(&text).ok_or_else(|| failed(format!("{}: not a process", file.display())))?
        }
        None => ExecOrder {
            argv: words
                .skip_while(|w| *w == "--")
                .map(|w| w.clone().into_vec())
                .collect(),
            env: variables(args)?,
            cwd: args
                .workdir
                .as_ref()
                .map(|d| d.as_os_str().as_bytes().to_vec())
                .unwrap_or_default(),
            user: args.user.clone().unwrap_or_default().into_bytes(),
            ..ExecOrder::default()
        },
    };
    if order.argv.is_empty() {
        return Err(failed("no command"));
    }
    order.stdin = args.interactive && !args.detach;
    order.detached = args.detach;
    order.tty = args.tty.then(|| size_of_terminal().unwrap_or_default());
    if args.own_session {
        // SAFETY: plain calls; who leads a session already, or has no terminal, goes on without.
        unsafe {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
        }
    }
    let relay = Relay::start(&dir, &order)?;
    relay.run(args.detach, ready)
}

/// Rows, columns and pixels of the caller's terminal.
fn size_of_terminal() -> Option<[u16; 4]> {
    let mut w = [0u16; 4];
    // SAFETY: room for the kernel's struct winsize.
    let found = (0..3).any(|fd| unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, w.as_mut_ptr()) } == 0);
    found.then_some(w)
}

fn not_blocking(fd: RawFd) {
    // SAFETY: plain calls on a descriptor of ours.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}

/// The caller's terminal with its keys given to the program; as before when dropped.
struct Raw(libc::termios);

impl Raw {
    fn start() -> Option<Raw> {
        // SAFETY: the struct is valid for both calls; cfmakeraw changes a copy of ours.
        unsafe {
            let mut old: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(0, &raw mut old) != 0 {
                return None;
            }
            let mut new = old;
            libc::cfmakeraw(&raw mut new);
            (libc::tcsetattr(0, libc::TCSADRAIN, &raw const new) == 0).then_some(Raw(old))
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the settings that we have read.
        unsafe { libc::tcsetattr(0, libc::TCSADRAIN, &raw const self.0) };
    }
}

/// Signals that are passed on to the process.
const PASSED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
];

/// From now on they are read from a descriptor.
fn take_signals() -> std::io::Result<OwnedFd> {
    // SAFETY: a plain signal set; the descriptor is new and ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for s in PASSED {
            libc::sigaddset(&raw mut set, s);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            fd if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(Error::last_os_error()),
        }
    }
}

/// How the process ended, and how much it printed.
#[derive(Clone, Copy)]
struct End {
    code: i32,
    printed: [u64; 2],
}

/// Between the caller's streams and the process'.
struct Relay {
    /// Where it reads; closed when there is no more.
    input: Option<std::fs::File>,
    out: [Option<std::fs::File>; 2],
    seen: [u64; 2],
    control: UnixStream,
    heard: Vec<u8>,
    signals: OwnedFd,
    typed: VecDeque<u8>,
    pid: Option<u32>,
    end: Option<End>,
    tty: bool,
}

impl Relay {
    /// Gives the order.
    fn start(dir: &Path, order: &ExecOrder) -> Result<Relay, Failure> {
        let bad = |e: Error| failed(format!("starting it: {e}"));
        let signals = take_signals().map_err(bad)?;
        let (near, far) = crate::exec::ends().map_err(bad)?;
        let memory = crate::exec::pack(order).map_err(bad)?;
        let mut gifts = vec![memory.as_fd()];
        gifts.extend(far.iter().map(AsFd::as_fd));
        let conn = crate::orders::begin_with(dir, &json!({"verb": "exec"}), &gifts);
        let conn = conn.map_err(|e| failed(format!("the run takes no orders: {e}")))?;
        let mut line = String::new();
        BufReader::new(&conn).read_line(&mut line).map_err(bad)?;
        let answer = serde_json::from_str::<Value>(&line).unwrap_or(Value::Null);
        if answer["ok"] != true {
            return Err(failed(answer["why"].as_str().unwrap_or("the run has ended")));
        }
        drop(gifts);
        drop(far);
        not_blocking(near.input.as_raw_fd());
        Ok(Relay {
            input: order.stdin.then_some(near.input),
            out: near.out.map(Some),
            seen: [0; 2],
            control: near.control,
            heard: Vec::new(),
            signals,
            typed: VecDeque::new(),
            pid: None,
            end: None,
            tty: order.tty.is_some(),
        })
    }

    /// Passes everything on until the process has ended and all that it printed is here.
    fn run(mut self, detached: bool, ready: &mut Option<std::fs::File>) -> Result<i32, Failure> {
        let mut raw = None;
        let mut told = false;
        // Its own end of input must not be waited for when the process has ended.
        let mut typing = self.input.is_some();
        loop {
            if let Some(pid) = self.pid.filter(|_| !told) {
                told = true;
                if self.tty && typing {
                    raw = Raw::start();
                }
                if let Some(mut ready) = ready.take() {
                    let _ = writeln!(ready, "ok");
                }
                if detached {
                    println!("{pid}");
                    return Ok(0);
                }
            }
            if let Some(end) = self.end
                && (0..2).all(|i| self.out[i].is_none() || self.seen[i] >= end.printed[i])
            {
                drop(raw);
                return Ok(end.code);
            }
            let want = |on: bool, fd: RawFd| if on { fd } else { -1 };
            let far = |f: &Option<std::fs::File>| f.as_ref().map_or(-1, AsRawFd::as_raw_fd);
            let row = |fd, events| libc::pollfd {
                fd,
                events,
                revents: 0,
            };
            let mut rows = [
                row(self.signals.as_raw_fd(), libc::POLLIN),
                row(self.control.as_raw_fd(), libc::POLLIN),
                // What it prints first is shown once the terminal is ready for it.
                row(want(told, far(&self.out[0])), libc::POLLIN),
                row(want(told, far(&self.out[1])), libc::POLLIN),
                row(want(typing && told && self.typed.is_empty(), 0), libc::POLLIN),
                row(want(!self.typed.is_empty(), far(&self.input)), libc::POLLOUT),
            ];
            // SAFETY: the array is valid for the call.
            let n = unsafe { libc::poll(rows.as_mut_ptr(), rows.len() as libc::nfds_t, -1) };
            if n < 0 {
                let e = Error::last_os_error();
                if e.kind() == ErrorKind::Interrupted {
                    continue;
                }
                return Err(failed(format!("poll: {e}")));
            }
            let ready = rows.map(|r| r.revents != 0);
            if ready[0] {
                self.pass_signals();
            }
            for i in 0..2 {
                if ready[2 + i] {
                    self.print(i)?;
                }
            }
            if ready[1] {
                self.hear()?;
            }
            if ready[4] {
                typing = self.read_typed();
            }
            if ready[5] {
                self.type_in();
            }
            if !typing && self.typed.is_empty() {
                self.input = None;
            }
        }
    }

    fn tell(&mut self, line: &str) {
        // The image that does not listen has ended, which is heard.
        let _ = self.control.write_all(line.as_bytes());
    }

    fn pass_signals(&mut self) {
        // SAFETY: all zeroes are one.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: room for one.
        while unsafe { libc::read(self.signals.as_raw_fd(), (&raw mut info).cast(), size) } == size as isize {
            if info.ssi_signo as i32 != libc::SIGWINCH {
                self.tell(&format!("signal {}\n", info.ssi_signo));
            } else if let Some([rows, cols, x, y]) = size_of_terminal().filter(|_| self.tty) {
                self.tell(&format!("size {rows} {cols} {x} {y}\n"));
            }
        }
    }

    fn hear(&mut self) -> Result<(), Failure> {
        let mut buf = [0; 4096];
        match self.control.read(&mut buf) {
            Ok(0) if self.end.is_none() => {
                return Err(failed("the image has gone, and the process with it"));
            }
            Ok(n) => self.heard.extend_from_slice(&buf[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(e) => return Err(failed(format!("the image has gone: {e}"))),
        }
        while let Some(end) = self.heard.iter().position(|b| *b == b'\n') {
            let line = String::from_utf8_lossy(&self.heard[..end]).into_owned();
            self.heard.drain(..=end);
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let numbers: Vec<u64> = rest.split(' ').map_while(|w| w.parse().ok()).collect();
            match (verb, &numbers[..]) {
                ("started", [pid]) => self.pid = Some(*pid as u32),
                ("exit", [code, out, errors]) => {
                    self.end = Some(End {
                        code: *code as i32,
                        printed: [*out, *errors],
                    });
                }
                ("signal", [n, out, errors]) => {
                    self.end = Some(End {
                        code: 128 + *n as i32,
                        printed: [*out, *errors],
                    });
                }
                ("failed", [code, ..]) => {
                    let why = rest.split_once(' ').map_or("", |(_, why)| why);
                    return Err((*code as i32, why.to_string()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What it prints goes to our stream of the same number.
    fn print(&mut self, i: usize) -> Result<(), Failure> {
        let mut buf = vec![0; 64 << 10];
        let Some(from) = &mut self.out[i] else {
            return Ok(());
        };
        match from.read(&mut buf) {
            Ok(0) => self.out[i] = None,
            Ok(n) => {
                self.seen[i] += n as u64;
                let done = match i {
                    0 => write_all(1, &buf[..n]),
                    _ => write_all(2, &buf[..n]),
                };
                if done.is_err() {
                    // Whoever read it has gone: as in any pipe, the process hears of it when it writes.
                    self.out[i] = None;
                }
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(format!("reading what it prints: {e}"))),
        }
        Ok(())
    }

    /// False when there is no more.
    fn read_typed(&mut self) -> bool {
        let mut buf = [0u8; 64 << 10];
        // SAFETY: the buffer is valid for writes.
        match unsafe { libc::read(0, buf.as_mut_ptr().cast(), buf.len()) } {
            n if n > 0 => {
                self.typed.extend(&buf[..n as usize]);
                true
            }
            0 => false,
            _ => matches!(
                Error::last_os_error().kind(),
                ErrorKind::Interrupted | ErrorKind::WouldBlock
            ),
        }
    }

    fn type_in(&mut self) {
        let Some(to) = &mut self.input else {
            self.typed.clear();
            return;
        };
        let bytes = self.typed.make_contiguous();
        match to.write(bytes) {
            Ok(n) => drop(self.typed.drain(..n)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // Nobody reads it.
            Err(_) => {
                self.typed.clear();
                self.input = None;
            }
        }
    }
}

/// Whole, also to a stream that does not block.
fn write_all(fd: RawFd, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the slice is valid for reads.
        match unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } {
            n if n >= 0 => bytes = &bytes[n as usize..],
            _ => {
                let e = Error::last_os_error();
                match e.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => {
                        let mut p = libc::pollfd {
                            fd,
                            events: libc::POLLOUT,
                            revents: 0,
                        };
                        // SAFETY: one valid pollfd.
                        unsafe { libc::poll(&raw mut p, 1, -1) };
                    }
                    _ => return Err(e),
                }
            }
        }
    }
    Ok(())
}
