//! The host that an image comes to: a process of the agent, which becomes the image's supervisor. A thread of it goes on
//! with the link once the image's first process is there.

use super::register::{self, Proposal, Verdict};
use super::{Kind, MoveId, PATIENCE, VERSION, receive, send};
use crate::cli::state;
use crate::door::files::Files;
use crate::link::conn::Link;
use crate::protect::arbiter::channel;
use crate::protect::links::Unproved;
use crate::protect::memory::{Checked, Memory};
use crate::protect::standby::Options;
use crate::run::{self, Failure};
use crate::snap::Object;
use crate::snap::pages::Pages;
use crate::snap::restore::{self, Loaded, Source};
use crate::snap::state::HostState;
use crate::talk::{self, Role};
use ftl_core::log::Wire;
use ftl_core::log::wire::{put_list, take_list};
use serde_json::Value;
use std::ffi::OsString;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Descriptor of the first process' channel to the thread that has the link.
pub const ENV_MOVED: &str = "FTVM_INTERNAL_MOVED";

/// How long a source may be silent: it looks, and may wait for its image to enter.
const SOURCE_PATIENCE: Duration = Duration::from_secs(30);

/// Serves a link of a migration. Returns an exit code; the image has run here and ended, or never will.
pub fn serve(stream: TcpStream, id: MoveId, unproved: Unproved, options: &Options) -> i32 {
    let peer = stream
        .peer_addr()
        .map_or_else(|_| "an unknown host".to_string(), |a| a.to_string());
    talk::set_role(Role::Target);
    match Target::start(stream, id, unproved, options, &peer) {
        Ok(None) => 0,
        Ok(Some(t)) => t.run(),
        Err(why) => {
            tracing::warn!("a migration from {peer}: {why}");
            1
        }
    }
}

/// A place in a migration, for tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Phase {
    Offer,
    Pages,
    Prepare,
    Check,
    Final,
    Stands,
    Commit,
    Committed,
    Runs,
}

/// What befalls a target in a test (hidden option of `agent`): `die`, `cut` or `stall`, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    what: What,
    at: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum What {
    /// kill -9 of the process.
    Die,
    /// The link is cut, the process goes on.
    Cut,
    /// It does nothing for longer than the source waits.
    Stall,
    /// A byte of what has come is another.
    Alter,
}

impl Fault {
    /// Reads `die@commit`.
    pub fn parse(text: &str) -> Result<Fault, String> {
        use clap::ValueEnum;
        let (what, at) = text.split_once('@').ok_or("FAULT@PHASE")?;
        Ok(Fault {
            what: What::from_str(what, false)?,
            at: Phase::from_str(at, false)?,
        })
    }

    fn happens(self, link: &Link, memory: &Memory) {
        // A test waits for it.
        tracing::warn!("what was asked for befalls it: {:?} at {:?}", self.what, self.at);
        // SAFETY: plain calls on our own process and socket.
        unsafe {
            match self.what {
                What::Die => drop(libc::raise(libc::SIGKILL)),
                What::Cut => drop(libc::shutdown(link.fd(), libc::SHUT_RDWR)),
                What::Alter => memory.alter(),
                What::Stall => std::thread::sleep(4 * super::source::MAKE_PATIENCE),
            }
        }
    }
}

struct Target {
    fault: Option<Fault>,
    id: MoveId,
    link: Link,
    memory: Memory,
    /// Pages that were compared with the image's.
    checked: Checked,
    image: u64,
    interface: String,
    name: String,
    place: state::Run,
    /// Where it had gone from here before.
    back: Option<String>,
    /// The image is here.
    ran: Arc<Mutex<bool>>,
}

/// Why an image that is offered does not fit this build and CPU.
fn unfit(offer: &Value) -> Option<String> {
    let build = crate::store::open::digits(&crate::door::record::build_id());
    if offer["version"] != VERSION || offer["build"] != build {
        return Some(format!(
            "the source is another build of ftvm ({}); both hosts need the same",
            offer["ftvm"].as_str().unwrap_or("unknown")
        ));
    }
    let (len, xcr0) = crate::vcpu::xsave_facts();
    if offer["xsave"] != len || offer["xcr0"] != xcr0 {
        return Some("this CPU has other vector state than the source's".to_string());
    }
    None
}

impl Target {
    fn start(
        stream: TcpStream,
        id: MoveId,
        unproved: Unproved,
        options: &Options,
        peer: &str,
    ) -> Result<Option<Target>, String> {
        stream.set_read_timeout(None).map_err(|e| e.to_string())?;
        let mut link = crate::link::over(stream, &options.security).map_err(|e| e.to_string())?;
        link.handshake(PATIENCE).map_err(|e| e.to_string())?;
        link.set_max_message(super::MAX_MESSAGE);
        let (kind, bytes) = receive(&mut link, PATIENCE, &mut || false)?;
        drop(unproved);
        let offer: Value = match kind {
            Kind::Ask => {
                let answer = register::registrar().and_then(|who| {
                    let kind = match register::refuse(id)? {
                        Verdict::Committed => Kind::Committed,
                        Verdict::Refused => Kind::Refused,
                    };
                    Ok((kind, who.to_le_bytes().to_vec()))
                });
                let (kind, what) = answer.unwrap_or_else(|e| (Kind::No, e.to_string().into_bytes()));
                let sent = send(&mut link, kind, &what).and_then(|()| link.close(PATIENCE));
                return sent.map(|()| None).map_err(|e| e.to_string());
            }
            Kind::Offer => serde_json::from_slice(&bytes).map_err(|_| "an offer that is not JSON")?,
            _ => return Err("it does not begin with an offer".to_string()),
        };
        let name = offer["name"].as_str().unwrap_or_default().to_string();
        let words = offer["command"].as_array().into_iter().flatten();
        let command: Vec<OsString> = words.filter_map(|w| w.as_str()).map(OsString::from).collect();
        let image = offer["image"]
            .as_str()
            .and_then(|text| u64::from_str_radix(text, 16).ok());
        let image = image.ok_or_else(|| "an offer without an identity".to_string());
        let fits = match unfit(&offer) {
            Some(why) => Err(why),
            None if offer["net"] == true && options.interface.is_empty() => {
                Err("the image has an address of its own: start the agent with --net IF".to_string())
            }
            None => image.and_then(|image| {
                state::adopt_moved(&name, image, &command).map(|(run, back)| (image, run, back))
            }),
        };
        let (image, place, back) = match fits {
            Ok(found) => found,
            Err(why) => {
                let _ = send(&mut link, Kind::No, why.as_bytes());
                let _ = link.close(PATIENCE);
                return Err(why);
            }
        };
        talk::set_run(&name);
        tracing::info!(image = format!("{image:016x}"), "{name} comes from {peer}");
        let t = Target {
            fault: options.fault,
            id,
            link,
            memory: Memory::new()?,
            checked: Checked::default(),
            image,
            interface: options.interface.clone(),
            name,
            place,
            back,
            ran: Arc::default(),
        };
        Ok(Some(t))
    }

    /// Ends a migration that did not come to its end.
    fn give_up(&mut self, why: &str) -> i32 {
        tracing::warn!("{}: does not come: {why}", self.name);
        let _ = send(&mut self.link, Kind::No, why.as_bytes());
        let _ = self.link.close(PATIENCE);
        state::never_came(&self.place, self.back.as_deref());
        1
    }

    fn passes(&mut self, phase: Phase) {
        // Once: of some phases there are many messages.
        if let Some(f) = self.fault.take_if(|f| f.at == phase) {
            f.happens(&self.link, &self.memory);
        }
    }

    /// Takes messages until one comes that is not of a round.
    fn rounds(&mut self) -> Result<(Kind, Vec<u8>), String> {
        loop {
            let (kind, bytes) = receive(&mut self.link, SOURCE_PATIENCE, &mut || false)?;
            match kind {
                Kind::Pages => {
                    self.passes(Phase::Pages);
                    self.memory.apply(&bytes)?;
                }
                Kind::Round => send(&mut self.link, Kind::Round, &[]).map_err(|e| e.to_string())?,
                Kind::Check => {
                    self.passes(Phase::Check);
                    self.memory.compare(&bytes, &mut self.checked)?;
                }
                Kind::Checked => {
                    self.memory.nothing_else(&std::mem::take(&mut self.checked))?;
                    send(&mut self.link, Kind::Checked, &[]).map_err(|e| e.to_string())?;
                }
                _ => return Ok((kind, bytes)),
            }
        }
    }

    fn run(mut self) -> i32 {
        self.passes(Phase::Offer);
        let prepared = crate::control::map()
            .map_err(|e| format!("the control page: {e}"))
            .and_then(|_| register::registrar().map_err(|e| format!("the migration's register: {e}")))
            .and_then(|who| send(&mut self.link, Kind::Ok, &who.to_le_bytes()).map_err(|e| e.to_string()))
            .and_then(|()| self.rounds())
            .and_then(|(kind, state)| match kind {
                Kind::Prepare => Ok(state),
                _ => Err(format!("{kind:?} before PREPARE")),
            })
            .and_then(|state| Ok((state, channel().map_err(|e| e.to_string())?)));
        let (state, (ours, theirs)) = match prepared {
            Ok(p) => p,
            Err(why) => return self.give_up(&why),
        };
        self.passes(Phase::Prepare);
        // It does not end with its agent from here on: the source decides.
        // SAFETY: plain calls; no other thread looks at the environment.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, 0);
            std::env::set_var(ENV_MOVED, format!("{},{}", theirs.as_raw_fd(), self.link.fd()));
        }
        let (ran, place, back) = (self.ran.clone(), self.place.clone(), self.back.clone());
        let thread: Arc<Mutex<Option<JoinHandle<()>>>> = Arc::default();
        let kept = thread.clone();
        let code = crate::supervisor::run(crate::supervisor::Image::Moved(Box::new(move || {
            // The first process has its own copy.
            drop(theirs);
            let t = std::thread::spawn(move || self.rest(&state, &ours));
            if let Ok(mut k) = kept.lock() {
                *k = Some(t);
            }
        })));
        let t = thread.lock().ok().and_then(|mut t| t.take());
        if let Some(t) = t {
            // It says why; and only it knows whether an image that ended at once had run, or was given back.
            let _ = t.join();
        }
        match ran.lock().is_ok_and(|r| *r) {
            true => state::adopted_ended(&place, code, true),
            false => state::never_came(&place, back.as_deref()),
        }
        code
    }

    /// In a thread: from PREPARE on.
    fn rest(mut self, state: &[u8], process: &OwnedFd) {
        if let Err(why) = self.finish(state, process) {
            self.give_up(&why);
            // The first process waits for nothing any more; a supervisor without it ends.
            std::process::exit(1);
        }
    }

    fn finish(&mut self, state: &[u8], process: &OwnedFd) -> Result<(), String> {
        let text = |e: crate::link::LinkError| e.to_string();
        let commit = Proposal::new(self.id, Verdict::Committed)
            .map_err(|e| format!("the migration's register: {e}"))?;
        let paths = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
        let arenas = (paths(&self.memory.arena), paths(&self.memory.store));
        let mut m = Vec::new();
        (arenas.0.into_bytes(), arenas.1.into_bytes()).put(&mut m);
        (self.image, self.interface.clone().into_bytes()).put(&mut m);
        say(process, &m)?;
        // As a file: a state may be longer than a packet.
        say_long(process, state)?;
        heard(process)?;
        send(&mut self.link, Kind::Ready, &[]).map_err(text)?;
        let (kind, state) = self.rounds()?;
        if kind != Kind::Final {
            return Err(format!("{kind:?} before FINAL"));
        }
        self.passes(Phase::Final);
        self.memory.forget_spaces(&state);
        let spaces: Vec<(u32, Vec<u8>)> = self
            .memory
            .spaces
            .iter()
            .map(|(n, fd)| (*n, paths(fd).into_bytes()))
            .collect();
        let mut m = Vec::new();
        put_list(&spaces, &mut m);
        say_long(process, &m)?;
        say_long(process, &state)?;
        heard(process)?;
        self.passes(Phase::Stands);
        send(&mut self.link, Kind::Stands, &[]).map_err(text)?;
        match receive(&mut self.link, SOURCE_PATIENCE, &mut || false)?.0 {
            Kind::Commit => {}
            kind => return Err(format!("{kind:?} before COMMIT")),
        }
        self.passes(Phase::Commit);
        match commit.decide() {
            Ok(Verdict::Committed) => {}
            Ok(Verdict::Refused) => {
                return Err("COMMIT came after the source had taken the image back".to_string());
            }
            Err(e) => return Err(format!("the migration's register: {e}")),
        }
        self.passes(Phase::Committed);
        if let Ok(mut ran) = self.ran.lock() {
            *ran = true;
        }
        if let Err(why) = say(process, b"go").and_then(|()| heard(process)) {
            // It has not run, and its process has ended.
            register::give_back(self.id).map_err(|e| format!("{why}; the migration's register: {e}"))?;
            if let Ok(mut ran) = self.ran.lock() {
                *ran = false;
            }
            return Err(why);
        }
        self.passes(Phase::Runs);
        // Whatever becomes of the link now, the image is here.
        let _ = send(&mut self.link, Kind::Runs, &[]);
        let _ = self.link.close(PATIENCE);
        tracing::info!("{}: goes on here", self.name);
        // From here on it is a run as others.
        talk::set_role(Role::Run);
        talk::set_peer("");
        commit.settle();
        Ok(())
    }
}

/// A packet to the other end of the channel.
fn say(to: &OwnedFd, bytes: &[u8]) -> Result<(), String> {
    // SAFETY: the slice is valid for reads.
    match unsafe {
        libc::send(
            to.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
        )
    } {
        n if n == bytes.len() as isize => Ok(()),
        _ => Err(format!(
            "the image's first process: {}",
            std::io::Error::last_os_error()
        )),
    }
}

/// A packet from there; an error if it has ended.
fn hear(from: &OwnedFd) -> Result<Vec<u8>, String> {
    let mut buf = vec![0u8; 64 << 10];
    loop {
        // SAFETY: the buffer is valid for writes.
        let n = unsafe { libc::recv(from.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), 0) };
        match n {
            1.. => {
                buf.truncate(n as usize);
                return Ok(buf);
            }
            -1 if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            _ => return Err("the image's first process has ended".to_string()),
        }
    }
}

/// Waits for the first process to say that it is so far, or why not.
fn heard(from: &OwnedFd) -> Result<(), String> {
    match hear(from)?.as_slice() {
        b"+" => Ok(()),
        why => Err(String::from_utf8_lossy(why).into_owned()),
    }
}

/// Bytes of any length, as the name of a memory file of ours.
fn say_long(to: &OwnedFd, bytes: &[u8]) -> Result<(), String> {
    use std::io::Write;
    let fd = crate::protect::memory::memfd(c"ftvm-move", 0)?;
    crate::protect::memory::file(&fd)
        .write_all(bytes)
        .map_err(|e| format!("memory for a host state: {e}"))?;
    say(
        to,
        format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()).as_bytes(),
    )?;
    // Closed when the other end has read it.
    heard(to)
}

fn hear_long(from: &OwnedFd) -> Result<Vec<u8>, String> {
    let path = String::from_utf8(hear(from)?).map_err(|_| "not a path")?;
    let bytes = std::fs::read(&path).map_err(|e| format!("{path}: {e}"));
    say(from, b"+")?;
    bytes
}

/// By which the image's first process is told when it may run.
pub struct Gate {
    channel: OwnedFd,
    /// Host interface for the image's address, if it has one.
    pub interface: Option<String>,
}

impl Gate {
    /// The image could run: waits until it may. Does not return if that never comes.
    pub fn wait(&self) {
        if say(&self.channel, b"+").is_err() || hear(&self.channel).is_err() {
            run::die(run::EXIT_FAILED);
        }
    }

    /// It runs from here on.
    pub fn runs(&self) {
        let _ = say(&self.channel, b"+");
    }
}

/// Descriptor that is opened by another process' name for it.
fn open(path: &[u8]) -> Result<OwnedFd, String> {
    let path = String::from_utf8_lossy(path).into_owned();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path);
    file.map(OwnedFd::from).map_err(|e| format!("{path}: {e}"))
}

/// In the first process of an image that comes from another host, if this is one. Returns only when that failed.
pub fn inside() -> Option<Failure> {
    let text = std::env::var(ENV_MOVED).ok()?;
    let mut fds = text.split(',').filter_map(|n| n.parse::<i32>().ok());
    let (channel, link) = (fds.next()?, fds.next()?);
    // SAFETY: left to us; the link is our supervisor's, and must not be held open by us.
    let channel = unsafe {
        libc::close(link);
        OwnedFd::from_raw_fd(channel)
    };
    let failed = |why: String| (run::EXIT_FAILED, why);
    let failure = match channel.try_clone() {
        Ok(copy) => begin(copy).unwrap_or_else(failed),
        Err(e) => failed(e.to_string()),
    };
    let _ = say(&channel, failure.1.as_bytes());
    Some(failure)
}

fn begin(channel: OwnedFd) -> Result<Failure, String> {
    let first = hear(&channel)?;
    let src = &mut first.as_slice();
    let said: Option<(Vec<u8>, Vec<u8>, u64, Vec<u8>)> = (|| {
        let (arena, pages) = Wire::take(src)?;
        let (image, interface) = Wire::take(src)?;
        Some((arena, pages, image, interface))
    })();
    let (arena, pages, image, interface) = said.ok_or("the supervisor's message is damaged")?;
    let arenas = run::Arenas::Given {
        arena: open(&arena)?.into_raw_fd(),
        pages: open(&pages)?.into_raw_fd(),
    };
    let gate = Gate {
        channel: channel.try_clone().map_err(|e| e.to_string())?,
        interface: String::from_utf8(interface).ok().filter(|s| !s.is_empty()),
    };
    let moved = Moved {
        channel,
        image,
        files: None,
    };
    Ok(restore::boot_in(
        arenas,
        || Box::new(moved),
        restore::Then::Moved(gate),
    ))
}

/// An image that is still on its way when its first process starts.
struct Moved {
    channel: OwnedFd,
    image: u64,
    /// Hashes of mapped files.
    files: Option<Files>,
}

impl Source for Moved {
    /// The arenas are mapped and fill: looks at what the image will need, then waits for its last state.
    fn load(
        &mut self,
        _: &mut dyn FnMut(Object, u64, &[u8]) -> Result<(), String>,
    ) -> Result<Loaded, String> {
        let state = hear_long(&self.channel)?;
        let state = HostState::decode(&state).ok_or("the image's state is damaged")?;
        let mut files = Files::default();
        for row in state.files.iter().filter(|f| f.bytes.is_none()) {
            // The image's root may have to be unpacked first, and is, before the source stands.
            let path = crate::platform::root::on_host(&row.path)?;
            if let Some(hash) = row.hash
                && files.identity(&path).map(|(_, h)| h) != Some(hash)
            {
                return Err(format!(
                    "file {}, which the image has mapped: missing there, or other contents",
                    String::from_utf8_lossy(&row.path)
                ));
            }
        }
        self.files = Some(files);
        say(&self.channel, b"+")?;
        let spaces = hear_long(&self.channel)?;
        let named: Vec<(u32, Vec<u8>)> =
            take_list(&mut spaces.as_slice()).ok_or("the supervisor's message is damaged")?;
        let mut spaces = Vec::new();
        for (n, path) in named {
            spaces.push((n, Pages::sparse(std::rc::Rc::new(open(&path)?))));
        }
        Ok(Loaded {
            image: self.image,
            state: hear_long(&self.channel)?,
            zero: Vec::new(),
            spaces,
            rest: None,
            root: None,
        })
    }

    fn files(&mut self) -> Files {
        self.files.take().unwrap_or_default()
    }
}
